package demo

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest/markup"
)

// stage is a demonstration with its pages, whose tokens are kept for the test to look at.
type stage struct {
	*frame.Site
	mails  *Mailbox
	signed []auth.Principal
	fail   error
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{mails: newMailbox(t, 200)}
	clock, log := NewClock(noon), slog.New(slog.DiscardHandler)
	demo := New(Config{Clock: clock, Mailbox: s.mails, House: NewHouse(clock, log), Log: log, Sign: s.sign})
	nobody := func(*http.Request) (frame.Visitor, bool) { return frame.Visitor{}, false }
	var err error
	if s.Site, err = frame.New(frame.Config{API: &frame.API{}, Identify: nobody, Clock: clock, Log: log, Next: demo}, demo.Set()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) sign(p auth.Principal) (string, error) {
	s.signed = append(s.signed, p)
	return "token of " + p.Subject, s.fail
}

// ask sends a request; headers come as name, value, name, value.
func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost:8080"+target, strings.NewReader(body))
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code string, echo ...string) {
	t.Helper()
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if w.Code != status || p.Status != status || p.Code != code || p.Type != "urn:latchkey:problem:"+code || p.Title == "" {
		t.Errorf("%d %s, want %d %s", w.Code, w.Body, status, code)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type is %s", got)
	}
	for _, sent := range echo {
		if strings.Contains(w.Body.String(), sent) {
			t.Errorf("the answer repeats %q: %s", sent, w.Body)
		}
	}
}

func TestTokenSpeaksForWhomItNames(t *testing.T) {
	one := func(scope auth.Scope) []auth.Scope { return []auth.Scope{scope} }
	for body, want := range map[string]auth.Principal{
		`{"scope":"courier","sub":"cou_7","carrier_id":"swift"}`:                 {Subject: "cou_7", Scopes: one(auth.Courier), Carrier: "swift", Shop: "demo"},
		`{"scope":"carrier","carrier_id":"rival"}`:                               {Scopes: one(auth.Carrier), Carrier: "rival", Shop: "demo"},
		`{"scope":"dispatch"}`:                                                   {Scopes: one(auth.Dispatch), Shop: "demo"},
		`{"scope":"shop","sub":"clerk","shop_id":"other"}`:                       {Subject: "clerk", Scopes: one(auth.Shop), Shop: "other"},
		`{"scope":"customer","sub":"cus_81"}`:                                    {Subject: "cus_81", Scopes: one(auth.Customer), Shop: "demo"},
		`{"scope":"building","sub":"caretaker","building_id":"bld_turm5"}`:       {Subject: "caretaker", Scopes: one(auth.Building), Shop: "demo", Building: "bld_turm5"},
		`{"scope":"door","sub":"door_1"}`:                                        {Subject: "door_1", Scopes: one(auth.Door), Shop: "demo"},
		`{"scope":"ops","sub":"","carrier_id":"","shop_id":"","building_id":""}`: {Scopes: one(auth.Ops), Shop: "demo"},
	} {
		s := newStage(t)
		w := ask(s, "POST", "/demo/token", body)
		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
		if w.Code != 200 || !reflect.DeepEqual(answer, map[string]string{"token": "token of " + want.Subject}) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
		if !reflect.DeepEqual(s.signed, []auth.Principal{want}) {
			t.Errorf("%s: signed %+v, want %+v", body, s.signed, want)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("headers of a token: %v", w.Header())
		}
	}
}

