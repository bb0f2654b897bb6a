package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/cmd/latchkey/sample"
)

// The program counts the lines of a file as the service does, however it was written.
func TestDispatchCountsLinesAsTheServiceDoes(t *testing.T) {
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T04:00:00Z", "--empty")
	c := client{t, demo.url(t)}
	warehouse := c.token(`{"scope":"dispatch","sub":"w1"}`)
	day := bytes.Split(bytes.TrimSpace(sample.Day()), []byte("\n"))
	line := func(n int) string { return string(bytes.TrimSpace(day[n])) }
	const bom = "\ufeff"
	for i, test := range []struct {
		name, file string
		want       string
		code       int
	}{
		{"empty", "", "0 lines: 0 new, 0 known before, 0 refused", 0},
		{"only a mark", bom, "0 lines: 0 new, 0 known before, 0 refused", 0},
		{"only blank lines", bom + "\r\n \r\t\n\r", "0 lines: 0 new, 0 known before, 0 refused", 0},
		{"CR LF and blank lines", bom + line(0) + "\r\n\r\n  " + line(1) + "  \r\n" + line(2), "3 lines: 3 new, 0 known before, 0 refused", 0},
		{"CR alone", line(3) + "\r" + line(4) + "\r", "2 lines: 2 new, 0 known before, 0 refused", 0},
		{"joined", bom + line(0) + "\n" + line(1) + "\n" + bom + line(2) + "\n", "3 lines: 0 new, 3 known before, 0 refused", 0},
		{"joined without an end", bom + line(0) + bom + line(1) + "\n" + bom + bom + line(2), "3 lines: 0 new, 3 known before, 0 refused", 0},
		{"a long blank line", line(0) + "\n" + strings.Repeat(" ", 70_000) + "\n" + line(1) + "\n", "3 lines: 0 new, 2 known before, 1 refused", 1},
		{"one refused", line(0) + "\r\r" + `{"parcel_id":"X"}` + "\r" + line(1), "line 3: invalid-request", 1},
	} {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i, ".ndjson"))
		if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := once("dispatch", file, "--url", c.url, "--token", strings.TrimPrefix(warehouse, "Bearer "), "--tries", "1")
		if code != test.code || !strings.Contains(out, test.want) {
			t.Errorf("%s: %d\n%s%s", test.name, code, out, errs)
		}
	}
}
