package api_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// put is expect of a PUT with If-Match; empty sends none.
func (h *house) put(t *testing.T, who auth.Principal, path, body, match string, status int, code string) *answer {
	t.Helper()
	req := h.request(t, who, "PUT", path, body)
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	a := h.send(t, req)
	if a.status != status || a.code() != code {
		t.Fatalf("PUT %s with If-Match %s = %d %q, want %d %q: %s", path, match, a.status, a.code(), status, code, a.text)
	}
	return a
}

// without is an answer without a field.
func without(body map[string]any, field string) map[string]any {
	body = maps.Clone(body)
	delete(body, field)
	return body
}

// Every record that a PUT replaces as a whole has a version: who saw an older one is
// told so, and who leaves a restriction out is told what went.
func TestAPutOfAWholeRecord(t *testing.T) {
	h := house5(t)
	const building = `{"name":"Haus Eins","address":"Turmstr. 5, 10559 Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421}%s}`
	const door = `{"building_id":"bld_turm5","kind":"lobby","mode":"carried","location":{"lat":52.5256,"lon":13.3421}%s}`
	const key = `"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	for _, c := range []struct{ path, full, bare, removed string }{
		{
			"/v1/buildings/bld_turm5",
			fmt.Sprintf(building, `,"carriers":["rival","swift"],"quiet_hours":{"from":"12:00","to":"14:00"},"delivery_hours":{"from":"07:00","to":"21:00"},"returns":true,"manager":"m@building.example","locale":"de"`),
			fmt.Sprintf(building, `,"carriers":["swift"]`),
			`["carriers.rival","delivery_hours","locale","manager","quiet_hours","returns"]`,
		},
		{
			"/v1/doors/lobby",
			fmt.Sprintf(door, `,"carriers":["rival","swift"],"geofence_m":20,"relock_s":5,"public_key":`+key),
			fmt.Sprintf(door, ``),
			`["carriers","geofence_m","public_key","relock_s"]`,
		},
		{
			"/v1/doors/lobby", fmt.Sprintf(door, `,"carriers":["rival","swift"]`), fmt.Sprintf(door, `,"carriers":["swift"]`), `["carriers.rival"]`,
		},
	} {
		first := h.put(t, manager, c.path, c.full, "", 200, "").header.Get("ETag")
		if got := h.expect(t, manager, "GET", c.path, "", 200, ""); got.header.Get("ETag") != first || strings.Contains(got.text, `"removed"`) || len(first) != 34 {
			t.Errorf("%s: the tag is %s, then %s: %s", c.path, first, got.header.Get("ETag"), got.text)
		}
		same := h.put(t, manager, c.path, c.full, first, 200, "")
		if tag := same.header.Get("ETag"); tag != first || strings.Contains(same.text, `"removed"`) {
			t.Errorf("%s: the same again has the tag %s: %s", c.path, tag, same.text)
		}
		second := h.put(t, manager, c.path, c.bare, `"else", `+first, 200, "")
		if !strings.Contains(second.text, `"removed":`+c.removed) {
			t.Errorf("%s: %s, want removed %s", c.path, second.text, c.removed)
		}
		for _, stale := range []string{first, `W/` + second.header.Get("ETag"), `"`, `x`, `""`} {
			h.put(t, manager, c.path, c.full, stale, 412, "stale")
		}
		if got := h.expect(t, manager, "GET", c.path, "", 200, "").header.Get("ETag"); got != second.header.Get("ETag") {
			t.Errorf("%s: a stale PUT wrote", c.path)
		}
		h.put(t, manager, c.path, c.bare, "*", 200, "")
	}
	h.put(t, manager, "/v1/doors/none", fmt.Sprintf(door, ""), "*", 412, "stale")
	h.put(t, manager, "/v1/doors/none", fmt.Sprintf(door, ""), `"0"`, 412, "stale")

	const list = "/v1/buildings/bld_turm5/residents"
	first := h.put(t, manager, list, `{"residents":[{"email":"a@home.example","unit":"1"},{"email":"b@home.example"}]}`, "", 200, "")
	tag := first.header.Get("ETag")
	if got := h.expect(t, manager, "GET", list, "", 200, "").header.Get("ETag"); got != tag || tag == "" {
		t.Errorf("the residents' tag is %s, then %s", tag, got)
	}
	var gone string
	for _, r := range first.body["residents"].([]any) {
		if r := r.(map[string]any); r["email"] == "b@home.example" {
			gone = r["resident_id"].(string)
		}
	}
	second := h.put(t, manager, list, `{"residents":[{"email":"a@home.example","unit":"1"}]}`, tag, 200, "")
	if !strings.Contains(second.text, `"removed":["`+gone+`"]`) {
		t.Errorf("%s, want %s removed", second.text, gone)
	}
	h.put(t, manager, list, `{"residents":[]}`, tag, 412, "stale")
}

