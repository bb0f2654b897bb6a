package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"

	"latchkey/handoff"
	"latchkey/handoff/keyring"
)

// CallbackPath is where an issuer sends people back to, and CallbackPath/CALLBACK for an
// entry with a callback of its own.
const CallbackPath = "/sign-in/callback"

const (
	flowKept      = 10 * time.Minute // from the button to the way back
	metadataKept  = 10 * time.Minute // what discovery said
	metadataAgain = 5 * time.Second  // between two tries of one that cannot be reached
	maxName       = 100              // characters of a name that the pages greet with
)

// Sealer keeps what a browser carries from being read or changed: keyring.Ring.
type Sealer interface {
	Seal(plaintext, context []byte) ([]byte, error)
	Open(sealed, context []byte) ([]byte, error)
}

// LoginConfig is what Logins are made of. All but Now is required.
type LoginConfig struct {
	Issuers   *Issuers
	Sealer    Sealer
	Random    io.Reader // a cryptographic source
	PublicURL string    // where the pages are, without a path: https://HOST

	Now func() time.Time // nil is time.Now
}

// Logins signs people in at the issuers whose entries say how: OpenID Connect's code flow
// (Core 1.0 section 3.1) with PKCE (RFC 7636), a nonce, and a state that only the browser
// that began can bring back. What an ID token says is believed as far as the same
// issuer's bearer tokens are.
type Logins struct {
	LoginConfig

	mu          sync.Mutex
	discoveries map[string]*discovery // by issuer
}

// discovery asks one issuer for its metadata, for all who wait for it.
type discovery struct {
	mu    sync.Mutex
	known *metadata // nil: none yet
	at    time.Time // when it was asked for
	tried time.Time
}

// metadata is what an issuer says of itself (OpenID Connect Discovery 1.0 section 3, RFC 8414
// section 2).
type metadata struct {
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	TellsIssuer   bool     `json:"authorization_response_iss_parameter_supported"`
}

// flow is a sign-in under way, as its browser carries it: sealed, in a cookie.
type flow struct {
	Issuer   string    `json:"issuer"`
	Client   string    `json:"client"`
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Next     string    `json:"next"`
	Until    time.Time `json:"until"`
}

// LoginError is why a sign-in failed. Its text is for the log: it holds nothing
// of what the browser or the issuer sent.
type LoginError struct {
	Kind   LoginKind
	Issuer string // empty where it is not known
	Reason string
}

func (e *LoginError) Error() string { return "auth: sign-in: " + string(e.Kind) + ": " + e.Reason }

// LoginKind is what a person is told.
type LoginKind string

// What a sign-in can come to.
const (
	LoginOver        LoginKind = "over"        // begun too long ago, in another browser, or not at all
	LoginDeclined    LoginKind = "declined"    // the person or the issuer said no
	LoginRefused     LoginKind = "refused"     // what came back is not to be believed
	LoginNobody      LoginKind = "nobody"      // signed in, and nothing here is theirs
	LoginUnavailable LoginKind = "unavailable" // the issuer does not answer
	LoginSubject     LoginKind = "subject"     // the issuer's name for the person cannot be used
	LoginSeveral     LoginKind = "several"     // the account is of several shops, carriers or buildings
)

// NewLogins checks the configuration.
func NewLogins(c LoginConfig) (*Logins, error) {
	if c.Issuers == nil || c.Sealer == nil || c.Random == nil {
		return nil, errors.New("auth: sign-in needs issuers, a sealer and a source of randomness")
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || !confidential(u) || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("auth: the public URL must be https://HOST (http on loopback), without a path")
	}
	c.PublicURL = u.Scheme + "://" + u.Host
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Logins{LoginConfig: c, discoveries: map[string]*discovery{}}, nil
}

// Choice is an issuer at which one can sign in, and the scopes that it may give.
type Choice struct {
	ID, Name string
	Scopes   []Scope
}

// Choices are the issuers at which one can sign in now, in the order of the file's names.
func (l *Logins) Choices() []Choice {
	var all []Choice
	for _, e := range l.entries() {
		all = append(all, Choice{e.choice(), e.Login.Name, e.Scopes})
	}
	return all
}

