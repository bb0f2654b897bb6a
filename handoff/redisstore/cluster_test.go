package redisstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/storage"
)

// partitionOn is a partition that a node of a Cluster serves.
func partitionOn(t *testing.T, set *redistest.ClusterSet, node *redistest.Server) int {
	t.Helper()
	for p := range handoff.Partitions {
		if set.Owner(probeKey(p)) == node {
			return p
		}
	}
	t.Fatal("the node serves no partition")
	return 0
}

// A server of a Cluster that does not answer holds up none that waits for another, though all
// share one lane.
func TestASilentServerHoldsUpNoOther(t *testing.T) {
	set := redistest.Cluster(t)
	client := dial(t, clusterURL(set.Addrs()))
	s, _ := newStore(t, client, 1)
	silent, sound := set.Nodes()[0], set.Nodes()[1]
	far, near := partitionOn(t, set, silent), partitionOn(t, set, sound)
	ask := func(p int) error {
		_, err := read(t.Context(), s, redis.NewIntCmd, "exists", probeKey(p))
		return err
	}
	for _, p := range []int{far, near} {
		if err := ask(p); err != nil {
			t.Fatal(err)
		}
	}
	silent.Pause()
	sending := make(firstSent, 1)
	client.AddHook(sending)
	waiting := make(chan error, 1)
	go func() { waiting <- ask(far) }()
	<-sending
	for range 3 {
		if err := ask(near); err != nil {
			t.Errorf("a server that is well: %v", err)
		}
	}
	select {
	case err := <-waiting:
		t.Errorf("the silent server answered (%v) before the others", err)
	default:
	}
	silent.Resume()
	if err := <-waiting; err != nil && !errors.Is(err, storage.ErrUnavailable) {
		t.Error(err)
	}
}

// firstSent hears of the first pipeline that is sent.
type firstSent chan struct{}

func (firstSent) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (firstSent) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (s firstSent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		select {
		case s <- struct{}{}:
		default:
		}
		return next(ctx, cmds)
	}
}

// Where a master died, its slots are served again when its replica took over, and the others all
// the time, if Redis is told to serve them.
func TestADeadMasterOfACluster(t *testing.T) {
	set := redistest.ReplicatedCluster(t, "cluster-require-full-coverage no")
	s, _ := newStore(t, dial(t, clusterURL(set.Addrs())), 2)
	dead, sound := set.Nodes()[0], set.Nodes()[1]
	far, near := partitionOn(t, set, dead), partitionOn(t, set, sound)
	if err := s.Writable(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := func(p int) error {
		return s.write(t.Context(), line{"set", probeKey(p), "", "ex", 60})
	}
	dead.Kill()
	replica := set.Replica(dead)
	own := redis.NewClient(&redis.Options{Addr: replica.Addr()})
	t.Cleanup(func() { _ = own.Close() })
	until(t, func() bool {
		if err := write(near); err != nil {
			t.Fatalf("of a master that lives: %v", err)
		}
		return own.Set(t.Context(), probeKey(far), "", time.Minute).Err() == nil
	})
	// go-redis alone would go on to ask the dead one for up to a minute.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for write(far) != nil {
		if ctx.Err() != nil {
			t.Fatal("the replica serves, and the store does not find it")
		}
	}
}
