// Package ops is the duty officer's board: how the day goes, where handoffs fail and why,
// what should be looked at, one parcel's whole story, and what can be done about it.
//
// It asks GET /v1/ops/numbers and GET /v1/events, and acts by the routes of couriers and
// dispatches, with the visitor's own scopes: what only a shop may do, only a visitor who
// is of that shop, too, can do here. A shop's clerk has the page of a parcel alone, and on
// it what a shop may know and do: no log, but a release by hand, which takes two clerks.
package ops

import (
	"cmp"
	"embed"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/handoff"
)

//go:embed assets pages parts words.yaml
var files embed.FS

// Set is the board's pages:
//
//	GET  /ops             the figures of a day: day, zone
//	GET  /ops/alarms      what should be looked at, of the last day
//	GET  /ops/parcel      a parcel's story: grant, or carrier and parcel, or shop and order; a clerk: grant or order
//	POST /ops/parcel      act=hold, lift, ask, approve, received or not-received (grant, reason)
//	GET  /ops/courier     a courier: carrier, courier
//	POST /ops/courier     act=suspend, admit, sign-out or clear
func Set() frame.Set {
	return frame.Set{Name: "ops", Files: files, Scopes: []auth.Scope{auth.Ops, auth.Shop}, Routes: func(r *frame.Pages) {
		r.Handle("GET /ops", duty(numbers))
		r.Handle("GET /ops/alarms", duty(alarms))
		r.Handle("GET /ops/parcel", parcel)
		r.Handle("POST /ops/parcel", actOnParcel)
		r.Handle("GET /ops/courier", duty(courier))
		r.Handle("POST /ops/courier", duty(actOnCourier))
	}}
}

// duty keeps a page for the duty officer.
func duty(page func(*frame.Visit)) func(*frame.Visit) {
	return func(v *frame.Visit) {
		if !v.Visitor.Principal.Has(auth.Ops) {
			v.Fail(http.StatusForbidden)
			return
		}
		page(v)
	}
}

// event is one of GET /v1/events.
type event struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Subject string    `json:"subject"`
	Data    struct {
		Shop     string     `json:"shop_id"`
		Carrier  string     `json:"carrier_id"`
		Parcel   string     `json:"parcel_id"`
		Parcels  []string   `json:"parcel_ids"`   // which of several
		Left     int        `json:"parcels_left"` // of several
		Route    string     `json:"route_id"`
		Courier  string     `json:"courier_id"`
		By       string     `json:"by"`
		Who      string     `json:"who"`
		Link     string     `json:"link_maker"`
		Device   string     `json:"device"`
		Claimed  *time.Time `json:"claimed_at"`
		Reason   string     `json:"reason"`
		Distance int        `json:"distance_m"`
		Building string     `json:"building_id"`
		Door     string     `json:"door_id"`
		Kind     string     `json:"door_kind"`
		Permit   string     `json:"permit_id"`
		Count    int        `json:"count"`
		Changes  []string   `json:"changes"`
		APIKey   string     `json:"api_key"`
		Object   string     `json:"object"`
		Scopes   []string   `json:"scopes"`
	} `json:"data"`
}

// Tone is how the page colours an event, beside saying it.
func (e event) Tone() string {
	switch e.Type {
	case "released", "collected", "door_opened", "door_confirmed":
		return "good"
	case "code_refused", "code_locked", "mail_failed", "tried_elsewhere", "access_refused", "door_failed", "door_refused", "door_silent", "door_battery_low", "door_unavailable", "aborted", "expired":
		return "warn"
	case "signal", "impossible_journey", "door_forced", "door_tampered", "door_held_open", "door_jammed", "contested", "override_asked", "overridden", "disputed", "events_lost", "dispatch_lost", "partition_refused":
		return "bad"
	}
	return ""
}

