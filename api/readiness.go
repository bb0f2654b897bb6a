package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/service"
)

// readinessRoutes are the list by which a warehouse pulls parcels whose customers do not have their
// codes, before the van leaves. It tells which parcels are valuable, so it is the shop's own alone.
type readinessRoutes struct {
	service *service.Service
	clock   clock.Clock
}

func (a *readinessRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "readiness", Method: http.MethodGet, Path: "/v1/dispatches",
		Summary: "A route's parcels, and how far the mails with their codes came", Tags: []string{"Warehouse"},
		Description: "The shop's own parcels on a carrier's route on a day, by grant_id. mail is that of the newest code. Where there may be more, next is the cursor of the next page.",
	}, []auth.Scope{auth.Dispatch, auth.Shop}, a.list)
}

type readinessInput struct {
	Carrier string     `query:"carrier_id" format:"id" doc:"Whose route it is. May be left out by a shop with one carrier"`
	Route   string     `query:"route" format:"id" required:"true" example:"BER-042"`
	Day     string     `query:"date" format:"date" required:"true" doc:"The delivery day"`
	Mail    string     `query:"mail" enum:"none,accepted,delivered,failed,seen" doc:"Only parcels whose mail stands so; all if left out"`
	Limit   pageLimit  `query:"limit" doc:"Of one page; 2000 if left out"`
	Cursor  hashCursor `query:"cursor" doc:"The next of the page before"`
}

// hashCursor is a place in a list of parcels by hash. To callers it is opaque.
type hashCursor struct{ hash handoff.ParcelHash }

const hashPattern = "^[0-9a-f]{24}$"

var hashRule = regexp.MustCompile(hashPattern)

// UnmarshalText reads what an earlier page gave out as next.
func (c *hashCursor) UnmarshalText(text []byte) error {
	if len(text) > 0 && !hashRule.Match(text) {
		return errors.New("must be the next of another page")
	}
	c.hash = handoff.ParcelHash(text)
	return nil
}

// Schema documents the rule.
func (*hashCursor) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: hashPattern}
}

// read is the route and the state that are asked for.
func (in *readinessInput) read(shop handoff.ShopPolicy) (r service.RouteRef, state *handoff.MailState, bad violations) {
	wrong := func(name, rule string) { bad = append(bad, violation{Location: "query." + name, Message: rule}) }
	r.Carrier, r.Route = in.Carrier, in.Route
	if r.Carrier == "" && len(shop.Carriers) == 1 {
		r.Carrier = shop.Carriers[0]
	}
	switch {
	case r.Carrier == "":
		wrong("carrier_id", "is needed: the shop has not exactly one carrier")
	case handoff.CheckID(r.Carrier) != nil:
		wrong("carrier_id", handoff.ErrID.Error())
	}
	if handoff.CheckID(r.Route) != nil {
		wrong("route", handoff.ErrID.Error())
	}
	var err error
	if r.Day, err = handoff.ParseDate(in.Day); err != nil {
		wrong("date", handoff.ErrDate.Error())
	}
	if in.Mail != "" {
		s, ok := handoff.ParseMailState(in.Mail)
		if !ok {
			wrong("mail", "must be none, accepted, delivered, failed or seen")
		}
		state = &s
	}
	return r, state, bad
}

// readyAnswer is a parcel, and how far the mail with its code came. It holds no address, no name and
// no code.
type readyAnswer struct {
	_ struct{} `additionalProperties:"true"`

	GrantID      string     `json:"grant_id" example:"0f3b2c1d4e5f60718293a4b5-1"`
	ParcelID     string     `json:"parcel_id"`
	Status       string     `json:"status" enum:"active,released,collected,recalled,expired,held"`
	CodeRequired bool       `json:"code_required"`
	Mail         string     `json:"mail" enum:"none,accepted,delivered,failed,seen" doc:"accepted: the mail server took it. delivered: the recipient's server says that it has it. failed: it was refused, it came back, or no server took it in time. seen: the customer opened the page that shows the code. none: nothing is known yet, or no code is needed"`
	Since        *time.Time `json:"mail_since,omitempty" doc:"When that became known"`
	Why          string     `json:"mail_failed_why,omitempty" enum:"mail-refused,mail-bounced,mail-late" doc:"Why it failed. It stays where the customer saw the code all the same"`
	SMTP         string     `json:"smtp_status,omitempty" example:"5.1.1" doc:"The mail server's enhanced status code (RFC 3463), where it gave one"`
}

type readinessOutput struct {
	Body struct {
		_ struct{} `additionalProperties:"true"`

		Dispatches []readyAnswer `json:"dispatches"`
		Next       string        `json:"next,omitempty" doc:"The cursor of the next page; absent at the end"`
	}
}

func (a *readinessRoutes) list(ctx context.Context, in *readinessInput) (*readinessOutput, error) {
	shop := principal(ctx).Shop
	r, state, bad := in.read(a.service.Policy().Shops[shop])
	if len(bad) > 0 {
		return nil, invalid(bad)
	}
	list, next, err := a.service.Readiness(ctx, shop, r, state, in.Cursor.hash, cmp.Or(in.Limit.n, longestPage))
	if err != nil {
		return nil, err
	}
	out := new(readinessOutput)
	out.Body.Dispatches, out.Body.Next = make([]readyAnswer, len(list)), string(next)
	for i := range list {
		g, mail := &list[i].Grant, list[i].Mail
		out.Body.Dispatches[i] = readyAnswer{
			GrantID: g.ID.String(), ParcelID: g.Dispatch.Parcel, Status: g.StatusAt(a.clock.Now()).String(), CodeRequired: g.CodeRequired(),
			Mail: mail.State.String(), Since: timeOf(mail.At), Why: string(mail.Why), SMTP: mail.Status,
		}
	}
	return out, nil
}
