// Package notify reads the event log, which each
// commit wrote along with its grant, and hands every event to what passes it on (a [Handler]).
//
// A [Reader] is one reader of one group of the log; the mail is a group, the webhooks
// are another. Any number of readers may share a group, in one process or in many:
// an event is in the hand of one of them at a time, for as long as that one's [Pulse]
// beats. It passes the event on first and finishes it in the log afterwards, so a crash in
// between repeats it: delivery is at least once, and a handler gives what it sends a name
// that is the same each time, by which the other side can tell.
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
// ends well before another reader may get the event.
type Handler func(ctx context.Context, d eventlog.Delivery) error

// Log is what a Reader needs of a [eventlog.Log].
type Log interface {
	Join(ctx context.Context, group string) error
	Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error)
	TakeUrgent(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error)
	Done(ctx context.Context, group string, id eventlog.ID) error
	Release(ctx context.Context, group string, d eventlog.Delivery) error
	Retry(ctx context.Context, group string, f eventlog.Failure, after time.Duration) error
	PulseLog
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
	Pulse    *Pulse // of the process, which its caller runs; nil: the reader has one of its own

	// Room has the reader take events by urgency (see [eventlog.Log] TakeUrgent), and is how many
	// handlers may work at once now. Nil: in the order of the log, by Parallel and Batch.
	Room func() int

	Parallel int           // handlers at once; 4 if 0
	Batch    int           // events in hand at once; 32 for each handler if 0
	Timeout  time.Duration // of one handler; 30 s if 0
	Poll     time.Duration // between two looks at a log that has nothing; 200 ms if 0
	Drain    time.Duration // how long running handlers may go on at shutdown; 10 s if 0
}

// Reader hands the events of one group to a Handler.
type Reader struct {
	Config
	ownPulse bool
	tidied   time.Time // when what it knows nothing of was last given back

	mu    sync.Mutex
	lines map[subject][]eventlog.Delivery // what is in hand
	urgent
}

// subject is what an event is about: its grant or, where it has none, its building. The events
// of one subject that are in hand stand in line, the first of them being handled: who follows a
// grant hears of it in order, unless something is tried again.
type subject struct {
	grant    handoff.GrantID
	building string
}

func subjectOf(d eventlog.Delivery) subject {
	if d.Event.Grant == (handoff.GrantID{}) {
		return subject{building: d.Event.Building}
	}
	return subject{grant: d.Event.Grant}
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
	c.Poll = cmp.Or(c.Poll, 200*time.Millisecond)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	if c.Parallel < 0 || c.Batch < 0 || c.Timeout < 0 || c.Poll < 0 || c.Drain < 0 {
		return nil, errors.New("notify: a negative setting")
	}
	r := &Reader{Config: c, lines: map[subject][]eventlog.Delivery{}, urgent: urgent{wake: make(chan struct{}, 1)}, ownPulse: c.Pulse == nil}
	if r.ownPulse {
		r.Pulse = NewPulse(c.Log, nil)
	}
	r.Pulse.Watch(c.Group)
	return r, nil
}

type noObserver struct{}

func (noObserver) Delivered(handoff.EventType) {}

func (noObserver) Retried(handoff.EventType, Reason) {}

func (noObserver) Buried(handoff.EventType, Reason) {}

func (noObserver) LogFailed(string, error) {}

const (
	takeFor     = 5 * time.Second  // one question to the log
	ackFor      = 10 * time.Second // telling the log how a delivery ended, after a shutdown began
	tidyEvery   = 10 * time.Second // giving back what no answer told of, while nothing is in hand
	maxPause    = 5 * time.Second  // between two questions to a log that does not answer
	firstTry    = time.Second      // backoff after the first failure
	maxDelay    = 15 * time.Minute // between two tries
	giveUpAfter = 24 * time.Hour   // after the first failure
)

