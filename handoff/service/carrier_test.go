package service_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/otp"
)

// carrierWorld is a carrier that may say so many wrong codes a day, and so many for each
// hundred releases; its couriers have budgets without end.
func carrierWorld(t *testing.T, store handofftest.Core, most int, share float64) *handofftest.World {
	t.Helper()
	w := handofftest.New(t, store)
	w.Policy.Limits.CarrierDay, w.Policy.Limits.CarrierShare = most, share
	w.Policy.Limits.CourierDay, w.Policy.Limits.CourierMonth, w.Policy.Limits.CourierCustomer = 1000, 1000, 1000
	w.Cleared(t, "c1")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	return w
}

// The couriers of a carrier are stopped together, the right code too, and no code is
// compared any more; an hour is forgotten after a day. Another carrier goes on.
func TestACarriersLimit(t *testing.T) {
	w := carrierWorld(t, handofftest.NewMemory(), 12, 0)
	parcels := 0
	day := handofftest.Today
	enter := func(right bool) (handoff.Reason, *handoff.Refusal) {
		t.Helper()
		d := handofftest.Sample(fmt.Sprintf("p%d", parcels))
		d.Day = day
		g := w.Dispatch(t, d)
		parcels++
		code := g.CurrentCode()
		if !right {
			code = handofftest.WrongCode(&g, 1)
		}
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", d.Parcel, code))
		r, _ := err.(*handoff.Refusal)
		return refusal(err), r
	}
	for n := range 12 {
		if got, _ := enter(false); got != handoff.CodeMismatch {
			t.Fatalf("wrong code %d: %q", n+1, got)
		}
	}
	for _, right := range []bool{false, true} {
		got, r := enter(right)
		if got != handoff.CarrierLimit || r.RetryAfter != 24*time.Hour || r.Verdict[handoff.ProofCode] != handoff.NotChecked {
			t.Errorf("at the limit, right %v: %q, %+v", right, got, r)
		}
	}
	signals := map[handoff.Reason]int{}
	for _, e := range w.Events(t) {
		if e.Type == handoff.EventSignal {
			signals[e.Reason]++
			if e.Carrier != handofftest.Carrier {
				t.Errorf("%+v", e)
			}
		}
	}
	if signals[handoff.CarrierLimit] != 1 || signals[handoff.WrongCodesByCarrier] == 0 || signals[handoff.WrongCodesByCarrier] > 4 {
		t.Errorf("signals %v", signals)
	}

	w.Clock.Advance(24*time.Hour + 59*time.Minute)
	day = handoff.DateOf(w.Clock.Now())
	w.Drives(t, "c1", handofftest.Route, day)
	if got, _ := enter(true); got != "" { // the courier's own wrong codes are a day old: innocent now
		t.Errorf("within the hour a day later: %q", got)
	}
	w.Clock.Advance(time.Minute)
	if got, _ := enter(true); got != "" {
		t.Errorf("after it: %q", got)
	}
}

