package auth_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/handoff/keyring"
)

// shopfront is where people sign in, at the providers of a test.
type shopfront struct {
	*auth.Logins
	clock *clock
}

// idp is a provider at which somebody is signed in, and who may answer wrongly.
type idp struct {
	*authtest.Provider
	who       auth.Principal
	says      func(metadata map[string]any)    // changes its discovery document
	back      func(q url.Values)               // changes what it sends people back with
	claims    func(c jwt.MapClaims)            // changes its ID token
	token     func(w http.ResponseWriter) bool // answers instead of the token endpoint
	asked     []url.Values                     // at the token endpoint
	discovers int
}

const publicURL = "https://latchkey.example"

func newIDP(t *testing.T, c *clock) *idp {
	t.Helper()
	p := &idp{who: auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier, auth.Ops}}}
	server := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(server.Close)
	p.Provider = authtest.NewProvider(authtest.ProviderConfig{
		Issuer: newIssuer(t, server.URL, "pages", c), Random: rand.Reader, ClientID: "pages", Redirect: publicURL + auth.CallbackPath, Now: c.Now,
	})
	return p
}

func (p *idp) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, authtest.DiscoveryPath):
		p.discovers++
		m := p.Metadata()
		if p.says != nil {
			p.says(m)
		}
		answerJSON(w, http.StatusOK, m)
		return
	case strings.HasSuffix(r.URL.Path, authtest.TokenPath):
		_ = r.ParseForm()
		p.asked = append(p.asked, r.PostForm)
		if p.token != nil && p.token(w) {
			return
		}
		if p.claims != nil {
			answered := httptest.NewRecorder()
			p.ServeHTTP(answered, r)
			p.forge(w, answered)
			return
		}
	}
	p.ServeHTTP(w, r)
}

func answerJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}

// forge signs the ID token anew, with other claims.
func (p *idp) forge(w http.ResponseWriter, answered *httptest.ResponseRecorder) {
	var body map[string]any
	if err := json.Unmarshal(answered.Body.Bytes(), &body); err != nil {
		panic(err)
	}
	given, _ := body["id_token"].(string)
	if given == "" {
		answerJSON(w, answered.Code, body)
		return
	}
	c := jwt.MapClaims{}
	raw, _ := base64.RawURLEncoding.DecodeString(strings.Split(given, ".")[1])
	if err := json.Unmarshal(raw, &c); err != nil {
		panic(err)
	}
	p.claims(c)
	body["id_token"], _ = p.Issuer.SignClaims(c)
	answerJSON(w, http.StatusOK, body)
}

// entry trusts the provider for one carrier's couriers.
func (p *idp) entry(name string) auth.Trust {
	return auth.Trust{
		Issuer: p.Issuer.Name, Audience: "latchkey", Keys: p.Issuer.JWKS(), Scopes: []auth.Scope{auth.Courier, auth.Customer}, Carriers: []string{"swift"}, Shops: []string{"demo", "other"},
		Login: p.Login(name),
	}
}

