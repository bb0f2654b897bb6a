// Package mail writes to customers: a code when the parcel leaves the warehouse, and a
// word whenever something happens to it that they should know at once.
//
// The mail is a group of readers of the event log. [Mailer.Handle] is their handler:
// it takes one event, looks the grant up as it is NOW, and asks whether the mail that
// the event calls for would still be true. A code that was replaced, used, locked or
// that ran out meanwhile is not sent any more, and a day that was moved is not
// told. What is true is rendered (package message), and only then is the code brought
// out of its guard. A [Sender] hands it to a mail server, over connections that it
// keeps.
//
// The event is finished in the log after the server accepted the mail. When the link
// breaks between the two, the mail is sent again, and has the same Message-ID: made
// from the event, so that it is the same on every instance.
//
// A server that says 4xx, or nothing, gets the mail later. One that says 5xx to the
// recipient or the mail has condemned it: it becomes a dead letter. No error that
// leaves this package quotes the server, for servers quote addresses.
//
// What to watch: the age of the oldest event that waits and the dead letters
// ([eventlog.Log] Backlog of the group), mails sent and mails left out ([Observer]), and
// failures by class ([notify.Observer]).
package mail

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/eventlog"
	"latchkey/notify"
	"latchkey/notify/mail/message"
	"latchkey/otp"
)

// Group is the name of the mail's readers in the event log.
const Group = "mail"

// Grants is where grants are looked up; a [service.Service].
type Grants interface {
	Grant(ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error)
}

// Mails is told what becomes of the mails with codes; a [service.Service].
type Mails interface {
	MailTaken(ctx context.Context, g *handoff.Grant, state handoff.MailState) error
	MailFailed(ctx context.Context, id handoff.GrantID, issue uint64, why handoff.Reason, status string) error
	MailToken(g *handoff.Grant) string
}

// Couriers is where couriers' names are looked up; a [service.Couriers].
type Couriers interface {
	Courier(ctx context.Context, ref handoff.CourierRef) (*handoff.Courier, error)
}

// Transport takes letters; a [Sender].
type Transport interface {
	Send(ctx context.Context, l Letter) error
}

// Observer counts mails. It is called by several goroutines at once and must not block.
type Observer interface {
	Sent(k message.Kind)

	// LeftOut says that an event called for mail, and that it would not be true any more.
	LeftOut(e handoff.EventType)

	// Unnoted says that a mail was sent and that this could not be noted. It counts as late, in time.
	Unnoted()
}

// MailerConfig is what a Mailer is made of. Grants, Mails, Couriers, Transport, Clock
// and Limits are required.
type MailerConfig struct {
	Grants    Grants
	Mails     Mails
	Couriers  Couriers
	Transport Transport
	Clock     clock.Clock
	Limits    handoff.Limits // of the policy in force: how many wrong codes lock a code
	Observer  Observer

	// ShopNames and CarrierNames are what customers call them, by id. Who is not listed
	// is not named.
	ShopNames, CarrierNames map[string]string

	// ShopContacts are how customers reach the shops' people, by the shop's id.
	ShopContacts map[string]string

	// AccountURL is the customer's page of a grant: absolute, http or https, with
	// {grant_id} where the grant's id belongs. Empty: mails have no link.
	AccountURL string

	// Bounces is the address to which mails that cannot be delivered come back, such as
	// bounce@shop.example; the token of each mail is put before its @, behind a plus sign. Empty:
	// they come back to the sender.
	Bounces string
}

// Mailer turns events into mail.
type Mailer struct{ MailerConfig }

