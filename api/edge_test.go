package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// Every operation of the document is in the table of tenants, and asks for the scopes that
// the table says, or for no token at all.
func TestScopes(t *testing.T) {
	h := newHouse(t, nil)
	table := map[string][]auth.Scope{}
	for _, o := range operations() {
		call, _, _ := strings.Cut(o.call, "?")
		table[call] = slices.AppendSeq([]auth.Scope{}, maps.Keys(o.may))
	}
	fill := strings.NewReplacer("{carrier_id}", "swift", "{date}", "2026-11-24", "{customer_id}", "cus_81",
		"{grant_id}", "000000000000000000000000-1", "{route_id}", "BER-042", "{courier_id}", "cou_7", "{parcel_id}", "P1",
		"{building_id}", "bld_1", "{shop_id}", "demo", "{order_id}", "o-1", "{door_id}", "door_1", "{resident_id}", strings.Repeat("1", 24), "{token}", "AAAA", "{permit_id}", strings.Repeat("0", 31)+"1",
		"{change_id}", "0123456789abcdef", "{unit}", "4")

	var document struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal([]byte(h.do(t, ops, "GET", "/openapi.json", "").text), &document); err != nil {
		t.Fatal(err)
	}
	documented := 0
	for path, methods := range document.Paths {
		for method := range methods {
			documented++
			if table[strings.ToUpper(method)+" "+path] == nil {
				t.Errorf("%s %s is not in the table", method, path)
			}
		}
	}
	if documented != len(table) {
		t.Errorf("%d operations documented, %d in the table", documented, len(table))
	}

	for operation, scopes := range table {
		method, path, _ := strings.Cut(fill.Replace(operation), " ")
		if len(scopes) == 0 {
			if a := h.send(t, httptest.NewRequest(method, path, nil)); a.status == 401 || a.status == 403 {
				t.Errorf("%s without a token: %d %s", operation, a.status, a.code())
			}
			continue
		}
		for scope, who := range owners {
			allowed := slices.Contains(scopes, scope)
			a := h.do(t, who, method, path, "")
			if refused := a.code() == "insufficient-scope"; refused == allowed || a.status == 401 {
				t.Errorf("%s by %s: %d %s", operation, scope, a.status, a.code())
			} else if refused && (a.status != 403 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="insufficient_scope"`)) {
				t.Errorf("%s by %s: %d %s", operation, scope, a.status, a.header.Get("WWW-Authenticate"))
			}
		}
		for header, challenge := range map[string]string{
			"":             `Bearer realm="latchkey"`,
			"Basic eDp5":   `Bearer realm="latchkey", error="invalid_token"`,
			"Bearer x.y.z": `Bearer realm="latchkey", error="invalid_token"`,
		} {
			req := httptest.NewRequest(method, path, nil)
			req.Header.Set("Authorization", header)
			if header == "" {
				req.Header.Del("Authorization")
			}
			a := h.send(t, req)
			if a.status != 401 || a.code() != "unauthorized" || a.header.Get("WWW-Authenticate") != challenge {
				t.Errorf("%s with %q: %d %s %q", operation, header, a.status, a.code(), a.header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestForeignCarrier(t *testing.T) {
	h := newHouse(t, nil)
	h.expect(t, carrier, "PUT", "/v1/couriers/rival/cou_7", `{"name":"Courier"}`, 403, "insufficient-scope")
	h.expect(t, carrier, "PUT", "/v1/routes/rival/R/2026-11-24", `{"courier_id":"cou_7"}`, 403, "insufficient-scope")
	h.expect(t, ops, "PUT", "/v1/couriers/rival/cou_7", `{"name":"Courier"}`, 200, "")
	h.expect(t, ops, "PUT", "/v1/routes/rival/R/2026-11-24", `{"courier_id":"cou_7"}`, 200, "")
}

// A courier's fields that are not given stay.
func TestPutCourierKeeps(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", `{"suspended":true}`, 200, "")
	c, err := h.Store.Courier(background, handofftest.Courier("cou_7"))
	if err != nil || c.Name != "Courier 7" || !c.Suspended || c.ClearedUntil.Time() != time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC) {
		t.Errorf("%+v %v", c, err)
	}
}

func TestIDsInPaths(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	h.dispatch(t, "P.1_a-b", map[string]any{"value.amount": "1"})
	h.expect(t, courier, "POST", "/v1/parcels/%50.1%5Fa-b/verify", atDoor(""), 200, "") // the same id, spelt otherwise
	for _, id := range []string{"%2E", "%2E%2E", "%20", "a%0Ab", "a%2Fb", "a%00b", "a%ZZ", "a:b", "%E2%82%AC", strings.Repeat("a", 65), "..%2f..", "a%25b"} {
		a := h.send(t, &http.Request{
			Method: "POST", URL: &url.URL{Opaque: "/v1/parcels/" + id + "/verify"}, Host: "h",
			Header: http.Header{"Authorization": {"Bearer " + h.token(t, courier)}}, Body: http.NoBody,
		})
		if a.status != 422 || a.code() != "invalid-request" || !strings.Contains(a.text, `"location":"path.parcel_id"`) {
			t.Errorf("%s: %d %s", id, a.status, a.text)
		}
		if strings.Contains(a.text, id) {
			t.Errorf("%s is repeated", id)
		}
	}
	h.expect(t, carrier, "PUT", "/v1/routes/swift/R/2026-02-30", `{"courier_id":"cou_7"}`, 422, "invalid-request")
	h.expect(t, customer, "GET", "/v1/handoffs/a%20b", "", 422, "invalid-request")
}

// Whatever is wrong with a request, the answer is a problem that repeats nothing of it
// and carries the headers of every answer.
func TestEdges(t *testing.T) {
	h := newHouse(t, nil)
	h.app.Get("/panic", func(*fiber.Ctx) error { panic("secret-123456") })
	h.app.Get("/fail", func(*fiber.Ctx) error { return errors.New("of ours, secret to callers") })
	verify := func(change func(*http.Request)) *http.Request {
		req := h.request(t, courier, "POST", "/v1/parcels/P1/verify", `{"code":"secret-123456"}`)
		change(req)
		return req
	}
	for name, c := range map[string]struct {
		req    *http.Request
		status int
		code   string
	}{
		"unknown page":      {h.request(t, courier, "GET", "/secret-123456", ""), 404, "not-found"},
		"other case":        {h.request(t, courier, "GET", "/V1/courier/stops", ""), 404, "not-found"},
		"trailing slash":    {h.request(t, courier, "GET", "/v1/courier/stops/", ""), 404, "not-found"},
		"other method":      {h.request(t, courier, "DELETE", "/v1/courier/stops", ""), 405, "method-not-allowed"},
		"unknown method":    {h.request(t, courier, "FROB", "/v1/courier/stops", ""), 405, "method-not-allowed"},
		"panic":             {h.request(t, courier, "GET", "/panic", ""), 500, "internal-error"},
		"error":             {h.request(t, courier, "GET", "/fail", ""), 500, "internal-error"},
		"malformed code":    {verify(func(*http.Request) {}), 422, "invalid-request"},
		"malformed json":    {h.request(t, courier, "POST", "/v1/parcels/P1/verify", `{"code":"secret-123456`), 400, "bad-request"},
		"form":              {verify(func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }), 415, "unsupported-media-type"},
		"other json":        {verify(func(r *http.Request) { r.Header.Set("Content-Type", "application/secret-123456+json") }), 415, "unsupported-media-type"},
		"cbor":              {verify(func(r *http.Request) { r.Header.Set("Content-Type", "application/cbor") }), 415, "unsupported-media-type"},
		"charset is fine":   {verify(func(r *http.Request) { r.Header.Set("Content-Type", "Application/JSON; charset=utf-8") }), 422, "invalid-request"},
		"accepts xml alone": {verify(func(r *http.Request) { r.Header.Set("Accept", "text/xml") }), 422, "invalid-request"},
		"no body":           {h.request(t, warehouse, "POST", "/v1/dispatches", ""), 400, "bad-request"},
		"too long":          {h.request(t, warehouse, "POST", "/v1/dispatches", `"`+strings.Repeat("secret-123456", 6000)+`"`), 413, "body-too-large"},
		"just too long":     {h.request(t, warehouse, "POST", "/v1/dispatches", strings.Repeat(" ", 64<<10+1)), 413, "body-too-large"},
		"just not too long": {h.request(t, warehouse, "POST", "/v1/dispatches", strings.Repeat(" ", 64<<10-2)+"{}"), 422, "invalid-request"},
	} {
		a := h.send(t, c.req)
		if a.status != c.status || a.code() != c.code || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.text, c.status, c.code)
		}
		if strings.Contains(a.text, "secret") || strings.Contains(a.text, "$schema") {
			t.Errorf("%s: the answer repeats what was sent: %s", name, a.text)
		}
		for header, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if got := a.header.Get(header); got != want {
				t.Errorf("%s: %s %q, want %q", name, header, got, want)
			}
		}
		if a.header.Get("X-Request-Id") == "" && name != "unknown method" || a.header.Get("Server") != "" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
	if strings.Contains(h.log.String(), "secret-123456") {
		t.Errorf("the log repeats what was sent: %s", h.log)
	}
}

