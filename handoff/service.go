package handoff

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"latchkey/otp"
)

// Clock tells the time. It is injected, so that a day takes a test no time.
type Clock interface{ Now() time.Time }

// Namer is a keyed hash (a pseudo-random function of at least 32 bytes) over a list
// of parts. Its key never rotates, since grants are found by it.
type Namer interface {
	Name(domain string, parts ...string) []byte
}

// Observer hears of every decision that was told to a caller. It must not block, and
// sees no codes.
type Observer interface {
	Decided(act Act, reason Reason, events []Event)
	Conflicted(act Act)

	// Unsettled says that a guess could not be settled, and takes up a place for a while.
	Unsettled()
}

// Service runs commands: it loads, lets [Decide] judge and [Apply] change, and commits.
// The loop that does so, change, is the only one there is.
type Service struct {
	store    Store
	policy   *Policy
	clock    Clock
	names    Namer
	random   io.Reader
	keypads  Keypads
	observer Observer
	settling sync.WaitGroup // what goes on behind answers
	carriers carriers
}

// Config is what a Service is made of. All fields but Observer are required.
type Config struct {
	Store    Store
	Policy   *Policy
	Clock    Clock
	Namer    Namer
	Random   io.Reader // a cryptographic source
	Keypads  Keypads
	Observer Observer
}

// NewService makes a Service. The error names what is missing or wrong.
func NewService(c Config) (*Service, error) {
	switch {
	case c.Store == nil, c.Policy == nil, c.Clock == nil, c.Namer == nil, c.Random == nil, c.Keypads == nil:
		return nil, errors.New("handoff: a service needs a store, a policy, a clock, a namer, randomness and keypads")
	}
	if err := c.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("handoff: policy: %w", err)
	}
	if c.Observer == nil {
		c.Observer = deaf{}
	}
	s := &Service{store: c.Store, policy: c.Policy, clock: c.Clock, names: c.Namer, random: c.Random, keypads: c.Keypads, observer: c.Observer}
	s.carriers.store, s.carriers.clock, s.carriers.reading, s.carriers.views = c.Store, c.Clock, &s.settling, map[string]*carrierView{}
	return s, nil
}

type deaf struct{}

func (deaf) Decided(Act, Reason, []Event) {}
func (deaf) Conflicted(Act)               {}
func (deaf) Unsettled()                   {}

// Policy is the policy in force.
func (s *Service) Policy() *Policy { return s.policy }

// ParcelHash is the name under which the grants of a carrier's parcel are kept.
func (s *Service) ParcelHash(carrier, parcel string) ParcelHash {
	return ParcelHash(hex.EncodeToString(s.names.Name("grant", carrier, parcel)[:hashLen/2]))
}

// Dispatch makes the grant of a parcel that left the warehouse. Created is false
// where the same dispatch came before: its grant is returned, in whatever status.
// A *Refusal says why there is none.
func (s *Service) Dispatch(ctx context.Context, d Dispatch) (g Grant, created bool, err error) {
	return s.DispatchBy(ctx, Actor{}, d)
}

// DispatchBy is Dispatch where it is known who asks: the event says so by a pseudonym.
func (s *Service) DispatchBy(ctx context.Context, by Actor, d Dispatch) (g Grant, created bool, err error) {
	secret, err := otp.NewSecret(s.random)
	if err != nil {
		return Grant{}, false, err
	}
	hash := s.ParcelHash(d.Carrier, d.Parcel)
	mint := Command{Act: Mint, Parcel: hash, Dispatch: &d, Who: s.Who(by)}
	var index *Index
	// What Decide would refuse to mint, and only answers if it came before, is not indexed.
	if fresh := Decide(nil, mint, Facts{Policy: s.policy}, s.clock.Now()); fresh.Refusal == nil {
		index = s.index(&d, d.Route, d.Day)
	}
	q := query{
		Query: Query{Parcel: hash, Index: index},
		command: func(found *Snapshot) Command {
			c := mint
			if g := found.grant(); g != nil && g.Scrubbed != nil {
				c.Digest = s.digestOf(&d)
			}
			return c
		},
		secret: secret,
	}
	o, err := s.change(ctx, q)
	var refused *Refusal
	if errors.As(err, &refused) && refused.Reason == DispatchConflict && o.grant.Dispatch.Shop == d.Shop {
		return s.dispatchedBefore(ctx, o.grant, by, d, err)
	}
	if err != nil {
		return Grant{}, false, err
	}
	return o.grant, len(o.events) > 0, nil
}

