package redisstore

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// errClosed is returned by [lanes.do] after [lanes.close]. Nothing was sent.
var errClosed = errors.New("redisstore: closed")

// maxCalls bounds a batch: no caller's reply waits behind more than this many others.
const maxCalls = 64

// batchWithin bounds a batch, with all that go-redis tries again of it: no request waits longer,
// and a lane is wanted by others.
const batchWithin = 5 * time.Second

// lanes lets concurrent callers share pipelines, as a group commit shares disk writes. Each server
// has lanes of its own, so that one which is away or slow holds up none that waits for another
// (of a Cluster; otherwise there is one). A lane sends all that is queued for its server as one
// pipeline and waits for its replies; what arrives meanwhile is the next batch. There is no
// timer: a lone caller is sent at once, and a busier Redis means deeper batches, not longer queues.
//
// Error replies stay with their command, but a lost connection fails the whole batch, so a
// caller can be told "unknown" because of its neighbours: commands must be safe to look up or to
// repeat. lanes never repeat; see [scriptCall] for what go-redis does.
type lanes struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // the client, if it is of a Cluster
	each    int                  // lanes of a server; 0: every caller has a pipeline of its own
	runners sync.WaitGroup

	// replicas is how many must have a write before it is acknowledged; 0: none is waited for.
	// Writes then have lanes of their own.
	replicas int

	mu     sync.Mutex
	queues map[lane]*queue // a server that left keeps its idle lanes
	closed bool
}

// lane is what a pipeline is shared for.
type lane struct {
	server  string // its address; see lanes.serverOf
	durable bool   // it waits for the replicas
}

// queue is what waits for the lanes of one kind.
type queue struct {
	durable bool

	mu     sync.Mutex
	more   sync.Cond // calls grew, or closed was set
	calls  []*call
	closed bool
}

// call is what one caller asks of one server, a share of a batch. Its commands belong to the
// lane until done is closed.
type call struct {
	ctx  context.Context
	cmds []redis.Cmder
	err  error // why cmds were not sent, or ErrNotReplicated
	done chan struct{}
}

// newLanes makes lanes on client: at most n shared pipelines are in flight to each server, and as
// many for writes that replicas must have, if any must. With n = 0 nothing is shared and
// [lanes.do] is a plain pipeline. The caller still owns client, whose read and write timeouts
// bound every batch.
func newLanes(client redis.UniversalClient, n, replicas int) *lanes {
	l := &lanes{client: client, each: n, replicas: replicas, queues: map[lane]*queue{}}
	l.cluster, _ = client.(*redis.ClusterClient)
	return l
}

// do sends cmds and waits for their replies. Those for one server run in their order; commands of
// other callers may run in between. A nil error means that each command has its reply or its own
// error. After any other error no command may be read or reused, for a lane may still hold it (and
// the bytes of its arguments): on ctx's error the commands may have run or may yet run, on
// [errClosed] they did not.
//
// A [scriptCall] that Redis does not know is sent again with its source.
func (l *lanes) do(ctx context.Context, cmds ...redis.Cmder) error {
	return l.sendTwice(ctx, false, cmds)
}

// commit is do of writes that are acknowledged, which is when the replicas have them. After
// [ErrNotReplicated] they may stand.
func (l *lanes) commit(ctx context.Context, cmds ...redis.Cmder) error {
	return l.sendTwice(ctx, l.replicas > 0, cmds)
}

func (l *lanes) sendTwice(ctx context.Context, durable bool, cmds []redis.Cmder) error {
	if err := l.send(ctx, durable, cmds); err != nil {
		return err
	}
	var unknown []redis.Cmder
	for _, cmd := range cmds {
		if c, ok := cmd.(*scriptCall); ok && redis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
			c.useSource(ctx)
			unknown = append(unknown, c)
		}
	}
	if unknown == nil {
		return nil
	}
	return l.send(ctx, durable, unknown)
}