func TestRequestLog(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	h.log.b.Reset()
	req := h.request(t, courier, "POST", "/v1/parcels/P1/verify?token=secret", atDoor("123456"))
	req.Header.Set("X-Request-ID", "till-42")
	if a := h.send(t, req); a.header.Get("X-Request-Id") != "till-42" {
		t.Errorf("X-Request-ID %q", a.header.Get("X-Request-Id"))
	}
	var record map[string]any
	if err := json.Unmarshal([]byte(h.log.String()), &record); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"msg": "request", "request_id": "till-42", "method": "POST", "route": "/v1/parcels/{parcel_id}/verify", "status": 404.0, "code": "parcel-unknown",
	} {
		if record[name] != want {
			t.Errorf("%s = %v, want %v", name, record[name], want)
		}
	}
	req = h.request(t, courier, "GET", "/v1/courier/stops", "")
	req.Header.Set("X-Request-ID", "not an id")
	if id := h.send(t, req).header.Get("X-Request-Id"); len(id) != 26 {
		t.Errorf("X-Request-ID %q is no ULID", id)
	}
}

// down is a store that fails.
type down struct {
	handofftest.Store
	err error
}

func (d down) Prepare(context.Context, service.Preparation) (service.Snapshot, error) {
	return service.Snapshot{}, d.err
}

