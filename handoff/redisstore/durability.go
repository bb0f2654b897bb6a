package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// Durability is what an accepted handoff survives, as Redis is configured.
type Durability int

// From weakest to strongest. What is not known counts as less than what would be demanded.
const (
	Memory       Durability = iota // nothing: a restart of Redis loses everything since its last snapshot
	Unsynced                       // a crash loses what the system had not written yet
	NotKnown                       // Redis does not say
	SyncNotKnown                   // a log is kept; Redis does not say when it is on disk
	EverySecond                    // a crash of Redis or its machine loses up to about two seconds
	Always                         // an acknowledged write is on disk
)

var durabilityNames = [...]string{"memory", "memory", "not known", "not known", "everysec", "always"}

func (d Durability) String() string { return durabilityNames[d] }

// Demand is what must be true of a write before it is acknowledged.
type Demand struct {
	Disk     Durability // of each server that takes writes
	Replicas int        // that have it, of each such server: see Config.Replicas
}

// UnmarshalText reads a demand: memory, everysec, always, replicated:N, or one of the first and
// replicated:N with a comma between them.
func (d *Demand) UnmarshalText(text []byte) error {
	var said Demand
	disks := []Durability{Memory, EverySecond, Always}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(string(text), ",") {
		kind, count, _ := strings.Cut(part, ":")
		if i := slices.IndexFunc(disks, func(d Durability) bool { return d.String() == part }); i >= 0 {
			kind, said.Disk = "disk", disks[i]
		} else if n, err := strconv.Atoi(count); kind == "replicated" && err == nil && n >= 1 && n <= maxReplicas {
			said.Replicas = n
		} else {
			return fmt.Errorf("it must be one of %v, or replicated:N of 1 to %d replicas, or both with a comma between them", disks, maxReplicas)
		}
		if seen[kind] {
			return errors.New("it says two things of one kind")
		}
		seen[kind] = true
	}
	*d = said
	return nil
}

// maxReplicas is more than any server has that is asked to wait for all of them.
const maxReplicas = 9

// Promise says in a sentence what d means to an operator.
func (d Durability) Promise() string {
	return [...]string{
		"appendonly is off: a restart of Redis loses what came after its last snapshot",
		"appendonly is on, and Redis does not see to it that the log is on disk (appendfsync no, or no-appendfsync-on-rewrite yes): a crash of the machine may lose half a minute of accepted handoffs",
		"not known: Redis permits neither CONFIG GET nor INFO",
		"not known: appendonly is on, and Redis does not permit CONFIG GET, which says when its log is on disk",
		"appendfsync everysec: a crash loses up to about two seconds of accepted handoffs",
		"appendfsync always: an accepted handoff survives a crash; a failover may still lose what no replica had, unless --durability replicated:N is demanded",
	}[d]
}

// Durability asks every node that takes writes, and answers with the weakest. The error is
// one of the way to Redis; what Redis does not say is NotKnown or SyncNotKnown.
func (s *Store) Durability(ctx context.Context) (Durability, error) {
	nodes, _, err := s.inspect(ctx)
	return weakest(nodes), err
}

// replicasWithin is how long a pipeline waits for the replicas. A replica that is well has a write
// within some milliseconds.
const replicasWithin = 500 * time.Millisecond

// ErrNotReplicated says that something was written of which fewer replicas know in time than is
// demanded. It may be lost in a failover, or may stand.
var ErrNotReplicated = errors.New("redisstore: fewer replicas than demanded have what was written")

// executeDurably is execute of what is acknowledged only when the replicas have it: WAIT ends each
// pipeline. The commands are for one server; in a Cluster what was moved to another is sent there,
// with a WAIT of its own.
func (l *lanes) executeDurably(ctx context.Context, cmds []redis.Cmder) error {
	if l.cluster == nil {
		return l.awaitReplicas(ctx, l.client, cmds, cmds)
	}
	master, err := l.cluster.MasterForKey(ctx, keyOf(cmds[0]))
	if err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return nil
	}
	err = l.awaitReplicas(ctx, master, cmds, cmds)
	for range redirects {
		moved := map[string][]redis.Cmder{}
		var first []string
		for _, cmd := range cmds {
			if at := redirect(cmd); at != "" {
				if moved[at] == nil {
					first = append(first, at)
				}
				moved[at] = append(moved[at], cmd)
			}
		}
		if len(moved) == 0 {
			break
		}
		l.cluster.ReloadState(ctx)
		for _, at := range first {
			server := l.serverAt(ctx, at)
			if server == nil {
				continue // it keeps the redirect, of which a commit's outcome is unknown
			}
			var line []redis.Cmder
			for _, cmd := range moved[at] {
				if redis.HasErrorPrefix(cmd.Err(), "ASK") {
					line = append(line, redis.NewStatusCmd(ctx, "asking"))
				}
				line = append(line, cmd)
			}
			err = errors.Join(err, l.awaitReplicas(ctx, server, line, moved[at]))
		}
	}
	if slices.ContainsFunc(cmds, wayBroke) {
		l.cluster.ReloadState(ctx)
	}
	return err
}

// redirects is how often what is moved is sent elsewhere.
const redirects = 3

// awaitReplicas sends a pipeline that ends with WAIT. The error says that something of cmds was
// written and that too few replicas have it in time. Of a command that has an error nothing is
// known to be written.
func (l *lanes) awaitReplicas(ctx context.Context, c redis.UniversalClient, pipeline, cmds []redis.Cmder) error {
	wait := redis.NewIntCmd(ctx, "wait", l.replicas, replicasWithin.Milliseconds())
	pipe := c.Pipeline()
	_ = pipe.BatchProcess(ctx, append(slices.Clip(pipeline), wait)...)
	_, _ = pipe.Exec(ctx)
	if n, err := wait.Result(); err == nil && n >= int64(l.replicas) {
		return nil
	} else if err != nil && isReply(err) {
		return fmt.Errorf("%w: %w", ErrNotReplicated, err)
	}
	if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() == nil || errors.Is(cmd.Err(), redis.Nil) }) {
		return nil // each command says itself what became of it
	}
	return ErrNotReplicated
}

// redirect is the address of the server to which a command was moved; empty: it was not.
func redirect(cmd redis.Cmder) string {
	err := cmd.Err()
	if err == nil || !redis.HasErrorPrefix(err, "MOVED") && !redis.HasErrorPrefix(err, "ASK") {
		return ""
	}
	fields := strings.Fields(err.Error()) // MOVED SLOT HOST:PORT
	return fields[len(fields)-1]
}

// serverAt is the master at an address; nil if none is known.
func (l *lanes) serverAt(ctx context.Context, addr string) *redis.Client {
	var found *redis.Client
	_ = l.cluster.ForEachMaster(ctx, lockstep(func(_ context.Context, c *redis.Client) error {
		if c.Options().Addr == addr {
			found = c
		}
		return nil
	}))
	return found
}

// Confirm implements service.Grants: what is written after all that was read is on the replicas
// after it, too.
func (s *Store) Confirm(ctx context.Context, parcel handoff.ParcelHash) error {
	if err := s.refuses(parcel); err != nil || s.lanes.replicas == 0 {
		return err
	}
	if _, err := s.writeScript(ctx, probeScript, []string{probeKey(parcel.Partition())}); err != nil {
		return fmt.Errorf("confirming what was read: %w", err)
	}
	return nil
}
