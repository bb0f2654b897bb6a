package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/registry"
	"latchkey/handoff/service"
)

// buildingRoutes are the routes of a building's manager: what the building allows, and which
// doors it has. Both count at the next unlock.
type buildingRoutes struct {
	service  *service.Service // names who changes something
	registry *registry.Registry
	policy   *handoff.Policy // whose fence holds for a door that names none
}

func (a *buildingRoutes) register(r *registrar) {
	managers := []auth.Scope{auth.Building, auth.Ops}
	route(r, huma.Operation{
		OperationID: "put-building", Method: http.MethodPut, Path: "/v1/buildings/{building_id}",
		Summary: "What a building allows", Tags: []string{"Building"},
		Description: "Replaces all of it; counts at the next unlock. Where it changes what residents are told, they are told an hour after the last change, or at once by announce. Repeat a call that failed. The answer names what was removed.", DefaultStatus: http.StatusOK,
		Errors: []int{http.StatusPreconditionFailed},
	}, managers, a.putBuilding)
	route(r, huma.Operation{
		OperationID: "get-building", Method: http.MethodGet, Path: "/v1/buildings/{building_id}",
		Summary: "What a building allows, and its doors", Tags: []string{"Building"},
	}, managers, a.getBuilding)
	route(r, huma.Operation{
		OperationID: "put-door", Method: http.MethodPut, Path: "/v1/doors/{door_id}",
		Errors:  []int{http.StatusConflict, http.StatusPreconditionFailed},
		Summary: "A door of a building", Tags: []string{"Building"},
		Description: "Replaces all of it but a keypad's key, which is kept where none is sent; counts at the next unlock. The building must exist, and stays the same. The answer names what was removed. " +
			"Of a garage or home, another owner, unit or kind and another key wait (pending), are mailed to its owner and to the residents of its unit, who can object or agree, and count at takes_effect_at. " +
			"The same again goes on waiting, anything else takes it back. To drop a key waits for nothing.", DefaultStatus: http.StatusOK,
	}, managers, a.putDoor)
	route(r, huma.Operation{
		OperationID: "remove-door", Method: http.MethodDelete, Path: "/v1/doors/{door_id}",
		Summary: "Remove a door", Tags: []string{"Building"},
		Description: "From the next unlock on it opens nothing, its controller finds no door, and residents are told as of every change. " +
			"A permit that was given out before opens it until it expires, within a minute or so. " +
			"The id stays the building's: a PUT brings the door back, with nothing kept of what it was.", DefaultStatus: http.StatusNoContent,
	}, managers, a.removeDoor)
	route(r, huma.Operation{
		OperationID: "get-door", Method: http.MethodGet, Path: "/v1/doors/{door_id}",
		Summary: "A door as it was registered", Tags: []string{"Building"},
	}, managers, a.getDoor)
}

// manages reports whether the caller runs a building.
func manages(p *auth.Principal, building string) bool {
	return p.Has(auth.Ops) || p.Has(auth.Building) && p.Building == building && building != ""
}

// by is who changes a building or a door.
func (a *buildingRoutes) by(ctx context.Context) registry.By { return managerBy(ctx, a.service) }

// managerBy is who acts for a building.
func managerBy(ctx context.Context, s *service.Service) registry.By {
	p, role := principal(ctx), handoff.RoleManager
	if !p.Has(auth.Building) {
		role = handoff.RoleOps
	}
	return registry.By{Role: role, Who: s.Who(handoff.Actor{Role: role, Subject: p.Identity()})}
}

type point struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

func pointOf(p *handoff.Point) *point {
	if p == nil {
		return nil
	}
	lat, lon := p.Degrees()
	return &point{Lat: lat, Lon: lon}
}

