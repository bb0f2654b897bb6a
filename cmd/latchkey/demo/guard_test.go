package demo

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost":            true,
		"localhost:8080":       true,
		"LocalHost:8080":       true,
		"127.0.0.1":            true,
		"127.0.0.1:8080":       true,
		"127.8.9.10:1":         true,
		"[::1]":                true,
		"[::1]:8080":           true,
		"":                     false,
		":8080":                false,
		"::1":                  false, // not a Host header: RFC 9110 wants brackets
		"[::1":                 false,
		"[::1]x":               false,
		"[127.0.0.1]x:1":       false,
		"localhost:http":       false,
		"localhost:99999":      false,
		"localhost.evil.test":  false,
		"127.0.0.1.evil.test":  false,
		"evil.test":            false,
		"evil.test:8080":       false,
		"0.0.0.0:8080":         false,
		"10.0.0.1":             false,
		"[::]:8080":            false,
		"[fe80::1%25lo]:8080":  false,
		"localhost@evil.test":  false,
		"evil.test#localhost":  false,
		"127.1":                false,
		"2130706433":           false,
		"localhost:8080:8080":  false,
		" localhost":           false,
		"localhost.":           false,
		"[::ffff:10.0.0.1]:80": false,
	} {
		if got := LoopbackHost(host); got != want {
			t.Errorf("LoopbackHost(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestLoopbackOnly(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:8080":  true,
		"127.0.0.1:0":     true,
		"localhost:8080":  true,
		"[::1]:8080":      true,
		"":                false,
		":8080":           false,
		"8080":            false,
		"127.0.0.1":       false,
		"127.0.0.1:":      false,
		"127.0.0.1:http":  false,
		"0.0.0.0:8080":    false,
		"[::]:8080":       false,
		"192.0.2.1:8080":  false,
		"shop.example:80": false,
	} {
		if err := LoopbackOnly(addr); (err == nil) != want {
			t.Errorf("LoopbackOnly(%q) = %v, want allowed %v", addr, err, want)
		}
	}
}

func TestGuardAnswersUnderNoForeignName(t *testing.T) {
	served := false
	guarded := Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
	for host, want := range map[string]int{"localhost:8080": 200, "rebound.evil.test:8080": 421} {
		served = false
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/v1/anything", nil)
		r.Host = host
		guarded.ServeHTTP(w, r)
		if w.Code != want || served != (want == 200) {
			t.Errorf("Host %s: %d, served %v, want %d", host, w.Code, served, want)
		}
		if want == 421 {
			wantProblem(t, w, 421, "misdirected-request", "evil")
		}
	}
}
