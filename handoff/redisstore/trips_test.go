package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
)

// Two waits on Redis a verify and a dispatch, and no command more than the design needs.
// A wrong code takes a third trip, which charges the courier's account behind the answer:
// see TestAnswerComesBeforeTheCharge.
func TestTwoTrips(t *testing.T) {
	s, wire := wired(t, "single", 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	knowScripts(t, s.client)
	g := w.Dispatch(t, handofftest.Sample("JJD0"))
	code := g.CurrentCode()
	// The carrier's day is seen from now on: the clock stands. See TestAnswerComesBeforeTheCarriersDay.
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD9", code)); refusedFor(err, handoff.ParcelUnknown) != nil {
		t.Fatal(err)
	}
	far := handofftest.AtDoor("cou_7", "JJD0", code)
	far.Position.Point.Lat += 5000 // 556 m: farther away it is told, by a commit
	putKeypad(t, s)
	if err := s.PutDoor(t.Context(), handoff.Door{ID: "gate", Kind: handoff.Gate, Mode: handoff.Connected, BuildingID: "bld_turm5", Location: &handofftest.Home}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"pad", "gate"} { // the building of a door is learned once
		if _, err := s.Door(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	unlock := func(door string) func() error {
		return func() error {
			_, err := w.Service.Unlock(t.Context(), service.UnlockRequest{Courier: handofftest.Courier("cou_7"), Door: door, Parcel: "JJD0", Position: &handoff.Position{Point: handofftest.Home}})
			return err
		}
	}

	for _, c := range []struct {
		name     string
		do       func() error
		trips    int
		commands string
	}{
		{"dispatch", func() error {
			_, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD1"))
			return err
		}, 2, "evalsha:1 expire:4 get:1 hset:1 zadd:2 zremrangebyscore:1"},
		{"the same again", func() error {
			_, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD1"))
			return err
		}, 1, "expire:4 get:1 hset:1 zadd:2 zremrangebyscore:1"},
		{"wrong code", func() error {
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD0", handofftest.WrongCode(&g, 1)))
			return refusedFor(err, handoff.CodeMismatch)
		}, 3, "evalsha:2 expire:1 get:1 hgetall:1 lrange:1 rpush:2"},
		{"too far away", func() error {
			_, err := w.Service.Verify(t.Context(), far)
			return refusedFor(err, handoff.OutsideGeofence)
		}, 2, "expire:1 get:1 hgetall:1 lrange:1 lrem:1 rpush:1"},
		{"unknown parcel", func() error {
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD9", code))
			return refusedFor(err, handoff.ParcelUnknown)
		}, 2, "expire:1 get:1 hgetall:1 lrange:1 lrem:1 rpush:1"},
		{"unlock", unlock("gate"), 3, "evalsha:2 expire:1 get:3 hgetall:1 lrange:1 set:2"},
		// Before a permit is given out for a place, the courier's being there is noted.
		// Only when all else holds is a PIN reserved, which takes a trip more.
		{"unlock at a keypad", unlock("pad"), 4, "evalsha:2 expire:1 get:6 hgetall:2 lrange:2 set:3"},
		{"right code", func() error {
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD0", code))
			return err
		}, 2, "evalsha:1 expire:1 get:1 hgetall:1 lrange:1 lrem:1 rpush:1"},
	} {
		trips, before := wire.Trips(), wire.Commands()
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		s.settling.Wait()
		if n := wire.Trips() - trips; n != c.trips {
			t.Errorf("%s: %d trips, want %d", c.name, n, c.trips)
		}
		if got := sent(before, wire.Commands()); got != c.commands {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.commands)
		}
	}
}

func sent(before, after map[string]int) string {
	var lines []string
	for name, n := range after {
		if n -= before[name]; n != 0 {
			lines = append(lines, strings.ToLower(name)+":"+strconv.Itoa(n))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// held is a client hook that keeps back the trips that charge an account.
type held struct{ release chan struct{} }

func (h held) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if args := cmd.Args(); len(args) > 1 && args[1] == countScript.hash {
				<-h.release
			}
		}
		return next(ctx, cmds)
	}
}

// A wrong code is answered after its commit and before its courier is charged; until
// then its place stays taken.
func TestAnswerComesBeforeTheCharge(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	h := held{make(chan struct{})}
	client.AddHook(h)
	_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", handofftest.WrongCode(&g, 1)))
	if refusedFor(err, handoff.CodeMismatch) != nil {
		t.Fatal(err)
	}
	ref := handofftest.Courier("cou_7")
	snap, err := s.Load(t.Context(), service.Query{Parcel: g.ID.Hash, Courier: &ref})
	if err != nil || len(snap.Account.Reserved) != 1 || len(snap.Account.Doubtful) != 1 || len(snap.Account.Counted) != 0 {
		t.Errorf("before the charge: %+v, %v", snap.Account, err)
	}
	close(h.release)
	s.settling.Wait()
	if a := w.Account(t, "cou_7"); len(a.Counted) != 1 || len(a.Reserved) != 0 {
		t.Errorf("after the charge: %+v", a)
	}
}

// An instance that has not seen the carrier's day reads it beside the grant. Afterwards it
// is read behind the answer: a store that is slow to give it keeps back no verify.
func TestAnswerComesBeforeTheCarriersDay(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	one, two := w.Dispatch(t, handofftest.Sample("JJD1")), w.Dispatch(t, handofftest.Sample("JJD2"))
	h := heldDay{asked: make(chan struct{}, 4), release: make(chan struct{}), after: new(atomic.Int64)}
	client.AddHook(h)
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", one.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	<-h.asked
	h.after.Store(1) // from now on it is kept back
	w.Clock.Advance(2 * time.Second)
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD2", two.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	<-h.asked // behind the answer
	close(h.release)
	w.Service.Close()
	day, err := s.CarrierDay(t.Context(), handofftest.Carrier, handoff.InstantOf(w.Clock.Now()))
	if err != nil || day.Released != 2 {
		t.Errorf("%+v %v", day, err)
	}
}

// heldDay is a client hook that keeps back, after a while, the trips that read a carrier's day.
type heldDay struct {
	asked, release chan struct{}
	after          *atomic.Int64
}

func (h heldDay) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h heldDay) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h heldDay) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if args := cmds[0].Args(); len(args) > 1 && args[1] == carrierKey(0, handofftest.Carrier) {
			h.asked <- struct{}{}
			if h.after.Load() > 0 {
				<-h.release
			}
		}
		return next(ctx, cmds)
	}
}
