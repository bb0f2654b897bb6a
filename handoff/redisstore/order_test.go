package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

// codes writes n code events of one day to the log, each partition its share.
func codes(t testing.TB, s *Store, n int, day handoff.Date) {
	t.Helper()
	for begin := 0; begin < n; begin += 1000 {
		pipe := s.client.Pipeline()
		for i := begin; i < min(begin+1000, n); i++ {
			hash := handoff.ParcelHash(fmt.Sprintf("%024x", i))
			e := handoff.Event{
				Type: handoff.EventDispatched, Grant: handoff.GrantID{Hash: hash, Generation: 1}, At: handoff.Instant(i + 1), Issue: 1,
				Window: &handoff.Window{From: 1, Until: 2}, Parcel: fmt.Sprint(day, " ", i),
			}
			raw, err := encodeEvent(&e)
			if err != nil {
				t.Fatal(err)
			}
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: logKey(i % handoff.Partitions), Values: []any{"e", raw, "u", urgencyOf(&e, day)}})
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What an older version wrote, and what one to come says in words that this one does not know,
// has its place behind the codes and before the notices.
func TestAnEventWithoutUrgency(t *testing.T) {
	s, _ := newStore(t, dial(t, "redis://"+redistest.Single(t).Addr()), 2)
	handofftest.New(t, s)
	if err := s.Join(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	notice := handoff.Event{Type: handoff.EventCodeLocked, Grant: handoff.GrantID{Hash: "000000000000000000000000", Generation: 1}, At: 1}
	raw, err := encodeEvent(&notice)
	if err != nil {
		t.Fatal(err)
	}
	add := func(values ...any) eventlog.ID {
		id, err := s.client.XAdd(t.Context(), &redis.XAddArgs{Stream: logKey(0), Values: append([]any{"e", raw}, values...)}).Result()
		if err != nil {
			t.Fatal(err)
		}
		return eventlog.ID{ID: id}
	}
	told := add("u", urgencyOf(&notice, handoff.Date{}))
	old := add()
	next := add("u", "2 0")
	beyond := add("u", fmt.Sprint("1 ", handoff.Ranks))
	codes(t, s, 1, handofftest.Today)
	taken, err := s.TakeUrgent(t.Context(), "mail", "r1", 9)
	if err != nil || len(taken) != 5 {
		t.Fatal(len(taken), err)
	}
	var got []eventlog.ID
	for _, d := range taken[1:] {
		got = append(got, d.ID)
	}
	if want := []eventlog.ID{old, next, beyond, told}; taken[0].Event.Type != handoff.EventDispatched || !slices.Equal(got, want) {
		t.Errorf("%v, then %v, want a code, then %v", taken[0].Event.Type, got, want)
	}
}

// The answer of either step is lost, or the question: each event comes once.
func TestTakeUrgentWhoseAnswerIsLost(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			s, wire := wired(t, kind, 2)
			handofftest.New(t, s)
			if err := s.Join(t.Context(), "mail"); err != nil {
				t.Fatal(err)
			}
			const n = 200
			codes(t, s, n, handofftest.Today)
			seen := map[eventlog.ID]int{}
			lost := 0
			take := func(reader string, limit int) {
				taken, err := s.TakeUrgent(t.Context(), "mail", reader, limit)
				if err != nil {
					lost++
				}
				for _, d := range taken {
					seen[d.ID]++
				}
			}
			take("r1", 1) // every node that it asks knows the scripts
			for round := range 40 {
				hash := []string{fileScript.hash, handOutScript.hash}[round%2]
				switch round % 8 {
				case 0, 1:
					wire.LoseReplies(1, redistest.Containing(hash))
				case 4, 5:
					wire.LoseRequests(1, redistest.Containing(hash))
				}
				take("r1", 4)
			}
			for range 20 {
				take("r1", 16)
			}
			others, err := s.TakeUrgent(t.Context(), "mail", "r2", n)
			if err != nil || len(others) != 0 {
				t.Errorf("another reader has %d, %v", len(others), err)
			}
			if lost == 0 || len(seen) != n {
				t.Errorf("%d of %d events, with %d answers lost", len(seen), n, lost)
			}
			for id, times := range seen {
				if times != 1 {
					t.Errorf("%v came %d times", id, times)
				}
			}
		})
	}
}

