package handoff

import (
	"bytes"
	"slices"
	"time"
)

// Command is what is asked of a grant.
type Command struct {
	Act    Act
	Target TargetKind // open: the kind of door; release and collect: Parcel

	Evidence Evidence // what a courier brings
	By       Actor    // who asks, if it is not a courier
	Who      string   // the pseudonym of By.Subject

	Parcel   ParcelHash   // mint
	Dispatch *Dispatch    // mint
	Unmade   int          // mint: no generation of the parcel up to this one was made by the dispatch; 0: not known
	Contest  bool         // mint: make no grant, but tell the shop whose grant the parcel has
	Permit   PermitID     // open: fresh randomness, since a decision has none of its own (not for a PIN); report: of which
	Door     string       // report: which door reports
	State    DoorState    // report: what it says
	Why      Reason       // report: of refused, the door's own reason
	Consents []TargetKind // consent: the kinds that the customer agrees to, all others not

	// Reachable says of a consent that who came by a shop's link asks for: an address was
	// confirmed for the doors' unit, to which the question can be mailed.
	Reachable bool

	// Digest is keyed and of a dispatch: mint's own, where the grant at hand was scrubbed;
	// expire: the grant's, for what must recognise it once it is scrubbed.
	Digest []byte

	// Wish is the id of what is approved. Override: of the wish; empty names the only one.
	// Confirm-consent: of the ask.
	Wish string

	Day   Date   // reschedule
	Route string // reschedule; empty keeps the route

	Ruling Ruling // settle-dispute

	Parcels []string // recall, account-for: which of several; nil: all that are still there

	Mail MailWord // tell-mail: of which code, what became of its mail and why; not At and Told
}

// Actor is who asks, where it is not a courier at a door.
type Actor struct {
	Role     Role
	Shop     string // of a shop or a customer
	Customer string // of a customer
	Carrier  string // of a carrier or a courier who asks for a receipt
	Courier  string // of such a courier

	// Subject is who it is, among all who may ask. It goes no further than Service, which
	// keeps a pseudonym of it.
	Subject string

	// Key is the id of the API key that was shown; empty where none was.
	Key string

	// Person says that it is a person's own token, and not a key, which any holder of
	// it can show.
	Person bool

	// Link is the pseudonym of who made the shop's link that let a customer in; empty where
	// none did. Such a customer may be the shop.
	Link string
}

// Role is the capacity in which a caller asks.
type Role string

// The roles. A courier's commands carry evidence, and no actor.
const (
	RoleShop     Role = "shop"
	RoleCustomer Role = "customer"
	RoleOps      Role = "ops"
	RoleService  Role = "service" // Latchkey itself: the sweeper, the mail
	RoleDoor     Role = "door"    // a door controller, for its own permits
	RoleManager  Role = "manager" // of a building
	RoleCarrier  Role = "carrier" // a carrier's dispatcher
	RoleCourier  Role = "courier" // who asks for the receipt of an own handoff

	// RoleResident is who lives in the unit of a garage or home, and was mailed about a grant.
	RoleResident Role = "resident"
)

// May reports whether the grant is this actor's to see. To others it does not exist.
func (a Actor) May(g *Grant) bool {
	switch a.Role {
	case RoleShop:
		return a.Shop == g.Dispatch.Shop
	case RoleCustomer:
		return a.Customer != "" && a.Shop == g.Dispatch.Shop && a.Customer == g.Dispatch.Customer.ID
	case RoleOps, RoleService, RoleDoor, RoleResident:
		return true
	}
	return false
}

// Decision is what Decide answers. Exactly one of these holds: Refusal is nil (then
// Events, if any, make it so), Refusal is set (Events record what a refusal costs: a
// wrong code is counted), or Wait is set (nothing was decided: try again).
type Decision struct {
	Verdict Verdict
	Refusal *Refusal
	Events  []Event
	Wait    bool

	// Wrong and Released are what this adds to the carrier's day.
	Wrong, Released int
}

// Counted reports whether a code was compared and found wrong.
func (d *Decision) Counted() bool {
	return slices.ContainsFunc(d.Events, func(e Event) bool { return e.Type == EventCodeRefused })
}

// Decide weighs a command against a grant (nil if there is none), the facts and the
// time. Every act is decided here and nowhere else. It does no I/O, reads no clock and
// draws no randomness, so that the same question always gets the same answer. What it
// does not know it refuses.
//
// Acts with proofs are judged in one fixed order, and the first that fails gives the
// reason: the courier, the courier's budget, the route, the grant's status, the time,
// the place, all other proofs, and last the code. The verdict names every proof all
// the same. A code is compared only when everything else holds; otherwise it is
// not-checked, and nothing is counted.
func Decide(g *Grant, cmd Command, facts Facts, now time.Time) Decision {
	facts.Door = facts.Door.At(InstantOf(now))
	d := &deliberation{grant: g, cmd: cmd, facts: facts, now: now}
	rule, known := rules[cmd.Act]
	switch {
	case !known || facts.Policy == nil:
		return d.refuse(UnknownAct)
	case cmd.Act == Mint:
		return d.mint()
	case rule.asks == nil:
		return d.refuse(UnknownAct)
	case len(rule.roles) > 0 && (g == nil || !cmd.By.May(g) || !slices.Contains(rule.roles, cmd.By.Role)):
		return d.refuse(GrantUnknown)
	case len(rule.roles) == 0 && (g == nil || !d.sameCarrier()):
		if d.signedOut() { // before anything is told of a parcel
			d.verdict[ProofCourier] = Failed
			return d.refuse(SignedOut)
		}
		return d.refuse(ParcelUnknown)
	}

	if reason := d.deny(rule); reason != "" {
		return d.turnAway(reason)
	}
	if g.Doubt != nil && rule.word {
		return d.refuse(NotConfirmed)
	}
	if d.asked.Has(ProofCode) {
		if refused := d.compareCode(); refused != nil {
			return *refused
		}
	}
	return rule.effect(d)
}

