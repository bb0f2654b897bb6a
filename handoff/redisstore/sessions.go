package redisstore

import (
	"context"
	"slices"
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
	if err := s.indexSession(ctx, session, keep); err != nil {
		return err
	}
	return s.write(ctx, append(line{"set", key, sealed, "px", max(1, keep.Milliseconds())}, only...))
}

// indexSession writes where a customer's, a courier's or a shop's session will be found. It is a trip of
// its own, ahead of the session's: an entry without a session is skipped, a session without an
// entry could not be ended with the others.
func (s *Store) indexSession(ctx context.Context, session identity.Session, keep time.Duration) error {
	const longer = 60 // seconds: the index outlives what it leads to
	var keys []string
	if customer, ok := session.Customer(); ok {
		keys = append(keys, sessionsKey(customer))
	}
	if courier, ok := session.Courier(); ok {
		keys = append(keys, courierSessionsKey(courier))
	}
	if session.Shop != "" {
		keys = append(keys, shopSessionsKey(session.Shop))
	}
	var lines []line
	for _, key := range keys {
		seconds := int64(keep/time.Second) + longer
		lines = append(lines,
			line{"zadd", key, "gt", int64(session.Seen) + seconds, session.ID.String()},
			line{"zremrangebyscore", key, "-inf", "(" + strconv.FormatInt(int64(session.Seen), 10)},
			// A key without a TTL counts as endless for GT, hence both.
			line{"expire", key, seconds, "nx"},
			line{"expire", key, seconds, "gt"})
	}
	if len(lines) == 0 {
		return nil
	}
	return s.write(ctx, lines...)
}

// RemoveSessionsOf implements identity.Sessions.
func (s *Store) RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) (int, error) {
	return s.removeIndexed(ctx, sessionsKey(c))
}

// RemoveSessionsOfCourier implements identity.Sessions.
func (s *Store) RemoveSessionsOfCourier(ctx context.Context, c handoff.CourierRef) error {
	_, err := s.removeIndexed(ctx, courierSessionsKey(c))
	return err
}

// RemoveSessionsOfShop implements identity.Sessions.
func (s *Store) RemoveSessionsOfShop(ctx context.Context, shop string) (int, error) {
	return s.removeIndexed(ctx, shopSessionsKey(shop))
}

// sessionsAtOnce is how many sessions one trip ends.
const sessionsAtOnce = 500

// removeIndexed ends the sessions of an index, and counts them. An entry whose session was not
// there stays until it ends: its session may be on the way, and the next call finds it.
func (s *Store) removeIndexed(ctx context.Context, index string) (ended int, err error) {
	ids, err := read(ctx, s, redis.NewStringSliceCmd, "zrange", index, 0, -1)
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(ids, sessionsAtOnce) {
		var dels []line // one command each: they lie in different slots
		for _, id := range some {
			dels = append(dels, line{"del", sessionKeyOf(id)})
		}
		removed, err := writeEach(ctx, s, redis.NewIntCmd, dels...)
		if err != nil {
			return ended, err
		}
		gone := line{"zrem", index}
		for i, id := range some {
			if removed[i] == 1 {
				gone = append(gone, id)
			}
		}
		if len(gone) == 2 {
			continue
		}
		ended += len(gone) - 2
		if err := s.write(ctx, gone); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// RemoveSession implements identity.Sessions.
func (s *Store) RemoveSession(ctx context.Context, id identity.SessionID) error {
	return s.write(ctx, line{"del", sessionKey(id)})
}
