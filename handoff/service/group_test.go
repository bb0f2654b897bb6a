package service_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/otp"
)

// group is a dispatch of several parcels.
func group(ids ...string) handoff.Dispatch {
	d := handofftest.Sample(ids[0])
	d.Together = &handoff.Together{}
	for _, id := range ids[1:] {
		d.Together.More = append(d.Together.More, handoff.Piece{Parcel: id})
	}
	return d
}

// scans is a courier who scanned several parcels, the first of them in the path.
func scans(code otp.Code, parcels ...string) service.Presentation {
	p := handofftest.AtDoor("c1", parcels[0], code)
	p.Parcels = parcels
	return p
}

// Any parcel's label finds the grant, and exactly what was scanned is handed over.
func TestAnyParcelFindsItsGrant(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, group("p3", "p1", "p2"))
	again, created, err := w.Service.Dispatch(t.Context(), group("p2", "p3", "p1"))
	if err != nil || created || again.ID != g.ID {
		t.Fatalf("in another order: %v %v %v", again.ID, created, err)
	}
	for _, parcel := range []string{"p1", "p2", "p3"} {
		if _, err := w.Service.Attempted(t.Context(), handofftest.AtDoor("c1", parcel, otp.Code{})); err != nil {
			t.Errorf("attempted by %s: %v", parcel, err)
		}
	}
	r, err := w.Service.Verify(t.Context(), scans(g.CurrentCode(), "p3", "p2"))
	if err != nil || r.Grant != g.ID || r.Parcel != "p3" || r.Status != handoff.Active || !slices.Equal(r.Parcels, []string{"p2", "p3"}) || !slices.Equal(r.Left, []string{"p1"}) {
		t.Fatalf("%+v %v", r, err)
	}
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p1", g.CurrentCode())); refusal(err) != handoff.CodeSuperseded {
		t.Errorf("the code that was heard: %v", err)
	}
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p2", g.CurrentCode())); refusal(err) != handoff.AlreadyReleased {
		t.Errorf("p2 again: %v", err)
	}
	if r, err = w.Service.Abort(t.Context(), handofftest.AtDoor("c1", "p2", otp.Code{})); err != nil || r.Status != handoff.Active || len(r.Left) != 3 {
		t.Errorf("abort: %+v %v", r, err)
	}
	now := w.Parcel(t, "p1")
	if r, err = w.Service.Verify(t.Context(), scans(now.CurrentCode(), "p2", "p1", "p3")); err != nil || r.Status != handoff.Released {
		t.Errorf("all: %+v %v", r, err)
	}
	if got := w.Parcel(t, "p1"); got.Code.TotalWrong != 1 || got.Code.Reissues != 1 {
		t.Errorf("%d wrong codes and %d re-issues", got.Code.TotalWrong, got.Code.Reissues)
	}
	grants, _, err := w.Service.OfCustomer(t.Context(), handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}, service.Listed{}, 10)
	if err != nil || len(grants) != 1 {
		t.Errorf("the customer has %d handoffs: %v", len(grants), err)
	}
}

// What was scanned is part of a request: the same attempt gets the same answer, and another list
// is another request.
func TestAPartIsAnsweredOnce(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, group("p1", "p2", "p3"))
	p := scans(g.CurrentCode(), "p2", "p1")
	p.Attempt = "a1"
	first, err := w.Service.Verify(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.Parcels = []string{"p1", "p2", "p2"} // scanned twice
	again, err := w.Service.Verify(t.Context(), p)
	if err != nil || !slices.Equal(again.Left, first.Left) || !slices.Equal(again.Parcels, first.Parcels) || again.Status != handoff.Active {
		t.Errorf("again: %+v %v, first %+v", again, err, first)
	}
	p.Parcels = []string{"p2", "p3"}
	if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.AttemptReused {
		t.Errorf("others by the same attempt: %v", err)
	}
	p.Parcels = []string{"p1"}
	if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.ParcelNotNamed {
		t.Errorf("without the path's: %v", err)
	}
}

// A key says where its parcel stands, whatever two grants name it.
func TestAShareThatIsOverIsDispatchedAnew(t *testing.T) {
	w := world(t)
	by := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	g := w.Dispatch(t, group("p1", "p2", "p3"))
	if _, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("p2")); refusal(err) != handoff.DispatchConflict {
		t.Fatalf("while it is there: %v", err)
	}
	if _, _, err := w.Service.Dispatch(t.Context(), group("p2", "p9")); refusal(err) != handoff.DispatchConflict {
		t.Fatalf("in another group, while it is there: %v", err)
	}
	if _, err := w.Service.RecallSome(t.Context(), by, g.ID, []string{"p 2"}, "wrong"); err != nil {
		t.Fatal(err)
	}
	one := w.Dispatch(t, handofftest.Sample("p2"))
	if one.ID.Generation != 2 || one.ID.Hash == g.ID.Hash {
		t.Errorf("the next grant of p2 is %v", one.ID)
	}
	if _, created, err := w.Service.Dispatch(t.Context(), group("p1", "p2", "p3")); err != nil || created {
		t.Errorf("the first file again: %v %v", created, err)
	}
	if r, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p2", one.CurrentCode())); err != nil || r.Grant != one.ID {
		t.Errorf("by its own code: %+v %v", r, err)
	}
	if r, err := w.Service.Verify(t.Context(), scans(g.CurrentCode(), "p1", "p3")); err != nil || r.Status != handoff.Released {
		t.Errorf("the others: %+v %v", r, err)
	}
	w.Clock.Advance(24 * time.Hour)
	next := group("p3", "p4")
	next.Day = next.Day.Next()
	if n := w.Dispatch(t, next); n.ID.Generation != 2 {
		t.Errorf("the next grant of p3 is %v", n.ID)
	}
	first := handofftest.Sample("p1")
	first.Day = first.Day.Next()
	if n := w.Dispatch(t, first); n.ID != (handoff.GrantID{Hash: g.ID.Hash, Generation: 2}) {
		t.Errorf("the next grant of p1 is %v", n.ID)
	}
	if got, err := w.Service.Grant(t.Context(), by, g.ID); err != nil || got.Status != handoff.Released {
		t.Errorf("the first grant: %v %v", got.Status, err)
	}
}

