package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
)

// unitRoutes are about whose a garage or home is: the owner's word about a change that waits.
type unitRoutes struct {
	service   *service.Service
	registry  *registry.Registry
	directory *residents.Directory
}

func (a *unitRoutes) register(r *registrar) {
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
