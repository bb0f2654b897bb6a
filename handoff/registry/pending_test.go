package registry_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/registry"
)

// house is a building with a home, and its manager.
type house struct {
	*handofftest.World
	t    *testing.T
	home handoff.Door
}

var manager = registry.By{Role: handoff.RoleManager, Who: "0123456789abcdef"}

func newHouse(t *testing.T) *house {
	t.Helper()
	at := handofftest.Home
	h := &house{World: handofftest.New(t, embedded.New(t)), t: t, home: handoff.Door{
		ID: "home-4", Kind: handoff.Home, Mode: handoff.Connected, Location: &at, BuildingID: "bld", Unit: "4 links", Key: []byte("key"), Owner: customer("cus_4"),
	}}
	if err := h.Registry.Enroll(t.Context(), handoff.Building{ID: "bld", Zone: handofftest.Zone}); err != nil {
		t.Fatal(err)
	}
	h.put(h.home)
	return h
}

func customer(id string) *handoff.CustomerRef {
	return &handoff.CustomerRef{Shop: handofftest.Shop, ID: id}
}

func (h *house) put(d handoff.Door) handoff.Door {
	h.t.Helper()
	_, stands, err := h.Registry.ReplaceDoor(h.t.Context(), manager, d, registry.Match{})
	if err != nil {
		h.t.Fatal(err)
	}
	return stands
}

// owner is whose the home is now.
func (h *house) owner() string {
	h.t.Helper()
	d, err := h.Registry.Door(h.t.Context(), "home-4")
	if err != nil || d == nil || d.Owner == nil {
		h.t.Fatalf("%v, %v", d, err)
	}
	return d.Owner.ID
}

// told are the events about the home, in words.
func (h *house) told() []string {
	var told []string
	for _, e := range h.Events(h.t) {
		if e.Door == "home-4" {
			told = append(told, e.Type.String()+" "+strings.Join(e.Changes, " ")+" by "+e.By)
		}
	}
	return told
}

