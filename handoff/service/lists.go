package service

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"latchkey/handoff"
)

// OfOrder lists the newest grants of a shop's order that are, or at some time were, to be
// delivered on a day.
func (s *Service) OfOrder(ctx context.Context, shop, order string, day handoff.Date) ([]handoff.Grant, error) {
	ids, err := s.store.OfOrder(ctx, s.orderRef(shop, order, day))
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	grants, err := s.listed(ctx, ids, func(g *handoff.Grant) bool { return g.Dispatch.Shop == shop && g.Dispatch.Order == order })
	slices.SortFunc(grants, func(a, b handoff.Grant) int { return strings.Compare(a.Dispatch.Parcel, b.Dispatch.Parcel) })
	return grants, err
}

// Grant reads one grant on behalf of an actor. One that the actor may not see is refused as
// grant-unknown.
func (s *Service) Grant(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	r, err := s.Record(ctx, by, id)
	if err != nil {
		return handoff.Grant{}, err
	}
	return r.Grant, nil
}

// Record is Grant with the notes that people made.
func (s *Service) Record(ctx context.Context, by handoff.Actor, id handoff.GrantID) (Record, error) {
	snap, err := s.store.Load(ctx, Query{Parcel: id.Hash, Generation: id.Generation})
	if err != nil {
		return Record{}, err
	}
	if snap.Record == nil || !by.May(&snap.Record.Grant) {
		return Record{}, &handoff.Refusal{Reason: handoff.GrantUnknown}
	}
	return *snap.Record, nil
}

// Receipt is what is on record of a handoff, on behalf of an actor. The courier is named by a
// pseudonym. The error is handoff.ErrNoReceipt, also for a receipt that the actor may not have, or
// handoff.ErrTakenBack.
func (s *Service) Receipt(ctx context.Context, by handoff.Actor, id handoff.ReceiptID) (handoff.Receipt, error) {
	snap, err := s.store.Load(ctx, Query{Parcel: id.Grant.Hash, Generation: id.Grant.Generation})
	if err != nil {
		return handoff.Receipt{}, err
	}
	if snap.Record == nil {
		return handoff.Receipt{}, handoff.ErrNoReceipt
	}
	g := &snap.Record.Grant
	r, err := g.Receipt(id.Number)
	if !by.MayHaveReceipt(g, &r) {
		return handoff.Receipt{}, handoff.ErrNoReceipt
	}
	if r.Courier != "" {
		r.Courier = handoff.Pseudonym(s.names, "courier", r.Carrier+" "+r.Courier)
	}
	return r, err
}

// OfCustomer lists up to limit of a customer's grants, the latest end first,
// beginning after a place (zero: with the first). Next is where to go on; zero at the
// end. Entries of the list that count for nothing leave a page shorter.
func (s *Service) OfCustomer(ctx context.Context, c handoff.CustomerRef, after Listed, limit int) (grants []handoff.Grant, next Listed, err error) {
	list, err := s.store.OfCustomer(ctx, c, after, limit)
	if err != nil || len(list) == 0 {
		return []handoff.Grant{}, Listed{}, err
	}
	ids := make([]handoff.ParcelHash, len(list))
	place := make(map[handoff.ParcelHash]int, len(list))
	for i, l := range list {
		ids[i], place[l.Parcel] = l.Parcel, i
	}
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: c.Shop, Customer: c.ID}
	if grants, err = s.listed(ctx, ids, by.May); err != nil {
		return nil, Listed{}, err
	}
	slices.SortFunc(grants, func(a, b handoff.Grant) int { return place[a.ID.Hash] - place[b.ID.Hash] })
	if len(list) == limit {
		next = list[limit-1]
	}
	return grants, next, nil
}

// Stops lists the grants on the routes that a courier drives at this hour. Issued is of the
// courier's token or session. Refused as signed-out or courier-not-cleared.
func (s *Service) Stops(ctx context.Context, ref handoff.CourierRef, issued handoff.Instant) ([]handoff.Grant, error) {
	now := s.clock.Now()
	courier, err := s.store.Courier(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case !courier.Admits(issued):
		return nil, &handoff.Refusal{Reason: handoff.SignedOut}
	case !courier.Cleared(now):
		return nil, &handoff.Refusal{Reason: handoff.CourierNotCleared}
	}
	stops := []handoff.Grant{}
	for _, drive := range courier.Drives {
		grants, err := s.OnRoute(ctx, RouteRef{Carrier: ref.Carrier, Route: drive.Route, Day: drive.Day})
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			if g.Window.Contains(now) {
				stops = append(stops, g)
			}
		}
	}
	return stops, nil
}

// OnRoute lists the grants that are on a carrier's route on a day.
func (s *Service) OnRoute(ctx context.Context, r RouteRef) ([]handoff.Grant, error) {
	ids, err := s.store.OnRoute(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.listed(ctx, ids, func(g *handoff.Grant) bool {
		return g.Dispatch.Carrier == r.Carrier && g.Route() == r.Route && g.Day() == r.Day
	})
}

// StopID names a grant on a courier's list, where neither its id nor its parcel's may stand.
func (s *Service) StopID(id handoff.GrantID) string {
	return handoff.Pseudonym(s.names, "stop", id.String())
}

func (s *Service) listed(ctx context.Context, ids []handoff.ParcelHash, counts func(*handoff.Grant) bool) ([]handoff.Grant, error) {
	if len(ids) == 0 {
		return []handoff.Grant{}, nil
	}
	grants, err := s.store.Many(ctx, ids)
	if err != nil {
		return nil, err
	}
	grants = slices.DeleteFunc(grants, func(g handoff.Grant) bool { return !counts(&g) })
	slices.SortFunc(grants, func(a, b handoff.Grant) int {
		if a.Window.Until != b.Window.Until {
			return int(b.Window.Until - a.Window.Until)
		}
		return bytes.Compare([]byte(a.ID.Hash), []byte(b.ID.Hash))
	})
	return grants, nil
}
