package auth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/handoff"
)

// Trust is how far one issuer is believed: an entry of the file that docs/issuers.md
// describes.
type Trust struct {
	Issuer   string `json:"issuer"`   // iss
	Audience string `json:"audience"` // aud

	// JWKSURL is where its key set is (RFC 7517 section 5). Left out, the issuer is asked
	// (OpenID Connect Discovery 1.0 section 4).
	JWKSURL string `json:"jwks_url"`

	// Scopes are those that it may give. Any other that a token names is ignored.
	Scopes []Scope `json:"scopes"`

	// For whom it may speak. If it is one, tokens need not name it; Anyone alone is
	// every id.
	Carriers  []string `json:"carriers"`
	Shops     []string `json:"shops"`
	Buildings []string `json:"buildings"`

	// Claims are the names under which its tokens say what Latchkey asks.
	Claims Claims `json:"claims"`

	// Roles are what the words of the scope claim mean, such as the names of groups: each one
	// or more scopes. Where it is given, a word that is not listed means nothing, even if it is
	// a scope's name.
	Roles map[string][]Scope `json:"roles"`

	// DefaultScope is the scope of who names none that counts: customer, for the issuer of one
	// shop's own customers. Empty: such a token may do nothing.
	DefaultScope Scope `json:"default_scope"`

	// TokenLife is how long ago a token may have been issued (iat); 0 is 24 hours.
	TokenLife Life `json:"token_life"`

	// Login lets people sign in with a browser at this issuer; nil: they cannot.
	Login *Login `json:"login"`

	// Keys is its key set, where it is known beforehand and nothing is fetched. Not from a file.
	Keys []byte `json:"-"`
}

// Login is how the pages ask an issuer who a visitor is (OpenID Connect Core 1.0 section 3.1).
type Login struct {
	Name     string `json:"name"` // of the issuer, as the button says it
	ClientID string `json:"client_id"`

	// SecretFile holds the client's secret. Left out, the client is a public one.
	SecretFile string `json:"client_secret_file"`

	// Scopes are asked for besides openid.
	Scopes []string `json:"scopes"`

	// Callback is an end of the redirect URL that is this entry's own:
	// /sign-in/callback/CALLBACK. Where several issuers are listed, one that does not say
	// iss in its answers (RFC 9207) needs it, so that none passes for another.
	Callback string `json:"callback"`
}

// Life is how long something lasts, as a file says it: 12h, or 90d.
type Life time.Duration

const (
	usualTokenLife   = 24 * time.Hour
	longestTokenLife = 365 * 24 * time.Hour
)

var errLife = errors.New("must be a time such as 12h or 7d, from a minute to a year")

// UnmarshalText reads hours and smaller units, as time.ParseDuration does, or days (d).
func (l *Life) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n < 0 || n > int(longestTokenLife/(24*time.Hour)) {
			return errLife
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Minute || d > longestTokenLife {
		return errLife
	}
	*l = Life(d)
	return nil
}

func (t *Trust) life() time.Duration { return cmp.Or(time.Duration(t.TokenLife), usualTokenLife) }

// Anyone, alone in a list of Trust, stands for every id: for the issuer of the operator of
// the service.
const Anyone = "*"

// Claims names the claims of a token. The defaults are scope, sub, carrier_id, shop_id,
// building_id and device_id. A name is that of a claim, or the names of claims within claims,
// joined by dots: realm_access.roles.
type Claims struct {
	// Scope is one name or several, all of which count: ID tokens and bearer tokens of one
	// issuer may differ. Each holds text with spaces (RFC 8693 section 4.2) or a list.
	Scope Names `json:"scope"`

	Subject  string `json:"subject"`
	Carrier  string `json:"carrier"`
	Shop     string `json:"shop"`
	Building string `json:"building"`
	Device   string `json:"device"`
}

func (c Claims) named() Claims {
	if len(c.Scope) == 0 {
		c.Scope = Names{"scope"}
	}
	return Claims{
		Scope: c.Scope, Subject: cmp.Or(c.Subject, "sub"), Carrier: cmp.Or(c.Carrier, "carrier_id"), Shop: cmp.Or(c.Shop, "shop_id"),
		Building: cmp.Or(c.Building, "building_id"), Device: cmp.Or(c.Device, "device_id"),
	}
}

