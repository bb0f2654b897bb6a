// Package api is Latchkey over HTTP: one file for each audience (warehouse, carrier,
// courier, customer, building, doors), one map from the domain's reasons to problems (problem.go), one
// set of rules for what comes in (request.go, wire.go).
//
// It calls the rooms of handoff; it decides nothing.
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
	"latchkey/handoff/receipt"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// Config is what the API is made of: the rooms that its routes serve from, who may call,
// and what the server itself needs. New says which audience gets which of it.
type Config struct {
	Rooms
	Callers

	Clock clock.Clock // required

	// Ready reports whether requests can be served, for /readyz; nil is always.
	Ready func(context.Context) error

	// Halted is why no request may be served, in words for the operator, which /readyz tells;
	// nil while they may. A nil function never halts.
	Halted func() error

	// Degraded is what is not served while all else is, in words for the operator, which /readyz
	// tells; empty: all is served. May be nil.
	Degraded func() string

	// Metrics observes requests; nil observes none.
	Metrics *metrics.Metrics

	// Gatherer is what /metrics shows; nil shows nothing and there is no such page.
	Gatherer prometheus.Gatherer

	// Log gets one record a request, at level info, and errors. Nil is silence.
	Log *slog.Logger

	// Site serves the pages that the API does not know, outside of /v1; nil serves none.
	// Its pages may set their own Content-Security-Policy and Cache-Control.
	Site http.Handler

	// TLS says that browsers reach this service over TLS alone: every answer tells them to
	// keep to it (RFC 6797). A proxy that ends TLS says so itself.
	TLS bool

	Version   string // of the software, as the documentation tells it
	PublicURL string // where callers reach the service; empty: the documentation names no address

	ReadTimeout  time.Duration // for a request to arrive, but a bulk one's body; 0 is 15 seconds
	WriteTimeout time.Duration // for an answer to be taken, but a stream; 0 is 15 seconds

	RequestTimeout time.Duration // for the work on one request or line; 0 is 5 seconds
	BulkLimit      int64         // bytes of one bulk body; 0 is 256 MiB
	BulkWorkers    int           // lines of one bulk body in work at once; 0 is 256
}

// Rooms are what the routes serve from. All but Doors, Receipts and Residents are required.
type Rooms struct {
	Service   *service.Service     // grants: dispatch, verify, unlock and all that changes one
	Couriers  service.Couriers     // couriers and who drives which route
	Registry  *registry.Registry   // buildings and doors
	Directory *residents.Directory // residents, and who asked to be told
	PageLinks *identity.PageLinks  // how a shop sends its customer on to the pages
	Access    *trail.Reader        // the access logs of buildings
	Events    eventlog.Reading     // the event log
	Figures   Figures              // the duty officer's numbers

	// Doors is what opening doors takes; nil: doors can be registered, but not opened.
	Doors *Doors

	// Receipts sign what is on record of handoffs; nil: no receipts are given.
	Receipts *receipt.Keys

	// Residents is what telling residents takes; nil: no resident can subscribe.
	Residents *Residents
}

// Callers say who may call, from where, and how often a caller may fail.
type Callers struct {
	// Verifier judges bearer tokens. Required.
	Verifier auth.Verifier

	// Sessions are accepted in place of a token; nil: there are none.
	Sessions *auth.Sessions

	// AllowHost reports whether a request with this Host header is served, or refused
	// with 421; nil serves any. A service on loopback without it is open to every page in
	// the browser beside it (DNS rebinding).
	AllowHost func(host string) bool

	// TrustedProxies are the networks of the proxies before this service. What they say
	// in X-Forwarded-For of where a request came from is believed; of others it is ignored.
	TrustedProxies []netip.Prefix

	// Limits bound what an address may fail at; without a limiter failures are not bounded.
	Limits Limits
}

const (
	bodyLimit   = 64 << 10 // bytes of an ordinary body, and of a line of a bulk one
	headerLimit = 16 << 10 // bytes of a request's head
	drainLimit  = 1 << 20  // bytes of a refused body that are read so that its sender hears why
	idleTimeout = 75 * time.Second
)

// server is what stands around the routes: it admits, bounds, logs and answers.
type server struct {
	Callers
	recorder *recorder
	app      *fiber.App
	huma     huma.API
	scopes   map[string][]auth.Scope // by operation id
	site     fasthttp.RequestHandler // nil: none
	limits   *limits
	couriers service.Couriers
	routes   sync.Map // the router's patterns to those of the documentation
	timeout  time.Duration
	tls      bool
	halted   func() error // nil: never
	beside   *giveWay
}

