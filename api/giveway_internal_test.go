package api

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// file has as many workers as a bulk request do lines of 10 ms each, until ctx ends, and counts what
// was done and how many were in work at once.
func file(ctx context.Context, g *giveWay, all *sync.WaitGroup) (done, most *atomic.Int64) {
	done, most = new(atomic.Int64), new(atomic.Int64)
	var inWork atomic.Int64
	for range 256 {
		all.Go(func() {
			for g.line(ctx, func() {
				n := inWork.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(10 * time.Millisecond)
				inWork.Add(-1)
				done.Add(1)
			}) {
			}
		})
	}
	return done, most
}

// What a second brings: 128 lines in each 10 ms alone, and 4 in each 40 ms while someone waits.
func TestLinesGiveWay(t *testing.T) {
	for _, c := range []struct {
		name        string
		beside      func(ctx context.Context, g *giveWay)
		least, most int64
		atOnce      int64
	}{
		{"alone", func(context.Context, *giveWay) {}, 12600, 13200, linesAtOnce},
		{"beside a request that takes long", func(ctx context.Context, g *giveWay) {
			g.enter()
			<-ctx.Done()
			g.leave()
		}, 90, 110, linesBeside},
		{"beside one now and then", func(ctx context.Context, g *giveWay) {
			for ctx.Err() == nil {
				g.enter()
				time.Sleep(time.Millisecond)
				g.leave()
				time.Sleep(50 * time.Millisecond)
			}
		}, 90, 110, linesBeside},
		{"after one", func(_ context.Context, g *giveWay) {
			g.enter()
			time.Sleep(time.Millisecond)
			g.leave()
		}, 9400, 12000, linesAtOnce + linesBeside},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGiveWay(time.Now)
				ctx, end := context.WithTimeout(t.Context(), time.Second)
				defer end()
				var all sync.WaitGroup
				all.Go(func() { c.beside(ctx, g) })
				synctest.Wait() // who waits is there before the file
				done, most := file(ctx, g, &all)
				all.Wait()
				if n := done.Load(); n < c.least || n > c.most || most.Load() != c.atOnce {
					t.Errorf("%d lines in a second, %d at once; want %d to %d, %d at once", n, most.Load(), c.least, c.most, c.atOnce)
				}
			})
		})
	}
}

func TestALineThatIsNotWantedAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGiveWay(time.Now)
		g.enter()
		ctx, end := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range linesBeside {
			all.Go(func() { g.line(t.Context(), func() { time.Sleep(time.Minute) }) })
		}
		synctest.Wait()
		all.Go(func() {
			if g.line(ctx, func() { t.Error("it was worked on") }) {
				t.Error("it was said to be")
			}
		})
		synctest.Wait()
		end()
		all.Wait()
	})
}
