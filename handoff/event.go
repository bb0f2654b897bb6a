package handoff

import (
	"hash/fnv"
	"io"
	"slices"

	"latchkey/otp"
)

// Unreadable is what stands for an event that this version cannot read. It is entered all
// the same: a trail that leaves out what it does not understand proves nothing.
const Unreadable = "unreadable"

// Event is one thing that happened to a grant, as the log keeps it. It carries ids
// and facts and its own time; never a code, never personal data. The events of a
// grant, applied in order over its dispatch, rebuild the grant.
//
// A few events belong to no grant: what happens at a building or a door while no parcel is
// involved. They have no Grant, and do have a Building.
//
// The fields stand in groups. The first line of a group names the types of events that may
// set its fields; a field with a narrower line of its own is set by those only. The tests'
// Events and model hold every event to that (see handofftest.FieldsOf).
//
// The numbers of the fields are never used again: see package storage.
type Event struct {
	// Of: every event. The other ids are those of the grant, or what an event of no grant
	// knows of them.
	Type    EventType `cbor:"1,keyasint"`
	Grant   GrantID   `cbor:"-"`
	At      Instant   `cbor:"2,keyasint"` // when it was decided, or heard of
	Shop    string    `cbor:"3,keyasint,omitempty"`
	Carrier string    `cbor:"4,keyasint,omitempty"`
	Parcel  string    `cbor:"5,keyasint,omitempty"`
	Route   string    `cbor:"6,keyasint,omitempty"` // the route the parcel is on when the event happens; a rescheduled one's new route

	// Of: every event. Who did it, and when, as the device says.
	Courier string  `cbor:"7,keyasint,omitempty"`  // who stood at the door; disputed: at the handoff
	Device  string  `cbor:"8,keyasint,omitempty"`  // on which the courier worked: a keyed hash (see Pseudonym), the same each time
	By      string  `cbor:"9,keyasint,omitempty"`  // the role of who asked, where it was not a courier: shop, customer, ...
	Who     string  `cbor:"10,keyasint,omitempty"` // who that was: a keyed hash like Device
	Claimed Instant `cbor:"11,keyasint,omitempty"` // when it was done by the clock of the courier's device or the door

	// Link marks what a session did that a shop's link began: who made the link, a keyed hash
	// like Who. By then says customer, and it may have been the shop.
	Link string `cbor:"32,keyasint,omitempty"`

	// Of: dispatched, rescheduled.
	Window *Window `cbor:"12,keyasint,omitempty"`
	Rights []Right `cbor:"13,keyasint,omitempty"` // Of: dispatched.
	Day    *Date   `cbor:"14,keyasint,omitempty"` // Of: rescheduled, route_assigned.

	// Of: dispatched, code_resent, code_reissued, released, aborted, rescheduled, disputed,
	// confirmed, mail_failed, mail_arrived. The HOTP counter of the code that is given out (code_resent:
	// again; released: for the parcels that are still there; disputed: that counted at the handoff;
	// mail_failed, mail_arrived: that was mailed); 0 is none.
	Issue uint64 `cbor:"15,keyasint,omitempty"`

	// Of: consented, consent_asked. All that the customer agrees to, as it now stands; or would.
	Consents []TargetKind `cbor:"16,keyasint,omitempty"`

	// Of: code_refused, access_refused, impossible_journey, door_refused, signal,
	// dispute_settled, mail_failed, mail_arrived. Why it was refused, a door's own reason included, which
	// pattern a signal is about, the ruling by its name, why a mail failed, or the mail's state by its name.
	Reason Reason `cbor:"17,keyasint,omitempty"`

	// Of: code_refused. Excused says that the code was no guess: a slip of the pen, or a
	// superseded code. It weighs on its courier for a day and not for thirty. It also says
	// that a wrong code is near the right one, so no one who may stand at a door is told.
	Excused bool `cbor:"18,keyasint,omitempty"`

	// Of: access_refused, override_asked, door_refused, door_forced, door_held_open, door_tampered, door_jammed,
	// door_battery_low, door_unavailable, events_lost. How many refusals or alarms an event of no
	// grant stands for; 0: one. How many wishes that waited an override_asked takes the place of. How
	// many events are lost at least.
	Count int `cbor:"19,keyasint,omitempty"`

	// Of: released, collected, aborted, tried_elsewhere, permitted, visit_begun_again,
	// access_refused, impossible_journey, signal, disputed. Meters to the target, rounded to ten; disputed: at
	// the handoff.
	Distance int `cbor:"20,keyasint,omitempty"`

	// Of: permitted, visit_begun_again, access_refused, impossible_journey, door_delivered, door_confirmed,
	// door_opened, door_relocked, door_failed, door_refused, door_silent, door_forced,
	// door_held_open, door_tampered, door_jammed, door_battery_low, door_unavailable,
	// door_changed, building_changed, building_enrolled, resident_changed, door_change_asked,
	// door_change_objected, door_change_approved, door_change_withdrawn, resident_removed,
	// resident_stays, unit_moved_out, key_changed.
	Building string `cbor:"21,keyasint,omitempty"`

	// Of: permitted, visit_begun_again, access_refused, impossible_journey, door_delivered, door_confirmed,
	// door_opened, door_relocked, door_failed, door_refused, door_silent, door_forced,
	// door_held_open, door_tampered, door_jammed, door_battery_low, door_unavailable,
	// door_changed, door_change_asked, door_change_objected, door_change_approved,
	// door_change_withdrawn, key_changed.
	Door string `cbor:"22,keyasint,omitempty"`

	// Of: permitted, visit_begun_again, access_refused, impossible_journey, door_delivered, door_confirmed,
	// door_opened, door_relocked, door_failed, door_refused, door_silent, door_forced,
	// door_held_open, door_tampered, door_jammed, door_battery_low, door_unavailable,
	// door_changed, door_change_asked, door_change_objected, door_change_approved,
	// door_change_withdrawn.
	Target TargetKind `cbor:"23,keyasint,omitempty"` // the kind of the door

	// Of: permitted, door_delivered, door_confirmed, door_opened, door_relocked, door_failed,
	// door_refused, door_silent.
	Permit PermitID `cbor:"24,keyasint,omitzero"`

	// Of: permitted.
	Awaited   bool   `cbor:"25,keyasint,omitempty"` // the door can answer, and should within 15 s
	Relock    int    `cbor:"26,keyasint,omitempty"` // seconds after which the door locks again; 0: as it is set itself
	Challenge []byte `cbor:"27,keyasint,omitempty"` // the door's own, to which the permit is bound where presence is asked

	// Of: scrubbed, erased. The keyed digest of the dispatch.
	Digest []byte `cbor:"28,keyasint,omitempty"`

	// Of: door_changed, building_changed, door_change_asked, door_change_objected,
	// door_change_approved, door_change_withdrawn, courier_changed, key_changed. What changed, by the names that the
	// API has for it; enrolled or removed alone for a record that came or went. No contents, but
	// that a courier was suspended, or was reinstated.
	Changes []string `cbor:"31,keyasint,omitempty"`

	// Of: resident_changed, resident_removed, resident_stays.
	Resident ResidentID `cbor:"29,keyasint,omitempty"`

	// Of: disputed. When the handoff was recorded that the customer says did not happen.
	HandedAt Instant `cbor:"30,keyasint,omitempty"`

	// Of: courier_signed_out, courier_changed, budget_cleared, route_assigned, link_made. The id of
	// the API key by which it was asked; empty where a person did.
	APIKey string `cbor:"33,keyasint,omitempty"`

	// Of: route_assigned. The courier who drove the route until then.
	Relieved string `cbor:"34,keyasint,omitempty"`

	// Of: key_changed, link_made, sessions_ended, signer_changed, events_lost, dispatch_lost,
	// partition_refused, store_restored. What it was done to: an API key or the key that signs
	// permits by its id, a customer by a keyed hash (see Pseudonym), a grant, or a partition by the
	// name of its chain; empty where the whole store was restored.
	Object string `cbor:"35,keyasint,omitempty"`

	// Of: key_changed. What the API key may do, by the names that the API has for scopes.
	Scopes []string `cbor:"36,keyasint,omitempty"`

	// Of: door_change_asked, resident_removed. From when on it counts; 0: at once.
	Due Instant `cbor:"37,keyasint,omitempty"`

	// Of: door_change_asked, door_change_objected, door_change_approved, door_change_withdrawn.
	// The id of the change.
	Change string `cbor:"38,keyasint,omitempty"`

	// Of: dispatched, released, collected, aborted, recalled, parcels_recalled, overridden, disputed,
	// accounted. Which of several parcels it is about; empty of a grant of one parcel. Parcel is
	// the first of the dispatch, whatever it is about.
	Parcels []string `cbor:"41,keyasint,omitempty"`

	// Of: released, collected, parcels_recalled, aborted, accounted. How many of several parcels are still there after it.
	Left int `cbor:"42,keyasint,omitempty"`

	// Of: dispatched. All that are still there are handed over at once, or none.
	AllOrNothing bool `cbor:"43,keyasint,omitempty"`

	// Of: mail_failed. The mail server's enhanced status code (RFC 3463); empty where it gave none.
	MailStatus string `cbor:"45,keyasint,omitempty"`
}

