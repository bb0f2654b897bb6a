package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"latchkey/handoff"
)

// Config is what Issuers need besides whom to trust. The zero Config is complete.
type Config struct {
	// Client fetches key sets. Nil is one that follows no redirect to where the answer
	// could be changed on the way.
	Client *http.Client

	// Failed hears of an issuer that could not be asked; nil ignores it. Keys that were
	// fetched before stay in use.
	Failed func(issuer string, err error)

	// Names make ids of subjects that are none (see SubjectID). Nil: they stay as they are, and
	// are refused where an id is needed.
	Names handoff.Namer

	Now func() time.Time // nil is time.Now
}

const (
	leeway     = 10 * time.Second // how far an issuer's clock may be off
	maxToken   = 8 << 10          // bytes
	maxSubject = 255              // OpenID Connect Core 1.0 section 2
	tokenKept  = time.Minute      // how long a verified token is remembered
)

// methods are the signatures that are accepted: all asymmetric, so that a public key
// can never serve as an HMAC secret (RFC 8725 section 2.1).
var methods = []string{
	jwt.SigningMethodEdDSA.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg(),
}

// Issuers is the Verifier of JWTs (RFC 7519) of several issuers. A token must be signed
// by a key of its issuer, carry exp and iat, and name an audience that is configured with the
// issuer; it speaks for those alone for whom its issuer may.
type Issuers struct {
	ctx    context.Context
	config Config

	changing sync.Mutex
	trusted  atomic.Pointer[trusted]
}

// trusted is all that one configuration says and all that was verified by it, so that a
// token of an issuer that is removed is forgotten along with it.
type trusted struct {
	issuers map[string][]*entry
	sources map[sourceName]*keySource
	cache   cache[[sha256.Size]byte, *Principal] // by digest, so that a dump of memory holds no token
}

type entry struct {
	Trust
	parser *jwt.Parser
	source *keySource
	secret string // of the client that signs people in
	names  handoff.Namer
}

type sourceName struct{ issuer, url string }

