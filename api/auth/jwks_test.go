package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"

	"github.com/golang-jwt/jwt/v5"
)

// provider is an identity provider on loopback.
type provider struct {
	*authtest.Issuer
	server  *httptest.Server
	fetches atomic.Int64
	keys    atomic.Pointer[[]byte]
	answer  atomic.Pointer[http.HandlerFunc] // instead of all that follows
	failed  chan error
}

func newProvider(t *testing.T, c *clock) *provider {
	t.Helper()
	p := &provider{failed: make(chan error, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*p.keys.Load()) })
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		if h := p.answer.Load(); h != nil {
			(*h)(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	p.Issuer = newIssuer(t, p.server.URL, audience, c)
	p.publish(p.Issuer)
	return p
}

// publish makes the key set that of these issuers.
func (p *provider) publish(issuers ...*authtest.Issuer) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, i := range issuers {
		var one struct{ Keys []json.RawMessage }
		if err := json.Unmarshal(i.JWKS(), &one); err != nil {
			panic(err)
		}
		set.Keys = append(set.Keys, one.Keys...)
	}
	content, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	p.keys.Store(&content)
}

func (p *provider) answerWith(h http.HandlerFunc) { p.answer.Store(&h) }

// discovered trusts the provider, whose keys are to be found by discovery.
func (p *provider) discovered() auth.Trust {
	e := p.Trust()
	e.Keys = nil
	return e
}

