package courier_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boombuler/barcode/code128"
	"github.com/chromedp/cdproto/browser"

	"latchkey/api/web/webtest"
	"latchkey/handoff"
)

// ran is what an attempt did.
type ran struct {
	State  string
	States []string
	Tries  int
	Bodies int // that differ
	Body   string
	Answer any
}

// run runs an attempt whose tries end as answers says, one after the other (the last
// repeats), while every look at the clock costs step milliseconds.
func run(b *webtest.Browser, module, answers string, step int) ran {
	b.T.Helper()
	return webtest.Eval[ran](b, fmt.Sprintf(`(async () => {
		const { Attempt } = await import(%q);
		const answers = %s, bodies = [], states = [];
		let t = Date.UTC(2026, 10, 24, 11), tries = 0;
		const call = async (method, path, body, signal) => {
			bodies.push(JSON.stringify([method, path, body]));
			if (!(signal instanceof AbortSignal)) throw new Error("it cannot be given up");
			const a = answers[Math.min(tries++, answers.length - 1)];
			if (a === "lost") throw new TypeError("Failed to fetch");
			return { ok: a[0] < 300, status: a[0], json: a[1], retryAfter: 0 };
		};
		const a = new Attempt({ call, path: "/p", body: { code: "123456" }, now: () => (t += %d), changed: (x) => states.push(x.state) });
		const [one, two] = await Promise.all([a.run(), a.run()]);
		return { State: one === two ? a.state : "ran twice", States: states, Tries: tries, Bodies: new Set(bodies).size, Body: bodies[0], Answer: a.answer };
	})()`, module, answers, step))
}

// An attempt is sent word for word the same until the server has answered, and given up
// after two minutes.
func TestAttempts(t *testing.T) {
	b := webtest.Start(t)
	h := house(t)
	url := h.Listen(t)
	b.Open(url + "/courier/shell")
	module := url + h.Site.Asset("courier/attempt.js")
	for name, test := range map[string]struct {
		answers string
		step    int
		state   string
		tries   int
	}{
		"done at once":           {`[[200, {status: "released"}]]`, 1, "done", 1},
		"refused":                {`[[403, {code: "code-mismatch"}]]`, 1, "refused", 1},
		"a spent budget":         {`[[429, {code: "budget-exhausted"}]]`, 1, "refused", 1},
		"lost, then done":        {`["lost", [200, {status: "released"}]]`, 1, "done", 2},
		"a busy service":         {`[[429, {code: "too-many-requests"}], [503, {code: "unavailable"}], [200, {}]]`, 1, "done", 3},
		"no answer of ours":      {`[[403, null], [200, {}]]`, 1, "done", 2},
		"an old token":           {`[[403, {code: "cross-site"}], [200, {}]]`, 1, "done", 2},
		"no doors":               {`[[503, {code: "doors-not-configured"}]]`, 1, "refused", 1},
		"nobody":                 {`[[401, {code: "unauthorized"}]]`, 1, "signed-out", 1},
		"two minutes of nothing": {`["lost"]`, 12_000, "unknown", 3},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(b, module, test.answers, test.step)
			if got.State != test.state || got.Bodies != 1 || test.tries < 3 && got.Tries != test.tries || got.Tries < min(test.tries, 2) {
				t.Errorf("%+v", got)
			}
			for i, s := range got.States {
				if last := i == len(got.States)-1; last != (s == test.state) || !last && s != "waiting" {
					t.Errorf("states: %v", got.States)
				}
			}
			if !bytes.Contains([]byte(got.Body), []byte(`"attempt_id":"`)) || !bytes.Contains([]byte(got.Body), []byte(`"claimed_at":"2026-11-24T11:`)) {
				t.Errorf("body: %s", got.Body)
			}
		})
	}
}

