package service

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
)

// Guesses keeps the couriers' budgets and the carriers' days. A guess is one request with a
// code, as long as it is not known to be wrong.
type Guesses interface {
	// Settle ends a guess outside of a commit: it becomes a counted wrong code, excused or
	// not, or is given back. Settling twice is harmless, and a counted one is not given back.
	// An excused one may be forgotten after two days. The error is storage.ErrUnavailable.
	Settle(ctx context.Context, s Settlement) error

	// CarrierDay reads what a carrier's couriers have done with codes in the 24 hours before
	// now, and up to an hour before these. Its parts are of about the same moment. The error
	// is storage.ErrUnavailable.
	CarrierDay(ctx context.Context, carrier string, now handoff.Instant) (handoff.CarrierDay, error)
}

// Guess is one guess reserved in a courier's budget.
type Guess struct {
	Courier handoff.CourierRef
	ID      string          // random: no request gives back what another was charged
	At      handoff.Instant // when the request came, by its instance's clock

	// Held says that an earlier Prepare made the reservation, and that this one only reads
	// how it stands.
	Held bool
}

// Settlement ends a guess.
type Settlement struct {
	Guess
	Counted bool // a wrong code was counted; false gives the reservation back
	Excused bool // with Counted: it was a slip or a superseded code, and no guess

	// To is the customer to whom a counted one was said, as handoff.ChargeName tells it. Every
	// settlement of a guess names the same.
	To string
}

// guess is the reservation of a request that brings a code: a place in the courier's budget.
//
// A code that was compared and found wrong is charged, even if its commit came to nothing:
// else a courier who can make commits fail could guess without end. An answer other than
// "wrong code" costs nothing, since it tells nothing of the code.
type guess struct {
	Guess
	service *Service
	wrong   *handoff.Event // the code was compared, and found wrong; the newest such event
	to      string         // the customer of the parcel at hand; empty while it is not read
}

func (s *Service) guess(courier handoff.CourierRef) *guess {
	return &guess{service: s, Guess: Guess{Courier: courier, ID: randomID(), At: handoff.InstantOf(s.clock.Now())}}
}

func (g *guess) reserve(_ context.Context, want *Preparation) {
	reserved := g.Guess
	want.Guess = &reserved
}

func (g *guess) weigh(p *pass) error {
	g.to = p.customer
	return nil
}

func (g *guess) name(_ context.Context, p *pass) error {
	p.change.Settle = g.settlement(codeRefused(p.decision.Events))
	return nil
}

func (g *guess) missed(p *pass, why error) error {
	if wrong := codeRefused(p.decision.Events); wrong != nil {
		g.wrong = wrong
	}
	// A guess that waits keeps its place in the queue. One whose commit failed may have been
	// given back with it, and is reserved anew.
	g.Held = errors.Is(why, errUndecided) && p.Account.Placed
	return nil
}

func (g *guess) settle(ctx context.Context, e ending) {
	wrong := codeRefused(e.events)
	switch {
	case e.acknowledged:
		return // the store settled it: with the commit, or behind it (redisstore.Commit)
	case e.committed: // the reply was lost, perhaps before the store settled it
	case e.gaveUp, e.doubtful:
		wrong = g.wrong
	}
	g.service.settleGuess(ctx, *g.settlement(wrong))
}

// settlement counts the guess as the wrong code of an event, or gives it back where there is none.
func (g *guess) settlement(wrong *handoff.Event) *Settlement {
	return &Settlement{Guess: g.Guess, Counted: wrong != nil, Excused: wrong != nil && wrong.Excused, To: g.to}
}

// codeRefused is the event of a wrong code; nil if none was counted.
func codeRefused(events []handoff.Event) *handoff.Event {
	for i := range events {
		if events[i].Type == handoff.EventCodeRefused {
			return &events[i]
		}
	}
	return nil
}

// settleWithin is how long one try to settle may take, and settleFor how long a failed
// one is tried again behind the answer: less than it takes until the reservation lapses. The first
// try again comes settleFirst after that, and later ones at most settleRests after one another: in an
// outage of the store each request leaves a guess to settle.
const (
	settleWithin = 5 * time.Second
	settleFor    = 30 * time.Second
	settleFirst  = 10 * time.Millisecond
	settleRests  = time.Second
)

// settleGuess ends a guess. One that cannot be settled takes up a place in the budget until it
// lapses, so the store is asked again behind the answer.
func (s *Service) settleGuess(ctx context.Context, st Settlement) {
	try := func(ctx context.Context) error { return s.store.Settle(ctx, st) }
	if inTime(ctx, try) {
		return
	}
	s.settling.Go(func() {
		giveUp := time.Now().Add(settleFor) // by the process's own monotonic clock
		behind := context.WithoutCancel(ctx)
		for wait := settleFirst; time.Now().Before(giveUp); wait = min(2*wait, settleRests) {
			if clock.Sleep(behind, wait/2+rand.N(wait/2)) == nil && inTime(behind, try) {
				return
			}
		}
		s.observer.Unsettled()
	})
}

// inTime tries an ending in what is left of the request's time, and no longer than settleWithin:
// nothing that an answer waits for has a time of its own. It reports whether it went well.
func inTime(ctx context.Context, try func(context.Context) error) bool {
	if ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return try(ctx) == nil
}

// randomID is 64 random bits: no two requests share one.
func randomID() string { return strconv.FormatUint(rand.Uint64(), 36) }
