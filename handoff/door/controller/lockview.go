package controller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Convention is how a lock behind MQTT is told to move, and how it tells where it stands.
type Convention string

// The conventions.
const (
	// Zigbee2MQTT is zigbee2mqtt's: JSON on the lock's topic, {"state": "UNLOCK"} on
	// TOPIC/set, and a forced readback by TOPIC/get.
	Zigbee2MQTT Convention = "zigbee2mqtt"

	// HomeAssistant is that of Home Assistant's MQTT lock: plain words. LOCK and UNLOCK
	// are told; LOCKED, UNLOCKED, LOCKING, UNLOCKING and JAMMED are what the lock tells.
	HomeAssistant Convention = "home-assistant"
)

// UnmarshalText reads a convention's name, for flags.
func (c *Convention) UnmarshalText(text []byte) error {
	switch name := Convention(text); name {
	case Zigbee2MQTT, HomeAssistant:
		*c = name
		return nil
	}
	return errors.New("a convention is zigbee2mqtt or home-assistant")
}

// bolt is where a lock's bolt stands.
type bolt uint8

const (
	boltUnknown bolt = iota
	boltLocked
	boltUnlocked
	boltBetween // moving, or stopped halfway: neither locked nor unlocked
)

func (b bolt) String() string {
	return [...]string{"unknown", "locked", "unlocked", "not fully locked"}[b]
}

// message is what one message of a device says, as far as a door cares. What it does not
// say, or says in a type that is not the convention's, is the zero value: one field that
// cannot be read voids no other.
type message struct {
	bolt      bolt
	saysBolt  bool // it speaks of the bolt, even if bolt is unknown
	lockState bool // with lock_state, which is the bolt's own position
	contact   Signal
	jammed    *bool // whether the lock or its door is stuck, where the message speaks of it
	forced    *bool // whether the door was forced open, where the message speaks of it
	tamper    *bool
	battery   charge
	action    string // what was done at the lock, in zigbee2mqtt's words; empty for none or an unknown one
	lastSeen  string // when the bridge last heard the device; as it was written

	// others are the attributes that say nothing of the bolt, by name, as they were written.
	others map[string]string
}

// charge is what a device says of its battery.
type charge uint8

const (
	chargeUnknown charge = iota
	chargeGood
	chargeBetween // neither low nor good again
	chargeLow
)

// A battery is low at lowBattery percent and good again at goodBattery, so that a value
// that wavers is not reported each time.
const (
	lowBattery  = 15
	goodBattery = 25
)

// readZigbee reads a message in zigbee2mqtt's convention; false if it is no JSON object.
func readZigbee(payload []byte) (m message, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil || fields == nil {
		return message{}, false
	}
	m.others = make(map[string]string)
	for name, raw := range fields {
		if bytes.Equal(raw, []byte("null")) {
			continue // what zigbee2mqtt does not know yet
		}
		m.take(name, raw)
	}
	m.bolt = boltOf(fields)
	if word, said := text(fields["action"]); said && actions[word] {
		m.action = word
	}
	return m, true
}

// take reads one field that is not null.
func (m *message) take(name string, raw json.RawMessage) {
	switch name {
	case "state":
		m.saysBolt = true
	case "lock_state":
		_, m.lockState = text(raw)
		m.saysBolt = m.saysBolt || m.lockState
	case "last_seen":
		m.lastSeen = string(raw)
	case "linkquality", "update", "update_available", "action", "action_user", "action_source", "action_source_name":
		// May come with every message, or is about something that passes.
	default:
		m.others[name] = string(raw)
	}
	switch name {
	case "contact": // of a sensor: true is closed
		if closed, said := boolean(raw); said {
			m.contact = map[bool]Signal{true: ContactClosed, false: ContactOpen}[closed]
		}
	case "door_state":
		m.doorState(raw)
	case "tamper":
		if on, said := boolean(raw); said {
			m.tamper = &on
		}
	case "battery":
		if percent, said := number(raw); said && percent >= 0 && percent <= 100 && m.battery != chargeLow {
			m.battery = chargeOf(percent)
		}
	case "battery_low":
		if low, said := boolean(raw); said && low {
			m.battery = chargeLow
		} else if said && m.battery == chargeUnknown {
			m.battery = chargeGood
		}
	}
}

func chargeOf(percent float64) charge {
	switch {
	case percent <= lowBattery:
		return chargeLow
	case percent >= goodBattery:
		return chargeGood
	}
	return chargeBetween
}

