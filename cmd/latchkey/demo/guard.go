package demo

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// LoopbackOnly refuses an address to listen on, host:port, that other machines could
// reach: a program that reaches the demonstration can make tokens for any role.
func LoopbackOnly(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("must be host:port, such as 127.0.0.1:8080")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("must end in a port between 0 and 65535")
	}
	if !loopback(host) {
		return errors.New("must be on loopback (localhost, 127.0.0.1 or [::1]): the demo gives anyone any role")
	}
	return nil
}

// LoopbackHost reports whether a Host header (RFC 9110 section 7.2) names this machine's
// loopback: localhost, 127.0.0.0/8 or [::1], with any port or none.
func LoopbackHost(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil { // no port
		name = host
		if inner, ok := strings.CutPrefix(host, "["); ok {
			name, ok = strings.CutSuffix(inner, "]")
			if !ok {
				return false
			}
		} else if strings.Contains(host, ":") {
			return false
		}
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	return loopback(name)
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && ip.IsLoopback()
}

// Guard refuses requests whose Host header does not name loopback, with 421. A page of a
// foreign site whose name was made to resolve to 127.0.0.1 (DNS rebinding) would
// otherwise be of one origin with the demonstration, and so could read codes.
func Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !LoopbackHost(r.Host) {
			newProblem(http.StatusMisdirectedRequest).write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}
