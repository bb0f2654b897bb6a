// Package api is Latchkey over HTTP: one file for each audience (warehouse, carrier,
// courier, customer, building, doors), one map from the domain's reasons to problems (problem.go), one
// set of rules for what comes in (request.go, wire.go).
//
// It calls handoff.Service and keeps the registry; it decides nothing.
package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"latchkey/api/auth"
	"latchkey/api/headers"
	"latchkey/api/metrics"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// Config is what the API is made of. All fields up to Clock are
// required.
type Config struct {
	Service   *service.Service
	Couriers  service.Couriers
	Registry  *registry.Registry
	Directory *residents.Directory
	Access    *trail.Reader
	Events    eventlog.Reading
	Figures   Figures

	// PageLinks are how a shop sends its customer on to the pages.
	PageLinks *identity.PageLinks

	Verifier auth.Verifier
	Clock    clock.Clock

	// Sessions are accepted in place of a token; nil: there are none.
	Sessions *auth.Sessions

	// Ready reports whether requests can be served, for /readyz; nil is always.
	Ready func(context.Context) error

	// Metrics observes requests; nil observes none.
	Metrics *metrics.Metrics

	// Gatherer is what /metrics shows; nil shows nothing and there is no such page.
	Gatherer prometheus.Gatherer

	// Log gets one record a request, at level info, and errors. Nil is silence.
	Log *slog.Logger

	// Site serves the pages that the API does not know, outside of /v1; nil serves none.
	// Its pages may set their own Content-Security-Policy and Cache-Control.
	Site http.Handler

	// Doors is what opening doors takes; nil: doors can be registered, but not opened.
	Doors *Doors

	// Residents is what telling residents takes; nil: nobody can subscribe.
	Residents *Residents

	// AllowHost reports whether a request with this Host header is served, or refused
	// with 421; nil serves any. A service on loopback without it is open to every page in
	// the browser beside it (DNS rebinding).
	AllowHost func(host string) bool

	// TrustedProxies are the networks of the proxies before this service. What they say
	// in X-Forwarded-For of where a request came from is believed, and nobody else's word.
	TrustedProxies []netip.Prefix

	// Limits bound what an address may fail at; without a limiter it may as often as it likes.
	Limits Limits

	// TLS says that browsers reach this service over TLS alone: every answer tells them to
	// keep to it (RFC 6797). A proxy that ends TLS says so itself.
	TLS bool

	Version string // of the software, as the documentation tells it

	ReadTimeout  time.Duration // for a request to arrive, but a bulk one's body; 0 is 15 seconds
	WriteTimeout time.Duration // for an answer to be taken, but a stream; 0 is 15 seconds

	RequestTimeout time.Duration // for the work on one request or line; 0 is 5 seconds
	BulkLimit      int64         // bytes of one bulk body; 0 is 256 MiB
	BulkWorkers    int           // lines of one bulk body in work at once; 0 is 256
}

const (
	bodyLimit   = 64 << 10 // bytes of an ordinary body, and of a line of a bulk one
	headerLimit = 16 << 10 // bytes of a request's head
	drainLimit  = 1 << 20  // bytes of a refused body that are read so that its sender hears why
	idleTimeout = 75 * time.Second
)

// api is the API with all it needs.
type api struct {
	Config
	huma   huma.API
	bulks  bulks
	scopes map[string][]auth.Scope // by operation id
	site   fasthttp.RequestHandler // nil: none
	limits *limits
	routes sync.Map // the router's patterns to those of the documentation

	streams streams // of the doors that are dialed in
}

