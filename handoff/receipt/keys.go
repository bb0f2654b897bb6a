package receipt

import (
	"errors"
	"io"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"latchkey/handoff"
	"latchkey/handoff/door"
)

// Keys are the key that signs receipts, and the public halves of those that did before: what
// they signed still verifies. Keys are immutable and may be used concurrently.
type Keys struct {
	current door.PrivateKey
	retired door.KeySet // the newest first
}

// NewKeys makes a fresh key from random, which must be a cryptographic source.
func NewKeys(random io.Reader) (*Keys, error) {
	current, err := door.NewPrivateKey(random)
	if err != nil {
		return nil, err
	}
	return &Keys{current: current}, nil
}

// Rotate lets a fresh key sign. The one before stays published.
func (k *Keys) Rotate(random io.Reader) (*Keys, error) {
	next, err := NewKeys(random)
	if err != nil {
		return nil, err
	}
	next.retired = append(door.KeySet{k.current.Public()}, k.retired...)
	return next, nil
}

// ErrNoSuchKey says that no retired key has the id.
var ErrNoSuchKey = errors.New("receipt: no retired key has this id; the key that signs is rotated first")

// Forget returns keys without a retired one: what it signed verifies no longer. The error is
// ErrNoSuchKey.
func (k *Keys) Forget(id string) (*Keys, error) {
	rest := slices.DeleteFunc(slices.Clone(k.retired), func(p door.PublicKey) bool { return p.ID().String() == id })
	if len(rest) == len(k.retired) {
		return nil, ErrNoSuchKey
	}
	return &Keys{current: k.current, retired: rest}, nil
}

// Publish are the public keys, the one that signs first.
func (k *Keys) Publish() door.KeySet { return append(door.KeySet{k.current.Public()}, k.retired...) }

// Sign is the package's Sign by the current key.
func (k *Keys) Sign(r *handoff.Receipt) ([]byte, error) { return Sign(k.current, r) }

// keysFile is the form of keys at rest.
type keysFile struct {
	Current jsontext.Value `json:"current"` // a private JWK
	Retired door.KeySet    `json:"retired"` // a JWK Set
}

// ParseKeys reads keys from their JSON. The error never repeats the content.
func ParseKeys(content []byte) (*Keys, error) {
	var f keysFile
	if err := json.Unmarshal(content, &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, errors.New("receipt: not a file of receipt keys")
	}
	current, err := door.ParsePrivateKey(f.Current)
	if err != nil {
		return nil, errors.New("receipt: not a file of receipt keys")
	}
	k := &Keys{current: current, retired: f.Retired}
	for i, p := range k.Publish() {
		if slices.Contains(k.Publish()[:i], p) {
			return nil, errors.New("receipt: the file has a key twice")
		}
	}
	return k, nil
}

// JSON are the keys as ParseKeys reads them: the one that signs in the clear.
func (k *Keys) JSON() ([]byte, error) {
	current, err := k.current.JWK()
	if err != nil {
		return nil, err
	}
	return json.Marshal(keysFile{Current: current, Retired: k.retired})
}
