package handoff_test

import (
	"context"
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
	for _, wait := range []time.Duration{0, 208 * time.Second} { // 16 and 224 seconds after the first
		w.Clock.Advance(wait)
		_, err := ask(16)
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Reason != TooManyPermits || refused.RetryAfter != 209*time.Second-wait {
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

// A PIN is judged last, when all else holds, and by what the store said of the claim.
func TestKeypadIsJudged(t *testing.T) {
	noon := handofftest.Noon
	minute, late := uint64(noon.Unix()/60), noon.Add(59500*time.Millisecond)
	for name, c := range map[string]struct {
		claim   *Claim
		change  func(*scene)
		want    Reason
		waits   bool
		retry   time.Duration
		permits PermitID
	}{
		"not claimed yet":           {waits: true},
		"held":                      {claim: &Claim{PermitID{7}, minute, true}, permits: PermitID{7}},
		"the next minute's, held":   {claim: &Claim{PermitID{7}, minute + 1, true}, permits: PermitID{7}},
		"a minute too far ahead":    {claim: &Claim{PermitID{7}, minute + 2, true}, want: KeypadBusy, retry: time.Minute},
		"held too long":             {claim: &Claim{PermitID{7}, minute - 1, true}, waits: true},
		"taken":                     {claim: &Claim{PermitID{7}, minute, false}, waits: true},
		"the next minute's, taken":  {claim: &Claim{PermitID{7}, minute + 1, false}, want: KeypadBusy, retry: time.Minute},
		"taken, late in the minute": {claim: &Claim{PermitID{7}, minute + 1, false}, change: func(s *scene) { s.now = late }, want: KeypadBusy, retry: 500 * time.Millisecond},
		"given out before": {claim: &Claim{PermitID{7}, minute + 1, true}, change: func(s *scene) {
			s.grant.Unlocks = []Unlock{{Permit: PermitID{7}, Door: "pad"}}
		}, want: KeypadBusy, retry: time.Minute},
		"no key":          {claim: &Claim{PermitID{7}, minute, true}, change: func(s *scene) { s.facts.Door.Keypad = nil }, want: AccessRefused},
		"no name":         {claim: &Claim{PermitID{}, minute, true}, want: AccessRefused},
		"another's route": {change: func(s *scene) { s.facts.Courier.Drives = nil }, want: NotYourRoute},
		"elsewhere":       {change: func(s *scene) { s.cmd.Evidence.Position = nil }, want: OutsideGeofence},
		"without consent": {change: func(s *scene) { s.grant.Consents = nil }, want: AccessRefused},
		"recalled":        {change: func(s *scene) { s.grant.Status = Recalled }, want: IsRecalled},
		"the visit is over": {change: func(s *scene) {
			s.grant.Visits = []Visit{{Door: s.facts.Door.ID, Since: InstantOf(noon), Permits: 3}}
		}, want: VisitOver},
		"no challenge is asked for": {claim: &Claim{PermitID{7}, minute, true}, change: func(s *scene) { s.cmd.Evidence.Challenge = nil }, permits: PermitID{7}},
	} {
		t.Run(name, func(t *testing.T) {
			s := row{act: Open, target: Garage, asks: Proofs(append(atTheDoor, ProofBuilding, ProofPresence, ProofConsent)...), mode: Keypad}.scene(t)
			s.facts.Claim = c.claim
			if c.change != nil {
				c.change(s)
			}
			d := s.decide()
			switch {
			case d.Wait != c.waits || d.Wait && (d.Refusal != nil || len(d.Events) > 0):
				t.Errorf("waits: %+v", d)
			case c.want != "" && (d.Refusal == nil || d.Refusal.Reason != c.want || d.Refusal.RetryAfter != c.retry):
				t.Errorf("refused with %+v, want %s after %s", d.Refusal, c.want, c.retry)
			case c.want == KeypadBusy && len(d.Events) > 0:
				t.Errorf("who comes too late is written down: %+v", d.Events)
			case c.permits != PermitID{} && (d.Refusal != nil || len(d.Events) != 1 || d.Events[0].Permit != c.permits || d.Events[0].Awaited || len(d.Events[0].Challenge) > 0):
				t.Errorf("got %+v, %+v", d.Refusal, d.Events)
			}
			if c.waits || c.permits != (PermitID{}) {
				if d.Verdict[ProofPresence] != NotAsked {
					t.Errorf("presence is %v", d.Verdict[ProofPresence])
				}
			}
		})
	}
}

// betweenLoads is a store to which something happens before a load that claims a PIN, and
// which may lose what a load said.
type betweenLoads struct {
	Store
	before func(PermitRef) error
}

func (b *betweenLoads) Load(ctx context.Context, q Query) (Snapshot, error) {
	if q.Permit != nil {
		if err := b.before(*q.Permit); err != nil {
			_, _ = b.Store.Load(ctx, q)
			return Snapshot{}, err
		}
	}
	return b.Store.Load(ctx, q)
}

// A PIN that was claimed and then not given out is there for the next courier: the grant
// was recalled meanwhile, the store failed after the claim, the door got another key, or
// its minute passed.
func TestAClaimedPINIsGivenBack(t *testing.T) {
	for name, happens := range map[string]func(t *testing.T, w *handofftest.World) (want Reason, err error){
		"recalled": func(t *testing.T, w *handofftest.World) (Reason, error) {
			_, err := w.Service.Recall(t.Context(), Actor{Role: RoleShop, Shop: handofftest.Shop}, w.Parcel(t, "p1").ID, "")
			if err != nil {
				t.Fatal(err)
			}
			return IsRecalled, nil
		},
		"the store failed": func(*testing.T, *handofftest.World) (Reason, error) { return "", ErrUnavailable },
		"another key": func(t *testing.T, w *handofftest.World) (Reason, error) {
			putPad(t, w, "another keypad's key of")
			return "", nil
		},
		"another minute": func(_ *testing.T, w *handofftest.World) (Reason, error) {
			w.Clock.Advance(time.Minute)
			return "", nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := &betweenLoads{Store: handofftest.NewMemory(), before: func(PermitRef) error { return nil }}
			w := handofftest.New(t, store)
			w.Cleared(t, "c1")
			w.Drives(t, "c1", handofftest.Route, handofftest.Today)
			putPad(t, w, "a keypad's key of 23 by")
			w.Dispatch(t, handofftest.Sample("p1"))
			w.Dispatch(t, handofftest.Sample("p2"))
			var claimed []PermitRef
			var want Reason
			loads := 0
			store.before = func(ref PermitRef) (err error) {
				if loads++; loads > 1 { // the first finds out that it is a keypad
					claimed = append(claimed, ref)
				}
				if loads == 2 {
					want, err = happens(t, w)
				}
				return err
			}
			k := Knock{Courier: handofftest.Courier("c1"), Door: "pad", Parcel: "p1"}
			got, err := w.Service.Unlock(t.Context(), k)
			var refused *Refusal
			if errors.As(err, &refused) != (want != "") || want != "" && refused.Reason != want {
				t.Fatalf("%v, want %s", err, want)
			}
			store.before = func(PermitRef) error { return nil }
			for i, ref := range claimed {
				kept, err := w.Store.Permit(t.Context(), ref.Permit)
				if err != nil || (kept != nil) != (ref.Permit == got.Permit) {
					t.Errorf("claim %d of %d: %+v %v", i+1, len(claimed), kept, err)
				}
			}
			if len(claimed) == 0 {
				t.Error("nothing was claimed")
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
	if err := w.Store.PutBuilding(t.Context(), Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.PutDoor(t.Context(), Door{ID: "pad", Kind: Lobby, Mode: Keypad, BuildingID: "bld_turm5", Keypad: KeypadKey(key)}); err != nil {
		t.Fatal(err)
	}
}

// meanwhile is a store in which something happens between one reading and what is made of it.
type meanwhile struct {
	Store
	door string
	once func()
}

func (m *meanwhile) Load(ctx context.Context, q Query) (Snapshot, error) {
	snap, err := m.Store.Load(ctx, q)
	if once := m.once; once != nil && q.Door == m.door {
		m.once = nil
		once()
	}
	return snap, err
}

// A courier who asks at two distant doors at once is let through one of them: neither
// request can overlook the other.
func TestTwoDistantDoorsAtOnce(t *testing.T) {
	store := &meanwhile{Store: handofftest.NewMemory(), door: "gate"}
	w := handofftest.New(t, store)
	ctx := t.Context()
	w.Cleared(t, "c1")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	far := PointOf(48.137, 11.575)
	for id, at := range map[string]Point{"gate": handofftest.Home, "far": far} {
		if err := w.Store.PutBuilding(ctx, Building{ID: "bld_" + id, Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Store.PutDoor(ctx, Door{ID: id, Kind: Gate, Mode: Connected, Location: &at, BuildingID: "bld_" + id}); err != nil {
			t.Fatal(err)
		}
		d := handofftest.Sample("p-" + id)
		d.To.Building = "bld_" + id
		w.Dispatch(t, d)
	}
	unlock := func(id string, at Point) error {
		_, err := w.Service.Unlock(ctx, Knock{Courier: handofftest.Courier("c1"), Door: id, Parcel: "p-" + id, Position: &Position{Point: at}})
		return err
	}
	store.once = func() {
		if err := unlock("far", far); err != nil {
			t.Errorf("the one that came between: %v", err)
		}
	}
	if err := unlock("gate", handofftest.Home); refusal(err) != ImpossibleJourney {
		t.Errorf("the other: %v", err)
	}
	if n := handofftest.Count(w.Events(t), EventImpossible); n != 1 {
		t.Errorf("%d impossible journeys were told", n)
	}
}

// Consent cannot be taken back once a permit may have been used: not one that its door
// refused, and not one of a day that is over.
func TestConsentIsUsedByAPermitThatMayOpen(t *testing.T) {
	for name, c := range map[string]struct {
		then func(w *handofftest.World, g Grant, p Permission) error
		want Reason
	}{
		"a permit": {func(*handofftest.World, Grant, Permission) error { return nil }, ConsentUsed},
		"refused by the door": {func(w *handofftest.World, _ Grant, p Permission) error {
			return w.Service.Reported(t.Context(), "garage", p.Permit, DoorRefused)
		}, ""},
		"of another day": {func(w *handofftest.World, g Grant, _ Permission) error {
			_, err := w.Service.Reschedule(t.Context(), shop, g.ID, g.Day().Next(), "")
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			ctx := t.Context()
			d := handofftest.Sample("p1")
			if err := w.Store.PutBuilding(ctx, Building{ID: d.To.Building, Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
				t.Fatal(err)
			}
			owner := CustomerRef{Shop: d.Shop, ID: d.Customer.ID}
			if err := w.Store.PutDoor(ctx, Door{ID: "garage", Kind: Garage, Mode: Connected, BuildingID: d.To.Building, Owner: &owner}); err != nil {
				t.Fatal(err)
			}
			g := w.Dispatch(t, d)
			customer := Actor{Role: RoleCustomer, Shop: d.Shop, Customer: d.Customer.ID}
			if _, err := w.Service.Consent(ctx, customer, g.ID, []TargetKind{Garage}); err != nil {
				t.Fatal(err)
			}
			p, err := w.Service.Unlock(ctx, Knock{Courier: handofftest.Courier("c1"), Door: "garage", Parcel: "p1", Challenge: []byte("12345678")})
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
