package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wall is the clock of the synctest bubble.
type wall struct{}

func (wall) Now() time.Time { return time.Now() }

const group = "test"

// bench is a log with events, and what a handler made of them.
type bench struct {
	*handofftest.World
	t *testing.T

	mu    sync.Mutex
	calls []call
	notes []string
}

type call struct {
	id eventlog.ID
	at time.Time
}

func newBench(t *testing.T, events int) *bench {
	memory := handofftest.NewMemory()
	b := &bench{World: handofftest.New(t, memory), t: t}
	memory.LiveBy(time.Now)
	for i := range events {
		b.Dispatch(t, handofftest.Sample(fmt.Sprintf("P%03d", i)))
	}
	return b
}

// handler notes each call before it runs f.
func (b *bench) handler(f Handler) Handler {
	return func(ctx context.Context, d eventlog.Delivery) error {
		b.mu.Lock()
		b.calls = append(b.calls, call{d.ID, time.Now()})
		b.mu.Unlock()
		return f(ctx, d)
	}
}

func (b *bench) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

func (b *bench) Delivered(handoff.EventType) { b.note("delivered") }

func (b *bench) Retried(_ handoff.EventType, r Reason) { b.note("retried %v", r) }

func (b *bench) Buried(_ handoff.EventType, r Reason) { b.note("buried %v", r) }

func (b *bench) LogFailed(op string, _ error) { b.note("failed %s", op) }

func (b *bench) noted(prefix string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.notes {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// handled are the calls so far, and how often each event was among them.
func (b *bench) handled() ([]call, map[eventlog.ID]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	times := map[eventlog.ID]int{}
	for _, c := range b.calls {
		times[c.id]++
	}
	return slices.Clone(b.calls), times
}

func (b *bench) start(f Handler, change ...func(*Config)) (stop func()) {
	b.t.Helper()
	c := Config{Log: b.Core, Group: group, Handle: b.handler(f), Clock: wall{}, Observer: b}
	for _, f := range change {
		f(&c)
	}
	r, err := NewReader(c)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	return func() { cancel(); <-ended }
}

func fine(context.Context, eventlog.Delivery) error { return nil }

func TestEachEventOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 50)
		stop := b.start(fine)
		time.Sleep(time.Second)
		b.Dispatch(t, handofftest.Sample("LATE"))
		time.Sleep(time.Second)
		stop()
		if calls, times := b.handled(); len(calls) != 51 || len(times) != 51 {
			t.Errorf("%d calls for %d events, want 51", len(calls), len(times))
		}
		if n := b.noted("delivered"); n != 51 {
			t.Errorf("observed %d, want 51", n)
		}
		left, err := b.Core.Backlog(t.Context(), group)
		if err != nil || left.Waiting != 0 {
			t.Errorf("%d wait, %v", left.Waiting, err)
		}
	})
}

func TestNewEventsAreSeenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.start(fine)()
		time.Sleep(time.Hour)
		before := time.Now()
		b.Dispatch(t, handofftest.Sample("LATE"))
		time.Sleep(time.Second)
		calls, _ := b.handled()
		if len(calls) != 1 || calls[0].at.Sub(before) > 200*time.Millisecond {
			t.Errorf("calls %v after %v", calls, before)
		}
	})
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 9)
		defer b.start(func(context.Context, eventlog.Delivery) error { time.Sleep(time.Second); return nil },
			func(c *Config) { c.Parallel = 3 })()
		began := time.Now()
		time.Sleep(time.Minute)
		calls, _ := b.handled()
		if len(calls) != 9 {
			t.Fatalf("%d calls", len(calls))
		}
		for i, c := range calls {
			if got, want := c.at.Sub(began), time.Duration(i/3)*time.Second; got != want {
				t.Errorf("call %d after %v, want %v", i, got, want)
			}
		}
	})
}

