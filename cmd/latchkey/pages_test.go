package main

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"latchkey/api/web/frame"
	"latchkey/api/web/signin"
	"latchkey/api/web/webtest"
	"latchkey/handoff/handofftest"
)

// aPage is one that people look at, and who does. Without scripts it still says what it is
// looked at for.
type aPage struct {
	pattern, path string
	who           string // of the demo's people; empty: nobody is signed in
	says          string
}

// pagesOf is every page of every set: TestEveryPage fails where one is missing.
func pagesOf(grant string) []aPage {
	const home = "/building/bld_turm5"
	return []aPage{
		{"GET /sign-in", "/sign-in", "", "Latchkey demo"},
		{"GET /sign-in/callback", "/sign-in/callback", "", "Please sign in again"},
		{"GET /sign-in/callback/{own}", "/sign-in/callback/none", "", ""},
		{"GET /account", "/account", aCustomer, "Parcel ending in 5151"},
		{"GET /account/{grant_id}", "/account/" + grant, aCustomer, "It is out for delivery"},
		{"GET /account/link/{token}", "/account/link/none", "", ""},
		{"GET /courier", "/courier", aCourier, aCustomer},
		{"GET /courier/shell", "/courier/shell", "", "Doors and codes need JavaScript"},
		{"GET /building", "/building", anOfficer, "Which building?"},
		{"GET /building/{building_id}", home, aManager, "Front door"},
		{"GET /building/{building_id}/log", home + "/log", aManager, "Gate"},
		{"GET /building/{building_id}/residents", home + "/residents", aManager, "Nobody waits"},
		{"GET /building/{building_id}/rules", home + "/rules", aManager, "Carriers"},
		{"GET /building/{building_id}/notice", home + "/notice", aManager, "What is installed"},
		{"GET /ops", "/ops?zone=Europe/Berlin", anOfficer, "Wrong codes"},
		{"GET /ops/alarms", "/ops/alarms", anOfficer, ""},
		{"GET /ops/parcel", "/ops/parcel?grant=" + grant, anOfficer, "Left the warehouse"},
		{"GET /ops/courier", "/ops/courier?carrier=swift&courier=cou_7", anOfficer, "cou_7"},
		{"forbidden", "/ops", aCustomer, ""},
		{"not found", "/account/" + strings.Repeat("0", 24) + "-1", aCustomer, ""},
	}
}

// patterns are the routes of all pages, as the program registers them.
func patterns(t *testing.T) []string {
	t.Helper()
	site, err := frame.New(frame.Config{
		API: &frame.API{}, Clock: handofftest.NewClock(time.Now()), Identify: func(*http.Request) (frame.Visitor, bool) { return frame.Visitor{}, false },
	}, append(pageSets(nil), (&signin.SignIn{}).Set())...)
	if err != nil {
		t.Fatal(err)
	}
	return site.Patterns()
}

// noPages are routes that are looked at by programs alone.
var noPages = []string{"GET /courier/worker.js", "GET /courier/manifest.webmanifest"}

// maxWeight is the most that a page takes over the wire with all that belongs to it, in bytes.
const maxWeight = 100_000

// Every page of every set, as the person whom it is for: light enough, kept by no cache,
// as wide as the window, of use without scripts, and in both themes and languages without
// anything that axe-core calls serious.
func TestEveryPage(t *testing.T) {
	d := newDemoDay(t)
	grant := d.dispatch("JJD000390005151")
	courier := d.token(`{"scope":"courier","sub":"cou_7","carrier_id":"swift"}`)
	h := newBuilding(t, d.url)
	d.must("POST", "/v1/doors/turm5-gate/unlock", courier, `{"parcel_id":"JJD000390005151",`+h.here(0)+`}`)
	code := d.must("GET", "/v1/handoffs/"+grant, d.token(`{"scope":"customer","sub":"cus_101"}`), "")["code"].(string)
	d.do("POST", "/v1/parcels/JJD000390001187/verify", courier, `{"code":"000000",`+h.here(0)+`}`)
	pages := pagesOf(grant)
	pages[4].says = "The courier is at your door"
	for _, pattern := range patterns(t) {
		if strings.HasPrefix(pattern, "GET ") && !slices.Contains(noPages, pattern) && !slices.ContainsFunc(pages, func(p aPage) bool { return p.pattern == pattern }) {
			t.Errorf("nobody looks at %s", pattern)
		}
	}

	first := webtest.Start(t)
	people := map[string]*webtest.Browser{"": first}
	traffic := map[string]*webtest.Traffic{"": first.Traffic()}
	for who, home := range map[string]string{aCustomer: "/account", aCourier: "/courier", aManager: "/building", anOfficer: "/ops"} {
		b := first.Another()
		people[who] = b
		d.enter(b, home, who)
		traffic[who] = b.Traffic()
	}
	for _, p := range pages {
		b, asked := people[p.who], traffic[p.who]
		name := "page-" + strings.Trim(regexp.MustCompile(`[^a-z]+`).ReplaceAllString(strings.ToLower(p.pattern), "-"), "-")
		b.Cookie(d.url, "latchkey-language", "en")
		asked.Forget()
		b.Open(d.url + p.path)
		if bytes := asked.Weight(b); bytes < 1000 || bytes > maxWeight {
			t.Errorf("%s takes %d bytes", p.pattern, bytes)
		} else {
			t.Logf("%-40s %6d bytes", p.pattern, bytes)
		}
		for _, x := range asked.Exchanges() {
			if x.Page && x.Got.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: a cache may keep it: %v", p.pattern, x.Got)
			}
			if strings.Contains(x.URL, code) || strings.Contains(fmt.Sprint(x.Got), code) {
				t.Errorf("%s: a code beside the page, in %s", p.pattern, x.URL)
			}
		}
		if title := b.Says("document.title"); title == "" || strings.Contains(title, code) {
			t.Errorf("%s: the title is %q", p.pattern, title)
		}
		b.Looks(name, 360)
		for _, width := range []int64{320, 1280} {
			b.Width(width)
			for _, lang := range []string{"en", "de"} {
				b.Cookie(d.url, "latchkey-language", lang)
				b.Open(d.url + p.path)
				if wide := webtest.Eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%s in %s is %d wide in a window of %d", p.pattern, lang, wide, width)
				}
			}
		}
		b.Width(360)
		b.Cookie(d.url, "latchkey-language", "en")

		b.Scripts(false)
		b.Open(d.url + p.path)
		said := b.Text("main")
		b.Scripts(true)
		if said == "" || !strings.Contains(said, p.says) {
			t.Errorf("%s without scripts says %q", p.pattern, said)
		}
	}

	// Without scripts the code is still behind its control, and the control works.
	b := people[aCustomer]
	b.Scripts(false)
	b.Open(d.url + "/account/" + grant)
	if shown := b.Text(".digits"); shown != "" {
		t.Errorf("without scripts the code is shown unasked: %q", shown)
	}
	b.Click("details.code summary")
	b.Until("the code", func() bool { return strings.Contains(strings.Join(strings.Fields(b.Text(".digits")), ""), code) })
	b.Scripts(true)
}

