package mail

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"latchkey/handoff/handofftest"
	"latchkey/notify"
	"latchkey/notify/mail/mailtest"
)

// What the server's answers mean, at each stage. The classes decide what happens to a
// customer's mail, so each is named.
func TestServerAnswers(t *testing.T) {
	for _, tc := range []struct {
		fault     mailtest.Fault
		want      string
		permanent bool
	}{
		{mailtest.Refuse(mailtest.AtConnect, 421), "connect: 421", false},
		{mailtest.Refuse(mailtest.AtConnect, 554), "connect: 554", false},
		{mailtest.Refuse(mailtest.AtMail, 451), "deferred: 451 4.0.0 at MAIL", false},
		{mailtest.Refuse(mailtest.AtMail, 550), "deferred: 550 5.0.0 at MAIL", false},
		{mailtest.Refuse(mailtest.AtRcpt, 450), "deferred: 450 4.0.0 at RCPT", false},
		{mailtest.Refuse(mailtest.AtRcpt, 550), "rejected: 550 5.0.0 at RCPT", true},
		{mailtest.Refuse(mailtest.AtDot, 452), "deferred: 452 4.0.0 at end of content", false},
		{mailtest.Refuse(mailtest.AtDot, 554), "rejected: 554 5.0.0 at end of content", true},
		{mailtest.Drop(mailtest.AtConnect), "connect: no agreement", false},
		{mailtest.Drop(mailtest.AtMail), "lost: at MAIL", false},
		{mailtest.Drop(mailtest.AtRcpt), "lost: at RCPT", false},
		{mailtest.Drop(mailtest.AtDot), "lost: at end of content", false},
		{mailtest.Stall(mailtest.AtConnect), "connect: timeout", false},
		{mailtest.Stall(mailtest.AtMail), "lost: at MAIL", false},
		{mailtest.Stall(mailtest.AtDot), "lost: at end of content", false},
	} {
		t.Run(tc.want, func(t *testing.T) {
			sink := mailtest.Sink(t)
			sink.Inject(1, tc.fault)
			s := sender(t, sink.Addr(), func(c *Config) { c.Timeout = 200 * time.Millisecond })
			err := s.Send(t.Context(), letter("a"))
			if got := notify.ReasonOf(err).String(); err == nil || got != tc.want || notify.IsPermanent(err) != tc.permanent {
				t.Errorf("%q, permanent %v; want %q, %v", got, notify.IsPermanent(err), tc.want, tc.permanent)
			}
			if err := s.Send(t.Context(), letter("b")); err != nil {
				t.Errorf("the next letter: %v", err)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	err := sender(t, freePort(t)).Send(t.Context(), letter("a"))
	if got := notify.ReasonOf(err).String(); got != "connect: connection refused" || notify.IsPermanent(err) {
		t.Errorf("%q, permanent %v", got, notify.IsPermanent(err))
	}
}

// A server that repeats the address in its refusal is the common case.
func TestErrorsQuoteNobody(t *testing.T) {
	sink := mailtest.Sink(t)
	s := sender(t, sink.Addr())
	if err := s.Send(t.Context(), letter("a")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"", "no address", "two@shop.example, three@shop.example", "x@", "secret\r\nRCPT TO:<x@y.example>"} {
		l := letter("a")
		l.To = to
		err := s.Send(t.Context(), l)
		if err == nil || !notify.IsPermanent(err) || notify.ReasonOf(err) != (notify.Reason{Class: "address"}) {
			t.Errorf("to %q: %v", to, err)
		}
		if err != nil && to != "" && strings.Contains(fmt.Sprintf("%v %+v", err, err), to) {
			t.Errorf("the error repeats the address: %v", err)
		}
	}
	if n := len(sink.Messages()); n != 1 {
		t.Errorf("%d mails, want 1", n)
	}
}

// Addresses that providers gave out and RFC 5322 wants in quotes arrive, as do domains with
// hyphens in third place.
func TestLooseAddressesArrive(t *testing.T) {
	sink := mailtest.Sink(t)
	s := sender(t, sink.Addr())
	want := []string{`"a..b"@docomo.example`, `".a."@docomo.example`, "a@ab--cd.example", "a@xn--bcher-kva.example"}
	for _, to := range []string{"a..b@docomo.example", ".a.@docomo.example", "a@ab--cd.example", "a@bücher.example"} {
		l := letter("a")
		l.To = to
		if err := s.Send(t.Context(), l); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	for i, m := range sink.Messages() {
		to := strings.Trim(m.Header.Get("To"), "<>")
		if to != want[i] || len(m.To) != 1 || strings.ReplaceAll(m.To[0], `"`, "") != strings.ReplaceAll(want[i], `"`, "") {
			t.Errorf("to %q, in the header %q; want %s", m.To, to, want[i])
		}
	}
	if n := len(sink.Messages()); n != len(want) {
		t.Errorf("%d mails, want %d", n, len(want))
	}
}

func TestConnectionsAreKept(t *testing.T) {
	sink := mailtest.Sink(t)
	s := sender(t, sink.Addr(), func(c *Config) { c.Connections = 2 })
	done := make(chan error)
	const n = 50
	for i := range n {
		go func() { done <- s.Send(t.Context(), letter(fmt.Sprint(i))) }()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := sink.Connections(); got > 2 {
		t.Errorf("%d connections, want at most 2", got)
	}
	onlyOnce(t, sink.Messages(), n)
}

// A refused letter costs no connection: the next one still goes over it.
func TestConnectionSurvivesRefusal(t *testing.T) {
	sink := mailtest.Sink(t)
	s := sender(t, sink.Addr())
	for _, at := range []mailtest.Stage{mailtest.AtMail, mailtest.AtRcpt, mailtest.AtDot} {
		sink.Inject(1, mailtest.Refuse(at, 450))
		if err := s.Send(t.Context(), letter("a")); err == nil {
			t.Fatal("not refused")
		}
		if err := s.Send(t.Context(), letter("b")); err != nil {
			t.Fatal(err)
		}
	}
	if got := sink.Connections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

// A kept connection may be dead: that is no failure of the letter, which goes over a
// new one at once. Not so after the final dot, where it may have arrived.
func TestStaleConnection(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault mailtest.Fault
		fails bool
	}{
		{"broken at MAIL", mailtest.Drop(mailtest.AtMail), false},
		{"broken at RCPT", mailtest.Drop(mailtest.AtRcpt), false},
		{"421 at MAIL", mailtest.Refuse(mailtest.AtMail, 421), false},
		{"broken after the dot", mailtest.Drop(mailtest.AtDot), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sink := mailtest.Sink(t)
			s := sender(t, sink.Addr())
			if err := s.Send(t.Context(), letter("a")); err != nil {
				t.Fatal(err)
			}
			sink.Inject(1, tc.fault)
			if err := s.Send(t.Context(), letter("b")); (err != nil) != tc.fails {
				t.Fatal(err)
			}
			if sink.Faults() != 1 {
				t.Error("the fault did not happen")
			}
			if err := s.Send(t.Context(), letter("c")); err != nil {
				t.Fatal(err)
			}
			onlyOnce(t, sink.Messages(), 3)
			if got := sink.Connections(); got != 2 {
				t.Errorf("%d connections, want 2", got)
			}
		})
	}
}

func TestIdleConnectionIsNotTrusted(t *testing.T) {
	sink := mailtest.Sink(t)
	s := sender(t, sink.Addr(), func(c *Config) { c.Idle = time.Nanosecond })
	for range 3 {
		if err := s.Send(t.Context(), letter("a")); err != nil {
			t.Fatal(err)
		}
	}
	if got := sink.Connections(); got != 3 {
		t.Errorf("%d connections, want 3", got)
	}
}

func TestContextInterrupts(t *testing.T) {
	for _, at := range []mailtest.Stage{mailtest.AtConnect, mailtest.AtMail, mailtest.AtDot} {
		sink := mailtest.Sink(t)
		sink.Inject(1, mailtest.Stall(at))
		s := sender(t, sink.Addr(), func(c *Config) { c.Timeout = time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Send(ctx, letter("a")) }()
		for sink.Faults() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-done; err == nil || notify.IsPermanent(err) {
			t.Errorf("interrupted at stage %d: %v", at, err)
		}
	}
}

func TestFormOfAMail(t *testing.T) {
	sink := mailtest.Sink(t)
	s := sender(t, sink.Addr())
	l := letter("0123abcd")
	l.To = "Kundin@Größe.example"
	if err := s.Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	m := sink.Messages()[0]
	if m.From != "post@shop.example" || !slices.Equal(m.To, []string{"Kundin@xn--gre-6ka8i.example"}) {
		t.Errorf("envelope from %q to %q", m.From, m.To)
	}
	for name, want := range map[string]string{
		"From":                     `"Sample Post" <post@shop.example>`,
		"To":                       "<Kundin@xn--gre-6ka8i.example>",
		"Message-Id":               "<0123abcd@shop.example>",
		"Date":                     "Tue, 24 Nov 2026 11:00:00 +0000",
		"Auto-Submitted":           "auto-generated",
		"X-Auto-Response-Suppress": "All",
		"Content-Language":         "de",
		"Mime-Version":             "1.0",
		"Subject":                  "=?UTF-8?q?Gr=C3=B6=C3=9Fe?=",
		"User-Agent":               "",
		"X-Mailer":                 "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := m.Header.Get("Content-Type"); !strings.HasPrefix(got, "multipart/alternative") {
		t.Errorf("Content-Type: %q", got)
	}
	if subject, err := m.Subject(); err != nil || subject != "Größe" {
		t.Errorf("subject %q, %v", subject, err)
	}
	for mediaType, want := range map[string]string{"text/plain": l.Text, "text/html": l.HTML} {
		if got, err := m.Part(mediaType); err != nil || strings.ReplaceAll(got, "\r\n", "\n") != want {
			t.Errorf("%s: %q, %v", mediaType, got, err)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(m.Raw), host) {
		t.Errorf("the mail tells this host's name %q", host)
	}
}

// An address with letters beyond ASCII before the @ needs a server that knows RFC 6531.
func TestInternationalAddress(t *testing.T) {
	sink := mailtest.Sink(t)
	l := letter("a")
	l.To = "jörg@shop.example"
	if err := sender(t, sink.Addr()).Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if got := sink.Messages()[0].To; !slices.Equal(got, []string{"jörg@shop.example"}) {
		t.Errorf("sent to %q", got)
	}
}

func TestDKIM(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey, "ed25519": edKey} {
		t.Run(name, func(t *testing.T) {
			sink := mailtest.Sink(t)
			s := sender(t, sink.Addr(), func(c *Config) {
				c.DKIM = &DKIM{Domain: "shop.example", Selector: "lk1", KeyFile: writeKey(t, key)}
			})
			errs := make(chan error)
			for i := range 4 { // at once: signing must be safe for it
				go func() { errs <- s.Send(t.Context(), letter(fmt.Sprint(i))) }()
			}
			for range 4 {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			record := dnsRecord(t, key)
			verify := func(raw string) error {
				found, err := dkim.VerifyWithOptions(strings.NewReader(raw), &dkim.VerifyOptions{LookupTXT: func(domain string) ([]string, error) {
					if domain != "lk1._domainkey.shop.example" {
						return nil, fmt.Errorf("asked for %s", domain)
					}
					return []string{record}, nil
				}})
				if err != nil {
					return err
				}
				if len(found) != 1 {
					return fmt.Errorf("%d signatures", len(found))
				}
				return found[0].Err
			}
			for _, m := range sink.Messages() {
				raw := string(m.Raw)
				if err := verify(raw); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(m.Header.Get("Dkim-Signature"), fmt.Sprintf("t=%d;", handofftest.Noon.Unix())) {
					t.Errorf("signed at another time: %s", m.Header.Get("Dkim-Signature"))
				}
				for _, forged := range []string{
					strings.Replace(raw, "Gr=C3", "Kl=C3", 1),
					strings.Replace(raw, "<customer@", "<another@", 1),
					"Reply-To: <thief@evil.example>\r\n" + raw,
					"Subject: Call us\r\n" + raw,
					strings.Replace(raw, "Hello", "Hallo", 1),
				} {
					if forged == raw || verify(forged) == nil {
						t.Errorf("a forged mail verifies:\n%s", forged)
					}
				}
			}
		})
	}
}

func writeKey(tb testing.TB, key crypto.Signer) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "dkim.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

func dnsRecord(tb testing.TB, key crypto.Signer) string {
	tb.Helper()
	if public, ok := key.Public().(ed25519.PublicKey); ok {
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

func TestNewSenderRefuses(t *testing.T) {
	server, err := ParseURL("smtp://127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Server: server, From: from, Clock: handofftest.NewClock(handofftest.Noon)}
	noKey := filepath.Join(t.TempDir(), "none.pem")
	notAKey := filepath.Join(t.TempDir(), "not.pem")
	if err := os.WriteFile(notAKey, []byte("-----BEGIN NOTHING-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no server":         func(c *Config) { c.Server = Server{} },
		"no clock":          func(c *Config) { c.Clock = nil },
		"no sender":         func(c *Config) { c.From = "" },
		"sender of UTF-8":   func(c *Config) { c.From = "jörg@shop.example" },
		"greeting":          func(c *Config) { c.HELO = "a\r\nb" },
		"connections":       func(c *Config) { c.Connections = -1 },
		"no key file":       func(c *Config) { c.DKIM = &DKIM{Domain: "shop.example", Selector: "a", KeyFile: noKey} },
		"key file":          func(c *Config) { c.DKIM = &DKIM{Domain: "shop.example", Selector: "a", KeyFile: notAKey} },
		"key without names": func(c *Config) { c.DKIM = &DKIM{KeyFile: writeKey(t, key)} },
		"a long domain": func(c *Config) {
			c.DKIM = &DKIM{Domain: strings.Repeat("a", 71), Selector: "a", KeyFile: writeKey(t, key)}
		},
	} {
		c := good
		spoil(&c)
		if _, err := NewSender(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewSender(good); err != nil {
		t.Error(err)
	}
}

// scripted is a server that offers what it is told, takes all, and gives the commands
// of its one connection once the client has closed it.
func scripted(tb testing.TB, extensions ...string) (addr string, commands func() []string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	heard := make(chan []string, 1)
	go func() {
		defer l.Close()
		var lines []string
		defer func() { heard <- lines }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		text := textproto.NewConn(conn)
		_ = text.PrintfLine("220 scripted.test")
		for {
			line, err := text.ReadLine()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					lines = append(lines, "not closed")
				}
				return
			}
			lines = append(lines, line)
			switch verb, _, _ := strings.Cut(line, " "); verb {
			case "EHLO":
				_ = text.PrintfLine("250-scripted.test")
				for _, x := range extensions {
					_ = text.PrintfLine("250-%s", x)
				}
				_ = text.PrintfLine("250 HELP")
			case "DATA":
				_ = text.PrintfLine("354 go on")
				_, _ = text.ReadDotBytes()
				_ = text.PrintfLine("250 taken")
			case "QUIT":
				_ = text.PrintfLine("221 bye")
			default:
				_ = text.PrintfLine("250 fine")
			}
		}
	}()
	return l.Addr().String(), func() []string { return <-heard }
}

// SMTPUTF8 is announced only for an address that needs it: announced for all, it would
// strand mail at the first server further on that does not know it (RFC 6531 section 3.5).
func TestSMTPUTF8(t *testing.T) {
	for _, tc := range []struct {
		to, offer, mail string
	}{
		{"customer@shop.example", "SMTPUTF8", "MAIL FROM:<post@shop.example>"},
		{"jörg@shop.example", "SMTPUTF8", "MAIL FROM:<post@shop.example> SMTPUTF8"},
		{"jörg@shop.example", "SIZE", ""},
	} {
		addr, commands := scripted(t, tc.offer)
		s := sender(t, addr)
		l := letter("a")
		l.To = tc.to
		err := s.Send(t.Context(), l)
		s.Close()
		said := commands()
		i := slices.IndexFunc(said, func(c string) bool { return strings.HasPrefix(c, "MAIL") })
		if tc.mail == "" {
			if i >= 0 || !notify.IsPermanent(err) {
				t.Errorf("%s without SMTPUTF8: %v, %q", tc.to, err, said)
			}
			continue
		}
		if err != nil || i < 0 || said[i] != tc.mail {
			t.Errorf("%s: %v, %q, want %q", tc.to, err, said, tc.mail)
		}
	}
}

// One mail takes four commands beyond the greeting, and says nothing of this host.
func TestCommandsOfAMail(t *testing.T) {
	addr, commands := scripted(t)
	s := sender(t, addr)
	for range 2 {
		if err := s.Send(t.Context(), letter("a")); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	mail := []string{"MAIL FROM:<post@shop.example>", "RCPT TO:<customer@shop.example>", "DATA"}
	if got, want := commands(), slices.Concat([]string{"EHLO shop.example"}, mail, mail, []string{"QUIT"}); !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

// A connection on which no agreement is found is closed, not left to the server.
func TestFailedDialIsClosed(t *testing.T) {
	addr, commands := scripted(t)
	s := sender(t, addr, func(c *Config) { c.Server.security = startTLS })
	if err := s.Send(t.Context(), letter("a")); err == nil {
		t.Fatal("sent without TLS")
	}
	if got := commands(); !slices.Equal(got, []string{"EHLO shop.example"}) {
		t.Errorf("said %q", got)
	}
}

// A password goes over no plain line in the clear.
func TestPasswordStaysHome(t *testing.T) {
	addr, commands := scripted(t, "AUTH PLAIN LOGIN")
	s := sender(t, addr, func(c *Config) { c.Server.user, c.Server.password = "someone", "hunter2" })
	err := s.Send(t.Context(), letter("a"))
	if got := notify.ReasonOf(err).String(); err == nil || got != "connect: no agreement" || notify.IsPermanent(err) {
		t.Errorf("%v", err)
	}
	if got := commands(); !slices.Equal(got, []string{"EHLO shop.example"}) {
		t.Errorf("said %q", got)
	}
}
