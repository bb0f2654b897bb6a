package controller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"latchkey/handoff/door"
)

// Clock tells the time of day, by which permits are judged and reports dated.
type Clock interface{ Now() time.Time }

// Config is what a Controller needs. Folder, Opener, Clock and Log must be given.
type Config struct {
	Folder *Folder
	Opener Opener
	Watch  []Watch // sensors, and the opener itself where it holds a connection

	// Where permits come from; at least one.
	Service *Service     // nil: no network
	Lines   io.Reader    // nil: none; answers go to Answers
	Answers io.Writer    // with Lines
	Socket  net.Listener // nil: none; a local socket

	Relock   time.Duration // from the lock's confirmation until it is locked, for PINs and for permits that do not say; 0: 5 s
	HeldOpen time.Duration // how long the door may stay open behind a locked lock; 0: 30 s
	Patience time.Duration // how long the opener may take for each movement; 0: 10 s

	Clock Clock
	Log   *slog.Logger
}

// The times of a door that was not told others. Patience is shorter than the 15 seconds
// after which the service gives up on an answer.
const (
	DefaultRelock   = 5 * time.Second
	DefaultHeldOpen = 30 * time.Second
	DefaultPatience = 10 * time.Second
)

// Controller runs one door, once.
type Controller struct {
	Config
	folder *Folder
	clock  Clock
	log    *slog.Logger

	requests chan request
	signals  chan Signal
	done     chan error    // the opener came back; one at most is under way
	wake     chan struct{} // a report was added
	learnt   chan struct{} // the service should hear which keys are known

	answering inFlight

	// Used by the loop alone.
	machine machine
	asker   chan<- Answer // of the unlock that the opener works on
}

// request asks for an unlock.
type request struct {
	permit  []byte
	pin     string // if there is no permit
	stream  bool   // from the service, which says things again after a reconnect
	settled func() // of the stream: called when it need not be said again
	reply   chan<- Answer
}

// New puts a controller together. The error says what the configuration lacks.
func New(c Config) (*Controller, error) {
	switch {
	case c.Folder == nil || c.Opener == nil || c.Clock == nil || c.Log == nil:
		return nil, errors.New("controller: folder, opener, clock and log must be given")
	case c.Service == nil && c.Lines == nil && c.Socket == nil:
		return nil, errors.New("controller: no permit can reach the door: it needs a service, lines or a socket")
	case c.Lines != nil && c.Answers == nil:
		return nil, errors.New("controller: lines without answers")
	case c.Relock < 0 || c.HeldOpen < 0 || c.Patience < 0:
		return nil, errors.New("controller: times are not negative")
	}
	orDefault(&c.Relock, DefaultRelock)
	orDefault(&c.HeldOpen, DefaultHeldOpen)
	orDefault(&c.Patience, DefaultPatience)
	return &Controller{
		Config: c, folder: c.Folder, clock: c.Clock, log: c.Log.With("door", c.Folder.door),
		requests: make(chan request, 16), signals: make(chan Signal), done: make(chan error, 1), wake: make(chan struct{}, 1),
		learnt: make(chan struct{}, 1),
	}, nil
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// errStillUnlocked is the error of a controller that ended and could not lock its door.
var errStillUnlocked = errors.New("the lock did not confirm that it is locked: look after the door; the next start will try again")

// Run runs the door until ctx ends, or, where lines are its only source, until they
// end. Then it takes no more permits, waits until the lock is locked, and tries once
// more to bring its reports.
func (c *Controller) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	working, rest := context.WithCancel(context.WithoutCancel(ctx)) // what must outlive the last permit
	defer rest()

	var sources, workers sync.WaitGroup
	for _, watch := range c.Watch {
		workers.Go(func() { watch(working, func(s Signal) { c.tell(working, s) }) })
	}
	c.dial(ctx, working, &sources, &workers)
	if c.Socket != nil {
		sources.Go(func() { c.serveSocket(ctx, c.Socket) })
	}
	if c.Lines != nil {
		// Run does not wait for this one: a read of standard input cannot be broken off.
		go func() {
			if err := c.serveLines(ctx, c.Lines, c.Answers); err != nil && ctx.Err() == nil {
				c.log.Error("the lines broke", "error", err)
			}
			if c.Service == nil && c.Socket == nil {
				stop()
			}
		}()
	}

	err := c.loop(ctx)
	stop()
	c.answering.close()
	sources.Wait()
	rest()
	workers.Wait()
	return err
}

