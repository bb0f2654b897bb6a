package message

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"
)

// catalogue is every sentence of one language: one file of locale/.
type catalogue struct {
	tag language.Tag

	Calendar            calendar                      `yaml:"calendar"`
	Greeting            text                          `yaml:"greeting"`
	GreetingWithoutName text                          `yaml:"greeting_without_name"`
	Code                map[Purpose]codeWords         `yaml:"code"`
	Facts               factLabels                    `yaml:"facts"`
	AccountLink         text                          `yaml:"account_link"`
	Footer              []text                        `yaml:"footer"`
	Messages            map[Kind]map[Purpose]*wording `yaml:"messages"`
	Residents           residentWords                 `yaml:"residents"`
}

// codeWords stand around the code, in whichever mail shows one.
type codeWords struct {
	Lead     text    `yaml:"lead"`      // the line above it
	Valid    text    `yaml:"valid"`     // the line below it
	ValidDay text    `yaml:"valid_day"` // the same, for a window of one day
	Safety   heading `yaml:"safety"`
}

type heading struct {
	Title text   `yaml:"title"`
	Lines []text `yaml:"lines"`
}

type factLabels struct {
	When    text             `yaml:"when"`
	Parcel  map[Purpose]text `yaml:"parcel"`
	Order   text             `yaml:"order"`
	Shop    text             `yaml:"shop"`
	Carrier text             `yaml:"carrier"`
	Courier text             `yaml:"courier"`
	Address text             `yaml:"address"`
}

// wording is what one kind says for one purpose.
type wording struct {
	Subject     text    `yaml:"subject"`
	Title       text    `yaml:"title"`
	Intro       []text  `yaml:"intro"`
	WithCode    []text  `yaml:"with_code"`    // after Intro, where a code may be but need not
	WithoutCode []text  `yaml:"without_code"` // its counterpart
	Help        heading `yaml:"help"`
}

// words are the placeholders of a sentence. There is none for the code.
type words struct {
	Name       string
	ParcelID   string
	ParcelTail string // "…" and the last four characters
	Day        string // of the window's last day, without the year
	Date       string // the same with the year
	Until      string // follows "until"
	At         string // when it happened: date and time
	AtDate     string
	AtTime     string
	Zone       string // where the times are local
}

// text is one sentence or paragraph. Only one with placeholders is a template:
// most have none, and need not be executed for every mail.
type text struct {
	tmpl  *template.Template
	plain string
}

// UnmarshalYAML parses the sentence. An empty one is an error: a language is
// complete or it is not offered.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	var s string
	if err := n.Decode(&s); err != nil {
		return err
	}
	if strings.TrimSpace(s) == "" {
		return fmt.Errorf("line %d: empty text", n.Line)
	}
	if !strings.Contains(s, "{{") {
		t.plain = clean(s)
		return nil
	}
	tmpl, err := template.New("").Parse(s)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	t.tmpl = tmpl
	return nil
}

var errMissing = errors.New("text is missing")

// A pen writes texts into plain lines. It keeps its first error, so that
// callers compose a whole mail and ask once.
type pen struct{ err error }

// write returns t filled in with data, as one clean line.
func (p *pen) write(t text, data any) string {
	if p.err != nil {
		return ""
	}
	if t.tmpl == nil {
		if t.plain == "" {
			p.err = errMissing
		}
		return t.plain
	}
	var b strings.Builder
	if p.err = t.tmpl.Execute(&b, data); p.err != nil {
		return ""
	}
	return clean(b.String())
}

func (p *pen) writeAll(ts []text, data any) []string {
	lines := make([]string, len(ts))
	for i, t := range ts {
		lines[i] = p.write(t, data)
	}
	return lines
}

// loadCatalogues reads every language of fsys, English first: the first one is
// what the matcher falls back to.
func loadCatalogues(fsys fs.FS) ([]*catalogue, error) {
	files, err := fs.Glob(fsys, "locale/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []*catalogue
	for _, name := range files {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		tag, err := language.Parse(strings.TrimSuffix(path.Base(name), ".yaml"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c, err := parseCatalogue(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c.tag = tag
		if tag == language.English {
			all = slices.Insert(all, 0, c)
		} else {
			all = append(all, c)
		}
	}
	if len(all) == 0 || all[0].tag != language.English {
		return nil, errors.New("locale/en.yaml is missing")
	}
	return all, nil
}

func parseCatalogue(data []byte) (*catalogue, error) {
	c := new(catalogue)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check finds what is missing or misspelt. It writes every text once, so a
// placeholder that does not exist stops the program and not a mail.
func (c *catalogue) check() error {
	if err := c.Calendar.check(); err != nil {
		return err
	}
	var p pen
	var errs []error
	tryWith := func(data any, what string, ts ...text) {
		for _, t := range ts {
			p.write(t, data)
		}
		if len(ts) == 0 {
			p.err = errMissing
		}
		if p.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, p.err))
		}
		p.err = nil
	}
	try := func(what string, ts ...text) { tryWith(words{}, what, ts...) }

	cal, f := &c.Calendar, &c.Facts
	tryWith(moment{}, "calendar", cal.Day, cal.Date, cal.Time, cal.When, cal.EndOfDay)
	try("greeting", c.Greeting, c.GreetingWithoutName)
	try("facts", f.When, f.Order, f.Shop, f.Carrier, f.Courier, f.Address)
	try("account_link", c.AccountLink)
	try("footer", c.Footer...)
	for _, purpose := range both {
		code := c.Code[purpose]
		try(fmt.Sprintf("facts.parcel.%s", purpose), f.Parcel[purpose])
		try(fmt.Sprintf("code.%s", purpose), code.Lead, code.Valid, code.ValidDay, code.Safety.Title)
		try(fmt.Sprintf("code.%s.safety.lines", purpose), code.Safety.Lines...)
	}
	for kind, r := range rules {
		for _, purpose := range r.purposes {
			name := fmt.Sprintf("messages.%s.%s", kind, purpose)
			w := c.Messages[kind][purpose]
			if w == nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, errMissing))
				continue
			}
			try(name, w.Subject, w.Title, w.Help.Title)
			try(name+".intro", w.Intro...)
			try(name+".help.lines", w.Help.Lines...)
			if r.code == codeIfAny {
				try(name+".with_code", w.WithCode...)
				try(name+".without_code", w.WithoutCode...)
			} else if len(w.WithCode)+len(w.WithoutCode) > 0 {
				errs = append(errs, fmt.Errorf("%s: with_code or without_code would never be shown", name))
			}
		}
	}
	for _, name := range c.Residents.check(func(what string, ts ...text) { tryWith(noticeWords{}, what, ts...) }) {
		errs = append(errs, fmt.Errorf("%s: %w", name, errMissing))
	}
	for kind, byPurpose := range c.Messages {
		for purpose := range byPurpose {
			if !slices.Contains(rules[kind].purposes, purpose) {
				errs = append(errs, fmt.Errorf("messages.%s.%s: no such mail", kind, purpose))
			}
		}
	}
	return errors.Join(errs...)
}
