package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// customer are the routes of the recipient, and of the shop on the recipient's behalf.
func (a *api) customer() {
	either := []auth.Scope{auth.Customer, auth.Shop}
	route(a, huma.Operation{
		OperationID: "customer-handoffs", Method: http.MethodGet, Path: "/v1/customers/{customer_id}/handoffs",
		Summary: "A customer's parcels", Tags: []string{"Customer"}, Description: "The one that ends last comes first. Where there may be more, next is the cursor of the next page, which may be shorter or empty.",
	}, either, a.handoffs)
	route(a, huma.Operation{
		OperationID: "get-handoff", Method: http.MethodGet, Path: "/v1/handoffs/{grant_id}",
		Summary: "One parcel, its code and its history", Tags: []string{"Customer"},
	}, either, a.handoff)
	route(a, huma.Operation{
		OperationID: "resend-code", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/resend",
		Summary: "Mail the same code again", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
	}, either, a.resend)
	route(a, huma.Operation{
		OperationID: "reissue-code", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/reissue",
		Summary: "A new code; the old one counts no longer", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
	}, either, a.reissue)
	route(a, huma.Operation{
		OperationID: "consent", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/consent",
		Summary: "Agree to a garage or home being opened, or no longer", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
		Description: "Sets the whole list. What was used cannot be taken back.",
	}, []auth.Scope{auth.Customer}, a.consent)
}

// asActor is the shop for a shop's token, and else the customer.
func asActor(p *auth.Principal) handoff.Actor {
	if p.Has(auth.Shop) {
		return shopOf(p)
	}
	return handoff.Actor{Role: handoff.RoleCustomer, Shop: p.Shop, Customer: p.Subject, Subject: p.Identity()}
}

// handoffAnswer is a grant as its customer sees it.
type handoffAnswer struct {
	_ struct{} `additionalProperties:"true"`

	GrantID      string           `json:"grant_id"`
	ParcelID     string           `json:"parcel_id"`
	OrderID      string           `json:"order_id,omitempty"`
	CarrierID    string           `json:"carrier_id"`
	Status       string           `json:"status" enum:"active,released,collected,recalled,expired,held"`
	Purpose      string           `json:"purpose" enum:"delivery,return_pickup"`
	CodeRequired bool             `json:"code_required"`
	Code         *string          `json:"code" nullable:"true" doc:"Six digits, while they count; else null, and code_state says why"`
	CodeState    string           `json:"code_state" enum:"active,locked,used,void,none"`
	ValidFrom    time.Time        `json:"valid_from"`
	ValidUntil   time.Time        `json:"valid_until"`
	AttemptsLeft int              `json:"attempts_left" doc:"Wrong codes that are still let pass"`
	ResendsLeft  int              `json:"resends_left"`
	ReissuesLeft int              `json:"reissues_left"`
	Destination  destinationShort `json:"destination"`
	Handoff      *handoffShort    `json:"handoff,omitempty" doc:"Once the parcel changed hands"`
	Consents     []string         `json:"consents" enum:"garage,home" doc:"Which doors of the customer's own may be opened"`
	Unlocks      []unlockShort    `json:"unlocks" doc:"Doors opened, or meant to be, for this parcel; oldest first"`
	History      []historyShort   `json:"history" doc:"Oldest first"`
}

type destinationShort struct {
	Kind       string   `json:"kind" enum:"residence,business,pickup_point,locker,po_box"`
	Lines      []string `json:"lines"`
	Unit       string   `json:"unit,omitempty"`
	PostalCode string   `json:"postal_code,omitempty"`
	City       string   `json:"city"`
	Country    string   `json:"country"`
	TimeZone   string   `json:"time_zone"`
}

type handoffShort struct {
	At      time.Time `json:"at"`
	Courier string    `json:"courier,omitempty" doc:"The courier's display name"`
}

type unlockShort struct {
	DoorID string    `json:"door_id"`
	Kind   string    `json:"kind" enum:"lobby,gate,garage,home"`
	State  string    `json:"state" enum:"authorised,delivered,confirmed,opened,relocked,failed,refused,no-answer" doc:"What the door itself said, and no more"`
	At     time.Time `json:"at" doc:"When it came to that state"`
}

type historyShort struct {
	Type   string    `json:"type" example:"dispatched"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty" doc:"Why a code was refused"`
}

// The states of a code.
const (
	codeActive = "active" // it counts
	codeLocked = "locked" // too many wrong guesses
	codeUsed   = "used"   // the parcel changed hands
	codeVoid   = "void"   // recalled, held, or its time is over
	codeNone   = "none"   // this parcel needs none
)

func codeState(g *handoff.Grant, status handoff.Status, limits handoff.Limits) string {
	switch {
	case !g.CodeRequired():
		return codeNone
	case status == handoff.Released, status == handoff.Collected:
		return codeUsed
	case status != handoff.Active:
		return codeVoid
	case g.Code.Locked(limits):
		return codeLocked
	}
	return codeActive
}

