// Package embedded gives a test the real store on an embedded Redis of its own.
package embedded

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
)

// New makes an empty store with fresh keys. It is closed when the test ends.
func New(t testing.TB) *redisstore.Store {
	t.Helper()
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	client, err := redisstore.Dial("redis://" + miniredis.RunT(t).Addr())
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
