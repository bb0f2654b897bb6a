package mail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/notify"
	"latchkey/notify/mail/mailtest"
	"latchkey/notify/mail/message"
)

func (p *post) tick() { p.Clock.Advance(time.Second) }

func (p *post) backlog() eventlog.Backlog {
	p.tb.Helper()
	b, err := p.Store.Backlog(context.Background(), Group)
	if err != nil {
		p.tb.Fatal(err)
	}
	return b
}

func TestCodeIsMailed(t *testing.T) {
	sink := mailtest.Sink(t)
	p := newPost(t, sink.Addr())
	p.dispatches(1)
	p.read()
	p.tally.wait(t, "sent code-issued", 1)

	g := p.Parcel(t, parcelID(0))
	m := sink.Messages()[0]
	text, err := m.Part("text/plain")
	if err != nil {
		t.Fatal(err)
	}
	page, err := m.Part("text/html")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		g.CurrentCode().Reveal(), parcelID(0), "Sample Customer 81", "Sample Shop", "Turmstr. 5, 10559 Berlin",
		"https://shop.example/handoffs/" + g.ID.String(),
	} {
		if !strings.Contains(text, want) || !strings.Contains(page, want) {
			t.Errorf("the mail lacks %q:\n%s", want, text)
		}
	}
	subject, err := m.Subject()
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{subject, fmt.Sprint(m.Header)} {
		if strings.Contains(header, g.CurrentCode().Reveal()) {
			t.Error("the code is in the header")
		}
	}
	if m.Header.Get("Content-Language") != "de" || !slices.Equal(m.To, []string{"customer@shop.example"}) {
		t.Errorf("in %q to %q", m.Header.Get("Content-Language"), m.To)
	}
}

func TestCourierIsNamed(t *testing.T) {
	sink := mailtest.Sink(t)
	p := newPost(t, sink.Addr())
	p.dispatches(1)
	name := "Courier Sample"
	if err := p.Store.PutCourier(t.Context(), handofftest.Courier("cou_7"), service.CourierUpdate{Name: &name}); err != nil {
		t.Fatal(err)
	}
	g := p.Parcel(t, parcelID(0))
	if _, err := p.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", parcelID(0), g.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	p.read()
	p.tally.wait(t, "sent released", 1)
	p.tally.wait(t, "left out dispatched", 1)
	if text, err := sink.Messages()[0].Part("text/plain"); err != nil || !strings.Contains(text, name) {
		t.Errorf("the mail lacks the courier's name: %v\n%s", err, text)
	}
}

// A grant whose retention is over has nobody to write to.
func TestVanishedGrant(t *testing.T) {
	p := newPost(t, freePort(t))
	d := eventlog.Delivery{Logged: eventlog.Logged{Event: handoff.Event{
		Type: handoff.EventExpired, Grant: handoff.GrantID{Hash: p.Service.ParcelHash("swift", "gone"), Generation: 1},
	}}}
	if err := p.mailer.Handle(t.Context(), d); err != nil {
		t.Error(err)
	}
	p.tally.wait(t, "left out expired", 1)
}

type failing struct{ err error }

func (f failing) Grant(context.Context, handoff.Actor, handoff.GrantID) (handoff.Grant, error) {
	return handoff.Grant{}, f.err
}

func TestStoreDownIsNoReasonToDrop(t *testing.T) {
	p := newPost(t, freePort(t))
	p.mailer.Grants = failing{fmt.Errorf("%w: no route", storage.ErrUnavailable)}
	err := p.mailer.Handle(t.Context(), eventlog.Delivery{Logged: eventlog.Logged{Event: handoff.Event{Type: handoff.EventRecalled}}})
	if !errors.Is(err, storage.ErrUnavailable) || notify.IsPermanent(err) {
		t.Error(err)
	}
}

func TestMessageID(t *testing.T) {
	p := newPost(t, freePort(t))
	d := eventlog.Delivery{Logged: eventlog.Logged{ID: eventlog.ID{Partition: 1, ID: "5-0"}}}
	d.Event.Grant = handoff.GrantID{Hash: p.Service.ParcelHash("swift", "a"), Generation: 1}
	again, tries, partition, place, grant := d, d, d, d, d
	tries.Tries = 7
	partition.ID.Partition = 2
	place.ID.ID = "5-1"
	grant.Event.Grant.Generation = 2
	if messageID(&d) != messageID(&again) || messageID(&d) != messageID(&tries) {
		t.Error("the id of a mail changes")
	}
	for _, other := range []eventlog.Delivery{partition, place, grant} {
		if messageID(&d) == messageID(&other) {
			t.Error("two mails have the same id")
		}
	}
}

