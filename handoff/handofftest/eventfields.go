package handofftest

import (
	"reflect"
	"slices"

	"latchkey/handoff"
)

var (
	// permitEvents are about one permit, doorEvents about one door, buildingEvents about one
	// building: each of them is in the next as well.
	permitEvents = []handoff.EventType{
		handoff.EventPermitted, handoff.EventDoorDelivered, handoff.EventDoorConfirmed, handoff.EventDoorOpened, handoff.EventDoorRelocked,
		handoff.EventDoorFailed, handoff.EventDoorRefused, handoff.EventDoorSilent,
	}
	doorEvents = append(slices.Clip(permitEvents), handoff.EventVisitAgain, handoff.EventAccessRefused, handoff.EventImpossible,
		handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered,
		handoff.EventDoorJammed, handoff.EventDoorBatteryLow, handoff.EventDoorUnavailable, handoff.EventDoorChanged)
	changeEvents = []handoff.EventType{
		handoff.EventDoorChangeAsked, handoff.EventDoorChangeObjected, handoff.EventDoorChangeApproved, handoff.EventDoorChangeWithdrawn,
	}
	eventsAtDoor   = append(slices.Clip(doorEvents), changeEvents...)
	buildingEvents = append(slices.Clip(eventsAtDoor), handoff.EventBuildingChanged, handoff.EventBuildingEnrolled, handoff.EventResidentChanged,
		handoff.EventResidentRemoved, handoff.EventResidentStays, handoff.EventUnitMovedOut)

	// privilegedEvents are what people and keys did by a privilege, where it changes no grant.
	privilegedEvents = []handoff.EventType{
		handoff.EventCourierSignedOut, handoff.EventCourierChanged, handoff.EventBudgetCleared, handoff.EventRouteAssigned, handoff.EventLinkMade,
	}

	// fieldTypes are, for each field of an event that not every event has, the types that
	// may set it: what the groups of [handoff.Event] say.
	fieldTypes = map[string][]handoff.EventType{
		"Window": {handoff.EventDispatched, handoff.EventRescheduled},
		"Rights": {handoff.EventDispatched},
		"Day":    {handoff.EventRescheduled, handoff.EventRouteAssigned},
		"Issue": {
			handoff.EventDispatched, handoff.EventCodeResent, handoff.EventCodeReissued, handoff.EventReleased, handoff.EventAborted, handoff.EventRescheduled,
			handoff.EventDisputed, handoff.EventConfirmed, handoff.EventMailFailed, handoff.EventMailArrived,
		},
		"Consents": {handoff.EventConsented, handoff.EventConsentAsked},
		"Reason": {
			handoff.EventCodeRefused, handoff.EventAccessRefused, handoff.EventImpossible, handoff.EventDoorRefused, handoff.EventSignal, handoff.EventDisputeSettled,
			handoff.EventMailFailed, handoff.EventMailArrived,
		},
		"Excused": {handoff.EventCodeRefused},
		"Count": {
			handoff.EventAccessRefused, handoff.EventOverrideAsked, handoff.EventDoorRefused, handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered,
			handoff.EventDoorJammed, handoff.EventDoorBatteryLow, handoff.EventDoorUnavailable,
			handoff.EventEventsLost,
		},
		"Distance": {
			handoff.EventReleased, handoff.EventCollected, handoff.EventAborted, handoff.EventElsewhere,
			handoff.EventPermitted, handoff.EventVisitAgain, handoff.EventAccessRefused, handoff.EventImpossible, handoff.EventSignal, handoff.EventDisputed,
		},
		"Building":  append(slices.Clip(buildingEvents), handoff.EventKeyChanged),
		"Door":      append(slices.Clip(eventsAtDoor), handoff.EventKeyChanged),
		"Target":    eventsAtDoor,
		"Permit":    permitEvents,
		"Awaited":   {handoff.EventPermitted},
		"Relock":    {handoff.EventPermitted},
		"Challenge": {handoff.EventPermitted},
		"Digest":    {handoff.EventScrubbed, handoff.EventErased},
		"APIKey":    privilegedEvents,
		"Relieved":  {handoff.EventRouteAssigned},
		"Object":    {handoff.EventKeyChanged, handoff.EventLinkMade, handoff.EventSessionsEnded, handoff.EventSignerChanged, handoff.EventEventsLost, handoff.EventDispatchLost, handoff.EventPartitionRefused, handoff.EventStoreRestored},
		"Scopes":    {handoff.EventKeyChanged},
		"Changes":   append(slices.Clip(changeEvents), handoff.EventDoorChanged, handoff.EventBuildingChanged, handoff.EventCourierChanged, handoff.EventKeyChanged),
		"Resident":  {handoff.EventResidentChanged, handoff.EventResidentRemoved, handoff.EventResidentStays},
		"Due":       {handoff.EventDoorChangeAsked, handoff.EventResidentRemoved},
		"Change":    changeEvents,
		"HandedAt":  {handoff.EventDisputed},
		"Parcels": {
			handoff.EventDispatched, handoff.EventReleased, handoff.EventCollected, handoff.EventAborted, handoff.EventRecalled,
			handoff.EventPartRecalled, handoff.EventOverridden, handoff.EventDisputed, handoff.EventAccounted,
		},
		"Left":         {handoff.EventReleased, handoff.EventCollected, handoff.EventAborted, handoff.EventPartRecalled, handoff.EventAccounted},
		"AllOrNothing": {handoff.EventDispatched},
		"MailStatus":   {handoff.EventMailFailed},
	}
)

// StrayFields are the names of the fields that an event sets though an event of its type has
// none of that name. Of a type that this version does not know it names none.
func StrayFields(e handoff.Event) []string {
	var stray []string
	if _, known := handoff.ParseEventType(e.Type.String()); !known {
		return nil
	}
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if types, some := fieldTypes[name]; some && !v.Field(i).IsZero() && !slices.Contains(types, e.Type) {
			stray = append(stray, name)
		}
	}
	return stray
}
