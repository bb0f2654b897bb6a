package account_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"latchkey/api/web/frame/frametest"
	"latchkey/api/web/webtest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// customer is a browser in which the sample customer is signed in, and the address of the
// pages. The test fails if the browser's console says anything.
func customer(t *testing.T, h *frametest.House) (*webtest.Browser, string) {
	t.Helper()
	b := webtest.Start(t)
	b.Quiet()
	base := h.Listen(t)
	b.Cookie(base, frametest.Cookie, h.SignIn(frametest.Customer, "Sample Customer 81").Cookie)
	return b, base
}

const code = `document.querySelector("details.code")`

// A page that is open stays true, and does not disturb its reader.
func TestLive(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "PARCEL-7827")
	b, base := customer(t, h)
	b.Zone("Europe/Berlin")
	b.Colours("light")
	b.Open(base + path)
	b.Await(`document.querySelector("#state h2").textContent`, "It has left the warehouse")
	if b.Says(code+".open") != "false" {
		t.Error("the code is shown without asking")
	}
	b.Do(chromedp.Focus(chromedp.CSS("details.code summary")))
	b.Keys("\r") // by keyboard
	b.Await(code+".open", "true")
	digits := codeOf(t, h, "PARCEL-7827")
	if got := b.Says(`[...document.querySelectorAll(".digits b")].map(b => b.textContent).join("")`); got != digits {
		t.Errorf("%q is shown", got)
	}

	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	b.Await(`document.querySelector("#state h2").textContent`, "It is out for delivery")
	b.Await(`document.querySelector("[aria-current=step] strong").textContent`, "Out for delivery")
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+path[len("/account/"):]+"/reissue", "", 200)
	b.Await("document.body.textContent", "This is the newest one")
	if b.Says(code+".open") != "true" || b.Says("document.activeElement.tagName") == "BODY" && b.Says(`document.querySelectorAll("[data-added]").length`) == "0" {
		t.Error("what was opened is closed")
	}
	if got := b.Says(`[...document.querySelectorAll(".digits b")].map(b => b.textContent).join("")`); got != codeOf(t, h, "PARCEL-7827") {
		t.Errorf("%q is shown, an old code", got)
	}
	verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
	b.Await(`document.querySelector("#state h2").textContent`, "It was handed over")
	b.Await(`document.querySelectorAll(".digits").length`, "0")
	b.Await(`document.getElementById("state").className`, "good")
}

// Readers elsewhere get the address's times, as in the mail, and are told whose they are.
func TestZones(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "PARCEL-7827")
	b, base := customer(t, h)
	for zone, want := range map[string][2]string{
		"Europe/Berlin":    {"It counts until tonight, 24:00.", "Er gilt bis heute, 24:00 Uhr."},
		"Europe/Paris":     {"It counts until tonight, 24:00.", "Er gilt bis heute, 24:00 Uhr."}, // the same hour
		"Europe/London":    {"It counts until tonight, 24:00 (Berlin time).", "Er gilt bis heute, 24:00 Uhr (Ortszeit Berlin)."},
		"America/New_York": {"It counts until tonight, 24:00 (Berlin time).", "Er gilt bis heute, 24:00 Uhr (Ortszeit Berlin)."},
		"Asia/Tokyo":       {"It counts until tonight, 24:00 (Berlin time).", "Er gilt bis heute, 24:00 Uhr (Ortszeit Berlin)."},
	} {
		b.Zone(zone)
		for i, lang := range []string{"en", "de"} {
			b.Cookie(base, "latchkey-language", lang)
			b.Open(base + path)
			b.Await(`document.querySelector("#code .until").textContent`, want[i])
			if own := map[string]string{"America/New_York": "today, 18:00", "Asia/Tokyo": "tomorrow, 08:00", "Europe/Berlin": ""}[zone]; lang == "en" && zone != "Europe/London" {
				if got := b.Says(`document.querySelector("#code .until time").title`); got != own {
					t.Errorf("in %s the title is %q, want %q", zone, got, own)
				}
			}
		}
	}
}

// Every page fits every window, in each language, light and dark.
func TestFits(t *testing.T) {
	h := house(t)
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	garage(t, h, "garage", "cus_81")
	garage(t, h, "home", "cus_81")
	pages := map[string]string{"list": "/account"}
	for _, name := range []string{"out", "locked", "over", "disputed"} {
		pages[name], _ = of(t, h, name+"-7827")
	}
	of(t, h, "next-7828", func(d *handoff.Dispatch) { d.Day = handofftest.Today.Next() })
	for i := range 5 {
		verify(t, h, "locked-7827", wrong(t, h, "locked-7827", i), 403)
	}
	verify(t, h, "over-7827", codeOf(t, h, "over-7827"), 200)
	setContact(h)
	verify(t, h, "disputed-7827", codeOf(t, h, "disputed-7827"), 200)
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+pages["disputed"][len("/account/"):]+"/dispute", `{"reason":"x"}`, 200)
	b, base := customer(t, h)
	b.Zone("Europe/Berlin")
	for name, path := range pages {
		for _, lang := range []string{"en", "de"} {
			b.Cookie(base, "latchkey-language", lang)
			for _, width := range []int64{320, 360, 1280} {
				b.Width(width)
				b.Open(base + path)
				b.Says(`document.querySelectorAll("details").forEach((d) => (d.open = true))`)
				if wide := b.Says("document.documentElement.scrollWidth"); wide != fmt.Sprint(width) {
					t.Errorf("%s in %s is %s wide in a window of %d", name, lang, wide, width)
				}
				small := b.Says(`[...document.querySelectorAll("button, .button, summary, h3 a, .before a")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 47.5).map((e) => e.textContent).join()`)
				if small != "" {
					t.Errorf("%s in %s: too small to hit: %s", name, lang, small)
				}
				b.Looks(fmt.Sprintf("account-%s-%s", name, lang), width)
			}
		}
	}
}