func (l *Logins) entries() []*entry {
	var all []*entry
	for _, entries := range l.Issuers.trusted.Load().issuers {
		for _, e := range entries {
			if e.Login != nil {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.Login.Name, b.Login.Name), cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Login.ClientID, b.Login.ClientID))
	})
	return all
}

// choice names an entry in a form, without its place in a list that may change meanwhile.
func (e *entry) choice() string {
	sum := sha256.Sum256([]byte(e.Issuer + "\n" + e.Login.ClientID))
	return hex.EncodeToString(sum[:8])
}

// Start begins a sign-in. The browser goes to the URL, and carries the flow until it is back.
func (l *Logins) Start(ctx context.Context, choice, next string) (to, carried string, err error) {
	entries := l.entries()
	i := slices.IndexFunc(entries, func(e *entry) bool { return e.choice() == choice })
	if i < 0 {
		return "", "", &LoginError{Kind: LoginOver, Reason: "the chosen issuer is not, or no longer, in the file"}
	}
	e := entries[i]
	m, err := l.metadata(ctx, e)
	if err != nil {
		return "", "", err
	}
	f := flow{Issuer: e.Issuer, Client: e.Login.ClientID, Next: next, Until: l.Now().Add(flowKept)}
	for _, value := range []*string{&f.State, &f.Nonce, &f.Verifier} {
		random := make([]byte, 32)
		if _, err := io.ReadFull(l.Random, random); err != nil {
			return "", "", fmt.Errorf("auth: reading a new sign-in: %w", err)
		}
		*value = base64.RawURLEncoding.EncodeToString(random)
	}
	plain, err := json.Marshal(f)
	if err != nil {
		return "", "", err
	}
	sealed, err := l.Sealer.Seal(plain, flowContext)
	if err != nil {
		return "", "", fmt.Errorf("auth: sealing a sign-in: %w", err)
	}
	to = l.client(e, m).AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier))
	return to, base64.RawURLEncoding.EncodeToString(sealed), nil
}

var flowContext = []byte("sign-in")

// Finish ends a sign-in: callback is the end of the path at which the browser came back,
// answer the query that it came with. Next is where the person wanted to go.
func (l *Logins) Finish(ctx context.Context, carried, callback string, answer url.Values) (who Session, next string, err error) {
	f, err := l.open(carried)
	if err != nil {
		return Session{}, "", err
	}
	refuse := func(kind LoginKind, reason string) (Session, string, error) {
		return Session{}, "", &LoginError{kind, f.Issuer, reason}
	}
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(answer[name]) > 1 {
			return refuse(LoginRefused, name+" came twice")
		}
	}
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(f.State)) != 1 {
		return refuse(LoginOver, "the state is of another sign-in")
	}
	e, several := l.of(f)
	if e == nil {
		return refuse(LoginOver, "the issuer is no longer in the file")
	}
	m, err := l.metadata(ctx, e)
	if err != nil {
		return Session{}, "", err
	}
	// Of several issuers, none may pass for another (RFC 9700 section 4.4): either it says
	// who it is (RFC 9207), or no other issuer sends people to this callback.
	switch iss, said := answer["iss"]; {
	case callback != e.Login.Callback:
		return refuse(LoginRefused, "it came back to another issuer's callback")
	case said && iss[0] != e.Issuer:
		return refuse(LoginRefused, "another issuer answered")
	case !said && (m.TellsIssuer || several && callback == ""):
		return refuse(LoginRefused, "the answer does not say of which issuer it is")
	}
	if answer.Has("error") {
		return refuse(LoginDeclined, "the issuer answered with "+errorCode(answer.Get("error")))
	}
	raw, err := l.exchange(ctx, e, m, f, answer.Get("code"))
	if err != nil {
		return Session{}, "", err
	}
	c, err := l.claims(ctx, e, f, raw)
	if err != nil {
		return refuse(LoginRefused, err.Error())
	}
	principal, err := e.principal(c)
	var why *Refusal
	switch {
	case errors.As(err, &why) && why.Why == WhySubject, err == nil && principal.Subject == "":
		return refuse(LoginSubject, "the ID token's subject cannot be used: "+e.Claims.Subject+" is missing, no text, too long, or has control characters")
	case errors.As(err, &why) && why.Why == WhySeveral:
		return refuse(LoginSeveral, "the ID token lists several tenants in one claim: a session is of one")
	case errors.As(err, &why) && why.Why == WhyUnusable:
		return refuse(LoginNobody, "a claim of the ID token is of the wrong type")
	case err != nil:
		return refuse(LoginNobody, "the ID token speaks for a tenant for whom its issuer may not speak")
	case len(principal.Scopes) == 0:
		return refuse(LoginNobody, "the ID token names no scope that its issuer may give")
	}
	return Session{Principal: principal, Client: f.Client, Name: greeting(c)}, f.Next, nil
}

