package auth

import (
	"testing"
	"time"
)

func TestMemoryIsBounded(t *testing.T) {
	start := time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC)
	var c cache[[32]byte, *Principal]
	p, until := &Principal{}, start.Add(time.Hour)
	var hot [32]byte
	c.put(hot, p, until)
	for n := range 5 * cacheSize {
		c.put([32]byte{1, byte(n), byte(n >> 8), byte(n >> 16)}, p, until)
		if _, ok := c.get(hot, start); !ok {
			t.Fatalf("what is asked for all the time is forgotten after %d", n)
		}
	}
	if n := len(c.young) + len(c.old); n > 2*cacheSize {
		t.Errorf("%d tokens remembered", n)
	}
}
