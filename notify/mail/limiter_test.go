package mail

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// relay is a mail server as the limiter sees it.
type relay struct {
	mu      sync.Mutex
	at      int                        // letters at once
	latency func(at int) time.Duration // of a letter, by how many there are at once
	sent    atomic.Int64
	most    atomic.Int64 // letters at once
}

func (r *relay) set(f func(at int) time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latency = f
}

// send is one letter.
func (r *relay) send(ctx context.Context, l *limiter) {
	if l.acquire(ctx) != nil {
		return
	}
	defer l.release()
	began := time.Now()
	r.mu.Lock()
	r.at++
	took := r.latency(r.at)
	r.most.Store(max(r.most.Load(), int64(r.at)))
	r.mu.Unlock()
	time.Sleep(took)
	r.mu.Lock()
	r.at--
	r.mu.Unlock()
	r.sent.Add(1)
	l.took(began)
}

// busily sends with as many senders as there are at most, until the test ends.
func busily(t *testing.T, l *limiter, r *relay) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range l.most {
		all.Go(func() {
			for ctx.Err() == nil {
				r.send(ctx, l)
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait() })
}

func flat(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

// able is a server that does so many at once, each in a time; of more it makes a queue.
func able(most int, d time.Duration) func(int) time.Duration {
	return func(at int) time.Duration { return d * time.Duration(max(at, most)) / time.Duration(most) }
}

func limitOf(l *limiter) int {
	limit, _ := l.now()
	return limit
}

// average is the mean limit in a time.
func average(l *limiter, over time.Duration) float64 {
	sum := 0
	for range 100 {
		time.Sleep(over / 100)
		sum += limitOf(l)
	}
	return float64(sum) / 100
}

// Where every letter takes a second whatever their number, all connections are soon in use, and
// stay so but for a try with fewer now and then.
func TestASlowServerGetsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLimiter(32), &relay{latency: flat(time.Second)}
		if got := limitOf(l); got != firstLimit {
			t.Errorf("it begins with %d", got)
		}
		busily(t, l, r)
		time.Sleep(15 * time.Second)
		if got := limitOf(l); got != 32 {
			t.Errorf("after 15 s it is %d, want 32", got)
		}
		before := r.sent.Load()
		time.Sleep(10 * time.Minute)
		if got := r.sent.Load() - before; got < 600*32*95/100 {
			t.Errorf("%d letters in ten minutes, want nearly %d", got, 600*32)
		}
	})
}

// A server that does eight at once gets about eight, and does them as quickly as it can.
func TestAServerOfEight(t *testing.T) {
	for _, d := range []time.Duration{5 * time.Millisecond, time.Second} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, r := newLimiter(32), &relay{latency: able(8, d)}
				busily(t, l, r)
				time.Sleep(3 * time.Minute)
				before := r.sent.Load()
				if got := average(l, 10*time.Minute); got < 7 || got > 12 {
					t.Errorf("the limit is %.1f on average, want about 8", got)
				}
				if got, best := r.sent.Load()-before, int64(8*10*time.Minute/d); got < best*9/10 {
					t.Errorf("%d letters in ten minutes, of %d that it could", got, best)
				}
			})
		})
	}
}

// A server that becomes slow by itself loses none of its connections; one that comes to bear fewer
// does, and gets them back.
func TestAServerThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLimiter(16), &relay{latency: flat(20 * time.Millisecond)}
		busily(t, l, r)
		time.Sleep(time.Minute)
		r.set(flat(time.Second))
		for range 120 {
			time.Sleep(time.Second)
			if got := limitOf(l); got < 12 { // one try with a quarter less
				t.Fatalf("the limit fell to %d for no reason", got)
			}
		}
		r.set(able(3, time.Second))
		time.Sleep(10 * time.Minute)
		if got := average(l, 5*time.Minute); got > 6 {
			t.Errorf("a server of three has %.1f", got)
		}
		r.set(flat(time.Second))
		time.Sleep(10 * time.Minute)
		if got := average(l, 5*time.Minute); got < 12 {
			t.Errorf("a server that bears sixteen again has %.1f", got)
		}
	})
}

// Without letters that wait nothing is learned, and the limit stays.
func TestFewLettersRaiseNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLimiter(32), &relay{latency: flat(100 * time.Millisecond)}
		for range 2000 {
			r.send(t.Context(), l)
			time.Sleep(50 * time.Millisecond)
		}
		if got := limitOf(l); got != firstLimit {
			t.Errorf("the limit is %d", got)
		}
	})
}

// What the server says counts at once; what was good before comes back soon, and more only later.
func TestWhatTheServerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLimiter(32), &relay{latency: flat(50 * time.Millisecond)}
		busily(t, l, r)
		is := func(what string, want int) {
			t.Helper()
			if got := limitOf(l); got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		time.Sleep(10 * time.Second)
		is("at first", 32)
		l.refused(10)
		is("it lets ten stand", 10)
		l.refused(12)
		is("it lets more stand than there may be", 10)
		time.Sleep(29 * time.Second)
		is("half a minute later", 10)
		time.Sleep(time.Minute)
		if got := limitOf(l); got <= 10 {
			t.Errorf("after the half minute: %d", got)
		}
		time.Sleep(time.Minute)
		is("it refuses none any more", 32)

		time.Sleep(time.Second)
		l.busy()
		l.busy() // others heard the same
		is("it is busy", 24)
		time.Sleep(500 * time.Millisecond)
		l.busy()
		is("half a second later", 24)

		// No server: to one, and back to what was good.
		r.set(flat(time.Hour))
		for range 8 {
			time.Sleep(time.Second)
			l.refused(0)
		}
		is("no server", 1)
	})
}

func TestAServerThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(32)
		r := &relay{latency: flat(50 * time.Millisecond)}
		ctx, cancel := context.WithCancel(t.Context())
		var away atomic.Bool
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for ctx.Err() == nil {
					if !away.Load() {
						r.send(ctx, l)
						continue
					}
					if l.acquire(ctx) == nil {
						time.Sleep(time.Millisecond)
						l.refused(0)
						l.release()
					}
				}
			})
		}
		defer func() { cancel(); all.Wait() }()
		time.Sleep(20 * time.Second)
		away.Store(true)
		time.Sleep(10 * time.Minute)
		if got := limitOf(l); got != 1 {
			t.Errorf("without a server the limit is %d", got)
		}
		away.Store(false)
		time.Sleep(10 * time.Second)
		if got := limitOf(l); got != 32 {
			t.Errorf("ten seconds after it came back: %d, and 32 were good", got)
		}
	})
}

// Who gives up waiting takes no place with it, and no more are in use than may be.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2)
		var all sync.WaitGroup
		var at, most, got atomic.Int64
		for i := range 200 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Millisecond)
				defer cancel()
				if l.acquire(ctx) != nil {
					return
				}
				got.Add(1)
				most.Store(max(most.Load(), at.Add(1)))
				time.Sleep(time.Millisecond)
				at.Add(-1)
				l.release()
			})
		}
		all.Wait()
		if limit, used := l.now(); limit != 2 || used != 0 || len(l.waiting) != 0 {
			t.Errorf("limit %d, %d in use, %d wait", limit, used, len(l.waiting))
		}
		if most.Load() != 2 || got.Load() < 6 {
			t.Errorf("%d at once, %d in all", most.Load(), got.Load())
		}
	})
}
