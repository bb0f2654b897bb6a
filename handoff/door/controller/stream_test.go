package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// answers is a service that answers each stream with the next of its scripts.
type answers struct {
	mu      sync.Mutex
	scripts []func(http.ResponseWriter, *http.Request)
	resumed []string // Last-Event-ID of each connection
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer door-token" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	if r.URL.Path != "/under/v1/doors/"+theDoor+"/permits" || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	a.mu.Lock()
	a.resumed = append(a.resumed, r.Header.Get("Last-Event-ID"))
	n := len(a.resumed)
	a.mu.Unlock()
	if n > len(a.scripts) {
		n = len(a.scripts)
	}
	a.scripts[n-1](w, r)
}

// says writes an event stream in pieces, each flushed by itself, and ends it.
func says(pieces ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, p := range pieces {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// heard is one run of a stream against a service, until want events came.
func heard(t *testing.T, a *answers, cursor string, want int) (events []string, failures []error, last string) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	u, err := ParseURL(server.URL + "/under/")
	if err != nil {
		t.Fatal(err)
	}
	transport := NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	ctx, enough := context.WithTimeout(t.Context(), 20*time.Second)
	defer enough()
	s := &stream{
		link:   newLink(Service{URL: u, Token: token, Transport: transport}, theDoor),
		cursor: cursor,
		handle: func(e event, settled func()) { events = append(events, e.kind+" "+string(e.raw)); settled() },
		keep: func(id string) error {
			if last = id; len(events) >= want {
				enough()
			}
			return nil
		},
		failed: func(err error) { failures = append(failures, err) },
		opened: func() {},
	}
	s.run(ctx)
	if len(events) < want {
		t.Fatalf("%d events in time, want %d; failures: %v", len(events), want, failures)
	}
	return events, failures, last
}

func token() (string, error) { return "door-token", nil }

func ev(kind, data, id string) string {
	return "event: " + kind + "\ndata: " + base64url.EncodeToString([]byte(data)) + "\nid: " + id + "\n\n"
}

func TestStreamResumes(t *testing.T) {
	a := &answers{scripts: []func(http.ResponseWriter, *http.Request){
		says(":\n\n", ev("permit", "one", "11-0"), ev("recall", "two", "11-1")),
		says(ev("revocation", "three", "12-0")),
	}}
	events, failures, last := heard(t, a, "10-9", 3)
	wants(t, strings.Join(events, ","), "permit one,recall two,revocation three")
	wants(t, strings.Join(a.resumed, ","), "10-9,11-1")
	wants(t, last, "12-0")
	if len(failures) != 1 || !errors.Is(failures[0], io.ErrUnexpectedEOF) {
		t.Errorf("failures: %v", failures)
	}
}

func TestStreamInSplitPieces(t *testing.T) {
	whole := ":hello\n:hello\n\n" + ev("permit", "one", "1") + "event: permit\r\ndata: dHdv\r\nid: 2\r\n\r\n" + ev("permit", "three", "3")
	a := &answers{scripts: []func(http.ResponseWriter, *http.Request){says(strings.Split(whole, "")...)}}
	events, failures, _ := heard(t, a, "", 3)
	wants(t, strings.Join(events, ","), "permit one,permit two,permit three")
	if len(failures) != 0 {
		t.Errorf("failures: %v", failures)
	}
}

// A half event is no event: its rest comes with the next connection.
func TestStreamBreaksInAnEvent(t *testing.T) {
	a := &answers{scripts: []func(http.ResponseWriter, *http.Request){
		says(ev("permit", "one", "1"), "event: permit\ndata: dHdv\nid: 2\n"),
		says(ev("permit", "two", "2")),
	}}
	events, _, _ := heard(t, a, "", 2)
	wants(t, strings.Join(events, ","), "permit one,permit two")
	wants(t, strings.Join(a.resumed, ","), ",1")
}

func TestStreamGarbage(t *testing.T) {
	bad := map[string]func(http.ResponseWriter, *http.Request){
		"a giant line":    says("data: " + strings.Repeat("A", 1<<20) + "\nid: 9\n\n"),
		"endless comment": says(strings.Repeat(":\n", 1<<20)),
		"not base64url":   says("event: permit\ndata: !!!\nid: 9\n\n"),
		"no data":         says("event: permit\nid: 9\n\n"),
		"no stream": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, ev("permit", "page", "9"))
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/under/v1/doors/"+theDoor+"/permits", http.StatusFound)
		},
		"binary":    says("\x00\xff\xfe\r\r\r\n\n\n: \n\nid\n\n"),
		"a cut off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, script := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &answers{scripts: []func(http.ResponseWriter, *http.Request){script, says(ev("permit", "good", "10"))}}
			events, failures, last := heard(t, a, "8", 1)
			wants(t, strings.Join(events, ","), "permit good")
			wants(t, last, "10")
			if len(failures) == 0 {
				t.Error("the failure was not told")
			}
		})
	}
}

