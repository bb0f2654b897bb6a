package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"latchkey/handoff"
)

// strangersKept is how many refusals of no grant the log keeps for each door and carrier
// in an hour. Of what comes beyond it, one event tells at 40, the next at 80, and so on:
// a courier who knocks with parcels that do not exist fills nobody's log.
const strangersKept = 20

// strangers says whether the n-th refusal of an hour is told, and of how many.
func strangers(n int) (count int, told bool) {
	if n <= strangersKept {
		return 0, true
	}
	for m := 2 * strangersKept; m <= n; m *= 2 {
		if m == n {
			return m / 2, true
		}
	}
	return 0, false
}

// turnStranger tells a building of a courier who came without a parcel of the carrier's.
// There is no grant to tell it by. An unknown and another carrier's parcel are one case:
// nobody here knows which it was.
func (s *Service) turnStranger(ctx context.Context, k *Knock, d *handoff.Door) error {
	now := s.clock.Now()
	hour := now.Unix() / int64(time.Hour/time.Second)
	n, err := s.store.Tally(ctx, fmt.Sprintf("stranger:%s:%s:%d", d.ID, k.Courier.Carrier, hour), 2*time.Hour)
	if err != nil {
		return err
	}
	count, told := strangers(n)
	if !told {
		return nil
	}
	return s.store.Append(ctx, handoff.InstantOf(now), handoff.Event{
		Type: handoff.EventAccessRefused, At: handoff.InstantOf(now), Reason: handoff.ParcelUnknown, Count: count,
		Carrier: k.Courier.Carrier, Courier: k.Courier.ID, Device: s.device(k.Courier, k.Device), Claimed: claimed(k.Claimed),
		Door: d.ID, Target: d.Kind, Building: d.BuildingID,
	})
}

// position tells a position apart from others in a digest. Its age is left out: the same
// request, sent again, has the same position, which is older then.
func position(p *handoff.Position) string {
	if p == nil {
		return "none"
	}
	b := strconv.AppendInt(make([]byte, 0, 64), int64(p.Point.Lat), 10)
	b = strconv.AppendInt(append(b, ' '), int64(p.Point.Lon), 10)
	return string(strconv.AppendFloat(append(b, ' '), p.Accuracy, 'g', -1, 64))
}

// Knock is a courier's request at a door of a building.
type Knock struct {
	Courier   handoff.CourierRef
	Door      string
	Parcel    string // as read at the door
	Position  *handoff.Position
	Challenge []byte // the door's own, read at the door; empty if none
	Attempt   string // as in Presentation

	Device  string    // as in Presentation
	Claimed time.Time // as in Presentation
}

// Permission says that a door may be opened: what a permit for it must say, or whose
// minute's PIN to tell.
type Permission struct {
	Permit    handoff.PermitID
	Grant     handoff.GrantID
	Ref       [8]byte // names the grant to the door, and means nothing to it
	Door      handoff.Door
	Challenge []byte // what the permit is bound to; empty where no presence is asked
	Relock    int    // seconds; 0: as the door is set itself
	At        time.Time

	// Minute is the minute since 1970 whose PIN it is, at a keypad. No other permission has
	// the same PIN.
	Minute uint64
}

