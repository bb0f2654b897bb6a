package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/storage"
)

const recurringMost = 1000

// recurScript notes a member and counts those that are not too old.
//
//	KEYS[1] pattern
//	ARGV[1] member   ARGV[2] now, s   ARGV[3] the stretch, s   ARGV[4] how many are kept
//
// It returns how many there are, and how many of them came before the member. It may be
// repeated. A score is the second, and after it the order of arrival within the second.
var recurScript = newScript(`
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', (ARGV[2] - ARGV[3]) * 1e6 + 999999))
redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', ARGV[2] * 1e6 + redis.call('ZCARD', KEYS[1])), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[4] - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {redis.call('ZCARD', KEYS[1]), redis.call('ZRANK', KEYS[1], ARGV[1]) or 0}
`)

// Recur implements counts.Patterns.
func (s *Store) Recur(ctx context.Context, key, member string, at handoff.Instant, within time.Duration) (n, rank int, err error) {
	reply, err := s.writeScript(ctx, recurScript, []string{patternKey(key)}, member, int64(at), int64(within/time.Second), recurringMost)
	if err != nil {
		return 0, 0, err
	}
	answer, _ := reply.([]any)
	if len(answer) != 2 {
		return 0, 0, fmt.Errorf("%w: a pattern was answered with %T", storage.ErrUnavailable, reply)
	}
	count, _ := answer[0].(int64)
	before, _ := answer[1].(int64)
	return int(count), int(before), nil
}

// Tally implements counts.Tally.
func (s *Store) Tally(ctx context.Context, name string, forget time.Duration) (int, error) {
	counts, err := writeEach(ctx, s, redis.NewIntCmd,
		line{"incr", tallyKey(name)},
		line{"expire", tallyKey(name), int64(forget / time.Second), "nx"})
	if err != nil {
		return 0, err
	}
	return int(counts[0]), nil
}
