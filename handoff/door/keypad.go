package door

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

const (
	pinStep   = 60 // seconds
	pinDigits = otp.DigitsEight
	minPINKey = 20 // bytes: 160 bits, RFC 4226 section 4 (R6)
	maxPINKey = 64

	// How wrong PINs in a row slow the keypad: the reckoning is at Keypad.
	freeTries   = 5                // without a wait
	shortTries  = 25               // up to here the wait is the short one
	shortWait   = 20 * time.Second // shorter than the least time for which a PIN is sure to work
	longWait    = time.Minute
	triesForget = time.Hour // without a wrong PIN, after which they no longer count
)

// ErrPINKey says that a keypad's key is missing or too short. An empty key would give
// every door the same PINs, so it is refused and never defaulted.
var ErrPINKey = errors.New("door: a keypad's key is 20 to 64 random bytes")

// PINKey is the secret that one door's keypad shares with the service, 20 to 64 bytes. The
// zero value makes no PIN (ErrPINKey). It prints as ******.
type PINKey struct{ key []byte }

// NewPINKey reads a key of 20 bytes from random, which must be a cryptographic source.
func NewPINKey(random io.Reader) (PINKey, error) {
	b := make([]byte, minPINKey)
	if _, err := io.ReadFull(random, b); err != nil {
		return PINKey{}, fmt.Errorf("door: reading a keypad's key: %w", err)
	}
	return ParsePINKey(b)
}

// ParsePINKey takes 20 to 64 bytes, as MarshalBinary gave them; otherwise ErrPINKey.
func ParsePINKey(b []byte) (PINKey, error) {
	if len(b) < minPINKey || len(b) > maxPINKey || !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) {
		return PINKey{}, ErrPINKey
	}
	return PINKey{slices.Clone(b)}, nil
}

// MarshalBinary is the key in the clear, for a store that seals it and for the door.
func (k PINKey) MarshalBinary() ([]byte, error) {
	if len(k.key) == 0 {
		return nil, ErrPINKey
	}
	return slices.Clone(k.key), nil
}

// UnmarshalBinary is ParsePINKey for decoders.
func (k *PINKey) UnmarshalBinary(b []byte) (err error) {
	*k, err = ParsePINKey(b)
	return err
}