func (l *lanes) send(ctx context.Context, durable bool, cmds []redis.Cmder) error {
	calls, kinds := l.split(ctx, durable, cmds)
	if l.each == 0 {
		var err error
		for i, c := range calls {
			err = cmp.Or(err, l.execute(ctx, kinds[i].durable, c.cmds))
		}
		return err
	}
	if err := l.queue(calls, kinds); err != nil {
		return err
	}
	var err error
	for _, c := range calls {
		select {
		case <-c.done:
			err = cmp.Or(err, c.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// split gives each server its share.
func (l *lanes) split(ctx context.Context, durable bool, cmds []redis.Cmder) ([]*call, []lane) {
	if l.cluster == nil { // one server has all
		return []*call{{ctx: ctx, cmds: cmds, done: make(chan struct{})}}, []lane{{durable: durable}}
	}
	var (
		calls []*call
		kinds []lane
	)
	for _, cmd := range cmds {
		kind := lane{server: l.serverOf(ctx, cmd), durable: durable}
		i := slices.Index(kinds, kind)
		if i < 0 {
			i, kinds = len(kinds), append(kinds, kind)
			calls = append(calls, &call{ctx: ctx, done: make(chan struct{})})
		}
		calls[i].cmds = append(calls[i].cmds, cmd)
	}
	return calls, kinds
}

// queue puts calls before their lanes: all of them, or none after [lanes.close].
func (l *lanes) queue(calls []*call, kinds []lane) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	for i, kind := range kinds {
		q := l.queues[kind]
		if q == nil {
			q = &queue{durable: kind.durable}
			q.more.L = &q.mu
			l.queues[kind] = q
			for range l.each {
				l.runners.Go(func() { l.run(q) })
			}
		}
		q.add(calls[i])
	}
	return nil
}

// serverOf names the server of a Cluster that a command is for, as far as is known; empty where it
// does not matter or cannot be said. go-redis finds the server anew when it sends.
func (l *lanes) serverOf(ctx context.Context, cmd redis.Cmder) string {
	key := keyOf(cmd)
	if key == "" {
		return ""
	}
	master, err := l.cluster.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	return master.Options().Addr
}

// close refuses further calls, sends those already queued and returns when every lane has ended.
// It may be called more than once. Where nothing is shared there is nothing to close.
func (l *lanes) close() {
	l.mu.Lock()
	l.closed = true
	for _, q := range l.queues {
		q.close()
	}
	l.mu.Unlock()
	l.runners.Wait()
}

func (l *lanes) run(q *queue) {
	var (
		batch = make([]*call, 0, maxCalls)
		cmds  []redis.Cmder
	)
	for {
		batch = q.take(batch[:0])
		if len(batch) == 0 {
			return
		}
		cmds = cmds[:0]
		for _, c := range batch {
			// A caller that has gone is not sent for: the one case in which a done ctx means "did not run".
			if c.err = c.ctx.Err(); c.err == nil {
				cmds = append(cmds, c.cmds...)
			}
		}
		// No caller's ctx may end the batch of the others.
		ctx, cancel := context.WithTimeout(context.Background(), batchWithin)
		err := l.execute(ctx, q.durable, cmds)
		cancel()
		for _, c := range batch {
			c.err = cmp.Or(c.err, err)
			close(c.done)
		}
		clear(batch) // keep no caller's values alive while idle
		clear(cmds)
	}
}

func (q *queue) add(c *call) {
	q.mu.Lock()
	q.calls = append(q.calls, c)
	q.mu.Unlock()
	q.more.Signal()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.more.Broadcast()
}

// take waits for calls and moves up to maxCalls of them to batch. None means closed and drained.
func (q *queue) take(batch []*call) []*call {
	// The callers that the last batch woke are about to queue again. Letting them run first makes
	// batches deeper (measured: 10 % more throughput at 64 callers) and is free when none is runnable.
	runtime.Gosched()
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.calls) == 0 && !q.closed {
		q.more.Wait()
	}
	n := min(len(q.calls), maxCalls)
	batch = append(batch, q.calls[:n]...)
	q.calls = slices.Delete(q.calls, 0, n)
	return batch
}

// execute leaves every reply and every error, also that of the whole pipeline, with its command.
// The error is ErrNotReplicated. Where the way to a server of a Cluster broke, the Cluster is asked
// anew who serves what: the server may be gone, and another in its place.
func (l *lanes) execute(ctx context.Context, durable bool, cmds []redis.Cmder) error {
	if durable && len(cmds) > 0 {
		return l.executeDurably(ctx, cmds)
	}
	pipe := l.client.Pipeline()
	_ = pipe.BatchProcess(ctx, cmds...)
	_, _ = pipe.Exec(ctx)
	if l.cluster != nil && slices.ContainsFunc(cmds, wayBroke) {
		l.cluster.ReloadState(ctx)
	}
	return nil
}

// wayBroke reports whether a command met a fault of the connection, and no reply.
func wayBroke(cmd redis.Cmder) bool {
	err := cmd.Err()
	return err != nil && !errors.Is(err, redis.Nil) && !isReply(err)
}

// script is a Lua script, known to Redis by its SHA-1.
type script struct{ source, hash string }

// newScript returns the script with this Lua source.
func newScript(source string) *script {
	return &script{source: source, hash: redis.NewScript(source).Hash()}
}

// call prepares an EVALSHA on keys, all of which share one cluster slot, for [lanes.do].
func (s *script) call(ctx context.Context, keys []string, args ...any) *scriptCall {
	line := make([]any, 0, 3+len(keys)+len(args))
	line = append(line, "evalsha", s.hash, len(keys))
	for _, key := range keys {
		line = append(line, key)
	}
	return &scriptCall{Cmd: redis.NewCmd(ctx, append(line, args...)...), script: s, key: keys[0]}
}

// scriptCall is one EVALSHA or EVAL that go-redis sends at most once to a node that may run it,
// whatever MaxRetries (or a ClusterClient's MaxRedirects) says: neither after a lost reply, nor
// because the first command of the pipeline was answered with LOADING or the like. A single
// scriptCall protects the whole pipeline that it is in. MOVED and ASK are still followed, since
// a node that answers so has run nothing.
type scriptCall struct {
	*redis.Cmd
	script *script
	key    string // the first
}

// NoRetry makes [redis.Cmder] promise what the type does.
func (*scriptCall) NoRetry() bool { return true }

// useSource turns EVALSHA into EVAL, which runs the script and makes it known. The command is a
// new one because go-redis keeps an old error when the connection is lost: a reused command
// would report NOSCRIPT, that is "did not run", though it may have.
func (c *scriptCall) useSource(ctx context.Context) {
	line := slices.Clone(c.Args())
	line[0], line[1] = "eval", c.script.source
	c.Cmd = redis.NewCmd(ctx, line...)
}
