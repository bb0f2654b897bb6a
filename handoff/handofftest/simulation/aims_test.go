package simulation

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/otp"
)

// The aims: fewer than one parcel in a year, and fewer than one honest courier in a
// thousand stopped a day. Held for customers of whom two and three in a hundred mistype,
// with the confidence that Toll.Bound states.
func TestTheAims(t *testing.T) {
	for _, days := range []int{Days, 365} {
		if got := (Attack{Rule: AsBuilt, Limits: Without(), Days: days}).Parcels(Crew); got >= 1 || got < 0.1 {
			t.Errorf("%d couriers who guess on %d days open %.2f parcels", Crew, days, got)
		}
	}
	perDay := CarrierGuesses(Crew * Parcels)
	if got := float64(perDay*Days) * Hit; got >= 1 || got < 0.1 {
		t.Errorf("a carrier at its limit of %d a day opens %.2f parcels", perDay, got)
	}
	tolls := PlayAll([]Crowd{
		crowd(AsBuilt, Without(), 0.02), crowd(AsBuilt, Without(), Stress),
		crowd(AsBuilt, month(40), Stress), crowd(AllCharged, Without(), 0.02),
	})
	for _, toll := range tolls[:2] {
		if got := toll.Bound(); got >= 1 {
			t.Errorf("%+v: up to %.2f honest couriers in a thousand are stopped a day", toll, got)
		}
	}
	// The play can fail: with forty in thirty days it does, and without the excuse.
	for _, toll := range tolls[2:] {
		if got := toll.PerThousand(); got < 5 {
			t.Errorf("%+v: only %.2f honest couriers in a thousand are stopped", toll, got)
		}
	}
	for _, toll := range tolls {
		if toll.WorstDay*Crew*Parcels >= float64(perDay) && toll.Charged < 10 {
			t.Errorf("%+v: honest couriers stop their carrier at %d", toll, perDay)
		}
	}
}

// One customer, with however many parcels, costs an honest courier half of a day's budget, and
// no other customer's parcel.
func TestWhatOneCustomerCosts(t *testing.T) {
	most := handoff.DefaultPolicy().Limits.CourierCustomer
	for _, parcels := range []int{1, 2, 10} {
		if charged, stopped := CustomerCost(parcels, Without()); charged != most || stopped {
			t.Errorf("a customer with %d parcels costs %d wrong codes, want %d; stopped: %v", parcels, charged, most, stopped)
		}
	}
	if charged, stopped := CustomerCost(2, Without(PerCustomer)); charged != 20 || !stopped {
		t.Errorf("without the limit a customer with 2 parcels costs %d; stopped: %v", charged, stopped)
	}
}

// What a layer is worth is seen without it.
func TestEveryLayerOfACourierIsNeeded(t *testing.T) {
	for name, limits := range map[string]handoff.Limits{
		"per thirty days": Without(PerMonth), "both": Without(PerDay, PerMonth, PerCustomer),
	} {
		if got := (Attack{Rule: AsBuilt, Limits: limits}).Parcels(Crew); got < 1 {
			t.Errorf("without the limit %s only %.2f parcels are opened", name, got)
		}
	}
}

// The yardstick: no guess is worth more than Hit.
func TestHit(t *testing.T) {
	const million = 1_000_000
	if 1<<31%million != 483_648 || 1<<31/million != 2147 {
		t.Error("the remainders of 31 bits by a million are not as stated")
	}
	l := handoff.DefaultPolicy().Limits
	if l.GrantTries > 10 || l.Reissues > 3 {
		t.Error("more is known of a code than Hit takes into account")
	}
	if Hit < 1.0002e-6 || Hit > 1.0004e-6 {
		t.Errorf("a guess is worth %g", Hit)
	}
}

// The play keeps a courier's account as the store does: a guesser is admitted as often
// by handoff.Service.
func TestThePlayIsTheService(t *testing.T) {
	const days = 32
	w := handofftest.New(t, embedded.New(t))
	w.Cleared(t, "c1")
	admitted := 0
	for day := range days {
		w.Clock.Set(handofftest.Noon.AddDate(0, 0, day))
		today := handoff.DateOf(w.Clock.Now())
		w.Drives(t, "c1", handofftest.Route, today)
		for n, stopped := 0, false; !stopped && n < 10; n++ {
			d := handofftest.Sample(fmt.Sprintf("p%d-%d", day, n))
			d.Day, d.Customer.ID = today, d.Parcel
			g := w.Dispatch(t, d)
			for try := range 5 {
				_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", d.Parcel, handofftest.WrongCode(&g, try)))
				var refused *handoff.Refusal
				if !errors.As(err, &refused) {
					t.Fatal(err)
				}
				if refused.Reason == handoff.CodeMismatch {
					admitted++
				}
				stopped = refused.Reason == handoff.BudgetExhausted
			}
		}
	}
	if want := (Attack{Rule: AsBuilt, Limits: Without(), Days: days}).Guesses(); admitted != want || want != 100 {
		t.Errorf("the service admits %d guesses in %d days, the play %d", admitted, days, want)
	}
}

// What ExcusedAtOnce is charged for is real: who may see at his limit whether a wrong
// code was excused has all tries of that code for one, and one in 59 of them each.
func TestTheOracleOfAnExcuse(t *testing.T) {
	c := newCourier(ExcusedAtOnce, Without(), 1)
	now := c.morning(0)
	for range c.policy.Limits.CourierDay - 1 {
		c.account.Counted = append(c.account.Counted, handoff.InstantOf(now))
	}
	tries := map[handoff.Reason]int{}
	g := c.next()
	digits := []byte(g.CurrentCode().Reveal())
	last := digits[5]
	for i := byte(1); i <= 6; i++ { // one digit of six: any that is wrong, and no charge
		digits[5] = '0' + (last-'0'+i)%10
		tries[c.enter(&g, parsed(t, digits), now)]++
	}
	if tries[handoff.CodeMismatch] != 5 || tries[handoff.CodeLocked] != 1 {
		t.Errorf("at the limit: %v", tries)
	}

	// As built the first such guess is the last of the day, like any other.
	b := newCourier(AsBuilt, Without(), 1)
	b.morning(0)
	b.account.Counted = append(b.account.Counted, c.account.Counted...)
	for i, want := range []handoff.Reason{handoff.CodeMismatch, handoff.BudgetExhausted} {
		fresh := b.next()
		digits := []byte(fresh.CurrentCode().Reveal())
		digits[5] = '0' + (digits[5]-'0'+1)%10
		if got := b.enter(&fresh, parsed(t, digits), now.Add(time.Second)); got != want {
			t.Errorf("as built, entry %d at the limit: %q, want %q", i, got, want)
		}
	}
}

func parsed(t *testing.T, digits []byte) otp.Code {
	t.Helper()
	code, err := otp.Parse(string(digits))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestBound(t *testing.T) {
	for stopped, want := range map[int]float64{0: 4.605, 3: 10.045, 100: 125.7} { // tables of the Poisson distribution
		if got := (Toll{CourierDays: 1000, Stopped: stopped}).Bound(); math.Abs(got-want) > 0.3 {
			t.Errorf("%d seen: at most %.3f, want %.3f", stopped, got, want)
		}
	}
}
