package notify

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/storage"
)

// wire is a reader's way to the log, which can be cut.
type wire struct {
	eventlog.Log
	cut atomic.Bool
}

func (w *wire) err() error {
	if w.cut.Load() {
		return storage.ErrUnavailable
	}
	return nil
}

func (w *wire) Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	if err := w.err(); err != nil {
		return nil, err
	}
	return w.Log.Take(ctx, group, reader, limit)
}

func (w *wire) Done(ctx context.Context, group string, id eventlog.ID) error {
	if err := w.err(); err != nil {
		return err
	}
	return w.Log.Done(ctx, group, id)
}

func (w *wire) Release(ctx context.Context, group string, d eventlog.Delivery) error {
	if err := w.err(); err != nil {
		return err
	}
	return w.Log.Release(ctx, group, d)
}

func (w *wire) Retry(ctx context.Context, group string, f eventlog.Failure, after time.Duration) error {
	if err := w.err(); err != nil {
		return err
	}
	return w.Log.Retry(ctx, group, f, after)
}

func (w *wire) Beat(ctx context.Context, reader string, first bool) (map[string]int64, error) {
	if err := w.err(); err != nil {
		return nil, err
	}
	return w.Log.Beat(ctx, reader, first)
}

func (w *wire) Forget(ctx context.Context, reader string, beat int64) (bool, error) {
	if err := w.err(); err != nil {
		return false, err
	}
	return w.Log.Forget(ctx, reader, beat)
}

func (w *wire) Holders(ctx context.Context, group string) (map[string]int, error) {
	if err := w.err(); err != nil {
		return nil, err
	}
	return w.Log.Holders(ctx, group)
}

func (w *wire) Free(ctx context.Context, group, reader string) (int, error) {
	if err := w.err(); err != nil {
		return 0, err
	}
	return w.Log.Free(ctx, group, reader)
}

// by is a reader over a wire.
func by(w *wire) func(*Config) { return func(c *Config) { c.Log = w } }

// asleep is a handler of a process that was killed: it does nothing any more, and says nothing.
func asleep(context.Context, eventlog.Delivery) error {
	time.Sleep(time.Hour)
	return nil
}

// A reader is killed at any moment of its beat, with events in hand. Another that lives has them
// within 15 s.
func TestADeadReadersEventsAreTakenOver(t *testing.T) {
	for moment := range 8 {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 20)
			dead, w := &wire{Log: b.Core}, &wire{Log: b.Core}
			stop := b.start(asleep, by(dead), func(c *Config) { c.Drain = time.Nanosecond })
			time.Sleep(3*time.Second + time.Duration(moment)*250*time.Millisecond)
			other := b.start(fine, by(w))
			time.Sleep(5 * time.Second)
			before, _ := b.handled()
			dead.cut.Store(true)
			died := time.Now()
			time.Sleep(15 * time.Second)
			calls, _ := b.handled()
			if len(calls) != len(before)+20 || len(before) != 4 {
				t.Errorf("killed %v after a beat: %d were begun before, and %d by the other within 15 s", time.Duration(moment)*250*time.Millisecond, len(before), len(calls)-len(before))
			}
			if n := len(calls); n > 0 {
				t.Logf("the last one after %v", calls[n-1].at.Sub(died))
			}
			other()
			dead.cut.Store(false)
			stop()
		})
	}
}

// The log is away for all of them, for much longer than it takes to be found dead: nobody is, and
// what was passed on just before is not passed on again.
func TestAnOutageKillsNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 20)
		one, two := &wire{Log: b.Core}, &wire{Log: b.Core}
		var once sync.Once
		passing := func(context.Context, eventlog.Delivery) error {
			time.Sleep(time.Second)
			once.Do(func() { // before it can be noted
				one.cut.Store(true)
				two.cut.Store(true)
			})
			return nil
		}
		stopOne, stopTwo := b.start(passing, by(one)), b.start(passing, by(two))
		time.Sleep(5 * time.Minute)
		one.cut.Store(false)
		time.Sleep(7 * time.Second) // one is back before the other
		two.cut.Store(false)
		time.Sleep(time.Minute)
		stopOne()
		stopTwo()
		calls, times := b.handled()
		if len(times) != 20 {
			t.Fatalf("%d of 20 were passed on", len(times))
		}
		for id, n := range times {
			if n != 1 {
				t.Errorf("%v was passed on %d times, of %d calls", id, n, len(calls))
			}
		}
	})
}

// A reader that alone has no way to the log is stopped before another takes over, and learns it
// when its way is back.
func TestACutReaderStopsBeforeAnotherBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 8)
		cut, w := &wire{Log: b.Core}, &wire{Log: b.Core}
		var stopped atomic.Int64 // the last time
		slow := func(ctx context.Context, _ eventlog.Delivery) error {
			<-ctx.Done()
			stopped.Store(time.Now().UnixNano())
			return ctx.Err()
		}
		stop := b.start(slow, by(cut), func(c *Config) { c.Timeout = time.Hour })
		time.Sleep(10 * time.Second)
		cut.cut.Store(true)
		other := b.start(fine, by(w))
		time.Sleep(time.Minute)
		calls, _ := b.handled()
		if len(calls) != 4+8 {
			t.Fatalf("%d calls, want four of one and eight of the other", len(calls))
		}
		if first := calls[4].at; !first.After(time.Unix(0, stopped.Load()).Add(time.Second)) {
			t.Errorf("one stopped at %v, and the other began at %v", time.Unix(0, stopped.Load()), first)
		}
		cut.cut.Store(false)
		b.Dispatch(t, handofftest.Sample("LATER"))
		time.Sleep(10 * time.Second)
		stop()
		other()
		calls, _ = b.handled()
		if n := len(calls); n != 4+8+1 {
			t.Errorf("%d calls, want one more: what is not in hand any more is not begun", n)
		}
	})
}

// A handler that takes very long is its reader's alone while that lives, and at a shutdown all
// that is left is others' at once.
func TestASlowRelayLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 12)
		slow := func(context.Context, eventlog.Delivery) error { time.Sleep(5 * time.Minute); return nil }
		long := func(c *Config) { c.Timeout = 10 * time.Minute }
		one, two := b.start(slow, long), b.start(slow, long)
		time.Sleep(time.Hour)
		one()
		two()
		if calls, times := b.handled(); len(calls) != 12 || len(times) != 12 {
			t.Errorf("%d calls for %d events, want 12", len(calls), len(times))
		}
	})
}

// What an answer that was lost put in its hand, a reader that has nothing else gives back.
func TestWhatNoAnswerToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3)
		stop := b.start(fine, func(c *Config) { c.Log = &unheard{Log: b.Core} })
		time.Sleep(15 * time.Second)
		stop()
		if calls, _ := b.handled(); len(calls) != 3 {
			t.Errorf("%d calls, want 3", len(calls))
		}
	})
}

// unheard is a log of which the first Take that brings something has no answer.
type unheard struct {
	eventlog.Log
	lost bool
}

func (u *unheard) Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	taken, err := u.Log.Take(ctx, group, reader, limit)
	if len(taken) > 0 && !u.lost {
		u.lost = true
		return nil, fmt.Errorf("%w: no answer", storage.ErrUnavailable)
	}
	return taken, err
}
