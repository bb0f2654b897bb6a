package handoff

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"
)

// Door is one door of a building as the registry knows it at the moment of asking.
type Door struct {
	ID       string     `cbor:"-"`
	Kind     TargetKind `cbor:"1,keyasint"`
	Mode     DoorMode   `cbor:"2,keyasint"`
	Location *Point     `cbor:"3,keyasint,omitempty"`
	Fence    float64    `cbor:"4,keyasint,omitempty"` // meters; 0 means policy's radius for doors

	// Owner is whose garage or home it is. Such a door opens for grants of its owner only.
	Owner *CustomerRef `cbor:"5,keyasint,omitempty"`

	// Key is the door's own Ed25519 public key, by which its reports are known; empty for
	// a door that does not report.
	Key []byte `cbor:"6,keyasint,omitempty"`

	// Relock is how many seconds after an unlock the door locks again, at most 120; 0: as
	// the door is set itself. It travels in the permit.
	Relock int `cbor:"7,keyasint,omitempty"`

	// BuildingID never changes: a door does not move.
	BuildingID string `cbor:"8,keyasint"`

	// Keypad is what a keypad makes its PINs from; empty for a door of another mode.
	Keypad KeypadKey `cbor:"9,keyasint,omitempty"`

	// Carriers are those of the building's who may come by this door; nil: all of them.
	Carriers []string `cbor:"10,keyasint,omitzero"`

	// Removed says that there is no such door any more: no Store shows it. What is left of
	// it keeps its id for its building.
	Removed bool `cbor:"11,keyasint,omitempty"`

	// Unit is the unit whose garage or home it is, as dispatches say it: its residents are told
	// what happens at their door, and of every change to it. A PUT does not take it away.
	Unit string `cbor:"12,keyasint,omitempty"`

	// Before are those whose door it was in the last two days, oldest first, so that they are
	// told of the change, too.
	Before []Binding `cbor:"13,keyasint,omitempty"`

	// Pending is a change that waits: see Wait. Nil for none.
	Pending *DoorChange `cbor:"14,keyasint,omitempty"`

	// Keyed says that a garage or home had a key, so that another is no first one.
	Keyed bool `cbor:"15,keyasint,omitempty"`

	// Former is whose it was until its owner moved out; nil while it has an owner.
	Former *Binding `cbor:"16,keyasint,omitempty"`

	// Asked is when the last of its changes were asked for, so that not too many are.
	Asked []Instant `cbor:"17,keyasint,omitempty"`

	// Building is read along with the door.
	Building Building `cbor:"-"`
}

// Binding is whose a door was.
type Binding struct {
	Owner *CustomerRef `cbor:"1,keyasint,omitempty"`
	Unit  string       `cbor:"2,keyasint,omitempty"`
	Until Instant      `cbor:"3,keyasint"`
}

// Private reports whether the door is a customer's own: a garage or a home.
func (d *Door) Private() bool { return d.Kind == Garage || d.Kind == Home }

// DoorMode is how permits reach a door.
type DoorMode uint8

// The modes.
const (
	_         DoorMode = iota
	Carried            // with the courier's phone: the door has no network, so the courier must prove to stand there
	Connected          // the door's controller dials out
	Bridged            // through a lock that speaks something else; its bridge dials out
	Keypad             // not at all: the courier types a PIN of eight digits in their place
)

var modeNames = enum[DoorMode]{Carried: "carried", Connected: "connected", Bridged: "bridged", Keypad: "keypad"}

func (m DoorMode) String() string { return modeNames.name(m) }

// ParseDoorMode reads a mode's name.
func ParseDoorMode(name string) (DoorMode, bool) { return modeNames.parse(name) }

// KeypadKey is the secret that a keypad shares with the service: who knows it knows
// every PIN of its door. It prints as ******.
type KeypadKey []byte