type buildingAnswer struct {
	_ struct{} `additionalProperties:"true"`

	BuildingID    string       `json:"building_id"`
	Name          string       `json:"name"`
	Address       string       `json:"address"`
	TimeZone      string       `json:"time_zone"`
	Location      *point       `json:"location,omitempty"`
	Manager       string       `json:"manager,omitempty"`
	Locale        string       `json:"locale,omitempty"`
	Carriers      []string     `json:"carriers"`
	DeliveryHours *hoursAnswer `json:"delivery_hours,omitempty"`
	QuietHours    *hoursAnswer `json:"quiet_hours,omitempty"`
	Returns       bool         `json:"returns"`
	Doors         []string     `json:"doors" doc:"Ids, sorted"`
	Removed       []string     `json:"removed,omitempty" doc:"Of a PUT, left out where there is nothing: what stood there before and does not any more, by name; of carriers, each"`
}

type hoursAnswer struct {
	From string `json:"from" example:"07:00"`
	To   string `json:"to" example:"21:00"`
}

func hoursOf(h *handoff.Hours) *hoursAnswer {
	if h == nil {
		return nil
	}
	const clock = len("07:00")
	text := h.String()
	return &hoursAnswer{From: text[:clock], To: text[len(text)-clock:]}
}

type buildingOutput struct {
	ETag string `header:"ETag" doc:"The version of what is shown, for If-Match"`
	Body buildingAnswer
}

func (a *buildingRoutes) buildingOutput(ctx context.Context, b handoff.Building) (*buildingOutput, error) {
	doors, err := a.registry.Doors(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	answer := buildingAnswer{
		BuildingID: b.ID, Name: b.Name, Address: b.Address, TimeZone: b.Zone, Location: pointOf(b.Location),
		Manager: b.Manager, Locale: b.Locale, Carriers: b.Carriers, DeliveryHours: hoursOf(b.Hours), QuietHours: hoursOf(b.Quiet),
		Returns: b.Returns, Doors: slices.Sorted(slices.Values(doors)),
	}
	return &buildingOutput{ETag: etag(registry.BuildingVersion(&b)), Body: answer}, nil
}

type putBuildingInput struct {
	Building pathID `path:"building_id"`
	IfMatch  string `header:"If-Match" doc:"The ETag of what this replaces: 412 stale where it is another by now"`
	Body     body[buildingRequest, handoff.Building, *buildingRequest]
}

func (a *buildingRoutes) putBuilding(ctx context.Context, in *putBuildingInput) (*buildingOutput, error) {
	if !manages(principal(ctx), in.Building.id) {
		return nil, insufficient(auth.Building)
	}
	b := in.Body.value
	b.ID = in.Building.id
	before, err := a.registry.ReplaceBuilding(ctx, a.by(ctx), b, ifMatch(in.IfMatch))
	if err != nil {
		return nil, err
	}
	out, err := a.buildingOutput(ctx, b)
	if err == nil {
		out.Body.Removed = removedFromBuilding(before, &b)
	}
	return out, err
}

// etag is a version as a strong entity tag (RFC 9110 section 8.8.3).
func etag(version string) string { return `"` + version + `"` }

// ifMatch reads If-Match. A weak tag, or what is none, names no version.
func ifMatch(header string) registry.Match {
	header = strings.TrimSpace(header)
	switch header {
	case "":
		return registry.Match{}
	case "*":
		return registry.Match{Any: true}
	}
	m := registry.Match{Versions: []string{}}
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); len(tag) > 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
			m.Versions = append(m.Versions, tag[1:len(tag)-1])
		}
	}
	return m
}

// removal collects what a PUT took away.
type removal []string

func (r *removal) of(name string, before, after bool) {
	if before && !after {
		*r = append(*r, name)
	}
}

func (r *removal) each(name string, before, after []string) {
	for _, id := range before {
		r.of(name+"."+id, true, slices.Contains(after, id))
	}
}

func removedFromBuilding(before, after *handoff.Building) []string {
	gone := removal{}
	if before == nil {
		return gone
	}
	gone.each("carriers", before.Carriers, after.Carriers)
	gone.of("delivery_hours", before.Hours != nil, after.Hours != nil)
	gone.of("locale", before.Locale != "", after.Locale != "")
	gone.of("manager", before.Manager != "", after.Manager != "")
	gone.of("quiet_hours", before.Quiet != nil, after.Quiet != nil)
	gone.of("returns", before.Returns, after.Returns)
	return gone
}

