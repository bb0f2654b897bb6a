package api_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
)

// A move-out ends owners, consents and notices of a unit in one act, says what is left, and leaves
// other units alone. The next owner waits, so that a false one gives a door to no one.
func TestMoveOut(t *testing.T) {
	h := house5(t)
	home := doorJSON("home", "carried", `"unit":"4 links"`)
	h.expect(t, manager, "PUT", "/v1/doors/home-4", home, 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/home-5", strings.NewReplacer("4 links", "5", "cus_81", "cus_85").Replace(home), 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/home-4", strings.Replace(home, "cus_81", "cus_99", 1), 200, "")
	grant := h.dispatch(t, "P1", nil)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["home"]}`, 200, "")
	elsewhere := h.dispatch(t, "P2", map[string]any{"destination.unit": "5"})
	h.expect(t, customer, "POST", "/v1/handoffs/"+elsewhere+"/consent", `{"doors":["garage"]}`, 200, "")
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents",
		`{"residents":[{"email":"four@home.example","unit":"4 Links"},{"email":"new@home.example","unit":"4 links"},{"email":"five@home.example","unit":"5"}]}`, 200, "")
	all, err := h.Store.Residents(background, "bld_turm5")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Address == "four@home.example" {
			if _, err := h.Residents.Confirm(background, "bld_turm5", r.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := map[handoff.EventType]int{}
	for _, e := range h.Events(t) {
		told[e.Type]--
	}
	a := h.expect(t, manager, "POST", "/v1/buildings/bld_turm5/units/4%20%20LINKS/move-out", "", 200, "")
	open := a.body["open"].(map[string]any)
	if got := fmt.Sprint(a.body["doors"], a.body["consents_ended"], len(a.body["residents"].([]any)), open["residents"], len(open["parcels"].([]any))); got !=
		fmt.Sprint("[home-4] [", grant, "] 2 1 1") {
		t.Errorf("%s: %s", got, a.text)
	}
	if p := open["parcels"].([]any)[0].(map[string]any); p["grant_id"] != grant || p["delivery_date"] != "2026-11-24" || p["consents"] != nil {
		t.Errorf("left is %v", p)
	}
	door := h.expect(t, manager, "GET", "/v1/doors/home-4", "", 200, "")
	if door.body["owner"] != nil || door.body["pending"] != nil || door.body["unit"] != "4 links" {
		t.Errorf("the door is %s", door.text)
	}
	if five := h.expect(t, manager, "GET", "/v1/doors/home-5", "", 200, ""); five.body["owner"] == nil {
		t.Errorf("another unit's door is %s", five.text)
	}
	if seen := h.expect(t, customer, "GET", "/v1/handoffs/"+elsewhere, "", 200, ""); fmt.Sprint(seen.body["consents"]) != "[garage]" {
		t.Errorf("another unit's parcel: %s", seen.text)
	}
	if seen := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, ""); fmt.Sprint(seen.body["consents"]) != "[]" {
		t.Errorf("its parcel: %s", seen.text)
	}
	residents := h.expect(t, manager, "GET", "/v1/buildings/bld_turm5/residents", "", 200, "")
	if strings.Contains(residents.text, "new@home") || !strings.Contains(residents.text, `"leaves_at":"2026-11-27T11:00:00Z"`) || strings.Count(residents.text, "leaves_at") != 1 {
		t.Errorf("who is told: %s", residents.text)
	}
	for _, e := range h.Events(t) {
		told[e.Type]++
		ofUnit := e.Type == handoff.EventUnitMovedOut || e.Type == handoff.EventResidentRemoved || e.Type == handoff.EventDoorChanged
		if ofUnit && (e.By != "manager" || len(e.Who) != 16 || e.Building != "bld_turm5") {
			t.Errorf("%+v", e)
		}
	}
	maps.DeleteFunc(told, func(_ handoff.EventType, n int) bool { return n == 0 })
	want := map[handoff.EventType]int{
		handoff.EventUnitMovedOut: 1, handoff.EventDoorChanged: 1, handoff.EventDoorChangeWithdrawn: 1, handoff.EventConsented: 1,
		handoff.EventResidentRemoved: 2, handoff.EventResidentChanged: 1, handoff.EventMailArrived: 2, // each saw the code
	}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %v, want %v", told, want)
	}

	// Again it changes nothing and says what is left.
	again := h.expect(t, manager, "POST", "/v1/buildings/bld_turm5/units/4%20links/move-out", "", 200, "")
	if fmt.Sprint(again.body["doors"]) != "[home-4]" || len(again.body["open"].(map[string]any)["parcels"].([]any)) != 1 {
		t.Errorf("again: %s", again.text)
	}
	next := h.expect(t, manager, "PUT", "/v1/doors/home-4", strings.Replace(home, "cus_81", "cus_99", 1), 200, "")
	if next.body["owner"] != nil || next.body["pending"].(map[string]any)["takes_effect_at"] != "2026-11-27T11:00:00Z" {
		t.Errorf("the next owner: %s", next.text)
	}
	h.Clock.Advance(72 * time.Hour)
	if now := h.expect(t, manager, "GET", "/v1/doors/home-4", "", 200, ""); !strings.Contains(now.text, "cus_99") {
		t.Errorf("three days later: %s", now.text)
	}
	for _, bad := range []string{"%00", strings.Repeat("4", 61), "%E2%80%AE"} {
		if a := h.do(t, manager, "POST", "/v1/buildings/bld_turm5/units/"+bad+"/move-out", ""); !slices.Contains([]string{"invalid-request"}, a.code()) {
			t.Errorf("unit %q: %s", bad, a.text)
		}
	}
}
