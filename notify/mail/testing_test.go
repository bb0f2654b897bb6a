package mail

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/notify"
	"latchkey/notify/mail/mailtest"
	"latchkey/notify/mail/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const from = "Sample Post <post@shop.example>"

// sender makes a Sender to a server on loopback.
func sender(tb testing.TB, addr string, change ...func(*Config)) *Sender {
	tb.Helper()
	server, err := ParseURL("smtp://" + addr)
	if err != nil {
		tb.Fatal(err)
	}
	c := Config{Server: server, From: from, Clock: handofftest.NewClock(handofftest.Noon)}
	for _, f := range change {
		f(&c)
	}
	s, err := NewSender(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func letter(id string) Letter {
	return Letter{
		Mail: message.Mail{Subject: "Größe", Text: "Hello\n", HTML: "<p>Hello</p>", Locale: "de"},
		ID:   id, To: "customer@shop.example", Date: handofftest.Noon,
	}
}

// post is a world with a mailer between its store and a server.
type post struct {
	*handofftest.World
	tb     testing.TB
	sender *Sender
	mailer *Mailer
	tally  *tally
}

func newPost(tb testing.TB, addr string, change ...func(*Config)) *post {
	tb.Helper()
	return newPostOn(tb, embedded.New(tb), addr, change...)
}

func newPostOn(tb testing.TB, store handofftest.Store, addr string, change ...func(*Config)) *post {
	tb.Helper()
	w := handofftest.New(tb, store)
	w.Cleared(tb, "cou_7")
	w.Drives(tb, "cou_7", handofftest.Route, handofftest.Today)
	change = append([]func(*Config){func(c *Config) { c.Clock = w.Clock }}, change...)
	p := &post{World: w, tb: tb, sender: sender(tb, addr, change...), tally: newTally()}
	m, err := NewMailer(MailerConfig{
		Grants: w.Service, Mails: w.Service, Couriers: w.Store, Transport: p.sender, Clock: w.Clock, Limits: w.Policy.Limits,
		Observer: p.tally, ShopNames: map[string]string{handofftest.Shop: "Sample Shop"},
		AccountURL: "https://shop.example/handoffs/{grant_id}",
	})
	if err != nil {
		tb.Fatal(err)
	}
	p.mailer = m
	return p
}

// read starts a reader of the mail, and returns what stops it and waits for its end.
func (p *post) read(change ...func(*notify.Config)) (stop func()) {
	p.tb.Helper()
	c := notify.Config{
		Log: p.Store, Group: Group, Handle: p.mailer.Handle, Clock: p.Clock, Observer: p.tally,
		Poll: time.Millisecond, Timeout: 20 * time.Second,
	}
	for _, f := range change {
		f(&c)
	}
	r, err := notify.NewReader(c)
	if err != nil {
		p.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	p.tb.Cleanup(stop)
	return stop
}

// dispatches makes n grants, each of which calls for one mail.
func (p *post) dispatches(n int, change ...func(*handoff.Dispatch)) {
	p.tb.Helper()
	for i := range n {
		d := handofftest.Sample(parcelID(i))
		for _, f := range change {
			f(&d)
		}
		p.Dispatch(p.tb, d)
	}
}

func parcelID(i int) string {
	return "JJD00039000" + string(rune('A'+i/676%26)) + string(rune('A'+i/26%26)) + string(rune('A'+i%26))
}

// tally counts what observers hear, and lets tests wait for it.
type tally struct {
	mu      sync.Mutex
	counts  map[string]int
	changed chan struct{}
}

func newTally() *tally { return &tally{counts: map[string]int{}, changed: make(chan struct{})} }

func (t *tally) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what]++
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tally) Delivered(handoff.EventType)                  { t.add("delivered") }
func (t *tally) Retried(_ handoff.EventType, r notify.Reason) { t.add("retried " + r.String()) }
func (t *tally) Buried(_ handoff.EventType, r notify.Reason)  { t.add("buried " + r.String()) }
func (t *tally) LogFailed(op string, _ error)                 { t.add("failed " + op) }
func (t *tally) Sent(k message.Kind)                          { t.add("sent"); t.add("sent " + string(k)) }
func (t *tally) Unnoted()                                     { t.add("unnoted") }
func (t *tally) LeftOut(e handoff.EventType)                  { t.add("left out " + e.String()) }

// count adds up everything whose name begins so.
func (t *tally) count(prefix string) (n int, changed chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, count := range t.counts {
		if strings.HasPrefix(what, prefix) {
			n += count
		}
	}
	return n, t.changed
}

// wait fails the test if n do not come.
func (t *tally) wait(tb testing.TB, prefix string, n int) {
	tb.Helper()
	t.until(tb, prefix, n, func() {})
}

// until waits like wait, and calls meanwhile over and over.
func (t *tally) until(tb testing.TB, prefix string, n int, meanwhile func()) {
	tb.Helper()
	patience := time.After(60 * time.Second)
	for {
		got, changed := t.count(prefix)
		if got >= n {
			return
		}
		meanwhile()
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-patience:
			t.mu.Lock()
			defer t.mu.Unlock()
			tb.Fatalf("%q: %d, want %d; all: %v", prefix, got, n, t.counts)
		}
	}
}

// onlyOnce holds every message to one arrival.
func onlyOnce(tb testing.TB, messages []mailtest.Message, n int) {
	tb.Helper()
	seen := map[string]int{}
	for _, m := range messages {
		seen[m.ID()]++
	}
	for id, times := range seen {
		if times != 1 {
			tb.Errorf("mail %s arrived %d times", id, times)
		}
	}
	if len(seen) != n {
		tb.Errorf("%d mails arrived, want %d", len(seen), n)
	}
}

// freePort is an address where nobody listens.
func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