func TestTokenIsStrict(t *testing.T) {
	const secret = "s3cret!"
	tests := []struct {
		name, body string
		status     int
		code       string
		locations  []string
	}{
		{"no body", ``, 400, "bad-request", nil},
		{"not JSON", secret, 400, "bad-request", nil},
		{"two objects", `{"scope":"ops"} {"scope":"ops"}`, 400, "bad-request", nil},
		{"an array", `["s3cret!"]`, 422, "invalid-request", []string{"body"}},
		{"unknown field", `{"scope":"ops","admin":"s3cret!"}`, 422, "invalid-request", []string{"body.admin"}},
		{"unknown field of a strange name", `{"scope":"ops","s3cret!":1}`, 422, "invalid-request", []string{"body"}},
		{"other casing", `{"Scope":"ops"}`, 422, "invalid-request", []string{"body.Scope"}},
		{"a field twice", `{"scope":"ops","sub":"a","sub":"s3cret!"}`, 422, "invalid-request", []string{"body.sub"}},
		{"wrong type", `{"scope":["s3cret!"]}`, 422, "invalid-request", []string{"body.scope"}},
		{"no scope", `{}`, 422, "invalid-request", []string{"body.scope"}},
		{"unknown scope", `{"scope":"s3cret!"}`, 422, "invalid-request", []string{"body.scope"}},
		{"two scopes", `{"scope":"ops shop"}`, 422, "invalid-request", []string{"body.scope"}},
		{
			"malformed ids", `{"scope":"ops","sub":"s3cret!","carrier_id":"s3cret!","shop_id":"s3cret!","building_id":"s3cret!"}`,
			422, "invalid-request",
			[]string{"body.sub", "body.carrier_id", "body.shop_id", "body.building_id"},
		},
		{"a courier of nobody", `{"scope":"courier"}`, 422, "invalid-request", []string{"body.sub", "body.carrier_id"}},
		{"a customer without id", `{"scope":"customer"}`, 422, "invalid-request", []string{"body.sub"}},
		{"a carrier without id", `{"scope":"carrier","sub":"dispatcher"}`, 422, "invalid-request", []string{"body.carrier_id"}},
		{"too large", `{"scope":"ops","sub":"` + strings.Repeat("x", maxBody) + `"}`, 413, "body-too-large", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			w := ask(s, "POST", "/demo/token", test.body)
			wantProblem(t, w, test.status, test.code, secret)
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			var locations []string
			for _, v := range p.Errors {
				locations = append(locations, v.Location)
			}
			if !slices.Equal(locations, test.locations) {
				t.Errorf("locations %v, want %v", locations, test.locations)
			}
			if len(s.signed) > 0 {
				t.Errorf("signed %+v", s.signed)
			}
		})
	}
}

func TestTokenFailureStaysInside(t *testing.T) {
	s := newStage(t)
	s.fail = errors.New("the key is s3cret!")
	wantProblem(t, ask(s, "POST", "/demo/token", `{"scope":"ops"}`), 500, "internal-error", "s3cret!")
}

// A page that can make tokens can do anything, so pages of other sites must not make any.
func TestOrdersFromOtherSitesAreRefused(t *testing.T) {
	for target, body := range map[string]string{
		"/demo/token": `{"scope":"ops"}`, "/demo/clock": `{"now":"2026-11-25T00:00:00Z"}`, "/demo/doors/turm5-gate/network": `{"cut":true}`,
	} {
		for _, foreign := range [][]string{
			{"Origin", "http://evil.test"},
			{"Origin", "http://localhost:9999"},
			{"Origin", "null"},
			{"Sec-Fetch-Site", "cross-site"},
			{"Sec-Fetch-Site", "same-site"},
			{"Sec-Fetch-Site", "cross-site", "Origin", "http://localhost:8080"},
		} {
			s := newStage(t)
			wantProblem(t, ask(s, "POST", target, body, foreign...), 403, "cross-origin", "evil")
			if len(s.signed) > 0 {
				t.Errorf("%v got a token", foreign)
			}
			var clock instant
			if err := json.Unmarshal(ask(s, "GET", "/demo/clock", "").Body.Bytes(), &clock); err != nil || clock.Now.Day() != noon.Day() {
				t.Errorf("%v moved the clock to %v (%v)", foreign, clock.Now, err)
			}
			if w := ask(s, "GET", "/demo/doors", ""); strings.Contains(w.Body.String(), `"cut":true`) {
				t.Errorf("%v cut a door's network", foreign)
			}
		}
		for _, own := range [][]string{{"Origin", "http://localhost:8080"}, {"Sec-Fetch-Site", "same-origin"}, {}} {
			if w := ask(newStage(t), "POST", target, body, own...); w.Code != 200 {
				t.Errorf("%s %v: %d %s", target, own, w.Code, w.Body)
			}
		}
	}
}

