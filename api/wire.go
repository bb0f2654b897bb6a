package api

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/otp"
)

// The shapes of requests. The tags are documentation, which a test compares with what
// parse accepts.

type dispatchRequest struct {
	ParcelID     *string            `json:"parcel_id,omitempty" maxLength:"512" example:"JJD000390007827" doc:"Required unless parcels is given. The carrier's id, as the label says or a scanner gives it. Answers and events have its one form: without spaces, an SSCC as its 18 digits, an S10 id in capitals. It matches ^[A-Za-z0-9._-]{1,64}$"`
	Parcels      []parcelRequest    `json:"parcels,omitempty" minItems:"1" maxItems:"50" doc:"Instead of parcel_id: the parcels that arrive together, as one handoff with one code. Their order does not matter"`
	AllOrNothing *bool              `json:"all_or_nothing,omitempty" doc:"With parcels: all that are still there are handed over at once, or none"`
	OrderID      *string            `json:"order_id,omitempty" format:"id" example:"302-1234567"`
	CarrierID    string             `json:"carrier_id" format:"id" example:"swift"`
	RouteID      string             `json:"route_id" format:"id" example:"BER-042"`
	DeliveryDate string             `json:"delivery_date" format:"date" example:"2026-11-24" doc:"The civil day at the address (RFC 3339 full-date)"`
	Purpose      *string            `json:"purpose,omitempty" enum:"delivery,return_pickup" doc:"Left out: delivery"`
	Value        valueRequest       `json:"value" doc:"Of several parcels the sum"`
	Categories   []string           `json:"categories,omitempty" maxItems:"16" maxLength:"64" example:"[\"electronics\"]" doc:"Of several parcels those of all. Compared without case, with spaces, hyphens and underscores as one. One that the policy does not know needs a code, and is answered with a warning"`
	Customer     customerRequest    `json:"customer"`
	Destination  destinationRequest `json:"destination"`
}

type parcelRequest struct {
	ParcelID string  `json:"parcel_id" maxLength:"512" example:"JJD000390007827" doc:"As parcel_id of a dispatch"`
	Seal     *string `json:"seal,omitempty" format:"id" example:"S-4711" doc:"The number of the parcel's seal, which the customer is shown"`
}

// mostParcels is handoff.MostParcels, as the tags say it.
const mostParcels = handoff.MostParcels

type valueRequest struct {
	Amount   string `json:"amount" pattern:"^[0-9]{1,12}([.][0-9]{1,4})?$" example:"1299.00" doc:"No more decimals than ISO 4217 gives the currency. Three digits after the point, where it has three, are compared as thousands"`
	Currency string `json:"currency" pattern:"^ *[A-Za-z]{3} *$" example:"EUR" doc:"ISO 4217; case and spaces do not count. One that the standard does not list today needs a code"`
}

type customerRequest struct {
	ID     string  `json:"id" format:"id" example:"cus_81"`
	Name   *string `json:"name,omitempty" maxLength:"120" example:"Sample Customer"`
	Email  string  `json:"email" maxLength:"254" example:"customer@shop.example" doc:"An address without a display name; an internationalised domain is written in ASCII"`
	Locale *string `json:"locale,omitempty" format:"language" example:"de" doc:"A language tag (RFC 5646)"`
}

type destinationRequest struct {
	Kind       string        `json:"kind" enum:"residence,business,pickup_point,locker,po_box" doc:"Case does not count, nor whether words are parted by a space, a hyphen or an underscore"`
	Lines      []string      `json:"lines" minItems:"1" maxItems:"6" maxLength:"200" example:"[\"Turmstr. 5\"]"`
	PostalCode *string       `json:"postal_code,omitempty" maxLength:"16" example:"10559"`
	City       string        `json:"city" maxLength:"100" example:"Berlin"`
	Country    string        `json:"country" pattern:"^[A-Z]{2}$" example:"DE" doc:"ISO 3166-1 alpha-2"`
	TimeZone   string        `json:"time_zone" pattern:"^[A-Za-z0-9_+/-]{1,64}$" example:"Europe/Berlin" doc:"The zone of a place in the IANA database. UTC, EST, Etc/GMT+1 and the like are no places"`
	Location   *pointRequest `json:"location,omitempty" doc:"Where this is given, the courier must prove to be near it. Required for a parcel that needs a code, unless the policy says allow_without_position; never 0,0"`
	BuildingID *string       `json:"building_id,omitempty" format:"id" example:"bld_turm5"`
	Unit       *string       `json:"unit,omitempty" maxLength:"60" example:"4 links"`
}

type pointRequest struct {
	Lat *float64 `json:"lat" nullable:"false" minimum:"-90" maximum:"90" example:"52.5256"`
	Lon *float64 `json:"lon" nullable:"false" minimum:"-180" maximum:"180" example:"13.3421"`
}

