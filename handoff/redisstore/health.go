package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// FaultKind is one way in which a Redis is not fit to keep grants.
type FaultKind string

// The kinds. Evicts, Unknown and Clock may be accepted by the operator, the others not:
// with them nothing can be kept at all. With Clock grants are kept, and a service that runs
// stays ready.
const (
	FaultRole    FaultKind = "role"    // a replica
	FaultMode    FaultKind = "mode"    // a Cluster node or a Sentinel behind the address of a single server, or the reverse
	FaultSlots   FaultKind = "slots"   // a Cluster that does not serve all slots
	FaultMemory  FaultKind = "memory"  // it does not take a write: it is out of memory
	FaultWrite   FaultKind = "write"   // likewise: without its replicas, no disk, no permission
	FaultEvicts  FaultKind = "evicts"  // it may delete keys when memory is short, or has done so
	FaultUnknown FaultKind = "unknown" // it does not say whether it may
	FaultClock   FaultKind = "clock"   // its clock and this process's differ by more than ClocksApart
)

// ClocksApart is how far this process's clock may be from Redis's.
const ClocksApart = 2 * time.Second

// FaultKinds are all of them.
var FaultKinds = []FaultKind{FaultRole, FaultMode, FaultSlots, FaultMemory, FaultWrite, FaultEvicts, FaultUnknown, FaultClock}

// Fault says what is wrong, and what to do. It is an error.
type Fault struct {
	Kind  FaultKind
	Says  string
	cause error
}

func (f Fault) Error() string { return "redis: " + f.Says }

// Detail is what anyone may read of it: nothing of what Redis said.
func (f Fault) Detail() string {
	if f.Kind == FaultMemory {
		return "Redis is out of memory"
	}
	return "Redis is not fit to keep grants: " + string(f.Kind)
}
func (f Fault) Unwrap() error { return f.cause }

// Condition is what a look at a Redis found.
type Condition struct {
	Durability Durability
	Faults     []Fault

	// Evicted is how many keys were evicted: by the nodes that answer now since each of them
	// started, and by those that were seen earlier.
	Evicted int64

	// Processes are the servers that take writes, by what their processes are called; one that
	// does not say is left out. Where one went and another came, a replica became master or a
	// server was started again, and writes that were acknowledged before may be lost.
	Processes []string

	// Unreachable is how many slots of a Cluster no server serves, as the server says that knows
	// of most; 0 without a Cluster.
	Unreachable int

	// Ahead is how far this process's clock is ahead of Redis's, below 0 how far it is behind; of
	// several nodes, by the one that differs most. What the way to Redis took, at most, is
	// already taken off. 0 where no node was asked.
	Ahead time.Duration
}

const (
	allSlots  = 16384
	noEvict   = "noeviction"
	notKnown  = ""
	asCluster = "for a Cluster write redis://HOST:PORT?addr=HOST2:PORT2&addr=HOST3:PORT3"
	asMaster  = "name the master, or let Sentinels name it: redis://SENTINEL:26379?master_name=NAME&addr=SENTINEL2:26379"
)

// node is what one server says of itself. Empty: it does not say.
type node struct {
	id         string // of its process
	role, mode string
	policy     string
	evicted    int64
	durability Durability
	ahead      time.Duration // this process's clock, of the node's
}

// inspect is survey by the wall's clock.
func (s *Store) inspect(ctx context.Context) ([]node, []Fault, error) {
	nodes, _, faults, err := s.survey(ctx, time.Now)
	return nodes, faults, err
}

