package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/service"
)

// warehouseRoutes are the routes of those who send parcels out.
type warehouseRoutes struct {
	service *service.Service
	clock   clock.Clock
}

func (a *warehouseRoutes) register(r *registrar) {
	senders := []auth.Scope{auth.Dispatch, auth.Shop}

	route(r, huma.Operation{
		OperationID: "dispatch", Method: http.MethodPost, Path: "/v1/dispatches", DefaultStatus: http.StatusCreated,
		Errors:  []int{http.StatusConflict},
		Summary: "A parcel left the warehouse", Tags: []string{"Warehouse"},
		Description: "Makes the parcel's grant, or that of several parcels that arrive together: one code and one mail for all of them. The same dispatch sent again answers 200 with the grant that exists, and does nothing.",
	}, senders, a.dispatch)
	made := r.huma.OpenAPI().Paths["/v1/dispatches"].Post.Responses
	made["200"] = &huma.Response{Description: "It was dispatched before", Content: made["201"].Content}
	route(r, huma.Operation{
		OperationID: "get-dispatch", Method: http.MethodGet, Path: "/v1/dispatches/{grant_id}",
		Summary: "How a parcel stands", Tags: []string{"Warehouse"}, Description: "Never the code.",
	}, senders, a.dispatched)
	route(r, huma.Operation{
		OperationID: "reschedule", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/reschedule",
		Errors:  []int{http.StatusConflict},
		Summary: "Another day", Tags: []string{"Warehouse"}, Description: "A parcel that needs a code gets a new one.",
	}, senders, a.reschedule)
	route(r, huma.Operation{
		OperationID: "recall", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/recall",
		Errors:  []int{http.StatusConflict},
		Summary: "Call a parcel back", Tags: []string{"Warehouse"},
		Description: "Of several parcels all that are still there, or those that are named.",
	}, senders, a.recall)
	route(r, huma.Operation{
		OperationID: "hold", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/hold",
		Errors:  []int{http.StatusConflict},
		Summary: "Stop everything until a person decides", Tags: []string{"Warehouse"},
	}, []auth.Scope{auth.Shop, auth.Ops}, a.hold)
	route(r, huma.Operation{
		OperationID: "lift", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/lift",
		Errors:  []int{http.StatusConflict},
		Summary: "Go on as before the hold", Tags: []string{"Warehouse"},
	}, []auth.Scope{auth.Shop, auth.Ops}, a.lift)
	clerks := []auth.Scope{auth.Shop}
	route(r, huma.Operation{
		OperationID: "ask-override", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/override", DefaultStatus: http.StatusOK,
		Errors:  []int{http.StatusConflict},
		Summary: "Ask for a release by hand", Tags: []string{"Warehouse"},
		Description: "When nothing else works. Another person of the shop must approve within the hour. Asked again, the newer wish takes the place of the older. Takes a person's own token, not a key.",
	}, clerks, a.askOverride)
	route(r, huma.Operation{
		OperationID: "approve-override", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/override/approve", DefaultStatus: http.StatusOK,
		Errors:  []int{http.StatusConflict},
		Summary: "Approve a release by hand", Tags: []string{"Warehouse"},
		Description: "Releases the parcel without courier and code, for good: it cannot be taken back. The customer is mailed at once. Takes the token of another person than the one who asked, and the id of the wish where it took the place of another: what is approved is one wish and its reason.",
	}, clerks, a.approveOverride)
}

// grantAnswer is a grant as the warehouse sees it.
type grantAnswer struct {
	_ struct{} `additionalProperties:"true"`

	GrantID      string        `json:"grant_id" example:"0f3b2c1d4e5f60718293a4b5-1"`
	Status       string        `json:"status" enum:"active,released,collected,recalled,expired,held"`
	CodeRequired bool          `json:"code_required"`
	ValidFrom    time.Time     `json:"valid_from"`
	ValidUntil   time.Time     `json:"valid_until"`
	Rights       []rightAnswer `json:"rights"`
	ParcelID     string        `json:"parcel_id" doc:"Of several the first, by its id"`
	CarrierID    string        `json:"carrier_id"`
	RouteID      string        `json:"route_id"`
	DeliveryDate string        `json:"delivery_date" format:"date"`

	Parcels      []parcelAnswer `json:"parcels,omitempty" doc:"Of parcels that arrive together: how each stands"`
	AllOrNothing bool           `json:"all_or_nothing,omitempty,omitzero" doc:"All that are still there are handed over at once, or none: by the dispatch or the shop's policy"`
	Handoffs     []partAnswer   `json:"handoffs,omitempty" doc:"Of parcels that arrive together: the standing handoffs, oldest first"`

	Override *overrideAnswer `json:"override,omitempty" doc:"A release by hand that waits for approval. Shown to the scope shop alone"`

	Warnings []warning `json:"warnings,omitempty" doc:"Of a dispatch: what was read in the safe direction, and should be mended"`
}

