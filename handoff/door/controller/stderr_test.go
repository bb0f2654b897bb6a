package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the lock's program writes to its standard error is in the log, the last of it.
func TestCommandStderrIsLogged(t *testing.T) {
	log := &logBuffer{}
	c := Command{
		Open:  program(t, `echo "relay 3: no such device" >&2; exit 4`),
		Close: program(t, `i=0; while [ $i -lt 500 ]; do echo "line $i of many" >&2; i=$((i+1)); done; printf 'the last\377' >&2`),
		Log:   newLogger(log),
	}
	if err := c.Unlock(t.Context()); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("exit code 4: %v", err)
	}
	if !strings.Contains(log.String(), `"stderr":"relay 3: no such device","dropped_bytes":0`) {
		t.Errorf("the log: %s", log)
	}
	before := len(log.String())
	if err := c.Lock(t.Context()); err != nil {
		t.Errorf("a program that only complains: %v", err)
	}
	added := log.String()[before:]
	if len(added) > 2*maxStderr || !strings.Contains(added, `the last?"`) || strings.Contains(added, "line 0 ") || !strings.Contains(added, `"dropped_bytes":`) {
		t.Errorf("%d bytes: %s", len(added), added)
	}
	quiet := &logBuffer{}
	if err := (Command{Open: program(t, "true"), Log: newLogger(quiet)}).Unlock(t.Context()); err != nil || quiet.String() != "" {
		t.Errorf("a program that says nothing: %v, %s", err, quiet)
	}
}

// A program that is left running keeps its standard error open. It must neither hold the
// door nor be ended by its next word.
func TestCommandLeavesAProgramRunning(t *testing.T) {
	dir := t.TempDir()
	alive, end, ended := filepath.Join(dir, "alive"), filepath.Join(dir, "end"), filepath.Join(dir, "ended")
	c := Command{Open: program(t, fmt.Sprintf(`(
		i=0
		while [ ! -e %s ] && [ $i -lt 1000 ]; do echo word >&2 || exit 1; echo >>%s; i=$((i+1)); sleep 0.02; done
		echo >%s
	) </dev/null >/dev/null & exit 0`, end, alive, ended))}
	begun := time.Now()
	if err := c.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it held the door for %s", took)
	}
	size := func() int64 {
		info, err := os.Stat(alive)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	at := size()
	soon(t, func() (string, string) { return fmt.Sprint(size() > at+3), "true" })
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	soon(t, func() (string, string) {
		_, err := os.Stat(ended)
		return fmt.Sprint(err), "<nil>"
	})
}

// Whether a program that was ended in the middle has moved the lock, is not known.
func TestCommandEndedInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := (Command{Open: program(t, "exec sleep 60")}).Unlock(ctx); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("%v", err)
	}
}

// The same failure of a contact's program is not told twice a second.
func TestContactFailureIsToldOnce(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	read := program(t, `echo >>"`+runs+`"; echo "no gpio" >&2; exit 1`)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	var failures []error
	go func() {
		for ctx.Err() == nil {
			if content, _ := os.ReadFile(runs); len(content) >= 3 {
				stop()
			}
			pause(ctx, 10*time.Millisecond)
		}
	}()
	WatchCommand(read, func(err error) { failures = append(failures, err) })(ctx, func(Signal) {})
	if len(failures) != 1 || !strings.Contains(failures[0].Error(), `it wrote "no gpio"`) {
		t.Errorf("%v", failures)
	}
}