// survey asks every node that takes writes. Its faults are those that no single node shows, and
// unreachable is Condition's. Now is this process's clock.
func (s *Store) survey(ctx context.Context, now func() time.Time) (nodes []node, unreachable int, faults []Fault, err error) {
	c, isCluster := s.client.(*redis.ClusterClient)
	if !isCluster {
		c, ok := s.client.(*redis.Client)
		if !ok {
			return nil, 0, nil, fmt.Errorf("redisstore: cannot ask a %T", s.client)
		}
		n, err := askNode(ctx, c, now)
		if err != nil {
			return nil, 0, nil, unavailable(err)
		}
		return []node{n}, 0, nil, nil
	}
	slots := func(ctx context.Context, info *redis.StringCmd) error {
		text, err := info.Result()
		if err != nil {
			return err
		}
		said := parseInfo(text)
		if served, err := strconv.Atoi(said["cluster_slots_ok"]); err == nil {
			unreachable = max(unreachable, allSlots-served)
		}
		if f := slotFault(said); f != nil && len(faults) == 0 {
			faults = append(faults, *f)
		}
		return nil
	}
	// First any node: a Cluster without slots has no masters to ask.
	err = slots(ctx, c.ClusterInfo(ctx))
	if err == nil && len(faults) == 0 {
		err = c.ForEachMaster(ctx, lockstep(func(ctx context.Context, c *redis.Client) error {
			n, err := askNode(ctx, c, now)
			if err != nil {
				return err
			}
			nodes = append(nodes, n)
			return slots(ctx, c.ClusterInfo(ctx))
		}))
	}
	switch {
	case err != nil && isReply(err):
		return nodes, unreachable, append(faults, explain(err)), nil
	case err != nil && strings.Contains(err.Error(), noNodes):
		return nodes, allSlots, append(faults, Fault{Kind: FaultSlots, Says: fmt.Sprintf("the Cluster serves 0 of %d slots: give every slot a master", allSlots), cause: err}), nil
	}
	return nodes, unreachable, faults, unavailable(err)
}

// noNodes is what go-redis says of a Cluster of which no node serves a slot.
const noNodes = "cluster has no nodes"

// askNode reads what one server says. A refusal leaves it unsaid; other errors are returned.
func askNode(ctx context.Context, c *redis.Client, now func() time.Time) (node, error) {
	n := node{policy: notKnown, durability: NotKnown}
	info := map[string]string{}
	text, err := c.Info(ctx).Result()
	switch {
	case err == nil:
		info = parseInfo(text)
	case !isReply(err):
		return n, err
	}
	n.id, n.role, n.mode, n.policy = info["run_id"], info["role"], info["redis_mode"], info["maxmemory_policy"]
	n.evicted, _ = strconv.ParseInt(info["evicted_keys"], 10, 64)
	if info["cluster_enabled"] == "1" {
		n.mode = "cluster"
	}
	if n.role == notKnown || n.mode == notKnown { // what every connection begins with says it, too
		hello, err := c.Do(ctx, "hello").Result()
		if err != nil && !isReply(err) {
			return n, err
		}
		said := pairs(hello)
		n.role, n.mode = said["role"], said["mode"]
	}

	var conf map[string]string
	for _, pattern := range []string{"append*", "no-appendfsync-on-rewrite", "maxmemory-policy"} {
		some, err := c.ConfigGet(ctx, pattern).Result()
		switch {
		case err == nil && conf == nil:
			conf = some
		case err == nil:
			for name, value := range some {
				conf[name] = value
			}
		case !isReply(err):
			return n, err
		}
	}
	if n.policy == notKnown {
		n.policy = conf["maxmemory-policy"]
	}
	n.durability = durabilityOf(info["aof_enabled"], conf)
	n.ahead, err = ahead(ctx, c, now)
	return n, err
}

const (
	clockAsked = 3                      // how often at most
	clockSoon  = 100 * time.Millisecond // an answer that took no longer is good enough
)

