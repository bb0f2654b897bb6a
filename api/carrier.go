package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/service"
)

// carrierRoutes are the routes of a carrier's dispatcher.
type carrierRoutes struct {
	service  *service.Service
	couriers service.Couriers
	clock    clock.Clock
}

func (a *carrierRoutes) register(r *registrar) {
	dispatchers := []auth.Scope{auth.Carrier, auth.Ops}
	route(r, huma.Operation{
		OperationID: "assign-route", Method: http.MethodPut, Path: "/v1/routes/{carrier_id}/{route_id}/{date}",
		Summary: "Who drives a route on a day", Tags: []string{"Carrier"},
		Description: "The courier who drove it before no longer does.", DefaultStatus: http.StatusOK,
	}, dispatchers, a.assignRoute)
	route(r, huma.Operation{
		OperationID: "put-courier", Method: http.MethodPut, Path: "/v1/couriers/{carrier_id}/{courier_id}",
		Summary: "What is known of a courier", Tags: []string{"Carrier"},
		Description: "Fields that are given are set, others stay. A courier who was never cleared is not cleared. " +
			"A budget of wrong codes is cleared by a person of the operator, for a reason.", DefaultStatus: http.StatusOK,
	}, dispatchers, a.putCourier)
	route(r, huma.Operation{
		OperationID: "sign-out-courier", Method: http.MethodPost, Path: "/v1/couriers/{carrier_id}/{courier_id}/sign-out", DefaultStatus: http.StatusOK,
		Summary: "End a courier's sign-ins and open permits", Tags: []string{"Carrier"},
		Description: "For a phone that is lost or stolen. From the next request on, no token or session of the courier that exists now is believed, and permits that are open are taken back. " +
			"A courier who signs in again is served. End the courier's sign-in at the identity provider first: a phone that is still signed in there gets a new token.",
	}, dispatchers, a.signOutCourier)
	route(r, huma.Operation{
		OperationID: "get-route", Method: http.MethodGet, Path: "/v1/routes/{carrier_id}/{route_id}/{date}",
		Summary: "Who drives a route on a day, and the parcels on it", Tags: []string{"Carrier"},
		Description: "The carrier's own parcel ids, and nothing about the people who send and get them.",
	}, dispatchers, a.getRoute)
	route(r, huma.Operation{
		OperationID: "get-courier", Method: http.MethodGet, Path: "/v1/couriers/{carrier_id}/{courier_id}",
		Summary: "A courier as the carrier registered them", Tags: []string{"Carrier"},
	}, dispatchers, a.getCourier)
}

// mayRun reports whether the caller may say something about a carrier.
func mayRun(p *auth.Principal, carrier string) bool {
	return p.Has(auth.Ops) || p.Carrier == carrier
}

// dispatcher is who says something about a carrier: its dispatcher, or else the operator.
func dispatcher(ctx context.Context, carrier string) handoff.Actor {
	p := principal(ctx)
	if p.Has(auth.Carrier) && p.Carrier == carrier {
		return handoff.Actor{Role: handoff.RoleCarrier, Subject: p.Identity(), Key: p.Key, Person: isPerson(p)}
	}
	return opsOf(p)
}

// pathDate is a civil day in a path.
type pathDate struct{ day handoff.Date }

// UnmarshalText reads an RFC 3339 full-date.
func (d *pathDate) UnmarshalText(text []byte) (err error) {
	d.day, err = handoff.ParseDate(string(text))
	return err
}

// Schema documents it.
func (*pathDate) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date", Examples: []any{"2026-11-24"}}
}

type routeInput struct {
	Carrier pathID   `path:"carrier_id"`
	Route   pathID   `path:"route_id"`
	Date    pathDate `path:"date"`
	Body    body[routeRequest, string, *routeRequest]
}

type routeAnswer struct {
	_ struct{} `additionalProperties:"true"`

	CarrierID string `json:"carrier_id"`
	RouteID   string `json:"route_id"`
	Date      string `json:"date" format:"date"`
	CourierID string `json:"courier_id"`
}

type routeOutput struct{ Body routeAnswer }

