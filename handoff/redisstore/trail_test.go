package redisstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/trail"
	"latchkey/notify/trailwriter"
)

// What is done to a chain from outside the program, with all that Redis offers, is found by
// verifying an export.
func TestTampering(t *testing.T) {
	server := redistest.Single(t)
	const name, lines = "building:b1", 6
	signer, err := trail.AuditSigner(handofftest.Namer{})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		do   func(c redis.UniversalClient) error
		kind trail.Kind
		seq  uint64
	}{
		"nothing": {do: func(redis.UniversalClient) error { return nil }},
		"an entry deleted": {
			func(c redis.UniversalClient) error { return c.XDel(t.Context(), chainEntriesKey(name), "3-0").Err() },
			trail.Dropped, 3,
		},
		"the last entries deleted": {
			func(c redis.UniversalClient) error {
				return c.XDel(t.Context(), chainEntriesKey(name), "5-0", "6-0").Err()
			},
			trail.Dropped, 5,
		},
		"the first entries trimmed": {
			func(c redis.UniversalClient) error {
				return c.XTrimMinID(t.Context(), chainEntriesKey(name), "3-0").Err()
			},
			trail.Dropped, 1,
		},
		"an entry changed": {
			func(c redis.UniversalClient) error {
				return rewrite(t, c, chainEntriesKey(name), "4-0", func(m *redis.XMessage) {
					m.Values["e"] = strings.Replace(m.Values["e"].(string), `"lobby"`, `"gate"`, 1)
				})
			},
			trail.Changed, 4,
		},
		"an entry that is nothing any more": {
			func(c redis.UniversalClient) error {
				return rewrite(t, c, chainEntriesKey(name), "4-0", func(m *redis.XMessage) { m.Values = map[string]any{"x": "y"} })
			},
			trail.Changed, 4,
		},
		"an entry in place of another": {
			func(c redis.UniversalClient) error {
				page, err := c.XRange(t.Context(), chainEntriesKey(name), "-", "+").Result()
				if err != nil {
					return err
				}
				return rewrite(t, c, chainEntriesKey(name), "2-0", func(m *redis.XMessage) { m.Values = page[4].Values })
			},
			trail.Changed, 2,
		},
		"an entry after the end": {
			func(c redis.UniversalClient) error {
				return c.XAdd(t.Context(), &redis.XAddArgs{Stream: chainEntriesKey(name), ID: "7-0", Values: []any{"e", `{"at":1,"seq":7,"what":"door_opened"}`, "h", strings.Repeat("h", 32)}}).Err()
			},
			"", 0, // it is no part of what is signed, and is not exported
		},
		"all of it deleted": {
			func(c redis.UniversalClient) error { return c.Del(t.Context(), chainEntriesKey(name)).Err() },
			trail.Dropped, 1,
		},
	} {
		t.Run(what, func(t *testing.T) {
			client := flushed(t, dial(t, "redis://"+server.Addr()))
			s, _ := newStore(t, client, 2)
			w := handofftest.New(t, s)
			for range lines {
				e := handoff.Event{Type: handoff.EventDoorForced, At: handoff.InstantOf(w.Clock.Now()), Building: "b1", Door: "lobby", Target: handoff.Lobby}
				if err := s.Append(t.Context(), e.At, e); err != nil {
					t.Fatal(err)
				}
			}
			l, err := trailwriter.New(trailwriter.Config{Store: s, Signer: signer, Clock: w.Clock})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := l.Work(t.Context()); n != lines || err != nil {
				t.Fatal(n, err)
			}
			if err := c.do(client); err != nil {
				t.Fatal(err)
			}
			var file bytes.Buffer
			for text, err := range trail.Export(t.Context(), s, name) {
				if err != nil {
					t.Fatal(err)
				}
				file.Write(text)
			}
			r, err := trail.Verify(&file, trail.Options{Key: signer.Key()})
			var fault *trail.Fault
			switch {
			case c.kind == "" && (err != nil || r.Entries != lines):
				t.Errorf("%v, %d entries", err, r.Entries)
			case c.kind != "" && (!errors.As(err, &fault) || fault.Kind != c.kind || fault.Seq != c.seq):
				t.Errorf("%v, want entry %d %s", err, c.seq, c.kind)
			}

			// The page that people read stands on its feet all the same.
			if _, err := w.Access.AccessLog(t.Context(), "b1", trail.AccessPage{Limit: 100}); err != nil {
				t.Error(err)
			}
			if what == "an entry after the end" {
				e := handoff.Event{Type: handoff.EventDoorForced, At: 1, Building: "b1", Door: "lobby"}
				if err := s.Append(t.Context(), 1, e); err != nil {
					t.Fatal(err)
				}
				heard := &heard{}
				l.Observer = heard
				if _, err := l.Work(t.Context()); err != nil || !errors.Is(heard.err, trail.ErrForged) {
					t.Errorf("extending over it: %v, told %v", err, heard.err)
				}
				if end, err := s.ChainEnd(t.Context(), name); err != nil || end.Seq != lines {
					t.Errorf("the chain ends with %d, %v", end.Seq, err)
				}
			}
		})
	}
}

