package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// repeating are the lines of the log that an outage writes for each event, try or tick, with the
// attributes that name their cause. Of each cause one line a minute is written, which says how
// often it came since the last; metrics have every one.
var repeating = map[string][]string{
	"an event will be tried again":                     {"group", "reason"},
	"an event was given up; see: latchkey outbox list": {"group", "reason"},
	"the event log did not answer":                     {"operation"},
	"the log was not chained":                          {"error"}, // a chain that was tampered with has a line of its own
	"a resident cannot be mailed":                      {"kind", "reason"},
	"background work failed":                           {"work"},
	"line failed":                                      {},
	"redis client":                                     {},
	missedBeat:                                         {},
}

const thinFor = time.Minute

// thin is a handler of the log that writes repeating lines once a minute.
type thin struct {
	slog.Handler
	*causes
}

// causes are those of the last minute.
type causes struct {
	elapsed func() time.Duration

	mu   sync.Mutex
	seen map[string]*cause
}

// cause is one of which a line was written.
type cause struct {
	at    time.Duration // when
	left  int           // how many were left out since
	last  slog.Record   // the last of these
	write slog.Handler
}

func newThin(h slog.Handler, elapsed func() time.Duration) *thin {
	return &thin{h, &causes{elapsed: elapsed, seen: map[string]*cause{}}}
}

func (t *thin) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &thin{t.Handler.WithAttrs(attrs), t.causes}
}

func (t *thin) WithGroup(name string) slog.Handler {
	return &thin{t.Handler.WithGroup(name), t.causes}
}

func (t *thin) Handle(ctx context.Context, r slog.Record) error {
	names, repeats := repeating[r.Message]
	if !repeats {
		return t.Handler.Handle(ctx, r)
	}
	key := []string{r.Level.String(), r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if slices.Contains(names, a.Key) {
			key = append(key, a.Value.String())
		}
		return true
	})
	t.mu.Lock()
	name, now := strings.Join(key, "\x00"), t.elapsed()
	c := t.seen[name]
	if c != nil && now-c.at < thinFor {
		c.left, c.last, c.write = c.left+1, r.Clone(), t.Handler
		t.mu.Unlock()
		return nil
	}
	if c != nil && c.left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("times", c.left+1))
	}
	t.seen[name] = &cause{at: now}
	t.mu.Unlock()
	return t.Handler.Handle(ctx, r)
}

// tell writes what was left out of causes whose minute is over, and forgets those that did not
// come again. All of them: also those whose minute is not over.
func (t *thin) tell(ctx context.Context, all bool) error {
	t.mu.Lock()
	var due []*cause
	now := t.elapsed()
	for name, c := range t.seen {
		switch {
		case !all && now-c.at < thinFor:
		case c.left == 0:
			delete(t.seen, name)
		default:
			due = append(due, &cause{left: c.left, last: c.last, write: c.write})
			*c = cause{at: now}
		}
	}
	t.mu.Unlock()
	for _, c := range due {
		c.last.AddAttrs(slog.Int("times", c.left))
		if err := c.write.Handle(ctx, c.last); err != nil {
			return err
		}
	}
	return nil
}