// What the customer and the courier come for, with keys alone, from signing in to signing out.
func TestDayByKeyboard(t *testing.T) {
	customer := webtest.Start(t)
	courier := customer.Another()
	d := newDemoDay(t)
	const parcel = "JJD000390005151"
	grant := d.dispatch(parcel)
	focus := func(b *webtest.Browser, selector string) {
		t.Helper()
		for range 150 {
			if webtest.Eval[bool](b, fmt.Sprintf(`document.activeElement?.matches(%q) ?? false`, selector)) {
				return
			}
			b.Keys(kb.Tab)
		}
		t.Fatalf("the tab key does not lead to %s", selector)
	}
	press := func(b *webtest.Browser, selector string) {
		t.Helper()
		b.Until(selector, func() bool { return b.Says(fmt.Sprintf("document.querySelector(%q) !== null", selector)) == "true" })
		focus(b, selector)
		if ring := b.Says(`(({ outlineStyle, outlineWidth, boxShadow }) => outlineStyle !== "none" && outlineWidth !== "0px" || boxShadow !== "none")(getComputedStyle(document.activeElement))`); ring != "true" {
			t.Errorf("that %s has the focus is not to be seen", selector)
		}
		b.Keys(kb.Enter)
	}
	enter := func(b *webtest.Browser, path, who string) {
		t.Helper()
		b.Open(d.url + path)
		press(b, `button[name="issuer"]`)
		b.Reads("h1", "Who are you?")
		press(b, `button[name="who"][value="`+d.number(b, who)+`"]`)
		b.Await("location.pathname", path)
	}

	enter(customer, "/account", aCustomer)
	press(customer, `a[href="/account/`+grant+`"]`)
	customer.Reads("#state", "It is out for delivery")
	press(customer, "details.code summary")
	old := customer.Says(digits)
	press(customer, "#resend")
	customer.Until("the mail", func() bool { return d.counts(grant, "code_resent") == 1 })
	press(customer, "#more-reissue-open")
	press(customer, "#reissue")
	customer.Until("another code", func() bool { return d.counts(grant, "code_reissued") == 1 })
	press(customer, `button[name="agree"][value="yes"]`)
	customer.Until("the consent", func() bool { return d.counts(grant, "consented") == 1 })
	press(customer, "details.code summary")
	code := customer.Says(digits)
	if len(code) != 6 || code == old {
		t.Fatalf("the codes are %q and %q", old, code)
	}

	d.atTheDoor(courier)
	enter(courier, "/courier", aCourier)
	press(courier, "#scan-any")
	focus(courier, "#typed-text")
	courier.Keys(parcel, kb.Enter)
	courier.Reads("#stop-title", aCustomer)
	press(courier, `[data-door="turm5-gate"] .unlock`)
	courier.Reads(gateSays, "The door is open")
	press(courier, "#go")
	courier.Reads("#pad-title", "code")
	courier.Keys(code, kb.Enter)
	courier.Reads("#said", "Handed over")
	customer.Reads("#state", "It was handed over")
	for _, b := range []*webtest.Browser{customer, courier} {
		b.Open(b.Says("location.href"))
		press(b, `form[action="/sign-out"] button`)
		b.Reads("h1", "Sign in")
	}
}