// ahead is how far this process's clock is ahead of a server's, at least: the server read its
// own at some moment between the question and the answer. A server that does not say it is not
// known to differ: to keep anything it must permit TIME, which Writable proves.
func ahead(ctx context.Context, c *redis.Client, now func() time.Time) (time.Duration, error) {
	var least time.Duration
	best := time.Duration(-1)
	for range clockAsked {
		asked := now()
		began := time.Now()
		says, err := c.Time(ctx).Result()
		took := time.Since(began)
		switch {
		case isReply(err):
			return 0, nil
		case err != nil:
			return 0, err
		case best >= 0 && took >= best:
			continue
		}
		best, least = took, 0
		switch early, late := asked.Sub(says), asked.Add(took).Sub(says); {
		case early > 0:
			least = early
		case late < 0:
			least = late
		}
		if took <= clockSoon {
			return least, nil
		}
	}
	return least, nil
}

// durabilityOf reads what INFO and CONFIG say of the log on disk. Each may be without what
// the other says.
func durabilityOf(aof string, conf map[string]string) Durability {
	appendonly, appendfsync, rewriting := conf["appendonly"], conf["appendfsync"], conf["no-appendfsync-on-rewrite"]
	switch {
	case aof == "0" || appendonly == "no":
		return Memory
	case aof == notKnown && appendonly == notKnown:
		return NotKnown
	case appendfsync == "no" || rewriting == "yes":
		return Unsynced
	case appendfsync == notKnown || rewriting == notKnown:
		return SyncNotKnown
	case appendfsync == "always":
		return Always
	}
	return EverySecond
}

// weakest is what all nodes promise at least.
func weakest(nodes []node) Durability {
	if len(nodes) == 0 {
		return NotKnown
	}
	return slices.MinFunc(nodes, func(a, b node) int { return int(a.durability - b.durability) }).durability
}

// parseInfo reads the name:value lines of INFO.
func parseInfo(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// pairs reads a reply of names and values, a map (RESP3) or a list (RESP2).
func pairs(reply any) map[string]string {
	m := map[string]string{}
	switch reply := reply.(type) {
	case map[any]any:
		for name, value := range reply {
			m[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			m[fmt.Sprint(reply[i])] = fmt.Sprint(reply[i+1])
		}
	}
	return m
}

func slotFault(info map[string]string) *Fault {
	assigned, ok := info["cluster_slots_assigned"], info["cluster_slots_ok"]
	if all := strconv.Itoa(allSlots); info["cluster_state"] == "ok" && assigned == all && ok == all {
		return nil
	}
	return &Fault{Kind: FaultSlots, Says: fmt.Sprintf("the Cluster serves %s of %d slots (%s are assigned, its state is %s): parcels of the others cannot be kept; give every slot a master",
		ok, allSlots, assigned, info["cluster_state"])}
}

// explain turns what Redis answered to a write, or to a question about its Cluster, into
// what an operator can do.
func explain(err error) Fault {
	cause := err
	var reply redis.Error
	if errors.As(err, &reply) {
		err = reply
	}
	f := func(kind FaultKind, format string, v ...any) Fault {
		return Fault{Kind: kind, Says: fmt.Sprintf(format, v...), cause: cause}
	}
	starts := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return redis.HasErrorPrefix(err, p) })
	}
	switch {
	case starts("READONLY"):
		return f(FaultRole, "this is a read-only replica: %s", asMaster)
	case starts("MOVED", "ASK", "CROSSSLOT"):
		return f(FaultMode, "this is a node of a Cluster: %s", asCluster)
	case starts("CLUSTERDOWN"):
		return f(FaultSlots, "the Cluster is down: a slot has no master, or most masters are away (%v)", err)
	case strings.Contains(err.Error(), "cluster support disabled"):
		return f(FaultMode, "this is no Cluster: leave ?addr= out of the Redis URL, or, for Sentinels, add master_name=NAME")
	case starts("OOM"):
		return f(FaultMemory, "Redis is out of memory: it is full, maxmemory is reached, and no dispatch and no handoff can be kept; give it more memory")
	case starts("MISCONF"):
		return f(FaultWrite, "it cannot write to its disk, and therefore takes no writes; see its log")
	case starts("NOREPLICAS"):
		return f(FaultWrite, "it has fewer replicas than min-replicas-to-write demands, and therefore takes no writes")
	case starts("NOPERM"), strings.Contains(err.Error(), "can't run this command"), strings.Contains(err.Error(), "ACL failure in script"):
		return f(FaultWrite, "its user lacks a permission that Latchkey needs (%v); see docs/operations.md", err)
	}
	return f(FaultWrite, "it does not take a write: %v", err)
}

