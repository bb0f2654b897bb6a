package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// health serves whether the process lives, whether it can serve (nil: always) and why it was
// told not to (nil: it never is), what it does not serve (nil: it serves all), and its metrics (nil:
// none).
func health(app *fiber.App, ready func(context.Context) error, halted func() error, degraded func() string, metrics prometheus.Gatherer) {
	app.Get("/healthz", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "ok"}) })
	app.Get("/readyz", func(c *fiber.Ctx) error {
		if halted != nil {
			if err := halted(); err != nil {
				p := problemOfCode(codeHalted)
				p.Detail, p.cause = err.Error(), err
				return p
			}
		}
		if ready != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := ready(ctx); err != nil {
				p := newProblem(http.StatusServiceUnavailable)
				p.cause = err
				var told interface{ Detail() string } // in words for anyone
				if errors.As(err, &told) {
					p.Detail = told.Detail()
				}
				return p
			}
		}
		if degraded != nil {
			if what := degraded(); what != "" { // the rest is served, and would not be elsewhere
				return c.JSON(fiber.Map{"status": "degraded", "detail": what})
			}
		}
		return c.JSON(fiber.Map{"status": "ready"})
	})
	if metrics != nil {
		show := fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
		app.Get("/metrics", func(c *fiber.Ctx) error {
			show(c.Context())
			return nil
		})
	}
}
