package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/keyring"
	"latchkey/handoff/trail"
)

// auditCmd is for those who want to know whether the log was changed. docs/audit.md says
// what it proves.
type auditCmd struct {
	Who    auditWhoCmd    `cmd:"" help:"Print the pseudonym by which the log names a person or a key."`
	Key    auditKeyCmd    `cmd:"" help:"Print the key by which the heads of chains are known."`
	List   auditListCmd   `cmd:"" help:"List the chains."`
	Export auditExportCmd `cmd:"" help:"Write a chain to a file, or all chains to a folder, for verify."`
	Verify auditVerifyCmd `cmd:"" help:"Verify an export, or a folder of them, offline, and name the first entry that was changed, dropped or put elsewhere."`
}

type auditWhoCmd struct {
	Keyset   string `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`
	Operator string `xor:"who" required:"" placeholder:"NAME" help:"Who gave a command, as --by or the machine named them."`
	APIKey   string `name:"api-key" xor:"who" required:"" placeholder:"ID" help:"An API key, by its id."`
	Subject  string `xor:"who" required:"" placeholder:"SUB" help:"Whom an issuer's tokens name, with --issuer."`
	Issuer   string `placeholder:"URL" help:"The issuer, as the file of issuers has it."`
}

// Run prints the pseudonym: who of an event is compared with it.
func (c *auditWhoCmd) Run(io streams) error {
	if (c.Subject == "") != (c.Issuer == "") {
		return errors.New("--subject and --issuer go together: two issuers may have the same subject")
	}
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return err
	}
	identity := operatorIdentity(c.Operator)
	switch {
	case c.APIKey != "":
		id, ok := auth.KeyID(c.APIKey)
		if !ok {
			return errors.New("--api-key: that is no id of a key")
		}
		identity = (&auth.Principal{Key: id}).Identity()
	case c.Subject != "":
		identity = (&auth.Principal{Issuer: c.Issuer, Subject: auth.SubjectID(ring, c.Issuer, c.Subject)}).Identity()
	}
	fmt.Fprintln(io.out, handoff.Pseudonym(ring, "who", identity))
	return nil
}

type auditKeyCmd struct {
	Keyset string `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`
}

// Run prints the public key.
func (c *auditKeyCmd) Run(io streams) error {
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return err
	}
	signer, err := trail.AuditSigner(ring)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.out, signer.Key())
	return nil
}

type auditListCmd struct {
	redisAt
}

