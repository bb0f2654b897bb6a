package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
)

var manager = auth.Principal{Subject: "manager", Building: "bld_turm5", Scopes: []auth.Scope{auth.Building}}

const buildingJSON = `{"name":"Turmstr. 5","address":"Turmstr. 5, 10559 Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},` +
	`"manager":"manager@building.example","carriers":["swift"],"delivery_hours":{"from":"07:00","to":"21:00"},"returns":true}`

// doorJSON is the body of a door at the sample address.
func doorJSON(kind, mode string, more ...string) string {
	if kind == "garage" || kind == "home" {
		more = append(more, `"owner":{"shop_id":"demo","customer_id":"cus_81"}`)
	}
	return strings.Join(append([]string{
		`{"building_id":"bld_turm5","kind":"` + kind + `","mode":"` + mode + `","location":{"lat":52.5256,"lon":13.3421}`,
	}, more...), ",") + "}"
}

// house5 is a house whose sample building has a gate (connected), a lobby (carried) and
// a garage (carried) of the sample's customer.
func house5(t testing.TB, change ...func(*api.Config)) *house {
	t.Helper()
	h := newHouse(t, nil, change...)
	h.staff(t)
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected"), 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/lobby", doorJSON("lobby", "carried"), 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/garage", doorJSON("garage", "carried"), 200, "")
	return h
}

// A stop names the doors on its way, the outer ones first, and what each asks for.
func TestStopsNameTheDoors(t *testing.T) {
	h := house5(t)
	h.expect(t, manager, "PUT", "/v1/doors/home", doorJSON("home", "keypad", `"keypad_key":"AQIDBAUGBwgJCgsMDQ4PEBESExQ"`), 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/theirs", strings.Replace(doorJSON("home", "carried"), "cus_81", "cus_82", 1), 200, "")
	grant := h.dispatch(t, "P1", nil)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["garage"]}`, 200, "")
	stop := func() map[string]any {
		return h.expect(t, courier, "GET", "/v1/courier/stops", "", 200, "").body["stops"].([]any)[0].(map[string]any)
	}
	var got []string
	for _, d := range stop()["doors"].([]any) {
		d := d.(map[string]any)
		got = append(got, fmt.Sprint(d["door_id"], " ", d["kind"], " ", d["mode"], " ", d["challenge"], " ", d["consent"]))
	}
	want := []string{"gate gate connected false not-asked", "lobby lobby carried true not-asked", "garage garage carried true given", "home home keypad false missing"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	none := func(why string) {
		t.Helper()
		if doors := stop()["doors"].([]any); len(doors) != 0 {
			t.Errorf("%s: %v", why, doors)
		}
	}
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", strings.Replace(buildingJSON, `"swift"`, `"rival"`, 1), 200, "")
	none("another carrier's building")
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 200, "")
	h.expect(t, shop, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"x"}`, 200, "")
	none("recalled")
}

// A door that is added, closed to the carrier, removed or brought back after a parcel was
// dispatched counts at the next unlock.
func TestDoorsChangeAfterDispatch(t *testing.T) {
	h := house5(t, func(c *api.Config) { c.Doors.Heartbeat = 20 * time.Millisecond })
	h.dispatch(t, "P1", nil)
	unlock := func(want string) *answer {
		t.Helper()
		a := h.do(t, courier, "POST", "/v1/doors/side/unlock", unlockBody("P1", here))
		if proofs, _ := a.body["proofs"].(map[string]any); strings.TrimSpace(fmt.Sprintln(a.status, a.code(), proofs["building"])) != want {
			t.Errorf("%d %s, want %s", a.status, a.text, want)
		}
		return a
	}
	listed := func(want bool) {
		t.Helper()
		building := h.expect(t, manager, "GET", "/v1/buildings/bld_turm5", "", 200, "")
		if slices.Contains(building.body["doors"].([]any), any("side")) != want {
			t.Errorf("listed: %s", building.text)
		}
	}
	onTheWay := func(want bool) {
		t.Helper()
		if a := h.expect(t, courier, "GET", "/v1/courier/stops", "", 200, ""); strings.Contains(a.text, `"side"`) != want {
			t.Errorf("a stop: %s", a.text)
		}
	}
	put := func(more ...string) string {
		t.Helper()
		a := h.expect(t, manager, "PUT", "/v1/doors/side", doorJSON("lobby", "connected", more...), 200, "")
		if got := h.expect(t, manager, "GET", "/v1/doors/side", "", 200, ""); !reflect.DeepEqual(got.body, without(a.body, "removed")) {
			t.Errorf("got %s\nput %s", got.text, a.text)
		}
		carriers, restricted := a.body["carriers"]
		return fmt.Sprint(restricted, carriers)
	}
	told := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("the carriers are told as %s, want %s", got, want)
		}
	}
	const (
		opens  = "200  <nil>"
		closed = "403 access-refused failed"
		none   = "403 access-refused <nil>" // which is not judged
	)

	unknown := unlock(none)
	told(put(), "false <nil>")
	unlock(opens)
	listed(true)
	onTheWay(true)

	told(put(`"carriers":["rival"]`), "true [rival]")
	unlock(closed)
	listed(true)
	onTheWay(false)
	told(put(`"carriers":[]`), "true []")
	unlock(closed)
	told(put(`"carriers":["swift","rival","swift"]`), "true [rival swift]")
	unlock(opens)
	h.expect(t, manager, "PUT", "/v1/doors/side", doorJSON("lobby", "connected", `"carriers":["a b"]`), 422, "invalid-request")

	resp, stream := h.dial(t, h.listen(t), "side", "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream of the door: %d", resp.StatusCode)
	}
	h.expect(t, manager, "DELETE", "/v1/doors/side", "", 204, "")
	gone := unlock(none)
	if gone.body["detail"] != unknown.body["detail"] || fmt.Sprint(gone.body["proofs"]) != fmt.Sprint(unknown.body["proofs"]) {
		t.Errorf("a removed door is told from an unknown one:\n%s\n%s", gone.text, unknown.text)
	}
	listed(false)
	onTheWay(false)
	for e := event(stream); e != nil; e = event(stream) { // to its end
		if e["event"] == "permit" {
			continue // of before
		}
	}
	h.expect(t, manager, "GET", "/v1/doors/side", "", 404, "door-unknown")
	h.expect(t, asDoor("side"), "GET", "/v1/doors/side/permits", "", 404, "door-unknown")
	h.expect(t, asDoor("side"), "POST", "/v1/doors/side/reports", `{"reports":["AA"]}`, 404, "door-unknown")

	// Its id is nobody else's.
	h.expect(t, ops, "PUT", "/v1/buildings/bld_other", buildingJSON, 200, "")
	theirs := strings.Replace(doorJSON("lobby", "connected"), "bld_turm5", "bld_other", 1)
	h.expect(t, ops, "PUT", "/v1/doors/side", theirs, 409, "door-moved")
	told(put(), "false <nil>")
	unlock(opens)
	listed(true)

	changes := 0
	for _, e := range h.Events(t) {
		if e.Type == handoff.EventBuildingEnrolled && e.Building == "bld_turm5" {
			changes++
		}
	}
	if changes != 4+6 {
		t.Errorf("the building's log has %d changes, want those of the house and of each change of the door", changes)
	}
}

// physical is what hangs beside a door: it knows the service's keys and its own.
type physical struct {
	id         string
	verifier   *door.Verifier
	challenges *door.Challenges
	key        door.PrivateKey
	seq        uint64
}

