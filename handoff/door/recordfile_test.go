package door

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// disk is what a power cut leaves of a file: its content at the last fsync. It also
// knows when an fsync fails.
type disk struct {
	content []byte
	fails   error
}

func (d *disk) sync(f *os.File) error {
	if d.fails != nil {
		return d.fails
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	d.content = make([]byte, info.Size())
	_, err = f.ReadAt(d.content, 0)
	return err
}

func TestRecordFileRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "replay")
	if _, err := OpenReplay(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing memory: %v", err)
	}
	if err := CreateReplay(path); err != nil {
		t.Fatal(err)
	}
	if err := CreateReplay(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made anew over the old: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	r := check(OpenReplay(path))(t)
	if _, err := OpenReplay(path); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	_ = r.Close()
	if _, err := OpenKeypad(path, pinKey(t)); err == nil {
		t.Error("a replay memory taken for a keypad's")
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReplay(path); err == nil && os.Getuid() != 0 {
		t.Error("opened what it may not read")
	}
}

// The name must point at the file that was locked: a compaction may have moved another
// into its place between the opening and the lock.
func TestLockOfAFileThatWasReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "replay")
	if err := CreateReplay(path); err != nil {
		t.Fatal(err)
	}
	old := check(os.Open(path))(t)
	defer func() { _ = old.Close() }()
	r := check(OpenReplay(path))(t)
	defer func() { _ = r.Close() }()
	if err := r.file.rewrite(r.records()); err != nil {
		t.Fatal(err)
	}
	if err := lock(old, path); !errors.Is(err, ErrInUse) {
		t.Errorf("locked a file without a name: %v", err)
	}
	if _, err := OpenReplay(path); !errors.Is(err, ErrInUse) {
		t.Errorf("the compacted file is not locked: %v", err)
	}
}

// A power cut at any byte of any write: what was acknowledged is remembered, the torn
// record is not, and the door works on.
func TestReplayTornAtEveryByte(t *testing.T) {
	door := newStation(t, theDoor, false)
	var permits []Permit
	for i := range 4 {
		permits = append(permits, newPermit(t, fmt.Sprint("torn", i), theDoor, nil, noon))
		_, err := door.verifier.Admit(signed(t, signer, permits[i]), noon)
		wants(t, err, 0)
	}
	whole := check(os.ReadFile(door.path("replay")))(t)
	for n := range len(whole) + 1 {
		path := filepath.Join(t.TempDir(), "replay")
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReplay(path)
		if n < magicSize {
			if err == nil {
				t.Fatalf("%d bytes: opened a file that was never whole", n)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		for i := range permits {
			want := Refusal(0)
			if acknowledged := magicSize+(i+1)*replaySlot <= n; acknowledged {
				want = Replayed
			}
			wants(t, r.spend(&permits[i], noon), want)
		}
		_ = r.Close()
		r = check(OpenReplay(path))(t)
		for i := range permits {
			wants(t, r.spend(&permits[i], noon), Replayed)
		}
		_ = r.Close()
	}
}

// The last record is dropped whatever its bytes are; damage before it closes the door.
func TestReplayDamage(t *testing.T) {
	door := newStation(t, theDoor, false)
	for i := range 3 {
		_, err := door.verifier.Admit(signed(t, signer, newPermit(t, fmt.Sprint("damage", i), theDoor, nil, noon)), noon)
		wants(t, err, 0)
	}
	whole := check(os.ReadFile(door.path("replay")))(t)
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x40
		path := filepath.Join(t.TempDir(), "replay")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReplay(path)
		if inLast := at >= len(whole)-replaySlot; inLast != (err == nil) {
			t.Errorf("byte %d of %d: %v", at, len(whole), err)
		}
		if err == nil {
			if len(r.seen) != 2 {
				t.Errorf("byte %d: %d permits", at, len(r.seen))
			}
			_ = r.Close()
		}
	}
	zeros := append(bytes.Clone(whole), make([]byte, replaySlot)...) // a size that grew before its bytes
	path := filepath.Join(t.TempDir(), "replay")
	if err := os.WriteFile(path, zeros, 0o600); err != nil {
		t.Fatal(err)
	}
	r := check(OpenReplay(path))(t)
	if len(r.seen) != 3 {
		t.Errorf("%d permits before a record of zeros", len(r.seen))
	}
	_ = r.Close()
}

// Nothing is admitted before it is on the disk: from the content at the last fsync,
// every admitted permit is known, compactions included.
func TestReplayIsOnTheDiskBeforeAdmission(t *testing.T) {
	door := newStation(t, theDoor, false)
	var d disk
	door.replay.file.sync = d.sync
	after := filepath.Join(t.TempDir(), "replay")
	rewritten := 0
	for i := range 3 * replaySlack {
		now := noon.Add(time.Duration(i) * time.Second)
		p := newPermit(t, fmt.Sprint("disk", i), theDoor, nil, now)
		before := door.replay.file.slots
		_, err := door.verifier.Admit(signed(t, signer, p), now)
		wants(t, err, 0)
		if door.replay.file.slots < before {
			rewritten++
		}
		if err := os.WriteFile(after, d.content, 0o600); err != nil {
			t.Fatal(err)
		}
		r := check(OpenReplay(after))(t)
		wants(t, r.spend(&p, now), Replayed)
		if r.horizon != uint32(now.Unix()) {
			t.Fatalf("horizon %d at %d", r.horizon, now.Unix())
		}
		_ = r.Close()
	}
	if rewritten == 0 {
		t.Error("never compacted: this proves less than it says")
	}
	if size := len(d.content); size > (2*100+replaySlack)*replaySlot {
		t.Errorf("%d bytes for ninety seconds of permits", size)
	}
}

// After a failed fsync it is not known what is on the disk, and asking again would be
// answered "done": the door stays closed until it is started anew.
func TestReplayFailsClosed(t *testing.T) {
	door := newStation(t, theDoor, false)
	d := disk{fails: errors.New("input/output error")}
	door.replay.file.sync = d.sync
	p := newPermit(t, "io", theDoor, nil, noon)
	_, err := door.verifier.Admit(signed(t, signer, p), noon)
	wants(t, err, NoMemory)
	if !errors.Is(err, d.fails) {
		t.Errorf("the cause is lost: %v", err)
	}
	d.fails = nil
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "next", theDoor, nil, noon)), noon)
	wants(t, err, NoMemory)
}

