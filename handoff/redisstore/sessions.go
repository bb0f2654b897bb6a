package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// Session implements handoff.Sessions.
func (s *Store) Session(ctx context.Context, id handoff.SessionID) (*handoff.Session, error) {
	var cmd *redis.StringCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewStringCmd(ctx, "get", sessionKey(id))
		return []redis.Cmder{cmd}
	})
	if err != nil {
		return nil, err
	}
	found := &handoff.Session{ID: id}
	if ok, err := s.open(sessionKey(id), cmd, found); !ok || err != nil {
		return nil, err
	}
	return found, nil
}

// AddSession implements handoff.Sessions.
func (s *Store) AddSession(ctx context.Context, session handoff.Session, keep time.Duration) error {
	return s.putSession(ctx, session, keep)
}

// TouchSession implements handoff.Sessions. XX is what keeps a session ended that was
// removed between its reading and its writing.
func (s *Store) TouchSession(ctx context.Context, session handoff.Session, keep time.Duration) error {
	return s.putSession(ctx, session, keep, "xx")
}

func (s *Store) putSession(ctx context.Context, session handoff.Session, keep time.Duration, only ...any) error {
	key := sessionKey(session.ID)
	sealed, err := s.seal(key, session)
	if err != nil {
		return err
	}
	set := append([]any{"set", key, sealed, "px", max(1, keep.Milliseconds())}, only...)
	return s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewCmd(ctx, set...)} })
}

// RemoveSession implements handoff.Sessions.
func (s *Store) RemoveSession(ctx context.Context, id handoff.SessionID) error {
	return s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewIntCmd(ctx, "del", sessionKey(id))} })
}
