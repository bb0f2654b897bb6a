package trail

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Head says where a chain ended at a time. Signed it is a JWS in compact form (RFC
// 7515, RFC 8037): one line of some 370 characters, which a mail carries, a browser
// verifies (WebCrypto knows Ed25519) and any JOSE library reads.
type Head struct {
	At    int64  `json:"at"` // seconds since 1970
	Chain string `json:"chain"`
	Hash  Hash   `json:"hash"`
	Seq   uint64 `json:"seq"` // 0: of a chain without entries
}

// purpose is the typ of a signature's header: none can be taken for another kind's, so
// that no head which was given out can make an export begin after it.
type purpose string

const (
	purposeHead purpose = "latchkey-head+jws"
	purposeCut  purpose = "latchkey-cut+jws" // entries up to here were dropped, their time being over
)

// header is all that a signature's header says, its members in the order of RFC 8785.
// The key id is the public key itself, so that a head that was kept needs nothing
// else to be compared.
type header struct {
	Alg string  `json:"alg"`
	Key Key     `json:"kid"`
	Typ purpose `json:"typ"`
}

// Key is an Ed25519 public key (RFC 8032). As text it is 43 characters of base64url:
// the x of its JWK.
type Key [ed25519.PublicKeySize]byte

// String is k in base64url.
func (k Key) String() string { return base64url.EncodeToString(k[:]) }

// MarshalText is k in base64url.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the form of MarshalText and no other.
func (k *Key) UnmarshalText(text []byte) error {
	b, ok := decode64(string(text))
	if !ok || len(b) != len(k) || Key(b) == (Key{}) {
		return errors.New("chain: not an Ed25519 public key, 43 characters of base64url")
	}
	copy(k[:], b)
	return nil
}

// Signer signs heads. It prints as ******.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner makes a signer of a seed of 32 bytes, always the same of the same.
func NewSigner(seed []byte) (Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return Signer{}, fmt.Errorf("chain: a seed of %d bytes, not %d", len(seed), ed25519.SeedSize)
	}
	return Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

// IsZero reports whether s has no key.
func (s Signer) IsZero() bool { return len(s.key) == 0 }

const redacted = "******"

// Format prints ****** for every verb.
func (Signer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue yields ******.
func (Signer) LogValue() slog.Value { return slog.StringValue(redacted) }

// Key is the half that may be known.
func (s Signer) Key() (k Key) {
	copy(k[:], s.key.Public().(ed25519.PublicKey))
	return k
}

// Head signs where a chain ends.
func (s Signer) Head(h Head) (string, error) { return s.sign(purposeHead, h) }

// Cut signs that the entries up to h are dropped: what remains begins after it.
func (s Signer) Cut(h Head) (string, error) { return s.sign(purposeCut, h) }

func (s Signer) sign(p purpose, h Head) (string, error) {
	head, err := Canonical(header{Alg: "EdDSA", Key: s.Key(), Typ: p})
	if err != nil {
		return "", err
	}
	payload, err := Canonical(h)
	if err != nil {
		return "", err
	}
	signed := base64url.EncodeToString(head) + "." + base64url.EncodeToString(payload)
	return signed + "." + base64url.EncodeToString(ed25519.Sign(s.key, []byte(signed))), nil
}

// ErrSignature says that a text is no head of ours, or that its signature is wrong.
var ErrSignature = errors.New("chain: not a signed head")

// VerifyHead reads a head and verifies its signature. A mail may have broken the line.
func (k Key) VerifyHead(text string) (Head, error) {
	return k.verify(purposeHead, strings.Join(strings.Fields(text), ""))
}

// VerifyCut reads what [Signer.Cut] wrote.
func (k Key) VerifyCut(text string) (Head, error) { return k.verify(purposeCut, text) }

// verify accepts the one encoding that sign writes: what was read is written again and
// must be equal.
func (k Key) verify(p purpose, text string) (Head, error) {
	signed, last, ok := cutLast(text)
	signature, valid := decode64(last)
	if !ok || !valid || len(signature) != ed25519.SignatureSize {
		return Head{}, ErrSignature
	}
	first, second, _ := strings.Cut(signed, ".")
	want, err := Canonical(header{Alg: "EdDSA", Key: k, Typ: p})
	payload, valid := decode64(second)
	if err != nil || !valid || first != base64url.EncodeToString(want) || !ed25519.Verify(k[:], []byte(signed), signature) {
		return Head{}, ErrSignature
	}
	var h Head
	if err := strictly(payload, &h); err != nil || CheckName(h.Chain) != nil || h.Seq > maxSeq {
		return Head{}, ErrSignature
	}
	return h, nil
}

// SignedBy is the key that a head claims to be signed by. It proves nothing: a verifier
// knows the key from elsewhere.
func SignedBy(text string) (Key, error) {
	first, _, _ := strings.Cut(strings.TrimSpace(text), ".")
	raw, ok := decode64(first)
	var h header
	if !ok || strictly(raw, &h) != nil {
		return Key{}, ErrSignature
	}
	return h.Key, nil
}

func cutLast(text string) (before, after string, ok bool) {
	i := strings.LastIndexByte(text, '.')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}
