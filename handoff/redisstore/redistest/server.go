package redistest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	readyWithin = 20 * time.Second     // a server, or a set of them, answers by then or the test fails
	pollEvery   = 5 * time.Millisecond // between two looks at a server
	stopWithin  = 10 * time.Second     // a clean shutdown takes this long at most
)

// Server is one redis-server process.
type Server struct {
	tb      testing.TB
	binary  string
	args    []string // after the configuration file
	dir     string   // configuration, log and data
	port    int
	busPort int // cluster bus; 0 on a server that is no cluster node
	tlsPort int // 0 on a server without a certificate
	process *process
}

// process is one life of a server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process is gone and reaped
}

// Single starts a stand-alone server without persistence. Each extraConf is one
// line of redis.conf and overrides the defaults, for instance "appendonly yes";
// the default user must stay able to run INFO.
func Single(tb testing.TB, extraConf ...string) *Server {
	tb.Helper()
	return launch(tb, func(*Server) []string { return extraConf })
}

// launch starts a server whose configuration may depend on its ports and waits
// until it answers.
func launch(tb testing.TB, conf func(*Server) []string, args ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, binary: Require(tb), args: args, dir: tb.TempDir()}
	tb.Cleanup(s.Kill)
	for attempt := 1; ; attempt++ {
		s.port = freePort(tb)
		s.configure(conf(s))
		err := s.start()
		if err == nil {
			return s
		}
		if !errors.Is(err, errPortTaken) || attempt == 10 {
			tb.Fatalf("redistest: start: %v", err)
		}
	}
}

func (s *Server) configure(extra []string) {
	s.tb.Helper()
	if isTLS(extra) {
		s.tlsPort = freePort(s.tb)
		extra = append([]string{"tls-port " + strconv.Itoa(s.tlsPort)}, extra...)
	}
	lines := append([]string{
		"bind 127.0.0.1",
		"port " + strconv.Itoa(s.port),
		"dir " + strconv.Quote(s.dir),
		`save ""`,
		"appendonly no",
		"repl-diskless-sync-delay 0",
	}, extra...)
	if err := os.WriteFile(s.path("redis.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.tb.Fatalf("redistest: %v", err)
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

var errPortTaken = errors.New("port taken")

// start runs the server on its configuration, which Redis itself may have
// rewritten since the last time, and waits until it answers.
func (s *Server) start() error {
	log, err := os.Create(s.path("redis.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.binary, append([]string{s.path("redis.conf")}, s.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // how it ended is in its log
	}()
	s.process = p

	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if err := s.awaitReady(ctx); err != nil {
		s.Kill()
		log, _ := os.ReadFile(s.path("redis.log"))
		if bytes.Contains(log, []byte("Address already in use")) {
			return errPortTaken
		}
		return fmt.Errorf("%w; its log:\n%s", err, log)
	}
	return nil
}

// awaitReady polls until this very process answers and has loaded its data.
// What answers on the port need not be it: a server that lost the race for
// the port lives on for a moment while the winner replies.
func (s *Server) awaitReady(ctx context.Context) error {
	self := strconv.Itoa(s.process.cmd.Process.Pid)
	return poll(ctx, func() error {
		select {
		case <-s.process.exited:
			return errExited
		default:
		}
		// go-redis logs every failed dial; a refusal is no news here.
		c, err := net.DialTimeout("tcp", s.Addr(), readyWithin)
		if err != nil {
			return err
		}
		c.Close()
		info, err := s.info(ctx)
		switch {
		case err != nil:
			return err
		case info["process_id"] != self:
			return fmt.Errorf("port %d is answered by another process", s.port)
		case info["loading"] == "1":
			return errors.New("still loading its data")
		}
		return nil
	})
}

var errExited = errors.New("redis-server exited")

// poll looks until try succeeds, its process is gone or ctx ends.
func poll(ctx context.Context, try func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := try()
		if err == nil || errors.Is(err, errExited) {
			return err
		}
		if last == nil || ctx.Err() == nil { // the end of ctx explains nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", last)
		case <-tick.C:
		}
	}
}

// await polls on behalf of the test and fails it when time is up.
func await(tb testing.TB, what string, try func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if err := poll(ctx, func() error { return try(ctx) }); err != nil {
		tb.Fatalf("redistest: %s: %v", what, err)
	}
}

// do runs one command on a connection of its own: a pooled one would outlive
// restarts and remember failed dials.
func (s *Server) do(ctx context.Context, args ...any) *redis.Cmd {
	c := redis.NewClient(s.options())
	defer c.Close()
	return c.Do(ctx, args...)
}

func (s *Server) options() *redis.Options {
	return &redis.Options{
		Addr:                  s.Addr(),
		Protocol:              2,
		DisableIdentity:       true,
		MaxRetries:            -1,
		DialerRetries:         1,
		ContextTimeoutEnabled: true,
	}
}

// info returns the fields of INFO: of its default sections or of those named.
func (s *Server) info(ctx context.Context, section ...any) (map[string]string, error) {
	text, err := s.do(ctx, append([]any{"INFO"}, section...)...).Text()
	return fields(text), err
}

// follows tells whether the server is a replica that has what its master has.
func (s *Server) follows(ctx context.Context) error {
	info, err := s.info(ctx, "replication")
	if err == nil && (info["role"] != "slave" || info["master_link_status"] != "up") {
		err = fmt.Errorf("%s is a %s, its link to a master %q", s.Addr(), info["role"], info["master_link_status"])
	}
	return err
}

// cutOff tells whether a replica has lost its master.
func (s *Server) cutOff(ctx context.Context) error {
	info, err := s.info(ctx, "replication")
	if err == nil && info["master_link_status"] != "down" {
		err = errors.New("its link is up")
	}
	return err
}

// fields parses the name:value lines of INFO and CLUSTER INFO.
func fields(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			m[name] = value
		}
	}
	return m
}

// Addr returns the server's host:port. It survives Stop and Restart.
func (s *Server) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// TLSAddr returns the server's host:port for TLS, where its configuration names a
// certificate ([Authority.Conf]). Addr stays the plain one, by which this package asks.
func (s *Server) TLSAddr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tlsPort))
}

