package door

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// The purposes of a signature. Each is the first element of the external AAD (RFC
// 9052 section 4.3), so that no message can ever be taken for one of another kind.
const (
	permitPurpose     = "latchkey/permit/v1"
	recallPurpose     = "latchkey/recall/v1"
	reportPurpose     = "latchkey/report/v1"
	revocationPurpose = "latchkey/revocation/v1"
	knownPurpose      = "latchkey/known-keys/v1"
)

const signatureSize = 64

// maxItems is how long a list in a message may be; what a message means bounds it further.
const maxItems = 64

var (
	encMode = must(encOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  max(maxRevoked, maxItems),
		MaxMapPairs:       16,
	}.DecMode())
)

// encOptions are the core deterministic encoding of RFC 8949 section 4.2.1. What is
// empty is written as empty and never as null, so that null can not stand for it.
func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options fixed at compile time
	}
	return v
}

// bound is the external AAD of a signature (RFC 9052 section 4.3): its purpose, then what
// both sides know and do not send, such as the door's id.
func bound(purpose string, known ...any) []byte {
	return must(encMode.Marshal(append([]any{purpose}, known...)))
}

// headers are the only ones that this package writes or reads.
func headers(kid KeyID) cose.Headers {
	return cose.Headers{
		Protected: cose.ProtectedHeader{
			cose.HeaderLabelAlgorithm: cose.AlgorithmEdDSA,
			cose.HeaderLabelKeyID:     kid[:],
		},
		Unprotected: cose.UnprotectedHeader{},
	}
}

// sign makes a tagged COSE_Sign1 (RFC 9052 section 4.2) of claims.
func sign(key PrivateKey, claims any, aad []byte) ([]byte, error) {
	if key.IsZero() {
		return nil, ErrKey
	}
	payload, err := encMode.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("door: encoding claims: %w", err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmEdDSA, key.ed25519)
	if err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	raw, err := cose.Sign1(nil, signer, headers(key.Public().ID()), payload, aad) // Ed25519 needs no randomness
	if err != nil {
		return nil, fmt.Errorf("door: signing: %w", err)
	}
	return raw, nil
}

// envelope is a COSE_Sign1 of the right form, whose signature is not verified yet.
type envelope struct {
	kid KeyID
	msg cose.Sign1Message
}

// parse reads a message of at most limit bytes. Every message has exactly one
// accepted encoding, the one that sign writes: what was read is written again and
// must be equal. This one rule refuses foreign headers (above all crit, which go-cose lets
// pass), other algorithms, unprotected headers, longer forms of a length, and other
// differences that no list of rules would name.
func parse(raw []byte, limit int) (*envelope, error) {
	if len(raw) > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", Malformed, len(raw), limit)
	}
	var e envelope
	if err := e.msg.UnmarshalCBOR(raw); err != nil {
		return nil, fmt.Errorf("%w: not a COSE_Sign1", Malformed)
	}
	kid, ok := e.msg.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if !ok || len(kid) != len(e.kid) || len(e.msg.Signature) != signatureSize {
		return nil, fmt.Errorf("%w: key id or signature", Malformed)
	}
	copy(e.kid[:], kid)

	again := cose.Sign1Message{Headers: headers(e.kid), Payload: e.msg.Payload, Signature: e.msg.Signature}
	if b, err := again.MarshalCBOR(); err != nil || !bytes.Equal(b, raw) {
		return nil, fmt.Errorf("%w: headers or encoding", Malformed)
	}
	return &e, nil
}

// claims decodes the payload. As with parse, only the deterministic encoding is
// accepted.
func (e *envelope) claims(into any) error {
	if err := decMode.Unmarshal(e.msg.Payload, into); err != nil {
		return fmt.Errorf("%w: claims", Malformed)
	}
	if b, err := encMode.Marshal(into); err != nil || !bytes.Equal(b, e.msg.Payload) {
		return fmt.Errorf("%w: claims are not deterministically encoded", Malformed)
	}
	return nil
}

// verify checks the signature. The algorithm is the key's, never the message's.
func (e *envelope) verify(key PublicKey, aad []byte) error {
	verifier, err := cose.NewVerifier(cose.AlgorithmEdDSA, key.ed25519())
	if err != nil {
		return fmt.Errorf("%w: key", BadSignature)
	}
	if e.msg.Verify(aad, verifier) != nil {
		return BadSignature
	}
	return nil
}
