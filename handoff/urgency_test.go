package handoff

import (
	"math"
	"slices"
	"testing"
	"time"
)

// Codes come before all others, and among them by their day; no other mail has one.
func TestUrgency(t *testing.T) {
	today := Date{Year: 2026, Month: time.November, Day: 24}
	home := func(t EventType) Event { return Event{Type: t, Target: Home} }
	order := []struct {
		what string
		e    Event
		day  Date
	}{
		{"a code of today", Event{Type: EventDispatched, Issue: 1}, today},
		{"a code of tomorrow", Event{Type: EventCodeResent, Issue: 1}, today.Next()},
		{"a code of next year", Event{Type: EventRescheduled, Issue: 3}, Date{Year: 2027, Month: time.January, Day: 1}},
		{"a code of a day that no rank has", Event{Type: EventConfirmed, Issue: 3}, Date{Year: 9999, Month: time.January, Day: 1}},
		{"a word that it was handed over", Event{Type: EventReleased}, today},
		{"of which there is no mail", Event{Type: EventCodeRefused}, today},
	}
	for i, c := range order {
		u := c.e.Urgency(c.day)
		if got := ClassOfRank(u.Rank()); got != u.Class {
			t.Errorf("%s: the rank's class is %v, want %v", c.what, got, u.Class)
		}
		if i == 0 {
			continue
		}
		before := order[i-1]
		if before.e.Urgency(before.day).Rank() >= u.Rank() {
			t.Errorf("%s is not before %s", before.what, c.what)
		}
	}
	for _, e := range []Event{
		{Type: EventDispatched},
		{Type: EventRecalled},
		{Type: EventAborted},
		home(EventDoorOpened),
		{Type: EventDisputed, Issue: 2}, // of the code that was used, and none is given out
	} {
		if got, want := e.Urgency(today), (Urgency{Class: ClassNotice}); got != want {
			t.Errorf("%v: %+v, want %+v", e.Type, got, want)
		}
	}
	for _, e := range []Event{{Type: EventScrubbed}, {Type: EventDoorOpened, Target: Lobby}, {Type: EventDoorForced}, {}} {
		if got, want := e.Urgency(today), (Urgency{Class: ClassQuiet}); got != want {
			t.Errorf("%v: %+v, want %+v", e.Type, got, want)
		}
	}
	// The numbers are stored.
	if got, want := (Urgency{Class: ClassCode, Day: today}).Rank(), 20781; got != want {
		t.Errorf("the rank of a code of %v is %d, want %d", today, got, want)
	}
	if got := []int{UnknownRank, Urgency{Class: ClassNotice}.Rank(), Urgency{Class: ClassQuiet}.Rank(), Ranks}; !slices.Equal(got, []int{32768, 65536, 98304, 131072}) {
		t.Errorf("the ranks of classes are %v", got)
	}
	for _, rank := range []int{-1, Ranks, math.MaxInt} {
		if got := ClassOfRank(rank); got != ClassUnknown {
			t.Errorf("%d has class %v", rank, got)
		}
	}
	if got := (Urgency{Class: ClassCode, Day: Date{Year: 1}}).Rank(); got != 0 {
		t.Errorf("the rank of a day before 1970 is %d", got)
	}
}

// Each event whose Issue is given out is a code's.
func TestWhatGivesOutACode(t *testing.T) {
	for _, e := range []EventType{EventDispatched, EventCodeResent, EventCodeReissued, EventAborted, EventRescheduled, EventConfirmed} {
		if got := (&Event{Type: e, Issue: 1}).Urgency(Date{}).Class; got != ClassCode {
			t.Errorf("%v: %v", e, got)
		}
	}
}
