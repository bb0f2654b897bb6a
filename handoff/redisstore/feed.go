package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/door"
	"latchkey/handoff/storage"
)

// A feed is short: a permit is over after a minute and a half, recalled or not.
const (
	feedLength = 64
	feedKept   = 10 * time.Minute
)

// Send implements door.Feed.
func (s *Store) Send(ctx context.Context, to string, m door.Message) error {
	key := feedKey(to)
	sealed, err := s.sealer.Seal(m.Body, []byte(key+":"+m.Kind))
	if err != nil {
		return fmt.Errorf("redisstore: sealing: %w", err)
	}
	return s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{
			redis.NewStringCmd(ctx, "xadd", key, "maxlen", "~", feedLength, "*", m.Kind, sealed),
			redis.NewBoolCmd(ctx, "expire", key, int64(feedKept/time.Second)),
		}
	})
}

// Receive implements door.Feed.
func (s *Store) Receive(ctx context.Context, to, after string, limit int) ([]door.Message, error) {
	key, start := feedKey(to), "-"
	if after != "" {
		start = "(" + after
	}
	var cmd *redis.XMessageSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewXMessageSliceCmd(ctx, "xrange", key, start, "+", "count", limit)
		return []redis.Cmder{cmd}
	})
	if err != nil {
		return nil, err
	}
	messages := make([]door.Message, 0, len(cmd.Val()))
	for _, entry := range cmd.Val() {
		for kind, value := range entry.Values {
			sealed, _ := value.(string)
			body, err := s.sealer.Open([]byte(sealed), []byte(key+":"+kind))
			if err != nil {
				return nil, storage.ErrSealed
			}
			messages = append(messages, door.Message{Cursor: entry.ID, Kind: kind, Body: body})
		}
	}
	return messages, nil
}
