package handoff

import (
	"slices"
	"time"

	"latchkey/otp"
)

// Evidence is what a courier brings to a door.
type Evidence struct {
	// Courier is who authenticated. Zero: the request has no courier.
	Courier CourierRef

	// Issued is since when the courier's token or session exists; 0 if that is not known.
	Issued Instant

	// Parcel is the parcel id as read at the door. Lists given to couriers show only
	// its last four characters, so knowing it is a sign of holding it.
	Parcel string

	// Parcels are all that were read, Parcel among them, where several are handed over; nil for
	// one.
	Parcels []string

	// Position is the phone's claim; nil if it sent none.
	Position *Position

	// Code is what the customer said; zero if nothing was entered.
	Code otp.Code

	// Challenge is the door's own, read at the door; empty if none.
	Challenge []byte

	// Device is the pseudonym of the device that the courier works on; empty if unknown.
	// Claimed is the time by that device; 0 if it told none. No proof rests on either.
	Device  string
	Claimed Instant
}

// CourierRef names a courier: ids of different carriers may collide.
type CourierRef struct{ Carrier, ID string }

// Facts are what the decision must know besides the grant: read in the same trip,
// never remembered from before.
type Facts struct {
	Policy  *Policy
	Courier *Courier // nil: the carrier has registered no such courier
	Budget  Budget
	Door    *Door        // nil: no such door, or no door asked for
	PIN     *ReservedPIN // of the keypad; nil: none is reserved yet
	Carrier CarrierDay

	// Pointed are those of the grant's parcels, beside its first, whose keys were read and say that
	// they are this grant's. One parcel may be named by two grants, and its key says which counts.
	Pointed []string

	// Newest is the newest generation at the first parcel's own key. Mint only; 0: that of the
	// grant.
	Newest int

	// Beside are the grants that the keys of the dispatch's other parcels say, by parcel. Mint only;
	// of one that is not there the key says nothing, or what counts as nothing.
	Beside map[string]*Grant
}

// Courier is what a carrier, and for clearance its auditors, have said of a courier.
type Courier struct {
	CourierRef
	Name         string  // shown to the customer
	ClearedUntil Instant // a background check runs out; zero: never cleared
	Suspended    bool
	SignedOut    Instant // the carrier ended all tokens and sessions up to then; zero: never
	Drives       []Drive

	// LastDoor is the door for which the courier was last given a permit; nil if never.
	LastDoor *LastDoor
}

// LastDoor is where and when a courier was given a permit.
type LastDoor struct {
	At    Instant
	Place Point // of the door
}

// Drive is one route on one day.
type Drive struct {
	Day   Date
	Route string
}

// Cleared reports whether the courier may carry parcels at now.
func (c *Courier) Cleared(now time.Time) bool {
	return c != nil && !c.Suspended && now.Before(c.ClearedUntil.Time())
}

// Admits reports whether a token or session that exists since then still speaks for the courier.
// One of the very second of the sign-out, or of an unknown time, does not.
func (c *Courier) Admits(issued Instant) bool {
	return c == nil || c.SignedOut == 0 || issued > c.SignedOut
}

// DrivesOn reports whether the courier has this route on this day.
func (c *Courier) DrivesOn(route string, day Date) bool {
	return c != nil && slices.Contains(c.Drives, Drive{Day: day, Route: route})
}

// Result is what one proof was worth.
type Result uint8

// The results. The zero Result belongs to a proof that the right does not ask for.
const (
	NotAsked Result = iota
	OK
	Failed
	Missing
	NotChecked
)

// Verdict is the result of every proof, by Proof.
type Verdict [numProofs]Result

// Holds reports whether every proof that was asked for is ok.
func (v Verdict) Holds() bool {
	return !slices.ContainsFunc(v[:], func(r Result) bool { return r != NotAsked && r != OK })
}

// Named maps the proofs that were asked for to their results, in words.
func (v Verdict) Named() map[string]string {
	m := make(map[string]string)
	for p, r := range v {
		if r != NotAsked {
			m[Proof(p).String()] = r.String()
		}
	}
	return m
}

