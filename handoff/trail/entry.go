package trail

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
)

// Entry is one event as a hash chain keeps it (see package chain). There are two kinds of
// chain, and what an entry may say depends on whose eyes it is for:
//
//	building:ID  what its manager and its residents may see: which door, which carrier,
//	             when, what came of it. No courier, no shop, no parcel, no unit; and of a
//	             garage or a home not even the door, whose id would tell whose it is.
//	log:NN       a partition of the event log, for those who run the service: also who it
//	             was, by pseudonym, and for which grant.
//
// Neither holds personal data: no event does.
type Entry struct {
	Seq  uint64 `json:"seq"`
	At   int64  `json:"at"`   // seconds since 1970, by the service's clock
	What string `json:"what"` // an event's type, or "unreadable"

	Door     string `json:"door,omitempty"`
	Kind     string `json:"kind,omitempty"` // of the door
	Carrier  string `json:"carrier,omitempty"`
	Permit   string `json:"permit,omitempty"` // what happened with the same permit belongs together
	Reason   string `json:"reason,omitempty"`
	Changes  string `json:"changes,omitempty"` // what changed, names joined by commas
	Count    int    `json:"count,omitzero"`    // how many refusals or alarms it stands for; left out: one
	Distance int    `json:"distance,omitzero"` // meters from the door or the address, rounded to ten
	Claimed  int64  `json:"claimed,omitzero"`  // when the device says it was, by its own clock
	Due      int64  `json:"due,omitzero"`      // from when on it counts, of what has to wait

	// Of a partition only; By and Who of a change to a door or the building as well.
	ID       string `json:"id,omitempty"` // the event's, in the partition
	Building string `json:"building,omitempty"`
	Grant    string `json:"grant,omitempty"`
	Shop     string `json:"shop,omitempty"`
	Parcel   string `json:"parcel,omitempty"`
	Route    string `json:"route,omitempty"`
	Courier  string `json:"courier,omitempty"`
	By       string `json:"by,omitempty"`         // the role of who asked, where it was no courier
	Who      string `json:"who,omitempty"`        // who asked, and on which device the courier worked: pseudonyms
	Device   string `json:"device,omitempty"`     // (see Pseudonym)
	Link     string `json:"link_maker,omitempty"` // who made the shop's link that let a customer in who asked: a pseudonym
	APIKey   string `json:"api_key,omitempty"`    // by which it was asked; left out where a person did
	Relieved string `json:"relieved,omitempty"`   // route_assigned: who drove the route until then
	Day      string `json:"day,omitempty"`        // route_assigned: of which day
	Object   string `json:"object,omitempty"`     // what it was done to: an API key's id, or a customer's pseudonym
	Scopes   string `json:"scopes,omitempty"`     // key_changed: what the key may do, names joined by commas
	Issue    uint64 `json:"issue,omitzero"`       // disputed: the counter of the code that was entered; mail_failed, mail_arrived: that was mailed
	Handed   int64  `json:"handed,omitzero"`      // disputed: when the handoff was recorded
	Resident string `json:"resident,omitempty"`
	Change   string `json:"change,omitempty"` // the id of a change of a door that waits, or waited
}

// BuildingChain is the name of a building's chain.
func BuildingChain(building string) string { return "building:" + building }

// LogChain is the name of a partition's chain.
func LogChain(partition int) string { return fmt.Sprintf("log:%02x", partition) }

// TrailEntry is an event in the chain of its partition.
func TrailEntry(l eventlog.Logged) Entry {
	e := &l.Event
	if e.Type == 0 {
		return Entry{At: l.When().Unix(), What: l.What(), ID: l.ID.ID}
	}
	n := ofDoor(e)
	n.ID, n.Building, n.Grant, n.Shop, n.Parcel, n.Route = l.ID.ID, e.Building, e.Grant.String(), e.Shop, e.Parcel, e.Route
	n.Resident, n.Change, n.Due = string(e.Resident), e.Change, int64(e.Due)
	n.Door, n.Courier, n.By, n.Who, n.Device, n.Link, n.Distance = e.Door, e.Courier, e.By, e.Who, e.Device, e.Link, e.Distance
	n.APIKey, n.Relieved, n.Object, n.Scopes = e.APIKey, e.Relieved, e.Object, strings.Join(e.Scopes, ",")
	if e.Type == handoff.EventRouteAssigned && e.Day != nil {
		n.Day = e.Day.String()
	}
	if e.Type == handoff.EventDisputed {
		n.Issue, n.Handed = e.Issue, int64(e.HandedAt)
	}
	if e.Type == handoff.EventMailFailed || e.Type == handoff.EventMailArrived {
		n.Issue = e.Issue
	}
	return n
}

