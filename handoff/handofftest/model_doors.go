package handofftest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"pgregory.net/rapid"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// books are what the model wrote down of what it did: the registry, the couriers, the
// grants and the permits, as far as doors go by them. What a permit should have needed is
// reckoned from these, and from nothing that the service keeps.
type books struct {
	grants    map[string]*book // by parcel, the newest
	staff     map[string]clearance
	buildings map[string]handoff.Building
	doors     map[string]handoff.Door
	passes    []*pass          // every permit given, oldest first
	seen      map[string]*pass // the last, by courier
	byPermit  map[handoff.PermitID]*pass
}

// book is one grant.
type book struct {
	id         handoff.GrantID
	dispatch   handoff.Dispatch
	day        handoff.Date
	route      string
	status     handoff.Status
	heldFrom   handoff.Status
	missed     int // how often no one answered: each gives every door one more visit
	consents   []handoff.TargetKind
	stays      map[string][]stay // by door
	asked      wish              // for a release by hand; zero: none that counts
	handed     bool              // a handoff stands
	disputed   disputed
	heldBefore bool        // the dispute found the grant on hold
	again      int         // how many stays of its life were begun again
	permits    []time.Time // when the permits were given that the grant remembers
}

// disputed is what the customer said of the handoff that stands; 0 is nothing.
type disputed int

const (
	disputeOpen disputed = iota + 1
	disputeOver
)

// wish is who asked for a release by hand, and when.
type wish struct {
	by string
	at handoff.Instant

	replaced int // wishes that waited when it was asked
}

// stay is one visit to a door.
type stay struct {
	since   time.Time
	permits int
	over    bool
	again   bool // begun after all that its right gives were over
}

type clearance struct {
	until     handoff.Instant
	suspended bool
}

// pass is one permit and what the door said of it.
type pass struct {
	permit  handoff.PermitID
	grant   handoff.GrantID
	parcel  string
	door    handoff.Door // as it was
	at      time.Time
	day     handoff.Date               // of its grant then
	told    map[handoff.DoorState]bool // what the model reported
	said    map[handoff.DoorState]bool // what the log has
	state   handoff.DoorState
	courier string
	over    bool // its time was over once: it may be forgotten, wherever the clock is set
}

// Numbers of the design, said once more: a model that took them from the code would
// believe whatever stands there.
const (
	stayLength   = 5 * time.Minute
	stayPermits  = 3
	doorPatience = 15 * time.Second
	permitLife   = 225 * time.Second // a PIN of the next minute at a slow door: 210, and 15 for the answer
	mostLive     = 16
	fenceAtDoor  = 30
	slack        = 10                // the accuracy of every position
	journey      = 657 * time.Second // 30,023 m less 500 at 45 m/s: what it takes from here to elsewhere
)

// elsewhere is a building 30 km to the north.
var elsewhere = handoff.PointOf(52.7956, 13.3421)

const (
	thisHouse  = "bld_turm5"
	otherHouse = "bld_other"
)

var modelDoors = []string{"gate", "gate2", "lobby", "lobby2", "garage", "garage2", "garage3", "home", "far", "later"}

func newBooks() books {
	b := books{
		grants: map[string]*book{}, staff: map[string]clearance{}, buildings: map[string]handoff.Building{},
		doors: map[string]handoff.Door{}, seen: map[string]*pass{}, byPermit: map[handoff.PermitID]*pass{},
	}
	for _, id := range modelCouriers {
		b.staff[id] = clearance{until: handoff.InstantOf(Noon.AddDate(5, 0, 0))}
	}
	return b
}

// enrol registers two buildings and all doors but one, which comes later if at all.
func (m *model) enrol(t *rapid.T) {
	for _, id := range []string{thisHouse, otherHouse} {
		m.putBuilding(t, handoff.Building{ID: id, Zone: Zone, Carriers: []string{Carrier}, Returns: true})
	}
	own := &handoff.CustomerRef{Shop: Shop, ID: "cus_81"}
	for _, d := range []handoff.Door{
		{ID: "gate", Kind: handoff.Gate, Mode: handoff.Connected},
		{ID: "gate2", Kind: handoff.Gate, Mode: handoff.Carried},
		{ID: "lobby", Kind: handoff.Lobby, Mode: handoff.Connected},
		{ID: "lobby2", Kind: handoff.Lobby, Mode: handoff.Carried},
		{ID: "garage", Kind: handoff.Garage, Mode: handoff.Connected, Owner: own},
		{ID: "garage2", Kind: handoff.Garage, Mode: handoff.Carried, Owner: own},
		{ID: "garage3", Kind: handoff.Garage, Mode: handoff.Connected, Owner: &handoff.CustomerRef{Shop: Shop, ID: "cus_82"}},
		{ID: "home", Kind: handoff.Home, Mode: handoff.Connected, Owner: own},
		{ID: "far", Kind: handoff.Lobby, Mode: handoff.Connected, BuildingID: otherHouse},
	} {
		m.putDoor(t, d)
	}
}

