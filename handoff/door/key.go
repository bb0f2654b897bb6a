package door

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/go-json-experiment/json"
)

// ErrKey says that a key is missing, of the wrong size or kind, or not what its own
// key id or public half says.
var ErrKey = errors.New("door: not an Ed25519 key")

var base64url = base64.RawURLEncoding.Strict()

// KeyID is the short name of a public key: the first eight bytes of its JWK
// thumbprint (RFC 7638, RFC 8037 appendix A.3). It selects a key and proves nothing.
type KeyID [8]byte

// String is the id as a JWK's kid: eleven characters of base64url.
func (id KeyID) String() string { return base64url.EncodeToString(id[:]) }

// PublicKey is an Ed25519 public key (RFC 8032). As text, in the file that pins it at
// a door, it is 43 characters of base64url: the x of its JWK.
type PublicKey [ed25519.PublicKeySize]byte

// IsZero reports whether k is no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// ID names k.
func (k PublicKey) ID() (id KeyID) {
	thumbprint := k.thumbprint()
	copy(id[:], thumbprint[:])
	return id
}

func (k PublicKey) thumbprint() [sha256.Size]byte {
	return sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + k.String() + `"}`))
}

// String is k in base64url.
func (k PublicKey) String() string { return base64url.EncodeToString(k[:]) }

// MarshalText is k in base64url.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the form of MarshalText and no other.
func (k *PublicKey) UnmarshalText(text []byte) error {
	b, err := base64url.DecodeString(string(text))
	if err != nil || len(b) != len(k) || [ed25519.PublicKeySize]byte(b) == (PublicKey{}) || PublicKey(b).String() != string(text) { // it passes over line ends
		return ErrKey
	}
	copy(k[:], b)
	return nil
}

func (k PublicKey) ed25519() ed25519.PublicKey { return k[:] }

// PrivateKey signs. It prints as ******; JWK is the one way out.
type PrivateKey struct{ ed25519 ed25519.PrivateKey }

// NewPrivateKey reads a key from random, which must be a cryptographic source.
func NewPrivateKey(random io.Reader) (PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return PrivateKey{}, fmt.Errorf("door: reading a new key: %w", err)
	}
	return PrivateKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// ParsePrivateKey reads a private JWK (RFC 8037 section 2).
func ParsePrivateKey(content []byte) (PrivateKey, error) {
	var j jwk
	if err := json.Unmarshal(content, &j); err != nil {
		return PrivateKey{}, ErrKey // the parser's own words could repeat the key
	}
	return j.private()
}

// JWK is the key in the clear, for a file that only its owner may read.
func (k PrivateKey) JWK() ([]byte, error) {
	if k.IsZero() {
		return nil, ErrKey
	}
	return json.Marshal(k.jwk())
}

// IsZero reports whether k is no key.
func (k PrivateKey) IsZero() bool { return len(k.ed25519) == 0 }

// Public is the half that may be known; zero for no key.
func (k PrivateKey) Public() (public PublicKey) {
	if !k.IsZero() {
		copy(public[:], k.ed25519[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
	}
	return public
}

const redacted = "******"

// Format prints ****** for every verb.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText yields ******, so that JSON and its kin cannot leak a key.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue yields ******.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// jwk is an octet key pair of RFC 8037.
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	D     string `json:"d,omitzero"`
	ID    string `json:"kid,omitzero"`
	Alg   string `json:"alg,omitzero"`
	Use   string `json:"use,omitzero"`
}

func (k PublicKey) jwk() jwk {
	return jwk{Type: "OKP", Curve: "Ed25519", X: k.String(), ID: k.ID().String(), Alg: "EdDSA", Use: "sig"}
}

func (k PrivateKey) jwk() jwk {
	j := k.Public().jwk()
	j.D = base64url.EncodeToString(k.ed25519.Seed())
	return j
}

func (j jwk) public() (k PublicKey, err error) {
	if j.Type != "OKP" || j.Curve != "Ed25519" || (j.Alg != "" && j.Alg != "EdDSA") || (j.Use != "" && j.Use != "sig") {
		return PublicKey{}, ErrKey
	}
	if err := k.UnmarshalText([]byte(j.X)); err != nil {
		return PublicKey{}, err
	}
	if j.ID != "" && j.ID != k.ID().String() {
		return PublicKey{}, ErrKey
	}
	return k, nil
}

func (j jwk) private() (PrivateKey, error) {
	public, err := j.public()
	if err != nil {
		return PrivateKey{}, err
	}
	seed, err := base64url.DecodeString(j.D)
	if err != nil || len(seed) != ed25519.SeedSize {
		return PrivateKey{}, ErrKey
	}
	k := PrivateKey{ed25519.NewKeyFromSeed(seed)}
	if own := k.Public(); subtle.ConstantTimeCompare(own[:], public[:]) != 1 {
		return PrivateKey{}, ErrKey
	}
	return k, nil
}

// KeySet are public keys. As JSON it is a JWK Set (RFC 7517 section 5).
type KeySet []PublicKey

type jwks struct {
	Keys []jwk `json:"keys"`
}

// MarshalJSON yields a JWK Set, the answer of GET /v1/doors/keys.
func (s KeySet) MarshalJSON() ([]byte, error) {
	set := jwks{Keys: make([]jwk, len(s))}
	for i, k := range s {
		set.Keys[i] = k.jwk()
	}
	return json.Marshal(set)
}

// UnmarshalJSON reads a JWK Set whose keys are all of this package's kind.
func (s *KeySet) UnmarshalJSON(b []byte) error {
	var set jwks
	if err := json.Unmarshal(b, &set); err != nil {
		return fmt.Errorf("door: not a JWK Set: %w", err)
	}
	keys := make(KeySet, len(set.Keys))
	for i, j := range set.Keys {
		var err error
		if keys[i], err = j.public(); err != nil || j.D != "" {
			return ErrKey
		}
	}
	*s = keys
	return nil
}

// PermitID names one permit: 128 random bits, the cti of RFC 8392 section 3.1.7. As
// text it is 32 hexadecimal digits.
type PermitID [16]byte

// IsZero reports whether id names no permit.
func (id PermitID) IsZero() bool { return id == PermitID{} }

// String is the id in hexadecimal.
func (id PermitID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is the id in hexadecimal.
func (id PermitID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 32 lower case hexadecimal digits.
func (id *PermitID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != string(text) {
		return fmt.Errorf("%w: permit id", Malformed)
	}
	copy(id[:], b)
	return nil
}
