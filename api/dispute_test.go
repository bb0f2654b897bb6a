package api_test

import (
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff/redisstore/embedded"
)

// A customer says that the recorded handoff did not happen. Everything stops, all who answer
// for it see what is on record, and the shop cannot end it.
func TestADispute(t *testing.T) {
	for name, end := range map[string]struct {
		who  auth.Principal
		path string
		body string
		want string // the status of the dispute
	}{
		"withdrawn":    {customer, "/v1/handoffs/{id}/dispute/withdraw", "", "withdrawn"},
		"not received": {ops, "/v1/dispatches/{id}/dispute/settle", `{"ruling":"not-received","reason":"Two streets away"}`, "not-received"},
		"handed over":  {ops, "/v1/dispatches/{id}/dispute/settle", `{"ruling":"handed-over","reason":"The neighbour signed"}`, "handed-over"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, embedded.New(t))
			h.staff(t)
			id := h.dispatch(t, "P1", nil)
			at := func(path string) string { return strings.ReplaceAll(path, "{id}", id) }
			h.expect(t, customer, "POST", at("/v1/handoffs/{id}/dispute"), `{"reason":"Where is it?"}`, 409, "wrong-status")
			g := h.Parcel(t, "P1")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(g.CurrentCode().Reveal()), 200, "")
			if got := h.expect(t, customer, "GET", at("/v1/handoffs/{id}"), "", 200, ""); got.body["disputable"] != true || got.body["dispute"] != nil {
				t.Errorf("after the handoff: %s", got.text)
			}
			h.expect(t, shop, "GET", at("/v1/dispatches/{id}/dispute"), "", 409, "no-dispute")
			h.expect(t, customer, "POST", at("/v1/handoffs/{id}/dispute"), `{}`, 422, "invalid-request")

			told := h.expect(t, customer, "POST", at("/v1/handoffs/{id}/dispute"), `{"reason":"I was not at home"}`, 200, "")
			dispute, _ := told.body["dispute"].(map[string]any)
			since, by := h.Clock.Now(), h.Clock.Now().Add(48*time.Hour)
			if told.body["status"] != "held" || told.body["disputable"] != false || dispute["status"] != "open" ||
				dispute["since"] != since.UTC().Format(time.RFC3339) || dispute["decide_by"] != by.UTC().Format(time.RFC3339) {
				t.Errorf("the customer is told %s", told.text)
			}
			h.expect(t, customer, "POST", at("/v1/handoffs/{id}/dispute"), `{"reason":"Again"}`, 409, "already-disputed")
			h.expect(t, shop, "POST", at("/v1/dispatches/{id}/lift"), `{"reason":"We trust the courier"}`, 409, "dispute-open")
			h.expect(t, ops, "POST", at("/v1/dispatches/{id}/lift"), `{"reason":"We trust the courier"}`, 409, "dispute-open")

			for _, who := range []auth.Principal{shop, ops} {
				shown := h.expect(t, who, "GET", at("/v1/dispatches/{id}/dispute"), "", 200, "")
				evidence, _ := shown.body["evidence"].(map[string]any)
				if shown.body["reason"] != "I was not at home" || evidence["courier_id"] != "cou_7" || evidence["code_issue"] != 1.0 ||
					evidence["handed_over_at"] != since.UTC().Format(time.RFC3339) || evidence["distance_m"] == nil {
					t.Errorf("%v is shown %s", who.Scopes, shown.text)
				}
			}
			events := h.expect(t, ops, "GET", at("/v1/events?grant={id}&type=disputed"), "", 200, "")
			for _, part := range []string{`"courier_id":"cou_7"`, `"by":"customer"`, `"handed_over_at":"`, `"issue":1`, `"shop_id":"demo"`} {
				if !strings.Contains(events.text, part) {
					t.Errorf("the event lacks %s: %s", part, events.text)
				}
			}
			if strings.Contains(events.text, "not at home") {
				t.Errorf("the event tells the customer's words: %s", events.text)
			}

			h.Clock.Advance(time.Hour)
			h.expect(t, ops, "POST", at("/v1/dispatches/{id}/dispute/settle"), `{"ruling":"withdrawn","reason":"x"}`, 422, "invalid-request")
			h.expect(t, ops, "POST", at("/v1/dispatches/{id}/dispute/settle"), `{"ruling":"handed-over"}`, 422, "invalid-request")
			h.expect(t, end.who, "POST", at(end.path), end.body, 200, "")
			after := h.expect(t, customer, "GET", at("/v1/handoffs/{id}"), "", 200, "")
			dispute, _ = after.body["dispute"].(map[string]any)
			if after.body["status"] != "released" || dispute["status"] != end.want || dispute["ended_at"] != h.Clock.Now().UTC().Format(time.RFC3339) || after.body["disputable"] != false {
				t.Errorf("after it: %s", after.text)
			}
			h.expect(t, end.who, "POST", at(end.path), end.body, 409, "wrong-status")
			if end.who.Has(auth.Ops) {
				shown := h.expect(t, shop, "GET", at("/v1/dispatches/{id}/dispute"), "", 200, "")
				if why, _ := shown.body["decision"].(string); !strings.Contains(end.body, why) || why == "" {
					t.Errorf("the shop is shown %s", shown.text)
				}
			}
		})
	}
}

// A session that a shop's link began is as good as the shop itself: it may stop everything,
// and may not say in the customer's name that all is well.
func TestADisputeIsNotWithdrawnByAShopsLink(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	b.staff(t)
	at := "/v1/handoffs/" + b.dispatch(t, "P1", nil) + "/dispute"
	g := b.Parcel(t, "P1")
	b.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(g.CurrentCode().Reveal()), 200, "")
	linked, csrf := b.byLink(t, customer)
	for _, c := range []struct {
		path, body string
		status     int
		code       string
	}{
		{at, `{"reason":"Where is it?"}`, 200, ""},
		{at + "/withdraw", "", 403, "person-required"},
	} {
		a := b.as(t, linked, "POST", c.path, c.body, "X-Latchkey-CSRF", csrf, "Sec-Fetch-Site", "same-origin")
		if a.status != c.status || a.code() != c.code {
			t.Errorf("%s = %d %s, want %d %s", c.path, a.status, a.text, c.status, c.code)
		}
	}
	b.expect(t, customer, "POST", at+"/withdraw", "", 200, "")
}