// What changed of a record, beside the names that the API has for its fields.
const (
	Enrolled   = "enrolled"
	Removed    = "removed"
	Suspended  = "suspended"
	Reinstated = "reinstated"
	Made       = "made"
	Revoked    = "revoked"
)

// EventType says what happened. The log keeps its number, so a new one is added at the end.
type EventType uint8

// The events.
const (
	_ EventType = iota
	EventDispatched
	EventCodeRefused
	EventCodeLocked
	EventCodeResent
	EventCodeReissued
	EventReleased
	EventCollected
	EventAborted
	EventAttempted
	EventRecalled
	EventRescheduled
	EventExpired
	EventHeld
	EventLifted
	EventContested
	EventPermitted     // a courier was given a permit for a door
	EventConsented     // the customer's consents, as they now stand
	EventAccessRefused // a courier was refused at a door; only the first twenty of a grant, and few of no grant (see Unlock)
	EventImpossible    // refused: the way from the last door is too far for the time
	EventDoorDelivered // the permit reached the door
	EventDoorConfirmed // the lock confirmed
	EventDoorOpened    // the door's contact says that it opened
	EventDoorRelocked  // locked again
	EventDoorFailed    // the lock did not do it
	EventDoorRefused   // the door refused the permit
	EventDoorSilent    // no answer for 15 s
	EventScrubbed      // name, address and secret left the grant, a week after it closed
	EventErasureAsked  // the customer is to be forgotten
	EventErased        // the customer's id and order left the grant as well
	EventElsewhere     // a courier tried to hand over far from the address; only the first five of a grant
	EventOverrideAsked // a clerk asked for a release by hand; Who is the clerk
	EventOverridden    // released by hand; Who is the second person, who approved

	// Of no grant.
	EventDoorForced       // a door moved without a permit
	EventDoorHeldOpen     // a door was not closed in its time
	EventDoorTampered     // the controller's case or its lines were tampered with
	EventBuildingEnrolled // a building was registered, or what its residents are told of it changed
	EventResidentChanged  // a mail about a resident's subscription may be due
	EventSignal           // a pattern that a duty officer should look at; Reason says which
	EventDoorJammed       // a lock says that its bolt or its door is stuck
	EventDoorBatteryLow   // the battery of a lock, or of a sensor beside it, is low
	EventDoorUnavailable  // a door cannot reach its lock

	// Of a grant.
	EventDisputed         // the customer says that the handoff did not happen; everything stops
	EventDisputeWithdrawn // the customer agrees that it happened
	EventDisputeSettled   // the duty officer decided; Reason is the ruling
	EventVisitAgain       // of a grant, behind permitted: the permit begins a visit to the door again, for a second armful

	// Of no grant.
	EventDoorChanged     // a door was registered, changed or removed; By and Who say by whom
	EventBuildingChanged // the same of a building

	// Of a store that was put back to an earlier state.
	EventStoreRestored // of no grant and no building; Claimed is until when its events were acknowledged
	EventDistrusted    // of a grant: held until its shop confirms it
	EventConfirmed     // its shop sent the same dispatch again; a new secret, from which Issue is
	EventAccounted     // its carrier says that the parcel was handed over in what was lost

	// Of a grant.
	EventConsentAsked // who came by a shop's link asked for a consent, which waits for a resident of the door's unit

	// Of no grant: what people and keys did by a privilege. By and Who say who; Carrier of whom.
	EventCourierSignedOut EventType = 55 // all tokens, sessions and open permits of a courier were ended
	EventCourierChanged   EventType = 56 // a courier was registered or changed, suspended or reinstated
	EventBudgetCleared    EventType = 57 // a courier's wrong codes were forgotten
	EventRouteAssigned    EventType = 58 // a route was given to Courier
	EventKeyChanged       EventType = 59 // an API key was made or revoked; Changes says which
	EventLinkMade         EventType = 60 // a shop made a link that lets one of its customers in
	EventSessionsEnded    EventType = 61 // an operator signed a customer out everywhere
	EventSignerChanged    EventType = 62 // permits for doors are signed by another key from now on
)

