package service

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"latchkey/handoff"
)

// Lists finds grants other than by parcel. The entries are written ahead of the commit: an
// entry counts only if its grant says the same. All errors are storage.ErrUnavailable.
type Lists interface {
	// List writes the entries of a grant. Writing them again is harmless: an older end of the
	// window takes nothing back.
	List(ctx context.Context, parcel handoff.ParcelHash, x Index) error

	// OfCustomer lists up to limit parcels indexed for a customer, the latest end of a
	// window first and among equals the greater hash, beginning after a place (zero:
	// with the first). A parcel that is moved to a later day meanwhile moves up, so that a
	// reader of several pages may see it twice or not at all.
	OfCustomer(ctx context.Context, c handoff.CustomerRef, after Listed, limit int) ([]Listed, error)

	// OnRoute lists the parcels indexed for a route on a day.
	OnRoute(ctx context.Context, r RouteRef) ([]handoff.ParcelHash, error)

	// OfOrder lists the parcels indexed for an order. Names of two orders may collide.
	OfOrder(ctx context.Context, o OrderRef) ([]handoff.ParcelHash, error)

	// Unlist takes a parcel out of a customer's index.
	Unlist(ctx context.Context, c handoff.CustomerRef, id handoff.ParcelHash) error
}

// Index is where a grant is found other than by its parcel.
type Index struct {
	Customer handoff.CustomerRef
	Route    RouteRef
	Order    OrderRef        // zero: there is none
	Until    handoff.Instant // end of the grant's window
	Now      handoff.Instant // when it is written, by the service's clock
}

// Listed is a place in a customer's list: a parcel and the end of its window.
type Listed struct {
	Parcel handoff.ParcelHash
	Until  handoff.Instant
}

// String is the place in a form that ParseListed reads; empty for none.
func (l Listed) String() string {
	if l == (Listed{}) {
		return ""
	}
	return strconv.FormatInt(int64(l.Until), 10) + "-" + string(l.Parcel)
}

var listedRule = regexp.MustCompile(`^([0-9]{1,12})-([0-9a-f]{24})$`)

// ParseListed reads what String writes.
func ParseListed(text string) (l Listed, ok bool) {
	if text == "" {
		return Listed{}, true
	}
	m := listedRule.FindStringSubmatch(text)
	if m == nil {
		return Listed{}, false
	}
	until, err := strconv.ParseInt(m[1], 10, 64)
	return Listed{Parcel: handoff.ParcelHash(m[2]), Until: handoff.Instant(until)}, err == nil
}

// RouteRef names one route of a carrier on one day.
type RouteRef struct {
	Carrier, Route string
	Day            handoff.Date
}

// OrderRef names an order among those of one delivery day.
type OrderRef struct {
	Name [orderLen]byte // keyed, of the shop and its order: it tells nothing to its reader
	Day  handoff.Date
}

const orderLen = 8

// entries is the reservation of a request that gives a grant a day: its entries in lists. They
// are written before the commit, since a grant without an entry would be lost to its customer
// and its courier. An entry that no grant bears out is skipped by readers and is not taken back.
//
// A dispatch writes its entries in the trip that reads, if policy and calendar allow such a
// grant (handoff.Policy.Terms). What is refused by these leaves no entry. What passes them and
// is refused because of the parcel's grant leaves one, which gives its shop nothing: it may
// fill the same lists with dispatches that are accepted. The address of a rescheduled parcel is
// known only from its grant, so its entries take a trip of their own once the decision is made.
type entries struct {
	unreserved
	service *Service
	minted  *Index // of a dispatch that may be minted; nil: none
}

func (x entries) reserve(_ context.Context, want *Preparation) { want.Index = x.minted }

func (x entries) name(ctx context.Context, p *pass) error {
	for i := range p.decision.Events {
		e := &p.decision.Events[i]
		if e.Type != handoff.EventRescheduled {
			continue
		}
		d := &p.Record.Grant.Dispatch
		err := x.service.store.List(ctx, e.Grant.Hash, x.service.index(d, e.Route, *e.Day, *e.Window, p.change.Now))
		if err != nil {
			return fmt.Errorf("the lists of a rescheduled parcel: %w", err)
		}
		if err := x.service.extend(ctx, &p.change.Record.Grant, p.change.Now); err != nil {
			return fmt.Errorf("the keys of rescheduled parcels: %w", err)
		}
	}
	return nil
}

// index is where a grant of this dispatch is to be found when it is on a route on a day.
func (s *Service) index(d *handoff.Dispatch, route string, day handoff.Date, w handoff.Window, now handoff.Instant) Index {
	return Index{
		Customer: handoff.CustomerRef{Shop: d.Shop, ID: d.Customer.ID},
		Route:    RouteRef{Carrier: d.Carrier, Route: route, Day: day},
		Order:    s.orderRef(d.Shop, d.Order, day),
		Until:    w.Until, Now: now,
	}
}

func (s *Service) orderRef(shop, order string, day handoff.Date) (o OrderRef) {
	if order == "" {
		return o
	}
	copy(o.Name[:], s.names.Name("order", shop, order))
	o.Day = day
	return o
}
