package courier_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"

	"latchkey/api/auth"
	"latchkey/api/web/frame/frametest"
	"latchkey/api/web/webtest"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
)

const parcel = "JJD000390007827"

// felt and sent record what the hand feels and what leaves the page; drop loses the answer
// to the next request that changes something.
const listening = `
	window.felt = []; window.sent = []; window.drop = 0;
	navigator.vibrate = (p) => { felt.push(p.join()); return true; };
	const fetched = window.fetch;
	window.fetch = async (path, options) => {
		if (options?.method === "POST") sent.push(path + " " + options.body);
		const answer = await fetched(path, options);
		if (options?.method === "POST" && drop > 0) { drop--; throw new TypeError("lost"); }
		return answer;
	};`

// phone is a courier's phone before the sample's door, on this very day: what browsers
// know of time cannot be injected.
type phone struct {
	*webtest.Browser
	h      *frametest.House
	url    string
	wire   *wire
	client *frametest.Client
	gate   door.PrivateKey
	seq    uint64
}

func newPhone(t *testing.T, flags ...string) *phone {
	t.Helper()
	b := webtest.Start(t, flags...)
	h := house(t)
	h.Clock.Set(time.Now().Truncate(time.Second))
	berlin, err := handoff.Zone(handofftest.Zone)
	if err != nil {
		t.Fatal(err)
	}
	day := handoff.DateOf(h.Clock.Now().In(berlin))
	h.Drives(t, "cou_7", handofftest.Route, day)
	p := &phone{Browser: b, h: h, wire: newWire(t, h.Listen(t))}
	p.url = p.wire.url
	if p.gate, err = door.NewPrivateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	h.Do(t, manager, "PUT", "/v1/buildings/bld_turm5", `{"name":"Turmstr. 5","address":"Turmstr. 5, Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"carriers":["swift"]}`, 200)
	p.door("gate", "gate", "connected", `,"public_key":"`+p.gate.Public().String()+`"`)
	d := handofftest.Sample(parcel)
	d.Day = day
	h.Dispatch(t, d)
	p.client = h.SignIn(frametest.Courier, "Courier 7")
	b.First(listening)
	b.Cookie(p.url, frametest.Cookie, p.client.Cookie)
	b.At(p.url, 52.52561, 13.34209, 12)
	return p
}

// lift takes the phone into a dead spot, its service worker too, or out of it.
func (p *phone) lift(in bool) {
	p.T.Helper()
	p.wire.cut(in)
	p.Offline(in)
}

// wire is the way from the phone to the service, which can be cut: a browser's own notion
// of being offline stops short of service workers.
type wire struct {
	url, to string
	l       net.Listener

	mu    sync.Mutex
	off   bool
	conns map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{url: "http://" + l.Addr().String(), to: strings.TrimPrefix(to, "http://"), l: l, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.cut(true)
		all.Wait()
	})
	return w
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer s.Close()
	w.mu.Lock()
	off := w.off
	w.conns[c], w.conns[s] = true, true
	w.mu.Unlock()
	if off {
		return
	}
	go func() {
		_, _ = io.Copy(s, c) // either end may go
		s.Close()
	}()
	_, _ = io.Copy(c, s)
}

func (w *wire) cut(off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = off
	if off {
		for c := range w.conns {
			c.Close()
		}
		clear(w.conns)
	}
}

func (p *phone) door(id, kind, mode, more string) {
	p.T.Helper()
	p.h.Do(p.T, manager, "PUT", "/v1/doors/"+id, `{"building_id":"bld_turm5","kind":"`+kind+`","mode":"`+mode+`","location":{"lat":52.5256,"lon":13.3421}`+more+`}`, 200)
}

// begin opens the sample's stop and types its label.
func (p *phone) begin() {
	p.T.Helper()
	p.Open(p.url + "/courier")
	p.Click("[data-open]")
	p.Reads("#parcel-state", "Not scanned yet")
	p.Click("#go")
	p.Type("#typed-text", parcel+"\r")
	p.Reads("#parcel-state", "Scanned: the parcel ending in 7827.")
}

func (p *phone) enter(code string) {
	p.T.Helper()
	for _, digit := range code {
		p.Click(fmt.Sprintf(`#keys [data-key="%c"]`, digit))
	}
}

func (p *phone) code() string {
	g := p.h.Parcel(p.T, parcel)
	return g.CurrentCode().Reveal()
}

