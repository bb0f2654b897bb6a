package handofftest

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff/service"
)

// distant is a store at the far end of a network: each call takes a while to arrive,
// and its answer as long to come back.
type distant struct{ Core }

func travel() { time.Sleep(time.Millisecond + rand.N(time.Millisecond)) }

func (d distant) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	travel()
	defer travel()
	return d.Core.Prepare(ctx, p)
}

func (d distant) Commit(ctx context.Context, c service.Change) error {
	travel()
	defer travel()
	return d.Core.Commit(ctx, c)
}

func (d distant) Settle(ctx context.Context, s service.Settlement) error {
	travel()
	defer travel()
	return d.Core.Settle(ctx, s)
}

// Contention is hardest where answers take time: all who ask at once hold a place in
// the courier's budget at once. In a synctest bubble the waiting takes no time.
func TestContentionAtADistance(t *testing.T) {
	for name, test := range contentionTests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, New(t, distant{NewMemory()})) })
		})
	}
}
