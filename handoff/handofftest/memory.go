package handofftest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// Memory is a [Core] in memory: the contract in its plainest form, against which the suite
// itself is tested and which the model uses as its oracle. Like a database it keeps encoded
// copies, so that what is stored changes by a commit alone. It seals nothing.
type Memory struct {
	mu       sync.Mutex
	parcels  map[handoff.ParcelHash]*parcel
	due      map[handoff.GrantID]handoff.Instant
	ofOwner  map[handoff.CustomerRef]map[handoff.ParcelHash]handoff.Instant
	onRoute  map[service.RouteRef]map[handoff.ParcelHash]handoff.Instant
	ofOrder  map[service.OrderRef]map[handoff.ParcelHash]bool
	mails    map[service.MailRef]handoff.MailWord
	awaited  map[awaited]handoff.Instant
	couriers map[handoff.CourierRef]*handoff.Courier
	drivers  map[service.RouteRef]string
	guesses  map[handoff.CourierRef]map[string]guess // by its id

	clearings map[handoff.CourierRef][]service.Clearing
	logs      [handoff.Partitions]partition
	groups    map[string]*group
	arrivals  int
	counts    []counted

	buildings map[string]handoff.Building
	doors     map[string]handoff.Door
	permits   map[handoff.PermitID]service.PermitRef
	notes     map[string]string
	tallies   map[string]int
	beats     map[string]int64
	now       func() time.Time
}

// LiveBy sets the store's own clock, which New makes that of the world; without it, it is the
// wall's.
func (m *Memory) LiveBy(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = now
}

// parcel is every generation of one parcel's grants, encoded.
type parcel struct {
	version  service.Version
	records  map[int][]byte
	archived map[int]service.Version // of the generations that others followed
}

// guess is a place in a courier's budget: reserved, or counted.
type guess struct {
	at      handoff.Instant
	counted bool
	excused bool
	to      string // the customer to whom a counted one was said
	arrived int    // orders the reservations
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{
		parcels:  map[handoff.ParcelHash]*parcel{},
		due:      map[handoff.GrantID]handoff.Instant{},
		ofOwner:  map[handoff.CustomerRef]map[handoff.ParcelHash]handoff.Instant{},
		onRoute:  map[service.RouteRef]map[handoff.ParcelHash]handoff.Instant{},
		ofOrder:  map[service.OrderRef]map[handoff.ParcelHash]bool{},
		mails:    map[service.MailRef]handoff.MailWord{},
		awaited:  map[awaited]handoff.Instant{},
		couriers: map[handoff.CourierRef]*handoff.Courier{},
		drivers:  map[service.RouteRef]string{},
		guesses:  map[handoff.CourierRef]map[string]guess{},

		clearings: map[handoff.CourierRef][]service.Clearing{},
		groups:    map[string]*group{},

		buildings: map[string]handoff.Building{},
		doors:     map[string]handoff.Door{},
		permits:   map[handoff.PermitID]service.PermitRef{},
		notes:     map[string]string{},
		tallies:   map[string]int{},
		beats:     map[string]int64{},
		now:       time.Now,
	}
}

// begin takes the lock, unless the caller has gone.
func (m *Memory) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	m.mu.Lock()
	return m.mu.Unlock, nil
}

// Load implements [service.Grants].
func (m *Memory) Load(ctx context.Context, q service.Query) (service.Snapshot, error) {
	return m.Prepare(ctx, service.Preparation{Query: q})
}

