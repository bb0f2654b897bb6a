package service

import (
	"context"

	"latchkey/handoff"
)

// Consent sets which kinds of door, of garage and home, the customer agrees to have
// opened. What was used cannot be taken back.
func (s *Service) Consent(ctx context.Context, by handoff.Actor, id handoff.GrantID, kinds []handoff.TargetKind) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Consent, By: by, Consents: kinds}, "")
}

// Recall calls a parcel back: its rights end at once.
func (s *Service) Recall(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Recall, By: by}, note)
}

// Reschedule moves a parcel to a later day. An empty route keeps the route.
func (s *Service) Reschedule(ctx context.Context, by handoff.Actor, id handoff.GrantID, day handoff.Date, route string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Reschedule, By: by, Day: day, Route: route}, "")
}

// Resend mails the code that counts once more.
func (s *Service) Resend(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Resend, By: by}, "")
}

// Reissue mints a new code; the one before is superseded.
func (s *Service) Reissue(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Reissue, By: by}, "")
}

// Hold stops everything about a grant until Lift.
func (s *Service) Hold(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Hold, By: by}, note)
}

// Lift ends a hold.
func (s *Service) Lift(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Lift, By: by}, note)
}

// AskOverride asks for a release by hand, which a second person must approve with Override
// before the wish ends (Limits.OverrideMinutes).
func (s *Service) AskOverride(ctx context.Context, by handoff.Actor, id handoff.GrantID, note string) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.AskOverride, By: by}, note)
}

// Override approves what somebody else asked for, and releases the parcel.
func (s *Service) Override(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
	return s.order(ctx, id, handoff.Command{Act: handoff.Override, By: by}, "")
}

// order runs a command that needs no courier.
func (s *Service) order(ctx context.Context, id handoff.GrantID, c handoff.Command, note string) (handoff.Grant, error) {
	c.Who = s.Who(c.By)
	q := request{
		Query:   Query{Parcel: id.Hash, Generation: id.Generation},
		command: func(*Snapshot) handoff.Command { return c },
		note:    note,
	}
	o, err := s.change(ctx, q, entries{service: s})
	if err != nil {
		return handoff.Grant{}, err // and not the grant: it may be another shop's or customer's
	}
	return o.grant, nil
}
