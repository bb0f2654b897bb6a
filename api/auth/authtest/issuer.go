// Package authtest is an identity provider of our own, for tests and the demonstration: an
// [Issuer] that signs tokens, and a [Provider] at which people sign in. A real service
// trusts an identity provider of its own; nothing here is part of one.
package authtest

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

	"latchkey/api/auth"

	"github.com/golang-jwt/jwt/v5"
)

// Issuer signs tokens with an Ed25519 key of its own.
type Issuer struct {
	Name     string // the iss of its tokens
	Audience string // and their aud

	Key    ed25519.PrivateKey
	KeyID  string // kid: the thumbprint of the key (RFC 7638)
	KeySet []byte // what JWKS answers

	now func() time.Time
}

// NewIssuer draws a key from random, which must be a cryptographic source. Name and
// audience are the iss and aud of its tokens.
func NewIssuer(random io.Reader, name, audience string, now func() time.Time) (*Issuer, error) {
	// Not ed25519.GenerateKey, which for good reason ignores the reader's determinism.
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("authtest: reading a new key: %w", err)
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
		return nil, fmt.Errorf("authtest: key set: %w", err)
	}
	return &Issuer{Key: key, KeyID: kid, KeySet: jwks, Name: name, Audience: audience, now: now}, nil
}

// JWKS is the issuer's key set as JSON (RFC 7517 section 5), public keys only.
func (i *Issuer) JWKS() []byte { return append([]byte(nil), i.KeySet...) }

// Sign returns a token that speaks for p from now on and for as long as life.
func (i *Issuer) Sign(p auth.Principal, life time.Duration) (string, error) {
	return i.sign(i.Audience, p, life, nil)
}

// SignID returns an ID token (OpenID Connect Core 1.0 section 2) that tells a client who
// signed in. It answers a request with that nonce.
func (i *Issuer) SignID(client, nonce, name string, p auth.Principal, life time.Duration) (string, error) {
	return i.SignIDWith(client, nonce, name, p, life, nil)
}

// SignIDWith is SignID with further claims.
func (i *Issuer) SignIDWith(client, nonce, name string, p auth.Principal, life time.Duration, more map[string]any) (string, error) {
	c := jwt.MapClaims{"nonce": nonce, "name": name}
	maps.Copy(c, more)
	return i.sign(client, p, life, c)
}

func (i *Issuer) sign(audience string, p auth.Principal, life time.Duration, more jwt.MapClaims) (string, error) {
	if life <= 0 {
		return "", errors.New("authtest: a token must live for some time")
	}
	scopes := make([]string, len(p.Scopes))
	for n, s := range p.Scopes {
		scopes[n] = string(s)
	}
	now := i.now()
	c := jwt.MapClaims{
		"iss": i.Name, "aud": audience, "sub": p.Subject, "scope": strings.Join(scopes, " "),
		"iat": jwt.NewNumericDate(now), "exp": jwt.NewNumericDate(now.Add(life)),
	}
	for name, value := range map[string]string{"carrier_id": p.Carrier, "shop_id": p.Shop, "building_id": p.Building, "device_id": p.Device} {
		if value != "" {
			c[name] = value
		}
	}
	maps.Copy(c, more)
	return i.SignClaims(c)
}

// SignClaims signs any claims, also those that no honest issuer would.
func (i *Issuer) SignClaims(c map[string]any) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims(c))
	token.Header["kid"] = i.KeyID
	return token.SignedString(i.Key)
}

// Trust is the entry that believes all that this issuer says.
func (i *Issuer) Trust() auth.Trust {
	anyone := []string{auth.Anyone}
	return auth.Trust{
		Issuer: i.Name, Audience: i.Audience, Keys: i.JWKS(),
		TokenLife: auth.Life(365 * 24 * time.Hour),
		Scopes:    []auth.Scope{auth.Dispatch, auth.Shop, auth.Customer, auth.Carrier, auth.Courier, auth.Building, auth.Door, auth.Ops},
		Carriers:  anyone, Shops: anyone, Buildings: anyone,
	}
}
