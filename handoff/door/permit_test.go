package door

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"latchkey/handoff"
)

func TestActsAreTheDomains(t *testing.T) {
	if uint8(Open) != uint8(handoff.Open) {
		t.Errorf("Open is %d here and %d in the domain", Open, handoff.Open)
	}
}

// The worst case of every field at once stays within the limit, and no field's
// length moves it but the presence of a challenge and the size of the relock delay.
func TestPermitSize(t *testing.T) {
	for _, tt := range []struct {
		name, door string
		challenge  []byte
		relock     time.Duration
		want       int
	}{
		{"all fields at their longest", longest64, bytes.Repeat([]byte{0xff}, maxChallenge), MaxRelock, MaxPermit},
		{"short id, short challenge", "d", make([]byte, minChallenge), time.Second, 143},
		{"no challenge", longest64, nil, MaxRelock, 140},
		{"no challenge, no relock delay", longest64, nil, 0, 139},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Permit{
				Door: tt.door, Act: Open, Challenge: tt.challenge, Relock: tt.relock,
				NotBefore: time.Unix(math.MaxUint32-60, 0), Expires: time.Unix(math.MaxUint32, 0),
			}
			for i := range p.ID {
				p.ID[i] = 0xff
			}
			for i := range p.Grant {
				p.Grant[i] = 0xff
			}
			if n := len(signed(t, signer, p)); n != tt.want || n > MaxPermit {
				t.Errorf("%d bytes, want %d", n, tt.want)
			}
		})
	}
}

func TestAdmit(t *testing.T) {
	door := newStation(t, theDoor, false)
	p := newPermit(t, "admit", theDoor, nil, noon)
	got, err := door.verifier.Admit(signed(t, signer, p), noon.Add(time.Second))
	wants(t, err, 0)
	if got.ID != p.ID || got.Grant != theGrant || got.Door != theDoor || !got.Expires.Equal(noon.Add(MaxLife)) {
		t.Errorf("%+v", got)
	}
	got, err = door.verifier.Admit(signed(t, signer, p), noon.Add(2*time.Second))
	wants(t, err, Replayed)
	if got.ID != p.ID {
		t.Error("a refusal after the signature held must name the permit")
	}
	door.restart(t)
	_, err = door.verifier.Admit(signed(t, signer, p), noon.Add(3*time.Second))
	wants(t, err, Replayed)
}

// The two keys that are published both open, before and after a rotation.
// What the registry says of the lock is signed with all the rest, and reaches the door.
func TestRelock(t *testing.T) {
	door := newStation(t, theDoor, false)
	for _, seconds := range []int{0, 1, 23, 24, 120} {
		p := newPermit(t, fmt.Sprint("relock ", seconds), theDoor, nil, noon)
		p.Relock = time.Duration(seconds) * time.Second
		if got, err := door.verifier.Admit(signed(t, signer, p), noon); err != nil || got.Relock != p.Relock {
			t.Errorf("relock after %s is read as %s (%v)", p.Relock, got.Relock, err)
		}
	}
}

func TestAdmitWithEitherPublishedKey(t *testing.T) {
	door := newStation(t, theDoor, false)
	rotated := check(signer.Rotate())(t)
	for i, s := range []*Signer{signer, rotated} {
		_, err := door.verifier.Admit(signed(t, s, newPermit(t, string(rune('a'+i)), theDoor, nil, noon)), noon)
		wants(t, err, 0)
	}
}

func TestTimes(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   time.Duration // since NotBefore
		want Refusal
	}{
		{"a door that is too slow", -Skew - 1, NotYet},
		{"a door as slow as may be", -Skew, 0},
		{"the last instant", MaxLife + Skew - 1, 0},
		{"the first instant after it", MaxLife + Skew, Expired},
		{"a day later", 24 * time.Hour, Expired},
		{"no clock", -noon.Sub(time.Unix(0, 0)), NotYet},
	} {
		t.Run(tt.name, func(t *testing.T) {
			door := newStation(t, theDoor, false)
			_, err := door.verifier.Admit(signed(t, signer, newPermit(t, tt.name, theDoor, nil, noon)), noon.Add(tt.at))
			wants(t, err, tt.want)
		})
	}
}

