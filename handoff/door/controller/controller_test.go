package controller

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff/door"
)

func TestCarried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{takes: time.Second})
		_, permit := r.permit(t, nil)
		wants(t, r.ask("contact closed"), Answer{Result: "ok"})
		begun := time.Now()
		wants(t, r.ask(permit), Answer{Result: "opened"})
		wants(t, time.Since(begun), time.Second) // told when the lock had confirmed, not before
		wants(t, r.ask("contact open"), Answer{Result: "ok"})
		wants(t, r.ask(permit), Answer{Result: "refused", Reason: "replayed"})
		time.Sleep(6 * time.Second) // of the bubble's clock
		synctest.Wait()
		wants(t, r.lock.moved(), "unlock lock")
		wants(t, r.end(), "delivered confirmed opened refused/replayed relocked")
		if _, err := os.Stat(r.folder.path(underWayFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the record of the unlock is still there: %v", err)
		}
		if strings.Contains(r.log.String(), permit) {
			t.Error("the log holds a permit")
		}
	})
}

// What a carried door has to say of a permit it tells a reader that knows the permit's id, and
// goes on telling: a phone's word that it arrived is not the service's.
func TestBundle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{})
		bundle := func(id string) (words string) {
			t.Helper()
			if _, err := io.WriteString(r.lines, "reports "+id+"\n"); err != nil {
				t.Fatal(err)
			}
			line, err := r.out.ReadBytes('\n')
			if err != nil {
				t.Fatal(err)
			}
			var b Bundle
			if err := json.Unmarshal(line, &b); err != nil || b.Reports == nil {
				t.Fatalf("%s: %v", line, err)
			}
			var all [][]byte
			for _, text := range b.Reports {
				all = append(all, raw(t, text))
			}
			words, about := r.read(t, all...)
			for _, p := range about {
				if !p.IsZero() { // an alarm
					wants(t, p.String(), id)
				}
			}
			return words
		}
		first, permit := r.permit(t, nil)
		second, other := r.permit(t, nil)
		wants(t, bundle(first.ID.String()), "")
		wants(t, r.ask(permit), Answer{Result: "opened"})
		wants(t, r.ask("tamper"), Answer{Result: "ok"})
		wants(t, r.ask(other), Answer{Result: "opened"})
		time.Sleep(10 * time.Second) // of the bubble's clock
		synctest.Wait()
		wants(t, r.ask(permit), Answer{Result: "refused", Reason: "replayed"})
		synctest.Wait() // the first request is answered before
		for range 2 {
			wants(t, bundle(first.ID.String()), "delivered confirmed tamper relocked refused/replayed")
		}
		wants(t, bundle(second.ID.String()), "tamper delivered confirmed relocked")
		for _, id := range []string{"", "x", strings.Repeat("0", 31), strings.Repeat("0", 33)} {
			wants(t, r.ask("reports "+id), Answer{Result: "refused", Reason: "malformed"})
		}
		wants(t, bundle(strings.Repeat("0", 32)), "") // tells nothing of what is about no permit
		r.end()
	})
}

