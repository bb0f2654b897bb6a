package api

import (
	"encoding/base64"
	"regexp"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/service"
)

// base64url is how bytes travel: without padding (RFC 4648 section 5), and in one
// spelling only.
var base64url = base64.RawURLEncoding.Strict()

// buildingRequest is a building as its manager enrolls it. What is left out of a PUT is
// not there any more.
type buildingRequest struct {
	Name          string        `json:"name" maxLength:"120" example:"Turmstr. 5"`
	Address       string        `json:"address" maxLength:"300" example:"Turmstr. 5, 10559 Berlin" doc:"On one line"`
	TimeZone      string        `json:"time_zone" pattern:"^[A-Za-z0-9_+/-]{1,64}$" example:"Europe/Berlin" doc:"The zone of a place in the IANA database, in which the hours are meant"`
	Location      pointRequest  `json:"location"`
	Manager       *string       `json:"manager,omitempty" maxLength:"254" example:"manager@building.example" doc:"A mail address without a display name"`
	Locale        *string       `json:"locale,omitempty" format:"language" example:"de" doc:"The language of mails to the manager (RFC 5646)"`
	Carriers      []string      `json:"carriers" maxItems:"64" format:"id" example:"[\"swift\"]" doc:"Whose couriers may come; none, where it is empty"`
	DeliveryHours *hoursRequest `json:"delivery_hours,omitempty" doc:"When couriers may come. Left out: at any hour"`
	QuietHours    *hoursRequest `json:"quiet_hours,omitempty" doc:"When no courier may come, whatever delivery_hours say"`
	Returns       bool          `json:"returns,omitempty" doc:"Whether couriers may come for returns"`
}

type hoursRequest struct {
	From string `json:"from" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" example:"07:00" doc:"Local time, inclusive"`
	To   string `json:"to" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$" example:"21:00" doc:"Local time, exclusive; earlier than from where the hours span midnight"`
}

var (
	fromRule = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
	toRule   = regexp.MustCompile(`^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`)
)

const mostCarriers = 64

func (r *buildingRequest) parse(bad *violations) handoff.Building {
	at := r.Location.parse(bad, "location")
	b := handoff.Building{
		Name:     bad.text("name", r.Name, 120),
		Address:  bad.text("address", r.Address, 300),
		Zone:     bad.match("time_zone", r.TimeZone, zoneRule),
		Location: &at,
		Hours:    r.DeliveryHours.parse(bad, "delivery_hours"),
		Quiet:    r.QuietHours.parse(bad, "quiet_hours"),
		Returns:  r.Returns,
		Locale:   bad.optionalMatch("locale", r.Locale, localeRule),
	}
	if zoneRule.MatchString(r.TimeZone) {
		if _, err := handoff.PlaceZone(r.TimeZone); err != nil {
			bad.add("time_zone", handoff.ErrZone.Error())
		}
	}
	if says(r.Manager) {
		b.Manager = bad.email("manager", *r.Manager)
	}
	if r.Carriers == nil {
		bad.add("carriers", "is required")
	}
	b.Carriers = carriers(bad, r.Carriers)
	return b
}

