// Package words loads the sentences that people read on pages and in mails.
//
// A folder has one file, words.yaml. It is a tree of names; at its ends stand the
// sentences, one language beside the other:
//
//	greeting:
//	  en: Good day, {name}
//	  de: Guten Tag, {name}
//	left:
//	  none: {en: Nothing is left., de: Nichts ist übrig.}
//	  one: {en: One stop is left., de: Ein Stopp ist übrig.}
//	  other: {en: "{n} stops are left.", de: "{n} Stopps sind übrig."}
//	rules:
//	  - {en: Only at the door., de: Nur an der Tür.}
//
// The key of a sentence is its path, joined by dots: greeting, left.one, rules.0. A name in
// braces is a placeholder. Every language must have every sentence, with the same
// placeholders: [Load] refuses a file that breaks this, so that a gap stops the program at
// its start.
//
// The package does no I/O but for the folders that it is given, and knows nothing of HTML:
// the caller escapes (see [Sentence.Fill]).
package words

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// File is the name of the file in a folder.
const File = "words.yaml"

// Language is an RFC 5646 tag, such as en.
type Language string

// English is the language for readers whose own is missing. Every file has it.
const English Language = "en"

// Tag returns the language for tables of package x/text.
func (l Language) Tag() language.Tag { return language.Make(string(l)) }

// Vocabulary is a set of sentences in all its languages. It does not change, and is safe
// for concurrent use.
type Vocabulary struct {
	languages []Language // English first, then by tag
	matcher   language.Matcher
	in        map[Language]*Words
}

// Load reads words.yaml of each folder into one vocabulary. The error lists all faults,
// each with its file and line: a language that is missing, an empty sentence, a brace that
// belongs to no placeholder, other placeholders in another language, a key that is there
// twice. The first sentence says which languages there are; English must be one of them.
func Load(folders ...fs.FS) (*Vocabulary, error) {
	v := &Vocabulary{in: map[Language]*Words{}}
	var faults []error
	for _, folder := range folders {
		data, err := fs.ReadFile(folder, File)
		if err != nil {
			return nil, err
		}
		if err := v.read(data); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", File, err))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if len(v.languages) == 0 {
		return nil, fmt.Errorf("%s: no sentences", File)
	}
	tags := make([]language.Tag, len(v.languages))
	for i, l := range v.languages {
		tags[i] = l.Tag()
	}
	v.matcher = language.NewMatcher(tags)
	return v, nil
}

// Languages returns the languages, English first.
func (v *Vocabulary) Languages() []Language { return slices.Clone(v.languages) }

// In returns the sentences of a language of the vocabulary, and nil for any other.
func (v *Vocabulary) In(l Language) *Words { return v.in[l] }

// Match returns the language that suits a reader best who wants these, the most wanted
// first. It is English where none suits.
func (v *Vocabulary) Match(wanted ...language.Tag) Language {
	_, i, _ := v.matcher.Match(wanted...)
	return v.languages[i]
}

// Closest is Match for one BCP 47 tag as a string. A malformed one is read as far as it can be.
func (v *Vocabulary) Closest(locale string) Language {
	tag, _ := language.Parse(locale)
	return v.Match(tag)
}

// read adds the sentences of a file.
func (v *Vocabulary) read(data []byte) error {
	var file yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&file); err != nil {
		return err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	var faults []error
	v.add("", file.Content[0], func(n *yaml.Node, format string, values ...any) {
		faults = append(faults, fmt.Errorf("line %d: "+format, append([]any{n.Line}, values...)...))
	})
	return errors.Join(faults...)
}

// refuse reports a fault of a node.
type refuse func(n *yaml.Node, format string, values ...any)

// add adds all sentences at and below a node.
func (v *Vocabulary) add(key string, n *yaml.Node, fault refuse) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	below := func(name string) string { return strings.TrimPrefix(key+"."+name, ".") }
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		for i, item := range n.Content {
			v.add(below(strconv.Itoa(i)), item, fault)
		}
	case key != "" && n.Kind == yaml.MappingNode && len(n.Content) > 0 && n.Content[1].Kind == yaml.ScalarNode:
		v.sentence(key, n, fault)
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		names := map[string]bool{}
		for i := 0; i < len(n.Content); i += 2 {
			name := n.Content[i].Value
			if names[name] {
				fault(n.Content[i], "%s is there twice", below(name))
			}
			names[name] = true
			v.add(below(name), n.Content[i+1], fault)
		}
	default:
		fault(n, "%s is neither a sentence in each language, nor a list or group of some", key)
	}
}

