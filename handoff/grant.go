// Package handoff decides who may take what a courier carries, and which doors
// open on the way there.
//
// The whole of it is one idea. When a parcel leaves the warehouse a [Grant] is
// made: it says what a courier may do for that parcel, at that place, on that day.
//
//	Grant = parcel + place + window + rights (and the state of its code)
//	Right = act + target + the proofs it asks for + uses left
//
// A courier presents [Evidence] for an act. [Decide], a pure function, weighs it
// against the grant, the [Facts] of the moment and the time, and answers with a
// [Verdict] that names every proof, and with the [Event]s that the decision causes.
// [Apply] turns a grant and an event into the next grant. Handing over a parcel,
// collecting a return and opening a lobby are rows of the same table.
//
// Package service is the only place that loads, decides and commits, and says what it asks
// of a database. What must tell others (mail, doors, indexes) reads the event log that each
// commit appends to.
package handoff

import (
	"fmt"
	"slices"
	"time"

	"latchkey/otp"
)

// Grant is one parcel's permission to change hands, and to pass the doors that are
// in the way, at one place, on one day. Several parcels that arrive together are one grant:
// one code, from which each may be handed over, or recalled, on its own (see Group).
//
// A shop makes it by dispatching a parcel. The shop may recall it or move it to
// another day; the customer may ask for its code again, or for a new one; the
// courier who drives its route uses it. A parcel that is dispatched anew after its
// grant closed gets the next generation, a grant of its own.
//
// The fields are exactly what the grant's events say (see [Replay]). What only
// retries need is kept beside it, in a record of package service.
type Grant struct {
	ID GrantID `cbor:"-"`

	// Dispatch is what the warehouse sent, word for word. It never changes, so that
	// the same dispatch sent again can be recognised.
	Dispatch Dispatch `cbor:"1,keyasint"`

	// Moved is where a reschedule put the parcel; nil while the dispatch's own day
	// and route hold. Ask Day and Route.
	Moved *Move `cbor:"2,keyasint,omitempty"`

	// Window is when the rights hold: the whole civil day at the address.
	Window Window `cbor:"3,keyasint"`

	Status Status `cbor:"4,keyasint"`

	// HeldFrom is the status that a hold interrupted, and to which lifting it returns.
	HeldFrom Status `cbor:"5,keyasint,omitempty"`

	// Rights are what policy granted at dispatch. At most one right fits an act and
	// its target.
	Rights []Right `cbor:"6,keyasint"`

	// Code is the state of the six digits. Its secret is zero where no right asks
	// for a code.
	Code CodeState `cbor:"7,keyasint,omitzero"`

	// Handoff is the standing one: who handed the parcel over and when. Nil unless the status is
	// released or collected (or held from there). Of several parcels it is the newest, and may
	// stand while others are still there.
	Handoff *Handoff `cbor:"8,keyasint,omitempty"`

	// Aborted says that one handoff was taken back. It may happen once a grant.
	Aborted bool `cbor:"9,keyasint,omitempty"`

	// Visits are the door visits begun, one per door and visit.
	Visits []Visit `cbor:"10,keyasint,omitempty"`

	// Consents are the kinds of door that the customer agreed to have opened.
	Consents []TargetKind `cbor:"11,keyasint,omitempty"`

	// Unlocks are the permits given out and how far each came: the newest 16, all live
	// ones among them.
	Unlocks []Unlock `cbor:"12,keyasint,omitempty"`

	// DoorRefusals counts the refusals at doors, of which the log keeps a limited number.
	DoorRefusals int `cbor:"13,keyasint,omitempty"`

	// History is what happened, oldest first, for the customer and the shop; the
	// newest 32 entries.
	History []HistoryEntry `cbor:"14,keyasint"`

	// Contested says that another shop claimed the parcel's id. Told once.
	Contested bool `cbor:"15,keyasint,omitempty"`

	// Attempts counts the times that the courier was there and no one answered.
	Attempts int `cbor:"16,keyasint,omitempty"`

	// ClosedAt is when the status became one that ends a grant's life; 0 while it has not.
	ClosedAt Instant `cbor:"17,keyasint,omitempty"`

	// Scrubbed is a keyed digest of the dispatch, from the moment on at which the personal
	// data left it: by it the same dispatch sent again is still recognised.
	Scrubbed []byte `cbor:"18,keyasint,omitempty"`

	// Elsewhere counts the times that a courier tried to hand over far from the address.
	Elsewhere int `cbor:"19,keyasint,omitempty"`

	// EraseAsked says that the customer is to be forgotten as soon as the grant is closed.
	EraseAsked bool `cbor:"20,keyasint,omitempty"`

	// Override is the newest wish to have the parcel released by hand; nil if there is none,
	// or the status has changed since. Ask OverrideAsked whether it still stands.
	Override *OverrideRequest `cbor:"21,keyasint,omitempty"`

	// Dispute is the customer's word that they do not have what is recorded as handed over,
	// or gave nothing away, and how that ended; nil if they never said so of this handoff.
	Dispute *Dispute `cbor:"22,keyasint,omitempty"`

	// Again counts the visits that were begun again, in the grant's life.
	Again int `cbor:"23,keyasint,omitempty"`

	// Doubt says that the store was put back to an earlier state, and that the shop has not
	// confirmed the grant since; nil if there is none. Such a grant is held, and no Lift ends it.
	Doubt *Doubt `cbor:"24,keyasint,omitempty"`

	// ConsentAsk is the newest consent that who came by a shop's link asked for; nil if none
	// ever did. Ask ConsentAsked whether it still waits.
	ConsentAsk *ConsentAsk `cbor:"25,keyasint,omitempty"`

	// Group is how each of several parcels stands; nil for one parcel. Ask There and StatusOf.
	Group *Group `cbor:"26,keyasint,omitempty"`

	// AbortedLater is which handoff of several parcels was taken back, counted from 1; 0 if it was
	// the first, or none was.
	AbortedLater int `cbor:"31,keyasint,omitempty"`

	// Mail is what was told of the mail with a code: that it failed, or that the customer saw
	// the code all the same. Nil while there was nothing to tell. Ask MailKnown.
	Mail *MailWord `cbor:"30,keyasint,omitempty"`
}

