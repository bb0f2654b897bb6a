package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// Epoch is what a store says of its own past. It changes when the store was put back to an
// earlier state and restored by a person: a copy that was made before then says so by it.
// It proves nothing alone, since a copy copies it too: see Compare.
type Epoch struct {
	ID     string   `cbor:"1,keyasint"`
	Before []string `cbor:"2,keyasint,omitempty"` // the epochs that this one took the place of, oldest first

	// Restoring is since when a restore is under way; 0: none is. Until it is over the store
	// is served to no one.
	Restoring handoff.Instant `cbor:"3,keyasint,omitempty"`

	// Restored counts how often each partition was restored by itself: an instance that refuses it
	// since before then serves it again. Empty: none ever was.
	Restored []uint64 `cbor:"4,keyasint,omitempty"`
}

// Follows reports whether e is id, or took its place.
func (e *Epoch) Follows(id string) bool { return e.ID == id || slices.Contains(e.Before, id) }

// Restorals is how often a partition was restored by itself.
func (e *Epoch) Restorals(partition int) uint64 {
	if partition >= len(e.Restored) {
		return 0
	}
	return e.Restored[partition]
}

// Marks are the last events of the partitions' logs, each its id and, but for those of earlier
// versions, a slash and a digest; empty: none.
type Marks [handoff.Partitions]string

// Standing is what a store has of what was acknowledged.
type Standing struct {
	Epoch   *Epoch                   // nil: it has none
	Missing [handoff.Partitions]bool // the mark's event is not in the partition's log
	Ends    Marks
	Now     time.Time // by the store's own clock, as the ids of events are
}

// Compare looks for the marks' events, and reads the ends of the logs after it. An event that
// is there says that the partition has all that was acknowledged before it: a log is only
// appended to, in order, and copied as a whole.
//
// Where replicas must have what is acknowledged, the ends are of what they have: an event that
// was never acknowledged may be lost in a failover, and is not missed.
func (s *Store) Compare(ctx context.Context, marks Marks) (Standing, error) {
	st, err := s.compare(ctx, marks)
	if err != nil || s.lanes.replicas == 0 {
		return st, err
	}
	if err := s.Writable(ctx); err != nil {
		return Standing{}, err
	}
	after, err := s.compare(ctx, st.Ends) // by another master, perhaps
	if err != nil {
		return Standing{}, err
	}
	for p, missing := range after.Missing {
		if missing {
			st.Ends[p] = marks[p]
		}
	}
	return st, nil
}

func (s *Store) compare(ctx context.Context, marks Marks) (Standing, error) {
	var (
		epoch *redis.StringCmd
		now   *redis.TimeCmd
		there [handoff.Partitions]*redis.XMessageSliceCmd
		ends  [handoff.Partitions]*redis.XMessageSliceCmd
	)
	err := s.repeatable(ctx, s.lanes.do, func() []redis.Cmder {
		epoch = redis.NewStringCmd(ctx, "get", epochKey)
		now = redis.NewTimeCmd(ctx, "time")
		cmds := []redis.Cmder{epoch, now}
		for p := range handoff.Partitions {
			if id := marked(marks[p]).ID; id != "" {
				there[p] = redis.NewXMessageSliceCmd(ctx, "xrange", logKey(p), id, id)
				cmds = append(cmds, there[p])
			}
			ends[p] = redis.NewXMessageSliceCmd(ctx, "xrevrange", logKey(p), "+", "-", "count", 1)
			cmds = append(cmds, ends[p])
		}
		return cmds
	})
	if err != nil {
		return Standing{}, err
	}
	st := Standing{Now: now.Val()}
	if s.now != nil {
		st.Now = s.now()
	}
	for p := range handoff.Partitions {
		st.Missing[p] = there[p] != nil && !slices.ContainsFunc(there[p].Val(), func(m redis.XMessage) bool { return seen(m).is(marked(marks[p])) })
		if last := ends[p].Val(); len(last) > 0 {
			st.Ends[p] = seen(last[0]).mark()
		}
	}
	e := new(Epoch)
	switch found, err := s.open(epochKey, epoch.Val(), e); {
	case err != nil:
		return Standing{}, err
	case found:
		st.Epoch = e
	}
	return st, nil
}

