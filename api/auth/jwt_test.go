package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	issuerName = "https://issuer.example"
	audience   = "latchkey"
)

var start = time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newIssuer(t testing.TB, name, audience string, c *clock) *Issuer {
	t.Helper()
	i, err := NewIssuer(rand.Reader, name, audience, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newVerifier(t testing.TB, jwks []byte, c *clock) *verifier {
	t.Helper()
	v, err := NewVerifier(t.Context(), Config{JWKS: jwks, Issuer: issuerName, Audience: audience, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v.(*verifier)
}

func sign(t testing.TB, i *Issuer, p Principal) string {
	t.Helper()
	token, err := i.Sign(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var cou7 = Principal{Subject: "cou_7", Carrier: "swift", Shop: "demo", Building: "bld_1", Scopes: []Scope{Courier, Carrier}}

func TestTokenSaysWho(t *testing.T) {
	c := &clock{start}
	i := newIssuer(t, issuerName, audience, c)
	v := newVerifier(t, i.JWKS(), c)
	for range 2 { // the second time from memory
		p, err := v.Verify(t.Context(), sign(t, i, cou7))
		if err != nil || !reflect.DeepEqual(*p, cou7) {
			t.Fatalf("%+v %v", p, err)
		}
	}
	if strings.Contains(string(i.JWKS()), `"d"`) {
		t.Error("the key set holds the private key")
	}
}

// signed makes a token with any claims and method.
func signed(t testing.TB, method jwt.SigningMethod, key any, kid string, change func(jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": issuerName, "aud": audience, "sub": "cou_7", "scope": "courier", "carrier_id": "swift", "exp": start.Add(time.Hour).Unix(),
	}
	change(claims)
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestForgedAndForeignTokens(t *testing.T) {
	c := &clock{start}
	i := newIssuer(t, issuerName, audience, c)
	v := newVerifier(t, i.JWKS(), c)
	ed := func(change func(jwt.MapClaims)) string {
		return signed(t, jwt.SigningMethodEdDSA, i.key, i.kid, change)
	}
	nothing := func(jwt.MapClaims) {}
	if _, err := v.Verify(t.Context(), ed(nothing)); err != nil {
		t.Fatal("the good one is refused:", err)
	}
	parts := strings.Split(ed(nothing), ".")
	public := i.key.Public().(ed25519.PublicKey)
	for name, token := range map[string]string{
		"empty":           "",
		"three dots":      "...",
		"other key":       sign(t, newIssuer(t, issuerName, audience, c), cou7),
		"other issuer":    ed(func(m jwt.MapClaims) { m["iss"] = "https://other.example" }),
		"no issuer":       ed(func(m jwt.MapClaims) { delete(m, "iss") }),
		"other audience":  ed(func(m jwt.MapClaims) { m["aud"] = "shop" }),
		"no audience":     ed(func(m jwt.MapClaims) { delete(m, "aud") }),
		"no expiry":       ed(func(m jwt.MapClaims) { delete(m, "exp") }),
		"expired":         ed(func(m jwt.MapClaims) { m["exp"] = start.Add(-leeway - time.Second).Unix() }),
		"not yet":         ed(func(m jwt.MapClaims) { m["nbf"] = start.Add(leeway + time.Minute).Unix() }),
		"carrier no id":   ed(func(m jwt.MapClaims) { m["carrier_id"] = "a:b" }),
		"shop no id":      ed(func(m jwt.MapClaims) { m["shop_id"] = "a b" }),
		"building no id":  ed(func(m jwt.MapClaims) { m["building_id"] = "{}" }),
		"scope a list":    ed(func(m jwt.MapClaims) { m["scope"] = []string{"courier"} }),
		"unsigned":        signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, i.kid, nothing),
		"signature gone":  parts[0] + "." + parts[1] + ".",
		"key as a secret": signed(t, jwt.SigningMethodHS256, []byte(public), i.kid, nothing),
		"payload swapped": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"scope":"ops","exp":9999999999}`)) + "." + parts[2],
		"long":            ed(func(m jwt.MapClaims) { m["x"] = strings.Repeat("x", maxToken) }),
	} {
		p, err := v.Verify(t.Context(), token)
		if !errors.Is(err, ErrToken) || p != nil {
			t.Errorf("%s: %+v %v", name, p, err)
		}
	}
}

func TestMethods(t *testing.T) {
	c := &clock{start}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	jwks := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"ec","x":%q,"y":%q},{"kty":"RSA","kid":"rs","n":%q,"e":"AQAB"}]}`,
		enc(point[1:33]), enc(point[33:]), enc(rs.N.Bytes()))
	v := newVerifier(t, []byte(jwks), c)
	for name, token := range map[string]string{
		"ES256": signed(t, jwt.SigningMethodES256, ec, "ec", func(jwt.MapClaims) {}),
		"RS256": signed(t, jwt.SigningMethodRS256, rs, "rs", func(jwt.MapClaims) {}),
	} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, token := range map[string]string{
		"PS256":    signed(t, jwt.SigningMethodPS256, rs, "rs", func(jwt.MapClaims) {}),
		"RS512":    signed(t, jwt.SigningMethodRS512, rs, "rs", func(jwt.MapClaims) {}),
		"key swap": signed(t, jwt.SigningMethodRS256, rs, "ec", func(jwt.MapClaims) {}),
	} {
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// A remembered token ends with its exp, and a withdrawn key with the memory.
func TestMemoryEnds(t *testing.T) {
	c := &clock{start}
	i := newIssuer(t, issuerName, audience, c)
	v := newVerifier(t, i.JWKS(), c)
	short, err := i.Sign(cou7, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	long := sign(t, i, cou7)
	for _, token := range []string{short, long} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	v.keys = newVerifier(t, newIssuer(t, issuerName, audience, c).JWKS(), c).keys // the key is withdrawn
	c.now = start.Add(59 * time.Second)
	if _, err := v.Verify(t.Context(), short); err != nil {
		t.Error("forgotten before its time")
	}
	c.now = start.Add(time.Minute)
	if _, err := v.Verify(t.Context(), short); err == nil {
		t.Error("remembered beyond its exp")
	}
	c.now = start.Add(cacheFor - time.Second)
	if _, err := v.Verify(t.Context(), long); err != nil {
		t.Error("forgotten before five minutes")
	}
	c.now = start.Add(cacheFor)
	if _, err := v.Verify(t.Context(), long); err == nil {
		t.Error("remembered beyond five minutes")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var c cache
	p, until := &Principal{}, start.Add(time.Hour)
	var hot [32]byte
	c.put(hot, p, until)
	for n := range 5 * cacheSize {
		c.put([32]byte{1, byte(n), byte(n >> 8), byte(n >> 16)}, p, until)
		if c.get(hot, start) == nil {
			t.Fatalf("what is asked for all the time is forgotten after %d", n)
		}
	}
	if n := len(c.young) + len(c.old); n > 2*cacheSize {
		t.Errorf("%d tokens remembered", n)
	}
}

// Tokens with made-up key ids make one fetch and not one each.
func TestForgedTokensCauseNoFlood(t *testing.T) {
	c := &clock{start}
	i := newIssuer(t, issuerName, audience, c)
	var fetches atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_, _ = w.Write(i.JWKS())
	}))
	defer server.Close()
	v, err := NewVerifier(t.Context(), Config{URL: server.URL, Issuer: issuerName, Audience: audience, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), sign(t, i, cou7)); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		forged := signed(t, jwt.SigningMethodEdDSA, i.key, fmt.Sprint("made-up-", n), func(jwt.MapClaims) {})
		if _, err := v.Verify(t.Context(), forged); !errors.Is(err, ErrToken) {
			t.Fatal(err)
		}
	}
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want the first and one more", n)
	}
}

// A new key is found without a restart.
func TestRotation(t *testing.T) {
	c := &clock{start}
	old, young := newIssuer(t, issuerName, audience, c), newIssuer(t, issuerName, audience, c)
	var jwks atomic.Pointer[[]byte]
	set := old.JWKS()
	jwks.Store(&set)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*jwks.Load()) }))
	defer server.Close()
	v, err := NewVerifier(t.Context(), Config{URL: server.URL, Issuer: issuerName, Audience: audience, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	both := append(append([]byte(`{"keys":[`), keyOf(t, old)...), ',')
	both = append(append(both, keyOf(t, young)...), ']', '}')
	jwks.Store(&both)
	for _, i := range []*Issuer{young, old} {
		if _, err := v.Verify(t.Context(), sign(t, i, cou7)); err != nil {
			t.Error(err)
		}
	}
}

func keyOf(t *testing.T, i *Issuer) []byte {
	t.Helper()
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(i.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys[0]
}

func TestConfig(t *testing.T) {
	broken := httptest.NewServer(http.NotFoundHandler())
	defer broken.Close()
	for name, c := range map[string]Config{
		"nothing":     {},
		"both":        {JWKS: []byte(`{"keys":[]}`), URL: "http://127.0.0.1:1"},
		"no JSON":     {JWKS: []byte(`{`)},
		"unreachable": {URL: broken.URL},
	} {
		if _, err := NewVerifier(context.Background(), c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestBearerToken(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER  abc": "abc",
		"": "", "Bearer": "", "Bearer ": "", "Basic abc": "", "Bearer a b": "", "Bearer a, Basic b": "", "Bearerabc": "",
	} {
		if got, ok := BearerToken(header); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v", header, got, ok)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	c := &clock{start}
	i := newIssuer(b, issuerName, audience, c)
	v := newVerifier(b, i.JWKS(), c)
	token := sign(b, i, cou7)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			v.cache = cache{}
			if _, err := v.Verify(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.Verify(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
