package residents_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/valyala/fasthttp"

	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest/markup"
	"latchkey/api/web/residents"
	"latchkey/api/web/webtest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	residence "latchkey/handoff/residents"
	"latchkey/handoff/storage"
	"latchkey/handoff/words"
)

// links lead to one resident of one building.
type links struct {
	resident residence.Resident
	change   residence.Change
	err      error
	done     []string
}

func (l *links) Follow(_ context.Context, purpose residence.LinkFor, token string) (residence.Link, residence.Resident, error) {
	if token != "token" {
		return residence.Link{}, residence.Resident{}, identity.ErrLink
	}
	return residence.Link{For: purpose, Building: "bld", Resident: l.resident.ID, Until: handofftest.Noon.Add(time.Hour)}, l.resident, l.err
}

func (l *links) Confirm(context.Context, string, handoff.ResidentID) (residence.State, error) {
	l.done = append(l.done, "confirm")
	return l.resident.State(), l.err
}

func (l *links) ReadConsentLink(string) (residence.ConsentLink, error) {
	return residence.ConsentLink{}, identity.ErrLink // consent_test.go has the real ones
}

func (l *links) Confirmers(context.Context, *handoff.Grant, []handoff.TargetKind) ([]residence.Resident, error) {
	return nil, l.err
}

func (l *links) Unsubscribe(context.Context, string, handoff.ResidentID) error {
	l.done = append(l.done, "unsubscribe")
	return l.err
}

func (l *links) Approve(context.Context, string, handoff.ResidentID) error {
	l.done = append(l.done, "approve")
	return l.err
}

func (l *links) Reject(context.Context, string, handoff.ResidentID) error {
	l.done = append(l.done, "reject")
	return l.err
}

func (l *links) Stay(context.Context, residence.Link) error {
	l.done = append(l.done, "stay")
	return l.err
}

func (l *links) Leave(context.Context, residence.Link) error {
	l.done = append(l.done, "leave")
	return l.err
}

func (l *links) FollowChange(_ context.Context, token string) (residence.Change, error) {
	if token != "token" {
		return residence.Change{}, identity.ErrLink
	}
	return l.change, l.err
}

func (l *links) Object(context.Context, residence.Change) error {
	l.done = append(l.done, "object")
	return l.err
}

func (l *links) Agree(_ context.Context, c residence.Change) error {
	if !c.Approve {
		return identity.ErrLink
	}
	l.done = append(l.done, "agree")
	return l.err
}

// buildings has one building.
type buildings struct {
	one handoff.Building
	err error
}

func (b *buildings) Building(context.Context, string) (*handoff.Building, error) {
	return &b.one, b.err
}

