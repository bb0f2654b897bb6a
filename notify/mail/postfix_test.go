package mail

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff/handofftest"
	"latchkey/notify"
	"latchkey/notify/mail/mailtest"
	"latchkey/notify/mail/message"
)

// Every kind of mail, through a real mail server and back out of a mailbox.
func TestPostfixTakesEveryKind(t *testing.T) {
	server := mailtest.Postfix(t)
	lives := map[message.Kind]func(s *story){
		message.CodeIssued:   func(s *story) { s.dispatch() },
		message.CodeReissued: func(s *story) { s.dispatch(); s.reissue() },
		message.CodeResent:   func(s *story) { s.dispatch(); s.resend() },
		message.Dispatched:   func(s *story) { s.dispatch(ordinary) },
		message.Released:     func(s *story) { s.dispatch(); s.verify() },
		message.Collected:    func(s *story) { s.dispatch(returned); s.verify() },
		message.TakenBack:    func(s *story) { s.dispatch(); s.verify(); s.abort() },
		message.Rescheduled:  func(s *story) { s.dispatch(); s.tomorrow() },
		message.CodeLocked:   func(s *story) { s.dispatch(); s.guess(5) },
		message.Expired:      func(s *story) { s.dispatch(); s.expire() },
		message.Recalled:     func(s *story) { s.dispatch(); s.recall() },
		message.Attempted:    func(s *story) { s.dispatch(); s.attempted() },

		message.HandedInPart:   func(s *story) { s.several(); s.part("P1", "P3") },
		message.RecalledInPart: func(s *story) { s.several(); s.recallSome("P1", "P3") },
		message.ReleasedByHand: func(s *story) { s.dispatch(); s.byHand() },
	}
	sent := 0
	for kind, life := range lives {
		p := newPost(t, server.Addr())
		life(&story{World: p.World, t: t})
		stop := p.read()
		p.tally.wait(t, "sent "+string(kind), 1)
		p.tally.wait(t, "delivered", len(p.Events(t)))
		stop()
		n, _ := p.tally.count("sent ")
		sent += n
	}

	subjects := map[string]bool{}
	for _, m := range server.Wait(sent) {
		subject, err := m.Subject()
		if err != nil {
			t.Error(err)
		}
		subjects[subject] = true
		text, err := m.Part("text/plain")
		if err != nil {
			t.Error(err)
		}
		page, err := m.Part("text/html")
		if err != nil {
			t.Error(err)
		}
		// German, so umlauts come through, and both parts tell the parcel.
		if !strings.Contains(text, "P1") || !strings.Contains(page, "P1") || !strings.ContainsAny(text+subject, "äöüß") {
			t.Errorf("%s: the bodies came through damaged:\n%s", subject, text)
		}
		if m.From != "post@shop.example" || !slices.Equal(m.To, []string{"customer@shop.example"}) {
			t.Errorf("%s: from %q to %q", subject, m.From, m.To)
		}
		for name, want := range map[string]string{
			"From": `"Sample Post" <post@shop.example>`, "To": "<customer@shop.example>",
			"Auto-Submitted": "auto-generated", "Content-Language": "de",
		} {
			if got := m.Header.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", subject, name, got, want)
			}
		}
		if !strings.HasSuffix(m.ID(), "@shop.example") {
			t.Errorf("%s: Message-ID %q", subject, m.ID())
		}
		if at, err := m.Header.Date(); err != nil || at.Before(handofftest.Noon) {
			t.Errorf("%s: Date %v, %v", subject, at, err)
		}
	}
	if len(subjects) < len(lives) {
		t.Errorf("%d subjects for %d kinds", len(subjects), len(lives))
	}
}

// An address with two dots is carried by a real server, too.
func TestPostfixCarriesLooseAddresses(t *testing.T) {
	server := mailtest.Postfix(t)
	p := newPost(t, server.Addr())
	d := handofftest.Sample(parcelID(0))
	d.Customer.Email = "a..b@shop.example"
	p.Dispatch(t, d)
	p.read()
	p.tally.wait(t, "sent code-issued", 1)
	if m := server.Wait(1); len(m) != 1 || strings.ReplaceAll(m[0].Header.Get("To"), `"`, "") != "<a..b@shop.example>" {
		t.Errorf("%+v", m)
	}
}

