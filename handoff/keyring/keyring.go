// Package keyring holds Latchkey's keys at rest: one keyset that seals what is stored,
// with rotation, and one key that names things and never changes.
//
// Both are Tink keysets in one JSON file. Sealing is AES-256-GCM; after a rotation the
// newest key seals, and all older ones still open. Naming is HMAC-SHA-256 as a
// pseudo-random function: grants are found by it, so a new naming key would lose them.
package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Ring is a set of keys, ready for use. It may be used concurrently.
type Ring struct {
	sealing, naming *keyset.Handle

	aead  tink.AEAD
	names sync.Pool // of HMAC states under the key that the naming keyset yields
}

// file is the form of a ring on disk: two Tink keysets in Tink's own JSON.
type file struct {
	Comment string          `json:"comment"`
	Sealing json.RawMessage `json:"sealing"`
	Naming  json.RawMessage `json:"naming"`
}

const comment = "Latchkey's keys. With this file and a copy of the store one can read every grant. Losing it loses every grant."

// New makes a ring of fresh keys.
func New() (*Ring, error) {
	sealing, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	naming, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return from(sealing, naming)
}

func from(sealing, naming *keyset.Handle) (*Ring, error) {
	a, err := aead.New(sealing)
	if err != nil {
		return nil, fmt.Errorf("keyring: sealing: %w", err)
	}
	set, err := prf.NewPRFSet(naming)
	if err != nil {
		return nil, fmt.Errorf("keyring: naming: %w", err)
	}
	// A key of our own, drawn from the keyset once: names are computed with every request,
	// and an HMAC state that is kept costs a third of a new one.
	key, err := set.ComputePrimaryPRF([]byte("latchkey names v1"), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("keyring: naming: %w", err)
	}
	r := &Ring{sealing: sealing, naming: naming, aead: a}
	r.names.New = func() any { return hmac.New(sha256.New, key) }
	return r, nil
}

// Parse reads a ring from its JSON. The error never repeats the content.
func Parse(content []byte) (*Ring, error) {
	var f file
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, errors.New("keyring: not a keyset file")
	}
	sealing, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(f.Sealing)))
	if err != nil {
		return nil, errors.New("keyring: sealing: not a Tink keyset")
	}
	naming, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(f.Naming)))
	if err != nil {
		return nil, errors.New("keyring: naming: not a Tink keyset")
	}
	return from(sealing, naming)
}

// Load reads a ring from a file that only its owner may read.
func Load(path string) (*Ring, error) {
	content, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	return Parse(content)
}

// ReadSecret reads a file that holds a secret, be it a key, a password or a token, and refuses
// one that others than its owner may read, write or run. Everything secret that comes from a
// file is read by it.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, whatever the path names by now
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("keyring: %s has mode %04o: others may read it, and it holds a secret; chmod 600 %s", path, mode, path)
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return content, nil
}

// ReadPassword is ReadSecret of a file that holds one line. White space around it is no part
// of it; an empty file is an error.
func ReadPassword(path string) (string, error) {
	content, err := ReadSecret(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimSpace(string(content))
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("keyring: %s must hold one line, with nothing but the secret", path)
	}
	return password, nil
}

// JSON is the ring as Parse reads it: the keys in the clear.
func (r *Ring) JSON() ([]byte, error) {
	f := file{Comment: comment}
	var err error
	if f.Sealing, err = inClear(r.sealing); err != nil {
		return nil, err
	}
	if f.Naming, err = inClear(r.naming); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

func inClear(h *keyset.Handle) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return b.Bytes(), nil
}

// Create writes the ring to a new file with mode 0600. It never overwrites one.
func (r *Ring) Create(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("keyring: %s: %w; a new keyset would lose every grant", path, fs.ErrExist)
	}
	return r.write(path)
}

// Replace writes the ring over a file in one step, so that a crash leaves the old
// keys or the new ones.
func (r *Ring) Replace(path string) error { return r.write(path) }

func (r *Ring) write(path string) error {
	content, err := r.JSON()
	if err != nil {
		return err
	}
	return WriteSecret(path, content)
}

// WriteSecret writes a file of keys in one step, so that a crash leaves the old one or
// the new one, with mode 0600.
func WriteSecret(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyset-*") // CreateTemp makes it 0600
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return nil
}

// Stage adds a sealing key that opens but does not seal yet. With several instances:
// stage, roll the file out to all of them, then rotate; otherwise an instance could
// meet a grant that it cannot open.
func (r *Ring) Stage() (*Ring, error) {
	m := keyset.NewManagerFromHandle(r.sealing)
	if _, err := m.Add(aead.AES256GCMKeyTemplate()); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	sealing, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return from(sealing, r.naming)
}

// Rotate makes the newest key the one that seals: a staged one, else one that it adds.
func (r *Ring) Rotate() (*Ring, error) {
	staged := r
	last, err := r.sealing.Entry(r.sealing.Len() - 1)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if last.IsPrimary() {
		if staged, err = r.Stage(); err != nil {
			return nil, err
		}
		if last, err = staged.sealing.Entry(staged.sealing.Len() - 1); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
	}
	m := keyset.NewManagerFromHandle(staged.sealing)
	if err := m.SetPrimary(last.KeyID()); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	sealing, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return from(sealing, r.naming)
}

// Len is how many sealing keys the ring holds.
func (r *Ring) Len() int { return r.sealing.Len() }

// Seal encrypts plaintext and binds it to its context (RFC 5116, associated data).
func (r *Ring) Seal(plaintext, context []byte) ([]byte, error) {
	return r.aead.Encrypt(plaintext, context)
}

// Open reverses Seal with whichever key sealed. The context must be the same.
func (r *Ring) Open(sealed, context []byte) ([]byte, error) {
	return r.aead.Decrypt(sealed, context)
}

// Name is a keyed hash of 32 bytes (HMAC-SHA-256) over a domain and its parts, none of
// which may hold a zero byte.
func (r *Ring) Name(domain string, parts ...string) []byte {
	h := r.names.Get().(hash.Hash)
	defer r.names.Put(h)
	h.Reset()
	_, _ = io.WriteString(h, domain)
	for _, part := range parts {
		_, _ = h.Write([]byte{0})
		_, _ = io.WriteString(h, part)
	}
	return h.Sum(make([]byte, 0, sha256.Size))
}
