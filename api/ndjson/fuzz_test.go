package ndjson_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"latchkey/api/ndjson"
)

type cut struct {
	number int
	data   string
	long   bool
}

func lines(t *testing.T, in io.Reader) (all []cut) {
	r := ndjson.NewReader(in)
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cut{l.Number, string(l.Data), l.TooLong})
	}
}

// However a file comes in, whole or byte by byte, it has the same lines, in rising order, none of
// which is blank or holds an end of line.
func FuzzReader(f *testing.F) {
	for _, file := range []string{"{}\n{}\r\n{}\r{}", "\ufeff{}\n\ufeff\n{}\ufeff{}", "\n \r\n\t{\"a\":\"\ufeff\"}", ""} {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		whole, bit := lines(t, bytes.NewReader(file)), lines(t, iotest.OneByteReader(bytes.NewReader(file)))
		if len(whole) != len(bit) {
			t.Fatalf("%q has %d lines as a whole and %d byte by byte", file, len(whole), len(bit))
		}
		last := 0
		for i, l := range whole {
			if l != bit[i] || l.number <= last || !l.long && (l.data == "" || bytes.ContainsAny([]byte(l.data), "\r\n")) {
				t.Errorf("%q: line %d is %+v, and %+v byte by byte", file, i, l, bit[i])
			}
			last = l.number
		}
	})
}
