package handoff

import (
	"encoding/hex"
	"slices"
	"time"
)

// PermitID names one permit for one door: 128 random bits, or what a PIN is named by at
// a keypad. Outside it reads as 32 hexadecimal digits.
type PermitID [16]byte

// String is the id in hexadecimal; empty for none.
func (id PermitID) String() string {
	if id == (PermitID{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// ParsePermitID reads what String writes, and no other spelling.
func ParsePermitID(text string) (id PermitID, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != text {
		return PermitID{}, false
	}
	copy(id[:], b)
	return id, id != PermitID{}
}

// Unlock is one permit and how far it came. It says what the door said, and no more:
// what was not reported is not known.
type Unlock struct {
	Permit PermitID   `cbor:"1,keyasint"`
	Door   string     `cbor:"2,keyasint"`
	Target TargetKind `cbor:"3,keyasint"`
	At     Instant    `cbor:"4,keyasint"` // when it was given out

	State DoorState `cbor:"5,keyasint"`
	Since Instant   `cbor:"6,keyasint"` // by the service's clock

	// Awaited says that the door has a way to answer.
	Awaited bool `cbor:"7,keyasint,omitempty"`

	// Said are the states that were reported, a bit for each, so that saying one again
	// changes nothing.
	Said uint16 `cbor:"8,keyasint,omitempty"`
}

// unlocksKept is how many permits a grant remembers. One that is live is never forgotten,
// or it could not be taken back: while all of them are live, no further one is given out.
const unlocksKept = 16

// permitLives is how long after it was given out a permit can still open its door, and
// the door still answer. A permit has 60 s of its own, the 30 s that a door grants its clock
// and the 30 s by which that clock may really be slow; a PIN of the next minute up to 210 s
// in all. To these comes the time that a door has for its answer.
const permitLives = 210*time.Second + answerWithin

func (u *Unlock) live(now Instant) bool { return now.Time().Sub(u.At.Time()) < permitLives }

// forgettable is where the oldest permit stands that is not live; -1 if all are.
func forgettable(unlocks []Unlock, now Instant) int {
	return slices.IndexFunc(unlocks, func(u Unlock) bool { return !u.live(now) })
}

// remember adds a permit, for which the oldest that is not live makes room.
func remember(unlocks []Unlock, u Unlock) []Unlock {
	unlocks = slices.Clone(unlocks)
	if len(unlocks) >= unlocksKept {
		i := max(0, forgettable(unlocks, u.At))
		unlocks = slices.Delete(unlocks, i, i+1)
	}
	return append(unlocks, u)
}

// DoorState is how far an unlock came, each step reported by the door itself but for
// the first and the last.
type DoorState uint8

// The states.
const (
	_              DoorState = iota
	DoorAuthorised           // the service gave a permit out
	DoorDelivered            // the door has it
	DoorConfirmed            // the lock confirmed that it let go
	DoorOpened               // the door's contact says that it was opened
	DoorRelocked             // locked again
	DoorFailed               // the lock did not do it
	DoorRefused              // the door did not accept the permit
	DoorSilent               // no answer: the door said nothing for 15 s, or said that its lock did not answer
)

var doorStateNames = enum[DoorState]{
	DoorAuthorised: "authorised", DoorDelivered: "delivered", DoorConfirmed: "confirmed", DoorOpened: "opened",
	DoorRelocked: "relocked", DoorFailed: "failed", DoorRefused: "refused", DoorSilent: "no-answer",
}

func (s DoorState) String() string { return doorStateNames.name(s) }

// doorEvents are the events of the states that a door can report.
var doorEvents = map[DoorState]EventType{
	DoorDelivered: EventDoorDelivered, DoorConfirmed: EventDoorConfirmed, DoorOpened: EventDoorOpened,
	DoorRelocked: EventDoorRelocked, DoorFailed: EventDoorFailed, DoorRefused: EventDoorRefused, DoorSilent: EventDoorSilent,
}

// DoorState is the state that an event reports of a permit. Every event that reports none
// counts as the permit's first state.
func (t EventType) DoorState() DoorState {
	for state, event := range doorEvents {
		if event == t {
			return state
		}
	}
	return DoorAuthorised
}

// follows reports whether a door can go from one state to another. Reports may be lost
// or late, so that steps may be missing; none may go backwards, and what was locked again
// has ended. A door that was silent may still be heard, a permit that came too early may
// be brought again, and a lock that did not lock again may be opened until it does.
func (s DoorState) follows(before DoorState) bool {
	switch before {
	case DoorRelocked:
		return false
	case DoorFailed:
		return s == DoorOpened || s == DoorRelocked
	case DoorRefused:
		return s <= DoorFailed
	case DoorSilent:
		return s != DoorSilent
	case DoorConfirmed, DoorOpened:
		return s > before && s <= DoorFailed
	}
	return s > before
}

// answerWithin is how long a door that can answer is waited for.
const answerWithin = 15 * time.Second

// unanswered reports whether the door is still waited for. It is given up once: what it
// says afterwards stands, however late.
func (u *Unlock) unanswered() bool {
	return u.Awaited && (u.State == DoorAuthorised || u.State == DoorDelivered) && u.Said&(1<<DoorSilent) == 0
}

func (u *Unlock) deadline() Instant { return InstantOf(u.At.Time().Add(answerWithin)) }

// Unlock returns the unlock of a permit, or nil.
func (g *Grant) Unlock(id PermitID) *Unlock {
	i := slices.IndexFunc(g.Unlocks, func(u Unlock) bool { return u.Permit == id })
	if i < 0 {
		return nil
	}
	return &g.Unlocks[i]
}

// doorRefusalsKept is how many refusals at doors the log keeps of one grant: enough to see
// that something is wrong, too few to flood the log from outside.
const doorRefusalsKept = 20

// elsewhereKept bounds, like doorRefusalsKept, what one grant can write to the log.
const elsewhereKept = 5

// turnAway is a refusal. At a door it is told to the building as well, and far from the
// address to one who looks for patterns.
func (d *deliberation) turnAway(reason Reason) Decision {
	refused := d.refuse(reason)
	if atParcel := d.cmd.Act == Release || d.cmd.Act == Collect; atParcel && reason == OutsideGeofence &&
		d.grant.Elsewhere < elsewhereKept && d.distance() >= d.facts.Policy.Signals.Far {
		e := d.event(EventElsewhere)
		e.Distance = d.distance()
		refused.Events = []Event{e}
	}
	if d.cmd.Act == Open && d.facts.Door != nil && d.grant.DoorRefusals < doorRefusalsKept {
		e := d.atDoor(EventAccessRefused)
		e.Reason = reason
		if reason == ImpossibleJourney {
			e.Type = EventImpossible
		}
		refused.Events = []Event{e}
	}
	return refused
}

func (d *deliberation) atDoor(t EventType) Event {
	e := d.event(t)
	e.Door, e.Building, e.Target, e.Distance = d.facts.Door.ID, d.facts.Door.Building.ID, d.facts.Door.Kind, d.distance()
	return e
}

func open(d *deliberation) Decision {
	right, door := d.grant.Right(Open, d.cmd.Target), d.facts.Door
	var way visit
	if door != nil {
		way = d.grant.visit(right, door.ID, d.facts.Policy.Limits, d.now)
	}
	switch {
	case door == nil || door.Kind != d.cmd.Target:
		return d.turnAway(AccessRefused)
	case way == visitOver:
		return d.turnAway(VisitOver)
	case door.Location != nil && d.facts.Courier.LastDoor.tooFar(*door.Location, d.now):
		return d.turnAway(ImpossibleJourney)
	case len(d.grant.Unlocks) >= unlocksKept && forgettable(d.grant.Unlocks, InstantOf(d.now)) < 0:
		refused := d.turnAway(TooManyPermits)
		refused.Refusal.RetryAfter = d.grant.Unlocks[0].At.Time().Add(permitLives).Sub(d.now)
		return refused
	}
	permit := d.cmd.Permit
	if door.Mode == Keypad {
		if undecided := d.weighPIN(); undecided != nil {
			return *undecided
		}
		permit = d.facts.PIN.Permit
	}
	if permit == (PermitID{}) {
		return d.turnAway(AccessRefused)
	}
	e := d.atDoor(EventPermitted)
	// A keypad may report as well, but the service does not know when the courier will have typed.
	e.Permit, e.Awaited = permit, door.Mode == Connected || door.Mode == Bridged
	e.Relock = door.Relock
	if d.verdict[ProofPresence] == OK {
		e.Challenge = d.evidence().Challenge
	}
	if way == visitAgain {
		return d.accept(e, d.atDoor(EventVisitAgain))
	}
	return d.accept(e)
}

// PinsAhead is how many minutes ahead of its own a PIN may be given out: a keypad accepts
// that of the next minute too.
const PinsAhead = 1

func MinuteOf(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) / 60 }

// ReservedPIN is what came of reserving a PIN for an unlock.
type ReservedPIN struct {
	Permit PermitID // the PIN's name
	Minute uint64   // since 1970
	Held   bool     // it is this unlock's; false: another unlock has it
}

// weighPIN weighs the PIN that was reserved. Nil: it may be given out. A PIN belongs to one
// unlock, so that all unlocks at one keypad in one minute share the few PINs that it accepts.
// A PIN is reserved only when all else holds: a refused courier reserves no PIN. The refusal
// KeypadBusy is not remembered: the same attempt may ask again.
func (d *deliberation) weighPIN() *Decision {
	pin, minute := d.facts.PIN, MinuteOf(d.now)
	if len(d.facts.Door.Keypad) == 0 {
		return ptr(d.turnAway(AccessRefused))
	}
	if pin == nil || pin.Minute < minute {
		return &Decision{Wait: true}
	}
	switch given := d.grant.Unlock(pin.Permit) != nil; {
	case pin.Held && !given && pin.Minute <= minute+PinsAhead:
		return nil
	case pin.Minute < minute+PinsAhead:
		return &Decision{Wait: true}
	}
	busy := d.refuse(KeypadBusy)
	busy.Refusal.RetryAfter = time.Unix(int64(minute+1)*60, 0).Sub(d.now)
	return &busy
}

// The fastest that a courier travels between two doors, and the distance within which
// doors count as one place.
const (
	fastest  = 45.0  // meters a second, 160 km/h
	onePlace = 500.0 // meters
)

// tooFar reports whether a courier who was at the last door cannot be at a place now.
func (l *LastDoor) tooFar(place Point, now time.Time) bool {
	if l == nil {
		return false
	}
	return l.Place.Distance(place)-onePlace > fastest*max(0, now.Sub(l.At.Time()).Seconds())
}

// consent sets what the customer agrees to. What who came by a shop's link would add waits for
// a resident of the door's unit; what they take back counts at once. The
// service itself may take consents back, when a customer moved out, and gives none.
func consent(d *deliberation) Decision {
	if d.cmd.By.Role != RoleCustomer && len(d.cmd.Consents) > 0 {
		return d.refuse(GrantUnknown)
	}
	agreed := slices.Compact(slices.Sorted(slices.Values(d.cmd.Consents)))
	if refused := d.deniesConsent(agreed); refused != nil {
		return *refused
	}
	asked := d.grant.ConsentAsked(d.now)
	switch {
	case d.cmd.By.Link != "" && len(d.grant.NewConsents(agreed)) > 0:
		return d.askConsent(agreed, asked)
	case asked == nil && slices.Equal(agreed, d.grant.Consents):
		return d.accept()
	}
	e := d.event(EventConsented)
	e.Consents = agreed
	return d.accept(e)
}

// askConsent leaves a consent to be confirmed, and says so as a refusal: nothing is agreed to
// yet. Asking the same again at once causes no second mail.
func (d *deliberation) askConsent(agreed []TargetKind, waits *ConsentAsk) Decision {
	g, limits := d.grant, d.facts.Policy.Limits
	switch {
	case !d.cmd.Reachable:
		return d.refuse(NoConfirmedAddress)
	case waits != nil && slices.Equal(waits.Consents, agreed) && d.now.Sub(waits.At.Time()) < limits.ResendEvery:
		return d.refuse(ConfirmationSent)
	case g.ConsentAsk != nil && g.ConsentAsk.Count >= limits.Resends:
		refused := d.refuse(ConfirmationLimit)
		refused.Refusal.RetryAfter = g.Window.Until.Time().Sub(d.now)
		return refused
	}
	e := d.event(EventConsentAsked)
	e.Consents = agreed
	refused := d.refuse(ConfirmationSent)
	refused.Events = []Event{e}
	return refused
}

// confirmConsent agrees to what was asked for. It is still said to come of the shop's link.
func confirmConsent(d *deliberation) Decision {
	asked := d.grant.ConsentAsked(d.now)
	if asked == nil || asked.ID() != d.cmd.Wish {
		return d.refuse(ConfirmationOver)
	}
	if refused := d.deniesConsent(asked.Consents); refused != nil {
		return *refused
	}
	e := d.event(EventConsented)
	e.Consents, e.Link = asked.Consents, asked.Link
	return d.accept(e)
}

// deniesConsent is why a list of kinds cannot be what is agreed to; nil if it can.
func (d *deliberation) deniesConsent(agreed []TargetKind) *Decision {
	g := d.grant
	for _, kind := range agreed {
		if right := g.Right(Open, kind); right == nil || !right.Proofs.Has(ProofConsent) {
			return ptr(d.refuse(NoConsentNeeded))
		}
	}
	// A permit may have been used unless the door refused it; one of a day before a
	// reschedule is over.
	used := func(u Unlock) bool {
		return u.State != DoorRefused && u.At >= g.Window.From && slices.Contains(g.Consents, u.Target) && !slices.Contains(agreed, u.Target)
	}
	if slices.ContainsFunc(g.Unlocks, used) {
		return ptr(d.refuse(ConsentUsed))
	}
	return nil
}

// report records what a door says of a permit of its own. What it said before, or what
// comes too late to be news, changes nothing.
func report(d *deliberation) Decision {
	u := d.grant.Unlock(d.cmd.Permit)
	if u == nil || u.Door != d.cmd.Door {
		return d.refuse(PermitUnknown)
	}
	t, known := doorEvents[d.cmd.State]
	if !known {
		return d.refuse(UnknownAct)
	}
	if u.Said&(1<<d.cmd.State) != 0 || !d.cmd.State.follows(u.State) {
		return d.accept()
	}
	e := d.doorEvent(t, u)
	if d.cmd.State == DoorRefused {
		e.Reason = d.cmd.Why
	}
	return d.accept(e)
}

func (d *deliberation) doorEvent(t EventType, u *Unlock) Event {
	e := d.event(t)
	e.Permit, e.Door, e.Target, e.Building = u.Permit, u.Door, u.Target, d.grant.Dispatch.To.Building
	return e
}

// reported moves an unlock on. A garage or home that opened ends its visit: the right
// was to go in once.
func reported(unlocks []Unlock, visits []Visit, e Event) ([]Unlock, []Visit) {
	unlocks = slices.Clone(unlocks)
	for i := range unlocks {
		if u := &unlocks[i]; u.Permit == e.Permit {
			for state, t := range doorEvents {
				if t == e.Type {
					u.State, u.Since = state, e.At
					u.Said |= 1 << state
				}
			}
		}
	}
	if e.Type == EventDoorOpened && (e.Target == Garage || e.Target == Home) {
		visits = slices.Clone(visits)
		for i := range visits {
			if visits[i].Door == e.Door {
				visits[i].Over = true
			}
		}
	}
	return unlocks, visits
}
