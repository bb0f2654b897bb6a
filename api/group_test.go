package api_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/handoff/handofftest"
)

// together is a dispatch of several parcels.
func together(changes map[string]any, parcels ...string) string {
	all := map[string]any{"parcel_id": nil}
	var list []any
	for i, id := range parcels {
		list = append(list, map[string]any{"parcel_id": id, "seal": "S-" + strconv.Itoa(i)})
	}
	all["parcels"] = list
	for name, value := range changes {
		all[name] = value
	}
	return sample("x", all)
}

// Several parcels are one handoff: one grant, one code, found by each of them, handed over in
// parts, and told to each audience by what it may know.
func TestSeveralParcels(t *testing.T) {
	h := newHouse(t, nil)
	h.Cleared(t, "cou_7")
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	const a, b, c = "JJD000390000011", "JJD000390000022", "JJD000390000033"
	made := h.expect(t, warehouse, "POST", "/v1/dispatches", together(nil, c, a, b), 201, "")
	grant := made.body["grant_id"].(string)
	if made.body["parcel_id"] != a || len(made.body["parcels"].([]any)) != 3 {
		t.Errorf("%s", made.text)
	}
	if again := h.expect(t, warehouse, "POST", "/v1/dispatches", strings.NewReplacer("S-0", "S-1", "S-1", "S-2", "S-2", "S-0").Replace(together(nil, a, b, c)), 200, ""); again.body["grant_id"] != grant {
		t.Errorf("in another order: %s", again.text)
	}
	h.expect(t, warehouse, "POST", "/v1/dispatches", sample(b, nil), 409, "dispatch-conflict")
	h.expect(t, warehouse, "POST", "/v1/dispatches", together(nil, a, b), 409, "dispatch-conflict")

	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprint("M", i)
	}
	for name, body := range map[string]string{
		"parcels":              together(nil, many...),
		"parcels ":             together(nil, "N1", " N 1"),
		"parcels  ":            together(map[string]any{"parcel_id": "N1"}, "N1", "N2"),
		"parcels[1].parcel_id": together(nil, "N1", "?"),
		"parcel_id":            sample("x", map[string]any{"parcel_id": nil}),
		"all_or_nothing":       sample("N1", map[string]any{"all_or_nothing": true}),
	} {
		got := h.do(t, warehouse, "POST", "/v1/dispatches", body)
		errs, _ := got.body["errors"].([]any)
		if got.status != 422 || len(errs) != 1 || errs[0].(map[string]any)["location"] != "body."+strings.TrimSpace(name) {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}

	stops := h.expect(t, courier, "GET", "/v1/courier/stops", "", 200, "")
	if list := stops.body["stops"].([]any); len(list) != 1 || len(list[0].(map[string]any)["parcels"].([]any)) != 3 || strings.Contains(stops.text, "JJD") {
		t.Errorf("the stops: %s", stops.text)
	}

	code := func() string {
		return h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "").body["code"].(string)
	}
	verify := func(path string, scanned ...string) string {
		return strings.Replace(atDoor(code()), "{", `{"parcel_ids":["`+strings.Join(scanned, `","`)+`"],`, 1)
	}
	heard := code()
	h.expect(t, courier, "POST", "/v1/parcels/"+b+"/verify", verify(b, a, c), 422, "parcel-not-named")
	wrong := h.expect(t, courier, "POST", "/v1/parcels/"+b+"/verify", verify(b, b, "JJD000390000099"), 403, "access-refused")
	if wrong.at("proofs", "parcel") != "failed" || wrong.at("proofs", "code") != "not-checked" {
		t.Errorf("a parcel of another: %s", wrong.text)
	}
	part := h.expect(t, courier, "POST", "/v1/parcels/"+b+"/verify", verify(b, c, b), 200, "")
	if part.body["status"] != "active" || part.at("receipt", "parcel_id") != b || fmt.Sprint(part.at("receipt", "parcel_ids")) != fmt.Sprint([]any{b, c}) ||
		fmt.Sprint(part.at("receipt", "still_there_last4")) != "[0011]" || strings.Contains(part.text, a) {
		t.Errorf("a part: %s", part.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/"+a+"/verify", atDoor(heard), 409, "code-superseded")
	h.expect(t, courier, "POST", "/v1/parcels/"+c+"/verify", atDoor(heard), 409, "already-released")

	seen := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
	var states []string
	for _, p := range seen.body["parcels"].([]any) {
		p := p.(map[string]any)
		states = append(states, fmt.Sprint(p["parcel_id"], p["status"], p["seal"]))
	}
	if !slices.Equal(states, []string{a + "active" + "S-1", b + "released" + "S-2", c + "released" + "S-0"}) || seen.body["code"] == heard || seen.body["reissues_left"] != 3.0 {
		t.Errorf("the customer sees %v, and %s", states, seen.text)
	}

	for _, parcel := range []string{b, c} { // the log is kept by the first's hash
		log := h.expect(t, ops, "GET", "/v1/events?type=released&carrier=swift&parcel="+parcel, "", 200, "")
		if len(log.body["events"].([]any)) != 1 {
			t.Errorf("the log of %s: %s", parcel, log.text)
		}
	}
	back := h.expect(t, courier, "POST", "/v1/parcels/"+c+"/abort", `{"reason":"x"}`, 200, "")
	if strings.Contains(back.text, b) || fmt.Sprint(back.at("receipt", "also_last4")) != "[0022]" {
		t.Errorf("an abort by one of two: %s", back.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/"+c+"/verify", verify(c, c, b), 200, "")
	h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"x","parcel_ids":["`+b+`"]}`, 409, "already-released")
	over := h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"x","parcel_ids":["`+a+`"]}`, 200, "")
	if over.body["status"] != "released" || len(over.body["handoffs"].([]any)) != 1 {
		t.Errorf("%s", over.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/"+a+"/verify", atDoor(heard), 409, "recalled")

	all := h.expect(t, warehouse, "POST", "/v1/dispatches", together(map[string]any{"all_or_nothing": true}, "N1", "N2"), 201, "")
	if all.body["all_or_nothing"] != true {
		t.Errorf("%s", all.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/N1/verify", atDoor("000000"), 409, "all-or-nothing")
}

// A file may have lines of one parcel and of several, and sending it again does nothing.
func TestABulkLineOfSeveral(t *testing.T) {
	h := newHouse(t, nil)
	file := compact(sample("P1", nil)) + "\n" + compact(together(nil, "P2", "P3")) + "\n" + compact(together(nil, "P4", "P4")) + "\n"
	_, first := h.bulk(t, file)
	_, again := h.bulk(t, compact(sample("P1", nil))+"\n"+compact(strings.NewReplacer("S-0", "S-1", "S-1", "S-0").Replace(together(nil, "P3", "P2")))+"\n")
	if len(first) != 3 || first[0].Status != 201 || first[1].Status != 201 || first[2].Status != 422 || first[2].Code != "parcel-twice" || len(first[2].Errors) != 1 {
		t.Errorf("%+v", first)
	}
	if len(again) != 2 || again[1].Status != 200 || again[1].GrantID != first[1].GrantID {
		t.Errorf("%+v", again)
	}
}

// Another carrier's courier learns nothing of any of the parcels.
func TestSeveralParcelsOfAnotherCarrier(t *testing.T) {
	h := newHouse(t, nil)
	h.Cleared(t, "cou_7")
	h.expect(t, warehouse, "POST", "/v1/dispatches", together(nil, "P1", "P2"), 201, "")
	other := auth.Principal{Subject: "cou_7", Carrier: "rival", Scopes: courier.Scopes}
	for _, parcel := range []string{"P1", "P2"} {
		known := h.expect(t, other, "POST", "/v1/parcels/"+parcel+"/verify", atDoor(""), 404, "parcel-unknown")
		unknown := h.expect(t, other, "POST", "/v1/parcels/P9/verify", atDoor(""), 404, "parcel-unknown")
		if known.text != unknown.text {
			t.Errorf("%s and %s", known.text, unknown.text)
		}
	}
}
