package api

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/receipt"
	"latchkey/handoff/service"
)

// receiptRoutes are the routes of signed receipts: for all who took part in a handoff, and the
// keys for everybody.
type receiptRoutes struct {
	service *service.Service
	keys    *receipt.Keys // nil: no receipts are given
}

func (a *receiptRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "receipt-keys", Method: http.MethodGet, Path: "/v1/receipts/keys",
		Summary: "The keys that sign receipts", Tags: []string{"Receipt"},
		Description: "A JWK Set (RFC 7517) of Ed25519 keys (RFC 8037): the one that signs first, then those that did before, whose receipts still verify. Needs no token.",
	}, public, a.published)
	document := r.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[receiptDocument](), true, "ReceiptDocument")
	route(r, huma.Operation{
		OperationID: "get-receipt", Method: http.MethodGet, Path: "/v1/receipts/{receipt_id}", Errors: []int{http.StatusGone},
		Summary: "The signed receipt of a handoff", Tags: []string{"Receipt"},
		Description: "For the customer, the shop, the carrier, the courier who made the handoff, and the operator; to others it does not exist. It names no customer, and no address. " +
			"It is derived from what is on record, and signed anew each time: the same record gives the same bytes, and what a door reports later stands in a later copy. A handoff that was taken back answers 410. " +
			"Accept: application/cose gives the signed bytes alone. docs/receipts.md describes them.",
		Responses: map[string]*huma.Response{"200": {Description: "The receipt", Content: map[string]*huma.MediaType{
			fiber.MIMEApplicationJSON: {Schema: document},
			receipt.MediaType:         {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}},
	}, []auth.Scope{auth.Customer, auth.Shop, auth.Carrier, auth.Courier, auth.Ops}, a.receipt)
}

type receiptKeysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		_    struct{}    `additionalProperties:"true"`
		Keys []keyAnswer `json:"keys"`
	}
}

func (a *receiptRoutes) published(context.Context, *struct{}) (*receiptKeysOutput, error) {
	if a.keys == nil {
		return nil, problemOfCode(codeNoReceipts)
	}
	out := &receiptKeysOutput{CacheControl: "public, max-age=60"}
	for _, k := range a.keys.Publish() {
		out.Body.Keys = append(out.Body.Keys, keyAnswerOf(k.String(), k.ID().String()))
	}
	return out, nil
}

// receiptDocument is a receipt that people can read, with the bytes that are signed.
type receiptDocument struct {
	_ struct{} `additionalProperties:"true"`

	ReceiptID string        `json:"receipt_id" example:"9f1c02a7d54be3809f1c02a7-1-h1"`
	GrantID   string        `json:"grant_id"`
	ShopID    string        `json:"shop_id"`
	CarrierID string        `json:"carrier_id"`
	Act       string        `json:"act" enum:"release,collect"`
	ByHand    bool          `json:"by_hand" doc:"Two people of the shop released it, without courier and code"`
	ParcelIDs []string      `json:"parcel_ids"`
	At        time.Time     `json:"at" doc:"By the service's clock"`
	DistanceM *int          `json:"distance_m,omitempty" doc:"From the address, by the courier's device, rounded to ten meters; left out where no place was asked for"`
	Courier   string        `json:"courier,omitempty" doc:"The courier's pseudonym; left out of a release by hand"`
	CodeIssue uint64        `json:"code_issue,omitempty,omitzero" doc:"Which of the parcel's codes was entered, counted as in events; left out where none was asked for"`
	Doors     []receiptDoor `json:"doors" doc:"Doors on the way that reported something, oldest first"`
	COSE      string        `json:"cose" doc:"What is signed, base64url: a COSE_Sign1 (RFC 9052). It counts; the fields beside it are to read"`
}

type receiptDoor struct {
	DoorID   string    `json:"door_id"`
	Kind     string    `json:"kind" enum:"lobby,gate,garage,home"`
	PermitID string    `json:"permit_id"`
	State    string    `json:"state" enum:"delivered,confirmed,opened,relocked,failed,refused" doc:"What the door said last"`
	At       time.Time `json:"at" doc:"When it came to that state"`
}

type receiptInput struct {
	Receipt pathID `path:"receipt_id" doc:"As verify answered"`
}

// receiptReader is who asks for a receipt.
func receiptReader(p *auth.Principal) handoff.Actor {
	has := func(s auth.Scope) bool { return p.Has(s) && complete(p, s) }
	switch {
	case has(auth.Shop):
		return shopOf(p)
	case has(auth.Carrier):
		return handoff.Actor{Role: handoff.RoleCarrier, Carrier: p.Carrier}
	case has(auth.Courier):
		return handoff.Actor{Role: handoff.RoleCourier, Carrier: p.Carrier, Courier: p.Subject}
	case has(auth.Ops):
		return opsOf(p)
	}
	return customerOf(p)
}

func (a *receiptRoutes) receipt(ctx context.Context, in *receiptInput) (*huma.StreamResponse, error) {
	if a.keys == nil {
		return nil, problemOfCode(codeNoReceipts)
	}
	id, err := handoff.ParseReceiptID(in.Receipt.id)
	if err != nil {
		return nil, err
	}
	r, err := a.service.Receipt(ctx, receiptReader(principal(ctx)), id)
	if err != nil {
		return nil, err
	}
	signed, err := a.keys.Sign(&r)
	if err != nil {
		return nil, err
	}
	readable, err := json.Marshal(receiptDocumentOf(&r, signed))
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		c := humafiber.Unwrap(h)
		media, body := fiber.MIMEApplicationJSON, readable
		if c.Accepts(fiber.MIMEApplicationJSON, "application/cose") == "application/cose" {
			media, body = receipt.MediaType, signed
		}
		c.Append(fiber.HeaderVary, fiber.HeaderAccept)
		c.Set(fiber.HeaderContentType, media)
		c.Context().SetBody(body)
	}}, nil
}

func receiptDocumentOf(r *handoff.Receipt, signed []byte) *receiptDocument {
	doc := &receiptDocument{
		ReceiptID: r.ID.String(), GrantID: r.ID.Grant.String(), ShopID: r.Shop, CarrierID: r.Carrier, Act: r.Purpose.Act().String(),
		ByHand: r.Courier == "", ParcelIDs: r.Parcels, At: r.At.Time(), Courier: r.Courier, CodeIssue: r.CodeIssue,
		Doors: []receiptDoor{}, COSE: base64url.EncodeToString(signed),
	}
	if r.Placed {
		doc.DistanceM = &r.Distance
	}
	for _, u := range r.Doors {
		doc.Doors = append(doc.Doors, receiptDoor{
			DoorID: u.Door, Kind: u.Target.String(), PermitID: u.Permit.String(), State: u.State.String(), At: u.Since.Time(),
		})
	}
	return doc
}