// removedFromDoor names the list of carriers where a restriction ended, and each carrier that
// may not come any more.
func removedFromDoor(before, after *handoff.Door) []string {
	gone := removal{}
	if before == nil {
		return gone
	}
	gone.of("carriers", before.Carriers != nil, after.Carriers != nil)
	if after.Carriers != nil {
		gone.each("carriers", before.Carriers, after.Carriers)
	}
	gone.of("geofence_m", before.Fence != 0, after.Fence != 0)
	gone.of("keypad_key", len(before.Keypad) > 0, len(after.Keypad) > 0)
	gone.of("owner", before.Owner != nil, after.Owner != nil)
	gone.of("public_key", len(before.Key) > 0, len(after.Key) > 0)
	gone.of("relock_s", before.Relock != 0, after.Relock != 0)
	return gone
}

type buildingPath struct {
	Building pathID `path:"building_id"`
}

func (a *buildingRoutes) getBuilding(ctx context.Context, in *buildingPath) (*buildingOutput, error) {
	if !manages(principal(ctx), in.Building.id) {
		return nil, problemOfCode(codeBuildingUnknown)
	}
	b, err := a.registry.Building(ctx, in.Building.id)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, problemOfCode(codeBuildingUnknown)
	}
	return a.buildingOutput(ctx, *b)
}

type doorAnswer struct {
	_ struct{} `additionalProperties:"true"`

	DoorID     string       `json:"door_id"`
	BuildingID string       `json:"building_id"`
	Kind       string       `json:"kind" enum:"lobby,gate,garage,home"`
	Mode       string       `json:"mode" enum:"carried,connected,bridged,keypad"`
	Location   *point       `json:"location,omitempty"`
	GeofenceM  float64      `json:"geofence_m" doc:"The policy's, where none was given"`
	PublicKey  string       `json:"public_key,omitempty"`
	KeypadKey  bool         `json:"has_keypad_key,omitempty,omitzero" doc:"That a keypad has its key here. The key itself is never shown"`
	RelockS    int          `json:"relock_s,omitempty"`
	Carriers   []string     `json:"carriers,omitzero" doc:"Left out: all of the building's"`
	Owner      *ownerAnswer `json:"owner,omitempty"`
	Unit       string       `json:"unit,omitempty"`
	Pending    *doorChange  `json:"pending,omitempty" doc:"A change that waits. What is shown beside it is what counts until then"`
	Removed    []string     `json:"removed,omitempty" doc:"Of a PUT, left out where there is nothing: what stood there before and does not any more, by name; carriers, where the door's own restriction ended; of carriers that may not come any more, each"`
}

type doorChange struct {
	_ struct{} `additionalProperties:"true"`

	ChangeID      string       `json:"change_id" example:"a1b2c3d4e5f60718"`
	Changes       []string     `json:"changes" doc:"What waits, by name: owner, unit, kind, mode, public_key, keypad_key"`
	Owner         *ownerAnswer `json:"owner,omitempty" doc:"The owner from then on"`
	Unit          string       `json:"unit,omitempty" doc:"The unit from then on"`
	Kind          string       `json:"kind" doc:"The kind from then on"`
	AskedAt       time.Time    `json:"asked_at"`
	TakesEffectAt time.Time    `json:"takes_effect_at" doc:"Unless its people object before, or agree"`
}

type ownerAnswer struct {
	ShopID     string `json:"shop_id"`
	CustomerID string `json:"customer_id"`
}

type doorOutput struct {
	ETag string `header:"ETag" doc:"The version of what is shown, for If-Match"`
	Body doorAnswer
}

