package api_test

import (
	"strings"
	"testing"
)

// What people write comes in many forms and is one dispatch; what shows nothing is refused.
func TestWhatPeopleWrite(t *testing.T) {
	h := newHouse(t, nil)
	grant := h.dispatch(t, "P1", map[string]any{"customer.name": "Zoë", "destination.city": "Köln", "destination.lines": []string{strings.Repeat("Straße ", 22)[:150], "Haus 2"}})
	same := map[string]any{
		"customer.name": "Zoe\u0308\u200e", "destination.city": "\u2066Ko\u0308ln\u2069",
		"destination.lines": []string{strings.Repeat("Straße ", 22)[:150], "", "Haus 2\u202c", ""},
	}
	if a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P1", same), 200, ""); a.body["grant_id"] != grant {
		t.Error(a.text)
	}
	// An empty optional field is absent.
	bare := map[string]any{"order_id": nil, "purpose": nil, "customer.name": nil, "customer.locale": nil, "destination.postal_code": nil, "destination.unit": nil, "destination.building_id": nil}
	empty := map[string]any{}
	for path := range bare {
		empty[path] = ""
	}
	grant = h.dispatch(t, "P2", bare)
	if a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", empty), 200, ""); a.body["grant_id"] != grant {
		t.Error(a.text)
	}
	for path, value := range map[string]any{
		"customer.name": "\u200b\u200e", "destination.unit": "\u3164", "destination.city": "\u2066\u2069", "destination.lines": []string{"", ""},
		"destination.postal_code": "1\u2028", "order_id": "..", "customer.id": ".", "route_id": "..", "customer.email": "a\u2028@shop.example",
	} {
		a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P3", map[string]any{path: value}), 422, "invalid-request")
		if !strings.Contains(a.text, `"body.`+path) {
			t.Errorf("%s: %s", path, a.text)
		}
	}
}
