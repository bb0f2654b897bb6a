package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
)

const signOut = "/v1/couriers/swift/cou_7/sign-out"

// A sign-out bites at the next request, on every operation that a courier may call, and a courier
// who signs in again is served. The operations are those of TestTenants, which are all.
func TestSignedOutCouriersAreRefusedEverywhere(t *testing.T) {
	walked := 0
	for _, o := range operations() {
		want, may := o.may[auth.Courier]
		if !may {
			continue
		}
		walked++
		t.Run(o.call, func(t *testing.T) {
			t.Parallel()
			e := o.estate(t, nil)
			old := e.token(t, courier)
			e.Clock.Advance(time.Second)
			signedOut := e.expect(t, carrier, "POST", signOut, "", 200, "")
			if at := e.Clock.Now().Format(time.RFC3339); signedOut.body["signed_out_at"] != at {
				t.Errorf("signed out at %v, want %s", signedOut.body["signed_out_at"], at)
			}
			method, path, _ := strings.Cut(e.fill(o.call), " ")
			refused := func(what, token string) {
				t.Helper()
				req := e.request(t, courier, method, path, e.fill(o.body))
				req.Header.Set("Authorization", "Bearer "+token)
				a := e.send(t, req)
				if a.short() != "401 signed-out" || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
					t.Errorf("%s: %s %s: %s", what, a.short(), a.header.Get("WWW-Authenticate"), a.text)
				}
				for _, secret := range secrets {
					if strings.Contains(a.text, `"`+secret+`"`) {
						t.Errorf("%s is told %q", what, secret)
					}
				}
			}
			refused("a token of before", old)
			refused("a token of that second", e.token(t, courier))
			if strings.Contains(o.call, "{parcel_id}") || strings.Contains(o.body, "{parcel_id}") {
				own := e.ids["parcel_id"]
				for _, parcel := range []string{"P0", "OTH1"} { // what does not exist, and another carrier's
					e.ids["parcel_id"] = parcel
					method, path, _ = strings.Cut(e.fill(o.call), " ")
					refused("a token of before, of "+parcel, old)
				}
				e.ids["parcel_id"] = own
			}
			if other := e.ask(t, o, others[auth.Courier]); other.code() == "signed-out" {
				t.Errorf("the courier of that id of another carrier: %s", other.text)
			}
			e.Clock.Advance(time.Second)
			if a := e.ask(t, o, courier); a.short() != want.own {
				t.Errorf("signed in again: %s, want %s: %s", a.short(), want.own, a.text)
			}
		})
	}
	if walked < 7 {
		t.Errorf("only %d operations of couriers", walked)
	}
}

// The sessions of the courier's browsers end as well, and are not believed while they stand.
func TestSignOutEndsSessions(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	b.staff(t)
	b.dispatch(t, "P1", nil)
	phone, _ := b.enter(t, courier)
	other := courier
	other.Subject = "cou_8"
	colleague, _ := b.enter(t, other)
	asked := func(cookie string) string { return b.as(t, cookie, "GET", "/v1/courier/stops", "").short() }
	if got := asked(phone); got != "200" {
		t.Fatalf("before: %s", got)
	}
	b.expect(t, carrier, "POST", signOut, "", 200, "")
	if got := asked(phone); got != "401 unauthorized" {
		t.Errorf("the phone: %s", got)
	}
	late, _ := b.enter(t, courier) // as one that was being added, and so not in the list of those to end
	if got := asked(late); got != "401 signed-out" {
		t.Errorf("a session that was just being added: %s", got)
	}
	if got := asked(colleague); got != "403 courier-not-cleared" {
		t.Errorf("a colleague: %s", got)
	}
	b.Clock.Advance(time.Second)
	again, _ := b.enter(t, courier)
	if got := asked(again); got != "200" {
		t.Errorf("signed in again: %s", got)
	}
	if got := asked(late); got != "401 signed-out" {
		t.Errorf("the session of before, later: %s", got)
	}
}

// Who signs a courier out, and when, is on the log and with the courier's record.
func TestSignOutIsTold(t *testing.T) {
	h := newHouse(t, nil)
	h.expect(t, carrier, "POST", signOut, "", 404, "courier-unknown")
	h.staff(t)
	if got := h.expect(t, carrier, "GET", "/v1/couriers/swift/cou_7", "", 200, "").body["signed_out_at"]; got != nil {
		t.Errorf("signed out at %v before anyone did", got)
	}
	h.expect(t, carrier, "POST", signOut, "", 200, "")
	h.Clock.Advance(time.Minute)
	h.expect(t, ops, "POST", signOut, "", 200, "")
	if got := h.expect(t, ops, "GET", "/v1/couriers/swift/cou_7", "", 200, "").body["signed_out_at"]; got != h.Clock.Now().Format(time.RFC3339) {
		t.Errorf("signed out at %v", got)
	}
	told := slices.DeleteFunc(h.Events(t), func(e handoff.Event) bool { return e.Type != handoff.EventCourierSignedOut })
	who := func(p auth.Principal) string {
		return handoff.Pseudonym(handofftest.Namer{}, "who", "https://issuer.example "+p.Subject)
	}
	if len(told) != 2 {
		t.Fatalf("the log has %+v", told)
	}
	for i, want := range []handoff.Event{{By: "carrier", Who: who(carrier)}, {By: "ops", Who: who(ops)}} {
		want.Type, want.Carrier, want.Courier, want.At = handoff.EventCourierSignedOut, "swift", "cou_7", told[i].At
		if got := told[i]; got.Type != want.Type || got.By != want.By || got.Who != want.Who || got.Carrier != want.Carrier || got.Courier != want.Courier {
			t.Errorf("the log has %+v, want %+v", got, want)
		}
	}
	a := h.expect(t, ops, "GET", "/v1/events?type=courier_signed_out&carrier=swift&courier=cou_7", "", 200, "")
	if list := a.body["events"].([]any); len(list) != 2 || !strings.Contains(a.text, `"by":"carrier"`) {
		t.Errorf("GET /v1/events: %s", a.text)
	}
	h.expect(t, shop, http.MethodPost, signOut, "", 403, "insufficient-scope")
}
