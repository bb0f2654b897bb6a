package redisstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

// appended writes n events to the log, of a hundred buildings.
func appended(t *testing.T, s *Store, n int) {
	t.Helper()
	for begin := 0; begin < n; begin += 1000 {
		var events []handoff.Event
		for i := begin; i < min(begin+1000, n); i++ {
			events = append(events, handoff.Event{Type: handoff.EventDoorForced, At: handoff.Instant(i + 1), Building: fmt.Sprint("b", i%100), Door: "d"})
		}
		if err := s.Append(t.Context(), 1, events...); err != nil {
			t.Fatal(err)
		}
	}
}

// The answer of a Take is lost, or the question is: the reader's next Take has all of it, each
// event once, and no other reader has any.
func TestTakeWhoseAnswerIsLost(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			s, wire := wired(t, kind, 2)
			handofftest.New(t, s)
			if err := s.Join(t.Context(), "mail"); err != nil {
				t.Fatal(err)
			}
			const n = 200
			appended(t, s, n)
			if _, err := s.Take(t.Context(), "warm", "r0", 16); err == nil { // every node knows the script
				t.Fatal("a group that is not there")
			}
			seen := map[eventlog.ID]int{}
			lost := 0
			for round := range 40 {
				switch round % 4 {
				case 0:
					wire.LoseReplies(1, redistest.Containing(takeScript.hash))
				case 2:
					wire.LoseRequests(1, redistest.Containing(takeScript.hash))
				}
				taken, err := s.Take(t.Context(), "mail", "r1", 16)
				if err != nil {
					lost++
				}
				for _, d := range taken {
					seen[d.ID]++
				}
			}
			for range 20 {
				taken, err := s.Take(t.Context(), "mail", "r1", 16)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range taken {
					seen[d.ID]++
				}
			}
			others, err := s.Take(t.Context(), "mail", "r2", n)
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

// What a reading of the backlog asks of Redis does not grow with it.
func TestBacklogIsCheap(t *testing.T) {
	const n = 100_000
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	handofftest.New(t, s)
	for _, group := range []string{"mail", "doors", "ledger"} {
		if err := s.Join(t.Context(), group); err != nil {
			t.Fatal(err)
		}
	}
	appended(t, s, n)
	// One reads, has some in hand, and has many that wait for another try; one did not begin; one
	// moves its cursor itself.
	taken, err := s.Take(t.Context(), "mail", "r1", 5000)
	if err != nil || len(taken) != 5000 {
		t.Fatal(len(taken), err)
	}
	for _, d := range taken[:4000] {
		if err := s.Retry(t.Context(), "mail", eventlog.Failure{Delivery: d, Error: "x", At: handofftest.Noon}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), taken[0].ID.Partition, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Advance(t.Context(), "ledger", page[9].ID); err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]int64{"mail": n, "doors": handoff.Partitions * backlogCounted, "ledger": handoff.Partitions * backlogCounted} {
		if _, err := s.Backlog(t.Context(), group); err != nil { // Redis knows the script
			t.Fatal(err)
		}
		c := admin(t, server.Addr())
		out := func() string { return parseInfo(c.Info(t.Context(), "stats").Val())["total_net_output_bytes"] }
		before, bytesBefore := server.Calls(), out()
		b, err := s.Backlog(t.Context(), group)
		if err != nil || b.Waiting != want || b.Oldest == 0 || b.Oldest > 100 {
			t.Errorf("%s: %+v, %v, want %d waiting", group, b, err, want)
		}
		after, bytesAfter := server.Calls(), out()
		calls := 0
		for name, k := range after {
			if name != "info" && name != "hello" && name != "client|setinfo" {
				calls += k - before[name]
			}
		}
		// A script; of the log its groups, the next event, perhaps a count, and the oldest; of what
		// waits a list and three lengths.
		if most := handoff.Partitions * 10; calls > most {
			t.Errorf("%s: %d commands, want at most %d", group, calls, most)
		}
		var from, to int
		if _, err := fmt.Sscan(bytesBefore, &from); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(bytesAfter, &to); err != nil {
			t.Fatal(err)
		}
		if to-from > 64<<10 { // INFO itself is in it
			t.Errorf("%s: answered with %d bytes", group, to-from)
		}
	}
}

// A failover makes a replica master whose clock is an hour ahead, or behind. What is in hand
// stays in hand, nothing is handed out twice, no lease holds for an hour, and a try that is planned
// from then on is due when it should be.
func TestFailoverToAnotherClock(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			set := redistest.Sentinel(t)
			url := "redis://" + set.SentinelAddrs()[0] + "?master_name=" + set.MasterName()
			client := dial(t, url)
			s, _ := newStore(t, client, 2)
			w := handofftest.New(t, s)
			if err := s.Join(t.Context(), "mail"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Beat(t.Context(), "r1", true); err != nil {
				t.Fatal(err)
			}
			appended(t, s, 40)
			taken, err := s.Take(t.Context(), "mail", "r1", 40)
			if err != nil || len(taken) != 40 {
				t.Fatal(len(taken), err)
			}
			if held, err := s.Lease(t.Context(), "ledger", "a", 5*time.Second); !held || err != nil {
				t.Fatal(held, err)
			}
			if n, err := client.(*redis.Client).Wait(t.Context(), 1, 5*time.Second).Result(); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			set.AwaitFailover(set.KillMaster())
			w.Clock.Step(jump)
			var others []eventlog.Delivery
			for began := time.Now(); ; {
				if others, err = s.Take(t.Context(), "mail", "r2", 40); err == nil || time.Since(began) > 20*time.Second {
					break
				}
			}
			if err != nil || len(others) != 0 {
				t.Errorf("another reader has %d that are in hand, %v", len(others), err)
			}
			held, err := s.Lease(t.Context(), "ledger", "b", 5*time.Second)
			if err != nil || !held { // ahead: it ran out; behind: it would have held for an hour
				t.Errorf("the lease of an instance that died: %v, %v", held, err)
			}
			if err := s.Retry(t.Context(), "mail", eventlog.Failure{Delivery: taken[0], Error: "x", At: w.Clock.Now()}, time.Second); err != nil {
				t.Fatal(err)
			}
			for _, d := range taken[1:] {
				if err := s.Done(t.Context(), "mail", d.ID); err != nil {
					t.Fatal(err)
				}
			}
			w.Clock.Advance(time.Second)
			if again, err := s.Take(t.Context(), "mail", "r2", 40); err != nil || len(again) != 1 || again[0].ID != taken[0].ID {
				t.Errorf("a second after its failure: %d, %v", len(again), err)
			}
		})
	}
}

// A clock is judged apart only where it is so whatever the way took.
func TestClocksApart(t *testing.T) {
	s, _ := newStore(t, dial(t, "redis://"+redistest.Single(t).Addr()), 2)
	for by, want := range map[time.Duration]bool{0: false, 1900 * time.Millisecond: false, -1900 * time.Millisecond: false, 3 * time.Second: true, -3 * time.Second: true, 24 * time.Hour: true} {
		w := NewWatch(s, func() time.Time { return time.Now().Add(by) })
		found, err := w.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		apart := false
		for _, f := range found.Faults {
			apart = apart || f.Kind == FaultClock
		}
		if d := found.Ahead - by; apart != want || d.Abs() > 500*time.Millisecond {
			t.Errorf("%v ahead: apart %v, shown as %v", by, apart, found.Ahead)
		}
		if err := w.Ready(t.Context()); err != nil {
			t.Errorf("%v ahead: not ready: %v", by, err)
		}
	}
}
