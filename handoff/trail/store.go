package trail

import (
	"context"
	"errors"
	"time"
)

// Store keeps hash chains: the access
// log of each building, and the trail of each partition of the log. Entries hold no
// personal data, so they are not sealed: what they are worth is that they cannot be
// changed unnoticed, and who verifies them needs to read them.
//
// A chain has one writer at a time, who holds a lease. The lease only keeps writers out
// of each other's way: that a chain never forks, Extend alone sees to.
type Store interface {
	// ChainEnd reads where a chain ends; the zero ChainEnd for one that has not begun.
	ChainEnd(ctx context.Context, name string) (End, error)

	// Extend appends links to a chain, makes to its end and drops the entries up to
	// to.Cut, all or nothing, if the chain still ends and begins as from says: with its
	// Seq, Hash and Cut. Else it answers ErrConflict, or ErrForged if entries stand there
	// that its end does not know, and nothing was written. After ErrUnknownOutcome it may
	// have happened: ChainEnd tells.
	Extend(ctx context.Context, name string, from, to End, links []Link) error

	// Links pages through a chain, beginning after a number.
	Links(ctx context.Context, name string, after uint64, limit int) ([]Link, error)

	// Chains lists the names of all chains that have begun.
	Chains(ctx context.Context) ([]string, error)

	// Lease makes holder the one who holds a lease from now on, for so long by the store's
	// clock, if no other holds it, and reports whether holder does. A holder may renew it, or
	// end it by a lease of 0. All holders of a lease ask for the same time.
	Lease(ctx context.Context, name, holder string, lease time.Duration) (bool, error)
}

// End is where a chain stands.
type End struct {
	Seq    uint64 `cbor:"-"` // of the last entry; 0: none
	Hash   Hash   `cbor:"-"`
	Cut    uint64 `cbor:"-"`                    // entries up to this one were dropped; 0: none
	Head   string `cbor:"1,keyasint"`           // signed
	CutOff string `cbor:"2,keyasint,omitempty"` // the signed cut; empty: none

	// Cursors are the last event of each partition that was entered, or has nothing to
	// enter: what comes again is not entered again, since a partition's ids only rise.
	Cursors map[int]string `cbor:"3,keyasint,omitempty"`
}

// ErrForged says that a chain in the store is not as it was written: its end is not
// signed, or entries are missing or others than those that were entered.
var ErrForged = errors.New("handoff: a chain was changed in the store")
