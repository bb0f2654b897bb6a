package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"latchkey/handoff/door"
	"latchkey/handoff/keyring"
)

// doors reads what it takes to open doors; nil where none are opened.
func (c *serveCmd) doors() (signer *door.Signer, revocation []byte, err error) {
	if c.DoorKeys == "" {
		if c.DoorRevocation != "" {
			return nil, nil, errors.New("--door-revocation needs --door-keys")
		}
		return nil, nil, nil
	}
	if signer, err = loadSigner(c.DoorKeys); err != nil || c.DoorRevocation == "" {
		return signer, nil, err
	}
	content, err := os.ReadFile(c.DoorRevocation)
	if err != nil {
		return nil, nil, err
	}
	// Only the doors hold the root's public key: whether the list is genuine, they judge.
	revocation, err = base64.RawURLEncoding.Strict().DecodeString(string(bytes.TrimSpace(content)))
	if err != nil || len(revocation) == 0 {
		return nil, nil, fmt.Errorf("%s is no revocation list in base64url", c.DoorRevocation)
	}
	return signer, revocation, nil
}

func loadSigner(path string) (*door.Signer, error) {
	content, err := keyring.ReadSecret(path)
	if err != nil {
		return nil, err
	}
	signer, err := door.ParseSigner(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

func writeSigner(path string, signer *door.Signer) error {
	content, err := signer.JSON()
	if err != nil {
		return err
	}
	return keyring.WriteSecret(path, content)
}

type keysDoorsCmd struct {
	New    keysDoorsNewCmd    `cmd:"" help:"Make a file of two fresh signing keys, the current and the next one. Never overwrites one."`
	Rotate keysDoorsRotateCmd `cmd:"" help:"Let the next key sign from now on; doors still believe the one before."`
	Root   keysDoorsRootCmd   `cmd:"" help:"Make the root key, which says what signing keys doors may trust. Keep it offline."`
	Revoke keysDoorsRevokeCmd `cmd:"" help:"Sign the list of signing keys that no longer count, for serve --door-revocation."`
}

type keysDoorsRootCmd struct {
	File string `arg:"" help:"Where to write the key (mode 0600)." type:"path"`
}

// Run makes a root key.
func (c *keysDoorsRootCmd) Run(io streams) error {
	if _, err := os.Lstat(c.File); err == nil {
		return fmt.Errorf("%s: %w; the doors that pinned it would never hear of a stolen key", c.File, os.ErrExist)
	}
	root, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		return err
	}
	content, err := root.JWK()
	if err != nil {
		return err
	}
	if err := keyring.WriteSecret(c.File, append(content, '\n')); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: the root key. Take it offline. Doors are enrolled with --root=%s\n", c.File, root.Public())
	return nil
}

type keysDoorsRevokeCmd struct {
	Root   string           `required:"" help:"The root key's file." type:"existingfile"`
	Serial uint64           `required:"" help:"Of this list; above that of every list before."`
	Trust  []door.PublicKey `help:"Signing keys that doors shall trust besides those they pinned (x of GET /v1/doors/keys)." placeholder:"KEY"`
	Keys   []string         `arg:"" optional:"" name:"kid" help:"Ids of ALL signing keys that no longer count (kid of GET /v1/doors/keys); a list replaces the one before."`
}

// Run prints a signed list, base64url.
func (c *keysDoorsRevokeCmd) Run(io streams) error {
	content, err := keyring.ReadSecret(c.Root)
	if err != nil {
		return err
	}
	root, err := door.ParsePrivateKey(content)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Root, err)
	}
	list := door.Revocation{Serial: c.Serial, At: time.Now().Truncate(time.Second), Trusted: c.Trust}
	for _, text := range c.Keys {
		id, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || len(id) != len(door.KeyID{}) {
			return fmt.Errorf("%q is no key id", text)
		}
		list.Revoked = append(list.Revoked, door.KeyID(id))
	}
	signed, err := list.Sign(root)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.out, base64.RawURLEncoding.EncodeToString(signed))
	return nil
}

type keysDoorsNewCmd struct {
	File string `arg:"" help:"Where to write the keys (mode 0600)." type:"path"`
}

// Run makes a file of signing keys.
func (c *keysDoorsNewCmd) Run(io streams) error {
	if _, err := os.Lstat(c.File); err == nil {
		return fmt.Errorf("%s: %w; the doors that know its keys would refuse every permit", c.File, os.ErrExist)
	}
	signer, err := door.NewSigner(rand.Reader)
	if err != nil {
		return err
	}
	if err := writeSigner(c.File, signer); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: fresh keys. Doors are enrolled with both of them, as GET /v1/doors/keys shows them.\n", c.File)
	return nil
}

type keysDoorsRotateCmd struct {
	File  string `arg:"" help:"The keys to change." type:"existingfile"`
	Stage bool   `help:"Put a fresh next key in the place of the one before. Let every door learn it, then rotate without this flag."`
}

// Run rotates a file of signing keys.
func (c *keysDoorsRotateCmd) Run(io streams) error {
	signer, err := loadSigner(c.File)
	if err != nil {
		return err
	}
	said := "the next key signs from now on, and the one before is still published"
	if c.Stage {
		signer, err = signer.Stage(rand.Reader)
		said = "a fresh next key is published, and does not sign yet"
	} else {
		signer, err = signer.Rotate()
	}
	if err != nil {
		return err
	}
	if err := writeSigner(c.File, signer); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: %s. Restart the instances that use it.\n", c.File, said)
	return nil
}
