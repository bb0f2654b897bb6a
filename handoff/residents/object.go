package residents

import (
	"context"
	"encoding/hex"
	"errors"

	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
)

// The people of a garage or home can stop what a manager does to it, and to their own
// notices: who they are is said here. A change belongs to those who were confirmed for the
// door's unit before it was asked for, and to the door's owner. One of them can also agree, so
// that it counts at once; not one who came only just before, whom the manager may have put
// there to agree.

// RoleOwner is the owner of a garage or home who decides about a change of it, as the log has it;
// the others are handoff.RoleResident.
const RoleOwner handoff.Role = "owner"

// Change is a change of a door that waits, as one who may decide about it sees it.
type Change struct {
	Building string
	Door     handoff.Door // as it stands, with its Pending
	Locale   string       // of the resident; empty where it is not known
	Approve  bool         // whether they may agree as well

	by registry.By
}

// Owner is the id under which a customer decides about changes of their doors.
func (d *Directory) Owner(c handoff.CustomerRef) handoff.ResidentID {
	name := d.names.Name("door-owner", c.Shop, c.ID)
	return handoff.ResidentID(hex.EncodeToString(name[:handoff.ResidentIDLen/2]))
}

// ChangeLink is the token of the link by which a resident, or an Owner, decides about a change
// until that counts.
func (d *Directory) ChangeLink(building string, c *handoff.DoorChange, id handoff.ResidentID) string {
	change, err := hex.DecodeString(c.ID)
	if err != nil {
		panic("residents: a link to a change without an id")
	}
	return d.sign(LinkChange, c.Due.Time(), id, string(change)+building)
}

const changeIDLen = 8 // bytes

// FollowChange reads a link to a change. The error is ErrLink, also where the change waits no
// more or is no business of theirs, or the store's.
func (d *Directory) FollowChange(ctx context.Context, token string) (Change, error) {
	l, rest, err := d.read(LinkChange, token)
	if err != nil || len(rest) <= changeIDLen {
		return Change{}, errors.Join(err, identity.ErrLink)
	}
	building, change := rest[changeIDLen:], hex.EncodeToString([]byte(rest[:changeIDLen]))
	door, err := d.registry.Waits(ctx, building, change)
	if errors.Is(err, registry.ErrNoChange) {
		return Change{}, identity.ErrLink
	}
	if err != nil {
		return Change{}, err
	}
	c := Change{Building: building, Door: *door}
	if owner := door.Holder(handoff.InstantOf(d.clock.Now())); owner != nil && d.Owner(*owner) == l.Resident {
		// The mail went to an address that a shop gave: it is enough to object, and not to agree.
		c.by = registry.By{Role: RoleOwner, Who: string(l.Resident)}
		return c, nil
	}
	r, err := d.store.Resident(ctx, building, l.Resident)
	switch {
	case err != nil:
		return Change{}, err
	case r == nil || !d.MayDecide(r, door):
		return Change{}, identity.ErrLink
	}
	c.Locale, c.by = r.Locale, registry.By{Role: handoff.RoleResident, Who: string(r.ID)}
	long := handoff.InstantOf(door.Pending.Asked.Time().Add(-d.registry.ChangeAfter))
	c.Approve = r.since() <= long && r.LeavesAt == 0
	return c, nil
}

// MayDecide reports whether a resident may object to the change that waits at a door.
func (d *Directory) MayDecide(r *Resident, door *handoff.Door) bool {
	since := r.since()
	return door.Pending != nil && since != 0 && since < door.Pending.Asked && !r.lapsed(d.clock.Now()) && handoff.SameUnit(r.Unit, door.Unit)
}

// Object ends a change. The error may be registry.ErrNoChange.
func (d *Directory) Object(ctx context.Context, c Change) error {
	return d.registry.Object(ctx, c.by, &c.Door, c.Door.Pending.ID)
}

// Agree has a change count at once. The error is ErrLink for those who may object only, or
// registry.ErrNoChange.
func (d *Directory) Agree(ctx context.Context, c Change) error {
	if !c.Approve {
		return identity.ErrLink
	}
	return d.registry.Approve(ctx, c.by, &c.Door, c.Door.Pending.ID)
}

// OwnersChange is a change as the door's owner sees it who proved to be it, and not by a mail.
// The error may be registry.ErrNoChange.
func (d *Directory) OwnersChange(ctx context.Context, c handoff.CustomerRef, door, change string) (Change, error) {
	there, err := d.registry.Door(ctx, door)
	switch {
	case err != nil:
		return Change{}, err
	case there == nil || there.Pending == nil || there.Pending.ID != change || there.Owner == nil || *there.Owner != c:
		return Change{}, registry.ErrNoChange
	}
	return Change{Building: there.BuildingID, Door: *there, Approve: true, by: registry.By{Role: RoleOwner, Who: string(d.Owner(c))}}, nil
}

// Stay is said by a resident whom the manager removed: they stay, and hear as before.
func (d *Directory) Stay(ctx context.Context, l Link) error {
	by := registry.By{Role: handoff.RoleResident, Who: string(l.Resident)}
	if err := d.stays(ctx, by, l.Building, l.Resident); err != nil {
		return err
	}
	return d.ofResident(ctx, l.Building, l.Resident, func(r *Resident, _ handoff.Instant) {
		if r.LeavesAt.Time().Unix() == l.Until.Unix() && r.MayObject() {
			r.stay()
			r.Objections++
		}
	})
}

// Leave is said by a resident whom the manager removed: they agree, and hear no more.
func (d *Directory) Leave(ctx context.Context, l Link) error {
	by := registry.By{Role: handoff.RoleResident, Who: string(l.Resident)}
	if err := d.tell(ctx, by, handoff.Event{Type: handoff.EventResidentRemoved, Building: l.Building, Resident: l.Resident}); err != nil {
		return err
	}
	return d.dropResident(ctx, l.Building, l.Resident, func(r *Resident) bool { return r.LeavesAt.Time().Unix() == l.Until.Unix() })
}

// MoveOut removes all residents of a unit, as RejectBy does: the confirmed ones are mailed, can
// object, and hear of everything until they leave. It returns those who were there, as they are then.
func (d *Directory) MoveOut(ctx context.Context, by registry.By, building, unit string) ([]Resident, error) {
	all, err := d.List(ctx, building)
	if err != nil {
		return nil, err
	}
	var theirs []Resident
	for _, r := range all {
		if r.Unit == "" || !handoff.SameUnit(r.Unit, unit) {
			continue
		}
		if err := d.RejectBy(ctx, by, building, r.ID); err != nil && !errors.Is(err, ErrResidentUnknown) {
			return nil, err
		}
		now, err := d.store.Resident(ctx, building, r.ID)
		if err != nil {
			return nil, err
		}
		if now == nil {
			now = &r
		}
		theirs = append(theirs, *now)
	}
	return theirs, nil
}
