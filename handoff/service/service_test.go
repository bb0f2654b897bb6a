package service_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/otp"
)

var (
	shop     = handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	customer = handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81"}
)

// world is a service on a store in memory, with courier c1 on the sample route.
func world(t *testing.T) *handofftest.World {
	t.Helper()
	w := handofftest.New(t, handofftest.NewMemory())
	w.Cleared(t, "c1", "c2")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	return w
}

func refusal(err error) handoff.Reason {
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return refused.Reason
	}
	if err != nil {
		return handoff.Reason(err.Error())
	}
	return ""
}

// To a foreign actor a grant does not exist: not as an answer, and not beside an error.
func TestAForeignGrantIsNotShown(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	ctx := t.Context()
	for _, by := range []handoff.Actor{
		{Role: handoff.RoleShop, Shop: "other"},
		{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_82"},
		{Role: handoff.RoleCustomer, Shop: "other", Customer: "cus_81"},
		{Role: "courier", Shop: handofftest.Shop},
		{},
	} {
		for name, ask := range map[string]func() (handoff.Grant, error){
			"grant":      func() (handoff.Grant, error) { return w.Service.Grant(ctx, by, g.ID) },
			"recall":     func() (handoff.Grant, error) { return w.Service.Recall(ctx, by, g.ID, "") },
			"reschedule": func() (handoff.Grant, error) { return w.Service.Reschedule(ctx, by, g.ID, g.Day().Next(), "") },
			"resend":     func() (handoff.Grant, error) { return w.Service.Resend(ctx, by, g.ID) },
			"reissue":    func() (handoff.Grant, error) { return w.Service.Reissue(ctx, by, g.ID) },
			"hold":       func() (handoff.Grant, error) { return w.Service.Hold(ctx, by, g.ID, "") },
			"lift":       func() (handoff.Grant, error) { return w.Service.Lift(ctx, by, g.ID, "") },
			"override":   func() (handoff.Grant, error) { return w.Service.AskOverride(ctx, by, g.ID, "") },
			"approve":    func() (handoff.Grant, error) { return w.Service.Override(ctx, by, g.ID, "") },
			"dispute":    func() (handoff.Grant, error) { return w.Service.Dispute(ctx, by, g.ID, "") },
			"withdraw":   func() (handoff.Grant, error) { return w.Service.WithdrawDispute(ctx, by, g.ID) },
			"settle":     func() (handoff.Grant, error) { return w.Service.SettleDispute(ctx, by, g.ID, handoff.HandedOver, "") },
		} {
			got, err := ask()
			if refusal(err) != handoff.GrantUnknown {
				t.Errorf("%s by %+v: %v", name, by, err)
			}
			if got.Dispatch.Customer.Email != "" {
				t.Errorf("%s by %+v: the refusal comes with the grant", name, by)
			}
		}
	}
	foreign := handofftest.Sample("p1")
	foreign.Shop = handofftest.Other
	handofftest.PassOn(w.Policy)
	got, created, err := w.Service.Dispatch(ctx, foreign)
	if refusal(err) != handoff.DispatchConflict || created || got.Dispatch.Customer.Email != "" {
		t.Errorf("dispatch by another shop: created %v, %v, with its grant: %v", created, err, got.Dispatch.Customer.Email != "")
	}
}

// A phone that sends an attempt again says how old its position is by then. That is the
// same attempt, and judged anew only if the first try was never decided.
func TestAnAttemptIsRepeatedWithAnOlderPosition(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	p := handofftest.AtDoor("c1", "p1", g.CurrentCode())
	p.Attempt = "a1"
	aged := func(age float64) service.Presentation {
		q, at := p, *p.Position
		at.Age, q.Position = age, &at
		return q
	}
	first, err := w.Service.Verify(t.Context(), aged(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, age := range []float64{40, 90} {
		if again, err := w.Service.Verify(t.Context(), aged(age)); err != nil || !reflect.DeepEqual(again, first) {
			t.Errorf("%v s old: %+v %v", age, again, err)
		}
	}
	other := aged(2)
	other.Position.Point.Lat++
	if _, err := w.Service.Verify(t.Context(), other); refusal(err) != handoff.AttemptReused {
		t.Errorf("from another place: %v", err)
	}

	w.Dispatch(t, handofftest.Sample("p2"))
	g = w.Parcel(t, "p2")
	p = handofftest.AtDoor("c1", "p2", g.CurrentCode())
	p.Attempt = "a2" // its first try was lost on the way
	if _, err := w.Service.Verify(t.Context(), aged(61)); refusal(err) != handoff.OutsideGeofence {
		t.Errorf("an old position counts: %v", err)
	}
}

func TestAnAttemptReusedIsOnlyThat(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	p := handofftest.AtDoor("c1", "p1", handofftest.WrongCode(&g, 1))
	p.Attempt = "a1"
	_, err := w.Service.Verify(t.Context(), p)
	if refusal(err) != handoff.CodeMismatch {
		t.Fatal(err)
	}
	p.Code = g.CurrentCode()
	_, err = w.Service.Verify(t.Context(), p)
	if want := (&handoff.Refusal{Reason: handoff.AttemptReused}); !reflect.DeepEqual(err, error(want)) {
		t.Errorf("got %+v, want %+v", err, want)
	}
	if _, err := w.Service.Abort(t.Context(), p); refusal(err) != handoff.AttemptReused {
		t.Errorf("the id of a verify, for an abort: %v", err)
	}
	other := p
	other.Courier = handofftest.Courier("c2")
	if _, err := w.Service.Verify(t.Context(), other); refusal(err) != handoff.NotYourRoute {
		t.Errorf("the same id from another courier: %v", err)
	}
	if g := w.Parcel(t, "p1"); g.Code.TotalWrong != 1 || g.Status != handoff.Active {
		t.Errorf("%v, %+v", g.Status, g.Code)
	}
}

func TestARepeatedAttemptIsAnsweredLater(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	p := handofftest.AtDoor("c1", "p1", g.CurrentCode())
	p.Attempt = "a1"
	first, err := w.Service.Verify(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(48 * time.Hour)
	again, err := w.Service.Verify(t.Context(), p)
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("%+v, %v, first %+v", again, err, first)
	}
	p.Attempt = ""
	if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.NotYourRoute && refusal(err) != handoff.AlreadyReleased {
		t.Errorf("without an attempt id: %v", err)
	}
}

// guesses lets c1 enter n wrong codes, five a parcel, and reports what the last was told.
func guesses(t *testing.T, w *handofftest.World, n int) (last handoff.Reason) {
	t.Helper()
	day := handoff.DateOf(w.Clock.Now())
	for i := range n {
		parcel := fmt.Sprintf("%v-%d", day, i/5)
		if i%5 == 0 {
			d := handofftest.Sample(parcel)
			d.Day, d.Customer.ID = day, parcel
			w.Dispatch(t, d)
			w.Drives(t, "c1", handofftest.Route, day)
		}
		g := w.Parcel(t, parcel)
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", parcel, handofftest.WrongCode(&g, i)))
		last = refusal(err)
	}
	return last
}

func TestACouriersBudget(t *testing.T) {
	w := world(t)
	step := func(what string, guessed int, after time.Duration, want handoff.Reason) {
		t.Helper()
		w.Clock.Advance(after)
		if got := guesses(t, w, guessed); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	const day = 24 * time.Hour
	step("twenty on the first day", 20, 0, handoff.CodeMismatch)
	step("one more on the next, a minute early", 1, day-time.Minute, handoff.BudgetExhausted)
	step("nineteen two days later", 19, day+time.Minute, handoff.CodeMismatch)
	step("twenty after a day", 20, day, handoff.CodeMismatch)
	step("the sixtieth", 1, day, handoff.CodeMismatch)
	step("the sixty-first", 1, 2*day, handoff.BudgetExhausted)
	step("twenty, thirty days after the first twenty", 20, 25*day, handoff.CodeMismatch)
	step("once the nineteen are gone, too", 1, 3*day, handoff.CodeMismatch)

	w = world(t)
	guesses(t, w, 20)
	if err := w.Core.ClearBudget(t.Context(), handofftest.Courier("c1"), service.Clearing{}); err != nil {
		t.Fatal(err)
	}
	g := w.Parcel(t, fmt.Sprintf("%v-0", handofftest.Today))
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode())); refusal(err) != handoff.CodeLocked {
		t.Errorf("after a person cleared the budget: %v", err)
	}
}

// Excused wrong codes weigh like any other for a day, so that nobody learns from his
// budget that he was near, and then no more.
func TestASlipIsForgivenAfterADay(t *testing.T) {
	w := world(t)
	parcels := 0
	slip := func(n int) (last handoff.Reason) {
		t.Helper()
		for range n {
			d := handofftest.Sample(fmt.Sprintf("s%d", parcels))
			parcels++
			d.Customer.ID = d.Parcel
			d.Day = handoff.DateOf(w.Clock.Now().Add(time.Hour)) // in Berlin
			w.Drives(t, "c1", handofftest.Route, d.Day)
			g := w.Dispatch(t, d)
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", d.Parcel, handofftest.SlipOf(&g, 1+n%9)))
			last = refusal(err)
		}
		return last
	}
	for day := range 35 { // 700 in all, of which sixty would do
		if got := slip(20); got != handoff.CodeMismatch {
			t.Fatalf("the twentieth slip of day %d: %q", day, got)
		}
		if got := slip(1); got != handoff.BudgetExhausted {
			t.Fatalf("the twenty-first slip of day %d: %q", day, got)
		}
		w.Clock.Advance(26 * time.Hour)
	}

	w, parcels = world(t), 0
	for day := range 3 { // 50 guesses and 10 slips of the last day make sixty
		guesses(t, w, []int{18, 17, 15}[day])
		if day == 2 {
			slip(5)
		}
		w.Clock.Advance(24 * time.Hour)
	}
	if got := slip(5); got != handoff.CodeMismatch {
		t.Fatalf("the sixtieth: %q", got)
	}
	if got := slip(1); got != handoff.BudgetExhausted {
		t.Errorf("the sixty-first: %q", got)
	}
	w.Clock.Advance(2 * time.Hour) // the five of the day before are forgiven
	if got := slip(5); got != handoff.CodeMismatch {
		t.Errorf("the sixtieth again: %q", got)
	}
	if got := slip(1); got != handoff.BudgetExhausted {
		t.Errorf("the sixty-first again: %q", got)
	}
}

// A process that dies before it commits a wrong code has told nobody anything. Its places
// are free again after a minute.
func TestAnAbandonedGuessCountsForNothing(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	ref := handofftest.Courier("c1")
	for i := range 20 {
		r := service.Guess{Courier: ref, ID: fmt.Sprint(i), At: handoff.InstantOf(w.Clock.Now())}
		if _, err := w.Core.Prepare(t.Context(), service.Preparation{Query: service.Query{Parcel: g.ID.Hash, Courier: &ref}, Guess: &r}); err != nil {
			t.Fatal(err)
		}
	}
	p := handofftest.AtDoor("c1", "p1", g.CurrentCode())
	if _, err := w.Service.Verify(t.Context(), p); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("twenty in flight: %v", err)
	}
	w.Clock.Advance(time.Minute)
	if _, err := w.Service.Verify(t.Context(), p); err != nil {
		t.Errorf("twenty abandoned: %v", err)
	}
}

// A wrong code that was compared is charged, whatever becomes of its commit: else a courier who
// can make commits fail could guess without end. A right one costs nothing, and neither does a
// request that gave up before its code was compared.
func TestAComparedCodeIsCharged(t *testing.T) {
	for name, faults := range map[string][]handofftest.Fault{
		"refused":          {handofftest.Refused},
		"always overtaken": slices.Repeat([]handofftest.Fault{handofftest.Overtaken}, 100),
		"always in doubt":  slices.Repeat([]handofftest.Fault{handofftest.RequestLost}, 100),
	} {
		for code, c := range map[string]struct {
			of               func(*handoff.Grant) otp.Code
			counted, excused int
		}{
			"guess": {func(g *handoff.Grant) otp.Code { return handofftest.WrongCode(g, 1) }, 1, 0},
			"slip":  {func(g *handoff.Grant) otp.Code { return handofftest.SlipOf(g, 1) }, 0, 1},
			"right": {(*handoff.Grant).CurrentCode, 0, 0},
		} {
			faulty := &handofftest.Faulty{Core: handofftest.NewMemory()}
			w := handofftest.New(t, faulty)
			w.Cleared(t, "c1")
			w.Drives(t, "c1", handofftest.Route, handofftest.Today)
			g := w.Dispatch(t, handofftest.Sample("p1"))
			faulty.Next(faults...)
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p1", c.of(&g)))
			if !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s, %s: %v", name, code, err)
			}
			if a := w.Account(t, "c1"); len(a.Counted) != c.counted || len(a.Excused) != c.excused || len(a.Reserved) != 0 {
				t.Errorf("%s, %s: charged %+v", name, code, a)
			}
		}
	}
}