// Format prints ****** for every verb.
func (k KeypadKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText yields ******, so that JSON and its kin cannot leak a key.
func (k KeypadKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue yields ******.
func (k KeypadKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Replacing is d as it is stored in the place of before (nil: of none). A door stays in
// its building: ErrDoorMoved. A keypad that is given no key keeps the one it has, since
// it cannot be read out to be said again; one that has none is ErrKeypadKey. The key is
// forgotten along with the mode, and of a door that is removed, everything but its building,
// whose it was and, of a garage or home, that it was one and had a key. A garage or home that
// is given no unit keeps the one it has.
func (d Door) Replacing(before *Door) (Door, error) {
	if before != nil && before.BuildingID != d.BuildingID {
		return Door{}, ErrDoorMoved
	}
	if d.Removed {
		gone := Door{ID: d.ID, BuildingID: d.BuildingID, Before: d.Before, Removed: true}
		if d.Private() {
			gone.Kind, gone.Owner, gone.Unit, gone.Keyed, gone.Former, gone.Asked = d.Kind, d.Owner, d.Unit, d.hadKey(), d.Former, d.Asked
		}
		return gone, nil
	}
	switch {
	case !d.Private():
		d.Unit = ""
	case d.Unit == "" && before != nil:
		d.Unit = before.Unit
	}
	switch {
	case d.Mode != Keypad:
		d.Keypad = nil
	case len(d.Keypad) == 0 && before != nil:
		d.Keypad = before.Keypad
	}
	if d.Mode == Keypad && len(d.Keypad) == 0 && (d.Pending == nil || len(d.Pending.Keypad) == 0) {
		return Door{}, ErrKeypadKey
	}
	d.Building = Building{}
	return d, nil
}

// CustomerRef names a customer: ids of different shops may collide.
type CustomerRef struct {
	_    struct{} `cbor:",toarray"`
	Shop string
	ID   string
}

// Building is what a building's manager allows.
type Building struct {
	ID       string   `cbor:"-"`
	Name     string   `cbor:"1,keyasint,omitempty"`
	Address  string   `cbor:"2,keyasint,omitempty"`
	Zone     string   `cbor:"3,keyasint"` // IANA
	Location *Point   `cbor:"4,keyasint,omitempty"`
	Manager  string   `cbor:"5,keyasint,omitempty"` // a mail address
	Carriers []string `cbor:"6,keyasint,omitempty"` // who may come at all
	Returns  bool     `cbor:"7,keyasint,omitempty"` // whether couriers may come for returns
	Hours    *Hours   `cbor:"8,keyasint,omitempty"` // when deliveries may come; nil: at any hour
	Quiet    *Hours   `cbor:"9,keyasint,omitempty"` // when no courier may come, whatever Hours say

	// Locale is the language of mails to the manager, BCP 47.
	Locale string `cbor:"10,keyasint,omitempty"`
}

// Hours is a daily stretch of local time [From, To) in minutes since midnight. Where
// From is later than To it spans midnight.
type Hours struct {
	_    struct{} `cbor:",toarray"`
	From int
	To   int
}

// ParseHours reads two times of day of the form 07:00. A day may end at 24:00.
func ParseHours(from, to string) (Hours, bool) {
	f, okFrom := minuteOfDay(from)
	t, okTo := minuteOfDay(to)
	return Hours{From: f, To: t}, okFrom && okTo && f != t && f < 24*60
}

func minuteOfDay(text string) (int, bool) {
	if text == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil && len(text) == 5
}

// String is the hours as two times of day.
func (h Hours) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.From/60, h.From%60, h.To/60, h.To%60)
}

func (h Hours) contains(minute int) bool {
	if h.From <= h.To {
		return h.From <= minute && minute < h.To
	}
	return minute >= h.From || minute < h.To
}

// admits reports whether the door lets this grant's carrier in at now: it is a door on the
// grant's way, and the building allows the hour. What is unknown is not admitted.
func (d *Door) admits(g *Grant, now time.Time) bool {
	if !d.leadsTo(g) {
		return false
	}
	b := d.Building
	zone, err := Zone(b.Zone)
	if err != nil {
		return false
	}
	local := now.In(zone)
	minute := local.Hour()*60 + local.Minute()
	return (b.Hours == nil || b.Hours.contains(minute)) && (b.Quiet == nil || !b.Quiet.contains(minute))
}

// leadsTo reports whether this is a door of the grant's own building (and owner), both of
// which allow the carrier, and the building the purpose. To other carriers it does not exist.
func (d *Door) leadsTo(g *Grant) bool {
	if d == nil || d.Building.ID == "" || d.Building.ID != g.Dispatch.To.Building {
		return false
	}
	owner := CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
	if (d.Kind == Garage || d.Kind == Home) && (d.Owner == nil || *d.Owner != owner) {
		return false
	}
	b, carrier := d.Building, g.Dispatch.Carrier
	if !slices.Contains(b.Carriers, carrier) || d.Carriers != nil && !slices.Contains(d.Carriers, carrier) {
		return false
	}
	return g.Dispatch.Purpose != PurposeReturn || b.Returns
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

// visit is how one more permit for the door fits into the right.
type visit uint8

const (
	visitOver  visit = iota // not at all
	visitGoes               // into the visit that runs, or into one not yet begun
	visitAgain              // into a visit that is begun again, for which limits hold
)

// visit says how one more permit for the door fits into the right. A visit to a lobby or
// gate may be begun again: a courier fetches a second armful, while the parcel is not handed
// over. A garage or home is entered once.
func (g *Grant) visit(r *Right, door string, l Limits, now time.Time) visit {
	begun, today := 0, 0
	for i := range g.Visits {
		v := &g.Visits[i]
		if v.Again {
			today++
		}
		if v.Door != door {
			continue
		}
		if v.running(InstantOf(now)) {
			if v.Permits < permitsPerVisit {
				return visitGoes
			}
			return visitOver
		}
		if !v.Again {
			begun++
		}
	}
	switch {
	case begun < r.Uses:
		return visitGoes
	case (r.Target == Lobby || r.Target == Gate) && today < l.AgainDay && g.Again < l.Again:
		return visitAgain
	}
	return visitOver
}

// ErrDoorMoved says that a door was to be moved to another building.
var ErrDoorMoved = errors.New("handoff: a door does not change its building")

// ErrKeypadKey says that a door with a keypad was to be stored without a key for it.
var ErrKeypadKey = errors.New("handoff: a keypad needs its key")
