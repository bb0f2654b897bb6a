package redisstore

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// spentKept is how long a spent token is kept beyond its end: the clocks of two instances
// may differ.
const spentKept = time.Minute

// Spend implements identity.OneUse. Each call writes a mark of its own, unless another
// stands there; after a lost answer it finds the mark of its first try.
func (s *Store) Spend(ctx context.Context, id string, until, now handoff.Instant) (bool, error) {
	key, mark := spentKey(id), rand.Text()
	seconds := max(int64(until)-int64(now), 0) + int64(spentKept/time.Second)
	stood, err := writeFor(ctx, s, redis.NewStringCmd, "set", key, mark, "nx", "get", "ex", seconds)
	return err == nil && (stood == "" || stood == mark), err
}
