// Package residents writes to the people who live where couriers can have doors opened,
// and to the managers of their buildings.
//
// It is a group of readers of the event log. An event concerns many people, and each of
// them gets a mail of their own: who was served is noted one by one, so that a crash
// halfway repeats one mail at the most, with the same Message-ID, and never all of them.
//
// What is told, and to whom:
//
//   - An unlocking, once a permit, to who follows the building and to who follows the
//     unit that the parcel is for. A garage or a flat is its unit's business alone; of a door
//     that does not say whether it opened, the permit is told.
//   - What is agreed to of a garage or home, and no longer, to its unit; and a question to
//     its confirmed residents, where who came by a shop's link would agree.
//   - An alarm at a door, to who follows the building and to the manager. Of a garage or
//     home it is told to its customer and to the residents of its unit, too.
//   - What is installed, to the manager, to post it, and to everybody on file or
//     subscribed, an hour after the last change or when the manager says so.
//   - A change of a garage or home that waits, to those who can object to it.
//   - What a subscription itself needs: a question, an approval, a welcome.
//
// Nothing names a customer, a parcel, or a unit to anybody but its own residents.
package residents

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/notify"
	"latchkey/notify/mail"
	"latchkey/notify/mail/message"
)

// Group is the readers' name in the log.
const Group = "residents"

// Timeout bounds one event: a large building takes many mails. What it cuts off goes on
// where it was, at the next try.
const Timeout = 2 * time.Minute

const (
	// NoticesPerDay is how many notices of one kind (unlockings, doors that were forced, ...)
	// a resident gets in a day about one door. The last one says so. What one door says
	// costs no other door a notice.
	NoticesPerDay = 30

	// gather is the stretch within which further alarms of a kind at a door become one mail,
	// at its end. The first of a stretch is mailed at once.
	gather = time.Hour

	// written is how long after its event a change is surely written.
	written = 20 * time.Second

	// settle is how long a building must be left unchanged before its residents are told:
	// doors are registered one by one.
	settle = time.Hour

	// informAgain is how soon a resident may be told of another change, unless the manager
	// asks for it.
	informAgain = 12 * time.Hour
)

// Grants reads grants; a [service.Service].
type Grants interface {
	Grant(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error)

	// OfCustomer lists up to limit of a customer's grants, the one that ends last first.
	OfCustomer(ctx context.Context, c handoff.CustomerRef, after service.Listed, limit int) ([]handoff.Grant, service.Listed, error)
}

// Observer counts mails. It is called by several goroutines at once and must not block.
type Observer interface {
	Sent(k message.Kind)

	// Undeliverable says that a mail was given up because its address or its server
	// refused it for good; the others of the event go on.
	Undeliverable(k message.Kind, r notify.Reason)
}

// Config is what a Notifier is made of. All but Observer and CarrierNames is required.
type Config struct {
	Grants    Grants
	Residents *residents.Directory
	Registry  *registry.Registry
	Store     residents.Store
	Transport mail.Transport
	Clock     clock.Clock
	Observer  Observer

	// PublicURL is where the service's own pages are, without a path: links begin with it.
	PublicURL string

	// CarrierNames are what people call the carriers, by id. Who is not listed is called
	// by the id: residents are told who came.
	CarrierNames map[string]string

	// Kept is how long the access log is kept.
	Kept time.Duration
}

// Notifier turns events into mail to residents.
type Notifier struct{ Config }

