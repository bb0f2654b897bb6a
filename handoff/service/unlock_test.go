package service_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// betweenTrips is a store to which something happens before a trip that reserves a PIN, and
// which may lose what the trip said.
type betweenTrips struct {
	handofftest.Core
	before func(service.PermitRef) error
}

// A PIN that was reserved and then not given out is there for the next courier: the grant
// was recalled meanwhile, the store failed after it was reserved, the door got another key, or
// its minute passed.
func TestAReservedPINIsGivenBack(t *testing.T) {
	for name, happens := range map[string]func(t *testing.T, w *handofftest.World) (want handoff.Reason, err error){
		"recalled": func(t *testing.T, w *handofftest.World) (handoff.Reason, error) {
			_, err := w.Service.Recall(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}, w.Parcel(t, "p1").ID, "")
			if err != nil {
				t.Fatal(err)
			}
			return handoff.IsRecalled, nil
		},
		"the store failed": func(*testing.T, *handofftest.World) (handoff.Reason, error) { return "", storage.ErrUnavailable },
		"another key": func(t *testing.T, w *handofftest.World) (handoff.Reason, error) {
			putPad(t, w, "another keypad's key of")
			return "", nil
		},
		"another minute": func(_ *testing.T, w *handofftest.World) (handoff.Reason, error) {
			w.Clock.Advance(time.Minute)
			return "", nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := &betweenTrips{Core: handofftest.NewMemory(), before: func(service.PermitRef) error { return nil }}
			w := handofftest.New(t, store)
			w.Cleared(t, "c1")
			w.Drives(t, "c1", handofftest.Route, handofftest.Today)
			putPad(t, w, "a keypad's key of 23 by")
			w.Dispatch(t, handofftest.Sample("p1"))
			w.Dispatch(t, handofftest.Sample("p2"))
			var reserved []service.PermitRef
			var want handoff.Reason
			trips := 0
			store.before = func(ref service.PermitRef) (err error) {
				if trips++; trips > 1 { // the first finds out that it is a keypad
					reserved = append(reserved, ref)
				}
				if trips == 2 {
					want, err = happens(t, w)
				}
				return err
			}
			k := service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "pad", Parcel: "p1", Position: &handoff.Position{Point: handofftest.Home}}
			got, err := w.Service.Unlock(t.Context(), k)
			var refused *handoff.Refusal
			if errors.As(err, &refused) != (want != "") || want != "" && refused.Reason != want {
				t.Fatalf("%v, want %s", err, want)
			}
			store.before = func(service.PermitRef) error { return nil }
			for i, ref := range reserved {
				kept, err := w.Core.Permit(t.Context(), ref.Permit)
				if err != nil || (kept != nil) != (ref.Permit == got.Permit) {
					t.Errorf("reservation %d of %d: %+v %v", i+1, len(reserved), kept, err)
				}
			}
			if len(reserved) == 0 {
				t.Error("nothing was reserved")
			}
			k.Parcel = "p2"
			if p, err := w.Service.Unlock(t.Context(), k); err != nil || p.Permit == got.Permit || got.Minute == 0 && p.Minute != uint64(w.Clock.Now().Unix()/60) {
				t.Errorf("the next courier: %+v %v", p.Minute, err)
			}
		})
	}
}

