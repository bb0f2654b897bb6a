package api

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"latchkey/api/headers"
)

// packed are the operations whose answers are compressed: lists that can be long, and that
// hold no code, no token, no permit and no PIN. A compressed answer tells by its length how
// much alike its parts are, so that a secret beside what the caller chose could be guessed
// (BREACH). A new operation is not compressed until it stands here.
var packed = map[string]bool{
	"courier-stops": true, "events": true, "numbers": true, "access-log": true, "get-order": true,
}

// packedPages are the beginnings of paths whose answers are the same for everybody.
var packedPages = []string{"/openapi.json", "/docs/", "/metrics"}

// pack compresses an answer that may be, where the caller takes it.
func pack(c *fiber.Ctx, x *exchange) {
	resp := c.Response()
	if !packable(c.Path(), x) {
		return
	}
	resp.Header.Add(fasthttp.HeaderVary, fasthttp.HeaderAcceptEncoding)
	if resp.StatusCode() != http.StatusOK || resp.IsBodyStream() || !headers.AcceptsGzip(c.Get(fasthttp.HeaderAcceptEncoding)) {
		return
	}
	if content := headers.Gzip(resp.Body()); content != nil {
		resp.SetBodyRaw(content)
		resp.Header.Set(fasthttp.HeaderContentEncoding, "gzip")
	}
}

func packable(path string, x *exchange) bool {
	if x.operation != "" {
		return packed[x.operation]
	}
	for _, page := range packedPages {
		if path == page || strings.HasSuffix(page, "/") && strings.HasPrefix(path, page) {
			return true
		}
	}
	return false
}