func TestAnOwnerChangeWaits(t *testing.T) {
	h := newHouse(t)
	taken := h.home
	taken.Owner, taken.Fence = customer("cus_9"), 50
	stands := h.put(taken)
	c := stands.Pending
	if c == nil || stands.Owner.ID != "cus_4" || stands.Fence != 50 || c.Owner.ID != "cus_9" || c.Due.Time().Sub(c.Asked.Time()) != 72*time.Hour {
		t.Fatalf("stands %+v, waits %+v", stands, c)
	}
	h.Clock.Advance(time.Hour)
	if again := h.put(taken); again.Pending.ID != c.ID || again.Pending.Due != c.Due {
		t.Errorf("asked for again it is another: %+v", again.Pending)
	}
	h.Clock.Advance(71*time.Hour - time.Second)
	if got := h.owner(); got != "cus_4" {
		t.Errorf("a second before it is due it is %s's", got)
	}
	h.Clock.Advance(time.Second)
	if got := h.owner(); got != "cus_9" {
		t.Errorf("when it is due, and not written, it is %s's", got)
	}
	if err := h.Registry.Object(t.Context(), manager, &stands, c.ID); !errors.Is(err, registry.ErrNoChange) {
		t.Errorf("an objection that is late: %v", err)
	}

	// Several instances write it at once, and tell it once.
	var all sync.WaitGroup
	for range 8 {
		other := registry.New(h.Core, h.Core, h.Clock)
		all.Go(func() {
			if err := other.SettleAll(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	d, err := h.Core.Door(t.Context(), "home-4")
	if err != nil || d.Pending != nil || d.Owner.ID != "cus_9" {
		t.Errorf("written is %+v, %v", d, err)
	}
	want := []string{
		"door_changed enrolled by manager", "door_changed geofence_m by manager", "door_change_asked owner by manager", "door_changed owner by manager",
	}
	if got := h.told(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if all, err := h.Registry.Bindings(t.Context(), "home-4", 0); err != nil || len(all) != 2 || all[1].Owner.ID != "cus_4" {
		t.Errorf("whose it is and was: %+v, %v", all, err)
	}
}

func TestAChangeIsStopped(t *testing.T) {
	h := newHouse(t)
	theirs := registry.By{Role: "resident", Who: "r"}
	taken := h.home
	taken.Owner = customer("cus_9")

	stands := h.put(taken)
	if err := h.Registry.Object(t.Context(), theirs, &stands, stands.Pending.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Registry.Object(t.Context(), theirs, &stands, stands.Pending.ID); !errors.Is(err, registry.ErrNoChange) {
		t.Errorf("a second time: %v", err)
	}
	h.Clock.Advance(100 * time.Hour)
	if got := h.owner(); got != "cus_4" {
		t.Errorf("after the objection it is %s's", got)
	}

	first := h.put(taken)
	if back := h.put(h.home); back.Pending != nil {
		t.Errorf("taken back, %+v waits", back.Pending)
	}
	if err := h.Registry.Approve(t.Context(), theirs, &first, first.Pending.ID); !errors.Is(err, registry.ErrNoChange) {
		t.Errorf("agreed to what was taken back: %v", err)
	}

	again := h.put(taken)
	if err := h.Registry.Approve(t.Context(), theirs, &again, again.Pending.ID); err != nil {
		t.Fatal(err)
	}
	if got := h.owner(); got != "cus_9" {
		t.Errorf("agreed to, it is %s's", got)
	}
	want := []string{
		"door_changed enrolled by manager", "door_change_asked owner by manager", "door_change_objected owner by resident",
		"door_change_asked owner by manager", "door_change_withdrawn owner by manager",
		"door_change_asked owner by manager", "door_change_approved owner by resident", "door_changed owner by manager",
	}
	if got := h.told(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// To close a door or revoke its key waits for nothing; to open it for another by way of that does.
func TestClosingIsImmediate(t *testing.T) {
	h := newHouse(t)
	revoked := h.home
	revoked.Key = nil
	if stands := h.put(revoked); stands.Key != nil || stands.Pending != nil {
		t.Errorf("revoked: %+v", stands)
	}
	other := h.home
	other.Key = []byte("another")
	if stands := h.put(other); stands.Key != nil || stands.Pending == nil || !slices.Equal(stands.Pending.Changes, []string{"public_key"}) {
		t.Errorf("another key after none: %+v", stands)
	}
	d, err := h.Registry.Door(t.Context(), "home-4")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Registry.RemoveDoor(t.Context(), manager, *d); err != nil {
		t.Fatal(err)
	}
	if d, err := h.Registry.Door(t.Context(), "home-4"); d != nil || err != nil {
		t.Errorf("removed: %+v, %v", d, err)
	}
	taken := h.home
	taken.Owner, taken.Kind, taken.Unit = nil, handoff.Lobby, ""
	if stands := h.put(taken); stands.Kind != handoff.Home || stands.Owner.ID != "cus_4" || stands.Unit != "4 links" || stands.Pending == nil {
		t.Errorf("registered again as a lobby: %+v", stands)
	}
	if got := h.told(); !slices.Contains(got, "door_change_withdrawn public_key by manager") {
		t.Errorf("told %q", got)
	}
}

// Each change is mailed, so that there are not more than people read.
func TestNotTooManyChangesAreAskedFor(t *testing.T) {
	h := newHouse(t)
	asked := 0
	for i := range 40 {
		taken := h.home
		taken.Owner = customer("cus_" + string(rune('a'+i)))
		switch _, _, err := h.Registry.ReplaceDoor(t.Context(), manager, taken, registry.Match{}); {
		case err == nil:
			asked++
		case !errors.Is(err, registry.ErrTooManyChanges):
			t.Fatal(err)
		}
		if i%2 == 1 {
			h.put(h.home)
		}
		h.Clock.Advance(time.Minute)
	}
	if asked != 10 {
		t.Errorf("%d changes were asked for in an hour", asked)
	}
	h.Clock.Advance(72 * time.Hour)
	taken := h.home
	taken.Owner = customer("cus_9")
	h.put(taken)
}
