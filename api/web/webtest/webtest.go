// Package webtest drives pages in a real browser. Where chromium is missing its tests are
// skipped with a line that says so; with CI=true or LATCHKEY_REAL=required that is a failure.
package webtest

import (
	"context"
	_ "embed" // axe-core
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Browser is a real browser with one page open, 360 by 740 wide: a phone's.
type Browser struct {
	T   testing.TB
	ctx context.Context

	mu     sync.Mutex
	broken []string // what the page did wrong, by its console
	said   []string // whatever its console said
	quiet  bool     // its console must say nothing
}

// Start starts chromium for the test, with more flags ("name" or "name=value"). When the
// test ends it fails if a page threw or broke its own policy.
func Start(t testing.TB, flags ...string) *Browser {
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
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		if value == "" {
			options = append(options, chromedp.Flag(name, true))
		} else {
			options = append(options, chromedp.Flag(name, value))
		}
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	return show(t, allocator)
}

// Another is the browser of another person. It shares nothing with this one, not a cookie.
func (b *Browser) Another() *Browser {
	b.T.Helper()
	return show(b.T, b.ctx, chromedp.WithNewBrowserContext())
}

// show opens a page.
func show(t testing.TB, parent context.Context, options ...chromedp.ContextOption) *Browser {
	t.Helper()
	ctx, closePage := chromedp.NewContext(parent, options...)
	b := &Browser{T: t, ctx: ctx}
	said := chromedp.Console(ctx)
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for m, err := range said {
			if err != nil {
				return
			}
			// That the service refuses something is no fault of the page.
			b.mu.Lock()
			b.said = append(b.said, m.Text)
			if m.Type == chromedp.ConsoleException || strings.Contains(m.Text, "Content Security Policy") {
				b.broken = append(b.broken, m.Text)
			}
			b.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			b.Shot("failed-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
		}
		closePage()
		hearing.Wait()
		if len(b.broken) > 0 {
			t.Errorf("the page's console: %q", b.broken)
		} else if b.quiet && len(b.said) > 0 {
			t.Errorf("the page's console: %q", b.said)
		}
	})
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // the first gets no deadline: the browser would get it too
		t.Fatal(err)
	}
	b.Width(360)
	return b
}

// Quiet makes the test fail if the console says anything, be it no more than a request
// that the service refused.
func (b *Browser) Quiet() { b.quiet = true }

// Do runs steps, each of which must succeed within half a minute.
func (b *Browser) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.T.Fatal(err)
	}
}

// call sends one command of the DevTools protocol.
func call[P, R any](b *Browser, command cdp.Command[P, R], params P) R {
	b.T.Helper()
	r, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.T.Fatal(err)
	}
	return r
}

// Open navigates to an address.
func (b *Browser) Open(url string) {
	b.T.Helper()
	b.Do(chromedp.Navigate(url))
}

// Cookie sets a cookie of an origin such as http://127.0.0.1:8080.
func (b *Browser) Cookie(origin, name, value string) {
	b.T.Helper()
	call(b, network.SetCookie, network.SetCookieParams{URL: origin, Name: name, Value: value, HTTPOnly: new(true)})
}

// At is where the browser is, and lets pages of an origin ask for it.
func (b *Browser) At(origin string, lat, lon, accuracy float64) {
	b.T.Helper()
	b.Permission(origin, "geolocation", browser.PermissionSettingGranted)
	call(b, emulation.SetGeolocationOverride, emulation.SetGeolocationOverrideParams{Latitude: &lat, Longitude: &lon, Accuracy: &accuracy})
}

// Permission says whether pages of an origin may do what they ask for, as the reader would.
func (b *Browser) Permission(origin, name string, setting browser.PermissionSetting) {
	b.T.Helper()
	call(b, browser.SetPermission, browser.SetPermissionParams{
		Origin: origin, Permission: &browser.PermissionDescriptor{Name: name}, Setting: setting,
		BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID, // that of Another; empty otherwise
	})
}

// Offline takes the network away, or gives it back.
func (b *Browser) Offline(off bool) {
	b.T.Helper()
	call(b, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		EmulateOfflineServiceWorker: &off,
		MatchedNetworkConditions:    []*network.Conditions{{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}},
	})
	call(b, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1})
}

// First runs a script in every page before its own.
func (b *Browser) First(script string) {
	b.T.Helper()
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// Click presses an element once it can be pressed. It is brought to the middle of the
// window first, from under what sticks to the edges.
func (b *Browser) Click(selector string) {
	b.T.Helper()
	b.Do(chromedp.WaitVisible(chromedp.CSS(selector)))
	Eval[bool](b, fmt.Sprintf(`(document.querySelector(%q)?.scrollIntoView({block: "center", behavior: "instant"}), true)`, selector))
	// A live page may have put another element in its place meanwhile: that is pressed.
	for tries := 5; ; tries-- {
		ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
		err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeEnabled))
		cancel()
		if err == nil {
			return
		}
		if tries == 0 || !strings.Contains(err.Error(), "Could not find node") {
			b.T.Fatal(err)
		}
	}
}

