package courier_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/boombuler/barcode/code128"
	"github.com/chromedp/cdproto/browser"

	"latchkey/api/web/webtest"
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
