package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/registry"
	"latchkey/handoff/service"
)

// Doors is what it takes to open doors, and to be heard by those that dial in.
type Doors struct {
	Signer *door.Signer
	Feed   door.Feed

	// Revocation is the newest list that the root key signed; empty for none. It is
	// published, and brought to every door that dials in.
	Revocation []byte

	Streams   int           // doors that may be dialed in at once, each asking the store at every poll; 0 is 1024
	Poll      time.Duration // between two looks for news for a door; 0 is 125 ms
	Heartbeat time.Duration // of a stream that has no news; 0 is 10 s
}

// doorRoutes are the routes at the doors themselves: the courier's before one, the keys for
// everybody, and those of the door controllers.
type doorRoutes struct {
	service  *service.Service
	registry *registry.Registry
	opening  *Doors // nil: doors can be registered, but not opened
	streams  streams
	timeout  time.Duration // for one question to the store, of a stream
	log      *slog.Logger
	recorder *recorder
}

func (a *doorRoutes) register(r *registrar) {
	couriers, controllers := []auth.Scope{auth.Courier}, []auth.Scope{auth.Door}
	route(r, huma.Operation{
		OperationID: "door-keys", Method: http.MethodGet, Path: "/v1/doors/keys",
		Summary: "The keys that sign permits", Tags: []string{"Door"},
		Description: "A JWK Set (RFC 7517) of two Ed25519 keys (RFC 8037), the current one first, and the list of keys that no longer count. Needs no token.",
	}, public, a.doorKeys)
	route(r, huma.Operation{
		OperationID: "unlock", Method: http.MethodPost, Path: "/v1/doors/{door_id}/unlock", DefaultStatus: http.StatusOK,
		Summary: "Ask for a permit to open a door", Tags: []string{"Courier"},
		Description: "A permit opens this door once, within a minute. A connected door gets it on its own; to a carried one the courier's phone brings it. " +
			"At a keypad the answer is a PIN in the permit's place, which this request alone is given: where others took all PINs of the minute, the reason is keypad-busy, and Retry-After says when there are more. " +
			"Every refusal is access-refused, and its proofs say what each was worth.",
	}, couriers, a.unlock)
	route(r, huma.Operation{
		OperationID: "get-unlock", Method: http.MethodGet, Path: "/v1/doors/{door_id}/unlocks/{permit_id}",
		Summary: "How far an unlock came", Tags: []string{"Courier", "Building"},
		Description: "What the door itself said, and no more.",
	}, []auth.Scope{auth.Courier, auth.Building}, a.unlockState)
	a.feed(r, controllers)
	route(r, huma.Operation{
		OperationID: "door-reports", Method: http.MethodPost, Path: "/v1/doors/{door_id}/reports", DefaultStatus: http.StatusOK,
		Summary: "What a door did", Tags: []string{"Door", "Courier"},
		Description: "Sending a report again is harmless. A report that does not verify stops no other. " +
			"From a door without a network the courier's phone brings what it said of a permit; what is about no permit is not taken from there.",
	}, []auth.Scope{auth.Door, auth.Courier}, a.doorReports)
}

// public is for routes that need no token. It is not the zero value: a route that
// forgot its scopes admits no caller.
var public = []auth.Scope{}

type keysAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Keys       []keyAnswer `json:"keys"`
	Revocation *string     `json:"revocation" nullable:"true" doc:"The newest list signed by the root key, base64url; null if there is none"`
}

type keyAnswer struct {
	Type  string `json:"kty" enum:"OKP"`
	Curve string `json:"crv" enum:"Ed25519"`
	X     string `json:"x"`
	ID    string `json:"kid"`
	Alg   string `json:"alg" enum:"EdDSA"`
	Use   string `json:"use" enum:"sig"`
}

// keyAnswerOf is a public Ed25519 key (RFC 8037).
func keyAnswerOf(x, id string) keyAnswer {
	return keyAnswer{Type: "OKP", Curve: "Ed25519", X: x, ID: id, Alg: "EdDSA", Use: "sig"}
}

type keysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         keysAnswer
}