// Repeat judges once more an act that was done before, whose answer is asked for again: nil if
// every proof but the code holds now, else the refusal. It has no effect and counts nothing. An
// answer that opens something must not be given again without it.
func Repeat(g *Grant, cmd Command, facts Facts, now time.Time) *Refusal {
	facts.Door = facts.Door.At(InstantOf(now))
	d := &deliberation{grant: g, cmd: cmd, facts: facts, now: now}
	rule, known := rules[cmd.Act]
	if !known || rule.asks == nil || g == nil || facts.Policy == nil {
		return &Refusal{Reason: UnknownAct}
	}
	if reason := d.deny(rule); reason != "" {
		return d.refuse(reason).Refusal
	}
	return nil
}

// deny is why a rule's act is refused, the code aside; empty if it is not.
func (d *deliberation) deny(r rule) Reason {
	asked, granted := r.asks(d)
	d.asked = asked
	d.judge(asked)
	if reason := d.firstFailure(r); reason != "" {
		return reason
	}
	switch {
	case !granted:
		return AccessRefused
	case (d.cmd.Act == Release || d.cmd.Act == Collect) && d.leavesSome():
		return AllOrNothing
	}
	return ""
}

// leavesSome reports whether some would be left of several that are handed over all or none.
func (d *deliberation) leavesSome() bool {
	g := d.grant
	return g.Group != nil && g.Group.AllOrNothing &&
		slices.ContainsFunc(g.There(), func(p string) bool { return !slices.Contains(d.scanned(), p) })
}

// gone is why none of the parcels that were read can be handed over any more, though the
// grant may be active for others; empty where all are still there, or are not the grant's.
func (d *deliberation) gone(r rule) Reason {
	if d.grant.Group == nil || len(r.roles) > 0 || !r.named || d.status() == Held {
		return ""
	}
	for _, parcel := range d.scanned() {
		switch s := d.grant.StatusOf(parcel, d.now); s {
		case Released, Collected, Recalled:
			return r.wrongStatus(s)
		}
	}
	return ""
}

// possible reports whether the grant's status lets the act be done.
func (d *deliberation) possible(r rule) bool {
	s := d.status()
	return slices.Contains(r.from, s) || r.part && d.grant.Group != nil && d.grant.Handoff != nil && (s == Active || s == Expired)
}

// rule is what makes one act differ from another.
type rule struct {
	// from lists the statuses in which the act is possible.
	from []Status

	// part says that the act is about what was handed over, and so is possible while others of
	// several parcels are still there.
	part bool

	// asks says which proofs must hold, and whether the grant has a right to the act at all.
	asks func(*deliberation) (asked ProofSet, granted bool)

	// roles are who may order the act; empty where a courier does it.
	roles []Role

	// named says that a wrong status is told by its name (already-released, recalled)
	// and not just as wrong-status.
	named bool

	// word says that the act is a person's word about a grant that is held. One in doubt waits
	// for its shop's dispatch, and for no such word: it would bring back what was put back.
	word bool

	effect func(*deliberation) Decision
}

// rules is the table of acts: the rights ask what the grant's own right asks, and
// everything else asks the same of every grant.
var rules map[Act]rule

