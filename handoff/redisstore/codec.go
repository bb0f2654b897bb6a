package redisstore

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// Sealer encrypts values at rest and binds each to its context (RFC 5116 AEAD).
type Sealer interface {
	Seal(plaintext, context []byte) ([]byte, error)
	Open(sealed, context []byte) ([]byte, error)
}

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorNone, // a newer version's fields: ignored, so that versions can run side by side
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sealRecord is a record as stored: the version in the clear, since the script compares
// it, and the rest sealed for this parcel and version alone.
func (s *Store) sealRecord(h handoff.ParcelHash, v service.Version, r *service.Record) ([]byte, error) {
	plain, err := encoder.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("redisstore: a grant: encoding: %w", err)
	}
	head := versionBytes(v)
	sealed, err := s.sealBytes(keyKind(grantKey(h)), plain, recordContext(h, head))
	if err != nil {
		return nil, err
	}
	return append(head, sealed...), nil
}

func (s *Store) openRecord(h handoff.ParcelHash, stored []byte) (*service.Record, service.Version, error) {
	kind := keyKind(grantKey(h))
	if len(stored) < versionLen {
		return nil, 0, tooShort(kind, len(stored))
	}
	head := stored[:versionLen]
	plain, err := s.unsealBytes(kind, stored[versionLen:], recordContext(h, head))
	if err != nil {
		return nil, 0, err
	}
	r := new(service.Record)
	if err := decode(kind, plain, r); err != nil {
		return nil, 0, err
	}
	v := service.Version(binary.BigEndian.Uint64(head))
	r.Grant.ID = handoff.GrantID{Hash: h, Generation: v.Generation()}
	return r, v, nil
}

func recordContext(h handoff.ParcelHash, version []byte) []byte {
	return append([]byte("grant:"+string(h)+":"), version...)
}

// An event in the log is its grant (12 bytes of hash, 2 of generation; all zero for none)
// and then CBOR.
const eventHead = 14

func encodeEvent(e *handoff.Event) ([]byte, error) {
	body, err := encoder.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("redisstore: encoding an event: %w", err)
	}
	if e.Grant == (handoff.GrantID{}) {
		return append(make([]byte, eventHead), body...), nil
	}
	hash, err := hex.DecodeString(string(e.Grant.Hash))
	if err != nil || len(hash) != eventHead-2 {
		return nil, fmt.Errorf("redisstore: an event needs its grant")
	}
	return append(binary.BigEndian.AppendUint16(hash, uint16(e.Grant.Generation)), body...), nil
}

func decodeEvent(b []byte) (handoff.Event, error) {
	var e handoff.Event
	if len(b) < eventHead {
		return e, fmt.Errorf("redisstore: an event of %d bytes", len(b))
	}
	if err := decoder.Unmarshal(b[eventHead:], &e); err != nil {
		return e, fmt.Errorf("redisstore: decoding an event: %w", err)
	}
	if [eventHead]byte(b) == ([eventHead]byte{}) {
		return e, nil
	}
	e.Grant = handoff.GrantID{
		Hash:       handoff.ParcelHash(hex.EncodeToString(b[:eventHead-2])),
		Generation: int(binary.BigEndian.Uint16(b[eventHead-2:])),
	}
	return e, nil
}

// open reads what is sealed under a key into v. It reports false if nothing is.
func (s *Store) open(key, sealed string, v any) (bool, error) {
	if sealed == "" {
		return false, nil
	}
	plain, err := s.unsealBytes(keyKind(key), []byte(sealed), []byte(key))
	if err != nil {
		return false, err
	}
	return true, decode(keyKind(key), plain, v)
}

// seal is v as it is stored under a key.
func (s *Store) seal(key string, v any) ([]byte, error) {
	plain, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %s: encoding: %w", keyKind(key), err)
	}
	return s.sealBytes(keyKind(key), plain, []byte(key))
}

// The errors of these say which kind of value it is about and at which step it failed, and
// keep their cause. They never hold a key or a value.

func (s *Store) sealBytes(kind string, plain, context []byte) ([]byte, error) {
	sealed, err := s.sealer.Seal(plain, context)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %s: sealing: %w", kind, err)
	}
	return sealed, nil
}

func (s *Store) unsealBytes(kind string, sealed, context []byte) ([]byte, error) {
	plain, err := s.sealer.Open(sealed, context)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: decryption: %w", storage.ErrSealed, kind, err)
	}
	return plain, nil
}

// tooShort is the error of a sealed value that ends within the version before it.
func tooShort(kind string, n int) error {
	return fmt.Errorf("%w: %s: version: the value has %d bytes", storage.ErrSealed, kind, n)
}

func decode(kind string, plain []byte, v any) error {
	if err := decoder.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%w: %s: decoding: %w", storage.ErrFormat, kind, err)
	}
	return nil
}
