package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/door"
)

// A feed is short: a permit is over after a minute and a half, recalled or not.
const (
	feedLength = 64
	feedKept   = 10 * time.Minute
)

// Send implements door.Feed.
func (s *Store) Send(ctx context.Context, to string, m door.Message) error {
	key := feedKey(to)
	sealed, err := s.sealBytes("message for a door", m.Body, []byte(key+":"+m.Kind))
	if err != nil {
		return err
	}
	return s.write(ctx,
		line{"xadd", key, "maxlen", "~", feedLength, "*", m.Kind, sealed},
		line{"expire", key, int64(feedKept / time.Second)})
}

// Receive implements door.Feed.
func (s *Store) Receive(ctx context.Context, to, after string, limit int) ([]door.Message, error) {
	key, start := feedKey(to), "-"
	if after != "" {
		start = "(" + after
	}
	entries, err := read(ctx, s, redis.NewXMessageSliceCmd, "xrange", key, start, "+", "count", limit)
	if err != nil {
		return nil, err
	}
	messages := make([]door.Message, 0, len(entries))
	for _, entry := range entries {
		for kind, value := range entry.Values {
			sealed, _ := value.(string)
			body, err := s.unsealBytes("message for a door", []byte(sealed), []byte(key+":"+kind))
			if err != nil {
				return nil, err
			}
			messages = append(messages, door.Message{Cursor: entry.ID, Kind: kind, Body: body})
		}
	}
	return messages, nil
}
