package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
)

// customerRoutes are the routes of the recipient, and of the shop on the recipient's behalf.
type customerRoutes struct {
	service  *service.Service
	couriers service.Couriers
	registry *registry.Registry
	links    *identity.PageLinks
	asked    *residents.Directory // who can confirm what a shop's link asks for
	clock    clock.Clock
	log      *slog.Logger

	carrierNames map[string]string // what people call the carriers, by id
}

func (a *customerRoutes) register(r *registrar) {
	either := []auth.Scope{auth.Customer, auth.Shop}
	route(r, huma.Operation{
		OperationID: "customer-handoffs", Method: http.MethodGet, Path: "/v1/customers/{customer_id}/handoffs",
		Summary: "A customer's parcels", Tags: []string{"Customer"}, Description: "The one that ends last comes first. Where there may be more, next is the cursor of the next page, which may be shorter or empty.",
	}, either, a.handoffs)
	route(r, huma.Operation{
		OperationID: "get-handoff", Method: http.MethodGet, Path: "/v1/handoffs/{grant_id}",
		Summary: "One parcel, its code and its history", Tags: []string{"Customer"},
	}, either, a.handoff)
	route(r, huma.Operation{
		OperationID: "resend-code", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/resend",
		Errors:  []int{http.StatusConflict, http.StatusGone, http.StatusLocked},
		Summary: "Mail the same code again", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
	}, either, a.resend)
	route(r, huma.Operation{
		OperationID: "reissue-code", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/reissue",
		Errors:  []int{http.StatusConflict, http.StatusGone, http.StatusLocked},
		Summary: "A new code; the old one counts no longer", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
	}, either, a.reissue)
	route(r, huma.Operation{
		OperationID: "consent", Method: http.MethodPost, Path: "/v1/handoffs/{grant_id}/consent",
		Errors:  []int{http.StatusConflict, http.StatusGone},
		Summary: "Agree to a garage or home being opened, or no longer", Tags: []string{"Customer"}, DefaultStatus: http.StatusOK,
		Description: "Sets the whole list. What was used cannot be taken back. In a session that a shop's link began nothing is added at once: the residents of the door's unit, who confirmed their address, are mailed (confirmation-sent), and the door stays closed until one of them agrees; where there is none it is refused (no-confirmed-address). What is taken back counts at once.",
	}, []auth.Scope{auth.Customer}, a.consent)
	route(r, huma.Operation{
		OperationID: "page-link", Method: http.MethodPost, Path: "/v1/customers/{customer_id}/page-link",
		Summary: "A link that lets one customer in", Tags: []string{"Customer"}, DefaultStatus: http.StatusCreated,
		Description: "For a shop that has an account page of its own: it sends its customer, who is signed in there, on to ours. The link holds for five minutes and once. Make it when the customer asks for it, and send it to no one else.",
	}, []auth.Scope{auth.Shop}, a.pageLink)
}

// asActor is the shop for a shop's token, and else the customer.
func asActor(p *auth.Principal) handoff.Actor {
	if p.Has(auth.Shop) {
		return shopOf(p)
	}
	return customerOf(p)
}

// customerOf is the customer of a token or a session. One whom a shop's link let in is marked
// so, and is taken for no person: the shop could have opened the link.
func customerOf(p *auth.Principal) handoff.Actor {
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: p.Shop, Customer: p.Subject, Subject: p.Identity(), Person: isPerson(p)}
	if p.Link != nil {
		by.Person, by.Link = false, p.Link.Who
	}
	return by
}

