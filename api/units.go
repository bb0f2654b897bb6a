package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
)

// unitRoutes are about whose a garage or home is: the owner's word about a change that waits, and
// a move-out.
type unitRoutes struct {
	service   *service.Service
	registry  *registry.Registry
	directory *residents.Directory
}

func (a *unitRoutes) register(r *registrar) {
	route(r, huma.Operation{
		OperationID: "move-out", Method: http.MethodPost, Path: "/v1/buildings/{building_id}/units/{unit}/move-out",
		Summary: "Who lived in a unit moved out", Tags: []string{"Building"}, DefaultStatus: http.StatusOK,
		Description: "Ends in one act the owners of the unit's garages and homes, which then open for no one, the owners' consents for parcels to the unit, and the notices and links of its residents. " +
			"Confirmed residents are mailed, can object, and hear of everything until leaves_at. The next owner of a door waits as every change of an owner. " +
			"The answer lists what is still open. Repeat a call that failed, or later, to see what is left.",
	}, []auth.Scope{auth.Building, auth.Ops}, a.moveOut)
	for _, d := range []struct {
		id, summary, description string
		do                       func(context.Context, residents.Change) error
	}{
		{
			"object", "Object to a change of one's garage or home",
			"The door stays what it is, and its people are mailed that. Residents of its unit do the same by the link in their mail.", a.directory.Object,
		},
		{
			"approve", "Agree to a change of one's garage or home",
			"It counts at once. The second person is one of those whose the door is, never staff.", a.directory.Agree,
		},
	} {
		route(r, huma.Operation{
			OperationID: d.id + "-door-change", Method: http.MethodPost, Path: "/v1/doors/{door_id}/changes/{change_id}/" + d.id,
			Summary: d.summary, Tags: []string{"Customer"}, DefaultStatus: http.StatusNoContent,
			Description: "For the door's owner, in person: a session that a shop's link began is refused (person-required). " + d.description,
			Errors:      []int{http.StatusForbidden, http.StatusConflict},
		}, []auth.Scope{auth.Customer}, func(ctx context.Context, in *changePath) (*struct{}, error) {
			by := customerOf(principal(ctx))
			if !by.Person {
				return nil, &handoff.Refusal{Reason: handoff.PersonRequired}
			}
			c, err := a.directory.OwnersChange(ctx, handoff.CustomerRef{Shop: by.Shop, ID: by.Customer}, in.Door.id, in.Change.id)
			if err != nil {
				return nil, err
			}
			return nil, d.do(ctx, c)
		})
	}
}

type changePath struct {
	Door   pathID `path:"door_id"`
	Change pathID `path:"change_id" doc:"As the mail or the door's pending change names it"`
}

type unitPath struct {
	Building pathID   `path:"building_id"`
	Unit     pathUnit `path:"unit" doc:"As parcels are addressed to it, percent-encoded; compared but for case and white space"`
}

// pathUnit is a unit in a path, as people write it.
type pathUnit struct{ text string }

const longestUnit = 60

// UnmarshalText holds it to the rule for units in bodies.
func (p *pathUnit) UnmarshalText(text []byte) error {
	unescaped, err := url.PathUnescape(string(text))
	if err != nil {
		return errors.New("must be percent-encoded text")
	}
	var bad violations
	p.text = bad.text("unit", unescaped, longestUnit)
	if len(bad) > 0 {
		return errors.New(bad[0].Message)
	}
	return nil
}

// Schema documents the form.
func (*pathUnit) Schema(huma.Registry) *huma.Schema {
	longest := longestUnit
	return &huma.Schema{Type: huma.TypeString, MaxLength: &longest, Examples: []any{"4 links"}}
}

type moveOutAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Unit      string             `json:"unit"`
	Doors     []string           `json:"doors" doc:"The unit's garages and homes: they open for no one until another owner is named"`
	Consents  []string           `json:"consents_ended" doc:"The grant_ids of parcels for which consent to a garage or home was taken back"`
	Residents []movedOutResident `json:"residents" doc:"Who was told of the unit"`
	Open      moveOutOpen        `json:"open" doc:"What is left"`
}

