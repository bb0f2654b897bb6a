package controller

import (
	"slices"
	"time"

	"latchkey/handoff/door"
)

// machine is the state of a door and the rules by which it changes. It does no I/O: step
// takes what happened and gives what is to be done. Its instants come from one clock that is
// never set, so that correcting the time of day leaves no door unlocked.
type machine struct {
	rules

	phase   phase
	unlocks []unlock  // in force: from delivered until the lock is locked again
	next    time.Time // when unlocked or settling ends
	until   time.Time // until when the lock stays unlocked for the permits that were confirmed

	contact  contact
	moved    bool          // the door opened while the lock had not yet answered
	openedBy door.PermitID // of the opening that lasts; zero for one by force
	heldAt   time.Time     // when an open door becomes a report; zero: never

	alarmed [door.Unavailable + 1]time.Time // when each alarm was last reported

	stopping bool // no unlock begins any more
	gaveUp   bool // the lock did not lock, and the controller ends without another try

	out []effect
}

// rules are the times of a door.
type rules struct {
	relock   time.Duration // from the lock's confirmation until it is told to lock, where a permit does not say
	heldOpen time.Duration // that a door may stay open behind a locked lock
}

const (
	maxUnlocks  = 8                // at once, so that the record of them stays small
	relockRetry = 10 * time.Second // after a lock did not lock
	contactLag  = 2 * time.Second  // by which a contact may tell of an opening late: after it relocked is said

	// Before the same alarm is reported again: a rattled door, or a battery at its limit, must
	// not fill the outbox.
	repeatAfter = 10 * time.Second // force and tamper
	repeatFault = 10 * time.Minute // what is wrong with the lock itself
)

type phase uint8

const (
	locked phase = iota
	unlocking
	unlocked
	relocking
	settling // locked, and the contact may still tell of an opening before that
)

type contact uint8

const (
	contactUnknown contact = iota
	contactClosed
	contactOpen
)

// unlock is one permit's unlock, as far as it is known.
type unlock struct {
	Permit door.PermitID `json:"permit"`
	Stage  stage         `json:"stage"`
	Failed bool          `json:"failed,omitzero"` // it was reported that the lock did not lock again

	relock time.Duration // from its confirmation; after a restart the lock is locked at once
}

type stage string

const (
	delivered stage = "delivered"
	confirmed stage = "confirmed"
	opened    stage = "opened"
)

// input is one thing that happened.
type input struct {
	what   inputKind
	permit door.PermitID // with admitted
	relock time.Duration // with admitted: the permit's own, 0 for the door's
	yes    bool          // with answered: the lock confirmed; with contactIs: open
	silent bool          // with answered, not yes: it is not known whether the lock moved
	alarm  door.State    // with alarming
}

type inputKind uint8

const (
	ticked    inputKind = iota
	admitted            // a permit or PIN was verified and used up
	answered            // the opener came back
	contactIs           // the contact tells its state
	alarming            // a sensor or the lock tells of something that is about no permit
	stopped             // finish what is under way
)

// effect is one thing to do, in the order given.
type effect struct {
	do     action
	state  door.State // with report
	permit door.PermitID
}

type action uint8

const (
	save   action = iota + 1 // store which unlocks are in force
	report                   // add a report to the outbox
	unlockNow
	lockNow
)

// ready reports whether a permit may be admitted. While the lock moves or settles, none
// is: it waits unused, and can still be recalled.
func (m *machine) ready() bool {
	return !m.stopping && (m.phase == locked || m.phase == unlocked) && len(m.unlocks) < maxUnlocks
}

// over reports whether a stopping machine has nothing left to do.
func (m *machine) over() bool { return m.stopping && (m.phase == locked || m.gaveUp) }

// due is when the next tick is needed; zero for never.
func (m *machine) due() time.Time {
	switch m.phase {
	case locked:
		return m.heldAt
	case unlocked, settling:
		return m.next
	default:
		return time.Time{}
	}
}

// step is the whole machine: it changes nothing but what it returns.
func (m machine) step(in input, now time.Time) (machine, []effect) {
	m.unlocks, m.out = slices.Clone(m.unlocks), nil
	switch in.what {
	case ticked:
		m.tick(now)
	case admitted:
		m.admit(in.permit, in.relock)
	case answered:
		if m.phase == unlocking {
			m.unlockAnswered(in.yes, in.silent, now)
		} else if m.phase == relocking {
			m.lockAnswered(in.yes, now)
		}
	case contactIs:
		m.contactTold(in.yes, now)
	case alarming:
		m.alarm(in.alarm, now)
	case stopped:
		m.stopping = true
	}
	out := m.out
	m.out = nil
	return m, out
}

// resume is the machine after a restart that found unlocks in force. It is not known what the
// lock did meanwhile, so it is told to lock.
func resume(r rules, found []unlock) (machine, []effect) {
	m := machine{rules: r}
	for _, u := range found {
		if u.Stage == delivered {
			m.say(door.Failed, u.Permit)
		} else {
			m.unlocks = append(m.unlocks, u)
		}
	}
	m.lock()
	out := m.out
	m.out = nil
	return m, out
}

