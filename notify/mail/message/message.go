// Package message renders Latchkey's mails to customers: one View in, a
// subject, a plain text and an HTML body out.
//
// What a mail says lives in locale/, one file a language, in sentences without
// markup. How it looks lives in layout/, one page for HTML and one for plain
// text. This package joins the two. It does no I/O, reads no clock and knows
// nothing of grants, so the same View always gives the same mail.
//
// The six digits are kept from everything that a lock screen shows: the
// catalogues have no placeholder for the code, and only the body's own block
// prints it.
package message

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"
)

// Kind names what happened, and so which mail is written.
type Kind string

// The kinds of mail.
const (
	CodeIssued   Kind = "code-issued"   // the parcel left the warehouse and needs a code
	CodeReissued Kind = "code-reissued" // a new code took the place of an earlier one
	CodeResent   Kind = "code-resent"   // the same code again, on request
	Dispatched   Kind = "dispatched"    // the parcel left the warehouse and needs no code
	Released     Kind = "released"      // the parcel was handed over
	Collected    Kind = "collected"     // the return was picked up
	TakenBack    Kind = "taken-back"    // the courier took the handover back (abort)
	Rescheduled  Kind = "rescheduled"   // another day
	CodeLocked   Kind = "code-locked"   // five wrong codes
	Expired      Kind = "expired"       // the day is over without a handover
	Recalled     Kind = "recalled"      // the sender called the parcel back
	Attempted    Kind = "attempted"     // the courier was there, and the door was not answered

	// Of several parcels that arrive together.
	HandedInPart   Kind = "handed-in-part"   // some were handed over or picked up, and the others are still to come
	RecalledInPart Kind = "recalled-in-part" // the sender called some back, and the others are still to come

	ReleasedByHand Kind = "released-by-hand" // two people of the shop released it, without courier and code

	Disputed         Kind = "disputed"          // the customer says that the handoff did not happen
	DisputeWithdrawn Kind = "dispute-withdrawn" // the customer agrees that it did
	DisputeUpheld    Kind = "dispute-upheld"    // the duty officer: it did not happen
	DisputeRejected  Kind = "dispute-rejected"  // the duty officer: it happened

	ConsentGiven     Kind = "consent-given"     // which doors of the customer's own may be opened for the parcel now
	ConsentWithdrawn Kind = "consent-withdrawn" // none of them may, any more
	OwnDoorOpened    Kind = "own-door-opened"   // one of them was unlocked for a courier
	OwnDoorPermitted Kind = "own-door-permit"   // a permit for one of them was given out, and the door does not say what became of it
)

// Purpose is the direction of the parcel. Released, ReleasedByHand and TakenBack exist for a
// Delivery alone, Collected for a ReturnPickup alone.
type Purpose string

// The purposes of a dispatch.
const (
	Delivery     Purpose = "delivery"
	ReturnPickup Purpose = "return_pickup"
)

// View is what one mail tells. Strings may come from outside: they are escaped
// in HTML, and line breaks, control and text-direction characters are taken out
// everywhere. A View prints as its kind, purpose and locale only.
type View struct {
	Kind    Kind
	Purpose Purpose
	Locale  string // BCP 47; an unknown or empty one is answered in English

	CustomerName string // may be empty
	ShopName     string // may be empty
	OrderID      string // may be empty
	ParcelID     string
	More         []string // the parcels beside ParcelID that it is about, of several that arrive together
	Left         []string // those of several that are still to come; a code is for these
	All          int      // how many there are, of HandedInPart and RecalledInPart only
	ShopContact  string   // how to reach the shop's people; may be empty
	CarrierName  string   // may be empty
	CourierName  string   // display name; may be empty
	AddressLine  string   // may be empty

	// Code is six digits or empty. CodeIssued, CodeReissued and CodeResent need
	// one, TakenBack and Rescheduled show one if there is one, and every other
	// kind ignores it.
	Code string

	// The window is [ValidFrom, ValidUntil): ValidUntil is the first instant at
	// which it is over, for a whole day the first instant of the next day.
	ValidFrom  time.Time
	ValidUntil time.Time
	At         time.Time      // when it happened
	Zone       *time.Location // of the address; all times are shown in it

	// HandedAt is when the disputed handoff was recorded, DecideBy until when the duty officer
	// is to decide. Of the kinds of disputes only.
	HandedAt, DecideBy time.Time

	// Doors are the kinds of the customer's own doors, garage and home, that it is about. Of
	// ConsentGiven, OwnDoorOpened and OwnDoorPermitted only.
	Doors []string

	// Reason is the slug that a courier or a shop gave. It is never shown: it is
	// written for machines, and by a person whom the customer need not believe.
	Reason string

	AccountURL string // absolute http(s) in ASCII, or empty for a mail without a link
}

