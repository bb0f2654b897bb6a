package service

import (
	"context"
	"errors"

	"latchkey/handoff"
	"latchkey/otp"
)

// Dispatch makes the grant of a parcel that left the warehouse. Created is false
// where the same dispatch came before: its grant is returned, in whatever status.
// A *Refusal says why there is none.
func (s *Service) Dispatch(ctx context.Context, d handoff.Dispatch) (g handoff.Grant, created bool, err error) {
	return s.DispatchBy(ctx, handoff.Actor{}, d)
}

// DispatchBy is Dispatch where it is known who asks: the event says so by a pseudonym.
func (s *Service) DispatchBy(ctx context.Context, by handoff.Actor, d handoff.Dispatch) (g handoff.Grant, created bool, err error) {
	secret, err := otp.NewSecret(s.random)
	if err != nil {
		return handoff.Grant{}, false, err
	}
	var reason handoff.Reason
	if d.Parcel, reason = s.policy.Label(d.Carrier, d.Parcel); reason != "" {
		return handoff.Grant{}, false, s.refused(handoff.Mint, reason)
	}
	hash := s.ParcelHash(d.Carrier, d.Parcel)
	mint := handoff.Command{Act: handoff.Mint, Parcel: hash, Dispatch: &d, Who: s.Who(by)}
	var index *Index
	// What Decide would refuse to mint, and only answers if it came before, is not indexed.
	if fresh := handoff.Decide(nil, mint, handoff.Facts{Policy: s.policy}, s.clock.Now()); fresh.Refusal == nil {
		index = s.index(&d, d.Route, d.Day)
	}
	q := query{
		Query: Query{Parcel: hash, Index: index},
		command: func(found *Snapshot) handoff.Command {
			c := mint
			if g := found.grant(); g != nil && g.Scrubbed != nil {
				c.Digest = s.digestOf(&d)
			}
			return c
		},
		secret: secret,
	}
	o, err := s.change(ctx, q)
	var refused *handoff.Refusal
	if errors.As(err, &refused) && refused.Reason == handoff.DispatchConflict && o.grant.Dispatch.Shop == d.Shop {
		return s.dispatchedBefore(ctx, o.grant, by, d, err)
	}
	if err != nil {
		return handoff.Grant{}, false, err
	}
	return o.grant, len(o.events) > 0, nil
}

// dispatchedBefore resolves a conflict with a parcel's newest grant: the dispatch may
// be an older generation's sent again, or follow a grant whose window is over but
// which the sweeper has not closed yet.
func (s *Service) dispatchedBefore(ctx context.Context, newest handoff.Grant, by handoff.Actor, d handoff.Dispatch, conflict error) (handoff.Grant, bool, error) {
	if newest.Status == handoff.Active && newest.StatusAt(s.clock.Now()) == handoff.Expired && d.Day.After(newest.Day()) {
		if err := s.Expire(ctx, newest.ID); err != nil {
			return handoff.Grant{}, false, err
		}
		return s.DispatchBy(ctx, by, d)
	}
	for n := newest.ID.Generation - 1; n >= 1; n-- {
		snap, err := s.store.Load(ctx, Query{Parcel: newest.ID.Hash, Generation: n})
		switch {
		case err != nil:
			return handoff.Grant{}, false, err
		case snap.Record != nil && snap.Record.Grant.MadeBy(&d, s.digestOf(&d)):
			return snap.Record.Grant, false, nil
		}
	}
	return handoff.Grant{}, false, conflict
}

// digestOf is a keyed digest of all that a dispatch says.
func (s *Service) digestOf(d *handoff.Dispatch) []byte {
	return s.names.Name("dispatch", d.Parts()...)[:16]
}

func (s *Service) index(d *handoff.Dispatch, route string, day handoff.Date) *Index {
	zone, err := handoff.Zone(d.To.Zone)
	if err != nil {
		return nil // Decide refuses it
	}
	w, err := handoff.DayWindow(day, zone)
	if err != nil {
		return nil
	}
	return &Index{
		Customer: handoff.CustomerRef{Shop: d.Shop, ID: d.Customer.ID},
		Route:    RouteRef{Carrier: d.Carrier, Route: route, Day: day},
		Order:    s.orderRef(d.Shop, d.Order, day),
		Until:    w.Until, Now: handoff.InstantOf(s.clock.Now()),
	}
}

func (s *Service) orderRef(shop, order string, day handoff.Date) (o OrderRef) {
	if order == "" {
		return o
	}
	copy(o.Name[:], s.names.Name("order", shop, order))
	o.Day = day
	return o
}

// OrderRef names an order among those of one delivery day.
type OrderRef struct {
	Name [orderLen]byte // keyed, of the shop and its order: it tells nothing to who reads it
	Day  handoff.Date
}

const orderLen = 8
