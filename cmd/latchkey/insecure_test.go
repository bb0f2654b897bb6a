package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Each unsafe setting is refused, by an error that says which it is and how to allow it,
// and is served if it is allowed by its own name, not by another.
func TestUnsafeSettingsAreRefused(t *testing.T) {
	safe := func() *serveCmd {
		return &serveCmd{
			Addr: "0.0.0.0:443", TLSCert: "c", TLSKey: "k", Hosts: []string{"parcels.example"}, redisAt: redisAt{RedisURL: "rediss://:secret@redis.example:6379"},
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fc00::/7")},
		}
	}
	if err := safe().unsafe(); err != nil {
		t.Fatalf("a safe one: %v", err)
	}
	if err := (&serveCmd{Addr: "127.0.0.1:8080", redisAt: redisAt{RedisURL: "redis://127.0.0.1:6379"}, Debug: true}).unsafe(); err != nil {
		t.Errorf("on loopback all is well: %v", err)
	}
	plain := func(c *serveCmd) { c.TLSCert, c.TLSKey, c.TrustedProxies = "", "", nil }
	for _, c := range []struct {
		name, setting string
		change        func(*serveCmd)
	}{
		{"plain-http", "--addr", plain},
		{"plain-http", "--addr", func(c *serveCmd) { plain(c); c.Addr = ":8080" }},
		{"plain-http", "--addr", func(c *serveCmd) { plain(c); c.Addr = "[::]:8080" }},
		{"plain-http", "--addr", func(c *serveCmd) { plain(c); c.Addr = "service.example:8080" }},
		{"any-host", "--hosts", func(c *serveCmd) { c.Hosts = nil }},
		{"any-proxy", "--trusted-proxies", func(c *serveCmd) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }},
		{"any-proxy", "--trusted-proxies", func(c *serveCmd) {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix("::/0"))
		}},
		{"any-proxy", "--trusted-proxies", func(c *serveCmd) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
		}},
		{"any-proxy", "--trusted-proxies", func(c *serveCmd) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("2000::/3")}
		}},
		{"redis-plain", "TLS", func(c *serveCmd) { c.RedisURL = "redis://:secret@redis.example:6379" }},
		{"redis-plain", "password", func(c *serveCmd) { c.RedisURL = "rediss://redis.example:6379" }},
		{"redis-plain", "TLS", func(c *serveCmd) { c.RedisURL = "redis://127.0.0.1:7000?addr=10.1.1.1:7001" }},
		{"debug", "--debug", func(c *serveCmd) { c.Debug = true }},
	} {
		cmd := safe()
		c.change(cmd)
		err := cmd.unsafe()
		if err == nil || !strings.Contains(err.Error(), c.setting) || !strings.Contains(err.Error(), "--insecure="+c.name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, name := range insecurities {
			cmd.Insecure = []string{name}
			if err := cmd.unsafe(); (err == nil) != (name == c.name) {
				t.Errorf("%s, allowing %s: %v", c.name, name, err)
			}
		}
	}
	for setting, change := range map[string]func(*serveCmd){
		"unknown":             func(c *serveCmd) { c.Insecure = []string{"everything"} },
		"go together":         func(c *serveCmd) { c.TLSKey = "" },
		"--tls-key go togeth": func(c *serveCmd) { c.TLSCert = "" },
	} {
		cmd := safe()
		change(cmd)
		if err := cmd.unsafe(); err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// The program refuses them, too, before it touches anything.
func TestServeRefusesToBeUnsafe(t *testing.T) {
	code, _, errs := once("serve", "--addr", "0.0.0.0:0", "--redis-url", "redis://127.0.0.1:1", "--smtp-url", "smtp://127.0.0.1:1",
		"--mail-from", "latchkey@shop.example", "--keyset", "nowhere", "--policy", "nowhere", "--issuers", "nowhere")
	if code == 0 || !strings.Contains(errs, "--insecure=plain-http") {
		t.Errorf("%d %s", code, errs)
	}
}

// So are times that are slips of the pen, each by its name; the last that is none is taken.
func TestServeRefusesUnmeantTimes(t *testing.T) {
	usual := func() *serveCmd {
		return &serveCmd{Retention: 720 * time.Hour, SessionLife: 12 * time.Hour, SessionIdle: 2 * time.Hour}
	}
	for name, c := range map[string]struct {
		change func(*serveCmd)
		want   string
	}{
		"as they are":           {func(*serveCmd) {}, ""},
		"a day":                 {func(c *serveCmd) { c.Retention = 24 * time.Hour }, ""},
		"less than a day":       {func(c *serveCmd) { c.Retention = 24*time.Hour - time.Second }, "--retention 23h59m59s"},
		"no retention":          {func(c *serveCmd) { c.Retention = 0 }, "--retention 0s"},
		"a week":                {func(c *serveCmd) { c.SessionLife = 168 * time.Hour }, ""},
		"more than a week":      {func(c *serveCmd) { c.SessionLife = 169 * time.Hour }, "--session-life 169h0m0s"},
		"unused all its life":   {func(c *serveCmd) { c.SessionIdle = c.SessionLife }, ""},
		"unused for longer":     {func(c *serveCmd) { c.SessionIdle = 13 * time.Hour }, "--session-idle 13h0m0s is above --session-life 12h0m0s"},
		"a life of nothing":     {func(c *serveCmd) { c.SessionLife = 0 }, "is above --session-life 0s"},
		"over while it is used": {func(c *serveCmd) { c.SessionIdle = 59 * time.Second }, "--session-idle 59s"},
	} {
		cmd := usual()
		c.change(cmd)
		if err := cmd.checkTimes(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for flag, value := range map[string]string{"--retention": "1h", "--session-life": "1000h", "--session-idle": "24h"} {
		code, _, errs := once("serve", "--redis-url", "redis://127.0.0.1:1", "--smtp-url", "smtp://127.0.0.1:1",
			"--mail-from", "latchkey@shop.example", "--keyset", "nowhere", "--policy", "nowhere", "--issuers", "nowhere", flag, value)
		if code == 0 || !strings.Contains(errs, flag) {
			t.Errorf("%s %s: %d %s", flag, value, code, errs)
		}
	}
}

func TestHosts(t *testing.T) {
	allowed, err := allowHost([]string{"Parcels.example", "[2001:db8::1]", "10.1.1.1"}, "https://public.example:8443/x")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"parcels.example": true, "PARCELS.example:8443": true, "parcels.example.": true, "[2001:db8::1]:443": true, "10.1.1.1": true, "public.example": true,
		"evil.example": false, "parcels.example.evil.example": false, "": false, "evil.example:x": false,
	} {
		if got := allowed(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	for _, names := range [][]string{{"*"}, {"*.example"}, {"https://parcels.example"}, {"parcels.example/x"}, {""}} {
		if _, err := allowHost(names, ""); err == nil {
			t.Errorf("%q is taken", names)
		}
	}
}

// pairOf writes a certificate for 127.0.0.1 and its key.
func pairOf(t *testing.T, certFile, keyFile string, until time.Time) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "latchkey"}, NotBefore: until.AddDate(-1, 0, 0), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// Serve speaks TLS, takes a new pair on SIGHUP, and keeps the old one while the files are
// broken.
func TestServeOverTLS(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := pairOf(t, cert, key, time.Now().AddDate(0, 6, 0))
	p := start(t, append(s.args, "--tls-cert", cert, "--tls-key", key)...)
	addr := strings.TrimPrefix(p.url(t), "http://")
	get := func(pool *x509.CertPool, most uint16) (*http.Response, error) {
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: most, MinVersion: tls.VersionTLS10}, DisableKeepAlives: true,
		}}
		resp, err := c.Get("https://" + addr + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	resp, err := get(pool, 0)
	if err != nil || resp.StatusCode != 200 || resp.TLS.Version != tls.VersionTLS13 || !strings.Contains(resp.Header.Get("Strict-Transport-Security"), "max-age=") {
		t.Fatalf("%v %v", resp, err)
	}
	if _, err := get(pool, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	reload := func(said string) {
		t.Helper()
		before := strings.Count(p.err.String(), said)
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, said, func() bool { return strings.Count(p.err.String(), said) > before })
	}
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload("the TLS certificate stays as it was")
	if _, err := get(pool, 0); err != nil {
		t.Errorf("after a broken file: %v", err)
	}
	next := pairOf(t, cert, key, time.Now().AddDate(0, 7, 0))
	reload("the TLS certificate was read again")
	if _, err := get(next, 0); err != nil {
		t.Errorf("the new pair: %v", err)
	}
	if _, err := get(pool, 0); err == nil {
		t.Error("the old pair is still served")
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The files are looked at now and then: replaced ones are served without a signal. Of a
// pair of which one file came late it is the second look that serves it.
func TestReplacedCertificateIsRead(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pairOf(t, cert, key, time.Now().AddDate(0, 6, 0))
	c, err := loadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first := c.pair.Load()
	look, log := make(chan time.Time), &output{}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		c.watch(ctx, nil, look, slog.New(slog.NewJSONHandler(log, nil)))
	}()
	look <- time.Time{}
	look <- time.Time{} // the first is over
	if c.pair.Load() != first || log.String() != "" {
		t.Errorf("nothing changed: %s", log.String())
	}
	other := filepath.Join(dir, "other")
	pairOf(t, cert, other, time.Now().AddDate(0, 7, 0)) // its key is not in place yet
	look <- time.Time{}
	content, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the word of it", func() bool { return strings.Contains(log.String(), "stays as it was") })
	if c.pair.Load() != first {
		t.Error("half a pair is served")
	}
	if err := os.WriteFile(key, content, 0o600); err != nil {
		t.Fatal(err)
	}
	look <- time.Time{}
	look <- time.Time{}
	if c.pair.Load() == first {
		t.Error("the new pair is not served")
	}
	cancel()
	<-ended
}

// A key that others may read, and a certificate that is over, are no reason to start.
func TestCertificateIsRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pairOf(t, cert, key, time.Now().AddDate(0, 0, -1))
	if _, err := loadCertificate(cert, key); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("one that is over: %v", err)
	}
	pairOf(t, cert, key, time.Now().AddDate(0, 6, 0))
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCertificate(cert, key); err == nil || !strings.Contains(err.Error(), "others may read it") {
		t.Errorf("an open key: %v", err)
	}
}

// Who fails too often at one address behind the proxy is not heard there any more, and
// nothing keeps the address: no log line, no key of Redis.
func TestAddressesAreLimitedBehindAProxy(t *testing.T) {
	s := newService(t)
	p := start(t, append(s.args, "--trusted-proxies", "127.0.0.0/8")...)
	base := p.url(t)
	from := func(address string) int {
		t.Helper()
		req, err := http.NewRequest("GET", base+"/v1/courier/stops", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", "198.51.100.99, "+address)
		req.Header.Set("Authorization", "Bearer x.y.z")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	n := 0
	await(t, "a limit", func() bool { n++; return from("203.0.113.7") == http.StatusTooManyRequests })
	if n <= 60 {
		t.Errorf("stopped after %d failures", n)
	}
	if got := from("203.0.113.8"); got != http.StatusUnauthorized {
		t.Errorf("from elsewhere: %d", got)
	}
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer client.Close()
	if all := strings.Join(client.Keys(t.Context(), "*").Val(), " "); !strings.Contains(all, "rate:unauthenticated:") || strings.Contains(all, "203.0") {
		t.Errorf("keys %s", all)
	}
	if strings.Contains(p.err.String(), "203.0.113") || strings.Contains(p.err.String(), "198.51") {
		t.Error("an address is in the log")
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
