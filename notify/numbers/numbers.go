// Package numbers keeps the duty officer's figures: how often what happened in each hour.
//
// Most are read off the log, where each event is counted exactly once, by any instance and
// however often (see [handoff.Numbers]). What is on no log is noted as it happens, kept in
// memory for a moment and added together: refusals, which change nothing and so leave no
// event, mails that were sent, and how old the oldest mail in the queue was. A crash loses
// that moment.
//
// The figures, by name:
//
//	dispatched, handed_over, wrong_codes, locks, expired, attempted, taken_back,
//	recalled, reissued, permits, openings, door_failures, signals
//	mailed                    mails that a server took
//	mail_age                  a peak: seconds that the oldest mail waited
//	fails WHERE CARRIER WHY   why a handoff did not come about. WHERE is address or a kind
//	                          of door, CARRIER may be - for one that is not known
package numbers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/counts"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/service"
	"latchkey/notify/mail"
	"latchkey/notify/mail/message"
)

// Store is what a Counter needs of a [handofftest.Store].
type Store interface {
	counts.Numbers
	Read(ctx context.Context, partition int, after string, limit int) ([]eventlog.Logged, error)
}

// Counter is one instance. Any number may run.
type Counter struct {
	store Store
	clock clock.Clock

	mu    sync.Mutex
	noted map[counts.Figure]int64 // N is zero in the key
}

var (
	_ service.Observer = (*Counter)(nil)
	_ mail.Observer    = (*Counter)(nil)
)

// New makes a Counter.
func New(s Store, c clock.Clock) *Counter {
	return &Counter{store: s, clock: c, noted: map[counts.Figure]int64{}}
}

const (
	batch  = 256  // events in one go
	mostly = 4096 // different figures kept in memory while the store does not answer
)

// Work counts what the log has and adds what was noted since the last time. A partition
// that fails keeps back no other.
func (c *Counter) Work(ctx context.Context) error {
	failed := []error{c.flush(ctx)}
	for partition := range handoff.Partitions {
		if err := c.count(ctx, partition); err != nil {
			failed = append(failed, fmt.Errorf("partition %d: %w", partition, err))
		}
	}
	return errors.Join(failed...)
}

func (c *Counter) count(ctx context.Context, partition int) error {
	place, err := c.store.CountedTo(ctx, partition)
	if err != nil {
		return err
	}
	for {
		events, err := c.store.Read(ctx, partition, place, batch)
		if err != nil || len(events) == 0 {
			return err
		}
		sums := map[counts.Figure]int64{}
		for i := range events {
			for _, name := range names(&events[i].Event) {
				sums[counts.Figure{Hour: counts.FigureHour(events[i].Event.At.Time()), Name: name}]++
			}
		}
		to := events[len(events)-1].ID.ID
		done, err := c.store.CountEvents(ctx, partition, place, to, figures(sums))
		if err != nil || !done { // not done: another instance did it
			return err
		}
		place = to
	}
}

func figures(sums map[counts.Figure]int64) []counts.Figure {
	all := make([]counts.Figure, 0, len(sums))
	for f, n := range sums {
		f.N = n
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b counts.Figure) int {
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Name, b.Name))
	})
	return all
}

const (
	doorFailures = "door_failures"
	handedOver   = "handed_over"
)

// plain are the events that are a figure of their own.
var plain = map[handoff.EventType]string{
	handoff.EventDispatched: "dispatched", handoff.EventReleased: handedOver, handoff.EventCollected: handedOver,
	handoff.EventCodeRefused: "wrong_codes", handoff.EventCodeLocked: "locks", handoff.EventExpired: "expired",
	handoff.EventAttempted: "attempted", handoff.EventAborted: "taken_back", handoff.EventRecalled: "recalled",
	handoff.EventCodeReissued: "reissued", handoff.EventPermitted: "permits", handoff.EventDoorOpened: "openings",
	handoff.EventDoorFailed: doorFailures, handoff.EventDoorRefused: doorFailures, handoff.EventDoorSilent: doorFailures,
}

// names are the figures that an event belongs to.
func names(e *handoff.Event) []string {
	var all []string
	if name := plain[e.Type]; name != "" {
		all = append(all, name)
	}
	switch e.Type {
	case handoff.EventDoorFailed, handoff.EventDoorRefused, handoff.EventDoorSilent, handoff.EventAttempted, handoff.EventExpired:
		all = append(all, fails(e.Target, e.Carrier, strings.ReplaceAll(e.Type.String(), "_", "-")))
	}
	return all
}

const address = "address"

func fails(where handoff.TargetKind, carrier, why string) string {
	at := address
	if where != 0 {
		at = where.String()
	}
	return "fails " + at + " " + cmp.Or(carrier, "-") + " " + why
}

// Decided implements service.Observer: what a courier was refused.
func (c *Counter) Decided(act handoff.Act, reason handoff.Reason, events []handoff.Event) {
	if reason == "" || act != handoff.Release && act != handoff.Collect && act != handoff.Open {
		return
	}
	var where handoff.TargetKind
	carrier := ""
	for _, e := range events {
		where, carrier = cmp.Or(e.Target, where), cmp.Or(e.Carrier, carrier)
	}
	name := fails(where, carrier, string(reason))
	if act == handoff.Open && where == 0 {
		name = "fails door " + cmp.Or(carrier, "-") + " " + string(reason)
	}
	c.note(name, false, 1)
}

// Conflicted implements service.Observer.
func (*Counter) Conflicted(handoff.Act) {}

// Unsettled implements service.Observer.
func (*Counter) Unsettled() {}

// Sent implements mail.Observer.
func (c *Counter) Sent(message.Kind) { c.note("mailed", false, 1) }

// LeftOut implements mail.Observer.
func (*Counter) LeftOut(handoff.EventType) {}

// Unnoted implements mail.Observer: whoever runs the mailer tells it.
func (*Counter) Unnoted() {}

// MailAge notes how old the oldest mail is that waits.
func (c *Counter) MailAge(age time.Duration) {
	if age > 0 {
		c.note("mail_age", true, int64(age/time.Second))
	}
}

func (c *Counter) note(name string, peak bool, n int64) {
	f := counts.Figure{Hour: counts.FigureHour(c.clock.Now()), Name: name, Peak: peak}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.noted[f]; !known && len(c.noted) >= mostly {
		return
	}
	if peak {
		c.noted[f] = max(c.noted[f], n)
	} else {
		c.noted[f] += n
	}
}

// flush adds what was noted. What may have been added is not added again.
func (c *Counter) flush(ctx context.Context) error {
	c.mu.Lock()
	noted := c.noted
	c.noted = map[counts.Figure]int64{}
	c.mu.Unlock()
	return c.store.AddFigures(ctx, figures(noted))
}
