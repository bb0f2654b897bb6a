package building_test

import (
	"context"
	"fmt"
	"html"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"latchkey/api/auth"
	"latchkey/api/web/building"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
	"latchkey/api/web/webtest"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/residents"
	"latchkey/handoff/trail"
	"latchkey/notify/trailwriter"
)

// forged is a store whose chains a test can change without the service.
type forged struct {
	handofftest.Store
	change atomic.Pointer[func([]trail.Link) []trail.Link]
}

func (f *forged) Links(ctx context.Context, name string, after uint64, limit int) ([]trail.Link, error) {
	links, err := f.Store.Links(ctx, name, after, limit)
	if change := f.change.Load(); change != nil && err == nil {
		links = (*change)(links)
	}
	return links, err
}

const (
	home = "/building/bld_turm5"
	v1   = "/v1/buildings/bld_turm5"

	rulesJSON = `{"name":"Turmstr. 5","address":"Turmstr. 5, 10559 Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},
		"manager":"manager@building.example","locale":"de","carriers":["swift"],"delivery_hours":{"from":"07:00","to":"21:00"},"quiet_hours":{"from":"13:00","to":"15:00"}}`
)

func house(t testing.TB) (*frametest.House, *forged) {
	t.Helper()
	store := &forged{Store: embedded.New(t)}
	h := frametest.New(t, store, func(*handofftest.World) []frame.Set { return []frame.Set{building.Set()} })
	h.Cleared(t, "cou_7")
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	h.Do(t, frametest.Manager, "PUT", v1, rulesJSON, 200)
	for id, kind := range map[string]string{"gate": "gate", "lobby": "lobby", "garage_4": "garage", "home_4": "home"} {
		owner := ""
		if kind == "garage" || kind == "home" {
			owner = `,"owner":{"shop_id":"demo","customer_id":"cus_81"}`
		}
		h.Do(t, frametest.Manager, "PUT", "/v1/doors/"+id, `{"building_id":"bld_turm5","kind":"`+kind+`","mode":"connected","location":{"lat":52.5256,"lon":13.3421}`+owner+`}`, 200)
	}
	return h, store
}

// busy lets a courier in by the gate, and refuses another.
func busy(t testing.TB, h *frametest.House) {
	t.Helper()
	h.Dispatch(t, handofftest.Sample("PARCEL-7827"))
	const here = `"location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}`
	h.Do(t, frametest.Courier, "POST", "/v1/doors/gate/unlock", `{"parcel_id":"PARCEL-7827",`+here+`}`, 200)
	h.Clock.Advance(time.Second)
	h.Do(t, frametest.Courier, "POST", "/v1/doors/lobby/unlock", `{"parcel_id":"PARCEL-0000",`+here+`}`, 403)
	h.Clock.Advance(time.Second)
	chained(t, h)
}