// Group is what is kept of several parcels that arrive together. What is neither in a handoff
// nor recalled is still there. The grant is active while one is there.
type Group struct {
	Earlier  []Handoff `cbor:"1,keyasint,omitempty"` // the standing handoffs before Grant.Handoff, oldest first
	Recalled []string  `cbor:"2,keyasint,omitempty"` // parcels

	// AllOrNothing says that all that are still there are handed over at once, or none: by
	// the dispatch, or by the policy of its day.
	AllOrNothing bool `cbor:"3,keyasint,omitempty"`
}

// Handoffs are the standing ones, oldest first.
func (g *Grant) Handoffs() []Handoff {
	if g.Handoff == nil {
		return nil
	}
	if g.Group == nil {
		return []Handoff{*g.Handoff}
	}
	return append(slices.Clone(g.Group.Earlier), *g.Handoff)
}

// HandedOver are the parcels that changed hands, in the order in which they did.
func (g *Grant) HandedOver() []string {
	if g.Handoff == nil {
		return nil
	}
	if g.Group == nil {
		return []string{g.Dispatch.Parcel}
	}
	var parcels []string
	for _, h := range g.Handoffs() {
		parcels = append(parcels, h.Parcels...)
	}
	return parcels
}

// There are the parcels that were neither handed over nor recalled, in the order of the dispatch.
func (g *Grant) There() []string {
	if g.Group == nil {
		if g.Handoff != nil || g.Status == Recalled {
			return nil
		}
		return []string{g.Dispatch.Parcel}
	}
	handed := g.HandedOver()
	return slices.DeleteFunc(g.Dispatch.Parcels(), func(p string) bool {
		return slices.Contains(handed, p) || slices.Contains(g.Group.Recalled, p)
	})
}