func (l *Logins) open(carried string) (flow, error) {
	var f flow
	sealed, err := base64.RawURLEncoding.DecodeString(carried)
	if err != nil || carried == "" {
		return f, &LoginError{Kind: LoginOver, Reason: "none was begun in this browser"}
	}
	plain, err := l.Sealer.Open(sealed, flowContext)
	if err != nil || json.Unmarshal(plain, &f) != nil {
		return f, &LoginError{Kind: LoginOver, Reason: "none was begun in this browser"}
	}
	if !l.Now().Before(f.Until) {
		return f, &LoginError{LoginOver, f.Issuer, "it took too long"}
	}
	return f, nil
}

// of is the entry of a flow, and whether there are others.
func (l *Logins) of(f flow) (e *entry, several bool) {
	entries := l.entries()
	i := slices.IndexFunc(entries, func(e *entry) bool { return e.Issuer == f.Issuer && e.Login.ClientID == f.Client })
	if i < 0 {
		return nil, false
	}
	return entries[i], slices.ContainsFunc(entries, func(other *entry) bool { return other.Issuer != f.Issuer })
}

// client is how an entry presents itself. Where the secret goes is never found out by
// trying, which would show a code twice.
func (l *Logins) client(e *entry, m *metadata) *oauth2.Config {
	c := &oauth2.Config{
		ClientID: e.Login.ClientID, ClientSecret: e.secret, RedirectURL: l.PublicURL + CallbackPath,
		Scopes:   append([]string{oidc.ScopeOpenID}, e.Login.Scopes...),
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInHeader},
	}
	if e.Login.Callback != "" {
		c.RedirectURL += "/" + e.Login.Callback
	}
	ways := m.TokenAuth
	if e.secret == "" || len(ways) > 0 && !slices.Contains(ways, "client_secret_basic") && slices.Contains(ways, "client_secret_post") {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return c
}

// exchange trades a code for an ID token.
func (l *Logins) exchange(ctx context.Context, e *entry, m *metadata, f flow, code string) (string, error) {
	refuse := func(kind LoginKind, reason string) (string, error) { return "", &LoginError{kind, e.Issuer, reason} }
	if code == "" || len(code) > maxToken {
		return refuse(LoginRefused, "the answer holds no code")
	}
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	client := l.httpClient()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // no other server gets the code
	token, err := l.client(e, m).Exchange(oidc.ClientContext(ctx, client), code, oauth2.VerifierOption(f.Verifier))
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode >= http.StatusInternalServerError:
		return refuse(LoginUnavailable, fmt.Sprintf("the token endpoint answered with status %d", refused.Response.StatusCode))
	case errors.As(err, &refused):
		return refuse(LoginRefused, "the token endpoint answered with "+errorCode(refused.ErrorCode))
	case err != nil:
		return refuse(LoginUnavailable, "the token endpoint: "+told(err))
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" || len(raw) > maxToken {
		return refuse(LoginRefused, "the token endpoint gave no ID token")
	}
	return raw, nil
}

// claims verifies an ID token (Core 1.0 section 3.1.3.7).
func (l *Logins) claims(ctx context.Context, e *entry, f flow, raw string) (jwt.MapClaims, error) {
	verifier := oidc.NewVerifier(e.Issuer, idKeys{e.source}, &oidc.Config{ClientID: f.Client, SupportedSigningAlgs: methods, Now: l.Now})
	token, err := verifier.Verify(ctx, raw)
	if err != nil {
		return nil, errors.New("the ID token is not valid") // whose error may repeat what it holds
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(f.Nonce)) != 1 {
		return nil, errors.New("the ID token is of another sign-in")
	}
	c := jwt.MapClaims{}
	if err := token.Claims(&c); err != nil {
		return nil, errors.New("the ID token's claims cannot be read")
	}
	if party, given := c["azp"]; given && party != f.Client || !given && len(token.Audience) > 1 {
		return nil, errors.New("the ID token is for another client")
	}
	return c, nil
}

