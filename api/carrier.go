package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// carrier are the routes of a carrier's dispatcher.
func (a *api) carrier() {
	dispatchers := []auth.Scope{auth.Carrier, auth.Ops}
	route(a, huma.Operation{
		OperationID: "assign-route", Method: http.MethodPut, Path: "/v1/routes/{carrier_id}/{route_id}/{date}",
		Summary: "Who drives a route on a day", Tags: []string{"Carrier"},
		Description: "Whoever drove it before does so no longer.", DefaultStatus: http.StatusOK,
	}, dispatchers, a.assignRoute)
	route(a, huma.Operation{
		OperationID: "put-courier", Method: http.MethodPut, Path: "/v1/couriers/{carrier_id}/{courier_id}",
		Summary: "What is known of a courier", Tags: []string{"Carrier"},
		Description: "Fields that are given are set, others stay. A courier who was never cleared is not cleared.", DefaultStatus: http.StatusOK,
	}, dispatchers, a.putCourier)
}

// mayRun reports whether the caller may say something about a carrier.
func mayRun(p *auth.Principal, carrier string) bool {
	return p.Has(auth.Ops) || p.Carrier == carrier
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

func (a *api) assignRoute(ctx context.Context, in *routeInput) (*routeOutput, error) {
	if !mayRun(principal(ctx), in.Carrier.id) {
		return nil, insufficient(auth.Carrier)
	}
	ref := handoff.RouteRef{Carrier: in.Carrier.id, Route: in.Route.id, Day: in.Date.day}
	if err := a.Registry.AssignRoute(ctx, ref, in.Body.value, handoff.InstantOf(a.Clock.Now())); err != nil {
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

func (a *api) putCourier(ctx context.Context, in *courierInput) (*courierOutput, error) {
	p, ref := principal(ctx), handoff.CourierRef{Carrier: in.Carrier.id, ID: in.Courier.id}
	if !mayRun(p, ref.Carrier) {
		return nil, insufficient(auth.Carrier)
	}
	if in.Body.value.clearBudget && !p.Has(auth.Ops) {
		return nil, insufficient(auth.Ops)
	}
	if err := a.Registry.PutCourier(ctx, ref, in.Body.value.CourierUpdate); err != nil {
		return nil, err
	}
	if in.Body.value.clearBudget {
		if err := a.Registry.ClearBudget(ctx, ref); err != nil {
			return nil, err
		}
	}
	return &courierOutput{Body: courierAnswer{CarrierID: ref.Carrier, CourierID: ref.ID}}, nil
}
