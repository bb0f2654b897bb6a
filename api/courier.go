package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/registry"
	"latchkey/handoff/service"
)

// courierRoutes are the routes of those at the door. No answer to them ever holds a code,
// and none a full parcel id that the courier did not send.
type courierRoutes struct {
	service  *service.Service
	registry *registry.Registry
	clock    clock.Clock
}

func (a *courierRoutes) register(r *registrar) {
	couriers := []auth.Scope{auth.Courier}
	route(r, huma.Operation{
		OperationID: "courier-stops", Method: http.MethodGet, Path: "/v1/courier/stops",
		Summary: "Today's stops of my routes", Tags: []string{"Courier"},
	}, couriers, a.stops)
	route(r, huma.Operation{
		OperationID: "verify", Method: http.MethodPost, Path: "/v1/parcels/{parcel_id}/verify",
		Errors:  []int{http.StatusConflict, http.StatusGone, http.StatusLocked},
		Summary: "Hand a parcel over, or take a return along", Tags: []string{"Courier"},
		Description: "Of parcels that arrive together exactly those are handed over that parcel_ids names; for the others the customer gets another code. The code is compared only when every other proof holds. Without an attempt_id every request is a new attempt.",
		RequestBody: &huma.RequestBody{Required: false},
	}, couriers, a.verify)
	route(r, huma.Operation{
		OperationID: "abort", Method: http.MethodPost, Path: "/v1/parcels/{parcel_id}/abort",
		Errors:  []int{http.StatusConflict, http.StatusGone},
		Summary: "Take a handoff of a moment ago back", Tags: []string{"Courier"},
	}, couriers, a.abort)
	route(r, huma.Operation{
		OperationID: "attempted", Method: http.MethodPost, Path: "/v1/parcels/{parcel_id}/attempted",
		Errors:  []int{http.StatusConflict, http.StatusGone},
		Summary: "No one answered the door", Tags: []string{"Courier"},
	}, couriers, a.attempted)
}

// issued is since when the caller's token or session exists.
func issued(ctx context.Context) handoff.Instant { return principal(ctx).IssuedAt }

// ofCourier is the courier that a token speaks for.
func ofCourier(ctx context.Context) handoff.CourierRef {
	p := principal(ctx)
	return handoff.CourierRef{Carrier: p.Carrier, ID: p.Subject}
}

type verifyInput struct {
	Parcel pathLabel `path:"parcel_id" doc:"As read from the label: typed, or as a scanner gives it"`
	Body   body[verifyRequest, service.Presentation, *verifyRequest]
}

type reportInput struct {
	Parcel pathLabel `path:"parcel_id" doc:"As read from the label: typed, or as a scanner gives it"`
	Body   body[reportRequest, service.Presentation, *reportRequest]
}

type receiptAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Status  string       `json:"status" enum:"released,collected,active" doc:"After this act; of several parcels active while one is still there"`
	Receipt receiptShort `json:"receipt"`
}

type receiptShort struct {
	ReceiptID  string    `json:"receipt_id,omitempty" example:"9f1c02a7d54be3809f1c02a7-1-h1" doc:"Of a handoff: its signed receipt, see GET /v1/receipts/{receipt_id}"`
	GrantID    string    `json:"grant_id"`
	ParcelID   string    `json:"parcel_id"`
	Act        string    `json:"act" enum:"release,collect,abort,attempted"`
	CourierID  string    `json:"courier_id"`
	At         time.Time `json:"at"`
	ParcelIDs  []string  `json:"parcel_ids,omitempty" doc:"Of several parcels those that were sent and that the act was about"`
	Also       []string  `json:"also_last4,omitempty" doc:"Of several parcels the last four characters of others that it was about: an abort takes back a whole handoff"`
	StillThere []string  `json:"still_there_last4,omitempty" doc:"Of several parcels the last four characters of those that are still to be handed over"`
	DistanceM  *int      `json:"distance_m,omitempty" doc:"From the address, rounded to ten meters; left out where no place was asked for"`
}

type receiptOutput struct{ Body receiptAnswer }