// read reads events, oldest first, as many pages as a visitor can wait for. More says
// that there are others.
func read(v *frame.Visit, query url.Values, pages int) (events []event, more, ok bool) {
	query.Set("limit", "500")
	for range pages {
		var answer struct {
			Events []event `json:"events"`
			Next   string  `json:"next"`
			More   bool    `json:"more"`
		}
		if !v.Read("/v1/events?"+query.Encode(), &answer) {
			return nil, false, false
		}
		events = append(events, answer.Events...)
		if !answer.More {
			return events, false, true
		}
		query.Set("cursor", answer.Next)
	}
	return events, true, true
}

// alarming are the events that the duty officer should look at.
var alarming = []string{"signal", "impossible_journey", "contested", "door_forced", "door_tampered", "door_held_open", "door_jammed", "door_battery_low", "door_unavailable", "override_asked", "overridden", "events_lost", "dispatch_lost", "partition_refused"}

const (
	alarmPages = 8
	storyPages = 20
	alarmsOf   = 24 * time.Hour
)

type alarmed struct {
	Page     string
	Disputes []event // that wait for a decision, oldest first
	Mails    []event // with codes, that failed and that nothing was done about yet, newest first
	Others   int     // such mails that are not among Mails
	Events   []event // newest first
	Acts     []event // what people and keys did by a privilege, newest first
	More     bool
}

// privileged are the events of acts by a privilege that the duty officer should see. Routes and
// links are too many for it, and stand in the log.
const privileged = actsOn + ",key_changed,signer_changed,sessions_ended,door_changed,building_changed"

// disputesOf is how far back open disputes are looked for: as long as policy lets a decision take.
const disputesOf = 30 * 24 * time.Hour

// openDisputes are the disputes that are open. It answers the visitor where it cannot.
func openDisputes(v *frame.Visit) (open []event, ok bool) {
	events, _, ok := read(v, url.Values{
		"type": {"disputed,dispute_withdrawn,dispute_settled"}, "from": {v.Now.Add(-disputesOf).UTC().Format(time.RFC3339)},
	}, alarmPages)
	for _, e := range events {
		open = slices.DeleteFunc(open, func(o event) bool { return o.Subject == e.Subject })
		if e.Type == "disputed" {
			open = append(open, e)
		}
	}
	return open, ok
}

// mailsShown is how many mails that failed are shown: where a mail server is down, all fail.
const mailsShown = 20

// failedMails are the mails with codes that failed and did not arrive since, newest first, of grants
// that got no other code and may still be handed over. It answers the visitor where it cannot.
func failedMails(v *frame.Visit) (failed []event, more, ok bool) {
	events, more, ok := read(v, url.Values{
		"type": {"mail_failed,mail_arrived,code_reissued,rescheduled,recalled,expired"}, "from": {v.Now.Add(-alarmsOf).UTC().Format(time.RFC3339)},
	}, alarmPages)
	of := map[string]int{} // the newest event of a grant
	for i, e := range events {
		of[e.Subject] = i
	}
	for i, e := range slices.Backward(events) {
		if e.Type == "mail_failed" && of[e.Subject] == i {
			failed = append(failed, e)
		}
	}
	return failed, more, ok
}

func alarms(v *frame.Visit) {
	known := handoff.EventTypes()
	types := slices.DeleteFunc(slices.Clone(alarming), func(name string) bool { return !slices.Contains(known, name) })
	events, more, ok := read(v, url.Values{
		"type": {strings.Join(types, ",")}, "from": {v.Now.Add(-alarmsOf).UTC().Format(time.RFC3339)},
	}, alarmPages)
	if !ok {
		return
	}
	slices.Reverse(events)
	open, ok := openDisputes(v)
	if !ok {
		return
	}
	mails, moreMails, ok := failedMails(v)
	if !ok {
		return
	}
	others := max(0, len(mails)-mailsShown)
	mails = mails[:len(mails)-others]
	acts, moreActs, ok := read(v, url.Values{
		"type": {privileged}, "from": {v.Now.Add(-alarmsOf).UTC().Format(time.RFC3339)},
	}, alarmPages)
	if !ok {
		return
	}
	slices.Reverse(acts)
	v.Render(http.StatusOK, "alarms", alarmed{"alarms", open, mails, others, events, acts, more || moreActs || moreMails})
}

