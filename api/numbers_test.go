package api_test

import (
	"fmt"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/notify/numbers"
)

// The duty officer's figures: each thing in its hour, of the day as a zone has it.
func TestNumbers(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	counter := numbers.New(h.Store, h.Clock)
	read := func(query string) *answer {
		t.Helper()
		if err := counter.Work(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h.expect(t, ops, "GET", "/v1/ops/numbers"+query, "", 200, "")
	}
	if a := read(""); a.body["day"] != "2026-11-24" || len(a.body["hours"].([]any)) != 12 || a.at("total", "dispatched") != 0.0 {
		t.Errorf("nothing happened: %s", a.text)
	}
	first := h.dispatch(t, "P1", nil) // it is 11:00 of UTC
	h.dispatch(t, "P2", nil)
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", 0)), 403, "code-mismatch")
	h.Clock.Advance(time.Hour)
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, first)), 200, "")
	counter.Sent("code-issued")
	counter.MailAge(42 * time.Second)
	counter.Decided(handoff.Release, handoff.CodeMismatch, []handoff.Event{{Carrier: "swift"}})
	counter.Decided(handoff.Release, handoff.OutsideGeofence, nil)
	counter.Decided(handoff.Release, handoff.OutsideGeofence, nil)

	for _, test := range []struct {
		query string
		begun int // hours
	}{{"", 13}, {"?time_zone=Europe/Berlin", 14}, {"?time_zone=Asia/Kolkata", 19}} {
		a := read(test.query)
		hours := a.body["hours"].([]any)
		at := func(i int) string {
			h := hours[i].(map[string]any)
			return fmt.Sprint(h["dispatched"], h["wrong_codes"], h["handed_over"], h["mailed"], h["mail_age_s"])
		}
		if len(hours) != test.begun {
			t.Errorf("%s: %d hours have begun, want %d", test.query, len(hours), test.begun)
			continue
		}
		if got := at(len(hours)-2) + ", " + at(len(hours)-1); got != "2 1 0 0 0, 0 0 1 1 42" {
			t.Errorf("%s: %s", test.query, got)
		}
		if got := fmt.Sprint(a.at("total", "dispatched"), a.at("total", "handed_over"), a.at("total", "mail_age_s")); got != "2 1 42" {
			t.Errorf("%s: in total %s", test.query, got)
		}
	}
	fails := read("").body["fails"].([]any)
	if got := fmt.Sprint(fails...); got != "map[count:2 where:address why:outside-geofence] map[carrier_id:swift count:1 where:address why:code-mismatch]" {
		t.Errorf("fails: %s", got)
	}
	if a := read("?day=2026-11-25"); len(a.body["hours"].([]any)) != 0 {
		t.Errorf("a day that has not begun: %s", a.text)
	}
	if a := read("?day=2026-11-23"); len(a.body["hours"].([]any)) != 24 || a.at("total", "dispatched") != 0.0 {
		t.Errorf("the day before: %s", a.text)
	}
	for _, bad := range []string{"?day=yesterday", "?time_zone=Berlin", "?day=2011-12-30&time_zone=Pacific/Apia"} {
		h.expect(t, ops, "GET", "/v1/ops/numbers"+bad, "", 422, "invalid-request")
	}
}
