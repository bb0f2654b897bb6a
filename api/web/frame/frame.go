// Package frame is what all pages share: the layout and its style, the words of each
// language, dates as people say them, assets, errors, and the way to the API.
//
// Pages come in sets, one package each, for those who come for one thing: a customer, a
// courier, a building's manager, the duty officer. A [Set] brings its templates, words and
// assets, and registers its routes on a [Pages]:
//
//	pages/NAME.html    a template that defines "title" and "main", and may define "head" and "nav"
//	parts/NAME.html    templates for all of them
//	words.yaml         every sentence in each language (package handoff/words)
//	assets/            style and modules, below /assets/HASH/SET/
//
// Nothing is special behind the curtain: a page asks the service's own contract, in
// process, with the visitor's own session ([Visit.Ask]). A GET changes nothing.
package frame

import (
	"bytes"
	"crypto/subtle"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/api/auth"
	"latchkey/api/headers"
	"latchkey/handoff/clock"
)

// Config is what the pages stand on. API, Identify and Clock are required.
type Config struct {
	API *API

	// Identify says who a request's session is of; false: the request has no session.
	Identify func(*http.Request) (Visitor, bool)

	// SignIn begins a session of a person who was identified in another way, and sets its
	// cookie. Nil: there are no sessions, and links that would begin one do not work.
	SignIn func(http.ResponseWriter, *http.Request, auth.Principal) error

	// SignInPath is where people sign in. Empty is /sign-in. It gets ?next=PATH.
	SignInPath string

	Clock clock.Clock

	// Secure marks cookies so that they travel over TLS alone.
	Secure bool

	// Next serves what is no page of a set; nil answers that there is no such page.
	Next http.Handler

	// Log hears of failures, with the pattern of the route and never its path. Nil is silence.
	Log *slog.Logger
}

// Visitor is who looks at a page.
type Visitor struct {
	Principal auth.Principal
	CSRF      string // the session's token, which every form and unsafe call repeats
	Name      string // as the page greets them; may be empty
	SignOut   string // the path that a POST signs out at; empty shows no such button
}

// Set is one set of pages.
type Set struct {
	Name  string // names its assets: account, courier, ...
	Files fs.FS  // pages/, parts/, assets/ and words.yaml

	// Home is the path where its pages begin; empty where they have no beginning.
	Home string

	// Scopes are those of which a visitor needs one. None: any who is signed in.
	Scopes []auth.Scope

	// Routes registers the set's handlers.
	Routes func(*Pages)
}

//go:embed assets layout pages words.yaml
var files embed.FS

// Policy is the Content-Security-Policy of a page (CSP level 3): everything from here,
// nothing inline. A handler that needs another sets it before it renders.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Site is all sets together.
type Site struct {
	Config
	mux    *http.ServeMux
	assets *assets
	own    *Pages // of the frame itself: errors
	paths  []string
}

// Pages is one set within its site.
type Pages struct {
	Set
	site *Site
	said map[Language]*Words
	tmpl map[Language]map[string]*template.Template
}