// doorState reads what the lock's own contact says. A contact that the same message tells
// of wins.
func (m *message) doorState(raw json.RawMessage) {
	said := Signal(0)
	word, isText := text(raw)
	if !isText {
		return
	}
	forced, jammed := word == "error_forced_open", word == "error_jammed"
	m.forced, m.jammed = &forced, &jammed
	switch word {
	case "closed":
		said = ContactClosed
	case "open", "error_forced_open":
		said = ContactOpen
	}
	if m.contact == 0 {
		m.contact = said
	}
}

// boltOf reads state and lock_state. They must agree: zigbee2mqtt also says UNLOCK of a
// bolt that is halfway, and of one that could not be read.
func boltOf(fields map[string]json.RawMessage) bolt {
	state, byState := text(fields["state"])
	position, byPosition := text(fields["lock_state"])
	said := map[string]bolt{"LOCK": boltLocked, "UNLOCK": boltUnlocked}[state]
	if !byPosition {
		return said
	}
	at := map[string]bolt{"locked": boltLocked, "unlocked": boltUnlocked, "not_fully_locked": boltBetween}[position]
	if at == boltBetween || !byState || said == at {
		return at
	}
	return boltUnknown
}

// actions are the words of zigbee2mqtt for what was done at a lock. Other words are not
// written into the log: they come from outside.
var actions = map[string]bool{
	"lock": true, "unlock": true, "one_touch_lock": true, "key_lock": true, "key_unlock": true, "auto_lock": true,
	"schedule_lock": true, "schedule_unlock": true, "manual_lock": true, "manual_unlock": true,
	"lock_failure_invalid_pin_or_id": true, "lock_failure_invalid_schedule": true,
	"unlock_failure_invalid_pin_or_id": true, "unlock_failure_invalid_schedule": true,
	"non_access_user_operational_event": true,
}

// readPlain reads a state in Home Assistant's convention; false if it is none.
func readPlain(payload []byte) (m message, ok bool) {
	jammed := false
	m = message{saysBolt: true, jammed: &jammed}
	switch string(bytes.TrimSpace(payload)) {
	case "LOCKED":
		m.bolt = boltLocked
	case "UNLOCKED":
		m.bolt = boltUnlocked
	case "LOCKING", "UNLOCKING":
		m.bolt = boltBetween
	case "JAMMED":
		m.bolt, jammed = boltBetween, true
	default:
		return message{}, false
	}
	return m, true
}

// readAvailability reads "online" and "offline", plain or as {"state": "online"}: what
// both conventions say of a device, and zigbee2mqtt of itself.
func readAvailability(payload []byte) (online, ok bool) {
	word := string(bytes.TrimSpace(payload))
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) == nil {
		word, _ = text(fields["state"])
	}
	return word == "online", word == "online" || word == "offline"
}