var (
	amountRule   = regexp.MustCompile(`^[0-9]{1,12}([.][0-9]{1,4})?$`)
	currencyRule = regexp.MustCompile(`^ *[A-Za-z]{3} *$`)
	countryRule  = regexp.MustCompile(`^[A-Z]{2}$`)
	zoneRule     = regexp.MustCompile(`^[A-Za-z0-9_+/-]{1,64}$`)
	localeRule   = regexp.MustCompile(`^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,7}$`)
)

// parse reads a dispatch. Whose shop it is stands in the token, not in the body.
func (r *dispatchRequest) parse(bad *violations) handoff.Dispatch {
	d := handoff.Dispatch{
		Order:   bad.optionalID("order_id", r.OrderID),
		Carrier: bad.id("carrier_id", r.CarrierID),
		Route:   bad.id("route_id", r.RouteID),
		Day:     bad.date("delivery_date", r.DeliveryDate),
		Purpose: handoff.PurposeDelivery,
		Value:   r.Value.parse(bad),
		Customer: handoff.Customer{
			ID:     bad.id("customer.id", r.Customer.ID),
			Name:   bad.optionalText("customer.name", r.Customer.Name, 120),
			Email:  bad.email("customer.email", r.Customer.Email),
			Locale: bad.optionalMatch("customer.locale", r.Customer.Locale, localeRule),
		},
		To: r.Destination.parse(bad),
	}
	r.parcels(bad, &d)
	if says(r.Purpose) {
		var known bool
		if d.Purpose, known = handoff.ParsePurpose(*r.Purpose); !known {
			bad.oneOf("purpose", "delivery", "return_pickup")
		}
	}
	if len(r.Categories) > 16 {
		bad.add("categories", "must be at most 16")
		return d
	}
	bad.each("categories", r.Categories, func(name string) { bad.text("categories", name, 64) })
	d.Categories = r.Categories
	return d
}

// parcels reads which parcels it is about: one, or several.
func (r *dispatchRequest) parcels(bad *violations, d *handoff.Dispatch) {
	all := r.AllOrNothing != nil && *r.AllOrNothing
	switch {
	case r.ParcelID == nil && r.Parcels == nil:
		bad.add("parcel_id", "is required, or parcels")
	case r.Parcels == nil:
		d.Parcel = bad.label("parcel_id", *r.ParcelID)
		if all {
			bad.add("all_or_nothing", "must go with parcels")
		}
	case says(r.ParcelID):
		bad.add("parcels", "must not go with parcel_id")
	case len(r.Parcels) < 1 || len(r.Parcels) > mostParcels:
		bad.add("parcels", "must be between 1 and "+strconv.Itoa(mostParcels))
	default:
		d.Together = &handoff.Together{AllOrNothing: all}
		for i, p := range r.Parcels {
			at := bad.item("parcels", i)
			piece := handoff.Piece{Parcel: bad.label(at+".parcel_id", p.ParcelID), Seal: bad.optionalID(at+".seal", p.Seal)}
			if i == 0 {
				d.Parcel, d.Together.Seal = piece.Parcel, piece.Seal
				continue
			}
			d.Together.More = append(d.Together.More, piece)
		}
	}
}

// labels reads the labels of parcels, of which there may be none.
func (vs *violations) labels(at string, list []string) []string {
	if len(list) > mostParcels {
		vs.add(at, "must be at most "+strconv.Itoa(mostParcels))
		return nil
	}
	for i, read := range list {
		vs.label(vs.item(at, i), read)
	}
	return list
}

func (r *valueRequest) parse(bad *violations) handoff.Money {
	before := len(*bad)
	bad.match("value.amount", r.Amount, amountRule)
	bad.match("value.currency", r.Currency, currencyRule)
	if len(*bad) > before {
		return handoff.Money{}
	}
	currency := handoff.CanonicalCurrency(r.Currency)
	m, ok := handoff.ParseMoney(r.Amount, currency)
	if !ok { // the form is right: it has too many decimals
		bad.add("value.amount", decimalsRule(currency))
	}
	return m
}

// decimalsRule says how many decimals an amount may have, and why.
func decimalsRule(currency string) string {
	const why = ": ISO 4217 gives this currency "
	switch n, _ := handoff.Decimals(currency); n {
	case 0:
		return "must have no decimals" + why + "none"
	default:
		return "must have at most " + strconv.Itoa(n) + " decimals" + why + strconv.Itoa(n)
	}
}

