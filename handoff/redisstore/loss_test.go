package redisstore

import (
	"errors"
	"fmt"
	"testing"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// seenNo are made-up events of a log: 3 is the third, and 3x another event in its place.
func seenNo(names ...string) (list []Seen) {
	for _, name := range names {
		sum := uint64(1)
		if n := len(name); name[n-1] == 'x' {
			name, sum = name[:n-1], 2
		}
		list = append(list, Seen{ID: "170000000000" + name + "-0", Sum: sum, Count: 1})
	}
	return list
}

// What is lost, of what was read before (read) and acknowledged since (told), where the log now
// holds this from the first remembered event on (log), or (with its mark) after the mark.
func TestLossIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		read, told, log []string
		missing         bool // the mark
		whole, spilt    bool
		lost            []string
		after           string
		unnamed         bool
	}{
		"nothing":                               {read: []string{"1", "2"}, told: []string{"3"}, log: []string{"3", "4"}},
		"told before the mark was read":         {read: []string{"1", "2"}, told: []string{"2"}},
		"the mark is there, what was told not":  {read: []string{"1", "2"}, told: []string{"3", "4"}, log: []string{"3"}, lost: []string{"4"}},
		"another event with the id":             {read: []string{"1", "2"}, told: []string{"3"}, log: []string{"3x"}, lost: []string{"3"}},
		"the mark is gone":                      {read: []string{"1", "2", "3"}, log: []string{"1", "4"}, missing: true, lost: []string{"2", "3"}, after: "1"},
		"the mark's id is of another event":     {read: []string{"1", "2", "3"}, told: []string{"4"}, log: []string{"1", "2", "3x", "4x"}, missing: true, lost: []string{"3", "4"}, after: "2"},
		"what was told is gone as well, once":   {read: []string{"1", "2", "3"}, told: []string{"3", "4"}, log: []string{"1"}, missing: true, lost: []string{"2", "3", "4"}, after: "1"},
		"all that is remembered is gone":        {read: []string{"1", "2"}, log: []string{"3"}, missing: true, lost: []string{"1", "2"}, unnamed: true},
		"all is gone, from the log's beginning": {read: []string{"1", "2"}, log: []string{"3"}, missing: true, whole: true, lost: []string{"1", "2"}},
		"too much was told to be remembered":    {read: []string{"1", "2"}, log: []string{"1"}, missing: true, spilt: true, lost: []string{"2"}, after: "1", unnamed: true},
	} {
		r := &remembered{read: seenNo(c.read...), whole: c.whole}
		l := &logRead{entries: seenNo(c.log...), told: seenNo(c.told...), toEnd: true, spilt: c.spilt}
		loss := r.lost(l, c.missing)
		if loss == nil {
			if c.lost != nil {
				t.Errorf("%s: no loss", name)
			}
			continue
		}
		if fmt.Sprint(loss.Missing) != fmt.Sprint(seenNo(c.lost...)) || loss.Named == c.unnamed || loss.Events() != len(c.lost) {
			t.Errorf("%s: %+v", name, loss)
		}
		if c.after != "" && loss.After != seenNo(c.after)[0].ID {
			t.Errorf("%s: after %s", name, loss.After)
		}
	}
}

// A log that was not read to its end says nothing of what was acknowledged; it does when it is.
func TestLossIsNotSaidTooEarly(t *testing.T) {
	r := &remembered{read: seenNo("1"), told: seenNo("3", "4")}
	l := &logRead{entries: seenNo("2", "3"), told: seenNo("3", "4")}
	if loss := r.lost(l, false); loss != nil {
		t.Errorf("%+v", loss)
	}
	r.settle(l)
	r.read = append(r.read, l.entries...)
	if fmt.Sprint(r.told) != fmt.Sprint(seenNo("4")) {
		t.Errorf("%v are waited for", r.told)
	}
	l = &logRead{toEnd: true, told: seenNo("4")}
	if loss := r.lost(l, false); loss == nil || loss.Events() != 1 {
		t.Errorf("%+v", loss)
	}
	r.told = append(r.told, Seen{ID: "9-0"})
	r.settle(l)
	if len(r.told) != 1 || r.told[0].ID != "9-0" {
		t.Errorf("%v are waited for", r.told)
	}
}

// More than is remembered is said to be so, and not taken for all.
func TestLogMemoryIsBounded(t *testing.T) {
	m := new(LogMemory)
	for range toldKept + 1 {
		m.note(0, Seen{ID: "1-0"})
	}
	if told, spilt := m.parts[0].waiting(); len(told) != toldKept || !spilt {
		t.Errorf("%d, spilt %t", len(told), spilt)
	}
}

