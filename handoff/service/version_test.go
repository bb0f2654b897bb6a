package service_test

import (
	"testing"

	"latchkey/handoff/service"
)

func TestVersion(t *testing.T) {
	v := service.Version(0)
	for _, c := range []struct {
		generation int
		want       service.Version
	}{{1, 1<<48 | 1}, {1, 1<<48 | 2}, {1, 1<<48 | 3}, {2, 2<<48 | 1}, {2, 2<<48 | 2}} {
		next := v.Next(c.generation)
		if next != c.want || next <= v || next.Generation() != c.generation {
			t.Errorf("after %x comes %x in generation %d", v, next, c.generation)
		}
		v = next
	}
}
