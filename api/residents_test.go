package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/api/web/frame"
	pages "latchkey/api/web/residents"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/residents"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
)

// logbook is an access log of three entries of the sample building.
type logbook struct{ clock clock.Clock }

func (l logbook) AccessPage(_ context.Context, building string, since time.Time, _ int) (api.AccessPage, error) {
	if building != "bld_turm5" {
		return api.AccessPage{}, errors.New("another building's log was asked for")
	}
	if want := l.clock.Now().Add(-30 * 24 * time.Hour); !since.Equal(want) {
		return api.AccessPage{}, errors.New("another time was asked for")
	}
	return api.AccessPage{
		Passages: []trail.Passage{
			{At: handofftest.Noon, Door: "lobby", Kind: "lobby", Carrier: "swift", Outcome: "opened", Count: 3},
			{At: handofftest.Noon.Add(-time.Hour), Door: "gate", Kind: "gate", Outcome: "forced", Count: 1},
			{At: handofftest.Noon.Add(-2 * time.Hour), Kind: "garage", Carrier: "swift", Outcome: "opened", Count: 1},
		},
		Head: "abc.def.sig<script>",
	}, nil
}

// houseOfResidents has the sample building, and one active resident of a unit.
func houseOfResidents(t *testing.T) (*house, handoff.ResidentID) {
	t.Helper()
	names, way := map[string]string{"swift": "Swift Parcels"}, &frame.API{}
	h := house5(t, func(c *api.Config) {
		c.Residents = &api.Residents{Log: logbook{c.Clock}, CarrierNames: names}
		nobody := func(*http.Request) (frame.Visitor, bool) { return frame.Visitor{}, false }
		site, err := frame.New(frame.Config{API: way, Identify: nobody, Clock: c.Clock, Log: c.Log},
			pages.Set(pages.Config{Links: c.Directory, Buildings: c.Registry, CarrierNames: names}))
		if err != nil {
			t.Fatal(err)
		}
		c.Site = site
	})
	way.Serve(h.app.Handler())
	h.public(t, "POST", "/v1/buildings/bld_turm5/subscriptions", `{"email":"resident@home.example","locale":"de","unit":"4 links"}`, 202)
	all, err := h.Store.Residents(background, "bld_turm5")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d residents, %v", len(all), err)
	}
	id := all[0].ID
	h.form(t, "/residents/confirm/"+h.Residents.Link(residents.LinkConfirm, "bld_turm5", id), "", 200)
	h.expect(t, manager, "POST", "/v1/buildings/bld_turm5/residents/"+string(id)+"/approve", "", 204, "")
	return h, id
}

func (h *house) public(t testing.TB, method, path, body string, status int) *answer {
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	a := h.send(t, req)
	if a.status != status {
		t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.text, status)
	}
	return a
}

func (h *house) form(t testing.TB, path, form string, status int) *answer {
	t.Helper()
	req := httptest.NewRequest("POST", path, strings.NewReader(form))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a := h.send(t, req)
	if a.status != status {
		t.Fatalf("POST %s: %d %s, want %d", path, a.status, a.text, status)
	}
	return a
}

func TestTheLogByALink(t *testing.T) {
	h, id := houseOfResidents(t)
	token := h.Residents.Link(residents.LinkLog, "bld_turm5", id)
	a := h.public(t, "GET", "/v1/access-logs/"+token, "", 200)
	entries, _ := a.body["passages"].([]any)
	if len(entries) != 3 || a.body["building_id"] != "bld_turm5" || a.body["head"] != "abc.def.sig<script>" {
		t.Fatalf("%s", a.text)
	}
	if first := entries[0].(map[string]any); first["outcome"] != "opened" || first["count"] != 3.0 || first["door_id"] != "lobby" || first["carrier_id"] != "swift" || first["door_kind"] != "lobby" {
		t.Errorf("%v", first)
	}
	page := h.public(t, "GET", "/log/"+token, "", 200)
	if strings.Contains(a.text+page.text, "garage-5") {
		t.Error("a neighbour's garage is named")
	}
	for _, want := range []string{`<html lang="de">`, "Turmstr. 5", "Haustür", "Geöffnet ×3", "Ohne Erlaubnis geöffnet", "Swift Parcels", "2026-11-24 12:00", "abc.def.sig&lt;script&gt;", "2026-12-24 12:00"} {
		if !strings.Contains(page.text, want) {
			t.Errorf("%q is missing in\n%s", want, page.text)
		}
	}
	if strings.Contains(page.text, "<script") || strings.Contains(page.text, token) || strings.Contains(page.text, "4 links") {
		t.Errorf("the page shows too much:\n%s", page.text)
	}
	for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Robots-Tag": "noindex", "X-Content-Type-Options": "nosniff"} {
		if got := page.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if policy := page.header.Get("Content-Security-Policy"); policy != frame.Policy {
		t.Errorf("the policy is %s", policy)
	}
	style := regexp.MustCompile(`<link rel="stylesheet" href="([^"]+)">`).FindStringSubmatch(page.text)
	if style == nil {
		t.Fatalf("no style in\n%s", page.text)
	}
	if css := h.public(t, "GET", style[1], "", 200); !strings.HasPrefix(css.header.Get("Content-Type"), "text/css") {
		t.Errorf("the style is %s", css.header.Get("Content-Type"))
	}
	if strings.Contains(h.log.String(), token[:20]) || !strings.Contains(h.log.String(), `"/log/{token}"`) {
		t.Error("the log shows a token, or no route")
	}
}

