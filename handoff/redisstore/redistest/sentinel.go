package redistest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	masterName = "latchkey"
	sentinels  = 3
	quorum     = 2

	failoverTimeout = 3 * time.Second // of a step of one
	downAfter       = 800 * time.Millisecond
)

// SentinelSet is one master, one replica and three sentinels watching them.
type SentinelSet struct {
	tb        testing.TB
	data      []*Server // master and replica, in whichever roles they are now
	sentinels []*Server
}

// Sentinel starts the set and waits until all sentinels know one another, the
// master and its synchronised replica. They call a master dead after 0.8
// seconds, and a failover takes about two. Each extraConf goes to the master and
// the replica.
func Sentinel(tb testing.TB, extraConf ...string) *SentinelSet {
	tb.Helper()
	set := &SentinelSet{tb: tb}
	master := launch(tb, func(*Server) []string { return extraConf })
	replica := launch(tb, func(*Server) []string {
		return append([]string{fmt.Sprintf("replicaof 127.0.0.1 %d", master.announced())}, extraConf...)
	})
	set.data = []*Server{master, replica}

	// A sentinel reads the replicas in its first INFO; one that looked before the
	// replica is attached would see it much later.
	await(tb, "replica", func(ctx context.Context) error {
		info, err := replica.info(ctx, "replication")
		if err == nil && info["master_link_status"] != "up" {
			err = errors.New("not synchronised")
		}
		return err
	})
	for range sentinels {
		set.sentinels = append(set.sentinels, startSentinel(tb, master, ofTLS(extraConf)))
	}
	await(tb, "sentinels", func(ctx context.Context) error {
		for _, s := range set.sentinels {
			if err := set.agrees(ctx, s, master); err != nil {
				return fmt.Errorf("sentinel %s: %w", s.Addr(), err)
			}
		}
		return nil
	})
	return set
}

func startSentinel(tb testing.TB, master *Server, extraConf []string) *Server {
	tb.Helper()
	s := launch(tb, func(*Server) []string {
		return append([]string{
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", masterName, master.announced(), quorum),
			fmt.Sprintf("sentinel down-after-milliseconds %s %d", masterName, downAfter.Milliseconds()),
			fmt.Sprintf("sentinel failover-timeout %s %d", masterName, failoverTimeout.Milliseconds()),
		}, extraConf...)
	}, "--sentinel")

	// Sentinels look at the servers every 10 s and for each other every 2 s; a test
	// cannot wait for that. TILT, their answer to a stalled machine, suspends
	// failovers for 30 s. A Sentinel dials a server that it could not reach once in a PING-PERIOD,
	// also a master that is new to it: with one of a second it took the promoted server for dead
	// and went back to the old one, which may have come back empty. Nor may it be much shorter: a
	// replica is promoted only if its INFO, then fetched every second whatever INFO-PERIOD says, is
	// younger than five of it. A new master has four of PUBLISH-PERIOD to be known as one before it
	// is made a replica again.
	err := s.do(tb.Context(), "SENTINEL", "DEBUG",
		"INFO-PERIOD", 100, "ASK-PERIOD", 100, "PUBLISH-PERIOD", 500, "TILT-PERIOD", 1000, "PING-PERIOD", 400).Err()
	if err != nil {
		tb.Fatalf("redistest: SENTINEL DEBUG: %v", err)
	}
	return s
}

// agrees tells whether a sentinel sees the master, its replica and the other
// sentinels all well.
func (set *SentinelSet) agrees(ctx context.Context, sentinel, master *Server) error {
	c := redis.NewSentinelClient(sentinel.options())
	defer c.Close()
	m, err := c.Master(ctx, masterName).Result()
	if err != nil {
		return err
	}
	seen := []string{m["port"], m["flags"], m["num-slaves"], m["num-other-sentinels"]}
	want := []string{strconv.Itoa(master.announced()), "master", "1", strconv.Itoa(sentinels - 1)}
	for i := range want {
		if seen[i] != want[i] {
			return fmt.Errorf("port, flags, replicas and other sentinels are %q, not %q", seen, want)
		}
	}
	replicas, err := c.Replicas(ctx, masterName).Result()
	if err != nil {
		return err
	}
	for _, r := range replicas {
		if r["flags"] != "slave" || r["master-link-status"] != "ok" {
			return fmt.Errorf("replica is %q, its link %q", r["flags"], r["master-link-status"])
		}
	}
	return c.CkQuorum(ctx, masterName).Err()
}

