package service

import (
	"context"
	"fmt"
	"sync"

	"latchkey/handoff"
	"latchkey/handoff/storage"
)

// turns lets a courier's requests with a code through one after the other, in the order in
// which they came.
//
// A courier hands over one parcel at a time. A device that sends five hundred guesses at once
// would otherwise cost five hundred times five hundred places read in its budget, and conflicts
// for everyone at the same parcel. The budget still bounds the guesses: turns are of one
// process, and other instances know nothing of them.
type turns struct {
	mu    sync.Mutex
	taken map[handoff.CourierRef]*turn
}

// turn is the turn of one courier.
type turn struct {
	free  chan struct{} // holds one element while no request has the turn
	users int           // requests that have it or wait for it
}

// take waits for a courier's turn, and returns what ends it. The error is
// storage.ErrUnavailable, and ctx's: the turn did not come in time.
func (t *turns) take(ctx context.Context, courier handoff.CourierRef) (end func(), err error) {
	mine := t.join(courier)
	select {
	case <-mine.free:
		return func() { mine.free <- struct{}{}; t.leave(courier, mine) }, nil
	case <-ctx.Done():
		t.leave(courier, mine)
		return nil, fmt.Errorf("%w: the courier's other requests take too long: %w", storage.ErrUnavailable, ctx.Err())
	}
}

func (t *turns) join(courier handoff.CourierRef) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.taken[courier]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		t.taken[courier] = mine
	}
	mine.users++
	return mine
}

func (t *turns) leave(courier handoff.CourierRef, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.taken, courier)
	}
}
