package redisstore

import (
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"pgregory.net/rapid"

	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

func TestConformance(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
			m := miniredis.RunT(t)
			s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
			return s
		})
	})
	single := redistest.Single(t, documentedUser(t))
	for _, lanes := range []int{0, 2} {
		t.Run(fmt.Sprintf("single/lanes=%d", lanes), func(t *testing.T) {
			handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
				everybody := flushed(t, dial(t, "redis://"+single.Addr()))
				t.Cleanup(func() { _ = everybody.Close() })
				s, _ := newStore(t, dial(t, "redis://latchkey:PASSWORD@"+single.Addr()), lanes)
				return s
			})
		})
	}
	t.Run("sentinel", func(t *testing.T) {
		set := redistest.Sentinel(t)
		url := "redis://" + set.SentinelAddrs()[0] + "?master_name=" + set.MasterName()
		for _, addr := range set.SentinelAddrs()[1:] {
			url += "&addr=" + addr
		}
		handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
			s, _ := newStore(t, flushed(t, dial(t, url)), 2)
			return s
		})
	})
	t.Run("cluster", func(t *testing.T) {
		set := redistest.Cluster(t)
		handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
			s, _ := newStore(t, flushed(t, dial(t, clusterURL(set.Addrs()))), 4)
			return s
		})
	})
}

// The rules hold over random histories on a real Redis too, lost replies included.
func TestModel(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 2)
	rapid.Check(t, handofftest.Model(func() handofftest.Core {
		flushed(t, client)
		return s
	}))
}
