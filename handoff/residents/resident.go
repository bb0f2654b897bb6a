package residents

import (
	"fmt"
	"io"
	"time"

	"latchkey/handoff"
)

// Resident is one mail address that is told what happens at the doors of a building:
// of the whole building, or of one unit alone.
//
// There are two ways in, and both end at the same place.
//
//	A resident asks. The address gets one mail, and nothing else until its
//	reader confirms. Who asked for a unit then waits for the building's manager to approve,
//	or anyone could watch any unit.
//
//	A manager puts a resident on file, which approves the unit. That is no consent to
//	mail about every parcel, so the address still has to confirm before it hears of
//	openings. But people must know what was installed in the house that they live in: who
//	is on file is mailed that, confirmed or not.
//
// A resident is found by a keyed hash of the building, the address and the unit, so
// that asking twice changes nothing, and a stranger who asks in a resident's name for
// another unit disturbs nothing that stands.
type Resident struct {
	ID       handoff.ResidentID `cbor:"-"`
	Building string             `cbor:"-"`

	Address string `cbor:"1,keyasint"`           // mail, RFC 5321
	Locale  string `cbor:"2,keyasint,omitempty"` // BCP 47
	Unit    string `cbor:"3,keyasint,omitempty"` // as dispatches to it say; empty: the whole building

	OnFile      bool            `cbor:"4,keyasint,omitempty"` // put there by the manager
	AskedAt     handoff.Instant `cbor:"5,keyasint,omitempty"` // by one who knows the address
	ConfirmedAt handoff.Instant `cbor:"6,keyasint,omitempty"` // by one who reads its mail
	ApprovedAt  handoff.Instant `cbor:"7,keyasint,omitempty"` // by the manager: lives in the unit

	// What was mailed, and when. Written after the mail was handed over: what a crash
	// leaves unwritten is mailed again.
	AskMailed     handoff.Instant `cbor:"8,keyasint,omitempty"`
	RequestMailed handoff.Instant `cbor:"9,keyasint,omitempty"` // to the manager
	WelcomeMailed handoff.Instant `cbor:"10,keyasint,omitempty"`

	// Informed is the digest of what the resident was last told is installed.
	Informed   []byte          `cbor:"11,keyasint,omitempty"`
	InformedAt handoff.Instant `cbor:"12,keyasint,omitempty"`

	// LeavesAt is when a resident of a unit whom the manager removed is forgotten; 0 for who
	// stays. Until then they hear of all that happens, and of the removal first of all.
	LeavesAt    handoff.Instant `cbor:"13,keyasint,omitempty"`
	LeaveMailed handoff.Instant `cbor:"14,keyasint,omitempty"`

	// Objections is how often the resident objected to a removal.
	Objections uint8 `cbor:"15,keyasint,omitempty"`

	// Revision counts the writes; 0 is "not there yet".
	Revision uint64 `cbor:"-"`
}

// redacted is what is printed in place of a resident.
const redacted = "******"

// Format prints no address, whatever the verb.
func (r Resident) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps the address out of logs and JSON.
func (r Resident) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// State is how far a resident came.
type State uint8

// The states.
const (
	_                 State = iota
	ResidentAsked           // the address has not confirmed
	ResidentConfirmed       // it has; the manager has not approved the unit
	ResidentActive          // hears of what happens
)

// String is the state as the API names it; empty for none.
func (s State) String() string {
	switch s {
	case ResidentAsked:
		return "asked"
	case ResidentConfirmed:
		return "confirmed"
	case ResidentActive:
		return "active"
	}
	return ""
}

// State is where the resident stands.
func (r *Resident) State() State {
	switch {
	case r.ConfirmedAt == 0:
		return ResidentAsked
	case r.Unit != "" && r.ApprovedAt == 0:
		return ResidentConfirmed
	}
	return ResidentActive
}

