package identity

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"latchkey/handoff"
)

// SessionID is SHA-256 of the random value that a browser's cookie holds: a reader of
// the store learns no cookie.
type SessionID [32]byte

// String is the id in hexadecimal.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// Session is what is kept of a person who signed in with a browser.
type Session struct {
	ID SessionID `cbor:"-"`

	// Issuer and Client say by which entry of the file of issuers the person signed in. Both
	// are empty where a shop's link began the session.
	Issuer string `cbor:"1,keyasint,omitempty"`
	Client string `cbor:"2,keyasint,omitempty"`

	Subject  string   `cbor:"3,keyasint"`
	Scopes   []string `cbor:"4,keyasint"` // as package api/auth names them
	Shop     string   `cbor:"5,keyasint,omitempty"`
	Carrier  string   `cbor:"6,keyasint,omitempty"`
	Building string   `cbor:"7,keyasint,omitempty"`
	Device   string   `cbor:"8,keyasint,omitempty"`
	Name     string   `cbor:"9,keyasint,omitempty"` // as the pages greet them

	Began handoff.Instant `cbor:"10,keyasint"`
	Seen  handoff.Instant `cbor:"11,keyasint"` // when it was last used, to within a minute

	// Link is who made the shop's link that began the session; nil where an issuer vouched
	// for the person. The shop could have opened the link itself.
	Link *Maker `cbor:"12,keyasint,omitempty"`
}

// Customer is whose session it is; false if it is no customer's.
func (s *Session) Customer() (handoff.CustomerRef, bool) {
	return handoff.CustomerRef{Shop: s.Shop, ID: s.Subject}, s.Shop != "" && slices.Contains(s.Scopes, string(handoff.RoleCustomer))
}

// Courier is whose session it is; false if it is no courier's.
func (s *Session) Courier() (handoff.CourierRef, bool) {
	return handoff.CourierRef{Carrier: s.Carrier, ID: s.Subject}, s.Carrier != "" && slices.Contains(s.Scopes, "courier")
}

// Sessions keeps the sessions of browsers. How long one
// lasts is its reader's to judge; the store only forgets it some time later.
type Sessions interface {
	// Session reads one; nil if there is none, or not any more. It sees every removal that
	// was acknowledged before it began.
	Session(ctx context.Context, id SessionID) (*Session, error)

	// AddSession keeps a new one for at least a while. Adding the same again is harmless.
	AddSession(ctx context.Context, s Session, keep time.Duration) error

	// TouchSession replaces one for as long again, if it is still there: one that was
	// removed stays removed, and that is no error.
	TouchSession(ctx context.Context, s Session, keep time.Duration) error

	// RemoveSession ends one, for every instance. One that is not there is no error.
	RemoveSession(ctx context.Context, id SessionID) error

	// RemoveSessionsOf ends every session of a customer (see Session.Customer) that was
	// added before it began, and no other; one that is being added may stay. Doing it again
	// is harmless, and finishes what broke off. It counts those that it ended.
	RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) (int, error)

	// RemoveSessionsOfShop is RemoveSessionsOf of every session that names the shop: of its
	// customers and of its staff.
	RemoveSessionsOfShop(ctx context.Context, shop string) (int, error)

	// RemoveSessionsOfCourier is RemoveSessionsOf of a courier (see Session.Courier).
	RemoveSessionsOfCourier(ctx context.Context, c handoff.CourierRef) error
}