func TestPresence(t *testing.T) {
	door := newStation(t, theDoor, true)
	show := func(at time.Time) []byte { return check(door.challenges.Next(at))(t) }
	first := show(noon)
	admit := func(name string, challenge []byte, at time.Time) error {
		_, err := door.verifier.Admit(signed(t, signer, newPermit(t, name, theDoor, challenge, at)), at)
		return err
	}
	wants(t, admit("no challenge", nil, noon), ChallengeMismatch)
	wants(t, admit("a made-up one", make([]byte, 16), noon), ChallengeMismatch)

	second := show(noon.Add(10 * time.Second))
	wants(t, admit("the one before is still good", first, noon.Add(11*time.Second)), 0)
	wants(t, admit("once", first, noon.Add(12*time.Second)), ChallengeMismatch)
	wants(t, admit("the newest", second, noon.Add(13*time.Second)), 0)

	third := show(noon)
	wants(t, admit("shown too long ago", third, noon.Add(challengeLife)), ChallengeMismatch)
	wants(t, admit("shown in the future", third, noon.Add(-time.Second)), ChallengeMismatch)
	fourth := show(noon)
	for range maxShown {
		show(noon)
	}
	wants(t, admit("pushed out by newer ones", fourth, noon), ChallengeMismatch)

	fifth := show(noon)
	door.restart(t)
	wants(t, admit("shown before a restart", fifth, noon.Add(20*time.Second)), ChallengeMismatch)

	plain := newStation(t, theDoor, false)
	_, err := plain.verifier.Admit(signed(t, signer, newPermit(t, "bound", theDoor, fifth, noon)), noon)
	wants(t, err, ChallengeMismatch)
}

// The four bytes that hint at the challenge prove nothing: a challenge with the same
// hint and other bytes does not open.
func TestChallengeHintProvesNothing(t *testing.T) {
	door := newStation(t, theDoor, true)
	shown := check(door.challenges.Next(noon))(t)
	p := newPermit(t, "hint", theDoor, make([]byte, 16), noon)
	claims := check(p.claims())(t)
	hint := tagOf(shown)
	claims.Own.Challenge = hint[:]
	_, err := door.verifier.Admit(check(sign(signer.current, claims, p.bound()))(t), noon)
	wants(t, err, BadSignature)
}

func TestDoorHintProvesNothing(t *testing.T) {
	door := newStation(t, theDoor, false)
	p := newPermit(t, "hint", "another_door", nil, noon)
	claims := check(p.claims())(t)
	claims.Own.Door = tagOf([]byte(theDoor))
	_, err := door.verifier.Admit(check(sign(signer.current, claims, p.bound()))(t), noon)
	wants(t, err, BadSignature)
}

// forgery is a message whose every part can be wrong, signed all the same.
type forgery struct {
	protected   []byte // the content of the byte string
	unprotected []byte
	payload     []byte
	aad         []byte
	signature   []byte // in the place of the real one
	key         PrivateKey
}

func genuine(t testing.TB, p Permit) forgery {
	t.Helper()
	kid := signer.current.Public().ID()
	return forgery{
		protected:   append([]byte{0xa2, 0x01, 0x27, 0x04, 0x48}, kid[:]...),
		unprotected: []byte{0xa0},
		payload:     check(encMode.Marshal(check(p.claims())(t)))(t),
		aad:         p.bound(),
		key:         signer.current,
	}
}

