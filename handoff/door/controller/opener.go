package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Opener moves a lock. Nil means that the lock itself has confirmed it; any error, that
// nobody knows where it stands. Each must be harmless to do twice.
type Opener interface {
	Unlock(ctx context.Context) error
	Lock(ctx context.Context) error
}

// Signal is what a sensor tells.
type Signal uint8

// The signals of sensors.
const (
	ContactClosed Signal = iota + 1
	ContactOpen
	Tampered
)

// Watch runs a sensor until ctx ends. It tells the contact's state at the start, and
// whenever it may have changed; telling it again is harmless.
type Watch func(ctx context.Context, tell func(Signal))

// Command is an opener that runs programs. The lock is moved when a program exits with
// 0. They get no input, and of permits nothing.
type Command struct{ Open, Close Argv }

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
func (c Command) Unlock(ctx context.Context) error { return c.Open.run(ctx, nil) }

// Lock runs Close.
func (c Command) Lock(ctx context.Context) error { return c.Close.run(ctx, nil) }

func (a Argv) run(ctx context.Context, out io.Writer) error {
	cmd := exec.CommandContext(ctx, a[0], a[1:]...) // no shell
	apart(cmd)
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe must not keep the door
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", a[0], err)
	}
	return nil
}

const (
	contactEvery = 500 * time.Millisecond
	contactTakes = 5 * time.Second
)

// WatchCommand is a door contact that a program reads: it prints "open" or "closed" and
// exits with 0. Anything else says nothing, and failed is told of it.
func WatchCommand(read Argv, failed func(error)) Watch {
	return func(ctx context.Context, tell func(Signal)) {
		tick := time.NewTicker(contactEvery)
		defer tick.Stop()
		for {
			if s, err := readContact(ctx, read); err == nil {
				tell(s)
			} else if ctx.Err() == nil {
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
	if err := read.run(ctx, &limited{&out, 64}); err != nil {
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
