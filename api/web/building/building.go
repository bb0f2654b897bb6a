// Package building is the page of a building's manager: the doors and what they said
// last, what happened today, who may come and when, the residents' notices, a notice to
// be posted in the lobby, and the log, whose hash chain the reader's own browser verifies.
//
// All of it comes from the routes below /v1/buildings/{building_id}, and all that is
// changed goes there.
package building

import (
	"embed"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/handoff"
)

//go:embed assets pages parts words.yaml
var files embed.FS

// Set is a building's pages:
//
//	GET  /building                          the visitor's own, or which one to look at
//	GET  /building/{building_id}            doors, today, rules
//	GET  /building/{building_id}/log        what happened, and the chain's verification
//	GET  /building/{building_id}/residents  who is told
//	POST /building/{building_id}/residents  act=approve, reject (resident) or announce
//	GET  /building/{building_id}/rules      carriers and hours, to be changed
//	POST /building/{building_id}/rules      changes them
//	GET  /building/{building_id}/notice     for the lobby, to be printed
func Set() frame.Set {
	return frame.Set{Name: "building", Files: files, Scopes: []auth.Scope{auth.Building, auth.Ops}, Routes: func(r *frame.Pages) {
		r.Handle("GET /building", which)
		r.Handle("GET /building/{building_id}", overview)
		r.Handle("GET /building/{building_id}/log", history)
		r.Handle("GET /building/{building_id}/residents", residents)
		r.Handle("POST /building/{building_id}/residents", decide)
		r.Handle("GET /building/{building_id}/rules", rules)
		r.Handle("POST /building/{building_id}/rules", change)
		r.Handle("GET /building/{building_id}/notice", notice)
	}}
}

// which goes to the visitor's own building; who has none says which one.
func which(v *frame.Visit) {
	id := v.Visitor.Principal.Building
	if id == "" {
		id = strings.TrimSpace(v.R.URL.Query().Get("id"))
	}
	if id == "" || handoff.CheckID(id) != nil {
		v.Render(http.StatusOK, "which", id)
		return
	}
	v.Redirect("/building/" + url.PathEscape(id))
}

// hours are a stretch of the day, from and to as 07:00.
type hours struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// building is the answer of GET /v1/buildings/{building_id}.
type building struct {
	ID       string   `json:"building_id"`
	Name     string   `json:"name"`
	Address  string   `json:"address"`
	Zone     string   `json:"time_zone"`
	Manager  string   `json:"manager"`
	Carriers []string `json:"carriers"`
	Hours    *hours   `json:"delivery_hours"`
	Quiet    *hours   `json:"quiet_hours"`
	Returns  bool     `json:"returns"`
	Doors    []string `json:"doors"`

	Page string `json:"-"` // which of its pages is shown
}

// door is the answer of GET /v1/doors/{door_id}, and what it said last.
type door struct {
	ID   string `json:"door_id"`
	Kind string `json:"kind"`
	Mode string `json:"mode"`

	Pending *struct {
		Changes []string  `json:"changes"`
		From    time.Time `json:"takes_effect_at"`
	} `json:"pending"` // a change that waits; nil: none

	Last *passage `json:"-"` // nil: nothing, in what was looked at
}

// passage is a line of the access log.
type passage struct {
	Seq     uint64     `json:"seq"`
	At      time.Time  `json:"at"`
	Outcome string     `json:"outcome"`
	Door    string     `json:"door_id"`
	Kind    string     `json:"door_kind"`
	Carrier string     `json:"carrier_id"`
	Reason  string     `json:"reason"`
	Count   int        `json:"count"`
	Claimed *time.Time `json:"claimed_at"`
}

// Tone is how the page colours an outcome, beside saying it.
func (p *passage) Tone() string {
	switch p.Outcome {
	case "forced", "tampered", "held-open", "not-relocked", "failed", "jammed":
		return "bad"
	case "refused", "refused-by-door", "no-answer", "battery-low", "unavailable", "door-change-asked", "door-change-objected":
		return "warn"
	case "opened", "confirmed", "relocked":
		return "good"
	}
	return ""
}

type accessLog struct {
	Passages []passage `json:"passages"`
	Next     string    `json:"next"`
	Head     string    `json:"head"`
}

func path(v *frame.Visit) string {
	return "/v1/buildings/" + url.PathEscape(v.R.PathValue("building_id"))
}

// read is the building that the address names; nil if the visitor was answered already.
func read(v *frame.Visit, page string) *building {
	b := &building{Page: page}
	if !v.Read(path(v), b) {
		return nil
	}
	return b
}

const (
	shownDoors = 100 // how many doors are asked for
	lookedAt   = 200 // entries of the log in which today is looked for
)

// shown is what the overview shows.
type shown struct {
	*building
	List  []door
	More  int // doors that are not in the list
	Today []passage
	Older bool // today had more than the page shows
	Now   time.Time
}