// A request without an answer says which step failed and why, and names nothing that a person is
// known by.
func TestGivingUpSaysWhy(t *testing.T) {
	for _, c := range []struct {
		faults []handofftest.Fault
		cause  error
		says   string
	}{
		{[]handofftest.Fault{handofftest.Refused}, storage.ErrUnavailable, "commit: handoff: the store is unavailable: by the test"},
		{slices.Repeat([]handofftest.Fault{handofftest.Overtaken}, 100), storage.ErrConflict, "no answer in 40 passes: commit: "},
		{slices.Repeat([]handofftest.Fault{handofftest.RequestLost}, 100), storage.ErrUnknownOutcome, "no answer in 40 passes: commit: "},
	} {
		faulty := &handofftest.Faulty{Core: handofftest.NewMemory()}
		w := handofftest.New(t, faulty)
		w.Cleared(t, "c1")
		w.Drives(t, "c1", handofftest.Route, handofftest.Today)
		g := w.Dispatch(t, handofftest.Sample("p1"))
		faulty.Next(c.faults...)
		_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p1", g.CurrentCode()))
		if !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, c.cause) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %v and %q", err, c.cause, c.says)
		}
		for _, secret := range []string{"c1", "p1", g.CurrentCode().Reveal(), string(g.ID.Hash)} {
			if strings.Contains(fmt.Sprint(err), secret) {
				t.Errorf("%v names %q", err, secret)
			}
		}
	}
}

