package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"latchkey/handoff"
)

// Erase forgets a customer on behalf of an operator: their browsers are signed out, everything about them leaves
// their closed grants at once, and each grant that is still open as soon as it closes. It
// returns how many were closed and how many are open. Doing it again is harmless, and
// finishes what broke off.
//
// The log hears of it first, without naming the customer, and then with each grant.
func (s *Service) Erase(ctx context.Context, by handoff.Actor, c handoff.CustomerRef) (erased, open int, err error) {
	if err := s.tell(ctx, by, handoff.Event{Type: handoff.EventSessionsEnded, Shop: c.Shop}); err != nil {
		return 0, 0, err
	}
	if _, err := s.store.RemoveSessionsOf(ctx, c); err != nil {
		return 0, 0, err
	}
	for after := (Listed{}); ; {
		list, err := s.store.OfCustomer(ctx, c, after, erasedAtOnce)
		if err != nil || len(list) == 0 {
			return erased, open, err
		}
		for _, l := range list {
			closed, stay, err := s.eraseParcel(ctx, by, c, l.Parcel)
			erased, open, after = erased+closed, open+stay, l
			if err != nil {
				return erased, open, err
			}
		}
	}
}

// erasedAtOnce is how much of a customer's list is read in one trip.
const erasedAtOnce = 256

// eraseParcel forgets the customer of all generations of a parcel's grants, and takes the
// parcel off the customer's list unless one is open.
func (s *Service) eraseParcel(ctx context.Context, by handoff.Actor, c handoff.CustomerRef, hash handoff.ParcelHash) (erased, open int, err error) {
	snap, err := s.store.Load(ctx, Query{Parcel: hash})
	if err != nil {
		return 0, 0, err
	}
	for n := snap.Version.Generation(); n >= 1; n-- {
		id := handoff.GrantID{Hash: hash, Generation: n}
		g, err := s.eraseOne(ctx, by, c, id)
		switch {
		case err != nil:
			return erased, open, err
		case g == nil:
		case g.Status.Closed():
			erased++
			if err := s.Expire(ctx, id); err != nil {
				return erased, open, err
			}
		default:
			open++
		}
	}
	if open > 0 {
		return erased, open, nil
	}
	return erased, open, s.store.Unlist(ctx, c, hash)
}

// eraseOne marks a grant; nil if it is not this customer's.
func (s *Service) eraseOne(ctx context.Context, by handoff.Actor, c handoff.CustomerRef, id handoff.GrantID) (*handoff.Grant, error) {
	owner := handoff.Actor{Role: handoff.RoleCustomer, Shop: c.Shop, Customer: c.ID}
	_, err := s.Grant(ctx, owner, id)
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g, err := s.order(ctx, id, handoff.Command{Act: handoff.Erase, By: by}, "")
	return &g, err
}

// Expire does to a grant what time alone does: it closes one whose window is over, notes
// that a door did not answer, and lets go of what it knows of people. A grant to which
// nothing is due is left as it is, without an error: any number of sweepers may meet at
// one grant.
func (s *Service) Expire(ctx context.Context, id handoff.GrantID) error {
	var forgotten *handoff.CustomerRef
	o, err := s.change(ctx, request{
		Query: Query{Parcel: id.Hash, Generation: id.Generation},
		command: func(found *Snapshot) handoff.Command {
			c := handoff.Command{Act: handoff.Expire, By: handoff.Actor{Role: handoff.RoleService}}
			if g := found.grant(); g != nil && g.Status.Closed() {
				if c.Digest = g.Scrubbed; c.Digest == nil {
					c.Digest = s.digestOf(&g.Dispatch)
				}
				if g.EraseAsked {
					forgotten = &handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
				}
			}
			return c
		},
	})
	var refused *handoff.Refusal
	switch {
	case err == nil && forgotten != nil:
		return s.store.Unlist(ctx, *forgotten, id.Hash)
	case errors.As(err, &refused) && refused.Reason == handoff.GrantUnknown && o.grant.ID == handoff.GrantID{}:
		return s.store.Unschedule(ctx, id)
	case errors.As(err, &refused):
		return nil
	}
	return err
}

// Sweep does what is due (see Expire) to up to limit grants of each partition, and
// reports how many it looked at. One that fails does not keep back the others.
func (s *Service) Sweep(ctx context.Context, limit int) (int, error) {
	return sweep(ctx, func(partition int) ([]handoff.GrantID, error) {
		return s.store.Due(ctx, partition, handoff.InstantOf(s.clock.Now()), limit)
	}, func(id handoff.GrantID) error {
		if err := s.Expire(ctx, id); err != nil {
			return fmt.Errorf("grant %s: %w", id, err)
		}
		return nil
	})
}

// sweep does what is due in each partition, and reports how many it looked at. One that fails does not
// keep back the others.
func sweep[T any](ctx context.Context, due func(partition int) ([]T, error), do func(T) error) (int, error) {
	swept := 0
	var failed []error
	for _, partition := range rand.Perm(handoff.Partitions) { // sweepers that start together should not march together
		found, err := due(partition)
		if err != nil {
			return swept, errors.Join(append(failed, err)...)
		}
		for _, one := range found {
			swept++
			if err := do(one); err != nil {
				failed = append(failed, err)
			}
			if ctx.Err() != nil {
				return swept, errors.Join(failed...)
			}
		}
	}
	return swept, errors.Join(failed...)
}
