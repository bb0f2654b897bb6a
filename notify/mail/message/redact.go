package message

import (
	"fmt"
	"io"
	"log/slog"
)

// Every way in which fmt, slog and encoding/json print a View ends in String:
// a View holds the code, a name and an address.

// String names the kind, purpose and locale.
func (v View) String() string {
	return fmt.Sprintf("mail %q %q %q", string(v.Kind), string(v.Purpose), v.Locale)
}

// Format prints String whatever the verb, so that %+v and %#v show no more.
func (v View) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// LogValue logs String.
func (v View) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalText marshals String: a View inside a logged value is not asked for
// its LogValue.
func (v View) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// String names the language and the sizes.
func (m Mail) String() string {
	return fmt.Sprintf("mail %q text %d bytes html %d bytes", m.Locale, len(m.Text), len(m.HTML))
}

// Format prints String whatever the verb.
func (m Mail) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }

// LogValue logs String.
func (m Mail) LogValue() slog.Value { return slog.StringValue(m.String()) }
