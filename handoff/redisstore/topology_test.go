package redisstore

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/handoff/redisstore/redistest"
)

// What is known of a Cluster is young while it answers, and grows old when no server does. A
// single server has no topology.
func TestTopologyAge(t *testing.T) {
	single, _ := newStore(t, dial(t, "redis://"+redistest.Single(t).Addr()), 0)
	if _, cluster := single.TopologyAge(); cluster {
		t.Error("a single server has a topology")
	}
	set := redistest.Cluster(t)
	s, _ := newStore(t, dial(t, clusterURL(set.Addrs())), 2)
	if err := s.Writable(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := s.topology.heard.Load()
	until(t, func() bool { // go-redis asks again behind a command
		_ = s.Writable(t.Context())
		return s.topology.heard.Load() > heard
	})
	if age, cluster := s.TopologyAge(); !cluster || age > 10*time.Second {
		t.Errorf("the age is %v", age)
	}
	for _, n := range set.Nodes() {
		n.Kill()
	}
	heard = s.topology.heard.Load()
	if s.Writable(t.Context()) == nil {
		t.Fatal("a dead Cluster takes writes")
	}
	before, _ := s.TopologyAge()
	if age, _ := s.TopologyAge(); s.topology.heard.Load() > heard || age < before {
		t.Errorf("a dead Cluster is heard: %v, then %v", before, age)
	}
}

// A guard holds a Cluster's client back also where each server is asked by itself, as for what
// replicas must have.
func TestAGuardHoldsBackWhatWaitsForReplicas(t *testing.T) {
	url := clusterURL(redistest.ReplicatedCluster(t).Addrs())
	var closed atomic.Bool
	client := dial(t, url)
	Guard(client, closed.Load)
	_, ring := newStore(t, client, 0)
	s, err := New(Config{Client: client, Sealer: ring, Retention: retention, Lanes: 2, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.SetEpoch(t.Context(), Epoch{ID: "E1"}); err != nil {
		t.Fatal(err)
	}
	closed.Store(true)
	if err := s.SetEpoch(t.Context(), Epoch{ID: "E2"}); !errors.Is(err, ErrOlder) {
		t.Errorf("it answers %v", err)
	}
	open, _ := New(Config{Client: dial(t, url), Sealer: ring, Retention: retention})
	st, err := open.Compare(t.Context(), Marks{})
	open.Close()
	if err != nil || st.Epoch.ID != "E1" {
		t.Errorf("it wrote %+v, %v", st.Epoch, err)
	}
	closed.Store(false)
	if err := s.SetEpoch(t.Context(), Epoch{ID: "E3"}); err != nil {
		t.Errorf("open again: %v", err)
	}
}
