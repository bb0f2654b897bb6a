package handoff

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// A parcel has one id and many labels. A scanner gives its symbology identifier and
// application identifiers along, a phone reads a web address from a QR code, and people
// type the groups that are printed. [Policy.Label] reads them all as one id, and every
// entrance uses it: what is hashed, compared, claimed by a prefix and shown is that id.
//
// What is read without a carrier's own rule:
//
//	(00)106141412345678908             GS1 element string, in brackets     106141412345678908
//	]C100106141412345678908            as scanners give it (FNC1 is GS)    106141412345678908
//	https://id.gs1.org/00/10614...     GS1 Digital Link                    106141412345678908
//	00106141412345678908               20 digits that begin with 00        106141412345678908
//	rr 473 124 829 gb                  UPU S10                             RR473124829GB
//	anything else                      without spaces                      as it is
//
// The check digit of the first five is checked. That of 18 digits alone is not: carriers
// number parcels in 18 digits of their own (Swiss Post does), of which nine in ten would
// be refused. Where they are SSCCs, the policy says so.

// MaxLabel is how many bytes a label may have as it is read.
const MaxLabel = 512

// LabelRule is what the policy says about a carrier's parcel ids.
type LabelRule struct {
	// Pattern is what an id looks like, whole. Where it is set nothing is guessed: the
	// first reading that it matches is the id, and what it does not match is refused.
	Pattern LabelPattern `json:"pattern,omitzero"`

	// CheckDigit names the rule for the id's check digit: "sscc" for ids of 18 digits,
	// "s10" for ids of the form AA999999999AA. Empty: as above, and none where a pattern is set.
	CheckDigit string `json:"check_digit,omitempty"`
}

// LabelPattern is an RE2 regular expression that a whole id must match. The zero value
// is no pattern.
type LabelPattern struct {
	text string
	re   *regexp.Regexp
}

