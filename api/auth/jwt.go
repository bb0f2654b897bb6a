package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"latchkey/handoff"
)

// Config describes the one issuer whose tokens are accepted. Exactly one of JWKS and
// URL is given.
type Config struct {
	// JWKS is the issuer's key set (RFC 7517 section 5).
	JWKS []byte

	// URL is where the key set is fetched: at the start, every hour, and when a token
	// names a key that is not in it, but then at most once a minute, so that forged
	// tokens cause no flood.
	URL string

	// Client fetches URL. Nil is a client with a timeout of five seconds.
	Client *http.Client

	// Failed hears of a fetch that failed; nil ignores it. The keys fetched before stay
	// in use.
	Failed func(error)

	Issuer   string // iss; empty accepts any
	Audience string // aud; empty accepts any

	Now func() time.Time // nil is time.Now
}

const (
	leeway    = 10 * time.Second // how far the issuer's clock may be off
	maxToken  = 8 << 10          // bytes
	maxJWKS   = 1 << 20          // bytes
	cacheSize = 8 << 10          // tokens a generation
	cacheFor  = 5 * time.Minute  // how long a withdrawn key may still be honoured
)

// methods are the signatures that are accepted: all asymmetric, so that a public key
// can never serve as an HMAC secret (RFC 8725 section 2.1).
var methods = []string{
	jwt.SigningMethodEdDSA.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg(),
}

type verifier struct {
	parser *jwt.Parser
	keys   keyfunc.Keyfunc
	now    func() time.Time
	cache  cache
}

// NewVerifier makes a Verifier of JWTs (RFC 7519). A token must be signed by a key of
// the set, carry exp, and name the configured issuer and audience. Where the set is
// fetched, ctx ends the fetching, and a first fetch that fails is an error.
func NewVerifier(ctx context.Context, c Config) (Verifier, error) {
	if (len(c.JWKS) == 0) == (c.URL == "") {
		return nil, errors.New("auth: either a key set or the URL of one is needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("auth: key set: %w", err)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(c.Now), jwt.WithStrictDecoding(),
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	return &verifier{parser: jwt.NewParser(options...), keys: keys, now: c.Now}, nil
}

func (c *Config) keys(ctx context.Context) (keyfunc.Keyfunc, error) {
	if len(c.JWKS) > 0 {
		return keyfunc.NewJWKSetJSON(c.JWKS)
	}
	client := c.Client
	if client == nil {
		client = &http.Client{Timeout: 5 * time.Second}
	}
	bounded := *client
	bounded.Transport = limited{cmp.Or(client.Transport, http.DefaultTransport)}
	failed := c.Failed
	if failed == nil {
		failed = func(error) {}
	}
	remote, err := jwkset.NewStorageFromHTTP(c.URL, jwkset.HTTPClientStorageOptions{
		Client: &bounded, Ctx: ctx, HTTPTimeout: 5 * time.Second, RefreshInterval: time.Hour,
		RefreshErrorHandler: func(_ context.Context, err error) { failed(err) },
	})
	if err != nil {
		return nil, err
	}
	storage, err := jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
		HTTPURLs: map[string]jwkset.Storage{c.URL: remote},
		// The wait bounds the fetch as well. Whoever would wait longer for a turn fails at once.
		RateLimitWaitMax:  3 * time.Second,
		RefreshUnknownKID: rate.NewLimiter(rate.Every(time.Minute), 1),
	})
	if err != nil {
		return nil, err
	}
	return keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: storage})
}

// limited refuses to read more of an answer than a key set can need.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxJWKS), resp.Body}
	}
	return resp, err
}

// claims is the payload of a token. Scope is as in RFC 8693 section 4.2.
type claims struct {
	Scope    string `json:"scope"`
	Carrier  string `json:"carrier_id,omitempty"`
	Shop     string `json:"shop_id,omitempty"`
	Building string `json:"building_id,omitempty"`
	jwt.RegisteredClaims
}

// Verify implements Verifier. A token that was verified is remembered for five
// minutes, or until it expires: checking an Ed25519 signature takes 50 µs, and a
// courier sends the same token hundreds of times.
func (v *verifier) Verify(ctx context.Context, token string) (*Principal, error) {
	if len(token) > maxToken {
		return nil, ErrToken
	}
	now, key := v.now(), sha256.Sum256([]byte(token))
	if p := v.cache.get(key, now); p != nil {
		return p, nil
	}
	var c claims
	parsed, err := v.parser.ParseWithClaims(token, &c, v.keys.KeyfuncCtx(ctx))
	if err != nil {
		return nil, ErrToken
	}
	if _, critical := parsed.Header["crit"]; critical { // none is understood (RFC 7515 section 4.1.11)
		return nil, ErrToken
	}
	p, ok := c.principal()
	if !ok {
		return nil, ErrToken
	}
	if until := c.ExpiresAt.Time; now.Before(until) { // not within the leeway: there exp is over
		v.cache.put(key, p, earlier(until, now.Add(cacheFor)))
	}
	return p, nil
}

// principal reads the claims. Ids become parts of keys and log lines, so they keep to
// the rule for all ids from outside.
func (c *claims) principal() (*Principal, bool) {
	for _, id := range []string{c.Carrier, c.Shop, c.Building} {
		if id != "" && handoff.CheckID(id) != nil {
			return nil, false
		}
	}
	p := &Principal{Subject: c.Subject, Carrier: c.Carrier, Shop: c.Shop, Building: c.Building}
	for s := range strings.FieldsSeq(c.Scope) {
		p.Scopes = append(p.Scopes, Scope(s))
	}
	return p, true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// cache remembers verified tokens by their digest, so that a dump of memory holds no
// token. It keeps two generations: when the young one is full it becomes the old one,
// and what is still asked for moves back. So it is bounded without a list to maintain.
type cache struct {
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]cached
}

type cached struct {
	principal *Principal
	until     time.Time
}

func (c *cache) get(key [sha256.Size]byte, now time.Time) *Principal {
	c.mu.RLock()
	e, young := c.young[key]
	if !young {
		e = c.old[key]
	}
	c.mu.RUnlock()
	if e.principal == nil || !now.Before(e.until) {
		return nil
	}
	if !young {
		c.put(key, e.principal, e.until)
	}
	return e.principal
}

func (c *cache) put(key [sha256.Size]byte, p *Principal, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= cacheSize {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]cached)
	}
	c.young[key] = cached{p, until}
}

// BearerToken takes the token out of an Authorization header (RFC 6750 section 2.1).
// The scheme's name is case-insensitive (RFC 9110 section 11.1).
func BearerToken(header string) (token string, ok bool) {
	const scheme = "Bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	token = strings.TrimLeft(header[len(scheme):], " ")
	return token, token != "" && !strings.ContainsAny(token, " ,")
}
