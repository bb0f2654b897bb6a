package door

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every target starts from the messages of seeds, which plain `go test` runs too. The
// targets also sign the bytes as claims, so that the fuzzer gets past the signature.

func FuzzPermit(f *testing.F) {
	addSeeds(f, "FuzzPermit")
	door := newStation(f, theDoor, false)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, message := range [][]byte{raw, asClaims(t, signer.current, raw, bound(permitPurpose, theDoor, []byte{}))} {
			p, err := door.verifier.check(message, noon)
			if err != nil {
				mustBeRefusal(t, err)
				continue
			}
			if again, err := signer.Permit(p); err != nil || !bytes.Equal(again, message) {
				t.Errorf("admits %x, which is not the permit's one encoding (%v)", message, err)
			}
		}
	})
}

func FuzzRecall(f *testing.F) {
	addSeeds(f, "FuzzRecall")
	door := newStation(f, theDoor, false)
	door.replay.file.sync = func(*os.File) error { return nil }
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, message := range [][]byte{raw, asClaims(t, signer.current, raw, bound(recallPurpose, theDoor))} {
			r, err := door.verifier.Recall(message, noon)
			if err != nil {
				mustBeRefusal(t, err)
				continue
			}
			if again, err := signer.Recall(r); err != nil || !bytes.Equal(again, message) {
				t.Errorf("accepts %x, which is not the recall's one encoding (%v)", message, err)
			}
		}
	})
}

func FuzzReport(f *testing.F) {
	addSeeds(f, "FuzzReport")
	v := ReportVerifier{Door: theDoor, Key: doorKey.Public()}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, message := range [][]byte{raw, asClaims(t, doorKey, raw, bound(reportPurpose, theDoor))} {
			r, err := v.Verify(message)
			if err != nil {
				mustBeRefusal(t, err)
				continue
			}
			if again, err := r.Sign(doorKey); err != nil || !bytes.Equal(again, message) {
				t.Errorf("accepts %x, which is not the report's one encoding (%v)", message, err)
			}
		}
	})
}

func FuzzRevocation(f *testing.F) {
	addSeeds(f, "FuzzRevocation")
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, message := range [][]byte{raw, asClaims(t, root, raw, bound(revocationPurpose))} {
			r, err := ParseRevocation(message, root.Public())
			if err != nil {
				mustBeRefusal(t, err)
				continue
			}
			if again, err := r.Sign(root); err != nil || !bytes.Equal(again, message) {
				t.Errorf("accepts %x, which is not the list's one encoding (%v)", message, err)
			}
		}
	})
}

// FuzzRecordFile reads whatever a disk can hold: what is read once is read again, and the
// file that is left is whole.
func FuzzRecordFile(f *testing.F) {
	addSeeds(f, "FuzzRecordFile")
	path := filepath.Join(f.TempDir(), "replay")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReplay(path)
		if err != nil {
			return
		}
		_ = r.Close()
		left := check(os.ReadFile(path))(t)
		if (len(left)-magicSize)%replaySlot != 0 || !bytes.HasPrefix(content, left) || len(content)-len(left) > replaySlot {
			t.Errorf("left %d of %d bytes", len(left), len(content))
		}
		again := check(OpenReplay(path))(t)
		if again.horizon != r.horizon || len(again.seen) != len(r.seen) {
			t.Errorf("read %d permits, then %d", len(r.seen), len(again.seen))
		}
		_ = again.Close()
	})
}

// asClaims signs bytes that may be no claims at all.
func asClaims(t testing.TB, key PrivateKey, payload, aad []byte) []byte {
	if len(payload) > 2*maxRevocation {
		return payload
	}
	kid := key.Public().ID()
	return forgery{
		protected: append([]byte{0xa2, 0x01, 0x27, 0x04, 0x48}, kid[:]...), unprotected: []byte{0xa0},
		payload: payload, aad: aad, key: key,
	}.bytes(t)
}

func mustBeRefusal(t testing.TB, err error) {
	t.Helper()
	var rule Refusal
	if !errors.As(err, &rule) || rule.String() == "" {
		t.Errorf("an error without a rule: %v", err)
	}
}

