package door

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The seeds live in testdata/fuzz, where plain `go test` runs them too. Each is one
// message; the targets also sign the bytes as claims, so that the fuzzer gets past the
// signature.

func FuzzPermit(f *testing.F) {
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

// FuzzJournal reads whatever a disk can hold: what is read once is read again, and the
// file that is left is whole.
func FuzzJournal(f *testing.F) {
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

// seeds are the messages that each target starts from.
func seeds(t testing.TB) map[string]map[string][]byte {
	all := map[string]map[string][]byte{"FuzzPermit": {}, "FuzzRecall": {}, "FuzzReport": {}, "FuzzRevocation": {}, "FuzzJournal": {}}
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
	list.Trusted = []PublicKey{stranger.current.Public()}
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

	whole := []byte(replayMagic)
	whole = append(whole, check(frame(record(seenHorizon, PermitID{}, 9, 1<<32-1), replaySlot))(t)...)
	whole = append(whole, check(frame(record(seenSpent, p.ID, 7, 70), replaySlot))(t)...)
	whole = append(whole, check(frame(record(seenRecalled, PermitID{1}, 0, 70), replaySlot))(t)...)
	all["FuzzJournal"] = map[string][]byte{
		"whole": whole, "torn": whole[:len(whole)-9], "zeros": append(bytes.Clone(whole), make([]byte, replaySlot)...),
		"damaged": flip(whole, 8*(magicSize+3)), "last damaged": flip(whole, 8*len(whole)-1),
		"empty": []byte(replayMagic), "foreign": []byte(keypadMagic), "short": whole[:5],
		"a newer kind": append([]byte(replayMagic), check(frame([]byte{9}, replaySlot))(t)...),
	}
	return all
}

var unsafeInNames = regexp.MustCompile(`[^A-Za-z0-9]+`)

func seedFile(raw []byte) []byte {
	return fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", raw)
}

// The corpus in the tree is the one that the messages of today make; what the fuzzer
// found beside it stays.
func TestSeeds(t *testing.T) {
	for target, messages := range seeds(t) {
		dir := filepath.Join("testdata", "fuzz", target)
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, raw := range messages {
			path := filepath.Join(dir, strings.Trim(unsafeInNames.ReplaceAllString(name, "-"), "-"))
			if *update {
				if err := os.WriteFile(path, seedFile(raw), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := check(os.ReadFile(path))(t); !slices.Equal(got, seedFile(raw)) {
				t.Errorf("%s is of another format: run with -update", path)
			}
		}
	}
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
