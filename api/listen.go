package api

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// LimitListener lets no more connections be open at once than most, and no more of one
// address (of IPv6, one network) than each; further ones are closed as they come. Of the
// proxies there may be as many as there may be at all: all requests come from their addresses.
// TLS goes around it, not inside: who is over the limit costs no handshake.
func LimitListener(ln net.Listener, most, each int, proxies []netip.Prefix) net.Listener {
	return &limited{Listener: ln, most: most, each: each, proxies: proxies, of: map[string]int{}}
}

type limited struct {
	net.Listener
	most, each int
	proxies    []netip.Prefix

	mu   sync.Mutex
	open int
	of   map[string]int // by networkOf
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if leave, ok := l.enter(c.RemoteAddr()); ok {
			return &counted{Conn: c, leave: leave}, nil
		}
		_ = c.Close()
	}
}

func (l *limited) enter(remote net.Addr) (leave func(), ok bool) {
	who := "" // a proxy, or no address at all
	if tcp, ok := remote.(*net.TCPAddr); ok {
		addr := tcp.AddrPort().Addr().Unmap().WithZone("")
		if !slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			who = networkOf(addr)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most || who != "" && l.of[who] >= l.each {
		return nil, false
	}
	l.open++
	l.of[who]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		if l.of[who]--; l.of[who] == 0 {
			delete(l.of, who)
		}
	}), true
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
