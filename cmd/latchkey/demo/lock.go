package demo

import (
	"context"
	"time"

	"latchkey/handoff/clock"
	"latchkey/handoff/door/controller"
)

// lock is a motor bolt with a door contact, and a person who walks through. It takes the
// time that such things take.
type lock struct {
	motor time.Duration // for one movement
	reach time.Duration // from the bolt's click until the person pushes the door
	stay  time.Duration // until the door has fallen shut behind them

	unlocked chan struct{}
}

func newLock() *lock {
	return &lock{
		motor: 600 * time.Millisecond, reach: 1200 * time.Millisecond, stay: 1800 * time.Millisecond,
		unlocked: make(chan struct{}, 1),
	}
}

// Unlock implements [controller.Opener].
func (l *lock) Unlock(ctx context.Context) error {
	if err := clock.Sleep(ctx, l.motor); err != nil {
		return err
	}
	select {
	case l.unlocked <- struct{}{}:
	default: // the person is on the way already
	}
	return nil
}

// Lock implements [controller.Opener].
func (l *lock) Lock(ctx context.Context) error { return clock.Sleep(ctx, l.motor) }

// watch is the contact: it tells of the door, which is shut until the person walks through.
func (l *lock) watch(ctx context.Context, tell func(controller.Signal)) {
	tell(controller.ContactClosed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.unlocked:
		}
		if clock.Sleep(ctx, l.reach) != nil {
			return
		}
		tell(controller.ContactOpen)
		if clock.Sleep(ctx, l.stay) != nil {
			return
		}
		tell(controller.ContactClosed)
	}
}