// dispatchedBefore resolves a conflict with a parcel's newest grant: the dispatch may
// be an older generation's sent again, or follow a grant whose window is over but
// which the sweeper has not closed yet.
func (s *Service) dispatchedBefore(ctx context.Context, newest Grant, by Actor, d Dispatch, conflict error) (Grant, bool, error) {
	if newest.Status == Active && newest.StatusAt(s.clock.Now()) == Expired && d.Day.After(newest.Day()) {
		if err := s.Expire(ctx, newest.ID); err != nil {
			return Grant{}, false, err
		}
		return s.DispatchBy(ctx, by, d)
	}
	for n := newest.ID.Generation - 1; n >= 1; n-- {
		snap, err := s.store.Load(ctx, Query{Parcel: newest.ID.Hash, Generation: n})
		switch {
		case err != nil:
			return Grant{}, false, err
		case snap.Record != nil && snap.Record.Grant.madeBy(&d, s.digestOf(&d)):
			return snap.Record.Grant, false, nil
		}
	}
	return Grant{}, false, conflict
}

// digestOf is a keyed digest of all that a dispatch says.
func (s *Service) digestOf(d *Dispatch) []byte { return s.names.Name("dispatch", d.parts()...)[:16] }

func (s *Service) index(d *Dispatch, route string, day Date) *Index {
	zone, err := Zone(d.To.Zone)
	if err != nil {
		return nil // Decide refuses it
	}
	w, err := DayWindow(day, zone)
	if err != nil {
		return nil
	}
	return &Index{
		Customer: CustomerRef{Shop: d.Shop, ID: d.Customer.ID},
		Route:    RouteRef{Carrier: d.Carrier, Route: route, Day: day},
		Order:    s.orderRef(d.Shop, d.Order, day),
		Until:    w.Until, Now: InstantOf(s.clock.Now()),
	}
}

func (s *Service) orderRef(shop, order string, day Date) (o OrderRef) {
	if order == "" {
		return o
	}
	copy(o.Name[:], s.names.Name("order", shop, order))
	o.Day = day
	return o
}

// OfOrder lists the newest grants of a shop's order that are, or at some time were, to be
// delivered on a day.
func (s *Service) OfOrder(ctx context.Context, shop, order string, day Date) ([]Grant, error) {
	ids, err := s.store.OfOrder(ctx, s.orderRef(shop, order, day))
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	grants, err := s.listed(ctx, ids, func(g *Grant) bool { return g.Dispatch.Shop == shop && g.Dispatch.Order == order })
	slices.SortFunc(grants, func(a, b Grant) int { return strings.Compare(a.Dispatch.Parcel, b.Dispatch.Parcel) })
	return grants, err
}

// Presentation is a courier's request at a door.
type Presentation struct {
	Courier  CourierRef
	Parcel   string
	Code     otp.Code // zero: none entered
	Position *Position

	// Device is on which device the courier works, as its token says; empty if it does not.
	Device string

	// Claimed is when it was done, by the device's clock; zero if it told no time.
	Claimed time.Time

	// Attempt is the caller's id for this request, under which it may be repeated: the
	// first answer is given again. Empty: every request is a new attempt.
	Attempt string

	// Note is why the courier does it, in the courier's words. Abort and Attempted only.
	Note string
}

// Receipt says that an act was done.
type Receipt struct {
	Grant    GrantID
	Parcel   string
	Act      Act
	Status   Status
	Courier  string
	At       time.Time
	Placed   bool // whether a place was asked for
	Distance int  // meters from it, rounded to ten
}

// Verify hands a parcel over, or takes a return along, whichever the parcel is for.
// The error is a *Refusal, ErrUnavailable, or the store's.
func (s *Service) Verify(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "verify", func(g *Grant) Act {
		if g == nil {
			return Release
		}
		return g.Dispatch.Purpose.Act()
	})
}

// Abort takes a handoff back: the courier made it a moment ago and it did not happen.
func (s *Service) Abort(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "abort", func(*Grant) Act { return Abort })
}

// Attempted records that the courier was there and nobody answered.
func (s *Service) Attempted(ctx context.Context, p Presentation) (Receipt, error) {
	return s.present(ctx, p, "attempted", func(*Grant) Act { return Attempt })
}

