// Command latchkey hands high-value parcels to the right person.
//
//	latchkey demo                     the whole service on loopback, nothing else installed
//	latchkey serve                    the service on Redis and SMTP
//	latchkey dispatch FILE.ndjson     send a file of dispatches
//	latchkey door enroll|run          a door controller, on the small computer beside the lock
//	latchkey keys new|rotate          the keys that seal what is stored
//	latchkey apikey create|revoke     the keys by which machines call
//	latchkey sessions revoke          sign people's browsers out
//	latchkey outbox list|replay       mails and messages to doors that were given up
//	latchkey bounce                   note a mail that came back, from the mail server's pipe
//	latchkey erase                    forget a customer on request
//	latchkey restore begin|confirm    bring back a Redis that was put back to an earlier state
//	latchkey receipt verify           a signed receipt, without the service
//	latchkey audit export|verify      hash chains of what happened
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"latchkey/handoff/clock"
)

// cli is every command with its flags.
type cli struct {
	Demo     demoCmd     `cmd:"" help:"Run the whole service on loopback with sample data; nothing else needs to be installed."`
	Serve    serveCmd    `cmd:"" help:"Run the service on Redis and SMTP."`
	Dispatch dispatchCmd `cmd:"" help:"Send a file of dispatches (NDJSON) to a service. Sending it twice is harmless."`
	Door     doorCmd     `cmd:"" help:"Enroll a door and run it, on the small computer beside the lock."`
	Keys     keysCmd     `cmd:"" help:"Make and rotate the keys that seal what is stored."`
	APIKey   apiKeyCmd   `cmd:"" name:"apikey" help:"Make, list and revoke the keys by which machines call."`
	Sessions sessionsCmd `cmd:"" help:"Sign people's browsers out."`
	Outbox   outboxCmd   `cmd:"" help:"List and replay the mails that could not be sent."`
	Bounce   bounceCmd   `cmd:"" help:"Note what a mail server reports of a mail, read from its pipe."`
	Erase    eraseCmd    `cmd:"" help:"Forget a customer."`
	Subject  subjectCmd  `cmd:"" help:"Tell the id of a customer, courier or door whom an issuer calls by another name."`
	Restore  restoreCmd  `cmd:"" help:"Bring back a Redis that was put back to an earlier state."`
	Receipt  receiptCmd  `cmd:"" help:"Verify the signed receipt of a handoff."`
	Audit    auditCmd    `cmd:"" help:"Export and verify the hash chains of what happened."`

	Config  configFile       `help:"Read flags from a JSON file: {\"redis_url\": \"...\", ...}." placeholder:"FILE"`
	Version kong.VersionFlag `help:"Print the version."`
}

// streams are what a command reads and writes, so that tests can look over its shoulder.
type streams struct {
	in       io.Reader // nil: the process's own
	out, err io.Writer
	clock    clock.Clock // of this process; nil: the wall's
}

// input is what the process reads.
func (s streams) input() io.Reader {
	if s.in == nil {
		return os.Stdin
	}
	return s.in
}

// open opens a file; - is what the process reads.
func (s streams) open(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(s.input()), nil
	}
	return os.Open(file)
}

// now is the process's clock.
func (s streams) now() clock.Clock {
	if s.clock == nil {
		return wallClock{}
	}
	return s.clock
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit code: 0 done, 1 failed, 2 misused, 75 try again.
func run(ctx context.Context, args []string, io streams) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("latchkey"),
		kong.Description("Hands high-value parcels to the right person. Start with: latchkey demo"),
		kong.Vars{"version": version()},
		kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
	)
	if err != nil {
		panic(err) // the struct above is wrong
	}
	k, err := parser.Parse(args)
	if exit >= 0 { // --help or --version has answered
		return exit
	}
	if err != nil {
		fmt.Fprintf(io.err, "latchkey: %s\n", discreet(err))
		return 2
	}
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(io); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(io.err, "latchkey: %v\n", err)
		return exitCodeOf(err)
	}
	return 0
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "development"
	}
	return info.Main.Version
}