// Names are one name or several, as a file says them: a text or a list of texts.
type Names []string

// UnmarshalJSON reads either form.
func (n *Names) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*n = Names{""}
		return json.Unmarshal(text, &(*n)[0])
	}
	return json.Unmarshal(text, (*[]string)(n))
}

// ParseTrust reads a file of issuers, {"issuers": [...]}. Names that it does not know are
// refused, and every error about an entry names it.
func ParseTrust(content []byte) ([]Trust, error) {
	var file struct {
		Issuers []Trust `json:"issuers"`
	}
	err := json.Unmarshal(content, &file, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	switch {
	case err == nil:
	case errors.As(err, &semantic) && errors.Is(semantic.Err, json.ErrUnknownName) && semantic.JSONPointer.LastToken() == "client_secret":
		return nil, fmt.Errorf("issuers: %s: no secret stands in this file: name a file with it, client_secret_file", semantic.JSONPointer)
	case errors.As(err, &semantic) && errors.Is(semantic.Err, json.ErrUnknownName):
		return nil, fmt.Errorf("issuers: %s is not a known name", semantic.JSONPointer)
	case errors.As(err, &semantic) && errors.Is(semantic.Err, errLife):
		return nil, fmt.Errorf("issuers: %s %w", semantic.JSONPointer, errLife)
	case errors.As(err, &semantic):
		return nil, fmt.Errorf("issuers: %s is of the wrong type", semantic.JSONPointer)
	default:
		return nil, fmt.Errorf("issuers: %w", err)
	}
	if len(file.Issuers) == 0 {
		return nil, errors.New("issuers: none is listed")
	}
	return file.Issuers, checkTrust(file.Issuers)
}

func checkTrust(entries []Trust) error {
	seen := map[[2]string]int{}
	for i := range entries {
		t := &entries[i]
		name := fmt.Sprintf("issuers[%d] (%s)", i, printable(t.Issuer))
		if err := t.check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		key := [2]string{t.Issuer, t.Audience}
		if other, twice := seen[key]; twice {
			return fmt.Errorf("%s: the same issuer and audience as issuers[%d]", name, other)
		}
		seen[key] = i
	}
	for i := range entries {
		t := &entries[i]
		if t.Login == nil {
			continue
		}
		// An ID token is for the client, and would otherwise pass for a bearer token.
		key := [2]string{t.Issuer, t.Login.ClientID}
		if other, twice := seen[key]; twice {
			return fmt.Errorf("issuers[%d] (%s): login: client_id is the audience or the client_id of issuers[%d]", i, t.Issuer, other)
		}
		seen[key] = i
		if t.Login.Callback == "" {
			continue
		}
		key = [2]string{"", t.Login.Callback}
		if other, twice := seen[key]; twice {
			return fmt.Errorf("issuers[%d] (%s): login: the same callback as issuers[%d]", i, t.Issuer, other)
		}
		seen[key] = i
	}
	return nil
}

// printable is an issuer's name without a password that was written into it.
func printable(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil || u.User != nil {
		return "its issuer holds more than a URL should"
	}
	return issuer
}

func (t *Trust) check() error {
	switch {
	case t.Issuer == "":
		return errors.New("issuer is missing")
	case t.Audience == "":
		return errors.New("audience is missing")
	case len(t.Scopes) == 0:
		return errors.New("scopes is missing: it may give none")
	}
	switch u, err := url.Parse(t.Issuer); {
	case t.Keys != nil:
	case t.JWKSURL != "":
		keys, err := url.Parse(t.JWKSURL)
		if err != nil || !confidential(keys) {
			return errors.New("jwks_url must be an https URL (http on loopback)")
		}
	case err != nil || !confidential(u) || u.RawQuery != "" || u.Fragment != "":
		return errors.New("without jwks_url, issuer must be an https URL (http on loopback) with no query")
	}
	if l := t.Login; l != nil {
		u, err := url.Parse(t.Issuer)
		switch {
		case err != nil || !confidential(u) || u.RawQuery != "" || u.Fragment != "":
			return errors.New("login: issuer must be an https URL (http on loopback) with no query")
		case l.ClientID == "":
			return errors.New("login: client_id is missing")
		case l.Name == "":
			return errors.New("login: name is missing: the button that says where to sign in")
		case l.Callback != "" && handoff.CheckID(l.Callback) != nil:
			return fmt.Errorf("login: callback %w", handoff.ErrID)
		}
	}
	for name, ids := range map[string][]string{"carriers": t.Carriers, "shops": t.Shops, "buildings": t.Buildings} {
		for _, id := range ids {
			if err := handoff.CheckID(id); err != nil && (id != Anyone || len(ids) != 1) {
				return fmt.Errorf("%s: %q %w", name, id, err)
			}
		}
	}
	for i, s := range t.Scopes {
		switch needs, known := t.binds(s); {
		case !known:
			return fmt.Errorf("scopes: there is no scope %q", s)
		case slices.Contains(t.Scopes[:i], s):
			return fmt.Errorf("scopes: %s is listed twice", s)
		case needs != "":
			return fmt.Errorf("scopes: %s is of no use without %s", s, needs)
		}
	}
	c := t.Claims.named()
	names := []string{"iss", "aud", "exp", "nbf", "iat", "jti"}
	for _, name := range slices.Concat([]string{c.Subject, c.Carrier, c.Shop, c.Building, c.Device}, c.Scope) {
		switch {
		case name == "" || slices.Contains(strings.Split(name, "."), ""):
			return fmt.Errorf("claims: %q is no name of a claim", name)
		case slices.Contains(names, name) || name == "sub" && name != c.Subject:
			return fmt.Errorf("claims: %q has another meaning already", name)
		}
		names = append(names, name)
	}
	return t.checkRoles()
}

func (t *Trust) checkRoles() error {
	for _, role := range slices.Sorted(maps.Keys(t.Roles)) {
		if role == "" || len(t.Roles[role]) == 0 {
			return fmt.Errorf("roles: %q means no scope", role)
		}
		for _, s := range t.Roles[role] {
			if !slices.Contains(t.Scopes, s) {
				return fmt.Errorf("roles: %q means %q, which is not listed in scopes", role, s)
			}
		}
	}
	switch {
	case t.DefaultScope == "":
	case t.DefaultScope != Customer || !slices.Contains(t.Scopes, Customer):
		return errors.New("default_scope: must be customer, and listed in scopes")
	case len(t.Shops) != 1 || t.Shops[0] == Anyone:
		return errors.New("default_scope: is for the issuer of one shop's own customers")
	}
	return nil
}

// binds names the list that a scope needs and the entry lacks; empty if none.
func (t *Trust) binds(s Scope) (needs string, known bool) {
	lacks := func(ids []string, name string) string {
		if len(ids) == 0 {
			return name
		}
		return ""
	}
	switch s {
	case Dispatch, Shop, Customer:
		return lacks(t.Shops, "shops"), true
	case Carrier, Courier:
		return lacks(t.Carriers, "carriers"), true
	case Building, Door: // a door is one of a building
		return lacks(t.Buildings, "buildings"), true
	case Ops:
		return "", true
	}
	return "", false
}

// confidential reports whether what is fetched from u cannot be changed on the way:
// keys decide who is believed.
func confidential(u *url.URL) bool {
	if u.Host == "" || u.User != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

// tenant is the one of ids for whom a token speaks, given what it claims.
func tenant(ids []string, claimed string) (id string, ok bool) {
	switch anyone := slices.Equal(ids, []string{Anyone}); {
	case claimed == "" && len(ids) == 1 && !anyone:
		return ids[0], true
	case claimed == "":
		return "", true // the scopes that need one are worth nothing
	case anyone:
		return claimed, handoff.CheckID(claimed) == nil
	}
	return claimed, slices.Contains(ids, claimed)
}
