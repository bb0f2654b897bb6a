package authtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/api/auth"
)

// Provider lets people sign in at an Issuer, as OpenID Connect Core 1.0 says, by the code
// flow alone and with PKCE demanded, for one client. Who is signed in, the
// demonstration and the tests ask on a page of their own.
type Provider struct {
	ProviderConfig

	mu    sync.Mutex
	codes map[[sha256.Size]byte]granted
}

// ProviderConfig is what a Provider is made of. The issuer's name is the URL below which
// it is reached. Secret is empty for a public client; Now nil is time.Now.
type ProviderConfig struct {
	Issuer   *Issuer
	Random   io.Reader // a cryptographic source
	ClientID string
	Secret   string
	Redirect string // the one URL that it sends people back to
	Now      func() time.Time
}

// The places of a Provider below its issuer's name. Authorize is served by the page that asks who signs in.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	AuthorizePath = "/authorize"
	TokenPath     = "/token"
	keysPath      = "/keys"
)

const (
	codeLife  = time.Minute
	codesMost = 1000
	maxForm   = 8 << 10 // bytes of a request to the token endpoint
	idLife    = 5 * time.Minute
)

// granted is what a code stands for.
type granted struct {
	Authorization
	who   auth.Principal
	name  string
	more  map[string]any // claims
	until time.Time
}

// Authorization is a valid authorization request (Core 1.0 section 3.1.2.1).
type Authorization struct{ State, Nonce, Challenge string }

// NewProvider makes a Provider.
func NewProvider(c ProviderConfig) *Provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Provider{ProviderConfig: c, codes: map[[sha256.Size]byte]granted{}}
}

// Login is how the issuer's entry lets people sign in here.
func (p *Provider) Login(name string) *auth.Login {
	return &auth.Login{Name: name, ClientID: p.ClientID}
}

// Authorization checks an authorization request. The error says what is wrong with it.
func (p *Provider) Authorization(q url.Values) (Authorization, error) {
	a := Authorization{State: q.Get("state"), Nonce: q.Get("nonce"), Challenge: q.Get("code_challenge")}
	raw, err := base64.RawURLEncoding.DecodeString(a.Challenge)
	switch {
	case q.Get("client_id") != p.ClientID:
		return a, errors.New("client_id is not known here")
	case q.Get("redirect_uri") != p.Redirect:
		return a, errors.New("redirect_uri is not that of the client")
	case q.Get("response_type") != "code":
		return a, errors.New("response_type must be code")
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return a, errors.New("scope must have openid")
	case q.Get("code_challenge_method") != "S256" || err != nil || len(raw) != sha256.Size:
		return a, errors.New("a code_challenge with the method S256 is needed")
	case a.State == "" || a.Nonce == "":
		return a, errors.New("state and nonce are needed")
	}
	return a, nil
}

// Grant answers a request: the visitor is who. It returns where to send the browser.
func (p *Provider) Grant(a Authorization, who auth.Principal, name string) (string, error) {
	return p.GrantWith(a, who, name, nil)
}

// GrantWith is Grant with further claims in the ID token.
func (p *Provider) GrantWith(a Authorization, who auth.Principal, name string, more map[string]any) (string, error) {
	raw := make([]byte, 32)
	if _, err := io.ReadFull(p.Random, raw); err != nil {
		return "", fmt.Errorf("authtest: reading a new code: %w", err)
	}
	code, now := base64.RawURLEncoding.EncodeToString(raw), p.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for digest, g := range p.codes {
		if !now.Before(g.until) || len(p.codes) >= codesMost {
			delete(p.codes, digest)
		}
	}
	p.codes[sha256.Sum256([]byte(code))] = granted{a, who, name, more, now.Add(codeLife)}
	return p.Redirect + "?" + url.Values{"code": {code}, "state": {a.State}, "iss": {p.Issuer.Name}}.Encode(), nil
}

// ServeHTTP implements http.Handler for all but the authorization endpoint.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base, _ := url.Parse(p.Issuer.Name)
	place, below := strings.CutPrefix(r.URL.Path, strings.TrimSuffix(base.Path, "/"))
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case below && place == DiscoveryPath && r.Method == http.MethodGet:
		answerJSON(w, http.StatusOK, p.Metadata())
	case below && place == keysPath && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(p.Issuer.KeySet) // the client has gone
	case below && place == TokenPath && r.Method == http.MethodPost:
		p.token(w, r)
	default:
		answerJSON(w, http.StatusNotFound, map[string]string{"error": "not_found"})
	}
}

// Metadata is its discovery document (OpenID Connect Discovery 1.0 section 3).
func (p *Provider) Metadata() map[string]any {
	ways := []string{"none"}
	if p.Secret != "" {
		ways = []string{"client_secret_basic"}
	}
	return map[string]any{
		"issuer": p.Issuer.Name, "authorization_endpoint": p.Issuer.Name + AuthorizePath, "token_endpoint": p.Issuer.Name + TokenPath,
		"jwks_uri": p.Issuer.Name + keysPath, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"EdDSA"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": ways, "authorization_response_iss_parameter_supported": true,
	}
}

// token trades a code for an ID token (Core 1.0 section 3.1.3), once.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	refuse := func(code string) { answerJSON(w, http.StatusBadRequest, map[string]string{"error": code}) }
	if r.ParseForm() != nil || r.PostForm.Get("grant_type") != "authorization_code" {
		refuse("unsupported_grant_type")
		return
	}
	client, secret := r.PostForm.Get("client_id"), ""
	if p.Secret != "" {
		client, secret, _ = r.BasicAuth()
	}
	if client != p.ClientID || subtle.ConstantTimeCompare([]byte(secret), []byte(p.Secret)) != 1 {
		refuse("invalid_client")
		return
	}
	digest := sha256.Sum256([]byte(r.PostForm.Get("code")))
	p.mu.Lock()
	g, known := p.codes[digest]
	delete(p.codes, digest)
	p.mu.Unlock()
	verified := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(verified[:])
	if !known || !p.Now().Before(g.until) || r.PostForm.Get("redirect_uri") != p.Redirect ||
		subtle.ConstantTimeCompare([]byte(challenge), []byte(g.Challenge)) != 1 {
		refuse("invalid_grant")
		return
	}
	token, err := p.Issuer.SignIDWith(p.ClientID, g.Nonce, g.name, g.who, idLife, g.more)
	access := make([]byte, 32) // which nothing takes
	if err == nil {
		_, err = io.ReadFull(p.Random, access)
	}
	if err != nil {
		answerJSON(w, http.StatusInternalServerError, map[string]string{"error": "server_error"})
		return
	}
	answerJSON(w, http.StatusOK, map[string]any{
		"id_token": token, "access_token": base64.RawURLEncoding.EncodeToString(access), "token_type": "Bearer", "expires_in": 0,
	})
}

func answerJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}
