package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/registry"
	"latchkey/handoff/storage"
)

// scripted is a feed that answers as it is told.
type scripted struct {
	door.Feed
	asked  int
	answer func(after string) ([]door.Message, error)
}

func (f *scripted) Receive(_ context.Context, _, after string, _ int) ([]door.Message, error) {
	f.asked++
	return f.answer(after)
}

// timed is a connection that only takes deadlines.
type timed struct {
	net.Conn
	deadline time.Time
}

func (c *timed) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func newDoorStream(f *scripted) (*doorStream, *timed) {
	store := handofftest.NewMemory()
	if err := store.PutDoor(context.Background(), handoff.Door{ID: "gate", Mode: handoff.Connected, BuildingID: "bld_turm5"}); err != nil {
		panic(err)
	}
	a := &doorRoutes{
		registry: registry.New(store, store, handofftest.NewClock(handofftest.Noon)), timeout: time.Second,
		opening: &Doors{Feed: f, Poll: 125 * time.Millisecond, Heartbeat: 10 * time.Second},
	}
	conn, now := new(timed), time.Now()
	return &doorStream{
		doors: a, exchange: &exchange{}, conn: conn, door: "gate", over: make(chan struct{}), replaced: make(chan struct{}),
		ends: now.Add(streamLife), answered: now, known: now,
	}, conn
}

// A stream without news is heard at least every 15 seconds, each time has as long to be
// written, asks the store no oftener than it should, and ends after its hour.
func TestQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &scripted{answer: func(string) ([]door.Message, error) { return nil, nil }}
		s, conn := newDoorStream(f)
		b, begun := make([]byte, 4096), time.Now()
		for last := begun; ; {
			n, err := s.Read(b)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || !strings.HasPrefix(string(b[:n]), ":") || !strings.HasSuffix(string(b[:n]), "\n\n") {
				t.Fatalf("%q %v", b[:n], err)
			}
			if now := time.Now(); now.Sub(last) >= 15*time.Second || conn.deadline.Sub(now) != streamWrite {
				t.Fatalf("silent for %v, deadline in %v", now.Sub(last), conn.deadline.Sub(now))
			}
			last = time.Now()
		}
		if lived := time.Since(begun); lived < streamLife || lived > streamLife+time.Minute {
			t.Errorf("lived for %v", lived)
		}
		if most := int(streamLife/(125*time.Millisecond)) + 400; f.asked > most {
			t.Errorf("the store was asked %d times, want at most %d", f.asked, most)
		}
	})
}

// A store that stumbles is not noticed. One that stays away ends the stream, and soon:
// a door that hears a stream live believes that permits would come.
func TestStreamOfAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		back := begun.Add(5 * time.Second)
		away := back.Add(time.Hour)
		f := &scripted{answer: func(after string) ([]door.Message, error) {
			if now := time.Now(); now.Before(back) || now.After(away) {
				return nil, storage.ErrUnavailable
			}
			if after == "" {
				return []door.Message{{Cursor: "1-0", Kind: "permit", Body: []byte("p")}}, nil
			}
			return nil, nil
		}}
		s, _ := newDoorStream(f)
		b := make([]byte, 7) // an event in pieces
		if _, err := s.Read(b); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for !strings.HasSuffix(said.String(), "\n\nevent: permit\nid: 1-0\ndata: cA\n\n") {
			n, err := s.Read(b)
			if err != nil || time.Since(begun) > 6*time.Second {
				t.Fatalf("%q %v after %v", said.String(), err, time.Since(begun))
			}
			said.Write(b[:n])
		}
		away = time.Now()
		for {
			if _, err := s.Read(b); err != nil {
				break
			}
		}
		if took := time.Since(away); took > feedPatience+time.Second || !errors.Is(s.exchange.cause, storage.ErrUnavailable) {
			t.Errorf("ended after %v because of %v", took, s.exchange.cause)
		}
	})
}

// A stream ends at once when the service shuts down, or a newer one takes its place.
func TestStreamIsEnded(t *testing.T) {
	for name, end := range map[string]func(*doorStream){
		"shut down": func(s *doorStream) { over := make(chan struct{}); close(over); s.over = over },
		"replaced":  func(s *doorStream) { gone := make(chan struct{}); close(gone); s.replaced = gone },
	} {
		s, _ := newDoorStream(&scripted{answer: func(string) ([]door.Message, error) { return nil, errors.New("not reached") }})
		if _, err := s.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		end(s)
		if n, err := s.Read(make([]byte, 4096)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d %v", name, n, err)
		}
	}
}

// The stream of a door that was removed ends as soon as a heart beats. A registry that
// cannot be asked ends none.
func TestStreamOfARemovedDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newDoorStream(&scripted{answer: func(string) ([]door.Message, error) { return nil, nil }})
		doors := &gone{Reader: s.doors.registry.Reader, until: time.Now().Add(time.Minute)}
		s.doors.registry = &registry.Registry{Reader: doors}
		b, begun := make([]byte, 4096), time.Now()
		for {
			_, err := s.Read(b)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if now := time.Now(); now.Sub(begun) >= 2*time.Minute && !doors.removed {
				doors.removed = true
				begun = now
			}
		}
		if lived := time.Since(begun); !doors.removed || lived > 11*time.Second {
			t.Errorf("removed: %v, and lived on for %v", doors.removed, lived)
		}
	})
}

// gone is a registry that cannot be asked until a moment, and from which a door is removed.
type gone struct {
	registry.Reader
	until   time.Time
	removed bool
}

func (g *gone) Door(ctx context.Context, id string) (*handoff.Door, error) {
	switch {
	case time.Now().Before(g.until):
		return nil, storage.ErrUnavailable
	case g.removed:
		return nil, nil
	}
	return g.Reader.Door(ctx, id)
}

// A door has one stream, and leaves its place to the next only where it still has it.
func TestStreamPlaces(t *testing.T) {
	s := streams{most: 2, open: map[string]chan struct{}{}}
	first, replaced, ok := s.enter("a")
	if !ok {
		t.Fatal("no room")
	}
	second, _, ok := s.enter("a")
	if !ok {
		t.Fatal("no room for the same door")
	}
	select {
	case <-replaced:
	default:
		t.Error("the older stream is not told")
	}
	first() // late
	if _, _, ok = s.enter("b"); !ok {
		t.Error("no room for a second door")
	}
	if _, _, ok = s.enter("c"); ok {
		t.Error("room for a third door")
	}
	second()
	if _, _, ok = s.enter("c"); !ok {
		t.Error("no room, though a door left")
	}
}

// A door whose key is revoked hears no more within a second or so, whatever there is to
// hear; one whose key nobody can look at just now goes on.
func TestStreamOfARevokedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &scripted{answer: func(string) ([]door.Message, error) { return nil, nil }}
		s, _ := newDoorStream(f)
		begun, asked := time.Now(), 0
		away, revoked := begun.Add(30*time.Second), begun.Add(60*time.Second)
		s.exchange.again = func() *Problem {
			asked++
			switch now := time.Now(); {
			case now.After(revoked):
				return newProblem(http.StatusUnauthorized)
			case now.After(away):
				return newProblem(http.StatusServiceUnavailable)
			}
			return nil
		}
		b := make([]byte, 4096)
		var err error
		for err == nil {
			_, err = s.Read(b)
		}
		if lived := time.Since(revoked); !errors.Is(err, io.EOF) || lived < 0 || lived > 2*time.Second {
			t.Errorf("%v, %v after the key was revoked", err, lived)
		}
		if asked > 70 {
			t.Errorf("looked %d times in a minute", asked)
		}
	})
}
