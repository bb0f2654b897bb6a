package service

import (
	"context"
	"fmt"
	"time"

	"latchkey/handoff"
)

// toldOneByOne is how many unlocks with an unknown parcel the log keeps one by one, for each
// door and carrier in an hour. Of those beyond it, one event tells at 40, the next at 80, and so
// on: a courier who asks with parcels that do not exist cannot fill the log.
const toldOneByOne = 20

// unknownTold says whether the n-th such unlock of an hour is told, and of how many the event
// tells; 0 says that it tells of itself alone.
func unknownTold(n int) (count int, told bool) {
	if n <= toldOneByOne {
		return 0, true
	}
	for m := 2 * toldOneByOne; m <= n; m *= 2 {
		if m == n {
			return m / 2, true
		}
	}
	return 0, false
}

// tellUnknownParcel tells a building of a courier who came without a parcel of the carrier's.
// There is no grant to tell it by. An unknown parcel and another carrier's are one case: the
// answer must not tell which it was.
func (s *Service) tellUnknownParcel(ctx context.Context, r *UnlockRequest, d *handoff.Door) error {
	now := s.clock.Now()
	hour := now.Unix() / int64(time.Hour/time.Second)
	n, err := s.store.Tally(ctx, fmt.Sprintf("unknown:%s:%s:%d", d.ID, r.Courier.Carrier, hour), 2*time.Hour)
	if err != nil {
		return fmt.Errorf("service: counting the refusals at a door: %w", err)
	}
	count, told := unknownTold(n)
	if !told {
		return nil
	}
	err = s.store.Append(ctx, handoff.InstantOf(now), handoff.Event{
		Type: handoff.EventAccessRefused, At: handoff.InstantOf(now), Reason: handoff.ParcelUnknown, Count: count,
		Carrier: r.Courier.Carrier, Courier: r.Courier.ID, Device: s.device(r.Courier, r.Device), Claimed: claimed(r.Claimed),
		Door: d.ID, Target: d.Kind, Building: d.BuildingID,
	})
	if err != nil {
		return fmt.Errorf("service: the event of a refusal at a door: %w", err)
	}
	return nil
}
