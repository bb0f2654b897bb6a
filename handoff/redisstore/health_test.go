package redisstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/storage"
)

// Users as a managed Redis gives them: one that may not read the configuration, and one that
// may not ask for anything.
const (
	noConfig = "user tenant on >pw ~* &* +@all -config"
	noInfo   = "user tenant on >pw ~* &* +@all -config -info"
)

// documentedUser is the line of redis.conf that docs/operations.md gives.
func documentedUser(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "user latchkey ") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("docs/operations.md names no user of Redis")
	return ""
}

// That user may do what Latchkey does, and its Redis is fit and says all that is asked.
func TestDocumentedUser(t *testing.T) {
	server := redistest.Single(t, "appendonly yes", "appendfsync always", documentedUser(t))
	w, found := watch(t, "redis://latchkey:PASSWORD@"+server.Addr())
	if len(found.Faults) > 0 || found.Durability != Always || w.Ready(t.Context()) != nil {
		t.Errorf("%+v, %v", found, w.Ready(t.Context()))
	}
	if _, err := w.store.Limit(t.Context(), "k", 1, time.Second); err != nil {
		t.Error(err)
	}
	set := redistest.Cluster(t, documentedUser(t))
	url := strings.Replace(clusterURL(set.Addrs()), "redis://", "redis://latchkey:PASSWORD@", 1)
	w, found = watch(t, url)
	if len(found.Faults) > 0 || w.Ready(t.Context()) != nil {
		t.Errorf("in a cluster: %+v, %v", found, w.Ready(t.Context()))
	}
}

func kinds(faults []Fault) []FaultKind {
	found := []FaultKind{}
	for _, f := range faults {
		found = append(found, f.Kind)
	}
	return found
}

