package frame

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"latchkey/api/auth"
)

// API is the way from a page to the service's own contract: real requests through the
// same application, without a socket between them. The caller is the person of the
// visitor's session, and the API judges that itself.
//
// It is made before the application that serves the pages, and told of it afterwards.
type API struct {
	handler atomic.Pointer[fasthttp.RequestHandler]
}

// Serve tells where requests go: an application's handler.
func (a *API) Serve(h fasthttp.RequestHandler) { a.handler.Store(&h) }

// Answer is what the API said.
type Answer struct {
	Status     int
	JSON       []byte
	RetryAfter time.Duration // 0: it did not say
}

// OK reports a success.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Code is what went wrong, for programs: the code of RFC 9457 problem details; empty for
// a success.
func (a Answer) Code() string {
	var problem struct {
		Code string `json:"code"`
	}
	if a.OK() || json.Unmarshal(a.JSON, &problem) != nil {
		return ""
	}
	return problem.Code
}

// Read decodes the answer. Members that into does not know are passed over.
func (a Answer) Read(into any) error { return json.Unmarshal(a.JSON, into) }

// forwarded are the headers by which the API judges whose request it is, whence it came,
// and that it was meant.
var forwarded = []string{"Cookie", "Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Forwarded"}

// Do asks the API in the name of who sent r. Body is what JSON can say; nil sends none.
func (a *API) Do(r *http.Request, method, path string, body any) Answer {
	handler := a.handler.Load()
	if handler == nil {
		return Answer{Status: http.StatusServiceUnavailable}
	}
	var ctx fasthttp.RequestCtx
	ctx.Init2(inside{peer: peer(r)}, nil, false)
	req := &ctx.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.SetHost(r.Host)
	for _, name := range forwarded {
		for _, value := range r.Header.Values(name) {
			req.Header.Add(name, value)
		}
	}
	if method != http.MethodGet {
		req.Header.Set(auth.CSRFHeader, csrfOf(r))
	}
	if body != nil {
		content, err := json.Marshal(body)
		if err != nil {
			return Answer{Status: http.StatusInternalServerError}
		}
		req.Header.SetContentType("application/json")
		req.SetBodyStream(bytes.NewReader(content), len(content))
	}
	(*handler)(&ctx)
	answer := Answer{Status: ctx.Response.StatusCode(), JSON: bytes.Clone(ctx.Response.Body())}
	if seconds, err := strconv.Atoi(string(ctx.Response.Header.Peek("Retry-After"))); err == nil {
		answer.RetryAfter = time.Duration(seconds) * time.Second
	}
	return answer
}

// inside is the connection of a request that came over none. It knows who sent it, and no
// deadline applies to it.
type inside struct {
	net.Conn
	peer net.Addr
}

func (c inside) RemoteAddr() net.Addr           { return c.peer }
func (inside) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (inside) SetDeadline(time.Time) error      { return nil }
func (inside) SetReadDeadline(time.Time) error  { return nil }
func (inside) SetWriteDeadline(time.Time) error { return nil }

// peer is who sent r, as the server that took it in knows.
func peer(r *http.Request) net.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return &net.TCPAddr{}
	}
	return net.TCPAddrFromAddrPort(at)
}