func TestReplayIsBounded(t *testing.T) {
	door := newStation(t, theDoor, false)
	door.replay.file.sync = func(*os.File) error { return nil } // 4096 real ones take a while
	for i := range maxSeen {
		r := Recall{Door: theDoor, Permit: PermitID{1, byte(i >> 8), byte(i)}, Expires: noon.Add(MaxLife + Skew)}
		wants(t, door.replay.recall(r.Permit, uint32(r.Expires.Unix())), 0)
	}
	_, err := door.verifier.Admit(signed(t, signer, newPermit(t, "full", theDoor, nil, noon)), noon)
	wants(t, err, NoMemory)
	later := noon.Add(MaxLife + 2*Skew)
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "room again", theDoor, nil, later)), later)
	wants(t, err, 0)
}

func TestClockSetBack(t *testing.T) {
	door := newStation(t, theDoor, false)
	old := newPermit(t, "old", theDoor, nil, noon)
	_, err := door.verifier.Admit(signed(t, signer, old), noon)
	wants(t, err, 0)
	unused := newPermit(t, "unused", theDoor, nil, noon)
	later := noon.Add(time.Hour)
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "later", theDoor, nil, later)), later)
	wants(t, err, 0)
	if len(door.replay.seen) != 1 {
		t.Fatalf("%d permits remembered", len(door.replay.seen))
	}
	door.restart(t)
	for _, p := range []Permit{old, unused} {
		_, err = door.verifier.Admit(signed(t, signer, p), noon)
		wants(t, err, ClockBehind)
	}
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "slow by the skew", theDoor, nil, later)), later.Add(-Skew))
	wants(t, err, 0)
}

// A permit that comes late in its life, after one that was made later, is still good:
// the horizon allows what the skew allows.
func TestHorizonAllowsTheSkew(t *testing.T) {
	door := newStation(t, theDoor, false)
	early := newPermit(t, "early", theDoor, nil, noon)
	late := early.Expires.Add(Skew - time.Second)
	_, err := door.verifier.Admit(signed(t, signer, newPermit(t, "later", theDoor, nil, late)), late)
	wants(t, err, 0)
	_, err = door.verifier.Admit(signed(t, signer, early), late)
	wants(t, err, 0)
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "latest", theDoor, nil, late.Add(time.Second))), late)
	wants(t, err, 0)
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "unused", theDoor, nil, noon)), late)
	wants(t, err, Expired) // by the horizon: the door's clock alone would let it in
}

// Whatever the clock does, however often the door restarts: no permit opens twice, and
// none opens once the service's own signatures prove it over.
func TestNoPermitOpensTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := check(os.MkdirTemp(t.TempDir(), ""))(t)
		path := filepath.Join(dir, "replay")
		if err := CreateReplay(path); err != nil {
			rt.Fatal(err)
		}
		open := func() *Replay {
			r := check(OpenReplay(path))(t)
			r.file.sync = func(*os.File) error { return nil } // power cuts have their own tests
			return r
		}
		r := open()
		defer func() { _ = r.Close() }()
		opened := map[PermitID]bool{}
		newest := noon.Add(-24 * time.Hour)
		at := rapid.IntRange(0, 400)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				_ = r.Close()
				r = open()
			}
			if rapid.IntRange(0, 9).Draw(rt, "compact") == 0 {
				if err := r.file.rewrite(r.records()); err != nil {
					rt.Fatal(err)
				}
			}
			n := at.Draw(rt, "permit")
			from := noon.Add(time.Duration(n) * time.Second)
			p := Permit{ID: PermitID{1, byte(n >> 8), byte(n)}, Door: theDoor, Act: Open, NotBefore: from, Expires: from.Add(MaxLife)}
			now := noon.Add(time.Duration(at.Draw(rt, "clock")) * time.Second)
			if now.Add(Skew).Before(p.NotBefore) || !now.Before(p.Expires.Add(Skew)) {
				continue // the verifier refuses it before it comes here
			}
			err := r.spend(&p, now)
			if err != nil {
				continue
			}
			if opened[p.ID] {
				rt.Fatalf("permit %d opened twice", n)
			}
			if !newest.Before(p.Expires.Add(Skew)) {
				rt.Fatalf("permit %d opened after its end was proven", n)
			}
			opened[p.ID] = true
			if from.After(newest) {
				newest = from
			}
		}
	})
}

