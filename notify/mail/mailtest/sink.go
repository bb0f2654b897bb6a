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
	options   options
	cert      tls.Certificate // with StartTLS
	clientTLS *tls.Config

	running *running // nil while it is stopped; of the test's goroutine alone

	mu          sync.Mutex
	plan        []*planned
	slow        time.Duration // before each reply to a final dot
	lag         time.Duration // before each reply
	bears       int           // connections at once; 0: any number
	standing    int           // connections now
	most        int           // connections that stood at once
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

// running is the server between a start and its stop.
type running struct {
	smtp     *smtp.Server
	listener net.Listener
	closed   chan struct{}
	served   chan error
}

// Sink starts a server on a free loopback port that takes all mail, until
// [SinkServer.Inject] says otherwise. It is closed when the test ends.
func Sink(tb testing.TB, opts ...Option) *SinkServer {
	tb.Helper()
	s := &SinkServer{tb: tb, addr: "127.0.0.1:0", options: apply(opts), arrived: make(chan struct{})}
	if s.options.startTLS {
		s.cert, s.clientTLS = selfSigned(tb)
	}
	s.Start()
	tb.Cleanup(s.Close)
	return s
}

// Start starts a server that was closed, at the address that it had. What it took stays.
func (s *SinkServer) Start() {
	s.tb.Helper()
	l, err := net.Listen("tcp", s.addr)
	for patience := time.Now().Add(waitFor); err != nil; l, err = net.Listen("tcp", s.addr) {
		if time.Now().After(patience) { // a client's own socket may sit on the port for a while
			s.tb.Fatalf("mailtest: %v", err)
		}
		time.Sleep(pollEvery)
	}
	s.addr = l.Addr().String()
	r := &running{listener: l, closed: make(chan struct{}), served: make(chan error, 1)}
	r.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.pause(r)
		return &session{sink: s, running: r, conn: c}, nil
	}))
	r.smtp.Domain = "sink.test"
	r.smtp.EnableSMTPUTF8 = true
	r.smtp.ErrorLog = log.New(io.Discard, "", 0) // broken connections are the point
	if s.options.startTLS {
		r.smtp.TLSConfig = &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12}
	}
	go func() { r.served <- r.smtp.Serve(&sinkListener{Listener: l, sink: s, running: r}) }()
	s.running = r
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

// Taken is how many messages the sink took.
func (s *SinkServer) Taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
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

// Close stops the server and breaks all connections, stalled ones too: it refuses
// connections from then on.
func (s *SinkServer) Close() {
	r := s.running
	if r == nil {
		return
	}
	s.running = nil
	_ = r.smtp.Close()     // connections first, so that nothing stalled is answered after all
	_ = r.listener.Close() // which the server may not have come to know yet
	close(r.closed)
	if err := <-r.served; err != nil && !errors.Is(err, net.ErrClosed) {
		s.tb.Errorf("mailtest: sink: %v", err)
	}
}

// Slow makes the sink take so long for each message from now on.
func (s *SinkServer) Slow(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = d
}

// Lag makes the sink wait so long before each of its replies from now on: to EHLO, MAIL and
// RCPT, and to the final dot.
func (s *SinkServer) Lag(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = d
}

// pause waits as [SinkServer.Lag] says, and for more besides.
func (s *SinkServer) pause(r *running, more ...time.Duration) {
	s.mu.Lock()
	d := s.lag
	s.mu.Unlock()
	for _, m := range more {
		d += m
	}
	if d == 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-r.closed:
	}
}

// Bear has the sink refuse, by 421 in place of the greeting, what would be more connections at once.
func (s *SinkServer) Bear(connections int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bears = connections
}

// Most returns how many connections stood at once, at most.
func (s *SinkServer) Most() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// admit counts a connection, unless it is one too many.
func (s *SinkServer) admit(c net.Conn) (net.Conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bears > 0 && s.standing >= s.bears {
		s.faults++
		return nil, false
	}
	s.standing++
	s.most = max(s.most, s.standing)
	return &standing{Conn: c, sink: s}, true
}

// standing is a connection that is counted until it is closed.
type standing struct {
	net.Conn
	sink *SinkServer
	once sync.Once
}

func (c *standing) Close() error {
	c.once.Do(func() {
		c.sink.mu.Lock()
		c.sink.standing--
		c.sink.mu.Unlock()
	})
	return c.Conn.Close()
}

func (s *SinkServer) delay() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

// next takes the fault that is due at a stage.
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
	sink    *SinkServer
	running *running
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
			counted, ok := l.sink.admit(c)
			if ok {
				return counted, nil
			}
			f = Refuse(AtConnect, 421)
		}
		switch f.act {
		case refuse:
			fmt.Fprintf(c, "%d %s\r\n", f.code, refusal)
			c.Close()
		case drop:
			c.Close()
		case stall:
			go func() {
				<-l.running.closed
				c.Close()
			}()
		}
	}
}

const refusal = "refused by the test"

// session is one client's session after its greeting.
type session struct {
	sink    *SinkServer
	running *running
	conn    *smtp.Conn
	from    string
	to      []string
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.sink.pause(s.running)
	if f, due := s.sink.next(AtMail); due {
		return s.fail(f)
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.sink.pause(s.running)
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

	s.sink.pause(s.running, s.sink.delay())
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
		<-s.running.closed
	case drop:
		c := s.conn.Conn()
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn() // a link that breaks says no TLS goodbye
		}
		c.Close()
	}
	return &smtp.SMTPError{Code: f.code, Message: refusal}
}
