package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// health serves whether the process lives, whether it can serve (nil: always), and its
// metrics (nil: none).
func health(app *fiber.App, ready func(context.Context) error, metrics prometheus.Gatherer) {
	app.Get("/healthz", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "ok"}) })
	app.Get("/readyz", func(c *fiber.Ctx) error {
		if ready != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := ready(ctx); err != nil {
				p := newProblem(http.StatusServiceUnavailable)
				p.cause = err
				return p
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