// watch looks at a Redis as serve does before it starts.
func watch(t *testing.T, url string, allowed ...FaultKind) (*Watch, Condition) {
	t.Helper()
	s, _ := newStore(t, dial(t, url), 2)
	w := NewWatch(s, nil, allowed...)
	c, err := w.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

// admin is a client that may do everything.
func admin(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Every policy but noeviction is a fault, whoever asks; what is not known is one of its own.
func TestMemoryPolicyIsKnown(t *testing.T) {
	policies := []string{"noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"}
	for user, addr := range map[string]*redistest.Server{
		"":           redistest.Single(t),
		"tenant:pw@": redistest.Single(t, noConfig),
	} {
		c := admin(t, addr.Addr())
		for _, policy := range policies {
			if err := c.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
				t.Fatal(err)
			}
			w, found := watch(t, "redis://"+user+addr.Addr())
			want := []FaultKind{FaultEvicts}
			if policy == "noeviction" {
				want = []FaultKind{}
			}
			if got := kinds(found.Faults); !slices.Equal(got, want) {
				t.Errorf("%q, %s: %v, want %v", user, policy, found.Faults, want)
			}
			if len(want) > 0 && !strings.Contains(found.Faults[0].Says, policy) {
				t.Errorf("%s is not named: %v", policy, found.Faults)
			}
			if err := w.Ready(t.Context()); (err == nil) != (policy == "noeviction") {
				t.Errorf("%q, %s: ready says %v", user, policy, err)
			}
		}
	}

	silent := redistest.Single(t, noInfo)
	w, found := watch(t, "redis://tenant:pw@"+silent.Addr())
	if got := kinds(found.Faults); !slices.Equal(got, []FaultKind{FaultUnknown}) || !strings.Contains(found.Faults[0].Says, "not known") || w.Ready(t.Context()) == nil {
		t.Errorf("neither INFO nor CONFIG: %v", found.Faults)
	}
	if w, found := watch(t, "redis://tenant:pw@"+silent.Addr(), FaultUnknown); len(found.Faults) != 1 || w.Ready(t.Context()) != nil {
		t.Errorf("allowed: %v, %v", found.Faults, w.Ready(t.Context()))
	}
}

// In a Cluster each master is asked: one that evicts is enough.
func TestEveryMasterIsAsked(t *testing.T) {
	set := redistest.Cluster(t)
	w, found := watch(t, clusterURL(set.Addrs()))
	if len(found.Faults) > 0 || w.Ready(t.Context()) != nil {
		t.Fatalf("a good cluster: %v, %v", found.Faults, w.Ready(t.Context()))
	}
	if err := admin(t, set.Addrs()[2]).ConfigSet(t.Context(), "maxmemory-policy", "volatile-ttl").Err(); err != nil {
		t.Fatal(err)
	}
	if found, err := w.Look(t.Context()); err != nil || !slices.Equal(kinds(found.Faults), []FaultKind{FaultEvicts}) {
		t.Errorf("one evicts: %v, %v", found.Faults, err)
	}
	if w.Ready(t.Context()) == nil {
		t.Error("it is ready all the same")
	}
}

// fill writes until a server's memory is used up.
func fill(t *testing.T, c *redis.Client, until func() bool) {
	t.Helper()
	for i := range 20_000 {
		_ = c.Set(t.Context(), fmt.Sprintf("fill:%d", i), strings.Repeat("x", 4000), 0).Err()
		if i%100 == 0 && until() {
			return
		}
	}
	t.Fatal("memory is endless")
}

// The policy is changed and keys are lost while the service runs: it is told, it is ready no
// more, and it becomes so only when a person has said that the loss is dealt with.
func TestEvictionWhileRunning(t *testing.T) {
	server := redistest.Single(t)
	c := admin(t, server.Addr())
	w, found := watch(t, "redis://"+server.Addr())
	if len(found.Faults) > 0 {
		t.Fatal(found.Faults)
	}
	look := func() Condition {
		t.Helper()
		found, err := w.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	set := func(name, value string) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("maxmemory-policy", "allkeys-lru")
	if found := look(); found.Evicted != 0 || !slices.Equal(kinds(found.Faults), []FaultKind{FaultEvicts}) || w.Ready(t.Context()) == nil {
		t.Errorf("after the change: %+v, %v", found, w.Ready(t.Context()))
	}
	set("maxmemory", "4mb")
	fill(t, c, func() bool { return look().Evicted > 0 })
	set("maxmemory", "0")
	set("maxmemory-policy", "noeviction")
	found = look()
	if found.Evicted == 0 || !slices.Equal(kinds(found.Faults), []FaultKind{FaultEvicts}) || w.Ready(t.Context()) == nil {
		t.Errorf("keys are gone, and the policy is right again: %+v, %v", found, w.Ready(t.Context()))
	}
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	if found, err := NewWatch(s, nil).Look(t.Context()); err != nil || len(found.Faults) == 0 {
		t.Errorf("another instance that starts now: %+v, %v", found, err)
	}
	lost := found.Evicted
	server.Restart()
	if found := look(); found.Evicted != lost || w.Ready(t.Context()) == nil {
		t.Errorf("after a restart of Redis: %+v", found)
	}
}

// Whoever has seen to what is lost says so by CONFIG RESETSTAT.
func TestEvictionIsDealtWith(t *testing.T) {
	server := redistest.Single(t, "maxmemory 4mb", "maxmemory-policy allkeys-random")
	c := admin(t, server.Addr())
	w, _ := watch(t, "redis://"+server.Addr())
	fill(t, c, func() bool { found, _ := w.Look(t.Context()); return found.Evicted > 0 })
	for _, set := range [][2]string{{"maxmemory", "0"}, {"maxmemory-policy", "noeviction"}} {
		if err := c.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if found, err := w.Look(t.Context()); err != nil || len(found.Faults) > 0 || w.Ready(t.Context()) != nil {
		t.Errorf("after RESETSTAT: %+v, %v, %v", found, err, w.Ready(t.Context()))
	}
}

// A Redis that cannot keep anything is told from one that can, and the error says how its
// address is to be written.
func TestUnfitRedis(t *testing.T) {
	master := redistest.Single(t)
	_, port, _ := strings.Cut(master.Addr(), ":")
	replica := redistest.Single(t, "replicaof 127.0.0.1 "+port)
	set := redistest.Cluster(t)
	slotless := redistest.Single(t, "cluster-enabled yes", "cluster-port 0")
	silentNode := redistest.Single(t, "cluster-enabled yes", "cluster-port 0", noInfo)
	silentReplica := redistest.Single(t, "replicaof 127.0.0.1 "+port, noInfo)
	full := redistest.Single(t, "maxmemory 3mb")
	fill(t, admin(t, full.Addr()), func() bool {
		return redis.HasErrorPrefix(admin(t, full.Addr()).Set(t.Context(), "one", "more", 0).Err(), "OOM")
	})
	alone := redistest.Single(t, "min-replicas-to-write 1")
	readonly := redistest.Single(t, "user tenant on >pw ~* &* +@read +@connection +info +config|get +eval +evalsha +script")
	sentinels := redistest.Sentinel(t)

	for name, c := range map[string]struct {
		url  string
		kind FaultKind
		says string
	}{
		"a replica":                              {"redis://" + replica.Addr(), FaultRole, "?master_name="},
		"a replica that may not be asked":        {"redis://tenant:pw@" + silentReplica.Addr(), FaultRole, "?master_name="},
		"a node of a cluster":                    {"redis://" + set.Addrs()[0], FaultMode, "?addr="},
		"a node that may not be asked":           {"redis://tenant:pw@" + silentNode.Addr(), FaultMode, "?addr="},
		"a cluster without slots":                {"redis://" + slotless.Addr() + "?addr=" + slotless.Addr(), FaultSlots, "0 of 16384 slots"},
		"a cluster without slots, plain address": {"redis://" + slotless.Addr(), FaultMode, "?addr="},
		"no cluster":                             {"redis://" + master.Addr() + "?addr=" + master.Addr(), FaultMode, "leave ?addr= out"},
		"a Sentinel":                             {"redis://" + sentinels.SentinelAddrs()[0], FaultMode, "master_name=NAME"},
		"a full one":                             {"redis://" + full.Addr(), FaultMemory, "maxmemory is reached"},
		"one without its replicas":               {"redis://" + alone.Addr(), FaultWrite, "min-replicas-to-write"},
		"a user that may only read":              {"redis://tenant:pw@" + readonly.Addr(), FaultWrite, "permission"},
	} {
		t.Run(name, func(t *testing.T) {
			w, found := watch(t, c.url, FaultUnknown, FaultEvicts)
			i := slices.IndexFunc(found.Faults, func(f Fault) bool { return f.Kind == c.kind })
			if i < 0 || !strings.Contains(found.Faults[i].Says, c.says) {
				t.Errorf("%v, want %s: %s", found.Faults, c.kind, c.says)
			}
			if w.Ready(t.Context()) == nil {
				t.Error("it is ready")
			}
			unasked := NewWatch(w.store, nil) // readiness alone, without a look
			if err := unasked.Ready(t.Context()); err == nil {
				t.Error("a write passes")
			}
		})
	}

	// Half a cluster.
	if err := admin(t, set.Addrs()[1]).Do(t.Context(), "cluster", "delslots", 6000).Err(); err != nil {
		t.Fatal(err)
	}
	if _, found := watch(t, clusterURL(set.Addrs())); !slices.Equal(kinds(found.Faults), []FaultKind{FaultSlots}) || found.Unreachable != 1 {
		t.Errorf("a slot without a master: %v, %d are unreachable", found.Faults, found.Unreachable)
	}
}

// It gets full while the service runs: readiness goes with the next write, and comes back.
func TestReadinessProvesAWrite(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	now := handofftest.Noon
	w := NewWatch(s, func() time.Time { return now })
	c := admin(t, server.Addr())
	if err := w.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("within the second: %v", err)
	}
	now = now.Add(time.Second)
	var f Fault
	if err := w.Ready(t.Context()); !errors.As(err, &f) || f.Kind != FaultMemory || !strings.Contains(f.Says, "Redis is out of memory") {
		t.Errorf("full: %v", err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("emptied: %v", err)
	}
	server.Stop()
	now = now.Add(time.Second)
	if err := w.Ready(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("stopped: %v", err)
	}
}

// A thousand probes in a second are one trip, and what they write ends by itself.
func TestReadinessIsBounded(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	now := handofftest.Noon
	w := NewWatch(s, func() time.Time { return now })
	for range 3 {
		for range 1000 {
			if err := w.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(time.Second)
	}
	if sets := server.Calls()["set"]; sets != 3*handoff.Partitions {
		t.Errorf("%d writes in three seconds", sets)
	}
	ctx := context.Background()
	for p := range handoff.Partitions {
		if ttl := admin(t, server.Addr()).TTL(ctx, probeKey(p)).Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("%s ends in %v", probeKey(p), ttl)
		}
	}
}

// What CONFIG would say is not made up where it may not be asked.
func TestDurabilityIsNotGuessed(t *testing.T) {
	for _, c := range []struct {
		conf []string
		want Durability
		says string
	}{
		{[]string{"appendonly no", noConfig}, Memory, "appendonly is off"},
		{[]string{"appendonly yes", noConfig}, SyncNotKnown, "not known: appendonly is on"},
		{[]string{"appendonly yes", "appendfsync always", noConfig}, SyncNotKnown, "not known: appendonly is on"},
		{[]string{"appendonly yes", "appendfsync always", noInfo}, NotKnown, "not known: Redis permits neither"},
		{[]string{"appendonly yes", "appendfsync always", "user tenant on >pw ~* &* +@all -info"}, Always, "survives a crash"},
	} {
		server := redistest.Single(t, c.conf...)
		s, _ := newStore(t, dial(t, "redis://tenant:pw@"+server.Addr()), 2)
		got, err := s.Durability(t.Context())
		if err != nil || got != c.want || !strings.Contains(got.Promise(), c.says) {
			t.Errorf("%q: %v (%s), %v", c.conf, got, got.Promise(), err)
		}
		if (got == NotKnown || got == SyncNotKnown) && (got.String() != "not known" || got >= EverySecond) {
			t.Errorf("%q passes for %s", c.conf, got)
		}
	}
	for _, text := range []string{
		"not known", "", "unsynced", "Always", "replicated", "replicated:0", "replicated:10", "replicated:-1", "replicated:1.5", "always:1",
		"always,", "always,everysec", "replicated:1,replicated:2", "always, replicated:1", "always,replicated:1,",
	} {
		var d Demand
		if err := d.UnmarshalText([]byte(text)); err == nil || d != (Demand{}) {
			t.Errorf("%q may be demanded: %v", text, d)
		}
	}
	for text, want := range map[string]Demand{
		"memory": {}, "always": {Disk: Always}, "replicated:2": {Replicas: 2}, "everysec,replicated:1": {EverySecond, 1}, "replicated:1,always": {Always, 1},
	} {
		var d Demand
		if err := d.UnmarshalText([]byte(text)); err != nil || d != want {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
}
