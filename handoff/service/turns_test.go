package service

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"latchkey/handoff"
	"latchkey/handoff/storage"
)

func TestTurns(t *testing.T) {
	one, other := handoff.CourierRef{Carrier: "swift", ID: "c1"}, handoff.CourierRef{Carrier: "rival", ID: "c1"}
	turns := turns{taken: map[handoff.CourierRef]*turn{}}
	endFirst, err := turns.take(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	endOther, err := turns.take(t.Context(), other) // does not wait for the courier of another carrier
	if err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.take(late, one); !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("a turn that does not come in time: %v", err)
	}

	var at, most atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			end, err := turns.take(t.Context(), one)
			if err != nil {
				t.Error(err)
				return
			}
			most.Store(max(most.Load(), at.Add(1)))
			at.Add(-1)
			end()
		})
	}
	endFirst()
	endOther()
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d requests of one courier at once", most.Load())
	}
	if len(turns.taken) != 0 {
		t.Errorf("%d couriers are kept without a request", len(turns.taken))
	}
}