func (a *doorRoutes) doorKeys(context.Context, *struct{}) (*keysOutput, error) {
	if a.opening == nil {
		return nil, problemOfCode(codeNoDoors)
	}
	out := &keysOutput{CacheControl: "public, max-age=60"}
	for _, k := range a.opening.Signer.Publish() {
		out.Body.Keys = append(out.Body.Keys, keyAnswerOf(k.String(), k.ID().String()))
	}
	if list := a.opening.Revocation; len(list) > 0 {
		text := base64url.EncodeToString(list)
		out.Body.Revocation = &text
	}
	return out, nil
}

type unlockInput struct {
	Door pathID `path:"door_id"`
	Body body[unlockRequest, service.UnlockRequest, *unlockRequest]
}

type permitAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Permit    string     `json:"permit,omitempty" doc:"For the door, base64url; at most 144 bytes. Not at a keypad"`
	PIN       string     `json:"pin,omitempty" pattern:"^[0-9]{8}$" doc:"At a keypad, in the permit's place: opens the door once. A recall of the parcel does not reach a keypad, so that a PIN works until it expires"`
	PermitID  string     `json:"permit_id" example:"b0d4542a73df65f714023f260b3bc95a"`
	DoorID    string     `json:"door_id"`
	ValidFrom *time.Time `json:"valid_from,omitempty" doc:"Of a PIN: from when every keypad whose clock is right to 30 s accepts it. Before, one may count it as a wrong PIN"`
	ExpiresAt time.Time  `json:"expires_at" doc:"Of a PIN: until when every keypad whose clock is right to 30 s accepts it. One may do so for a minute longer"`
}

type permitOutput struct{ Body permitAnswer }

func (a *doorRoutes) unlock(ctx context.Context, in *unlockInput) (*permitOutput, error) {
	if a.opening == nil {
		return nil, problemOfCode(codeNoDoors)
	}
	k := in.Body.value
	k.Courier, k.Issued, k.Device, k.Door = ofCourier(ctx), issued(ctx), principal(ctx).Device, in.Door.id
	granted, err := a.service.Unlock(ctx, k)
	if err != nil {
		return nil, refusedAtDoor(err)
	}
	if granted.Door.Mode == handoff.Keypad {
		return pinOf(granted)
	}
	p := permitOf(granted)
	raw, err := a.opening.Signer.Permit(p)
	if err != nil {
		return nil, err
	}
	return &permitOutput{Body: permitAnswer{
		Permit: base64url.EncodeToString(raw), PermitID: p.ID.String(), DoorID: p.Door, ExpiresAt: p.Expires,
	}}, nil
}

// pinOf tells the PIN of a permission, which is written down nowhere.
func pinOf(g service.Permission) (*permitOutput, error) {
	key, err := door.ParsePINKey(g.Door.Keypad)
	if err != nil {
		return nil, err
	}
	pin, err := key.PIN(g.Minute)
	if err != nil {
		return nil, err
	}
	from, until := door.PINHolds(g.Minute)
	return &permitOutput{Body: permitAnswer{
		PIN: pin, PermitID: g.Permit.String(), DoorID: g.Door.ID, ValidFrom: &from, ExpiresAt: until,
	}}, nil
}

// permitOf is the permit of a permission: the same permission always gives the same bytes.
func permitOf(g service.Permission) door.Permit {
	return door.Opening{
		ID: door.PermitID(g.Permit), Door: g.Door.ID, Grant: door.GrantRef(g.Ref), At: g.At, Challenge: g.Challenge, Relock: g.Relock,
	}.Permit()
}

type unlockPath struct {
	Door   pathID `path:"door_id"`
	Permit string `path:"permit_id" pattern:"^[0-9a-f]{32}$"`
}

type unlockAnswer struct {
	_ struct{} `additionalProperties:"true"`

	PermitID     string    `json:"permit_id"`
	DoorID       string    `json:"door_id"`
	State        string    `json:"state" enum:"authorised,delivered,confirmed,opened,relocked,failed,refused,no-answer"`
	Since        time.Time `json:"since" doc:"When the service heard of it"`
	AuthorisedAt time.Time `json:"authorised_at"`
}

type unlockOutput struct{ Body unlockAnswer }