func (m *model) putBuilding(t *rapid.T, b handoff.Building) {
	if err := m.Core.PutBuilding(context.Background(), b); err != nil {
		t.Fatalf("PutBuilding: %v", err)
	}
	m.buildings[b.ID] = b
}

func (m *model) putDoor(t *rapid.T, d handoff.Door) {
	place := Home
	if d.BuildingID == otherHouse {
		place = elsewhere
	} else {
		d.BuildingID = thisHouse
	}
	d.Location = &place
	if err := m.Core.PutDoor(context.Background(), d); err != nil {
		t.Fatalf("PutDoor: %v", err)
	}
	m.doors[d.ID] = d
}

// building is a manager who changes what is allowed, while parcels are on their way.
func (m *model) building(t *rapid.T) {
	b := m.buildings[pick(t, "building", []string{thisHouse, thisHouse, otherHouse})]
	b.Carriers = pick(t, "carriers", [][]string{{Carrier}, {Carrier}, {"rival", Carrier}, {"rival"}, nil})
	b.Returns = rapid.Bool().Draw(t, "returns")
	b.Hours = pick(t, "hours", []*handoff.Hours{nil, nil, {From: 7 * 60, To: 21 * 60}, {From: 21 * 60, To: 7 * 60}})
	b.Quiet = pick(t, "quiet", []*handoff.Hours{nil, nil, nil, {From: 12 * 60, To: 14 * 60}, {From: 22 * 60, To: 6 * 60}})
	m.putBuilding(t, b)
}

// door is a door that is added, removed or brought back, or comes to be of another mode,
// reach or owner, or closed to the carrier.
func (m *model) door(t *rapid.T) {
	id := pick(t, "door", modelDoors)
	d, known := m.doors[id]
	if known && d.BuildingID == thisHouse && rapid.IntRange(0, 3).Draw(t, "removed") == 0 {
		d.Removed = true
		if err := m.Core.PutDoor(context.Background(), d); err != nil {
			t.Fatalf("removing a door: %v", err)
		}
		delete(m.doors, id)
		return
	}
	if !known {
		d = handoff.Door{ID: id, Kind: pick(t, "kind", []handoff.TargetKind{handoff.Lobby, handoff.Gate, handoff.Garage, handoff.Home})}
	}
	d.Mode = pick(t, "mode", []handoff.DoorMode{handoff.Carried, handoff.Connected, handoff.Bridged})
	d.Fence = pick(t, "fence", []float64{0, 100})
	d.Carriers = pick(t, "carriers", [][]string{nil, nil, {Carrier}, {"rival"}, {}})
	if d.Kind == handoff.Garage || d.Kind == handoff.Home {
		d.Owner = pick(t, "owner", []*handoff.CustomerRef{{Shop: Shop, ID: "cus_81"}, {Shop: Shop, ID: "cus_81"}, {Shop: "other", ID: "cus_81"}, {Shop: Shop, ID: "cus_82"}, nil})
	}
	m.putDoor(t, d)
}

// opened begins the book of a new grant.
func (m *model) opened(g handoff.Grant) {
	d := g.Dispatch
	m.grants[d.Parcel] = &book{id: g.ID, dispatch: d, day: d.Day, route: d.Route, status: handoff.Active, stays: map[string][]stay{}}
}

func (m *model) of(parcel string) *book { return m.grants[parcel] }

func (b *book) presented(act handoff.Act) {
	if act != handoff.Attempt {
		b.asked = wish{}
	}
	switch act {
	case handoff.Release:
		b.status, b.handed = handoff.Released, true
	case handoff.Collect:
		b.status, b.handed = handoff.Collected, true
	case handoff.Abort:
		b.status, b.handed, b.disputed = handoff.Active, false, 0
	case handoff.Attempt:
		b.missed++
	}
}