func (h *house) physical(t testing.TB, id string, presence bool) *physical {
	t.Helper()
	root, err1 := door.NewPrivateKey(rand.Reader)
	key, err2 := door.NewPrivateKey(rand.Reader)
	trustFile, replayFile := filepath.Join(t.TempDir(), "trust"), filepath.Join(t.TempDir(), "replay")
	if err := errorsOf(err1, err2, door.CreateTrust(trustFile), door.CreateReplay(replayFile)); err != nil {
		t.Fatal(err)
	}
	trust, err1 := door.OpenTrust(trustFile, root.Public(), h.signer.Publish()...)
	replay, err2 := door.OpenReplay(replayFile)
	if err := errorsOf(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errorsOf(trust.Close(), replay.Close()); err != nil {
			t.Error(err)
		}
	})
	p := &physical{id: id, key: key}
	if presence {
		p.challenges = door.NewChallenges(rand.Reader)
	}
	if p.verifier, err1 = door.NewVerifier(id, trust, replay, p.challenges); err1 != nil {
		t.Fatal(err1)
	}
	return p
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// reports are signed statements about a permit, as a body.
func (p *physical) reports(t testing.TB, at time.Time, permit string, states ...door.State) string {
	t.Helper()
	var id door.PermitID
	if permit != "" {
		if err := id.UnmarshalText([]byte(permit)); err != nil {
			t.Fatal(err)
		}
	}
	var list []string
	for _, s := range states {
		p.seq++
		r := door.Report{Door: p.id, Seq: p.seq, At: at.Truncate(time.Second), State: s, Permit: id}
		if s == door.Refused {
			r.Refusal = door.Expired
		}
		raw, err := r.Sign(p.key)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, base64.RawURLEncoding.EncodeToString(raw))
	}
	body, err := json.Marshal(map[string]any{"reports": list})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func asDoor(id string) auth.Principal {
	return auth.Principal{Subject: id, Scopes: []auth.Scope{auth.Door}}
}

func unlockBody(parcel string, more ...string) string {
	return strings.Join(append([]string{`{"parcel_id":"` + parcel + `"`}, more...), ",") + "}"
}

var challenge = `"challenge":"` + base64.RawURLEncoding.EncodeToString([]byte("challenge-of-a-door")) + `"`

func permitBytes(t testing.TB, a *answer) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(a.body["permit"].(string))
	if err != nil || len(raw) > door.MaxPermit {
		t.Fatalf("%d bytes: %v", len(raw), err)
	}
	return raw
}

func TestBuildingRegistry(t *testing.T) {
	h := newHouse(t, nil)
	rival := manager
	rival.Building = "bld_other"
	h.expect(t, manager, "GET", "/v1/buildings/bld_turm5", "", 404, "building-unknown")
	h.expect(t, rival, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 403, "insufficient-scope")
	put := h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 200, "")
	got := h.expect(t, manager, "GET", "/v1/buildings/bld_turm5", "", 200, "")
	if want := `{"building_id":"bld_turm5","name":"Turmstr. 5","address":"Turmstr. 5, 10559 Berlin","time_zone":"Europe/Berlin",` +
		`"location":{"lat":52.5256,"lon":13.3421},"manager":"manager@building.example","carriers":["swift"],` +
		`"delivery_hours":{"from":"07:00","to":"21:00"},"returns":true,"doors":[]}`; got.text != want || put.text != want {
		t.Errorf("got  %s\nput  %s\nwant %s", got.text, put.text, want)
	}

	h.expect(t, rival, "PUT", "/v1/doors/lobby", doorJSON("lobby", "carried"), 403, "insufficient-scope")
	h.expect(t, manager, "PUT", "/v1/doors/lobby", doorJSON("lobby", "carried"), 200, "")
	h.expect(t, ops, "PUT", "/v1/doors/garage", doorJSON("garage", "bridged", `"geofence_m":12`, `"relock_s":9`,
		`"public_key":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`), 200, "")
	if a := h.do(t, ops, "GET", "/v1/buildings/bld_turm5", ""); !strings.Contains(a.text, `"doors":["garage","lobby"]`) {
		t.Errorf("doors: %s", a.text)
	}
	garage := h.expect(t, manager, "GET", "/v1/doors/garage", "", 200, "")
	if want := `{"door_id":"garage","building_id":"bld_turm5","kind":"garage","mode":"bridged","location":{"lat":52.5256,"lon":13.3421},` +
		`"geofence_m":12,"public_key":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","relock_s":9,"owner":{"shop_id":"demo","customer_id":"cus_81"}}`; garage.text != want {
		t.Errorf("got  %s\nwant %s", garage.text, want)
	}
	if lobby := h.do(t, manager, "GET", "/v1/doors/lobby", ""); lobby.body["geofence_m"] != 30.0 {
		t.Errorf("the fence left out: %s", lobby.text)
	}
	// What is another's looks like what is not there.
	foreign, unknown := h.do(t, rival, "GET", "/v1/doors/lobby", ""), h.do(t, rival, "GET", "/v1/doors/none", "")
	if foreign.status != 404 || foreign.text != unknown.text {
		t.Errorf("a foreign door is told from an unknown one: %s, %s", foreign.text, unknown.text)
	}
	if foreign, unknown := h.do(t, rival, "GET", "/v1/buildings/bld_turm5", ""), h.do(t, rival, "GET", "/v1/buildings/none", ""); foreign.status != 404 || foreign.text != unknown.text {
		t.Errorf("a foreign building is told from an unknown one: %s, %s", foreign.text, unknown.text)
	}

	h.expect(t, ops, "PUT", "/v1/buildings/bld_other", buildingJSON, 200, "")
	h.expect(t, rival, "PUT", "/v1/doors/lobby", strings.Replace(doorJSON("lobby", "carried"), "bld_turm5", "bld_other", 1), 409, "door-moved")
	for name, body := range map[string]string{
		"no such building":    strings.Replace(doorJSON("lobby", "carried"), "bld_turm5", "bld_none", 1),
		"keypad without key":  doorJSON("lobby", "keypad"),
		"half a keypad's key": doorJSON("lobby", "keypad", `"keypad_key":"AQIDBAUGBwgJCgsMDQ4PEBESEw"`),
		"keypad of zeros":     doorJSON("lobby", "keypad", `"keypad_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAA"`),
		"key, and no keypad":  doorJSON("lobby", "carried", `"keypad_key":"AQIDBAUGBwgJCgsMDQ4PEBESExQ"`),
		"parcel":              doorJSON("parcel", "carried"),
		"owner of a lobby":    doorJSON("lobby", "carried", `"owner":{"shop_id":"demo","customer_id":"cus_81"}`),
		"nobody's garage":     strings.Replace(doorJSON("garage", "carried"), `,"owner":{"shop_id":"demo","customer_id":"cus_81"}`, "", 1),
		"no place":            strings.Replace(doorJSON("lobby", "carried"), `,"location":{"lat":52.5256,"lon":13.3421}`, "", 1),
		"fence of a village":  doorJSON("lobby", "carried", `"geofence_m":501`),
		"half a key":          doorJSON("lobby", "carried", `"public_key":"11qYAYKxCrfVS_7TyWQH"`),
	} {
		h.expect(t, ops, "PUT", "/v1/doors/new", body, 422, "invalid-request")
		if _, known := h.do(t, ops, "GET", "/v1/doors/new", "").body["door_id"]; known {
			t.Errorf("%s: registered", name)
		}
	}
	h.expect(t, ops, "PUT", "/v1/doors/keys", doorJSON("lobby", "carried"), 422, "invalid-request")
	for _, hours := range []string{`{"from":"07:00","to":"07:00"}`, `{"from":"24:00","to":"07:00"}`, `{"from":"7:00","to":"08:00"}`} {
		h.expect(t, ops, "PUT", "/v1/buildings/bld_turm5", strings.Replace(buildingJSON, `{"from":"07:00","to":"21:00"}`, hours, 1), 422, "invalid-request")
	}
	h.expect(t, ops, "PUT", "/v1/buildings/bld_turm5", strings.Replace(buildingJSON, "Europe/Berlin", "Europe/Atlantis", 1), 422, "invalid-request")
	if strings.Contains(h.log.String(), "manager@building.example") {
		t.Error("the log holds the manager's address")
	}
}