// cborItems are CBOR items of every major type, well formed and not (RFC 8949).
var cborItems = map[string]string{
	"an integer": "0a", "a negative integer": "29", "the largest integer": "1bffffffffffffffff", "the least integer": "3bffffffffffffffff",
	"text": "6161", "text that is no UTF-8": "61ff", "bytes": "4101", "bytes of no known length": "5f4101ff", "bytes cut short": "42ff",
	"an array": "8101", "an array of no known length": "9f01ff", "a giant array": "9bffffffffffffffff", "a map": "a10101",
	"a map with a text key": "a1616101", "a map with a map as key": "a1a001", "a map of no known length": "bf0101ff", "a map less a value": "bf01ff",
	"a tag": "c101", "a big integer": "c24101", "a big integer of text": "c26101", "a tag less its content": "d8ff",
	"false": "f4", "null": "f6", "undefined": "f7", "a simple value": "f820", "a simple value in two bytes": "f800",
	"a half float": "f93c00", "a half float that is no number": "f97e00", "a float": "fa3f800000", "a double": "fb3ff0000000000000",
	"a break alone": "ff", "a reserved length": "1c", "nested too deep": "8181818181818101",
}

// coseHeaders are a label and a value each.
var coseHeaders = map[string]string{
	"crit": "0281182a", "crit as text": "0261" + "61", "crit of nothing": "0280", "crit of a label as bytes": "02814101",
	"content type": "0363612f62", "content type without a slash": "036161", "content type of nothing": "0360",
	"content type with a space": "036420612f62", "content type as a negative integer": "0320",
	"key id as an integer": "0401", "IV": "054101", "IV as text": "056161", "partial IV": "064101", "partial IV as text": "066161",
	"countersignature": "078343a10126a04101", "countersignature as an integer": "0701", "countersignatures": "07818343a10126a04101",
	"countersignature0": "094101", "countersignature0 as text": "096161", "countersignature v2": "0b8343a10126a04101",
	"countersignature v2 as an integer": "0b01", "countersignature0 v2": "0c4101", "countersignature0 v2 as text": "0c6161",
	"type": "1063612f62", "type without a slash": "106161", "type of nothing": "1060", "type with a space": "106420612f62",
	"type as a negative integer": "1020", "a text label": "616101", "a bytes label": "410101",
}

// addSeeds gives a target its messages, in the order of their names.
func addSeeds(f *testing.F, target string) {
	messages := seeds(f)[target]
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		f.Add(messages[name])
	}
}

