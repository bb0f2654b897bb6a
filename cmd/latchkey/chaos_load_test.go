//go:build chaos

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff/clock"
)

// A courier mistypes one code of so many, and so many in all: with more, couriers (20 wrong codes a
// day) and their carrier (1.5 of 100 releases) may enter no more codes.
const (
	mistypeEvery = 80
	mistypes     = 10
)

// deliver is a courier's day: a parcel is dispatched, looked up, sometimes mistyped, verified, and
// verified again, each until it is answered.
func (c *checker) deliver(ctx context.Context, courier int) {
	token := c.token(c.t, auth.Principal{Subject: fmt.Sprintf("cou_%d", courier), Carrier: "swift", Scopes: []auth.Scope{auth.Courier}})
	for n := 0; ctx.Err() == nil; n++ {
		l := &life{parcel: fmt.Sprintf("C%dN%d", courier, n)}
		l.customer = "cus_" + l.parcel
		c.mu.Lock()
		c.lives = append(c.lives, l)
		c.mu.Unlock()
		c.live(ctx, l, courier, token, n%mistypeEvery == 7 && n < mistypeEvery*mistypes)
		_ = clock.Sleep(ctx, c.pace)
	}
}

func (c *checker) live(ctx context.Context, l *life, courier int, token string, mistype bool) {
	if !c.dispatch(ctx, l, fmt.Sprintf("R%d", courier)) {
		return
	}
	if !c.look(ctx, l) {
		return
	}
	if l.code == "" && l.day != c.day(0) { // what is over shows no code
		l.over = true
		return
	}
	verify := func(attempt, code string) (int, map[string]any) {
		began := time.Now()
		status, answer := c.until(ctx, "POST", "/v1/parcels/"+l.parcel+"/verify", token, fmt.Sprintf(`{"code":%q,%s,"attempt_id":%q}`, code, gateHere, attempt))
		if status != 0 {
			c.mu.Lock()
			c.verified = append(c.verified, timed{began, time.Since(began)})
			c.mu.Unlock()
		}
		return status, answer
	}
	if mistype {
		status, answer := verify(l.parcel+"-wrong", wrongFor(l.code))
		if !c.expected(ctx, l, "a wrong code", status, answer, http.StatusForbidden) {
			return
		}
	}
	var first map[string]any
	for range 2 {
		status, answer := verify(l.parcel+"-right", l.code)
		if !c.expected(ctx, l, "the right code", status, answer, http.StatusOK) {
			return
		}
		l.released = true
		if first == nil {
			first = answer
		} else if a, b := fmt.Sprint(first["released_at"]), fmt.Sprint(answer["released_at"]); a != b {
			l.releases++
		}
	}
}

// dispatch sends the parcel on its way for today. It reports whether it was acknowledged.
func (c *checker) dispatch(ctx context.Context, l *life, route string) bool {
	l.day = c.day(0)
	status, answer := c.until(ctx, "POST", "/v1/dispatches", c.warehouse, c.dispatchOf(l, route))
	if !c.expected(ctx, l, "a dispatch", status, answer, http.StatusCreated, http.StatusOK) {
		return false
	}
	l.dispatched = time.Now()
	l.grant, _ = answer["grant_id"].(string)
	return true
}

// dispatchOf is a parcel's dispatch, on one line.
func (c *checker) dispatchOf(l *life, route string) string {
	return fmt.Sprintf(
		`{"parcel_id":%q,"order_id":"302-1","carrier_id":"swift","route_id":%q,"delivery_date":%q,"value":{"amount":"1299.00","currency":"EUR"},"customer":{"id":%q,"name":"Customer","email":"%s@home.example"},"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":%q,"location":%s}}`,
		l.parcel, route, l.day, l.customer, l.customer, c.zone, gatePlace)
}

// look looks the parcel's code up, as its customer.
func (c *checker) look(ctx context.Context, l *life) bool {
	own := c.token(c.t, auth.Principal{Subject: l.customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
	status, answer := c.until(ctx, "GET", "/v1/handoffs/"+l.grant, own, "")
	l.code, _ = answer["code"].(string)
	return c.expected(ctx, l, "a look", status, answer, http.StatusOK)
}

// leave dispatches parcels that are not delivered, so that their codes are mailed whatever else
// happens, and looks their codes up.
func (c *checker) leave(kind string, n int) (left []*life) {
	for k := range n {
		l := &life{parcel: fmt.Sprintf("%s%d", kind, k)}
		l.customer = "cus_" + l.parcel
		c.mu.Lock()
		c.lives = append(c.lives, l)
		c.mu.Unlock()
		if c.dispatch(c.t.Context(), l, "R0") && c.look(c.t.Context(), l) {
			left = append(left, l)
		}
	}
	return left
}

// wrongFor is another code.
func wrongFor(code string) string {
	last := (code[len(code)-1]-'0'+5)%10 + '0'
	return code[:len(code)-1] + string(rune(last))
}

// expected notes an answer that no fault explains. It reports whether there is an answer to go on
// with.
func (c *checker) expected(ctx context.Context, l *life, what string, status int, answer map[string]any, want ...int) bool {
	if status == 0 { // the load is over, and it was not answered
		return false
	}
	if answer["code"] == "window-over" && l.day != c.day(0) {
		l.over = true
		return false
	}
	if !slices.Contains(want, status) {
		c.mu.Lock()
		l.odd = fmt.Sprintf("%s: %d %v", what, status, answer["code"])
		c.mu.Unlock()
		return false
	}
	return true
}

// until asks an instance, and then another, as a client does that wants an answer. The status is 0
// where the load was over before there was one.
func (c *checker) until(ctx context.Context, method, path, token, body string) (int, map[string]any) {
	for ctx.Err() == nil {
		i := c.instances[c.turn.Add(1)%uint64(len(c.instances))]
		status, answer := c.ask(ctx, method, i.at()+path, token, body)
		switch {
		case status == 0, status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests, status == http.StatusBadGateway:
			time.Sleep(20 * time.Millisecond)
			continue
		}
		c.mu.Lock()
		c.answers = append(c.answers, time.Now())
		c.mu.Unlock()
		return status, answer
	}
	return 0, nil
}

func (c *checker) ask(ctx context.Context, method, url, token, body string) (int, map[string]any) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	var answer map[string]any
	if err != nil || json.Unmarshal(content, &answer) != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// measured is the sum of a metric over all instances, of the series that have these labels.
func (c *checker) measured(name string, labels ...string) (sum float64) {
	c.t.Helper()
	for _, i := range c.instances {
		for line := range strings.Lines(got(c.t, i.at()+"/metrics")) {
			series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
			of, has, _ := strings.Cut(series, "{")
			if !ok || of != name || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(has, l) }) {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// watchMails notes when each mail came.
func (c *checker) watchMails() func() []time.Time {
	var mu sync.Mutex
	var came []time.Time
	go func() {
		for c.t.Context().Err() == nil {
			n, now := c.sink.Taken(), time.Now()
			mu.Lock()
			for len(came) < n {
				came = append(came, now)
			}
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(came)
	}
}
