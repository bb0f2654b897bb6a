package redisstore

import (
	"context"
	"slices"

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
	var gets []line
	for _, id := range ids {
		gets = append(gets, line{"get", apiKeyKey(id)})
	}
	values, err := readEach(ctx, s, redis.NewStringCmd, gets...)
	if err != nil {
		return nil, err
	}
	keys := make([]identity.APIKey, 0, len(ids))
	for i, id := range ids {
		k := identity.APIKey{ID: id}
		switch found, err := s.open(apiKeyKey(id), values[i], &k); {
		case err != nil:
			return nil, err
		case found:
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// AddAPIKey implements identity.Credentials. The set of ids is a key in a slot of its own:
// it is written first, and an id in it counts only if its key is there. SET NX GET answers
// with what stood there before: after a lost answer that is what the first try wrote.
func (s *Store) AddAPIKey(ctx context.Context, k identity.APIKey) error {
	sealed, err := s.seal(apiKeyKey(k.ID), k)
	if err != nil {
		return err
	}
	if err := s.write(ctx, line{"sadd", apiKeysKey, k.ID}); err != nil {
		return err
	}
	stood, err := writeFor(ctx, s, redis.NewStringCmd, "set", apiKeyKey(k.ID), sealed, "nx", "get")
	if err == nil && stood != "" && stood != string(sealed) {
		return storage.ErrConflict
	}
	return err
}

// RemoveAPIKey implements identity.Credentials.
func (s *Store) RemoveAPIKey(ctx context.Context, id string) (bool, error) {
	removed, err := writeFor(ctx, s, redis.NewIntCmd, "del", apiKeyKey(id))
	if err != nil {
		return false, err
	}
	return removed > 0, s.write(ctx, line{"srem", apiKeysKey, id})
}

// keysAtOnce is how many keys one trip of a listing reads.
const keysAtOnce = 500

// APIKeys implements identity.Credentials.
func (s *Store) APIKeys(ctx context.Context) ([]identity.APIKey, error) {
	ids, err := read(ctx, s, redis.NewStringSliceCmd, "smembers", apiKeysKey)
	if err != nil {
		return nil, err
	}
	var keys []identity.APIKey
	for some := range slices.Chunk(ids, keysAtOnce) {
		some, err := s.apiKeys(ctx, some)
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	return keys, nil
}
