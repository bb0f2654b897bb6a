package api

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// hops bounds how many addresses of a request's way are looked at.
const hops = 16

// caller is the address that a request came from: the connection's peer, or, where that is
// a trusted proxy, whom it says it stands for. Proxies append to X-Forwarded-For, so that
// it is read from its end, and no further than the first who is not trusted: what stands
// before was written by the caller. An entry that is no address ends it as well.
//
// It is personal data: it goes into no log, and elsewhere as a keyed hash.
func (s *server) caller(c *fasthttp.RequestCtx) netip.Addr {
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := peer.AddrPort().Addr().Unmap().WithZone("")
	if !s.trusted(addr) {
		return addr
	}
	lines := c.Request.Header.PeekAll(fiber.HeaderXForwardedFor)
	looked := 0
	for _, line := range slices.Backward(lines) {
		for rest, more := string(line), true; more; looked++ {
			var entry string
			at := strings.LastIndexByte(rest, ',')
			entry, rest, more = rest[at+1:], rest[:max(at, 0)], at >= 0
			before, ok := hop(entry)
			if !ok || looked == hops {
				return addr
			}
			if addr = before; !s.trusted(addr) {
				return addr
			}
		}
	}
	return addr
}

func (s *server) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// hop reads an entry of X-Forwarded-For: an address, with a port or without.
func hop(entry string) (netip.Addr, bool) {
	entry = strings.TrimSpace(entry)
	addr, err := netip.ParseAddr(strings.Trim(entry, "[]"))
	if err != nil {
		both, err := netip.ParseAddrPort(entry)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = both.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

// networkOf is the unit in which addresses are counted: an IPv4 address, or the /64 of an
// IPv6 address, since one subscriber has all 2^64 addresses of it.
func networkOf(addr netip.Addr) string {
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.String()
	}
	return addr.String()
}