// judge is what the nodes' own words make faulty. Lost are the keys that were evicted, as far
// as they are known.
func judge(nodes []node, isCluster bool, lost int64) (faults []Fault) {
	add := func(kind FaultKind, format string, v ...any) {
		f := Fault{Kind: kind, Says: fmt.Sprintf(format, v...)}
		if !slices.ContainsFunc(faults, func(g Fault) bool { return g.Says == f.Says }) { // of many nodes one is enough
			faults = append(faults, f)
		}
	}
	for _, n := range nodes {
		switch {
		case n.mode == "sentinel":
			add(FaultMode, "this is a Sentinel, which keeps nothing: add master_name=NAME to the Redis URL")
		case n.mode == "cluster" && !isCluster:
			add(FaultMode, "this is a node of a Cluster: %s", asCluster)
		case n.role == "slave" || n.role == "replica":
			add(FaultRole, "this is a read-only replica: %s", asMaster)
		}
		switch n.policy {
		case noEvict:
		case notKnown:
			add(FaultUnknown, "whether it deletes keys when memory is short (maxmemory-policy) is not known: neither INFO nor CONFIG GET is permitted; permit INFO")
		default:
			add(FaultEvicts, "its maxmemory-policy is %s: when memory is short it deletes grants and what limits guessing; set maxmemory-policy noeviction", n.policy)
		}
	}
	if d := furthest(nodes); d.Abs() > ClocksApart {
		which := "ahead of"
		if d < 0 {
			which = "behind"
		}
		add(FaultClock, "this machine's clock is %v %s Redis's: a day, a retry or a session would begin or end too early for the one or the other; set both by a time server (NTP)",
			d.Abs().Round(100*time.Millisecond), which)
	}
	if lost > 0 {
		add(FaultEvicts, "it has evicted %d keys: grants, events or what limits guessing may be gone. Compare with the shops' dispatches, then say so with CONFIG RESETSTAT", lost)
	}
	return faults
}

// furthest is by how much this process's clock differs from that of the node from which it
// differs most.
func furthest(nodes []node) (most time.Duration) {
	for _, n := range nodes {
		if n.ahead.Abs() > most.Abs() {
			most = n.ahead
		}
	}
	return most
}

// probeScript writes as a commit does: by a script, through the lanes. KEYS[1] is the key that
// it writes. It reads the clock, which some scripts must be able to. It returns nothing, and may
// be repeated.
var probeScript = newScript(`
redis.call('TIME')
redis.call('SET', KEYS[1], '', 'EX', 60)
`)

// Writable proves that every partition takes writes. The error is a Fault where Redis
// refuses, and storage.ErrUnavailable where it does not answer.
func (s *Store) Writable(ctx context.Context) error {
	err := s.repeatable(ctx, s.lanes.commit, func() []redis.Cmder {
		cmds := make([]redis.Cmder, handoff.Partitions)
		for p := range cmds {
			cmds[p] = probeScript.call(ctx, []string{probeKey(p)})
		}
		return cmds
	})
	switch {
	case errors.Is(err, ErrNotReplicated):
		return Fault{Kind: FaultWrite, cause: err, Says: fmt.Sprintf("fewer than %d of its replicas have a write within %v, which --durability demands, and no dispatch and no handoff is acknowledged; see what became of its replicas", s.lanes.replicas, replicasWithin)}
	case err != nil && isReply(err):
		return explain(err)
	}
	return err
}

// probeEvery bounds how often Ready writes, however often it is asked.
const probeEvery = time.Second

