package mail

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify"
	"latchkey/notify/mail/mailtest"
)

// pile is a log that hands out so many events, each of its own grant, in a plain queue: what is
// measured over it is how fast readers drain it.
type pile struct {
	*handofftest.Memory
	mu   sync.Mutex
	left []eventlog.Delivery
	done int
}

func newPile(n int) *pile {
	p := &pile{Memory: handofftest.NewMemory()}
	for i := range n {
		hash := handoff.ParcelHash(fmt.Sprintf("%024x", i))
		p.left = append(p.left, eventlog.Delivery{Logged: eventlog.Logged{
			ID:    eventlog.ID{Partition: i % handoff.Partitions, ID: fmt.Sprintf("%d-0", i+1)},
			Event: handoff.Event{Type: handoff.EventDispatched, Grant: handoff.GrantID{Hash: hash, Generation: 1}, Issue: 1},
		}})
	}
	return p
}

func (p *pile) TakeUrgent(_ context.Context, _, reader string, limit int) ([]eventlog.Delivery, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(limit, len(p.left))
	taken := slices.Clone(p.left[:n])
	p.left = p.left[n:]
	for i := range taken {
		taken[i].Reader = reader
	}
	return taken, nil
}

func (p *pile) Done(context.Context, string, eventlog.ID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	return nil
}

func (p *pile) finished() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// instances starts readers, each with a limiter and a server's time for a letter of its own, until
// the test ends.
func instances(tb testing.TB, log notify.Log, n int, perLetter time.Duration) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range n {
		l, r := newLimiter(DefaultConnections), &relay{latency: flat(perLetter)}
		reader, err := notify.NewReader(notify.Config{
			Log: log, Group: Group, Clock: wall{}, Room: func() int { return limitOf(l) },
			Handle: func(ctx context.Context, _ eventlog.Delivery) error {
				r.send(ctx, l)
				return ctx.Err()
			},
		})
		if err != nil {
			tb.Fatal(err)
		}
		all.Go(func() { reader.Run(ctx) })
	}
	tb.Cleanup(func() { cancel(); all.Wait() })
}

type wall struct{}

func (wall) Now() time.Time { return time.Now() }

// 20,000 mails to a server that takes a second for each are out within ten minutes, by two instances.
func TestASlowServersBacklogIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20_000
		p := newPile(n)
		began := time.Now()
		instances(t, p, 2, time.Second)
		for p.finished() < n && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("%d of %d after %v", p.finished(), n, took)
		} else {
			t.Logf("%d mails in %v", n, took)
		}
	})
}

// BenchmarkBacklog is how many mails a second two instances get out of a server that takes a second
// for each, over a real Redis and real connections, from the first mail on: it begins with few
// connections.
//
//	go test -run '^$' -bench Backlog -benchtime 2000x ./notify/mail
func BenchmarkBacklog(b *testing.B) {
	sink := mailtest.Sink(b)
	sink.Slow(time.Second)
	p := newPostOn(b, onRedis(b), sink.Addr())
	for i := range b.N {
		p.Dispatch(b, handofftest.Sample(fmt.Sprintf("P%07d", i)))
	}
	b.ResetTimer()
	for range 2 {
		p.another().read(func(c *notify.Config) { c.Poll = 0 })
	}
	for {
		if n, _ := p.tally.count("delivered"); n >= b.N {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
	onlyOnce(b, sink.Messages(), b.N)
}

// onRedis is a store on a real Redis of its own.
func onRedis(tb testing.TB) *redisstore.Store {
	tb.Helper()
	client, err := redisstore.Dial("redis://" + redistest.Single(tb).Addr())
	if err != nil {
		tb.Fatal(err)
	}
	ring, err := keyring.New()
	if err != nil {
		tb.Fatal(err)
	}
	s, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: 30 * 24 * time.Hour, Lanes: 2})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Close()
		_ = client.Close()
	})
	return s
}

// another is one more instance, with connections of its own, which reads by urgency.
func (p *post) another() *instance {
	p.tb.Helper()
	q := *p
	q.sender = sender(p.tb, p.sender.Server.address(), func(c *Config) { c.Clock = p.Clock })
	c := p.mailer.MailerConfig
	c.Transport = q.sender
	m, err := NewMailer(c)
	if err != nil {
		p.tb.Fatal(err)
	}
	q.mailer = m
	return &instance{&q}
}

