package webtest

import (
	"strings"

	"github.com/chromedp/cdproto/emulation"
)

// Zone is where the reader's clock is.
func (b *Browser) Zone(name string) {
	b.T.Helper()
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name})
}

// Says is the value of an expression, as text.
func (b *Browser) Says(expression string) string {
	b.T.Helper()
	return Eval[string](b, "String("+expression+")")
}

// Await waits until an expression says something.
func (b *Browser) Await(expression, want string) {
	b.T.Helper()
	var got string
	b.Until(expression+" to say "+want, func() bool {
		said, err := b.glance("String(" + expression + ")")
		if got = said; err != nil {
			got = err.Error()
		}
		return err == nil && strings.Contains(got, want)
	}, func() string { return got })
}

// TabTo presses the tab key until the element with an id has the focus.
func (b *Browser) TabTo(id string) {
	b.T.Helper()
	for range 60 {
		b.Keys("\t")
		if b.Says("document.activeElement.id") == id {
			return
		}
	}
	b.T.Fatalf("the tab key does not lead to %s", id)
}

// Fits looks at a page of an origin in each language, in the widths and colours that
// people have (see Looks).
func (b *Browser) Fits(name, origin, path string) {
	b.T.Helper()
	for _, lang := range []string{"de", "en"} {
		b.Cookie(origin, "latchkey-language", lang)
		b.Open(origin + path)
		if got := b.Says("document.documentElement.lang"); got != lang {
			b.T.Errorf("%s is in %s, want %s", name, got, lang)
		}
		b.Looks(name+"-"+lang, 320, 360, 1280)
	}
}
