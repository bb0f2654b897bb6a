package notify

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"latchkey/handoff/clock"
)

// Pulse tells the readers of other processes that this one is alive, and finds out which of them
// are not. What a reader takes from the log stays in its hand for as long as its pulse beats,
// however slow its work is; what a dead reader had in hand is freed for the others.
//
// No clock is compared. A pulse is a count that rises every two seconds, and a reader is dead
// when another has seen its count stand for nine seconds of that one's own stopwatch, while Redis
// answered: where Redis is away, no reader is found dead. A process whose own count it could not
// raise for six seconds begins nothing more and interrupts what it is at, so that it has stopped
// before another takes over. Reports that something was done are told on for as long as it lives.
type Pulse struct {
	log      PulseLog
	observer PulseObserver
	changed  chan struct{} // closed, and made anew, at each beat

	mu     sync.Mutex
	groups []string
	name   string // of this process's readers, until it is found dead
	known  bool   // the name was made known
	count  int64
	beaten time.Time       // when the newest beat that arrived was sent
	alive  context.Context // of what is begun; ends when that is too long ago
	stop   context.CancelFunc
	ending *time.Timer

	seen   map[string]sighting       // of the others
	looked time.Time                 // when they were last seen
	held   map[string]map[string]int // by group and reader, as of the last round
}

// sighting is since when another's count stands.
type sighting struct {
	count int64
	since time.Time
}

// PulseLog is what a Pulse needs of a [eventlog.Log].
type PulseLog interface {
	Beat(ctx context.Context, reader string, first bool) (map[string]int64, error)
	Forget(ctx context.Context, reader string, beat int64) (bool, error)
	Holders(ctx context.Context, group string) (map[string]int, error)
	Free(ctx context.Context, group, reader string) (int, error)
}

// PulseObserver hears what a Pulse finds. It must not block.
type PulseObserver interface {
	// Freed says that events of a group were freed out of a dead reader's hand.
	Freed(group string, events int)

	// Orphaned says how many events of a group are in the hands of readers that are silent.
	Orphaned(group string, events int)

	// Missed says that this process's own sign of life did not arrive, or that it learned
	// nothing of the others.
	Missed(err error)

	// Lost says that this process was taken for dead: what it had in hand is others' now.
	Lost()
}

const (
	beatEvery  = 2 * time.Second
	beatAgain  = 500 * time.Millisecond // after one that failed: when the log is back, soon after the others
	beatWithin = 2 * time.Second        // one question to the log
	sureFor    = 6 * time.Second        // from when a beat was sent: nothing is begun later than that
	deadAfter  = 9 * time.Second        // of silence; more than sureFor by the time it takes to stop
	lookedGap  = 5 * time.Second        // between two looks, above which silence proves nothing
)

// NewPulse makes a Pulse. The observer may be nil.
func NewPulse(log PulseLog, o PulseObserver) *Pulse {
	if o == nil {
		o = noObserver{}
	}
	p := &Pulse{
		log: log, observer: o, changed: make(chan struct{}), name: rand.Text(),
		seen: map[string]sighting{}, held: map[string]map[string]int{},
	}
	p.alive, p.stop = context.WithCancel(context.Background())
	p.stop()
	return p
}

func (noObserver) Freed(string, int) {}

func (noObserver) Orphaned(string, int) {}

func (noObserver) Missed(error) {}

func (noObserver) Lost() {}

// Watch has it free what dead readers of a group had in hand.
func (p *Pulse) Watch(group string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups = append(p.groups, group)
}

// Run beats until ctx ends, which must not be before the readers have ended. Then it frees what
// they left, and takes its name out.
func (p *Pulse) Run(ctx context.Context) {
	for {
		began, pause := time.Now(), beatEvery
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			p.observer.Missed(err)
			pause = beatAgain
		}
		if clock.Sleep(ctx, max(0, pause-time.Since(began))) != nil {
			p.leave(context.WithoutCancel(ctx))
			return
		}
	}
}

// leave makes it unnecessary to wait until this process is found dead.
func (p *Pulse) leave(ctx context.Context) {
	p.mu.Lock()
	p.stop()
	if p.ending != nil {
		p.ending.Stop()
	}
	name, groups, count := p.name, p.groups, p.count
	p.beaten = time.Time{}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beatWithin)
	defer cancel()
	if ok, err := p.log.Forget(ctx, name, count); !ok || err != nil {
		return // others will find out
	}
	for _, group := range groups {
		if _, err := p.log.Free(ctx, group, name); err != nil {
			return // likewise
		}
	}
}

