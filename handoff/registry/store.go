package registry

import (
	"context"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
)

// Reader reads buildings and doors.
type Reader interface {
	// Building reads one building; nil if there is none.
	Building(ctx context.Context, id string) (*handoff.Building, error)

	// Buildings lists the ids of all buildings, sorted.
	Buildings(ctx context.Context) ([]string, error)

	// Door reads one door with its building; nil if there is none, or it was removed. So it
	// is with the door of a service.Query.
	Door(ctx context.Context, id string) (*handoff.Door, error)

	// Doors lists the ids of a building's doors, in no particular order. Removed ones are not
	// among them.
	Doors(ctx context.Context, building string) ([]string, error)
}

// Store keeps buildings and doors.
type Store interface {
	Reader

	// PutBuilding writes a building, all of it.
	PutBuilding(ctx context.Context, b handoff.Building) error

	// ChangeBuilding writes what change makes of the building that stands, nil if there is
	// none; an error of change is returned, and nothing written. It is asked again where
	// another wrote meanwhile, so that each writer sees what it replaces.
	ChangeBuilding(ctx context.Context, id string, change func(before *handoff.Building) (handoff.Building, error)) error

	// PutDoor writes a door, all of it, as what Door.Replacing makes of it and of the one
	// that it replaces: ErrDoorMoved or ErrKeypadKey if it must not. Of any number of writers
	// at once, each replaces what another wrote, or the first of them nothing. A door that
	// is written as removed is none from then on; its id stays its building's, which alone
	// can bring it back.
	PutDoor(ctx context.Context, d handoff.Door) error

	// ChangeDoor is PutDoor of what change makes of the door that stands, as in
	// ChangeBuilding. A door that was removed is shown as such.
	ChangeDoor(ctx context.Context, id string, change func(before *handoff.Door) (handoff.Door, error)) error
}

// Log is what a Registry needs of an event log.
type Log interface {
	Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error
	Noted(ctx context.Context, partition int, name string) (string, error)                                        // see eventlog.Log
	AppendNoted(ctx context.Context, now handoff.Instant, n eventlog.Note, events ...handoff.Event) (bool, error) // see eventlog.Log
}
