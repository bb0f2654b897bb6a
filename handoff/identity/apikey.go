// Package identity is who calls: the sessions of browsers, the keys of machines, and what
// may be used once. How a bearer token is judged stands in api/auth.
package identity

import (
	"context"
	"net/netip"

	"latchkey/handoff"
)

// APIKey is what is known of a key by which a machine calls. The secret part of it is
// not: a reader of the store learns no key.
type APIKey struct {
	ID string `cbor:"-"`

	// Hash is SHA-256 of the secret. A slow hash would add nothing: it makes guessing
	// costly where people choose secrets, and this one is 256 random bits.
	Hash [32]byte `cbor:"1,keyasint"`

	Scopes []string `cbor:"2,keyasint"` // as package api/auth names them
	Label  string   `cbor:"3,keyasint,omitempty"`

	// For whom it speaks: the one that its scopes ask for, the others are empty.
	Shop     string `cbor:"4,keyasint,omitempty"`
	Carrier  string `cbor:"5,keyasint,omitempty"`
	Building string `cbor:"6,keyasint,omitempty"`
	Door     string `cbor:"7,keyasint,omitempty"`

	Networks []netip.Prefix  `cbor:"8,keyasint,omitempty"` // from where it may be used; empty: from anywhere
	Created  handoff.Instant `cbor:"9,keyasint"`
	Expires  handoff.Instant `cbor:"10,keyasint,omitempty"` // 0: never
}

// Keys keeps the keys of machines. There are as many
// as machines: some thousands, if every door has one.
type Keys interface {
	// APIKey reads one key; nil if there is none, or not any more. It sees every removal
	// that was acknowledged before it began.
	APIKey(ctx context.Context, id string) (*APIKey, error)

	// AddAPIKey keeps a new key. An id that is taken is ErrConflict, and nothing is
	// written.
	AddAPIKey(ctx context.Context, k APIKey) error

	// RemoveAPIKey forgets a key, and reports whether there was one. From then on it is
	// as if it had never been.
	RemoveAPIKey(ctx context.Context, id string) (bool, error)

	// APIKeys lists all keys, in no particular order.
	APIKeys(ctx context.Context) ([]APIKey, error)
}
