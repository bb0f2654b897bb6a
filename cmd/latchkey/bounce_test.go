package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
	"latchkey/notify/mail"
	"latchkey/notify/mail/mailtest"
)

// bouncing is a service whose mails may come back.
type bouncing struct {
	t       *testing.T
	service *service.Service
	store   *redisstore.Store
	policy  *handoff.Policy
	keyset  string
	redis   string
}

func newBouncing(t *testing.T) *bouncing {
	t.Helper()
	b := &bouncing{t: t, redis: "redis://" + redistest.Single(t).Addr(), keyset: filepath.Join(t.TempDir(), "keys.json")}
	if code, _, errs := once("keys", "new", b.keyset); code != 0 {
		t.Fatal(errs)
	}
	ring, err := keyring.Load(b.keyset)
	if err != nil {
		t.Fatal(err)
	}
	if b.policy, err = loadPolicy("../../docs/policy.json"); err != nil {
		t.Fatal(err)
	}
	client, err := redisstore.Dial(b.redis)
	if err != nil {
		t.Fatal(err)
	}
	b.store, err = redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.store.Close(); client.Close() })
	b.service, err = service.New(service.Config{Store: b.store, Policy: b.policy, Clock: wallClock{}, Namer: ring, Random: rand.Reader, Keypads: door.PINs{}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bouncing) dispatch(parcel, email string) handoff.Grant {
	b.t.Helper()
	d := handofftest.Sample(parcel)
	d.Day, d.Customer.Email = handoff.DateOf(time.Now().AddDate(0, 0, 2)), email
	g, _, err := b.service.Dispatch(b.t.Context(), d)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

func (b *bouncing) mail(id handoff.GrantID) handoff.MailWord {
	b.t.Helper()
	g, err := b.service.Grant(b.t.Context(), handoff.Actor{Role: handoff.RoleService}, id)
	if err != nil {
		b.t.Fatal(err)
	}
	w, err := b.service.MailOf(b.t.Context(), &g)
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

// bounce runs the command on a message.
func (b *bouncing) bounce(message string, args ...string) (code int, said string) {
	var errs bytes.Buffer
	args = append([]string{"bounce", "--redis-url", b.redis, "--keyset", b.keyset, "--policy", "../../docs/policy.json"}, args...)
	code = run(b.t.Context(), args, streams{in: strings.NewReader(message), out: io.Discard, err: &errs})
	return code, errs.String()
}

func reportTo(address, fields string) string {
	return "To: " + address + "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n" +
		"--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; customer@shop.example\r\n" + fields + "\r\n\r\n--x--\r\n"
}

// The command notes what a report says of the mail that its token names. Everything else changes
// nothing, and is no failure: the mail server must not send it again, nor a report of the report.
func TestBounces(t *testing.T) {
	b := newBouncing(t)
	g := b.dispatch("PARCEL1", "customer@shop.example")
	to := "bounce+" + b.service.MailToken(&g) + "@shop.example"
	failed := "Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 customer@shop.example unknown"
	forged := "bounce+" + strings.Repeat("a", handoff.MailTokenLen) + "@shop.example"
	for _, c := range []struct {
		name, message string
		args          []string
		want          handoff.MailState
	}{
		{"a vacation", "To: " + to + "\r\nSubject: I am away\r\nAuto-Submitted: auto-replied\r\n\r\nAction: failed\r\n", []string{to}, handoff.MailNone},
		{"delayed", reportTo(to, "Action: delayed\r\nStatus: 4.4.1"), []string{to}, handoff.MailNone},
		{"without a token", reportTo("mail@shop.example", failed), nil, handoff.MailNone},
		{"a forged token", reportTo(forged, failed), []string{forged}, handoff.MailNone},
		{"a forged token in the envelope", reportTo(to, failed), []string{forged}, handoff.MailNone},
		{"no message", "\x00", []string{to}, handoff.MailNone},
		{"delivered", reportTo(to, "Action: delivered\r\nStatus: 2.0.0"), []string{strings.ToUpper(to)}, handoff.MailDelivered},
		{"failed", reportTo("MAILER-DAEMON@shop.example", failed), []string{to}, handoff.MailFailed},
		{"failed again, found in the message", reportTo(to, failed), nil, handoff.MailFailed},
	} {
		code, said := b.bounce(c.message, c.args...)
		if code != 0 || strings.Contains(said, "@") || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: %d %q", c.name, code, said)
		}
		if w := b.mail(g.ID); w.State != c.want || c.want == handoff.MailFailed && (w.Why != handoff.MailBounced || w.Status != "5.1.1") {
			t.Errorf("%s: %+v, want %s", c.name, w, c.want)
		}
	}
	keyset := b.keyset
	b.keyset = filepath.Join(t.TempDir(), "none.json")
	if code, said := b.bounce(reportTo(to, failed), to); code != 75 {
		t.Errorf("without its keys: %d %s", code, said)
	}
	b.keyset, b.redis = keyset, "redis://127.0.0.1:1"
	if code, said := b.bounce(reportTo(to, failed), to); code != 75 {
		t.Errorf("without Redis: %d %s", code, said)
	}
}

// A mail to an address that does not exist comes back from a real mail server into the program. The
// bounce of an older code's mail changes nothing.
func TestPostfixBounces(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	b := newBouncing(t)

	// The pipe's user must get at the program, the keys and the policy.
	dir, err := os.MkdirTemp("", "bounce")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	give := func(name, from string, mode os.FileMode, owner int) string {
		t.Helper()
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, mode)
		}
		if err == nil && owner != 0 {
			err = os.Chown(filepath.Join(dir, name), owner, -1)
		}
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		uid = 0 // the mail server is skipped
	}
	program, keys, policy := give("latchkey", os.Args[0], 0o755, 0), give("keys.json", b.keyset, 0o600, uid), give("policy.json", "../../docs/policy.json", 0o644, 0)
	script := filepath.Join(dir, "pipe")
	said := filepath.Join(dir, "said")
	for name, mode := range map[string]os.FileMode{said: 0o666} {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	command := "#!/bin/sh\nexport LATCHKEY_TEST_PROCESS=1\nexec " + program + " '-test.run=^TestProcess$' -- bounce --redis-url " + b.redis + " --keyset " + keys + " --policy " + policy + ` "$1" 2>>` + said + "\n"
	if err := os.WriteFile(script, []byte(command), 0o755); err != nil {
		t.Fatal(err)
	}
	server := mailtest.Postfix(t, mailtest.Bounces(script))

	url, err := mail.ParseURL("smtp://" + server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	sender, err := mail.NewSender(mail.Config{Server: url, From: "mail@shop.example", Clock: wallClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	mailer, err := mail.NewMailer(mail.MailerConfig{
		Grants: b.service, Mails: b.service, Couriers: b.store, Transport: sender, Clock: wallClock{}, Limits: b.policy.Limits,
		Bounces: mailtest.Bounced + "@shop.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	send := func(g handoff.Grant, what handoff.EventType) {
		t.Helper()
		d := eventlog.Delivery{Logged: eventlog.Logged{Event: handoff.Event{Type: what, Grant: g.ID, Issue: g.NewestIssue(), Window: &g.Window}}}
		if err := mailer.Handle(context.Background(), d); err != nil {
			t.Fatal(err)
		}
	}
	gone, there := b.dispatch("PARCEL1", mailtest.Gone+"@shop.example"), b.dispatch("PARCEL2", "customer@shop.example")
	send(gone, handoff.EventDispatched)
	send(there, handoff.EventDispatched)
	lines := func() string {
		content, _ := os.ReadFile(said)
		return string(content)
	}
	await(t, "the mail comes back", func() bool { return b.mail(gone.ID).State == handoff.MailFailed })
	if w := b.mail(gone.ID); w.Why != handoff.MailBounced || w.Status != "5.1.1" {
		t.Errorf("%+v", w)
	}
	if w := b.mail(there.ID); w.State != handoff.MailAccepted {
		t.Errorf("the other mail: %+v", w)
	}

	old := b.dispatch("PARCEL3", mailtest.Gone+"@shop.example")
	before := strings.Count(lines(), "failed")
	send(old, handoff.EventDispatched)
	if _, err := b.service.Reissue(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}, old.ID); err != nil {
		t.Fatal(err)
	}
	await(t, "the older code's mail comes back", func() bool { return strings.Count(lines(), "failed") > before })
	if w := b.mail(old.ID); w.State != handoff.MailNone {
		t.Errorf("of the newer code: %+v", w)
	}
	if strings.Contains(lines(), "@") {
		t.Errorf("an address was logged: %s", lines())
	}
}