// Run reads until ctx ends. Then it takes nothing more, gives back what it did
// not start, lets running handlers go on for Drain, and returns when all
// have ended. A Reader may run only once.
func (r *Reader) Run(ctx context.Context) {
	if r.ownPulse {
		beating, end := context.WithCancel(context.WithoutCancel(ctx))
		var pulse sync.WaitGroup
		pulse.Go(func() { r.Pulse.Run(beating) })
		defer pulse.Wait()
		defer end()
	}
	handling, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var running sync.WaitGroup
	if r.Room != nil {
		r.readUrgent(ctx, handling, &running)
	} else {
		r.readInTurn(ctx, handling, &running)
	}
	defer time.AfterFunc(r.Drain, abort).Stop()
	running.Wait()
}

// readInTurn takes in the order of the log until ctx ends.
func (r *Reader) readInTurn(ctx, handling context.Context, running *sync.WaitGroup) {
	slots := make(chan struct{}, r.Parallel)
	joined, pause := false, r.Poll
	for {
		name, _, err := r.Pulse.sure(ctx)
		if err != nil {
			break
		}
		taken, err := r.take(ctx, name, &joined, func(ctx context.Context) ([]eventlog.Delivery, error) {
			return r.Log.Take(ctx, r.Group, name, r.Batch)
		})
		idle := true // what came is in hand, even with an error
		for i, d := range taken {
			known, queued := r.queue(d)
			idle = idle && known
			if known || queued {
				continue
			}
			if !acquire(ctx, slots) {
				r.giveBack(ctx, taken[i:])
				break
			}
			of := r.open(d)
			running.Go(func() {
				defer func() { <-slots }()
				r.work(ctx, handling, of)
			})
		}
		switch {
		case errors.Is(err, eventlog.ErrNotJoined): // the log was lost and began anew
			joined = false
			sleep(ctx, pause)
			pause = min(2*pause, maxPause)
		case err != nil:
			sleep(ctx, pause)
			pause = min(2*pause, maxPause)
		case idle:
			r.tidy(ctx, name)
			sleep(ctx, r.Poll)
			pause = r.Poll
		default:
			pause = r.Poll
		}
	}
}

// take takes some events. It does not stop halfway when ctx ends, or what the log put in hand would
// have no reader until this process has ended.
func (r *Reader) take(ctx context.Context, name string, joined *bool, ask func(context.Context) ([]eventlog.Delivery, error)) (taken []eventlog.Delivery, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeFor)
	defer cancel()
	if !*joined {
		if err := r.Log.Join(ctx, r.Group); err != nil {
			r.Observer.LogFailed("Join", err)
			return nil, err
		}
		*joined = true
	}
	taken, err = ask(ctx)
	if err != nil {
		r.Observer.LogFailed("Take", err)
	}
	return taken, err
}

// tidy gives back what is in its hand and of which it knows nothing, as where a request that was
// given up arrived late. It is called between two takes, and does nothing while work goes on.
func (r *Reader) tidy(ctx context.Context, name string) {
	r.mu.Lock()
	busy := len(r.lines)+len(r.waiting) > 0
	r.mu.Unlock()
	if now := time.Now(); !busy && now.Sub(r.tidied) >= tidyEvery {
		r.tidied = now
		ctx, cancel := context.WithTimeout(ctx, takeFor)
		defer cancel()
		if _, err := r.Log.Free(ctx, r.Group, name); err != nil && ctx.Err() == nil {
			r.Observer.LogFailed("Free", err)
		}
	}
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
// known when it is in hand itself: this process was taken for dead, and got it again by its new
// name.
func (r *Reader) queue(d eventlog.Delivery) (known, queued bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := subjectOf(d)
	line, queued := r.lines[of]
	if !queued {
		return false, false
	}
	if i := slices.IndexFunc(line, func(other eventlog.Delivery) bool { return other.ID == d.ID }); i >= 0 {
		line[i].Reader = d.Reader
		return true, false
	}
	r.lines[of] = append(line, d)
	return false, true
}

func (r *Reader) open(d eventlog.Delivery) subject {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := subjectOf(d)
	r.lines[of] = []eventlog.Delivery{d}
	return of
}

// first is the first of a subject's line, which has one.
func (r *Reader) first(of subject) eventlog.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines[of][0]
}

