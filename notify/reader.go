// Package notify reads the event log, which each
// commit wrote along with its grant, and hands every event to what passes it on (a [Handler]).
//
// A [Reader] is one reader of one group of the log; the mail is a group, the webhooks
// are another. Any number of readers may share a group, in one process or in many:
// an event is leased to one of them at a time. The holder of the lease passes the
// event on first and finishes it in the log afterwards, so a crash in between repeats
// it: delivery is at least once, and a handler gives what it sends a name that is the
// same each time, by which the other side can tell.
//
// What fails is tried again, later and later, at random moments; after a day, or at
// once where trying again is no use, it becomes a dead letter, which stays listed
// until an operator replays it.
package notify

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/eventlog"
)

// Handler passes one event on. Nil finishes the event; any error but one made by
// [Permanent] has it tried again, one made by [Later] not before its time. The context
// ends well before the lease does.
type Handler func(ctx context.Context, d eventlog.Delivery) error

// Log is what a Reader needs of a [eventlog.Log].
type Log interface {
	Join(ctx context.Context, group string) error
	Take(ctx context.Context, group string, now time.Time, lease time.Duration, limit int) ([]eventlog.Delivery, error)
	Done(ctx context.Context, group string, id eventlog.ID) error
	Release(ctx context.Context, group string, id eventlog.ID, now time.Time) error
	Retry(ctx context.Context, group string, f eventlog.Failure, at time.Time) error
	Bury(ctx context.Context, group string, f eventlog.Failure) error
}

// Observer counts. It is called by several goroutines at once and must not block.
type Observer interface {
	Delivered(e handoff.EventType)
	Retried(e handoff.EventType, r Reason)
	Buried(e handoff.EventType, r Reason)

	// LogFailed says that the log could not be asked, or told: op is a method of Log.
	LogFailed(op string, err error)
}

// Config is what a Reader is made of. Log, Group, Handle and Clock are required.
type Config struct {
	Log      Log
	Group    string
	Handle   Handler
	Clock    clock.Clock
	Observer Observer

	Parallel int           // handlers at once; 4 if 0
	Batch    int           // events leased at once; 32 for each handler if 0
	Timeout  time.Duration // of one handler; 30 s if 0
	Lease    time.Duration // four times Timeout if 0, and never less than twice
	Poll     time.Duration // between two looks at a log that has nothing; 200 ms if 0
	Drain    time.Duration // how long running handlers may go on at shutdown; 10 s if 0
}

// Reader hands the events of one group to a Handler.
type Reader struct {
	Config
	mu    sync.Mutex
	lines map[subject][]leased
}

// leased is an event in hand. Those of one subject stand in line, the first of them being
// handled: who follows a grant hears of it in order, unless something is tried again.
type leased struct {
	eventlog.Delivery
	until time.Time // end of the lease
}

// subject is what an event is about: its grant or, where it has none, its building.
type subject struct {
	grant    handoff.GrantID
	building string
}

func (l *leased) subject() subject {
	if l.Event.Grant == (handoff.GrantID{}) {
		return subject{building: l.Event.Building}
	}
	return subject{grant: l.Event.Grant}
}

// NewReader makes a Reader. The error names what is missing or wrong.
func NewReader(c Config) (*Reader, error) {
	if c.Log == nil || c.Group == "" || c.Handle == nil || c.Clock == nil {
		return nil, errors.New("notify: a reader needs a log, a group, a handler and a clock")
	}
	c.Observer = cmp.Or[Observer](c.Observer, noObserver{})
	c.Parallel = cmp.Or(c.Parallel, 4)
	c.Batch = cmp.Or(c.Batch, 32*c.Parallel)
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	c.Lease = cmp.Or(c.Lease, 4*c.Timeout)
	c.Poll = cmp.Or(c.Poll, 200*time.Millisecond)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	if c.Parallel < 0 || c.Batch < 0 || c.Timeout < 0 || c.Poll < 0 || c.Drain < 0 {
		return nil, errors.New("notify: a negative setting")
	}
	if c.Lease < 2*c.Timeout {
		return nil, errors.New("notify: a lease shorter than twice the handler's timeout")
	}
	return &Reader{Config: c, lines: map[subject][]leased{}}, nil
}

type noObserver struct{}

func (noObserver) Delivered(handoff.EventType) {}

func (noObserver) Retried(handoff.EventType, Reason) {}

func (noObserver) Buried(handoff.EventType, Reason) {}

func (noObserver) LogFailed(string, error) {}

const (
	takeFor     = 5 * time.Second  // one question to the log
	ackFor      = 10 * time.Second // telling the log how a delivery ended, with all retries
	maxPause    = 5 * time.Second  // between two questions to a log that does not answer
	firstTry    = time.Second      // backoff after the first failure
	maxDelay    = 15 * time.Minute // between two tries
	giveUpAfter = 24 * time.Hour   // after the first failure
)

// Run reads until ctx ends. Then it takes nothing more, gives back what it did
// not start, lets running handlers go on for Drain, and returns when all
// have ended. A Reader may run only once.
func (r *Reader) Run(ctx context.Context) {
	handling, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var running sync.WaitGroup
	slots := make(chan struct{}, r.Parallel)

	joined, pause := false, r.Poll
	for ctx.Err() == nil {
		taken, until, err := r.take(ctx, &joined)
		idle := true // what came is leased, even with an error
		for i, d := range taken {
			l := leased{Delivery: d, until: until}
			known, queued := r.queue(l)
			idle = idle && known
			if known || queued {
				continue
			}
			if !acquire(ctx, slots) {
				r.giveBack(ctx, taken[i:])
				break
			}
			r.open(l)
			running.Go(func() {
				defer func() { <-slots }()
				r.work(ctx, handling, l)
			})
		}
		switch {
		case errors.Is(err, eventlog.ErrNotJoined): // the log was lost and began anew
			joined = false
			_ = clock.Sleep(ctx, pause)
			pause = min(2*pause, maxPause)
		case err != nil:
			_ = clock.Sleep(ctx, pause)
			pause = min(2*pause, maxPause)
		case idle:
			_ = clock.Sleep(ctx, r.Poll)
			pause = r.Poll
		default:
			pause = r.Poll
		}
	}
	defer time.AfterFunc(r.Drain, abort).Stop()
	running.Wait()
}