func (p *provider) verifier(t *testing.T, c *clock, entries ...auth.Trust) *auth.Issuers {
	t.Helper()
	v, err := auth.NewIssuers(t.Context(), auth.Config{Now: c.Now, Failed: func(_ string, err error) { p.failed <- err }}, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func good(t *testing.T, v auth.Verifier, token string) bool {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	if err != nil && !errors.Is(err, auth.ErrToken) {
		t.Fatal(err)
	}
	return err == nil
}

func TestDiscovery(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	v := p.verifier(t, c, p.discovered())
	if !good(t, v, sign(t, p.Issuer, cou7)) {
		t.Error("a token of a discovered issuer is refused")
	}
	explicit := p.discovered()
	explicit.JWKSURL = p.server.URL + "/keys"
	before := p.fetches.Load()
	if !good(t, p.verifier(t, c, explicit), sign(t, p.Issuer, cou7)) || p.fetches.Load() != before+1 {
		t.Errorf("by jwks_url: %d fetches", p.fetches.Load()-before)
	}
}

// Every way in which an issuer can answer wrongly leaves its tokens refused.
func TestWrongAnswers(t *testing.T) {
	document := func(issuer, keys string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": keys})
		}
	}
	for name, c := range map[string]struct {
		answer func(p *provider) http.HandlerFunc
		want   string
	}{
		"another issuer":    {func(p *provider) http.HandlerFunc { return document("https://other.example", p.server.URL+"/keys") }, "another issuer"},
		"a slash more":      {func(p *provider) http.HandlerFunc { return document(p.server.URL+"/", p.server.URL+"/keys") }, "another issuer"},
		"keys in the clear": {func(p *provider) http.HandlerFunc { return document(p.server.URL, "http://keys.example/") }, "not https"},
		"no keys":           {func(p *provider) http.HandlerFunc { return document(p.server.URL, "") }, "not https"},
		"an error":          {func(*provider) http.HandlerFunc { return http.NotFound }, "status 404"},
		"a redirect away": {func(*provider) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://other.example/", http.StatusFound)
			}
		}, "redirected"},
		"a flood": {func(*provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"issuer":"%s"}`, strings.Repeat("x", auth.MaxFetched))
			}
		}, "longer than"},
		"no JSON": {func(*provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hunter2")) }
		}, "not the JSON"},
		"too many keys": {func(p *provider) http.HandlerFunc {
			set := []byte(`{"keys":[{"kty":"oct"}` + strings.Repeat(`,{"kty":"oct"}`, auth.MaxKeys) + `]}`)
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/keys" {
					_, _ = w.Write(set)
					return
				}
				document(p.server.URL, p.server.URL+"/keys")(w, r)
			}
		}, "more than 64 keys"},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &clock{now: start}
			p := newProvider(t, clock)
			p.answerWith(c.answer(p))
			v := p.verifier(t, clock, p.discovered())
			if good(t, v, sign(t, p.Issuer, cou7)) {
				t.Error("a token is accepted")
			}
			if err := <-p.failed; !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("told: %v", err)
			}
		})
	}
}

// A set's secrets, its keys for encryption and its unknown kinds verify nothing, and do
// not spoil the others.
func TestOnlyVerifyingKeysCount(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	var one struct{ Keys []map[string]string }
	if err := json.Unmarshal(p.JWKS(), &one); err != nil {
		t.Fatal(err)
	}
	enc := map[string]string{}
	for k, v := range one.Keys[0] {
		enc[k] = v
	}
	enc["use"], enc["kid"] = "enc", "for-encryption"
	keys, err := json.Marshal(map[string]any{"keys": []any{
		map[string]string{"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}, map[string]string{"kty": "NEW", "kid": "new"}, enc, one.Keys[0],
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.keys.Store(&keys)
	v := p.verifier(t, c, p.discovered())
	if !good(t, v, sign(t, p.Issuer, cou7)) {
		t.Error("the good key is spoilt")
	}
	ours := func(m jwt.MapClaims) { m["iss"] = p.Name }
	for name, token := range map[string]string{
		"a published secret":   signed(t, jwt.SigningMethodHS256, []byte("secret"), "secret", ours),
		"a key for encryption": signed(t, jwt.SigningMethodEdDSA, p.Key, "for-encryption", ours),
	} {
		if good(t, v, token) {
			t.Errorf("%s verifies", name)
		}
	}
}

// A token that names no key is verified by the only one there is, and by none of several.
func TestTokenWithoutKeyID(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	unnamed := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": p.Name, "aud": audience, "sub": "s", "iat": start.Unix(), "exp": start.Add(time.Hour).Unix()})
	token, err := unnamed.SignedString(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if !good(t, p.verifier(t, c, p.discovered()), token) {
		t.Error("refused though there is one key")
	}
	p.publish(p.Issuer, newIssuer(t, p.Name, audience, c))
	if good(t, p.verifier(t, c, p.discovered()), token) {
		t.Error("accepted though there are two keys")
	}
}

// Tokens with made-up key ids make one more fetch and not one each, even all at once.
func TestForgedTokensCauseNoFlood(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	v := p.verifier(t, c, p.discovered())
	if !good(t, v, sign(t, p.Issuer, cou7)) {
		t.Fatal("the good one is refused")
	}
	var forgers sync.WaitGroup
	for n := range 500 {
		forged := signed(t, jwt.SigningMethodEdDSA, p.Key, fmt.Sprint("made-up-", n), func(m jwt.MapClaims) { m["iss"] = p.Name })
		forgers.Go(func() {
			if _, err := v.Verify(t.Context(), forged); !errors.Is(err, auth.ErrToken) {
				t.Error(err)
			}
		})
	}
	forgers.Wait()
	if n := p.fetches.Load(); n > 4 {
		t.Errorf("%d fetches, want the document and the set twice at most", n)
	}
	// An unknown issuer is asked nothing at all.
	before := p.fetches.Load()
	if good(t, v, sign(t, newIssuer(t, "http://127.0.0.1:1", audience, c), cou7)) || p.fetches.Load() != before {
		t.Error("an unknown issuer is believed, or asked")
	}
}

// A new key is found without a restart, at the first token that it signed.
func TestRotation(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	young := newIssuer(t, p.Name, audience, c)
	v := p.verifier(t, c, p.discovered())
	if !good(t, v, sign(t, p.Issuer, cou7)) {
		t.Fatal("the first key is refused")
	}
	p.publish(p.Issuer, young)
	for _, i := range []*authtest.Issuer{young, p.Issuer} {
		if !good(t, v, sign(t, i, cou7)) {
			t.Error("refused after a rotation")
		}
	}
}

// A key that its issuer withdrew ends within five minutes, however its tokens are used:
// all the time, or again after a pause.
func TestWithdrawnKey(t *testing.T) {
	for name, every := range map[string]time.Duration{"all the time": time.Second, "after a pause": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := &clock{now: start}
			p := newProvider(t, c)
			v := p.verifier(t, c, p.discovered())
			token := sign(t, p.Issuer, cou7)
			if !good(t, v, token) {
				t.Fatal("refused at first")
			}
			p.publish(newIssuer(t, p.Name, audience, c))
			for after := every; after <= 5*time.Minute; after += every {
				c.at(after)
				if !good(t, v, token) {
					return
				}
			}
			t.Error("still accepted after five minutes")
		})
	}
}

// An issuer that is down stops nobody whose key is known, and is asked again now and then.
func TestIssuerDown(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	v := p.verifier(t, c, p.discovered())
	token := sign(t, p.Issuer, cou7)
	if !good(t, v, token) {
		t.Fatal("refused at first")
	}
	p.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	before := p.fetches.Load()
	for after := time.Minute; after < 50*time.Minute; after += time.Minute {
		c.at(after)
		if !good(t, v, token) {
			t.Fatalf("refused after %s", after)
		}
	}
	if n := p.fetches.Load() - before; n < 10 || n > 60 {
		t.Errorf("asked %d times in 50 minutes", n)
	}
	if err := <-p.failed; !strings.Contains(err.Error(), "502") {
		t.Errorf("told: %v", err)
	}
	// A reload while it is down forgets no key.
	if err := v.Trust(p.discovered()); err != nil || !good(t, v, token) {
		t.Error("a reload forgot a key")
	}
}

// An issuer that is down at the start is no reason not to start: its tokens work once it is up.
func TestIssuerDownAtStart(t *testing.T) {
	c := &clock{now: start}
	p := newProvider(t, c)
	p.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	v := p.verifier(t, c, p.discovered())
	token := sign(t, p.Issuer, cou7)
	<-p.failed
	for range 100 {
		if good(t, v, token) {
			t.Fatal("accepted without a key")
		}
	}
	if n := p.fetches.Load(); n > 3 {
		t.Errorf("asked %d times by a hundred tokens", n)
	}
	p.answer.Store(nil)
	c.at(time.Minute)
	if !good(t, v, token) {
		t.Error("refused though the issuer is up")
	}
}
