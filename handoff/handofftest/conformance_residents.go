package handofftest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"latchkey/handoff/residents"
	"latchkey/handoff/storage"
)

var residentTests = map[string]func(*testing.T, *World){
	"AResidentIsKept": func(t *testing.T, w *World) {
		ctx := t.Context()
		r := residents.Resident{
			ID: "0123456789abcdef01234567", Building: "b1", Address: "resident@building.example", Locale: "de", Unit: "4 links",
			OnFile: true, AskedAt: 1, ConfirmedAt: 2, ApprovedAt: 3, AskMailed: 4, RequestMailed: 5, WelcomeMailed: 6,
			Informed: []byte{7}, InformedAt: 8,
		}
		none, err := w.Store.Resident(ctx, "b1", r.ID)
		noError(t, "Resident", err)
		equal(t, "a resident before it is there", none == nil, true)
		noError(t, "PutResident", w.Store.PutResident(ctx, r))
		r.Revision = 1
		got, err := w.Store.Resident(ctx, "b1", r.ID)
		noError(t, "Resident", err)
		if !reflect.DeepEqual(got, &r) { // it does not print itself
			t.Error("another resident comes back")
		}
		other, err := w.Store.Resident(ctx, "b2", r.ID)
		noError(t, "Resident", err)
		equal(t, "the resident in another building", other == nil, true)

		second := residents.Resident{ID: "f123456789abcdef01234567", Building: "b1", Address: "other@building.example"}
		noError(t, "PutResident", w.Store.PutResident(ctx, second))
		all, err := w.Store.Residents(ctx, "b1")
		noError(t, "Residents", err)
		if len(all) != 2 || all[0].ID != r.ID || all[1].ID != second.ID || all[1].Building != "b1" || all[1].Address != second.Address {
			t.Errorf("%d residents, not the two in order", len(all))
		}
		none2, err := w.Store.Residents(ctx, "b2")
		noError(t, "Residents", err)
		equal(t, "residents of another building", len(none2), 0)
	},

	"AResidentThatChangedIsNotOverwritten": func(t *testing.T, w *World) {
		ctx := t.Context()
		r := residents.Resident{ID: "0123456789abcdef01234567", Building: "b1", Address: "resident@building.example"}
		noError(t, "PutResident", w.Store.PutResident(ctx, r))
		conflict := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, storage.ErrConflict) {
				t.Errorf("%s: %v", what, err)
			}
		}
		conflict("a second first write", w.Store.PutResident(ctx, r))
		r.Revision = 1
		noError(t, "PutResident", w.Store.PutResident(ctx, r))
		conflict("a write over an old revision", w.Store.PutResident(ctx, r))
		conflict("a drop of an old revision", w.Store.DropResident(ctx, r))
		r.Revision = 2
		noError(t, "DropResident", w.Store.DropResident(ctx, r))
		gone, err := w.Store.Resident(ctx, "b1", r.ID)
		noError(t, "Resident", err)
		equal(t, "a resident that was dropped", gone == nil, true)
		conflict("a write over one that is gone", w.Store.PutResident(ctx, r))
	},

	"MarksAreNumberedOnce": func(t *testing.T, w *World) {
		ctx := t.Context()
		mark := func(of, topic string) residents.Mark {
			return residents.Mark{Building: "b1", Of: of, Day: Today, Topic: topic}
		}
		is := func(m residents.Mark, number int, ended bool) {
			t.Helper()
			n, e, err := w.Store.Mark(ctx, m)
			noError(t, "Mark", err)
			if n != number || e != ended {
				t.Errorf("%+v is %d %v, want %d %v", m, n, e, number, ended)
			}
		}
		is(mark("r1", "x"), 1, false)
		is(mark("r1", "y"), 2, false)
		is(mark("r1", "x"), 1, false)
		is(mark("r2", "y"), 1, false)
		noError(t, "EndMark", w.Store.EndMark(ctx, mark("r1", "x")))
		noError(t, "EndMark", w.Store.EndMark(ctx, mark("r1", "x")))
		is(mark("r1", "x"), 1, true)
		is(mark("r1", "y"), 2, false)
		noError(t, "EndMark of nothing", w.Store.EndMark(ctx, mark("r1", "z")))
		is(mark("r1", "z"), 3, false)
		for i := range residents.PageOfMarks {
			_, _, err := w.Store.Mark(ctx, mark("full", fmt.Sprint(i)))
			noError(t, "Mark", err)
		}
		is(mark("full", "one too many"), residents.PageOfMarks+1, false)
		is(mark("full", "another"), residents.PageOfMarks+1, false)
		is(mark("full", "7"), 8, false)
		tomorrow := mark("r1", "x")
		tomorrow.Day.Day++
		is(tomorrow, 1, false)

		var all sync.WaitGroup
		numbers := make([]int, 20)
		for i := range numbers {
			all.Go(func() {
				n, _, err := w.Store.Mark(ctx, mark("r3", string(rune('a'+i))))
				if err != nil {
					t.Error(err)
				}
				numbers[i] = n
			})
		}
		all.Wait()
		seen := map[int]bool{}
		for _, n := range numbers {
			seen[n] = true
		}
		equal(t, "different numbers of twenty marks at once", len(seen) == len(numbers) && seen[1] && seen[20], true)
	},
}
