package api

import (
	"context"
	"net/http"
	"time"

	"latchkey/api/headers"

	"github.com/valyala/fasthttp"
)

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
func (s *server) elsewhere(c *fasthttp.RequestCtx) {
	for _, h := range headers.All {
		c.Response.Header.Del(h.Name)
	}
	s.site(c)
	for _, h := range headers.All {
		if len(c.Response.Header.Peek(h.Name)) == 0 {
			c.Response.Header.Set(h.Name, h.Value)
		}
	}
}