// Unlock decides whether a courier may open a door. The parcel's grant is asked, and no
// code is: the code stays between customer and courier.
//
// A refusal is told to the building, too. One that has a grant is an event of that grant;
// one that has none is told of the first twenty of a carrier at a door in an hour, and then
// of how many there were.
func (s *Service) Unlock(ctx context.Context, k Knock) (Permission, error) {
	var permit handoff.PermitID
	if _, err := io.ReadFull(s.random, permit[:]); err != nil {
		return Permission{}, fmt.Errorf("handoff: a new permit: %w", err)
	}
	var reason handoff.Reason
	if k.Parcel, reason = s.policy.Label(k.Courier.Carrier, k.Parcel); reason != "" {
		return Permission{}, s.refused(handoff.Open, reason)
	}
	parcel := s.ParcelHash(k.Courier.Carrier, k.Parcel)
	var door *handoff.Door
	q := query{
		Query: Query{
			Parcel: parcel, Courier: &k.Courier, Door: k.Door,
			Permit: &PermitRef{Permit: permit, Parcel: parcel, Door: k.Door, Claim: token()},
		},
		command: func(found *Snapshot) handoff.Command {
			c := handoff.Command{Act: handoff.Open, Permit: permit, Evidence: handoff.Evidence{
				Courier: k.Courier, Parcel: k.Parcel, Position: k.Position, Challenge: k.Challenge,
				Device: s.device(k.Courier, k.Device), Claimed: claimed(k.Claimed),
			}}
			if door = found.Door; door != nil {
				c.Target = door.Kind
			}
			return c
		},
	}
	if k.Attempt != "" {
		q.attempt = k.Attempt
		q.digest = s.attemptDigest(k.Claimed, k.Courier.Carrier, k.Courier.ID, k.Attempt, "unlock", k.Door, k.Parcel, position(k.Position), hex.EncodeToString(k.Challenge))
	}
	o, err := s.change(ctx, q)
	var refused *handoff.Refusal
	if errors.As(err, &refused) && refused.Reason == handoff.ParcelUnknown && door != nil {
		if failed := s.turnStranger(ctx, &k, door); failed != nil {
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
		p.Challenge = k.Challenge
	}
	if door.Mode == handoff.Keypad {
		return s.minuteOf(p)
	}
	return p, nil
}

// minuteOf finds the minute of a PIN by its name.
func (s *Service) minuteOf(p Permission) (Permission, error) {
	for p.Minute = handoff.MinuteOf(p.At); p.Minute <= handoff.MinuteOf(p.At)+handoff.PinsAhead; p.Minute++ {
		if id, err := s.keypads.Permit(p.Door.Keypad, p.Minute); err != nil {
			return Permission{}, fmt.Errorf("handoff: the keypad of door %s: %w", p.Door.ID, err)
		} else if id == p.Permit {
			return p, nil
		}
	}
	return Permission{}, &handoff.Refusal{Reason: handoff.AccessRefused} // answered before, and the key is another by now
}

// token is random: two requests never share one.
func token() string { return strconv.FormatUint(rand.Uint64(), 36) }

// Reported records what a door says of one of its permits. Saying it again is harmless.
func (s *Service) Reported(ctx context.Context, door string, permit handoff.PermitID, state handoff.DoorState) error {
	ref, err := s.store.Permit(ctx, permit)
	if err != nil {
		return err
	}
	if ref == nil || ref.Door != door {
		return &handoff.Refusal{Reason: handoff.PermitUnknown}
	}
	_, err = s.change(ctx, query{
		Query: Query{Parcel: ref.Parcel},
		command: func(*Snapshot) handoff.Command {
			return handoff.Command{Act: handoff.Report, By: handoff.Actor{Role: handoff.RoleDoor}, Door: door, Permit: permit, State: state}
		},
	})
	return err
}

// UnlockOf reads how far a permit of a door came, and the grant that it is of.
func (s *Service) UnlockOf(ctx context.Context, door string, permit handoff.PermitID) (handoff.Unlock, handoff.Grant, error) {
	ref, err := s.store.Permit(ctx, permit)
	if err != nil {
		return handoff.Unlock{}, handoff.Grant{}, err
	}
	if ref != nil && ref.Door == door {
		snap, err := s.store.Load(ctx, Query{Parcel: ref.Parcel})
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

// claim has the next load claim a PIN at the keypad of the door that was found: that of
// this minute, or of the one after the minute that was claimed before and taken.
func (s *Service) claim(q *query, found *Snapshot, before *handoff.Claim, now time.Time) error {
	q.minute = handoff.MinuteOf(now)
	if before != nil && before.Minute >= q.minute {
		q.minute = before.Minute + 1
	}
	id, err := s.keypads.Permit(found.Door.Keypad, q.minute)
	if err != nil {
		return fmt.Errorf("handoff: the keypad of door %s: %w", q.Door, err)
	}
	ref := *q.Permit
	ref.Permit = id
	q.Permit, q.claims = &ref, append(q.claims, ref)
	return nil
}

// claimed is what a load said of the PIN that it claimed; nil if it claimed none, or one
// of a key that the door no longer has.
func (s *Service) claimed(q *query, found *Snapshot) (*handoff.Claim, error) {
	if q.minute == 0 || found.Door == nil || found.Door.Mode != handoff.Keypad {
		return nil, nil
	}
	id, err := s.keypads.Permit(found.Door.Keypad, q.minute)
	if err != nil || id != q.Permit.Permit {
		return nil, err
	}
	if !found.Claimed {
		q.claims = slices.DeleteFunc(q.claims, func(ref PermitRef) bool { return ref.Permit == id })
	}
	return &handoff.Claim{Permit: id, Minute: q.minute, Held: found.Claimed}, nil
}

// unclaim gives back the PINs that were claimed and not used, so that others may have
// them. One that cannot be given back lapses, and its minute with it.
func (s *Service) unclaim(ctx context.Context, q *query, used handoff.PermitID) {
	for _, ref := range q.claims {
		if ref.Permit != used {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
			_ = s.store.Unclaim(ctx, ref)
			cancel()
		}
	}
}

// seen claims the place at which a permit is to be given out: a courier who asks at two
// distant doors at once is at one of them at most. True where no place is at stake.
func (s *Service) seen(ctx context.Context, snap *Snapshot, cmd handoff.Command, d *handoff.Decision, now time.Time) (bool, error) {
	if cmd.Act != handoff.Open || d.Refusal != nil || snap.Door.Location == nil {
		return true, nil
	}
	return s.store.See(ctx, cmd.Evidence.Courier, snap.Courier.Seen, handoff.Sighting{At: handoff.InstantOf(now), Place: *snap.Door.Location})
}