// present does what the three acts of a courier have in common.
func present(ctx context.Context, parcel pathLabel, p service.Presentation,
	act func(context.Context, service.Presentation) (service.Receipt, error),
) (*receiptOutput, error) {
	sent := p.Parcels
	p.Courier, p.Issued, p.Device, p.Parcel = ofCourier(ctx), issued(ctx), principal(ctx).Device, parcel.text
	r, err := act(ctx, p)
	if err != nil {
		return nil, err
	}
	answer := receiptAnswer{Status: r.Status.String(), Receipt: receiptShort{
		ReceiptID: r.ID.String(),
		GrantID:   r.Grant.String(), ParcelID: r.Parcel, Act: r.Act.String(), CourierID: r.Courier, At: r.At,
	}}
	answer.Receipt.several(&r, len(sent) > 0)
	if r.Placed {
		answer.Receipt.DistanceM = &r.Distance
	}
	return &receiptOutput{Body: answer}, nil
}

// several names the parcels of a receipt. No id is told in full that the courier did not send: a
// verify is about those alone that were sent, and any other act was asked by one.
func (r *receiptShort) several(done *service.Receipt, sent bool) {
	for _, parcel := range done.Parcels {
		if parcel == done.Parcel || sent {
			r.ParcelIDs = append(r.ParcelIDs, parcel)
		} else {
			r.Also = append(r.Also, handoff.Tail(parcel))
		}
	}
	for _, parcel := range done.Left {
		r.StillThere = append(r.StillThere, handoff.Tail(parcel))
	}
}

func (a *courierRoutes) verify(ctx context.Context, in *verifyInput) (*receiptOutput, error) {
	return present(ctx, in.Parcel, in.Body.value, a.service.Verify)
}

func (a *courierRoutes) abort(ctx context.Context, in *reportInput) (*receiptOutput, error) {
	return present(ctx, in.Parcel, in.Body.value, a.service.Abort)
}

func (a *courierRoutes) attempted(ctx context.Context, in *reportInput) (*receiptOutput, error) {
	return present(ctx, in.Parcel, in.Body.value, a.service.Attempted)
}

type stopsAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Stops []stop `json:"stops"`
}

// stop is a parcel on a courier's list: enough to find the door and to greet, not
// enough to pretend to hold the parcel.
type stop struct {
	StopID       string       `json:"stop_id" example:"9f1c02a7d54be380" doc:"Tells this stop from others in later lists, and is of no other use"`
	ParcelLast4  string       `json:"parcel_last4" example:"7827"`
	Parcels      []stopParcel `json:"parcels,omitempty" doc:"Of parcels that arrive together: each of them. Each is scanned, and those that are scanned are handed over"`
	AllOrNothing bool         `json:"all_or_nothing,omitempty,omitzero" doc:"All that are still there are handed over at once, or none"`
	RouteID      string       `json:"route_id"`
	Purpose      string       `json:"purpose" enum:"delivery,return_pickup"`
	Status       string       `json:"status" enum:"active,released,collected,recalled,expired,held"`
	CodeRequired bool         `json:"code_required"`
	ValidUntil   time.Time    `json:"valid_until"`
	Attempted    int          `json:"attempted" doc:"How often no one answered the door"`
	Name         string       `json:"name,omitempty" doc:"On the label"`
	Kind         string       `json:"kind" enum:"residence,business,pickup_point,locker,po_box"`
	Lines        []string     `json:"lines"`
	Unit         string       `json:"unit,omitempty"`
	City         string       `json:"city"`
	PostalCode   string       `json:"postal_code,omitempty"`
	Country      string       `json:"country"`
	TimeZone     string       `json:"time_zone" doc:"Of the address"`
	Location     *stopPoint   `json:"location,omitempty"`
	BuildingID   string       `json:"building_id,omitempty"`
	Doors        []stopDoor   `json:"doors" doc:"On the way, while the parcel is active. Whether one opens, only an unlock says"`

	AbortableUntil *time.Time `json:"abortable_until,omitempty" doc:"Until when the handoff can be taken back; left out where it cannot"`
}