// What commits and appends were told is found in the logs by a look, and missed by it where the
// log is put back to what it was before.
func TestFollow(t *testing.T) {
	for name, replicated := range map[string]bool{"at once": false, "replicated": true} {
		t.Run(name, func(t *testing.T) {
			url, replicas := "redis://"+redistest.Single(t).Addr(), 0
			if replicated {
				set := redistest.Sentinel(t)
				url, replicas = "redis://"+set.Master().Addr(), 1
			}
			memory := new(LogMemory)
			client := dial(t, url)
			_, ring := newStore(t, client, 0)
			s, err := New(Config{Client: client, Sealer: ring, Retention: retention, Lanes: 2, Replicas: replicas, LogMemory: memory})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			var marks Marks
			follow := func(want map[int]int) *Followed {
				t.Helper()
				f, err := s.Follow(t.Context(), memory, marks)
				if err != nil {
					t.Fatal(err)
				}
				for p, loss := range f.Lost {
					switch n, some := want[p]; {
					case some != (loss != nil), some && loss.Events() != n, some && !loss.Named:
						t.Errorf("partition %d: %+v, want %d", p, loss, n)
					}
				}
				return f
			}
			accept := func(f *Followed) { f.Accept(); marks = f.Ends }
			accept(follow(nil))
			w := handofftest.New(t, s)
			first := w.Dispatch(t, handofftest.Sample("JJD1")).ID
			p := first.Hash.Partition()
			if told, _ := memory.parts[p].waiting(); len(told) != 1 || told[0].Of.Grant != first || told[0].Of.Type != handoff.EventDispatched {
				t.Fatalf("told: %+v", told)
			}
			accept(follow(nil))
			if told, _ := memory.parts[p].waiting(); len(told) != 0 || marks[p] == "" {
				t.Fatalf("still told: %v, marks %v", told, marks)
			}
			accept(follow(nil))

			// Read and then gone, and told and then gone.
			drop := func() {
				t.Helper()
				last, err := s.client.XRevRangeN(t.Context(), logKey(p), "+", "-", 1).Result()
				if err != nil || s.client.XDel(t.Context(), logKey(p), last[0].ID).Err() != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Service.Recall(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}, first, ""); err != nil {
				t.Fatal(err)
			}
			drop()
			f := follow(map[int]int{p: 1})
			if e := f.Lost[p].Missing[0].Of; e.Grant != first || e.Type != handoff.EventRecalled {
				t.Errorf("lost: %+v", e)
			}
			accept(f)
			accept(follow(nil))
			drop()
			f = follow(map[int]int{p: 1})
			if !f.Missing[p] || f.Lost[p].Missing[0].Of.Type != handoff.EventDispatched {
				t.Errorf("missing %t, lost: %+v", f.Missing[p], f.Lost[p])
			}
			accept(f)
			accept(follow(nil))
		})
	}
}

// A partition that is refused is neither read for a decision nor written; its parcels are held in
// lists, its events wait, and time changes nothing of it. The others go on.
func TestARefusedPartition(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	open, ring := newStore(t, client, 0)
	w := handofftest.New(t, open)
	a := w.Dispatch(t, handofftest.Sample("JJD1")).ID.Hash
	b := a
	for i := 2; b.Partition() == a.Partition(); i++ {
		b = w.Dispatch(t, handofftest.Sample(fmt.Sprintf("JJD%d", i))).ID.Hash
	}
	s, err := New(Config{Client: client, Sealer: ring, Retention: retention, Refused: func(p int) bool { return p == a.Partition() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ctx := t.Context()
	for hash, refused := range map[handoff.ParcelHash]bool{a: true, b: false} {
		snap, err := open.Load(ctx, service.Query{Parcel: hash})
		if err != nil {
			t.Fatal(err)
		}
		change := service.Change{From: snap.Version, Record: *snap.Record}
		_, load := s.Load(ctx, service.Query{Parcel: hash})
		_, prepare := s.Prepare(ctx, service.Preparation{Query: service.Query{Parcel: hash}})
		for name, err := range map[string]error{"load": load, "prepare": prepare, "confirm": s.Confirm(ctx, hash), "commit": s.Commit(ctx, change)} {
			if errors.Is(err, storage.ErrPartitionRefused) != refused || errors.Is(err, storage.ErrUnavailable) != refused {
				t.Errorf("%s, refused %t: %v", name, refused, err)
			}
		}
		grants, err := s.Many(ctx, []handoff.ParcelHash{hash})
		if err != nil || len(grants) != 1 || (grants[0].Status == handoff.Held) != refused || (grants[0].Doubt != nil) != refused {
			t.Errorf("in a list, refused %t: %+v, %v", refused, grants, err)
		}
		due, err := s.Due(ctx, hash.Partition(), 1<<40, 10)
		if err != nil || (len(due) == 0) != refused {
			t.Errorf("due, refused %t: %v, %v", refused, due, err)
		}
	}
	if err := s.Join(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1000, 10} { // each partition its share, and one after the other
		taken, err := s.Take(ctx, "g", fmt.Sprint("reader", limit), limit)
		if err != nil || limit == 1000 && len(taken) == 0 {
			t.Errorf("taken are %v, %v", taken, err)
		}
		for _, d := range taken {
			if d.ID.Partition == a.Partition() {
				t.Errorf("an event of the refused partition is taken: %v", d.ID)
			}
		}
	}
	if taken, err := open.Take(ctx, "g", "later", 1000); err != nil || len(taken) == 0 || taken[0].ID.Partition != a.Partition() {
		t.Errorf("what waited: %v, %v", taken, err)
	}
}
