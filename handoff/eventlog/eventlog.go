// Package eventlog is the event log as its readers see it: it is appended to by commits,
// read by groups of readers that each get every event at least once, and queried in pages.
package eventlog

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"latchkey/handoff"
)

// Note is a short text that is kept beside the log, of what was appended before: whoever
// appends what may come again decides by it, and replaces it along with the append.
type Note struct {
	Partition int    // whose events it is about: it stands in the same slot as they
	Name      string // no personal data
	Was       string // what must stand there; empty: nothing
	Is        string // what stands there afterwards
}

// Log is the part of a Store that hands the event log to its readers. The log is the
// outbox: an event is in it exactly if its commit happened. Each group of readers (the
// mail, the webhooks, ...) gets every event at least once, in the order of each grant
// unless one has to be retried.
type Log interface {
	// Append writes events that belong to no grant: what happened at a building or a door.
	// They keep their order with the other events of their building that came this way.
	// It is no part of a commit: after an error the caller does not know whether they were
	// written, and who appends again may have them twice.
	Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error

	// Noted reads a note; empty if there is none.
	Noted(ctx context.Context, partition int, name string) (string, error)

	// AppendNoted is Append of events of the note's partition, of none as well, and replaces
	// the note, both or neither; false if another note stands there, and nothing was done.
	// The store may repeat it: who is told false reads again and may find the own note.
	// A note is kept for good.
	AppendNoted(ctx context.Context, now handoff.Instant, n Note, events ...handoff.Event) (bool, error)

	// Join makes a group known. A new group begins with the oldest event that is kept,
	// and the log is not trimmed past what a known group has not finished.
	Join(ctx context.Context, group string) error

	// Leave forgets a group: what it has not finished has no reader any more, and no longer
	// keeps the log from being trimmed. Its dead letters stay.
	Leave(ctx context.Context, group string) error

	// Take puts up to limit events into a reader's hand: new ones, those whose retry is due,
	// and those that were freed. No other reader gets them until this one lets them go (Done,
	// Release, Retry, Bury) or is found dead (Forget, Free). What it returns is in hand even if
	// there is an error as well; what an answer that was lost put in hand, the reader's next Take
	// returns. A reader takes one thing at a time. ErrNotJoined says that the group is not known,
	// any more or yet.
	Take(ctx context.Context, group, reader string, limit int) ([]Delivery, error)

	// TakeUrgent is Take of up to limit events, which may be 0, in the order of their urgency (see
	// handoff.Urgency), over all that the group has before it and that is due. Each tenth place is
	// another's than a code's (see Turns). It is for groups of which all readers take so; what one
	// put in order, Take does not see.
	TakeUrgent(ctx context.Context, group, reader string, limit int) ([]Delivery, error)

	// Done finishes an event for the group, in whose hand it may be.
	Done(ctx context.Context, group string, id ID) error

	// Release lets an event go that was not tried: it is due again at once. Release, Retry and
	// Bury do nothing where the event is no more in the hand of the delivery's reader.
	Release(ctx context.Context, group string, d Delivery) error

	// Retry lets an event go and makes it due again after a while, by the store's clock.
	Retry(ctx context.Context, group string, f Failure, after time.Duration) error

	// Bury gives an event up: it becomes a dead letter, listed until it is replayed.
	Bury(ctx context.Context, group string, f Failure) error

	// Beat counts a sign of life of a reader, and returns all readers with their counts. A
	// reader must be among them while it has events in hand. First makes it known; without it,
	// a reader that is not known, any more, is not among what is returned.
	Beat(ctx context.Context, reader string, first bool) (map[string]int64, error)

	// Forget takes a reader out of those that are known, unless its count is another by now, and
	// reports whether it did. What it has in hand is to be freed.
	Forget(ctx context.Context, reader string, beat int64) (bool, error)

	// Holders tells how many events of a group each reader has in hand, also of readers that are
	// not known any more.
	Holders(ctx context.Context, group string) (map[string]int, error)

	// Free makes due at once what a reader has in hand, and tells how many events that were.
	Free(ctx context.Context, group, reader string) (int, error)

	// Dead lists a group's dead letters, oldest first.
	Dead(ctx context.Context, group string) ([]Letter, error)

	// Replay makes a dead letter due at once, as if it had never failed. It reports false
	// if there is none of that id.
	Replay(ctx context.Context, group string, id ID) (bool, error)

	// Advance is for a group with one reader, which reads by Read and keeps its own place
	// elsewhere: all of a partition up to an event is finished for the group. An event
	// before the last one that was named does no harm: the log is kept from there.
	Advance(ctx context.Context, group string, id ID) error

	// Backlog tells how much a group has before it.
	Backlog(ctx context.Context, group string) (Backlog, error)

	// Read pages through one partition's log, beginning after an id (empty: from the start).
	// An event that this version cannot read is not left out: its Type is zero.
	Read(ctx context.Context, partition int, after string, limit int) ([]Logged, error)

	// Before reads the last event of a partition's log whose id is below an id, whether or
	// not an event has that id; nil if there is none.
	Before(ctx context.Context, partition int, id string) (*Logged, error)

	// Trim drops the events of a partition older than keep, by the store's clock, except what a
	// group has not finished and what comes after that. It returns how many were dropped.
	Trim(ctx context.Context, partition int, keep time.Time) (int64, error)
}

