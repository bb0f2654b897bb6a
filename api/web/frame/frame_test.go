package frame_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
	"latchkey/handoff/handofftest"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// sample is a set with a page of each kind.
func sample() fstest.MapFS {
	return fstest.MapFS{
		"words.yaml": file(`
greet: {en: "Good day, {name}", de: "Guten Tag, {name}"}
count:
  none: {en: nothing, de: nichts}
  one: {en: one thing, de: ein Ding}
  other: {en: "{n} things", de: "{n} Dinge"}
`),
		"pages/hello.html": file(`{{define "title"}}Hello{{end}}{{define "main"}}<h1>{{t "greet" "name" .Data.Name}}</h1>` +
			`<p>{{n "count" .Data.Count}}</p><img alt="{{t "greet" "name" .Data.Name}}">{{end}}`),
		"assets/x.js": file("export const x = 1;\n"),
	}
}

func set(files fs.FS, routes func(*frame.Pages)) frame.Set {
	return frame.Set{Name: "sample", Files: files, Scopes: []auth.Scope{auth.Customer}, Routes: routes}
}

func house(t *testing.T, files fs.FS, routes func(*frame.Pages)) *frametest.House {
	t.Helper()
	return frametest.New(t, nil, func(*handofftest.World) []frame.Set { return []frame.Set{set(files, routes)} })
}

type hello struct {
	Name  string
	Count int
}

func greet(p *frame.Pages) {
	p.Handle("GET /hello", func(v *frame.Visit) { v.Render(http.StatusOK, "hello", hello{`<b>"you"</b>`, 2}) })
	p.Handle("POST /hello", func(v *frame.Visit) { v.Redirect("/hello") })
	p.Handle("GET /broken", func(v *frame.Visit) { v.Render(http.StatusOK, "hello", 7) })
	p.Handle("GET /panic", func(*frame.Visit) { panic("a secret") })
	p.Handle("GET /mine", func(v *frame.Visit) {
		var all struct{ Handoffs []struct{} }
		if v.Read("/v1/customers/cus_81/handoffs", &all) {
			v.Render(http.StatusOK, "hello", hello{"you", len(all.Handoffs)})
		}
	})
	p.Handle("GET /other", func(v *frame.Visit) {
		var any struct{}
		v.Read("/v1/customers/cus_82/handoffs", &any)
	})
	p.Link("GET /link/{token}", func(v *frame.Visit) { v.Fail(http.StatusGone) })
}

// Every page says what a browser must not do with it, errors included.
func TestHeaders(t *testing.T) {
	h := house(t, sample(), greet)
	c := h.SignIn(frametest.Customer, "Sample Customer")
	for path, status := range map[string]int{
		"/hello": 200, "/broken": 500, "/panic": 500, "/nowhere": 404, "/other": 404, "/link/abc": 410,
	} {
		p := c.Get(t, path)
		if p.Status != status {
			t.Errorf("%s: %d", path, p.Status)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": frame.Policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := p.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s = %q", path, name, got)
			}
		}
		if regexp.MustCompile(`(?i)<script(?: [^>]*)?>[^<]|<style|\sstyle=|\son[a-z]+=`).MatchString(p.Text) {
			t.Errorf("%s has something inline: %s", path, p.Text)
		}
	}
	if strings.Contains(h.Log(), "a secret") || !strings.Contains(h.Log(), "frame_test.go") {
		t.Errorf("what the log says of a panic: %s", h.Log())
	}
	for part := range strings.SplitSeq(frame.Policy, "; ") {
		if _, sources, _ := strings.Cut(part, " "); sources != "'self'" && sources != "'none'" {
			t.Errorf("the policy lets in %s", part)
		}
	}
}

func TestWhoMaySee(t *testing.T) {
	h := house(t, sample(), greet)
	for name, test := range map[string]struct {
		client *frametest.Client
		status int
		to     string
	}{
		"no session":     {h.Anonymous(), 303, "/sign-in?next=%2Fhello"},
		"another person": {h.SignIn(frametest.Courier, ""), 403, ""},
		"a customer":     {h.SignIn(frametest.Customer, ""), 200, ""},
		"a made-up name": {&frametest.Client{}, 303, "/sign-in?next=%2Fhello"},
	} {
		if name == "a made-up name" {
			test.client = h.Anonymous()
			test.client.Cookie = "made-up"
		}
		if p := test.client.Get(t, "/hello"); p.Status != test.status || p.Header.Get("Location") != test.to {
			t.Errorf("%s: %d to %q", name, p.Status, p.Header.Get("Location"))
		}
	}
}

