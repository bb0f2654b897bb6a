// Package ledger keeps the hash chains: it reads the event log and enters each event
// into the chain of its building, if it has one, and into the chain of its partition.
//
// One instance at a time does so, under a lease; the others stand by and take over when
// it is not renewed. The lease is not what keeps a chain from forking: every extension
// is made only if the chain still ends where it was read, and the end itself says which
// events were entered. So a crash between any two steps, a lost answer, or two instances
// that both believe to hold the lease cost nothing but work done twice.
package trailwriter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
)

// Group is the ledger's name among the readers of the log, and the name of its lease.
const Group = "ledger"

// Store is what a Ledger needs of a [handofftest.Store].
type Store interface {
	trail.Store
	Join(ctx context.Context, group string) error
	Read(ctx context.Context, partition int, after string, limit int) ([]eventlog.Logged, error)
	Advance(ctx context.Context, group string, id eventlog.ID) error
}

// Observer is told what becomes of the work. It must not block.
type Observer interface {
	// Entered says that n entries were added to the chain name.
	Entered(name string, n int)

	// Failed says that something was not done, and will be tried again.
	Failed(err error)
}

// Config is what a Ledger is made of. Store, Signer and Clock are required.
type Config struct {
	Store    Store
	Signer   trail.Signer
	Clock    clock.Clock
	Observer Observer

	// Retention is how long entries are kept; 0 keeps them for good.
	Retention time.Duration

	Poll  time.Duration // between two looks at the log; 500 ms if 0
	Lease time.Duration // how long a crashed instance holds the others up; 5 s if 0
	Batch int           // events of a partition in one go; 256 if 0
}

// Ledger is one instance.
type Writer struct {
	Config
	holder string // random
	joined bool
	cutAt  time.Time // when old entries are looked for next
}

// New makes a Ledger. The error names what is missing.
func New(c Config) (*Writer, error) {
	if c.Store == nil || c.Signer.IsZero() || c.Clock == nil {
		return nil, errors.New("ledger: needs a store, a signer and a clock")
	}
	c.Observer = cmp.Or[Observer](c.Observer, noObserver{})
	c.Poll = cmp.Or(c.Poll, 500*time.Millisecond)
	c.Lease = cmp.Or(c.Lease, 5*time.Second)
	c.Batch = cmp.Or(c.Batch, 256)
	if c.Poll < 0 || c.Lease <= c.Poll || c.Batch < 0 || c.Retention < 0 {
		return nil, errors.New("ledger: a negative setting, or a lease no longer than the poll")
	}
	return &Writer{Config: c, holder: ulid.Make().String()}, nil
}

type noObserver struct{}

func (noObserver) Entered(string, int) {}

func (noObserver) Failed(error) {}

// Run works until ctx ends, and then gives the lease up.
func (l *Writer) Run(ctx context.Context) {
	tick := time.NewTicker(l.Poll)
	defer tick.Stop()
	for {
		if _, err := l.Work(ctx); err != nil && ctx.Err() == nil {
			l.Observer.Failed(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Lease)
			defer cancel()
			_, _ = l.Store.Lease(ctx, Group, l.holder, 0)
			return
		}
	}
}

// cutEvery is how often old entries are looked for.
const cutEvery = time.Hour

// Work enters what the log has, if this instance holds the lease or can take it, and
// reports how many events it entered. A partition that fails keeps back no other.
func (l *Writer) Work(ctx context.Context) (entered int, err error) {
	var failed []error
	for more := true; more; {
		held, err := l.hold(ctx)
		if err != nil || !held {
			return entered, errors.Join(append(failed, err)...)
		}
		var n int
		n, more, err = l.round(ctx)
		entered += n
		if err != nil {
			failed, more = append(failed, err), false
		}
	}
	if now := l.Clock.Now(); l.Retention > 0 && !now.Before(l.cutAt) {
		l.cutAt = now.Add(cutEvery)
		failed = append(failed, l.cutAll(ctx))
	}
	return entered, errors.Join(failed...)
}

