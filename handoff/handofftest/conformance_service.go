package handofftest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// ready is a world with one courier on the sample route.
func ready(t *testing.T, w *World) {
	t.Helper()
	w.Cleared(t, "c1")
	w.Drives(t, "c1", Route, Today)
}

// settled holds a courier's account to what was counted, nothing being in flight.
func settled(t *testing.T, w *World, counted int) {
	t.Helper()
	if a := w.Account(t, "c1"); len(a.Counted) != counted || len(a.Reserved) != 0 {
		t.Errorf("the courier's account has %d counted and %d reserved, want %d and 0", len(a.Counted), len(a.Reserved), counted)
	}
}

var faultTests = map[string]func(*testing.T, *World){
	// "Done, but the reply is lost" and its twin, "not done, and no reply".
	"AReleaseIsDoneOnce": lostReplies(func(t *testing.T, w *World, g handoff.Grant, faults ...Fault) {
		_, err := w.Service.Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode()))
		equal(t, fmt.Sprint("answer after ", faults), reason(err), "")
		equal(t, fmt.Sprint("status after ", faults), w.Parcel(t, g.Dispatch.Parcel).Status, handoff.Released)
		equal(t, fmt.Sprint("releases after ", faults), of(w.Events(t), g.ID, handoff.EventReleased), 1)
		settled(t, w, 0)
	}),

	"AWrongCodeIsCountedOnce": lostReplies(func(t *testing.T, w *World, g handoff.Grant, faults ...Fault) {
		before := len(w.Account(t, "c1").Counted)
		_, err := w.Service.Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, WrongCode(&g, 1)))
		equal(t, fmt.Sprint("answer after ", faults), reason(err), string(handoff.CodeMismatch))
		equal(t, fmt.Sprint("counted after ", faults), of(w.Events(t), g.ID, handoff.EventCodeRefused), 1)
		equal(t, fmt.Sprint("wrong codes after ", faults), w.Parcel(t, g.Dispatch.Parcel).Code.Wrong, 1)
		settled(t, w, before+1)
	}),

	"ASlipIsCountedOnceAndExcused": lostReplies(func(t *testing.T, w *World, g handoff.Grant, faults ...Fault) {
		before := len(w.Account(t, "c1").Excused)
		_, err := w.Service.Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, SlipOf(&g, 1)))
		equal(t, fmt.Sprint("answer after ", faults), reason(err), string(handoff.CodeMismatch))
		equal(t, fmt.Sprint("wrong codes after ", faults), w.Parcel(t, g.Dispatch.Parcel).Code.Wrong, 1)
		equal(t, fmt.Sprint("excused after ", faults), len(w.Account(t, "c1").Excused), before+1)
		settled(t, w, 0)
	}),

	"AnOrderIsDoneOnce": lostReplies(func(t *testing.T, w *World, g handoff.Grant, faults ...Fault) {
		got, err := w.Service.Reissue(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, g.ID)
		equal(t, fmt.Sprint("answer after ", faults), reason(err), "")
		equal(t, fmt.Sprint("grant after ", faults), got, w.Parcel(t, g.Dispatch.Parcel))
		equal(t, fmt.Sprint("reissues after ", faults), got.Code.Reissues, 1)
	}),

	"WhatIsRefusedWasNotDone": func(t *testing.T, w *World) {
		faulty := &Faulty{Core: w.Core}
		w = New(t, faulty)
		ready(t, w)
		g := w.Dispatch(t, Sample("p1"))
		faulty.Next(Refused)
		_, err := w.Service.Verify(t.Context(), AtDoor("c1", "p1", g.CurrentCode()))
		equal(t, "answer", reason(err), "unavailable")
		equal(t, "grant", w.Parcel(t, "p1"), g)
		settled(t, w, 0)
	},
}

// lostReplies runs a test of one act for each way in which its first commits can end
// without the answer that they deserve.
func lostReplies(test func(t *testing.T, w *World, g handoff.Grant, faults ...Fault)) func(*testing.T, *World) {
	return func(t *testing.T, w *World) {
		faulty := &Faulty{Core: w.Core}
		w = New(t, faulty)
		ready(t, w)
		for i, faults := range [][]Fault{
			{ReplyLost}, {RequestLost}, {Overtaken}, {RequestLost, ReplyLost}, {Overtaken, RequestLost, RequestLost, ReplyLost},
		} {
			g := w.Dispatch(t, Sample(fmt.Sprintf("p%d", i)))
			faulty.Next(faults...)
			test(t, w, g, faults...)
			if left := faulty.Calm(); left != 0 {
				t.Errorf("%v: %d faults were not met", faults, left)
			}
		}
	}
}