// poisoned is a store in which one value cannot be opened.
type poisoned struct {
	handofftest.Core
	hash handoff.ParcelHash
}

func (p *poisoned) Prepare(ctx context.Context, q service.Preparation) (service.Snapshot, error) {
	if q.Parcel == p.hash {
		return service.Snapshot{}, storage.ErrSealed
	}
	return p.Core.Prepare(ctx, q)
}

func TestOneBadGrantDoesNotStopTheSweeper(t *testing.T) {
	store := &poisoned{Core: handofftest.NewMemory()}
	w := handofftest.New(t, store)
	for i := range 40 {
		w.Dispatch(t, handofftest.Sample(fmt.Sprintf("p%d", i)))
	}
	store.hash = w.Service.ParcelHash(handofftest.Carrier, "p0")
	w.Clock.Advance(24 * time.Hour)
	if _, err := w.Service.Sweep(t.Context(), 100); !errors.Is(err, storage.ErrSealed) {
		t.Errorf("the sweeper says nothing of it: %v", err)
	}
	if n := handofftest.Count(w.Events(t), handoff.EventExpired); n != 39 {
		t.Errorf("%d grants expired, want 39", n)
	}
}

// A grant is expired from the end of its window on, whether or not the sweeper came:
// nobody is told one thing before it and another after.
func TestTheSweeperChangesNoAnswer(t *testing.T) {
	ctx := t.Context()
	for name, ask := range map[string]func(*handofftest.World, handoff.Grant) error{
		"verify": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", "p1", g.CurrentCode()))
			return err
		},
		"attempted": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Attempted(ctx, handofftest.AtDoor("c1", "p1", otp.Code{}))
			return err
		},
		"recall": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Recall(ctx, shop, g.ID, "")
			return err
		},
		"reschedule": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Reschedule(ctx, shop, g.ID, g.Day().Next(), "")
			return err
		},
		"resend": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Resend(ctx, customer, g.ID)
			return err
		},
		"reissue": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Reissue(ctx, customer, g.ID)
			return err
		},
		"hold": func(w *handofftest.World, g handoff.Grant) error {
			_, err := w.Service.Hold(ctx, shop, g.ID, "")
			return err
		},
		"dispatch for the next day": func(w *handofftest.World, g handoff.Grant) error {
			d := handofftest.Sample("p1")
			d.Day = d.Day.Next()
			_, _, err := w.Service.Dispatch(ctx, d)
			return err
		},
	} {
		var told [2]handoff.Reason
		for i := range told {
			w := world(t)
			g := w.Dispatch(t, handofftest.Sample("p1"))
			w.Clock.Set(g.Window.Until.Time())
			if i == 1 {
				if _, err := w.Service.Sweep(ctx, 10); err != nil {
					t.Fatal(err)
				}
			}
			told[i] = refusal(ask(w, g))
		}
		if told[0] != told[1] {
			t.Errorf("%s: %q before the sweeper came, %q after", name, told[0], told[1])
		}
	}
}

