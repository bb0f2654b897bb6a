package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// Seen is an event that was read from a log, or whose commit was acknowledged.
type Seen struct {
	ID    string
	Sum   uint64 // of its content, since a new master may give the id of a lost event to another; 0: not known
	Count int    // how many events it stands for: the last of a commit stands for all of them
	Of    About
}

// About is what a lost event is told by. A whole event takes six times as much, and some hundred
// thousand are remembered.
type About struct {
	Type                  handoff.EventType
	Grant                 handoff.GrantID
	Shop, Carrier, Parcel string
}

// is reports whether two are one event.
func (e Seen) is(f Seen) bool { return e.ID == f.ID && (e.Sum == f.Sum || e.Sum == 0 || f.Sum == 0) }

// mark is an event as Marks name it.
func (e Seen) mark() string {
	if e.Sum == 0 {
		return e.ID
	}
	return e.ID + "/" + strconv.FormatUint(e.Sum, 16)
}

// marked reads what mark wrote, and an id alone.
func marked(mark string) Seen {
	id, text, _ := strings.Cut(mark, "/")
	sum, _ := strconv.ParseUint(text, 16, 64)
	return Seen{ID: id, Sum: sum, Count: 1}
}

// sumOf is a digest of an event as stored.
func sumOf(event []byte) uint64 {
	sum := sha256.Sum256(event)
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// seen is an event that stands in a log. Of one that cannot be read nothing else is known.
func seen(m redis.XMessage) Seen {
	stored, _ := m.Values["e"].(string)
	s := Seen{ID: m.ID, Sum: sumOf([]byte(stored)), Count: 1}
	if e, err := decodeEvent([]byte(stored)); err == nil {
		s.Of = about(&e)
	}
	return s
}

func about(e *handoff.Event) About {
	return About{Type: e.Type, Grant: e.Grant, Shop: e.Shop, Carrier: e.Carrier, Parcel: e.Parcel}
}

// How much is remembered of each partition: at the most that one server can do, some 50 seconds
// of it.
const (
	readKept = 8192
	toldKept = 8192
)

// LogMemory is what a process knows of the logs beside the marks: what it read of them last, and
// what it acknowledged since. With it a loss can be named: see Follow. It is in memory alone.
type LogMemory struct {
	began bool // something was accepted
	parts [handoff.Partitions]remembered
}

type remembered struct {
	mu    sync.Mutex
	told  []Seen // acknowledged, and not yet found by a look
	spilt bool   // there were more of them

	// Of looks alone:
	read  []Seen // the last of the log as it was read, oldest first, without a gap
	whole bool   // the log began with the first of them
}

// NewLogMemory knows the marks of a process before this one.
func NewLogMemory(marks Marks) *LogMemory {
	m := new(LogMemory)
	for p, mark := range marks {
		if mark != "" {
			m.parts[p].read = []Seen{marked(mark)}
		}
	}
	return m
}

// note remembers what a commit or an append was acknowledged to have written. A nil LogMemory
// remembers nothing.
func (m *LogMemory) note(partition int, e Seen) {
	if m == nil {
		return
	}
	r := &m.parts[partition]
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) >= toldKept {
		r.spilt = true
		return
	}
	r.told = append(r.told, e)
}

// noteAppended remembers an event that an XADD acknowledged.
func (s *Store) noteAppended(e *handoff.Event, added redis.Cmder) {
	if id, ok := added.(*redis.StringCmd); ok {
		event, _ := added.Args()[4].([]byte) // xadd KEY * e EVENT
		s.memory.note(e.Partition(), Seen{ID: id.Val(), Sum: sumOf(event), Count: 1, Of: about(e)})
	}
}

func (r *remembered) waiting() (told []Seen, spilt bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told), r.spilt
}

// Loss is what a partition's log has no more of what was read from it or acknowledged.
type Loss struct {
	Missing []Seen // what is known to be missing, oldest first
	After   string // the id of the last event before it that is there; empty: not known, or the log's beginning

	// Named says that nothing but that is missing of what was there at the last look, or was
	// acknowledged by this process.
	Named bool
}

// Events is how many events are known to be missing.
func (l *Loss) Events() (n int) {
	for _, e := range l.Missing {
		n += e.Count
	}
	return n
}

// Followed is what Follow found.
type Followed struct {
	Standing
	Lost [handoff.Partitions]*Loss // nil: nothing is

	memory *LogMemory
	logs   [handoff.Partitions]logRead
}

