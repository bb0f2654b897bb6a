package handoff

import (
	"slices"
	"time"
)

// Class says what an event's mail is for. A lower class is mailed first.
type Class uint8

// The classes. Their numbers are stored (see Rank).
const (
	ClassCode    Class = iota // it gives out a code, without which the parcel is not handed over
	ClassUnknown              // written by a version that did not say
	ClassNotice               // it tells the customer what happened
	ClassQuiet                // the customer is told nothing
)

// Classes is how many classes there are.
const Classes = 4

var classNames = [Classes]string{ClassCode: "code", ClassUnknown: "unknown", ClassNotice: "notice", ClassQuiet: "none"}

func (c Class) String() string {
	if int(c) >= len(classNames) {
		return "unknown"
	}
	return classNames[c]
}

// Urgency says when an event's mail is due among the mails of others: by class, and codes
// by their delivery day. What is equal by that is mailed in the order in which it happened.
type Urgency struct {
	Class Class
	Day   Date // of a code; zero otherwise
}

// Urgency is that of the event's mail. Day is the delivery day of the grant after the event.
func (e *Event) Urgency(day Date) Urgency {
	switch {
	case e.givesCode():
		return Urgency{Class: ClassCode, Day: day}
	case e.CustomerHears():
		return Urgency{Class: ClassNotice}
	}
	return Urgency{Class: ClassQuiet}
}

// givesCode reports whether the event gives a code out, for the first time or again.
func (e *Event) givesCode() bool {
	return e.Issue != 0 && e.Type != EventDisputed && e.CustomerHears()
}

const (
	dayBits = 15
	lastDay = 1<<dayBits - 1 // in 2059
)

// Ranks is how many ranks there are.
const Ranks = Classes << dayBits

// UnknownRank is the rank of an event that was written without one.
const UnknownRank = int(ClassUnknown) << dayBits

// Rank is the urgency as a number: the lower one is mailed first. It is stored beside the event,
// so the numbers keep their meaning: the class, then 15 bits of days since 1970.
func (u Urgency) Rank() int {
	day := 0
	if u.Day != (Date{}) {
		day = int(u.Day.utc().Unix() / int64(24*time.Hour/time.Second))
	}
	return int(u.Class)<<dayBits | min(max(day, 0), lastDay)
}

// ClassOfRank is the class in a rank; unknown where it is no rank.
func ClassOfRank(rank int) Class {
	if rank < 0 || rank >= Ranks {
		return ClassUnknown
	}
	return Class(rank >> dayBits)
}

// toldCustomer are the events that customers hear of.
var toldCustomer = []EventType{
	EventDispatched, EventCodeReissued, EventCodeResent, EventCodeLocked,
	EventReleased, EventCollected, EventAborted, EventAttempted,
	EventRescheduled, EventRecalled, EventPartRecalled, EventExpired, EventOverridden,
	EventDisputed, EventDisputeWithdrawn, EventDisputeSettled,
	EventConfirmed,
	EventConsented, EventPermitted, EventDoorConfirmed, EventDoorOpened, EventDoorRelocked,
	EventDoorSilent,
}

// CustomerHears reports whether the grant's customer is to hear of the event, if it is still true
// when the mail is written. Of what happens at a door that is what concerns a garage or home.
func (e *Event) CustomerHears() bool {
	return slices.Contains(toldCustomer, e.Type) && (!e.Type.AtDoor() || e.Target == Garage || e.Target == Home)
}

// AtDoor reports whether the customer may hear of it as what happens at a door.
func (t EventType) AtDoor() bool {
	switch t {
	case EventPermitted, EventDoorConfirmed, EventDoorOpened, EventDoorRelocked, EventDoorSilent:
		return true
	}
	return false
}
