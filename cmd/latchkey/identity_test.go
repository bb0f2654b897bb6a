package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
)

// asked is what a token gets on a route that looks at nothing else: 404 for whoever is let in.
func (c client) asked(token string) int {
	status, _ := c.do("GET", "/v1/dispatches/0123456789abcdef01234567-1", token, "")
	return status
}

// Serve reads its issuers again on SIGHUP: tokens of one that is removed stop at once,
// those of a new one work, and a broken file changes nothing.
func TestIssuersAreReadAgain(t *testing.T) {
	s := newService(t)
	p := start(t, s.args...)
	c := client{t, p.url(t)}
	says := auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w", Shop: "demo"}
	token := s.token(t, says)
	if got := c.asked(token); got != http.StatusNotFound {
		t.Fatalf("at first: %d", got)
	}
	other, err := authtest.NewIssuer(strings.NewReader(strings.Repeat("s", 32)), "https://id.other.example", "latchkey", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(other.JWKS()) }))
	defer keys.Close()
	reload := func(said string) {
		t.Helper()
		before := strings.Count(p.err.String(), said)
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, said, func() bool { return strings.Count(p.err.String(), said) > before })
	}

	if err := os.WriteFile(s.issuers, []byte(`{"issuers":[{"issuer":"x"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	reload("the issuers stay as they were")
	if !strings.Contains(p.err.String(), `issuers[0] (x): audience is missing`) {
		t.Error("the log does not say why")
	}
	if got := c.asked(token); got != http.StatusNotFound {
		t.Errorf("after a broken file: %d", got)
	}

	s.trust(t, map[string]any{
		"issuer": "https://id.other.example", "audience": "latchkey", "jwks_url": keys.URL, "shops": []string{"demo"}, "scopes": []string{"dispatch"},
	})
	reload("the issuers were read again")
	if got := c.asked(token); got != http.StatusUnauthorized {
		t.Errorf("the token of an issuer that is gone: %d", got)
	}
	young, err := other.Sign(says, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.asked(young); got != http.StatusNotFound {
		t.Errorf("the token of the new one: %d", got)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// An issuer that cannot be reached is no reason not to start.
func TestServeStartsWithoutItsIssuer(t *testing.T) {
	s := newService(t)
	s.trust(t, map[string]any{"issuer": "http://[::1]:1", "audience": "latchkey", "scopes": []string{"ops"}})
	p := start(t, s.args...)
	c := client{t, p.url(t)}
	if status, _ := c.do("GET", "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
	await(t, "a warning", func() bool { return strings.Contains(p.err.String(), "an issuer's keys could not be fetched") })
	if got := c.asked(s.token(t, auth.Principal{Scopes: []auth.Scope{auth.Ops}, Subject: "o"})); got != http.StatusUnauthorized {
		t.Errorf("an unknown issuer's token: %d", got)
	}
}
