// Package auth says who calls. A [Verifier] turns a bearer token into a
// [Principal]; what a principal may do is decided by the routes of package api.
//
// The seam is narrow on purpose: one method. Which issuers there are, and how far
// each is trusted, stays behind it.
package auth

import (
	"context"
	"errors"
	"slices"
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
	Ops      Scope = "ops"      // whoever runs the service
)

// Principal is who calls, as a verified token says. It is shared between requests:
// treat it as read-only.
type Principal struct {
	Subject  string  // sub: the courier's or customer's id, where one calls
	Scopes   []Scope // scope
	Carrier  string  // carrier_id
	Shop     string  // shop_id
	Building string  // building_id
}

// Has reports whether the principal was given a scope.
func (p *Principal) Has(s Scope) bool { return slices.Contains(p.Scopes, s) }

// ErrToken says that a token is not to be believed: malformed, forged, expired, or of
// another issuer or audience. It does not say which, and does not repeat the token.
var ErrToken = errors.New("auth: the token is not valid")

// Verifier checks bearer tokens.
type Verifier interface {
	// Verify returns whom a token speaks for. The error is ErrToken.
	Verify(ctx context.Context, token string) (*Principal, error)
}