// New makes the API as a fiber application, to which further routes may be added. The
// caller listens and shuts down. It refuses a configuration in which something required
// is missing.
func New(c Config) (*fiber.App, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &server{
		Callers: c.Callers, recorder: &recorder{log: c.Log, metrics: c.Metrics}, scopes: map[string][]auth.Scope{},
		limits: newLimits(c.Limits, c.Clock), couriers: c.Couriers, timeout: c.RequestTimeout, tls: c.TLS,
		halted: c.Halted, beside: newGiveWay(time.Now),
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
		ErrorHandler:                 s.failed,
	})
	s.app = app
	app.Server().Handler = s.seal(app.Handler())
	app.Use(s.serve)

	if c.Site != nil {
		s.site = fasthttpadaptor.NewFastHTTPHandler(outliving(c.Site))
	}
	s.huma = humafiber.New(app, huma.Config{
		OpenAPI:       describe(c),
		Formats:       map[string]huma.Format{fiber.MIMEApplicationJSON: jsonFormat, "json": jsonFormat},
		DefaultFormat: fiber.MIMEApplicationJSON,
		Transformers:  []huma.Transformer{annotate},
		// No CreateHooks: they would build $schema links from the Host header. No paths
		// for documentation: huma's pages load from a content delivery network.
	})
	s.huma.UseMiddleware(s.guard)

	r := &registrar{huma: s.huma, scopes: s.scopes, cookies: c.Sessions != nil}
	for _, a := range audiences(&c, s.recorder, s.beside) {
		a.register(r)
	}

	if err := description(app, s.huma.OpenAPI()); err != nil {
		return nil, err
	}
	if err := documentation(app); err != nil {
		return nil, err
	}
	health(app, c.Ready, c.Halted, c.Degraded, c.Gatherer)
	return app, nil
}

// complete refuses what lacks something required, and fills in what is left to us.
func (c *Config) complete() error {
	if c.Service == nil || c.Couriers == nil || c.Registry == nil || c.Directory == nil || c.PageLinks == nil || c.Access == nil || c.Events == nil || c.Figures == nil {
		return errors.New("api: all rooms but Doors, Receipts and Residents are needed")
	}
	if c.Verifier == nil || c.Clock == nil {
		return errors.New("api: a verifier and a clock are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 5*time.Second)
	c.ReadTimeout, c.WriteTimeout = cmp.Or(c.ReadTimeout, 15*time.Second), cmp.Or(c.WriteTimeout, 15*time.Second)
	c.BulkLimit, c.BulkWorkers = cmp.Or(c.BulkLimit, 256<<20), cmp.Or(c.BulkWorkers, 256)
	if c.Doors != nil {
		d := *c.Doors
		if d.Signer == nil || d.Feed == nil {
			return errors.New("api: doors need a signer and a feed")
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
	return nil
}

// audience is the routes of those who ask for the same things.
type audience interface{ register(*registrar) }

// audiences says who gets what of the configuration.
func audiences(c *Config, recorder *recorder, beside *giveWay) []audience {
	var carrierNames map[string]string
	if c.Residents != nil {
		carrierNames = c.Residents.CarrierNames
	}
	dialedIn := 0 // doors at once
	if c.Doors != nil {
		dialedIn = c.Doors.Streams
	}
	customers := &customerRoutes{
		service: c.Service, couriers: c.Couriers, registry: c.Registry, links: c.PageLinks, asked: c.Directory, clock: c.Clock, log: c.Log, carrierNames: carrierNames,
	}
	return []audience{
		&bulkRoutes{
			service: c.Service, timeout: c.RequestTimeout, limit: c.BulkLimit, workers: c.BulkWorkers,
			places: bulks{of: map[string]int{}}, beside: beside, log: c.Log, recorder: recorder,
		},
		&warehouseRoutes{service: c.Service, clock: c.Clock},
		&readinessRoutes{service: c.Service, clock: c.Clock},
		&carrierRoutes{service: c.Service, couriers: c.Couriers, clock: c.Clock},
		&courierRoutes{service: c.Service, registry: c.Registry, clock: c.Clock},
		customers,
		&disputeRoutes{service: c.Service, customers: customers, clock: c.Clock},
		&receiptRoutes{service: c.Service, keys: c.Receipts},
		&doorRoutes{ // before the building's: its keys are no door
			service: c.Service, registry: c.Registry, opening: c.Doors, streams: streams{most: dialedIn, open: map[string]chan struct{}{}},
			timeout: c.RequestTimeout, log: c.Log, recorder: recorder,
		},
		&buildingRoutes{service: c.Service, registry: c.Registry, policy: c.Service.Policy()},
		&unitRoutes{service: c.Service, registry: c.Registry, directory: c.Directory},
		&accessRoutes{registry: c.Registry, log: c.Access},
		&eventRoutes{events: c.Events, hash: c.Service.ParcelHash, home: c.Service.Home, labels: c.Service.Policy().Labels},
		&residentRoutes{service: c.Service, directory: c.Directory, registry: c.Registry, clock: c.Clock, told: c.Residents},
		&numberRoutes{figures: c.Figures, clock: c.Clock},
		&orderRoutes{service: c.Service, clock: c.Clock},
	}
}
