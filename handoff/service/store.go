package service

import (
	"context"
	"regexp"
	"strconv"
	"time"

	"latchkey/handoff"
)

// Store is all that the service needs of a store.
//
// All methods may be called concurrently. Errors that are none of those that a method
// names come wrapped in storage.ErrUnavailable. The store seals personal data and
// secrets: nothing it writes shows them.
type Store interface {
	Grants
	Lists
	Schedule
	Permits
	Courier(ctx context.Context, ref handoff.CourierRef) (*handoff.Courier, error) // see Couriers
	Log
	Sessions
}

// Grants keeps grants, and the facts that a decision on one needs.
//
//   - Commit is atomic: the grant, its events, its place in the schedule and (for a
//     next generation) the closed grant's new place are written together or not at
//     all, and only if the grant's version is still the one that was loaded.
//   - Load sees every commit that was acknowledged before it began.
//   - A commit that was acknowledged survives whatever the store's operator promised
//     (see Durability in docs/settings.md); the store itself never drops one.
//
// Who may retry: Load is idempotent and the store may retry it. A Commit is never
// run again by the store on its own; a caller that gets storage.ErrUnknownOutcome loads
// again and looks for its commit id.
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

	// Settle ends a reservation outside of a commit: it becomes a counted wrong code,
	// excused or not, or is given back. Settling twice is harmless. An excused one may be
	// forgotten after two days.
	Settle(ctx context.Context, s Settlement) error

	// See notes where a courier is, ahead of the commit that gives out a permit there, if
	// the courier was last seen where the caller believes: from, or nil for nowhere. False:
	// the courier was seen elsewhere meanwhile, or is not known. Noting the same again is
	// harmless; what was noted stays, even if the commit is overtaken.
	See(ctx context.Context, courier handoff.CourierRef, from *handoff.Sighting, to handoff.Sighting) (bool, error)

	// CarrierDay reads what a carrier's couriers have done with codes in the last 24 hours,
	// and up to an hour before. Its parts are of about the same moment.
	CarrierDay(ctx context.Context, carrier string, now handoff.Instant) (handoff.CarrierDay, error)

	// Many loads grants in one trip, in no particular order, leaving out those that are
	// gone.
	Many(ctx context.Context, ids []handoff.ParcelHash) ([]handoff.Grant, error)
}

// Lists finds grants besides by their parcel. Load writes the entries (see Index), ahead of
// the commit: an entry counts only if its grant says the same.
type Lists interface {
	// OfCustomer lists up to limit parcels indexed for a customer, the one whose window
	// ends last first and among equals the greater hash, beginning after a place (zero:
	// with the first). The index is written before the commit: an entry counts only if its
	// grant names this shop and customer. A parcel that is moved to a later day meanwhile
	// moves up, so that whoever pages may see it twice or not at all.
	OfCustomer(ctx context.Context, c handoff.CustomerRef, after Listed, limit int) ([]Listed, error)

	// OnRoute lists the parcels indexed for a route on a day, with the same caution.
	OnRoute(ctx context.Context, r RouteRef) ([]handoff.ParcelHash, error)

	// OfOrder lists the parcels indexed for an order, with the same caution: names may collide.
	OfOrder(ctx context.Context, o OrderRef) ([]handoff.ParcelHash, error)

	// Unlist takes a parcel out of a customer's index.
	Unlist(ctx context.Context, c handoff.CustomerRef, id handoff.ParcelHash) error
}

// Schedule is which grants time alone will change.
type Schedule interface {
	// Due lists up to limit grants of a partition that time alone changes by now: see
	// Grant.Due. A generation that is archived stays on the schedule.
	Due(ctx context.Context, partition int, now handoff.Instant, limit int) ([]handoff.GrantID, error)

	// Unschedule takes a grant that no longer exists off the schedule.
	Unschedule(ctx context.Context, id handoff.GrantID) error
}

// Permits finds the grant of a permit.
type Permits interface {
	// Permit says which grant and door a permit belongs to; nil if there is none, or not
	// any more. An entry counts only if its grant has the permit.
	Permit(ctx context.Context, id handoff.PermitID) (*PermitRef, error)

	// Unclaim gives a claim back, so that another may have it. Only whoever is sure that
	// no commit uses it may do so. Another's claim is left alone.
	Unclaim(ctx context.Context, ref PermitRef) error
}

// Log is what the service writes to the event log beside its commits; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error
	Tally(ctx context.Context, name string, forget time.Duration) (int, error)
}

// Sessions signs a customer's browsers out; see identity.Sessions.
type Sessions interface {
	RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) error
}

// Query is what Load reads.
type Query struct {
	Parcel     handoff.ParcelHash
	Generation int // 0: the newest

	Courier     *handoff.CourierRef // whose record and budget to read
	Door        string              // the door to read, with its building
	Permit      *PermitRef          // a permit to claim: where it is to be found, written ahead of its commit
	Reservation *Reservation        // a guess to reserve in that courier's budget
	Index       *Index              // entries to write ahead of a commit
}

// Index is where a grant is to be found besides by its parcel.
type Index struct {
	Customer handoff.CustomerRef
	Route    RouteRef
	Order    OrderRef        // zero: there is none
	Until    handoff.Instant // end of the grant's window
	Now      handoff.Instant
}

// Listed is a place in a customer's list: a parcel and the end of its window.
type Listed struct {
	Parcel handoff.ParcelHash
	Until  handoff.Instant
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
	return Listed{Parcel: handoff.ParcelHash(m[2]), Until: handoff.Instant(until)}, err == nil
}

// RouteRef names one route of a carrier on one day.
type RouteRef struct {
	Carrier, Route string
	Day            handoff.Date
}

// PermitRef says which grant and door a permit belongs to.
type PermitRef struct {
	Permit handoff.PermitID
	Parcel handoff.ParcelHash
	Door   string

	// Claim is random: whose claim to the permit it is. Two requests never share one, not
	// even two of one attempt, so that neither can give back what the other used.
	Claim string
}

// Snapshot is what Load found, all of one moment per key.
type Snapshot struct {
	Record  *Record
	Version Version
	Courier *handoff.Courier
	Account handoff.Account
	Door    *handoff.Door

	// Claimed says that the permit that was asked for is the asker's, and nobody else's.
	Claimed bool

	// Archived says that a later generation exists: to this one only time does something.
	Archived bool
}

func (s *Snapshot) grant() *handoff.Grant {
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

// Change is one commit.
type Change struct {
	From   Version
	Record Record
	Events []handoff.Event

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

	Now handoff.Instant
}

// Reservation is one guess reserved in a courier's budget. Token is random: two
// requests never share one, so that neither can give back what the other was charged.
type Reservation struct {
	Courier handoff.CourierRef
	Token   string
	At      handoff.Instant

	// Held says that it was made by an earlier load, and is only asked about again.
	Held bool
}

// Settlement ends a reservation.
type Settlement struct {
	Reservation
	Counted bool // a wrong code was counted; false gives the reservation back
	Excused bool // with Counted: it was no guess
}