// Of no grant: whose the garages and homes of a building are, and who is told of them.
const (
	EventDoorChangeAsked     EventType = iota + 63 // a change of a garage or home waits
	EventDoorChangeObjected                        // one of those whose it is objected: nothing changes
	EventDoorChangeApproved                        // one of those whose it is agreed: it counts at once
	EventDoorChangeWithdrawn                       // the manager took it back, or asked for another
	EventResidentRemoved                           // a resident hears no more, from Due on
	EventResidentStays                             // the resident objected, or the manager took it back
	EventUnitMovedOut                              // who lived in a unit moved out
)

// Of no grant: what a store is found to have lost of what it acknowledged.
const (
	EventEventsLost       EventType = iota + 70 // Count events of the partition of the log that Object names
	EventDispatchLost                           // a dispatch, and the grant that Object names with it; the shop has to send it again
	EventPartitionRefused                       // what was lost of a partition is not known: nothing of it is served until an operator restores it
)

// EventPartRecalled is of a grant of several parcels: the shop called some of them back. Where that
// leaves none, and some were handed over, the grant is closed as handed over.
const EventPartRecalled EventType = 73

// Of a grant: what became of the mail with a code. Of mails that go well nothing is told.
const (
	EventMailFailed  EventType = 76 // it was refused, it came back, or no server took it in time
	EventMailArrived EventType = 77 // the customer saw the code, or a mail that had failed was taken; Reason is the mail's state
)

