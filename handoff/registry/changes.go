package registry

import (
	"bytes"
	"reflect"
	"slices"
	"time"

	"latchkey/handoff"
)

// By is who changes a record.
type By struct {
	Role handoff.Role // manager or ops; empty: the service itself
	Who  string       // a pseudonym
}

// changes collects names of what differs.
type changes []string

func (c *changes) of(name string, same bool) {
	if !same {
		*c = append(*c, name)
	}
}

// changesOfBuilding names what differs between two buildings, by the API's names.
func changesOfBuilding(before, after *handoff.Building) []string {
	if before == nil {
		return []string{handoff.Enrolled}
	}
	var c changes
	c.of("name", before.Name == after.Name)
	c.of("address", before.Address == after.Address)
	c.of("time_zone", before.Zone == after.Zone)
	c.of("location", reflect.DeepEqual(before.Location, after.Location))
	c.of("manager", before.Manager == after.Manager)
	c.of("locale", before.Locale == after.Locale)
	c.of("carriers", slices.Equal(before.Carriers, after.Carriers))
	c.of("delivery_hours", reflect.DeepEqual(before.Hours, after.Hours))
	c.of("quiet_hours", reflect.DeepEqual(before.Quiet, after.Quiet))
	c.of("returns", before.Returns == after.Returns)
	return c
}

// changesOfDoor is changesOfBuilding of two doors.
func changesOfDoor(before, after *handoff.Door) []string {
	if before == nil || before.Removed {
		return []string{handoff.Enrolled}
	}
	var c changes
	c.of("kind", before.Kind == after.Kind)
	c.of("mode", before.Mode == after.Mode)
	c.of("location", reflect.DeepEqual(before.Location, after.Location))
	c.of("geofence_m", before.Fence == after.Fence)
	c.of("owner", reflect.DeepEqual(before.Owner, after.Owner))
	c.of("unit", before.Unit == after.Unit)
	c.of("public_key", bytes.Equal(before.Key, after.Key))
	c.of("keypad_key", bytes.Equal(before.Keypad, after.Keypad))
	c.of("relock_s", before.Relock == after.Relock)
	c.of("carriers", sameCarriers(before.Carriers, after.Carriers))
	return c
}

const (
	// boundKept is how long it is remembered whose a door was: longer than a mail about it is tried.
	boundKept = 48 * time.Hour

	// boundMost is how many of them are remembered. A manager who changes a door back and forth
	// makes the middle ones forgotten, and never the first.
	boundMost = 8
)

// standing is a door as it stands at now, with its change if that is due. Nil is none.
func standing(d *handoff.Door, now handoff.Instant) *handoff.Door {
	if !d.IsDue(now) {
		return d
	}
	then := bound(d, *d.At(now), d.Pending.Due)
	return &then
}

// bound is after with whose it was before, where that is another now.
func bound(before *handoff.Door, after handoff.Door, now handoff.Instant) handoff.Door {
	if after.Before = nil; before == nil {
		return after
	}
	after.Before = slices.DeleteFunc(slices.Clone(before.Before), func(b handoff.Binding) bool {
		return now.Time().Sub(b.Until.Time()) > boundKept
	})
	if before.Private() && (after.Removed || !after.Private() || !reflect.DeepEqual(before.Owner, after.Owner) || before.Unit != after.Unit) {
		after.Before = append(after.Before, handoff.Binding{Owner: before.Owner, Unit: before.Unit, Until: now})
		if len(after.Before) > boundMost {
			after.Before = slices.Delete(after.Before, boundMost-1, boundMost)
		}
	}
	if len(after.Before) == 0 {
		after.Before = nil
	}
	return after
}
