package sample_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/cmd/latchkey/sample"
)

// A dispatch as the API takes it, written down apart from the generator's type.
type dispatch struct {
	ParcelID     string `json:"parcel_id"`
	OrderID      string `json:"order_id"`
	CarrierID    string `json:"carrier_id"`
	RouteID      string `json:"route_id"`
	DeliveryDate string `json:"delivery_date"`
	Purpose      string `json:"purpose"`
	Value        struct {
		Amount   string `json:"amount"`
		Currency string `json:"currency"`
	} `json:"value"`
	Categories []string `json:"categories"`
	Customer   struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Email  string `json:"email"`
		Locale string `json:"locale"`
	} `json:"customer"`
	Destination struct {
		Kind       string   `json:"kind"`
		Lines      []string `json:"lines"`
		PostalCode string   `json:"postal_code"`
		City       string   `json:"city"`
		Country    string   `json:"country"`
		TimeZone   string   `json:"time_zone"`
		Location   struct {
			Lat float64 `json:"lat"`
			Lon float64 `json:"lon"`
		} `json:"location"`
		BuildingID string `json:"building_id"`
		Unit       string `json:"unit"`
	} `json:"destination"`
}

// threshold is 150 EUR as a shop would round it, in each currency of the day.
var threshold = map[string]float64{
	"EUR": 150, "USD": 160, "GBP": 130, "AUD": 250, "BRL": 900, "JPY": 25_000, "CLP": 150_000,
}

// worth is the parcel's value as a multiple of its currency's threshold.
func (d dispatch) worth(t *testing.T) float64 {
	t.Helper()
	amount, err := strconv.ParseFloat(d.Value.Amount, 64)
	if err != nil || amount <= 0 {
		t.Errorf("%s: amount %q", d.ParcelID, d.Value.Amount)
	}
	limit, ok := threshold[d.Value.Currency]
	if !ok {
		t.Errorf("%s: currency %q", d.ParcelID, d.Value.Currency)
	}
	return amount / limit
}

func parse(t *testing.T, ndjson []byte) []dispatch {
	t.Helper()
	var all []dispatch
	for line := range bytes.Lines(ndjson) {
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		var d dispatch
		if err := dec.Decode(&d); err != nil {
			t.Fatalf("line %d: %v", len(all)+1, err)
		}
		if dec.InputOffset() != int64(len(line)-1) || line[len(line)-1] != '\n' {
			t.Fatalf("line %d is not one object and a line feed", len(all)+1)
		}
		all = append(all, d)
	}
	return all
}

