package handoff

import "time"

// Journey is where a parcel is in its day, as far as it was reported. A zero Instant has
// not happened, or fell out of the history.
type Journey struct {
	Left   Instant // it left the warehouse
	Out    bool    // its day has begun, and its route a courier
	AtDoor Instant // the courier was first at the address: let through a door, or trying a code
	Over   Instant // it changed hands
}

// JourneyAt tells a grant's journey on its delivery day. What happened on the day from
// which it was rescheduled is past. Driven says that its route has a courier.
func (g *Grant) JourneyAt(now time.Time, driven bool) Journey {
	var j Journey
	for _, h := range g.History {
		switch h.Type {
		case EventDispatched:
			j.Left = h.At
		case EventRescheduled:
			j.AtDoor = 0
		case EventPermitted, EventCodeRefused, EventReleased, EventCollected: // each proved the place
			if j.AtDoor == 0 {
				j.AtDoor = h.At
			}
		}
	}
	if g.Handoff != nil && len(g.There()) == 0 {
		j.Over = g.Handoff.At
	}
	j.Out = j.AtDoor != 0 || driven && g.StatusAt(now) == Active && g.Window.Begun(now)
	return j
}
