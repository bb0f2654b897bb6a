package message

import (
	htmltemplate "html/template"
	"strconv"
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
	p := &pen{said: c.said}
	mail := "messages." + string(v.Kind) + "." + string(v.Purpose)
	w := c.when(p, v)
	w["name"], w["parcel_id"], w["parcel_tail"] = clean(v.CustomerName), clean(v.ParcelID), tail(v.ParcelID)
	if n := len(v.More); n > 0 {
		w["parcel_tail"] += " +" + strconv.Itoa(n)
	}
	if w["count"], w["all"] = strconv.Itoa(1+len(v.More)), strconv.Itoa(1+len(v.More)); r.parts {
		var left []string
		for _, id := range v.Left {
			left = append(left, tail(id))
		}
		w["all"], w["left"] = strconv.Itoa(v.All), strings.Join(left, ", ")
	}

	greeting := "greeting"
	if w["name"] == "" {
		greeting = "greeting_without_name"
	}
	l := letter{
		Lang:     c.tag.String(),
		Subject:  p.write(mail+".subject", w),
		Shop:     clean(v.ShopName),
		Title:    p.write(mail+".title", w),
		Greeting: p.write(greeting, w),
		Intro:    c.intro(p, v, r, w),
		Facts:    c.facts(p, v, r, w),
		Sections: []section{p.section(mail+".help", w)},
		Link:     link{Label: p.write("account_link", w), URL: v.AccountURL},
		Footer:   p.writeAll("footer", w),
	}
	if r.code != noCode && v.Code != "" {
		l.Intro = append(l.Intro, p.writeAll(mail+".with_code", w)...)
		l.Code = c.code(p, v, w)
	} else {
		l.Intro = append(l.Intro, p.writeAll(mail+".without_code", w)...)
	}
	return l, p.err
}

// intro begins the letter. One code is for all of several parcels.
func (c *catalogue) intro(p *pen, v View, r rule, w values) []string {
	lines := p.writeAll("messages."+string(v.Kind)+"."+string(v.Purpose)+".intro", w)
	if r.code == noCode || v.Code == "" || len(v.More) == 0 || r.parts {
		return lines
	}
	return append(lines, p.write("together", w))
}

// codeFor are the parcels that the code is for: of several, those that are still to come.
func (v *View) codeFor() []string {
	if len(v.Left) > 0 {
		return v.Left
	}
	return append([]string{v.ParcelID}, v.More...)
}

// code is the block with the digits.
func (c *catalogue) code(p *pen, v View, w values) *codeBlock {
	of := "code." + string(v.Purpose)
	valid := of + ".valid"
	if ofOneDay(v) {
		valid = of + ".valid_day"
	}
	if of := v.codeFor(); len(of) > 1 || of[0] != v.ParcelID {
		w = w.with(values{"parcel_id": clean(strings.Join(of, ", "))})
	}
	return &codeBlock{
		Lead:   p.write(of+".lead", w),
		Digits: v.Code,
		Valid:  p.write(valid, w),
		Safety: p.section(of+".safety", w),
	}
}

func (c *catalogue) facts(p *pen, v View, r rule, w values) []fact {
	var facts []fact
	add := func(label, value string) {
		if value = clean(value); value != "" {
			facts = append(facts, fact{p.write("facts."+label, w), value})
		}
	}
	if r.at {
		add("when", w["at"])
	}
	if r.dispute {
		add("handed", w["handed"])
	}
	if r.doors {
		for _, kind := range v.Doors {
			add("door", p.write("own_doors."+kind, w))
		}
	}
	if r.courier {
		add("courier", v.CourierName)
	}
	add("parcel."+string(v.Purpose), strings.Join(append([]string{v.ParcelID}, v.More...), ", "))
	if r.parts {
		add("left", strings.Join(v.Left, ", "))
	}
	add("order", v.OrderID)
	add("shop", v.ShopName)
	add("contact", v.ShopContact)
	add("carrier", v.CarrierName)
	add("address", v.AddressLine)
	return facts
}
