package controller

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"latchkey/handoff/door"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const theDoor = "turm5-lobby"

// site is an enrolled door and the service that signs for it.
type site struct {
	dir    string
	signer *door.Signer
	root   door.PrivateKey
	public door.PublicKey
	pins   door.PINKey
}

func newSite(t testing.TB, change ...func(*Enrollment)) *site {
	t.Helper()
	s := &site{dir: filepath.Join(t.TempDir(), "door")}
	var err error
	if s.signer, err = door.NewSigner(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if s.root, err = door.NewPrivateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	e := Enrollment{Door: theDoor, Root: s.root.Public(), Keys: s.signer.Publish()}
	for _, f := range change {
		f(&e)
	}
	s.pins = e.Keypad
	if s.public, err = Enroll(s.dir, e, rand.Reader); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) open(t testing.TB) *Folder {
	t.Helper()
	f, err := Open(s.dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// permit signs a fresh permit and gives its id and its base64url.
func (s *site) permit(t testing.TB, challenge []byte) (door.Permit, string) {
	t.Helper()
	p, err := door.NewPermit(rand.Reader, theDoor, door.GrantRef{1}, challenge, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.signer.Permit(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, base64url.EncodeToString(raw)
}

// read verifies reports and writes them in words: "delivered confirmed refused/replayed".
func (s *site) read(t testing.TB, raw ...[]byte) (words string, permits []door.PermitID) {
	t.Helper()
	var all []string
	for i, b := range raw {
		r, err := door.ReportVerifier{Door: theDoor, Key: s.public}.Verify(b)
		if err != nil {
			t.Fatalf("report %d: %v", i, err)
		}
		word := r.State.String()
		if r.Refusal != 0 {
			word += "/" + r.Refusal.String()
		}
		all = append(all, word)
		permits = append(permits, r.Permit)
	}
	return strings.Join(all, " "), permits
}

// said are the reports that no service has yet.
func (s *site) said(t testing.TB, f *Folder) string {
	t.Helper()
	var raw [][]byte
	for _, p := range f.outbox.Pending(1000) {
		raw = append(raw, p.Raw)
	}
	words, _ := s.read(t, raw...)
	return words
}

// lock is an opener that remembers what it was told, and fails when it should.
type lock struct {
	mu    sync.Mutex
	moves []string
	fails func(move string) error
	takes time.Duration
}

func (l *lock) move(ctx context.Context, what string) error {
	l.mu.Lock()
	l.moves = append(l.moves, what)
	fails := l.fails
	l.mu.Unlock()
	if !pause(ctx, l.takes) {
		return ctx.Err()
	}
	if fails != nil {
		return fails(what)
	}
	return nil
}

func (l *lock) Unlock(ctx context.Context) error { return l.move(ctx, "unlock") }
func (l *lock) Lock(ctx context.Context) error   { return l.move(ctx, "lock") }

func (l *lock) moved() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.moves, " ")
}

type now struct{}

func (now) Now() time.Time { return time.Now() }

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a controller that runs, spoken to by lines.
type rig struct {
	*site
	t      testing.TB
	folder *Folder
	lock   *lock
	log    *logBuffer
	lines  *io.PipeWriter
	out    *bufio.Reader
	stop   context.CancelFunc
	ended  chan error
}

func (s *site) run(t testing.TB, l *lock, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{site: s, t: t, folder: s.open(t), lock: l, log: &logBuffer{}, ended: make(chan error, 1)}
	in, lines := io.Pipe()
	answers, out := io.Pipe()
	r.lines, r.out = lines, bufio.NewReader(answers)
	cfg := Config{
		Folder: r.folder, Opener: l, Lines: in, Answers: out, Clock: now{},
		Log: newLogger(r.log),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.ended <- c.Run(ctx)
		_ = in.Close()
	}()
	return r
}

// ask writes a line and reads its answer.
func (r *rig) ask(line string) Answer {
	r.t.Helper()
	if _, err := io.WriteString(r.lines, line+"\n"); err != nil {
		r.t.Fatal(err)
	}
	return r.hear()
}

func (r *rig) hear() (a Answer) {
	r.t.Helper()
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		r.t.Fatalf("%q: %v", line, err)
	}
	return a
}

// end closes the lines, waits, and gives the reports that were made.
func (r *rig) end() string {
	r.t.Helper()
	_ = r.lines.Close()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("ended with %v", err)
	}
	said := r.said(r.t, r.folder)
	if err := r.folder.Close(); err != nil {
		r.t.Error(err)
	}
	return said
}

func wants[T comparable](t testing.TB, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// bubble runs a test under a clock of its own.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func without(words string, drop ...string) string {
	kept := slices.DeleteFunc(strings.Fields(words), func(w string) bool { return slices.Contains(drop, w) })
	return strings.Join(kept, " ")
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func reportsOf(s *site) door.ReportVerifier { return door.ReportVerifier{Door: theDoor, Key: s.public} }

func newLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(w, nil)) }