// Prepare implements [service.Grants].
func (m *Memory) Prepare(ctx context.Context, q service.Preparation) (service.Snapshot, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return service.Snapshot{}, err
	}
	defer end()
	if q.Index != nil {
		m.list(q.Parcel, *q.Index)
	}
	if g := q.Guess; g != nil {
		if _, known := m.guesses[g.Courier][g.ID]; !known && !g.Held {
			m.guess(*g, guess{})
		}
	}

	var snap service.Snapshot
	if p := m.parcels[q.Parcel]; p != nil {
		snap.Version = p.version
		newest := p.version.Generation()
		generation := cmp.Or(q.Generation, newest)
		snap.Archived = generation < newest
		if snap.Archived {
			snap.Version = p.archived[generation]
		}
		if snap.Record, err = p.record(q.Parcel, generation); err != nil {
			return service.Snapshot{}, err
		}
		st := service.StandingOf(snap.Record, snap.Version)
		snap.Record, snap.Alias = st.Record, st.Alias
	}
	for _, other := range q.Others {
		var st service.Standing
		if p := m.parcels[other]; p != nil {
			r, err := p.record(other, p.version.Generation())
			if err != nil {
				return service.Snapshot{}, err
			}
			st = service.StandingOf(r, p.version)
		}
		snap.Others = append(snap.Others, st)
	}
	if q.Courier != nil {
		snap.Courier = clone(m.couriers[*q.Courier])
		last := m.arrivals
		if q.Guess != nil {
			own, known := m.guesses[*q.Courier][q.Guess.ID]
			last, snap.Account.Placed = own.arrived, known && !own.counted
		}
		for _, g := range m.guesses[*q.Courier] {
			if g.counted && g.to != "" {
				if snap.Account.By == nil {
					snap.Account.By = map[string][]handoff.Instant{}
				}
				snap.Account.By[g.to] = append(snap.Account.By[g.to], g.at)
			}
			if g.excused {
				snap.Account.Excused = append(snap.Account.Excused, g.at)
			} else if g.counted {
				snap.Account.Counted = append(snap.Account.Counted, g.at)
			} else if g.arrived <= last {
				snap.Account.Reserved = append(snap.Account.Reserved, g.at)
			}
		}
	}
	if q.Door != "" {
		snap.Door = m.door(q.Door)
	}
	if q.Permit != nil {
		if _, known := m.permits[q.Permit.Permit]; !known {
			m.permits[q.Permit.Permit] = *q.Permit
		}
		snap.PermitHeld = m.permits[q.Permit.Permit] == *q.Permit
	}
	return snap, nil
}

// List implements [service.Lists].
func (m *Memory) List(ctx context.Context, parcel handoff.ParcelHash, x service.Index) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	m.list(parcel, x)
	return nil
}

func (m *Memory) list(parcel handoff.ParcelHash, x service.Index) {
	add(m.ofOwner, x.Customer, parcel, x.Until)
	add(m.onRoute, x.Route, parcel, x.Until)
	if x.Order != (service.OrderRef{}) {
		if m.ofOrder[x.Order] == nil {
			m.ofOrder[x.Order] = map[handoff.ParcelHash]bool{}
		}
		m.ofOrder[x.Order][parcel] = true
	}
}

func add[K comparable](index map[K]map[handoff.ParcelHash]handoff.Instant, k K, id handoff.ParcelHash, until handoff.Instant) {
	if index[k] == nil {
		index[k] = map[handoff.ParcelHash]handoff.Instant{}
	}
	index[k][id] = max(index[k][id], until)
}

func (p *parcel) record(id handoff.ParcelHash, generation int) (*service.Record, error) {
	b, ok := p.records[generation]
	if !ok {
		return nil, nil
	}
	var r service.Record
	if err := cbor.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrSealed, err)
	}
	r.Grant.ID = handoff.GrantID{Hash: id, Generation: generation}
	return &r, nil
}

// Commit implements [service.Grants].
func (m *Memory) Commit(ctx context.Context, c service.Change) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	id := c.Record.Grant.ID
	p := m.parcels[id.Hash]
	if p == nil {
		p = &parcel{records: map[int][]byte{}, archived: map[int]service.Version{}}
	}
	version := p.version
	if c.Archived {
		version = p.archived[id.Generation]
	}
	if version != c.From {
		return storage.ErrConflict
	}
	if n := c.Count; n != nil && n.Wrong > 0 {
		if wrong := m.carrierDay(n.Carrier, n.Hour).Wrong[id.Hash.Partition()]; wrong != n.Before {
			return &service.CountConflict{Wrong: wrong}
		}
	}
	stored := c.Record
	if stored.Alias != nil {
		stored.Grant = handoff.Grant{}
	}
	record, err := cbor.Marshal(stored)
	if err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	events := make([]handoff.Event, len(c.Events))
	for i, e := range c.Events {
		if events[i], err = copied(e); err != nil {
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
	}

	if c.Archived {
		p.archived[id.Generation] = c.From.Next(id.Generation)
	} else {
		p.archived[c.From.Generation()] = c.From
		p.version = c.From.Next(id.Generation)
	}
	p.records[id.Generation] = record
	m.parcels[id.Hash] = p
	delete(m.due, id)
	if due := c.Record.Grant.Due(); due != 0 {
		m.due[id] = due
	}
	m.logs[id.Hash.Partition()].append(id.Hash.Partition(), c.Now, c.Record.Grant.Day(), events)
	if a := c.Awaits; a != nil {
		m.awaited[awaited{a.Grant, a.Issue}] = a.By
	}
	if c.Settle != nil {
		m.settle(*c.Settle)
	}
	if c.Count != nil {
		m.counts = append(m.counts, counted{*c.Count, id.Hash.Partition()})
	}
	return nil
}

