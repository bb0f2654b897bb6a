package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"latchkey/api/web/webtest"
	"latchkey/cmd/latchkey/sample"
)

var shots = flag.Bool("shots", false, "write the README's screenshots, docs/account.png and docs/courier.png")

// The people of a day, as the demo's own issuer knows them.
const (
	aCustomer = "Sample Customer 101"
	aCourier  = "Courier 7"
	aManager  = "Manager of bld_turm5"
	anOfficer = "Duty officer"
	aClerk    = "Clerk of demo"
)

// demoDay is a day in the demo: its issuer, its building, its doors.
type demoDay struct {
	client
	program *program
}

// noon in Berlin: no run of the test comes near a midnight.
const noon = "2026-11-24T11:00:00Z"

func newDemoDay(t *testing.T, more ...string) *demoDay {
	t.Helper()
	p := start(t, append([]string{"demo", "--addr", "127.0.0.1:0", "--now", noon}, more...)...)
	await(t, "the demo", func() bool { return strings.Contains(p.out.String(), "ready") })
	return &demoDay{client{t, p.url(t)}, p}
}

// dispatch sends a parcel from the warehouse to the sample building, for aCustomer, on the
// route of aCourier.
func (d *demoDay) dispatch(parcel string) (grant string) {
	d.t.Helper()
	first, _, _ := bytes.Cut(sample.Day(), []byte("\n"))
	var body map[string]any
	if err := json.Unmarshal(first, &body); err != nil {
		d.t.Fatal(err)
	}
	body["parcel_id"], body["order_id"] = parcel, "302-"+parcel[len(parcel)-7:]
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.must("POST", "/v1/dispatches", d.token(`{"scope":"dispatch","sub":"warehouse"}`), string(text))["grant_id"].(string)
}

// events are the types of what the log has of a grant.
func (d *demoDay) events(grant string) (types []string) {
	d.t.Helper()
	all := d.must("GET", "/v1/events?grant="+grant+"&limit=500", d.token(`{"scope":"ops","sub":"officer"}`), "")
	for _, e := range all["events"].([]any) {
		types = append(types, e.(map[string]any)["type"].(string))
	}
	return types
}

func (d *demoDay) counts(grant, kind string) (n int) {
	d.t.Helper()
	for _, e := range d.events(grant) {
		if e == kind {
			n++
		}
	}
	return n
}

// tomorrow moves the demo's clock into the next day.
func (d *demoDay) tomorrow() {
	d.t.Helper()
	d.must("POST", "/demo/clock", "", `{"now":"2026-11-25T06:00:00Z"}`)
}

// enter opens a page of somebody who is not signed in, and signs them in at the issuer.
func (d *demoDay) enter(b *webtest.Browser, path, who string) {
	b.T.Helper()
	b.Zone("Europe/Berlin")
	b.Open(d.url + path)
	b.Click(`button[name="issuer"]`)
	b.Reads("h1", "Who are you?")
	b.Click(`button[name="who"][value="` + d.number(b, who) + `"]`)
	b.Await("location.pathname", path)
}

// number is the one that the issuer's page gives to somebody.
func (d *demoDay) number(b *webtest.Browser, who string) string {
	b.T.Helper()
	n := b.Says(fmt.Sprintf(`[...document.querySelectorAll("button[name=who]")].find((b) => b.textContent.includes(%q))?.value`, who))
	if n == "undefined" {
		b.T.Fatalf("the issuer does not know %s", who)
	}
	return n
}

// atTheDoor says where the phone is, hears what it sends, and holds what it copies.
func (d *demoDay) atTheDoor(b *webtest.Browser) {
	b.T.Helper()
	at := sample.TheBuilding().Building
	var where struct{ Location sample.Location }
	if err := json.Unmarshal(at, &where); err != nil {
		b.T.Fatal(err)
	}
	b.At(d.url, where.Location.Lat, where.Location.Lon, 8)
	b.First(`
		window.sent = []; window.copied = "";
		const fetched = window.fetch;
		window.fetch = (path, options) => {
			if (options?.method === "POST") sent.push(path + " " + options.body);
			return fetched(path, options);
		};
		navigator.clipboard.writeText = async (text) => { window.copied = text; };`)
}

const (
	digits     = `[...document.querySelectorAll(".digits b")].map((b) => b.textContent).join("")`
	ofTheState = `document.querySelector("#state h2")?.textContent`
	gateSays   = `[data-door="turm5-gate"] .door-state`
	lobbySays  = `[data-door="turm5-lobby"] .door-state`
)

// other is a code that is not this one.
func other(code string) string {
	return strings.Map(func(r rune) rune { return '0' + (r-'0'+3)%10 }, code)
}