func TestFailingStore(t *testing.T) {
	for _, c := range []struct {
		err         error
		status      int
		code, retry string
	}{
		{storage.ErrUnavailable, 503, "unavailable", "1"},
		{fmt.Errorf("redis says secret: %w", storage.ErrUnavailable), 503, "unavailable", "1"},
		{errors.New("secret"), 500, "internal-error", ""},
		{storage.ErrSealed, 500, "internal-error", ""},
	} {
		h := newHouse(t, down{embedded.New(t), c.err})
		a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("123456"), c.status, c.code)
		if a.header.Get("Retry-After") != c.retry || strings.Contains(a.text, "secret") {
			t.Errorf("%v: Retry-After %q, %s", c.err, a.header.Get("Retry-After"), a.text)
		}
	}
}

// Fiber gives a handler no deadline: without one of ours, a store that hangs would hang
// the caller.
func TestWorkIsBounded(t *testing.T) {
	h := newHouse(t, &stuck{Store: embedded.New(t)}, func(c *api.Config) { c.RequestTimeout = time.Millisecond })
	a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("123456"), 503, "unavailable")
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
}

func TestSiteBesidesTheAPI(t *testing.T) {
	site := http.NewServeMux()
	site.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<p>hello")
	})
	site.HandleFunc("POST /demo/token", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	site.HandleFunc("GET /demo/panic", func(http.ResponseWriter, *http.Request) { panic("secret") })
	h := newHouse(t, nil, func(c *api.Config) {
		c.Site = site
		c.AllowHost = func(host string) bool { return host == "example.com" }
	})
	page := h.send(t, httptest.NewRequest("GET", "/", nil))
	if page.status != 200 || page.text != "<p>hello" || page.header.Get("X-Content-Type-Options") != "nosniff" ||
		!slices.Equal(page.header.Values("Content-Security-Policy"), []string{"default-src 'self'"}) || page.header.Get("X-Request-Id") == "" {
		t.Errorf("%d %s %v", page.status, page.text, page.header)
	}
	if echo := h.send(t, httptest.NewRequest("POST", "/demo/token", strings.NewReader("a body"))); echo.text != "a body" {
		t.Errorf("the body does not arrive: %d %s", echo.status, echo.text)
	}
	if a := h.send(t, httptest.NewRequest("POST", "/demo/token", strings.NewReader(strings.Repeat("x", 64<<10+1)))); a.status != 413 {
		t.Errorf("a long body: %d", a.status)
	}
	if a := h.send(t, httptest.NewRequest("GET", "/demo/panic", nil)); a.status != 500 || a.code() != "internal-error" || strings.Contains(h.log.String(), "secret") {
		t.Errorf("a panic: %d %s", a.status, a.text)
	}
	if a := h.send(t, httptest.NewRequest("GET", "/v1/nothing", nil)); a.code() != "not-found" {
		t.Errorf("below /v1: %d %s", a.status, a.text)
	}
	if a := h.send(t, httptest.NewRequest("POST", "/healthz", nil)); a.code() != "method-not-allowed" || a.header.Get("Allow") == "" {
		t.Errorf("another method of a page of ours: %d %s %v", a.status, a.text, a.header)
	}
	if !strings.Contains(h.log.String(), `"route":"site"`) {
		t.Error("not logged as the site's")
	}
	for _, path := range []string{"/", "/healthz", "/v1/courier/stops"} {
		foreign := httptest.NewRequest("GET", path, nil)
		foreign.Host = "rebound.example"
		foreign.Header.Set("X-Forwarded-Host", "example.com")
		if a := h.send(t, foreign); a.status != 421 || a.code() != "misdirected-request" {
			t.Errorf("%s for a foreign host: %d %s", path, a.status, a.text)
		}
	}
}