// New makes the API as a fiber application, to which further routes may be added. The
// caller listens and shuts down.
func New(c Config) (*fiber.App, error) {
	if c.Service == nil || c.Couriers == nil || c.Registry == nil || c.Directory == nil || c.Access == nil || c.Events == nil || c.Figures == nil || c.PageLinks == nil || c.Verifier == nil || c.Clock == nil {
		return nil, errors.New("api: a service, a registry, a verifier and a clock are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 5 * time.Second
	}
	c.ReadTimeout, c.WriteTimeout = cmp.Or(c.ReadTimeout, 15*time.Second), cmp.Or(c.WriteTimeout, 15*time.Second)
	if c.BulkLimit == 0 {
		c.BulkLimit = 256 << 20
	}
	if c.BulkWorkers == 0 {
		c.BulkWorkers = 256
	}
	if c.Doors != nil {
		d := *c.Doors
		if d.Signer == nil || d.Feed == nil {
			return nil, errors.New("api: doors need a signer and a feed")
		}
		d.Streams = cmp.Or(d.Streams, 1024)
		d.Poll = cmp.Or(d.Poll, 125*time.Millisecond)
		d.Heartbeat = cmp.Or(d.Heartbeat, 10*time.Second)
		c.Doors = &d
	}
	if c.Residents != nil && c.Residents.Log == nil {
		r := *c.Residents
		r.Log = recentLog{c.Access}
		c.Residents = &r
	}
	a := &api{Config: c, bulks: bulks{of: map[string]int{}}, scopes: map[string][]auth.Scope{}, limits: newLimits(c.Limits, c.Clock)}
	if c.Doors != nil {
		a.streams = streams{most: c.Doors.Streams, open: map[string]chan struct{}{}}
	}

	app := fiber.New(fiber.Config{
		AppName:               "latchkey",
		DisableStartupMessage: true,
		// Without it, strings that outlive the handler turn into the next caller's.
		Immutable:     true,
		CaseSensitive: true,
		StrictRouting: true,
		// Streaming is for bulk. It is app-wide, and makes BodyLimit no more than how much
		// is read ahead, so receive limits bodies and seal guards the connection.
		StreamRequestBody:            true,
		BodyLimit:                    bodyLimit,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               headerLimit,
		ReadTimeout:                  c.ReadTimeout,
		WriteTimeout:                 c.WriteTimeout,
		IdleTimeout:                  idleTimeout,
		ErrorHandler:                 a.failed,
	})
	app.Server().Handler = a.seal(app.Handler())
	app.Use(a.serve)

	if c.Site != nil {
		a.site = fasthttpadaptor.NewFastHTTPHandler(outliving(c.Site))
	}
	a.huma = humafiber.New(app, huma.Config{
		OpenAPI:       a.describe(),
		Formats:       map[string]huma.Format{fiber.MIMEApplicationJSON: jsonFormat, "json": jsonFormat},
		DefaultFormat: fiber.MIMEApplicationJSON,
		Transformers:  []huma.Transformer{annotate},
		// No CreateHooks: they would build $schema links from the Host header. No paths
		// for documentation: huma's pages load from a content delivery network.
	})
	a.huma.UseMiddleware(a.guard)
	a.warehouse()
	a.carrier()
	a.courier()
	a.customer()
	a.doors() // before building: its keys are no door
	a.building()
	a.access()
	a.events()
	a.residents()
	a.numbers()
	a.orders()
	if err := a.pages(app); err != nil {
		return nil, err
	}
	return app, nil
}

// bracketed writes a route's parameters as OpenAPI does: /v1/handoffs/{grant_id}.
func bracketed(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}

var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error { return json.MarshalWrite(w, v) },
	Unmarshal: func(data []byte, v any) error {
		d, ok := v.(decoder)
		if !ok {
			return errors.New("api: a request body that does not parse itself")
		}
		d.decode(data)
		return nil
	},
}

// annotate is the last that sees a response's body before it is written.
func annotate(ctx huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*Problem); ok {
		p.annotate(humafiber.Unwrap(ctx).Context())
	}
	return v, nil
}

// exchange is one request and its answer, for those who watch.
type exchange struct {
	id        string // X-Request-ID
	route     string // where it is none of the router's
	start     time.Time
	principal *auth.Principal
	operation string     // of the documentation; empty for pages
	caller    netip.Addr // personal data; invalid where nobody looked

	again   func() *Problem // admits the caller once more; nil where no token is asked for
	looked  atomic.Int64    // when it last did, in seconds
	refused atomic.Pointer[Problem]
	code    string        // of the problem, if it came to one
	why     *auth.Refusal // where the caller's token, key or session was refused; for the log alone
	cause   error         // what failed on our side, if something did
	streams bool          // the answer is still being written when the handler returns

	page atomic.Pointer[string] // the pattern of http.ServeMux that the site served; nil: none yet
}

type exchangeKey struct{}

func exchangeOf(c *fasthttp.RequestCtx) *exchange {
	x, _ := c.UserValue(exchangeKey{}).(*exchange)
	return x
}

// principal is who calls. Only routes behind guard ask.
func principal(ctx context.Context) *auth.Principal {
	return ctx.Value(exchangeKey{}).(*exchange).principal
}

// standing is the problem of a caller whose token holds no longer; nil while it does, and
// while nobody can tell. It is for answers that take longer than a revoked key may work,
// and looks once a second however often it is asked.
func (x *exchange) standing() *Problem {
	now, last := time.Now().Unix(), x.looked.Load()
	if x.again != nil && now > last && x.looked.CompareAndSwap(last, now) {
		if p := x.again(); p != nil && p.Status < http.StatusInternalServerError {
			x.refused.Store(p)
		}
	}
	return x.refused.Load()
}