// New makes a Notifier. The error names what is missing or wrong.
func New(c Config) (*Notifier, error) {
	if c.Grants == nil || c.Residents == nil || c.Registry == nil || c.Store == nil || c.Transport == nil || c.Clock == nil || c.Kept < 24*time.Hour {
		return nil, errors.New("residents: grants, residents, a registry, a store, a transport, a clock and a time of at least a day to keep the log are needed")
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("residents: the public URL must be http or https, a host, and nothing else")
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	return &Notifier{c}, nil
}

type noObserver struct{}

func (noObserver) Sent(message.Kind) {}

func (noObserver) Undeliverable(message.Kind, notify.Reason) {}

var _ notify.Handler = (&Notifier{}).Handle

// Handle implements [notify.Handler].
func (n *Notifier) Handle(ctx context.Context, d eventlog.Delivery) error {
	e := &d.Event
	switch e.Type {
	case handoff.EventDoorConfirmed, handoff.EventDoorOpened:
		// Whichever is heard first: a lock may say nothing, and a door may have no contact.
		return n.unlocked(ctx, e)
	case handoff.EventDoorRelocked: // the other reports may have been lost
		if private(e) {
			return n.unlocked(ctx, e)
		}
	case handoff.EventPermitted, handoff.EventDoorSilent: // it may have been opened all the same
		if private(e) && !e.Awaited {
			return n.unlocked(ctx, e)
		}
	case handoff.EventConsentAsked:
		return n.asked(ctx, e)
	case handoff.EventConsented:
		return n.consented(ctx, e, eventID(&d))
	case handoff.EventDoorFailed:
		return n.alarm(ctx, e, "failed", e.Permit.String(), 0)
	case handoff.EventDoorForced:
		return n.gathered(ctx, e, "forced", eventID(&d))
	case handoff.EventDoorHeldOpen:
		return n.gathered(ctx, e, "held-open", eventID(&d))
	case handoff.EventDoorTampered:
		return n.gathered(ctx, e, "tampered", eventID(&d))
	case handoff.EventDoorChanged:
		return n.doorChanged(ctx, e, eventID(&d))
	case handoff.EventDoorChangeAsked:
		return n.changeAsked(ctx, e)
	case handoff.EventDoorChangeObjected, handoff.EventDoorChangeWithdrawn:
		return n.changeEnded(ctx, e)
	case handoff.EventBuildingEnrolled:
		return n.enrolled(ctx, e)
	case handoff.EventResidentChanged:
		return n.subscription(ctx, e, eventID(&d))
	}
	return nil
}

func eventID(d *eventlog.Delivery) string {
	const hexDigits = "0123456789abcdef"
	return hexDigits[d.ID.Partition:d.ID.Partition+1] + ":" + d.ID.ID
}

// messageID names one mail of a topic to one resident: the same at every try.
func messageID(building string, to handoff.ResidentID, topic string) string {
	sum := sha256.Sum256([]byte("residents/" + building + "/" + string(to) + "/" + topic))
	return hex.EncodeToString(sum[:16])
}

// private reports whether an event is about a garage or home.
func private(e *handoff.Event) bool { return e.Target == handoff.Garage || e.Target == handoff.Home }

// customersOwn reports whether a mail to a resident would only repeat what package mail writes to
// the customer.
func customersOwn(r *residents.Resident, g *handoff.Grant) bool {
	return strings.EqualFold(r.Address, g.Dispatch.Customer.Email)
}

// unlocked tells who follows the building or the unit that a courier was let through.
func (n *Notifier) unlocked(ctx context.Context, e *handoff.Event) error {
	g, err := n.Grants.Grant(ctx, handoff.Actor{Role: handoff.RoleService}, e.Grant)
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return nil // its retention is over
	}
	if err != nil {
		return err
	}
	unit := g.Dispatch.To.Unit
	owned := private(e)
	var whose string // unit, whosever parcel it was
	if owned {
		bindings, err := n.Registry.Bindings(ctx, e.Door, e.At)
		if err != nil {
			return err
		}
		whose = bindings[0].Unit
	}
	return n.tell(ctx, e, "unlocked", e.Permit.String(), nil, func(r *residents.Resident) bool {
		return r.ID != handoff.ManagerID && !(owned && customersOwn(r, &g)) && (r.Hears(unit) && (r.Unit != "" || !owned) || whose != "" && r.Unit != "" && r.Hears(whose))
	}, func(r *residents.Resident, v *message.Notice) {
		v.Kind, v.Unit = message.DoorUnlocked, r.Unit
		if e.Type == handoff.EventPermitted || e.Type == handoff.EventDoorSilent {
			v.Kind = message.UnitPermit
		}
		if v.CarrierName = n.CarrierNames[e.Carrier]; v.CarrierName == "" {
			v.CarrierName = e.Carrier
		}
	})
}

// gathered is alarm of what a door can say again and again: the first alarm of a kind in an
// hour is told at once, and the others of that hour together when it is over.
func (n *Notifier) gathered(ctx context.Context, e *handoff.Event, what, topic string) error {
	if e.Building == "" || n.Clock.Now().Sub(e.At.Time()) > tooLate {
		return nil
	}
	begin := e.At.Time().UTC().Truncate(gather)
	page := residents.Mark{
		Building: e.Building, Of: "alarm." + e.Door + "." + what + "." + begin.Format("15"), Day: handoff.DateOf(begin), Topic: topic,
	}
	number, _, err := n.Store.Mark(ctx, page)
	if err != nil {
		return err
	}
	if number == 1 {
		return n.alarm(ctx, e, what, topic, 0)
	}
	if due := begin.Add(gather); n.Clock.Now().Before(due) {
		return notify.Later(due)
	}
	// Each event of the hour comes here; the first tells of all, and the page knows how many they are.
	page.Topic = "all"
	number, ended, err := n.Store.Mark(ctx, page)
	if err != nil || ended {
		return err
	}
	if err := n.alarm(ctx, e, what, "all:"+begin.Format(time.RFC3339), number-2); err != nil {
		return err
	}
	return n.Store.EndMark(ctx, page)
}

