package message

import (
	"embed"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"strings"
	"text/template"

	"latchkey/handoff/words"
)

//go:embed words.yaml layout/*.tmpl
var files embed.FS

var standard = must(newRenderer(files))

func must(r *renderer, err error) *renderer {
	if err != nil {
		panic("message: " + err.Error())
	}
	return r
}

// A renderer holds everything parsed. It is safe for concurrent use.
type renderer struct {
	vocabulary *words.Vocabulary
	catalogues []*catalogue // English first
	text       *template.Template
	html       *htmltemplate.Template
}

func newRenderer(fsys fs.FS) (*renderer, error) {
	vocabulary, catalogues, err := loadCatalogues(fsys)
	if err != nil {
		return nil, err
	}
	text, err := template.New("mail.txt.tmpl").Funcs(template.FuncMap{
		"wrap":      func(s string) string { return wrap("", s) },
		"item":      func(s string) string { return wrap("- ", s) },
		"underline": underline,
	}).ParseFS(fsys, "layout/mail.txt.tmpl")
	if err != nil {
		return nil, err
	}
	html, err := htmltemplate.ParseFS(fsys, "layout/mail.html.tmpl")
	if err != nil {
		return nil, err
	}
	return &renderer{vocabulary, catalogues, text, html}, nil
}

// catalogue is the language closest to a locale.
func (r *renderer) catalogue(locale string) *catalogue {
	closest := r.vocabulary.Closest(locale).Tag()
	for _, c := range r.catalogues {
		if c.tag == closest {
			return c
		}
	}
	return r.catalogues[0]
}

func (r *renderer) render(v View) (Mail, error) {
	rule, err := v.check()
	if err != nil {
		return Mail{}, err
	}
	l, err := r.catalogue(v.Locale).compose(v, rule)
	if err != nil {
		return Mail{}, fmt.Errorf("message: %s: %w", v.Kind, err)
	}
	return r.lay(v.Kind, l)
}

// lay puts a letter into both layouts.
func (r *renderer) lay(kind Kind, l letter) (Mail, error) {
	var text, html strings.Builder
	text.Grow(2 << 10)
	html.Grow(10 << 10)
	if err := r.text.Execute(&text, l); err != nil {
		return Mail{}, fmt.Errorf("message: %s: %w", kind, err)
	}
	if err := r.html.Execute(&html, l); err != nil {
		return Mail{}, fmt.Errorf("message: %s: %w", kind, err)
	}
	return Mail{Subject: l.Subject, Text: text.String(), HTML: html.String(), Locale: l.Lang}, nil
}
