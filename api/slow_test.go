package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"latchkey/api"
)

// trickle sends a request piece by piece, for as long as somebody listens, and reports how
// long that was and what was answered.
func trickle(t *testing.T, addr, begin, piece string) (time.Duration, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	heard := make(chan string, 1)
	go func() {
		_ = c.SetReadDeadline(began.Add(20 * time.Second))
		b, err := io.ReadAll(c)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			b = []byte("still open")
		}
		heard <- string(b)
	}()
	fmt.Fprint(c, begin)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case said := <-heard:
			return time.Since(began), said
		case <-tick.C:
			_, _ = io.WriteString(c, piece)
		}
	}
}

// Who sends a head or a body a byte at a time is cut off when the time for the whole
// request is over, however busy he looks.
func TestSlowSenders(t *testing.T) {
	const patience = 300 * time.Millisecond
	h := newHouse(t, nil, func(c *api.Config) { c.ReadTimeout = patience })
	addr := h.listen(t)
	token := h.token(t, courier)
	head := "POST /v1/parcels/P1/verify HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token + "\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct{ begin, piece, code string }{
		"line":    {"GET /", "x", ""},
		"head":    {"GET /healthz HTTP/1.1\r\nHost: h\r\n", "X: y\r\n", ""},
		"body":    {head + "Content-Length: 60000\r\n\r\n", " ", "request-timeout"},
		"chunks":  {head + "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", "request-timeout"},
		"nothing": {"", "", ""},
	} {
		took, said := trickle(t, addr, c.begin, c.piece)
		if took < patience/2 || took > 10*time.Second || said == "still open" {
			t.Errorf("%s: %v, %.200s", name, took, said)
		}
		if c.code != "" && !strings.Contains(said, c.code) {
			t.Errorf("%s: it is not said why: %.300s", name, said)
		}
	}
}

// Who does not read an answer does not keep the connection.
func TestSlowReader(t *testing.T) {
	h := newHouse(t, nil, func(c *api.Config) { c.WriteTimeout = 300 * time.Millisecond })
	c, err := net.Dial("tcp", h.listen(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	request := strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n", 100)
	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for n := 0; ; n++ { // until what is written is refused: the other side has closed
		_, err := io.WriteString(c, request)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Fatalf("after %d requests the connection is still open, and nobody read an answer", 100*n)
		}
		if err != nil {
			return
		}
	}
}

// Every answer carries the headers that keep browsers in bounds: every documented
// operation without a token and with one, every page, and every way to fail.
func TestEveryAnswerIsHardened(t *testing.T) {
	h := newHouse(t, nil, func(c *api.Config) { c.TLS = true })
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(h.send(t, httptest.NewRequest("GET", "/openapi.json", nil)).text), &document); err != nil {
		t.Fatal(err)
	}
	seen := 0
	check := func(name string, a *answer) {
		t.Helper()
		seen++
		for _, header := range []string{
			"X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy", "Cache-Control", "X-Frame-Options",
			"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Strict-Transport-Security",
		} {
			if len(a.header.Values(header)) != 1 {
				t.Errorf("%s (%d): %s is %q", name, a.status, header, a.header.Values(header))
			}
		}
		if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", name, policy)
		}
	}
	fill := strings.NewReplacer("{", "", "}", "")
	for path, methods := range document.Paths {
		for method := range methods {
			name := strings.ToUpper(method) + " " + path
			check(name, h.send(t, httptest.NewRequest(strings.ToUpper(method), fill.Replace(path), nil)))
			if !strings.HasSuffix(path, "/permits") { // a stream
				check(name+" by a courier", h.do(t, courier, strings.ToUpper(method), fill.Replace(path), "{}"))
			}
		}
	}
	for _, stack := range h.app.Stack() { // the pages, too
		for _, r := range stack {
			if !strings.Contains(r.Path, ":") && !strings.HasSuffix(r.Path, "/permits") && r.Method != "CONNECT" && r.Path != "/" {
				resp, err := h.app.Test(httptest.NewRequest(r.Method, strings.ReplaceAll(r.Path, "*", "x"), nil), -1)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close() // of a HEAD it is empty
				check(r.Method+" "+r.Path, &answer{status: resp.StatusCode, header: resp.Header})
			}
		}
	}
	if seen < 80 {
		t.Errorf("only %d answers were looked at", seen)
	}
	addr := h.listen(t)
	for name, raw := range map[string]string{
		"no HTTP":     "\x16\x03\x01\x02\r\n\r\n",
		"no Host":     "GET / HTTP/1.1\r\n\r\n",
		"long head":   "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 40000) + "\r\n\r\n",
		"long body":   "POST /v1/dispatches HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("x", 70000),
		"a method":    "FROB / HTTP/1.1\r\nHost: h\r\n\r\n",
		"bad length":  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
		"HTTP/1.0":    "GET /healthz HTTP/1.0\r\n\r\n",
		"unknown way": "GET /\xff HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, raw)
		b := make([]byte, 4096)
		n, _ := io.ReadAtLeast(c, b, 500)
		head, _, _ := bytes.Cut(b[:n], []byte("\r\n\r\n"))
		for _, want := range []string{"X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'none'", "Strict-Transport-Security: max-age="} {
			if !bytes.Contains(head, []byte(want)) {
				t.Errorf("%s: no %s: %s", name, want, head)
			}
		}
		c.Close()
	}
	plain := newHouse(t, nil)
	if a := plain.send(t, httptest.NewRequest("GET", "/healthz", nil)); a.header.Get("Strict-Transport-Security") != "" {
		t.Error("HSTS is promised without TLS")
	}
}
