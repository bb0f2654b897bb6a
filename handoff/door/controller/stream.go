package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tmaxmax/go-sse"
)

const (
	// silence is how long a stream may bring no byte: the service sends a comment at
	// least every 15 seconds.
	silence = 40 * time.Second

	// maxEvent bounds one event of the stream, in bytes, comments before it included.
	maxEvent = 8 << 10
)

// event is one message of the stream.
type event struct {
	kind string // permit, recall, revocation; others are for doors newer than this one
	raw  []byte
}

// stream reads the service's server-sent events (WHATWG HTML section 9.2).
type stream struct {
	link   *link
	cursor string // of the last event that came
	handle func(e event, settled func())
	keep   func(cursor string) error
	failed func(error)
	opened func()

	mu   sync.Mutex
	open []*taken // events of which the cursor is not stored, in the order in which they came
}

// taken is an event that came.
type taken struct {
	cursor  string // empty: the event had none
	settled bool   // a controller that starts again need not hear it
}

// run reads the stream until ctx ends, and dials again whenever it breaks.
func (s *stream) run(ctx context.Context) {
	for failures := 1; ; failures++ {
		begun := time.Now()
		heard, err := s.read(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard || time.Since(begun) > silence { // the service may end a stream that did well
			failures = 1
		}
		s.failed(err)
		if !pause(ctx, backoff(failures)) {
			return
		}
	}
}

// errSilent says that nothing came for too long.
var errSilent = errors.New("the stream fell silent")

// read reads one connection to its end. Heard reports whether it brought an event.
func (s *stream) read(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer alarm.Stop()
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
	}()

	req, err := s.link.request(ctx, http.MethodGet, "permits", nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity") // compression holds events back
	req.Header.Set("Cache-Control", "no-store")
	if s.cursor != "" {
		req.Header.Set("Last-Event-ID", s.cursor)
	}
	resp, err := s.link.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, statusError{resp.StatusCode}
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		return false, errors.New("the service's answer is no event stream")
	}
	s.opened()

	body := &heartbeat{resp.Body, func() { alarm.Reset(silence) }}
	for ev, err := range sse.Read(body, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			return heard, err
		}
		heard = true
		s.take(ev)
	}
	return heard, io.ErrUnexpectedEOF // an event stream has no end
}

// take handles an event before its cursor is stored, and no cursor is stored while an event before
// it is not settled: a permit may wait for the lock. After a crash in between they come again, and a
// permit that was used and comes again opens nothing.
func (s *stream) take(ev sse.Event) {
	n := &taken{}
	if ev.LastEventID != s.cursor && isCursor(ev.LastEventID) {
		n.cursor = ev.LastEventID
	}
	s.mu.Lock()
	s.open = append(s.open, n)
	s.mu.Unlock()
	if n.cursor != "" {
		s.cursor = n.cursor
	}
	settled := func() { s.settle(n) }
	raw, err := base64url.DecodeString(ev.Data)
	switch {
	case err != nil:
		s.failed(fmt.Errorf("an event's data is not base64url"))
		settled()
	case ev.Data == "":
		settled()
	default:
		s.handle(event{ev.Type, raw}, settled)
	}
}

// settle stores the cursor of the last event before which all are settled.
func (s *stream) settle(n *taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.settled = true
	cursor := ""
	for len(s.open) > 0 && s.open[0].settled {
		cursor = cmp.Or(s.open[0].cursor, cursor)
		s.open = s.open[1:]
	}
	if cursor == "" {
		return
	}
	if err := s.keep(cursor); err != nil {
		s.failed(err)
	}
}

// isCursor reports whether a cursor can travel in a header and lie in its file.
func isCursor(id string) bool {
	return len(id) <= maxCursor && !strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' })
}

// heartbeat tells of every read that brought something.
type heartbeat struct {
	io.Reader
	beat func()
}

func (h *heartbeat) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if n > 0 {
		h.beat()
	}
	return n, err
}
