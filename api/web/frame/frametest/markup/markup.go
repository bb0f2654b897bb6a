// Package markup finds mistakes in a page's HTML that a browser passes over, but that
// people meet who use a keyboard or a screen reader. It holds in Go what html-validate and
// the W3C's checker found once, so that it stays found.
package markup

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// named are the elements that an aria-label may name without a role of their own.
var named = []atom.Atom{
	atom.A, atom.Article, atom.Aside, atom.Button, atom.Dialog, atom.Fieldset, atom.Footer, atom.Form, atom.Header, atom.Iframe, atom.Img,
	atom.Input, atom.Main, atom.Nav, atom.Output, atom.Section, atom.Select, atom.Summary, atom.Svg, atom.Table, atom.Textarea, atom.Video,
}

var headings = []atom.Atom{atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6}

// references are the attributes whose value is a list of ids.
var references = []string{"for", "aria-labelledby", "aria-describedby", "aria-controls"}

// Faults are the mistakes of a page, each in a line. It looks at:
//
//   - the doctype, a title and a language
//   - buttons without a type, or without a name
//   - forms without a button that sends them
//   - empty headings and labels
//   - aria-label on what has no role
//   - ids that are there twice, and references to none
//   - pictures without alt, frames without a title
func Faults(page string) []string {
	var faults []string
	fault := func(format string, values ...any) { faults = append(faults, fmt.Sprintf(format, values...)) }
	if !strings.HasPrefix(page, "<!DOCTYPE html>") {
		fault("the page does not begin with <!DOCTYPE html>")
	}
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return append(faults, err.Error())
	}
	ids, wanted, titles := map[string]bool{}, map[string]string{}, 0
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode {
			label, labelled := attribute(n, "aria-label")
			_, roled := attribute(n, "role")
			switch {
			case labelled && label == "":
				fault("an empty aria-label on %s", show(n))
			case labelled && !roled && !slices.Contains(named, n.DataAtom):
				fault("aria-label on %s, which has no role", show(n))
			}
			if id, has := attribute(n, "id"); has {
				if ids[id] || id == "" {
					fault("the id %q is there twice, or empty", id)
				}
				ids[id] = true
			}
			for _, name := range references {
				list, _ := attribute(n, name)
				for _, id := range strings.Fields(list) {
					wanted[id] = show(n)
				}
			}
			text := strings.TrimSpace(textOf(n))
			switch n.DataAtom {
			case atom.Html:
				if lang, _ := attribute(n, "lang"); lang == "" {
					fault("the page has no language")
				}
			case atom.Title:
				if n.Parent.DataAtom == atom.Head {
					titles++
					if text == "" {
						fault("the title is empty")
					}
				}
			case atom.Button:
				if kind, _ := attribute(n, "type"); !slices.Contains([]string{"submit", "button", "reset"}, kind) {
					fault("%s has no type", show(n))
				}
				if text == "" && label == "" {
					fault("%s has no name", show(n))
				}
			case atom.Label:
				if text == "" {
					fault("%s is empty", show(n))
				}
			case atom.Form:
				if !sends(n) {
					fault("%s has no button that sends it", show(n))
				}
			case atom.Img:
				if _, has := attribute(n, "alt"); !has {
					fault("%s has no alt", show(n))
				}
			case atom.Iframe:
				if title, _ := attribute(n, "title"); title == "" {
					fault("%s has no title", show(n))
				}
			}
			if slices.Contains(headings, n.DataAtom) && text == "" {
				fault("%s is empty", show(n))
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(root)
	if titles != 1 {
		fault("the page has %d titles", titles)
	}
	for id, from := range wanted {
		if !ids[id] {
			fault("%s refers to the id %q, which is not there", from, id)
		}
	}
	return faults
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func textOf(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	var b strings.Builder
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		b.WriteString(textOf(c))
	}
	return b.String()
}

// sends reports whether a button below n sends its form.
func sends(n *html.Node) bool {
	if kind, _ := attribute(n, "type"); n.DataAtom == atom.Button && kind == "submit" {
		return true
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if sends(c) {
			return true
		}
	}
	return false
}

// show is the start tag of an element.
func show(n *html.Node) string {
	var b strings.Builder
	b.WriteString("<" + n.Data)
	for _, a := range n.Attr {
		fmt.Fprintf(&b, " %s=%q", a.Key, a.Val)
	}
	return b.String() + ">"
}
