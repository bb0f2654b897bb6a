package numbers_test

import (
	"sync"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/notify/mail/message"
	"latchkey/notify/numbers"
)

// of are the figures of the sample day, by name.
func of(t *testing.T, w *handofftest.World) map[string]int64 {
	t.Helper()
	day := w.Clock.Now().UTC().Truncate(24 * time.Hour)
	all, err := w.Store.Figures(t.Context(), day, day.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, f := range all {
		sums[f.Name] += f.N
	}
	return sums
}

// Any number of instances count, again and again: each event is one.
func TestEachEventOnce(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	for _, parcel := range []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7"} {
		w.Dispatch(t, handofftest.Sample(parcel))
	}
	hour := w.Clock.Now()
	w.Clock.Advance(time.Hour)
	w.Dispatch(t, handofftest.Sample("P8"))
	counters := []*numbers.Counter{numbers.New(w.Store, w.Clock), numbers.New(w.Store, w.Clock), numbers.New(w.Store, w.Clock)}
	var all sync.WaitGroup
	for _, c := range counters {
		all.Go(func() {
			for range 3 {
				if err := c.Work(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := of(t, w)["dispatched"]; got != 8 {
		t.Errorf("%d dispatched, want 8", got)
	}
	first, err := w.Store.Figures(t.Context(), hour.Truncate(time.Hour), hour.Truncate(time.Hour).Add(time.Hour))
	if err != nil || len(first) != 1 || first[0].N != 7 {
		t.Errorf("of the first hour: %v %v", first, err)
	}
}

// What is on no log is noted, and named by where, whose and why.
func TestNoted(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	c := numbers.New(w.Store, w.Clock)
	c.Decided(handoff.Release, "", nil)                      // it was done
	c.Decided(handoff.Resend, handoff.ResendTooSoon, nil)    // no courier's
	c.Decided(handoff.Release, handoff.OutsideGeofence, nil) // changed nothing
	c.Decided(handoff.Release, handoff.CodeMismatch, []handoff.Event{{Type: handoff.EventCodeRefused, Carrier: "swift"}})
	c.Decided(handoff.Open, handoff.AccessRefused, []handoff.Event{{Type: handoff.EventAccessRefused, Carrier: "swift", Target: handoff.Lobby}})
	c.Decided(handoff.Open, handoff.AccessRefused, nil)
	c.Sent(message.CodeIssued)
	c.Sent(message.Released)
	c.MailAge(0)
	c.MailAge(90 * time.Second)
	c.MailAge(30 * time.Second)
	for range 2 { // the second finds nothing
		if err := c.Work(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := of(t, w)
	for name, want := range map[string]int64{
		"fails address - outside-geofence": 1, "fails address swift code-mismatch": 1, "fails lobby swift access-refused": 1,
		"fails door - access-refused": 1, "mailed": 2, "mail_age": 90,
	} {
		if got[name] != want {
			t.Errorf("%s: %d, want %d", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("besides: %v", got)
	}
}
