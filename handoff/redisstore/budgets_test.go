package redisstore

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// A process that dies over the commit of a wrong code leaves it in doubt: it counts.
func TestAWrongCodeInDoubtCounts(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	ref := handofftest.Courier("cou_7")
	for i := range 20 {
		r := service.Guess{Courier: ref, ID: strconv.Itoa(i), At: handoff.InstantOf(w.Clock.Now())}
		if err := s.client.RPush(t.Context(), budgetKey(ref), guess(reserved, r), guess(doubtful, r)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w.Clock.Advance(2 * time.Minute)
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode())); refusedFor(err, handoff.BudgetExhausted) != nil {
		t.Errorf("twenty in doubt: %v", err)
	}
}

// A wrong code whose commit is overtaken is counted once, and leaves no doubt behind.
func TestAnOvertakenWrongCodeLeavesNoDoubt(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	faulty := &handofftest.Faulty{Core: s}
	w := handofftest.New(t, faulty)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	snap, err := s.Load(t.Context(), service.Query{Parcel: g.ID.Hash})
	if err != nil {
		t.Fatal(err)
	}
	r := service.Guess{Courier: handofftest.Courier("cou_7"), ID: "t", At: handoff.InstantOf(w.Clock.Now())}
	c := service.Change{From: snap.Version + 7, Record: *snap.Record, Now: r.At, Settle: &service.Settlement{Guess: r, Counted: true}}
	if err := s.Commit(t.Context(), c); !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err)
	}
	if a := w.Account(t, "cou_7"); len(a.Doubtful)+len(a.Counted) != 0 {
		t.Errorf("after a conflict the account is %+v", a)
	}
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", handofftest.WrongCode(&g, 1))); refusedFor(err, handoff.CodeMismatch) != nil {
		t.Fatal(err)
	}
	if a := w.Account(t, "cou_7"); len(a.Doubtful)+len(a.Reserved) != 0 || len(a.Counted) != 1 {
		t.Errorf("after a wrong code the account is %+v", a)
	}
}