// site is the pages with all that they ask.
type site struct {
	t         *testing.T
	links     *links
	buildings *buildings
	status    int // of the log
	log       map[string]any
	said      strings.Builder // the log of failures
	pages     *frame.Site
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		t: t,
		links: &links{
			resident: residence.Resident{Locale: "de", Unit: "4 links", Address: "resident@home.example", LeavesAt: handoff.InstantOf(handofftest.Noon.Add(72 * time.Hour))},
			change: residence.Change{Building: "bld", Locale: "de", Approve: true, Door: handoff.Door{
				Kind: handoff.Home, Unit: "4 links",
				Pending: &handoff.DoorChange{Changes: []string{"owner", "public_key"}, Due: handoff.InstantOf(handofftest.Noon.Add(72 * time.Hour))},
			}},
		},
		buildings: &buildings{one: handoff.Building{Name: "Haus Eins", Zone: "Europe/Berlin", Locale: "en"}},
		status:    http.StatusOK, log: map[string]any{},
	}
	way := &frame.API{}
	way.Serve(func(c *fasthttp.RequestCtx) {
		if string(c.Path()) != "/v1/access-logs/token" {
			t.Errorf("asked for %s", c.Path())
		}
		text, err := json.Marshal(s.log)
		if err != nil {
			t.Error(err)
		}
		c.SetStatusCode(s.status)
		if s.status == http.StatusTooManyRequests {
			c.Response.Header.Set("Retry-After", "7")
		}
		c.SetBody(text)
	})
	var err error
	s.pages, err = frame.New(frame.Config{
		API: way, Clock: handofftest.NewClock(handofftest.Noon), Log: slog.New(slog.NewTextHandler(&s.said, nil)),
		Identify: func(*http.Request) (frame.Visitor, bool) { return frame.Visitor{}, false },
	}, residents.Set(residents.Config{Links: s.links, Buildings: s.buildings}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends a request; headers come as name, value, name, value.
func (s *site) send(method, path, form string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.pages.ServeHTTP(w, r)
	for _, fault := range markup.Faults(w.Body.String()) {
		s.t.Errorf("%s %s: %s", method, path, fault)
	}
	return w
}

// What the log and the doors can say has words.
func TestWordsAreWhole(t *testing.T) {
	all, err := words.Load(residents.Set(residents.Config{}).Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []handoff.DoorState{
		handoff.DoorAuthorised, handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked, handoff.DoorFailed, handoff.DoorSilent,
	} {
		if !all.In("de").Has("outcomes." + state.String()) {
			t.Errorf("no word for %s", state)
		}
	}
	for _, kind := range []handoff.TargetKind{handoff.Lobby, handoff.Gate, handoff.Garage, handoff.Home} {
		if !all.In("de").Has("doors." + kind.String()) {
			t.Errorf("no word for a %s", kind)
		}
	}
}

// Each page is in the language of the person whose link it is; where the link says nothing
// of that, in the browser's.
func TestLanguages(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]string{
		"/log/token": "de", "/residents/confirm/token": "de", "/residents/unsubscribe/token": "de",
		"/residents/decide/token": "en", // the manager's
	} {
		if w := s.send("GET", path, "", "Accept-Language", map[string]string{"de": "en", "en": "de"}[want]); w.Code != 200 || !strings.Contains(w.Body.String(), `<html lang="`+want+`">`) {
			t.Errorf("%s: %d\n%s", path, w.Code, w.Body)
		}
	}
	for locale, want := range map[string]string{"de-AT": "de", "en": "en", "fr": "en", "": "en", "\x00": "en"} {
		w := s.send("GET", "/log/other", "", "Accept-Language", locale)
		if w.Code != 404 || !strings.Contains(w.Body.String(), `<html lang="`+want+`">`) {
			t.Errorf("%q: %d\n%s", locale, w.Code, w.Body)
		}
		s.links.resident.Locale = locale
		if w := s.send("GET", "/residents/confirm/token", ""); !strings.Contains(w.Body.String(), `<html lang="`+want+`">`) {
			t.Errorf("a resident's %q:\n%s", locale, w.Body)
		}
	}
}

// The page about a change says what would change and from when on, at the building, and lets
// only those agree who may.
func TestAChangeIsShown(t *testing.T) {
	s := newSite(t)
	for _, may := range []bool{true, false} {
		s.links.change.Approve = may
		text := s.send("GET", "/residents/change/token", "").Body.String()
		for _, want := range []string{"Eine Änderung", "Für wessen Sendungen sie öffnet", "Der Schlüssel ihrer Steuerung", "2026-11-27 12:00 (Europe/Berlin)", `value="object"`} {
			if !strings.Contains(strings.ReplaceAll(text, "eine Änderung", "Eine Änderung"), want) {
				t.Errorf("without %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, `value="agree"`) != may {
			t.Errorf("may agree %v:\n%s", may, text)
		}
	}
	if w := s.send("POST", "/residents/change/token", "do=agree"); w.Code != 404 || s.links.done != nil {
		t.Errorf("agreed by one who may not: %d, %v", w.Code, s.links.done)
	}
}

func TestForeignTextIsEscaped(t *testing.T) {
	const hostile = `"><script>x()</script>{{.Style}}{name}`
	s := newSite(t)
	empty := s.send("GET", "/log/token", "")
	s.buildings.one.Name, s.buildings.one.Address = hostile, hostile
	s.links.resident.Unit, s.links.resident.Address = hostile, hostile
	s.log = map[string]any{"head": hostile, "more": true, "passages": []any{map[string]any{
		"door_kind": hostile, "door_id": hostile, "carrier_id": hostile, "outcome": hostile, "at": handofftest.Noon,
	}}}
	log, question := s.send("GET", "/log/token", ""), s.send("GET", "/residents/decide/token", "")
	for _, page := range []*httptest.ResponseRecorder{empty, log, question} {
		if text := page.Body.String(); page.Code != 200 || strings.Contains(text, "<script") || strings.Contains(text, "ZgotmplZ") {
			t.Errorf("%d %s", page.Code, text)
		}
	}
	if !strings.Contains(log.Body.String(), "&lt;script&gt;") || !strings.Contains(question.Body.String(), "&lt;script&gt;") {
		t.Errorf("%s\n%s", log.Body, question.Body)
	}
	if !strings.Contains(empty.Body.String(), "In dieser Zeit ist nichts geschehen.") || strings.Contains(empty.Body.String(), "<table") {
		t.Errorf("%s", empty.Body)
	}
}

// A button does what it says, whichever program presses it: mail programs send the form
// from pages of their own.
func TestButtons(t *testing.T) {
	for _, test := range []struct {
		path, form string
		state      residence.Resident
		status     int
		done, want string
	}{
		{"confirm", "do=confirm", residence.Resident{ConfirmedAt: 1}, 200, "confirm", "The notices begin"},
		{"confirm", "do=confirm", residence.Resident{ConfirmedAt: 1, Unit: "4"}, 200, "confirm", "Your address is confirmed"},
		{"unsubscribe", "List-Unsubscribe=One-Click", residence.Resident{}, 200, "unsubscribe", "The notices have ended"},
		{"unsubscribe", "", residence.Resident{}, 200, "unsubscribe", "The notices have ended"},
		{"decide", "do=approve", residence.Resident{}, 200, "approve", "Approved"},
		{"decide", "do=reject", residence.Resident{}, 200, "reject", "Rejected"},
		{"stay", "do=stay", residence.Resident{}, 200, "stay", "You stay"},
		{"stay", "do=leave", residence.Resident{}, 200, "leave", "The notices have ended"},
		{"stay", "", residence.Resident{}, 404, "", "This link is over"},
		{"change", "do=object", residence.Resident{}, 200, "object", "Your door stays what it is"},
		{"change", "do=agree", residence.Resident{}, 200, "agree", "The door was changed"},
		{"change", "", residence.Resident{}, 404, "", "This link is over"},
		{"decide", "do=else", residence.Resident{}, 404, "", "This link is over"},
		{"decide", "", residence.Resident{}, 404, "", "This link is over"},
	} {
		s := newSite(t)
		s.links.resident, s.links.change.Locale = test.state, "en"
		for _, foreign := range [][]string{nil, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://mail.example"}} {
			s.links.done = nil
			w := s.send("POST", "/residents/"+test.path+"/token", test.form, foreign...)
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || strings.Join(s.links.done, " ") != test.done {
				t.Errorf("%s %s from %v: %d, done %v\n%s", test.path, test.form, foreign, w.Code, s.links.done, w.Body)
			}
		}
		s.links.done = nil
		if w := s.send("GET", "/residents/"+test.path+"/token?"+url.Values{"do": {"approve"}}.Encode(), ""); w.Code != 200 || s.links.done != nil {
			t.Errorf("looking at %s: %d, done %v", test.path, w.Code, s.links.done)
		}
	}
}

// What fails is told as it is: the link is over, or the page cannot be shown now. The log
// has the cause, and no link.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(*site)
		status int
	}{
		"the link":         {func(s *site) { s.links.err = identity.ErrLink }, 404},
		"the resident":     {func(s *site) { s.links.err = residence.ErrResidentUnknown }, 404},
		"the store":        {func(s *site) { s.links.err = storage.ErrUnavailable }, 503},
		"the registry":     {func(s *site) { s.buildings.err = errors.New("cause") }, 503},
		"an unknown zone":  {func(s *site) { s.buildings.one.Zone = "Nowhere/Else" }, 503},
		"the log":          {func(s *site) { s.status = 503 }, 503},
		"the log's link":   {func(s *site) { s.status = 404 }, 404},
		"too many of them": {func(s *site) { s.status = 429 }, 503},
	} {
		s := newSite(t)
		test.spoil(s)
		w := s.send("GET", "/log/token", "")
		if w.Code != test.status {
			t.Errorf("%s: %d", name, w.Code)
		}
		said := s.said.String()
		if strings.Contains(said, "log/token") || strings.Contains(said, "/log/{token}") != (test.status == 503 && s.status != 429) {
			t.Errorf("%s: the log says %q", name, said)
		}
		if s.status == 429 && w.Header().Get("Retry-After") != "7" {
			t.Errorf("%s: Retry-After %q", name, w.Header().Get("Retry-After"))
		}
	}
}

// The pages fit every window, in each language, light and dark, and run no script.
func TestFits(t *testing.T) {
	s := newSite(t)
	var passages []any
	for i, outcome := range []string{"relocked", "opened", "refused", "forced", "no-answer", "held-open"} {
		passages = append(passages, map[string]any{
			"door_kind": []string{"lobby", "gate", "garage"}[i%3], "door_id": []string{"turm5-lobby", "turm5-gate", ""}[i%3], "carrier_id": []string{"swift", ""}[i%2],
			"outcome": outcome, "at": handofftest.Noon.Add(-time.Duration(i) * time.Hour), "count": 1 + i%2,
		})
	}
	s.buildings.one.Address = "Turmstr. 5, 10559 Berlin"
	s.log = map[string]any{"more": true, "head": "building:bld_turm5 4711 " + strings.Repeat("a1b2c3d4", 24), "passages": passages}
	b := webtest.Start(t)
	b.Quiet()
	server := httptest.NewServer(s.pages)
	t.Cleanup(server.Close)
	for _, lang := range []string{"en", "de"} {
		s.links.resident.Locale, s.links.change.Locale, s.buildings.one.Locale = lang, lang, lang
		for name, path := range map[string]string{
			"log": "/log/token", "confirm": "/residents/confirm/token", "unsubscribe": "/residents/unsubscribe/token", "decide": "/residents/decide/token",
			"stay": "/residents/stay/token", "change": "/residents/change/token",
		} {
			b.Open(server.URL + path)
			if got := b.Says("document.documentElement.lang + document.scripts.length"); got != lang+"0" {
				t.Errorf("%s is in %s, with so many scripts", name, got)
			}
			b.Looks("residents-"+name+"-"+lang, 320, 360, 1280)
		}
		b.Open(server.URL + "/residents/confirm/token")
		b.Click("button")
		b.Reads("h1", map[string]string{"en": "The notices begin", "de": "Die Mitteilungen beginnen"}[lang])
		b.Looks("residents-answer-"+lang, 320, 360, 1280)
	}
}
