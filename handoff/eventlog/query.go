package eventlog

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/handoff"
)

// Filter is which events of the log to read. Each field that is set has to hold.
type Filter struct {
	Types    []handoff.EventType // any of them; none: all
	Grant    handoff.GrantID
	Carrier  string
	Shop     string
	Courier  string             // ids of two carriers may collide
	Parcels  []string           // any of these ids; none: all
	Hash     handoff.ParcelHash // of Carrier and the one parcel, where both are known: it says in which partition to look
	Home     handoff.ParcelHash // beside Hash: of the first parcel, of several that the parcel is one of; empty: it is Hash
	Building string
	From, To time.Time // decided at From or later, and before To
}

// Page is a page of the log.
type Page struct {
	Events []Logged

	// Next is where the log goes on. A reader who keeps it and asks again later misses
	// nothing that is logged meanwhile.
	Next Cursor

	// More says that something follows already. A page may be empty and have more after it:
	// no page reads more than so many events to find those that are asked for.
	More bool
}

// Cursor is a place in the log: of each partition, the id of the last event that was
// read. The zero Cursor is before all events.
type Cursor [handoff.Partitions]string

// cursorVersion is the first byte of a cursor's text.
const cursorVersion = 1

// String is the cursor in a form that ParseEventCursor reads; empty for the zero one.
func (c Cursor) String() string {
	if c == (Cursor{}) {
		return ""
	}
	text := []byte{cursorVersion}
	for _, id := range c {
		ms, seq, _ := parseID(id)
		text = binary.AppendUvarint(binary.AppendUvarint(text, ms), seq)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ParseEventCursor reads what String writes.
func ParseCursor(text string) (c Cursor, ok bool) {
	if text == "" {
		return c, true
	}
	rest, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(rest) == 0 || rest[0] != cursorVersion {
		return c, false
	}
	rest = rest[1:]
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			ok = false
			return 0
		}
		rest = rest[n:]
		return v
	}
	ok = true
	for p := range c {
		if ms, seq := number(), number(); ms|seq != 0 {
			c[p] = fmt.Sprintf("%d-%d", ms, seq)
		}
	}
	// One text for each cursor, and none for the zero one but the empty one.
	if !ok || c.String() != text {
		return Cursor{}, false
	}
	return c, true
}

// CompareIDs orders the ids of one partition's events: negative where a was logged before
// b. It is the only order of event ids. What is no id, as the empty text, comes first.
func CompareIDs(a, b string) int {
	aMS, aSeq, _ := parseID(a)
	bMS, bSeq, _ := parseID(b)
	return cmp.Or(cmp.Compare(aMS, bMS), cmp.Compare(aSeq, bSeq))
}

// After is the least id that comes after an id.
func After(id string) string {
	ms, seq, _ := parseID(id)
	if seq++; seq == 0 { // it was the last of its millisecond
		ms++
	}
	return fmt.Sprintf("%d-%d", ms, seq)
}

// parseID reads the two numbers of an event's id.
func parseID(id string) (ms, seq uint64, ok bool) {
	left, right, ok := strings.Cut(id, "-")
	ms, errMS := strconv.ParseUint(left, 10, 64)
	seq, errSeq := strconv.ParseUint(right, 10, 64)
	return ms, seq, ok && errMS == nil && errSeq == nil
}

// When is when the event was decided, by the service's clock. Of an event that this
// version cannot read, it is when it was logged, by the store's.
func (l *Logged) When() time.Time {
	if l.Event.Type == 0 {
		ms, _, _ := parseID(l.ID.ID)
		return time.UnixMilli(int64(ms)).UTC().Truncate(time.Second)
	}
	return l.Event.At.Time()
}

// What is the event's type, or that this version cannot read it.
func (l *Logged) What() string {
	if l.Event.Type == 0 {
		return handoff.Unreadable
	}
	return l.Event.Type.String()
}

func (f *Filter) matches(l *Logged) bool {
	e := &l.Event
	is := func(want, got string) bool { return want == "" || want == got }
	at := l.When()
	return (len(f.Types) == 0 || slices.Contains(f.Types, e.Type)) &&
		(f.Grant == (handoff.GrantID{}) || f.Grant == e.Grant) &&
		is(f.Carrier, e.Carrier) && is(f.Shop, e.Shop) && is(f.Courier, e.Courier) && (len(f.Parcels) == 0 || slices.ContainsFunc(f.Parcels, func(p string) bool { return p == e.Parcel || slices.Contains(e.Parcels, p) })) && is(f.Building, e.Building) &&
		(f.From.IsZero() || !at.Before(f.From)) && (f.To.IsZero() || at.Before(f.To))
}

