package handoff

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"time"
)

// Store keeps grants, the facts about couriers and routes, and the event log.
//
// What it promises about grants:
//
//   - Commit is atomic: the grant, its events, its place in the schedule and (for a
//     next generation) the closed grant's new place are written together or not at
//     all, and only if the grant's version is still the one that was loaded.
//   - Load sees every commit that was acknowledged before it began.
//   - A commit that was acknowledged survives whatever the store's operator promised
//     (see Durability in the README); the store itself never drops one.
//
// Who may retry: Load is idempotent and the store may retry it. A Commit is never
// run again by the store on its own; a caller that gets ErrUnknownOutcome loads again
// and looks for its commit id.
//
// Personal data and secrets are sealed by the store: nothing it writes shows them.
//
// All methods may be called concurrently. Errors that are none of those below come
// wrapped in ErrUnavailable.
type Store interface {
	Grants
	Registry
	Credentials
	Residents
	Sessions
	Log
	Feed
	Journal
	Patterns
	Tokens
	Numbers
}

var (
	// ErrConflict says that the grant, or the end of a chain, changed since it was loaded.
	// Nothing was written.
	ErrConflict = errors.New("handoff: it changed meanwhile")

	// ErrUnknownOutcome says that a commit was sent and its answer was lost: it may have
	// happened.
	ErrUnknownOutcome = errors.New("handoff: the outcome of a commit is unknown")

	// ErrUnavailable says that the store cannot be reached, or that the retries of a
	// contended grant are spent. Asking again later is right.
	ErrUnavailable = errors.New("handoff: the store is unavailable")

	// ErrNotJoined says that a group of readers is not known to the log: it never joined, or
	// the log was lost and began anew.
	ErrNotJoined = errors.New("handoff: the group has not joined the log")

	// ErrDoorMoved says that a door was to be moved to another building.
	ErrDoorMoved = errors.New("handoff: a door does not change its building")

	// ErrForged says that a chain in the store is not as it was written: its end is not
	// signed, or entries are missing or others than those that were entered.
	ErrForged = errors.New("handoff: a chain was changed in the store")
	// ErrKeypadKey says that a door with a keypad was to be stored without a key for it.
	ErrKeypadKey = errors.New("handoff: a keypad needs its key")

	// ErrSealed says that a stored value cannot be opened: it was changed outside, moved
	// to another key, or its key is not in the keyset.
	ErrSealed = errors.New("handoff: a stored value cannot be opened")
)

