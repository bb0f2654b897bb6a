// Package registry keeps buildings and their doors. Whatever changes there is told to the
// event log first, so that residents hear of it.
package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"latchkey/handoff"
	"latchkey/handoff/clock"
)

// Registry writes buildings and doors, and tells the log of what residents must hear.
type Registry struct {
	Reader
	store Store
	log   Log
	clock clock.Clock

	// ChangeAfter is how long a change of whose a garage or home is, or of its keys, waits. New
	// sets the default of the policy; it is set before the Registry is used.
	ChangeAfter time.Duration
}

// New makes a Registry. All three are needed.
func New(store Store, log Log, c clock.Clock) *Registry {
	after := time.Duration(handoff.DefaultPolicy().Limits.DoorChangeHours) * time.Hour
	return &Registry{Reader: store, store: store, log: log, clock: c, ChangeAfter: after}
}

// Door implements [Reader]. A change that is due counts, whether it is written or not.
func (r *Registry) Door(ctx context.Context, id string) (*handoff.Door, error) {
	d, err := r.Reader.Door(ctx, id)
	if d == nil || d.Pending == nil {
		return d, err
	}
	return standing(d, handoff.InstantOf(r.clock.Now())), err
}

// Enrolment is what residents are told of a building: what is installed, what it may do
// and who may use it.
type Enrolment struct {
	Building handoff.Building
	Doors    []handoff.Door // sorted by id
}

