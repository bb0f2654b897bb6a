package controller

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"latchkey/handoff/door"
)

func TestEnroll(t *testing.T) {
	key, err := door.NewPINKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(e *Enrollment) { e.Keypad = key })
	info, err := os.Stat(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, info.Mode().Perm(), 0o700)
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(s.dir), ".enroll-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}

	// The key that was printed is the one that signs.
	f := s.open(t)
	r, err := f.outbox.Add(door.Tamper, door.PermitID{}, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, s.said(t, f), "tamper")
	wants(t, r.Seq, 1)

	if _, err := Open(s.dir, rand.Reader); !errors.Is(err, door.ErrInUse) {
		t.Errorf("a second controller: %v", err)
	}
}

func TestEnrollNeverOverwrites(t *testing.T) {
	s := newSite(t)
	before, err := os.ReadFile(filepath.Join(s.dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	e := Enrollment{Door: theDoor, Root: s.root.Public(), Keys: s.signer.Publish()}
	if _, err := Enroll(s.dir, e, rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(filepath.Join(s.dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(after), string(before))
}

func TestEnrollRefuses(t *testing.T) {
	s := newSite(t)
	good := Enrollment{Door: theDoor, Root: s.root.Public(), Keys: s.signer.Publish()}
	for name, change := range map[string]func(*Enrollment){
		"no door":         func(e *Enrollment) { e.Door = "" },
		"a path":          func(e *Enrollment) { e.Door = "../x" },
		"no root":         func(e *Enrollment) { e.Root = door.PublicKey{} },
		"no keys":         func(e *Enrollment) { e.Keys = nil },
		"the root signs":  func(e *Enrollment) { e.Keys = door.KeySet{s.root.Public()} },
		"a forged list":   func(e *Enrollment) { e.Revocation = []byte("list") },
		"a key of zeroes": func(e *Enrollment) { e.Keys = door.KeySet{{}} },
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			e := good
			change(&e)
			if _, err := Enroll(filepath.Join(parent, "door"), e, rand.Reader); err == nil {
				t.Error("enrolled")
			}
			if entries, err := os.ReadDir(parent); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v %v", entries, err)
			}
		})
	}
}

func TestEnrollTakesTheList(t *testing.T) {
	root, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list, err := door.Revocation{Serial: 7, At: time.Unix(1, 0)}.Sign(root)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(e *Enrollment) { e.Root, e.Revocation = root.Public(), list })
	wants(t, s.open(t).trust.Serial(), 7)
}

func TestOpenRefuses(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"others may look":  func(dir string) error { return os.Chmod(dir, 0o750) },
		"no replay memory": func(dir string) error { return os.Remove(filepath.Join(dir, replayFile)) },
		"no outbox":        func(dir string) error { return os.Remove(filepath.Join(dir, outboxFile)) },
		"no trust":         func(dir string) error { return os.Remove(filepath.Join(dir, trustFile)) },
		"no key":           func(dir string) error { return os.Remove(filepath.Join(dir, keyFile)) },
		"no settings":      func(dir string) error { return os.Remove(filepath.Join(dir, settingsFile)) },
		"foreign settings": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, settingsFile), []byte(`{"x":1}`), 0o600)
		},
		"a keypad's bad key": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, keypadKeyFile), []byte("AAAA"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if err := spoil(s.dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(s.dir, rand.Reader); err == nil {
				t.Error("opened")
			}
		})
	}
}

func TestCursor(t *testing.T) {
	s := newSite(t)
	f := s.open(t)
	wants(t, f.cursor(), "")
	if err := f.setCursor("1700-0"); err != nil {
		t.Fatal(err)
	}
	wants(t, f.cursor(), "1700-0")
	for _, spoiled := range []string{"a\r\nX-Header: b", "\x00", string(make([]byte, maxCursor+1))} {
		if err := os.WriteFile(f.path(cursorFile), []byte(spoiled), 0o600); err != nil {
			t.Fatal(err)
		}
		wants(t, f.cursor(), "")
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, info.Mode().Perm(), 0o600)
	if _, err := ListenSocket(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("taken from a living controller: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err = ListenSocket(path)
	if err != nil {
		t.Fatalf("a dead controller's socket: %v", err)
	}
	_ = ln.Close()
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file was taken for a socket: %v", err)
	}
}