func text(raw json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

func boolean(raw json.RawMessage) (value, ok bool) {
	var b *bool
	if json.Unmarshal(raw, &b) != nil || b == nil {
		return false, false
	}
	return *b, true
}

func number(raw json.RawMessage) (float64, bool) {
	var n *float64
	if json.Unmarshal(raw, &n) != nil || n == nil {
		return 0, false
	}
	return *n, true
}

// lockView is what a door knows of a lock behind MQTT, and whether a movement is confirmed.
// It does no I/O and is not safe for concurrent use.
//
// A bridge keeps what a device said last, and publishes all of it again with any news of
// the device: {"state": "UNLOCK"} beside a new battery level is no word of the lock. So a
// movement is confirmed only by
//
//   - a change: a message on the connection that stands said something else, and a message
//     after the command says what was asked for; or
//   - the readback: after the command the lock was asked where it stands (TOPIC/get) and
//     answered twice, each time after it was asked, without news of anything else. Once
//     could be the cache that happened to be published again at that moment.
type lockView struct {
	// retainedIsState: the broker's retained message is where the lock stood when the door
	// subscribed. In Home Assistant's convention it is; zigbee2mqtt leaves an old one behind
	// when a device's setting "retain" is taken back.
	retainedIsState bool

	bolt      bolt   // by a message of the connection that stands
	lockState bool   // the lock has told its position by lock_state
	toldLock  bool   // the lock has told LOCK
	lastSeen  string // as it was last written; empty where the bridge does not tell
	others    map[string]string

	movement *movement
}

// movement is what the lock was told, and what is known of it since.
type movement struct {
	want     bolt
	asked    int  // how often the lock was asked, since it was told, where it stands
	answered int  // how often in a row it answered want
	contrary bolt // what the lock said instead, last; boltUnknown: it said nothing else
	done     chan struct{}
}

// answersNeeded is how often a lock that was asked must say the same.
const answersNeeded = 2

// disconnected forgets where the bolt stands: what was said meanwhile was not heard.
func (v *lockView) disconnected() { v.bolt = boltUnknown }

// begin waits for a movement. Nothing that was said before counts as its confirmation.
func (v *lockView) begin(want bolt) *movement {
	v.movement = &movement{want: want, done: make(chan struct{})}
	return v.movement
}

// end waits for it no longer.
func (v *lockView) end(m *movement) {
	if v.movement == m {
		v.movement = nil
	}
}

// observe takes what the lock's own topic said. It reports whether the lock should be asked
// again at once.
func (v *lockView) observe(said message, retained bool) (ask bool) {
	answer := v.isAnswer(said)
	v.lockState = v.lockState || said.lockState
	if said.lastSeen != "" {
		v.lastSeen = said.lastSeen
	}
	for name, value := range said.others {
		if v.others == nil {
			v.others = make(map[string]string)
		}
		v.others[name] = value
	}
	v.toldLock = v.toldLock || said.bolt == boltLocked
	if !said.saysBolt || said.bolt == boltUnknown || v.doubtful(said) {
		return false
	}
	if retained {
		if v.retainedIsState && v.bolt == boltUnknown {
			v.bolt = said.bolt
		}
		return false
	}
	before := v.bolt
	v.bolt = said.bolt
	m := v.movement
	changed := before != boltUnknown && before != said.bolt
	switch {
	case m == nil:
	case said.bolt != m.want:
		if m.answered = 0; changed || answer && m.asked > 0 {
			m.contrary = said.bolt
		}
	case changed:
		v.confirm(m)
	case answer && m.asked > m.answered:
		if m.answered++; m.answered == answersNeeded {
			v.confirm(m)
		}
		return m.answered < answersNeeded
	}
	return false
}

// doubtful reports whether a message may be that of a bolt whose position the lock does not
// know: zigbee2mqtt then says UNLOCK, and leaves lock_state out. So where a lock tells
// lock_state, nothing less counts; and of one that never did, UNLOCK counts only once it has
// shown that it can say LOCK.
func (v *lockView) doubtful(said message) bool {
	if said.others == nil || said.lockState { // Home Assistant's convention has no such message
		return false
	}
	return v.lockState || said.bolt == boltUnlocked && !v.toldLock
}

func (v *lockView) confirm(m *movement) {
	v.movement = nil
	close(m.done)
}

// isAnswer reports whether a message can be the answer to a readback, and not the bridge's
// cache: it brings no news of anything else, and the bridge has heard of the device since
// the message before it.
func (v *lockView) isAnswer(said message) bool {
	for name, value := range said.others {
		if known, told := v.others[name]; !told || known != value {
			return false
		}
	}
	return said.lastSeen == "" || v.lastSeen == "" || said.lastSeen != v.lastSeen
}

// heard is when the bridge last heard of the lock, for the log.
func (v *lockView) heard() string {
	seconds, err := strconv.ParseFloat(v.lastSeen, 64)
	if err == nil && seconds > 0 && seconds < 1e14 { // milliseconds since 1970
		return time.UnixMilli(int64(seconds)).UTC().Format(time.RFC3339)
	}
	quoted, _ := text(json.RawMessage(v.lastSeen))
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05.999Z0700"} {
		if t, err := time.Parse(layout, strings.TrimSpace(quoted)); err == nil {
			return t.UTC().Format(time.RFC3339)
		}
	}
	return ""
}

// failure is the error of a movement that was not confirmed in its time. ErrNoAnswer if
// the lock said nothing that counts.
func (v *lockView) failure(m *movement) error {
	switch {
	case m.contrary != boltUnknown:
		return fmt.Errorf("the lock says that it is %s, not %s", m.contrary, m.want)
	case v.heard() != "":
		return fmt.Errorf("%w that it is %s; the bridge last heard of it at %s", ErrNoAnswer, m.want, v.heard())
	}
	return fmt.Errorf("%w that it is %s", ErrNoAnswer, m.want)
}