// What the registry says of the lock comes with the permit, and holds for that opening.
func TestPermitSaysWhenToRelock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{})
		p, plain := r.permit(t, nil)
		p.ID[0] ^= 1
		p.Relock = 20 * time.Second
		raw, err := r.signer.Permit(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, visit := range []struct {
			permit string
			relock time.Duration
		}{{base64url.EncodeToString(raw), p.Relock}, {plain, DefaultRelock}} {
			before := r.lock.moved()
			wants(t, r.ask(visit.permit), Answer{Result: "opened"})
			time.Sleep(visit.relock - time.Millisecond)
			synctest.Wait()
			wants(t, r.lock.moved(), strings.TrimSpace(before+" unlock"))
			time.Sleep(time.Millisecond)
			synctest.Wait()
			wants(t, r.lock.moved(), strings.TrimSpace(before+" unlock lock"))
		}
		r.end()
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t)
		other := newSite(t)
		_, foreign := other.permit(t, nil)
		_, old := s.permit(t, nil)
		time.Sleep(door.MaxLife + door.Skew)
		p, recalled := s.permit(t, nil)
		recall, err := s.signer.Recall(door.Recall{Door: theDoor, Permit: p.ID, Expires: p.Expires})
		if err != nil {
			t.Fatal(err)
		}
		list, err := door.Revocation{Serial: 1, At: time.Now(), Revoked: []door.KeyID{s.signer.Publish()[0].ID()}}.Sign(s.root)
		if err != nil {
			t.Fatal(err)
		}

		r := s.run(t, &lock{})
		refused := func(why string) Answer { return Answer{Result: "refused", Reason: why} }
		wants(t, r.ask("hello"), refused("malformed"))
		wants(t, r.ask("contact ajar"), refused("malformed"))
		wants(t, r.ask(strings.Repeat("x", 100_000)), refused("malformed"))
		wants(t, r.ask("pin 12345678"), refused("malformed")) // it has no keypad
		wants(t, r.ask("challenge"), Answer{Result: "failed", Reason: "no-presence-asked"})
		wants(t, r.ask(foreign), refused("unknown-key"))
		wants(t, r.ask(old), refused("expired"))
		wants(t, r.ask("recall "+base64url.EncodeToString(recall)), Answer{Result: "ok"})
		wants(t, r.ask(recalled), refused("recalled"))
		wants(t, r.ask("revocation "+base64url.EncodeToString(list)), Answer{Result: "ok"})
		_, stolen := s.permit(t, nil)
		wants(t, r.ask(stolen), refused("revoked-key"))
		wants(t, r.lock.moved(), "")
		wants(t, without(r.end(), "refused/malformed"), "refused/unknown-key refused/expired refused/recalled refused/revoked-key")
	})
}

func TestPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t, func(e *Enrollment) { e.Presence = true }).run(t, &lock{})
		_, absent := r.permit(t, nil)
		wants(t, r.ask(absent), Answer{Result: "refused", Reason: "challenge-mismatch"})
		shown, err := base64url.DecodeString(r.ask("challenge").Challenge)
		if err != nil {
			t.Fatal(err)
		}
		_, present := r.permit(t, shown)
		wants(t, r.ask(present), Answer{Result: "opened"})
		r.end()
		wants(t, r.lock.moved(), "unlock lock")
	})
}

func TestKeypad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key, err := door.NewPINKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r := newSite(t, func(e *Enrollment) { e.Keypad = key }).run(t, &lock{})
		pin, err := key.PIN(door.Minute(time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		wrong := "00000000"
		if pin == wrong {
			wrong = "00000001"
		}
		wants(t, r.ask("pin "+wrong), Answer{Result: "refused", Reason: "wrong-pin"})
		wants(t, r.ask("pin "+pin), Answer{Result: "opened"})
		wants(t, r.ask("pin "+pin), Answer{Result: "refused", Reason: "used-pin"})
		said := r.end()
		wants(t, said, "refused/wrong-pin delivered confirmed refused/used-pin relocked")
		if strings.Contains(r.log.String(), pin) || strings.Contains(r.log.String(), wrong) {
			t.Error("the log holds a PIN")
		}
	})
}

func TestTheLockFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := &lock{fails: func(move string) error {
			if move == "unlock" {
				return errors.New("jammed")
			}
			return nil
		}}
		r := newSite(t).run(t, l)
		_, permit := r.permit(t, nil)
		wants(t, r.ask(permit), Answer{Result: "failed", Reason: "not-confirmed"})
		wants(t, r.end(), "delivered failed")
		wants(t, l.moved(), "unlock lock")
	})
}

func TestTheLockHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{takes: time.Hour})
		_, permit := r.permit(t, nil)
		begun := time.Now()
		wants(t, r.ask(permit), Answer{Result: "failed", Reason: "not-confirmed"})
		wants(t, time.Since(begun), DefaultPatience)
		_ = r.lines.Close()
		r.stop()
		// It hangs when it is locked too. The controller ends, says so, and leaves the record.
		if err := <-r.ended; !errors.Is(err, errStillUnlocked) {
			t.Errorf("ended with %v", err)
		}
		wants(t, r.said(t, r.folder), "delivered failed")
		if _, moved, err := r.folder.unlocksInForce(); !moved || err != nil {
			t.Errorf("forgotten: %v %v", moved, err)
		}
	})
}

