package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/service"
)

// orderRoutes are the route from an order to its parcels, for who is called about one.
type orderRoutes struct {
	service *service.Service
	clock   clock.Clock
}

func (a *orderRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "get-order", Method: http.MethodGet, Path: "/v1/shops/{shop_id}/orders/{order_id}",
		Summary: "An order's parcels of a day", Tags: []string{"Operation"},
		Description: "The newest handoff of each parcel of the order that was dispatched, or moved, to this delivery day. An order that is not known has none. What was erased is not found any more.",
	}, []auth.Scope{auth.Shop, auth.Ops}, a.getOrder)
}

type orderInput struct {
	Shop  pathID `path:"shop_id"`
	Order pathID `path:"order_id"`
	Day   string `query:"delivery_date" format:"date" doc:"Today in UTC, if left out"`
}

type orderOutput struct {
	Body struct {
		_ struct{} `additionalProperties:"true"`

		Handoffs []grantAnswer `json:"handoffs"`
	}
}

// getOrder answers a shop for another's order, without looking, what it answers for one
// that does not exist.
func (a *orderRoutes) getOrder(ctx context.Context, in *orderInput) (*orderOutput, error) {
	day := handoff.DateOf(a.clock.Now().UTC())
	if in.Day != "" {
		var err error
		if day, err = handoff.ParseDate(in.Day); err != nil {
			return nil, invalid(violations{{Location: "query.delivery_date", Message: handoff.ErrDate.Error()}})
		}
	}
	out := new(orderOutput)
	out.Body.Handoffs = []grantAnswer{}
	if p := principal(ctx); !p.Has(auth.Ops) && p.Shop != in.Shop.id {
		return out, nil
	}
	grants, err := a.service.OfOrder(ctx, in.Shop.id, in.Order.id, day)
	if err != nil {
		return nil, err
	}
	for i := range grants {
		out.Body.Handoffs = append(out.Body.Handoffs, grantAnswerOf(&grants[i], a.clock.Now()))
	}
	return out, nil
}
