// Package auth says who calls. A [Verifier] turns a bearer token into a
// [Principal]; what a principal may do is decided by the routes of package api.
//
// The seam is narrow on purpose: one method. Behind it stand the tokens of issuers
// ([Issuers]), each trusted for what its entry in a file says and no more ([Trust]), and
// keys for machines ([Keys]).
package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// Scope is a capacity in which a caller acts, as the scope claim of its token names it.
type Scope string

// The scopes.
const (
	Dispatch Scope = "dispatch" // a shop's warehouse
	Shop     Scope = "shop"     // a shop's staff
	Customer Scope = "customer" // a recipient
	Carrier  Scope = "carrier"  // a carrier's dispatcher
	Courier  Scope = "courier"  // a driver, or the clerk of a pickup point
	Building Scope = "building" // a building's manager
	Door     Scope = "door"     // a door controller
	Ops      Scope = "ops"      // the operator of the service
)

// Principal is who calls, as a verified token says. It is shared between requests:
// treat it as read-only.
type Principal struct {
	Subject  string  // sub: the courier's, customer's or door's id, where one calls
	Scopes   []Scope // those that the token names and its issuer may give
	Carrier  string  // carrier_id
	Shop     string  // shop_id
	Building string  // building_id

	Issuer string // iss; empty for a key
	Key    string // the id of the key that was shown; empty for an issuer's token
	Device string // device_id: on which device the caller works, where the issuer says so

	// Link is who of a shop made the link that let the customer in; nil for every other
	// caller. Such a caller may be the shop itself.
	Link *identity.Maker

	// IssuedAt is since when the token (iat) or the session exists; 0 for a key.
	IssuedAt handoff.Instant
}

// Has reports whether the principal was given a scope.
func (p *Principal) Has(s Scope) bool { return slices.Contains(p.Scopes, s) }

// Identity names who calls among the subjects of all issuers and all keys. It may name a
// person: what is kept is a keyed hash of it.
func (p *Principal) Identity() string {
	if p.Key != "" {
		return "key " + p.Key
	}
	if p.Link != nil { // two shops may have the same customer
		return "link " + p.Shop + " " + p.Subject
	}
	return p.Issuer + " " + p.Subject
}

// ErrToken says that a token is not to be believed: malformed, forged, expired, or of
// another issuer or audience. It does not say which, and does not repeat the token. Where
// the reason is known the error is a *Refusal as well, for the log.
var ErrToken = errors.New("auth: the token is not valid")

// Verifier checks bearer tokens.
type Verifier interface {
	// Verify returns whom a token speaks for. The error is ErrToken, or
	// storage.ErrUnavailable where the store or the issuer cannot be asked for now.
	Verify(ctx context.Context, token string) (*Principal, error)
}

// Either makes one Verifier of both kinds: what looks like a key is asked of keys, and
// all else of tokens.
func Either(tokens, keys Verifier) Verifier { return either{tokens, keys} }

type either struct{ tokens, keys Verifier }

func (e either) Verify(ctx context.Context, token string) (*Principal, error) {
	if strings.HasPrefix(token, keyPrefix) { // never that of a JWT, which begins with an encoded brace
		return e.keys.Verify(ctx, token)
	}
	return e.tokens.Verify(ctx, token)
}

type callerKey struct{}

// WithCaller keeps the address of the caller, for keys that are bound to networks.
func WithCaller(ctx context.Context, addr netip.Addr) context.Context {
	return context.WithValue(ctx, callerKey{}, addr)
}

// Caller is the address that WithCaller kept; the zero Addr, which is in no network, if
// there is none.
func Caller(ctx context.Context) netip.Addr {
	addr, _ := ctx.Value(callerKey{}).(netip.Addr)
	return addr.Unmap()
}

// BearerToken takes the token out of an Authorization header (RFC 6750 section 2.1).
// The scheme's name is case-insensitive (RFC 9110 section 11.1).
func BearerToken(header string) (token string, ok bool) {
	const scheme = "Bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	token = strings.TrimLeft(header[len(scheme):], " ")
	return token, token != "" && !strings.ContainsAny(token, " ,")
}
