package handofftest

import (
	"fmt"
	"testing"
	"time"

	"latchkey/handoff"
)

var patternTests = map[string]func(*testing.T, *World){
	"CountsWithinAStretch": func(t *testing.T, w *World) {
		count := func(key, member string, after time.Duration, n, rank int) {
			t.Helper()
			got, place, err := w.Store.Recur(t.Context(), key, member, handoff.InstantOf(Noon.Add(after)), time.Hour)
			noError(t, "Recur", err)
			equal(t, fmt.Sprint(key, " ", member, " after ", after), fmt.Sprint(got, place), fmt.Sprint(n, rank))
		}
		count("k", "b", 0, 1, 0)
		count("k", "b", time.Minute, 1, 0)
		count("k", "a", time.Minute, 2, 1)
		count("k", "b", time.Minute, 2, 0)
		count("other", "a", time.Minute, 1, 0)
		count("same second", "z", 0, 1, 0)
		count("same second", "a", 0, 2, 1)
		count("same second", "z", 0, 2, 0)
		count("k", "c", time.Hour-time.Second, 3, 2)
		count("k", "c", time.Hour, 2, 1) // b is gone: when it was first seen counts
		count("k", "b", time.Hour, 3, 2)
		count("k", "d", 3*time.Hour, 1, 0)
	},

	"AtOnce": func(t *testing.T, w *World) {
		ns := make([]int, 64)
		for _, err := range together(64, func(i int) (err error) {
			ns[i], _, err = w.Store.Recur(t.Context(), "k", fmt.Sprint(i%8), handoff.InstantOf(Noon), time.Hour)
			return err
		}) {
			noError(t, "Recur", err)
		}
		n, _, err := w.Store.Recur(t.Context(), "k", "0", handoff.InstantOf(Noon), time.Hour)
		noError(t, "Recur", err)
		equal(t, "members", n, 8)
	},
}
