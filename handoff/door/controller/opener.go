package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Opener moves a lock. Nil means that the lock itself has confirmed the movement. An error
// that wraps [ErrNoAnswer] means that it is not known whether the lock moved; any other
// error, that it did not, or not to its end. Each must be harmless to do twice.
type Opener interface {
	Unlock(ctx context.Context) error
	Lock(ctx context.Context) error
}

// ErrNoAnswer says that a lock did not say whether it moved.
var ErrNoAnswer = errors.New("the lock did not say")

// Signal is what a sensor tells.
type Signal uint8

// The signals of sensors.
const (
	ContactClosed Signal = iota + 1
	ContactOpen
	Tampered
	ForcedOpen  // the lock says that its door was forced open
	Jammed      // the lock says that its bolt or its door is stuck
	BatteryLow  // of the lock, or of a sensor beside it
	Unavailable // the lock cannot be reached
)

// Watch runs a sensor until ctx ends. It tells the contact's state at the start, and
// whenever it may have changed; telling it again is harmless.
type Watch func(ctx context.Context, tell func(Signal))

// Command is an opener that runs programs. The lock is moved when a program exits with
// 0; one that did not end in its time may have moved it ([ErrNoAnswer]). They get no input,
// and of permits nothing. What they write to their standard error goes to Log, the last
// 2048 bytes of each run; nil: nowhere.
type Command struct {
	Open, Close Argv
	Log         *slog.Logger
}

// Argv is a program and its arguments. As text they are divided by spaces; what needs
// quoting belongs into a script.
type Argv []string

// UnmarshalText reads the form for flags.
func (a *Argv) UnmarshalText(text []byte) error {
	if *a = strings.Fields(string(text)); len(*a) == 0 {
		return errors.New("a command is a program and its arguments")
	}
	return nil
}

// Unlock runs Open.
func (c Command) Unlock(ctx context.Context) error { return c.move(ctx, c.Open) }

// Lock runs Close.
func (c Command) Lock(ctx context.Context) error { return c.move(ctx, c.Close) }

func (c Command) move(ctx context.Context, program Argv) error {
	stderr := &lastBytes{limit: maxStderr}
	err := program.run(ctx, nil, stderr)
	if written, dropped := stderr.text(); written != "" && c.Log != nil {
		c.Log.Warn("the lock's program wrote", "program", program[0], "stderr", written, "dropped_bytes", dropped)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return err
}

const (
	maxStderr = 2048 // bytes of one run that are kept

	// stderrLag is how long the end of the standard error is waited for after its program has
	// ended: a program that it left running may keep it open.
	stderrLag = 100 * time.Millisecond
)

// run runs a program to its end. Out gets its standard output; nil: it goes nowhere.
func (a Argv) run(ctx context.Context, out, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, a[0], a[1:]...) // no shell
	apart(cmd)
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe must not keep the door
	// A pipe of our own: one that package exec made would be waited for, and closed under a
	// program that was left running, which would end it at its next word.
	from, to, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("%s: %w", a[0], err)
	}
	cmd.Stderr = to
	err = cmd.Start()
	_ = to.Close()
	if err != nil {
		_ = from.Close()
		return fmt.Errorf("%s: %w", a[0], err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer from.Close()
		_, _ = io.Copy(stderr, from)
	}()
	err = cmd.Wait()
	select {
	case <-read:
	case <-time.After(stderrLag):
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a[0], err)
	}
	return nil
}

// lastBytes keeps the last bytes that are written to it. It may be used concurrently.
type lastBytes struct {
	limit int

	mu      sync.Mutex
	kept    []byte
	dropped int
}

func (l *lastBytes) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b...)
	if over := len(l.kept) - l.limit; over > 0 {
		l.kept = append([]byte(nil), l.kept[over:]...)
		l.dropped += over
	}
	return len(b), nil
}

// text is what was kept, without the white space around it, and how many bytes before it
// were not.
func (l *lastBytes) text() (kept string, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(l.kept)), "?"), l.dropped
}

const (
	contactEvery = 500 * time.Millisecond
	contactTakes = 5 * time.Second
)

// WatchCommand is a door contact that a program reads: it prints "open" or "closed" and
// exits with 0. Anything else says nothing. Failed is told of it, and of the same again
// after a minute.
func WatchCommand(read Argv, failed func(error)) Watch {
	return func(ctx context.Context, tell func(Signal)) {
		tick := time.NewTicker(contactEvery)
		defer tick.Stop()
		var told string
		var toldAt time.Time
		for {
			if s, err := readContact(ctx, read); err == nil {
				told = ""
				tell(s)
			} else if ctx.Err() == nil && (err.Error() != told || time.Since(toldAt) >= time.Minute) {
				told, toldAt = err.Error(), time.Now()
				failed(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

func readContact(ctx context.Context, read Argv) (Signal, error) {
	ctx, cancel := context.WithTimeout(ctx, contactTakes)
	defer cancel()
	var out bytes.Buffer
	stderr := &lastBytes{limit: maxStderr}
	if err := read.run(ctx, &limited{&out, 64}, stderr); err != nil {
		if written, _ := stderr.text(); written != "" {
			err = fmt.Errorf("%w; it wrote %q", err, written)
		}
		return 0, err
	}
	switch strings.TrimSpace(out.String()) {
	case "open":
		return ContactOpen, nil
	case "closed":
		return ContactClosed, nil
	default:
		return 0, fmt.Errorf("%s printed neither open nor closed", read[0])
	}
}

// limited keeps the first bytes and swallows the rest.
type limited struct {
	to   io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	keep := b[:min(len(b), l.left)]
	l.left -= len(keep)
	if _, err := l.to.Write(keep); err != nil {
		return 0, err
	}
	return len(b), nil
}
