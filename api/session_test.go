package api_test

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
)

// browsers is a house that takes the sessions of browsers too.
type browsers struct {
	*house
	sessions *auth.Sessions
}

func newBrowsers(t *testing.T, store handofftest.Store) *browsers {
	t.Helper()
	b := &browsers{}
	b.house = newHouse(t, store, func(c *api.Config) {
		var err error
		if b.sessions, err = auth.NewSessions(auth.SessionConfig{
			Store: store, Issuers: c.Verifier.(*auth.Issuers), Keys: auth.NewKeys(store, handofftest.Namer{}, c.Clock.Now), Random: rand.Reader, Now: c.Clock.Now, Secure: true,
		}); err != nil {
			t.Fatal(err)
		}
		c.Sessions = b.sessions
	})
	return b
}

// enter signs somebody in at the issuer.
func (b *browsers) enter(t *testing.T, who auth.Principal) (cookie, csrf string) {
	t.Helper()
	who.Issuer = b.issuer.Name
	return b.begin(t, auth.Session{Principal: &who, Client: signInClient})
}

// byLink lets a customer in by a link that the shop's clerk made.
func (b *browsers) byLink(t *testing.T, who auth.Principal) (cookie, csrf string) {
	t.Helper()
	who.Link = &identity.Maker{Issuer: b.issuer.Name, Who: clerkName}
	return b.begin(t, auth.Session{Principal: &who})
}

// clerkName is the pseudonym of the clerk who makes links.
const clerkName = "0123456789abcdef"

func (b *browsers) begin(t *testing.T, who auth.Session) (cookie, csrf string) {
	t.Helper()
	cookie, err := b.sessions.Begin(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.sessions.Verify(t.Context(), cookie)
	if err != nil {
		t.Fatal(err)
	}
	return cookie, s.CSRF
}

// as sends a request as a browser does; headers come as name, value, name, value.
func (b *browsers) as(t *testing.T, cookie, method, path, body string, headers ...string) *answer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "latchkey.example"
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-latchkey", Value: cookie})
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.send(t, r)
}

// The cookie of a session is worth what a token with the same claims is.
func TestSessionInPlaceOfAToken(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	grant := b.dispatch(t, "P1", nil)
	own, _ := b.enter(t, customer)
	other := customer
	other.Subject = "cus_82"
	foreign, _ := b.enter(t, other)
	driver, _ := b.enter(t, courier)
	nameless := courier
	nameless.Subject = ""
	incomplete, _ := b.enter(t, nameless)
	for name, c := range map[string]struct {
		cookie, path string
		status       int
	}{
		"own":           {own, "/v1/handoffs/" + grant, 200},
		"foreign":       {foreign, "/v1/handoffs/" + grant, 404},
		"wrong scope":   {driver, "/v1/handoffs/" + grant, 403},
		"incomplete":    {incomplete, "/v1/courier/stops", 403},
		"no cookie":     {"", "/v1/handoffs/" + grant, 401},
		"no session":    {strings.Repeat("A", 43), "/v1/handoffs/" + grant, 401},
		"not of a form": {"x", "/v1/handoffs/" + grant, 401},
	} {
		a := b.as(t, c.cookie, "GET", c.path, "")
		if a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		if challenge := a.header.Get("WWW-Authenticate"); c.status == 401 && challenge != `Bearer realm="latchkey"` {
			t.Errorf("%s: challenged with %q", name, challenge)
		}
	}
	b.Clock.Advance(2 * time.Hour)
	if a := b.as(t, own, "GET", "/v1/handoffs/"+grant, ""); a.status != 401 {
		t.Errorf("unused for two hours: %d", a.status)
	}
}

