package service

import (
	"context"
	"fmt"

	"latchkey/handoff"
	"latchkey/handoff/storage"
)

// LastDoors keeps the door for which each courier was last given a permit.
type LastDoors interface {
	// MoveLastDoor notes a courier's last door if it is still the one that was read: from, or
	// nil for none. False: another request noted another door meanwhile, or the courier is not
	// known. Noting the same again is harmless. The error is storage.ErrUnavailable.
	MoveLastDoor(ctx context.Context, courier handoff.CourierRef, from *handoff.LastDoor, to handoff.LastDoor) (bool, error)
}

// lastDoor is the reservation of an unlock: a courier who asks at two distant doors at once is
// at one of them at most.
//
// It is made after the decision, by a trip of its own, and not in the trip that reads. A door
// that is noted counts as where the courier was. If it were noted before the proofs are
// judged, a refused request could move it, and a courier could be kept from the right door, or
// replace a distant one, by a refused request. It stays noted if the commit fails:
// in doubt it counts against the courier.
type lastDoor struct {
	unreserved
	store LastDoors
}

func (l lastDoor) name(ctx context.Context, p *pass) error {
	door := p.Door
	if p.command.Act != handoff.Open || p.decision.Refusal != nil || door.Location == nil {
		return nil
	}
	to := handoff.LastDoor{At: handoff.InstantOf(p.now), Place: *door.Location}
	noted, err := l.store.MoveLastDoor(ctx, p.command.Evidence.Courier, p.Courier.LastDoor, to)
	switch {
	case err != nil:
		return fmt.Errorf("the courier's last door: %w", err)
	case !noted:
		return fmt.Errorf("the courier's last door: %w", storage.ErrConflict)
	}
	return nil
}
