package handoff_test

import (
	"slices"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// A customer who says a code of before is told when the next one took its place.
func TestWhenACodeWasReplaced(t *testing.T) {
	at := func(hour int) Instant { return InstantOf(handofftest.Noon.Add(time.Duration(hour) * time.Hour)) }
	for counter, want := range map[uint64]Instant{1: at(-4), 2: at(-2)} {
		s := rows()[0].scene(t)
		s.grant.History = nil
		for _, e := range []struct {
			what EventType
			at   Instant
		}{{EventCodeReissued, at(-4)}, {EventCodeResent, at(-3)}, {EventRescheduled, at(-2)}, {EventCodeResent, at(-1)}} {
			s.grant.History = append(s.grant.History, HistoryEntry{Type: e.what, At: e.at})
		}
		s.cmd.Evidence.Code = handofftest.CodeAt(s.grant, counter)
		d := s.decide()
		if reasonOf(d) != CodeSuperseded || d.Refusal.ReplacedAt != want {
			t.Errorf("code %d: %+v, want replaced at %d", counter, d.Refusal, want)
		}
		s.grant.History = s.grant.History[1:] // it reaches back to the second replacement alone
		if d := s.decide(); counter == 1 && d.Refusal.ReplacedAt != 0 {
			t.Errorf("code %d, of which the history knows nothing: %d", counter, d.Refusal.ReplacedAt)
		}
	}
}

// The duty officer is told from two thirds of a carrier's limit on, each twelfth of it, and at it.
func TestWhenACarriersWrongCodesAreTold(t *testing.T) {
	for limit, want := range map[int][]int{24: {16, 19, 22, 24}, 36: {24, 28, 32, 36}, 4: {2, 3, 4}} {
		var told []int
		for before := range limit + limit/4 {
			s := rows()[0].scene(t)
			s.facts.Policy.Limits.CarrierDay, s.facts.Policy.Limits.CarrierShare = limit, 0
			s.facts.Carrier.Wrong[3] = before
			s.facts.Budget.Spent = nil
			s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1)
			d := s.decide()
			if reasonOf(d) != CodeMismatch || d.Wrong != 1 {
				t.Fatalf("limit %d, after %d: %+v", limit, before, d)
			}
			for _, e := range d.Events {
				if e.Type != EventSignal {
					continue
				}
				if atIt := before+1 == limit; (e.Reason == CarrierLimit) != atIt {
					t.Errorf("limit %d, after %d: told %s", limit, before, e.Reason)
				}
				told = append(told, before+1)
			}
		}
		told = slices.DeleteFunc(told, func(n int) bool { return n > limit })
		if !slices.Equal(told, want) {
			t.Errorf("limit %d: told at %v, want %v", limit, told, want)
		}
	}
}

// A handoff is taken back with a new code, so there must be one left.
func TestAnAbortNeedsACodeThatIsLeft(t *testing.T) {
	for reissues, may := range map[int]bool{0: true, 2: true, 3: false, 4: false} {
		g := rows()[0].scene(t).grant
		limits := handofftest.Policy().Limits
		g.Status, g.Handoff = Released, &Handoff{Courier: "c1", At: InstantOf(handofftest.Noon)}
		g.Code.Reissues = reissues
		if until := g.AbortableUntil("c1", limits, handofftest.Noon); (until != 0) != may {
			t.Errorf("after %d of %d reissues: until %d", reissues, limits.Reissues, until)
		}
	}
}
