package controller

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/handoff/door"
)

// Answer is what a reader program is told, one line of JSON for each line of its own:
//
//	BASE64URL               a permit: opened, refused or failed, when that is known
//	pin 12345678            the same, for a PIN
//	challenge               {"challenge": "BASE64URL"}, for the reader to show
//	contact open|closed     ok
//	tamper                  ok
//	recall BASE64URL        ok or refused
//	revocation BASE64URL    ok or refused
//	reports PERMIT          a [Bundle]: what the door said of the permit of this id
type Answer struct {
	Result    string `json:"result,omitzero"`    // opened (the lock has confirmed it), refused, failed or ok
	Reason    string `json:"reason,omitzero"`    // with refused, a door.Refusal; with failed: no-answer, not-confirmed, stopping, internal, no-challenge or no-presence-asked
	Challenge string `json:"challenge,omitzero"` // base64url, 16 bytes
}

// Bundle is what a courier's phone brings to the service from a door that has no network:
// signed reports about one permit, and with them the door's alarms, oldest first, base64url,
// at most 64. It is the body of POST /v1/doors/{door_id}/reports. The door keeps what it gave
// out, because only the service can say that it arrived. It gives a permit's reports only to
// a phone that knows the permit's id, so that a passer-by cannot ask when a courier came.
type Bundle struct {
	Reports []string `json:"reports"`
}

const (
	resultOpened  = "opened"
	resultRefused = "refused"
	resultFailed  = "failed"
	resultOK      = "ok"

	maxLine     = 1024 // bytes: a revocation list is the longest
	maxSessions = 16
)

// serveLines answers lines until there are no more.
func (c *Controller) serveLines(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReaderSize(in, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if line = trim(line); len(line) > 0 {
			if err := c.serveLine(ctx, line, long, out); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

func trim(b []byte) []byte { return bytes.TrimSpace(b) }

// serveLine answers one line. A controller that stops waits for it, so that a courier who was
// let in is told.
func (c *Controller) serveLine(ctx context.Context, line []byte, long bool, out io.Writer) error {
	if !c.answering.begin() {
		return context.Canceled
	}
	defer c.answering.end()
	var answer any = Answer{Result: resultRefused, Reason: door.Malformed.String()}
	var about door.PermitID
	if word, id, _ := strings.Cut(string(line), " "); word == "reports" && about.UnmarshalText([]byte(id)) == nil {
		answer = c.bundle(about)
	} else if !long {
		answer = c.answer(ctx, string(line))
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}

func (c *Controller) answer(ctx context.Context, line string) Answer {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "challenge":
		return c.challenge()
	case "pin":
		return c.ask(ctx, request{pin: rest})
	case "contact", "tamper":
		signal, known := map[string]Signal{"contact open": ContactOpen, "contact closed": ContactClosed, "tamper": Tampered}[line]
		if !known {
			break
		}
		c.tell(ctx, signal)
		return Answer{Result: resultOK}
	case "recall", "revocation":
		raw, err := base64url.DecodeString(rest)
		if err != nil {
			break
		}
		return refusal(c.take(event{word, raw}))
	default:
		raw, err := base64url.DecodeString(line)
		if err != nil {
			break
		}
		return c.ask(ctx, request{permit: raw})
	}
	return Answer{Result: resultRefused, Reason: door.Malformed.String()}
}

func (c *Controller) challenge() Answer {
	if c.folder.challenges == nil {
		return Answer{Result: resultFailed, Reason: "no-presence-asked"}
	}
	b, err := c.folder.challenges.Next(c.clock.Now())
	if err != nil {
		c.log.Error("no challenge could be made", "error", err)
		return Answer{Result: resultFailed, Reason: "no-challenge"}
	}
	return Answer{Challenge: base64url.EncodeToString(b)}
}

func (c *Controller) bundle(permit door.PermitID) Bundle {
	b := Bundle{Reports: []string{}}
	for _, r := range c.folder.outbox.About(permit, reportsAtOnce) {
		b.Reports = append(b.Reports, base64url.EncodeToString(r.Raw))
	}
	return b
}

// refusal is the answer to an error that wraps a door.Refusal or is nil.
func refusal(err error) Answer {
	var r door.Refusal
	switch {
	case err == nil:
		return Answer{Result: resultOK}
	case errors.As(err, &r):
		return Answer{Result: resultRefused, Reason: r.String()}
	default:
		return Answer{Result: resultFailed, Reason: "internal"}
	}
}

// serveSocket answers reader programs on a local socket until ctx ends.
func (c *Controller) serveSocket(ctx context.Context, ln net.Listener) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	slots := make(chan struct{}, maxSessions)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil {
				c.log.Error("the socket broke", "error", err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		sessions.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			// A stop breaks off the waiting for a line, not the answer to one.
			defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
			if err := c.serveLines(ctx, conn, timedConn{conn}); err != nil && ctx.Err() == nil {
				c.log.Warn("a reader was lost", "error", err)
			}
		})
	}
}

// timedConn gives a reader program five seconds to read an answer.
type timedConn struct{ net.Conn }

func (c timedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// inFlight counts the answers that are under way. After close no further one begins.
type inFlight struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *inFlight) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *inFlight) end() { g.inside.Done() }

func (g *inFlight) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