func TestEveryPathIsGuarded(t *testing.T) {
	s := newStage(t)
	for _, target := range []string{"/", "/demo/token", "/demo/mailbox", "/demo/mailbox/1", "/demo/clock", "/demo/assets/app.js", "/demo/doors", "/demo/none"} {
		r := httptest.NewRequest("GET", target, nil)
		r.Host = "rebound.evil.test"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		wantProblem(t, w, 421, "misdirected-request")
	}
}

func TestClockOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Clock: NewClock(noon), Log: slog.New(slog.DiscardHandler)})
		clock := func(w *httptest.ResponseRecorder) string {
			t.Helper()
			var answer map[string]string
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || len(answer) != 1 {
				t.Fatalf("%d %s: %v", w.Code, w.Body, err)
			}
			return answer["now"]
		}
		time.Sleep(2 * time.Second)
		if got := clock(ask(h, "GET", "/demo/clock", "")); got != "2026-11-24T12:00:02Z" {
			t.Errorf("GET says %s", got)
		}
		if got := clock(ask(h, "POST", "/demo/clock", `{"now":"2026-11-25T00:00:00+01:00"}`)); got != "2026-11-24T23:00:00Z" {
			t.Errorf("POST says %s", got)
		}
		wantProblem(t, ask(h, "POST", "/demo/clock", `{"now":"2026-11-24T22:59:59Z"}`), 409, "clock-behind", "22:59")
		for _, body := range []string{`{}`, `{"now":null}`, `{"now":"tomorrow"}`, `{"now":"2026-11-25"}`, `{"now":1}`, `{"now":"2026-11-26T00:00:00Z","force":true}`} {
			wantProblem(t, ask(h, "POST", "/demo/clock", body), 422, "invalid-request", "tomorrow", "2026")
		}
		if got := clock(ask(h, "GET", "/demo/clock", "")); got != "2026-11-24T23:00:00Z" {
			t.Errorf("after refusals GET says %s", got)
		}
	})
}

