package handoff

import (
	"time"
)

// Due is the next instant at which time alone changes the grant; 0 if none will.
func (g *Grant) Due() Instant {
	due := g.scrubDue()
	if g.Status == Active {
		due = g.Window.Until
	}
	for i := range g.Unlocks {
		if u := &g.Unlocks[i]; u.unanswered() && (due == 0 || u.deadline() < due) {
			due = u.deadline()
		}
	}
	return due
}

// scrubAfter is how long the name and the address stay in a closed grant: long enough to
// find out where a parcel went.
const scrubAfter = 7 * 24 * time.Hour

// scrubDue is when personal data is to leave the grant; 0 if it has left, or the grant is
// not closed.
func (g *Grant) scrubDue() Instant {
	switch {
	case !g.Status.Closed():
		return 0
	case g.EraseAsked:
		return g.ClosedAt
	case g.Scrubbed == nil:
		return InstantOf(g.ClosedAt.Time().Add(scrubAfter))
	}
	return 0
}
