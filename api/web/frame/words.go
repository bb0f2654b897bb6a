package frame

import (
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"regexp"
	"slices"

	"golang.org/x/text/language"

	"latchkey/handoff/words"
)

// Language is one that the pages speak, as an RFC 5646 tag.
type Language = words.Language

// Languages are those of the pages. The first is for readers who asked for none of them.
// The words of every set must have exactly these.
var Languages = []Language{"en", "de"}

// LanguageOf returns the language of the pages closest to a BCP 47 tag.
func LanguageOf(locale string) Language { return vocabulary.Closest(locale) }

// vocabulary is the frame's own words.
var vocabulary = func() *words.Vocabulary {
	v, err := words.Load(files)
	if err != nil {
		panic("frame: " + err.Error()) // a file of this package
	}
	return v
}()

const languageCookie = "latchkey-language"

// chosenLanguage is the language that the visitor chose, or else the first of
// Accept-Language that the pages speak.
func chosenLanguage(r *http.Request) Language {
	if c, err := r.Cookie(languageCookie); err == nil && slices.Contains(Languages, Language(c.Value)) {
		return Language(c.Value)
	}
	wanted, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return Languages[0]
	}
	return vocabulary.Match(wanted...)
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

// LocalPath is next if it is a path of this site, and else /. It leaves no way to send a
// visitor to another site.
func LocalPath(next string) string {
	if len(next) > 512 || !localPath.MatchString(next) {
		return "/"
	}
	return next
}

// localPath has no second slash at the start, no backslash, and nothing that a browser
// takes out before it looks.
var localPath = regexp.MustCompile(`^/([A-Za-z0-9._~-][A-Za-z0-9._~/?&=%-]*)?$`)

// Words are the sentences of a set in one language, with those of the frame, as HTML.
type Words struct{ *words.Words }

// loadWords reads the words of some folders as one vocabulary.
func loadWords(folders ...fs.FS) (map[Language]*Words, error) {
	v, err := words.Load(folders...)
	if err != nil {
		return nil, err
	}
	all := map[Language]*Words{}
	for _, l := range v.Languages() {
		all[l] = &Words{v.In(l)}
	}
	for _, l := range Languages {
		if all[l] == nil || len(all) != len(Languages) {
			return nil, fmt.Errorf("they are in %v, want %v", v.Languages(), Languages)
		}
	}
	return all, nil
}

// Say is the sentence of a key. Names and values follow in turn and take the place of
// {name}; a value of type template.HTML goes in as it is, and everything else is escaped.
// A value too many or too few is an error.
func (w *Words) Say(key string, values ...any) (template.HTML, error) {
	s, err := w.Sentence(key)
	if err != nil {
		return "", err
	}
	if len(values)%2 != 0 {
		return "", fmt.Errorf("%s: a name without a value", key)
	}
	put := make(map[string]string, len(values)/2)
	for i := 0; i < len(values); i += 2 {
		name := fmt.Sprint(values[i])
		if !slices.Contains(s.Placeholders(), name) {
			return "", fmt.Errorf("%s has no {%s}", key, name)
		}
		if ready, is := values[i+1].(template.HTML); is {
			put[name] = string(ready)
		} else {
			put[name] = template.HTMLEscapeString(fmt.Sprint(values[i+1]))
		}
	}
	text, err := s.Fill(template.HTMLEscapeString, func(name string) (string, bool) {
		value, there := put[name]
		return value, there
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return template.HTML(text), nil
}

// text is the sentence of a key as plain text. Names and values follow in turn.
func (w *Words) text(key string, values ...string) (string, error) {
	s, err := w.Sentence(key)
	if err != nil {
		return "", err
	}
	text, err := s.Fill(nil, func(name string) (string, bool) {
		for i := 0; i+1 < len(values); i += 2 {
			if values[i] == name {
				return values[i+1], true
			}
		}
		return "", false
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

// link is the sentence of a key as a link to a path.
func (w *Words) link(to, key string) (template.HTML, error) {
	text, err := w.Say(key)
	return `<a href="` + template.HTML(template.HTMLEscapeString(to)) + `">` + text + `</a>`, err
}

// Count is the sentence of a key for a count: one of its forms (see words.Counted), in which
// {n} is the count.
func (w *Words) Count(key string, n int, values ...any) (template.HTML, error) {
	key = w.Counted(key, n)
	if s, err := w.Sentence(key); err == nil && slices.Contains(s.Placeholders(), "n") {
		values = append([]any{"n", n}, values...)
	}
	return w.Say(key, values...)
}