func newShopfront(t *testing.T, c *clock, entries ...auth.Trust) *shopfront {
	t.Helper()
	issuers, err := auth.NewIssuers(t.Context(), auth.Config{Now: c.Now}, entries...)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	l, err := auth.NewLogins(auth.LoginConfig{Issuers: issuers, Sealer: ring, Random: rand.Reader, PublicURL: publicURL, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return &shopfront{l, c}
}

// visit is a browser on its way.
type visit struct {
	carried  string
	to       url.Values // what it came to the provider with
	callback string
	back     url.Values
}

// begin presses the button with a name.
func (s *shopfront) begin(t *testing.T, name string) *visit {
	t.Helper()
	for _, c := range s.Choices() {
		if c.Name == name {
			to, carried, err := s.Start(t.Context(), c.ID, "/courier")
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(to)
			if err != nil {
				t.Fatal(err)
			}
			return &visit{carried: carried, to: u.Query()}
		}
	}
	t.Fatalf("no %s among %v", name, s.Choices())
	return nil
}

// meet is what happens at the provider.
func (v *visit) meet(t *testing.T, p *idp) *visit {
	t.Helper()
	asked, err := p.Authorization(v.to)
	if err != nil {
		t.Fatal(err)
	}
	to, err := p.Grant(asked, p.who, "Courier 7")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	v.back, v.callback = u.Query(), strings.TrimPrefix(strings.TrimPrefix(u.Path, auth.CallbackPath), "/")
	if p.back != nil {
		p.back(v.back)
	}
	return v
}

// kind is what a sign-in came to; empty: somebody is signed in.
func (s *shopfront) kind(t *testing.T, v *visit) auth.LoginKind {
	t.Helper()
	_, _, err := s.Finish(t.Context(), v.carried, v.callback, v.back)
	var why *auth.LoginError
	if err != nil && !errors.As(err, &why) {
		t.Fatal(err)
	}
	if why == nil {
		return ""
	}
	for _, values := range v.back { // nothing that was sent is repeated
		for _, value := range values {
			if len(value) > 20 && strings.Contains(why.Error(), value) {
				t.Errorf("the reason repeats what was sent: %v", why)
			}
		}
	}
	return why.Kind
}

func TestSignIn(t *testing.T) {
	c := &clock{now: start}
	p := newIDP(t, c)
	s := newShopfront(t, c, p.entry("Swift"))
	v := s.begin(t, "Swift").meet(t, p)
	if v.to.Get("scope") != "openid" || v.to.Get("redirect_uri") != publicURL+"/sign-in/callback" || v.to.Get("code_challenge_method") != "S256" {
		t.Errorf("asked for %v", v.to)
	}
	who, next, err := s.Finish(t.Context(), v.carried, v.callback, v.back)
	if err != nil {
		t.Fatal(err)
	}
	// Of its scopes the issuer may give one; of its shops the token names none.
	want := &auth.Principal{Issuer: p.Issuer.Name, Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}
	if !reflect.DeepEqual(who.Principal, want) || who.Client != "pages" || who.Name != "Courier 7" || next != "/courier" {
		t.Errorf("%+v %+v to %s", who.Principal, who, next)
	}
	for _, secret := range []string{v.to.Get("nonce"), v.to.Get("state")} {
		plain, _ := base64.RawURLEncoding.DecodeString(v.carried)
		if strings.Contains(string(plain), secret) || secret == "" {
			t.Error("the cookie shows what it holds")
		}
	}
	again := s.begin(t, "Swift")
	for _, name := range []string{"nonce", "state", "code_challenge"} {
		if again.to.Get(name) == v.to.Get(name) {
			t.Errorf("the %s of two sign-ins is the same", name)
		}
	}
	if p.discovers != 1 {
		t.Errorf("asked for its metadata %d times", p.discovers)
	}
}

// Everything that can be wrong on the way back.
func TestSignInIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *shopfront, p *idp, v *visit, t *testing.T)
		want   auth.LoginKind
	}{
		"nothing": {func(*shopfront, *idp, *visit, *testing.T) {}, ""},

		"no state":        {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Del("state") }, auth.LoginOver},
		"a made-up state": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Set("state", "x") }, auth.LoginOver},
		"another's state": {func(s *shopfront, _ *idp, v *visit, t *testing.T) {
			v.back.Set("state", s.begin(t, "Swift").to.Get("state"))
		}, auth.LoginOver},
		"two states":         {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Add("state", v.back.Get("state")) }, auth.LoginRefused},
		"another browser":    {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.carried = "" }, auth.LoginOver},
		"a victim's browser": {func(s *shopfront, _ *idp, v *visit, t *testing.T) { v.carried = s.begin(t, "Swift").carried }, auth.LoginOver},
		"a forged cookie": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) {
			v.carried = v.carried[:40] + "AAAA" + v.carried[44:]
		}, auth.LoginOver},
		"a cookie that is none": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.carried = "%%%" }, auth.LoginOver},
		"ten minutes":           {func(s *shopfront, _ *idp, _ *visit, _ *testing.T) { s.clock.at(10 * time.Minute) }, auth.LoginOver},
		"its entry is gone": {func(s *shopfront, p *idp, _ *visit, t *testing.T) {
			e := p.entry("Swift")
			e.Login = nil
			if err := s.Issuers.Trust(e); err != nil {
				t.Error(err)
			}
		}, auth.LoginOver},

		"it says no": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Set("error", "access_denied") }, auth.LoginDeclined},
		"it says anything": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) {
			v.back.Set("error", "<script>alert(1)</script> hunter2 hunter2")
		}, auth.LoginDeclined},
		"no code":         {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Del("code") }, auth.LoginRefused},
		"two codes":       {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Add("code", "x") }, auth.LoginRefused},
		"a made-up code":  {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Set("code", "x") }, auth.LoginRefused},
		"a replayed code": {func(s *shopfront, _ *idp, v *visit, t *testing.T) { is(t, s.kind(t, v), "") }, auth.LoginRefused},
		"an old code":     {func(s *shopfront, _ *idp, _ *visit, _ *testing.T) { s.clock.at(time.Minute) }, auth.LoginRefused},
		// The code of somebody else's sign-in, brought into a sign-in of one's own: PKCE.
		"another's code": {func(s *shopfront, p *idp, v *visit, t *testing.T) {
			v.back.Set("code", s.begin(t, "Swift").meet(t, p).back.Get("code"))
		}, auth.LoginRefused},

		"another issuer": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Set("iss", "https://evil.example") }, auth.LoginRefused},
		"no issuer":      {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.back.Del("iss") }, auth.LoginRefused},
		"another issuer, a refusal": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) {
			v.back.Set("iss", "https://evil.example")
			v.back.Set("error", "access_denied")
		}, auth.LoginRefused},
		"another callback": {func(_ *shopfront, _ *idp, v *visit, _ *testing.T) { v.callback = "other" }, auth.LoginRefused},

		"no nonce":            claim(func(c jwt.MapClaims) { delete(c, "nonce") }, auth.LoginRefused),
		"another nonce":       claim(func(c jwt.MapClaims) { c["nonce"] = "x" }, auth.LoginRefused),
		"another audience":    claim(func(c jwt.MapClaims) { c["aud"] = "other" }, auth.LoginRefused),
		"a bearer token":      claim(func(c jwt.MapClaims) { c["aud"] = "latchkey" }, auth.LoginRefused),
		"two audiences":       claim(func(c jwt.MapClaims) { c["aud"] = []string{"pages", "other"} }, auth.LoginRefused),
		"for another party":   claim(func(c jwt.MapClaims) { c["azp"] = "other" }, auth.LoginRefused),
		"for us among others": claim(func(c jwt.MapClaims) { c["aud"], c["azp"] = []string{"pages", "other"}, "pages" }, ""),
		"of another issuer":   claim(func(c jwt.MapClaims) { c["iss"] = "https://evil.example" }, auth.LoginRefused),
		"an old token":        claim(func(c jwt.MapClaims) { c["exp"] = start.Add(-time.Second).Unix() }, auth.LoginRefused),
		"no expiry":           claim(func(c jwt.MapClaims) { delete(c, "exp") }, auth.LoginRefused),
		"no subject":          claim(func(c jwt.MapClaims) { delete(c, "sub") }, auth.LoginSubject),
		"no text as subject":  claim(func(c jwt.MapClaims) { c["sub"] = 7 }, auth.LoginRefused),
		"a subject on lines":  claim(func(c jwt.MapClaims) { c["sub"] = "a\nb" }, auth.LoginSubject),
		"several shops":       claim(func(c jwt.MapClaims) { c["shop_id"] = []string{"demo", "other"} }, auth.LoginSeveral),

		"another carrier": claim(func(c jwt.MapClaims) { c["carrier_id"] = "rival" }, auth.LoginNobody),
		"another shop":    claim(func(c jwt.MapClaims) { c["shop_id"] = "foreign" }, auth.LoginNobody),
		"no scope":        claim(func(c jwt.MapClaims) { delete(c, "scope") }, auth.LoginNobody),
		"others' scopes":  claim(func(c jwt.MapClaims) { c["scope"] = "ops dispatch building" }, auth.LoginNobody),

		"a broken token endpoint": answered(http.StatusBadGateway, `<html>hunter2`, auth.LoginUnavailable),
		"a refusal":               answered(http.StatusBadRequest, `{"error":"invalid_grant","error_description":"hunter2"}`, auth.LoginRefused),
		"no ID token":             answered(http.StatusOK, `{"access_token":"hunter2","token_type":"Bearer"}`, auth.LoginRefused),
		"no JSON":                 answered(http.StatusOK, `<html>hunter2`, auth.LoginUnavailable),
		"not signed": answered(http.StatusOK, `{"access_token":"a","token_type":"Bearer","id_token":"`+
			base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))+`.e30."}`, auth.LoginRefused),
		"a redirect": {func(_ *shopfront, p *idp, _ *visit, _ *testing.T) {
			p.token = func(w http.ResponseWriter) bool {
				w.Header().Set("Location", p.Issuer.Name+"/stolen")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
		}, auth.LoginRefused},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{now: start}
			p := newIDP(t, c)
			s := newShopfront(t, c, p.entry("Swift"))
			v := s.begin(t, "Swift").meet(t, p)
			test.change(s, p, v, t)
			is(t, s.kind(t, v), test.want)
			_, _, err := s.Finish(t.Context(), v.carried, v.callback, v.back)
			if err == nil {
				t.Error("twice with one code")
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("repeated: %v", err)
			}
		})
	}
}

