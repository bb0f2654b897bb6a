package ops

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey/api/web/frame"
	"latchkey/handoff"
)

// counts are the figures of an hour, or of a day.
type counts map[string]any

func (c counts) of(name string) int64 {
	n, _ := c[name].(float64)
	return int64(n)
}

// plot is one figure over the hours of a day, as bars.
type plot struct {
	Name  string
	Total int64
	Most  int64 // of an hour
	Bars  []bar
	Width int // of the drawing, in its own units
	Ticks []tick
	Bad   bool // each one is a nuisance
}

type bar struct {
	Hour         string // as 14:00
	N            int64
	X, Y, Height int
	Now          bool
}

type tick struct {
	X      int
	Hour   string
	Anchor string // of the text, by which the outermost stay within the drawing
}

const (
	plotHeight = 80
	barStep    = 12
)

// plotted are the figures in the order of the page.
var plotted = []struct {
	name string
	bad  bool
}{
	{"dispatched", false},
	{"mailed", false},
	{"handed_over", false},
	{"wrong_codes", true},
	{"locks", true},
	{"expired", true},
	{"mail_age_s", true},
	{"door_failures", true},
}

// board is what the page of the figures shows.
type board struct {
	Page   string
	Day    string
	Zone   string
	Chosen bool // the visitor chose the zone
	Wrong  bool
	Before string
	After  string // empty: this is today
	Plots  []plot
	Hours  []string
	Fails  []fail
	Height int
	Now    time.Time
}

type fail struct {
	Where   string `json:"where"`
	Carrier string `json:"carrier_id"`
	Why     string `json:"why"`
	Count   int64  `json:"count"`
	Share   int    // of the most frequent, in percent
}

func numbers(v *frame.Visit) {
	q := v.R.URL.Query()
	b := board{Page: "numbers", Day: q.Get("day"), Zone: strings.TrimSpace(q.Get("zone")), Height: plotHeight, Now: v.Now}
	b.Chosen = b.Zone != ""
	zone, err := handoff.Zone(cmp.Or(b.Zone, "UTC"))
	if err != nil {
		zone, b.Wrong = time.UTC, true
	}
	today := handoff.DateOf(v.Now.In(zone))
	day, err := handoff.ParseDate(b.Day)
	if err != nil {
		day, b.Wrong = today, b.Wrong || b.Day != ""
	}
	b.Day, b.Zone = day.String(), zone.String()
	noon := time.Date(day.Year, day.Month, day.Day, 12, 0, 0, 0, time.UTC)
	b.Before = handoff.DateOf(noon.AddDate(0, 0, -1)).String()
	if today.After(day) {
		b.After = day.Next().String()
	}
	var answer struct {
		Total counts   `json:"total"`
		Hours []counts `json:"hours"`
		Fails []fail   `json:"fails"`
	}
	if !v.Read("/v1/ops/numbers?"+url.Values{"day": {b.Day}, "time_zone": {b.Zone}}.Encode(), &answer) {
		return
	}
	for _, h := range answer.Hours {
		from, _ := h["from"].(string)
		at, err := time.Parse(time.RFC3339, from)
		if err != nil {
			v.Broken(err)
			return
		}
		b.Hours = append(b.Hours, at.In(zone).Format("15:04"))
	}
	for _, figure := range plotted {
		b.Plots = append(b.Plots, draw(figure.name, figure.bad, answer.Total, answer.Hours, b.Hours, today == day))
	}
	b.Fails = answer.Fails[:min(len(answer.Fails), 20)]
	for i := range b.Fails {
		b.Fails[i].Share = int(100 * b.Fails[i].Count / max(1, b.Fails[0].Count))
	}
	v.Render(http.StatusOK, "numbers", b)
}

func draw(name string, bad bool, total counts, hours []counts, labels []string, today bool) plot {
	p := plot{Name: name, Bad: bad, Total: total.of(name), Width: barStep * max(24, len(hours))}
	for _, h := range hours {
		p.Most = max(p.Most, h.of(name))
	}
	for i, h := range hours {
		n := h.of(name)
		height := 0
		if n > 0 {
			height = max(2, int(n*plotHeight/p.Most))
		}
		p.Bars = append(p.Bars, bar{labels[i], n, i*barStep + 1, plotHeight - height, height, today && i == len(hours)-1})
	}
	for hour := 0; hour <= 24; hour += 6 {
		p.Ticks = append(p.Ticks, tick{hour * barStep, time.Date(2000, 1, 1, hour%24, 0, 0, 0, time.UTC).Format("15"), "middle"})
	}
	first, last := &p.Ticks[0], &p.Ticks[len(p.Ticks)-1]
	first.Anchor, last.Anchor, last.Hour = "start", "end", "24"
	return p
}
