package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// What zigbee2mqtt's own converters publish, made by testdata/converters.cjs.
func TestConverters(t *testing.T) {
	content, err := os.ReadFile("testdata/converters.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Messages map[string]json.RawMessage
		Commands map[string]struct {
			Told       []string
			Optimistic any
		}
	}
	if err := json.Unmarshal(content, &table); err != nil {
		t.Fatal(err)
	}
	want := map[string]func(m message) bool{
		"lockState 0": func(m message) bool { return m.bolt == boltBetween },
		"lockState 1": func(m message) bool { return m.bolt == boltLocked && m.lockState },
		"lockState 2": func(m message) bool { return m.bolt == boltUnlocked && m.lockState },
		// The lock does not know where its bolt is, and zigbee2mqtt says UNLOCK.
		"lockState 255": func(m message) bool {
			return (&lockView{}).doubtful(m) && (&lockView{lockState: true, toldLock: true}).doubtful(m)
		},

		"doorState 0":   func(m message) bool { return m.contact == ContactOpen && !*m.forced && !*m.jammed },
		"doorState 1":   func(m message) bool { return m.contact == ContactClosed && !*m.forced && !*m.jammed },
		"doorState 2":   func(m message) bool { return m.contact == 0 && !*m.forced && *m.jammed },
		"doorState 3":   func(m message) bool { return m.contact == ContactOpen && *m.forced && !*m.jammed },
		"doorState 4":   func(m message) bool { return m.contact == 0 && !*m.forced && !*m.jammed },
		"doorState 255": func(m message) bool { return m.contact == 0 && !*m.forced && !*m.jammed },

		"battery 200 half percent": func(m message) bool { return m.battery == chargeGood },
		"battery 60 half percent":  func(m message) bool { return m.battery == chargeGood },
		"battery 30 half percent":  func(m message) bool { return m.battery == chargeLow },
		"battery 28 half percent":  func(m message) bool { return m.battery == chargeLow },
		"battery 0 half percent":   func(m message) bool { return m.battery == chargeLow },
		"battery 255 half percent": func(m message) bool { return m.battery == chargeUnknown },

		"contact zone 0":  func(m message) bool { return m.contact == ContactClosed && !*m.tamper && m.battery == chargeGood },
		"contact zone 1":  func(m message) bool { return m.contact == ContactOpen && !*m.tamper },
		"contact zone 4":  func(m message) bool { return m.contact == ContactClosed && *m.tamper },
		"contact zone 8":  func(m message) bool { return m.battery == chargeLow && !*m.tamper },
		"contact zone 13": func(m message) bool { return m.contact == ContactOpen && *m.tamper && m.battery == chargeLow },
	}
	for n := range 16 {
		// What was done at a lock is for the log. It is no word of where the bolt stands.
		want[fmt.Sprintf("operation %d", n)] = func(m message) bool { return (m.action != "") == (n != 0) && !m.saysBolt && len(m.others) == 0 }
	}
	for name, raw := range table.Messages {
		check, known := want[name]
		if !known {
			t.Errorf("%s: what is it to a door?", name)
			continue
		}
		if m := first(readZigbee(raw)); !check(m) {
			t.Errorf("%s: %s was read as %+v", name, raw, m)
		}
	}
	if len(table.Messages) != len(want) {
		t.Errorf("%d messages, %d known", len(table.Messages), len(want))
	}

	// What the door sends is what the converters take, and they invent no state for it.
	m := &MQTT{MQTTConfig: MQTTConfig{Convention: Zigbee2MQTT}}
	for sent, cluster := range map[string]string{
		"set " + m.command(boltUnlocked): "closuresDoorLock unlockDoor", "set " + m.command(boltLocked): "closuresDoorLock lockDoor",
		"get " + m.question(): "closuresDoorLock lockState",
	} {
		if c, known := table.Commands[sent]; !known || strings.Join(c.Told, ",") != cluster || c.Optimistic != nil {
			t.Errorf("%s: %+v, %v", sent, c, known)
		}
	}
}

func first(m message, _ bool) message { return m }

