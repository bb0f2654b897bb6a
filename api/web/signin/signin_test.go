package signin_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/api/web/frame"
	"latchkey/api/web/signin"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore/embedded"
)

// door is the pages by themselves, for the providers of a test.
type door struct {
	http.Handler
	sessions *auth.Sessions
	log      *strings.Builder
}

const public = "https://latchkey.example"

func newDoor(t *testing.T, store handofftest.Store, entries ...auth.Trust) *door {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	issuers, err := auth.NewIssuers(t.Context(), auth.Config{}, entries...)
	must(err)
	ring, err := keyring.New()
	must(err)
	d := &door{log: &strings.Builder{}}
	d.sessions, err = auth.NewSessions(auth.SessionConfig{
		Store: store, Issuers: issuers, Keys: auth.NewKeys(store, handofftest.Namer{}, nil), Random: rand.Reader, Secure: true,
	})
	must(err)
	logins, err := auth.NewLogins(auth.LoginConfig{Issuers: issuers, Sealer: ring, Random: rand.Reader, PublicURL: public})
	must(err)
	s, err := signin.New(d.sessions, logins, slog.New(slog.NewTextHandler(d.log, nil)))
	must(err)
	config := frame.Config{API: &frame.API{}, Clock: handofftest.New(t, store).Clock}
	s.Configure(&config)
	s.Lead(pages()...)
	if !config.Secure {
		t.Error("the frame's cookies are not secure")
	}
	site, err := frame.New(config, append(pages(), s.Set())...)
	must(err)
	d.Handler = site
	return d
}

// pages are sets of pages as the sign-in leads to them.
func pages() []frame.Set {
	set := func(name string, scopes ...auth.Scope) frame.Set {
		return frame.Set{Name: name, Files: fstest.MapFS{"words.yaml": {Data: []byte("x: {en: x, de: x}\n")}}, Scopes: scopes, Routes: func(p *frame.Pages) {
			p.Handle("GET /"+name, func(v *frame.Visit) { v.Redirect("/seen") })
		}}
	}
	return []frame.Set{set("account", auth.Customer), set("courier", auth.Courier), set("ops", auth.Ops, auth.Shop)}
}