func TestADispatchSentAgain(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	first := handofftest.Sample("p1")
	one := w.Dispatch(t, first)
	if _, err := w.Service.Recall(ctx, shop, one.ID, "wrong box"); err != nil {
		t.Fatal(err)
	}
	second := first
	second.Day = first.Day.Next()
	two := w.Dispatch(t, second)
	if two.ID.Generation != 2 || two.CurrentCode().IsZero() || two.Code.Secret == one.Code.Secret {
		t.Errorf("the second generation: %+v", two.ID)
	}
	for _, again := range []struct {
		d    handoff.Dispatch
		want handoff.GrantID
	}{{first, one.ID}, {second, two.ID}} {
		g, created, err := w.Service.Dispatch(ctx, again.d)
		if err != nil || created || g.ID != again.want {
			t.Errorf("sent again: %v, created %v, %v, want %v", g.ID, created, err, again.want)
		}
	}
	changed := first
	changed.Order = "302-7654321"
	if _, _, err := w.Service.Dispatch(ctx, changed); refusal(err) != handoff.DispatchConflict {
		t.Errorf("changed: %v", err)
	}
	// The first generation can still be read, and no longer changed.
	if g, err := w.Service.Grant(ctx, shop, one.ID); err != nil || g.Status != handoff.Recalled {
		t.Errorf("%v, %v", g.Status, err)
	}
	if _, err := w.Service.Reissue(ctx, shop, one.ID); refusal(err) != handoff.IsRecalled {
		t.Errorf("reissue of the first generation: %v", err)
	}
}

