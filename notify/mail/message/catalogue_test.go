package message

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"latchkey/handoff/words"
)

// file returns the words of the mails, and a folder that has them changed.
func file(t *testing.T) (string, func(string) fs.FS) {
	t.Helper()
	data, err := fs.ReadFile(files, words.File)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), func(changed string) fs.FS { return fstest.MapFS{words.File: {Data: []byte(changed)}} }
}

// Each text of each language is taken away and misspelt: the catalogue must name every one
// of them, or a customer would find the gap.
func TestNoTextMayBeMissing(t *testing.T) {
	text, folder := file(t)
	v, err := words.Load(folder(text))
	if err != nil {
		t.Fatal(err)
	}
	// spoilt is a file of all sentences, each in the languages and with the ends that of says.
	spoilt := func(of func(key string, l words.Language) (end string, there bool)) error {
		var b strings.Builder
		for _, key := range v.In(words.English).Keys() {
			var in []string
			for _, l := range v.Languages() {
				s, err := v.In(l).Sentence(key)
				if err != nil {
					t.Fatal(err)
				}
				if end, there := of(key, l); there {
					in = append(in, fmt.Sprintf("%s: %q", l, s.String()+end))
				}
			}
			if len(in) > 0 {
				fmt.Fprintf(&b, "%s: {%s}\n", key, strings.Join(in, ", "))
			}
		}
		_, _, err := loadCatalogues(folder(b.String()))
		return err
	}
	if err := spoilt(func(string, words.Language) (string, bool) { return "", true }); err != nil {
		t.Fatal(err)
	}
	const first = "account_link" // says which languages there are
	texts := 0
	named := func(what, form string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s goes unnoticed", what)
		}
		said := strings.ReplaceAll(err.Error(), "\n", " ") + " "
		for _, key := range v.In(words.English).Keys() {
			if key == first {
				continue
			}
			texts++
			if !strings.Contains(said, strings.ReplaceAll(form, "KEY", key)) {
				t.Errorf("%s: %s goes unnoticed", what, key)
			}
		}
	}
	for _, l := range v.Languages() {
		named("no text in "+string(l), " KEY is in [", spoilt(func(key string, in words.Language) (string, bool) { return "", key == first || in != l }))
		named("another placeholder in "+string(l), " KEY has the placeholders [", spoilt(func(key string, in words.Language) (string, bool) {
			return map[bool]string{true: " {code}"}[in == l], true
		}))
		named("a broken placeholder in "+string(l), " KEY in "+string(l)+": a brace", spoilt(func(key string, in words.Language) (string, bool) {
			return map[bool]string{true: " {{.Code}}"}[in == l], true
		}))
	}
	named("an unknown placeholder", " KEY: nothing for {code} ", spoilt(func(string, words.Language) (string, bool) { return " {code}", true }))
	if texts < 7*150 {
		t.Errorf("only %d texts were looked at", texts)
	}

	// Nothing is there but one: each need says that it is not met.
	err = spoilt(func(key string, _ words.Language) (string, bool) { return "", key == first })
	if err == nil {
		t.Fatal("no texts, and nothing is missing")
	}
	for key := range needs {
		if key != first && !strings.Contains(err.Error()+"\n", "no words for "+key+"\n") && !strings.Contains(err.Error(), key+": 0 sentences") {
			t.Errorf("%s is not missing", key)
		}
	}
}

func TestCatalogueFileIsReadStrictly(t *testing.T) {
	data, folder := file(t)
	for name, change := range map[string][2]string{
		"an empty text":                 {`{en: "Hello,", `, `{en: " ", `},
		"a broken placeholder":          {`"Hello {name},"`, `"Hello {name,"`},
		"a placeholder of the code":     {`{en: "Hello {name},", de: "Guten Tag {name},"}`, `{en: "Hello {code},", de: "Guten Tag {code},"}`},
		"a missing weekday":             {"    - {en: \"Sunday\", de: \"Sonntag\"}\n", ""},
		"an unknown text":               {"greeting:", "greetings: {en: a, de: b}\ngreeting:"},
		"an unknown kind":               {"  # Another day.\n", "  welcome: {delivery: {subject: {en: a, de: b}}}\n"},
		"a kind without such a purpose": {"  collected:\n", "  collected:\n    delivery: {subject: {en: a, de: b}}\n"},
		"a text that is never shown":    {`title: {en: "Your code is locked",`, "with_code: [{en: a, de: b}]\n      title: {en: \"Your code is locked\","},
		"no list but a text":            {"  weekdays:\n", "  weekdays: {en: Sunday, de: Sonntag}\n  others:\n"},
		"a time that nothing tells":     {`{en: "Your parcel comes on {day}", de: "Ihr Paket kommt am {day}"}`, `{en: "Your parcel comes on {at_date}", de: "Ihr Paket kommt am {at_date}"}`},
		"two lines":                     {`{en: "Hello,", `, `{en: "Hello\nyou,", `},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(data, change[0], change[1], 1)
			if changed == data {
				t.Fatalf("%q is not in the file", change[0])
			}
			if _, _, err := loadCatalogues(folder(changed)); err == nil {
				t.Error("goes unnoticed")
			}
		})
	}
}

// Adding a language is adding its line to each sentence.
func TestALanguageIsALine(t *testing.T) {
	data, _ := file(t)
	dutch := bytes.ReplaceAll([]byte(data), []byte(`de: "Guten Tag`), []byte(`de: "Dag`))
	dutch = regexp.MustCompile(`\bde: "`).ReplaceAll(dutch, []byte(`nl: "`))
	fsys := fstest.MapFS{words.File: {Data: dutch}}
	for _, name := range []string{"layout/mail.txt.tmpl", "layout/mail.html.tmpl"} {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		fsys[name] = &fstest.MapFile{Data: data}
	}
	r, err := newRenderer(fsys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.render(sample(Dispatched, Delivery, "nl-BE"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Locale != "nl" || !strings.Contains(m.Text, "Dag Sample Customer 12,") {
		t.Errorf("answered in %s:\n%s", m.Locale, m.Text)
	}

	fsys[words.File] = &fstest.MapFile{Data: bytes.ReplaceAll(dutch, []byte("en: \""), []byte("fr: \""))}
	if _, err := newRenderer(fsys); err == nil {
		t.Error("a set without English, the fallback, is accepted")
	}
	delete(fsys, words.File)
	if _, err := newRenderer(fsys); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a set without words: %v", err)
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("x", 90)
	for _, test := range []struct{ prefix, in, want string }{
		{"", "", ""},
		{"", "one line", "one line"},
		{"", strings.Repeat("ä", 78), strings.Repeat("ä", 78)},
		{"", strings.Repeat("ä", 70) + " 1234567 next", strings.Repeat("ä", 70) + " 1234567\nnext"},
		{"", strings.Repeat("ä", 70) + " 12345678 next", strings.Repeat("ä", 70) + "\n12345678 next"},
		{"- ", strings.Repeat("a ", 40) + "b", "- " + strings.TrimSpace(strings.Repeat("a ", 38)) + "\n  a a b"},
		{"- ", "a " + long + " b", "- a\n  " + long + "\n  b"},
	} {
		if got := wrap(test.prefix, test.in); got != test.want {
			t.Errorf("wrap(%q, %q) =\n%s\nwant\n%s", test.prefix, test.in, got, test.want)
		}
	}
}
