package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
)

var (
	// ErrNoChange says that a door has no such change that waits: it was taken back, someone
	// objected, or it counts by now.
	ErrNoChange = errors.New("registry: no such change waits")

	// ErrTooManyChanges says that more changes of a door were asked for than its people can be
	// expected to read.
	ErrTooManyChanges = errors.New("registry: too many changes of the door were asked for")
)

// mostAsked is how many changes of a garage or home may be asked for while one waits. Each is
// mailed: one that no mail tells of must not come to count.
const mostAsked = 10

const changeIDLen = 16 // hexadecimal digits

// ask is the change that waits at a door, and when the last ones were asked for.
func (r *Registry) ask(there *handoff.Door, c handoff.DoorChange, by By, now handoff.Instant) (*handoff.DoorChange, []handoff.Instant, error) {
	if there.Pending.Says(&c) {
		return there.Pending, there.Asked, nil
	}
	since := handoff.InstantOf(now.Time().Add(-r.ChangeAfter))
	asked := slices.DeleteFunc(slices.Clone(there.Asked), func(at handoff.Instant) bool { return at <= since })
	if len(asked) >= mostAsked {
		return nil, nil, ErrTooManyChanges
	}
	c.By, c.Who, c.Asked, c.Due = string(by.Role), by.Who, now, handoff.InstantOf(now.Time().Add(r.ChangeAfter))
	c.ID = VersionOf([]any{there.ID, c})[:changeIDLen]
	return &c, append(asked, now), nil
}

// eventsOf are the events of a PUT: what changed at once, what waits, and what waits no more.
// there is before, or the door that was removed.
func (r *Registry) eventsOf(by By, before, there, stands *handoff.Door) []handoff.Event {
	event := func(t handoff.EventType, changes []string) handoff.Event {
		return handoff.Event{Type: t, Door: stands.ID, Target: privateKind(before, stands), Building: stands.BuildingID, Changes: changes}
	}
	events := []handoff.Event{event(handoff.EventDoorChanged, changesOfDoor(before, stands))}
	var was *handoff.DoorChange
	if there != nil {
		was = there.Pending
	}
	if was != nil && !was.Says(stands.Pending) {
		e := event(handoff.EventDoorChangeWithdrawn, was.Changes)
		e.Change = was.ID
		events = append(events, e)
	}
	if c := stands.Pending; c != nil && !c.Says(was) {
		e := event(handoff.EventDoorChangeAsked, c.Changes)
		e.Change, e.Due = c.ID, c.Due
		events = append(events, e)
	}
	return events
}

// Waits is the door at which a change waits; ErrNoChange if it waits no more.
func (r *Registry) Waits(ctx context.Context, building, change string) (*handoff.Door, error) {
	ids, err := r.store.Doors(ctx, building)
	if err != nil {
		return nil, err
	}
	now := handoff.InstantOf(r.clock.Now())
	for _, id := range ids {
		d, err := r.store.Door(ctx, id)
		if err != nil {
			return nil, err
		}
		if d != nil && d.BuildingID == building && d.Pending != nil && d.Pending.ID == change && !d.IsDue(now) {
			return d, nil
		}
	}
	return nil, ErrNoChange
}

// Object ends a change that waits: the door stays what it is. Who may, the caller knows. The
// error may be ErrNoChange.
func (r *Registry) Object(ctx context.Context, by By, d *handoff.Door, change string) error {
	return r.decide(ctx, by, d, change, handoff.EventDoorChangeObjected, func(there *handoff.Door, _ handoff.Instant) { there.Pending = nil })
}

// Approve has a change count now. Who may, the caller knows. The error may be ErrNoChange.
func (r *Registry) Approve(ctx context.Context, by By, d *handoff.Door, change string) error {
	err := r.decide(ctx, by, d, change, handoff.EventDoorChangeApproved, func(there *handoff.Door, now handoff.Instant) {
		c := *there.Pending
		c.Due = now
		there.Pending = &c
	})
	if err != nil {
		return err
	}
	return r.Settle(ctx, d.ID)
}

// decide changes a door at which a change waits. The log hears of it first.
func (r *Registry) decide(ctx context.Context, by By, d *handoff.Door, change string, t handoff.EventType, do func(*handoff.Door, handoff.Instant)) error {
	now := handoff.InstantOf(r.clock.Now())
	waits := func(there *handoff.Door) bool {
		return there != nil && !there.Removed && there.Pending != nil && there.Pending.ID == change && !there.IsDue(now)
	}
	there, err := r.raw(ctx, d.ID)
	switch {
	case err != nil:
		return err
	case !waits(there):
		return ErrNoChange
	}
	err = r.changed(ctx, by, handoff.Event{
		Type: t, Door: d.ID, Target: privateKind(there, there), Building: there.BuildingID, Changes: there.Pending.Changes, Change: change,
	})
	if err != nil {
		return err
	}
	return r.store.ChangeDoor(ctx, d.ID, func(there *handoff.Door) (handoff.Door, error) {
		if !waits(there) {
			return handoff.Door{}, ErrNoChange
		}
		after := *there
		do(&after, now)
		return after, nil
	})
}

