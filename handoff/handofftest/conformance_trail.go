package handofftest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
)

const journalName = "building:b1"

// grown is an end and the links that lead there from another.
func grown(t *testing.T, name string, from trail.End, texts ...string) (trail.End, []trail.Link) {
	t.Helper()
	hash := from.Hash
	if from.Seq == 0 {
		hash = trail.Genesis(name)
	}
	b := trail.Build(name, from.Seq, hash)
	for _, text := range texts {
		noError(t, "Add", b.Add(trail.Entry{Seq: b.Next(), At: 1795514400, What: text}))
	}
	h := b.Head(0)
	to := from
	to.Seq, to.Hash, to.Head = h.Seq, h.Hash, fmt.Sprintf("signed %d", h.Seq)
	to.Cursors = map[int]string{0: "1-1", 15: fmt.Sprintf("7-%d", h.Seq)}
	return to, b.Links()
}

func chainEnd(t *testing.T, w *World, name string) trail.End {
	t.Helper()
	end, err := w.Store.ChainEnd(t.Context(), name)
	noError(t, "ChainEnd", err)
	return end
}

func links(t *testing.T, w *World, name string, after uint64, limit int) []trail.Link {
	t.Helper()
	page, err := w.Store.Links(t.Context(), name, after, limit)
	noError(t, "Links", err)
	return page
}

// extended extends a chain by entries and returns its end.
func extended(t *testing.T, w *World, name string, texts ...string) (trail.End, []trail.Link) {
	t.Helper()
	from := chainEnd(t, w, name)
	to, more := grown(t, name, from, texts...)
	noError(t, "Extend", w.Store.Extend(t.Context(), name, from, to, more))
	return to, more
}

