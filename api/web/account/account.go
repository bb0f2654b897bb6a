// Package account is the customer's page: what comes today and what came before, the code
// for the door, where the parcel is in its day, and what can be done about it.
//
// Everything that it shows comes from GET /v1/customers/{customer_id}/handoffs and GET
// /v1/handoffs/{grant_id}, and everything that it does goes there too. Who renders a page
// of their own finds the same in docs/pages.md.
package account

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/storage"
)

//go:embed assets pages parts words.yaml
var files embed.FS

// Links reads the links by which shops send their customers here.
type Links interface {
	// Check reports whether a link may still hold, and uses nothing up.
	Check(token string) error

	// Use says who a link is for, the first time, and who made it.
	Use(ctx context.Context, token string) (handoff.CustomerRef, identity.Maker, error)
}

// Set is the account's pages:
//
//	GET  /account                 the customer's deliveries
//	GET  /account/{grant_id}      one of them
//	POST /account/{grant_id}      act=resend, reissue, consent (kind, agree), dispute (reason) or withdraw
//	GET  /account/link/{token}    a shop's link: a button, and nothing happens yet
//	POST /account/link/{token}    begins a session of that customer
func Set(links Links) frame.Set {
	p := &pages{links: links}
	return frame.Set{Name: "account", Files: files, Home: "/account", Scopes: []auth.Scope{auth.Customer}, Routes: func(r *frame.Pages) {
		r.Handle("GET /account", p.deliveries)
		r.Handle("GET /account/{grant_id}", p.delivery)
		r.Handle("POST /account/{grant_id}", p.act)
		r.Link("GET /account/link/{token}", p.link)
		r.Link("POST /account/link/{token}", p.follow)
	}}
}

type pages struct{ links Links }

// deliveries is what the list shows.
type deliveries struct {
	Today, Coming, Before []*delivery

	Next  string // the cursor of what came before these; empty: nothing did
	Older bool   // this is not the first page
}

// listed is how many deliveries a page lists.
const listed = "50"

func (p *pages) deliveries(v *frame.Visit) {
	var answer struct {
		Handoffs []*delivery `json:"handoffs"`
		Next     string      `json:"next"`
	}
	query, cursor := url.Values{"limit": {listed}}, v.R.URL.Query().Get("cursor")
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	if !v.Read("/v1/customers/"+url.PathEscape(v.Visitor.Principal.Subject)+"/handoffs?"+query.Encode(), &answer) {
		return
	}
	all := deliveries{Next: answer.Next, Older: cursor != ""}
	for _, d := range answer.Handoffs {
		d.now = v.Now
		switch {
		case !v.Now.Before(d.ValidUntil), d.Status == "recalled" && !d.begun():
			all.Before = append(all.Before, d)
		case d.begun():
			all.Today = append(all.Today, d)
		default:
			all.Coming = append(all.Coming, d)
		}
	}
	slices.SortStableFunc(all.Coming, func(a, b *delivery) int { return a.ValidFrom.Compare(b.ValidFrom) })
	// What still needs the customer stands first.
	slices.SortStableFunc(all.Today, func(a, b *delivery) int { return a.rank() - b.rank() })
	v.Render(http.StatusOK, "deliveries", all)
}

// shown is one delivery's page.
type shown struct {
	*delivery
	Done    string // what was just done; a key of the words
	Refused string // why it was not
	Wait    int    // seconds until it can be tried again; 0: the API did not say
}

// done are the acts that the page says were done, by the address that follows them.
var done = []string{"resend", "reissue", "consent", asked, "dispute", "withdraw"}

// asked is what consent comes to in a session that a shop's link began: a mail asks first.
const asked = "asked"

func (p *pages) delivery(v *frame.Visit) {
	s := shown{delivery: p.read(v)}
	if s.delivery == nil {
		return
	}
	if said := v.R.URL.Query().Get("done"); slices.Contains(done, said) {
		s.Done = said
	}
	v.Render(http.StatusOK, "delivery", s)
}

func path(v *frame.Visit) string { return "/v1/handoffs/" + url.PathEscape(v.R.PathValue("grant_id")) }

// read is the delivery that the address names; nil if the visitor was answered already.
func (p *pages) read(v *frame.Visit) *delivery {
	d := &delivery{now: v.Now}
	if !v.Read(path(v), d) {
		return nil
	}
	return d
}

func (p *pages) act(v *frame.Visit) {
	act, body := v.R.PostFormValue("act"), any(nil)
	to := act
	switch act {
	case "resend", "reissue":
	case "dispute":
		body = map[string]string{"reason": v.R.PostFormValue("reason")}
	case "withdraw":
		to = "dispute/withdraw"
	case "consent":
		d := p.read(v)
		if d == nil {
			return
		}
		body = map[string][]string{"doors": d.consents(v.R.PostFormValue("kind"), v.R.PostFormValue("agree") == "yes", v.Visitor.Principal.Link != nil)}
	default:
		v.Fail(http.StatusNotFound)
		return
	}
	answer := v.Ask(http.MethodPost, path(v)+"/"+to, body)
	if answer.OK() {
		v.Redirect("/account/" + url.PathEscape(v.R.PathValue("grant_id")) + "?done=" + act)
		return
	}
	if answer.Code() == string(handoff.ConfirmationSent) {
		v.Redirect("/account/" + url.PathEscape(v.R.PathValue("grant_id")) + "?done=" + asked)
		return
	}
	d := p.read(v) // as it is now: it may be what was in the way
	if d == nil {
		return
	}
	v.Render(answer.Status, "delivery", shown{delivery: d, Refused: answer.Code(), Wait: int(answer.RetryAfter.Seconds())})
}

// link asks whether to go on. Scanners open the links in mails and chats, so that looking
// at one must not use it up.
func (p *pages) link(v *frame.Visit) {
	if p.links.Check(v.R.PathValue("token")) != nil {
		v.Render(http.StatusGone, "link", false)
		return
	}
	v.Render(http.StatusOK, "link", true)
}

func (p *pages) follow(v *frame.Visit) {
	ctx, cancel := context.WithTimeout(v.R.Context(), 5*time.Second)
	defer cancel()
	c, maker, err := p.links.Use(ctx, v.R.PathValue("token"))
	switch {
	case errors.Is(err, identity.ErrLink):
		v.Render(http.StatusGone, "link", false)
		return
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		v.Fail(http.StatusServiceUnavailable)
		return
	case err != nil:
		v.Broken(err)
		return
	}
	who := auth.Principal{Subject: c.ID, Shop: c.Shop, Scopes: []auth.Scope{auth.Customer}, Link: &maker}
	switch err := v.SignIn(who); {
	case errors.Is(err, auth.ErrToken): // its maker may speak for the shop no more
		v.Render(http.StatusGone, "link", false)
		return
	case errors.Is(err, storage.ErrUnavailable):
		v.Fail(http.StatusServiceUnavailable)
		return
	case err != nil:
		v.Broken(err)
		return
	}
	v.Redirect("/account")
}
