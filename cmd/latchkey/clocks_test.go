package main

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/api/auth"
)

// off is a clock that is ahead of the wall's by so many nanoseconds.
type off struct{ by atomic.Int64 }

func ahead(by time.Duration) *off {
	o := new(off)
	o.by.Store(int64(by))
	return o
}

func (o *off) Now() time.Time { return time.Now().Add(time.Duration(o.by.Load())) }

// dispatched sends n parcels of today, in turn to each of the instances.
func dispatched(t *testing.T, s *production, n int, urls ...string) {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	warehouse := s.token(t, auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}})
	for i := range n {
		client{t, urls[i%len(urls)]}.must("POST", "/v1/dispatches", warehouse, fmt.Sprintf(`{"parcel_id":"PARCEL-%04d","order_id":"302-1","carrier_id":"swift","route_id":"R1","delivery_date":%q,"value":{"amount":"1299.00","currency":"EUR"},
			"customer":{"id":"cus_%d","name":"N","email":"cus_%d@home.example"},"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","location":%s}}`,
			i, time.Now().In(berlin).AddDate(0, 0, 1).Format(time.DateOnly), i, i, gatePlace))
	}
}

// mailed is how often each customer was mailed.
func (s *production) mailed() map[string]int {
	times := map[string]int{}
	for _, m := range s.sink.Messages() {
		times[m.To[0]]++
	}
	return times
}

// Two instances whose clocks are two minutes apart share the mails of a slow relay, and each
// parcel is mailed once. Leases that each instance judged by its own clock mailed more than half
// of them twice.
func TestInstancesWhoseClocksDifferMailOnce(t *testing.T) {
	const n = 200
	s := newService(t)
	s.sink.Slow(50 * time.Millisecond)
	args := append(s.args, "--insecure", "clock-apart")
	one, two := startBy(t, ahead(0), args...), startBy(t, ahead(2*time.Minute), args...)
	dispatched(t, s, n, one.url(t), two.url(t))
	await(t, "all mails", func() bool { return len(s.mailed()) == n })
	backlog := regexp.MustCompile(`latchkey_outbox_events\{group="mail"\} (\S+)`)
	await(t, "an end of the backlog", func() bool {
		found := backlog.FindStringSubmatch(got(t, one.url(t)+"/metrics"))
		return found != nil && found[1] == "0"
	})
	for to, times := range s.mailed() {
		if times != 1 {
			t.Errorf("%s was mailed %d times", to, times)
		}
	}
}

// A clock that differs from Redis's is no reason to start, unless it is allowed. While it runs it
// is an alarm, that is told once, and no reason to stop.
func TestServeNoticesAClockThatDiffers(t *testing.T) {
	s := newService(t)
	for _, by := range []time.Duration{3 * time.Second, -time.Hour} {
		c := ahead(by)
		p := startBy(t, c, s.args...)
		await(t, "a refusal", func() bool { return strings.Contains(p.err.String(), "latchkey: ") })
		if code := p.stop(); code != 1 || !strings.Contains(p.err.String(), map[bool]string{true: "ahead of", false: "behind"}[by > 0]+" Redis's") || !strings.Contains(p.err.String(), "--insecure=clock-apart") {
			t.Errorf("%v ahead: %d %s", by, code, p.err.String())
		}
	}
	c := ahead(time.Second)
	p := startBy(t, c, s.args...)
	url := p.url(t)
	shown := func() float64 {
		found := regexp.MustCompile(`(?m)^latchkey_clock_ahead_seconds (\S+)$`).FindStringSubmatch(got(t, url+"/metrics"))
		if found == nil {
			return math.NaN()
		}
		v, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := shown(); v < 0.5 || v > 1 {
		t.Errorf("a second ahead: shown as %v", v)
	}
	c.by.Store(int64(-10 * time.Second))
	await(t, "an alarm", func() bool {
		return strings.Contains(got(t, url+"/metrics"), `latchkey_redis_fault{fault="clock"} 1`)
	})
	ops := client{t, url}
	operator := s.token(t, auth.Principal{Subject: "ops", Scopes: []auth.Scope{auth.Ops}})
	signals := func() (n int) {
		for _, e := range ops.must("GET", "/v1/events?type=signal", operator, "")["events"].([]any) {
			if e.(map[string]any)["data"].(map[string]any)["reason"] == "clocks-apart" {
				n++
			}
		}
		return n
	}
	await(t, "a signal for the duty officer", func() bool { return signals() == 1 })
	if v := shown(); v < -11 || v > -9 {
		t.Errorf("ten seconds behind: shown as %v", v)
	}
	if status, _ := (client{t, url}).do("GET", "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
	c.by.Store(0)
	await(t, "the end of it", func() bool { return strings.Contains(p.err.String(), "the clocks agree again") })
	if n := strings.Count(p.err.String(), `"level":"ERROR","msg":"the clocks differ"`); n != 1 || signals() != 1 {
		t.Errorf("told %d times, %d signals", n, signals())
	}
}

// One of two processes is killed with mails in hand: the other sends them within 15 s, and none
// is lost. Twice comes only what the dead one was sending at that moment: one a connection at most.
func TestAKilledInstancesMailsAreTakenOver(t *testing.T) {
	const n, connections = 120, 4
	s := newService(t)
	s.sink.Slow(200 * time.Millisecond)
	s.args = append(s.args, "--smtp-connections", strconv.Itoa(connections))
	two := spawn(t, nil, s.args...) // by itself at first: it has the mails in hand
	dispatched(t, s, n, announced(t, two.err.String))
	await(t, "some mails", func() bool { return len(s.mailed()) >= n/8 })
	one := spawn(t, nil, s.args...)
	announced(t, one.err.String)
	if len(s.mailed()) >= n-connections {
		t.Fatal("all mails were sent before the other process had begun")
	}
	two.kill()
	killed := time.Now()
	await(t, "all mails", func() bool { return len(s.mailed()) == n })
	if took := time.Since(killed); took > 15*time.Second+n/connections*200*time.Millisecond {
		t.Errorf("the last mail came %v after the kill", took)
	}
	twice := 0
	for to, times := range s.mailed() {
		if times > 2 {
			t.Errorf("%s was mailed %d times", to, times)
		}
		twice += times - 1
	}
	if twice > connections {
		t.Errorf("%d were mailed twice", twice)
	}
	one.said("an instance ended with events in hand")
}
