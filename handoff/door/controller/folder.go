package controller

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"

	"latchkey/handoff/door"
)

// The files of a door's folder. Only its owner may read it: it holds the door's keys.
const (
	settingsFile  = "door.json"   // the door's id and the keys that it trusts
	keyFile       = "key.jwk"     // signs its reports
	replayFile    = "replay"      // which permits were used
	trustFile     = "trust"       // the revocation list
	outboxFile    = "outbox"      // reports that the service does not have yet
	keypadFile    = "keypad"      // which PINs were used
	keypadKeyFile = "keypad.key"  // base64url; there only where there is a keypad
	underWayFile  = "unlock.json" // there only while the lock may be unlocked
	cursorFile    = "cursor"      // how far the stream was read
)

// Enrollment is what a door is told once.
type Enrollment struct {
	Door     string         // the id in the registry
	Root     door.PublicKey // signs revocation lists
	Keys     door.KeySet    // the service's signing keys
	Presence bool           // ask for the door's own challenge in every permit
	Keypad   door.PINKey    // the keypad's key; zero for a door without one

	Revocation []byte // the newest revocation list; empty for none
}

// settings are an Enrollment as it is kept.
type settings struct {
	Door     string         `json:"door"`
	Presence bool           `json:"presence"`
	Root     door.PublicKey `json:"root"`
	Keys     door.KeySet    `json:"keys"`
}

// Enroll makes the folder of a new door, with mode 0700, and gives the public key that
// the door's reports will be signed with. The folder appears whole or not at all; one
// that is there already is left alone (fs.ErrExist): a door that forgot which permits
// were used would open twice for one. Random must be a cryptographic source.
func Enroll(dir string, e Enrollment, random io.Reader) (public door.PublicKey, err error) {
	if _, err := os.Lstat(dir); err == nil {
		return public, fmt.Errorf("%s: %w: a door is enrolled once; move the old folder away first", dir, fs.ErrExist)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".enroll-") // mode 0700
	if err != nil {
		return public, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(temp)
		}
	}()
	if public, err = fill(temp, e, random); err != nil {
		return public, err
	}
	f, err := open(temp) // what cannot be run must not be enrolled
	if err != nil {
		return public, err
	}
	if len(e.Revocation) > 0 {
		err = f.trust.Apply(e.Revocation)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return public, err
	}
	if err := os.Rename(temp, dir); err != nil {
		return public, err
	}
	return public, syncFolder(filepath.Dir(dir))
}

func fill(dir string, e Enrollment, random io.Reader) (public door.PublicKey, err error) {
	key, err := door.NewPrivateKey(random)
	if err != nil {
		return public, err
	}
	jwk, err := key.JWK()
	if err != nil {
		return public, err
	}
	about, err := json.Marshal(settings{Door: e.Door, Presence: e.Presence, Root: e.Root, Keys: e.Keys}, json.Deterministic(true))
	if err != nil {
		return public, err
	}
	files := map[string][]byte{settingsFile: append(about, '\n'), keyFile: append(jwk, '\n')}
	if secret, err := e.Keypad.MarshalBinary(); err == nil {
		files[keypadKeyFile] = []byte(base64.RawURLEncoding.EncodeToString(secret) + "\n")
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return public, err
		}
	}
	for name, create := range map[string]func(string) error{
		replayFile: door.CreateReplay, trustFile: door.CreateTrust, outboxFile: door.CreateOutbox, keypadFile: door.CreateKeypad,
	} {
		if err := create(filepath.Join(dir, name)); err != nil {
			return public, err
		}
	}
	return key.Public(), nil
}

// Folder is an enrolled door's memory. One process at a time may have it open.
type Folder struct {
	dir      string
	door     string
	presence bool

	trust      *door.Trust
	replay     *door.Replay
	outbox     *door.Outbox
	challenges *door.Challenges // nil: no presence is asked
	keypad     *door.Keypad     // nil: there is none
	verifier   *door.Verifier
}

