package mailtest_test

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gomail "github.com/wneessen/go-mail"
	"latchkey/notify/mail/mailtest"
)

// sample returns a message with a text and an HTML part. Its text needs encoding.
func sample(t *testing.T, id, to string) *gomail.Msg {
	t.Helper()
	m := gomail.NewMsg()
	m.SetMessageIDWithValue(id)
	if err := errors.Join(m.From("parcels@shop.example"), m.To(to)); err != nil {
		t.Fatal(err)
	}
	m.Subject("Ihr Paket für heute")
	m.SetBodyString(gomail.TypeTextPlain, "Grüße vom Lager.\n.ein Punkt am Anfang")
	m.AddAlternativeString(gomail.TypeTextHTML, "<p>Grüße vom Lager.</p>")
	return m
}

// send delivers one message on a connection of its own.
func send(addr string, m *gomail.Msg, opts ...gomail.Option) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	c, err := gomail.NewClient(to.Addr().String(), append([]gomail.Option{
		gomail.WithPort(int(to.Port())), gomail.WithTLSPolicy(gomail.NoTLS), gomail.WithTimeout(10 * time.Second),
	}, opts...)...)
	if err != nil {
		return err
	}
	return c.DialAndSend(m)
}

// code returns the reply code in an error of go-mail, 0 if there is none.
func code(err error) int {
	var sendErr *gomail.SendError
	if errors.As(err, &sendErr) {
		return sendErr.ErrorCode()
	}
	return 0
}

// checkSample compares a message that arrived with what sample wrote.
func checkSample(t *testing.T, m mailtest.Message, id, to string) {
	t.Helper()
	if m.ID() != id || m.From != "parcels@shop.example" || strings.Join(m.To, ",") != to {
		t.Errorf("got message %q from %q to %q, want %q to %q", m.ID(), m.From, m.To, id, to)
	}
	if subject, err := m.Subject(); subject != "Ihr Paket für heute" || err != nil {
		t.Errorf("subject %q, %v", subject, err)
	}
	for mediaType, want := range map[string]string{
		"text/plain": "Grüße vom Lager.\n.ein Punkt am Anfang",
		"text/html":  "<p>Grüße vom Lager.</p>",
	} {
		got, err := m.Part(mediaType)
		got = strings.TrimSpace(strings.ReplaceAll(got, "\r\n", "\n"))
		if got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", mediaType, got, err, want)
		}
	}
	if _, err := m.Part("application/pdf"); err == nil {
		t.Error("a part that is not there was found")
	}
}

func TestSinkRecords(t *testing.T) {
	t.Parallel()
	s := mailtest.Sink(t)
	for _, id := range []string{"1@shop.example", "2@shop.example"} {
		if err := send(s.Addr(), sample(t, id, "customer@shop.example")); err != nil {
			t.Fatal(err)
		}
	}
	messages := s.Messages()
	if len(messages) != 2 || s.Connections() != 2 {
		t.Fatalf("%d messages on %d connections, want 2 and 2", len(messages), s.Connections())
	}
	checkSample(t, messages[0], "1@shop.example", "customer@shop.example")
	checkSample(t, messages[1], "2@shop.example", "customer@shop.example")
}

func TestSinkRefuses(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]mailtest.Stage{
		"connect": mailtest.AtConnect, "mail": mailtest.AtMail, "rcpt": mailtest.AtRcpt, "dot": mailtest.AtDot,
	} {
		for _, want := range []int{451, 550} {
			t.Run(name+" "+strconv.Itoa(want), func(t *testing.T) {
				t.Parallel()
				s := mailtest.Sink(t)
				s.Inject(2, mailtest.Refuse(stage, want))
				m := sample(t, "1@shop.example", "customer@shop.example")
				for range 2 {
					err := send(s.Addr(), m)
					if err == nil || !strings.Contains(err.Error(), strconv.Itoa(want)) {
						t.Errorf("got %v, want code %d", err, want)
					}
				}
				if len(s.Messages()) != 0 || s.Faults() != 2 {
					t.Errorf("%d messages taken, %d faults", len(s.Messages()), s.Faults())
				}
				if err := send(s.Addr(), m); err != nil {
					t.Errorf("after the faults: %v", err)
				}
				s.Wait(1)
			})
		}
	}
}