func (s *Service) present(ctx context.Context, p Presentation, kind string, act func(*Grant) Act) (Receipt, error) {
	q := query{
		Query: Query{Parcel: s.ParcelHash(p.Courier.Carrier, p.Parcel), Courier: &p.Courier},
		note:  p.Note,
		command: func(found *Snapshot) Command {
			return Command{Act: act(found.grant()), Target: Parcel, Evidence: Evidence{
				Courier: p.Courier, Parcel: p.Parcel, Position: p.Position, Code: p.Code,
				Device: s.device(p.Courier, p.Device), Claimed: claimed(p.Claimed),
			}}
		},
	}
	if p.Attempt != "" {
		q.attempt, q.digest = p.Attempt, s.digest(p, kind)
	}
	if !p.Code.IsZero() {
		q.Reservation = &Reservation{Courier: p.Courier, Token: token(), At: InstantOf(s.clock.Now())}
	}
	o, err := s.change(ctx, q)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{
		Grant: o.grant.ID, Parcel: o.grant.Dispatch.Parcel, Act: o.act, Status: o.status,
		Courier: o.answer.Courier, At: o.answer.At.Time(),
		Placed: Result(o.answer.Verdict[ProofPlace]) == OK, Distance: o.answer.Distance,
	}, nil
}

// digest is a keyed hash of what a repeated attempt must repeat. It is kept with the
// sealed grant, for as long as the grant.
func (s *Service) digest(p Presentation, kind string) []byte {
	return s.attemptDigest(p.Claimed, p.Courier.Carrier, p.Courier.ID, p.Attempt, kind, p.Parcel, p.Code.Reveal(), position(p.Position), p.Note)
}

// attemptDigest adds a time to what was said, where one was told.
func (s *Service) attemptDigest(claimed time.Time, said ...string) []byte {
	if !claimed.IsZero() {
		said = append(said, claimed.UTC().Format(time.RFC3339))
	}
	return s.names.Name("attempt", said...)[:8]
}

func claimed(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return InstantOf(t)
}

// Who is the pseudonym under which events name an actor; empty if it is nobody in particular.
func (s *Service) Who(by Actor) string { return Pseudonym(s.names, "who", by.Subject) }

// Pseudonym is a keyed hash of who or what somebody is, 8 bytes in hexadecimal: the same
// each time, so that a trail can be followed, and meaningless without the key. Of nobody
// it is empty.
func Pseudonym(names Namer, domain, subject string) string {
	if subject == "" {
		return ""
	}
	return hex.EncodeToString(names.Name(domain, subject)[:8])
}

// device is the pseudonym of a courier's device. Carriers give out ids of their own.
func (s *Service) device(c CourierRef, id string) string {
	if id == "" {
		return ""
	}
	return Pseudonym(s.names, "device", c.Carrier+" "+id)
}

func position(p *Position) string {
	if p == nil {
		return "none"
	}
	b := strconv.AppendInt(make([]byte, 0, 64), int64(p.Point.Lat), 10)
	b = strconv.AppendInt(append(b, ' '), int64(p.Point.Lon), 10)
	b = strconv.AppendFloat(append(b, ' '), p.Accuracy, 'g', -1, 64)
	return string(strconv.AppendFloat(append(b, ' '), p.Age, 'g', -1, 64))
}

// Knock is a courier's request at a door of a building.
type Knock struct {
	Courier   CourierRef
	Door      string
	Parcel    string // as read at the door
	Position  *Position
	Challenge []byte // the door's own, read at the door; empty if none
	Attempt   string // as in Presentation

	Device  string    // as in Presentation
	Claimed time.Time // as in Presentation
}

// Permission says that a door may be opened: what a permit for it must say, or whose
// minute's PIN to tell.
type Permission struct {
	Permit    PermitID
	Grant     GrantID
	Ref       [8]byte // names the grant to the door, and means nothing to it
	Door      Door
	Challenge []byte
	Relock    int // seconds; 0: as the door is set itself
	At        time.Time

	// Minute is the minute since 1970 whose PIN it is, at a keypad. No other permission has
	// the same PIN.
	Minute uint64
}

