package controller

import (
	"reflect"
	"testing"
)

// A lock's message means one thing each time it is read, and no bolt is taken for locked or unlocked
// that the message itself contradicts.
func FuzzLockMessage(f *testing.F) {
	for _, m := range []string{
		`{"state":"UNLOCK","lock_state":"unlocked","battery":97}`, `{"state":"UNLOCK","lock_state":"not_fully_locked"}`, `{"battery":10,"battery_low":false}`,
		`{"contact":false,"door_state":"closed","tamper":true}`, "LOCKED", " JAMMED\n", `"online"`, `{"state":"offline"}`, `{"state":{},"lock_state":[]}`,
	} {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, ok := readZigbee(payload)
		for range 4 { // the fields come out of a map in another order
			if again, okAgain := readZigbee(payload); ok != okAgain || !reflect.DeepEqual(m, again) {
				t.Errorf("%q is read as %+v, and as %+v", payload, m, again)
			}
		}
		if (m.bolt == boltLocked || m.bolt == boltUnlocked) && !m.saysBolt {
			t.Errorf("%q says nothing of the bolt, and is read as %s", payload, m.bolt)
		}
		if m.action != "" && !actions[m.action] {
			t.Errorf("%q brings the word %q", payload, m.action)
		}
		readPlain(payload)
		readAvailability(payload)
	})
}
