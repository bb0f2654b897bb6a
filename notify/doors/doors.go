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

// Config is what a Dispatcher is made of. All of it is required.
type Config struct {
	Grants Grants
	Feed   door.Feed
	Signer *door.Signer
	Namer  handoff.Namer // the service's own, of which a grant's name at the doors is made
	Clock  clock.Clock
}

// Dispatcher sends to doors what events call for.
type Dispatcher struct{ Config }

// New makes a Dispatcher.
func New(c Config) (*Dispatcher, error) {
	if c.Grants == nil || c.Feed == nil || c.Signer == nil || c.Namer == nil || c.Clock == nil {
		return nil, errors.New("doors: grants, a feed, a signer, a namer and a clock are needed")
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
	}
	return nil
}

// unsigned says that an event does not make a message that can be signed: no try will.
var unsigned = notify.Reason{Class: "unsigned"}

var asService = handoff.Actor{Role: handoff.RoleService}

// permit sends what was granted, unless it is over or was taken back meanwhile.
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
	raw, err := d.Signer.Permit(p)
	if err != nil {
		return notify.Permanent(err, unsigned)
	}
	return d.Feed.Send(ctx, e.Door, door.Message{Kind: KindPermit, Body: raw})
}

// recall takes back what was given out and not used, as far as it could still open.
func (d *Dispatcher) recall(ctx context.Context, e handoff.Event) error {
	now := d.Clock.Now()
	over := func(at handoff.Instant) bool { return now.Sub(at.Time()) >= door.MaxLife+2*door.Skew } // a slow clock's, too
	if over(e.At) {
		return nil // and with it whatever was given out before
	}
	g, err := d.grant(ctx, e.Grant)
	if err != nil || g == nil {
		return err
	}
	for _, u := range g.Unlocks {
		if !u.Awaited || used(u.State) || u.At > e.At || over(u.At) {
			continue
		}
		raw, err := d.Signer.Recall(door.Recall{Door: u.Door, Permit: door.PermitID(u.Permit), Expires: u.At.Time().Add(door.MaxLife)})
		if err != nil {
			return notify.Permanent(err, unsigned)
		}
		if err := d.Feed.Send(ctx, u.Door, door.Message{Kind: KindRecall, Body: raw}); err != nil {
			return err
		}
	}
	return nil
}

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