// partitions are those that what is asked for can be in.
func (f *Filter) partitions() []int {
	switch {
	case f.Grant != (handoff.GrantID{}):
		return []int{f.Grant.Hash.Partition()}
	case f.Hash != "" && f.Home != "" && f.Home.Partition() != f.Hash.Partition():
		return []int{f.Hash.Partition(), f.Home.Partition()}
	case f.Hash != "":
		return []int{f.Hash.Partition()}
	}
	all := make([]int, handoff.Partitions)
	for p := range all {
		all[p] = p
	}
	return all
}

const (
	// eventsScanned is how many events a page may read, beyond the first few of each
	// partition, before it ends with what it found.
	eventsScanned = 8192

	firstRead, fullRead = 32, 512 // events of one partition in one trip

	// outOfOrder is by how much the times of a partition's events may be out of order: each
	// instance decides by its own clock, and a commit takes its time.
	outOfOrder = 10 * time.Minute
)

// Reading is the part of a Log that a query reads.
type Reading interface {
	Read(ctx context.Context, partition int, after string, limit int) ([]Logged, error)
	Before(ctx context.Context, partition int, id string) (*Logged, error)
}

// partitionReader is the part of a partition's log that a page looks at.
type partitionReader struct {
	log       Reading
	filter    *Filter
	partition int
	length    int      // of the next read
	last      string   // the id of the last event that was passed
	ahead     []Logged // what follows it
	ended     bool     // after ahead, there is nothing
}

// seek skips what is older than what is asked for, where the reader comes without a
// cursor. Ids tell the store's time and not the service's. The two may be apart, as where
// a clock was set, so the event that stands there has the last word: if its own time is
// not as old as that, nothing is skipped.
func (r *partitionReader) seek(ctx context.Context) error {
	begin := r.filter.From.Add(-2 * outOfOrder)
	if r.last != "" || r.filter.From.IsZero() || begin.Unix() <= 0 {
		return nil
	}
	before, err := r.log.Before(ctx, r.partition, fmt.Sprintf("%d-0", begin.UnixMilli()))
	if err != nil || before == nil {
		return err
	}
	if !before.When().Add(outOfOrder).After(r.filter.From) {
		r.last = before.ID.ID
	}
	return nil
}

// next reads the events that follow the last one that was passed.
func (r *partitionReader) next(ctx context.Context) error {
	events, err := r.log.Read(ctx, r.partition, r.last, r.length)
	if err != nil {
		return err
	}
	r.ended = len(events) < r.length
	r.length = min(2*r.length, fullRead)
	if to := r.filter.To; !to.IsZero() {
		beyond := func(l Logged) bool { return !l.When().Before(to.Add(outOfOrder)) }
		if i := slices.IndexFunc(events, beyond); i >= 0 {
			events, r.ended = events[:i], true
		}
	}
	r.ahead = events
	return nil
}

// Query reads a page of the log: what matches a filter, oldest first, up to limit events
// from a place on.
//
// A reader who follows Next from page to page, with one filter, reads every event that is
// kept exactly once, also those that are logged meanwhile; asking for a page again gives it
// again, with what is new. Events of one grant come in their order. Those of different
// partitions come in the order of their times as far as they were logged when the page was
// read: one that is logged later can be older than what was read before it.
func Query(ctx context.Context, log Reading, f Filter, from Cursor, limit int) (Page, error) {
	page := Page{Next: from}
	var readers []*partitionReader
	scanned := 0
	for _, p := range f.partitions() {
		r := &partitionReader{log: log, filter: &f, partition: p, length: firstRead, last: from[p]}
		if err := r.seek(ctx); err != nil {
			return Page{}, err
		}
		if err := r.next(ctx); err != nil {
			return Page{}, err
		}
		scanned += len(r.ahead)
		readers = append(readers, r)
	}
	for len(page.Events) < limit {
		var first *partitionReader
		for _, r := range readers {
			if len(r.ahead) > 0 && (first == nil || earlier(&r.ahead[0], &first.ahead[0])) {
				first = r
			}
		}
		if first == nil {
			break
		}
		l := first.ahead[0]
		first.ahead, first.last = first.ahead[1:], l.ID.ID
		page.Next[first.partition] = l.ID.ID
		if f.matches(&l) {
			page.Events = append(page.Events, l)
		}
		if len(first.ahead) == 0 && !first.ended {
			if scanned >= eventsScanned {
				break // the order needs to know what follows here
			}
			if err := first.next(ctx); err != nil {
				return Page{}, err
			}
			scanned += len(first.ahead)
		}
	}
	for _, r := range readers {
		page.More = page.More || len(r.ahead) > 0 || !r.ended
	}
	return page, nil
}

// earlier orders events of different partitions.
func earlier(a, b *Logged) bool {
	return cmp.Or(a.When().Compare(b.When()), CompareIDs(a.ID.ID, b.ID.ID), cmp.Compare(a.ID.Partition, b.ID.Partition)) < 0
}
