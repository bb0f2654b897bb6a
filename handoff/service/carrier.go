package service

import (
	"context"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/storage"
)

// CarrierCount is what a commit adds to a carrier's day.
type CarrierCount struct {
	Carrier         string
	Hour            int64
	Wrong, Released int // what is added; Released may be negative

	// Seen is how many wrong codes the day had in the grant's partition when this one was
	// judged. With Wrong, a commit that finds another number is ErrConflict: without that,
	// as many guesses would be let pass as can be under way at once.
	Seen int
}

// carriers are the carriers' days as this service last saw them, so that a verify need not
// wait for them. A view is read anew behind the answers once it is a second old.
//
// An old view does not let many guess more: it holds all that its own service counted, and
// a commit that counts a wrong code is a conflict where its partition's count is not the
// one in the view; then the view is read before anything is decided. So no service lets
// more than the limit pass on its own, and several at once are soon of one mind: they meet
// in the same partitions, and read anew within a second in any case.
type carriers struct {
	store   Store
	clock   clock.Clock
	reading *sync.WaitGroup

	mu    sync.Mutex
	views map[string]*carrierView
}

type carrierView struct {
	day  handoff.CarrierDay
	at   time.Time // when it was asked for; zero: never
	done chan struct{}
	err  error
}

const (
	viewFresh = time.Second      // younger: as good as new
	viewOld   = 10 * time.Second // older: waited for, beside the grant's own trip
)

// ask begins to read a carrier's day if the view is not fresh, and returns what waits for
// it as long as need be. Anew asks in any case.
func (c *carriers) ask(ctx context.Context, carrier string, anew bool) func() (handoff.CarrierDay, error) {
	now := c.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.views[carrier]
	if v == nil {
		v = &carrierView{}
		c.views[carrier] = v
	}
	age := now.Sub(v.at)
	if !anew && age >= 0 && age < viewFresh && v.day.Hour == handoff.HourOf(handoff.InstantOf(now)) {
		day := v.day
		return func() (handoff.CarrierDay, error) { return day, nil }
	}
	if v.done == nil || anew { // who asks anew must not be told what was read before
		done := make(chan struct{})
		v.done = done
		c.reading.Go(func() { c.read(ctx, v, carrier, done) })
	}
	if !anew && age >= 0 && age < viewOld && v.day.Hour == handoff.HourOf(handoff.InstantOf(now)) {
		day := v.day
		return func() (handoff.CarrierDay, error) { return day, nil }
	}
	done := v.done
	return func() (handoff.CarrierDay, error) {
		select {
		case <-done:
		case <-ctx.Done():
			return handoff.CarrierDay{}, storage.ErrUnavailable
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if v.at.IsZero() {
			return handoff.CarrierDay{}, v.err
		}
		return v.day, nil // perhaps an old one, where a part of the store is away
	}
}

func (c *carriers) read(ctx context.Context, v *carrierView, carrier string, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	asked := c.clock.Now()
	day, err := c.store.CarrierDay(ctx, carrier, handoff.InstantOf(asked))
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.err = err; err == nil && !asked.Before(v.at) {
		v.day, v.at = day, asked
	}
	if v.done == done {
		v.done = nil
	}
	close(done)
}

// add brings a commit of this service's own into its view.
func (c *carriers) add(n *CarrierCount, partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.views[n.Carrier]; v != nil && v.day.Hour == n.Hour {
		v.day.Wrong[partition] = max(v.day.Wrong[partition], n.Seen+n.Wrong)
		v.day.Released += n.Released
	}
}
