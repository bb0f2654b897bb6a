package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"latchkey/handoff/door"
)

var (
	permitA = door.PermitID{0xa}
	permitB = door.PermitID{0xb}
)

// script writes effects in a line: "save delivered:A unlock".
func script(effects []effect) string {
	var words []string
	for _, e := range effects {
		switch e.do {
		case save:
			words = append(words, "save")
		case unlockNow:
			words = append(words, "unlock")
		case lockNow:
			words = append(words, "lock")
		case report:
			word := e.state.String()
			switch e.permit {
			case permitA:
				word += ":A"
			case permitB:
				word += ":B"
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

var (
	start      = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	testRules  = rules{relock: 5 * time.Second, heldOpen: 30 * time.Second}
	admitA     = input{what: admitted, permit: permitA}
	admitB     = input{what: admitted, permit: permitB}
	yes        = input{what: answered, yes: true}
	no         = input{what: answered}
	openNow    = input{what: contactIs, yes: true}
	closedNow  = input{what: contactIs}
	tick       = input{what: ticked}
	stopNow    = input{what: stopped}
	silentNow  = input{what: answered, silent: true}
	tamperNow  = input{what: alarming, alarm: door.Tamper}
	admitsA    = "save delivered:A unlock"
	locksAgain = "save lock"
)

func faultNow(s door.State) input { return input{what: alarming, alarm: s} }

type moment struct {
	at   float64 // seconds
	in   input
	want string
}

func TestMachine(t *testing.T) {
	tests := []struct {
		name  string
		story []moment
	}{
		{"an unlock without a contact is never said to be opened", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{5.9, tick, ""},
			{6, tick, locksAgain},
			{7, yes, "relocked:A save"},
			{100, tick, ""},
		}},
		{"an unlock with a contact", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, openNow, "opened:A"},
			{2.5, openNow, ""},
			{3, closedNow, ""},
			{4, openNow, ""},
			{5, closedNow, ""},
			{6, tick, locksAgain},
			{7, yes, "relocked:A save"},
		}},
		{"the door opens before the lock has confirmed", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, openNow, ""},
			{2, yes, "save confirmed:A opened:A"},
		}},
		{"the lock never confirmed, and the door opened all the same", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, openNow, ""},
			{10, no, "save opened:A save lock"},
			{11, yes, "relocked:A save"},
		}},
		{"the lock did not confirm: it may have moved, so it is locked", []moment{
			{0, admitA, admitsA},
			{10, no, "failed:A save lock"},
			{11, yes, "save"},
			{12, admitB, "save delivered:B unlock"},
		}},
		{"a contact that opens after a failure is not force", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{10, no, "failed:A save lock"},
			{11, openNow, ""},
			{12, yes, "save"},
		}},
		{"the lock does not lock, and then it does", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, no, "failed:A save"},
			{16.9, tick, ""},
			{17, tick, locksAgain},
			{18, no, "save"},
			{28, tick, locksAgain},
			{29, yes, "relocked:A save"},
		}},
		{"a jammed lock lets the next courier in", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, no, "failed:A save"},
			{8, admitB, "save delivered:B unlock"},
			{9, yes, "save confirmed:B"},
			{14, tick, locksAgain},
			{15, yes, "relocked:A relocked:B save"},
		}},
		{"a permit says how long", []moment{
			{0, input{what: admitted, permit: permitA, relock: 20 * time.Second}, admitsA},
			{1, yes, "save confirmed:A"},
			{20.9, tick, ""},
			{21, tick, locksAgain},
			{22, yes, "relocked:A save"},
			{30, admitB, "save delivered:B unlock"}, // and says it for its own opening only
			{31, yes, "save confirmed:B"},
			{36, tick, locksAgain},
		}},
		{"a permit says for less long than the door would", []moment{
			{0, input{what: admitted, permit: permitA, relock: time.Second}, admitsA},
			{1, yes, "save confirmed:A"},
			{2, tick, locksAgain},
		}},
		{"no permit keeps a lock unlocked for longer than two minutes", []moment{
			{0, input{what: admitted, permit: permitA, relock: door.MaxRelock + time.Second}, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
		}},
		{"nor for no time", []moment{
			{0, input{what: admitted, permit: permitA, relock: -time.Second}, admitsA},
			{1, yes, "save confirmed:A"},
			{5.9, tick, ""},
			{6, tick, locksAgain},
		}},
		{"a second, shorter unlock does not shorten the first", []moment{
			{0, input{what: admitted, permit: permitA, relock: 20 * time.Second}, admitsA},
			{1, yes, "save confirmed:A"},
			{2, admitB, "save delivered:B unlock"},
			{3, yes, "save confirmed:B"},
			{20.9, tick, ""},
			{21, tick, locksAgain},
			{22, yes, "relocked:A relocked:B save"},
		}},
		{"two couriers at one door", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{4, admitB, "save delivered:B unlock"},
			{5, yes, "save confirmed:B"},
			{6, tick, ""},
			{7, openNow, "opened:A opened:B"},
			{10, tick, locksAgain},
			{11, yes, "relocked:A relocked:B save"},
		}},
		{"the second courier comes through the open door", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, openNow, "opened:A"},
			{4, admitB, "save delivered:B unlock"},
			{5, yes, "save confirmed:B"},
			{10, tick, locksAgain},
			{11, yes, "relocked:A relocked:B save"},
		}},
		{"the second unlock fails, the first one stands", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, admitB, "save delivered:B unlock"},
			{12, no, "failed:B save lock"},
			{13, yes, "relocked:A save"},
		}},
		{"the contact is late", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, yes, ""},
			{8, openNow, "opened:A relocked:A save"},
			{37.9, tick, ""},
			{38, tick, "held-open:A"},
			{99, tick, ""},
		}},
		{"the door stays closed", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, yes, ""},
			{8.9, tick, ""},
			{9, tick, "relocked:A save"},
		}},
		{"the door opens while it is locked again", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{6.5, openNow, "opened:A"},
			{7, yes, "relocked:A save"},
		}},
		{"stopped while it settles", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, yes, ""},
			{8, stopNow, ""},
			{9, tick, "relocked:A save"},
		}},
		{"forced", []moment{
			{0, closedNow, ""},
			{9, openNow, "forced"},
			{10, closedNow, ""},
			{11, openNow, ""}, // rattled
			{12, closedNow, ""},
			{19, openNow, "forced"},
			{49, tick, "held-open"},
		}},
		{"forced, long after an unlock", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, yes, ""},
			{9, tick, "relocked:A save"},
			{9.1, openNow, "forced"},
			{39.1, tick, "held-open"},
		}},
		{"open when the controller starts: no opening was seen", []moment{
			{0, openNow, ""},
			{30, tick, "held-open"},
			{31, closedNow, ""},
			{32, openNow, "forced"},
		}},
		{"the contact first tells that it is open: no opening was seen", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, openNow, ""},
			{6, tick, locksAgain},
			{7, yes, "relocked:A save"},
			{37, tick, "held-open"},
		}},
		{"held open after an unlock", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, openNow, "opened:A"},
			{6, tick, locksAgain},
			{7, yes, "relocked:A save"},
			{36.9, tick, ""},
			{37, tick, "held-open:A"},
			{300, tick, ""},
		}},
		{"closed in time", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, openNow, "opened:A"},
			{6, tick, locksAgain},
			{7, yes, "relocked:A save"},
			{20, closedNow, ""},
			{37, tick, ""},
		}},
		{"held open, then unlocked by the next", []moment{
			{0, closedNow, ""},
			{0, openNow, "forced"},
			{10, admitA, admitsA},
			{30, tick, ""},
			{31, yes, "save confirmed:A"},
			{36, tick, locksAgain},
			{37, yes, "relocked:A save"},
			{67, tick, "held-open"},
		}},
		{"tampering", []moment{
			{0, tamperNow, "tamper"},
			{9, tamperNow, ""},
			{10, tamperNow, "tamper"},
		}},
		{"the lock does not answer", []moment{
			{0, admitA, admitsA},
			{10, silentNow, "no-answer:A save lock"}, // it may have moved
			{11, yes, "save"},
		}},
		{"the lock does not answer, and the door opens", []moment{
			{0, closedNow, ""},
			{0, admitA, admitsA},
			{3, openNow, ""},
			{10, silentNow, "save opened:A save lock"},
		}},
		{"the second unlock is not answered, the first one stands", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, admitB, "save delivered:B unlock"},
			{12, silentNow, "no-answer:B save lock"},
			{13, yes, "relocked:A save"},
		}},
		{"the lock does not answer that it is locked", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{16, silentNow, "failed:A save"}, // for the building that is an open door
		}},
		{"faults of the lock", []moment{
			{0, faultNow(door.BatteryLow), "battery-low"},
			{1, faultNow(door.Jammed), "jammed"},
			{2, faultNow(door.Unavailable), "unavailable"},
			{599, faultNow(door.BatteryLow), ""},
			{600, faultNow(door.BatteryLow), "battery-low"},
			{600, faultNow(door.Unavailable), ""},
		}},
		{"forced, as the lock and the contact tell", []moment{
			{0, closedNow, ""},
			{1, faultNow(door.Forced), "forced"},
			{1, openNow, ""},
		}},
		{"stopped while locked", []moment{{0, stopNow, ""}}},
		{"stopped while unlocked: it is locked first", []moment{
			{0, admitA, admitsA},
			{0, stopNow, ""},
			{1, yes, "save confirmed:A"},
			{6, tick, locksAgain},
			{7, yes, "relocked:A save"},
		}},
		{"stopped, and the lock does not lock", []moment{
			{0, admitA, admitsA},
			{1, yes, "save confirmed:A"},
			{2, stopNow, ""},
			{6, tick, locksAgain},
			{7, no, "failed:A save"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := machine{rules: testRules}
			for _, s := range tt.story {
				before := m
				unlocks := slices.Clone(m.unlocks)
				var effects []effect
				m, effects = m.step(s.in, start.Add(time.Duration(s.at*float64(time.Second))))
				if got := script(effects); got != s.want {
					t.Fatalf("at %vs: %q, want %q", s.at, got, s.want)
				}
				if !slices.Equal(before.unlocks, unlocks) {
					t.Fatalf("at %vs: the step changed the machine that it was given", s.at)
				}
			}
			if last := tt.story[len(tt.story)-1]; strings.HasPrefix(tt.name, "stopped") && !m.over() {
				t.Errorf("not over after %+v", last)
			}
		})
	}
}

