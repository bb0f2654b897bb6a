package mail

import (
	"strings"
	"testing"
)

// An address that is read stays one line and one recipient, whoever wrote it.
func FuzzAddress(f *testing.F) {
	for _, a := range []string{"a@b.example", "a..b@docomo.example", "Ü@bücher.example", "a@b.example\r\nBcc: c@d.example", `"a b"@c.example`, "<a@b.example>", "a@[127.0.0.1]"} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAddress(text)
		if err != nil {
			return
		}
		if a.Address == "" || strings.ContainsAny(a.String(), "\r\n") || strings.ContainsAny(domainOf(a), " <>,;:\"") || !isASCII(domainOf(a)) {
			t.Errorf("%q is read as %q", text, a.String())
		}
	})
}
