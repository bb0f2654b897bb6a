package handofftest

import (
	"context"

	"latchkey/handoff"
)

// Spend implements [handoff.Tokens].
func (m *Memory) Spend(ctx context.Context, id string, until, now handoff.Instant) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	for other, ends := range m.spent {
		if ends < now {
			delete(m.spent, other)
		}
	}
	_, before := m.spent[id]
	if !before {
		m.spent[id] = until
	}
	return !before, nil
}
