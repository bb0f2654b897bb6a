// Package redisstore keeps Latchkey's grants in Redis: single, Sentinel or Cluster.
//
// A request waits for Redis twice: once to read the grant and all facts in one
// pipeline, once for the script that commits (see the contract in service.Store).
// Concurrent callers share pipelines ([lanes]), since on one machine the cost is
// system calls and not rules. The rules live in Go; Redis compares a version.
package redisstore

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/counts"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// Store is every contract of a store on Redis.
type Store struct {
	client    redis.UniversalClient
	lanes     *lanes
	sealer    Sealer
	retention time.Duration
	topology  *topology // of a Cluster; nil: of none
	refused   func(partition int) bool
	memory    *LogMemory       // of what it acknowledged; nil: it remembers nothing
	now       func() time.Time // in place of Redis's own clock; nil but in tests

	requests atomic.Int64 // to take events: how many there were
	unheard  sync.Map     // request -> its number, of those whose answer is not known
	turns    sync.Map     // group -> *eventlog.Turns

	buildings sync.Map       // door id -> building id, which never changes
	settling  sync.WaitGroup // wrong codes being counted behind their answers
}

var (
	_ service.Store     = (*Store)(nil)
	_ service.Couriers  = (*Store)(nil)
	_ eventlog.Log      = (*Store)(nil)
	_ trail.Store       = (*Store)(nil)
	_ registry.Store    = (*Store)(nil)
	_ residents.Store   = (*Store)(nil)
	_ identity.Keys     = (*Store)(nil)
	_ identity.Sessions = (*Store)(nil)
	_ identity.OneUse   = (*Store)(nil)
	_ door.Feed         = (*Store)(nil)
	_ counts.Numbers    = (*Store)(nil)
	_ counts.Patterns   = (*Store)(nil)
	_ counts.Tally      = (*Store)(nil)
	_ counts.Limiter    = (*Store)(nil)
)

// Config is what a Store is made of.
type Config struct {
	Client redis.UniversalClient
	Sealer Sealer

	// Retention is how long a grant and its events are kept after its window is over.
	Retention time.Duration

	// Lanes is how many pipelines concurrent callers share; 0 gives each its own.
	Lanes int

	// Replicas is how many replicas of a server must have a write before it is acknowledged
	// (WAIT); 0: none is waited for. Fewer in time, and the outcome of a commit is unknown.
	Replicas int

	// Refused reports whether a partition is refused: its grants are neither read for a decision
	// nor written, lists show them as in doubt, its events wait, and time changes nothing; nil: none is.
	Refused func(partition int) bool

	// LogMemory remembers what the Store acknowledged, by which Follow finds what is lost; may be nil.
	LogMemory *LogMemory

	// Trip hears how long each trip to Redis took, and whether it failed; may be nil.
	Trip func(took time.Duration, failed bool)
}

// New makes a Store. The caller keeps the client and closes it after the Store.
func New(c Config) (*Store, error) {
	if c.Client == nil || c.Sealer == nil || c.Retention <= 0 || c.Lanes < 0 || c.Replicas < 0 {
		return nil, errors.New("redisstore: needs a client, a sealer, a retention, and lanes and replicas of 0 or more")
	}
	if c.Trip != nil {
		Observe(c.Client, c.Trip)
	}
	if c.Refused == nil {
		c.Refused = func(int) bool { return false }
	}
	return &Store{topology: watchTopology(c.Client), refused: c.Refused, client: c.Client, lanes: newLanes(c.Client, c.Lanes, c.Replicas), sealer: c.Sealer, retention: c.Retention, memory: c.LogMemory}, nil
}

// LiveBy is for tests: now stands in for Redis's own, by which the store judges times that
// several instances write (leases, and when an event is due again). It is set before the store
// is used.
func (s *Store) LiveBy(now func() time.Time) { s.now = now }

// Close finishes what is under way and refuses the rest.
func (s *Store) Close() {
	s.settling.Wait()
	s.lanes.close()
}

// isReply reports whether err is Redis's own answer, which says that a command was
// refused, and not a fault on the way, after which it may have run.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// refused reports whether Redis answered that it did not run the script. MOVED and ASK
// do not say so, though they read like it: go-redis leaves a redirect in place when the
// command was then sent to the other node and the connection broke.
func refused(err error) bool {
	return slices.ContainsFunc([]string{
		"NOSCRIPT", "READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "OOM", "MISCONF", "BUSY", "NOAUTH", "NOPERM",
	}, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// notSent reports whether no connection was to be had, so that nothing went out.
func notSent(err error) bool {
	var op *net.OpError
	return errors.Is(err, ErrOlder) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, redis.ErrClosed) ||
		errors.As(err, &op) && op.Op == "dial"
}
