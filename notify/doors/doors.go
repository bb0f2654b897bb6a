// Package doors brings permits, and their recalls, to the doors that dialed in.
//
// It is a group of readers of the event log. A permit that was granted is made again
// from what the event says of it, so that the door gets, byte for byte, what the
// courier was answered, and gets it although the instance that answered died a moment
// later. What comes twice is harmless: a door uses a permit once.
package doors

import (
	"context"
	"errors"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/notify"
)

// Group is the readers' name in the log.
const Group = "doors"

// Poll is how often the log is to be looked at for this group: a courier stands before
// a door that is shut.
const Poll = 50 * time.Millisecond

// The kinds of message on a door's feed.
const (
	KindPermit = "permit"
	KindRecall = "recall"
)

// Grants reads grants; a [service.Service].
type Grants interface {
	Grant(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error)
}

// Couriers is what carriers say of their couriers; a [service.Couriers].
type Couriers interface {
	Courier(ctx context.Context, ref handoff.CourierRef) (*handoff.Courier, error)
	SignOutCourier(ctx context.Context, ref handoff.CourierRef, at handoff.Instant) error
}

// Config is what a Dispatcher is made of. All of it is required.
type Config struct {
	Grants   Grants
	Couriers Couriers
	Events   eventlog.Reading // finds which permits a courier was given
	Feed     door.Feed
	Signer   *door.Signer
	Namer    handoff.Namer // the service's own, of which a grant's name at the doors is made
	Clock    clock.Clock
}

// Dispatcher sends to doors what events call for.
type Dispatcher struct{ Config }

// New makes a Dispatcher.
func New(c Config) (*Dispatcher, error) {
	if c.Grants == nil || c.Couriers == nil || c.Events == nil || c.Feed == nil || c.Signer == nil || c.Namer == nil || c.Clock == nil {
		return nil, errors.New("doors: grants, couriers, the log, a feed, a signer, a namer and a clock are needed")
	}
	return &Dispatcher{c}, nil
}

var _ notify.Handler = (&Dispatcher{}).Handle

// Handle implements [notify.Handler].
func (d *Dispatcher) Handle(ctx context.Context, delivery eventlog.Delivery) error {
	e := delivery.Event
	switch e.Type {
	case handoff.EventPermitted:
		return d.permit(ctx, e)
	case handoff.EventRecalled, handoff.EventHeld, handoff.EventDistrusted, handoff.EventExpired, handoff.EventRescheduled,
		handoff.EventReleased, handoff.EventCollected, handoff.EventOverridden:
		return d.recall(ctx, e)
	case handoff.EventCourierSignedOut:
		return d.signedOut(ctx, e)
	case handoff.EventCourierChanged:
		return d.changed(ctx, e)
	}
	return nil
}

// unsigned says that an event does not make a message that can be signed: no try will.
var unsigned = notify.Reason{Class: "unsigned"}

var asService = handoff.Actor{Role: handoff.RoleService}

// permit sends what was granted, unless it is over, was taken back meanwhile, or its courier may
// not open doors any more.
func (d *Dispatcher) permit(ctx context.Context, e handoff.Event) error {
	now := d.Clock.Now()
	p := door.Opening{
		ID: door.PermitID(e.Permit), Door: e.Door, Grant: handoff.DoorRef(d.Namer, e.Grant), At: e.At.Time(), Challenge: e.Challenge, Relock: e.Relock,
	}.Permit()
	if !e.Awaited || !now.Before(p.Expires) {
		return nil
	}
	g, err := d.grant(ctx, e.Grant)
	if err != nil || g == nil || g.StatusAt(now) != handoff.Active || !g.Window.Contains(now) {
		return err
	}
	c, err := d.Couriers.Courier(ctx, handoff.CourierRef{Carrier: e.Carrier, ID: e.Courier})
	if err != nil || !c.Cleared(now) || !c.Admits(e.At) || !c.DrivesOn(g.Route(), g.Day()) {
		return err
	}
	raw, err := d.Signer.Permit(p)
	if err != nil {
		return notify.Permanent(err, unsigned)
	}
	return d.Feed.Send(ctx, e.Door, door.Message{Kind: KindPermit, Body: raw})
}

