package door

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func pinKey(t testing.TB) PINKey { return check(NewPINKey(&stream{name: "pin"}))(t) }

func newKeypad(t testing.TB) (*Keypad, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keypad")
	if err := CreateKeypad(path); err != nil {
		t.Fatal(err)
	}
	return openKeypad(t, path), path
}

func openKeypad(t testing.TB, path string) *Keypad {
	t.Helper()
	k := check(OpenKeypad(path, pinKey(t)))(t)
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func (k *Keypad) try(pin string, now time.Time) error {
	_, err := k.Enter(pin, now)
	return err
}

func pinAt(t testing.TB, now time.Time) string { return check(pinKey(t).PIN(Minute(now)))(t) }

// RFC 6238 appendix B, SHA-1: the values of T, which are what a minute is here.
func TestPINVectors(t *testing.T) {
	key := check(ParsePINKey([]byte("12345678901234567890")))(t)
	for step, want := range map[uint64]string{
		0x1: "94287082", 0x23523EC: "07081804", 0x23523ED: "14050471",
		0x273EF07: "89005924", 0x3F940AA: "69279037", 0x27BC86AA: "65353130",
	} {
		if got := check(key.PIN(step))(t); got != want {
			t.Errorf("T %#x: %s, want %s", step, got, want)
		}
	}
	if m := Minute(noon.Add(59 * time.Second)); m != uint64(noon.Unix())/60 {
		t.Errorf("minute %d", m)
	}
	if m := Minute(time.Unix(-1, 0)); m != 0 {
		t.Errorf("before 1970: minute %d", m)
	}
}

func TestPINKeyIsNeverEmpty(t *testing.T) {
	for name, b := range map[string][]byte{
		"nil": nil, "empty": {}, "short": []byte("1234567890123456789"), "zeros": make([]byte, 20), "long": make([]byte, 65),
	} {
		if _, err := ParsePINKey(b); !errors.Is(err, ErrPINKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var none PINKey
	if pin, err := none.PIN(1); !errors.Is(err, ErrPINKey) {
		t.Errorf("a PIN of no key: %s", pin)
	}
	if _, err := none.Permit(1); !errors.Is(err, ErrPINKey) {
		t.Error("a permit of no key")
	}
	if _, err := none.MarshalBinary(); !errors.Is(err, ErrPINKey) {
		t.Error("bytes of no key")
	}
	path := filepath.Join(t.TempDir(), "keypad")
	if err := CreateKeypad(path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeypad(path, none); !errors.Is(err, ErrPINKey) {
		t.Errorf("a keypad of no key: %v", err)
	}
	b := check(pinKey(t).MarshalBinary())(t)
	if again := check(ParsePINKey(b))(t); check(again.PIN(5))(t) != check(pinKey(t).PIN(5))(t) {
		t.Error("another key after a round")
	}
}

func TestKeypad(t *testing.T) {
	k, path := newKeypad(t)
	id, err := k.Enter(pinAt(t, noon), noon.Add(10*time.Second))
	wants(t, err, 0)
	if want := check(pinKey(t).Permit(Minute(noon)))(t); id != want || id.IsZero() {
		t.Errorf("permit %s, want %s", id, want)
	}
	wants(t, k.try(pinAt(t, noon), noon.Add(20*time.Second)), UsedPIN)
	_ = k.Close()
	k = openKeypad(t, path)
	wants(t, k.try(pinAt(t, noon), noon.Add(30*time.Second)), UsedPIN)

	// Neighboring minutes, in any order, each once.
	for _, at := range []time.Duration{time.Minute, -time.Minute, 2 * time.Minute} {
		now := noon.Add(max(at-30*time.Second, 0))
		wants(t, k.try(pinAt(t, noon.Add(at)), now), 0)
		wants(t, k.try(pinAt(t, noon.Add(at)), now), UsedPIN)
	}
	wants(t, k.try(pinAt(t, noon), noon.Add(time.Minute)), UsedPIN)
	wants(t, k.try(pinAt(t, noon.Add(-2*time.Minute)), noon.Add(time.Minute)), WrongPIN)
	wants(t, k.try(pinAt(t, noon), noon), ClockBehind)
	for _, malformed := range []string{"", "1234567", "123456789", " 1234567", "1234567a", "１２３", "-1234567"} {
		wants(t, k.try(malformed, noon.Add(2*time.Minute)), Malformed)
	}
}

func TestKeypadSkew(t *testing.T) {
	for minutes, want := range map[int]Refusal{-2: WrongPIN, -1: 0, 0: 0, 1: 0, 2: WrongPIN} {
		k, _ := newKeypad(t)
		wants(t, k.try(pinAt(t, noon.Add(time.Duration(minutes)*time.Minute)), noon), want)
	}
}

// wrongPIN is eight digits that are no PIN near now.
func wrongPIN(t testing.TB, now time.Time) string {
	t.Helper()
	right := map[string]bool{}
	for m := Minute(now) - 2; m <= Minute(now)+2; m++ {
		right[check(pinKey(t).PIN(m))(t)] = true
	}
	for i := 0; ; i++ {
		if pin := fmt.Sprintf("%08d", i); !right[pin] {
			return pin
		}
	}
}

// wrongly types n wrong PINs, each as soon as it is compared, from now on; and gives the
// instant of the last.
func (k *Keypad) wrongly(t testing.TB, n int, now time.Time) time.Time {
	t.Helper()
	for range n {
		err := k.try(wrongPIN(t, now), now)
		var p Pause
		if errors.As(err, &p) {
			now = p.Until
			err = k.try(wrongPIN(t, now), now)
		}
		wants(t, err, WrongPIN)
	}
	return now
}

func TestKeypadWaits(t *testing.T) {
	k, path := newKeypad(t)
	restart := func() {
		_ = k.Close()
		k = openKeypad(t, path)
	}
	wants(t, k.try(wrongPIN(t, noon), noon), WrongPIN)
	restart() // forgives nothing
	now := k.wrongly(t, 3, noon)
	wants(t, k.try(pinAt(t, now), now), 0) // four are a bad day
	for n, wait := range map[int]time.Duration{
		4: 0, 5: 20 * time.Second, 6: 20 * time.Second, 24: 20 * time.Second, 25: time.Minute, 26: time.Minute, 3000: time.Minute,
	} {
		now = now.Add(time.Hour)
		k.file.sync = func(*os.File) error { return nil }
		now = k.wrongly(t, n, now)
		restart()
		until := now.Add(wait)
		for _, at := range []time.Time{now, until.Add(-time.Nanosecond)} {
			if wait == 0 {
				break
			}
			for _, pin := range []string{pinAt(t, at), wrongPIN(t, at)} { // neither is compared, and the wait grows by neither
				err := k.try(pin, at)
				wants(t, err, Paused)
				var p Pause
				if !errors.As(err, &p) || !p.Until.Equal(until) {
					t.Fatalf("after %d: %v, want until %s", n, err, until)
				}
			}
		}
		now = until
		wants(t, k.try(pinAt(t, now), now), 0)
		wants(t, k.try(wrongPIN(t, now), now), WrongPIN) // a success starts over
		now = now.Add(time.Minute)
		wants(t, k.try(pinAt(t, now), now), 0)
	}
}

// A passer-by has typed wrong PINs and goes. A courier who is told a PIN in that second gets
// in with it, in whichever second of the minute he asks.
func TestPasserByDoesNotShutOutACourier(t *testing.T) {
	for second := range 60 {
		k, _ := newKeypad(t)
		k.file.sync = func(*os.File) error { return nil }
		asks := noon.Add(10*time.Minute + time.Duration(second)*time.Second)
		for range freeTries {
			wants(t, k.try(wrongPIN(t, asks), asks), WrongPIN)
		}
		pin, minute := pinAt(t, asks), Minute(asks)
		err := k.try(pin, asks)
		var p Pause
		if !errors.As(err, &p) {
			t.Fatalf("second %d: %v", second, err)
		}
		if _, sure := PINHolds(minute); !p.Until.Before(sure) {
			t.Errorf("second %d: the wait ends at %s, and the PIN is sure to work until %s", second, p.Until, sure)
		}
		wants(t, k.try(pin, p.Until), 0)
	}
	// After two hundred wrong ones, the courier asks when the wait is over.
	k, _ := newKeypad(t)
	k.file.sync = func(*os.File) error { return nil }
	last := k.wrongly(t, 200, noon)
	var p Pause
	if err := k.try(pinAt(t, last), last); !errors.As(err, &p) || p.Until.Sub(last) > time.Minute {
		t.Fatalf("%v", err)
	}
	wants(t, k.try(pinAt(t, p.Until), p.Until), 0)
}

// The reckoning in the doc comment of Keypad and in docs/threats.md: what guessing is worth.
func TestReckoningOfGuesses(t *testing.T) {
	const chance = 3e-8 // of one guess: three PINs of 10^8
	guesses := func(d, idle time.Duration) (n int) {
		var s keypadState
		end := noon.Add(d)
		for now := noon; now.Before(end); {
			s = s.guessed(now)
			n++
			wait := s.wait()
			if idle > 0 && s.tries() == shortTries { // wait for the hour that forgets
				wait = idle
			}
			now = now.Add(wait)
		}
		return n
	}
	for _, tt := range []struct {
		d     time.Duration
		tries int
		oneIn float64 // rounded to two digits
	}{
		{time.Hour, 78, 430_000}, {8 * time.Hour, 498, 67_000}, {24 * time.Hour, 1_458, 23_000}, {365 * 24 * time.Hour, 525_618, 63},
	} {
		n := guesses(tt.d, 0)
		oneIn := 1 / (float64(n) * chance)
		if n != tt.tries || oneIn < tt.oneIn*0.98 || oneIn > tt.oneIn*1.02 {
			t.Errorf("%s: %d guesses, one in %.0f", tt.d, n, oneIn)
		}
	}
	page := string(check(os.ReadFile("../../docs/threats.md"))(t))
	for _, row := range []string{"| 78 | 430,000 |", "| 498 | 67,000 |", "| 1,458 | 23,000 |", "| 525,618 | 63 "} {
		if !strings.Contains(page, row) {
			t.Errorf("docs/threats.md does not say %q", row)
		}
	}
	if on, waiting := guesses(67*time.Minute, 0), guesses(66*time.Minute, time.Hour); on != 85 || waiting != shortTries {
		t.Errorf("going on: %d; waiting for the hour: %d", on, waiting)
	}
	if on, waiting := guesses(30*24*time.Hour, 0), guesses(30*24*time.Hour, time.Hour); waiting >= on {
		t.Errorf("waiting for the hour that forgets pays: %d, and %d by going on", waiting, on)
	}
}

// A keypad's file of an earlier version, in which fives of wrong PINs meant longer pauses,
// means the same tries.
func TestKeypadReadsTheOlderRecord(t *testing.T) {
	k, path := newKeypad(t)
	older := binary.BigEndian.AppendUint64(nil, Minute(noon))
	older = append(older, 1, 2, 7) // the minute's PIN was used; 2 wrong since the seventh pause
	older = binary.BigEndian.AppendUint64(older, uint64(noon.Unix()))
	if err := k.file.append(older); err != nil {
		t.Fatal(err)
	}
	_ = k.Close()
	k = openKeypad(t, path)
	wants(t, k.try(pinAt(t, noon), noon.Add(59*time.Second)), Paused)
	wants(t, k.try(pinAt(t, noon), noon.Add(60*time.Second)), UsedPIN)
	if n := k.state.tries(); n != 37 {
		t.Errorf("%d wrong tries", n)
	}
}

// A used PIN, typed again by its honest owner, is no guess.
func TestUsedPINIsNotCounted(t *testing.T) {
	k, _ := newKeypad(t)
	wants(t, k.try(pinAt(t, noon), noon), 0)
	for range 2 * freeTries {
		wants(t, k.try(pinAt(t, noon), noon), UsedPIN)
	}
}

func TestKeypadClockSetBackInAWait(t *testing.T) {
	k, path := newKeypad(t)
	future := noon.AddDate(50, 0, 0)
	for range freeTries {
		wants(t, k.try(wrongPIN(t, future), future), WrongPIN)
	}
	wants(t, k.try(pinAt(t, noon), noon), Paused)
	_ = k.Close()
	k = openKeypad(t, path)
	wants(t, k.try(pinAt(t, noon), noon.Add(shortWait-time.Second)), Paused)
	after := noon.Add(shortWait)
	wants(t, k.try(pinAt(t, after), after), 0)
}

// Neither a right nor a wrong PIN is answered before it is on the disk, and a power cut
// at any byte leaves a state that was answered.
func TestKeypadTornAtEveryByte(t *testing.T) {
	k, path := newKeypad(t)
	var d disk
	k.file.sync = d.sync
	states := []keypadState{k.state}
	for _, pin := range []string{wrongPIN(t, noon), wrongPIN(t, noon), pinAt(t, noon), wrongPIN(t, noon)} {
		_, _ = k.Enter(pin, noon)
		states = append(states, k.state)
		if len(d.content) != magicSize+(len(states)-1)*keypadSlot {
			t.Fatal("answered before it was on the disk")
		}
	}
	whole := check(os.ReadFile(path))(t)
	for n := magicSize; n <= len(whole); n++ {
		torn := filepath.Join(t.TempDir(), "keypad")
		if err := os.WriteFile(torn, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		k := openKeypad(t, torn)
		if want := states[(n-magicSize)/keypadSlot]; k.state != want {
			t.Fatalf("%d bytes: %+v, want %+v", n, k.state, want)
		}
		_ = k.Close()
	}
}

func TestKeypadFailsClosed(t *testing.T) {
	k, _ := newKeypad(t)
	d := disk{fails: errors.New("input/output error")}
	k.file.sync = d.sync
	wants(t, k.try(pinAt(t, noon), noon), NoMemory)
	d.fails = nil
	wants(t, k.try(pinAt(t, noon), noon), NoMemory)
	wants(t, k.try(wrongPIN(t, noon), noon), NoMemory)
}

func TestKeypadFileIsBounded(t *testing.T) {
	k, path := newKeypad(t)
	k.file.sync = func(*os.File) error { return nil }
	now := noon
	for range 2 * keypadSlack {
		wants(t, k.try(pinAt(t, now), now), 0)
		now = now.Add(time.Minute)
	}
	if info := check(os.Stat(path))(t); info.Size() > magicSize+(keypadSlack+1)*keypadSlot {
		t.Errorf("%d bytes", info.Size())
	}
	state := k.state
	_ = k.Close()
	if k = openKeypad(t, path); k.state != state {
		t.Errorf("%+v, want %+v", k.state, state)
	}
}

// When a PIN is said to hold, it does at every keypad whose clock is right to Skew; a
// second earlier or later, it does not at one of them.
func TestPINHolds(t *testing.T) {
	minute := Minute(noon)
	pin := check(pinKey(t).PIN(minute))(t)
	from, until := PINHolds(minute)
	for at, want := range map[time.Time]bool{
		from: true, noon: true, until.Add(-1): true, from.Add(-1): false, until: false,
	} {
		held := true
		for _, skew := range []time.Duration{-Skew, 0, Skew} {
			pad, _ := newKeypad(t)
			held = held && pad.try(pin, at.Add(skew)) == nil
		}
		if held != want {
			t.Errorf("at %s: %v at every keypad, want %v", at.Sub(noon), held, want)
		}
	}
	if until.Sub(from) != 2*time.Minute {
		t.Errorf("it holds from %s until %s", from, until)
	}
}

// The service names a PIN as the keypad does.
func TestPINsAreNamedAlike(t *testing.T) {
	pad, _ := newKeypad(t)
	key := check(pinKey(t).MarshalBinary())(t)
	id, err := pad.Enter(pinAt(t, noon), noon)
	named, err2 := PINs{}.Permit(key, Minute(noon))
	if err != nil || err2 != nil || id != PermitID(named) {
		t.Errorf("%s is named %x (%v, %v)", id, named, err, err2)
	}
	if _, err := (PINs{}).Permit(key[:minPINKey-1], 1); !errors.Is(err, ErrPINKey) {
		t.Errorf("a PIN of no key: %v", err)
	}
}