func (l *Writer) hold(ctx context.Context) (bool, error) {
	held, err := l.Store.Lease(ctx, Group, l.holder, l.Lease)
	if err != nil || !held {
		return false, err
	}
	if !l.joined {
		if err := l.Store.Join(ctx, Group); err != nil {
			return false, err
		}
		l.joined = true
	}
	return true, nil
}

// share is what a partition has for a round.
type share struct {
	name   string
	end    trail.End
	events []eventlog.Logged
}

// round enters a batch of each partition: first into the chains of the buildings, where
// the events of all partitions stand in the order in which they were logged, then into
// the partitions' own, whose cursors say that all of it is done. It reports how many
// events it entered, and whether there may be more.
func (l *Writer) round(ctx context.Context) (entered int, more bool, err error) {
	var failed []error
	shares := map[int]share{}
	ofBuilding := map[string][]eventlog.Logged{}
	for partition := range handoff.Partitions {
		s, err := l.share(ctx, partition)
		if err != nil {
			failed = append(failed, fmt.Errorf("partition %d: %w", partition, err))
		}
		if len(s.events) == 0 {
			continue
		}
		shares[partition], more = s, more || len(s.events) == l.Batch
		for _, e := range s.events {
			if building, _, ok := trail.BuildingEntry(e); ok {
				ofBuilding[building] = append(ofBuilding[building], e)
			}
		}
	}
	for _, building := range slices.Sorted(maps.Keys(ofBuilding)) {
		name, events := trail.BuildingChain(building), ofBuilding[building]
		slices.SortStableFunc(events, func(a, b eventlog.Logged) int { return eventlog.CompareIDs(a.ID.ID, b.ID.ID) })
		end, err := l.end(ctx, name)
		if err == nil {
			err = l.extend(ctx, name, end, events, ofTheBuilding)
		}
		if errors.Is(err, trail.ErrForged) {
			// It has come to its end. The partitions' chains name the building with each event,
			// so that nothing is lost, and the other buildings must not wait for a person.
			l.Observer.Failed(err)
			continue
		}
		if err != nil {
			return 0, false, errors.Join(append(failed, err)...)
		}
	}
	for _, partition := range slices.Sorted(maps.Keys(shares)) {
		s := shares[partition]
		err := l.extend(ctx, s.name, s.end, s.events, trail.TrailEntry)
		if err == nil {
			entered += len(s.events)
			err = l.Store.Advance(ctx, Group, s.events[len(s.events)-1].ID)
		}
		if errors.Is(err, eventlog.ErrNotJoined) { // the log was lost and began anew
			l.joined = false
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("partition %d: %w", partition, err))
		}
	}
	return entered, more, errors.Join(failed...)
}

// share reads what a partition has after what stands in its chain.
func (l *Writer) share(ctx context.Context, partition int) (s share, err error) {
	s.name = trail.LogChain(partition)
	if s.end, err = l.end(ctx, s.name); err != nil {
		return s, err
	}
	s.events, err = l.Store.Read(ctx, partition, s.end.Cursors[partition], l.Batch)
	return s, err
}

func ofTheBuilding(e eventlog.Logged) trail.Entry {
	_, n, _ := trail.BuildingEntry(e)
	return n
}

// end reads where a chain ends, and believes it only as far as it is signed: the next
// head would otherwise vouch for what another writer wrote.
func (l *Writer) end(ctx context.Context, name string) (trail.End, error) {
	end, err := l.Store.ChainEnd(ctx, name)
	if err != nil || end.Seq == 0 {
		return end, err
	}
	h, err := l.Signer.Key().VerifyHead(end.Head)
	if err != nil || h.Chain != name || h.Seq != end.Seq || h.Hash != end.Hash {
		return trail.End{}, fmt.Errorf("%w: %s", trail.ErrForged, name)
	}
	return end, nil
}

