package redisstore

import (
	"context"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"latchkey/handoff/counts"
)

var _ counts.Limiter = (*Store)(nil)

// Limit implements counts.Limiter by the generic cell rate algorithm, on Redis's clock.
func (s *Store) Limit(ctx context.Context, key string, most int, period time.Duration) (time.Duration, error) {
	r, err := redis_rate.NewLimiter(prefixed{s.client}).Allow(ctx, key, redis_rate.Limit{Rate: most, Burst: most, Period: period})
	if err != nil {
		return 0, unavailable(&fault{"evalsha rate", err})
	}
	return max(r.RetryAfter, 0), nil
}

// prefixed is a client for redis_rate, which begins its keys with "rate:" and lets no one
// choose another beginning: it puts Latchkey's own before that.
type prefixed struct{ redis.UniversalClient }

func (p prefixed) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return p.UniversalClient.EvalSha(ctx, sha, withPrefix(keys), args...)
}

func (p prefixed) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	return p.UniversalClient.Eval(ctx, source, withPrefix(keys), args...)
}

func withPrefix(keys []string) []string {
	own := make([]string, len(keys))
	for i, key := range keys {
		own[i] = prefix + key
	}
	return own
}
