package door

import (
	"fmt"
	"math"
	"time"
)

// State is what a door says has happened.
type State uint8

// The states. A door reports what it did or what a sensor told, never what should follow.
// The numbers travel in reports and never change their meaning; new ones are added at the
// end, and a service that does not know one refuses the report as Malformed.
const (
	Delivered State = 1 // a permit reached the door
	Confirmed State = 2 // the lock confirmed that it let go
	Opened    State = 3 // the door's contact says that it opened
	Relocked  State = 4
	Failed    State = 5 // the opener did not, or the door did not lock again
	Forced    State = 6 // the door moved without a permit
	HeldOpen  State = 7 // the door was not closed in its time; of the permit that opened it, if one did
	Tamper    State = 8 // the controller's case was opened, or its lines were cut
	Refused   State = 9 // a permit or a PIN was turned away

	NoAnswer    State = 10 // the lock did not say whether it let go
	Jammed      State = 11 // the lock says that its bolt or its door is stuck
	BatteryLow  State = 12 // of the lock, or of a sensor beside it
	Unavailable State = 13 // the lock cannot be reached
)

var stateNames = map[State]string{
	Delivered: "delivered", Confirmed: "confirmed", Opened: "opened", Relocked: "relocked", Failed: "failed",
	Forced: "forced", HeldOpen: "held-open", Tamper: "tamper", Refused: "refused",
	NoAnswer: "no-answer", Jammed: "jammed", BatteryLow: "battery-low", Unavailable: "unavailable",
}

// ofPermit reports whether a state is always said of a permit.
func (s State) ofPermit() bool { return s <= Failed || s == NoAnswer }

// ofNone reports whether a state is never said of a permit.
func (s State) ofNone() bool {
	return s == Forced || s == Tamper || s == Jammed || s == BatteryLow || s == Unavailable
}

// String is the state in words; empty for a number that names none.
func (s State) String() string { return stateNames[s] }

// Report is one signed statement of a door.
type Report struct {
	Door string

	// Seq counts the door's reports from 1, under one key: a report that comes again
	// has the number it had, and a number left out is a report that was lost.
	Seq uint64

	At    time.Time // whole seconds, by the door's clock: its claim
	State State

	// Permit is what the report is about. It is always there from delivered to failed and
	// with no-answer; never with forced, tamper, jammed, battery-low and unavailable. A PIN
	// has one too: see [PINKey.Permit].
	Permit PermitID

	Refusal Refusal // why; with refused, and only there
}

// maxReport is the bytes of a report on the wire.
const maxReport = 144

type reportClaims struct {
	IssuedAt uint32    `cbor:"6,keyasint"`
	Own      reportOwn `cbor:"-65537,keyasint"`
}

type reportOwn struct {
	_       struct{} `cbor:",toarray"`
	Seq     uint64
	State   State
	Permit  []byte // 16 bytes or none
	Refusal Refusal
}

func (r *Report) check() error {
	_, known := stateNames[r.State]
	switch {
	case !doorID.MatchString(r.Door) || r.Seq == 0 || r.Seq > math.MaxInt64 || !onWire(r.At) || !known:
		return fmt.Errorf("%w: report", Malformed)
	case r.State.ofPermit() && r.Permit.IsZero():
		return fmt.Errorf("%w: %s is said of a permit", Malformed, r.State)
	case r.State.ofNone() && !r.Permit.IsZero():
		return fmt.Errorf("%w: %s is said of no permit", Malformed, r.State)
	case r.State == Refused && r.Refusal.String() == "", r.State != Refused && r.Refusal != 0:
		return fmt.Errorf("%w: refused has a reason, and nothing else has", Malformed)
	}
	return nil
}

// Sign makes the report that a [ReportVerifier] accepts, at most 144 bytes. The key is the
// door's own. The error is Malformed for a report that contradicts itself, or ErrKey.
func (r Report) Sign(key PrivateKey) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	own := reportOwn{Seq: r.Seq, State: r.State, Refusal: r.Refusal}
	if !r.Permit.IsZero() {
		own.Permit = r.Permit[:]
	}
	return sign(key, &reportClaims{IssuedAt: uint32(r.At.Unix()), Own: own}, bound(reportPurpose, r.Door))
}

// ReportVerifier reads the reports of one door, at the service.
type ReportVerifier struct {
	Door string
	Key  PublicKey // the door's own, from its registration
}

// Verify reads and verifies a report. Every error wraps a Refusal: Malformed, UnknownKey or
// BadSignature. Seq tells whether the report is new: one that is not above the last of this
// key came again; one that is more than one above it follows reports that are missing.
func (v ReportVerifier) Verify(raw []byte) (Report, error) {
	e, err := parse(raw, maxReport)
	if err != nil {
		return Report{}, err
	}
	if v.Key.IsZero() || e.kid != v.Key.ID() {
		return Report{}, UnknownKey
	}
	if err := e.verify(v.Key, bound(reportPurpose, v.Door)); err != nil {
		return Report{}, err
	}
	var c reportClaims
	if err := e.claims(&c); err != nil {
		return Report{}, err
	}
	permit, err := c.Own.permit()
	if err != nil {
		return Report{}, err
	}
	r := Report{Door: v.Door, Seq: c.Own.Seq, At: fromWire(c.IssuedAt), State: c.Own.State, Permit: permit, Refusal: c.Own.Refusal}
	if err := r.check(); err != nil {
		return Report{}, err
	}
	return r, nil
}

func (o *reportOwn) permit() (id PermitID, err error) {
	if len(o.Permit) > 0 && (len(o.Permit) != len(id) || copy(id[:], o.Permit) == 0 || id.IsZero()) {
		return PermitID{}, fmt.Errorf("%w: permit id", Malformed)
	}
	return id, nil
}

// reportedPermit is the permit that one of the door's own reports is about. Its signature is
// not verified.
func reportedPermit(raw []byte) (PermitID, error) {
	e, err := parse(raw, maxReport)
	if err != nil {
		return PermitID{}, err
	}
	var c reportClaims
	if err := e.claims(&c); err != nil {
		return PermitID{}, err
	}
	return c.Own.permit()
}