// extend enters those of the events that are new to the chain.
func (l *Writer) extend(ctx context.Context, name string, from trail.End, events []eventlog.Logged, entry func(eventlog.Logged) trail.Entry) error {
	hash := from.Hash
	if from.Seq == 0 {
		hash = trail.Genesis(name)
	}
	b := trail.Build(name, from.Seq, hash)
	to := from
	to.Cursors = maps.Clone(from.Cursors)
	if to.Cursors == nil {
		to.Cursors = map[int]string{}
	}
	for _, e := range events {
		if eventlog.CompareIDs(e.ID.ID, to.Cursors[e.ID.Partition]) <= 0 {
			continue
		}
		n := entry(e)
		n.Seq = b.Next()
		if err := b.Add(n); err != nil {
			return err
		}
		to.Cursors[e.ID.Partition] = e.ID.ID
	}
	if len(b.Links()) == 0 {
		return nil
	}
	h := b.Head(l.Clock.Now().Unix())
	to.Seq, to.Hash = h.Seq, h.Hash
	var err error
	if to.Head, err = l.Signer.Head(h); err != nil {
		return err
	}
	if err := l.commit(ctx, name, from, to, b.Links()); err != nil {
		return err
	}
	l.Observer.Entered(name, len(b.Links()))
	return nil
}

// commit extends a chain. If the answer is lost, the chain tells.
func (l *Writer) commit(ctx context.Context, name string, from, to trail.End, links []trail.Link) error {
	err := l.Store.Extend(ctx, name, from, to, links)
	if !errors.Is(err, storage.ErrUnknownOutcome) {
		return err
	}
	end, lookErr := l.Store.ChainEnd(ctx, name)
	if lookErr == nil && end.Seq == to.Seq && end.Hash == to.Hash && end.Cut == to.Cut {
		return nil
	}
	return errors.Join(err, lookErr)
}

// cutAll drops what is older than the retention from every chain.
func (l *Writer) cutAll(ctx context.Context) error {
	names, err := l.Store.Chains(ctx)
	failed := []error{err}
	for _, name := range names {
		held, err := l.hold(ctx)
		if err != nil || !held {
			return errors.Join(append(failed, err)...)
		}
		if err := l.cut(ctx, name); err != nil {
			failed = append(failed, fmt.Errorf("cutting %s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}

// cut drops a chain's entries up to the first that is young enough. What is dropped is
// verified first: the cut that is signed vouches for it from then on.
func (l *Writer) cut(ctx context.Context, name string) error {
	end, err := l.end(ctx, name)
	if err != nil {
		return err
	}
	oldest := l.Clock.Now().Add(-l.Retention)
	at := trail.Head{Chain: name, Seq: end.Cut, Hash: trail.Genesis(name)}
	if end.Cut > 0 {
		at, err = l.Signer.Key().VerifyCut(end.CutOff)
		if err != nil || at.Chain != name || at.Seq != end.Cut {
			return fmt.Errorf("%w: %s", trail.ErrForged, name)
		}
	}
	verified := trail.Build(name, at.Seq, at.Hash)
	for young := false; !young && verified.Next() <= end.Seq; {
		links, err := l.Store.Links(ctx, name, verified.Next()-1, l.Batch)
		if err != nil {
			return err
		}
		if len(links) == 0 {
			return fmt.Errorf("%w: entry %d of %s is missing", trail.ErrForged, verified.Next(), name)
		}
		for i := range links {
			if young = !trail.At(links[i].Entry).Before(oldest); young {
				break
			}
			if err := verified.Follow(links[i]); err != nil {
				return fmt.Errorf("%w: entry %d of %s: %w", trail.ErrForged, verified.Next(), name, err)
			}
		}
	}
	h := verified.Head(l.Clock.Now().Unix())
	if h.Seq == end.Cut {
		return nil
	}
	to := end
	to.Cut = h.Seq
	if to.CutOff, err = l.Signer.Cut(h); err != nil {
		return err
	}
	return l.commit(ctx, name, end, to, nil)
}