func init() { // not a literal: the effects reach back to the table
	rules = map[Act]rule{
		Release: {from: []Status{Active}, asks: byRight, named: true, effect: handOver},
		Collect: {from: []Status{Active}, asks: byRight, named: true, effect: handOver},
		Open:    {from: []Status{Active}, asks: byRight, named: true, effect: open},
		Attempt: {from: []Status{Active}, asks: onRoute, named: true, effect: attempted},
		Abort:   {from: []Status{Released}, part: true, asks: sameHand, effect: abort},

		Mint:           {},
		Recall:         {from: []Status{Active}, roles: []Role{RoleShop}, asks: nothing, effect: recall},
		Reschedule:     {from: []Status{Active, Expired}, roles: []Role{RoleShop}, asks: nothing, effect: reschedule},
		Resend:         {from: []Status{Active}, roles: []Role{RoleCustomer, RoleShop}, asks: nothing, named: true, effect: resend},
		Reissue:        {from: []Status{Active}, roles: []Role{RoleCustomer, RoleShop}, asks: nothing, named: true, effect: reissue},
		Expire:         {from: everyStatus, roles: []Role{RoleService}, asks: nothing, effect: expire},
		Consent:        {from: []Status{Active}, roles: []Role{RoleCustomer, RoleService}, asks: nothing, named: true, effect: consent},
		ConfirmConsent: {from: []Status{Active}, roles: []Role{RoleResident}, asks: nothing, named: true, effect: confirmConsent},
		Report:         {from: everyStatus, roles: []Role{RoleDoor}, asks: nothing, effect: report},
		Hold:           {from: []Status{Active, Released, Collected, Expired}, roles: []Role{RoleShop, RoleOps}, asks: nothing, effect: happen(EventHeld)},
		TellMail:       {from: []Status{Active, Held}, roles: []Role{RoleService, RoleCustomer}, asks: nothing, effect: tellMail},
		Erase:          {from: everyStatus, roles: []Role{RoleOps}, asks: nothing, effect: erase},
		Lift:           {from: []Status{Held}, roles: []Role{RoleShop, RoleOps}, asks: nothing, word: true, effect: lift},

		// After the store was put back to an earlier state (docs/restore.md).
		Distrust:   {from: []Status{Active, Released, Expired, Held}, roles: []Role{RoleOps, RoleService}, asks: nothing, effect: distrust},
		Confirm:    {from: []Status{Held}, roles: []Role{RoleOps}, asks: nothing, effect: confirm},
		AccountFor: {from: []Status{Held}, roles: []Role{RoleOps}, asks: nothing, effect: account},

		// When nothing else works. Both people are of the shop, which answers for its parcel;
		// the operator has no part in it.
		AskOverride: {from: []Status{Active}, roles: []Role{RoleShop}, asks: byHand(ProofTime), named: true, effect: askOverride},
		Override:    {from: []Status{Active}, roles: []Role{RoleShop}, asks: byHand(ProofTime, ProofApproval), named: true, effect: override},

		// A customer's word against a recorded handoff. The shop has no part in its end: it has
		// an interest in one answer.
		DisputeHandoff:  {from: []Status{Released, Collected, Held}, part: true, roles: []Role{RoleCustomer}, asks: nothing, word: true, effect: dispute},
		WithdrawDispute: {from: []Status{Held}, roles: []Role{RoleCustomer}, asks: nothing, word: true, effect: withdrawDispute},
		SettleDispute:   {from: []Status{Held}, roles: []Role{RoleOps}, asks: nothing, word: true, effect: settleDispute},
	}
}

var everyStatus = []Status{Active, Released, Collected, Recalled, Expired, Held}

func (r rule) wrongStatus(s Status) Reason {
	if !r.named {
		return WrongStatus
	}
	switch s {
	case Released:
		return AlreadyReleased
	case Collected:
		return AlreadyCollected
	case Recalled:
		return IsRecalled
	case Expired:
		return WindowOver
	case Held:
		return OnHold
	}
	return WrongStatus
}

func nothing(*deliberation) (ProofSet, bool) { return 0, true }

// byHand asks for proofs of a delivery. A return needs no release: its holder may keep it.
func byHand(ps ...Proof) func(*deliberation) (ProofSet, bool) {
	return func(d *deliberation) (ProofSet, bool) {
		return Proofs(ps...), d.grant.Dispatch.Purpose == PurposeDelivery
	}
}

// byRight asks what the grant's right to the act asks, and at a door without a
// network also for the door's challenge. A keypad has none to show, and binds none: who
// types a PIN stands before it.
func byRight(d *deliberation) (ProofSet, bool) {
	right := d.grant.Right(d.cmd.Act, d.cmd.Target)
	if right == nil {
		return Proofs(ProofCourier, ProofRoute, ProofTime), false
	}
	if d.cmd.Act == Open && d.facts.Door != nil {
		return d.facts.Door.Asks(right), true
	}
	return right.Proofs, true
}

// Asks is what a right to open asks for at this door.
func (d *Door) Asks(r *Right) ProofSet {
	switch d.Mode {
	case Carried:
		return r.Proofs | Proofs(ProofPresence)
	case Keypad:
		return r.Proofs &^ Proofs(ProofPresence)
	}
	return r.Proofs
}

// OnTheWay reports whether the grant has a right to open a door such as this one, and what
// it asks for there. The building allows the carrier, and a garage or home is its customer's
// own. Whether it opens now, only an unlock says.
func (g *Grant) OnTheWay(d *Door) (ProofSet, bool) {
	right := g.Right(Open, d.Kind)
	if right == nil || !d.leadsTo(g) {
		return 0, false
	}
	return d.Asks(right), true
}

func onRoute(*deliberation) (ProofSet, bool) {
	return Proofs(ProofCourier, ProofRoute, ProofTime), true
}

// sameHand asks for the courier who made the handoff, who proved the place no longer
// ago than an abort is possible. A position that is sent again must still be there, where
// the grant says where that is.
func sameHand(d *deliberation) (ProofSet, bool) {
	asked := Proofs(ProofCourier, ProofTime)
	if d.evidence().Position != nil && d.grant.Dispatch.To.located() {
		asked |= Proofs(ProofPlace)
	}
	return asked, true
}

// deliberation is one run of Decide.
type deliberation struct {
	grant   *Grant
	cmd     Command
	facts   Facts
	now     time.Time
	asked   ProofSet
	verdict Verdict
}

func (d *deliberation) evidence() *Evidence { return &d.cmd.Evidence }

// sameCarrier reports whether the courier is of the grant's carrier. To any other the
// parcel does not exist.
func (d *deliberation) sameCarrier() bool {
	return d.evidence().Courier.Carrier == d.grant.Dispatch.Carrier
}