// NewMailer makes a Mailer. The error names what is missing or wrong.
func NewMailer(c MailerConfig) (*Mailer, error) {
	if err := CheckBounces(c.Bounces); err != nil {
		return nil, err
	}
	if c.Grants == nil || c.Mails == nil || c.Couriers == nil || c.Transport == nil || c.Clock == nil {
		return nil, errors.New("mail: a mailer needs grants, couriers, a transport and a clock")
	}
	if c.Limits.CodeTries <= 0 || c.Limits.GrantTries <= 0 {
		return nil, errors.New("mail: a mailer needs the limits of wrong codes")
	}
	if err := CheckAccountURL(c.AccountURL); err != nil {
		return nil, err
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	return &Mailer{c}, nil
}

// GrantID is what stands in an account URL for the grant's id.
const GrantID = "{grant_id}"

var errAccountURL = errors.New("mail: the account URL must be absolute, http or https, and ASCII, with " + GrantID + " after the host")

// CheckAccountURL holds the address of the customer's page to what mails need. Without the
// grant's id each mail would link to the same page. Empty is none, and no error.
func CheckAccountURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(strings.ReplaceAll(text, GrantID, ""))
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || !isASCII(text) {
		return errAccountURL
	}
	_, after, _ := strings.Cut(text, u.Host)
	if !strings.Contains(after, GrantID) {
		return errAccountURL
	}
	return nil
}

type noObserver struct{}

func (noObserver) Sent(message.Kind) {}

func (noObserver) LeftOut(handoff.EventType) {}

func (noObserver) Unnoted() {}

// Handle is a [notify.Handler]: it sends the mail that an event calls for, if any.
func (m *Mailer) Handle(ctx context.Context, d eventlog.Delivery) error {
	e := &d.Event
	if !e.CustomerHears() {
		return nil
	}
	g, err := m.Grants.Grant(ctx, handoff.Actor{Role: handoff.RoleService}, e.Grant)
	var refused *handoff.Refusal
	switch {
	case errors.As(err, &refused) && refused.Reason == handoff.GrantUnknown:
		m.Observer.LeftOut(e.Type) // its retention is over
		return nil
	case err != nil:
		return err
	}
	if g.Dispatch.Customer.Email == "" { // it was scrubbed: a letter that was replayed comes too late
		m.Observer.LeftOut(e.Type)
		return nil
	}
	now := m.Clock.Now()
	kind, code := choose(e, &g, m.Limits, now)
	if kind == "" {
		m.Observer.LeftOut(e.Type)
		return nil
	}
	view, err := m.view(ctx, e, &g)
	if err != nil {
		return err
	}
	view.Kind, view.Code = kind, code.Reveal()
	rendered, err := message.Render(view)
	if err != nil {
		return notify.Permanent(err, notify.Reason{Class: "render", Detail: string(kind)})
	}
	letter := Letter{Mail: rendered, ID: messageID(&d), To: g.Dispatch.Customer.Email, Date: now}
	if !code.IsZero() {
		letter.ReturnPath = returnPath(m.Bounces, m.Mails.MailToken(&g))
	}
	err = m.Transport.Send(ctx, letter)
	if !code.IsZero() {
		err = m.tell(ctx, &g, err)
	}
	if err != nil {
		return err
	}
	m.Observer.Sent(kind)
	return nil
}

// tell notes what became of the mail with a grant's code. A mail that was sent is sent once, noted or
// not; one that was refused for good is tried again until that is told.
func (m *Mailer) tell(ctx context.Context, g *handoff.Grant, sent error) error {
	switch {
	case sent == nil:
		if err := m.Mails.MailTaken(ctx, g, handoff.MailAccepted); err != nil {
			m.Observer.Unnoted()
		}
	case notify.IsPermanent(sent):
		if err := m.Mails.MailFailed(ctx, g.ID, g.NewestIssue(), handoff.MailRefused, statusOf(sent)); err != nil {
			return err
		}
	}
	return sent
}

// statusOf is the mail server's enhanced status code (RFC 3463) in the reason of an error; empty for none.
func statusOf(err error) string {
	for _, field := range strings.Fields(notify.ReasonOf(err).Detail) {
		if status := handoff.MailStatus(field); status != "" {
			return status
		}
	}
	return ""
}

// CheckBounces holds the address for mails that come back to what a token needs. Empty is none, and
// no error.
func CheckBounces(text string) error {
	if text == "" {
		return nil
	}
	a, err := parseAddress(text)
	if err != nil || !isASCII(text) || a.Address != text {
		return errBounces
	}
	if local := strings.LastIndexByte(text, '@'); local+1+handoff.MailTokenLen > longestLocal {
		return errBounces
	}
	return nil
}

// longestLocal is how long the part before the @ may be (RFC 5321 section 4.5.3.1.1).
const longestLocal = 64