// BuildingEntry is an event in the chain of its building; false for one that does not
// concern a building.
func BuildingEntry(l eventlog.Logged) (building string, n Entry, ok bool) {
	e := &l.Event
	if e.Building == "" || !slices.Contains(buildingEvents, e.Type) {
		return "", Entry{}, false
	}
	n = ofDoor(e)
	if e.Courier != "" {
		n.Claimed = 0 // by the courier's phone: none of the building's business
	}
	if e.Target != handoff.Garage && e.Target != handoff.Home {
		n.Door = e.Door
	}
	switch e.Type {
	case handoff.EventDoorChanged, handoff.EventBuildingChanged, handoff.EventDoorChangeAsked, handoff.EventDoorChangeWithdrawn,
		handoff.EventResidentRemoved, handoff.EventResidentStays, handoff.EventUnitMovedOut, handoff.EventDoorChangeObjected, handoff.EventDoorChangeApproved:
		n.By, n.Due = e.By, int64(e.Due)
		if e.By != "resident" && e.By != "owner" { // which neighbour it was is none of the building's business
			n.Who = e.Who
		}
	}
	return e.Building, n, true
}

func ofDoor(e *handoff.Event) Entry {
	n := Entry{
		At: int64(e.At), What: e.Type.String(), Carrier: e.Carrier, Permit: e.Permit.String(),
		Reason: string(e.Reason), Changes: strings.Join(e.Changes, ","), Count: e.Count, Claimed: int64(e.Claimed),
	}
	if e.Target != 0 {
		n.Kind = e.Target.String()
	}
	return n
}

var buildingEvents = []handoff.EventType{
	handoff.EventPermitted, handoff.EventAccessRefused, handoff.EventImpossible,
	handoff.EventDoorDelivered, handoff.EventDoorConfirmed, handoff.EventDoorOpened, handoff.EventDoorRelocked, handoff.EventDoorFailed, handoff.EventDoorRefused, handoff.EventDoorSilent,
	handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered, handoff.EventBuildingEnrolled,
	handoff.EventDoorChanged, handoff.EventBuildingChanged,
	handoff.EventDoorJammed, handoff.EventDoorBatteryLow, handoff.EventDoorUnavailable,
	handoff.EventDoorChangeAsked, handoff.EventDoorChangeObjected, handoff.EventDoorChangeApproved, handoff.EventDoorChangeWithdrawn,
	handoff.EventResidentRemoved, handoff.EventResidentStays, handoff.EventUnitMovedOut,
}

// auditSeed is the name of the seed of the key that signs the heads of chains. It comes
// from the naming key, which never rotates, so that a kept head can be
// verified for as long as grants can be found; no name is ever made under this domain.
const auditSeed = "audit-signing-key"

// AuditSigner signs the heads of chains, always with the same key.
func AuditSigner(names handoff.Namer) (Signer, error) {
	return NewSigner(names.Name(auditSeed, "v1")[:32])
}

// AccessLog is a page of what happened at a building's doors, newest first.
type AccessLog struct {
	Passages []Passage

	// Before is what to ask for next; 0 where nothing older is kept.
	Before uint64

	// Head is the signed end of the chain, which a resident can keep.
	Head string
}

// AccessPage is which page of an access log to read.
type AccessPage struct {
	Before uint64 // only what began before this entry; 0: from the newest on
	Limit  int    // how many entries of the chain to look at
}

// Passage is one line of an access log: one permit for a door and all that became of it,
// or one refusal, or one alarm. What a door says long after makes a line of its own.
type Passage struct {
	Seq     uint64 // of the first entry
	At      time.Time
	Outcome Outcome
	Door    string // empty for a garage or a home
	Kind    string
	Carrier string
	Permit  string   // empty where none was given
	Reason  string   // of a refusal, the door's own included
	Count   int      // of refusals or alarms; 1 or more
	Changes []string // of a door or the building, by the API's names
	Claimed time.Time
	Steps   []Step // of a permit, oldest first
}

// Step is one thing that became of a permit.
type Step struct {
	State string // as an unlock's: authorised, opened, ...
	At    time.Time
}

// Outcome says in a word what came of it.
type Outcome string

