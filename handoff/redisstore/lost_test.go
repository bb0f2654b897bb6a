package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
)

// The script ran and its reply was lost: with go-redis's defaults it would run four
// times. Here one wrong code is one attempt, and a right one is answered "released".
func TestLostReplyOfACommit(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		for _, lanes := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s/lanes=%d", kind, lanes), func(t *testing.T) {
				s, wire := wired(t, kind, lanes)
				w := handofftest.New(t, s)
				w.Cleared(t, "cou_7")
				w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
				knowScripts(t, s.client)
				ctx := t.Context()

				wire.LoseReplies(1, redistest.Command("evalsha"))
				g := w.Dispatch(t, handofftest.Sample("JJD1"))

				wire.LoseReplies(1, redistest.Command("evalsha"))
				_, err := w.Service.Verify(ctx, handofftest.AtDoor("cou_7", "JJD1", handofftest.WrongCode(&g, 1)))
				var refused *handoff.Refusal
				if !errors.As(err, &refused) || refused.Reason != handoff.CodeMismatch || refused.AttemptsLeft != 4 {
					t.Fatalf("a wrong code was answered %v", err)
				}
				if n := len(w.Account(t, "cou_7").Counted); n != 1 {
					t.Errorf("the courier was charged %d wrong codes", n)
				}

				wire.LoseReplies(1, redistest.Command("evalsha"))
				r, err := w.Service.Verify(ctx, handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode()))
				if err != nil || r.Status != handoff.Released {
					t.Fatalf("the right code was answered %v, %v", r.Status, err)
				}
				if lost := wire.LostReplies(); lost != 3 {
					t.Errorf("%d replies were lost, want 3", lost)
				}
				events := w.Events(t)
				for typ, want := range map[handoff.EventType]int{handoff.EventDispatched: 1, handoff.EventCodeRefused: 1, handoff.EventReleased: 1} {
					if n := handofftest.Count(events, typ); n != want {
						t.Errorf("%d events %s, want %d", n, typ, want)
					}
				}
				if got := w.Parcel(t, "JJD1"); got.Code.TotalWrong != 1 || got.Status != handoff.Released {
					t.Errorf("the grant shows %d wrong codes and is %s", got.Code.TotalWrong, got.Status)
				}
				if a := w.Account(t, "cou_7"); len(a.Counted) != 1 || len(a.Reserved) != 0 {
					t.Errorf("the courier's account is %+v", a)
				}
			})
		}
	}
}

// losesReservations loses the first reply to every reservation of a permit.
type losesReservations struct {
	handofftest.Store
	wire *redistest.Wire
}

func (l losesReservations) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	if p.Permit != nil {
		l.wire.LoseReplies(1, redistest.Command("set"))
	}
	return l.Store.Prepare(ctx, p)
}

// A reservation whose reply was lost is made again, and found to be one's own; a door whose
// reply was lost is written.
func TestLostReplyOfAReservation(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		for _, lanes := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s/lanes=%d", kind, lanes), func(t *testing.T) {
				s, wire := wired(t, kind, lanes)
				w := handofftest.New(t, losesReservations{s, wire})
				w.Cleared(t, "cou_7")
				w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
				putKeypad(t, s)
				knowScripts(t, s.client)
				minute := uint64(w.Clock.Now().Unix() / 60)
				for i := range uint64(2) {
					parcel := fmt.Sprint("JJD", i)
					w.Dispatch(t, handofftest.Sample(parcel))
					p, err := w.Service.Unlock(t.Context(), atPad(parcel))
					if err != nil || p.Minute != minute+i {
						t.Errorf("minute %d, want %d: %v", p.Minute, minute+i, err)
					}
				}
				// Two trips for the first, one that reserves in vain more for the second.
				if lost := wire.LostReplies(); lost != 5 {
					t.Errorf("%d replies were lost, want 5", lost)
				}

				d, err := s.Door(t.Context(), "pad")
				if err != nil {
					t.Fatal(err)
				}
				d.Fence = 12
				wire.LoseReplies(1, redistest.Command("evalsha"))
				if err := s.PutDoor(t.Context(), *d); err != nil || wire.LostReplies() != 6 {
					t.Errorf("%v, after %d lost replies", err, wire.LostReplies())
				}
				if got, err := s.Door(t.Context(), "pad"); err != nil || got.Fence != 12 || string(got.Keypad) != string(keypadKey) {
					t.Errorf("the door is %+v, %v", got, err)
				}
				wire.LoseReplies(1, redistest.Command("evalsha"))
				if err := s.PutDoor(t.Context(), handoff.Door{ID: "pad", BuildingID: d.BuildingID, Removed: true}); err != nil || wire.LostReplies() != 7 {
					t.Errorf("removed: %v, after %d lost replies", err, wire.LostReplies())
				}
				if got, err := s.Door(t.Context(), "pad"); err != nil || got != nil {
					t.Errorf("the door that was removed is %+v, %v", got, err)
				}
			})
		}
	}
}

// The request never arrived: the caller cannot tell that from a lost reply, and must
// end at the same answer.
func TestLostRequestOfACommit(t *testing.T) {
	s, wire := wired(t, "single", 2)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	knowScripts(t, s.client)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	wire.LoseRequests(1, redistest.Command("evalsha"))
	if r, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode())); err != nil || r.Status != handoff.Released {
		t.Fatalf("answered %v, %v", r.Status, err)
	}
	if n := handofftest.Count(w.Events(t), handoff.EventReleased); n != 1 || wire.LostRequests() != 1 {
		t.Errorf("%d releases after %d lost requests", n, wire.LostRequests())
	}
}

func TestNotSent(t *testing.T) {
	_, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
	if err == nil || !notSent(err) {
		t.Errorf("a refused dial counts as sent: %v", err)
	}
	if notSent(context.DeadlineExceeded) {
		t.Error("a timeout counts as not sent")
	}
}