// CarrierDay implements [service.Guesses].
func (m *Memory) CarrierDay(ctx context.Context, carrier string, now handoff.Instant) (handoff.CarrierDay, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return handoff.CarrierDay{}, err
	}
	defer end()
	return m.carrierDay(carrier, handoff.HourOf(now)), nil
}

func (m *Memory) carrierDay(carrier string, hour int64) handoff.CarrierDay {
	day := handoff.CarrierDay{Hour: hour}
	for _, n := range m.counts {
		if n.Carrier == carrier && n.Hour >= handoff.FirstHour(hour) {
			day.Wrong[n.partition] += n.Wrong
			day.Released += n.Released
		}
	}
	return day
}

// counted is what a commit added to its carrier's day, and where.
type counted struct {
	service.CarrierCount
	partition int
}

func copied(e handoff.Event) (handoff.Event, error) {
	b, err := cbor.Marshal(e)
	if err != nil {
		return handoff.Event{}, err
	}
	out := handoff.Event{Grant: e.Grant}
	return out, cbor.Unmarshal(b, &out)
}

// Settle implements [service.Guesses].
func (m *Memory) Settle(ctx context.Context, s service.Settlement) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	m.settle(s)
	return nil
}

func (m *Memory) settle(s service.Settlement) {
	switch {
	case s.Counted:
		m.guess(s.Guess, guess{counted: true, excused: s.Excused, to: s.To})
	case !m.guesses[s.Courier][s.ID].counted:
		delete(m.guesses[s.Courier], s.ID)
	}
}

func (m *Memory) guess(r service.Guess, g guess) {
	if m.guesses[r.Courier] == nil {
		m.guesses[r.Courier] = map[string]guess{}
	}
	m.arrivals++
	g.at, g.arrived = r.At, m.arrivals
	m.guesses[r.Courier][r.ID] = g
}

// Confirm implements service.Grants: memory has no replicas.
func (m *Memory) Confirm(context.Context, handoff.ParcelHash) error { return nil }

// Many implements [service.Grants].
func (m *Memory) Many(ctx context.Context, ids []handoff.ParcelHash) ([]handoff.Grant, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var grants []handoff.Grant
	for _, id := range ids {
		p := m.parcels[id]
		if p == nil {
			continue
		}
		r, err := p.record(id, p.version.Generation())
		if err != nil {
			return nil, err
		}
		if r.Alias == nil {
			grants = append(grants, r.Grant)
		}
	}
	return grants, nil
}

// OfCustomer implements [service.Lists].
func (m *Memory) OfCustomer(ctx context.Context, c handoff.CustomerRef, after service.Listed, limit int) ([]service.Listed, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	order := func(a, b service.Listed) int {
		return cmp.Or(cmp.Compare(b.Until, a.Until), cmp.Compare(b.Parcel, a.Parcel))
	}
	var list []service.Listed
	for id, until := range m.ofOwner[c] {
		if l := (service.Listed{Parcel: id, Until: until}); after == (service.Listed{}) || order(l, after) > 0 {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, order)
	return list[:min(limit, len(list))], nil
}

// OnRoute implements [service.Lists].
func (m *Memory) OnRoute(ctx context.Context, r service.RouteRef) ([]handoff.ParcelHash, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Collect(maps.Keys(m.onRoute[r])), nil
}

// OfOrder implements [service.Lists].
func (m *Memory) OfOrder(ctx context.Context, o service.OrderRef) ([]handoff.ParcelHash, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Collect(maps.Keys(m.ofOrder[o])), nil
}

// Due implements [service.Schedule].
func (m *Memory) Due(ctx context.Context, partition int, now handoff.Instant, limit int) ([]handoff.GrantID, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var due []handoff.GrantID
	for id, until := range m.due {
		if id.Hash.Partition() == partition && until <= now {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b handoff.GrantID) int { return cmp.Compare(m.due[a], m.due[b]) })
	return due[:min(limit, len(due))], nil
}

// GiveBackPermit implements [service.Permits].
func (m *Memory) GiveBackPermit(ctx context.Context, ref service.PermitRef) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if m.permits[ref.Permit] == ref {
		delete(m.permits, ref.Permit)
	}
	return nil
}