func TestALinkHoldsForThirtyDays(t *testing.T) {
	h, id := houseOfResidents(t)
	token := h.Residents.Link(residents.LinkLog, "bld_turm5", id)
	h.Clock.Advance(30*24*time.Hour - time.Second)
	h.public(t, "GET", "/v1/access-logs/"+token, "", 200)
	h.public(t, "GET", "/log/"+token, "", 200)
	h.Clock.Advance(time.Second)
	if a := h.public(t, "GET", "/v1/access-logs/"+token, "", 404); a.code() != "link-unknown" {
		t.Errorf("%s", a.text)
	}
	if a := h.public(t, "GET", "/log/"+token, "", 404); !strings.Contains(a.text, "This link is over") {
		t.Errorf("%s", a.text)
	}
}

// Every byte of a token counts, and a token for one thing is none for another.
func TestALinkCannotBeMade(t *testing.T) {
	h, id := houseOfResidents(t)
	token := h.Residents.Link(residents.LinkLog, "bld_turm5", id)
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := slices.Clone(raw)
		changed[i] ^= 1
		h.public(t, "GET", "/log/"+base64.RawURLEncoding.EncodeToString(changed), "", 404)
	}
	for _, bad := range []string{"x", token[:len(token)-1], token + "A", token + "=", strings.Repeat("A", 4000), "%00", base64.RawURLEncoding.EncodeToString(raw[:30])} {
		h.public(t, "GET", "/log/"+bad, "", 404)
		h.public(t, "GET", "/v1/access-logs/"+bad, "", 404)
	}
	purposes := map[residents.LinkFor]string{
		residents.LinkLog: "/log/", residents.LinkConfirm: "/residents/confirm/", residents.LinkUnsubscribe: "/residents/unsubscribe/", residents.LinkDecide: "/residents/decide/",
	}
	for purpose := range purposes {
		for other, path := range purposes {
			status := 404
			if purpose == other {
				status = 200
			}
			h.public(t, "GET", path+h.Residents.Link(purpose, "bld_turm5", id), "", status)
		}
	}
	h.public(t, "GET", "/log/"+h.Residents.Link(residents.LinkLog, "bld_1", id), "", 404) // not a resident there
	h.public(t, "GET", "/log/"+h.Residents.Link(residents.LinkLog, "bld_turm5", handoff.ManagerID), "", 200)
}

// Whoever leaves, or is rejected, reads no more.
func TestLinksEndWithTheSubscription(t *testing.T) {
	h, id := houseOfResidents(t)
	log, leave := h.Residents.Link(residents.LinkLog, "bld_turm5", id), h.Residents.Link(residents.LinkUnsubscribe, "bld_turm5", id)
	if a := h.public(t, "GET", "/residents/unsubscribe/"+leave, "", 200); !strings.Contains(a.text, `<form method="post">`) {
		t.Errorf("%s", a.text)
	}
	h.public(t, "GET", "/log/"+log, "", 200) // looking changed nothing
	for range 2 {
		if a := h.form(t, "/residents/unsubscribe/"+leave, "List-Unsubscribe=One-Click", 200); !strings.Contains(a.text, "ended") && !strings.Contains(a.text, "beendet") {
			t.Errorf("%s", a.text)
		}
	}
	h.public(t, "GET", "/log/"+log, "", 404)
}