// judges says how each proof is judged. The code is not among them: it is compared
// last, and only when all of these hold.
var judges = [numProofs]func(*deliberation) Result{
	ProofCourier: func(d *deliberation) Result {
		return require(d.evidence().Courier != CourierRef{},
			d.sameCarrier() && d.factsOfCourier() && !d.signedOut() && d.facts.Courier.Cleared(d.now) && !d.spent())
	},
	ProofRoute: func(d *deliberation) Result {
		return require(d.evidence().Courier != CourierRef{}, d.factsOfCourier() && d.facts.Courier.DrivesOn(d.grant.Route(), d.grant.Day()))
	},
	ProofParcel: func(d *deliberation) Result {
		return require(d.evidence().Parcel != "", !slices.ContainsFunc(d.scanned(), func(p string) bool { return !d.own(p) }))
	},
	ProofTime: func(d *deliberation) Result {
		return require(true, d.grant.Window.Contains(d.now))
	},
	ProofPlace: func(d *deliberation) Result {
		if d.cmd.Act == Open && d.facts.Door == nil {
			return NotAsked // there is no such door, which the building's proof says
		}
		center, radius := d.fence()
		p := d.evidence().Position
		return require(true, center != nil && p != nil && p.within(*center, radius))
	},
	ProofBuilding: func(d *deliberation) Result {
		return require(d.facts.Door != nil, d.facts.Door.admits(d.grant, d.now))
	},
	ProofPresence: func(d *deliberation) Result {
		n := len(d.evidence().Challenge)
		return require(n > 0, n >= minChallenge && n <= maxChallenge)
	},
	ProofConsent: func(d *deliberation) Result {
		return require(slices.Contains(d.grant.Consents, d.cmd.Target), true)
	},
	ProofApproval: func(d *deliberation) Result {
		asked := d.grant.OverrideAsked(d.facts.Policy.Limits, d.now)
		return require(asked != nil, asked != nil && d.cmd.By.Person && asked.Who != "" && d.cmd.Who != "" && asked.Who != d.cmd.Who)
	},
}

// scanned are the parcels that were read at the door.
func (d *deliberation) scanned() []string {
	if e := d.evidence(); len(e.Parcels) > 0 {
		return e.Parcels
	}
	return []string{d.evidence().Parcel}
}

// own reports whether a parcel is the grant's: its first, or another one whose key says so.
func (d *deliberation) own(parcel string) bool {
	return parcel == d.grant.Dispatch.Parcel || d.grant.Names(parcel) && slices.Contains(d.facts.Pointed, parcel)
}

// spent reports whether too many wrong codes keep this courier from an act with a code. What
// asks for no code stays possible: other customers' parcels and doors did nothing to be refused.
func (d *deliberation) spent() bool {
	return d.asked.Has(ProofCode) && d.facts.Budget.Exhausted(d.facts.Policy.Limits, d.now)
}

// signedOut reports whether the courier's token or session was ended.
func (d *deliberation) signedOut() bool {
	return d.factsOfCourier() && !d.facts.Courier.Admits(d.evidence().Issued)
}

// factsOfCourier reports whether the record is that of the courier who asks.
func (d *deliberation) factsOfCourier() bool {
	return d.facts.Courier != nil && d.facts.Courier.CourierRef == d.evidence().Courier
}

// A door's challenge is random bytes; fewer than eight could be met again by chance.
const minChallenge, maxChallenge = 8, 32

// require is the result of a proof: Missing if what proves it was not brought, else OK if it
// holds, else Failed.
func require(present, holds bool) Result {
	switch {
	case !present:
		return Missing
	case holds:
		return OK
	}
	return Failed
}

// Bytes is the verdict as it is stored with an answer: one byte for each proof, by Proof.
func (v Verdict) Bytes() []byte {
	b := make([]byte, len(v))
	for i, r := range v {
		b[i] = byte(r)
	}
	return b
}