func is(t *testing.T, got, want auth.LoginKind) {
	t.Helper()
	if got != want {
		t.Errorf("came to %q, want %q", got, want)
	}
}

type change = struct {
	change func(s *shopfront, p *idp, v *visit, t *testing.T)
	want   auth.LoginKind
}

func claim(f func(jwt.MapClaims), want auth.LoginKind) change {
	return change{func(_ *shopfront, p *idp, _ *visit, _ *testing.T) { p.claims = f }, want}
}

func answered(status int, body string, want auth.LoginKind) change {
	return change{func(_ *shopfront, p *idp, _ *visit, _ *testing.T) {
		p.token = func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
			return true
		}
	}, want}
}

// A dishonest issuer of the file leads its people on to an honest one and hopes to be
// handed the code that comes of it (RFC 9700 section 4.4).
func TestMixUp(t *testing.T) {
	for name, silent := range map[string]bool{"the honest one says iss": false, "it does not": true} {
		t.Run(name, func(t *testing.T) {
			c := &clock{now: start}
			honest, evil := newIDP(t, c), newIDP(t, c)
			quiet := func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }
			evil.says = quiet
			if silent {
				honest.says, honest.back = quiet, func(q url.Values) { q.Del("iss") }
			}
			s := newShopfront(t, c, honest.entry("Honest"), evil.entry("Evil"))
			v := s.begin(t, "Evil").meet(t, honest) // where the victim signs in
			is(t, s.kind(t, v), auth.LoginRefused)
			if len(evil.asked) != 0 {
				t.Error("the code went to the dishonest one")
			}
			if silent { // who does not say who it is, is not let in at the common callback either
				is(t, s.kind(t, s.begin(t, "Honest").meet(t, honest)), auth.LoginRefused)
			}
		})
	}
	t.Run("callbacks of their own", func(t *testing.T) {
		c := &clock{now: start}
		honest, evil := newIDP(t, c), newIDP(t, c)
		var entries []auth.Trust
		for own, p := range map[string]*idp{"honest": honest, "evil": evil} {
			p.says = func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }
			p.back = func(q url.Values) { q.Del("iss") }
			p.Redirect += "/" + own
			e := p.entry(own)
			e.Login.Callback = own
			entries = append(entries, e)
		}
		s := newShopfront(t, c, entries...)
		is(t, s.kind(t, s.begin(t, "honest").meet(t, honest)), "")
		v := s.begin(t, "evil")
		if _, err := honest.Authorization(v.to); err == nil {
			t.Error("the honest one sends people back to the other's callback")
		}
		v.to.Set("redirect_uri", honest.Redirect)
		is(t, s.kind(t, v.meet(t, honest)), auth.LoginRefused)
		if len(evil.asked) != 0 {
			t.Error("the code went to the dishonest one")
		}
	})
}

