package main

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/api/auth"
	"latchkey/handoff/door"
)

const (
	gatePlace = `{"lat":52.5256,"lon":13.3421}`
	gateHere  = `"location":{"lat":52.5256,"lon":13.3421,"accuracy_m":5}`
)

// The whole way of a permit through the running program: a door dials in, a courier is
// let in, the door believes what it gets, says what it did, and hears of a recall.
func TestUnlock(t *testing.T) {
	t.Run("demo", func(t *testing.T) {
		demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T08:00:00Z", "--empty")
		c := client{t, demo.url(t)}
		token := func(p auth.Principal) string {
			return c.token(fmt.Sprintf(`{"scope":"%s","sub":"%s","carrier_id":"%s","shop_id":"%s","building_id":"%s"}`, p.Scopes[0], p.Subject, p.Carrier, p.Shop, p.Building))
		}
		now := func() time.Time {
			_, answer := c.do("GET", "/demo/clock", "", "")
			at, err := time.Parse(time.RFC3339Nano, answer["now"].(string))
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		unlockWith(t, demo, c, token, now)
	})
	t.Run("serve", func(t *testing.T) {
		keys := filepath.Join(t.TempDir(), "doors.json")
		if code, _, errs := once("keys", "doors", "new", keys); code != 0 {
			t.Fatal(errs)
		}
		s := newService(t)
		serve := start(t, append(s.args, "--door-keys", keys)...)
		unlockWith(t, serve, client{t, serve.url(t)}, func(p auth.Principal) string { return s.token(t, p) }, time.Now)
	})
}

// The PIN that the service answers is the one that the door accepts, once; and what the
// door then says of it is what the courier is shown.
func TestKeypad(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "doors.json")
	if code, _, errs := once("keys", "doors", "new", keys); code != 0 {
		t.Fatal(errs)
	}
	s := newService(t)
	serve := start(t, append(s.args, "--door-keys", keys)...)
	c := client{t, serve.url(t)}
	token := func(p auth.Principal) string { return s.token(t, p) }
	_, published := c.do("GET", "/v1/doors/keys", "", "")
	text, err := json.Marshal(published)
	if err != nil {
		t.Fatal(err)
	}
	site := enroll(t, "pad", text, "--keypad")
	key, err := os.ReadFile(filepath.Join(site.dir, "keypad.key"))
	if err != nil {
		t.Fatal(err)
	}
	errand(c, token, time.Now(), map[string]string{
		"pad": `"kind":"lobby","mode":"keypad","public_key":"` + site.public.String() + `","keypad_key":"` + strings.TrimSpace(string(key)) + `"`,
	})

	p := site.run(site.program("open", ""), site.program("close", ""), "--stdin", "--relock=50ms", "--url", c.url,
		"--token", token(auth.Principal{Subject: "pad", Scopes: []auth.Scope{auth.Door}}))
	courier, must := token(theCourier), c.must
	first := must("POST", "/v1/doors/pad/unlock", courier, `{"parcel_id":"P1",`+gateHere+`}`)
	second := must("POST", "/v1/doors/pad/unlock", courier, `{"parcel_id":"P1",`+gateHere+`}`)
	pin := first["pin"].(string)
	is(t, p.ask("pin "+pin), `{"result":"opened"}`)
	is(t, p.ask("pin "+pin), `{"result":"refused","reason":"used-pin"}`)
	is(t, p.ask("pin "+second["pin"].(string)), `{"result":"opened"}`)
	for _, a := range []map[string]any{first, second} {
		await(t, "the door to say that it is locked again", func() bool {
			return must("GET", "/v1/doors/pad/unlocks/"+a["permit_id"].(string), courier, "")["state"] == "relocked"
		})
	}
	p.stop()
	if code := serve.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for where, log := range map[string]string{"service": serve.err.String(), "door": p.err.String()} {
		if strings.Contains(log, pin) || strings.Contains(log, strings.TrimSpace(string(key))) {
			t.Errorf("the log of the %s holds a PIN or its key", where)
		}
	}
}