func TestPages(t *testing.T) {
	ready := errors.New("not yet")
	h := newHouse(t, nil, func(c *api.Config) { c.Ready = func(context.Context) error { return ready } })
	get := func(path string) *answer { return h.send(t, httptest.NewRequest("GET", path, nil)) }
	if a := get("/healthz"); a.status != 200 || a.body["status"] != "ok" {
		t.Errorf("healthz: %d %s", a.status, a.text)
	}
	if a := get("/readyz"); a.status != 503 || a.code() != "unavailable" || strings.Contains(a.text, "not yet") {
		t.Errorf("readyz: %d %s", a.status, a.text)
	}
	ready = nil
	if a := get("/readyz"); a.status != 200 {
		t.Errorf("readyz: %d %s", a.status, a.text)
	}
	h.staff(t)
	h.expect(t, courier, "POST", "/v1/parcels/P0/verify", atDoor("123456"), 404, "parcel-unknown")
	m := get("/metrics")
	for _, want := range []string{
		`latchkey_verifies_total{result="parcel-unknown"} 1`, "latchkey_code_locks_total 0",
		`latchkey_http_request_duration_seconds_count{method="POST",route="/v1/parcels/{parcel_id}/verify",status="404"} 1`,
	} {
		if !strings.Contains(m.text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if a := get("/openapi.json"); a.body["openapi"] != "3.1.0" || a.at("info", "version") != "1.2.3" {
		t.Errorf("openapi: %.200s", a.text)
	}

	if a := get("/docs"); a.status != 308 || a.header.Get("Location") != "/docs/" {
		t.Errorf("docs: %d %q", a.status, a.header.Get("Location"))
	}
	page := get("/docs/")
	if policy := page.header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "script-src 'self'") {
		t.Errorf("policy: %s", policy)
	}
	if strings.Contains(page.text, "://") || strings.Contains(page.text, "<script>") || strings.Contains(page.text, "style=") {
		t.Errorf("the page loads from elsewhere, or runs inline: %s", page.text)
	}
	for file, media := range map[string]string{"start.js": "text/javascript", "swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "page.css": "text/css"} {
		if a := get("/docs/" + file); a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), media) || len(a.text) == 0 {
			t.Errorf("%s: %d %s", file, a.status, a.header.Get("Content-Type"))
		}
		if !strings.Contains(page.text, file) {
			t.Errorf("the page does not load %s", file)
		}
	}
}

// listen serves the house on loopback.
func (h *house) listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return h.serve(t, l)
}

// serve serves the house on a listener.
func (h *house) serve(t testing.TB, l net.Listener) string {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- h.app.Listener(l) }()
	t.Cleanup(func() {
		if err := h.app.ShutdownWithTimeout(5 * time.Second); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// What a refused request leaves unread in its connection must never be taken for a
// request: that is how requests are smuggled past a proxy.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	h := newHouse(t, nil)
	addr := h.listen(t)
	smuggled := "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
	filler := strings.Repeat("x", 2<<20)
	for name, head := range map[string]string{
		"refused by size":     "POST /v1/dispatches HTTP/1.1\r\nHost: h\r\n",
		"refused at the door": "POST /v1/dispatches/bulk HTTP/1.1\r\nHost: h\r\n",
		"unknown page":        "POST /nowhere HTTP/1.1\r\nHost: h\r\n",
		"method of no one":    "FROB /healthz HTTP/1.1\r\nHost: h\r\n",
		"body where none is":  "GET /v1/dispatches/bulk HTTP/1.1\r\nHost: h\r\n",
	} {
		for _, framing := range []string{"length", "chunked"} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			body := filler + smuggled
			request := head + "Content-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body
			if framing == "chunked" {
				request = head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}
			go func() { _, _ = io.WriteString(c, request) }()
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			all, err := io.ReadAll(c) // a closed connection may also be a reset one
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				t.Errorf("%s, %s: the connection stays open", name, framing)
			}
			if n := bytes.Count(all, []byte("HTTP/1.1 ")); n > 1 || bytes.Contains(all, []byte(`{"status":"ok"}`)) {
				t.Errorf("%s, %s: %d answers to one request: %.300s", name, framing, n, all)
			}
			c.Close()
		}
	}
}

