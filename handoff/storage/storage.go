// Package storage holds the errors that every store contract shares. What a store
// promises stands with each contract: [latchkey/handoff/service], eventlog, trail,
// registry, residents and identity.
//
// # Formats
//
// What a store writes as CBOR begins with a byte that names its format, 1 today; where a
// value is sealed the byte is the first one inside. A format that a program does not know
// is refused with [ErrFormat]. The fields of a stored type have numbers, which are part of
// the format:
//
//   - A new field takes a number that no field of its type ever had: the next one.
//   - The number of a field that was removed is never used again, nor does a number change
//     its type or meaning.
//   - A program leaves out fields that it does not know, and a missing field is zero, so
//     that two versions can run side by side. Where zero would be unsafe, the format changes.
//   - The numbers of enumerations (statuses, acts, types of events, ...) are stored as well:
//     a new one is added at the end.
//   - Structs that are stored as arrays (a date, a point) never change.
//
// redisstore's testdata holds each stored type, number by number, and TestStoredFormats
// compares.
package storage

import "errors"

// ErrConflict says that the grant, or the end of a chain, changed since it was loaded.
// Nothing was written.
var ErrConflict = errors.New("handoff: it changed meanwhile")

// ErrUnknownOutcome says that a commit was sent and its answer was lost: it may have
// happened.
var ErrUnknownOutcome = errors.New("handoff: the outcome of a commit is unknown")

// ErrUnavailable says that the store cannot be reached, or that the retries of a
// contended grant are spent. Asking again later is right.
var ErrUnavailable = errors.New("handoff: the store is unavailable")

// ErrPartitionRefused says that nothing of a partition of the grants is served, since it may be
// older than what was acknowledged. It comes wrapped in ErrUnavailable, and asking again helps only
// when its operator has restored it.
var ErrPartitionRefused = errors.New("handoff: the grant's partition is refused until it is restored")

// ErrFormat says that a stored value, opened where it was sealed, cannot be decoded: a newer
// version of the program wrote it, or a fault of this one. A sealed value that was changed
// outside is ErrSealed.
var ErrFormat = errors.New("handoff: a stored value is in no format that this version reads")

// ErrSealed says that a stored value cannot be opened: it was changed outside, moved
// to another key, or its key is not in the keyset.
var ErrSealed = errors.New("handoff: a stored value cannot be opened")