var errBounces = errors.New("mail: the address for mails that come back must be an address in ASCII with at most 16 characters before the @, since a plus sign and a token of 47 are put there")

// returnPath is where a mail with a token comes back to; empty for the sender.
func returnPath(bounces, token string) string {
	at := strings.LastIndexByte(bounces, '@')
	if at < 0 || token == "" {
		return ""
	}
	return bounces[:at] + "+" + token + bounces[at:]
}

// view is what the mail can tell, but for the code.
func (m *Mailer) view(ctx context.Context, e *handoff.Event, g *handoff.Grant) (message.View, error) {
	d := &g.Dispatch
	zone, err := handoff.Zone(d.To.Zone)
	if err != nil {
		return message.View{}, notify.Permanent(err, notify.Reason{Class: "render", Detail: "time zone"})
	}
	v := message.View{
		Purpose: message.Purpose(d.Purpose.String()), Locale: d.Customer.Locale,
		CustomerName: d.Customer.Name, ShopName: m.ShopNames[d.Shop], ShopContact: m.ShopContacts[d.Shop], OrderID: d.Order,
		ParcelID: d.Parcel, CarrierName: m.CarrierNames[d.Carrier], AddressLine: addressLine(&d.To),
		ValidFrom: g.Window.From.Time(), ValidUntil: g.Window.Until.Time(), At: e.At.Time(), Zone: zone,
		AccountURL: strings.ReplaceAll(m.AccountURL, GrantID, g.ID.String()),
	}
	if about := aboutOf(e, g); len(about) > 0 {
		v.ParcelID, v.More = about[0], about[1:]
	}
	if g.Group != nil {
		v.Left, v.All = g.There(), len(d.Parcels())
	}
	if e.Type.AtDoor() {
		v.Doors = []string{e.Target.String()}
	}
	for _, kind := range e.Consents {
		v.Doors = append(v.Doors, kind.String())
	}
	if g.Dispute != nil && g.Handoff != nil {
		v.HandedAt, v.DecideBy = g.Handoff.At.Time(), g.Dispute.DecideBy(m.Limits)
	}
	if e.Courier == "" {
		return v, nil
	}
	courier, err := m.Couriers.Courier(ctx, handoff.CourierRef{Carrier: d.Carrier, ID: e.Courier})
	if err != nil {
		return message.View{}, err
	}
	if courier != nil {
		v.CourierName = courier.Name
	}
	return v, nil
}

// aboutOf are the parcels that a mail is about: those of the event, or all that are still there
// where it is about the grant. What happened since is told by the mails about that.
func aboutOf(e *handoff.Event, g *handoff.Grant) []string {
	if g.Group == nil || len(e.Parcels) > 0 {
		return e.Parcels
	}
	return g.There()
}

