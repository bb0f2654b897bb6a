package handofftest

import (
	"fmt"
	"testing"
	"time"

	"latchkey/handoff"
)

var oneUseTests = map[string]func(*testing.T, *World){
	"ATokenIsSpentOnce": func(t *testing.T, w *World) {
		now := handoff.InstantOf(w.Clock.Now())
		until := now + handoff.Instant(5*time.Minute/time.Second)
		for _, id := range []string{"0123456789abcdef", "fedcba9876543210"} {
			for n, want := range []bool{true, false, false} {
				first, err := w.Store.Spend(t.Context(), id, until, now)
				noError(t, "Spend", err)
				equal(t, fmt.Sprintf("time %d is the first", n+1), first, want)
			}
		}
		first, err := w.Store.Spend(t.Context(), "0123456789abcdef", until, until)
		noError(t, "Spend", err)
		equal(t, "at its end it is the first again", first, false)
	},

	"OneOfManySpendsAToken": func(t *testing.T, w *World) {
		now := handoff.InstantOf(w.Clock.Now())
		for round := range 20 {
			told := make([]bool, 8)
			for _, err := range together(len(told), func(i int) (err error) {
				told[i], err = w.Store.Spend(t.Context(), fmt.Sprintf("%032x", round), now+300, now)
				return err
			}) {
				noError(t, "Spend", err)
			}
			firsts := 0
			for _, first := range told {
				if first {
					firsts++
				}
			}
			equal(t, "how many were the first", firsts, 1)
		}
	},
}
