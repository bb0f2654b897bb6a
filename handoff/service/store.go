package service

import (
	"context"
	"time"

	"latchkey/handoff"
)

// Store is all that the service needs of a store.
//
// All methods may be called concurrently. Errors that are none of those that a method
// names come wrapped in storage.ErrUnavailable, and keep their cause. The store seals personal
// data and secrets: nothing it writes shows them, and no error either.
type Store interface {
	Grants
	Guesses
	Permits
	LastDoors
	Lists
	Mails
	Schedule
	Couriers
	Log
	Tally(ctx context.Context, name string, forget time.Duration) (int, error) // see counts.Tally
	Sessions
}

// Grants keeps grants, and reads the facts that a decision on one needs.
//
//   - Commit is atomic: the grant, its events, its place in the schedule and (for a
//     next generation) the closed grant's new place are written together or not at
//     all, and only if the grant's version is still the one that was read.
//   - A read sees every commit that was acknowledged before it began.
//   - A commit that was acknowledged survives whatever the store's operator promised
//     (see Durability in docs/settings.md); the store itself never drops one.
type Grants interface {
	// Load reads a grant and the facts that a decision on it needs, in one trip. It writes
	// nothing. An unknown grant, courier or door is nil, and no error. The courier's name,
	// which no decision needs, is left out. The error is storage.ErrUnavailable or
	// storage.ErrSealed.
	Load(ctx context.Context, q Query) (Snapshot, error)

	// Prepare is Load that reserves in the same trip what the commit to come needs in other
	// slots. It may be repeated, by the store and by the caller: what is reserved already is
	// reserved once. After an error it is unknown what was reserved.
	//
	// A reserved permit id is held by one request at most, as long as the reservation stands:
	// at least five minutes, and two days after a commit that uses it. GiveBackPermit ends
	// it. It is as durable as a commit.
	Prepare(ctx context.Context, p Preparation) (Snapshot, error)

	// Commit stores a record and appends its events, if the version is still c.From. The
	// store never runs it again on its own. Its errors are storage.ErrConflict (nothing was
	// written; a *CountConflict if c.Count was the reason), storage.ErrUnknownOutcome (the
	// caller reads again and looks for its commit id) and storage.ErrUnavailable (nothing was
	// written).
	Commit(ctx context.Context, c Change) error

	// Confirm makes what was read of a parcel as durable as a commit that was acknowledged: it
	// may be of a commit that was not. The error is storage.ErrUnavailable: it may yet be lost.
	Confirm(ctx context.Context, parcel handoff.ParcelHash) error

	// Many reads the newest grants of parcels in one trip, in no particular order, leaving
	// out those that are gone. The error is storage.ErrUnavailable or storage.ErrSealed.
	Many(ctx context.Context, ids []handoff.ParcelHash) ([]handoff.Grant, error)
}

// Schedule is which grants time alone will change. All errors are storage.ErrUnavailable.
type Schedule interface {
	// Due lists up to limit grants of a partition that time alone changes by now: see
	// Grant.Due. A generation that is archived stays on the schedule.
	Due(ctx context.Context, partition int, now handoff.Instant, limit int) ([]handoff.GrantID, error)

	// Unschedule takes a grant that no longer exists off the schedule.
	Unschedule(ctx context.Context, id handoff.GrantID) error
}

// Log is what the service writes to the event log beside its commits; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error
}

// Sessions signs the browsers of a customer or courier out; see identity.Sessions.
type Sessions interface {
	RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) (int, error)
	RemoveSessionsOfCourier(ctx context.Context, c handoff.CourierRef) error
}

// Query is what to read: a grant, and facts.
type Query struct {
	Parcel     handoff.ParcelHash
	Generation int // 0: the newest

	// Others are further parcels, of whose keys it is read what stands there.
	Others []handoff.ParcelHash

	Courier *handoff.CourierRef // whose record and budget to read; nil: none
	Door    string              // the door to read, with its building; empty: none
}

// Preparation is what to read, and what to reserve in the same trip.
type Preparation struct {
	Query
	Guess  *Guess     // a guess of Query.Courier, in the courier's budget; nil: none
	Permit *PermitRef // a permit's id, under which its grant and door are found; nil: none
	Index  *Index     // the grant's entries in lists; nil: none
}

// Snapshot is what was found, all of one moment per key.
type Snapshot struct {
	Record  *Record // nil: there is no such grant
	Version Version
	Alias   *Alias           // the grant that the parcel is one of several of, if that exists and names it; nil: none
	Others  []Standing       // of Query.Others, in their order
	Courier *handoff.Courier // nil: unknown, or not asked for
	Account handoff.Account  // of the courier
	Door    *handoff.Door    // nil: unknown, or not asked for

	// PermitHeld says that the permit's id is reserved for the request that asked, and for no
	// other.
	PermitHeld bool

	// Archived says that a later generation exists: only time changes this one.
	Archived bool
}

// Standing is what stands at the parcel's own key, of a Snapshot of the newest generation.
func (s *Snapshot) Standing() Standing {
	return Standing{Record: s.Record, Alias: s.Alias, Version: s.Version}
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

// Change is one commit: of a grant, or of an alias, which has no events.
type Change struct {
	From   Version // of the record that was read; 0: there was none
	Record Record
	Events []handoff.Event

	// Archived says that the record is of a generation that a later one followed.
	Archived bool

	// Settle ends the courier's guess along with the commit; nil: there is none. A wrong code
	// is counted only if the commit happened; giving back needs no such care, since a request
	// that commits again reserves again.
	Settle *Settlement

	// Permit is the reserved id that the commit uses; nil if it gives out no permit.
	Permit *PermitRef

	// Count adds to the carrier's day along with the grant, once; nil adds nothing.
	Count *CarrierCount

	// Awaits is the mail with a new code, for which it is waited from now on; nil: there is none.
	Awaits *AwaitedMail

	Now handoff.Instant // by the service's clock
}
