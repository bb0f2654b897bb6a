package service

import (
	"slices"

	"latchkey/handoff"
)

// Record is what is stored of a grant: what its events say, and what retries need.
type Record struct {
	Grant handoff.Grant `cbor:"1,keyasint,omitzero"`

	// Commits are the ids of the newest sixteen commits, so that a writer whose answer
	// was lost can see whether it wrote.
	Commits []CommitID `cbor:"2,keyasint"`

	// Answers are what the newest 32 attempts with an attempt id were told, if a commit
	// stored it.
	Answers []Answer `cbor:"3,keyasint,omitempty"`

	// Notes are what people wrote as the reason of an act, the newest 16. They may name
	// people, so they are in no event.
	Notes []Note `cbor:"4,keyasint,omitempty"`

	// Alias says that the parcel has no grant of its own: see group.go. Of the grant only the id
	// is set then. Nil in every record that a Snapshot has.
	Alias *Alias `cbor:"5,keyasint,omitempty"`
}

// CommitID names one try to commit: 64 random bits.
type CommitID uint64

// Note is a person's reason for an act.
type Note struct {
	At   handoff.Instant `cbor:"1,keyasint"`
	Act  handoff.Act     `cbor:"2,keyasint"`
	Text string          `cbor:"3,keyasint"`
}

// NoteOf is what a person wrote as the reason of an act at a time; empty if it is not kept.
func (r *Record) NoteOf(act handoff.Act, at handoff.Instant) string {
	for _, n := range slices.Backward(r.Notes) {
		if n.Act == act && n.At == at {
			return n.Text
		}
	}
	return ""
}

const (
	commitsKept = 16
	answersKept = 32
	notesKept   = 16
)