// Who releases more for a right code may err more; what was taken back does not count, and
// neither does what needs no code.
func TestACarriersLimitGrowsWithItsReleases(t *testing.T) {
	w := carrierWorld(t, handofftest.NewMemory(), 1, 50)
	release := func(parcel, amount string) handoff.Grant {
		t.Helper()
		d := handofftest.Sample(parcel)
		d.Value.Amount = amount
		g := w.Dispatch(t, d)
		p := handofftest.AtDoor("c1", parcel, g.CurrentCode())
		if _, err := w.Service.Verify(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return g
	}
	for n := range 4 { // two more for these
		release(fmt.Sprintf("coded%d", n), "1299")
		release(fmt.Sprintf("plain%d", n), "1")
	}
	for n := range 2 {
		release(fmt.Sprintf("back%d", n), "1299")
		if _, err := w.Service.Abort(t.Context(), handofftest.AtDoor("c1", fmt.Sprintf("back%d", n), otp.Code{})); err != nil {
			t.Fatal(err)
		}
	}
	g := w.Dispatch(t, handofftest.Sample("p"))
	for n, want := range []handoff.Reason{handoff.CodeMismatch, handoff.CodeMismatch, handoff.CodeMismatch, handoff.CarrierLimit} {
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p", handofftest.WrongCode(&g, n)))
		if got := refusal(err); got != want {
			t.Errorf("wrong code %d: %q, want %q", n+1, got, want)
		}
	}
}

// A slip does not count against the carrier, but in the last tenth before its limit, where
// the next answer would show whether it did.
func TestASlipAtTheCarriersLimitTellsNothing(t *testing.T) {
	slip := func(g *handoff.Grant, n int) otp.Code { return handofftest.SlipOf(g, 1+n%9) }
	for name, code := range map[string]func(*handoff.Grant, int) otp.Code{"slips": slip, "guesses": handofftest.WrongCode} {
		w := carrierWorld(t, handofftest.NewMemory(), 10, 0)
		enter := func(n int, code func(*handoff.Grant, int) otp.Code) handoff.Reason {
			parcel := fmt.Sprintf("p%d", n)
			g := w.Dispatch(t, handofftest.Sample(parcel))
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", parcel, code(&g, n)))
			return refusal(err)
		}
		for n := range 20 {
			if got := enter(n, slip); got != handoff.CodeMismatch {
				t.Fatalf("slip %d: %q", n, got)
			}
		}
		for n := range 9 {
			if got := enter(20+n, handofftest.WrongCode); got != handoff.CodeMismatch {
				t.Fatalf("guess %d: %q", n, got)
			}
		}
		if got := enter(29, code); got != handoff.CodeMismatch {
			t.Errorf("%s: the tenth: %q", name, got)
		}
		if got := enter(30, code); got != handoff.CarrierLimit {
			t.Errorf("%s: the eleventh: %q", name, got)
		}
	}
}

// Many couriers on several instances, each with an old view: no instance lets more than
// the limit pass.
func TestManyInstancesKeepTheCarriersLimit(t *testing.T) {
	const most, guesses, instances = 20, 200, 4
	store := handofftest.NewMemory()
	worlds := make([]*handofftest.World, instances)
	for i := range worlds {
		worlds[i] = carrierWorld(t, store, most, 0)
	}
	grants := make([]handoff.Grant, guesses)
	for n := range grants {
		grants[n] = worlds[0].Dispatch(t, handofftest.Sample(fmt.Sprintf("p%d", n)))
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	told := map[handoff.Reason]int{}
	for n := range grants {
		all.Go(func() {
			g := &grants[n]
			_, err := worlds[n%instances].Service.Verify(t.Context(), handofftest.AtDoor("c1", g.Dispatch.Parcel, handofftest.WrongCode(g, 1)))
			mu.Lock()
			told[refusal(err)]++
			mu.Unlock()
		})
	}
	all.Wait()
	if n := told[handoff.CodeMismatch]; n < most || n > most*instances {
		t.Errorf("%d guesses are let pass at a limit of %d: %v", n, most, told)
	}
}

// frozen is a store of which every reading of a carrier's day says what the first one said: as
// where a part of the store is away, or a view comes late.
type frozen struct {
	handofftest.Core
	once  sync.Once
	first handoff.CarrierDay
	err   error
}

func (f *frozen) CarrierDay(ctx context.Context, carrier string, now handoff.Instant) (handoff.CarrierDay, error) {
	f.once.Do(func() { f.first, f.err = f.Core.CarrierDay(ctx, carrier, now) })
	return f.first, f.err
}

// With views that are forever late, a wrong code is answered and counted as such: the commit
// itself says what its partition has. "Unavailable" never means "wrong".
func TestAViewThatIsLateAnswersNoWrongCodeWithUnavailable(t *testing.T) {
	memory := handofftest.NewMemory()
	one, two := carrierWorld(t, &frozen{Core: memory}, 50, 0), carrierWorld(t, &frozen{Core: memory}, 50, 0)
	for n := range 40 {
		w := []*handofftest.World{one, two}[n%2]
		parcel := fmt.Sprintf("p%d", n/4)
		if n%4 == 0 {
			one.Dispatch(t, handofftest.Sample(parcel))
		}
		g := one.Parcel(t, parcel)
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", parcel, handofftest.WrongCode(&g, n)))
		if refusal(err) != handoff.CodeMismatch {
			t.Errorf("wrong code %d: %v", n+1, err)
		}
	}
	if n := len(one.Account(t, "c1").Counted); n != 40 {
		t.Errorf("%d wrong codes were charged, want 40", n)
	}
}

// At the carrier's limit a courier who said fewer than two wrong codes goes on, until a third
// more is reached; every code that is compared there is charged.
func TestTheInnocentGoOnAtTheCarriersLimit(t *testing.T) {
	w := carrierWorld(t, handofftest.NewMemory(), 12, 0)
	w.Cleared(t, "c2", "c3")
	parcels := 0
	enter := func(courier string, right bool) (handoff.Reason, time.Duration) {
		t.Helper()
		w.Drives(t, courier, handofftest.Route, handofftest.Today)
		parcel := fmt.Sprintf("p%d", parcels)
		g := w.Dispatch(t, handofftest.Sample(parcel))
		parcels++
		code := handofftest.WrongCode(&g, 1)
		if right {
			code = g.CurrentCode()
		}
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor(courier, parcel, code))
		r, _ := err.(*handoff.Refusal)
		if r == nil {
			return refusal(err), 0
		}
		return r.Reason, r.RetryAfter
	}
	day := 24 * time.Hour
	for n, c := range []struct {
		courier string
		right   bool
		want    handoff.Reason
		after   time.Duration
	}{
		{"c2", true, "", 0},
		{"c2", false, handoff.CodeMismatch, 0}, // the 13th of the carrier
		{"c2", true, "", 0},                    // one wrong code is no guesser's
		{"c2", false, handoff.CodeMismatch, 0}, // the 14th
		{"c2", true, handoff.CarrierLimit, day},
		{"c2", false, handoff.CarrierLimit, day},
		{"c3", false, handoff.CodeMismatch, 0},
		{"c3", false, handoff.CodeMismatch, 0}, // the 16th: a third above the limit
		{"c4", true, handoff.CarrierLimit, 25 * time.Hour},
		{"c4", false, handoff.CarrierLimit, 25 * time.Hour},
	} {
		if n == 0 {
			for range 12 {
				if got, _ := enter("c1", false); got != handoff.CodeMismatch {
					t.Fatalf("below the limit: %q", got)
				}
			}
			w.Cleared(t, "c4")
		}
		if got, after := enter(c.courier, c.right); got != c.want || after != c.after {
			t.Errorf("%d, %s, right %v: %q after %v, want %q after %v", n, c.courier, c.right, got, after, c.want, c.after)
		}
	}
	if n := handofftest.Count(w.Events(t), handoff.EventCodeRefused); n != 16 {
		t.Errorf("%d wrong codes were counted, want 16", n)
	}
}

// A customer with several parcels costs a courier ten wrong codes. After them none of the
// customer's codes is compared or charged; other customers', and what asks for no code, go on.
func TestWhatOneCustomerCosts(t *testing.T) {
	w := handofftest.New(t, handofftest.NewMemory())
	w.Cleared(t, "c1", "c2")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	dispatch := func(parcel, customer, amount string) handoff.Grant {
		d := handofftest.Sample(parcel)
		d.Customer.ID, d.Value.Amount = customer, amount
		return w.Dispatch(t, d)
	}
	verify := func(courier string, g *handoff.Grant, code otp.Code) handoff.Reason {
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor(courier, g.Dispatch.Parcel, code))
		return refusal(err)
	}
	said := map[handoff.Reason]int{}
	var theirs []handoff.Grant
	for n := range 3 {
		g := dispatch(fmt.Sprintf("p%d", n), "cus_1", "1299")
		theirs = append(theirs, g)
		for try := range 5 {
			said[verify("c1", &g, handofftest.WrongCode(&g, try))]++
		}
	}
	if said[handoff.CodeMismatch] != 10 || said[handoff.CustomerLimit] != 5 {
		t.Errorf("answers %v", said)
	}
	if got := verify("c1", &theirs[2], theirs[2].CurrentCode()); got != handoff.CustomerLimit {
		t.Errorf("the right code of that customer: %q", got)
	}
	if n := len(w.Account(t, "c1").Counted); n != 10 {
		t.Errorf("%d wrong codes charged", n)
	}
	other, plain := dispatch("q1", "cus_2", "1299"), dispatch("plain", "cus_1", "1")
	if got := verify("c1", &other, other.CurrentCode()); got != "" {
		t.Errorf("another customer: %q", got)
	}
	if got := verify("c1", &plain, otp.Code{}); got != "" {
		t.Errorf("that customer's parcel without a code: %q", got)
	}
	w.Drives(t, "c2", handofftest.Route, handofftest.Today)
	if got := verify("c2", &theirs[2], theirs[2].CurrentCode()); got != "" {
		t.Errorf("another courier at that customer: %q", got)
	}
	w.Clock.Advance(26 * time.Hour)
	w.Drives(t, "c1", handofftest.Route, handoff.DateOf(w.Clock.Now()))
	d := handofftest.Sample("next")
	d.Customer.ID, d.Day = "cus_1", handoff.DateOf(w.Clock.Now())
	next := w.Dispatch(t, d)
	if got := verify("c1", &next, next.CurrentCode()); got != "" {
		t.Errorf("26 hours later: %q", got)
	}
}
