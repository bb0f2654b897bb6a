package redisstore

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/handoff/redisstore/redistest"
)

// A key may spend so much, over all instances, and then waits; another is not held up. It
// is forgotten with the period.
func TestLimit(t *testing.T) {
	m := miniredis.RunT(t)
	for name, url := range map[string]string{"embedded": "redis://" + m.Addr(), "single": "redis://" + redistest.Single(t).Addr()} {
		t.Run(name, func(t *testing.T) {
			client := dial(t, url)
			one, _ := newStore(t, client, 0)
			two, _ := newStore(t, dial(t, url), 0)
			for n, s := range []*Store{one, two, one, two} {
				wait, err := s.Limit(t.Context(), "refused:abc", 3, time.Hour)
				if err != nil || (wait > 0) != (n == 3) || wait > time.Hour/3 {
					t.Errorf("spent %d times: wait %v, %v", n+1, wait, err)
				}
			}
			if wait, err := two.Limit(t.Context(), "refused:abd", 3, time.Hour); wait != 0 || err != nil {
				t.Errorf("another key: %v %v", wait, err)
			}
			if ttl := client.TTL(t.Context(), "lk:rate:refused:abc").Val(); ttl <= 0 || ttl > 2*time.Hour {
				t.Errorf("kept for %v", ttl)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	for url, want := range map[string]bool{
		"redis://127.0.0.1:6379": false, "redis://localhost": false, "redis://[::1]:6379/2": false, "redis://127.0.0.1:1?addr=localhost:2": false,
		"rediss://:p@redis.example:6379": false, "rediss://u:p@10.0.0.1:1?master_name=m&addr=10.0.0.2:2&password=q": false,
		"rediss://u:p@10.0.0.1:1?master_name=m&addr=10.0.0.2:2": true, "rediss://10.0.0.1:1?master_name=m&password=q": true,
		"redis://:p@redis.example": true, "rediss://redis.example": true, "redis://127.0.0.1:1?addr=10.0.0.1:2": true, "rediss://u@redis.example": true,
	} {
		if missing, err := Plain(url, Access{}); err != nil || (missing != "") != want {
			t.Errorf("%s: %q %v", url, missing, err)
		}
	}
	for _, url := range []string{"http://x", "://", "redis.example:6379"} {
		if _, err := Plain(url, Access{}); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}