// status is the grant's at this moment, so that no answer depends on whether the
// sweeper, whose act expire is, has been there yet.
func (d *deliberation) status() Status {
	if d.cmd.Act == Expire {
		return d.grant.Status
	}
	return d.grant.StatusAt(d.now)
}

// fence is where a position is asked for: around the door for open, around the
// address for everything else. Where a place is asked and there is no center, no position
// proves it.
func (d *deliberation) fence() (center *Point, radius float64) {
	if d.cmd.Act != Open {
		return d.grant.Dispatch.To.Location, d.facts.Policy.Fences.Release
	}
	if d.facts.Door == nil {
		return nil, 0
	}
	if d.facts.Door.Fence > 0 {
		return d.facts.Door.Location, d.facts.Door.Fence
	}
	return d.facts.Door.Location, d.facts.Policy.Fences.Door
}

// judge fills the verdict for all proofs but the code, which waits its turn. A proof
// without a judge fails.
func (d *deliberation) judge(asked ProofSet) {
	for p := range numProofs {
		switch {
		case !asked.Has(p):
		case p == ProofCode:
			d.verdict[p] = NotChecked
		case judges[p] == nil:
			d.verdict[p] = Failed
		default:
			d.verdict[p] = judges[p](d)
		}
	}
	if asked>>numProofs != 0 { // a proof of a newer version: unknown, hence not given
		d.verdict[ProofApproval] = Failed
	}
}

// firstFailure is the reason that a refusal gives, the code aside; empty when all holds.
func (d *deliberation) firstFailure(r rule) Reason {
	fails := func(p Proof) bool { return d.verdict[p] == Failed || d.verdict[p] == Missing }
	gone := d.gone(r)
	switch {
	case fails(ProofCourier) && d.signedOut():
		return SignedOut
	case fails(ProofCourier) && !(d.factsOfCourier() && d.facts.Courier.Cleared(d.now)):
		return CourierNotCleared
	case fails(ProofCourier):
		return BudgetExhausted
	case fails(ProofRoute):
		return NotYourRoute
	case gone != "":
		return gone
	case !d.possible(r):
		return r.wrongStatus(d.status())
	case fails(ProofTime) && !d.grant.Window.Begun(d.now):
		return NotYetValid
	case fails(ProofTime):
		return WindowOver
	case fails(ProofPlace):
		return OutsideGeofence
	case d.cmd.Act != Override:
	case !d.cmd.By.Person:
		return PersonRequired
	case d.verdict[ProofApproval] == Missing:
		return ApprovalMissing
	case fails(ProofApproval):
		return SelfApproval
	}
	for p := range numProofs {
		if fails(p) {
			return AccessRefused
		}
	}
	return ""
}

// compareCode judges the code, all else being well. Nil: it is the right one. Every
// code ever issued is compared, so that the time taken tells nothing.
//
// A wrong code that is a slip of the right one, or was superseded, is excused: honest
// customers make such, and of random guesses only 59 in a million are. The caller is not
// told, and the code's and the grant's limits count it all the same.
func (d *deliberation) compareCode() *Decision {
	said, code, limits := d.evidence().Code, &d.grant.Code, d.facts.Policy.Limits
	switch {
	case code.Locked(limits):
		return ptr(d.refuse(CodeLocked))
	case said.IsZero():
		d.verdict[ProofCode] = Missing
		return ptr(d.refuse(CodeRequired))
	}
	if refused := d.limited(); refused != nil {
		return refused
	}

	right, superseded, slip := false, -1, false
	for i, counter := range code.Issued {
		issued := d.grant.code(counter)
		same := issued.Equal(said)
		switch {
		case i == len(code.Issued)-1:
			right, slip = same, issued.Slip(said)
		case same: // no two are equal
			superseded = i
		}
	}
	if right {
		d.verdict[ProofCode] = OK
		return nil
	}

	d.verdict[ProofCode] = Failed
	reason := CodeMismatch
	if superseded >= 0 {
		reason = CodeSuperseded
	}
	refused := d.refuse(reason)
	refused.Refusal.ReplacedAt = d.grant.replacedAt(superseded)
	refused.Refusal.AttemptsLeft = min(limits.CodeTries-code.Wrong, limits.GrantTries-code.TotalWrong) - 1
	e := d.event(EventCodeRefused)
	e.Reason, e.Excused = reason, superseded >= 0 || slip
	refused.Events = []Event{e}
	if refused.Refusal.AttemptsLeft == 0 {
		refused.Events = append(refused.Events, d.event(EventCodeLocked))
	}
	d.charge(&refused, e.Excused)
	return &refused
}

