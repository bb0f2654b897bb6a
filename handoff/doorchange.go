package handoff

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

// DoorChange is a change to a garage or home that waits: to whose it is, or to its keys. Until
// Due the door is what it was; from then on it is what the change says, written or not.
type DoorChange struct {
	ID string `cbor:"1,keyasint"` // 16 hexadecimal digits; another change has another

	By    string  `cbor:"2,keyasint,omitempty"` // who asked: a role, and
	Who   string  `cbor:"3,keyasint,omitempty"` // a pseudonym
	Asked Instant `cbor:"4,keyasint"`
	Due   Instant `cbor:"5,keyasint"`

	// Changes names what changes, by the API's names.
	Changes []string `cbor:"6,keyasint"`

	// What stands there from Due on.
	Kind   TargetKind   `cbor:"7,keyasint"`
	Mode   DoorMode     `cbor:"8,keyasint"`
	Owner  *CustomerRef `cbor:"9,keyasint,omitempty"`
	Unit   string       `cbor:"10,keyasint,omitempty"`
	Key    []byte       `cbor:"11,keyasint,omitempty"`
	Keypad KeypadKey    `cbor:"12,keyasint,omitempty"`
}

// SameUnit compares two spellings of a unit, but for case and white space.
func SameUnit(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}

// sameOwner compares two owners; nil is none.
func sameOwner(a, b *CustomerRef) bool { return a == b || a != nil && b != nil && *a == *b }

// Wait divides what a door is to be, d, into what it is from now on and what has to wait: the
// change is nil where nothing has to. before is what stands, nil for none; a garage or home
// that was removed still counts, or who removes a door and registers it again would not
// have to wait. What has to wait, of a garage or home, is whose it is (owner, unit, kind) and
// keys that take the place of others. To lose a key, or the door, waits for nothing; nor does
// the first owner, unit or key.
//
// The change has neither an id, nor times, nor who asked for it.
func (d Door) Wait(before *Door) (Door, *DoorChange) {
	if before == nil || !before.Private() || d.Removed {
		return d, nil
	}
	c := &DoorChange{Kind: d.Kind, Mode: d.Mode, Owner: d.Owner, Unit: d.Unit, Key: d.Key, Keypad: d.Keypad}
	wait := func(name string, differs bool) bool {
		if differs {
			c.Changes = append(c.Changes, name)
		}
		return differs
	}
	keypad := func(m DoorMode) bool { return m == Keypad }
	if wait("kind", d.Kind != before.Kind) {
		d.Kind = before.Kind
	}
	// A keypad's mode and key go together: a PIN takes the place of permits.
	if wait("mode", before.Mode != 0 && keypad(d.Mode) != keypad(before.Mode)) {
		d.Mode, d.Keypad = before.Mode, before.Keypad
	} else if wait("keypad_key", keypad(d.Mode) && before.hadKey() && !bytes.Equal(d.Keypad, before.Keypad)) {
		d.Keypad = before.Keypad
	}
	theirs := before.Owner != nil || before.Former != nil || before.Unit != ""
	if wait("owner", theirs && !sameOwner(d.Owner, before.Owner)) {
		d.Owner = before.Owner
	}
	if wait("unit", theirs && !SameUnit(d.Unit, before.Unit)) {
		d.Unit = before.Unit
	}
	if wait("public_key", len(d.Key) > 0 && before.hadKey() && !bytes.Equal(d.Key, before.Key)) {
		d.Key = before.Key
	}
	d.Keyed, d.Former = before.hadKey(), before.Former
	if len(c.Changes) == 0 {
		return d, nil
	}
	return d, c
}

// hadKey reports whether the door has a key, or had one.
func (d *Door) hadKey() bool { return d.Keyed || len(d.Key) > 0 || len(d.Keypad) > 0 }

// Says reports whether two changes come to the same, but for who asked for them and when.
func (c *DoorChange) Says(o *DoorChange) bool {
	if c == nil || o == nil {
		return c == o
	}
	return slices.Equal(c.Changes, o.Changes) && c.Kind == o.Kind && c.Mode == o.Mode && sameOwner(c.Owner, o.Owner) && c.Unit == o.Unit &&
		bytes.Equal(c.Key, o.Key) && bytes.Equal(c.Keypad, o.Keypad)
}

// IsDue reports whether the door's change waits no more.
func (d *Door) IsDue(now Instant) bool { return d != nil && d.Pending != nil && now >= d.Pending.Due }

// At is the door as it stands at now: with its change, once that is due. Nil stays nil.
func (d *Door) At(now Instant) *Door {
	if !d.IsDue(now) {
		return d
	}
	then, c := *d, d.Pending
	then.Keyed = d.hadKey()
	then.Kind, then.Mode, then.Owner, then.Unit, then.Keypad, then.Pending = c.Kind, c.Mode, c.Owner, c.Unit, c.Keypad, nil
	then.Key = c.Key
	if c.Owner != nil {
		then.Former = nil
	}
	return &then
}

// formerObjects is how long one who moved out may object to the next owner of the door.
const formerObjects = 30 * 24 * time.Hour

// Holder is whose a garage or home is or, where its owner moved out, was: who may object to a
// change of it besides the residents of its unit. Nil for none.
func (d *Door) Holder(now Instant) *CustomerRef {
	switch {
	case d.Owner != nil:
		return d.Owner
	case d.Former != nil && d.Former.Owner != nil && now.Time().Sub(d.Former.Until.Time()) < formerObjects:
		return d.Former.Owner
	}
	return nil
}
