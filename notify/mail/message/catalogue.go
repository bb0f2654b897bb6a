package message

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/language"

	"latchkey/handoff/words"
)

// catalogue is every sentence of one language.
type catalogue struct {
	tag  language.Tag
	said *words.Words
}

// values are what takes the place of placeholders, by their names. A name without a value
// is an error, an empty value is none.
type values map[string]string

func (v values) of(name string) (string, bool) {
	value, there := v[name]
	return value, there
}

// with is v and more.
func (v values) with(more values) values {
	all := maps.Clone(v)
	maps.Copy(all, more)
	return all
}

// A pen writes sentences into plain lines. It keeps its first error, so that
// callers compose a whole mail and ask once.
type pen struct {
	said *words.Words
	err  error
}

// write returns the sentence of a key, filled in, as one clean line.
func (p *pen) write(key string, v values) string {
	if p.err != nil {
		return ""
	}
	s, err := p.said.Sentence(key)
	if err != nil {
		p.err = err
		return ""
	}
	text, err := s.Fill(nil, v.of)
	if err != nil {
		p.err = fmt.Errorf("%s: %w", key, err)
		return ""
	}
	if text == s.String() {
		return text // check found it clean
	}
	return clean(text)
}

// writeAll returns the sentences of a list.
func (p *pen) writeAll(key string, v values) (lines []string) {
	for _, item := range p.said.List(key) {
		lines = append(lines, p.write(item, v))
	}
	return lines
}

// section returns a title with the lines below it.
func (p *pen) section(key string, v values) section {
	return section{Title: p.write(key+".title", v), Lines: p.writeAll(key+".lines", v)}
}

// loadCatalogues reads every language of fsys, English first. A gap in any of them is an
// error: it stops the program and not a mail.
func loadCatalogues(fsys fs.FS) (*words.Vocabulary, []*catalogue, error) {
	v, err := words.Load(fsys)
	if err != nil {
		return nil, nil, err
	}
	var all []*catalogue
	for _, l := range v.Languages() {
		if err := check(v.In(l)); err != nil {
			return nil, nil, fmt.Errorf("%s in %s: %w", words.File, l, err)
		}
		all = append(all, &catalogue{l.Tag(), v.In(l)})
	}
	return v, all, nil
}

// need is what the mails need of a key.
type need struct {
	list bool
	many int      // sentences of a list; 0 is one or more
	may  []string // placeholders that its sentences may have
}

// needs are all keys of the mails.
var needs = func() map[string]need {
	all := map[string]need{}
	add := func(may []string, keys ...string) {
		for _, key := range keys {
			name, list := strings.CutSuffix(key, "[]")
			all[name] = need{list: list, may: may}
		}
	}
	needCalendar(all)

	whole := []string{"name", "parcel_id", "parcel_tail", "zone"}
	window, at := []string{"day", "date", "until"}, []string{"at", "at_date", "at_time"}
	add(whole, "greeting")
	add([]string{"all"}, "together")
	add([]string{"zone"}, "greeting_without_name", "account_link", "footer[]") // of notices, too
	for _, fact := range []string{"when", "handed", "order", "shop", "contact", "carrier", "courier", "address", "door", "left"} {
		add(nil, "facts."+fact)
	}
	for _, kind := range ownKinds {
		add(nil, "own_doors."+kind)
	}
	for _, purpose := range both {
		code := "code." + string(purpose)
		add(nil, "facts.parcel."+string(purpose))
		add(slices.Concat(whole, window), code+".lead", code+".valid", code+".valid_day", code+".safety.title", code+".safety.lines[]")
	}
	for kind, r := range rules {
		may := whole
		if r.window {
			may = slices.Concat(may, window)
		}
		if r.at {
			may = slices.Concat(may, at)
		}
		if r.parts {
			may = slices.Concat(may, []string{"count", "all", "left"})
		}
		if r.dispute {
			may = slices.Concat(may, []string{"handed", "decide_by"})
		}
		for _, purpose := range r.purposes {
			mail := "messages." + string(kind) + "." + string(purpose)
			add(may, mail+".subject", mail+".title", mail+".intro[]", mail+".help.title", mail+".help.lines[]")
			if r.code == codeIfAny {
				add(may, mail+".with_code[]", mail+".without_code[]")
			}
		}
	}
	needNotices(add)
	return all
}()

// check finds what is missing, what has a placeholder that no mail fills in, and what no
// mail would ever show.
func check(w *words.Words) error {
	var faults []error
	fault := func(key, format string, values ...any) {
		faults = append(faults, fmt.Errorf("%s: "+format, append([]any{key}, values...)...))
	}
	used := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(needs)) {
		n, keys := needs[key], []string{key}
		if n.list {
			keys = w.List(key)
		}
		if len(keys) == 0 || n.many > 0 && len(keys) != n.many {
			fault(key, "%d sentences, want %d", len(keys), max(n.many, 1))
		}
		for _, key := range keys {
			used[key] = true
			s, err := w.Sentence(key)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			if s.String() != clean(s.String()) {
				fault(key, "is not one clean line")
			}
			for _, name := range s.Placeholders() {
				if !slices.Contains(n.may, name) {
					fault(key, "nothing for {%s}", name)
				}
			}
		}
	}
	for _, key := range w.Keys() {
		if !used[key] {
			fault(key, "no mail shows it")
		}
	}
	return errors.Join(faults...)
}