// The outcomes. The first nine are of permits.
const (
	OutcomeAuthorised   Outcome = "authorised" // no more is known: the door has not reported
	OutcomeDelivered    Outcome = "delivered"  // the door has the permit, and nothing else was heard
	OutcomeConfirmed    Outcome = "confirmed"  // the lock let go, and whether the door was opened is not known
	OutcomeOpened       Outcome = "opened"
	OutcomeNotRelocked  Outcome = "not-relocked" // it opened, and did not lock again
	OutcomeFailed       Outcome = "failed"       // the lock did not let go
	OutcomeDoorRefused  Outcome = "refused-by-door"
	OutcomeNoAnswer     Outcome = "no-answer"
	OutcomeRelocked     Outcome = "relocked" // all that is known is that it locked again
	OutcomeRefused      Outcome = "refused"
	OutcomeForced       Outcome = "forced"
	OutcomeHeldOpen     Outcome = "held-open"
	OutcomeTampered     Outcome = "tampered"
	OutcomeRulesChanged Outcome = "rules-changed" // what the building allows, or tells its residents
	OutcomeDoorChanged  Outcome = "door-changed"  // a door was registered, changed or removed
	OutcomeJammed       Outcome = "jammed"
	OutcomeBatteryLow   Outcome = "battery-low"
	OutcomeUnavailable  Outcome = "unavailable" // the door could not reach its lock

	// Of whose a garage or home is, and of who is told of it.
	OutcomeChangeAsked     Outcome = "door-change-asked"
	OutcomeChangeObjected  Outcome = "door-change-objected"
	OutcomeChangeApproved  Outcome = "door-change-approved"
	OutcomeChangeWithdrawn Outcome = "door-change-withdrawn"
	OutcomeResidentRemoved Outcome = "resident-removed"
	OutcomeResidentStays   Outcome = "resident-stays"
	OutcomeMovedOut        Outcome = "unit-moved-out"
)

var outcomes = map[handoff.EventType]Outcome{
	handoff.EventPermitted: OutcomeAuthorised, handoff.EventAccessRefused: OutcomeRefused, handoff.EventImpossible: OutcomeRefused,
	handoff.EventDoorDelivered: OutcomeDelivered, handoff.EventDoorConfirmed: OutcomeConfirmed, handoff.EventDoorOpened: OutcomeOpened,
	handoff.EventDoorRelocked: OutcomeRelocked, handoff.EventDoorFailed: OutcomeFailed, handoff.EventDoorRefused: OutcomeDoorRefused,
	handoff.EventDoorSilent: OutcomeNoAnswer, handoff.EventDoorForced: OutcomeForced, handoff.EventDoorHeldOpen: OutcomeHeldOpen,
	handoff.EventDoorTampered: OutcomeTampered, handoff.EventBuildingEnrolled: OutcomeRulesChanged,
	handoff.EventDoorChanged: OutcomeDoorChanged, handoff.EventBuildingChanged: OutcomeRulesChanged,
	handoff.EventDoorJammed: OutcomeJammed, handoff.EventDoorBatteryLow: OutcomeBatteryLow, handoff.EventDoorUnavailable: OutcomeUnavailable,
	handoff.EventDoorChangeAsked: OutcomeChangeAsked, handoff.EventDoorChangeObjected: OutcomeChangeObjected,
	handoff.EventDoorChangeApproved: OutcomeChangeApproved, handoff.EventDoorChangeWithdrawn: OutcomeChangeWithdrawn,
	handoff.EventResidentRemoved: OutcomeResidentRemoved, handoff.EventResidentStays: OutcomeResidentStays, handoff.EventUnitMovedOut: OutcomeMovedOut,
}

// then is the outcome once one more thing was heard. What was opened stays opened.
func (o Outcome) then(next Outcome) Outcome {
	switch {
	case next == OutcomeRelocked && (o == OutcomeOpened || o == OutcomeConfirmed):
		return o
	case next == OutcomeRelocked && o == OutcomeNotRelocked:
		return OutcomeOpened
	case next == OutcomeFailed && (o == OutcomeOpened || o == OutcomeConfirmed):
		return OutcomeNotRelocked
	case o == OutcomeNotRelocked && next == OutcomeOpened:
		return o
	}
	return next
}

func changes(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

// passages folds entries, oldest first, into lines in the same order.
func passages(entries []Entry) []Passage {
	var lines []Passage
	begun := map[string]int{} // by permit
	for i := range entries {
		e := &entries[i]
		t, _ := handoff.ParseEventType(e.What)
		outcome, known := outcomes[t]
		if !known {
			outcome = Outcome(e.What) // of a newer version
		}
		at := time.Unix(e.At, 0).UTC()
		step := Step{State: t.DoorState().String(), At: at}
		if n, ok := begun[e.Permit]; ok && e.Permit != "" && e.Seq <= lines[n].Seq+oneLine {
			p := &lines[n]
			p.Outcome, p.Steps = p.Outcome.then(outcome), append(p.Steps, step)
			if e.Reason != "" {
				p.Reason = e.Reason // the door's own
			}
			continue
		}
		p := Passage{
			Seq: e.Seq, At: at, Outcome: outcome, Door: e.Door, Kind: e.Kind, Carrier: e.Carrier,
			Permit: e.Permit, Reason: e.Reason, Changes: changes(e.Changes), Count: max(e.Count, 1),
		}
		if e.Claimed != 0 {
			p.Claimed = time.Unix(e.Claimed, 0).UTC()
		}
		if e.Permit != "" {
			begun[e.Permit], p.Steps = len(lines), []Step{step}
		}
		lines = append(lines, p)
	}
	return lines
}
