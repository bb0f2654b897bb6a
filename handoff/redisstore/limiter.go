package redisstore

import (
	"context"
	"time"

	"github.com/go-redis/redis_rate/v10"

	"latchkey/handoff/counts"
)

var _ counts.Limiter = (*Store)(nil)

// Limit implements counts.Limiter by the generic cell rate algorithm, on Redis's clock.
func (s *Store) Limit(ctx context.Context, key string, most int, period time.Duration) (time.Duration, error) {
	r, err := redis_rate.NewLimiter(s.client).Allow(ctx, key, redis_rate.Limit{Rate: most, Burst: most, Period: period})
	if err != nil {
		return 0, unavailable(err)
	}
	return max(r.RetryAfter, 0), nil
}
