package service

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/storage"
	"latchkey/otp"
)

// query is one run of change.
type query struct {
	Query
	command func(*Snapshot) handoff.Command
	secret  otp.Secret // mint
	attempt string
	digest  []byte
	note    string

	minute uint64      // of the PIN that Permit names
	claims []PermitRef // of PINs, as far as they may be held
}

// outcome is what change did, or found done.
type outcome struct {
	act    handoff.Act
	status handoff.Status // after the decision
	grant  handoff.Grant
	answer Answer
	events []handoff.Event
}

// maxTries bounds the loop. A conflict means that another commit got through, and a
// grant takes no more than a dozen or so that count; waiting for a place in a courier's
// budget is rarer still.
const maxTries = 40

// change loads, decides and commits, again and again while others get in between.
//
// A lost answer is no reason to act twice: the next load shows whether the commit is
// among the grant's last sixteen, and a request that carries an attempt id finds what
// that attempt was told. Only what was committed is told.
func (s *Service) change(ctx context.Context, q query) (told outcome, err error) {
	tried := map[CommitID]outcome{}
	anew := false
	defer func() {
		if len(tried) == 0 { // else a commit that uses one may yet have happened: the PIN is nobody's any more
			s.unclaim(ctx, &q, told.answer.Permit)
		}
	}()
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			break
		}
		day := noCarrier
		if q.Reservation != nil { // asked beside the grant, not after it
			day, anew = s.carriers.ask(ctx, q.Courier.Carrier, anew), false
		}
		snap, err := s.store.Load(ctx, q.Query)
		var carrier handoff.CarrierDay
		if err == nil {
			carrier, err = day()
		}
		if err != nil {
			if len(tried) > 0 {
				continue // a commit is in doubt: it is worth asking again
			}
			s.settle(ctx, q.settlement(nil))
			return outcome{}, err
		}
		if o, done := committed(snap.Record, tried); done {
			return s.tell(ctx, q, o)
		}
		now := s.clock.Now()
		g := snap.grant()
		cmd := q.command(&snap)
		if o, known := q.answered(snap.Record, cmd.Act); known {
			return s.tell(ctx, q, o)
		}

		facts := handoff.Facts{Policy: s.policy, Courier: snap.Courier, Budget: snap.Account.Budget(s.policy.Limits, now), Door: snap.Door, Carrier: carrier}
		if facts.Claim, err = s.claimed(&q, &snap); err != nil {
			return outcome{}, err
		}
		d := handoff.Decide(g, cmd, facts, now)
		if d.Wait && cmd.Act == handoff.Open {
			if err := s.claim(&q, &snap, facts.Claim, now); err != nil {
				return outcome{}, err
			}
			continue
		}
		if d.Wait {
			q.Reservation.Held = snap.Account.Placed // it keeps its place in the queue
			continue
		}
		o := outcome{act: cmd.Act, answer: q.answerOf(&d, cmd, now), events: d.Events}
		if g != nil {
			o.grant, o.status = *g, g.Status
		}
		if len(d.Events) > 0 && snap.Archived && cmd.Act != handoff.Expire && cmd.Act != handoff.Erase {
			o = outcome{act: o.act, grant: o.grant, status: o.status, answer: Answer{Reason: handoff.WrongStatus}}
		}
		if len(o.events) == 0 {
			return s.tell(ctx, q, o)
		}

		seen, err := s.seen(ctx, &snap, cmd, &d, now)
		if err != nil { // nothing was written to the grant, and an unlock reserves nothing
			return outcome{}, err
		}
		if !seen {
			s.observer.Conflicted(cmd.Act)
			continue
		}

		change := s.changeOf(snap, q, cmd, &d, &o, now)
		if n := change.Count; n != nil {
			n.Seen = carrier.Wrong[snap.grant().ID.Hash.Partition()]
		}
		if q.Reservation != nil {
			q.Reservation.Held = false // it may be given back with a commit that is overtaken
		}
		id := change.Record.Commits[len(change.Record.Commits)-1]
		switch err := s.store.Commit(ctx, change); {
		case err == nil:
			if change.Count != nil {
				s.carriers.add(change.Count, o.grant.ID.Hash.Partition())
			}
			s.observer.Decided(o.act, o.answer.Reason, o.events)
			return o, o.answer.refusal()
		case errors.Is(err, storage.ErrConflict):
			s.observer.Conflicted(cmd.Act)
			anew = change.Count != nil && change.Count.Wrong > 0
		case errors.Is(err, storage.ErrUnknownOutcome):
			tried[id] = o
		default: // nothing was written
			s.settle(ctx, q.settlement(nil))
			return outcome{}, err
		}
	}
	if len(tried) == 0 { // else it may have been counted
		s.settle(ctx, q.settlement(nil))
	}
	return outcome{}, storage.ErrUnavailable
}

