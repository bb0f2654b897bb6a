package handofftest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"pgregory.net/rapid"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/otp"
)

// Model is a property of a service on any store: whatever is asked of it, in whatever
// order, with replies lost and the clock moving by days and set back by minutes, the rules
// of the house hold.
//
//   - A parcel has at most one standing handoff.
//   - Of several parcels that arrive together each is there, handed over or recalled. Exactly what
//     was scanned is handed over, by the newest code, and by the grant that the parcel's key says;
//     for the rest there is another code. What is of another grant costs no try.
//   - Nothing is handed over outside its window, by a courier who is not cleared, or by
//     one who does not drive its route.
//   - No code is guessed at more than five times, no grant more than ten times, and no
//     courier enters more than 20 wrong codes in a day, or 60 that are not excused in thirty.
//   - A handoff is aborted once a grant, a code is issued anew three times and mailed
//     again five times.
//   - A locked code releases nothing, and a release has the code that counts.
//   - The caller is told what was done: as many events are in the log as the answer says.
//   - A parcel is released by hand exactly if another person of its shop asked for it within
//     the hour, on its day, and nothing else happened to its status since. No one takes that back.
//   - A handoff is disputed at most once, by its customer, and stops everything until the
//     customer withdraws it or the duty officer settles it. No one else's word ends it, and its
//     end lifts no hold that stood before.
//   - It is told of a code's mail that it failed only where it was refused, came back or was taken by
//     no server in time; at most once until the opposite is told, and never of a code that was
//     superseded or seen. What goes well makes no event unless it takes a failure back.
//   - A permit for a door is given exactly if every proof of the right to it holds at
//     that moment: the courier, the route, the day, the place, the building (its carriers,
//     hours, returns, the door's owner), the challenge and the consent where they are asked
//     for. What the registry and the customer say after dispatch counts at once.
//   - A visit gives at most three permits, and a door no more visits than its right has
//     uses. A garage or home that opened gives no more permits in that visit. A visit to a
//     lobby or gate may be begun again, six times a day and eighteen in a grant's life.
//   - A grant that is released, collected, recalled, expired or held opens nothing. A
//     locked code closes no door.
//   - No courier is given permits at two doors too far apart for the time between.
//   - A permit that can still open its door is never forgotten.
//   - A door's state is one that the door reported, or authorised, or no-answer after 15 s
//     of silence. It never goes backwards, and saying it again is no news.
//   - The same attempt, sent again, gets the same answer and causes nothing.
//   - A grant's events, replayed over its dispatch and secret, give the stored grant.
//
// Open gives an empty store for each check: rapid.Check(t, handofftest.Model(open)).
// The rules of the code are checked on the log and the stored grants alone, those of the
// doors on books that the model keeps of what it did itself: see book. Neither asks Decide.
func Model(open func() Core) func(*rapid.T) {
	return func(t *rapid.T) {
		m := newModel(t, open())
		acts := map[string]func(*rapid.T){
			"":                  m.check,
			"dispatch":          m.dispatch,
			"verify":            m.verify,
			"guess":             m.guess,
			"guess and reissue": m.guessAndReissue,
			"take back":         m.takeBack,
			"abort":             m.abort,
			"attempted":         m.attempted,
			"order":             m.order,
			"hold":              m.hold,
			"override":          m.override,
			"dispute":           m.dispute,
			"sweep":             m.sweep,
			"mail":              m.mail,
			"late mails":        m.lateMails,
			"wait":              m.wait,
			"sleep":             m.sleep,
			"step back":         m.step,
			"courier":           m.courier,
			"assign":            m.assign,
			"lose reply":        m.fault,
			"unlock":            m.unlock,
			"way in":            m.wayIn,
			"detour":            m.detour,
			"consent":           m.consent,
			"consent by a link": m.consentByLink,
			"report":            m.report,
			"building":          m.building,
			"door":              m.door,
		}
		maps.Copy(acts, m.severalActs())
		t.Repeat(acts)
	}
}

// model is what the test itself knows.
type model struct {
	*World
	faulty *Faulty

	parcels  []string
	attempts map[string]told // by parcel, courier and attempt id
	drivers  map[service.RouteRef]string
	read     [handoff.Partitions]string // how far the log was read
	lives    map[handoff.GrantID][]handoff.Event
	guesses  map[string][]handoff.Instant // wrong codes by courier
	charged  map[string][]handoff.Instant // those that were not excused
	parties  map[string]*party            // by parcel, the newest grant of several that names it
	unsure   map[string][]handoff.Instant // codes that may have been charged, though their commit came to nothing
	mails    map[handoff.GrantID]mailBook
	taken    map[handoff.GrantID]uint64 // the newest code of which a mail server took the mail
	books
}

// told is the answer to a request with an attempt id.
type told struct {
	request any
	kind    string
	receipt any
	reason  string
}

