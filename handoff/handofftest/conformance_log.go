package handofftest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
)

const someone = "r1" // a reader

// ids of a log come from the clock of the service or of the store's server, so that
// the suite asks for times that lie on one side of both.
func longAgo() time.Time { return earlier(Noon, time.Now()).AddDate(-1, 0, 0) }

func farAway() time.Time { return earlier(Noon, time.Now()).AddDate(50, 0, 0) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// story commits a grant and n-1 more events of it, all in one partition, a second apart.
func story(t *testing.T, w *World, parcel string, n int) handoff.ParcelHash {
	t.Helper()
	c := commit(t, w, minted(t, w, 0, Sample(parcel)))
	for range n - 1 {
		w.Clock.Advance(time.Second)
		c = commit(t, w, follows(w, c, handoff.EventAttempted))
	}
	return c.Record.Grant.ID.Hash
}

func join(t *testing.T, w *World, groups ...string) {
	t.Helper()
	for _, g := range groups {
		noError(t, "Join", w.Core.Join(t.Context(), g))
	}
}

func take(t *testing.T, w *World, group string, limit int) []eventlog.Delivery {
	t.Helper()
	d, err := w.Core.Take(t.Context(), group, someone, limit)
	noError(t, "Take", err)
	if len(d) > limit {
		t.Fatalf("Take gave %d, over its limit of %d", len(d), limit)
	}
	return d
}

// takeAll takes until nothing comes.
func takeAll(t *testing.T, w *World, group string) []eventlog.Delivery {
	t.Helper()
	var all []eventlog.Delivery
	for {
		page := take(t, w, group, 7)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

func finish(t *testing.T, w *World, group string, ds ...eventlog.Delivery) {
	t.Helper()
	for _, d := range ds {
		noError(t, "Done", w.Core.Done(t.Context(), group, d.ID))
	}
}

// free takes everything out of the reader's hand.
func free(t *testing.T, w *World, group string) int {
	t.Helper()
	n, err := w.Core.Free(t.Context(), group, someone)
	noError(t, "Free", err)
	return n
}

func backlog(t *testing.T, w *World, group string) eventlog.Backlog {
	t.Helper()
	b, err := w.Core.Backlog(t.Context(), group)
	noError(t, "Backlog", err)
	return b
}

func ids(ds []eventlog.Delivery) []eventlog.ID {
	var out []eventlog.ID
	for _, d := range ds {
		out = append(out, d.ID)
	}
	return out
}

func trim(t *testing.T, w *World, id handoff.ParcelHash, keep time.Time) int64 {
	t.Helper()
	n, err := w.Core.Trim(t.Context(), id.Partition(), keep)
	noError(t, "Trim", err)
	return n
}

func kept(t *testing.T, w *World, id handoff.ParcelHash) int {
	t.Helper()
	page, err := w.Core.Read(t.Context(), id.Partition(), "", 1000)
	noError(t, "Read", err)
	return len(page)
}

var logTests = map[string]func(*testing.T, *World){
	"AppendOfNoGrant": func(t *testing.T, w *World) {
		join(t, w, "g")
		now := handoff.InstantOf(w.Clock.Now())
		var sent []handoff.Event
		for i, kind := range []handoff.EventType{handoff.EventDoorForced, handoff.EventDoorTampered, handoff.EventDoorHeldOpen} {
			sent = append(sent, handoff.Event{Type: kind, At: now + handoff.Instant(i), Building: "b1", Door: "d1"})
		}
		noError(t, "Append", w.Core.Append(t.Context(), now, sent[0], sent[1]))
		noError(t, "Append", w.Core.Append(t.Context(), now, sent[2]))
		id := story(t, w, "p1", 1)

		var got []handoff.Event
		for _, d := range takeAll(t, w, "g") {
			if d.Event.Grant.Hash == id {
				continue
			}
			equal(t, "the partition", d.ID.Partition, sent[0].Partition())
			got = append(got, d.Event)
		}
		equal(t, "the events of the building, in order", got, sent)
	},

	"ReadPages": func(t *testing.T, w *World) {
		id := story(t, w, "p1", 10)
		var seen []eventlog.ID
		for after := ""; ; {
			page, err := w.Core.Read(t.Context(), id.Partition(), after, 3)
			noError(t, "Read", err)
			if len(page) == 0 {
				break
			}
			if len(page) > 3 {
				t.Fatalf("a page of %d, over its limit of 3", len(page))
			}
			for _, l := range page {
				seen = append(seen, l.ID)
				equal(t, "partition", l.ID.Partition, id.Partition())
				equal(t, "grant", l.Event.Grant, handoff.GrantID{Hash: id, Generation: 1})
			}
			after = page[len(page)-1].ID.ID
		}
		if len(seen) != 10 {
			t.Errorf("read %d events, want 10", len(seen))
		}
		for i := 1; i < len(seen); i++ {
			if eventlog.CompareIDs(seen[i-1].ID, seen[i].ID) >= 0 {
				t.Errorf("ids do not rise: %s, then %s", seen[i-1].ID, seen[i].ID)
			}
		}
		empty, err := w.Core.Read(t.Context(), (id.Partition()+1)%handoff.Partitions, "", 3)
		if len(empty) != 0 || err != nil {
			t.Errorf("another partition reads %v, %v", empty, err)
		}
	},

	"BeforeAnEvent": func(t *testing.T, w *World) {
		id := story(t, w, "p1", 3)
		all, err := w.Core.Read(t.Context(), id.Partition(), "", 10)
		noError(t, "Read", err)
		ms, _, _ := strings.Cut(all[2].ID.ID, "-")
		last, err := strconv.ParseInt(ms, 10, 64)
		noError(t, "the time of an id", err)
		for at, want := range map[string]*eventlog.Logged{
			all[0].ID.ID: nil, "0-1": nil, all[1].ID.ID: &all[0], all[2].ID.ID: &all[1],
			eventlog.After(all[2].ID.ID): &all[2], fmt.Sprintf("%d-0", last+1000): &all[2],
		} {
			got, err := w.Core.Before(t.Context(), id.Partition(), at)
			noError(t, "Before", err)
			equal(t, "the event before "+at, got, want)
		}
		none, err := w.Core.Before(t.Context(), (id.Partition()+1)%handoff.Partitions, all[2].ID.ID)
		if none != nil || err != nil {
			t.Errorf("another partition has %v, %v", none, err)
		}
	},

	"EveryGroupGetsEveryEventInOrder": func(t *testing.T, w *World) {
		story(t, w, "before", 3)
		join(t, w, "mail", "webhooks", "mail")
		for i := range 20 {
			story(t, w, fmt.Sprintf("p%d", i), 3)
		}
		for _, group := range []string{"mail", "webhooks"} {
			got := takeAll(t, w, group)
			if len(got) != 63 {
				t.Errorf("%s got %d events, want 63", group, len(got))
			}
			byGrant := map[handoff.GrantID][]eventlog.ID{}
			for _, d := range got {
				if d.Tries != 0 || d.FirstFailed != 0 {
					t.Errorf("a first delivery has %d tries, first failed at %d", d.Tries, d.FirstFailed)
				}
				byGrant[d.Event.Grant] = append(byGrant[d.Event.Grant], d.ID)
			}
			for id, events := range byGrant {
				if len(events) != 3 || !slices.IsSortedFunc(events, func(a, b eventlog.ID) int { return eventlog.CompareIDs(a.ID, b.ID) }) {
					t.Errorf("%s got %v of grant %s", group, events, id)
				}
			}
			finish(t, w, group, got...)
			free(t, w, group)
			if again := takeAll(t, w, group); len(again) != 0 {
				t.Errorf("%s got %d finished events again", group, len(again))
			}
		}
		join(t, w, "mail") // joining again starts nothing over
		if again := takeAll(t, w, "mail"); len(again) != 0 {
			t.Errorf("after joining again: %d events", len(again))
		}
	},

	"WhatADeadReaderHadInHand": func(t *testing.T, w *World) {
		join(t, w, "mail", "doors")
		story(t, w, "p1", 3)
		first := take(t, w, "mail", 2)
		rest := takeAll(t, w, "mail")
		other := takeAll(t, w, "doors")
		if len(first) != 2 || len(rest) != 1 || len(other) != 3 {
			t.Fatalf("took %d, %d and %d, want 2, 1 and 3", len(first), len(rest), len(other))
		}
		finish(t, w, "mail", first[0])
		w.Clock.Advance(50 * time.Hour)
		if early := takeAll(t, w, "mail"); len(early) != 0 {
			t.Errorf("got %v, which is in hand: no time ends that", ids(early))
		}
		held, err := w.Core.Holders(t.Context(), "mail")
		noError(t, "Holders", err)
		equal(t, "in hand", held, map[string]int{someone: 2})

		equal(t, "freed", free(t, w, "mail"), 2)
		equal(t, "freed again", free(t, w, "mail"), 0)
		late := eventlog.Failure{Delivery: first[1], Error: "x", At: w.Clock.Now()}
		noError(t, "a late Retry", w.Core.Retry(t.Context(), "mail", late, time.Hour))
		noError(t, "a late Release", w.Core.Release(t.Context(), "mail", first[1]))
		taken, err := w.Core.Take(t.Context(), "mail", "r2", 9)
		noError(t, "Take", err)
		equal(t, "what another reader takes", ids(taken), ids([]eventlog.Delivery{first[1], rest[0]}))
		equal(t, "its tries", taken[0].Tries, 0)
		noError(t, "a late Bury", w.Core.Bury(t.Context(), "mail", late))
		noError(t, "a late Release", w.Core.Release(t.Context(), "mail", first[1]))
		if again := takeAll(t, w, "mail"); len(again) != 0 {
			t.Errorf("got %v out of another's hand", ids(again))
		}
		equal(t, "backlog", backlog(t, w, "mail").Waiting, int64(2))
		equal(t, "dead letters", backlog(t, w, "mail").Dead, int64(0))
		finish(t, w, "mail", first[1], rest[0], first[1]) // late, twice: harmless
		if again := takeAll(t, w, "mail"); len(again) != 0 {
			t.Errorf("finished events came again: %v", ids(again))
		}
		equal(t, "of another group", free(t, w, "doors"), 3)
	},

	"SignsOfLife": func(t *testing.T, w *World) {
		beat := func(reader string, first bool, want map[string]int64) {
			t.Helper()
			got, err := w.Core.Beat(t.Context(), reader, first)
			noError(t, "Beat", err)
			equal(t, "readers", got, want)
		}
		forget := func(reader string, count int64, want bool) {
			t.Helper()
			got, err := w.Core.Forget(t.Context(), reader, count)
			noError(t, "Forget", err)
			equal(t, fmt.Sprint("forgetting ", reader, " at ", count), got, want)
		}
		beat("a", false, map[string]int64{})
		beat("a", true, map[string]int64{"a": 1})
		beat("b", true, map[string]int64{"a": 1, "b": 1})
		beat("a", false, map[string]int64{"a": 2, "b": 1})
		forget("a", 1, false)
		forget("c", 0, false)
		forget("b", 1, true)
		forget("b", 1, false)
		beat("b", false, map[string]int64{"a": 2})
		forget("a", 2, true)
		beat("b", true, map[string]int64{"b": 1})
	},

	"NoOtherReaderGetsWhatIsInHand": func(t *testing.T, w *World) {
		join(t, w, "mail")
		for i := range 30 {
			story(t, w, fmt.Sprintf("p%d", i), 3)
		}
		got := make([][]eventlog.Delivery, 8)
		for _, err := range together(len(got), func(i int) error {
			for {
				page, err := w.Core.Take(t.Context(), "mail", fmt.Sprint("r", i), 5)
				if err != nil || len(page) == 0 {
					return err
				}
				got[i] = append(got[i], page...)
			}
		}) {
			noError(t, "Take", err)
		}
		got[0] = append(got[0], takeAll(t, w, "mail")...) // what a reader left whose page came up empty in a race
		seen := map[eventlog.ID]int{}
		for _, d := range slices.Concat(got...) {
			seen[d.ID]++
			if seen[d.ID] > 1 {
				t.Errorf("%v was delivered twice", d.ID)
			}
		}
		if len(seen) != 90 {
			t.Errorf("%d of 90 events were delivered", len(seen))
		}
	},

	"Retry": func(t *testing.T, w *World) {
		join(t, w, "mail")
		story(t, w, "p1", 2)
		ds := take(t, w, "mail", 2)
		if len(ds) != 2 {
			t.Fatalf("took %d, want 2", len(ds))
		}
		finish(t, w, "mail", ds[1])
		failed := handoff.InstantOf(w.Clock.Now())
		for tries := range 3 {
			f := eventlog.Failure{Delivery: ds[0], Error: "421 try later", At: w.Clock.Now()}
			noError(t, "Retry", w.Core.Retry(t.Context(), "mail", f, time.Hour))
			w.Clock.Advance(time.Hour - time.Second)
			if early := takeAll(t, w, "mail"); len(early) != 0 {
				t.Errorf("try %d: due too early: %v", tries, ids(early))
			}
			w.Clock.Advance(time.Second)
			again := takeAll(t, w, "mail")
			if len(again) != 1 {
				t.Fatalf("try %d: got %d events, want 1", tries, len(again))
			}
			want := ds[0]
			want.Tries, want.FirstFailed = tries+1, failed
			equal(t, "the retried delivery", again[0], want)
			ds[0] = again[0]
		}
		finish(t, w, "mail", ds[0])
		w.Clock.Advance(2 * time.Hour)
		if again := takeAll(t, w, "mail"); len(again) != 0 {
			t.Errorf("finished after retries, and yet again: %v", ids(again))
		}
	},

	"ARetriedEventIsInHandAgain": func(t *testing.T, w *World) {
		join(t, w, "mail")
		story(t, w, "p1", 1)
		d := take(t, w, "mail", 1)[0]
		noError(t, "Retry", w.Core.Retry(t.Context(), "mail", eventlog.Failure{Delivery: d, Error: "x", At: w.Clock.Now()}, 0))
		equal(t, "retried at once", ids(takeAll(t, w, "mail")), []eventlog.ID{d.ID})
		if again := takeAll(t, w, "mail"); len(again) != 0 {
			t.Errorf("a retried event is in no hand: %v", ids(again))
		}
		free(t, w, "mail")
		equal(t, "freed", ids(takeAll(t, w, "mail")), []eventlog.ID{d.ID})
	},

	"WhoLeavesKeepsNothingBack": func(t *testing.T, w *World) {
		join(t, w, "mail", "doors")
		id := story(t, w, "p1", 3)
		finish(t, w, "mail", takeAll(t, w, "mail")...)
		if n, err := w.Core.Trim(t.Context(), id.Partition(), farAway()); n != 0 || err != nil {
			t.Errorf("trimmed %d of what doors has not read, %v", n, err)
		}
		noError(t, "Leave", w.Core.Leave(t.Context(), "doors"))
		if n, err := w.Core.Trim(t.Context(), id.Partition(), farAway()); n != 3 || err != nil {
			t.Errorf("trimmed %d once doors has left, want 3, %v", n, err)
		}
		noError(t, "leaving twice", w.Core.Leave(t.Context(), "doors"))
	},

	"ALetterIsReplayedOnce": func(t *testing.T, w *World) {
		join(t, w, "mail")
		story(t, w, "p1", 1)
		d := takeAll(t, w, "mail")[0]
		noError(t, "Bury", w.Core.Bury(t.Context(), "mail", eventlog.Failure{Delivery: d, Error: "x", At: w.Clock.Now()}))
		for i, want := range []bool{true, false} {
			ok, err := w.Core.Replay(t.Context(), "mail", d.ID)
			noError(t, "Replay", err)
			equal(t, "replayed", ok, want)
			if i == 0 {
				finish(t, w, "mail", takeAll(t, w, "mail")...)
			}
		}
		equal(t, "events after that", len(takeAll(t, w, "mail")), 0)
	},

	"BuryListReplay": func(t *testing.T, w *World) {
		join(t, w, "mail", "webhooks")
		id := story(t, w, "p1", 3)
		ds := take(t, w, "mail", 3)
		if len(ds) != 3 {
			t.Fatalf("took %d, want 3", len(ds))
		}
		finish(t, w, "mail", ds[2])
		var died []handoff.Instant
		for _, d := range ds[:2] {
			w.Clock.Advance(time.Hour)
			died = append(died, handoff.InstantOf(w.Clock.Now()))
			noError(t, "Bury", w.Core.Bury(t.Context(), "mail", eventlog.Failure{Delivery: d, Error: "550 no such user", At: w.Clock.Now()}))
		}
		if again := takeAll(t, w, "mail"); len(again) != 0 {
			t.Errorf("the dead came again: %v", ids(again))
		}
		equal(t, "backlog", backlog(t, w, "mail"), eventlog.Backlog{Dead: 2})
		letters, err := w.Core.Dead(t.Context(), "mail")
		noError(t, "Dead", err)
		if len(letters) != 2 {
			t.Fatalf("%d letters, want 2", len(letters))
		}
		for i, l := range letters {
			equal(t, "letter's event", l.Logged, ds[i].Logged)
			equal(t, "letter's error", l.Error, "550 no such user")
			equal(t, "letter's time", l.DiedAt, died[i])
		}
		others, err := w.Core.Dead(t.Context(), "webhooks")
		if len(others) != 0 || err != nil {
			t.Errorf("another group's dead letters: %v, %v", others, err)
		}

		// A letter is listed until it is replayed, whatever became of the log.
		finish(t, w, "webhooks", takeAll(t, w, "webhooks")...)
		trim(t, w, id, farAway())
		for _, want := range []bool{true, false} {
			ok, err := w.Core.Replay(t.Context(), "mail", ds[0].ID)
			if ok != want || err != nil {
				t.Errorf("Replay = %v, %v, want %v", ok, err, want)
			}
		}
		replayed := take(t, w, "mail", 3)
		if len(replayed) != 1 || replayed[0].ID != ds[0].ID || replayed[0].Tries != 0 || replayed[0].FirstFailed != 0 {
			t.Errorf("replayed %+v, want it as if it had never failed", replayed)
		}
		noError(t, "Release", w.Core.Release(t.Context(), "mail", replayed[0]))
		letters, err = w.Core.Dead(t.Context(), "mail")
		if len(letters) != 1 || err != nil || letters[0].ID != ds[1].ID {
			t.Errorf("after one was replayed: %v, %v", letters, err)
		}
		again := takeAll(t, w, "mail")
		equal(t, "replayed", ids(again), []eventlog.ID{ds[0].ID})
		equal(t, "replayed event", again[0].Event, ds[0].Event)
		if twice := takeAll(t, w, "mail"); len(twice) != 0 {
			t.Errorf("a replayed event is in no hand: %v", ids(twice))
		}
		finish(t, w, "mail", again...)
		equal(t, "backlog", backlog(t, w, "mail"), eventlog.Backlog{Dead: 1})
	},

	"ReplayOfNothing": func(t *testing.T, w *World) {
		join(t, w, "mail")
		id := story(t, w, "p1", 1)
		ok, err := w.Core.Replay(t.Context(), "mail", eventlog.ID{Partition: id.Partition(), ID: "1-1"})
		if ok || err != nil {
			t.Errorf("Replay = %v, %v", ok, err)
		}
	},

	"Backlog": func(t *testing.T, w *World) {
		join(t, w, "mail")
		equal(t, "of an empty log", backlog(t, w, "mail"), eventlog.Backlog{})
		first := handoff.InstantOf(w.Clock.Now())
		story(t, w, "p1", 3)
		story(t, w, "p2", 2)
		equal(t, "nothing taken", backlog(t, w, "mail"), eventlog.Backlog{Waiting: 5, Oldest: first})
		ds := takeAll(t, w, "mail")
		equal(t, "all in hand", backlog(t, w, "mail"), eventlog.Backlog{Waiting: 5, Oldest: first})
		slices.SortFunc(ds, func(a, b eventlog.Delivery) int { return cmp.Compare(a.Event.At, b.Event.At) })
		finish(t, w, "mail", ds[0])
		noError(t, "Retry", w.Core.Retry(t.Context(), "mail", eventlog.Failure{Delivery: ds[1], Error: "x", At: w.Clock.Now()}, time.Hour))
		equal(t, "one finished, one to be retried", backlog(t, w, "mail"), eventlog.Backlog{Waiting: 4, Oldest: ds[1].Event.At})
		finish(t, w, "mail", ds[2:]...)
		w.Clock.Advance(time.Hour)
		finish(t, w, "mail", takeAll(t, w, "mail")...)
		equal(t, "all finished", backlog(t, w, "mail"), eventlog.Backlog{})
	},

	"TrimDropsWhatIsOld": func(t *testing.T, w *World) {
		id := story(t, w, "p1", 5)
		equal(t, "dropped, all being younger", trim(t, w, id, longAgo()), int64(0))
		equal(t, "kept", kept(t, w, id), 5)
		equal(t, "dropped, all being older and nobody reading", trim(t, w, id, farAway()), int64(5))
		equal(t, "kept", kept(t, w, id), 0)
		join(t, w, "mail")
		if late := takeAll(t, w, "mail"); len(late) != 0 {
			t.Errorf("a new group got what was dropped: %v", ids(late))
		}
	},

	"TrimWaitsForAGroupThatIsADayBehind": func(t *testing.T, w *World) {
		join(t, w, "fast", "slow")
		id := story(t, w, "p1", 6)
		finish(t, w, "fast", takeAll(t, w, "fast")...)
		w.Clock.Advance(24 * time.Hour)
		equal(t, "dropped before the slow one began", trim(t, w, id, farAway()), int64(0))

		ds := take(t, w, "slow", 3)
		if len(ds) != 3 {
			t.Fatalf("took %d, want 3", len(ds))
		}
		finish(t, w, "slow", ds[0], ds[2])
		equal(t, "dropped up to what is in hand", trim(t, w, id, farAway()), int64(1))
		noError(t, "Retry", w.Core.Retry(t.Context(), "slow", eventlog.Failure{Delivery: ds[1], Error: "x", At: w.Clock.Now()}, time.Hour))
		equal(t, "dropped up to what waits for its retry", trim(t, w, id, farAway()), int64(0))

		w.Clock.Advance(time.Hour)
		rest := takeAll(t, w, "slow")
		if len(rest) != 4 {
			t.Errorf("the slow one got %d events of the rest, want 4", len(rest))
		}
		finish(t, w, "slow", rest...)
		equal(t, "dropped once all is finished", trim(t, w, id, farAway()), int64(5))
		equal(t, "kept", kept(t, w, id), 0)
		equal(t, "backlog", backlog(t, w, "slow"), eventlog.Backlog{})
	},

	"UrgentFirst": func(t *testing.T, w *World) {
		join(t, w, "mail")
		told := func(parcel string) eventlog.ID { return logged(t, w, parcel, 0) }
		code := func(parcel string, day handoff.Date) eventlog.ID {
			d := Sample(parcel)
			d.Day = day
			w.Clock.Advance(time.Second)
			commit(t, w, minted(t, w, 0, d))
			return told(parcel)
		}
		// More of tomorrow's than a take has room for, then notices, then today's.
		var tomorrow, notices, today []eventlog.ID
		for i := range 40 {
			tomorrow = append(tomorrow, code(fmt.Sprint("t", i), Today.Next()))
		}
		for i := range 3 {
			parcel := fmt.Sprint("n", i)
			d := Sample(parcel)
			w.Clock.Advance(time.Second)
			c := commit(t, w, minted(t, w, 0, d))
			today = append(today, told(parcel))
			w.Clock.Advance(time.Second)
			commit(t, w, follows(w, c, handoff.EventAttempted))
			notices = append(notices, logged(t, w, parcel, 1))
		}
		for i := range 20 {
			today = append(today, code(fmt.Sprint("d", i), Today))
		}
		byAge := func(ids, got []eventlog.ID) {
			t.Helper()
			slices.SortFunc(ids, inLogOrder)
			equal(t, "in the order in which they happened", got, ids)
		}
		var got []eventlog.ID
		for reader := 0; ; reader++ { // each of several takes few
			page, err := w.Core.TakeUrgent(t.Context(), "mail", fmt.Sprint("r", reader%3), 1+reader%4)
			noError(t, "TakeUrgent", err)
			if len(page) == 0 {
				break
			}
			if len(page) > 1+reader%4 {
				t.Fatalf("TakeUrgent gave %d, over its limit of %d", len(page), 1+reader%4)
			}
			got = append(got, ids(page)...)
		}
		equal(t, "taken", len(got), len(tomorrow)+len(notices)+len(today))
		of := func(list []eventlog.ID) (places []int, in []eventlog.ID) {
			for i, id := range got {
				if slices.Contains(list, id) {
					places, in = append(places, i), append(in, id)
				}
			}
			return places, in
		}
		noticesAt, n := of(notices)
		todayAt, d := of(today)
		tomorrowAt, tm := of(tomorrow)
		byAge(notices, n)
		byAge(today, d)
		byAge(tomorrow, tm)
		if todayAt[len(todayAt)-1] > tomorrowAt[0] {
			t.Errorf("today's at %v, tomorrow's at %v", todayAt, tomorrowAt)
		}
		for i, at := range noticesAt { // each tenth place, give or take one page
			if at < 10*(i+1)-4 || at > 10*(i+1)+4 {
				t.Errorf("the notices are at %v, and not each tenth", noticesAt)
			}
		}
	},

	"UrgentAgain": func(t *testing.T, w *World) {
		join(t, w, "mail")
		var all []eventlog.ID
		for i := range 6 {
			w.Clock.Advance(time.Second)
			parcel := fmt.Sprint("p", i)
			commit(t, w, minted(t, w, 0, Sample(parcel)))
			all = append(all, logged(t, w, parcel, 0))
		}
		slices.SortFunc(all, inLogOrder)
		urgent := func(limit int) []eventlog.Delivery {
			t.Helper()
			page, err := w.Core.TakeUrgent(t.Context(), "mail", someone, limit)
			noError(t, "TakeUrgent", err)
			return page
		}
		equal(t, "of no room", len(urgent(0)), 0)
		equal(t, "by class", backlog(t, w, "mail").Classes, [handoff.Classes]int64{handoff.ClassCode: 6})
		first := urgent(3)
		equal(t, "the oldest", ids(first), all[:3])
		equal(t, "by class", backlog(t, w, "mail").Classes, [handoff.Classes]int64{handoff.ClassCode: 3})
		equal(t, "waiting", backlog(t, w, "mail").Waiting, int64(6))
		held, err := w.Core.Holders(t.Context(), "mail")
		noError(t, "Holders", err)
		equal(t, "in hand", held, map[string]int{someone: 3})
		noError(t, "Retry", w.Core.Retry(t.Context(), "mail", eventlog.Failure{Delivery: first[0], Error: "x", At: w.Clock.Now()}, time.Hour))
		noError(t, "Release", w.Core.Release(t.Context(), "mail", first[1]))
		equal(t, "freed", free(t, w, "mail"), 1)
		equal(t, "let go: the first again", ids(urgent(1)), all[1:2])
		w.Clock.Advance(time.Hour)
		again := urgent(2)
		equal(t, "due again: before those that are younger", ids(again), []eventlog.ID{all[0], all[2]})
		equal(t, "its tries", again[0].Tries, 1)
		finish(t, w, "mail", again...)
		noError(t, "Bury", w.Core.Bury(t.Context(), "mail", eventlog.Failure{Delivery: eventlog.Delivery{Logged: eventlog.Logged{ID: all[1]}, Reader: "another"}, Error: "x", At: w.Clock.Now()}))
		finish(t, w, "mail", eventlog.Delivery{Logged: eventlog.Logged{ID: all[4]}}) // while it is in order
		equal(t, "the rest", ids(urgent(9)), []eventlog.ID{all[3], all[5]})
		equal(t, "nothing is left in order", len(urgent(9)), 0)
		equal(t, "waiting", backlog(t, w, "mail").Waiting, int64(3))
	},

	"TrimKeepsWhatWaitsInOrder": func(t *testing.T, w *World) {
		join(t, w, "mail")
		id := story(t, w, "p1", 3)
		page, err := w.Core.TakeUrgent(t.Context(), "mail", someone, 1)
		noError(t, "TakeUrgent", err)
		finish(t, w, "mail", page...)
		before := kept(t, w, id)
		trim(t, w, id, farAway())
		if left := kept(t, w, id); left < before-1 {
			t.Errorf("%d of %d are left, and two wait", left, before)
		}
		rest, err := w.Core.TakeUrgent(t.Context(), "mail", someone, 9)
		noError(t, "TakeUrgent", err)
		equal(t, "what waited", len(rest), 2)
		finish(t, w, "mail", rest...)
		trim(t, w, id, farAway())
		equal(t, "kept once all is finished", kept(t, w, id), 0)
	},
}

// inLogOrder orders ids of all partitions, by when they were logged.
func inLogOrder(a, b eventlog.ID) int {
	return cmp.Or(eventlog.CompareIDs(a.ID, b.ID), cmp.Compare(a.Partition, b.Partition))
}

// logged is the id of a parcel's n-th event in the log.
func logged(t *testing.T, w *World, parcel string, n int) eventlog.ID {
	t.Helper()
	hash := w.Service.ParcelHash(Carrier, parcel)
	page, err := w.Core.Read(t.Context(), hash.Partition(), "", 1000)
	noError(t, "Read", err)
	for _, l := range page {
		if l.Event.Parcel == parcel {
			if n == 0 {
				return l.ID
			}
			n--
		}
	}
	t.Fatalf("%s has no such event", parcel)
	return eventlog.ID{}
}
