package handofftest

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/counts"
)

// figures reads what is noted of the sample day and the one after it, in order.
func figures(t *testing.T, w *World) []counts.Figure {
	t.Helper()
	day := w.Clock.Now().UTC().Truncate(24 * time.Hour)
	all, err := w.Store.Figures(t.Context(), day, day.Add(48*time.Hour))
	noError(t, "Figures", err)
	slices.SortFunc(all, func(a, b counts.Figure) int {
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Name, b.Name))
	})
	return all
}

var numberTests = map[string]func(*testing.T, *World){
	"EachEventIsCountedOnce": func(t *testing.T, w *World) {
		hour := counts.FigureHour(w.Clock.Now())
		next := counts.FigureHour(w.Clock.Now().Add(24 * time.Hour))
		for partition := range handoff.Partitions {
			place, err := w.Store.CountedTo(t.Context(), partition)
			noError(t, "CountedTo", err)
			if place != "" {
				t.Fatalf("before anything was counted: %q", place)
			}
			for i, want := range []bool{true, false} { // the second is a retry of the first
				done, err := w.Store.CountEvents(t.Context(), partition, "", "1-1", []counts.Figure{
					{Hour: hour, Name: "a", N: 2}, {Hour: next, Name: "a", N: 1}, {Hour: hour, Name: "b x", N: 1},
				})
				noError(t, "CountEvents", err)
				if done != want {
					t.Errorf("try %d: %v", i, done)
				}
			}
			done, err := w.Store.CountEvents(t.Context(), partition, "1-1", "2-0", nil)
			noError(t, "CountEvents", err)
			place, err = w.Store.CountedTo(t.Context(), partition)
			noError(t, "CountedTo", err)
			if !done || place != "2-0" {
				t.Errorf("nothing to note: %v, at %q", done, place)
			}
		}
		const all = handoff.Partitions
		want := []counts.Figure{{Hour: hour, Name: "a", N: 2 * all}, {Hour: hour, Name: "b x", N: all}, {Hour: next, Name: "a", N: all}}
		if got := figures(t, w); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		at := w.Clock.Now().UTC().Truncate(time.Hour)
		one, err := w.Store.Figures(t.Context(), at, at.Add(time.Hour))
		noError(t, "Figures", err)
		if len(one) != 2 {
			t.Errorf("of one hour: %v", one)
		}
	},
	"AddFigures": func(t *testing.T, w *World) {
		hour := counts.FigureHour(w.Clock.Now())
		for _, n := range []int64{3, 7, 5} {
			err := w.Store.AddFigures(t.Context(), []counts.Figure{{Hour: hour, Name: "most", Peak: true, N: n}, {Hour: hour, Name: "sum", N: n}})
			noError(t, "AddFigures", err)
		}
		noError(t, "AddFigures", w.Store.AddFigures(t.Context(), nil))
		want := []counts.Figure{{Hour: hour, Name: "most", Peak: true, N: 7}, {Hour: hour, Name: "sum", N: 15}}
		if got := figures(t, w); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	},
	"ManyCountAtOnce": func(t *testing.T, w *World) {
		hour := counts.FigureHour(w.Clock.Now())
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if _, err := w.Store.CountEvents(t.Context(), 3, "", "9-9", []counts.Figure{{Hour: hour, Name: "a", N: 1}}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := figures(t, w); len(got) != 1 || got[0].N != 1 {
			t.Errorf("%v", got)
		}
	},
}
