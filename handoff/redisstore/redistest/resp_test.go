package redistest

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// pieces cuts s into slices of at most size bytes.
func pieces(s string, size int) [][]byte {
	return slices.Collect(slices.Chunk([]byte(s), size))
}

func TestRequestReader(t *testing.T) {
	const stream = "*1\r\n$4\r\nPING\r\n" +
		"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n" +
		"*2\r\n$4\r\nINCR\r\n$5\r\nINCR2\r\n"
	want := []string{"PING", "SET||a\r\nb", "INCR|INCR2"}

	for size := 1; size <= len(stream); size++ {
		var r requestReader
		var got []string
		for _, piece := range pieces(stream, size) {
			commands, err := r.feed(piece)
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range commands {
				var s []string
				for _, a := range args {
					s = append(s, string(a))
				}
				got = append(got, strings.Join(s, "|"))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: got %q, want %q", size, got, want)
		}
	}
}

func TestReplyReader(t *testing.T) {
	for _, tt := range []struct {
		stream string
		want   []bool // errored
	}{
		{"+OK\r\n:1\r\n", []bool{false, false}},
		{"-NOSCRIPT no matching script\r\n+OK\r\n", []bool{true, false}},
		{"$0\r\n\r\n$6\r\n-ERR\r\n\r\n", []bool{false, false}},
		{"$-1\r\n*-1\r\n*0\r\n_\r\n", []bool{false, false, false, false}},
		{"*2\r\n*2\r\n:1\r\n$1\r\na\r\n*0\r\n+OK\r\n", []bool{false, false}},
		{"*2\r\n+OK\r\n-ERR in a transaction\r\n", []bool{false}},
		{"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n#t\r\n,1.5\r\n(123\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n", []bool{false, false, false, false, true}},
		{">2\r\n+invalidate\r\n*1\r\n+key\r\n:7\r\n", []bool{false}},
	} {
		for size := 1; size <= len(tt.stream); size++ {
			var r replyReader
			var got []bool
			for _, piece := range pieces(tt.stream, size) {
				errored, err := r.feed(piece)
				if err != nil {
					t.Fatalf("%q: %v", tt.stream, err)
				}
				got = append(got, errored...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q in pieces of %d: got %v, want %v", tt.stream, size, got, tt.want)
			}
		}
	}
}

func TestProtocolErrors(t *testing.T) {
	for _, s := range []string{"PING\r\n", "*x\r\n", "*1\r\n+PING\r\n", "*-1\r\n"} {
		var r requestReader
		if _, err := r.feed([]byte(s)); !errors.Is(err, errProtocol) {
			t.Errorf("request %q: got %v, want %v", s, err, errProtocol)
		}
	}
	for _, s := range []string{"\n", "HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "*-2\r\n"} {
		var r replyReader
		if _, err := r.feed([]byte(s)); !errors.Is(err, errProtocol) {
			t.Errorf("reply %q: got %v, want %v", s, err, errProtocol)
		}
	}
}
