package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Issuer signs tokens with an Ed25519 key of its own. The demonstration and the tests
// use it; a real service trusts an identity provider.
type Issuer struct {
	key      ed25519.PrivateKey
	kid      string
	jwks     []byte
	name     string
	audience string
	now      func() time.Time
}

// NewIssuer draws a key from random, which must be a cryptographic source. Name and
// audience are the iss and aud of its tokens.
func NewIssuer(random io.Reader, name, audience string, now func() time.Time) (*Issuer, error) {
	// Not ed25519.GenerateKey, which for good reason ignores the reader's determinism.
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("auth: reading a new key: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))

	// RFC 7638 with the members of RFC 8037 appendix A.3, in lexical order.
	thumb := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	kid := base64.RawURLEncoding.EncodeToString(thumb[:])
	jwks, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x},
	}})
	if err != nil {
		return nil, fmt.Errorf("auth: key set: %w", err)
	}
	return &Issuer{key: key, kid: kid, jwks: jwks, name: name, audience: audience, now: now}, nil
}

// JWKS is the issuer's key set as JSON (RFC 7517 section 5), public keys only.
func (i *Issuer) JWKS() []byte { return append([]byte(nil), i.jwks...) }

// Sign returns a token that speaks for p from now on and for as long as life.
func (i *Issuer) Sign(p Principal, life time.Duration) (string, error) {
	return i.sign(i.audience, p, life, nil)
}

// SignID returns an ID token (OpenID Connect Core 1.0 section 2) that tells a client who
// signed in. It answers a request with that nonce.
func (i *Issuer) SignID(client, nonce, name string, p Principal, life time.Duration) (string, error) {
	return i.sign(client, p, life, jwt.MapClaims{"nonce": nonce, "name": name})
}

func (i *Issuer) sign(audience string, p Principal, life time.Duration, more jwt.MapClaims) (string, error) {
	if life <= 0 {
		return "", errors.New("auth: a token must live for some time")
	}
	scopes := make([]string, len(p.Scopes))
	for n, s := range p.Scopes {
		scopes[n] = string(s)
	}
	now := i.now()
	c := jwt.MapClaims{
		"iss": i.name, "aud": audience, "sub": p.Subject, "scope": strings.Join(scopes, " "),
		"iat": jwt.NewNumericDate(now), "exp": jwt.NewNumericDate(now.Add(life)),
	}
	for name, value := range map[string]string{"carrier_id": p.Carrier, "shop_id": p.Shop, "building_id": p.Building, "device_id": p.Device} {
		if value != "" {
			c[name] = value
		}
	}
	maps.Copy(c, more)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	token.Header["kid"] = i.kid
	return token.SignedString(i.key)
}

// Trust is the entry that believes all that this issuer says.
func (i *Issuer) Trust() Trust {
	anyone := []string{Anyone}
	return Trust{
		Issuer: i.name, Audience: i.audience, Keys: i.JWKS(),
		TokenLife: Life(longestTokenLife),
		Scopes:    []Scope{Dispatch, Shop, Customer, Carrier, Courier, Building, Door, Ops},
		Carriers:  anyone, Shops: anyone, Buildings: anyone,
	}
}