func (b *book) ordered(event handoff.EventType) {
	switch event {
	case handoff.EventRecalled:
		b.status, b.asked = handoff.Recalled, wish{}
	case handoff.EventOverridden:
		b.status, b.asked, b.handed = handoff.Released, wish{}, true
	case handoff.EventDisputed:
		b.disputed, b.heldBefore = disputeOpen, b.status == handoff.Held
		if !b.heldBefore {
			b.heldFrom, b.status, b.asked = b.status, handoff.Held, wish{}
		}
	case handoff.EventDisputeWithdrawn, handoff.EventDisputeSettled:
		if b.disputed = disputeOver; !b.heldBefore {
			b.status = b.heldFrom
		}
	case handoff.EventHeld:
		b.heldFrom, b.status, b.asked = b.status, handoff.Held, wish{}
	case handoff.EventLifted:
		b.status = b.heldFrom
	}
}

// moved is another day, on which everything begins anew.
func (b *book) moved(day handoff.Date, route string) {
	b.status, b.day, b.stays, b.asked = handoff.Active, day, map[string][]stay{}, wish{}
	if route != "" {
		b.route = route
	}
}

// active reports whether the grant allows anything on a day.
func (b *book) active(today handoff.Date) bool {
	return b.status == handoff.Active && !today.After(b.day)
}

// mayVisit reports whether a permit for the door fits into the visit that runs, or into
// one that is still to come, or into one that is begun again: at a shared door, within six
// a day and eighteen a life.
func (b *book) mayVisit(d handoff.Door, now time.Time) (may, again bool) {
	n := 0
	for _, s := range b.stays[d.ID] {
		if !s.over && now.Sub(s.since) < stayLength {
			return s.permits < stayPermits, false
		}
		if !s.again {
			n++
		}
	}
	if n < 1+b.missed {
		return true, false
	}
	today := 0
	for _, stays := range b.stays {
		for _, s := range stays {
			if s.again {
				today++
			}
		}
	}
	again = (d.Kind == handoff.Lobby || d.Kind == handoff.Gate) && today < 6 && b.again < 18
	return again, again
}

func (b *book) visited(door string, now time.Time, again bool) {
	stays := b.stays[door]
	for i := range stays {
		if s := &stays[i]; !s.over && now.Sub(s.since) < stayLength {
			s.permits++
			return
		}
	}
	b.stays[door] = append(stays, stay{since: now, permits: 1, again: again})
	if again {
		b.again++
	}
}

// doorRequest is a courier's unlock request, and what the model knows of where it was made.
type doorRequest struct {
	service.UnlockRequest
	meters float64 // from the door; negative: no position was sent
	old    bool    // the position
}

func (m *model) at(courier, parcel, door string, meters float64, old bool, challenge []byte) doorRequest {
	k := doorRequest{UnlockRequest: service.UnlockRequest{Courier: Courier(courier), Door: door, Parcel: parcel, Challenge: challenge}, meters: meters, old: old}
	if meters < 0 {
		return k
	}
	place := Home
	if m.doors[door].BuildingID == otherHouse {
		place = elsewhere
	}
	place.Lat += int32(meters / 0.111195)
	k.Position = &handoff.Position{Point: place, Accuracy: slack, Age: 1}
	if old {
		k.Position.Age = 61
	}
	return k
}

var freshChallenge = []byte("12345678")

// driver is who drives a parcel's route that day; any courier where there is none.
func (m *model) driver(b *book) string {
	if who, ok := m.drivers[service.RouteRef{Carrier: Carrier, Route: b.route, Day: b.day}]; ok {
		return who
	}
	return modelCouriers[0]
}

// unlock is any courier at any door with any parcel.
func (m *model) unlock(t *rapid.T) {
	parcel := pick(t, "parcel", m.parcels)
	who := m.driver(m.of(parcel))
	if rapid.IntRange(0, 4).Draw(t, "another courier") == 0 {
		who = pick(t, "courier", modelCouriers)
	}
	k := m.at(who, parcel, pick(t, "door", modelDoors),
		pick(t, "meters", []float64{0, 0, 0, 25, 70, 400, -1}), rapid.IntRange(0, 9).Draw(t, "old") == 0,
		pick(t, "challenge", [][]byte{freshChallenge, freshChallenge, freshChallenge, nil, []byte("1234567"), bytes.Repeat([]byte("x"), 33)}))
	if rapid.Bool().Draw(t, "with attempt id") {
		k.Attempt = pick(t, "attempt", []string{"a1", "a2", "a3"})
	}
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		m.ask(t, k)
	}
}