func (a *doorRoutes) unlockState(ctx context.Context, in *unlockPath) (*unlockOutput, error) {
	none := &handoff.Refusal{Reason: handoff.PermitUnknown}
	id, ok := handoff.ParsePermitID(in.Permit)
	if !ok {
		return nil, none
	}
	u, g, err := a.service.UnlockOf(ctx, in.Door.id, id)
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	mayAsk := p.Has(auth.Courier) && complete(p, auth.Courier) && p.Carrier == g.Dispatch.Carrier
	if !mayAsk && p.Has(auth.Building) {
		d, err := a.registry.Door(ctx, in.Door.id)
		if err != nil {
			return nil, err
		}
		// The log does not say which garage or home was opened, and this must not either.
		private := d != nil && (d.Kind == handoff.Garage || d.Kind == handoff.Home)
		mayAsk = d != nil && !private && p.Building != "" && p.Building == d.BuildingID
	}
	if !mayAsk {
		return nil, none
	}
	return &unlockOutput{Body: unlockAnswer{
		PermitID: u.Permit.String(), DoorID: u.Door, State: u.State.String(), Since: u.Since.Time(), AuthorisedAt: u.At.Time(),
	}}, nil
}

// ownDoor is the door that a controller speaks for. Another's does not exist.
func (a *doorRoutes) ownDoor(ctx context.Context, id string) (*handoff.Door, error) {
	if principal(ctx).Subject != id {
		return nil, problemOfCode(codeDoorUnknown)
	}
	d, err := a.registry.Door(ctx, id)
	if err != nil {
		return nil, err
	}
	if b := principal(ctx).Building; d == nil || b != "" && b != d.BuildingID {
		return nil, problemOfCode(codeDoorUnknown)
	}
	return d, nil
}

type doorReportsInput struct {
	Door pathID `path:"door_id"`
	Body body[doorReportsRequest, []string, *doorReportsRequest]
}

type doorReportsAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Accepted int             `json:"accepted" doc:"The door need not send these again"`
	Refused  []refusedReport `json:"refused" doc:"Sending these again is of no use"`
}

type refusedReport struct {
	Index int    `json:"index" doc:"In the list that was sent, from 0"`
	Code  string `json:"code" enum:"bad-report"`
}

const codeBadReport = "bad-report"

type doorReportsOutput struct{ Body doorReportsAnswer }

func (a *doorRoutes) doorReports(ctx context.Context, in *doorReportsInput) (*doorReportsOutput, error) {
	p := principal(ctx)
	own := p.Has(auth.Door) && p.Subject == in.Door.id
	verifier := door.ReportVerifier{Door: in.Door.id}
	d, err := a.reporting(ctx, in.Door.id, own)
	switch {
	case err != nil:
		return nil, err
	case d != nil:
		verifier.Key, _ = keyOf(d)
	}
	out := &doorReportsOutput{Body: doorReportsAnswer{Refused: []refusedReport{}}}
	for i, text := range in.Body.value {
		result := codeBadReport
		raw, err := base64url.DecodeString(text)
		var r door.Report
		if err == nil {
			r, err = verifier.Verify(raw)
		}
		if known, is := verifier.Known(raw); err != nil && is == nil {
			if result, err = a.learns(ctx, d, &known); err != nil {
				return nil, err
			}
			out.Body.Accepted++
		} else if err != nil {
			out.Body.Refused = append(out.Body.Refused, refusedReport{Index: i, Code: codeBadReport})
		} else {
			if result, err = a.record(ctx, d, &r); err != nil {
				return nil, err // the door sends all of them again, which is harmless
			}
			out.Body.Accepted++
		}
		if a.recorder.metrics != nil {
			a.recorder.metrics.DoorReported(result)
		}
	}
	return out, nil
}

// learns keeps a door's word about the signing keys that it knows.
func (a *doorRoutes) learns(ctx context.Context, d *handoff.Door, k *door.Known) (result string, err error) {
	keys := make([]string, 0, len(k.Keys))
	for _, id := range k.Keys {
		keys = append(keys, id.String())
	}
	news, err := a.registry.Knows(ctx, d, registry.KnownKeys{At: handoff.InstantOf(k.At), Serial: k.Serial, Keys: keys})
	if err != nil || !news {
		return "ignored", err
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "door knows keys", slog.String("door", d.ID), slog.Uint64("serial", k.Serial), slog.Any("keys", keys))
	return "recorded", nil
}

