package redistest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
)

// ClusterSet is a Redis Cluster of three masters.
type ClusterSet struct {
	tb       testing.TB
	conf     []string
	nodes    []*Server // node i owns slots i*clusterSlots/clusterNodes and on
	replicas []*Server // replica i is of node i; none but in a [ReplicatedCluster]
}

// Cluster starts the nodes, spreads the slots evenly and waits until every node
// says cluster_state:ok. That takes a good two seconds: Redis lets no master of
// a cluster take writes earlier after its start. Each extraConf goes to every
// node.
func Cluster(tb testing.TB, extraConf ...string) *ClusterSet {
	tb.Helper()
	return cluster(tb, 0, extraConf)
}

// ReplicatedCluster is Cluster with a replica for each master, which takes over some three seconds
// after its master is gone.
func ReplicatedCluster(tb testing.TB, extraConf ...string) *ClusterSet {
	tb.Helper()
	return cluster(tb, clusterNodes, extraConf)
}

func cluster(tb testing.TB, replicas int, extraConf []string) *ClusterSet {
	tb.Helper()
	set := &ClusterSet{tb: tb, conf: extraConf}
	for range clusterNodes {
		set.nodes = append(set.nodes, set.launch())
	}
	for range replicas {
		set.replicas = append(set.replicas, set.launch())
	}

	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	must := func(s *Server, args ...any) {
		tb.Helper()
		set.must(ctx, s, args...)
	}
	for i, s := range set.nodes {
		must(s, "CLUSTER", "ADDSLOTSRANGE", firstSlot(i), firstSlot(i+1)-1)
		// Masters that start with the same epoch must first settle who goes ahead.
		must(s, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for _, s := range set.Servers()[1:] {
		must(set.nodes[0], "CLUSTER", "MEET", "127.0.0.1", s.port, s.busPort)
	}
	await(tb, "cluster", set.ready)
	for i, s := range set.replicas {
		must(s, "CLUSTER", "REPLICATE", set.id(ctx, set.nodes[i]))
	}
	await(tb, "replicas", set.replicated)
	return set
}

// launch starts a node, which knows no other yet.
func (set *ClusterSet) launch() *Server {
	set.tb.Helper()
	return launch(set.tb, func(s *Server) []string {
		// The default, port+10000, is as likely as any port to be taken.
		s.busPort = freePort(set.tb)
		return append([]string{
			"cluster-enabled yes",
			"cluster-port " + strconv.Itoa(s.busPort),
			"cluster-announce-ip 127.0.0.1",
			"cluster-node-timeout 2000",
		}, set.conf...)
	})
}

func (set *ClusterSet) must(ctx context.Context, s *Server, args ...any) *redis.Cmd {
	set.tb.Helper()
	cmd := s.do(ctx, args...)
	if err := cmd.Err(); err != nil {
		set.tb.Fatalf("redistest: %v: %v", args, err)
	}
	return cmd
}

// id is the name of a node in the cluster.
func (set *ClusterSet) id(ctx context.Context, s *Server) string {
	set.tb.Helper()
	return set.must(ctx, s, "CLUSTER", "MYID").Val().(string)
}

// AddNode starts a master that has no slots yet, and waits until all nodes know it.
func (set *ClusterSet) AddNode() *Server {
	set.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	s := set.launch()
	set.must(ctx, set.nodes[0], "CLUSTER", "MEET", "127.0.0.1", s.port, s.busPort)
	set.nodes = append(set.nodes, s)
	await(set.tb, "cluster with one node more", set.ready)
	return s
}

// Used returns the slots of a master in which there are keys, those with the most first.
func (set *ClusterSet) Used(s *Server) []int {
	set.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	c := redis.NewClient(s.options())
	defer c.Close()
	counts := map[int]*redis.IntCmd{}
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for slot := range clusterSlots {
			counts[slot] = p.ClusterCountKeysInSlot(ctx, slot) // of others' slots it has none
		}
		return nil
	})
	if err != nil {
		set.tb.Fatalf("redistest: CLUSTER COUNTKEYSINSLOT: %v", err)
	}
	maps.DeleteFunc(counts, func(_ int, n *redis.IntCmd) bool { return n.Val() == 0 })
	return slices.SortedFunc(maps.Keys(counts), func(a, b int) int { return cmp.Compare(counts[b].Val(), counts[a].Val()) })
}

// moving is how long a slot stays as it is between two moves of its keys, so that it is used while
// it is on both masters: small keys would move too fast for that.
const moving = 5 * time.Millisecond

