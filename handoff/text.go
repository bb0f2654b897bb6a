package handoff

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Text is what a person wrote, in the one form in which it is kept, shown and compared:
// in NFC, without spaces around it, and without characters that cannot be seen. Direction
// marks and isolates are among these: what surrounds a text gives it its direction, and a
// text must not turn what stands beside it. Zero-width joiners and non-joiners stay where a
// script or an emoji needs them, behind such a character.
func Text(written string) string {
	var before rune
	seen := strings.Map(func(r rune) rune {
		switch {
		case r == zwj || r == zwnj:
			if !joins(before) {
				return -1
			}
		case unicode.Is(unicode.Cf, r) && !unicode.Is(unicode.Prepended_Concatenation_Mark, r):
			return -1
		}
		if !unicode.Is(unicode.Inherited, r) { // an accent is of the script of its letter
			before = r
		}
		return r
	}, norm.NFC.String(written))
	return strings.TrimFunc(norm.NFC.String(seen), func(r rune) bool { return unicode.Is(unicode.Zs, r) })
}

const zwnj, zwj = '\u200c', '\u200d'

// joins reports whether a joiner behind the character can change how it looks.
func joins(r rune) bool {
	switch {
	case unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana):
		return false
	case unicode.In(r, unicode.L, unicode.M): // of a script whose letters join, or a vowel sign or virama
		return true
	}
	return unicode.In(r, unicode.So, unicode.Sk) // emoji, and their skin tones
}

// Blank reports whether a text shows nothing.
func Blank(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && !unicode.Is(fillers, r)
	})
}

// fillers are letters and symbols by their category, and show nothing.
var fillers = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x115f, Hi: 0x1160, Stride: 1}, // Hangul fillers
		{Lo: 0x2800, Hi: 0x2800, Stride: 1}, // a Braille pattern without dots
		{Lo: 0x3164, Hi: 0x3164, Stride: 1},
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1},
	},
}

// BreaksLine reports whether a character can end a line, or is another control character:
// in what is one line for people, for a log and for a mail's header it has no place.
func BreaksLine(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' // NEL is a control character
}

// MailDomain writes the domain of a mail address in ASCII (RFC 5891), as every mail server
// knows it. Hyphens may stand anywhere but at the ends of a label: registries have given
// out names with two in third place.
func MailDomain(domain string) (string, error) {
	ascii, err := mailDomains.ToASCII(domain)
	if err != nil || domain == "" || strings.HasSuffix(ascii, ".") {
		return "", ErrDomain
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return "", ErrDomain
		}
	}
	return ascii, nil
}

var mailDomains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true), idna.CheckHyphens(false))