var (
	modelCouriers = []string{"c1", "c2"}
	modelRoutes   = []string{Route, "BER-043"}
	modelParcels  = []string{"p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"}
)

func newModel(t *rapid.T, store Core) *model {
	m := &model{faulty: &Faulty{Core: store}, attempts: map[string]told{}, drivers: map[service.RouteRef]string{}}
	m.lives, m.guesses, m.charged = map[handoff.GrantID][]handoff.Event{}, map[string][]handoff.Instant{}, map[string][]handoff.Instant{}
	m.unsure, m.parties = map[string][]handoff.Instant{}, map[string]*party{}
	m.mails, m.taken = map[handoff.GrantID]mailBook{}, map[handoff.GrantID]uint64{}
	m.World = New(t, m.faulty)
	m.books = newBooks()
	m.Cleared(t, modelCouriers...)
	m.enrol(t)
	for days := range 3 {
		m.assignTo(t, "c1", Route, m.today().plus(days))
	}
	for i, parcel := range modelParcels[:4] { // something to begin with
		d := Sample(parcel)
		if i == 3 {
			d.To.Building = otherHouse
		}
		m.send(t, d)
	}
	return m
}

type civil struct{ handoff.Date }

// today is the day at the sample address.
func (m *model) today() civil {
	zone, err := handoff.Zone(Zone)
	if err != nil {
		panic(err) // the zone is a constant
	}
	return civil{handoff.DateOf(m.Clock.Now().In(zone))}
}

func (c civil) plus(days int) handoff.Date {
	d := c.Date
	for range days {
		d = d.Next()
	}
	return d
}

func pick[T any](t *rapid.T, name string, from []T) T { return rapid.SampledFrom(from).Draw(t, name) }

func (m *model) dispatch(t *rapid.T) {
	d := Sample(pick(t, "parcel", modelParcels))
	d.Day, d.Route = m.today().plus(rapid.IntRange(0, 2).Draw(t, "days")), pick(t, "route", modelRoutes)
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		d.Value.Amount = "10"
	case 1:
		d.Purpose = handoff.PurposeReturn
	case 2:
		d.Shop = "other"
	case 3:
		d.To.Building = pick(t, "building", []string{otherHouse, ""})
	}
	m.send(t, d)
}

func (m *model) send(t *rapid.T, d handoff.Dispatch) {
	before := m.Parcel(t, d.Parcel)
	g, created, err := m.Service.Dispatch(context.Background(), d)
	// A grant whose window is over is expired first, to make room for the next one.
	fresh := slices.DeleteFunc(m.fresh(t), func(e handoff.Event) bool {
		return e.Type == handoff.EventExpired || e.Type == handoff.EventDoorSilent
	})
	switch {
	case err == nil && created:
		m.expect(t, fresh, handoff.EventDispatched, "dispatch")
		if g.ID.Generation != before.ID.Generation+1 {
			t.Fatalf("after %s came %s", before.ID, g.ID)
		}
		m.opened(g)
		if !slices.Contains(m.parcels, d.Parcel) {
			m.parcels = append(m.parcels, d.Parcel)
		}
	case err == nil:
		m.expect(t, fresh, 0, "dispatch again")
	case reason(err) == string(handoff.DispatchConflict) && before.Dispatch.Shop != d.Shop:
		want := handoff.EventContested
		if before.Contested { // told once
			want = 0
		}
		m.expect(t, fresh, want, "dispatch of another shop")
	default:
		m.refused(t, fresh, err, "dispatch")
	}
}

// presentation is a courier's at a door, now and then at the wrong one.
func (m *model) presentation(t *rapid.T) (service.Presentation, handoff.Grant) {
	parcel := pick(t, "parcel", m.parcels)
	g := m.Parcel(t, parcel)
	p := AtDoor(pick(t, "courier", modelCouriers), parcel, otp.Code{})
	if who, ok := m.drivers[service.RouteRef{Carrier: Carrier, Route: g.Route(), Day: g.Day()}]; ok && rapid.IntRange(0, 3).Draw(t, "another courier") > 0 {
		p.Courier = Courier(who)
	}
	if rapid.IntRange(0, 9).Draw(t, "far away") == 0 {
		p.Position.Point = handoff.PointOf(52.6, 13.4)
	}
	if rapid.Bool().Draw(t, "with attempt id") {
		p.Attempt = pick(t, "attempt", []string{"a1", "a2", "a3"})
	}
	return p, g
}

func (m *model) verify(t *rapid.T) {
	p, g := m.presentation(t)
	switch rapid.IntRange(0, 5).Draw(t, "code") {
	case 0:
		p.Code = WrongCode(&g, 1)
	case 1:
		p.Code = CodeAt(&g, 1)
	case 2:
	default:
		p.Code = g.CurrentCode()
	}
	m.present(t, "verify", p, m.Service.Verify)
}

