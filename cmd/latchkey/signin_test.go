package main

import (
	"crypto/rand"
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/api/web/webtest"
	"latchkey/cmd/latchkey/demo"
)

// surfer is a browser without a screen: it keeps cookies, follows redirects, and says of
// each request where it came from.
type surfer struct {
	t      *testing.T
	client *http.Client
	seen   []string // every URL that it was at
}

func newSurfer(t *testing.T) *surfer {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &surfer{t: t}
	s.client = &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		s.seen = append(s.seen, r.URL.String())
		if len(via) > 10 {
			t.Fatal("redirected in circles")
		}
		return nil
	}}
	return s
}

// view is an answer, read.
type view struct {
	status int
	header http.Header
	url    *url.URL
	text   string
}

func (s *surfer) do(method, target string, form url.Values, headers ...string) *view {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, target, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if method != http.MethodGet {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	s.seen = append(s.seen, target)
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return &view{resp.StatusCode, resp.Header, resp.Request.URL, string(text)}
}

func (s *surfer) get(target string) *view { s.t.Helper(); return s.do("GET", target, nil) }

// cookies are those that a request there would carry, by name.
func (s *surfer) cookies(target string) map[string]string {
	u, err := url.Parse(target)
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{}
	for _, c := range s.client.Jar.Cookies(u) {
		all[c.Name] = c.Value
	}
	return all
}

// find is the first group of a pattern in the page, as a reader sees it.
func (v *view) find(t *testing.T, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(v.text)
	if m == nil {
		t.Fatalf("%d, no %s in %s: %s", v.status, pattern, v.url.Path, v.text)
	}
	return html.UnescapeString(m[1])
}

// leave presses the one button of the sign-in page, and is on the way to the issuer.
func (s *surfer) leave(base, next string) (to string) {
	s.t.Helper()
	v := s.get(base + "/sign-in?" + url.Values{"next": {next}}.Encode())
	choice := v.find(s.t, `name="issuer" value="([^"]+)"`)
	v = s.do("POST", base+"/sign-in", url.Values{"issuer": {choice}, "next": {v.find(s.t, `action="/sign-in">\s*<input type="hidden" name="next" value="([^"]*)"`)}})
	to = v.find(s.t, `class="button" href="([^"]+)"`)
	if v.status != 200 || v.header.Get("Refresh") != "0;url="+to {
		s.t.Fatalf("%d %v", v.status, v.header)
	}
	return to
}

// be signs in at the demo as one of its people.
func (s *surfer) be(base, next, role string) *view {
	s.t.Helper()
	v := s.get(s.leave(base, next))
	return s.do("POST", base+"/demo/id/authorize", url.Values{
		"request": {v.find(s.t, `name="request" value="([^"]+)"`)}, "who": {v.find(s.t, `value="(\d+)"><strong>`+role)},
	})
}

// People of the demo sign in through its issuer, the API takes their session, and they
// sign out.
func TestDemoSignIn(t *testing.T) {
	p := start(t, "demo", "--addr", "127.0.0.1:0")
	base := p.url(t)
	for role, c := range map[string]struct {
		home, path string
	}{
		"Customer":         {"/account", "/v1/customers/cus_101/handoffs"},
		"Courier of swift": {"/courier", "/v1/courier/stops"},
		"Building manager": {"/building/bld_turm5", "/v1/buildings/bld_turm5"},
		"Duty officer":     {"/ops", "/v1/buildings/bld_turm5"},
		"Shop clerk":       {"/ops/parcel", "/v1/customers/cus_101/handoffs"},
	} {
		t.Run(role, func(t *testing.T) {
			s := newSurfer(t)
			if v := s.get(base + c.path); v.status != http.StatusUnauthorized {
				t.Fatalf("before: %d", v.status)
			}
			v := s.be(base, "", role)
			if v.url.Path != c.home || v.url.RawQuery != "" || v.status != http.StatusOK {
				t.Errorf("led to %s, and there %d", v.url, v.status)
			}
			if role == "Customer" && (!strings.Contains(v.text, "Sample Customer 101")) {
				t.Errorf("the customer's page: %d %s", v.status, v.text)
			}
			if v := s.get(base + c.path); v.status != http.StatusOK {
				t.Errorf("signed in: %d %s", v.status, v.text)
			}
			v = s.get(base + "/sign-in")
			csrf := v.find(t, `name="csrf" content="([^"]+)"`)
			value := s.cookies(base)["latchkey"]
			if strings.Contains(v.text, value) || value == "" {
				t.Error("a page shows what the cookie holds")
			}
			if v := s.do("POST", base+"/sign-out", url.Values{}); v.status != http.StatusForbidden {
				t.Errorf("signing out without the token: %d", v.status)
			}
			if v := s.do("POST", base+"/sign-out", url.Values{"csrf": {csrf}}, "Sec-Fetch-Site", "cross-site"); v.status != http.StatusForbidden {
				t.Errorf("signing out from another site: %d", v.status)
			}
			if v := s.do("POST", base+"/sign-out", url.Values{"csrf": {csrf}}); v.status != http.StatusOK || v.url.Path != "/sign-in" {
				t.Errorf("signing out: %d at %s", v.status, v.url)
			}
			if left := s.cookies(base); len(left) != 0 {
				t.Errorf("cookies that are left: %v", left)
			}
			kept := newSurfer(t) // whoever copied the cookie
			if v := kept.do("GET", base+c.path, nil, "Cookie", "latchkey="+value); v.status != http.StatusUnauthorized {
				t.Errorf("after signing out: %d", v.status)
			}
		})
	}
}

// The demo's issuer lets nobody past what any provider asks.
func TestDemoIssuerIsNoBypass(t *testing.T) {
	p := start(t, "demo", "--addr", "127.0.0.1:0", "--empty")
	base := p.url(t)
	s := newSurfer(t)
	to, err := url.Parse(s.leave(base, "/account"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(url.Values){
		"no PKCE":            func(q url.Values) { q.Del("code_challenge") },
		"plain PKCE":         func(q url.Values) { q.Set("code_challenge_method", "plain") },
		"no method":          func(q url.Values) { q.Del("code_challenge_method") },
		"another client":     func(q url.Values) { q.Set("client_id", "other") },
		"another way back":   func(q url.Values) { q.Set("redirect_uri", "http://127.0.0.1:1/") },
		"the implicit flow":  func(q url.Values) { q.Set("response_type", "id_token") },
		"no nonce":           func(q url.Values) { q.Del("nonce") },
		"no state":           func(q url.Values) { q.Del("state") },
		"plain OAuth":        func(q url.Values) { q.Set("scope", "profile") },
		"nothing was passed": func(q url.Values) { clear(q) },
	} {
		q := to.Query()
		change(q)
		if v := s.get(base + demo.IssuerPath + authtest.AuthorizePath + "?" + q.Encode()); v.status != http.StatusBadRequest {
			t.Errorf("%s: the page %d", name, v.status)
		}
		if v := s.do("POST", base+demo.IssuerPath+authtest.AuthorizePath, url.Values{"request": {q.Encode()}, "who": {"0"}}); v.status != http.StatusBadRequest {
			t.Errorf("%s: its answer %d", name, v.status)
		}
	}
	good := url.Values{"request": {to.RawQuery}}
	for name, form := range map[string]url.Values{
		"nobody": {}, "one too many": {"who": {"99"}}, "no number": {"who": {"-1"}}, "a courier of no carrier": {"scope": {"courier"}, "sub": {"c"}},
	} {
		form.Set("request", good.Get("request"))
		if v := s.do("POST", base+demo.IssuerPath+authtest.AuthorizePath, form); v.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, v.status)
		}
	}
	good.Set("who", "0")
	if v := s.do("POST", base+demo.IssuerPath+authtest.AuthorizePath, good, "Sec-Fetch-Site", "cross-site"); v.status != http.StatusForbidden {
		t.Errorf("chosen by a page of another site: %d", v.status)
	}
	token := func(form url.Values) (int, string) {
		v := s.do("POST", base+demo.IssuerPath+"/token", form)
		var answer struct{ Error string }
		if err := json.Unmarshal([]byte(v.text), &answer); err != nil {
			t.Fatal(err)
		}
		return v.status, answer.Error
	}
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	code := func() string {
		t.Helper()
		v := s.do("POST", base+demo.IssuerPath+authtest.AuthorizePath, good)
		back, err := url.Parse(v.header.Get("Location"))
		if err != nil || v.status != http.StatusSeeOther || back.Query().Get("iss") != base+demo.IssuerPath {
			t.Fatalf("%d %v", v.status, v.header)
		}
		return back.Query().Get("code")
	}
	form := func(changes ...string) url.Values {
		f := url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"latchkey-pages"}, "redirect_uri": {base + "/sign-in/callback"},
			"code": {code()}, "code_verifier": {strings.Repeat("v", 43)},
		}
		for i := 0; i < len(changes); i += 2 {
			f.Set(changes[i], changes[i+1])
		}
		return f
	}
	for name, f := range map[string]url.Values{
		"a wrong verifier":  form(),
		"no verifier":       form("code_verifier", ""),
		"the challenge":     form("code_verifier", to.Query().Get("code_challenge")),
		"a made-up code":    form("code", "x"),
		"another client":    form("client_id", "other"),
		"another way back":  form("redirect_uri", base+"/"),
		"a refresh of none": form("grant_type", "refresh_token"),
	} {
		if status, why := token(f); status != http.StatusBadRequest || why == "" {
			t.Errorf("%s: %d %s", name, status, why)
		}
	}
}