// Unlock decides whether a courier may open a door. The parcel's grant is asked, and no
// code is: the code stays between customer and courier.
//
// A refusal is told to the building, too. One that has a grant is an event of that grant;
// one that has none is told of the first twenty of a carrier at a door in an hour, and then
// of how many there were.
func (s *Service) Unlock(ctx context.Context, k Knock) (Permission, error) {
	var permit PermitID
	if _, err := io.ReadFull(s.random, permit[:]); err != nil {
		return Permission{}, fmt.Errorf("handoff: a new permit: %w", err)
	}
	parcel := s.ParcelHash(k.Courier.Carrier, k.Parcel)
	var door *Door
	q := query{
		Query: Query{
			Parcel: parcel, Courier: &k.Courier, Door: k.Door,
			Permit: &PermitRef{Permit: permit, Parcel: parcel, Door: k.Door, Claim: token()},
		},
		command: func(found *Snapshot) Command {
			c := Command{Act: Open, Permit: permit, Evidence: Evidence{
				Courier: k.Courier, Parcel: k.Parcel, Position: k.Position, Challenge: k.Challenge,
				Device: s.device(k.Courier, k.Device), Claimed: claimed(k.Claimed),
			}}
			if door = found.Door; door != nil {
				c.Target = door.Kind
			}
			return c
		},
	}
	if k.Attempt != "" {
		q.attempt = k.Attempt
		q.digest = s.attemptDigest(k.Claimed, k.Courier.Carrier, k.Courier.ID, k.Attempt, "unlock", k.Door, k.Parcel, position(k.Position), hex.EncodeToString(k.Challenge))
	}
	o, err := s.change(ctx, q)
	var refused *Refusal
	if errors.As(err, &refused) && refused.Reason == ParcelUnknown && door != nil {
		if failed := s.turnStranger(ctx, &k, door); failed != nil {
			return Permission{}, failed
		}
	}
	if err != nil {
		return Permission{}, err
	}
	if door == nil { // an attempt answered before, at a door that is gone
		return Permission{}, &Refusal{Reason: AccessRefused}
	}
	p := Permission{
		Permit: o.answer.Permit, Grant: o.grant.ID, Ref: DoorRef(s.names, o.grant.ID), Door: *door,
		Challenge: k.Challenge, Relock: o.answer.Relock, At: o.answer.At.Time(),
	}
	if door.Mode == Keypad {
		return s.minuteOf(p)
	}
	return p, nil
}

// minuteOf finds the minute of a PIN by its name.
func (s *Service) minuteOf(p Permission) (Permission, error) {
	for p.Minute = minuteOf(p.At); p.Minute <= minuteOf(p.At)+pinsAhead; p.Minute++ {
		if id, err := s.keypads.Permit(p.Door.Keypad, p.Minute); err != nil {
			return Permission{}, fmt.Errorf("handoff: the keypad of door %s: %w", p.Door.ID, err)
		} else if id == p.Permit {
			return p, nil
		}
	}
	return Permission{}, &Refusal{Reason: AccessRefused} // answered before, and the key is another by now
}

// token is random: two requests never share one.
func token() string { return strconv.FormatUint(rand.Uint64(), 36) }

// DoorRef names a grant to a door: the same each time, and nothing that the door could
// know the grant by.
func DoorRef(names Namer, id GrantID) (ref [8]byte) {
	copy(ref[:], names.Name("door", id.String()))
	return ref
}

// Reported records what a door says of one of its permits. Saying it again is harmless.
func (s *Service) Reported(ctx context.Context, door string, permit PermitID, state DoorState) error {
	ref, err := s.store.Permit(ctx, permit)
	if err != nil {
		return err
	}
	if ref == nil || ref.Door != door {
		return &Refusal{Reason: PermitUnknown}
	}
	_, err = s.change(ctx, query{
		Query: Query{Parcel: ref.Parcel},
		command: func(*Snapshot) Command {
			return Command{Act: Report, By: Actor{Role: RoleDoor}, Door: door, Permit: permit, State: state}
		},
	})
	return err
}

// UnlockOf reads how far a permit of a door came, and the grant that it is of.
func (s *Service) UnlockOf(ctx context.Context, door string, permit PermitID) (Unlock, Grant, error) {
	ref, err := s.store.Permit(ctx, permit)
	if err != nil {
		return Unlock{}, Grant{}, err
	}
	if ref != nil && ref.Door == door {
		snap, err := s.store.Load(ctx, Query{Parcel: ref.Parcel})
		if err != nil {
			return Unlock{}, Grant{}, err
		}
		if g := snap.grant(); g != nil {
			if u := g.Unlock(permit); u != nil {
				return *u, *g, nil
			}
		}
	}
	return Unlock{}, Grant{}, &Refusal{Reason: PermitUnknown}
}

// Consent sets which kinds of door, of garage and home, the customer agrees to have
// opened. What was used cannot be taken back.
func (s *Service) Consent(ctx context.Context, by Actor, id GrantID, kinds []TargetKind) (Grant, error) {
	return s.order(ctx, id, Command{Act: Consent, By: by, Consents: kinds}, "")
}

// Recall calls a parcel back: its rights end at once.
func (s *Service) Recall(ctx context.Context, by Actor, id GrantID, note string) (Grant, error) {
	return s.order(ctx, id, Command{Act: Recall, By: by}, note)
}

