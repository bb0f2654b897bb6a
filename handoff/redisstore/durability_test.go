package redisstore

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/storage"
)

// replicated is a store that acknowledges what a replica has.
func replicated(t *testing.T, url string, lanes int) *Store {
	t.Helper()
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, url)
	s, err := New(Config{Client: client, Sealer: ring, Retention: retention, Lanes: lanes, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = client.Close() })
	return s
}

// What no replica has is not acknowledged, neither when it is written nor when it is found
// written; when the replica has it, the caller's repeat is answered as the first time.
func TestOnlyWhatIsReplicatedIsAcknowledged(t *testing.T) {
	for _, name := range []string{"sentinel", "cluster"} {
		t.Run(name, func(t *testing.T) {
			var (
				url      string
				replicas []*redistest.Server
				lanes    int // none is shared, or two are
			)
			if name == "sentinel" {
				set := redistest.Sentinel(t)
				url, replicas = "redis://"+set.SentinelAddrs()[0]+"?master_name="+set.MasterName(), []*redistest.Server{set.Replica()}
			} else {
				set := redistest.ReplicatedCluster(t)
				url, replicas, lanes = clusterURL(set.Addrs()), set.Servers()[len(set.Nodes()):], 2
			}
			s := replicated(t, url, lanes)
			w := handofftest.New(t, s)
			w.Cleared(t, "c1")
			w.Drives(t, "c1", handofftest.Route, handofftest.Today)
			if err := s.Writable(t.Context()); err != nil {
				t.Fatalf("with its replicas: %v", err)
			}
			g := w.Dispatch(t, handofftest.Sample("p1"))
			at := handofftest.AtDoor("c1", "p1", g.CurrentCode())
			at.Attempt = "attempt-1"

			// A paused replica is asked for in vain. It is still counted as connected.
			for _, r := range replicas {
				r.Pause()
			}
			for range 2 {
				if _, err := w.Service.Verify(t.Context(), at); !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("a release that no replica has: %v", err)
				}
			}
			if _, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("p1")); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("the same dispatch again: %v", err)
			}
			var fault Fault
			if err := s.Writable(t.Context()); !errors.As(err, &fault) || fault.Kind != FaultWrite {
				t.Errorf("without its replicas: %v", err)
			}
			for _, r := range replicas {
				r.Resume()
			}
			until(t, func() bool { return s.Writable(context.Background()) == nil })
			if _, err := w.Service.Verify(t.Context(), at); err != nil {
				t.Errorf("the repeat: %v", err)
			}
			if n := handofftest.Count(w.Events(t), handoff.EventReleased); n != 1 {
				t.Errorf("%d releases", n)
			}
		})
	}
}

// A slot that moves to another server takes its commits with it, and they wait for the replicas
// of the server that has them in the end.
func TestReplicatedCommitsFollowMoves(t *testing.T) {
	set := redistest.ReplicatedCluster(t)
	s := replicated(t, clusterURL(set.Addrs()), 2)
	w := handofftest.New(t, s)
	admin := dial(t, clusterURL(set.Addrs()))
	t.Cleanup(func() { _ = admin.Close() })
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			d := handofftest.Sample("p" + string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + string(rune('a'+n/676%26)))
			if _, _, err := w.Service.Dispatch(context.Background(), d); err != nil {
				t.Error(err)
			}
			n++
		}
	}()
	for p := range 4 {
		moveSlot(t, admin.(*redis.ClusterClient), set.Addrs(), probeKey(p))
	}
	close(stop)
	t.Logf("%d dispatches", <-done)
}
