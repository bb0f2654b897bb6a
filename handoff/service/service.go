// Package service runs commands on grants: it reads, lets handoff.Decide judge and
// handoff.Apply change, and commits.
//
// change.go holds the loop; there is no other. What a request takes along beside its grant (a
// guess, a PIN, a carrier's count, a courier's last door, entries in lists) is a reservation:
// reservation.go has the protocol, and each kind has a file of its own.
//
// Words: a request is what is asked; a run is one request on its way through the loop, a pass
// one way through it. An attempt is a request with an id, under which it may be repeated. A
// guess is a request with a code. What is reserved is settled: used, or given back.
package service

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"latchkey/handoff"
	"latchkey/handoff/clock"
)

// Observer hears of every decision that was told to a caller. It must not block, and
// sees no codes.
type Observer interface {
	// Decided says what a caller was told: reason is empty if the act was done, and events
	// are what the decision caused.
	Decided(act handoff.Act, reason handoff.Reason, events []handoff.Event)

	// Conflicted says that another commit got in between, and that the act is decided again.
	Conflicted(act handoff.Act)

	// Unsettled says that a guess could not be settled. It takes up a place in its courier's
	// budget until it lapses.
	Unsettled()
}

// Service runs commands. It is safe for concurrent use; several may share a store.
//
// Its methods return a *handoff.Refusal where the answer is no, storage.ErrUnavailable where
// there is no answer for now (asking again later is right), and storage.ErrSealed where a
// stored value cannot be opened. Each method names the reasons that are its own.
type Service struct {
	store    Store
	policy   *handoff.Policy
	clock    clock.Clock
	names    handoff.Namer
	random   io.Reader
	keypads  Keypads
	observer Observer
	settling sync.WaitGroup // what goes on behind answers
	carriers carriers
	turns    turns
}

// Config is what a Service is made of. All fields but Observer are required.
type Config struct {
	Store    Store
	Policy   *handoff.Policy
	Clock    clock.Clock
	Namer    handoff.Namer // names grants, so it never changes
	Random   io.Reader     // a cryptographic source
	Keypads  Keypads
	Observer Observer
}

// New makes a Service. The error names what is missing or wrong.
func New(c Config) (*Service, error) {
	switch {
	case c.Store == nil, c.Policy == nil, c.Clock == nil, c.Namer == nil, c.Random == nil, c.Keypads == nil:
		return nil, errors.New("service: it needs a store, a policy, a clock, a namer, randomness and keypads")
	}
	if err := c.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("service: policy: %w", err)
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	s := &Service{store: c.Store, policy: c.Policy, clock: c.Clock, names: c.Namer, random: c.Random, keypads: c.Keypads, observer: c.Observer}
	s.carriers = carriers{
		store: c.Store, clock: c.Clock, elapsed: clock.Elapsed(c.Clock), limits: &c.Policy.Limits,
		reading: &s.settling, views: map[string]*carrierView{},
	}
	s.turns.taken = map[handoff.CourierRef]*turn{}
	return s, nil
}

// noObserver is the Observer of a service that is given none.
type noObserver struct{}

func (noObserver) Decided(handoff.Act, handoff.Reason, []handoff.Event) {}
func (noObserver) Conflicted(handoff.Act)                               {}
func (noObserver) Unsettled()                                           {}

// Policy is the policy in force.
func (s *Service) Policy() *handoff.Policy { return s.policy }

// refused refuses an act before anything is read, because of what was sent.
func (s *Service) refused(act handoff.Act, reason handoff.Reason) error {
	s.observer.Decided(act, reason, nil)
	return &handoff.Refusal{Reason: reason}
}

// ParcelHash is the name under which the grants of a carrier's parcel are kept. The parcel
// is its canonical id, as [handoff.Policy.Label] gives it.
func (s *Service) ParcelHash(carrier, parcel string) handoff.ParcelHash {
	return handoff.HashParcel(s.names, carrier, parcel)
}

// Who is the pseudonym under which events name an actor; empty for an actor without a subject.
func (s *Service) Who(by handoff.Actor) string { return handoff.Pseudonym(s.names, "who", by.Subject) }

// Close waits for what is still being settled behind answers that were given.
func (s *Service) Close() { s.settling.Wait() }
