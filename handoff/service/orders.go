package service

import (
	"context"

	"latchkey/handoff"
	"latchkey/otp"
)

// The methods of this file run a command for an actor. To an actor who may not see the grant
// they refuse with grant-unknown; all but Erase and Expire refuse in a status in which the act
// is not possible (handoff/decide.go has the table). They return the grant after the command.
// A note is a person's reason; it is kept beside the grant and stands in no event.

// Consent sets which kinds of door, of garage and home, the customer agrees to have
// opened. Refused as no-consent-needed for a kind that asks for none, and as consent-used where
// a permit may have been used that rested on it. The service itself may only take them back.
func (s *Service) Consent(ctx context.Context, by handoff.Actor, id handoff.GrantID, kinds []handoff.TargetKind) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Consent, By: by, Consents: kinds}, "")
}

// ConsentByLink is Consent for who came by a shop's link. What they would add is refused as
// confirmation-sent, and waits for a resident of the doors' unit, who is mailed; as
// no-confirmed-address where none can be (reachable is false); and as confirmation-limit where
// that was asked for too often.
func (s *Service) ConsentByLink(ctx context.Context, by handoff.Actor, id handoff.GrantID, kinds []handoff.TargetKind, reachable bool) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Consent, By: by, Consents: kinds, Reachable: reachable}, "")
}

// ConfirmConsent is a resident's agreement to what was asked for by a shop's link: ask is the
// id of it (handoff.ConsentAsk.ID). Refused as confirmation-over where it waits no longer.
func (s *Service) ConfirmConsent(ctx context.Context, by handoff.Actor, id handoff.GrantID, ask string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.ConfirmConsent, By: by, Wish: ask}, "")
}

// Recall calls back for their shop all of a grant's parcels that are still there: its rights end at once.
func (s *Service) Recall(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.RecallSome(ctx, by, id, nil, note)
}

// RecallSome is Recall of some of several parcels, as their labels were read (nil: of all). The rest
// stays as it is, and so does its code. Refused as parcel-unknown where one is not the grant's, and
// as already-released, already-collected or recalled where it is not there any more.
func (s *Service) RecallSome(ctx context.Context, by handoff.Actor, id handoff.GrantID, parcels []string, note string) (handoff.Grant, error) {
	c := handoff.Command{Act: handoff.Recall, By: by}
	if len(parcels) > 0 {
		g, err := s.Grant(ctx, by, id) // whose carrier says how a label is read
		if err != nil {
			return handoff.Grant{}, err
		}
		for _, read := range parcels {
			parcel, reason := s.policy.Label(g.Dispatch.Carrier, read)
			if reason != "" {
				return handoff.Grant{}, s.refused(handoff.Recall, reason)
			}
			c.Parcels = append(c.Parcels, parcel)
		}
	}
	return s.order(ctx, id, c, note)
}

// Reschedule moves a parcel to a later day, with a new code. An empty route keeps the route.
// Refused as delivery-date-not-later, delivery-date-unknown, delivery-date-too-far, window-over,
// or code-locked where the grant's codes are locked for good.
func (s *Service) Reschedule(ctx context.Context, by handoff.Actor, id handoff.GrantID, day handoff.Date, route string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Reschedule, By: by, Day: day, Route: route}, "")
}

// Resend mails the current code once more. Refused as no-code, code-locked, window-over,
// resend-limit or resend-too-soon; the last two say when to ask again.
func (s *Service) Resend(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Resend, By: by}, "")
}

// Reissue mints a new code; the one before is superseded. Refused as no-code, code-locked,
// window-over or reissue-limit.
func (s *Service) Reissue(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Reissue, By: by}, "")
}

// Hold stops everything about a grant until Lift. For a shop or ops.
func (s *Service) Hold(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Hold, By: by}, note)
}

// Lift ends a hold: the grant goes on in the status that it had. For a shop or ops.
func (s *Service) Lift(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Lift, By: by}, note)
}

