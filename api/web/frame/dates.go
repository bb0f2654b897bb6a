package frame

import (
	"fmt"
	"html/template"
	"strconv"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/words"
)

// At says when something happened, in a zone: "today, 14:02".
func (v *Visit) At(t time.Time, zone string) (template.HTML, error) { return v.element(t, zone, "at") }

// Until says when something ends, in a zone: "tonight, 24:00". The instant is the first
// that is no longer part of it, and midnight the end of a day.
func (v *Visit) Until(t time.Time, zone string) (template.HTML, error) {
	return v.element(t, zone, "until")
}

// Day says which civil day an instant is on: "today", "Tuesday, 24 November".
func (v *Visit) Day(t time.Time, zone string) (template.HTML, error) {
	return v.element(t, zone, "day")
}

// element is a <time>. Where the zone is that of a place, it says so to a browser in another
// zone; where it is UTC, such a browser rewrites it into its own (both times.js). What is a day
// at the address stays one.
func (v *Visit) element(t time.Time, zone, as string) (template.HTML, error) {
	loc, err := handoff.Zone(zone)
	if err != nil {
		loc = time.UTC
	}
	local := t.In(loc)
	text, err := v.when(local, as)
	if err != nil {
		return "", err
	}
	_, offset := local.Zone()
	rewrite := ""
	if as != "day" {
		rewrite = fmt.Sprintf(` data-as="%s" data-offset="%d"`, as, offset/60)
		if city := words.City(v.Lang, loc.String()); city != "" {
			place, err := v.Say("when.place", "city", city)
			if err != nil {
				return "", err
			}
			rewrite += ` data-place="` + string(place) + `"`
		}
	}
	return template.HTML(`<time datetime="` + t.UTC().Format(time.RFC3339) + `"` + rewrite + `>` + string(text) + `</time>`), nil
}

// when puts a local time into words.
func (v *Visit) when(t time.Time, as string) (template.HTML, error) {
	hour, day := t.Format("15:04"), handoff.DateOf(t)
	if as == "until" && hour == "00:00" {
		hour, day = "24:00", handoff.DateOf(t.Add(-time.Minute))
	}
	today := handoff.DateOf(v.Now.In(t.Location()))
	key := "when.date"
	switch {
	case day == today && as == "until" && hour >= "18:00":
		key = "when.tonight"
	case day == today:
		key = "when.today"
	case day == today.Next():
		key = "when.tomorrow"
	case day.Next() == today:
		key = "when.yesterday"
	}
	var said template.HTML
	var err error
	if key == "when.date" {
		said, err = v.date(day, today)
	} else {
		said, err = v.Say(key)
	}
	if err != nil || as == "day" {
		return said, err
	}
	return v.Say("when.with_time", "day", said, "time", hour)
}

func (v *Visit) date(day, today handoff.Date) (template.HTML, error) {
	weekday := time.Date(day.Year, day.Month, day.Day, 0, 0, 0, 0, time.UTC).Weekday()
	key, values := "when.date", []any{"day", strconv.Itoa(day.Day)}
	if day.Year != today.Year {
		key, values = "when.date_of_year", append(values, "year", strconv.Itoa(day.Year))
	}
	for name, word := range map[string]string{
		"weekday": "when.weekdays." + strconv.Itoa(int(weekday)), "month": "when.months." + strconv.Itoa(int(day.Month)),
	} {
		said, err := v.Say(word)
		if err != nil {
			return "", err
		}
		values = append(values, name, said)
	}
	return v.Say(key, values...)
}
