package main

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
	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "write screenshots of the demo's pages into this folder, to be looked at")

// browser is a real browser with one page open.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	broken []string // what the page did wrong, by its console
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		const missing = "chromium is not in PATH (Debian: apt-get install chromium)"
		if os.Getenv("CI") == "true" || os.Getenv("LATCHKEY_REAL") == "required" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox) // root has no sandbox
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closePage := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx}
	said := chromedp.Console(ctx)
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for m, err := range said {
			if err != nil {
				return
			}
			// That the service refuses something is no fault of the page.
			if m.Type == chromedp.ConsoleException || strings.Contains(m.Text, "Content Security Policy") {
				b.mu.Lock()
				b.broken = append(b.broken, m.Text)
				b.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		closePage()
		stop()
		hearing.Wait()
	})
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(url)); err != nil { // the first gets no deadline: the browser would get it too
		b.t.Fatal(err)
	}
}

// press presses a button once what it did before has ended.
func (b *browser) press(id string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS("#"+id+`:not([aria-busy="true"])`), chromedp.NodeEnabled))
}

// reads waits until an element says something.
func (b *browser) reads(selector, want string) {
	b.t.Helper()
	var got string
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s says %q, want %q", selector, got, want)
		}
	}()
	await(b.t, selector+" to say "+want, func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
		defer cancel()
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector)))
		if got = text; err != nil { // the page may just be making way for the next
			got = err.Error()
		}
		return err == nil && strings.Contains(got, want)
	})
}

func (b *browser) colours(scheme string) {
	b.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.t.Fatal(err)
	}
}

// fits looks at the page in the sizes and colours that people have.
func (b *browser) fits(name string) {
	b.t.Helper()
	for _, width := range []int64{1280, 360} {
		b.do(chromedp.EmulateViewport(width, 800))
		wide, err := chromedp.Run(b.ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth"))
		if err != nil || wide > width {
			b.t.Errorf("%s is %d wide in a window of %d (%v)", name, wide, width, err)
		}
		for _, scheme := range []string{"light", "dark"} {
			if *shots == "" {
				break
			}
			b.colours(scheme)
			shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err == nil {
				err = os.WriteFile(filepath.Join(*shots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), shot, 0o600)
			}
			if err != nil {
				b.t.Fatal(err)
			}
		}
		b.colours("")
	}
	b.do(chromedp.EmulateViewport(1280, 800))
}

const (
	gateState, lobbyState, garageState = "#door-gate .state", "#door-lobby .state", "#door-garage .state"
	gateSaid, lobbySaid, garageSaid    = "#gate-answer", "#lobby-answer", "#garage-answer"
)

// The whole way to the customer in a real browser, by the page's own buttons.
func TestDoorsPage(t *testing.T) {
	b := newBrowser(t)
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T09:00:00Z")
	await(t, "the demo", func() bool { return strings.Contains(demo.out.String(), "ready") })
	b.open(demo.url(t) + "/")
	b.do(chromedp.Click(chromedp.CSS(`nav a[href="/demo/doors"]`)))
	b.reads(gateState, "Locked")
	b.reads("#who", "Courier 7")
	b.fits("start")

	b.press("far")
	b.press("gate-unlock")
	b.reads(gateSaid, "place: failed")
	b.reads(gateState, "Locked")
	b.press("near")
	b.do(chromedp.Focus(chromedp.ID("gate-unlock")), chromedp.KeyEvent("\r"))
	b.reads(gateState, "Unlock")
	b.reads(gateState, "Open")
	b.fits("gate-open")
	b.reads(gateState, "Relocked")

	b.press("lobby-unlock")
	b.reads(lobbySaid, "presence: missing")
	b.press("lobby-read")
	b.reads("#lobby-challenge", "The door shows")
	b.press("lobby-unlock")
	b.reads(lobbySaid, "The phone has a permit")
	b.reads(lobbyState, "Permit given")
	b.press("lobby-carry")
	b.reads(lobbySaid, "The door answered")
	b.reads(lobbyState, "Open")

	b.press("garage-read")
	b.reads("#garage-challenge", "The door shows")
	b.press("garage-unlock")
	b.reads(garageSaid, "consent: missing")
	b.fits("refused")
	b.press("consent")
	b.reads("#consent-hint", "may open")
	b.press("garage-unlock")
	b.reads(garageState, "Open")
	b.reads(garageState, "Relocked")

	b.press("gate-cut")
	b.reads("#gate-cut", "mend")
	b.press("gate-unlock")
	b.reads(gateSaid, "gave a permit")
	b.reads(gateState, "Unlocking")
	(&building{client: client{t, demo.url(t)}}).forward(16 * time.Second)
	b.reads(gateState, "No answer")
	b.fits("no-answer")
	b.press("gate-cut")
	b.reads(gateState, "Open")
	b.reads(gateState, "Relocked")

	b.press("hand")
	b.reads("#hand-answer", "Handed over")
	b.press("gate-unlock")
	b.reads(gateSaid, "already released")
	b.fits("end")
	b.press("another")
	b.reads("#hand-answer", "van")
	b.press("gate-unlock")
	b.reads(gateState, "Open")
	b.reads("#events", "Gate: Door opened")

	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.broken) > 0 {
		t.Errorf("the page's console: %q", b.broken)
	}
}