// Unschedule implements [service.Schedule].
func (m *Memory) Unschedule(ctx context.Context, id handoff.GrantID) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if m.parcels[id.Hash] == nil {
		delete(m.due, id)
	}
	return nil
}

// Unlist implements [service.Lists].
func (m *Memory) Unlist(ctx context.Context, c handoff.CustomerRef, id handoff.ParcelHash) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	delete(m.ofOwner[c], id)
	return nil
}

// Courier implements [service.Couriers].
func (m *Memory) Courier(ctx context.Context, ref handoff.CourierRef) (*handoff.Courier, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return clone(m.couriers[ref]), nil
}

func clone(c *handoff.Courier) *handoff.Courier {
	if c == nil {
		return nil
	}
	out := *c
	out.Drives = slices.Clone(c.Drives)
	return &out
}

func (m *Memory) courier(ref handoff.CourierRef) *handoff.Courier {
	if m.couriers[ref] == nil {
		m.couriers[ref] = &handoff.Courier{CourierRef: ref}
	}
	return m.couriers[ref]
}

// PutCourier implements [service.Couriers].
func (m *Memory) PutCourier(ctx context.Context, ref handoff.CourierRef, u service.CourierUpdate) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	c := m.courier(ref)
	if u.Name != nil {
		c.Name = *u.Name
	}
	if u.ClearedUntil != nil {
		c.ClearedUntil = *u.ClearedUntil
	}
	if u.Suspended != nil {
		c.Suspended = *u.Suspended
	}
	return nil
}

// SignOutCourier implements [service.Couriers].
func (m *Memory) SignOutCourier(ctx context.Context, ref handoff.CourierRef, at handoff.Instant) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	c := m.courier(ref)
	c.SignedOut = max(c.SignedOut, at)
	return nil
}

// ClearBudget implements [service.Couriers].
func (m *Memory) ClearBudget(ctx context.Context, ref handoff.CourierRef, c service.Clearing) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	const kept = 16
	m.clearings[ref] = append([]service.Clearing{c}, m.clearings[ref]...)
	m.clearings[ref] = m.clearings[ref][:min(kept, len(m.clearings[ref]))]
	delete(m.guesses, ref)
	return nil
}

// Clearings implements [service.Couriers].
func (m *Memory) Clearings(ctx context.Context, ref handoff.CourierRef) ([]service.Clearing, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Clone(m.clearings[ref]), nil
}

// AssignRoute implements [service.Couriers].
func (m *Memory) AssignRoute(ctx context.Context, r service.RouteRef, id string, _ handoff.Instant) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	drive := handoff.Drive{Day: r.Day, Route: r.Route}
	if before, ok := m.drivers[r]; ok {
		c := m.courier(handoff.CourierRef{Carrier: r.Carrier, ID: before})
		c.Drives = slices.DeleteFunc(c.Drives, func(d handoff.Drive) bool { return d == drive })
	}
	m.drivers[r] = id
	c := m.courier(handoff.CourierRef{Carrier: r.Carrier, ID: id})
	c.Drives = append(c.Drives, drive)
	return nil
}

// Driver implements [service.Couriers].
func (m *Memory) Driver(ctx context.Context, r service.RouteRef) (string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	return m.drivers[r], nil
}

// partition is one of the sixteen parts of the log.
type partition struct {
	entries []eventlog.Logged // oldest first
	ranks   map[string]int    // by id
	last    string            // the newest id
}

// idAt is the first id of a millisecond.
func idAt(t time.Time) string { return fmt.Sprintf("%d-0", t.UnixMilli()) }

