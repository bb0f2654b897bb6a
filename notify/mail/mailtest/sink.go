package mailtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// Stage is a moment of an SMTP session at which the sink can fail.
type Stage int

const (
	AtConnect Stage = iota // instead of the greeting
	AtMail                 // instead of the reply to MAIL
	AtRcpt                 // instead of the reply to RCPT
	AtDot                  // the message is here, instead of the reply to its final dot
)

// Fault is what the sink does at a stage instead of going on.
type Fault struct {
	stage Stage
	act   act
	code  int
}

type act int

const (
	refuse act = iota
	stall
	drop
)

// Refuse answers with a reply code, 4xx or 5xx. AtConnect, the connection is closed
// after it.
func Refuse(at Stage, code int) Fault { return Fault{stage: at, act: refuse, code: code} }

// Stall never answers; the connection stays open until the client or the sink
// closes it.
func Stall(at Stage) Fault { return Fault{stage: at, act: stall} }

// Drop breaks the connection instead of answering. AtDot it is the case in which
// the client cannot know: the sink has taken the message.
func Drop(at Stage) Fault { return Fault{stage: at, act: drop} }

// SinkServer is an SMTP server inside the test.
type SinkServer struct {
	tb        testing.TB
	addr      string
	smtp      *smtp.Server
	clientTLS *tls.Config
	closing   sync.Once
	closed    chan struct{}
	listener  net.Listener

	mu          sync.Mutex
	plan        []*planned
	slow        time.Duration // before each reply to a final dot
	messages    []Message
	arrived     chan struct{} // closed and replaced when a message arrives
	connections int
	faults      int
}

// planned is a fault that is still to happen.
type planned struct {
	fault Fault
	left  int
}

// Sink starts a server on a free loopback port that takes all mail, until
// [SinkServer.Inject] says otherwise. It is closed when the test ends.
func Sink(tb testing.TB, opts ...Option) *SinkServer {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("mailtest: %v", err)
	}
	s := &SinkServer{
		tb:      tb,
		addr:    l.Addr().String(),
		closed:  make(chan struct{}),
		arrived: make(chan struct{}),
	}
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{sink: s, conn: c}, nil
	}))
	s.smtp.Domain = "sink.test"
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.ErrorLog = log.New(io.Discard, "", 0) // broken connections are the point
	if apply(opts).startTLS {
		cert, clientTLS := selfSigned(tb)
		s.smtp.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		s.clientTLS = clientTLS
	}
	served := make(chan error, 1)
	s.listener = l
	go func() { served <- s.smtp.Serve(&sinkListener{Listener: l, sink: s}) }()
	tb.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			tb.Errorf("mailtest: sink: %v", err)
		}
	})
	return s
}

// Addr returns the server's host:port.
func (s *SinkServer) Addr() string { return s.addr }

// ClientTLS returns the configuration of a client that trusts the server, or nil
// without [StartTLS].
func (s *SinkServer) ClientTLS() *tls.Config { return s.clientTLS.Clone() }

// Inject plans a fault for the next n times that a session comes to its stage.
// Faults of one stage happen in the order in which they were planned.
func (s *SinkServer) Inject(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = append(s.plan, &planned{fault: f, left: n})
}

// Faults returns how many faults have happened.
func (s *SinkServer) Faults() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// Connections returns how many connections were accepted.
func (s *SinkServer) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// Messages returns what the sink took, in order: messages that it acknowledged and
// those dropped AtDot, but none that it refused or stalled. Once a client has seen
// the outcome of its message, it is in here.
func (s *SinkServer) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Wait returns the messages once there are at least n, and fails the test if they
// do not come.
func (s *SinkServer) Wait(n int) []Message {
	s.tb.Helper()
	timeout := time.After(waitFor)
	for {
		s.mu.Lock()
		messages, arrived := slices.Clone(s.messages), s.arrived
		s.mu.Unlock()
		if len(messages) >= n {
			return messages
		}
		select {
		case <-arrived:
		case <-timeout:
			s.tb.Fatalf("mailtest: %d messages arrived, want %d", len(messages), n)
		}
	}
}

// Close stops the server and breaks all connections, stalled ones too.
func (s *SinkServer) Close() {
	s.closing.Do(func() {
		_ = s.smtp.Close()     // connections first, so that nothing stalled is answered after all
		_ = s.listener.Close() // which the server may not have come to know yet
		close(s.closed)
	})
}

// next takes the fault that is due at a stage.
// Slow makes the sink take so long for each message from now on.
func (s *SinkServer) Slow(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = d
}

func (s *SinkServer) delay() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

func (s *SinkServer) next(at Stage) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.plan {
		if p.fault.stage == at && p.left > 0 {
			p.left--
			s.faults++
			return p.fault, true
		}
	}
	return Fault{}, false
}

func (s *SinkServer) take(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, m)
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// sinkListener counts connections and handles the faults that come before SMTP.
type sinkListener struct {
	net.Listener
	sink *SinkServer
}

func (l *sinkListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.sink.mu.Lock()
		l.sink.connections++
		l.sink.mu.Unlock()
		f, due := l.sink.next(AtConnect)
		if !due {
			return c, nil
		}
		switch f.act {
		case refuse:
			fmt.Fprintf(c, "%d %s\r\n", f.code, refusal)
			c.Close()
		case drop:
			c.Close()
		case stall:
			go func() {
				<-l.sink.closed
				c.Close()
			}()
		}
	}
}

const refusal = "refused by the test"

// session is one client's session after its greeting.
type session struct {
	sink *SinkServer
	conn *smtp.Conn
	from string
	to   []string
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if f, due := s.sink.next(AtMail); due {
		return s.fail(f)
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if f, due := s.sink.next(AtRcpt); due {
		return s.fail(f)
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := parse(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: "malformed message"}
	}
	m.From, m.To = s.from, slices.Clone(s.to)

	select {
	case <-time.After(s.sink.delay()):
	case <-s.sink.closed:
	}
	f, due := s.sink.next(AtDot)
	if !due || f.act == drop {
		s.sink.take(m)
	}
	if due {
		return s.fail(f)
	}
	return nil
}

func (s *session) Reset() { s.from, s.to = "", nil }

func (s *session) Logout() error { return nil }

// fail returns the error that makes go-smtp refuse; after the other faults the
// client is gone and does not read it.
func (s *session) fail(f Fault) error {
	switch f.act {
	case stall:
		<-s.sink.closed
	case drop:
		c := s.conn.Conn()
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn() // a link that breaks says no TLS goodbye
		}
		c.Close()
	}
	return &smtp.SMTPError{Code: f.code, Message: refusal}
}