func (f forgery) bytes(t testing.TB) []byte {
	t.Helper()
	toBeSigned := check(cbor.Marshal([]any{"Signature1", f.protected, f.aad, f.payload}))(t) // RFC 9052 section 4.4
	if f.signature == nil {
		f.signature = ed25519.Sign(f.key.ed25519, toBeSigned)
	}
	raw := []byte{0xd2, 0x84} // tag 18, an array of four; by hand, because the unprotected part may be no CBOR at all
	for _, part := range [][]byte{check(cbor.Marshal(f.protected))(t), f.unprotected, check(cbor.Marshal(f.payload))(t), check(cbor.Marshal(f.signature))(t)} {
		raw = append(raw, part...)
	}
	return raw
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// rejected are messages that no door obeys, by the rule that stops them. Wherever it
// can be, the signature over them is good, so that the rule alone stands in the way.
func rejected(t testing.TB) map[string]struct {
	raw  []byte
	want Refusal
} {
	t.Helper()
	type rejection = struct {
		raw  []byte
		want Refusal
	}
	all := make(map[string]rejection)
	p := newPermit(t, "rejected", theDoor, nil, noon)
	good := signed(t, signer, p)
	kid := signer.current.Public().ID()
	add := func(name string, want Refusal, raw []byte) { all[name] = rejection{raw, want} }
	forge := func(name string, want Refusal, change func(*forgery)) {
		f := genuine(t, p)
		change(&f)
		add(name, want, f.bytes(t))
	}
	with := func(name string, want Refusal, change func(*Permit)) {
		q := p
		change(&q)
		c := &permitClaims{
			Expires: uint32(q.Expires.Unix()), NotBefore: uint32(q.NotBefore.Unix()), ID: q.ID,
			Own: permitOwn{Grant: q.Grant, Act: q.Act, Door: tagOf([]byte(q.Door)), Relock: uint8(q.Relock / time.Second)},
		}
		add(name, want, check(sign(signer.current, c, q.bound()))(t))
	}
	payload := func(name string, change func([]byte) []byte) {
		forge(name, Malformed, func(f *forgery) { f.payload = change(f.payload) })
	}
	protected := func(name, before, after string) {
		forge(name, Malformed, func(f *forgery) { f.protected = append(append(unhex(before), kid[:]...), unhex(after)...) })
	}

	// The wrong one, well made.
	with("another door", WrongDoor, func(p *Permit) { p.Door = "door_turm5-garage" })
	with("another act", WrongAct, func(p *Permit) { p.Act = 1 })
	with("no act", WrongAct, func(p *Permit) { p.Act = 0 })
	with("expired", Expired, func(p *Permit) {
		p.NotBefore, p.Expires = p.NotBefore.Add(-time.Hour), p.Expires.Add(-time.Hour)
	})
	with("not yet", NotYet, func(p *Permit) { p.NotBefore, p.Expires = p.NotBefore.Add(time.Hour), p.Expires.Add(time.Hour) })
	with("lives too long", Malformed, func(p *Permit) { p.Expires = p.Expires.Add(time.Second) })
	with("lives no time", Malformed, func(p *Permit) { p.Expires = p.NotBefore })
	with("ends before it begins", Malformed, func(p *Permit) { p.Expires = p.NotBefore.Add(-time.Second) })
	with("begins in 1970", Malformed, func(p *Permit) { p.NotBefore = time.Unix(0, 0) })
	with("no id", Malformed, func(p *Permit) { p.ID = PermitID{} })
	with("relocks too late", Malformed, func(p *Permit) { p.Relock = MaxRelock + time.Second })
	add("a key that the door does not know", UnknownKey, signed(t, foreignSigner, p))
	forge("an unknown key under a known key id", BadSignature, func(f *forgery) { f.key = foreignSigner.current })
	forge("the root key's id", UnknownKey, func(f *forgery) {
		id := root.Public().ID()
		f.protected = append([]byte{0xa2, 0x01, 0x27, 0x04, 0x48}, id[:]...)
		f.key = root
	})
	forge("no signature", BadSignature, func(f *forgery) { f.signature = make([]byte, 64) })
	forge("a short signature", Malformed, func(f *forgery) { f.signature = make([]byte, 63) })
	forge("an empty signature", Malformed, func(f *forgery) { f.signature = []byte{} })
	forge("signed for no purpose", BadSignature, func(f *forgery) { f.aad = nil })
	forge("signed for another purpose", BadSignature, func(f *forgery) { f.aad = bound(reportPurpose, theDoor, []byte{}) })
	forge("signed for a later version", BadSignature, func(f *forgery) { f.aad = bound("latchkey/permit/v2", theDoor, []byte{}) })
	forge("signed for another door", BadSignature, func(f *forgery) { f.aad = bound(permitPurpose, "other", []byte{}) })
	forge("signed for a challenge that it does not mention", BadSignature, func(f *forgery) {
		f.aad = bound(permitPurpose, theDoor, make([]byte, 16))
	})
	forge("a signature that is malleable", BadSignature, func(f *forgery) { f.signature = malleable(good[len(good)-64:]) })
	forge("a challenge's hint alone", ChallengeMismatch, func(f *forgery) {
		c := check(p.claims())(t)
		c.Own.Challenge = []byte{1, 2, 3, 4}
		f.payload = check(encMode.Marshal(c))(t)
	})

	// Other messages of ours.
	report := Report{Door: theDoor, Seq: 1, At: noon, State: Tamper}
	add("a report", Malformed, check(report.Sign(signer.current))(t))
	add("a recall", Malformed, check(signer.Recall(Recall{Door: theDoor, Permit: p.ID, Expires: p.Expires}))(t))
	add("a revocation list", Malformed, check(Revocation{Serial: 1, At: noon}.Sign(root))(t))

	// Headers (trap: go-cose lets an unknown crit pass).
	protected("no algorithm", "a10448", "")
	protected("ES256", "a201260448", "")
	protected("Ed25519 by its own number", "a201320448", "")
	protected("unknown crit", "a40127028118630448", "186301")
	protected("crit for a known header", "a301270281040448", "")
	protected("an unknown header", "a301270448", "186301")
	protected("a content type", "a301270448", "03181e")
	protected("duplicate algorithm", "a3012701270448", "")
	protected("duplicate key id", "a301270441000448", "")
	protected("keys out of order", "a20448", "0127")
	protected("an indefinite map", "bf01270448", "ff")
	protected("a long form of an integer", "a20138070448", "")
	protected("a trailing byte in the headers", "a201270448", "00")
	forge("no headers", Malformed, func(f *forgery) { f.protected = []byte{} })
	forge("no key id", Malformed, func(f *forgery) { f.protected = unhex("a10127") })
	forge("a key id as text", Malformed, func(f *forgery) { f.protected = append(unhex("a201270468"), "abcdefgh"...) })
	forge("a short key id", Malformed, func(f *forgery) { f.protected = append(unhex("a201270447"), kid[:7]...) })
	forge("an empty key id", Malformed, func(f *forgery) { f.protected = unhex("a201270440") })
	forge("the key id unprotected", Malformed, func(f *forgery) {
		f.protected, f.unprotected = unhex("a10127"), append(unhex("a10448"), kid[:]...)
	})
	forge("an unprotected header", Malformed, func(f *forgery) { f.unprotected = unhex("a1186301") })
	forge("unprotected crit", Malformed, func(f *forgery) { f.unprotected = unhex("a102811863") })
	forge("an indefinite unprotected map", Malformed, func(f *forgery) { f.unprotected = unhex("bfff") })
	forge("unprotected null", Malformed, func(f *forgery) { f.unprotected = unhex("f6") })

	// Claims.
	payload("empty claims", func([]byte) []byte { return []byte{} })
	payload("no claims", func([]byte) []byte { return []byte{0xa0} })
	payload("claims that are no map", func([]byte) []byte { return []byte{0x80} })
	payload("a trailing byte in the claims", func(b []byte) []byte { return append(b, 0) })
	payload("truncated claims", func(b []byte) []byte { return b[:len(b)-1] })
	payload("an unknown claim", func(b []byte) []byte { return append(append([]byte{b[0] + 1, 0x01, 0x61, 'x'}, b[1:]...), []byte{}...) })
	payload("a claim left out", func(b []byte) []byte { return append([]byte{b[0] - 1}, b[7:]...) })
	payload("a duplicate claim", func(b []byte) []byte { return append(append([]byte{b[0] + 1}, b[1:7]...), b[1:]...) })
	payload("claims out of order", func(b []byte) []byte {
		return append(append(append([]byte{b[0]}, b[7:13]...), b[1:7]...), b[13:]...)
	})
	payload("an indefinite claims map", func(b []byte) []byte { return append(append([]byte{0xbf}, b[1:]...), 0xff) })
	payload("an indefinite array", func(b []byte) []byte {
		i := bytes.IndexByte(b, 0x85)
		b[i] = 0x9f
		return append(b, 0xff)
	})
	payload("a longer form of exp", func(b []byte) []byte {
		return append(append([]byte{b[0], 0x04, 0x1b, 0, 0, 0, 0}, b[3:7]...), b[7:]...)
	})
	payload("exp as a float", func(b []byte) []byte {
		return append([]byte{b[0], 0x04, 0xfa, 0x4e, 0x80, 0x00, 0x00}, b[7:]...)
	})
	payload("exp as a tagged time", func(b []byte) []byte { return append([]byte{b[0], 0x04, 0xc1}, b[2:]...) })
	payload("exp as null", func(b []byte) []byte { return append([]byte{b[0], 0x04, 0xf6}, b[7:]...) })
	payload("exp below zero", func(b []byte) []byte { b[2] = 0x3a; return b })
	payload("a short id", func(b []byte) []byte { b[14] = 0x4f; return append(b[:30:30], b[31:]...) })
	payload("an id as text", func(b []byte) []byte { b[14] = 0x70; return b })
	payload("an own claim too many", func(b []byte) []byte {
		i := bytes.IndexByte(b, 0x85)
		b[i] = 0x86
		return append(b, 0)
	})
	payload("a hint of null", func(b []byte) []byte { b[len(b)-2] = 0xf6; return b })
	payload("a hint as a list of numbers", func(b []byte) []byte { b[len(b)-2] = 0x80; return b })
	payload("a hint as text", func(b []byte) []byte { b[len(b)-2] = 0x60; return b })
	payload("a hint of three bytes", func(b []byte) []byte { return append(b[:len(b)-2:len(b)-2], 0x43, 1, 2, 3, 0) })
	payload("no relock delay", func(b []byte) []byte {
		i := bytes.IndexByte(b, 0x85)
		b[i] = 0x84
		return b[:len(b)-1]
	})
	payload("a relock delay of null", func(b []byte) []byte { b[len(b)-1] = 0xf6; return b })
	payload("a relock delay below zero", func(b []byte) []byte { b[len(b)-1] = 0x20; return b })
	payload("a relock delay of 256 s", func(b []byte) []byte { return append(b[:len(b)-1:len(b)-1], 0x19, 0x01, 0x00) })
	payload("a longer form of the relock delay", func(b []byte) []byte { return append(b[:len(b)-1:len(b)-1], 0x18, 0x05) })

	// The envelope.
	add("nothing", Malformed, nil)
	add("a trailing byte", Malformed, append(bytes.Clone(good), 0))
	add("twice", Malformed, append(bytes.Clone(good), good...))
	add("truncated", Malformed, good[:len(good)-1])
	add("untagged", Malformed, good[1:])
	add("tagged as a CWT", Malformed, append([]byte{0xd8, 0x3d}, good...))
	add("tagged as COSE_Mac0", Malformed, append([]byte{0xd1}, good[1:]...))
	add("a longer form of the tag", Malformed, append([]byte{0xd8, 0x12}, good[1:]...))
	add("an indefinite array around", Malformed, append(append([]byte{0xd2, 0x9f}, good[2:]...), 0xff))
	add("a longer form of a length", Malformed, append(append([]byte{0xd2, 0x84, 0x58}, good[2]&0x1f), good[3:]...))
	add("a detached payload", Malformed, func() []byte {
		n := 2 + 14 + 1
		return append(append(bytes.Clone(good[:n]), 0xf6), good[len(good)-66:]...)
	}())
	add("giant", Malformed, bytes.Repeat([]byte{0xd2}, 1<<20))
	add("one byte too long", Malformed, make([]byte, MaxPermit+1))
	add("deep", Malformed, bytes.Repeat([]byte{0x81}, MaxPermit))
	return all
}

// malleable adds the group's order to S: the same equation holds, and RFC 8032
// section 5.1.7 asks to refuse it.
func malleable(signature []byte) []byte {
	order := unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	b, carry := bytes.Clone(signature), 0
	for i, o := range order {
		carry += int(b[32+i]) + int(o)
		b[32+i] = byte(carry)
		carry >>= 8
	}
	return b
}

func TestRejections(t *testing.T) {
	// That the forger can also write a permit which is admitted shows that each case
	// below fails for its own fault.
	door := newStation(t, theDoor, false)
	p := newPermit(t, "rejected", theDoor, nil, noon)
	if got := genuine(t, p).bytes(t); !bytes.Equal(got, signed(t, signer, p)) {
		t.Fatalf("the forger writes\n%x, not\n%x", got, signed(t, signer, p))
	}
	for name, tt := range rejected(t) {
		t.Run(name, func(t *testing.T) {
			_, err := door.verifier.Admit(tt.raw, noon)
			wants(t, err, tt.want)
		})
	}
	_, err := door.verifier.Admit(signed(t, signer, p), noon)
	wants(t, err, 0) // none of the above used it up
}

// The library lets an unknown critical header pass; this package must not come to
// rely on it.
func TestGoCoseIgnoresCrit(t *testing.T) {
	p := newPermit(t, "crit", theDoor, nil, noon)
	f := genuine(t, p)
	kid := signer.current.Public().ID()
	f.protected = append(append(unhex("a40127028118630448"), kid[:]...), unhex("186301")...)
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(f.bytes(t)); err != nil {
		t.Fatal(err)
	}
	verifier := check(cose.NewVerifier(cose.AlgorithmEdDSA, f.key.Public().ed25519()))(t)
	if err := msg.Verify(f.aad, verifier); err != nil {
		t.Skip("go-cose refuses it by now: ", err)
	}
	_, err := parse(f.bytes(t), 2*MaxPermit)
	wants(t, err, Malformed)
}

func TestLimit(t *testing.T) {
	raw := signed(t, signer, newPermit(t, "limit", theDoor, nil, noon))
	check(parse(raw, len(raw)))(t)
	_, err := parse(raw, len(raw)-1)
	wants(t, err, Malformed)
}

func TestEverySingleBitCounts(t *testing.T) {
	for _, presence := range []bool{false, true} {
		door := newStation(t, theDoor, presence)
		var challenge []byte
		if presence {
			challenge = check(door.challenges.Next(noon))(t)
		}
		good := signed(t, signer, newPermit(t, "bits", theDoor, challenge, noon))
		for bit := range len(good) * 8 {
			if _, err := door.verifier.Admit(flip(good, bit), noon); err == nil {
				t.Errorf("bit %d of byte %d does not matter", bit%8, bit/8)
			}
		}
		for n := range len(good) {
			if _, err := door.verifier.Admit(good[:n], noon); err == nil {
				t.Errorf("%d bytes suffice", n)
			}
		}
		_, err := door.verifier.Admit(good, noon)
		wants(t, err, 0)
	}
}

func TestSignerRefuses(t *testing.T) {
	for name, change := range map[string]func(*Permit){
		"no door":              func(p *Permit) { p.Door = "" },
		"a long door":          func(p *Permit) { p.Door = longest64 + "d" },
		"a strange door":       func(p *Permit) { p.Door = "lobby\x00" },
		"no id":                func(p *Permit) { p.ID = PermitID{} },
		"a minute and more":    func(p *Permit) { p.Expires = p.Expires.Add(time.Second) },
		"no life":              func(p *Permit) { p.Expires = p.NotBefore },
		"half a second":        func(p *Permit) { p.NotBefore = p.NotBefore.Add(time.Second / 2) },
		"before the epoch":     func(p *Permit) { p.NotBefore, p.Expires = time.Unix(-9, 0), time.Unix(9, 0) },
		"after 2106":           func(p *Permit) { p.NotBefore, p.Expires = time.Unix(1<<32, 0), time.Unix(1<<32+9, 0) },
		"a short challenge":    func(p *Permit) { p.Challenge = make([]byte, minChallenge-1) },
		"a long challenge":     func(p *Permit) { p.Challenge = make([]byte, maxChallenge+1) },
		"an hour unlocked":     func(p *Permit) { p.Relock = time.Hour },
		"unlocked for less":    func(p *Permit) { p.Relock = -time.Second },
		"half a second's lock": func(p *Permit) { p.Relock = time.Second / 2 },
		"to hand a parcel out": func(p *Permit) { p.Act = Act(handoff.Release) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPermit(t, name, theDoor, nil, noon)
			change(&p)
			if raw, err := signer.Permit(p); err == nil {
				t.Errorf("signed: %x", raw)
			}
		})
	}
	if _, err := new(Signer).Permit(newPermit(t, "no key", theDoor, nil, noon)); err == nil {
		t.Error("signed without a key")
	}
}

