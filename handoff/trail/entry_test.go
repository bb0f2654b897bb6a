package trail

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
)

// full is an event that says all that an event can.
func full(t handoff.EventType) eventlog.Logged {
	return eventlog.Logged{ID: eventlog.ID{Partition: 3, ID: "1795514400000-7"}, Event: handoff.Event{
		Type: t, Grant: handoff.GrantID{Hash: "0123456789abcdef01234567", Generation: 2}, At: 1795514400, Shop: "demo", Carrier: "swift", Parcel: "JJD1",
		Route: "BER-042", Courier: "cou_7", By: "door", Reason: handoff.VisitOver, Issue: 3, Distance: 20, Door: "door_4links", Consents: []handoff.TargetKind{handoff.Garage},
		Permit: handoff.PermitID{1}, Target: handoff.Lobby, Building: "bld_1", Awaited: true, Challenge: []byte("challenge"), Claimed: 1795514000, Count: 20,
		Device: "dddddddddddddddd", Who: "wwwwwwwwwwwwwwww", Link: "llllllllllllllll", Digest: []byte("digest"),
	}}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What a building may see is listed here, so that whoever adds to it adds it here.
func TestBuildingEntry(t *testing.T) {
	building, n, ok := BuildingEntry(full(handoff.EventAccessRefused))
	want := `{"seq":0,"at":1795514400,"what":"access_refused","door":"door_4links","kind":"lobby","carrier":"swift",` +
		`"permit":"01000000000000000000000000000000","reason":"visit-over","count":20}`
	if got := marshal(t, n); !ok || building != "bld_1" || got != want {
		t.Errorf("%v %s\n got %s\nwant %s", ok, building, got, want)
	}
	ofTheDoor := full(handoff.EventDoorForced)
	ofTheDoor.Event.Courier = ""
	if _, n, _ := BuildingEntry(ofTheDoor); n.Claimed != 1795514000 {
		t.Errorf("an alarm without the door's own time: %+v", n)
	}
	for _, private := range []handoff.TargetKind{handoff.Garage, handoff.Home} {
		for _, e := range []handoff.EventType{handoff.EventPermitted, handoff.EventDoorOpened, handoff.EventDoorForced} {
			l := full(e)
			l.Event.Target = private
			if _, n, ok := BuildingEntry(l); !ok || n.Kind != private.String() || strings.Contains(marshal(t, n), "4links") {
				t.Errorf("%s of a %s: %s", e, private, marshal(t, n))
			}
		}
	}
	for e := range handoff.EventType(math.MaxUint8) {
		_, _, ok := BuildingEntry(full(e))
		if want := slices.Contains(buildingEvents, e); ok != want {
			t.Errorf("%s concerns a building: %v", e, ok)
		}
		if atDoor := strings.HasPrefix(e.String(), "door_"); atDoor && !ok {
			t.Errorf("%s happens at a door, and its building does not see it", e)
		}
		if _, known := outcomes[e]; known != ok {
			t.Errorf("%s has no outcome", e)
		}
	}
	l := full(handoff.EventDoorOpened)
	l.Event.Building = ""
	if _, _, ok := BuildingEntry(l); ok {
		t.Error("an event of no building has one")
	}
}

func TestTrailEntry(t *testing.T) {
	want := `{"seq":0,"at":1795514400,"what":"released","door":"door_4links","kind":"lobby","carrier":"swift",` +
		`"permit":"01000000000000000000000000000000","reason":"visit-over","count":20,"distance":20,"claimed":1795514000,"id":"1795514400000-7",` +
		`"building":"bld_1","grant":"0123456789abcdef01234567-2","shop":"demo","parcel":"JJD1","route":"BER-042","courier":"cou_7","by":"door","who":"wwwwwwwwwwwwwwww","device":"dddddddddddddddd","link_maker":"llllllllllllllll"}`
	if got := marshal(t, TrailEntry(full(handoff.EventReleased))); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got := TrailEntry(full(0)); !reflect.DeepEqual(got, Entry{At: 1795514400, What: "unreadable", ID: "1795514400000-7"}) {
		t.Errorf("unreadable: %+v", got)
	}
}

func TestOutcomes(t *testing.T) {
	const permitted, delivered, confirmed, opened = handoff.EventPermitted, handoff.EventDoorDelivered, handoff.EventDoorConfirmed, handoff.EventDoorOpened
	const relocked, failed, refused, silent = handoff.EventDoorRelocked, handoff.EventDoorFailed, handoff.EventDoorRefused, handoff.EventDoorSilent
	for _, c := range []struct {
		events []handoff.EventType
		want   Outcome
	}{
		{[]handoff.EventType{permitted}, OutcomeAuthorised},
		{[]handoff.EventType{permitted, delivered}, OutcomeDelivered},
		{[]handoff.EventType{permitted, delivered, confirmed}, OutcomeConfirmed},
		{[]handoff.EventType{permitted, delivered, confirmed, relocked}, OutcomeConfirmed}, // nobody is known to have gone in
		{[]handoff.EventType{permitted, delivered, confirmed, opened}, OutcomeOpened},
		{[]handoff.EventType{permitted, delivered, confirmed, opened, relocked}, OutcomeOpened},
		{[]handoff.EventType{permitted, delivered, confirmed, opened, failed}, OutcomeNotRelocked},
		{[]handoff.EventType{permitted, delivered, confirmed, failed}, OutcomeNotRelocked},
		{[]handoff.EventType{permitted, delivered, confirmed, failed, opened}, OutcomeNotRelocked},
		{[]handoff.EventType{permitted, delivered, confirmed, opened, failed, relocked}, OutcomeOpened},
		{[]handoff.EventType{permitted, delivered, failed}, OutcomeFailed},
		{[]handoff.EventType{permitted, delivered, failed, opened}, OutcomeOpened},
		{[]handoff.EventType{permitted, refused}, OutcomeDoorRefused},
		{[]handoff.EventType{permitted, refused, confirmed}, OutcomeConfirmed},
		{[]handoff.EventType{permitted, silent}, OutcomeNoAnswer},
		{[]handoff.EventType{permitted, silent, opened}, OutcomeOpened}, // heard of late
		{[]handoff.EventType{permitted, relocked}, OutcomeRelocked},
		{[]handoff.EventType{opened}, OutcomeOpened}, // of a permit on a page long before
	} {
		var entries []Entry
		for i, e := range c.events {
			l := full(e)
			l.Event.At += handoff.Instant(i)
			_, n, _ := BuildingEntry(l)
			n.Seq = uint64(i + 1)
			entries = append(entries, n)
		}
		lines := passages(entries)
		if len(lines) != 1 || lines[0].Outcome != c.want || len(lines[0].Steps) != len(c.events) || lines[0].Seq != 1 {
			t.Errorf("%v: %+v, want %s", c.events, lines, c.want)
		}
	}
}

// What a door says long afterwards is a line of its own, and what follows it joins that.
func TestLateWordsAreALine(t *testing.T) {
	at := func(e handoff.EventType, seq uint64) Entry {
		_, n, _ := BuildingEntry(full(e))
		n.Seq = seq
		return n
	}
	lines := passages([]Entry{
		at(handoff.EventPermitted, 1), at(handoff.EventDoorSilent, 4), at(handoff.EventDoorDelivered, 1+oneLine), at(handoff.EventDoorConfirmed, 2+oneLine), at(handoff.EventDoorOpened, 3+oneLine),
	})
	var got []string
	for _, l := range lines {
		got = append(got, fmt.Sprint(l.Seq, " ", l.Outcome, " ", len(l.Steps)))
	}
	if want := fmt.Sprintf("1 delivered 3, %d opened 2", 2+oneLine); strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is done by a privilege is chained with all that says who did what to whom.
func TestTrailEntryOfAPrivilege(t *testing.T) {
	l := eventlog.Logged{ID: eventlog.ID{Partition: 5, ID: "1795514400000-7"}, Event: handoff.Event{
		Type: handoff.EventRouteAssigned, At: 1795514400, Carrier: "swift", Route: "BER-042", Day: &handoff.Date{Year: 2026, Month: 11, Day: 24},
		Courier: "cou_8", Relieved: "cou_7", By: "carrier", Who: "wwwwwwwwwwwwwwww", APIKey: "kkkk",
	}}
	want := `{"seq":0,"at":1795514400,"what":"route_assigned","carrier":"swift","id":"1795514400000-7","route":"BER-042","courier":"cou_8",` +
		`"by":"carrier","who":"wwwwwwwwwwwwwwww","api_key":"kkkk","relieved":"cou_7","day":"2026-11-24"}`
	if got := marshal(t, TrailEntry(l)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	l.Event = handoff.Event{
		Type: handoff.EventKeyChanged, At: 1795514400, By: "ops", Who: "wwwwwwwwwwwwwwww", Object: "kkkk",
		Scopes: []string{"dispatch", "shop"}, Shop: "demo", Changes: []string{handoff.Made},
	}
	want = `{"seq":0,"at":1795514400,"what":"key_changed","changes":"made","id":"1795514400000-7","shop":"demo","by":"ops","who":"wwwwwwwwwwwwwwww",` +
		`"object":"kkkk","scopes":"dispatch,shop"}`
	if got := marshal(t, TrailEntry(l)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if _, _, ok := BuildingEntry(l); ok {
		t.Error("a building is told of an API key")
	}
}
