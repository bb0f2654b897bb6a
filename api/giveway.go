package api

import (
	"context"
	"sync/atomic"
	"time"
)

// giveWay lets the lines of bulk files wait for the requests that people wait for: a courier's
// verify must not wait behind a warehouse's file. All bulk requests of the process share one.
//
// While no other request was in work for a moment, many lines are in work at once. Otherwise few
// are, and each of these is followed by a pause that is some times as long as the line took: the
// slower everything is, the more bulk holds back, and it never stops.
type giveWay struct {
	now   func() time.Time // of the process's own clock
	began time.Time

	inWork atomic.Int64 // requests that are waited for
	last   atomic.Int64 // when the last of them ended, in nanoseconds since began; 0: none yet

	wide, narrow chan struct{} // places: one for each line in work, and one more while others are
}

const (
	linesAtOnce = 128                    // in work at once over all files: two pipelines as deep as they get
	linesBeside = 4                      // of these, while there are other requests
	lineRest    = 3                      // a line's pause then, in times that it took
	restAtMost  = 100 * time.Millisecond // a line that waited for a slow Redis rests no longer
	quietAfter  = 100 * time.Millisecond // after the last other request
)

func newGiveWay(now func() time.Time) *giveWay {
	return &giveWay{now: now, began: now(), wide: make(chan struct{}, linesAtOnce), narrow: make(chan struct{}, linesBeside)}
}

// enter says that a request is in work which somebody waits for; leave that it has ended.
func (g *giveWay) enter() { g.inWork.Add(1) }

func (g *giveWay) leave() {
	g.last.Store(max(1, int64(g.now().Sub(g.began))))
	g.inWork.Add(-1)
}

// quiet reports whether no one waits, and for a moment no one did.
func (g *giveWay) quiet() bool {
	last := g.last.Load()
	return g.inWork.Load() == 0 && (last == 0 || g.now().Sub(g.began)-time.Duration(last) >= quietAfter)
}

// line does the work on one line when its turn comes. It reports false, and does nothing, where ctx
// ends before. It returns after the line's pause; the work itself says when its result is there.
func (g *giveWay) line(ctx context.Context, work func()) bool {
	if !place(ctx, g.wide) {
		return false
	}
	if g.quiet() {
		defer func() { <-g.wide }()
		work()
		return true
	}
	<-g.wide // who waits for a narrow place keeps no wide one
	if !place(ctx, g.narrow) {
		return false
	}
	defer func() { <-g.narrow }()
	began := g.now()
	work()
	if !g.quiet() {
		rest := time.NewTimer(min(lineRest*g.now().Sub(began), restAtMost))
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
	}
	return true
}

func place(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
