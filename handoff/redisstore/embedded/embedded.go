// Package embedded gives a test the real store on an embedded Redis of its own.
package embedded

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
)

// New makes an empty store with fresh keys. It is closed when the test ends.
func New(t testing.TB) *redisstore.Store {
	t.Helper()
	store, _ := WithClock(t)
	return store
}

// WithClock is New with a way to set the clock of Redis, which gives the events of the log
// their ids.
func WithClock(t testing.TB) (store *redisstore.Store, set func(time.Time)) {
	t.Helper()
	m := miniredis.RunT(t)
	client, err := redisstore.Dial("redis://" + m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return on(t, client), m.SetTime
}

// InBubble is New for a test in a synctest bubble, where a socket would stop the time. The
// connections are pipes without a buffer: a pipeline of more than 4 KiB would wait for
// itself.
func InBubble(t testing.TB) *redisstore.Store {
	t.Helper()
	m := miniredis.NewMiniRedis()
	t.Cleanup(m.Close)
	return on(t, redis.NewClient(&redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
	}))
}

func on(t testing.TB, client redis.UniversalClient) *redisstore.Store {
	t.Helper()
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: 30 * 24 * time.Hour, Lanes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		_ = client.Close()
	})
	return s
}