// silentTransport answers with a body that brings what is written to it, and nothing more.
type silentTransport struct {
	mu    sync.Mutex
	tries int
	serve func(try int, w *io.PipeWriter)
}

func (s *silentTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.tries++
	try := s.tries
	s.mu.Unlock()
	body, w := io.Pipe()
	context.AfterFunc(r.Context(), func() { _ = w.CloseWithError(r.Context().Err()) })
	go s.serve(try, w)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}, Body: body, Request: r,
	}, nil
}

func TestStreamThatFallsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		u, err := ParseURL("https://latchkey.example")
		if err != nil {
			t.Fatal(err)
		}
		silent := &silentTransport{serve: func(try int, w *io.PipeWriter) {
			_, _ = io.WriteString(w, ev("permit", fmt.Sprint(try), fmt.Sprint(try)))
			for range 10 { // comments keep a stream alive
				time.Sleep(39 * time.Second)
				if _, err := io.WriteString(w, ":\n\n"); err != nil {
					return
				}
			}
		}}
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var events int
		var failures []error
		s := &stream{
			link:   newLink(Service{URL: u, Token: token, Transport: silent}, theDoor),
			handle: func(_ event, settled func()) { mu.Lock(); defer mu.Unlock(); events++; settled() },
			keep:   func(string) error { return nil },
			failed: func(err error) { mu.Lock(); defer mu.Unlock(); failures = append(failures, err) },
			opened: func() {},
		}
		done := make(chan struct{})
		go func() { s.run(ctx); close(done) }()
		time.Sleep(10*39*time.Second + silence - time.Millisecond)
		synctest.Wait()
		mu.Lock()
		if len(failures) != 0 {
			t.Errorf("broken off too early: %v", failures)
		}
		mu.Unlock()
		time.Sleep(2 * time.Second) // the first backoff is at most one second
		synctest.Wait()
		stop()
		<-done
		time.Sleep(time.Minute) // the service notices
		if len(failures) == 0 || !errors.Is(failures[0], errSilent) {
			t.Errorf("failures: %v", failures)
		}
		if events != 2 {
			t.Errorf("%d connections brought an event, want 2", events)
		}
	})
}

func TestBackoff(t *testing.T) {
	for failures := 1; failures < 80; failures++ {
		most := lastRetry
		if failures < 6 {
			most = time.Second << (failures - 1)
		}
		for range 100 {
			if d := backoff(failures); d < most/2 || d > most {
				t.Fatalf("after %d failures %s, want %s to %s", failures, d, most/2, most)
			}
		}
	}
}

func TestParseURL(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://latchkey.example": true, "https://latchkey.example/base": true, "http://127.0.0.1:8080": true,
		"http://localhost:1": true, "http://[::1]:1": true,
		"http://latchkey.example": false, "http://127.0.0.1.example": false, "ftp://x": false, "latchkey.example": false, "": false,
		"https://user:pw@latchkey.example": false, "https://latchkey.example?x=1": false, "https://": false,
	} {
		if _, err := ParseURL(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
