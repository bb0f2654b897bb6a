package redisstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/storage"
)

// A Redis that is gone is told at once and clearly, and what was asked of it did not happen.
func TestUnavailable(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	w := handofftest.New(t, s)
	w.Dispatch(t, handofftest.Sample("JJD1"))
	server.Stop()
	if _, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD2")); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
	if _, err := s.Durability(t.Context()); err == nil {
		t.Error("without Redis a durability was promised")
	}
	server.Restart()
	if g, created, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD2")); err != nil || !created {
		t.Errorf("with Redis again: %v, %v, %v", g.ID, created, err)
	}
}

func TestDurability(t *testing.T) {
	for conf, want := range map[string]Durability{
		"appendonly no":                         Memory,
		"appendonly yes":                        EverySecond,
		"appendonly yes\nappendfsync always":    Always,
		"appendonly yes\nappendfsync no":        Unsynced,
		"appendonly no\nappendfsync everysec\n": Memory,

		"appendonly yes\nappendfsync always\nno-appendfsync-on-rewrite yes": Unsynced,
	} {
		server := redistest.Single(t, strings.Split(strings.TrimSpace(conf), "\n")...)
		s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
		if got, err := s.Durability(t.Context()); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", conf, got, err, want)
		}
	}
	set := redistest.Cluster(t)
	s, _ := newStore(t, dial(t, clusterURL(set.Addrs())), 2)
	if err := redis.NewClient(&redis.Options{Addr: set.Addrs()[1]}).ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Durability(t.Context()); err != nil || got != Memory {
		t.Errorf("a cluster of which one node keeps a log: %v, %v; the weakest counts", got, err)
	}
}

// An accepted handoff survives a crash of Redis where appendfsync is always.
func TestAcceptedSurvivesACrash(t *testing.T) {
	server := redistest.Single(t, "appendonly yes", "appendfsync always")
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Restart()
	if got := w.Parcel(t, "JJD1"); got.Status != handoff.Released {
		t.Errorf("after the crash the grant is %s", got.Status)
	}
	if n := handofftest.Count(w.Events(t), handoff.EventReleased); n != 1 {
		t.Errorf("after the crash the log has %d releases", n)
	}
}

// After a failover the store goes on against the new master.
func TestSentinelFailover(t *testing.T) {
	set := redistest.Sentinel(t)
	url := "redis://" + set.SentinelAddrs()[0] + "?master_name=" + set.MasterName()
	s, _ := newStore(t, dial(t, url), 2)
	w := handofftest.New(t, s)
	w.Dispatch(t, handofftest.Sample("JJD1"))
	set.AwaitFailover(set.KillMaster())
	until(t, func() bool {
		_, _, err := w.Service.Dispatch(context.Background(), handofftest.Sample("JJD2"))
		if err != nil && !errors.Is(err, storage.ErrUnavailable) {
			t.Fatalf("during a failover: %v", err)
		}
		return err == nil
	})
	if got := w.Parcel(t, "JJD2"); got.Status != handoff.Active {
		t.Errorf("after the failover the grant is %s", got.Status)
	}
}

func TestDialTellsNoPassword(t *testing.T) {
	const password = "hunter22"
	for _, url := range []string{
		"http://:" + password + "@localhost", "redis://:" + password + "@local host:1", "redis://:" + password + "@localhost/notadb",
		"redis://:" + password + "@localhost?master_name=m&db=x", "redis://:" + password + "@localhost?addr=b:1&pool_size=many",
		"%zz" + password,
	} {
		if _, err := Dial(url); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("Dial(%q) = %v", url, err)
		}
	}
}
