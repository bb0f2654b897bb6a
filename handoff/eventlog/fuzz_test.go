package eventlog_test

import (
	"testing"

	"latchkey/handoff/eventlog"
)

// A cursor that is read has one spelling.
func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add((&eventlog.Cursor{1: "1700000000000-0", 15: "18446744073709551615-18446744073709551615"}).String())
	f.Fuzz(func(t *testing.T, text string) {
		if c, ok := eventlog.ParseCursor(text); ok && c.String() != text {
			t.Errorf("%q is read as %q", text, c.String())
		}
	})
}