// parcelAnswer is one of several parcels.
type parcelAnswer struct {
	ParcelID string `json:"parcel_id" example:"JJD000390007827"`
	Status   string `json:"status" enum:"active,released,collected,recalled,expired,held" doc:"active: it is still to come"`
	Seal     string `json:"seal,omitempty" example:"S-4711" doc:"The number of its seal"`
}

// parcelsOf are those of a grant of several; none for one parcel without a seal.
func parcelsOf(g *handoff.Grant, now time.Time) (all []parcelAnswer) {
	if g.Dispatch.Together == nil {
		return nil
	}
	for _, p := range g.Dispatch.Pieces() {
		all = append(all, parcelAnswer{ParcelID: p.Parcel, Seal: p.Seal, Status: g.StatusOf(p.Parcel, now).String()})
	}
	return all
}

// partAnswer is one handoff of some of several parcels.
type partAnswer struct {
	At        time.Time `json:"at"`
	ParcelIDs []string  `json:"parcel_ids"`
	CourierID string    `json:"courier_id,omitempty" doc:"Left out: two people of the shop released them by hand"`
}

func partsOf(g *handoff.Grant) (all []partAnswer) {
	if g.Group == nil {
		return nil
	}
	for _, h := range g.Handoffs() {
		all = append(all, partAnswer{At: h.At.Time(), ParcelIDs: append([]string{}, h.Parcels...), CourierID: h.Courier})
	}
	return all
}

// warning says what of a dispatch was read in the safe direction. Like a violation, it
// never holds what was sent.
type warning struct {
	Code    string `json:"code" example:"category-unknown" doc:"category-unknown, currency-unknown, amount-ambiguous or position-not-asked"`
	Field   string `json:"field" example:"body.categories[0]" doc:"Where, as in errors"`
	Message string `json:"message" doc:"What that leads to"`
}

// warningsOf are those of a dispatch under a policy.
func warningsOf(policy *handoff.Policy, d *handoff.Dispatch) []warning {
	var all []warning
	for _, w := range policy.Warnings(d) {
		all = append(all, warning{Code: string(w.Code), Field: "body." + w.Field, Message: w.Message})
	}
	return all
}

type overrideAnswer struct {
	ID      string    `json:"override_id" example:"67414a30-0" doc:"Of this wish: it is approved by it. Asked again, it is another one"`
	AskedBy string    `json:"asked_by" example:"8f14e45fceea167a" doc:"A pseudonym: the same for everything that this person does"`
	Own     bool      `json:"own" doc:"Whether the caller asked, and so cannot approve"`
	Reason  string    `json:"reason,omitempty"`
	AskedAt time.Time `json:"asked_at"`
	Until   time.Time `json:"until" doc:"From when on it can no longer be approved"`
}

type rightAnswer struct {
	Act    string   `json:"act" enum:"release,collect,open"`
	Target string   `json:"target" enum:"parcel,lobby,gate,garage,home"`
	Proofs []string `json:"proofs"`
	Uses   int      `json:"uses" doc:"What is left"`

	GivenUp []string `json:"given_up,omitempty" enum:"place" doc:"Proofs that the policy gives up here: place, by allow_without_position, where nothing asks where the code is accepted"`
}

func grantAnswerOf(g *handoff.Grant, now time.Time) grantAnswer {
	return grantAnswer{
		GrantID: g.ID.String(), Status: g.StatusAt(now).String(), CodeRequired: g.CodeRequired(),
		ValidFrom: g.Window.From.Time(), ValidUntil: g.Window.Until.Time(), Rights: rightsOf(g.Rights),
		ParcelID: g.Dispatch.Parcel, CarrierID: g.Dispatch.Carrier, RouteID: g.Route(), DeliveryDate: g.Day().String(),
		Parcels: parcelsOf(g, now), AllOrNothing: g.Group != nil && g.Group.AllOrNothing, Handoffs: partsOf(g),
	}
}

func rightsOf(rights []handoff.Right) []rightAnswer {
	answers := make([]rightAnswer, len(rights))
	for i, r := range rights {
		answers[i] = rightAnswer{Act: r.Act.String(), Target: r.Target.String(), Proofs: r.Proofs.Names(), Uses: r.Uses, GivenUp: r.GivenUp().Names()}
	}
	return answers
}

type grantOutput struct{ Body grantAnswer }

func (a *warehouseRoutes) grantOutput(g handoff.Grant, err error) (*grantOutput, error) {
	if err != nil {
		return nil, err
	}
	return &grantOutput{Body: grantAnswerOf(&g, a.clock.Now())}, nil
}

type dispatchInput struct {
	Body body[dispatchRequest, handoff.Dispatch, *dispatchRequest]
}

type dispatchOutput struct {
	Status int
	Body   grantAnswer
}

