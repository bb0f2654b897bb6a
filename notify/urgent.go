package notify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"latchkey/handoff/eventlog"
)

const (
	// takeGap is between two takes by urgency, while there is something to take: each asks
	// all partitions.
	takeGap = 20 * time.Millisecond

	// maxAhead bounds what is taken ahead, for handlers that end before the next take.
	maxAhead = 256
)

// urgent is what a reader by urgency has in hand and did not begin, the most urgent first.
type urgent struct {
	waiting []eventlog.Delivery
	begun   int           // subjects that are being handled
	mean    time.Duration // of handling one event, see note; 0: none was handled
	wake    chan struct{} // has room for one word that an event ended
}

// readUrgent takes by urgency until ctx ends. It takes what its handlers can begin with before the
// next take, and no more: an event in hand is out of the order, and one that is more urgent would
// wait behind it.
func (r *Reader) readUrgent(ctx, handling context.Context, running *sync.WaitGroup) {
	joined, pause := false, r.Poll
	for {
		name, _, err := r.Pulse.sure(ctx)
		if err != nil {
			break
		}
		want := max(0, r.room())
		r.giveBack(ctx, r.excess())
		taken, err := r.take(ctx, name, &joined, func(ctx context.Context) ([]eventlog.Delivery, error) {
			return r.Log.TakeUrgent(ctx, r.Group, name, want)
		})
		r.await(taken)
		r.begin(ctx, handling, running)
		switch {
		case err != nil:
			if errors.Is(err, eventlog.ErrNotJoined) { // the log was lost and began anew
				joined = false
			}
			sleep(ctx, pause)
			pause = min(2*pause, maxPause)
			continue
		case len(taken) == 0 && want > 0:
			r.tidy(ctx, name)
			sleep(ctx, r.Poll)
		default:
			sleep(ctx, takeGap)
			r.awaitRoom(ctx)
		}
		pause = r.Poll
	}
	r.mu.Lock()
	unstarted := r.urgent.waiting
	r.urgent.waiting = nil
	r.mu.Unlock()
	r.giveBack(ctx, unstarted)
}

// awaitRoom waits until something can be taken, for Poll at most: what is new is put in order
// meanwhile.
func (r *Reader) awaitRoom(ctx context.Context) {
	over := time.NewTimer(r.Poll)
	defer over.Stop()
	for r.room() <= 0 {
		select {
		case <-r.urgent.wake:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// room is how many events may be taken.
func (r *Reader) room() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	inHand := len(r.urgent.waiting)
	for _, line := range r.lines {
		inHand += len(line)
	}
	handlers := max(1, r.Room())
	ahead := 0 // how many end before the next take
	if r.urgent.mean > 0 {
		ahead = int(min(time.Duration(handlers)*takeGap/r.urgent.mean, maxAhead))
	}
	return handlers + ahead - inHand
}

// await puts what was taken behind what waits. What is in hand already, as where this process was
// taken for dead, is it by the new name.
func (r *Reader) await(taken []eventlog.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range taken {
		same := func(other eventlog.Delivery) bool { return other.ID == d.ID }
		line := r.lines[subjectOf(d)]
		if i := slices.IndexFunc(line, same); i >= 0 {
			line[i].Reader = d.Reader
		} else if i := slices.IndexFunc(r.urgent.waiting, same); i >= 0 {
			r.urgent.waiting[i].Reader = d.Reader
		} else {
			r.urgent.waiting = append(r.urgent.waiting, d)
		}
	}
}

// begin has as many subjects handled as there is room for.
func (r *Reader) begin(ctx, handling context.Context, running *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := max(1, r.Room())
	for len(r.urgent.waiting) > 0 && r.urgent.begun < most && ctx.Err() == nil {
		d := r.urgent.waiting[0]
		r.urgent.waiting = r.urgent.waiting[1:]
		of := subjectOf(d)
		if line, queued := r.lines[of]; queued {
			r.lines[of] = append(line, d)
			continue
		}
		r.lines[of] = []eventlog.Delivery{d}
		r.urgent.begun++
		running.Go(func() {
			r.work(ctx, handling, of)
			r.mu.Lock()
			r.urgent.begun--
			r.mu.Unlock()
			r.begin(ctx, handling, running)
			r.tellRoom()
		})
	}
}

// excess takes out of what waits, the least urgent first, what was taken ahead and will have to
// wait for long: the handlers became slower, or there is room for fewer. A little stays, since the
// room is an estimate.
func (r *Reader) excess() []eventlog.Delivery {
	over := -r.room()
	r.mu.Lock()
	defer r.mu.Unlock()
	if over <= max(8, r.Room()) {
		return nil
	}
	kept := max(0, len(r.urgent.waiting)-over)
	excess := slices.Clone(r.urgent.waiting[kept:])
	r.urgent.waiting = r.urgent.waiting[:kept]
	return excess
}

// note notes how long an event took. One that is slow counts at once, and many that are quick
// (there was nothing to send) only by and by: too little in hand costs less than too much.
func (r *Reader) note(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urgent.mean = max(took, r.urgent.mean-r.urgent.mean/32+took/32)
}

func (r *Reader) tellRoom() {
	select {
	case r.urgent.wake <- struct{}{}:
	default:
	}
}
