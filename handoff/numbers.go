package handoff

import (
	"context"
	"time"
)

// Numbers is the part of a Store that keeps how often things happened, by the hour, for
// the duty officer. It decides nothing, holds no ids but a carrier's, and is forgotten
// after forty days.
type Numbers interface {
	// CountedTo is the id of the last event of a partition that was counted; empty: none was.
	CountedTo(ctx context.Context, partition int) (string, error)

	// CountEvents adds figures and moves the partition's place from one event to another, all
	// or nothing, if the place still is from; else it reports false and has done nothing. So
	// that every event is counted once, whoever reads the log and however often. After an
	// error it may have been done: CountedTo tells.
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
	Hour Instant // when the hour begins, of UTC
	Name string  // lower case; what it says is of its writers
	Peak bool    // N is the greatest of what was noted, and not their sum
	N    int64
}

// FigureHour is the hour of UTC that an instant is in.
func FigureHour(t time.Time) Instant { return InstantOf(t.UTC().Truncate(time.Hour)) }

// Figures sums what happened in the hours that begin in [from, until).
func (s *Service) Figures(ctx context.Context, from, until time.Time) ([]Figure, error) {
	return s.store.Figures(ctx, from, until)
}
