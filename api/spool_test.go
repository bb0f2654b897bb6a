package api

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// However much goes through a spool and however slow its reader is, all of it arrives in
// order, and the file stays as small as it was promised to.
func TestSpoolGoesRound(t *testing.T) {
	s := newSpool()
	s.room = 3 << 20
	defer s.close()
	const results = 100_000
	line := func(i int) []byte {
		return strconv.AppendInt([]byte("0123456789012345678901234567890123456789012345678901234567890123456789-"), int64(i), 10)
	}
	go func() {
		for i := range results {
			if !s.write(line(i)) {
				return
			}
		}
		s.end(io.EOF)
	}()
	for full := false; !full; runtime.Gosched() { // the reader is late
		s.mu.Lock()
		full = s.written-s.read > s.room-1024
		s.mu.Unlock()
	}
	var largest int64
	want, rest := 0, []byte(nil)
	p := make([]byte, 32<<10)
	for {
		n, err := s.Read(p)
		rest = append(rest, p[:n]...)
		for {
			l := line(want)
			if want == results || len(rest) < len(l) {
				break
			}
			if !bytes.HasPrefix(rest, l) {
				t.Fatalf("result %d is %q", want, rest[:len(l)])
			}
			rest, want = rest[len(l):], want+1
		}
		rest = append([]byte(nil), rest...)
		if s.file != nil {
			if info, statErr := s.file.Stat(); statErr == nil {
				largest = max(largest, info.Size())
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if want != results || len(rest) != 0 {
		t.Errorf("%d of %d results, and %d bytes", want, results, len(rest))
	}
	if s.written <= s.room || largest > s.room {
		t.Errorf("%d bytes went through a file of at most %d, want it to go round", s.written, largest)
	}
	if left, err := os.ReadDir(os.TempDir()); err == nil {
		for _, f := range left {
			if bytes.HasPrefix([]byte(f.Name()), []byte("latchkey-bulk-")) {
				t.Errorf("left %s behind", f.Name())
			}
		}
	}
}
