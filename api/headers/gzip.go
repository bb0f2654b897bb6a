package headers

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// AcceptsGzip reports whether a request with this Accept-Encoding takes gzip (RFC 9110 section
// 12.5.3). A weight of zero is no.
func AcceptsGzip(accept string) bool {
	any := false
	for coding := range strings.SplitSeq(accept, ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		taken := weight(parameters) > 0
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return taken
		case "*":
			any = taken
		}
	}
	return any
}

// weight is the q of a coding; one that cannot be read is 0.
func weight(parameters string) float64 {
	name, value, given := strings.Cut(strings.TrimSpace(parameters), "=")
	if !given {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0
	}
	return q
}

// worthPacking is from how many bytes on an answer is packed: what fits into one packet is sent
// in one.
const worthPacking = 1400

var packers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// Gzip is content packed for one answer; nil where that saves nothing. It is for answers that
// hold no code and no token: how long packed content is tells what is in it (BREACH).
func Gzip(content []byte) []byte {
	if len(content) < worthPacking {
		return nil
	}
	var b bytes.Buffer
	z := packers.Get().(*gzip.Writer)
	defer packers.Put(z)
	z.Reset(&b)
	_, _ = z.Write(content) // a buffer takes everything
	_ = z.Close()
	if b.Len() > len(content)*9/10 {
		return nil
	}
	return b.Bytes()
}
