//go:build chaos

package main

import (
	"strings"
	"testing"
	"time"

	"latchkey/handoff/redisstore/redistest"
)

// single is a server by itself, with what is to happen to it.
func single(broken func(c *checker, r *redistest.Server), conf ...string) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		r := redistest.Single(t, conf...)
		return "redis://" + r.Addr(), func(c *checker) { broken(c, r) }
	}
}

// watched is a master and its replica under Sentinels.
func watched(broken func(c *checker, set *redistest.SentinelSet), conf ...string) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		set := redistest.Sentinel(t, conf...)
		addrs := set.SentinelAddrs()
		return "redis://" + addrs[0] + "?master_name=" + set.MasterName() + "&addr=" + strings.Join(addrs[1:], "&addr="), func(c *checker) { broken(c, set) }
	}
}

var (
	onDisk     = []string{"appendonly yes", "appendfsync always"}
	everySec   = []string{"appendonly yes", "appendfsync everysec"}
	replicated = []string{"--durability", "replicated:1"}
)

func killTwice(c *checker, r *redistest.Server) {
	for range 2 {
		r.Kill()
		r.Restart()
		c.goOn()
	}
}

// onRedis are the faults of Redis and of the way to it.
var onRedis = []scenario{
	{name: "Redis killed twice, appendfsync always", redis: single(killTwice, onDisk...), mailsTwice: true},
	{name: "Redis killed twice, appendfsync everysec", redis: single(killTwice, everySec...), mailsTwice: true},
	{name: "Redis frozen for 3 s", instances: 2, redis: single(func(c *checker, r *redistest.Server) {
		r.Pause()
		time.Sleep(3 * time.Second)
		r.Resume()
	}), mailsTwice: true},
	{name: "Redis out of memory", redis: single(func(c *checker, r *redistest.Server) {
		r.Set("maxmemory", "1mb")
		c.goOn()
		r.Set("maxmemory", "0")
	})},
	{name: "Sentinel: a planned failover, writes paused", instances: 2, redis: watched(func(c *checker, set *redistest.SentinelSet) {
		set.PlannedFailover()
	})},
	{name: "Sentinel: failover at once, replicated:1", instances: 2, args: replicated, redis: watched(func(c *checker, set *redistest.SentinelSet) {
		set.Failover()
	}), mailsTwice: true},
	{name: "Sentinel: the master killed, replicated:1", instances: 2, args: replicated, redis: watched(func(c *checker, set *redistest.SentinelSet) {
		old := set.KillMaster()
		set.AwaitFailover(old)
		old.Restart()
	}), mailsTwice: true},
	{name: "Cluster: a master dies and stays dead", instances: 2, redis: func(t *testing.T) (string, func(*checker)) {
		set := redistest.ReplicatedCluster(t, "cluster-require-full-coverage no")
		addrs := set.Addrs()
		return "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr="), func(c *checker) {
			set.Nodes()[1].Kill()
			set.AwaitTakeover(set.Nodes()[1])
		}
	}, mailsTwice: true},
}