// seal stands outside of the router, which answers some requests on its own. It closes
// the connection after a request whose body nobody read to its end: what is left of it
// would be taken for the next request, and fasthttp does not see to that itself.
func (a *api) seal(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(c *fasthttp.RequestCtx) {
		switch {
		case !wellFramed(&c.Request.Header):
			a.harden(c)
			newProblem(http.StatusBadRequest).write(c)
			c.SetConnectionClose()
			return
		case slices.Contains(fiber.DefaultMethods, string(c.Method())):
			next(c)
		default: // fiber would say so in plain text
			a.harden(c)
			newProblem(http.StatusMethodNotAllowed).write(c)
		}
		if stream := c.RequestBodyStream(); stream != nil {
			if _, read := stream.(*bytes.Reader); !read {
				c.SetConnectionClose()
			}
		}
	}
}

// wellFramed holds a request's head to what RFC 9112 asks of a server where it and a
// proxy before it could understand it differently: exactly one Host (section 3.2), no
// bare CR (2.2), no space before a colon (5.1) and no folded line (5.2), one length (6.3),
// no transfer coding but chunked, and not both (6.1).
func wellFramed(h *fasthttp.RequestHeader) bool {
	hosts, codings, lengths := 0, 0, 0
	for line := range bytes.SplitSeq(h.RawHeaders(), []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		name, value, found := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.IndexByte(line, '\r') >= 0, len(line) > 0 && (line[0] == ' ' || line[0] == '\t'):
			return false
		case !found:
		case len(name) == 0 || bytes.ContainsAny(name, " \t\r"):
			return false
		case len(name) == len("host") && bytes.EqualFold(name, []byte("host")):
			hosts++
		case len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")):
			lengths++
		case len(name) == len("transfer-encoding") && bytes.EqualFold(name, []byte("transfer-encoding")):
			codings++
			if !bytes.EqualFold(bytes.TrimSpace(value), []byte("chunked")) {
				return false
			}
		}
	}
	if codings > 1 || lengths > 1 || codings == 1 && (lengths == 1 || !h.IsHTTP11()) {
		return false
	}
	return hosts == 1 || hosts == 0 && !h.IsHTTP11()
}

// serve is the outermost handler: whatever happens inside, an answer comes out that is
// safe to show, and is logged and measured.
func (a *api) serve(c *fiber.Ctx) error {
	x := &exchange{id: c.Get(fiber.HeaderXRequestID), route: "unmatched", start: time.Now()}
	if handoff.CheckID(x.id) != nil {
		x.id = ulid.Make().String()
	}
	c.Locals(exchangeKey{}, x)
	c.Set(fiber.HeaderXRequestID, x.id)
	a.harden(c.Context())

	own := c.Route()
	if err := a.contained(c); err != nil {
		_ = a.failed(c, err)
	}
	if x.streams {
		return nil
	}
	route := x.route
	if c.Route() != own {
		route = a.pattern(c.Route().Path)
	}
	a.limits.note(x, c.Response().StatusCode())
	a.finish(x, c.Method(), route, c.Response().StatusCode())
	return nil
}

// harden sets what every answer carries. A page may set its own afterwards.
func (a *api) harden(c *fasthttp.RequestCtx) {
	for _, h := range headers.All {
		c.Response.Header.Set(h.Name, h.Value)
	}
	if a.TLS {
		c.Response.Header.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
}

// siteTimeout bounds the work on one page.
const siteTimeout = 30 * time.Second

// outliving gives the site's requests a context of their own: the server's is good for
// nothing once a request has been answered, and work that was begun may still look at it.
func outliving(site http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), siteTimeout)
		defer cancel()
		own := r.WithContext(ctx)
		defer func() {
			if x, is := r.Context().Value(exchangeKey{}).(*exchange); is {
				x.page.Store(&own.Pattern)
			}
		}()
		site.ServeHTTP(w, own)
	})
}

// elsewhere lets the site answer. Its headers are added to those that stand, so what it
// sets itself must not stand yet.
func (a *api) elsewhere(c *fasthttp.RequestCtx) {
	for _, h := range headers.All {
		c.Response.Header.Del(h.Name)
	}
	a.site(c)
	for _, h := range headers.All {
		if len(c.Response.Header.Peek(h.Name)) == 0 {
			c.Response.Header.Set(h.Name, h.Value)
		}
	}
}

