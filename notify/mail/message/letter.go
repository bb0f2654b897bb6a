package message

import (
	htmltemplate "html/template"
	"strings"
	"unicode/utf8"
)

// A letter is a mail in clean plain lines, ready for either layout.
type letter struct {
	Lang     string
	Subject  string
	Shop     string // may be empty
	Title    string
	Greeting string
	Intro    []string
	Code     *codeBlock
	Facts    []fact
	Sections []section
	Link     link
	Footer   []string
	Links    []link // below the footer
}

type codeBlock struct {
	Lead   string
	Digits string
	Valid  string
	Safety section
}

type section struct {
	Title string
	Lines []string
}

type fact struct{ Label, Value string }

type link struct{ Label, URL string } // without a URL there is no link

// Preview is what a list of mails shows beside the subject. It is given to the
// HTML page as hidden text, or clients would make one from the first lines of
// the body and might reach the code.
func (l letter) Preview() string { return l.Intro[0] }

// PreviewPadding fills the rest of the preview with nothing, for the same
// reason.
func (l letter) PreviewPadding() htmltemplate.HTML { return previewPadding }

var previewPadding = htmltemplate.HTML(strings.Repeat("&zwnj;&nbsp;", 100))

// FactLines are the facts as text lines, values aligned.
func (l letter) FactLines() []string {
	width := 0
	for _, f := range l.Facts {
		width = max(width, utf8.RuneCountInString(f.Label))
	}
	lines := make([]string, len(l.Facts))
	for i, f := range l.Facts {
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(f.Label)+3)
		lines[i] = wrap(f.Label+pad, f.Value)
	}
	return lines
}

// compose writes v in c's words.
func (c *catalogue) compose(v View, r rule) (letter, error) {
	var p pen
	said := c.Messages[v.Kind][v.Purpose]
	w := c.Calendar.words(&p, v)
	w.Name, w.ParcelID, w.ParcelTail = clean(v.CustomerName), clean(v.ParcelID), tail(v.ParcelID)

	l := letter{
		Lang:     c.tag.String(),
		Subject:  p.write(said.Subject, w),
		Shop:     clean(v.ShopName),
		Title:    p.write(said.Title, w),
		Intro:    p.writeAll(said.Intro, w),
		Facts:    c.facts(&p, v, r, w),
		Sections: []section{p.section(said.Help, w)},
		Link:     link{Label: p.write(c.AccountLink, w), URL: v.AccountURL},
		Footer:   p.writeAll(c.Footer, w),
	}
	l.Greeting = p.write(c.Greeting, w)
	if w.Name == "" {
		l.Greeting = p.write(c.GreetingWithoutName, w)
	}
	if r.code != noCode && v.Code != "" {
		l.Intro = append(l.Intro, p.writeAll(said.WithCode, w)...)
		l.Code = c.Code[v.Purpose].block(&p, v, w)
	} else {
		l.Intro = append(l.Intro, p.writeAll(said.WithoutCode, w)...)
	}
	return l, p.err
}

func (cw codeWords) block(p *pen, v View, w words) *codeBlock {
	valid := cw.Valid
	if ofOneDay(v) {
		valid = cw.ValidDay
	}
	return &codeBlock{
		Lead:   p.write(cw.Lead, w),
		Digits: v.Code,
		Valid:  p.write(valid, w),
		Safety: p.section(cw.Safety, w),
	}
}

func (c *catalogue) facts(p *pen, v View, r rule, w words) []fact {
	var facts []fact
	add := func(label text, value string) {
		if value = clean(value); value != "" {
			facts = append(facts, fact{p.write(label, w), value})
		}
	}
	if r.at {
		add(c.Facts.When, w.At)
	}
	if r.courier {
		add(c.Facts.Courier, v.CourierName)
	}
	add(c.Facts.Parcel[v.Purpose], v.ParcelID)
	add(c.Facts.Order, v.OrderID)
	add(c.Facts.Shop, v.ShopName)
	add(c.Facts.Carrier, v.CarrierName)
	add(c.Facts.Address, v.AddressLine)
	return facts
}

func (p *pen) section(h heading, w any) section {
	return section{Title: p.write(h.Title, w), Lines: p.writeAll(h.Lines, w)}
}
