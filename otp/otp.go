// Package otp mints, matches and guards six-digit one-time codes.
//
// A code is HOTP (RFC 4226): a truncated HMAC-SHA-1 of a counter under a random
// secret. The package knows nothing of parcels, attempts or expiry; who may try a
// code, how often and until when is decided by its caller. What it does promise is
// that neither a Code nor a Secret can be printed, logged or marshalled as text by
// accident: every such path yields ******, and [Code.Reveal] is the one way out.
package otp

import (
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"

	potp "github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

const (
	// Digits is the length of every code. RFC 4226 section 5.3 asks for at least six.
	Digits = 6

	// secretSize is 160 bits, the length that RFC 4226 section 4 (R6) recommends.
	secretSize = 20

	redacted = "******"
)

var (
	// ErrMalformed says that a text is not exactly six ASCII digits.
	ErrMalformed = errors.New("otp: a code is exactly six digits")

	// ErrSecret says that a secret is missing or of the wrong size. An empty secret
	// would yield the same code for everybody, so it is refused and never defaulted.
	ErrSecret = errors.New("otp: a secret is exactly 20 random bytes")
)

// Secret is the shared secret of RFC 4226, 160 random bits. The zero value is no
// secret at all: it mints nothing.
type Secret struct{ key [secretSize]byte }

// NewSecret reads a secret from random, which must be a cryptographic source.
func NewSecret(random io.Reader) (Secret, error) {
	var s Secret
	if _, err := io.ReadFull(random, s.key[:]); err != nil {
		return Secret{}, fmt.Errorf("otp: reading a new secret: %w", err)
	}
	if s.IsZero() {
		return Secret{}, ErrSecret
	}
	return s, nil
}

// IsZero reports whether s holds no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// At returns the code of one counter value, HOTP(K, C) of RFC 4226 section 5.3.
// The error is ErrSecret when s is the zero Secret.
func (s Secret) At(counter uint64) (Code, error) {
	if s.IsZero() {
		return Code{}, ErrSecret
	}
	text, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString(s.key[:]), counter,
		hotp.ValidateOpts{Digits: potp.DigitsSix, Algorithm: potp.AlgorithmSHA1})
	if err != nil {
		return Code{}, ErrSecret
	}
	return Parse(text)
}

// MarshalBinary returns the secret's 20 bytes, for a store that seals them.
func (s Secret) MarshalBinary() ([]byte, error) {
	if s.IsZero() {
		return nil, ErrSecret
	}
	return s.key[:], nil
}

// UnmarshalBinary is the inverse of MarshalBinary.
func (s *Secret) UnmarshalBinary(b []byte) error {
	if len(b) != secretSize {
		return ErrSecret
	}
	copy(s.key[:], b)
	if s.IsZero() {
		return ErrSecret
	}
	return nil
}

// Format prints ****** for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText yields ******, so that JSON and its kin cannot leak a secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue yields ******.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Code is six digits. The zero value is no code, and equals none.
type Code struct{ digits [Digits]byte }

// Parse reads exactly six ASCII digits: no spaces, no signs, no other scripts'
// digits. The error is ErrMalformed and does not repeat the text.
func Parse(text string) (Code, error) {
	var c Code
	if len(text) != Digits {
		return Code{}, ErrMalformed
	}
	for i := range Digits {
		if text[i] < '0' || text[i] > '9' {
			return Code{}, ErrMalformed
		}
		c.digits[i] = text[i]
	}
	return c, nil
}

// IsZero reports whether c is no code.
func (c Code) IsZero() bool { return c == Code{} }

// Equal compares two codes in constant time. No code equals none, itself included.
func (c Code) Equal(other Code) bool {
	return subtle.ConstantTimeCompare(c.digits[:], other.digits[:]) == 1 && !c.IsZero()
}

// Slip reports whether said is one slip of the pen away from c: one digit wrong, or two
// neighbours swapped. At most 59 of the million codes are. The digits are compared in
// constant time; no code is a slip of none.
func (c Code) Slip(said Code) bool {
	differ, swapped := 0, 0
	for i := range Digits {
		differ += 1 - subtle.ConstantTimeByteEq(c.digits[i], said.digits[i])
		if i > 0 {
			swapped |= subtle.ConstantTimeByteEq(c.digits[i-1], said.digits[i]) & subtle.ConstantTimeByteEq(c.digits[i], said.digits[i-1]) &
				(1 - subtle.ConstantTimeByteEq(c.digits[i-1], c.digits[i]))
		}
	}
	one, two := subtle.ConstantTimeEq(int32(differ), 1), subtle.ConstantTimeEq(int32(differ), 2)
	return one|two&swapped == 1 && !c.IsZero() && !said.IsZero()
}

// Reveal returns the digits in the clear, for the customer's mail and page alone.
func (c Code) Reveal() string {
	if c.IsZero() {
		return ""
	}
	return string(c.digits[:])
}

// Format prints ****** for every verb.
func (c Code) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText yields ******, so that JSON and its kin cannot leak a code.
func (c Code) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue yields ******.
func (c Code) LogValue() slog.Value { return slog.StringValue(redacted) }