// Every change of a building or a door is an event with who did it, and stands in the
// building's log; the unit of a home stays bound when a PUT leaves it out.
func TestChangesAreEvents(t *testing.T) {
	h := house5(t)
	home := func(extra string) string {
		return `{"building_id":"bld_turm5","kind":"home","mode":"connected","location":{"lat":52.5256,"lon":13.3421},"owner":{"shop_id":"demo","customer_id":"cus_81"}` + extra + `}`
	}
	ofHouse := func() []handoff.Event {
		return slices.DeleteFunc(h.Events(t), func(e handoff.Event) bool { return e.Building != "bld_turm5" })
	}
	before := len(ofHouse())
	h.put(t, manager, "/v1/doors/home-4", home(`,"unit":"4 links"`), "", 200, "")
	if a := h.put(t, manager, "/v1/doors/home-4", home(""), "", 200, ""); a.body["unit"] != "4 links" {
		t.Errorf("left out, the unit is %v", a.body["unit"])
	}
	if a := h.put(t, manager, "/v1/doors/home-4", home(`,"unit":"9","relock_s":7`), "", 200, ""); a.body["unit"] != "4 links" || a.body["pending"].(map[string]any)["unit"] != "9" {
		t.Errorf("another unit: %s", a.text)
	}
	h.expect(t, manager, "DELETE", "/v1/doors/home-4", "", 204, "")
	h.put(t, manager, "/v1/doors/lobby", `{"building_id":"bld_turm5","kind":"lobby","mode":"carried","location":{"lat":52.5256,"lon":13.3421},"unit":"4 links"}`, "", 422, "invalid-request")
	h.put(t, manager, "/v1/buildings/bld_turm5", `{"name":"Haus Zwei","address":"Turmstr. 5, 10559 Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"carriers":[]}`, "", 200, "")
	var told []string
	for _, e := range ofHouse()[before:] {
		if e.Type == handoff.EventBuildingEnrolled {
			continue
		}
		if e.By != "manager" || len(e.Who) != 16 || e.Building != "bld_turm5" || (e.Door == "home-4") == (e.Type == handoff.EventBuildingChanged) {
			t.Errorf("%+v", e)
		}
		told = append(told, e.Type.String()+" "+strings.Join(e.Changes, ","))
	}
	want := []string{
		"door_changed enrolled", "door_changed relock_s", "door_change_asked unit", "door_changed removed", "door_change_withdrawn unit",
	}
	if len(told) != 6 || !slices.Equal(told[:5], want) || !strings.HasPrefix(told[5], "building_changed name,") {
		t.Errorf("%q", told)
	}
}

// A keypad's key is never shown, and counts for the version all the same.
func TestANewKeypadKeyIsANewVersion(t *testing.T) {
	h := house5(t)
	keypad := func(key string) string {
		return `{"building_id":"bld_turm5","kind":"lobby","mode":"keypad","location":{"lat":52.5256,"lon":13.3421}` + key + `}`
	}
	first := h.put(t, manager, "/v1/doors/pad", keypad(`,"keypad_key":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTA"`), "", 200, "").header.Get("ETag")
	kept := h.put(t, manager, "/v1/doors/pad", keypad(""), first, 200, "")
	if tag := kept.header.Get("ETag"); tag != first || strings.Contains(kept.text, `"removed"`) {
		t.Errorf("with its key kept the door is %s, was %s: %s", tag, first, kept.text)
	}
	if tag := h.put(t, manager, "/v1/doors/pad", keypad(`,"keypad_key":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTE"`), first, 200, "").header.Get("ETag"); tag == first {
		t.Error("another key is the same version")
	}
	if a := h.send(t, httptest.NewRequest("GET", "/openapi.json", nil)); !strings.Contains(a.text, `"If-Match"`) || !strings.Contains(a.text, `"412"`) {
		t.Error("the description says nothing of If-Match")
	}
}
