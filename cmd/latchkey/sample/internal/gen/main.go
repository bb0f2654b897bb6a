// Gen writes the sample day to the file named by its argument. It draws from a
// fixed seed, so it writes the same bytes each time. After a change here run
// `go generate` in the folder above.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: gen FILE")
	}
	if err := os.WriteFile(os.Args[1], day(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// example is the first line: the dispatch that the documentation shows, but for its ids,
// so that the documentation's own can be sent beside it.
const example = `{"parcel_id":"JJD000390001187","order_id":"302-1234567","carrier_id":"swift","route_id":"BER-042",` +
	`"delivery_date":"2026-11-24","purpose":"delivery","value":{"amount":"1299.00","currency":"EUR"},"categories":["electronics"],` +
	`"customer":{"id":"cus_101","name":"Sample Customer 101","email":"sample.customer.101@shop.example","locale":"de"},` +
	`"destination":{"kind":"residence","lines":["Turmstr. 5"],"postal_code":"10559","city":"Berlin","country":"DE",` +
	`"time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"building_id":"bld_turm5","unit":"4 links"}}`

// exampleReturn is the last line: what the same customer sends back, on the same route.
const exampleReturn = `{"parcel_id":"JJD000390001194","order_id":"298-7654321","carrier_id":"swift","route_id":"BER-042",` +
	`"delivery_date":"2026-11-24","purpose":"return_pickup","value":{"amount":"59.90","currency":"EUR"},"categories":["clothing"],` +
	`"customer":{"id":"cus_101","name":"Sample Customer 101","email":"sample.customer.101@shop.example","locale":"de"},` +
	`"destination":{"kind":"residence","lines":["Turmstr. 5"],"postal_code":"10559","city":"Berlin","country":"DE",` +
	`"time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"building_id":"bld_turm5","unit":"4 links"}}`

const (
	exampleCustomer = 101 // the others are numbered on from it
	date            = "2026-11-24"
)

type dispatch struct {
	ParcelID     string      `json:"parcel_id"`
	OrderID      string      `json:"order_id"`
	CarrierID    string      `json:"carrier_id"`
	RouteID      string      `json:"route_id"`
	DeliveryDate string      `json:"delivery_date"`
	Purpose      string      `json:"purpose"`
	Value        value       `json:"value"`
	Categories   []string    `json:"categories"`
	Customer     customer    `json:"customer"`
	Destination  destination `json:"destination"`
}

type value struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

type customer struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Email  string `json:"email"`
	Locale string `json:"locale"`
}

type destination struct {
	Kind       string   `json:"kind"`
	Lines      []string `json:"lines"`
	PostalCode string   `json:"postal_code"`
	City       string   `json:"city"`
	Country    string   `json:"country"`
	TimeZone   string   `json:"time_zone"`
	Location   location `json:"location"`
	BuildingID string   `json:"building_id,omitempty"`
	Unit       string   `json:"unit,omitempty"`
}

type location struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

// address is a house: the same line is always the same point.
type address struct {
	line       string
	location   location
	buildingID string
}

// day draws the whole file.
func day() []byte {
	// This seed is one whose day has a bit of everything; the mix is tested.
	g := &gen{
		Rand:      rand.New(rand.NewPCG(2026, 738)),
		customers: exampleCustomer,
		buildings: map[*district][]address{moabit: {turm5}},
		taken:     map[string]bool{"JJD000390001187": true, "JJD000390001194": true, turm5.line: true},
	}
	var out bytes.Buffer
	out.WriteString(example + "\n")
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, r := range rounds {
		for _, d := range g.round(r) {
			if err := enc.Encode(d); err != nil {
				panic(err) // strings and finite numbers: cannot fail
			}
		}
	}
	out.WriteString(exampleReturn + "\n")
	return out.Bytes()
}

type gen struct {
	*rand.Rand
	customers int                     // number of the last customer
	buildings map[*district][]address // houses with doors in the registry
	taken     map[string]bool         // parcel ids and address lines in use
}

func (g *gen) percent(p int) bool { return g.IntN(100) < p }

func pick[T any](g *gen, from ...T) T { return from[g.IntN(len(from))] }

// round draws the parcels of one route, household by household.
func (g *gen) round(r round) []dispatch {
	parcels := 15 + g.IntN(8)
	if r.routeID == lordHowe {
		parcels = 2
	}
	for len(g.buildings[r.ground]) < 2 {
		a := g.address(r.ground)
		a.buildingID = fmt.Sprintf("bld_%s_%d", strings.ToLower(r.routeID), len(g.buildings[r.ground])+1)
		g.buildings[r.ground] = append(g.buildings[r.ground], a)
	}
	shop := g.address(r.ground)

	var all []dispatch
	for len(all) < parcels {
		c, home := g.household(r.ground)
		orders := 1
		if g.percent(12) {
			orders = 2 + g.IntN(2)
		}
		for range min(orders, parcels-len(all)) {
			all = append(all, g.parcel(r, c, home, shop))
		}
	}
	return all
}

func (g *gen) household(d *district) (customer, destination) {
	g.customers++
	c := customer{
		ID:     fmt.Sprintf("cus_%d", g.customers),
		Name:   fmt.Sprintf("Sample Customer %03d", g.customers),
		Email:  fmt.Sprintf("sample.customer.%03d@shop.example", g.customers),
		Locale: pick(g, d.locales...),
	}
	kind, unit := "residence", ""
	house := g.address(d)
	switch {
	case g.percent(15):
		kind = "business"
	case g.percent(30):
		house = pick(g, g.buildings[d]...)
		unit = fmt.Sprintf(d.unit, 1+g.IntN(6), 1+g.IntN(4))
	case g.percent(25):
		unit = fmt.Sprintf(d.unit, 1+g.IntN(3), 1+g.IntN(2))
	}
	return c, d.at(kind, house, unit, house.line)
}

func (d *district) at(kind string, a address, unit string, lines ...string) destination {
	return destination{kind, lines, d.postalCode, d.city, d.country, d.zone, a.location, a.buildingID, unit}
}

// address draws a house of the district that no one has drawn yet.
func (g *gen) address(d *district) address {
	for {
		n := d.houses[0] + g.IntN(d.houses[1]-d.houses[0]+1)
		line := fmt.Sprintf(d.line, pick(g, d.streets...), n)
		if g.taken[line] {
			continue
		}
		g.taken[line] = true
		return address{line: line, location: location{g.near(d.lat, d.spread), g.near(d.lon, d.spread)}}
	}
}

// near moves a coordinate by up to spread steps of 1e-5 degrees. It counts in
// whole steps, so that every machine prints the same digits.
func (g *gen) near(degrees float64, spread int) float64 {
	steps := int(math.Round(degrees*1e5)) + g.IntN(2*spread+1) - spread
	return float64(steps) / 1e5
}

func (g *gen) parcel(r round, c customer, home destination, shop address) dispatch {
	p := dispatch{
		ParcelID:     g.parcelID(r),
		OrderID:      fmt.Sprintf("%03d-%07d", 300+g.IntN(20), g.IntN(1e7)),
		CarrierID:    r.carrierID,
		RouteID:      r.routeID,
		DeliveryDate: date,
		Purpose:      "delivery",
		Customer:     c,
		Destination:  home,
	}
	// Between 119 and 180 EUR there is no price, so that a threshold of 150 EUR
	// can be rounded in other currencies.
	valuable := g.percent(36)
	if valuable {
		p.Value = g.price(r.ground, 180+g.IntN(40)*g.IntN(60))
		p.Categories = []string{pick(g, "electronics", "electronics", "electronics", "jewellery", "jewellery", "tools", "clothing", "medicine")}
	} else {
		p.Value = g.price(r.ground, 5+g.IntN(114))
		p.Categories = g.categories("books", "books", "clothing", "clothing", "toys", "groceries", "tools", "electronics", "medicine")
	}
	switch n := g.IntN(100); {
	case r.pickup:
		p.Destination = r.ground.at("pickup_point", shop, "", "Parcel shop "+r.routeID, shop.line)
	case n < 9:
		p.Purpose = "return_pickup"
	case n < 13 && !valuable:
		// No customer is at a locker to say a code, so no parcel that needs one goes there.
		p.Value = g.price(r.ground, 5+g.IntN(40))
		p.Categories = g.categories("books", "clothing", "toys", "groceries")
		if n < 11 {
			p.Destination = r.ground.at("locker", shop, "", fmt.Sprintf("Locker %d", 100+g.IntN(100)), shop.line)
		} else {
			p.Destination = r.ground.at("po_box", shop, "", fmt.Sprintf(r.ground.poBox, 100+g.IntN(900)))
		}
	}
	return p
}

// categories draws one category, and now and then another.
func (g *gen) categories(from ...string) []string {
	first, second := pick(g, from...), pick(g, from...)
	if first == second || !g.percent(15) {
		return []string{first}
	}
	return []string{first, second}
}

// price turns an amount of EUR into a price of about as much in the district.
func (g *gen) price(d *district, eur int) value {
	c := perEUR[d.currency]
	units := eur * c.hundred / 100
	if !c.minor {
		return value{strconv.Itoa(units / 10 * 10), d.currency}
	}
	return value{fmt.Sprintf("%d.%s", units, pick(g, "00", "49", "90", "95", "99")), d.currency}
}

// s10Check is the check digit of a serial number of UPU S10.
func s10Check(serial int) int {
	sum := 0
	for _, weight := range []int{7, 9, 5, 3, 2, 4, 6, 8} { // from the right
		sum += weight * (serial % 10)
		serial /= 10
	}
	switch check := 11 - sum%11; check {
	case 10:
		return 0
	case 11:
		return 5
	default:
		return check
	}
}

// parcelID draws an unused id in one of the carrier's formats.
func (g *gen) parcelID(r round) string {
	for {
		var id string
		switch {
		case r.carrierID == "swift" && g.percent(70):
			id = fmt.Sprintf("JJD0003900%05d", g.IntN(1e5))
		case r.carrierID == "swift":
			serial := g.IntN(1e9) / 10
			id = fmt.Sprintf("RR%08d%d%s", serial, s10Check(serial), r.ground.country)
		case g.percent(60):
			id = fmt.Sprintf("1Z%06XA%09d", g.IntN(1<<24), g.IntN(1e9))
		case g.percent(60):
			id = fmt.Sprintf("RVL-%s.%06d", r.routeID[:3], g.IntN(1e6))
		default:
			id = fmt.Sprintf("rv_%08x", g.Uint32())
		}
		if !g.taken[id] {
			g.taken[id] = true
			return id
		}
	}
}
