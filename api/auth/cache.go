package auth

import (
	"sync"
	"time"
)

// cacheSize is how many entries a generation of a cache holds.
const cacheSize = 8 << 10

// cache remembers verdicts for a while. It keeps two generations: when the young one is
// full it becomes the old one, and what is still asked for moves back. So it is bounded
// without a list to maintain.
type cache[K comparable, V any] struct {
	mu         sync.RWMutex
	young, old map[K]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func (c *cache[K, V]) get(key K, now time.Time) (value V, ok bool) {
	c.mu.RLock()
	e, young := c.young[key]
	if !young {
		e = c.old[key]
	}
	c.mu.RUnlock()
	if !now.Before(e.until) {
		return value, false
	}
	if !young {
		c.put(key, e.value, e.until)
	}
	return e.value, true
}

func (c *cache[K, V]) put(key K, value V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= cacheSize {
		c.old, c.young = c.young, make(map[K]cached[V])
	}
	c.young[key] = cached[V]{value, until}
}