func (l *partition) append(n int, now handoff.Instant, day handoff.Date, events []handoff.Event) {
	if l.ranks == nil {
		l.ranks = map[string]int{}
	}
	for _, e := range events {
		next := idAt(now.Time())
		if eventlog.CompareIDs(next, l.last) <= 0 { // another writer's clock is ahead
			next = eventlog.After(l.last)
		}
		l.last, l.ranks[next] = next, e.Urgency(day).Rank()
		l.entries = append(l.entries, eventlog.Logged{ID: eventlog.ID{Partition: n, ID: next}, Event: e})
	}
}

// after lists what follows an id.
func (l *partition) after(id string) []eventlog.Logged {
	i, found := slices.BinarySearchFunc(l.entries, id, func(e eventlog.Logged, id string) int {
		return eventlog.CompareIDs(e.ID.ID, id)
	})
	if found {
		i++
	}
	return l.entries[i:]
}

// Append implements [eventlog.Log].
func (m *Memory) Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	for _, e := range events {
		written, err := copied(e)
		if err != nil {
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
		m.logs[e.Partition()].append(e.Partition(), now, handoff.Date{}, []handoff.Event{written})
	}
	return nil
}

// group is how far the readers of one name have come.
type group struct {
	taken   [handoff.Partitions]string // the newest event ever leased
	pending map[eventlog.ID]*task
	dead    map[eventlog.ID]eventlog.Letter
	turns   eventlog.Turns
}

// task is an event that was taken and is not finished. It is in the hand of the Delivery's reader, if it names one.
type task struct {
	eventlog.Delivery
	ready time.Time // when the retry is due; of no meaning while it is in hand

	// filed says that it was due at a TakeUrgent, and was not taken.
	filed bool
}

func (m *Memory) group(name string) (*group, error) {
	g := m.groups[name]
	if g == nil {
		return nil, fmt.Errorf("handofftest: no reader joined the group %q", name)
	}
	return g, nil
}

// Join implements [eventlog.Log].
func (m *Memory) Join(ctx context.Context, name string) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if m.groups[name] == nil {
		m.groups[name] = &group{pending: map[eventlog.ID]*task{}, dead: map[eventlog.ID]eventlog.Letter{}}
	}
	return nil
}

// Take implements [eventlog.Log].
func (m *Memory) Take(ctx context.Context, name, reader string, limit int) ([]eventlog.Delivery, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return nil, err
	}
	var out []eventlog.Delivery
	for _, t := range inOrder(g.pending, func(t *task) eventlog.ID { return t.ID }) {
		if len(out) < limit && t.Reader == "" && !t.ready.After(m.now()) {
			t.Reader = reader
			out = append(out, t.Delivery)
		}
	}
	for n := range m.logs {
		for _, e := range m.logs[n].after(g.taken[n]) {
			if len(out) == limit {
				return out, nil
			}
			d := eventlog.Delivery{Logged: e, Reader: reader}
			g.taken[n] = e.ID.ID
			g.pending[e.ID] = &task{Delivery: d}
			out = append(out, d)
		}
	}
	return out, nil
}

// TakeUrgent implements [eventlog.Log].
func (m *Memory) TakeUrgent(ctx context.Context, name, reader string, limit int) ([]eventlog.Delivery, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return nil, err
	}
	for n := range m.logs {
		for _, e := range m.logs[n].after(g.taken[n]) {
			g.taken[n] = e.ID.ID
			g.pending[e.ID] = &task{Delivery: eventlog.Delivery{Logged: e}, ready: m.now()}
		}
	}
	var all, others []*task
	for _, t := range inOrder(g.pending, func(t *task) eventlog.ID { return t.ID }) {
		if t.filed = t.Reader == "" && !t.ready.After(m.now()); t.filed {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b *task) int { return cmp.Compare(m.rank(a), m.rank(b)) })
	for _, t := range all {
		if handoff.ClassOfRank(m.rank(t)) != handoff.ClassCode {
			others = append(others, t)
		}
	}
	var out []eventlog.Delivery
	for _, t := range eventlog.Choose(&g.turns, limit, all, others) {
		t.Reader, t.filed = reader, false
		out = append(out, t.Delivery)
	}
	slices.SortStableFunc(out, func(a, b eventlog.Delivery) int {
		return cmp.Compare(m.rank(g.pending[a.ID]), m.rank(g.pending[b.ID]))
	})
	return out, nil
}

