package headers_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"latchkey/api/headers"
)

func TestAcceptsGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"gzip": true, "gzip, deflate, br, zstd": true, "br;q=1.0, GZIP;q=0.5": true, "x-gzip": true, "*": true, "*;q=0, gzip": true,
		"": false, "br": false, "identity": false, "gzip;q=0": false, "gzip; q=0.000": false, "*, gzip;q=0": false, "*;q=0": false,
		"gzipped": false, "gzip;q=high": false, "gzip;level=9": false,
	} {
		if got := headers.AcceptsGzip(accept); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestGzip(t *testing.T) {
	content := []byte(strings.Repeat("the same again and again ", 200))
	for range 2 { // the second time with what the first one used
		packed := headers.Gzip(content)
		if len(packed) == 0 || len(packed) > len(content)/5 {
			t.Fatalf("%d bytes of %d", len(packed), len(content))
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, content) {
			t.Errorf("unpacked otherwise: %v", err)
		}
	}
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	if headers.Gzip(noise) != nil || headers.Gzip(content[:1000]) != nil || headers.Gzip(nil) != nil {
		t.Error("packed, though nothing is saved")
	}
}
