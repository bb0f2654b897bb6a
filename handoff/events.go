package handoff

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
)

// EventFilter is which events of the log to read. Each field that is set has to hold.
type EventFilter struct {
	Types    []EventType // any of them; none: all
	Grant    GrantID
	Carrier  string
	Shop     string
	Courier  string // ids of two carriers may collide
	Parcel   string // likewise
	Building string
	From, To time.Time // decided at From or later, and before To
}

// EventPage is a page of the log.
type EventPage struct {
	Events []Logged

	// Next is where the log goes on. A reader who keeps it and asks again later misses
	// nothing that is logged meanwhile.
	Next EventCursor

	// More says that something follows already. A page may be empty and have more after it:
	// no page reads more than so many events to find those that are asked for.
	More bool
}

// EventCursor is a place in the log: of each partition, the id of the last event that was
// read. The zero EventCursor is before all events.
type EventCursor [Partitions]string

// cursorVersion is the first byte of a cursor's text.
const cursorVersion = 1

// String is the cursor in a form that ParseEventCursor reads; empty for the zero one.
func (c EventCursor) String() string {
	if c == (EventCursor{}) {
		return ""
	}
	text := []byte{cursorVersion}
	for _, id := range c {
		ms, seq, _ := parseEventID(id)
		text = binary.AppendUvarint(binary.AppendUvarint(text, ms), seq)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ParseEventCursor reads what String writes.
func ParseEventCursor(text string) (c EventCursor, ok bool) {
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
		return EventCursor{}, false
	}
	return c, true
}

// parseEventID reads the two numbers of an event's id.
func parseEventID(id string) (ms, seq uint64, ok bool) {
	left, right, ok := strings.Cut(id, "-")
	ms, errMS := strconv.ParseUint(left, 10, 64)
	seq, errSeq := strconv.ParseUint(right, 10, 64)
	return ms, seq, ok && errMS == nil && errSeq == nil
}

// When is when the event was decided, by the service's clock. Of an event that this
// version cannot read, it is when it was logged, by the store's.
func (l *Logged) When() time.Time {
	if l.Event.Type == 0 {
		ms, _, _ := parseEventID(l.ID.ID)
		return time.UnixMilli(int64(ms)).UTC().Truncate(time.Second)
	}
	return l.Event.At.Time()
}

// What is the event's type, or that this version cannot read it.
func (l *Logged) What() string {
	if l.Event.Type == 0 {
		return unreadable
	}
	return l.Event.Type.String()
}

// EventTypes lists the names of all types of events.
func EventTypes() []string {
	var names []string
	for _, name := range eventNames {
		if name != "" {
			names = append(names, name)
		}
	}
	return append(names, unreadable)
}

// ParseEventType reads what Logged.What writes; 0 is the type of what cannot be read.
func ParseEventType(name string) (EventType, bool) {
	if name == unreadable {
		return 0, true
	}
	return eventNames.parse(name)
}

func (f *EventFilter) matches(l *Logged) bool {
	e := &l.Event
	is := func(want, got string) bool { return want == "" || want == got }
	at := l.When()
	return (len(f.Types) == 0 || slices.Contains(f.Types, e.Type)) &&
		(f.Grant == (GrantID{}) || f.Grant == e.Grant) &&
		is(f.Carrier, e.Carrier) && is(f.Shop, e.Shop) && is(f.Courier, e.Courier) && is(f.Parcel, e.Parcel) && is(f.Building, e.Building) &&
		(f.From.IsZero() || !at.Before(f.From)) && (f.To.IsZero() || at.Before(f.To))
}

// partitions are those that what is asked for can be in.
func (s *Service) partitions(f *EventFilter) []int {
	switch {
	case f.Grant != (GrantID{}):
		return []int{f.Grant.Hash.Partition()}
	case f.Carrier != "" && f.Parcel != "":
		return []int{s.ParcelHash(f.Carrier, f.Parcel).Partition()}
	}
	all := make([]int, Partitions)
	for p := range all {
		all[p] = p
	}
	return all
}

const (
	// eventsScanned is how many events a page may read, beyond the first few of each
	// partition, before it ends with what it found.
	eventsScanned = 8192

	firstReel, fullReel = 32, 512 // events of one partition in one trip

	// outOfOrder is by how much the times of a partition's events may be out of order: each
	// instance decides by its own clock, and a commit takes its time.
	outOfOrder = 10 * time.Minute
)

// reel is the part of a partition's log that a page looks at.
type reel struct {
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
func (s *Service) seek(ctx context.Context, r *reel, f *EventFilter) error {
	begin := f.From.Add(-2 * outOfOrder)
	if r.last != "" || f.From.IsZero() || begin.Unix() <= 0 {
		return nil
	}
	before, err := s.store.Before(ctx, r.partition, fmt.Sprintf("%d-0", begin.UnixMilli()))
	if err != nil || before == nil {
		return err
	}
	if !before.When().Add(outOfOrder).After(f.From) {
		r.last = before.ID.ID
	}
	return nil
}

func (s *Service) wind(ctx context.Context, r *reel, f *EventFilter) error {
	events, err := s.store.Read(ctx, r.partition, r.last, r.length)
	if err != nil {
		return err
	}
	r.ended = len(events) < r.length
	r.length = min(2*r.length, fullReel)
	if !f.To.IsZero() {
		beyond := func(l Logged) bool { return !l.When().Before(f.To.Add(outOfOrder)) }
		if i := slices.IndexFunc(events, beyond); i >= 0 {
			events, r.ended = events[:i], true
		}
	}
	r.ahead = events
	return nil
}

// Events reads a page of the log: what matches a filter, oldest first, up to limit events
// from a place on.
//
// Whoever follows Next from page to page, with one filter, reads every event that is kept
// exactly once, also those that are logged meanwhile; asking for a page again gives it
// again, with what is new. Events of one grant come in their order. Those of different
// partitions come in the order of their times as far as they were logged when the page was
// read: one that is logged later can be older than what was read before it.
func (s *Service) Events(ctx context.Context, f EventFilter, from EventCursor, limit int) (EventPage, error) {
	page := EventPage{Next: from}
	var reels []*reel
	scanned := 0
	for _, p := range s.partitions(&f) {
		r := &reel{partition: p, length: firstReel, last: from[p]}
		if err := s.seek(ctx, r, &f); err != nil {
			return EventPage{}, err
		}
		if err := s.wind(ctx, r, &f); err != nil {
			return EventPage{}, err
		}
		scanned += len(r.ahead)
		reels = append(reels, r)
	}
	for len(page.Events) < limit {
		var next *reel
		for _, r := range reels {
			if len(r.ahead) > 0 && (next == nil || earlier(&r.ahead[0], &next.ahead[0])) {
				next = r
			}
		}
		if next == nil {
			break
		}
		l := next.ahead[0]
		next.ahead, next.last = next.ahead[1:], l.ID.ID
		page.Next[next.partition] = l.ID.ID
		if f.matches(&l) {
			page.Events = append(page.Events, l)
		}
		if len(next.ahead) == 0 && !next.ended {
			if scanned >= eventsScanned {
				break // the order needs to know what follows here
			}
			if err := s.wind(ctx, next, &f); err != nil {
				return EventPage{}, err
			}
			scanned += len(next.ahead)
		}
	}
	for _, r := range reels {
		page.More = page.More || len(r.ahead) > 0 || !r.ended
	}
	return page, nil
}

// earlier orders events of different partitions.
func earlier(a, b *Logged) bool {
	aMS, aSeq, _ := parseEventID(a.ID.ID)
	bMS, bSeq, _ := parseEventID(b.ID.ID)
	return cmp.Or(a.When().Compare(b.When()), cmp.Compare(aMS, bMS), cmp.Compare(aSeq, bSeq), cmp.Compare(a.ID.Partition, b.ID.Partition)) < 0
}
