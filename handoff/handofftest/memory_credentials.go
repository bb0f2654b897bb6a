package handofftest

import (
	"context"
	"maps"
	"slices"

	"latchkey/handoff"
)

// APIKey implements [handoff.Credentials].
func (m *Memory) APIKey(ctx context.Context, id string) (*handoff.APIKey, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	k, ok := m.keys[id]
	if !ok {
		return nil, nil
	}
	return &k, nil
}

// AddAPIKey implements [handoff.Credentials].
func (m *Memory) AddAPIKey(ctx context.Context, k handoff.APIKey) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, taken := m.keys[k.ID]; taken {
		return handoff.ErrConflict
	}
	k.Scopes, k.Networks = slices.Clone(k.Scopes), slices.Clone(k.Networks)
	m.keys[k.ID] = k
	return nil
}

// RemoveAPIKey implements [handoff.Credentials].
func (m *Memory) RemoveAPIKey(ctx context.Context, id string) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	_, found := m.keys[id]
	delete(m.keys, id)
	return found, nil
}

// APIKeys implements [handoff.Credentials].
func (m *Memory) APIKeys(ctx context.Context) ([]handoff.APIKey, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Collect(maps.Values(m.keys)), nil
}