// Reschedule moves a parcel to a later day. An empty route keeps the route.
func (s *Service) Reschedule(ctx context.Context, by Actor, id GrantID, day Date, route string) (Grant, error) {
	return s.order(ctx, id, Command{Act: Reschedule, By: by, Day: day, Route: route}, "")
}

// Resend mails the code that counts once more.
func (s *Service) Resend(ctx context.Context, by Actor, id GrantID) (Grant, error) {
	return s.order(ctx, id, Command{Act: Resend, By: by}, "")
}

// Reissue mints a new code; the one before is superseded.
func (s *Service) Reissue(ctx context.Context, by Actor, id GrantID) (Grant, error) {
	return s.order(ctx, id, Command{Act: Reissue, By: by}, "")
}

// Hold stops everything about a grant until Lift.
func (s *Service) Hold(ctx context.Context, by Actor, id GrantID, note string) (Grant, error) {
	return s.order(ctx, id, Command{Act: Hold, By: by}, note)
}

// Lift ends a hold.
func (s *Service) Lift(ctx context.Context, by Actor, id GrantID, note string) (Grant, error) {
	return s.order(ctx, id, Command{Act: Lift, By: by}, note)
}

// AskOverride asks for a release by hand, which a second person must approve with Override
// before the wish ends (Limits.OverrideMinutes).
func (s *Service) AskOverride(ctx context.Context, by Actor, id GrantID, note string) (Grant, error) {
	return s.order(ctx, id, Command{Act: AskOverride, By: by}, note)
}

// Override approves what somebody else asked for, and releases the parcel.
func (s *Service) Override(ctx context.Context, by Actor, id GrantID) (Grant, error) {
	return s.order(ctx, id, Command{Act: Override, By: by}, "")
}

// order runs a command that needs no courier.
func (s *Service) order(ctx context.Context, id GrantID, c Command, note string) (Grant, error) {
	c.Who = s.Who(c.By)
	q := query{Query: Query{Parcel: id.Hash, Generation: id.Generation}, note: note}
	q.command = func(*Snapshot) Command { return c }
	if c.Act == Reschedule {
		// The index is written ahead of the commit, so the address must be known first.
		g, err := s.Grant(ctx, c.By, id)
		if err != nil {
			return Grant{}, err
		}
		if fresh := Decide(&g, c, Facts{Policy: s.policy}, s.clock.Now()); fresh.Refusal != nil {
			return Grant{}, fresh.Refusal
		}
		route := c.Route
		if route == "" {
			route = g.Route()
		}
		q.Index = s.index(&g.Dispatch, route, c.Day)
	}
	o, err := s.change(ctx, q)
	if err != nil {
		return Grant{}, err // and not the grant: it may be somebody else's
	}
	return o.grant, nil
}

// Erase forgets a customer: their browsers are signed out, everything about them leaves
// their closed grants at once, and each grant that is still open as soon as it closes. It
// returns how many were closed and how many are open. Doing it again is harmless, and
// finishes what broke off.
func (s *Service) Erase(ctx context.Context, c CustomerRef) (erased, open int, err error) {
	if err := s.store.RemoveSessionsOf(ctx, c); err != nil {
		return 0, 0, err
	}
	for after := (Listed{}); ; {
		list, err := s.store.OfCustomer(ctx, c, after, erasedAtOnce)
		if err != nil || len(list) == 0 {
			return erased, open, err
		}
		for _, l := range list {
			closed, stay, err := s.eraseParcel(ctx, c, l.Parcel)
			erased, open, after = erased+closed, open+stay, l
			if err != nil {
				return erased, open, err
			}
		}
	}
}

// erasedAtOnce is how much of a customer's list is read in one trip.
const erasedAtOnce = 256

// eraseParcel forgets the customer of all generations of a parcel's grants, and takes the
// parcel off the customer's list unless one is open.
func (s *Service) eraseParcel(ctx context.Context, c CustomerRef, hash ParcelHash) (erased, open int, err error) {
	snap, err := s.store.Load(ctx, Query{Parcel: hash})
	if err != nil {
		return 0, 0, err
	}
	for n := snap.Version.Generation(); n >= 1; n-- {
		id := GrantID{Hash: hash, Generation: n}
		g, err := s.eraseOne(ctx, c, id)
		switch {
		case err != nil:
			return erased, open, err
		case g == nil:
		case g.Status.Closed():
			erased++
			if err := s.Expire(ctx, id); err != nil {
				return erased, open, err
			}
		default:
			open++
		}
	}
	if open > 0 {
		return erased, open, nil
	}
	return erased, open, s.store.Unlist(ctx, c, hash)
}

