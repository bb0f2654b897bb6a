package frame

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"
)

// Language is one that the pages speak, as an RFC 5646 tag.
type Language string

// Languages are those of the pages. The first is for who asked for none of them.
var Languages = []Language{"en", "de"}

var matcher = language.NewMatcher([]language.Tag{language.English, language.German})

// Tag is the language, for tables of package x/text.
func (l Language) Tag() language.Tag { return language.MustParse(string(l)) }

const languageCookie = "latchkey-language"

// languageOf is the language that was chosen, or else the first of Accept-Language that
// we speak.
func languageOf(r *http.Request) Language {
	if c, err := r.Cookie(languageCookie); err == nil && slices.Contains(Languages, Language(c.Value)) {
		return Language(c.Value)
	}
	wanted, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return Languages[0]
	}
	_, i, _ := matcher.Match(wanted...)
	return Languages[i]
}

// chooseLanguage keeps a choice for a year, and goes back to the page.
func chooseLanguage(v *Visit) {
	chosen := Language(v.R.PostFormValue("language"))
	if !slices.Contains(Languages, chosen) {
		v.Fail(http.StatusNotFound)
		return
	}
	http.SetCookie(v.W, &http.Cookie{
		Name: languageCookie, Value: string(chosen), Path: "/", MaxAge: 365 * 24 * 3600,
		HttpOnly: true, Secure: v.pages.site.Secure, SameSite: http.SameSiteLaxMode,
	})
	v.Redirect(LocalPath(v.R.PostFormValue("next")))
}

// LocalPath is next if it is a path of this site, and else /. It leaves no way to send
// somebody elsewhere.
func LocalPath(next string) string {
	if len(next) > 512 || !localPath.MatchString(next) {
		return "/"
	}
	return next
}

// localPath has no second slash at the start, no backslash, and nothing that a browser
// takes out before it looks.
var localPath = regexp.MustCompile(`^/([A-Za-z0-9._~-][A-Za-z0-9._~/?&=%-]*)?$`)

// Words are the sentences of a set in one language, with those of the frame.
type Words struct{ said map[string]string }

// Has reports whether there is a sentence of this key.
func (w *Words) Has(key string) bool {
	_, there := w.said[key]
	return there
}

// Say is the sentence of a key. Names and values follow in turn and take the place of
// {name}; a value of type template.HTML goes in as it is, and everything else is escaped.
func (w *Words) Say(key string, values ...any) (template.HTML, error) {
	text, there := w.said[key]
	if !there {
		return "", fmt.Errorf("no words for %s", key)
	}
	text = template.HTMLEscapeString(text)
	if len(values)%2 != 0 {
		return "", fmt.Errorf("%s: a name without a value", key)
	}
	for i := 0; i < len(values); i += 2 {
		name := fmt.Sprint("{", values[i], "}")
		if !strings.Contains(text, name) {
			return "", fmt.Errorf("%s has no %s", key, name)
		}
		put, ready := values[i+1].(template.HTML)
		if !ready {
			put = template.HTML(template.HTMLEscapeString(fmt.Sprint(values[i+1])))
		}
		text = strings.ReplaceAll(text, name, string(put))
	}
	if left := placeholder.FindString(text); left != "" && len(values) == 0 {
		return "", fmt.Errorf("%s: nothing for %s", key, left)
	}
	return template.HTML(text), nil
}

// Under are the sentences whose keys begin with one of some prefixes, by key, with their
// placeholders: what a script says.
func (w *Words) Under(prefixes ...string) map[string]string {
	under := map[string]string{}
	for key, text := range w.said {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p+".") }) {
			under[key] = text
		}
	}
	return under
}

// Count is the sentence key.one for one, key.none for none where there is such, and else
// key.many, of which {n} is the number.
func (w *Words) Count(key string, n int, values ...any) (template.HTML, error) {
	switch {
	case n == 0 && w.Has(key+".none"):
		key += ".none"
	case n == 1:
		key += ".one"
	default:
		return w.Say(key+".many", append([]any{"n", n}, values...)...)
	}
	return w.Say(key, values...)
}

var placeholder = regexp.MustCompile(`\{[a-z_]+\}`)

// loadWords reads words/LANGUAGE.yaml of each folder. Every language must say everything,
// with the same placeholders.
func loadWords(folders ...fs.FS) (map[Language]*Words, error) {
	all := map[Language]*Words{}
	for _, lang := range Languages {
		w := &Words{said: map[string]string{}}
		for _, folder := range folders {
			data, err := fs.ReadFile(folder, "words/"+string(lang)+".yaml")
			if err != nil {
				return nil, err
			}
			if err := w.read(data); err != nil {
				return nil, fmt.Errorf("words/%s.yaml: %w", lang, err)
			}
		}
		all[lang] = w
	}
	return all, compare(all)
}

func (w *Words) read(data []byte) error {
	var tree map[string]any
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&tree); err != nil {
		return err
	}
	return w.take("", tree)
}

func (w *Words) take(at string, node any) error {
	switch node := node.(type) {
	case map[string]any:
		for name, below := range node {
			if err := w.take(strings.TrimPrefix(at+"."+name, "."), below); err != nil {
				return err
			}
		}
	case string:
		if strings.TrimSpace(node) == "" {
			return fmt.Errorf("%s is empty", at)
		}
		w.said[at] = strings.TrimSpace(node)
	default:
		return fmt.Errorf("%s is no text", at)
	}
	return nil
}

// compare finds what one language says and another does not.
func compare(all map[Language]*Words) error {
	var errs []error
	first := all[Languages[0]]
	for _, lang := range Languages[1:] {
		for _, pair := range [][2]*Words{{first, all[lang]}, {all[lang], first}} {
			for _, key := range slices.Sorted(maps.Keys(pair[0].said)) {
				text, there := pair[1].said[key]
				if !there {
					errs = append(errs, fmt.Errorf("%s and %s do not both have %s", Languages[0], lang, key))
				} else if a, b := placeholders(pair[0].said[key]), placeholders(text); !slices.Equal(a, b) {
					errs = append(errs, fmt.Errorf("%s: %v and %v", key, a, b))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func placeholders(text string) []string {
	return slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(text, -1))))
}