// ParseLabelPattern reads a pattern. The error says what is wrong with it.
func ParseLabelPattern(text string) (LabelPattern, error) {
	if _, err := regexp.Compile(text); err != nil { // alone, so that it cannot break out of the group
		return LabelPattern{}, err
	}
	re, err := regexp.Compile(`\A(?:` + text + `)\z`)
	return LabelPattern{text: text, re: re}, err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *LabelPattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParseLabelPattern(string(text))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (p LabelPattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// Label is the id of the parcel whose label was read, for one carrier. The reason is
// [ParcelMalformed] where the text is no id of the carrier's parcels, and
// [ParcelCheckDigit] where it is one but for its check digit; else it is empty.
// Reading an id again gives the same id.
func (p *Policy) Label(carrier, read string) (id string, reason Reason) {
	rule := p.ParcelIDs[carrier]
	l, ok := readLabel(read)
	if !ok {
		return "", ParcelMalformed
	}
	if rule.Pattern.re != nil {
		id, reason = l.matching(rule.Pattern.re)
	} else {
		id, reason = l.guessed()
	}
	if reason == "" && !rule.digitHolds(id) {
		reason = ParcelCheckDigit
	}
	if reason != "" {
		return "", reason
	}
	return id, ""
}

// CheckLabel holds a text to what any carrier's label can be. The error is [ErrLabel].
func CheckLabel(read string) error {
	if _, ok := readLabel(read); !ok {
		return ErrLabel
	}
	return nil
}

// Labels are the ids that a label can mean: one where its carrier is known, else one for
// each carrier's rule. The reason says why there is none.
func (p *Policy) Labels(carrier, read string) (ids []string, reason Reason) {
	id, reason := p.Label(carrier, read)
	if reason == "" {
		ids = append(ids, id)
	}
	if carrier == "" {
		for other := range p.ParcelIDs {
			if id, failed := p.Label(other, read); failed == "" && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > 0 {
		return ids, ""
	}
	return nil, reason
}

// label is a text as it was read, taken apart.
type label struct {
	text     string // without spaces and what a scanner adds; no id where only sscc is
	sscc     string // 18 digits, where the text says or looks as if it were an SSCC
	explicit bool   // the text says that it is an SSCC
}

// readLabel takes a text apart. It reports false where nothing in it is an id.
func readLabel(read string) (l label, ok bool) {
	if len(read) > MaxLabel || !utf8.ValidString(read) {
		return label{}, false
	}
	text, gs1 := withoutSymbology(tidy(read))
	switch {
	case hasScheme(text):
		l.sscc, l.explicit = digitalLink(text), true
		return l, l.sscc != ""
	case strings.HasPrefix(text, "("):
		l.sscc, l.explicit = bracketed(text), true
		return l, l.sscc != ""
	case gs1 || strings.Contains(text, fnc1):
		if l.sscc = elements(text); l.sscc != "" {
			l.explicit = true
			return l, true
		}
		text = strings.Trim(text, fnc1)
	}
	l.text = text
	if len(text) == 2+ssccLen && strings.HasPrefix(text, "00") && digits(text) {
		l.sscc = text[2:]
	}
	return l, CheckID(text) == nil
}

// matching is the first reading that the pattern matches. Letters that people type small
// are capitals, unless the pattern knows small ones only.
func (l *label) matching(pattern *regexp.Regexp) (string, Reason) {
	fits := func(id string) bool { return CheckID(id) == nil && pattern.MatchString(id) }
	if l.sscc != "" && ssccHolds(l.sscc) && fits(l.sscc) {
		return l.sscc, ""
	}
	for _, id := range []string{strings.ToUpper(l.text), l.text} {
		if fits(id) {
			return id, ""
		}
	}
	if l.sscc != "" && !ssccHolds(l.sscc) && fits(l.sscc) {
		return "", ParcelCheckDigit
	}
	return "", ParcelMalformed
}

func (l *label) guessed() (string, Reason) {
	switch upper := strings.ToUpper(l.text); {
	case l.sscc != "" && ssccHolds(l.sscc):
		return l.sscc, ""
	case l.sscc != "":
		return "", ParcelCheckDigit
	case looksLikeS10(upper) && s10Holds(upper):
		return upper, ""
	case looksLikeS10(upper):
		return "", ParcelCheckDigit
	}
	return l.text, ""
}

// digitHolds reports whether the id has the check digit that the rule asks for.
func (r *LabelRule) digitHolds(id string) bool {
	switch r.CheckDigit {
	case "sscc":
		return len(id) != ssccLen || !digits(id) || ssccHolds(id)
	case "s10":
		return !s10Shape.MatchString(id) || s10Holds(id)
	}
	return true
}

// tidy takes out what people and programs put between an id's characters without meaning
// to: spaces, and characters that cannot be seen. It makes the wide forms of East Asian
// keyboards narrow. A line break or a tab inside is left where it is: that is two labels.
func tidy(read string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Zs, r), unicode.Is(unicode.Cf, r):
			return -1
		case r >= '！' && r <= '～':
			return r - '！' + '!'
		}
		return r
	}, strings.TrimFunc(read, func(r rune) bool { return r != fnc1Rune && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r)) }))
}

// FNC1 between the elements of a GS1 symbol arrives as the control character GS.
const (
	fnc1     = "\x1d"
	fnc1Rune = '\x1d'
)

// withoutSymbology takes off the identifier that a scanner may put before what it read
// (ISO/IEC 15424): a ], a letter and a modifier. It tells whether the symbol was one of GS1's.
func withoutSymbology(text string) (rest string, gs1 bool) {
	if len(text) < 3 || text[0] != ']' {
		return text, false
	}
	switch text[1:3] {
	case "C1", "d2", "Q3", "J1", "e0", "e1", "e2":
		gs1 = true
	}
	return text[3:], gs1
}