func (m *Memory) rank(t *task) int {
	if rank, known := m.logs[t.ID.Partition].ranks[t.ID.ID]; known {
		return rank
	}
	return handoff.UnknownRank // a letter whose event was trimmed
}

// inHand is a task that is in the hand of a delivery's reader; nil if it is in another's or none.
func (g *group) inHand(d eventlog.Delivery) *task {
	if t := g.pending[d.ID]; t != nil && t.Reader != "" && t.Reader == d.Reader {
		return t
	}
	return nil
}

// Beat implements [eventlog.Log].
func (m *Memory) Beat(ctx context.Context, reader string, first bool) (map[string]int64, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if m.beats[reader] > 0 || first {
		m.beats[reader]++
	}
	return maps.Clone(m.beats), nil
}

// Forget implements [eventlog.Log].
func (m *Memory) Forget(ctx context.Context, reader string, beat int64) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	if m.beats[reader] == 0 || m.beats[reader] != beat {
		return false, nil
	}
	delete(m.beats, reader)
	return true, nil
}

// Holders implements [eventlog.Log].
func (m *Memory) Holders(ctx context.Context, name string) (map[string]int, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	held := map[string]int{}
	if g := m.groups[name]; g != nil {
		for _, t := range g.pending {
			if t.Reader != "" {
				held[t.Reader]++
			}
		}
	}
	return held, nil
}

// Free implements [eventlog.Log].
func (m *Memory) Free(ctx context.Context, name, reader string) (int, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	freed := 0
	if g := m.groups[name]; g != nil {
		for _, t := range g.pending {
			if t.Reader == reader {
				t.Reader, t.ready = "", m.now()
				freed++
			}
		}
	}
	return freed, nil
}

// inOrder lists a map's values in the order of the log.
func inOrder[T any](m map[eventlog.ID]T, id func(T) eventlog.ID) []T {
	return slices.SortedFunc(maps.Values(m), func(a, b T) int {
		x, y := id(a), id(b)
		return cmp.Or(eventlog.CompareIDs(x.ID, y.ID), cmp.Compare(x.Partition, y.Partition))
	})
}

// Done implements [eventlog.Log].
func (m *Memory) Done(ctx context.Context, name string, id eventlog.ID) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return err
	}
	delete(g.pending, id)
	return nil
}

// failed counts a failure and gives the task, or nil if it is in another's hand or finished.
func (g *group) failed(f eventlog.Failure) *task {
	t := g.inHand(f.Delivery)
	if t == nil {
		return nil
	}
	t.Tries++
	t.FirstFailed = cmp.Or(t.FirstFailed, handoff.InstantOf(f.At))
	return t
}

// Leave implements [eventlog.Log].
func (m *Memory) Leave(ctx context.Context, name string) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	delete(m.groups, name)
	return nil
}

// Release implements [eventlog.Log].
func (m *Memory) Release(ctx context.Context, name string, d eventlog.Delivery) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return err
	}
	if t := g.inHand(d); t != nil {
		t.Reader, t.ready = "", m.now()
	}
	return nil
}

// Retry implements [eventlog.Log].
func (m *Memory) Retry(ctx context.Context, name string, f eventlog.Failure, after time.Duration) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return err
	}
	if t := g.failed(f); t != nil {
		t.Reader, t.ready = "", m.now().Add(after)
	}
	return nil
}

// Bury implements [eventlog.Log].
func (m *Memory) Bury(ctx context.Context, name string, f eventlog.Failure) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return err
	}
	if t := g.failed(f); t != nil {
		delete(g.pending, t.ID)
		g.dead[t.ID] = eventlog.Letter{Delivery: t.Delivery, Error: f.Error, DiedAt: handoff.InstantOf(f.At)}
	}
	return nil
}

// Dead implements [eventlog.Log].
func (m *Memory) Dead(ctx context.Context, name string) ([]eventlog.Letter, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return nil, err
	}
	letters := inOrder(g.dead, func(l eventlog.Letter) eventlog.ID { return l.ID })
	slices.SortStableFunc(letters, func(a, b eventlog.Letter) int { return cmp.Compare(a.DiedAt, b.DiedAt) })
	return letters, nil
}

