package redisstore

import (
	"errors"
	"strings"
	"testing"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
	"latchkey/notify/trailwriter"
)

// A Redis without memory refuses to extend a chain. That is told as what Redis said, and is no
// entry of another program; with memory again, the chain goes on.
func TestFullMemoryIsNoTampering(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	w := handofftest.New(t, s)
	signer, err := trail.AuditSigner(handofftest.Namer{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := trailwriter.New(trailwriter.Config{Store: s, Signer: signer, Clock: w.Clock})
	if err != nil {
		t.Fatal(err)
	}
	forced := handoff.Event{Type: handoff.EventDoorForced, At: handoff.InstantOf(w.Clock.Now()), Building: "b1", Door: "lobby"}
	for range 2 {
		if err := s.Append(t.Context(), forced.At, forced); err != nil {
			t.Fatal(err)
		}
		if n, err := l.Work(t.Context()); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	const chain = "building:b1"
	end, err := s.ChainEnd(t.Context(), chain)
	if err != nil || end.Seq != 2 {
		t.Fatal(end.Seq, err)
	}
	c := admin(t, server.Addr())
	memory := func(most string) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), "maxmemory", most).Err(); err != nil {
			t.Fatal(err)
		}
	}
	b := trail.Build(chain, end.Seq, end.Hash)
	if err := b.Add(trail.Entry{Seq: b.Next(), At: 1, What: "door_forced"}); err != nil {
		t.Fatal(err)
	}
	to := end
	h := b.Head(1)
	to.Seq, to.Hash = h.Seq, h.Hash
	if to.Head, err = signer.Head(h); err != nil {
		t.Fatal(err)
	}
	memory("1")
	err = s.Extend(t.Context(), chain, end, to, b.Links())
	if errors.Is(err, trail.ErrForged) || !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("without memory: %v", err)
	}
	if _, err := l.Work(t.Context()); err == nil || errors.Is(err, trail.ErrForged) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("the work says %v", err)
	}
	memory("0")
	if err := s.Extend(t.Context(), chain, end, to, b.Links()); err != nil {
		t.Errorf("with memory again: %v", err)
	}
	if now, err := s.ChainEnd(t.Context(), chain); err != nil || now.Seq != 3 {
		t.Errorf("the chain ends with %d, %v", now.Seq, err)
	}
	// What another program wrote behind the end is still told from it.
	to.Seq = 4
	if err := c.Do(t.Context(), "xadd", chainEntriesKey(chain), "9-0", "e", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if now, err := s.ChainEnd(t.Context(), chain); err != nil || !errors.Is(s.Extend(t.Context(), chain, now, to, []trail.Link{{Seq: 4, Entry: []byte("x")}}), trail.ErrForged) {
		t.Errorf("an entry of another program is not noticed: %v", err)
	}
}