// Open reads a door's folder. The error wraps door.ErrInUse while another controller runs the
// door, or says which file is missing or damaged, or that others may read the folder. Random
// must be a cryptographic source.
func Open(dir string, random io.Reader) (*Folder, error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	if f.presence {
		f.challenges = door.NewChallenges(random)
	}
	if f.verifier, err = door.NewVerifier(f.door, f.trust, f.replay, f.challenges); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// path is where one of the folder's files lies.
func (f *Folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *Folder) settings() (s settings, err error) {
	content, err := os.ReadFile(f.path(settingsFile))
	if err != nil {
		return s, fmt.Errorf("not the folder of an enrolled door: %w", err)
	}
	if err := json.Unmarshal(content, &s, json.RejectUnknownMembers(true)); err != nil {
		return s, fmt.Errorf("%s: %w", f.path(settingsFile), err)
	}
	return s, nil
}

func open(dir string) (_ *Folder, err error) {
	f := &Folder{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a door's keys and others may look into it: chmod 700 it", dir)
	}
	about, err := f.settings()
	if err != nil {
		return nil, err
	}
	f.door, f.presence = about.Door, about.Presence
	content, err := os.ReadFile(f.path(keyFile))
	if err != nil {
		return nil, err
	}
	key, err := door.ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(keyFile), err)
	}
	if f.outbox, err = door.OpenOutbox(f.path(outboxFile), f.door, key); err != nil {
		return nil, err
	}
	if f.trust, err = door.OpenTrust(f.path(trustFile), about.Root, about.Keys...); err != nil {
		return nil, err
	}
	if f.replay, err = door.OpenReplay(f.path(replayFile)); err != nil {
		return nil, err
	}
	if err = f.openKeypad(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Folder) openKeypad() error {
	content, err := os.ReadFile(f.path(keypadKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := ParsePINKey(content)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path(keypadKeyFile), err)
	}
	f.keypad, err = door.OpenKeypad(f.path(keypadFile), key)
	return err
}

// ParsePINKey reads a keypad's key from base64url, white space around it allowed.
func ParsePINKey(text []byte) (door.PINKey, error) {
	b, err := base64url.DecodeString(string(trim(text)))
	if err != nil {
		return door.PINKey{}, door.ErrPINKey
	}
	return door.ParsePINKey(b)
}

// Door is the door's id.
func (f *Folder) Door() string { return f.door }

// Close closes the door's files.
func (f *Folder) Close() error {
	var errs []error
	if f.outbox != nil {
		errs = append(errs, f.outbox.Close())
	}
	if f.trust != nil {
		errs = append(errs, f.trust.Close())
	}
	if f.replay != nil {
		errs = append(errs, f.replay.Close())
	}
	if f.keypad != nil {
		errs = append(errs, f.keypad.Close())
	}
	return errors.Join(errs...)
}

// underWay is what a restart must know of a lock that may be unlocked.
type underWay struct {
	Unlocks []unlock `json:"unlocks"`
}

// storeUnlocks stores which unlocks are in force. When it returns nil, a power cut loses nothing.
func (f *Folder) storeUnlocks(unlocks []unlock) error {
	content, err := json.Marshal(underWay{unlocks})
	if err != nil {
		return err
	}
	return writeFile(f.path(underWayFile), content)
}

// clearUnlocks records that the lock is locked. The error is that of the disk.
func (f *Folder) clearUnlocks() error {
	if err := os.Remove(f.path(underWayFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(f.dir)
}

// unlocksInForce are the unlocks that were in force when the last controller ended, and whether
// the lock may still be unlocked; where the record cannot be read, it may.
func (f *Folder) unlocksInForce() ([]unlock, bool, error) {
	content, err := os.ReadFile(f.path(underWayFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, err
	}
	var u underWay
	if err := json.Unmarshal(content, &u); err != nil {
		return nil, true, fmt.Errorf("%s cannot be read: %w", f.path(underWayFile), err)
	}
	return u.Unlocks, true, nil
}

const maxCursor = 512 // bytes

// cursor is how far the stream was read; empty for from the start.
func (f *Folder) cursor() string {
	content, err := os.ReadFile(f.path(cursorFile))
	if err != nil || len(content) > maxCursor || !isCursor(string(content)) {
		return "" // at worst the service says again what the door knows
	}
	return string(content)
}

func (f *Folder) setCursor(id string) error { return writeFile(f.path(cursorFile), []byte(id)) }

// writeFile replaces a file in one step, readable by its owner only. When it returns
// nil, the content survives a power cut.
func writeFile(path string, content []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