// wayIn is the driver who goes through every door of the house as one should, but with
// several tries at each, and whose doors answer.
func (m *model) wayIn(t *rapid.T) {
	parcel := pick(t, "parcel", m.parcels)
	b := m.of(parcel)
	if rapid.Bool().Draw(t, "agreed") {
		m.agree(t, parcel, []handoff.TargetKind{handoff.Garage, handoff.Home})
	}
	tries, pace := rapid.IntRange(1, 4).Draw(t, "tries"), rapid.IntRange(0, 40).Draw(t, "pace")
	late := rapid.IntRange(0, 3).Draw(t, "late") == 0 // the doors, with their answers
	answers := pick(t, "answers", [][]handoff.DoorState{
		nil,
		{handoff.DoorDelivered},
		{handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked},
		{handoff.DoorConfirmed, handoff.DoorDelivered, handoff.DoorOpened, handoff.DoorOpened},
		{handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorFailed, handoff.DoorOpened, handoff.DoorRelocked, handoff.DoorOpened},
		{handoff.DoorRefused, handoff.DoorRefused, handoff.DoorConfirmed},
	})
	for _, id := range slices.Sorted(maps.Keys(m.doors)) {
		if m.doors[id].BuildingID != b.dispatch.To.Building {
			continue
		}
		for range tries {
			given := len(m.passes)
			m.ask(t, m.at(m.driver(b), parcel, id, 0, false, freshChallenge))
			if len(m.passes) > given {
				if late {
					m.Clock.Advance(doorPatience)
					m.sweep(t)
				}
				for _, state := range answers {
					m.say(t, m.passes[given], id, state)
				}
			}
			m.Clock.Advance(time.Duration(pace) * time.Second)
		}
	}
	if late {
		m.sweep(t)
	}
}

// detour is a driver who is let in at one house, and soon after at another.
func (m *model) detour(t *rapid.T) {
	var here, there []string
	for _, parcel := range m.parcels {
		switch b := m.of(parcel); {
		case !b.active(m.today().Date) || b.day != m.today().Date:
		case b.dispatch.To.Building == thisHouse:
			here = append(here, parcel)
		case b.dispatch.To.Building == otherHouse:
			there = append(there, parcel)
		}
	}
	if len(here) == 0 || len(there) == 0 {
		return
	}
	first, then := pick(t, "here", here), pick(t, "there", there)
	m.ask(t, m.at(m.driver(m.of(first)), first, "lobby", 0, false, freshChallenge))
	m.Clock.Advance(time.Duration(rapid.IntRange(int(journey/time.Second)-300, int(journey/time.Second)+3).Draw(t, "seconds")) * time.Second)
	m.ask(t, m.at(m.driver(m.of(then)), then, "far", 0, false, freshChallenge))
}

// lacks names what of a right's proofs does not hold at this moment; nothing if all do.
func (m *model) lacks(k doorRequest) string {
	now, b := m.Clock.Now(), m.of(k.Parcel)
	d, known := m.doors[k.Door]
	if !known {
		return "there is no such door"
	}
	house, staff := m.buildings[d.BuildingID], m.staff[k.Courier.ID]
	fence := d.Fence
	if fence == 0 {
		fence = fenceAtDoor
	}
	private := d.Kind == handoff.Garage || d.Kind == handoff.Home
	owner := handoff.CustomerRef{Shop: b.dispatch.Shop, ID: b.dispatch.Customer.ID}
	switch {
	case !b.active(m.today().Date):
		return "the grant is not active"
	case b.day != m.today().Date:
		return "it is another day's"
	case staff.suspended || staff.until <= handoff.InstantOf(now):
		return "the courier is not cleared"
	case m.guessedTooOften(k.Courier.ID, now):
		return "the courier's budget is spent"
	case m.drivers[service.RouteRef{Carrier: Carrier, Route: b.route, Day: b.day}] != k.Courier.ID:
		return "another courier drives the route"
	case k.meters < 0 || k.old || k.meters > fence+slack:
		return "the courier is not there"
	case d.BuildingID != b.dispatch.To.Building:
		return "the parcel goes to another building"
	case private && (d.Owner == nil || *d.Owner != owner):
		return "the door is another customer's"
	case !slices.Contains(house.Carriers, Carrier):
		return "the building does not admit the carrier"
	case d.Carriers != nil && !slices.Contains(d.Carriers, Carrier):
		return "the door is closed to the carrier"
	case b.dispatch.Purpose == handoff.PurposeReturn && !house.Returns:
		return "the building takes no returns"
	case house.Hours != nil && !during(*house.Hours, now), house.Quiet != nil && during(*house.Quiet, now):
		return "the building is closed at this hour"
	case bound(d) && (len(k.Challenge) < 8 || len(k.Challenge) > 32):
		return "there is no challenge of the door"
	case private && !slices.Contains(b.consents, d.Kind):
		return "the customer did not agree"
	}
	return ""
}

