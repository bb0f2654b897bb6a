package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/keyring"
	"latchkey/notify/mail/bounce"
)

// bounceCmd takes what a mail server reports of a mail with a code. It is run by the mail server, from
// a pipe, once for each message.
type bounceCmd struct {
	redisAt

	Keyset    string        `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`
	Policy    string        `required:"" env:"LATCHKEY_POLICY" placeholder:"FILE" type:"path" help:"The service's rules (${env})."`
	Retention time.Duration `env:"LATCHKEY_RETENTION" default:"720h" help:"The service's retention (${env})."`

	Recipients []string `arg:"" optional:"" name:"recipient" help:"To whom the message was sent: the address with the token. Left out: it is looked for in the message."`
}

// exTempFail has the mail server try again (sysexits.h). Nothing else than 0 is answered besides: a
// message that changes nothing must not come back, and back again.
const exTempFail = 75

// tryAgain is an error with which the mail server tries again.
type tryAgain struct{ error }

func (t tryAgain) Unwrap() error { return t.error }

// ExitCode is what run exits with.
func (tryAgain) ExitCode() int { return exTempFail }

// Run reads one message. It says on one line what came of it, without an address.
func (c *bounceCmd) Run(ctx context.Context, io streams) error {
	report, err := bounce.Read(io.input(), c.Recipients)
	switch {
	case err != nil:
		fmt.Fprintln(io.err, "latchkey: bounce: not a message; nothing changed")
		return nil
	case report.State == handoff.MailNone:
		fmt.Fprintln(io.err, "latchkey: bounce: no report that a mail failed or was delivered; nothing changed")
		return nil
	}
	known, err := c.record(ctx, report)
	switch {
	case err != nil:
		return tryAgain{fmt.Errorf("bounce: %w", err)}
	case !known:
		fmt.Fprintln(io.err, "latchkey: bounce: no token of this service, or its handoff is gone; nothing changed")
	default:
		fmt.Fprintf(io.err, "latchkey: bounce: %s %s\n", report.State, report.Status)
	}
	return nil
}

// record tells the service.
func (c *bounceCmd) record(ctx context.Context, report bounce.Report) (known bool, err error) {
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return false, err
	}
	token := ""
	for _, t := range report.Tokens { // before Redis is asked
		if _, _, ok := handoff.ParseMailToken(ring, t); ok {
			token = t
			break
		}
	}
	if token == "" {
		return false, nil
	}
	_, grants, done, err := openService(&c.redisAt, ring, c.Policy, c.Retention)
	if err != nil {
		return false, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, bounceWithin)
	defer cancel()
	return grants.MailReported(ctx, token, report.State, report.Status)
}

// bounceWithin is less than mail servers give a pipe.
const bounceWithin = 30 * time.Second

// exitCodeOf is what a command's error has the program exit with.
func exitCodeOf(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}
