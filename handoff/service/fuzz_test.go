package service_test

import (
	"testing"

	"latchkey/handoff/service"
)

// A place in a list that is read has one spelling.
func FuzzListed(f *testing.F) {
	f.Add("")
	f.Add("1763985600-0f3b2c1d4e5f60718293a4b5")
	f.Add("0-000000000000000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := service.ParseListed(text)
		if !ok {
			return
		}
		if again, ok := service.ParseListed(l.String()); !ok || again != l {
			t.Errorf("%q is read as %q, and then as %q", text, l, again)
		}
	})
}
