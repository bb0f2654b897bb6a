package registry

import (
	"context"
	"fmt"

	"latchkey/handoff"
)

// Alarm is what a door says of itself, and of no permit.
type Alarm struct {
	Door handoff.Door      // with its building
	Type handoff.EventType // EventDoorForced, EventDoorHeldOpen, EventDoorTampered, EventDoorJammed, EventDoorBatteryLow or EventDoorUnavailable

	// Seq counts the door's reports under its present key: one that comes again has the
	// number it had.
	Seq uint64
	At  handoff.Instant // by the door's clock
}

// Alarmed puts an alarm on the log, once, however often the door reports it, and tells
// whether it was news. After an error the door should report it again.
func (r *Registry) Alarmed(ctx context.Context, a Alarm) (bool, error) {
	switch a.Type {
	case handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered,
		handoff.EventDoorJammed, handoff.EventDoorBatteryLow, handoff.EventDoorUnavailable:
	default:
		return false, fmt.Errorf("registry: %s is no alarm", a.Type)
	}
	now := handoff.InstantOf(r.clock.Now())
	e := handoff.Event{
		Type: a.Type, At: now, By: string(handoff.RoleDoor), Claimed: a.At,
		Door: a.Door.ID, Target: a.Door.Kind, Building: a.Door.BuildingID,
	}
	mark := fmt.Sprintf("%s:%x", a.Door.ID, a.Door.Key) // under a new key a door counts anew
	return r.log.AppendOnce(ctx, now, mark, a.Seq, e)
}