// eraseOne marks a grant; nil if it is not this customer's.
func (s *Service) eraseOne(ctx context.Context, c CustomerRef, id GrantID) (*Grant, error) {
	owner := Actor{Role: RoleCustomer, Shop: c.Shop, Customer: c.ID}
	_, err := s.Grant(ctx, owner, id)
	var refused *Refusal
	if errors.As(err, &refused) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g, err := s.order(ctx, id, Command{Act: Erase, By: Actor{Role: RoleOps}}, "")
	return &g, err
}

// Expire does to a grant what time alone does: it closes one whose window is over, notes
// that a door did not answer, and lets go of what it knows of people. A grant to which
// nothing is due is left as it is, without an error: any number of sweepers may meet at
// one grant.
func (s *Service) Expire(ctx context.Context, id GrantID) error {
	var forgotten *CustomerRef
	o, err := s.change(ctx, query{
		Query: Query{Parcel: id.Hash, Generation: id.Generation},
		command: func(found *Snapshot) Command {
			c := Command{Act: Expire, By: Actor{Role: RoleService}}
			if g := found.grant(); g != nil && g.Status.Closed() {
				if c.Digest = g.Scrubbed; c.Digest == nil {
					c.Digest = s.digestOf(&g.Dispatch)
				}
				if g.EraseAsked {
					forgotten = &CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
				}
			}
			return c
		},
	})
	var refused *Refusal
	switch {
	case err == nil && forgotten != nil:
		return s.store.Unlist(ctx, *forgotten, id.Hash)
	case errors.As(err, &refused) && refused.Reason == GrantUnknown && o.grant.ID == GrantID{}:
		return s.store.Unschedule(ctx, id)
	case errors.As(err, &refused):
		return nil
	}
	return err
}

// Sweep does what is due (see Expire) to up to limit grants of each partition, and
// reports how many it looked at. One that fails does not keep back the others.
func (s *Service) Sweep(ctx context.Context, limit int) (int, error) {
	swept := 0
	var failed []error
	for _, partition := range rand.Perm(Partitions) { // sweepers that start together should not march together
		due, err := s.store.Due(ctx, partition, InstantOf(s.clock.Now()), limit)
		if err != nil {
			return swept, errors.Join(append(failed, err)...)
		}
		for _, id := range due {
			swept++
			if err := s.Expire(ctx, id); err != nil {
				failed = append(failed, fmt.Errorf("grant %s: %w", id, err))
			}
			if ctx.Err() != nil {
				return swept, errors.Join(failed...)
			}
		}
	}
	return swept, errors.Join(failed...)
}

// Grant reads one grant on behalf of an actor, to whom another's does not exist.
func (s *Service) Grant(ctx context.Context, by Actor, id GrantID) (Grant, error) {
	r, err := s.Record(ctx, by, id)
	if err != nil {
		return Grant{}, err
	}
	return r.Grant, nil
}

// Record is Grant with the notes that people made.
func (s *Service) Record(ctx context.Context, by Actor, id GrantID) (Record, error) {
	snap, err := s.store.Load(ctx, Query{Parcel: id.Hash, Generation: id.Generation})
	if err != nil {
		return Record{}, err
	}
	if snap.Record == nil || !by.may(&snap.Record.Grant) {
		return Record{}, &Refusal{Reason: GrantUnknown}
	}
	return *snap.Record, nil
}

// OfCustomer lists up to limit of a customer's grants, the one that ends last first,
// beginning after a place (zero: with the first). Next is where to go on; zero at the
// end. Entries of the list that count for nothing leave a page shorter.
func (s *Service) OfCustomer(ctx context.Context, c CustomerRef, after Listed, limit int) (grants []Grant, next Listed, err error) {
	list, err := s.store.OfCustomer(ctx, c, after, limit)
	if err != nil || len(list) == 0 {
		return []Grant{}, Listed{}, err
	}
	ids := make([]ParcelHash, len(list))
	place := make(map[ParcelHash]int, len(list))
	for i, l := range list {
		ids[i], place[l.Parcel] = l.Parcel, i
	}
	by := Actor{Role: RoleCustomer, Shop: c.Shop, Customer: c.ID}
	if grants, err = s.listed(ctx, ids, by.may); err != nil {
		return nil, Listed{}, err
	}
	slices.SortFunc(grants, func(a, b Grant) int { return place[a.ID.Hash] - place[b.ID.Hash] })
	if len(list) == limit {
		next = list[limit-1]
	}
	return grants, next, nil
}

