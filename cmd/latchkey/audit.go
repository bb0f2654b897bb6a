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
	"time"

	"latchkey/handoff"
	"latchkey/handoff/chain"
	"latchkey/handoff/keyring"
)

// auditCmd is for those who want to know whether the log was changed. docs/audit.md says
// what it proves.
type auditCmd struct {
	Key    auditKeyCmd    `cmd:"" help:"Print the key by which the heads of chains are known."`
	List   auditListCmd   `cmd:"" help:"List the chains."`
	Export auditExportCmd `cmd:"" help:"Write a chain to a file, for verify."`
	Verify auditVerifyCmd `cmd:"" help:"Verify an export, offline, and name the first entry that was changed, dropped or put elsewhere."`
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
	signer, err := handoff.AuditSigner(ring)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.out, signer.Key())
	return nil
}

type auditListCmd struct {
	RedisURL string `required:"" env:"LATCHKEY_REDIS_URL" help:"The service's Redis." placeholder:"URL"`
}

// Run lists the chains, with how many entries each has and its signed head.
func (c *auditListCmd) Run(ctx context.Context, io streams) error {
	store, done, err := openUnsealed(c.RedisURL)
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
	RedisURL string `required:"" env:"LATCHKEY_REDIS_URL" help:"The service's Redis." placeholder:"URL"`
	Out      string `placeholder:"FILE" type:"path" help:"Where to write; left out: standard output."`
	Chain    string `arg:"" help:"building:ID of a building's access log, log:00 to log:0f of the audit trail."`
}

// Run writes an export. It needs no keyset: nothing in a chain is sealed, and its heads
// are signed already.
func (c *auditExportCmd) Run(ctx context.Context, streams streams) error {
	store, done, err := openUnsealed(c.RedisURL)
	if err != nil {
		return err
	}
	defer done()
	if c.Out == "" {
		return c.write(ctx, store, streams.out)
	}
	f, err := os.CreateTemp(filepath.Dir(c.Out), ".audit-*")
	if err != nil {
		return err
	}
	if err = errors.Join(c.write(ctx, store, f), f.Close()); err == nil {
		err = os.Rename(f.Name(), c.Out)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (c *auditExportCmd) write(ctx context.Context, j handoff.Journal, out io.Writer) error {
	w := bufio.NewWriter(out)
	for text, err := range handoff.Export(ctx, j, c.Chain) {
		if err != nil {
			return fmt.Errorf("%s: %w", c.Chain, err)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return w.Flush()
}

type auditVerifyCmd struct {
	File string     `arg:"" help:"An export; - for standard input."`
	Key  *chain.Key `help:"Whose signature to believe: what latchkey audit key prints, or x of GET /v1/audit/keys." placeholder:"KEY"`
	Head []string   `help:"A head that somebody kept, as the log or a notice gave it. May be repeated." placeholder:"TEXT"`
}

// Run verifies an export. It asks nobody.
func (c *auditVerifyCmd) Run(streams streams) error {
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	o := chain.Options{Kept: c.Head}
	if c.Key != nil {
		o.Key = *c.Key
	}
	r, err := chain.Verify(in, o)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	date := func(t time.Time) string { return t.Format(time.RFC3339) }
	fmt.Fprintf(streams.out, "%s holds: %d entries", r.Head.Chain, r.Entries)
	if r.Entries > 0 {
		fmt.Fprintf(streams.out, ", %d to %d, from %s to %s", r.Cut.Seq+1, r.Head.Seq, date(r.First), date(r.Last))
	}
	fmt.Fprintf(streams.out, "; signed %s\n", date(time.Unix(r.Head.At, 0).UTC()))
	if r.Cut.Seq > 0 {
		fmt.Fprintf(streams.out, "entries 1 to %d were dropped by %s, their time being over\n", r.Cut.Seq, date(time.Unix(r.Cut.At, 0).UTC()))
	}
	if n := len(c.Head) - r.Before; n > 0 {
		fmt.Fprintf(streams.out, "%d kept heads agree\n", n)
	}
	if r.Before > 0 {
		fmt.Fprintf(streams.out, "%d kept heads are of entries that were dropped: they say nothing\n", r.Before)
	}
	if c.Key == nil {
		fmt.Fprintf(streams.out, "signed by %s: compare it with the key of the service, or give --key\n", r.Key)
	}
	return nil
}