type movedOutResident struct {
	ResidentID string     `json:"resident_id"`
	LeavesAt   *time.Time `json:"leaves_at,omitempty" doc:"When a confirmed resident is forgotten; left out: forgotten now"`
}

type moveOutOpen struct {
	Parcels   []openParcel `json:"parcels" doc:"Of the owners, to the unit, not handed over. Their shops know them"`
	Residents int          `json:"residents" doc:"How many residents still hear of the unit, until their leaves_at"`
}

type openParcel struct {
	GrantID      string   `json:"grant_id"`
	Status       string   `json:"status" enum:"active,held"`
	DeliveryDate string   `json:"delivery_date" format:"date"`
	Consents     []string `json:"consents,omitempty" enum:"garage,home" doc:"That could not be taken back: a permit was given out with it, or the parcel is on hold"`
}

type moveOutOutput struct{ Body moveOutAnswer }

func (a *unitRoutes) moveOut(ctx context.Context, in *unitPath) (*moveOutOutput, error) {
	building, unit, by := in.Building.id, in.Unit.text, managerBy(ctx, a.service)
	if err := ownBuilding(ctx, a.registry, building); err != nil {
		return nil, err
	}
	doors, err := a.registry.MoveOut(ctx, by, building, unit)
	if err != nil {
		return nil, err
	}
	out := &moveOutOutput{Body: moveOutAnswer{
		Unit: unit, Doors: []string{}, Consents: []string{}, Residents: []movedOutResident{}, Open: moveOutOpen{Parcels: []openParcel{}},
	}}
	owners := map[handoff.CustomerRef]bool{}
	for i := range doors {
		d := &doors[i]
		out.Body.Doors = append(out.Body.Doors, d.ID)
		if d.Owner != nil {
			owners[*d.Owner] = true
		} else if d.Former != nil && d.Former.Owner != nil {
			owners[*d.Former.Owner] = true
		}
	}
	for owner := range owners {
		if err := a.endConsents(ctx, owner, building, unit, &out.Body); err != nil {
			return nil, err
		}
	}
	slices.Sort(out.Body.Consents)
	slices.SortFunc(out.Body.Open.Parcels, func(a, b openParcel) int { return strings.Compare(a.GrantID, b.GrantID) })
	gone, err := a.directory.MoveOut(ctx, by, building, unit)
	for i := range gone {
		r := movedOutResident{ResidentID: string(gone[i].ID)}
		if r.LeavesAt = timeOf(gone[i].LeavesAt); r.LeavesAt != nil {
			out.Body.Open.Residents++
		}
		out.Body.Residents = append(out.Body.Residents, r)
	}
	return out, err
}

// endConsents takes back what an owner agreed to for parcels to the unit, and lists these parcels.
func (a *unitRoutes) endConsents(ctx context.Context, owner handoff.CustomerRef, building, unit string, out *moveOutAnswer) error {
	takesBack := handoff.Actor{Role: handoff.RoleService, Subject: principal(ctx).Identity()}
	for after := (service.Listed{}); ; {
		grants, next, err := a.service.OfCustomer(ctx, owner, after, longestPage)
		if err != nil {
			return err
		}
		for _, g := range grants {
			to := &g.Dispatch.To
			if g.Status != handoff.Active && g.Status != handoff.Held || to.Building != building || !handoff.SameUnit(to.Unit, unit) {
				continue
			}
			if len(g.Consents) > 0 {
				now, err := a.service.Consent(ctx, takesBack, g.ID, nil)
				var refused *handoff.Refusal
				switch {
				case err == nil:
					g = now
					out.Consents = append(out.Consents, g.ID.String())
				case !errors.As(err, &refused):
					return err
				}
			}
			open := openParcel{GrantID: g.ID.String(), Status: g.Status.String(), DeliveryDate: g.Day().String()}
			for _, kind := range g.Consents {
				open.Consents = append(open.Consents, kind.String())
			}
			out.Open.Parcels = append(out.Open.Parcels, open)
		}
		if after = next; after == (service.Listed{}) {
			return nil
		}
	}
}
