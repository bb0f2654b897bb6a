package mail

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"latchkey/handoff/clock"
	"latchkey/notify"
)

// Config is what a Sender is made of. Server, From and Clock are required.
type Config struct {
	Server Server
	From   string      // an address, with a display name or without: Latchkey <mail@shop.example>
	HELO   string      // the name to greet with (RFC 5321 section 4.1.1.1); the domain of From if empty
	DKIM   *DKIM       // nil: not signed
	Clock  clock.Clock // for the signature's time

	// Receipts asks for a message when a mail with a return path of its own was delivered (RFC 3461),
	// where the server offers that.
	Receipts bool

	Connections int           // at once, at most; 32 if 0. How many it is now adapts to the server
	Timeout     time.Duration // to connect, and then for each mail; 10 s if 0
	Idle        time.Duration // after which a kept connection is not trusted any more; 30 s if 0
}

// Sender hands letters to a mail server over connections that it keeps. It is safe for
// concurrent use.
type Sender struct {
	Config
	from *mail.Address
	dkim *gomail.DKIMSigner

	limiter *limiter // of connections in use
	mu      sync.Mutex
	open    int     // connections, in use or idle
	idle    []*link // the one used last is last
	closed  bool
}

// DefaultConnections is how many connections a Sender has at most where nothing else is said.
const DefaultConnections = 32

// Limit is how many letters may be sent at once now. It changes with what the server bears.
func (s *Sender) Limit() int {
	limit, _ := s.limiter.now()
	return limit
}

// InUse is how many letters are being sent.
func (s *Sender) InUse() int {
	_, used := s.limiter.now()
	return used
}

