package handofftest

import (
	"context"
	"maps"
	"time"

	"latchkey/handoff"
)

// Recur implements [handoff.Patterns]. It keeps all members.
func (m *Memory) Recur(ctx context.Context, key, member string, at handoff.Instant, within time.Duration) (n, rank int, err error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	if m.patterns[key] == nil {
		m.patterns[key] = map[string]sight{}
	}
	seen := m.patterns[key]
	maps.DeleteFunc(seen, func(_ string, t sight) bool { return at.Time().Sub(t.at.Time()) >= within })
	if _, known := seen[member]; !known {
		m.arrivals++
		seen[member] = sight{at, m.arrivals}
	}
	own := seen[member]
	for _, other := range seen {
		if other.at < own.at || other.at == own.at && other.arrived < own.arrived {
			rank++
		}
	}
	return len(seen), rank, nil
}

// sight is when something was first seen.
type sight struct {
	at      handoff.Instant
	arrived int
}