// guess is the driver of each parcel's route trying code after code, over all parcels.
func (m *model) guess(t *rapid.T) {
	for i := range rapid.IntRange(1, 6).Draw(t, "guesses") {
		for _, parcel := range m.parcels {
			m.guessOnce(t, parcel, i)
		}
	}
}

// guessAndReissue is a driver who guesses at one parcel and has a helper press "new code".
func (m *model) guessAndReissue(t *rapid.T) {
	parcel := pick(t, "parcel", m.parcels)
	for i := range 4 * 6 {
		m.guessOnce(t, parcel, i)
		if g := m.Parcel(t, parcel); i%6 == 5 {
			_, err := m.Service.Reissue(context.Background(), handoff.Actor{Role: handoff.RoleShop, Shop: g.Dispatch.Shop}, g.ID)
			m.ordered(t, handoff.EventCodeReissued, err)
		}
	}
}

func (m *model) guessOnce(t *rapid.T, parcel string, n int) {
	g := m.Parcel(t, parcel)
	driver := m.drivers[service.RouteRef{Carrier: Carrier, Route: g.Route(), Day: g.Day()}]
	if driver != "" && g.Window.Contains(m.Clock.Now()) {
		m.present(t, "verify", AtDoor(driver, parcel, WrongCode(&g, n)), m.Service.Verify)
	}
}

// takeBack is a release taken back, as often as it goes.
func (m *model) takeBack(t *rapid.T) {
	parcel := pick(t, "parcel", m.parcels)
	for range 2 {
		g := m.Parcel(t, parcel)
		driver := m.drivers[service.RouteRef{Carrier: Carrier, Route: g.Route(), Day: g.Day()}]
		m.present(t, "verify", AtDoor(driver, parcel, g.CurrentCode()), m.Service.Verify)
		m.present(t, "abort", AtDoor(driver, parcel, otp.Code{}), m.Service.Abort)
	}
}

func (m *model) abort(t *rapid.T) {
	p, g := m.presentation(t)
	if g.Handoff != nil && rapid.IntRange(0, 3).Draw(t, "somebody else") > 0 {
		p.Courier.ID = g.Handoff.Courier
	}
	m.present(t, "abort", p, m.Service.Abort)
}

func (m *model) attempted(t *rapid.T) {
	p, _ := m.presentation(t)
	m.present(t, "attempted", p, m.Service.Attempted)
}

type verb func(context.Context, service.Presentation) (service.Receipt, error)

// done is the event that makes a receipt true.
var done = map[handoff.Act]handoff.EventType{
	handoff.Release: handoff.EventReleased, handoff.Collect: handoff.EventCollected,
	handoff.Abort: handoff.EventAborted, handoff.Attempt: handoff.EventAttempted,
}

func (m *model) present(t *rapid.T, kind string, p service.Presentation, do verb) {
	before := m.Parcel(t, p.Parcel)
	receipt, err := do(context.Background(), p)
	fresh := m.fresh(t)
	key := attemptKey(before.ID, p.Courier, p.Attempt)
	first, again := m.attempts[key]
	switch {
	case p.Attempt != "" && again:
		m.expect(t, fresh, 0, "an attempt sent again")
		same := first.kind == kind && reflect.DeepEqual(first.request, any(p))
		if same && (reason(err) != first.reason || !reflect.DeepEqual(any(receipt), first.receipt)) || !same && reason(err) != string(handoff.AttemptReused) {
			t.Fatalf("attempt %s, sent again (the same: %v): %+v, %v; first %+v", key, same, receipt, err, first)
		}
		return
	case err == nil && receipt.Act == handoff.Release && before.CodeRequired() && !p.Code.Equal(before.CurrentCode()):
		t.Fatalf("%s was released without the code that counts", before.ID)
	case err == nil:
		m.expect(t, fresh, done[receipt.Act], kind)
		m.of(p.Parcel).presented(receipt.Act)
	case reason(err) == string(handoff.CodeMismatch), reason(err) == string(handoff.CodeSuperseded):
		if n, told := Count(fresh, handoff.EventCodeRefused), Count(fresh, handoff.EventSignal); n != 1 || told > 1 || len(fresh) != 1+told+Count(fresh, handoff.EventCodeLocked) {
			t.Fatalf("%s: %v, with the events %v", kind, err, fresh)
		}
	case reason(err) == string(handoff.OutsideGeofence): // the duty officer may be told
		if len(fresh) > 1 || len(fresh) == 1 && fresh[0].Type != handoff.EventElsewhere {
			t.Fatalf("%s: %v, with the events %v", kind, err, fresh)
		}
	default:
		if reason(err) == "unavailable" && !p.Code.IsZero() {
			m.unsure[p.Courier.ID] = append(m.unsure[p.Courier.ID], handoff.InstantOf(m.Clock.Now()))
		}
		m.refused(t, fresh, err, kind)
	}
	if p.Attempt != "" && len(fresh) > 0 {
		m.attempts[key] = told{request: p, kind: kind, receipt: receipt, reason: reason(err)}
	}
}