func noCarrier() (handoff.CarrierDay, error) { return handoff.CarrierDay{}, nil }

// pause waits before a try, not at all before the first three and then longer each
// time up to 50 ms, at random, so that those who met do not meet again.
func pause(ctx context.Context, try int) error {
	if try < 3 {
		return ctx.Err()
	}
	most := min(time.Duration(1)<<min(try-3, 6), 50) * time.Millisecond
	t := time.NewTimer(rand.N(most) + 1)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// changeOf is the commit of a decision: the grant after its events, and the memory
// that retries need.
func (s *Service) changeOf(snap Snapshot, q query, cmd handoff.Command, d *handoff.Decision, o *outcome, now time.Time) Change {
	var next Record
	if snap.Record != nil {
		next = *snap.Record
	}
	if cmd.Act == handoff.Mint && d.Refusal == nil {
		next = Record{Grant: handoff.Seed(d.Events[0].Grant, *cmd.Dispatch, handoff.CodeState{})}
		if d.Events[0].Issue != 0 {
			next.Grant.Code.Secret = q.secret
		}
	}
	next.Grant = handoff.Replay(next.Grant, d.Events)
	next.Commits = keep(next.Commits, commitsKept, s.commitID())
	if q.attempt != "" {
		next.Answers = keep(next.Answers, answersKept, o.answer)
	}
	if q.note != "" {
		next.Notes = keep(next.Notes, notesKept, Note{At: handoff.InstantOf(now), Act: cmd.Act, Text: q.note})
	}
	o.grant, o.status = next.Grant, next.Grant.Status

	if next.Grant.Scrubbed != nil {
		next.Notes = nil // they may name people
	}
	change := Change{From: snap.Version, Record: next, Events: d.Events, Archived: snap.Archived, Now: handoff.InstantOf(now)}
	if cmd.Act == handoff.Open && d.Refusal == nil {
		change.Permit = q.Permit
	}
	if d.Wrong != 0 || d.Released != 0 {
		change.Count = &CarrierCount{Carrier: next.Grant.Dispatch.Carrier, Hour: handoff.HourOf(handoff.InstantOf(now)), Wrong: d.Wrong, Released: d.Released}
	}
	change.Settle = q.settlement(d.Events)
	return change
}

// settlement is how a decision with these events ends the request's reservation; nil if
// it made none.
func (q *query) settlement(events []handoff.Event) *Settlement {
	if q.Reservation == nil {
		return nil
	}
	st := &Settlement{Reservation: *q.Reservation}
	for i := range events {
		if e := &events[i]; e.Type == handoff.EventCodeRefused {
			st.Counted, st.Excused = true, e.Excused
		}
	}
	return st
}

func keep[T any](list []T, most int, v T) []T {
	list = append(slices.Clone(list), v)
	return list[max(0, len(list)-most):]
}

func (s *Service) commitID() CommitID {
	var b [8]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		panic("handoff: the source of randomness failed: " + err.Error())
	}
	return CommitID(binary.LittleEndian.Uint64(b[:]))
}