func hasScheme(text string) bool {
	scheme, _, found := strings.Cut(text, "://")
	return found && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// digitalLink is the SSCC that a GS1 Digital Link ends in, on whatever host; empty if none.
func digitalLink(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	parts := strings.Split(strings.TrimRight(u.Path, "/"), "/")
	if len(parts) < 3 {
		return ""
	}
	key, value := parts[len(parts)-2], parts[len(parts)-1]
	if (key != "00" && key != "sscc") || !isSSCC(value) {
		return ""
	}
	return value
}

var bracketedSSCC = regexp.MustCompile(`\(00\)([0-9]{18})(?:\(|$)`)

// bracketed is the SSCC of an element string as it is printed below a barcode.
func bracketed(text string) string {
	if m := bracketedSSCC.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// elements is the SSCC among the elements of a GS1 symbol; empty if there is none. Elements
// of the lengths below follow each other directly; any other ends with FNC1.
func elements(text string) string {
	for text = strings.TrimLeft(text, fnc1); len(text) >= 2; text = strings.TrimLeft(text, fnc1) {
		most := len(text)
		if n, known := elementLen[text[:2]]; known {
			if n > most {
				return ""
			}
			most = n
		}
		element := text[:most]
		if i := strings.Index(element, fnc1); i >= 0 {
			element = element[:i]
		}
		if strings.HasPrefix(element, "00") {
			if value := element[2:]; isSSCC(value) {
				return value
			}
			return ""
		}
		text = text[len(element):]
	}
	return ""
}

// elementLen is the length of elements, with their identifiers, by the first two digits
// (GS1 General Specifications, element strings of predefined length).
var elementLen = func() map[string]int {
	lengths := map[string]int{"00": 20, "01": 16, "02": 16, "03": 16, "04": 18, "20": 4, "41": 16}
	for _, ai := range []string{"11", "12", "13", "14", "15", "16", "17", "18", "19"} {
		lengths[ai] = 8
	}
	for _, ai := range []string{"31", "32", "33", "34", "35", "36"} {
		lengths[ai] = 10
	}
	return lengths
}()

const ssccLen = 18

func isSSCC(text string) bool { return len(text) == ssccLen && digits(text) }

func digits(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

// ssccHolds reports whether the last of 18 digits is the check digit of those before:
// modulo 10, with weights 3 and 1 from the right.
func ssccHolds(id string) bool {
	sum := 0
	for i := range len(id) {
		d := int(id[i] - '0')
		if (len(id)-i)%2 == 0 {
			d *= 3
		}
		sum += d
	}
	return sum%10 == 0
}

var s10Shape = regexp.MustCompile(`\A[A-Z]{2}[0-9]{9}[A-Z]{2}\z`)

// s10Services are the first letters of the service indicators that UPU S10 has given a
// meaning. Those that it reserves are not guessed to be of the UPU.
const s10Services = "ABCDEGHLMNPQRUVZ"

// looksLikeS10 reports whether an id can be one of UPU S10: the shape, a service and a
// country that there are.
func looksLikeS10(id string) bool {
	if !s10Shape.MatchString(id) || !strings.Contains(s10Services, id[:1]) {
		return false
	}
	country, err := language.ParseRegion(id[11:])
	return err == nil && country.IsCountry() && country.String() == id[11:]
}

// s10Holds reports whether the ninth digit is the check digit of the eight before: modulo
// 11, with weights of their own.
func s10Holds(id string) bool {
	sum := 0
	for i, weight := range []int{8, 6, 4, 2, 3, 5, 9, 7} {
		sum += weight * int(id[2+i]-'0')
	}
	check := 11 - sum%11
	switch check {
	case 10:
		check = 0
	case 11:
		check = 5
	}
	return int(id[10]-'0') == check
}

// Tail is the end of a parcel's id by which people tell two parcels apart: its last four
// characters, and at most half of it, so that no list tells a whole id.
func Tail(id string) string {
	r := []rune(id)
	return string(r[len(r)-min(4, len(r)/2):])
}