func overview(v *frame.Visit) {
	b := read(v, "overview")
	if b == nil {
		return
	}
	s := shown{building: b, Now: v.Now}
	var log accessLog
	if !v.Read(path(v)+"/access-log?limit="+strconv.Itoa(lookedAt), &log) {
		return
	}
	last := map[string]*passage{}
	zone, err := handoff.Zone(b.Zone)
	if err != nil {
		zone = time.UTC
	}
	today := handoff.DateOf(v.Now.In(zone))
	s.Older = log.Next != ""
	for i := range log.Passages {
		p := &log.Passages[i]
		if last[p.Door] == nil && p.Outcome != "refused" && !strings.HasPrefix(p.Outcome, "door-change") {
			last[p.Door] = p
		}
		switch {
		case handoff.DateOf(p.At.In(zone)) != today:
			s.Older = false
		case p.Outcome != "rules-changed":
			s.Today = append(s.Today, *p)
		}
	}
	s.More = max(0, len(b.Doors)-shownDoors)
	for _, id := range b.Doors[:min(len(b.Doors), shownDoors)] {
		var d door
		if !v.Read("/v1/doors/"+url.PathEscape(id), &d) {
			return
		}
		if d.Named() {
			d.Last = last[id]
		}
		s.List = append(s.List, d)
	}
	slices.SortStableFunc(s.List, func(a, b door) int { return rank[a.Kind] - rank[b.Kind] })
	v.Render(http.StatusOK, "overview", s)
}

var rank = map[string]int{"gate": 0, "lobby": 1, "garage": 2, "home": 3}

// Named reports whether the log names the door. It does not name garages and homes, whose
// doors would tell who was visited.
func (d *door) Named() bool { return d.Kind == "gate" || d.Kind == "lobby" }

// logged is what the page of the log shows.
type logged struct {
	*building
	accessLog
	Newest bool
}

func history(v *frame.Visit) {
	b := read(v, "log")
	if b == nil {
		return
	}
	query := url.Values{"limit": {"100"}}
	before := v.R.URL.Query().Get("before")
	if _, err := strconv.ParseUint(before, 10, 53); err == nil {
		query.Set("before", before)
	} else {
		before = ""
	}
	l := logged{building: b, Newest: before == ""}
	if !v.Read(path(v)+"/access-log?"+query.Encode(), &l.accessLog) {
		return
	}
	v.Render(http.StatusOK, "log", l)
}

type resident struct {
	ID       string `json:"resident_id"`
	State    string `json:"state"`
	OnFile   bool   `json:"on_file"`
	Email    string `json:"email"`
	Unit     string `json:"unit"`
	Informed bool   `json:"informed"`
}

// told is what the page of the residents shows.
type told struct {
	*building
	Waiting, Others []resident
	Followers       int
	Done            string // what was just done; a key of the words
	Refused         bool
}

func residents(v *frame.Visit) {
	done := v.R.URL.Query().Get("done")
	if !slices.Contains([]string{"approve", "reject", "announce"}, done) {
		done = ""
	}
	showResidents(v, http.StatusOK, told{Done: done})
}

func showResidents(v *frame.Visit, status int, t told) {
	if t.building = read(v, "residents"); t.building == nil {
		return
	}
	var answer struct {
		Residents []resident `json:"residents"`
		Followers int        `json:"followers"`
	}
	if !v.Read(path(v)+"/residents", &answer) {
		return
	}
	t.Followers = answer.Followers
	for _, r := range answer.Residents {
		if r.State == "confirmed" {
			t.Waiting = append(t.Waiting, r)
		} else {
			t.Others = append(t.Others, r)
		}
	}
	byUnit := func(a, b resident) int { return strings.Compare(a.Unit+"\x00"+a.Email, b.Unit+"\x00"+b.Email) }
	slices.SortFunc(t.Waiting, byUnit)
	slices.SortFunc(t.Others, byUnit)
	v.Render(status, "residents", t)
}

func decide(v *frame.Visit) {
	act, at := v.R.PostFormValue("act"), path(v)
	switch act {
	case "approve", "reject":
		at += "/residents/" + url.PathEscape(v.R.PostFormValue("resident")) + "/" + act
	case "announce":
		at += "/announce"
	default:
		v.Fail(http.StatusNotFound)
		return
	}
	switch answer := v.Ask(http.MethodPost, at, nil); {
	case answer.OK():
		v.Redirect("/building/" + url.PathEscape(v.R.PathValue("building_id")) + "/residents?done=" + act)
	case answer.Code() == "resident-unknown": // decided elsewhere meanwhile
		showResidents(v, http.StatusConflict, told{Refused: true})
	default:
		v.FailAs(answer)
	}
}

func notice(v *frame.Visit) {
	b := read(v, "notice")
	if b == nil {
		return
	}
	kinds := map[string]bool{}
	for _, id := range b.Doors[:min(len(b.Doors), shownDoors)] {
		var d door
		if !v.Read("/v1/doors/"+url.PathEscape(id), &d) {
			return
		}
		kinds[d.Kind] = true
	}
	v.Render(http.StatusOK, "notice", struct {
		*building
		Kinds []string
		Now   time.Time
	}{b, slices.SortedFunc(maps.Keys(kinds), func(a, b string) int { return rank[a] - rank[b] }), v.Now})
}
