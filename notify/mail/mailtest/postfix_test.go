package mailtest_test

import (
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	gomail "github.com/wneessen/go-mail"
	"latchkey/notify/mail/mailtest"
)

func TestPostfixDelivers(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t)
	if messages := p.Messages(); len(messages) != 0 {
		t.Fatalf("%d messages in a new mailbox", len(messages))
	}
	if err := send(p.Addr(), sample(t, "1@shop.example", "customer@shop.example")); err != nil {
		t.Fatal(err)
	}
	messages := p.Messages()
	if len(messages) != 1 {
		t.Fatalf("%d messages, want 1", len(messages))
	}
	checkSample(t, messages[0], "1@shop.example", "customer@shop.example")

	two := sample(t, "2@shop.example", "a@shop.example")
	if err := two.AddTo("b@other.example"); err != nil {
		t.Fatal(err)
	}
	if err := send(p.Addr(), two); err != nil {
		t.Fatal(err)
	}
	to := map[string]bool{}
	for _, m := range p.Messages()[1:] {
		checkSample(t, m, "2@shop.example", strings.Join(m.To, ","))
		to[m.To[0]] = true
	}
	if len(to) != 2 || !to["a@shop.example"] || !to["b@other.example"] {
		t.Errorf("a message to two went to %v", to)
	}
	if n := len(p.Wait(3)); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

func TestPostfixKeepsOrder(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t)
	const n = 20
	for i := range n {
		if err := send(p.Addr(), sample(t, fmt.Sprintf("%d@shop.example", i), "customer@shop.example")); err != nil {
			t.Fatal(err)
		}
		p.Messages() // the queue manager may deliver two in any order
	}
	messages := p.Messages()
	if len(messages) != n {
		t.Fatalf("%d messages, want %d", len(messages), n)
	}
	for i, m := range messages {
		if want := fmt.Sprintf("%d@shop.example", i); m.ID() != want {
			t.Errorf("message %d is %q, want %q", i, m.ID(), want)
		}
	}
}

// A message that breaks off before its final dot was never acknowledged: it must
// neither arrive nor be waited for, not even after a crash in the middle.
func TestPostfixStoppedInTheMiddle(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t)
	c, err := textproto.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range []struct {
		line string
		code int
	}{
		{"", 220},
		{"EHLO client.test", 250},
		{"MAIL FROM:<parcels@shop.example>", 250},
		{"RCPT TO:<customer@shop.example>", 250},
		{"DATA", 354},
	} {
		if step.line != "" {
			if err := c.PrintfLine("%s", step.line); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := c.ReadResponse(step.code); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.PrintfLine("Subject: half\r\n\r\n%s", strings.Repeat("line\r\n", 1e5)); err != nil {
		t.Fatal(err)
	}
	if n := len(p.Messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
	p.Stop()
	p.Start()
	if err := send(p.Addr(), sample(t, "1@shop.example", "customer@shop.example")); err != nil {
		t.Fatal(err)
	}
	if messages := p.Messages(); len(messages) != 1 || messages[0].ID() != "1@shop.example" {
		t.Errorf("after a crash: %d messages, want the one sent later", len(messages))
	}
}

func TestPostfixRefuses(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t)
	for recipient, want := range map[string]int{mailtest.TempFail: 450, mailtest.Reject: 550} {
		for _, domain := range []string{"@shop.example", "@other.example"} {
			err := send(p.Addr(), sample(t, "1@shop.example", recipient+domain))
			if code(err) != want {
				t.Errorf("%s: got %v, want code %d", recipient+domain, err, want)
			}
		}
	}
	if n := len(p.Messages()); n != 0 {
		t.Errorf("%d refused messages arrived", n)
	}
}

func TestPostfixStopAndStart(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t)
	m := sample(t, "1@shop.example", "customer@shop.example")
	if err := send(p.Addr(), m); err != nil {
		t.Fatal(err)
	}
	p.Messages() // not before it is delivered: the server has more than one process
	p.Stop()
	p.Stop()
	if err := send(p.Addr(), m); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped server: got %v, want %v", err, syscall.ECONNREFUSED)
	}
	if n := len(p.Messages()); n != 1 {
		t.Errorf("the mailbox of a stopped server has %d messages, want 1", n)
	}
	p.Start()
	if err := send(p.Addr(), m); err != nil {
		t.Fatal(err)
	}
	if n := len(p.Messages()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestPostfixStartTLS(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t, mailtest.StartTLS())
	m := sample(t, "1@shop.example", "customer@shop.example")
	mandatory := gomail.WithTLSPolicy(gomail.TLSMandatory)
	if err := send(p.Addr(), m, mandatory); err == nil {
		t.Error("a client that does not know the certificate trusts it")
	}
	if err := send(p.Addr(), m, mandatory, gomail.WithTLSConfig(p.ClientTLS())); err != nil {
		t.Fatal(err)
	}
	if received := p.Wait(1)[0].Header.Get("Received"); !strings.Contains(received, "TLSv1.3") {
		t.Errorf("it did not come over TLS: %s", received)
	}
}

// TestPostfixOnLoopbackOnly asks every other address of the machine.
func TestPostfixOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	p := mailtest.Postfix(t)
	_, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.Equal(net.IPv4(127, 0, 0, 1)) || ip.IsLinkLocalUnicast() {
			continue
		}
		if c, err := net.Dial("tcp", net.JoinHostPort(ip.String(), port)); err == nil {
			c.Close()
			t.Errorf("it listens on %v", ip)
		}
	}
}

// recorder is a testing.TB that notes how a test ends.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Skip(...any)  { r.skipped = true; runtime.Goexit() }
func (r *recorder) Fatal(...any) { r.failed = true; runtime.Goexit() }

func TestWithoutPostfix(t *testing.T) {
	for _, tt := range []struct {
		ci, real        string
		skipped, failed bool
	}{
		{"", "", true, false},
		{"true", "", false, true},
		{"", "required", false, true},
	} {
		t.Run("CI="+tt.ci+" LATCHKEY_REAL="+tt.real, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			t.Setenv("CI", tt.ci)
			t.Setenv("LATCHKEY_REAL", tt.real)
			r := &recorder{TB: t}
			var wg sync.WaitGroup
			wg.Go(func() { mailtest.Postfix(r) })
			wg.Wait()
			if r.skipped != tt.skipped || r.failed != tt.failed {
				t.Errorf("skipped %t, failed %t", r.skipped, r.failed)
			}
		})
	}
}
