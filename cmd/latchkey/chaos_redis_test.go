//go:build chaos

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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

// killed crashes a server and starts it again, twice in the short form.
func killed(c *checker, r *redistest.Server) {
	times := 2 * *chaosTimes
	for range times {
		was := r.Info("server")["run_id"]
		r.Kill()
		r.Restart()
		if r.Info("server")["run_id"] == was {
			c.t.Error("Redis was killed and is the same process")
		}
		c.awaitAnswers()
		c.goOn()
	}
	c.saw("kills: %d", times)
}

// switching has the master replaced, as often as asked for, by something that happens to it. All
// agree on who is master before it happens and after it, and it is another one each time.
func switching(happens func(set *redistest.SentinelSet)) func(*checker, *redistest.SentinelSet) {
	return func(c *checker, set *redistest.SentinelSet) {
		c.t.Helper()
		times := *chaosTimes
		if c.losses != nil {
			times = 1 // after a loss all may stand still
		}
		for n := range times {
			if n > 0 {
				c.awaitAnswers()
				c.goOn()
			}
			old := set.Master()
			if role := old.Info("replication")["role"]; role != "master" {
				c.t.Fatalf("the Sentinels name a %s as the master", role)
			}
			happens(set)
			if promoted := set.AwaitFailover(old); promoted == old {
				c.t.Error("the master is the same as before")
			}
			set.AwaitReplica(old)
		}
		c.saw("masters replaced: %d", times)
	}
}

func killMaster(set *redistest.SentinelSet) {
	old := set.KillMaster()
	set.AwaitFailover(old)
	old.Restart()
}

// freezeMaster stops the master until another one is, so that the old one comes back and takes itself
// for the master, with requests that wait for it.
func freezeMaster(set *redistest.SentinelSet) {
	old := set.Master()
	old.Pause()
	set.AwaitFailover(old)
	old.Resume()
}

// onSentinel are the ways in which a master is replaced, with each durability.
func onSentinel() (list []scenario) {
	for _, way := range []struct {
		name    string
		happens func(*redistest.SentinelSet)
		silence time.Duration
	}{
		{"failover at once", (*redistest.SentinelSet).Failover, 0},
		{"the master killed", killMaster, time.Second},
		{"the master frozen until replaced", freezeMaster, time.Second},
	} {
		for _, with := range []struct {
			name    string
			conf    []string
			args    []string
			mayLose bool
		}{
			{"memory", nil, nil, true},
			{"everysec", everySec, nil, true},
			{"always", onDisk, nil, true},
			{"replicated:1", nil, replicated, false},
		} {
			list = append(list, scenario{
				name: "Sentinel: " + way.name + ", " + with.name, instances: 2, args: with.args, silence: way.silence,
				redis: watched(switching(way.happens), with.conf...), mayLose: with.mayLose, mailsTwice: true,
			})
		}
	}
	return list
}

// onRedis are the faults of Redis.
var onRedis = slices.Concat(onServer, onSentinel(), onCluster)

var onServer = []scenario{
	{name: "Redis killed, appendfsync always", redis: single(killed, onDisk...), mailsTwice: true},
	{name: "Redis killed, appendfsync everysec", redis: single(killed, everySec...), mailsTwice: true},
	{name: "Redis killed, appendonly no", instances: 2, mayLose: true, redis: single(func(c *checker, r *redistest.Server) {
		r.Kill()
		r.Restart()
		if n := r.Info("keyspace")["db0"]; n != "" {
			c.t.Errorf("Redis came back with %s", n)
		}
		c.saw("Redis came back empty")
	}), mailsTwice: true},
	{name: "Redis frozen for 3 s", instances: 2, silence: 2 * time.Second, redis: single(func(c *checker, r *redistest.Server) {
		r.Pause()
		time.Sleep(3 * time.Second)
		r.Resume()
		c.saw("SIGSTOP")
	}), mailsTwice: true},
	{name: "Redis out of memory", redis: single(func(c *checker, r *redistest.Server) {
		r.Set("maxmemory", "1mb")
		c.goOn()
		c.saw("commands refused: %d", refusals(c, r, "OOM"))
		r.Set("maxmemory", "0")
	})},
	{name: "Redis answers no client for 2 s (CLIENT PAUSE)", instances: 2, silence: 1900 * time.Millisecond, redis: single(func(c *checker, r *redistest.Server) {
		r.PauseClients(2 * time.Second)
		time.Sleep(2 * time.Second)
		c.saw("paused")
	}), mailsTwice: true},
	{name: "Redis runs a slow script of 2 s", instances: 2, silence: 1900 * time.Millisecond, redis: single(func(c *checker, r *redistest.Server) {
		r.Spin(2 * time.Second)
		c.saw("stood still")
	}), mailsTwice: true},
	{name: "Redis runs a slow script of 2 s and says so (BUSY)", instances: 2, silence: time.Second, redis: single(func(c *checker, r *redistest.Server) {
		r.Spin(2 * time.Second)
		c.saw("commands refused: %d", refusals(c, r, "BUSY"))
	}, "busy-reply-threshold 100"), mailsTwice: true},
	{name: "Redis's disk is full, appendfsync everysec", redis: fullDisk(everySec, func(c *checker, r *redistest.Server, free func()) {
		c.goOn()
		c.goOn()
		c.saw("commands refused: %d", refusals(c, r, "MISCONF"))
		free()
	})},
	{name: "Redis's disk is full, appendfsync always", redis: fullDisk(onDisk, func(c *checker, r *redistest.Server, free func()) {
		r.AwaitExit()
		if !strings.Contains(r.Log(), "recover from AOF write error") {
			c.t.Errorf("Redis ended, and not because its disk is full:\n%s", r.Log())
		}
		c.saw("Redis ended")
		free()
		r.Restart()
	}), mailsTwice: true},
	{name: "Sentinel: a planned failover, writes paused", instances: 2, redis: watched(switching((*redistest.SentinelSet).PlannedFailover))},
}