var eventNames = enum[EventType]{
	EventDispatched: "dispatched", EventCodeRefused: "code_refused", EventCodeLocked: "code_locked",
	EventCodeResent: "code_resent", EventCodeReissued: "code_reissued", EventReleased: "released",
	EventCollected: "collected", EventAborted: "aborted", EventAttempted: "attempted", EventRecalled: "recalled",
	EventRescheduled: "rescheduled", EventExpired: "expired", EventHeld: "held", EventLifted: "lifted",
	EventContested: "contested", EventPermitted: "permitted", EventConsented: "consented",
	EventAccessRefused: "access_refused", EventImpossible: "impossible_journey",
	EventDoorDelivered: "door_delivered", EventDoorConfirmed: "door_confirmed", EventDoorOpened: "door_opened",
	EventDoorRelocked: "door_relocked", EventDoorFailed: "door_failed", EventDoorRefused: "door_refused",
	EventDoorSilent: "door_silent", EventScrubbed: "scrubbed", EventErasureAsked: "erasure_asked", EventErased: "erased",
	EventElsewhere:     "tried_elsewhere",
	EventOverrideAsked: "override_asked", EventOverridden: "overridden",
	EventDoorForced: "door_forced", EventDoorHeldOpen: "door_held_open", EventDoorTampered: "door_tampered",
	EventBuildingEnrolled: "building_enrolled", EventResidentChanged: "resident_changed", EventSignal: "signal",
	EventDoorJammed: "door_jammed", EventDoorBatteryLow: "door_battery_low", EventDoorUnavailable: "door_unavailable",
	EventDisputed: "disputed", EventDisputeWithdrawn: "dispute_withdrawn", EventDisputeSettled: "dispute_settled",
	EventVisitAgain: "visit_begun_again", EventDoorChanged: "door_changed", EventBuildingChanged: "building_changed",
	EventCourierSignedOut: "courier_signed_out", EventCourierChanged: "courier_changed", EventBudgetCleared: "budget_cleared",
	EventRouteAssigned: "route_assigned", EventKeyChanged: "key_changed", EventLinkMade: "link_made", EventSessionsEnded: "sessions_ended",
	EventSignerChanged: "signer_changed",
	EventStoreRestored: "store_restored", EventDistrusted: "distrusted", EventConfirmed: "confirmed", EventAccounted: "accounted",
	EventConsentAsked:    "consent_asked",
	EventDoorChangeAsked: "door_change_asked", EventDoorChangeObjected: "door_change_objected", EventDoorChangeApproved: "door_change_approved",
	EventDoorChangeWithdrawn: "door_change_withdrawn", EventResidentRemoved: "resident_removed", EventResidentStays: "resident_stays",
	EventUnitMovedOut: "unit_moved_out",
	EventPartRecalled: "parcels_recalled",
	EventEventsLost:   "events_lost", EventDispatchLost: "dispatch_lost", EventPartitionRefused: "partition_refused",
	EventMailFailed: "mail_failed", EventMailArrived: "mail_arrived",
}

