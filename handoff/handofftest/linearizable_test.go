package handofftest

import (
	"context"
	"sync"
	"testing"

	"github.com/anishathalye/porcupine"

	"latchkey/handoff/service"
)

func TestLinearizable(t *testing.T) {
	Linearizable(t, func(*testing.T) Core { return NewMemory() }, nil)
}

// TestLinearizableFinds has stores that break their promise, which shows in one of as many
// histories as a run has.
func TestLinearizableFinds(t *testing.T) {
	for name, broken := range map[string]func(Core) Core{
		"a commit that is acknowledged and not kept":     func(c Core) Core { return &forgetful{Core: c} },
		"a commit that does not look at what was read":   func(c Core) Core { return &blind{Core: c} },
		"a read of what was true before the last commit": func(c Core) Core { return &late{Core: c} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(histories) {
				h := newHistory(t, &jostled{Core: broken(NewMemory())}, seed)
				operations := h.run()
				h.end(operations)
				if h.check(operations) == porcupine.Illegal {
					return
				}
			}
			t.Error("it was not found")
		})
	}
}

type forgetful struct {
	Core
	mu sync.Mutex
	n  int
}

func (f *forgetful) Commit(ctx context.Context, c service.Change) error {
	f.mu.Lock()
	f.n++
	forget := f.n%4 == 0
	f.mu.Unlock()
	if forget {
		return nil
	}
	return f.Core.Commit(ctx, c)
}

type blind struct{ Core }

func (b *blind) Commit(ctx context.Context, c service.Change) error {
	now, err := b.Core.Load(ctx, service.Query{Parcel: c.Record.Grant.ID.Hash})
	if err != nil {
		return err
	}
	c.From = now.Version
	return b.Core.Commit(ctx, c)
}

type late struct {
	Core
	mu   sync.Mutex
	last service.Snapshot
}

func (l *late) Load(ctx context.Context, q service.Query) (service.Snapshot, error) {
	now, err := l.Core.Load(ctx, q)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.Record != nil && now.Record != nil {
		now, l.last = l.last, now
	} else {
		l.last = now
	}
	return now, err
}