type heard struct{ err error }

func (*heard) Entered(string, int) {}

func (h *heard) Failed(err error) { h.err = err }

// rewrite changes an entry of a stream in place, which takes writing the stream anew.
func rewrite(t *testing.T, c redis.UniversalClient, key, id string, change func(*redis.XMessage)) error {
	t.Helper()
	all, err := c.XRange(t.Context(), key, "-", "+").Result()
	if err != nil {
		return err
	}
	errs := []error{c.Del(t.Context(), key).Err()}
	for i := range all {
		if all[i].ID == id {
			change(&all[i])
		}
		errs = append(errs, c.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: all[i].ID, Values: all[i].Values}).Err())
	}
	return errors.Join(errs...)
}

// An event that this version cannot read stands in the log for those who account for it.
func TestReadOfTheUnreadable(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 0)
	e := handoff.Event{Type: handoff.EventDoorForced, At: 1, Building: "b1"}
	if err := s.Append(t.Context(), 1, e); err != nil {
		t.Fatal(err)
	}
	for _, values := range [][]any{{"e", "x"}, {"e", strings.Repeat("\xff", 40)}, {"f", "no event"}} {
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: logKey(e.Partition()), Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), e.Partition(), "", 10)
	if err != nil || len(page) != 4 || page[0].Event.Type != e.Type {
		t.Fatalf("%v, %+v", err, page)
	}
	for _, l := range page[1:] {
		if l.Event.Type != 0 || trail.TrailEntry(l).What != "unreadable" || trail.TrailEntry(l).At == 0 {
			t.Errorf("%+v", l)
		}
	}
}

// An extension whose answer is lost happened, or it did not: the chain tells, and the
// ledger goes on from there.
func TestLostExtension(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			s, wire := wired(t, kind, 2)
			w := handofftest.New(t, s)
			signer, err := trail.AuditSigner(handofftest.Namer{})
			if err != nil {
				t.Fatal(err)
			}
			l, err := trailwriter.New(trailwriter.Config{Store: s, Signer: signer, Clock: w.Clock})
			if err != nil {
				t.Fatal(err)
			}
			entered := uint64(0)
			for _, lose := range []func(int, redistest.Match){nil, wire.LoseReplies, wire.LoseRequests, wire.LoseReplies} {
				e := handoff.Event{Type: handoff.EventDoorForced, At: handoff.InstantOf(w.Clock.Now()), Building: "b1", Door: "lobby"}
				if err := s.Append(t.Context(), e.At, e); err != nil {
					t.Fatal(err)
				}
				entered++
				if lose != nil { // the first run has told every node its scripts
					lose(1, redistest.Containing(extendScript.hash))
				}
				for range 5 {
					if n, err := l.Work(t.Context()); n == 0 && err == nil {
						break
					}
				}
				end, err := s.ChainEnd(t.Context(), "building:b1")
				if err != nil || end.Seq != entered {
					t.Errorf("%d entries, want %d, %v", end.Seq, entered, err)
				}
			}
			var file bytes.Buffer
			for text, err := range trail.Export(t.Context(), s, "building:b1") {
				if err != nil {
					t.Fatal(err)
				}
				file.Write(text)
			}
			if r, err := trail.Verify(&file, trail.Options{Key: signer.Key()}); err != nil || r.Entries != entered {
				t.Errorf("%v, %d entries", err, r.Entries)
			}
		})
	}
}