// New makes the handler of all pages. The error names a word that one language lacks, a
// template that does not parse, or a route that is there twice.
func New(c Config, sets ...Set) (*Site, error) {
	if c.API == nil || c.Identify == nil || c.Clock == nil {
		return nil, errors.New("frame: an API, sessions and a clock are needed")
	}
	if c.SignInPath == "" {
		c.SignInPath = "/sign-in"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Site{Config: c, mux: http.NewServeMux()}
	ours := Set{Name: "frame", Files: files}
	var err error
	if s.assets, err = gather(append([]Set{ours}, sets...)); err != nil {
		return nil, err
	}
	if s.own, err = s.newPages(ours, files); err != nil {
		return nil, err
	}
	for _, set := range sets {
		p, err := s.newPages(set, files, set.Files)
		if err != nil {
			return nil, err
		}
		set.Routes(p)
	}
	s.mux.Handle("GET "+assetsPath+"{hash}/{name...}", s.assets)
	s.own.Public("POST /language", chooseLanguage)
	if c.Next != nil {
		s.mux.Handle("/", c.Next)
	} else {
		s.own.Public("/", func(v *Visit) { v.Fail(http.StatusNotFound) })
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Patterns are the routes of the sets, for tests that walk them all.
func (s *Site) Patterns() []string { return slices.Clone(s.paths) }

// Asset is the path of an asset, such as account/page.css. It changes with what the
// assets hold.
func (s *Site) Asset(name string) string { return s.assets.path(name) }

func (s *Site) newPages(set Set, words ...fs.FS) (*Pages, error) {
	p := &Pages{Set: set, site: s, said: map[Language]*Words{}, tmpl: map[Language]map[string]*template.Template{}}
	all, err := loadWords(words...)
	if err != nil {
		return nil, fmt.Errorf("frame: words of %s: %w", set.Name, err)
	}
	names, err := fs.Glob(set.Files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	common, err := fs.Glob(set.Files, "parts/*.html")
	if err != nil {
		return nil, err
	}
	layout, err := template.New("layout.html").Funcs(funcs(s, &Words{})).ParseFS(files, "layout/layout.html")
	if err != nil {
		return nil, err
	}
	for _, lang := range Languages {
		p.said[lang], p.tmpl[lang] = all[lang], map[string]*template.Template{}
		for _, name := range names {
			t := template.Must(layout.Clone()).Funcs(funcs(s, all[lang]))
			if _, err := t.ParseFS(set.Files, append(common, name)...); err != nil {
				return nil, fmt.Errorf("frame: %s of %s: %w", name, set.Name, err)
			}
			if err := checkKeys(t, all[lang]); err != nil {
				return nil, fmt.Errorf("frame: %s of %s: %w", name, set.Name, err)
			}
			p.tmpl[lang][strings.TrimSuffix(path.Base(name), ".html")] = t
		}
	}
	return p, nil
}

// funcs are what templates may call: t and n say something (see [Words.Say] and
// [Words.Count]), link says something that leads to a path, has asks whether there are
// words, asset is where an asset is, and list puts several values into one.
func funcs(s *Site, w *Words) template.FuncMap {
	return template.FuncMap{"t": w.Say, "n": w.Count, "has": w.Has, "link": w.link, "asset": s.Asset, "list": list}
}

func list(v ...any) []any { return v }

// Handle registers a route for those who are signed in and have a scope of the set.
// Others are sent to sign in, or told that this is not theirs.
func (p *Pages) Handle(pattern string, h func(*Visit)) { p.handle(pattern, access{signedIn: true}, h) }

// Public registers a route for everybody. Its visitor may have no session.
func (p *Pages) Public(pattern string, h func(*Visit)) { p.handle(pattern, access{}, h) }

// Link is Public for a route whose path is a secret: no page of it repeats the path.
func (p *Pages) Link(pattern string, h func(*Visit)) { p.handle(pattern, access{secret: true}, h) }

// OneClick is Link for what a mail program may send by itself (RFC 8058), also from a page
// of its own: the secret is all the authority that the request has, so a page of another
// site can send nothing that it could not send without a browser.
func (p *Pages) OneClick(pattern string, h func(*Visit)) {
	p.handle(pattern, access{secret: true, anySite: true}, h)
}

// access is who may use a route.
type access struct {
	signedIn bool // visitors with a session and a scope of the set
	secret   bool // the path is a secret
	anySite  bool // pages of other sites may send unsafe requests
}

func (p *Pages) handle(pattern string, may access, h func(*Visit)) {
	p.site.paths = append(p.site.paths, pattern)
	p.site.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, may, h) })
}

// Serve is Public for a request that another handler routed.
func (p *Pages) Serve(w http.ResponseWriter, r *http.Request, h func(*Visit)) {
	p.serve(w, r, access{}, h)
}

func (p *Pages) serve(w http.ResponseWriter, r *http.Request, may access, h func(*Visit)) {
	v := &Visit{W: w, R: r, Now: p.site.Clock.Now(), Lang: chosenLanguage(r), Bare: may.secret, pages: p}
	v.Visitor, v.SignedIn = p.site.Identify(r)
	protect(w.Header())
	defer v.contain()
	unsafe := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch {
	case unsafe && !may.anySite && crossOrigin.Check(r) != nil:
		v.Fail(http.StatusForbidden)
	case may.signedIn && !v.SignedIn && unsafe:
		v.Redirect(p.site.SignInPath)
	case may.signedIn && !v.SignedIn:
		v.Redirect(p.site.SignInPath + "?next=" + url.QueryEscape(r.URL.Path))
	case may.signedIn && !v.allowed():
		v.Fail(http.StatusForbidden)
	case may.signedIn && unsafe && !v.meant():
		v.failWith(http.StatusForbidden, "stale")
	default:
		h(v)
	}
}

// contain turns a panic into the page of a failure. Its value is told only where it comes
// from the runtime: any other may hold what was sent.
func (v *Visit) contain() {
	switch r := recover().(type) {
	case nil:
	case runtime.Error:
		v.Broken(fmt.Errorf("%w\n%s", r, debug.Stack()))
	default:
		v.Broken(fmt.Errorf("panic\n%s", debug.Stack()))
	}
}

// crossOrigin lets an unsafe request through only from a page of ours, by Sec-Fetch-Site
// or Origin.
var crossOrigin = http.NewCrossOriginProtection()

func protect(h http.Header) {
	headers.Set(h)
	h.Set("Content-Security-Policy", Policy)
	h.Set("Vary", "Accept-Language, Cookie")
	h.Set("X-Robots-Tag", "noindex")
}

// Visit is one request for a page. Templates see it as their root, what the handler gave
// as .Data.
type Visit struct {
	W http.ResponseWriter
	R *http.Request

	Visitor  Visitor
	SignedIn bool
	Lang     Language
	Now      time.Time
	Data     any

	// Bare leaves out who is signed in and the choice of a language, which would repeat the
	// page's own address, and all scripts.
	Bare bool

	// Shared says that the page holds nothing of its visitor's: no code, no token, no name. It
	// is then compressed for browsers that take that. Of who is signed in, every page holds the
	// session's token beside what its address may say, and a compressed page would tell it by
	// its length (BREACH): there Shared counts for nothing.
	Shared bool

	pages *Pages
}

func (v *Visit) allowed() bool {
	return len(v.pages.Scopes) == 0 || slices.ContainsFunc(v.pages.Scopes, v.Visitor.Principal.Has)
}

// meant reports whether an unsafe request repeats the session's token.
func (v *Visit) meant() bool {
	return v.Visitor.CSRF != "" && subtle.ConstantTimeCompare([]byte(csrfOf(v.R)), []byte(v.Visitor.CSRF)) == 1
}

// csrfOf is the session's token as a request repeats it: a script does in a header, a form
// in its field csrf.
func csrfOf(r *http.Request) string {
	if token := r.Header.Get(auth.CSRFHeader); token != "" {
		return token
	}
	return r.PostFormValue("csrf")
}

// Ask calls the service's contract on behalf of the visitor. Body is what JSON can say;
// nil sends none.
func (v *Visit) Ask(method, path string, body any) Answer {
	return v.pages.site.API.Do(v.R, method, path, body)
}

// Read asks for path and decodes the answer. If that fails it answers the visitor with an
// error page, and reports false.
func (v *Visit) Read(path string, into any) bool {
	a := v.Ask(http.MethodGet, path, nil)
	if a.OK() {
		if err := a.Read(into); err != nil {
			v.Broken(err)
			return false
		}
		return true
	}
	v.FailAs(a)
	return false
}

// SignIn begins a session of p and sets its cookie.
func (v *Visit) SignIn(p auth.Principal) error {
	if v.pages.site.SignIn == nil {
		return errors.New("frame: there are no sessions")
	}
	return v.pages.site.Config.SignIn(v.W, v.R, p)
}

// Redirect sends the visitor to a path of ours, to be asked for by GET.
func (v *Visit) Redirect(to string) {
	v.W.Header().Set("Location", to)
	v.W.WriteHeader(http.StatusSeeOther)
}

// Render writes a page of the set. What goes wrong in a template is an error page, and
// never half a page.
func (v *Visit) Render(status int, page string, data any) {
	v.Data = data
	t, known := v.pages.tmpl[v.Lang][page]
	if !known {
		v.Broken(fmt.Errorf("no page %s", page))
		return
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		v.Broken(err)
		return
	}
	v.write(status, b.Bytes())
}

func (v *Visit) write(status int, page []byte) {
	v.W.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.Shared && !v.SignedIn {
		v.W.Header().Add("Vary", "Accept-Encoding")
		if packed := headers.Gzip(page); packed != nil && headers.AcceptsGzip(v.R.Header.Get("Accept-Encoding")) {
			v.W.Header().Set("Content-Encoding", "gzip")
			page = packed
		}
	}
	v.W.WriteHeader(status)
	_, _ = v.W.Write(page) // the client has gone
}

// Fail writes the page of an error: 403, 404, 410, 500 or 503. Any other is a 500.
func (v *Visit) Fail(status int) { v.failWith(status, "") }

// FailAs writes the page of an answer that was no success.
func (v *Visit) FailAs(a Answer) {
	switch a.Status {
	case http.StatusUnauthorized:
		v.Redirect(v.pages.site.SignInPath + "?next=" + url.QueryEscape(v.R.URL.Path))
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusServiceUnavailable:
		v.Fail(a.Status)
	case http.StatusTooManyRequests: // no failure of ours, and it ends by itself
		if a.RetryAfter > 0 {
			v.W.Header().Set("Retry-After", strconv.Itoa(int(a.RetryAfter.Seconds())))
		}
		v.Fail(http.StatusServiceUnavailable)
	case http.StatusUnprocessableEntity: // an id in the path that can be none
		v.Fail(http.StatusNotFound)
	default:
		v.Broken(fmt.Errorf("the API answered %d %s", a.Status, a.Code()))
	}
}

// Broken writes the page of a failure of ours, and logs it.
func (v *Visit) Broken(err error) {
	v.Log(err)
	v.Fail(http.StatusInternalServerError)
}

// Log logs a failure with the pattern of the route, and never its path.
func (v *Visit) Log(err error) {
	v.pages.site.Log.ErrorContext(v.R.Context(), "page", "pattern", v.R.Pattern, "error", err.Error())
}

func (v *Visit) failWith(status int, what string) {
	v.Bare = v.Bare || status == http.StatusNotFound // such a path may say anything
	if what == "" {
		what = map[int]string{403: "forbidden", 404: "not_found", 410: "gone", 503: "unavailable"}[status]
	}
	if what == "" {
		status, what = http.StatusInternalServerError, "broken"
	}
	var b bytes.Buffer
	failed := *v
	failed.Data = what
	t := v.pages.site.own.tmpl[v.Lang]["error"]
	if err := t.Execute(&b, &failed); err != nil { // a test renders them all
		http.Error(v.W, http.StatusText(status), status)
		return
	}
	v.write(status, b.Bytes())
}

// Say is a sentence of the set in the visitor's language; see [Words.Say].
func (v *Visit) Say(key string, values ...any) (template.HTML, error) {
	return v.pages.said[v.Lang].Say(key, values...)
}

// Text is a sentence of the set as plain text, not as HTML.
func (v *Visit) Text(key string, values ...string) (string, error) {
	return v.pages.said[v.Lang].text(key, values...)
}

// Home is where the set's pages begin; empty if they do not.
func (v *Visit) Home() string { return v.pages.Home }

// Clock is the service's time, by which scripts say "today".
func (v *Visit) Clock() string { return v.Now.UTC().Format(time.RFC3339) }

// Under are sentences of the set for a script; see [Words.Under].
func (v *Visit) Under(prefixes ...string) map[string]string {
	return v.pages.said[v.Lang].Under(prefixes...)
}

// Asset is the path of an asset; see [Site.Asset].
func (v *Visit) Asset(name string) string { return v.pages.site.Asset(name) }

// SignInPath is where to sign in, and to come back from.
func (v *Visit) SignInPath() string { return v.pages.site.SignInPath }

// Others are the languages that the page is not in.
func (v *Visit) Others() []Language {
	return slices.DeleteFunc(slices.Clone(Languages), func(l Language) bool { return l == v.Lang })
}
