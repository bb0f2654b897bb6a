package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/cmd/latchkey/demo"
)

// When the demo's clock is moved, what was written before it runs out, and what is written after
// it lasts as long as it should.
func TestKeysRunOutByTheDemosClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis, clock := miniredis.NewMiniRedis(), demo.NewClock(time.Now())
		ctx, stop := context.WithCancel(t.Context())
		clock.Moving(redis.FastForward)
		go forget(ctx, redis)
		write := func(key string) {
			if err := redis.Set(key, ""); err != nil {
				t.Fatal(err)
			}
			redis.SetTTL(key, time.Minute)
		}
		there := func(key string, want bool) {
			t.Helper()
			synctest.Wait()
			if redis.Exists(key) != want {
				t.Errorf("%s is there: %v", key, !want)
			}
		}
		write("before")
		if _, err := clock.Forward(clock.Now().Add(24 * time.Hour)); err != nil {
			t.Fatal(err)
		}
		write("after")
		time.Sleep(2 * time.Second)
		there("before", false)
		there("after", true)
		time.Sleep(time.Minute)
		there("after", false)
		stop()
	})
}
