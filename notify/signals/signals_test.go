package signals_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/notify/signals"
)

// desk is a world, and the watcher that reads its log.
type desk struct {
	*handofftest.World
	watcher *signals.Watcher
	log     *flaky
	read    map[eventlog.ID]bool
}

// flaky is a log that refuses as often as it is told.
type flaky struct {
	handofftest.Store
	refuse int
}

var errRefused = errors.New("refused by the test")

func (f *flaky) Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error {
	if f.refuse > 0 {
		f.refuse--
		return errRefused
	}
	return f.Store.Append(ctx, now, events...)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{World: handofftest.New(t, embedded.New(t)), read: map[eventlog.ID]bool{}}
	d.log = &flaky{Store: d.Store}
	var err error
	d.watcher, err = signals.New(signals.Config{Grants: d.Service, Patterns: d.Store, Log: d.log, Limits: d.Policy.Signals, Clock: d.Clock})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"c1", "c2"} {
		d.Cleared(t, c)
	}
	d.Drives(t, "c1", handofftest.Route, handofftest.Today)
	d.Drives(t, "c2", "BER-043", handofftest.Today)
	return d
}

// parcel dispatches one.
func (d *desk) parcel(t *testing.T, id, route string) handoff.Grant {
	t.Helper()
	p := handofftest.Sample(id)
	p.Route, p.Customer.ID = route, id
	return d.Dispatch(t, p)
}

func (d *desk) wrong(t *testing.T, courier string, g handoff.Grant) {
	t.Helper()
	_, err := d.Service.Verify(t.Context(), handofftest.AtDoor(courier, g.Dispatch.Parcel, handofftest.WrongCode(&g, 1)))
	var refused *handoff.Refusal
	if !errors.As(err, &refused) || refused.Reason != handoff.CodeMismatch {
		t.Fatalf("a wrong code: %v", err)
	}
}

// watch hands the watcher what is new, each event twice, and returns the signals so far.
func (d *desk) watch(t *testing.T) []string {
	t.Helper()
	var raised []string
	for n := range handoff.Partitions {
		page, err := d.Store.Read(t.Context(), n, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			if l.Event.Type == handoff.EventSignal {
				raised = append(raised, fmt.Sprintf("%s %s/%s%s", l.Event.Reason, l.Event.Carrier, l.Event.Courier, l.Event.Route))
				if l.Event.Grant != (handoff.GrantID{}) {
					t.Errorf("a signal in the life of a grant: %+v", l.Event)
				}
				continue
			}
			if d.read[l.ID] {
				continue
			}
			if err := d.watcher.Handle(t.Context(), eventlog.Delivery{Logged: l}); err != nil {
				if !errors.Is(err, errRefused) {
					t.Fatal(err)
				}
				continue // it comes again
			}
			d.read[l.ID] = true
		}
	}
	slices.Sort(raised)
	return raised
}

// signalled watches, and watches again to see what was raised.
func (d *desk) signalled(t *testing.T, want ...string) {
	t.Helper()
	d.watch(t)
	if got := d.watch(t); !slices.Equal(got, want) {
		t.Errorf("signals: %q, want %q", got, want)
	}
}

func TestWrongCodesOnSeveralParcels(t *testing.T) {
	d := newDesk(t)
	g := d.parcel(t, "p0", handofftest.Route)
	for range 4 {
		d.wrong(t, "c1", g) // one customer who mistypes
	}
	d.wrong(t, "c1", d.parcel(t, "p1", handofftest.Route))
	d.signalled(t)

	d.wrong(t, "c1", d.parcel(t, "p2", handofftest.Route))
	byCourier := "wrong-codes-by-courier swift/c1" + handofftest.Route
	d.signalled(t, byCourier)
	d.wrong(t, "c1", d.parcel(t, "p3", handofftest.Route))
	d.signalled(t, byCourier) // once an hour

	d.wrong(t, "c1", d.parcel(t, "p4", handofftest.Route))
	byRoute := "wrong-codes-by-route swift/" + handofftest.Route
	d.signalled(t, byCourier, byRoute)

	d.Clock.Advance(time.Hour)
	for i := range 3 {
		d.wrong(t, "c1", d.parcel(t, fmt.Sprint("q", i), handofftest.Route))
	}
	d.signalled(t, byCourier, byCourier, byRoute)
}