// part are those of some parcels that are there, or all that are there where none are named, in the
// order of the dispatch; and how many others are there.
func (g *Grant) part(named []string) (parcels []string, left int) {
	there := g.There()
	if len(named) == 0 {
		return there, 0
	}
	parcels = slices.DeleteFunc(slices.Clone(there), func(p string) bool { return !slices.Contains(named, p) })
	return parcels, len(there) - len(parcels)
}

// Names reports whether a parcel is one of the grant's.
func (g *Grant) Names(parcel string) bool { return slices.Contains(g.Dispatch.Parcels(), parcel) }

// StatusOf is the status of one of the grant's parcels at now: its own where it was handed over
// or recalled, else the grant's. What is held is held as a whole.
func (g *Grant) StatusOf(parcel string, now time.Time) Status {
	switch {
	case g.Group == nil || g.Status == Held:
	case slices.Contains(g.Group.Recalled, parcel):
		return Recalled
	case slices.Contains(g.HandedOver(), parcel):
		return g.handedStatus()
	}
	return g.StatusAt(now)
}

// handedStatus is the status of what changed hands.
func (g *Grant) handedStatus() Status {
	if g.Dispatch.Purpose == PurposeReturn {
		return Collected
	}
	return Released
}

// Right allows one act on one target, for those who bring all its proofs.
type Right struct {
	Act    Act        `cbor:"1,keyasint"`
	Target TargetKind `cbor:"2,keyasint"`
	Proofs ProofSet   `cbor:"3,keyasint"`

	// Uses is what is left: handoffs for release and collect, visits per door for open.
	Uses int `cbor:"4,keyasint"`
}

// GivenUp is what policy does not ask of the right, though its like are asked: the place
// of a release with a code (see Policy.AllowWithoutPosition).
func (r *Right) GivenUp() ProofSet {
	if r.Proofs.Has(ProofCode) && !r.Proofs.Has(ProofPlace) {
		return Proofs(ProofPlace)
	}
	return 0
}

// Act is something that is done to a grant. The first three are rights, exercised
// at a door with evidence; the others run the grant's life.
type Act uint8

// The acts.
const (
	_               Act = iota
	Release             // hand the parcel over
	Collect             // take a return along
	Open                // unlock a door
	Mint                // make the grant: the parcel left the warehouse
	Abort               // the courier takes the handoff back
	Attempt             // the courier was there and no one answered
	Recall              // the shop calls the parcel back
	Reschedule          // another day
	Resend              // mail the same code again
	Reissue             // mint a new code
	Expire              // the window is over
	Hold                // stop everything until a person decides
	Lift                // a person decided: go on as before
	Consent             // the customer agrees to garage or home being opened, or no longer does
	Report              // a door says what became of a permit
	Erase               // the customer is to be forgotten
	AskOverride         // a clerk of the shop asks for a release by hand
	Override            // another clerk approves it, and so releases the parcel
	DisputeHandoff      // the customer says that the recorded handoff did not happen
	WithdrawDispute     // the customer agrees that it did
	SettleDispute       // the duty officer decides whether it did
	Distrust            // the store was put back: hold the grant until its shop has confirmed it
	Confirm             // the shop sent the same dispatch again: go on, with a new secret
	AccountFor          // the carrier says that the parcel was handed over meanwhile
	ConfirmConsent      // a resident of the door's unit confirms what a shop's link asked for
	TellMail            // what became of the mail with a code
)

// TargetKind is what an open right, or the right to the parcel itself, points at.
// An open right names a kind of door and not a list of doors: which doors of the
// building are of that kind is a fact read at unlock.
type TargetKind uint8

// The targets.
const (
	_ TargetKind = iota
	Parcel
	Lobby
	Gate
	Garage
	Home
)