func (p *phone) wrong(n int) string {
	g := p.h.Parcel(p.T, parcel)
	return handofftest.WrongCode(&g, n).Reveal()
}

// counts are the events of a type.
func (p *phone) counts(kind handoff.EventType) (n int) {
	for _, e := range p.h.Events(p.T) {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// says makes the gate report a state of its newest permit.
func (p *phone) says(states ...door.State) {
	p.T.Helper()
	for _, s := range states {
		controller := auth.Principal{Subject: "gate", Scopes: []auth.Scope{auth.Door}}
		p.h.Do(p.T, controller, "POST", "/v1/doors/gate/reports", `{"reports":["`+p.report("gate", s)+`"]}`, 200)
	}
}

// report is what a door says of the newest permit, as it sends or shows it.
func (p *phone) report(id string, s door.State) string {
	p.T.Helper()
	g := p.h.Parcel(p.T, parcel)
	p.seq++
	raw, err := door.Report{Door: id, Seq: p.seq, At: p.h.Clock.Now(), State: s, Permit: door.PermitID(g.Unlocks[len(g.Unlocks)-1].Permit)}.Sign(p.gate)
	if err != nil {
		p.T.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

const gateState = `[data-door="gate"] .door-state`

// The whole way: through the gate, as far as the gate itself says, a wrong code, an older
// one, the right one, and back.
func TestHandingOver(t *testing.T) {
	p := newPhone(t)
	p.Open(p.url + "/courier")
	p.Reads("#stops", "One stop is left today.")
	p.Looks("courier-list", 320, 360)
	p.begin()
	p.Reads(gateState, "Taken to be locked")
	p.Click(`[data-door="gate"] .unlock`)
	p.Reads(gateState, "The door has not answered yet")
	p.says(door.Delivered)
	p.Reads(gateState, "Not open yet")
	p.says(door.Confirmed)
	p.Reads(gateState, "The door says that it let go")
	p.Looks("courier-stop", 320, 360)
	p.says(door.Opened)
	p.Reads(gateState, "The door is open")
	p.says(door.Relocked)
	p.Reads(gateState, "Locked again")

	first := p.code()
	p.Click("#go")
	p.enter(p.wrong(0))
	p.Reads("#digits-said", "6 of 6")
	p.Looks("courier-pad", 320, 360)
	p.Click("#send")
	p.Reads("#pad-said", "Wrong code")
	p.Reads("#pad-said", "4 more tries")
	p.Looks("courier-wrong", 320, 360)
	p.h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+p.h.Parcel(t, parcel).ID.String()+"/reissue", "", 200)
	p.enter(first)
	p.Click("#send")
	berlin, _ := handoff.Zone(handofftest.Zone)
	p.Reads("#pad-said", "Ask for the newest code: this one was replaced at "+p.h.Clock.Now().In(berlin).Format("15:04"))
	if p.counts(handoff.EventReleased) != 0 {
		t.Fatal("released")
	}
	p.enter(p.code())
	p.Click("#send")
	p.Reads("#said", "Handed over")
	p.Reads("#status", "Handed over")
	p.Looks("courier-done", 320, 360)
	if felt := webtest.Eval[string](p.Browser, `felt.join("|")`); !strings.Contains(felt, "80,80,80,80,240") || !strings.HasSuffix(felt, "120") {
		t.Errorf("felt %s", felt)
	}

	p.Reads("#abort-until", "Possible until")
	p.Click("#abort")
	p.Reads("#sure", "Take the handoff back?")
	p.Click("#sure-yes")
	p.Reads("#said", "Taken back")
	p.Reads("#status", "To do")
	p.Click("#nobody")
	p.Click("#sure-yes")
	p.Reads("#said", "Noted: nobody answered")
	if p.counts(handoff.EventReleased) != 1 || p.counts(handoff.EventAborted) != 1 || p.counts(handoff.EventAttempted) != 1 || p.counts(handoff.EventCodeRefused) != 2 {
		t.Errorf("events: %v", p.h.Events(t))
	}
	if path := webtest.Eval[string](p.Browser, "location.href"); path != p.url+"/courier" {
		t.Errorf("the address is %s", path)
	}
}

// kept is what the phone has written down anywhere.
const kept = `(async () => {
	const out = [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie, JSON.stringify(history.state), location.href];
	for (const db of await indexedDB.databases()) out.push("database " + db.name);
	for (const name of await caches.keys()) {
		const cache = await caches.open(name);
		for (const r of await cache.keys()) out.push(r.url + " " + await (await cache.match(r)).text());
	}
	return out.join("\n");
})()`

// In a lift: what could not be sent is not done, is written down nowhere, and is sent
// once, as it was meant, when the network is back.
func TestOfflineAndBack(t *testing.T) {
	p := newPhone(t)
	p.begin()
	code := p.code()
	p.Click("#go")
	p.enter(code)
	p.lift(true)
	p.Click("#send")
	p.Reads("#pad-said", "Not sent yet")
	p.Reads("#pad-said", "Not done.")
	p.Looks("courier-offline", 320, 360)
	if said := p.Text("body"); strings.Contains(said, "Handed over") {
		t.Errorf("done on hope: %s", said)
	}
	if g := p.h.Parcel(t, parcel); g.Status != handoff.Active {
		t.Fatalf("%v", g.Status)
	}
	if all := webtest.Eval[string](p.Browser, kept); strings.Contains(all, code) || strings.Contains(all, parcel) || strings.Contains(all, "7827") || strings.Contains(all, p.client.CSRF) || strings.Contains(all, "Turmstr") {
		t.Errorf("it is written down: %s", all)
	}
	p.lift(false)
	p.Reads("#said", "Handed over")
	if p.counts(handoff.EventReleased) != 1 || p.counts(handoff.EventCodeRefused) != 0 {
		t.Errorf("events: %v", p.h.Events(t))
	}
	if n := webtest.Eval[int](p.Browser, `new Set(sent.filter((s) => s.includes("/verify")).map((s) => s.replace(/"age_s":\d+/, ""))).size`); n != 1 {
		t.Errorf("%d different requests", n)
	}
}

// A session that ended is told, and nothing is done.
func TestSignedOut(t *testing.T) {
	p := newPhone(t)
	p.begin()
	p.Click("#go")
	p.enter(p.code())
	webtest.Eval[bool](p.Browser, `(() => { const f = window.fetch; window.fetch = (path, o) => o?.method === "POST" ? Promise.resolve(new Response('{"code":"unauthorized"}', { status: 401 })) : f(path, o); return true; })()`)
	p.Click("#send")
	p.Reads("#said", "You are signed out")
	if p.counts(handoff.EventReleased) != 0 {
		t.Error("released")
	}
}

// Every refusal is told in its own words, as the API answers it.
func TestRefusedAtTheDoor(t *testing.T) {
	p := newPhone(t)
	p.begin()
	try := func(code, box, want string) {
		t.Helper()
		if p.Text("#pad") == "" {
			p.Click("#go")
		}
		p.enter(code)
		p.Click("#send")
		p.Reads(box, want)
	}
	for i := range 5 {
		try(p.wrong(i), "#pad-said", []string{"4 more", "3 more", "2 more", "One more try", "The customer must press"}[i])
	}
	try(p.code(), "#said", "Code locked")
	grant := p.h.Parcel(t, parcel).ID.String()
	p.h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+grant+"/reissue", "", 200)
	p.At(p.url, 52.53, 13.35, 12)
	p.Until("the new position", func() bool {
		try(p.code(), "#said", "")
		p.Reads("#go", "Enter the code")
		return strings.Contains(p.Text("#said"), "You are not near enough")
	})
	p.At(p.url, 52.52561, 13.34209, 12)
	p.h.Do(t, frametest.Carrier, "PUT", "/v1/couriers/swift/cou_7", `{"suspended":true}`, 200)
	try(p.code(), "#said", "You are not cleared")
	if p.counts(handoff.EventReleased) != 0 || p.counts(handoff.EventCodeRefused) != 5 {
		t.Errorf("events: %v", p.h.Events(t))
	}
}

// The answer is lost, not the request: sent again it gets the first answer, and a wrong
// code is counted once.
func TestLostAnswer(t *testing.T) {
	p := newPhone(t)
	p.begin()
	p.Click("#go")
	p.enter(p.wrong(0))
	webtest.Eval[int](p.Browser, "window.drop = 1")
	p.Click("#send")
	p.Reads("#pad-said", "4 more tries")
	if n := p.counts(handoff.EventCodeRefused); n != 1 {
		t.Errorf("%d wrong codes", n)
	}
	if n := webtest.Eval[int](p.Browser, `sent.filter((s) => s.includes("/verify")).length`); n != 2 {
		t.Errorf("%d requests", n)
	}
	p.enter(p.code())
	webtest.Eval[int](p.Browser, "window.drop = 1")
	p.Click("#send")
	p.Reads("#said", "Handed over")
	if n := p.counts(handoff.EventReleased); n != 1 {
		t.Errorf("handed over %d times", n)
	}
}

// A page that is opened without a network is the shell; with the network come the stops.
func TestOpenedInTheLift(t *testing.T) {
	p := newPhone(t)
	p.Open(p.url + "/courier")
	p.Until("the worker", func() bool {
		return webtest.Eval[bool](p.Browser, `navigator.serviceWorker.ready.then(() => caches.keys()).then((k) => k.length === 1 && navigator.serviceWorker.controller !== null)`)
	})
	p.lift(true)
	p.Open(p.url + "/courier")
	p.Reads("#stops", "There is no connection")
	p.Looks("courier-shell", 320, 360)
	p.Click("#scan-any")
	p.Type("#typed-text", parcel+"\r")
	p.Reads("#stop-title", "Not on your list")
	p.Click("#go")
	p.enter(p.code())
	p.Click("#send")
	p.Reads("#pad-said", "Not sent yet")
	p.lift(false)
	p.Reads("#said", "Handed over")
	p.Reads("#stop-title", "Sample Customer 81")
}

// Two taps are one intent.
func TestDoubleTap(t *testing.T) {
	p := newPhone(t)
	p.begin()
	webtest.Eval[bool](p.Browser, `(() => { const b = document.querySelector('[data-door="gate"] .unlock'); b.click(); b.click(); return true; })()`)
	p.Reads(gateState, "The door has not answered yet")
	if n := p.counts(handoff.EventPermitted); n != 1 {
		t.Errorf("%d permits", n)
	}
	p.Click("#go")
	p.enter(p.wrong(0))
	webtest.Eval[bool](p.Browser, `(() => { const b = document.getElementById("send"); b.click(); b.click(); return true; })()`)
	p.Reads("#pad-said", "4 more tries")
	if n := p.counts(handoff.EventCodeRefused); n != 1 {
		t.Errorf("%d wrong codes", n)
	}
}

// Everything works by keyboard, in German, and what has the focus shows it.
func TestKeyboard(t *testing.T) {
	p := newPhone(t)
	p.Open(p.url + "/courier")
	p.Click(`[name=language][value=de]`)
	p.Reads("h1", "Ihre Stopps")
	focus := func(id string) {
		t.Helper()
		for range 40 {
			if webtest.Eval[bool](p.Browser, fmt.Sprintf(`document.activeElement?.matches(%q) ?? false`, id)) {
				return
			}
			p.Keys("\t")
		}
		t.Fatalf("the focus does not come to %s", id)
	}
	focus("[data-open]")
	p.Keys("\r")
	p.Reads("#stop-title", "Sample Customer 81")
	focus("#go")
	p.Keys("\r")
	focus("#typed-text")
	p.Keys(parcel, "\r")
	p.Reads("#parcel-state", "Gescannt")
	focus(`[data-door="gate"] .unlock`)
	p.Keys("\r")
	p.Reads(gateState, "Die Tür hat noch nicht geantwortet")
	p.Looks("courier-stop-de", 320, 360)
	focus("#go")
	p.Keys("\r")
	p.Keys("123")
	p.Reads("#digits-said", "3 von 6")
	p.Keys("\b", "\b", "\b")
	p.Reads("#digits-said", "0 von 6")
	p.Keys(p.code(), "\r")
	p.Reads("#said", "Übergeben")
}

// The words for a position that is switched off, and what the server makes of none.
func TestPositionDenied(t *testing.T) {
	p := newPhone(t)
	p.Permission(p.url, "geolocation", browser.PermissionSettingDenied)
	p.begin()
	p.Reads("#where", "Your position is switched off")
	p.Click(`[data-door="gate"] .unlock`)
	p.Reads(gateState, "Not permitted")
	p.Reads(`[data-door="gate"] .door-hint`, "Your phone gave no position. Your position is switched off for this page")
	p.Looks("courier-denied", 320, 360)
}

// Doors without a network: read, permitted, shown; and keypads.
func TestCarriedAndKeypad(t *testing.T) {
	p := newPhone(t)
	p.door("lobby", "lobby", "carried", `,"public_key":"`+p.gate.Public().String()+`"`)
	p.door("pad", "lobby", "keypad", `,"keypad_key":"AQIDBAUGBwgJCgsMDQ4PEBESExQ"`)
	p.begin()
	p.Reads(`[data-door="lobby"] .door-hint`, "must be read first")
	p.Reads(`[data-door="pad"] h3`, "Lobby pad")
	p.Click(`[data-door="lobby"] .unlock`)
	p.Type("#typed-text", "no!\r")
	p.Reads("#scanner-said", "That is not what a door shows.")
	webtest.Eval[string](p.Browser, `document.getElementById("typed-text").value = ""`)
	p.Type("#typed-text", base64.RawURLEncoding.EncodeToString([]byte("challenge-of-a-door"))+"\r")
	p.Reads("#permit", "Show this to the door")
	if dark := webtest.Eval[bool](p.Browser, `(() => { const c = document.getElementById("permit-code"); const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; return d.some((v, i) => i % 4 === 0 && v === 0) && d.some((v) => v === 255); })()`); !dark {
		t.Error("no QR code")
	}
	p.Looks("courier-permit", 320, 360)
	p.Click("#permit-close")
	p.Reads(`[data-door="lobby"] .door-state`, "Show the permit to the door")
	bring := func(report, said string) {
		t.Helper()
		p.Click(`[data-door="lobby"] .report`)
		p.Type("#typed-text", report+"\r")
		p.Reads(`[data-door="lobby"]`, said)
	}
	bring(base64.RawURLEncoding.EncodeToString(make([]byte, 100)), "It does not verify")
	bring(p.report("lobby", door.Opened), "The door is open.")
	p.Click(`[data-door="pad"] .unlock`)
	p.Reads(`[data-door="pad"] .door-state`, "Type the PIN")
	if pin := p.Text(`[data-door="pad"] .pin`); len(strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, pin)) != 8 {
		t.Errorf("PIN %q", pin)
	}
	p.Looks("courier-pin", 320, 360)
}

// Several parcels of one stop: any label finds it, what is scanned and ticked is handed over, and
// the rest waits with another code.
func TestSeveralParcels(t *testing.T) {
	p := newPhone(t)
	const first, second, third = "JJD000390000011", "JJD000390000022", "JJD000390000033"
	d, listed := handofftest.Sample(first), p.h.Parcel(t, parcel)
	d.Day, d.Customer.Name = listed.Day(), "Sample Customer 82"
	d.Together = &handoff.Together{More: []handoff.Piece{{Parcel: second}, {Parcel: third}}}
	g := p.h.Dispatch(t, d)
	p.Open(p.url + "/courier")
	p.Click("#scan-any")
	p.Type("#typed-text", second+"\r")
	p.Reads("#pieces-state", "1 scanned of 3.")
	for _, label := range []string{third, first} {
		p.Click("#scan-again")
		p.Type("#typed-text", label+"\r")
	}
	p.Reads("#pieces-state", "3 scanned of 3.")
	p.Click(`#pieces-list input[data-parcel="` + first + `"]`) // it stays in the van
	p.Looks("courier-several", 320, 360)
	p.Click("#go")
	p.enter(g.CurrentCode().Reveal())
	p.Click("#send")
	p.Reads("#said", "Handed over")
	p.Reads("#pieces-state", "scanned of 1.")
	p.Reads("#pieces-list", "Ending in 0033: Handed over")
	p.Looks("courier-several-part", 320, 360)
	now := p.h.Parcel(t, first)
	if there := now.There(); len(there) != 1 || there[0] != first || now.Code.TotalWrong != 0 {
		t.Fatalf("still there: %v", there)
	}
	p.Click("#abort") // of what was handed over, whatever is scanned
	p.Click("#sure-yes")
	p.Reads("#said", "Taken back")
	p.Click("#go")
	p.Type("#typed-text", second+"\r")
	p.Click("#scan-again")
	p.Type("#typed-text", third+"\r")
	p.Reads("#pieces-state", "3 scanned of 3.")
	if now = p.h.Parcel(t, first); len(now.There()) != 3 {
		t.Fatalf("after it was taken back there is %v", now.There())
	}
	p.Click(`#pieces-list input[data-parcel="` + first + `"]`)
	p.Click("#go")
	p.enter(now.CurrentCode().Reveal())
	p.Click("#send")
	p.Reads("#status", "Handed over")
	if p.counts(handoff.EventReleased) != 2 {
		t.Errorf("events: %v", p.h.Events(t))
	}
}
