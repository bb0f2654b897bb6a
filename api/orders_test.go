package api_test

import (
	"fmt"
	"testing"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// An order leads to its parcels of a day, for its shop and for operations alone.
func TestOrders(t *testing.T) {
	h := newHouse(t, nil)
	for _, parcel := range []string{"P2", "P1"} {
		h.dispatch(t, parcel, map[string]any{"order_id": "302-7"})
	}
	h.dispatch(t, "P3", map[string]any{"order_id": "302-8"})
	moved := h.dispatch(t, "P4", map[string]any{"order_id": "302-7"})
	h.expect(t, warehouse, "POST", "/v1/dispatches/"+moved+"/reschedule", `{"delivery_date":"2026-11-25"}`, 200, "")
	rival := auth.Principal{Subject: "clerk", Shop: "other", Scopes: []auth.Scope{auth.Shop}}
	for _, test := range []struct {
		who   auth.Principal
		query string
		want  string
	}{
		{ops, "302-7", "P1 P2 P4 "},
		{shop, "302-7", "P1 P2 P4 "},
		{shop, "302-7?delivery_date=2026-11-25", "P4 "},
		{shop, "302-8", "P3 "},
		{shop, "302-9", ""},
		{rival, "302-7", ""},
	} {
		got := ""
		for _, v := range h.expect(t, test.who, "GET", "/v1/shops/demo/orders/"+test.query, "", 200, "").body["handoffs"].([]any) {
			got += fmt.Sprint(v.(map[string]any)["parcel_id"], " ")
		}
		if got != test.want {
			t.Errorf("%s %s: %q, want %q", test.who.Subject, test.query, got, test.want)
		}
	}
	h.expect(t, shop, "GET", "/v1/shops/demo/orders/302-7?delivery_date=soon", "", 422, "invalid-request")
	h.expect(t, rival, "GET", "/v1/shops/other/orders/302-7", "", 200, "")

	closed := h.dispatch(t, "P5", map[string]any{"order_id": "302-10"})
	h.expect(t, warehouse, "POST", "/v1/dispatches/"+closed+"/recall", `{"reason":"x"}`, 200, "")
	if _, _, err := h.Service.Erase(t.Context(), handoff.Actor{Role: handoff.RoleOps}, handoff.CustomerRef{Shop: "demo", ID: "cus_81"}); err != nil {
		t.Fatal(err)
	}
	if a := h.expect(t, ops, "GET", "/v1/shops/demo/orders/302-10", "", 200, ""); len(a.body["handoffs"].([]any)) != 0 {
		t.Errorf("an erased order is found: %s", a.text)
	}
}
