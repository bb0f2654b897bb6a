// Package receipt signs what is on record of a handoff, and reads it again without the service.
//
// A receipt is derived from its grant each time it is asked for, and kept nowhere. It is a
// COSE_Sign1 by the same rules as a door's permits, for a purpose of its own and by keys of its
// own. docs/receipts.md has the table of its claims.
package receipt

import (
	"fmt"
	"math"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
)

const (
	// Purpose is what the signature is for: the one element of its external AAD.
	Purpose = "latchkey/receipt/v1"

	// MaxSize is the most bytes that a receipt has.
	MaxSize = 8 << 10

	// MediaType is that of a receipt's bytes (RFC 9052 section 2).
	MediaType = `application/cose; cose-type="cose-sign1"`

	mostDoors    = 16
	mostDistance = math.MaxInt32
)

// claims is the payload, a CWT claims set (RFC 8392).
type claims struct {
	ID  []byte `cbor:"7,keyasint"` // the receipt's id, as text
	Own own    `cbor:"-65537,keyasint"`
}

// own are the claims of a receipt. What is absent was not: no place asked for, no code, by hand.
type own struct {
	Grant    string   `cbor:"1,keyasint"`
	Shop     string   `cbor:"2,keyasint"`
	Carrier  string   `cbor:"3,keyasint"`
	Act      uint8    `cbor:"4,keyasint"` // 1 release, 2 collect
	Parcels  []string `cbor:"5,keyasint"`
	At       int64    `cbor:"6,keyasint"` // seconds since 1970
	Distance *int     `cbor:"7,keyasint,omitempty"`
	Courier  string   `cbor:"8,keyasint,omitempty"`
	Code     uint64   `cbor:"9,keyasint,omitempty"`
	Doors    []passed `cbor:"10,keyasint,omitempty"`
}

// passed is a door on the way, and what it said last.
type passed struct {
	_      struct{} `cbor:",toarray"`
	Door   string
	Kind   uint8
	Permit handoff.PermitID
	State  uint8
	Since  int64 // seconds since 1970, by the service's clock
}

// Sign makes the bytes of a receipt, in which the courier is named as r says: the caller puts
// the pseudonym there. The same receipt and key always give the same bytes, at most MaxSize of
// them. The error is door.ErrKey, or door.Malformed for a receipt out of its bounds.
func Sign(key door.PrivateKey, r *handoff.Receipt) ([]byte, error) {
	c := claims{ID: []byte(r.ID.String()), Own: own{
		Grant: r.ID.Grant.String(), Shop: r.Shop, Carrier: r.Carrier, Act: uint8(r.Purpose.Act()), Parcels: r.Parcels,
		At: int64(r.At), Courier: r.Courier, Code: r.CodeIssue,
	}}
	if r.Placed {
		c.Own.Distance = &r.Distance
	}
	for _, u := range r.Doors {
		c.Own.Doors = append(c.Own.Doors, passed{Door: u.Door, Kind: uint8(u.Target), Permit: u.Permit, State: uint8(u.State), Since: int64(u.Since)})
	}
	if _, err := c.receipt(); err != nil {
		return nil, err
	}
	raw, err := door.SignMessage(key, Purpose, &c)
	if err == nil && len(raw) > MaxSize {
		err = fmt.Errorf("%w: a receipt of %d bytes", door.Malformed, len(raw))
	}
	return raw, err
}

// Verify reads a receipt that one of the keys signed, and says which. Every error wraps a
// door.Refusal: Malformed, UnknownKey or BadSignature.
func Verify(raw []byte, keys door.KeySet) (handoff.Receipt, door.KeyID, error) {
	var c claims
	kid, err := door.OpenMessage(raw, MaxSize, Purpose, keys, &c)
	if err != nil {
		return handoff.Receipt{}, kid, err
	}
	r, err := c.receipt()
	return r, kid, err
}

// receipt holds the claims to their bounds.
func (c *claims) receipt() (handoff.Receipt, error) {
	malformed := func(what string) (handoff.Receipt, error) {
		return handoff.Receipt{}, fmt.Errorf("%w: %s", door.Malformed, what)
	}
	o := &c.Own
	id, err := handoff.ParseReceiptID(string(c.ID))
	if err != nil || id.Grant.String() != o.Grant {
		return malformed("receipt id")
	}
	r := handoff.Receipt{
		ID: id, Shop: o.Shop, Carrier: o.Carrier, Purpose: handoff.PurposeDelivery, Parcels: o.Parcels,
		At: handoff.Instant(o.At), Courier: o.Courier, CodeIssue: o.Code,
	}
	switch handoff.Act(o.Act) {
	case handoff.Release:
	case handoff.Collect:
		r.Purpose = handoff.PurposeReturn
	default:
		return malformed("act")
	}
	for _, id := range append([]string{o.Shop, o.Carrier}, o.Parcels...) {
		if handoff.CheckID(id) != nil {
			return malformed("id of a shop, a carrier or a parcel")
		}
	}
	if len(o.Parcels) == 0 || len(o.Parcels) > handoff.MostParcels {
		return malformed("number of parcels")
	}
	if o.Courier != "" && handoff.CheckID(o.Courier) != nil {
		return malformed("courier")
	}
	if o.Courier == "" && (o.Code != 0 || o.Distance != nil) {
		return malformed("a release by hand with a code or a place")
	}
	if !inTime(o.At) {
		return malformed("time")
	}
	if o.Distance != nil {
		if *o.Distance < 0 || *o.Distance > mostDistance {
			return malformed("distance")
		}
		r.Placed, r.Distance = true, *o.Distance
	}
	if len(o.Doors) > mostDoors {
		return malformed("number of doors")
	}
	for _, d := range o.Doors {
		kind, state := handoff.TargetKind(d.Kind), handoff.DoorState(d.State)
		if handoff.CheckID(d.Door) != nil || kind < handoff.Lobby || kind > handoff.Home ||
			state < handoff.DoorDelivered || state > handoff.DoorRefused || d.Permit == (handoff.PermitID{}) || !inTime(d.Since) {
			return malformed("door")
		}
		r.Doors = append(r.Doors, handoff.Unlock{Door: d.Door, Target: kind, Permit: d.Permit, State: state, Since: handoff.Instant(d.Since)})
	}
	return r, nil
}

// inTime reports whether seconds are of a year that has four digits.
func inTime(seconds int64) bool {
	return seconds > 0 && time.Unix(seconds, 0).UTC().Year() <= 9999
}