func (m *model) order(t *rapid.T) {
	g := m.Parcel(t, pick(t, "parcel", m.parcels))
	by := handoff.Actor{Role: pick(t, "role", []handoff.Role{handoff.RoleShop, handoff.RoleCustomer}), Shop: g.Dispatch.Shop, Customer: g.Dispatch.Customer.ID}
	if rapid.IntRange(0, 9).Draw(t, "foreign") == 0 {
		by.Shop = "foreign"
	}
	ctx := context.Background()
	var err error
	var event handoff.EventType
	switch rapid.IntRange(0, 4).Draw(t, "order") {
	case 0:
		event = handoff.EventRecalled
		_, err = m.Service.Recall(ctx, by, g.ID, "")
	case 1, 2:
		event = handoff.EventRescheduled
		day, route := m.today().plus(rapid.IntRange(0, 3).Draw(t, "days")), pick(t, "route", append([]string{""}, modelRoutes...))
		if _, err = m.Service.Reschedule(ctx, by, g.ID, day, route); err == nil {
			m.of(g.Dispatch.Parcel).moved(day, route)
		}
	case 3:
		event = handoff.EventCodeResent
		_, err = m.Service.Resend(ctx, by, g.ID)
	case 4:
		event = handoff.EventCodeReissued
		_, err = m.Service.Reissue(ctx, by, g.ID)
	}
	m.ordered(t, event, err)
	if err == nil {
		m.of(g.Dispatch.Parcel).ordered(event)
	}
}

func (m *model) hold(t *rapid.T) {
	g := m.Parcel(t, pick(t, "parcel", m.parcels))
	ops := handoff.Actor{Role: handoff.RoleOps}
	event, do, why := handoff.EventHeld, m.Service.Hold, "disputed"
	switch {
	case m.of(g.Dispatch.Parcel).disputed == disputeOpen:
		if _, err := m.Service.Lift(context.Background(), ops, g.ID, "never mind"); reason(err) != string(handoff.DisputeOpen) && !errors.Is(err, storage.ErrUnavailable) {
			t.Fatalf("%s is disputed, and lifting it came to %v", g.ID, err)
		}
		m.expect(t, m.fresh(t), 0, "lift of a disputed grant")
		return
	case g.Status == handoff.Held:
		event, do, why = handoff.EventLifted, m.Service.Lift, "settled by phone"
	case rapid.IntRange(0, 2).Draw(t, "hold") > 0:
		return
	}
	_, err := do(context.Background(), ops, g.ID, why)
	m.ordered(t, event, err)
	if err == nil {
		m.of(g.Dispatch.Parcel).ordered(event)
	}
}

// override is two people of a shop, or one, or a key, who release a parcel by hand.
func (m *model) override(t *rapid.T) {
	g := m.Parcel(t, pick(t, "parcel", m.parcels))
	by := handoff.Actor{Role: handoff.RoleShop, Shop: g.Dispatch.Shop, Person: true}
	for range rapid.IntRange(1, 3).Draw(t, "steps") {
		by.Subject = pick(t, "clerk", []string{"ada", "ada", "bob"})
		by.Person = rapid.IntRange(0, 9).Draw(t, "key") > 0
		m.overrideStep(t, g.ID, by, m.of(g.Dispatch.Parcel), rapid.Bool().Draw(t, "approve"))
	}
}

// dispute is a customer's word against a handoff, and how it ends.
func (m *model) dispute(t *rapid.T) {
	g := m.Parcel(t, pick(t, "parcel", m.parcels))
	b, ctx := m.of(g.Dispatch.Parcel), context.Background()
	by := handoff.Actor{
		Role: pick(t, "role", []handoff.Role{handoff.RoleCustomer, handoff.RoleCustomer, handoff.RoleOps, handoff.RoleShop}),
		Shop: g.Dispatch.Shop, Customer: g.Dispatch.Customer.ID, Subject: "ada", Person: rapid.IntRange(0, 5).Draw(t, "key") > 0,
	}
	stopped := b.status == handoff.Released || b.status == handoff.Collected || b.status == handoff.Held
	var event handoff.EventType
	var may bool
	var err error
	switch rapid.IntRange(0, 2).Draw(t, "what") {
	case 0:
		event, may = handoff.EventDisputed, stopped && b.handed && b.disputed == 0 && by.Role == handoff.RoleCustomer
		_, err = m.Service.Dispute(ctx, by, g.ID, "I was not at home")
	case 1:
		event, may = handoff.EventDisputeWithdrawn, b.disputed == disputeOpen && by.Role == handoff.RoleCustomer && by.Person
		_, err = m.Service.WithdrawDispute(ctx, by, g.ID)
	default:
		event, may = handoff.EventDisputeSettled, b.disputed == disputeOpen && by.Role == handoff.RoleOps && by.Person
		_, err = m.Service.SettleDispute(ctx, by, g.ID, pick(t, "ruling", []handoff.Ruling{handoff.HandedOver, handoff.NotReceived}), "the neighbour signed")
	}
	if (err == nil) != may && !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("%s: %v by %+v in %v, disputed %v: %v", g.ID, event, by, b.status, b.disputed, err)
	}
	m.ordered(t, event, err)
	if err == nil {
		b.ordered(event)
	}
}