// bound reports whether a permit for the door must name the door's challenge.
func bound(d handoff.Door) bool {
	return d.Mode == handoff.Carried || d.Kind == handoff.Garage || d.Kind == handoff.Home
}

func during(h handoff.Hours, now time.Time) bool {
	zone, err := handoff.Zone(Zone)
	if err != nil {
		panic(err) // the zone is a constant
	}
	local := now.In(zone)
	minute := (24*60 + local.Hour()*60 + local.Minute() - h.From) % (24 * 60)
	return minute < (24*60+h.To-h.From)%(24*60)
}

func (m *model) guessedTooOften(courier string, now time.Time) bool {
	within := func(at []handoff.Instant, period time.Duration) (n int) {
		for _, one := range at {
			if now.Sub(one.Time()) < period {
				n++
			}
		}
		return n
	}
	return within(m.guesses[courier], 24*time.Hour) >= 20 || within(m.charged[courier], 30*24*time.Hour) >= 60
}

// mayBeSpent reports whether a courier's budget may be spent, by codes of which the log tells
// nothing: they were compared, charged, and their commit failed.
func (m *model) mayBeSpent(courier string) bool {
	return len(m.unsure[courier]) > 0 && len(m.unsure[courier])+len(m.guesses[courier]) >= 20
}

// tooFar reports whether the courier was given a permit elsewhere a moment ago.
func (m *model) tooFar(k doorRequest) bool {
	last := m.seen[k.Courier.ID]
	return last != nil && last.door.BuildingID != m.doors[k.Door].BuildingID && m.Clock.Now().Sub(last.at) < journey
}

// live counts the permits that the grant remembers and that may still open a door. It
// remembers sixteen, and forgets the oldest that opens none any more: with a clock that was
// set back that need not be the one given first.
func (b *book) live(now time.Time) int {
	n := 0
	for _, at := range b.permits {
		if now.Sub(at) < permitLife {
			n++
		}
	}
	return n
}

// permitted enters a permit among those remembered.
func (b *book) permitted(now time.Time) {
	if len(b.permits) >= mostLive {
		i := max(0, slices.IndexFunc(b.permits, func(at time.Time) bool { return now.Sub(at) >= permitLife }))
		b.permits = slices.Delete(b.permits, i, i+1)
	}
	b.permits = append(b.permits, now)
}

type permitted struct {
	permit handoff.PermitID
	at     time.Time
}

// ask asks for a permit, and holds the answer to the books.
func (m *model) ask(t *rapid.T, k doorRequest) {
	if len(m.guesses[k.Courier.ID]) >= 20 { // a store may count behind its answers
		m.Account(t, k.Courier.ID)
	}
	b, now := m.of(k.Parcel), m.Clock.Now()
	lacks, tooFar, crowded := m.lacks(k), m.tooFar(k), b.live(now) >= mostLive
	mayVisit, again := b.mayVisit(m.doors[k.Door], now)
	got, err := m.Service.Unlock(context.Background(), k.UnlockRequest)
	fresh := m.fresh(t)
	answer := permitted{got.Permit, got.At}

	key := attemptKey(b.id, k.Courier, k.Attempt)
	if first, again := m.attempts[key]; k.Attempt != "" && again {
		m.expect(t, fresh, 0, "an unlock sent again")
		same := first.kind == "unlock" && reflect.DeepEqual(first.request, any(k.UnlockRequest))
		if _, there := m.doors[k.Door]; same && first.reason == "" && !there { // a permit is no use where nothing is
			first.reason, first.receipt = string(handoff.AccessRefused), permitted{}
		}
		if same && (reason(err) != first.reason || any(answer) != first.receipt) || !same && reason(err) != string(handoff.AttemptReused) {
			t.Fatalf("attempt %s, sent again (the same: %v): %+v, %v; first %+v", key, same, got, err, first)
		}
		return
	}
	wrong := func() { // the books say something else
		t.Fatalf("%s at %s for %s: %v, though in the books: %q, a visit is possible %v, too far %v, too many permits %v",
			k.Courier.ID, k.Door, k.Parcel, err, lacks, mayVisit, tooFar, crowded)
	}
	switch why := handoff.Reason(reason(err)); why {
	case "":
		if lacks != "" || !mayVisit || tooFar || crowded {
			wrong()
		}
		if again {
			if len(fresh) != 2 || fresh[1].Type != handoff.EventVisitAgain || fresh[1].Door != k.Door {
				t.Fatalf("a visit begun again: events %v", fresh)
			}
			m.expect(t, fresh[:1], handoff.EventPermitted, "unlock")
		} else {
			m.expect(t, fresh, handoff.EventPermitted, "unlock")
		}
		m.given(t, k, got, fresh[0])
	case "unavailable":
		m.refused(t, fresh, err, "unlock")
		if lacks == "" && mayVisit && !tooFar && !crowded { // the courier was noted there ahead of the commit that failed
			m.seen[k.Courier.ID] = &pass{door: m.doors[k.Door], at: now}
		}
	default:
		if lacks != "" && (why == handoff.VisitOver || why == handoff.ImpossibleJourney || why == handoff.TooManyPermits) ||
			lacks == "" && !(why == handoff.BudgetExhausted && m.mayBeSpent(k.Courier.ID) || why == handoff.VisitOver && !mayVisit || why == handoff.ImpossibleJourney && tooFar || why == handoff.TooManyPermits && crowded) {
			wrong()
		}
		want := handoff.EventAccessRefused
		if why == handoff.ImpossibleJourney {
			want = handoff.EventImpossible
		}
		if len(fresh) > 0 { // told to the building, though not without end
			m.expect(t, fresh, want, "a refused unlock")
		}
	}
	if k.Attempt != "" && len(fresh) > 0 {
		m.attempts[key] = told{request: k.UnlockRequest, kind: "unlock", receipt: answer, reason: reason(err)}
	}
}

