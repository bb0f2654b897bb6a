package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/counts"
)

// Figures reads how often things happened; see counts.Numbers.
type Figures interface {
	Figures(ctx context.Context, from, until time.Time) ([]counts.Figure, error)
}

// numberRoutes are the route to the duty officer's figures.
type numberRoutes struct {
	figures Figures
	clock   clock.Clock
}

func (a *numberRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "numbers", Method: http.MethodGet, Path: "/v1/ops/numbers",
		Summary: "How a day goes, by the hour", Tags: []string{"Operation"},
		Description: "What happened in each hour, in numbers: dispatched, mailed, handed_over, wrong_codes, locks, expired, attempted, taken_back, recalled, reissued, permits, openings, door_failures. " +
			"mail_age_s is how long the oldest mail in the queue had waited, at most. fails ranks why handoffs did not come about, and where. " +
			"What is an event is counted exactly once, a second or so after it; mails and refusals that leave no event are noted every second, and a crash loses what was not noted. Kept for forty days.",
	}, []auth.Scope{auth.Ops}, a.getNumbers)
}

type numbersInput struct {
	Day  string `query:"day" format:"date" doc:"The civil day; today if left out"`
	Zone string `query:"time_zone" example:"Europe/Berlin" doc:"Of which zone (IANA); UTC if left out"`
}

type numbersAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Day   string       `json:"day" format:"date"`
	Zone  string       `json:"time_zone"`
	Total NumberCounts `json:"total"`
	Hours []hourAnswer `json:"hours" doc:"The hours of the day that have begun, in order. In a zone that is no whole hours from UTC they begin within the hour"`
	Fails []failAnswer `json:"fails" doc:"The most frequent first"`
}

type hourAnswer struct {
	From time.Time `json:"from"`
	NumberCounts
}

// NumberCounts are the figures of an hour or of a day. The name is exported, since the
// documentation leaves out what is embedded under one that is not.
type NumberCounts struct {
	Dispatched   int64 `json:"dispatched"`
	Mailed       int64 `json:"mailed"`
	HandedOver   int64 `json:"handed_over"`
	WrongCodes   int64 `json:"wrong_codes"`
	Locks        int64 `json:"locks"`
	Expired      int64 `json:"expired"`
	Attempted    int64 `json:"attempted" doc:"Visits at which no one answered the door"`
	TakenBack    int64 `json:"taken_back"`
	Recalled     int64 `json:"recalled"`
	Reissued     int64 `json:"reissued"`
	Permits      int64 `json:"permits"`
	Openings     int64 `json:"openings"`
	DoorFailures int64 `json:"door_failures" doc:"Doors that failed, refused or did not answer"`
	MailAge      int64 `json:"mail_age_s" doc:"Seconds that the oldest mail in the queue had waited, at most"`
}

// of is where a figure is put; nil for one that is not shown.
func (c *NumberCounts) of(name string) *int64 {
	return map[string]*int64{
		"dispatched": &c.Dispatched, "mailed": &c.Mailed, "handed_over": &c.HandedOver, "wrong_codes": &c.WrongCodes, "locks": &c.Locks,
		"expired": &c.Expired, "attempted": &c.Attempted, "taken_back": &c.TakenBack, "recalled": &c.Recalled, "reissued": &c.Reissued,
		"permits": &c.Permits, "openings": &c.Openings, "door_failures": &c.DoorFailures, "mail_age": &c.MailAge,
	}[name]
}

func (c *NumberCounts) add(f counts.Figure) {
	switch n := c.of(f.Name); {
	case n == nil:
	case f.Peak:
		*n = max(*n, f.N)
	default:
		*n += f.N
	}
}

type failAnswer struct {
	Where   string `json:"where" example:"address" doc:"address, lobby, gate, garage or home; door where it is not known which"`
	Carrier string `json:"carrier_id,omitempty" doc:"Left out where it is not known"`
	Why     string `json:"why" example:"code-mismatch" doc:"The code of the refusal; or attempted, expired, door-failed, door-refused, door-silent"`
	Count   int64  `json:"count"`
}

type numbersOutput struct{ Body numbersAnswer }

func (a *numberRoutes) getNumbers(ctx context.Context, in *numbersInput) (*numbersOutput, error) {
	var bad violations
	zone, err := handoff.Zone(cmp.Or(in.Zone, "UTC"))
	if err != nil {
		bad, zone = append(bad, violation{Location: "query.time_zone", Message: "must be an IANA time zone, such as Europe/Berlin"}), time.UTC
	}
	now := a.clock.Now()
	day := handoff.DateOf(now.In(zone))
	if in.Day != "" {
		if day, err = handoff.ParseDate(in.Day); err != nil {
			bad = append(bad, violation{Location: "query.day", Message: handoff.ErrDate.Error()})
		}
	}
	window, err := handoff.DayWindow(day, zone)
	if err != nil && len(bad) == 0 {
		bad = append(bad, violation{Location: "query.day", Message: err.Error()})
	}
	if len(bad) > 0 {
		return nil, invalid(bad)
	}
	from, until := window.From.Time().Truncate(time.Hour), window.Until.Time().Truncate(time.Hour)
	figures, err := a.figures.Figures(ctx, from, until)
	if err != nil {
		return nil, err
	}
	answer := numbersAnswer{Day: day.String(), Zone: zone.String(), Hours: []hourAnswer{}, Fails: []failAnswer{}}
	at := map[handoff.Instant]int{}
	for hour := from; hour.Before(until) && !hour.After(now); hour = hour.Add(time.Hour) {
		at[handoff.InstantOf(hour)] = len(answer.Hours)
		answer.Hours = append(answer.Hours, hourAnswer{From: hour})
	}
	fails := map[string]int64{}
	for _, f := range figures {
		if name, ok := strings.CutPrefix(f.Name, "fails "); ok {
			fails[name] += f.N
			continue
		}
		if i, there := at[f.Hour]; there {
			answer.Hours[i].add(f)
			answer.Total.add(f)
		}
	}
	for name, n := range fails {
		if parts := strings.Fields(name); len(parts) == 3 {
			answer.Fails = append(answer.Fails, failAnswer{Where: parts[0], Carrier: strings.Trim(parts[1], "-"), Why: parts[2], Count: n})
		}
	}
	slices.SortFunc(answer.Fails, func(a, b failAnswer) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Why, b.Why), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Carrier, b.Carrier))
	})
	return &numbersOutput{Body: answer}, nil
}