// limited stops a code before it is compared, where the courier, or the carrier, said too many
// wrong ones. What is not compared is not charged, and its answer tells nothing of the code. Nil:
// it may be compared. An attempt waits while others in flight could still take the last place.
func (d *deliberation) limited() *Decision {
	budget, limits := d.facts.Budget, d.facts.Policy.Limits
	wrong, most := d.facts.Carrier.AllWrong(), limits.Carrier(d.facts.Carrier.Released)
	strict := wrong >= most
	refused := func(reason Reason, after time.Duration) *Decision {
		no := d.refuse(reason)
		no.Refusal.RetryAfter = after
		return &no
	}
	switch {
	case budget.Here >= limits.CourierCustomer:
		return refused(CustomerLimit, 0)
	case wrong >= beyond(most): // the hours of the count are known, and not what each holds
		return refused(CarrierLimit, 24*time.Hour+nextHour(d.now))
	case strict && budget.today(d.now) >= strictDay:
		return refused(CarrierLimit, budget.clears(strictDay, d.now))
	case !budget.Admitted,
		budget.Here+budget.Ahead >= limits.CourierCustomer,
		strict && budget.today(d.now)+budget.Ahead >= strictDay:
		return &Decision{Wait: true}
	}
	return nil
}

// charge adds a wrong code to the carrier's day. The duty officer is told from two thirds
// of the limit on, four times at most on the way, since the limit moves with the hours and
// one mark could be jumped over; and when the limit is reached.
func (d *deliberation) charge(refused *Decision, excused bool) {
	before, most := d.facts.Carrier.AllWrong(), d.facts.Policy.Limits.Carrier(d.facts.Carrier.Released)
	if excused && before < most-most/10 {
		return
	}
	refused.Wrong = 1
	e, over := d.event(EventSignal), before+1-most*2/3
	switch {
	case before+1 == most:
		e.Reason = CarrierLimit
	case over >= 0 && over%(most/12+1) == 0:
		e.Reason = WrongCodesByCarrier
	default:
		return
	}
	refused.Events = append(refused.Events, e)
}

func ptr[T any](v T) *T { return &v }

// replacedAt is when the next code took the place of the one that was issued as the i-th,
// from 0: as the history says, which knows the newest; 0 if it does not reach that far, or
// for a negative i.
func (g *Grant) replacedAt(i int) Instant {
	if i < 0 {
		return 0
	}
	later := len(g.Code.Issued) - 1 - i // codes that were issued after it
	for _, h := range slices.Backward(g.History) {
		if h.Type == EventCodeReissued || h.Type == EventAborted || h.Type == EventRescheduled || h.Type == EventReleased && h.Left > 0 {
			if later--; later == 0 {
				return h.At
			}
		}
	}
	return 0
}

// AbortableUntil is until when a courier may take the standing handoff back; 0 if it is
// not this courier's, or cannot be taken back, or not any more at now.
func (g *Grant) AbortableUntil(courier string, l Limits, now time.Time) Instant {
	if g.Status != Released && g.Status != Active || g.Handoff == nil || g.Handoff.Courier != courier || g.Aborted || g.CodeRequired() && g.Code.Reissues >= l.Reissues {
		return 0
	}
	until := min(InstantOf(g.Handoff.At.Time().Add(l.AbortWithin)), g.Window.Until)
	if now.After(until.Time()) {
		return 0
	}
	return until
}

func (d *deliberation) refuse(reason Reason) Decision {
	return Decision{Verdict: d.verdict, Refusal: &Refusal{Reason: reason, Verdict: d.verdict}}
}

func (d *deliberation) accept(events ...Event) Decision {
	return Decision{Verdict: d.verdict, Events: events}
}

func (d *deliberation) event(t EventType) Event {
	g := d.grant
	return Event{
		Type: t, Grant: g.ID, At: InstantOf(d.now),
		Shop: g.Dispatch.Shop, Carrier: g.Dispatch.Carrier, Parcel: g.Dispatch.Parcel, Route: g.Route(),
		Courier: d.evidence().Courier.ID, By: string(d.cmd.By.Role),
		Device: d.evidence().Device, Who: d.cmd.Who, Claimed: d.evidence().Claimed, Link: d.cmd.By.Link,
	}
}

// distance is what is kept of a position.
func (d *deliberation) distance() int {
	center, _ := d.fence()
	if center == nil || d.evidence().Position == nil {
		return 0
	}
	return d.evidence().Position.roundedDistance(*center)
}

// distrust holds what may still come to hand over a parcel: what the store tells of it, and
// of its codes, may be older than what was acknowledged. What cannot is left alone, and so is
// what is in doubt already.
func distrust(d *deliberation) Decision {
	g := d.grant
	over := g.Status == Released && (g.Aborted || g.Handoff == nil || g.Handoff.Courier == "" ||
		d.now.After(g.Handoff.At.Time().Add(d.facts.Policy.Limits.AbortWithin)))
	if g.Doubt != nil || g.Scrubbed != nil || over {
		return d.accept()
	}
	return d.accept(d.event(EventDistrusted))
}

// doubted is the refusal of a grant that is not in doubt, or of which the shop says
// something else than when it was made; nil if it is the same.
func (d *deliberation) doubted() *Decision {
	g := d.grant
	switch {
	case g.Doubt == nil:
		return ptr(d.refuse(WrongStatus))
	case d.cmd.Dispatch == nil || !g.MadeBy(d.cmd.Dispatch, d.cmd.Digest):
		return ptr(d.refuse(DispatchConflict))
	}
	return nil
}

// confirm ends a doubt. The codes that were given out in what was lost are not known here,
// so the grant's secret is replaced (see package service), and one code of it is given out.
func confirm(d *deliberation) Decision {
	if refused := d.doubted(); refused != nil {
		return *refused
	}
	e := d.event(EventConfirmed)
	if g := d.grant; g.CodeRequired() {
		e.Issue = g.NewestIssue() + 1 // firstCounter, where none was given out
	}
	return d.accept(e)
}