// Format prints ****** for every verb.
func (k PINKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText yields ******, so that JSON and its kin cannot leak a key.
func (k PINKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue yields ******.
func (k PINKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Minute is the time step of RFC 6238 section 4.2 that an instant lies in: whole
// minutes since 1970.
func Minute(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) / pinStep }

// PIN is the PIN of one minute: TOTP (RFC 6238) with HMAC-SHA-1 and a step of 60
// seconds, eight digits. It opens the door once, in that minute, the one before or the one
// after. The minute is that of [Minute]. The error is ErrPINKey.
func (k PINKey) PIN(minute uint64) (string, error) {
	if len(k.key) < minPINKey {
		return "", ErrPINKey
	}
	pin, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString(k.key), minute,
		hotp.ValidateOpts{Digits: pinDigits, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", ErrPINKey
	}
	return pin, nil
}

// Permit is the permit id of a minute's PIN. Door and service compute the same, so that the
// reports of a keypad name what they are about, as those of any door. The error is ErrPINKey.
func (k PINKey) Permit(minute uint64) (id PermitID, err error) {
	if len(k.key) < minPINKey {
		return PermitID{}, ErrPINKey
	}
	mac := hmac.New(sha256.New, k.key)
	mac.Write(binary.BigEndian.AppendUint64([]byte("latchkey/pin/v1\x00"), minute))
	copy(id[:], mac.Sum(nil))
	return id, nil
}

// PINHolds is when a minute's PIN opens a keypad whose clock is right to Skew: from the
// minute before it to the minute after it, less what such a clock may be off at each end.
// A keypad whose clock is right accepts it for Skew longer at both.
func PINHolds(minute uint64) (from, until time.Time) {
	at := time.Unix(int64(minute*pinStep), 0).UTC()
	return at.Add(-pinStep*time.Second + Skew), at.Add(2*pinStep*time.Second - Skew)
}

// PINs names the PINs of every keypad, for a service that has the keys.
type PINs struct{}

// Permit is [PINKey.Permit] of a key as MarshalBinary gave it.
func (PINs) Permit(key []byte, minute uint64) ([16]byte, error) {
	k, err := ParsePINKey(key)
	if err != nil {
		return PermitID{}, err
	}
	return k.Permit(minute)
}

// Keypad checks PINs at the door, without a network. It may be used concurrently, by
// one process.
//
// Each minute's PIN opens once (RFC 6238 section 5.2).
//
// Wrong PINs slow the keypad down, and never shut it: anyone in the street can type them,
// and a courier who has just been told a PIN must get in. Five in a row are free. Each
// further try has to wait until 20 seconds after the last wrong one, and from the 25th wrong
// one on, a minute. A try within the wait is refused without being compared (Paused); it
// counts for nothing, and makes the wait no longer. A right PIN starts over, and so does an
// hour without a wrong one.
//
// A PIN that is told is sure to work for 30 seconds at least (see [PINHolds]): a courier who
// finds the keypad slowed by a passer-by waits for 20 seconds at most and has the time to
// type. In the long wait the courier asks for the PIN when the wait is over.
//
// What that costs: three PINs of 10^8 open at any moment (those of this minute and of its
// neighbors), so that a guess opens with 3 in 10^8. Endless guessing makes 25 tries in
// the first seven minutes and then one a minute:
//
//	an hour    78 tries      1 in 430,000
//	a night    498 tries     1 in 67,000 (eight hours)
//	a day      1,458 tries   1 in 23,000
//	a year     525,618 tries 1.6 in 100, day and night at the same keypad
//
// Every wrong try is a report of the door (refused, wrong-pin). Waiting for the hour that
// forgets gives 25 tries in 67 minutes, where going on gives 85.
//
// All of that is on the disk before an answer is given, so that cutting the power wins no
// try. A clock set back does not revive a PIN older than the last one used, and a wait begun
// "in the future" starts again now. Setting the clock forward cuts a wait short, and lets a
// PIN be used that was told for later; the service tells none that is further ahead than the
// next minute's.
type Keypad struct {
	key PINKey

	mu    sync.Mutex
	file  *recordFile
	state keypadState
}

type keypadState struct {
	newest uint64 // the newest minute whose PIN was used
	used   byte   // bit i: the PIN of minute newest-i was used
	wrong  byte   // wrong tries in a row since the last five, 0 to 4
	fives  byte   // how many fives of wrong tries in a row came before them, at most 255
	paused int64  // when the wait after the last wrong try began, Unix seconds; 0: none
}

const (
	keypadMagic  = "latchkey keypad1"
	keypadSlot   = 32
	keypadRecord = 8 + 1 + 1 + 1 + 8
	keypadSlack  = 1024
)

// Pause is the error of a try that came within the wait. It wraps Paused.
type Pause struct {
	Until time.Time // from when on a PIN is compared again, by the keypad's clock
}

func (p Pause) Error() string { return Paused.Error() + " until " + p.Until.Format(time.RFC3339) }

// Unwrap makes a Pause a Refusal.
func (p Pause) Unwrap() error { return Paused }

// CreateKeypad makes the memory of a new keypad. It is part of enrolling a door, never of
// starting one: see [CreateReplay].
func CreateKeypad(path string) error { return createRecordFile(path, keypadMagic, keypadSlot) }

// OpenKeypad reads a keypad's memory. Without one the keypad opens nothing. The error is
// ErrPINKey, ErrInUse while another process has the file open, or says what is wrong with it.
func OpenKeypad(path string, key PINKey) (*Keypad, error) {
	if len(key.key) < minPINKey {
		return nil, ErrPINKey
	}
	file, records, err := openRecordFile(path, keypadMagic, keypadSlot)
	if err != nil {
		return nil, err
	}
	k := &Keypad{key: key, file: file}
	if n := len(records); n > 0 {
		b := records[n-1]
		if len(b) != keypadRecord {
			_ = file.Close()
			return nil, fmt.Errorf("door: %s holds a record of a newer version", path)
		}
		k.state = keypadState{
			newest: binary.BigEndian.Uint64(b), used: b[8], wrong: b[9], fives: b[10],
			paused: int64(binary.BigEndian.Uint64(b[11:])),
		}
	}
	return k, nil
}

// Enter tries a PIN. Only when the error is nil may the opener act; the permit id is
// the PIN's (see [PINKey.Permit]). Every other error wraps a Refusal: Malformed (not
// eight digits, not counted), WrongPIN, UsedPIN (not counted), Paused, ClockBehind or
// NoMemory.
func (k *Keypad) Enter(pin string, now time.Time) (PermitID, error) {
	if !isPIN(pin) {
		return PermitID{}, fmt.Errorf("%w: a PIN is eight digits", Malformed)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.rest(now); err != nil {
		return PermitID{}, err
	}
	minute := Minute(now)
	if minute+1 < k.state.newest {
		return PermitID{}, ClockBehind
	}

	matched, fresh, found := false, uint64(0), false
	for m := max(minute, 1) - 1; m <= minute+1; m++ {
		right, err := k.key.PIN(m)
		if err != nil {
			return PermitID{}, err
		}
		if subtle.ConstantTimeCompare([]byte(right), []byte(pin)) == 1 {
			matched = true
			if !k.state.wasUsed(m) {
				fresh, found = m, true
			}
		}
	}
	switch {
	case found:
		id, err := k.key.Permit(fresh)
		if err != nil {
			return PermitID{}, err
		}
		if err := k.store(k.state.use(fresh)); err != nil {
			return PermitID{}, err
		}
		return id, nil
	case matched:
		return PermitID{}, UsedPIN
	}
	if err := k.store(k.state.guessed(now)); err != nil {
		return PermitID{}, err
	}
	return PermitID{}, WrongPIN
}

// tries is how many wrong tries came in a row.
func (s keypadState) tries() int { return freeTries*int(s.fives) + int(s.wrong) }

// guessed is the state after a wrong try.
func (s keypadState) guessed(now time.Time) keypadState {
	if s.paused != 0 && now.Sub(time.Unix(s.paused, 0)) >= triesForget {
		s.wrong, s.fives = 0, 0
	}
	if s.wrong++; s.wrong == freeTries {
		s.wrong = 0
		s.fives += min(1, 255-s.fives)
	}
	s.paused = 0
	if s.wait() > 0 {
		s.paused = now.Unix()
	}
	return s
}

func isPIN(text string) bool {
	return len(text) == pinDigits.Length() && !slices.ContainsFunc([]byte(text), func(b byte) bool { return b < '0' || b > '9' })
}

// rest answers with a Pause while a wrong try has to be waited for.
func (k *Keypad) rest(now time.Time) error {
	if k.state.paused == 0 {
		return nil
	}
	if now.Unix() < k.state.paused { // the clock went back: a wait must not last for years
		next := k.state
		next.paused = now.Unix()
		if err := k.store(next); err != nil {
			return err
		}
	}
	until := time.Unix(k.state.paused, 0).Add(k.state.wait()).UTC()
	if now.Before(until) {
		return Pause{until}
	}
	return nil
}

// wait is how long after the last wrong try the next one must wait.
func (s keypadState) wait() time.Duration {
	switch n := s.tries(); {
	case n < freeTries:
		return 0
	case n < shortTries:
		return shortWait
	}
	return longWait
}

// wasUsed reports whether a minute's PIN was used. What is older than the three
// minutes remembered counts as used.
func (s keypadState) wasUsed(minute uint64) bool {
	switch age := s.newest - minute; {
	case minute > s.newest:
		return false
	case age > 2:
		return true
	default:
		return s.used>>age&1 == 1
	}
}

func (s keypadState) use(minute uint64) keypadState {
	if minute > s.newest {
		if ahead := minute - s.newest; ahead < 3 {
			s.used <<= ahead
		} else {
			s.used = 0
		}
		s.newest = minute
	}
	s.used = (s.used | 1<<(s.newest-minute)) & 0b111
	s.wrong, s.fives, s.paused = 0, 0, 0
	return s
}

func (k *Keypad) store(s keypadState) error {
	b := binary.BigEndian.AppendUint64(nil, s.newest)
	b = append(b, s.used, s.wrong, s.fives)
	b = binary.BigEndian.AppendUint64(b, uint64(s.paused))
	if err := k.file.append(b); err != nil {
		return fmt.Errorf("%w: %w", NoMemory, err)
	}
	k.state = s
	if k.file.slots > keypadSlack {
		_ = k.file.rewrite([][]byte{b}) // a failure leaves the old file, or a broken file that the next try meets
	}
	return nil
}

// Close releases the file.
func (k *Keypad) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file.Close()
}
