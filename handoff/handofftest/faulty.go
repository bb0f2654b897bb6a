package handofftest

import (
	"context"
	"fmt"
	"sync"

	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// Fault is one way in which a commit goes wrong.
type Fault int

// The faults. ReplyLost and RequestLost look alike to the caller: that is the point.
const (
	NoFault     Fault = iota
	ReplyLost         // it is done, and answers ErrUnknownOutcome
	RequestLost       // it is not done, and answers ErrUnknownOutcome
	Refused           // it is not done, and answers ErrUnavailable
	Overtaken         // it is not done, and answers ErrConflict
)

// Faulty is a store whose next commits go wrong as it is told.
type Faulty struct {
	Core
	mu   sync.Mutex
	next []Fault
}

// Next queues the fates of the commits to come; after them, all goes well again.
func (f *Faulty) Next(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = append(f.next, faults...)
}

// Calm forgets the faults that no commit has met, and reports how many there were.
func (f *Faulty) Calm() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.next)
	f.next = nil
	return n
}

// Commit implements [service.Grants].
func (f *Faulty) Commit(ctx context.Context, c service.Change) error {
	f.mu.Lock()
	fault := NoFault
	if len(f.next) > 0 {
		fault, f.next = f.next[0], f.next[1:]
	}
	f.mu.Unlock()
	switch fault {
	case ReplyLost:
		if err := f.Core.Commit(ctx, c); err != nil {
			return err
		}
		return storage.ErrUnknownOutcome
	case RequestLost:
		return storage.ErrUnknownOutcome
	case Refused:
		return fmt.Errorf("%w: by the test", storage.ErrUnavailable)
	case Overtaken:
		return storage.ErrConflict
	}
	return f.Core.Commit(ctx, c)
}