func (t EventType) String() string { return eventNames.name(t) }

// Partition is the part of the log that keeps the event: its grant's, or its building's.
func (e *Event) Partition() int {
	if e.Grant.Hash != "" {
		return e.Grant.Hash.Partition()
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, e.Building)
	return int(h.Sum32() % Partitions)
}

// Seed is a grant of which only the dispatch and the secret are known: what events
// may not carry. Its first event, dispatched, makes it a grant.
func Seed(id GrantID, d Dispatch, code CodeState) Grant {
	return Grant{ID: id, Dispatch: d, Code: CodeState{Secret: code.Secret}}
}

// Replay applies events in order. Over a Seed, the events of a grant's whole life
// give the grant that stands in the store.
func Replay(g Grant, events []Event) Grant {
	for _, e := range events {
		g = Apply(g, e)
	}
	return g
}

// Apply is the grant after one event. It decides nothing: an event has happened. The
// grant passed in, and what it points to, stays as it was.
func Apply(g Grant, e Event) Grant {
	before := g.Status
	switch e.Type {
	case EventDispatched:
		g.Status, g.Window, g.Rights = Active, *e.Window, slices.Clone(e.Rights)
		if len(e.Parcels) > 0 {
			g.Group = &Group{AllOrNothing: e.AllOrNothing}
		}
	case EventRescheduled:
		g.Status, g.Window, g.ClosedAt = Active, *e.Window, 0
		g.Moved, g.Visits = &Move{Day: *e.Day, Route: e.Route}, nil
	case EventReleased, EventCollected, EventOverridden:
		g = g.handOver(Handoff{Courier: e.Courier, At: e.At, Distance: e.Distance, Parcels: e.Parcels})
		if len(g.There()) == 0 {
			g.Status = Released
			if e.Type == EventCollected {
				g.Status = Collected
			}
			g.ClosedAt = e.At
			g.Rights = addUses(g.Rights, -1, Release, Collect)
		}
	case EventAborted:
		if g.Status == Released {
			g.Rights = addUses(g.Rights, +1, Release)
		}
		if n := len(g.Handoffs()); n > 1 {
			g.AbortedLater = n
		}
		g = g.takeBack()
		g.Status, g.Aborted, g.ClosedAt, g.Dispute = Active, true, 0, nil
	case EventAttempted:
		g.Attempts++
		g.Rights = addUses(g.Rights, +1, Open)
	case EventPermitted:
		g.Visits = begin(g.Visits, e)
		g.Unlocks = remember(g.Unlocks, Unlock{
			Permit: e.Permit, Door: e.Door, Target: e.Target, At: e.At, State: DoorAuthorised, Since: e.At, Awaited: e.Awaited,
		})
	case EventVisitAgain:
		g.Again++
		g.Visits = again(g.Visits, e)
		return g // its permit stands in the customer's history
	case EventConsented:
		g.Consents = slices.Clone(e.Consents)
		g.ConsentAsk = g.ConsentAsk.over()
	case EventConsentAsked:
		asked := ConsentAsk{At: e.At, Consents: slices.Clone(e.Consents), Link: e.Link, Count: 1}
		if g.ConsentAsk != nil {
			asked.Count += g.ConsentAsk.Count
		}
		g.ConsentAsk = &asked
	case EventElsewhere:
		g.Elsewhere++
		return g // no part of the customer's history
	case EventSignal:
		return g // it is about the carrier
	case EventAccessRefused, EventImpossible:
		g.DoorRefusals++
		return g // no part of the customer's history
	case EventDoorDelivered, EventDoorConfirmed, EventDoorOpened, EventDoorRelocked, EventDoorFailed, EventDoorRefused, EventDoorSilent:
		g.Unlocks, g.Visits = reported(g.Unlocks, g.Visits, e)
		if e.Type != EventDoorOpened {
			return g
		}
	case EventCodeRefused:
		g.Code.Wrong++
		g.Code.TotalWrong++
	case EventCodeResent:
		g.Code.Resends++
		g.Code.ResentAt = e.At
	case EventRecalled:
		g.Status, g.ClosedAt = Recalled, e.At
		g = g.recall(e.Parcels)
	case EventPartRecalled:
		if g = g.recall(e.Parcels); e.Left == 0 {
			g.Status, g.ClosedAt = g.handedStatus(), e.At
			g.Rights = addUses(g.Rights, -1, Release, Collect)
		}
	case EventExpired:
		g.Status, g.ClosedAt = Expired, e.At
	case EventHeld:
		g.HeldFrom, g.Status = g.Status, Held
	case EventLifted:
		g.Status, g.HeldFrom = g.HeldFrom, 0
	case EventDisputed:
		g.Dispute = &Dispute{At: e.At, Issue: e.Issue, HeldBefore: g.Status == Held}
		g = g.disputed()
		if !g.Dispute.HeldBefore {
			g.HeldFrom, g.Status = g.Status, Held
		}
	case EventDisputeWithdrawn, EventDisputeSettled:
		g = ruled(g, e)
	case EventDistrusted: // consents may have been withdrawn since
		g.Doubt = &Doubt{Since: e.At, From: g.Status}
		g.Status, g.Consents, g.ConsentAsk = Held, nil, g.ConsentAsk.over()
	case EventConfirmed: // with a new secret: no code of the old one counts, nor can be compared
		g.Status, g.Doubt = g.Doubt.From, nil
		g.Code.Issued, g.Code.Wrong = nil, 0
	case EventAccounted:
		if e.Left > 0 { // the others wait for their shop's word
			g = g.handOver(Handoff{At: e.At, Parcels: e.Parcels})
			break
		}
		done := g.handedStatus()
		if g.Doubt.From == Held { // a person's hold, or a dispute, goes on
			g.HeldFrom = done
		} else {
			g.Status = done
		}
		g.Doubt = nil
		if g.Handoff == nil || len(e.Parcels) > 0 {
			g = g.handOver(Handoff{At: e.At, Parcels: e.Parcels})
			g.ClosedAt = e.At
			g.Rights = addUses(g.Rights, -1, Release, Collect)
		}
	case EventContested:
		g.Contested = true
		return g // no part of the customer's history
	case EventScrubbed, EventErased:
		g.Dispatch.scrub()
		if e.Type == EventErased {
			g.Dispatch.Customer, g.Dispatch.Order, g.EraseAsked = Customer{}, "", false
		}
		g.Scrubbed, g.Code.Secret = e.Digest, otp.Secret{}
		return g
	case EventMailFailed, EventMailArrived:
		g.Mail = g.mailTold(e)
		return g // no part of the customer's history
	case EventErasureAsked:
		g.EraseAsked = true
		return g
	case EventOverrideAsked:
		g.Override = &OverrideRequest{Who: e.Who, At: e.At, Replaced: e.Count}
		return g // asked again and again, it would push everything else out of the history
	}
	if g.Status != before || e.Type == EventRescheduled {
		g.Override = nil
	}
	if e.Issue != 0 && e.Type != EventCodeResent && e.Type != EventDisputed {
		g.Code.Issued = append(slices.Clone(g.Code.Issued), e.Issue)
		g.Code.Wrong = 0
		if e.Type == EventCodeReissued || e.Type == EventAborted {
			g.Code.Reissues++
		}
	}
	g.History = append(slices.Clone(g.History), HistoryEntry{Type: e.Type, At: e.At, Reason: e.Reason, Parcels: e.toldOf(), Left: e.Left})
	g.History = g.History[max(0, len(g.History)-historyLimit):]
	return g
}