// seeds are the messages that each target starts from, by target and by the reason for
// the message. They are made anew by every run, so that they are always of today's format.
func seeds(t testing.TB) map[string]map[string][]byte {
	all := map[string]map[string][]byte{"FuzzPermit": {}, "FuzzRecall": {}, "FuzzReport": {}, "FuzzRevocation": {}, "FuzzRecordFile": {}}
	for name, r := range rejected(t) {
		if len(r.raw) <= 1024 { // the giants have their place in TestRejections
			all["FuzzPermit"][name] = r.raw
		}
	}
	claimsOf := func(raw []byte) []byte { return check(parse(raw, maxRevocation))(t).msg.Payload }
	add := func(target, name string, raw []byte) {
		all[target][name] = raw
		all[target][name+" claims"] = claimsOf(raw)
		all[target][name+" and a byte"] = append(bytes.Clone(raw), 0)
		all[target][name+" less a byte"] = raw[:len(raw)-1]
		all[target][name+" flipped"] = flip(raw, len(raw)*4)
	}
	p := newPermit(t, "seed", theDoor, nil, noon)
	add("FuzzPermit", "good", signed(t, signer, p))
	p.Challenge = make([]byte, 16)
	add("FuzzPermit", "bound to a challenge", signed(t, signer, p))
	p.Challenge, p.Relock = nil, MaxRelock
	add("FuzzPermit", "relocks late", signed(t, signer, p))
	add("FuzzRecall", "good", check(signer.Recall(Recall{theDoor, p.ID, p.Expires}))(t))
	add("FuzzRecall", "late", check(signer.Recall(Recall{theDoor, p.ID, p.Expires.AddDate(1, 0, 0)}))(t))
	for _, r := range []Report{reports[2], reports[5], reports[10]} {
		add("FuzzReport", r.State.String(), check(r.Sign(doorKey))(t))
	}
	list := revocation(9, signer.current.Public(), signer.next.Public())
	add("FuzzRevocation", "revoked", check(list.Sign(root))(t))
	list.Trusted = []PublicKey{foreignSigner.current.Public()}
	add("FuzzRevocation", "revoked and trusted", check(list.Sign(root))(t))
	add("FuzzRevocation", "empty", check(revocation(1).Sign(root))(t))
	for target, key := range map[string]PrivateKey{"FuzzRecall": signer.current, "FuzzReport": doorKey, "FuzzRevocation": root} {
		for _, name := range []string{
			"unknown crit", "an unprotected header", "ES256", "duplicate key id", "an indefinite map",
			"deep", "truncated", "a duplicate claim", "an unknown claim", "a longer form of exp",
		} {
			raw := rejected(t)[name].raw
			id, wrong := key.Public().ID(), signer.current.Public().ID()
			all[target][name] = bytes.ReplaceAll(raw, wrong[:], id[:])
		}
	}

	// Well signed and still no message of this package.
	q := p
	q.Challenge = nil
	withoutSender := genuine(t, q)
	withoutSender.aad = bound(recallPurpose, theDoor)
	for name, payload := range map[string]string{
		"names no permit":       "a2041a6b057c7c3a000100008150" + strings.Repeat("00", 16),
		"a permit id too short": "a2041a6b057c7c3a00010000814101",
	} {
		withoutSender.payload = unhex(payload)
		all["FuzzRecall"][name] = withoutSender.bytes(t)
	}
	all["FuzzRecall"]["from another service"] = check(foreignSigner.Recall(Recall{theDoor, p.ID, p.Expires}))(t)
	all["FuzzReport"]["from another door's key"] = check(reports[2].Sign(root))(t)
	for name, own := range map[string]reportOwn{
		"a permit id too short":    {Seq: 1, State: Opened, Permit: []byte{1}},
		"forced, about a permit":   {Seq: 1, State: Forced, Permit: p.ID[:]},
		"refused without a reason": {Seq: 1, State: Refused},
		"a state without a name":   {Seq: 1, State: 99},
		"no number":                {State: Tamper},
	} {
		claims := &reportClaims{IssuedAt: uint32(noon.Unix()), Own: own}
		all["FuzzReport"][name] = check(sign(doorKey, claims, bound(reportPurpose, theDoor)))(t)
	}
	for name, own := range map[string]revocationOwn{
		"no serial":            {Revoked: []KeyID{}, Trusted: []PublicKey{}},
		"an empty trusted key": {Serial: 1, Trusted: []PublicKey{{}}},
		"too many trusted":     {Serial: 1, Trusted: slices.Repeat([]PublicKey{root.Public()}, maxTrusted+1)},
	} {
		claims := &revocationClaims{IssuedAt: uint32(noon.Unix()), Own: own}
		all["FuzzRevocation"][name] = check(sign(root, claims, bound(revocationPurpose)))(t)
	}
	all["FuzzRevocation"]["signed by no root key"] = check(revocation(1).Sign(foreignSigner.current))(t)
	// Every kind of CBOR item where claims are expected: the targets sign these.
	for name, item := range cborItems {
		for _, target := range []string{"FuzzPermit", "FuzzRecall", "FuzzReport", "FuzzRevocation"} {
			all[target]["claims are "+name] = unhex(item)
			all[target]["a claim is "+name] = unhex("a107" + item)
			all[target]["our claim holds "+name] = unhex("a13a0001000081" + item)
		}
	}
	for name, item := range cborItems {
		all["FuzzPermit"]["the message is "+name] = unhex(item)
		f := genuine(t, q)
		f.unprotected = unhex("a11863" + item)
		all["FuzzPermit"]["a header is "+name] = f.bytes(t)
		f = genuine(t, q)
		f.protected = slices.Concat(unhex("a301270448"), f.protected[5:], unhex("1863"+item))
		all["FuzzPermit"]["a protected header is "+name] = f.bytes(t)
	}
	// Every header that RFC 9052 section 3.1 gives a type to, of its type and of another:
	// go-cose checks these before this package sees the message.
	for name, header := range coseHeaders {
		f := genuine(t, q)
		f.unprotected = unhex("a1" + header)
		all["FuzzPermit"]["unprotected "+name] = f.bytes(t)
		f = genuine(t, q)
		f.protected = slices.Concat(unhex("a301270448"), f.protected[5:], unhex(header))
		all["FuzzPermit"]["protected "+name] = f.bytes(t)
	}

	whole := []byte(replayMagic)
	whole = append(whole, check(frame(record(seenHorizon, PermitID{}, 9, 1<<32-1), replaySlot))(t)...)
	whole = append(whole, check(frame(record(seenSpent, p.ID, 7, 70), replaySlot))(t)...)
	whole = append(whole, check(frame(record(seenRecalled, PermitID{1}, 0, 70), replaySlot))(t)...)
	all["FuzzRecordFile"] = map[string][]byte{
		"whole": whole, "torn": whole[:len(whole)-9], "zeros": append(bytes.Clone(whole), make([]byte, replaySlot)...),
		"damaged": flip(whole, 8*(magicSize+3)), "last damaged": flip(whole, 8*len(whole)-1),
		"empty": []byte(replayMagic), "foreign": []byte(keypadMagic), "short": whole[:5],
		"a newer kind": append([]byte(replayMagic), check(frame([]byte{9}, replaySlot))(t)...),
	}
	return all
}