// The ambiguous case: the client sees a failure of a message that was taken.
func TestSinkDropsAfterDot(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]mailtest.Option{"plain": nil, "tls": {mailtest.StartTLS()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.Sink(t, opts...)
			s.Inject(1, mailtest.Drop(mailtest.AtDot))
			m := sample(t, "1@shop.example", "customer@shop.example")
			var clientOpts []gomail.Option
			if s.ClientTLS() != nil {
				clientOpts = append(clientOpts, gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithTLSConfig(s.ClientTLS()))
			}
			if err := send(s.Addr(), m, clientOpts...); err == nil || code(err) != 0 {
				t.Errorf("got %v (code %d), want a broken connection", err, code(err))
			}
			if n := len(s.Messages()); n != 1 {
				t.Fatalf("%d messages taken, want 1", n)
			}
			if err := send(s.Addr(), m, clientOpts...); err != nil {
				t.Fatal(err)
			}
			messages := s.Messages()
			if len(messages) != 2 || messages[0].ID() != messages[1].ID() {
				t.Errorf("after sending again: %d messages", len(messages))
			}
		})
	}
}

func TestSinkDropsEarlier(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]mailtest.Stage{
		"connect": mailtest.AtConnect, "mail": mailtest.AtMail, "rcpt": mailtest.AtRcpt,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.Sink(t)
			s.Inject(1, mailtest.Drop(stage))
			err := send(s.Addr(), sample(t, "1@shop.example", "customer@shop.example"))
			if err == nil || code(err) != 0 {
				t.Errorf("got %v (code %d), want a broken connection", err, code(err))
			}
			if len(s.Messages()) != 0 {
				t.Error("a message arrived that was never sent")
			}
		})
	}
}

// A stalled client waits until its own timeout, or until the sink goes away.
func TestSinkStalls(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]mailtest.Stage{
		"connect": mailtest.AtConnect, "mail": mailtest.AtMail, "rcpt": mailtest.AtRcpt, "dot": mailtest.AtDot,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.Sink(t)
			s.Inject(2, mailtest.Stall(stage))
			m := sample(t, "1@shop.example", "customer@shop.example")

			err := send(s.Addr(), m, gomail.WithTimeout(100*time.Millisecond))
			if err == nil || !strings.Contains(err.Error(), "timeout") && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want a timeout", err)
			}

			sent := make(chan error, 1)
			again := sample(t, "1@shop.example", "customer@shop.example")
			go func() { sent <- send(s.Addr(), again, gomail.WithTimeout(time.Minute)) }()
			for s.Faults() < 2 {
				select {
				case err := <-sent:
					t.Fatalf("the client did not wait: %v", err)
				case <-time.After(time.Millisecond):
				}
			}
			s.Close()
			if err := <-sent; err == nil || code(err) != 0 {
				t.Errorf("got %v (code %d), want a broken connection", err, code(err))
			}
			if len(s.Messages()) != 0 {
				t.Error("a stalled message counts as taken")
			}
		})
	}
}

// A sink that was closed refuses connections, and takes mail at the same address when it is started
// again.
func TestSinkRestarts(t *testing.T) {
	t.Parallel()
	s := mailtest.Sink(t)
	m := sample(t, "1@shop.example", "customer@shop.example")
	for n := range 3 {
		addr := s.Addr()
		if err := send(addr, m); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := send(addr, m); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("while it is closed: %v", err)
		}
		s.Start()
		if s.Addr() != addr || len(s.Messages()) != n+1 {
			t.Errorf("at %s, not %s, with %d messages", s.Addr(), addr, len(s.Messages()))
		}
	}
}

// A sink that lags takes its time at EHLO, MAIL, RCPT and the final dot.
func TestSinkLags(t *testing.T) {
	t.Parallel()
	s := mailtest.Sink(t)
	const lag = 30 * time.Millisecond
	s.Lag(lag)
	began := time.Now()
	if err := send(s.Addr(), sample(t, "1@shop.example", "customer@shop.example")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 4*lag {
		t.Errorf("it took %v, want %v at least", took, 4*lag)
	}
}

func TestSinkStartTLS(t *testing.T) {
	t.Parallel()
	s := mailtest.Sink(t, mailtest.StartTLS())
	m := sample(t, "1@shop.example", "customer@shop.example")
	mandatory := gomail.WithTLSPolicy(gomail.TLSMandatory)
	if err := send(s.Addr(), m, mandatory); err == nil {
		t.Error("a client that does not know the certificate trusts it")
	}
	if err := send(s.Addr(), m, mandatory, gomail.WithTLSConfig(s.ClientTLS())); err != nil {
		t.Error(err)
	}
	if n := len(s.Messages()); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
	plain := mailtest.Sink(t)
	if err := send(plain.Addr(), m, mandatory); err == nil {
		t.Error("STARTTLS without the option")
	}
}
