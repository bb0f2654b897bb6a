package door

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Verifier decides at the door whether a permit opens it. It needs no network. It may be
// used concurrently; it takes one permit at a time.
type Verifier struct {
	door       string
	trust      *Trust
	replay     *Replay
	challenges *Challenges // nil: no presence is asked

	mu sync.Mutex
}

// NewVerifier puts a door's verifier together. With challenges, only permits that are
// bound to a fresh one open; without (nil), only those that are bound to none.
func NewVerifier(door string, trust *Trust, replay *Replay, challenges *Challenges) (*Verifier, error) {
	if !doorID.MatchString(door) || trust == nil || replay == nil {
		return nil, errors.New("door: a verifier has a door id, trust and a replay memory")
	}
	return &Verifier{door: door, trust: trust, replay: replay, challenges: challenges}, nil
}

// Admit uses up a permit. Only when the error is nil may the opener act; the use, and
// the end of its challenge, are final by then, whether or not the door then moves.
//
// Every error wraps a Refusal. Where the permit's signature held, the permit is returned
// with the error, so that a report can name it; otherwise it is zero.
func (v *Verifier) Admit(raw []byte, now time.Time) (Permit, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, err := v.check(raw, now)
	if err != nil {
		return p, err
	}
	if err := v.replay.spend(&p, now); err != nil {
		return p, err
	}
	if v.challenges != nil {
		v.challenges.use(p.Challenge)
	}
	return p, nil
}

// Claimed is the permit that a message says it is, true or not; zero for none. Nothing of
// it is verified: it is for reporting why a message was refused that came by a way that is
// trusted.
func Claimed(raw []byte) PermitID {
	e, err := parse(raw, MaxPermit)
	if err != nil {
		return PermitID{}
	}
	var claims permitClaims
	if e.claims(&claims) != nil {
		return PermitID{}
	}
	return claims.ID
}

// check is all of Admit that changes nothing.
func (v *Verifier) check(raw []byte, now time.Time) (Permit, error) {
	e, err := parse(raw, MaxPermit)
	if err != nil {
		return Permit{}, err
	}
	var claims permitClaims
	if err := e.claims(&claims); err != nil {
		return Permit{}, err
	}
	if err := claims.check(); err != nil {
		return Permit{}, err
	}
	key, err := v.trust.key(e.kid)
	if err != nil {
		return Permit{}, err
	}
	if claims.Own.Door != tagOf([]byte(v.door)) {
		return Permit{}, WrongDoor
	}
	p, err := v.authentic(e, &claims, key, now)
	if err != nil {
		return Permit{}, err
	}
	switch {
	case p.Act != Open:
		return p, WrongAct
	case now.Add(Skew).Before(p.NotBefore):
		return p, NotYet
	case !now.Before(p.Expires.Add(Skew)):
		return p, Expired
	}
	return p, nil
}

// authentic finds the challenge that the permit says it is bound to, and verifies the
// signature over it and all the rest.
func (v *Verifier) authentic(e *envelope, claims *permitClaims, key PublicKey, now time.Time) (Permit, error) {
	accepted := [][]byte{nil}
	if v.challenges != nil {
		accepted = v.challenges.fresh(now)
	}
	refusal := error(ChallengeMismatch)
	for _, challenge := range accepted {
		var hint []byte
		if challenge != nil {
			t := tagOf(challenge)
			hint = t[:]
		}
		if !bytes.Equal(hint, claims.Own.Challenge) {
			continue
		}
		p, malformed := claims.permit(v.door, challenge)
		if refusal = e.verify(key, p.bound()); refusal == nil {
			return p, malformed
		}
	}
	return Permit{}, refusal
}

// Recall takes a permit back, on a message that the service signed. Every error wraps a
// Refusal. It is Replayed for a permit that was used already: the door has opened, and the
// caller should report that. It is NotYet for a permit that ends later than any can, and
// NoMemory where the disk did not take it.
func (v *Verifier) Recall(raw []byte, now time.Time) (Recall, error) {
	e, err := parse(raw, maxRecall)
	if err != nil {
		return Recall{}, err
	}
	key, err := v.trust.key(e.kid)
	if err != nil {
		return Recall{}, err
	}
	if err := e.verify(key, bound(recallPurpose, v.door)); err != nil {
		return Recall{}, err
	}
	var claims recallClaims
	if err := e.claims(&claims); err != nil {
		return Recall{}, err
	}
	r := Recall{Door: v.door, Permit: claims.Own.Permit, Expires: fromWire(claims.Expires)}
	if _, err := r.claims(); err != nil {
		return Recall{}, err
	}
	if r.Expires.After(now.Add(MaxLife + Skew)) { // no permit that exists ends so late
		return r, NotYet
	}
	return r, v.replay.recall(r.Permit, claims.Expires)
}

// Challenges are random values that a door shows (QR, NFC, BLE) to the person before it. A
// permit that is bound to one proves that it was read there a moment ago. They are kept in
// memory alone: after a restart the door shows new ones. Safe for concurrent use.
type Challenges struct {
	random io.Reader

	mu    sync.Mutex
	shown []shown // oldest first
}

type shown struct {
	challenge []byte
	at        time.Time
}

const (
	challengeSize = 16
	challengeLife = 2 * time.Minute // to read it, to ask for the permit, and MaxLife to bring that
	maxShown      = 4
)

// NewChallenges draws challenges from random, which must be a cryptographic source.
func NewChallenges(random io.Reader) *Challenges { return &Challenges{random: random} }

// Next is a new challenge of 16 bytes. It counts for two minutes, or until a permit has used
// it. The three before it count as well, for couriers who read one of them. The error is
// that of the random source.
func (c *Challenges) Next(now time.Time) ([]byte, error) {
	b := make([]byte, challengeSize)
	if _, err := io.ReadFull(c.random, b); err != nil {
		return nil, fmt.Errorf("door: reading a challenge: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = append(c.shown, shown{b, now})
	if len(c.shown) > maxShown {
		c.shown = slices.Delete(c.shown, 0, len(c.shown)-maxShown)
	}
	return slices.Clone(b), nil
}

// fresh are the challenges that count at now. One is stale too if the clock was set
// back to before it was shown.
func (c *Challenges) fresh(now time.Time) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all [][]byte
	for _, s := range c.shown {
		if age := now.Sub(s.at); age >= 0 && age < challengeLife {
			all = append(all, s.challenge)
		}
	}
	return all
}

func (c *Challenges) use(challenge []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = slices.DeleteFunc(c.shown, func(s shown) bool { return bytes.Equal(s.challenge, challenge) })
}