// BeginEpoch names the epoch of a store that has none. Where it has one, that stays.
func (s *Store) BeginEpoch(ctx context.Context, id string) error {
	sealed, err := s.seal(epochKey, Epoch{ID: id})
	if err != nil {
		return err
	}
	return s.write(ctx, line{"set", epochKey, sealed, "nx"})
}

// SetEpoch says that the store is of an epoch from here on.
func (s *Store) SetEpoch(ctx context.Context, e Epoch) error {
	sealed, err := s.seal(epochKey, e)
	if err != nil {
		return err
	}
	return s.write(ctx, line{"set", epochKey, sealed})
}

// scanAtOnce is about how many keys one step of a scan looks at.
const scanAtOnce = 1000

// scan calls f with the keys that match a pattern, some at a time. A key that is there from
// the beginning to the end comes once or more often.
func (s *Store) scan(ctx context.Context, pattern string, f func([]string) error) error {
	all := func(ctx context.Context, c redis.Cmdable) error {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			keys, next, err := c.Scan(ctx, cursor, pattern, scanAtOnce).Result()
			if err != nil {
				return unavailable(err)
			}
			if err := f(keys); err != nil {
				return err
			}
			cursor = next
		}
		return nil
	}
	if c, ok := s.client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, lockstep(func(ctx context.Context, c *redis.Client) error { return all(ctx, c) }))
	}
	return all(ctx, s.client)
}

// EachGrant calls f with the newest grants of all parcels, some at a time, until it answers
// with an error. One may come twice; one that is made meanwhile may be left out.
func (s *Store) EachGrant(ctx context.Context, f func([]handoff.Grant) error) error {
	return s.scan(ctx, prefix+"{*}:grant:*", func(keys []string) error {
		var hashes []handoff.ParcelHash
		for _, key := range keys {
			if _, hash, _ := strings.Cut(key, ":grant:"); !strings.Contains(hash, ":") {
				hashes = append(hashes, handoff.ParcelHash(hash))
			}
		}
		if len(hashes) == 0 {
			return nil
		}
		grants, err := s.Many(ctx, hashes)
		if err != nil {
			return err
		}
		return f(grants)
	})
}

// RemoveSessions ends every session of every browser, and counts them.
func (s *Store) RemoveSessions(ctx context.Context) (int, error) {
	ended := 0
	err := s.scan(ctx, prefix+"session:*", func(keys []string) error {
		var dels []line
		for _, key := range keys {
			dels = append(dels, line{"del", key})
		}
		removed, err := writeEach(ctx, s, redis.NewIntCmd, dels...)
		for _, n := range removed {
			ended += int(n)
		}
		return err
	})
	return ended, err
}

// APIKeyIDs lists the ids of all keys, and perhaps of some that were just revoked.
func (s *Store) APIKeyIDs(ctx context.Context) ([]string, error) {
	return read(ctx, s, redis.NewStringSliceCmd, "smembers", apiKeysKey)
}

// processOf is what one server's process is called; empty where it does not say, and of a
// Sentinel, which keeps nothing.
func processOf(ctx context.Context, c interface {
	Info(ctx context.Context, section ...string) *redis.StringCmd
},
) (string, error) {
	text, err := c.Info(ctx, "server").Result()
	if err != nil && isReply(err) {
		return "", nil
	}
	info := parseInfo(text)
	if info["redis_mode"] == "sentinel" {
		return "", err
	}
	return info["run_id"], err
}

// ErrOlder says that nothing is asked of a store, because it may have lost what was acknowledged.
var ErrOlder = errors.New("redisstore: the store is not known to have all that was acknowledged")

// Guard lets a client ask nothing while closed answers true: ErrOlder. It is called before the client
// is used. The servers of a Cluster are guarded by themselves as well, since what replicas must have
// is sent to each: only who serves what may be asked of them.
func Guard(client redis.UniversalClient, closed func() bool) {
	client.AddHook(guard{closed: closed})
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(c *redis.Client) { c.AddHook(guard{closed: closed, ofServer: true}) })
	}
}

type guard struct {
	closed   func() bool
	ofServer bool // of a Cluster
}

func (guard) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g guard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if g.closed() && (!g.ofServer || keyOf(cmd) != "") {
			cmd.SetErr(ErrOlder)
			return ErrOlder
		}
		return next(ctx, cmd)
	}
}

func (g guard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !g.closed() {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(ErrOlder)
		}
		return ErrOlder
	}
}
