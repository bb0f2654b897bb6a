package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// Session implements identity.Sessions.
func (s *Store) Session(ctx context.Context, id identity.SessionID) (*identity.Session, error) {
	var cmd *redis.StringCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewStringCmd(ctx, "get", sessionKey(id))
		return []redis.Cmder{cmd}
	})
	if err != nil {
		return nil, err
	}
	found := &identity.Session{ID: id}
	if ok, err := s.open(sessionKey(id), cmd, found); !ok || err != nil {
		return nil, err
	}
	return found, nil
}

// AddSession implements identity.Sessions.
func (s *Store) AddSession(ctx context.Context, session identity.Session, keep time.Duration) error {
	return s.putSession(ctx, session, keep)
}

// TouchSession implements identity.Sessions. XX is what keeps a session ended that was
// removed between its reading and its writing.
func (s *Store) TouchSession(ctx context.Context, session identity.Session, keep time.Duration) error {
	return s.putSession(ctx, session, keep, "xx")
}

func (s *Store) putSession(ctx context.Context, session identity.Session, keep time.Duration, only ...any) error {
	key := sessionKey(session.ID)
	sealed, err := s.seal(key, session)
	if err != nil {
		return err
	}
	if customer, ok := session.Customer(); ok {
		if err := s.indexSession(ctx, customer, session, keep); err != nil {
			return err
		}
	}
	set := append([]any{"set", key, sealed, "px", max(1, keep.Milliseconds())}, only...)
	return s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewCmd(ctx, set...)} })
}

// indexSession writes where a customer's session will be found. It is a trip of its own,
// ahead of the session's: an entry without a session is skipped, a session without an
// entry could not be ended with the others.
func (s *Store) indexSession(ctx context.Context, c handoff.CustomerRef, session identity.Session, keep time.Duration) error {
	const longer = 60 // seconds: the index outlives what it leads to
	key, seconds := sessionsKey(c), int64(keep/time.Second)+longer
	return s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{
			redis.NewIntCmd(ctx, "zadd", key, "gt", int64(session.Seen)+seconds, session.ID.String()),
			redis.NewIntCmd(ctx, "zremrangebyscore", key, "-inf", "("+strconv.FormatInt(int64(session.Seen), 10)),
			// A key without a TTL counts as endless for GT, hence both.
			redis.NewBoolCmd(ctx, "expire", key, seconds, "nx"),
			redis.NewBoolCmd(ctx, "expire", key, seconds, "gt"),
		}
	})
}

// RemoveSessionsOf implements identity.Sessions. An entry whose session was not there stays
// until it ends: its session may be on the way, and whoever comes again finds it.
func (s *Store) RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) error {
	var ids *redis.StringSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		ids = redis.NewStringSliceCmd(ctx, "zrange", sessionsKey(c), 0, -1)
		return []redis.Cmder{ids}
	})
	if err != nil || len(ids.Val()) == 0 {
		return err
	}
	removed := make([]*redis.IntCmd, len(ids.Val())) // one command each: they lie in different slots
	err = s.read(ctx, func() []redis.Cmder {
		cmds := make([]redis.Cmder, len(removed))
		for i, id := range ids.Val() {
			removed[i] = redis.NewIntCmd(ctx, "del", sessionKeyOf(id))
			cmds[i] = removed[i]
		}
		return cmds
	})
	if err != nil {
		return err
	}
	gone := []any{"zrem", sessionsKey(c)}
	for i, id := range ids.Val() {
		if removed[i].Val() == 1 {
			gone = append(gone, id)
		}
	}
	if len(gone) == 2 {
		return nil
	}
	return s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewIntCmd(ctx, gone...)} })
}

// RemoveSession implements identity.Sessions.
func (s *Store) RemoveSession(ctx context.Context, id identity.SessionID) error {
	return s.read(ctx, func() []redis.Cmder { return []redis.Cmder{redis.NewIntCmd(ctx, "del", sessionKey(id))} })
}