// A form is taken as it came. Unpacked, half a kilobyte would be a gigabyte, and strangers can
// send one: the body is read before the link is judged.
func TestAPackedFormIsNotUnpacked(t *testing.T) {
	h, id := houseOfResidents(t)
	var form bytes.Buffer
	packed := gzip.NewWriter(&form)
	_, _ = packed.Write([]byte("do=reject"))
	_ = packed.Close()
	path := "/residents/decide/" + h.Residents.Link(residents.LinkDecide, "bld_turm5", id)
	req := httptest.NewRequest("POST", path, &form)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Content-Encoding", "gzip")
	if a := h.send(t, req); a.status != 404 {
		t.Errorf("a packed form: %d", a.status)
	}
	if kept, err := h.Store.Resident(background, "bld_turm5", id); kept == nil || err != nil {
		t.Error("a packed form was unpacked and done", err)
	}
	h.form(t, path, "do=reject", 200)
}

// The manager sees the addresses that he put on file and those that ask for a unit,
// and nobody else's; another building's manager sees and decides nothing.
func TestWhatTheManagerSees(t *testing.T) {
	h, id := houseOfResidents(t)
	for _, body := range []string{`{"email":"whole@home.example"}`, `{"email":"unconfirmed@home.example","unit":"4 links"}`} {
		h.public(t, "POST", "/v1/buildings/bld_turm5/subscriptions", body, 202)
	}
	a := h.expect(t, manager, "GET", "/v1/buildings/bld_turm5/residents", "", 200, "")
	if !strings.Contains(a.text, "resident@home.example") || strings.Contains(a.text, "whole@") || strings.Contains(a.text, "unconfirmed@") {
		t.Errorf("%s", a.text)
	}
	other := auth.Principal{Subject: "m", Building: "bld_2", Scopes: []auth.Scope{auth.Building}}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"PUT", "", `{"residents":[]}`}, {"POST", "/" + string(id) + "/approve", ""}, {"POST", "/" + string(id) + "/reject", ""},
	} {
		h.expect(t, other, c.method, "/v1/buildings/bld_turm5/residents"+c.path, c.body, 404, "building-unknown")
	}
	h.expect(t, other, "POST", "/v1/buildings/bld_turm5/announce", "", 404, "building-unknown")
	h.expect(t, manager, "POST", "/v1/buildings/bld_turm5/residents/"+strings.Repeat("1", 24)+"/approve", "", 404, "resident-unknown")
	h.expect(t, manager, "POST", "/v1/buildings/bld_turm5/residents/x/reject", "", 404, "resident-unknown")
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents", `{"residents":[{"email":"a@home.example"},{"email":"b"}]}`, 422, "invalid-request")
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents", `{}`, 422, "invalid-request")

	a = h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents", `{"residents":[{"email":"file@home.example","unit":"1"}]}`, 200, "")
	if !strings.Contains(a.text, "file@home.example") || !strings.Contains(a.text, `"on_file":true`) {
		t.Errorf("%s", a.text)
	}
	a = h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents", `{"residents":[]}`, 200, "")
	if strings.Contains(a.text, "file@") || !strings.Contains(a.text, "resident@") {
		t.Errorf("after moving out: %s", a.text)
	}
	h.expect(t, manager, "POST", "/v1/buildings/bld_turm5/residents/"+string(id)+"/reject", "", 204, "")
	if a := h.expect(t, manager, "GET", "/v1/buildings/bld_turm5/residents", "", 200, ""); !strings.Contains(a.text, "resident@") || !strings.Contains(a.text, `"leaves_at"`) {
		t.Errorf("right after rejecting: %s", a.text)
	}
	h.Clock.Advance(72 * time.Hour)
	if a := h.expect(t, manager, "GET", "/v1/buildings/bld_turm5/residents", "", 200, ""); strings.Contains(a.text, "resident@") {
		t.Errorf("three days after rejecting: %s", a.text)
	}
}