// provider is one that a test goes to by its own feet, and its entry.
func provider(t *testing.T) (auth.Trust, *authtest.Provider) {
	t.Helper()
	var p *authtest.Provider
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	issuer, err := authtest.NewIssuer(rand.Reader, server.URL, "unused", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	p = authtest.NewProvider(authtest.ProviderConfig{Issuer: issuer, Random: rand.Reader, ClientID: "pages", Redirect: public + auth.CallbackPath})
	return auth.Trust{
		Issuer: server.URL, Audience: "latchkey", Keys: issuer.JWKS(), Scopes: []auth.Scope{auth.Customer}, Shops: []string{"demo"}, Login: p.Login("Demo Shop"),
	}, p
}

// ask sends a request with cookies, as a browser does from a page of ours.
func (d *door) ask(method, path string, form url.Values, lang string, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(method, public+path, strings.NewReader(form.Encode()))
	r.Header.Set("Accept-Language", lang)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, c := range cookies {
		if c.MaxAge >= 0 {
			r.AddCookie(c)
		}
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

var choice = regexp.MustCompile(`name="issuer" value="([0-9a-f]+)"`)

// begin presses the button, and returns where to go and the cookies.
func (d *door) begin(t *testing.T, cookies ...*http.Cookie) (*url.URL, []*http.Cookie) {
	t.Helper()
	page := text(t, d.ask("GET", "/sign-in?next=/account/x", nil, "en", cookies...))
	resp := d.ask("POST", "/sign-in", url.Values{"issuer": {choice.FindStringSubmatch(page)[1]}, "next": {"/account/x"}}, "en", cookies...)
	to, err := url.Parse(strings.TrimPrefix(resp.Header.Get("Refresh"), "0;url="))
	if err != nil || to.Host == "" || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return to, resp.Cookies()
}

// back is what the provider sends the browser back with.
func back(t *testing.T, p *authtest.Provider, to *url.URL, who auth.Principal) url.Values {
	t.Helper()
	asked, err := p.Authorization(to.Query())
	if err != nil {
		t.Fatal(err)
	}
	at, err := p.Grant(asked, who, "Sample Customer 81")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

var customer = auth.Principal{Subject: "cus_81", Shop: "demo", Scopes: []auth.Scope{auth.Customer}}

// What each cookie looks like, and that no value of before is worth anything afterwards.
func TestCookies(t *testing.T) {
	store := embedded.New(t)
	entry, p := provider(t)
	d := newDoor(t, store, entry)
	planted := &http.Cookie{Name: "__Host-latchkey", Value: strings.Repeat("A", 43)}
	to, carried := d.begin(t, planted)
	if len(carried) != 1 {
		t.Fatalf("%v", carried)
	}
	flow := carried[0]
	if flow.Name != "__Host-latchkey-sign-in" || !flow.Secure || !flow.HttpOnly || flow.SameSite != http.SameSiteLaxMode || flow.Path != "/" || flow.Domain != "" || flow.MaxAge != 600 {
		t.Errorf("%v", flow)
	}
	resp := d.ask("GET", "/sign-in/callback?"+back(t, p, to, customer).Encode(), nil, "en", flow, planted)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/account/x" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	cookies := map[string]*http.Cookie{}
	for _, c := range resp.Cookies() {
		cookies[c.Name] = c
	}
	session := cookies["__Host-latchkey"]
	if session == nil || session.Value == planted.Value || !session.Secure || !session.HttpOnly || session.SameSite != http.SameSiteLaxMode ||
		session.Path != "/" || session.Domain != "" || session.MaxAge != 0 {
		t.Fatalf("%v", resp.Header["Set-Cookie"])
	}
	if gone := cookies["__Host-latchkey-sign-in"]; gone == nil || gone.MaxAge >= 0 {
		t.Error("the sign-in's cookie is left")
	}

	// Signed in again in the same browser, the session of before is over.
	to, carried = d.begin(t, session)
	resp = d.ask("GET", "/sign-in/callback?"+back(t, p, to, customer).Encode(), nil, "en", carried[0], session)
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d", resp.StatusCode)
	}
	if _, err := d.sessions.Verify(t.Context(), session.Value); err == nil {
		t.Error("the session of before is still one")
	}
	if log := d.log.String(); log != "" {
		t.Errorf("logged: %s", log)
	}
}

// Everything that can go wrong is said in words, in both languages, on a page that
// nothing else can be put into.
func TestFailuresInWords(t *testing.T) {
	entry, p := provider(t)
	d := newDoor(t, embedded.New(t), entry)
	for lang, words := range map[string]map[string]string{
		"en": {"over": "Please sign in again", "declined": "You are not signed in", "refused": "cannot be trusted", "nobody": "Nothing here is yours"},
		"de": {"over": "noch einmal an", "declined": "nicht angemeldet", "refused": "nicht zu trauen", "nobody": "Hier gehört Ihnen nichts"},
	} {
		for kind, c := range map[string]struct {
			status int
			query  func(q url.Values)
			who    auth.Principal
		}{
			"over":     {400, func(q url.Values) { q.Del("state") }, customer},
			"declined": {403, func(q url.Values) { q.Set("error", "access_denied<script>") }, customer},
			"refused":  {403, func(q url.Values) { q.Set("code", "hunter2") }, customer},
			"nobody":   {403, func(url.Values) {}, auth.Principal{Subject: "officer", Scopes: []auth.Scope{auth.Ops}}},
		} {
			to, carried := d.begin(t)
			q := back(t, p, to, c.who)
			c.query(q)
			if q.Has("error") {
				q.Set("error_description", "hunter2<script>")
			}
			resp := d.ask("GET", "/sign-in/callback?"+q.Encode(), nil, lang, carried...)
			page := text(t, resp)
			if resp.StatusCode != c.status || !strings.Contains(page, words[kind]) || !strings.Contains(page, `href="/sign-in"`) {
				t.Errorf("%s, %s: %d %s", lang, kind, resp.StatusCode, page)
			}
			if strings.Contains(page, "hunter2") || strings.Contains(page, q.Get("code")) && q.Get("code") != "" || strings.Contains(page, q.Get("state")) && q.Get("state") != "" {
				t.Errorf("%s, %s: the page repeats what was sent", lang, kind)
			}
			if resp.Header.Get("Content-Security-Policy") != frame.Policy || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%s, %s: %v", lang, kind, resp.Header)
			}
			for _, c := range resp.Cookies() {
				if c.Name == d.sessions.CookieName() {
					t.Errorf("%s, %s: a session", lang, kind)
				}
			}
		}
	}
	log := d.log.String()
	if !strings.Contains(log, "kind=refused") || !strings.Contains(log, "invalid_grant") || strings.Contains(log, "hunter2") || strings.Contains(log, "cus_81") {
		t.Errorf("logged: %s", log)
	}
	if !strings.Contains(text(t, d.ask("GET", "/sign-in", nil, "de")), "Mit Demo Shop anmelden") {
		t.Error("no button in German")
	}
}

// Who asks for a page chooses among the issuers whose people can see it, and among all where
// none can.
func TestChoicesServeThePage(t *testing.T) {
	shop, _ := provider(t)
	shop.Scopes = []auth.Scope{auth.Customer, auth.Shop}
	carrier, _ := provider(t)
	carrier.Scopes, carrier.Shops, carrier.Carriers, carrier.Login.Name, carrier.Login.Callback = []auth.Scope{auth.Courier}, nil, []string{"swift"}, "Swift", "swift"
	d := newDoor(t, embedded.New(t), shop, carrier)
	for next, want := range map[string][]string{
		"/account": {"Demo Shop"}, "/account/x": {"Demo Shop"}, "/courier": {"Swift"}, "/ops/parcel": {"Demo Shop"},
		"": {"Demo Shop", "Swift"}, "/building": {"Demo Shop", "Swift"}, "/accounts": {"Demo Shop", "Swift"}, "/none": {"Demo Shop", "Swift"},
	} {
		page := text(t, d.ask("GET", "/sign-in?"+url.Values{"next": {next}}.Encode(), nil, "en"))
		var got []string
		for _, m := range regexp.MustCompile(`Sign in with ([A-Za-z ]+)<`).FindAllStringSubmatch(page, -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", next, got, want)
		}
	}
}

// The address without a path leads to sign-in, and home once one is signed in; a page that is
// not for its visitor offers both ways out.
func TestNobodyIsStuck(t *testing.T) {
	entry, _ := provider(t)
	entry.Scopes = append(entry.Scopes, auth.Dispatch)
	d := newDoor(t, embedded.New(t), entry)
	session := func(scope auth.Scope) *http.Cookie {
		p := auth.Principal{Subject: "x", Shop: "demo", Scopes: []auth.Scope{scope}, Issuer: entry.Issuer}
		value, err := d.sessions.Begin(t.Context(), auth.Session{Principal: &p, Client: entry.Login.ClientID})
		if err != nil {
			t.Fatal(err)
		}
		return d.sessions.Cookie(value)
	}
	for want, cookies := range map[string][]*http.Cookie{
		"/account": {session(auth.Customer)}, "/sign-in": {session(auth.Dispatch)}, "/sign-in?": nil,
	} {
		resp := d.ask("GET", "/", nil, "en", cookies...)
		if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || to != strings.TrimSuffix(want, "?") {
			t.Errorf("%v: %d %s, want %s", cookies, resp.StatusCode, to, want)
		}
	}
	// A machine's account has no page: it is told so, and not sent in circles.
	if page := text(t, d.ask("GET", "/sign-in", nil, "en", session(auth.Dispatch))); !strings.Contains(page, "there is no page for it here") || strings.Contains(page, ">Continue<") {
		t.Error(page)
	}
	for lang, words := range map[string][]string{"en": {"Sign in as somebody else", "To your own pages"}, "de": {"Als jemand anderes anmelden", "Zu Ihren eigenen Seiten"}} {
		resp := d.ask("GET", "/courier", nil, lang, session(auth.Customer))
		page := text(t, resp)
		for _, part := range append(words, `href="/sign-in?next=%2fcourier"`, `href="/"`) {
			if resp.StatusCode != http.StatusForbidden || !strings.Contains(page, part) {
				t.Errorf("%s: %d, no %q in %s", lang, resp.StatusCode, part, page)
			}
		}
	}
}

// An account whose name cannot be used, or that is of several shops, is told so in words, and
// the log says why without repeating it.
func TestAccountsThatCannotBeUsed(t *testing.T) {
	entry, p := provider(t)
	entry.Shops = []string{"demo", "other"}
	for kind, words := range map[string][2]string{
		"subject": {"Your account has no name that we can use", "Ihr Konto hat keinen Namen"},
		"several": {"Your account is of several companies", "Ihr Konto gehört zu mehreren Unternehmen"},
	} {
		who, entry := customer, entry
		if kind == "subject" {
			who.Subject = "hunter2\x07"
		} else {
			entry.Claims.Shop = "shops"
		}
		d := newDoor(t, embedded.New(t), entry)
		for i, lang := range []string{"en", "de"} {
			to, carried := d.begin(t)
			asked, err := p.Authorization(to.Query())
			if err != nil {
				t.Fatal(err)
			}
			at, err := p.GrantWith(asked, who, "", map[string]any{"shops": []string{"demo", "other"}})
			if err != nil {
				t.Fatal(err)
			}
			_, query, _ := strings.Cut(at, "?")
			resp := d.ask("GET", "/sign-in/callback?"+query, nil, lang, carried...)
			if page := text(t, resp); resp.StatusCode != http.StatusForbidden || !strings.Contains(page, words[i]) || strings.Contains(page, "hunter2") {
				t.Errorf("%s: %d %s", kind, resp.StatusCode, page)
			}
		}
		if log := d.log.String(); !strings.Contains(log, "kind="+kind) || strings.Contains(log, "hunter2") {
			t.Errorf("logged: %s", log)
		}
	}
}

// An issuer that does not answer is said so, and so is one that is not in the file.
func TestNowhereToGo(t *testing.T) {
	entry, _ := provider(t)
	entry.Issuer = "http://127.0.0.1:1"
	d := newDoor(t, embedded.New(t), entry)
	page := text(t, d.ask("GET", "/sign-in", nil, "en"))
	for issuer, status := range map[string]int{choice.FindStringSubmatch(page)[1]: 503, "0123456789abcdef": 400, "": 400} {
		if resp := d.ask("POST", "/sign-in", url.Values{"issuer": {issuer}}, "en"); resp.StatusCode != status || len(resp.Cookies()) != 0 || resp.Header.Get("Refresh") != "" {
			t.Errorf("%q: %d %v", issuer, resp.StatusCode, resp.Header)
		}
	}
	r := httptest.NewRequest("POST", public+"/sign-in", strings.NewReader("issuer=x"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	if d.ServeHTTP(w, r); w.Code != http.StatusForbidden {
		t.Errorf("begun by a page of another site: %d", w.Code)
	}
}

func TestSignInPageNeedsMatchingCookies(t *testing.T) {
	entry, _ := provider(t)
	d := newDoor(t, embedded.New(t), entry)
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	logins, err := auth.NewLogins(auth.LoginConfig{Issuers: d.sessions.Issuers, Sealer: ring, Random: rand.Reader, PublicURL: "http://127.0.0.1:8080"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signin.New(d.sessions, logins, nil); err == nil {
		t.Error("cookies for https alone, on a site without it")
	}
}

// The page on which one chooses is the same for everybody who is not signed in, and travels
// compressed; with a session, whose token it holds, it does not.
func TestOnlySharedPagesAreCompressed(t *testing.T) {
	entry, _ := provider(t)
	d := newDoor(t, embedded.New(t), entry)
	p := customer
	p.Issuer = entry.Issuer
	value, err := d.sessions.Begin(t.Context(), auth.Session{Principal: &p, Client: entry.Login.ClientID})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path   string
		cookie *http.Cookie
		packed bool
	}{
		"nobody": {"/sign-in", nil, true}, "a session": {"/sign-in", d.sessions.Cookie(value), false}, "an error": {"/none", nil, false},
	} {
		r := httptest.NewRequest("GET", public+c.path, nil)
		r.Header.Set("Accept-Encoding", "gzip")
		if c.cookie != nil {
			r.AddCookie(c.cookie)
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != c.packed {
			t.Errorf("%s: packed %v", name, got)
		}
		if c.packed && !slices.Contains(w.Header().Values("Vary"), "Accept-Encoding") {
			t.Errorf("%s: Vary is %q", name, w.Header().Values("Vary"))
		}
	}
}
