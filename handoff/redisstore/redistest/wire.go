package redistest

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Wire is a dialer for go-redis (redis.Options.Dialer and its like in the Sentinel
// and Cluster options) whose connections can be made to lose a reply or a request,
// and are counted. Its methods may be called from anywhere at any time.
//
// The client sees the same in both cases, a connection that breaks while it waits
// for the reply, and so cannot know whether the command ran:
//
//	wire := redistest.NewWire()
//	client := redis.NewClient(&redis.Options{Addr: addr, Dialer: wire.Dial})
//	wire.LoseReplies(1, redistest.Command("EVALSHA"))
//
// It follows the request-reply protocol without TLS; do not arm it for
// connections that subscribe.
type Wire struct {
	mu           sync.Mutex
	losses       []*loss
	lostReplies  int
	lostRequests int
	trips        int
	commands     map[string]int
}

// loss is one order to break connections.
type loss struct {
	left    int
	match   Match
	request bool // lose the request, not its reply
}

// Match tells whether a command, its name first, is meant.
type Match func(command [][]byte) bool

// Command matches commands by name, in any case.
func Command(name string) Match {
	return func(command [][]byte) bool {
		return len(command) > 0 && strings.EqualFold(string(command[0]), name)
	}
}

// Containing matches commands with an argument (the name is the first) in which
// these bytes occur.
func Containing(marker string) Match {
	return func(command [][]byte) bool {
		for _, arg := range command {
			if bytes.Contains(arg, []byte(marker)) {
				return true
			}
		}
		return false
	}
}

// NewWire returns a wire that loses nothing.
func NewWire() *Wire { return &Wire{commands: map[string]int{}} }

// Dial connects to a Redis server over TCP.
func (w *Wire) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, net.UnknownNetworkError(network)
	}
	return &conn{Conn: tcp, tcp: tcp, wire: w}, nil
}

// LoseReplies makes the next n writes with a matching command reach the server and
// run, and breaks their connections once the replies have arrived, without passing
// anything on. All that such a connection has in flight shares the fate: the rest
// of a pipeline runs and is lost too, and one write is one loss however many of its
// commands match.
//
// A command that the server refuses (NOSCRIPT, MOVED and all other errors) did not
// run: the client gets that reply, and the loss stays armed.
func (w *Wire) LoseReplies(n int, match Match) {
	w.arm(&loss{left: n, match: match})
}

// LoseRequests breaks the connections of the next n writes with a matching command
// before the server gets to see a byte of them.
func (w *Wire) LoseRequests(n int, match Match) {
	w.arm(&loss{left: n, match: match, request: true})
}

func (w *Wire) arm(l *loss) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losses = append(w.losses, l)
}

// Disarm takes back all losses that have not happened.
func (w *Wire) Disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losses = nil
}

// LostReplies returns how many writes ran on the server and lost their replies.
func (w *Wire) LostReplies() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lostReplies
}

// LostRequests returns how many writes never reached the server.
func (w *Wire) LostRequests() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lostRequests
}

// Trips returns how often a client wrote and then waited for replies: a write
// begins a trip when it is the first on its connection or follows a read, so a
// pipeline is one trip even in several writes. Writes of nothing but housekeeping
// (handshakes, cluster topology) are left out, as they come with new connections
// and not with requests.
//
// The count is per connection: a pipeline that a cluster client splits over three
// nodes is three trips that run at once, and callers that share one full-duplex
// connection blur it. Assert it with one caller on one server.
func (w *Wire) Trips() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips
}

// Commands returns how often each command, by its lower-case name, was written,
// housekeeping and lost requests included. Commands that scripts run are seen by
// [Server.Calls] only.
func (w *Wire) Commands() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.commands)
}

// sent counts commands about to be written and, if they may be lost, picks the
// loss that meets them; matched then holds the indexes of those it means.
func (w *Wire) sent(commands [][][]byte, beginsTrip, mayLose bool) (hit *loss, matched []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range commands {
		w.commands[name(c)]++
	}
	if beginsTrip {
		w.trips++
	}
	if !mayLose {
		return nil, nil
	}
	for _, l := range w.losses {
		if l.left == 0 {
			continue
		}
		for i, c := range commands {
			if l.match(c) {
				matched = append(matched, i)
			}
		}
		if matched != nil {
			l.left--
			if l.request {
				w.lostRequests++
			}
			return l, matched
		}
	}
	return nil, nil
}

func (w *Wire) lostReply() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lostReplies++
}

