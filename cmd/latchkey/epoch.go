package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/redisstore"
)

// epochFile is what is kept outside of Redis of what Redis acknowledged. It must never be
// in Redis's backup: put back with it, it would agree with anything.
type epochFile struct {
	Format int              `json:"format"`
	Epoch  string           `json:"epoch"`    // empty: none is known yet
	At     time.Time        `json:"at"`       // when Redis was last found to have all of it
	Marks  redisstore.Marks `json:"marks"`    // the last event of each partition that was seen
	Keys   []string         `json:"api_keys"` // the ids of the API keys that there were

	// Servers are the processes of the servers that had all of it, in order.
	Servers []string `json:"servers,omitempty"`

	// Refused are the partitions that are not served, by their two digits, since something of
	// them is lost and what it is is not known; each with how often it was restored before.
	Refused map[string]uint64 `json:"refused,omitempty"`
}

// The formats: 2 has digests in the marks.
const (
	epochFormat       = 2
	oldestEpochFormat = 1
)

// epochPath is where the file is, if it is not said.
func epochPath(path, keyset string) string { return cmp.Or(path, keyset+".epoch") }

// readEpoch reads a file. One that is not there is empty, and no error; one that cannot be
// read is not taken for an empty one.
func readEpoch(path string) (f epochFile, err error) {
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return epochFile{Format: epochFormat}, nil
	case err != nil:
		return f, err
	}
	if err := json.Unmarshal(content, &f, json.RejectUnknownMembers(true)); err != nil {
		return f, fmt.Errorf("%s is no epoch file: %w", path, err)
	}
	if f.Format < oldestEpochFormat || f.Format > epochFormat || f.Epoch == "" {
		return f, fmt.Errorf("%s is no epoch file that this version can read", path)
	}
	f.Format = epochFormat
	for digits := range f.Refused {
		if _, ok := partitionOf(digits); !ok {
			return f, fmt.Errorf("%s is no epoch file: what is refused is no partition", path)
		}
	}
	for _, m := range f.Marks {
		if _, ok := redisstore.MarkedAt(m); m != "" && !ok {
			return f, fmt.Errorf("%s is no epoch file: a mark is no id of an event", path)
		}
	}
	return f, nil
}

// digitsOf names a partition, as its chain's name does.
func digitsOf(partition int) string { return fmt.Sprintf("%02x", partition) }

// partitionOf reads what digitsOf writes.
func partitionOf(digits string) (partition int, ok bool) {
	n, err := strconv.ParseUint(digits, 16, 8)
	return int(n), err == nil && n < handoff.Partitions && digitsOf(int(n)) == digits
}

// refuses reports whether a partition is refused, where the store is of the epoch e: until it is
// restored, by itself or with the whole store.
func (f *epochFile) refuses(partition int, e *redisstore.Epoch) bool {
	before, refused := f.Refused[digitsOf(partition)]
	return refused && e.ID == f.Epoch && e.Restorals(partition) <= before
}