// sentence adds one sentence in each language: a mapping of languages to texts.
func (v *Vocabulary) sentence(key string, n *yaml.Node, fault refuse) {
	said := map[Language]Sentence{}
	for i := 0; i < len(n.Content); i += 2 {
		name, text := n.Content[i], n.Content[i+1]
		if _, err := language.Parse(name.Value); err != nil {
			fault(name, "%s.%s is no language", key, name.Value)
			return
		}
		l := Language(name.Value)
		if _, twice := said[l]; twice {
			fault(name, "%s is there twice in %s", key, l)
		}
		if text.Kind != yaml.ScalarNode || text.Tag != "!!str" {
			fault(text, "%s in %s is no text: put it into quotes", key, l)
			return
		}
		s, err := parse(text.Value)
		if err != nil {
			fault(text, "%s in %s: %w", key, l, err)
		}
		said[l] = s
	}
	languages := slices.SortedFunc(maps.Keys(said), func(a, b Language) int {
		return strings.Compare(order(a), order(b))
	})
	if v.languages == nil {
		if languages[0] != English {
			fault(n, "%s is missing in English", key)
		}
		v.languages = languages
		for _, l := range languages {
			v.in[l] = &Words{language: l, said: map[string]Sentence{}}
		}
	}
	if !slices.Equal(languages, v.languages) {
		fault(n, "%s is in %v, want %v", key, languages, v.languages)
		return
	}
	for _, l := range languages {
		if a, b := said[languages[0]].Placeholders(), said[l].Placeholders(); !slices.Equal(a, b) {
			fault(n, "%s has the placeholders %v in %s and %v in %s", key, a, languages[0], b, l)
		}
		if _, twice := v.in[l].said[key]; twice {
			fault(n, "%s is there twice", key)
			return
		}
		v.in[l].said[key] = said[l]
	}
}

// order sorts English before the other languages.
func order(l Language) string {
	if l == English {
		return ""
	}
	return string(l)
}

// Words are the sentences of one language.
type Words struct {
	language Language
	said     map[string]Sentence
}

// Language returns the language of the sentences.
func (w *Words) Language() Language { return w.language }

// Keys returns the keys of all sentences, sorted.
func (w *Words) Keys() []string { return slices.Sorted(maps.Keys(w.said)) }

// Has reports whether there is a sentence of this key.
func (w *Words) Has(key string) bool {
	_, there := w.said[key]
	return there
}

// Sentence returns the sentence of a key. The error names the key.
func (w *Words) Sentence(key string) (Sentence, error) {
	s, there := w.said[key]
	if !there {
		return Sentence{}, fmt.Errorf("no words for %s", key)
	}
	return s, nil
}

// List returns the keys of a list's sentences in their order: key.0, key.1 and so on. It is
// empty where there is no such list.
func (w *Words) List(key string) (keys []string) {
	for {
		next := key + "." + strconv.Itoa(len(keys))
		if !w.Has(next) {
			return keys
		}
		keys = append(keys, next)
	}
}

// Under returns the sentences whose keys lie below one of some prefixes, by key and with
// their placeholders, for a script to fill in.
func (w *Words) Under(prefixes ...string) map[string]string {
	under := map[string]string{}
	for key, s := range w.said {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p+".") }) {
			under[key] = s.text
		}
	}
	return under
}

// categories names the plural categories of CLDR.
var categories = map[plural.Form]string{plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many"}

// Counted returns the key of the form for a count: key.none for zero, if there is one; else
// the plural category that CLDR gives the count in this language, if the key has it; else
// key.other.
func (w *Words) Counted(key string, n int) string {
	if n == 0 && w.Has(key+".none") {
		return key + ".none"
	}
	form := categories[plural.Cardinal.MatchPlural(w.language.Tag(), max(n, -n), 0, 0, 0, 0)]
	if form != "" && w.Has(key+"."+form) {
		return key + "." + form
	}
	return key + ".other"
}

// Sentence is one sentence or paragraph, parsed.
type Sentence struct {
	text  string
	parts []string // plain text and names of placeholders in turn
}

var placeholder = regexp.MustCompile(`\{[a-z][a-z_]*\}`)

func parse(text string) (Sentence, error) {
	s := Sentence{text: strings.TrimSpace(text)}
	if s.text == "" {
		return s, errors.New("the text is empty")
	}
	end := 0
	for _, at := range placeholder.FindAllStringIndex(s.text, -1) {
		s.parts = append(s.parts, s.text[end:at[0]], s.text[at[0]+1:at[1]-1])
		end = at[1]
	}
	s.parts = append(s.parts, s.text[end:])
	for i := 0; i < len(s.parts); i += 2 {
		if strings.ContainsAny(s.parts[i], "{}") {
			return s, errors.New("a brace belongs to no placeholder, which is a {name} in small letters")
		}
	}
	return s, nil
}

// String returns the sentence with its placeholders.
func (s Sentence) String() string { return s.text }

// Placeholders returns the names of the placeholders, sorted, each once.
func (s Sentence) Placeholders() []string {
	var names []string
	for i := 1; i < len(s.parts); i += 2 {
		names = append(names, s.parts[i])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Fill returns the sentence with values in the place of its placeholders. Plain rewrites
// the text around them, as HTML needs it; nil leaves it. Values go in as they are. A
// placeholder without a value is an error, which names it.
func (s Sentence) Fill(plain func(string) string, value func(name string) (string, bool)) (string, error) {
	if plain == nil {
		plain = func(text string) string { return text }
	}
	if len(s.parts) == 1 {
		return plain(s.text), nil
	}
	var b strings.Builder
	for i, part := range s.parts {
		if i%2 == 0 {
			b.WriteString(plain(part))
			continue
		}
		put, there := value(part)
		if !there {
			return "", fmt.Errorf("nothing for {%s}", part)
		}
		b.WriteString(put)
	}
	return b.String(), nil
}