// A permit that the controller saw admitted stays used when the controller is killed
// the very moment after.
func TestKilled(t *testing.T) {
	const folder = "LATCHKEY_DOOR_FOLDER"
	if dir := os.Getenv(folder); dir != "" { // the controller that will be killed
		r := check(OpenReplay(filepath.Join(dir, "replay")))(t)
		for i := 0; ; i++ {
			p := newPermit(t, fmt.Sprint("killed", i), theDoor, nil, noon)
			if err := r.spend(&p, noon); err != nil {
				fmt.Println("refused", err)
				return
			}
			fmt.Println("opened", p.ID)
		}
	}

	for life := range 5 {
		dir := t.TempDir()
		path := filepath.Join(dir, "replay")
		if err := CreateReplay(path); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), folder+"="+dir)
		out := check(cmd.StdoutPipe())(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var opened []PermitID
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var id PermitID
			if _, text, ok := bytes.Cut(lines.Bytes(), []byte("opened ")); !ok || id.UnmarshalText(text) != nil {
				t.Fatalf("the controller says %q", lines.Text())
			}
			if opened = append(opened, id); len(opened) == 20+7*life {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		_ = cmd.Wait()
		r := check(OpenReplay(path))(t)
		for _, id := range opened {
			p := Permit{ID: id, NotBefore: noon, Expires: noon.Add(MaxLife)}
			wants(t, r.spend(&p, noon), Replayed)
		}
		_ = r.Close()
	}
}

// A power cut between writing the new file and moving it leaves the old one, and a
// remainder that the next rewrite replaces.
func TestRewriteInterrupted(t *testing.T) {
	door := newStation(t, theDoor, false)
	p := newPermit(t, "kept", theDoor, nil, noon)
	_, err := door.verifier.Admit(signed(t, signer, p), noon)
	wants(t, err, 0)
	if err := os.WriteFile(door.path("replay.new"), []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	door.restart(t)
	if err := door.replay.file.rewrite(door.replay.records()); err != nil {
		t.Fatal(err)
	}
	door.restart(t)
	_, err = door.verifier.Admit(signed(t, signer, p), noon)
	wants(t, err, Replayed)
	if _, err := os.Stat(door.path("replay.new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a remainder: %v", err)
	}
}

// The new file is whole on the disk before it takes the name, and the name is on the
// disk before the rewrite is done.
func TestRewriteOrder(t *testing.T) {
	door := newStation(t, theDoor, false)
	old := check(door.replay.file.file.Stat())(t)
	var steps []string
	door.replay.file.sync = func(f *os.File) error {
		named, synced := check(os.Stat(door.path("replay")))(t), check(f.Stat())(t)
		step := "folder"
		if !synced.IsDir() {
			step = fmt.Sprint(synced.Size(), " bytes")
		}
		if os.SameFile(named, old) {
			step += ", the old file has the name"
		}
		steps = append(steps, step)
		return nil
	}
	if err := door.replay.file.rewrite(door.replay.records()); err != nil {
		t.Fatal(err)
	}
	if want := "[48 bytes, the old file has the name folder]"; fmt.Sprint(steps) != want {
		t.Errorf("%v, want %s", steps, want)
	}
}

// A rewrite that cannot be finished leaves the old file in use.
func TestRewriteFails(t *testing.T) {
	door := newStation(t, theDoor, false)
	p := newPermit(t, "kept", theDoor, nil, noon)
	_, err := door.verifier.Admit(signed(t, signer, p), noon)
	wants(t, err, 0)
	if err := os.Mkdir(door.path("replay.new"), 0o700); err != nil { // nothing can be written there
		t.Fatal(err)
	}
	if err := door.replay.file.rewrite(nil); err == nil {
		t.Fatal("written over a folder")
	}
	_, err = door.verifier.Admit(signed(t, signer, newPermit(t, "next", theDoor, nil, noon)), noon)
	wants(t, err, 0)
	door.restart(t)
	_, err = door.verifier.Admit(signed(t, signer, p), noon)
	wants(t, err, Replayed)
}
