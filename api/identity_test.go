package api_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/storage"
)

// A courier who is suspended, or whose background check ran out, between two requests is
// stopped at the second, on an instance that has never heard of it.
func TestSuspensionBitesAtOnce(t *testing.T) {
	store := embedded.New(t)
	here := newHouse(t, store)
	there := newHouse(t, store)
	here.staff(t)
	grant := here.dispatch(t, "P1", nil)
	code, verify := here.codeOf(t, grant), "/v1/parcels/P1/verify"
	put := func(body string) {
		t.Helper()
		there.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", body, 200, "")
	}
	here.expect(t, courier, "POST", verify, atDoor(here.wrong(t, "P1", 1)), 403, "code-mismatch")
	put(`{"suspended":true}`)
	refused := here.expect(t, courier, "POST", verify, atDoor(code), 403, "courier-not-cleared")
	if got := refused.at("proofs", "code"); got != "not-checked" {
		t.Errorf("the code's proof is %v", got)
	}
	here.expect(t, courier, "POST", "/v1/parcels/P1/attempted", `{"reason":"x"}`, 403, "courier-not-cleared")
	here.expect(t, courier, "GET", "/v1/courier/stops", "", 403, "courier-not-cleared")
	put(`{"suspended":false}`)
	here.expect(t, courier, "GET", "/v1/courier/stops", "", 200, "")

	put(`{"cleared_until":"2026-11-24T11:00:01Z"}`) // it is 11:00:00
	here.expect(t, courier, "POST", verify, atDoor(here.wrong(t, "P1", 2)), 403, "code-mismatch")
	here.Clock.Advance(time.Second)
	here.expect(t, courier, "POST", verify, atDoor(code), 403, "courier-not-cleared")
	put(`{"cleared_until":"2026-11-24"}`) // to the end of the day, in UTC
	here.expect(t, courier, "POST", verify, atDoor(code), 200, "")
}

// The device of the token and the time by its clock come with the events, and no token,
// subject or device does.
func TestEventsTellTheDevice(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	on := courier
	on.Device = "phone-3"
	claimed := `,"claimed_at":"2026-11-24T10:59:58+00:00"}`
	at := func(body string) string { return strings.TrimSuffix(body, "}") + claimed }
	g := h.Parcel(t, "P1")
	h.expect(t, on, "POST", "/v1/doors/gate/unlock", `{"parcel_id":"P1",`+here+claimed, 200, "")
	h.expect(t, on, "POST", "/v1/parcels/P1/attempted", at(`{"reason":"Nobody answered"}`), 200, "")
	h.expect(t, on, "POST", "/v1/parcels/P1/verify", at(atDoor(g.CurrentCode().Reveal())), 200, "")
	h.expect(t, on, "POST", "/v1/parcels/P1/abort", at(`{"reason":"x"}`), 200, "")
	h.expect(t, customer, "POST", "/v1/handoffs/"+g.ID.String()+"/resend", "", 200, "")
	h.expect(t, warehouse, "POST", "/v1/dispatches/"+g.ID.String()+"/recall", `{"reason":"x"}`, 200, "")

	when := handoff.InstantOf(time.Date(2026, 11, 24, 10, 59, 58, 0, time.UTC))
	device := handoff.Pseudonym(handofftest.Namer{}, "device", "swift phone-3")
	who := func(p auth.Principal) string {
		p.Issuer = "https://issuer.example"
		return handoff.Pseudonym(handofftest.Namer{}, "who", p.Identity())
	}
	seen := 0
	for _, e := range h.Events(t) {
		if e.Grant == (handoff.GrantID{}) {
			continue // of the building
		}
		byCourier, want := e.Courier != "", ""
		switch e.Type {
		case handoff.EventDispatched, handoff.EventRecalled:
			want = who(warehouse)
		case handoff.EventCodeResent:
			want = who(customer)
		}
		if e.Who != want || (e.Device == device) != byCourier || (e.Claimed == when) != byCourier {
			t.Errorf("%s: device %q, who %q, claimed %d", e.Type, e.Device, e.Who, e.Claimed)
		}
		seen++
	}
	if seen != 7 {
		t.Errorf("%d events", seen)
	}
	for path, body := range map[string]string{
		"/v1/parcels/P1/verify":    `{"claimed_at":"noon"}`,
		"/v1/parcels/P1/abort":     `{"reason":"x","claimed_at":"1969-12-31T00:00:00Z"}`,
		"/v1/parcels/P1/attempted": `{"reason":"x","claimed_at":"2026-11-24"}`,
		"/v1/doors/gate/unlock":    `{"parcel_id":"P1","claimed_at":" "}`,
	} {
		a := h.expect(t, on, "POST", path, body, 422, "invalid-request")
		if !strings.Contains(a.text, "body.claimed_at") {
			t.Errorf("%s: %s", path, a.text)
		}
	}
}

// bouncer is a verifier that can be told what to say.
type bouncer struct {
	auth.Verifier
	says atomic.Pointer[error]
}

func (b *bouncer) Verify(ctx context.Context, token string) (*auth.Principal, error) {
	if err := b.says.Load(); err != nil {
		return nil, *err
	}
	return b.Verifier.Verify(ctx, token)
}