// A parcel that was recalled is dispatched anew for the same day, and each dispatch still finds its own
// generation, so that a file that is sent twice brings none of them back.
func TestRecalledThenDispatchedAnew(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	w.Cleared(t, "driver")
	w.Drives(t, "driver", handofftest.Route, handofftest.Today)
	first, second, third := handofftest.Sample("p1"), handofftest.Sample("p1"), handofftest.Sample("p1")
	second.Customer.Email, third.Customer.Email = "second@shop.example", "third@shop.example"
	one := w.Dispatch(t, first)
	if _, _, err := w.Service.Dispatch(ctx, second); refusal(err) != handoff.DispatchConflict {
		t.Errorf("while the first stands: %v", err)
	}
	var made []handoff.Grant
	for _, d := range []handoff.Dispatch{second, third} {
		if _, err := w.Service.Recall(ctx, shop, w.Parcel(t, "p1").ID, "a typo in the address"); err != nil {
			t.Fatal(err)
		}
		made = append(made, w.Dispatch(t, d))
		for _, again := range []struct {
			d    handoff.Dispatch
			want int
		}{{first, 1}, {second, 2}} {
			if g, created, err := w.Service.Dispatch(ctx, again.d); err != nil || created || g.ID.Generation != again.want {
				t.Errorf("sent again: %v, created %v, %v, want generation %d", g.ID, created, err, again.want)
			}
		}
	}
	if two, three := made[0], made[1]; two.ID.Generation != 2 || three.ID.Generation != 3 || three.Status != handoff.Active || three.Window != one.Window {
		t.Errorf("generations %v and %v", two.ID, three.ID)
	}
	if _, err := w.Service.Verify(ctx, handofftest.AtDoor("driver", "p1", one.CurrentCode())); refusal(err) != handoff.CodeMismatch {
		t.Errorf("with the code of the first: %v", err)
	}
	if _, err := w.Service.Verify(ctx, handofftest.AtDoor("driver", "p1", made[1].CurrentCode())); err != nil {
		t.Errorf("with its own code: %v", err)
	}
	if _, _, err := w.Service.Dispatch(ctx, handofftest.Sample("p1")); err != nil {
		t.Errorf("the first, after the handoff: %v", err)
	}
	second.Order = "302-7654321"
	if _, _, err := w.Service.Dispatch(ctx, second); refusal(err) != handoff.DispatchConflict {
		t.Errorf("another, after the handoff: %v", err)
	}
}