func unlockWith(t *testing.T, program *program, c client, token func(auth.Principal) string, now func() time.Time) {
	t.Helper()
	controller := token(auth.Principal{Subject: "gate", Scopes: []auth.Scope{auth.Door}})
	courier := token(theCourier)
	warehouse := token(theWarehouse)
	must := c.must

	own, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	grant := errand(c, token, now(), map[string]string{"gate": `"kind":"gate","mode":"connected","relock_s":9,"public_key":"` + own.Public().String() + `"`})

	status, published := c.do("GET", "/v1/doors/keys", "", "")
	text, err := json.Marshal(published)
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	var keys door.KeySet
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	gate := newGate(t, keys)

	req, err := http.NewRequestWithContext(t.Context(), "GET", c.url+"/v1/doors/gate/permits", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+controller)
	stream, err := http.DefaultClient.Do(req)
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", stream, err)
	}
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	next := func(want string) string {
		t.Helper()
		kind := ""
		for events.Scan() {
			name, value, _ := strings.Cut(events.Text(), ": ")
			switch name {
			case "event":
				kind = value
			case "data":
				if kind != want {
					t.Fatalf("a %s came, want a %s", kind, want)
				}
				return value
			}
		}
		t.Fatalf("the stream ended: %v", events.Err())
		return ""
	}
	asked := time.Now()
	first := must("POST", "/v1/doors/gate/unlock", courier, `{"parcel_id":"P1",`+gateHere+`}`)
	if got := next("permit"); got != first["permit"] {
		t.Error("the door gets another permit than the courier")
	}
	t.Logf("a permit was with its door after %v", time.Since(asked))
	raw, err := base64.RawURLEncoding.DecodeString(first["permit"].(string))
	if err != nil {
		t.Fatal(err)
	}
	permit, err := gate.Admit(raw, now())
	if err != nil {
		t.Fatal(err)
	}
	if permit.Relock != 9*time.Second {
		t.Errorf("the gate is told to lock again after %s", permit.Relock)
	}
	report, err := door.Report{Door: "gate", Seq: 1, At: now().Truncate(time.Second), State: door.Confirmed, Permit: permit.ID}.Sign(own)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"reports":["%s"]}`, base64.RawURLEncoding.EncodeToString(report))
	if said := must("POST", "/v1/doors/gate/reports", controller, body); said["accepted"] != 1.0 {
		t.Errorf("the report: %v", said)
	}
	if seen := must("GET", "/v1/doors/gate/unlocks/"+permit.ID.String(), courier, ""); seen["state"] != "confirmed" {
		t.Errorf("the courier sees %v", seen)
	}

	second := must("POST", "/v1/doors/gate/unlock", courier, `{"parcel_id":"P1",`+gateHere+`}`)
	next("permit")
	must("POST", "/v1/dispatches/"+grant+"/recall", warehouse, `{"reason":"Cancelled"}`)
	recall, err := base64.RawURLEncoding.DecodeString(next("recall"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Recall(recall, now()); err != nil {
		t.Fatal(err)
	}
	if raw, err = base64.RawURLEncoding.DecodeString(second["permit"].(string)); err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Admit(raw, now()); !errors.Is(err, door.Recalled) {
		t.Errorf("after the recall: %v", err)
	}
	if status, refused := c.do("POST", "/v1/doors/gate/unlock", courier, `{"parcel_id":"P1",`+gateHere+`}`); status != http.StatusForbidden || refused["reason"] != "recalled" {
		t.Errorf("after the recall: %d %v", status, refused)
	}

	if code := program.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for events.Scan() { // the stream ends with the service, and not in the middle of an event
		t.Logf("after the end: %q", events.Text())
	}
	if err := events.Err(); err != nil {
		t.Errorf("the stream was cut off: %v", err)
	}
}

var (
	theManager   = auth.Principal{Subject: "m", Building: "bld_1", Scopes: []auth.Scope{auth.Building}}
	theCourier   = auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}
	theWarehouse = auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}}
	theOperator  = auth.Principal{Subject: "o", Scopes: []auth.Scope{auth.Ops}}
)

// errand sets up what brings the courier before doors: a building with them, the courier
// on its route today, and parcel P1 on its way there. It gives the grant's id.
func errand(c client, token func(auth.Principal) string, now time.Time, doors map[string]string) string {
	c.t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		c.t.Fatal(err)
	}
	day := now.In(berlin).Format(time.DateOnly)
	manager, operator := token(theManager), token(theOperator)
	c.must("PUT", "/v1/buildings/bld_1", manager, `{"name":"One","address":"Turmstr. 5","time_zone":"Europe/Berlin","location":`+gatePlace+`,"carriers":["swift"]}`)
	for id, about := range doors {
		c.must("PUT", "/v1/doors/"+id, manager, `{"building_id":"bld_1","location":`+gatePlace+`,`+about+`}`)
	}
	c.must("PUT", "/v1/couriers/swift/cou_7", operator, `{"name":"Courier 7","cleared_until":"2030-01-01"}`)
	c.must("PUT", "/v1/routes/swift/R1/"+day, operator, `{"courier_id":"cou_7"}`)
	return c.must("POST", "/v1/dispatches", token(theWarehouse), `{"parcel_id":"P1","carrier_id":"swift","route_id":"R1","delivery_date":"`+day+`",
		"value":{"amount":"1","currency":"EUR"},"customer":{"id":"cus_1","email":"customer@shop.example"},
		"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","building_id":"bld_1"}}`)["grant_id"].(string)
}

// newGate is the verifier of a door that was enrolled with the service's keys.
func newGate(t *testing.T, keys door.KeySet) *door.Verifier {
	t.Helper()
	root, err := door.NewPrivateKey(rand.Reader)
	dir := t.TempDir()
	trustFile, replayFile := filepath.Join(dir, "trust"), filepath.Join(dir, "replay")
	if err := errors.Join(err, door.CreateTrust(trustFile), door.CreateReplay(replayFile)); err != nil {
		t.Fatal(err)
	}
	trust, err1 := door.OpenTrust(trustFile, root.Public(), keys...)
	replay, err2 := door.OpenReplay(replayFile)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(trust.Close(), replay.Close()) })
	v, err := door.NewVerifier("gate", trust, replay, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDoorKeysFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doors.json")
	keys := func() door.KeySet {
		t.Helper()
		s, _, err := (&serveCmd{DoorKeys: file}).doors()
		if err != nil {
			t.Fatal(err)
		}
		return s.Publish()
	}
	command := func(want int, args ...string) {
		t.Helper()
		var out, err output
		if code := run(t.Context(), append([]string{"keys", "doors"}, args...), streams{out: &out, err: &err}); code != want {
			t.Fatalf("%v: %d, want %d\n%s%s", args, code, want, out.String(), err.String())
		}
	}
	command(0, "new", file)
	made := keys()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || len(made) != 2 {
		t.Errorf("%v %v, %d keys", info.Mode(), err, len(made))
	}
	command(1, "new", file)
	command(1, "rotate", file) // its doors are to be asked
	command(0, "rotate", "--no-doors", file)
	if turned := keys(); turned[0] != made[1] || turned[1] != made[0] {
		t.Errorf("rotated: %v, before %v", turned, made)
	}
	command(1, "rotate", "--no-doors", file) // nothing is staged: no door would know the key
	command(1, "rotate", "--unstage", file)
	command(0, "rotate", "--stage", file)
	if staged := keys(); staged[0] != made[1] || staged[1] == made[0] || len(staged) != 2 {
		t.Errorf("staged: %v, before %v", staged, made)
	}
	command(0, "rotate", "--unstage", file)
	if taken := keys(); len(taken) != 1 || taken[0] != made[1] {
		t.Errorf("taken back: %v, before %v", taken, made)
	}
	command(0, "rotate", "--stage", file)
	if staged := keys(); staged[0] != made[1] || staged[1] == made[0] {
		t.Errorf("staged: %v, before %v", staged, made)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".doorkeys-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}

	open := filepath.Join(t.TempDir(), "open.json")
	if content, err := os.ReadFile(file); err != nil || os.WriteFile(open, content, 0o644) != nil {
		t.Fatal("no copy of the keys")
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("AQID\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, revocation, err := (&serveCmd{DoorKeys: file, DoorRevocation: list}).doors(); err != nil || string(revocation) != "\x01\x02\x03" {
		t.Errorf("%v %v", revocation, err)
	}
	for name, c := range map[string]serveCmd{
		"no such file": {DoorKeys: file + "x"}, "no keys": {DoorKeys: list}, "anybody's": {DoorKeys: open}, "list alone": {DoorRevocation: list}, "no list": {DoorKeys: file, DoorRevocation: file},
	} {
		if _, _, err := c.doors(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if s, _, err := (&serveCmd{}).doors(); s != nil || err != nil {
		t.Errorf("without a file: %v %v", s, err)
	}
}