// handoffAnswer is a grant as its customer sees it.
type handoffAnswer struct {
	_ struct{} `additionalProperties:"true"`

	GrantID      string           `json:"grant_id"`
	ParcelID     string           `json:"parcel_id" doc:"Of several the first, by its id"`
	Parcels      []parcelAnswer   `json:"parcels,omitempty" doc:"Of parcels that arrive together: how each stands. One code is for all that are still to come"`
	OrderID      string           `json:"order_id,omitempty"`
	CarrierID    string           `json:"carrier_id"`
	CarrierName  string           `json:"carrier_name,omitempty" doc:"What people call the carrier, where the service knows"`
	Status       string           `json:"status" enum:"active,released,collected,recalled,expired,held"`
	Purpose      string           `json:"purpose" enum:"delivery,return_pickup"`
	CodeRequired bool             `json:"code_required"`
	Code         *string          `json:"code" nullable:"true" doc:"Six digits, while they count; else null, and code_state says why"`
	CodeState    string           `json:"code_state" enum:"active,locked,used,void,none"`
	DeliveryDate string           `json:"delivery_date" format:"date" example:"2026-11-24"`
	ValidFrom    time.Time        `json:"valid_from"`
	ValidUntil   time.Time        `json:"valid_until"`
	AttemptsLeft int              `json:"attempts_left" doc:"Wrong codes that are still let pass"`
	ResendsLeft  int              `json:"resends_left"`
	ReissuesLeft int              `json:"reissues_left" doc:"New codes that can still be asked for; none where too many wrong ones were tried for good"`
	Journey      journeyShort     `json:"journey"`
	Destination  destinationShort `json:"destination"`
	Handoff      *handoffShort    `json:"handoff,omitempty" doc:"Once the parcel changed hands; of several parcels the newest"`
	Earlier      []handoffShort   `json:"earlier_handoffs,omitempty" doc:"Of several parcels the handoffs before, oldest first, without the courier's name"`
	Consents     []string         `json:"consents" enum:"garage,home" doc:"Which doors of the customer's own may be opened"`
	Unlocks      []unlockShort    `json:"unlocks" doc:"Doors opened, or meant to be, for this parcel; oldest first"`
	OwnDoors     []ownDoorShort   `json:"own_doors,omitempty" doc:"The customer's own doors on the way, for which consent is asked. Not in lists"`
	History      []historyShort   `json:"history" doc:"Oldest first"`
	Disputable   bool             `json:"disputable" doc:"Whether the customer can still say that the recorded handoff did not happen"`
	Dispute      *disputeShort    `json:"dispute,omitempty" doc:"Where the customer said so"`
	MailFailed   bool             `json:"mail_failed,omitempty" doc:"The mail with the newest code did not reach the customer"`
	ShopContact  string           `json:"shop_contact,omitempty" doc:"How the customer reaches the shop's people, where policy says"`
}

// journeyShort is where the parcel is in its day, each step once it is known.
type journeyShort struct {
	LeftWarehouseAt *time.Time `json:"left_warehouse_at,omitempty"`
	OutForDelivery  bool       `json:"out_for_delivery" doc:"Its day has begun, and its route has a courier"`
	AtDoorAt        *time.Time `json:"at_door_at,omitempty" doc:"The courier was first at the address: let through a door there, or trying a code"`
	HandedOverAt    *time.Time `json:"handed_over_at,omitempty"`
}

