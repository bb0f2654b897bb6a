package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// How a key set is kept. A withdrawn key is honoured for at most staleAfter, plus the
// minute that a verified token is remembered: less than five.
const (
	refreshAfter = 2 * time.Minute  // the set is fetched anew behind the requests
	staleAfter   = 3 * time.Minute  // and from now on requests wait for it
	retryAfter   = 15 * time.Second // between two tries, so that an issuer that is down is left alone
	lookEvery    = time.Minute      // between two fetches for the sake of unknown key ids, which anybody can make up
	fetchWithin  = 5 * time.Second
	waitAtMost   = 2 * time.Second // of a request, for a fetch

	maxFetched = 1 << 20 // bytes of one answer
	maxKeys    = 64      // of one set
)

// keySource is the key set of an issuer. It lives by use: the request that needs a key starts
// the fetch that is due, and all share it. A set that was fetched stays in use while the
// issuer cannot be reached.
type keySource struct {
	issuer string
	url    string // empty: by discovery

	ctx    context.Context // ends fetches
	client *http.Client
	failed func(issuer string, err error)
	now    func() time.Time

	mu      sync.Mutex
	set     keyfunc.Keyfunc // nil: none yet
	fetched time.Time       // when the set's fetch began
	tried   time.Time
	looked  time.Time     // when a fetch was last made for an unknown key id
	flight  chan struct{} // of the fetch under way: closed when it ends
}

// key is the key that signed a token, as a jwt.Keyfunc returns it.
func (s *keySource) key(ctx context.Context, token *jwt.Token) (any, error) {
	set := s.current(ctx, false)
	if set == nil {
		return nil, refuse(WhyKeysAway)
	}
	if _, named := token.Header[jwkset.HeaderKID]; !named {
		return only(ctx, set)
	}
	key, err := set.KeyfuncCtx(ctx)(token)
	if !errors.Is(err, jwkset.ErrKeyNotFound) {
		return key, err
	}
	if set = s.current(ctx, true); set == nil {
		return nil, refuse(WhyKeysAway)
	}
	if key, err = set.KeyfuncCtx(ctx)(token); errors.Is(err, jwkset.ErrKeyNotFound) {
		return nil, refuse(WhySigningKey)
	}
	return key, err
}

// only is the key of a set that has no other, which a token need not name (OpenID Connect
// Core 1.0 section 10.1). To try each of many would be work that anybody can order.
func only(ctx context.Context, set keyfunc.Keyfunc) (any, error) {
	all, err := set.VerificationKeySet(ctx)
	if err != nil || len(all.Keys) != 1 {
		return nil, refuse(WhySigningKey)
	}
	return all.Keys[0], nil
}

// current is the set to use now; nil if there is none. Unknown says that the set at hand
// lacked a key.
func (s *keySource) current(ctx context.Context, unknown bool) keyfunc.Keyfunc {
	if s.client == nil { // known beforehand
		return s.set
	}
	s.mu.Lock()
	now := s.now()
	age := now.Sub(s.fetched)
	due := (s.set == nil || age >= refreshAfter) && now.Sub(s.tried) >= retryAfter
	if unknown && now.Sub(s.looked) >= lookEvery {
		due, s.looked = true, now
	}
	if due && s.flight == nil {
		s.flight, s.tried = make(chan struct{}), now
		go s.fetch(s.flight, now)
	}
	set, flight := s.set, s.flight
	s.mu.Unlock()
	if flight == nil || !unknown && set != nil && age < staleAfter {
		return set
	}
	wait := time.NewTimer(waitAtMost)
	defer wait.Stop()
	select {
	case <-flight:
	case <-wait.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set
}

func (s *keySource) fetch(done chan struct{}, began time.Time) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchWithin)
	set, err := s.load(ctx)
	cancel()
	s.mu.Lock()
	if s.flight = nil; err == nil {
		s.set, s.fetched = set, began
	}
	s.mu.Unlock()
	close(done)
	if err != nil && s.ctx.Err() == nil {
		s.failed(s.issuer, err)
	}
}

// load asks the issuer where its keys are, unless that is configured, and fetches them.
func (s *keySource) load(ctx context.Context) (keyfunc.Keyfunc, error) {
	from := s.url
	if from == "" {
		var found struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		if err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		if found.Issuer != s.issuer { // OpenID Connect Discovery 1.0 section 4.3
			return nil, errors.New("discovery: the document is of another issuer")
		}
		from = found.JWKSURI
	}
	if u, err := url.Parse(from); err != nil || !confidential(u) {
		return nil, errors.New("the key set's URL is not https")
	}
	var found jwkset.JWKSMarshal
	if err := s.get(ctx, from, &found); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return keysOf(found)
}

// keysOf keeps the keys that can verify. One that is of a kind unknown here is for others.
func keysOf(found jwkset.JWKSMarshal) (keyfunc.Keyfunc, error) {
	if len(found.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: more than %d keys", maxKeys)
	}
	storage := jwkset.NewMemoryStorage()
	for _, k := range found.Keys {
		if k.USE == jwkset.UseEnc || k.KTY == jwkset.KtyOct {
			continue
		}
		key, err := jwkset.NewJWKFromMarshal(k, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue
		}
		if err := storage.KeyWrite(context.Background(), key); err != nil {
			return nil, err
		}
	}
	return keyfunc.New(keyfunc.Options{Storage: storage})
}

func (s *keySource) get(ctx context.Context, from string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) { // which repeats the address, and a secret that may be in its query
		err = failed.Err
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered with status %d", resp.StatusCode)
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxFetched+1))
	if err != nil {
		return err
	}
	if len(content) > maxFetched {
		return fmt.Errorf("longer than %d bytes", maxFetched)
	}
	if json.Unmarshal(content, into) != nil { // whose error may repeat what was read
		return errors.New("not the JSON that is expected")
	}
	return nil
}

// onward lets a fetch follow redirects only to where it could have begun.
func onward(req *http.Request, via []*http.Request) error {
	if len(via) > 3 || !confidential(req.URL) {
		return errors.New("redirected too often, or to where it is not confidential")
	}
	return nil
}
