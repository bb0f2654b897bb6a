package service

import (
	"context"
	"time"

	"latchkey/handoff"
	"latchkey/otp"
)

// Presentation is a courier's request at a door.
type Presentation struct {
	Courier  handoff.CourierRef
	Parcel   string   // as read from the label
	Code     otp.Code // zero: none entered
	Position *handoff.Position

	// Device is on which device the courier works, as its token says; empty if it does not.
	Device string

	// Claimed is when it was done, by the device's clock; zero if it told no time.
	Claimed time.Time

	// Attempt is the caller's id for this request, under which it may be repeated: the
	// first answer is given again. Empty: every request is a new attempt.
	Attempt string

	// Note is why the courier does it, in the courier's words. Abort and Attempted only.
	Note string
}

// Receipt says that an act was done.
type Receipt struct {
	Grant    handoff.GrantID
	Parcel   string
	Act      handoff.Act
	Status   handoff.Status
	Courier  string
	At       time.Time
	Placed   bool // whether a place was asked for
	Distance int  // meters from it, rounded to ten
}

// Verify hands a parcel over, or takes a return along, whichever the parcel is for.
// The error is a *Refusal, ErrUnavailable, or the store's.
func (s *Service) Verify(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "verify", func(g *handoff.Grant) handoff.Act {
		if g == nil {
			return handoff.Release
		}
		return g.Dispatch.Purpose.Act()
	})
}

// Abort takes a handoff back: the courier made it a moment ago and it did not happen.
func (s *Service) Abort(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "abort", func(*handoff.Grant) handoff.Act { return handoff.Abort })
}

// Attempted records that the courier was there and nobody answered.
func (s *Service) Attempted(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "attempted", func(*handoff.Grant) handoff.Act { return handoff.Attempt })
}

func (s *Service) present(ctx context.Context, p Presentation, kind string, act func(*handoff.Grant) handoff.Act) (Receipt, error) {
	var reason handoff.Reason
	if p.Parcel, reason = s.policy.Label(p.Courier.Carrier, p.Parcel); reason != "" {
		return Receipt{}, s.refused(act(nil), reason)
	}
	q := query{
		Query: Query{Parcel: s.ParcelHash(p.Courier.Carrier, p.Parcel), Courier: &p.Courier},
		note:  p.Note,
		command: func(found *Snapshot) handoff.Command {
			return handoff.Command{Act: act(found.grant()), Target: handoff.Parcel, Evidence: handoff.Evidence{
				Courier: p.Courier, Parcel: p.Parcel, Position: p.Position, Code: p.Code,
				Device: s.device(p.Courier, p.Device), Claimed: claimed(p.Claimed),
			}}
		},
	}
	if p.Attempt != "" {
		q.attempt, q.digest = p.Attempt, s.digest(p, kind)
	}
	if !p.Code.IsZero() {
		q.Reservation = &Reservation{Courier: p.Courier, Token: token(), At: handoff.InstantOf(s.clock.Now())}
	}
	o, err := s.change(ctx, q)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{
		Grant: o.grant.ID, Parcel: o.grant.Dispatch.Parcel, Act: o.act, Status: o.status,
		Courier: o.answer.Courier, At: o.answer.At.Time(),
		Placed: handoff.Result(o.answer.Verdict[handoff.ProofPlace]) == handoff.OK, Distance: o.answer.Distance,
	}, nil
}

// digest is a keyed hash of what a repeated attempt must repeat. It is kept with the
// sealed grant, for as long as the grant.
func (s *Service) digest(p Presentation, kind string) []byte {
	return s.attemptDigest(p.Claimed, p.Courier.Carrier, p.Courier.ID, p.Attempt, kind, p.Parcel, p.Code.Reveal(), position(p.Position), p.Note)
}

// attemptDigest adds a time to what was said, where one was told.
func (s *Service) attemptDigest(claimed time.Time, said ...string) []byte {
	if !claimed.IsZero() {
		said = append(said, claimed.UTC().Format(time.RFC3339))
	}
	return s.names.Name("attempt", said...)[:8]
}

func claimed(t time.Time) handoff.Instant {
	if t.IsZero() {
		return 0
	}
	return handoff.InstantOf(t)
}

// device is the pseudonym of a courier's device. Carriers give out ids of their own.
func (s *Service) device(c handoff.CourierRef, id string) string {
	if id == "" {
		return ""
	}
	return handoff.Pseudonym(s.names, "device", c.Carrier+" "+id)
}
