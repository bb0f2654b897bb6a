package notify

import (
	"context"
	"errors"
	"time"

	"latchkey/handoff/storage"
)

// Reason says why a delivery failed. It is kept in the log, counted and shown to
// operators, so it holds no personal data: never a peer's own words, since mail
// servers repeat addresses and web servers repeat whatever they like.
type Reason struct {
	// Class is one of few, to count by.
	Class string

	// Detail is what the protocol itself has a code for, such as "550 5.1.1 at RCPT".
	Detail string
}

func (r Reason) String() string {
	if r.Detail == "" {
		return r.Class
	}
	return r.Class + ": " + r.Detail
}

// Temporary says why an attempt failed; the delivery is tried again. What err says is
// kept for errors.Is and errors.As and never printed.
func Temporary(err error, r Reason) error { return &failure{reason: r, cause: err} }

// Permanent is Temporary where trying again cannot help: the delivery is buried at once.
func Permanent(err error, r Reason) error { return &failure{reason: r, cause: err, permanent: true} }

type failure struct {
	reason    Reason
	cause     error
	permanent bool
	due       time.Time
}

func (f *failure) Error() string { return "notify: " + f.reason.String() }

func (f *failure) Unwrap() error { return f.cause }

// Later says that it is too early for an event: it comes again at the given time, which
// is no failure and should not be more than a day after it first was too early.
func Later(at time.Time) error {
	return &failure{reason: Reason{Class: "later"}, due: at}
}

func dueAt(err error) (at time.Time, later bool) {
	var f *failure
	if errors.As(err, &f) {
		at = f.due
	}
	return at, !at.IsZero()
}

// IsPermanent reports whether err was made by Permanent.
func IsPermanent(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.permanent
}

// ReasonOf is the reason that err was given. Of an error that was given none it tells
// the class only, since its text may quote anything.
func ReasonOf(err error) Reason {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f.reason
	case errors.Is(err, storage.ErrSealed):
		return Reason{Class: "sealed"}
	case errors.Is(err, storage.ErrFormat):
		return Reason{Class: "format"}
	case errors.Is(err, context.DeadlineExceeded):
		return Reason{Class: "timeout"}
	case errors.Is(err, context.Canceled):
		return Reason{Class: "interrupted"}
	case errors.Is(err, storage.ErrUnavailable):
		return Reason{Class: "store"}
	}
	return Reason{Class: "other"}
}