// of counts a grant's events of a type.
func of(events []handoff.Event, id handoff.GrantID, typ handoff.EventType) int {
	return Count(slices.DeleteFunc(slices.Clone(events), func(e handoff.Event) bool { return e.Grant != id }), typ)
}

// processes is how many services act at once: each lets a courier's codes through one after
// the other, so that only several meet in the store.
const processes = 16

var contentionTests = map[string]func(*testing.T, *World){
	"OneOf200RightCodesReleases": func(t *testing.T, w *World) {
		ready(t, w)
		g := w.Dispatch(t, Sample("p1"))
		instances := w.Instances(t, processes)
		errs := together(200, func(i int) error {
			_, err := instances[i%processes].Verify(t.Context(), AtDoor("c1", "p1", g.CurrentCode()))
			return err
		})
		equal(t, "answers", tally(errs), map[string]int{"": 1, string(handoff.AlreadyReleased): 199})
		equal(t, "releases", Count(w.Events(t), handoff.EventReleased), 1)
		equal(t, "refused codes", Count(w.Events(t), handoff.EventCodeRefused), 0)
		settled(t, w, 0)
	},

	"FiveOf500WrongCodesAreCounted": func(t *testing.T, w *World) {
		ready(t, w)
		g := w.Dispatch(t, Sample("p1"))
		instances := w.Instances(t, processes)
		errs := together(500, func(i int) error {
			_, err := instances[i%processes].Verify(t.Context(), AtDoor("c1", "p1", WrongCode(&g, i)))
			return err
		})
		// Only five were counted, so that the courier's budget of twenty is not spent.
		equal(t, "answers", tally(errs), map[string]int{string(handoff.CodeMismatch): 5, string(handoff.CodeLocked): 495})
		var left []int
		for _, err := range errs {
			if refused, ok := err.(*handoff.Refusal); ok && refused.Reason == handoff.CodeMismatch {
				left = append(left, refused.AttemptsLeft)
			}
		}
		slices.Sort(left)
		equal(t, "attempts left", left, []int{0, 1, 2, 3, 4})
		events := w.Events(t)
		equal(t, "counted attempts", Count(events, handoff.EventCodeRefused), 5)
		equal(t, "locks", Count(events, handoff.EventCodeLocked), 1)
		settled(t, w, 5)
		_, err := w.Service.Verify(t.Context(), AtDoor("c1", "p1", g.CurrentCode()))
		equal(t, "the right code at a lock", reason(err), string(handoff.CodeLocked))
	},

	"TwentyOf750GuessesOver150ParcelsAreCounted": func(t *testing.T, w *World) {
		ready(t, w)
		var grants []handoff.Grant
		for i := range 150 {
			d := Sample(fmt.Sprintf("p%d", i))
			d.Customer.ID = d.Parcel
			grants = append(grants, w.Dispatch(t, d))
		}
		instances := w.Instances(t, processes)
		var stumbled atomic.Int32 // a store on a busy machine, of which asking again is right
		errs := together(750, func(i int) error {
			g := grants[i%len(grants)]
			for try := 0; ; try++ {
				_, err := instances[i%processes].Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, WrongCode(&g, i)))
				if !errors.Is(err, storage.ErrUnavailable) || try == 20 {
					return err
				}
				stumbled.Add(1)
			}
		})
		answers := tally(errs)
		if told := answers[string(handoff.CodeMismatch)]; stumbled.Load() > 0 && told < 20 {
			// A request that was charged, and was not told because the store stumbled, asked again.
			answers[string(handoff.CodeMismatch)], answers[string(handoff.BudgetExhausted)] = 20, answers[string(handoff.BudgetExhausted)]-(20-told)
		}
		equal(t, "answers", answers, map[string]int{string(handoff.CodeMismatch): 20, string(handoff.BudgetExhausted): 730})
		// A code that was compared is charged even if its commit failed, so that a store that
		// stumbles leaves fewer events than charges.
		if counted := Count(w.Events(t), handoff.EventCodeRefused); counted > 20 || counted < 20 && stumbled.Load() == 0 {
			t.Errorf("%d counted attempts, want 20, %d requests having stumbled", counted, stumbled.Load())
		}
		settled(t, w, 20)
		_, err := w.Service.Verify(t.Context(), AtDoor("c1", "p0", grants[0].CurrentCode()))
		equal(t, "the right code of a spent budget", reason(err), string(handoff.BudgetExhausted))
	},

	"OneAttemptSent50TimesIsOneAttempt": func(t *testing.T, w *World) {
		ready(t, w)
		for i, right := range []bool{false, true} {
			g := w.Dispatch(t, Sample(fmt.Sprintf("p%d", i)))
			p := AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode())
			counted := handoff.EventReleased
			if !right {
				p.Code, counted = WrongCode(&g, 7), handoff.EventCodeRefused
			}
			p.Attempt = "attempt-1"
			instances := w.Instances(t, processes)
			receipts := make([]service.Receipt, 50)
			errs := together(50, func(i int) (err error) {
				receipts[i], err = instances[i%processes].Verify(t.Context(), p)
				return err
			})
			for i := range errs {
				if !reflect.DeepEqual(errs[i], errs[0]) || !reflect.DeepEqual(receipts[i], receipts[0]) {
					t.Errorf("right=%v: answer %d is %+v, %v, the first was %+v, %v", right, i, receipts[i], errs[i], receipts[0], errs[0])
				}
			}
			if (errs[0] == nil) != right {
				t.Errorf("right=%v: %v", right, errs[0])
			}
			equal(t, "events", of(w.Events(t), g.ID, counted), 1)
			settled(t, w, 1)
		}
	},

	"EightSweepersExpireOnce": func(t *testing.T, w *World) {
		const parcels = 60
		for i := range parcels {
			w.Dispatch(t, Sample(fmt.Sprintf("p%d", i)))
		}
		w.Clock.Advance(24 * time.Hour)
		for _, err := range together(8, func(int) error {
			for {
				if n, err := w.Service.Sweep(t.Context(), 3); n == 0 || err != nil {
					return err
				}
			}
		}) {
			noError(t, "Sweep", err)
		}
		expired := map[handoff.GrantID]int{}
		for _, e := range w.Events(t) {
			if e.Type == handoff.EventExpired {
				expired[e.Grant]++
				if expired[e.Grant] > 1 {
					t.Errorf("%s expired twice", e.Grant)
				}
			}
		}
		equal(t, "expired grants", len(expired), parcels)
	},

	"OneDispatchSent50TimesIsOneGrant": func(t *testing.T, w *World) {
		grants, created := make([]handoff.Grant, 50), make([]bool, 50)
		for _, err := range together(50, func(i int) (err error) {
			grants[i], created[i], err = w.Service.Dispatch(t.Context(), Sample("p1"))
			return err
		}) {
			noError(t, "Dispatch", err)
		}
		n := 0
		for i := range grants {
			equal(t, "grant", grants[i], grants[0])
			if created[i] {
				n++
			}
		}
		equal(t, "created", n, 1)
		equal(t, "events", Count(w.Events(t), handoff.EventDispatched), 1)
	},

	"TwoShopsGetOneGrant": func(t *testing.T, w *World) {
		w.Dispatch(t, Sample("p1"))
		PassOn(w.Policy)
		errs := together(40, func(i int) error {
			d := Sample("p1")
			if i%2 == 1 {
				d.Shop = Other
			}
			_, _, err := w.Service.Dispatch(t.Context(), d)
			return err
		})
		equal(t, "answers", tally(errs), map[string]int{"": 20, string(handoff.DispatchConflict): 20})
		equal(t, "dispatched", Count(w.Events(t), handoff.EventDispatched), 1)
		equal(t, "contested", Count(w.Events(t), handoff.EventContested), 1) // told once
	},

	"ReissuesStayLimited": func(t *testing.T, w *World) {
		g := w.Dispatch(t, Sample("p1"))
		errs := together(40, func(int) error {
			_, err := w.Service.Reissue(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, g.ID)
			return err
		})
		equal(t, "answers", tally(errs), map[string]int{"": 3, string(handoff.ReissueLimit): 37})
	},

	"ARecallAndAReleaseAreNeverBothDone": func(t *testing.T, w *World) {
		ready(t, w)
		for i := range 20 {
			g := w.Dispatch(t, Sample(fmt.Sprintf("p%d", i)))
			errs := together(2, func(i int) error {
				if i == 0 {
					_, err := w.Service.Recall(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, g.ID, "")
					return err
				}
				_, err := w.Service.Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode()))
				return err
			})
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Errorf("recall: %v, release: %v", errs[0], errs[1])
			}
		}
	},
}