// stopParcel is one of several parcels on a courier's list.
type stopParcel struct {
	Last4  string `json:"parcel_last4" example:"7827"`
	Status string `json:"status" enum:"active,released,collected,recalled,expired,held"`
}

// stopDoor is a door that a courier may ask to be opened for a parcel.
type stopDoor struct {
	DoorID    string `json:"door_id"`
	Kind      string `json:"kind" enum:"lobby,gate,garage,home"`
	Mode      string `json:"mode" enum:"carried,connected,bridged,keypad"`
	Challenge bool   `json:"challenge" doc:"What the door shows must be read there and sent"`
	Consent   string `json:"consent" enum:"not-asked,given,missing" doc:"The customer's, to their own door"`
}

type stopPoint struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

type stopsOutput struct{ Body stopsAnswer }

func (a *courierRoutes) stops(ctx context.Context, _ *struct{}) (*stopsOutput, error) {
	grants, err := a.service.Stops(ctx, ofCourier(ctx), issued(ctx))
	if err != nil {
		return nil, err
	}
	stops, doors := make([]stop, len(grants)), map[string][]handoff.Door{}
	for i := range grants {
		g := &grants[i]
		stops[i] = a.stopOf(g, ofCourier(ctx).ID)
		if g.StatusAt(a.clock.Now()) != handoff.Active || g.Dispatch.To.Building == "" {
			continue
		}
		all, err := remembered(doors, g.Dispatch.To.Building, func() ([]handoff.Door, error) { return doorsOf(ctx, a.registry, g.Dispatch.To.Building) })
		if err != nil {
			return nil, err
		}
		stops[i].Doors = doorsOnTheWay(g, all)
	}
	return &stopsOutput{Body: stopsAnswer{Stops: stops}}, nil
}

// doorsOnTheWay puts the outer doors first, as one comes to them.
func doorsOnTheWay(g *handoff.Grant, all []handoff.Door) []stopDoor {
	doors := []stopDoor{}
	for _, kind := range []handoff.TargetKind{handoff.Gate, handoff.Lobby, handoff.Garage, handoff.Home} {
		for i := range all {
			d := &all[i]
			asked, onTheWay := g.OnTheWay(d)
			if !onTheWay || d.Kind != kind {
				continue
			}
			consent := "not-asked"
			if asked.Has(handoff.ProofConsent) {
				consent = "missing"
				if slices.Contains(g.Consents, kind) {
					consent = "given"
				}
			}
			doors = append(doors, stopDoor{
				DoorID: d.ID, Kind: kind.String(), Mode: d.Mode.String(), Challenge: asked.Has(handoff.ProofPresence), Consent: consent,
			})
		}
	}
	return doors
}

func (a *courierRoutes) stopOf(g *handoff.Grant, courier string) stop {
	d, now := &g.Dispatch, a.clock.Now()
	s := stop{
		StopID: a.service.StopID(g.ID), TimeZone: d.To.Zone, BuildingID: d.To.Building, Doors: []stopDoor{},
		AbortableUntil: timeOf(g.AbortableUntil(courier, a.service.Policy().Limits, now)),
		// Never so much of a short id that naming it could be told for having read it.
		ParcelLast4: handoff.Tail(d.Parcel), RouteID: g.Route(), Purpose: d.Purpose.String(),
		Status: g.StatusAt(now).String(), CodeRequired: g.CodeRequired(), ValidUntil: g.Window.Until.Time(),
		Attempted: g.Attempts, Name: d.Customer.Name, Kind: d.To.Kind.String(), Lines: d.To.Lines, Unit: d.To.Unit,
		City: d.To.City, PostalCode: d.To.Postal, Country: d.To.Country,
	}
	if g.Group != nil {
		s.AllOrNothing = g.Group.AllOrNothing
		for _, parcel := range d.Parcels() {
			s.Parcels = append(s.Parcels, stopParcel{Last4: handoff.Tail(parcel), Status: g.StatusOf(parcel, now).String()})
		}
	}
	if d.To.Location != nil {
		lat, lon := d.To.Location.Degrees()
		s.Location = &stopPoint{Lat: lat, Lon: lon}
	}
	return s
}