// dial starts what speaks with the service, if there is one.
func (c *Controller) dial(ctx, working context.Context, sources, workers *sync.WaitGroup) {
	if c.Service == nil {
		return
	}
	l := newLink(*c.Service, c.folder.door)
	back := make(chan struct{}, 1)
	s := &stream{
		link: l, cursor: c.folder.cursor(), keep: c.folder.setCursor,
		handle: c.hear,
		failed: func(err error) { c.log.Warn("the stream of permits", "error", err) },
		opened: func() {
			c.log.Info("connected to the service")
			signal(back)
			signal(c.learnt)
		},
	}
	r := &reporter{
		link: l, outbox: c.folder.outbox, wake: c.wake, back: back,
		failed: func(err error) { c.log.Warn("reporting", "error", err) },
	}
	sources.Go(func() { s.run(ctx) })
	workers.Go(func() { r.run(working) })
	workers.Go(func() { c.tellKeys(working, l) })
}

// tellKeys tells the service which signing keys the door knows, whenever it connects and whenever
// they change, so that the service does not sign with another.
func (c *Controller) tellKeys(ctx context.Context, l *link) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.learnt:
		}
		for failures := 1; ; failures++ {
			raw, err := c.folder.outbox.Known(c.folder.trust, c.clock.Now())
			if err == nil {
				_, err = l.post(ctx, [][]byte{raw}) // a service that does not know the message refuses it alone
			}
			if err == nil || ctx.Err() != nil {
				break
			}
			c.log.Warn("telling which keys are known", "error", err)
			if !pause(ctx, backoff(failures)) {
				return
			}
		}
	}
}

// hear takes what the stream brings. It calls settled when the message need not come again: a
// permit may wait for the lock before it is judged.
func (c *Controller) hear(e event, settled func()) {
	if e.kind != "permit" {
		_ = c.take(e)
		settled()
		return
	}
	select {
	case c.requests <- request{permit: e.raw, stream: true, settled: settled}:
	default: // never admitted: the service shows no-answer
		c.log.Warn("a message was not taken", "kind", e.kind, "error", "too many permits at once")
		settled()
	}
}

// take takes a recall or a revocation list of the service; it is signed, so that it does not matter
// who brings it. They are in force when it returns, ahead of permits that wait for the lock.
func (c *Controller) take(e event) (err error) {
	switch e.kind {
	case "recall":
		_, err = c.folder.verifier.Recall(e.raw, c.clock.Now())
		if errors.Is(err, door.Replayed) {
			c.log.Info("a recall came after its permit was used")
			return err
		}
	case "revocation":
		if err = c.folder.trust.Apply(e.raw); err == nil {
			signal(c.learnt)
		}
	default:
		return nil
	}
	if err != nil {
		c.log.Warn("a message was not taken", "kind", e.kind, "error", err)
	}
	return err
}

// tell hands a signal to the loop. When it returns, the loop has taken it, ahead of anything
// that comes later.
func (c *Controller) tell(ctx context.Context, s Signal) {
	select {
	case c.signals <- s:
	case <-ctx.Done():
	}
}

// ask asks for an unlock and waits for what became of it. An unlock that began is waited
// for even when the controller stops.
func (c *Controller) ask(ctx context.Context, r request) Answer {
	reply := make(chan Answer, 1)
	r.reply = reply
	select {
	case c.requests <- r:
	case <-ctx.Done():
		return Answer{Result: resultFailed, Reason: "stopping"}
	}
	return <-reply // the loop answers every request, at the latest when it ends
}

// loop is the only code that reads and steps the machine.
func (c *Controller) loop(ctx context.Context) error {
	c.begin()
	stopping := ctx.Done()
	for !c.machine.over() {
		var requests <-chan request
		if c.machine.ready() {
			requests = c.requests
		}
		tick, stopTick := timerAt(c.machine.due())
		select {
		case <-stopping:
			stopping = nil
			c.step(input{what: stopped})
		case r := <-requests:
			c.admit(r)
			if r.settled != nil {
				r.settled()
			}
		case err := <-c.done:
			c.answered(err)
		case s := <-c.signals:
			c.sensed(s)
		case <-tick:
			c.step(input{what: ticked})
		}
		stopTick()
	}
	// Requests that wait, or are about to come, are answered.
	idle := make(chan struct{})
	go func() {
		c.answering.close()
		close(idle)
	}()
	for {
		select {
		case r := <-c.requests:
			r.answer(Answer{Result: resultFailed, Reason: "stopping"})
			continue
		case <-c.signals:
			continue
		case <-idle:
		}
		break
	}
	if c.machine.gaveUp {
		return errStillUnlocked
	}
	return nil
}

func timerAt(due time.Time) (<-chan time.Time, func() bool) {
	if due.IsZero() {
		return nil, func() bool { return true }
	}
	t := time.NewTimer(time.Until(due))
	return t.C, t.Stop
}

// begin reads what the last controller of this door left, and locks the lock if it may be
// unlocked.
func (c *Controller) begin() {
	r := rules{relock: c.Relock, heldOpen: c.HeldOpen}
	found, moved, err := c.folder.unlocksInForce()
	if err != nil {
		c.log.Error("the record of the last unlock", "error", err)
	}
	if !moved {
		c.machine = machine{rules: r}
		return
	}
	c.log.Warn("the last controller ended while the lock may have been unlocked: locking it", "unlocks", len(found))
	var effects []effect
	c.machine, effects = resume(r, found)
	c.run(effects)
}