// Type writes into a field.
func (b *Browser) Type(selector, text string) {
	b.T.Helper()
	b.Do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Keys presses keys wherever the focus is.
func (b *Browser) Keys(keys ...string) {
	b.T.Helper()
	for _, key := range keys {
		b.Do(chromedp.KeyEvent(key))
	}
}

// Eval is the value of an expression, awaited if it is a promise.
func Eval[R any](b *Browser, expression string) R {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 60*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[R](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.T.Fatalf("%s: %v", expression, err)
	}
	return v
}

// glance is the value of an expression as it stands. The page may just be making way for
// the next: then there is nothing to read, or nothing to read it in.
func (b *Browser) glance(expression string) (string, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[string](expression))
}

// Text is what a reader sees of an element: empty where it is hidden, or the page is just
// making way for the next.
func (b *Browser) Text(selector string) string {
	b.T.Helper()
	text, err := b.glance(fmt.Sprintf(
		`(() => { const el = document.querySelector(%q); return el && el.checkVisibility() ? el.innerText : ""; })()`, selector))
	if err != nil {
		return ""
	}
	return text
}

// Reads waits until an element shows a text.
func (b *Browser) Reads(selector, want string) {
	b.T.Helper()
	var got string
	b.Until(selector+" to say "+want, func() bool {
		got = b.Text(selector)
		return strings.Contains(got, want)
	}, func() string { return got })
}

// Until waits for something that will happen. Seen says what there was instead.
func (b *Browser) Until(what string, happened func() bool, seen ...func() string) {
	b.T.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if happened() {
			return
		}
		if time.Now().After(end) {
			for _, s := range seen {
				b.T.Errorf("there is %q", s())
			}
			b.T.Fatalf("waited in vain for %s", what)
		}
	}
}

// Width makes the window as wide as a device.
func (b *Browser) Width(width int64) {
	b.T.Helper()
	b.Do(chromedp.EmulateViewport(width, 740))
}

// Colours sets what the reader prefers: light, dark, or nothing.
func (b *Browser) Colours(scheme string) {
	b.T.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// Looks takes screenshots of the page in some widths, light and dark, and fails where it is
// wider than the window, or axe-core finds something serious.
func (b *Browser) Looks(name string, widths ...int64) {
	b.T.Helper()
	for _, width := range widths {
		b.Width(width)
		if wide := Eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
			b.T.Errorf("%s is %d wide in a window of %d", name, wide, width)
		}
		for _, scheme := range []string{"light", "dark"} {
			b.Colours(scheme)
			b.Shot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
			b.accessible(fmt.Sprintf("%s in %s, %d wide", name, scheme, width))
		}
	}
	b.Colours("")
	b.Width(360)
}

// axe is axe-core, which knows what hinders people with disabilities (WCAG 2.2, A and AA).
//
//go:embed axe/axe.min.js
var axe string

func (b *Browser) accessible(what string) {
	b.T.Helper()
	if !Eval[bool](b, `"axe" in window`) {
		b.Do(chromedp.Evaluate[chromedp.Void](axe))
	}
	for _, found := range Eval[[]string](b, `(async () => {
		await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
		await Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {})));
		const { violations, passes } = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] });
		if (passes.length === 0) throw new Error("axe looked at nothing");
		return violations.filter((v) => v.impact === "serious" || v.impact === "critical").flatMap((v) => v.nodes.map((n) => v.id + ": " + v.help + ": " + n.target.join(" ") + ": " + (n.any[0]?.message ?? "")));
	})()`) {
		b.T.Errorf("%s: %s", what, found)
	}
}

// View is a picture (PNG) of what the window shows.
func (b *Browser) View() []byte {
	b.T.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.T.Fatal(err)
	}
	return picture
}

// Shot writes a screenshot into the folder screenshots of the module, which git ignores.
func (b *Browser) Shot(name string) {
	b.T.Helper()
	shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	var folder string
	if err == nil {
		folder, err = screenshots()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), shot, 0o600)
	}
	if err != nil {
		b.T.Errorf("a screenshot of %s: %v", name, err)
	}
}

// screenshots is the folder of that name beside go.mod.
func screenshots() (string, error) {
	folder, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			folder = filepath.Join(folder, "screenshots")
			return folder, os.MkdirAll(folder, 0o700)
		}
		if filepath.Dir(folder) == folder {
			return "", os.ErrNotExist
		}
		folder = filepath.Dir(folder)
	}
	return "", err
}
