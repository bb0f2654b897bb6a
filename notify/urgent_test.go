package notify

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
)

func room(n int) func(*Config) { return func(c *Config) { c.Room = func() int { return n } } }

func second(context.Context, eventlog.Delivery) error { time.Sleep(time.Second); return nil }

// parcels are those of the events that were handled, in that order.
func (b *bench) parcels() (names []string) {
	calls, _ := b.handled()
	for _, c := range calls {
		page, err := b.Core.Read(b.t.Context(), c.id.Partition, "", 10_000)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, l := range page {
			if l.ID == c.id {
				names = append(names, l.Event.Parcel)
			}
		}
	}
	return names
}

// Behind a long backlog of tomorrow's, what is dispatched for today is next: a reader has in hand
// what it is at, and no more.
func TestTheUrgentDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		dispatch := func(name string, day handoff.Date) {
			d := handofftest.Sample(name)
			d.Day = day
			b.Dispatch(t, d)
		}
		for i := range 100 {
			dispatch(fmt.Sprintf("T%03d", i), handofftest.Today.Next())
		}
		defer b.start(second, room(3))()
		defer b.start(second, room(2))()
		time.Sleep(4500 * time.Millisecond)
		dispatch("NOW", handofftest.Today)
		time.Sleep(2 * time.Second)
		held, err := b.Core.Holders(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		for reader, n := range held {
			if n > 3 { // what it is at
				t.Errorf("%s has %d in hand", reader, n)
			}
		}
		names := b.parcels()
		if i := slices.Index(names, "NOW"); i < 0 || i >= 5*5+5 { // 25 had begun when it came, and it is among the next five
			t.Errorf("today's is number %d of %d", i, len(names))
		}
		time.Sleep(time.Minute)
		if calls, times := b.handled(); len(calls) != 101 || len(times) != 101 {
			t.Errorf("%d calls for %d events, want 101", len(calls), len(times))
		}
	})
}

// As many handlers as there is room for, which may change, and none for less than one.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 200)
		var most, now, at atomic.Int64
		most.Store(8)
		stop := b.start(func(context.Context, eventlog.Delivery) error {
			at.Store(max(at.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			return nil
		}, func(c *Config) { c.Room = func() int { return int(most.Load()) } })
		for _, want := range []int64{8, 2, 16, 0} {
			most.Store(want)
			time.Sleep(1500 * time.Millisecond)
			at.Store(0)
			time.Sleep(4 * time.Second)
			if got := at.Load(); got != max(1, want) {
				t.Errorf("%d handlers at once, want %d", got, want)
			}
		}
		most.Store(50)
		time.Sleep(20 * time.Second)
		stop()
		if calls, times := b.handled(); len(calls) != 200 || len(times) != 200 {
			t.Errorf("%d calls for %d events, want 200", len(calls), len(times))
		}
	})
}

// Quick handlers do not wait for the next take: it takes ahead what ends before that.
func TestQuickHandlersAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2000)
		defer b.start(func(context.Context, eventlog.Delivery) error { time.Sleep(time.Millisecond); return nil }, room(4))()
		time.Sleep(2 * time.Second)
		if calls, _ := b.handled(); len(calls) != 2000 {
			t.Errorf("%d handled in 2 s by four that take a millisecond each", len(calls))
		}
	})
}

// What was taken ahead while there was nothing to send goes back when there is: others may send it,
// and what is more urgent comes before it.
func TestWhatIsTooMuchInHandGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1500)
		slow := atomic.Bool{}
		defer b.start(func(context.Context, eventlog.Delivery) error {
			if slow.Load() {
				time.Sleep(time.Second)
			} else {
				time.Sleep(time.Millisecond)
			}
			return nil
		}, room(8))()
		time.Sleep(105 * time.Millisecond) // between two takes
		inHand := func() (n int) {
			held, err := b.Core.Holders(t.Context(), group)
			if err != nil {
				t.Fatal(err)
			}
			for _, of := range held {
				n += of
			}
			return n
		}
		if n := inHand(); n < 40 {
			t.Fatalf("%d in hand of a reader whose handlers take a millisecond", n)
		}
		slow.Store(true)
		time.Sleep(1500 * time.Millisecond)
		if n := inHand(); n > 8+8 {
			t.Errorf("%d in hand of a reader whose eight handlers take a second", n)
		}
		slow.Store(false)
		time.Sleep(time.Minute)
		if calls, times := b.handled(); len(calls) != 1500 || len(times) != 1500 {
			t.Errorf("%d calls for %d events, want 1500", len(calls), len(times))
		}
	})
}

func TestUrgentGrantsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3)
		shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
		for i := range 3 {
			for range 3 {
				if _, err := b.Service.Reissue(t.Context(), shop, b.Parcel(t, fmt.Sprintf("P%03d", i)).ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		var inside atomic.Int64
		heard := map[handoff.GrantID][]uint64{}
		stop := b.start(func(_ context.Context, d eventlog.Delivery) error {
			b.mu.Lock()
			heard[d.Event.Grant] = append(heard[d.Event.Grant], d.Event.Issue)
			b.mu.Unlock()
			if inside.Add(1) > 3 {
				t.Error("two events of one grant at once")
			}
			time.Sleep(time.Second)
			inside.Add(-1)
			return nil
		}, room(8))
		time.Sleep(time.Minute)
		stop()
		for g, issues := range heard {
			if len(issues) != 4 || !slices.IsSorted(issues) {
				t.Errorf("%v: heard %v", g, issues)
			}
		}
		if len(heard) != 3 {
			t.Errorf("heard of %d grants", len(heard))
		}
	})
}

// Stopped, it gives back what it had in hand and did not begin.
func TestUrgentShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 400)
		slow := false
		stop := b.start(func(context.Context, eventlog.Delivery) error {
			b.mu.Lock()
			pause := map[bool]time.Duration{false: time.Millisecond, true: 3 * time.Second}[slow]
			b.mu.Unlock()
			time.Sleep(pause)
			return nil
		}, room(4))
		time.Sleep(45 * time.Millisecond) // it takes ahead by now
		b.mu.Lock()
		slow = true
		b.mu.Unlock()
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if calls, _ := b.handled(); len(calls) >= 400 {
			t.Fatalf("all of %d began", len(calls))
		}
		if held, err := b.Core.Holders(t.Context(), group); err != nil || len(held) != 0 {
			t.Errorf("in hand after the end: %v, %v", held, err)
		}
		defer b.start(fine, room(4))()
		time.Sleep(time.Minute)
		if calls, times := b.handled(); len(calls) != 400 || len(times) != 400 {
			t.Errorf("%d calls for %d events, want 400", len(calls), len(times))
		}
	})
}

// A log that was away, or began anew, is asked again, and all comes.
func TestUrgentLogIsDownForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5)
		down := 10 * time.Minute
		defer b.start(fine, room(4), func(c *Config) { c.Log = ailing{b.Core, time.Now().Add(down)} })()
		time.Sleep(down)
		if n := b.noted("failed"); n < 100 || n > 140 {
			t.Errorf("asked %d times in %v", n, down)
		}
		time.Sleep(6 * time.Second)
		if n := b.noted("delivered"); n != 5 {
			t.Errorf("%d delivered, want 5", n)
		}
		if n := b.noted("failed"); n > 140 {
			t.Errorf("observed %d", n)
		}
	})
}
