package service

import (
	"context"
	"errors"

	"latchkey/handoff"
	"latchkey/otp"
)

// Dispatch makes the grant of a parcel that left the warehouse, or of several that arrive together.
// Created is false where the same dispatch came before: its grant is returned, in whatever status.
// Refused as dispatch-conflict, carrier-not-enabled, parcel-not-allowed, parcel-twice,
// destination-not-allowed, window-over, time-zone-unknown, delivery-date-unknown or
// delivery-date-too-far.
func (s *Service) Dispatch(ctx context.Context, d handoff.Dispatch) (g handoff.Grant, created bool, err error) {
	return s.DispatchBy(ctx, handoff.Actor{}, d)
}

// DispatchBy is Dispatch where it is known who asks: the event says so by a pseudonym.
func (s *Service) DispatchBy(ctx context.Context, by handoff.Actor, d handoff.Dispatch) (g handoff.Grant, created bool, err error) {
	return s.dispatch(ctx, by, d, 0)
}

// dispatch is DispatchBy of a dispatch that made no generation of the parcel up to unmade.
func (s *Service) dispatch(ctx context.Context, by handoff.Actor, d handoff.Dispatch, unmade int) (g handoff.Grant, created bool, err error) {
	secret, err := otp.NewSecret(s.random)
	if err != nil {
		return handoff.Grant{}, false, err
	}
	if reason := s.policy.Canonical(&d); reason != "" {
		return handoff.Grant{}, false, s.refused(handoff.Mint, reason)
	}
	hash := s.ParcelHash(d.Carrier, d.Parcel)
	mint := handoff.Command{Act: handoff.Mint, Parcel: hash, Dispatch: &d, Unmade: unmade, Who: s.Who(by)}
	lists := entries{service: s}
	now := s.clock.Now()
	if _, window, refused := s.policy.Terms(&d, now); refused == "" {
		x := s.index(&d, d.Route, d.Day, window, handoff.InstantOf(now))
		lists.minted = &x
	}
	q := request{
		Query: Query{Parcel: hash, Others: s.beside(&d)},
		command: func(found *Snapshot) handoff.Command {
			c := mint
			if g := found.grant(); g != nil && g.Scrubbed != nil {
				c.Digest = s.digestOf(&d)
			}
			return c
		},
		secret:   secret,
		dispatch: &d,
	}
	o, err := s.change(ctx, q, lists, claims{service: s})
	var refused *handoff.Refusal
	if errors.As(err, &refused) && refused.Reason == handoff.DispatchConflict {
		if failed := s.contest(ctx, by, d, o.contested); failed != nil {
			return handoff.Grant{}, false, failed
		}
	}
	if refused != nil && refused.Reason == handoff.DispatchConflict && o.grant.Dispatch.Shop == d.Shop {
		return s.dispatchedBefore(ctx, o, by, d, unmade, err)
	}
	if err != nil {
		return handoff.Grant{}, false, err
	}
	return o.grant, len(o.events) > 0, nil
}

// contest tells the shops whose grants have parcels that a dispatch of several names beside its first.
func (s *Service) contest(ctx context.Context, by handoff.Actor, d handoff.Dispatch, parcels []string) error {
	for _, parcel := range parcels {
		one := d
		one.Parcel, one.Together = parcel, nil
		hash := s.ParcelHash(d.Carrier, parcel)
		_, err := s.change(ctx, request{
			Query: Query{Parcel: hash}, dispatch: &one,
			command: func(*Snapshot) handoff.Command {
				return handoff.Command{Act: handoff.Mint, Contest: true, Parcel: hash, Dispatch: &one, Who: s.Who(by)}
			},
		})
		if refused := new(handoff.Refusal); err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}

// dispatchedBefore resolves a conflict with a parcel's newest grant: the dispatch may
// repeat that of an older generation, or follow a grant that was recalled, or one whose
// window is over but which the sweeper has not closed yet. The generations up to unmade were
// looked at before.
func (s *Service) dispatchedBefore(ctx context.Context, found outcome, by handoff.Actor, d handoff.Dispatch, unmade int, conflict error) (handoff.Grant, bool, error) {
	newest, hash := found.grant, s.ParcelHash(d.Carrier, d.Parcel)
	if newest.Status == handoff.Active && newest.StatusAt(s.clock.Now()) == handoff.Expired && d.Day.After(newest.Day()) {
		if err := s.Expire(ctx, newest.ID); err != nil {
			return handoff.Grant{}, false, err
		}
		return s.dispatch(ctx, by, d, unmade)
	}
	for n := found.newest - 1; n > unmade; n-- {
		snap, err := s.store.Load(ctx, Query{Parcel: hash, Generation: n})
		switch {
		case err != nil:
			return handoff.Grant{}, false, err
		case snap.Record != nil && snap.Record.Grant.MadeBy(&d, s.digestOf(&d)):
			return snap.Record.Grant, false, nil
		}
	}
	if newest.Share(d.Parcel) == handoff.Recalled && found.newest > unmade {
		return s.dispatch(ctx, by, d, found.newest)
	}
	return handoff.Grant{}, false, conflict
}

// digestOf is a keyed digest of all that a dispatch says.
func (s *Service) digestOf(d *handoff.Dispatch) []byte {
	return s.names.Name("dispatch", d.Parts()...)[:16]
}