func (m *model) overrideStep(t *rapid.T, id handoff.GrantID, by handoff.Actor, b *book, approve bool) {
	now := handoff.InstantOf(m.Clock.Now())
	may := by.Person && b.status == handoff.Active && b.day == m.today().Date && b.dispatch.Purpose == handoff.PurposeDelivery
	event := handoff.EventOverrideAsked
	waits := b.asked.by != "" && now-b.asked.at < 3600
	var err error
	if approve {
		named := handoff.OverrideRequest{At: b.asked.at, Replaced: b.asked.replaced}
		approved := rapid.SampledFrom([]string{"", named.ID(), (&handoff.OverrideRequest{At: named.At, Replaced: named.Replaced + 1}).ID()}).Draw(t, "wish")
		event, may = handoff.EventOverridden, may && waits && b.asked.by != by.Subject && (approved == named.ID() || approved == "" && named.Replaced == 0)
		_, err = m.Service.Override(context.Background(), by, id, approved)
	} else {
		_, err = m.Service.AskOverride(context.Background(), by, id, "nothing else works")
	}
	if (err == nil) != may && !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("%s: %v by %+v, asked by %+v, in %v: %v", id, event, by, b.asked, b.status, err)
	}
	m.ordered(t, event, err)
	switch {
	case err != nil:
	case approve:
		b.ordered(event)
	default:
		replaced := 0
		if waits {
			replaced = b.asked.replaced + 1
		}
		b.asked = wish{by: by.Subject, at: now, replaced: replaced}
	}
}

func (m *model) ordered(t *rapid.T, event handoff.EventType, err error) {
	fresh := m.fresh(t)
	if err == nil {
		m.expect(t, fresh, event, "order")
		return
	}
	m.refused(t, fresh, err, "order")
}

// sweep expires every grant whose window is over, and no other, gives up waiting for doors
// that did not answer, and forgets the people behind grants that closed a week ago.
func (m *model) sweep(t *rapid.T) {
	m.faulty.Calm()
	if _, err := m.Service.Sweep(context.Background(), 100); err != nil {
		t.Fatalf("Sweep: %v", err)
	}
	for _, e := range m.fresh(t) {
		switch e.Type {
		case handoff.EventExpired, handoff.EventDoorSilent:
		case handoff.EventScrubbed:
			if closed := closedAt(m.lives[e.Grant]); closed == 0 || e.At-closed < week {
				t.Fatalf("a sweep caused %v, and the grant closed at %v", e, closed)
			}
		default:
			t.Fatalf("a sweep caused %v", e)
		}
	}
	for _, parcel := range m.parcels {
		g, now := m.Parcel(t, parcel), handoff.InstantOf(m.Clock.Now())
		if g.Status == handoff.Active && g.Window.Over(now.Time()) {
			t.Fatalf("%s is still active after a sweep", g.ID)
		}
		if closed := closedAt(m.lives[g.ID]); g.Status.Closed() && now-closed >= week && g.Dispatch.Customer.Email != "" {
			t.Fatalf("%s closed at %v and still knows its customer", g.ID, closed)
		}
	}
	m.allAnswered(t)
}

const week = 7 * 24 * 3600 // seconds

// closedAt is when a life closed for the last time; 0 if it is open.
func closedAt(life []handoff.Event) (at handoff.Instant) {
	for _, e := range life {
		switch e.Type {
		case handoff.EventReleased, handoff.EventCollected, handoff.EventOverridden, handoff.EventRecalled, handoff.EventExpired, handoff.EventPartRecalled:
			if e.Left == 0 {
				at = e.At
			}
		case handoff.EventDisputeWithdrawn, handoff.EventDisputeSettled: // they are told of it
			at = e.At
		case handoff.EventAborted, handoff.EventRescheduled:
			at = 0
		}
	}
	return at
}