// Proof is one thing that a right can ask for. How each is judged stands in proofs.go.
//
// Grants store their rights' proofs as a set of bits, by these numbers: a new proof is
// appended before numProofs, and none is ever moved or removed.
type Proof uint8

// The proofs, in the order in which a verdict names them.
const (
	ProofCourier  Proof = iota // authenticated, of the grant's carrier, cleared, not suspended, budget not spent
	ProofRoute                 // this courier drives the route that the parcel is on, today
	ProofParcel                // this parcel's id was read at the door
	ProofTime                  // now is inside the window
	ProofPlace                 // the reported position is inside the fence; it is the phone's claim, no more
	ProofBuilding              // the building admits this carrier, at this hour, through this door, now
	ProofPresence              // the door's own fresh challenge, read at the door
	ProofConsent               // the customer agreed to this door being opened
	ProofCode                  // the recipient's six digits
	ProofApproval              // two people released it by hand
	numProofs
)

// Status is where a grant stands. docs/state.md draws how it moves.
type Status uint8

// The statuses. Released, collected, recalled and expired are closed: only a closed
// grant can be followed by its next generation.
const (
	_ Status = iota
	Active
	Released
	Collected
	Recalled
	Expired
	Held
)

// Closed reports whether s ends a grant's life.
func (s Status) Closed() bool {
	return s == Released || s == Collected || s == Recalled || s == Expired
}

// CodeState is the life of a grant's code. Every code of a grant is HOTP of the same
// secret at a rising counter (RFC 4226), and all of them share the limits of the grant.
type CodeState struct {
	Secret otp.Secret `cbor:"1,keyasint,omitzero"`

	// Issued are the counters whose codes were given out, oldest first; the last one
	// is the code that counts, the others are superseded.
	Issued []uint64 `cbor:"2,keyasint"`

	Wrong      int `cbor:"3,keyasint,omitempty"` // wrong codes since the newest was issued
	TotalWrong int `cbor:"4,keyasint,omitempty"` // wrong codes in the grant's life
	Reissues   int `cbor:"5,keyasint,omitempty"` // new codes asked for in the grant's life, an abort's included
	Resends    int `cbor:"6,keyasint,omitempty"` // times the same code was mailed again

	// ResentAt is when a code was last mailed again on request.
	ResentAt Instant `cbor:"7,keyasint,omitempty"`
}

// Locked reports whether too many wrong codes were tried: of the newest code, until a
// new one is issued, or of all of the grant's codes together, for good.
func (c *CodeState) Locked(l Limits) bool {
	return c.Wrong >= l.CodeTries || c.TotalWrong >= l.GrantTries
}

// OverrideRequest is one clerk's wish to have a parcel released by hand.
type OverrideRequest struct {
	Who string  `cbor:"1,keyasint"` // the clerk's pseudonym
	At  Instant `cbor:"2,keyasint"`

	// Replaced is how many wishes it took the place of while they waited.
	Replaced int `cbor:"3,keyasint,omitempty"`
}

// ID names the wish among all of its grant, so that an approval is of this one: a wish that is
// asked again, with another reason, is another one.
func (o *OverrideRequest) ID() string { return fmt.Sprintf("%x-%d", int64(o.At), o.Replaced) }

// OverrideAsked is the wish that waits for a second person's approval at now; nil if none does.
func (g *Grant) OverrideAsked(l Limits, now time.Time) *OverrideRequest {
	o := g.Override
	if o == nil || !now.Before(o.Until(l)) {
		return nil
	}
	return o
}

// Until is the first instant at which the wish stands no longer.
func (o *OverrideRequest) Until(l Limits) time.Time {
	return o.At.Time().Add(time.Duration(l.OverrideMinutes) * time.Minute)
}

