// Package ndjson cuts a file of JSON values into its lines. The service and the program
// that sends it files count lines by it alike: what one calls line 7 is line 7 to the other.
package ndjson

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Line is a line that is not blank.
type Line struct {
	Number  int    // from 1, blank lines counted
	Data    []byte // without white space around it, until the next call of Next. Empty where TooLong
	TooLong bool
}

// MaxLine is how many bytes a line may have, white space around it counted.
const MaxLine = 64 << 10

// Reader reads lines. A line ends with LF, CR or CR LF, or with the file; a byte order mark
// outside of a string ends one, too. That is where files were joined: at the start of a
// line it stands before nothing, and else the file before had no end of line.
type Reader struct {
	in     *bufio.Reader
	line   []byte // what was read of the present line
	rest   []byte // what follows a byte order mark in it
	joined bool   // rest is there
	number int
	skipLF bool // the last line ended with CR
	over   bool // the file has ended: what it is read from need not say so twice
}

// NewReader makes a Reader.
func NewReader(in io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(in, MaxLine)} }

// Next is the next line that is not blank. The error is io.EOF after the last line. Of any
// other error the line is the one in which it happened, and what was read of it is lost.
func (r *Reader) Next() (Line, error) {
	for {
		data, tooLong, more, err := r.cut()
		if err != nil {
			return Line{Number: r.number + 1}, err
		}
		if data = bytes.TrimSpace(data); more || tooLong || len(data) > 0 {
			r.number++
		}
		switch {
		case tooLong:
			return Line{Number: r.number, TooLong: true}, nil
		case len(data) > 0:
			return Line{Number: r.number, Data: data}, nil
		case !more:
			return Line{}, io.EOF
		}
	}
}

// cut takes off one line, blank or not. more says that it was not the end of the file that
// ended it.
func (r *Reader) cut() (data []byte, tooLong, more bool, err error) {
	if r.joined {
		data, r.joined = r.rest, false
		more = true
	} else if data, tooLong, more, err = r.read(); err != nil || tooLong {
		return nil, tooLong, more, err
	}
	for {
		i := seam(data)
		if i < 0 {
			return data, false, more, nil
		}
		before, after := data[:i], data[i+len(mark):]
		if len(bytes.TrimSpace(before)) > 0 {
			r.rest, r.joined = after, true
			return before, false, true, nil
		}
		data = after // the mark begins the line
	}
}

var mark = []byte("\xef\xbb\xbf")

// seam is where the first byte order mark stands outside of a string; -1 if none does.
func seam(line []byte) int {
	if !bytes.Contains(line, mark) {
		return -1
	}
	inString := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			inString = !inString
		case c == '\\' && inString:
			i++
		case !inString && bytes.HasPrefix(line[i:], mark):
			return i
		}
	}
	return -1
}

// read reads up to the end of a line, which it takes off. Of a line that is too long it
// keeps nothing.
func (r *Reader) read() (data []byte, tooLong, more bool, err error) {
	r.line = r.line[:0]
	for {
		if r.over {
			return r.line, tooLong, false, nil
		}
		_, err := r.in.Peek(1)
		if errors.Is(err, io.EOF) {
			r.over = true
			continue
		}
		if err != nil {
			return nil, false, false, err
		}
		chunk, _ := r.in.Peek(r.in.Buffered())
		if r.skipLF && chunk[0] == '\n' {
			chunk = chunk[1:]
			_, _ = r.in.Discard(1)
		}
		r.skipLF = false
		end := bytes.IndexAny(chunk, "\r\n")
		part := chunk
		if end >= 0 {
			part = chunk[:end]
		}
		if tooLong = tooLong || len(r.line)+len(part) > MaxLine; tooLong {
			r.line = r.line[:0]
		} else {
			r.line = append(r.line, part...)
		}
		if end >= 0 {
			r.skipLF = chunk[end] == '\r'
			_, _ = r.in.Discard(end + 1)
			return r.line, tooLong, true, nil
		}
		_, _ = r.in.Discard(len(chunk))
	}
}
