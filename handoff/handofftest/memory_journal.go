package handofftest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
)

// journal is one chain.
type journal struct {
	end   trail.End
	links []trail.Link
}

// held is a lease, and whose it is.
type held struct {
	holder string
	until  time.Time
}

// AppendOnce implements [eventlog.Log].
func (m *Memory) AppendOnce(ctx context.Context, now handoff.Instant, mark string, n uint64, e handoff.Event) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	written, err := copied(e)
	if err != nil {
		return false, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	key := fmt.Sprint(e.Partition(), mark)
	at, known := slices.BinarySearch(m.marks[key], n)
	if full := len(m.marks[key]) >= eventlog.OnceKept; known || full && at == 0 {
		return false, nil
	}
	seen := slices.Insert(m.marks[key], at, n)
	m.marks[key] = seen[max(0, len(seen)-eventlog.OnceKept):]
	m.logs[e.Partition()].append(e.Partition(), now, []handoff.Event{written})
	return true, nil
}

// Tally implements [eventlog.Log]. It forgets nothing.
func (m *Memory) Tally(ctx context.Context, name string, _ time.Duration) (int, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	m.tallies[name]++
	return m.tallies[name], nil
}

// Advance implements [eventlog.Log].
func (m *Memory) Advance(ctx context.Context, name string, id eventlog.ID) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g := m.groups[name]
	if g == nil {
		return eventlog.ErrNotJoined
	}
	g.taken[id.Partition] = positionOf(id.ID)
	return nil
}

// ChainEnd implements [trail.Journal].
func (m *Memory) ChainEnd(ctx context.Context, name string) (trail.End, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return trail.End{}, err
	}
	defer end()
	j := m.journals[name]
	if j == nil {
		return trail.End{}, nil
	}
	e := j.end
	e.Cursors = maps.Clone(e.Cursors)
	return e, nil
}

// Extend implements [trail.Journal].
func (m *Memory) Extend(ctx context.Context, name string, from, to trail.End, links []trail.Link) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := trail.CheckName(name); err != nil {
		return err
	}
	j := m.journals[name]
	if j == nil {
		j = &journal{}
	}
	if j.end.Seq != from.Seq || j.end.Hash != from.Hash || j.end.Cut != from.Cut {
		return storage.ErrConflict
	}
	j.end = to
	j.end.Cursors = maps.Clone(to.Cursors)
	j.links = append(j.links, links...)
	j.links = slices.DeleteFunc(slices.Clone(j.links), func(l trail.Link) bool { return l.Seq <= to.Cut })
	m.journals[name] = j
	return nil
}

// Links implements [trail.Journal].
func (m *Memory) Links(ctx context.Context, name string, after uint64, limit int) ([]trail.Link, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	page := []trail.Link{}
	if j := m.journals[name]; j != nil {
		for _, l := range j.links {
			if l.Seq > after && len(page) < limit {
				page = append(page, trail.Link{Seq: l.Seq, Hash: l.Hash, Entry: slices.Clone(l.Entry)})
			}
		}
	}
	return page, nil
}

// Chains implements [trail.Journal].
func (m *Memory) Chains(ctx context.Context) ([]string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Collect(maps.Keys(m.journals)), nil
}

// Lease implements [trail.Journal].
func (m *Memory) Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	if l, taken := m.leases[name]; taken && l.holder != holder && l.until.After(now) {
		return false, nil
	}
	m.leases[name] = held{holder: holder, until: until}
	return true, nil
}