// NewSender makes a Sender. It connects when there is something to send.
func NewSender(c Config) (*Sender, error) {
	if c.Server.host == "" || c.Clock == nil {
		return nil, errors.New("mail: a sender needs a server and a clock")
	}
	from, err := parseAddress(c.From)
	if err != nil || !isASCII(from.Address) {
		return nil, errors.New("mail: the sender's address must be an address, and ASCII before the @")
	}
	c.HELO = cmp.Or(c.HELO, domainOf(from))
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Idle = cmp.Or(c.Idle, 30*time.Second)
	if c.Connections < 0 || c.Timeout < 0 || c.Idle < 0 || strings.ContainsAny(c.HELO, " \r\n") {
		return nil, errors.New("mail: a sender's setting makes no sense")
	}
	s := &Sender{Config: c, from: from, limiter: newLimiter(c.Connections)}
	if c.DKIM != nil {
		if s.dkim, err = c.DKIM.signer(c.Clock.Now); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Send hands one letter over. Nil says that the server accepted it. The error is
// [notify.Permanent] where sending the same letter again cannot help, and
// [notify.Temporary] otherwise; neither holds anything that the server said but codes.
//
// A server that accepted a letter and whose answer was lost gets it again, with the
// same Message-ID: only that case is beyond knowing.
func (s *Sender) Send(ctx context.Context, l Letter) error {
	to, err := parseAddress(l.To)
	if err != nil {
		return notify.Permanent(err, notify.Reason{Class: "address"})
	}
	to.Name = ""
	again, err := s.send(ctx, l, to)
	if again {
		_, err = s.send(ctx, l, to)
	}
	return err
}

// send hands one letter over, over a connection of the limited number. Again says that the server
// refused a connection while it lets others stand: one of these may take the letter.
func (s *Sender) send(ctx context.Context, l Letter, to *mail.Address) (again bool, err error) {
	if err := s.limiter.acquire(ctx); err != nil {
		return false, notify.Temporary(err, notify.Reason{Class: "lost", Detail: "no free connection"})
	}
	defer s.limiter.release()

	if kept := s.kept(); kept != nil {
		stale, err := s.over(ctx, kept, l, to)
		if !stale || ctx.Err() != nil {
			return false, err
		}
		// The server had hung up on the kept connection: that says nothing of the letter.
	}
	fresh, err := s.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		standing := s.standing()
		s.limiter.refused(standing)
		return standing > 0, err
	}
	stale, err := s.over(ctx, fresh, l, to)
	if stale && ctx.Err() == nil { // it let us in, and would not have the letter
		s.limiter.busy()
	}
	return false, err
}

// link is one connection.
type link struct {
	client *gomail.Client
	smtp   *smtp.Client
	conn   net.Conn // beneath TLS
	used   time.Time
}

// over sends a letter over a link, and keeps the link if it is still good. Stale says
// that the link broke, and before the server can have accepted anything.
func (s *Sender) over(ctx context.Context, k *link, l Letter, to *mail.Address) (stale bool, err error) {
	// go-mail knows deadlines and no contexts.
	interrupt := context.AfterFunc(ctx, func() { k.conn.Close() })
	defer interrupt()

	international := !isASCII(to.Address)
	if offered, _ := k.smtp.Extension("SMTPUTF8"); international && !offered {
		s.keep(k)
		return false, notify.Permanent(errAddress, notify.Reason{Class: "address", Detail: "the server knows no SMTPUTF8"})
	}
	// Announced without need, it would keep servers further on from taking the mail.
	k.smtp.SkipSMTPUTF8(!international)

	s.askBack(k.smtp, l)
	m := s.compose(l, to)
	began := time.Now()
	err = k.client.SendWithSMTPClient(k.smtp, m)
	if err == nil {
		s.limiter.took(began)
		s.keep(k)
		return false, nil
	}
	if m.IsDelivered() { // what failed came after it
		s.limiter.took(began)
		s.drop(k)
		return false, nil
	}
	var failed *gomail.SendError
	if !errors.As(err, &failed) {
		s.drop(k)
		return false, notify.Temporary(err, notify.Reason{Class: "other"})
	}
	code := failed.ErrorCode()
	switch {
	case isBusy(failed), code == 0 && time.Since(began) >= s.Timeout:
		s.limiter.busy()
	case code != 0 && code != 421:
		s.limiter.took(began)
	}
	if hungUp := code == 0 || code == 421; hungUp || k.smtp.Reset() != nil {
		s.drop(k)
		return hungUp && failed.Reason != gomail.ErrSMTPDataClose, judge(failed)
	}
	s.keep(k)
	return false, judge(failed)
}

// askBack says what is to come back of a letter, where the server offers to be told (RFC 3461): never
// more than its headers, since the body has a code in it.
func (s *Sender) askBack(c *smtp.Client, l Letter) {
	returned, notify := "", ""
	if l.ReturnPath != "" {
		returned = string(gomail.DSNMailReturnHeadersOnly)
		if s.Receipts {
			notify = string(gomail.DSNRcptNotifySuccess) + "," + string(gomail.DSNRcptNotifyFailure)
		}
	}
	c.SetDSNMailReturnOption(returned)
	c.SetDSNRcptNotifyOption(notify)
}

// isBusy reports whether the server asks for less: less from us (4xx at MAIL, before it knows the
// recipient), or it takes no mail, or its ways are congested (RFC 3463: 4.3.2, 4.4.5). A connection that
// it ends with 421 may just have been idle for too long.
func isBusy(e *gomail.SendError) bool {
	code, status := e.ErrorCode(), e.EnhancedStatusCode()
	return code/100 == 4 && code != 421 && (e.Reason == gomail.ErrSMTPMailFrom || status == "4.3.2" || status == "4.4.5")
}

// stages are the moments of RFC 5321 section 3.3 at which a letter can fail.
var stages = map[gomail.SendErrReason]string{
	gomail.ErrConnCheck:     "connection",
	gomail.ErrSMTPMailFrom:  "MAIL",
	gomail.ErrSMTPRcptTo:    "RCPT",
	gomail.ErrSMTPData:      "DATA",
	gomail.ErrWriteContent:  "content",
	gomail.ErrSMTPDataClose: "end of content",
}

// judge turns go-mail's error into one that holds only what RFC 5321 and RFC 3463 have
// codes for. A 5xx condemns the letter, but not at MAIL: what is refused there (a sender
// not allowed, authentication wanted) is our own doing, equal for all letters, and an
// operator can mend it.
func judge(e *gomail.SendError) error {
	stage, known := stages[e.Reason]
	code := e.ErrorCode()
	detail := strings.Join(strings.Fields(fmt.Sprint(strconv.Itoa(code), " ", e.EnhancedStatusCode(), " at ", stage)), " ")
	switch {
	case !known:
		return notify.Permanent(nil, notify.Reason{Class: "message"})
	case code == 0:
		return notify.Temporary(nil, notify.Reason{Class: "lost", Detail: "at " + stage})
	case code >= 500 && e.Reason != gomail.ErrSMTPMailFrom:
		return notify.Permanent(nil, notify.Reason{Class: "rejected", Detail: detail})
	}
	return notify.Temporary(nil, notify.Reason{Class: "deferred", Detail: detail})
}

// dial opens a link, greets, secures and authenticates it. No failure of that is the
// letter's fault, whatever the code.
func (s *Sender) dial(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	k := &link{used: time.Now()}
	interrupt := func() bool { return true }
	options := []gomail.Option{
		gomail.WithHELO(s.HELO),
		gomail.WithTimeout(s.Timeout),
		gomail.WithTLSConfig(s.Server.tlsConfig()),
		gomail.WithTLSPolicy(policies[s.Server.security]),
		// A mail ends its transaction itself (RFC 5321 section 4.1.1.4), and whether the
		// link still holds shows at MAIL: asking first would cost three round trips a mail.
		gomail.WithoutNoop(),
		gomail.WithoutRset(),
		// go-mail keeps no hold of a connection whose greeting fails, nor does it dial IPv6.
		gomail.WithDialContextFunc(func(_ context.Context, _, _ string) (_ net.Conn, err error) {
			if k.conn, err = new(net.Dialer).DialContext(ctx, "tcp", s.Server.address()); err != nil {
				return nil, err
			}
			interrupt = context.AfterFunc(ctx, func() { k.conn.Close() })
			if s.Server.security != implicitTLS {
				return k.conn, nil
			}
			secured := tls.Client(k.conn, s.Server.tlsConfig())
			return secured, secured.HandshakeContext(ctx)
		}),
	}
	if s.Server.user != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(s.Server.user), gomail.WithPassword(s.Server.password))
	}
	var err error
	if k.client, err = gomail.NewClient(s.Server.host, options...); err == nil {
		k.smtp, err = k.client.DialToSMTPClientWithContext(ctx)
	}
	if !interrupt() {
		err = ctx.Err() // the cause of what else went wrong
	}
	if err != nil {
		if k.conn != nil {
			k.conn.Close()
		}
		return nil, notify.Temporary(nil, notify.Reason{Class: "connect", Detail: connectDetail(err)})
	}
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	return k, nil
}

