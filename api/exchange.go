package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"latchkey/api/auth"
	"latchkey/api/metrics"
)

// exchange is one request and its answer, for those who watch.
type exchange struct {
	id        string // X-Request-ID
	route     string // where it is none of the router's
	start     time.Time
	principal *auth.Principal
	operation string     // of the documentation; empty for pages
	caller    netip.Addr // personal data; invalid where it was not determined

	again   func() *Problem // admits the caller once more; nil where no token is asked for
	looked  atomic.Int64    // when it last did, in seconds
	refused atomic.Pointer[Problem]
	code    string        // of the problem, if it came to one
	why     *auth.Refusal // where the caller's token, key or session was refused; for the log alone
	cause   error         // what failed on our side, if something did
	streams bool          // the answer is still being written when the handler returns
	head    bool          // the request is a HEAD: an answer without its body

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
// while that cannot be told. It is for answers that take longer than a revoked key may work,
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

// recorder logs and measures answers.
type recorder struct {
	log     *slog.Logger
	metrics *metrics.Metrics // nil measures nothing
}

// finish logs and measures an answer.
func (r *recorder) finish(x *exchange, method, route string, status int) {
	took := time.Since(x.start)
	if r.metrics != nil {
		r.metrics.Served(method, route, status, took)
	}
	ctx := context.Background()
	if x.cause != nil {
		attrs := []slog.Attr{slog.String("request_id", x.id), slog.String("route", route), slog.String("error", x.cause.Error())}
		var deep *stackError
		if errors.As(x.cause, &deep) {
			attrs = append(attrs, slog.String("stack", string(deep.stack)))
		}
		r.log.LogAttrs(ctx, slog.LevelError, "request failed", attrs...)
	}
	if !r.log.Enabled(ctx, slog.LevelInfo) {
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
	r.log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// milliseconds is a duration for the log, to the microsecond.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// pattern is a route as the documentation writes it: no metric and no log line holds
// a path that a caller made up.
func (s *server) pattern(path string) string {
	if p, known := s.routes.Load(path); known {
		return p.(string)
	}
	p := bracketed(path)
	s.routes.Store(path, p)
	return p
}
