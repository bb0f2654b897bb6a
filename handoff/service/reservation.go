package service

import "context"

// reservation is something in another Redis slot than the grant's that a request takes
// along: a guess in the courier's budget, a wrong code in the carrier's day, a PIN of a
// keypad, the courier's last door, entries in lists. One script cannot commit it together
// with the grant. So the loop drives each through the same steps:
//
//  1. reserve, in the trip that reads;
//  2. weigh what the trip answered, as a fact of the decision;
//  3. name it in the commit, with how it ends there;
//  4. settle it behind the commit: used, or given back. In doubt it counts against the
//     courier who may be guessing.
//
// A new kind of reservation needs a type with these methods, a field in Preparation or
// Change that the store keeps, and no change of the loop. It embeds unreserved for the steps
// that it does not need.
type reservation interface {
	// reserve adds to a trip what it is to reserve.
	reserve(ctx context.Context, want *Preparation)

	// weigh turns what the trip answered into a fact. An error ends the pass.
	weigh(p *pass) error

	// name adds to the pass's change how the reservation ends with it. A reservation that
	// is known only from the decision is made here, by a trip of its own: an error then
	// says that nothing may be committed (storage.ErrConflict: that another pass may).
	name(ctx context.Context, p *pass) error

	// missed hears that a pass led to no commit that is known of, and why: errUndecided
	// (the decision waits for a reservation), storage.ErrConflict, storage.ErrUnknownOutcome,
	// or an error after which there is no other pass. An error of its own takes the place of
	// that one.
	missed(p *pass, why error) error

	// settle ends the reservation, once, when the run ends. Ending it twice (the store may
	// have seen the first) is harmless.
	settle(ctx context.Context, e ending)
}

// ending is how a run ended.
type ending struct {
	outcome       // zero, if it gave up
	doubtful bool // a commit was sent whose outcome was unknown, at least for a while
	gaveUp   bool // there is no answer
}

// unreserved has every step of a reservation, and does nothing.
type unreserved struct{}

func (unreserved) reserve(context.Context, *Preparation) {}
func (unreserved) weigh(*pass) error                     { return nil }
func (unreserved) name(context.Context, *pass) error     { return nil }
func (unreserved) missed(*pass, error) error             { return nil }
func (unreserved) settle(context.Context, ending)        {}