// doorStates are the states of a permit in the words of the domain.
var doorStates = map[door.State]handoff.DoorState{
	door.Delivered: handoff.DoorDelivered, door.Confirmed: handoff.DoorConfirmed, door.Opened: handoff.DoorOpened,
	door.Relocked: handoff.DoorRelocked, door.Failed: handoff.DoorFailed, door.Refused: handoff.DoorRefused,
	door.NoAnswer: handoff.DoorSilent,
}

// reporting is the door whose reports are brought. To a courier a door that does not
// exist looks like one that did not sign: nil. A courier may bring any door's reports,
// for a signature is worth the same by any carrier.
func (a *doorRoutes) reporting(ctx context.Context, id string, own bool) (*handoff.Door, error) {
	if p := principal(ctx); !own && p.Has(auth.Courier) && complete(p, auth.Courier) {
		return a.registry.Door(ctx, id)
	}
	return a.ownDoor(ctx, id)
}

// alarms are what a door says of itself in the words of the domain.
var alarms = map[door.State]handoff.EventType{
	door.Forced: handoff.EventDoorForced, door.HeldOpen: handoff.EventDoorHeldOpen, door.Tamper: handoff.EventDoorTampered,
	door.Jammed: handoff.EventDoorJammed, door.BatteryLow: handoff.EventDoorBatteryLow, door.Unavailable: handoff.EventDoorUnavailable,
}

// record keeps what a verified report says, and names what became of it. An alarm counts
// once, however often it is told, so that any caller may bring it: a door
// without a network has no other way.
func (a *doorRoutes) record(ctx context.Context, d *handoff.Door, r *door.Report) (result string, err error) {
	refusing := func() {
		a.log.LogAttrs(ctx, slog.LevelWarn, "door refuses", slog.String("door", r.Door), slog.String("reason", r.Refusal.String()), slog.Time("at", r.At))
	}
	if r.State == door.Refused && a.recorder.metrics != nil {
		a.recorder.metrics.DoorRefused(r.Refusal.String())
	}
	state, ofPermit := doorStates[r.State]
	// Of no permit that the door could know: it says what is wrong with the door all the same.
	refuses := r.State == door.Refused && r.Permit.IsZero() && r.Refusal.OfDoor()
	if !ofPermit || refuses {
		alarm := registry.Alarm{Door: *d, Type: alarms[r.State], Seq: r.Seq, At: handoff.InstantOf(r.At)}
		if refuses {
			alarm.Type, alarm.Reason = handoff.EventDoorRefused, handoff.Reason(r.Refusal.String())
		}
		heard, err := a.registry.Alarmed(ctx, alarm)
		switch {
		case err != nil || heard == registry.AlarmRepeated:
			return "ignored", err
		case heard == registry.AlarmCounted:
			return "counted", nil // one line for each would fill the service's log
		}
		if refuses {
			refusing()
			return "refused", nil
		}
		a.log.LogAttrs(ctx, slog.LevelWarn, "door alarm", slog.String("door", r.Door), slog.String("kind", r.State.String()), slog.Time("at", r.At))
		if a.recorder.metrics != nil {
			a.recorder.metrics.DoorAlarmed(r.State.String())
		}
		return "alarm", nil
	}
	// A permit that came twice is refused the second time: the feed and the phone both
	// brought it, or it was copied. The unlock is that of the first time, and how that
	// went is what there is to know of it. Heard while it is still under way, the second
	// would show an unlock as refused that happens.
	if r.Permit.IsZero() || r.Refusal == door.Replayed {
		return "ignored", nil
	}
	if state == handoff.DoorRefused {
		if r.Refusal.OfDoor() {
			refusing()
		}
		err = a.service.RefusedBy(ctx, r.Door, handoff.PermitID(r.Permit), handoff.Reason(r.Refusal.String()))
	} else {
		err = a.service.Reported(ctx, r.Door, handoff.PermitID(r.Permit), state)
	}
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return string(refused.Reason), nil // forgotten, or of a PIN that was never given out: the door must be able to empty its outbox
	}
	return "recorded", err
}
