package api_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// What an account page needs besides the code: the day, where the parcel is in it, and the
// customer's own doors.
func TestHandoffTellsTheDay(t *testing.T) {
	h := newHouse(t, nil)
	grant := h.dispatch(t, "P1", nil)
	see := func(want string) {
		t.Helper()
		one := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
		list := h.expect(t, customer, "GET", "/v1/customers/cus_81/handoffs", "", 200, "")
		listed := list.body["handoffs"].([]any)[0].(map[string]any)["journey"]
		if got := fmt.Sprint(one.body["journey"]); got != want || fmt.Sprint(listed) != want {
			t.Errorf("journey %s, listed %v, want %s", got, listed, want)
		}
	}
	if day := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "").body["delivery_date"]; day != "2026-11-24" {
		t.Errorf("day %v", day)
	}
	see("map[left_warehouse_at:2026-11-24T11:00:00Z out_for_delivery:false]")
	h.staff(t)
	see("map[left_warehouse_at:2026-11-24T11:00:00Z out_for_delivery:true]")
	h.Clock.Advance(time.Hour)
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", 0)), 403, "code-mismatch")
	see("map[at_door_at:2026-11-24T12:00:00Z left_warehouse_at:2026-11-24T11:00:00Z out_for_delivery:true]")
	h.Clock.Advance(time.Hour)
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
	see("map[at_door_at:2026-11-24T12:00:00Z handed_over_at:2026-11-24T13:00:00Z left_warehouse_at:2026-11-24T11:00:00Z out_for_delivery:true]")
}

// A code that is locked for good cannot be replaced, and the answer says so ahead.
func TestReissuesLeft(t *testing.T) {
	h := newHouse(t, nil)
	grant := h.dispatch(t, "P1", nil)
	h.staff(t)
	left := func(want float64) {
		t.Helper()
		if got := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "").body["reissues_left"]; got != want {
			t.Errorf("%v left, want %v", got, want)
		}
	}
	left(3)
	for n := range 5 {
		h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", n)), 403, "code-mismatch")
	}
	left(3)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 200, "")
	left(2)
	for n := range 5 {
		h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", n)), 403, "code-mismatch")
	}
	left(0)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 423, "code-locked")
}

func TestOwnDoors(t *testing.T) {
	h := newHouse(t, nil)
	manager := auth.Principal{Subject: "m", Building: "bld_turm5", Scopes: []auth.Scope{auth.Building}}
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", `{"name":"x","address":"y","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"carriers":["swift"]}`, 200, "")
	for id, more := range map[string]string{
		"lobby": `"kind":"lobby"`, "mine": `"kind":"garage","owner":{"shop_id":"demo","customer_id":"cus_81"}`,
		"theirs": `"kind":"garage","owner":{"shop_id":"demo","customer_id":"cus_82"}`, "namesake": `"kind":"home","owner":{"shop_id":"other","customer_id":"cus_81"}`,
	} {
		h.expect(t, manager, "PUT", "/v1/doors/"+id, `{"building_id":"bld_turm5","mode":"connected","location":{"lat":52.5256,"lon":13.3421},`+more+`}`, 200, "")
	}
	grant := h.dispatch(t, "P1", nil)
	see := func(want string) {
		t.Helper()
		if got := fmt.Sprint(h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "").body["own_doors"]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	see("[map[agreed:false door_id:mine kind:garage used:false]]")
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["garage"]}`, 200, "")
	see("[map[agreed:true door_id:mine kind:garage used:false]]")
	h.staff(t)
	h.expect(t, courier, "POST", "/v1/doors/mine/unlock", `{"parcel_id":"P1","challenge":"AAAAAAAAAAAAAAAA",`+here+`}`, 200, "")
	see("[map[agreed:true door_id:mine kind:garage used:true]]")
	h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"x"}`, 200, "")
	see("<nil>")
}

func TestPageLinkIsForTheShopsOwn(t *testing.T) {
	h := newHouse(t, nil)
	a := h.expect(t, shop, "POST", "/v1/customers/cus_81/page-link", "", 201, "")
	token, ok := a.body["path"].(string)
	if !ok || len(token) < 60 {
		t.Fatal(a.text)
	}
	c, by, err := h.PageLinks.Use(t.Context(), token[len("/account/link/"):])
	who := h.Service.Who(handoff.Actor{Subject: h.issuer.Name + " clerk"})
	if err != nil || c.Shop != "demo" || c.ID != "cus_81" || by != (identity.Maker{Issuer: h.issuer.Name, Who: who}) {
		t.Errorf("%v, %+v, %v", c, by, err)
	}
	if read, err := base64.RawURLEncoding.DecodeString(token[len("/account/link/"):]); err != nil || strings.Contains(string(read), "clerk") {
		t.Errorf("the customer can read the clerk's name in %q, %v", read, err)
	}
	h.expect(t, customer, "POST", "/v1/customers/cus_81/page-link", "", 403, "insufficient-scope")
	h.expect(t, shop, "POST", "/v1/customers/a%20b/page-link", "", 422, "invalid-request")
}
