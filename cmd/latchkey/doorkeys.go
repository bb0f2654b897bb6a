package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/keyring"
	"latchkey/handoff/registry"
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

func loadSigner(path string) (*door.Signer, error) { return loadKeys(path, door.ParseSigner) }

type keysDoorsCmd struct {
	New    keysDoorsNewCmd    `cmd:"" help:"Make a file of two fresh signing keys, the current and the next one. Never overwrites one."`
	Rotate keysDoorsRotateCmd `cmd:"" help:"Let the next key sign from now on; doors still believe the one before."`
	Status keysDoorsStatusCmd `cmd:"" help:"Which doors know the key that signs next, and when they said so."`
	Root   keysDoorsRootCmd   `cmd:"" help:"Make the root key, which says what signing keys doors may trust. Keep it offline."`
	Revoke keysDoorsRevokeCmd `cmd:"" help:"Sign the list of signing keys that no longer count, for serve --door-revocation."`
}

type keysDoorsRootCmd struct {
	File string `arg:"" help:"Where to write the key (mode 0600)." type:"path"`
}

// Run makes a root key.
func (c *keysDoorsRootCmd) Run(io streams) error {
	if err := isNew(c.File, "the doors that pinned it would never hear of a stolen key"); err != nil {
		return err
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
	list, err := c.sign()
	if err == nil {
		fmt.Fprintln(io.out, list)
	}
	return err
}

// sign is the signed list, base64url.
func (c *keysDoorsRevokeCmd) sign() (string, error) {
	content, err := keyring.ReadSecret(c.Root)
	if err != nil {
		return "", err
	}
	root, err := door.ParsePrivateKey(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.Root, err)
	}
	list := door.Revocation{Serial: c.Serial, At: time.Now().Truncate(time.Second), Trusted: c.Trust}
	for _, text := range c.Keys {
		id, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || len(id) != len(door.KeyID{}) {
			return "", fmt.Errorf("%q is no key id", text)
		}
		list.Revoked = append(list.Revoked, door.KeyID(id))
	}
	signed, err := list.Sign(root)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(signed), nil
}

type keysDoorsNewCmd struct {
	File string `arg:"" help:"Where to write the keys (mode 0600)." type:"path"`
}

