package main

import (
	"bytes"
	"testing"

	"latchkey/cmd/latchkey/sample"
)

func TestFileIsAsGenerated(t *testing.T) {
	want := bytes.Split(day(), []byte("\n"))
	got := bytes.Split(sample.Day(), []byte("\n"))
	if len(got) != len(want) {
		t.Errorf("day.ndjson has %d lines, gen writes %d; run go generate ./cmd/latchkey/sample", len(got)-1, len(want)-1)
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("line %d of day.ndjson\n is  %s\n gen %s\nrun go generate ./cmd/latchkey/sample", i+1, got[i], want[i])
		}
	}
}
