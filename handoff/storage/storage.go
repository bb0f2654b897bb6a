// Package storage holds the errors that every store contract shares. What a store
// promises stands with each contract: [latchkey/handoff/service], eventlog, trail,
// registry, residents and identity.
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

// ErrFormat says that a stored value, opened where it was sealed, cannot be read: a newer
// version of the program wrote it, or an error of the program did. It was not changed
// outside.
var ErrFormat = errors.New("handoff: a stored value is in no format that this version reads")

// ErrSealed says that a stored value cannot be opened: it was changed outside, moved
// to another key, or its key is not in the keyset.
var ErrSealed = errors.New("handoff: a stored value cannot be opened")