// alarm tells who follows the building, and the manager, that something is wrong; of a
// garage or home, also those whose it is. More than 0 says that the mail tells of that many
// alarms that followed one already told.
func (n *Notifier) alarm(ctx context.Context, e *handoff.Event, what, topic string, more int) error {
	theirs, err := n.owners(ctx, e)
	if err != nil {
		return err
	}
	own := func(r *residents.Resident) bool { return theirs.customer(r) || r.Unit != "" && theirs.hears(r) }
	return n.tell(ctx, e, what, topic, theirs.customers, func(r *residents.Resident) bool {
		return r.ID == handoff.ManagerID || own(r) || r.Hears("") && r.Unit == ""
	}, func(r *residents.Resident, v *message.Notice) {
		v.Kind, v.Alarm, v.More = message.DoorAlarm, what, more
		if own(r) {
			v.Kind = message.OwnDoorAlarm
			return
		}
		if r.ID != handoff.ManagerID && (v.Door.Kind == handoff.Garage.String() || v.Door.Kind == handoff.Home.String()) {
			v.Door.ID = "" // it could tell which unit
		}
	})
}

// owners are those whose a garage or home is.
type owners struct {
	customers []residents.Resident // no residents of the building's list: the customer at each address
	units     []string
}

func (o *owners) customer(r *residents.Resident) bool {
	return slices.ContainsFunc(o.customers, func(c residents.Resident) bool { return c.ID == r.ID })
}

func (o *owners) hears(r *residents.Resident) bool {
	return slices.ContainsFunc(o.units, r.Hears)
}

// grantsOfOwner is among how many of a customer's newest grants the address and unit of a
// garage or home are looked for.
const grantsOfOwner = 20

// owners finds whose a door is: its customer, at the address that the newest parcel to the
// building gave, and its unit. Of a door that is bound to none the units count that the
// customer's parcels to the building go to. A door of the house is no one's.
func (n *Notifier) owners(ctx context.Context, e *handoff.Event) (owners, error) {
	bindings, err := n.Registry.Bindings(ctx, e.Door, e.At)
	if err != nil {
		return owners{}, err
	}
	var o owners
	err = n.add(ctx, &o, e.Building, bindings[0])
	return o, err
}

func (n *Notifier) add(ctx context.Context, o *owners, building string, b handoff.Binding) error {
	if b.Unit != "" {
		o.units = append(o.units, b.Unit)
	}
	if b.Owner == nil {
		return nil
	}
	grants, _, err := n.Grants.OfCustomer(ctx, *b.Owner, service.Listed{}, grantsOfOwner)
	if err != nil {
		return err
	}
	found := false
	for i := range grants {
		to, c := &grants[i].Dispatch.To, &grants[i].Dispatch.Customer
		if to.Building != building {
			continue
		}
		if to.Unit != "" && b.Unit == "" {
			o.units = append(o.units, to.Unit)
		}
		if !found && c.Email != "" {
			found = true
			name := messageID(building, "", "customer/"+b.Owner.Shop+"/"+b.Owner.ID)
			o.customers = append(o.customers, residents.Resident{
				ID: handoff.ResidentID(name[:handoff.ResidentIDLen]), Building: building, Address: c.Email, Locale: c.Locale,
			})
		}
	}
	return nil
}

// doorChanged tells of a change to a garage or home those whose it is and, where that is what
// changed, those whose it was.
func (n *Notifier) doorChanged(ctx context.Context, e *handoff.Event, topic string) error {
	if !private(e) {
		return nil
	}
	// The event is ahead of the write.
	if due := e.At.Time().Add(written); n.Clock.Now().Before(due) {
		return notify.Later(due)
	}
	bindings, err := n.Registry.Bindings(ctx, e.Door, handoff.InstantOf(e.At.Time().Add(-time.Minute)))
	if err != nil {
		return err
	}
	var theirs owners
	for _, b := range bindings {
		if err := n.add(ctx, &theirs, e.Building, b); err != nil {
			return err
		}
	}
	return n.tell(ctx, e, "changed", topic, theirs.customers, func(r *residents.Resident) bool {
		return theirs.customer(r) || r.ID != handoff.ManagerID && r.Unit != "" && theirs.hears(r)
	}, func(_ *residents.Resident, v *message.Notice) {
		v.Kind, v.Changes = message.OwnDoorChanged, e.Changes
	})
}

