package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
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

// tellRefused puts on the log that a partition is refused, which was restored so often before.
func (m *mender) tellRefused(ctx context.Context, partition int, before uint64) error {
	return m.tell(ctx, "refused "+trail.LogChain(partition), strconv.FormatUint(before+1, 10), handoff.Event{
		Type: handoff.EventPartitionRefused, Object: trail.LogChain(partition),
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
		if loss == nil || s.file.refuses(p, found.Epoch) {
			continue
		}
		n := loss.Events()
		count := strconv.Itoa(n)
		if !loss.Named {
			count = "at least " + count
		}
		parts, events = append(parts, digitsOf(p)+": "+count), events+n
		if says := loss.After + " " + count; s.said[p] != says {
			s.said[p], more = says, true
			s.metrics.lostEvents.WithLabelValues(digitsOf(p)).Add(float64(n))
		}
	}
	if more {
		s.log.Error("Redis has lost events that were acknowledged; see docs/restore.md", "events", events, "partitions", parts)
	}
}

// promoted reports whether each server that takes writes is one that was looked at when all was
// well, or was running then already, as a replica does that is promoted, and at least one is such a
// replica. A server that was started since may have been put back to any earlier state. Now is by
// the store's clock.
func (s *sentry) promoted(servers []redisstore.Server, now time.Time) bool {
	since, one := s.elapsed()-s.wellAt, false
	if s.wellAt == 0 {
		since = now.Sub(s.file.At)
	}
	for _, server := range servers {
		if slices.Contains(s.file.Servers, server.ID) {
			continue
		}
		if one = server.Ran > since+startedAbout; !one {
			return false
		}
	}
	return one && len(s.file.Servers) > 0
}

// startedAbout is how far a server may be off in saying since when it runs: it counts whole seconds.
const startedAbout = time.Second

// mend has what is lost mended, where it is what a promoted replica has not got, or was lost behind
// the marks. Refuse are the partitions of which it is not known what is missing. What was mended or
// is to be refused is not missing any more in found.
func (s *sentry) mend(ctx context.Context, found *redisstore.Followed, servers []redisstore.Server) (refuse []int, err error) {
	lost := found.Lost
	gone := false
	for p := range lost {
		if s.file.refuses(p, found.Epoch) {
			lost[p] = nil // it is to be restored in any case
		}
		gone = gone || found.Missing[p] && lost[p] != nil
	}
	if s.mender == nil || gone && !s.promoted(servers, found.Now) {
		return nil, nil
	}
	if lost == [handoff.Partitions]*redisstore.Loss{} {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mendWithin)
	defer cancel()
	done, err := s.mender.mend(ctx, lost[:])
	if err != nil {
		return nil, fmt.Errorf("what is lost could not be mended: %w", err)
	}
	for p, loss := range lost {
		if loss != nil && !loss.Named {
			refuse = append(refuse, p)
			if err := s.mender.tellRefused(ctx, p, found.Epoch.Restorals(p)); err != nil {
				return nil, err
			}
		}
	}
	s.log.Warn("grants of which an acknowledged commit is lost are held until their shops confirm them: latchkey restore list", "held", done.held, "dispatches_lost", done.dispatches)
	found.Missing = [handoff.Partitions]bool{}
	return refuse, nil
}

// mendWithin bounds one try. What was done counts for the next.
const mendWithin = 30 * time.Second

// refuse has the partitions refused that a file names, and no others.
func (s *sentry) refuse(digits map[string]uint64) {
	var next [handoff.Partitions]bool
	for d := range digits {
		p, _ := partitionOf(d)
		next[p] = true
	}
	was := s.refused.Swap(&next)
	s.metrics.refused.Set(float64(len(digits)))
	switch names := slices.Sorted(maps.Keys(digits)); {
	case len(names) > 0 && (was == nil || *was != next):
		s.log.Error("partitions are refused until they are restored: latchkey restore", "partitions", names)
	case len(names) == 0 && was != nil && *was != next:
		s.log.Info("all partitions are served again")
	}
}

// refuses reports whether a partition is refused.
func (s *sentry) refuses(partition int) bool { return s.refused.Load()[partition] }

// degraded says what is refused; empty if nothing is.
func (s *sentry) degraded() string {
	if s == nil {
		return ""
	}
	var names []string
	for p, refused := range s.refused.Load() {
		if refused {
			names = append(names, digitsOf(p))
		}
	}
	if names == nil {
		return ""
	}
	return fmt.Sprintf("Redis has lost what it acknowledged: %d of %d partitions are refused until they are restored (%s); see docs/restore.md", len(names), handoff.Partitions, strings.Join(names, " "))
}
