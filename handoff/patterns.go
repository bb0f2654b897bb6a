package handoff

import (
	"context"
	"time"
)

// Patterns is the part of a Store that remembers what is seen more than once. It decides
// nothing, and may be lost.
type Patterns interface {
	// Recur notes that a member was seen at a time under a key, unless it stands there
	// already, and tells how many were seen within the stretch that ends then, and how many
	// of these before this one, those of the same second in the order in which they came.
	// Asking again gives the same rank as long as the stretch lasts. Of a key no more than a
	// thousand members are kept, the newest.
	Recur(ctx context.Context, key, member string, at Instant, within time.Duration) (n, rank int, err error)
}

// The signals, as the Reason of EventSignal.
const (
	WrongCodesByCourier Reason = "wrong-codes-by-courier"
	WrongCodesByRoute   Reason = "wrong-codes-by-route"
	WrongCodesByDepot   Reason = "wrong-codes-by-depot"
	FarFromAddress      Reason = "far-from-address"
	SoonAfterDispatch   Reason = "soon-after-dispatch"
	SharedDevice        Reason = "shared-device"
)
