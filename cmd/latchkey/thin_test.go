package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/notify"
)

// An outage of the mail server of five minutes, with 84,000 mails that wait: a line a minute of
// each cause, that together count all of them.
func TestAnOutageIsToldOnceAMinute(t *testing.T) {
	var out output
	clock := handofftest.NewClock(handofftest.Noon)
	h := newThin(slog.NewJSONHandler(&out, nil), clock.Elapsed)
	log := slog.New(h)
	m, err := newInstruments()
	if err != nil {
		t.Fatal(err)
	}
	o := groupObserver{m, "mail", log.With("instance", "a")}
	const tries, minutes = 84_000, 5
	for i := range tries {
		o.Retried(handoff.EventDispatched, notify.Reason{Class: "connect"})
		if i%2000 == 0 {
			o.LogFailed("Take", errors.New("no answer"))
			o.Retried(handoff.EventReleased, notify.Reason{Class: "timeout"})
		}
		if i%280 == 0 { // a second has passed
			clock.Advance(time.Second)
			if err := h.tell(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	log.Warn("another line")
	log.Warn("another line")
	if err := h.tell(t.Context(), true); err != nil { // as when it stops
		t.Fatal(err)
	}
	lines, counted := map[string]int{}, map[string]int{}
	for line := range strings.Lines(out.String()) {
		var l struct {
			Msg, Reason string
			Instance    string
			Times       int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		lines[l.Msg+" "+l.Reason]++
		counted[l.Msg+" "+l.Reason] += max(l.Times, 1)
		if l.Msg != "another line" && l.Instance != "a" {
			t.Errorf("%s lacks what the logger adds", line)
		}
	}
	for cause, want := range map[string]int{
		"an event will be tried again connect": tries, "an event will be tried again timeout": tries / 2000, "the event log did not answer ": tries / 2000,
	} {
		if n := lines[cause]; n < minutes || n > minutes+2 || counted[cause] != want {
			t.Errorf("%s: %d lines for %d, want %d to %d for %d", cause, n, counted[cause], minutes, minutes+2, want)
		}
	}
	if lines["another line "] != 2 {
		t.Errorf("a line that does not repeat by itself came %d times", lines["another line "])
	}
}

// A chain that was tampered with is told apart from one that cannot be written, and from another.
func TestTamperingIsNotThinned(t *testing.T) {
	var out output
	h := newThin(slog.NewJSONHandler(&out, nil), handofftest.NewClock(handofftest.Noon).Elapsed)
	log := slog.New(h)
	for _, what := range []string{"no answer", "building:b1 is forged", "building:b2 is forged", "no answer"} {
		log.Warn("the log was not chained", "error", errors.New(what))
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

// The table names lines that are written.
func TestRepeatingLinesExist(t *testing.T) {
	var source strings.Builder
	for _, pattern := range []string{"*.go", "../../api/*.go", "../../handoff/redisstore/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") || f == "thin.go" {
				continue
			}
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(content)
		}
	}
	for message := range repeating {
		if !strings.Contains(source.String(), `"`+message+`"`) {
			t.Errorf("no line says %q", message)
		}
	}
}
