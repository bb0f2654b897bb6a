package message

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// calendar is how a language writes days and times. Its texts see a moment.
type calendar struct {
	Weekdays [7]string  `yaml:"weekdays"` // Sunday first
	Months   [12]string `yaml:"months"`
	Day      text       `yaml:"day"`        // without the year
	Date     text       `yaml:"date"`       // with the year
	Time     text       `yaml:"time"`       // 24 hours
	When     text       `yaml:"when"`       // date and time
	EndOfDay text       `yaml:"end_of_day"` // what follows "until" when a whole day ends
	// Cities names zones whose city the language spells in its own way.
	Cities map[string]string `yaml:"cities"`
}

// moment is the material of a calendar's texts.
type moment struct {
	Weekday, Month        string
	DayOfMonth, Year      int
	Clock                 string // 15:04
	Day, Date, Time, When string // rendered, for the texts further down
}

// words fills in the days and times that v tells.
func (c *calendar) words(p *pen, v View) words {
	w := words{Zone: c.zone(v)}
	if !v.ValidUntil.IsZero() {
		last := lastInstant(v)
		d := c.moment(p, last)
		w.Day, w.Date = d.Day, d.Date
		if end := v.ValidUntil.In(v.Zone); sameDay(end, last) {
			w.Until = c.moment(p, end).When
		} else {
			w.Until = p.write(c.EndOfDay, d)
		}
	}
	if !v.At.IsZero() {
		at := c.moment(p, v.At.In(v.Zone))
		w.AtDate, w.AtTime, w.At = at.Date, at.Time, at.When
	}
	return w
}

func (c *calendar) moment(p *pen, t time.Time) moment {
	m := moment{
		Weekday: c.Weekdays[t.Weekday()], Month: c.Months[t.Month()-1],
		DayOfMonth: t.Day(), Year: t.Year(),
		Clock: t.Format("15:04"),
	}
	m.Day = p.write(c.Day, m)
	m.Date = p.write(c.Date, m)
	m.Time = p.write(c.Time, m)
	m.When = p.write(c.When, m)
	return m
}

// zone names the address's zone by its city, or by its abbreviation when the
// zone has none.
func (c *calendar) zone(v View) string {
	id := v.Zone.String()
	if city, ok := c.Cities[id]; ok {
		return city
	}
	if area, city := path.Split(id); area != "" && area != "Etc/" {
		return strings.ReplaceAll(city, "_", " ")
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

func (c *calendar) check() error {
	for i, name := range slices.Concat(c.Weekdays[:], c.Months[:]) {
		if name == "" {
			return fmt.Errorf("calendar: name %d of weekdays and months is missing", i+1)
		}
	}
	return nil
}
