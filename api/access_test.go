package api_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
	"latchkey/notify/trailwriter"
)

// ledger enters what the log has.
func (h *house) ledger(t testing.TB) {
	t.Helper()
	signer, err := trail.AuditSigner(handofftest.Namer{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := trailwriter.New(trailwriter.Config{Store: h.Store, Signer: signer, Clock: h.Clock})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ended) // gives the lease up, for the next one
}

const accessLog = "/v1/buildings/bld_turm5/access-log"

// passages are those of a page at a door; what was registered meanwhile is counted.
func passages(a *answer) (atDoors []map[string]any, registered int) {
	for _, v := range a.body["passages"].([]any) {
		if p := v.(map[string]any); p["outcome"] != "rules-changed" && p["outcome"] != "door-changed" {
			atDoors = append(atDoors, p)
		} else {
			registered++
		}
	}
	return atDoors, registered
}

// lines are the passages of a page: outcome door carrier reason count.
func lines(a *answer) []string {
	var list []string
	atDoors, _ := passages(a)
	for _, p := range atDoors {
		text := func(name string) string { s, _ := p[name].(string); return s }
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s/%s %s %s %v", text("outcome"), text("door_kind"), text("door_id"), text("carrier_id"), text("reason"), p["count"])))
	}
	return list
}

func (h *house) auditKey(t testing.TB) trail.Key {
	t.Helper()
	keys := h.send(t, httptest.NewRequest("GET", "/v1/audit/keys", nil)).body["keys"].([]any)
	var key trail.Key
	if err := key.UnmarshalText([]byte(keys[0].(map[string]any)["x"].(string))); err != nil || len(keys) != 1 {
		t.Fatal(err, keys)
	}
	return key
}

// What a building sees of an ordinary day at its doors, what its residents can verify of
// it, and what neither ever sees.
func TestAccessLog(t *testing.T) {
	h := house5(t)
	key := h.auditKey(t)
	empty := h.expect(t, manager, "GET", accessLog, "", 200, "")
	if len(lines(empty)) != 0 || empty.body["next"] != nil {
		t.Errorf("before anything happened: %s", empty.text)
	}
	none := h.expect(t, manager, "GET", accessLog+"/export", "", 200, "")
	if r, err := trail.Verify(strings.NewReader(none.text), trail.Options{Key: key, Kept: []string{empty.body["head"].(string)}}); err != nil || r.Entries != 0 {
		t.Errorf("an empty log: %v %+v", err, r)
	}

	grant := h.dispatch(t, "P1", nil)
	h.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["garage"]}`, 200, "")
	gate := h.physical(t, "gate", false)
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected", `"public_key":"`+gate.key.Public().String()+`"`), 200, "")
	permit := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "").body["permit_id"].(string)
	h.Clock.Advance(time.Second)
	h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", gate.reports(t, h.Clock.Now(), permit, door.Delivered, door.Confirmed, door.Opened, door.Relocked), 200, "")
	h.Clock.Advance(time.Second)
	h.expect(t, courier, "POST", "/v1/doors/garage/unlock", unlockBody("P1", here, challenge), 200, "")
	h.Clock.Advance(time.Second)
	h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("P1", here), 403, "access-refused") // no challenge
	h.Clock.Advance(time.Second)
	rival := courier
	rival.Carrier = "rival"
	h.expect(t, rival, "POST", "/v1/doors/lobby/unlock", unlockBody("P1", here), 403, "access-refused") // another's parcel
	h.Clock.Advance(time.Second)
	alarm := gate.reports(t, h.Clock.Now(), "", door.Forced)
	for range 3 { // its answer was lost
		h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", alarm, 200, "")
	}
	h.ledger(t)

	page := h.expect(t, manager, "GET", accessLog, "", 200, "")
	want := []string{
		"forced gate/gate   1",
		"refused lobby/lobby rival parcel-unknown 1",
		"refused lobby/lobby swift access-refused 1",
		"authorised garage/ swift  1",
		"opened gate/gate swift  1",
	}
	if got := lines(page); !slices.Equal(got, want) {
		t.Errorf("the log reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	atDoors, registered := passages(page)
	opened := atDoors[4]
	if steps := opened["steps"].([]any); len(steps) != 5 || opened["permit_id"] != permit || steps[4].(map[string]any)["state"] != "relocked" {
		t.Errorf("what became of the permit: %v", opened)
	}
	if forced := atDoors[0]; forced["claimed_at"] == nil {
		t.Errorf("an alarm without the door's own time: %v", forced)
	}
	if ofOps := h.expect(t, ops, "GET", accessLog, "", 200, ""); ofOps.text != page.text {
		t.Errorf("ops sees %s", ofOps.text)
	}

	export := h.expect(t, manager, "GET", accessLog+"/export", "", 200, "")
	if got := export.header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("the export is %s", got)
	}
	head := page.body["head"].(string)
	r, err := trail.Verify(strings.NewReader(export.text), trail.Options{Key: key, Kept: []string{head, empty.body["head"].(string)}})
	if err != nil || registered == 0 || r.Entries != uint64(9+registered) || r.Head.Chain != "building:bld_turm5" {
		t.Errorf("the export: %v %+v", err, r)
	}
	for _, secret := range []string{"Sample", "cus_81", "4 links", "P1\"", "cou_7", "demo", grant, grant[:24], "customer@", "door\":\"garage", "door_id\":\"garage", "52.52"} {
		for what, text := range map[string]string{"page": page.text, "export": export.text} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds %q", what, secret)
			}
		}
	}

	// Who is not of the building does not learn that there is one.
	neighbor := auth.Principal{Subject: "n", Building: "bld_other", Scopes: []auth.Scope{auth.Building}}
	for _, path := range []string{accessLog, accessLog + "/export"} {
		foreign := h.expect(t, neighbor, "GET", path, "", 404, "building-unknown")
		if unknown := h.expect(t, ops, "GET", strings.Replace(path, "bld_turm5", "bld_none", 1), "", 404, "building-unknown"); unknown.text != foreign.text {
			t.Errorf("unknown %s, foreign %s", unknown.text, foreign.text)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=201", "?limit=x", "?limit=9999", "?before=0", "?before=x", "?before=9999999999999999"} {
		h.expect(t, manager, "GET", accessLog+query, "", 422, "invalid-request")
	}
}

// Pages cover every line once, and tell of each what came of it, however they are cut.
func TestAccessLogPages(t *testing.T) {
	h := house5(t)
	gate := h.physical(t, "gate", false)
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected", `"public_key":"`+gate.key.Public().String()+`"`), 200, "")
	for i := range 5 {
		parcel := fmt.Sprintf("P%d", i)
		h.dispatch(t, parcel, nil)
		permit := h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody(parcel, here), 200, "").body["permit_id"].(string)
		h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", gate.reports(t, h.Clock.Now(), permit, door.Confirmed, door.Opened), 200, "")
		h.ledger(t)
	}
	page := h.expect(t, manager, "GET", accessLog, "", 200, "")
	whole := lines(page)
	_, registered := passages(page)
	if want := slices.Repeat([]string{"opened gate/gate swift  1"}, 5); !slices.Equal(whole, want) {
		t.Fatalf("the whole log: %q", whole)
	}
	for limit := 1; limit <= 16; limit++ {
		seen := map[string]int{} // by permit
		pages := 0
		for before := ""; ; pages++ {
			page := h.expect(t, manager, "GET", fmt.Sprintf("%s?limit=%d%s", accessLog, limit, before), "", 200, "")
			atDoors, _ := passages(page)
			for _, p := range atDoors {
				if len(p["steps"].([]any)) != 3 || p["outcome"] != "opened" {
					t.Errorf("by %d: not the whole of it: %v", limit, p)
				}
				seen[p["permit_id"].(string)]++
			}
			next, more := page.body["next"].(string)
			if !more {
				break
			}
			before = "&before=" + next
		}
		if len(seen) != 5 || pages != (15+registered-1)/limit {
			t.Errorf("by %d: whole lines %v on %d pages", limit, seen, pages+1)
		}
		for permit, n := range seen {
			if n != 1 {
				t.Errorf("by %d: the permit %s comes %d times", limit, permit, n)
			}
		}
	}
}

// A courier who asks with parcels that do not exist fills no log, and learns nothing:
// an unknown parcel and another carrier's look alike and cost the same.
func TestStrangersAtADoor(t *testing.T) {
	counted := &counting{Store: embedded.New(t)}
	h := newHouse(t, counted)
	h.staff(t)
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 200, "")
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected"), 200, "")
	h.dispatch(t, "P1", map[string]any{"carrier_id": "rival"})

	var texts []string
	var costs []string
	for _, parcel := range []string{"P1", "NONE"} {
		counted.calls = nil
		texts = append(texts, h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody(parcel, here), 403, "access-refused").text)
		costs = append(costs, strings.Join(counted.calls, " "))
	}
	if texts[0] != texts[1] || costs[0] != costs[1] || costs[0] != "Prepare Tally Append" {
		t.Errorf("foreign %s (%s)\nunknown %s (%s)", texts[0], costs[0], texts[1], costs[1])
	}
	for i := range 98 {
		h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody(fmt.Sprintf("N%d", i), here), 403, "access-refused")
	}
	h.ledger(t)
	got := lines(h.expect(t, manager, "GET", accessLog, "", 200, ""))
	want := append([]string{"refused gate/gate swift parcel-unknown 40", "refused gate/gate swift parcel-unknown 20"},
		slices.Repeat([]string{"refused gate/gate swift parcel-unknown 1"}, 20)...)
	if !slices.Equal(got, want) {
		t.Errorf("100 refusals read\n%s", strings.Join(got, "\n"))
	}
	h.Clock.Advance(time.Hour)
	h.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("N", here), 403, "access-refused")
	h.ledger(t)
	if n := len(lines(h.expect(t, manager, "GET", accessLog, "", 200, ""))); n != len(want)+1 {
		t.Errorf("an hour later: %d lines", n)
	}
	if h.expect(t, courier, "POST", "/v1/doors/none/unlock", unlockBody("N", here), 403, "access-refused").text != texts[0] {
		t.Error("a door that is not there looks otherwise")
	}
}

// counting counts what an unlock asks of the store.
type counting struct {
	handofftest.Store
	calls []string
}

func (c *counting) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	c.calls = append(c.calls, "Prepare")
	return c.Store.Prepare(ctx, p)
}

func (c *counting) Commit(ctx context.Context, ch service.Change) error {
	c.calls = append(c.calls, "Commit")
	return c.Store.Commit(ctx, ch)
}

func (c *counting) Append(ctx context.Context, now handoff.Instant, e ...handoff.Event) error {
	c.calls = append(c.calls, "Append")
	return c.Store.Append(ctx, now, e...)
}

func (c *counting) Tally(ctx context.Context, name string, forget time.Duration) (int, error) {
	c.calls = append(c.calls, "Tally")
	return c.Store.Tally(ctx, name, forget)
}

// What a door says of its lock is an event of the building, and a line of its access log.
func TestFaultsOfALockAreOfTheBuilding(t *testing.T) {
	h := house5(t)
	gate := h.physical(t, "gate", false)
	h.expect(t, manager, "PUT", "/v1/doors/gate", doorJSON("gate", "connected", `"public_key":"`+gate.key.Public().String()+`"`), 200, "")
	h.expect(t, asDoor("gate"), "POST", "/v1/doors/gate/reports", gate.reports(t, h.Clock.Now(), "", door.BatteryLow, door.Jammed, door.Unavailable), 200, "")
	h.ledger(t)
	page := h.expect(t, manager, "GET", accessLog, "", 200, "")
	var got []string
	for _, line := range lines(page) {
		got = append(got, strings.Fields(line)[0])
	}
	if want := []string{"unavailable", "jammed", "battery-low"}; !slices.Equal(got, want) {
		t.Errorf("the log reads %v, want %v", got, want)
	}
	events := h.expect(t, ops, "GET", "/v1/events", "", 200, "").text
	for _, kind := range []string{"door_unavailable", "door_jammed", "door_battery_low"} {
		if !strings.Contains(events, `"type":"`+kind+`"`) {
			t.Errorf("%s is no event: %s", kind, events)
		}
	}
}