// logRead is what one look read of one log.
type logRead struct {
	entries []Seen // of a log without its mark from the first remembered on, else of those after the mark
	toEnd   bool   // there was no more
	jumped  bool   // there was too much to read: what is remembered begins anew at the end
	told    []Seen // what was acknowledged before it was read
	spilt   bool
}

const (
	followAtOnce = 1000
	followPages  = 20 // more than what is remembered and what comes in some seconds
)

// Follow is Compare that reads on from the marks, and says what is lost of what is remembered.
// Nothing is remembered by it before Accept. A process that has accepted nothing yet compares the
// marks alone.
//
// What was acknowledged before the logs are read must be in them: also where the mark is there.
func (s *Store) Follow(ctx context.Context, m *LogMemory, marks Marks) (*Followed, error) {
	f := &Followed{memory: m}
	for p := range m.parts {
		f.logs[p].told, f.logs[p].spilt = m.parts[p].waiting()
	}
	st, err := s.compare(ctx, marks)
	if err != nil {
		return nil, err
	}
	f.Standing = st
	for p, mark := range marks {
		if f.Missing[p] && MayBeTrimmed(mark, st.Now, s.retention) {
			f.Missing[p], f.logs[p].jumped = false, true
		}
		f.logs[p].jumped = f.logs[p].jumped || !m.began
	}
	if err := s.readOn(ctx, f, marks); err != nil {
		return nil, err
	}
	for p := range f.logs {
		switch l := &f.logs[p]; {
		case l.jumped:
		case len(l.entries) > 0:
			f.Ends[p] = l.entries[len(l.entries)-1].mark()
		case !f.Missing[p]:
			f.Ends[p] = marks[p]
		}
	}
	if s.lanes.replicas > 0 { // see Compare
		if err := s.Writable(ctx); err != nil {
			return nil, err
		}
		after, err := s.compare(ctx, f.Ends)
		if err != nil {
			return nil, err
		}
		for p, missing := range after.Missing {
			switch {
			case missing && (f.Missing[p] || f.logs[p].jumped):
				return nil, fmt.Errorf("redisstore: the log of partition %02x changed while it was compared", p)
			case missing:
				f.Ends[p], f.logs[p] = marks[p], logRead{}
			}
		}
	}
	for p := range f.Lost {
		f.Lost[p] = m.parts[p].lost(&f.logs[p], f.Missing[p])
	}
	return f, nil
}

// TrimmedEarly is by how much the clocks of Redis's servers may differ: one that took over reads
// the marks of the one before.
const TrimmedEarly = time.Hour

// MayBeTrimmed reports whether a mark's event is old enough to be gone from the log, which keeps
// what is younger than the retention. Now is by Redis's clock, as the mark is.
func MayBeTrimmed(mark string, now time.Time, retention time.Duration) bool {
	at, _ := MarkedAt(mark)
	return !at.After(now.Add(TrimmedEarly - retention))
}