func (b *bouncer) say(err error) { b.says.Store(&err) }

// Where nobody can tell whether a key is good, its owner is not told to throw it away.
func TestKeysThatCannotBeLookedUp(t *testing.T) {
	b := &bouncer{}
	h := newHouse(t, nil, func(c *api.Config) { b.Verifier, c.Verifier = c.Verifier, b })
	b.say(storage.ErrUnavailable)
	a := h.do(t, courier, "GET", "/v1/courier/stops", "")
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v", a.status, a.header)
	}
	b.say(auth.ErrToken)
	a = h.do(t, courier, "GET", "/v1/courier/stops", "")
	if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// The lines of a bulk body that come after its key was revoked are refused, each with a
// result of its own.
func TestBulkOfARevokedKey(t *testing.T) {
	b := &bouncer{}
	h := newHouse(t, nil, func(c *api.Config) { b.Verifier, c.Verifier = c.Verifier, b })
	addr := h.listen(t)
	body, lines := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+addr+"/v1/dispatches/bulk", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+h.token(t, warehouse))
	line := compact(sample("P1", nil)) + "\n"
	go func() { _, _ = io.WriteString(lines, line) }()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	results := bufio.NewReader(resp.Body)
	next := func() (r result) {
		t.Helper()
		text, err := results.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := next(); r.Status != 201 {
		t.Fatalf("%+v", r)
	}
	b.say(auth.ErrToken)
	for patience := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := io.WriteString(lines, line); err != nil {
			t.Fatal(err)
		}
		r := next()
		if r.Status == 401 && r.Code == "unauthorized" {
			break
		}
		if r.Status != 200 || time.Now().After(patience) {
			t.Fatalf("%+v", r)
		}
	}
	lines.Close()
}

// A key works through the whole of the API, for its own tenant alone, and a door's for its
// own door.
func TestKeysThroughTheAPI(t *testing.T) {
	store := embedded.New(t)
	h := newHouse(t, store, func(c *api.Config) {
		c.Verifier = auth.Either(c.Verifier, auth.NewKeys(store, handofftest.Namer{}, c.Clock.Now))
	})
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	for name, c := range map[string]struct {
		key    identity.APIKey
		path   string
		status int
	}{
		"its shop's":       {identity.APIKey{Scopes: []string{"dispatch"}, Shop: "demo"}, "/v1/dispatches/" + grant, 200},
		"another shop's":   {identity.APIKey{Scopes: []string{"dispatch"}, Shop: "other"}, "/v1/dispatches/" + grant, 404},
		"another scope":    {identity.APIKey{Scopes: []string{"building"}, Building: "b1"}, "/v1/dispatches/" + grant, 403},
		"a shop's code":    {identity.APIKey{Scopes: []string{"shop"}, Shop: "demo"}, "/v1/handoffs/" + grant, 200},
		"an unknown door":  {identity.APIKey{Scopes: []string{"door"}, Door: "gate"}, "/v1/doors/gate/permits", 404},
		"somebody's stops": {identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"}, "/v1/courier/stops", 403},
	} {
		c.key.Created = handoff.InstantOf(handofftest.Noon)
		token, k, err := auth.NewKey(strings.NewReader(strings.Repeat(name, 20)), handofftest.Namer{}, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.AddAPIKey(background, k); err != nil {
			t.Fatal(err)
		}
		req := h.request(t, warehouse, "GET", c.path, "")
		req.Header.Set("Authorization", "Bearer "+token)
		if a := h.send(t, req); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if strings.Contains(h.log.String(), "lk_") {
		t.Error("the log tells a key")
	}
}

// The caller is looked up in the same time as all the rest: a store that hangs then holds up no one for longer.
func TestALookUpIsBounded(t *testing.T) {
	store := embedded.New(t)
	token, _, err := auth.NewKey(rand.Reader, handofftest.Namer{}, identity.APIKey{Scopes: []string{"dispatch"}, Shop: "demo", Created: handoff.InstantOf(handofftest.Noon)})
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, store, func(c *api.Config) {
		c.Verifier = auth.Either(c.Verifier, auth.NewKeys(stuckKeys{store}, handofftest.Namer{}, c.Clock.Now))
		c.RequestTimeout = time.Millisecond
	})
	req := h.request(t, warehouse, "GET", "/v1/dispatches/"+strings.Repeat("0", 33), "")
	req.Header.Set("Authorization", "Bearer "+token)
	if a := h.send(t, req); a.status != 503 || a.code() != "unavailable" {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// stuckKeys answer nothing until the caller's time is up.
type stuckKeys struct{ identity.Keys }

func (stuckKeys) APIKey(ctx context.Context, _ string) (*identity.APIKey, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
}

// The token of a building's door opens no stream of another building's.
func TestADoorOfAnotherBuilding(t *testing.T) {
	h := house5(t)
	for building, want := range map[string]string{"bld_turm5": "", "bld_other": "door-unknown"} {
		p := asDoor("gate")
		p.Building = building
		a := h.do(t, p, "POST", "/v1/doors/gate/reports", `{"reports":["AA"]}`)
		if a.code() != want {
			t.Errorf("%s: %s", building, a.text)
		}
	}
}