type instance struct{ *post }

func (i *instance) read(change ...func(*notify.Config)) (stop func()) {
	i.tb.Helper()
	return i.post.read(append([]func(*notify.Config){func(c *notify.Config) { c.Room = i.sender.Limit }}, change...)...)
}

// Two instances drain a backlog through a real Redis to a server that takes its time: codes before
// notices but for each tenth place, today's before tomorrow's, the oldest first.
func TestBacklogInOrder(t *testing.T) {
	const each, recalled = 800, 400
	sink := mailtest.Sink(t)
	sink.Slow(20 * time.Millisecond)
	p := newPostOn(t, onRedis(t), sink.Addr())
	dispatch := func(kind string, i int, day handoff.Date) handoff.Grant {
		t.Helper()
		d := handofftest.Sample(fmt.Sprintf("%s%05d", kind, i))
		d.Day, d.Customer.Email = day, fmt.Sprintf("%s.%d@shop.example", kind, i)
		p.Dispatch(t, d)
		return p.Parcel(t, d.Parcel)
	}
	for i := range each {
		dispatch("tomorrow", i, handofftest.Today.Next())
	}
	shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	for i := range recalled { // its code is not mailed any more
		g := dispatch("notice", i, handofftest.Today)
		if _, err := p.Service.Recall(t.Context(), shop, g.ID, "a reason"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range each {
		dispatch("today", i, handofftest.Today)
	}
	began := time.Now()
	senders := []*instance{p.another(), p.another()}
	for _, s := range senders {
		s.read()
	}
	p.tally.wait(t, "sent", 2*(2*each+recalled)) // in all and by kind
	t.Logf("%d mails in %v, over up to %d connections", 2*each+recalled, time.Since(began), sink.Most())

	messages := sink.Messages()
	onlyOnce(t, messages, 2*each+recalled)
	at := map[string][]int{} // when the n-th of a kind arrived
	for place, m := range messages {
		local, _, _ := strings.Cut(m.To[0], "@")
		kind, n, _ := strings.Cut(local, ".")
		i, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(m.To[0])
		}
		for len(at[kind]) <= i {
			at[kind] = append(at[kind], -1)
		}
		at[kind][i] = place
	}
	// What is in hand at once, of two instances, arrives in any order.
	const slack = 2 * DefaultConnections
	for kind, places := range at {
		latest := 0
		for i, place := range places {
			if place < latest-2*slack {
				t.Errorf("the %d-th of %s arrived %d places behind a younger one", i, kind, latest-place)
			}
			latest = max(latest, place)
		}
	}
	early := 0
	for _, place := range at["tomorrow"] {
		if place < slices.Max(at["today"]) {
			early++
		}
	}
	if early > slack {
		t.Errorf("%d of tomorrow's arrived before the last of today's", early)
	}
	// Of the places up to the last of today's a tenth are notices'; a place is also that of a code that
	// is not mailed any more.
	n := 0
	for _, place := range at["notice"] {
		if place < slices.Max(at["today"]) {
			n++
		}
	}
	if want := (each + recalled) / 9; n < want-slack/2 || n > want+slack/2 {
		t.Errorf("%d notices before the last of today's, want about %d", n, want)
	}
}

// A server that lets one client have only so many connections gets all mails over these, and
// nearly none fails first.
func TestAServerThatBearsFew(t *testing.T) {
	sink := mailtest.Sink(t)
	sink.Slow(5 * time.Millisecond)
	sink.Bear(6)
	p := newPostOn(t, onRedis(t), sink.Addr())
	p.dispatches(400)
	i := p.another()
	i.read()
	p.tally.until(t, "delivered", 400, p.tick)
	onlyOnce(t, sink.Messages(), 400)
	if got := sink.Most(); got != 6 {
		t.Errorf("%d connections stood, of 6 that it bears", got)
	}
	if failed, _ := p.tally.count("retried"); failed > 16 {
		t.Errorf("%d mails had to be tried again", failed)
	}
	if got := i.sender.Limit(); got < 4 || got > 7 {
		t.Errorf("the limit is %d", got)
	}
}