func TestNewMailerRefuses(t *testing.T) {
	good := newPost(t, freePort(t)).mailer.MailerConfig
	for name, spoil := range map[string]func(*MailerConfig){
		"no grants":    func(c *MailerConfig) { c.Grants = nil },
		"no mails":     func(c *MailerConfig) { c.Mails = nil },
		"long bounces": func(c *MailerConfig) { c.Bounces = "bounces-of-latchkey@shop.example" },
		"no bounces":   func(c *MailerConfig) { c.Bounces = "bounce" },
		"no couriers":  func(c *MailerConfig) { c.Couriers = nil },
		"no transport": func(c *MailerConfig) { c.Transport = nil },
		"no clock":     func(c *MailerConfig) { c.Clock = nil },
		"no limits":    func(c *MailerConfig) { c.Limits = handoff.Limits{} },
		"relative URL": func(c *MailerConfig) { c.AccountURL = "/handoffs/{grant_id}" },
		"no grant id":  func(c *MailerConfig) { c.AccountURL = "https://shop.example/handoffs" },
		"id as host":   func(c *MailerConfig) { c.AccountURL = "https://{grant_id}.shop.example/handoffs" },
		"id as user":   func(c *MailerConfig) { c.AccountURL = "https://{grant_id}@shop.example/handoffs" },
		"mailto":       func(c *MailerConfig) { c.AccountURL = "mailto:shop@shop.example" },
	} {
		c := good
		spoil(&c)
		if _, err := NewMailer(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewMailer(good); err != nil {
		t.Error(err)
	}
}

// What becomes of the mail with a code is noted: taken, or refused for good, at once. What may yet go
// well is not, and a mail without a code is told of nothing.
func TestWhatBecomesOfAMailIsNoted(t *testing.T) {
	for name, c := range map[string]struct {
		code   int // 0: it is taken
		change func(*handoff.Dispatch)
		want   handoff.MailState
		status string
	}{
		"taken":                 {0, func(*handoff.Dispatch) {}, handoff.MailAccepted, ""},
		"refused":               {550, func(*handoff.Dispatch) {}, handoff.MailFailed, "5.0.0"},
		"put off":               {451, func(*handoff.Dispatch) {}, handoff.MailNone, ""},
		"no address":            {0, func(d *handoff.Dispatch) { d.Customer.Email = "ada@..example" }, handoff.MailFailed, ""},
		"refused, without code": {550, ordinary, handoff.MailNone, ""},
	} {
		sink := mailtest.Sink(t)
		if c.code != 0 {
			sink.Inject(1, mailtest.Refuse(mailtest.AtRcpt, c.code))
		}
		p := newPost(t, sink.Addr())
		p.dispatches(1, c.change)
		stop := p.read()
		if c.want == handoff.MailFailed || c.code == 550 {
			p.tally.wait(t, "buried ", 1)
		} else if c.code != 0 {
			p.tally.wait(t, "retried ", 1)
		} else {
			p.tally.wait(t, "delivered", 1)
		}
		stop()
		g := p.Parcel(t, parcelID(0))
		known, err := p.Service.MailOf(t.Context(), &g)
		if err != nil || known.State != c.want || known.Status != c.status || (c.want == handoff.MailFailed) != (known.Why == handoff.MailRefused) {
			t.Errorf("%s: %+v, %v", name, known, err)
		}
	}
}

// A mail with a code comes back to an address that names it, and another's does not. What comes back
// has the headers alone, and a receipt is asked for where it is wanted, if the server knows of either.
func TestReturnPath(t *testing.T) {
	for name, receipts := range map[string]bool{"plain": false, "with receipts": true} {
		sink := mailtest.Sink(t)
		p := newPost(t, sink.Addr(), func(c *Config) { c.Receipts = receipts })
		config := p.mailer.MailerConfig
		config.Bounces = "bounce@shop.example"
		var err error
		if p.mailer, err = NewMailer(config); err != nil {
			t.Fatal(err)
		}
		p.dispatches(1)
		p.dispatches(1, ordinary, func(d *handoff.Dispatch) { d.Parcel = "ORDINARY" })
		p.read()
		g := p.Parcel(t, parcelID(0))
		from := map[string]bool{}
		for _, m := range sink.Wait(2) {
			from[m.From] = true
		}
		if want := "bounce+" + p.Service.MailToken(&g) + "@shop.example"; !from[want] || len(from) != 2 || len(want) > 64+len("@shop.example") {
			t.Errorf("%s: they come back to %v, want %s", name, from, want)
		}
	}
}

func Test4xxIsTriedAgain(t *testing.T) {
	sink := mailtest.Sink(t)
	sink.Inject(3, mailtest.Refuse(mailtest.AtRcpt, 451))
	p := newPost(t, sink.Addr())
	p.dispatches(1)
	p.read()
	p.tally.until(t, "sent code-issued", 1, p.tick)
	if n, _ := p.tally.count("retried deferred: 451 4.0.0 at RCPT"); n != 3 {
		t.Errorf("%d retries, want 3", n)
	}
	onlyOnce(t, sink.Messages(), 1)
}

func Test5xxIsADeadLetter(t *testing.T) {
	sink := mailtest.Sink(t)
	sink.Inject(1, mailtest.Refuse(mailtest.AtRcpt, 550))
	p := newPost(t, sink.Addr())
	p.dispatches(1)
	p.read()
	p.tally.wait(t, "buried rejected", 1)

	dead, err := p.Store.Dead(t.Context(), Group)
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead letters: %v, %v", dead, err)
	}
	if got, want := dead[0].Error, "rejected: 550 5.0.0 at RCPT"; got != want {
		t.Errorf("kept as %q, want %q", got, want)
	}
	if n := len(sink.Messages()); n != 0 {
		t.Errorf("%d mails arrived", n)
	}

	if found, err := p.Store.Replay(t.Context(), Group, dead[0].ID); err != nil || !found {
		t.Fatalf("Replay: %v, %v", found, err)
	}
	p.tally.wait(t, "sent code-issued", 1)
	onlyOnce(t, sink.Messages(), 1)
}

func TestStalledServer(t *testing.T) {
	sink := mailtest.Sink(t)
	sink.Inject(2, mailtest.Stall(mailtest.AtConnect))
	sink.Inject(1, mailtest.Stall(mailtest.AtMail))
	p := newPost(t, sink.Addr(), func(c *Config) { c.Timeout = 200 * time.Millisecond })
	p.dispatches(3)
	p.read()
	p.tally.until(t, "sent code-issued", 3, p.tick)
	if sink.Faults() != 3 {
		t.Errorf("%d stalls, want 3", sink.Faults())
	}
	onlyOnce(t, sink.Messages(), 3)
}

// The link broke after the final dot: the mail may have arrived, and is sent again.
// Twice is then right, and both have the same Message-ID.
func TestBreakAfterFinalDot(t *testing.T) {
	sink := mailtest.Sink(t)
	sink.Inject(1, mailtest.Drop(mailtest.AtDot))
	p := newPost(t, sink.Addr())
	p.dispatches(1)
	p.read()
	p.tally.until(t, "delivered", 1, p.tick)
	messages := sink.Messages()
	if len(messages) != 2 || messages[0].ID() != messages[1].ID() {
		t.Errorf("%d mails, want two of the same Message-ID", len(messages))
	}
}

func TestFewConnections(t *testing.T) {
	sink := mailtest.Sink(t)
	p := newPost(t, sink.Addr())
	const n = 200
	p.dispatches(n)
	p.read()
	p.tally.wait(t, "delivered", n)
	onlyOnce(t, sink.Messages(), n)
	if got := sink.Connections(); got > 4 {
		t.Errorf("%d connections for %d mails", got, n)
	}
}

// A reader that is stopped with mails in flight loses none and sends none twice: what
// it had not begun, the next one begins at once, without waiting for a lease to end.
func TestShutdownAmidMails(t *testing.T) {
	sink := mailtest.Sink(t)
	p := newPost(t, sink.Addr())
	const n = 300
	p.dispatches(n)
	stop := p.read()
	p.tally.wait(t, "sent code-issued", 20)
	stop()
	before, _ := p.tally.count("delivered")
	if before == n {
		t.Fatal("everything was sent before the shutdown")
	}
	if b := p.backlog(); int(b.Waiting) != n-before {
		t.Errorf("%d wait, want %d", b.Waiting, n-before)
	}
	p.read() // the clock stands: no lease can end
	p.tally.wait(t, "delivered", n)
	onlyOnce(t, sink.Messages(), n)
}

func TestTwoReaders(t *testing.T) {
	sink := mailtest.Sink(t)
	p := newPost(t, sink.Addr())
	p.read(func(c *notify.Config) { c.Batch = 8 })
	p.read(func(c *notify.Config) { c.Batch = 8 })
	const n = 200
	p.dispatches(n)
	p.tally.wait(t, "delivered", n)
	onlyOnce(t, sink.Messages(), n)
}

// crashing is the log of a process that dies between a mail and its acknowledgement.
type crashing struct {
	notify.Log
	died, buried chan struct{}
}

func (c *crashing) Done(context.Context, string, eventlog.ID) error {
	close(c.died)
	<-c.buried
	return nil
}

// watched tells of every look at the log.
type watched struct {
	notify.Log
	tally *tally
}

func (w watched) Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	defer w.tally.add("look")
	return w.Log.Take(ctx, group, reader, limit)
}

