package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program writes a shell script and gives the command that runs it.
func program(t testing.TB, script string) Argv {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Argv{path}
}

func TestCommand(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	c := Command{
		Open:  append(program(t, `printf '%s\n' "$@" >>"`+log+`"; cat >>"`+log+`"`), "a b", "$HOME; rm -rf /", "*"),
		Close: program(t, "exit 3"),
	}
	if err := c.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(got), "a b\n$HOME; rm -rf /\n*\n") // as they are, no shell between; and no input
	if err := c.Lock(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("exit code 3: %v", err)
	}
	if err := (Argv{"/no/such/program"}).run(t.Context(), nil, io.Discard); err == nil {
		t.Error("a missing program confirmed")
	}
}

func TestCommandThatHangs(t *testing.T) {
	hangs := program(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := hangs.run(ctx, nil, io.Discard); err == nil {
		t.Error("a program that was killed confirmed")
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("waited for %s", took)
	}
}

func TestArgv(t *testing.T) {
	var a Argv
	if err := a.UnmarshalText([]byte(" gpioset  gpiochip0 17=1 ")); err != nil {
		t.Fatal(err)
	}
	wants(t, fmt.Sprintf("%q", a), `["gpioset" "gpiochip0" "17=1"]`)
	if err := a.UnmarshalText([]byte("  ")); err == nil {
		t.Error("nothing is a command")
	}
}

func TestReadContact(t *testing.T) {
	for script, want := range map[string]Signal{
		"echo open": ContactOpen, "echo closed": ContactClosed, "printf open": ContactOpen,
		"echo open; exit 1": 0, "echo ajar": 0, "true": 0, "echo closed open": 0, "yes open | head -c 100000": 0,
	} {
		got, err := readContact(t.Context(), program(t, script))
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %v %v", script, got, err)
		}
	}
}

func TestWatchCommand(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	set := func(s string) {
		if err := os.WriteFile(state+".new", []byte(s), 0o600); err != nil {
			t.Error(err)
		}
		if err := os.Rename(state+".new", state); err != nil {
			t.Error(err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var told []Signal
	var failures []error
	WatchCommand(program(t, `cat "`+state+`"`), func(err error) { // there is no file at first
		failures = append(failures, err)
		set("closed")
	})(ctx, func(s Signal) {
		told = append(told, s)
		if set("open"); s == ContactOpen {
			stop()
		}
	})
	if len(failures) != 1 || len(told) != 2 || told[0] != ContactClosed || told[1] != ContactOpen {
		t.Errorf("told %v, failures %v", told, failures)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error(ctx.Err())
	}
}
