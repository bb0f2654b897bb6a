package handoff_test

import (
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// A door goes on after it failed to lock, and after a permit that came too early: its
// later reports are news. What it said before never is.
func TestDoorsGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		said []DoorState
		want DoorState
		news int
	}{
		"all is well":              {[]DoorState{DoorDelivered, DoorConfirmed, DoorOpened, DoorRelocked}, DoorRelocked, 4},
		"a step is lost":           {[]DoorState{DoorConfirmed, DoorRelocked}, DoorRelocked, 2},
		"backwards is no news":     {[]DoorState{DoorOpened, DoorDelivered, DoorConfirmed}, DoorOpened, 1},
		"locked again has ended":   {[]DoorState{DoorConfirmed, DoorRelocked, DoorOpened, DoorFailed}, DoorRelocked, 2},
		"it did not lock at first": {[]DoorState{DoorDelivered, DoorConfirmed, DoorFailed, DoorOpened, DoorRelocked}, DoorRelocked, 5},
		"the permit was too early": {[]DoorState{DoorRefused, DoorDelivered, DoorConfirmed}, DoorConfirmed, 3},
	} {
		w := world(t)
		ctx, at := t.Context(), handofftest.Home
		if err := w.Store.PutBuilding(ctx, Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Store.PutDoor(ctx, Door{ID: "d1", Kind: Lobby, Mode: Connected, Location: &at, BuildingID: "bld_turm5"}); err != nil {
			t.Fatal(err)
		}
		w.Dispatch(t, handofftest.Sample("p1"))
		p, err := w.Service.Unlock(ctx, Knock{Courier: handofftest.Courier("c1"), Door: "d1", Parcel: "p1", Position: &Position{Point: at}})
		if err != nil {
			t.Fatal(err)
		}
		before := len(w.Events(t))
		for range 2 { // an outbox is sent again
			for _, state := range c.said {
				w.Clock.Advance(time.Second)
				if err := w.Service.Reported(ctx, "d1", p.Permit, state); err != nil {
					t.Fatal(err)
				}
			}
		}
		u, _, err := w.Service.UnlockOf(ctx, "d1", p.Permit)
		if err != nil || u.State != c.want || len(w.Events(t))-before != c.news {
			t.Errorf("%s: %v after %d news, want %v after %d (%v)", name, u.State, len(w.Events(t))-before, c.want, c.news, err)
		}
	}
}