// One field of a wrong type voids no other.
func TestOneFieldVoidsNoOther(t *testing.T) {
	whole := map[string]string{
		"state": `"UNLOCK"`, "lock_state": `"unlocked"`, "contact": "false", "tamper": "true", "battery": "9",
		"action": `"unlock"`, "last_seen": "1700000000000",
	}
	says := map[string]func(m message) bool{
		"state": func(m message) bool { return m.bolt == boltUnlocked }, "lock_state": func(m message) bool { return m.bolt == boltUnlocked },
		"contact": func(m message) bool { return m.contact == ContactOpen }, "tamper": func(m message) bool { return m.tamper != nil && *m.tamper },
		"battery": func(m message) bool { return m.battery == chargeLow }, "action": func(m message) bool { return m.action == "unlock" },
		"last_seen": func(m message) bool { return m.lastSeen != "" },
	}
	for broken := range whole {
		for _, value := range []string{`7`, `"x"`, `{}`, `[]`, `null`, `true`, `1e999`, `""`, `-1`} {
			var fields []string
			for name, good := range whole {
				if name == broken {
					good = value
				}
				fields = append(fields, fmt.Sprintf("%q:%s", name, good))
			}
			text := "{" + strings.Join(fields, ",") + "}"
			m, ok := readZigbee([]byte(text))
			if !ok {
				t.Errorf("%s: dropped", text)
				continue
			}
			for name, check := range says {
				// A state and a lock_state that are words and disagree say nothing together.
				if name == broken || (strings.HasPrefix(value, `"`) && strings.HasSuffix(broken, "state") && strings.HasSuffix(name, "state")) {
					continue
				}
				if !check(m) {
					t.Errorf("%s is lost in %s", name, text)
				}
			}
		}
	}
	for _, text := range []string{"", "online", "[]", "null", `"UNLOCK"`, `{"state":"UNLOCK"`, "7", "\x00"} {
		if _, ok := readZigbee([]byte(text)); ok {
			t.Errorf("%q was taken", text)
		}
	}
}

const (
	saysLocked   = `{"state":"LOCK","lock_state":"locked","battery":97}`
	saysUnlocked = `{"state":"UNLOCK","lock_state":"unlocked","battery":97}`
	saysBetween  = `{"state":"UNLOCK","lock_state":"not_fully_locked","battery":97}`
)

// What confirms an unlocking, and what does not. Before is what was said ahead of the
// command, retained by the broker where it begins with "retained"; "ask" is one readback
// asked after the command.
func TestConfirmation(t *testing.T) {
	seen := func(at int, text string) string {
		return strings.TrimSuffix(text, "}") + fmt.Sprintf(`,"last_seen":%d}`, at)
	}
	for _, tt := range []struct {
		name   string
		before []string
		after  []string
		want   string // confirmed, silent or contrary
	}{
		{"a change", []string{saysLocked}, []string{saysUnlocked}, "confirmed"},
		{"a change that takes its way", []string{saysLocked}, []string{saysLocked, saysBetween, saysUnlocked}, "confirmed"},
		{"nothing", []string{saysLocked}, nil, "silent"},
		{"the cache, with a battery report", []string{saysUnlocked}, []string{strings.Replace(saysUnlocked, "97", "96", 1)}, "silent"},
		{"the cache, again and again", []string{saysUnlocked}, []string{saysUnlocked, saysUnlocked, saysUnlocked}, "silent"},
		{"the cache after a readback that was not answered", []string{saysUnlocked}, []string{"ask", saysUnlocked}, "silent"},
		{
			"battery reports after readbacks that were not answered",
			[]string{saysUnlocked},
			[]string{"ask", strings.Replace(saysUnlocked, "97", "96", 1), "ask", strings.Replace(saysUnlocked, "97", "95", 1), "ask"},
			"silent",
		},
		{"the cache sent again, and the bridge has not heard of the lock", []string{seen(1, saysUnlocked)}, []string{"ask", seen(1, saysUnlocked), "ask", seen(1, saysUnlocked)}, "silent"},
		{"two answers, with the time", []string{seen(1, saysUnlocked)}, []string{"ask", seen(2, saysUnlocked), "ask", seen(3, saysUnlocked)}, "confirmed"},
		{"two answers", []string{saysUnlocked}, []string{"ask", saysUnlocked, "ask", saysUnlocked}, "confirmed"},
		{"two answers to one question", []string{saysUnlocked}, []string{"ask", saysUnlocked, saysUnlocked}, "silent"},
		{"two answers before and after another", []string{saysUnlocked}, []string{"ask", saysUnlocked, "ask", saysLocked, "ask", saysLocked}, "contrary"},
		{"what the broker kept is no state", []string{"retained" + saysLocked}, []string{saysUnlocked}, "silent"},
		{"nor is what it kept an answer", nil, []string{"ask", "retained" + saysUnlocked, "ask", "retained" + saysUnlocked}, "silent"},
		{"a change before the command", []string{saysLocked, saysUnlocked}, []string{saysUnlocked}, "silent"},
		{"the other state, as an answer", []string{saysLocked}, []string{"ask", saysLocked}, "contrary"},
		{"the other state, by the cache", []string{saysLocked}, []string{saysLocked}, "silent"},
		{"stopped halfway", []string{saysLocked}, []string{saysBetween}, "contrary"},
		{"a state that contradicts the position", []string{saysLocked}, []string{`{"state":"UNLOCK","lock_state":"locked"}`}, "silent"},
		{"an unknown position", []string{saysLocked}, []string{`{"state":"UNLOCK"}`}, "silent"},
		{"a lock that has no lock_state", []string{`{"state":"LOCK"}`}, []string{`{"state":"UNLOCK"}`}, "confirmed"},
		{"a lock that only ever said UNLOCK", nil, []string{"ask", `{"state":"UNLOCK"}`, "ask", `{"state":"UNLOCK"}`}, "silent"},
		{"another attribute for the first time", []string{`{"state":"UNLOCK","lock_state":"unlocked"}`}, []string{"ask", saysUnlocked, "ask", saysUnlocked}, "silent"},
		{"what was done at the lock", []string{saysLocked}, []string{`{"action":"unlock","action_source_name":"rf"}`}, "silent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &lockView{}
			var m *movement
			say := func(text string) {
				if text == "ask" {
					m.asked++
					return
				}
				payload, retained := strings.CutPrefix(text, "retained")
				said, ok := readZigbee([]byte(payload))
				if !ok {
					t.Fatal(payload)
				}
				v.observe(said, retained)
			}
			for _, text := range tt.before {
				say(text)
			}
			m = v.begin(boltUnlocked)
			for _, text := range tt.after {
				say(text)
			}
			got := "contrary"
			select {
			case <-m.done:
				got = "confirmed"
			default:
				if errors.Is(v.failure(m), ErrNoAnswer) {
					got = "silent"
				}
			}
			wants(t, got, tt.want)
		})
	}
}

