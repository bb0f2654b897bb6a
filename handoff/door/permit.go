package door

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"regexp"
	"time"
)

// The limits of a permit.
const (
	MaxPermit = 144              // bytes on the wire
	MaxLife   = 60 * time.Second // from NotBefore to Expires
	Skew      = 30 * time.Second // by which a door's clock may be off, at either end
	MaxRelock = 2 * time.Minute  // that a permit may keep a lock unlocked

	minChallenge, maxChallenge = 8, 32 // bytes
)

// Permit lets one act happen at one door, once, within a minute.
type Permit struct {
	ID    PermitID
	Door  string // the door's id in the registry: 1 to 64 of A-Z a-z 0-9 . _ -
	Grant GrantRef
	Act   Act

	// NotBefore and Expires are whole seconds, at most MaxLife apart. The permit holds
	// from the first instant and no longer at the second.
	NotBefore, Expires time.Time

	// Challenge is what the door showed, 8 to 32 bytes; empty where no presence is asked.
	Challenge []byte

	// Relock is how long the lock stays unlocked for this permit: whole seconds, at most
	// MaxRelock. 0: as long as the door's own setting says.
	Relock time.Duration
}

// Opening is what the service granted, in plain values. The service answers a courier
// from it, and sends the door a permit from the event that tells of it: both must sign the
// same bytes, so both make their permit here.
type Opening struct {
	ID        PermitID
	Door      string // the door's id in the registry
	Grant     GrantRef
	At        time.Time // when it was granted; what is below a second is dropped
	Challenge []byte    // what the courier read at the door, 8 to 32 bytes; empty where no presence is asked
	Relock    int       // seconds that the lock stays unlocked, at most 120; 0: the door's own setting
}

// Permit is the permit to open: it holds from the second of At for MaxLife. Whether its
// values are in their bounds is checked when it is signed.
func (o Opening) Permit() Permit {
	from := time.Unix(o.At.Unix(), 0).UTC()
	return Permit{
		ID: o.ID, Door: o.Door, Grant: o.Grant, Act: Open, NotBefore: from, Expires: from.Add(MaxLife),
		Challenge: o.Challenge, Relock: time.Duration(o.Relock) * time.Second,
	}
}

// GrantRef ties a permit to its grant: a keyed hash of the grant's id. The service alone
// can find the grant by it.
type GrantRef [8]byte

// String is the reference in hexadecimal.
func (r GrantRef) String() string { return hex.EncodeToString(r[:]) }

// Act is what a permit allows. The numbers are those of the domain's acts.
type Act uint8

// Open is the only act that a door knows.
const Open Act = 3

// NewPermit makes a permit to open a door, valid from now (its second) for MaxLife, with an
// id from random, which must be a cryptographic source. The error is Malformed for a door id
// or a challenge out of its bounds, or that of random.
func NewPermit(random io.Reader, door string, grant GrantRef, challenge []byte, now time.Time) (Permit, error) {
	o := Opening{Door: door, Grant: grant, At: now, Challenge: challenge}
	if _, err := io.ReadFull(random, o.ID[:]); err != nil {
		return Permit{}, fmt.Errorf("door: reading a permit id: %w", err)
	}
	p := o.Permit()
	return p, p.check()
}

var doorID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// check returns Malformed for a permit that may be neither signed nor obeyed. Whether a door
// obeys its act is checked by the verifier.
func (p *Permit) check() error {
	life := p.Expires.Sub(p.NotBefore)
	switch n := len(p.Challenge); {
	case p.ID.IsZero():
		return fmt.Errorf("%w: no permit id", Malformed)
	case !doorID.MatchString(p.Door):
		return fmt.Errorf("%w: door id", Malformed)
	case !onWire(p.NotBefore) || !onWire(p.Expires):
		return fmt.Errorf("%w: times are whole seconds until 2106", Malformed)
	case life <= 0 || life > MaxLife:
		return fmt.Errorf("%w: valid for %s, at most %s", Malformed, life, MaxLife)
	case n != 0 && (n < minChallenge || n > maxChallenge):
		return fmt.Errorf("%w: a challenge of %d bytes", Malformed, n)
	case p.Relock < 0 || p.Relock > MaxRelock || p.Relock%time.Second != 0:
		return fmt.Errorf("%w: to lock again after %s, at most %s", Malformed, p.Relock, MaxRelock)
	}
	return nil
}