func chained(t testing.TB, h *frametest.House) {
	t.Helper()
	signer, err := trail.AuditSigner(handofftest.Namer{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := trailwriter.New(trailwriter.Config{Store: h.Store, Signer: signer, Clock: h.Clock})
	if err == nil {
		_, err = l.Work(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ended) // gives the lease up, for the next one
}

// text is what a reader sees of a page.
func text(page string) string {
	page = regexp.MustCompile(`(?s)<head>.*?</head>|<dl id="say".*?</dl>`).ReplaceAllString(page, "")
	page = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return regexp.MustCompile(` ([.,:;])`).ReplaceAllString(strings.Join(strings.Fields(html.UnescapeString(page)), " "), "$1")
}

func says(t testing.TB, p *frametest.Page, want ...string) {
	t.Helper()
	if p.Status != 200 {
		t.Errorf("%d", p.Status)
	}
	said := text(p.Text)
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("no %q in\n%s", w, said)
		}
	}
}

func TestPages(t *testing.T) {
	h, _ := house(t)
	c := h.SignIn(frametest.Manager, "Manager 1")
	if p := c.Get(t, "/building"); p.Status != 303 || p.Header.Get("Location") != home {
		t.Errorf("%d %s", p.Status, p.Header.Get("Location"))
	}
	says(t, c.Get(t, home), "Turmstr. 5, 10559 Berlin", "Nothing lately", "The log does not say which flat or garage was opened.", "swift", "07:00 to 21:00", "13:00 to 15:00")
	says(t, c.Get(t, home+"/log"), "The log", "signed end")
	busy(t, h)
	says(t, c.Get(t, home), "Gate gate Permit given today, 12:00", "Front door lobby Nothing lately", "Refused")
	says(t, c.Get(t, home+"/log"), "Refused", "Permit given", "Rules changed")
	says(t, c.Get(t, home+"/notice"), "Couriers can open doors here", "Couriers of swift.", "They may come from 07:00 to 21:00.", "Nobody may come from 13:00 to 15:00.", "Write to manager@building.example.")
	c.Language = "de"
	says(t, c.Get(t, home), "Tor gate Freigabe erteilt heute, 12:00 Uhr", "Abgelehnt", "07:00 bis 21:00 Uhr")
	says(t, c.Get(t, home+"/notice"), "Kuriere können hier Türen öffnen", "Sie dürfen von 07:00 bis 21:00 Uhr kommen.")
	says(t, c.Get(t, home+"/residents"), "Niemand wartet.")
	c.Language = "en"
	for _, page := range []string{"", "/log", "/notice"} {
		for _, secret := range []string{"PARCEL-7827", "cou_7", "cus_81", "4 links"} {
			if strings.Contains(c.Get(t, home+page).Text, secret) {
				t.Errorf("%s tells %s", page, secret)
			}
		}
	}
}

// Who runs another building, or none, sees nothing of this one.
func TestOthers(t *testing.T) {
	h, _ := house(t)
	other := auth.Principal{Subject: "m2", Building: "bld_other", Scopes: []auth.Scope{auth.Building}}
	for _, page := range []string{"", "/log", "/residents", "/rules", "/notice"} {
		if p := h.SignIn(other, "").Get(t, home+page); p.Status != 404 {
			t.Errorf("another's %s: %d", page, p.Status)
		}
		if p := h.SignIn(frametest.Customer, "").Get(t, home+page); p.Status != 403 {
			t.Errorf("a customer, %s: %d", page, p.Status)
		}
		if p := h.SignIn(frametest.Operator, "").Get(t, home+page); p.Status != 200 {
			t.Errorf("ops, %s: %d", page, p.Status)
		}
		if p := h.Anonymous().Get(t, home+page); p.Status != 303 {
			t.Errorf("without a session, %s: %d", page, p.Status)
		}
	}
	if p := h.SignIn(frametest.Operator, "").Get(t, "/building"); p.Status != 200 || !strings.Contains(p.Text, `name="id"`) {
		t.Errorf("ops is asked which: %d", p.Status)
	}
	if p := h.SignIn(frametest.Operator, "").Get(t, "/building?id=bld_turm5"); p.Status != 303 || p.Header.Get("Location") != home {
		t.Errorf("%d %s", p.Status, p.Header.Get("Location"))
	}
	for _, bad := range []string{"//evil.example", "../x", "a b"} {
		if p := h.SignIn(frametest.Operator, "").Get(t, "/building?id="+url.QueryEscape(bad)); p.Status != 200 {
			t.Errorf("%q leads to %s", bad, p.Header.Get("Location"))
		}
	}
	seen := regexp.MustCompile(`name="seen" value="([^"]*)"`).FindStringSubmatch(h.SignIn(frametest.Manager, "").Get(t, home+"/rules").Text)[1]
	if p := h.SignIn(other, "").Post(t, home+"/rules", url.Values{"carriers": {"evil"}, "seen": {seen}}); p.Status != 404 {
		t.Errorf("another changes the rules: %d", p.Status)
	}
}

// The rules are changed through the contract: all that the form does not show stays, and
// what another person changed meanwhile is not undone.
func TestRules(t *testing.T) {
	h, _ := house(t)
	c := h.SignIn(frametest.Manager, "")
	seen := func() string {
		return regexp.MustCompile(`name="seen" value="([^"]*)"`).FindStringSubmatch(c.Get(t, home+"/rules").Text)[1]
	}
	form := url.Values{"carriers": {"swift\r\nrapid, swift"}, "from": {"08:00"}, "to": {"20:00"}, "returns": {"yes"}, "seen": {seen()}}
	if p := c.Post(t, home+"/rules", form); p.Status != 303 {
		t.Fatalf("%d %s", p.Status, text(p.Text))
	}
	var b map[string]any
	h.Do(t, frametest.Manager, "GET", v1, "", 200).Read(t, &b)
	delete(b, "doors")
	want := map[string]any{
		"building_id": "bld_turm5", "name": "Turmstr. 5", "address": "Turmstr. 5, 10559 Berlin", "time_zone": "Europe/Berlin", "manager": "manager@building.example", "locale": "de",
		"location": map[string]any{"lat": 52.5256, "lon": 13.3421}, "carriers": []any{"rapid", "swift"}, "delivery_hours": map[string]any{"from": "08:00", "to": "20:00"}, "returns": true,
	}
	if !equalJSON(b, want) {
		t.Errorf("%v\nwant\n%v", b, want)
	}
	says(t, c.Get(t, home+"/rules?done=yes"), "Saved. It counts from now on.")

	old := seen()
	h.Do(t, frametest.Operator, "PUT", v1, rulesJSON, 200)
	form.Set("seen", old)
	form.Set("carriers", "mine")
	p := c.Post(t, home+"/rules", form)
	if p.Status != 409 || !strings.Contains(text(p.Text), "Somebody else changed the building") || !strings.Contains(p.Text, ">mine<") {
		t.Errorf("over another's change: %d %s", p.Status, text(p.Text))
	}
	form.Set("seen", seen())
	form.Set("from", "25:00")
	if p := c.Post(t, home+"/rules", form); p.Status != 422 || !strings.Contains(p.Text, "25:00") {
		t.Errorf("nonsense: %d", p.Status)
	}
	form.Set("from", "")
	if p := c.Post(t, home+"/rules", form); p.Status != 422 {
		t.Errorf("half of the hours: %d", p.Status)
	}
	h.Do(t, frametest.Manager, "GET", v1, "", 200).Read(t, &b)
	if carriers := b["carriers"].([]any); len(carriers) != 1 || carriers[0] != "swift" {
		t.Errorf("what was refused counts: %v", carriers)
	}
}

func equalJSON(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if !strings.EqualFold(strings.TrimSpace(fmt.Sprint(v)), strings.TrimSpace(fmt.Sprint(b[k]))) {
			return false
		}
	}
	return true
}