var onCluster = []scenario{
	{name: "Cluster: a master dies and stays dead", instances: 2, silence: time.Second, mailsTwice: true, redis: clustered(redistest.ReplicatedCluster, func(c *checker, set *redistest.ClusterSet) {
		set.Nodes()[1].Kill()
		set.AwaitTakeover(set.Nodes()[1])
		c.saw("its replica took over")
	})},
	{name: "Cluster: a master dies and returns, replicated:1", instances: 2, args: replicated, silence: time.Second, mailsTwice: true, redis: clustered(redistest.ReplicatedCluster, func(c *checker, set *redistest.ClusterSet) {
		old := set.Nodes()[1]
		old.Kill()
		set.AwaitTakeover(old)
		old.Restart()
		set.AwaitReplica(old)
		c.saw("it came back as a replica")
	})},
	{name: "Cluster: a replica takes over at once, memory", instances: 2, mayLose: true, loses: true, mailsTwice: true, redis: clustered(redistest.ReplicatedCluster, func(c *checker, set *redistest.ClusterSet) {
		set.LosingTakeover(set.Nodes()[1], c.goOn)
		c.saw("it had nothing of the last second")
	})},
	{name: "Cluster: a replica takes over at once, replicated:1", instances: 2, args: replicated, mailsTwice: true, redis: clustered(redistest.ReplicatedCluster, func(c *checker, set *redistest.ClusterSet) {
		set.LosingTakeover(set.Nodes()[1], c.goOn)
		c.saw("it had nothing of the last second")
	})},
	{name: "Cluster: slots move and move back", instances: 2, redis: clustered(redistest.Cluster, resharded)},
	{name: "Cluster: slots move and move back, replicated:1", instances: 2, args: replicated, redis: clustered(redistest.ReplicatedCluster, resharded)},
	{name: "Cluster: a node is added and takes slots", instances: 2, redis: clustered(redistest.Cluster, func(c *checker, set *redistest.ClusterSet) {
		givers := set.Nodes()
		taker := set.AddNode()
		for _, giver := range givers {
			used := fullest(set, giver)
			c.move(set, giver, taker, used[:(len(used)+1)/2])
		}
		c.goOn()
		scripts := taker.Calls()["evalsha"]
		if scripts == 0 {
			c.t.Error("the node that was added is not used")
		}
		c.saw("scripts on the new node: %d", scripts)
	})},
}

// refusals is how many commands a server refused with an error of that name, which is some.
func refusals(c *checker, r *redistest.Server, name string) int {
	c.t.Helper()
	n, _ := strconv.Atoi(strings.TrimPrefix(r.Info("errorstats")["errorstat_"+name], "count="))
	if n == 0 {
		c.t.Errorf("Redis refused nothing with %s", name)
	}
	return n
}

// clustered is a Cluster, with what is to happen to it.
func clustered(start func(testing.TB, ...string) *redistest.ClusterSet, broken func(*checker, *redistest.ClusterSet)) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		set := start(t, "cluster-require-full-coverage no")
		addrs := set.Addrs()
		return "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr="), func(c *checker) { broken(c, set) }
	}
}

// resharded moves slots of one master to another, and then back.
func resharded(c *checker, set *redistest.ClusterSet) {
	from, to := set.Nodes()[0], set.Nodes()[1]
	for range *chaosTimes {
		used := fullest(set, from)
		c.move(set, from, to, used)
		c.goOn()
		c.move(set, to, from, used)
		c.goOn()
	}
	c.saw("commands sent on (ASK): %d", refusals(c, from, "ASK"))
}

// fullest are the slots of a master that hold the most: those of the partitions, with all grants and
// the log, and some of what lies beside them.
func fullest(set *redistest.ClusterSet, s *redistest.Server) []int {
	used := set.Used(s)
	return used[:min(len(used), 30)]
}

// move gives slots to another master, and fails where there was nothing in them.
func (c *checker) move(set *redistest.ClusterSet, from, to *redistest.Server, slots []int) {
	c.t.Helper()
	keys := set.Move(from, to, slots...)
	if keys == 0 {
		c.t.Errorf("no key was in the %d slots that were moved", len(slots))
	}
	c.saw("keys moved: %d", keys)
}

// diskBytes is how much a disk takes that is to be full. A load of some seconds does not fill it.
const diskBytes = 16 << 20

// fullDisk is a server whose data lie on a disk of their own, which is full when the fault begins;
// free makes room again. Only root may mount one, as CI does.
func fullDisk(conf []string, broken func(c *checker, r *redistest.Server, free func())) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		dir := t.TempDir()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", diskBytes), "tmpfs", dir).CombinedOutput(); err != nil {
			t.Skipf("a full disk needs a mount, for which one must be root: %v, %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
				t.Errorf("umount: %v, %s", err, out)
			}
		})
		return single(func(c *checker, r *redistest.Server) {
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, diskBytes), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			broken(c, r, func() {
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
			})
		}, append([]string{"dir " + dir}, conf...)...)(t)
	}
}
