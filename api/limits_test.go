package api_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff/handofftest"
)

// purse is a limiter that lets so much be spent, and keeps what it was asked.
type purse struct {
	mu    sync.Mutex
	spent map[string]int
	asked chan string
	err   error
}

func newPurse() *purse { return &purse{spent: map[string]int{}, asked: make(chan string, 1000)} }

func (p *purse) Limit(_ context.Context, key string, most int, period time.Duration) (wait time.Duration, err error) {
	defer func() {
		if wait > 0 {
			key += "!" // it stops
		}
		p.asked <- key
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	if p.spent[key]++; p.spent[key] > most {
		return period / time.Duration(most), nil
	}
	return 0, nil
}

// guarded is a house behind a proxy at the test connection's address, 0.0.0.0.
func guarded(t *testing.T, p *purse) *house {
	return newHouse(t, nil, func(c *api.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("10.0.0.0/8")}
		c.Limits = api.Limits{Limiter: p, Names: handofftest.Namer{}, Unauthenticated: 3, Refused: 4}
	})
}

func (h *house) from(t *testing.T, address string, req *http.Request) *answer {
	t.Helper()
	req.Header.Set("X-Forwarded-For", address)
	return h.send(t, req)
}

func (h *house) forged(t *testing.T) *http.Request {
	req := h.request(t, courier, "GET", "/v1/courier/stops", "")
	req.Header.Set("Authorization", "Bearer x.y.z")
	return req
}

// stopped asks until the limiter's word, which comes behind an answer, is known.
func (p *purse) stopped(t *testing.T, ask func() *answer) *answer {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-p.asked {
		if a := ask(); a.status == 429 {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody is stopped")
		}
	}
}

// Whose credentials are guessed gets no more answers to guesses at that address; all whose
// credentials are or were good are heard as ever, and other addresses.
func TestFailedAuthenticationIsLimitedByAddress(t *testing.T) {
	p := newPurse()
	h := guarded(t, p)
	h.staff(t)
	for n := range 4 {
		if a := h.from(t, "203.0.113.7", h.forged(t)); a.status != 401 {
			t.Fatalf("failure %d: %d", n+1, a.status)
		}
		if key := <-p.asked; strings.Contains(key, "203") || !strings.HasPrefix(key, "unauthenticated:") {
			t.Errorf("the limiter is told %s", key)
		}
	}
	a := p.stopped(t, func() *answer { return h.from(t, "203.0.113.7", h.forged(t)) })
	if a.code() != "too-many-requests" || a.header.Get("Retry-After") != "20" {
		t.Errorf("after the limit: %d %s, Retry-After %s", a.status, a.text, a.header.Get("Retry-After"))
	}
	if a := h.from(t, "203.0.113.7", h.request(t, courier, "GET", "/v1/courier/stops", "")); a.status != 200 {
		t.Errorf("an honest caller who was never here before: %d", a.status)
	}
	none := h.request(t, courier, "GET", "/v1/courier/stops", "")
	none.Header.Del("Authorization")
	if a := h.from(t, "203.0.113.7", none); a.status != 401 {
		t.Errorf("without credentials: %d", a.status)
	}
	if a := h.from(t, "203.0.113.8", h.forged(t)); a.status != 401 {
		t.Errorf("from elsewhere: %d", a.status)
	}
	<-p.asked
	if n := len(p.asked); n != 0 {
		t.Errorf("the limiter was asked %d times more: what is refused costs nothing", n)
	}
	h.Clock.Advance(21 * time.Second)
	if a := h.from(t, "203.0.113.7", h.forged(t)); a.status != 401 {
		t.Errorf("after the wait: %d", a.status)
	}
	<-p.asked
	if strings.Contains(h.log.String(), "203.0.113") {
		t.Error("an address is in the log")
	}
}

