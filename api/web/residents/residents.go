// Package residents is the pages that the links in residents' mails lead to: the access log
// of their building, and questions with a button or two. The link is all the authority that
// a visitor needs: there is no session, and a mail program may press a button by itself
// (RFC 8058).
package residents

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"latchkey/api/web/frame"
	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
)

//go:embed pages words.yaml
var files embed.FS

// Links reads links and does what their pages' buttons say. Each method answers
// identity.ErrLink or residents.ErrResidentUnknown where a link holds no longer.
type Links interface {
	// Follow says what a link of a purpose is for. It changes nothing.
	Follow(ctx context.Context, purpose residents.LinkFor, token string) (residents.Link, residents.Resident, error)

	// Confirm begins the notices, or asks the manager about the unit first.
	Confirm(ctx context.Context, building string, id handoff.ResidentID) (residents.State, error)

	Unsubscribe(ctx context.Context, building string, id handoff.ResidentID) error
	Approve(ctx context.Context, building string, id handoff.ResidentID) error
	Reject(ctx context.Context, building string, id handoff.ResidentID) error

	// Stay and Leave are what a resident says whom the manager removed.
	Stay(ctx context.Context, l residents.Link) error
	Leave(ctx context.Context, l residents.Link) error

	// FollowChange says which change of a door a link is about, as Follow does. Object ends
	// it; Agree has it count at once. Both may answer registry.ErrNoChange.
	FollowChange(ctx context.Context, token string) (residents.Change, error)
	Object(ctx context.Context, c residents.Change) error
	Agree(ctx context.Context, c residents.Change) error
	// ReadConsentLink reads the link of a mail that asks for a consent, and Confirmers says who
	// can give it now.
	ReadConsentLink(token string) (residents.ConsentLink, error)
	Confirmers(ctx context.Context, g *handoff.Grant, kinds []handoff.TargetKind) ([]residents.Resident, error)
}

// Grants reads grants, and takes a resident's agreement to what was asked for by a shop's link;
// a service.Service.
type Grants interface {
	Grant(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error)
	ConfirmConsent(ctx context.Context, by handoff.Actor, id handoff.GrantID, ask string) (handoff.Grant, error)
}

// Buildings reads buildings by id; nil if there is none.
type Buildings interface {
	Building(ctx context.Context, id string) (*handoff.Building, error)
}

// Config is what the pages need.
type Config struct {
	Links        Links
	Buildings    Buildings
	Grants       Grants
	CarrierNames map[string]string // what people call the carriers, by id; may be nil
}

// Set is the pages:
//
//	GET  /log/{token}                     the access log of the last thirty days
//	GET  /residents/confirm/{token}       asks whether the notices are wanted
//	GET  /residents/unsubscribe/{token}   asks whether they shall end
//	GET  /residents/decide/{token}        asks the manager whether an address belongs to a unit
//	GET  /residents/consent/{token}       asks whether a courier may open the unit's own door
//	GET  /residents/stay/{token}          asks one whom the manager removed
//	GET  /residents/change/{token}        asks about a change of one's own door
//	POST to any but the first             does what the button says, by the form field do
//
// No GET changes anything: mail servers and scanners follow links.
func Set(c Config) frame.Set {
	p := &pages{c}
	return frame.Set{Name: "residents", Files: files, Routes: func(r *frame.Pages) {
		r.Link("GET /log/{token}", p.log)
		for _, q := range []question{
			{name: "confirm", purpose: residents.LinkConfirm, buttons: []string{"confirm"}, do: p.confirm},
			{name: "unsubscribe", purpose: residents.LinkUnsubscribe, buttons: []string{"unsubscribe"}, do: p.unsubscribe},
			{name: "decide", purpose: residents.LinkDecide, buttons: []string{"approve", "reject"}, do: p.decide, manager: true},
			{name: "stay", purpose: residents.LinkStay, buttons: []string{"stay", "leave"}, do: p.stay},
		} {
			r.Link("GET /residents/"+q.name+"/{token}", func(v *frame.Visit) { p.ask(v, q) })
			r.OneClick("POST /residents/"+q.name+"/{token}", func(v *frame.Visit) { p.answer(v, q) })
		}
		r.Link("GET /residents/consent/{token}", p.askConsent)
		r.Link("POST /residents/consent/{token}", p.agree) // by a person alone: no mail program presses it
		r.Link("GET /residents/change/{token}", p.askChange)
		r.OneClick("POST /residents/change/{token}", p.answerChange)
	}}
}

