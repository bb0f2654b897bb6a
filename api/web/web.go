// Package web renders the pages that people reach by a link from a mail: the access log
// of their building, and questions with a button. It does no I/O and decides nothing.
//
// Each page is one file: no script, nothing loaded from anywhere, a style that the
// policy names by its hash. A question's form posts to its own address, so that no page
// repeats the link that led to it.
package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"time"

	"golang.org/x/text/language"
)

//go:embed style.css
var style string

//go:embed page.html.tmpl
var source string

var page = template.Must(template.New("page").Parse(source))

// Policy is the Content-Security-Policy of every page (CSP level 3).
var Policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// Log is a building's access log as its residents see it.
type Log struct {
	Building, Address string
	Zone              *time.Location
	Until             time.Time // when the link ends
	Entries           []Entry   // newest first
	More              bool      // there are older ones in these days, too many to show
	Head              string    // its signed end, with which a reader can prove later what it said; empty: none yet
}

// Entry is one line of the log.
type Entry struct {
	At      time.Time
	Door    string // its kind: lobby, gate, ...
	DoorID  string // may be empty
	Carrier string // may be empty
	Outcome string // opened, refused, forced, ...
	Count   int    // how many it stands for, where more than one
}

// Question is a page with a button or two.
type Question uint8

// The questions, each of which its own POST answers.
const (
	_ Question = iota
	Confirm
	Unsubscribe
	Decide
)

// Answer is a page that says what was done, or what is so.
type Answer uint8

// The answers.
const (
	_       Answer = iota
	Active         // the notices begin
	Waiting        // the manager is asked
	Unsubscribed
	Approved
	Rejected
	Gone   // the link does not hold
	Broken // not now
)

// Asked is what a question is about.
type Asked struct {
	Building, Unit, Address string
}

// view is what the template sees.
type view struct {
	Style template.CSS
	Lang  string
	*words
	Log      *Log
	Question Question
	Asked    Asked
	Title    string
	Lines    []string
	Buttons  []button
}

type button struct{ Name, Label string }

var matcher = language.NewMatcher([]language.Tag{language.English, language.German})

// in chooses the language; English where none fits.
func in(locale string) (*words, string) {
	tag, _ := language.Parse(locale)
	_, i, _ := matcher.Match(tag)
	return []*words{&english, &german}[i], []string{"en", "de"}[i]
}

func render(v view, locale string) ([]byte, error) {
	v.Style = template.CSS(style)
	if v.words == nil {
		v.words, v.Lang = in(locale)
	}
	var b bytes.Buffer
	err := page.Execute(&b, &v)
	return b.Bytes(), err
}

// LogPage renders a log.
func LogPage(locale string, l Log) ([]byte, error) {
	return render(view{Log: &l}, locale)
}

// QuestionPage renders a question.
func QuestionPage(locale string, q Question, about Asked) ([]byte, error) {
	w, lang := in(locale)
	t := w.Questions[q]
	v := view{words: w, Lang: lang, Question: q, Asked: about, Title: t.Title, Lines: t.Lines, Buttons: t.buttons}
	return render(v, locale)
}

// AnswerPage renders an answer.
func AnswerPage(locale string, a Answer) ([]byte, error) {
	w, lang := in(locale)
	t := w.Answers[a]
	return render(view{words: w, Lang: lang, Title: t.Title, Lines: t.Lines}, locale)
}

// When writes a time of the log, at the building.
func (l *Log) When(t time.Time) string { return t.In(l.Zone).Format("2006-01-02 15:04") }

// Doing is what came of it, in the page's language.
func (v *view) Doing(outcome string) string {
	if said, known := v.Outcomes[outcome]; known {
		return said
	}
	return outcome
}

// Bad reports whether a line deserves a second look.
func (v *view) Bad(outcome string) bool {
	switch outcome {
	case "forced", "tampered", "held-open", "failed", "not-relocked", "jammed", "battery-low", "unavailable":
		return true
	}
	return false
}

// Door names a kind of door.
func (v *view) Door(kind string) string {
	if said, known := v.Doors[kind]; known {
		return said
	}
	return kind
}
