package door

// Refusal is the rule by which a door refuses a message or a PIN. Errors of this package wrap
// one where a rule decided, so that errors.Is finds it. The numbers travel in reports and
// never change their meaning.
type Refusal uint8

// The refusals. UnknownKey, RevokedKey, WrongDoor and ChallengeMismatch are found before the
// signature is verified: they tell what the sender claims, and no more. All others of a
// permit, but for Malformed, are found after it.
const (
	Malformed         Refusal = 1  // not the one encoding that this package writes, or out of its bounds
	UnknownKey        Refusal = 2  // signed by a key that the door does not know
	RevokedKey        Refusal = 3  // signed by a key that the root key revoked
	BadSignature      Refusal = 4  // the signature does not hold for this content, purpose, door and challenge
	WrongDoor         Refusal = 5  // for another door
	WrongAct          Refusal = 6  // allows something else than opening
	NotYet            Refusal = 7  // begins later than the door's clock and its skew
	Expired           Refusal = 8  // ended, the skew included
	ChallengeMismatch Refusal = 9  // not bound to a challenge that this door shows, or bound where none is asked
	Replayed          Refusal = 10 // was used before
	Recalled          Refusal = 11 // was taken back before it was used
	ClockBehind       Refusal = 12 // the door's clock is behind what the service's signatures prove
	NoMemory          Refusal = 13 // the door cannot remember that this was used, so it may not be used
	WrongPIN          Refusal = 14 // not the PIN of this minute or of its neighbors
	UsedPIN           Refusal = 15 // this minute's PIN opened once already
	Paused            Refusal = 16 // too many wrong PINs: the next one has to wait
	OldList           Refusal = 17 // a revocation list that is not newer than the one in force
)

var refusalNames = map[Refusal]string{
	Malformed: "malformed", UnknownKey: "unknown-key", RevokedKey: "revoked-key", BadSignature: "bad-signature",
	WrongDoor: "wrong-door", WrongAct: "wrong-act", NotYet: "not-yet", Expired: "expired",
	ChallengeMismatch: "challenge-mismatch", Replayed: "replayed", Recalled: "recalled", ClockBehind: "clock-behind",
	NoMemory: "no-memory", WrongPIN: "wrong-pin", UsedPIN: "used-pin", Paused: "paused", OldList: "old-list",
}

// String is the refusal in words, as the access log shows it; empty for a number that
// names none.
func (r Refusal) String() string { return refusalNames[r] }

// OfDoor reports whether the refusal is about the door's own state: as long as that lasts,
// the door refuses whatever the service signs.
func (r Refusal) OfDoor() bool {
	switch r {
	case UnknownKey, RevokedKey, ClockBehind, NoMemory:
		return true
	}
	return false
}

// Error makes a refusal an error by itself.
func (r Refusal) Error() string { return "door: refused: " + r.String() }
