// Package signals looks for patterns in what happens, and puts them before the duty
// officer: events of their own on the log, which refuse no request.
//
//	wrong-codes-by-courier   wrong codes on several parcels within an hour, by one courier
//	wrong-codes-by-route     ... on one route
//	wrong-codes-by-depot     ... on all routes of a depot
//	far-from-address         a handoff that was tried far from where the parcel goes
//	soon-after-dispatch      a handoff a few minutes after the parcel left the warehouse
//	shared-device            one device, two couriers, one day
//
// From when on each is told says the policy. A pattern that goes on is told once an hour.
package signals

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/counts"
	"latchkey/handoff/eventlog"
	"latchkey/notify"
)

// Group is the readers' name in the log.
const Group = "signals"

// Grants reads grants; a [service.Service].
type Grants interface {
	Grant(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error)
}

// Log is where signals are told; a [eventlog.Log].
type Log interface {
	Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error
}

// Config is what a Watcher is made of. All of it is required.
type Config struct {
	Grants   Grants
	Patterns counts.Patterns
	Log      Log
	Limits   handoff.Signals
	Clock    clock.Clock
}

// Watcher turns events into signals.
type Watcher struct{ Config }

// New makes a Watcher.
func New(c Config) (*Watcher, error) {
	if c.Grants == nil || c.Patterns == nil || c.Log == nil || c.Clock == nil || c.Limits == (handoff.Signals{}) {
		return nil, errors.New("signals: grants, patterns, a log, limits and a clock are needed")
	}
	return &Watcher{c}, nil
}

var _ notify.Handler = (&Watcher{}).Handle

const (
	burst = time.Hour
	shift = 24 * time.Hour

	// stale bounds how late an event is still looked at: a pattern of last week is no reason to act.
	stale = 24 * time.Hour
)

// Handle implements [notify.Handler]. Each event may come more than once: it is counted
// once, by its name.
func (w *Watcher) Handle(ctx context.Context, d eventlog.Delivery) error {
	e := &d.Event
	if w.Clock.Now().Sub(e.At.Time()) >= stale {
		return nil
	}
	if err := w.device(ctx, &d); err != nil {
		return err
	}
	switch e.Type {
	case handoff.EventCodeRefused:
		return w.wrongCode(ctx, &d)
	case handoff.EventElsewhere:
		return w.raise(ctx, &d, handoff.FarFromAddress, e.Courier, signal(e))
	case handoff.EventReleased:
		return w.soon(ctx, &d)
	}
	return nil
}

// wrongCode counts the parcels on which wrong codes were tried: a customer who mistypes
// is one parcel.
func (w *Watcher) wrongCode(ctx context.Context, d *eventlog.Delivery) error {
	e := &d.Event
	depot := e.Route[:max(0, strings.LastIndexByte(e.Route, '-'))]
	for _, by := range []struct {
		reason handoff.Reason
		name   string
		most   int
		told   handoff.Event
	}{
		{handoff.WrongCodesByCourier, e.Courier, w.Limits.Courier, handoff.Event{Courier: e.Courier, Route: e.Route}},
		{handoff.WrongCodesByRoute, e.Route, w.Limits.Route, handoff.Event{Route: e.Route}},
		{handoff.WrongCodesByDepot, depot, w.Limits.Depot, handoff.Event{Route: depot}},
	} {
		if by.name == "" {
			continue
		}
		n, _, err := w.Patterns.Recur(ctx, key(string(by.reason), e.Carrier, by.name), e.Grant.String(), e.At, burst)
		if err != nil {
			return err
		}
		if n < by.most {
			continue
		}
		by.told.Carrier, by.told.At = e.Carrier, e.At
		if err := w.raise(ctx, d, by.reason, by.name, by.told); err != nil {
			return err
		}
	}
	return nil
}

// soon looks at how long the parcel was under way.
func (w *Watcher) soon(ctx context.Context, d *eventlog.Delivery) error {
	e := &d.Event
	g, err := w.Grants.Grant(ctx, handoff.Actor{Role: handoff.RoleService}, e.Grant)
	var refused *handoff.Refusal
	switch {
	case errors.As(err, &refused):
		return nil // it is gone
	case err != nil:
		return err
	case len(g.History) == 0 || g.History[0].Type != handoff.EventDispatched:
		return nil // so much happened that its beginning is forgotten: it was not soon
	}
	if e.At.Time().Sub(g.History[0].At.Time()) > time.Duration(w.Limits.Soon)*time.Minute {
		return nil
	}
	return w.raise(ctx, d, handoff.SoonAfterDispatch, e.Grant.String(), signal(e))
}

// device notes who acts with a device. A device that changes hands between two shifts
// shows up once; the duty officer knows whether it may.
func (w *Watcher) device(ctx context.Context, d *eventlog.Delivery) error {
	e := &d.Event
	if e.Device == "" || e.Courier == "" {
		return nil
	}
	n, _, err := w.Patterns.Recur(ctx, key(string(handoff.SharedDevice), e.Carrier, e.Device), e.Courier, e.At, shift)
	if err != nil || n < 2 {
		return err
	}
	return w.raise(ctx, d, handoff.SharedDevice, e.Device, handoff.Event{Carrier: e.Carrier, Courier: e.Courier, Route: e.Route, Device: e.Device, At: e.At})
}

// signal is what a signal about one event says of it. It belongs to no grant: its life
// is the grant's own.
func signal(e *handoff.Event) handoff.Event {
	return handoff.Event{
		At: e.At, Shop: e.Shop, Carrier: e.Carrier, Parcel: e.Parcel, Route: e.Route, Courier: e.Courier, Device: e.Device, Distance: e.Distance,
	}
}

// raise tells a signal, once an hour for whom it is about: by the event that was the
// first of that hour. Should its reader die before it was told, the event comes again.
func (w *Watcher) raise(ctx context.Context, d *eventlog.Delivery, reason handoff.Reason, about string, told handoff.Event) error {
	e := &d.Event
	_, rank, err := w.Patterns.Recur(ctx, key("raised", string(reason), e.Carrier, about), name(d.ID), handoff.InstantOf(w.Clock.Now()), burst)
	if err != nil || rank > 0 {
		return err
	}
	told.Type, told.Reason = handoff.EventSignal, reason
	return w.Log.Append(ctx, handoff.InstantOf(w.Clock.Now()), told)
}

func name(id eventlog.ID) string { return strconv.Itoa(id.Partition) + "-" + id.ID }

// key joins names that hold no colon.
func key(parts ...string) string { return strings.Join(parts, ":") }