func TestWrongCodesOfADepot(t *testing.T) {
	d := newDesk(t)
	d.Policy.Signals = handoff.Signals{Courier: 100, Route: 100, Depot: 4, Far: 1, Soon: 1}
	var err error
	d.watcher, err = signals.New(signals.Config{Grants: d.Service, Patterns: d.Store, Log: d.log, Limits: d.Policy.Signals, Clock: d.Clock})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		d.wrong(t, "c1", d.parcel(t, fmt.Sprint("p", i), handofftest.Route))
		d.wrong(t, "c2", d.parcel(t, fmt.Sprint("q", i), "BER-043"))
	}
	d.signalled(t, "wrong-codes-by-depot swift/BER")
}

func TestFarFromTheAddress(t *testing.T) {
	d := newDesk(t)
	g := d.parcel(t, "p1", handofftest.Route)
	try := func(meters float64) {
		t.Helper()
		p := handofftest.AtDoor("c1", "p1", g.CurrentCode())
		lat, lon := handofftest.Home.Degrees()
		p.Position = &handoff.Position{Point: handoff.PointOf(lat+meters/111_195, lon)}
		if _, err := d.Service.Verify(t.Context(), p); err == nil {
			t.Fatal("released from afar")
		}
	}
	try(900)
	d.signalled(t)
	for range 8 {
		try(1100)
	}
	d.signalled(t, "far-from-address swift/c1"+handofftest.Route)
	events := handofftest.Count(d.Events(t), handoff.EventElsewhere)
	if events != 5 {
		t.Errorf("%d events of one grant, want 5: more would flood the log", events)
	}
}

func TestSoonAfterDispatch(t *testing.T) {
	d := newDesk(t)
	quick, slow := d.parcel(t, "p1", handofftest.Route), d.parcel(t, "p2", handofftest.Route)
	d.Clock.Advance(10 * time.Minute)
	if _, err := d.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p1", quick.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	d.Clock.Advance(time.Minute)
	if _, err := d.Service.Verify(t.Context(), handofftest.AtDoor("c1", "p2", slow.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	d.signalled(t, "soon-after-dispatch swift/c1"+handofftest.Route)
}

func TestOneDeviceTwoCouriers(t *testing.T) {
	d := newDesk(t)
	use := func(courier, device string, g handoff.Grant) {
		t.Helper()
		p := handofftest.AtDoor(courier, g.Dispatch.Parcel, handofftest.WrongCode(&g, 1))
		p.Device = device
		_, _ = d.Service.Verify(t.Context(), p)
	}
	one, two := d.parcel(t, "p1", handofftest.Route), d.parcel(t, "p2", "BER-043")
	use("c1", "phone-1", one)
	use("c2", "phone-2", two)
	d.signalled(t)
	use("c2", "phone-1", two)
	d.signalled(t, "shared-device swift/c2BER-043")
	d.Clock.Advance(2 * time.Hour)
	use("c2", "phone-2", two)
	d.signalled(t, "shared-device swift/c2BER-043")
}

// A signal that could not be told is told when its event comes again, although others
// came in between.
func TestASignalIsNotLost(t *testing.T) {
	d := newDesk(t)
	d.log.refuse = 1
	for i := range 5 {
		d.wrong(t, "c1", d.parcel(t, fmt.Sprint("p", i), handofftest.Route))
	}
	d.watch(t)
	d.signalled(t, "wrong-codes-by-courier swift/c1"+handofftest.Route, "wrong-codes-by-route swift/"+handofftest.Route)
}

func TestWhatIsOldIsNoSignal(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		d.wrong(t, "c1", d.parcel(t, fmt.Sprint("p", i), handofftest.Route))
	}
	d.Clock.Advance(24 * time.Hour)
	d.signalled(t)
}
