// Package frametest runs page sets against the real API over a real service: what the
// tests of pages stand on. Sessions are real ones too.
package frametest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest/markup"
	"latchkey/api/web/signin"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
)

// House is a service with its API and pages, at noon of the sample day.
type House struct {
	*handofftest.World
	Site *frame.Site

	app    *fiber.App
	issuer *authtest.Issuer
	log    *syncBuffer

	sessions *auth.Sessions
}

// Cookie is the name of the session's cookie.
const Cookie = "latchkey"

// sessionLife is longer than any test moves the clock.
const sessionLife = 90 * 24 * time.Hour

// New builds a house on a store; nil is one on an embedded Redis. Sets is told the house's world
// before the pages are made, and returns them.
func New(t testing.TB, store handofftest.Store, sets func(*handofftest.World) []frame.Set) *House {
	t.Helper()
	if store == nil {
		store = embedded.New(t)
	}
	h := &House{World: handofftest.New(t, store), log: &syncBuffer{}}
	log := slog.New(slog.NewJSONHandler(h.log, nil))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.issuer, err = authtest.NewIssuer(rand.Reader, issuer, "latchkey", h.Clock.Now)
	must(err)
	trust := h.issuer.Trust()
	trust.Login = &auth.Login{Name: "Test", ClientID: client}
	verifier, err := auth.NewIssuers(t.Context(), auth.Config{Now: h.Clock.Now}, trust)
	must(err)
	signer, err := door.NewSigner(rand.Reader)
	must(err)
	h.sessions, err = auth.NewSessions(auth.SessionConfig{
		Store: store, Issuers: verifier, Keys: auth.NewKeys(store, handofftest.Namer{}, h.Clock.Now), Random: rand.Reader, Life: sessionLife, Idle: sessionLife, Now: h.Clock.Now,
	})
	must(err)
	ring, err := keyring.New()
	must(err)
	logins, err := auth.NewLogins(auth.LoginConfig{Issuers: verifier, Sealer: ring, Random: rand.Reader, PublicURL: "http://127.0.0.1"})
	must(err)
	entrance, err := signin.New(h.sessions, logins, log)
	must(err)
	way := &frame.API{}
	config := frame.Config{API: way, Clock: h.Clock, Log: log}
	entrance.Configure(&config)
	h.Site, err = frame.New(config, sets(h.World)...)
	must(err)
	h.app, err = api.New(api.Config{
		Rooms: api.Rooms{
			Service: h.Service, Couriers: store, Registry: h.Registry, Directory: h.Residents, PageLinks: h.PageLinks,
			Access: h.Access, Events: store, Figures: store,
			Doors: &api.Doors{Signer: signer, Feed: store, Poll: time.Millisecond},
		},
		Callers: api.Callers{Verifier: verifier, Sessions: h.sessions},
		Clock:   h.Clock, Log: log, Site: h.Site,
	})
	must(err)
	way.Serve(h.app.Handler())
	return h
}

// Log is what was logged.
func (h *House) Log() string { return h.log.String() }