func (r *destinationRequest) parse(bad *violations) handoff.Destination {
	to := handoff.Destination{
		Postal:   bad.optionalText("destination.postal_code", r.PostalCode, 16),
		City:     bad.text("destination.city", r.City, 100),
		Country:  bad.match("destination.country", r.Country, countryRule),
		Zone:     bad.match("destination.time_zone", r.TimeZone, zoneRule),
		Building: bad.optionalID("destination.building_id", r.BuildingID),
		Unit:     bad.optionalText("destination.unit", r.Unit, 60),
	}
	var known bool
	if to.Kind, known = handoff.ParseDestinationKind(r.Kind); !known {
		bad.oneOf("destination.kind", "residence", "business", "pickup_point", "locker", "po_box")
	}
	if len(r.Lines) < 1 || len(r.Lines) > 6 {
		bad.add("destination.lines", "must be between 1 and 6")
	} else {
		bad.each("destination.lines", r.Lines, func(line string) {
			if line != "" { // a column that was left empty
				to.Lines = append(to.Lines, bad.text("destination.lines", line, 200))
			}
		})
		if len(to.Lines) == 0 {
			bad.add("destination.lines", "is required")
		}
	}
	if r.Location != nil {
		at := r.Location.parse(bad, "destination.location")
		to.Location = &at
	}
	return to
}

// parse reads where something lies. 0,0 is refused by name: that is what programs write
// that did not find a place.
func (r *pointRequest) parse(bad *violations, at string) handoff.Point {
	before := len(*bad)
	p := r.degrees(bad, at)
	if len(*bad) == before && p == (handoff.Point{}) {
		bad.add(at, "must not be 0,0, which is in the ocean: leave the location out where it is not known")
	}
	return p
}

func (r *pointRequest) degrees(bad *violations, at string) handoff.Point {
	return handoff.PointOf(bad.number(at+".lat", r.Lat, -90, 90), bad.number(at+".lon", r.Lon, -180, 180))
}

// positionRequest is where a phone says it is.
type positionRequest struct {
	Lat       *float64 `json:"lat" nullable:"false" minimum:"-90" maximum:"90" example:"52.52561"`
	Lon       *float64 `json:"lon" nullable:"false" minimum:"-180" maximum:"180" example:"13.34209"`
	AccuracyM *float64 `json:"accuracy_m" nullable:"false" minimum:"0" maximum:"1000000" example:"12" doc:"Radius in meters; above 100 the position is not accepted as a proof"`
	AgeS      *float64 `json:"age_s,omitempty" minimum:"0" maximum:"1000000" example:"3" doc:"Seconds since the fix, left out: 0; above 60 the position is not accepted as a proof"`
}

func (r *positionRequest) parse(bad *violations) *handoff.Position {
	if r == nil {
		return nil
	}
	point := pointRequest{Lat: r.Lat, Lon: r.Lon}
	p := handoff.Position{Point: point.degrees(bad, "location"), Accuracy: bad.number("location.accuracy_m", r.AccuracyM, 0, 1e6)}
	if r.AgeS != nil {
		p.Age = bad.number("location.age_s", r.AgeS, 0, 1e6)
	}
	return &p
}

type verifyRequest struct {
	ParcelIDs []string         `json:"parcel_ids,omitempty" maxItems:"50" maxLength:"512" example:"[\"JJD000390007827\"]" doc:"Of parcels that arrive together all that were scanned, the path's among them: exactly these are handed over. Left out: the path's alone"`
	Code      *string          `json:"code,omitempty" pattern:"^[0-9]{6}$" example:"123456" doc:"What the customer said. Parcels without a code need none"`
	Location  *positionRequest `json:"location,omitempty"`
	AttemptID *string          `json:"attempt_id,omitempty" format:"id" doc:"Under which this request may be repeated: the first answer is given again"`
	ClaimedAt *string          `json:"claimed_at,omitempty" maxLength:"40" example:"2026-11-24T11:02:03Z" doc:"When it was done by the device's clock (RFC 3339 date-time). Kept beside the service's own time; decides nothing"`
}

func (r *verifyRequest) parse(bad *violations) service.Presentation {
	p := service.Presentation{
		Parcels:  bad.labels("parcel_ids", r.ParcelIDs),
		Position: r.Location.parse(bad),
		Attempt:  bad.attempt(r.AttemptID),
		Claimed:  bad.optionalTime("claimed_at", r.ClaimedAt),
	}
	if r.Code != nil {
		var err error
		if p.Code, err = otp.Parse(*r.Code); err != nil {
			bad.add("code", "must be exactly six digits")
		}
	}
	return p
}

type reportRequest struct {
	Reason    string           `json:"reason" minLength:"1" maxLength:"200" example:"No one answered"`
	Location  *positionRequest `json:"location,omitempty"`
	AttemptID *string          `json:"attempt_id,omitempty" format:"id" doc:"Under which this request may be repeated: the first answer is given again"`
	ClaimedAt *string          `json:"claimed_at,omitempty" maxLength:"40" example:"2026-11-24T11:02:03Z" doc:"When it was done by the device's clock (RFC 3339 date-time). Kept beside the service's own time; decides nothing"`
}

