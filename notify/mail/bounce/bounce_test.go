package bounce

import (
	"slices"
	"strings"
	"testing"

	"latchkey/handoff"
)

var (
	a = strings.Repeat("a", 47)
	b = strings.Repeat("B", 47)
)

// report is a delivery report as Postfix writes it.
func report(recipients string) string {
	return strings.ReplaceAll(`From: MAILER-DAEMON@mx.example
To: bounce+`+a+`@shop.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="x"

--x
Content-Type: text/plain; charset=us-ascii

I could not deliver your mail. Action: delivered

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

`+recipients+`
--x
Content-Type: text/rfc822-headers

Subject: Your code
Action: delivered

--x--
`, "\n", "\r\n")
}

func TestRead(t *testing.T) {
	failed := "Final-Recipient: rfc822; ada@shop.example\nOriginal-Recipient: rfc822;ada@shop.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1\n <ada@shop.example>: no such user\n"
	for name, c := range map[string]struct {
		text   string
		to     []string
		state  handoff.MailState
		status string
		tokens []string
	}{
		"failed":                  {report(failed), nil, handoff.MailFailed, "5.1.1", []string{a}},
		"the envelope goes first": {report(failed), []string{"bounce+" + b + "@shop.example"}, handoff.MailFailed, "5.1.1", []string{b}},
		"an envelope without one": {report(failed), []string{"bounce@shop.example"}, handoff.MailFailed, "5.1.1", []string{a}},
		"delivered":               {report("Final-Recipient: rfc822; x@y\nAction: delivered\nStatus: 2.0.0\n"), nil, handoff.MailDelivered, "2.0.0", []string{a}},
		"delayed":                 {report("Final-Recipient: rfc822; x@y\nAction: delayed\nStatus: 4.4.1\n"), nil, handoff.MailNone, "", []string{a}},
		"relayed":                 {report("Final-Recipient: rfc822; x@y\nAction: relayed\nStatus: 2.0.0\n"), nil, handoff.MailNone, "", []string{a}},
		"a comment":               {report("ACTION: Failed (host unknown)\nstatus: 5.4.4 (no route)\n"), nil, handoff.MailFailed, "5.4.4", []string{a}},
		"two, one failed":         {report("Action: delivered\nStatus: 2.0.0\n\n" + failed), nil, handoff.MailFailed, "5.1.1", []string{a}},
		"two, one delayed":        {report("Action: delivered\nStatus: 2.0.0\n\nAction: delayed\nStatus: 4.4.1\n"), nil, handoff.MailNone, "", []string{a}},
		"no action":               {report("Final-Recipient: rfc822; x@y\nStatus: 5.1.1\n"), nil, handoff.MailNone, "", []string{a}},
		"a status of words":       {report("Action: failed\nStatus: ada@shop.example\n"), nil, handoff.MailFailed, "", []string{a}},
		"of another kind":         {strings.Replace(report(failed), "delivery-status;", "disposition-notification;", 1), nil, handoff.MailNone, "", []string{a}},
		"a vacation": {
			"To: bounce+" + a + "@shop.example\r\nAuto-Submitted: auto-replied\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n", nil, handoff.MailNone, "", []string{a},
		},
		"cut off":     {strings.SplitAfter(report(failed), "ada@shop.example")[0], nil, handoff.MailNone, "", []string{a}},
		"no boundary": {strings.Replace(report(failed), `; boundary="x"`, "", 1), nil, handoff.MailNone, "", []string{a}},
	} {
		got, err := Read(strings.NewReader(c.text), c.to)
		if err != nil || got.State != c.state || got.Status != c.status || !slices.Equal(got.Tokens, c.tokens) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := Read(strings.NewReader("\x00\x01"), nil); err != ErrMessage {
		t.Errorf("no message: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(report("Action: failed\nStatus: 5.1.1\n"), "bounce+"+a+"@shop.example")
	f.Add(report("Action: delivered\n\nAction: delayed\n"), "")
	f.Add("Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\n\r\n--x--", "x")
	f.Fuzz(func(t *testing.T, text, to string) {
		got, err := Read(strings.NewReader(text), []string{to})
		if err != nil && (err != ErrMessage || got.State != handoff.MailNone) {
			t.Fatalf("%+v, %v", got, err)
		}
		if got.Status != handoff.MailStatus(got.Status) || !slices.Contains([]handoff.MailState{handoff.MailNone, handoff.MailFailed, handoff.MailDelivered}, got.State) {
			t.Fatalf("%+v", got)
		}
		for _, token := range got.Tokens {
			if len(token) != handoff.MailTokenLen {
				t.Fatalf("a token of %d", len(token))
			}
		}
	})
}