// Grants is the part of a Store that keeps grants.
type Grants interface {
	// Load reads a grant and all the facts that a decision on it needs, in one trip.
	// With an Index it writes the index entries, with a Reservation it reserves one guess
	// in the courier's budget, and with a Permit it claims the permit's id, in the same
	// trip. An unknown grant or courier is nil, and no error. The courier's name, which no
	// decision needs, is left out.
	//
	// Of all who ever claim one id, one at most finds it Claimed, as long as the claim
	// stands. It stands for at least five minutes, and from a commit that uses it for two
	// days; Unclaim ends it. Claiming again what is one's own is harmless. A claim is as
	// durable as a commit.
	Load(ctx context.Context, q Query) (Snapshot, error)

	// Commit stores a record and appends its events, if the version is still c.From.
	// It returns ErrConflict, ErrUnknownOutcome or ErrUnavailable (nothing was written).
	Commit(ctx context.Context, c Change) error

	// See notes where a courier is, ahead of the commit that gives out a permit there, if
	// the courier was last seen where the caller believes: from, or nil for nowhere. False:
	// the courier was seen elsewhere meanwhile, or is not known. Noting the same again is
	// harmless; what was noted stays, even if the commit is overtaken.
	See(ctx context.Context, courier CourierRef, from *Sighting, to Sighting) (bool, error)

	// Settle ends a reservation outside of a commit: it becomes a counted wrong code,
	// excused or not, or is given back. Settling twice is harmless. An excused one may be
	// forgotten after two days.
	Settle(ctx context.Context, s Settlement) error

	// CarrierDay reads what a carrier's couriers have done with codes in the last 24 hours,
	// and up to an hour before. Its parts are of about the same moment.
	CarrierDay(ctx context.Context, carrier string, now Instant) (CarrierDay, error)

	// Many loads grants in one trip, in no particular order, leaving out those that are
	// gone.
	Many(ctx context.Context, ids []ParcelHash) ([]Grant, error)

	// OfCustomer lists up to limit parcels indexed for a customer, the one whose window
	// ends last first and among equals the greater hash, beginning after a place (zero:
	// with the first). The index is written before the commit: an entry counts only if its
	// grant names this shop and customer. A parcel that is moved to a later day meanwhile
	// moves up, so that whoever pages may see it twice or not at all.
	OfCustomer(ctx context.Context, c CustomerRef, after Listed, limit int) ([]Listed, error)

	// OnRoute lists the parcels indexed for a route on a day, with the same caution.
	OnRoute(ctx context.Context, r RouteRef) ([]ParcelHash, error)

	// OfOrder lists the parcels indexed for an order, with the same caution: names may collide.
	OfOrder(ctx context.Context, o OrderRef) ([]ParcelHash, error)

	// Due lists up to limit grants of a partition that time alone changes by now: see
	// Grant.Due. A generation that is archived stays on the schedule.
	Due(ctx context.Context, partition int, now Instant, limit int) ([]GrantID, error)

	// Permit says which grant and door a permit belongs to; nil if there is none, or not
	// any more. An entry counts only if its grant has the permit.
	Permit(ctx context.Context, id PermitID) (*PermitRef, error)

	// Unclaim gives a claim back, so that another may have it. Only whoever is sure that
	// no commit uses it may do so. Another's claim is left alone.
	Unclaim(ctx context.Context, ref PermitRef) error

	// Unschedule takes a grant that no longer exists off the schedule.
	Unschedule(ctx context.Context, id GrantID) error

	// Unlist takes a parcel out of a customer's index.
	Unlist(ctx context.Context, c CustomerRef, id ParcelHash) error
}

// Query is what Load reads.
type Query struct {
	Parcel     ParcelHash
	Generation int // 0: the newest

	Courier     *CourierRef  // whose record and budget to read
	Door        string       // the door to read, with its building
	Permit      *PermitRef   // a permit to claim: where it is to be found, written ahead of its commit
	Reservation *Reservation // a guess to reserve in that courier's budget
	Index       *Index       // entries to write ahead of a commit
}

// Index is where a grant is to be found besides by its parcel.
type Index struct {
	Customer CustomerRef
	Route    RouteRef
	Order    OrderRef // zero: there is none
	Until    Instant  // end of the grant's window
	Now      Instant
}

// Listed is a place in a customer's list: a parcel and the end of its window.
type Listed struct {
	Parcel ParcelHash
	Until  Instant
}

// String is the place in a form that ParseListed reads; empty for none.
func (l Listed) String() string {
	if l == (Listed{}) {
		return ""
	}
	return strconv.FormatInt(int64(l.Until), 10) + "-" + string(l.Parcel)
}

var listedRule = regexp.MustCompile(`^([0-9]{1,12})-([0-9a-f]{24})$`)

// ParseListed reads what String writes.
func ParseListed(text string) (l Listed, ok bool) {
	if text == "" {
		return Listed{}, true
	}
	m := listedRule.FindStringSubmatch(text)
	if m == nil {
		return Listed{}, false
	}
	until, err := strconv.ParseInt(m[1], 10, 64)
	return Listed{Parcel: ParcelHash(m[2]), Until: Instant(until)}, err == nil
}

// OrderRef names an order among those of one delivery day.
type OrderRef struct {
	Name [orderLen]byte // keyed, of the shop and its order: it tells nothing to who reads it
	Day  Date
}

const orderLen = 8

// RouteRef names one route of a carrier on one day.
type RouteRef struct {
	Carrier, Route string
	Day            Date
}

// PermitRef says which grant and door a permit belongs to.
type PermitRef struct {
	Permit PermitID
	Parcel ParcelHash
	Door   string

	// Claim is random: whose claim to the permit it is. Two requests never share one, not
	// even two of one attempt, so that neither can give back what the other used.
	Claim string
}

// Snapshot is what Load found, all of one moment per key.
type Snapshot struct {
	Record  *Record
	Version Version
	Courier *Courier
	Account Account
	Door    *Door

	// Claimed says that the permit that was asked for is the asker's, and nobody else's.
	Claimed bool

	// Archived says that a later generation exists: to this one only time does something.
	Archived bool
}