func (r *reportRequest) parse(bad *violations) service.Presentation {
	return service.Presentation{
		Position: r.Location.parse(bad),
		Attempt:  bad.attempt(r.AttemptID),
		Claimed:  bad.optionalTime("claimed_at", r.ClaimedAt),
		Note:     bad.text("reason", r.Reason, 200),
	}
}

type reasonRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"200" example:"The customer called"`
}

func (r *reasonRequest) parse(bad *violations) string { return bad.text("reason", r.Reason, 200) }

type recallRequest struct {
	Reason    string   `json:"reason" minLength:"1" maxLength:"200" example:"The customer called"`
	ParcelIDs []string `json:"parcel_ids,omitempty" maxItems:"50" maxLength:"512" example:"[\"JJD000390007827\"]" doc:"Which of several parcels; the others stay as they are, with their code. Left out: all that are still there"`
}

type recall struct {
	reason  string
	parcels []string
}

func (r *recallRequest) parse(bad *violations) recall {
	return recall{reason: bad.text("reason", r.Reason, 200), parcels: bad.labels("parcel_ids", r.ParcelIDs)}
}

// settleRequest is the duty officer's decision about a dispute.
type settleRequest struct {
	Ruling string `json:"ruling" enum:"handed-over,not-received" example:"not-received"`
	Reason string `json:"reason" minLength:"1" maxLength:"200" example:"The courier was two streets away"`
}

type settlement struct {
	ruling handoff.Ruling
	reason string
}

func (r *settleRequest) parse(bad *violations) settlement {
	ruling, ok := handoff.ParseRuling(r.Ruling)
	if !ok || ruling == handoff.Withdrawn { // which is the customer's to say
		bad.add("ruling", "must be handed-over or not-received")
	}
	return settlement{ruling: ruling, reason: bad.text("reason", r.Reason, 200)}
}

type rescheduleRequest struct {
	DeliveryDate string  `json:"delivery_date" format:"date" example:"2026-11-25" doc:"A later civil day at the address"`
	RouteID      *string `json:"route_id,omitempty" format:"id" example:"BER-042" doc:"Left out: the route stays"`
}

type reschedule struct {
	day   handoff.Date
	route string
}

func (r *rescheduleRequest) parse(bad *violations) reschedule {
	return reschedule{day: bad.date("delivery_date", r.DeliveryDate), route: bad.optionalID("route_id", r.RouteID)}
}

type routeRequest struct {
	CourierID string `json:"courier_id" format:"id" example:"cou_7"`
}

func (r *routeRequest) parse(bad *violations) string { return bad.id("courier_id", r.CourierID) }

type courierRequest struct {
	Name         *string `json:"name,omitempty" minLength:"1" maxLength:"120" example:"Courier 7" doc:"Shown to the customer"`
	ClearedUntil *string `json:"cleared_until,omitempty" maxLength:"40" example:"2027-06-30" doc:"When the background check runs out: an instant (RFC 3339 date-time), or a day (full-date), whose end in UTC is meant"`
	Suspended    *bool   `json:"suspended,omitempty"`
	ClearBudget  bool    `json:"clear_budget,omitempty" doc:"Forget the wrong codes. Takes the scope ops, a person's own token and a reason"`
	Reason       *string `json:"reason,omitempty" minLength:"1" maxLength:"200" example:"Three customers in a row had mistyped" doc:"Why the budget is cleared. Kept for the retention, and in no event"`
}

type courierChange struct {
	service.CourierUpdate
	clearBudget bool
	reason      string
}

func (r *courierRequest) parse(bad *violations) courierChange {
	c := courierChange{clearBudget: r.ClearBudget}
	c.Suspended = r.Suspended
	if name := bad.optionalText("name", r.Name, 120); name != "" {
		c.Name = &name
	}
	switch {
	case r.ClearBudget && r.Reason == nil:
		bad.add("reason", "is required with clear_budget")
	case r.ClearBudget:
		c.reason = bad.text("reason", *r.Reason, 200)
	case says(r.Reason):
		bad.add("reason", "must go with clear_budget")
	}
	if r.ClearedUntil != nil {
		until, ok := endOf(*r.ClearedUntil)
		if !ok {
			bad.add("cleared_until", "must be a date-time or a full-date of RFC 3339 after 1970")
		}
		c.ClearedUntil = &until
	}
	return c
}

// endOf reads an instant, or the end of a day in UTC.
func endOf(text string) (handoff.Instant, bool) {
	if day, err := handoff.ParseDate(text); err == nil {
		text = day.Next().String() + "T00:00:00Z"
	}
	t, ok := instant(text)
	return handoff.InstantOf(t), ok
}

// instant reads an RFC 3339 date-time after 1970.
func instant(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(text))
	return t, err == nil && t.Unix() > 0
}
