package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"latchkey/handoff"
)

// UnlockRequest is a courier's request at a door of a building.
type UnlockRequest struct {
	Courier   handoff.CourierRef
	Issued    handoff.Instant // as in Presentation
	Door      string
	Parcel    string            // its id as read at the door
	Position  *handoff.Position // nil: the device sent none
	Challenge []byte            // the door's own, read at the door; empty if none
	Attempt   string            // as in Presentation

	Device  string    // as in Presentation
	Claimed time.Time // as in Presentation
}

// Permission says that a door may be opened: what a permit for it must say, or whose
// minute's PIN to tell.
type Permission struct {
	Permit    handoff.PermitID
	Grant     handoff.GrantID
	Ref       [8]byte      // names the grant to the door, and means nothing to it
	Door      handoff.Door // as it was when it was asked for
	Challenge []byte       // what the permit is bound to; empty where no presence is asked
	Relock    int          // seconds; 0: as the door is set itself
	At        time.Time    // when it was given, by the service's clock

	// Minute is the minute since 1970 whose PIN it is, at a keypad. No other permission has
	// the same PIN.
	Minute uint64
}

// Unlock decides whether a courier may open a door. The parcel's grant is asked, and no
// code is: the code stays between customer and courier.
//
// A refusal is told to the building, too. One that has a grant is an event of that grant;
// without one, the first twenty of a carrier at a door in an hour are told, and then
// how many there were. The reasons of a refusal: access-refused, visit-over,
// impossible-journey, too-many-permits, keypad-busy, and those of Verify.
func (s *Service) Unlock(ctx context.Context, r UnlockRequest) (Permission, error) {
	var id handoff.PermitID
	if _, err := io.ReadFull(s.random, id[:]); err != nil {
		return Permission{}, fmt.Errorf("service: the id of a permit: %w", err)
	}
	var reason handoff.Reason
	if r.Parcel, reason = s.policy.Label(r.Courier.Carrier, r.Parcel); reason != "" {
		return Permission{}, s.refused(handoff.Open, reason)
	}
	parcel := s.ParcelHash(r.Courier.Carrier, r.Parcel)
	var door *handoff.Door
	q := request{
		Query: Query{Parcel: parcel, Courier: &r.Courier, Door: r.Door},
		attempt: s.attemptOf(r.Attempt, r.Courier, r.Claimed,
			"unlock", r.Door, r.Parcel, positionText(r.Position), hex.EncodeToString(r.Challenge)),
		command: func(found *Snapshot) handoff.Command {
			c := handoff.Command{Act: handoff.Open, Permit: id, Evidence: handoff.Evidence{
				Courier: r.Courier, Issued: r.Issued, Parcel: r.Parcel, Position: r.Position, Challenge: r.Challenge,
				Device: s.device(r.Courier, r.Device), Claimed: claimed(r.Claimed),
			}}
			if door = found.Door; door != nil {
				c.Target = door.Kind
			}
			return c
		},
	}
	reserved := &permit{service: s, ref: PermitRef{Permit: id, Parcel: parcel, Door: r.Door, Holder: randomID()}}
	o, err := s.change(ctx, q, reserved, lastDoor{store: s.store})
	var refused *handoff.Refusal
	if errors.As(err, &refused) && refused.Reason == handoff.ParcelUnknown && door != nil {
		if failed := s.tellUnknownParcel(ctx, &r, door); failed != nil {
			return Permission{}, failed
		}
	}
	if err != nil {
		return Permission{}, err
	}
	if door == nil { // an attempt answered before, at a door that is gone
		return Permission{}, &handoff.Refusal{Reason: handoff.AccessRefused}
	}
	p := Permission{
		Permit: o.answer.Permit, Grant: o.grant.ID, Ref: handoff.DoorRef(s.names, o.grant.ID), Door: *door,
		Relock: o.answer.Relock, At: o.answer.At.Time(),
	}
	if right := o.grant.Right(handoff.Open, door.Kind); right != nil && door.Asks(right).Has(handoff.ProofPresence) {
		p.Challenge = r.Challenge
	}
	if door.Mode == handoff.Keypad {
		return s.pinOf(p)
	}
	return p, nil
}

// Reported records what a door says of one of its permits. Saying it again is harmless.
// Refused as permit-unknown for a permit that is not the door's or is forgotten.
func (s *Service) Reported(ctx context.Context, door string, permit handoff.PermitID, state handoff.DoorState) error {
	return s.reported(ctx, door, permit, state, "")
}

// RefusedBy is Reported of a permit that the door refused, with the door's reason.
func (s *Service) RefusedBy(ctx context.Context, door string, permit handoff.PermitID, why handoff.Reason) error {
	return s.reported(ctx, door, permit, handoff.DoorRefused, why)
}

func (s *Service) reported(ctx context.Context, door string, permit handoff.PermitID, state handoff.DoorState, why handoff.Reason) error {
	ref, err := s.store.Permit(ctx, permit)
	if err != nil {
		return err
	}
	if ref == nil || ref.Door != door {
		return &handoff.Refusal{Reason: handoff.PermitUnknown}
	}
	_, err = s.change(ctx, request{
		Query: Query{Parcel: ref.Parcel},
		command: func(*Snapshot) handoff.Command {
			return handoff.Command{Act: handoff.Report, By: handoff.Actor{Role: handoff.RoleDoor}, Door: door, Permit: permit, State: state, Why: why}
		},
	})
	return err
}

// UnlockOf reads how far a permit of a door came, and the grant that it is of. Refused as
// permit-unknown for a permit that is not the door's or is forgotten.
func (s *Service) UnlockOf(ctx context.Context, door string, permit handoff.PermitID) (handoff.Unlock, handoff.Grant, error) {
	ref, err := s.store.Permit(ctx, permit)
	if err != nil {
		return handoff.Unlock{}, handoff.Grant{}, err
	}
	if ref != nil && ref.Door == door {
		snap, err := s.load(ctx, ref.Parcel)
		if err != nil {
			return handoff.Unlock{}, handoff.Grant{}, err
		}
		if g := snap.grant(); g != nil {
			if u := g.Unlock(permit); u != nil {
				return *u, *g, nil
			}
		}
	}
	return handoff.Unlock{}, handoff.Grant{}, &handoff.Refusal{Reason: handoff.PermitUnknown}
}
