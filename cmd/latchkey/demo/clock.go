package demo

import (
	"errors"
	"sync"
	"time"
)

// Clock is the demonstration's time: it starts where it is told, ticks like any clock,
// and can be moved forward, to see a day end without waiting for it.
type Clock struct {
	mu   sync.Mutex
	at   time.Time // what the clock showed
	when time.Time // and when it did, by the machine's monotonic clock

	moving func(by time.Duration) // may be nil
}

// ErrPast says that a clock was told to go back.
var ErrPast = errors.New("the clock only moves forward")

// NewClock starts a clock at start.
func NewClock(start time.Time) *Clock {
	c := new(Clock)
	c.set(start)
	return c
}

// Now is the clock's time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

// Forward moves the clock to t, from where it ticks on, and returns its time. A t that
// is already over is refused with ErrPast, and the clock stays as it was.
func (c *Clock) Forward(t time.Time) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); t.Before(now) {
		return now, ErrPast
	}
	t = earlier(t, lastDay)
	if c.moving != nil {
		c.moving(t.Sub(c.now()))
	}
	c.set(t)
	return c.now(), nil
}

// Moving has f called with how far the clock is moved, before it is. It must not ask the clock.
func (c *Clock) Moving(f func(by time.Duration)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moving = f
}

// lastDay keeps the clock's years within four digits, for as long as anybody looks at it.
var lastDay = time.Date(9000, time.January, 1, 0, 0, 0, 0, time.UTC)

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (c *Clock) now() time.Time { return c.at.Add(time.Since(c.when)) }

func (c *Clock) set(t time.Time) {
	// UTC drops the monotonic reading too, by which times of the machine would be compared
	// and not those of this clock.
	c.at, c.when = t.UTC(), time.Now()
}