type pages struct{ Config }

// question is a page with buttons.
type question struct {
	name    string // of its words and its path
	purpose residents.LinkFor
	buttons []string // values of the field do; the first is the one most likely meant
	manager bool     // asks the building's manager about a resident

	// do does what a button says, and returns the name of the answer's words.
	do func(ctx context.Context, l residents.Link, button string) (string, error)
}

// within bounds the work on one page.
const within = 5 * time.Second

// follow reads the link of the address, and bounds the work on the page.
func (p *pages) follow(v *frame.Visit, purpose residents.LinkFor) (context.Context, context.CancelFunc, residents.Link, residents.Resident, error) {
	ctx, cancel := context.WithTimeout(v.R.Context(), within)
	l, r, err := p.Links.Follow(ctx, purpose, v.R.PathValue("token"))
	return ctx, cancel, l, r, err
}

// fail tells that a link holds no longer, or that the page cannot be shown now.
func fail(v *frame.Visit, err error) {
	if errors.Is(err, identity.ErrLink) || errors.Is(err, residents.ErrResidentUnknown) || errors.Is(err, registry.ErrNoChange) {
		v.Render(http.StatusNotFound, "answer", "gone")
		return
	}
	v.Log(err)
	v.Render(http.StatusServiceUnavailable, "answer", "broken")
}

// asked is what a question's page shows.
type asked struct {
	Name                    string
	Buttons                 []string
	Building, Unit, Address string

	// Of a change of a door, or of a removal: what it is, and from when on it counts.
	Door    string   // its kind
	Changes []string // by the API's names
	From    time.Time
	Zone    *time.Location
}

// When writes a time at the building.
func (a *asked) When() string { return a.From.In(a.Zone).Format("2006-01-02 15:04") }

func (p *pages) ask(v *frame.Visit, q question) {
	ctx, cancel, l, r, err := p.follow(v, q.purpose)
	defer cancel()
	if err != nil {
		fail(v, err)
		return
	}
	b, err := p.Buildings.Building(ctx, l.Building)
	if err != nil {
		fail(v, err)
		return
	}
	about := asked{Name: q.name, Buttons: q.buttons, Unit: r.Unit}
	about.at(b, l.Building)
	if q.purpose == residents.LinkStay {
		about.From = r.LeavesAt.Time()
	}
	locale := r.Locale
	if q.manager {
		about.Address = r.Address
		if b != nil {
			locale = b.Locale
		}
	}
	v.Lang = frame.LanguageOf(locale)
	v.Render(http.StatusOK, "question", &about)
}

// at says which building it is: its name and zone, or what is known of one that is gone.
func (a *asked) at(b *handoff.Building, id string) {
	a.Building, a.Zone = id, time.UTC
	if b == nil {
		return
	}
	a.Building = b.Name
	if zone, err := handoff.Zone(b.Zone); err == nil {
		a.Zone = zone
	}
}

func (p *pages) askChange(v *frame.Visit) {
	ctx, cancel := context.WithTimeout(v.R.Context(), within)
	defer cancel()
	c, err := p.Links.FollowChange(ctx, v.R.PathValue("token"))
	if err != nil {
		fail(v, err)
		return
	}
	b, err := p.Buildings.Building(ctx, c.Building)
	if err != nil {
		fail(v, err)
		return
	}
	about := asked{
		Name: "change", Buttons: []string{"object"}, Unit: c.Door.Unit,
		Door: c.Door.Kind.String(), Changes: c.Door.Pending.Changes, From: c.Door.Pending.Due.Time(),
	}
	if about.at(b, c.Building); c.Approve {
		about.Buttons = append(about.Buttons, "agree")
	}
	if c.Locale != "" {
		v.Lang = frame.LanguageOf(c.Locale)
	}
	v.Render(http.StatusOK, "question", &about)
}

func (p *pages) answerChange(v *frame.Visit) {
	ctx, cancel := context.WithTimeout(v.R.Context(), within)
	defer cancel()
	c, err := p.Links.FollowChange(ctx, v.R.PathValue("token"))
	said := ""
	if err == nil {
		switch v.R.PostFormValue("do") {
		case "object":
			said, err = "objected", p.Links.Object(ctx, c)
		case "agree":
			said, err = "changed", p.Links.Agree(ctx, c)
		default:
			err = identity.ErrLink
		}
	}
	if err != nil {
		fail(v, err)
		return
	}
	if c.Locale != "" {
		v.Lang = frame.LanguageOf(c.Locale)
	}
	v.Render(http.StatusOK, "answer", said)
}

