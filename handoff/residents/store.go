package residents

import (
	"context"

	"latchkey/handoff"
)

// PageOfMarks is how many topics a page has room for: strangers can make them up.
const PageOfMarks = 1000

// Store keeps who is told what happens in a building. A
// resident is sealed as a whole; the id under which it is kept does not tell the address.
type Store interface {
	// Residents lists a building's residents and what was noted of its manager, in the
	// order of their ids.
	Residents(ctx context.Context, building string) ([]Resident, error)

	// Resident reads one; nil if there is none.
	Resident(ctx context.Context, building string, id handoff.ResidentID) (*Resident, error)

	// PutResident writes a resident, if the one that stands still has its Revision; else
	// ErrConflict. It may be repeated by the store: who is told of a conflict reads again
	// and may find its own write.
	PutResident(ctx context.Context, r Resident) error

	// DropResident forgets a resident, under the same condition.
	DropResident(ctx context.Context, r Resident) error

	// Mark enters a topic on a page, and tells which entry it is, from 1, and whether it
	// was ended. A topic that is on the page already keeps its number. A page is kept for a
	// week after its last entry. It has room for PageOfMarks: what comes beyond is not kept,
	// and has the number after the last.
	Mark(ctx context.Context, m Mark) (number int, ended bool, err error)

	// EndMark notes that a topic is done with, so that who comes back after a crash knows.
	EndMark(ctx context.Context, m Mark) error
}

// Mark is one topic on a page: a list of what was done in a day, kept to bound it and to
// do nothing twice.
type Mark struct {
	Building string // empty: of no building
	Of       string // whose page: a resident's id, or what is counted
	Day      handoff.Date
	Topic    string // an id: it tells no address
}
