package service

import (
	"context"
	"errors"
	"fmt"
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
	// judged. With Wrong, a commit that finds another number is a *CountConflict: without
	// that, as many guesses would pass as can be under way at once.
	Before int
}

// CountConflict is the storage.ErrConflict of a commit that found another number of wrong codes
// in the carrier's day than the decision was made with. Nothing was written.
type CountConflict struct {
	Wrong int // what the day has in the grant's partition
}

func (*CountConflict) Error() string {
	return "the carrier's wrong codes in the partition changed since they were read"
}

// Unwrap is storage.ErrConflict.
func (*CountConflict) Unwrap() error { return storage.ErrConflict }

// carrierDay is the reservation of a courier's request at a parcel: what its code, once
// judged, adds to the carrier's day.
//
// Nothing is reserved ahead. The decision is made with a view of the day (see carriers), and
// the commit of a wrong code holds only if the view is right for the grant's partition. A right
// code needs no such condition: it does not bring the carrier nearer to its limit.
type carrierDay struct {
	carriers *carriers
	carrier  string
	code     bool           // the request brings a code: the decision needs the day
	again    bool           // the view was wrong: it must be read again
	found    *CountConflict // what the last commit found in the grant's partition; nil: no other count
	day      func() (handoff.CarrierDay, error)
	added    *CarrierCount
}

func (c *carrierDay) reserve(ctx context.Context, _ *Preparation) {
	if c.code { // asked beside the grant, not after it
		c.day, c.again = c.carriers.ask(ctx, c.carrier, c.again), false
	}
}

func (c *carrierDay) weigh(p *pass) (err error) {
	if !c.code {
		return nil
	}
	p.facts.Carrier, err = c.day()
	if c.found != nil && p.Record != nil { // it is newer than a view that comes late
		p.facts.Carrier.Wrong[p.Record.Grant.ID.Hash.Partition()] = c.found.Wrong
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
	c.found = nil
	errors.As(why, &c.found)
	if n := p.change.Count; n != nil && n.Wrong > 0 && errors.Is(why, storage.ErrConflict) {
		c.again = true
	}
	return nil
}

func (c *carrierDay) settle(_ context.Context, e ending) {
	if e.acknowledged && c.added != nil {
		c.carriers.add(c.added, e.grant.ID.Hash.Partition())
	}
}

// carriers are the carriers' days as this service last read them, so that a verify need not
// wait for them. A view is read again behind the answers once it is a second old.
//
// A view that is late does not let many guess more. It holds what its own service counted. A
// commit that counts a wrong code is a conflict where its partition's count is not the view's.
// And a service reads the day again, before it decides anything more, after every few wrong
// codes of its own (see ownWrong). So one service lets no more than the limit pass, and each
// further one at most ownWrong beyond it, besides the guesses that are under way at once.
//
// The views of a carrier are ordered by when they were asked for: by a number, not by a clock,
// which may be set back. The process's elapsed time tells how old a view is.
type carriers struct {
	store   Guesses
	clock   clock.Clock
	elapsed func() time.Duration
	limits  *handoff.Limits
	reading *sync.WaitGroup

	mu    sync.Mutex
	asked uint64 // numbers the reads of all carriers
	views map[string]*carrierView
}

// carrierView is a carrier's day as it was last read.
type carrierView struct {
	day   handoff.CarrierDay
	read  uint64        // the number of the read that the day is from; 0: none has succeeded
	at    time.Duration // when that read was asked for
	wrong int           // wrong codes that this service has counted since

	next *carrierRead // under way; nil: none
	err  error        // of the newest read that ended
}

// carrierRead is one reading of a carrier's day.
type carrierRead struct {
	number uint64
	at     time.Duration
	done   chan struct{}
}

const (
	viewFresh = time.Second      // younger: as good as new
	viewOld   = 10 * time.Second // older: waited for, beside the grant's own trip
)

// ownWrong is how many wrong codes a service counts before it reads the carrier's day again:
// one in 25 of the limit, and one at least.
func ownWrong(l *handoff.Limits, day *handoff.CarrierDay) int {
	return max(l.Carrier(day.Released)/25, 1)
}

// ask begins to read a carrier's day if the view is not fresh, and returns what waits for
// it as long as need be. If again is set, it reads in any case and waits for that read.
func (c *carriers) ask(ctx context.Context, carrier string, again bool) func() (handoff.CarrierDay, error) {
	now, hour := c.elapsed(), handoff.HourOf(handoff.InstantOf(c.clock.Now()))
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.views[carrier]
	if v == nil {
		v = &carrierView{}
		c.views[carrier] = v
	}
	again = again || v.wrong >= ownWrong(c.limits, &v.day)
	usable := !again && v.read != 0 && v.day.Hour == hour
	day, age := v.day, now-v.at
	if usable && age < viewFresh {
		return func() (handoff.CarrierDay, error) { return day, nil }
	}
	if v.next == nil || again {
		c.asked++
		read := &carrierRead{number: c.asked, at: now, done: make(chan struct{})}
		v.next = read
		c.reading.Go(func() { c.read(ctx, v, carrier, read) })
	}
	if usable && age < viewOld {
		return func() (handoff.CarrierDay, error) { return day, nil }
	}
	done := v.next.done
	return func() (handoff.CarrierDay, error) {
		select {
		case <-done:
		case <-ctx.Done():
			return handoff.CarrierDay{}, fmt.Errorf("%w: the carrier's day: %w", storage.ErrUnavailable, ctx.Err())
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if v.read == 0 {
			return handoff.CarrierDay{}, fmt.Errorf("the carrier's day: %w", v.err)
		}
		return v.day, nil // perhaps an old one, where a part of the store is away
	}
}

// read reads a day, which becomes the view unless one that was asked for later is there.
func (c *carriers) read(ctx context.Context, v *carrierView, carrier string, read *carrierRead) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	day, err := c.store.CarrierDay(ctx, carrier, handoff.InstantOf(c.clock.Now()))
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.err = err; err == nil && read.number > v.read {
		v.day, v.read, v.at, v.wrong = day, read.number, read.at, 0
	}
	if v.next == read {
		v.next = nil
	}
	close(read.done)
}

// add brings a commit of this service's own into its view.
func (c *carriers) add(n *CarrierCount, partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.views[n.Carrier]
	if v == nil {
		return
	}
	v.wrong += n.Wrong
	if n.Wrong > 0 {
		v.day.Wrong[partition] = max(v.day.Wrong[partition], n.Before+n.Wrong)
	}
	v.day.Released += n.Released
}
