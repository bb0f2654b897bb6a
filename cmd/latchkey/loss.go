package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// mender does what a loss asks for: it holds the grants of which an acknowledged commit is gone,
// and puts the loss on the log. All that it does may be done again, by it or another instance.
type mender struct {
	store  *redisstore.Store // which is not held back
	grants *service.Service
	now    func() time.Time
}

// newMender makes one. Its service is closed with it.
func newMender(store *redisstore.Store, policy *handoff.Policy, ring *keyring.Ring, now func() time.Time) (*mender, error) {
	grants, err := service.New(service.Config{
		Store: store, Policy: policy, Clock: nowClock(now), Namer: ring, Random: rand.Reader, Keypads: door.PINs{},
	})
	if err != nil {
		return nil, err
	}
	return &mender{store, grants, now}, nil
}

type nowClock func() time.Time

func (c nowClock) Now() time.Time { return c() }

// mended counts what a mender did.
type mended struct{ held, dispatches int }

const (
	holdsAtOnce = 16
	notesTried  = 5
)

// mend holds the grants of which something of the losses is missing, and then tells of the losses.
func (m *mender) mend(ctx context.Context, losses []*redisstore.Loss) (done mended, err error) {
	newest := map[handoff.ParcelHash]redisstore.Seen{} // of each parcel, the lost event of its last generation
	for _, loss := range losses {
		if loss == nil {
			continue
		}
		for _, e := range loss.Missing {
			hash := e.Of.Grant.Hash
			if was, ok := newest[hash]; hash != "" && (!ok || e.Of.Grant.Generation >= was.Of.Grant.Generation) {
				newest[hash] = e
			}
		}
	}
	hashes := make([]handoff.ParcelHash, 0, len(newest))
	for hash := range newest {
		hashes = append(hashes, hash)
	}
	slices.Sort(hashes)
	grants, err := m.store.Many(ctx, hashes)
	if err != nil {
		return done, err
	}
	there := map[handoff.ParcelHash]handoff.GrantID{}
	for i := range grants {
		there[grants[i].ID.Hash] = grants[i].ID
	}
	if done.held, err = m.hold(ctx, grants); err != nil {
		return done, err
	}
	for _, hash := range hashes {
		if e := newest[hash]; there[hash].Generation < e.Of.Grant.Generation {
			done.dispatches++
			err := m.tell(ctx, "lost "+e.Of.Grant.String(), e.ID, handoff.Event{
				Type: handoff.EventDispatchLost, Shop: e.Of.Shop, Carrier: e.Of.Carrier, Parcel: e.Of.Parcel, Object: e.Of.Grant.String(),
			})
			if err != nil {
				return done, err
			}
		}
	}
	for p, loss := range losses {
		if loss != nil {
			if err := m.tellLoss(ctx, p, loss); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// hold holds grants, and counts those that were not held for it before.
func (m *mender) hold(ctx context.Context, grants []handoff.Grant) (held int, err error) {
	var (
		work sync.WaitGroup
		mu   sync.Mutex
		turn = make(chan struct{}, holdsAtOnce)
	)
	for i := range grants {
		before := &grants[i]
		turn <- struct{}{}
		work.Go(func() {
			defer func() { <-turn }()
			g, failed := m.grants.Distrust(ctx, handoff.Actor{Role: handoff.RoleService}, before.ID)
			mu.Lock()
			defer mu.Unlock()
			var refused *handoff.Refusal
			switch {
			case errors.As(failed, &refused): // of a status in which nothing can happen any more
			case failed != nil:
				err = errors.Join(err, failed)
			case before.Doubt == nil && g.Doubt != nil:
				held++
			}
		})
	}
	work.Wait()
	return held, err
}

// tellLoss puts on the log how much of a partition is lost.
func (m *mender) tellLoss(ctx context.Context, partition int, loss *redisstore.Loss) error {
	first := ""
	if len(loss.Missing) > 0 {
		first = loss.Missing[0].ID
	}
	return m.tell(ctx, "lost "+trail.LogChain(partition), loss.After+" "+first+" "+strconv.Itoa(loss.Events()), handoff.Event{
		Type: handoff.EventEventsLost, Object: trail.LogChain(partition), Count: loss.Events(),
	})
}

// tell puts an event on the log, of which a note says that it was told: instances that find the
// same tell it once.
func (m *mender) tell(ctx context.Context, name, is string, e handoff.Event) error {
	now := handoff.InstantOf(m.now())
	e.At, e.By = now, string(handoff.RoleService)
	for range notesTried {
		was, err := m.store.Noted(ctx, e.Partition(), name)
		if err != nil || was == is {
			return err
		}
		if done, err := m.store.AppendNoted(ctx, now, eventlog.Note{Partition: e.Partition(), Name: name, Was: was, Is: is}, e); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("the log does not take %s: others write it at the same time", e.Type)
}

// say tells the operator of what is lost, once.
func (s *sentry) say(found *redisstore.Followed) {
	var parts []string
	events, more := 0, false
	for p, loss := range found.Lost {
		if loss == nil {
			continue
		}
		n := loss.Events()
		count := strconv.Itoa(n)
		if !loss.Named {
			count = "at least " + count
		}
		parts, events = append(parts, fmt.Sprintf("%02x: %s", p, count)), events+n
		if says := loss.After + " " + count; s.said[p] != says {
			s.said[p], more = says, true
			s.metrics.lostEvents.WithLabelValues(fmt.Sprintf("%02x", p)).Add(float64(n))
		}
	}
	if more {
		s.log.Error("Redis has lost events that were acknowledged; see docs/restore.md", "events", events, "partitions", parts)
	}
}

// promoted reports whether each server that takes writes is one that was looked at when all was
// well, or was running then already, as a replica does that is promoted, and at least one is such a
// replica. A server that was started since may have been put back to any earlier state.
func (s *sentry) promoted(servers []redisstore.Server) bool {
	since, one := s.elapsed()-s.wellAt, false
	for _, server := range servers {
		if slices.Contains(s.well, server.ID) {
			continue
		}
		if one = server.Ran > since+startedAbout; !one {
			return false
		}
	}
	return one
}

// startedAbout is how far a server may be off in saying since when it runs: it counts whole seconds.
const startedAbout = time.Second

// mend has what is lost mended. It reports whether nothing is lost any more that has to halt the
// service: of what a promoted replica has not got, and of what was lost behind the marks, all
// that is missing is known.
func (s *sentry) mend(ctx context.Context, found *redisstore.Followed, servers []redisstore.Server) (bool, error) {
	gone := slices.Contains(found.Missing[:], true)
	if s.mender == nil || gone && !s.promoted(servers) {
		return false, nil
	}
	lost := false
	for _, loss := range found.Lost {
		if lost = lost || loss != nil; loss != nil && !loss.Named {
			return false, nil
		}
	}
	if !lost {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mendWithin)
	defer cancel()
	done, err := s.mender.mend(ctx, found.Lost[:])
	if err != nil {
		return false, fmt.Errorf("what is lost could not be mended: %w", err)
	}
	s.log.Warn("grants of which an acknowledged commit is lost are held until their shops confirm them: latchkey restore list", "held", done.held, "dispatches_lost", done.dispatches)
	found.Missing = [handoff.Partitions]bool{}
	return true, nil
}

// mendWithin bounds one try. What was done counts for the next.
const mendWithin = 30 * time.Second
