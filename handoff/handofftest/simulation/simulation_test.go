package simulation

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var write = flag.Bool("write", false, "write the tables into docs/threats.md")

const page, begin, end = "../../../docs/threats.md", "<!-- simulation: begin -->\n", "<!-- simulation: end -->"

// The tables of docs/threats.md are what this code prints, to the letter: the plays draw
// from a seeded source. After a change of the rules:
//
//	go test ./handoff/handofftest/simulation -run TestTheTables -write
func TestTheTables(t *testing.T) {
	var tables strings.Builder
	if err := Write(&tables); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	written, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the tables", page)
	}
	if *write {
		if err := os.WriteFile(page, []byte(before+begin+tables.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if written != tables.String() {
		t.Errorf("%s says\n%s\nand the simulation\n%s", page, written, tables.String())
	}
}
