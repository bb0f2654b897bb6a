package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/identity"
	"latchkey/handoff/storage"
)

// APIKey implements identity.Credentials.
func (s *Store) APIKey(ctx context.Context, id string) (*identity.APIKey, error) {
	keys, err := s.apiKeys(ctx, []string{id})
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	return &keys[0], nil
}

// apiKeys reads keys in one trip, leaving out those that are gone.
func (s *Store) apiKeys(ctx context.Context, ids []string) ([]identity.APIKey, error) {
	read := make([]*redis.StringCmd, len(ids))
	err := s.read(ctx, func() []redis.Cmder {
		cmds := make([]redis.Cmder, len(ids))
		for i, id := range ids {
			read[i] = redis.NewStringCmd(ctx, "get", apiKeyKey(id))
			cmds[i] = read[i]
		}
		return cmds
	})
	if err != nil {
		return nil, err
	}
	keys := make([]identity.APIKey, 0, len(ids))
	for i, id := range ids {
		k := identity.APIKey{ID: id}
		switch found, err := s.open(apiKeyKey(id), read[i], &k); {
		case err != nil:
			return nil, err
		case found:
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// AddAPIKey implements identity.Credentials. The set of ids is a key in a slot of its own:
// it is written first, and an id in it counts only if its key is there. A repeated SET NX
// may meet what it wrote itself before its answer was lost, which is why the value is
// compared and not the answer believed.
func (s *Store) AddAPIKey(ctx context.Context, k identity.APIKey) error {
	sealed, err := s.seal(apiKeyKey(k.ID), k)
	if err != nil {
		return err
	}
	err = s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewIntCmd(ctx, "sadd", apiKeysKey, k.ID)} })
	if err != nil {
		return err
	}
	var stored *redis.StringCmd
	err = s.read(ctx, func() []redis.Cmder {
		set := redis.NewCmd(ctx, "set", apiKeyKey(k.ID), sealed, "nx")
		stored = redis.NewStringCmd(ctx, "get", apiKeyKey(k.ID))
		return []redis.Cmder{set, stored}
	})
	if err == nil && stored.Val() != string(sealed) {
		return storage.ErrConflict
	}
	return err
}

// RemoveAPIKey implements identity.Credentials.
func (s *Store) RemoveAPIKey(ctx context.Context, id string) (bool, error) {
	var removed *redis.IntCmd
	err := s.read(ctx, func() []redis.Cmder {
		removed = redis.NewIntCmd(ctx, "del", apiKeyKey(id))
		return []redis.Cmder{removed}
	})
	if err != nil {
		return false, err
	}
	return removed.Val() > 0, s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewIntCmd(ctx, "srem", apiKeysKey, id)} })
}

// keysAtOnce is how many keys one trip of a listing reads.
const keysAtOnce = 500

// APIKeys implements identity.Credentials.
func (s *Store) APIKeys(ctx context.Context) ([]identity.APIKey, error) {
	var ids *redis.StringSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		ids = redis.NewStringSliceCmd(ctx, "smembers", apiKeysKey)
		return []redis.Cmder{ids}
	})
	if err != nil {
		return nil, err
	}
	var keys []identity.APIKey
	for left := ids.Val(); len(left) > 0; left = left[min(keysAtOnce, len(left)):] {
		some, err := s.apiKeys(ctx, left[:min(keysAtOnce, len(left))])
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	return keys, nil
}