// MarkedAt is when a mark's event was written, by its id: MILLISECONDS-SEQUENCE.
func MarkedAt(mark string) (time.Time, bool) {
	ms, _, ok := strings.Cut(mark, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	return time.UnixMilli(n), ok && err == nil
}

// readOn reads the logs from where they are known.
func (s *Store) readOn(ctx context.Context, f *Followed, marks Marks) error {
	type place struct {
		p    int
		from string // inclusive
		skip bool   // the first is known
	}
	var places []place
	for p := range f.logs {
		switch r := &f.memory.parts[p]; {
		case f.logs[p].jumped:
		case f.Missing[p] && !r.whole:
			places = append(places, place{p, r.read[0].ID, false})
		case f.Missing[p], marks[p] == "":
			places = append(places, place{p, "-", false})
		default:
			places = append(places, place{p, marked(marks[p]).ID, true})
		}
	}
	for page := 0; len(places) > 0 && page < followPages; page++ {
		lines := make([]line, len(places))
		for i, at := range places {
			lines[i] = line{"xrange", logKey(at.p), at.from, "+", "count", followAtOnce}
		}
		answers, err := readEach(ctx, s, redis.NewXMessageSliceCmd, lines...)
		if err != nil {
			return err
		}
		var more []place
		for i, at := range places {
			got := answers[i]
			full := len(got) == followAtOnce
			if at.skip && len(got) > 0 && got[0].ID == at.from {
				got = got[1:]
			}
			l := &f.logs[at.p]
			for _, m := range got {
				l.entries = append(l.entries, seen(m))
			}
			if l.toEnd = !full; full {
				more = append(more, place{at.p, got[len(got)-1].ID, true})
			}
		}
		places = more
	}
	for _, at := range places {
		f.logs[at.p].entries, f.logs[at.p].jumped = nil, true
	}
	return nil
}

// lost says what is missing in a log, of which the mark may be missing.
func (r *remembered) lost(l *logRead, missing bool) *Loss {
	if !missing && (!l.toEnd || len(l.told) == 0) {
		return nil // what is not read yet may hold it
	}
	there := index(l.entries)
	loss := &Loss{Named: true}
	switch {
	case missing && l.jumped:
		return &Loss{Missing: r.read[max(0, len(r.read)-1):]} // the mark at least
	case missing:
		last := len(r.read) - 1
		for last >= 0 && !there.has(r.read[last]) {
			last--
		}
		if last >= 0 {
			loss.After = r.read[last].ID
		}
		loss.Missing = append(loss.Missing, r.read[last+1:]...)
		loss.Named = (last >= 0 || r.whole) && !l.spilt
	}
	for _, e := range l.told {
		if !there.has(e) && (missing || !slices.ContainsFunc(r.read, e.is)) {
			loss.add(e)
		}
	}
	if !missing && len(loss.Missing) == 0 {
		return nil
	}
	return loss
}

// add adds what was acknowledged and not read by any look, or read with it.
func (l *Loss) add(e Seen) {
	for i := range l.Missing {
		if l.Missing[i].is(e) {
			return
		}
	}
	l.Missing = append(l.Missing, e)
}

// Accept remembers what was found. What is lost is not missed again: whatever has to be done
// about it was done.
func (f *Followed) Accept() {
	for p := range f.logs {
		r, l := &f.memory.parts[p], &f.logs[p]
		r.settle(l)
		switch end := f.Ends[p]; {
		case f.Missing[p] && len(l.entries) > 0:
			r.read = l.entries
		case (l.jumped || f.Missing[p]) && end != "":
			r.read, r.whole = []Seen{marked(end)}, false
		case l.jumped || f.Missing[p]:
			r.read, r.whole = nil, true
		default:
			r.read = append(r.read, l.entries...)
		}
		if over := len(r.read) - readKept; over > 0 {
			r.read, r.whole = slices.Clone(r.read[over:]), false
		}
	}
	f.memory.began = true
}

// settle forgets of what was acknowledged what a look has judged or found.
func (r *remembered) settle(l *logRead) {
	var later []Seen           // not judged
	if !l.toEnd && !l.jumped { // past a jump nothing can be: that the mark was there has to do
		there := index(r.read, l.entries)
		later = slices.DeleteFunc(slices.Clone(l.told), there.has)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told, r.spilt = append(later, r.told[len(l.told):]...), r.spilt && !l.spilt
}

// seenByID are events by their ids.
type seenByID map[string]Seen

func index(lists ...[]Seen) seenByID {
	all := seenByID{}
	for _, list := range lists {
		for _, e := range list {
			all[e.ID] = e
		}
	}
	return all
}

func (all seenByID) has(e Seen) bool {
	found, ok := all[e.ID]
	return ok && found.is(e)
}

// Server is one that takes writes, as it says of itself.
type Server struct {
	ID  string        // of its process
	Ran time.Duration // for how long its process has run
}

// ErrNoMaster says that a server that was asked as a master is none, or none any more.
var ErrNoMaster = errors.New("redisstore: the server is no master")

// Servers asks the servers that take writes who they are. One that does not say is left out.
func (s *Store) Servers(ctx context.Context) ([]Server, error) {
	var servers []Server
	ask := func(ctx context.Context, c *redis.Client) error {
		text, err := c.Info(ctx).Result()
		if err != nil {
			if isReply(err) {
				return nil
			}
			return err
		}
		info := parseInfo(text)
		if info["role"] == "slave" {
			return ErrNoMaster
		}
		seconds, err := strconv.ParseInt(info["uptime_in_seconds"], 10, 64)
		if id := info["run_id"]; id != "" && err == nil {
			servers = append(servers, Server{ID: id, Ran: time.Duration(seconds) * time.Second})
		}
		return nil
	}
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		return servers, unavailable(c.ForEachMaster(ctx, lockstep(ask)))
	case *redis.Client:
		return servers, unavailable(ask(ctx, c))
	}
	return nil, fmt.Errorf("redisstore: cannot ask a %T", s.client)
}