// While a service is brought up to date, readers of the version before take from the log beside
// those that take by urgency: every event comes once, and those of a reader that ended come to another.
func TestAnOldReaderBesideNewOnes(t *testing.T) {
	s, _ := newStore(t, dial(t, "redis://"+redistest.Single(t).Addr()), 2)
	handofftest.New(t, s)
	if err := s.Join(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	codes(t, s, n, handofftest.Today)
	var (
		mu   sync.Mutex
		seen = map[eventlog.ID]int{}
		all  sync.WaitGroup
	)
	for i, take := range []func(context.Context, string, string, int) ([]eventlog.Delivery, error){s.Take, s.TakeUrgent, s.TakeUrgent} {
		all.Go(func() {
			for round, empty := 0, 0; empty < 3; round++ {
				taken, err := take(t.Context(), "mail", fmt.Sprint("r", i), 8)
				if err != nil {
					t.Error(err)
					return
				}
				if empty++; len(taken) > 0 {
					empty = 0
				}
				for j, d := range taken {
					if (round+j)%5 == 0 {
						err = s.Release(t.Context(), "mail", d)
					} else if err = s.Done(t.Context(), "mail", d.ID); err == nil {
						mu.Lock()
						seen[d.ID]++
						mu.Unlock()
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	for { // what the old one could not see, when the new ones had ended
		taken, err := s.TakeUrgent(t.Context(), "mail", "last", 64)
		if err != nil {
			t.Fatal(err)
		}
		if len(taken) == 0 {
			break
		}
		for _, d := range taken {
			seen[d.ID]++
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d events", len(seen), n)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%v came %d times", id, times)
		}
	}
}

// Today's parcels that are dispatched behind 100,000 of tomorrow's are taken before them, and what
// a take, a look at the backlog and a trim ask of Redis does not grow with the backlog.
func TestTakeUrgentIsCheap(t *testing.T) {
	const n = 100_000
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	handofftest.New(t, s)
	if err := s.Join(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	codes(t, s, n, handofftest.Today.Next())
	began := time.Now()
	if first, err := s.TakeUrgent(t.Context(), "mail", "r1", 1); err != nil || len(first) != 1 {
		t.Fatal(len(first), err)
	}
	inOrder := func(want int64) {
		t.Helper()
		for {
			b, err := s.Backlog(t.Context(), "mail")
			if err != nil {
				t.Fatal(err)
			}
			if b.Classes[handoff.ClassCode] == want {
				return
			}
			if _, err := s.TakeUrgent(t.Context(), "mail", "r1", 0); err != nil || time.Since(began) > time.Minute {
				t.Fatalf("%d in order after %v, %v", b.Classes[handoff.ClassCode], time.Since(began), err)
			}
		}
	}
	inOrder(n - 1)
	t.Logf("%d events are in order after %v", n, time.Since(began))
	codes(t, s, 40, handofftest.Today)

	c := admin(t, server.Addr())
	if bytes, waits := c.MemoryUsage(t.Context(), orderKey(0, "mail"), 0).Val(), c.ZCard(t.Context(), orderKey(0, "mail")).Val(); bytes > 150*waits {
		t.Errorf("%d events take %d bytes", waits, bytes)
	} else {
		t.Logf("%d bytes an event", bytes/waits)
	}
	info := func(section, field string) (n int) {
		t.Helper()
		if _, err := fmt.Sscan(parseInfo(c.Info(t.Context(), section).Val())[field], &n); err != nil {
			t.Fatal(section, field, err)
		}
		return n
	}
	asked := func(what string, commands, bytes int, ask func()) {
		t.Helper()
		ask() // Redis knows the scripts
		before, from, cpu := server.Calls(), info("stats", "total_net_output_bytes"), time.Now()
		ask()
		took := time.Since(cpu)
		after, to := server.Calls(), info("stats", "total_net_output_bytes")
		calls := 0
		for name, k := range after {
			if name != "info" && name != "hello" && name != "client|setinfo" {
				calls += k - before[name]
			}
		}
		t.Logf("%s: %d commands, %d bytes, %v", what, calls, to-from, took)
		if calls > commands {
			t.Errorf("%s: %d commands, want at most %d", what, calls, commands)
		}
		if to-from > bytes { // INFO itself is in it
			t.Errorf("%s: answered with %d bytes, want at most %d", what, to-from, bytes)
		}
	}
	var taken []eventlog.Delivery
	// Of each partition a script of at most five commands files and looks, and one hands out; each
	// event costs four.
	asked("a take of 8", handoff.Partitions*6+8*5+8, 96<<10, func() {
		page, err := s.TakeUrgent(t.Context(), "mail", "r1", 8)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, page...)
	})
	for _, d := range taken {
		if got, want := d.Event.Parcel[:10], handofftest.Today.String(); got != want {
			t.Errorf("of %s, want of %s", got, want)
		}
	}
	if len(taken) != 16 || !slices.IsSortedFunc(taken, func(a, b eventlog.Delivery) int { return cmp.Compare(a.Event.At, b.Event.At) }) {
		t.Errorf("%d taken, or not in order", len(taken))
	}
	asked("a look at the backlog", handoff.Partitions*20, 64<<10, func() {
		b, err := s.Backlog(t.Context(), "mail")
		if err != nil || b.Waiting != n+40 || b.Classes[handoff.ClassCode] != n+40-17 {
			t.Errorf("%+v, %v", b, err)
		}
	})
	asked("a trim", 16, 64<<10, func() {
		if dropped, err := s.Trim(t.Context(), 0, time.Now().Add(time.Hour)); dropped != 0 || err != nil {
			t.Errorf("trimmed %d, %v", dropped, err)
		}
	})
}

// A trim keeps what waits in order, of whatever rank, and drops what is older than all of it.
func TestTrimBesideAnOrder(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	handofftest.New(t, s)
	if err := s.Join(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	day := handofftest.Today
	for range 5 { // the later day is logged first
		codes(t, s, 16, day)
		time.Sleep(70 * time.Millisecond) // more than a place tells apart: the trim is no sharper
		day = handoff.DateOf(time.Date(day.Year, day.Month, day.Day-1, 0, 0, 0, 0, time.UTC))
	}
	for left := int64(5); ; left-- {
		for p := range handoff.Partitions {
			if _, err := s.Trim(t.Context(), p, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			// The oldest waits for last: all are kept until the end.
			if got, want := s.client.XLen(t.Context(), logKey(p)).Val(), map[bool]int64{true: 5, false: 0}[left > 0]; got != want {
				t.Errorf("partition %d: %d are left, want %d", p, got, want)
			}
		}
		if left == 0 {
			break
		}
		taken, err := s.TakeUrgent(t.Context(), "mail", "r1", 16)
		if err != nil || len(taken) != 16 {
			t.Fatal(len(taken), err)
		}
		for _, d := range taken {
			if err := s.Done(t.Context(), "mail", d.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}
