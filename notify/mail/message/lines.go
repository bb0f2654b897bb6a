package message

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"latchkey/handoff"
)

// clean makes s one line that says what it seems to say: no line break (a new
// header, or a forged paragraph), no control character, nothing that turns the
// direction of the text around it, and valid UTF-8 (strings.Map sees to that).
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case ' ' <= r && r <= '~': // the most of every text, and quicker than the tables
			return r
		case unicode.IsControl(r), unicode.In(r, unicode.Zl, unicode.Zp):
			return ' '
		case unicode.Is(unicode.Bidi_Control, r), r == '\uFEFF':
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if strings.Contains(s, "  ") {
		s = strings.Join(strings.Fields(s), " ")
	}
	return s
}

// tail is the end of a parcel's number, marked as such. It is too short to hold six digits.
func tail(id string) string { return "…" + handoff.Tail(clean(id)) }

// columns is the line length that RFC 5322 section 2.1.1 asks for.
const columns = 78

// wrap breaks s into lines of at most columns, words whole. The first line
// begins with prefix and the others are indented by as much.
func wrap(prefix, s string) string {
	indent := utf8.RuneCountInString(prefix)
	var b strings.Builder
	b.WriteString(prefix)
	used := indent
	for i, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = indent
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	return b.String()
}

func underline(with, s string) string {
	return strings.Repeat(with, min(utf8.RuneCountInString(s), columns))
}
