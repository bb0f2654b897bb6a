package api_test

import (
	"strings"
	"testing"
	"time"
)

// The main job, over HTTP: a parcel leaves, its code is looked up, a wrong one is
// refused, the right one releases it, and a second try is refused.
func TestMainJob(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)

	made := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("JJD000390007827", nil), 201, "")
	grant := made.body["grant_id"].(string)
	for name, want := range map[string]any{
		"status": "active", "code_required": true, "valid_from": "2026-11-23T23:00:00Z", "valid_until": "2026-11-24T23:00:00Z",
	} {
		if made.body[name] != want {
			t.Errorf("%s = %v, want %v", name, made.body[name], want)
		}
	}
	if want := `"rights":[{"act":"release","target":"parcel","proofs":["courier","route","parcel","time","place","code"],"uses":1},` +
		`{"act":"open","target":"lobby","proofs":["courier","route","parcel","time","place","building"],"uses":1},`; !strings.Contains(made.text, want) {
		t.Errorf("%s lacks %s", made.text, want)
	}
	again := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("JJD000390007827", map[string]any{"value.amount": "1299"}), 200, "")
	if again.text != made.text {
		t.Errorf("the same dispatch answers %s, and before %s", again.text, made.text)
	}

	code := h.codeOf(t, grant)
	verify := "/v1/parcels/JJD000390007827/verify"
	refused := h.expect(t, courier, "POST", verify, atDoor(h.wrong(t, "JJD000390007827", 1)), 403, "code-mismatch")
	if left := refused.body["attempts_left"]; left != 4.0 {
		t.Errorf("attempts_left = %v, want 4", left)
	}
	if got := refused.at("proofs", "code"); got != "failed" {
		t.Errorf("the code's proof is %v", got)
	}
	if got, want := refused.header.Get("Content-Type"), "application/problem+json"; got != want {
		t.Errorf("Content-Type %q, want %q", got, want)
	}
	if refused.body["type"] != "urn:latchkey:problem:code-mismatch" || refused.body["status"] != 403.0 || refused.body["title"] == "" {
		t.Errorf("not a problem of the contract: %s", refused.text)
	}

	done := h.expect(t, courier, "POST", verify, atDoor(code), 200, "")
	if done.body["status"] != "released" || done.at("receipt", "grant_id") != grant || done.at("receipt", "at") != "2026-11-24T11:00:00Z" ||
		done.at("receipt", "courier_id") != "cou_7" || done.at("receipt", "act") != "release" {
		t.Errorf("receipt: %s", done.text)
	}
	second := h.expect(t, courier, "POST", verify, atDoor(code), 409, "already-released")
	if got := second.at("proofs", "code"); got != "not-checked" {
		t.Errorf("the code's proof is %v, want not-checked", got)
	}

	seen := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
	if seen.body["status"] != "released" || seen.body["code"] != nil || seen.body["code_state"] != "used" ||
		seen.at("handoff", "courier") != "Courier 7" || seen.at("handoff", "at") != "2026-11-24T11:00:00Z" {
		t.Errorf("the customer sees %s", seen.text)
	}
	var types []string
	for _, e := range seen.body["history"].([]any) {
		types = append(types, e.(map[string]any)["type"].(string))
	}
	if got, want := strings.Join(types, " "), "dispatched code_refused released"; got != want {
		t.Errorf("history: %s, want %s", got, want)
	}

	// A broken scanner: taken back, a new code, handed over after all.
	back := h.expect(t, courier, "POST", "/v1/parcels/JJD000390007827/abort", `{"reason":"Wrong parcel"}`, 200, "")
	if back.body["status"] != "active" {
		t.Errorf("abort: %s", back.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/JJD000390007827/attempted", `{"reason":"Nobody there"}`, 200, "")
	if stale := h.do(t, courier, "POST", verify, atDoor(code)); stale.code() != "code-superseded" || stale.status != 409 || stale.body["attempts_left"] != 4.0 {
		t.Errorf("an old code: %s", stale.text)
	}
	h.expect(t, courier, "POST", verify, atDoor(h.codeOf(t, grant)), 200, "")

	// Nothing that was secret or personal is in the log.
	for _, secret := range []string{code, "Sample Customer", "customer@shop.example", "Turmstr", "Bearer", "Wrong parcel", "JJD000390007827"} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestOrdinaryParcelNeedsNoBody(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	cheap := map[string]any{"value.amount": "12.5", "destination.location": nil}
	h.dispatch(t, "P1", cheap)
	h.dispatch(t, "P2", cheap)
	if done := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", "", 200, ""); done.at("receipt", "distance_m") != nil {
		t.Errorf("a distance from nowhere: %s", done.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/P2/verify", "{}", 200, "")
}

func TestReturnIsCollected(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "R1", map[string]any{"purpose": "return_pickup"})
	done := h.expect(t, courier, "POST", "/v1/parcels/R1/verify", atDoor(""), 200, "")
	if done.body["status"] != "collected" || done.at("receipt", "act") != "collect" {
		t.Errorf("collected: %s", done.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/R1/verify", atDoor(""), 409, "already-collected")
	if seen := h.do(t, customer, "GET", "/v1/handoffs/"+grant, ""); seen.body["code_state"] != "none" || seen.body["code"] != nil {
		t.Errorf("a code for a return: %s", seen.text)
	}
}

// The window opens and closes with the injected clock alone.
func TestDayOfTheParcel(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	code, verify := h.codeOf(t, grant), "/v1/parcels/P1/verify"

	h.Clock.Set(time.Date(2026, 11, 23, 22, 59, 59, 0, time.UTC))
	h.expect(t, courier, "POST", verify, atDoor(code), 409, "not-yet-valid")
	h.Clock.Set(time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC))
	h.expect(t, courier, "POST", verify, atDoor(code), 410, "window-over")
	if seen := h.do(t, customer, "GET", "/v1/handoffs/"+grant, ""); seen.body["status"] != "expired" || seen.body["code_state"] != "void" || seen.body["code"] != nil {
		t.Errorf("after its day: %s", seen.text)
	}
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/resend", "", 410, "window-over")
	h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", nil), 422, "window-over")

	moved := h.expect(t, warehouse, "POST", "/v1/dispatches/"+grant+"/reschedule", `{"delivery_date":"2026-11-26","route_id":"BER-7"}`, 200, "")
	if moved.body["status"] != "active" || moved.body["delivery_date"] != "2026-11-26" || moved.body["route_id"] != "BER-7" {
		t.Errorf("rescheduled: %s", moved.text)
	}
	h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-7/2026-11-26", `{"courier_id":"cou_7"}`, 200, "")
	h.Clock.Set(time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC))
	h.expect(t, courier, "POST", verify, atDoor(h.codeOf(t, grant)), 200, "")
}

func TestStops(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "JJD000390007827", nil)
	h.expect(t, courier, "POST", "/v1/parcels/JJD000390007827/attempted", `{"reason":"Nobody answered"}`, 200, "")
	list := h.expect(t, courier, "GET", "/v1/courier/stops", "", 200, "")
	stops := list.body["stops"].([]any)
	if len(stops) != 1 {
		t.Fatalf("stops: %s", list.text)
	}
	stop := stops[0].(map[string]any)
	for name, want := range map[string]any{
		"parcel_last4": "7827", "route_id": "BER-042", "name": "Sample Customer 81", "unit": "4 links", "city": "Berlin", "kind": "residence",
		"purpose": "delivery", "status": "active", "code_required": true, "attempted": 1.0, "valid_until": "2026-11-24T23:00:00Z",
		"building_id": "bld_turm5", "time_zone": "Europe/Berlin", "abortable_until": nil,
	} {
		if stop[name] != want {
			t.Errorf("%s = %v, want %v", name, stop[name], want)
		}
	}
	for _, hidden := range []string{"JJD000390007827", grant, h.codeOf(t, grant), "customer@shop.example", "cus_81"} {
		if strings.Contains(list.text, hidden) {
			t.Errorf("the courier's list tells %q", hidden)
		}
	}
	again := h.expect(t, courier, "GET", "/v1/courier/stops", "", 200, "").body["stops"].([]any)[0].(map[string]any)
	if id := stop["stop_id"]; id == "" || id != again["stop_id"] {
		t.Errorf("the stop is %q, and then %q", id, again["stop_id"])
	}
	other := courier
	other.Subject = "cou_8"
	h.expect(t, other, "GET", "/v1/courier/stops", "", 403, "courier-not-cleared")
}

// A stop tells until when its handoff can be taken back.
func TestStopsTellOfTakingBack(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	until := func() any {
		return h.expect(t, courier, "GET", "/v1/courier/stops", "", 200, "").body["stops"].([]any)[0].(map[string]any)["abortable_until"]
	}
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
	if got := until(); got != "2026-11-24T11:10:00Z" {
		t.Errorf("until %v", got)
	}
	h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_8", `{"name":"Courier 8","cleared_until":"2027-06-30"}`, 200, "")
	h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-042/2026-11-24", `{"courier_id":"cou_8"}`, 200, "")
	other := courier
	other.Subject = "cou_8"
	if list := h.expect(t, other, "GET", "/v1/courier/stops", "", 200, ""); len(list.body["stops"].([]any)) != 1 || strings.Contains(list.text, "abortable_until") {
		t.Errorf("another courier: %s", list.text)
	}
	h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-042/2026-11-24", `{"courier_id":"cou_7"}`, 200, "")
	h.Clock.Advance(10 * time.Minute)
	if got := until(); got != "2026-11-24T11:10:00Z" {
		t.Errorf("at the last instant: until %v", got)
	}
	h.Clock.Advance(time.Second)
	if got := until(); got != nil {
		t.Errorf("too late: until %v", got)
	}
	h.expect(t, courier, "POST", "/v1/parcels/P1/abort", `{"reason":"x"}`, 410, "abort-too-late")
	h.Clock.Advance(-time.Second)
	h.expect(t, courier, "POST", "/v1/parcels/P1/abort", `{"reason":"x"}`, 200, "")
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
	if got := until(); got != nil {
		t.Errorf("a second time: until %v", got)
	}
}

// A superseded code is told with the time at which it was replaced, each its own, and the
// same to who repeats the attempt later.
func TestReplacedAt(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	first := h.codeOf(t, grant)
	h.Clock.Advance(2*time.Hour + 2*time.Minute)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 200, "")
	second := h.codeOf(t, grant)
	h.Clock.Advance(time.Hour)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 200, "")
	try := strings.Replace(atDoor(first), "{", `{"attempt_id":"a1",`, 1)
	for range 2 {
		if old := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", try, 409, "code-superseded"); old.body["replaced_at"] != "2026-11-24T13:02:00Z" {
			t.Errorf("the first: %s", old.text)
		}
		h.Clock.Advance(time.Minute)
	}
	if old := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(second), 409, "code-superseded"); old.body["replaced_at"] != "2026-11-24T14:02:00Z" {
		t.Errorf("the second: %s", old.text)
	}
	if wrong := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", 0)), 403, "code-mismatch"); wrong.body["replaced_at"] != nil {
		t.Errorf("a wrong one: %s", wrong.text)
	}
}

