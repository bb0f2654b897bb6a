package handoff

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Resident is one mail address that is told what happens at the doors of a building:
// of the whole building, or of one unit alone.
//
// There are two ways in, and both end at the same place.
//
//	A resident asks. The address gets one mail, and nothing else until whoever reads it
//	there confirms. Who asked for a unit then waits for the building's manager to approve,
//	or anyone could watch any unit.
//
//	A manager puts a resident on file, which approves the unit. That is no consent to
//	mail about every parcel, so the address still has to confirm before it hears of
//	openings. But people must know what was installed in the house that they live in: who
//	is on file is mailed that, confirmed or not.
//
// A resident is found by a keyed hash of the building, the address and the unit, so
// that asking twice changes nothing, and a stranger who asks in somebody's name for
// another unit disturbs nothing that stands.
type Resident struct {
	ID       ResidentID `cbor:"-"`
	Building string     `cbor:"-"`

	Address string `cbor:"1,keyasint"`           // mail, RFC 5321
	Locale  string `cbor:"2,keyasint,omitempty"` // BCP 47
	Unit    string `cbor:"3,keyasint,omitempty"` // as dispatches to it say; empty: the whole building

	OnFile      bool    `cbor:"4,keyasint,omitempty"` // put there by the manager
	AskedAt     Instant `cbor:"5,keyasint,omitempty"` // by whoever knows the address
	ConfirmedAt Instant `cbor:"6,keyasint,omitempty"` // by whoever reads its mail
	ApprovedAt  Instant `cbor:"7,keyasint,omitempty"` // by the manager: lives in the unit

	// What was mailed, and when. Written after the mail was handed over: what a crash
	// leaves unwritten is mailed again.
	AskMailed     Instant `cbor:"8,keyasint,omitempty"`
	RequestMailed Instant `cbor:"9,keyasint,omitempty"` // to the manager
	WelcomeMailed Instant `cbor:"10,keyasint,omitempty"`

	// Informed is the digest of what the resident was last told is installed.
	Informed   []byte  `cbor:"11,keyasint,omitempty"`
	InformedAt Instant `cbor:"12,keyasint,omitempty"`

	// Revision counts the writes; 0 is "not there yet".
	Revision uint64 `cbor:"-"`
}

// Format prints no address, whatever the verb.
func (r Resident) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps the address out of logs and JSON.
func (r Resident) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// ResidentID names a resident of one building: 96 bits in hexadecimal.
type ResidentID string

const residentIDLen = 24

// ManagerID is the building's manager, in whose place it is noted what the manager was
// told. The address is the building's.
const ManagerID ResidentID = "000000000000000000000000"

// ParseResidentID reads the id of a resident.
func ParseResidentID(text string) (ResidentID, bool) {
	ok := len(text) == residentIDLen && strings.Trim(text, "0123456789abcdef") == ""
	return ResidentID(text), ok && ResidentID(text) != ManagerID
}

// ResidentState is how far a resident came.
type ResidentState uint8

// The states.
const (
	_                 ResidentState = iota
	ResidentAsked                   // the address has not confirmed
	ResidentConfirmed               // it has; the manager has not approved the unit
	ResidentActive                  // hears of what happens
)

var residentStateNames = enum[ResidentState]{
	ResidentAsked: "asked", ResidentConfirmed: "confirmed", ResidentActive: "active",
}

func (s ResidentState) String() string { return residentStateNames.name(s) }

// State is where the resident stands.
func (r *Resident) State() ResidentState {
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
	return r.State() == ResidentActive && (r.Unit == "" || sameUnit(r.Unit, unit))
}

// IsInformed reports whether the resident is told what is installed.
func (r *Resident) IsInformed() bool { return r.OnFile || r.State() == ResidentActive }

// sameUnit compares two spellings of a unit, but for case and white space.
func sameUnit(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}

// ResidentMail is a mail that is about the subscription itself.
type ResidentMail uint8

// The mails. At most one is due at a time.
const (
	NoMail      ResidentMail = iota
	ConfirmMail              // to the address: was it you?
	RequestMail              // to the manager: does this address live in the unit?
	WelcomeMail              // to the address: from now on you hear of openings
)

const (
	// askAgain is how long an address is left alone after it was asked to confirm.
	askAgain = 24 * time.Hour

	// askLife is how long a question stays open: who did not confirm by then never asked.
	askLife = 7 * 24 * time.Hour

	// AsksPerDay is how many addresses strangers can have asked to confirm, a building and
	// day. Beyond it the manager can still put residents on file.
	AsksPerDay = 50

	// AsksOfAddress is how many of them may be one address's, each for another unit.
	AsksOfAddress = 3

	// ResidentsOnFile is the longest list of a manager's.
	ResidentsOnFile = 500
)

// Due is the mail about the subscription that is to be sent.
func (r *Resident) Due() ResidentMail {
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
func (r *Resident) Mailed(m ResidentMail, at Instant) {
	switch m {
	case ConfirmMail:
		r.AskMailed = max(at, r.AskedAt)
	case RequestMail:
		r.RequestMailed = at
	case WelcomeMail:
		r.WelcomeMailed = at
	}
}

// lapsed reports whether nobody confirmed in time. Who is on file stays there.
func (r *Resident) lapsed(now time.Time) bool {
	return !r.OnFile && r.ConfirmedAt == 0 && now.Sub(r.AskedAt.Time()) >= askLife
}

// PageOfMarks is how many topics a page has room for: strangers can make them up.
const PageOfMarks = 1000

// Residents is the part of a Store that keeps who is told what happens in a building. A
// resident is sealed as a whole; the id under which it is kept tells nobody an address.
type Residents interface {
	// Residents lists a building's residents and what was noted of its manager, in the
	// order of their ids.
	Residents(ctx context.Context, building string) ([]Resident, error)

	// Resident reads one; nil if there is none.
	Resident(ctx context.Context, building string, id ResidentID) (*Resident, error)

	// PutResident writes a resident, if the one that stands still has its Revision; else
	// ErrConflict. It may be repeated by the store: who is told of a conflict reads again
	// and may find the own write.
	PutResident(ctx context.Context, r Resident) error

	// DropResident forgets a resident, under the same condition.
	DropResident(ctx context.Context, r Resident) error

	// Mark enters a topic on a page, and tells which entry it is, from 1, and whether it
	// was ended. A topic that is on the page already keeps its number. A page is kept for a
	// week after its last entry. It has room for PageOfMarks: what comes beyond is not kept,
	// and has the number after the last.
	Mark(ctx context.Context, m Mark) (number int, ended bool, err error)

	// EndMark notes that a topic is done with, so that who comes back after a crash knows.
	EndMark(ctx context.Context, m Mark) error
}

// Mark is one topic on a page: a list of what was done in a day, kept to bound it and to
// do nothing twice.
type Mark struct {
	Building string
	Of       string // whose page: a resident's id, or what is counted
	Day      Date
	Topic    string // tells nobody anything: an id
}

// Enrolment is what residents are told of a building: what is installed, what it may do
// and who may use it.
type Enrolment struct {
	Building Building
	Doors    []Door // sorted by id
}

// Digest changes exactly if something of it changes that residents are told.
func (e *Enrolment) Digest() []byte {
	type door struct {
		_    struct{} `cbor:",toarray"`
		ID   string
		Kind TargetKind
		Mode DoorMode
	}
	said := struct {
		_                            struct{} `cbor:",toarray"`
		Name, Address, Zone, Manager string
		Carriers                     []string
		Returns                      bool
		Hours, Quiet                 *Hours
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