// changeAsked tells of a change that waits those who can object to it: the residents who were
// confirmed for the door's unit before, and its owner.
func (n *Notifier) changeAsked(ctx context.Context, e *handoff.Event) error {
	// The event is ahead of the write.
	if due := e.At.Time().Add(written); n.Clock.Now().Before(due) {
		return notify.Later(due)
	}
	door, err := n.Registry.Waits(ctx, e.Building, e.Change)
	if errors.Is(err, registry.ErrNoChange) {
		return nil // decided meanwhile
	}
	if err != nil {
		return err
	}
	holder := door.Holder(handoff.InstantOf(n.Clock.Now()))
	var theirs owners
	if err := n.add(ctx, &theirs, e.Building, handoff.Binding{Owner: holder, Unit: door.Unit}); err != nil {
		return err
	}
	return n.tell(ctx, e, "change", e.Change, theirs.customers, func(r *residents.Resident) bool {
		return theirs.customer(r) || n.Residents.MayDecide(r, door)
	}, func(r *residents.Resident, v *message.Notice) {
		id := r.ID
		if theirs.customer(r) {
			id = n.Residents.Owner(*holder)
		}
		v.Kind, v.Changes, v.From = message.OwnDoorChange, e.Changes, door.Pending.Due.Time()
		v.ActionURL = n.PublicURL + "/residents/change/" + n.Residents.ChangeLink(e.Building, door.Pending, id)
	})
}

// changeEnded tells the same people that a change will not be made, where they were told of it.
func (n *Notifier) changeEnded(ctx context.Context, e *handoff.Event) error {
	bindings, err := n.Registry.Bindings(ctx, e.Door, e.At)
	if err != nil {
		return err
	}
	var theirs owners
	if err := n.add(ctx, &theirs, e.Building, bindings[0]); err != nil {
		return err
	}
	return n.tell(ctx, e, "stays", e.Change, theirs.customers, func(r *residents.Resident) bool {
		return theirs.customer(r) || r.ID != handoff.ManagerID && r.Unit != "" && theirs.hears(r)
	}, func(_ *residents.Resident, v *message.Notice) {
		v.Kind, v.Changes = message.OwnDoorStays, e.Changes
	})
}

// tell sends one notice about a door to everybody whom it concerns, each address once,
// and each at most so many a day of one kind and door: no number of openings keeps an alarm
// back, and no door another's.
// Those it could not reach are tried again; those who have it are not. The others are who
// may be concerned and is not on the building's list.
func (n *Notifier) tell(ctx context.Context, e *handoff.Event, what, topic string, others []residents.Resident, concerns func(*residents.Resident) bool, fill func(*residents.Resident, *message.Notice)) error {
	if e.Building == "" || n.Clock.Now().Sub(e.At.Time()) > tooLate {
		return nil
	}
	enrolment, err := n.Registry.Enrolment(ctx, e.Building)
	if err != nil || enrolment == nil {
		return err
	}
	zone, err := handoff.Zone(enrolment.Building.Zone)
	if err != nil {
		return notify.Permanent(err, notify.Reason{Class: "render", Detail: "time zone"})
	}
	all, err := n.everybody(ctx, &enrolment.Building)
	if err != nil {
		return err
	}
	all = append(all, others...)
	door := message.Door{ID: e.Door, Kind: e.Target.String()}
	for _, d := range enrolment.Doors {
		if d.ID == e.Door {
			door.Kind = d.Kind.String()
		}
	}
	// Who follows both a unit and the building hears of the unit.
	slices.SortStableFunc(all, func(a, b residents.Resident) int { return strings.Compare(b.Unit, a.Unit) })
	served := map[string]bool{}
	var failed error
	for i := range all {
		r := &all[i]
		if address := strings.ToLower(r.Address); !concerns(r) || served[address] {
			continue
		} else {
			served[address] = true
		}
		mark := residents.Mark{Building: e.Building, Of: string(r.ID) + "." + what + "." + e.Door, Day: handoff.DateOf(e.At.Time().In(zone)), Topic: topic}
		number, done, err := n.Store.Mark(ctx, mark)
		if err != nil {
			return err
		}
		if done || number > NoticesPerDay {
			continue
		}
		v := n.notice(&enrolment.Building, zone, r)
		v.At, v.Door = e.At.Time(), door
		fill(r, &v)
		if number == NoticesPerDay {
			v.Limit = NoticesPerDay
		}
		switch {
		case v.ActionURL != "": // its own
		case slices.ContainsFunc(others, func(o residents.Resident) bool { return o.ID == r.ID }):
			v.ActionURL = n.PublicURL + "/account"
		default:
			v.ActionURL = n.link(residents.LinkLog, r)
		}
		switch err := n.send(ctx, r, v, what+":"+topic); {
		case ctx.Err() != nil:
			return err
		case err != nil:
			failed = err
			continue
		}
		if err := n.Store.EndMark(ctx, mark); err != nil {
			return err
		}
	}
	return failed
}