func TestRecall(t *testing.T) {
	door := newStation(t, theDoor, false)
	used := newPermit(t, "used", theDoor, nil, noon)
	unused := newPermit(t, "unused", theDoor, nil, noon)
	recall := func(s *Signer, r Recall) error {
		_, err := door.verifier.Recall(check(s.Recall(r))(t), noon)
		return err
	}
	admit := func(p Permit) error {
		_, err := door.verifier.Admit(signed(t, signer, p), noon)
		return err
	}
	wants(t, admit(used), 0)
	wants(t, recall(signer, Recall{theDoor, used.ID, used.Expires}), Replayed)
	wants(t, recall(foreignSigner, Recall{theDoor, unused.ID, unused.Expires}), UnknownKey)
	wants(t, recall(signer, Recall{"other", unused.ID, unused.Expires}), BadSignature)
	wants(t, recall(signer, Recall{theDoor, unused.ID, unused.Expires.Add(Skew + time.Second)}), NotYet)
	wants(t, recall(signer, Recall{theDoor, unused.ID, unused.Expires}), 0)
	wants(t, recall(signer, Recall{theDoor, unused.ID, unused.Expires}), 0)
	wants(t, admit(unused), Recalled)
	if err := door.replay.file.rewrite(door.replay.records()); err != nil {
		t.Fatal(err)
	}
	door.restart(t)
	wants(t, admit(unused), Recalled)
	wants(t, admit(used), Replayed)

	raw := check(signer.Recall(Recall{theDoor, used.ID, used.Expires}))(t)
	for bit := range len(raw) * 8 {
		if _, err := door.verifier.Recall(flip(raw, bit), noon); err == nil {
			t.Errorf("bit %d does not matter", bit)
		}
	}
}