func TestListsShowWhatIsTheirs(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	g := w.Dispatch(t, handofftest.Sample("p1"))
	foreign := handofftest.Sample("OTHp2")
	foreign.Shop = handofftest.Other
	w.Dispatch(t, foreign)
	elsewhere := handofftest.Sample("p3")
	elsewhere.Route, elsewhere.Customer.ID = "BER-043", "cus_82"
	w.Dispatch(t, elsewhere)

	parcels := func(grants []handoff.Grant, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, g := range grants {
			ids = append(ids, g.Dispatch.Parcel)
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	ofCustomer, _, err := w.Service.OfCustomer(ctx, handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"}, service.Listed{}, 10)
	if got := parcels(ofCustomer, err); got != "p1" {
		t.Errorf("of customer: %s", got)
	}
	if got := parcels(w.Service.Stops(ctx, handofftest.Courier("c1"), handoff.InstantOf(w.Clock.Now()))); got != "OTHp2 p1" {
		t.Errorf("stops: %s", got)
	}
	if got := parcels(w.Service.Stops(ctx, handofftest.Courier("c2"), handoff.InstantOf(w.Clock.Now()))); got != "" {
		t.Errorf("stops without a route: %s", got)
	}
	if _, err := w.Service.Stops(ctx, handofftest.Courier("nobody"), handoff.InstantOf(w.Clock.Now())); refusal(err) != handoff.CourierNotCleared {
		t.Errorf("stops of nobody: %v", err)
	}
	if _, err := w.Service.Reschedule(ctx, shop, g.ID, g.Day().Next(), "BER-043"); err != nil {
		t.Fatal(err)
	}
	if got := parcels(w.Service.Stops(ctx, handofftest.Courier("c1"), handoff.InstantOf(w.Clock.Now()))); got != "OTHp2" {
		t.Errorf("stops after a parcel moved on: %s", got)
	}
	for r, want := range map[service.RouteRef]string{
		{Carrier: handofftest.Carrier, Route: handofftest.Route, Day: g.Day()}: "OTHp2",
		{Carrier: handofftest.Carrier, Route: "BER-043", Day: g.Day()}:         "p3",
		{Carrier: handofftest.Carrier, Route: "BER-043", Day: g.Day().Next()}:  "p1",
		{Carrier: "rival", Route: handofftest.Route, Day: g.Day()}:             "",
	} {
		if got := parcels(w.Service.OnRoute(ctx, r)); got != want {
			t.Errorf("on route %v: %q, want %q", r, got, want)
		}
	}
	w.Drives(t, "c2", "BER-043", g.Day().Next())
	w.Clock.Advance(24 * time.Hour)
	if got := parcels(w.Service.Stops(ctx, handofftest.Courier("c2"), handoff.InstantOf(w.Clock.Now()))); got != "p1" {
		t.Errorf("stops of the new route: %s", got)
	}
}

// Notes may name people: they are in the record, and in no event.
func TestNotesStayOutOfTheLog(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	const note = "the neighbour at number seven says otherwise"
	if _, err := w.Service.Hold(t.Context(), shop, g.ID, note); err != nil {
		t.Fatal(err)
	}
	r, err := w.Service.Record(t.Context(), shop, g.ID)
	if err != nil || len(r.Notes) != 1 || r.Notes[0].Text != note || r.Notes[0].Act != handoff.Hold {
		t.Errorf("%+v, %v", r.Notes, err)
	}
	for _, e := range w.Events(t) {
		text := fmt.Sprintf("%+v", e)
		for _, secret := range []string{note, "Sample Customer", "customer@shop.example", "Turmstr", g.CurrentCode().Reveal()} {
			if strings.Contains(text, secret) {
				t.Errorf("the event %s holds %q", e.Type, secret)
			}
		}
	}
}

func TestNewServiceWantsEverything(t *testing.T) {
	if _, err := service.New(service.Config{}); err == nil {
		t.Error("a service of nothing")
	}
	whole := func() service.Config {
		return service.Config{
			Store: handofftest.NewMemory(), Policy: handofftest.Policy(), Clock: handofftest.NewClock(handofftest.Noon),
			Namer: handofftest.Namer{}, Random: strings.NewReader(""), Keypads: door.PINs{},
		}
	}
	if _, err := service.New(whole()); err != nil {
		t.Errorf("a whole service: %v", err)
	}
	c := whole()
	c.Keypads = nil
	if _, err := service.New(c); err == nil || !strings.Contains(err.Error(), "keypads") {
		t.Errorf("a service without keypads: %v", err)
	}
	c = whole()
	c.Policy.Limits.CodeTries = 0
	_, err := service.New(c)
	if err == nil || !strings.Contains(err.Error(), "limits") {
		t.Errorf("a service without limits: %v", err)
	}
}

// flaky is a store that cannot settle for a while.
type flaky struct {
	handofftest.Core
	failures atomic.Int32
}

func (f *flaky) Settle(ctx context.Context, s service.Settlement) error {
	if f.failures.Add(-1) >= 0 {
		return storage.ErrUnavailable
	}
	return f.Core.Settle(ctx, s)
}

// A refusal that compared no code costs the courier nothing, even if the store stumbles
// while the guess is given back.
func TestAGuessIsGivenBackLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Core: handofftest.NewMemory()}
		w := handofftest.New(t, store)
		w.Cleared(t, "c1")
		w.Drives(t, "c1", handofftest.Route, handofftest.Today)
		g := w.Dispatch(t, handofftest.Sample("p1"))
		far := handofftest.AtDoor("c1", "p1", g.CurrentCode())
		far.Position.Point.Lat += 5000 // 556 m: farther away it is told, by a commit of its own
		store.failures.Store(20)
		if _, err := w.Service.Verify(t.Context(), far); refusal(err) != handoff.OutsideGeofence {
			t.Fatal(err)
		}
		w.Service.Close()
		if a := w.Account(t, "c1"); len(a.Reserved)+len(a.Counted) != 0 || store.failures.Load() >= 0 {
			t.Errorf("the account is %+v", a)
		}
	})
}

