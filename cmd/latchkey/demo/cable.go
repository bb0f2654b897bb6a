package demo

import (
	"context"
	"net"
	"net/http"
	"sync"

	"latchkey/handoff/door/controller"
)

// cable is a door's way to the service, which can be cut. What was connected breaks off,
// and a side that dials hears nothing until the cable is whole again.
type cable struct {
	transport *http.Transport
	dialer    net.Dialer

	mu    sync.Mutex
	whole chan struct{} // closed while it is
	conns map[*plug]struct{}
}

// plug is a connection that can be found when its cable is cut.
type plug struct {
	net.Conn
	cable *cable
}

func (p *plug) Close() error {
	p.cable.mu.Lock()
	delete(p.cable.conns, p)
	p.cable.mu.Unlock()
	return p.Conn.Close()
}

func newCable() *cable {
	c := &cable{transport: controller.NewTransport(), whole: make(chan struct{}), conns: make(map[*plug]struct{})}
	close(c.whole)
	c.transport.Proxy, c.transport.DialContext = nil, c.dial
	return c
}

func (c *cable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	for {
		c.mu.Lock()
		whole := c.whole
		c.mu.Unlock()
		select {
		case <-whole:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		conn, err := c.dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		p := &plug{conn, c}
		c.mu.Lock()
		kept := c.whole == whole
		if kept {
			c.conns[p] = struct{}{}
		}
		c.mu.Unlock()
		if kept {
			return p, nil
		}
		conn.Close() // cut meanwhile
	}
}

// isCut reports whether the cable is cut.
func (c *cable) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken()
}

func (c *cable) broken() bool {
	select {
	case <-c.whole:
		return false
	default:
		return true
	}
}

// cut cuts the cable, or mends it. Either is harmless to do twice.
func (c *cable) cut(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cut == c.broken() {
		return
	}
	if !cut {
		close(c.whole)
		return
	}
	c.whole = make(chan struct{})
	for p := range c.conns {
		p.Conn.Close()
	}
	clear(c.conns)
}