type ownDoorShort struct {
	DoorID string `json:"door_id"`
	Kind   string `json:"kind" enum:"garage,home"`
	Agreed bool   `json:"agreed" doc:"The customer's consent, which is for all of their doors of this kind"`
	Used   bool   `json:"used" doc:"It was opened with the consent, which cannot be taken back any more"`

	AskedUntil *time.Time `json:"asked_until,omitempty" doc:"Who came by a shop's link asked for the consent: until when a resident of the unit can agree, by the link in a mail. Left out where none waits"`
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
	Parcels []string  `json:"parcel_ids,omitempty" doc:"Of several parcels those that changed hands then"`
	ByHand  bool      `json:"by_hand,omitempty" doc:"Two people of the shop released it, without courier and code"`
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

	Parcels []string `json:"parcel_ids,omitempty" doc:"Which of several parcels it is about"`
	Left    int      `json:"parcels_left,omitempty,omitzero" doc:"How many of several were still to come after it"`
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

// besides is what an answer says besides the grant.
type besides struct {
	courier string // the display name of who took part in the handoff
	driven  bool   // the route has a courier
	doors   []handoff.Door
}

func (a *customerRoutes) handoffAnswer(g *handoff.Grant, more besides) handoffAnswer {
	now := a.clock.Now()
	d, limits, status := &g.Dispatch, a.service.Policy().Limits, g.StatusAt(now)
	answer := handoffAnswer{
		GrantID: g.ID.String(), ParcelID: d.Parcel, Parcels: parcelsOf(g, now), OrderID: d.Order, CarrierID: d.Carrier, CarrierName: a.carrierNames[d.Carrier], Status: status.String(),
		Purpose: d.Purpose.String(), CodeRequired: g.CodeRequired(), CodeState: codeState(g, status, limits),
		DeliveryDate: g.Day().String(), ValidFrom: g.Window.From.Time(), ValidUntil: g.Window.Until.Time(),
		Journey: journeyOf(g.JourneyAt(now, more.driven)),
		Destination: destinationShort{
			Kind: d.To.Kind.String(), Lines: d.To.Lines, Unit: d.To.Unit, PostalCode: d.To.Postal,
			City: d.To.City, Country: d.To.Country, TimeZone: d.To.Zone,
		},
		Consents: make([]string, len(g.Consents)), Unlocks: make([]unlockShort, len(g.Unlocks)),
		History: make([]historyShort, len(g.History)), Disputable: g.Disputable(), Dispute: disputeOf(g, limits), ShopContact: a.service.Policy().Shops[d.Shop].Contact,
	}
	answer.MailFailed = status == handoff.Active && g.MailKnown(handoff.MailWord{}).Why != ""
	for i, kind := range g.Consents {
		answer.Consents[i] = kind.String()
	}
	for i, u := range g.Unlocks {
		answer.Unlocks[i] = unlockShort{DoorID: u.Door, Kind: u.Target.String(), State: u.State.String(), At: u.Since.Time()}
	}
	if answer.CodeRequired {
		answer.AttemptsLeft = max(0, min(limits.CodeTries-g.Code.Wrong, limits.GrantTries-g.Code.TotalWrong))
		answer.ResendsLeft = max(0, limits.Resends-g.Code.Resends)
		if g.Code.TotalWrong < limits.GrantTries { // else a new code could not be used either
			answer.ReissuesLeft = max(0, limits.Reissues-g.Code.Reissues)
		}
	}
	if answer.CodeState == codeActive {
		code := g.CurrentCode().Reveal()
		answer.Code = &code
	}
	if g.Handoff != nil {
		answer.Handoff = &handoffShort{At: g.Handoff.At.Time(), Courier: more.courier, ByHand: g.Handoff.Courier == "", Parcels: g.Handoff.Parcels}
		for _, h := range g.Handoffs()[:len(g.Handoffs())-1] {
			answer.Earlier = append(answer.Earlier, handoffShort{At: h.At.Time(), ByHand: h.Courier == "", Parcels: h.Parcels})
		}
	}
	waits := g.ConsentAsked(now)
	for i := range more.doors {
		door := &more.doors[i]
		own := ownDoorShort{
			DoorID: door.ID, Kind: door.Kind.String(), Agreed: slices.Contains(g.Consents, door.Kind),
			Used: slices.ContainsFunc(g.Unlocks, func(u handoff.Unlock) bool { return u.Target == door.Kind }),
		}
		if waits != nil && slices.Contains(g.NewConsents(waits.Consents), door.Kind) {
			until := waits.Until()
			own.AskedUntil = &until
		}
		answer.OwnDoors = append(answer.OwnDoors, own)
	}
	for i, h := range g.History {
		answer.History[i] = historyShort{Type: h.Type.String(), At: h.At.Time(), Reason: string(h.Reason), Parcels: h.Parcels, Left: h.Left}
	}
	return answer
}

type handoffOutput struct{ Body handoffAnswer }

func journeyOf(j handoff.Journey) journeyShort {
	return journeyShort{
		LeftWarehouseAt: timeOf(j.Left), OutForDelivery: j.Out, AtDoorAt: timeOf(j.AtDoor), HandedOverAt: timeOf(j.Over),
	}
}

// timeOf is an instant, or nil for never.
func timeOf(i handoff.Instant) *time.Time {
	if i == 0 {
		return nil
	}
	t := i.Time()
	return &t
}

func (a *customerRoutes) handoffOutput(ctx context.Context, g handoff.Grant, err error) (*handoffOutput, error) {
	if err != nil {
		return nil, err
	}
	more, err := a.lookups().besides(ctx, &g)
	if err != nil {
		return nil, err
	}
	if more.doors, err = a.ownDoors(ctx, &g); err != nil {
		return nil, err
	}
	return &handoffOutput{Body: a.handoffAnswer(&g, more)}, nil
}

// lookups reads what stands besides grants, each thing once for a request.
type lookups struct {
	couriers service.Couriers
	clock    clock.Clock
	names    map[handoff.CourierRef]string
	drivers  map[service.RouteRef]string
}

func (a *customerRoutes) lookups() *lookups {
	return &lookups{couriers: a.couriers, clock: a.clock, names: map[handoff.CourierRef]string{}, drivers: map[service.RouteRef]string{}}
}

func (l *lookups) besides(ctx context.Context, g *handoff.Grant) (more besides, err error) {
	if g.Handoff != nil && g.Handoff.Courier != "" {
		ref := handoff.CourierRef{Carrier: g.Dispatch.Carrier, ID: g.Handoff.Courier}
		more.courier, err = remembered(l.names, ref, func() (string, error) {
			c, err := l.couriers.Courier(ctx, ref)
			if err != nil || c == nil {
				return "", err
			}
			return c.Name, nil
		})
	} else if g.StatusAt(l.clock.Now()) == handoff.Active {
		ref := service.RouteRef{Carrier: g.Dispatch.Carrier, Route: g.Route(), Day: g.Day()}
		var driver string
		driver, err = remembered(l.drivers, ref, func() (string, error) { return l.couriers.Driver(ctx, ref) })
		more.driven = driver != ""
	}
	return more, err
}

func remembered[K comparable, V any](known map[K]V, key K, read func() (V, error)) (V, error) {
	if value, there := known[key]; there {
		return value, nil
	}
	value, err := read()
	if err == nil {
		known[key] = value
	}
	return value, err
}

// ownDoors are the doors of the grant's building that are its customer's own and ask for
// consent, while that matters.
func (a *customerRoutes) ownDoors(ctx context.Context, g *handoff.Grant) ([]handoff.Door, error) {
	asks := slices.ContainsFunc(g.Rights, func(r handoff.Right) bool { return r.Proofs.Has(handoff.ProofConsent) })
	if !asks || g.StatusAt(a.clock.Now()) != handoff.Active {
		return nil, nil
	}
	doors, err := doorsOf(ctx, a.registry, g.Dispatch.To.Building)
	return slices.DeleteFunc(doors, func(d handoff.Door) bool {
		return d.Owner == nil || *d.Owner != handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
	}), err
}

// doorsOf are the doors of a building, by id.
func doorsOf(ctx context.Context, r *registry.Registry, building string) (doors []handoff.Door, err error) {
	ids, err := r.Doors(ctx, building)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		d, err := r.Door(ctx, id)
		if err != nil {
			return nil, err
		}
		if d != nil && d.BuildingID == building {
			doors = append(doors, *d)
		}
	}
	return doors, nil
}

