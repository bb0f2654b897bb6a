package demo

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestClockTicksAndMovesForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2026, 11, 24, 10, 0, 0, 0, time.FixedZone("", 3600))
		c := NewClock(start)
		if now := c.Now(); !now.Equal(start) || now.Location() != time.UTC {
			t.Fatalf("Now = %v, want %v in UTC", now, start)
		}
		time.Sleep(90 * time.Second)
		if got := c.Now().Sub(start); got != 90*time.Second {
			t.Errorf("90 s later the clock went on by %v", got)
		}

		end := time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC)
		if now, err := c.Forward(end); err != nil || !now.Equal(end) {
			t.Fatalf("Forward = %v, %v, want %v", now, err, end)
		}
		time.Sleep(time.Second)
		if got := c.Now().Sub(end); got != time.Second {
			t.Errorf("1 s after the jump the clock went on by %v", got)
		}
		if _, err := c.Forward(c.Now()); err != nil {
			t.Errorf("Forward(Now) = %v, want no error", err)
		}
	})
}

func TestClockNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
		c := NewClock(start)
		time.Sleep(time.Minute)
		now, err := c.Forward(start.Add(time.Minute - 1))
		if !errors.Is(err, ErrPast) || !now.Equal(start.Add(time.Minute)) {
			t.Errorf("Forward = %v, %v, want the time it is and ErrPast", now, err)
		}
		if now := c.Now(); !now.Equal(start.Add(time.Minute)) {
			t.Errorf("a refused move left the clock at %v", now)
		}
	})
}

// A clock that is set from time.Now must not drag the machine's monotonic reading along:
// comparing two such times would ignore what the demonstration's clock shows.
func TestClockDropsTheMonotonicReading(t *testing.T) {
	c := NewClock(time.Now())
	if now := c.Now(); now != now.Round(0) {
		t.Errorf("Now carries a monotonic reading: %v", now)
	}
}