// Many handlers at once, and still the events of one grant come one by one, in order.
func TestGrantsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3)
		for i := range 3 {
			g := b.Parcel(t, fmt.Sprintf("P%03d", i))
			for range 3 {
				shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
				if _, err := b.Service.Reissue(t.Context(), shop, g.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		var mu sync.Mutex
		heard, inside := map[handoff.GrantID][]uint64{}, map[handoff.GrantID]int{}
		stop := b.start(func(_ context.Context, d eventlog.Delivery) error {
			mu.Lock()
			inside[d.Event.Grant]++
			if inside[d.Event.Grant] > 1 {
				t.Error("two events of one grant at once")
			}
			heard[d.Event.Grant] = append(heard[d.Event.Grant], d.Event.Issue)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			inside[d.Event.Grant]--
			mu.Unlock()
			return nil
		}, func(c *Config) { c.Parallel = 8; c.Batch = 2 })
		time.Sleep(time.Minute)
		stop()
		if len(heard) != 3 {
			t.Errorf("heard of %d grants, want 3", len(heard))
		}
		for g, issues := range heard {
			if len(issues) != 4 || !slices.IsSorted(issues) {
				t.Errorf("%v: heard %v", g, issues)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	for tries, most := range map[int]time.Duration{
		0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 9: 512 * time.Second,
		10: 15 * time.Minute, 20: 15 * time.Minute, 63: 15 * time.Minute, 1000: 15 * time.Minute,
	} {
		seen := map[time.Duration]bool{}
		for range 200 {
			d := backoff(tries)
			seen[d] = true
			if d < most/2 || d > most {
				t.Fatalf("backoff(%d) = %v, want %v to %v", tries, d, most/2, most)
			}
		}
		if len(seen) < 100 {
			t.Errorf("backoff(%d) hardly varies", tries)
		}
	}
}

// An event that fails is tried again, each time later, and buried when it has failed
// for a day. A replay starts it anew.
func TestADayOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		healed := false
		stop := b.start(func(context.Context, eventlog.Delivery) error {
			if healed {
				return nil
			}
			return Temporary(errors.New("secret@shop.example is over quota"), Reason{Class: "deferred", Detail: "452 4.2.2"})
		}, func(c *Config) { c.Poll = time.Second })
		defer func() { stop() }()
		time.Sleep(26 * time.Hour)

		calls, _ := b.handled()
		for i := 1; i < len(calls); i++ {
			most := min(time.Second<<min(i-1, 20), 15*time.Minute)
			if gap := calls[i].at.Sub(calls[i-1].at); gap < most/2 || gap > most+time.Second {
				t.Errorf("try %d came after %v, want %v to %v", i+1, gap, most/2, most)
			}
		}
		if last := calls[len(calls)-1].at.Sub(calls[0].at); last < 24*time.Hour || last > 24*time.Hour+16*time.Minute {
			t.Errorf("given up after %v", last)
		}
		if got, want := b.noted("retried deferred: 452 4.2.2"), len(calls)-1; got != want {
			t.Errorf("observed %d retries, want %d", got, want)
		}
		if b.noted("buried deferred: 452 4.2.2") != 1 {
			t.Error("no burial was observed")
		}
		dead, err := b.Core.Dead(t.Context(), group)
		if err != nil || len(dead) != 1 || dead[0].Error != "deferred: 452 4.2.2" {
			t.Fatalf("dead letters: %+v, %v", dead, err)
		}

		stop()
		healed = true
		stop = b.start(func(context.Context, eventlog.Delivery) error { return nil })
		if ok, err := b.Core.Replay(t.Context(), group, dead[0].ID); err != nil || !ok {
			t.Fatalf("Replay: %v, %v", ok, err)
		}
		time.Sleep(time.Second)
		if b.noted("delivered") != 1 {
			t.Error("the replayed letter was not delivered")
		}
	})
}

// An event that is too early comes again at its time, and nobody is alarmed.
func TestLaterIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		due := time.Now().Add(90 * time.Minute)
		stop := b.start(func(context.Context, eventlog.Delivery) error {
			if time.Now().Before(due) {
				return Later(due)
			}
			return nil
		})
		time.Sleep(3 * time.Hour)
		stop()
		calls, _ := b.handled()
		if len(calls) != 2 || calls[1].at.Before(due) || calls[1].at.After(due.Add(time.Second)) {
			t.Errorf("%v, want one at once and one at %v", calls, due)
		}
		if b.noted("retried") != 0 || b.noted("delivered") != 1 {
			t.Errorf("%v", b.notes)
		}
	})
}

func TestPermanentIsBuriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		defer b.start(func(context.Context, eventlog.Delivery) error {
			return fmt.Errorf("while mailing: %w", Permanent(errors.New("550 no secret@shop.example here"), Reason{Class: "rejected"}))
		})()
		time.Sleep(time.Second)
		dead, err := b.Core.Dead(t.Context(), group)
		if err != nil || len(dead) != 1 || dead[0].Error != "rejected" {
			t.Errorf("dead letters: %+v, %v", dead, err)
		}
	})
}