func (a *buildingRoutes) doorOutput(d *handoff.Door) *doorOutput {
	answer := doorAnswer{
		DoorID: d.ID, BuildingID: d.BuildingID, Kind: d.Kind.String(), Mode: d.Mode.String(),
		Location: pointOf(d.Location), GeofenceM: d.Fence, KeypadKey: d.Mode == handoff.Keypad, RelockS: d.Relock, Carriers: d.Carriers, Unit: d.Unit,
	}
	if answer.GeofenceM == 0 {
		answer.GeofenceM = a.policy.Fences.Door
	}
	if key, ok := keyOf(d); ok {
		answer.PublicKey = key.String()
	}
	answer.Owner = ownerOf(d.Owner)
	if c := d.Pending; c != nil {
		answer.Pending = &doorChange{
			ChangeID: c.ID, Changes: c.Changes, Owner: ownerOf(c.Owner), Unit: c.Unit, Kind: c.Kind.String(),
			AskedAt: c.Asked.Time(), TakesEffectAt: c.Due.Time(),
		}
	}
	return &doorOutput{ETag: etag(registry.DoorVersion(d)), Body: answer}
}

func ownerOf(c *handoff.CustomerRef) *ownerAnswer {
	if c == nil {
		return nil
	}
	return &ownerAnswer{ShopID: c.Shop, CustomerID: c.ID}
}

// keyOf is the key by which a door's reports are known; false for a door that has none.
func keyOf(d *handoff.Door) (key door.PublicKey, ok bool) {
	return key, copy(key[:], d.Key) == len(key)
}

type putDoorInput struct {
	Door    pathID `path:"door_id"`
	IfMatch string `header:"If-Match" doc:"The ETag of what this replaces: 412 stale where it is another by now"`
	Body    body[doorRequest, handoff.Door, *doorRequest]
}

// reservedDoor would hide behind the route of the signing keys.
const reservedDoor = "keys"

func (a *buildingRoutes) putDoor(ctx context.Context, in *putDoorInput) (*doorOutput, error) {
	d := in.Body.value
	d.ID = in.Door.id
	if !manages(principal(ctx), d.BuildingID) {
		return nil, insufficient(auth.Building)
	}
	if d.ID == reservedDoor {
		return nil, invalid(violations{{Location: "path.door_id", Message: "is a reserved name"}})
	}
	b, err := a.registry.Building(ctx, d.BuildingID)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, invalid(violations{{Location: "body.building_id", Message: "must name a building that is registered"}})
	}
	before, stands, err := a.registry.ReplaceDoor(ctx, a.by(ctx), d, ifMatch(in.IfMatch))
	if err != nil {
		return nil, err
	}
	out := a.doorOutput(&stands)
	out.Body.Removed = removedFromDoor(before, &stands)
	return out, nil
}

type doorPath struct {
	Door pathID `path:"door_id"`
}

func (a *buildingRoutes) getDoor(ctx context.Context, in *doorPath) (*doorOutput, error) {
	d, err := a.managedDoor(ctx, in.Door.id)
	if err != nil {
		return nil, err
	}
	return a.doorOutput(d), nil
}

func (a *buildingRoutes) removeDoor(ctx context.Context, in *doorPath) (*struct{}, error) {
	d, err := a.managedDoor(ctx, in.Door.id)
	if err != nil {
		return nil, err
	}
	return nil, a.registry.RemoveDoor(ctx, a.by(ctx), *d)
}

// managedDoor is a door of a building that the caller runs. Another's does not exist.
func (a *buildingRoutes) managedDoor(ctx context.Context, id string) (*handoff.Door, error) {
	if p := principal(ctx); !p.Has(auth.Ops) {
		// The building's own list is asked first, so that another's door costs what one costs
		// that does not exist.
		doors, err := a.registry.Doors(ctx, p.Building)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(doors, id) {
			return nil, problemOfCode(codeDoorUnknown)
		}
	}
	d, err := a.registry.Door(ctx, id)
	if err != nil {
		return nil, err
	}
	if d == nil || !manages(principal(ctx), d.BuildingID) {
		return nil, problemOfCode(codeDoorUnknown)
	}
	return d, nil
}
