//go:build chaos

package main

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy passes bytes between clients and one server, and breaks the way between them. It counts
// what it broke, which libraries for this do not, and so a scenario can show that its fault happened.
type proxy struct {
	to       string // the server's address
	listener net.Listener

	mu       sync.Mutex
	changed  *sync.Cond // on mu: what is done to the bytes, or the end
	requests treatment
	replies  treatment
	links    []*passage
	ended    bool

	cuts  atomic.Int64 // connections that were reset
	slow  atomic.Int64 // pieces that were held up or sent in smaller ones
	stuck atomic.Int64 // pieces that had to wait for the end of a black hole
}

// treatment is what is done to the bytes of one direction. The zero treatment passes them on.
type treatment struct {
	delay     time.Duration // of each piece
	perSecond int           // bytes, of each connection; zero: as many as come
	hold      bool          // they wait, as in a network that loses packets and sends them again

	// cutAfter resets a connection when it has passed that many bytes on in this direction since
	// it was opened; zero never does.
	cutAfter int
}

// passage is one client with its connection to the server.
type passage struct{ client, server *net.TCPConn }

// newProxy listens on loopback until the test ends.
func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: to, listener: l}
	p.changed = sync.NewCond(&p.mu)
	var serving sync.WaitGroup
	serving.Go(func() { p.serve(&serving) })
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.ended = true
		p.changed.Broadcast()
		links := slices.Clone(p.links)
		p.mu.Unlock()
		for _, l := range links {
			l.reset()
		}
		serving.Wait()
	})
	return p
}

// addr is where clients find the server now.
func (p *proxy) addr() string { return p.listener.Addr().String() }

// treat changes what is done to requests and to replies, also on connections that there are.
func (p *proxy) treat(requests, replies treatment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests, p.replies = requests, replies
	p.changed.Broadcast()
}

// pass has all bytes go through again.
func (p *proxy) pass() { p.treat(treatment{}, treatment{}) }

// cutAll resets all connections.
func (p *proxy) cutAll() {
	p.mu.Lock()
	links := slices.Clone(p.links)
	p.mu.Unlock()
	for _, l := range links {
		p.cuts.Add(1)
		l.reset()
	}
}

func (p *proxy) serve(serving *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // the test is over
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		l := &passage{client.(*net.TCPConn), server.(*net.TCPConn)}
		p.mu.Lock()
		if p.ended {
			l.reset()
		}
		p.links = append(p.links, l)
		p.mu.Unlock()
		var ways sync.WaitGroup
		ways.Go(func() { p.copy(l, l.server, l.client, &p.requests) })
		ways.Go(func() { p.copy(l, l.client, l.server, &p.replies) })
		serving.Go(func() {
			ways.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.links = slices.DeleteFunc(p.links, func(other *passage) bool { return other == l })
		})
	}
}

// piece is what was read at once.
type piece struct {
	bytes []byte
	came  time.Time
}

// copy passes one direction of a passage on until it breaks, which ends the other one, too. It reads
// ahead, so that a delay does not narrow the way.
func (p *proxy) copy(l *passage, to, from *net.TCPConn, how *treatment) {
	defer l.close()
	pieces := make(chan piece, 256)
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, 16<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				pieces <- piece{buffer[:n], time.Now()}
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		l.close() // which ends the reading
		for range pieces {
		}
	}()
	passed := 0
	for next := range pieces {
		for len(next.bytes) > 0 {
			now, ok := p.now(how)
			if !ok {
				return
			}
			part := next.bytes
			if now.perSecond > 0 {
				part = part[:min(len(part), max(1, now.perSecond/50))]
			}
			if now.cutAfter > 0 && passed+len(part) >= now.cutAfter {
				_, _ = to.Write(part[:max(0, now.cutAfter-passed)])
				p.cuts.Add(1)
				l.reset()
				return
			}
			if wait := time.Until(next.came.Add(now.delay)); now.delay > 0 && wait > 0 {
				p.slow.Add(1)
				time.Sleep(wait)
			}
			if _, err := to.Write(part); err != nil {
				return
			}
			passed += len(part)
			next.bytes = next.bytes[len(part):]
			if now.perSecond > 0 {
				p.slow.Add(1)
				time.Sleep(time.Duration(len(part)) * time.Second / time.Duration(now.perSecond))
			}
		}
	}
}

// now is what is to be done to a piece, once it may go on. It is not ok where the proxy has ended.
func (p *proxy) now(how *treatment) (now treatment, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if how.hold {
		p.stuck.Add(1)
	}
	for how.hold && !p.ended {
		p.changed.Wait()
	}
	return *how, !p.ended
}

func (l *passage) close() {
	l.client.Close()
	l.server.Close()
}

// reset ends both connections as a firewall does that has forgotten them.
func (l *passage) reset() {
	_ = l.client.SetLinger(0)
	_ = l.server.SetLinger(0)
	l.close()
}