// A provider that cannot be asked, or not safely, is told so before anybody goes there.
func TestSignInCannotBegin(t *testing.T) {
	for name, says := range map[string]func(map[string]any){
		"no PKCE but plain":  func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} },
		"another issuer":     func(m map[string]any) { m["issuer"] = "https://evil.example" },
		"a token in clear":   func(m map[string]any) { m["token_endpoint"] = "http://id.example/token" },
		"no place to ask at": func(m map[string]any) { delete(m, "authorization_endpoint") },
		"a flood":            func(m map[string]any) { m["x"] = strings.Repeat("hunter2", auth.MaxFetched/7) },
	} {
		c := &clock{now: start}
		p := newIDP(t, c)
		p.says = says
		s := newShopfront(t, c, p.entry("Swift"))
		try := func() auth.LoginKind {
			_, _, err := s.Start(t.Context(), s.Choices()[0].ID, "")
			var why *auth.LoginError
			if !errors.As(err, &why) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("%s: %v", name, err)
			}
			return why.Kind
		}
		is(t, try(), auth.LoginUnavailable)
		is(t, try(), auth.LoginUnavailable)
		if p.discovers != 1 {
			t.Errorf("%s: asked %d times in a moment", name, p.discovers)
		}
		p.says = nil
		c.at(auth.MetadataAgain)
		s.begin(t, "Swift") // and once it is mended
	}
	c := &clock{now: start}
	s := newShopfront(t, c, newIDP(t, c).entry("Swift"))
	_, _, err := s.Start(t.Context(), "0123456789abcdef", "")
	var why *auth.LoginError
	if !errors.As(err, &why) || why.Kind != auth.LoginOver {
		t.Errorf("a made-up choice: %v", err)
	}
}