// story is what the page of a parcel shows.
type story struct {
	Page                   string
	Carrier, Parcel, Grant string // as asked for
	Shop, Order, Day       string
	Grants                 []told
	Asked, Wrong, More     bool
	Done, Refused          string
	Shipment               *shipment // of the newest grant, where the visitor may see it
	Dispute                *dispute  // of the newest grant, while it is open
	Duty                   bool      // the visitor is the duty officer
	Mine                   bool      // the visitor is of a shop
	Matches                []match   // of an order with several parcels
}

// match is a parcel of an order.
type match struct {
	Carrier string `json:"carrier_id"`
	Parcel  string `json:"parcel_id"`
	Grant   string `json:"grant_id"`
	Status  string `json:"status"`
}

// told is one grant's story, oldest first.
type told struct {
	Grant  string
	Events []event
	Held   bool
	Over   bool
}

// shipment is the answer of GET /v1/dispatches/{grant_id}, as a shop sees it.
type shipment struct {
	Status   string `json:"status"`
	Carrier  string `json:"carrier_id"`
	Parcel   string `json:"parcel_id"`
	Day      string `json:"delivery_date"`
	Override *struct {
		By      string    `json:"asked_by"`
		Own     bool      `json:"own"`
		Reason  string    `json:"reason"`
		AskedAt time.Time `json:"asked_at"`
		Until   time.Time `json:"until"`
	} `json:"override"`
}

// dispute is the answer of GET /v1/dispatches/{grant_id}/dispute.
type dispute struct {
	Dispute struct {
		Status   string    `json:"status"`
		Since    time.Time `json:"since"`
		DecideBy time.Time `json:"decide_by"`
	} `json:"dispute"`
	Reason   string `json:"reason"`
	Evidence struct {
		At       time.Time `json:"handed_over_at"`
		Courier  string    `json:"courier_id"`
		Distance int       `json:"distance_m"`
		Issue    int       `json:"code_issue"`
		Parcels  []string  `json:"parcel_ids"` // of several
	} `json:"evidence"`
}

func valid(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return handoff.CheckID(id) != nil })
}

func parcel(v *frame.Visit) {
	q := v.R.URL.Query()
	s := story{}
	if done := q.Get("done"); slices.Contains([]string{"hold", "lift", "ask", "approve", "settle"}, done) {
		s.Done = done
	}
	for name, into := range map[string]*string{"carrier": &s.Carrier, "parcel": &s.Parcel, "grant": &s.Grant, "shop": &s.Shop, "order": &s.Order, "day": &s.Day} {
		*into = strings.TrimSpace(q.Get(name))
	}
	s.show(v, http.StatusOK)
}

