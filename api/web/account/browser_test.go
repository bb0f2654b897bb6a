package account_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"latchkey/api/web/frame/frametest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
)

var shots = flag.String("shots", "", "write screenshots of the pages into this folder, to be looked at")

// browser is a real browser with one page open, which belongs to a customer.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu     sync.Mutex
	broken []string // what the pages did wrong, by the console
}

func newBrowser(t *testing.T, h *frametest.House) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		const missing = "chromium is not in PATH (Debian: apt-get install chromium)"
		if os.Getenv("CI") == "true" || os.Getenv("LATCHKEY_REAL") == "required" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	b := &browser{t: t, base: h.Listen(t)}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox) // root has no sandbox
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closePage := chromedp.NewContext(allocator)
	b.ctx = ctx
	said := chromedp.Console(ctx)
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for m, err := range said {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.broken = append(b.broken, m.Text)
			b.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		closePage()
		stop()
		hearing.Wait()
	})
	b.open("/healthz")
	b.cookie(frametest.Cookie, h.SignIn(frametest.Customer, "Sample Customer 81").Cookie)
	return b
}

func (b *browser) cookie(name, value string) {
	b.t.Helper()
	set := network.SetCookieParams{Name: name, Value: value, URL: b.base}
	if _, err := chromedp.Call(b.ctx, network.SetCookie, set); err != nil {
		b.t.Fatal(err)
	}
}

// open gives the first page no deadline: the browser would get it too.
func (b *browser) open(path string) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(b.base+path)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) eval(script string) string {
	b.t.Helper()
	got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+script+")"))
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

// await waits until a script says something.
func (b *browser) await(script, want string) {
	b.t.Helper()
	got := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = b.eval(script); strings.Contains(got, want) {
			return
		}
	}
	b.t.Fatalf("%s is %q, want %q", script, got, want)
}

func (b *browser) emulate(zone, scheme string) {
	b.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: zone}); err != nil {
		b.t.Fatal(err)
	}
}

const code = `document.querySelector("details.code")`

// A page that is open stays true, and does not disturb who reads it.
func TestLive(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "PARCEL-7827")
	b := newBrowser(t, h)
	b.emulate("Europe/Berlin", "light")
	b.open(path)
	b.await(`document.querySelector("#state h2").textContent`, "It has left the warehouse")
	if b.eval(code+".open") != "false" {
		t.Error("the code is shown without asking")
	}
	b.do(chromedp.Focus(chromedp.CSS("details.code summary")), chromedp.KeyEvent("\r")) // by keyboard
	b.await(code+".open", "true")
	digits := codeOf(t, h, "PARCEL-7827")
	if got := b.eval(`[...document.querySelectorAll(".digits b")].map(b => b.textContent).join("")`); got != digits {
		t.Errorf("%q is shown", got)
	}

	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	b.await(`document.querySelector("#state h2").textContent`, "It is out for delivery")
	b.await(`document.querySelector("[aria-current=step] strong").textContent`, "Out for delivery")
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+path[len("/account/"):]+"/reissue", "", 200)
	b.await("document.body.textContent", "This is the newest one")
	if b.eval(code+".open") != "true" || b.eval("document.activeElement.tagName") == "BODY" && b.eval(`document.querySelectorAll("[data-added]").length`) == "0" {
		t.Error("what was opened is closed")
	}
	if got := b.eval(`[...document.querySelectorAll(".digits b")].map(b => b.textContent).join("")`); got != codeOf(t, h, "PARCEL-7827") {
		t.Errorf("%q is shown, an old code", got)
	}
	verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
	b.await(`document.querySelector("#state h2").textContent`, "It was handed over")
	b.await(`document.querySelectorAll(".digits").length`, "0")
	b.await(`document.getElementById("state").className`, "good")
	b.clean()
}

// clean reports what the console said.
func (b *browser) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.broken) > 0 {
		b.t.Errorf("the console: %q", b.broken)
	}
}

// Readers elsewhere get their own times, in the same words.
func TestZones(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "PARCEL-7827")
	b := newBrowser(t, h)
	for zone, want := range map[string][2]string{
		"Europe/Berlin":    {"It counts until tonight, 24:00.", "Er gilt bis heute, 24:00 Uhr."},
		"Europe/London":    {"It counts until today, 23:00.", "Er gilt bis heute, 23:00 Uhr."},
		"America/New_York": {"It counts until today, 18:00.", "Er gilt bis heute, 18:00 Uhr."},
		"Asia/Tokyo":       {"It counts until tomorrow, 08:00.", "Er gilt bis morgen, 08:00 Uhr."},
	} {
		b.emulate(zone, "light")
		for i, lang := range []string{"en", "de"} {
			b.cookie("latchkey-language", lang)
			b.open(path)
			b.await(`document.querySelector("#code .until").textContent`, want[i])
		}
	}
	b.clean()
}

// Every page fits every window.
func TestFits(t *testing.T) {
	h := house(t)
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	garage(t, h, "garage", "cus_81")
	garage(t, h, "home", "cus_81")
	pages := map[string]string{"list": "/account"}
	for _, name := range []string{"out", "locked", "over"} {
		pages[name], _ = of(t, h, name+"-7827")
	}
	of(t, h, "next-7828", func(d *handoff.Dispatch) { d.Day = handofftest.Today.Next() })
	for i := range 5 {
		verify(t, h, "locked-7827", wrong(t, h, "locked-7827", i), 403)
	}
	verify(t, h, "over-7827", codeOf(t, h, "over-7827"), 200)
	b := newBrowser(t, h)
	for name, path := range pages {
		for _, lang := range []string{"en", "de"} {
			b.cookie("latchkey-language", lang)
			for _, width := range []int64{320, 360, 1280} {
				b.do(chromedp.EmulateViewport(width, 800))
				b.open(path)
				b.eval(`document.querySelectorAll("details").forEach((d) => (d.open = true))`)
				if wide := b.eval("document.documentElement.scrollWidth"); wide != fmt.Sprint(width) {
					t.Errorf("%s in %s is %s wide in a window of %d", name, lang, wide, width)
				}
				small := b.eval(`[...document.querySelectorAll("button, .button, summary, h3 a, .before a")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 47.5).map((e) => e.textContent).join()`)
				if small != "" {
					t.Errorf("%s in %s: too small to hit: %s", name, lang, small)
				}
				for _, scheme := range []string{"light", "dark"} {
					if *shots == "" {
						break
					}
					b.emulate("Europe/Berlin", scheme)
					shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
					if err == nil {
						err = os.WriteFile(filepath.Join(*shots, fmt.Sprintf("account-%s-%s-%d-%s.png", name, lang, width, scheme)), shot, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	b.clean()
}
