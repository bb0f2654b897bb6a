package handoff

import (
	"errors"
	"fmt"
	"time"
)

// Instant is a moment in whole seconds since the Unix epoch. Zero is "never".
type Instant int64

// InstantOf truncates t to its second.
func InstantOf(t time.Time) Instant { return Instant(t.Unix()) }

// Time is the instant in UTC.
func (i Instant) Time() time.Time { return time.Unix(int64(i), 0).UTC() }

// Date is a civil day, of no zone in particular.
type Date struct {
	_     struct{} `cbor:",toarray"`
	Year  int
	Month time.Month
	Day   int
}

// ErrDate says that a text is not a calendar date of the form 2026-11-24 (RFC 3339 full-date).
var ErrDate = errors.New("must be a calendar date such as 2026-11-24")

// ParseDate reads an RFC 3339 full-date. The error is ErrDate.
func ParseDate(text string) (Date, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || t.Year() < 1 {
		return Date{}, ErrDate
	}
	return DateOf(t), nil
}

// DateOf is the civil day that t shows in its own location.
func DateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{Year: y, Month: m, Day: d}
}

// String is the date as RFC 3339 writes it.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// Next is the day after d on the calendar.
func (d Date) Next() Date { return DateOf(d.utc().AddDate(0, 0, 1)) }

// After reports whether d comes later on the calendar than other.
func (d Date) After(other Date) bool { return d.utc().After(other.utc()) }

func (d Date) utc() time.Time { return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC) }

// Window is the half-open stretch of time [From, Until) in which a grant's rights hold.
type Window struct {
	_     struct{} `cbor:",toarray"`
	From  Instant
	Until Instant
}

// Begun reports whether now is at or after the window's start.
func (w Window) Begun(now time.Time) bool { return !now.Before(w.From.Time()) }

// Over reports whether now is at or after the window's end.
func (w Window) Over(now time.Time) bool { return !now.Before(w.Until.Time()) }

// Contains reports whether now is inside the window.
func (w Window) Contains(now time.Time) bool { return w.Begun(now) && !w.Over(now) }

// ErrNoSuchDay says that a zone skipped a whole civil day, as Samoa did with
// 2011-12-30 when it crossed the date line.
var ErrNoSuchDay = errors.New("is a day that did not exist at the address")

// DayWindow is the civil day at a place in zone: from its first instant to the first
// instant of the day after. That instant is not always local midnight, and a day is
// not always 24 hours.
func DayWindow(day Date, zone *time.Location) (Window, error) {
	w := Window{From: InstantOf(firstInstant(day, zone)), Until: InstantOf(firstInstant(day.Next(), zone))}
	if w.From >= w.Until {
		return Window{}, ErrNoSuchDay
	}
	return w, nil
}

// firstInstant is the earliest moment whose civil date in zone is day or later.
//
// Building midnight with time.Date does not do: where clocks jump over midnight it
// may answer with 23:00 of the day before. So walk the stretches of constant offset
// around the day; in each, the date reaches day at UTC midnight minus the offset.
func firstInstant(day Date, zone *time.Location) time.Time {
	midnight := day.utc()
	// No zone is, or ever was, more than 26 hours from UTC.
	for t := midnight.Add(-26 * time.Hour).In(zone); ; {
		_, offset := t.Zone()
		start, end := t.ZoneBounds()
		if !end.IsZero() && !end.After(t) {
			// Where a rule and not a table says when clocks change, package time takes every
			// year for 365 days long: on the last day of a leap year the stretch has ended.
			end = end.Add(24 * time.Hour)
		}
		reached := midnight.Add(-time.Duration(offset) * time.Second)
		if !start.IsZero() && reached.Before(start) {
			reached = start
		}
		if end.IsZero() || reached.Before(end) {
			return reached.UTC()
		}
		t = end
	}
}
