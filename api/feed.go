package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
	"latchkey/handoff/door"
)

const (
	feedPath    = "/v1/doors/{door_id}/permits"
	eventStream = "text/event-stream"

	streamLife   = time.Hour        // then the door dials again, with a token that still holds
	streamWrite  = 15 * time.Second // for one write to a door
	feedPatience = 10 * time.Second // with a store that does not answer
	feedBatch    = 16
)

// feed is the stream on which a door that dialed in hears of its permits.
func (a *doorRoutes) feed(r *registrar, scopes []auth.Scope) {
	route(r, huma.Operation{
		OperationID: "door-permits", Method: http.MethodGet, Path: feedPath,
		Summary: "Permits for a door, as they come", Tags: []string{"Door"},
		Description: "Server-sent events (WHATWG HTML section 9.2): event is permit, recall or revocation, data is base64url. " +
			"Resumes after Last-Event-ID. A comment comes when nothing else does. A newer stream of the same door ends the older one, " +
			"a door that is removed has none soon after, and every stream ends after an hour.",
		Responses: map[string]*huma.Response{"200": {
			Description: "A stream without end",
			Content:     map[string]*huma.MediaType{eventStream: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, scopes, a.permits)
}

type feedInput struct {
	Door  pathID `path:"door_id"`
	After string `header:"Last-Event-ID" doc:"The id of the last event that arrived"`
}

// cursorRule is what a store's cursors look like. Any other is not one of ours: the
// door begins with the last minutes, and hears nothing that could harm it twice.
var cursorRule = regexp.MustCompile(`^[0-9]{1,18}(-[0-9]{1,18})?$`)

func (a *doorRoutes) permits(ctx context.Context, in *feedInput) (*huma.StreamResponse, error) {
	if a.opening == nil {
		return nil, problemOfCode(codeNoDoors)
	}
	d, err := a.ownDoor(ctx, in.Door.id)
	if err != nil {
		return nil, err
	}
	if ctx.Value(exchangeKey{}).(*exchange).head { // it must not end the stream that there is
		return &huma.StreamResponse{Body: func(h huma.Context) { h.SetHeader(fiber.HeaderContentType, eventStream) }}, nil
	}
	place, replaced, ok := a.streams.enter(d.ID)
	if !ok {
		p := newProblem(http.StatusServiceUnavailable)
		p.retryAfter = 5 * time.Second
		return nil, p
	}
	after := in.After
	if !cursorRule.MatchString(after) {
		after = ""
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		c := humafiber.Unwrap(h)
		request := c.Context()
		x := exchangeOf(request)
		x.streams = true
		c.Set(fiber.HeaderContentType, eventStream)
		c.Set("X-Accel-Buffering", "no") // nginx would hold events back
		request.SetConnectionClose()
		now := time.Now()
		request.SetBodyStream(&doorStream{
			doors: a, exchange: x, conn: request.Conn(), door: d.ID, cursor: after,
			over: request.Done(), replaced: replaced, leave: place,
			ends: now.Add(streamLife), answered: now, known: now,
		}, -1)
	}}, nil
}

// doorStream turns a door's feed into server-sent events. The server reads it in the
// goroutine of the connection, which is all that a door that dialed in costs, besides
// one question to the store at each poll.
type doorStream struct {
	doors    *doorRoutes
	exchange *exchange
	conn     net.Conn
	door     string
	cursor   string

	over     <-chan struct{} // the server shuts down
	replaced <-chan struct{} // by a newer stream of this door
	leave    func()
	ends     time.Time

	begun    bool
	pending  []byte    // to be written
	wrote    time.Time // last
	answered time.Time // when the store last did
	known    time.Time // when the registry was last seen to have the door
}

// Read implements io.Reader: it waits for the next event, or for the time to say that
// there is none.
func (s *doorStream) Read(p []byte) (int, error) {
	if len(s.pending) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	// The server's own deadline is for a whole answer.
	if err := s.conn.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return 0, err
	}
	n := copy(p, s.pending)
	s.pending, s.wrote = s.pending[n:], time.Now()
	return n, nil
}

// Close implements io.Closer. The server calls it however the stream ended.
func (s *doorStream) Close() error {
	s.leave()
	s.doors.recorder.finish(s.exchange, http.MethodGet, feedPath, http.StatusOK)
	return nil
}

func (s *doorStream) next() error {
	opening := s.doors.opening
	if !s.begun { // at once, or the door would wait for the head of the answer
		s.begun = true
		s.pending = fmt.Appendf(s.pending[:0], ": door %s\n\n", s.door)
		if len(opening.Revocation) > 0 {
			s.pending = appendEvent(s.pending, door.Message{Kind: "revocation", Body: opening.Revocation})
		}
		return nil
	}
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-s.over:
			return io.EOF
		case <-s.replaced:
			return io.EOF
		case <-t.C:
		}
		if s.exchange.standing() != nil {
			return io.EOF
		}
		if s.removed() {
			return io.EOF
		}
		messages, err := s.receive()
		now := time.Now()
		switch {
		case err == nil:
			s.answered = now
		case now.Sub(s.answered) > feedPatience: // a stream that lives says that permits would come
			s.exchange.cause = err
			return io.EOF
		}
		for _, m := range messages {
			s.pending = appendEvent(s.pending, m)
			s.cursor = m.Cursor
		}
		if len(s.pending) == 0 && now.Sub(s.wrote) >= opening.Heartbeat {
			s.pending = append(s.pending, ":\n\n"...)
		}
		if len(s.pending) > 0 {
			return nil
		}
		if now.After(s.ends) {
			return io.EOF
		}
		t.Reset(opening.Poll)
	}
}

// removed asks as often as a heart beats whether the door is still there. A store that
// does not answer says nothing of it.
func (s *doorStream) removed() bool {
	if time.Since(s.known) < s.doors.opening.Heartbeat {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.doors.timeout)
	defer cancel()
	d, err := s.doors.registry.Door(ctx, s.door)
	if d != nil {
		s.known = time.Now()
	}
	return d == nil && err == nil
}

func (s *doorStream) receive() ([]door.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.doors.timeout)
	defer cancel()
	return s.doors.opening.Feed.Receive(ctx, s.door, s.cursor, feedBatch)
}

// appendEvent writes a message as an event. Kinds and cursors are the store's, and hold
// no line breaks.
func appendEvent(b []byte, m door.Message) []byte {
	b = append(append(b, "event: "...), m.Kind...)
	if m.Cursor != "" {
		b = append(append(b, "\nid: "...), m.Cursor...)
	}
	b = append(b, "\ndata: "...)
	b = base64url.AppendEncode(b, m.Body)
	return append(b, "\n\n"...)
}

// streams are the doors that are dialed in to this instance: one stream a door, and no
// more doors than most.
type streams struct {
	most int

	mu   sync.Mutex
	open map[string]chan struct{}
}

// enter takes a place, which leave gives back. The stream that a door had before is
// told to end: its connection may be long dead, without anybody having noticed.
func (s *streams) enter(door string) (leave func(), replaced <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, again := s.open[door]
	switch {
	case again:
		close(before)
	case len(s.open) >= s.most:
		return nil, nil, false
	}
	own := make(chan struct{})
	s.open[door] = own
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[door] == own {
			delete(s.open, door)
		}
	}, own, true
}