// MasterName returns the name under which the sentinels know the master.
func (set *SentinelSet) MasterName() string { return masterName }

// SentinelAddrs returns the host:port of each sentinel.
func (set *SentinelSet) SentinelAddrs() []string { return addrs(set.sentinels) }

// SentinelTLSAddrs returns the host:port of each sentinel for TLS.
func (set *SentinelSet) SentinelTLSAddrs() []string { return tlsAddrs(set.sentinels) }

// Replica returns the server that is not the master now.
func (set *SentinelSet) Replica() *Server {
	set.tb.Helper()
	if set.data[0] == set.Master() {
		return set.data[1]
	}
	return set.data[0]
}

// Master returns the server that the first sentinel calls the master now.
func (set *SentinelSet) Master() *Server {
	set.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	s, err := set.masterOf(ctx, set.sentinels[0])
	if err != nil {
		set.tb.Fatalf("redistest: %v", err)
	}
	return s
}

func (set *SentinelSet) masterOf(ctx context.Context, sentinel *Server) (*Server, error) {
	c := redis.NewSentinelClient(sentinel.options())
	defer c.Close()
	hostPort, err := c.GetMasterAddrByName(ctx, masterName).Result()
	if err != nil {
		return nil, err
	}
	for _, s := range set.data {
		if hostPort[0] == "127.0.0.1" && hostPort[1] == strconv.Itoa(s.announced()) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("sentinel %s names %q, which is no server of the set", sentinel.Addr(), hostPort)
}

// Failover has the Sentinels promote the replica at once, whatever it has not got yet, and waits
// until it is the master.
func (set *SentinelSet) Failover() {
	set.tb.Helper()
	set.failover(set.Master())
}

// PlannedFailover is Failover that loses nothing: the master takes no writes from before the
// replica has all of them until it is replaced.
func (set *SentinelSet) PlannedFailover() {
	set.tb.Helper()
	old, replica := set.Master(), set.Replica()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if err := old.do(ctx, "CLIENT", "PAUSE", 10000, "WRITE").Err(); err != nil {
		set.tb.Fatalf("redistest: CLIENT PAUSE: %v", err)
	}
	await(set.tb, "the replica", func(ctx context.Context) error {
		of, err := old.info(ctx, "replication")
		if err != nil {
			return err
		}
		has, err := replica.info(ctx, "replication")
		if err == nil && has["slave_repl_offset"] != of["master_repl_offset"] {
			err = fmt.Errorf("it has %s of %s", has["slave_repl_offset"], of["master_repl_offset"])
		}
		return err
	})
	set.failover(old)
	if err := old.do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
		set.tb.Fatalf("redistest: CLIENT UNPAUSE: %v", err)
	}
}

// LosingFailover is Failover that loses what write writes, for certain: the replica gets nothing
// of it. Write must take less than half a minute, after which Sentinels promote no such replica.
func (set *SentinelSet) LosingFailover(write func()) {
	set.tb.Helper()
	old, replica := set.Master(), set.Replica()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	info, err := old.info(ctx, "replication")
	if err != nil {
		set.tb.Fatalf("redistest: %v", err)
	}
	await(set.tb, "the replica", func(ctx context.Context) error {
		has, err := replica.info(ctx, "replication")
		if err != nil {
			return err
		}
		of, _ := strconv.ParseInt(info["master_repl_offset"], 10, 64)
		if got, _ := strconv.ParseInt(has["slave_repl_offset"], 10, 64); got < of {
			return fmt.Errorf("it has %d of %d", got, of)
		}
		return nil
	})
	// Sentinels promote no replica whose link has been down for ten times as long as this.
	set.deadAfter(ctx, 5*time.Second)
	set.must(ctx, replica, "CONFIG", "SET", "masterauth", "none") // with which no master without a password lets it in
	set.must(ctx, old, "CLIENT", "KILL", "TYPE", "replica")
	await(set.tb, "a replica without its master", replica.cutOff)
	write()
	set.failover(old)
	set.must(ctx, replica, "CONFIG", "SET", "masterauth", "")
	set.deadAfter(ctx, downAfter)
}

