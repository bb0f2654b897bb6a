// Package clock is the time as it is injected everywhere.
package clock

import (
	"context"
	"time"
)

// Clock tells the time. It is injected, so that a day takes a test no time.
//
// It is a wall clock: an operator or a time server may set it, forward and back, at any
// moment, and the clocks of two processes differ. What must not depend on that is ordered by
// a number, or measured by [Elapsed].
type Clock interface{ Now() time.Time }

// Elapsed returns a function that tells how much time has passed, from some start on, which
// no setting of a wall clock changes: by the clock itself, if it has a method of that name
// (as tests have), or else by the process's monotonic clock.
func Elapsed(c Clock) func() time.Duration {
	if own, ok := c.(interface{ Elapsed() time.Duration }); ok {
		return own.Elapsed
	}
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// Sleep waits for d of the process's own time. The error is ctx's, if it ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
