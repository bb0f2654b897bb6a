//go:build chaos

package main

import (
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/handoff/redisstore/redistest"
)

// onTheWay are the faults of the way to Redis and to the mail server.
var onTheWay = []scenario{
	{name: "the way to Redis takes 100 ms", instances: 2, redis: proxied(func(c *checker, way *proxy) {
		way.treat(treatment{}, treatment{delay: 100 * time.Millisecond})
		c.goOn()
		from := time.Now()
		c.goOn()
		c.goOn()
		fastest := c.fastestVerify(from)
		way.pass()
		if fastest < 200*time.Millisecond { // to read, and to commit
			c.t.Errorf("a verify took %v, which cannot be", fastest)
		}
		c.saw("fastest verify: %d ms", fastest.Milliseconds())
	})},
	{name: "the way to Redis takes 64 KiB a second", instances: 2, redis: proxied(func(c *checker, way *proxy) {
		narrow := treatment{perSecond: 64 << 10}
		way.treat(narrow, narrow)
		c.goOn()
		c.goOn()
		way.pass()
		c.happened(&way.slow, "pieces held up")
	})},
	{name: "the way to Redis is cut amid replies", instances: 2, redis: proxied(func(c *checker, way *proxy) {
		for range *chaosTimes {
			for _, bytes := range []int{50_000, 20_000, 7_001, 1_003} {
				way.treat(treatment{}, treatment{cutAfter: bytes})
				time.Sleep(*chaosSpan / 2)
			}
		}
		way.pass()
		c.happened(&way.cuts, "connections cut")
	}), mailsTwice: true},
	{name: "the way to Redis is cut amid requests", instances: 2, redis: proxied(func(c *checker, way *proxy) {
		for range *chaosTimes {
			for _, bytes := range []int{50_000, 20_000, 7_001, 1_003} {
				way.treat(treatment{cutAfter: bytes}, treatment{})
				time.Sleep(*chaosSpan / 2)
			}
		}
		way.pass()
		c.happened(&way.cuts, "connections cut")
	}), mailsTwice: true},
	{name: "requests reach Redis and replies do not, 3 s", instances: 2, silence: 2 * time.Second, redis: proxied(func(c *checker, way *proxy) {
		way.treat(treatment{}, treatment{hold: true})
		time.Sleep(3 * time.Second)
		way.pass()
		c.happened(&way.stuck, "replies held")
	}), mailsTwice: true},
	{name: "requests do not reach Redis, 3 s", instances: 2, silence: 2 * time.Second, redis: proxied(func(c *checker, way *proxy) {
		way.treat(treatment{hold: true}, treatment{})
		time.Sleep(3 * time.Second)
		way.pass()
		c.happened(&way.stuck, "requests held")
	}), mailsTwice: true},
	{name: "the way to the mail server is cut amid replies", mailWay: true, redis: mailBroken(func(c *checker, way *proxy) {
		for _, bytes := range []int{400, 150, 60} {
			way.treat(treatment{}, treatment{cutAfter: bytes})
			c.leave(fmt.Sprintf("M%d-", bytes), 10)
			c.goOn()
		}
		way.pass()
		c.happened(&way.cuts, "connections cut")
	}), mailsTwice: true},
	{name: "mails arrive and the mail server's replies do not, 3 s", mailWay: true, redis: mailBroken(func(c *checker, way *proxy) {
		way.treat(treatment{}, treatment{hold: true})
		c.leave("M", 10)
		time.Sleep(3 * time.Second)
		way.pass()
		c.happened(&way.stuck, "replies held")
	}), mailsTwice: true},
}

// proxied is a server by itself behind a proxy, with what is to happen to the way.
func proxied(broken func(c *checker, way *proxy)) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		way := newProxy(t, redistest.Single(t).Addr())
		return "redis://" + way.addr(), func(c *checker) { broken(c, way) }
	}
}

// mailBroken is a scenario of the way to the mail server.
func mailBroken(broken func(c *checker, way *proxy)) func(*testing.T) (string, func(*checker)) {
	return single(func(c *checker, _ *redistest.Server) { broken(c, c.mailWay) })
}

// happened says how often a proxy broke something, which is at least once.
func (c *checker) happened(n *atomic.Int64, what string) {
	c.t.Helper()
	if n.Load() == 0 {
		c.t.Errorf("no %s", what)
	}
	c.saw("%s: %d", what, n.Load())
}

// fastestVerify is the shortest time of a verify that began since then.
func (c *checker) fastestVerify(from time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	fastest := time.Duration(math.MaxInt64)
	for _, v := range c.verified {
		if v.at.After(from) {
			fastest = min(fastest, v.took)
		}
	}
	return fastest
}

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