func (a *api) handoffAnswer(g *handoff.Grant, courierName string) handoffAnswer {
	d, limits, status := &g.Dispatch, a.Service.Policy().Limits, g.StatusAt(a.Clock.Now())
	answer := handoffAnswer{
		GrantID: g.ID.String(), ParcelID: d.Parcel, OrderID: d.Order, CarrierID: d.Carrier, Status: status.String(),
		Purpose: d.Purpose.String(), CodeRequired: g.CodeRequired(), CodeState: codeState(g, status, limits),
		ValidFrom: g.Window.From.Time(), ValidUntil: g.Window.Until.Time(),
		Destination: destinationShort{
			Kind: d.To.Kind.String(), Lines: d.To.Lines, Unit: d.To.Unit, PostalCode: d.To.Postal,
			City: d.To.City, Country: d.To.Country, TimeZone: d.To.Zone,
		},
		Consents: make([]string, len(g.Consents)), Unlocks: make([]unlockShort, len(g.Unlocks)),
		History: make([]historyShort, len(g.History)),
	}
	for i, kind := range g.Consents {
		answer.Consents[i] = kind.String()
	}
	for i, u := range g.Unlocks {
		answer.Unlocks[i] = unlockShort{DoorID: u.Door, Kind: u.Target.String(), State: u.State.String(), At: u.Since.Time()}
	}
	if answer.CodeRequired {
		answer.AttemptsLeft = max(0, min(limits.CodeTries-g.Code.Wrong, limits.GrantTries-g.Code.TotalWrong))
		answer.ResendsLeft = max(0, limits.Resends-g.Code.Resends)
		answer.ReissuesLeft = max(0, limits.Reissues-g.Code.Reissues)
	}
	if answer.CodeState == codeActive {
		code := g.CurrentCode().Reveal()
		answer.Code = &code
	}
	if g.Handoff != nil {
		answer.Handoff = &handoffShort{At: g.Handoff.At.Time(), Courier: courierName}
	}
	for i, h := range g.History {
		answer.History[i] = historyShort{Type: h.Type.String(), At: h.At.Time(), Reason: string(h.Reason)}
	}
	return answer
}

type handoffOutput struct{ Body handoffAnswer }

func (a *api) handoffOutput(ctx context.Context, g handoff.Grant, err error) (*handoffOutput, error) {
	if err != nil {
		return nil, err
	}
	name, err := a.courierName(ctx, &g)
	if err != nil {
		return nil, err
	}
	return &handoffOutput{Body: a.handoffAnswer(&g, name)}, nil
}

// courierName is the display name of who took part in the handoff, if there was one.
func (a *api) courierName(ctx context.Context, g *handoff.Grant) (string, error) {
	if g.Handoff == nil {
		return "", nil
	}
	c, err := a.Registry.Courier(ctx, handoff.CourierRef{Carrier: g.Dispatch.Carrier, ID: g.Handoff.Courier})
	if err != nil || c == nil {
		return "", err
	}
	return c.Name, nil
}

func (a *api) handoff(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.Service.Grant(ctx, asActor(principal(ctx)), id)
	return a.handoffOutput(ctx, g, err)
}

func (a *api) resend(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.Service.Resend(ctx, asActor(principal(ctx)), id)
	return a.handoffOutput(ctx, g, err)
}

func (a *api) reissue(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.Service.Reissue(ctx, asActor(principal(ctx)), id)
	return a.handoffOutput(ctx, g, err)
}

type consentInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Body  body[consentRequest, []handoff.TargetKind, *consentRequest]
}

func (a *api) consent(ctx context.Context, in *consentInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: p.Shop, Customer: p.Subject, Subject: p.Identity()}
	g, err := a.Service.Consent(ctx, by, id, in.Body.value)
	return a.handoffOutput(ctx, g, err)
}

type handoffsInput struct {
	Customer pathID    `path:"customer_id"`
	Limit    pageLimit `query:"limit" doc:"Of one page; 2000 if left out"`
	Cursor   cursor    `query:"cursor" doc:"The next of the page before"`
}

// pageLimit is how many entries of a list are asked for at most; zero: all that one page
// can hold.
type pageLimit struct{ n int }

const longestPage = 2000

// UnmarshalText holds the limit to the rule.
func (l *pageLimit) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > longestPage {
		return errors.New("must be between 1 and 2000")
	}
	l.n = n
	return nil
}

// Schema documents the rule.
func (*pageLimit) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, float64(longestPage)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}
}

// cursor is a place in a list. To callers it is opaque.
type cursor struct{ handoff.Listed }

const cursorPattern = "^[0-9]{1,12}-[0-9a-f]{24}$"

// UnmarshalText reads what an earlier page gave out as next.
func (c *cursor) UnmarshalText(text []byte) (err error) {
	var ok bool
	if c.Listed, ok = handoff.ParseListed(string(text)); !ok {
		err = errors.New("must be the next of another page")
	}
	return err
}

// Schema documents the rule.
func (*cursor) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: cursorPattern}
}

type handoffsAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Handoffs []handoffAnswer `json:"handoffs"`
	Next     string          `json:"next,omitempty" doc:"The cursor of the next page; absent at the end"`
}

type handoffsOutput struct{ Body handoffsAnswer }

func (a *api) handoffs(ctx context.Context, in *handoffsInput) (*handoffsOutput, error) {
	by := asActor(principal(ctx))
	if by.Role == handoff.RoleCustomer && by.Customer != in.Customer.id {
		return nil, problemOfCode(codeCustomerUnknown) // whether there is such a customer stays untold
	}
	grants, next, err := a.Service.OfCustomer(ctx, handoff.CustomerRef{Shop: by.Shop, ID: in.Customer.id}, in.Cursor.Listed, cmp.Or(in.Limit.n, longestPage))
	if err != nil {
		return nil, err
	}
	answers, names := make([]handoffAnswer, len(grants)), map[handoff.CourierRef]string{}
	for i := range grants {
		g := &grants[i]
		var name string
		if g.Handoff != nil {
			ref := handoff.CourierRef{Carrier: g.Dispatch.Carrier, ID: g.Handoff.Courier}
			known := false
			if name, known = names[ref]; !known {
				if name, err = a.courierName(ctx, g); err != nil {
					return nil, err
				}
				names[ref] = name
			}
		}
		answers[i] = a.handoffAnswer(g, name)
	}
	return &handoffsOutput{Body: handoffsAnswer{Handoffs: answers, Next: next.String()}}, nil
}