// Of an error that nobody vouched for nothing is kept but its class.
func TestReasonOf(t *testing.T) {
	secret := "550 5.1.1 <customer@shop.example> unknown"
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errors.New(secret), "other"},
		{fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), "timeout"},
		{fmt.Errorf("%s: %w", secret, context.Canceled), "interrupted"},
		{fmt.Errorf("%w: %s", storage.ErrUnavailable, secret), "store"},
		{fmt.Errorf("%w: %s", storage.ErrSealed, secret), "sealed"},
		{fmt.Errorf("%w: %s", storage.ErrFormat, secret), "format"},
		{Temporary(errors.New(secret), Reason{Class: "lost"}), "lost"},
		{fmt.Errorf("%s: %w", secret, Permanent(nil, Reason{"rejected", "550"})), "rejected: 550"},
	} {
		if got := ReasonOf(tc.err).String(); got != tc.want {
			t.Errorf("ReasonOf(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
	vouched := Temporary(errors.New(secret), Reason{Class: "lost", Detail: "at RCPT"})
	if text := fmt.Sprintf("%v %s %+v %q", vouched, vouched, vouched, vouched); strings.Contains(text, "customer") {
		t.Errorf("an error prints its cause: %s", text)
	}
}

func TestHandlerIsStoppedAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		var took []time.Duration
		stop := b.start(func(ctx context.Context, _ eventlog.Delivery) error {
			began := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(began))
			return ctx.Err()
		}, func(c *Config) { c.Timeout = 10 * time.Second })
		time.Sleep(15 * time.Second)
		stop()
		if len(took) == 0 || took[0] != 10*time.Second {
			t.Errorf("stopped after %v", took)
		}
		if b.noted("retried timeout") == 0 {
			t.Error("the event is not tried again")
		}
	})
}

// Behind slow handlers, events wait for minutes, and stay in the hand of the reader that lives.
func TestASlowReaderKeepsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 40)
		slow := func(context.Context, eventlog.Delivery) error { time.Sleep(9 * time.Second); return nil }
		settings := func(c *Config) {
			c.Timeout = 10 * time.Second
			c.Parallel = 2
			c.Batch = 40
		}
		stopOne, stopTwo := b.start(slow, settings), b.start(slow, settings)
		time.Sleep(10 * time.Minute)
		stopOne()
		stopTwo()
		if calls, times := b.handled(); len(calls) != 40 || len(times) != 40 {
			t.Errorf("%d calls for %d events, want 40", len(calls), len(times))
		}
	})
}

// What a reader has in hand is judged by no clock: neither the reader's own, nor the store's,
// may it jump ahead or back.
func TestClockJump(t *testing.T) {
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		for _, of := range []string{"the reader", "the store"} {
			t.Run(fmt.Sprint(of, jump), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, 1)
					clock := handofftest.NewClock(handofftest.Noon)
					if of == "the store" {
						b.Core.(*handofftest.Memory).LiveBy(clock.Now)
					}
					slow := func(context.Context, eventlog.Delivery) error { time.Sleep(20 * time.Second); return nil }
					stop := b.start(slow, func(c *Config) {
						if of == "the reader" {
							c.Clock = clock
						}
					})
					other := b.start(slow)
					time.Sleep(time.Second)
					clock.Step(jump)
					time.Sleep(time.Minute)
					stop()
					other()
					if calls, _ := b.handled(); len(calls) != 1 {
						t.Errorf("%d calls, want 1", len(calls))
					}
				})
			})
		}
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 20)
		stop := b.start(func(context.Context, eventlog.Delivery) error { time.Sleep(3 * time.Second); return nil },
			func(c *Config) { c.Parallel = 4 })
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("shutdown took %v, want the 2 s that the running handlers need", took)
		}
		if calls, _ := b.handled(); len(calls) != 4 {
			t.Fatalf("%d calls, want 4", len(calls))
		}

		// The others do not wait for a lease to end.
		defer b.start(fine)()
		time.Sleep(time.Second)
		if calls, times := b.handled(); len(calls) != 20 || len(times) != 20 {
			t.Errorf("%d calls for %d events, want 20", len(calls), len(times))
		}
	})
}

