package api

import (
	"cmp"
	"context"
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

// Limits bound who tries tokens, keys, parcels and grants; codes are guarded by the grants, the
// couriers and the carriers (docs/threats.md). Requests that go well cost nothing, however many
// come from one address: a warehouse and a depot stand behind one.
//
// A refusal counts for its caller first, so that one caller stops no other. Whom it is too much
// for is refused, and counts no further. Ten times as many stop all callers of a tenant at an
// address, and thirty times as many all callers at the address.
type Limits struct {
	Limiter counts.Limiter
	Names   handoff.Namer // whose keyed hash stands for a caller; an address is kept nowhere

	// Unauthenticated is how many guessed credentials an address gets told of in a minute, by
	// answers 401. 0 is 60. Good ones, and such as were good once, are not concerned.
	Unauthenticated int

	// Refused is how many refusals a caller gets in a minute, on the routes where something
	// could be looked for. 0 is 60. Where no caller is known it holds for the address.
	Refused int
}

// How many callers at the limit stop their tenant at an address, and all at the address.
const (
	callersOfTenant  = 10
	callersOfAddress = 30
)

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

	mu      sync.Mutex
	stopped map[string]time.Time // by key, until when
	telling chan struct{}        // a place each
}

const (
	tellingAtOnce = 64    // failures beyond it are not told: then the limiter is slow, or the flood great
	stoppedMost   = 65536 // then what is over is forgotten
	tellWithin    = 2 * time.Second
)

// newLimits is nil where nothing is limited.
func newLimits(c Limits, clock clock.Clock) *limits {
	if c.Limiter == nil || c.Names == nil {
		return nil
	}
	c.Unauthenticated, c.Refused = cmp.Or(c.Unauthenticated, 60), cmp.Or(c.Refused, 60)
	return &limits{Limits: c, clock: clock, stopped: map[string]time.Time{}, telling: make(chan struct{}, tellingAtOnce)}
}

// count is what a failure counts for: a key of the limiter, and how many of it are allowed in a
// minute.
type count struct {
	key  string
	most int
}

// guessed is what guessed credentials count for: the address alone, since they name no one.
func (l *limits) guessed(addr netip.Addr) []count {
	return []count{{l.key(unauthenticated, "address", networkOf(addr)), l.Unauthenticated}}
}

// refusals is what a refusal of a caller counts for, the narrowest first. P is nil where no
// caller is known.
func (l *limits) refusals(addr netip.Addr, p *auth.Principal) []count {
	at := networkOf(addr)
	if p == nil {
		return []count{{l.key(refused, "address", at), l.Refused}}
	}
	return []count{
		{l.key(refused, "caller", p.Identity()), l.Refused},
		{l.key(refused, "tenant", at+" "+cmp.Or(p.Carrier, p.Shop, p.Building)), callersOfTenant * l.Refused},
		{l.key(refused, "callers", at), callersOfAddress * l.Refused},
	}
}

func (l *limits) key(kind, of, who string) string {
	return kind + ":" + handoff.Pseudonym(l.Names, of, who)
}

// mayGuess is the problem of an address from which too many credentials were guessed, in the
// place of the refusal of one more; nil if it may be told that.
func (l *limits) mayGuess(addr netip.Addr) *Problem {
	if l == nil || !addr.IsValid() {
		return nil
	}
	return l.wait(l.guessed(addr))
}

// mayAsk is the problem of a caller who may call and was refused too often; nil if not. P is
// nil on a route that needs no token.
func (l *limits) mayAsk(addr netip.Addr, operation string, p *auth.Principal) *Problem {
	if l == nil || !addr.IsValid() || !probed[operation] || !l.any() {
		return nil
	}
	return l.wait(l.refusals(addr, p))
}

// any reports whether anyone is stopped, which costs no hashing to know.
func (l *limits) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.stopped) > 0
}

// wait is the problem of who is stopped by one of the counts; nil if none stops.
func (l *limits) wait(counts []count) *Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range counts {
		if left := l.stopped[c.key].Sub(l.clock.Now()); left > 0 {
			p := newProblem(http.StatusTooManyRequests)
			p.retryAfter = left
			return p
		}
	}
	return nil
}

// note counts an answer if it is a failure.
func (l *limits) note(x *exchange, status int) {
	if l == nil || !x.caller.IsValid() {
		return
	}
	var counts []count
	switch {
	case status == http.StatusUnauthorized && x.why != nil && x.why.Why.Guessed():
		counts = l.guessed(x.caller)
	case x.principal == nil && x.again != nil: // who calls is not known: nothing was looked up
		return
	case probed[x.operation] && (status == http.StatusForbidden || status == http.StatusNotFound):
		counts = l.refusals(x.caller, x.principal)
	default:
		return
	}
	select {
	case l.telling <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-l.telling }()
		ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
		defer cancel()
		for _, c := range counts {
			wait, err := l.Limiter.Limit(ctx, c.key, c.most, time.Minute)
			if err == nil && wait > 0 {
				l.stop(c.key, wait)
				return // what stops the caller costs no one else
			}
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
