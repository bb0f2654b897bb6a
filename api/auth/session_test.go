package auth_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/storage"
)

// entry is a trusted issuer at which people can sign in.
func signInEntry() auth.Trust {
	return auth.Trust{
		Issuer: "https://id.swift.example", Audience: "latchkey", Keys: []byte(`{"keys":[]}`), Scopes: []auth.Scope{auth.Courier, auth.Carrier},
		Carriers: []string{"swift", "rapid"}, Login: &auth.Login{Name: "Swift", ClientID: "pages"},
	}
}

var driver = auth.Session{
	Principal: &auth.Principal{Issuer: "https://id.swift.example", Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}},
	Name:      "Courier 7", Client: "pages",
}

func newSessions(t *testing.T, c *clock, store identity.Sessions, entries ...auth.Trust) *auth.Sessions {
	t.Helper()
	issuers, err := auth.NewIssuers(t.Context(), auth.Config{Now: c.Now}, entries...)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := store.(identity.Keys)
	if keys == nil {
		keys = embedded.New(t)
	}
	s, err := auth.NewSessions(auth.SessionConfig{
		Store: store, Issuers: issuers, Keys: auth.NewKeys(keys, handofftest.Namer{}, c.Now), Random: rand.Reader, Now: c.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func begin(t *testing.T, s *auth.Sessions, who auth.Session) string {
	t.Helper()
	cookie, err := s.Begin(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

func signedIn(t *testing.T, s *auth.Sessions, cookie string) bool {
	t.Helper()
	_, err := s.Verify(t.Context(), cookie)
	if err != nil && !errors.Is(err, auth.ErrToken) {
		t.Fatal(err)
	}
	return err == nil
}

func TestSessionSaysWho(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	s := newSessions(t, c, store, signInEntry())
	cookie, other := begin(t, s, driver), begin(t, s, driver)
	got, err := s.Verify(t.Context(), cookie)
	want := *driver.Principal
	want.IssuedAt = handoff.InstantOf(start) // of the session
	if err != nil || !reflect.DeepEqual(*got.Principal, want) || got.Name != "Courier 7" || got.Client != "pages" {
		t.Fatalf("%+v %v", got, err)
	}
	again, err := s.Verify(t.Context(), other)
	if err != nil || cookie == other || again.CSRF == got.CSRF || len(got.CSRF) != 43 {
		t.Errorf("two sign-ins share a cookie or a token: %v", err)
	}
	if !got.Meant(got.CSRF) || got.Meant(again.CSRF) || got.Meant("") || (&auth.Session{CSRF: "x"}).Meant("") {
		t.Error("the token is not what shows that a request is meant")
	}
	for name, forged := range map[string]string{
		"nothing": "", "short": cookie[:42], "long": cookie + "A", "padded": cookie + "=", "a second spelling": cookie[:42] + next(cookie[42]),
		"a line break": cookie[:20] + "\n" + cookie[20:], "the key in the store": base64.RawURLEncoding.EncodeToString(idOf(t, cookie)),
		"the CSRF token": got.CSRF, "made up": base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "many": strings.Repeat("A", 1<<16),
	} {
		if signedIn(t, s, forged) {
			t.Errorf("%s is a session", name)
		}
	}
}

// next is the letter after c that decodes to the same bits but for those of no meaning.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func idOf(t *testing.T, cookie string) []byte {
	t.Helper()
	value, ok := auth.SessionValue(cookie)
	if !ok {
		t.Fatal("no cookie of ours")
	}
	id := sha256.Sum256(value)
	return id[:]
}

func TestSessionEndsByTime(t *testing.T) {
	t.Run("unused", func(t *testing.T) {
		c := &clock{now: start}
		s := newSessions(t, c, embedded.New(t), signInEntry())
		cookie := begin(t, s, driver)
		c.at(2*time.Hour - time.Second)
		if !signedIn(t, s, cookie) {
			t.Fatal("ended early")
		}
		c.at(4*time.Hour - time.Second) // used a moment before two hours
		if signedIn(t, s, cookie) {
			t.Error("unused for two hours")
		}
	})
	t.Run("in all", func(t *testing.T) {
		c := &clock{now: start}
		s := newSessions(t, c, embedded.New(t), signInEntry())
		cookie := begin(t, s, driver)
		for after := time.Hour; after < 12*time.Hour; after += time.Hour {
			c.at(after)
			if !signedIn(t, s, cookie) {
				t.Fatalf("ended after %v", after)
			}
		}
		c.at(12 * time.Hour)
		if signedIn(t, s, cookie) {
			t.Error("after twelve hours")
		}
	})
}

// Two instances over one store: what one ends is over on the other at its next request,
// even where that was using it at the same moment.
func TestSessionEndsEverywhere(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	here, there := newSessions(t, c, store, signInEntry()), newSessions(t, c, store, signInEntry())
	cookie, other := begin(t, here, driver), begin(t, here, driver)
	if !signedIn(t, here, cookie) || !signedIn(t, there, cookie) {
		t.Fatal("not signed in on both")
	}
	c.at(10 * time.Minute)
	racing := newSessions(t, c, &late{Sessions: store, before: func() {
		if err := there.End(t.Context(), cookie); err != nil {
			t.Error(err)
		}
	}}, signInEntry())
	if !signedIn(t, racing, cookie) { // it was read before it ended
		t.Error("not signed in")
	}
	if signedIn(t, here, cookie) || signedIn(t, there, cookie) {
		t.Error("signed in after signing out")
	}
	if !signedIn(t, there, other) {
		t.Error("another session ended too")
	}
	for _, forged := range []string{"", "x", cookie} {
		if err := here.End(t.Context(), forged); err != nil {
			t.Errorf("ending no session: %v", err)
		}
	}
}

// A customer who is forgotten is signed out in every browser, and nobody else is.
func TestSessionEndsWithItsCustomer(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	s := newSessions(t, c, store, signInEntry())
	customer := func(id string) auth.Session {
		return linked(id, identity.Maker{Key: shopKey(t, c, store, "demo"), Who: clerk})
	}
	one, two := begin(t, s, customer("cus_81")), begin(t, s, customer("cus_81"))
	others := []string{begin(t, s, customer("cus_82")), begin(t, s, driver)}
	if _, err := store.RemoveSessionsOf(t.Context(), handoff.CustomerRef{Shop: "demo", ID: "cus_81"}); err != nil {
		t.Fatal(err)
	}
	if signedIn(t, s, one) || signedIn(t, s, two) {
		t.Error("signed in after being forgotten")
	}
	for _, other := range others {
		if !signedIn(t, s, other) {
			t.Error("somebody else was signed out")
		}
	}
}

const clerk = "0123456789abcdef" // a pseudonym

// linked is a customer whom a link of the shop demo let in.
func linked(id string, by identity.Maker) auth.Session {
	return auth.Session{Principal: &auth.Principal{Subject: id, Shop: "demo", Scopes: []auth.Scope{auth.Customer}, Link: &by}}
}

// shopKey makes a key of a shop's staff, for an hour, and returns its id.
func shopKey(t *testing.T, c *clock, store identity.Keys, shop string) string {
	t.Helper()
	_, k, err := auth.NewKey(rand.Reader, handofftest.Namer{}, identity.APIKey{
		Scopes: []string{"shop"}, Shop: shop, Created: handoff.InstantOf(c.now), Expires: handoff.InstantOf(c.now.Add(time.Hour)),
	})
	if err == nil {
		err = store.AddAPIKey(t.Context(), k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k.ID
}

// A session that a shop's link began says no more than the maker of the link could say now: it
// ends with the key, or with what the issuer may say for the shop, at the next request.
func TestSessionByLinkEndsWithItsMaker(t *testing.T) {
	shops := func(scopes []auth.Scope, shops ...string) auth.Trust {
		return auth.Trust{Issuer: "https://id.shop.example", Audience: "latchkey", Keys: []byte(`{"keys":[]}`), Scopes: scopes, Shops: shops}
	}
	staff := shops([]auth.Scope{auth.Shop}, "demo")
	const issuer = "https://id.shop.example"
	type world struct {
		c       *clock
		store   *redisstore.Store
		issuers *auth.Issuers
	}
	for name, then := range map[string]struct {
		by   func(*testing.T, *world) identity.Maker
		do   func(*testing.T, *world, string)
		want bool
	}{
		"nothing happens": {
			func(t *testing.T, w *world) identity.Maker {
				return identity.Maker{Key: shopKey(t, w.c, w.store, "demo"), Who: clerk}
			},
			func(*testing.T, *world, string) {}, true,
		},
		"the key is revoked": {
			func(t *testing.T, w *world) identity.Maker {
				return identity.Maker{Key: shopKey(t, w.c, w.store, "demo"), Who: clerk}
			},
			func(t *testing.T, w *world, key string) {
				if found, err := w.store.RemoveAPIKey(t.Context(), key); err != nil || !found {
					t.Fatal(found, err)
				}
			}, false,
		},
		"the key is over": {
			func(t *testing.T, w *world) identity.Maker {
				return identity.Maker{Key: shopKey(t, w.c, w.store, "demo"), Who: clerk}
			},
			func(_ *testing.T, w *world, _ string) { w.c.now = w.c.now.Add(time.Hour) }, false,
		},
		"the key has a moment left": {
			func(t *testing.T, w *world) identity.Maker {
				return identity.Maker{Key: shopKey(t, w.c, w.store, "demo"), Who: clerk}
			},
			func(_ *testing.T, w *world, _ string) { w.c.now = w.c.now.Add(time.Hour - time.Second) }, true,
		},
		"its issuer stays": {
			func(*testing.T, *world) identity.Maker { return identity.Maker{Issuer: issuer, Who: clerk} },
			func(*testing.T, *world, string) {}, true,
		},
		"its issuer is gone": {
			func(*testing.T, *world) identity.Maker { return identity.Maker{Issuer: issuer, Who: clerk} },
			func(t *testing.T, w *world, _ string) {
				if err := w.issuers.Trust(signInEntry()); err != nil {
					t.Fatal(err)
				}
			}, false,
		},
		"its issuer has another shop": {
			func(*testing.T, *world) identity.Maker { return identity.Maker{Issuer: issuer, Who: clerk} },
			func(t *testing.T, w *world, _ string) {
				if err := w.issuers.Trust(shops([]auth.Scope{auth.Shop}, "other")); err != nil {
					t.Fatal(err)
				}
			}, false,
		},
		"its issuer has no staff any more": {
			func(*testing.T, *world) identity.Maker { return identity.Maker{Issuer: issuer, Who: clerk} },
			func(t *testing.T, w *world, _ string) {
				if err := w.issuers.Trust(shops([]auth.Scope{auth.Customer}, "demo")); err != nil {
					t.Fatal(err)
				}
			}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{c: &clock{now: start}, store: embedded.New(t)}
			var err error
			if w.issuers, err = auth.NewIssuers(t.Context(), auth.Config{Now: w.c.Now}, staff); err != nil {
				t.Fatal(err)
			}
			s, err := auth.NewSessions(auth.SessionConfig{
				Store: w.store, Issuers: w.issuers, Keys: auth.NewKeys(w.store, handofftest.Namer{}, w.c.Now), Random: rand.Reader, Now: w.c.Now,
			})
			if err != nil {
				t.Fatal(err)
			}
			maker := then.by(t, w)
			cookie := begin(t, s, linked("cus_81", maker))
			in, err := s.Verify(t.Context(), cookie)
			if err != nil || in.Principal.Link == nil || *in.Principal.Link != maker || in.Principal.Issuer != "" {
				t.Fatalf("%+v, %v", in, err)
			}
			then.do(t, w, maker.Key)
			_, err = s.Verify(t.Context(), cookie)
			if signedIn := err == nil; signedIn != then.want {
				t.Errorf("signed in: %v (%v)", signedIn, err)
			}
			var why *auth.Refusal
			if !then.want && (!errors.As(err, &why) || why.Why != auth.WhySessionLink || why.Key != maker.Key) {
				t.Errorf("refused with %v", err)
			}
			if _, err := s.Begin(t.Context(), linked("cus_81", maker)); (err == nil) != then.want || err != nil && !errors.Is(err, auth.ErrToken) {
				t.Errorf("a new one: %v", err)
			}
		})
	}
}

// A session for which no one vouches is over: an older version kept such of who came by a
// link, without its maker. Nor does a key vouch for another shop's customer.
func TestSessionThatNobodyVouchesFor(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	s := newSessions(t, c, store, signInEntry())
	for name, link := range map[string]*identity.Maker{
		"without a maker":         nil,
		"a maker that is nothing": {Who: clerk},
		"another shop's key":      {Key: shopKey(t, c, store, "other"), Who: clerk},
		"no key of ours":          {Key: "made-up", Who: clerk},
	} {
		value := make([]byte, 32)
		_, _ = rand.Read(value)
		kept := identity.Session{
			ID: sha256.Sum256(value), Subject: "cus_81", Shop: "demo", Scopes: []string{"customer"}, Link: link,
			Began: handoff.InstantOf(c.now), Seen: handoff.InstantOf(c.now),
		}
		if err := store.AddSession(t.Context(), kept, time.Hour); err != nil {
			t.Fatal(err)
		}
		if signedIn(t, s, base64.RawURLEncoding.EncodeToString(value)) {
			t.Errorf("%s: signed in", name)
		}
	}
}

// late does something before it writes that a session was used.
type late struct {
	identity.Sessions
	before func()
}

func (l *late) TouchSession(ctx context.Context, s identity.Session, keep time.Duration) error {
	l.before()
	return l.Sessions.TouchSession(ctx, s, keep)
}

// A session says no more than its issuer could say now.
func TestSessionEndsWithItsIssuer(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	s := newSessions(t, c, store, signInEntry())
	for name, change := range map[string]struct {
		to   func(*auth.Trust)
		want bool
	}{
		"nothing":              {func(*auth.Trust) {}, true},
		"more":                 {func(e *auth.Trust) { e.Scopes, e.Shops = append(e.Scopes, auth.Shop), []string{"demo"} }, true},
		"its scope":            {func(e *auth.Trust) { e.Scopes = []auth.Scope{auth.Carrier} }, false},
		"another scope":        {func(e *auth.Trust) { e.Scopes = []auth.Scope{auth.Courier} }, true},
		"its carrier":          {func(e *auth.Trust) { e.Carriers = []string{"rapid"} }, false},
		"another carrier":      {func(e *auth.Trust) { e.Carriers = []string{"swift"} }, true},
		"sign-in":              {func(e *auth.Trust) { e.Login = nil }, false},
		"its client":           {func(e *auth.Trust) { e.Login = &auth.Login{Name: "Swift", ClientID: "new"} }, false},
		"the issuer's name":    {func(e *auth.Trust) { e.Issuer = "https://id.rapid.example" }, false},
		"what the button says": {func(e *auth.Trust) { e.Login = &auth.Login{Name: "Rapid", ClientID: "pages"} }, true},
	} {
		cookie := begin(t, s, driver)
		e := signInEntry()
		change.to(&e)
		if err := s.Issuers.Trust(e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := signedIn(t, s, cookie); got != change.want {
			t.Errorf("after a change of %s: signed in %v", name, got)
		}
		if err := s.Issuers.Trust(signInEntry()); err != nil {
			t.Fatal(err)
		}
	}
}

// Out of reach is not signed out.
func TestSessionsOutOfReach(t *testing.T) {
	c := &clock{now: start}
	s := newSessions(t, c, embedded.New(t), signInEntry())
	cookie := begin(t, s, driver)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(gone, cookie); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, auth.ErrToken) {
		t.Errorf("%v", err)
	}
	if _, err := s.Begin(gone, driver); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	s.Random = bytes.NewReader(make([]byte, auth.SessionLen-1))
	if _, err := s.Begin(t.Context(), driver); err == nil {
		t.Error("a session of too little randomness")
	}
}

func TestSessionCookie(t *testing.T) {
	c := &clock{now: start}
	s := newSessions(t, c, embedded.New(t), signInEntry())
	if got := s.Cookie("v").String(); got != "latchkey=v; Path=/; HttpOnly; SameSite=Lax" {
		t.Error(got)
	}
	s.Secure = true
	if got := s.Cookie("v").String(); got != "__Host-latchkey=v; Path=/; HttpOnly; Secure; SameSite=Lax" {
		t.Error(got)
	}
	if got := s.Cookie("").String(); got != "__Host-latchkey=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
		t.Error(got)
	}
	r, err := http.NewRequest("GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	value := begin(t, s, driver)
	r.AddCookie(&http.Cookie{Name: "latchkey", Value: value}) // which a page of a sister domain could set
	if _, err := s.Of(r); !errors.Is(err, auth.ErrToken) {
		t.Errorf("a cookie without the prefix: %v", err)
	}
	r.AddCookie(&http.Cookie{Name: "__Host-latchkey", Value: value})
	if _, err := s.Of(r); err != nil {
		t.Error(err)
	}
}

func TestSessionConfig(t *testing.T) {
	issuers, err := auth.NewIssuers(t.Context(), auth.Config{}, signInEntry())
	if err != nil {
		t.Fatal(err)
	}
	store := embedded.New(t)
	keys := auth.NewKeys(store, handofftest.Namer{}, nil)
	for name, c := range map[string]auth.SessionConfig{
		"no store":               {Issuers: issuers, Keys: keys, Random: rand.Reader},
		"no issuers":             {Store: store, Keys: keys, Random: rand.Reader},
		"no keys":                {Store: store, Issuers: issuers, Random: rand.Reader},
		"no randomness":          {Store: store, Issuers: issuers, Keys: keys},
		"over at once":           {Store: store, Issuers: issuers, Keys: keys, Random: rand.Reader, Idle: time.Second},
		"longer unused than all": {Store: store, Issuers: issuers, Keys: keys, Random: rand.Reader, Life: time.Hour},
	} {
		if _, err := auth.NewSessions(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	for _, c := range []struct {
		fetchSite, origin, host string
		want                    bool
	}{
		{"same-origin", "", "h", true},
		{"same-origin", "https://h", "h", true},
		{"cross-site", "https://h", "h", false}, // the header that no page can write decides
		{"same-site", "", "h", false},
		{"none", "", "h", false},
		{"", "https://h", "h", true},
		{"", "http://h:8080", "h:8080", true},
		{"", "https://H", "h", true},
		{"", "https://h:8080", "h", false},
		{"", "https://other", "h", false},
		{"", "null", "h", false},
		{"", "//h", "h", false},
		{"", "", "h", false},
		{"", "", "", false},
	} {
		if got := auth.SameOrigin(c.fetchSite, c.origin, c.host); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
