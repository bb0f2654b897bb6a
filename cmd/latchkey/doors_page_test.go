package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"latchkey/api/web/webtest"
)

const (
	gateState, lobbyState, garageState = "#door-gate .state", "#door-lobby .state", "#door-garage .state"
	gateSaid, lobbySaid, garageSaid    = "#gate-answer", "#lobby-answer", "#garage-answer"
)

// The whole way to the customer in a real browser, by the page's own buttons.
func TestDoorsPage(t *testing.T) {
	b := webtest.Start(t)
	b.Width(1280)
	press := func(id string) { // once what it did before has ended
		t.Helper()
		b.Click("#" + id + `:not([aria-busy="true"])`)
	}
	fits := func(name string) {
		t.Helper()
		b.Looks("demo-"+name, 1280, 360)
		b.Width(1280)
	}
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T09:00:00Z")
	await(t, "the demo", func() bool { return strings.Contains(demo.out.String(), "ready") })
	b.Open(demo.url(t) + "/")
	b.Click(`nav a[href="/demo/doors"]`)
	b.Reads(gateState, "Locked")
	b.Reads("#who", "Courier 7")
	fits("start")

	press("far")
	press("gate-unlock")
	b.Reads(gateSaid, "place: failed")
	b.Reads(gateState, "Locked")
	press("near")
	b.Do(chromedp.Focus(chromedp.ID("gate-unlock")), chromedp.KeyEvent("\r"))
	b.Reads(gateState, "Unlock")
	b.Reads(gateState, "Open")
	fits("gate-open")
	b.Reads(gateState, "Relocked")

	press("lobby-unlock")
	b.Reads(lobbySaid, "presence: missing")
	press("lobby-read")
	b.Reads("#lobby-challenge", "The door shows")
	press("lobby-unlock")
	b.Reads(lobbySaid, "The phone has a permit")
	b.Reads(lobbyState, "Permit given")
	press("lobby-carry")
	b.Reads(lobbySaid, "The door answered")
	b.Reads(lobbyState, "Open")

	press("garage-read")
	b.Reads("#garage-challenge", "The door shows")
	press("garage-unlock")
	b.Reads(garageSaid, "consent: missing")
	fits("refused")
	press("consent")
	b.Reads("#consent-hint", "may open")
	press("garage-unlock")
	b.Reads(garageState, "Open")
	b.Reads(garageState, "Relocked")

	press("gate-cut")
	b.Reads("#gate-cut", "mend")
	press("gate-unlock")
	b.Reads(gateSaid, "gave a permit")
	b.Reads(gateState, "Unlocking")
	(&sampleHouse{client: client{t, demo.url(t)}}).forward(16 * time.Second)
	b.Reads(gateState, "No answer")
	fits("no-answer")
	press("gate-cut")
	b.Reads(gateState, "Open")
	b.Reads(gateState, "Relocked")

	press("hand")
	b.Reads("#hand-answer", "Handed over")
	press("gate-unlock")
	b.Reads(gateSaid, "already released")
	fits("end")
	press("another")
	b.Reads("#hand-answer", "van")
	press("gate-unlock")
	b.Reads(gateState, "Open")
	b.Reads("#events", "Gate: Door opened")
}
