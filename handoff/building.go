package handoff

import (
	"slices"
	"time"
)

// Door is one door of a building as the registry knows it at the moment of asking.
type Door struct {
	ID       string
	Kind     TargetKind
	Location *Point
	Fence    float64 // meters; 0 means policy's radius for doors

	// Carried says that the door has no network: the permit reaches it with the
	// courier's phone, so that the courier must prove to stand there.
	Carried bool

	// Owner is whose garage or home it is. Such a door opens for grants of its owner only.
	Owner *CustomerRef

	Building Building
}

// CustomerRef names a customer: ids of different shops may collide.
type CustomerRef struct{ Shop, ID string }

// Building is what a building's manager allows.
type Building struct {
	ID       string
	Zone     string   // IANA
	Carriers []string // who may come at all
	Returns  bool     // whether couriers may come for returns
	Hours    *Hours   // when deliveries may come; nil: at any hour
	Quiet    *Hours   // when nobody may come, whatever Hours say
}

// Hours is a daily stretch of local time [From, To) in minutes since midnight. Where
// From is later than To it spans midnight.
type Hours struct{ From, To int }

func (h Hours) contains(minute int) bool {
	if h.From <= h.To {
		return h.From <= minute && minute < h.To
	}
	return minute >= h.From || minute < h.To
}

// admits reports whether the door lets this grant's carrier in at now: it is a door
// of the grant's own building (and owner), and the building allows the carrier, the
// purpose and the hour. What is unknown is not admitted.
func (d *Door) admits(g *Grant, now time.Time) bool {
	if d == nil || d.Building.ID == "" || d.Building.ID != g.Dispatch.To.Building {
		return false
	}
	owner := CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
	if (d.Kind == Garage || d.Kind == Home) && (d.Owner == nil || *d.Owner != owner) {
		return false
	}
	b := d.Building
	zone, err := Zone(b.Zone)
	if err != nil || !slices.Contains(b.Carriers, g.Dispatch.Carrier) {
		return false
	}
	if g.Dispatch.Purpose == PurposeReturn && !b.Returns {
		return false
	}
	local := now.In(zone)
	minute := local.Hour()*60 + local.Minute()
	return (b.Hours == nil || b.Hours.contains(minute)) && (b.Quiet == nil || !b.Quiet.contains(minute))
}

// visitLength is how long a visit lasts from its first permit, and permitsPerVisit
// how many permits it may ask for: retries at a door are honest.
const (
	visitLength     = 5 * time.Minute
	permitsPerVisit = 3
)

// running reports whether a permit asked for at now still belongs to the visit.
func (v *Visit) running(now Instant) bool {
	return !v.Over && now.Time().Sub(v.Since.Time()) < visitLength
}

// mayVisit reports whether one more permit for the door fits into the right: into the
// visit that runs, or into one not yet begun.
func (g *Grant) mayVisit(r *Right, door string, now time.Time) bool {
	begun := 0
	for i := range g.Visits {
		v := &g.Visits[i]
		if v.Door != door {
			continue
		}
		if v.running(InstantOf(now)) {
			return v.Permits < permitsPerVisit
		}
		begun++
	}
	return begun < r.Uses
}