// write puts the file in the place of the one before, all of it or nothing, and on disk.
func (f epochFile) write(path string) error {
	content, err := json.Marshal(f, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(content, '\n'))
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// older says why a store is not served. Its text is for the operator.
type older string

func (o older) Error() string { return string(o) + "; see docs/restore.md" }

// judge compares a store with what is known of it. Now is by the store's clock, as the marks
// are. Next is what is known from here on. The
// error is an older.
func (f epochFile) judge(st redisstore.Standing, now time.Time, retention time.Duration) (next epochFile, err error) {
	switch {
	case st.Epoch == nil:
		return f, older("Redis has no epoch: it is empty, or from before the epoch began")
	case st.Epoch.Restoring != 0:
		return f, older("a restore of Redis is under way")
	case f.Epoch != "" && !st.Epoch.Follows(f.Epoch):
		return f, older("Redis is of another epoch than what was acknowledged")
	}
	if f.Epoch == st.Epoch.ID {
		if lost := f.lost(st, now, retention); len(lost) > 0 {
			return f, older(fmt.Sprintf("Redis is older than what it acknowledged: the last events of %d of %d partitions are gone, the newest of them of %s", len(lost), handoff.Partitions, lost[len(lost)-1].UTC().Format(time.RFC3339)))
		}
	}
	next = epochFile{Format: epochFormat, Epoch: st.Epoch.ID, At: now.UTC().Truncate(time.Second), Marks: st.Ends, Keys: f.Keys, Servers: f.Servers}
	for p := range handoff.Partitions {
		if f.refuses(p, st.Epoch) {
			next.refuse(p, f.Refused[digitsOf(p)])
		}
	}
	return next, nil
}

func (f *epochFile) refuse(partition int, before uint64) {
	if f.Refused == nil {
		f.Refused = map[string]uint64{}
	}
	f.Refused[digitsOf(partition)] = before
}

// lost are the times of the marks of which the events are missing, oldest first: but for
// those that are old enough for the log to have been trimmed past them.
func (f epochFile) lost(st redisstore.Standing, now time.Time, retention time.Duration) (times []time.Time) {
	for p, missing := range st.Missing {
		if missing && !f.refuses(p, st.Epoch) && !redisstore.MayBeTrimmed(f.Marks[p], now, retention) {
			at, _ := redisstore.MarkedAt(f.Marks[p])
			times = append(times, at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// sentry lets the service ask nothing of a Redis that may have lost what was acknowledged.
// It looks at every server before the first thing is asked of it, and then each second.
type sentry struct {
	path      string
	store     *redisstore.Store // on a client of its own, which is not held back
	memory    *redisstore.LogMemory
	retention time.Duration
	now       func() time.Time
	metrics   *instruments
	log       *slog.Logger

	said   [handoff.Partitions]string // the last loss of a partition that was told
	mender *mender                    // nil: what is lost halts the service

	wellAt  time.Duration // when all was well last; 0: in this process never
	elapsed func() time.Duration
	refused atomic.Pointer[[handoff.Partitions]bool]

	urgent chan struct{} // holds a token while a server waits to be looked at
	looked sync.Mutex    // held by a look
	file   epochFile     // what is known, of which the file on disk has all but the last look's
	keysAt time.Time     // when the API keys were last listed

	why  atomic.Pointer[older] // nil: served
	mu   sync.Mutex
	runs map[string]bool // the processes that were looked at and found well
}

var unlooked = older("Redis was not yet compared with what it acknowledged")

const (
	sentryEvery = time.Second
	sentryAsks  = 5 * time.Second // the most that one look takes
	sentryRests = 50 * time.Millisecond
	keysEvery   = 10 * time.Second
)

// newSentry reads the file. Nothing is served before the first look.
func newSentry(path string, store *redisstore.Store, retention time.Duration, now func() time.Time, m *instruments, log *slog.Logger) (*sentry, error) {
	file, err := readEpoch(path)
	if err != nil {
		return nil, err
	}
	s := &sentry{
		path: path, store: store, memory: redisstore.NewLogMemory(file.Marks), retention: retention, now: now, metrics: m, log: log, elapsed: clock.Elapsed(wallClock{}),
		urgent: make(chan struct{}, 1), file: file, runs: map[string]bool{},
	}
	s.why.Store(&unlooked)
	s.refuse(file.Refused)
	return s, nil
}

// reason is why nothing is served; nil while all is well.
func (s *sentry) reason() error {
	if s == nil {
		return nil
	}
	if why := s.why.Load(); why != nil {
		return *why
	}
	if *s.refused.Load() == everyPartition {
		return older(strings.TrimSuffix(s.degraded(), "; see docs/restore.md"))
	}
	return nil
}

var everyPartition = func() (all [handoff.Partitions]bool) {
	for p := range all {
		all[p] = true
	}
	return all
}()

func (s *sentry) closed() bool { return s.why.Load() != nil }

// admit reports whether a server was looked at, and has one that was not looked at soon. One
// that does not say who it is cannot be told from another, and is only looked at each second.
func (s *sentry) admit(process string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if process == "" || s.runs[process] {
		return true
	}
	select {
	case s.urgent <- struct{}{}:
	default:
	}
	return false
}

// look compares once, and notes what it found. The error is one of the way to Redis or to
// the file; what was found before then still counts.
func (s *sentry) look(within context.Context) error {
	s.looked.Lock()
	defer s.looked.Unlock()
	ctx, cancel := context.WithTimeout(within, sentryAsks)
	defer cancel()
	before, err := s.store.Servers(ctx)
	if err != nil {
		return err
	}
	found, err := s.store.Follow(ctx, s.memory, s.file.Marks)
	if err != nil {
		return err
	}
	if found.Epoch == nil && s.file.Epoch == "" { // the first instance of all
		if err := s.store.BeginEpoch(ctx, rand.Text()); err != nil {
			return err
		}
		if found, err = s.store.Follow(ctx, s.memory, s.file.Marks); err != nil {
			return err
		}
	}
	after, err := s.store.Servers(ctx)
	if err != nil {
		return err
	}
	var refuse []int // partitions
	if is := processes(after); !slices.Equal(processes(before), is) {
		s.admit(strings.Join(is, " ")) // none is called so: look again
		return nil
	}
	if found.Epoch != nil && found.Epoch.Restoring == 0 && found.Epoch.ID == s.file.Epoch {
		s.say(found)
		if refuse, err = s.mend(within, found, after); err != nil {
			return err
		}
		var again context.CancelFunc
		ctx, again = context.WithTimeout(within, sentryAsks)
		defer again()
	}
	next, err := s.file.judge(found.Standing, found.Now, s.retention)
	var why older
	if errors.As(err, &why) {
		s.close(why)
		return nil
	}
	for _, p := range refuse {
		next.refuse(p, found.Epoch.Restorals(p))
	}
	next.Servers = processes(after)
	if err := s.keep(ctx, next); err != nil {
		return err
	}
	found.Accept()
	s.wellAt = s.elapsed()
	s.refuse(next.Refused)
	s.open(processes(after))
	return nil
}

func processes(servers []redisstore.Server) (ids []string) {
	for _, server := range servers {
		ids = append(ids, server.ID)
	}
	slices.Sort(ids)
	return ids
}

// keep writes what is known, where it is news.
func (s *sentry) keep(ctx context.Context, next epochFile) error {
	if now := s.now(); s.keysAt.IsZero() || now.Sub(s.keysAt) >= keysEvery {
		keys, err := s.store.APIKeyIDs(ctx)
		if err != nil {
			return err
		}
		slices.Sort(keys)
		next.Keys, s.keysAt = keys, now
	}
	news := next.Epoch != s.file.Epoch || next.Marks != s.file.Marks || !slices.Equal(next.Keys, s.file.Keys) ||
		!slices.Equal(next.Servers, s.file.Servers) || !maps.Equal(next.Refused, s.file.Refused)
	if news {
		if err := next.write(s.path); err != nil {
			return fmt.Errorf("what Redis acknowledged cannot be noted outside of it: %w", err)
		}
	}
	if s.file.Epoch == "" {
		s.log.Warn("there was no epoch file: that Redis was restored before now would not be noticed", "file", s.path)
	} else if s.file.Epoch != next.Epoch {
		s.log.Info("Redis was restored, and is of a new epoch", "epoch", next.Epoch)
	}
	s.file = next
	return nil
}

func (s *sentry) close(why older) {
	s.mu.Lock()
	clear(s.runs)
	s.mu.Unlock()
	if was := s.why.Swap(&why); was == nil || *was != why {
		s.log.Error("nothing is served", "why", why.Error())
	}
}

func (s *sentry) open(processes []string) {
	s.mu.Lock()
	clear(s.runs)
	for _, p := range processes {
		s.runs[p] = true
	}
	s.mu.Unlock()
	if was := s.why.Swap(nil); was != nil && was != &unlooked {
		s.log.Info("Redis has what was acknowledged: it is served again")
	}
}

// watch looks each second, and at once where a server waits for it, until ctx ends.
func (s *sentry) watch(ctx context.Context) {
	tick := time.NewTicker(sentryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.urgent:
		}
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("background work failed", "work", "compare Redis with what it acknowledged", "error", err)
		}
		select { // a server that is never let in, as a replica of a Cluster, asks again and again
		case <-ctx.Done():
			return
		case <-time.After(sentryRests):
		}
	}
}
