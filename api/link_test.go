package api_test

import (
	"net/http"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/redisstore/embedded"
)

// What a session may do that a shop's link began: every operation that a customer may call is
// listed, and all others are refused. Whatever it does is marked in its events with who made
// the link; what its customer does who signed in is not.
func TestWhatAShopsLinkMayDo(t *testing.T) {
	rows := map[string]struct {
		answer string
		event  handoff.EventType // what it leaves; 0: nothing
	}{
		"GET /v1/customers/{customer_id}/handoffs":      {"200", 0},
		"GET /v1/handoffs/{grant_id}":                   {"200", 0},
		"POST /v1/handoffs/{grant_id}/resend":           {"200", handoff.EventCodeResent},
		"POST /v1/handoffs/{grant_id}/reissue":          {"200", handoff.EventCodeReissued},
		"POST /v1/handoffs/{grant_id}/consent":          {"200", handoff.EventConsented},
		"POST /v1/handoffs/{grant_id}/dispute":          {"200", handoff.EventDisputed},
		"POST /v1/handoffs/{grant_id}/dispute/withdraw": {"403 person-required", 0},
	}
	for _, o := range operations() {
		_, customers := o.may[auth.Customer]
		r, listed := rows[o.call]
		if customers != listed {
			t.Errorf("%s: in this table %v, for customers %v", o.call, listed, customers)
		}
		if len(o.may) == 0 || o.stream {
			continue
		}
		for _, linked := range []bool{true, false} {
			b := newBrowsers(t, embedded.New(t))
			e := newEstateIn(t, b.house)
			if o.arrange != nil {
				o.arrange(t, e)
			}
			enter := b.enter
			if linked {
				enter = b.byLink
			}
			cookie, csrf := enter(t, owners[auth.Customer])
			before := len(e.Events(t))
			method, path, _ := strings.Cut(e.fill(o.call), " ")
			a := b.as(t, cookie, method, path, e.fill(o.body), "X-Latchkey-CSRF", csrf, "Sec-Fetch-Site", "same-origin")
			events := e.Events(t)[before:]
			switch {
			case !listed:
				if a.short() != "403 insufficient-scope" || len(events) > 0 {
					t.Errorf("%s, linked %v: %s, %d events", o.call, linked, a.short(), len(events))
				}
				continue
			case linked && a.short() != r.answer:
				t.Errorf("%s by a link: %s, want %s: %s", o.call, a.short(), r.answer, a.text)
			case !linked && a.status != http.StatusOK:
				t.Errorf("%s signed in: %s", o.call, a.text)
			}
			if linked && (r.event == 0 && len(events) > 0 || r.event != 0 && (len(events) != 1 || events[0].Type != r.event)) {
				t.Errorf("%s by a link leaves %v", o.call, events)
			}
			for _, ev := range events {
				want := ""
				if linked {
					want = clerkName
				}
				if ev.By != "customer" || ev.Who == "" || ev.Link != want {
					t.Errorf("%s, linked %v: %s by %q, link %q", o.call, linked, ev.Type, ev.By, ev.Link)
				}
			}
		}
	}
}
