package controller

import (
	"context"
	"fmt"
	"time"

	"latchkey/handoff/door"
)

// reporter brings the outbox to the service: in order, and again until the service said
// that it has it.
type reporter struct {
	link   *link
	outbox *door.Outbox
	wake   <-chan struct{} // a report was added
	back   <-chan struct{} // the service answers again: waiting after a failure is over
	failed func(error)     // told of what went wrong
}

// lastTries is how long a controller that stops still tries to bring what it has. What
// is left is brought at the next start.
const lastTries = 3 * time.Second

func (r *reporter) run(ctx context.Context) {
	sending, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer context.AfterFunc(ctx, func() {
		pause(sending, lastTries)
		abort()
	})()
	for failures := 0; ; {
		sent, err := r.send(sending)
		switch {
		case err != nil:
			r.failed(err)
			if ctx.Err() != nil {
				return
			}
			failures++
			r.rest(ctx, backoff(failures))
		case sent:
			failures = 0
		case ctx.Err() != nil:
			return
		default:
			select {
			case <-ctx.Done():
			case <-r.wake:
			}
		}
	}
}

// rest waits after a failure, at most d. It ends when the stream is back: the service can be
// reached again, and the courier's page waits for what the door has to say.
func (r *reporter) rest(ctx context.Context, d time.Duration) {
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	select {
	case <-ctx.Done():
	case <-r.back:
	}
}

// send brings the oldest reports; false if there was none.
func (r *reporter) send(ctx context.Context) (bool, error) {
	pending := r.outbox.Pending(reportsAtOnce)
	if len(pending) == 0 {
		return false, nil
	}
	raw := make([][]byte, len(pending))
	for i, p := range pending {
		raw[i] = p.Raw
	}
	refused, err := r.link.post(ctx, raw)
	if err != nil {
		return false, err
	}
	if refused > 0 {
		r.failed(fmt.Errorf("the service could not verify %d reports: is this door's key the registered one?", refused))
	}
	return true, r.outbox.Done(pending[len(pending)-1].Seq)
}