// isHeld reports whether the first of a subject's line is in hand by this name. If it is not, it
// is taken out of the line: it is another reader's, or will be.
func (r *Reader) isHeld(of subject, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines[of][0].Reader == name {
		return true
	}
	r.lines[of] = r.lines[of][1:]
	return false
}

// next takes the first of a subject's line out, if it is still this one, and reports whether
// another is behind it.
func (r *Reader) next(of subject, done *eventlog.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := r.lines[of]
	if done != nil && len(line) > 0 && line[0].ID == *done {
		line = line[1:]
		r.lines[of] = line
	}
	if len(line) == 0 {
		delete(r.lines, of)
	}
	return len(line) > 0
}

// work handles a subject's line until it is empty. When ctx ends nothing more is begun.
func (r *Reader) work(ctx, handling context.Context, of subject) {
	var done *eventlog.ID
	for r.next(of, done) {
		done = nil
		name, alive, err := r.Pulse.sure(ctx)
		d := r.first(of)
		switch {
		case err != nil: // ctx has ended
			r.giveBack(ctx, []eventlog.Delivery{d})
		case !r.isHeld(of, name):
			continue
		default:
			began := time.Now()
			r.deliver(ctx, handling, alive, of)
			r.note(time.Since(began))
		}
		done = &d.ID
	}
}

// deliver runs the handler on the first of a subject's line and tells the log how it ended.
func (r *Reader) deliver(ctx, handling, alive context.Context, of subject) {
	d := r.first(of)
	attempt, cancel := context.WithTimeout(handling, r.Timeout)
	interrupted := context.AfterFunc(alive, cancel)
	err := r.Handle(attempt, d)
	interrupted()
	cancel()

	if err == nil {
		if r.tell(ctx, "Done", func(ctx context.Context) error { return r.Log.Done(ctx, r.Group, d.ID) }) {
			r.Observer.Delivered(d.Event.Type)
		}
		return
	}
	now, reason := r.Clock.Now(), ReasonOf(err)
	failure := func() eventlog.Failure { // of the delivery as it is in hand by now: see queue
		return eventlog.Failure{Delivery: r.first(of), Error: reason.String(), At: now}
	}
	retry := func(after time.Duration) bool {
		return r.tell(ctx, "Retry", func(ctx context.Context) error { return r.Log.Retry(ctx, r.Group, failure(), after) })
	}
	if due, later := dueAt(err); later {
		retry(due.Sub(now))
		return
	}
	tooOld := d.FirstFailed != 0 && now.Sub(d.FirstFailed.Time()) >= giveUpAfter
	if IsPermanent(err) || tooOld {
		if r.tell(ctx, "Bury", func(ctx context.Context) error { return r.Log.Bury(ctx, r.Group, failure()) }) {
			r.Observer.Buried(d.Event.Type, reason)
		}
		return
	}
	if retry(backoff(d.Tries)) {
		r.Observer.Retried(d.Event.Type, reason)
	}
}

// giveBack makes events due at once that were taken and not started.
func (r *Reader) giveBack(ctx context.Context, unstarted []eventlog.Delivery) {
	var all sync.WaitGroup
	for _, d := range unstarted {
		all.Go(func() {
			r.tell(ctx, "Release", func(ctx context.Context) error { return r.Log.Release(ctx, r.Group, d) })
		})
	}
	all.Wait()
}

// tell repeats itself for as long as the process lives: an event that was passed on and is not
// finished in the log would be passed on again, once this process has ended. A shutdown ends it,
// after a while.
func (r *Reader) tell(ctx context.Context, op string, say func(context.Context) error) bool {
	telling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(ackFor, cancel) })()
	failing := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		once, end := context.WithTimeout(telling, ackFor)
		err := say(once)
		end()
		if err == nil {
			return true
		}
		sleep(telling, pause)
		if over := telling.Err() != nil; over || time.Since(failing) >= ackFor {
			r.Observer.LogFailed(op, err)
			failing = time.Now()
			if over {
				return false
			}
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
