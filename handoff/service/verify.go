package service

import (
	"context"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/otp"
)

// Presentation is a courier's request at a parcel's address.
type Presentation struct {
	Courier  handoff.CourierRef
	Issued   handoff.Instant   // since when the courier's token or session exists; 0: not known
	Parcel   string            // as read from the label
	Parcels  []string          // verify: of several parcels all that were scanned, Parcel among them; nil: Parcel alone
	Code     otp.Code          // zero: none entered
	Position *handoff.Position // nil: the device sent none

	// Device is the id of the device that the courier works on, as the courier's bearer token
	// says; empty if the token says none.
	Device string

	// Claimed is when it was done, by the device's clock; zero if it told no time.
	Claimed time.Time

	// Attempt is the caller's id for this request, under which it may be repeated: the
	// first answer is given again. Empty: it cannot be repeated.
	Attempt string

	// Note is why the courier does it, in the courier's words. Abort and Attempted only.
	Note string
}

// Receipt says that an act was done.
type Receipt struct {
	Grant    handoff.GrantID
	Parcel   string // as it was presented
	Act      handoff.Act
	Status   handoff.Status // after it
	Courier  string         // the courier's id
	At       time.Time      // by the service's clock
	Placed   bool           // whether a place was asked for
	Distance int            // meters from it, rounded to ten; 0 if none was asked for

	// Of several parcels: which the act was about, and which are still there after it. Both may
	// have ids that the courier did not present.
	Parcels, Left []string

	ID handoff.ReceiptID // of the signed receipt; zero where the act was no handoff
}

// Verify hands a parcel over, or takes a return along, whichever the parcel is for. The
// reasons of a refusal stand in handoff/refusal.go, in the order in which they are found.
func (s *Service) Verify(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "verify", func(g *handoff.Grant) handoff.Act {
		if g == nil {
			return handoff.Release
		}
		return g.Dispatch.Purpose.Act()
	})
}

// Abort takes a handoff back: the courier recorded it just now, but it did not happen. Refused
// as not-your-handoff, already-aborted, abort-too-late, reissue-limit, wrong-status, or for the
// courier, the place and the time as Verify.
func (s *Service) Abort(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "abort", func(*handoff.Grant) handoff.Act { return handoff.Abort })
}

// Attempted records that the courier was there and met no one. Refused as attempted-limit,
// or for the courier, the route, the status and the time as Verify.
func (s *Service) Attempted(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "attempted", func(*handoff.Grant) handoff.Act { return handoff.Attempt })
}

func (s *Service) present(ctx context.Context, p Presentation, kind string, act func(*handoff.Grant) handoff.Act) (Receipt, error) {
	var reason handoff.Reason
	if p.Parcel, reason = s.policy.Label(p.Courier.Carrier, p.Parcel); reason != "" {
		return Receipt{}, s.refused(act(nil), reason)
	}
	scanned, reason := s.scanned(p)
	if reason != "" {
		return Receipt{}, s.refused(act(nil), reason)
	}
	said := []string{kind, p.Parcel, p.Code.Reveal(), positionText(p.Position), p.Note}
	var others []handoff.ParcelHash
	if len(scanned) > 1 {
		said = append(append(said, "parcels"), scanned...)
		for _, parcel := range scanned {
			if parcel != p.Parcel {
				others = append(others, s.ParcelHash(p.Courier.Carrier, parcel))
			}
		}
	}
	q := request{
		Query: Query{Parcel: s.ParcelHash(p.Courier.Carrier, p.Parcel), Courier: &p.Courier, Others: others},
		note:  p.Note,
		// The domain "attempt" and the order of the parts are kept with stored answers.
		attempt: s.attemptOf(p.Attempt, p.Courier, p.Claimed, said...),
		command: func(found *Snapshot) handoff.Command {
			return handoff.Command{Act: act(found.grant()), Target: handoff.Parcel, Evidence: handoff.Evidence{
				Courier: p.Courier, Issued: p.Issued, Parcel: p.Parcel, Parcels: scanned, Position: p.Position, Code: p.Code,
				Device: s.device(p.Courier, p.Device), Claimed: claimed(p.Claimed),
			}}
		},
	}
	coded := !p.Code.IsZero()
	beside := []reservation{&carrierDay{carriers: &s.carriers, carrier: p.Courier.Carrier, code: coded}}
	if coded {
		end, err := s.turns.take(ctx, p.Courier)
		if err != nil {
			return Receipt{}, err
		}
		defer end()
		beside = append(beside, s.guess(p.Courier))
	}
	o, err := s.change(ctx, q, beside...)
	if err != nil {
		return Receipt{}, err
	}
	var id handoff.ReceiptID
	if o.act == handoff.Release || o.act == handoff.Collect {
		id = o.grant.ReceiptOf(o.answer.At, o.answer.Parcels)
	}
	return Receipt{
		ID: id, Grant: o.grant.ID, Parcel: p.Parcel, Act: o.act, Status: o.status,
		Courier: o.answer.Courier, At: o.answer.At.Time(),
		Placed: handoff.Result(o.answer.Verdict[handoff.ProofPlace]) == handoff.OK, Distance: o.answer.Distance,
		Parcels: o.answer.Parcels, Left: o.answer.There,
	}, nil
}

// scanned are the ids of what was scanned, sorted, where that is more than one; nil for one. The
// reason is that of a label, or handoff.ParcelNotNamed.
func (s *Service) scanned(p Presentation) (ids []string, reason handoff.Reason) {
	for _, read := range p.Parcels {
		id, reason := s.policy.Label(p.Courier.Carrier, read)
		if reason != "" {
			return nil, reason
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	switch {
	case len(ids) > 0 && !slices.Contains(ids, p.Parcel):
		return nil, handoff.ParcelNotNamed
	case len(ids) < 2:
		return nil, ""
	}
	return ids, ""
}

// claimed is the time that a device told; 0 if it told none.
func claimed(t time.Time) handoff.Instant {
	if t.IsZero() {
		return 0
	}
	return handoff.InstantOf(t)
}

// device is the pseudonym of a courier's device; empty for none. Ids of two carriers may be equal.
func (s *Service) device(c handoff.CourierRef, id string) string {
	if id == "" {
		return ""
	}
	return handoff.Pseudonym(s.names, "device", c.Carrier+" "+id)
}
