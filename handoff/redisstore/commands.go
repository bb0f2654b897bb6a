package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/storage"
)

// The calls of this file send commands that may be sent again: what runs twice leaves what
// it left the first time. Their names say whether they read or write: a write is done when the
// replicas have it that must. What must not be repeated (a commit, an append to the log) is sent
// by lanes.commit alone.

// line is one command: its name and its arguments.
type line []any

// command is a type of go-redis's commands whose answers are a V.
type command[V any] interface {
	redis.Cmder
	Val() V
}

// read sends a command that changes nothing and returns its answer: the zero V where Redis
// has none. cmd is a constructor of go-redis's, such as redis.NewStringCmd, and says of
// which type the answer is.
func read[V any, C command[V]](ctx context.Context, s *Store, cmd func(context.Context, ...any) C, args ...any) (V, error) {
	return answer(sendAll[V](ctx, s, s.lanes.do, cmd, line(args)))
}

// readEach is read of several commands of one type in one trip. Their answers come in their order.
func readEach[V any, C command[V]](ctx context.Context, s *Store, cmd func(context.Context, ...any) C, lines ...line) ([]V, error) {
	return sendAll[V](ctx, s, s.lanes.do, cmd, lines...)
}

// write sends commands that change something, in one trip, where no answer is asked for.
func (s *Store) write(ctx context.Context, lines ...line) error {
	_, err := sendAll[any](ctx, s, s.lanes.commit, redis.NewCmd, lines...)
	return err
}

// writeFor is write of one command whose answer is asked for. After a lost answer it is
// that of the second time.
func writeFor[V any, C command[V]](ctx context.Context, s *Store, cmd func(context.Context, ...any) C, args ...any) (V, error) {
	return answer(sendAll[V](ctx, s, s.lanes.commit, cmd, line(args)))
}

// writeEach is writeFor of several commands of one type in one trip.
func writeEach[V any, C command[V]](ctx context.Context, s *Store, cmd func(context.Context, ...any) C, lines ...line) ([]V, error) {
	return sendAll[V](ctx, s, s.lanes.commit, cmd, lines...)
}

// writeScript runs a script, which changes something, and returns its answer.
func (s *Store) writeScript(ctx context.Context, sc *script, keys []string, args ...any) (any, error) {
	var call *scriptCall
	err := s.repeatable(ctx, s.lanes.commit, func() []redis.Cmder {
		call = sc.call(ctx, keys, args...)
		return []redis.Cmder{call}
	})
	if err != nil {
		return nil, err
	}
	return call.Val(), nil
}

// writeIf is writeScript of a script that answers 1 if it wrote, and 0 if something else
// stood there.
func (s *Store) writeIf(ctx context.Context, sc *script, keys []string, args ...any) (bool, error) {
	reply, err := s.writeScript(ctx, sc, keys, args...)
	return reply == int64(1), err
}

func answer[V any](answers []V, err error) (V, error) {
	if err != nil {
		var none V
		return none, err
	}
	return answers[0], nil
}

func sendAll[V any, C command[V]](ctx context.Context, s *Store, send sending, cmd func(context.Context, ...any) C, lines ...line) ([]V, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	sent := make([]C, len(lines))
	err := s.repeatable(ctx, send, func() []redis.Cmder {
		cmds := make([]redis.Cmder, len(lines))
		for i, l := range lines {
			sent[i] = cmd(ctx, l...)
			cmds[i] = sent[i]
		}
		return cmds
	})
	if err != nil {
		return nil, err
	}
	answers := make([]V, len(sent))
	for i, c := range sent {
		answers[i] = c.Val()
	}
	return answers, nil
}

// tries is how often repeatable commands are sent. go-redis does not repeat a pipeline that
// also carries another caller's commit.
const tries = 3

// sending is lanes.do for what reads or need not last, and lanes.commit for writes.
type sending func(context.Context, ...redis.Cmder) error

// repeatable sends commands that may be sent again, reads or writes, in one trip; build makes
// them anew for each try. An error of the connection is tried again, an error reply is not.
func (s *Store) repeatable(ctx context.Context, send sending, build func() []redis.Cmder) error {
	var err error
	for range tries {
		cmds := build()
		if err := send(ctx, cmds...); err != nil {
			return unavailable(saidTo(cmds[0], err)) // the caller, the store or a replica is gone
		}
		err = nil
		for _, cmd := range cmds {
			if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) {
				err = saidTo(cmd, e)
			}
		}
		if err == nil || isReply(err) || ctx.Err() != nil {
			break
		}
	}
	return unavailable(err)
}

// fault is what Redis, or the way to it, said to a command.
type fault struct {
	command string // its name, and the kind of its key
	cause   error
}

func saidTo(cmd redis.Cmder, err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	name := cmd.Name()
	if key := keyOf(cmd); key != "" {
		name += " " + keyKind(key)
	}
	return &fault{name, err}
}

// keyOf is the first key of a command, in whose slot all its keys are. Empty: it has none.
func keyOf(cmd redis.Cmder) string {
	if c, ok := cmd.(*scriptCall); ok {
		return c.key
	}
	for _, arg := range cmd.Args() {
		if key, _ := arg.(string); strings.HasPrefix(key, prefix) {
			return key
		}
	}
	return ""
}

// Error leaves out what Redis repeats of a command that it does not know: its arguments
// may be a person's id.
func (f *fault) Error() string {
	said, _, _ := strings.Cut(f.cause.Error(), ", with args beginning with")
	return f.command + ": " + said
}

func (f *fault) Unwrap() error { return f.cause }

func unavailable(err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
}

// failed is the error of a command that was sent on its own; nil if it has none.
func failed(cmd redis.Cmder) error { return unavailable(saidTo(cmd, cmd.Err())) }

// conflict says that something else stood where a script was to write. Nothing was written.
func conflict(call redis.Cmder) error {
	if said := saidTo(call, call.Err()); said != nil {
		return fmt.Errorf("%w: %w", storage.ErrConflict, said)
	}
	return storage.ErrConflict
}

// unknownOutcome says that a command was sent which may have written.
func unknownOutcome(cmd redis.Cmder, err error) error {
	return fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, saidTo(cmd, err))
}
