package words_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/text/language"

	"latchkey/handoff/words"
)

func folder(text string) fs.FS { return fstest.MapFS{words.File: {Data: []byte(text)}} }

const sample = `
greeting: {en: "Good day, {name}", de: "Guten Tag, {name}"}
left:
  none: {en: Nothing is left., de: Nichts ist übrig.}
  one: &one {en: One stop is left., de: Ein Stopp ist übrig.}
  other: {en: "{n} stops are left.", de: "{n} Stopps sind übrig."}
again: {one: *one, other: {en: "  more ", de: mehr}}
rules:
  - {en: Only at the door., de: Nur an der Tür.}
  - {en: "Only {name} {name} {at_time}.", de: "Nur {at_time} {name}."}
`

func load(t *testing.T, folders ...fs.FS) *words.Vocabulary {
	t.Helper()
	v, err := words.Load(folders...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLoad(t *testing.T) {
	v := load(t, folder(sample), folder("more: {x: {de: Katze, en: cat}}"))
	if got := v.Languages(); !slices.Equal(got, []words.Language{"en", "de"}) {
		t.Errorf("languages %v", got)
	}
	want := []string{"again.one", "again.other", "greeting", "left.none", "left.one", "left.other", "more.x", "rules.0", "rules.1"}
	for _, l := range v.Languages() {
		if got := v.In(l).Keys(); !slices.Equal(got, want) || v.In(l).Language() != l {
			t.Errorf("%s has %v", l, got)
		}
	}
	if v.In("nl") != nil {
		t.Error("there is Dutch")
	}
	en := v.In("en")
	if got := en.List("rules"); !slices.Equal(got, []string{"rules.0", "rules.1"}) {
		t.Errorf("rules are %v", got)
	}
	if got := en.List("greeting"); len(got) > 0 {
		t.Errorf("a sentence is the list %v", got)
	}
	if got := en.Under("left", "more", "gree"); !maps.Equal(got, map[string]string{
		"left.none": "Nothing is left.", "left.one": "One stop is left.", "left.other": "{n} stops are left.", "more.x": "cat",
	}) {
		t.Errorf("under left and more: %v", got)
	}
	if !en.Has("greeting") || en.Has("left") || en.Has("rules.2") {
		t.Error("Has is wrong")
	}
	if _, err := en.Sentence("nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a key that is not there: %v", err)
	}
}

// Each fault is found, and said with its line.
func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                          "EOF",
		"# nothing":                                 "EOF",
		"a: {en: x, de: y}\n---\nb: {}":             "more than one document",
		"a: {en: x, de: y}\nb: {en: x}":             "line 2: b is in [en], want [en de]",
		"a: {de: y}":                                "line 1: a is missing in English",
		"a: {en: x, de: y}\nb: {en: x, nl: y}":      "b is in [en nl], want [en de]",
		"a: {en: x, de: ' '}":                       "a in de: the text is empty",
		"a: {en: x, de: }":                          "a in de is no text",
		"a: {en: x, de: 7}":                         "a in de is no text",
		"a: {en: x, de: [y]}":                       "a in de is no text",
		"a: {en: x, de: y, de: z}":                  "a is there twice in de",
		"a: {en: x, de: y}\na: {en: x, de: y}":      "line 2: a is there twice",
		"a: {b: {en: x, de: y}, b: {en: x, de: y}}": "a.b is there twice",
		"a: {en: 'x {n}', de: y}":                   "a has the placeholders [n] in en and [] in de",
		"a: {en: 'x {n}', de: 'y {m}'}":             "a has the placeholders [n] in en and [m] in de",
		"a: {en: 'x {n', de: 'y {n'}":               "a brace belongs to no placeholder",
		"a: {en: 'x {N}', de: 'y {N}'}":             "a brace belongs to no placeholder",
		"a: {en: 'x {{.N}}', de: y}":                "a brace belongs to no placeholder",
		"a: {zz9: x}":                               "a.zz9 is no language",
		"a: x":                                      "a is neither",
		"a: {}":                                     "a is neither",
		"a: []":                                     "a is neither",
		"a: [x]":                                    "a.0 is neither",
		"a: {b: {en: x, de: y}, c: x}":              "a.c is neither",
		"x":                                         "is neither",
		"a: [":                                      "yaml",
	} {
		if _, err := words.Load(folder(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := words.Load(folder("a: {en: x}"), folder("b: {en: x}\na: {en: y}")); err == nil || !strings.Contains(err.Error(), "line 2: a is there twice") {
		t.Errorf("a key of two folders: %v", err)
	}
	if _, err := words.Load(folder("a: {en: x}\nb: {en: '{'}\nc: {en: '}'}")); err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("two faults: %v", err)
	}
	if _, err := words.Load(fstest.MapFS{}); err == nil {
		t.Error("no file is taken")
	}
	if _, err := words.Load(); err == nil {
		t.Error("no folder is taken")
	}
}

func TestMatch(t *testing.T) {
	v := load(t, folder("a: {nl: x, en: x, de: x}"))
	for locale, want := range map[string]words.Language{
		"de": "de", "de-AT": "de", "en": "en", "en-US": "en", "nl-BE": "nl", "fr": "en", "": "en", "\x00": "en", "de-!": "de", "tlh": "en",
	} {
		if got := v.Closest(locale); got != want {
			t.Errorf("%q: %s, want %s", locale, got, want)
		}
	}
	if got := v.Match(language.French, language.Dutch); got != "nl" {
		t.Errorf("French, or else Dutch: %s", got)
	}
	if got := v.Languages(); !slices.Equal(got, []words.Language{"en", "de", "nl"}) {
		t.Errorf("languages %v", got)
	}
}

func TestFill(t *testing.T) {
	en := load(t, folder(sample)).In("en")
	s, err := en.Sentence("rules.1")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Placeholders(); !slices.Equal(got, []string{"at_time", "name"}) {
		t.Errorf("placeholders %v", got)
	}
	if s.String() != "Only {name} {name} {at_time}." {
		t.Errorf("%q", s)
	}
	all := map[string]string{"name": "{at_time}", "at_time": "<9>"}
	value := func(name string) (string, bool) {
		v, there := all[name]
		return v, there
	}
	if got, err := s.Fill(nil, value); got != "Only {at_time} {at_time} <9>." || err != nil {
		t.Errorf("%q, %v: what was put in is not filled again", got, err)
	}
	if got, err := s.Fill(strings.ToUpper, value); got != "ONLY {at_time} {at_time} <9>." || err != nil {
		t.Errorf("%q, %v: plain text alone is rewritten", got, err)
	}
	delete(all, "at_time")
	if got, err := s.Fill(nil, value); got != "" || err == nil || !strings.Contains(err.Error(), "{at_time}") {
		t.Errorf("%q, %v: without a value", got, err)
	}
	if s, err = en.Sentence("again.other"); err != nil || s.String() != "more" {
		t.Errorf("%q, %v: space around", s, err)
	}
}

// Categories are CLDR's: English and German have one and other, Polish has few and many too.
func TestCounted(t *testing.T) {
	v := load(t, folder(`
x:
  none: {en: none, pl: brak}
  one: {en: one, pl: jeden}
  few: {en: some, pl: kilka}
  many: {en: many, pl: wiele}
  other: {en: more, pl: inne}
y: {one: {en: one, pl: jeden}, other: {en: more, pl: inne}}
`))
	for _, test := range []struct {
		language words.Language
		key      string
		n        int
		want     string
	}{
		{"en", "x", 0, "x.none"},
		{"en", "x", 1, "x.one"},
		{"en", "x", 2, "x.other"},
		{"en", "x", 1000, "x.other"},
		{"en", "x", -1, "x.one"},
		{"pl", "x", 1, "x.one"},
		{"pl", "x", 3, "x.few"},
		{"pl", "x", 5, "x.many"},
		{"pl", "x", 22, "x.few"},
		{"en", "y", 0, "y.other"},
		{"pl", "y", 3, "y.other"},
	} {
		if got := v.In(test.language).Counted(test.key, test.n); got != test.want {
			t.Errorf("%s in %s: %s, want %s", fmt.Sprint(test.n), test.language, got, test.want)
		}
	}
}
