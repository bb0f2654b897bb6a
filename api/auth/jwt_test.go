package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/handoff"

	"github.com/golang-jwt/jwt/v5"
)

const (
	issuerName = "https://issuer.example"
	audience   = "latchkey"
)

var start = time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC)

// clock stands until it is set. Fetches read it from goroutines of their own.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) at(since time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = start.Add(since)
}

func newIssuer(t testing.TB, name, audience string, c *clock) *authtest.Issuer {
	t.Helper()
	i, err := authtest.NewIssuer(rand.Reader, name, audience, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// believing is a Verifier that trusts all that an issuer with these keys says.
func believing(t testing.TB, jwks []byte, c *clock) *auth.Issuers {
	t.Helper()
	all := newIssuer(t, issuerName, audience, c).Trust()
	all.Keys = jwks
	return newIssuers(t, c, all)
}

func newIssuers(t testing.TB, c *clock, entries ...auth.Trust) *auth.Issuers {
	t.Helper()
	v, err := auth.NewIssuers(t.Context(), auth.Config{Now: c.Now}, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(t testing.TB, i *authtest.Issuer, p auth.Principal) string {
	t.Helper()
	token, err := i.Sign(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var cou7 = auth.Principal{
	Subject: "cou_7", Carrier: "swift", Shop: "demo", Building: "bld_1", Scopes: []auth.Scope{auth.Courier, auth.Carrier}, Issuer: issuerName, Device: "phone-3", IssuedAt: handoff.InstantOf(start),
}

func TestTokenSaysWho(t *testing.T) {
	c := &clock{now: start}
	i := newIssuer(t, issuerName, audience, c)
	v := believing(t, i.JWKS(), c)
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
		"iss": issuerName, "aud": audience, "sub": "cou_7", "scope": "courier", "carrier_id": "swift", "iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
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
	c := &clock{now: start}
	i := newIssuer(t, issuerName, audience, c)
	v := believing(t, i.JWKS(), c)
	ed := func(change func(jwt.MapClaims)) string {
		return signed(t, jwt.SigningMethodEdDSA, i.Key, i.KeyID, change)
	}
	nothing := func(jwt.MapClaims) {}
	if _, err := v.Verify(t.Context(), ed(nothing)); err != nil {
		t.Fatal("the good one is refused:", err)
	}
	parts := strings.Split(ed(nothing), ".")
	public := i.Key.Public().(ed25519.PublicKey)
	for name, c := range map[string]struct {
		token string
		why   auth.Why
	}{
		"empty":                         {"", auth.WhyMalformed},
		"three dots":                    {"...", auth.WhyMalformed},
		"other key":                     {sign(t, newIssuer(t, issuerName, audience, c), cou7), auth.WhySigningKey},
		"other issuer":                  {ed(func(m jwt.MapClaims) { m["iss"] = "https://other.example" }), auth.WhyIssuer},
		"no issuer":                     {ed(func(m jwt.MapClaims) { delete(m, "iss") }), auth.WhyIssuer},
		"other audience":                {ed(func(m jwt.MapClaims) { m["aud"] = "shop" }), auth.WhyAudience},
		"no audience":                   {ed(func(m jwt.MapClaims) { delete(m, "aud") }), auth.WhyAudience},
		"no expiry":                     {ed(func(m jwt.MapClaims) { delete(m, "exp") }), auth.WhyClaims},
		"expired":                       {ed(func(m jwt.MapClaims) { m["exp"] = start.Add(-auth.Leeway - time.Second).Unix() }), auth.WhyExpired},
		"not yet":                       {ed(func(m jwt.MapClaims) { m["nbf"] = start.Add(auth.Leeway + time.Minute).Unix() }), auth.WhyNotYet},
		"carrier no id":                 {ed(func(m jwt.MapClaims) { m["carrier_id"] = "a:b" }), auth.WhyTenant},
		"shop no id":                    {ed(func(m jwt.MapClaims) { m["shop_id"] = "a b" }), auth.WhyTenant},
		"building no id":                {ed(func(m jwt.MapClaims) { m["building_id"] = "{}" }), auth.WhyTenant},
		"device no id":                  {ed(func(m jwt.MapClaims) { m["device_id"] = "a b" }), auth.WhyUnusable},
		"carrier a list":                {ed(func(m jwt.MapClaims) { m["carrier_id"] = []string{"swift", "rival"} }), auth.WhySeveral},
		"scope of numbers":              {ed(func(m jwt.MapClaims) { m["scope"] = []int{1} }), auth.WhyUnusable},
		"scope an object":               {ed(func(m jwt.MapClaims) { m["scope"] = map[string]string{"courier": "courier"} }), auth.WhyUnusable},
		"subject of control characters": {ed(func(m jwt.MapClaims) { m["sub"] = "a\x00b" }), auth.WhySubject},
		"critical header":               {critical(t, i), auth.WhyMalformed},
		"unsigned":                      {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, i.KeyID, nothing), auth.WhySignature},
		"signature gone":                {parts[0] + "." + parts[1] + ".", auth.WhySignature},
		"key as a secret":               {signed(t, jwt.SigningMethodHS256, []byte(public), i.KeyID, nothing), auth.WhySignature},
		"payload swapped":               {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"scope":"ops","exp":9999999999}`)) + "." + parts[2], auth.WhyIssuer},
		"long":                          {ed(func(m jwt.MapClaims) { m["x"] = strings.Repeat("x", auth.MaxToken) }), auth.WhyMalformed},
		"no time of issue":              {ed(func(m jwt.MapClaims) { delete(m, "iat") }), auth.WhyClaims},
		"issued tomorrow":               {ed(func(m jwt.MapClaims) { m["iat"] = start.Add(auth.Leeway + time.Minute).Unix() }), auth.WhyNotYet},
		"issued yesterday":              {ed(func(m jwt.MapClaims) { m["iat"] = start.Add(-auth.LongestTokenLife - auth.Leeway).Unix() }), auth.WhyTooOld},
		"other signature":               {parts[0] + "." + parts[1] + "." + strings.Split(ed(func(m jwt.MapClaims) { m["jti"] = "x" }), ".")[2], auth.WhySignature},
	} {
		p, err := v.Verify(t.Context(), c.token)
		var why *auth.Refusal
		if !errors.Is(err, auth.ErrToken) || p != nil || !errors.As(err, &why) || why.Why != c.why {
			t.Errorf("%s: %+v %v, want %s", name, p, err, c.why)
		}
		if c.token != "" && strings.Contains(fmt.Sprint(err), c.token) {
			t.Errorf("%s: the error repeats the token", name)
		}
	}
}

// A token works for as long as its issuer's entry says, whatever its own end is, and no longer
// from memory.
func TestTokenLife(t *testing.T) {
	for name, c := range map[string]struct {
		life auth.Life
		want time.Duration
	}{"as usual": {0, 24 * time.Hour}, "an hour": {auth.Life(time.Hour), time.Hour}} {
		now := &clock{now: start}
		i := newIssuer(t, issuerName, audience, now)
		trust := i.Trust()
		trust.TokenLife = c.life
		v := newIssuers(t, now, trust)
		token, err := i.Sign(cou7, 90*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		now.at(c.want - time.Second)
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: refused before it is too old: %v", name, err)
		}
		now.at(c.want + auth.Leeway)
		var why *auth.Refusal
		if _, err := v.Verify(t.Context(), token); !errors.As(err, &why) || why.Why != auth.WhyTooOld {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// critical is a good token but for a header that must be understood.
func critical(t *testing.T, i *authtest.Issuer) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuerName, "aud": audience, "sub": "cou_7", "scope": "courier", "exp": start.Add(time.Hour).Unix(),
	})
	token.Header["kid"], token.Header["crit"] = i.KeyID, []string{"b64"}
	text, err := token.SignedString(i.Key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMethods(t *testing.T) {
	c := &clock{now: start}
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
	v := believing(t, []byte(jwks), c)
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

// A remembered token ends with its exp, or with the memory.
func TestMemoryEnds(t *testing.T) {
	c := &clock{now: start}
	i := newIssuer(t, issuerName, audience, c)
	v := believing(t, i.JWKS(), c)
	short, err := i.Sign(cou7, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	long := sign(t, i, cou7)
	for _, token := range []string{short, long} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	v.SwapKeys(issuerName, believing(t, newIssuer(t, issuerName, audience, c).JWKS(), c)) // the key is withdrawn
	for _, step := range []struct {
		after time.Duration
		token string
		good  bool
	}{
		{29 * time.Second, short, true},
		{30 * time.Second, short, false},
		{auth.TokenKept - time.Second, long, true},
		{auth.TokenKept, long, false},
	} {
		c.at(step.after)
		if _, err := v.Verify(t.Context(), step.token); (err == nil) != step.good {
			t.Errorf("after %s: %v", step.after, err)
		}
	}
}

func TestBearerToken(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER  abc": "abc",
		"": "", "Bearer": "", "Bearer ": "", "Basic abc": "", "Bearer a b": "", "Bearer a, Basic b": "", "Bearerabc": "",
	} {
		if got, ok := auth.BearerToken(header); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v", header, got, ok)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	c := &clock{now: start}
	i := newIssuer(b, issuerName, audience, c)
	v := believing(b, i.JWKS(), c)
	token := sign(b, i, cou7)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			v.Forget()
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