func TestEveryLineCanBeDispatched(t *testing.T) {
	var (
		id      = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
		amount  = regexp.MustCompile(`^[1-9][0-9]*(\.[0-9]{2})?$`)
		code    = regexp.MustCompile(`^[A-Z]{2}$`)
		locale  = regexp.MustCompile(`^[a-z]{2}(-[A-Z]{2})?$`)
		parcels = make(map[[2]string]bool)
		people  = make(map[string]any)
		houses  = make(map[any]string)
		points  = make(map[string]any)
	)
	for _, d := range parse(t, sample.Day()) {
		for field, v := range map[string]string{
			"parcel_id": d.ParcelID, "order_id": d.OrderID, "carrier_id": d.CarrierID,
			"route_id": d.RouteID, "customer.id": d.Customer.ID,
		} {
			if !id.MatchString(v) {
				t.Errorf("%s: %s %q", d.ParcelID, field, v)
			}
		}
		if b := d.Destination.BuildingID; b != "" && !id.MatchString(b) {
			t.Errorf("%s: building_id %q", d.ParcelID, b)
		}
		if parcels[[2]string{d.CarrierID, d.ParcelID}] {
			t.Errorf("%s of %s is there twice", d.ParcelID, d.CarrierID)
		}
		parcels[[2]string{d.CarrierID, d.ParcelID}] = true

		if d.DeliveryDate != sample.Date {
			t.Errorf("%s: delivery_date %q", d.ParcelID, d.DeliveryDate)
		}
		if !slices.Contains([]string{"delivery", "return_pickup"}, d.Purpose) {
			t.Errorf("%s: purpose %q", d.ParcelID, d.Purpose)
		}
		if !amount.MatchString(d.Value.Amount) {
			t.Errorf("%s: amount %q", d.ParcelID, d.Value.Amount)
		}
		if len(d.Categories) == 0 || slices.Contains(d.Categories, "") {
			t.Errorf("%s: categories %q", d.ParcelID, d.Categories)
		}

		number := strings.TrimPrefix(d.Customer.ID, "cus_")
		number = strings.Repeat("0", max(0, 3-len(number))) + number
		if d.Customer.Name != "Sample Customer "+number || d.Customer.Email != "sample.customer."+number+"@shop.example" {
			t.Errorf("%s: customer %+v", d.ParcelID, d.Customer)
		}
		if !locale.MatchString(d.Customer.Locale) {
			t.Errorf("%s: locale %q", d.ParcelID, d.Customer.Locale)
		}
		if first, ok := people[d.Customer.ID]; ok && first != any(d.Customer) {
			t.Errorf("%s: customer %+v was %+v", d.ParcelID, d.Customer, first)
		}
		people[d.Customer.ID] = d.Customer

		to := d.Destination
		switch to.Kind {
		case "residence", "business":
		case "pickup_point":
			if d.Purpose != "delivery" {
				t.Errorf("%s: %s at a %s", d.ParcelID, d.Purpose, to.Kind)
			}
		case "locker", "po_box":
			harmless := !slices.ContainsFunc(d.Categories, func(c string) bool {
				return !slices.Contains([]string{"books", "clothing", "toys", "groceries"}, c)
			})
			if d.Purpose != "delivery" || d.worth(t) > 0.5 || !harmless {
				t.Errorf("%s: nobody at a %s can take %s of %v %v", d.ParcelID, to.Kind, d.Purpose, d.Categories, d.Value)
			}
		default:
			t.Errorf("%s: kind %q", d.ParcelID, to.Kind)
		}
		if len(to.Lines) == 0 || slices.Contains(to.Lines, "") || to.PostalCode == "" || to.City == "" || !code.MatchString(to.Country) {
			t.Errorf("%s: destination %+v", d.ParcelID, to)
		}
		if zone, err := time.LoadLocation(to.TimeZone); err != nil || zone == time.UTC {
			t.Errorf("%s: time_zone %q: %v", d.ParcelID, to.TimeZone, err)
		}
		if to.Location.Lat == 0 || to.Location.Lon == 0 {
			t.Errorf("%s: location %+v", d.ParcelID, to.Location)
		}
		// A house is one point, and a point is one house.
		house := to.City + to.Lines[len(to.Lines)-1]
		if to.Kind == "po_box" {
			continue // it lies in the shop's house, and its line is the box
		}
		if other, ok := houses[to.Location]; ok && other != house {
			t.Errorf("%s: %v is at %s and at %s", d.ParcelID, to.Location, house, other)
		}
		if other, ok := points[house]; ok && other != any(to.Location) {
			t.Errorf("%s: %s is at %v and at %v", d.ParcelID, house, to.Location, other)
		}
		houses[to.Location], points[house] = house, to.Location
	}
}