// mail is what becomes of the mail with a code: that of the newest one, or of an older one that
// comes back late.
func (m *model) mail(t *rapid.T) {
	g, ctx := m.Parcel(t, pick(t, "parcel", m.parcels)), context.Background()
	b := m.of(g.Dispatch.Parcel)
	standing := (b.status == handoff.Active || b.status == handoff.Held) && g.CodeRequired()
	var issue uint64
	if n := len(g.Code.Issued); n > 0 {
		issue = g.Code.Issued[rapid.IntRange(max(0, n-2), n-1).Draw(t, "code")]
	}
	known := m.mailBook(g.ID)
	if known.issue != issue {
		known = mailBook{issue: issue}
	}
	newest := issue != 0 && issue == g.NewestIssue()
	var event handoff.EventType
	var err error
	var state handoff.MailState
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		state = pick(t, "state", []handoff.MailState{handoff.MailAccepted, handoff.MailDelivered})
		if newest {
			err = m.Service.MailTaken(ctx, &g, state)
		}
		if known.failed && known.told < 6 {
			event = handoff.EventMailArrived
		}
		if err == nil && newest && standing && !g.Window.Over(m.Clock.Now()) {
			m.taken[g.ID] = issue
		}
	case 1:
		state = handoff.MailSeen
		if newest {
			err = m.Service.MailSeen(ctx, handoff.Actor{Role: handoff.RoleCustomer, Shop: g.Dispatch.Shop, Customer: g.Dispatch.Customer.ID, Subject: "ada", Person: true}, &g)
		}
		if known.state != handoff.MailSeen && b.status == handoff.Active && !g.Code.Locked(m.Service.Policy().Limits) {
			event = handoff.EventMailArrived
		}
	default:
		state = handoff.MailFailed
		err = m.Service.MailFailed(ctx, g.ID, issue, pick(t, "why", []handoff.Reason{handoff.MailRefused, handoff.MailBounced}), "5.1.1")
		if known.state != handoff.MailFailed && known.state != handoff.MailSeen {
			event = handoff.EventMailFailed
		}
	}
	if !newest || !standing || b.status == handoff.Active && g.Window.Over(m.Clock.Now()) {
		event = 0
	}
	m.ordered(t, event, err)
	if err == nil && event != 0 {
		failed := state == handoff.MailFailed || state == handoff.MailSeen && known.failed
		if known.state == handoff.MailSeen {
			state = handoff.MailSeen
		}
		m.mails[g.ID] = mailBook{issue: issue, state: state, told: known.told + 1, failed: failed}
	}
}

// mailBook is what the model knows of a grant's mail.
type mailBook struct {
	issue uint64
	state handoff.MailState
	told  int

	failed bool // and it was not told since that a mail was taken
}

func (m *model) mailBook(id handoff.GrantID) mailBook { return m.mails[id] }

// lateMails tells of each mail that no server took for half an hour, and of no other.
func (m *model) lateMails(t *rapid.T) {
	m.faulty.Calm()
	now := handoff.InstantOf(m.Clock.Now())
	if _, err := m.Service.SweepMails(context.Background(), 1000); err != nil {
		t.Fatalf("SweepMails: %v", err)
	}
	for _, e := range m.fresh(t) {
		was := m.mails[e.Grant]
		if was.issue != e.Issue {
			was = mailBook{issue: e.Issue}
		}
		issued := issuedAt(m.lives[e.Grant], e.Issue)
		if e.Type != handoff.EventMailFailed || e.Reason != handoff.MailLate || m.taken[e.Grant] == e.Issue || was.state != 0 && was.state != handoff.MailAccepted || now-issued < 1800 {
			t.Fatalf("a sweep of mails caused %+v, of %+v issued at %v", e, was, issued)
		}
		m.mails[e.Grant] = mailBook{issue: e.Issue, state: handoff.MailFailed, told: was.told + 1, failed: true}
	}
}

// issuedAt is when a code was given out first.
func issuedAt(life []handoff.Event, issue uint64) handoff.Instant {
	for _, e := range life {
		if e.Issue == issue {
			return e.At
		}
	}
	return 0
}

// step sets the clock back, by up to an hour and not into the day before, as an operator or a
// time server may.
func (m *model) step(t *rapid.T) {
	zone, err := handoff.Zone(Zone)
	if err != nil {
		panic(err) // the zone is a constant
	}
	now := m.Clock.Now().In(zone)
	today := now.Hour()*3600 + now.Minute()*60 + now.Second()
	m.Clock.Step(-time.Duration(rapid.IntRange(0, min(today, 3600)).Draw(t, "seconds back")) * time.Second)
}

func (m *model) wait(t *rapid.T) {
	m.Clock.Advance(time.Duration(rapid.IntRange(1, 1200).Draw(t, "seconds")) * time.Second)
}

// sleep moves to another day. In the morning the dispatcher assigns the routes, and
// new parcels leave the warehouse.
func (m *model) sleep(t *rapid.T) {
	m.Clock.Advance(time.Duration(rapid.IntRange(1, 60).Draw(t, "hours")) * time.Hour)
	for days := range 2 {
		m.assignTo(t, pick(t, "courier", modelCouriers), Route, m.today().plus(days))
	}
	m.parcels = m.parcels[max(0, len(m.parcels)-10):]
	for range rapid.IntRange(0, 5).Draw(t, "parcels") {
		d := Sample(fmt.Sprintf("n%d", len(m.lives)))
		d.Day = m.today().Date
		m.send(t, d)
	}
}

