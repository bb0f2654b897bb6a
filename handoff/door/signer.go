package door

import (
	"errors"
	"io"

	"github.com/go-json-experiment/json"
)

// Signer holds the service's signing keys: the current one, and either the next one
// (known to the doors before it is used) or the previous one (so that permits on
// their way still hold). Two keys are published at any time.
//
// A rotation is [Signer.Rotate]; then, once every door has heard of the keys and the
// last permit of the old one is over (MaxLife and Skew), [Signer.Stage] puts a fresh
// key in the old one's place. A Signer is immutable and may be used concurrently.
type Signer struct{ current, next, previous PrivateKey }

// ErrRotation says that there is no staged key to rotate to.
var ErrRotation = errors.New("door: stage a next key, and let the doors learn it, before rotating")

// NewSigner makes a signer of two fresh keys, current and next.
func NewSigner(random io.Reader) (*Signer, error) {
	current, err := NewPrivateKey(random)
	if err != nil {
		return nil, err
	}
	return (&Signer{current: current}).Stage(random)
}

// Stage returns a signer in which a fresh next key, from random, replaces the key that does
// not sign. The error is that of random.
func (s *Signer) Stage(random io.Reader) (*Signer, error) {
	next, err := NewPrivateKey(random)
	if err != nil {
		return nil, err
	}
	return &Signer{current: s.current, next: next}, nil
}

// Rotate makes the next key the current one; ErrRotation if there is none. The signer that it
// is called on stays as it is.
func (s *Signer) Rotate() (*Signer, error) {
	if s.next.IsZero() {
		return nil, ErrRotation
	}
	return &Signer{current: s.next, previous: s.current}, nil
}

// Unstage returns a signer without the next key: a rotation that is given up. ErrRotation if none
// is staged.
func (s *Signer) Unstage() (*Signer, error) {
	if s.next.IsZero() {
		return nil, ErrRotation
	}
	return &Signer{current: s.current}, nil
}

// Next is the key that is staged; false if there is none.
func (s *Signer) Next() (PublicKey, bool) {
	if s.next.IsZero() {
		return PublicKey{}, false
	}
	return s.next.Public(), true
}

// Publish returns the two public keys that doors should know, the current one first.
func (s *Signer) Publish() KeySet {
	set := KeySet{s.current.Public()}
	for _, other := range []PrivateKey{s.next, s.previous} {
		if !other.IsZero() {
			set = append(set, other.Public())
		}
	}
	return set
}

// signerFile is the form of a signer at rest: private JWKs by role.
type signerFile struct {
	Current  jwk  `json:"current"`
	Next     *jwk `json:"next,omitzero"`
	Previous *jwk `json:"previous,omitzero"`
}

// ParseSigner reads a signer from its JSON. The error never repeats the content.
func ParseSigner(content []byte) (*Signer, error) {
	var f signerFile
	if err := json.Unmarshal(content, &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, errors.New("door: not a file of signing keys")
	}
	if f.Next != nil && f.Previous != nil {
		return nil, errors.New("door: signing keys: next and previous exclude each other")
	}
	var s Signer
	var err error
	if s.current, err = f.Current.private(); err != nil {
		return nil, err
	}
	for _, other := range []struct {
		from *jwk
		to   *PrivateKey
	}{{f.Next, &s.next}, {f.Previous, &s.previous}} {
		if other.from == nil {
			continue
		}
		if *other.to, err = other.from.private(); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

// JSON is the signer as ParseSigner reads it: the keys in the clear.
func (s *Signer) JSON() ([]byte, error) {
	if s.current.IsZero() {
		return nil, ErrKey
	}
	f := signerFile{Current: s.current.jwk()}
	if !s.next.IsZero() {
		j := s.next.jwk()
		f.Next = &j
	}
	if !s.previous.IsZero() {
		j := s.previous.jwk()
		f.Previous = &j
	}
	return json.Marshal(f)
}

// Permit signs a permit. The same permit always gives the same bytes, at most MaxPermit of
// them. The error is Malformed for a permit out of its bounds, WrongAct for another act than
// Open, or ErrKey.
func (s *Signer) Permit(p Permit) ([]byte, error) {
	claims, err := p.claims()
	if err != nil {
		return nil, err
	}
	return sign(s.current, claims, p.bound())
}

// Recall signs a recall, for the door that the permit was made for. The error is Malformed
// or ErrKey.
func (s *Signer) Recall(r Recall) ([]byte, error) {
	claims, err := r.claims()
	if err != nil {
		return nil, err
	}
	return sign(s.current, claims, bound(recallPurpose, r.Door))
}