// recall takes back what was given out and not used, as far as it could still open.
func (d *Dispatcher) recall(ctx context.Context, e handoff.Event) error {
	if d.over(e.At) {
		return nil // and with it whatever was given out before
	}
	g, err := d.grant(ctx, e.Grant)
	if err != nil || g == nil {
		return err
	}
	for _, u := range g.Unlocks {
		if u.At > e.At {
			continue
		}
		if err := d.takeBack(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// over reports whether a permit that was given out then opens nothing any more, also at a door
// whose clock is slow.
func (d *Dispatcher) over(at handoff.Instant) bool {
	return d.Clock.Now().Sub(at.Time()) >= stillOpens
}

const stillOpens = door.MaxLife + 2*door.Skew

// takeBack tells a door not to open for a permit, as far as it could.
func (d *Dispatcher) takeBack(ctx context.Context, u handoff.Unlock) error {
	if !u.Awaited || used(u.State) || d.over(u.At) {
		return nil
	}
	raw, err := d.Signer.Recall(door.Recall{Door: u.Door, Permit: door.PermitID(u.Permit), Expires: u.At.Time().Add(door.MaxLife)})
	if err != nil {
		return notify.Permanent(err, unsigned)
	}
	return d.Feed.Send(ctx, u.Door, door.Message{Kind: KindRecall, Body: raw})
}

// signedOut takes back a courier's permits. The service logs a sign-out before it is noted; here
// it is noted as well, should the service not have come to it. Then no permit can follow that is
// not in the log yet.
func (d *Dispatcher) signedOut(ctx context.Context, e handoff.Event) error {
	ref := handoff.CourierRef{Carrier: e.Carrier, ID: e.Courier}
	if err := d.Couriers.SignOutCourier(ctx, ref, e.At); err != nil {
		return err
	}
	return d.takeBackAll(ctx, ref, e.At)
}

// changed takes a courier's permits back where the courier was suspended, or is not cleared any more.
func (d *Dispatcher) changed(ctx context.Context, e handoff.Event) error {
	ref := handoff.CourierRef{Carrier: e.Carrier, ID: e.Courier}
	if d.over(e.At) {
		return nil
	}
	if !slices.Contains(e.Changes, handoff.Suspended) { // which may not be noted yet
		c, err := d.Couriers.Courier(ctx, ref)
		if err != nil || c.Cleared(d.Clock.Now()) {
			return err
		}
	}
	return d.takeBackAll(ctx, ref, e.At)
}

// noting is how long after its event what an event says may still be being noted. A permit of that
// time is taken back, too: if it was given by a new sign-in, its courier asks for another.
const noting = 5 * time.Second

// takeBackAll takes back what a courier was given out up to a time, or while the reason was being
// noted. The log knows it, whatever became of the courier's routes.
func (d *Dispatcher) takeBackAll(ctx context.Context, ref handoff.CourierRef, until handoff.Instant) error {
	if d.over(until) {
		return nil
	}
	filter := eventlog.Filter{
		Types: []handoff.EventType{handoff.EventPermitted}, Carrier: ref.Carrier, Courier: ref.ID,
		From: d.Clock.Now().Add(-stillOpens), To: until.Time().Add(noting),
	}
	for page := (eventlog.Page{More: true}); page.More; {
		var err error
		if page, err = eventlog.Query(ctx, d.Events, filter, page.Next, eventsAtOnce); err != nil {
			return err
		}
		for _, l := range page.Events {
			g, err := d.grant(ctx, l.Event.Grant)
			if err != nil {
				return err
			}
			if g == nil {
				continue
			}
			if u := g.Unlock(l.Event.Permit); u != nil {
				if err := d.takeBack(ctx, *u); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

const eventsAtOnce = 100

// used reports whether a permit is known to open nothing any more.
func used(s handoff.DoorState) bool {
	switch s {
	case handoff.DoorAuthorised, handoff.DoorDelivered, handoff.DoorSilent:
		return false
	}
	return true
}

// grant reads the grant of an event; nil if it is gone.
func (d *Dispatcher) grant(ctx context.Context, id handoff.GrantID) (*handoff.Grant, error) {
	g, err := d.Grants.Grant(ctx, asService, id)
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &g, nil
}