// ConsentAsk is a consent that waits for a resident of the door's unit: who asked came by a
// shop's link, and may be the shop.
type ConsentAsk struct {
	At       Instant      `cbor:"1,keyasint"`
	Consents []TargetKind `cbor:"2,keyasint"`           // all that would then be agreed to
	Link     string       `cbor:"3,keyasint"`           // the pseudonym of who made the link
	Count    int          `cbor:"4,keyasint"`           // how many were asked for in the grant's life
	Over     bool         `cbor:"5,keyasint,omitempty"` // confirmed, or decided otherwise since
}

// confirmWithin is how long a consent that was asked for can be confirmed.
const confirmWithin = time.Hour

// over is the ask when it waits no longer.
func (a *ConsentAsk) over() *ConsentAsk {
	if a == nil || a.Over {
		return a
	}
	ended := *a
	ended.Over = true
	return &ended
}

// ID names the ask among all of its grant, so that a confirmation is of this one.
func (a *ConsentAsk) ID() string { return fmt.Sprintf("%x-%d", int64(a.At), a.Count) }

// Until is the first instant at which the ask can be confirmed no longer.
func (a *ConsentAsk) Until() time.Time { return a.At.Time().Add(confirmWithin) }

// ConsentAsked is the consent that waits for a confirmation at now; nil if none does.
func (g *Grant) ConsentAsked(now time.Time) *ConsentAsk {
	a := g.ConsentAsk
	if a == nil || a.Over || !now.Before(a.Until()) || g.StatusAt(now) != Active {
		return nil
	}
	return a
}

// NewConsents are those kinds of a list that are not agreed to yet.
func (g *Grant) NewConsents(list []TargetKind) []TargetKind {
	return slices.DeleteFunc(slices.Clone(list), func(k TargetKind) bool { return slices.Contains(g.Consents, k) })
}

// Doubt is what a grant waits with for its shop's word, after the store was put back to an
// earlier state.
type Doubt struct {
	Since Instant `cbor:"1,keyasint"`
	From  Status  `cbor:"2,keyasint"` // the status as the store had it, held included
}

// Handoff is one parcel, or some that arrived together, having changed hands.
type Handoff struct {
	Courier  string  `cbor:"1,keyasint"` // empty: two people of the shop released it by hand
	At       Instant `cbor:"2,keyasint"`
	Distance int     `cbor:"3,keyasint,omitempty"` // meters from the address, rounded to ten; 0 where no place was asked

	// Of several parcels alone.
	Parcels  []string `cbor:"4,keyasint,omitempty"` // that changed hands then
	Issue    uint64   `cbor:"5,keyasint,omitempty"` // the HOTP counter of the code that counted; 0 where none was asked for
	Disputed bool     `cbor:"6,keyasint,omitempty"` // the customer said that it did not happen
}

// IssueOf is the HOTP counter of the code that counted at one of the grant's standing handoffs;
// 0 where none was asked for: by hand, or without a code.
func (g *Grant) IssueOf(h *Handoff) uint64 {
	if !g.CodeRequired() || h.Courier == "" || len(g.Code.Issued) == 0 {
		return 0
	}
	if g.Group != nil {
		return h.Issue
	}
	return g.NewestIssue()
}

// Dispute is a customer's word against a recorded handoff. While it is open the grant is
// held; only the customer or the duty officer ends it.
type Dispute struct {
	At Instant `cbor:"1,keyasint"`

	// Issue is the HOTP counter of the code that counted at the handoff; 0 where none was asked for.
	Issue uint64 `cbor:"2,keyasint,omitempty"`

	// HeldBefore says that the grant was on hold already, and stays so when the dispute ends.
	HeldBefore bool `cbor:"3,keyasint,omitempty"`

	Ruling  Ruling  `cbor:"4,keyasint,omitempty"` // how it ended; 0 while it is open
	EndedAt Instant `cbor:"5,keyasint,omitempty"`
}

// Ruling is how a dispute ended.
type Ruling uint8