// rearm gives back a loss whose commands did not run.
func (w *Wire) rearm(l *loss) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.left++
}

func name(command [][]byte) string {
	if len(command) == 0 {
		return ""
	}
	return strings.ToLower(string(command[0]))
}

// allHousekeeping tells whether a client sends these commands on its own account.
func allHousekeeping(commands [][][]byte) bool {
	for _, c := range commands {
		switch name(c) {
		case "hello", "auth", "select", "client", "readonly", "command", "cluster", "sentinel":
		default:
			return false
		}
	}
	return true
}

// conn is one connection of a wire. It hides TCPConn's ways around Read and Write.
type conn struct {
	net.Conn
	tcp  *net.TCPConn // the same
	wire *Wire

	// A full-duplex client reads and writes at once. mu is never held while the
	// network is waited for.
	mu       sync.Mutex
	requests requestReader
	replies  replyReader
	written  int  // commands written so far
	answered int  // replies read so far, one for each command
	midTrip  bool // a trip has begun, and nothing was read since
	broken   bool

	// From the write that meets a loss until its fate is known.
	loss  *loss
	meant []int  // the commands that it matched, counted as written is
	until int    // answered, once all that was written has run
	ran   bool   // one of those meant was answered, and not with an error
	held  []byte // what was read and not passed on
}

// Write passes requests on. A loss that one of them meets shows only when the
// client reads.
func (c *conn) Write(p []byte) (int, error) {
	lost, err := c.prepare(p)
	if err != nil {
		return 0, err
	}
	if lost {
		return len(p), nil
	}
	return c.tcp.Write(p)
}

// prepare accounts for a write before the server can answer it and tells whether
// it is to be lost.
func (c *conn) prepare(p []byte) (lost bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return false, nil // and the write fails by itself
	}
	commands, err := c.requests.feed(p)
	if err != nil {
		return false, err
	}
	begins := !c.midTrip && !allHousekeeping(commands)
	c.midTrip = c.midTrip || begins
	first := c.written
	c.written += len(commands)

	// A connection that is to break already needs no second reason.
	hit, matched := c.wire.sent(commands, begins, c.loss == nil)
	switch {
	case c.loss != nil:
		c.until = c.written
	case hit == nil:
	case hit.request:
		c.sever()
		return true, nil
	default:
		c.loss, c.until, c.ran, c.meant = hit, c.written, false, nil
		for _, i := range matched {
			c.meant = append(c.meant, first+i)
		}
	}
	return false, nil
}

// Read passes replies on, or keeps them while a loss is pending.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if n, err := c.release(p); n > 0 || err != nil {
			return n, err
		}
		n, err := c.tcp.Read(p)
		kept, lossErr := c.received(p[:n])
		switch {
		case lossErr != nil:
			return 0, lossErr
		case !kept:
			return n, err
		case err != nil:
			return 0, err
		}
	}
}

// release hands out what was kept for a loss that did not happen.
func (c *conn) release(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return 0, io.ErrUnexpectedEOF
	}
	if c.loss != nil {
		return 0, nil
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	return n, nil
}

// received accounts for what was read, tells whether it was kept from the client,
// and settles a pending loss once everything written has been answered.
func (c *conn) received(piece []byte) (kept bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return true, io.ErrUnexpectedEOF
	}
	if len(piece) > 0 {
		c.midTrip = false
	}
	errored, err := c.replies.feed(piece)
	if err != nil {
		return true, err
	}
	for _, refused := range errored {
		c.ran = c.ran || !refused && slices.Contains(c.meant, c.answered)
		c.answered++
	}
	if c.loss == nil {
		return false, nil
	}
	c.held = append(c.held, piece...)
	if c.answered < c.until {
		return true, nil
	}
	if c.ran {
		c.loss = nil
		c.wire.lostReply()
		c.sever()
		return true, io.ErrUnexpectedEOF
	}
	c.wire.rearm(c.loss)
	c.loss = nil
	return true, nil
}

// Close gives back a loss of which the client did not wait for the end.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loss != nil {
		c.wire.rearm(c.loss)
		c.loss = nil
	}
	return c.tcp.Close()
}

// SyscallConn lets go-redis look whether the server closed an idle connection, as it
// does on a plain one, before it uses it again.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }

// sever breaks the link as a peer that vanished does: a read under way ends, a
// write fails, and closing it is left to the client.
func (c *conn) sever() {
	c.broken = true
	_ = c.tcp.CloseRead() // fails only when the server was faster
	_ = c.tcp.CloseWrite()
}