// foundDead has the reader that holds an event found dead, as another's pulse does.
func (p *post) foundDead(t *testing.T) {
	t.Helper()
	held, err := p.Store.Holders(t.Context(), Group)
	if err != nil || len(held) != 1 {
		t.Fatalf("in hand: %v, %v", held, err)
	}
	for reader := range held {
		beats, err := p.Store.Beat(t.Context(), reader, false)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p.Store.Forget(t.Context(), reader, beats[reader]); err != nil || !ok {
			t.Fatalf("Forget: %v, %v", ok, err)
		}
		if n, err := p.Store.Free(t.Context(), Group, reader); err != nil || n != 1 {
			t.Fatalf("freed %d, %v", n, err)
		}
	}
}

func TestCrashBeforeDone(t *testing.T) {
	sink := mailtest.Sink(t)
	p := newPost(t, sink.Addr())
	p.dispatches(1)
	dying := &crashing{Log: p.Store, died: make(chan struct{}), buried: make(chan struct{})}
	p.read(func(c *notify.Config) { c.Log = dying; c.Poll = time.Hour })
	t.Cleanup(func() { close(dying.buried) })
	<-dying.died

	p.read(func(c *notify.Config) { c.Log = watched{p.Store, p.tally} })
	p.tally.wait(t, "look", 3)
	if n := len(sink.Messages()); n != 1 {
		t.Fatalf("%d mails while the event is in hand, want 1", n)
	}
	p.foundDead(t)
	p.tally.wait(t, "delivered", 1)
	messages := sink.Messages()
	if len(messages) != 2 || messages[0].ID() != messages[1].ID() {
		t.Errorf("%d mails, want two of the same Message-ID", len(messages))
	}
}

