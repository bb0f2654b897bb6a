package handofftest

import (
	"fmt"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// guesser is a courier who enters wrong codes at one service, at a new parcel every two codes.
type guesser struct {
	*World
	name    string
	guesses int
}

// clocked is a guesser of a carrier that may say most wrong codes a day, whose couriers have
// budgets without end.
func clocked(t *testing.T, w *World, name string, most int) *guesser {
	t.Helper()
	w.Policy.Limits.CarrierDay, w.Policy.Limits.CarrierShare = most, 0
	w.Policy.Limits.CourierDay, w.Policy.Limits.CourierMonth, w.Policy.Limits.CourierCustomer = 1000, 1000, 1000
	ready(t, w)
	return &guesser{World: w, name: name}
}

// enter dispatches a parcel for the day of the guesser's clock, and enters a code.
func (g *guesser) enter(t *testing.T, right bool) string {
	t.Helper()
	zone, err := handoff.Zone(Zone)
	noError(t, "Zone", err)
	day := handoff.DateOf(g.Clock.Now().In(zone))
	d := Sample(fmt.Sprintf("%s-%v-%d", g.name, day, g.guesses/2))
	d.Day = day
	g.guesses++
	grant := g.Parcel(t, d.Parcel)
	if grant.ID.Hash == "" {
		grant = g.Dispatch(t, d)
		g.Drives(t, "c1", Route, day)
	}
	code := grant.CurrentCode()
	if !right {
		code = WrongCode(&grant, g.guesses)
	}
	_, err = g.Service.Verify(t.Context(), AtDoor("c1", d.Parcel, code))
	return reason(err)
}

const wrongCode, limited = string(handoff.CodeMismatch), string(handoff.CarrierLimit)

// clockTests are about clocks that are set, forward and back, and that differ between the
// instances that share a store.
var clockTests = map[string]func(*testing.T, *World){
	// A clock that is set back switched the carrier's limit off: the day that was read again
	// looked older than the one at hand, every further wrong code was answered "unavailable",
	// and the right one released the parcel.
	"AStepOfTheClockKeepsTheCarriersLimit": func(t *testing.T, w *World) {
		for i, step := range []time.Duration{24 * time.Hour, -time.Hour, -10 * time.Minute, -time.Second} {
			about := fmt.Sprint(", a step of ", step)
			const more = 12
			g := clocked(t, New(t, w.Core), fmt.Sprint("p", i), more*(i+1)) // to what was counted before
			for n := range more {
				if n == more/3 {
					g.Clock.Step(step)
				}
				equal(t, fmt.Sprint("wrong code ", n+1, about), g.enter(t, false), wrongCode)
			}
			for _, right := range []bool{false, true, false, true} {
				equal(t, fmt.Sprint("at the limit, right ", right, about), g.enter(t, right), limited)
			}
			g.Clock.Step(-step)
			for _, right := range []bool{false, true} {
				equal(t, fmt.Sprint("once the clock is set right, right ", right, about), g.enter(t, right), limited)
			}
		}
	},

	"InstancesWhoseClocksDifferShareTheCarriersLimit": func(t *testing.T, w *World) {
		for i, apart := range []time.Duration{-time.Hour, -2 * time.Minute, 2 * time.Minute, time.Hour} {
			const more = 12
			about := fmt.Sprint(", clocks ", apart, " apart")
			most := more * (i + 1)
			one, two := clocked(t, New(t, w.Core), fmt.Sprint("a", i), most), clocked(t, New(t, w.Core), fmt.Sprint("b", i), most)
			two.Clock.Step(apart)
			for n := range more {
				equal(t, fmt.Sprint("wrong code ", n+1, about), []*guesser{one, two}[n%2].enter(t, false), wrongCode)
				if n == more/2 { // one is set right, and the other wrong
					one.Clock.Step(apart)
					two.Clock.Step(-apart)
				}
			}
			for _, right := range []bool{false, true} {
				for i, g := range []*guesser{one, two} {
					equal(t, fmt.Sprint("at the limit, instance ", i, ", right ", right, about), g.enter(t, right), limited)
				}
			}
		}
	},

	"AStepOfTheClockKeepsTheGrantsLimit": func(t *testing.T, w *World) {
		for i, step := range []time.Duration{-time.Hour, -time.Second, time.Hour} {
			w := New(t, w.Core)
			ready(t, w)
			g := w.Dispatch(t, Sample(fmt.Sprint("p", i)))
			for n := range 8 {
				if n == 2 {
					w.Clock.Step(step)
				}
				_, err := w.Service.Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, WrongCode(&g, n)))
				want := wrongCode
				if n >= 5 {
					want = string(handoff.CodeLocked)
				}
				equal(t, fmt.Sprint("wrong code ", n+1, ", a step of ", step), reason(err), want)
			}
			_, err := w.Service.Verify(t.Context(), AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode()))
			equal(t, fmt.Sprint("the right code, a step of ", step), reason(err), string(handoff.CodeLocked))
			noError(t, "ClearBudget", w.Core.ClearBudget(t.Context(), Courier("c1"), service.Clearing{}))
		}
	},

	"AStepBackKeepsTheCouriersBudget": func(t *testing.T, w *World) {
		ready(t, w)
		w.Policy.Limits.CourierCustomer = 100
		told := map[string]int{}
		for n := range 30 {
			d := Sample(fmt.Sprint("p", n))
			g := w.Dispatch(t, d)
			if n%7 == 3 {
				w.Clock.Step(-10 * time.Minute)
			}
			_, err := w.Service.Verify(t.Context(), AtDoor("c1", d.Parcel, WrongCode(&g, n)))
			told[reason(err)]++
		}
		equal(t, "answers", told, map[string]int{wrongCode: 20, string(handoff.BudgetExhausted): 10})
		settled(t, w, 20)
	},
}