func (s *Snapshot) grant() *Grant {
	if s.Record == nil {
		return nil
	}
	return &s.Record.Grant
}

// Version counts the commits of a parcel's grants. It only rises: the upper 16 bits
// are the generation, the lower 48 the commits within it. 0 is "no grant yet".
type Version uint64

// Generation is the grant's generation at this version.
func (v Version) Generation() int { return int(v >> 48) }

// Next is the version of a commit that follows v and leaves the grant in generation n.
func (v Version) Next(n int) Version {
	if v.Generation() == n {
		return v + 1
	}
	return Version(n)<<48 | 1
}

// Record is what is stored of a grant: what its events say, and what retries need.
type Record struct {
	Grant Grant `cbor:"1,keyasint"`

	// Commits are the ids of the newest sixteen commits, so that a writer whose answer
	// was lost can see whether it wrote.
	Commits []CommitID `cbor:"2,keyasint"`

	// Answers are what counted attempts with an attempt id were told.
	Answers []Answer `cbor:"3,keyasint,omitempty"`

	// Notes are what people wrote as the reason of an act. They may name people, so they
	// are in no event.
	Notes []Note `cbor:"4,keyasint,omitempty"`
}

// CommitID names one try to commit: 64 random bits.
type CommitID uint64

// Answer is what one attempt was told. The same attempt id gets it again.
type Answer struct {
	Attempt  string  `cbor:"1,keyasint"`
	Courier  string  `cbor:"2,keyasint"`
	Digest   []byte  `cbor:"3,keyasint"` // keyed, of everything else the request said
	At       Instant `cbor:"4,keyasint"`
	Distance int     `cbor:"5,keyasint,omitempty"`
	Reason   Reason  `cbor:"6,keyasint,omitempty"` // empty: it was done
	Left     int     `cbor:"7,keyasint,omitempty"`
	Verdict  []byte  `cbor:"8,keyasint"`

	Permit PermitID `cbor:"9,keyasint,omitzero"`   // of an unlock
	Relock int      `cbor:"10,keyasint,omitempty"` // of an unlock: what the permit says, in seconds

	Replaced Instant `cbor:"11,keyasint,omitempty"` // of a superseded code: when

	retry time.Duration // never remembered: by then it would be wrong
}

// Note is a person's reason for an act.
type Note struct {
	At   Instant `cbor:"1,keyasint"`
	Act  Act     `cbor:"2,keyasint"`
	Text string  `cbor:"3,keyasint"`
}

const (
	commitsKept = 16
	answersKept = 32
	notesKept   = 16
)

// Change is one commit.
type Change struct {
	From   Version
	Record Record
	Events []Event

	// Archived says that the record is of a generation that a later one followed.
	Archived bool

	// Settle ends the courier's reservation along with the commit. A wrong code is
	// counted only if the commit happened; giving back needs no such care, since whoever
	// commits again reserves again.
	Settle *Settlement

	// Permit is the claim that the commit uses; nil if it gives out no permit.
	Permit *PermitRef

	// Count adds to the carrier's day along with the grant, once; nil adds nothing.
	Count *CarrierCount

	Now Instant
}

// Account is a courier's budget as stored.
type Account struct {
	Counted  []Instant // wrong codes
	Excused  []Instant // wrong codes that were no guesses, of the last day at least
	Reserved []Instant // guesses in flight that reached the store before the asker's own, and that one

	// Doubtful are wrong codes of which nobody knows whether they were committed: whoever
	// did so has not settled them yet, or died over it.
	Doubtful []Instant

	// Placed says that the asker's own guess is among the reserved ones. A place that was
	// held may be gone: given back with a commit that was overtaken, cleared, or lost.
	Placed bool
}

// Reservation is one guess reserved in a courier's budget. Token is random: two
// requests never share one, so that neither can give back what the other was charged.
type Reservation struct {
	Courier CourierRef
	Token   string
	At      Instant

	// Held says that it was made by an earlier load, and is only asked about again.
	Held bool
}

// Settlement ends a reservation.
type Settlement struct {
	Reservation
	Counted bool // a wrong code was counted; false gives the reservation back
	Excused bool // with Counted: it was no guess
}