var trailTests = map[string]func(*testing.T, *World){
	"AChainThatHasNotBegun": func(t *testing.T, w *World) {
		equal(t, "its end", chainEnd(t, w, journalName), trail.End{})
		equal(t, "its entries", links(t, w, journalName, 0, 10), []trail.Link{})
		names, err := w.Store.Chains(t.Context())
		noError(t, "Chains", err)
		equal(t, "chains", len(names), 0)
		to, more := grown(t, journalName, trail.End{}, "a")
		if w.Store.Extend(t.Context(), "no name", trail.End{}, to, more) == nil {
			t.Error("a chain of any name was begun")
		}
	},

	"ExtendAndPage": func(t *testing.T, w *World) {
		_, first := extended(t, w, journalName, "a", "b", "c")
		to, more := extended(t, w, journalName, "d", "e")
		extended(t, w, "log:0f", "elsewhere")
		equal(t, "the end", chainEnd(t, w, journalName), to)
		all := slices.Concat(first, more)
		equal(t, "all", links(t, w, journalName, 0, 100), all)
		equal(t, "a page", links(t, w, journalName, 1, 2), all[1:3])
		equal(t, "after the end", links(t, w, journalName, 5, 2), []trail.Link{})
		names, err := w.Store.Chains(t.Context())
		noError(t, "Chains", err)
		slices.Sort(names)
		equal(t, "chains", names, []string{journalName, "log:0f"})
	},

	"ExtendFromElsewhereIsAConflict": func(t *testing.T, w *World) {
		none := trail.End{}
		one, _ := extended(t, w, journalName, "a")
		two, more := extended(t, w, journalName, "b")
		other := one
		other.Hash[0] ^= 1
		cut := two
		cut.Cut = 1
		for what, from := range map[string]trail.End{"its beginning": none, "an older end": one, "another hash": other, "a cut that was not made": cut} {
			to, again := grown(t, journalName, from, "x")
			if err := w.Store.Extend(t.Context(), journalName, from, to, again); !errors.Is(err, storage.ErrConflict) {
				t.Errorf("Extend from %s: %v, want a conflict", what, err)
			}
		}
		// The same once more, as after a lost answer: a conflict too, and nothing is there twice.
		if err := w.Store.Extend(t.Context(), journalName, one, two, more); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("Extend twice: %v, want a conflict", err)
		}
		equal(t, "the end", chainEnd(t, w, journalName), two)
		equal(t, "entries", len(links(t, w, journalName, 0, 10)), 2)
	},

	"Cut": func(t *testing.T, w *World) {
		four, all := extended(t, w, journalName, "a", "b", "c", "d")
		cut := four
		cut.Cut, cut.CutOff = 3, "signed cut"
		noError(t, "cutting", w.Store.Extend(t.Context(), journalName, four, cut, nil))
		equal(t, "the end", chainEnd(t, w, journalName), cut)
		equal(t, "what is left", links(t, w, journalName, 0, 10), all[3:])
		to, more := grown(t, journalName, four, "e")
		if err := w.Store.Extend(t.Context(), journalName, four, to, more); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("Extend over a cut: %v, want a conflict", err)
		}
		gone := cut
		gone.Cut = 4
		noError(t, "cutting all", w.Store.Extend(t.Context(), journalName, cut, gone, nil))
		equal(t, "nothing is left", links(t, w, journalName, 0, 10), []trail.Link{})
		_, more = extended(t, w, journalName, "e")
		equal(t, "what comes after", links(t, w, journalName, 0, 10), more)
		equal(t, "the cut stays", chainEnd(t, w, journalName).Cut, uint64(4))
	},

	"OnlyOneWriterGetsThrough": func(t *testing.T, w *World) {
		const writers, each = 6, 5
		for i, err := range together(writers, func(i int) error {
			for n := 0; n < each; {
				from, err := w.Store.ChainEnd(t.Context(), journalName)
				if err != nil {
					return err
				}
				to, more := grown(t, journalName, from, fmt.Sprintf("%d of %d", n, i), "and one more")
				switch err := w.Store.Extend(t.Context(), journalName, from, to, more); {
				case err == nil:
					n++
				case !errors.Is(err, storage.ErrConflict):
					return err
				}
			}
			return nil
		}) {
			noError(t, fmt.Sprintf("writer %d", i), err)
		}
		follows := trail.Build(journalName, 0, trail.Genesis(journalName))
		for _, l := range links(t, w, journalName, 0, 1000) {
			noError(t, "following", follows.Follow(l))
		}
		end := chainEnd(t, w, journalName)
		equal(t, "entries", follows.Next()-1, uint64(2*writers*each))
		equal(t, "the end", follows.Head(0), trail.Head{Chain: journalName, Seq: end.Seq, Hash: end.Hash})
	},

	"ALeaseIsOnesAlone": func(t *testing.T, w *World) {
		second := time.Second
		began := w.Clock.Now()
		lease := func(after time.Duration, holder string, lasts time.Duration, want bool) {
			t.Helper()
			w.Clock.Set(began.Add(after))
			held, err := w.Store.Lease(t.Context(), "ledger", holder, lasts)
			noError(t, "Lease", err)
			equal(t, holder+" holds it", held, want)
		}
		lease(0, "a", 5*second, true)
		lease(second, "b", 5*second, false)
		lease(2*second, "a", 5*second, true) // renewed
		lease(6*second, "b", 5*second, false)
		lease(7*second, "b", 5*second, true) // run out
		lease(8*second, "a", 5*second, false)
		lease(8*second, "a", 0, false) // not a's to give up
		lease(8*second, "b", 0, true)  // given up
		lease(8*second, "a", 5*second, true)
		held, err := w.Store.Lease(t.Context(), "another", "b", second)
		equal(t, "another lease", fmt.Sprint(held, err), "true <nil>")
	},

	// Another master took over, whose clock is behind or ahead: no lease holds for longer than
	// it was taken for, and none is held by two.
	"ALeaseOutlivesAStepOfTheStoresClock": func(t *testing.T, w *World) {
		lease := func(holder string, want bool) {
			t.Helper()
			held, err := w.Store.Lease(t.Context(), "ledger", holder, 5*time.Second)
			noError(t, "Lease", err)
			equal(t, holder+" holds it", held, want)
		}
		lease("a", true)
		w.Clock.Step(-time.Hour)
		lease("b", true) // a's would have held for an hour
		lease("a", false)
		w.Clock.Step(2 * time.Hour)
		lease("a", true)
		lease("b", false)
	},

	"AppendNoted": func(t *testing.T, w *World) {
		now := handoff.InstantOf(w.Clock.Now())
		forced := handoff.Event{Type: handoff.EventDoorForced, At: now, Building: "b1", Door: "d1", Target: handoff.Lobby, Claimed: now - 7}
		at := forced.Partition()
		for i, c := range []struct {
			n      eventlog.Note
			events int
			want   bool
		}{
			{eventlog.Note{Partition: at, Name: "d1", Is: "1"}, 1, true},
			{eventlog.Note{Partition: at, Name: "d1", Is: "1"}, 1, false}, // somebody else's, or its own repeated
			{eventlog.Note{Partition: at, Name: "d1", Was: "0", Is: "2"}, 1, false},
			{eventlog.Note{Partition: at, Name: "d1", Was: "1", Is: "2"}, 0, true},
			{eventlog.Note{Partition: at, Name: "d1", Was: "2", Is: "3 4"}, 2, true},
			{eventlog.Note{Partition: at, Name: "d2", Is: "1"}, 1, true},
			{eventlog.Note{Partition: (at + 1) % handoff.Partitions, Name: "d1", Is: "1"}, 0, true},
		} {
			written, err := w.Store.AppendNoted(t.Context(), now, c.n, slices.Repeat([]handoff.Event{forced}, c.events)...)
			noError(t, "AppendNoted", err)
			equal(t, fmt.Sprint(i, c.n), written, c.want)
		}
		note, err := w.Store.Noted(t.Context(), at, "d1")
		noError(t, "Noted", err)
		equal(t, "the note", note, "3 4")
		note, err = w.Store.Noted(t.Context(), at, "d3")
		noError(t, "Noted", err)
		equal(t, "no note", note, "")
		events := w.Events(t)
		equal(t, "events", len(events), 4)
		equal(t, "the event", events[0], forced)
	},

	"Tally": func(t *testing.T, w *World) {
		for want := 1; want <= 3; want++ {
			n, err := w.Store.Tally(t.Context(), "a", time.Hour)
			noError(t, "Tally", err)
			equal(t, "count", n, want)
		}
		n, err := w.Store.Tally(t.Context(), "b", time.Hour)
		noError(t, "Tally", err)
		equal(t, "another count", n, 1)
	},

	"AdvanceIsWhatAGroupHasFinished": func(t *testing.T, w *World) {
		id := story(t, w, "p1", 6)
		page, err := w.Store.Read(t.Context(), id.Partition(), "", 100)
		noError(t, "Read", err)
		if err := w.Store.Advance(t.Context(), "g", page[0].ID); !errors.Is(err, eventlog.ErrNotJoined) {
			t.Errorf("Advance of a group that has not joined: %v", err)
		}
		join(t, w, "g")
		equal(t, "before", trim(t, w, id, farAway()), int64(0))
		equal(t, "waiting", backlog(t, w, "g").Waiting, int64(6))
		noError(t, "Advance", w.Store.Advance(t.Context(), "g", page[3].ID))
		equal(t, "waiting", backlog(t, w, "g").Waiting, int64(2))
		noError(t, "Advance", w.Store.Advance(t.Context(), "g", page[1].ID)) // late: harmless
		equal(t, "dropped", trim(t, w, id, farAway()), int64(2))
		noError(t, "Advance", w.Store.Advance(t.Context(), "g", page[5].ID))
		equal(t, "dropped", trim(t, w, id, farAway()), int64(4))
		equal(t, "waiting", backlog(t, w, "g"), eventlog.Backlog{})
	},
}
