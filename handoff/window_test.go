package handoff_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	. "latchkey/handoff"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := Zone(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return z
}

func date(t testing.TB, text string) Date {
	t.Helper()
	d, err := ParseDate(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func TestDayWindow(t *testing.T) {
	for _, c := range []struct{ zone, day, from, until string }{
		{"UTC", "2026-11-24", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
		{"Europe/Berlin", "2026-11-24", "2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z"},
		{"Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"}, // 23 hours
		{"Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}, // 25 hours
		{"America/New_York", "2026-03-08", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"},
		{"America/New_York", "2026-11-01", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},

		// Clocks jump from 24:00 to 01:00: the next day has no midnight.
		{"America/Santiago", "2026-09-05", "2026-09-05T04:00:00Z", "2026-09-06T04:00:00Z"},
		{"America/Santiago", "2026-09-06", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"},
		{"Africa/Cairo", "2026-04-23", "2026-04-22T22:00:00Z", "2026-04-23T22:00:00Z"},
		{"Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"},
		{"Asia/Beirut", "2026-03-28", "2026-03-27T22:00:00Z", "2026-03-28T22:00:00Z"},
		{"Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"},

		// Clocks fall back from 24:00 to 23:00: the day ends with the second hour.
		{"America/Santiago", "2026-04-04", "2026-04-04T03:00:00Z", "2026-04-05T04:00:00Z"},
		{"Africa/Cairo", "2026-10-29", "2026-10-28T21:00:00Z", "2026-10-29T22:00:00Z"},
		{"Asia/Beirut", "2026-10-24", "2026-10-23T21:00:00Z", "2026-10-24T22:00:00Z"},

		// Clocks fell back from 00:01 to 23:01: the next day began a minute before.
		{"America/St_Johns", "2010-11-06", "2010-11-06T02:30:00Z", "2010-11-07T02:30:00Z"},
		{"America/St_Johns", "2010-11-07", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},

		{"Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z"}, // 23.5 hours
		{"Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"}, // 24.5 hours

		// Samoa went straight from the 29th to the 31st.
		{"Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
	} {
		w, err := DayWindow(date(t, c.day), zone(t, c.zone))
		if err != nil {
			t.Errorf("%s on %s: %v", c.zone, c.day, err)
			continue
		}
		from, until := w.From.Time().Format(time.RFC3339), w.Until.Time().Format(time.RFC3339)
		if from != c.from || until != c.until {
			t.Errorf("%s on %s: %s to %s, want %s to %s", c.zone, c.day, from, until, c.from, c.until)
		}
	}
}

func TestADayThatNeverWas(t *testing.T) {
	for z, day := range map[string]string{"Pacific/Apia": "2011-12-30", "Pacific/Kwajalein": "1993-08-21"} {
		if w, err := DayWindow(date(t, day), zone(t, z)); !errors.Is(err, ErrNoSuchDay) {
			t.Errorf("%s on %s: %+v, %v", z, day, w, err)
		}
	}
}

func TestAWindowIsHalfOpen(t *testing.T) {
	w, err := DayWindow(date(t, "2026-11-24"), zone(t, "Europe/Berlin"))
	if err != nil {
		t.Fatal(err)
	}
	from, until, tick := w.From.Time(), w.Until.Time(), time.Nanosecond
	for _, c := range []struct {
		at                    time.Time
		begun, over, contains bool
	}{
		{from.Add(-tick), false, false, false},
		{from, true, false, true},
		{until.Add(-tick), true, false, true},
		{until, true, true, false},
	} {
		if w.Begun(c.at) != c.begun || w.Over(c.at) != c.over || w.Contains(c.at) != c.contains {
			t.Errorf("%v: begun %v, over %v, contains %v", c.at, w.Begun(c.at), w.Over(c.at), w.Contains(c.at))
		}
	}
}

func TestZone(t *testing.T) {
	for _, name := range []string{"", "Local", "Mars/Olympus", "Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "Europe", "CEST", "+01:00", "Europe/Berlin "} {
		if z, err := Zone(name); !errors.Is(err, ErrZone) {
			t.Errorf("%q: %v, %v", name, z, err)
		}
	}
	a, b := zone(t, "Europe/Berlin"), zone(t, "Europe/Berlin")
	if a != b {
		t.Error("a zone is loaded twice")
	}
}

func TestParseDate(t *testing.T) {
	for _, good := range []string{"2026-11-24", "2024-02-29", "0001-01-01", "9999-12-31"} {
		if d := date(t, good); d.String() != good {
			t.Errorf("%s: %v", good, d)
		}
	}
	for _, bad := range []string{"", "2026-11-31", "2023-02-29", "2026-1-1", "2026-11-24T00:00:00Z", "24.11.2026", "0000-01-01", " 2026-11-24", "2026-13-01", "-2026-11-24"} {
		if d, err := ParseDate(bad); !errors.Is(err, ErrDate) {
			t.Errorf("%q: %v, %v", bad, d, err)
		}
	}
	if d := date(t, "2024-02-28").Next(); d != date(t, "2024-02-29") || d.Next() != date(t, "2024-03-01") || !d.Next().After(d) || d.After(d) || d.After(d.Next()) {
		t.Errorf("around a leap day: %v", d)
	}
}

// The days of a zone tile its time: none overlaps the next, none leaves a gap, and each
// shows its own date, but where a stretch of it is repeated.
func TestDaysTileTime(t *testing.T) {
	names := ZoneNames()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "zone")
		z, err := Zone(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		day := DateOf(time.Date(1970, 1, 1+rapid.IntRange(0, 24837).Draw(t, "day"), 0, 0, 0, 0, time.UTC))
		var before Window
		for range 400 { // more than a year: both of its changes
			w, err := DayWindow(day, z)
			if errors.Is(err, ErrNoSuchDay) {
				day = day.Next()
				continue
			}
			if err != nil || w.From >= w.Until || w.Until-w.From > 27*3600 {
				t.Fatalf("%s on %s: %+v, %v", name, day, w, err)
			}
			if before != (Window{}) && before.Until != w.From {
				t.Fatalf("%s on %s begins at %v, and the day before ends at %v", name, day, w.From, before.Until)
			}
			if first := DateOf(w.From.Time().In(z)); first != day {
				t.Fatalf("%s on %s begins on %s", name, day, first)
			}
			if last := DateOf(w.From.Time().Add(-time.Second).In(z)); !day.After(last) {
				t.Fatalf("%s on %s: the second before is already of %s", name, day, last)
			}
			at := w.From + Instant(rapid.Int64Range(0, int64(w.Until-w.From)-1).Draw(t, "second"))
			if shown := DateOf(at.Time().In(z)); shown != day && !repeated(at, z) {
				t.Fatalf("%s on %s shows %s at %v", name, day, shown, at.Time())
			}
			before, day = w, day.Next()
		}
	})
}

// The last day of a leap year ends, in every zone: package time says of some that their
// winter ended on the day before.
func TestTheEndOfALeapYear(t *testing.T) {
	for _, name := range ZoneNames() {
		z := zone(t, name)
		for _, year := range []int{2024, 2027, 2028, 2032, 2096, 2100} {
			for day := (Date{Year: year, Month: time.December, Day: 29}); day.Year == year || day.Day < 4; day = day.Next() {
				w, err := DayWindow(day, z)
				if err != nil || w.Until-w.From != 24*3600 || DateOf(w.From.Time().In(z)) != day || DateOf((w.From-1).Time().In(z)) == day {
					t.Errorf("%s on %s: %v to %v, %v", name, day, w.From.Time(), w.Until.Time(), err)
				}
			}
		}
	}
}

// repeated reports whether clocks were set back within the last day, so that an hour
// that was already of the next day is of this one again.
func repeated(at Instant, z *time.Location) bool {
	_, now := at.Time().In(z).Zone()
	_, before := at.Time().Add(-24 * time.Hour).In(z).Zone()
	return now < before
}