// A store that is away is not asked without rest by each guess that it could not give back.
func TestAnAbsentStoreIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const forGood = 1 << 20
		store := &flaky{Core: handofftest.NewMemory()}
		w := handofftest.New(t, store)
		w.Cleared(t, "c1")
		w.Drives(t, "c1", handofftest.Route, handofftest.Today)
		g := w.Dispatch(t, handofftest.Sample("p1"))
		far := handofftest.AtDoor("c1", "p1", g.CurrentCode())
		far.Position.Point.Lat += 5000 // 556 m: farther away it is told, by a commit of its own
		store.failures.Store(forGood)
		if _, err := w.Service.Verify(t.Context(), far); refusal(err) != handoff.OutsideGeofence {
			t.Fatal(err)
		}
		began := time.Now()
		w.Service.Close()
		if tries, took := forGood-store.failures.Load(), time.Since(began); tries > 70 || took < 29*time.Second {
			t.Errorf("it was asked %d times in %v", tries, took)
		}
	})
}

// A shop that may not use a carrier learns nothing of its parcels, and leaves no mark.
func TestAShopCannotProbeACarrier(t *testing.T) {
	w := world(t)
	w.Dispatch(t, handofftest.Sample("p1"))
	for _, parcel := range []string{"p1", "p2"} {
		d := handofftest.Sample(parcel)
		d.Shop = "nobody"
		if _, _, err := w.Service.Dispatch(t.Context(), d); refusal(err) != handoff.CarrierNotEnabled {
			t.Errorf("%s: %v", parcel, err)
		}
	}
	if n := handofftest.Count(w.Events(t), handoff.EventContested); n != 0 {
		t.Errorf("%d marks", n)
	}
	if ids, err := w.Core.OnRoute(t.Context(), service.RouteRef{Carrier: handofftest.Carrier, Route: handofftest.Route, Day: handofftest.Today}); len(ids) != 1 || err != nil {
		t.Errorf("the route lists %v, %v", ids, err)
	}
}

// The limit of attempts holds however long the history is.
func TestAttemptedIsLimited(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	done := 0
	for range 30 {
		if _, err := w.Service.Attempted(t.Context(), handofftest.AtDoor("c1", "p1", otp.Code{})); err == nil {
			done++
		} else if refusal(err) != handoff.AttemptedLimit {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := w.Service.Hold(t.Context(), shop, g.ID, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Service.Lift(t.Context(), shop, g.ID, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if done != w.Policy.Limits.Attempted {
		t.Errorf("%d attempts", done)
	}
}