func (s *story) show(v *frame.Visit, status int) {
	s.Page = "parcel"
	p := &v.Visitor.Principal
	s.Duty, s.Mine = p.Has(auth.Ops), p.Has(auth.Shop)
	if !s.Duty { // finds by the log nothing, and by an order only the shop's own
		s.Carrier, s.Parcel, s.Shop = "", "", ""
		if s.Order != "" {
			s.Shop = p.Shop
		}
	}
	query := url.Values{}
	switch {
	case s.Grant != "":
		_, err := handoff.ParseGrantID(s.Grant)
		s.Asked, s.Wrong = true, err != nil
		query.Set("grant", s.Grant)
	case s.Parcel != "" || s.Carrier != "":
		s.Asked, s.Wrong = true, !valid(s.Carrier) || handoff.CheckLabel(s.Parcel) != nil
		query.Set("parcel", s.Parcel)
		query.Set("carrier", s.Carrier)
	}
	if s.Order != "" || s.Shop != "" {
		s.Asked, s.Wrong = true, !valid(s.Shop, s.Order)
		if !s.Wrong && !s.ofOrder(v) {
			return
		}
		if len(s.Matches) == 1 { // the story itself
			query.Set("grant", s.Matches[0].Grant)
		}
	}
	if !s.Asked || s.Wrong || len(query) == 0 {
		v.Render(status, "parcel", s)
		return
	}
	if s.Duty {
		events, more, ok := read(v, query, storyPages)
		if !ok {
			return
		}
		s.More = more
		for _, e := range events {
			i := slices.IndexFunc(s.Grants, func(t told) bool { return t.Grant == e.Subject })
			if i < 0 {
				i = len(s.Grants)
				s.Grants = append(s.Grants, told{Grant: e.Subject})
			}
			t := &s.Grants[i]
			t.Events = append(t.Events, e)
			switch e.Type {
			case "held", "disputed":
				t.Held = true
			case "lifted", "dispute_withdrawn", "dispute_settled":
				t.Held = false
			case "released", "collected", "recalled", "expired", "overridden":
				t.Over = true
			case "aborted", "rescheduled":
				t.Over = false
			}
		}
		slices.Reverse(s.Grants) // the newest generation first
	}
	grant := query.Get("grant")
	if len(s.Grants) > 0 {
		grant = s.Grants[0].Grant
	}
	if s.Mine && grant != "" {
		var sh shipment
		if answer := v.Ask(http.MethodGet, "/v1/dispatches/"+url.PathEscape(grant), nil); answer.OK() && answer.Read(&sh) == nil {
			s.Shipment = &sh
		}
	}
	if grant != "" {
		var d dispute
		at := "/v1/dispatches/" + url.PathEscape(grant) + "/dispute"
		if answer := v.Ask(http.MethodGet, at, nil); answer.OK() && answer.Read(&d) == nil && d.Dispute.Status == "open" {
			s.Dispute = &d
		}
	}
	if s.Shipment != nil && !s.Duty {
		held := s.Shipment.Status == "held"
		s.Grants = []told{{Grant: grant, Held: held, Over: !held && s.Shipment.Status != "active"}}
	}
	v.Render(status, "parcel", s)
}

// ofOrder finds the parcels of an order. It answers the visitor where it cannot.
func (s *story) ofOrder(v *frame.Visit) bool {
	query := url.Values{}
	if _, err := handoff.ParseDate(s.Day); err == nil {
		query.Set("delivery_date", s.Day)
	} else {
		s.Day = ""
	}
	var answer struct {
		Handoffs []match `json:"handoffs"`
	}
	if !v.Read("/v1/shops/"+url.PathEscape(s.Shop)+"/orders/"+url.PathEscape(s.Order)+"?"+query.Encode(), &answer) {
		return false
	}
	s.Matches = answer.Handoffs
	return true
}

func actOnParcel(v *frame.Visit) {
	act, grant := v.R.PostFormValue("act"), v.R.PostFormValue("grant")
	at, body := "/v1/dispatches/"+url.PathEscape(grant)+"/"+act, any(map[string]string{"reason": v.R.PostFormValue("reason")})
	switch act {
	case "hold":
	case "lift":
	case "ask":
		at = "/v1/dispatches/" + url.PathEscape(grant) + "/override"
	case "approve":
		at, body = "/v1/dispatches/"+url.PathEscape(grant)+"/override/approve", nil
	case "received", "not-received":
		ruling := map[string]string{"received": "handed-over"}[act]
		at, body = "/v1/dispatches/"+url.PathEscape(grant)+"/dispute/settle", map[string]string{"ruling": cmp.Or(ruling, act), "reason": v.R.PostFormValue("reason")}
		act = "settle"
	default:
		v.Fail(http.StatusNotFound)
		return
	}
	if _, err := handoff.ParseGrantID(grant); err != nil {
		v.Fail(http.StatusNotFound)
		return
	}
	answer := v.Ask(http.MethodPost, at, body)
	if answer.OK() {
		v.Redirect("/ops/parcel?" + url.Values{"grant": {grant}, "done": {act}}.Encode())
		return
	}
	s := story{Grant: grant, Refused: cmp.Or(answer.Code(), "other")}
	s.show(v, answer.Status)
}