// MoveOut ends the owners of a unit's garages and homes at once: from then on these open for no
// one. Another owner has to wait, and the one before may object to it. What waited is taken back.
// It returns the unit's doors as they were; it may be repeated.
func (r *Registry) MoveOut(ctx context.Context, by By, building, unit string) ([]handoff.Door, error) {
	now := handoff.InstantOf(r.clock.Now())
	if err := r.log.Append(ctx, now, handoff.Event{
		Type: handoff.EventUnitMovedOut, At: now, Building: building, By: string(by.Role), Who: by.Who,
	}); err != nil {
		return nil, err
	}
	ids, err := r.store.Doors(ctx, building)
	if err != nil {
		return nil, err
	}
	var theirs []handoff.Door
	for _, id := range slices.Sorted(slices.Values(ids)) {
		d, err := r.Door(ctx, id)
		if err != nil {
			return nil, err
		}
		if d == nil || !d.Private() || unit == "" || !handoff.SameUnit(d.Unit, unit) {
			continue
		}
		theirs = append(theirs, *d)
		if d.Owner == nil && d.Pending == nil {
			continue // done before
		}
		out := func(there *handoff.Door) handoff.Door {
			after := *there
			after.Pending = nil
			if after.Owner != nil {
				after.Owner, after.Former = nil, &handoff.Binding{Owner: there.Owner, Unit: there.Unit, Until: now}
			}
			return bound(there, after, now)
		}
		after := out(d)
		if err := r.changed(ctx, by, r.eventsOf(by, d, d, &after)...); err != nil {
			return nil, err
		}
		err = r.store.ChangeDoor(ctx, id, func(there *handoff.Door) (handoff.Door, error) {
			if there = standing(there, now); there == nil || there.Removed || !handoff.SameUnit(there.Unit, unit) {
				return handoff.Door{}, errSeen
			}
			return out(there), nil
		})
		if err != nil && !errors.Is(err, errSeen) {
			return nil, err
		}
	}
	return theirs, nil
}

// Settle writes a door's change that is due, and tells the log once, however many instances do
// it at the same time. Until it is written it counts all the same.
func (r *Registry) Settle(ctx context.Context, door string) error {
	now := handoff.InstantOf(r.clock.Now())
	there, err := r.raw(ctx, door)
	if err != nil || !there.IsDue(now) || there.Removed {
		return err
	}
	c := there.Pending
	e := handoff.Event{
		Type: handoff.EventDoorChanged, At: now, By: c.By, Who: c.Who, Door: door, Target: privateKind(there, there), Building: there.BuildingID, Changes: c.Changes,
	}
	note := eventlog.Note{Partition: e.Partition(), Name: "settled:" + door, Is: c.ID}
	for told := false; !told; {
		if note.Was, err = r.log.Noted(ctx, note.Partition, note.Name); err != nil {
			return err
		}
		if told = note.Was == note.Is; told {
			break
		}
		if told, err = r.log.AppendNoted(ctx, now, note, e); err != nil {
			return err
		}
	}
	err = r.store.ChangeDoor(ctx, door, func(there *handoff.Door) (handoff.Door, error) {
		if !there.IsDue(now) || there.Pending.ID != c.ID {
			return handoff.Door{}, errSeen
		}
		return *standing(there, now), nil
	})
	if errors.Is(err, errSeen) {
		err = nil
	}
	return err
}

// SettleAll settles the doors of all buildings. It reads all of them.
func (r *Registry) SettleAll(ctx context.Context) error {
	buildings, err := r.store.Buildings(ctx)
	if err != nil {
		return err
	}
	now := handoff.InstantOf(r.clock.Now())
	var failed []error
	for _, building := range buildings {
		ids, err := r.store.Doors(ctx, building)
		failed = append(failed, err)
		for _, id := range ids {
			d, err := r.store.Door(ctx, id)
			if err == nil && d.IsDue(now) {
				err = r.Settle(ctx, id)
			}
			if err != nil && !errors.Is(err, storage.ErrUnavailable) {
				err = fmt.Errorf("the change of door %s: %w", id, err)
			}
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
