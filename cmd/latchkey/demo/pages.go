package demo

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"latchkey/api/web/frame"
	"latchkey/cmd/latchkey/sample"
)

//go:embed assets pages words.yaml
var files embed.FS

const (
	// pagePolicy is the frame's, with mails in frames of their own, and no text that
	// becomes markup.
	pagePolicy = frame.Policy + "; frame-src 'self'; require-trusted-types-for 'script'"

	// mailPolicy is for mails, whose content comes from their senders: an origin of their
	// own, nothing run and nothing loaded. A mail carries its styles in itself.
	mailPolicy = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; " +
		"form-action 'none'; frame-ancestors 'self'"
)

// offers are the parcels that the pages offer, and the people.
type offers struct {
	samples []offer
	parcels []offer  // for the building with doors
	people  []person // whom one can be
}

// offer is a dispatch of the sample day and who drives its route.
type offer struct {
	Label    string          `json:"label"`
	Courier  offeredCourier  `json:"courier"`
	Dispatch json.RawMessage `json:"dispatch"`

	of *dispatched
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

// newOffers panics where the sample day is broken: it is part of the program.
func newOffers() (o offers) {
	day := sampleDay()
	for _, w := range offered {
		o.samples = append(o.samples, w.offer(day))
	}
	building := sample.TheBuilding().ID
	for i := range day {
		if d := &day[i]; d.To.Building == building {
			o.parcels = append(o.parcels, d.offer())
		}
	}
	o.people = people(day)
	return o
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
	for i := range day {
		if d := &day[i]; w.city == d.To.City && w.kind == d.To.Kind && w.purpose == d.Purpose && slices.Contains(d.Categories, w.category) {
			return d.offer()
		}
	}
	panic(fmt.Sprintf("demo: no parcel like %v in the sample day", w))
}

func (d *dispatched) offer() offer {
	return offer{Courier: driver(d.Carrier, d.Route), Dispatch: d.line, of: d}
}

// labelled are offers with labels in the language of a page.
func labelled(v *frame.Visit, all []offer) ([]offer, error) {
	all = slices.Clone(all)
	for i := range all {
		label, err := all[i].of.label(v)
		if err != nil {
			return nil, err
		}
		all[i].Label = label
	}
	return all, nil
}

// label says what is in a parcel, what it is worth and where it goes.
func (d *dispatched) label(v *frame.Visit) (string, error) {
	what := ""
	for i, category := range d.Categories {
		name, err := v.Text("offer.category." + category)
		if err == nil && i > 0 {
			name, err = v.Text("offer.and", "a", what, "b", name)
		}
		if err != nil {
			return "", err
		}
		what = name
	}
	if d.Purpose == "return_pickup" {
		back, err := v.Text("offer.back", "what", what)
		if err != nil {
			return "", err
		}
		what = back
	}
	return v.Text("offer.label", "what", capital(what), "amount", d.Value.Amount, "currency", d.Value.Currency, "city", d.To.City)
}

// driver is who drives a route of the sample day.
func driver(carrier, route string) offeredCourier {
	for _, c := range sample.Couriers() {
		if c.CarrierID == carrier && slices.Contains(c.Routes, route) {
			return offeredCourier{ID: c.CourierID, Name: c.Name}
		}
	}
	panic("demo: no courier drives " + carrier + "'s " + route + " on the sample day")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (s *site) front(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, "front", func(v *frame.Visit) (any, error) {
		samples, err := labelled(v, s.samples)
		return map[string]any{"Samples": samples, "Keys": []int{1, 2, 3, 4, 5, 6, 7, 8, 9}}, err
	})
}

// listed is a mail as the page lists it.
type listed struct{ Mail }

// Clock says when the mail came.
func (m listed) Clock() string { return m.At.Format("2 Jan 2006, 15:04:05 MST") }

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
		Mails  []listed
		Total  int
		Open   *listed
		Chosen bool // by the reader; otherwise the newest is open
	}{To: to, Total: len(mails)}
	for _, m := range mails[:min(len(mails), shown)] {
		view.Mails = append(view.Mails, listed{m})
	}
	if id, err := strconv.Atoi(r.URL.Query().Get("mail")); err == nil {
		if m, ok := s.Mailbox.Get(id); ok {
			view.Open, view.Chosen = &listed{m}, true
		}
	}
	if view.Open == nil && len(view.Mails) > 0 {
		view.Open = &view.Mails[0]
	}
	s.page(w, r, "mailbox", func(*frame.Visit) (any, error) { return view, nil })
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
	w.Header().Set("Content-Type", media)
	io.WriteString(w, body) //nolint:errcheck // the client has gone
}

// page writes a page of the frame with what data returns for it.
func (s *site) page(w http.ResponseWriter, r *http.Request, name string, data func(*frame.Visit) (any, error)) {
	if s.pages == nil {
		newProblem(http.StatusNotFound).write(w)
		return
	}
	vary := w.Header().Values("Vary")
	s.pages.Serve(w, r, func(v *frame.Visit) {
		h := v.W.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h["Vary"] = append(vary, h.Values("Vary")...)
		view, err := data(v)
		if err != nil {
			v.Broken(err)
			return
		}
		v.Render(http.StatusOK, name, view)
	})
}