// contained runs the handlers and turns a panic into an error.
func (a *api) contained(c *fiber.Ctx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
	}()
	if a.AllowHost != nil && !a.AllowHost(string(c.Context().Host())) {
		return newProblem(http.StatusMisdirectedRequest)
	}
	if err := receive(c); err != nil {
		return err
	}
	err = c.Next()
	var router *fiber.Error
	if a.site != nil && errors.As(err, &router) && router.Code == http.StatusNotFound && !strings.HasPrefix(c.Path(), "/v1/") {
		x := exchangeOf(c.Context())
		x.route = "site"
		a.elsewhere(c.Context())
		if pattern := x.page.Load(); pattern != nil {
			if _, path, _ := strings.Cut(*pattern, " "); path != "" && path != "/" {
				x.route = path
			}
		}
		return nil
	}
	return err
}

// panicked describes a panic for the log. Its value is told only where it comes from
// the runtime: any other may hold what was sent.
func panicked(r any) error {
	p := newProblem(http.StatusInternalServerError)
	if failure, ok := r.(runtime.Error); ok {
		p.cause = failure
	} else {
		p.cause = errors.New("panic")
	}
	p.cause = &stackError{p.cause, debug.Stack()}
	return p
}

type stackError struct {
	error
	stack []byte
}

// receive reads the body of every route but bulk, up to the limit.
func receive(c *fiber.Ctx) error {
	stream := c.Context().RequestBodyStream()
	if stream == nil || c.Path() == bulkPath {
		return nil
	}
	var read []byte
	if length := c.Request().Header.ContentLength(); length > bodyLimit {
		return tooLarge(stream, length)
	} else if length >= 0 {
		read = make([]byte, length)
		if _, err := io.ReadFull(stream, read); err != nil {
			return unread(err)
		}
	} else {
		var err error
		if read, err = io.ReadAll(io.LimitReader(stream, bodyLimit+1)); err != nil {
			return unread(err)
		}
		if len(read) > bodyLimit {
			return tooLarge(stream, length)
		}
	}
	c.Request().SetBodyStream(bytes.NewReader(read), len(read))
	return nil
}

// tooLarge refuses a body. A moderate one is read to its end, since who is still
// writing when the connection closes may never see the answer.
func tooLarge(stream io.Reader, length int) error {
	if length <= drainLimit {
		_, _ = io.CopyN(io.Discard, stream, drainLimit)
	}
	return newProblem(http.StatusRequestEntityTooLarge)
}

// unread is the problem of a body that did not arrive.
func unread(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return newProblem(http.StatusRequestTimeout)
	}
	return newProblem(http.StatusBadRequest)
}

// failed is fiber's error handler: for unknown pages, for methods that a page does not
// know, for heads that fasthttp refuses, and for what serve caught.
func (a *api) failed(c *fiber.Ctx, err error) error {
	var router *fiber.Error
	var p *Problem
	switch {
	case errors.As(err, &p):
	case errors.As(err, &router):
		p = newProblem(router.Code)
	default:
		p = problemOf(err)
	}
	if exchangeOf(c.Context()) == nil { // it never came to serve
		a.harden(c.Context())
	}
	p.write(c.Context())
	return nil
}

