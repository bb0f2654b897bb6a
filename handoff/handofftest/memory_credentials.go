package handofftest

import (
	"context"
	"maps"
	"slices"

	"latchkey/handoff/identity"
	"latchkey/handoff/storage"
)

// APIKey implements [identity.Credentials].
func (m *Memory) APIKey(ctx context.Context, id string) (*identity.APIKey, error) {
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

// AddAPIKey implements [identity.Credentials].
func (m *Memory) AddAPIKey(ctx context.Context, k identity.APIKey) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, taken := m.keys[k.ID]; taken {
		return storage.ErrConflict
	}
	k.Scopes, k.Networks = slices.Clone(k.Scopes), slices.Clone(k.Networks)
	m.keys[k.ID] = k
	return nil
}

// RemoveAPIKey implements [identity.Credentials].
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

// APIKeys implements [identity.Credentials].
func (m *Memory) APIKeys(ctx context.Context) ([]identity.APIKey, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Collect(maps.Values(m.keys)), nil
}
