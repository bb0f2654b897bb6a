package service

import (
	"context"
	"errors"
	"time"

	"latchkey/handoff"
)

// Couriers keeps what carriers say of their couriers and routes. All errors are
// storage.ErrUnavailable, and of Courier also storage.ErrSealed.
type Couriers interface {
	// Courier reads one courier's record; nil if there is none.
	Courier(ctx context.Context, ref handoff.CourierRef) (*handoff.Courier, error)

	// PutCourier sets the fields that are given and keeps the others. A courier that is
	// new and was given no clearance is not cleared.
	PutCourier(ctx context.Context, ref handoff.CourierRef, u CourierUpdate) error

	// SignOutCourier ends all tokens and sessions of a courier that exist up to then. Of two such
	// times the later one holds, in whatever order they come. It may be repeated.
	SignOutCourier(ctx context.Context, ref handoff.CourierRef, at handoff.Instant) error

	// ClearBudget keeps who clears a courier's budget, and why, and then forgets the courier's
	// wrong codes. It may be repeated.
	ClearBudget(ctx context.Context, ref handoff.CourierRef, c Clearing) error

	// Clearings are the newest sixteen of the retention, the newest first. The error may be
	// storage.ErrSealed.
	Clearings(ctx context.Context, ref handoff.CourierRef) ([]Clearing, error)

	// AssignRoute makes courier the only one who drives the route that day. It is three
	// writes in an order that fails closed: the courier who drove it before stops first.
	AssignRoute(ctx context.Context, r RouteRef, courier string, now handoff.Instant) error

	// Driver is the courier that the route was last assigned to; empty if it never was, or
	// its day is long over.
	Driver(ctx context.Context, r RouteRef) (string, error)
}

// CourierUpdate is what to set in a courier's record.
type CourierUpdate struct {
	Name         *string
	ClearedUntil *handoff.Instant
	Suspended    *bool
}

// Clearing is why a person cleared a courier's budget. The reason may name people, so it is in
// no event.
type Clearing struct {
	At     handoff.Instant `cbor:"1,keyasint"`
	Who    string          `cbor:"2,keyasint"` // as events name the person
	Reason string          `cbor:"3,keyasint"`
}

// ErrCourierUnknown says that the carrier has registered no such courier.
var ErrCourierUnknown = errors.New("service: the courier is unknown")

// SignOutCourier ends a courier's tokens and sessions, and takes back the permits that are open:
// a phone is lost. It holds from the next request on, also on other instances. It returns the
// time: a token or session that began later is served. The error may be ErrCourierUnknown.
//
// The log hears of it first. Who reads it there does the rest where this instance could not.
func (s *Service) SignOutCourier(ctx context.Context, by handoff.Actor, ref handoff.CourierRef) (time.Time, error) {
	c, err := s.store.Courier(ctx, ref)
	if err == nil && c == nil {
		err = ErrCourierUnknown
	}
	if err != nil {
		return time.Time{}, err
	}
	now := handoff.InstantOf(s.clock.Now())
	if err := s.tell(ctx, by, handoff.Event{Type: handoff.EventCourierSignedOut, At: now, Carrier: ref.Carrier, Courier: ref.ID}); err != nil {
		return time.Time{}, err
	}
	if err := s.store.SignOutCourier(ctx, ref, now); err != nil {
		return time.Time{}, err
	}
	// They are no longer believed. Without them the pages ask for a sign-in at once.
	return now.Time(), s.store.RemoveSessionsOfCourier(ctx, ref)
}

// UpdateCourier registers or changes a courier. What changes is told before it is done.
func (s *Service) UpdateCourier(ctx context.Context, by handoff.Actor, ref handoff.CourierRef, u CourierUpdate) error {
	before, err := s.store.Courier(ctx, ref)
	if err != nil {
		return err
	}
	if changes := u.changes(before); len(changes) > 0 {
		err := s.tell(ctx, by, handoff.Event{Type: handoff.EventCourierChanged, Carrier: ref.Carrier, Courier: ref.ID, Changes: changes})
		if err != nil {
			return err
		}
	}
	return s.store.PutCourier(ctx, ref, u)
}

// changes names what an update changes of a record, by the names of the API.
func (u *CourierUpdate) changes(before *handoff.Courier) (changes []string) {
	was := handoff.Courier{}
	if before != nil {
		was = *before
	}
	if u.Name != nil && *u.Name != was.Name {
		changes = append(changes, "name")
	}
	if u.ClearedUntil != nil && *u.ClearedUntil != was.ClearedUntil {
		changes = append(changes, "cleared_until")
	}
	if u.Suspended != nil && *u.Suspended != was.Suspended {
		changes = append(changes, map[bool]string{true: handoff.Suspended, false: handoff.Reinstated}[*u.Suspended])
	}
	if before == nil && *u != (CourierUpdate{}) {
		changes = append([]string{handoff.Enrolled}, changes...)
	}
	return changes
}

// ClearBudget forgets a courier's wrong codes, which gives that many guesses back. A person
// must answer for it: refused as person-required for a key. The reason is kept sealed for the
// retention and must not be empty. The error may be ErrCourierUnknown.
func (s *Service) ClearBudget(ctx context.Context, by handoff.Actor, ref handoff.CourierRef, reason string) error {
	switch {
	case !by.Person || by.Subject == "":
		return &handoff.Refusal{Reason: handoff.PersonRequired}
	case reason == "":
		return errors.New("service: a budget is cleared for a reason")
	}
	c, err := s.store.Courier(ctx, ref)
	if err == nil && c == nil {
		err = ErrCourierUnknown
	}
	if err != nil {
		return err
	}
	e := handoff.Event{Type: handoff.EventBudgetCleared, Carrier: ref.Carrier, Courier: ref.ID}
	if err := s.tell(ctx, by, e); err != nil {
		return err
	}
	return s.store.ClearBudget(ctx, ref, Clearing{At: handoff.InstantOf(s.clock.Now()), Who: s.Who(by), Reason: reason})
}

// AssignRoute makes a courier the only one who drives a route that day. Assigning it again to the
// same courier finishes what broke off, and tells nothing.
func (s *Service) AssignRoute(ctx context.Context, by handoff.Actor, r RouteRef, courier string) error {
	before, err := s.store.Driver(ctx, r)
	if err != nil {
		return err
	}
	if before != courier {
		err := s.tell(ctx, by, handoff.Event{
			Type: handoff.EventRouteAssigned, Carrier: r.Carrier, Route: r.Route, Day: &r.Day, Courier: courier, Relieved: before,
		})
		if err != nil {
			return err
		}
	}
	return s.store.AssignRoute(ctx, r, courier, handoff.InstantOf(s.clock.Now()))
}
