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

// disputeRoutes are the routes of a customer's word against a recorded handoff: the customer
// says it and may withdraw it, the shop and the duty officer read what is on record, and the
// duty officer decides.
type disputeRoutes struct {
	service   *service.Service
	customers *customerRoutes
	clock     clock.Clock
}

func (a *disputeRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "dispute", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/dispute",
		Errors:  []int{http.StatusConflict},
		Summary: "Say that the recorded handoff did not happen", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
		Description: "Once for each handoff. Everything about the parcel stops, and the shop and the duty officer are told at once, as the event disputed. The duty officer decides by decide_by; the shop cannot end it.",
	}, []auth.Scope{auth.Customer}, a.dispute)
	route(r, huma.Operation{
		OperationID: "withdraw-dispute", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/dispute/withdraw",
		Errors:  []int{http.StatusConflict, http.StatusForbidden},
		Summary: "Agree that the handoff happened after all", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
		Description: "The same handoff cannot be disputed again. Takes the customer in person: a session that a shop's link began is refused (person-required), since the shop could have begun it itself.",
	}, []auth.Scope{auth.Customer}, a.withdraw)
	route(r, huma.Operation{
		OperationID: "get-dispute", Method: http.MethodGet, Path: "/v1/dispatches/{grant_id}/dispute",
		Summary: "What the customer says of the handoff, and what is on record of it", Tags: []string{"Warehouse"},
		Description: "A parcel of which no handoff is disputed answers 409 no-dispute.",
		Errors:      []int{http.StatusConflict},
	}, []auth.Scope{auth.Shop, auth.Ops}, a.show)
	route(r, huma.Operation{
		OperationID: "settle-dispute", Method: http.MethodPost, Path: "/v1/dispatches/{grant_id}/dispute/settle", DefaultStatus: http.StatusOK,
		Errors:  []int{http.StatusConflict, http.StatusForbidden},
		Summary: "Decide whether the handoff happened", Tags: []string{"Operation"},
		Description: "For the duty officer, with a reason; takes a person's own token, not a key. The parcel stays handed over or collected in both cases, and the customer is mailed. Where it was not received, a new dispatch for a later day makes a new grant.",
	}, []auth.Scope{auth.Ops}, a.settle)
}

// disputeShort is a dispute as its customer sees it.
type disputeShort struct {
	Status   string     `json:"status" enum:"open,withdrawn,handed-over,not-received" doc:"Open until the customer withdraws it or the duty officer decides"`
	Since    time.Time  `json:"since"`
	DecideBy time.Time  `json:"decide_by" doc:"Until when the duty officer is to decide. Nothing ends by itself then"`
	EndedAt  *time.Time `json:"ended_at,omitempty"`
}

func disputeOf(g *handoff.Grant, limits handoff.Limits) *disputeShort {
	d := g.Dispute
	if d == nil {
		return nil
	}
	answer := &disputeShort{Status: "open", Since: d.At.Time(), DecideBy: d.DecideBy(limits)}
	if !d.Open() {
		answer.Status, answer.EndedAt = d.Ruling.String(), timeOf(d.EndedAt)
	}
	return answer
}

// disputeAnswer is a dispute as those see it who answer for it.
type disputeAnswer struct {
	_ struct{} `additionalProperties:"true"`

	GrantID  string          `json:"grant_id"`
	Dispute  disputeShort    `json:"dispute"`
	Reason   string          `json:"reason,omitempty" doc:"In the customer's words"`
	Decision string          `json:"decision,omitempty" doc:"Why it was decided so, in the duty officer's words"`
	Evidence disputeEvidence `json:"evidence"`
}

// disputeEvidence is what is on record of the handoff.
type disputeEvidence struct {
	_ struct{} `additionalProperties:"true"`

	HandedOverAt time.Time `json:"handed_over_at"`
	CourierID    string    `json:"courier_id,omitempty" doc:"Left out: two people of the shop released it by hand"`
	DistanceM    int       `json:"distance_m" doc:"From the address, by the courier's device, rounded to ten; 0 too where no place was asked for"`
	ParcelIDs    []string  `json:"parcel_ids,omitempty" doc:"Of several parcels all that were handed over; the rest is of the newest handoff"`
	CodeIssue    uint64    `json:"code_issue,omitempty,omitzero" doc:"Which of the parcel's codes was entered, counted as in events; left out where none was asked for"`
}

type disputeOutput struct{ Body disputeAnswer }

func (a *disputeRoutes) dispute(ctx context.Context, in *reasonInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.service.Dispute(ctx, customerOf(principal(ctx)), id, in.Body.value)
	return a.customers.handoffOutput(ctx, g, err)
}

func (a *disputeRoutes) withdraw(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.service.WithdrawDispute(ctx, customerOf(principal(ctx)), id)
	return a.customers.handoffOutput(ctx, g, err)
}

func (a *disputeRoutes) show(ctx context.Context, in *grantInput) (*disputeOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	r, err := a.service.Record(ctx, ofShopOrOps(ctx), id)
	if err != nil {
		return nil, err
	}
	return a.output(&r)
}

// output tells of a dispute. The handoff that it is about stands as long as the dispute is kept.
func (a *disputeRoutes) output(r *service.Record) (*disputeOutput, error) {
	g := &r.Grant
	short := disputeOf(g, a.service.Policy().Limits)
	if short == nil || g.Handoff == nil {
		return nil, &handoff.Refusal{Reason: handoff.NoDispute}
	}
	out := &disputeOutput{Body: disputeAnswer{
		GrantID: g.ID.String(), Dispute: *short,
		Reason: r.NoteOf(handoff.DisputeHandoff, g.Dispute.At), Decision: r.NoteOf(handoff.SettleDispute, g.Dispute.EndedAt),
		Evidence: disputeEvidence{
			HandedOverAt: g.Handoff.At.Time(), CourierID: g.Handoff.Courier, DistanceM: g.Handoff.Distance, CodeIssue: g.Dispute.Issue,
		},
	}}
	if g.Group != nil {
		out.Body.Evidence.ParcelIDs = g.HandedOver()
	}
	return out, nil
}

type settleInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Body  body[settleRequest, settlement, *settleRequest]
}

func (a *disputeRoutes) settle(ctx context.Context, in *settleInput) (*disputeOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	by := opsOf(principal(ctx))
	if _, err := a.service.SettleDispute(ctx, by, id, in.Body.value.ruling, in.Body.value.reason); err != nil {
		return nil, err
	}
	r, err := a.service.Record(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return a.output(&r)
}