// What a stranger is answered is always the same.
func TestSubscribingTellsNothing(t *testing.T) {
	h, _ := houseOfResidents(t)
	var first string
	for i, c := range []struct{ building, body string }{
		{"bld_turm5", `{"email":"new@home.example"}`},
		{"bld_turm5", `{"email":"new@home.example"}`},
		{"bld_turm5", `{"email":"resident@home.example","unit":"4 links"}`},
		{"nowhere", `{"email":"resident@home.example"}`},
	} {
		a := h.public(t, "POST", "/v1/buildings/"+c.building+"/subscriptions", c.body, 202)
		if i == 0 {
			first = a.text
		} else if a.text != first {
			t.Errorf("%v: %s, before %s", c, a.text, first)
		}
	}
	for _, body := range []string{`{"email":"x"}`, `{"email":"a@b.example","unit":"` + strings.Repeat("x", 61) + `"}`, `{"email":"a@b.example","locale":"!"}`, `{"email":"a@b.example","unit":"a\nb"}`} {
		if a := h.public(t, "POST", "/v1/buildings/bld_turm5/subscriptions", body, 422); strings.Contains(a.text, "a@b") {
			t.Errorf("%s", a.text)
		}
	}
	without := newHouse(t, nil)
	if a := without.public(t, "POST", "/v1/buildings/bld_turm5/subscriptions", `{"email":"new@home.example"}`, 503); a.code() != "residents-not-configured" {
		t.Errorf("%s", a.text)
	}
}

// mute is a store whose log takes nothing for a while.
type mute struct {
	handofftest.Store
	broken bool
}

func (m *mute) Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error {
	if m.broken {
		return fmt.Errorf("%w: the log takes nothing", storage.ErrUnavailable)
	}
	return m.Store.Append(ctx, now, events...)
}

// A change that residents are to be told of fails if the log cannot be told, so that
// its caller says it again; what changed nothing is told once.
func TestEnrolmentIsNeverLeftUnsaid(t *testing.T) {
	store := &mute{Store: embedded.New(t)}
	h := newHouse(t, store, func(c *api.Config) { c.Residents = &api.Residents{} })
	said := func() int { return handofftest.Count(h.Events(t), handoff.EventBuildingEnrolled) }
	put := func(path, body string, status int) {
		t.Helper()
		if a := h.do(t, manager, "PUT", path, body); a.status != status {
			t.Fatalf("%s: %d %s", path, a.status, a.text)
		}
	}
	store.broken = true
	put("/v1/buildings/bld_turm5", buildingJSON, 503)
	store.broken = false
	put("/v1/buildings/bld_turm5", buildingJSON, 200)
	put("/v1/buildings/bld_turm5", buildingJSON, 200)
	if said() != 1 {
		t.Errorf("said %d times", said())
	}
	store.broken = true
	put("/v1/doors/gate", doorJSON("gate", "connected"), 503)
	store.broken = false
	put("/v1/doors/gate", doorJSON("gate", "connected"), 200)
	put("/v1/doors/gate", doorJSON("gate", "connected", `"geofence_m":20`), 200)
	if said() != 2 {
		t.Errorf("said %d times", said())
	}
	put("/v1/doors/gate", doorJSON("gate", "carried"), 200)
	put("/v1/buildings/bld_turm5", strings.Replace(buildingJSON, `"swift"`, `"swift","rival"`, 1), 200)
	if said() != 4 {
		t.Errorf("said %d times", said())
	}
	store.broken = true
	h.public(t, "POST", "/v1/buildings/bld_turm5/subscriptions", `{"email":"a@home.example"}`, 503)
	store.broken = false
	h.public(t, "POST", "/v1/buildings/bld_turm5/subscriptions", `{"email":"a@home.example"}`, 202)
	if n := handofftest.Count(h.Events(t), handoff.EventResidentChanged); n != 1 {
		t.Errorf("a subscription whose mail was not ordered is ordered %d times when repeated", n)
	}
	put("/v1/buildings/bld_turm5/residents", `{"residents":[{"email":"b@home.example"}]}`, 200)
	if said() != 5 {
		t.Errorf("said %d times", said())
	}
	put("/v1/doors/gate", doorJSON("gate", "carried", `"carriers":[]`), 200)
	put("/v1/doors/gate", doorJSON("gate", "carried", `"carriers":[]`), 200)
	put("/v1/doors/gate", doorJSON("gate", "carried"), 200)
	if said() != 7 {
		t.Errorf("said %d times", said())
	}
	store.broken = true
	h.expect(t, manager, "DELETE", "/v1/doors/gate", "", 503, "unavailable")
	store.broken = false
	h.expect(t, manager, "GET", "/v1/doors/gate", "", 200, "")
	h.expect(t, manager, "DELETE", "/v1/doors/gate", "", 204, "")
	h.expect(t, manager, "DELETE", "/v1/doors/gate", "", 404, "door-unknown")
	if said() != 8 {
		t.Errorf("said %d times", said())
	}
	put("/v1/doors/gate", doorJSON("gate", "carried"), 200)
	if said() != 9 {
		t.Errorf("said %d times", said())
	}
}
