// Package api is Latchkey over HTTP: one file for each audience (warehouse, carrier,
// courier, customer, building, doors), one map from the domain's reasons to problems (problem.go), one
// set of rules for what comes in (request.go, wire.go).
//
// It calls handoff.Service and keeps the registry; it decides nothing.
package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"latchkey/api/auth"
	"latchkey/api/metrics"
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
	if err := a.description(app); err != nil {
		return nil, err
	}
	if err := documentation(app); err != nil {
		return nil, err
	}
	a.health(app)
	return app, nil
}
