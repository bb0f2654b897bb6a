package service

import (
	"time"

	"latchkey/handoff"
)

// Record is what is stored of a grant: what its events say, and what retries need.
type Record struct {
	Grant handoff.Grant `cbor:"1,keyasint"`

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
	Attempt  string          `cbor:"1,keyasint"`
	Courier  string          `cbor:"2,keyasint"`
	Digest   []byte          `cbor:"3,keyasint"` // keyed, of everything else the request said
	At       handoff.Instant `cbor:"4,keyasint"`
	Distance int             `cbor:"5,keyasint,omitempty"`
	Reason   handoff.Reason  `cbor:"6,keyasint,omitempty"` // empty: it was done
	Left     int             `cbor:"7,keyasint,omitempty"`
	Verdict  []byte          `cbor:"8,keyasint"`

	Permit handoff.PermitID `cbor:"9,keyasint,omitzero"`   // of an unlock
	Relock int              `cbor:"10,keyasint,omitempty"` // of an unlock: what the permit says, in seconds

	Replaced handoff.Instant `cbor:"11,keyasint,omitempty"` // of a superseded code: when

	retry time.Duration // never remembered: by then it would be wrong
}

// Note is a person's reason for an act.
type Note struct {
	At   handoff.Instant `cbor:"1,keyasint"`
	Act  handoff.Act     `cbor:"2,keyasint"`
	Text string          `cbor:"3,keyasint"`
}

const (
	commitsKept = 16
	answersKept = 32
	notesKept   = 16
)