// What operators and metrics see of a failure says nothing of the customer.
func TestFailuresHoldNoPersonalData(t *testing.T) {
	sink := mailtest.Sink(t)
	for _, at := range []mailtest.Stage{mailtest.AtConnect, mailtest.AtMail, mailtest.AtRcpt, mailtest.AtDot} {
		sink.Inject(1, mailtest.Refuse(at, 451))
		sink.Inject(1, mailtest.Refuse(at, 554))
		sink.Inject(1, mailtest.Drop(at))
	}
	p := newPost(t, sink.Addr())
	p.dispatches(20, func(d *handoff.Dispatch) { d.Customer.Email = "secret.person@private.example" })
	p.dispatches(1, func(d *handoff.Dispatch) { d.Parcel = "BAD"; d.Customer.Email = "secret.person" })
	p.read()
	p.tally.until(t, "delivered", 20-2, p.tick)
	p.tally.wait(t, "buried", 3)

	dead, err := p.Store.Dead(t.Context(), Group)
	if err != nil {
		t.Fatal(err)
	}
	p.tally.mu.Lock()
	defer p.tally.mu.Unlock()
	seen := fmt.Sprintf("%+v %+v", dead, p.tally.counts)
	for _, private := range []string{"secret", "private", "Sample Customer", "Turmstr"} {
		if strings.Contains(seen, private) {
			t.Errorf("%q was kept or counted: %s", private, seen)
		}
	}
}

func TestLetterPrintsNothing(t *testing.T) {
	l := Letter{Mail: message.Mail{Subject: "subject", Text: "123456", HTML: "123456"}, To: "customer@shop.example", ID: "x"}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", l, l, l, l), fmt.Sprintf("%+v", []Letter{l}), fmt.Sprintf("%+v", &l)} {
		if strings.Contains(text, "123456") || strings.Contains(text, "customer") {
			t.Errorf("printed %s", text)
		}
	}
}