func (m *model) courier(t *rapid.T) {
	id, until := pick(t, "courier", modelCouriers), handoff.InstantOf(m.Clock.Now().AddDate(1, 0, 0))
	update := service.CourierUpdate{Suspended: new(bool), ClearedUntil: &until}
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		*update.Suspended = true
	case 1:
		until = handoff.InstantOf(m.Clock.Now().Add(time.Hour))
	}
	if err := m.Core.PutCourier(context.Background(), Courier(id), update); err != nil {
		t.Fatalf("PutCourier: %v", err)
	}
	m.staff[id] = clearance{until: until, suspended: *update.Suspended}
}

func (m *model) assign(t *rapid.T) {
	m.assignTo(t, pick(t, "courier", modelCouriers), pick(t, "route", modelRoutes), m.today().plus(rapid.IntRange(0, 2).Draw(t, "days")))
}

func (m *model) assignTo(t *rapid.T, id, route string, day handoff.Date) {
	m.Drives(t, id, route, day)
	m.drivers[service.RouteRef{Carrier: Carrier, Route: route, Day: day}] = id
}

func (m *model) fault(t *rapid.T) {
	m.faulty.Calm()
	m.faulty.Next(pick(t, "fault", []Fault{ReplyLost, ReplyLost, RequestLost, Refused, Overtaken}))
}

// fresh is what the log has gained since the last look.
func (m *model) fresh(t *rapid.T) []handoff.Event {
	var fresh []handoff.Event
	for n := range handoff.Partitions {
		for {
			page, err := m.Core.Read(context.Background(), n, m.read[n], 100)
			if err != nil {
				t.Fatalf("Read: %v", err)
			}
			if len(page) == 0 {
				break
			}
			for _, l := range page {
				fresh = append(fresh, l.Event)
				if stray := StrayFields(l.Event); stray != nil {
					t.Fatalf("an event %s sets %v, which it does not have", l.Event.Type, stray)
				}
				m.lives[l.Event.Grant] = append(m.lives[l.Event.Grant], l.Event)
				m.witness(t, l.Event)
			}
			m.read[n] = page[len(page)-1].ID.ID
		}
	}
	return fresh
}

// witness holds a handoff to what the carrier says of its courier at that moment.
func (m *model) witness(t *rapid.T, e handoff.Event) {
	if e.Type == handoff.EventCodeRefused {
		m.guesses[e.Courier] = append(m.guesses[e.Courier], e.At)
		if !e.Excused {
			m.charged[e.Courier] = append(m.charged[e.Courier], e.At)
		}
	}
	m.atDoors(t, e)
	if e.Type != handoff.EventReleased && e.Type != handoff.EventCollected {
		return
	}
	c, err := m.Core.Courier(context.Background(), Courier(e.Courier))
	if err != nil {
		t.Fatalf("Courier: %v", err)
	}
	g := m.Parcel(t, e.Parcel)
	driver := m.drivers[service.RouteRef{Carrier: Carrier, Route: g.Route(), Day: g.Day()}]
	if c == nil || c.Suspended || c.ClearedUntil <= e.At || driver != e.Courier {
		t.Fatalf("%v by %+v, the route being %q's", e, c, driver)
	}
}

func (m *model) expect(t *rapid.T, fresh []handoff.Event, want handoff.EventType, what string) {
	if want == 0 && len(fresh) == 0 || len(fresh) == 1 && fresh[0].Type == want {
		return
	}
	t.Fatalf("%s: events %v, want one of %v", what, fresh, want)
}

func (m *model) refused(t *rapid.T, fresh []handoff.Event, err error, what string) {
	var refusal *handoff.Refusal
	if len(fresh) > 0 || !errors.As(err, &refusal) && !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("%s: %v, with the events %v", what, err, fresh)
	}
}

// voiding are the events after which a release by hand must be asked for anew.
var voiding = []handoff.EventType{
	handoff.EventReleased, handoff.EventCollected, handoff.EventOverridden, handoff.EventAborted, handoff.EventRecalled,
	handoff.EventRescheduled, handoff.EventExpired, handoff.EventHeld, handoff.EventLifted, handoff.EventDisputed,
}

