package message

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/handoff/words"
)

// needCalendar adds the keys of the calendar. Each of its sentences may have those before it.
func needCalendar(all map[string]need) {
	all["calendar.weekdays"] = need{list: true, many: 7} // Sunday first
	all["calendar.months"] = need{list: true, many: 12}
	may := []string{"weekday", "month", "day_of_month", "year", "clock"}
	for _, name := range []string{"day", "date", "time", "when"} {
		all["calendar."+name] = need{may: slices.Clone(may)}
		may = append(may, name)
	}
	all["calendar.end_of_day"] = need{may: may} // what follows "until" when a whole day ends
}

// moment is a day and an hour in words.
type moment struct{ Day, Date, Time, When string }

// when returns the days and times that v tells.
func (c *catalogue) when(p *pen, v View) values {
	w := values{"zone": c.zone(v), "day": "", "date": "", "until": "", "at": "", "at_date": "", "at_time": "", "handed": "", "decide_by": ""}
	for name, t := range map[string]time.Time{"handed": v.HandedAt, "decide_by": v.DecideBy} {
		if !t.IsZero() {
			said, _ := c.moment(p, t.In(v.Zone))
			w[name] = said.When
		}
	}
	if !v.ValidUntil.IsZero() {
		last := lastInstant(v)
		d, written := c.moment(p, last)
		w["day"], w["date"] = d.Day, d.Date
		if end := v.ValidUntil.In(v.Zone); sameDay(end, last) {
			ends, _ := c.moment(p, end)
			w["until"] = ends.When
		} else {
			w["until"] = p.write("calendar.end_of_day", written)
		}
	}
	if !v.At.IsZero() {
		at, _ := c.moment(p, v.At.In(v.Zone))
		w["at_date"], w["at_time"], w["at"] = at.Date, at.Time, at.When
	}
	return w
}

// moment puts a local time into words. It returns them also as values, with their parts.
func (c *catalogue) moment(p *pen, t time.Time) (moment, values) {
	v := values{
		"weekday":      p.write("calendar.weekdays."+strconv.Itoa(int(t.Weekday())), nil),
		"month":        p.write("calendar.months."+strconv.Itoa(int(t.Month())-1), nil),
		"day_of_month": strconv.Itoa(t.Day()), "year": strconv.Itoa(t.Year()), "clock": t.Format("15:04"),
	}
	for _, name := range []string{"day", "date", "time", "when"} {
		v[name] = p.write("calendar."+name, v)
	}
	return moment{v["day"], v["date"], v["time"], v["when"]}, v
}

// zone names the address's zone by its city, or by its abbreviation when the
// zone has none.
func (c *catalogue) zone(v View) string {
	if city := words.City(c.said.Language(), v.Zone.String()); city != "" {
		return city
	}
	at := v.ValidUntil
	if at.IsZero() {
		at = v.At
	}
	abbr, _ := at.In(v.Zone).Zone()
	if strings.HasPrefix(abbr, "+") || strings.HasPrefix(abbr, "-") {
		return "UTC" + abbr
	}
	return abbr
}

// lastInstant is the end of the window seen from inside it. The window's own
// end belongs to the next day, at an hour that need not be midnight: in
// America/Santiago the day after 2026-09-05 begins at 01:00.
func lastInstant(v View) time.Time { return v.ValidUntil.Add(-time.Nanosecond).In(v.Zone) }

// ofOneDay reports whether the window begins and ends on the same civil day.
func ofOneDay(v View) bool {
	return !v.ValidFrom.IsZero() && sameDay(v.ValidFrom.In(v.Zone), lastInstant(v))
}

func sameDay(a, b time.Time) bool {
	ay, am, ad := a.Date()
	by, bm, bd := b.Date()
	return ay == by && am == bm && ad == bd
}
