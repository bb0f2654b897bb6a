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

// several is a dispatch of parcels that arrive together.
func several(ids ...string) handoff.Dispatch {
	d := handofftest.Sample(ids[0])
	d.Together = &handoff.Together{}
	for _, id := range ids[1:] {
		d.Together.More = append(d.Together.More, handoff.Piece{Parcel: id})
	}
	return d
}

// A verify by the first of several parcels keeps its two waits, whatever else was scanned. By
// another one alone it takes one more, which reads the grant.
func TestTripsOfSeveral(t *testing.T) {
	s, wire := wired(t, "single", 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	knowScripts(t, s.client)
	first := w.Dispatch(t, handofftest.Sample("JJD9"))
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD9", first.CurrentCode())); err != nil { // the carrier's day is seen from now on
		t.Fatal(err)
	}
	g := w.Dispatch(t, several("JJD1", "JJD2", "JJD3", "JJD4", "JJD5"))
	code := func() service.Presentation {
		now := w.Parcel(t, "JJD1")
		return handofftest.AtDoor("cou_7", "", now.CurrentCode())
	}
	for _, c := range []struct {
		scanned  []string
		trips    int
		commands string
	}{
		{[]string{"JJD2"}, 3, "evalsha:1 expire:1 get:3 hgetall:1 lrange:1 lrem:1 rpush:1"},
		{[]string{"JJD3", "JJD1"}, 2, "evalsha:1 expire:1 get:2 hgetall:1 lrange:1 lrem:1 rpush:1"},
		{[]string{"JJD4", "JJD5"}, 3, "evalsha:1 expire:1 get:4 hgetall:1 lrange:1 lrem:1 rpush:1"},
	} {
		p := code()
		p.Parcel, p.Parcels = c.scanned[0], c.scanned
		trips, before := wire.Trips(), wire.Commands()
		if r, err := w.Service.Verify(t.Context(), p); err != nil || r.Grant != g.ID {
			t.Fatalf("%v: %v", c.scanned, err)
		}
		s.settling.Wait()
		if n := wire.Trips() - trips; n != c.trips {
			t.Errorf("%v: %d trips, want %d", c.scanned, n, c.trips)
		}
		if got := sent(before, wire.Commands()); got != c.commands {
			t.Errorf("%v:\n got %s\nwant %s", c.scanned, got, c.commands)
		}
	}
}

// Whatever connection breaks under a dispatch of several parcels, and whether the commit or the
// claim was done: either no grant is made, and the same dispatch makes it later, or all its parcels
// are found.
func TestADispatchOfSeveralWithCutConnections(t *testing.T) {
	s, wire := wired(t, "single", 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	knowScripts(t, s.client)
	for i, lose := range []func(int, redistest.Match){wire.LoseReplies, wire.LoseRequests} {
		for n := 1; n <= 4; n++ {
			ids := []string{fmt.Sprintf("A%d%d", i, n), fmt.Sprintf("B%d%d", i, n), fmt.Sprintf("C%d%d", i, n)}
			lose(n, redistest.Command("evalsha"))
			_, _, err := w.Service.Dispatch(t.Context(), several(ids...))
			wire.Disarm()
			if err != nil && !errors.Is(err, storage.ErrUnavailable) {
				t.Fatalf("%v: %v", ids, err)
			}
			if _, _, err := w.Service.Dispatch(t.Context(), several(ids...)); err != nil {
				t.Fatalf("%v again: %v", ids, err)
			}
			g := w.Parcel(t, ids[0])
			p := handofftest.AtDoor("cou_7", ids[2], g.CurrentCode())
			p.Parcels = ids
			if r, err := w.Service.Verify(t.Context(), p); err != nil || r.Grant != g.ID || r.Status != handoff.Released {
				t.Errorf("%v: %+v %v", ids, r, err)
			}
			if made := handofftest.Count(w.Events(t), handoff.EventDispatched); made != i*4+n {
				t.Errorf("%v: %d grants were made, want %d", ids, made, i*4+n)
			}
		}
	}
}

// The grant of one parcel has nothing of a group's: not one byte.
func TestAGrantOfOneParcelDoesNotGrow(t *testing.T) {
	s, _ := wired(t, "single", 0)
	w := handofftest.New(t, s)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	if g.Group != nil || g.Dispatch.Together != nil {
		t.Errorf("%+v", g.Group)
	}
	for _, e := range w.Events(t) {
		if len(e.Parcels) > 0 || e.Left != 0 {
			t.Errorf("%s names several", e.Type)
		}
	}
	again, err := encoder.Marshal(service.Record{Grant: g})
	if err != nil {
		t.Fatal(err)
	}
	var fields struct {
		Grant map[int]any `cbor:"1,keyasint"`
	}
	if err := decoder.Unmarshal(again, &fields); err != nil || len(fields.Grant) == 0 {
		t.Fatal(err)
	}
	for n := range fields.Grant {
		if n >= 26 {
			t.Errorf("it stores the field %d", n)
		}
	}
}