func TestMachineResumes(t *testing.T) {
	tests := []struct {
		name    string
		found   []unlock
		effects string
		locked  string
		jammed  string
	}{
		{"nothing known", nil, "save lock", "save", "save"},
		{"before the lock answered", []unlock{{Permit: permitA, Stage: delivered}}, "failed:A save lock", "save", "save"},
		{"unlocked", []unlock{{Permit: permitA, Stage: confirmed}}, "save lock", "relocked:A save", "failed:A save"},
		{"opened", []unlock{{Permit: permitA, Stage: opened}}, "save lock", "relocked:A save", "failed:A save"},
		{"one unlocked, one not", []unlock{{Permit: permitA, Stage: confirmed}, {Permit: permitB, Stage: delivered}}, "failed:B save lock", "relocked:A save", "failed:A save"},
		{"jammed before", []unlock{{Permit: permitA, Stage: confirmed, Failed: true}}, "save lock", "relocked:A save", "save"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, effects := resume(testRules, tt.found)
			if got := script(effects); got != tt.effects {
				t.Errorf("%q, want %q", got, tt.effects)
			}
			if m.ready() {
				t.Error("it takes permits before the lock is known to be locked")
			}
			if _, effects := m.step(yes, start); script(effects) != tt.locked {
				t.Errorf("locked: %q, want %q", script(effects), tt.locked)
			}
			if _, effects := m.step(no, start); script(effects) != tt.jammed {
				t.Errorf("jammed: %q, want %q", script(effects), tt.jammed)
			}
		})
	}
}

