package mail

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/keyring"
	"latchkey/notify/mail/message"
)

// Letter is a mail on its way to one customer. It prints as its [message.Mail] does:
// without the code, and without the address.
type Letter struct {
	message.Mail

	// ID is the left side of the Message-ID. A letter that is sent again has the same.
	ID string

	To   string // an address as the shop gave it, RFC 5321 or, internationalised, RFC 6531
	Date time.Time

	// ReturnPath is the address to which it comes back if it cannot be delivered; empty: to the sender.
	ReturnPath string

	// Unsubscribe is where a POST ends mails like this one (RFC 8058); empty for none.
	Unsubscribe string
}

// messageID names the mail that a delivery causes: the same at every try, different for
// any two deliveries, and telling nothing of either.
func messageID(d *eventlog.Delivery) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%s/%s", d.ID.Partition, d.ID.ID, d.Event.Grant))
	return hex.EncodeToString(sum[:16])
}

var errAddress = errors.New("mail: not an address that mail can be sent to")

// loose is a local part whose dots RFC 5322 allows in quotes only. It is an address all the
// same, and go-mail sends it in quotes.
var loose = regexp.MustCompile("^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[^@]+$")

// parseAddress reads one address without a display name and gives its domain the form
// that DNS and every mail server know (IDNA2008, as RFC 5891 section 4 looks names up).
func parseAddress(text string) (*mail.Address, error) {
	a, err := mail.ParseAddress(text)
	switch {
	case err == nil:
	case loose.MatchString(text):
		a = &mail.Address{Address: text}
	default:
		return nil, errAddress
	}
	at := strings.LastIndexByte(a.Address, '@')
	domain, err := handoff.MailDomain(a.Address[at+1:])
	if err != nil {
		return nil, errAddress
	}
	a.Address = a.Address[:at+1] + domain
	return a, nil
}

func domainOf(a *mail.Address) string { return a.Address[strings.LastIndexByte(a.Address, '@')+1:] }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 127 })
}

// compose puts a letter into the form of RFC 5322. Auto-Submitted (RFC 3834 section 5)
// and X-Auto-Response-Suppress keep vacation notices from being sent in reply.
func (s *Sender) compose(l Letter, to *mail.Address) *gomail.Msg {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(s.from)
	if l.ReturnPath != "" {
		m.EnvelopeFromMailAddress(&mail.Address{Address: l.ReturnPath})
	}
	m.ToMailAddress(to)
	m.Subject(l.Subject)
	m.SetMessageIDWithValue(l.ID + "@" + domainOf(s.from))
	m.SetDateWithValue(l.Date.UTC())
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader(gomail.HeaderXAutoResponseSuppress, "All")
	m.SetGenHeader(gomail.HeaderContentLang, l.Locale)
	if l.Unsubscribe != "" {
		m.SetGenHeader(gomail.HeaderListUnsubscribe, "<"+l.Unsubscribe+">")
		m.SetGenHeader(gomail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
	}
	m.SetBodyString(gomail.TypeTextPlain, l.Text)
	m.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	if s.dkim != nil {
		m.SetDKIM(s.dkim)
	}
	return m
}

// DKIM says how mails are signed (RFC 6376).
type DKIM struct {
	Domain   string // d=, which DMARC wants aligned with that of From
	Selector string // s=
	KeyFile  string // PEM: an RSA key (PKCS #1 or #8) or an Ed25519 key (RFC 8463; PKCS #8)
}

// signed are the fields that say who writes to whom, about what and when, and how the
// body is to be read. Those whose addition would mislead are signed once more than they
// occur, so that a second one breaks the signature (RFC 6376 section 8.15).
//
// The list has no room for more: a tag of over 75 characters is folded by go-mail 0.8.1
// where it did not sign a space, and the signature does not verify.
var (
	signed     = []string{"from", "to", "subject", "date", "message-id", "content-type"}
	oversigned = []string{"from", "subject", "reply-to"}
)

const longestTag = 70

func (d *DKIM) signer(now func() time.Time) (*gomail.DKIMSigner, error) {
	pem, err := keyring.ReadSecret(d.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("mail: DKIM key: %w", err)
	}
	key, err := gomail.PrivKeyFromPEM(pem)
	if err != nil {
		return nil, errors.New("mail: the DKIM key must be an RSA or Ed25519 private key in PEM")
	}
	if len(d.Domain) > longestTag || len(d.Selector) > longestTag {
		return nil, errors.New("mail: the DKIM domain or selector is too long")
	}
	s := gomail.NewDKIMSigner(d.Domain, d.Selector, key)
	s.NowFunc = now
	s.SignHeaders(signed...)
	s.OversignHeaders(oversigned...)
	// Signing once proves the configuration. It also settles the algorithm, which the
	// signer notes at its first use, and not safely for several goroutines.
	if _, err := s.Sign([]byte("From: probe\r\n"), nil); err != nil {
		return nil, fmt.Errorf("mail: DKIM: %w", err)
	}
	return s, nil
}