// A client that asks before it sends a long body is told to go on, or why not.
func TestExpectContinue(t *testing.T) {
	h := newHouse(t, nil)
	c, err := net.Dial("tcp", h.listen(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, body := bufio.NewReader(c), atDoor("123456")
	fmt.Fprintf(c, "POST /v1/parcels/P1/verify HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
		h.token(t, courier), len(body))
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusContinue {
		t.Fatalf("%v %v", resp, err)
	}
	_, _ = io.WriteString(c, body)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.code() != "parcel-unknown" {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// A read body leaves the connection as it should be, and a slow reader of nothing is
// not cut off by a deadline that a body left behind.
func TestConnectionIsKept(t *testing.T) {
	h := newHouse(t, nil)
	c, err := net.Dial("tcp", h.listen(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	token := h.token(t, courier)
	for n := range 4 {
		body := atDoor("123456")
		framed := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		if n%2 == 1 {
			framed = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		}
		fmt.Fprintf(c, "POST /v1/parcels/P1/verify HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n%s", token, framed)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
		if a := read(t, resp); a.code() != "parcel-unknown" || a.header.Get("Connection") == "close" {
			t.Errorf("request %d: %d %s %v", n, a.status, a.text, a.header)
		}
	}
}

func TestLongHead(t *testing.T) {
	h := newHouse(t, nil)
	resp, err := http.DefaultClient.Do(must(http.NewRequest("GET", "http://"+h.listen(t)+"/"+strings.Repeat("secret", 5000), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.status != 431 || a.code() != "headers-too-large" || strings.Contains(a.text, "secret") || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %s %v", a.status, a.text, a.header)
	}
}

// Strings of a request must not change under the next one: fiber reuses its buffers
// unless told otherwise.
func TestStringsAreKept(t *testing.T) {
	h := newHouse(t, nil)
	var kept []string
	h.app.Get("/keep/:id", func(c *fiber.Ctx) error {
		kept = append(kept, c.Params("id"), c.Get("Authorization"), c.Path())
		return nil
	})
	addr, client := h.listen(t), &http.Client{}
	for n := range 20 {
		req := must(http.NewRequest("GET", fmt.Sprintf("http://%s/keep/id-%02d", addr, n), nil))
		req.Header.Set("Authorization", fmt.Sprintf("Bearer token-%02d", n))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
	}
	for n := range 20 {
		want := []string{fmt.Sprintf("id-%02d", n), fmt.Sprintf("Bearer token-%02d", n), fmt.Sprintf("/keep/id-%02d", n)}
		if got := kept[3*n : 3*n+3]; !slices.Equal(got, want) {
			t.Errorf("%q turned into %q", want, got)
		}
	}
}

// watched is a connection that notes for how long its reads are allowed to wait.
type watched struct {
	net.Conn
	mu    sync.Mutex
	waits []time.Duration
}

func (w *watched) SetReadDeadline(deadline time.Time) error {
	w.mu.Lock()
	if !deadline.IsZero() {
		w.waits = append(w.waits, time.Until(deadline))
	}
	w.mu.Unlock()
	return w.Conn.SetReadDeadline(deadline)
}

// Huma would leave a deadline of five seconds on the connection, after which the next
// request would find it closed.
func TestIdleConnectionsStay(t *testing.T) {
	h := newHouse(t, nil)
	h.app.Handler() // builds the routes
	ours, theirs := net.Pipe()
	conn := &watched{Conn: theirs}
	served := make(chan error, 1)
	go func() { served <- h.app.Server().ServeConn(conn) }()
	in, body := bufio.NewReader(ours), atDoor("123456")
	for range 3 {
		fmt.Fprintf(ours, "POST /v1/parcels/P1/verify HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", h.token(t, courier), len(body), body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
	}
	ours.Close()
	<-served // what it says of a closed pipe depends on where it was
	idle := 0
	for _, wait := range conn.waits {
		if wait < 10*time.Second {
			t.Errorf("a read may wait %v only", wait)
		}
		if wait > time.Minute {
			idle++
		}
	}
	if idle < 2 {
		t.Errorf("no idle timeout of more than a minute: %v", conn.waits)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
