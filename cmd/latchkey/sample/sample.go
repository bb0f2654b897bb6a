// Package sample is one invented day of two carriers: the parcels that leave
// the warehouses of a shop that sells on five continents, and the couriers who
// drive them. A pickup point has a route of its own, and its clerk is that
// route's courier.
//
// The day is a file of dispatches, one JSON object a line (NDJSON), in the shape
// that POST /v1/dispatches/bulk takes. About a third of the parcels are worth
// more than 150 EUR, one in twelve is a return to be collected, and the few
// that go to a locker or a PO box are cheap and harmless, so that every line is
// accepted. Amounts stay clear of the threshold, below 120 EUR or from 180
// EUR up, so that rounding it in another currency moves no parcel across.
//
// day.ndjson is generated, by internal/gen from a fixed seed; a test holds the
// file to it. Its first line is the parcel of the documentation's examples, its last a
// return of the same customer; the house that both are at has doors ([TheBuilding]).
// Streets and postal codes are real, house numbers are drawn, customers are
// invented.
package sample

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"latchkey/handoff"
)

//go:generate go run ./internal/gen day.ndjson

// Date is the delivery_date on every line of the file.
const Date = "2026-11-24"

//go:embed day.ndjson
var day string

//go:embed couriers.json
var couriers []byte

// Courier is one entry of couriers.json. A courier may drive several routes of
// the one carrier.
type Courier struct {
	CarrierID string   `json:"carrier_id"`
	CourierID string   `json:"courier_id"`
	Name      string   `json:"name"`
	Routes    []string `json:"routes"`
}

// Route is a route of the day and the one courier who drives it. All its
// addresses are in Zone, so the route's date is the date there.
type Route struct {
	CarrierID string
	RouteID   string
	CourierID string
	Zone      *time.Location
}

// stop is what this package itself needs to know of a line.
type stop struct {
	CarrierID   string `json:"carrier_id"`
	RouteID     string `json:"route_id"`
	Destination struct {
		TimeZone string `json:"time_zone"`
	} `json:"destination"`
}

// Day returns the day's dispatches as NDJSON. The caller owns the bytes.
func Day() []byte { return []byte(day) }

// On returns the day with each delivery_date replaced by date(zone), where zone
// is that of the address, and every other byte as it was. It asks date, which
// answers as YYYY-MM-DD, once a zone, so that one zone has one date even while a
// clock ticks past midnight.
func On(date func(zone *time.Location) string) []byte {
	const field = `"delivery_date":"`
	dates := make(map[string]string)
	out := make([]byte, 0, len(day))
	for line := range strings.Lines(day) {
		zone := parse(line).Destination.TimeZone
		if _, ok := dates[zone]; !ok {
			dates[zone] = date(mustZone(zone))
		}
		before, after, ok := strings.Cut(line, field+Date)
		if !ok {
			panic("sample: a line of day.ndjson has another delivery_date")
		}
		out = append(out, before...)
		out = append(out, field...)
		out = append(out, dates[zone]...)
		out = append(out, after...)
	}
	return out
}

// Couriers returns the day's couriers, in the order of the file.
func Couriers() []Courier {
	dec := json.NewDecoder(bytes.NewReader(couriers))
	dec.DisallowUnknownFields()
	var all []Courier
	if err := dec.Decode(&all); err != nil {
		panic(fmt.Sprintf("sample: couriers.json: %v", err))
	}
	return all
}

// Routes returns the day's routes, in the order of their couriers.
func Routes() []Route {
	zones := make(map[[2]string]string)
	for line := range strings.Lines(day) {
		s := parse(line)
		zones[[2]string{s.CarrierID, s.RouteID}] = s.Destination.TimeZone
	}
	var routes []Route
	for _, c := range Couriers() {
		for _, id := range c.Routes {
			zone, ok := zones[[2]string{c.CarrierID, id}]
			if !ok {
				panic(fmt.Sprintf("sample: no parcel is on route %s of %s", id, c.CarrierID))
			}
			routes = append(routes, Route{c.CarrierID, id, c.CourierID, mustZone(zone)})
		}
	}
	return routes
}

// parse and mustZone panic: both files are part of the program, and a test reads
// every line of them.
func parse(line string) stop {
	var s stop
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		panic(fmt.Sprintf("sample: day.ndjson: %v", err))
	}
	return s
}

func mustZone(name string) *time.Location {
	zone, err := handoff.PlaceZone(name)
	if err != nil {
		panic(fmt.Sprintf("sample: day.ndjson: a time_zone %v", err))
	}
	return zone
}
