package redistest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"latchkey/handoff/redisstore/redistest"
)

// client returns a go-redis client with default options but for the dialer.
func client(t *testing.T, s *redistest.Server, wire *redistest.Wire, change ...func(*redis.Options)) *redis.Client {
	opt := &redis.Options{Addr: s.Addr()}
	if wire != nil {
		opt.Dialer = wire.Dial
	}
	for _, f := range change {
		f(opt)
	}
	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	return c
}

func noRetries(o *redis.Options) { o.MaxRetries = -1 }

func TestRestartSamePortAndData(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := redistest.Single(t, "appendonly yes", "appendfsync always")
	c := client(t, s, nil)
	addr := s.Addr()
	must(t, c.Set(ctx, "clean", 1, 0).Err())
	s.Restart()
	must(t, c.Set(ctx, "crash", 2, 0).Err())
	s.Kill()
	s.Restart()

	if s.Addr() != addr {
		t.Errorf("address was %s, is %s", addr, s.Addr())
	}
	got, err := c.MGet(ctx, "clean", "crash").Result()
	must(t, err)
	if fmt.Sprint(got) != "[1 2]" {
		t.Errorf("after a clean stop and a crash: got %v", got)
	}
}

func TestRestartWithoutPersistenceIsEmpty(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	c := client(t, s, nil)
	must(t, c.Set(t.Context(), "k", 1, 0).Err())
	s.Restart()
	if err := c.Get(t.Context(), "k").Err(); err != redis.Nil {
		t.Errorf("got %v, want %v", err, redis.Nil)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	s.Stop()
	s.Stop()
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		c.Close()
		t.Error("a stopped server accepts connections")
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	c := client(t, s, nil, noRetries, func(o *redis.Options) { o.ContextTimeoutEnabled = true })
	must(t, c.Set(t.Context(), "k", 1, 0).Err())

	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Incr(ctx, "k").Err(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a paused server: got %v, want a timeout", err)
	}
	s.Resume()
	if got := c.Get(t.Context(), "k").Val(); got != "2" {
		t.Errorf("the request that waited in the kernel did not run: k = %s", got)
	}
	s.Pause() // stopping a paused server must not hang
	s.Stop()
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	set := redistest.Sentinel(t)
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: set.MasterName(), SentinelAddrs: set.SentinelAddrs()})
	t.Cleanup(func() { c.Close() })
	must(t, c.Set(t.Context(), "k", 1, 0).Err())
	if n, err := c.Wait(t.Context(), 1, time.Second).Result(); err != nil || n != 1 {
		t.Fatalf("WAIT: %d replicas, %v", n, err)
	}

	old := set.KillMaster()
	promoted := set.AwaitFailover(old)
	if promoted.Addr() == old.Addr() {
		t.Fatal("the master is still the old one")
	}
	if got, err := client(t, promoted, nil).Get(t.Context(), "k").Result(); err != nil || got != "1" {
		t.Errorf("on the new master: k = %q, %v", got, err)
	}
	if got := set.Master(); got != promoted {
		t.Errorf("Master: got %s, want %s", got.Addr(), promoted.Addr())
	}
}

func TestClusterServesEverySlot(t *testing.T) {
	t.Parallel()
	set := redistest.Cluster(t)
	c := clusterClient(t, set, nil)
	owners := map[string]bool{}
	for i := range 100 {
		key := fmt.Sprintf("k%d", i)
		must(t, c.Set(t.Context(), key, i, 0).Err())
		owner := set.Owner(key)
		owners[owner.Addr()] = true
		// A plain client is not redirected: only the owner answers.
		if err := client(t, owner, nil).Get(t.Context(), key).Err(); err != nil {
			t.Errorf("%s is not on the node said to own it: %v", key, err)
		}
	}
	if len(owners) != len(set.Addrs()) {
		t.Errorf("%d of %d nodes own keys", len(owners), len(set.Addrs()))
	}
	if n := set.Calls()["set"]; n != 100 {
		t.Errorf("SET ran %d times, want 100", n)
	}
}

func clusterClient(t *testing.T, set *redistest.ClusterSet, wire *redistest.Wire) *redis.ClusterClient {
	opt := &redis.ClusterOptions{Addrs: set.Addrs()}
	if wire != nil {
		opt.Dialer = wire.Dial
	}
	c := redis.NewClusterClient(opt)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestParallelStarts has many servers look for ports at once: two tests that were
// given the same one would see each other's key.
func TestParallelStarts(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			c := client(t, redistest.Single(t), nil)
			must(t, c.Set(t.Context(), t.Name(), i, 0).Err())
			if n := c.DBSize(t.Context()).Val(); n != 1 {
				t.Errorf("%d keys on a server of its own, want 1", n)
			}
		})
	}
}

// recorder is a testing.TB that notes how a test ends.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Skip(...any)  { r.skipped = true; runtime.Goexit() }
func (r *recorder) Fatal(...any) { r.failed = true; runtime.Goexit() }

func TestRequireWithoutRedis(t *testing.T) {
	for _, tt := range []struct {
		ci, real        string
		skipped, failed bool
	}{
		{"", "", true, false},
		{"true", "", false, true},
		{"", "required", false, true},
	} {
		t.Run(strings.TrimSpace("CI="+tt.ci+" LATCHKEY_REAL="+tt.real), func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			t.Setenv("CI", tt.ci)
			t.Setenv("LATCHKEY_REAL", tt.real)
			r := &recorder{TB: t}
			var wg sync.WaitGroup
			wg.Go(func() { redistest.Require(r) })
			wg.Wait()
			if r.skipped != tt.skipped || r.failed != tt.failed {
				t.Errorf("skipped %t, failed %t", r.skipped, r.failed)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