// A whole day as the four people who live it, each in a browser of their own, in the demo.
func TestDay(t *testing.T) {
	customer := webtest.Start(t)
	courier, manager, officer := customer.Another(), customer.Another(), customer.Another()
	d := newDemoDay(t, "--debug")
	const parcel = "JJD000390005151"
	grant := d.dispatch(parcel)
	lost := d.dispatch("JJD000390006262") // that nobody brings
	traffic := map[string]*webtest.Traffic{"customer": customer.Traffic(), "courier": courier.Traffic(), "manager": manager.Traffic(), "officer": officer.Traffic()}

	// The customer looks the code up.
	d.enter(customer, "/account", aCustomer)
	customer.Looks("day-account", 320, 360, 1280)
	customer.Click(`a[href="/account/` + grant + `"]`)
	customer.Await(ofTheState, "It is out for delivery")
	customer.Reads("h1", "Parcel ending in 5151")
	if shown := customer.Text(".digits"); shown != "" {
		t.Errorf("the code is shown without asking: %q", shown)
	}
	customer.Click("details.code summary")
	customer.Reads("#code", "until tonight, 24:00")
	code := customer.Says(digits)
	if len(code) != 6 {
		t.Fatalf("the code is %q", code)
	}
	customer.Looks("day-delivery", 320, 360, 1280)
	readme(t, customer, "account")

	// The courier comes through the gate, which is connected, and the lobby, which is not.
	d.atTheDoor(courier)
	d.enter(courier, "/courier", aCourier)
	courier.Click("#scan-any")
	courier.Type("#typed-text", parcel+"\r")
	courier.Reads("#stop-title", aCustomer)
	courier.Reads("#parcel-state", "Scanned: the parcel ending in 5151.")
	courier.Click(`[data-door="turm5-gate"] .unlock`)
	courier.Reads(gateSays, "The door is open")
	customer.Await(ofTheState, "The courier is at your door") // without having done anything
	courier.Click(`[data-door="turm5-lobby"] .unlock`)
	courier.Type("#typed-text", d.must("POST", "/demo/doors/turm5-lobby/challenge", "", "")["challenge"].(string)+"\r")
	courier.Reads("#permit", "Show this to the door")
	courier.Click("#permit-copy")
	courier.Await("window.copied.length > 100", "true")
	opened := d.must("POST", "/demo/doors/turm5-lobby/permit", "", `{"permit":"`+courier.Says("window.copied")+`"}`)
	if opened["result"] != "opened" {
		t.Errorf("the lobby: %v", opened)
	}
	courier.Reads(lobbySays, "The door is open")
	courier.Reads(lobbySays, "Locked again")
	courier.Looks("day-stop", 320, 360, 1280)
	readme(t, courier, "courier")

	// A wrong code, told and counted; then the right one, in a lift.
	courier.Click("#go")
	for _, digit := range other(code) {
		courier.Click(fmt.Sprintf(`#keys [data-key="%c"]`, digit))
	}
	courier.Click("#send")
	courier.Reads("#pad-said", "Wrong code")
	courier.Reads("#pad-said", "4 more tries")
	courier.Keys(strings.Split(code, "")...)
	courier.Offline(true)
	courier.Click("#send")
	courier.Reads("#pad-said", "Not sent yet")
	courier.Until("a second try", func() bool { return len(verifies(courier, code)) > 1 })
	if n := d.counts(grant, "released"); n != 0 || strings.Contains(courier.Text("body"), "Handed over") {
		t.Errorf("done on hope, %d times", n)
	}
	courier.Looks("day-offline", 360)
	courier.Offline(false)
	courier.Reads("#said", "Handed over")
	tries := verifies(courier, code)
	age := regexp.MustCompile(`"age_s":[0-9]+`) // alone is of each try
	for i := range tries {
		tries[i] = age.ReplaceAllString(tries[i], "")
	}
	if len(slices.Compact(tries)) != 1 || !strings.Contains(tries[0], `"attempt_id":"`) {
		t.Errorf("what was sent: %q", tries)
	}
	if d.counts(grant, "released") != 1 || d.counts(grant, "code_refused") != 1 {
		t.Errorf("events: %v", d.events(grant))
	}
	customer.Await(ofTheState, "It was handed over") // live, and the code is gone
	if left := customer.Says(digits); left != "" {
		t.Errorf("after the handoff the page shows %q", left)
	}

	// The building's manager sees who was let in, and that nothing was changed.
	d.enter(manager, "/building", aManager)
	manager.Reads("h1", "Turmstr. 5")
	manager.Reads("#today", "Gate")
	manager.Looks("day-building", 320, 360, 1280)
	manager.Click(`nav a[href$="/log"]`)
	manager.Reads("#entries", "Opened")
	manager.Click("#verify")
	manager.Reads("#verdict", "Complete and unchanged")
	manager.Looks("day-log", 320, 360, 1280)

	// The duty officer sees the numbers, and finds the story.
	d.enter(officer, "/ops", anOfficer)
	total := func(name, want string) {
		t.Helper()
		officer.Await(fmt.Sprintf(`[...document.querySelectorAll("#plots figure")].find((f) => f.querySelector(".name").textContent === %q)?.querySelector(".total").textContent`, name), want)
	}
	total("Handed over", "1")
	total("Wrong codes", "1")
	officer.Reads("#fails", "A wrong code")
	officer.Looks("day-ops", 320, 360, 1280)
	officer.Click(`nav a[href="/ops/parcel"]`)
	officer.Type(`[name="carrier"]`, "swift")
	officer.Type(`[name="parcel"]`, parcel+"\r")
	for _, step := range []string{"Left the warehouse", "Permit for a door", "Code refused", "Handed over"} {
		officer.Reads("#events-"+grant, step)
	}
	officer.Looks("day-story", 320, 360, 1280)

	// The day ends, and with it what nobody brought.
	customer.Open(d.url + "/account/" + lost)
	customer.Await(ofTheState, "It is out for delivery")
	unused := customer.Says(digits)
	d.tomorrow()
	customer.Await(ofTheState, "Its day is over")
	if left := customer.Says(digits); left != "" {
		t.Errorf("after its day the page shows %q", left)
	}
	courier.Open(d.url + "/courier")
	courier.Reads("#stops", "Nothing is left to do")
	// The page knows by the window; the event is there when the sweeper has been there.
	customer.Until("the end of the window as an event", func() bool { return d.counts(lost, "expired") == 1 },
		func() string { return fmt.Sprint(d.events(lost)) })

	// The other language, chosen on the page, in each set.
	for _, german := range []struct {
		b          *webtest.Browser
		path, says string
	}{
		{customer, "/account/" + lost, "Sein Tag ist vorbei"},
		{courier, "/courier", "Ihre Stopps"},
		{manager, "/building/bld_turm5", "Turmstr. 5"},
		{officer, "/ops", "Der Tag in Zahlen"},
	} {
		german.b.Open(d.url + german.path)
		german.b.Click(`button[name="language"][value="de"]`)
		german.b.Await("document.documentElement.lang", "de")
		german.b.Await("location.pathname", german.path)
		german.b.Await("document.body.innerText", german.says)
	}

	// Of all that was asked for in this day, nothing that tells a code.
	for who, asked := range traffic {
		pages := 0
		for _, x := range asked.Exchanges() {
			told := x.URL + " " + fmt.Sprint(x.Sent) + fmt.Sprint(x.Got)
			for _, secret := range []string{code, other(code), unused} {
				if secret != "" && strings.Contains(told, secret) && !strings.Contains(told, "sha") {
					t.Errorf("the %s's browser: %s %s tells a code", who, x.Method, x.URL)
				}
			}
			// The demo's identity provider is another's page, and the browser may tell of the
			// step before when it is led back.
			if from := x.Sent.Get("Referer"); from != "" && !strings.HasPrefix(from, d.url+"/demo/") {
				t.Errorf("the %s's browser: %s comes with the referrer %s", who, x.URL, from)
			}
			if x.Page && x.Status != 0 && strings.HasPrefix(x.URL, d.url) {
				pages++
				if got := x.Got.Get("Cache-Control"); got != "no-store" {
					t.Errorf("the %s's browser may keep %s: %q", who, x.URL, got)
				}
			}
		}
		if pages < 3 {
			t.Errorf("the %s's browser was seen to open %d pages", who, pages)
		}
	}
	if log := d.program.out.String() + d.program.err.String(); strings.Contains(log, `"`+code) || strings.Contains(log, "="+code) || strings.Contains(log, unused) || !strings.Contains(log, "/verify") {
		t.Error("the log tells a code, or nothing")
	}
}

// verifies are the tries with a code that a phone sent, word for word.
func verifies(b *webtest.Browser, code string) (all []string) {
	for _, s := range webtest.Eval[[]string](b, "sent") {
		if strings.Contains(s, "/verify ") && strings.Contains(s, `"`+code+`"`) {
			all = append(all, s)
		}
	}
	return all
}

// readme writes what the README shows, if it is asked to.
func readme(t *testing.T, b *webtest.Browser, name string) {
	t.Helper()
	if !*shots {
		return
	}
	webtest.Eval[bool](b, "(scrollTo(0, 0), true)")
	picture, err := png.Decode(bytes.NewReader(b.View()))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, picture); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 120_000 {
		t.Errorf("docs/%s.png would take %d bytes", name, out.Len())
	}
	if err := os.WriteFile("../../docs/"+name+".png", out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
