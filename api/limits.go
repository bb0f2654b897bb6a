package api

import (
	"cmp"
	"context"
	"hash/maphash"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/counts"
)

// Limits are what an address may fail at. They bound who tries tokens, keys, parcels and
// grants; codes are guarded by the grants, the couriers and the carriers (docs/threats.md).
// Requests that go well cost nothing, however many come from one address: a warehouse and
// a depot stand behind one.
type Limits struct {
	Limiter counts.Limiter
	Names   handoff.Namer // whose keyed hash stands for an address; an address is kept nowhere

	// Unauthenticated is how many answers 401 an address gets in a minute; then it is
	// served with a token alone that was good a moment ago. 0 is 60.
	Unauthenticated int

	// Refused is how many refusals the callers of one tenant get at an address in a minute,
	// on the routes where something could be looked for. 0 is 120.
	Refused int
}

// The kinds of failure. A key of the limiter is a kind and a hash.
const (
	unauthenticated = "unauthenticated"
	refused         = "refused"
)

// probed are the operations of which refusals count: those by which parcels, grants and
// permits could be looked for. A shop's dispatches are limited by shop (see bulks).
var probed = map[string]bool{
	"verify": true, "unlock": true, "abort": true, "attempted": true, "get-unlock": true, "door-reports": true,
	"get-handoff": true, "resend-code": true, "reissue-code": true, "consent": true, "customer-handoffs": true,
	"linked-access-log": true,
}

// limits are Limits at work. Who may go on is read from what this instance knows, so that
// no request waits for the limiter; each failure is told to it behind the answer, and what
// it says is remembered until the wait is over.
type limits struct {
	Limits
	clock clock.Clock
	seed  maphash.Seed

	mu      sync.Mutex
	stopped map[string]time.Time // by kind and hash, until when
	good    [2]map[uint64]bool   // hashes of Authorization headers, of this stretch and the one before
	turned  time.Time            // when this stretch began
	telling chan struct{}        // a place each
}

const (
	tellingAtOnce = 64    // failures beyond it are not told: then the limiter is slow, or the flood great
	stoppedMost   = 65536 // then what is over is forgotten
	goodMost      = 65536 // then a stretch is over
	goodFor       = 5 * time.Minute
	tellWithin    = 2 * time.Second
)

// newLimits is nil where nothing is limited.
func newLimits(c Limits, clock clock.Clock) *limits {
	if c.Limiter == nil || c.Names == nil {
		return nil
	}
	c.Unauthenticated, c.Refused = cmp.Or(c.Unauthenticated, 60), cmp.Or(c.Refused, 120)
	return &limits{
		Limits: c, clock: clock, seed: maphash.MakeSeed(), stopped: map[string]time.Time{},
		good: [2]map[uint64]bool{{}, {}}, turned: clock.Now(), telling: make(chan struct{}, tellingAtOnce),
	}
}

// key names an address to the limiter, and for refusals whose people stand behind it: they
// must not stop those of others who share it.
func (l *limits) key(kind string, addr netip.Addr, p *auth.Principal) string {
	who := networkOf(addr)
	if p != nil {
		who += " " + cmp.Or(p.Carrier, p.Shop, p.Building)
	}
	return kind + ":" + handoff.Pseudonym(l.Names, "address", who)
}

// mayAuthenticate is the problem of an address that failed to authenticate too often; nil
// where the credentials may be looked at.
func (l *limits) mayAuthenticate(addr netip.Addr, header string) *Problem {
	if l == nil || !addr.IsValid() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stopped) == 0 {
		return nil
	}
	if h := maphash.String(l.seed, header); l.good[0][h] || l.good[1][h] {
		return nil
	}
	return l.wait(l.key(unauthenticated, addr, nil))
}

// mayAsk is the problem of a caller who may call and was refused too often; nil if not. P is
// nil on a route that needs no token.
func (l *limits) mayAsk(addr netip.Addr, header, operation string, p *auth.Principal) *Problem {
	if l == nil || !addr.IsValid() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.clock.Now(); len(l.good[0]) >= goodMost || now.Sub(l.turned) >= goodFor {
		l.good[0], l.good[1], l.turned = map[uint64]bool{}, l.good[0], now
	}
	if p != nil {
		l.good[0][maphash.String(l.seed, header)] = true
	}
	if len(l.stopped) == 0 || !probed[operation] {
		return nil
	}
	return l.wait(l.key(refused, addr, p))
}

func (l *limits) wait(key string) *Problem {
	left := l.stopped[key].Sub(l.clock.Now())
	if left <= 0 {
		return nil
	}
	p := newProblem(http.StatusTooManyRequests)
	p.retryAfter = left
	return p
}

// note counts an answer if it is a failure.
func (l *limits) note(x *exchange, status int) {
	if l == nil || !x.caller.IsValid() {
		return
	}
	kind, most, p := refused, l.Refused, x.principal
	switch {
	case status == http.StatusUnauthorized:
		kind, most, p = unauthenticated, l.Unauthenticated, nil
	case probed[x.operation] && (status == http.StatusForbidden || status == http.StatusNotFound):
	default:
		return
	}
	select {
	case l.telling <- struct{}{}:
	default:
		return
	}
	key := l.key(kind, x.caller, p)
	go func() {
		defer func() { <-l.telling }()
		ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
		defer cancel()
		if wait, err := l.Limiter.Limit(ctx, key, most, time.Minute); err == nil && wait > 0 {
			l.stop(key, wait)
		}
	}()
}

func (l *limits) stop(key string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if len(l.stopped) >= stoppedMost {
		maps.DeleteFunc(l.stopped, func(_ string, until time.Time) bool { return !until.After(now) })
	}
	if len(l.stopped) < stoppedMost {
		l.stopped[key] = now.Add(wait)
	}
}
