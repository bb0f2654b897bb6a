package redisstore

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

// One grant is asked by many at once, while Redis ends connections: replies are lost whose
// commits are done.
func TestLinearizable(t *testing.T) {
	single, set := redistest.Single(t), redistest.Cluster(t)
	for name, nodes := range map[string][]string{"single": {single.Addr()}, "cluster": set.Addrs()} {
		url := "redis://" + nodes[0]
		if name == "cluster" {
			url = clusterURL(nodes)
		}
		t.Run(name, func(t *testing.T) {
			handofftest.Linearizable(t, func(t *testing.T) handofftest.Core {
				s, _ := newStore(t, flushed(t, dial(t, url)), 2)
				return s
			}, func(t *testing.T) { cut(t, nodes) })
		})
	}
}

// cut ends all connections of clients again and again, until the test is over.
func cut(t *testing.T, nodes []string) {
	ctx, end := context.WithCancel(context.Background())
	var cutting sync.WaitGroup
	for _, addr := range nodes {
		c := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1})
		cutting.Go(func() {
			defer c.Close()
			for ctx.Err() == nil {
				time.Sleep(3 * time.Millisecond)
				_ = c.Do(ctx, "client", "kill", "type", "normal", "skipme", "yes").Err()
			}
		})
	}
	t.Cleanup(func() {
		end()
		cutting.Wait()
	})
}
