package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// Residents is what telling residents takes.
type Residents struct {
	// Log is where access logs are read; nil: links to them answer 503.
	Log AccessLog // nil: the service's own

	// CarrierNames are what people call the carriers, by id.
	CarrierNames map[string]string
}

// AccessLog reads the access logs of buildings.
type AccessLog interface {
	// AccessPage reads a building's passages since an instant, newest first and at most
	// limit of them, and the newest signed head.
	AccessPage(ctx context.Context, building string, since time.Time, limit int) (AccessPage, error)
}

// AccessPage is a part of a building's access log.
type AccessPage struct {
	Passages []trail.Passage // newest first
	More     bool            // there are older ones since the instant
	Head     string          // the log's signed end, one line
}

// recentLog reads the service's own access logs.
type recentLog struct{ *trail.Reader }

func (l recentLog) AccessPage(ctx context.Context, building string, since time.Time, limit int) (AccessPage, error) {
	var recent AccessPage
	for page := (trail.AccessPage{Limit: mostAccess}); ; {
		log, err := l.AccessLog(ctx, building, page)
		if err != nil {
			return AccessPage{}, err
		}
		if page.Before == 0 {
			recent.Head = log.Head
		}
		for _, p := range log.Passages {
			switch {
			case p.At.Before(since):
				return recent, nil
			case len(recent.Passages) == limit:
				recent.More = true
				return recent, nil
			}
			recent.Passages = append(recent.Passages, p)
		}
		if page.Before = log.Before; page.Before == 0 {
			return recent, nil
		}
	}
}

const (
	linkShows   = 30 * 24 * time.Hour // how far back a link to the log reaches
	linkEntries = 500                 // and how many entries it shows
)

// residentRoutes are the routes for who lives in a building, and for its manager about them.
type residentRoutes struct {
	service   *service.Service // names who changes something
	directory *residents.Directory
	registry  *registry.Registry
	clock     clock.Clock

	told *Residents // what telling them takes; nil: they are not told
}

func (a *residentRoutes) register(r *registrar) {
	managers, public := []auth.Scope{auth.Building, auth.Ops}, []auth.Scope{}
	route(r, huma.Operation{
		OperationID: "subscribe", Method: http.MethodPost, Path: "/v1/buildings/{building_id}/subscriptions",
		Summary: "Ask for notices to a mail address", Tags: []string{"Residents"}, DefaultStatus: http.StatusAccepted,
		Description: "The address is mailed once, and nothing more unless it confirms. With a unit the building's manager must approve as well. The answer is the same whether or not building and address are known.",
	}, public, a.subscribe)
	route(r, huma.Operation{
		OperationID: "get-residents", Method: http.MethodGet, Path: "/v1/buildings/{building_id}/residents",
		Summary: "Who is told what happens in a building", Tags: []string{"Residents"},
		Description: "Addresses are shown of those whom the manager put on file, and of those who ask for a unit. Who follows the whole building is counted, and not shown.",
	}, managers, a.getResidents)
	route(r, huma.Operation{
		OperationID: "put-residents", Method: http.MethodPut, Path: "/v1/buildings/{building_id}/residents",
		Summary: "The residents on file", Tags: []string{"Residents"}, DefaultStatus: http.StatusOK,
		Description: "Replaces the manager's list. Who is on it is told what is installed, and hears of openings after confirming the address. Who is on it no more moved out and hears of nothing; a confirmed resident of a unit is mailed that, may object, and hears of everything for three days more. Who came by asking stays. Repeat a call that failed. The answer names who was removed.",
		Errors:      []int{http.StatusPreconditionFailed},
	}, managers, a.putResidents)
	for _, d := range []struct {
		id, summary string
		do          func(context.Context, registry.By, string, handoff.ResidentID) error
	}{
		{"approve", "This address lives in the unit that it asks for", a.directory.ApproveBy},
		{"reject", "This address is not to be told", a.directory.RejectBy},
	} {
		route(r, huma.Operation{
			OperationID: d.id + "-resident", Method: http.MethodPost, Path: "/v1/buildings/{building_id}/residents/{resident_id}/" + d.id,
			Summary: d.summary, Tags: []string{"Residents"}, DefaultStatus: http.StatusNoContent,
		}, managers, func(ctx context.Context, in *residentPath) (*struct{}, error) {
			return a.decideResident(ctx, in, d.do)
		})
	}
	route(r, huma.Operation{
		OperationID: "announce-building", Method: http.MethodPost, Path: "/v1/buildings/{building_id}/announce",
		Summary: "Tell the residents now what is installed", Tags: []string{"Residents"}, DefaultStatus: http.StatusAccepted,
		Description: "Without it they are told an hour after the last change. Who was told the same before is not told again.",
	}, managers, a.announce)
	route(r, huma.Operation{
		OperationID: "linked-access-log", Method: http.MethodGet, Path: "/v1/access-logs/{token}",
		Summary: "A building's access log, by a link from a notice", Tags: []string{"Residents"},
		Description: "The last thirty days, newest first. Of garages and homes the door is not named. The link holds for thirty days.",
	}, public, a.linkedLog)
}