func TestMachineTakesPermitsOnlyWhileTheLockRests(t *testing.T) {
	m := machine{rules: testRules}
	now := start
	step := func(in input) {
		now = now.Add(time.Second)
		m, _ = m.step(in, now)
	}
	wants := func(ready bool) {
		t.Helper()
		if m.ready() != ready {
			t.Errorf("ready: %v, want %v", m.ready(), ready)
		}
	}
	wants(true)
	step(admitA)
	wants(false)
	step(yes)
	wants(true)
	for range maxUnlocks - 1 {
		wants(true)
		step(admitB)
		step(yes)
	}
	wants(false) // so many at once is no building's morning
	now = now.Add(time.Minute)
	step(tick)
	wants(false)
	step(yes)
	wants(true)
	step(stopNow)
	wants(false)
}

// Whatever happens in whatever order: the lock is unlocked once for each permit, after
// that was stored and said; nothing is confirmed that the lock did not confirm, nor
// opened that no contact told; and in the end the lock is locked.
func TestMachineAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := machine{rules: testRules}
		now, permits, moving := start, byte(0), action(0)
		said := map[door.PermitID][]door.State{}
		unlocks, wasOpen, everOpened := 0, false, false
		step := func(in input) {
			var effects []effect
			m, effects = m.step(in, now)
			saved := false
			for _, e := range effects {
				switch e.do {
				case save:
					saved = true
				case report:
					if e.state == door.Opened && !everOpened {
						t.Fatal("opened, and no contact told so")
					}
					if e.state == door.Confirmed && (in.what != answered || !in.yes) {
						t.Fatal("confirmed, and the lock did not")
					}
					said[e.permit] = append(said[e.permit], e.state)
				case unlockNow, lockNow:
					if moving != 0 {
						t.Fatal("the lock is told something while it moves")
					}
					moving = e.do
					if e.do == unlockNow {
						unlocks++
						if !saved || !slices.Contains(said[in.permit], door.Delivered) {
							t.Fatal("unlocked before it was stored and said")
						}
					}
				}
			}
		}
		happen := func(what int) {
			switch {
			case what == 0 && m.ready() && permits < 100:
				permits++
				step(input{what: admitted, permit: door.PermitID{permits}, relock: time.Duration(rapid.IntRange(-1, 121).Draw(t, "relock")) * time.Second})
			case what <= 2 && moving != 0:
				moving = 0
				confirms := what == 1 || rapid.Bool().Draw(t, "confirms")
				step(input{what: answered, yes: confirms, silent: !confirms && rapid.Bool().Draw(t, "is silent")})
			case what == 3:
				everOpened = everOpened || !wasOpen
				wasOpen = true
				step(openNow)
			case what == 4:
				wasOpen = false
				step(closedNow)
			default:
				step(tick)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 12_000).Draw(t, "ms")) * time.Millisecond)
			happen(rapid.IntRange(0, 5).Draw(t, "what"))
		}
		step(stopNow)
		for range 20 {
			now = now.Add(time.Minute)
			if moving != 0 {
				happen(1)
			} else {
				step(tick)
			}
		}
		if !m.over() || m.phase != locked || len(m.unlocks) != 0 {
			t.Fatalf("in the end: %+v", m)
		}
		if unlocks != int(permits) {
			t.Fatalf("%d permits, %d unlocks", permits, unlocks)
		}
		for id, states := range said {
			if id.IsZero() {
				continue
			}
			for _, s := range []door.State{door.Delivered, door.Confirmed, door.Opened, door.Failed, door.Relocked, door.NoAnswer} {
				n := 0
				for _, other := range states {
					if other == s {
						n++
					}
				}
				if n > 1 {
					t.Fatalf("%s was said twice: %v", s, states)
				}
			}
			if last := states[len(states)-1]; last != door.Relocked && last != door.Failed && last != door.NoAnswer && last != door.HeldOpen {
				t.Fatalf("the last that was said is %s: %v", last, states)
			}
		}
	})
}