// Stops lists the grants on the routes that a courier drives at this hour.
func (s *Service) Stops(ctx context.Context, ref CourierRef) ([]Grant, error) {
	now := s.clock.Now()
	courier, err := s.store.Courier(ctx, ref)
	if err != nil || !courier.cleared(now) {
		if err == nil {
			err = &Refusal{Reason: CourierNotCleared}
		}
		return nil, err
	}
	stops := []Grant{}
	for _, drive := range courier.Drives {
		grants, err := s.OnRoute(ctx, RouteRef{Carrier: ref.Carrier, Route: drive.Route, Day: drive.Day})
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			if g.Window.Contains(now) {
				stops = append(stops, g)
			}
		}
	}
	return stops, nil
}

// OnRoute lists the grants that are on a carrier's route on a day.
func (s *Service) OnRoute(ctx context.Context, r RouteRef) ([]Grant, error) {
	ids, err := s.store.OnRoute(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.listed(ctx, ids, func(g *Grant) bool {
		return g.Dispatch.Carrier == r.Carrier && g.Route() == r.Route && g.Day() == r.Day
	})
}

// StopID names a grant on a courier's list, where neither its id nor its parcel's may stand.
func (s *Service) StopID(id GrantID) string { return Pseudonym(s.names, "stop", id.String()) }

func (s *Service) listed(ctx context.Context, ids []ParcelHash, counts func(*Grant) bool) ([]Grant, error) {
	if len(ids) == 0 {
		return []Grant{}, nil
	}
	grants, err := s.store.Many(ctx, ids)
	if err != nil {
		return nil, err
	}
	grants = slices.DeleteFunc(grants, func(g Grant) bool { return !counts(&g) })
	slices.SortFunc(grants, func(a, b Grant) int {
		if a.Window.Until != b.Window.Until {
			return int(b.Window.Until - a.Window.Until)
		}
		return bytes.Compare([]byte(a.ID.Hash), []byte(b.ID.Hash))
	})
	return grants, nil
}

// query is one run of change.
type query struct {
	Query
	command func(*Snapshot) Command
	secret  otp.Secret // mint
	attempt string
	digest  []byte
	note    string

	minute uint64      // of the PIN that Permit names
	claims []PermitRef // of PINs, as far as they may be held
}

// outcome is what change did, or found done.
type outcome struct {
	act    Act
	status Status // after the decision
	grant  Grant
	answer Answer
	events []Event
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
		var carrier CarrierDay
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

		facts := Facts{Policy: s.policy, Courier: snap.Courier, Budget: snap.Account.Budget(s.policy.Limits, now), Door: snap.Door, Carrier: carrier}
		if facts.Claim, err = s.claimed(&q, &snap); err != nil {
			return outcome{}, err
		}
		d := Decide(g, cmd, facts, now)
		if d.Wait && cmd.Act == Open {
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
		if len(d.Events) > 0 && snap.Archived && cmd.Act != Expire && cmd.Act != Erase {
			o = outcome{act: o.act, grant: o.grant, status: o.status, answer: Answer{Reason: WrongStatus}}
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
		case errors.Is(err, ErrConflict):
			s.observer.Conflicted(cmd.Act)
			anew = change.Count != nil && change.Count.Wrong > 0
		case errors.Is(err, ErrUnknownOutcome):
			tried[id] = o
		default: // nothing was written
			s.settle(ctx, q.settlement(nil))
			return outcome{}, err
		}
	}
	if len(tried) == 0 { // else it may have been counted
		s.settle(ctx, q.settlement(nil))
	}
	return outcome{}, ErrUnavailable
}

// claim has the next load claim a PIN at the keypad of the door that was found: that of
// this minute, or of the one after the minute that was claimed before and taken.
func (s *Service) claim(q *query, found *Snapshot, before *Claim, now time.Time) error {
	q.minute = minuteOf(now)
	if before != nil && before.Minute >= q.minute {
		q.minute = before.Minute + 1
	}
	id, err := s.keypads.Permit(found.Door.Keypad, q.minute)
	if err != nil {
		return fmt.Errorf("handoff: the keypad of door %s: %w", q.Door, err)
	}
	ref := *q.Permit
	ref.Permit = id
	q.Permit, q.claims = &ref, append(q.claims, ref)
	return nil
}

// claimed is what a load said of the PIN that it claimed; nil if it claimed none, or one
// of a key that the door no longer has.
func (s *Service) claimed(q *query, found *Snapshot) (*Claim, error) {
	if q.minute == 0 || found.Door == nil || found.Door.Mode != Keypad {
		return nil, nil
	}
	id, err := s.keypads.Permit(found.Door.Keypad, q.minute)
	if err != nil || id != q.Permit.Permit {
		return nil, err
	}
	if !found.Claimed {
		q.claims = slices.DeleteFunc(q.claims, func(ref PermitRef) bool { return ref.Permit == id })
	}
	return &Claim{Permit: id, Minute: q.minute, Held: found.Claimed}, nil
}

// unclaim gives back the PINs that were claimed and not used, so that others may have
// them. One that cannot be given back lapses, and its minute with it.
func (s *Service) unclaim(ctx context.Context, q *query, used PermitID) {
	for _, ref := range q.claims {
		if ref.Permit != used {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
			_ = s.store.Unclaim(ctx, ref)
			cancel()
		}
	}
}

func noCarrier() (CarrierDay, error) { return CarrierDay{}, nil }

// seen claims the place at which a permit is to be given out: a courier who asks at two
// distant doors at once is at one of them at most. True where no place is at stake.
func (s *Service) seen(ctx context.Context, snap *Snapshot, cmd Command, d *Decision, now time.Time) (bool, error) {
	if cmd.Act != Open || d.Refusal != nil || snap.Door.Location == nil {
		return true, nil
	}
	return s.store.See(ctx, cmd.Evidence.Courier, snap.Courier.Seen, Sighting{At: InstantOf(now), Place: *snap.Door.Location})
}

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
func (s *Service) changeOf(snap Snapshot, q query, cmd Command, d *Decision, o *outcome, now time.Time) Change {
	var next Record
	if snap.Record != nil {
		next = *snap.Record
	}
	if cmd.Act == Mint && d.Refusal == nil {
		next = Record{Grant: Seed(d.Events[0].Grant, *cmd.Dispatch, CodeState{})}
		if d.Events[0].Issue != 0 {
			next.Grant.Code.Secret = q.secret
		}
	}
	next.Grant = Replay(next.Grant, d.Events)
	next.Commits = keep(next.Commits, commitsKept, s.commitID())
	if q.attempt != "" {
		next.Answers = keep(next.Answers, answersKept, o.answer)
	}
	if q.note != "" {
		next.Notes = keep(next.Notes, notesKept, Note{At: InstantOf(now), Act: cmd.Act, Text: q.note})
	}
	o.grant, o.status = next.Grant, next.Grant.Status

	if next.Grant.Scrubbed != nil {
		next.Notes = nil // they may name people
	}
	change := Change{From: snap.Version, Record: next, Events: d.Events, Archived: snap.Archived, Now: InstantOf(now)}
	if cmd.Act == Open && d.Refusal == nil {
		change.Permit = q.Permit
	}
	if d.Wrong != 0 || d.Released != 0 {
		change.Count = &CarrierCount{Carrier: next.Grant.Dispatch.Carrier, Hour: HourOf(InstantOf(now)), Wrong: d.Wrong, Released: d.Released}
	}
	change.Settle = q.settlement(d.Events)
	return change
}

// settlement is how a decision with these events ends the request's reservation; nil if
// it made none.
func (q *query) settlement(events []Event) *Settlement {
	if q.Reservation == nil {
		return nil
	}
	st := &Settlement{Reservation: *q.Reservation}
	for i := range events {
		if e := &events[i]; e.Type == EventCodeRefused {
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

// Close waits for what is still being settled behind answers that were given.
func (s *Service) Close() { s.settling.Wait() }

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
func (q *query) answered(r *Record, act Act) (outcome, bool) {
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
			o.answer.Reason, o.answer.Verdict, o.answer.Left, o.answer.Replaced = AttemptReused, nil, 0, 0
		}
		return o, true
	}
	return outcome{}, false
}

// statusAfter is what a courier's act, once done, left behind; the grant may have moved on.
var statusAfter = map[Act]Status{Release: Released, Collect: Collected, Abort: Active, Attempt: Active, Open: Active}

// answerOf puts a decision into the form that is remembered and told.
func (q *query) answerOf(d *Decision, cmd Command, now time.Time) Answer {
	a := Answer{Attempt: q.attempt, Courier: cmd.Evidence.Courier.ID, Digest: q.digest, At: InstantOf(now), Verdict: d.Verdict.bytes()}
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
	r := &Refusal{Reason: a.Reason, AttemptsLeft: a.Left, ReplacedAt: a.Replaced, RetryAfter: a.retry}
	for i, b := range a.Verdict {
		if i < len(r.Verdict) {
			r.Verdict[i] = Result(b)
		}
	}
	return r
}

func (v Verdict) bytes() []byte {
	b := make([]byte, len(v))
	for i, r := range v {
		b[i] = byte(r)
	}
	return b
}