func (a *carrierRoutes) assignRoute(ctx context.Context, in *routeInput) (*routeOutput, error) {
	if !mayRun(principal(ctx), in.Carrier.id) {
		return nil, insufficient(auth.Carrier)
	}
	ref := service.RouteRef{Carrier: in.Carrier.id, Route: in.Route.id, Day: in.Date.day}
	if err := a.service.AssignRoute(ctx, dispatcher(ctx, ref.Carrier), ref, in.Body.value); err != nil {
		return nil, err
	}
	return &routeOutput{Body: routeAnswer{
		CarrierID: ref.Carrier, RouteID: ref.Route, Date: ref.Day.String(), CourierID: in.Body.value,
	}}, nil
}

type courierInput struct {
	Carrier pathID `path:"carrier_id"`
	Courier pathID `path:"courier_id"`
	Body    body[courierRequest, courierChange, *courierRequest]
}

type courierAnswer struct {
	_ struct{} `additionalProperties:"true"`

	CarrierID string `json:"carrier_id"`
	CourierID string `json:"courier_id"`
}

type courierOutput struct{ Body courierAnswer }

func (a *carrierRoutes) putCourier(ctx context.Context, in *courierInput) (*courierOutput, error) {
	p, ref := principal(ctx), handoff.CourierRef{Carrier: in.Carrier.id, ID: in.Courier.id}
	if !mayRun(p, ref.Carrier) {
		return nil, insufficient(auth.Carrier)
	}
	change := &in.Body.value
	if change.clearBudget {
		if !p.Has(auth.Ops) {
			return nil, insufficient(auth.Ops)
		}
		if !isPerson(p) { // before anything is done
			return nil, &handoff.Refusal{Reason: handoff.PersonRequired}
		}
	}
	if err := a.service.UpdateCourier(ctx, dispatcher(ctx, ref.Carrier), ref, change.CourierUpdate); err != nil {
		return nil, err
	}
	if change.clearBudget {
		if err := a.service.ClearBudget(ctx, opsOf(p), ref, change.reason); err != nil {
			return nil, err
		}
	}
	return &courierOutput{Body: courierAnswer{CarrierID: ref.Carrier, CourierID: ref.ID}}, nil
}

type signedOutAnswer struct {
	_ struct{} `additionalProperties:"true"`

	CarrierID   string    `json:"carrier_id"`
	CourierID   string    `json:"courier_id"`
	SignedOutAt time.Time `json:"signed_out_at" doc:"Tokens and sessions that exist since then or before are no longer believed"`
}

type signedOutOutput struct{ Body signedOutAnswer }

// signOutCourier answers for another's courier what it answers for one that does not exist.
func (a *carrierRoutes) signOutCourier(ctx context.Context, in *courierPath) (*signedOutOutput, error) {
	if !mayRun(principal(ctx), in.Carrier.id) {
		return nil, problemOfCode(codeCourierUnknown)
	}
	ref := handoff.CourierRef{Carrier: in.Carrier.id, ID: in.Courier.id}
	at, err := a.service.SignOutCourier(ctx, dispatcher(ctx, ref.Carrier), ref)
	if err != nil {
		return nil, err
	}
	return &signedOutOutput{Body: signedOutAnswer{CarrierID: ref.Carrier, CourierID: ref.ID, SignedOutAt: at}}, nil
}

type routePath struct {
	Carrier pathID   `path:"carrier_id"`
	Route   pathID   `path:"route_id"`
	Date    pathDate `path:"date"`
}

type routeParcelsAnswer struct {
	_ struct{} `additionalProperties:"true"`

	CarrierID string        `json:"carrier_id"`
	RouteID   string        `json:"route_id"`
	Date      string        `json:"date" format:"date"`
	CourierID string        `json:"courier_id,omitempty" doc:"Left out: no courier drives it"`
	Parcels   []routeParcel `json:"parcels"`
}

// routeParcel is a parcel as its carrier may see it: its own label, and how it stands.
type routeParcel struct {
	ParcelID     string    `json:"parcel_id"`
	Purpose      string    `json:"purpose" enum:"delivery,return_pickup"`
	Status       string    `json:"status" enum:"active,released,collected,recalled,expired,held"`
	CodeRequired bool      `json:"code_required"`
	ValidUntil   time.Time `json:"valid_until"`
	Attempted    int       `json:"attempted" doc:"How often no one answered the door"`
}

type routeParcelsOutput struct{ Body routeParcelsAnswer }