// abandoned is when nobody will settle a reservation any more: no request lives as long.
// If a commit of a wrong code was sent, it then counts as one. If none was, nobody was
// told anything, and it counts for nothing.
const abandoned = time.Minute

// Budget reads an account: what is spent, and whether the reservation that the asker
// just made found a place. Reservations queue in the order in which they reached the
// store, and each sees all that stand before it: no more than the limit can ever be
// admitted and counted, however many ask at once, and the first in the queue never waits.
func (a Account) Budget(l Limits, now time.Time) Budget {
	var b Budget
	inFlight := 0
	period, lost := ago(now, budgetPeriod), ago(now, abandoned)
	for _, at := range a.Counted {
		if at > period {
			b.Spent = append(b.Spent, at)
		}
	}
	excused := ago(now, excusedPeriod)
	for _, at := range a.Excused {
		if at > excused {
			b.Spent = append(b.Spent, at)
		}
	}
	for _, at := range a.Reserved {
		if at > lost {
			inFlight++
		}
	}
	for _, at := range a.Doubtful { // until then its reservation stands for it
		if at <= lost && at > period {
			b.Spent = append(b.Spent, at)
		}
	}
	day := inFlight + b.today(now)
	b.Admitted = a.Placed && day <= l.CourierDay && len(b.Spent)+inFlight <= l.CourierMonth
	return b
}

// ago is the last instant that is no younger than an age.
func ago(now time.Time, age time.Duration) Instant { return InstantOf(now.Add(-age)) }

// budgetPeriod is the longest that a wrong code counts against its courier.
const budgetPeriod = 30 * 24 * time.Hour

// excusedPeriod is how long an excused wrong code counts like any other. Forgiven at once,
// it would show a guesser at his limit that he is near; a civil day has at most 25 hours,
// and by the end of it the code that he was near is worth nothing.
const excusedPeriod = 26 * time.Hour

// Registry is the part of a Store that keeps what carriers say of couriers and routes.
type Registry interface {
	// Courier reads one courier's record; nil if there is none.
	Courier(ctx context.Context, ref CourierRef) (*Courier, error)

	// PutCourier sets the fields that are given and keeps the others. A courier that is
	// new and was given no clearance is not cleared.
	PutCourier(ctx context.Context, ref CourierRef, u CourierUpdate) error

	// ClearBudget forgets a courier's wrong codes.
	ClearBudget(ctx context.Context, ref CourierRef) error

	// AssignRoute makes courier the only one who drives the route that day. It is three
	// writes in an order that fails closed: whoever drove it before stops first.
	AssignRoute(ctx context.Context, r RouteRef, courier string, now Instant) error

	// Driver is the courier that the route was last assigned to; empty if it never was, or
	// its day is long over.
	Driver(ctx context.Context, r RouteRef) (string, error)

	// Building reads one building; nil if there is none.
	Building(ctx context.Context, id string) (*Building, error)

	// PutBuilding writes a building, all of it.
	PutBuilding(ctx context.Context, b Building) error

	// Door reads one door with its building; nil if there is none, or it was removed. So it
	// is with the door of a Load.
	Door(ctx context.Context, id string) (*Door, error)

	// PutDoor writes a door, all of it, as what Door.Replacing makes of it and of the one
	// that it replaces: ErrDoorMoved or ErrKeypadKey if it must not. Of any number who do so
	// at once, each replaces what another wrote, or the first of them nothing. A door that
	// is written as removed is none from then on; its id stays its building's, which alone
	// can bring it back.
	PutDoor(ctx context.Context, d Door) error

	// Doors lists the ids of a building's doors, in no particular order. Removed ones are not
	// among them.
	Doors(ctx context.Context, building string) ([]string, error)
}

// Tokens is the part of a Store that keeps what may be used once.
type Tokens interface {
	// Spend reports whether this is the first time that an id is spent, of all callers
	// everywhere: exactly one is told so. The id is hexadecimal, and is forgotten some time
	// after until, by which nobody may ask any more. After an error it may have been spent.
	Spend(ctx context.Context, id string, until, now Instant) (first bool, err error)
}

// CourierUpdate is what to set in a courier's record.
type CourierUpdate struct {
	Name         *string
	ClearedUntil *Instant
	Suspended    *bool
}