// tooLate is when a notice is no use any more: the log has it.
const tooLate = 36 * time.Hour

// everybody are a building's residents and, where it has one, its manager.
func (n *Notifier) everybody(ctx context.Context, b *handoff.Building) ([]residents.Resident, error) {
	all, err := n.Residents.List(ctx, b.ID)
	if err != nil || b.Manager == "" {
		return all, err
	}
	manager, err := n.manager(ctx, b)
	return append([]residents.Resident{manager}, all...), err
}

func (n *Notifier) manager(ctx context.Context, b *handoff.Building) (residents.Resident, error) {
	m, err := n.Store.Resident(ctx, b.ID, handoff.ManagerID)
	if err != nil {
		return residents.Resident{}, err
	}
	if m == nil {
		m = &residents.Resident{ID: handoff.ManagerID, Building: b.ID}
	}
	m.Address, m.Locale = b.Manager, b.Locale
	return *m, nil
}

// notice is what every notice of a building says.
func (n *Notifier) notice(b *handoff.Building, zone *time.Location, r *residents.Resident) message.Notice {
	v := message.Notice{Locale: r.Locale, BuildingName: b.Name, Address: b.Address, Zone: zone}
	if r.ID != handoff.ManagerID && r.State() == residents.ResidentActive {
		v.LeaveURL = n.link(residents.LinkUnsubscribe, r)
	}
	return v
}

// pages are where links lead.
var pages = map[residents.LinkFor]string{
	residents.LinkLog: "/log/", residents.LinkConfirm: "/residents/confirm/", residents.LinkUnsubscribe: "/residents/unsubscribe/",
	residents.LinkDecide: "/residents/decide/",
}

func (n *Notifier) link(purpose residents.LinkFor, r *residents.Resident) string {
	return n.PublicURL + pages[purpose] + n.Residents.Link(purpose, r.Building, r.ID)
}

// send renders and sends one mail. Nil says that there is nothing more to do about it:
// it was accepted, or refused for good, which is no reason to keep the others waiting.
func (n *Notifier) send(ctx context.Context, to *residents.Resident, v message.Notice, topic string) error {
	rendered, err := message.RenderNotice(v)
	if err != nil {
		n.Observer.Undeliverable(v.Kind, notify.Reason{Class: "render", Detail: string(v.Kind)})
		return nil
	}
	letter := mail.Letter{
		Mail: rendered, ID: messageID(to.Building, to.ID, topic), To: to.Address, Date: n.Clock.Now(), Unsubscribe: v.LeaveURL,
	}
	switch err := n.Transport.Send(ctx, letter); {
	case notify.IsPermanent(err):
		n.Observer.Undeliverable(v.Kind, notify.ReasonOf(err))
		return nil
	case err != nil:
		return err
	}
	n.Observer.Sent(v.Kind)
	return nil
}

