package service

import (
	"context"

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

	// ClearBudget forgets a courier's wrong codes.
	ClearBudget(ctx context.Context, ref handoff.CourierRef) error

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
