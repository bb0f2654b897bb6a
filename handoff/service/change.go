package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/storage"
	"latchkey/otp"
)

// change runs a request: prepare, already answered?, decide, commit, settle. It goes round
// again while other commits get in between. A step that answers false has noted why.
//
// An answer waits for its commit. After a lost reply nothing is done twice: the
// next pass finds the commit among the grant's last sixteen, and a request with an attempt
// id finds the answer that the attempt was given.
func (s *Service) change(ctx context.Context, q request, beside ...reservation) (outcome, error) {
	r := &run{request: q, service: s, beside: beside, doubtful: map[CommitID]outcome{}}
	for r.again(ctx) {
		p, ok := r.prepare(ctx)
		if !ok {
			continue
		}
		o, done := r.answered(p)
		if !done {
			if o, done = r.decide(p); done {
				done = r.commit(ctx, p, &o)
			}
		}
		if done && r.confirm(ctx, o) {
			return r.settle(ctx, o)
		}
	}
	return r.giveUp(ctx)
}

// request is what is asked of a grant. It does not change while it runs.
type request struct {
	Query                                   // what to read
	command func(*Snapshot) handoff.Command // what is asked, given what was read
	attempt attempt                         // zero: the request cannot be repeated
	secret  otp.Secret                      // mint and confirm: of the grant's codes from here on
	note    string                          // a person's reason, which is kept beside the grant

	dispatch *handoff.Dispatch // mint: what makes the grant
}

// run is one request on its way through the loop: all that changes.
type run struct {
	request
	service  *Service
	beside   []reservation
	passes   int
	doubtful map[CommitID]outcome // commits that were sent and whose outcome is unknown
	err      error                // why the last pass came to no answer
	over     bool                 // another pass cannot help
}

// pass is one way through the loop.
type pass struct {
	Snapshot
	now      time.Time
	customer string // to whom a wrong code is charged, as handoff.ChargeName tells it
	facts    handoff.Facts
	command  handoff.Command
	decision handoff.Decision
	change   Change

	own      Version                   // of the parcel's own key; that of the grant is another where it is one of several
	pointed  []string                  // parcels of the grant beside its first whose keys name it
	newest   int                       // mint: the generation at the parcel's own key
	beside   map[string]*handoff.Grant // mint: of the other parcels
	claiming claiming                  // mint
}

// outcome is what a run did, or found done.
type outcome struct {
	act          handoff.Act
	status       handoff.Status // after the decision
	grant        handoff.Grant
	answer       Answer
	events       []handoff.Event
	committed    bool // the events are in the log
	acknowledged bool // the store said so, and has ended what the change names
	newest       int  // mint: the generation at the parcel's own key, as it was read

	contested []string // mint: parcels beside the first that another shop's grants have
}

// prepare reads the grant and the facts, and reserves what lies beside the grant, in one trip.
func (r *run) prepare(ctx context.Context) (*pass, bool) {
	want := Preparation{Query: r.Query}
	for _, b := range r.beside {
		b.reserve(ctx, &want)
	}
	found, err := r.service.store.Prepare(ctx, want)
	now := r.service.clock.Now()
	found.Door = found.Door.At(handoff.InstantOf(now)) // a change that is due counts before it is written
	p := &pass{Snapshot: found, now: now}
	if err == nil {
		err = r.follow(ctx, p)
	}
	if r.Courier != nil && p.Record != nil {
		p.customer = handoff.ChargeName(r.service.names, p.grant())
	}
	policy := r.service.policy
	budget := found.Account.Budget(policy.Limits, p.customer, p.now)
	p.facts = handoff.Facts{
		Policy: policy, Courier: found.Courier, Budget: budget, Door: found.Door,
		Pointed: p.pointed, Newest: p.newest, Beside: p.beside,
	}
	for _, b := range r.beside {
		if err == nil {
			err = b.weigh(p)
		}
	}
	if err != nil {
		return nil, r.failed("prepare", err)
	}
	p.command = r.command(&p.Snapshot)
	return p, true
}

// answered finds the run's own commit whose reply was lost, or what the attempt was told before.
func (r *run) answered(p *pass) (outcome, bool) {
	if p.Record == nil {
		return outcome{}, false
	}
	for _, id := range p.Record.Commits {
		if o, own := r.doubtful[id]; own {
			o.committed = true
			return o, true
		}
	}
	o, known := r.attempt.toldBefore(p.Record, p.command.Act)
	if !known {
		return o, false
	}
	var refused *handoff.Refusal
	switch {
	case !p.facts.Courier.Admits(p.command.Evidence.Issued): // who asks is not known to be the courier
		refused = &handoff.Refusal{Reason: handoff.SignedOut}
		refused.Verdict[handoff.ProofCourier] = handoff.Failed
	case o.answer.Reason == "" && o.act == handoff.Open:
		// A permit is a right and no receipt: it is given out again only while it would be given.
		refused = handoff.Repeat(p.grant(), p.command, p.facts, p.now)
	}
	if refused != nil {
		o.answer = Answer{Attempt: o.answer.Attempt, Courier: o.answer.Courier, At: handoff.InstantOf(p.now), Reason: refused.Reason, Verdict: refused.Verdict.Bytes()}
	}
	return o, true
}

