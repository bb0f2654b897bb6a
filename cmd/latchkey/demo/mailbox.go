package demo

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
)

// Mail is one mail as one recipient got it. It holds codes and personal data: it is
// shown, and never logged.
type Mail struct {
	ID        int       `json:"id"` // counts up from 1
	To        string    `json:"to"` // the envelope's recipient
	Subject   string    `json:"subject"`
	Text      string    `json:"text"` // the first text/plain part; may be empty
	HTML      string    `json:"html"` // the first text/html part; may be empty
	At        time.Time `json:"at"`   // when it arrived
	MessageID string    `json:"message_id"`
}

// Mailbox is an SMTP server on loopback that takes every mail, sends none on, and keeps
// the newest in memory. It is safe for concurrent use.
type Mailbox struct {
	now      func() time.Time
	listener net.Listener
	server   *smtp.Server
	served   chan error

	mu   sync.Mutex
	ring []Mail // the mail with ID n is at n % len
	last int    // newest ID
}

// maxMail bounds a mail, in bytes.
const maxMail = 1 << 20

// NewMailbox starts a mailbox on a free port, which keeps the newest keep mails and
// dates them by now. The caller must close it.
func NewMailbox(now func() time.Time, keep int) (*Mailbox, error) {
	if keep < 1 {
		return nil, errors.New("demo: a mailbox keeps at least one mail")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("demo: mailbox: %w", err)
	}
	m := &Mailbox{now: now, listener: listener, served: make(chan error, 1), ring: make([]Mail, keep)}
	m.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &delivery{to: m}, nil
	}))
	m.server.Domain = "localhost"
	m.server.EnableSMTPUTF8 = true
	m.server.MaxMessageBytes = maxMail
	m.server.MaxRecipients = 100
	m.server.ReadTimeout = 5 * time.Minute // RFC 5321 section 4.5.3.2.7: senders keep connections open
	m.server.WriteTimeout = 10 * time.Second
	m.server.ErrorLog = log.New(io.Discard, "", 0) // of connections that end early
	go func() { m.served <- m.server.Serve(listener) }()
	return m, nil
}

// Addr is the server's host:port.
func (m *Mailbox) Addr() string { return m.listener.Addr().String() }

// Close stops the server. The mails stay readable.
func (m *Mailbox) Close() error {
	if err := m.server.Close(); err != nil {
		return fmt.Errorf("demo: mailbox: %w", err)
	}
	// The server closes the listeners that it knows, and may not have come to know ours yet.
	if err := m.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("demo: mailbox: %w", err)
	}
	if err := <-m.served; err != nil {
		return fmt.Errorf("demo: mailbox: %w", err)
	}
	return nil
}

// List returns the mails that are kept, newest first.
func (m *Mailbox) List() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := min(m.last, len(m.ring))
	mails := make([]Mail, kept)
	for i := range mails {
		mails[i] = m.ring[(m.last-i)%len(m.ring)]
	}
	return mails
}

// Get returns the mail with an ID, if it is still kept.
func (m *Mailbox) Get(id int) (Mail, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id < 1 || id > m.last || id <= m.last-len(m.ring) {
		return Mail{}, false
	}
	return m.ring[id%len(m.ring)], true
}

func (m *Mailbox) keep(mail Mail, recipients []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mail.At = m.now()
	for _, to := range recipients {
		m.last++
		mail.ID, mail.To = m.last, to
		m.ring[m.last%len(m.ring)] = mail
	}
}

// delivery is one SMTP session.
type delivery struct {
	to         *Mailbox
	recipients []string
}

func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }

func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.recipients = append(d.recipients, to)
	return nil
}

func (d *delivery) Data(r io.Reader) error {
	mail, err := read(r)
	var refused *smtp.SMTPError
	switch {
	case errors.As(err, &refused): // too large
		return err
	case err != nil:
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "Malformed message"}
	}
	d.to.keep(mail, d.recipients)
	return nil
}

func (d *delivery) Reset()      { d.recipients = nil }
func (*delivery) Logout() error { return nil }

// read parses a message (RFC 5322, MIME of RFC 2045 to 2047).
func read(r io.Reader) (Mail, error) {
	parts, err := mail.CreateReader(r)
	if err != nil && !message.IsUnknownCharset(err) {
		return Mail{}, err
	}
	var m Mail
	if m.Subject, err = parts.Header.Subject(); err != nil {
		m.Subject = parts.Header.Get("Subject")
	}
	m.Subject = clean(m.Subject)
	if m.MessageID, err = parts.Header.MessageID(); err != nil {
		m.MessageID = clean(parts.Header.Get("Message-Id"))
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return m, nil
		}
		if err != nil && !message.IsUnknownCharset(err) {
			return Mail{}, err
		}
		header, inline := part.Header.(*mail.InlineHeader)
		if !inline {
			continue
		}
		media, _, err := header.ContentType()
		if err != nil {
			continue
		}
		body, err := io.ReadAll(part.Body)
		if err != nil {
			return Mail{}, err
		}
		switch {
		case media == "text/plain" && m.Text == "":
			m.Text = clean(string(body))
		case media == "text/html" && m.HTML == "":
			m.HTML = clean(string(body))
		}
	}
}

// clean makes text fit for JSON and for a page: valid UTF-8, line ends as \n.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
}
