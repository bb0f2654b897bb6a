package redistest

import (
	"bytes"
	"errors"
	"strconv"
)

// Both halves of the Redis protocol (RESP2 and RESP3) arrive in pieces of any
// size: a pipeline is larger than one Write, a reply larger than one Read.

var errProtocol = errors.New("redistest: not the Redis protocol")

// requestReader cuts what a client writes into commands.
type requestReader struct {
	rest []byte // a command of which the end is still to come
}

// feed takes the next piece and returns the commands that it completes, each as
// its arguments, the name first.
func (r *requestReader) feed(piece []byte) ([][][]byte, error) {
	r.rest = append(r.rest, piece...)
	var commands [][][]byte
	for {
		args, size, err := parseCommand(r.rest)
		if size == 0 || err != nil {
			return commands, err
		}
		commands = append(commands, args)
		r.rest = r.rest[size:]
	}
}

// parseCommand reads the array of bulk strings at the start of b; size is 0 when
// it is not complete.
func parseCommand(b []byte) (args [][]byte, size int, err error) {
	n, pos, err := parseHeader(b, '*')
	if pos == 0 || err != nil {
		return nil, 0, err
	}
	for range n {
		length, header, err := parseHeader(b[pos:], '$')
		if header == 0 || err != nil {
			return nil, 0, err
		}
		pos += header
		if len(b) < pos+length+len("\r\n") {
			return nil, 0, nil
		}
		args = append(args, b[pos:pos+length])
		pos += length + len("\r\n")
	}
	return args, pos, nil
}

// parseHeader reads a line such as "*3\r\n"; size is 0 when it is not complete.
func parseHeader(b []byte, kind byte) (n, size int, err error) {
	if len(b) > 0 && b[0] != kind {
		return 0, 0, errProtocol
	}
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return 0, 0, nil
	}
	n, err = strconv.Atoi(string(b[1:end]))
	if err != nil || n < 0 {
		return 0, 0, errProtocol
	}
	return n, end + len("\r\n"), nil
}

// replyReader follows the replies of a server without keeping them.
type replyReader struct {
	kind   byte   // first byte of the reply under way
	values int    // that are still missing from it; 0 between replies
	line   []byte // the header line under way
	skip   int    // bytes of a bulk string still to come, its line end included
}

// feed takes the next piece and returns, for each reply that it completes,
// whether it was an error. Push messages (RESP3) answer no command and are left
// out.
func (r *replyReader) feed(piece []byte) (errored []bool, err error) {
	for len(piece) > 0 {
		if r.skip > 0 {
			n := min(r.skip, len(piece))
			r.skip -= n
			piece = piece[n:]
			if r.skip > 0 {
				return errored, nil
			}
		} else {
			end := bytes.IndexByte(piece, '\n')
			if end < 0 {
				r.line = append(r.line, piece...)
				return errored, nil
			}
			r.line = append(r.line, piece[:end+1]...)
			piece = piece[end+1:]
			if err := r.header(r.line); err != nil {
				return errored, err
			}
			r.line = r.line[:0]
			if r.skip > 0 {
				continue
			}
		}
		r.values--
		if r.values == 0 && r.kind != '>' {
			errored = append(errored, r.kind == '-' || r.kind == '!')
		}
	}
	return errored, nil
}

// header notes what a header line says is to follow it. Attributes (RESP3) are
// unknown to it: Redis sends them to DEBUG PROTOCOL only.
func (r *replyReader) header(line []byte) error {
	if len(line) < len("_\r\n") {
		return errProtocol
	}
	if r.values == 0 {
		r.kind, r.values = line[0], 1
	}
	switch kind := line[0]; kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return nil
	case '$', '!', '=', '*', '~', '>', '%':
		n, err := strconv.Atoi(string(line[1 : len(line)-len("\r\n")]))
		if err != nil || n < -1 {
			return errProtocol
		}
		switch {
		case n == -1: // a RESP2 null has nothing more
		case kind == '$' || kind == '!' || kind == '=':
			r.skip = n + len("\r\n")
		case kind == '%':
			r.values += 2 * n
		default:
			r.values += n
		}
		return nil
	}
	return errProtocol
}