// The way in: gate, lobby, handing over, and then nothing opens any more. What the
// doors say is what everybody is told.
func TestWayIn(t *testing.T) {
	h := house5(t)
	grant := h.dispatch(t, "P1", nil)
	lobby := h.physical(t, "lobby", true)
	own := `"public_key":"` + lobby.key.Public().String() + `"`
	h.expect(t, manager, "PUT", "/v1/doors/lobby", doorJSON("lobby", "carried", `"relock_s":120`, own), 200, "")

	gate := h.physical(t, "gate", false)
	through := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "")
	if through.body["door_id"] != "gate" || through.body["expires_at"] != "2026-11-24T11:01:00Z" {
		t.Errorf("gate: %s", through.text)
	}
	if p, err := gate.verifier.Admit(permitBytes(t, through), h.Clock.Now()); err != nil || p.ID.String() != through.body["permit_id"] {
		t.Errorf("the gate: %v %+v", err, p)
	}
	if _, err := gate.verifier.Admit(permitBytes(t, through), h.Clock.Now()); err == nil {
		t.Error("the gate opens twice for one permit")
	}

	shown, err := lobby.challenges.Next(h.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	body := unlockBody("P1", here, `"challenge":"`+base64.RawURLEncoding.EncodeToString(shown)+`"`, `"attempt_id":"a1"`)
	in := h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", body, 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/lobby", doorJSON("lobby", "carried", `"relock_s":30`, own), 200, "") // for later permits
	h.Clock.Advance(7*time.Second + 400*time.Millisecond)
	if again := h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", body, 200, ""); again.text != in.text {
		t.Errorf("the same attempt is answered\n%s, and before\n%s", again.text, in.text)
	}
	h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("P1", here, challenge, `"attempt_id":"a1"`), 422, "attempt-reused")
	if _, err := gate.verifier.Admit(permitBytes(t, in), h.Clock.Now()); err == nil {
		t.Error("the gate opens for the lobby's permit")
	}
	if p, err := lobby.verifier.Admit(permitBytes(t, in), h.Clock.Now()); err != nil || p.Relock != 2*time.Minute {
		t.Errorf("the lobby: %v, and relocks after %s", err, p.Relock)
	}

	permit := in.body["permit_id"].(string)
	state := func(want string) {
		t.Helper()
		for _, who := range []auth.Principal{courier, manager} {
			a := h.expect(t, who, "GET", "/v1/doors/lobby/unlocks/"+permit, "", 200, "")
			if a.body["state"] != want || a.body["authorised_at"] != "2026-11-24T11:00:00Z" || a.body["permit_id"] != permit || a.body["door_id"] != "lobby" {
				t.Errorf("want %s: %s", want, a.text)
			}
		}
		seen := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
		if u := seen.body["unlocks"].([]any); len(u) != 2 || u[1].(map[string]any)["state"] != want || u[1].(map[string]any)["kind"] != "lobby" || strings.Contains(seen.text, permit) {
			t.Errorf("the customer sees %s", seen.text)
		}
	}
	state("authorised")
	for _, step := range []struct {
		say  []door.State
		want string
	}{
		{[]door.State{door.Delivered}, "delivered"},
		{[]door.State{door.NoAnswer}, "no-answer"}, // of its lock
		{[]door.State{door.Confirmed, door.Opened}, "opened"},
		{[]door.State{door.Delivered}, "opened"}, // late, and no news
		{[]door.State{door.Relocked}, "relocked"},
		{[]door.State{door.Failed}, "relocked"}, // what ended has ended
	} {
		h.Clock.Advance(time.Second)
		a := h.expect(t, asDoor("lobby"), "POST", "/v1/doors/lobby/reports", lobby.reports(t, h.Clock.Now(), permit, step.say...), 200, "")
		if a.body["accepted"] != float64(len(step.say)) {
			t.Errorf("%v: %s", step.say, a.text)
		}
		state(step.want)
	}

	// Who has nothing to do with it does not learn that it is.
	rival, neighbor := courier, manager
	rival.Carrier, neighbor.Building = "rival", "bld_other"
	for _, who := range []auth.Principal{rival, neighbor} {
		foreign := h.expect(t, who, "GET", "/v1/doors/lobby/unlocks/"+permit, "", 404, "permit-unknown")
		for _, path := range []string{"/v1/doors/lobby/unlocks/" + strings.Repeat("0", 31) + "1", "/v1/doors/gate/unlocks/" + permit, "/v1/doors/lobby/unlocks/x"} {
			if unknown := h.expect(t, who, "GET", path, "", 404, "permit-unknown"); unknown.text != foreign.text {
				t.Errorf("%s: %s, and foreign %s", path, unknown.text, foreign.text)
			}
		}
	}

	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.codeOf(t, grant)), 200, "")
	if a := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 403, "access-refused"); a.body["reason"] != "already-released" {
		t.Errorf("after the handoff: %s", a.text)
	}
	for _, secret := range []string{in.body["permit"].(string), "52.525", `"P1"`, "Sample"} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// Each proof fails alone, and exactly that one is named. All refusals look alike but
