package redistest_test

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"latchkey/handoff/redisstore/redistest"
)

var incr = redistest.Command("incr")

// What the wire exists to show: with default retries go-redis runs a command
// again whose reply was lost.
func TestLostReplyRunsTwice(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire)

	wire.LoseReplies(3, incr)
	n, err := c.Incr(t.Context(), "n").Result()
	if n != 4 || err != nil {
		t.Errorf("one INCR with three replies lost: got %d, %v, want 4", n, err)
	}
	if ran := s.Calls()["incr"]; ran != 4 {
		t.Errorf("INCR ran %d times, want 4", ran)
	}
	if lost := wire.LostReplies(); lost != 3 {
		t.Errorf("%d replies lost, want 3", lost)
	}
}

func TestLostReplyOnCluster(t *testing.T) {
	t.Parallel()
	set := redistest.Cluster(t)
	wire := redistest.NewWire()
	c := clusterClient(t, set, wire)

	wire.LoseReplies(2, incr)
	n, err := c.Incr(t.Context(), "n").Result()
	if n != 3 || err != nil {
		t.Errorf("one INCR with two replies lost: got %d, %v, want 3", n, err)
	}
	if ran, lost := set.Calls()["incr"], wire.LostReplies(); ran != 3 || lost != 2 {
		t.Errorf("INCR ran %d times with %d replies lost, want 3 and 2", ran, lost)
	}
}

func TestLostReplyWithoutRetries(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)

	wire.LoseReplies(1, incr)
	if err := c.Incr(t.Context(), "n").Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if n, err := c.Get(t.Context(), "n").Int(); n != 1 || err != nil {
		t.Errorf("the command whose reply was lost: n = %d, %v, want 1", n, err)
	}
}

func TestLostRequest(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)

	wire.LoseRequests(1, incr)
	if err := c.Incr(t.Context(), "n").Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if ran := s.Calls()["incr"]; ran != 0 {
		t.Errorf("INCR ran %d times, want 0", ran)
	}
	if n := c.Incr(t.Context(), "n").Val(); n != 1 {
		t.Errorf("the next INCR: got %d, want 1", n)
	}
	if wire.LostRequests() != 1 || wire.LostReplies() != 0 {
		t.Errorf("lost %d requests and %d replies, want 1 and 0", wire.LostRequests(), wire.LostReplies())
	}
}

func TestMatchContaining(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)

	wire.LoseReplies(1, redistest.Containing("grant:b"))
	must(t, c.Incr(t.Context(), "lk:grant:a").Err())
	if err := c.Incr(t.Context(), "lk:grant:b").Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestDisarm(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)

	wire.LoseReplies(1, incr)
	wire.Disarm()
	must(t, c.Incr(t.Context(), "n").Err())
}

// A refused command did not run, so losing its reply would prove nothing.
func TestRefusalIsNotALoss(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)
	script := redis.NewScript(`return redis.call('INCR', KEYS[1])`)

	wire.LoseReplies(1, redistest.Command("evalsha"))
	err := c.EvalSha(t.Context(), script.Hash(), []string{"n"}).Err()
	if !redis.HasErrorPrefix(err, "NOSCRIPT") {
		t.Fatalf("got %v, want NOSCRIPT", err)
	}
	must(t, script.Load(t.Context(), c).Err())
	err = c.EvalSha(t.Context(), script.Hash(), []string{"n"}).Err()
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if calls := s.Calls(); calls["incr"] != 1 || wire.LostReplies() != 1 {
		t.Errorf("the script ran %d times with %d replies lost, want 1 and 1", calls["incr"], wire.LostReplies())
	}
}

// A pipeline larger than any buffer on the way shares the fate of the command
// meant, and has run to its end when the client learns of the loss.
func TestLostPipeline(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)
	const before, after = 20, 2000
	value := strings.Repeat("v", 1000)

	wire.LoseReplies(1, incr)
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for range before {
			p.Append(t.Context(), "log", value)
		}
		p.Incr(t.Context(), "n")
		for range after {
			p.Append(t.Context(), "log", value)
		}
		return nil
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if calls := s.Calls(); calls["append"] != before+after || calls["incr"] != 1 {
		t.Errorf("ran %d APPEND and %d INCR, want %d and 1", calls["append"], calls["incr"], before+after)
	}
	if lost := wire.LostReplies(); lost != 1 {
		t.Errorf("one broken connection counts as %d losses", lost)
	}
}