// One address, twenty-five honest couriers and one who looks for parcels: that one is stopped,
// from wherever he calls, and nobody else. A good request is never counted.
func TestRefusalsAreLimitedByCallerFirst(t *testing.T) {
	p := newPurse()
	h := guarded(t, p)
	h.staff(t)
	verify := func(who auth.Principal, parcel string) *http.Request {
		return h.request(t, who, "POST", "/v1/parcels/"+parcel+"/verify", atDoor(""))
	}
	for n := range 5 {
		address := fmt.Sprintf("2001:db8:1:2::%d", n) // one network
		if a := h.from(t, address, verify(courier, "nowhere")); a.code() != "parcel-unknown" {
			t.Fatalf("refusal %d: %d %s", n+1, a.status, a.text)
		}
	}
	p.stopped(t, func() *answer { return h.from(t, "2001:db8:1:2::99", verify(courier, "nowhere")) })
	for _, address := range []string{"2001:db8:1:2::99", "2001:db8:1:3::1"} {
		if a := h.from(t, address, verify(courier, "nowhere")); a.code() != "too-many-requests" || a.header.Get("Retry-After") == "" {
			t.Errorf("after the limit, from %s: %d %s", address, a.status, a.text)
		}
	}
	if a := h.from(t, "2001:db8:1:2::99", h.request(t, courier, "GET", "/v1/courier/stops", "")); a.status != 200 {
		t.Errorf("a route where nothing can be looked for: %d %s", a.status, a.text)
	}
	for n := range 25 {
		id := fmt.Sprintf("cou_%d", 100+n)
		h.dispatch(t, fmt.Sprintf("P%d", n), map[string]any{"value.amount": "1"})
		h.expect(t, carrier, "PUT", "/v1/couriers/swift/"+id, `{"name":"Courier","cleared_until":"2030-01-01"}`, 200, "")
		h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-042/2026-11-24", `{"courier_id":"`+id+`"}`, 200, "")
		honest := auth.Principal{Subject: id, Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}
		if a := h.from(t, "2001:db8:1:2::99", verify(honest, fmt.Sprintf("P%d", n))); a.status != 200 {
			t.Errorf("honest courier %d of the same carrier and address: %d %s", n, a.status, a.text)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, n := range p.spent {
		if n > 10 {
			t.Errorf("%s was asked %d times: a good request is counted, or one that was refused unheard", key, n)
		}
	}
}

// Callers beyond number do not help: ten callers' worth of refusals stop their tenant at the
// address, and thirty callers' the address. Other tenants go on until then.
func TestManyCallersAreStoppedTogether(t *testing.T) {
	p := newPurse()
	h := guarded(t, p) // four refusals a caller
	made := 0
	probe := func(carrier string) *answer {
		made++
		who := auth.Principal{Subject: fmt.Sprintf("made_%d", made), Carrier: carrier, Scopes: []auth.Scope{auth.Courier}}
		a := h.from(t, "203.0.113.7", h.request(t, who, "POST", "/v1/parcels/nowhere/verify", atDoor("")))
		if a.status == 404 { // by one courier for each refusal, so that all three counts are told
			for range 3 {
				if strings.HasSuffix(<-p.asked, "!") {
					break
				}
			}
		}
		return a
	}
	until := func(carrier string) (refusals int) {
		for range 200 {
			if probe(carrier).status == 429 {
				return refusals
			}
			refusals++
		}
		t.Fatalf("%s is never stopped", carrier)
		return 0
	}
	if n := until("swift"); n < 40 || n > 42 {
		t.Errorf("the first carrier was stopped after %d refusals, want about 40", n)
	}
	if a := probe("rival"); a.status != 404 {
		t.Errorf("another carrier at that address: %d %s", a.status, a.text)
	}
	if n := until("rival"); n < 38 || n > 42 {
		t.Errorf("the second carrier was stopped after %d more, want about 40", n)
	}
	until("third")
	if n := until("fourth"); n > 2 {
		t.Errorf("a fourth carrier was stopped after %d refusals, 120 of others having been told at that address", n)
	}
	if a := h.from(t, "203.0.113.8", h.request(t, auth.Principal{Subject: "x", Carrier: "fourth", Scopes: []auth.Scope{auth.Courier}}, "POST", "/v1/parcels/nowhere/verify", atDoor(""))); a.status != 404 {
		t.Errorf("from another address: %d %s", a.status, a.text)
	}
}

// A limiter that is away stops nobody.
func TestLimiterAway(t *testing.T) {
	p := newPurse()
	p.err = errors.New("away")
	h := guarded(t, p)
	for range 10 {
		if a := h.from(t, "203.0.113.7", h.forged(t)); a.status != 401 {
			t.Fatalf("%d", a.status)
		}
		<-p.asked
	}
}

// Whose word is believed about where a request came from.
func TestCallerBehindProxies(t *testing.T) {
	for name, c := range map[string]struct {
		forwarded []string
		same      string // the address that it must be counted with
	}{
		"none":                  {nil, "0.0.0.0"},
		"one":                   {[]string{"198.51.100.1"}, "198.51.100.1"},
		"what a caller wrote":   {[]string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		"two proxies":           {[]string{"203.0.113.9, 198.51.100.1, 10.1.2.3"}, "198.51.100.1"},
		"in two lines":          {[]string{"203.0.113.9", "198.51.100.1, 10.1.2.3"}, "198.51.100.1"},
		"with a port":           {[]string{"198.51.100.1:4711"}, "198.51.100.1"},
		"mapped":                {[]string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"in brackets":           {[]string{"[2001:db8::1]:443"}, "2001:db8::2"},
		"no address":            {[]string{"198.51.100.1, unknown"}, "0.0.0.0"},
		"no address at a proxy": {[]string{"unknown, 10.1.2.3"}, "10.1.2.3"},
		"proxies all the way":   {[]string{"10.9.9.9, 10.1.2.3"}, "10.9.9.9"},
		"a very long way":       {[]string{"198.51.100.1" + strings.Repeat(", 10.1.2.3", 40)}, "10.1.2.3"},
	} {
		p := newPurse()
		h := guarded(t, p)
		req := h.forged(t)
		for _, line := range c.forwarded {
			req.Header.Add("X-Forwarded-For", line)
		}
		h.send(t, req)
		got := <-p.asked
		req = h.forged(t)
		if c.same != "0.0.0.0" {
			req.Header.Set("X-Forwarded-For", c.same)
		}
		h.send(t, req)
		if want := <-p.asked; got != want {
			t.Errorf("%s: not counted with %s", name, c.same)
		}
	}
	p := newPurse() // no proxy is trusted: nobody's word counts
	h := newHouse(t, nil, func(c *api.Config) { c.Limits = api.Limits{Limiter: p, Names: handofftest.Namer{}} })
	h.from(t, "198.51.100.1", h.forged(t))
	h.from(t, "198.51.100.2", h.forged(t))
	if a, b := <-p.asked, <-p.asked; a != b {
		t.Error("the word of one who is no proxy is believed")
	}
}

// Connections beyond the limits are closed as they come; who leaves makes room.
func TestTooManyConnections(t *testing.T) {
	h := newHouse(t, nil)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := h.serve(t, api.LimitListener(inner, 5, 3, nil))
	dial := func(from string) (net.Conn, bool) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, alive(c)
	}
	var first net.Conn
	for n := range 4 {
		c, ok := dial("127.0.0.1")
		if ok != (n < 3) {
			t.Errorf("connection %d of one address: %v", n+1, ok)
		}
		if n == 0 {
			first = c
		}
	}
	for n := range 3 {
		if _, ok := dial("127.0.0.2"); ok != (n < 2) {
			t.Errorf("connection %d in all: %v", n+4, ok)
		}
	}
	first.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, ok := dial("127.0.0.2"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("who leaves makes no room")
		}
	}
}

// alive asks a connection for an answer.
func alive(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	b := make([]byte, 12)
	n, _ := c.Read(b)
	return string(b[:n]) == "HTTP/1.1 200"
}

// Proxies may have as many connections as there may be.
func TestProxiesShareNoLimit(t *testing.T) {
	h := newHouse(t, nil)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := h.serve(t, api.LimitListener(inner, 4, 1, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}))
	for n := range 4 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !alive(c) {
			t.Errorf("connection %d of a proxy", n+1)
		}
	}
}