// Wherever the sign-in page is told to go on to, it is a page of ours.
func TestSignInLeadsNowhereElse(t *testing.T) {
	p := start(t, "demo", "--addr", "127.0.0.1:0", "--empty")
	base := p.url(t)
	for _, next := range []string{
		"https://evil.example/", "//evil.example/", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)", "http:/evil.example",
		"/..//evil.example", "evil", strings.Repeat("/a", 400), "/%2F/evil.example\r\nSet-Cookie: a=b",
	} {
		s := newSurfer(t)
		if v := s.be(base, next, "Duty officer"); !strings.HasPrefix(v.url.String(), base+"/") {
			t.Errorf("%q led to %s", next, v.url)
		}
		for _, at := range s.seen {
			if !strings.HasPrefix(at, base+"/") {
				t.Errorf("%q led by %s", next, at)
			}
		}
	}
	if v := newSurfer(t).be(base, "/ops/day?page=2", "Duty officer"); v.url.RequestURI() != "/ops/day?page=2" {
		t.Errorf("a page of ours: %s", v.url)
	}
	// By another name of the same machine, cookies would be missing on the way back.
	other := strings.Replace(base, "127.0.0.1", "localhost", 1)
	if v := newSurfer(t).get(other + "/sign-in?next=/ops"); !strings.HasPrefix(v.url.String(), base+"/sign-in?next=%2Fops") {
		t.Errorf("by another name: %s", v.url)
	}
}

