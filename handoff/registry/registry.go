// Package registry keeps buildings and their doors. Whatever changes there is told to the
// event log first, so that residents hear of it.
package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"

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
}

// New makes a Registry. All three are needed.
func New(store Store, log Log, c clock.Clock) *Registry {
	return &Registry{Reader: store, store: store, log: log, clock: c}
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
		d, err := r.store.Door(ctx, id)
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
// replaced, nil for none, and what stands now. The error may be ErrDoorMoved, ErrKeypadKey or ErrStale.
func (r *Registry) ReplaceDoor(ctx context.Context, by By, d handoff.Door, m Match) (before *handoff.Door, stands handoff.Door, err error) {
	before, err = r.store.Door(ctx, d.ID)
	if err != nil {
		return nil, handoff.Door{}, err
	}
	if before != nil && before.BuildingID != d.BuildingID {
		return nil, handoff.Door{}, handoff.ErrDoorMoved
	}
	if !m.Holds(DoorVersion(before)) {
		return nil, handoff.Door{}, ErrStale
	}
	// Residents are told the building's carriers alone; its log has what changes at a door.
	if before == nil || before.Kind != d.Kind || before.Mode != d.Mode || !sameCarriers(before.Carriers, d.Carriers) {
		if err := r.enrolled(ctx, d.BuildingID, ""); err != nil {
			return nil, handoff.Door{}, err
		}
	}
	now := handoff.InstantOf(r.clock.Now())
	if stands, err = d.Replacing(before); err != nil {
		return nil, handoff.Door{}, err
	}
	if err := r.changed(ctx, by, handoff.Event{
		Type: handoff.EventDoorChanged, Door: d.ID, Target: privateKind(before, &d), Building: d.BuildingID, Changes: changesOfDoor(before, &stands),
	}); err != nil {
		return nil, handoff.Door{}, err
	}
	err = r.store.ChangeDoor(ctx, d.ID, func(there *handoff.Door) (handoff.Door, error) {
		if stands, err = d.Replacing(there); err != nil {
			return handoff.Door{}, err
		}
		stands = bound(there, stands, now)
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

// sameCarriers tells nil, which is all of them, from none.
func sameCarriers(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// RemoveDoor makes a door none, with the same promise: from the next unlock on it opens
// nothing. Its building can bring it back by EnrollDoor.
func (r *Registry) RemoveDoor(ctx context.Context, by By, d handoff.Door) error {
	if err := r.enrolled(ctx, d.BuildingID, ""); err != nil {
		return err
	}
	if err := r.changed(ctx, by, handoff.Event{
		Type: handoff.EventDoorChanged, Door: d.ID, Target: d.Kind, Building: d.BuildingID, Changes: []string{handoff.Removed},
	}); err != nil {
		return err
	}
	now := handoff.InstantOf(r.clock.Now())
	return r.store.ChangeDoor(ctx, d.ID, func(there *handoff.Door) (handoff.Door, error) {
		return bound(there, handoff.Door{ID: d.ID, BuildingID: d.BuildingID, Removed: true}, now), nil
	})
}

// privateKind is the kind of the door, where it is or was a garage or home, that one.
func privateKind(before, after *handoff.Door) handoff.TargetKind {
	if before != nil && before.Private() {
		return before.Kind
	}
	return after.Kind
}

// changed puts a change on the log, ahead of the write.
func (r *Registry) changed(ctx context.Context, by By, e handoff.Event) error {
	if len(e.Changes) == 0 {
		return nil
	}
	e.At = handoff.InstantOf(r.clock.Now())
	e.By, e.Who = string(by.Role), by.Who
	return r.log.Append(ctx, e.At, e)
}

// errSeen ends a change that only looks.
var errSeen = errors.New("registry: seen")

// Bindings are whose a door is, and then those whose it was until since or later, at most two
// days ago. The first is zero for a door that is not there, or is not there any more.
func (r *Registry) Bindings(ctx context.Context, door string, since handoff.Instant) (all []handoff.Binding, err error) {
	err = r.store.ChangeDoor(ctx, door, func(there *handoff.Door) (handoff.Door, error) {
		all = []handoff.Binding{{}}
		if there != nil {
			all[0] = handoff.Binding{Owner: there.Owner, Unit: there.Unit}
			for _, b := range there.Before {
				if b.Until >= since {
					all = append(all, b)
				}
			}
		}
		return handoff.Door{}, errSeen
	})
	if errors.Is(err, errSeen) {
		err = nil
	}
	return all, err
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

// DoorsOf lists the doors that name a customer as their owner, in every building. It reads
// all doors.
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
			d, err := r.store.Door(ctx, id)
			if err != nil {
				return nil, err
			}
			if d != nil && d.BuildingID == building && d.Owner != nil && *d.Owner == c {
				theirs = append(theirs, *d)
			}
		}
	}
	return theirs, nil
}
