package redisstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// topology is when a Cluster last said which server serves which slots. go-redis asks any server
// that it knows; it tells of no answer, and so the servers' clients are listened to.
type topology struct {
	began time.Time
	heard atomic.Int64 // nanoseconds after began; 0: never
}

// watchTopology listens to the servers that a client meets from now on.
func watchTopology(client redis.UniversalClient) *topology {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	t := &topology{began: time.Now()}
	cluster.OnNewNode(func(c *redis.Client) { c.AddHook(t) })
	return t
}

// TopologyAge is for how long it was not heard which server of a Cluster serves which slots; from
// the store's beginning, if it never was. False: the store is on no Cluster.
func (s *Store) TopologyAge() (age time.Duration, cluster bool) {
	if s.topology == nil {
		return 0, false
	}
	return time.Since(s.topology.began) - time.Duration(s.topology.heard.Load()), true
}

func (*topology) DialHook(next redis.DialHook) redis.DialHook { return next }

func (t *topology) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "cluster" && err == nil {
			if _, ok := cmd.(*redis.ClusterSlotsCmd); ok {
				t.heard.Store(int64(time.Since(t.began)))
			}
		}
		return err
	}
}

func (*topology) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