// NewIssuers makes a Verifier that trusts the entries. It does not wait for any issuer
// to answer. Ctx ends the fetching of keys.
func NewIssuers(ctx context.Context, c Config, entries ...Trust) (*Issuers, error) {
	if c.Client == nil {
		c.Client = &http.Client{Timeout: fetchWithin, CheckRedirect: onward}
	}
	if c.Failed == nil {
		c.Failed = func(string, error) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	v := &Issuers{ctx: ctx, config: c}
	v.trusted.Store(new(trusted))
	return v, v.Trust(entries...)
}

// Trust replaces all entries at once, or none of them if there is an error. Keys that
// are known of an issuer that stays are kept.
func (v *Issuers) Trust(entries ...Trust) error {
	if err := checkTrust(entries); err != nil {
		return err
	}
	v.changing.Lock()
	defer v.changing.Unlock()
	before := v.trusted.Load()
	next := &trusted{issuers: map[string][]*entry{}, sources: map[sourceName]*keySource{}}
	for _, t := range entries {
		source, err := v.source(t, before, next)
		if err != nil {
			return err
		}
		secret, err := t.readSecret()
		if err != nil {
			return err
		}
		t.Claims = t.Claims.named()
		next.issuers[t.Issuer] = append(next.issuers[t.Issuer], &entry{Trust: t, source: source, secret: secret, names: v.config.Names, parser: jwt.NewParser(
			jwt.WithIssuer(t.Issuer), jwt.WithAudience(t.Audience), jwt.WithExpirationRequired(), jwt.WithValidMethods(methods),
			jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(v.config.Now), jwt.WithStrictDecoding(),
		)})
	}
	v.trusted.Store(next)
	for _, s := range next.sources {
		go s.current(v.ctx, false) // so that the first token need not wait, and a failure is told early
	}
	return nil
}

func (v *Issuers) source(t Trust, before, next *trusted) (*keySource, error) {
	if t.Keys != nil {
		var found jwkset.JWKSMarshal
		if err := json.Unmarshal(t.Keys, &found); err != nil {
			return nil, err
		}
		set, err := keysOf(found)
		return &keySource{set: set}, err
	}
	name := sourceName{t.Issuer, t.JWKSURL}
	s := next.sources[name]
	if s == nil {
		s = before.sources[name]
	}
	if s == nil {
		s = &keySource{issuer: t.Issuer, url: t.JWKSURL, ctx: v.ctx, client: v.config.Client, failed: v.config.Failed, now: v.config.Now}
	}
	next.sources[name] = s
	return s, nil
}

var unverified = jwt.NewParser(jwt.WithStrictDecoding())

// choose finds the entry by which a token is to be verified, from what it says of itself.
func (t *trusted) choose(token string) (*entry, error) {
	var c jwt.RegisteredClaims
	parsed, _, err := unverified.ParseUnverified(token, &c)
	if err != nil {
		return nil, refuse(WhyMalformed)
	}
	if _, critical := parsed.Header["crit"]; critical { // none is understood (RFC 7515 section 4.1.11)
		return nil, refuse(WhyMalformed)
	}
	if len(t.issuers[c.Issuer]) == 0 {
		return nil, refuse(WhyIssuer)
	}
	var chosen *entry
	for _, e := range t.issuers[c.Issuer] {
		if slices.Contains(c.Audience, e.Audience) {
			if chosen != nil { // for two audiences of ours: what it may do is not defined
				return nil, refuse(WhyAudience)
			}
			chosen = e
		}
	}
	if chosen == nil {
		return nil, refuse(WhyAudience)
	}
	return chosen, nil
}

// Verify implements Verifier. A token that was verified is remembered for a minute, or
// until it expires: checking an Ed25519 signature takes 50 µs, and a courier sends the
// same token hundreds of times.
func (v *Issuers) Verify(ctx context.Context, token string) (*Principal, error) {
	if len(token) > maxToken {
		return nil, refuse(WhyMalformed)
	}
	t := v.trusted.Load()
	now, digest := v.config.Now(), sha256.Sum256([]byte(token))
	if p, ok := t.cache.get(digest, now); ok {
		return p, nil
	}
	e, err := t.choose(token)
	if err != nil {
		return nil, err
	}
	c := jwt.MapClaims{}
	if _, err := e.parser.ParseWithClaims(token, c, func(parsed *jwt.Token) (any, error) { return e.source.key(ctx, parsed) }); err != nil {
		return nil, whyOf(err)
	}
	expires, err := c.GetExpirationTime()
	if err != nil {
		return nil, refuse(WhyClaims)
	}
	issued, err := c.GetIssuedAt()
	if err != nil || issued == nil {
		return nil, refuse(WhyClaims)
	}
	old := issued.Add(e.life())
	if !now.Before(old.Add(leeway)) {
		return nil, refuse(WhyTooOld)
	}
	p, err := e.principal(c)
	if err != nil {
		return nil, err
	}
	p.IssuedAt = handoff.InstantOf(issued.Time)
	if until := earlier(expires.Time, old); now.Before(until) { // not within the leeway: there it is over
		t.cache.put(digest, p, earlier(until, now.Add(tokenKept)))
	}
	return p, nil
}

// principal reads the claims as far as the issuer is believed. Ids become parts of keys
// and log lines, so they keep to the rule for all ids from outside.
func (e *entry) principal(c jwt.MapClaims) (*Principal, error) {
	p := &Principal{Issuer: e.Issuer}
	for _, claim := range []struct {
		name string
		into *string
		why  Why // where it is of the wrong type
	}{
		{e.Claims.Subject, &p.Subject, WhySubject},
		{e.Claims.Carrier, &p.Carrier, WhyUnusable},
		{e.Claims.Shop, &p.Shop, WhyUnusable},
		{e.Claims.Building, &p.Building, WhyUnusable},
		{e.Claims.Device, &p.Device, WhyUnusable},
	} {
		said := find(c, claim.name)
		if list, is := said.([]any); is && claim.into != &p.Subject && claim.into != &p.Device {
			if len(list) > 1 { // for which of them it speaks is not said
				return nil, refuse(WhySeveral)
			}
			said = nil
			if len(list) == 1 {
				said = list[0]
			}
		}
		switch said := said.(type) {
		case nil:
		case string:
			*claim.into = said
		default:
			return nil, refuse(claim.why)
		}
	}
	// A name of its own that is missing is not sub: one person would have two ids.
	if p.Subject == "" && e.Claims.Subject != "sub" || len(p.Subject) > maxSubject || !utf8.ValidString(p.Subject) || strings.ContainsFunc(p.Subject, unicode.IsControl) {
		return nil, refuse(WhySubject)
	}
	if e.names != nil && p.Subject != "" {
		p.Subject = SubjectID(e.names, e.Issuer, p.Subject)
	}
	if p.Device != "" && handoff.CheckID(p.Device) != nil {
		return nil, refuse(WhyUnusable)
	}
	var carrier, shop, building bool
	p.Carrier, carrier = tenant(e.Carriers, p.Carrier)
	p.Shop, shop = tenant(e.Shops, p.Shop)
	p.Building, building = tenant(e.Buildings, p.Building)
	if !carrier || !shop || !building {
		return nil, refuse(WhyTenant)
	}
	for _, name := range e.Claims.Scope {
		said, ok := words(find(c, name))
		if !ok {
			return nil, refuse(WhyUnusable)
		}
		for _, word := range said {
			for _, s := range e.meaning(word) {
				if e.gives(s, p) && !p.Has(s) {
					p.Scopes = append(p.Scopes, s)
				}
			}
		}
	}
	if len(p.Scopes) == 0 && e.DefaultScope != "" {
		p.Scopes = []Scope{e.DefaultScope}
	}
	return p, nil
}

// meaning is the scopes that a word of the scope claim stands for.
func (e *entry) meaning(word string) []Scope {
	if e.Roles != nil {
		return e.Roles[word]
	}
	return []Scope{Scope(word)}
}

// find is the claim of a name: one that is called so, dots and all, or else the one that its
// parts lead to; nil if there is none.
func find(c map[string]any, name string) any {
	if said, given := c[name]; given {
		return said
	}
	first, rest, more := strings.Cut(name, ".")
	within, is := c[first].(map[string]any)
	if !more || !is {
		return nil
	}
	return find(within, rest)
}

// SubjectID is the id of a subject at an issuer: the subject itself where it is one, and else
// sub_ and a keyed hash of both, the same each time. Subjects of providers are free text
// (auth0|1, a mail address), and ids are parts of keys and paths. One that looks like such a
// hash gets one as well, so that no subject takes another's.
func SubjectID(names handoff.Namer, issuer, subject string) string {
	if handoff.CheckID(subject) == nil && !hashed.MatchString(subject) {
		return subject
	}
	return subjectPrefix + hex.EncodeToString(names.Name("subject", issuer, subject)[:16])
}

const subjectPrefix = "sub_"

var hashed = regexp.MustCompile("(?i)^" + subjectPrefix + "[0-9a-f]{32}$")

// stands reports whether an entry with this client would still say all that p is.
func (v *Issuers) stands(p *Principal, client string) bool {
	for _, e := range v.trusted.Load().issuers[p.Issuer] {
		if e.Login == nil || e.Login.ClientID != client {
			continue
		}
		for _, is := range []struct {
			ids []string
			id  string
		}{{e.Carriers, p.Carrier}, {e.Shops, p.Shop}, {e.Buildings, p.Building}} {
			if _, ok := tenant(is.ids, is.id); !ok {
				return false
			}
		}
		return !slices.ContainsFunc(p.Scopes, func(s Scope) bool { return !e.gives(s, p) })
	}
	return false
}

// speaks reports whether an issuer may still speak for a shop's staff.
func (v *Issuers) speaks(issuer, shop string) bool {
	return slices.ContainsFunc(v.trusted.Load().issuers[issuer], func(e *entry) bool {
		_, ok := tenant(e.Shops, shop)
		return ok && slices.Contains(e.Scopes, Shop)
	})
}

// gives reports whether the issuer may give a scope to p. Of other tenants the routes
// ask for the id in the token; a door's token could leave its building out.
func (e *entry) gives(s Scope, p *Principal) bool {
	return slices.Contains(e.Scopes, s) && (s != Door || p.Building != "" || slices.Contains(e.Buildings, Anyone))
}

// words reads a claim that is a text with spaces (RFC 8693 section 4.2) or a list of texts.
func words(claim any) ([]string, bool) {
	switch claim := claim.(type) {
	case nil:
		return nil, true
	case string:
		return strings.Fields(claim), true
	case []any:
		list := make([]string, 0, len(claim))
		for _, item := range claim {
			text, ok := item.(string)
			if !ok {
				return nil, false
			}
			list = append(list, text)
		}
		return list, true
	}
	return nil, false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