// Replay implements [eventlog.Log].
func (m *Memory) Replay(ctx context.Context, name string, id eventlog.ID) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return false, err
	}
	letter, ok := g.dead[id]
	if !ok {
		return false, nil
	}
	delete(g.dead, id)
	g.pending[id] = &task{Delivery: eventlog.Delivery{Logged: letter.Logged}, ready: m.now()}
	return true, nil
}

// Backlog implements [eventlog.Log].
func (m *Memory) Backlog(ctx context.Context, name string) (eventlog.Backlog, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return eventlog.Backlog{}, err
	}
	defer end()
	g, err := m.group(name)
	if err != nil {
		return eventlog.Backlog{}, err
	}
	b := eventlog.Backlog{Dead: int64(len(g.dead))}
	waits := func(e handoff.Event) {
		b.Waiting++
		if b.Oldest == 0 || e.At < b.Oldest {
			b.Oldest = e.At
		}
	}
	for _, t := range g.pending {
		waits(t.Event)
		if t.filed {
			b.Classes[handoff.ClassOfRank(m.rank(t))]++
		}
	}
	for n := range m.logs {
		for _, e := range m.logs[n].after(g.taken[n]) {
			waits(e.Event)
		}
	}
	return b, nil
}

// Read implements [eventlog.Log].
func (m *Memory) Read(ctx context.Context, n int, after string, limit int) ([]eventlog.Logged, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	page := m.logs[n].after(after)
	return slices.Clone(page[:min(limit, len(page))]), nil
}

// Before implements [eventlog.Log].
func (m *Memory) Before(ctx context.Context, n int, id string) (*eventlog.Logged, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	entries := m.logs[n].entries
	i := slices.IndexFunc(entries, func(e eventlog.Logged) bool { return eventlog.CompareIDs(e.ID.ID, id) >= 0 })
	if i < 0 {
		i = len(entries)
	}
	if i == 0 {
		return nil, nil
	}
	l := entries[i-1]
	return &l, nil
}

// Trim implements [eventlog.Log].
func (m *Memory) Trim(ctx context.Context, n int, keep time.Time) (int64, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	held := func(e eventlog.Logged) bool {
		for _, g := range m.groups {
			if eventlog.CompareIDs(e.ID.ID, g.taken[n]) > 0 || g.pending[e.ID] != nil {
				return true
			}
		}
		return eventlog.CompareIDs(e.ID.ID, idAt(keep)) >= 0
	}
	l := &m.logs[n]
	drop := slices.IndexFunc(l.entries, held)
	if drop < 0 {
		drop = len(l.entries)
	}
	for _, e := range l.entries[:drop] {
		delete(l.ranks, e.ID.ID)
	}
	l.entries = slices.Clone(l.entries[drop:])
	return int64(drop), nil
}

// RemoveSessionsOf implements [service.Sessions]. Memory keeps no sessions.
func (m *Memory) RemoveSessionsOf(context.Context, handoff.CustomerRef) (int, error) { return 0, nil }

// RemoveSessionsOfCourier implements [service.Sessions].
func (m *Memory) RemoveSessionsOfCourier(context.Context, handoff.CourierRef) error { return nil }

// Advance implements [eventlog.Log].
func (m *Memory) Advance(ctx context.Context, name string, id eventlog.ID) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g := m.groups[name]
	if g == nil {
		return eventlog.ErrNotJoined
	}
	g.taken[id.Partition] = id.ID
	return nil
}

// Noted implements [eventlog.Log].
func (m *Memory) Noted(ctx context.Context, partition int, name string) (string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	return m.notes[fmt.Sprint(partition, name)], nil
}

// AppendNoted implements [eventlog.Log].
func (m *Memory) AppendNoted(ctx context.Context, now handoff.Instant, n eventlog.Note, events ...handoff.Event) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	key := fmt.Sprint(n.Partition, n.Name)
	if m.notes[key] != n.Was {
		return false, nil
	}
	var written []handoff.Event
	for _, e := range events {
		w, err := copied(e)
		if err != nil {
			return false, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
		written = append(written, w)
	}
	m.notes[key] = n.Is
	m.logs[n.Partition].append(n.Partition, now, handoff.Date{}, written)
	return true, nil
}

// Tally implements [counts.Tally]. It forgets nothing.
func (m *Memory) Tally(ctx context.Context, name string, _ time.Duration) (int, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	m.tallies[name]++
	return m.tallies[name], nil
}