// EventID names an event in the log.
type ID struct {
	Partition int
	ID        string // of the partition's log, rising: MILLISECONDS-SEQUENCE
}

// Logged is an event and where it stands in the log.
type Logged struct {
	ID    ID
	Event handoff.Event
}

// Delivery is an event in a reader's hand.
type Delivery struct {
	Logged
	Reader      string          // in whose
	Tries       int             // how often it failed before
	FirstFailed handoff.Instant // 0 if it never did
}

// Failure is what a reader says of a delivery that it could not finish. The error's
// text is kept and shown to operators, so it must hold no personal data.
type Failure struct {
	Delivery Delivery
	Error    string
	At       time.Time
}

// Letter is a dead letter.
type Letter struct {
	Delivery
	Error  string
	DiedAt handoff.Instant
}

// Backlog is how far a group is behind.
type Backlog struct {
	Waiting int64           // events not yet taken, in hand, or waiting for a retry
	Dead    int64           // dead letters
	Oldest  handoff.Instant // when the oldest waiting event happened, about; 0 if none waits

	// Classes is how many events wait in order, by handoff.Class, of a group whose readers take
	// by urgency. New ones are put in order at the next TakeUrgent.
	Classes [handoff.Classes]int64
}

// Turns deals out the places of a group whose readers take by urgency. Codes go before all others,
// but for each tenth place: a word that something was handed over, which may not have been the
// customer, does not wait until a storm of codes is over.
type Turns struct{ dealt atomic.Int64 }

// otherEach is which place is another's than a code's.
const otherEach = 10

// Others reports whether the next place is another's than a code's.
func (t *Turns) Others() bool { return t.dealt.Add(1)%otherEach == 0 }

// Others is how many places at most, of so many that follow, are others' than codes'.
func Others(places int) int { return (places + otherEach - 1) / otherEach }

// Choose deals up to n places out, of what waits: all and others are sorted, the most urgent
// first, and name what waits by different values. Others are those of all that are no codes.
func Choose[T comparable](t *Turns, n int, all, others []T) (chosen []T) {
	taken := make(map[T]bool, n)
	next := func(list *[]T) (v T, ok bool) {
		for len(*list) > 0 {
			v, *list = (*list)[0], (*list)[1:]
			if !taken[v] {
				return v, true
			}
		}
		return v, false
	}
	for len(chosen) < n {
		var (
			v  T
			ok bool
		)
		if len(all) == 0 && len(others) == 0 {
			break
		}
		if t.Others() {
			v, ok = next(&others)
		}
		if !ok {
			v, ok = next(&all)
		}
		if !ok {
			v, ok = next(&others)
		}
		if !ok {
			break
		}
		taken[v] = true
		chosen = append(chosen, v)
	}
	return chosen
}

// ErrNotJoined says that a group of readers is not known to the log: it never joined, or
// the log was lost and began anew.
var ErrNotJoined = errors.New("handoff: the group has not joined the log")