// step puts one input through the machine. Instants carry Go's monotonic reading, so
// that spans are right even when the time of day is set.
func (c *Controller) step(in input) {
	var effects []effect
	c.machine, effects = c.machine.step(in, time.Now())
	c.run(effects)
}

func (c *Controller) run(effects []effect) {
	unwritten := false // something of this step: then the lock is not unlocked
	for _, e := range effects {
		var err error
		switch e.do {
		case save:
			err = c.store()
		case report:
			err = c.report(e.state, e.permit, 0)
		case unlockNow:
			if unwritten {
				c.done <- errors.New("the disk does not take what must be remembered")
			} else {
				go c.move(c.Opener.Unlock)
			}
		case lockNow:
			go c.move(c.Opener.Lock)
		}
		if err != nil {
			unwritten = true
			c.log.Error("could not be written", "error", err)
		}
	}
}

func (c *Controller) store() error {
	if c.machine.phase == locked {
		return c.folder.clearUnlocks()
	}
	return c.folder.storeUnlocks(c.machine.unlocks)
}

func (c *Controller) report(s door.State, permit door.PermitID, why door.Refusal) error {
	r, err := c.folder.outbox.Add(s, permit, why, c.clock.Now())
	if err != nil {
		return err
	}
	about := []any{"state", s.String(), "seq", r.Seq}
	if !permit.IsZero() {
		about = append(about, "permit", permit.String())
	}
	if why != 0 {
		about = append(about, "reason", why.String())
	}
	c.log.Info("reported", about...)
	signal(c.wake)
	return nil
}

// signal wakes the reader of a channel of one place. Signals that are not read yet count as
// one.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// move runs the opener, for Patience at most. A stop of the controller does not break it off.
func (c *Controller) move(act func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Patience)
	defer cancel()
	c.done <- act(ctx)
}

func (c *Controller) answered(err error) {
	silent := errors.Is(err, ErrNoAnswer)
	if err != nil {
		c.log.Error("the lock did not confirm", "error", err)
	}
	if c.asker != nil {
		switch {
		case err == nil:
			c.asker <- Answer{Result: resultOpened}
		case silent:
			c.asker <- Answer{Result: resultFailed, Reason: door.NoAnswer.String()}
		default:
			c.asker <- Answer{Result: resultFailed, Reason: "not-confirmed"}
		}
		c.asker = nil
	}
	c.step(input{what: answered, yes: err == nil, silent: silent})
}

// alarmOf is what a signal that is about no permit is reported as.
var alarmOf = map[Signal]door.State{
	Tampered: door.Tamper, ForcedOpen: door.Forced, Jammed: door.Jammed, BatteryLow: door.BatteryLow, Unavailable: door.Unavailable,
}

func (c *Controller) sensed(s Signal) {
	switch s {
	case ContactClosed, ContactOpen:
		c.step(input{what: contactIs, yes: s == ContactOpen})
	default:
		if alarm, known := alarmOf[s]; known {
			c.step(input{what: alarming, alarm: alarm})
		}
	}
}

// admit verifies a permit or a PIN, at the moment at which the lock can act on it.
func (c *Controller) admit(r request) {
	permit, relock, err := c.judge(r)
	if err == nil {
		c.asker = r.reply
		c.step(input{what: admitted, permit: permit, relock: relock})
		return
	}
	answer := refusal(err)
	r.answer(answer)
	var why door.Refusal
	switch {
	case !errors.As(err, &why):
		c.log.Error("a permit could not be judged", "error", err)
	case r.stream && why == door.Replayed:
		// The stream repeats what was under way when it broke. That is no attempt.
	default:
		c.log.Warn("refused", "error", err)
		if r.stream && permit.IsZero() {
			permit = door.Claimed(r.permit) // the service itself sent it: its permit is shown as refused, and not as unanswered
		}
		if err := c.report(door.Refused, permit, why); err != nil {
			c.log.Warn("the refusal could not be recorded", "error", err)
		}
	}
}

// judge verifies a permit or a PIN by package door. The permit is also returned with an
// error, if it is known. Relock is the permit's own; 0 for a PIN.
func (c *Controller) judge(r request) (permit door.PermitID, relock time.Duration, err error) {
	if r.permit != nil {
		p, err := c.folder.verifier.Admit(r.permit, c.clock.Now())
		return p.ID, p.Relock, err
	}
	if c.folder.keypad == nil {
		return door.PermitID{}, 0, door.Malformed
	}
	permit, err = c.folder.keypad.Enter(r.pin, c.clock.Now())
	return permit, 0, err
}

func (r *request) answer(a Answer) {
	if r.reply != nil {
		r.reply <- a
	}
}