// announced is the port under which a server is known to its like: the TLS one where
// it has one.
func (s *Server) announced() int { return cmp.Or(s.tlsPort, s.port) }

// Calls returns how often each command ran since the server started, by its
// lower-case name (INFO commandstats). It includes commands run by scripts and
// the few that this package sends itself, such as info; what a client sent is
// counted by [Wire.Commands].
func (s *Server) Calls() map[string]int {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	stats, err := s.info(ctx, "commandstats")
	if err != nil {
		s.tb.Fatalf("redistest: INFO commandstats: %v", err)
	}
	calls := map[string]int{}
	for name, stat := range stats {
		name, ok := strings.CutPrefix(name, "cmdstat_")
		if !ok {
			continue
		}
		count, _, _ := strings.Cut(strings.TrimPrefix(stat, "calls="), ",")
		if calls[name], err = strconv.Atoi(count); err != nil {
			s.tb.Fatalf("redistest: INFO commandstats: %s: %v", name, err)
		}
	}
	return calls
}

// Set changes a setting of the server while it runs (CONFIG SET).
func (s *Server) Set(name, value string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if err := s.do(ctx, "CONFIG", "SET", name, value).Err(); err != nil {
		s.tb.Fatalf("redistest: CONFIG SET %s: %v", name, err)
	}
}

// Info returns the fields of a section of INFO.
func (s *Server) Info(section string) map[string]string {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	info, err := s.info(ctx, section)
	if err != nil {
		s.tb.Fatalf("redistest: INFO %s: %v", section, err)
	}
	return info
}

// PauseClients has the server answer no client for a while, though it runs (CLIENT PAUSE).
func (s *Server) PauseClients(d time.Duration) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if err := s.do(ctx, "CLIENT", "PAUSE", d.Milliseconds(), "ALL").Err(); err != nil {
		s.tb.Fatalf("redistest: CLIENT PAUSE: %v", err)
	}
}

// spin keeps the server busy for so many rounds. Neither the time nor the processor's time moves in
// the scripts of every version.
const spin = `for i = 1, tonumber(ARGV[1]) do end`