// round is one beat and one look at the others.
func (p *Pulse) round(ctx context.Context) error {
	beats, err := p.beat(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	name, groups := p.name, p.groups
	p.mu.Unlock()
	for _, dead := range p.silent(name, beats) {
		gone, err := p.forget(ctx, dead, beats[dead])
		if err != nil {
			return err
		}
		if gone {
			delete(beats, dead)
			delete(p.seen, dead)
		}
	}
	for _, group := range groups {
		// Who had something in hand in the last round was known then. Who is not known now is
		// out, and will not be known again by that name.
		for reader := range p.held[group] {
			if _, known := beats[reader]; known {
				continue
			}
			if err := p.free(ctx, group, reader); err != nil {
				return err
			}
		}
		if p.held[group], err = p.holders(ctx, group); err != nil {
			return err
		}
		orphaned := 0
		for reader, n := range p.held[group] {
			s, known := p.seen[reader]
			if reader != name && (!known || time.Since(s.since) >= sureFor) {
				orphaned += n
			}
		}
		p.observer.Orphaned(group, orphaned)
	}
	return nil
}

// beat counts, by a new name where the one before is not known any more.
func (p *Pulse) beat(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, beatWithin)
	defer cancel()
	for {
		p.mu.Lock()
		name, first := p.name, !p.known
		p.mu.Unlock()
		sent := time.Now()
		beats, err := p.log.Beat(ctx, name, first)
		if err != nil {
			return nil, err
		}
		count, known := beats[name]
		p.mu.Lock()
		if known {
			p.known, p.count, p.beaten = true, count, sent
			if p.alive.Err() != nil {
				p.alive, p.stop = context.WithCancel(context.Background())
			}
			if p.ending != nil {
				p.ending.Stop()
			}
			p.ending = time.AfterFunc(max(0, sureFor-time.Since(sent)), p.stale)
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			return beats, nil
		}
		p.stop()
		p.name, p.known = rand.Text(), false
		p.mu.Unlock()
		p.observer.Lost()
	}
}

// stale interrupts what was begun, if no beat has arrived meanwhile.
func (p *Pulse) stale() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.beaten) >= sureFor {
		p.stop()
	}
}

// silent are the readers whose count has stood for too long.
func (p *Pulse) silent(name string, beats map[string]int64) (dead []string) {
	now := time.Now()
	if now.Sub(p.looked) > lookedGap {
		clear(p.seen) // Redis was away, or this process was: the others may have beaten unseen
	}
	p.looked = now
	for reader := range p.seen {
		if _, known := beats[reader]; !known {
			delete(p.seen, reader)
		}
	}
	for reader, count := range beats {
		s, known := p.seen[reader]
		switch {
		case reader == name:
		case !known || s.count != count:
			p.seen[reader] = sighting{count, now}
		case now.Sub(s.since) >= deadAfter:
			dead = append(dead, reader)
		}
	}
	return dead
}

func (p *Pulse) forget(ctx context.Context, reader string, count int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, beatWithin)
	defer cancel()
	return p.log.Forget(ctx, reader, count)
}

func (p *Pulse) free(ctx context.Context, group, reader string) error {
	ctx, cancel := context.WithTimeout(ctx, beatWithin)
	defer cancel()
	n, err := p.log.Free(ctx, group, reader)
	if n > 0 {
		p.observer.Freed(group, n)
	}
	return err
}

func (p *Pulse) holders(ctx context.Context, group string) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, beatWithin)
	defer cancel()
	return p.log.Holders(ctx, group)
}

// sure waits until the pulse beats, or ctx ends. It gives the name by which to take from the log,
// and a context that ends when what was begun is to be interrupted.
func (p *Pulse) sure(ctx context.Context) (name string, alive context.Context, err error) {
	for {
		p.mu.Lock()
		name, alive, changed := p.name, p.alive, p.changed
		sure := p.known && alive.Err() == nil && time.Since(p.beaten) < sureFor
		p.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return "", nil, err
		}
		if sure {
			return name, alive, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// sleep is [clock.Sleep] where it does not matter why it ends.
func sleep(ctx context.Context, d time.Duration) { _ = clock.Sleep(ctx, d) }
