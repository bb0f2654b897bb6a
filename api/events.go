package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/trail"
)

// eventRoutes are the route to the log, for those who run the service.
type eventRoutes struct {
	events eventlog.Reading
	hash   func(carrier, parcel string) handoff.ParcelHash                                  // under which the grants of a parcel are found
	home   func(ctx context.Context, parcel handoff.ParcelHash) (handoff.ParcelHash, error) // of one of several: that of the first
	labels func(carrier, parcel string) ([]string, handoff.Reason)                          // which ids a label may mean; carrier may be empty
}

func (a *eventRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: "/v1/events",
		Summary: "What happened", Tags: []string{"Operation"},
		Description: "The log, oldest first, as CloudEvents 1.0. A reader who follows next from page to page with the same filters gets every event that is kept at least once, those of one grant in their order; " +
			"source and id tell which it has had. Those of different grants come in the order of their times, but for one that was logged after the page was read: it comes later, though its time may be earlier. " +
			"next never ends: where more is false, ask again later and get what was logged since. A page may be empty and have more after it, since each looks at so many events only. " +
			"Events are kept for the retention, and a next that is older goes on with the oldest that is left. " +
			"Nothing in it is a code or personal data: who asked and devices are pseudonyms, the same each time.",
	}, []auth.Scope{auth.Ops}, a.getEvents)
}

type eventsInput struct {
	Type     string `query:"type" example:"code_refused,code_locked" doc:"One or more types, separated by commas"`
	Grant    string `query:"grant" pattern:"^[0-9a-f]{24}-[1-9][0-9]{0,4}$" doc:"A grant_id"`
	Carrier  string `query:"carrier" format:"id"`
	Shop     string `query:"shop" format:"id"`
	Courier  string `query:"courier" format:"id" doc:"Ids of different carriers may be the same: give the carrier, too"`
	Parcel   string `query:"parcel" maxLength:"512" doc:"As its label says. With its carrier it is found soonest"`
	Building string `query:"building" format:"id"`
	From     string `query:"from" format:"date-time" doc:"Of this time or later"`
	To       string `query:"to" format:"date-time" doc:"Before this time"`
	Cursor   string `query:"cursor" doc:"next of the page before"`
	Limit    string `query:"limit" pattern:"^[0-9]{1,3}$" doc:"How many events, 1 to 500; 100 if left out"`
}

const (
	eventLimit = 100
	mostEvents = 500
)

// parse reads the query. Fields that are left out do not filter.
func (in *eventsInput) parse() (f eventlog.Filter, from eventlog.Cursor, limit int, bad violations) {
	wrong := func(name, rule string) {
		bad = append(bad, violation{Location: "query." + name, Message: rule})
	}
	if in.Type != "" {
		for name := range strings.SplitSeq(in.Type, ",") {
			t, ok := handoff.ParseEventType(name)
			if !ok {
				wrong("type", "must be of "+strings.Join(handoff.EventTypes(), ", "))
				break
			}
			f.Types = append(f.Types, t)
		}
	}
	if in.Grant != "" {
		var err error
		if f.Grant, err = handoff.ParseGrantID(in.Grant); err != nil {
			wrong("grant", "must be a grant_id")
		}
	}
	id := func(name, given string) string {
		if given != "" && handoff.CheckID(given) != nil {
			wrong(name, handoff.ErrID.Error())
		}
		return given
	}
	f.Carrier, f.Shop, f.Courier = id("carrier", in.Carrier), id("shop", in.Shop), id("courier", in.Courier)
	f.Building = id("building", in.Building)
	if in.Parcel != "" && handoff.CheckLabel(in.Parcel) != nil {
		wrong("parcel", handoff.ErrLabel.Error())
	}
	date := func(name, given string) time.Time {
		t, ok := instant(given)
		if given != "" && !ok {
			wrong(name, "must be a date-time of RFC 3339 after 1970")
		}
		return t
	}
	f.From, f.To = date("from", in.From), date("to", in.To)
	from, ok := eventlog.ParseCursor(in.Cursor)
	if !ok {
		wrong("cursor", "must be next of the page before")
	}
	limit = eventLimit
	if in.Limit != "" {
		n, err := strconv.Atoi(in.Limit)
		if err != nil || n < 1 || n > mostEvents {
			wrong("limit", "must be between 1 and "+strconv.Itoa(mostEvents))
		}
		limit = n
	}
	return f, from, limit, bad
}

type eventsAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Events []eventAnswer `json:"events"`
	Next   string        `json:"next,omitempty" doc:"For cursor, now or later; left out while nothing was logged"`
	More   bool          `json:"more" doc:"Something follows already"`
}

// eventAnswer is an event in the JSON format of CloudEvents 1.0.
type eventAnswer struct {
	_ struct{} `additionalProperties:"true"`

	SpecVersion string    `json:"specversion" example:"1.0"`
	ID          string    `json:"id" example:"1795511700000-0" doc:"Of the partition; what id says in the audit trail"`
	Source      string    `json:"source" example:"urn:latchkey:log:07" doc:"The partition of the log. Its audit trail is the chain of that name, log:07"`
	Type        string    `json:"type" example:"code_refused" doc:"What happened; unreadable for an event of a version newer than this one"`
	Time        time.Time `json:"time" doc:"When it was decided, by the service's clock"`
	Subject     string    `json:"subject,omitempty" doc:"The grant_id; left out of what belongs to no grant"`
	Data        eventData `json:"data"`
}

// eventData is what an event says. A test holds it to handoff.Event: what is there and
// not here is left out on purpose.
type eventData struct {
	_ struct{} `additionalProperties:"true"`

	Shop    string     `json:"shop_id,omitempty"`
	Carrier string     `json:"carrier_id,omitempty"`
	Parcel  string     `json:"parcel_id,omitempty" doc:"Of several parcels the first of the dispatch"`
	Parcels []string   `json:"parcel_ids,omitempty" doc:"Which of several parcels it is about; of dispatched all of them"`
	Left    int        `json:"parcels_left,omitempty,omitzero" doc:"How many of several parcels are still there after it"`
	All     bool       `json:"all_or_nothing,omitempty,omitzero" doc:"Of dispatched: all that are still there are handed over at once, or none"`
	Route   string     `json:"route_id,omitempty"`
	Courier string     `json:"courier_id,omitempty" doc:"Who stood at the door"`
	By      string     `json:"by,omitempty" example:"customer" doc:"The role of who asked, where it was no courier"`
	Who     string     `json:"who,omitempty" doc:"Who asked, where it was no courier: a pseudonym"`
	Link    string     `json:"link_maker,omitempty" doc:"Who of the shop made the link that let the customer in who asked: a pseudonym like who. Left out where the customer signed in"`
	Device  string     `json:"device,omitempty" doc:"On which device the courier worked: a pseudonym"`
	Claimed *time.Time `json:"claimed_at,omitempty" doc:"When the device says that it was, by its own clock"`
	Changes []string   `json:"changes,omitempty" example:"[\"owner\"]" doc:"Of a door, a building or a courier: what changed, or would, by name; enrolled or removed; suspended or reinstated. Of an API key: made or revoked"`
	APIKey  string     `json:"api_key,omitempty" doc:"By which API key it was asked: its id; left out where a person did"`
	Reason  string     `json:"reason,omitempty" example:"code-mismatch" doc:"Why it was refused; of dispute_settled the ruling; of mail_failed why, and of mail_arrived how far the mail came"`
	Excused bool       `json:"excused,omitempty,omitzero" doc:"The wrong code was no guess: a slip, or an older code. Tell no one who may stand at a door"`
	Count   int        `json:"count,omitempty,omitzero" doc:"How many refusals it stands for; left out: one. Of events_lost: how many events are lost at least"`

	ValidFrom  *time.Time    `json:"valid_from,omitempty"`
	ValidUntil *time.Time    `json:"valid_until,omitempty"`
	Day        string        `json:"delivery_date,omitempty" format:"date"`
	Rights     []rightAnswer `json:"rights,omitempty"`
	Issue      uint64        `json:"issue,omitempty,omitzero" doc:"Which code was given out, or of disputed was entered, or of mail_failed and mail_arrived was mailed, counted; never the code"`
	DistanceM  int           `json:"distance_m,omitempty,omitzero" doc:"From the address or the door, rounded to ten"`

	Building string   `json:"building_id,omitempty"`
	Door     string   `json:"door_id,omitempty"`
	DoorKind string   `json:"door_kind,omitempty"`
	Permit   string   `json:"permit_id,omitempty"`
	Awaited  bool     `json:"awaited,omitempty,omitzero" doc:"The door can answer, and should within 15 seconds"`
	RelockS  int      `json:"relock_s,omitempty,omitzero" doc:"Seconds after which the door locks again"`
	Consents []string `json:"consents,omitempty" doc:"The kinds of doors that the customer now agrees to"`
	Resident string   `json:"resident_id,omitempty"`

	Object   string   `json:"object,omitempty" doc:"What it was done to: of key_changed an API key's id; of signer_changed the id of the key that signs permits now; of link_made and sessions_ended a customer, by a pseudonym; of dispatch_lost the grant_id; of events_lost and partition_refused the partition of the log, and of store_restored, where it was one alone"`
	Scopes   []string `json:"scopes,omitempty" doc:"Of key_changed: what the key may do"`
	Relieved string   `json:"relieved_courier_id,omitempty" doc:"Of route_assigned: who drove the route until then"`

	Change   string     `json:"change_id,omitempty" doc:"Of door_change_...: the change that waits, or waited"`
	Due      *time.Time `json:"takes_effect_at,omitempty" doc:"Of what has to wait: from when on it counts; left out: at once"`
	Status   string     `json:"smtp_status,omitempty" example:"5.1.1" doc:"Of mail_failed: the mail server's enhanced status code (RFC 3463), where it gave one"`
	HandedAt *time.Time `json:"handed_over_at,omitempty" doc:"Of disputed: when the handoff was recorded"`
}

