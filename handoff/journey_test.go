package handoff_test

import (
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
)

func TestJourney(t *testing.T) {
	at := func(hour int) handoff.Instant {
		return handoff.InstantOf(handofftest.Noon.Add(time.Duration(hour-12) * time.Hour))
	}
	window, err := handoff.DayWindow(handofftest.Today, mustZone(t))
	if err != nil {
		t.Fatal(err)
	}
	type entry = handoff.HistoryEntry
	left := entry{Type: handoff.EventDispatched, At: at(6)}
	for name, test := range map[string]struct {
		history []entry
		driven  bool
		now     handoff.Instant
		change  func(*handoff.Grant)
		want    handoff.Journey
	}{
		"left":                     {[]entry{left}, false, at(12), nil, handoff.Journey{Left: at(6)}},
		"out":                      {[]entry{left}, true, at(12), nil, handoff.Journey{Left: at(6), Out: true}},
		"assigned the day before":  {[]entry{left}, true, at(-1), nil, handoff.Journey{Left: at(6)}},
		"the day is over":          {[]entry{left}, true, at(24), nil, handoff.Journey{Left: at(6)}},
		"at a door":                {[]entry{left, {Type: handoff.EventPermitted, At: at(9)}, {Type: handoff.EventPermitted, At: at(10)}}, true, at(12), nil, handoff.Journey{Left: at(6), Out: true, AtDoor: at(9)}},
		"a wrong code":             {[]entry{left, {Type: handoff.EventCodeRefused, At: at(9)}}, true, at(12), nil, handoff.Journey{Left: at(6), Out: true, AtDoor: at(9)}},
		"nobody answered, he says": {[]entry{left, {Type: handoff.EventAttempted, At: at(9)}}, true, at(12), nil, handoff.Journey{Left: at(6), Out: true}},
		"its courier is gone":      {[]entry{left, {Type: handoff.EventPermitted, At: at(9)}}, false, at(12), nil, handoff.Journey{Left: at(6), Out: true, AtDoor: at(9)}},
		"handed over": {[]entry{left, {Type: handoff.EventReleased, At: at(9)}}, true, at(12), func(g *handoff.Grant) {
			g.Status, g.Handoff = handoff.Released, &handoff.Handoff{At: at(9)}
		}, handoff.Journey{Left: at(6), Out: true, AtDoor: at(9), Over: at(9)}},
		"taken back":             {[]entry{left, {Type: handoff.EventReleased, At: at(9)}, {Type: handoff.EventAborted, At: at(10)}}, true, at(12), nil, handoff.Journey{Left: at(6), Out: true, AtDoor: at(9)}},
		"another day":            {[]entry{left, {Type: handoff.EventCodeRefused, At: at(-20)}, {Type: handoff.EventRescheduled, At: at(-10)}}, false, at(12), nil, handoff.Journey{Left: at(6)}},
		"recalled":               {[]entry{left, {Type: handoff.EventRecalled, At: at(9)}}, true, at(12), func(g *handoff.Grant) { g.Status = handoff.Recalled }, handoff.Journey{Left: at(6)}},
		"its start is forgotten": {nil, true, at(12), nil, handoff.Journey{Out: true}},
	} {
		g := handoff.Grant{Status: handoff.Active, Window: window, History: test.history}
		if test.change != nil {
			test.change(&g)
		}
		if got := g.JourneyAt(test.now.Time(), test.driven); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func mustZone(t *testing.T) *time.Location {
	t.Helper()
	zone, err := handoff.Zone(handofftest.Zone)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}
