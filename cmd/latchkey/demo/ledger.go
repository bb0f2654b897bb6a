package demo

import (
	"context"
	"slices"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
)

// ledger is what the event log said of doors. It is a reader of the log like the mail,
// and the only source of what the page shows: nothing that the demo knows of its own
// locks gets around the service.
type ledger struct {
	mu      sync.Mutex
	seen    map[eventlog.ID]bool
	unlocks map[string][]*unlock // by door, oldest first
	events  []happening          // oldest first
}

const (
	unlocksShown = 16 // of a door, kept
	eventsShown  = 30
)

// unlock is one permit and what was said of it.
type unlock struct {
	permit handoff.PermitID
	state  string
	steps  []step
}

// step is a state that a permit came to, as GET /v1/doors/{door_id}/unlocks/{permit_id}
// names it, and when.
type step struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// happening is one event at a door.
type happening struct {
	Type    string    `json:"type"` // of the event, as the log names it
	DoorID  string    `json:"door_id"`
	At      time.Time `json:"at"`
	Parcel  string    `json:"parcel"` // its last four characters
	Carrier string    `json:"carrier_id"`
	Reason  string    `json:"reason,omitzero"`
}

var (
	stateAuthorised = handoff.DoorAuthorised.String()
	stateConfirmed  = handoff.DoorConfirmed.String()
	stateOpened     = handoff.DoorOpened.String()
)

var states = map[handoff.EventType]handoff.DoorState{
	handoff.EventPermitted: handoff.DoorAuthorised, handoff.EventDoorDelivered: handoff.DoorDelivered,
	handoff.EventDoorConfirmed: handoff.DoorConfirmed, handoff.EventDoorOpened: handoff.DoorOpened,
	handoff.EventDoorRelocked: handoff.DoorRelocked, handoff.EventDoorFailed: handoff.DoorFailed,
	handoff.EventDoorRefused: handoff.DoorRefused, handoff.EventDoorSilent: handoff.DoorSilent,
}

func newLedger() *ledger {
	return &ledger{seen: make(map[eventlog.ID]bool), unlocks: make(map[string][]*unlock)}
}

// handle is a notify.Handler. The log may say a thing twice.
func (l *ledger) handle(_ context.Context, d eventlog.Delivery) error {
	e := d.Event
	if e.Door == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[d.ID] {
		return nil
	}
	l.seen[d.ID] = true
	if state, ok := states[e.Type]; ok {
		l.unlock(e.Door, e.Permit).came(state, e.At.Time())
	}
	l.events = append(l.events, happening{
		Type: e.Type.String(), DoorID: e.Door, At: e.At.Time(), Carrier: e.Carrier, Reason: string(e.Reason),
		Parcel: e.Parcel[max(0, len(e.Parcel)-4):],
	})
	slices.SortStableFunc(l.events, func(a, b happening) int { return a.At.Compare(b.At) })
	l.events = l.events[max(0, len(l.events)-eventsShown):]
	return nil
}

func (l *ledger) unlock(door string, permit handoff.PermitID) *unlock {
	for _, u := range l.unlocks[door] {
		if u.permit == permit {
			return u
		}
	}
	u := &unlock{permit: permit}
	kept := append(l.unlocks[door], u)
	l.unlocks[door] = kept[max(0, len(kept)-unlocksShown):]
	return u
}

func (u *unlock) came(state handoff.DoorState, at time.Time) {
	u.state = state.String()
	u.steps = append(u.steps, step{u.state, at})
}

// shown is what is so of a door: the unlock that holds it open, if there is one, and else
// the latest; nil for none. A permit that was not used and that no door can use any more has
// left nothing.
func (l *ledger) shown(id string, now time.Time) *unlock {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last *unlock
	for _, u := range l.unlocks[id] {
		if last == nil || u.holds() || !last.holds() {
			last = u
		}
	}
	if last == nil || last.state == stateAuthorised && now.Sub(last.since()) >= door.MaxLife+door.Skew {
		return nil
	}
	return &unlock{permit: last.permit, state: last.state, steps: slices.Clone(last.steps)}
}

// holds reports whether the door said that it is unlocked, and not yet that this is over.
func (u *unlock) holds() bool { return u.state == stateConfirmed || u.state == stateOpened }

// since is when the last was heard of it.
func (u *unlock) since() time.Time { return u.steps[len(u.steps)-1].At }

// latest are the last events, newest first.
func (l *ledger) latest() []happening {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.events)
	slices.Reverse(all)
	return all
}
