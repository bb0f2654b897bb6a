package handoff

import (
	"time"
)

// Signal is the Reason of an EventSignal. No caller is ever told one.
type Signal = Reason

// The signals.
const (
	WrongCodesByCourier Signal = "wrong-codes-by-courier"
	WrongCodesByRoute   Signal = "wrong-codes-by-route"
	WrongCodesByDepot   Signal = "wrong-codes-by-depot"
	FarFromAddress      Signal = "far-from-address"
	SoonAfterDispatch   Signal = "soon-after-dispatch"
	SharedDevice        Signal = "shared-device"
	ClocksApart         Signal = "clocks-apart" // an instance's clock and Redis's; no pattern of couriers
)

// Reason is the slug that tells a caller why something was refused. It is part of
// the HTTP contract and of stored answers: never rename one.
type Reason string

// The reasons, in the order in which a verify finds them: the first that fails wins.
const (
	ParcelUnknown     Reason = "parcel-unknown" // also another carrier's
	SignedOut         Reason = "signed-out"     // the carrier ended the courier's token or session
	CourierNotCleared Reason = "courier-not-cleared"
	BudgetExhausted   Reason = "budget-exhausted"
	NotYourRoute      Reason = "not-your-route"
	AlreadyReleased   Reason = "already-released"
	AlreadyCollected  Reason = "already-collected"
	IsRecalled        Reason = "recalled"
	OnHold            Reason = "on-hold"
	NotYetValid       Reason = "not-yet-valid"
	WindowOver        Reason = "window-over"
	OutsideGeofence   Reason = "outside-geofence"
	AccessRefused     Reason = "access-refused"
	AllOrNothing      Reason = "all-or-nothing" // not all that are still there were scanned
	CodeLocked        Reason = "code-locked"
	CustomerLimit     Reason = "customer-limit" // this courier has said too many wrong codes to this customer
	CarrierLimit      Reason = "carrier-limit"  // the couriers of this carrier have said too many wrong codes
	CodeRequired      Reason = "code-required"
	CodeSuperseded    Reason = "code-superseded"
	CodeMismatch      Reason = "code-mismatch"
)

// The reasons of the other acts.
const (
	GrantUnknown          Reason = "grant-unknown"
	WrongStatus           Reason = "wrong-status"
	NotConfirmed          Reason = "not-confirmed" // since the store was restored
	NotYourHandoff        Reason = "not-your-handoff"
	AlreadyAborted        Reason = "already-aborted"
	AbortTooLate          Reason = "abort-too-late"
	ReissueLimit          Reason = "reissue-limit"
	ResendLimit           Reason = "resend-limit"
	ResendTooSoon         Reason = "resend-too-soon"
	NoCode                Reason = "no-code"
	DispatchConflict      Reason = "dispatch-conflict"
	CarrierNotEnabled     Reason = "carrier-not-enabled"
	ParcelNotAllowed      Reason = "parcel-not-allowed" // by the prefixes of the shop and of others
	ParcelMalformed       Reason = "parcel-malformed"   // no id of the carrier's parcels
	ParcelCheckDigit      Reason = "parcel-check-digit" // an id but for its check digit
	ParcelTwice           Reason = "parcel-twice"       // two parcels of a request have one id
	ParcelNotNamed        Reason = "parcel-not-named"   // of the path, among those that were scanned
	DestinationNotAllowed Reason = "destination-not-allowed"
	PositionRequired      Reason = "position-required" // of the address, for a parcel that needs a code
	DayNotLater           Reason = "delivery-date-not-later"
	DayUnknown            Reason = "delivery-date-unknown" // a civil day that the address skipped
	DayTooFar             Reason = "delivery-date-too-far"
	ZoneUnknown           Reason = "time-zone-unknown"
	AttemptedLimit        Reason = "attempted-limit"
	AttemptReused         Reason = "attempt-reused"
	VisitOver             Reason = "visit-over"
	ImpossibleJourney     Reason = "impossible-journey"
	TooManyPermits        Reason = "too-many-permits" // that may still open a door
	KeypadBusy            Reason = "keypad-busy"      // all PINs of the minute are taken
	PermitUnknown         Reason = "permit-unknown"
	ConsentUsed           Reason = "consent-used"
	NoConsentNeeded       Reason = "no-consent-needed"
	ConfirmationSent      Reason = "confirmation-sent"    // a mail asks a resident of the door's unit first
	ConfirmationLimit     Reason = "confirmation-limit"   // of such mails
	ConfirmationOver      Reason = "confirmation-over"    // what it would confirm was decided, replaced, or is too long ago
	NoConfirmedAddress    Reason = "no-confirmed-address" // of a resident of the door's unit
	ApprovalMissing       Reason = "approval-missing"     // a release by hand was not asked for, or too long ago
	SelfApproval          Reason = "self-approval"
	OverrideReplaced      Reason = "override-replaced" // the approval is of another wish, or of any of several
	PersonRequired        Reason = "person-required"   // a key, or a shop's link, speaks for no person
	DisputeOpen           Reason = "dispute-open"      // only the customer or the duty officer ends it
	AlreadyDisputed       Reason = "already-disputed"  // once for each handoff
	NoDispute             Reason = "no-dispute"        // none is open
	UnknownAct            Reason = "unknown-act"
)

// Refusal is a decision not to do something. It is an error, so that a caller cannot
// mistake it for consent; its text holds nothing that was sent.
type Refusal struct {
	Reason  Reason
	Verdict Verdict // what each proof was worth; empty where the act asks for none

	// AttemptsLeft is how many more wrong codes are let pass. Only with CodeMismatch
	// and CodeSuperseded.
	AttemptsLeft int

	// ReplacedAt is when a newer code took the place of the one that was said. Only with
	// CodeSuperseded, and 0 if that is not known.
	ReplacedAt Instant

	// RetryAfter is how long to wait before asking for the same again makes sense. Zero:
	// waiting does not help.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return "handoff: refused: " + string(r.Reason) }