// check holds every grant's life, and every courier's, to the rules.
func (m *model) check(t *rapid.T) {
	m.checkSeveral(t)
	for id, life := range m.lives {
		snap, err := m.Core.Load(context.Background(), service.Query{Parcel: id.Hash, Generation: id.Generation})
		if err != nil || snap.Record == nil {
			t.Fatalf("%s has events, and no record: %v", id, err)
		}
		stored := snap.Record.Grant
		g := handoff.Seed(id, stored.Dispatch, stored.Code)
		var ofCode, ofGrant int
		standing := map[string]int{}
		stand := func(e handoff.Event, n int) {
			for _, parcel := range append(e.Parcels, e.Parcel)[:max(1, len(e.Parcels))] {
				if standing[parcel] += n; standing[parcel] < 0 || standing[parcel] > 1 {
					t.Fatalf("%s: %d handoffs of %s stand: %v", id, standing[parcel], parcel, life)
				}
			}
		}
		var asked handoff.Event   // for a release by hand
		var waiting handoff.Event // a consent that a shop's link asked for
		seen := map[handoff.EventType]int{}
		for _, e := range life {
			if e.Issue != 0 && e.Type != handoff.EventMailFailed && e.Type != handoff.EventMailArrived {
				ofCode = 0
			}
			seen[e.Type]++
			switch e.Type {
			case handoff.EventCodeRefused:
				ofCode++
				ofGrant++
			case handoff.EventReleased, handoff.EventCollected:
				stand(e, +1)
				if g.CodeRequired() && (ofCode >= 5 || ofGrant >= 10) {
					t.Fatalf("%s was released with %d and %d wrong codes: %v", id, ofCode, ofGrant, life)
				}
			case handoff.EventOverridden:
				stand(e, +1)
				if asked.Who == "" || asked.Who == e.Who || e.Who == "" || e.At-asked.At >= 3600 || !g.Window.Contains(e.At.Time()) {
					t.Fatalf("%s was released by hand, which nobody else asked for: %v", id, life)
				}
			case handoff.EventAborted:
				stand(e, -1)
				if g.Handoff.Courier == "" {
					t.Fatalf("%s: a release by hand was taken back: %v", id, life)
				}
			}
			switch e.Type {
			case handoff.EventConsentAsked:
				waiting = e
			case handoff.EventConsented:
				confirmed := e.By == "resident" && waiting.Link != "" && e.Link == waiting.Link && e.At-waiting.At < 3600 && slices.Equal(e.Consents, waiting.Consents)
				if len(g.NewConsents(e.Consents)) > 0 && !confirmed && (e.Link != "" || e.By != "customer") {
					t.Fatalf("%s: %+v adds a consent that no customer gave and no resident confirmed: %v", id, e, life)
				}
				waiting = handoff.Event{}
			}
			if e.Type == handoff.EventOverrideAsked {
				asked = e
			} else if slices.Contains(voiding, e.Type) {
				asked = handoff.Event{}
			}
			if ofCode > 5 || ofGrant > 10 {
				t.Fatalf("%s: %d wrong codes, %d in its life: %v", id, ofCode, ofGrant, life)
			}
			knocked := e.Type == handoff.EventAccessRefused || e.Type == handoff.EventImpossible // and was refused
			if e.Type == handoff.EventDisputed {
				if g.Handoff == nil || e.Courier != g.Handoff.Courier || e.HandedAt != g.Handoff.At || e.Distance != g.Handoff.Distance {
					t.Fatalf("%s: %+v disputes the handoff %+v", id, e, g.Handoff)
				}
			} else if e.Courier != "" && !knocked && !g.Window.Contains(e.At.Time()) {
				t.Fatalf("%s: %v, outside its window %+v", id, e, g.Window)
			}
			g = handoff.Apply(g, e)
		}
		if aborts := seen[handoff.EventAborted]; aborts > 1 || aborts+seen[handoff.EventCodeReissued] > 3 || seen[handoff.EventCodeResent] > 5 || seen[handoff.EventElsewhere] > 5 || seen[handoff.EventConsentAsked] > 5 {
			t.Fatalf("%s: aborted, reissued, resent, asked for a consent or tried elsewhere too often: %v", id, life)
		}
		if !reflect.DeepEqual(g, stored) {
			t.Fatalf("%s replays to\n%+v, and is stored as\n%+v", id, g, stored)
		}
		m.remembered(t, &stored)
	}
	for courier, at := range m.guesses {
		slices.Sort(at)
		for i := range at {
			if i >= 20 && at[i]-at[i-20] < 24*3600 {
				t.Fatalf("%s entered too many wrong codes: %v", courier, at)
			}
		}
	}
	for courier, at := range m.charged {
		slices.Sort(at)
		for i := range at {
			if i >= 60 && at[i]-at[i-60] < 30*24*3600 {
				t.Fatalf("%s guessed too often: %v", courier, at)
			}
		}
	}
	all := slices.Concat(slices.Collect(maps.Values(m.charged))...)
	slices.Sort(all)
	for i := range all {
		if i >= 50 && all[i]-all[i-50] < 24*3600 { // too few releases for one more
			t.Fatalf("the carrier's couriers guessed too often: %v", all)
		}
	}
}