// carriers are the ids of a list, each once and in order.
func carriers(bad *violations, list []string) []string {
	if len(list) > mostCarriers {
		bad.add("carriers", "must be at most 64")
		return nil
	}
	bad.each("carriers", list, func(id string) { bad.id("carriers", id) })
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

func (r *hoursRequest) parse(bad *violations, at string) *handoff.Hours {
	if r == nil {
		return nil
	}
	bad.match(at+".from", r.From, fromRule)
	bad.match(at+".to", r.To, toRule)
	h, ok := handoff.ParseHours(r.From, r.To)
	if !ok && fromRule.MatchString(r.From) && toRule.MatchString(r.To) {
		bad.add(at, "must be two different times of day")
	}
	return &h
}

// doorRequest is a door as its building's manager enrolls it.
type doorRequest struct {
	BuildingID string        `json:"building_id" format:"id" example:"bld_turm5" doc:"A door never changes its building"`
	Kind       string        `json:"kind" enum:"lobby,gate,garage,home"`
	Mode       string        `json:"mode" enum:"carried,connected,bridged,keypad" doc:"How permits reach it: carried by the courier's phone, over a connection that the door dials, or through a bridge that dials. At a keypad the courier types a PIN instead, which cannot be recalled"`
	Location   pointRequest  `json:"location"`
	GeofenceM  *float64      `json:"geofence_m,omitempty" minimum:"1" maximum:"500" example:"30" doc:"Meters around the door within which the courier must be. Left out: the policy's"`
	PublicKey  *string       `json:"public_key,omitempty" pattern:"^[A-Za-z0-9_-]{43}$" doc:"The door's own Ed25519 public key, 32 bytes in base64url: what it signs its reports with. Without it the door cannot report"`
	KeypadKey  *string       `json:"keypad_key,omitempty" writeOnly:"true" pattern:"^[A-Za-z0-9_-]{27,86}$" doc:"For mode keypad only: what the keypad makes its PINs from, 20 to 64 random bytes in base64url. It is never shown again. Left out of a later PUT that keeps the mode, the door keeps the key that it has; another mode forgets it"`
	RelockS    *int          `json:"relock_s,omitempty" minimum:"1" maximum:"120" example:"5" doc:"Seconds after which it locks again, signed into every permit. Left out: as the door itself is set, which also holds for PINs"`
	Carriers   []string      `json:"carriers,omitempty" maxItems:"64" format:"id" example:"[\"swift\"]" doc:"Those of the building's carriers whose couriers may come by this door; none, where it is empty. Left out: all of the building's"`
	Unit       *string       `json:"unit,omitempty" maxLength:"60" example:"4 links" doc:"Whose garage or home it is, as parcels are addressed to it: its confirmed residents are told of every change and every opening. Left out of a later PUT, the door keeps the unit that it has"`
	Owner      *ownerRequest `json:"owner,omitempty" doc:"Whose garage or home it is: required for these, refused for others"`
}

type ownerRequest struct {
	ShopID     string `json:"shop_id" format:"id" example:"demo"`
	CustomerID string `json:"customer_id" format:"id" example:"cus_81"`
}

var keyRule = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

const (
	leastFence, mostFence   = 1, 500 // meters
	leastRelock, mostRelock = 1, int(door.MaxRelock / time.Second)
)

func (r *doorRequest) parse(bad *violations) handoff.Door {
	at := r.Location.parse(bad, "location")
	d := handoff.Door{BuildingID: bad.id("building_id", r.BuildingID), Location: &at}
	var known bool
	if d.Kind, known = handoff.ParseTarget(r.Kind); !known || d.Kind == handoff.Parcel {
		bad.oneOf("kind", "lobby", "gate", "garage", "home")
	}
	if d.Mode, known = handoff.ParseDoorMode(r.Mode); !known {
		bad.oneOf("mode", "carried", "connected", "bridged", "keypad")
	}
	if r.GeofenceM != nil {
		d.Fence = bad.number("geofence_m", r.GeofenceM, leastFence, mostFence)
	}
	if r.PublicKey != nil && bad.match("public_key", *r.PublicKey, keyRule) != "" && keyRule.MatchString(*r.PublicKey) {
		var key door.PublicKey
		if key.UnmarshalText([]byte(*r.PublicKey)) != nil {
			bad.add("public_key", "must be an Ed25519 public key, 32 bytes in base64url")
		}
		d.Key = key[:]
	}
	d.Keypad = r.keypadKey(bad, d.Mode)
	if r.RelockS != nil {
		if *r.RelockS < leastRelock || *r.RelockS > mostRelock {
			bad.add("relock_s", "must be between 1 and 120")
		}
		d.Relock = *r.RelockS
	}
	if list := carriers(bad, r.Carriers); r.Carriers != nil {
		d.Carriers = append([]string{}, list...) // an empty one is not one that was left out
	}
	d.Owner = r.owner(bad, d.Kind)
	if d.Unit = bad.optionalText("unit", r.Unit, 60); d.Unit != "" && !d.Private() {
		bad.add("unit", "is for a garage or a home only")
	}
	return d
}

var keypadKeyRule = regexp.MustCompile(`^[A-Za-z0-9_-]{27,86}$`)

// keypadKey is nil where none was sent: whether the door then has one, the registry knows.
func (r *doorRequest) keypadKey(bad *violations, mode handoff.DoorMode) handoff.KeypadKey {
	if r.KeypadKey == nil {
		return nil
	}
	if mode != handoff.Keypad {
		bad.add("keypad_key", "is for mode keypad only")
		return nil
	}
	key, err := base64url.DecodeString(*r.KeypadKey)
	if err == nil {
		_, err = door.ParsePINKey(key)
	}
	if err != nil || !keypadKeyRule.MatchString(*r.KeypadKey) {
		bad.add("keypad_key", "must be 20 to 64 random bytes in base64url")
	}
	return key
}

func (r *doorRequest) owner(bad *violations, kind handoff.TargetKind) *handoff.CustomerRef {
	private := kind == handoff.Garage || kind == handoff.Home
	switch {
	case r.Owner == nil && private:
		bad.add("owner", "is required for a garage or a home")
	case r.Owner != nil:
		ref := handoff.CustomerRef{Shop: bad.id("owner.shop_id", r.Owner.ShopID), ID: bad.id("owner.customer_id", r.Owner.CustomerID)}
		if !private {
			bad.add("owner", "is for a garage or a home only")
		}
		return &ref
	}
	return nil
}

type unlockRequest struct {
	ParcelID  string           `json:"parcel_id" maxLength:"512" example:"JJD000390007827" doc:"As read from the label, at the door"`
	Location  *positionRequest `json:"location,omitempty"`
	Challenge *string          `json:"challenge,omitempty" pattern:"^[A-Za-z0-9_-]{11,43}$" doc:"What the door shows: 8 to 32 bytes in base64url. Asked for at a carried door, and at a garage or home; of no effect elsewhere"`
	AttemptID *string          `json:"attempt_id,omitempty" format:"id" doc:"Under which this request may be repeated: the first answer is given again"`
	ClaimedAt *string          `json:"claimed_at,omitempty" maxLength:"40" example:"2026-11-24T11:02:03Z" doc:"When it was done by the device's clock (RFC 3339 date-time). Kept beside the service's own time; decides nothing"`
}

var challengeRule = regexp.MustCompile(`^[A-Za-z0-9_-]{11,43}$`)

func (r *unlockRequest) parse(bad *violations) service.UnlockRequest {
	k := service.UnlockRequest{
		Parcel:   bad.label("parcel_id", r.ParcelID),
		Position: r.Location.parse(bad),
		Attempt:  bad.attempt(r.AttemptID),
		Claimed:  bad.optionalTime("claimed_at", r.ClaimedAt),
	}
	if says(r.Challenge) && bad.match("challenge", *r.Challenge, challengeRule) != "" && challengeRule.MatchString(*r.Challenge) {
		var err error
		if k.Challenge, err = base64url.DecodeString(*r.Challenge); err != nil {
			bad.add("challenge", "must be 8 to 32 bytes in base64url")
		}
	}
	return k
}

type consentRequest struct {
	Doors []string `json:"doors" maxItems:"2" enum:"garage,home" example:"[\"garage\"]" doc:"The whole list; an empty one takes all consent back"`
}

func (r *consentRequest) parse(bad *violations) []handoff.TargetKind {
	if r.Doors == nil {
		bad.add("doors", "is required")
	}
	if len(r.Doors) > 2 {
		bad.add("doors", "must be at most 2")
		return nil
	}
	kinds := make([]handoff.TargetKind, 0, len(r.Doors))
	bad.each("doors", r.Doors, func(name string) {
		kind, known := handoff.ParseTarget(name)
		if !known || kind != handoff.Garage && kind != handoff.Home {
			bad.oneOf("doors", "garage", "home")
		}
		kinds = append(kinds, kind)
	})
	return kinds
}

// doorReportsRequest is what a door has to say. A report is bytes in base64url; one
// that is none is refused on its own, so that it cannot keep back the others.
type doorReportsRequest struct {
	Reports []string `json:"reports" minItems:"1" maxItems:"100" doc:"Signed reports, base64url, oldest first"`
}

const mostReports = 100

func (r *doorReportsRequest) parse(bad *violations) []string {
	if len(r.Reports) < 1 || len(r.Reports) > mostReports {
		bad.add("reports", "must be between 1 and 100")
	}
	return r.Reports
}
