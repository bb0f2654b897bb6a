package message

import (
	"bytes"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"text/template"
)

// Each text of each language is taken away and misspelt in turn: the catalogue
// must be refused every time, or a customer would find the gap.
func TestNoTextMayBeMissing(t *testing.T) {
	for _, c := range standard.catalogues {
		t.Run(c.tag.String(), func(t *testing.T) {
			t.Parallel()
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			spoilt := *c
			s := spoiler{t: t, refused: func() bool { return spoilt.check() != nil }}
			s.walk("", reflect.ValueOf(*c), func(v reflect.Value) { spoilt = v.Interface().(catalogue) })
			if s.texts < 150 {
				t.Errorf("only %d texts were found", s.texts)
			}
		})
	}
}

type spoiler struct {
	t       *testing.T
	refused func() bool
	texts   int
}

// walk visits every text and name below v. put puts a value in v's place.
func (s *spoiler) walk(path string, v reflect.Value, put func(reflect.Value)) {
	whole := reflect.New(v.Type()).Elem()
	whole.Set(v)
	defer put(whole)
	try := func(how string, v reflect.Value) {
		if put(v); !s.refused() {
			s.t.Errorf("%s: %s goes unnoticed", path, how)
		}
	}
	if whole.Type() == reflect.TypeFor[text]() {
		s.texts++
		try("a missing text", reflect.ValueOf(text{}))
		try("an unknown placeholder", reflect.ValueOf(text{tmpl: template.Must(template.New("").Parse("{{.Code}}"))}))
		return
	}
	// inside puts a value in the place of one part of a copy of whole.
	inside := func(part func(reflect.Value) reflect.Value) func(reflect.Value) {
		return func(v reflect.Value) {
			c := clone(whole)
			part(c).Set(v)
			put(c)
		}
	}
	switch whole.Kind() {
	case reflect.String:
		try("a missing name", reflect.Zero(whole.Type()))
	case reflect.Pointer:
		s.walk(path, whole.Elem(), inside(reflect.Value.Elem))
	case reflect.Struct:
		for i := range whole.NumField() {
			if f := whole.Type().Field(i); f.IsExported() && f.Name != "Cities" {
				s.walk(path+"."+f.Name, whole.Field(i), inside(func(c reflect.Value) reflect.Value { return c.Field(i) }))
			}
		}
	case reflect.Slice, reflect.Array:
		if whole.Len() > 0 && whole.Kind() == reflect.Slice {
			try("a missing list", reflect.Zero(whole.Type()))
		}
		for i := range whole.Len() {
			s.walk(path, whole.Index(i), inside(func(c reflect.Value) reflect.Value { return c.Index(i) }))
		}
	case reflect.Map:
		for _, key := range whole.MapKeys() {
			less := clone(whole)
			less.SetMapIndex(key, reflect.Value{})
			try("a missing entry "+key.String(), less)
			s.walk(path+"."+key.String(), whole.MapIndex(key), func(v reflect.Value) {
				c := clone(whole)
				c.SetMapIndex(key, v)
				put(c)
			})
		}
	default:
		s.t.Fatalf("%s: no way to spoil a %s", path, whole.Kind())
	}
}

// clone copies v as deep as changing one of its parts asks for.
func clone(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.Pointer:
		c.Set(reflect.New(v.Type().Elem()))
		c.Elem().Set(v.Elem())
	case reflect.Slice:
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		reflect.Copy(c, v)
	case reflect.Map:
		c.Set(reflect.MakeMap(v.Type()))
		for _, key := range v.MapKeys() {
			c.SetMapIndex(key, v.MapIndex(key))
		}
	}
	return c
}

func TestCatalogueFileIsReadStrictly(t *testing.T) {
	data, err := fs.ReadFile(files, "locale/en.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"an empty text":                 {`greeting_without_name: "Hello,"`, `greeting_without_name: " "`},
		"a broken placeholder":          {`"Hello {{.Name}},"`, `"Hello {{.Name},"`},
		"a placeholder of the code":     {`"Hello {{.Name}},"`, `"Hello {{.Code}},"`},
		"a missing weekday":             {"weekdays: [Sunday, ", "weekdays: ["},
		"an unknown text":               {"greeting:", "greetings: a\ngreeting:"},
		"an unknown kind":               {"  # Another day.\n", "  welcome: {delivery: {subject: a, title: b, intro: [c], help: {title: d, lines: [e]}}}\n"},
		"a kind without such a purpose": {"  collected:\n", "  collected:\n    delivery: {subject: a, title: b, intro: [c], help: {title: d, lines: [e]}}\n"},
		"a text that is never shown":    {`title: "Your code is locked"`, "title: a\n      with_code: [b]"},
		"no list but a text":            {"weekdays: [Sunday, Monday, Tuesday, Wednesday, Thursday, Friday, Saturday]", "weekdays: Sunday"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(data), change[0], change[1], 1)
			if changed == string(data) {
				t.Fatalf("%q is not in the file", change[0])
			}
			if _, err := parseCatalogue([]byte(changed)); err == nil {
				t.Error("goes unnoticed")
			}
		})
	}
}

// Adding a language is adding its file.
func TestALanguageIsOneFile(t *testing.T) {
	english, err := fs.ReadFile(files, "locale/en.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{
		"locale/en.yaml": {Data: english},
		"locale/nl.yaml": {Data: bytes.ReplaceAll(english, []byte("Hello"), []byte("Dag"))},
	}
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

	delete(fsys, "locale/en.yaml")
	if _, err := newRenderer(fsys); err == nil {
		t.Error("a set without English, the fallback, is accepted")
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