func (a *warehouseRoutes) dispatch(ctx context.Context, in *dispatchInput) (*dispatchOutput, error) {
	d := in.Body.value
	d.Shop = principal(ctx).Shop
	g, created, err := a.service.DispatchBy(ctx, ofShop(ctx), d)
	if err != nil {
		return nil, inputProblem(err)
	}
	out := &dispatchOutput{Status: http.StatusOK, Body: grantAnswerOf(&g, a.clock.Now())}
	out.Body.Warnings = warningsOf(a.service.Policy(), &d)
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// grantInput names a grant in a path.
type grantInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
}

// grant reads the id of a grant. One that is none of ours names no grant.
func (id *pathID) grant() (handoff.GrantID, error) {
	grant, err := handoff.ParseGrantID(id.id)
	if err != nil {
		return handoff.GrantID{}, &handoff.Refusal{Reason: handoff.GrantUnknown}
	}
	return grant, nil
}

// ofShop is the actor that a token of a shop, or of its warehouse, stands for.
func ofShop(ctx context.Context) handoff.Actor { return shopOf(principal(ctx)) }

func shopOf(p *auth.Principal) handoff.Actor {
	return handoff.Actor{Role: handoff.RoleShop, Shop: p.Shop, Subject: p.Identity(), Key: p.Key, Person: isPerson(p)}
}

// isPerson reports whether a token is a person's own, and not a key that any holder can show.
func isPerson(p *auth.Principal) bool { return p.Key == "" && p.Subject != "" }

// ofShopOrOps is the shop for a shop's token, and else the operator.
func ofShopOrOps(ctx context.Context) handoff.Actor {
	p := principal(ctx)
	if p.Has(auth.Shop) && complete(p, auth.Shop) {
		return shopOf(p)
	}
	return opsOf(p)
}

func opsOf(p *auth.Principal) handoff.Actor {
	return handoff.Actor{Role: handoff.RoleOps, Subject: p.Identity(), Key: p.Key, Person: isPerson(p)}
}

func (a *warehouseRoutes) dispatched(ctx context.Context, in *grantInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	return a.recordOutput(ctx, id)
}

// recordOutput is a grant with the release by hand that waits for approval, if one does.
func (a *warehouseRoutes) recordOutput(ctx context.Context, id handoff.GrantID) (*grantOutput, error) {
	by := ofShop(ctx)
	r, err := a.service.Record(ctx, by, id)
	if err != nil {
		return nil, err
	}
	g, now, limits := &r.Grant, a.clock.Now(), a.service.Policy().Limits
	out := &grantOutput{Body: grantAnswerOf(g, now)}
	asked := g.OverrideAsked(limits, now)
	if asked == nil || g.StatusAt(now) != handoff.Active || !principal(ctx).Has(auth.Shop) {
		return out, nil
	}
	out.Body.Override = &overrideAnswer{
		ID: asked.ID(), AskedBy: asked.Who, Own: asked.Who == a.service.Who(by), AskedAt: asked.At.Time(), Until: asked.Until(limits),
		Reason: r.NoteOf(handoff.AskOverride, asked.At),
	}
	return out, nil
}

type rescheduleInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Body  body[rescheduleRequest, reschedule, *rescheduleRequest]
}

func (a *warehouseRoutes) reschedule(ctx context.Context, in *rescheduleInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.service.Reschedule(ctx, ofShop(ctx), id, in.Body.value.day, in.Body.value.route)
	if err != nil {
		return nil, inputProblem(err)
	}
	return a.grantOutput(g, nil)
}

type reasonInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Body  body[reasonRequest, string, *reasonRequest]
}

type recallInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Body  body[recallRequest, recall, *recallRequest]
}

func (a *warehouseRoutes) recall(ctx context.Context, in *recallInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	return a.grantOutput(a.service.RecallSome(ctx, ofShop(ctx), id, in.Body.value.parcels, in.Body.value.reason))
}

func (a *warehouseRoutes) hold(ctx context.Context, in *reasonInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	return a.grantOutput(a.service.Hold(ctx, ofShopOrOps(ctx), id, in.Body.value))
}

func (a *warehouseRoutes) lift(ctx context.Context, in *reasonInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	return a.grantOutput(a.service.Lift(ctx, ofShopOrOps(ctx), id, in.Body.value))
}

func (a *warehouseRoutes) askOverride(ctx context.Context, in *reasonInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	if _, err := a.service.AskOverride(ctx, ofShop(ctx), id, in.Body.value); err != nil {
		return nil, err
	}
	return a.recordOutput(ctx, id)
}

type approveInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Wish  string `query:"override_id" maxLength:"40" example:"67414a30-0" doc:"As the override says. Left out: the only one"`
}

func (a *warehouseRoutes) approveOverride(ctx context.Context, in *approveInput) (*grantOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	return a.grantOutput(a.service.Override(ctx, ofShop(ctx), id, in.Wish))
}
