// Package counts is how often things happen. Nothing here decides about a grant.
//
// There are four contracts, because what they answer and what bounds them differ: [Numbers] are
// sums by the hour, counted exactly once; [Patterns] counts different members within the last
// stretch of time; [Tally] is a bare count; [Limiter] gives out what comes back evenly.
package counts

import (
	"context"
	"time"

	"latchkey/handoff"
)

// Numbers keeps how often things happened, by the hour, for
// the duty officer. It decides nothing, holds no ids but a carrier's, and is forgotten
// after forty days.
type Numbers interface {
	// CountedTo is the id of the last event of a partition that was counted; empty: none was.
	CountedTo(ctx context.Context, partition int) (string, error)

	// CountEvents adds figures and moves the partition's place from one event to another, all
	// or nothing, if the place still is from; else it reports false and has done nothing. So
	// that every event is counted once, by whichever instance and however often the log is
	// read. After an error it may have been done: CountedTo tells.
	CountEvents(ctx context.Context, partition int, from, to string, figures []Figure) (bool, error)

	// AddFigures adds figures that are of no event. After an error they may have been added.
	AddFigures(ctx context.Context, figures []Figure) error

	// Figures sums the figures of the hours that begin in [from, until), in no particular
	// order. It reads two days at most.
	Figures(ctx context.Context, from, until time.Time) ([]Figure, error)
}

// Figure is how often something happened within an hour, or how much of it there was at
// most.
type Figure struct {
	Hour handoff.Instant // when the hour begins, of UTC
	Name string          // lower case; what it says is of its writers
	Peak bool            // N is the greatest of what was noted, and not their sum
	N    int64
}

// FigureHour is the hour of UTC that an instant is in.
func FigureHour(t time.Time) handoff.Instant { return handoff.InstantOf(t.UTC().Truncate(time.Hour)) }