// Of many copies that arrive at once one opens, and of many permits for one challenge.
func TestOnceAmongMany(t *testing.T) {
	const couriers = 16
	for _, presence := range []bool{false, true} {
		door := newStation(t, theDoor, presence)
		var challenge []byte
		if presence {
			challenge = check(door.challenges.Next(noon))(t)
		}
		var opened atomic.Int32
		var wg sync.WaitGroup
		for i := range couriers {
			name := "the same"
			if presence {
				name = fmt.Sprint(i)
			}
			raw := signed(t, signer, newPermit(t, name, theDoor, challenge, noon))
			wg.Go(func() {
				if _, err := door.verifier.Admit(raw, noon); err == nil {
					opened.Add(1)
				}
			})
		}
		wg.Wait()
		if n := opened.Load(); n != 1 {
			t.Errorf("presence %t: opened %d times", presence, n)
		}
	}
}

func TestVerifierRefusesHalfADoor(t *testing.T) {
	door := newStation(t, theDoor, false)
	for name, open := range map[string]func() (*Verifier, error){
		"no id":     func() (*Verifier, error) { return NewVerifier("", door.trust, door.replay, nil) },
		"no trust":  func() (*Verifier, error) { return NewVerifier(theDoor, nil, door.replay, nil) },
		"no memory": func() (*Verifier, error) { return NewVerifier(theDoor, door.trust, nil, nil) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s: a verifier", name)
		}
	}
}