// After a connection broke, what was said on it is no state any more.
func TestConfirmationAfterABreak(t *testing.T) {
	v := &lockView{}
	v.observe(first(readZigbee([]byte(saysLocked))), false)
	v.disconnected()
	m := v.begin(boltUnlocked)
	v.observe(first(readZigbee([]byte(saysUnlocked))), false)
	select {
	case <-m.done:
		t.Error("confirmed by a change that may be older than the command")
	default:
	}
}

func TestPlainConvention(t *testing.T) {
	for _, tt := range []struct {
		before, after []string
		want          string
	}{
		{[]string{"LOCKED"}, []string{"UNLOCKED"}, "confirmed"},
		{[]string{"retainedLOCKED"}, []string{"UNLOCKING", "UNLOCKED"}, "confirmed"},
		{[]string{"UNLOCKED"}, []string{"UNLOCKED"}, "silent"},
		{[]string{"retainedUNLOCKED"}, []string{"UNLOCKED"}, "silent"},
		{nil, []string{"UNLOCKED"}, "silent"},
		{[]string{"LOCKED"}, []string{"UNLOCKING", "JAMMED"}, "contrary"},
		{[]string{"LOCKED"}, []string{"UNLOCK", "unlocked", "ON", `{"state":"UNLOCKED"}`, ""}, "silent"},
		{[]string{"UNLOCKED"}, []string{"ask", "UNLOCKED", "ask", "UNLOCKED"}, "confirmed"}, // where there is a readback
	} {
		v := &lockView{retainedIsState: true}
		var m *movement
		say := func(text string) {
			payload, retained := strings.CutPrefix(text, "retained")
			if text == "ask" {
				m.asked++
			} else if said, ok := readPlain([]byte(payload)); ok {
				v.observe(said, retained)
			}
		}
		for _, text := range tt.before {
			say(text)
		}
		m = v.begin(boltUnlocked)
		for _, text := range tt.after {
			say(text)
		}
		got := "contrary"
		select {
		case <-m.done:
			got = "confirmed"
		default:
			if errors.Is(v.failure(m), ErrNoAnswer) {
				got = "silent"
			}
		}
		if got != tt.want {
			t.Errorf("%v, then %v: %s, want %s", tt.before, tt.after, got, tt.want)
		}
	}
}

func TestAvailability(t *testing.T) {
	for text, want := range map[string]string{
		"online": "true true", "offline": "false true", `{"state":"online"}`: "true true", `{"state":"offline"}`: "false true", " offline\n": "false true",
		"": "false false", "ONLINE": "false false", `{"state":1}`: "false false", `{}`: "false false", "1": "false false",
	} {
		online, ok := readAvailability([]byte(text))
		wants(t, fmt.Sprint(online, ok), want)
	}
}

// The log says when the bridge last heard of a lock that does not answer.
func TestLastHeard(t *testing.T) {
	for text, want := range map[string]string{
		`1764330000000`: "2025-11-28T11:40:00Z", `"2026-11-24T12:00:00.123Z"`: "2026-11-24T12:00:00Z", `"2026-11-24T13:00:00+01:00"`: "2026-11-24T12:00:00Z",
		`"yesterday"`: "", `{}`: "", `-5`: "", "": "", `1e300`: "",
	} {
		v := &lockView{lastSeen: text}
		wants(t, v.heard(), want)
	}
	v := &lockView{lastSeen: "1764330000000"}
	wants(t, v.failure(v.begin(boltLocked)).Error(), "the lock did not say that it is locked; the bridge last heard of it at 2025-11-28T11:40:00Z")
}