// broken is a store on which commits of some parcels come to nothing, or wait.
type broken struct {
	handofftest.Core
	before func(c service.Change) error
}

func (b *broken) Commit(ctx context.Context, c service.Change) error {
	if b.before != nil {
		if err := b.before(c); err != nil {
			return err
		}
	}
	return b.Core.Commit(ctx, c)
}

var errCut = errors.New("the connection is cut")

// A mint that dies after its claims leaves no parcel taken, and what it would have made can be
// made later.
func TestAMintThatDies(t *testing.T) {
	for name, next := range map[string]handoff.Dispatch{"alone": handofftest.Sample("p2"), "in another group": group("p0", "p2"), "as it was": group("p1", "p2", "p3")} {
		store := &broken{Core: handofftest.NewMemory()}
		w := handofftest.New(t, store)
		w.Cleared(t, "c1")
		w.Drives(t, "c1", handofftest.Route, handofftest.Today)
		store.before = func(c service.Change) error {
			if c.Record.Alias == nil {
				return errCut
			}
			return nil
		}
		if _, _, err := w.Service.Dispatch(t.Context(), group("p1", "p2", "p3")); err == nil {
			t.Fatal("dispatched")
		}
		store.before = nil
		if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p2", otp.Code{})); refusal(err) != handoff.ParcelUnknown {
			t.Errorf("%s: a parcel of no grant: %v", name, err)
		}
		g := w.Dispatch(t, next)
		if r, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p2", g.CurrentCode())); err != nil || r.Grant != g.ID {
			t.Errorf("%s: %+v %v", name, r, err)
		}
		if g := w.Dispatch(t, handofftest.Sample("p7")); g.ID.Generation != 1 {
			t.Errorf("%s: %v", name, g.ID)
		}
	}
}

// A mint whose commit comes late, when another grant has its parcel, does not make a grant that
// names the parcel too.
func TestALateMint(t *testing.T) {
	for name, second := range map[string]handoff.Dispatch{"alone": handofftest.Sample("p2"), "in another group": group("p2", "p4")} {
		store := &broken{Core: handofftest.NewMemory()}
		w := handofftest.New(t, store)
		w.Cleared(t, "c1")
		w.Drives(t, "c1", handofftest.Route, handofftest.Today)
		var late sync.Once
		store.before = func(c service.Change) error {
			if c.Record.Alias == nil && c.Record.Grant.Dispatch.Parcel == "p1" {
				late.Do(func() { w.Dispatch(t, second) }) // the whole of it gets in between
			}
			return nil
		}
		if _, _, err := w.Service.Dispatch(t.Context(), group("p1", "p2", "p3")); refusal(err) != handoff.DispatchConflict {
			t.Errorf("%s: the late one: %v", name, err)
		}
		if g := w.Parcel(t, "p1"); g.Status != 0 {
			t.Errorf("%s: the late one made %v", name, g.ID)
		}
		g := w.Parcel(t, "p2")
		if r, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p2", g.CurrentCode())); err != nil || r.Status == 0 {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

// Of mints at once that share a parcel one wins, whatever is named first, and the parcel is handed
// over once.
func TestMintsAtOnce(t *testing.T) {
	for round := range 30 {
		w := world(t)
		all := []handoff.Dispatch{group("p1", "p3"), group("p2", "p3"), group("p3", "p4"), handofftest.Sample("p3")}
		made := make([]handoff.Grant, len(all))
		var work sync.WaitGroup
		for i, s := range w.Instances(t, len(all)) {
			work.Go(func() {
				g, created, err := s.Dispatch(t.Context(), all[i])
				if err != nil && refusal(err) != handoff.DispatchConflict && !strings.Contains(err.Error(), "no answer") {
					t.Errorf("round %d: %v", round, err)
				}
				if err == nil && created {
					made[i] = g
				}
			})
		}
		work.Wait()
		released := 0
		for _, g := range made {
			if g.Status == 0 {
				continue
			}
			if r, err := w.Service.Verify(t.Context(), scans(g.CurrentCode(), g.Dispatch.Parcels()...)); err == nil && r.Grant == g.ID {
				released++
			}
		}
		if released != 1 {
			t.Fatalf("round %d: %d grants handed p3 over: %v", round, released, made)
		}
	}
}

// A shop is told, once, that another one named its parcel, also where it is not the first.
func TestSeveralOfAnotherShop(t *testing.T) {
	w := world(t)
	handofftest.PassOn(w.Policy)
	w.Dispatch(t, group("OTH1", "OTH2")) // of the sample's shop, before the prefix was given away
	theirs := group("OTH0", "OTH2")
	theirs.Shop = handofftest.Other
	handofftest.PassOn(w.Policy)
	for range 2 {
		if _, _, err := w.Service.Dispatch(t.Context(), theirs); refusal(err) != handoff.DispatchConflict {
			t.Fatal(err)
		}
	}
	if n := handofftest.Count(w.Events(t), handoff.EventContested); n != 1 {
		t.Errorf("told %d times", n)
	}
}
