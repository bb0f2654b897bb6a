package handoff_test

import (
	"errors"
	"fmt"
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

// While sixteen permits of a grant may still open their doors, there is no seventeenth: one
// of them would be forgotten, and could neither be taken back nor heard of.
func TestALivePermitIsNeverForgotten(t *testing.T) {
	w := world(t)
	ctx, at := t.Context(), handofftest.Home
	if err := w.Store.PutBuilding(ctx, Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	w.Dispatch(t, handofftest.Sample("p1"))
	ask := func(n int) (Permission, error) {
		id := fmt.Sprintf("d%d", n)
		if err := w.Store.PutDoor(ctx, Door{ID: id, Kind: Lobby, Mode: Connected, Location: &at, BuildingID: "bld_turm5"}); err != nil {
			t.Fatal(err)
		}
		return w.Service.Unlock(ctx, Knock{Courier: handofftest.Courier("c1"), Door: id, Parcel: "p1", Position: &Position{Point: at}})
	}
	var given []Permission
	for n := range 16 {
		p, err := ask(n)
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, p)
		w.Clock.Advance(time.Second)
	}
	for _, wait := range []time.Duration{0, 118 * time.Second} { // 16 and 134 seconds after the first
		w.Clock.Advance(wait)
		_, err := ask(16)
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Reason != TooManyPermits || refused.RetryAfter != 119*time.Second-wait {
			t.Fatalf("the seventeenth, %v later: %v, %+v", wait, err, refused)
		}
	}
	for _, p := range given {
		if _, _, err := w.Service.UnlockOf(ctx, p.Door.ID, p.Permit); err != nil {
			t.Errorf("%s is forgotten: %v", p.Door.ID, err)
		}
	}
	w.Clock.Advance(time.Second)
	if _, err := ask(17); err != nil {
		t.Fatal("the oldest is over:", err)
	}
	if _, err := ask(18); err == nil {
		t.Error("the second is not over")
	}
	for i, p := range given {
		if _, _, err := w.Service.UnlockOf(ctx, p.Door.ID, p.Permit); (err == nil) != (i > 0) {
			t.Errorf("%s: %v", p.Door.ID, err)
		}
	}
}

// A door is given up once, and what it says afterwards stands. That it said nothing is
// not for a door to say.
func TestNoAnswerIsSaidOnce(t *testing.T) {
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
	var refused *Refusal
	if err := w.Service.Reported(ctx, "d1", p.Permit, DoorSilent); !errors.As(err, &refused) || refused.Reason != UnknownAct {
		t.Errorf("a door says that it does not answer: %v", err)
	}
	state := func() DoorState {
		t.Helper()
		if _, err := w.Service.Sweep(ctx, 10); err != nil {
			t.Fatal(err)
		}
		u, _, err := w.Service.UnlockOf(ctx, "d1", p.Permit)
		if err != nil {
			t.Fatal(err)
		}
		return u.State
	}
	w.Clock.Advance(15 * time.Second)
	if got := state(); got != DoorSilent {
		t.Fatal(got)
	}
	if err := w.Service.Reported(ctx, "d1", p.Permit, DoorDelivered); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute)
	if got, n := state(), handofftest.Count(w.Events(t), EventDoorSilent); got != DoorDelivered || n != 1 {
		t.Errorf("%v, given up %d times", got, n)
	}
}