// The client's secret goes where the provider takes it, and is read with the file.
func TestClientSecret(t *testing.T) {
	for name, ways := range map[string][]string{"basic": {"client_secret_basic", "client_secret_post"}, "post": {"client_secret_post"}, "unsaid": nil} {
		c := &clock{now: start}
		p := newIDP(t, c)
		p.Secret = "s3cret"
		p.says = func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = ways }
		file := filepath.Join(t.TempDir(), "secret")
		e := p.entry("Swift")
		e.Login.SecretFile = file
		issuers, err := auth.NewIssuers(t.Context(), auth.Config{}, e)
		if err == nil {
			t.Fatalf("%s: no secret, and accepted: %v", name, issuers)
		}
		if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s := newShopfront(t, c, e)
		got := s.kind(t, s.begin(t, "Swift").meet(t, p))
		posted := p.asked[0].Get("client_secret")
		if name == "post" { // which this provider does not take
			is(t, got, auth.LoginRefused)
			if posted != "s3cret" {
				t.Error("not posted")
			}
			continue
		}
		is(t, got, "")
		if posted != "" || len(p.asked) != 1 {
			t.Errorf("%s: posted, or asked %d times", name, len(p.asked))
		}
	}
}

func TestLoginEntries(t *testing.T) {
	good := func() []auth.Trust {
		a, b := signInEntry(), signInEntry()
		a.Keys, b.Keys, b.Issuer = nil, nil, "https://id.rapid.example"
		a.Login, b.Login = &auth.Login{Name: "Swift", ClientID: "pages", Callback: "swift"}, &auth.Login{Name: "Rapid", ClientID: "pages"}
		return []auth.Trust{a, b}
	}
	for name, c := range map[string]struct {
		change func([]auth.Trust)
		want   string
	}{
		"good":                        {func([]auth.Trust) {}, ""},
		"no client":                   {func(e []auth.Trust) { e[0].Login.ClientID = "" }, "client_id is missing"},
		"no name":                     {func(e []auth.Trust) { e[0].Login.Name = "" }, "name is missing"},
		"a callback that is a path":   {func(e []auth.Trust) { e[0].Login.Callback = "a/b" }, "callback"},
		"the same callback":           {func(e []auth.Trust) { e[1].Login.Callback = "swift" }, "same callback as issuers[0]"},
		"an ID token as bearer":       {func(e []auth.Trust) { e[0].Login.ClientID = "latchkey" }, "client_id is the audience"},
		"an ID token as other bearer": {func(e []auth.Trust) { e[1].Issuer, e[1].Audience = e[0].Issuer, "pages" }, "client_id is the audience"},
		"the same client":             {func(e []auth.Trust) { e[1].Issuer, e[1].Audience = e[0].Issuer, "second" }, "client_id of issuers[0]"},
		"an issuer that is no URL":    {func(e []auth.Trust) { e[0].Issuer, e[0].JWKSURL = "swift", "https://id.swift.example/keys" }, "login: issuer must be an https URL"},
	} {
		entries := good()
		c.change(entries)
		if err := auth.CheckTrust(entries); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublicURL(t *testing.T) {
	c := &clock{now: start}
	s := newShopfront(t, c, signInEntry())
	for public, want := range map[string]string{
		"https://latchkey.example": "https://latchkey.example", "https://latchkey.example/": "https://latchkey.example",
		"http://127.0.0.1:8080": "http://127.0.0.1:8080", "http://latchkey.example": "", "https://latchkey.example/path": "", "https://": "", "": "",
		"https://u:p@latchkey.example": "", "https://latchkey.example?x": "",
	} {
		config := s.LoginConfig
		config.PublicURL = public
		l, err := auth.NewLogins(config)
		if (err == nil) != (want != "") || err == nil && l.PublicURL != want {
			t.Errorf("%q: %v", public, err)
		}
	}
}

func TestGreeting(t *testing.T) {
	for name, want := range map[any]string{
		"Courier 7": "Courier 7", " Jo\u00e3o ": "Jo\u00e3o", "a\nb\u202ec": "a bc", "\u200b\u3164": "", "Jo\u0061\u0303o": "Jo\u00e3o", 7: "", nil: "", strings.Repeat("\u00e9", 200): strings.Repeat("\u00e9", auth.MaxName),
	} {
		if got := auth.Greeting(jwt.MapClaims{"name": name}); got != want {
			t.Errorf("%v: %q", name, got)
		}
	}
}
