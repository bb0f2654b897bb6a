package identity_test

import (
	"testing"

	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
)

// What was not signed is not read, and what was signed has one spelling.
func FuzzSigned(f *testing.F) {
	names := handofftest.Namer{}
	f.Add(identity.Sign(names, "a", []byte("body")))
	f.Add("AAAA\nAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if body, ok := identity.ReadSigned(names, "a", text); ok && identity.Sign(names, "a", body) != text {
			t.Errorf("%q is read as the signed text of %q", text, body)
		}
		if body, ok := identity.ReadSigned(names, "b", identity.Sign(names, "a", []byte(text))); ok {
			t.Errorf("%q was signed in another domain", body)
		}
	})
}