// Move gives slots of one master to another, a few keys at a time, as redis-cli --cluster reshard
// does, while both are used. It returns how many keys went.
func (set *ClusterSet) Move(from, to *Server, slots ...int) (keys int) {
	set.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	giver, taker := set.id(ctx, from), set.id(ctx, to)
	gives, takes := redis.NewClient(from.options()), redis.NewClient(to.options())
	defer gives.Close()
	defer takes.Close()
	must := func(c *redis.Client, args ...any) any {
		set.tb.Helper()
		answer, err := c.Do(ctx, args...).Result()
		if err != nil {
			set.tb.Fatalf("redistest: %v: %v", args, err)
		}
		return answer
	}
	for _, slot := range slots {
		must(takes, "CLUSTER", "SETSLOT", slot, "IMPORTING", giver)
		must(gives, "CLUSTER", "SETSLOT", slot, "MIGRATING", taker)
		for {
			batch := must(gives, "CLUSTER", "GETKEYSINSLOT", slot, 3).([]any)
			if len(batch) == 0 {
				break
			}
			must(gives, append([]any{"MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS"}, batch...)...)
			keys += len(batch)
			time.Sleep(moving)
		}
		// The others hear of it from these two.
		must(takes, "CLUSTER", "SETSLOT", slot, "NODE", taker)
		must(gives, "CLUSTER", "SETSLOT", slot, "NODE", taker)
	}
	return keys
}

// replicated tells whether every replica has all that its master has, and all nodes know of it.
func (set *ClusterSet) replicated(ctx context.Context) error {
	for i, s := range set.replicas {
		if err := s.follows(ctx); err != nil {
			return err
		}
		for _, other := range set.Servers() {
			shards, err := other.do(ctx, "CLUSTER", "SLOTS").Slice()
			if err != nil {
				return err
			}
			for _, shard := range shards {
				if row, _ := shard.([]any); len(row) < 4 {
					return fmt.Errorf("%s knows no replica of a master yet (number %d)", other.Addr(), i)
				}
			}
		}
	}
	return nil
}

func firstSlot(node int) int { return node * clusterSlots / clusterNodes }

// ready tells whether every node knows all others and serves all slots.
func (set *ClusterSet) ready(ctx context.Context) error {
	for _, s := range set.Servers() {
		text, err := s.do(ctx, "CLUSTER", "INFO").Text()
		if err != nil {
			return fmt.Errorf("node %s: %w", s.Addr(), err)
		}
		info := fields(text)
		if info["cluster_state"] != "ok" ||
			info["cluster_known_nodes"] != strconv.Itoa(len(set.Servers())) ||
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

// Servers returns the masters and then their replicas, as they were at the start.
func (set *ClusterSet) Servers() []*Server { return slices.Concat(set.nodes, set.replicas) }

// Replica returns the replica that node had at the start.
func (set *ClusterSet) Replica(node *Server) *Server {
	return set.replicas[slices.Index(set.nodes, node)]
}

// AwaitTakeover waits until the replica of a node that is gone has taken over its slots.
func (set *ClusterSet) AwaitTakeover(gone *Server) {
	set.tb.Helper()
	replica := set.Replica(gone)
	await(set.tb, "the replica's promotion", func(ctx context.Context) error {
		info, err := replica.info(ctx, "replication")
		if err == nil && info["role"] != "master" {
			err = fmt.Errorf("%s is still a %s", replica.Addr(), info["role"])
		}
		return err
	})
}

// LosingTakeover has the replica of a node take over its slots at once, and loses what write writes to
// that node, for certain: the replica gets nothing of it.
func (set *ClusterSet) LosingTakeover(node *Server, write func()) {
	set.tb.Helper()
	replica := set.Replica(node)
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	await(set.tb, "the replica", replica.follows)
	set.must(ctx, replica, "CONFIG", "SET", "masterauth", "none") // with which no master without a password lets it in
	set.must(ctx, node, "CLIENT", "KILL", "TYPE", "replica")
	await(set.tb, "a replica without its master", replica.cutOff)
	write()
	set.must(ctx, replica, "CLUSTER", "FAILOVER", "TAKEOVER")
	set.AwaitTakeover(node)
	set.must(ctx, replica, "CONFIG", "SET", "masterauth", "")
	set.AwaitReplica(node)
}

// AwaitReplica waits until a node that was a master, and runs again, follows the one that took over.
func (set *ClusterSet) AwaitReplica(s *Server) {
	set.tb.Helper()
	await(set.tb, "the old master as a replica", s.follows)
}

// Nodes returns the masters, to be stopped, paused or asked one by one.
func (set *ClusterSet) Nodes() []*Server { return slices.Clone(set.nodes) }

// Owner returns the node that served a key at the start. It asks the first node, so look
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