// A page asks the API with the visitor's own session, and is told no more than that.
func TestAskingTheAPI(t *testing.T) {
	h := house(t, sample(), greet)
	h.Dispatch(t, handofftest.Sample("P1"))
	if p := h.SignIn(frametest.Customer, "").Get(t, "/mine"); p.Status != 200 || !strings.Contains(p.Text, "one thing") {
		t.Errorf("%d %s", p.Status, p.Text)
	}
	other := frametest.Customer
	other.Subject = "cus_82"
	if p := h.SignIn(other, "").Get(t, "/mine"); p.Status != 404 {
		t.Errorf("another customer: %d", p.Status)
	}
}

// A visitor for whom the API has no time now is asked to wait. Nothing broke, and the log of
// failures is not a stranger's to fill.
func TestTooManyRequestsIsNoFailure(t *testing.T) {
	h := house(t, sample(), func(p *frame.Pages) {
		p.Public("GET /wait", func(v *frame.Visit) {
			v.FailAs(frame.Answer{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second})
		})
	})
	if p := h.Anonymous().Get(t, "/wait"); p.Status != 503 || p.Header.Get("Retry-After") != "7" {
		t.Errorf("%d, Retry-After %q", p.Status, p.Header.Get("Retry-After"))
	}
	if strings.Contains(h.Log(), `"ERROR"`) {
		t.Errorf("the log has a failure: %s", h.Log())
	}
}

// What changes something comes from a page of ours, with the session's token.
func TestCrossSite(t *testing.T) {
	h := house(t, sample(), greet)
	c := h.SignIn(frametest.Customer, "")
	for name, test := range map[string]struct {
		site, origin, csrf string
		status             int
	}{
		"ours":                {"same-origin", "", c.CSRF, 303},
		"an older browser":    {"", "http://example.com", c.CSRF, 303},
		"another site":        {"cross-site", "https://evil.example", c.CSRF, 403},
		"another origin":      {"", "https://evil.example", c.CSRF, 403},
		"a sibling":           {"same-site", "https://shop.example.com", c.CSRF, 403},
		"no token":            {"same-origin", "", "", 403},
		"another's token":     {"same-origin", "", h.SignIn(frametest.Customer, "").CSRF, 403},
		"ours, typed by hand": {"none", "", c.CSRF, 303},
	} {
		r := httptest.NewRequest("POST", "/hello", strings.NewReader(url.Values{"csrf": {test.csrf}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if test.site != "" {
			r.Header.Set("Sec-Fetch-Site", test.site)
		}
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		if p := c.Send(t, r); p.Status != test.status {
			t.Errorf("%s: %d, want %d", name, p.Status, test.status)
		}
	}
}

func TestLanguage(t *testing.T) {
	h := house(t, sample(), greet)
	c := h.SignIn(frametest.Customer, "")
	for accept, want := range map[string]string{"": "Good day", "de-AT,de;q=0.9,en;q=0.5": "Guten Tag", "fr": "Good day", "fr,de;q=0.5": "Guten Tag", ";;;": "Good day"} {
		c.Language = accept
		if p := c.Get(t, "/hello"); !strings.Contains(p.Text, want) {
			t.Errorf("%q: no %s", accept, want)
		}
	}
	for next, want := range map[string]string{
		"/hello": "/hello", "//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "/\t/evil.example": "/", "": "/", "/a?b=c": "/a?b=c",
	} {
		p := c.Post(t, "/language", url.Values{"language": {"de"}, "next": {next}})
		if p.Status != 303 || p.Header.Get("Location") != want {
			t.Errorf("next %q: %d %q", next, p.Status, p.Header.Get("Location"))
		}
		if set := p.Header.Get("Set-Cookie"); !strings.HasPrefix(set, "latchkey-language=de;") || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Lax") {
			t.Errorf("cookie %q", set)
		}
	}
	r := httptest.NewRequest("GET", "/hello", nil)
	r.AddCookie(&http.Cookie{Name: "latchkey-language", Value: "de"})
	c.Language = "en"
	if p := c.Send(t, r); !strings.Contains(p.Text, `<html lang="de"`) {
		t.Error("the choice is forgotten")
	}
	if p := c.Post(t, "/language", url.Values{"language": {"xx"}}); p.Status != 404 {
		t.Errorf("an unknown language: %d", p.Status)
	}
}

// What goes into a sentence is text, wherever it stands.
func TestValuesAreEscaped(t *testing.T) {
	h := house(t, sample(), greet)
	p := h.SignIn(frametest.Customer, "").Get(t, "/hello")
	if strings.Contains(p.Text, "<b>") || !strings.Contains(p.Text, "&lt;b&gt;") {
		t.Error(p.Text)
	}
}

// A page of a link does not repeat its own address.
func TestLinksAreNotRepeated(t *testing.T) {
	h := house(t, sample(), greet)
	if p := h.Anonymous().Get(t, "/link/secret-token"); strings.Contains(p.Text, "secret-token") {
		t.Error(p.Text)
	}
	if strings.Contains(h.Log(), "secret-token") {
		t.Error("the log has it")
	}
}

func TestAssets(t *testing.T) {
	h := house(t, sample(), greet)
	c := h.Anonymous()
	for name, media := range map[string]string{
		"frame/style.css": "text/css; charset=utf-8", "frame/times.js": "text/javascript; charset=utf-8", "frame/live.js": "text/javascript; charset=utf-8",
		"frame/call.js": "text/javascript; charset=utf-8", "frame/icon.svg": "image/svg+xml", "sample/x.js": "text/javascript; charset=utf-8",
	} {
		at := h.Site.Asset(name)
		p := c.Get(t, at)
		if p.Status != 200 || p.Header.Get("Content-Type") != media || p.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", at, p.Status, p.Header)
		}
		if p := c.Get(t, "/assets/0000/"+name); p.Status != 200 || p.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("an old page asks for %s: %d, %s", name, p.Status, p.Header.Get("Cache-Control"))
		}
	}
	if p := c.Get(t, h.Site.Asset("frame/call.js")); !strings.Contains(p.Text, `"`+auth.CSRFHeader+`"`) {
		t.Errorf("scripts do not send %s", auth.CSRFHeader)
	}
	for _, path := range []string{"/assets/", "/assets/x/../frame.go", h.Site.Asset("frame/style.css") + "x", "/assets/x/frame/words.yaml"} {
		if p := c.Get(t, path); p.Status == 200 {
			t.Errorf("%s is served", path)
		}
	}
	other := sample()
	other["assets/x.js"] = file("export const x = 2;\n")
	if again := house(t, other, greet); again.Site.Asset("frame/style.css") == h.Site.Asset("frame/style.css") {
		t.Error("other assets, the same path")
	}
}