type subscribeInput struct {
	Building pathID `path:"building_id"`
	Body     body[subscriptionRequest, residents.Subscription, *subscriptionRequest]
}

type subscriptionRequest struct {
	Email  string  `json:"email" maxLength:"254" example:"resident@building.example" doc:"A plain address"`
	Locale *string `json:"locale,omitempty" format:"language" example:"de" doc:"A language tag (RFC 5646)"`
	Unit   *string `json:"unit,omitempty" maxLength:"60" example:"4 links" doc:"As parcels are addressed to it. Left out: the whole building"`
}

func (r *subscriptionRequest) parse(bad *violations) residents.Subscription {
	return r.at(bad, "")
}

func (r *subscriptionRequest) at(bad *violations, prefix string) residents.Subscription {
	return residents.Subscription{
		Address: bad.email(prefix+"email", r.Email),
		Locale:  bad.optionalMatch(prefix+"locale", r.Locale, localeRule),
		Unit:    bad.optionalText(prefix+"unit", r.Unit, 60),
	}
}

type acceptedOutput struct {
	Body struct {
		_ struct{} `additionalProperties:"true"`

		Status string `json:"status" example:"accepted"`
	}
}

func accepted() *acceptedOutput {
	out := new(acceptedOutput)
	out.Body.Status = "accepted"
	return out
}

func (a *residentRoutes) subscribe(ctx context.Context, in *subscribeInput) (*acceptedOutput, error) {
	if a.told == nil {
		return nil, problemOfCode(codeNoResidents)
	}
	return accepted(), a.directory.Subscribe(ctx, in.Building.id, in.Body.value)
}

type residentAnswer struct {
	_ struct{} `additionalProperties:"true"`

	ResidentID string     `json:"resident_id"`
	State      string     `json:"state" enum:"asked,confirmed,active" doc:"asked: the address has not confirmed; confirmed: it has, and the unit is to be approved; active: hears of openings"`
	OnFile     bool       `json:"on_file" doc:"Put there by the manager"`
	Email      string     `json:"email,omitempty"`
	Unit       string     `json:"unit,omitempty" doc:"Left out: the whole building"`
	Locale     string     `json:"locale,omitempty"`
	LeavesAt   *time.Time `json:"leaves_at,omitempty" doc:"When a confirmed resident of a unit is forgotten who was rejected or left out of the list; until then they hear of everything"`
	Informed   bool       `json:"informed" doc:"Was told at least once what is installed"`
}

type residentsOutput struct {
	ETag string `header:"ETag" doc:"The version of the list on file, for If-Match"`
	Body struct {
		_ struct{} `additionalProperties:"true"`

		Residents []residentAnswer `json:"residents"`
		Followers int              `json:"followers" doc:"How many follow the whole building of their own accord"`
		Removed   []string         `json:"removed,omitempty" doc:"Of a PUT, left out where there is nothing: the ids of those who were on file before and are not any more"`
	}
}

func (a *residentRoutes) getResidents(ctx context.Context, in *buildingPath) (*residentsOutput, error) {
	if err := ownBuilding(ctx, a.registry, in.Building.id); err != nil {
		return nil, err
	}
	return a.residentsOutput(ctx, in.Building.id)
}

func (a *residentRoutes) residentsOutput(ctx context.Context, building string) (*residentsOutput, error) {
	all, err := a.directory.List(ctx, building)
	if err != nil {
		return nil, err
	}
	out := new(residentsOutput)
	out.Body.Residents, out.ETag = []residentAnswer{}, etag(residents.FileVersion(all))
	for _, r := range all {
		// Who asked for a unit was told that the manager is shown the address; before it is
		// confirmed, it may be anybody's.
		switch shown := r.OnFile || r.Unit != "" && r.ConfirmedAt != 0; {
		case shown:
			out.Body.Residents = append(out.Body.Residents, residentAnswer{
				ResidentID: string(r.ID), State: r.State().String(), OnFile: r.OnFile, Email: r.Address, Unit: r.Unit, Locale: r.Locale,
				Informed: r.InformedAt != 0,
			})
			if r.LeavesAt != 0 {
				at := r.LeavesAt.Time()
				out.Body.Residents[len(out.Body.Residents)-1].LeavesAt = &at
			}
		case r.State() == residents.ResidentActive:
			out.Body.Followers++
		}
	}
	return out, nil
}