// Serve signs people in at a provider of its file, with the client's secret; and a file
// that no longer says so, read on SIGHUP, ends their sessions.
func TestServeSignIn(t *testing.T) {
	s := newService(t)
	free, err := net.Listen("tcp", "127.0.0.1:0") // for the way back, which the provider must know first
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	base := "http://" + addr
	idp := newIDP(t, base, auth.Principal{Subject: "officer-9", Scopes: []auth.Scope{auth.Ops, auth.Dispatch}})
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.issuers), "secret"), []byte(idp.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	entry := map[string]any{
		"issuer": idp.url, "audience": "latchkey", "scopes": []string{"ops"},
		"login": map[string]any{"name": "Example", "client_id": idp.ClientID, "client_secret_file": "secret", "scopes": []string{"profile"}},
	}
	s.trust(t, entry)
	if code, _, errs := once(s.args...); code != 1 || !strings.Contains(errs, "which needs --public-url") {
		t.Fatalf("without a public URL: %d %s", code, errs)
	}
	args := append(s.args, "--public-url", base+"/")
	args[index(args, "--addr")+1] = addr
	p := start(t, args...)
	p.url(t)
	if strings.Contains(p.err.String(), idp.Secret) {
		t.Error("the log shows the client's secret")
	}

	b := newSurfer(t)
	v := b.get(b.leave(base, "/ops/day"))
	if v.url.String() != base+"/ops/day" {
		t.Fatalf("led to %s: %d %s", v.url, v.status, v.text)
	}
	if v := b.get(base + "/v1/buildings/none"); v.status != http.StatusNotFound { // allowed to ask, and there is none
		t.Errorf("signed in: %d %s", v.status, v.text)
	}
	if v := b.get(base + "/v1/dispatches/0123456789abcdef01234567-1"); v.status != http.StatusForbidden {
		t.Errorf("in a scope that its issuer may not give: %d", v.status)
	}
	if v := b.get(base + "/sign-in"); !strings.Contains(v.text, "<bdi>Officer  9</bdi>") {
		t.Errorf("not greeted: %s", v.text)
	}
	for _, at := range b.seen {
		if strings.Contains(at, idp.Secret) {
			t.Error("a URL holds the client's secret")
		}
	}
	// The cookie is worth nothing as a token, and an ID token is none either.
	cookie := b.cookies(base)["latchkey"]
	id, err := idp.Issuer.SignID(idp.ClientID, "n", "", auth.Principal{Subject: "officer-9", Scopes: []auth.Scope{auth.Ops}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"the cookie": cookie, "an ID token": id} {
		if v := newSurfer(t).do("GET", base+"/v1/buildings/none", nil, "Authorization", "Bearer "+token); v.status != http.StatusUnauthorized {
			t.Errorf("%s as a token: %d", name, v.status)
		}
	}

	delete(entry, "login")
	s.trust(t, entry)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(t, "the new file", func() bool { return strings.Contains(p.err.String(), "the issuers were read again") })
	if v := b.get(base + "/v1/buildings/none"); v.status != http.StatusUnauthorized {
		t.Errorf("after its issuer lost sign-in: %d", v.status)
	}
	if v := b.get(base + "/sign-in"); !strings.Contains(v.text, "nowhere to sign in") {
		t.Errorf("the sign-in page: %s", v.text)
	}
}

// idp is an identity provider at which nobody is asked who they are.
type idp struct {
	*authtest.Provider
	url string
	who auth.Principal // of whoever signs in next
}

func newIDP(t *testing.T, base string, who auth.Principal) *idp {
	t.Helper()
	p := &idp{who: who}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != authtest.AuthorizePath {
			p.ServeHTTP(w, r)
			return
		}
		asked, err := p.Authorization(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		to, err := p.Grant(asked, p.who, "Officer \u202e 9")
		if err != nil {
			t.Error(err)
		}
		http.Redirect(w, r, to, http.StatusFound)
	}))
	t.Cleanup(server.Close)
	issuer, err := authtest.NewIssuer(rand.Reader, server.URL, "latchkey", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	p.url = server.URL
	p.Provider = authtest.NewProvider(authtest.ProviderConfig{
		Issuer: issuer, Random: rand.Reader, ClientID: "pages", Secret: rand.Text(), Redirect: base + auth.CallbackPath,
	})
	return p
}

// A real browser takes the way there and back: what it does with cookies, with a page that
// leads on, and with Sec-Fetch-Site is its own.
func TestSignInInABrowser(t *testing.T) {
	b := webtest.Start(t)
	b.Width(1280)
	base := start(t, "demo", "--addr", "127.0.0.1:0").url(t)
	b.Open(base + "/account")
	b.Reads("h1", "Sign in")
	b.Click(`button[name="issuer"]`)
	b.Reads("h1", "Who are you?")
	b.Click(`button[name="who"][value="0"]`)
	b.Reads(".who .name", "Sample Customer 101")
	if at := webtest.Eval[string](b, "location.href"); at != base+"/account" {
		t.Errorf("at %s", at)
	}
	b.Click(`form[action="/sign-out"] button`)
	b.Reads("h1", "Sign in")
	b.Open(base + "/account")
	b.Reads("h1", "Sign in")
}
