package api

import (
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"latchkey/api/headers"
)

// harden sets what every answer carries. A page may set its own afterwards.
func (s *server) harden(c *fasthttp.RequestCtx) {
	for _, h := range headers.All {
		c.Response.Header.Set(h.Name, h.Value)
	}
	if s.tls {
		c.Response.Header.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
}
