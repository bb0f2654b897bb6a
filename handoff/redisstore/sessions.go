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
	sealed, err := read(ctx, s, redis.NewStringCmd, "get", sessionKey(id))
	if err != nil {
		return nil, err
	}
	found := &identity.Session{ID: id}
	if ok, err := s.open(sessionKey(id), sealed, found); !ok || err != nil {
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
	return s.write(ctx, append(line{"set", key, sealed, "px", max(1, keep.Milliseconds())}, only...))
}

// indexSession writes where a customer's session will be found. It is a trip of its own,
// ahead of the session's: an entry without a session is skipped, a session without an
// entry could not be ended with the others.
func (s *Store) indexSession(ctx context.Context, c handoff.CustomerRef, session identity.Session, keep time.Duration) error {
	const longer = 60 // seconds: the index outlives what it leads to
	key, seconds := sessionsKey(c), int64(keep/time.Second)+longer
	return s.write(ctx,
		line{"zadd", key, "gt", int64(session.Seen) + seconds, session.ID.String()},
		line{"zremrangebyscore", key, "-inf", "(" + strconv.FormatInt(int64(session.Seen), 10)},
		// A key without a TTL counts as endless for GT, hence both.
		line{"expire", key, seconds, "nx"},
		line{"expire", key, seconds, "gt"})
}

// RemoveSessionsOf implements identity.Sessions. An entry whose session was not there stays
// until it ends: its session may be on the way, and the next call finds it.
func (s *Store) RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) error {
	ids, err := read(ctx, s, redis.NewStringSliceCmd, "zrange", sessionsKey(c), 0, -1)
	if err != nil {
		return err
	}
	var dels []line // one command each: they lie in different slots
	for _, id := range ids {
		dels = append(dels, line{"del", sessionKeyOf(id)})
	}
	removed, err := writeEach(ctx, s, redis.NewIntCmd, dels...)
	if err != nil {
		return err
	}
	gone := line{"zrem", sessionsKey(c)}
	for i, id := range ids {
		if removed[i] == 1 {
			gone = append(gone, id)
		}
	}
	if len(gone) == 2 {
		return nil
	}
	return s.write(ctx, gone)
}

// RemoveSession implements identity.Sessions.
func (s *Store) RemoveSession(ctx context.Context, id identity.SessionID) error {
	return s.write(ctx, line{"del", sessionKey(id)})
}