func BenchmarkPermitSign(b *testing.B) {
	for name, challenge := range map[string][]byte{"plain": nil, "challenge": make([]byte, challengeSize)} {
		b.Run(name, func(b *testing.B) {
			p := newPermit(b, "bench", theDoor, challenge, noon)
			var raw []byte
			for b.Loop() {
				raw = signed(b, signer, p)
			}
			b.ReportMetric(float64(len(raw)), "bytes/permit")
		})
	}
}

// BenchmarkPermitVerify is a door's whole decision but for its memory of used permits.
func BenchmarkPermitVerify(b *testing.B) {
	for _, presence := range []bool{false, true} {
		b.Run(fmt.Sprintf("presence=%v", presence), func(b *testing.B) {
			door := newStation(b, theDoor, presence)
			var challenge []byte
			if presence {
				challenge = check(door.challenges.Next(noon))(b)
			}
			raw := signed(b, signer, newPermit(b, "bench", theDoor, challenge, noon))
			for b.Loop() {
				if _, err := door.verifier.check(raw, noon); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "permits/s")
		})
	}
}

// BenchmarkAdmit is the decision with the memory, and the fsync that makes a use final.
func BenchmarkAdmit(b *testing.B) {
	door := newStation(b, theDoor, false)
	now := noon
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		now = now.Add(MaxLife)
		raw := signed(b, signer, newPermit(b, fmt.Sprint(i), theDoor, nil, now))
		b.StartTimer()
		if _, err := door.verifier.Admit(raw, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "permits/s")
}

func BenchmarkReportVerify(b *testing.B) {
	v := ReportVerifier{Door: theDoor, Key: doorKey.Public()}
	raw := check(reports[2].Sign(doorKey))(b)
	for b.Loop() {
		if _, err := v.Verify(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// A public key or a permit's id that is read has one spelling.
func FuzzSpelling(f *testing.F) {
	key := PublicKey{1}.String()
	f.Add(key)
	f.Add(key[:20] + "\n" + key[20:])
	f.Add(PermitID{1}.String())
	f.Add(strings.ToUpper(PermitID{15: 0xaf}.String()))
	f.Fuzz(func(t *testing.T, text string) {
		var k PublicKey
		if err := k.UnmarshalText([]byte(text)); err == nil && k.String() != text {
			t.Errorf("%q is read as %s", text, k)
		}
		var id PermitID
		if err := id.UnmarshalText([]byte(text)); err == nil && id.String() != text {
			t.Errorf("%q is read as %s", text, id)
		}
	})
}
