package mail

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/notify/mail/mailtest"
)

func TestParseURL(t *testing.T) {
	for _, tc := range []struct {
		url, want string
		security  security
	}{
		{"smtp://mail.example", "smtp://mail.example:587", startTLS},
		{"smtp://mail.example:25/", "smtp://mail.example:25", startTLS},
		{"smtp://user:p%40ss@mail.example", "smtp://mail.example:587", startTLS},
		{"smtps://user:secret@mail.example", "smtps://mail.example:465", implicitTLS},
		{"smtps://127.0.0.1", "smtps://127.0.0.1:465", implicitTLS},
		{"smtp://localhost:25", "smtp://localhost:25", plain},
		{"smtp://127.0.0.53:1025", "smtp://127.0.0.53:1025", plain},
		{"smtp://[::1]:1025", "smtp://[::1]:1025", plain},
		{"smtp://[2001:db8::1]", "smtp://[2001:db8::1]:587", startTLS},
		{"smtp://localhost.example", "smtp://localhost.example:587", startTLS},
	} {
		s, err := ParseURL(tc.url)
		if err != nil || s.String() != tc.want || s.security != tc.security {
			t.Errorf("ParseURL(%q) = %v, security %d, %v; want %v, security %d", tc.url, s, s.security, err, tc.want, tc.security)
		}
	}
	if s, err := ParseURL("smtp://user:p%40ss@mail.example"); err != nil || s.user != "user" || s.password != "p@ss" {
		t.Errorf("credentials were not read: %v", err)
	}
}

func TestParseURLRefusesWithoutEcho(t *testing.T) {
	for _, u := range []string{
		"", "mail.example:25", "smtp:", "smtp://", "smtp://:25", "http://hunter2.example", "smtp://hunter2@mail.example",
		"smtp://:hunter2@mail.example", "smtp://user:hunter2@mail.example:port", "smtp://user:hunter2@mail.example:0",
		"smtp://user:hunter2@mail.example:65536", "smtp://user:hunter2@mail.example/path", "smtp://user:hunter2@mail.example#x",
		"smtp://user:hunter2@mail.example?tls=no", "smtp://user:hunter2@mail.example?ca=/hunter2", "smtp://user:%zzhunter2@mail.example",
		"smtp://user:hunter2@mail.example?ca=%zz",
	} {
		_, err := ParseURL(u)
		if !errors.Is(err, ErrURL) && !errors.Is(err, ErrCAFile) {
			t.Errorf("ParseURL(%q): %v", u, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURL(%q) repeats it: %v", u, err)
		}
	}
}

func TestServerPrintsNoCredentials(t *testing.T) {
	s, err := ParseURL("smtps://someone:hunter2@mail.example")
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(map[string]any{"server": s, "pointer": &s})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprintf("%v %+v %#v %s %q %d", s, s, s, s, s, s), fmt.Sprintf("%+v %#v", struct{ S Server }{s}, Config{Server: s}), string(encoded),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "someone") {
			t.Errorf("printed %s", text)
		}
	}
}

func TestCAFile(t *testing.T) {
	sink := mailtest.Sink(t, mailtest.StartTLS())
	ca := filepath.Join(t.TempDir(), "ca.pem")

	// The sink's certificate is only to be had as a pool, so ask for it as a peer would.
	der := handshake(t, sink)
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := ParseURL("smtp://" + sink.Addr() + "?ca=" + ca)
	if err != nil {
		t.Fatal(err)
	}
	s := sender(t, sink.Addr(), func(c *Config) { c.Server = server })
	if err := s.Send(t.Context(), letter("a")); err != nil {
		t.Fatal(err)
	}
	if len(s.idle) != 1 {
		t.Fatal("the connection was not kept")
	}
	if _, encrypted := s.idle[0].smtp.TLSConnectionState(); !encrypted {
		t.Error("the mail went in the clear")
	}
}

func TestTLSIsDemandedAndVerified(t *testing.T) {
	offering, silent := mailtest.Sink(t, mailtest.StartTLS()), mailtest.Sink(t)
	demand := func(c *Config) { c.Server.security = startTLS }
	for _, tc := range []struct{ name, addr, want string }{
		{"a certificate of nobody we know", offering.Addr(), "notify: connect: certificate not trusted"},
		{"STARTTLS not offered", silent.Addr(), "notify: connect: no agreement"},
	} {
		err := sender(t, tc.addr, demand).Send(t.Context(), letter("a"))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	if n := len(offering.Messages()) + len(silent.Messages()); n != 0 {
		t.Errorf("%d mails were sent all the same", n)
	}
}

// handshake returns the certificate that a sink shows, DER.
func handshake(tb testing.TB, sink *mailtest.SinkServer) []byte {
	tb.Helper()
	c, err := smtp.Dial(sink.Addr())
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(sink.ClientTLS()); err != nil {
		tb.Fatal(err)
	}
	state, _ := c.TLSConnectionState()
	return state.PeerCertificates[0].Raw
}
