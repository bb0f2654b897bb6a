package residents_test

import (
	"context"
	"fmt"
	"testing"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
)

// counted counts what a directory asks of its store and its log.
type counted struct {
	residents.Store
	residents.Log
	trips int
	asked int // to confirm an address
}

func (c *counted) Resident(ctx context.Context, building string, id handoff.ResidentID) (*residents.Resident, error) {
	c.trips++
	return c.Store.Resident(ctx, building, id)
}

func (c *counted) PutResident(ctx context.Context, r residents.Resident) error {
	c.trips++
	return c.Store.PutResident(ctx, r)
}

func (c *counted) Mark(ctx context.Context, m residents.Mark) (int, bool, error) {
	c.trips++
	return c.Store.Mark(ctx, m)
}

func (c *counted) Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error {
	c.trips++
	c.asked++
	return c.Log.Append(ctx, now, events...)
}

func directory(t *testing.T) (*residents.Directory, *counted, *handofftest.World) {
	t.Helper()
	store := embedded.New(t)
	w := handofftest.New(t, store)
	for i := range 6 {
		var b handoff.Building
		b.ID = fmt.Sprintf("bld_%d", i)
		if err := store.PutBuilding(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	c := &counted{Store: store, Log: store}
	return residents.NewDirectory(c, registry.New(store, store, w.Clock), c, w.Clock, handofftest.Namer{}), c, w
}

// One address is asked three times a day, however many buildings there are.
func TestAnAddressIsAskedThreeTimesADay(t *testing.T) {
	d, c, _ := directory(t)
	for i := range 6 {
		if err := d.Subscribe(t.Context(), fmt.Sprintf("bld_%d", i), residents.Subscription{Address: "victim@home.example"}); err != nil {
			t.Fatal(err)
		}
	}
	if c.asked != residents.AsksOfAddress {
		t.Errorf("one address was asked %d times in a day", c.asked)
	}
	if err := d.Subscribe(t.Context(), "bld_5", residents.Subscription{Address: "other@home.example"}); err != nil || c.asked != residents.AsksOfAddress+1 {
		t.Errorf("another address: %d, %v", c.asked, err)
	}
}

// How much work an answer takes tells neither whether the building is there, nor whether the
// address is known, nor whether it has been asked enough.
func TestAskingTakesTheSameWork(t *testing.T) {
	d, c, _ := directory(t)
	ask := func(building, address string) int {
		t.Helper()
		before := c.trips
		if err := d.Subscribe(t.Context(), building, residents.Subscription{Address: address}); err != nil {
			t.Fatal(err)
		}
		return c.trips - before
	}
	want := ask("bld_0", "new@home.example")
	if c.asked != 1 || want < 5 {
		t.Fatalf("asked %d times, in %d trips", c.asked, want)
	}
	for name, got := range map[string]int{
		"asked just now":      ask("bld_0", "new@home.example"),
		"no building":         ask("bld_none", "new@home.example"),
		"neither":             ask("bld_none", "unknown@home.example"),
		"at another building": ask("bld_1", "new@home.example"),
		"and at a third":      ask("bld_2", "new@home.example"),
		"asked enough":        ask("bld_3", "new@home.example"),
	} {
		if got != want {
			t.Errorf("%s: %d trips, and %d where it is asked", name, got, want)
		}
	}
	for i := range residents.AsksPerDay + 5 {
		if got := ask("bld_4", fmt.Sprintf("r%d@home.example", i)); got != want {
			t.Errorf("question %d of the building: %d trips, want %d", i+1, got, want)
		}
	}
}
