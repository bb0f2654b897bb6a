// Package headers is what every answer of the service tells a browser that it must not do.
package headers

import "net/http"

// Policy is the Content-Security-Policy (CSP level 3) of an answer that is no page: nothing
// is loaded or run, and nothing may frame it.
const Policy = "default-src 'none'; frame-ancestors 'none'"

// All are the headers. A page replaces those that it needs otherwise, such as its policy.
var All = []struct{ Name, Value string }{
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Content-Security-Policy", Policy},
	{"Cache-Control", "no-store"},
	{"X-Frame-Options", "DENY"}, // for browsers that do not read frame-ancestors
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
}

// Set sets all of them.
func Set(h http.Header) {
	for _, header := range All {
		h.Set(header.Name, header.Value)
	}
}