// Mail is a rendered message. It holds the code and personal data: like a
// View, it does not print them.
type Mail struct {
	Subject string // one line, not yet encoded for a header
	Text    string // UTF-8, lines of at most 78 columns (RFC 5322 section 2.1.1) but for long words
	HTML    string // UTF-8, a whole page
	Locale  string // the language that it is written in, BCP 47
}

// ErrView is the reason of every refusal that the View is to blame for. Its
// text names a field, never what the field holds.
var ErrView = errors.New("message: view cannot be rendered")

// Render writes the mail for v in the supported language closest to v.Locale.
// It fails with ErrView when v lacks what its kind tells, and returns a whole
// mail or none.
func Render(v View) (Mail, error) { return standard.render(v) }

// A rule says for which purposes a kind exists and what its View must hold.
type rule struct {
	purposes []Purpose
	code     codeUse
	window   bool // tells the day or the end of the window
	at       bool // tells when it happened
	courier  bool // tells who it was
	dispute  bool // tells when the disputed handoff was, and by when it is decided
	parts    bool // tells how many it is about, and which are still to come
	doors    bool // tells which doors of the customer's own it is about
}

type codeUse int

const (
	noCode codeUse = iota
	codeIfAny
	codeNeeded
)

var (
	both  = []Purpose{Delivery, ReturnPickup}
	rules = map[Kind]rule{
		CodeIssued:   {purposes: both, code: codeNeeded, window: true},
		CodeReissued: {purposes: both, code: codeNeeded, window: true},
		CodeResent:   {purposes: both, code: codeNeeded, window: true},
		Dispatched:   {purposes: both, window: true},
		Released:     {purposes: []Purpose{Delivery}, at: true, courier: true},
		Collected:    {purposes: []Purpose{ReturnPickup}, at: true, courier: true},
		TakenBack:    {purposes: []Purpose{Delivery}, code: codeIfAny, window: true, at: true, courier: true},
		Rescheduled:  {purposes: both, code: codeIfAny, window: true},
		CodeLocked:   {purposes: both, window: true, at: true},
		Expired:      {purposes: both, window: true},
		Recalled:     {purposes: both, at: true},
		Attempted:    {purposes: both, window: true, at: true, courier: true},

		HandedInPart:   {purposes: both, code: codeIfAny, window: true, at: true, courier: true, parts: true},
		RecalledInPart: {purposes: both, at: true, parts: true},

		ReleasedByHand: {purposes: []Purpose{Delivery}, at: true},

		Disputed:         {purposes: both, at: true, courier: true, dispute: true},
		DisputeWithdrawn: {purposes: both, at: true, dispute: true},
		DisputeUpheld:    {purposes: both, at: true, dispute: true},
		DisputeRejected:  {purposes: both, at: true, dispute: true},

		ConsentGiven:     {purposes: both, window: true, at: true, doors: true},
		ConsentWithdrawn: {purposes: both, at: true},
		OwnDoorOpened:    {purposes: both, at: true, courier: true, doors: true},
		OwnDoorPermitted: {purposes: both, at: true, courier: true, doors: true},
	}
)

var sixDigits = regexp.MustCompile(`^[0-9]{6}$`)

// check returns the rule of v's kind, or what keeps v from being rendered.
func (v View) check() (rule, error) {
	r, known := rules[v.Kind]
	var fault string
	switch {
	case !known:
		return rule{}, fmt.Errorf("%w: unknown kind", ErrView)
	case !slices.Contains(r.purposes, v.Purpose):
		fault = "no such mail for this purpose"
	case clean(v.ParcelID) == "":
		fault = "no parcel id"
	case v.Zone == nil:
		fault = "no time zone"
	case r.window && v.ValidUntil.IsZero():
		fault = "no end of the window"
	case r.at && v.At.IsZero():
		fault = "no time of the event"
	case r.dispute && (v.HandedAt.IsZero() || v.DecideBy.IsZero()):
		fault = "no time of the handoff, or of the decision"
	case r.parts && (len(v.Left) == 0 || v.All <= len(v.Left)):
		fault = "no parcel that is still to come"
	case r.doors && (len(v.Doors) == 0 || slices.ContainsFunc(v.Doors, func(k string) bool { return !slices.Contains(ownKinds, k) })):
		fault = "no doors, or an unknown kind"
	case r.code == codeNeeded && v.Code == "":
		fault = "no code"
	case r.code != noCode && v.Code != "" && !sixDigits.MatchString(v.Code):
		fault = "a code that is not six digits"
	case v.AccountURL != "" && !isWebURL(v.AccountURL):
		fault = "an account URL that is not absolute http or https"
	default:
		return r, nil
	}
	return rule{}, fmt.Errorf("%w: %s: %s", ErrView, v.Kind, fault)
}

// webURL is the form that is safe to print on a line of its own.
var webURL = regexp.MustCompile(`^https?://[!-~]+$`)

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && webURL.MatchString(s)
}
