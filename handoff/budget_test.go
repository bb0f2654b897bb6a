package handoff_test

import (
	"testing"
	"time"

	"latchkey/handoff"
)

// A guess that is under way at another instance keeps its place, though it was written by that
// instance's clock: as long as the clocks differ by less than fifty seconds, and for however long
// where the other one is ahead. The request lives for ten seconds at most.
func TestAGuessUnderWayKeepsItsPlaceWhileClocksDiffer(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	limits := handoff.DefaultPolicy().Limits
	limits.CourierDay = 1
	for _, ahead := range []time.Duration{-49 * time.Second, -2 * time.Second, 0, 2 * time.Second, time.Minute, time.Hour} {
		for _, age := range []time.Duration{0, 10 * time.Second} {
			other := handoff.InstantOf(now.Add(ahead - age))
			a := handoff.Account{Reserved: []handoff.Instant{other, handoff.InstantOf(now)}, Placed: true}
			if b := a.Budget(limits, "", now); b.Admitted || b.Ahead != 1 {
				t.Errorf("the other clock is ahead by %v, the guess %v old: admitted %t, %d ahead", ahead, age, b.Admitted, b.Ahead)
			}
			a.Doubtful = a.Reserved[:1] // the commit was sent: one of the two stands for it, whatever the clocks say
			if b := a.Budget(limits, "", now); b.Admitted {
				t.Errorf("the other clock is ahead by %v, the guess in doubt: admitted", ahead)
			}
		}
	}
	// Past that a guess in doubt still counts: as a wrong code.
	long := handoff.InstantOf(now.Add(-time.Hour))
	a := handoff.Account{Reserved: []handoff.Instant{long, handoff.InstantOf(now)}, Doubtful: []handoff.Instant{long}, Placed: true}
	if b := a.Budget(limits, "", now); b.Admitted || len(b.Spent) != 1 {
		t.Errorf("the other clock is an hour behind, the guess in doubt: %+v", b)
	}
}