func TestMix(t *testing.T) {
	all := parse(t, sample.Day())
	if first := all[0]; first.ParcelID != "JJD000390001187" || first.Customer.ID != "cus_101" ||
		first.RouteID != "BER-042" || first.Destination.BuildingID != "bld_turm5" {
		t.Errorf("the first line is not the example's parcel: %+v", first)
	}

	count := make(map[string]int)
	tally := func(name string, ok bool) {
		if ok {
			count[name]++
		}
	}
	kinds := make(map[string]bool) // by route, whether it is a pickup point's
	perRoute, perCustomer := make(map[string]int), make(map[string]int)
	zones, locales, currencies := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, d := range all {
		if w := d.worth(t); w > 0.9 && w < 1.1 {
			t.Errorf("%s: %v is too near the threshold", d.ParcelID, d.Value)
		}
		tally("parcels", true)
		tally("valuable", d.worth(t) > 1)
		tally("swift", d.CarrierID == "swift")
		tally("rival", d.CarrierID == "rival")
		tally("returns", d.Purpose == "return_pickup")
		tally("in a building", d.Destination.BuildingID != "")
		tally("with a unit", d.Destination.Unit != "")
		tally("on Lord Howe", d.Destination.TimeZone == "Australia/Lord_Howe")
		tally(d.Destination.Kind, true)
		for _, c := range d.Categories {
			tally(c, true)
		}
		pickup := d.Destination.Kind == "pickup_point"
		if first, ok := kinds[d.RouteID]; ok && first != pickup {
			t.Errorf("%s: %s on route %s", d.ParcelID, d.Destination.Kind, d.RouteID)
		}
		kinds[d.RouteID] = pickup
		perRoute[d.RouteID]++
		perCustomer[d.Customer.ID]++
		zones[d.Destination.TimeZone] = true
		locales[d.Customer.Locale] = true
		currencies[d.Value.Currency] = true
	}
	for _, n := range perCustomer {
		tally("customers with several", n > 1)
	}
	count["zones"], count["locales"], count["currencies"] = len(zones), len(locales), len(currencies)
	for route, n := range perRoute {
		if route != "LDH-001" && (n < 15 || n > 40) {
			t.Errorf("route %s has %d parcels", route, n)
		}
	}

	n := len(all)
	for name, want := range map[string][2]int{
		"parcels":                {350, 450},
		"valuable":               {32 * n / 100, 38 * n / 100},
		"swift":                  {n / 3, n},
		"rival":                  {n / 3, n},
		"returns":                {6 * n / 100, 10 * n / 100},
		"residence":              {n / 2, n},
		"business":               {n / 20, n},
		"pickup_point":           {n / 20, n / 5},
		"locker":                 {2, n / 25},
		"po_box":                 {2, n / 25},
		"in a building":          {n / 10, n / 2},
		"with a unit":            {n / 10, n / 2},
		"customers with several": {10, n / 4},
		"on Lord Howe":           {1, 2},
		"zones":                  {10, 20},
		"locales":                {8, 20},
		"currencies":             {7, 7},
		"electronics":            {20, n},
		"books":                  {20, n},
		"clothing":               {20, n},
		"jewellery":              {10, n},
		"medicine":               {10, n},
		"toys":                   {10, n},
		"groceries":              {10, n},
		"tools":                  {10, n},
	} {
		if count[name] < want[0] || count[name] > want[1] {
			t.Errorf("%s: %d, want %d to %d", name, count[name], want[0], want[1])
		}
	}
}

func TestEveryRouteHasOneCourierOfItsCarrier(t *testing.T) {
	couriers := make(map[string]bool)
	for _, c := range sample.Couriers() {
		if couriers[c.CourierID] {
			t.Errorf("%s is there twice", c.CourierID)
		}
		couriers[c.CourierID] = true
		if c.Name != "Courier "+strings.TrimPrefix(c.CourierID, "cou_") || len(c.Routes) == 0 {
			t.Errorf("courier %+v", c)
		}
	}
	drives := make(map[string]sample.Route)
	for _, r := range sample.Routes() {
		if other, ok := drives[r.RouteID]; ok {
			t.Errorf("%s drives %s, and so does %s", r.CourierID, r.RouteID, other.CourierID)
		}
		drives[r.RouteID] = r
	}
	if r := drives["BER-042"]; r.CourierID != "cou_7" || r.CarrierID != "swift" {
		t.Errorf("BER-042 is driven by %s of %s", r.CourierID, r.CarrierID)
	}
	for _, d := range parse(t, sample.Day()) {
		r, ok := drives[d.RouteID]
		if !ok {
			t.Errorf("%s: nobody drives %s", d.ParcelID, d.RouteID)
			continue
		}
		if r.CarrierID != d.CarrierID || r.Zone.String() != d.Destination.TimeZone {
			t.Errorf("%s of %s in %s is on route %+v", d.ParcelID, d.CarrierID, d.Destination.TimeZone, r)
		}
	}
}