// Watch says whether a store's Redis is still fit to keep grants. It is made before the store
// is used, and asked until the end.
type Watch struct {
	store   *Store
	allowed []FaultKind
	now     func() time.Time

	probing chan struct{} // holds one token; it guards probed and probe
	probed  time.Time
	probe   error

	mu     sync.Mutex
	lost   map[string]int64 // keys evicted, by the process that did it
	faults []Fault          // that the last look found and the operator did not accept
}

// NewWatch watches a store's Redis. The kinds of faults that are allowed are still found, and
// do not make it unready. Now nil is time.Now.
func NewWatch(store *Store, now func() time.Time, allowed ...FaultKind) *Watch {
	if now == nil {
		now = time.Now
	}
	w := &Watch{store: store, allowed: allowed, now: now, probing: make(chan struct{}, 1), lost: map[string]int64{}}
	w.probing <- struct{}{}
	return w
}

// Allows reports whether a kind of fault was accepted.
func (w *Watch) Allows(kind FaultKind) bool { return slices.Contains(w.allowed, kind) }

// forbids reports whether a fault makes Redis unfit. Clocks that differ do not: were it so, one
// master with a wrong clock would end the service.
func (w *Watch) forbids(f Fault) bool { return f.Kind != FaultClock && !w.Allows(f.Kind) }

// Look asks every node for its role, its memory policy and its durability, and whether it
// takes writes. The error is one of the way to Redis; the last look then still counts.
func (w *Watch) Look(ctx context.Context) (Condition, error) {
	nodes, unreachable, faults, err := w.store.survey(ctx, w.now)
	if err != nil {
		return Condition{}, err
	}
	c := Condition{Durability: weakest(nodes), Ahead: furthest(nodes), Unreachable: unreachable}
	for _, n := range nodes {
		if n.id != "" && n.role == "master" {
			c.Processes = append(c.Processes, n.id)
		}
	}
	w.mu.Lock()
	for _, n := range nodes {
		// A count that fell was reset by a person who knows of it, or the process is another,
		// and what it lost before stays lost.
		w.lost[n.id] = n.evicted
	}
	for _, n := range w.lost {
		c.Evicted += n
	}
	w.mu.Unlock()
	_, isCluster := w.store.client.(*redis.ClusterClient)
	c.Faults = append(faults, judge(nodes, isCluster, c.Evicted)...)
	if len(c.Faults) == 0 || !slices.ContainsFunc(c.Faults, w.forbids) {
		var f Fault
		switch err := w.writable(ctx); {
		case errors.As(err, &f):
			c.Faults = append(c.Faults, f)
		case err != nil:
			return c, err
		}
	}
	w.mu.Lock()
	w.faults = slices.DeleteFunc(slices.Clone(c.Faults), func(f Fault) bool { return !w.forbids(f) })
	w.mu.Unlock()
	return c, nil
}

// Ready is nil while Redis is fit and takes writes. It writes at most once a second; a call
// in between answers what the last write came to.
func (w *Watch) Ready(ctx context.Context) error {
	w.mu.Lock()
	faults := w.faults
	w.mu.Unlock()
	if i := slices.IndexFunc(faults, func(f Fault) bool { return f.Kind != FaultWrite && f.Kind != FaultMemory }); i >= 0 {
		return faults[i]
	}
	return w.writable(ctx) // which knows better than the last look whether it writes
}

// writable is the store's Writable, at most once in probeEvery.
func (w *Watch) writable(ctx context.Context) error {
	select {
	case <-w.probing:
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
	defer func() { w.probing <- struct{}{} }()
	if now := w.now(); w.probed.IsZero() || now.Sub(w.probed) >= probeEvery {
		err := w.store.Writable(ctx)
		if err != nil && ctx.Err() != nil {
			return err // its own time was up: the next is not told so
		}
		w.probed, w.probe = now, err
	}
	return w.probe
}