// given enters a permit.
func (m *model) given(t *rapid.T, k doorRequest, got service.Permission, e handoff.Event) {
	d, b := m.doors[k.Door], m.of(k.Parcel)
	var challenge []byte
	if bound(d) {
		challenge = k.Challenge
	}
	if e.Permit != got.Permit || e.Grant != b.id || e.Courier != k.Courier.ID || e.Door != d.ID || e.Building != d.BuildingID ||
		e.Target != d.Kind || e.Awaited != (d.Mode != handoff.Carried) || !bytes.Equal(e.Challenge, challenge) {
		t.Fatalf("the permit %+v is %+v in the log", got, e)
	}
	if m.byPermit[got.Permit] != nil {
		t.Fatalf("the permit %s was given twice", got.Permit)
	}
	p := &pass{
		permit: got.Permit, grant: b.id, parcel: k.Parcel, day: b.day, door: d, at: m.Clock.Now(), courier: k.Courier.ID,
		told: map[handoff.DoorState]bool{}, said: map[handoff.DoorState]bool{}, state: handoff.DoorAuthorised,
	}
	m.passes, m.byPermit[p.permit], m.seen[p.courier] = append(m.passes, p), p, p
	_, again := b.mayVisit(d, p.at)
	b.visited(d.ID, p.at, again)
	b.permitted(p.at)
}

func attemptKey(id handoff.GrantID, courier handoff.CourierRef, attempt string) string {
	return fmt.Sprint(id, courier, attempt)
}

// report is a door that says anything of a permit, as often as it likes, or another door.
func (m *model) report(t *rapid.T) {
	if len(m.passes) == 0 {
		return
	}
	p := pick(t, "permit", m.passes[max(0, len(m.passes)-20):])
	for range rapid.IntRange(1, 5).Draw(t, "reports") {
		id := p.door.ID
		if rapid.IntRange(0, 9).Draw(t, "another door") == 0 {
			id = pick(t, "door", modelDoors)
		}
		m.say(t, p, id, pick(t, "state", []handoff.DoorState{
			handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked, handoff.DoorFailed,
			handoff.DoorRefused, handoff.DoorAuthorised, handoff.DoorSilent, 99,
		}))
	}
}

// rank orders the states of an unlock that goes well.
var rank = map[handoff.DoorState]int{handoff.DoorDelivered: 1, handoff.DoorConfirmed: 2, handoff.DoorOpened: 3, handoff.DoorRelocked: 4}

func (p *pass) furthest() int {
	most := 0
	for state := range p.said {
		most = max(most, rank[state])
	}
	return most
}

// waits reports whether nothing is known of the permit's lock yet.
func (p *pass) waits() bool {
	return p.state == handoff.DoorAuthorised || p.state == handoff.DoorDelivered
}

