package trailwriter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
	"latchkey/notify/trailwriter"
)

// house is a world with some of everything in its log: a grant, refusals, alarms of two
// buildings, and an event of a version to come.
func house(t *testing.T) *handofftest.World {
	t.Helper()
	w := handofftest.New(t, embedded.New(t))
	live(t, w, 1)
	return w
}

func live(t *testing.T, w *handofftest.World, day int) {
	t.Helper()
	for i := range 3 {
		d := handofftest.Sample(fmt.Sprintf("p%d-%d", day, i))
		d.Day = handoff.DateOf(w.Clock.Now())
		w.Dispatch(t, d)
	}
	now := handoff.InstantOf(w.Clock.Now())
	var events []handoff.Event
	for i, kind := range []handoff.EventType{handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered, 99} {
		for _, building := range []string{"b1", "b2"} {
			events = append(events, handoff.Event{Type: kind, At: now + handoff.Instant(i), Building: building, Door: "lobby", Target: handoff.Lobby})
		}
	}
	events = append(events, handoff.Event{Type: 0, At: now, Building: "b1"}) // as one that cannot be read
	if err := w.Store.Append(t.Context(), now, events...); err != nil {
		t.Fatal(err)
	}
}

func signer(t *testing.T) trail.Signer {
	t.Helper()
	s, err := trail.AuditSigner(handofftest.Namer{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// watcher remembers what a ledger said.
type watcher struct {
	mu      sync.Mutex
	entered map[string]int
	failed  []error
}

func (o *watcher) Entered(name string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.entered == nil {
		o.entered = map[string]int{}
	}
	o.entered[name] += n
}

func (o *watcher) Failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = append(o.failed, err)
}

func newLedger(t *testing.T, w *handofftest.World, store trailwriter.Store, o trailwriter.Observer, retention time.Duration) *trailwriter.Writer {
	t.Helper()
	l, err := trailwriter.New(trailwriter.Config{Store: store, Signer: signer(t), Clock: w.Clock, Observer: o, Batch: 3, Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func work(t *testing.T, l *trailwriter.Writer) int {
	t.Helper()
	n, err := l.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func export(t *testing.T, w *handofftest.World, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	for text, err := range trail.Export(t.Context(), w.Store, name) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.Write(text)
	}
	return b.Bytes()
}

func verified(t *testing.T, w *handofftest.World, name string, kept ...string) trail.Report {
	t.Helper()
	r, err := trail.Verify(bytes.NewReader(export(t, w, name)), trail.Options{Key: signer(t).Key(), Kept: kept})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// entries is a chain as it reads.
func entries(t *testing.T, w *handofftest.World, name string) []trail.Entry {
	t.Helper()
	page, err := w.Store.Links(t.Context(), name, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var list []trail.Entry
	for _, l := range page {
		var e trail.Entry
		if err := json.Unmarshal(l.Entry, &e, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// complete holds the chains to the log: every event once, in order, in the chain of its
// partition and, where it concerns a building, in the building's.
func complete(t *testing.T, w *handofftest.World) {
	t.Helper()
	ofBuildings := map[string][]trail.Entry{}
	for p := range handoff.Partitions {
		events, err := w.Store.Read(t.Context(), p, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		var want []trail.Entry
		for _, e := range events {
			n := trail.TrailEntry(e)
			n.Seq = uint64(len(want) + 1)
			want = append(want, n)
			if building, n, ok := trail.BuildingEntry(e); ok {
				ofBuildings[building] = append(ofBuildings[building], n)
			}
		}
		name := trail.LogChain(p)
		if got := entries(t, w, name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
		if len(want) > 0 {
			verified(t, w, name)
		}
	}
	for building, want := range ofBuildings {
		got := entries(t, w, trail.BuildingChain(building))
		if len(got) != len(want) {
			t.Errorf("%s: %d entries, want %d", building, len(got), len(want))
		}
		verified(t, w, trail.BuildingChain(building))
	}
	if len(ofBuildings) == 0 {
		t.Error("no building has an entry")
	}
}

func TestEveryEventOnce(t *testing.T) {
	w, o := house(t), &watcher{}
	l := newLedger(t, w, w.Store, o, 0)
	if n := work(t, l); n != len(w.Events(t)) {
		t.Errorf("entered %d events of %d", n, len(w.Events(t)))
	}
	complete(t, w)
	if n := work(t, l); n != 0 {
		t.Errorf("entered %d events again", n)
	}
	first := verified(t, w, "building:b1")
	if first.Entries != 3 || o.entered["building:b1"] != 3 {
		t.Errorf("b1 has %d entries and was told of %d, want its three alarms", first.Entries, o.entered["building:b1"])
	}
	end, err := w.Store.ChainEnd(t.Context(), "building:b1")
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Hour)
	live(t, w, 2)
	work(t, l)
	complete(t, w)
	verified(t, w, "building:b1", end.Head)

	var whats []string
	for _, e := range entries(t, w, trail.LogChain((&handoff.Event{Building: "b1"}).Partition())) {
		whats = append(whats, e.What)
	}
	if s := strings.Join(whats, " "); !strings.Contains(s, "unreadable") || !strings.Contains(s, "unknown(99)") {
		t.Errorf("what cannot be read is not entered: %s", s)
	}
	b, err := w.Store.Backlog(t.Context(), trailwriter.Group)
	if err != nil || b.Waiting != 0 {
		t.Errorf("backlog %+v, %v", b, err)
	}
}

// mortal is a store whose n-th call is the last: it fails before or after it has worked,
// and every later one fails too, as when the process dies.
type mortal struct {
	handofftest.Store
	left   int
	worked bool // the last call does its work
	dead   bool
}

var errDead = fmt.Errorf("%w: the instance has died", storage.ErrUnavailable)

// call reports whether a call may do its work, and whether its answer arrives.
func (m *mortal) call() (work, answer bool) {
	if m.dead {
		return false, false
	}
	if m.left--; m.left > 0 {
		return true, true
	}
	m.dead = true
	return m.worked, false
}

func dying[T any](m *mortal, f func() (T, error)) (T, error) {
	var none T
	work, answer := m.call()
	if !work {
		return none, errDead
	}
	v, err := f()
	if !answer {
		return none, errDead
	}
	return v, err
}

func (m *mortal) Lease(ctx context.Context, name, holder string, lease time.Duration) (bool, error) {
	return dying(m, func() (bool, error) { return m.Store.Lease(ctx, name, holder, lease) })
}

func (m *mortal) Join(ctx context.Context, g string) error {
	_, err := dying(m, func() (int, error) { return 0, m.Store.Join(ctx, g) })
	return err
}

func (m *mortal) Read(ctx context.Context, p int, after string, n int) ([]eventlog.Logged, error) {
	return dying(m, func() ([]eventlog.Logged, error) { return m.Store.Read(ctx, p, after, n) })
}

func (m *mortal) ChainEnd(ctx context.Context, name string) (trail.End, error) {
	return dying(m, func() (trail.End, error) { return m.Store.ChainEnd(ctx, name) })
}

func (m *mortal) Extend(ctx context.Context, name string, from, to trail.End, l []trail.Link) error {
	_, err := dying(m, func() (int, error) { return 0, m.Store.Extend(ctx, name, from, to, l) })
	return err
}

func (m *mortal) Advance(ctx context.Context, g string, id eventlog.ID) error {
	_, err := dying(m, func() (int, error) { return 0, m.Store.Advance(ctx, g, id) })
	return err
}

func (m *mortal) Chains(ctx context.Context) ([]string, error) {
	return dying(m, func() ([]string, error) { return m.Store.Chains(ctx) })
}

func (m *mortal) Links(ctx context.Context, name string, after uint64, n int) ([]trail.Link, error) {
	return dying(m, func() ([]trail.Link, error) { return m.Store.Links(ctx, name, after, n) })
}

// An instance dies at every single step, before and after it was done; another takes over
// when the lease has run out, and no sooner.
func TestDeathAtEveryStep(t *testing.T) {
	for _, worked := range []bool{false, true} {
		for step := 1; ; step++ {
			w := house(t)
			m := &mortal{Store: w.Store, left: step, worked: worked}
			_, _ = newLedger(t, w, m, nil, 0).Work(t.Context())
			if !m.dead {
				if step < 50 {
					t.Fatalf("only %d steps: is this the whole work?", step)
				}
				break
			}
			heir := newLedger(t, w, w.Store, nil, 0)
			held := step > 1 || worked // it came to hold the lease
			if n := work(t, heir); held && n != 0 {
				t.Fatalf("step %d: the heir entered %d events under another's lease", step, n)
			}
			w.Clock.Advance(5 * time.Second)
			work(t, heir)
			complete(t, w)
			if t.Failed() {
				t.Fatalf("step %d, worked %v", step, worked)
			}
		}
	}
}

// forgetful loses the answers of extensions, done or not.
type forgetful struct {
	handofftest.Store
	n int
}

func (f *forgetful) Extend(ctx context.Context, name string, from, to trail.End, l []trail.Link) error {
	f.n++
	if f.n%3 == 0 {
		return storage.ErrUnknownOutcome
	}
	err := f.Store.Extend(ctx, name, from, to, l)
	if f.n%3 == 1 && err == nil {
		return storage.ErrUnknownOutcome
	}
	return err
}

func TestLostAnswers(t *testing.T) {
	w := house(t)
	l := newLedger(t, w, &forgetful{Store: w.Store}, nil, 0)
	for range 100 {
		if n, err := l.Work(t.Context()); n == 0 && err == nil {
			complete(t, w)
			return
		}
	}
	t.Error("the work never ended")
}

// unleased believes that everyone holds the lease.
type unleased struct{ handofftest.Store }

func (unleased) Lease(context.Context, string, string, time.Duration) (bool, error) {
	return true, nil
}

// What the lease is not needed for: two that both believe to hold it.
func TestTwoAtOnceNeverFork(t *testing.T) {
	w := house(t)
	for day := range 8 {
		live(t, w, 10+day)
		var all sync.WaitGroup
		for range 3 {
			l := newLedger(t, w, unleased{w.Store}, nil, 0)
			all.Go(func() {
				for range 20 {
					if _, err := l.Work(t.Context()); err != nil && !errors.Is(err, storage.ErrConflict) {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	work(t, newLedger(t, w, unleased{w.Store}, nil, 0))
	complete(t, w)
}

func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := handofftest.New(t, embedded.InBubble(t))
		run := func(ctx context.Context) *watcher {
			o := &watcher{}
			l, err := trailwriter.New(trailwriter.Config{Store: w.Store, Signer: signer(t), Clock: wall{}, Observer: o})
			if err != nil {
				t.Fatal(err)
			}
			go l.Run(ctx)
			synctest.Wait()
			return o
		}
		first, end := context.WithCancel(t.Context())
		one := run(first)
		second, endSecond := context.WithCancel(t.Context())
		two := run(second)
		alarm := func() {
			t.Helper()
			e := handoff.Event{Type: handoff.EventDoorForced, At: 1, Building: "b1", Door: "d"}
			if err := w.Store.Append(t.Context(), handoff.InstantOf(time.Now()), e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		alarm()
		time.Sleep(time.Minute)
		if one.entered["building:b1"] != 1 || len(two.entered) != 0 {
			t.Errorf("one entered %v and two %v, want one alone", one.entered, two.entered)
		}
		end() // gives the lease up
		synctest.Wait()
		alarm()
		if two.entered["building:b1"] != 1 {
			t.Errorf("two entered %v after one had ended", two.entered)
		}
		endSecond()
		synctest.Wait()
		if len(one.failed)+len(two.failed) != 0 {
			t.Errorf("failures: %v %v", one.failed, two.failed)
		}
	})
}

type wall struct{}

func (wall) Now() time.Time { return time.Now() }

func TestRetention(t *testing.T) {
	w := house(t)
	const retention = 30 * 24 * time.Hour
	l := newLedger(t, w, w.Store, nil, retention)
	work(t, l)
	before := verified(t, w, "building:b1")
	end, err := w.Store.ChainEnd(t.Context(), "building:b1")
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(29 * 24 * time.Hour)
	live(t, w, 2)
	work(t, l)
	if r := verified(t, w, "building:b1"); r.Cut.Seq != 0 || r.Entries != 2*before.Entries {
		t.Errorf("a day too early: %+v", r)
	}
	w.Clock.Advance(2 * 24 * time.Hour)
	work(t, l)
	r := verified(t, w, "building:b1", end.Head)
	if r.Cut.Seq != before.Entries || r.Entries != before.Entries || !r.First.After(before.Last) {
		t.Errorf("after the first day's time was over: %+v", r)
	}
	w.Clock.Advance(31 * 24 * time.Hour)
	work(t, l)
	r = verified(t, w, "building:b1", end.Head)
	if r.Entries != 0 || r.Cut.Seq != 2*before.Entries || r.Before != 1 {
		t.Errorf("after everything's time was over: %+v", r)
	}
	live(t, w, 3)
	work(t, l)
	if r := verified(t, w, "building:b1"); r.Entries != before.Entries {
		t.Errorf("and on: %+v", r)
	}
}

// changing changes what the store says of a chain.
type changing struct {
	handofftest.Store
	name string
	end  func(*trail.End)
	link func(*trail.Link)
}

func (c *changing) ChainEnd(ctx context.Context, name string) (trail.End, error) {
	end, err := c.Store.ChainEnd(ctx, name)
	if c.end != nil && name == c.name && err == nil && end.Seq > 0 {
		c.end(&end)
	}
	return end, err
}

func (c *changing) Links(ctx context.Context, name string, after uint64, n int) ([]trail.Link, error) {
	page, err := c.Store.Links(ctx, name, after, n)
	if c.link != nil && name == c.name {
		for i := range page {
			c.link(&page[i])
		}
	}
	return page, err
}

// Nobody gets a signature for what was changed in the store, and who changes one
// building's chain stops no other.
func TestForgedInTheStore(t *testing.T) {
	for what, change := range map[string]func(*trail.End){
		"the number": func(e *trail.End) { e.Seq++ },
		"the hash":   func(e *trail.End) { e.Hash[3]++ },
		"the head":   func(e *trail.End) { e.Head = "x.y.z" },
		"another chain's": func(e *trail.End) {
			e.Head, _ = mustSigner().Head(trail.Head{Chain: "building:b2", Seq: e.Seq, Hash: e.Hash})
		},
		"a cut for the head": func(e *trail.End) {
			e.Head, _ = mustSigner().Cut(trail.Head{Chain: "building:b1", Seq: e.Seq, Hash: e.Hash})
		},
	} {
		w, o := house(t), &watcher{}
		work(t, newLedger(t, w, w.Store, nil, 0))
		live(t, w, 2)
		w.Clock.Advance(time.Minute)
		forged := &changing{Store: w.Store, name: "building:b1", end: change}
		work(t, newLedger(t, w, forged, o, 0))
		if len(o.failed) == 0 || !errors.Is(o.failed[0], trail.ErrForged) {
			t.Errorf("%s: told %v", what, o.failed)
		}
		if n := len(entries(t, w, "building:b1")); n != 3 {
			t.Errorf("%s: the chain grew to %d", what, n)
		}
		if n := len(entries(t, w, "building:b2")); n != 6 {
			t.Errorf("%s: the neighbour has %d entries, want 6", what, n)
		}
	}

	w := house(t)
	work(t, newLedger(t, w, w.Store, nil, 0))
	w.Clock.Advance(31 * 24 * time.Hour)
	forged := &changing{Store: w.Store, name: "building:b1", link: func(l *trail.Link) {
		if l.Seq == 2 {
			l.Entry = bytes.Replace(l.Entry, []byte("lobby"), []byte("other"), 1)
		}
	}}
	if _, err := newLedger(t, w, forged, nil, time.Hour).Work(t.Context()); !errors.Is(err, trail.ErrForged) || !strings.Contains(err.Error(), "entry 2") {
		t.Errorf("cutting over a changed entry: %v", err)
	}
	if n := len(entries(t, w, "building:b1")); n != 3 {
		t.Errorf("evidence was dropped: %d entries are left", n)
	}
}

func mustSigner() trail.Signer {
	s, err := trail.AuditSigner(handofftest.Namer{})
	if err != nil {
		panic(err)
	}
	return s
}

func TestConfig(t *testing.T) {
	w := house(t)
	for _, c := range []trailwriter.Config{
		{},
		{Store: w.Store},
		{Clock: w.Clock},
		{Store: w.Store, Clock: w.Clock, Poll: time.Second, Lease: time.Second},
		{Store: w.Store, Clock: w.Clock, Retention: -1},
		{Store: w.Store, Clock: w.Clock, Batch: -1},
	} {
		if _, err := trailwriter.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