// Run makes a file of signing keys.
func (c *keysDoorsNewCmd) Run(io streams) error {
	if err := isNew(c.File, "the doors that know its keys would refuse every permit"); err != nil {
		return err
	}
	signer, err := door.NewSigner(rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKeys(c.File, signer); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: fresh keys. Doors are enrolled with both of them, as GET /v1/doors/keys shows them.\n", c.File)
	return nil
}

type keysDoorsRotateCmd struct {
	doorsAt

	File    string   `arg:"" help:"The keys to change." type:"existingfile"`
	Stage   bool     `xor:"what" help:"Put a fresh next key in the place of the one before. Let every door learn it, then rotate without this flag."`
	Unstage bool     `xor:"what" help:"Take a staged key back, which no door needs to know then."`
	Root    string   `placeholder:"FILE" type:"path" help:"With --stage: the root key's file. The list that teaches the doors the next key is printed, for serve --door-revocation. Without it, the command that makes the list where the root key is."`
	Serial  uint64   `help:"With --root: of the list; above that of every list before."`
	Revoked []string `placeholder:"KID" help:"With --root: ids of ALL signing keys that no longer count, as for revoke."`
	Leave   []string `placeholder:"DOOR" help:"A door that may be left behind: it refuses every permit until it learns the key."`
	NoDoors bool     `help:"No door was enrolled with these keys yet: ask none."`
}

// Run rotates a file of signing keys.
func (c *keysDoorsRotateCmd) Run(ctx context.Context, io streams) error {
	signer, err := loadSigner(c.File)
	if err != nil {
		return err
	}
	said := "the next key signs from now on, and the one before is still published"
	switch {
	case c.Stage:
		signer, err = signer.Stage(rand.Reader)
		said = "a fresh next key is published, and does not sign yet"
	case c.Unstage:
		signer, err = signer.Unstage()
		said = "the staged key is gone; the next list should not name it any more"
	default:
		var rotated *door.Signer
		if rotated, err = signer.Rotate(); err == nil {
			err = c.allowed(ctx, io, signer)
		}
		signer = rotated
	}
	if err != nil {
		return err
	}
	var list string
	if c.Stage {
		if list, err = c.list(signer); err != nil {
			return err
		}
	}
	if err := writeKeys(c.File, signer); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: %s. Restart the instances that use it.\n", c.File, said)
	if c.Stage {
		fmt.Fprintln(io.out, list)
	}
	return nil
}

// list is what the doors need to learn of a staged key: the list that names both keys, signed by
// the root key, or where that is elsewhere, the command that makes it there.
func (c *keysDoorsRotateCmd) list(signer *door.Signer) (string, error) {
	trusted := signer.Publish()
	if c.Root == "" {
		text := "Doors learn the key from a list. Make it where the root key is, with the ids of all keys that no longer count:\n" +
			"  latchkey keys doors revoke --root=ROOT --serial=N"
		for _, k := range trusted {
			text += " --trust=" + k.String()
		}
		return text + " [KID...]\nServe it by --door-revocation, and see by \"keys doors status\" which doors have it.", nil
	}
	revoke := keysDoorsRevokeCmd{Root: c.Root, Serial: c.Serial, Trust: trusted, Keys: c.Revoked}
	return revoke.sign()
}

// allowed refuses to sign with a key that a connected door does not know: it would refuse every
// permit.
func (c *keysDoorsRotateCmd) allowed(ctx context.Context, io streams, signer *door.Signer) error {
	if c.NoDoors {
		return nil
	}
	all, err := c.doors(ctx, signer)
	if err != nil {
		return err
	}
	for _, id := range c.Leave {
		if !slices.ContainsFunc(all, func(d enrolled) bool { return d.ID == id }) {
			return fmt.Errorf("--leave: there is no door %s", id)
		}
	}
	var behind, carried []string
	for _, d := range all {
		switch {
		case d.ready || d.Mode == handoff.Keypad || slices.Contains(c.Leave, d.ID):
		case d.Mode == handoff.Carried:
			carried = append(carried, d.ID)
		default:
			behind = append(behind, d.ID)
		}
	}
	if len(carried) > 0 {
		fmt.Fprintf(io.err, "without a network, these doors learn the list from couriers' telephones, and refuse permits until then: %s\n", strings.Join(carried, ", "))
	}
	if len(behind) > 0 {
		return fmt.Errorf("these doors do not know the next key, and would refuse every permit: %s. See \"keys doors status\"; --leave=DOOR leaves one behind", strings.Join(behind, ", "))
	}
	return nil
}

type keysDoorsStatusCmd struct {
	doorsAt

	File string `arg:"" help:"The keys of the service." type:"existingfile"`
}

// Run prints which doors know the keys.
func (c *keysDoorsStatusCmd) Run(ctx context.Context, io streams) error {
	signer, err := loadSigner(c.File)
	if err != nil {
		return err
	}
	all, err := c.doors(ctx, signer)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	next := "none staged"
	if key, staged := signer.Next(); staged {
		next = key.ID().String()
	}
	fmt.Fprintf(w, "signs: %s, next: %s\n", signer.Publish()[0].ID(), next)
	fmt.Fprintln(w, "DOOR\tBUILDING\tMODE\tLAST HEARD\tLIST\tKNOWS\tREADY")
	for _, d := range all {
		heard, serial, knows := "never", "-", "-"
		if d.known.Heard != 0 {
			heard, serial, knows = d.known.Heard.Time().Format(time.RFC3339), strconv.FormatUint(d.known.Serial, 10), strings.Join(d.known.Keys, ",")
		}
		ready := "no"
		switch {
		case d.Mode == handoff.Keypad:
			ready = "needs none"
		case d.ready:
			ready = "yes"
		case d.Mode == handoff.Carried:
			ready = "by telephones"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.BuildingID, d.Mode, heard, serial, knows, ready)
	}
	return w.Flush()
}

// doorsAt is where the doors of a service are asked for. Kong's required flags would be required
// of --stage as well.
type doorsAt struct {
	Keyset string `env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`

	RedisURL string `env:"LATCHKEY_REDIS_URL" placeholder:"URL" help:"The service's Redis, as for serve (${env})."`

	redisAccess
}

// enrolled is a door, and what it said last of the keys that it knows.
type enrolled struct {
	handoff.Door
	known registry.KnownKeys
	ready bool // for the key that signs, or that is staged
}

// doors are all doors of the service, by building and id.
func (c *doorsAt) doors(ctx context.Context, signer *door.Signer) ([]enrolled, error) {
	if c.Keyset == "" || c.RedisURL == "" {
		return nil, errors.New("the service's doors are to be asked: give --redis-url and --keyset")
	}
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return nil, err
	}
	at := redisAt{RedisURL: c.RedisURL, redisAccess: c.redisAccess}
	store, done, err := openStore(&at, ring, 30*24*time.Hour)
	if err != nil {
		return nil, err
	}
	defer done()
	needed := signer.Publish()[0].ID().String()
	if next, staged := signer.Next(); staged {
		needed = next.ID().String()
	}
	rooms := registry.New(store, store, wallClock{})
	buildings, err := rooms.Buildings(ctx)
	if err != nil {
		return nil, err
	}
	var all []enrolled
	for _, building := range buildings {
		ids, err := rooms.Doors(ctx, building)
		if err != nil {
			return nil, err
		}
		for _, id := range slices.Sorted(slices.Values(ids)) {
			d, err := rooms.Door(ctx, id)
			if err != nil {
				return nil, err
			}
			if d == nil {
				continue
			}
			known, err := rooms.Known(ctx, d)
			if err != nil {
				return nil, err
			}
			all = append(all, enrolled{Door: *d, known: known, ready: slices.Contains(known.Keys, needed)})
		}
	}
	return all, nil
}