// What a page of another site makes a browser send changes nothing, whatever it guesses.
func TestUnsafeBySessionMustBeMeant(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	grant := b.dispatch(t, "P1", nil)
	cookie, csrf := b.enter(t, customer)
	_, stranger := b.enter(t, customer)
	const site, origin = "Sec-Fetch-Site", "Origin"
	path := "/v1/handoffs/" + grant + "/resend"
	before := len(b.Events(t))
	for name, headers := range map[string][]string{
		"nothing":                    nil,
		"the token alone":            {auth.CSRFHeader, csrf},
		"the origin alone":           {site, "same-origin"},
		"an empty token":             {site, "same-origin", auth.CSRFHeader, ""},
		"another session's token":    {site, "same-origin", auth.CSRFHeader, stranger},
		"the cookie as the token":    {site, "same-origin", auth.CSRFHeader, cookie},
		"cross-site":                 {site, "cross-site", auth.CSRFHeader, csrf},
		"same-site":                  {site, "same-site", auth.CSRFHeader, csrf},
		"typed by hand":              {site, "none", auth.CSRFHeader, csrf},
		"another origin":             {origin, "https://evil.example", auth.CSRFHeader, csrf},
		"no origin to speak of":      {origin, "null", auth.CSRFHeader, csrf},
		"an origin against the site": {site, "cross-site", origin, "https://latchkey.example", auth.CSRFHeader, csrf},
	} {
		a := b.as(t, cookie, "POST", path, "", headers...)
		if a.status != 403 || a.code() != "cross-site" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if after := len(b.Events(t)); after != before {
		t.Fatalf("%d events came of it", after-before)
	}
	if a := b.as(t, cookie, "POST", path, "", site, "same-origin", auth.CSRFHeader, csrf); a.status != 200 {
		t.Errorf("from a page of ours: %d %s", a.status, a.text)
	}
	b.Clock.Advance(2 * time.Minute)
	if a := b.as(t, cookie, "POST", path, "", origin, "https://latchkey.example", auth.CSRFHeader, csrf); a.status != 200 {
		t.Errorf("from a page of ours in an old browser: %d %s", a.status, a.text)
	}
	if a := b.as(t, cookie, "GET", "/v1/handoffs/"+grant, "", site, "cross-site"); a.status != 200 {
		t.Errorf("following a link from elsewhere: %d", a.status)
	}
}

// Beside a token, good or not, a cookie counts for nothing: neither lends the other its rights.
func TestTokenBesideASession(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	grant := b.dispatch(t, "P1", nil)
	cookie, _ := b.enter(t, customer)
	path := "/v1/handoffs/" + grant
	bearer := func(who auth.Principal) []string { return []string{"Authorization", "Bearer " + b.token(t, who)} }
	for name, c := range map[string]struct {
		method, path string
		headers      []string
		status       int
	}{
		"a courier's":                {"GET", path, bearer(courier), 403},
		"a forged one":               {"GET", path, []string{"Authorization", "Bearer x.y.z"}, 401},
		"another scheme":             {"GET", path, []string{"Authorization", "Basic dTpw"}, 401},
		"its own, and no CSRF token": {"POST", path + "/resend", bearer(customer), 200},
	} {
		if a := b.as(t, cookie, c.method, c.path, "", c.headers...); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

// Signed out on one instance, the next request on another is refused.
func TestSignedOutOnAnotherInstance(t *testing.T) {
	store := embedded.New(t)
	here, there := newBrowsers(t, store), newBrowsers(t, store)
	grant := here.dispatch(t, "P1", nil)
	cookie, _ := here.enter(t, customer)
	if a := there.as(t, cookie, "GET", "/v1/handoffs/"+grant, ""); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if err := here.sessions.End(t.Context(), cookie); err != nil {
		t.Fatal(err)
	}
	if a := there.as(t, cookie, "GET", "/v1/handoffs/"+grant, ""); a.status != 401 {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestSessionsAreDocumented(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	doc := b.as(t, "", "GET", "/openapi.json", "")
	if got := doc.at("components", "securitySchemes", "session", "name"); got != "__Host-latchkey" {
		t.Errorf("the scheme's cookie is %v", got)
	}
	if !strings.Contains(doc.text, `{"session":["customer"]}`) {
		t.Error("no route takes a session")
	}
	if plain := newHouse(t, nil); strings.Contains(plain.send(t, httptest.NewRequest("GET", "/openapi.json", nil)).text, `"session"`) {
		t.Error("documented where there are none")
	}
}
