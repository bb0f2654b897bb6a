package keyring

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func fresh(t *testing.T) *Ring {
	t.Helper()
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealBindsItsContext(t *testing.T) {
	r := fresh(t)
	sealed, err := r.Seal([]byte("a parcel"), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Open(sealed, []byte("here")); err != nil || string(got) != "a parcel" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if _, err := r.Open(sealed, []byte("there")); err == nil {
		t.Error("opened in another context")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := r.Open(sealed, []byte("here")); err == nil {
		t.Error("opened after a change")
	}
	if _, err := fresh(t).Open(sealed, []byte("here")); err == nil {
		t.Error("opened with another ring")
	}
}

func TestRotation(t *testing.T) {
	first := fresh(t)
	old, _ := first.Seal([]byte("old"), nil)

	staged, err := first.Stage()
	if err != nil {
		t.Fatal(err)
	}
	fromStaged, _ := staged.Seal([]byte("staged"), nil)
	if _, err := first.Open(fromStaged, nil); err != nil {
		t.Error("a staged key seals already: instances without it cannot open")
	}
	second, err := staged.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if second.Len() != 2 {
		t.Errorf("rotating a staged ring made %d keys, want 2", second.Len())
	}
	young, _ := second.Seal([]byte("young"), nil)
	if _, err := staged.Open(young, nil); err != nil {
		t.Error("the staged ring cannot open what the rotated one sealed")
	}
	if _, err := first.Open(young, nil); err == nil {
		t.Error("rotation changed nothing: the first key still seals")
	}
	third, err := second.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string][]byte{"old": old, "young": young} {
		if got, err := third.Open(sealed, nil); err != nil || string(got) != name {
			t.Errorf("after two rotations %s = %q, %v", name, got, err)
		}
	}
	if !bytes.Equal(first.Name("grant", "a"), third.Name("grant", "a")) {
		t.Error("rotation changed names: every grant is lost")
	}
}

func TestNames(t *testing.T) {
	r := fresh(t)
	seen := map[string]string{}
	for _, parts := range [][]string{{"grant", "a", "b"}, {"grant", "ab"}, {"grant", "a", "b", ""}, {"attempt", "a", "b"}} {
		name := string(r.Name(parts[0], parts[1:]...))
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %s have one name", parts, other)
		}
		seen[name] = strings.Join(parts, "|")
		if len(name) != 32 {
			t.Errorf("%q: %d bytes", parts, len(name))
		}
	}
	if bytes.Equal(r.Name("grant", "a"), fresh(t).Name("grant", "a")) {
		t.Error("two rings give one name")
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	r := fresh(t)
	if err := r.Create(path); err != nil {
		t.Fatal(err)
	}
	if err := fresh(t).Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a keyset = %v", err)
	}
	sealed, _ := r.Seal([]byte("x"), nil)
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loaded.Open(sealed, nil); err != nil {
		t.Error("a loaded ring cannot open what the written one sealed")
	}
	rotated, _ := loaded.Rotate()
	if err := rotated.Replace(path); err != nil {
		t.Fatal(err)
	}
	if again, err := Load(path); err != nil || again.Len() != 2 {
		t.Errorf("after Replace: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a keyset that all can read was loaded: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("left %d files behind", len(entries)-1)
	}
}

func TestParseEchoesNothing(t *testing.T) {
	secret := "c2VjcmV0LWtleS1tYXRlcmlhbA"
	for _, content := range []string{secret, `{"sealing":"` + secret + `"}`, `{"sealing":{"key":"` + secret + `"},"naming":{}}`, `{"` + secret + `":1}`} {
		_, err := Parse([]byte(content))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("Parse = %v", err)
		}
	}
}
