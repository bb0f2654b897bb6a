package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
)

const retention = 30 * 24 * time.Hour

// newStore makes a store with fresh keys on a client, and closes both.
func newStore(t testing.TB, client redis.UniversalClient, lanes int) (*Store, *keyring.Ring) {
	t.Helper()
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	return newStoreWith(t, client, lanes, ring), ring
}

func newStoreWith(t testing.TB, client redis.UniversalClient, lanes int, ring *keyring.Ring) *Store {
	t.Helper()
	s, err := New(Config{Client: client, Sealer: ring, Retention: retention, Lanes: lanes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = client.Close() })
	return s
}

// dial makes a client as the program does, from a URL.
func dial(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	c, err := Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clusterURL(addrs []string) string {
	return "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
}

func flushed(t testing.TB, client redis.UniversalClient) redis.UniversalClient {
	t.Helper()
	flush := func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() }
	var err error
	if c, ok := client.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(context.Background(), flush)
	} else {
		err = client.FlushAll(context.Background()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// wired is a store whose connections can lose replies, and are counted.
func wired(t *testing.T, kind string, lanes int) (*Store, *redistest.Wire) {
	t.Helper()
	wire := redistest.NewWire()
	var client redis.UniversalClient
	switch kind {
	case "single":
		client = redis.NewClient(&redis.Options{Addr: redistest.Single(t).Addr(), Dialer: wire.Dial, MaxRetries: -1})
	case "cluster":
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: redistest.Cluster(t).Addrs(), Dialer: wire.Dial})
	}
	s, _ := newStore(t, client, lanes)
	return s, wire
}

// knowScripts spares every node the NOSCRIPT of its first commit.
func knowScripts(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	load := func(ctx context.Context, c *redis.Client) error {
		return errors.Join(c.ScriptLoad(ctx, commitScript.source).Err(), c.ScriptLoad(ctx, countScript.source).Err(), c.ScriptLoad(ctx, lastDoorScript.source).Err())
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), load)
	case *redis.Client:
		err = load(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var keypadKey = handoff.KeypadKey("the secret of a keypad")

func putKeypad(t *testing.T, s *Store) {
	t.Helper()
	if err := s.PutBuilding(t.Context(), handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	at := handofftest.Home
	if err := s.PutDoor(t.Context(), handoff.Door{ID: "pad", Kind: handoff.Lobby, Mode: handoff.Keypad, BuildingID: "bld_turm5", Keypad: keypadKey, Location: &at}); err != nil {
		t.Fatal(err)
	}
}

// atPad is the courier cou_7 at that keypad.
func atPad(parcel string) service.UnlockRequest {
	return service.UnlockRequest{Courier: handofftest.Courier("cou_7"), Door: "pad", Parcel: parcel, Position: &handoff.Position{Point: handofftest.Home}}
}

func refusedFor(err error, want handoff.Reason) error {
	var r *handoff.Refusal
	if errors.As(err, &r) && r.Reason == want {
		return nil
	}
	return fmt.Errorf("got %v, want %s", err, want)
}

// contents is all that a Redis holds: every key, field, member and value.
func contents(t testing.TB, client redis.UniversalClient) string {
	t.Helper()
	ctx := context.Background()
	var all strings.Builder
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind, err := client.Type(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		cmd := map[string][]any{
			"string": {"get", key}, "hash": {"hgetall", key}, "set": {"smembers", key},
			"zset": {"zrange", key, 0, -1}, "list": {"lrange", key, 0, -1}, "stream": {"xrange", key, "-", "+"},
		}[kind]
		if cmd == nil {
			t.Fatalf("%s is a %s, which this test cannot read", key, kind)
		}
		value, err := client.Do(ctx, cmd...).Result()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, key, value)
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}