// account ends a doubt where the carrier's list says that the parcel was handed over. Where it says
// so of some of several, the doubt goes on for the others: a confirmation ends it.
func account(d *deliberation) Decision {
	if refused := d.doubted(); refused != nil {
		return *refused
	}
	e := d.event(EventAccounted)
	if g := d.grant; g.Group != nil {
		there := len(g.There())
		if e.Parcels, e.Left = g.part(d.cmd.Parcels); there > 0 && len(e.Parcels) == 0 {
			return d.accept() // they are on record already
		}
	}
	return d.accept(e)
}

// happen is the effect of an act that is nothing but its event.
func happen(t EventType) func(*deliberation) Decision {
	return func(d *deliberation) Decision { return d.accept(d.event(t)) }
}

func handOver(d *deliberation) Decision {
	e := d.event(EventReleased)
	if d.cmd.Act == Collect {
		e.Type = EventCollected
	}
	e.Distance = d.distance()
	if g := d.grant; g.Group != nil {
		if e.Parcels, e.Left = g.part(d.scanned()); e.Left > 0 {
			e.Issue = g.nextIssue() // who heard the code must not release the others by it
		}
	}
	done := d.accept(e)
	if d.verdict[ProofCode] == OK && d.grant.Handoff == nil { // one for each grant, however many parts it has
		done.Released = 1
	}
	return done
}

// recall calls back what is still there of the parcels that are named, or all of it. Who is to
// be handed the others needs no other code for that: none of them was given away.
func recall(d *deliberation) Decision {
	g := d.grant
	for _, parcel := range d.cmd.Parcels {
		switch status := g.StatusOf(parcel, d.now); {
		case !g.Names(parcel):
			return d.refuse(ParcelUnknown)
		case status != Active:
			return d.refuse(rule{named: true}.wrongStatus(status))
		}
	}
	e := d.event(EventRecalled)
	if g.Group == nil {
		return d.accept(e)
	}
	var left int
	if e.Parcels, left = g.part(d.cmd.Parcels); left > 0 || g.Handoff != nil {
		e.Type, e.Left = EventPartRecalled, left
	}
	return d.accept(e)
}

func attempted(d *deliberation) Decision {
	if d.grant.Attempts >= d.facts.Policy.Limits.Attempted {
		return d.refuse(AttemptedLimit)
	}
	return d.accept(d.event(EventAttempted))
}

func abort(d *deliberation) Decision {
	g, limits := d.grant, d.facts.Policy.Limits
	switch {
	case g.Group != nil && !slices.Contains(g.Handoff.Parcels, d.evidence().Parcel): // still there, or handed over before that
		return d.refuse(WrongStatus)
	case g.Handoff.Courier == "" || g.Handoff.Courier != d.evidence().Courier.ID: // none took part in a release by hand
		return d.refuse(NotYourHandoff)
	case g.Aborted:
		return d.refuse(AlreadyAborted)
	case d.now.After(g.Handoff.At.Time().Add(limits.AbortWithin)):
		return d.refuse(AbortTooLate)
	case g.CodeRequired() && g.Code.Reissues >= limits.Reissues:
		return d.refuse(ReissueLimit)
	}
	e := d.event(EventAborted)
	e.Issue, e.Distance = g.nextIssue(), d.distance()
	if g.Group != nil {
		e.Parcels = slices.Clone(g.Handoff.Parcels)
		e.Left = len(g.There()) + len(e.Parcels)
	}
	done := d.accept(e)
	if g.CodeRequired() && len(g.Handoffs()) == 1 {
		done.Released = -1
	}
	return done
}

// askOverride records who wants the parcel released by hand. A newer wish takes the place
// of an older one.
func askOverride(d *deliberation) Decision {
	if !d.cmd.By.Person {
		return d.refuse(PersonRequired)
	}
	e := d.event(EventOverrideAsked)
	if o := d.grant.OverrideAsked(d.facts.Policy.Limits, d.now); o != nil {
		e.Count = o.Replaced + 1
	}
	return d.accept(e)
}

// override releases the parcel without a courier: that cannot be taken back, and a code
// that is locked does not stop it. The approval is of one wish. Where a wish was replaced it
// must say which: its approver may have read the reason of the one before.
func override(d *deliberation) Decision {
	asked := d.grant.OverrideAsked(d.facts.Policy.Limits, d.now)
	if named := d.cmd.Wish; named != asked.ID() && (named != "" || asked.Replaced > 0) {
		return d.refuse(OverrideReplaced)
	}
	e := d.event(EventOverridden)
	if d.grant.Group != nil {
		e.Parcels = d.grant.There()
	}
	return d.accept(e)
}

// lift ends a hold, but not one that stands for a customer's dispute.
func lift(d *deliberation) Decision {
	if d.grant.Dispute.Open() {
		return d.refuse(DisputeOpen)
	}
	return d.accept(d.event(EventLifted))
}

