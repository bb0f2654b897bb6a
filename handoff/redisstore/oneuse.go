package redisstore

import (
	"context"
	"crypto/rand"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// spentKept is how long a spent token is kept beyond its end: the clocks of two instances
// may differ.
const spentKept = time.Minute

// Spend implements handoff.Tokens. Each call writes a mark of its own and reads which one
// stands, so that it may be sent again.
func (s *Store) Spend(ctx context.Context, id string, until, now handoff.Instant) (bool, error) {
	key, mark := spentKey(id), rand.Text()
	seconds := max(int64(until)-int64(now), 0) + int64(spentKept/time.Second)
	var stands *redis.StringCmd
	err := s.read(ctx, func() []redis.Cmder {
		stands = redis.NewStringCmd(ctx, "get", key)
		return []redis.Cmder{redis.NewStatusCmd(ctx, "set", key, mark, "nx", "ex", strconv.FormatInt(seconds, 10)), stands}
	})
	if err != nil {
		return false, err
	}
	return stands.Val() == mark, nil
}