// Spin runs one script that keeps the server busy for at least d, and returns when it is over.
func (s *Server) Spin(d time.Duration) {
	s.tb.Helper()
	o := s.options()
	o.ReadTimeout = readyWithin
	c := redis.NewClient(o)
	defer c.Close()
	run := func(rounds float64) time.Duration {
		began := time.Now()
		if err := c.Do(context.Background(), "EVAL", spin, 0, int64(rounds)).Err(); err != nil && !errors.Is(err, redis.Nil) {
			s.tb.Fatalf("redistest: a script that takes %v: %v", d, err)
		}
		return time.Since(began)
	}
	const sample = 1e6
	fastest := run(sample)
	for range 4 { // of which one at least is not held up by other work of the machine
		fastest = min(fastest, run(sample))
	}
	// On a machine whose pace changes one may still be too short; another follows, twice as long.
	rounds, took := 1.2*sample*d.Seconds()/fastest.Seconds(), time.Duration(0)
	for range 4 {
		if took = run(rounds); took >= d {
			return
		}
		rounds *= 2
	}
	s.tb.Fatalf("redistest: a script took %v, and was to take %v", took, d)
}

// Log returns what the server has logged since it was started last.
func (s *Server) Log() string {
	s.tb.Helper()
	log, err := os.ReadFile(s.path("redis.log"))
	if err != nil {
		s.tb.Fatalf("redistest: %v", err)
	}
	return string(log)
}

// AwaitExit waits until the server has ended by itself.
func (s *Server) AwaitExit() {
	s.tb.Helper()
	select {
	case <-s.process.exited:
	case <-time.After(readyWithin):
		s.tb.Fatalf("redistest: redis-server runs on")
	}
}

// Stop shuts the server down cleanly, as an operator would: what it persists is
// on disk. It does nothing to a stopped server.
func (s *Server) Stop() {
	s.tb.Helper()
	p := s.process
	s.signal(syscall.SIGCONT) // a paused server would not see the next signal
	s.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		s.Kill()
		s.tb.Fatalf("redistest: redis-server ignored SIGTERM for %v", stopWithin)
	}
}

// Kill crashes the server: what it had not written is gone. It does nothing to a
// stopped server.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	<-s.process.exited
}

// Restart starts the server again, on its port and its data, after a clean stop
// when it still runs. A server without persistence comes back empty.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	await(s.tb, "restart", func(context.Context) error { return s.start() })
}

// Pause freezes the server (SIGSTOP): connections stay open, the kernel still
// accepts new ones, and nothing is answered until Resume.
func (s *Server) Pause() {
	s.tb.Helper()
	s.signal(syscall.SIGSTOP)
	if err := awaitStopped(s.process.cmd.Process.Pid); err != nil {
		s.tb.Fatalf("redistest: pause: %v", err)
	}
}

// Resume ends Pause. The requests that arrived meanwhile are executed.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal reaches only a process that has not been reaped: os.Process sees to
// that a number used again is left alone.
func (s *Server) signal(sig syscall.Signal) {
	if err := s.process.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Errorf("redistest: %v: %v", sig, err)
	}
}

// Copy copies the server's data as a backup does: a new RDB snapshot, or the files of its
// append-only log as they stand while it goes on writing. It returns where the copy is.
func (s *Server) Copy() string {
	s.tb.Helper()
	to := s.tb.TempDir()
	if _, err := os.Stat(s.path(aofDir)); err == nil {
		if err := os.CopyFS(filepath.Join(to, aofDir), os.DirFS(s.path(aofDir))); err != nil {
			s.tb.Fatalf("redistest: copying the append-only log: %v", err)
		}
		return to
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if err := s.do(ctx, "SAVE").Err(); err != nil {
		s.tb.Fatalf("redistest: SAVE: %v", err)
	}
	content, err := os.ReadFile(s.path(rdbFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, rdbFile), content, 0o600)
	}
	if err != nil {
		s.tb.Fatalf("redistest: copying the snapshot: %v", err)
	}
	return to
}

// What Redis calls its files, unless it is told otherwise.
const (
	aofDir  = "appendonlydir"
	rdbFile = "dump.rdb"
)

// PutBack kills the server, puts a [Server.Copy] in the place of its data, and starts it again.
func (s *Server) PutBack(data string) {
	s.tb.Helper()
	s.Kill()
	err := errors.Join(os.RemoveAll(s.path(aofDir)), os.RemoveAll(s.path(rdbFile)), os.CopyFS(s.dir, os.DirFS(data)))
	if err != nil {
		s.tb.Fatalf("redistest: putting data back: %v", err)
	}
	await(s.tb, "put back", func(context.Context) error { return s.start() })
}
