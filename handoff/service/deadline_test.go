package service_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// blackHole is a store that from a given step on answers nothing: it is waited for until the
// caller's time is up.
type blackHole struct {
	handofftest.Core
	from   atomic.Value // the step: "prepare", "commit" or "settle"; empty: all goes well
	silent atomic.Bool
}

func (b *blackHole) swallow(ctx context.Context, step string) error {
	if b.from.Load() == step {
		b.silent.Store(true)
	}
	if !b.silent.Load() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (b *blackHole) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	if err := b.swallow(ctx, "prepare"); err != nil {
		return service.Snapshot{}, errors.Join(storage.ErrUnavailable, err)
	}
	return b.Core.Prepare(ctx, p)
}

func (b *blackHole) Commit(ctx context.Context, c service.Change) error {
	if err := b.swallow(ctx, "commit"); err != nil {
		return errors.Join(storage.ErrUnknownOutcome, err)
	}
	return b.Core.Commit(ctx, c)
}

func (b *blackHole) Settle(ctx context.Context, s service.Settlement) error {
	if err := b.swallow(ctx, "settle"); err != nil {
		return errors.Join(storage.ErrUnavailable, err)
	}
	return b.Core.Settle(ctx, s)
}

func (b *blackHole) GiveBackPermit(ctx context.Context, p service.PermitRef) error {
	if err := b.swallow(ctx, "settle"); err != nil {
		return errors.Join(storage.ErrUnavailable, err)
	}
	return b.Core.GiveBackPermit(ctx, p)
}

// A request has one deadline: whatever the store swallows, and at which step, the answer is there
// when it is over. What is still to be settled is settled behind the answer.
func TestOneDeadline(t *testing.T) {
	const patience = 5 * time.Second
	for _, step := range []string{"prepare", "commit", "settle"} {
		for name, ask := range map[string]func(context.Context, *handofftest.World, handoff.Grant) error{
			"the right code": func(ctx context.Context, w *handofftest.World, g handoff.Grant) error {
				_, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode()))
				return err
			},
			"a wrong code": func(ctx context.Context, w *handofftest.World, g handoff.Grant) error {
				_, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", g.Dispatch.Parcel, handofftest.WrongCode(&g, 0)))
				return err
			},
			"from too far": func(ctx context.Context, w *handofftest.World, g handoff.Grant) error {
				far := handofftest.AtDoor("c1", g.Dispatch.Parcel, g.CurrentCode())
				far.Position = &handoff.Position{Point: handoff.Point{}}
				_, err := w.Service.Verify(ctx, far)
				return err
			},
		} {
			t.Run(step+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hole := &blackHole{Core: handofftest.NewMemory()}
					w := handofftest.New(t, hole)
					w.Cleared(t, "c1")
					w.Drives(t, "c1", handofftest.Route, handofftest.Today)
					g := w.Dispatch(t, handofftest.Sample("p1"))
					hole.from.Store(step)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					began := time.Now()
					err := ask(ctx, w, g)
					if took := time.Since(began); took > patience {
						t.Errorf("the answer took %v", took)
					}
					if hole.silent.Load() && step != "settle" && !errors.Is(err, storage.ErrUnavailable) {
						t.Errorf("of a store that says nothing: %v", err)
					}
					hole.from.Store("")
					hole.silent.Store(false)
					w.Service.Close()
					if kept := w.Account(t, "c1").Reserved; len(kept) > 0 {
						t.Errorf("%d guesses kept their places", len(kept))
					}
				})
			})
		}
	}
}
