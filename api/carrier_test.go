package api_test

import (
	"strings"
	"testing"
)

// A carrier sees its own couriers and what is on its routes, and nothing of the people that
// its parcels are of and for.
func TestCarrierSeesItsOwn(t *testing.T) {
	h := newHouse(t, nil)
	const route, record = "/v1/routes/swift/BER-042/2026-11-24", "/v1/couriers/swift/cou_7"
	h.expect(t, carrier, "GET", route, "", 404, "route-unknown")
	h.expect(t, carrier, "GET", record, "", 404, "courier-unknown")

	h.dispatch(t, "P1", nil)
	if a := h.expect(t, carrier, "GET", route, "", 200, ""); a.body["courier_id"] != nil || len(a.body["parcels"].([]any)) != 1 {
		t.Errorf("a route that nobody drives: %s", a.text)
	}
	h.staff(t)
	h.dispatch(t, "P2", map[string]any{"purpose": "return_pickup", "value.amount": "1"})
	h.dispatch(t, "P3", map[string]any{"route_id": "BER-043"})
	h.expect(t, courier, "POST", "/v1/parcels/P1/attempted", `{"reason":"x"}`, 200, "")

	a := h.expect(t, carrier, "GET", route, "", 200, "")
	parcels := map[string]map[string]any{}
	for _, p := range a.body["parcels"].([]any) {
		p := p.(map[string]any)
		parcels[p["parcel_id"].(string)] = p
	}
	p1, p2 := parcels["P1"], parcels["P2"]
	if a.body["courier_id"] != "cou_7" || len(parcels) != 2 || p1["attempted"] != 1.0 || p1["code_required"] != true ||
		p1["status"] != "active" || p1["purpose"] != "delivery" || p1["valid_until"] != "2026-11-24T23:00:00Z" ||
		p2["purpose"] != "return_pickup" || p2["code_required"] != false {
		t.Errorf("the route: %s", a.text)
	}
	code := h.Parcel(t, "P1")
	for _, secret := range []string{"Sample Customer", "customer@shop.example", "cus_81", "302-1234567", "Turmstr", "1299", code.CurrentCode().Reveal()} {
		if strings.Contains(a.text, secret) {
			t.Errorf("the carrier is told %q", secret)
		}
	}
	if empty := h.expect(t, carrier, "GET", "/v1/routes/swift/BER-043/2026-11-25", "", 404, "route-unknown"); empty.body["parcels"] != nil {
		t.Error(empty.text)
	}

	h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-044/2026-11-23", `{"courier_id":"cou_7"}`, 200, "")
	c := h.expect(t, ops, "GET", record, "", 200, "")
	want := `"routes":[{"route_id":"BER-044","date":"2026-11-23"},{"route_id":"BER-042","date":"2026-11-24"}]`
	if c.body["name"] != "Courier 7" || c.body["cleared_until"] != "2030-01-02T00:00:00Z" || c.body["suspended"] != false || !strings.Contains(c.text, want) {
		t.Errorf("the courier: %s", c.text)
	}
	h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_8", `{"suspended":true}`, 200, "")
	if c := h.expect(t, carrier, "GET", "/v1/couriers/swift/cou_8", "", 200, ""); c.body["cleared_until"] != nil || c.body["suspended"] != true {
		t.Errorf("a courier who was never cleared: %s", c.text)
	}
}