func putPad(t *testing.T, w *handofftest.World, key string) {
	t.Helper()
	if err := w.Core.PutBuilding(t.Context(), handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Core.PutDoor(t.Context(), handoff.Door{ID: "pad", Kind: handoff.Lobby, Mode: handoff.Keypad, BuildingID: "bld_turm5", Keypad: handoff.KeypadKey(key), Location: &handofftest.Home}); err != nil {
		t.Fatal(err)
	}
}

// meanwhile is a store in which something happens between one reading and what is made of it.
type meanwhile struct {
	handofftest.Core
	door string
	once func()
}

// A courier who asks at two distant doors at once is let through one of them: neither
// request can overlook the other.
func TestTwoDistantDoorsAtOnce(t *testing.T) {
	store := &meanwhile{Core: handofftest.NewMemory(), door: "gate"}
	w := handofftest.New(t, store)
	ctx := t.Context()
	w.Cleared(t, "c1")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	far := handoff.PointOf(48.137, 11.575)
	for id, at := range map[string]handoff.Point{"gate": handofftest.Home, "far": far} {
		if err := w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_" + id, Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Core.PutDoor(ctx, handoff.Door{ID: id, Kind: handoff.Gate, Mode: handoff.Connected, Location: &at, BuildingID: "bld_" + id}); err != nil {
			t.Fatal(err)
		}
		d := handofftest.Sample("p-" + id)
		d.To.Building = "bld_" + id
		w.Dispatch(t, d)
	}
	unlock := func(id string, at handoff.Point) error {
		_, err := w.Service.Unlock(ctx, service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: id, Parcel: "p-" + id, Position: &handoff.Position{Point: at}})
		return err
	}
	store.once = func() {
		if err := unlock("far", far); err != nil {
			t.Errorf("the one that came between: %v", err)
		}
	}
	if err := unlock("gate", handofftest.Home); refusal(err) != handoff.ImpossibleJourney {
		t.Errorf("the other: %v", err)
	}
	if n := handofftest.Count(w.Events(t), handoff.EventImpossible); n != 1 {
		t.Errorf("%d impossible journeys were told", n)
	}
}

func (b *betweenTrips) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	if p.Permit != nil {
		if err := b.before(*p.Permit); err != nil {
			_, _ = b.Core.Prepare(ctx, p)
			return service.Snapshot{}, err
		}
	}
	return b.Core.Prepare(ctx, p)
}

func (m *meanwhile) Prepare(ctx context.Context, q service.Preparation) (service.Snapshot, error) {
	snap, err := m.Core.Prepare(ctx, q)
	if once := m.once; once != nil && q.Door == m.door {
		m.once = nil
		once()
	}
	return snap, err
}

// A door goes on after it failed to lock, and after a permit that came too early: its
// later reports are news. What it said before never is.
func TestDoorsGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		said []handoff.DoorState
		want handoff.DoorState
		news int
	}{
		"all is well":              {[]handoff.DoorState{handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked}, handoff.DoorRelocked, 4},
		"a step is lost":           {[]handoff.DoorState{handoff.DoorConfirmed, handoff.DoorRelocked}, handoff.DoorRelocked, 2},
		"backwards is no news":     {[]handoff.DoorState{handoff.DoorOpened, handoff.DoorDelivered, handoff.DoorConfirmed}, handoff.DoorOpened, 1},
		"locked again has ended":   {[]handoff.DoorState{handoff.DoorConfirmed, handoff.DoorRelocked, handoff.DoorOpened, handoff.DoorFailed}, handoff.DoorRelocked, 2},
		"it did not lock at first": {[]handoff.DoorState{handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorFailed, handoff.DoorOpened, handoff.DoorRelocked}, handoff.DoorRelocked, 5},
		"the permit was too early": {[]handoff.DoorState{handoff.DoorRefused, handoff.DoorDelivered, handoff.DoorConfirmed}, handoff.DoorConfirmed, 3},
	} {
		w := world(t)
		ctx, at := t.Context(), handofftest.Home
		if err := w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Core.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Connected, Location: &at, BuildingID: "bld_turm5"}); err != nil {
			t.Fatal(err)
		}
		w.Dispatch(t, handofftest.Sample("p1"))
		p, err := w.Service.Unlock(ctx, service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "d1", Parcel: "p1", Position: &handoff.Position{Point: at}})
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
	if err := w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	w.Dispatch(t, handofftest.Sample("p1"))
	ask := func(n int) (service.Permission, error) {
		id := fmt.Sprintf("d%d", n)
		if err := w.Core.PutDoor(ctx, handoff.Door{ID: id, Kind: handoff.Lobby, Mode: handoff.Connected, Location: &at, BuildingID: "bld_turm5"}); err != nil {
			t.Fatal(err)
		}
		return w.Service.Unlock(ctx, service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: id, Parcel: "p1", Position: &handoff.Position{Point: at}})
	}
	var given []service.Permission
	for n := range 16 {
		p, err := ask(n)
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, p)
		w.Clock.Advance(time.Second)
	}
	for _, wait := range []time.Duration{0, 208 * time.Second} { // 16 and 224 seconds after the first
		w.Clock.Advance(wait)
		_, err := ask(16)
		var refused *handoff.Refusal
		if !errors.As(err, &refused) || refused.Reason != handoff.TooManyPermits || refused.RetryAfter != 209*time.Second-wait {
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

// A door is given up once, and what it says afterwards stands.
func TestNoAnswerIsSaidOnce(t *testing.T) {
	w := world(t)
	ctx, at := t.Context(), handofftest.Home
	if err := w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Core.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Connected, Location: &at, BuildingID: "bld_turm5"}); err != nil {
		t.Fatal(err)
	}
	w.Dispatch(t, handofftest.Sample("p1"))
	p, err := w.Service.Unlock(ctx, service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "d1", Parcel: "p1", Position: &handoff.Position{Point: at}})
	if err != nil {
		t.Fatal(err)
	}
	var refused *handoff.Refusal
	if err := w.Service.Reported(ctx, "d1", p.Permit, handoff.DoorAuthorised); !errors.As(err, &refused) || refused.Reason != handoff.UnknownAct {
		t.Errorf("a door says that it was authorised: %v", err)
	}
	state := func() handoff.DoorState {
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
	if got := state(); got != handoff.DoorSilent {
		t.Fatal(got)
	}
	if err := w.Service.Reported(ctx, "d1", p.Permit, handoff.DoorDelivered); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute)
	if got, n := state(), handofftest.Count(w.Events(t), handoff.EventDoorSilent); got != handoff.DoorDelivered || n != 1 {
		t.Errorf("%v, given up %d times", got, n)
	}
}