func TestMailboxAsJSONOrPage(t *testing.T) {
	s := newStage(t)
	mustSend(t, s.mails, "Subject: first\nMessage-ID: <1@shop.example>\n\nthe <b>text</b>\n", "a@shop.example")
	mustSend(t, s.mails, "Subject: second <script>\nContent-Type: text/html\n\n<p>page</p>\n", "b@shop.example")

	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
	for accept, page := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "application/json, text/html;q=0.9": false, "text/html;q=0": false,
		"text/plain": false, browser: true, "text/html": true, "TEXT/HTML; q=0.5, application/json;q=0.4": true,
	} {
		w := ask(s, "GET", "/demo/mailbox", "", "Accept", accept)
		want := "application/json"
		if page {
			want = "text/html; charset=utf-8"
		}
		if w.Code != 200 || w.Header().Get("Content-Type") != want || w.Header().Get("Vary") != "Accept" {
			t.Errorf("Accept %q: %d %v, want %s", accept, w.Code, w.Header(), want)
		}
	}

	var mails []map[string]any
	if err := json.Unmarshal(ask(s, "GET", "/demo/mailbox", "").Body.Bytes(), &mails); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"id": 2.0, "to": "b@shop.example", "subject": "second <script>", "text": "", "html": "<p>page</p>\n", "at": "2026-11-24T12:00:00Z", "message_id": ""},
		{"id": 1.0, "to": "a@shop.example", "subject": "first", "text": "the <b>text</b>\n", "html": "", "at": "2026-11-24T12:00:00Z", "message_id": "1@shop.example"},
	}
	if !reflect.DeepEqual(mails, want) {
		t.Errorf("mailbox = %v, want %v", mails, want)
	}

	if err := json.Unmarshal(ask(s, "GET", "/demo/mailbox?to=A@shop.example", "").Body.Bytes(), &mails); err != nil || len(mails) != 1 || mails[0]["id"] != 1.0 {
		t.Errorf("?to= gives %v (%v), want mail 1", mails, err)
	}
	if got := strings.TrimSpace(ask(s, "GET", "/demo/mailbox?to=nobody@shop.example", "").Body.String()); got != "[]" {
		t.Errorf("no mail is %s, want []", got)
	}

	page := ask(s, "GET", "/demo/mailbox?mail=1", "", "Accept", browser).Body.String()
	for _, want := range []string{`src="/demo/mailbox/1" sandbox=`, "the &lt;b&gt;text&lt;/b&gt;", "second &lt;script&gt;", `href="/demo/mailbox?mail=2"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s:\n%s", want, page)
		}
	}
}

func TestMailIsShownInASandbox(t *testing.T) {
	s := newStage(t)
	mustSend(t, s.mails, "Subject: page\nContent-Type: text/html\n\n<html><head></head><p>page</p>\n", "a@shop.example")
	mustSend(t, s.mails, "Subject: text\n\n<p>text\n", "a@shop.example")

	for target, want := range map[string]struct{ media, body string }{
		"/demo/mailbox/1": {"text/html; charset=utf-8", "<html><head><base target=\"_blank\"></head><p>page</p>\n"},
		"/demo/mailbox/2": {"text/plain; charset=utf-8", "<p>text\n"},
	} {
		w := ask(s, "GET", target, "")
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || w.Body.String() != want.body || w.Header().Get("Content-Type") != want.media {
			t.Errorf("%s: %d %v %s", target, w.Code, w.Header(), w.Body)
		}
		if !strings.HasPrefix(policy, "sandbox ") || !strings.Contains(policy, "default-src 'none'") ||
			strings.Contains(policy, "allow-scripts") || strings.Contains(policy, "allow-same-origin") {
			t.Errorf("%s: policy %s", target, policy)
		}
	}
	for _, target := range []string{"/demo/mailbox/3", "/demo/mailbox/0", "/demo/mailbox/-1", "/demo/mailbox/x"} {
		wantProblem(t, ask(s, "GET", target, ""), 404, "not-found")
	}
}

func TestPagesRunNothingInline(t *testing.T) {
	s := newStage(t)
	mustSend(t, s.mails, "Subject: page\nContent-Type: text/html\n\n<p style='color:red' onclick='x()'>page</p>\n", "a@shop.example")
	for _, target := range []string{"/", "/demo/mailbox", "/demo/mailbox?mail=1", "/demo/doors"} {
		w := ask(s, "GET", target, "", "Accept", "text/html")
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %d, policy %q", target, w.Code, policy)
		}
		page := w.Body.String()
		for _, inline := range []string{"<style", "style=", "onclick", "javascript:", "://"} {
			if strings.Contains(page, inline) {
				t.Errorf("%s has %s", target, inline)
			}
		}
		for _, fault := range markup.Faults(page) {
			t.Errorf("%s: %s", target, fault)
		}
		scripts := strings.Count(page, "<script") - strings.Count(page, `<script type="module" src="/assets/`) -
			strings.Count(page, `<script type="application/json"`)
		if scripts != 0 {
			t.Errorf("%s has %d scripts of its own", target, scripts)
		}
	}
}

// The pages speak the reader's language, with labels for every parcel that they offer.
func TestPagesInBothLanguages(t *testing.T) {
	s := newStage(t)
	for target, want := range map[string]map[string][]string{
		"/":              {"en": {"Electronics, 1299.00 EUR, Berlin", "Return of clothing", "Send it out"}, "de": {"Elektronik, 1299.00 EUR, Berlin", "Rücksendung: Kleidung", "Losschicken"}},
		"/demo/doors":    {"en": {"Unlock the gate"}, "de": {"Tor entriegeln"}},
		"/demo/mailbox":  {"en": {"No mail yet."}, "de": {"Noch keine Mail."}},
		"/demo/mailbox?": {"en": {`<html lang="en"`}, "de": {`<html lang="de"`}},
	} {
		for lang, texts := range want {
			w := ask(s, "GET", target, "", "Accept", "text/html", "Accept-Language", lang)
			for _, text := range texts {
				if w.Code != 200 || !strings.Contains(w.Body.String(), text) {
					t.Errorf("%s in %s: %d, no %q in\n%s", target, lang, w.Code, text, w.Body)
				}
			}
		}
	}
}

