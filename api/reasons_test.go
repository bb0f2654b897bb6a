package api_test

import (
	"fmt"
	"testing"
	"time"

	"latchkey/handoff/handofftest"
)

// Every reason that can be reached over HTTP is: with its status, its proofs and its
// headers. What cannot yet be reached is held by TestEveryReasonHasItsProblem.
func TestRefusals(t *testing.T) {
	later := func(h *house) { h.Clock.Set(time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC)) }
	rival := courier
	rival.Carrier = "rival"
	uncleared := courier
	uncleared.Subject = "cou_8"
	elsewhere := `{"code":"000000","location":{"lat":48.1,"lon":11.5,"accuracy_m":5}}`

	for name, test := range map[string]func(t *testing.T, h *house, grant string){
		"parcel-unknown": func(t *testing.T, h *house, _ string) {
			unknown := h.expect(t, courier, "POST", "/v1/parcels/P0/verify", atDoor("000000"), 404, "parcel-unknown")
			foreign := h.expect(t, rival, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 404, "parcel-unknown")
			if unknown.text != foreign.text {
				t.Errorf("a foreign parcel is told from an unknown one:\n%s\n%s", foreign.text, unknown.text)
			}
			h.expect(t, courier, "POST", "/v1/parcels/P0/abort", `{"reason":"x"}`, 404, "parcel-unknown")
			h.expect(t, courier, "POST", "/v1/parcels/P0/attempted", `{"reason":"x"}`, 404, "parcel-unknown")
		},
		"courier-not-cleared": func(t *testing.T, h *house, _ string) {
			a := h.expect(t, uncleared, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 403, "courier-not-cleared")
			if a.at("proofs", "courier") != "failed" || a.at("proofs", "code") != "not-checked" {
				t.Errorf("proofs: %s", a.text)
			}
		},
		"suspended": func(t *testing.T, h *house, grant string) {
			h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", `{"suspended":true}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 403, "courier-not-cleared")
			h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", `{"suspended":false}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
		},
		"budget-exhausted": func(t *testing.T, h *house, _ string) {
			for n := range 20 {
				parcel := fmt.Sprintf("B%d", n/4)
				if n%4 == 0 {
					h.dispatch(t, parcel, map[string]any{"customer.id": "cus_" + parcel})
				}
				h.expect(t, courier, "POST", "/v1/parcels/"+parcel+"/verify", atDoor(h.wrong(t, parcel, n)), 403, "code-mismatch")
			}
			a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 429, "budget-exhausted")
			if a.header.Get("Retry-After") != "" {
				t.Error("Retry-After, though a person must clear it")
			}
			h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", `{"clear_budget":true,"reason":"x"}`, 403, "insufficient-scope")
			h.expect(t, ops, "PUT", "/v1/couriers/swift/cou_7", `{"clear_budget":true,"reason":"x"}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", 7)), 403, "code-mismatch")
		},
		"not-your-route": func(t *testing.T, h *house, _ string) {
			h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-042/2026-11-24", `{"courier_id":"cou_8"}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 403, "not-your-route")
		},
		"recalled": func(t *testing.T, h *house, grant string) {
			h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"Cancelled"}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 409, "recalled")
			h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"Cancelled"}`, 409, "wrong-status")
			h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 409, "recalled")
		},
		"on-hold": func(t *testing.T, h *house, grant string) {
			h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/hold", `{"reason":"Disputed"}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 409, "on-hold")
			if seen := h.do(t, customer, "GET", "/v1/handoffs/"+grant, ""); seen.body["code"] != nil || seen.body["code_state"] != "void" {
				t.Errorf("on hold: %s", seen.text)
			}
			h.expect(t, ops, "POST", "/v1/dispatches/"+grant+"/lift", `{"reason":"Settled"}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
		},
		"outside-geofence": func(t *testing.T, h *house, _ string) {
			a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", elsewhere, 403, "outside-geofence")
			if a.at("proofs", "place") != "failed" || a.at("proofs", "route") != "ok" {
				t.Errorf("proofs: %s", a.text)
			}
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", `{"code":"000000"}`, 403, "outside-geofence")
		},
		"code-locked": func(t *testing.T, h *house, grant string) {
			for n := range 5 {
				a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", n)), 403, "code-mismatch")
				if a.body["attempts_left"] != float64(4-n) {
					t.Errorf("attempts_left = %v, want %d", a.body["attempts_left"], 4-n)
				}
			}
			code := h.Parcel(t, "P1")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(code.CurrentCode().Reveal()), 423, "code-locked")
			if seen := h.do(t, customer, "GET", "/v1/handoffs/"+grant, ""); seen.body["code"] != nil || seen.body["code_state"] != "locked" || seen.body["attempts_left"] != 0.0 {
				t.Errorf("locked: %s", seen.text)
			}
			h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/resend", "", 423, "code-locked")
		},
		"code-required": func(t *testing.T, h *house, _ string) {
			a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(""), 403, "code-required")
			if a.at("proofs", "code") != "missing" {
				t.Errorf("proofs: %s", a.text)
			}
		},
		"reissue-limit": func(t *testing.T, h *house, grant string) {
			old := h.codeOf(t, grant)
			for left := 2; left >= 0; left-- {
				a := h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 200, "")
				if a.body["reissues_left"] != float64(left) || a.body["code"] == old {
					t.Errorf("re-issued: %s", a.text)
				}
			}
			h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 409, "reissue-limit")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(old), 409, "code-superseded")
		},
		"resend-limit": func(t *testing.T, h *house, grant string) {
			resend := "/v1/handoffs/" + grant + "/resend"
			h.expect(t, customer, "POST", resend, "", 200, "")
			h.Clock.Advance(20 * time.Second)
			if a := h.expect(t, shop, "POST", resend, "", 429, "resend-too-soon"); a.header.Get("Retry-After") != "40" {
				t.Errorf("Retry-After %q, want 40", a.header.Get("Retry-After"))
			}
			for range 4 {
				h.Clock.Advance(time.Minute)
				h.expect(t, customer, "POST", resend, "", 200, "")
			}
			if a := h.expect(t, customer, "POST", resend, "", 429, "resend-limit"); a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		},
		"no-code": func(t *testing.T, h *house, _ string) {
			cheap := h.dispatch(t, "P2", map[string]any{"value.amount": "1"})
			h.expect(t, customer, "POST", "/v1/handoffs/"+cheap+"/resend", "", 409, "no-code")
		},
		"grant-unknown": func(t *testing.T, h *house, grant string) {
			other, someone := shop, customer
			other.Shop, someone.Subject = "other", "cus_82"
			for _, path := range []string{"/v1/handoffs/" + grant, "/v1/handoffs/000000000000000000000000-1", "/v1/handoffs/none"} {
				h.expect(t, other, "GET", path, "", 404, "grant-unknown")
				h.expect(t, someone, "GET", path, "", 404, "grant-unknown")
			}
			h.expect(t, other, "GET", "/v1/dispatches/"+grant, "", 404, "grant-unknown")
			h.expect(t, other, "POST", "/v1/dispatches/"+grant+"/hold", `{"reason":"x"}`, 404, "grant-unknown")
		},
		"wrong-status": func(t *testing.T, h *house, grant string) {
			h.expect(t, courier, "POST", "/v1/parcels/P1/abort", `{"reason":"x"}`, 409, "wrong-status")
			h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/lift", `{"reason":"x"}`, 409, "wrong-status")
		},
		"abort": func(t *testing.T, h *house, grant string) {
			abort := "/v1/parcels/P1/abort"
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
			h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_8", `{"name":"Courier 8","cleared_until":"2030-01-01T00:00:00Z"}`, 200, "")
			h.expect(t, uncleared, "POST", abort, `{"reason":"x"}`, 403, "not-your-handoff")
			h.Clock.Advance(10*time.Minute + time.Second)
			h.expect(t, courier, "POST", abort, `{"reason":"x"}`, 410, "abort-too-late")
			h.Clock.Advance(-time.Minute)
			h.expect(t, courier, "POST", abort, `{"reason":"x"}`, 200, "")
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
			h.expect(t, courier, "POST", abort, `{"reason":"x"}`, 409, "already-aborted")
		},
		"dispatch-conflict": func(t *testing.T, h *house, _ string) {
			h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P1", map[string]any{"customer.name": "Sample Customer 9"}), 409, "dispatch-conflict")
			other := warehouse
			other.Shop = handofftest.Other
			h.expect(t, other, "POST", "/v1/dispatches", sample("P1", nil), 422, "parcel-not-allowed")
			handofftest.PassOn(h.Policy)
			h.expect(t, other, "POST", "/v1/dispatches", sample("P1", nil), 409, "dispatch-conflict")
		},
		"policy": func(t *testing.T, h *house, _ string) {
			h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", map[string]any{"carrier_id": "slow"}), 422, "carrier-not-enabled")
			h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", map[string]any{"destination.kind": "locker"}), 422, "destination-not-allowed")
			h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", map[string]any{"destination.time_zone": "Europe/Atlantis"}), 422, "time-zone-unknown")
			h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", map[string]any{"destination.time_zone": "Pacific/Apia", "delivery_date": "2011-12-30"}), 422, "delivery-date-unknown")
		},
		"delivery-date-not-later": func(t *testing.T, h *house, grant string) {
			h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/reschedule", `{"delivery_date":"2026-11-24"}`, 422, "delivery-date-not-later")
			later(h)
			h.Clock.Advance(72 * time.Hour)
			h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/reschedule", `{"delivery_date":"2026-11-25"}`, 422, "window-over")
		},
		"attempt-reused": func(t *testing.T, h *house, _ string) {
			wrong := `{"code":"` + h.wrong(t, "P1", 1) + `",` + here + `,"attempt_id":"a1"}`
			first := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", wrong, 403, "code-mismatch")
			second := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", wrong, 403, "code-mismatch")
			if first.text != second.text {
				t.Errorf("the same attempt was told\n%s, then\n%s", first.text, second.text)
			}
			other := `{"code":"` + h.wrong(t, "P1", 2) + `",` + here + `,"attempt_id":"a1"}`
			h.expect(t, courier, "POST", "/v1/parcels/P1/verify", other, 422, "attempt-reused")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.staff(t)
			test(t, h, h.dispatch(t, "P1", nil))
		})
	}
}