type eventsOutput struct{ Body eventsAnswer }

func (a *eventRoutes) getEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	filter, from, limit, bad := in.parse()
	if len(bad) > 0 {
		return nil, invalid(bad)
	}
	if in.Parcel != "" {
		var reason handoff.Reason
		if filter.Parcels, reason = a.labels(filter.Carrier, in.Parcel); reason != "" {
			return nil, &handoff.Refusal{Reason: reason}
		}
		if filter.Carrier != "" {
			filter.Hash = a.hash(filter.Carrier, filter.Parcels[0])
			var err error
			if filter.Home, err = a.home(ctx, filter.Hash); err != nil {
				return nil, err
			}
		}
	}
	page, err := eventlog.Query(ctx, a.events, filter, from, limit)
	if err != nil {
		return nil, err
	}
	answer := eventsAnswer{Events: make([]eventAnswer, 0, len(page.Events)), Next: page.Next.String(), More: page.More}
	for i := range page.Events {
		answer.Events = append(answer.Events, eventOf(&page.Events[i]))
	}
	return &eventsOutput{Body: answer}, nil
}

func eventOf(l *eventlog.Logged) eventAnswer {
	e := &l.Event
	answer := eventAnswer{
		SpecVersion: "1.0", ID: l.ID.ID, Source: "urn:latchkey:" + trail.LogChain(l.ID.Partition),
		Type: l.What(), Time: l.When(), Subject: e.Grant.String(),
		Data: eventData{
			Shop: e.Shop, Carrier: e.Carrier, Parcel: e.Parcel, Parcels: e.Parcels, Left: e.Left, All: e.AllOrNothing, Route: e.Route, Courier: e.Courier, By: e.By, Who: e.Who, Link: e.Link, Device: e.Device,
			Reason: string(e.Reason), Changes: e.Changes, Excused: e.Excused, Count: e.Count, Rights: rightsOf(e.Rights), Issue: e.Issue, DistanceM: e.Distance,
			Building: e.Building, Door: e.Door, Permit: e.Permit.String(), Awaited: e.Awaited, RelockS: e.Relock, Resident: string(e.Resident), Change: e.Change,
			APIKey: e.APIKey, Relieved: e.Relieved, Object: e.Object, Scopes: e.Scopes, Status: e.MailStatus,
		},
	}
	data := &answer.Data
	if e.Claimed != 0 {
		at := e.Claimed.Time()
		data.Claimed = &at
	}
	data.HandedAt, data.Due = timeOf(e.HandedAt), timeOf(e.Due)
	if e.Window != nil {
		from, until := e.Window.From.Time(), e.Window.Until.Time()
		data.ValidFrom, data.ValidUntil = &from, &until
	}
	if e.Day != nil {
		data.Day = e.Day.String()
	}
	if e.Target != 0 {
		data.DoorKind = e.Target.String()
	}
	for _, kind := range e.Consents {
		data.Consents = append(data.Consents, kind.String())
	}
	return answer
}