// Units are approved and rejected by buttons; what was decided elsewhere is said.
func TestResidents(t *testing.T) {
	h, _ := house(t)
	c := h.SignIn(frametest.Manager, "")
	ids := map[string]string{}
	for unit, email := range map[string]string{"4 links": "four@resident.example", "5 links": "five@resident.example"} {
		if err := h.Residents.Subscribe(t.Context(), "bld_turm5", residents.Subscription{Address: email, Unit: unit, Locale: "de"}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := h.Residents.List(t.Context(), "bld_turm5")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if _, err := h.Residents.Confirm(t.Context(), "bld_turm5", r.ID); err != nil {
			t.Fatal(err)
		}
		ids[r.Unit] = string(r.ID)
	}
	says(t, c.Get(t, home+"/residents"), "4 links four@resident.example Approve Reject", "5 links five@resident.example")
	act := func(act, resident string, status int) *frametest.Page {
		t.Helper()
		p := c.Post(t, home+"/residents", url.Values{"act": {act}, "resident": {resident}})
		if p.Status != status {
			t.Errorf("%s: %d %s", act, p.Status, text(p.Text))
		}
		return p
	}
	act("approve", ids["4 links"], 303)
	act("reject", ids["5 links"], 303)
	if p := act("approve", ids["5 links"], 409); !strings.Contains(text(p.Text), "decided meanwhile") {
		t.Error(text(p.Text))
	}
	says(t, c.Get(t, home+"/residents?done=approve"), "Approved. The notices begin.", "4 links four@resident.example hears of openings", "Nobody waits.")
	act("announce", "", 303)
	act("delete", ids["4 links"], 404)
}

// No GET changes anything, and every page has its headers.
func TestNoGetChangesAnything(t *testing.T) {
	h, _ := house(t)
	busy(t, h)
	c := h.SignIn(frametest.Manager, "")
	before := h.Versions(t, "PARCEL-7827")
	for _, pattern := range h.Site.Patterns() {
		method, at, _ := strings.Cut(pattern, " ")
		at = strings.ReplaceAll(at, "{building_id}", "bld_turm5")
		if at == "" {
			continue
		}
		for _, query := range []string{"", "?act=announce", "?carriers=evil&from=01:00&to=02:00", "?before=3", "?before=x"} {
			p := c.Send(t, httptest.NewRequest("GET", at+query, nil))
			if method == "GET" && p.Status != 200 && p.Status != 303 || p.Status >= 500 {
				t.Errorf("GET %s%s: %d", at, query, p.Status)
			}
			if p.Status == 200 && (p.Header.Get("Cache-Control") != "no-store" || p.Header.Get("Content-Security-Policy") != frame.Policy) {
				t.Errorf("%s: %v", at, p.Header)
			}
		}
	}
	if after := h.Versions(t, "PARCEL-7827"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

const verdict = `document.getElementById("verdict").textContent`

// The browser verifies the log itself, and names the first entry that was changed.
func TestVerifiedInTheBrowser(t *testing.T) {
	h, store := house(t)
	busy(t, h)
	at, b := h.Listen(t), webtest.Start(t)
	b.Cookie(at, frametest.Cookie, h.SignIn(frametest.Manager, "Manager 1").Cookie)
	b.Zone("Europe/Berlin")

	verify := func(want string) {
		t.Helper()
		b.Open(at + home + "/log")
		b.Await(`!document.getElementById("verifier").hidden`, "true")
		b.Click("#verify")
		b.Await(verdict, want)
	}
	verify("Complete and unchanged: ")
	entries := b.Says(`document.querySelector("#verdict").textContent.match(/(\d+) entries/)[1]`)
	if r, err := trail.Verify(strings.NewReader(h.Do(t, frametest.Manager, "GET", v1+"/access-log/export", "", 200).Text), trail.Options{}); err != nil || fmt.Sprint(r.Entries) != entries {
		t.Errorf("latchkey says %v %d, the browser %s", err, r.Entries, entries)
	}
	kept := b.Says(`document.getElementById("head").textContent`)
	if got := b.Says(`localStorage.length`); got != "1" {
		t.Errorf("%s heads kept", got)
	}
	busyAgain(t, h)
	verify("It continues what this browser verified before.")

	find := func(links []trail.Link, seq uint64) int {
		for i := range links {
			if links[i].Seq == seq {
				return i
			}
		}
		return -1
	}
	// Each is done in Redis, behind the service's back, and the browser says what
	// latchkey audit verify says.
	for name, test := range map[string]struct {
		change func([]trail.Link) []trail.Link
		want   string
	}{
		"an entry was changed": {func(links []trail.Link) []trail.Link {
			if i := find(links, 3); i >= 0 {
				links[i].Entry = []byte(strings.Replace(string(links[i].Entry), `"seq":3`, `"kind":"x","seq":3`, 1))
			}
			return links
		}, "An entry was changed.The first that does not hold is entry 3. It is on line 4"},
		"an entry is missing": {func(links []trail.Link) []trail.Link {
			if i := find(links, 2); i >= 0 {
				links = append(links[:i], links[i+1:]...)
			}
			return links
		}, "entry 2. It is on line 3"},
		"two entries changed places": {func(links []trail.Link) []trail.Link {
			if i, j := find(links, 2), find(links, 4); i >= 0 && j >= 0 {
				links[i], links[j] = links[j], links[i]
			}
			return links
		}, "Entries stand in another order.The first that does not hold is entry 2."},
		"all was chained anew": {func(links []trail.Link) []trail.Link {
			before := trail.Genesis("building:bld_turm5")
			for i := range links {
				if links[i].Seq == 2 {
					links[i].Entry = []byte(strings.Replace(string(links[i].Entry), `"at":1`, `"at":2`, 1))
				}
				before = trail.Next("building:bld_turm5", before, links[i].Entry)
				links[i].Hash = before
			}
			return links
		}, "Entries were changed and chained anew."},
	} {
		store.change.Store(&test.change)
		verify(test.want)
		if b.Says(`document.getElementById("verdict").className`) != "note bad" {
			t.Errorf("%s: not shown as bad", name)
		}
		// The export ends there or is broken off: what the program says of the same bytes.
		_, err := trail.Verify(strings.NewReader(h.Do(t, frametest.Manager, "GET", v1+"/access-log/export", "", 200).Text), trail.Options{})
		if err == nil {
			t.Errorf("%s: latchkey audit verify finds nothing", name)
		}
	}
	store.change.Store(nil)
	verify("Complete and unchanged: ")

	// A reader who kept the signed end of another log, or of what was here before.
	b.Open(at + home + "/log")
	b.Says(`document.getElementById("more-kept").open = true`)
	b.Says(`document.getElementById("kept").value = "` + kept + `"`)
	b.Click("#verify")
	b.Await(verdict, "Complete and unchanged: ")
	b.Says(`document.getElementById("kept").value = "` + strings.Replace(kept, ".", ".e", 1) + `"`)
	b.Click("#verify")
	b.Await(verdict, "The signature is wrong.")

	// A browser that does not know Ed25519 says how far it came.
	b.Open(at + home + "/log")
	b.Says(`(crypto.subtle.importKey = () => Promise.reject(new DOMException("", "NotSupportedError")), 1)`)
	b.Click("#verify")
	b.Await(verdict, "could not check the signature")
	if b.Says(`document.getElementById("verdict").className`) != "note warn" {
		t.Error("not verified, and shown as good")
	}
}

func busyAgain(t *testing.T, h *frametest.House) {
	t.Helper()
	h.Do(t, frametest.Courier, "POST", "/v1/doors/gate/unlock", `{"parcel_id":"PARCEL-7827","location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}}`, 200)
	h.Clock.Advance(time.Second)
	chained(t, h)
}

// The pages fit each window, in both languages; the log is verified by keyboard alone; an
// open page stays true.
func TestInTheBrowser(t *testing.T) {
	h, _ := house(t)
	at, b := h.Listen(t), webtest.Start(t)
	b.Cookie(at, frametest.Cookie, h.SignIn(frametest.Manager, "Manager 1").Cookie)
	b.Open(at + home)
	b.Await(`document.getElementById("doors").textContent`, "Nothing lately")
	busy(t, h)
	b.Await(`document.getElementById("doors").textContent`, "Permit given")
	b.Await(`document.getElementById("today").textContent`, "Refused")
	if err := h.Residents.Subscribe(t.Context(), "bld_turm5", residents.Subscription{Address: "four@resident.example", Unit: "4 links", Locale: "de"}); err != nil {
		t.Fatal(err)
	}
	all, err := h.Residents.List(t.Context(), "bld_turm5")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Residents.Confirm(t.Context(), "bld_turm5", all[0].ID); err != nil {
		t.Fatal(err)
	}
	for name, page := range map[string]string{"overview": "", "log": "/log", "residents": "/residents", "rules": "/rules", "notice": "/notice"} {
		b.Fits("building-"+name, at, home+page)
	}

	b.Open(at + home + "/log")
	b.Await(`!document.getElementById("verifier").hidden`, "true")
	b.TabTo("verify")
	b.Keys(kb.Enter)
	b.Await(verdict, "Complete and unchanged: ")
	b.Open(at + home + "/residents")
	b.TabTo("approve-" + string(all[0].ID))
	b.Keys(kb.Enter)
	b.Await(`document.body.textContent`, "Approved. The notices begin.")
}
