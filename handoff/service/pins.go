package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"latchkey/handoff"
)

// Keypads names PINs. A PIN is known to a door and its courier only; a grant remembers the
// PIN's name, by which the door reports.
type Keypads interface {
	// Permit names the PIN of a minute (since 1970) at the keypad of a key, the same each
	// time. An error says that it is no key.
	Permit(key []byte, minute uint64) ([16]byte, error)
}

// Permits finds the grant of a permit.
type Permits interface {
	// Permit says which grant and door a permit belongs to; nil if there is none, or not
	// any more. An entry counts only if its grant has the permit. The error is
	// storage.ErrUnavailable.
	Permit(ctx context.Context, id handoff.PermitID) (*PermitRef, error)

	// GiveBackPermit ends a reservation, so that another request may have the permit's id. The
	// caller is sure that no commit uses it. Another request's reservation is left alone. The
	// error is storage.ErrUnavailable.
	GiveBackPermit(ctx context.Context, ref PermitRef) error
}

// PermitRef says which grant and door a permit belongs to, or is reserved for.
type PermitRef struct {
	Permit handoff.PermitID
	Parcel handoff.ParcelHash
	Door   string

	// Holder names the request that reserved it, at random. Two requests never share one,
	// not even two of one attempt, so that neither can give back what the other used.
	Holder string
}

// permit is the reservation of an unlock: the id of the permit, under which its door will
// report. At a keypad it is the name of one minute's PIN, which one unlock at most may have.
// A PIN is reserved only when all else holds, in a pass of its own; a refused courier reserves
// none.
type permit struct {
	service *Service
	ref     PermitRef   // what the next trip reserves
	minute  uint64      // whose PIN ref names; 0: it names no PIN
	pins    []PermitRef // that were reserved, and may be this unlock's
}

func (r *permit) reserve(_ context.Context, want *Preparation) {
	ref := r.ref
	want.Permit = &ref
}

// weigh is what the trip said of the PIN; nothing if it reserved none, or one of a key that
// the door no longer has.
func (r *permit) weigh(p *pass) error {
	if r.minute == 0 || p.Door == nil || p.Door.Mode != handoff.Keypad {
		return nil
	}
	id, err := r.service.pinName(p.Door, r.minute)
	if err != nil || id != r.ref.Permit {
		return err
	}
	if !p.PermitHeld {
		r.pins = slices.DeleteFunc(r.pins, func(ref PermitRef) bool { return ref.Permit == id })
	}
	p.facts.PIN = &handoff.ReservedPIN{Permit: id, Minute: r.minute, Held: p.PermitHeld}
	return nil
}

func (r *permit) name(_ context.Context, p *pass) error {
	if p.command.Act == handoff.Open && p.decision.Refusal == nil {
		ref := r.ref
		p.change.Permit = &ref
	}
	return nil
}

// missed has the next trip reserve a PIN where the decision waits for one: that of this minute,
// or of the minute after the one that another unlock has.
func (r *permit) missed(p *pass, why error) error {
	if !errors.Is(why, errUndecided) {
		return nil
	}
	r.minute = handoff.MinuteOf(p.now)
	if before := p.facts.PIN; before != nil && before.Minute >= r.minute {
		r.minute = before.Minute + 1
	}
	id, err := r.service.pinName(p.Door, r.minute)
	if err != nil {
		return err
	}
	r.ref.Permit = id
	r.pins = append(r.pins, r.ref)
	return nil
}

// settle gives back the PINs that the answer does not tell. After a commit in doubt none is
// given back: the commit may yet use it. One that is not given back lapses, and its minute
// with it.
func (r *permit) settle(ctx context.Context, e ending) {
	if e.doubtful {
		return
	}
	for _, ref := range r.pins {
		if ref.Permit != e.answer.Permit {
			try := func(ctx context.Context) error { return r.service.store.GiveBackPermit(ctx, ref) }
			if !inTime(ctx, try) {
				r.service.settling.Go(func() { inTime(context.WithoutCancel(ctx), try) })
			}
		}
	}
}

// pinName names the PIN of a minute at a door's keypad.
func (s *Service) pinName(d *handoff.Door, minute uint64) (handoff.PermitID, error) {
	id, err := s.keypads.Permit(d.Keypad, minute)
	if err != nil {
		return handoff.PermitID{}, fmt.Errorf("the keypad of door %s: %w", d.ID, err)
	}
	return id, nil
}

// pinOf finds the minute of a PIN by its name.
func (s *Service) pinOf(p Permission) (Permission, error) {
	for p.Minute = handoff.MinuteOf(p.At); p.Minute <= handoff.MinuteOf(p.At)+handoff.PinsAhead; p.Minute++ {
		if id, err := s.pinName(&p.Door, p.Minute); err != nil {
			return Permission{}, fmt.Errorf("service: %w", err)
		} else if id == p.Permit {
			return p, nil
		}
	}
	return Permission{}, &handoff.Refusal{Reason: handoff.AccessRefused} // an attempt answered before the keypad got another key
}