// dispute stops everything, and says in its event what is on record of the handoff.
func dispute(d *deliberation) Decision {
	g := d.grant
	switch {
	case g.Handoff == nil: // held before anything was handed over
		return d.refuse(WrongStatus)
	case !g.Disputable():
		return d.refuse(AlreadyDisputed)
	}
	e := d.event(EventDisputed)
	e.Courier, e.HandedAt, e.Distance = g.Handoff.Courier, g.Handoff.At, g.Handoff.Distance
	e.Issue = g.IssueOf(g.Handoff)
	if g.Group != nil {
		e.Parcels = g.HandedOver()
	}
	return d.accept(e)
}

// withdrawDispute is the customer's word that the handoff happened after all. A key, and who was let
// in by a shop's link, speaks for no customer here.
func withdrawDispute(d *deliberation) Decision {
	switch {
	case !d.grant.Dispute.Open():
		return d.refuse(NoDispute)
	case !d.cmd.By.Person:
		return d.refuse(PersonRequired)
	}
	return d.accept(d.event(EventDisputeWithdrawn))
}

func settleDispute(d *deliberation) Decision {
	switch {
	case d.cmd.Ruling != HandedOver && d.cmd.Ruling != NotReceived:
		return d.refuse(UnknownAct)
	case !d.grant.Dispute.Open():
		return d.refuse(NoDispute)
	case !d.cmd.By.Person:
		return d.refuse(PersonRequired)
	}
	e := d.event(EventDisputeSettled)
	e.Reason = Reason(d.cmd.Ruling.String())
	return d.accept(e)
}

func reissue(d *deliberation) Decision {
	g, limits := d.grant, d.facts.Policy.Limits
	switch {
	case !g.CodeRequired():
		return d.refuse(NoCode)
	case g.Window.Over(d.now):
		return d.refuse(WindowOver)
	case g.Code.TotalWrong >= limits.GrantTries: // a new code could not be used either
		return d.refuse(CodeLocked)
	case g.Code.Reissues >= limits.Reissues:
		return d.refuse(ReissueLimit)
	}
	e := d.event(EventCodeReissued)
	e.Issue = g.nextIssue()
	return d.accept(e)
}

func resend(d *deliberation) Decision {
	g, limits := d.grant, d.facts.Policy.Limits
	wait := g.Code.ResentAt.Time().Add(limits.ResendEvery).Sub(d.now)
	switch {
	case !g.CodeRequired():
		return d.refuse(NoCode)
	case g.Window.Over(d.now):
		return d.refuse(WindowOver)
	case g.Code.Locked(limits):
		return d.refuse(CodeLocked)
	case g.Code.Resends >= limits.Resends:
		refused := d.refuse(ResendLimit)
		refused.Refusal.RetryAfter = g.Window.Until.Time().Sub(d.now)
		return refused
	case wait > 0:
		refused := d.refuse(ResendTooSoon)
		refused.Refusal.RetryAfter = wait
		return refused
	}
	e := d.event(EventCodeResent)
	e.Issue = g.NewestIssue()
	return d.accept(e)
}

// erase asks for what time will do: a delivery that is under way must find its customer.
func erase(d *deliberation) Decision {
	if d.grant.EraseAsked || d.grant.Dispatch.Customer.ID == "" {
		return d.accept()
	}
	return d.accept(d.event(EventErasureAsked))
}

// expire is what time alone does to a grant: its window ends, a door that was to answer
// has not, and what it knows of people has been kept long enough.
func expire(d *deliberation) Decision {
	var events []Event
	if d.grant.Status == Active && d.grant.Window.Over(d.now) {
		events = append(events, d.event(EventExpired))
	}
	for i := range d.grant.Unlocks {
		if u := &d.grant.Unlocks[i]; u.unanswered() && !d.now.Before(u.deadline().Time()) {
			events = append(events, d.doorEvent(EventDoorSilent, u))
		}
	}
	if due := d.grant.scrubDue(); due != 0 && !d.now.Before(due.Time()) {
		e := d.event(EventScrubbed)
		if d.grant.EraseAsked {
			e.Type = EventErased
		}
		e.Digest = d.cmd.Digest
		events = append(events, e)
	}
	if len(events) == 0 {
		return d.refuse(WrongStatus)
	}
	return d.accept(events...)
}

func reschedule(d *deliberation) Decision {
	switch {
	case d.grant.Scrubbed != nil: // where it goes is not known any more
		return d.refuse(WrongStatus)
	case !d.cmd.Day.After(d.grant.Day()):
		return d.refuse(DayNotLater)
	case d.grant.CodeRequired() && d.grant.Code.TotalWrong >= d.facts.Policy.Limits.GrantTries:
		return d.refuse(CodeLocked) // for good: another day would change nothing
	}
	window, reason := windowOf(d.cmd.Day, d.grant.Dispatch.To.Zone, d.now)
	if reason != "" {
		return d.refuse(reason)
	}
	e := d.event(EventRescheduled)
	e.Day, e.Window, e.Issue = &d.cmd.Day, &window, d.grant.nextIssue()
	if d.cmd.Route != "" {
		e.Route = d.cmd.Route
	}
	return d.accept(e)
}

