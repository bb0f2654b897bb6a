package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// guard lets in who holds a scope of the route, and bounds the time of the request: that in which
// the caller is looked up, too.
func (s *server) guard(ctx huma.Context, next func(huma.Context)) {
	bounded, cancel := context.WithTimeout(ctx.Context(), s.timeout)
	defer cancel()
	op := ctx.Operation()
	var p *auth.Principal
	var problem *Problem
	x := exchangeOf(humafiber.Unwrap(ctx).Context())
	x.operation, x.caller = op.OperationID, s.caller(humafiber.Unwrap(ctx).Context())
	if scopes := s.scopes[op.OperationID]; scopes == nil || len(scopes) > 0 {
		caller, shown := x.caller, s.credentials(humafiber.Unwrap(ctx).Context())
		p, problem = s.admit(auth.WithCaller(bounded, caller), shown, op.OperationID)
		if problem != nil && problem.why != nil && problem.why.Why.Guessed() {
			// The address is judged by what was shown, and never before it: honest callers
			// share addresses with others.
			problem = cmp.Or(s.limits.mayGuess(caller), problem)
		}
		x.looked.Store(time.Now().Unix())
		x.again = func() *Problem {
			ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
			defer cancel()
			_, problem := s.admit(auth.WithCaller(ctx, caller), shown, op.OperationID)
			return problem
		}
	}
	if problem == nil {
		problem = s.limits.mayAsk(x.caller, op.OperationID, p)
	}
	if problem == nil && p != nil && p.Link != nil && !linkMay[op.OperationID] {
		problem = problemOf(&handoff.Refusal{Reason: handoff.PersonRequired})
	}
	if problem == nil {
		problem = acceptable(ctx, op)
	}
	if problem != nil {
		_ = huma.WriteErr(s.huma, ctx, problem.Status, "", problem)
		return
	}
	x.principal = p
	next(huma.WithContext(ctx, bounded))
}

// linkMay are the operations for whom a shop's link let in. The shop could have opened the link
// itself: so these read what the shop may read, stop something, do what the shop may do in its
// own name, or, like consent, do nothing before a person confirmed it. Any other takes the
// customer in person, and so does an operation that is added and not listed here.
var linkMay = map[string]bool{
	"customer-handoffs": true,
	"get-handoff":       true,
	"get-receipt":       true,
	"resend-code":       true,
	"reissue-code":      true,
	"consent":           true,
	"dispute":           true,
}

// credentials are what a request shows of its caller. Nothing in it points into the
// request, since streams look at it again.
type credentials struct {
	authorization string
	cookie        string // of a session

	unsafe     bool
	sameOrigin bool
	csrf       string
}

// credentials reads them. An Authorization header counts alone, be it good or not: a
// script put it there on purpose, while a browser adds cookies to whatever it sends.
func (s *server) credentials(c *fasthttp.RequestCtx) credentials {
	h := &c.Request.Header
	shown := credentials{authorization: string(h.Peek(fiber.HeaderAuthorization))}
	if shown.authorization == "" && s.Sessions != nil {
		shown.cookie = string(h.Cookie(s.Sessions.CookieName()))
		shown.unsafe, shown.csrf = auth.Unsafe(string(c.Method())), string(h.Peek(auth.CSRFHeader))
		shown.sameOrigin = auth.SameOrigin(string(h.Peek("Sec-Fetch-Site")), string(h.Peek(fiber.HeaderOrigin)), string(c.Host()))
	}
	return shown
}

// signedOutByService are the operations of couriers of which the service judges, in the trip that it
// makes anyway, whether the courier was signed out.
var signedOutByService = map[string]bool{"courier-stops": true, "verify": true, "abort": true, "attempted": true, "unlock": true}

// courierStands is the refusal of a courier whose carrier ended the token or session; nil if it
// did not.
func (s *server) courierStands(ctx context.Context, p *auth.Principal) *Problem {
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c, err := s.couriers.Courier(bounded, handoff.CourierRef{Carrier: p.Carrier, ID: p.Subject})
	switch {
	case err != nil:
		return problemOf(err)
	case !c.Admits(p.IssuedAt):
		return problemOf(&handoff.Refusal{Reason: handoff.SignedOut})
	}
	return nil
}

const (
	realm        = `Bearer realm="latchkey"`
	invalidToken = `, error="invalid_token"`
)

// admit authenticates, and authorises for any one of the operation's scopes (RFC 6750 section 3).
func (s *server) admit(ctx context.Context, shown credentials, operation string) (*auth.Principal, *Problem) {
	scopes := s.scopes[operation]
	if shown.authorization == "" && shown.cookie == "" {
		p := newProblem(http.StatusUnauthorized)
		p.challenge, p.why = realm, &auth.Refusal{Why: auth.WhyNone}
		return nil, p
	}
	p, err := s.authenticate(ctx, shown)
	if err == nil {
		for _, scope := range scopes {
			if !p.Has(scope) || !complete(p, scope) {
				continue
			}
			if scope == auth.Courier && !signedOutByService[operation] {
				if refused := s.courierStands(ctx, p); refused != nil {
					return nil, refused
				}
			}
			return p, nil
		}
		return nil, insufficient(scopes...)
	}
	refused := problemOf(err)
	if refused.Status != http.StatusUnauthorized {
		return nil, refused // a store that does not answer is no reason to throw a token away
	}
	errors.As(err, &refused.why)
	if refused.challenge = realm; shown.cookie == "" {
		refused.challenge += invalidToken
	}
	return nil, refused
}

// authenticate says who calls, by token or by session. A browser sends a session's cookie
// along with what any page makes it send, so by cookie an unsafe request must come from
// our own pages: the browser says so, and the session's token shows it.
func (s *server) authenticate(ctx context.Context, shown credentials) (*auth.Principal, error) {
	if shown.cookie == "" {
		token, ok := auth.BearerToken(shown.authorization)
		if !ok {
			return nil, &auth.Refusal{Why: auth.WhyMalformed}
		}
		return s.Verifier.Verify(ctx, token)
	}
	if shown.unsafe && !shown.sameOrigin {
		return nil, problemOfCode(codeCrossSite)
	}
	session, err := s.Sessions.Verify(ctx, shown.cookie)
	if err != nil {
		return nil, err
	}
	if shown.unsafe && !session.Meant(shown.csrf) {
		return nil, problemOfCode(codeCrossSite)
	}
	return session.Principal, nil
}

// complete reports whether a token says what its scope is worth nothing without.
func complete(p *auth.Principal, s auth.Scope) bool {
	switch s {
	case auth.Dispatch, auth.Shop:
		return p.Shop != ""
	case auth.Customer:
		return p.Shop != "" && handoff.CheckID(p.Subject) == nil
	case auth.Carrier:
		return p.Carrier != ""
	case auth.Courier:
		return p.Carrier != "" && handoff.CheckID(p.Subject) == nil
	case auth.Building:
		return p.Building != ""
	case auth.Door:
		return handoff.CheckID(p.Subject) == nil
	}
	return true
}

// insufficient is the refusal of a token that does not reach that far.
func insufficient(scopes ...auth.Scope) *Problem {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	p := newProblem(http.StatusForbidden)
	p.challenge = realm + `, error="insufficient_scope", scope="` + strings.Join(names, " ") + `"`
	return p
}