// Listen serves the house on a free port of loopback until the test ends, for a browser.
// It returns the address, as http://127.0.0.1:PORT.
func (h *House) Listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.app.Listener(l) }()
	t.Cleanup(func() {
		err := h.app.ShutdownWithTimeout(5 * time.Second)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // browsers open connections ahead, over which no request comes
		}
		if err := errors.Join(err, <-done); err != nil {
			t.Errorf("the house did not close well: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// Client is a browser without a screen. Without Cookie and CSRF it has no session.
type Client struct {
	h        *House
	Cookie   string
	CSRF     string
	Language string // Accept-Language
}

// The issuer of all tokens, and the client by which its people sign in.
const issuer, client = "https://issuer.example", "pages"

// SignIn begins a session and returns its browser.
func (h *House) SignIn(p auth.Principal, name string) *Client {
	p.Issuer = issuer
	return h.begin(auth.Session{Principal: &p, Name: name, Client: client})
}

// ByLink begins a session of who came by a link that the shop's clerk made.
func (h *House) ByLink(p auth.Principal) *Client {
	p.Link = &identity.Maker{Issuer: issuer, Who: "0123456789abcdef"}
	return h.begin(auth.Session{Principal: &p})
}

func (h *House) begin(who auth.Session) *Client {
	cookie, err := h.sessions.Begin(context.Background(), who)
	if err != nil {
		panic(err) // a store of a test that is out of reach
	}
	s, err := h.sessions.Verify(context.Background(), cookie)
	if err != nil {
		panic(err)
	}
	return &Client{h: h, Cookie: cookie, CSRF: s.CSRF, Language: "en"}
}

// Anonymous is a browser without a session.
func (h *House) Anonymous() *Client { return &Client{h: h, Language: "en"} }

// Page is an answer, read.
type Page struct {
	Status int
	Header http.Header
	Text   string
}

// Read decodes JSON.
func (p *Page) Read(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.Text), into); err != nil {
		t.Fatalf("%s: %v", p.Text, err)
	}
}

// Get asks for a page.
func (c *Client) Get(t testing.TB, path string) *Page {
	t.Helper()
	return c.Send(t, httptest.NewRequest(http.MethodGet, path, nil))
}

// Post sends a form as the page itself would, with the session's token.
func (c *Client) Post(t testing.TB, path string, form url.Values) *Page {
	t.Helper()
	if form == nil {
		form = url.Values{}
	}
	if c.CSRF != "" {
		form.Set("csrf", c.CSRF)
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return c.Send(t, r)
}

// Send sends a request with the browser's cookie and language.
func (c *Client) Send(t testing.TB, r *http.Request) *Page {
	t.Helper()
	if c.Cookie != "" {
		r.AddCookie(&http.Cookie{Name: Cookie, Value: c.Cookie})
	}
	if r.Header.Get("Accept-Language") == "" {
		r.Header.Set("Accept-Language", c.Language)
	}
	return c.h.send(t, r)
}

func (h *House) send(t testing.TB, r *http.Request) *Page {
	t.Helper()
	resp, err := h.app.Test(r, -1)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		t.Logf("%s %s = %d; the log says:\n%s", r.Method, r.URL.Path, resp.StatusCode, h.Log())
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && resp.StatusCode/100 != 3 && r.Method != http.MethodHead { // a browser shows no redirect
		for _, fault := range markup.Faults(string(text)) {
			t.Errorf("%s %s: %s", r.Method, r.URL.Path, fault)
		}
	}
	return &Page{Status: resp.StatusCode, Header: resp.Header, Text: string(text)}
}

// Do calls the API with a bearer token of who, and wants a status.
func (h *House) Do(t testing.TB, who auth.Principal, method, path, body string, status int) *Page {
	t.Helper()
	token, err := h.issuer.Sign(who, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, content)
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	p := h.send(t, r)
	if p.Status != status {
		t.Fatalf("%s %s = %d, want %d: %s", method, path, p.Status, status, p.Text)
	}
	return p
}

// Versions is what the store holds of grants: two calls differ if anything was changed
// between them.
func (h *House) Versions(t testing.TB, parcels ...string) string {
	t.Helper()
	var b strings.Builder
	for _, parcel := range parcels {
		snap, err := h.Store.Load(context.Background(), service.Query{Parcel: h.Service.ParcelHash(handofftest.Carrier, parcel)})
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(parcel + " " + time.Duration(snap.Version).String() + "\n")
	}
	for _, e := range h.Events(t) {
		b.WriteString(e.Type.String() + " " + e.Grant.String() + "\n")
	}
	return b.String()
}

// People of the sample.
var (
	Warehouse = auth.Principal{Subject: "wms", Shop: handofftest.Shop, Scopes: []auth.Scope{auth.Dispatch}}
	Clerk     = auth.Principal{Subject: "clerk", Shop: handofftest.Shop, Scopes: []auth.Scope{auth.Shop}}
	Customer  = auth.Principal{Subject: "cus_81", Shop: handofftest.Shop, Scopes: []auth.Scope{auth.Customer}}
	Carrier   = auth.Principal{Subject: "dispatcher", Carrier: handofftest.Carrier, Scopes: []auth.Scope{auth.Carrier}}
	Courier   = auth.Principal{Subject: "cou_7", Carrier: handofftest.Carrier, Scopes: []auth.Scope{auth.Courier}}
	Manager   = auth.Principal{Subject: "manager", Building: "bld_turm5", Scopes: []auth.Scope{auth.Building}}
	Operator  = auth.Principal{Subject: "operator", Scopes: []auth.Scope{auth.Ops}}
)

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