func TestPostfixRefuses(t *testing.T) {
	server := mailtest.Postfix(t)
	p := newPost(t, server.Addr())
	for i, to := range []string{mailtest.TempFail, mailtest.Reject, "customer"} {
		d := handofftest.Sample(parcelID(i))
		d.Customer.Email = to + "@shop.example"
		p.Dispatch(t, d)
	}
	p.read()
	p.tally.wait(t, "retried deferred: 450 4.2.0 at RCPT", 1)
	p.tally.wait(t, "buried rejected: 550 5.1.1 at RCPT", 1)
	p.tally.wait(t, "sent code-issued", 1)
	onlyOnce(t, server.Wait(1), 1)

	dead, err := p.Store.Dead(t.Context(), Group)
	if err != nil || len(dead) != 1 || strings.Contains(fmt.Sprintf("%+v", dead), "shop.example") {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
}

// The server goes away in the middle of a burst and comes back: no mail is lost, and
// none is handed in twice. (It is stopped between mails, or its link would break after
// some final dot.)
func TestPostfixGoesAwayForAWhile(t *testing.T) {
	server := mailtest.Postfix(t)
	p := newPost(t, server.Addr())
	const n = 60
	p.dispatches(n / 2)
	stop := p.read()
	p.tally.wait(t, "delivered", n/2)

	server.Stop()
	for i := n / 2; i < n; i++ {
		p.Dispatch(t, handofftest.Sample(parcelID(i)))
	}
	p.tally.until(t, "retried connect: connection refused", n, p.tick)
	if b := p.backlog(); b.Waiting != n/2 || b.Dead != 0 || b.Oldest == 0 {
		t.Errorf("backlog %+v while the server is away, want %d waiting", b, n/2)
	}
	server.Start()
	p.tally.until(t, "delivered", n, p.tick)
	stop()
	onlyOnce(t, handedIn(server), n)
}

// handedIn is what the server was given. Killed while it moved a mail on, it may put it
// into the mailbox twice: such copies share the Received field of the one handing-in.
func handedIn(server *mailtest.PostfixServer) []mailtest.Message {
	seen := map[string]bool{}
	return slices.DeleteFunc(server.Messages(), func(m mailtest.Message) bool {
		received := fmt.Sprint(m.ID(), m.Header["Received"])
		defer func() { seen[received] = true }()
		return seen[received]
	})
}

// Stopped while mails are under way, the server may take one whose answer is lost. That
// one comes twice, under one Message-ID; again none is lost.
func TestPostfixStopsAmidMails(t *testing.T) {
	server := mailtest.Postfix(t)
	p := newPost(t, server.Addr(), func(c *Config) { c.Timeout = 5 * time.Second })
	const n = 150
	p.dispatches(n)
	stop := p.read(func(c *notify.Config) { c.Batch = 16 })
	p.tally.wait(t, "sent code-issued", n/5)
	server.Stop()
	p.tally.until(t, "retried", 1, p.tick)
	server.Start()
	p.tally.until(t, "delivered", n, p.tick)
	stop()

	inDoubt, _ := p.tally.count("retried lost: at end of content")
	messages := handedIn(server)
	ids := map[string]bool{}
	for _, m := range messages {
		ids[m.ID()] = true
	}
	if len(ids) != n {
		t.Errorf("%d mails arrived, want %d", len(ids), n)
	}
	if twice := len(messages) - len(ids); twice > inDoubt {
		t.Errorf("%d mails came twice, and only %d were in doubt", twice, inDoubt)
	}
}

func TestPostfixSTARTTLS(t *testing.T) {
	server := mailtest.Postfix(t, mailtest.StartTLS())
	p := newPost(t, server.Addr(), func(c *Config) {
		c.Server.security, c.Server.roots = startTLS, server.ClientTLS().RootCAs
	})
	p.dispatches(3)
	p.read()
	p.tally.wait(t, "delivered", 3)
	for _, m := range server.Wait(3) {
		if !strings.Contains(fmt.Sprint(m.Header["Received"]), "ESMTPS") {
			t.Errorf("the mail came in the clear: %v", m.Header["Received"])
		}
	}
}