func TestCustomersList(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	h.dispatch(t, "P1", nil)
	h.dispatch(t, "P2", nil)
	h.dispatch(t, "P3", map[string]any{"customer.id": "cus_82"})
	h.expect(t, courier, "POST", "/v1/parcels/P2/verify", atDoor(h.codeOf(t, h.Parcel(t, "P2").ID.String())), 200, "")
	list := h.expect(t, customer, "GET", "/v1/customers/cus_81/handoffs", "", 200, "")
	if n := len(list.body["handoffs"].([]any)); n != 2 {
		t.Errorf("%d handoffs: %s", n, list.text)
	}
	if !strings.Contains(list.text, "Courier 7") {
		t.Error("the courier's name is missing")
	}
	h.expect(t, customer, "GET", "/v1/customers/cus_82/handoffs", "", 404, "customer-unknown")
	if list := h.expect(t, shop, "GET", "/v1/customers/cus_82/handoffs", "", 200, ""); len(list.body["handoffs"].([]any)) != 1 {
		t.Errorf("the shop sees %s", list.text)
	}
	if list := h.expect(t, shop, "GET", "/v1/customers/nobody/handoffs", "", 200, ""); list.text != `{"handoffs":[]}` {
		t.Errorf("nobody's list: %s", list.text)
	}
}