// addressLine is the address on one line.
func addressLine(to *handoff.Destination) string {
	parts := append(slices.Clone(to.Lines), strings.TrimSpace(to.Postal+" "+to.City))
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// firstWord reports whether an event is the first that tells of its permit's door being opened:
// a lock and a contact may both say so, and a door that does not answer, or did not in time, was
// told of before. A permit that the grant does not remember is told of once more.
func firstWord(e *handoff.Event, g *handoff.Grant) bool {
	u := g.Unlock(e.Permit)
	if u == nil {
		return true
	}
	before := []handoff.DoorState{handoff.DoorSilent}
	switch e.Type {
	case handoff.EventDoorOpened:
		before = append(before, handoff.DoorConfirmed)
	case handoff.EventDoorRelocked: // its other reports were lost
		before = append(before, handoff.DoorConfirmed, handoff.DoorOpened)
	}
	return u.Awaited && !slices.ContainsFunc(before, func(s handoff.DoorState) bool { return u.Said&(1<<s) != 0 })
}

// inPart is the kind of what happened to some of several parcels: that of all, where none of the
// others is still to come.
func inPart(some, all message.Kind, e *handoff.Event, g *handoff.Grant) message.Kind {
	if e.Left == 0 || len(g.There()) == 0 {
		return all
	}
	return some
}

// choose says which mail is true of an event at now, for the grant as it now is,
// and with which code; no kind if none is. Events come late when a mail server was down
// for hours, and not always in order.
func choose(e *handoff.Event, g *handoff.Grant, limits handoff.Limits, now time.Time) (message.Kind, otp.Code) {
	var (
		none   otp.Code
		active = g.StatusAt(now) == handoff.Active
		locked = g.Code.Locked(limits)
		newest = e.Issue != 0 && slices.Index(g.Code.Issued, e.Issue) == len(g.Code.Issued)-1
		counts = active && newest && !locked // the code that this event gave out
		ofDay  = e.Window != nil && *e.Window == g.Window
	)
	withCode := func(k message.Kind) (message.Kind, otp.Code) {
		if !counts {
			return "", none
		}
		return k, g.CurrentCode()
	}
	only := func(k message.Kind, isTrue bool) (message.Kind, otp.Code) {
		if !isTrue {
			return "", none
		}
		return k, none
	}

	switch e.Type {
	case handoff.EventDispatched:
		if e.Issue != 0 {
			return withCode(message.CodeIssued)
		}
		return only(message.Dispatched, active && ofDay)
	case handoff.EventCodeReissued:
		return withCode(message.CodeReissued)
	case handoff.EventConfirmed: // without a code there is nothing new to tell
		return withCode(message.CodeReissued)
	case handoff.EventCodeResent:
		return withCode(message.CodeResent)
	case handoff.EventCodeLocked:
		return only(message.CodeLocked, active && locked)

	case handoff.EventReleased: // taken back since: the mail about that tells of both
		stands := slices.ContainsFunc(g.Handoffs(), func(h handoff.Handoff) bool { return h.At == e.At })
		switch {
		case e.Left == 0 || len(g.There()) == 0:
			return only(message.Released, stands)
		case stands && counts: // the code of the rest
			return withCode(message.HandedInPart)
		}
		return only(message.HandedInPart, stands)
	case handoff.EventCollected:
		return only(inPart(message.HandedInPart, message.Collected, e, g), true)
	case handoff.EventPartRecalled:
		return only(inPart(message.RecalledInPart, message.Recalled, e, g), true)
	case handoff.EventOverridden: // cannot be taken back: it stays true whatever came after it
		return message.ReleasedByHand, none
	case handoff.EventDisputed: // how it ended since is told by the mail about that
		return only(message.Disputed, g.Dispute.Open() && g.Dispute.At == e.At)
	case handoff.EventDisputeWithdrawn:
		return only(message.DisputeWithdrawn, g.Dispute != nil && g.Dispute.EndedAt == e.At)
	case handoff.EventDisputeSettled:
		kind := message.DisputeRejected
		if g.Dispute != nil && g.Dispute.Ruling == handoff.NotReceived {
			kind = message.DisputeUpheld
		}
		return only(kind, g.Dispute != nil && g.Dispute.EndedAt == e.At)
	case handoff.EventConsented: // told of each, whatever came after it: it may not have been the customer
		if len(e.Consents) == 0 {
			return message.ConsentWithdrawn, none
		}
		return message.ConsentGiven, none
	case handoff.EventPermitted: // a door that cannot answer says no more
		return only(message.OwnDoorPermitted, !e.Awaited)
	case handoff.EventDoorSilent:
		return message.OwnDoorPermitted, none
	case handoff.EventDoorConfirmed, handoff.EventDoorOpened, handoff.EventDoorRelocked:
		return only(message.OwnDoorOpened, firstWord(e, g))
	case handoff.EventAborted: // only ever of a delivery
		// The courier says that the customer does not have the parcel. That is told
		// whatever came after it: only the customer knows whether it is so.
		if counts {
			return withCode(message.TakenBack)
		}
		return only(message.TakenBack, true)
	case handoff.EventAttempted:
		return only(message.Attempted, active && g.Window.Contains(e.At.Time()))

	case handoff.EventRescheduled:
		if e.Issue != 0 {
			// Without a code the mail would say that none is needed. The one that replaced
			// this code, or locked it, names the day as well.
			return withCode(message.Rescheduled)
		}
		return only(message.Rescheduled, active && ofDay)
	case handoff.EventRecalled:
		return message.Recalled, none
	case handoff.EventExpired: // of this day, and not of one before a reschedule
		return only(message.Expired, g.StatusAt(now) == handoff.Expired && g.Window.Over(e.At.Time()))
	}
	return "", none
}