// toldOf are the parcels that the history names with the event: it knows all of them at dispatch.
func (e *Event) toldOf() []string {
	if e.Type == EventDispatched {
		return nil
	}
	return e.Parcels
}

// handOver makes h the standing handoff, and keeps the one before where there are several parcels.
// Each of them can be disputed.
func (g Grant) handOver(h Handoff) Grant {
	if g.Group != nil {
		group := *g.Group
		if g.Handoff != nil {
			group.Earlier = append(slices.Clone(group.Earlier), *g.Handoff)
		}
		if h.Courier != "" {
			h.Issue = g.NewestIssue()
		}
		g.Group = &group
		if !g.Dispute.Open() {
			g.Dispute = nil
		}
	}
	g.Handoff = &h
	return g
}

// takeBack undoes the newest handoff.
func (g Grant) takeBack() Grant {
	g.Handoff = nil
	if g.Group == nil || len(g.Group.Earlier) == 0 {
		return g
	}
	group, last := *g.Group, len(g.Group.Earlier)-1
	before := group.Earlier[last]
	g.Handoff = &before
	if group.Earlier = group.Earlier[:last:last]; last == 0 {
		group.Earlier = nil
	}
	g.Group = &group
	return g
}

// recall notes which of several parcels were called back.
func (g Grant) recall(parcels []string) Grant {
	if g.Group != nil {
		group := *g.Group
		group.Recalled = append(slices.Clone(group.Recalled), parcels...)
		g.Group = &group
	}
	return g
}