// handoff.Consent cannot be taken back once a permit may have been used: not one that its door
// refused, and not one of a day that is over.
func TestConsentIsUsedByAPermitThatMayOpen(t *testing.T) {
	for name, c := range map[string]struct {
		then func(w *handofftest.World, g handoff.Grant, p service.Permission) error
		want handoff.Reason
	}{
		"a permit": {func(*handofftest.World, handoff.Grant, service.Permission) error { return nil }, handoff.ConsentUsed},
		"refused by the door": {func(w *handofftest.World, _ handoff.Grant, p service.Permission) error {
			return w.Service.Reported(t.Context(), "garage", p.Permit, handoff.DoorRefused)
		}, ""},
		"of another day": {func(w *handofftest.World, g handoff.Grant, _ service.Permission) error {
			_, err := w.Service.Reschedule(t.Context(), shop, g.ID, g.Day().Next(), "")
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			ctx := t.Context()
			d := handofftest.Sample("p1")
			if err := w.Core.PutBuilding(ctx, handoff.Building{ID: d.To.Building, Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
				t.Fatal(err)
			}
			owner := handoff.CustomerRef{Shop: d.Shop, ID: d.Customer.ID}
			if err := w.Core.PutDoor(ctx, handoff.Door{ID: "garage", Kind: handoff.Garage, Mode: handoff.Connected, BuildingID: d.To.Building, Owner: &owner, Location: &handofftest.Home}); err != nil {
				t.Fatal(err)
			}
			g := w.Dispatch(t, d)
			customer := handoff.Actor{Role: handoff.RoleCustomer, Shop: d.Shop, Customer: d.Customer.ID}
			if _, err := w.Service.Consent(ctx, customer, g.ID, []handoff.TargetKind{handoff.Garage}); err != nil {
				t.Fatal(err)
			}
			p, err := w.Service.Unlock(ctx, service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "garage", Parcel: "p1", Challenge: []byte("12345678"), Position: &handoff.Position{Point: handofftest.Home}})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.then(w, g, p); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Service.Consent(ctx, customer, g.ID, nil); refusal(err) != c.want {
				t.Errorf("taking consent back: %v, want %q", err, c.want)
			}
		})
	}
}