// Run lists the chains, with how many entries each has and its signed head.
func (c *auditListCmd) Run(ctx context.Context, io streams) error {
	store, done, err := openUnsealed(&c.redisAt)
	if err != nil {
		return err
	}
	defer done()
	names, err := store.Chains(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		end, err := store.ChainEnd(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(io.out, "%s\t%d\t%s\n", name, end.Seq, end.Head)
	}
	return nil
}

type auditExportCmd struct {
	redisAt
	Out   string `placeholder:"FILE" type:"path" help:"Where to write; left out: standard output. Of all chains, a folder, which is made."`
	Chain string `arg:"" optional:"" help:"building:ID of a building's access log, log:00 to log:0f of the audit trail. Left out: all of them."`
}

// Run writes an export. It needs no keyset: nothing in a chain is sealed, and its heads
// are signed already.
func (c *auditExportCmd) Run(ctx context.Context, streams streams) error {
	if c.Chain == "" && c.Out == "" {
		return errors.New("all chains go to a folder: give --out")
	}
	store, done, err := openUnsealed(&c.redisAt)
	if err != nil {
		return err
	}
	defer done()
	switch {
	case c.Chain == "":
		return c.all(ctx, store, streams.out)
	case c.Out == "":
		return write(ctx, store, c.Chain, streams.out)
	}
	return writeFile(ctx, store, c.Chain, c.Out)
}

// exported is the ending of exports in a folder.
const exported = ".ndjson"

// all writes each chain to a file of its own.
func (c *auditExportCmd) all(ctx context.Context, j trail.Store, out io.Writer) error {
	names, err := j.Chains(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o700); err != nil {
		return err
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		file := filepath.Join(c.Out, strings.Replace(name, ":", "-", 1)+exported)
		if err := writeFile(ctx, j, name, file); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d chains\n", len(names))
	return nil
}

// writeFile writes an export, all of it or nothing.
func writeFile(ctx context.Context, j trail.Store, name, file string) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".audit-*")
	if err != nil {
		return err
	}
	if err = errors.Join(write(ctx, j, name, f), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func write(ctx context.Context, j trail.Store, name string, out io.Writer) error {
	w := bufio.NewWriter(out)
	for text, err := range trail.Export(ctx, j, name) {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return w.Flush()
}

type auditVerifyCmd struct {
	File string     `arg:"" help:"An export, or a folder of them; - for standard input."`
	Key  *trail.Key `help:"Whose signature to believe: what latchkey audit key prints, or x of GET /v1/audit/keys." placeholder:"KEY"`
	Head []string   `help:"A head that was kept, as the log or a notice gave it. May be repeated. Each has to be of a chain that is verified." placeholder:"TEXT"`
}

// Run verifies an export, or all of a folder. It needs no server.
func (c *auditVerifyCmd) Run(streams streams) error {
	var o trail.Options
	if c.Key != nil {
		o.Key = *c.Key
	}
	var reports []trail.Report
	if info, err := os.Stat(c.File); c.File != "-" && err == nil && info.IsDir() {
		if reports, err = c.folder(streams, o); err != nil {
			return err
		}
	} else {
		o.Kept = c.Head
		r, err := verify(streams, c.File, o)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	before := 0
	for i := range reports {
		describe(streams.out, &reports[i])
		before += reports[i].Before
	}
	if n := len(c.Head) - before; n > 0 {
		fmt.Fprintf(streams.out, "%d kept heads agree\n", n)
	}
	if before > 0 {
		fmt.Fprintf(streams.out, "%d kept heads are of entries that were dropped: they say nothing\n", before)
	}
	if c.Key == nil {
		fmt.Fprintf(streams.out, "signed by %s: compare it with the key of the service, or give --key\n", reports[0].Key)
	}
	return nil
}

// folder verifies every export in a folder. All have to be signed by one key, and each
// kept head has to be of one of them: else who takes a whole chain away is not found out.
func (c *auditVerifyCmd) folder(streams streams, o trail.Options) ([]trail.Report, error) {
	files, err := filepath.Glob(filepath.Join(c.File, "*"+exported))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no exports (*%s)", c.File, exported)
	}
	reports, of := make([]trail.Report, len(files)), map[string]int{}
	for i, file := range files {
		if reports[i], err = verify(streams, file, o); err != nil {
			return nil, err
		}
		name := reports[i].Head.Chain
		if first, twice := of[name]; twice {
			return nil, fmt.Errorf("%s: %s was exported twice, see %s", file, name, files[first])
		}
		o.Key, of[name] = reports[i].Key, i
	}
	kept := map[int][]string{}
	for _, text := range c.Head {
		h, err := o.Key.VerifyHead(text)
		if err != nil {
			return nil, fmt.Errorf("a kept head: %w", err)
		}
		i, here := of[h.Chain]
		if !here {
			return nil, fmt.Errorf("a kept head is of %s, of which there is no export in %s", h.Chain, c.File)
		}
		kept[i] = append(kept[i], text)
	}
	for i, heads := range kept {
		o.Kept = heads
		if reports[i], err = verify(streams, files[i], o); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

func verify(streams streams, file string, o trail.Options) (trail.Report, error) {
	in, err := streams.open(file)
	if err != nil {
		return trail.Report{}, err
	}
	defer in.Close()
	r, err := trail.Verify(in, o)
	if err != nil {
		return trail.Report{}, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// describe says what holds.
func describe(out io.Writer, r *trail.Report) {
	date := func(t time.Time) string { return t.Format(time.RFC3339) }
	fmt.Fprintf(out, "%s holds: %d entries", r.Head.Chain, r.Entries)
	if r.Entries > 0 {
		fmt.Fprintf(out, ", %d to %d, from %s to %s", r.Cut.Seq+1, r.Head.Seq, date(r.First), date(r.Last))
	}
	fmt.Fprintf(out, "; signed %s\n", date(time.Unix(r.Head.At, 0).UTC()))
	if r.Cut.Seq > 0 {
		fmt.Fprintf(out, "entries 1 to %d were dropped by %s, their time being over\n", r.Cut.Seq, date(time.Unix(r.Cut.At, 0).UTC()))
	}
}
