package door

import (
	"fmt"
	"slices"
)

// SignMessage signs claims, a value whose CBOR is a map, for a purpose of another room: a
// tagged COSE_Sign1 (RFC 9052) by the same rules as a permit, whose external AAD is the CBOR
// array of the purpose alone. The same claims always give the same bytes. The purpose must be
// none of this package's, so that no message is ever taken for a permit. The error is ErrKey
// for no key.
func SignMessage(key PrivateKey, purpose string, claims any) ([]byte, error) {
	if err := foreign(purpose); err != nil {
		return nil, err
	}
	return sign(key, claims, bound(purpose))
}

// OpenMessage reads and verifies what SignMessage made, at most limit bytes, by one of the keys,
// and decodes its claims into a pointer. It returns the id of the key. Every error but that of a
// purpose wraps a Refusal: Malformed, UnknownKey or BadSignature.
func OpenMessage(raw []byte, limit int, purpose string, keys KeySet, claims any) (KeyID, error) {
	if err := foreign(purpose); err != nil {
		return KeyID{}, err
	}
	e, err := parse(raw, limit)
	if err != nil {
		return KeyID{}, err
	}
	i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.ID() == e.kid })
	if i < 0 {
		return KeyID{}, fmt.Errorf("%w: signed by %s", UnknownKey, e.kid)
	}
	if err := e.verify(keys[i], bound(purpose)); err != nil {
		return KeyID{}, err
	}
	return e.kid, e.claims(claims)
}

func foreign(purpose string) error {
	if slices.Contains([]string{permitPurpose, recallPurpose, reportPurpose, revocationPurpose, knownPurpose}, purpose) {
		return fmt.Errorf("door: %s is a purpose of this package", purpose)
	}
	return nil
}