// person is what the page of a courier shows.
type person struct {
	Page             string
	Carrier, Courier string
	Asked, Wrong     bool
	Done, Refused    string
	Record           *record // nil: not known, or not told
	Events           []event // what people did with the courier, the newest first
}

// actsOn are the events of what people and keys do with couriers, and staffOf how far back the page of
// a courier shows them.
const (
	actsOn  = "courier_signed_out,courier_changed,budget_cleared"
	staffOf = 30 * 24 * time.Hour
)

// record is the answer of GET /v1/couriers/{carrier_id}/{courier_id}.
type record struct {
	Name         string     `json:"name"`
	ClearedUntil *time.Time `json:"cleared_until"`
	Suspended    bool       `json:"suspended"`
	SignedOutAt  *time.Time `json:"signed_out_at"`
	Cleared      []struct {
		At     time.Time `json:"at"`
		Who    string    `json:"who"`
		Reason string    `json:"reason"`
	} `json:"budget_cleared"`
}

func (p *person) path() string {
	return "/v1/couriers/" + url.PathEscape(p.Carrier) + "/" + url.PathEscape(p.Courier)
}

func courier(v *frame.Visit) {
	q := v.R.URL.Query()
	p := person{Carrier: strings.TrimSpace(q.Get("carrier")), Courier: strings.TrimSpace(q.Get("courier"))}
	if done := q.Get("done"); slices.Contains([]string{"suspend", "admit", "sign-out", "clear"}, done) {
		p.Done = done
	}
	p.show(v, http.StatusOK)
}

func (p *person) show(v *frame.Visit, status int) {
	p.Page = "courier"
	p.Asked = p.Carrier != "" || p.Courier != ""
	p.Wrong = p.Asked && !valid(p.Carrier, p.Courier)
	if p.Asked && !p.Wrong {
		var r record
		if answer := v.Ask(http.MethodGet, p.path(), nil); answer.OK() && answer.Read(&r) == nil {
			p.Record = &r
		}
		events, _, ok := read(v, url.Values{
			"type": {actsOn}, "carrier": {p.Carrier}, "courier": {p.Courier}, "from": {v.Now.Add(-staffOf).UTC().Format(time.RFC3339)},
		}, storyPages)
		if !ok {
			return
		}
		slices.Reverse(events)
		p.Events = events
	}
	v.Render(status, "courier", *p)
}

func actOnCourier(v *frame.Visit) {
	p := person{Carrier: v.R.PostFormValue("carrier"), Courier: v.R.PostFormValue("courier")}
	act := v.R.PostFormValue("act")
	method, at, body := http.MethodPut, p.path(), any(nil)
	switch act {
	case "suspend", "admit":
		body = map[string]bool{"suspended": act == "suspend"}
	case "clear":
		body = map[string]any{"clear_budget": true, "reason": v.R.PostFormValue("reason")}
	case "sign-out":
		method, at = http.MethodPost, at+"/sign-out"
	}
	if method == http.MethodPut && body == nil || !valid(p.Carrier, p.Courier) {
		v.Fail(http.StatusNotFound)
		return
	}
	answer := v.Ask(method, at, body)
	if code := answer.Code(); act == "clear" && (code == "invalid-request" || code == string(handoff.PersonRequired)) {
		p.Refused = code
		p.show(v, answer.Status)
		return
	}
	if !answer.OK() {
		v.FailAs(answer)
		return
	}
	v.Redirect("/ops/courier?" + url.Values{"carrier": {p.Carrier}, "courier": {p.Courier}, "done": {act}}.Encode())
}