// deadAfter is after how long of silence the Sentinels call a server dead.
func (set *SentinelSet) deadAfter(ctx context.Context, silence time.Duration) {
	set.tb.Helper()
	for _, s := range set.sentinels {
		set.must(ctx, s, "SENTINEL", "SET", masterName, "down-after-milliseconds", silence.Milliseconds())
	}
}

// AwaitUptime waits until the replica says that it has run for so long.
func (set *SentinelSet) AwaitUptime(ran time.Duration) {
	set.tb.Helper()
	replica := set.Replica()
	await(set.tb, "the replica's uptime", func(ctx context.Context) error {
		info, err := replica.info(ctx, "server")
		if err != nil {
			return err
		}
		if s, _ := strconv.Atoi(info["uptime_in_seconds"]); time.Duration(s)*time.Second < ran {
			return fmt.Errorf("it has run for %d s", s)
		}
		return nil
	})
}

func (set *SentinelSet) must(ctx context.Context, s *Server, args ...any) {
	set.tb.Helper()
	if err := s.do(ctx, args...).Err(); err != nil {
		set.tb.Fatalf("redistest: %v: %v", args[0], err)
	}
}

// failover asks for one until it happens: Sentinels give one up that takes them too long, as on a
// machine that is busy.
func (set *SentinelSet) failover(old *Server) {
	set.tb.Helper()
	var asked time.Time
	await(set.tb, "failover", func(ctx context.Context) error {
		_, err := set.promoted(ctx, old)
		if err != nil && time.Since(asked) > failoverTimeout {
			asked = time.Now()
			err = errors.Join(err, set.sentinels[0].do(ctx, "SENTINEL", "FAILOVER", masterName).Err())
		}
		return err
	})
}

// KillMaster crashes the master and returns at once, before anybody noticed. The
// server returned may be restarted: the sentinels make it a replica.
func (set *SentinelSet) KillMaster() *Server {
	set.tb.Helper()
	m := set.Master()
	m.Kill()
	return m
}

// AwaitFailover waits until every sentinel names another master than old and
// that server takes writes, and returns it.
func (set *SentinelSet) AwaitFailover(old *Server) *Server {
	set.tb.Helper()
	var promoted *Server
	await(set.tb, "failover", func(ctx context.Context) (err error) {
		promoted, err = set.promoted(ctx, old)
		return err
	})
	return promoted
}

// AwaitReplica waits until a server that was the master, and runs again, follows the master and has
// all of it.
func (set *SentinelSet) AwaitReplica(s *Server) {
	set.tb.Helper()
	await(set.tb, "the old master as a replica", s.follows)
}

// promoted is the master that every sentinel names in the place of old, and that takes writes.
func (set *SentinelSet) promoted(ctx context.Context, old *Server) (*Server, error) {
	var promoted *Server
	for _, s := range set.sentinels {
		m, err := set.masterOf(ctx, s)
		if err != nil {
			return nil, err
		}
		if m == old {
			return nil, fmt.Errorf("sentinel %s still names the old master", s.Addr())
		}
		promoted = m
	}
	info, err := promoted.info(ctx, "replication")
	if err == nil && info["role"] != "master" {
		err = fmt.Errorf("%s is still a %s", promoted.Addr(), info["role"])
	}
	return promoted, err
}

func tlsAddrs(servers []*Server) []string {
	var list []string
	for _, s := range servers {
		list = append(list, s.TLSAddr())
	}
	return list
}

func addrs(servers []*Server) []string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr())
	}
	return list
}