// getRoute answers for another's route, without looking, what it answers for one that
// does not exist.
func (a *carrierRoutes) getRoute(ctx context.Context, in *routePath) (*routeParcelsOutput, error) {
	if !mayRun(principal(ctx), in.Carrier.id) {
		return nil, problemOfCode(codeRouteUnknown)
	}
	ref := service.RouteRef{Carrier: in.Carrier.id, Route: in.Route.id, Day: in.Date.day}
	driver, err := a.couriers.Driver(ctx, ref)
	if err != nil {
		return nil, err
	}
	grants, err := a.service.OnRoute(ctx, ref)
	if err != nil {
		return nil, err
	}
	if driver == "" && len(grants) == 0 {
		return nil, problemOfCode(codeRouteUnknown)
	}
	answer := routeParcelsAnswer{
		CarrierID: ref.Carrier, RouteID: ref.Route, Date: ref.Day.String(), CourierID: driver, Parcels: make([]routeParcel, 0, len(grants)),
	}
	for i := range grants {
		g := &grants[i]
		for _, parcel := range g.Dispatch.Parcels() {
			answer.Parcels = append(answer.Parcels, routeParcel{
				ParcelID: parcel, Purpose: g.Dispatch.Purpose.String(), Status: g.StatusOf(parcel, a.clock.Now()).String(),
				CodeRequired: g.CodeRequired(), ValidUntil: g.Window.Until.Time(), Attempted: g.Attempts,
			})
		}
	}
	return &routeParcelsOutput{Body: answer}, nil
}

type courierPath struct {
	Carrier pathID `path:"carrier_id"`
	Courier pathID `path:"courier_id"`
}

type courierRecord struct {
	_ struct{} `additionalProperties:"true"`

	CarrierID    string         `json:"carrier_id"`
	CourierID    string         `json:"courier_id"`
	Name         string         `json:"name,omitempty"`
	ClearedUntil *time.Time     `json:"cleared_until,omitempty" doc:"When the background check runs out; left out: the courier was never cleared"`
	Suspended    bool           `json:"suspended"`
	SignedOutAt  *time.Time     `json:"signed_out_at,omitempty" doc:"When the carrier last ended all tokens and sessions; left out: never"`
	Routes       []courierRoute `json:"routes" doc:"Of these days"`

	BudgetCleared []clearingAnswer `json:"budget_cleared,omitempty" doc:"When the budget of wrong codes was cleared, by whom and why; to the operator alone"`
}

type clearingAnswer struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who" doc:"A person: a pseudonym, as in the log"`
	Reason string    `json:"reason"`
}

type courierRoute struct {
	RouteID string `json:"route_id"`
	Date    string `json:"date" format:"date"`
}

type courierRecordOutput struct{ Body courierRecord }

func (a *carrierRoutes) getCourier(ctx context.Context, in *courierPath) (*courierRecordOutput, error) {
	if !mayRun(principal(ctx), in.Carrier.id) {
		return nil, problemOfCode(codeCourierUnknown) // without looking, as in getRoute
	}
	c, err := a.couriers.Courier(ctx, handoff.CourierRef{Carrier: in.Carrier.id, ID: in.Courier.id})
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, problemOfCode(codeCourierUnknown)
	}
	answer := courierRecord{CarrierID: c.Carrier, CourierID: c.ID, Name: c.Name, Suspended: c.Suspended, SignedOutAt: timeOf(c.SignedOut), Routes: make([]courierRoute, len(c.Drives))}
	if c.ClearedUntil != 0 {
		until := c.ClearedUntil.Time()
		answer.ClearedUntil = &until
	}
	if principal(ctx).Has(auth.Ops) {
		clearings, err := a.couriers.Clearings(ctx, c.CourierRef)
		if err != nil {
			return nil, err
		}
		for _, said := range clearings {
			answer.BudgetCleared = append(answer.BudgetCleared, clearingAnswer{At: said.At.Time(), Who: said.Who, Reason: said.Reason})
		}
	}
	for i, d := range c.Drives {
		answer.Routes[i] = courierRoute{RouteID: d.Route, Date: d.Day.String()}
	}
	slices.SortFunc(answer.Routes, func(x, y courierRoute) int {
		return cmp.Or(cmp.Compare(x.Date, y.Date), cmp.Compare(x.RouteID, y.RouteID))
	})
	return &courierRecordOutput{Body: answer}, nil
}