// decide asks for the decision. It answers false where a reservation must be made, or must
// come to its turn, before anything can be decided.
func (r *run) decide(p *pass) (outcome, bool) {
	p.decision = handoff.Decide(p.grant(), p.command, p.facts, p.now)
	if p.decision.Wait {
		return outcome{}, r.missed(p, "decide", errUndecided)
	}
	o := outcome{act: p.command.Act, answer: r.attempt.answer(p), events: p.decision.Events, newest: p.newest}
	for parcel, g := range p.beside {
		if r.dispatch.Shop != g.Dispatch.Shop {
			o.contested = append(o.contested, parcel)
		}
	}
	if g := p.grant(); g != nil {
		o.grant, o.status = *g, g.Status
	}
	if byTime := o.act == handoff.Expire || o.act == handoff.Erase; p.Archived && !byTime && len(o.events) > 0 && !p.mints() {
		o.events, o.answer = nil, Answer{Reason: handoff.WrongStatus} // a later generation exists
	}
	return o, true
}

// mints reports whether a grant is made: what was read is of another one, if of any.
func (p *pass) mints() bool {
	return p.command.Act == handoff.Mint && p.decision.Refusal == nil && len(p.decision.Events) > 0
}

// commit writes what was decided, if anything: the grant after its events, and how each
// reservation ends.
func (r *run) commit(ctx context.Context, p *pass, o *outcome) bool {
	if len(o.events) == 0 {
		return true
	}
	id := r.service.commitID()
	p.change = r.changeOf(p, o.answer, id)
	o.grant, o.status = p.change.Record.Grant, p.change.Record.Grant.Status
	for _, b := range r.beside {
		if err := b.name(ctx, p); err != nil {
			return r.missed(p, "reserve ahead of the commit", err)
		}
	}
	err := r.service.store.Commit(ctx, p.change)
	if errors.Is(err, storage.ErrUnknownOutcome) {
		r.doubtful[id] = *o
	}
	if err != nil {
		return r.missed(p, "commit", err)
	}
	o.committed, o.acknowledged = true, true
	return true
}

// confirm makes sure that a yes lasts which rests on what was read: on a commit of which it is
// not known yet whether it would survive the loss of the server that has it.
func (r *run) confirm(ctx context.Context, o outcome) bool {
	if o.acknowledged || o.answer.Reason != "" {
		return true
	}
	parcel := r.Parcel
	if o.grant.ID.Hash != "" { // of which it is one of several
		parcel = o.grant.ID.Hash
	}
	if err := r.service.store.Confirm(ctx, parcel); err != nil {
		r.failed("confirm", err)
		r.over = true
		return false
	}
	return true
}

// settle ends every reservation as the outcome demands, and gives the answer.
func (r *run) settle(ctx context.Context, o outcome) (outcome, error) {
	for _, b := range r.beside {
		b.settle(ctx, ending{outcome: o, doubtful: len(r.doubtful) > 0})
	}
	r.service.observer.Decided(o.act, o.answer.Reason, o.events)
	return o, o.answer.refusal()
}

// giveUp ends every reservation of a run without an answer, and says why there is none. The
// error is storage.ErrUnavailable, unless a step's own error says more.
func (r *run) giveUp(ctx context.Context) (outcome, error) {
	for _, b := range r.beside {
		b.settle(ctx, ending{doubtful: len(r.doubtful) > 0, gaveUp: true})
	}
	if r.over && !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded) {
		return outcome{}, fmt.Errorf("service: %w", r.err)
	}
	return outcome{}, fmt.Errorf("%w: no answer in %d passes: %w", storage.ErrUnavailable, r.passes, r.err)
}

// missed tells every reservation that the pass committed nothing that is known of.
func (r *run) missed(p *pass, step string, err error) bool {
	if errors.Is(err, storage.ErrConflict) {
		r.service.observer.Conflicted(p.command.Act)
	}
	for _, b := range r.beside {
		if failed := b.missed(p, err); failed != nil {
			return r.failed(step, failed)
		}
	}
	return r.failed(step, err)
}

// failed notes why a step came to nothing. Another pass helps after a conflict, and is worth
// a try after anything else while a commit is in doubt.
func (r *run) failed(step string, err error) bool {
	r.err = fmt.Errorf("%s: %w", step, err)
	again := errors.Is(err, errUndecided) || errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrUnknownOutcome)
	r.over = !again && len(r.doubtful) == 0
	return false
}

// errUndecided says that a decision waits for a reservation.
var errUndecided = errors.New("a reservation is not made yet, or others are before it")

// maxPasses bounds the loop. A conflict means that another commit got through, and a grant
// takes no more than a dozen or so that count; waiting for a place in a courier's budget is
// rarer still.
const maxPasses = 40

// again reports whether there is to be another pass, and waits before it where the last ones
// met with other requests.
func (r *run) again(ctx context.Context) bool {
	if r.over || r.passes == maxPasses {
		return false
	}
	if err := pause(ctx, r.passes); err != nil {
		if r.err == nil {
			r.err = errors.New("before the first pass")
		}
		r.err, r.over = fmt.Errorf("%w, %w", r.err, err), true
		return false
	}
	r.passes++
	return true
}

// pause waits before the n-th pass, not at all before the first three and then longer each
// time up to 50 ms, at random, so that requests that met do not meet again. The error is ctx's.
func pause(ctx context.Context, n int) error {
	if n < 3 {
		return ctx.Err()
	}
	most := min(time.Duration(1)<<min(n-3, 6), 50) * time.Millisecond
	return clock.Sleep(ctx, rand.N(most)+1)
}
