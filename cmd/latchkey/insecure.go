package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"latchkey/api/auth"
)

// insecurities are the settings that serve refuses unless --insecure names them: at once, or
// (redis-evicts, redis-unknown, clock-apart) when it has asked Redis. What has no name is refused always:
// secrets in files that others may read, issuers and mail servers that are reached over a
// network without TLS, a Redis that takes no writes.
var insecurities = []string{"plain-http", "any-host", "any-proxy", "redis-plain", "redis-skip-verify", "redis-evicts", "redis-unknown", "clock-apart", "debug"}

// unsafe is the first setting that is obviously unsafe and not allowed by name; nil if
// there is none.
func (c *serveCmd) unsafe() error {
	for _, name := range c.Insecure {
		if !slices.Contains(insecurities, name) {
			return fmt.Errorf("--insecure %q is unknown; there are %s", name, strings.Join(insecurities, ", "))
		}
	}
	exposed := !isLoopback(c.Addr)
	plain, unverified, err := c.redisAt.unsafe()
	if err != nil {
		return err
	}
	for _, check := range []struct {
		name   string
		unsafe bool
		says   string
	}{
		{"plain-http", exposed && c.TLSCert == "" && len(c.TrustedProxies) == 0, "--addr " + c.Addr + " can be reached from a network, and tokens and codes would travel in the clear; set --tls-cert and --tls-key, or --trusted-proxies if a proxy ends TLS"},
		{"any-host", exposed && len(c.Hosts) == 0, "--addr " + c.Addr + " can be reached from a network, and requests for any host would be served; set --hosts to the names that people use"},
		{"any-proxy", slices.ContainsFunc(c.TrustedProxies, auth.Wide), "--trusted-proxies has a network so wide that anybody could say where requests come from; name the proxies' networks"},
		{"redis-plain", plain != "", "--redis-url: " + plain},
		{"redis-skip-verify", unverified, "--redis-url: skip_verify believes any certificate, so that a server in Redis's place learns the password; name the authority with --redis-ca"},
		{"debug", exposed && c.Debug, "--debug is for looking at what is wrong, and --addr " + c.Addr + " can be reached from a network; leave it out"},
	} {
		if check.unsafe && !slices.Contains(c.Insecure, check.name) {
			return fmt.Errorf("%s (or allow it with --insecure=%s)", check.says, check.name)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errHalfTLS
	}
	return nil
}

// isLoopback reports whether an address to listen on is reached from this machine alone.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopbackHost(host)
}

func isLoopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// allowHost is which Host headers are served: the names given, with any port, and that of
// the public URL; nil where none is given.
func allowHost(names []string, publicURL string) (func(string) bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	allowed := map[string]bool{}
	if u, err := url.Parse(publicURL); err == nil && u.Hostname() != "" {
		allowed[strings.ToLower(u.Hostname())] = true
	}
	for _, name := range names {
		u, err := url.Parse("//" + name)
		if err != nil || u.Hostname() == "" || u.Host != name || strings.Contains(name, "*") {
			return nil, errors.New("--hosts must be names or addresses, without a scheme or path, and without a wildcard")
		}
		allowed[strings.ToLower(u.Hostname())] = true
	}
	return func(host string) bool {
		u, err := url.Parse("//" + host)
		return err == nil && allowed[strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))]
	}, nil
}