// guard lets in who holds a scope of the route, and bounds the time of the work.
func (a *api) guard(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	var p *auth.Principal
	var problem *Problem
	x := exchangeOf(humafiber.Unwrap(ctx).Context())
	x.operation, x.caller = op.OperationID, a.caller(humafiber.Unwrap(ctx).Context())
	header := ""
	if scopes := a.scopes[op.OperationID]; scopes == nil || len(scopes) > 0 {
		caller, shown := x.caller, a.credentials(humafiber.Unwrap(ctx).Context())
		header = cmp.Or(shown.authorization, shown.cookie)
		if problem = a.limits.knocks(caller, header); problem == nil {
			p, problem = a.admit(auth.WithCaller(ctx.Context(), caller), shown, scopes)
		}
		x.looked.Store(time.Now().Unix())
		x.again = func() *Problem {
			bounded, cancel := context.WithTimeout(context.Background(), a.RequestTimeout)
			defer cancel()
			_, problem := a.admit(auth.WithCaller(bounded, caller), shown, scopes)
			return problem
		}
	}
	if problem == nil {
		problem = a.limits.asks(x.caller, header, op.OperationID, p)
	}
	if problem == nil {
		problem = acceptable(ctx, op)
	}
	if problem != nil {
		_ = huma.WriteErr(a.huma, ctx, problem.Status, "", problem)
		return
	}
	x.principal = p
	bounded, cancel := context.WithTimeout(ctx.Context(), a.RequestTimeout)
	defer cancel()
	next(huma.WithContext(ctx, bounded))
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
func (a *api) credentials(c *fasthttp.RequestCtx) credentials {
	h := &c.Request.Header
	shown := credentials{authorization: string(h.Peek(fiber.HeaderAuthorization))}
	if shown.authorization == "" && a.Sessions != nil {
		shown.cookie = string(h.Cookie(a.Sessions.CookieName()))
		shown.unsafe, shown.csrf = auth.Unsafe(string(c.Method())), string(h.Peek(auth.CSRFHeader))
		shown.sameOrigin = auth.SameOrigin(string(h.Peek("Sec-Fetch-Site")), string(h.Peek(fiber.HeaderOrigin)), string(c.Host()))
	}
	return shown
}

// admit authenticates, and authorises for any one of the scopes (RFC 6750 section 3).
func (a *api) admit(ctx context.Context, shown credentials, scopes []auth.Scope) (*auth.Principal, *Problem) {
	const realm = `Bearer realm="latchkey"`
	if shown.authorization == "" && shown.cookie == "" {
		p := newProblem(http.StatusUnauthorized)
		p.challenge, p.why = realm, &auth.Refusal{Why: auth.WhyNone}
		return nil, p
	}
	p, err := a.authenticate(ctx, shown)
	var refused *Problem
	switch {
	case err == nil:
		for _, s := range scopes {
			if p.Has(s) && complete(p, s) {
				return p, nil
			}
		}
		return nil, insufficient(scopes...)
	case errors.As(err, &refused):
		return nil, refused
	case !errors.Is(err, auth.ErrToken): // nobody can tell: no reason to throw a token away
		return nil, problemOf(err)
	}
	refused = newProblem(http.StatusUnauthorized)
	errors.As(err, &refused.why)
	if refused.challenge = realm; shown.cookie == "" {
		refused.challenge += `, error="invalid_token"`
	}
	return nil, refused
}

// authenticate says who calls, by token or by session. A browser sends a session's cookie
// along with what any page makes it send, so by cookie an unsafe request must come from
// our own pages: the browser says so, and the session's token shows it.
func (a *api) authenticate(ctx context.Context, shown credentials) (*auth.Principal, error) {
	if shown.cookie == "" {
		token, ok := auth.BearerToken(shown.authorization)
		if !ok {
			return nil, &auth.Refusal{Why: auth.WhyMalformed}
		}
		return a.Verifier.Verify(ctx, token)
	}
	if shown.unsafe && !shown.sameOrigin {
		return nil, problemOfCode(codeCrossSite)
	}
	session, err := a.Sessions.Verify(ctx, shown.cookie)
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
	p.challenge = `Bearer realm="latchkey", error="insufficient_scope", scope="` + strings.Join(names, " ") + `"`
	return p
}

// acceptable holds a body to the content type of its route. None at all is taken for it.
func acceptable(ctx huma.Context, op *huma.Operation) *Problem {
	sent := ctx.Header(fiber.HeaderContentType)
	if op.RequestBody == nil || sent == "" {
		return nil
	}
	media, _, _ := strings.Cut(sent, ";")
	for accepted := range op.RequestBody.Content {
		if strings.EqualFold(strings.TrimSpace(media), accepted) {
			return nil
		}
	}
	p := newProblem(http.StatusUnsupportedMediaType)
	for accepted := range op.RequestBody.Content {
		p.Detail = "Send " + accepted + "."
	}
	return p
}

// pattern is a route as the documentation writes it: no metric and no log line holds
// a path that a caller made up.
func (a *api) pattern(path string) string {
	if p, known := a.routes.Load(path); known {
		return p.(string)
	}
	p := bracketed(path)
	a.routes.Store(path, p)
	return p
}

// finish logs and measures an answer.
func (a *api) finish(x *exchange, method, route string, status int) {
	took := time.Since(x.start)
	if a.Metrics != nil {
		a.Metrics.Served(method, route, status, took)
	}
	ctx := context.Background()
	if x.cause != nil {
		attrs := []slog.Attr{slog.String("request_id", x.id), slog.String("route", route), slog.String("error", x.cause.Error())}
		var deep *stackError
		if errors.As(x.cause, &deep) {
			attrs = append(attrs, slog.String("stack", string(deep.stack)))
		}
		a.Log.LogAttrs(ctx, slog.LevelError, "request failed", attrs...)
	}
	if !a.Log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", x.id), slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.String("code", x.code), slog.Float64("took_ms", milliseconds(took)),
	}
	if x.why != nil {
		attrs = append(attrs, slog.String("why", string(x.why.Why)))
		if x.why.Key != "" {
			attrs = append(attrs, slog.String("key", x.why.Key))
		}
	}
	a.Log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// milliseconds is a duration for the log, to the microsecond.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