// policies for go-mail. With TLS from the start it must look at the connection, to know
// that it is encrypted; and that it does where STARTTLS is optional.
var policies = [...]gomail.TLSPolicy{plain: gomail.NoTLS, startTLS: gomail.TLSMandatory, implicitTLS: gomail.TLSOpportunistic}

// connectDetail is the part of a failure to connect that is sure to quote no person.
func connectDetail(err error) string {
	var (
		reply       *textproto.Error
		errno       syscall.Errno
		certificate *tls.CertificateVerificationError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &reply):
		return strconv.Itoa(reply.Code)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &certificate):
		return "certificate not trusted"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "no agreement" // on STARTTLS, a mechanism to authenticate, or on SMTP at all
}

// kept takes the link that was used last, if it is fresh enough, from those kept.
func (s *Sender) kept() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return nil
	}
	last := len(s.idle) - 1
	k := s.idle[last]
	if time.Since(k.used) <= s.Idle {
		s.idle = s.idle[:last]
		return k
	}
	for _, k := range s.idle { // the others are older still
		s.close(k)
	}
	s.idle = nil
	return nil
}

// standing is how many connections the server lets us have.
func (s *Sender) standing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// close ends a connection. It is called with mu held.
func (s *Sender) close(k *link) {
	k.conn.Close()
	s.open--
}

func (s *Sender) drop(k *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(k)
}

func (s *Sender) keep(k *link) {
	limit := s.Limit()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.open > limit {
		s.close(k)
		return
	}
	k.used = time.Now()
	s.idle = append(s.idle, k)
}

// Close takes leave of the server. What is being sent is sent; nothing is kept after it.
func (s *Sender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, k := range s.idle {
		_ = k.smtp.UpdateDeadline(time.Second)
		_ = k.smtp.Quit()
		s.close(k)
	}
	s.idle = nil
}
