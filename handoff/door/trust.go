package door

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Revocation is a list, signed by the root key, of the signing keys that doors may trust
// beside the pinned ones, and of those that they may trust no longer. A newer list replaces
// the older one as a whole.
//
// The root key signs nothing else and is kept away from the service, so that the thief of a
// signing key can neither take it off the list nor put another one on.
type Revocation struct {
	Serial  uint64      // rises by at least one with every list; the first is 1 or more
	At      time.Time   // whole seconds; for people, the serial decides
	Revoked []KeyID     // at most 32, keys whose signatures count for nothing
	Trusted []PublicKey // at most 4
}

const (
	maxRevoked    = 32
	maxTrusted    = 4
	maxRevocation = 576 // bytes on the wire
)

type revocationClaims struct {
	IssuedAt uint32        `cbor:"6,keyasint"`
	Own      revocationOwn `cbor:"-65537,keyasint"`
}

type revocationOwn struct {
	_       struct{} `cbor:",toarray"`
	Serial  uint64
	Revoked []KeyID
	Trusted []PublicKey
}

func (r *Revocation) check() error {
	switch {
	case r.Serial == 0 || !onWire(r.At):
		return fmt.Errorf("%w: a list has a serial and a time", Malformed)
	case len(r.Revoked) > maxRevoked || len(r.Trusted) > maxTrusted:
		return fmt.Errorf("%w: at most %d revoked and %d trusted keys", Malformed, maxRevoked, maxTrusted)
	case slices.ContainsFunc(r.Trusted, PublicKey.IsZero):
		return fmt.Errorf("%w: trusted key", Malformed)
	}
	return nil
}

// Sign makes the list that doors accept, at most 576 bytes. The key is the root key. The
// error is Malformed for a list out of its bounds, or ErrKey for no key.
func (r Revocation) Sign(root PrivateKey) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	claims := &revocationClaims{
		IssuedAt: uint32(r.At.Unix()),
		Own:      revocationOwn{Serial: r.Serial, Revoked: r.Revoked, Trusted: r.Trusted},
	}
	return sign(root, claims, bound(revocationPurpose))
}

// ParseRevocation reads and verifies a list. Every error wraps a Refusal: Malformed,
// UnknownKey (not the root key's) or BadSignature.
func ParseRevocation(raw []byte, root PublicKey) (Revocation, error) {
	e, err := parse(raw, maxRevocation)
	if err != nil {
		return Revocation{}, err
	}
	if e.kid != root.ID() {
		return Revocation{}, fmt.Errorf("%w: not the root key", UnknownKey)
	}
	if err := e.verify(root, bound(revocationPurpose)); err != nil {
		return Revocation{}, err
	}
	var c revocationClaims
	if err := e.claims(&c); err != nil {
		return Revocation{}, err
	}
	r := Revocation{Serial: c.Own.Serial, At: fromWire(c.IssuedAt), Revoked: c.Own.Revoked, Trusted: c.Own.Trusted}
	return r, r.check()
}

// Trust is what a door knows of keys: those pinned when it was enrolled, and the newest
// revocation list, which survives restarts. It may be used concurrently, by one process.
type Trust struct {
	root PublicKey

	mu     sync.RWMutex
	pinned map[KeyID]PublicKey
	list   Revocation
	file   *recordFile
}

const (
	trustMagic = "latchkey trust 1"
	trustSlot  = 1024
)

// CreateTrust makes the file of a door that has no list yet. It is part of enrolling a door,
// never of starting one: see [CreateReplay].
func CreateTrust(path string) error { return createRecordFile(path, trustMagic, trustSlot) }

// OpenTrust reads the door's list. Root and at least one pinned key must be given, and the
// root key must not be among the pinned ones, which it can revoke. The error is ErrKey for an
// empty key, ErrInUse while another process has the file open, or says what is wrong with
// the file.
func OpenTrust(path string, root PublicKey, pinned ...PublicKey) (*Trust, error) {
	t := &Trust{root: root, pinned: make(map[KeyID]PublicKey)}
	for _, k := range pinned {
		if k.IsZero() {
			return nil, ErrKey
		}
		t.pinned[k.ID()] = k
	}
	if _, both := t.pinned[root.ID()]; root.IsZero() || len(pinned) == 0 || both {
		return nil, errors.New("door: a door pins one root key and at least one signing key, all different")
	}
	file, lists, err := openRecordFile(path, trustMagic, trustSlot)
	if err != nil {
		return nil, err
	}
	t.file = file
	if len(lists) > 0 {
		if t.list, err = ParseRevocation(lists[len(lists)-1], root); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("door: the list in %s: %w", path, err)
		}
	}
	return t, nil
}

// Apply takes a list; it does not matter who brings it. When it returns nil, the list is on
// the disk and in force. The list in force may be brought again. Errors wrap a Refusal: those
// of [ParseRevocation], OldList for an older list or another one of the same serial, or
// NoMemory where the disk did not take it.
func (t *Trust) Apply(raw []byte) error {
	list, err := ParseRevocation(raw, t.root)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case list.Serial < t.list.Serial:
		return OldList
	case list.Serial == t.list.Serial:
		if !list.equal(t.list) {
			return OldList
		}
		return nil
	}
	if err := t.file.rewrite([][]byte{raw}); err != nil {
		return fmt.Errorf("%w: %w", NoMemory, err)
	}
	t.list = list
	return nil
}

func (r *Revocation) equal(other Revocation) bool {
	return r.At.Equal(other.At) && slices.Equal(r.Revoked, other.Revoked) && slices.Equal(r.Trusted, other.Trusted)
}

// Serial is the list in force; 0 before the first.
func (t *Trust) Serial() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.list.Serial
}

// key finds a signing key; the error is RevokedKey or UnknownKey. A revoked key is refused
// even if it is pinned or on the list of trusted ones.
func (t *Trust) key(id KeyID) (PublicKey, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if slices.Contains(t.list.Revoked, id) {
		return PublicKey{}, RevokedKey
	}
	if k, ok := t.pinned[id]; ok {
		return k, nil
	}
	for _, k := range t.list.Trusted {
		if k.ID() == id && id != t.root.ID() {
			return k, nil
		}
	}
	return PublicKey{}, UnknownKey
}

// Close releases the file.
func (t *Trust) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.file.Close()
}
