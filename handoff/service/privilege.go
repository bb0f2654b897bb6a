package service

import (
	"context"

	"latchkey/handoff"
)

// MadeLink tells that a shop makes a link which lets one of its customers in. It comes before
// the link.
func (s *Service) MadeLink(ctx context.Context, by handoff.Actor, c handoff.CustomerRef) error {
	return s.tell(ctx, by, handoff.Event{Type: handoff.EventLinkMade, Shop: c.Shop, Object: s.customerName(c)})
}

// customerName is the pseudonym of a customer, who acts in nothing that is told here.
func (s *Service) customerName(c handoff.CustomerRef) string {
	return handoff.Pseudonym(s.names, "customer", c.Shop+" "+c.ID)
}

// tell puts what was done by a privilege on the log, where it changes no grant.
func (s *Service) tell(ctx context.Context, by handoff.Actor, e handoff.Event) error {
	if e.At == 0 {
		e.At = handoff.InstantOf(s.clock.Now())
	}
	e.By, e.Who, e.APIKey = string(by.Role), s.Who(by), by.Key
	return s.store.Append(ctx, e.At, e)
}
