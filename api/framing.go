package api

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// seal stands outside of the router, which answers some requests on its own. It closes
// the connection after a request whose body was not read to its end: what is left of it
// would be taken for the next request, and fasthttp does not see to that itself.
func (s *server) seal(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(c *fasthttp.RequestCtx) {
		switch {
		case !wellFramed(&c.Request.Header):
			s.harden(c)
			newProblem(http.StatusBadRequest).write(c)
			c.SetConnectionClose()
			return
		case slices.Contains(fiber.DefaultMethods, string(c.Method())):
			next(c)
		default: // fiber would say so in plain text
			s.harden(c)
			p := newProblem(http.StatusNotFound)
			if methods := s.allowed(string(c.Path())); methods != "" {
				p = newProblem(http.StatusMethodNotAllowed)
				c.Response.Header.Set(fiber.HeaderAllow, methods)
			}
			p.write(c)
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