// for what they say of it.
func TestEachProofFailsAlone(t *testing.T) {
	type failure struct {
		door   string // lobby if empty
		change func(*testing.T, *house, string)
		body   string // of an unlock with all proofs if empty
		who    auth.Principal
		want   string // proof=result
		reason any
	}
	uncleared := courier
	uncleared.Subject = "cou_8"
	clear8 := func(t *testing.T, h *house, _ string) {
		h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_8", `{"name":"Courier 8","cleared_until":"2030-01-01"}`, 200, "")
	}
	rewrite := func(old, new string) func(*testing.T, *house, string) {
		return func(t *testing.T, h *house, _ string) {
			h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", strings.Replace(buildingJSON, old, new, 1), 200, "")
		}
	}
	night := func(_ *testing.T, h *house, _ string) { h.Clock.Set(time.Date(2026, 11, 24, 23, 30, 0, 0, time.UTC)) }
	far := `"location":{"lat":52.53,"lon":13.35,"accuracy_m":12}`
	for name, f := range map[string]failure{
		"suspended": {change: func(t *testing.T, h *house, _ string) {
			h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", `{"suspended":true}`, 200, "")
		}, want: "courier=failed", reason: "courier-not-cleared"},
		"another's route": {change: clear8, who: uncleared, want: "route=failed", reason: "not-your-route"},
		"after the day": {change: func(t *testing.T, h *house, s string) {
			rewrite(`"delivery_hours":{"from":"07:00","to":"21:00"},`, "")(t, h, s)
			night(t, h, s)
		}, want: "time=failed", reason: "window-over"},
		"elsewhere":                             {body: unlockBody("P1", far, challenge), want: "place=failed", reason: "outside-geofence"},
		"no position":                           {body: unlockBody("P1", challenge), want: "place=failed", reason: "outside-geofence"},
		"stale position":                        {body: unlockBody("P1", `"location":{"lat":52.5256,"lon":13.3421,"accuracy_m":12,"age_s":61}`, challenge), want: "place=failed", reason: "outside-geofence"},
		"carrier closed out after the dispatch": {change: rewrite(`["swift"]`, `["rival"]`), want: "building=failed"},
		"out of hours":                          {change: rewrite(`"from":"07:00"`, `"from":"13:00"`), want: "building=failed"},
		"quiet hours":                           {change: rewrite(`"returns":true`, `"quiet_hours":{"from":"11:30","to":"12:30"}`), want: "building=failed"},
		"no challenge":                          {body: unlockBody("P1", here), want: "presence=missing"},
		"another's garage":                      {door: "garage", change: foreignGarage, want: "building=failed"},
		"garage, unasked":                       {door: "garage", want: "consent=missing"},
		"another building":                      {change: otherBuilding, want: "building=failed"},
	} {
		t.Run(name, func(t *testing.T) {
			h := house5(t)
			grant := h.dispatch(t, "P1", nil)
			if f.change != nil {
				f.change(t, h, grant)
			}
			if f.who.Subject == "" {
				f.who = courier
			}
			id := f.door
			if id == "" {
				id = "lobby"
			}
			if f.body == "" {
				f.body = unlockBody("P1", here, challenge)
			}
			a := h.expect(t, f.who, "POST", "/v1/doors/"+id+"/unlock", f.body, 403, "access-refused")
			var failed []string
			proofs, _ := a.body["proofs"].(map[string]any)
			for proof, result := range proofs {
				if result != "ok" {
					failed = append(failed, fmt.Sprintf("%s=%s", proof, result))
				}
			}
			if !slices.Equal(failed, []string{f.want}) || a.body["reason"] != f.reason || len(proofs) < 7 {
				t.Errorf("failed %v because of %v, want %s because of %v: %s", failed, a.body["reason"], f.want, f.reason, a.text)
			}
			if _, code := proofs["code"]; code {
				t.Error("a door asks for the code")
			}
		})
	}

	// The proof that is left, the parcel, is what finds the grant.
	h := house5(t)
	h.dispatch(t, "P1", nil)
	h.dispatch(t, "P2", map[string]any{"destination.building_id": "bld_other"})
	rival := courier
	rival.Carrier = "rival"
	h.expect(t, ops, "PUT", "/v1/couriers/rival/cou_7", `{"name":"Courier 7","cleared_until":"2030-01-01"}`, 200, "")
	unknown := h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("P0", here, challenge), 403, "access-refused")
	foreign := h.expect(t, rival, "POST", "/v1/doors/lobby/unlock", unlockBody("P1", here, challenge), 403, "access-refused")
	nowhere := h.expect(t, courier, "POST", "/v1/doors/none/unlock", unlockBody("P0", here, challenge), 403, "access-refused")
	if unknown.text != foreign.text || unknown.text != nowhere.text || !maps.Equal(unknown.body["proofs"].(map[string]any), map[string]any{"parcel": "failed"}) || unknown.body["reason"] != nil {
		t.Errorf("unknown: %s\nforeign: %s\nno door: %s", unknown.text, foreign.text, nowhere.text)
	}
	h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("P2", here, challenge), 403, "access-refused")
	h.expect(t, courier, "POST", "/v1/doors/none/unlock", unlockBody("P1", here, challenge), 403, "access-refused")
	for name, body := range map[string]string{
		"no parcel": `{` + here + `}`, "no id": unlockBody("P/1", here), "short challenge": unlockBody("P1", `"challenge":"AAAA"`),
		"slack bits": unlockBody("P1", `"challenge":"AAAAAAAAAAB"`), "code": unlockBody("P1", `"code":"123456"`),
	} {
		if a := h.do(t, courier, "POST", "/v1/doors/lobby/unlock", body); a.status != 422 || a.code() != "invalid-request" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

func foreignGarage(t *testing.T, h *house, grant string) {
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["garage"]}`, 200, "")
	a := h.expect(t, manager, "PUT", "/v1/doors/garage", strings.Replace(doorJSON("garage", "carried"), "cus_81", "cus_82", 1), 200, "")
	h.expect(t, customer, "POST", "/v1/doors/garage/changes/"+a.body["pending"].(map[string]any)["change_id"].(string)+"/approve", "", 204, "")
}

// Another owner of a garage waits: until then it opens as before. The owner can object or agree, in person:
// not one whom a shop's link let in, and not the one to whom it would go.
func TestTheOwnersWord(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	b.staff(t)
	b.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 200, "")
	garage := doorJSON("garage", "carried")
	b.expect(t, manager, "PUT", "/v1/doors/garage", garage, 200, "")
	taken := strings.Replace(garage, "cus_81", "cus_82", 1)
	next := customer
	next.Subject = "cus_82"
	linked, csrf := b.byLink(t, customer)
	for _, word := range []string{"object", "approve"} {
		a := b.expect(t, manager, "PUT", "/v1/doors/garage", taken, 200, "")
		pending := a.body["pending"].(map[string]any)
		if whose := fmt.Sprint(a.body["owner"], pending["owner"], pending["changes"], pending["takes_effect_at"]); whose !=
			"map[customer_id:cus_81 shop_id:demo] map[customer_id:cus_82 shop_id:demo] [owner]2026-11-27T11:00:00Z" {
			t.Errorf("it says %s", whose)
		}
		at := "/v1/doors/garage/changes/" + pending["change_id"].(string) + "/" + word
		b.expect(t, next, "POST", at, "", 404, "no-such-change")
		b.expect(t, manager, "POST", at, "", 403, "insufficient-scope")
		if a := b.as(t, linked, "POST", at, "", "X-Latchkey-CSRF", csrf, "Sec-Fetch-Site", "same-origin"); a.code() != "person-required" {
			t.Errorf("by a shop's link: %s", a.text)
		}
		b.expect(t, customer, "POST", at, "", 204, "")
		b.expect(t, customer, "POST", at, "", 404, "no-such-change")
		now := b.expect(t, manager, "GET", "/v1/doors/garage", "", 200, "")
		if owner := fmt.Sprint(now.body["owner"]); now.body["pending"] != nil || strings.Contains(owner, "cus_82") != (word == "approve") {
			t.Errorf("%s: %s", word, now.text)
		}
	}
}

func otherBuilding(t *testing.T, h *house, _ string) {
	store := h.Store
	if err := store.PutBuilding(background, handoff.Building{ID: "bld_turm5", Zone: "Nowhere", Carriers: []string{"swift"}}); err != nil {
		t.Fatal(err)
	}
}

// A visit is five minutes and three permits; that nobody answered gives one more.
func TestVisits(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	unlock := func(want any) {
		t.Helper()
		if a := h.do(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here)); a.body["reason"] != want || (want == nil) != (a.status == 200) {
			t.Errorf("%d %s, want %v", a.status, a.text, want)
		}
	}
	for range 3 {
		unlock(nil)
	}
	unlock("visit-over")
	h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("P1", here, challenge), 200, "") // a visit of its own
	h.Clock.Advance(5 * time.Minute)
	for range h.Policy.Limits.AgainDay { // a second armful, and more
		unlock(nil)
		h.Clock.Advance(5 * time.Minute)
	}
	if n := handofftest.Count(h.Events(t), handoff.EventVisitAgain); n != h.Policy.Limits.AgainDay {
		t.Errorf("%d visits were begun again", n)
	}
	unlock("visit-over")
	h.expect(t, courier, "POST", "/v1/parcels/P1/attempted", `{"reason":"Nobody answered"}`, 200, "")
	unlock(nil)
	h.Clock.Advance(5 * time.Minute)
	unlock("visit-over")
}

func TestConsent(t *testing.T) {
	h := house5(t)
	grant := h.dispatch(t, "P1", nil)
	consent := "/v1/handoffs/" + grant + "/consent"
	unlock := func() *answer {
		return h.do(t, courier, "POST", "/v1/doors/garage/unlock", unlockBody("P1", here, challenge))
	}
	seen := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
	if !strings.Contains(seen.text, `"consents":[],"unlocks":[]`) {
		t.Errorf("before: %s", seen.text)
	}
	if a := h.expect(t, customer, "POST", consent, `{"doors":["home","garage","garage"]}`, 422, "invalid-request"); a.status != 422 {
		t.Error(a.text)
	}
	if a := h.expect(t, customer, "POST", consent, `{"doors":["home","garage"]}`, 200, ""); !strings.Contains(a.text, `"consents":["garage","home"]`) {
		t.Errorf("consented: %s", a.text)
	}
	if a := h.expect(t, customer, "POST", consent, `{"doors":[]}`, 200, ""); !strings.Contains(a.text, `"consents":[]`) {
		t.Errorf("taken back: %s", a.text)
	}
	if a := unlock(); a.code() != "access-refused" || a.at("proofs", "consent") != "missing" {
		t.Errorf("without consent: %s", a.text)
	}
	h.expect(t, customer, "POST", consent, `{"doors":["garage"]}`, 200, "")
	if a := unlock(); a.status != 200 {
		t.Errorf("with consent: %s", a.text)
	}
	// Nobody knows yet whether the door opened, and nothing says that it did.
	if a := h.expect(t, customer, "POST", consent, `{"doors":[]}`, 409, "consent-used"); strings.Contains(a.text, "opened") {
		t.Errorf("used: %s", a.text)
	}

	for body, status := range map[string]int{`{}`: 422, `{"doors":["lobby"]}`: 422, `{"doors":["garage"],"x":1}`: 422, `{"doors":null}`: 422} {
		if a := h.do(t, customer, "POST", consent, body); a.status != status || a.code() != "invalid-request" {
			t.Errorf("%s: %d %s", body, a.status, a.text)
		}
	}
	someone := customer
	someone.Subject = "cus_82"
	h.expect(t, someone, "POST", consent, `{"doors":["garage"]}`, 404, "grant-unknown")
	h.expect(t, shop, "POST", consent, `{"doors":["garage"]}`, 403, "insufficient-scope")
	street := h.dispatch(t, "P2", map[string]any{"destination.building_id": nil})
	h.expect(t, customer, "POST", "/v1/handoffs/"+street+"/consent", `{"doors":["garage"]}`, 422, "no-consent-needed")
}

func TestImpossibleJourney(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	h.dispatch(t, "P2", map[string]any{
		"destination.building_id": "bld_munich", "destination.location": map[string]any{"lat": 48.1371, "lon": 11.5754},
	})
	h.expect(t, ops, "PUT", "/v1/buildings/bld_munich", buildingJSON, 200, "")
	h.expect(t, ops, "PUT", "/v1/doors/munich", strings.NewReplacer("bld_turm5", "bld_munich", "52.5256", "48.1371", "13.3421", "11.5754").
		Replace(doorJSON("gate", "connected")), 200, "")
	munich := unlockBody("P2", `"location":{"lat":48.1371,"lon":11.5754,"accuracy_m":5}`)
	h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "")
	h.Clock.Advance(time.Hour)
	if a := h.expect(t, courier, "POST", "/v1/doors/munich/unlock", munich, 403, "access-refused"); a.body["reason"] != "impossible-journey" {
		t.Errorf("500 km in an hour: %s", a.text)
	}
	if n := handofftest.Count(h.Events(t), handoff.EventImpossible); n != 1 {
		t.Errorf("%d events", n)
	}
	h.Clock.Advance(4 * time.Hour)
	h.expect(t, courier, "POST", "/v1/doors/munich/unlock", munich, 200, "")
}

func TestDoorThatDoesNotAnswer(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	gate := h.physical(t, "gate", false)
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected", `"public_key":"`+gate.key.Public().String()+`"`), 200, "")
	permit := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "").body["permit_id"].(string)
	state := func(after time.Duration, want string) {
		t.Helper()
		h.Clock.Advance(after)
		if _, err := h.Service.Sweep(background, 100); err != nil {
			t.Fatal(err)
		}
		if a := h.expect(t, courier, "GET", "/v1/doors/gate/unlocks/"+permit, "", 200, ""); a.body["state"] != want {
			t.Errorf("%s, want %s", a.text, want)
		}
	}
	state(14*time.Second, "authorised")
	state(time.Second, "no-answer")
	h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", gate.reports(t, h.Clock.Now(), permit, door.Confirmed), 200, "")
	state(time.Minute, "confirmed")
}

func TestReports(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	gate := h.physical(t, "gate", false)
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected", `"public_key":"`+gate.key.Public().String()+`"`), 200, "")
	permit := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "").body["permit_id"].(string)
	reports := "/v1/doors/gate/reports"

	var mixed struct {
		Reports []string `json:"reports"`
	}
	unmarshal := func(body string) {
		if err := json.Unmarshal([]byte(body), &mixed); err != nil {
			t.Fatal(err)
		}
	}
	unmarshal(gate.reports(t, h.Clock.Now(), permit, door.Delivered, door.Confirmed))
	good := slices.Clone(mixed.Reports)
	unregistered := h.physical(t, "gate", false)
	unmarshal(unregistered.reports(t, h.Clock.Now(), permit, door.Opened))
	forged := mixed.Reports[0]
	body, err := json.Marshal(map[string]any{"reports": []string{"!", good[0], forged, "", good[1], good[1][:20]}})
	if err != nil {
		t.Fatal(err)
	}
	a := h.expect(t, asDoor("gate"), "POST", reports, string(body), 200, "")
	if want := `{"accepted":2,"refused":[{"index":0,"code":"bad-report"},{"index":2,"code":"bad-report"},{"index":3,"code":"bad-report"},{"index":5,"code":"bad-report"}]}`; a.text != want {
		t.Errorf("got  %s\nwant %s", a.text, want)
	}
	again := h.expect(t, asDoor("gate"), "POST", reports, string(body), 200, "")
	if again.text != a.text {
		t.Errorf("said again: %s", again.text)
	}

	// What has no grant, or none any more, is taken all the same, or no door could ever
	// empty its outbox.
	unknown := strings.Repeat("ab", 16)
	if a := h.expect(t, asDoor("gate"), "POST", reports, gate.reports(t, h.Clock.Now(), unknown, door.Delivered, door.Refused), 200, ""); a.text != `{"accepted":2,"refused":[]}` {
		t.Errorf("unknown permits: %s", a.text)
	}
	if a := h.expect(t, asDoor("gate"), "POST", reports, gate.reports(t, h.Clock.Now(), "", door.Refused, door.Forced, door.HeldOpen, door.Tamper), 200, ""); a.text != `{"accepted":4,"refused":[]}` {
		t.Errorf("alarms: %s", a.text)
	}
	for _, kind := range []string{"forced", "held-open", "tamper"} {
		if !strings.Contains(h.log.String(), `"level":"WARN","msg":"door alarm","door":"gate","kind":"`+kind+`"`) {
			t.Errorf("%s is not in the log", kind)
		}
	}
	// What is wrong with a lock is an alarm as well; a lock that does not answer is told of its permit.
	if a := h.expect(t, asDoor("gate"), "POST", reports, gate.reports(t, h.Clock.Now(), "", door.Jammed, door.BatteryLow, door.Unavailable), 200, ""); a.text != `{"accepted":3,"refused":[]}` {
		t.Errorf("faults: %s", a.text)
	}
	for _, kind := range []string{"jammed", "battery-low", "unavailable"} {
		if !strings.Contains(h.log.String(), `"level":"WARN","msg":"door alarm","door":"gate","kind":"`+kind+`"`) {
			t.Errorf("%s is not in the log", kind)
		}
	}
	m := h.send(t, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`latchkey_door_alarms_total{kind="battery-low"} 1`,
		`latchkey_door_alarms_total{kind="forced"} 1`, `latchkey_door_reports_total{result="recorded"} 4`, `latchkey_door_reports_total{result="permit-unknown"} 2`,
		`latchkey_door_reports_total{result="bad-report"} 8`, `latchkey_door_reports_total{result="ignored"} 1`,
	} {
		if !strings.Contains(m.text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	h.expect(t, asDoor("lobby"), "POST", reports, string(body), 404, "door-unknown")
	h.expect(t, asDoor("none"), "POST", "/v1/doors/none/reports", string(body), 404, "door-unknown")
	h.expect(t, asDoor("gate"), "POST", reports, `{"reports":[]}`, 422, "invalid-request")
	many, err := json.Marshal(map[string]any{"reports": slices.Repeat([]string{good[0]}, 101)})
	if err != nil {
		t.Fatal(err)
	}
	h.expect(t, asDoor("gate"), "POST", reports, string(many), 422, "invalid-request")
	hundred := bytes.Replace(many, []byte(`"`+good[0]+`",`), nil, 1)
	h.expect(t, asDoor("gate"), "POST", reports, string(hundred), 200, "")
	// A door that has no key cannot be believed.
	if a := h.expect(t, asDoor("garage"), "POST", "/v1/doors/garage/reports", string(hundred), 200, ""); a.body["accepted"] != 0.0 {
		t.Errorf("without a key: %s", a.text)
	}
}

// A door that does not know the key that signs refuses every permit. It is shown as refused,
// with the reason, in the log, in the events, in the access log and in a metric; also
// where the door could not tell which permit it was.
func TestADoorThatKnowsNoKey(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	gate := h.physical(t, "gate", false)
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected", `"public_key":"`+gate.key.Public().String()+`"`), 200, "")
	permit := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "").body["permit_id"].(string)
	says := func(id string, why door.Refusal) string {
		t.Helper()
		var about door.PermitID
		if id != "" && about.UnmarshalText([]byte(id)) != nil {
			t.Fatal("no permit")
		}
		gate.seq++
		raw, err := door.Report{Door: "gate", Seq: gate.seq, At: h.Clock.Now().Truncate(time.Second), State: door.Refused, Permit: about, Refusal: why}.Sign(gate.key)
		if err != nil {
			t.Fatal(err)
		}
		body := `{"reports":["` + base64.RawURLEncoding.EncodeToString(raw) + `"]}`
		h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", body, 200, "")
		return body
	}
	says(permit, door.UnknownKey)
	if a := h.expect(t, courier, "GET", "/v1/doors/gate/unlocks/"+permit, "", 200, ""); a.body["state"] != "refused" {
		t.Errorf("the unlock is %v", a.body["state"])
	}
	bare := says("", door.UnknownKey)
	h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", bare, 200, "") // the same again
	says("", door.Malformed)                                                     // somebody's rubbish says nothing of the door
	var told []handoff.Event
	for _, e := range h.Events(t) {
		if e.Type == handoff.EventDoorRefused {
			told = append(told, e)
		}
	}
	slices.SortFunc(told, func(a, b handoff.Event) int { return len(b.Grant.Hash) - len(a.Grant.Hash) })
	if len(told) != 2 || told[0].Reason != "unknown-key" || told[1].Reason != "unknown-key" || told[0].Permit.String() != permit || told[1].Door != "gate" {
		t.Errorf("the log has %+v", told)
	}
	if !strings.Contains(h.log.String(), `"msg":"door refuses","door":"gate","reason":"unknown-key"`) {
		t.Error("it is not in the service's log")
	}
	if m := h.send(t, httptest.NewRequest("GET", "/metrics", nil)); !strings.Contains(m.text, `latchkey_door_refusals_total{reason="unknown-key"} 3`) {
		t.Error("it is in no metric")
	}
}

// A door without a network is heard through the courier's phone: what it said of a
// permit counts whoever brings it, and nothing else does.
func TestReportsByTheCourier(t *testing.T) {
	h := house5(t)
	h.dispatch(t, "P1", nil)
	lobby := h.physical(t, "lobby", false)
	h.expect(t, manager, "PUT", "/v1/doors/lobby", doorJSON("lobby", "carried", `"public_key":"`+lobby.key.Public().String()+`"`), 200, "")
	permit := h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("P1", here, `"challenge":"Y2hhbGxlbmdlLTE"`), 200, "").body["permit_id"].(string)
	const reports = "/v1/doors/lobby/reports"
	bring := func(by auth.Principal, path, body, want string) {
		t.Helper()
		if a := h.expect(t, by, "POST", path, body, 200, ""); a.text != want {
			t.Errorf("got  %s\nwant %s", a.text, want)
		}
	}
	state := func(want string) {
		t.Helper()
		if a := h.expect(t, courier, "GET", "/v1/doors/lobby/unlocks/"+permit, "", 200, ""); a.body["state"] != want {
			t.Errorf("the state is %v, want %s", a.body["state"], want)
		}
	}
	const none = `{"accepted":0,"refused":[{"index":0,"code":"bad-report"}]}`
	bring(courier, reports, h.physical(t, "lobby", false).reports(t, h.Clock.Now(), permit, door.Opened), none)
	bring(courier, "/v1/doors/nowhere/reports", lobby.reports(t, h.Clock.Now(), permit, door.Opened), none)
	state("authorised")
	body := lobby.reports(t, h.Clock.Now(), permit, door.Delivered, door.Confirmed)
	bring(courier, reports, body, `{"accepted":2,"refused":[]}`)
	state("confirmed")
	bring(courier, reports, lobby.reports(t, h.Clock.Now(), permit, door.Relocked), `{"accepted":1,"refused":[]}`)
	bring(courier, reports, body, `{"accepted":2,"refused":[]}`)
	state("relocked")

	// An alarm counts once, whoever brings it.
	alarms := lobby.reports(t, h.Clock.Now(), "", door.Forced, door.Tamper)
	for _, who := range []auth.Principal{courier, courier, asDoor("lobby")} {
		bring(who, reports, alarms, `{"accepted":2,"refused":[]}`)
	}
	if n := strings.Count(h.log.String(), "door alarm"); n != 2 {
		t.Errorf("%d alarms, want 2", n)
	}

	// Who brings the newest alarm alone keeps no older one back.
	older, newer := lobby.reports(t, h.Clock.Now(), "", door.Forced), lobby.reports(t, h.Clock.Now(), "", door.Tamper)
	for _, late := range []string{newer, older, older} {
		bring(courier, reports, late, `{"accepted":1,"refused":[]}`)
	}
	if n := handofftest.Count(h.Events(t), handoff.EventDoorForced); n != 2 {
		t.Errorf("%d doors were forced, want 2", n)
	}
	h.expect(t, manager, "POST", reports, body, 403, "insufficient-scope")
	nobodys := courier
	nobodys.Carrier = ""
	if status := h.do(t, nobodys, "POST", reports, body).status; status == 200 {
		t.Error("a courier of no carrier was heard")
	}
}

func TestDoorKeys(t *testing.T) {
	list := []byte{1, 2, 3}
	h := newHouse(t, nil, func(c *api.Config) { c.Doors.Revocation = list })
	a := h.send(t, httptest.NewRequest("GET", "/v1/doors/keys", nil))
	var set door.KeySet
	if err := json.Unmarshal([]byte(a.text), &set); err != nil || !slices.Equal(set, h.signer.Publish()) || len(set) != 2 {
		t.Errorf("%v %v: %s", set, err, a.text)
	}
	if a.status != 200 || a.body["revocation"] != "AQID" || a.header.Get("Cache-Control") != "public, max-age=60" || strings.Contains(a.text, `"d"`) {
		t.Errorf("%d %s %v", a.status, a.text, a.header)
	}
	if a := newHouse(t, nil).send(t, httptest.NewRequest("GET", "/v1/doors/keys", nil)); !strings.Contains(a.text, `"revocation":null`) {
		t.Errorf("without a list: %s", a.text)
	}
}

func TestWithoutDoorKeys(t *testing.T) {
	h := house5(t, func(c *api.Config) { c.Doors = nil }) // doors can be registered ahead
	h.dispatch(t, "P1", nil)
	h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 503, "doors-not-configured")
	h.expect(t, asDoor("gate"), "GET", "/v1/doors/gate/permits", "", 503, "doors-not-configured")
	h.expect(t, courier, "GET", "/v1/doors/keys", "", 503, "doors-not-configured")
	if g := h.Parcel(t, "P1"); len(g.Unlocks) > 0 {
		t.Error("a permit was counted that nobody could sign")
	}
	c := api.Config{Rooms: rooms(h.World, h.Store), Callers: api.Callers{Verifier: nobody{}}, Clock: h.Clock}
	c.Doors = &api.Doors{Feed: h.Store}
	if _, err := api.New(c); err == nil {
		t.Error("doors without keys are accepted")
	}
}

// nobody is a verifier that knows no token.
type nobody struct{}

func (nobody) Verify(context.Context, string) (*auth.Principal, error) { return nil, auth.ErrToken }

// dial opens a door's stream.
func (h *house) dial(t testing.TB, addr, id, after string) (*http.Response, *bufio.Reader) {
	t.Helper()
	req := must(http.NewRequest("GET", "http://"+addr+"/v1/doors/"+id+"/permits", nil))
	req.Header.Set("Authorization", "Bearer "+h.token(t, asDoor(id)))
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

// event reads one event and skips comments. It is empty at the end of the stream.
func event(in *bufio.Reader) map[string]string {
	e := map[string]string{}
	for {
		line, err := in.ReadString('\n')
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); {
		case err != nil:
			return nil
		case line == "\n" && len(e) > 0:
			return e
		case name != "" && line[0] != ':' && line != "\n":
			e[name] = value
		}
	}
}

func TestPermitStream(t *testing.T) {
	list := []byte{1, 2, 3}
	h := house5(t, func(c *api.Config) { c.Doors.Revocation, c.Doors.Streams = list, 1 })
	addr := h.listen(t)
	send := func(kind, body string) {
		t.Helper()
		if err := h.Store.Send(background, "gate", door.Message{Kind: kind, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]string{} // of each message, by its body
	want := func(in *bufio.Reader, kind, body string) {
		t.Helper()
		e := event(in)
		if e["event"] != kind || e["data"] != base64.RawURLEncoding.EncodeToString([]byte(body)) || (e["id"] == "") != (kind == "revocation") {
			t.Errorf("%v, want %s %s", e, kind, body)
		}
		if id, known := ids[body]; known && id != e["id"] {
			t.Errorf("%s has the id %s, and had %s", body, e["id"], id)
		}
		ids[body] = e["id"]
	}
	send("permit", "one")
	resp, in := h.dial(t, addr, "gate", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	want(in, "revocation", "\x01\x02\x03")
	want(in, "permit", "one")
	send("recall", "two")
	want(in, "recall", "two")

	// Another door finds no room; the same door takes over, and resumes.
	if full, _ := h.dial(t, addr, "lobby", ""); full.StatusCode != 503 || full.Header.Get("Retry-After") == "" {
		t.Errorf("full: %d %v", full.StatusCode, full.Header)
	}
	send("permit", "three")
	want(in, "permit", "three")
	_, second := h.dial(t, addr, "gate", ids["two"])
	want(second, "revocation", "\x01\x02\x03")
	want(second, "permit", "three")
	if e := event(in); e != nil {
		t.Errorf("the older stream lives on: %v", e)
	}
	// A cursor that is none of ours begins with what there is.
	_, third := h.dial(t, addr, "gate", "*; DROP")
	want(third, "revocation", "\x01\x02\x03")
	want(third, "permit", "one")
	if a := h.expect(t, asDoor("lobby"), "GET", "/v1/doors/gate/permits", "", 404, "door-unknown"); a.status != 404 {
		t.Error(a.text)
	}
	h.expect(t, asDoor("none"), "GET", "/v1/doors/none/permits", "", 404, "door-unknown")
	// The end of the test shuts the service down while the third stream is open.
}

// A stream says that it lives, for longer than the server lets any other answer take,
// and gives its place back when the door is gone.
func TestPermitStreamLives(t *testing.T) {
	h := house5(t, func(c *api.Config) { c.Doors.Heartbeat, c.Doors.Streams = time.Millisecond, 1 })
	addr := h.listen(t)
	resp, in := h.dial(t, addr, "gate", "")
	for range 50 {
		line, err := in.ReadString('\n')
		if err != nil || (line != "\n" && line[0] != ':') {
			t.Fatalf("%q %v", line, err)
		}
	}
	resp.Body.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		next, _ := h.dial(t, addr, "lobby", "")
		next.Body.Close()
		if next.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a door that is gone is never given back")
		}
	}
}

// keypad hangs beside a door: it knows its key and its clock.
func keypad(t testing.TB) (pad *door.Keypad, registered string) {
	t.Helper()
	key, err := door.NewPINKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err1 := key.MarshalBinary()
	path := filepath.Join(t.TempDir(), "keypad")
	if err := errorsOf(err1, door.CreateKeypad(path)); err != nil {
		t.Fatal(err)
	}
	if pad, err = door.OpenKeypad(path, key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pad.Close() })
	return pad, base64.RawURLEncoding.EncodeToString(secret)
}

// A keypad's key goes in and never out, and stays until it is replaced or its mode goes.
func TestKeypadKeys(t *testing.T) {
	h := house5(t)
	stored := func() string {
		d, err := h.Store.Door(background, "pad")
		if err != nil || d == nil {
			t.Fatal(d, err)
		}
		return base64.RawURLEncoding.EncodeToString(d.Keypad)
	}
	_, first := keypad(t)
	_, second := keypad(t)
	put := func(body string, status int, code string) {
		t.Helper()
		a := h.expect(t, manager, "PUT", "/v1/doors/pad", body, status, code)
		got := h.do(t, manager, "GET", "/v1/doors/pad", "")
		for _, text := range []string{a.text, got.text, h.log.String()} {
			if strings.Contains(text, first) || strings.Contains(text, second) {
				t.Errorf("the key is shown: %s", text)
			}
		}
		delete(a.body, "removed")
		if status == 200 && !reflect.DeepEqual(got.body, a.body) {
			t.Errorf("put %s, got %s", a.text, got.text)
		}
	}
	with := func(key string) string { return doorJSON("lobby", "keypad", `"keypad_key":"`+key+`"`) }
	put(doorJSON("lobby", "keypad"), 422, "invalid-request")
	put(with(first), 200, "")
	if got := h.do(t, manager, "GET", "/v1/doors/pad", ""); got.body["has_keypad_key"] != true || got.body["mode"] != "keypad" {
		t.Errorf("got %s", got.text)
	}
	put(doorJSON("lobby", "keypad", `"geofence_m":12`), 200, "")
	if stored() != first {
		t.Error("a PUT without the key changed it")
	}
	put(with(second), 200, "")
	if stored() != second {
		t.Error("the key was not replaced")
	}
	put(doorJSON("lobby", "carried", `"keypad_key":"`+first+`"`), 422, "invalid-request")
	put(doorJSON("lobby", "carried"), 200, "")
	if stored() != "" {
		t.Error("a door without a keypad has a key")
	}
	put(doorJSON("lobby", "keypad"), 422, "invalid-request")
}

// The same decision as at any door, and then a PIN that the keypad accepts, that is
// nobody else's, and that the door reports on.
func TestKeypad(t *testing.T) {
	h := house5(t)
	grant := h.dispatch(t, "P1", nil)
	h.dispatch(t, "P2", nil)
	pad, key := keypad(t)
	beside := h.physical(t, "pad", false)
	h.expect(t, manager, "PUT", "/v1/doors/pad", doorJSON("lobby", "keypad", `"keypad_key":"`+key+`"`, `"public_key":"`+beside.key.Public().String()+`"`), 200, "")

	// Who is refused takes no PIN from others.
	for range 3 {
		if a := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1"), 403, "access-refused"); a.body["reason"] != "outside-geofence" {
			t.Errorf("elsewhere: %s", a.text)
		}
	}
	h.Clock.Advance(20 * time.Second)
	first := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here, `"attempt_id":"a1"`), 200, "")
	if _, permit := first.body["permit"]; permit || first.body["door_id"] != "pad" ||
		first.body["valid_from"] != "2026-11-24T10:59:30Z" || first.body["expires_at"] != "2026-11-24T11:01:30Z" {
		t.Errorf("this minute's: %s", first.text)
	}
	second := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P2", here), 200, "")
	if second.body["pin"] == first.body["pin"] || second.body["permit_id"] == first.body["permit_id"] ||
		second.body["valid_from"] != "2026-11-24T11:00:30Z" || second.body["expires_at"] != "2026-11-24T11:02:30Z" {
		t.Errorf("the next minute's: %s, after %s", second.text, first.text)
	}
	third := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here, `"attempt_id":"a2"`), 403, "access-refused")
	if third.body["reason"] != "keypad-busy" || third.header.Get("Retry-After") != "40" {
		t.Errorf("none is left: %v %s", third.header, third.text)
	}
	if again := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here, `"attempt_id":"a1"`), 200, ""); again.text != first.text {
		t.Errorf("the same attempt is answered\n%s, and before\n%s", again.text, first.text)
	}
	h.Clock.Advance(40 * time.Second)
	if third = h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here, `"attempt_id":"a2"`), 200, ""); third.body["valid_from"] != "2026-11-24T11:01:30Z" {
		t.Errorf("the same attempt in the next minute: %s", third.text)
	}
	if again := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here, `"attempt_id":"a1"`), 200, ""); again.text != first.text {
		t.Errorf("a minute later the same attempt is answered\n%s, and before\n%s", again.text, first.text)
	}

	for _, a := range []*answer{second, first} {
		id, err := pad.Enter(a.body["pin"].(string), h.Clock.Now())
		if err != nil || id.String() != a.body["permit_id"] {
			t.Errorf("the keypad: %v, %s", err, id)
		}
	}
	permit := first.body["permit_id"].(string)
	state := func(want string) {
		t.Helper()
		if a := h.expect(t, courier, "GET", "/v1/doors/pad/unlocks/"+permit, "", 200, ""); a.body["state"] != want {
			t.Errorf("want %s: %s", want, a.text)
		}
	}
	h.Clock.Advance(30 * time.Second)
	if _, err := h.Service.Sweep(background, 100); err != nil {
		t.Fatal(err)
	}
	state("authorised") // and not no-answer: people type when they type
	said := h.expect(t, asDoor("pad"), "POST", "/v1/doors/pad/reports", beside.reports(t, h.Clock.Now(), permit, door.Delivered, door.Confirmed), 200, "")
	if said.body["accepted"] != 2.0 {
		t.Errorf("reports: %s", said.text)
	}
	state("confirmed")

	// A new key is another keypad's: what was given out with the old one is over.
	_, other := keypad(t)
	h.expect(t, manager, "PUT", "/v1/doors/pad", doorJSON("lobby", "keypad", `"keypad_key":"`+other+`"`), 200, "")
	h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here, `"attempt_id":"a1"`), 403, "access-refused")

	seen := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
	events := fmt.Sprintf("%+v", h.Events(t))
	for _, a := range []*answer{first, second, third} {
		pin := a.body["pin"].(string)
		for where, text := range map[string]string{"the log": h.log.String(), "the events": events, "the customer's page": seen.text} {
			if strings.Contains(text, pin) {
				t.Errorf("%s: holds a PIN", where)
			}
		}
	}
}

// A keypad has no challenge to show: at a garage it asks for all else.
func TestKeypadOfAGarage(t *testing.T) {
	h := house5(t)
	grant := h.dispatch(t, "P1", nil)
	pad, key := keypad(t)
	h.expect(t, manager, "PUT", "/v1/doors/pad", doorJSON("garage", "keypad", `"keypad_key":"`+key+`"`), 200, "")
	refused := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here), 403, "access-refused")
	proofs := refused.body["proofs"].(map[string]any)
	if _, asked := proofs["presence"]; asked || proofs["consent"] != "missing" {
		t.Errorf("proofs: %s", refused.text)
	}
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["garage"]}`, 200, "")
	in := h.expect(t, courier, "POST", "/v1/doors/pad/unlock", unlockBody("P1", here), 200, "")
	if _, err := pad.Enter(in.body["pin"].(string), h.Clock.Now()); err != nil {
		t.Error(err)
	}
}