func TestIDsAsText(t *testing.T) {
	id := newPermit(t, "text", theDoor, nil, noon).ID
	var again PermitID
	if err := again.UnmarshalText(check(id.MarshalText())(t)); err != nil || again != id {
		t.Errorf("%v: %s, want %s", err, again, id)
	}
	for _, text := range []string{"", "00", strings.ToUpper(id.String()), id.String() + "00", strings.Repeat("g", 32)} {
		if err := again.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a permit id", text)
		}
	}
	public := doorKey.Public()
	var key PublicKey
	if err := key.UnmarshalText(check(public.MarshalText())(t)); err != nil || key != public {
		t.Errorf("%v: %s, want %s", err, key, public)
	}
}

func TestKeyIDs(t *testing.T) {
	// RFC 8037 appendix A.3.
	var k PublicKey
	if err := k.UnmarshalText([]byte("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUR")); err == nil {
		t.Error("a key of 42 characters")
	}
	if err := k.UnmarshalText([]byte("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")); err != nil {
		t.Fatal(err)
	}
	thumbprint := k.thumbprint()
	if got := base64url.EncodeToString(thumbprint[:]); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("thumbprint %s", got)
	}
	if id := k.ID(); !bytes.Equal(id[:], thumbprint[:8]) || sha256.Size != len(thumbprint) {
		t.Errorf("id %s", id)
	}
}

// The service answers a courier at one instant and sends the door the permit of an event,
// which knows the second alone: both are the same bytes.
func TestOpeningGivesTheSameBytes(t *testing.T) {
	o := Opening{ID: PermitID{1}, Door: theDoor, Grant: theGrant, At: noon.Add(999 * time.Millisecond), Challenge: make([]byte, 16), Relock: 9}
	ofEvent := o
	ofEvent.At = noon.In(time.FixedZone("", 3600))
	p := o.Permit()
	if !bytes.Equal(signed(t, signer, p), signed(t, signer, ofEvent.Permit())) {
		t.Error("the courier's permit and the door's differ")
	}
	if want := (Permit{
		ID: PermitID{1}, Door: theDoor, Grant: theGrant, Act: Open, NotBefore: noon, Expires: noon.Add(MaxLife),
		Challenge: o.Challenge, Relock: 9 * time.Second,
	}); !reflect.DeepEqual(p, want) {
		t.Errorf("%+v", p)
	}
	o.Relock = 121
	if _, err := signer.Permit(o.Permit()); !errors.Is(err, Malformed) {
		t.Errorf("a lock that stays unlocked for 121 s: %v", err)
	}
}
