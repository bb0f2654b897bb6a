package main

import (
	"fmt"
	"os"

	"latchkey/handoff/keyring"
)

type keysCmd struct {
	New    keysNewCmd    `cmd:"" help:"Make a keyset file with fresh keys. Never overwrites one."`
	Rotate keysRotateCmd `cmd:"" help:"Let a new key seal from now on; old keys still open old grants."`
	Doors  keysDoorsCmd  `cmd:"" help:"Make and rotate the keys that sign permits for doors."`

	Receipts keysReceiptsCmd `cmd:"" help:"Make and rotate the key that signs receipts of handoffs."`
}

type keysNewCmd struct {
	File string `arg:"" help:"Where to write the keyset (mode 0600)." type:"path"`
}

// Run makes a keyset file.
func (c *keysNewCmd) Run(io streams) error {
	ring, err := keyring.New()
	if err != nil {
		return err
	}
	if err := ring.Create(c.File); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: fresh keys. Back the file up where the database is not: with both one can read every grant, and without it no one can.\n", c.File)
	return nil
}

type keysRotateCmd struct {
	File  string `arg:"" help:"The keyset to change." type:"existingfile"`
	Stage bool   `help:"Only add the new key, so that every instance can open what it will seal. Roll the file out, then rotate without this flag."`
}

// Run rotates a keyset file.
func (c *keysRotateCmd) Run(io streams) error {
	ring, err := keyring.Load(c.File)
	if err != nil {
		return err
	}
	next, said := ring.Rotate, "a new key seals from now on"
	if c.Stage {
		next, said = ring.Stage, "a new key is staged and opens only"
	}
	ring, err = next()
	if err != nil {
		return err
	}
	if err := ring.Replace(c.File); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: %s; %d keys open. Restart the instances that use it.\n", c.File, said, ring.Len())
	return nil
}

// loadKeys reads keys that sign from their file.
func loadKeys[T any](path string, parse func([]byte) (T, error)) (keys T, err error) {
	content, err := keyring.ReadSecret(path)
	if err != nil {
		return keys, err
	}
	if keys, err = parse(content); err != nil {
		return keys, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// writeKeys writes keys that sign to their file.
func writeKeys(path string, keys interface{ JSON() ([]byte, error) }) error {
	content, err := keys.JSON()
	if err != nil {
		return err
	}
	return keyring.WriteSecret(path, content)
}

// isNew is the error of a file that is there already. Otherwise says what writing over it would do.
func isNew(path, otherwise string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w; %s", path, os.ErrExist, otherwise)
	}
	return nil
}
