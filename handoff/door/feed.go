package door

import (
	"context"
)

// Feed is the part of a Store that carries messages to the doors that dialed in:
// permits, and recalls of permits that are on their way. A message is sealed at rest,
// kept for a few minutes and read in order, by any instance.
type Feed interface {
	// Send appends a message for a door.
	Send(ctx context.Context, door string, m Message) error

	// Receive returns up to limit messages for a door after a cursor; empty: those of the
	// last minutes.
	Receive(ctx context.Context, door, after string, limit int) ([]Message, error)
}

// Message is one message for a door.
type Message struct {
	Cursor string // set by Receive
	Kind   string // permit or recall
	Body   []byte // as package door encodes it
}
