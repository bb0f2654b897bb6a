package redistest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
)

// ClusterSet is a Redis Cluster of three masters without replicas.
type ClusterSet struct {
	tb    testing.TB
	nodes []*Server // node i owns slots i*clusterSlots/clusterNodes and on
}

// Cluster starts the nodes, spreads the slots evenly and waits until every node
// says cluster_state:ok. That takes a good two seconds: Redis lets no master of
// a cluster take writes earlier after its start. Each extraConf goes to every
// node.
func Cluster(tb testing.TB, extraConf ...string) *ClusterSet {
	tb.Helper()
	set := &ClusterSet{tb: tb}
	for range clusterNodes {
		set.nodes = append(set.nodes, launch(tb, func(s *Server) []string {
			// The default, port+10000, is as likely as any port to be taken.
			s.busPort = freePort(tb)
			return append([]string{
				"cluster-enabled yes",
				"cluster-port " + strconv.Itoa(s.busPort),
				"cluster-announce-ip 127.0.0.1",
				"cluster-node-timeout 2000",
			}, extraConf...)
		}))
	}

	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	must := func(s *Server, args ...any) {
		tb.Helper()
		if err := s.do(ctx, args...).Err(); err != nil {
			tb.Fatalf("redistest: %v: %v", args, err)
		}
	}
	for i, s := range set.nodes {
		must(s, "CLUSTER", "ADDSLOTSRANGE", firstSlot(i), firstSlot(i+1)-1)
		// Masters that start with the same epoch must first settle who goes ahead.
		must(s, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for _, s := range set.nodes[1:] {
		must(set.nodes[0], "CLUSTER", "MEET", "127.0.0.1", s.port, s.busPort)
	}
	await(tb, "cluster", set.ready)
	return set
}

func firstSlot(node int) int { return node * clusterSlots / clusterNodes }

// ready tells whether every node knows all others and serves all slots.
func (set *ClusterSet) ready(ctx context.Context) error {
	for _, s := range set.nodes {
		text, err := s.do(ctx, "CLUSTER", "INFO").Text()
		if err != nil {
			return fmt.Errorf("node %s: %w", s.Addr(), err)
		}
		info := fields(text)
		if info["cluster_state"] != "ok" ||
			info["cluster_known_nodes"] != strconv.Itoa(clusterNodes) ||
			info["cluster_slots_ok"] != strconv.Itoa(clusterSlots) {
			return fmt.Errorf("node %s: state %s, %s nodes, %s slots served",
				s.Addr(), info["cluster_state"], info["cluster_known_nodes"], info["cluster_slots_ok"])
		}
	}
	return nil
}

// Addrs returns the host:port of each node.
func (set *ClusterSet) Addrs() []string { return addrs(set.nodes) }

// TLSAddrs returns the host:port of each node for TLS.
func (set *ClusterSet) TLSAddrs() []string { return tlsAddrs(set.nodes) }

// Nodes returns the servers, to be stopped, paused or asked one by one.
func (set *ClusterSet) Nodes() []*Server { return slices.Clone(set.nodes) }

// Owner returns the node that serves a key. It asks the first node, so look
// before breaking that one.
func (set *ClusterSet) Owner(key string) *Server {
	set.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	slot, err := set.nodes[0].do(ctx, "CLUSTER", "KEYSLOT", key).Int()
	if err != nil {
		set.tb.Fatalf("redistest: CLUSTER KEYSLOT: %v", err)
	}
	i := 0
	for slot >= firstSlot(i+1) {
		i++
	}
	return set.nodes[i]
}

// Calls returns the sum of [Server.Calls] over the nodes.
func (set *ClusterSet) Calls() map[string]int {
	set.tb.Helper()
	sum := map[string]int{}
	for _, s := range set.nodes {
		for name, n := range s.Calls() {
			sum[name] += n
		}
	}
	return sum
}