// What stands in line behind a running event of its grant is given back too.
func TestShutdownWithALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
		if _, err := b.Service.Reissue(t.Context(), shop, b.Parcel(t, "P000").ID); err != nil {
			t.Fatal(err)
		}
		stop := b.start(func(context.Context, eventlog.Delivery) error { time.Sleep(3 * time.Second); return nil })
		time.Sleep(time.Second)
		stop()
		if calls, _ := b.handled(); len(calls) != 1 {
			t.Fatalf("%d calls, want 1", len(calls))
		}
		defer b.start(fine)()
		time.Sleep(time.Second)
		if calls, times := b.handled(); len(calls) != 2 || len(times) != 2 {
			t.Errorf("%d calls for %d events, want 2", len(calls), len(times))
		}
	})
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		stop := b.start(func(ctx context.Context, _ eventlog.Delivery) error { <-ctx.Done(); return ctx.Err() },
			func(c *Config) { c.Timeout = time.Hour; c.Drain = 5 * time.Second })
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("shutdown took %v, want 5 s", took)
		}
		if b.noted("retried interrupted") != 1 {
			t.Error("the interrupted event is not tried again")
		}
	})
}

// ailing is a log that fails for a while.
type ailing struct {
	eventlog.Log
	until time.Time
}

func (a ailing) fails() error {
	if time.Now().Before(a.until) {
		return storage.ErrUnavailable
	}
	return nil
}

func (a ailing) Join(ctx context.Context, group string) error {
	return errors.Join(a.fails(), a.Log.Join(ctx, group))
}

func (a ailing) Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	if err := a.fails(); err != nil {
		return nil, err
	}
	return a.Log.Take(ctx, group, reader, limit)
}

func TestLogIsDownForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5)
		down := 10 * time.Minute
		defer b.start(fine, func(c *Config) { c.Log = ailing{b.Core, time.Now().Add(down)} })()
		time.Sleep(down)
		if n := b.noted("failed"); n < 100 || n > 140 {
			t.Errorf("asked %d times in %v", n, down)
		}
		time.Sleep(6 * time.Second)
		if n := b.noted("delivered"); n != 5 {
			t.Errorf("%d delivered, want 5", n)
		}
	})
}

// deafFor is a log that does not hear of endings for a while.
type deafFor struct {
	ailing
}

func (d deafFor) Done(ctx context.Context, group string, id eventlog.ID) error {
	if err := d.fails(); err != nil {
		return err
	}
	return d.Log.Done(ctx, group, id)
}

func (d deafFor) Join(ctx context.Context, group string) error { return d.Log.Join(ctx, group) }

func (d deafFor) Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	return d.Log.Take(ctx, group, reader, limit)
}

// What was passed on is acknowledged even if the log fails at that moment, and even if
// the reader is shut down meanwhile: otherwise it would be passed on twice.
func TestAcknowledgementIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 4)
		stop := b.start(fine, func(c *Config) { c.Log = deafFor{ailing{b.Core, time.Now().Add(5 * time.Second)}} })
		time.Sleep(time.Second)
		stop()
		if n := b.noted("delivered"); n != 4 {
			t.Errorf("%d delivered, want 4", n)
		}
		defer b.start(fine)()
		time.Sleep(time.Hour)
		if calls, _ := b.handled(); len(calls) != 4 {
			t.Errorf("%d calls, want 4", len(calls))
		}
	})
}

// An acknowledgement that does not get through for long is told on: what was passed on once must
// not be passed on by another reader.
func TestAcknowledgementIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		stop := b.start(fine, func(c *Config) { c.Log = deafFor{ailing{b.Core, time.Now().Add(time.Minute)}} })
		time.Sleep(time.Second)
		other := b.start(fine)
		time.Sleep(time.Hour)
		stop()
		other()
		if calls, _ := b.handled(); len(calls) != 1 {
			t.Errorf("calls %v, want one", calls)
		}
		if n := b.noted("failed Done"); n < 4 || n > 6 || b.noted("delivered") != 1 {
			t.Errorf("observed %q", b.notes)
		}
	})
}

func TestNewReaderRefuses(t *testing.T) {
	good := Config{Log: handofftest.NewMemory(), Group: group, Handle: fine, Clock: wall{}}
	for name, spoil := range map[string]func(*Config){
		"no log":     func(c *Config) { c.Log = nil },
		"no group":   func(c *Config) { c.Group = "" },
		"no handler": func(c *Config) { c.Handle = nil },
		"no clock":   func(c *Config) { c.Clock = nil },
		"negative":   func(c *Config) { c.Poll = -1 },
	} {
		c := good
		spoil(&c)
		if _, err := NewReader(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewReader(good); err != nil {
		t.Error(err)
	}
}
