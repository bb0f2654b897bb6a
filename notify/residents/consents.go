package residents

import (
	"context"
	"errors"
	"slices"

	"latchkey/handoff"
	"latchkey/handoff/residents"
	"latchkey/notify/mail/message"
)

// pageOfConsent is where the link of a question leads.
const pageOfConsent = "/residents/consent/"

// grantOf is the grant of an event, as it is now; nil once its retention is over.
func (n *Notifier) grantOf(ctx context.Context, e *handoff.Event) (*handoff.Grant, error) {
	g, err := n.Grants.Grant(ctx, handoff.Actor{Role: handoff.RoleService}, e.Grant)
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return nil, nil
	}
	return &g, err
}

// asked mails the question of who came by a shop's link to those who can confirm it, each with
// a link of their own, while it waits.
func (n *Notifier) asked(ctx context.Context, e *handoff.Event) error {
	g, err := n.grantOf(ctx, e)
	if err != nil || g == nil {
		return err
	}
	ask := g.ConsentAsked(n.Clock.Now())
	if ask == nil || ask.At != e.At { // over, or asked for anew: the newer event has its own mail
		return nil
	}
	kinds := g.NewConsents(ask.Consents)
	who, err := n.Residents.Confirmers(ctx, g, kinds)
	if err != nil {
		return err
	}
	return n.tell(ctx, inBuilding(e, g), "consent-ask", ask.ID(), nil, func(r *residents.Resident) bool {
		return slices.ContainsFunc(who, func(w residents.Resident) bool { return w.ID == r.ID })
	}, func(r *residents.Resident, v *message.Notice) {
		n.aboutConsent(v, e, g, r, kinds)
		v.Kind = message.ConsentAsk
		v.ActionURL = n.PublicURL + pageOfConsent + n.Residents.ConsentLink(residents.ConsentLink{
			Grant: g.ID, Ask: ask.ID(), Building: r.Building, Resident: r.ID, Until: ask.Until(),
		})
	})
}

// consented tells the units of a customer's own doors what is agreed to of them now. The
// customer hears of it from package mail.
func (n *Notifier) consented(ctx context.Context, e *handoff.Event, topic string) error {
	g, err := n.grantOf(ctx, e)
	if err != nil || g == nil || g.Dispatch.To.Building == "" {
		return err
	}
	theirs, err := n.ownersOf(ctx, g)
	if err != nil {
		return err
	}
	return n.tell(ctx, inBuilding(e, g), "consent", topic, nil, func(r *residents.Resident) bool {
		return r.ID != handoff.ManagerID && r.Unit != "" && theirs.hears(r) && !customersOwn(r, g)
	}, func(r *residents.Resident, v *message.Notice) {
		n.aboutConsent(v, e, g, r, e.Consents)
		if v.Kind = message.UnitConsent; len(e.Consents) == 0 {
			v.Kind = message.UnitNoConsent
		}
	})
}

// ownersOf are the owners of all garages and homes of the grant's customer in its building.
func (n *Notifier) ownersOf(ctx context.Context, g *handoff.Grant) (owners, error) {
	var o owners
	enrolment, err := n.Registry.Enrolment(ctx, g.Dispatch.To.Building)
	if err != nil || enrolment == nil {
		return o, err
	}
	customer := handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
	for _, d := range enrolment.Doors {
		if !d.Private() || d.Owner == nil || *d.Owner != customer {
			continue
		}
		if err := n.add(ctx, &o, g.Dispatch.To.Building, handoff.Binding{Owner: d.Owner, Unit: d.Unit}); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (n *Notifier) aboutConsent(v *message.Notice, e *handoff.Event, g *handoff.Grant, r *residents.Resident, kinds []handoff.TargetKind) {
	v.At, v.Unit, v.Day = e.At.Time(), r.Unit, g.Window.From.Time()
	v.CarrierName = n.CarrierNames[e.Carrier]
	if v.CarrierName == "" {
		v.CarrierName = e.Carrier
	}
	for _, kind := range kinds {
		v.Own = append(v.Own, kind.String())
	}
}

// inBuilding is an event of a grant as one of the building that its parcel goes to.
func inBuilding(e *handoff.Event, g *handoff.Grant) *handoff.Event {
	there := *e
	there.Building = g.Dispatch.To.Building
	return &there
}