// Distrust holds a grant whose record may be older than what was acknowledged, since the
// store was put back to an earlier state or has lost a commit. For ops and the service. What can hand over no parcel any more, and
// what is in doubt already, stays as it is.
func (s *Service) Distrust(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Distrust, By: by}, "")
}

// Confirm ends a grant's doubt by the shop's dispatch, sent again: it goes on with a new
// secret, and a new code is due to be mailed. For ops. Refused as dispatch-conflict where the
// dispatch says something else, and as wrong-status where there is no doubt.
func (s *Service) Confirm(ctx context.Context, by handoff.Actor, id handoff.GrantID, d handoff.Dispatch) (handoff.Grant, error) {
	secret, err := otp.NewSecret(s.random)
	if err != nil {
		return handoff.Grant{}, err
	}
	return s.orderWith(ctx, id, s.doubtful(handoff.Confirm, by, d), "", secret)
}

// AccountFor ends a grant's doubt where its carrier says that the parcel was handed over. For
// ops; refused as Confirm is. Of several parcels those that are named were (none: all), and while
// others are still there the doubt goes on.
func (s *Service) AccountFor(ctx context.Context, by handoff.Actor, id handoff.GrantID, d handoff.Dispatch, parcels ...string) (handoff.Grant, error) {
	c := s.doubtful(handoff.AccountFor, by, d)
	c.Parcels = parcels
	return s.order(ctx, id, c, "")
}

func (s *Service) doubtful(act handoff.Act, by handoff.Actor, d handoff.Dispatch) handoff.Command {
	return handoff.Command{Act: act, By: by, Dispatch: &d, Digest: s.digestOf(&d)}
}

// AskOverride asks for a release by hand, which a second person must approve with Override
// before the wish ends (Limits.OverrideMinutes). Refused as person-required for a key.
func (s *Service) AskOverride(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.AskOverride, By: by}, note)
}

// Override approves a release by hand, and so releases the parcel. Wish is the id of the wish
// (handoff.OverrideRequest.ID), or empty for the only one. Refused as person-required, as
// approval-missing where none was asked for or it was too long ago, as self-approval to the
// person who asked, and as override-replaced where the wish is another one.
func (s *Service) Override(ctx context.Context, by handoff.Actor, id handoff.GrantID, wish string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Override, By: by, Wish: wish}, "")
}

// Dispute is the customer's word that the recorded handoff did not happen. It holds the grant
// until the customer withdraws it or the duty officer settles it. Refused as wrong-status where
// nothing changed hands, and as already-disputed: each handoff can be disputed once.
func (s *Service) Dispute(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.DisputeHandoff, By: by}, note)
}

// WithdrawDispute is the customer's word that the handoff happened after all. Refused as
// no-dispute where none is open, and as person-required to who is not the customer in person.
func (s *Service) WithdrawDispute(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.WithdrawDispute, By: by}, "")
}

// SettleDispute is the duty officer's decision whether the handoff happened. The ruling is
// handoff.HandedOver or handoff.NotReceived. Refused as no-dispute and person-required.
func (s *Service) SettleDispute(ctx context.Context, by handoff.Actor, id handoff.GrantID, ruling handoff.Ruling, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.SettleDispute, By: by, Ruling: ruling}, note)
}

// order runs a command that needs no courier.
func (s *Service) order(ctx context.Context, id handoff.GrantID, c handoff.Command, note string) (handoff.Grant, error) {
	return s.orderWith(ctx, id, c, note, otp.Secret{})
}

// orderWith is order of a command that may put another secret in the place of the grant's.
func (s *Service) orderWith(ctx context.Context, id handoff.GrantID, c handoff.Command, note string, secret otp.Secret) (handoff.Grant, error) {
	c.Who = s.Who(c.By)
	q := request{
		Query:   Query{Parcel: id.Hash, Generation: id.Generation},
		command: func(*Snapshot) handoff.Command { return c },
		note:    note,
		secret:  secret,
	}
	o, err := s.change(ctx, q, entries{service: s})
	if err != nil {
		return handoff.Grant{}, err // and not the grant: it may be another shop's or customer's
	}
	return o.grant, nil
}