// The rulings. A customer withdraws; the other two are the duty officer's.
const (
	_           Ruling = iota
	Withdrawn          // the customer agrees that the handoff happened
	HandedOver         // it happened
	NotReceived        // it did not
)

// Open reports whether the dispute has not been ended yet.
func (d *Dispute) Open() bool { return d != nil && d.Ruling == 0 }

// DecideBy is until when the duty officer is to decide.
func (d *Dispute) DecideBy(l Limits) time.Time {
	return d.At.Time().Add(time.Duration(l.DisputeHours) * time.Hour)
}

// Disputable reports whether the customer can still say that the recorded handoff did not
// happen: once for each handoff.
func (g *Grant) Disputable() bool {
	return g.Handoff != nil && g.Dispute == nil && !g.Handoff.Disputed
}

// Visit is one stay at one door: it starts with the first permit for that door.
type Visit struct {
	Door    string  `cbor:"1,keyasint"`
	Since   Instant `cbor:"2,keyasint"`
	Permits int     `cbor:"3,keyasint"`
	Over    bool    `cbor:"4,keyasint,omitempty"` // the door of a garage or home reported that it opened
	Again   bool    `cbor:"5,keyasint,omitempty"` // begun again after all that the right gives were over
}

// Move is the day and the route that a reschedule gave a parcel.
type Move struct {
	Day   Date   `cbor:"1,keyasint"`
	Route string `cbor:"2,keyasint"`
}

// HistoryEntry is one event as the customer may see it.
type HistoryEntry struct {
	Type   EventType `cbor:"1,keyasint"`
	At     Instant   `cbor:"2,keyasint"`
	Reason Reason    `cbor:"3,keyasint,omitempty"` // why a code was refused

	// Of several parcels: which the event is about, and how many were still there after it.
	Parcels []string `cbor:"4,keyasint,omitempty"`
	Left    int      `cbor:"5,keyasint,omitempty"`
}

const historyLimit = 32

// Day is the civil day, at the address, on which the parcel is delivered.
func (g *Grant) Day() Date {
	if g.Moved != nil {
		return g.Moved.Day
	}
	return g.Dispatch.Day
}

// Route is the carrier's route that the parcel is on that day.
func (g *Grant) Route() string {
	if g.Moved != nil {
		return g.Moved.Route
	}
	return g.Dispatch.Route
}

// Right returns the right to do act on target, or nil.
func (g *Grant) Right(act Act, target TargetKind) *Right {
	i := slices.IndexFunc(g.Rights, func(r Right) bool { return r.Act == act && r.Target == target })
	if i < 0 {
		return nil
	}
	return &g.Rights[i]
}

// CodeRequired reports whether handing the parcel over takes the recipient's code.
func (g *Grant) CodeRequired() bool {
	return slices.ContainsFunc(g.Rights, func(r Right) bool { return r.Proofs.Has(ProofCode) })
}

// CurrentCode returns the code that counts; the zero Code where none is required.
func (g *Grant) CurrentCode() otp.Code {
	if len(g.Code.Issued) == 0 {
		return otp.Code{}
	}
	return g.code(g.NewestIssue())
}

// NewestIssue is the counter of the code that counts; 0 for none.
func (g *Grant) NewestIssue() uint64 {
	if n := len(g.Code.Issued); n > 0 {
		return g.Code.Issued[n-1]
	}
	return 0
}

// code is the code of one counter. A grant that holds counters holds a secret, so
// that the only error of otp, a missing secret, yields the code that equals nothing.
func (g *Grant) code(counter uint64) otp.Code {
	c, err := g.Code.Secret.At(counter)
	if err != nil {
		return otp.Code{}
	}
	return c
}

// StatusAt is the status at now. A grant whose window is over is expired from that
// instant on, whether or not the sweeper has been there yet.
func (g *Grant) StatusAt(now time.Time) Status {
	if g.Status == Active && g.Window.Over(now) {
		return Expired
	}
	return g.Status
}