// What is broken stops the program, and not a page.
func TestNewRefuses(t *testing.T) {
	change := func(f fstest.MapFS, old, new string) {
		text := string(f["words.yaml"].Data)
		if !strings.Contains(text, old) {
			t.Fatalf("no %s in %s", old, text)
		}
		f["words.yaml"] = file(strings.Replace(text, old, new, 1))
	}
	for name, spoil := range map[string]func(fstest.MapFS){
		"a word that one language lacks": func(f fstest.MapFS) { change(f, `, de: "Guten Tag, {name}"`, "") },
		"another placeholder":            func(f fstest.MapFS) { change(f, "Guten Tag, {name}", "Guten Tag, {nam}") },
		"an empty word":                  func(f fstest.MapFS) { change(f, `"Good day, {name}"`, `""`) },
		"one language alone":             func(f fstest.MapFS) { f["words.yaml"] = file("greet: {en: Hello}") },
		"a third language":               func(f fstest.MapFS) { f["words.yaml"] = file("greet: {en: Hello, de: Hallo, nl: Dag}") },
		"words of the frame":             func(f fstest.MapFS) { f["words.yaml"] = file("frame: {skip: {en: Hello, de: Hallo}}") },
		"no words":                       func(f fstest.MapFS) { delete(f, "words.yaml") },
		"a page's word that is not there": func(f fstest.MapFS) {
			f["pages/hello.html"] = file(`{{define "title"}}{{if .}}{{t "nowhere"}}{{end}}{{end}}{{define "main"}}{{end}}`)
		},
		"a count that is not there": func(f fstest.MapFS) {
			f["pages/hello.html"] = file(`{{define "title"}}{{end}}{{define "main"}}{{with .}}{{range .}}{{n "greet" 3}}{{end}}{{end}}{{end}}`)
		},
		"a template":          func(f fstest.MapFS) { f["pages/hello.html"] = file(`{{define "title"}}`) },
		"an unknown function": func(f fstest.MapFS) { f["pages/hello.html"] = file(`{{define "title"}}{{x}}{{end}}`) },
		"an unknown asset":    func(f fstest.MapFS) { f["assets/x.exe"] = file("x") },
	} {
		files := sample()
		spoil(files)
		c := frame.Config{API: &frame.API{}, Identify: func(*http.Request) (frame.Visitor, bool) { return frame.Visitor{}, false }, Clock: handofftest.NewClock(handofftest.Noon)}
		if _, err := frame.New(c, set(files, func(*frame.Pages) {})); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := frame.New(frame.Config{}); err == nil {
		t.Error("a site of nothing")
	}
}