// enrolled tells what is installed to every resident who was not told the same before. The
// resident's record says what that was, so that a crash, another event and a repeated
// announcement are all the same: a resident who was told it is not told again.
func (n *Notifier) enrolled(ctx context.Context, e *handoff.Event) error {
	now := n.Clock.Now()
	announced := e.By != ""
	if due := e.At.Time().Add(settle); !announced && now.Before(due) {
		return notify.Later(due)
	}
	enrolment, err := n.Registry.Enrolment(ctx, e.Building)
	if err != nil || enrolment == nil || len(enrolment.Doors) == 0 {
		return err // nothing is installed yet: the first door says so again
	}
	zone, err := handoff.Zone(enrolment.Building.Zone)
	if err != nil {
		return notify.Permanent(err, notify.Reason{Class: "render", Detail: "time zone"})
	}
	all, err := n.everybody(ctx, &enrolment.Building)
	if err != nil {
		return err
	}
	digest := enrolment.Digest()
	var failed error
	for i := range all {
		r := &all[i]
		if isManager := r.ID == handoff.ManagerID; !isManager && !r.IsInformed() || slices.Equal(r.Informed, digest) {
			continue
		}
		if due := r.InformedAt.Time().Add(informAgain); r.InformedAt != 0 && !announced && now.Before(due) {
			failed = errors.Join(failed, notify.Later(due))
			continue
		}
		v := n.installed(enrolment, zone, r)
		topic := "enrolled:" + hex.EncodeToString(digest) + ":" + r.InformedAt.Time().Format(time.RFC3339)
		switch err := n.send(ctx, r, v, topic); {
		case ctx.Err() != nil:
			return err
		case err != nil:
			failed = err
			continue
		}
		err := n.Residents.Mailed(ctx, r.Building, r.ID, func(r *residents.Resident) {
			r.Informed, r.InformedAt = digest, handoff.InstantOf(now)
		})
		if err != nil {
			return err
		}
	}
	return failed
}

func (n *Notifier) installed(e *registry.Enrolment, zone *time.Location, r *residents.Resident) message.Notice {
	b := &e.Building
	v := n.notice(b, zone, r)
	v.Kind, v.ActionURL = message.Enrolled, n.link(residents.LinkLog, r)
	v.Returns, v.KeptDays, v.Manager = b.Returns, int(n.Kept/(24*time.Hour)), b.Manager
	if r.ID == handoff.ManagerID {
		v.Kind = message.EnrolledPost
	} else if r.ConfirmedAt == 0 {
		v.ConfirmURL = n.link(residents.LinkConfirm, r)
	}
	if b.Hours != nil {
		v.Hours = b.Hours.String()
	}
	if b.Quiet != nil {
		v.Quiet = b.Quiet.String()
	}
	for _, c := range b.Carriers {
		if name := n.CarrierNames[c]; name != "" {
			c = name
		}
		v.Carriers = append(v.Carriers, c)
	}
	for _, d := range e.Doors {
		door := message.Door{ID: d.ID, Kind: d.Kind.String(), Mode: d.Mode.String()}
		if d.Kind == handoff.Garage || d.Kind == handoff.Home {
			door.ID = ""
		}
		v.Doors = append(v.Doors, door)
	}
	return v
}

// subscription sends the mail that a subscription needs, as it stands now.
func (n *Notifier) subscription(ctx context.Context, e *handoff.Event, topic string) error {
	r, err := n.Store.Resident(ctx, e.Building, e.Resident)
	if err != nil || r == nil {
		return err
	}
	enrolment, err := n.Registry.Enrolment(ctx, e.Building)
	if err != nil || enrolment == nil {
		return err
	}
	zone, err := handoff.Zone(enrolment.Building.Zone)
	if err != nil {
		return notify.Permanent(err, notify.Reason{Class: "render", Detail: "time zone"})
	}
	due, to := r.Due(), *r
	v := n.notice(&enrolment.Building, zone, r)
	v.Unit = r.Unit
	switch due {
	case residents.ConfirmMail:
		v.Kind, v.ActionURL = message.ResidentConfirm, n.link(residents.LinkConfirm, r)
	case residents.WelcomeMail:
		v.Kind, v.ActionURL = message.ResidentActive, n.link(residents.LinkLog, r)
	case residents.LeavingMail:
		v.Kind, v.ActionURL, v.At, v.Final = message.ResidentLeaving, n.link(residents.LinkLog, r), r.LeavesAt.Time(), !r.MayObject()
		if !v.Final {
			v.ActionURL = n.PublicURL + "/residents/stay/" + n.Residents.StayLink(r)
		}
	case residents.RequestMail:
		if to, err = n.manager(ctx, &enrolment.Building); err != nil || to.Address == "" {
			return err // the list of residents shows the request
		}
		v.Kind, v.ActionURL, v.Locale, v.Mailbox = message.UnitRequest, n.link(residents.LinkDecide, r), to.Locale, r.Address
	default:
		return nil
	}
	if err := n.send(ctx, &to, v, topic); err != nil {
		return err
	}
	now := handoff.InstantOf(n.Clock.Now())
	return n.Residents.Mailed(ctx, e.Building, r.ID, func(r *residents.Resident) { r.Mailed(due, now) })
}
