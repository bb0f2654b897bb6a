package api

import (
	"errors"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/oklog/ulid/v2"

	"latchkey/handoff"
)

// serve is the outermost handler: whatever happens inside, an answer comes out that is
// safe to show, and is logged and measured.
func (s *server) serve(c *fiber.Ctx) error {
	x := &exchange{id: c.Get(fiber.HeaderXRequestID), route: "unmatched", start: time.Now()}
	if handoff.CheckID(x.id) != nil {
		x.id = ulid.Make().String()
	}
	c.Locals(exchangeKey{}, x)
	c.Set(fiber.HeaderXRequestID, x.id)
	s.harden(c.Context())

	// What answers GET answers HEAD; the server leaves the body out (RFC 9110 section 9.3.2).
	method := c.Method()
	if x.head = method == http.MethodHead; x.head {
		c.Method(http.MethodGet)
	}
	own := c.Route()
	if c.Path() != bulkPath {
		s.beside.enter()
		defer s.beside.leave()
	}
	if err := s.contained(c); err != nil {
		_ = s.failed(c, err)
	}
	if x.streams {
		return nil
	}
	pack(c, x)
	route := x.route
	if c.Route() != own {
		route = s.pattern(c.Route().Path)
	}
	s.limits.note(x, c.Response().StatusCode())
	s.recorder.finish(x, method, route, c.Response().StatusCode())
	return nil
}

// contained runs the handlers and turns a panic into an error.
func (s *server) contained(c *fiber.Ctx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
	}()
	if s.AllowHost != nil && !s.AllowHost(string(c.Context().Host())) {
		return newProblem(http.StatusMisdirectedRequest)
	}
	if s.halted != nil && !spared[c.Path()] {
		if err := s.halted(); err != nil {
			p := problemOfCode(codeHalted)
			p.cause = err
			return p
		}
	}
	if err := receive(c); err != nil {
		return err
	}
	err = c.Next()
	var router *fiber.Error
	if s.site != nil && errors.As(err, &router) && router.Code == http.StatusNotFound && !strings.HasPrefix(c.Path(), "/v1/") {
		x := exchangeOf(c.Context())
		x.route = "site"
		s.elsewhere(c.Context())
		if pattern := x.page.Load(); pattern != nil {
			if _, path, _ := strings.Cut(*pattern, " "); path != "" && path != "/" {
				x.route = path
			}
		}
		return nil
	}
	return err
}

// spared is what is served though nothing else may be: who looks at the process needs it.
var spared = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

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

// failed is fiber's error handler: for unknown pages, for methods that a page does not
// know, for heads that fasthttp refuses, and for what serve caught.
func (s *server) failed(c *fiber.Ctx, err error) error {
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
		s.harden(c.Context())
	}
	if p.Status == http.StatusMethodNotAllowed {
		c.Set(fiber.HeaderAllow, s.allowed(c.Path()))
	}
	p.write(c.Context())
	return nil
}