type putResidentsInput struct {
	Building pathID `path:"building_id"`
	IfMatch  string `header:"If-Match" doc:"The ETag of what this replaces: 412 stale where it is another by now"`
	Body     body[residentsRequest, []residents.Subscription, *residentsRequest]
}

type residentsRequest struct {
	Residents []subscriptionRequest `json:"residents" maxItems:"500" doc:"All of them: who is left out is not on file any more"`
}

func (r *residentsRequest) parse(bad *violations) []residents.Subscription {
	switch {
	case r.Residents == nil:
		bad.add("residents", "is required")
	case len(r.Residents) > residents.ResidentsOnFile:
		bad.add("residents", "must be at most 500")
		return nil
	}
	list := make([]residents.Subscription, 0, len(r.Residents))
	for i := range r.Residents {
		list = append(list, r.Residents[i].at(bad, bad.item("residents", i)+"."))
	}
	return list
}

func (a *residentRoutes) putResidents(ctx context.Context, in *putResidentsInput) (*residentsOutput, error) {
	if err := ownBuilding(ctx, a.registry, in.Building.id); err != nil {
		return nil, err
	}
	gone, err := a.directory.ReplaceOnFile(ctx, managerBy(ctx, a.service), in.Building.id, in.Body.value, ifMatch(in.IfMatch))
	if err != nil {
		return nil, err
	}
	out, err := a.residentsOutput(ctx, in.Building.id)
	if err == nil {
		out.Body.Removed = []string{}
		for _, id := range gone {
			out.Body.Removed = append(out.Body.Removed, string(id))
		}
	}
	return out, err
}

type residentPath struct {
	Building pathID `path:"building_id"`
	Resident pathID `path:"resident_id"`
}

func (a *residentRoutes) decideResident(ctx context.Context, in *residentPath, do func(context.Context, registry.By, string, handoff.ResidentID) error) (*struct{}, error) {
	if err := ownBuilding(ctx, a.registry, in.Building.id); err != nil {
		return nil, err
	}
	id, ok := handoff.ParseResidentID(in.Resident.id)
	if !ok {
		return nil, problemOfCode(codeResidentUnknown)
	}
	return nil, do(ctx, managerBy(ctx, a.service), in.Building.id, id)
}

func (a *residentRoutes) announce(ctx context.Context, in *buildingPath) (*acceptedOutput, error) {
	if err := ownBuilding(ctx, a.registry, in.Building.id); err != nil {
		return nil, err
	}
	return accepted(), a.registry.Announce(ctx, in.Building.id, handoff.Actor{Role: handoff.RoleManager})
}

// pathToken is the token of a link. One that is malformed is like any that does not hold.
type pathToken struct{ text string }

// UnmarshalText takes any text: the service judges it.
func (p *pathToken) UnmarshalText(text []byte) error {
	p.text = string(text)
	return nil
}

// Schema documents the form.
func (*pathToken) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]{1,200}$"}
}

type tokenPath struct {
	Token pathToken `path:"token"`
}

type linkedLogOutput struct {
	Body struct {
		_ struct{} `additionalProperties:"true"`

		BuildingID string          `json:"building_id"`
		ValidUntil time.Time       `json:"valid_until" doc:"When the link ends"`
		Passages   []passageAnswer `json:"passages" doc:"Newest first"`
		More       bool            `json:"more" doc:"There are older ones, too many to list"`
		Head       string          `json:"head,omitempty" doc:"The signed end of the log, worth keeping"`
	}
}

func (a *residentRoutes) linkedLog(ctx context.Context, in *tokenPath) (*linkedLogOutput, error) {
	if a.told == nil {
		return nil, problemOfCode(codeNoResidents)
	}
	link, _, err := a.directory.Follow(ctx, residents.LinkLog, in.Token.text)
	if err != nil {
		return nil, err
	}
	p, err := a.told.Log.AccessPage(ctx, link.Building, a.clock.Now().Add(-linkShows), linkEntries)
	if err != nil {
		return nil, err
	}
	out := new(linkedLogOutput)
	out.Body.BuildingID, out.Body.ValidUntil, out.Body.More, out.Body.Head = link.Building, link.Until, p.More, p.Head
	out.Body.Passages = make([]passageAnswer, 0, len(p.Passages))
	for i := range p.Passages {
		out.Body.Passages = append(out.Body.Passages, passageOf(&p.Passages[i]))
	}
	return out, nil
}