// Digest changes exactly if something of it changes that residents are told.
func (e *Enrolment) Digest() []byte {
	type door struct {
		_    struct{} `cbor:",toarray"`
		ID   string
		Kind handoff.TargetKind
		Mode handoff.DoorMode
	}
	said := struct {
		_                            struct{} `cbor:",toarray"`
		Name, Address, Zone, Manager string
		Carriers                     []string
		Returns                      bool
		Hours, Quiet                 *handoff.Hours
		Doors                        []door
	}{
		Name: e.Building.Name, Address: e.Building.Address, Zone: e.Building.Zone, Manager: e.Building.Manager,
		Carriers: e.Building.Carriers, Returns: e.Building.Returns, Hours: e.Building.Hours, Quiet: e.Building.Quiet,
	}
	for _, d := range e.Doors {
		said.Doors = append(said.Doors, door{ID: d.ID, Kind: d.Kind, Mode: d.Mode})
	}
	b, err := cbor.Marshal(said)
	if err != nil {
		panic("handoff: an enrolment that does not encode: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return sum[:16]
}

// Enrolment reads what residents are to be told of a building now; nil if it is not
// registered.
func (r *Registry) Enrolment(ctx context.Context, building string) (*Enrolment, error) {
	b, err := r.store.Building(ctx, building)
	if err != nil || b == nil {
		return nil, err
	}
	ids, err := r.store.Doors(ctx, building)
	if err != nil {
		return nil, err
	}
	e := &Enrolment{Building: *b}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		d, err := r.Door(ctx, id)
		if err != nil {
			return nil, err
		}
		if d != nil {
			e.Doors = append(e.Doors, *d)
		}
	}
	return e, nil
}

// Enroll is ReplaceBuilding of whatever stands.
func (r *Registry) Enroll(ctx context.Context, b handoff.Building) error {
	_, err := r.ReplaceBuilding(ctx, By{}, b, Match{})
	return err
}

// ReplaceBuilding writes a building, all of it, in the place of the one that is meant, and
// returns what it replaced: nil for none. Where that changes what its residents are told,
// the log hears of it first: who repeats a call that failed may have it said twice, which is
// harmless, and never leaves it unsaid. The error may be ErrStale.
func (r *Registry) ReplaceBuilding(ctx context.Context, by By, b handoff.Building, m Match) (before *handoff.Building, err error) {
	before, err = r.store.Building(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	if !m.Holds(BuildingVersion(before)) {
		return nil, ErrStale
	}
	if before == nil || !slices.Equal((&Enrolment{Building: *before}).Digest(), (&Enrolment{Building: b}).Digest()) {
		if err := r.enrolled(ctx, b.ID, ""); err != nil {
			return nil, err
		}
	}
	if err := r.changed(ctx, by, handoff.Event{
		Type: handoff.EventBuildingChanged, Building: b.ID, Changes: changesOfBuilding(before, &b),
	}); err != nil {
		return nil, err
	}
	err = r.store.ChangeBuilding(ctx, b.ID, func(stands *handoff.Building) (handoff.Building, error) {
		if !m.Holds(BuildingVersion(stands)) && BuildingVersion(stands) != BuildingVersion(&b) { // its own, after a lost answer
			return handoff.Building{}, ErrStale
		}
		before = stands
		return b, nil
	})
	return before, err
}

// EnrollDoor is ReplaceDoor of whatever stands.
func (r *Registry) EnrollDoor(ctx context.Context, d handoff.Door) error {
	_, _, err := r.ReplaceDoor(ctx, By{}, d, Match{})
	return err
}

// ReplaceDoor writes a door with the promise of ReplaceBuilding, and returns the one that it
// replaced, nil for none, and what stands now. Of a garage or home, whose it is and another key
// wait (see [handoff.Door.Wait]): what stands then has a Pending change. A change that waited
// already goes on if this asks for the same, and is taken back if not. The error may be
// ErrDoorMoved, ErrKeypadKey, ErrStale or ErrTooManyChanges.
func (r *Registry) ReplaceDoor(ctx context.Context, by By, d handoff.Door, m Match) (before *handoff.Door, stands handoff.Door, err error) {
	now := handoff.InstantOf(r.clock.Now())
	there, err := r.raw(ctx, d.ID)
	if err != nil {
		return nil, handoff.Door{}, err
	}
	there = standing(there, now)
	if stands, err = r.replacing(d, there, by, now); err != nil {
		return nil, handoff.Door{}, err
	}
	if !m.Holds(DoorVersion(there)) {
		return nil, handoff.Door{}, ErrStale
	}
	before = there
	if there != nil && there.Removed {
		before = nil
	}
	// Residents are told the building's carriers alone; its log has what changes at a door.
	if before == nil || before.Kind != d.Kind || before.Mode != d.Mode || !sameCarriers(before.Carriers, d.Carriers) {
		if err := r.enrolled(ctx, d.BuildingID, ""); err != nil {
			return nil, handoff.Door{}, err
		}
	}
	events := r.eventsOf(by, before, there, &stands)
	if err := r.changed(ctx, by, events...); err != nil {
		return nil, handoff.Door{}, err
	}
	err = r.store.ChangeDoor(ctx, d.ID, func(there *handoff.Door) (handoff.Door, error) {
		there = standing(there, now)
		if stands, err = r.replacing(d, there, by, now); err != nil {
			return handoff.Door{}, err
		}
		if !m.Holds(DoorVersion(there)) && DoorVersion(there) != DoorVersion(&stands) { // its own, after a lost answer
			return handoff.Door{}, ErrStale
		}
		if before = there; there != nil && there.Removed {
			before = nil
		}
		return stands, nil
	})
	stands.ID = d.ID
	return before, stands, err
}

// raw is what stands at a door's id, a door that was removed included; nil for none.
func (r *Registry) raw(ctx context.Context, id string) (d *handoff.Door, err error) {
	err = r.store.ChangeDoor(ctx, id, func(there *handoff.Door) (handoff.Door, error) {
		d = there
		return handoff.Door{}, errSeen
	})
	if errors.Is(err, errSeen) {
		err = nil
	}
	return d, err
}

// replacing is what is written where d is to stand in the place of there, as it stands.
func (r *Registry) replacing(d handoff.Door, there *handoff.Door, by By, now handoff.Instant) (handoff.Door, error) {
	stands, err := d.Replacing(there)
	if err != nil {
		return handoff.Door{}, err
	}
	var change *handoff.DoorChange
	stands.Pending = nil
	if stands, change = stands.Wait(there); change != nil {
		if stands.Pending, stands.Asked, err = r.ask(there, *change, by, now); err != nil {
			return handoff.Door{}, err
		}
	} else if there != nil {
		stands.Asked = there.Asked
	}
	return bound(there, stands, now), nil
}

// sameCarriers tells nil, which is all of them, from none.
func sameCarriers(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// RemoveDoor makes a door none, with the same promise: from the next unlock on it opens
// nothing. Its building can bring it back by EnrollDoor.
func (r *Registry) RemoveDoor(ctx context.Context, by By, d handoff.Door) error {
	if err := r.enrolled(ctx, d.BuildingID, ""); err != nil {
		return err
	}
	events := []handoff.Event{{Type: handoff.EventDoorChanged, Door: d.ID, Target: d.Kind, Building: d.BuildingID, Changes: []string{handoff.Removed}}}
	if c := d.Pending; c != nil {
		events = append(events, handoff.Event{
			Type: handoff.EventDoorChangeWithdrawn, Door: d.ID, Target: d.Kind, Building: d.BuildingID, Changes: c.Changes, Change: c.ID,
		})
	}
	if err := r.changed(ctx, by, events...); err != nil {
		return err
	}
	now := handoff.InstantOf(r.clock.Now())
	return r.store.ChangeDoor(ctx, d.ID, func(there *handoff.Door) (handoff.Door, error) {
		gone := d
		if there = standing(there, now); there != nil {
			gone = *there
		}
		gone.Removed, gone.Pending = true, nil
		return bound(there, gone, now), nil
	})
}

// privateKind is the kind of the door, where it is or was a garage or home, that one.
func privateKind(before, after *handoff.Door) handoff.TargetKind {
	if before != nil && before.Private() {
		return before.Kind
	}
	return after.Kind
}

// changed puts changes on the log, ahead of the write.
func (r *Registry) changed(ctx context.Context, by By, events ...handoff.Event) error {
	events = slices.DeleteFunc(events, func(e handoff.Event) bool { return len(e.Changes) == 0 })
	if len(events) == 0 {
		return nil
	}
	now := handoff.InstantOf(r.clock.Now())
	for i := range events {
		events[i].At, events[i].By, events[i].Who = now, string(by.Role), by.Who
	}
	return r.log.Append(ctx, now, events...)
}

// errSeen ends a change that only looks.
var errSeen = errors.New("registry: seen")

// Bindings are whose a door is, and then those whose it was until since or later, at most two
// days ago. The first is zero for a door that is not there, or is not there any more.
func (r *Registry) Bindings(ctx context.Context, door string, since handoff.Instant) ([]handoff.Binding, error) {
	there, err := r.raw(ctx, door)
	if err != nil {
		return nil, err
	}
	all := []handoff.Binding{{}}
	if there = standing(there, handoff.InstantOf(r.clock.Now())); there == nil {
		return all, nil
	}
	if !there.Removed {
		all[0] = handoff.Binding{Owner: there.Owner, Unit: there.Unit}
	}
	for _, b := range there.Before {
		if b.Until >= since {
			all = append(all, b)
		}
	}
	return all, nil
}

// Announce has residents told at once what is installed, instead of an hour after the
// last change. Who was told the same before is not told again.
func (r *Registry) Announce(ctx context.Context, building string, by handoff.Actor) error {
	return r.enrolled(ctx, building, string(by.Role))
}

func (r *Registry) enrolled(ctx context.Context, building, by string) error {
	now := handoff.InstantOf(r.clock.Now())
	return r.log.Append(ctx, now, handoff.Event{Type: handoff.EventBuildingEnrolled, At: now, Building: building, By: by})
}

// DoorsOf lists the doors that name a customer as their owner, as the one before, or in a change
// that waits, in every building. It reads all doors.
func (r *Registry) DoorsOf(ctx context.Context, c handoff.CustomerRef) ([]handoff.Door, error) {
	buildings, err := r.store.Buildings(ctx)
	if err != nil {
		return nil, err
	}
	var theirs []handoff.Door
	for _, building := range buildings {
		ids, err := r.store.Doors(ctx, building)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			d, err := r.Door(ctx, id)
			if err != nil {
				return nil, err
			}
			if d != nil && d.BuildingID == building && names(d, c) {
				theirs = append(theirs, *d)
			}
		}
	}
	return theirs, nil
}

// names reports whether a door's record names a customer.
func names(d *handoff.Door, c handoff.CustomerRef) bool {
	all := []*handoff.CustomerRef{d.Owner}
	if d.Former != nil {
		all = append(all, d.Former.Owner)
	}
	if d.Pending != nil {
		all = append(all, d.Pending.Owner)
	}
	return slices.ContainsFunc(all, func(o *handoff.CustomerRef) bool { return o != nil && *o == c })
}
