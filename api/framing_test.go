package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// What this server and a proxy before it could understand differently is refused, and
// the connection closed (RFC 9112 sections 3.2, 5.1 and 6.1).
func TestFraming(t *testing.T) {
	h := newHouse(t, nil)
	addr := h.listen(t)
	for name, c := range map[string]struct {
		head string
		want int
	}{
		"well":                 {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		"no Host":              {"GET /healthz HTTP/1.1\r\nX: y\r\n\r\n", 400},
		"two Hosts":            {"GET /healthz HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n", 400},
		"space before a colon": {"POST /v1/dispatches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n", 400},
		"two lengths":          {"POST /v1/dispatches HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
		"a coding twice":       {"POST /v1/dispatches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
		"a coding of no one":   {"POST /v1/dispatches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
		"a folded line":        {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400},
		"a bare CR":            {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", 400},
		"length and coding":    {"POST /v1/dispatches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, c.head)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			if resp.StatusCode != c.want || c.want == 400 && (!resp.Close || !strings.Contains(resp.Header.Get("Content-Type"), "problem+json")) {
				t.Errorf("%s: %d, close %v, %v", name, resp.StatusCode, resp.Close, resp.Header)
			}
			resp.Body.Close()
		}
		conn.Close()
	}
}

// Bulk requests that keep still take up no more than their number of places, and those of
// one shop leave places to the others.
func TestBulksAtOnce(t *testing.T) {
	h := newHouse(t, nil)
	addr := h.listen(t)
	open := func(shop string) (net.Conn, int) {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		who := warehouse
		who.Shop = shop
		fmt.Fprintf(conn, "POST /v1/dispatches/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"x\":1}\n\r\n", h.token(t, who))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		return conn, resp.StatusCode
	}
	var first []net.Conn
	for n := range 16 {
		conn, status := open(fmt.Sprint("shop", n/4))
		if status != 200 {
			t.Fatalf("request %d: %d", n, status)
		}
		if n < 4 {
			first = append(first, conn)
		}
		if n == 3 {
			if _, status := open("shop0"); status != 429 {
				t.Errorf("a shop's fifth: %d", status)
			}
		}
	}
	if _, status := open("shop9"); status != 200 {
		t.Errorf("four shops keep a fifth one out: %d", status)
	}
	if _, status := open("shop9"); status != 429 {
		t.Errorf("one too many: %d", status)
	}
	for _, conn := range first {
		fmt.Fprint(conn, "0\r\n\r\n")
	}
	for _, shop := range []string{"shop9", "shop0"} {
		eventually(t, "a place is free for "+shop, func() bool {
			conn, status := open(shop)
			defer conn.Close()
			return status == 200
		})
	}
}