// disputed marks the handoffs of several parcels: a dispute is of all that were handed over.
func (g Grant) disputed() Grant {
	if g.Group == nil {
		return g
	}
	group, newest := *g.Group, *g.Handoff
	group.Earlier = slices.Clone(group.Earlier)
	for i := range group.Earlier {
		group.Earlier[i].Disputed = true
	}
	newest.Disputed = true
	g.Group, g.Handoff = &group, &newest
	return g
}

// ruled ends a dispute. What is known of the people stays as long as after a handoff, since
// they are told how it ended.
func ruled(g Grant, e Event) Grant {
	ended := *g.Dispute
	ended.Ruling, ended.EndedAt = Withdrawn, e.At
	if e.Type == EventDisputeSettled {
		ended.Ruling, _ = ParseRuling(string(e.Reason))
	}
	g.Dispute, g.ClosedAt = &ended, e.At
	if !ended.HeldBefore {
		g.Status, g.HeldFrom = g.HeldFrom, 0
	}
	if g.Status == Active { // of several parcels some are still there
		g.ClosedAt = 0
	}
	return g
}

func addUses(rights []Right, n int, acts ...Act) []Right {
	rights = slices.Clone(rights)
	for i := range rights {
		if slices.Contains(acts, rights[i].Act) {
			rights[i].Uses += n
		}
	}
	return rights
}

// begin counts a permit to the running visit at its door, or starts the next one.
func begin(visits []Visit, e Event) []Visit {
	visits = slices.Clone(visits)
	for i := range visits {
		if v := &visits[i]; v.Door == e.Door && v.running(e.At) {
			v.Permits++
			return visits
		}
	}
	return append(visits, Visit{Door: e.Door, Since: e.At, Permits: 1})
}

// again marks the visit that the permit before began.
func again(visits []Visit, e Event) []Visit {
	visits = slices.Clone(visits)
	for i, v := range slices.Backward(visits) {
		if v.Door == e.Door {
			visits[i].Again = true
			break
		}
	}
	return visits
}

// EventTypes lists the names of all types of events.
func EventTypes() []string {
	var names []string
	for _, name := range eventNames {
		if name != "" {
			names = append(names, name)
		}
	}
	return append(names, Unreadable)
}

// ParseEventType reads what Logged.What writes; 0 is the type of what cannot be read.
func ParseEventType(name string) (EventType, bool) {
	if name == Unreadable {
		return 0, true
	}
	return eventNames.parse(name)
}