func TestOnChangesTheDateAlone(t *testing.T) {
	// At this instant it is the 2nd in Europe and the Americas, the 3rd east of them.
	now := time.Date(2027, 3, 2, 16, 30, 0, 0, time.UTC)
	asked := make(map[string]int)
	got := sample.On(func(zone *time.Location) string {
		asked[zone.String()]++
		return now.In(zone).Format(time.DateOnly)
	})

	dates := make(map[string]int)
	want := parse(t, sample.Day())
	for i, d := range parse(t, got) {
		if here := now.In(location(t, want[i].Destination.TimeZone)).Format(time.DateOnly); d.DeliveryDate != here {
			t.Errorf("%s: %s in %s, want %s", d.ParcelID, d.DeliveryDate, d.Destination.TimeZone, here)
		}
		dates[d.DeliveryDate]++
	}
	if dates["2027-03-02"] < 100 || dates["2027-03-03"] < 50 || len(dates) != 2 {
		t.Errorf("dates %v", dates)
	}
	for zone, n := range asked {
		if n != 1 {
			t.Errorf("asked %d times for %s", n, zone)
		}
	}

	for date := range dates {
		got = bytes.ReplaceAll(got, []byte(`"`+date+`"`), []byte(`"`+sample.Date+`"`))
	}
	if !bytes.Equal(got, sample.Day()) {
		t.Error("more than the dates has changed")
	}
}

func TestDayIsTheCallersOwn(t *testing.T) {
	clear(sample.Day())
	if sample.Day()[0] != '{' {
		t.Error("a caller wrote into the day")
	}
}

func location(t *testing.T, zone string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The building has a door of each way in, and the day has parcels that show what it does:
// one for the owner of the garage that needs a code, a return of hers, and one of a carrier
// that is not admitted.
func TestBuilding(t *testing.T) {
	b := sample.TheBuilding()
	var allows struct {
		Carriers []string `json:"carriers"`
		Returns  bool     `json:"returns"`
	}
	if err := json.Unmarshal(b.Building, &allows); err != nil || !allows.Returns {
		t.Errorf("%s, %v", b.Building, err)
	}
	var owner string
	kinds := make(map[string]string)
	for _, d := range b.Doors {
		kinds[d.Body.Kind] = d.Body.Mode
		if d.Body.BuildingID != b.ID || d.ID == "" || d.Body.RelockS == 0 || d.Body.Location.Lat == 0 {
			t.Errorf("door %+v", d)
		}
		if (d.Body.Owner != nil) != (d.Body.Kind == "garage") {
			t.Errorf("%s has the owner %v", d.ID, d.Body.Owner)
		}
		if d.Body.Owner != nil {
			owner = d.Body.Owner.CustomerID
		}
	}
	if len(kinds) != 3 || kinds["gate"] != "connected" || kinds["lobby"] != "carried" || kinds["garage"] != "connected" {
		t.Errorf("doors %v", kinds)
	}
	var valuable, returned, foreign bool
	for _, d := range parse(t, sample.Day()) {
		if d.Destination.BuildingID != b.ID {
			continue
		}
		admitted, own := slices.Contains(allows.Carriers, d.CarrierID), d.Customer.ID == owner
		valuable = valuable || admitted && own && d.Purpose == "delivery" && d.worth(t) > 1
		returned = returned || admitted && own && d.Purpose == "return_pickup"
		foreign = foreign || !admitted
	}
	if !valuable || !returned || !foreign {
		t.Errorf("valuable %t, returned %t, of a carrier that is not admitted %t", valuable, returned, foreign)
	}
}