// picture is a film of one picture for chromium's fake camera (YUV4MPEG2): a label.
func picture(t *testing.T, text string) string {
	t.Helper()
	const width, height, module = 1280, 720, 4
	bars, err := code128.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	luma := bytes.Repeat([]byte{235}, width*height)
	left := (width - bars.Bounds().Dx()*module) / 2
	if left < 10*module {
		t.Fatalf("%d modules are too many for the picture", bars.Bounds().Dx())
	}
	for x := range bars.Bounds().Dx() * module {
		if r, _, _, _ := bars.At(x/module, 0).RGBA(); r == 0 {
			for y := 200; y < 520; y++ {
				luma[y*width+left+x] = 16
			}
		}
	}
	film := []byte(fmt.Sprintf("YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420jpeg\n", width, height))
	for range 2 {
		film = append(film, "FRAME\n"...)
		film = append(film, luma...)
		film = append(film, bytes.Repeat([]byte{128}, width*height/2)...)
	}
	file := filepath.Join(t.TempDir(), "label.y4m")
	if err := os.WriteFile(file, film, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The camera reads a label: here by the decoder that is loaded only then.
func TestCamera(t *testing.T) {
	p := newPhone(t, "use-fake-device-for-media-stream", "use-file-for-fake-video-capture="+picture(t, parcel))
	p.Permission(p.url, "camera", browser.PermissionSettingGranted)
	p.First(`delete window.BarcodeDetector`)
	p.Open(p.url + "/courier")
	loaded := `performance.getEntriesByType("resource").some((e) => e.name.endsWith("/zxing.js"))`
	if webtest.Eval[bool](p.Browser, loaded) {
		t.Error("the decoder is loaded before it is needed")
	}
	p.Click("#scan-any")
	p.Reads("#stop-title", "Sample Customer 81")
	p.Reads("#parcel-state", "Scanned: the parcel ending in 7827.")
	if !webtest.Eval[bool](p.Browser, loaded) {
		t.Error("who read the label?")
	}
	if webtest.Eval[bool](p.Browser, `document.getElementById("video").srcObject !== null`) {
		t.Error("the camera is still on")
	}
	// Without it, one types.
	p.Permission(p.url, "camera", browser.PermissionSettingDenied)
	p.Click("#scan-again")
	p.Click("#use-camera")
	p.Reads("#scanner-said", "The camera is not allowed here")
	p.Looks("courier-scanner", 320, 360)
	p.Type("#typed-text", "JJD000390001111\r")
	p.Reads("#scanner-said", "That is another parcel")
}

// The page reads labels as the service does: what it sends is read as the same parcel, and
// the last characters are those of the id.
func TestThePageReadsLabels(t *testing.T) {
	b := webtest.Start(t)
	h := house(t)
	url := h.Listen(t)
	b.Open(url + "/courier/shell")
	policy := handoff.DefaultPolicy()
	for _, text := range []string{
		"JJD000390007827", " jjd 0003\u00a09000 7827\r\n", "]C0JJD000390007827", "P.1_a-b", ".", "..", "a/b", "", " ", "a\tb", "a\nb", "JJD１２", strings.Repeat("a", 64), strings.Repeat("a", 65),
		"(00)106141412345678908", "(00) 1 0614141 234567890 8", "(02)09521234543213(37)12(00)106141412345678908", "(01)09521234543213", "(00)1",
		"]C100106141412345678908", "]C1\x1d00106141412345678908\x1d", "]d2420101\x1d00106141412345678908", "\x1d00106141412345678908", "]C102095212345432133712\x1d00106141412345678908", "]C10109521234543213\x1d10ABC", "]C1", "]",
		"https://id.gs1.org/00/106141412345678908?a=b#c", "HTTP://example.com/x/sscc/106141412345678908/", "https://example.com/", "https://id.gs1.org/00/1",
		"00106141412345678908", "００１０６１４１４１２３４５６７８９０８", "00106141412345678907", "993413796700168509", "rr 473 124 829 gb", "RR473124828GB", "\ufeffRR473124829GB", "\u200e\u200f",
	} {
		want, reason := policy.Label("", text)
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		read := webtest.Eval[string](b, fmt.Sprintf(`import(%q).then((m) => m.label(%s))`, url+h.Site.Asset("courier/label.js"), quoted))
		if got, r := policy.Label("", read); got != want || r != reason {
			t.Errorf("%q is %q on the page: %q %s, want %q %s", text, read, got, r, want, reason)
		}
		if n := min(4, len(want)/2); want != "" && !strings.EqualFold(read[len(read)-n:], want[len(want)-n:]) {
			t.Errorf("%q ends in %q, want %q", text, read, want)
		}
	}
}

// A phone of a given world: at is the monotonic clock, wall the other. Each step lets some
// time pass and then has the phone give a fix, or an error, or nothing.
const phoneWorld = `
	let at = 1000, wall = Date.UTC(2026, 10, 24, 11), watches = 0, cleared = 0, asked = 0, success, failure, timers = [];
	const geolocation = {
		watchPosition(s, f) { watches++; success = s; failure = f; return watches; },
		clearWatch() { cleared++; success = failure = () => {}; },
		getCurrentPosition(s, f, o) { asked++; if (o.maximumAge !== 0) throw new Error("an old one would do"); },
	};
	const pass = (ms) => { at += ms; wall += ms; };
	const fix = (timestamp, lat = 52.5) => success({ coords: { latitude: lat, longitude: 13.3, accuracy: 12 }, timestamp });
	const states = [];
	const p = new Position((s) => states.push(s), { geolocation, clock: () => at, wall: () => wall, timer: (f) => timers.push(f) });
	const waited = () => { for (const f of timers.splice(0)) f(); };`

// How old a position is, is measured by the page itself; a phone that falls silent is asked
// anew, and it is known that it gave none.
func TestPositions(t *testing.T) {
	b := webtest.Start(t)
	h := house(t)
	url := h.Listen(t)
	b.Open(url + "/courier/shell")
	for name, test := range map[string]struct{ script, want string }{
		"counts from 1970":         {`p.start(); fix(wall - 2000); pass(3000); return (await p.take()).told().age_s`, "5"},
		"counts from 2001":         {`p.start(); fix(wall - 978307200000); pass(3000); return (await p.take()).told().age_s`, "13"},
		"in microseconds":          {`p.start(); fix(wall * 1000); pass(3000); return (await p.take()).told().age_s`, "13"},
		"in the future":            {`p.start(); fix(wall + 300000); pass(3000); return (await p.take()).told().age_s`, "13"},
		"no time at all":           {`p.start(); fix(undefined); pass(3000); return (await p.take()).told().age_s`, "13"},
		"the clock is set":         {`p.start(); fix(wall); wall += 7200000; pass(3000); return (await p.take()).told().age_s`, "3"},
		"the phone slept":          {`p.start(); fix(wall); p.stop(); wall += 45000; const w = p.take(); waited(); return (await w).told().age_s`, "45"},
		"the same again":           {`p.start(); const t = wall; fix(t); pass(18000); fix(t); pass(1000); return (await p.take()).told().age_s`, "19"},
		"a new one, and fresh":     {`p.start(); fix(wall); pass(70000); fix(wall); return [(await p.take()).told().age_s, asked].join()`, "0,0"},
		"no accuracy":              {`p.start(); success({ coords: { latitude: 1, longitude: 2, accuracy: NaN }, timestamp: wall }); return (await p.take()).told().accuracy_m`, "1000000"},
		"silent, then not":         {`p.start(); fix(wall); pass(70000); const w = p.take(); pass(500); fix(wall); return [(await w).told().age_s, watches, cleared, asked, p.state].join()`, "0,2,1,1,known"},
		"silent for half a minute": {`p.start(); fix(wall); pass(30000); const w = p.take(); pass(8000); waited(); return [(await w).told().age_s, p.state].join()`, "38,known"},
		"silent":                   {`p.start(); fix(wall); pass(70000); const w = p.take(); pass(8000); waited(); return [await w, p.state, states.at(-1)].join()`, ",silent,silent"},
		"never a word":             {`const w = p.take(); pass(8000); waited(); return [await w, p.state, watches, asked].join()`, ",silent,2,1"},
		"it does not know":         {`p.start(); failure({ code: 2 }); const w = p.take(); pass(8000); waited(); return [await w, p.state].join()`, ",missing"},
		"the browser's own timer":  {`const own = new Position(() => {}, { geolocation, clock: () => at, wall: () => wall }); const w = own.take(); fix(wall); return (await w).told().age_s`, "0"},
		"denied":                   {`p.start(); const w = p.take(); failure({ code: 1 }); return [await w, p.state].join()`, ",denied"},
		"one object, older":        {`p.start(); fix(wall); const f = await p.take(); pass(2000); const a = f.told().age_s; pass(90000); return [a, f.told().age_s].join()`, "2,92"},
	} {
		t.Run(name, func(t *testing.T) {
			got := webtest.Eval[string](b, fmt.Sprintf(`(async () => { const { Position } = await import(%q); %s; return String(await (async () => { %s })()); })()`,
				url+h.Site.Asset("courier/position.js"), phoneWorld, test.script))
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// Each try says how old the position is by then; all else stays word for word the same.
func TestEachTryTellsThePositionsAge(t *testing.T) {
	b := webtest.Start(t)
	h := house(t)
	url := h.Listen(t)
	b.Open(url + "/courier/shell")
	got := webtest.Eval[string](b, fmt.Sprintf(`(async () => {
		const { Attempt } = await import(%q);
		let age = 3;
		const bodies = [];
		const call = async (method, path, body) => {
			bodies.push(body);
			age += 4;
			if (bodies.length === 1) throw new TypeError("lost");
			return { ok: true, status: 200, json: {}, retryAfter: 0 };
		};
		await new Attempt({ call, path: "/p", body: { code: "123456" }, where: { told: () => ({ lat: 1, lon: 2, accuracy_m: 3, age_s: age }) } }).run();
		const rest = bodies.map(({ location, ...b }) => JSON.stringify(b));
		return [bodies.map((b) => b.location.age_s), rest[0] === rest[1]].join(" ");
	})()`, url+h.Site.Asset("courier/attempt.js")))
	if got != "3,7 true" {
		t.Error(got)
	}
}
