package demo

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/cmd/latchkey/sample"
)

//go:embed assets pages
var files embed.FS

const (
	// pagePolicy lets a page load from here only, and run nothing that is written in it.
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

	// mailPolicy is for mails, which are written by whoever sends them: an origin of their
	// own, nothing run and nothing loaded. A mail carries its styles in itself.
	mailPolicy = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; " +
		"form-action 'none'; frame-ancestors 'self'"
)

// pages are the templates, and the parcels that the first page offers.
type pages struct {
	front, mailbox, doors, who *template.Template
	samples                    []offer
	parcels                    []offer  // for the building with doors
	people                     []person // whom one can be
}

// offer is a dispatch of the sample day and who drives its route.
type offer struct {
	Label    string          `json:"label"`
	Courier  offeredCourier  `json:"courier"`
	Dispatch json.RawMessage `json:"dispatch"`
}

type offeredCourier struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// wanted says which parcel of the sample day to offer: the first of its kind.
type wanted struct{ city, kind, purpose, category string }

// offered are what the first page starts from: a parcel that needs a code, one that is
// worth too little for that, a return, one for a clerk at a counter, and one from where
// the day is over early.
var offered = []wanted{
	{"Berlin", "residence", "delivery", "electronics"},
	{"Berlin", "residence", "delivery", "books"},
	{"Berlin", "residence", "return_pickup", "clothing"},
	{"New York", "pickup_point", "delivery", "electronics"},
	{"Tokyo", "business", "delivery", "electronics"},
}

// newPages panics where a page or the sample day is broken: both are part of the program.
func newPages() *pages {
	parse := func(name string) *template.Template {
		return template.Must(template.New(name).Funcs(template.FuncMap{
			"clock": func(t time.Time) string { return t.Format("2 Jan 2006, 15:04:05 MST") },
		}).ParseFS(files, "pages/"+name))
	}
	p := &pages{front: parse("front.html"), mailbox: parse("mailbox.html"), doors: parse("doors.html"), who: parse("who.html")}
	day := sampleDay()
	for _, w := range offered {
		p.samples = append(p.samples, w.offer(day))
	}
	building := sample.TheBuilding().ID
	for _, d := range day {
		if d.To.Building == building {
			p.parcels = append(p.parcels, d.offer())
		}
	}
	p.people = people(day)
	return p
}

// dispatched is a line of the sample day, as far as the pages must know it.
type dispatched struct {
	Carrier    string                            `json:"carrier_id"`
	Route      string                            `json:"route_id"`
	Purpose    string                            `json:"purpose"`
	Value      struct{ Amount, Currency string } `json:"value"`
	Categories []string                          `json:"categories"`
	Customer   struct{ ID, Name string }         `json:"customer"`
	To         struct {
		Kind, City string
		Building   string `json:"building_id"`
	} `json:"destination"`

	line []byte
}

func sampleDay() (day []dispatched) {
	for line := range bytes.Lines(sample.Day()) {
		d := dispatched{line: bytes.Clone(bytes.TrimSpace(line))}
		if err := json.Unmarshal(line, &d); err != nil {
			panic(fmt.Sprintf("demo: sample day: %v", err))
		}
		day = append(day, d)
	}
	return day
}

func (w wanted) offer(day []dispatched) offer {
	for _, d := range day {
		if w.city == d.To.City && w.kind == d.To.Kind && w.purpose == d.Purpose && slices.Contains(d.Categories, w.category) {
			return d.offer()
		}
	}
	panic(fmt.Sprintf("demo: no parcel like %v in the sample day", w))
}

func (d *dispatched) offer() offer {
	what := strings.Join(d.Categories, " and ")
	if d.Purpose == "return_pickup" {
		what = "return of " + what
	}
	return offer{
		Label:    fmt.Sprintf("%s, %s %s, %s", capital(what), d.Value.Amount, d.Value.Currency, d.To.City),
		Courier:  driver(d.Carrier, d.Route),
		Dispatch: d.line,
	}
}

// driver is who drives a route of the sample day.
func driver(carrier, route string) offeredCourier {
	for _, c := range sample.Couriers() {
		if c.CarrierID == carrier && slices.Contains(c.Routes, route) {
			return offeredCourier{ID: c.CourierID, Name: c.Name}
		}
	}
	panic("demo: nobody drives " + carrier + "'s " + route + " on the sample day")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (s *site) front(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, s.pages.front, map[string]any{"Samples": s.pages.samples, "Keys": []int{1, 2, 3, 4, 5, 6, 7, 8, 9}})
}

// shown is how many mails the mailbox's page lists.
const shown = 100

// mailbox lists the mails. Programs, curl among them, get JSON.
func (s *site) mailbox(w http.ResponseWriter, r *http.Request) {
	mails, to := s.Mailbox.List(), r.URL.Query().Get("to")
	if to != "" {
		kept := make([]Mail, 0, len(mails))
		for _, m := range mails {
			if strings.EqualFold(m.To, to) {
				kept = append(kept, m)
			}
		}
		mails = kept
	}
	w.Header().Set("Vary", "Accept")
	if !prefersHTML(r.Header.Values("Accept")) {
		writeJSON(w, http.StatusOK, "application/json", mails)
		return
	}
	view := struct {
		To     string
		Mails  []Mail
		Total  int
		Open   *Mail
		Chosen bool // by the reader; otherwise the newest is open
	}{To: to, Total: len(mails), Mails: mails[:min(len(mails), shown)]}
	if id, err := strconv.Atoi(r.URL.Query().Get("mail")); err == nil {
		if m, ok := s.Mailbox.Get(id); ok {
			view.Open, view.Chosen = &m, true
		}
	}
	if view.Open == nil && len(mails) > 0 {
		view.Open = &mails[0]
	}
	s.page(w, r, s.pages.mailbox, view)
}

// prefersHTML reads Accept (RFC 9110 section 12.5.1). Only who names text/html gets a
// page: "*/*" is what programs say.
func prefersHTML(accept []string) bool {
	var html, js float64
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		quality, err := strconv.ParseFloat(cmp.Or(params["q"], "1"), 64)
		if err != nil {
			continue
		}
		switch media {
		case "text/html":
			html = quality
		case "application/json":
			js = quality
		}
	}
	return html > 0 && html >= js
}

// mail is one mail as its HTML, or as its text where it has none.
func (s *site) mail(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	m, ok := s.Mailbox.Get(id)
	if err != nil || !ok {
		newProblem(http.StatusNotFound).write(w)
		return
	}
	media, body := "text/html; charset=utf-8", m.HTML
	if body == "" {
		media, body = "text/plain; charset=utf-8", m.Text
	}
	// A link would open inside the frame, where no page of ours lets itself be shown.
	body = strings.Replace(body, "<head>", `<head><base target="_blank">`, 1)
	w.Header().Set("Content-Security-Policy", mailPolicy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", media)
	io.WriteString(w, body) //nolint:errcheck // the client has gone
}

var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	content, err := files.ReadFile("assets/" + name)
	if err != nil {
		newProblem(http.StatusNotFound).write(w)
		return
	}
	w.Header().Set("Content-Type", assetTypes[path.Ext(name)])
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(content) //nolint:errcheck // the client has gone
}

func (s *site) page(w http.ResponseWriter, r *http.Request, t *template.Template, view any) {
	var page bytes.Buffer
	if err := t.Execute(&page, view); err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Type", "text/html; charset=utf-8")
	page.WriteTo(w) //nolint:errcheck // the client has gone
}
