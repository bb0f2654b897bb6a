package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// CSRFHeader is where an unsafe request by cookie repeats the session's token. A form of
// the pages has a field csrf instead.
const CSRFHeader = "X-Latchkey-CSRF"

// sessionLen is how long a cookie's random value is, in bytes.
const sessionLen = 32

// touchedEvery bounds how often using a session is written down.
const touchedEvery = time.Minute

// Sessions are those who signed in with a browser. What a cookie holds is random; all that
// it stands for is kept in the store, and read anew for every request, so that a session
// that was ended is over on every instance at once.
type Sessions struct{ SessionConfig }

// SessionConfig is what Sessions are made of. Store, Issuers, Keys and Random are required.
type SessionConfig struct {
	Store   identity.Sessions
	Issuers *Issuers  // who is believed: a session ends with what its issuer may say
	Keys    *Keys     // a session that a shop's link began ends with the key that made the link
	Random  io.Reader // a cryptographic source

	Life time.Duration // from its beginning; 0 is 12 hours
	Idle time.Duration // from its last use; 0 is 2 hours

	// Secure is for pages that are reached over https: the cookie then travels nowhere else.
	Secure bool

	Now func() time.Time // nil is time.Now
}

// NewSessions checks the configuration.
func NewSessions(c SessionConfig) (*Sessions, error) {
	if c.Store == nil || c.Issuers == nil || c.Keys == nil || c.Random == nil {
		return nil, errors.New("auth: sessions need a store, issuers, keys and a source of randomness")
	}
	if c.Life == 0 {
		c.Life = 12 * time.Hour
	}
	if c.Idle == 0 {
		c.Idle = 2 * time.Hour
	}
	if c.Idle < time.Minute || c.Life < c.Idle {
		return nil, errors.New("auth: a session lasts for a minute unused at least, and in all no shorter than unused")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Sessions{c}, nil
}

// Session is a person who signed in.
type Session struct {
	Principal *Principal
	Name      string // as the pages greet them; may be empty
	Client    string // client_id of the entry by which they signed in; empty: none
	CSRF      string // what an unsafe request repeats; it tells nothing of the cookie
}

// Begin keeps a new session and returns what its cookie holds. Every sign-in makes a new
// one: a value that was in the browser before is worth nothing (session fixation). The error
// is ErrToken where no one vouches for the person: neither an issuer, nor a shop's link whose
// maker may still speak for the shop.
func (s *Sessions) Begin(ctx context.Context, who Session) (cookie string, err error) {
	if err := s.vouched(ctx, who.Principal, who.Client); err != nil {
		return "", err
	}
	value := make([]byte, sessionLen)
	if _, err := io.ReadFull(s.Random, value); err != nil {
		return "", fmt.Errorf("auth: reading a new session: %w", err)
	}
	p, now := who.Principal, handoff.InstantOf(s.Now())
	kept := identity.Session{
		ID: sha256.Sum256(value), Issuer: p.Issuer, Client: who.Client, Subject: p.Subject, Shop: p.Shop, Carrier: p.Carrier, Building: p.Building,
		Device: p.Device, Name: who.Name, Began: now, Seen: now, Link: p.Link,
	}
	for _, scope := range p.Scopes {
		kept.Scopes = append(kept.Scopes, string(scope))
	}
	if err := s.Store.AddSession(ctx, kept, s.Idle); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(value), nil
}

// Verify says whose session a cookie is of. The error is ErrToken, or storage.ErrUnavailable
// where the store cannot be asked for now.
func (s *Sessions) Verify(ctx context.Context, cookie string) (*Session, error) {
	value, ok := sessionValue(cookie)
	if !ok {
		return nil, refuse(WhyMalformed)
	}
	kept, err := s.Store.Session(ctx, sha256.Sum256(value))
	if err != nil {
		return nil, err
	}
	now := s.Now()
	if kept == nil {
		return nil, refuse(WhySession)
	}
	if !now.Before(kept.Began.Time().Add(s.Life)) || !now.Before(kept.Seen.Time().Add(s.Idle)) {
		return nil, refuse(WhySessionOver)
	}
	p := &Principal{Subject: kept.Subject, Issuer: kept.Issuer, Carrier: kept.Carrier, Shop: kept.Shop, Building: kept.Building, Device: kept.Device, Link: kept.Link, IssuedAt: kept.Began}
	for _, scope := range kept.Scopes {
		p.Scopes = append(p.Scopes, Scope(scope))
	}
	if err := s.vouched(ctx, p, kept.Client); err != nil {
		return nil, err
	}
	if now.Sub(kept.Seen.Time()) >= touchedEvery {
		kept.Seen = handoff.InstantOf(now)
		// A failure here refuses no request: at worst the session ends earlier.
		_ = s.Store.TouchSession(ctx, *kept, s.Idle)
	}
	return &Session{Principal: p, Name: kept.Name, Client: kept.Client, CSRF: csrfToken(value)}, nil
}

// vouched holds a session to what it rests on, as that is now. A session that names neither an
// issuer nor the maker of a link is of a version that kept no maker: it is over.
func (s *Sessions) vouched(ctx context.Context, p *Principal, client string) error {
	switch {
	case p.Link == nil && p.Issuer != "":
		if !s.Issuers.stands(p, client) {
			return refuse(WhySessionMay)
		}
		return nil
	case p.Link == nil || p.Issuer != "":
		return refuse(WhySessionLink)
	case p.Link.Key == "":
		if !s.Issuers.speaks(p.Link.Issuer, p.Shop) {
			return refuse(WhySessionLink)
		}
		return nil
	}
	speaks, err := s.Keys.Speaks(ctx, p.Link.Key, p.Shop)
	if err == nil && !speaks {
		err = &Refusal{Why: WhySessionLink, Key: p.Link.Key}
	}
	return err
}

// End ends the session of a cookie on every instance. One that is over already is no error.
func (s *Sessions) End(ctx context.Context, cookie string) error {
	value, ok := sessionValue(cookie)
	if !ok {
		return nil
	}
	return s.Store.RemoveSession(ctx, sha256.Sum256(value))
}

// sessionValue reads a cookie in its one spelling. The library passes over line breaks.
func sessionValue(cookie string) (value []byte, ok bool) {
	value, err := base64.RawURLEncoding.DecodeString(cookie)
	return value, err == nil && len(value) == sessionLen && base64.RawURLEncoding.EncodeToString(value) == cookie
}

// csrfToken is made from the cookie's value, so that it needs no keeping, and the page
// that shows it does not show the value.
func csrfToken(value []byte) string {
	mac := hmac.New(sha256.New, value)
	mac.Write([]byte("latchkey csrf"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Meant reports whether an unsafe request by cookie repeats the session's token, and so
// comes from a page of ours.
func (s *Session) Meant(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.CSRF)) == 1
}

// CookieName is the name of the sessions' cookie. The prefix holds a browser to what
// Cookie says (RFC 6265bis section 4.1.3.2): over https, for this host alone.
func (s *Sessions) CookieName() string { return s.named("latchkey") }

func (s *Sessions) named(name string) string {
	if s.Secure {
		return "__Host-" + name
	}
	return name
}

// Cookie holds value for as long as the browser runs; empty deletes it. SameSite is Lax and
// not Strict, so that a link in a mail finds its reader signed in.
func (s *Sessions) Cookie(value string) *http.Cookie { return s.cookie("latchkey", value, 0) }

// FlowCookie holds a sign-in under way; empty deletes it.
func (s *Sessions) FlowCookie(carried string) *http.Cookie {
	return s.cookie("latchkey-sign-in", carried, flowKept)
}

func (s *Sessions) cookie(name, value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{
		Name: s.named(name), Value: value, Path: "/", Secure: s.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(life / time.Second),
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// Of is the session of a request's cookie. The error is ErrToken also where there is none.
func (s *Sessions) Of(r *http.Request) (*Session, error) {
	c, err := r.Cookie(s.CookieName())
	if err != nil {
		return nil, refuse(WhyNone)
	}
	return s.Verify(r.Context(), c.Value)
}

// Unsafe reports whether a method may change something (RFC 9110 section 9.2.1).
func Unsafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

// SameOrigin reports whether a browser sent a request from a page of the same origin, as
// its Sec-Fetch-Site says, or the Origin of a browser too old for it. With neither,
// it is false: browsers send one with every unsafe request.
func SameOrigin(fetchSite, origin, host string) bool {
	if fetchSite != "" {
		return fetchSite == "same-origin"
	}
	u, err := url.Parse(origin)
	return err == nil && host != "" && u.Scheme != "" && strings.EqualFold(u.Host, host)
}