// mint makes the grant. Sending the same dispatch again is answered before any other
// check, so that this morning's file is as harmless tomorrow as it is today.
func (d *deliberation) mint() Decision {
	dispatch := d.cmd.Dispatch
	if dispatch == nil {
		return d.refuse(UnknownAct)
	}
	newest := d.facts.Newest
	if g := d.grant; g != nil {
		if newest == 0 {
			newest = g.ID.Generation
		}
		denied := d.facts.Policy.mayDispatch(dispatch)
		switch {
		case g.Dispatch.Shop != dispatch.Shop && denied != "":
			return d.refuse(denied) // and learns nothing of the parcel
		case g.Dispatch.Shop != dispatch.Shop:
			refused := d.refuse(DispatchConflict)
			if !g.Contested {
				e := d.event(EventContested)
				e.By = string(RoleShop)
				refused.Events = []Event{e}
			}
			return refused
		case g.MadeBy(dispatch, d.cmd.Digest):
			return d.accept()
		case g.Group != nil && g.Dispatch.Parcel == dispatch.Parcel && !g.Status.Closed():
			return d.refuse(DispatchConflict) // at this key stands the grant of the others, too
		case g.Share(dispatch.Parcel) == Recalled && d.cmd.Unmade == newest: // nothing of it is left, whatever its day
		case !g.Share(dispatch.Parcel).Closed() || !dispatch.Day.After(g.Day()):
			return d.refuse(DispatchConflict)
		}
	}
	if newest >= mostGenerations || d.cmd.Contest {
		return d.refuse(DispatchConflict)
	}
	generation := newest + 1
	rights, window, reason := d.facts.Policy.Terms(dispatch, d.now)
	if reason != "" {
		return d.refuse(reason)
	}

	for _, parcel := range dispatch.Parcels()[1:] {
		if g := d.facts.Beside[parcel]; g != nil && !g.mayFollow(dispatch, parcel, d.now) {
			return d.refuse(DispatchConflict)
		}
	}

	minted := Seed(GrantID{Hash: d.cmd.Parcel, Generation: generation}, *dispatch, CodeState{})
	minted.Rights = rights
	d.grant = &minted
	e := d.event(EventDispatched)
	e.Window, e.Rights = &window, rights
	if dispatch.Several() {
		e.Parcels = dispatch.Parcels()
		e.AllOrNothing = dispatch.Together.AllOrNothing || d.facts.Policy.Shops[dispatch.Shop].AllOrNothing
	}
	if minted.CodeRequired() {
		e.Issue = firstCounter
	}
	return d.accept(e)
}

// Share is how one of the grant's parcels stands, as it is recorded: that its window is over does
// not count yet.
func (g *Grant) Share(parcel string) Status { return g.StatusOf(parcel, g.Window.From.Time()) }

// mayFollow reports whether a parcel of the grant may be dispatched anew as one of several, by the
// rules for one parcel. That the dispatch did not make the grant is known: it is not its first parcel's.
func (g *Grant) mayFollow(dispatch *Dispatch, parcel string, now time.Time) bool {
	status := g.StatusOf(parcel, now)
	switch {
	case g.Dispatch.Shop != dispatch.Shop, g.ID.Generation >= mostGenerations:
		return false
	case g.Group != nil && g.Dispatch.Parcel == parcel && !g.Status.Closed():
		return false
	}
	return status == Recalled || status.Closed() && dispatch.Day.After(g.Day())
}

// mostGenerations bounds how often one parcel id is dispatched anew while its grants are kept: each
// of them is looked at before the next.
const mostGenerations = 100

// MadeBy reports whether the grant was made by this dispatch, of which digest is the keyed
// digest.
func (g *Grant) MadeBy(dispatch *Dispatch, digest []byte) bool {
	if g.Scrubbed != nil {
		return bytes.Equal(g.Scrubbed, digest)
	}
	return g.Dispatch.Equal(dispatch)
}

// Terms are what a grant made by this dispatch at now would allow, and when; or the reason
// why policy and calendar allow no such grant. Grants that the parcel has are not asked.
func (p *Policy) Terms(d *Dispatch, now time.Time) ([]Right, Window, Reason) {
	rights, reason := p.rights(d)
	if reason != "" {
		return nil, Window{}, reason
	}
	if _, err := PlaceZone(d.To.Zone); err != nil {
		return nil, Window{}, ZoneUnknown
	}
	window, reason := windowOf(d.Day, d.To.Zone, now)
	return rights, window, reason
}

// windowOf is the window of a delivery day, unless the day is over at now or too far ahead.
func windowOf(day Date, zoneName string, now time.Time) (Window, Reason) {
	zone, err := Zone(zoneName)
	if err != nil {
		return Window{}, ZoneUnknown
	}
	window, err := DayWindow(day, zone)
	if err != nil {
		return Window{}, DayUnknown
	}
	switch {
	case window.Over(now):
		return Window{}, WindowOver
	case window.From.Time().After(now.Add(horizon)):
		return Window{}, DayTooFar
	}
	return window, ""
}

// horizon is how far ahead a delivery day can lie. What is further is a typing error.
const horizon = 400 * 24 * time.Hour

// firstCounter is 1, so that 0 can say "no code is issued".
const firstCounter = 1

// nextIssue is the next counter whose code equals none given out before, so that an
// old code can never come back to life; 0 for a grant without a code.
func (g *Grant) nextIssue() uint64 {
	if !g.CodeRequired() {
		return 0
	}
	next := g.NewestIssue() + 1
	for slices.ContainsFunc(g.Code.Issued, func(c uint64) bool { return g.code(c).Equal(g.code(next)) }) {
		next++
	}
	return next
}
