package demo

import (
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newMailbox(t *testing.T, keep int) *Mailbox {
	t.Helper()
	m, err := NewMailbox(func() time.Time { return noon }, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// send hands a message to the mailbox over SMTP. Lines of raw end in \n alone.
func send(m *Mailbox, raw string, to ...string) error {
	return smtp.SendMail(m.Addr(), nil, "mail@shop.example", to, []byte(strings.ReplaceAll(raw, "\n", "\r\n")))
}

func mustSend(t *testing.T, m *Mailbox, raw string, to ...string) {
	t.Helper()
	if err := send(m, raw, to...); err != nil {
		t.Fatalf("SMTP: %v", err)
	}
}

func TestMailboxReadsMIME(t *testing.T) {
	tests := []struct {
		name, raw string
		want      Mail
	}{{
		name: "alternatives, encoded words",
		raw: `From: Shop <mail@shop.example>
To: customer@shop.example
Subject: =?utf-8?q?Paket_=E2=80=A67827=3A?= =?utf-8?b?IElociBDb2RlIGbDvHI=?= heute
Message-ID: <one@shop.example>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=cut

--cut
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe =
aus Berlin=3D
zweite Zeile
--cut
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PHA+R3LDvMOfZTwv
cD4=
--cut--
`,
		want: Mail{
			Subject: "Paket …7827: Ihr Code für heute", MessageID: "one@shop.example",
			Text: "Grüße aus Berlin=\nzweite Zeile", HTML: "<p>Grüße</p>",
		},
	}, {
		name: "alternatives within a mail with an attachment",
		raw: `Subject: Nested
Content-Type: multipart/mixed; boundary=out

--out
Content-Type: multipart/alternative; boundary=in

--in
Content-Type: text/plain

the text
--in
Content-Type: text/html

<p>the page</p>
--in--
--out
Content-Type: text/plain
Content-Disposition: attachment; filename=notes.txt

not the text
--out--
`,
		want: Mail{Subject: "Nested", Text: "the text", HTML: "<p>the page</p>"},
	}, {
		name: "no MIME at all",
		raw:  "Subject: Plain\n\nfirst\n..dot at the start\n",
		want: Mail{Subject: "Plain", Text: "first\n..dot at the start\n"},
	}, {
		name: "HTML alone",
		raw:  "Subject: Page\nContent-Type: text/html; charset=utf-8\n\n<p>ü</p>\n",
		want: Mail{Subject: "Page", HTML: "<p>ü</p>\n"},
	}, {
		name: "bytes that are no UTF-8",
		raw:  "Subject: Bytes\nContent-Type: text/plain; charset=x-unknown\n\na\xffb\n",
		want: Mail{Subject: "Bytes", Text: "a\uFFFDb\n"},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMailbox(t, 10)
			mustSend(t, m, test.raw, "customer@shop.example")
			test.want.ID, test.want.To, test.want.At = 1, "customer@shop.example", noon
			if got := m.List(); !slices.Equal(got, []Mail{test.want}) {
				t.Errorf("List =\n%#v, want\n%#v", got, test.want)
			}
		})
	}
}

func TestMailboxEveryRecipientGetsTheMail(t *testing.T) {
	m := newMailbox(t, 10)
	mustSend(t, m, "To: list@shop.example\nSubject: Hello\n\nall\n", "a@shop.example", "b@shop.example")
	got := m.List()
	if len(got) != 2 || got[0].To != "b@shop.example" || got[1].To != "a@shop.example" || got[0].Text != got[1].Text {
		t.Errorf("List = %+v, want the mail once for b and once for a", got)
	}
}

func TestMailboxRefusesWhatItCannotRead(t *testing.T) {
	m := newMailbox(t, 10)
	for name, raw := range map[string]string{
		"no header":        "\x00\n\n",
		"parts cut off":    "Content-Type: multipart/mixed; boundary=cut\n\n--cut\n\nhalf a part\n",
		"larger than 1 MB": "Subject: Large\n\n" + strings.Repeat(strings.Repeat("x", 70)+"\n", maxMail/71+1),
	} {
		var reply *textproto.Error
		if err := send(m, raw, "a@shop.example"); !errors.As(err, &reply) || reply.Code/100 != 5 {
			t.Errorf("%s: %v, want a 5xx reply", name, err)
		}
	}
	if got := m.List(); len(got) != 0 {
		t.Errorf("List = %d mails, want none", len(got))
	}
}

func TestMailboxKeepsTheNewest(t *testing.T) {
	m := newMailbox(t, 3)
	for i := range 5 {
		mustSend(t, m, fmt.Sprintf("Subject: %d\n\n.\n", i+1), "a@shop.example")
		ids := []int{}
		for _, mail := range m.List() {
			ids = append(ids, mail.ID)
			if mail.Subject != fmt.Sprint(mail.ID) {
				t.Errorf("mail %d has subject %s", mail.ID, mail.Subject)
			}
		}
		if want := [][]int{{1}, {2, 1}, {3, 2, 1}, {4, 3, 2}, {5, 4, 3}}[i]; !slices.Equal(ids, want) {
			t.Errorf("after %d mails List has %v, want %v", i+1, ids, want)
		}
	}
	for id, want := range map[int]bool{-1: false, 0: false, 2: false, 3: true, 5: true, 6: false} {
		if mail, ok := m.Get(id); ok != want || (ok && mail.ID != id) {
			t.Errorf("Get(%d) = %d, %v, want %v", id, mail.ID, ok, want)
		}
	}
}

func TestMailboxManySendersAndReaders(t *testing.T) {
	const senders, each = 8, 10
	m := newMailbox(t, senders*each)
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for i := range each {
				if err := send(m, fmt.Sprintf("Subject: %d/%d\n\n.\n", s, i), "a@shop.example"); err != nil {
					t.Error(err)
				}
				for _, mail := range m.List() {
					if again, ok := m.Get(mail.ID); !ok || again != mail {
						t.Errorf("Get(%d) = %+v, List said %+v", mail.ID, again, mail)
					}
				}
			}
		})
	}
	all.Wait()
	subjects := map[string]bool{}
	for _, mail := range m.List() {
		subjects[mail.Subject] = true
	}
	if len(subjects) != senders*each {
		t.Errorf("%d different mails are kept, want %d", len(subjects), senders*each)
	}
}

func TestMailboxKeepsNothing(t *testing.T) {
	if m, err := NewMailbox(time.Now, 0); err == nil {
		m.Close()
		t.Error("a mailbox of no mails was made")
	}
}

func TestMailboxClosedAtOnce(t *testing.T) {
	for range 100 {
		m, err := NewMailbox(time.Now, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