// say reports a state, and checks that it became news where it is, and else did not.
func (m *model) say(t *rapid.T, p *pass, door string, state handoff.DoorState) {
	ctx := context.Background()
	known := m.kept(p) && door == p.door.ID
	heard := p.said[state]
	ended := p.said[handoff.DoorFailed] || p.said[handoff.DoorRefused] || p.said[handoff.DoorRelocked]
	news := rank[state] > p.furthest() && !ended
	if state == handoff.DoorSilent { // of its lock
		news = !heard && p.waits()
	}
	if door == p.door.ID {
		p.told[state] = true
	}
	err := m.Service.Reported(ctx, door, p.permit, state)
	fresh := m.fresh(t)
	switch {
	case reason(err) == "unavailable":
		m.refused(t, fresh, err, "a report")
	case !known:
		if reason(err) != string(handoff.PermitUnknown) || len(fresh) > 0 {
			t.Fatalf("%s reports %v of a permit that is none of its own, or forgotten: %v, %v", door, state, err, fresh)
		}
	case rank[state] == 0 && state != handoff.DoorFailed && state != handoff.DoorRefused && state != handoff.DoorSilent:
		if reason(err) != string(handoff.UnknownAct) || len(fresh) > 0 {
			t.Fatalf("%s reports %v, which no door can: %v, %v", door, state, err, fresh)
		}
	case err != nil, len(fresh) > 1, heard && len(fresh) > 0, news && len(fresh) == 0:
		t.Fatalf("%s reports %v, heard before %v, news %v: %v, %v", door, state, heard, news, err, fresh)
	default:
		u, _, err := m.Service.UnlockOf(ctx, door, p.permit)
		if err != nil || u.State != p.state {
			t.Fatalf("a permit is %v, and is shown as %v: %v", p.state, u.State, err)
		}
	}
}

// kept reports whether a permit should still be known: it is of the parcel's newest
// grant, and among the sixteen newest of it.
func (m *model) kept(p *pass) bool {
	if m.of(p.parcel).id != p.grant {
		return false
	}
	later := 0
	for _, q := range slices.Backward(m.passes) {
		if q == p {
			break
		}
		if q.grant == p.grant {
			later++
		}
	}
	return later < 16
}

// ofDoors are the states that events stand for.
var ofDoors = map[handoff.EventType]handoff.DoorState{
	handoff.EventDoorDelivered: handoff.DoorDelivered, handoff.EventDoorConfirmed: handoff.DoorConfirmed, handoff.EventDoorOpened: handoff.DoorOpened,
	handoff.EventDoorRelocked: handoff.DoorRelocked, handoff.EventDoorFailed: handoff.DoorFailed, handoff.EventDoorRefused: handoff.DoorRefused,
	handoff.EventDoorSilent: handoff.DoorSilent,
}

// atDoors holds what the log says of a door to what the door said.
func (m *model) atDoors(t *rapid.T, e handoff.Event) {
	state, ofDoor := ofDoors[e.Type]
	if !ofDoor {
		return
	}
	p := m.byPermit[e.Permit]
	switch {
	case p == nil || p.grant != e.Grant || p.door.ID != e.Door:
		t.Fatalf("%+v, of a permit that was never given", e)
	case p.said[state]:
		t.Fatalf("%+v, for the second time", e)
	case p.said[handoff.DoorRelocked]:
		t.Fatalf("%+v, after it was locked again", e)
	case state == handoff.DoorSilent:
		late := p.door.Mode != handoff.Carried && e.At.Time().Sub(p.at) >= doorPatience
		if !p.waits() || !late && !p.told[state] {
			t.Fatalf("%+v, of a door that need not answer, has time left, or answered: %v", e, p.said)
		}
	case !p.told[state]:
		t.Fatalf("%+v, which the door never said", e)
	case rank[state] > 0 && rank[state] < p.furthest():
		t.Fatalf("%+v, backwards from %v", e, p.said)
	}
	p.said[state], p.state = true, state
	if b := m.of(p.parcel); b.id == p.grant && state == handoff.DoorOpened && (p.door.Kind == handoff.Garage || p.door.Kind == handoff.Home) {
		for i := range b.stays[e.Door] {
			b.stays[e.Door][i].over = true // the right was to go in once
		}
	}
}

// allAnswered holds after a sweep: a door that is late is known to be.
func (m *model) allAnswered(t *rapid.T) {
	for _, p := range m.passes {
		if m.kept(p) && p.door.Mode != handoff.Carried && m.Clock.Now().Sub(p.at) >= doorPatience &&
			(len(p.said) == 0 || len(p.said) == 1 && p.said[handoff.DoorDelivered]) {
			t.Fatalf("the door %s was not missed after %v", p.door.ID, m.Clock.Now().Sub(p.at))
		}
	}
}

