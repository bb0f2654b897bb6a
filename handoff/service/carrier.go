package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/storage"
)

// CarrierCount is what a commit adds to a carrier's day.
type CarrierCount struct {
	Carrier  string
	Hour     int64 // in which it is counted: hours since 1970
	Wrong    int   // wrong codes to add
	Released int   // releases to add; negative for one that was taken back

	// Before is how many wrong codes the day had in the grant's partition when this one was
	// judged. With Wrong, a commit that finds another number is storage.ErrConflict: without
	// that, as many guesses would pass as can be under way at once.
	Before int
}

// carrierDay is the reservation of a courier's request at a parcel: what its code, once
// judged, adds to the carrier's day.
//
// Nothing is reserved ahead. The decision is made with a view of the day (see carriers), and
// the commit of a wrong code holds only if the view is right for the grant's partition. A right
// code needs no such condition: it does not bring the carrier nearer to its limit.
type carrierDay struct {
	unreserved
	carriers *carriers
	carrier  string
	code     bool // the request brings a code: the decision needs the day
	again    bool // the view was wrong: it must be read again
	day      func() (handoff.CarrierDay, error)
	added    *CarrierCount
}

func (c *carrierDay) reserve(ctx context.Context, _ *Preparation) {
	if c.code { // asked beside the grant, not after it
		c.day, c.again = c.carriers.ask(ctx, c.carrier, c.again), false
	}
}

func (c *carrierDay) weigh(p *pass) (err error) {
	if c.code {
		p.facts.Carrier, err = c.day()
	}
	return err
}

func (c *carrierDay) name(_ context.Context, p *pass) error {
	if d := &p.decision; d.Wrong != 0 || d.Released != 0 {
		p.change.Count = &CarrierCount{
			Carrier: c.carrier, Hour: handoff.HourOf(handoff.InstantOf(p.now)), Wrong: d.Wrong, Released: d.Released,
			Before: p.facts.Carrier.Wrong[p.Record.Grant.ID.Hash.Partition()],
		}
	}
	c.added = p.change.Count
	return nil
}

func (c *carrierDay) missed(p *pass, why error) error {
	n := p.change.Count
	if n == nil || n.Wrong == 0 || !errors.Is(why, storage.ErrConflict) {
		return nil
	}
	c.again = true
	return nil
}

func (c *carrierDay) settle(_ context.Context, e ending) {
	if e.acknowledged && c.added != nil {
		c.carriers.add(c.added, e.grant.ID.Hash.Partition())
	}
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
	store   Guesses
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
		v.day.Wrong[partition] = max(v.day.Wrong[partition], n.Before+n.Wrong)
		v.day.Released += n.Released
	}
}