// tell answers with what needs no commit of its own (any more), and settles the
// reservation as the answer demands. Giving back twice, or counting twice, is harmless.
func (s *Service) tell(ctx context.Context, q query, o outcome) (outcome, error) {
	s.settle(ctx, q.settlement(o.events))
	s.observer.Decided(o.act, o.answer.Reason, o.events)
	return o, o.answer.refusal()
}

// settleWithin is how long one try to settle may take, and settleFor how long a failed
// one is tried again behind the answer: less than it takes to be abandoned.
const (
	settleWithin = 5 * time.Second
	settleFor    = 30 * time.Second
)

// settle ends the request's reservation. One that cannot be settled takes up a place
// until it is abandoned, so that a store that stumbles is asked again.
func (s *Service) settle(ctx context.Context, st *Settlement) {
	if st == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	try := func() error {
		ctx, cancel := context.WithTimeout(ctx, settleWithin)
		defer cancel()
		return s.store.Settle(ctx, *st)
	}
	if try() == nil {
		return
	}
	s.settling.Go(func() {
		giveUp := time.Now().Add(settleFor)
		for n := 3; time.Now().Before(giveUp); n++ {
			if pause(ctx, n) == nil && try() == nil {
				return
			}
		}
		s.observer.Unsettled()
	})
}

// committed looks for a commit in doubt among those the record remembers.
func committed(r *Record, tried map[CommitID]outcome) (outcome, bool) {
	if r == nil || len(tried) == 0 {
		return outcome{}, false
	}
	for _, id := range r.Commits {
		if o, ok := tried[id]; ok {
			return o, true
		}
	}
	return outcome{}, false
}

// answered finds what this courier's attempt was told before.
func (q *query) answered(r *Record, act handoff.Act) (outcome, bool) {
	if q.attempt == "" || r == nil {
		return outcome{}, false
	}
	for _, a := range r.Answers {
		if a.Attempt != q.attempt || a.Courier != q.Courier.ID {
			continue
		}
		o := outcome{act: act, grant: r.Grant, answer: a}
		o.status = statusAfter[act]
		if !bytes.Equal(a.Digest, q.digest) {
			o.answer.Reason, o.answer.Verdict, o.answer.Left, o.answer.Replaced = handoff.AttemptReused, nil, 0, 0
		}
		return o, true
	}
	return outcome{}, false
}

// statusAfter is what a courier's act, once done, left behind; the grant may have moved on.
var statusAfter = map[handoff.Act]handoff.Status{handoff.Release: handoff.Released, handoff.Collect: handoff.Collected, handoff.Abort: handoff.Active, handoff.Attempt: handoff.Active, handoff.Open: handoff.Active}

// answerOf puts a decision into the form that is remembered and told.
func (q *query) answerOf(d *handoff.Decision, cmd handoff.Command, now time.Time) Answer {
	a := Answer{Attempt: q.attempt, Courier: cmd.Evidence.Courier.ID, Digest: q.digest, At: handoff.InstantOf(now), Verdict: d.Verdict.Bytes()}
	if d.Refusal != nil {
		a.Reason, a.Left, a.retry = d.Refusal.Reason, d.Refusal.AttemptsLeft, d.Refusal.RetryAfter
		a.Replaced = d.Refusal.ReplacedAt
	} else if len(d.Events) > 0 {
		a.Distance = d.Events[0].Distance
		a.Permit, a.Relock = d.Events[0].Permit, d.Events[0].Relock
	}
	return a
}

// refusal is the answer as the error it is, or nil.
func (a *Answer) refusal() error {
	if a.Reason == "" {
		return nil
	}
	r := &handoff.Refusal{Reason: a.Reason, AttemptsLeft: a.Left, ReplacedAt: a.Replaced, RetryAfter: a.retry}
	for i, b := range a.Verdict {
		if i < len(r.Verdict) {
			r.Verdict[i] = handoff.Result(b)
		}
	}
	return r
}