func (m *machine) do(d action) { m.out = append(m.out, effect{do: d}) }

func (m *machine) say(s door.State, permit door.PermitID) {
	m.out = append(m.out, effect{do: report, state: s, permit: permit})
}

func (m *machine) lock() {
	m.phase = relocking
	m.do(save)
	m.do(lockNow)
}

func (m *machine) tick(now time.Time) {
	if due := m.due(); due.IsZero() || now.Before(due) {
		return
	}
	switch m.phase {
	case unlocked:
		m.lock()
	case settling:
		m.end(now)
	default:
		m.heldAt = time.Time{}
		m.say(door.HeldOpen, m.openedBy)
	}
}

// admit begins an unlock. The save comes first, so that a restart knows of everything that is
// said or done of the permit after it.
func (m *machine) admit(permit door.PermitID, relock time.Duration) {
	if relock <= 0 || relock > door.MaxRelock {
		relock = m.relock
	}
	m.unlocks = append(m.unlocks, unlock{Permit: permit, Stage: delivered, relock: relock})
	m.phase, m.moved, m.heldAt = unlocking, false, time.Time{}
	m.do(save)
	m.say(door.Delivered, permit)
	m.do(unlockNow)
}

// unlockAnswered ends an unlocking. A lock that did not confirm may have moved all the
// same, so it is told to lock; and where the contact saw the door open, that is what is
// said, for the unlock did not fail.
func (m *machine) unlockAnswered(yes, silent bool, now time.Time) {
	if !yes && !m.moved {
		outcome := door.Failed
		if silent {
			outcome = door.NoAnswer
		}
		m.unlocks = slices.DeleteFunc(m.unlocks, func(u unlock) bool {
			if u.Stage == delivered {
				m.say(outcome, u.Permit)
			}
			return u.Stage == delivered
		})
		m.lock()
		return
	}
	var fresh []door.PermitID
	for i, u := range m.unlocks {
		if u.Stage == delivered {
			m.unlocks[i].Stage = confirmed
			fresh = append(fresh, u.Permit)
			if end := now.Add(u.relock); end.After(m.until) { // a short time cuts no longer one short
				m.until = end
			}
		}
	}
	m.phase, m.next = unlocked, m.until
	m.do(save) // before it is said: a restart must not call an unlock failed that was confirmed
	if yes {
		for _, permit := range fresh {
			m.say(door.Confirmed, permit)
		}
	}
	if m.moved {
		m.doorOpened()
	}
	if !yes {
		m.lock()
	}
}

func (m *machine) lockAnswered(yes bool, now time.Time) {
	if !yes {
		for i, u := range m.unlocks {
			if !u.Failed {
				m.unlocks[i].Failed = true
				m.say(door.Failed, u.Permit)
			}
		}
		m.phase, m.next, m.gaveUp = unlocked, now.Add(relockRetry), m.stopping
		m.do(save)
		return
	}
	if m.contact == contactClosed && slices.ContainsFunc(m.unlocks, func(u unlock) bool { return u.Stage == confirmed }) {
		m.phase, m.next = settling, now.Add(contactLag)
		return
	}
	m.end(now)
}

// end is the end of all unlocks in force. After relocked nothing more is said of them.
func (m *machine) end(now time.Time) {
	for _, u := range m.unlocks {
		m.say(door.Relocked, u.Permit)
	}
	m.phase, m.unlocks = locked, nil
	m.do(save)
	if m.contact == contactOpen {
		m.heldAt = now.Add(m.heldOpen)
	}
}

func (m *machine) contactTold(open bool, now time.Time) {
	before := m.contact
	if !open {
		m.contact, m.heldAt, m.openedBy = contactClosed, time.Time{}, door.PermitID{}
		return
	}
	m.contact = contactOpen
	if before == contactOpen {
		return
	}
	if before == contactClosed && m.phase != locked {
		m.moved = m.phase == unlocking
		m.doorOpened()
	}
	switch m.phase {
	case settling:
		m.end(now)
	case locked:
		m.heldAt = now.Add(m.heldOpen)
		// A door whose contact was not known before may have been open for days.
		if before == contactClosed {
			m.alarm(door.Forced, now)
		}
	}
}

// alarm reports what is about no permit, unless the same was reported a moment ago.
func (m *machine) alarm(s door.State, now time.Time) {
	again := repeatFault
	if s == door.Forced || s == door.Tamper {
		again = repeatAfter
	}
	if last := m.alarmed[s]; last.IsZero() || now.Sub(last) >= again {
		m.alarmed[s] = now
		m.say(s, door.PermitID{})
	}
}

// doorOpened says of every unlock that let the door open that it did.
func (m *machine) doorOpened() {
	for i, u := range m.unlocks {
		if u.Stage == confirmed {
			m.unlocks[i].Stage = opened
			m.say(door.Opened, u.Permit)
		}
		if u.Stage != delivered {
			m.openedBy = u.Permit
		}
	}
}