func TestLossesUnderConcurrency(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries)
	const callers, each, losses = 8, 50, 30

	wire.LoseReplies(losses, incr)
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if c.Incr(t.Context(), "n").Err() != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() != losses || wire.LostReplies() != losses {
		t.Errorf("%d calls failed, %d replies lost, want %d", failed.Load(), wire.LostReplies(), losses)
	}
	if n, err := c.Get(t.Context(), "n").Int(); n != callers*each || err != nil {
		t.Errorf("n = %d, %v, want %d: a lost reply means that the command ran", n, err, callers*each)
	}
}

// A full-duplex client reads and writes one connection at once, so that a loss meets
// requests of many callers in flight. Each command has one answer and may have run
// more often (go-redis repeats some of them), never less.
func TestLossesInFullDuplex(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	ap, err := client(t, s, wire).AutoPipelineWithOptions(&redis.AutoPipelineOptions{FullDuplex: true})
	must(t, err)
	t.Cleanup(func() { ap.Close() })
	const callers, each, losses = 8, 50, 5

	wire.LoseReplies(losses, incr)
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if ap.Do(t.Context(), "incr", "n").Err() == nil {
					answered.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if lost := wire.LostReplies(); lost != losses {
		t.Errorf("%d replies lost, want %d", lost, losses)
	}
	n, err := client(t, s, nil).Get(t.Context(), "n").Int64()
	must(t, err)
	if n < answered.Load() || n != int64(s.Calls()["incr"]) {
		t.Errorf("n = %d with %d commands answered and %d run", n, answered.Load(), s.Calls()["incr"])
	}
}

// A client that gives up before the server answered has not met the loss.
func TestTimeoutIsNotALoss(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire, noRetries, func(o *redis.Options) { o.ReadTimeout = 100 * time.Millisecond })
	must(t, c.Ping(t.Context()).Err())

	wire.LoseReplies(1, incr)
	s.Pause()
	if err := c.Incr(t.Context(), "n").Err(); err == nil || wire.LostReplies() != 0 {
		t.Errorf("a paused server: got %v and %d replies lost, want a timeout and 0", err, wire.LostReplies())
	}
	s.Resume()
	if err := c.Incr(t.Context(), "n").Err(); !errors.Is(err, io.ErrUnexpectedEOF) || wire.LostReplies() != 1 {
		t.Errorf("got %v and %d replies lost, want %v and 1", err, wire.LostReplies(), io.ErrUnexpectedEOF)
	}
}

func TestTripsAndCommands(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	c := client(t, s, wire)
	script := redis.NewScript(`return redis.call('INCR', KEYS[1])`)
	must(t, script.Load(t.Context(), c).Err())

	trips, commands := wire.Trips(), wire.Commands()
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for range 200 {
			p.Get(t.Context(), strings.Repeat("k", 1000))
		}
		return nil
	})
	if err != redis.Nil {
		t.Fatal(err)
	}
	must(t, script.Run(t.Context(), c, []string{"n"}).Err())

	if got := wire.Trips() - trips; got != 2 {
		t.Errorf("a pipeline and a script: %d trips, want 2", got)
	}
	for name, want := range map[string]int{"get": 200, "evalsha": 1, "incr": 0} {
		if got := wire.Commands()[name] - commands[name]; got != want {
			t.Errorf("%s was sent %d times, want %d", name, got, want)
		}
	}
	if got := s.Calls()["incr"]; got != 1 {
		t.Errorf("INCR ran %d times in the script, want 1", got)
	}
}

// A connection opened in the middle of a test must not show as a trip.
func TestHandshakeIsNoTrip(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	wire := redistest.NewWire()
	for range 3 {
		must(t, client(t, s, wire).Incr(t.Context(), "n").Err())
	}
	if got := wire.Trips(); got != 3 {
		t.Errorf("three commands on three new connections: %d trips, want 3", got)
	}
	if wire.Commands()["hello"] != 3 {
		t.Errorf("commands %v hold no handshakes", wire.Commands())
	}
}

// go-redis looks at an idle connection before it uses it; the wire must not blind
// it, or every restart of a server would cost a failed command.
func TestClosedConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	s := redistest.Single(t)
	c := client(t, s, redistest.NewWire(), noRetries)
	must(t, c.Ping(t.Context()).Err())
	s.Restart()
	must(t, c.Ping(t.Context()).Err())
}