// take leases a batch. It does not stop halfway when ctx ends, or what the log leased
// would have no reader until the lease is over.
func (r *Reader) take(ctx context.Context, joined *bool) (taken []eventlog.Delivery, until time.Time, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeFor)
	defer cancel()
	if !*joined {
		if err := r.Log.Join(ctx, r.Group); err != nil {
			r.Observer.LogFailed("Join", err)
			return nil, time.Time{}, err
		}
		*joined = true
	}
	now := r.Clock.Now()
	taken, err = r.Log.Take(ctx, r.Group, now, r.Lease, r.Batch)
	if err != nil {
		r.Observer.LogFailed("Take", err)
	}
	return taken, now.Add(r.Lease), err
}

func acquire(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if ctx.Err() != nil { // select may choose either
		<-slots
		return false
	}
	return true
}

// queue puts an event behind the others of its subject, if there are any in hand. It is
// known when it is in hand itself: its lease ended, by a clock that was moved or a slow
// handler, and the log gave it to the same reader again.
func (r *Reader) queue(l leased) (known, queued bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line, queued := r.lines[l.subject()]
	if !queued {
		return false, false
	}
	if slices.ContainsFunc(line, func(other leased) bool { return other.ID == l.ID }) {
		return true, false
	}
	r.lines[l.subject()] = append(line, l)
	return false, true
}

func (r *Reader) open(l leased) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[l.subject()] = []leased{l}
}

// next takes the first of a subject's line out and gives the one behind it.
func (r *Reader) next(of subject) (l leased, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if line := r.lines[of][1:]; len(line) > 0 {
		r.lines[of] = line
		return line[0], true
	}
	delete(r.lines, of)
	return leased{}, false
}

// work handles a subject's line until it is empty. When ctx ends nothing more is begun.
func (r *Reader) work(ctx, handling context.Context, l leased) {
	for ok := true; ok; l, ok = r.next(l.subject()) {
		switch {
		case ctx.Err() != nil:
			r.giveBack(ctx, []eventlog.Delivery{l.Delivery})
		case r.Clock.Now().Add(r.Timeout).After(l.until):
			// It waited too long and may soon be another reader's. It comes again when its
			// lease is over.
		default:
			r.deliver(handling, l.Delivery)
		}
	}
}

// deliver runs the handler and tells the log how it ended.
func (r *Reader) deliver(ctx context.Context, d eventlog.Delivery) {
	attempt, cancel := context.WithTimeout(ctx, r.Timeout)
	err := r.Handle(attempt, d)
	cancel()

	if err == nil {
		if r.tell(ctx, "Done", func(ctx context.Context) error { return r.Log.Done(ctx, r.Group, d.ID) }) {
			r.Observer.Delivered(d.Event.Type)
		}
		return
	}
	now, reason := r.Clock.Now(), ReasonOf(err)
	f := eventlog.Failure{Delivery: d, Error: reason.String(), At: now}
	if due, later := dueAt(err); later {
		r.tell(ctx, "Retry", func(ctx context.Context) error { return r.Log.Retry(ctx, r.Group, f, due) })
		return
	}
	tooOld := d.FirstFailed != 0 && now.Sub(d.FirstFailed.Time()) >= giveUpAfter
	if IsPermanent(err) || tooOld {
		if r.tell(ctx, "Bury", func(ctx context.Context) error { return r.Log.Bury(ctx, r.Group, f) }) {
			r.Observer.Buried(d.Event.Type, reason)
		}
		return
	}
	at := now.Add(backoff(d.Tries))
	if r.tell(ctx, "Retry", func(ctx context.Context) error { return r.Log.Retry(ctx, r.Group, f, at) }) {
		r.Observer.Retried(d.Event.Type, reason)
	}
}

// giveBack makes events due at once that were leased and not started.
func (r *Reader) giveBack(ctx context.Context, unstarted []eventlog.Delivery) {
	now := r.Clock.Now()
	var all sync.WaitGroup
	for _, d := range unstarted {
		all.Go(func() {
			r.tell(ctx, "Release", func(ctx context.Context) error { return r.Log.Release(ctx, r.Group, d.ID, now) })
		})
	}
	all.Wait()
}

// tell repeats itself for a while: an event that was passed on and is not finished in
// the log would be passed on again. A shutdown does not interrupt it.
func (r *Reader) tell(ctx context.Context, op string, say func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackFor)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := say(ctx)
		if err == nil {
			return true
		}
		_ = clock.Sleep(ctx, pause)
		if ctx.Err() != nil {
			r.Observer.LogFailed(op, err)
			return false
		}
	}
}

// backoff is how long to wait after a failure when there were tries failures before:
// 1 s, doubled each time up to 15 min, and of that a random part between the half and
// the whole, so that what failed together does not come back together.
func backoff(tries int) time.Duration {
	most := min(firstTry<<min(tries, 20), maxDelay)
	return most/2 + rand.N(most/2+1)
}