// A repeated unlock is answered with its permit only while a new one would be given: the answer
// opens a door. A repeated verify is a receipt, and stays one.
func TestARepeatedPermitIsJudgedAgain(t *testing.T) {
	shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	yes := true
	for name, c := range map[string]struct {
		meanwhile func(*handofftest.World, handoff.GrantID) error
		want      handoff.Reason
	}{
		"nothing": {func(*handofftest.World, handoff.GrantID) error { return nil }, ""},
		"the courier is suspended": {func(w *handofftest.World, _ handoff.GrantID) error {
			return w.Core.PutCourier(t.Context(), handofftest.Courier("c1"), service.CourierUpdate{Suspended: &yes})
		}, handoff.CourierNotCleared},
		"the route is another's": {func(w *handofftest.World, _ handoff.GrantID) error {
			w.Cleared(t, "c2")
			w.Drives(t, "c2", handofftest.Route, handofftest.Today)
			return nil
		}, handoff.NotYourRoute},
		"the parcel is recalled": {func(w *handofftest.World, id handoff.GrantID) error {
			_, err := w.Service.Recall(t.Context(), shop, id, "")
			return err
		}, handoff.IsRecalled},
		"the parcel is held": {func(w *handofftest.World, id handoff.GrantID) error {
			_, err := w.Service.Hold(t.Context(), shop, id, "")
			return err
		}, handoff.OnHold},
		"the day is over": {func(w *handofftest.World, _ handoff.GrantID) error {
			w.Clock.Advance(13 * time.Hour)
			return nil
		}, handoff.WindowOver},
		"the building admits the carrier no more": {func(w *handofftest.World, _ handoff.GrantID) error {
			return w.Core.PutBuilding(t.Context(), handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{"rival"}})
		}, handoff.AccessRefused},
	} {
		t.Run(name, func(t *testing.T) {
			w := handofftest.New(t, handofftest.NewMemory())
			w.Cleared(t, "c1")
			w.Drives(t, "c1", handofftest.Route, handofftest.Today)
			putPad(t, w, "a keypad's key of 23 by")
			g := w.Dispatch(t, handofftest.Sample("p1"))
			r := service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "pad", Parcel: "p1", Attempt: "a1", Position: &handoff.Position{Point: handofftest.Home}}
			first, err := w.Service.Unlock(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.meanwhile(w, g.ID); err != nil {
				t.Fatal(err)
			}
			again, err := w.Service.Unlock(t.Context(), r)
			if refusal(err) != c.want {
				t.Errorf("the repeat: %v, want %q", err, c.want)
			}
			if c.want == "" && again.Permit != first.Permit || c.want != "" && (again.Permit != handoff.PermitID{} || again.Minute != 0) {
				t.Errorf("the repeat's permission is %+v", again)
			}
		})
	}

	w := handofftest.New(t, handofftest.NewMemory())
	w.Cleared(t, "c1")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	p := handofftest.AtDoor("c1", "p1", g.CurrentCode())
	p.Attempt, p.Issued = "a2", handoff.InstantOf(w.Clock.Now())
	first, err := w.Service.Verify(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Core.PutCourier(t.Context(), handofftest.Courier("c1"), service.CourierUpdate{Suspended: &yes}); err != nil {
		t.Fatal(err)
	}
	if again, err := w.Service.Verify(t.Context(), p); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("the receipt again: %+v, %v", again, err)
	}
	// Who was signed out is not known to be the one who got the receipt.
	carrier := handoff.Actor{Role: handoff.RoleCarrier, Subject: "dispatcher"}
	if _, err := w.Service.SignOutCourier(t.Context(), carrier, handofftest.Courier("c1")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.SignedOut {
		t.Errorf("the receipt after the sign-out: %v", err)
	}
	p.Issued++
	if again, err := w.Service.Verify(t.Context(), p); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("the receipt after a new sign-in: %+v, %v", again, err)
	}
}
