package handofftest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/chain"
)

// journal is one chain.
type journal struct {
	end   handoff.ChainEnd
	links []chain.Link
}

// held is a lease, and whose it is.
type held struct {
	holder string
	until  time.Time
}

// AppendOnce implements [handoff.Log].
func (m *Memory) AppendOnce(ctx context.Context, now handoff.Instant, mark string, n uint64, e handoff.Event) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	written, err := copied(e)
	if err != nil {
		return false, fmt.Errorf("%w: %w", handoff.ErrUnavailable, err)
	}
	key := fmt.Sprint(e.Partition(), mark)
	at, known := slices.BinarySearch(m.marks[key], n)
	if full := len(m.marks[key]) >= handoff.OnceKept; known || full && at == 0 {
		return false, nil
	}
	seen := slices.Insert(m.marks[key], at, n)
	m.marks[key] = seen[max(0, len(seen)-handoff.OnceKept):]
	m.logs[e.Partition()].append(e.Partition(), now, []handoff.Event{written})
	return true, nil
}

// Tally implements [handoff.Log]. It forgets nothing.
func (m *Memory) Tally(ctx context.Context, name string, _ time.Duration) (int, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	m.tallies[name]++
	return m.tallies[name], nil
}

// Advance implements [handoff.Log].
func (m *Memory) Advance(ctx context.Context, name string, id handoff.EventID) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	g := m.groups[name]
	if g == nil {
		return handoff.ErrNotJoined
	}
	g.taken[id.Partition] = positionOf(id.ID)
	return nil
}

// ChainEnd implements [handoff.Journal].
func (m *Memory) ChainEnd(ctx context.Context, name string) (handoff.ChainEnd, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return handoff.ChainEnd{}, err
	}
	defer end()
	j := m.journals[name]
	if j == nil {
		return handoff.ChainEnd{}, nil
	}
	e := j.end
	e.Cursors = maps.Clone(e.Cursors)
	return e, nil
}

// Extend implements [handoff.Journal].
func (m *Memory) Extend(ctx context.Context, name string, from, to handoff.ChainEnd, links []chain.Link) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := chain.CheckName(name); err != nil {
		return err
	}
	j := m.journals[name]
	if j == nil {
		j = &journal{}
	}
	if j.end.Seq != from.Seq || j.end.Hash != from.Hash || j.end.Cut != from.Cut {
		return handoff.ErrConflict
	}
	j.end = to
	j.end.Cursors = maps.Clone(to.Cursors)
	j.links = append(j.links, links...)
	j.links = slices.DeleteFunc(slices.Clone(j.links), func(l chain.Link) bool { return l.Seq <= to.Cut })
	m.journals[name] = j
	return nil
}

// Links implements [handoff.Journal].
func (m *Memory) Links(ctx context.Context, name string, after uint64, limit int) ([]chain.Link, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	page := []chain.Link{}
	if j := m.journals[name]; j != nil {
		for _, l := range j.links {
			if l.Seq > after && len(page) < limit {
				page = append(page, chain.Link{Seq: l.Seq, Hash: l.Hash, Entry: slices.Clone(l.Entry)})
			}
		}
	}
	return page, nil
}

// Chains implements [handoff.Journal].
func (m *Memory) Chains(ctx context.Context) ([]string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Collect(maps.Keys(m.journals)), nil
}

// Lease implements [handoff.Journal].
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