func (a *customerRoutes) handoff(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	by := asActor(principal(ctx))
	g, err := a.service.Grant(ctx, by, id)
	if err == nil {
		a.seen(ctx, by, &g)
	}
	return a.handoffOutput(ctx, g, err)
}

// seen notes that the customer, if it is one, sees the newest code, whatever becomes of its mail. The customer is not
// kept from the code where that cannot be noted: the next look may.
func (a *customerRoutes) seen(ctx context.Context, by handoff.Actor, g *handoff.Grant) {
	if err := a.service.MailSeen(ctx, by, g); err != nil {
		a.log.Warn("that a customer saw a code was not noted", "grant", g.ID.String(), "error", err)
	}
}

func (a *customerRoutes) resend(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.service.Resend(ctx, asActor(principal(ctx)), id)
	return a.handoffOutput(ctx, g, err)
}

func (a *customerRoutes) reissue(ctx context.Context, in *grantInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	g, err := a.service.Reissue(ctx, asActor(principal(ctx)), id)
	return a.handoffOutput(ctx, g, err)
}

type consentInput struct {
	Grant pathID `path:"grant_id" doc:"As the dispatch answered"`
	Body  body[consentRequest, []handoff.TargetKind, *consentRequest]
}

func (a *customerRoutes) consent(ctx context.Context, in *consentInput) (*handoffOutput, error) {
	id, err := in.Grant.grant()
	if err != nil {
		return nil, err
	}
	by, kinds := customerOf(principal(ctx)), in.Body.value
	if by.Link == "" {
		g, err := a.service.Consent(ctx, by, id, kinds)
		return a.handoffOutput(ctx, g, err)
	}
	g, err := a.service.Grant(ctx, by, id)
	if err != nil {
		return nil, err
	}
	confirmers, err := a.asked.Confirmers(ctx, &g, g.NewConsents(kinds))
	if err != nil {
		return nil, err
	}
	g, err = a.service.ConsentByLink(ctx, by, id, kinds, len(confirmers) > 0)
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
type cursor struct{ service.Listed }

const cursorPattern = "^[0-9]{1,12}-[0-9a-f]{24}$"

// UnmarshalText reads what an earlier page gave out as next.
func (c *cursor) UnmarshalText(text []byte) (err error) {
	var ok bool
	if c.Listed, ok = service.ParseListed(string(text)); !ok {
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

func (a *customerRoutes) handoffs(ctx context.Context, in *handoffsInput) (*handoffsOutput, error) {
	by := asActor(principal(ctx))
	if by.Role == handoff.RoleCustomer && by.Customer != in.Customer.id {
		return nil, problemOfCode(codeCustomerUnknown) // whether there is such a customer stays untold
	}
	grants, next, err := a.service.OfCustomer(ctx, handoff.CustomerRef{Shop: by.Shop, ID: in.Customer.id}, in.Cursor.Listed, cmp.Or(in.Limit.n, longestPage))
	if err != nil {
		return nil, err
	}
	answers, known := make([]handoffAnswer, len(grants)), a.lookups()
	for i := range grants {
		more, err := known.besides(ctx, &grants[i])
		if err != nil {
			return nil, err
		}
		answers[i] = a.handoffAnswer(&grants[i], more)
	}
	return &handoffsOutput{Body: handoffsAnswer{Handoffs: answers, Next: next.String()}}, nil
}

type pageLinkOutput struct {
	Body struct {
		_ struct{} `additionalProperties:"true"`

		Path      string    `json:"path" example:"/account/link/AAAAAGkkS9A" doc:"Below the address of this service. Opening it lets the visitor in, so it belongs in no log"`
		ExpiresAt time.Time `json:"expires_at"`
	}
}

type customerPath struct {
	Customer pathID `path:"customer_id"`
}

func (a *customerRoutes) pageLink(ctx context.Context, in *customerPath) (*pageLinkOutput, error) {
	p := principal(ctx)
	customer := handoff.CustomerRef{Shop: p.Shop, ID: in.Customer.id}
	if err := a.service.MadeLink(ctx, shopOf(p), customer); err != nil {
		return nil, err
	}
	maker := identity.Maker{Key: p.Key, Issuer: p.Issuer, Who: a.service.Who(shopOf(p))}
	token, until, err := a.links.Make(customer, maker)
	if err != nil {
		return nil, err
	}
	out := new(pageLinkOutput)
	out.Body.Path, out.Body.ExpiresAt = "/account/link/"+token, until
	return out, nil
}
