package mail

import (
	"context"
	"sync"
	"time"
)

// limiter says how many connections to the mail server may be in use at once: from 1 to most.
//
// It measures by stages: how long the server takes for a letter while the limit is reached. Then it
// tries another limit, and keeps it only if it is better by what was sent in a time:
//
//   - more connections, if they send at least half as much more as they are more;
//   - fewer, if they send as much.
//
// A server that takes a second for each letter, whatever their number, gets as many as allowed;
// one that can do so many at once gets about as many. That a server became slower does not lower
// the limit by itself: the next try with fewer shows whether their number is why.
//
// What the server says counts at once: where it refuses one connection more, the limit is what it
// lets stand; where it says that it is busy, the limit falls by a quarter; where there is no server,
// to the half, and again, each second. A limit that was good before is reached again by doubling;
// beyond it, small steps are tried from time to time.
type limiter struct {
	most int

	mu      sync.Mutex
	limit   int
	used    int
	waiting []chan struct{} // who waits for a place, in turn

	good     int       // up to here the limit may double
	hold     time.Time // no try beyond it before
	lowered  time.Time // when the limit was last lowered for a word of the server
	answered bool      // a letter that was begun since then
	down     bool      // the next try is with fewer

	tried *measured // of the limit before the one that is tried; nil: none is
	stage
}

// stage is what was measured since the limit is what it is.
type stage struct {
	since       time.Time
	times, full int // letters; and those at whose end the limit was reached
	sum         time.Duration
}

// measured is how long a letter took at a limit.
type measured struct {
	limit int
	mean  time.Duration
}

// rate is letters in a second.
func (m measured) rate() float64 { return float64(m.limit) / max(m.mean, time.Microsecond).Seconds() }

const (
	firstLimit  = 4
	leastTimes  = 6                // letters of a stage; or twice the limit, if that is more
	holdFor     = 30 * time.Second // from what the server said, or a try with fewer, to the next try
	holdUp      = 10 * time.Second // from a try with more
	lowerEvery  = time.Second      // so that one word of the server to many counts once
	stageAtMost = 5 * time.Minute  // a stage that had too few letters begins anew
)

func newLimiter(most int) *limiter {
	first := min(firstLimit, most)
	return &limiter{most: most, limit: first, good: most, stage: stage{since: time.Now()}}
}

// now is how many may be in use, and how many are.
func (l *limiter) now() (limit, used int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit, l.used
}

// acquire waits for a place.
func (l *limiter) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.used < l.limit && len(l.waiting) == 0 {
		l.used++
		l.mu.Unlock()
		return nil
	}
	place := make(chan struct{})
	l.waiting = append(l.waiting, place)
	l.mu.Unlock()
	select {
	case <-place:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.waiting {
		if other == place {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	l.used-- // it was given a place at the same moment
	l.admit()
	return ctx.Err()
}

// release gives a place back.
func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	l.admit()
}

func (l *limiter) admit() {
	for l.used < l.limit && len(l.waiting) > 0 {
		l.used++
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
	}
}

// took says that the server answered a letter, which was begun at a time. It is called while the
// place is still taken.
func (l *limiter) took(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.answered = l.answered || !began.Before(l.lowered)
	if now.Sub(l.since) > stageAtMost {
		l.begin(l.limit, now)
	}
	if began.Before(l.since) {
		return
	}
	l.times++
	l.sum += now.Sub(began)
	if l.used >= l.limit {
		l.full++
	}
	if l.times < max(leastTimes, 2*l.limit) {
		return
	}
	m := measured{l.limit, l.sum / time.Duration(l.times)}
	busy := l.full*4 >= l.times
	switch before := l.tried; {
	case before == nil && busy:
		l.try(m, now)
	case before == nil:
		l.begin(l.limit, now)
	case !busy: // the letters ran out: nothing is known
		l.tried = nil
		l.begin(before.limit, now)
	case m.limit > before.limit:
		more := float64(m.limit)/float64(before.limit) - 1
		if m.rate() >= before.rate()*(1+more/2) {
			l.good = max(l.good, m.limit)
			l.try(m, now)
			return
		}
		l.good = before.limit
		l.goBack(now.Add(holdUp), more < 1) // after doubling, a small step is tried first
	default:
		if m.rate() >= before.rate()*0.95 {
			l.good = m.limit
			l.try(m, now)
			return
		}
		l.goBack(now.Add(holdFor), false)
	}
}

// goBack ends a try that was not better.
func (l *limiter) goBack(hold time.Time, down bool) {
	l.hold, l.down = hold, down
	limit := l.tried.limit
	l.tried = nil
	l.begin(limit, time.Now())
}

// try begins a stage with another limit, if it is time for one.
func (l *limiter) try(m measured, now time.Time) {
	l.tried = nil
	next := l.limit
	switch {
	case l.limit < l.good:
		next = min(2*l.limit, l.good)
	case now.Before(l.hold):
	case l.limit == l.most || l.down && l.limit > 1:
		if l.hold.IsZero() { // it came here by doubling
			l.hold = now.Add(holdFor)
			break
		}
		next = l.limit - max(1, l.limit/4)
	default:
		next = min(l.limit+max(1, l.limit/4), l.most)
	}
	if next = max(1, next); next != l.limit {
		l.tried = &m
	}
	l.begin(next, now)
}

// begin begins a stage.
func (l *limiter) begin(limit int, now time.Time) {
	l.limit, l.stage = limit, stage{since: now}
	l.admit()
}

// busy says that the server asked for less.
func (l *limiter) busy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.lowered) < lowerEvery {
		return
	}
	limit, good := max(1, l.limit-max(1, l.limit/4)), l.good
	if l.answered { // else it was lowered for the same reason, and says nothing of the number
		good = limit
	}
	l.to(limit, good)
}

// refused says that the server refused a connection, while it lets so many stand. Where it lets
// none, that says nothing of the number.
func (l *limiter) refused(standing int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case standing == 0 && time.Since(l.lowered) >= lowerEvery:
		l.to(max(1, l.limit/2), l.good)
	case standing > 0 && standing < l.limit:
		l.to(standing, standing)
	}
}

func (l *limiter) to(limit, good int) {
	now := time.Now()
	l.good, l.tried, l.lowered, l.answered, l.down = good, nil, now, false, false
	l.hold = now.Add(holdFor)
	l.begin(limit, now)
}
