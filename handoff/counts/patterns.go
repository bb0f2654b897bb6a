package counts

import (
	"context"
	"time"

	"latchkey/handoff"
)

// Patterns remembers what is seen more than once. It decides
// nothing, and may be lost.
type Patterns interface {
	// Recur notes that a member was seen at a time under a key, unless it stands there
	// already, and tells how many were seen within the stretch that ends then, and how many
	// of these before this one, those of the same second in the order in which they came.
	// Asking again gives the same rank as long as the stretch lasts. Of a key no more than a
	// thousand members are kept, the newest.
	Recur(ctx context.Context, key, member string, at handoff.Instant, within time.Duration) (n, rank int, err error)
}