// remembered holds a stored grant to the permits that it gave.
func (m *model) remembered(t *rapid.T, g *handoff.Grant) {
	for _, p := range m.passes {
		if p.grant != g.ID {
			continue
		}
		u := g.Unlock(p.permit)
		p.over = p.over || m.Clock.Now().Sub(p.at) >= permitLife
		if u == nil && !p.over {
			t.Fatalf("%s forgot a permit for %s after %v", g.ID, p.door.ID, m.Clock.Now().Sub(p.at))
		}
		if u != nil && u.State != p.state {
			t.Fatalf("a permit for %s is stored as %v, and was last heard to be %v", p.door.ID, u.State, p.state)
		}
	}
}

// consent is the customer who agrees to some doors and no longer to others.
func (m *model) consent(t *rapid.T) {
	kinds := pick(t, "kinds", [][]handoff.TargetKind{
		nil, {handoff.Garage}, {handoff.Home}, {handoff.Garage, handoff.Home}, {handoff.Home, handoff.Garage}, {handoff.Garage, handoff.Lobby},
	})
	m.agree(t, pick(t, "parcel", m.parcels), kinds)
}

func (m *model) agree(t *rapid.T, parcel string, kinds []handoff.TargetKind) {
	b := m.of(parcel)
	waits := m.waits(t, b) != nil
	used := slices.ContainsFunc(m.passes, func(p *pass) bool {
		return p.grant == b.id && m.kept(p) && p.state != handoff.DoorRefused && p.day == b.day && slices.Contains(b.consents, p.door.Kind) && !slices.Contains(kinds, p.door.Kind)
	})
	none := len(kinds) > 0 && b.dispatch.To.Building == "" || slices.Contains(kinds, handoff.Lobby)
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: b.dispatch.Shop, Customer: b.dispatch.Customer.ID}
	_, err := m.Service.Consent(context.Background(), by, b.id, kinds)
	fresh := m.fresh(t)
	may := b.active(m.today().Date) && !used && !none
	if reason(err) != "unavailable" && may != (err == nil) {
		t.Fatalf("consent to %v: %v, though the grant is active %v, consent was used %v, there is none to give %v", kinds, err, b.active(m.today().Date), used, none)
	}
	if err != nil {
		m.refused(t, fresh, err, "consent")
		return
	}
	kinds = slices.Sorted(slices.Values(kinds))
	want := handoff.EventConsented
	if slices.Equal(kinds, b.consents) && !waits {
		want = 0
	}
	m.expect(t, fresh, want, "consent")
	b.consents = kinds
}

// waits is the consent of a grant that waits for a resident; nil if none does.
func (m *model) waits(t *rapid.T, b *book) *handoff.ConsentAsk {
	if b.id.Hash == "" {
		return nil
	}
	snap, err := m.Core.Load(context.Background(), service.Query{Parcel: b.id.Hash, Generation: b.id.Generation})
	if err != nil || snap.Record == nil {
		t.Fatalf("%s: %v", b.id, err)
	}
	return snap.Record.Grant.ConsentAsked(m.Clock.Now())
}

// consentByLink is a shop's link that asks for consents and takes them back, and a resident who
// confirms: what waits, or something else. What the log may then say stands in check.
func (m *model) consentByLink(t *rapid.T) {
	b := m.of(pick(t, "parcel", m.parcels))
	waits := m.waits(t, b)
	if waits != nil && rapid.Bool().Draw(t, "confirms") {
		ask := pick(t, "what", []string{waits.ID(), waits.ID(), "0-1"})
		_, err := m.Service.ConfirmConsent(context.Background(), handoff.Actor{Role: handoff.RoleResident, Subject: "resident 1"}, b.id, ask)
		fresh := m.fresh(t)
		if err != nil {
			m.refused(t, fresh, err, "confirm-consent")
			return
		}
		m.expect(t, fresh, handoff.EventConsented, "confirm-consent")
		b.consents = waits.Consents
		return
	}
	kinds := pick(t, "kinds", [][]handoff.TargetKind{nil, {handoff.Garage}, {handoff.Home}, {handoff.Garage, handoff.Home}})
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: b.dispatch.Shop, Customer: b.dispatch.Customer.ID, Link: "0123456789abcdef"}
	reachable := rapid.Bool().Draw(t, "reachable")
	_, err := m.Service.ConsentByLink(context.Background(), by, b.id, kinds, reachable)
	fresh := m.fresh(t)
	switch {
	case reason(err) == string(handoff.ConfirmationSent) && reachable && len(fresh) > 0:
		m.expect(t, fresh, handoff.EventConsentAsked, "consent by a link")
	case err != nil:
		m.refused(t, fresh, err, "consent by a link")
	case len(fresh) > 0:
		m.expect(t, fresh, handoff.EventConsented, "consent by a link")
		b.consents = kinds
	}
}