// A stop in the middle of an unlock answers the request, and locks first.
func TestStopLocksFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{takes: 2 * time.Second})
		_, permit := r.permit(t, nil)
		go func() {
			time.Sleep(time.Second)
			r.stop()
		}()
		wants(t, r.ask(permit), Answer{Result: "opened"})
		wants(t, r.end(), "delivered confirmed relocked")
		wants(t, r.lock.moved(), "unlock lock")
	})
}

// The end of the lines is the end of a controller that has nothing else.
func TestEndOfLines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{})
		_, permit := r.permit(t, nil)
		wants(t, r.ask(permit), Answer{Result: "opened"})
		_ = r.lines.Close()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		wants(t, r.said(t, r.folder), "delivered confirmed relocked")
	})
}

// If the disk takes no record, the lock does not move.
func TestNoRecordNoUnlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{})
		_, permit := r.permit(t, nil)
		// A folder where the temporary file belongs makes every writing of the record fail.
		if err := os.Mkdir(r.folder.path(underWayFile)+".new", 0o700); err != nil {
			t.Fatal(err)
		}
		wants(t, r.ask(permit), Answer{Result: "failed", Reason: "not-confirmed"})
		wants(t, r.end(), "delivered failed")
		wants(t, r.lock.moved(), "lock")
	})
}

// A recall overtakes the permits that wait while the lock moves.
func TestRecallOvertakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t)
		l := &lock{takes: 3 * time.Second}
		r := s.run(t, l)
		c, err := New(Config{Folder: r.folder, Opener: l, Lines: strings.NewReader(""), Answers: r.log, Clock: now{}, Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		_ = r.lines.Close() // this test speaks to the parts of c
		<-r.ended
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.loop(ctx) }()

		_, first := s.permit(t, nil)
		p, second := s.permit(t, nil)
		recall, err := s.signer.Recall(door.Recall{Door: theDoor, Permit: p.ID, Expires: p.Expires})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []event{{"permit", raw(t, first)}, {"permit", raw(t, second)}, {"recall", recall}} {
			c.hear(e, func() {})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		wants(t, s.said(t, r.folder), "delivered confirmed refused/recalled relocked")
	})
}

func TestNothingIsUnlockedTwiceAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t)
		r := s.run(t, &lock{})
		_, permit := s.permit(t, nil)
		wants(t, r.ask(permit), Answer{Result: "opened"})
		r.end()
		r = s.run(t, &lock{})
		wants(t, r.ask(permit), Answer{Result: "refused", Reason: "replayed"})
		r.end()
		wants(t, r.lock.moved(), "")
	})
}

// What a controller finds that was cut off in the middle of an unlock.
func TestCutOff(t *testing.T) {
	tests := []struct{ name, record, said, moves string }{
		{"before the lock answered", `{"unlocks":[{"permit":"0a000000000000000000000000000000","stage":"delivered"}]}`, "failed", "lock"},
		{"while unlocked", `{"unlocks":[{"permit":"0a000000000000000000000000000000","stage":"confirmed"}]}`, "relocked", "lock"},
		{"a record that cannot be read", `{"unl`, "", "lock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t)
				f := s.open(t)
				if err := writeFile(f.path(underWayFile), []byte(tt.record)); err != nil {
					t.Fatal(err)
				}
				_ = f.Close()
				r := s.run(t, &lock{})
				synctest.Wait()
				wants(t, r.end(), tt.said)
				wants(t, r.lock.moved(), tt.moves)
			})
		})
	}
}

func TestForcedHeldOpenTamper(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newSite(t).run(t, &lock{})
		r.ask("contact closed")
		r.ask("contact open")
		r.ask("tamper")
		time.Sleep(DefaultHeldOpen + time.Second)
		wants(t, r.end(), "forced tamper held-open")
	})
}

func raw(t testing.TB, permit string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(permit)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
