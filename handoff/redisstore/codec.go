package redisstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

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

// format is the first byte of whatever is stored as CBOR or sealed: as the first byte inside
// of what is sealed. The rule of formats stands in package storage.
const format = 1

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
	head := versionBytes(v)
	if r.Alias != nil {
		r = &service.Record{Alias: r.Alias, Commits: r.Commits} // the grant's id is the key
	}
	sealed, err := s.sealValue(keyKind(grantKey(h)), r, recordContext(h, head))
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
	r := new(service.Record)
	if err := s.unsealValue(kind, stored[versionLen:], recordContext(h, head), r); err != nil {
		return nil, 0, err
	}
	v := service.Version(binary.BigEndian.Uint64(head))
	r.Grant.ID = handoff.GrantID{Hash: h, Generation: v.Generation()}
	return r, v, nil
}

// openStanding reads what stands at a parcel's key; nothing, if it is empty.
func (s *Store) openStanding(h handoff.ParcelHash, stored []byte) (service.Standing, error) {
	if len(stored) == 0 {
		return service.Standing{}, nil
	}
	r, v, err := s.openRecord(h, stored)
	if err != nil {
		return service.Standing{}, err
	}
	return service.StandingOf(r, v), nil
}

func recordContext(h handoff.ParcelHash, version []byte) []byte {
	return append([]byte("grant:"+string(h)+":"), version...)
}

// An event in the log is the format, its grant (12 bytes of hash, 2 of generation; all zero
// for none) and then CBOR.
const (
	hashLen   = 12
	eventHead = 1 + hashLen + 2
)

func encodeEvent(e *handoff.Event) ([]byte, error) {
	body, err := encoder.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("redisstore: log: encoding: %w", err)
	}
	head := make([]byte, 1, eventHead+len(body))
	head[0] = format
	if e.Grant == (handoff.GrantID{}) {
		return append(head[:eventHead], body...), nil
	}
	hash, err := hex.DecodeString(string(e.Grant.Hash))
	if err != nil || len(hash) != hashLen {
		return nil, fmt.Errorf("redisstore: log: encoding: an event needs its grant")
	}
	head = binary.BigEndian.AppendUint16(append(head, hash...), uint16(e.Grant.Generation))
	return append(head, body...), nil
}

func decodeEvent(b []byte) (e handoff.Event, err error) {
	body, err := ofFormat("log", b)
	if err != nil {
		return e, err
	}
	if len(b) < eventHead {
		return e, fmt.Errorf("%w: log: decoding: an event of %d bytes", storage.ErrFormat, len(b))
	}
	if err := unmarshal("log", b[eventHead:], &e); err != nil {
		return e, err
	}
	if id := body[:eventHead-1]; !bytes.Equal(id, make([]byte, eventHead-1)) {
		e.Grant = handoff.GrantID{
			Hash:       handoff.ParcelHash(hex.EncodeToString(id[:hashLen])),
			Generation: int(binary.BigEndian.Uint16(id[hashLen:])),
		}
	}
	return e, nil
}

// open reads what is sealed under a key into v. It reports false if nothing is.
func (s *Store) open(key, sealed string, v any) (bool, error) {
	if sealed == "" {
		return false, nil
	}
	if err := s.unsealValue(keyKind(key), []byte(sealed), []byte(key), v); err != nil {
		return false, err
	}
	return true, nil
}

// seal is v as it is stored under a key.
func (s *Store) seal(key string, v any) ([]byte, error) {
	return s.sealValue(keyKind(key), v, []byte(key))
}

// The errors of what follows say which kind of value it was and at which step it failed,
// and keep their cause. They never hold a key or a value.

func (s *Store) sealValue(kind string, v any, context []byte) ([]byte, error) {
	plain, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %s: encoding: %w", kind, err)
	}
	return s.sealBytes(kind, plain, context)
}

func (s *Store) unsealValue(kind string, sealed, context []byte, v any) error {
	plain, err := s.unsealBytes(kind, sealed, context)
	if err != nil {
		return err
	}
	return unmarshal(kind, plain, v)
}

func (s *Store) sealBytes(kind string, plain, context []byte) ([]byte, error) {
	sealed, err := s.sealer.Seal(append([]byte{format}, plain...), context)
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
	return ofFormat(kind, plain)
}

// tooShort is the error of a sealed value that ends within the version before it.
func tooShort(kind string, n int) error {
	return fmt.Errorf("%w: %s: version: the value has %d bytes", storage.ErrSealed, kind, n)
}

// encode is v as it is stored where it is not sealed.
func encode(kind string, v any) ([]byte, error) {
	b, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %s: encoding: %w", kind, err)
	}
	return append([]byte{format}, b...), nil
}

func decode(kind string, stored []byte, v any) error {
	body, err := ofFormat(kind, stored)
	if err != nil {
		return err
	}
	return unmarshal(kind, body, v)
}

// ofFormat is what follows the format byte.
func ofFormat(kind string, b []byte) ([]byte, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("%w: %s: format: the value is empty", storage.ErrFormat, kind)
	case b[0] != format:
		return nil, fmt.Errorf("%w: %s: format %d", storage.ErrFormat, kind, b[0])
	}
	return b[1:], nil
}

func unmarshal(kind string, body []byte, v any) error {
	if err := decoder.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %s: decoding: %w", storage.ErrFormat, kind, err)
	}
	return nil
}

// plainFormat begins every plain text that a key holds: one digit and a space. A text of another
// format is refused by the kind of what it is, and never echoed.
const plainFormat = "1 "

// plain is what a plain text says after its format.
func plain(kind, text string) (string, error) {
	said, ok := strings.CutPrefix(text, plainFormat)
	if !ok {
		return "", fmt.Errorf("%w: %s: format", storage.ErrFormat, kind)
	}
	return said, nil
}