// idKeys are an issuer's keys as package oidc asks for them: the same, and as carefully
// fetched, as those of its bearer tokens.
type idKeys struct{ source *keySource }

var unclaimed = jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithValidMethods(methods), jwt.WithoutClaimsValidation())

// VerifySignature implements oidc.KeySet.
func (k idKeys) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	_, err := unclaimed.Parse(raw, func(t *jwt.Token) (any, error) {
		if _, critical := t.Header["crit"]; critical {
			return nil, ErrToken
		}
		return k.source.key(ctx, t)
	})
	if err != nil {
		return nil, ErrToken
	}
	return base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
}

// metadata is what an entry's issuer said of itself lately.
func (l *Logins) metadata(ctx context.Context, e *entry) (*metadata, error) {
	l.mu.Lock()
	d := l.discoveries[e.Issuer]
	if d == nil {
		d = &discovery{}
		l.discoveries[e.Issuer] = d
	}
	l.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	now := l.Now()
	if age := now.Sub(d.at); d.known != nil && age >= 0 && age < metadataKept {
		return d.known, nil
	}
	if since := now.Sub(d.tried); since >= 0 && since < metadataAgain {
		return nil, &LoginError{LoginUnavailable, e.Issuer, "discovery: it failed a moment ago"}
	}
	d.tried = now
	m, err := l.discover(ctx, e.Issuer)
	if err != nil {
		return nil, &LoginError{LoginUnavailable, e.Issuer, "discovery: " + err.Error()}
	}
	d.known, d.at = m, now
	return m, nil
}

func (l *Logins) discover(ctx context.Context, issuer string) (*metadata, error) {
	client := l.httpClient()
	client.CheckRedirect = onward
	// Others wait for the same answer: it must come even if the first caller is gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
	defer cancel()
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, client), issuer)
	if err != nil {
		return nil, errors.New(told(err))
	}
	m := &metadata{}
	if found.Claims(m) != nil {
		return nil, errors.New("not the answer that is expected")
	}
	for _, endpoint := range []string{m.Authorization, m.Token} {
		if u, err := url.Parse(endpoint); err != nil || !confidential(u) {
			return nil, errors.New("an endpoint is not https")
		}
	}
	if len(m.Challenges) > 0 && !slices.Contains(m.Challenges, "S256") {
		return nil, errors.New("it does not take PKCE with S256")
	}
	return m, nil
}

// httpClient is that of the issuers' keys, held to answers of bounded length.
func (l *Logins) httpClient() *http.Client {
	c := *l.Issuers.config.Client
	c.Transport = bounded{c.Transport}
	return &c
}

type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	next := b.RoundTripper
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxFetched), resp.Body}
	}
	return resp, err
}

// told is the text of a network error, and a fixed text for any other: the others
// repeat what was answered.
func told(err error) string {
	var network *url.Error
	var mismatch *oidc.IssuerMismatchError
	switch {
	case errors.As(err, &network):
		return network.Err.Error()
	case errors.As(err, &mismatch):
		return "the document is of another issuer"
	}
	return "not the answer that is expected"
}

var errorCodes = regexp.MustCompile(`^[a-z_]{1,40}$`)

// errorCode is an error of RFC 6749, if it looks like one.
func errorCode(sent string) string {
	if errorCodes.MatchString(sent) {
		return sent
	}
	return "no known error"
}

// greeting is the name claim (Core 1.0 section 5.1), fit to be shown.
func greeting(c jwt.MapClaims) string {
	name, _ := c["name"].(string)
	name = handoff.Text(strings.Map(func(r rune) rune {
		if handoff.BreaksLine(r) {
			return ' '
		}
		return r
	}, name))
	if handoff.Blank(name) {
		return ""
	}
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName])
	}
	return name
}

// readSecret is the client's secret; empty for a public client.
func (t *Trust) readSecret() (string, error) {
	if t.Login == nil || t.Login.SecretFile == "" {
		return "", nil
	}
	secret, err := keyring.ReadPassword(t.Login.SecretFile)
	if err != nil {
		return "", fmt.Errorf("%s: login: client_secret_file: %w", t.Issuer, err)
	}
	return secret, nil
}