// Hears reports whether the resident is told of an opening that concerns a unit. Who
// follows the whole building hears of all, without the unit.
func (r *Resident) Hears(unit string) bool {
	return r.State() == ResidentActive && (r.Unit == "" || handoff.SameUnit(r.Unit, unit))
}

// IsInformed reports whether the resident is told what is installed.
func (r *Resident) IsInformed() bool { return r.OnFile || r.State() == ResidentActive }

// Mail is a mail that is about the subscription itself.
type Mail uint8

// The mails. At most one is due at a time.
const (
	NoMail      Mail = iota
	ConfirmMail      // to the address: was it you?
	RequestMail      // to the manager: does this address live in the unit?
	WelcomeMail      // to the address: from now on you hear of openings
	LeavingMail      // to the address: the manager removed you, and it counts in a while
)

const (
	// askAgain is how long an address is left alone after it was asked to confirm.
	askAgain = 24 * time.Hour

	// askLife is how long a question stays open: without an answer it then lapses.
	askLife = 7 * 24 * time.Hour

	// mostObjections is how often a resident may object to a removal: else one who moved out
	// could follow the unit of those who live there now for good.
	mostObjections = 2

	// AsksPerDay is how many addresses strangers can have asked to confirm, a building and
	// day. Beyond it the manager can still put residents on file.
	AsksPerDay = 50

	// AsksOfAddress is how many one address may be asked in a day, of all buildings together.
	AsksOfAddress = 3

	// ResidentsOnFile is the longest list of a manager's.
	ResidentsOnFile = 500
)

// Due is the mail about the subscription that is to be sent.
func (r *Resident) Due() Mail {
	if r.LeavesAt != 0 && r.LeaveMailed == 0 {
		return LeavingMail
	}
	switch r.State() {
	case ResidentAsked:
		if r.AskedAt > r.AskMailed {
			return ConfirmMail
		}
	case ResidentConfirmed:
		if r.RequestMailed == 0 {
			return RequestMail
		}
	case ResidentActive:
		if r.WelcomeMailed == 0 {
			return WelcomeMail
		}
	}
	return NoMail
}

// Mailed notes that a mail was handed over.
func (r *Resident) Mailed(m Mail, at handoff.Instant) {
	switch m {
	case ConfirmMail:
		r.AskMailed = max(at, r.AskedAt)
	case RequestMail:
		r.RequestMailed = at
	case WelcomeMail:
		r.WelcomeMailed = at
	case LeavingMail:
		r.LeaveMailed = at
	}
}

// leave has the resident go, and reports whether that takes its time: one who confirmed the
// address, and whom the manager approved for a unit, stays as long as a change of the unit's
// doors waits, so that no one is made deaf to what then happens there.
func (r *Resident) leave(now handoff.Instant, after time.Duration) bool {
	if r.Unit == "" || r.State() != ResidentActive {
		return false
	}
	if r.OnFile = false; r.LeavesAt == 0 {
		r.LeavesAt, r.LeaveMailed = handoff.InstantOf(now.Time().Add(after)), 0
	}
	return true
}

// stay undoes leave.
func (r *Resident) stay() { r.LeavesAt, r.LeaveMailed = 0, 0 }

// MayObject reports whether the resident may still object to a removal.
func (r *Resident) MayObject() bool { return r.Objections < mostObjections }

// since is from when on the resident was both confirmed and approved for the unit; 0 if never.
func (r *Resident) since() handoff.Instant {
	if r.State() != ResidentActive || r.Unit == "" {
		return 0
	}
	return max(r.ConfirmedAt, r.ApprovedAt)
}

// lapsed reports whether no one confirmed in time, or the time of one who was removed is
// over. An address on file stays there.
func (r *Resident) lapsed(now time.Time) bool {
	if r.LeavesAt != 0 && !now.Before(r.LeavesAt.Time()) {
		return true
	}
	return !r.OnFile && r.ConfirmedAt == 0 && now.Sub(r.AskedAt.Time()) >= askLife
}