func (p *pages) stay(ctx context.Context, l residents.Link, button string) (string, error) {
	switch button {
	case "stay":
		return "stays", p.Links.Stay(ctx, l)
	case "leave":
		return "left", p.Links.Leave(ctx, l)
	}
	return "", identity.ErrLink
}

func (p *pages) answer(v *frame.Visit, q question) {
	ctx, cancel, l, r, err := p.follow(v, q.purpose)
	defer cancel()
	if err != nil {
		fail(v, err)
		return
	}
	said, err := q.do(ctx, l, v.R.PostFormValue("do"))
	if err != nil {
		fail(v, err)
		return
	}
	v.Lang = frame.LanguageOf(r.Locale)
	v.Render(http.StatusOK, "answer", said)
}

func (p *pages) confirm(ctx context.Context, l residents.Link, _ string) (string, error) {
	state, err := p.Links.Confirm(ctx, l.Building, l.Resident)
	if state == residents.ResidentConfirmed {
		return "waiting", err
	}
	return "active", err
}

func (p *pages) unsubscribe(ctx context.Context, l residents.Link, _ string) (string, error) {
	return "unsubscribed", p.Links.Unsubscribe(ctx, l.Building, l.Resident)
}

func (p *pages) decide(ctx context.Context, l residents.Link, button string) (string, error) {
	switch button {
	case "approve":
		return "approved", p.Links.Approve(ctx, l.Building, l.Resident)
	case "reject":
		return "rejected", p.Links.Reject(ctx, l.Building, l.Resident)
	}
	return "", identity.ErrLink
}

// shownLog is what the page of the log shows.
type shownLog struct {
	Building, Address string
	Zone              *time.Location
	Until             time.Time // when the link ends
	Entries           []entry   // newest first
	More              bool      // there are older ones in these days, too many to show
	Head              string    // the signed end, by which a reader can prove later what it said; empty: none yet
}

// entry is one line of the log, as GET /v1/access-logs/{token} has it.
type entry struct {
	At      time.Time `json:"at"`
	Door    string    `json:"door_id"`    // may be empty
	Kind    string    `json:"door_kind"`  // lobby, gate, ...
	Carrier string    `json:"carrier_id"` // may be empty
	Outcome string    `json:"outcome"`    // opened, refused, forced, ...
	Count   int       `json:"count"`      // how many it stands for
}

// Bad reports whether a line deserves a second look.
func (e entry) Bad() bool {
	return slices.Contains([]string{"forced", "tampered", "held-open", "failed", "not-relocked", "jammed", "battery-low", "unavailable"}, e.Outcome)
}

// When writes a time of the log, at the building.
func (l *shownLog) When(t time.Time) string { return t.In(l.Zone).Format("2006-01-02 15:04") }

func (p *pages) log(v *frame.Visit) {
	ctx, cancel, l, r, err := p.follow(v, residents.LinkLog)
	defer cancel()
	if err != nil {
		fail(v, err)
		return
	}
	b, err := p.Buildings.Building(ctx, l.Building)
	if err == nil && b == nil {
		err = identity.ErrLink
	}
	if err != nil {
		fail(v, err)
		return
	}
	zone, err := handoff.Zone(b.Zone)
	if err != nil {
		fail(v, err)
		return
	}
	var log struct {
		Passages []entry `json:"passages"`
		More     bool    `json:"more"`
		Head     string  `json:"head"`
	}
	answer := v.Ask(http.MethodGet, "/v1/access-logs/"+url.PathEscape(v.R.PathValue("token")), nil)
	if answer.Status == http.StatusTooManyRequests {
		v.FailAs(answer)
		return
	}
	if answer.Status == http.StatusNotFound {
		err = identity.ErrLink
	} else if !answer.OK() {
		err = errors.New("the access log cannot be read: " + answer.Code())
	} else {
		err = answer.Read(&log)
	}
	if err != nil {
		fail(v, err)
		return
	}
	for i := range log.Passages {
		if name := p.CarrierNames[log.Passages[i].Carrier]; name != "" {
			log.Passages[i].Carrier = name
		}
	}
	locale := r.Locale
	if r.ID == handoff.ManagerID {
		locale = b.Locale
	}
	v.Lang = frame.LanguageOf(locale)
	v.Render(http.StatusOK, "log", &shownLog{
		Building: b.Name, Address: b.Address, Zone: zone, Until: l.Until, Entries: log.Passages, More: log.More, Head: log.Head,
	})
}