func onWire(t time.Time) bool {
	return t.Nanosecond() == 0 && t.Unix() > 0 && t.Unix() <= math.MaxUint32
}

func fromWire(seconds uint32) time.Time { return time.Unix(int64(seconds), 0).UTC() }

// permitClaims is the payload of a permit, a CWT claims set (RFC 8392).
type permitClaims struct {
	Expires   uint32    `cbor:"4,keyasint"`
	NotBefore uint32    `cbor:"5,keyasint"`
	ID        PermitID  `cbor:"7,keyasint"`
	Own       permitOwn `cbor:"-65537,keyasint"`
}

type permitOwn struct {
	_         struct{} `cbor:",toarray"`
	Grant     GrantRef
	Act       Act
	Door      tag
	Challenge []byte // a tag, or empty
	Relock    uint8  // seconds
}

// tag is the first four bytes of the SHA-256 of a door id or a challenge. It is a hint: by
// it a door finds which of its challenges is meant, and can tell "for another door" from
// "forged". It proves nothing; the signature covers the whole id and the whole challenge.
type tag [4]byte

func tagOf(known []byte) (t tag) {
	sum := sha256.Sum256(known)
	copy(t[:], sum[:])
	return t
}

func (p *Permit) claims() (*permitClaims, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Act != Open {
		return nil, WrongAct
	}
	c := &permitClaims{
		Expires: uint32(p.Expires.Unix()), NotBefore: uint32(p.NotBefore.Unix()), ID: p.ID,
		Own: permitOwn{Grant: p.Grant, Act: p.Act, Door: tagOf([]byte(p.Door)), Relock: uint8(p.Relock / time.Second)},
	}
	if len(p.Challenge) > 0 {
		t := tagOf(p.Challenge)
		c.Own.Challenge = t[:]
	}
	return c, nil
}

func (p *Permit) bound() []byte { return bound(permitPurpose, p.Door, p.Challenge) }

// check returns Malformed for claims that decode and are still no permit, of any door and
// any challenge.
func (c *permitClaims) check() error {
	if n := len(c.Own.Challenge); n != 0 && n != len(tag{}) {
		return fmt.Errorf("%w: a hint of %d bytes", Malformed, n)
	}
	return nil
}

// permit is the permit of the claims, for the door and the challenge that the verifier knows.
func (c *permitClaims) permit(door string, challenge []byte) (Permit, error) {
	p := Permit{
		ID: c.ID, Door: door, Grant: c.Own.Grant, Act: c.Own.Act,
		NotBefore: fromWire(c.NotBefore), Expires: fromWire(c.Expires), Challenge: challenge,
		Relock: time.Duration(c.Own.Relock) * time.Second,
	}
	return p, p.check()
}

// Recall takes back a permit that was not used yet. A connected door refuses the permit from
// the moment at which it received the recall; a permit that opened already is not undone.
type Recall struct {
	Door    string
	Permit  PermitID
	Expires time.Time // the permit's own end, whole seconds: the door remembers the recall that long
}

const maxRecall = 144 // bytes on the wire

type recallClaims struct {
	Expires uint32    `cbor:"4,keyasint"`
	Own     recallOwn `cbor:"-65537,keyasint"`
}

type recallOwn struct {
	_      struct{} `cbor:",toarray"`
	Permit PermitID
}

func (r *Recall) claims() (*recallClaims, error) {
	if r.Permit.IsZero() || !doorID.MatchString(r.Door) || !onWire(r.Expires) {
		return nil, fmt.Errorf("%w: recall", Malformed)
	}
	return &recallClaims{Expires: uint32(r.Expires.Unix()), Own: recallOwn{Permit: r.Permit}}, nil
}
