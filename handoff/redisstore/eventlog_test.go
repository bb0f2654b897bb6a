package redisstore

import (
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

// Who may not be asked which readers there are must not trim: an unread event would be
// lost.
func TestTrimNeedsToKnowTheReaders(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 0)
	w := handofftest.New(t, s)
	ctx := t.Context()
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	partition := g.ID.Hash.Partition()
	if err := s.client.Do(ctx, "acl", "setuser", "blind", "on", ">secret", "~*", "+@all", "-xinfo").Err(); err != nil {
		t.Fatal(err)
	}
	blind, _ := newStore(t, dial(t, "redis://blind:secret@"+server.Addr()), 0)
	if n, err := blind.Trim(ctx, partition, time.Now().Add(time.Hour)); n != 0 || err == nil {
		t.Errorf("trimmed %d, %v", n, err)
	}
	if n := s.client.XLen(ctx, logKey(partition)).Val(); n != 1 {
		t.Errorf("%d events are left", n)
	}
}

// An event that this version cannot read becomes a dead letter, and its neighbours are
// delivered.
func TestAnUnreadableEventKeepsNoOtherBack(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	ctx := t.Context()
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	p := g.ID.Hash.Partition()
	if err := s.client.XAdd(ctx, &redis.XAddArgs{Stream: logKey(p), Values: []any{"e", "nonsense from a version to come"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Reissue(ctx, handoff.Actor{Role: handoff.RoleShop, Shop: "demo"}, g.ID); err != nil {
		t.Fatal(err)
	}
	taken, err := s.Take(ctx, "mail", "r1", 100)
	if len(taken) != 2 || err == nil {
		t.Errorf("took %d of 2 readable events, %v", len(taken), err)
	}
	if n, err := s.Free(ctx, "mail", "r1"); n != 2 || err != nil {
		t.Errorf("freed %d, %v", n, err)
	}
	if again, err := s.Take(ctx, "mail", "r2", 100); len(again) != 2 || err != nil {
		t.Errorf("freed, and taken again: %d, %v", len(again), err)
	}
	letters, err := s.Dead(ctx, "mail")
	if err != nil || len(letters) != 1 || letters[0].Error != undecodable {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
	if ok, err := s.Replay(ctx, "mail", letters[0].ID); ok || err == nil {
		t.Errorf("replayed what cannot be read: %v, %v", ok, err)
	}
}

// Redis began anew while the readers were at work: they join again and nothing that comes
// after is lost; until then the backlog says so.
func TestTheLogBeginsAnew(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { testTheLogBeginsAnew(t, miniredis.RunT(t).Addr()) })
	t.Run("single", func(t *testing.T) { testTheLogBeginsAnew(t, redistest.Single(t).Addr()) })
}

func testTheLogBeginsAnew(t *testing.T, addr string) {
	s, _ := newStore(t, dial(t, "redis://"+addr), 2)
	w := handofftest.New(t, s)
	ctx := t.Context()
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	flushed(t, s.client)
	w.Dispatch(t, handofftest.Sample("JJD1"))
	if _, err := s.Take(ctx, "mail", "r1", 100); !errors.Is(err, eventlog.ErrNotJoined) {
		t.Errorf("took from a log that was lost: %v", err)
	}
	if b, err := s.Backlog(ctx, "mail"); err != nil || b.Waiting != 1 || b.Oldest == 0 {
		t.Errorf("the backlog of a group that is not there: %+v, %v", b, err)
	}
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	if taken, err := s.Take(ctx, "mail", "r1", 100); len(taken) != 1 || err != nil {
		t.Errorf("after joining again: %d, %v", len(taken), err)
	}
}