// Without the frame around them there are no pages, and everything else works.
func TestWithoutPages(t *testing.T) {
	h := New(Config{Clock: NewClock(noon), Mailbox: newMailbox(t, 1), Log: slog.New(slog.DiscardHandler)})
	wantProblem(t, ask(h, "GET", "/", ""), 404, "not-found")
	if w := ask(h, "GET", "/demo/mailbox", ""); w.Code != 200 {
		t.Errorf("the mails: %d", w.Code)
	}
}

func TestFrontPageLinksEverything(t *testing.T) {
	page := ask(newStage(t), "GET", "/", "").Body.String()
	for _, link := range []string{"/docs", "/openapi.json", "/demo/mailbox", "/demo/doors", "/metrics", "/healthz"} {
		if !strings.Contains(page, `href="`+link+`"`) {
			t.Errorf("no link to %s", link)
		}
	}
}

// The page starts from parcels of the sample day. The first is the main job: it needs a
// code by the default policy, which asks for one from 150 EUR, and the second does not.
func TestFrontPageOffersParcels(t *testing.T) {
	page := ask(newStage(t), "GET", "/", "").Body.String()
	_, rest, ok := strings.Cut(page, `<script type="application/json" id="samples">`)
	text, _, closed := strings.Cut(rest, "</script>")
	if !ok || !closed {
		t.Fatal("no samples on the page")
	}
	var offers []struct {
		Courier  struct{ ID, Name string }
		Dispatch struct {
			Value       struct{ Amount, Currency string }
			Destination struct {
				Zone string `json:"time_zone"`
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &offers); err != nil {
		t.Fatal(err)
	}
	if len(offers) != len(offered) || strings.Count(page, "<option>") != len(offered) {
		t.Fatalf("%d offers", len(offers))
	}
	for _, o := range offers {
		if _, err := time.LoadLocation(o.Dispatch.Destination.Zone); err != nil || o.Dispatch.Destination.Zone == "" || o.Courier.ID == "" || o.Courier.Name == "" {
			t.Errorf("an offer without a zone or a courier: %+v (%v)", o, err)
		}
	}
	euros := func(i int) string { v := offers[i].Dispatch.Value; return v.Amount + " " + v.Currency }
	if euros(0) != "1299.00 EUR" || euros(1) != "102.00 EUR" {
		t.Errorf("the first two are worth %s and %s", euros(0), euros(1))
	}
}

func TestAssets(t *testing.T) {
	s := newStage(t)
	entries, err := files.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		w := ask(s, "GET", s.Asset("demo/"+e.Name()), "")
		if w.Code != 200 || w.Body.Len() == 0 || w.Header().Get("Content-Type") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", e.Name(), w.Code, w.Header())
		}
	}
	for _, name := range []string{"none.js", "", "..%2fpages%2ffront.html", "%2e%2e"} {
		wantProblem(t, ask(s, "GET", "/demo/assets/"+name, ""), 404, "not-found", "none", "front")
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	s := newStage(t)
	wantProblem(t, ask(s, "GET", "/demo/s3cret", ""), 404, "not-found", "s3cret")
	wantProblem(t, ask(s, "GET", "/s3cret", ""), 404, "not-found", "s3cret")
	for target, allow := range map[string]string{"/": "GET", "/demo/mailbox": "GET", "/demo/mailbox/1": "GET", "/demo/clock": "GET, POST", "/demo/token": "POST", "/demo/doors": "GET", "/demo/doors/turm5-gate/network": "POST"} {
		w := ask(s, "DELETE", target, "")
		wantProblem(t, w, 405, "method-not-allowed")
		if got := w.Header().Get("Allow"); got != allow {
			t.Errorf("%s allows %s, want %s", target, got, allow)
		}
	}
	if w := ask(s, "HEAD", "/", ""); w.Code != 200 {
		t.Errorf("HEAD / is %d", w.Code)
	}
}

// A body that breaks off is the client's fault, not ours.
func TestBodyThatBreaksOff(t *testing.T) {
	s := newStage(t)
	r := httptest.NewRequest("POST", "http://localhost/demo/token", io.MultiReader(strings.NewReader(`{"scope"`), broken{}))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	wantProblem(t, w, 400, "bad-request")
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
