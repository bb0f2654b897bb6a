package door

import (
	"fmt"
	"slices"
	"time"
)

// Known is a door's signed word about the keys that it knows: the service must not sign with
// another.
type Known struct {
	Door   string
	At     time.Time // whole seconds, by the door's clock
	Serial uint64    // of the list in force; 0 for none
	Keys   []KeyID   // whose signatures count there; at most 32
}

const (
	mostKnown = 32
	maxKnown  = 448 // bytes on the wire
)

type knownClaims struct {
	IssuedAt uint32   `cbor:"6,keyasint"`
	Own      knownOwn `cbor:"-65537,keyasint"`
}

type knownOwn struct {
	_      struct{} `cbor:",toarray"`
	Serial uint64
	Keys   []KeyID
}

func (k *Known) check() error {
	if !doorID.MatchString(k.Door) || !onWire(k.At) || len(k.Keys) > mostKnown {
		return fmt.Errorf("%w: known keys", Malformed)
	}
	return nil
}

// Sign makes the word that [ReportVerifier.Known] accepts. The key is the door's own. The error
// is Malformed for one out of its bounds, or ErrKey.
func (k Known) Sign(key PrivateKey) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	claims := &knownClaims{IssuedAt: uint32(k.At.Unix()), Own: knownOwn{Serial: k.Serial, Keys: k.Keys}}
	return sign(key, claims, bound(knownPurpose, k.Door))
}

// Known reads and verifies a door's word about its keys. Every error wraps a Refusal, as those of
// Verify.
func (v ReportVerifier) Known(raw []byte) (Known, error) {
	e, err := parse(raw, maxKnown)
	if err != nil {
		return Known{}, err
	}
	if v.Key.IsZero() || e.kid != v.Key.ID() {
		return Known{}, UnknownKey
	}
	if err := e.verify(v.Key, bound(knownPurpose, v.Door)); err != nil {
		return Known{}, err
	}
	var c knownClaims
	if err := e.claims(&c); err != nil {
		return Known{}, err
	}
	k := Known{Door: v.Door, At: fromWire(c.IssuedAt), Serial: c.Own.Serial, Keys: c.Own.Keys}
	return k, k.check()
}

// Known is the list in force, and the ids of the keys whose signatures count at this door.
func (t *Trust) Known() (serial uint64, keys []KeyID) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	add := func(id KeyID) {
		if !slices.Contains(t.list.Revoked, id) && !slices.Contains(keys, id) && id != t.root.ID() && len(keys) < mostKnown {
			keys = append(keys, id)
		}
	}
	for _, k := range t.list.Trusted {
		add(k.ID())
	}
	for id := range t.pinned {
		add(id)
	}
	slices.SortFunc(keys, func(a, b KeyID) int { return slices.Compare(a[:], b[:]) })
	return t.list.Serial, keys
}
