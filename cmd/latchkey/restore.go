package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"latchkey/api"
	"latchkey/api/ndjson"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// restoreCmd brings a Redis back that was put back to an earlier state: docs/restore.md.
type restoreCmd struct {
	redisAt
	operator

	Keyset    string        `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`
	Policy    string        `required:"" env:"LATCHKEY_POLICY" placeholder:"FILE" type:"path" help:"The service's rules (${env})."`
	Retention time.Duration `env:"LATCHKEY_RETENTION" default:"720h" help:"The service's retention (${env})."`
	Epoch     string        `env:"LATCHKEY_EPOCH" placeholder:"FILE" type:"path" help:"The epoch file of an instance; left out: KEYSET.epoch (${env})."`

	Begin   restoreBeginCmd   `cmd:"" default:"withargs" help:"Hold all live grants, close doubtful API keys and all sessions, and let the service start again; where only some partitions are refused, hold those of them."`
	List    restoreListCmd    `cmd:"" help:"List the grants that are still in doubt, and the dispatches that are lost."`
	Confirm restoreConfirmCmd `cmd:"" help:"Go on with what a shop has dispatched again, with a new code, but for what was handed over."`
}

// restoring is what all of its commands work with.
type restoring struct {
	store  *redisstore.Store
	ring   *keyring.Ring
	grants *service.Service
	by     handoff.Actor // who restores: an operator, who has the keyset and the way to Redis
	done   func()
}

func (c *restoreCmd) open() (*restoring, error) {
	by, err := c.actor()
	if err != nil {
		return nil, err
	}
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return nil, err
	}
	store, grants, done, err := openService(&c.redisAt, ring, c.Policy, c.Retention)
	if err != nil {
		return nil, err
	}
	return &restoring{store: store, ring: ring, grants: grants, by: by, done: done}, nil
}

// restoreBeginCmd restores. By default it waits six minutes: as long as what was given out in
// what is lost may work on its own, a permit at a door, by whatever clock the door has, and a
// link of five minutes that was used before.
type restoreBeginCmd struct {
	Anyway bool          `help:"Restore all, though nothing is found to be lost, or some partitions alone: it was put back, and what was lost is younger than the epoch file."`
	Quiet  time.Duration `default:"6m" help:"How long to wait until permits and links of what was lost are over; less only where every instance has been stopped for as long."`
}

// Run restores. It can be run again after it broke off, and then finishes.
func (c *restoreBeginCmd) Run(ctx context.Context, io streams, r *restoreCmd) error {
	path := epochPath(r.Epoch, r.Keyset)
	file, err := readEpoch(path)
	if err != nil {
		return err
	}
	work, err := r.open()
	if err != nil {
		return err
	}
	defer work.done()
	st, err := work.store.Compare(ctx, file.Marks)
	if err != nil {
		return err
	}
	now := time.Now()
	_, why := file.judge(st, st.Now, r.Retention)
	if partitions := file.refused(st.Epoch); why == nil && len(partitions) > 0 && !c.Anyway {
		return c.partitions(ctx, io.out, work, file, partitions)
	}
	switch {
	case file.Epoch == "" && !c.Anyway:
		return fmt.Errorf("%s does not exist: whether Redis lost anything is not known; name the epoch file of an instance with --epoch, or say --anyway", path)
	case why == nil && !c.Anyway:
		return errors.New("nothing is done: Redis has all that is known to have been acknowledged (or say --anyway)")
	case why != nil:
		fmt.Fprintln(io.out, why)
	}

	next := successor(st.Epoch, file.Epoch, now)
	if err := work.store.SetEpoch(ctx, next); err != nil { // from here on no instance serves
		return err
	}
	fmt.Fprintf(io.out, "epoch %s begins; no instance serves until it is done\n", next.ID)
	held, err := work.distrust(ctx, func(*handoff.Grant) bool { return true })
	fmt.Fprintf(io.out, "%d grants are held until their shops confirm them\n", held)
	if err != nil {
		return err
	}
	if err := work.closeKeys(ctx, io.out, file); err != nil {
		return err
	}
	ended, err := work.store.RemoveSessions(ctx)
	fmt.Fprintf(io.out, "%d sessions of browsers are ended\n", ended)
	if err != nil {
		return err
	}
	gap := handoff.Event{Type: handoff.EventStoreRestored, At: handoff.InstantOf(now), By: string(handoff.RoleOps), Who: work.grants.Who(work.by)}
	if !file.At.IsZero() {
		gap.Claimed = handoff.InstantOf(file.At)
	}
	if err := work.store.Append(ctx, gap.At, gap); err != nil {
		return err
	}

	if left := time.Until(next.Restoring.Time().Add(c.Quiet)); left > 0 {
		fmt.Fprintf(io.out, "waiting %s until permits and links of what was lost are over\n", left.Round(time.Second))
		if err := clock.Sleep(ctx, left); err != nil {
			return err
		}
	}
	next.Restoring = 0
	if st, err = work.store.Compare(ctx, redisstore.Marks{}); err != nil {
		return err
	}
	st.Epoch = &next
	keys, err := work.store.APIKeyIDs(ctx)
	if err != nil {
		return err
	}
	file, err = epochFile{Keys: keys}.judge(st, st.Now, r.Retention)
	if err != nil {
		return err
	}
	if err := work.store.SetEpoch(ctx, next); err != nil {
		return err
	}
	if err := file.write(path); err != nil {
		return err
	}
	fmt.Fprintln(io.out, "done: the service serves again. Now ask each shop for its dispatches and each carrier for what it handed over, and: latchkey restore confirm")
	return nil
}

// beforeKept is how many restores back an epoch still knows.
const beforeKept = 64

// successor is the epoch that takes the place of the store's and of the file's. One under way
// goes on.
func successor(stood *redisstore.Epoch, known string, now time.Time) redisstore.Epoch {
	if stood != nil && stood.Restoring != 0 {
		next := *stood
		if known != "" && !next.Follows(known) {
			next.Before = append(slices.Clone(next.Before), known)
		}
		return next
	}
	next := redisstore.Epoch{ID: rand.Text(), Restoring: handoff.InstantOf(now)}
	if stood != nil {
		next.Before = append(slices.Clone(stood.Before), stood.ID)
	}
	if known != "" && !next.Follows(known) {
		next.Before = append(next.Before, known)
	}
	next.Before = next.Before[max(0, len(next.Before)-beforeKept):]
	return next
}

// refused are the partitions that a file says are refused.
func (f *epochFile) refused(e *redisstore.Epoch) (partitions []int) {
	for p := range handoff.Partitions {
		if e != nil && f.refuses(p, e) {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

// partitions restores some partitions, while the others are served. The instances that refuse
// them go on to do so until it is done.
func (c *restoreBeginCmd) partitions(ctx context.Context, out io.Writer, work *restoring, file epochFile, which []int) error {
	names := make([]string, len(which))
	for i, p := range which {
		names[i] = digitsOf(p)
	}
	fmt.Fprintf(out, "restoring the partitions %s; the others are served meanwhile (--anyway restores all)\n", strings.Join(names, " "))
	began := time.Now()
	held, err := work.distrust(ctx, func(g *handoff.Grant) bool { return slices.Contains(which, g.ID.Hash.Partition()) })
	fmt.Fprintf(out, "%d grants are held until their shops confirm them\n", held)
	if err != nil {
		return err
	}
	if err := work.closeKeys(ctx, out, file); err != nil {
		return err
	}
	for _, p := range which {
		gap := handoff.Event{
			Type: handoff.EventStoreRestored, At: handoff.InstantOf(began), By: string(handoff.RoleOps), Who: work.grants.Who(work.by),
			Claimed: handoff.InstantOf(file.At), Object: trail.LogChain(p),
		}
		if err := work.store.Append(ctx, gap.At, gap); err != nil {
			return err
		}
	}
	if left := time.Until(began.Add(c.Quiet)); left > 0 {
		fmt.Fprintf(out, "waiting %s until permits and links of what was lost are over\n", left.Round(time.Second))
		if err := clock.Sleep(ctx, left); err != nil {
			return err
		}
	}
	st, err := work.store.Compare(ctx, redisstore.Marks{})
	if err != nil {
		return err
	}
	if st.Epoch == nil || st.Epoch.ID != file.Epoch || st.Epoch.Restoring != 0 {
		return errors.New("all of Redis was restored meanwhile: nothing else is to be done")
	}
	next := *st.Epoch
	next.Restored = make([]uint64, handoff.Partitions)
	copy(next.Restored, st.Epoch.Restored)
	for _, p := range which {
		next.Restored[p] = max(next.Restored[p], file.Refused[digitsOf(p)]) + 1
	}
	if err := work.store.SetEpoch(ctx, next); err != nil {
		return err
	}
	fmt.Fprintln(out, "done: all is served again. Now ask each shop for its dispatches and each carrier for what it handed over, and: latchkey restore confirm")
	return nil
}

// distrust holds what may still hand over a parcel, of the grants that are asked for, and counts it.
func (w *restoring) distrust(ctx context.Context, which func(*handoff.Grant) bool) (held int, err error) {
	err = w.store.EachGrant(ctx, func(grants []handoff.Grant) error {
		for i := range grants {
			before := &grants[i]
			if !which(before) {
				continue
			}
			g, err := w.grants.Distrust(ctx, w.by, before.ID)
			var refused *handoff.Refusal
			switch {
			case errors.As(err, &refused): // of a status in which nothing can happen any more
			case err != nil:
				return err
			case before.Doubt == nil && g.Doubt != nil:
				held++
			}
		}
		return nil
	})
	return held, err
}

// closeKeys closes the API keys that the epoch file does not know: they were revoked since the
// copy was made. It lists them, and those that were made since and are lost.
func (w *restoring) closeKeys(ctx context.Context, out io.Writer, file epochFile) error {
	keys, err := w.store.APIKeys(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, k := range keys {
		there[k.ID] = true
		if slices.Contains(file.Keys, k.ID) {
			continue
		}
		if err := tellOfKey(ctx, w.store, w.ring, w.by, handoff.Revoked, k); err != nil {
			return err
		}
		if _, err := w.store.RemoveAPIKey(ctx, k.ID); err != nil {
			return err
		}
		fmt.Fprintf(out, "API key %s (%s %s) is closed: it was revoked since, or is not known to have been there\n", k.ID, strings.Join(k.Scopes, ","), k.Label)
	}
	for _, id := range file.Keys {
		if !there[id] {
			fmt.Fprintf(out, "API key %s is lost: it was made since; its holder needs a new one\n", id)
		}
	}
	return nil
}

type restoreListCmd struct{}

// Run lists what is in doubt (grant, shop, carrier, parcel, delivery day, status before), and the
// dispatches that are lost.
func (*restoreListCmd) Run(ctx context.Context, io streams, r *restoreCmd) error {
	work, err := r.open()
	if err != nil {
		return err
	}
	defer work.done()
	t := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
	err = work.doubted(ctx, "", func(g *handoff.Grant) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.Dispatch.Shop, g.Dispatch.Carrier, g.Dispatch.Parcel, g.Day(), g.Doubt.From)
	})
	if err := errors.Join(err, t.Flush()); err != nil {
		return err
	}
	return work.lostDispatches(ctx, func(e *handoff.Event) {
		fmt.Fprintf(io.out, "%s of %s is lost: its shop %s has to dispatch it again\n", e.Parcel, e.Carrier, e.Shop)
	})
}

// lostDispatches calls f with the newest event of each dispatch that was found to be lost and is
// not there again.
func (w *restoring) lostDispatches(ctx context.Context, f func(*handoff.Event)) error {
	lost := map[string]handoff.Event{}
	var from eventlog.Cursor
	for {
		page, err := eventlog.Query(ctx, w.store, eventlog.Filter{Types: []handoff.EventType{handoff.EventDispatchLost}}, from, eventsAtOnce)
		if err != nil {
			return err
		}
		for _, l := range page.Events {
			lost[l.Event.Object] = l.Event
		}
		if from = page.Next; !page.More {
			break
		}
	}
	for _, grant := range slices.Sorted(maps.Keys(lost)) {
		id, err := handoff.ParseGrantID(grant)
		if err != nil {
			return err
		}
		grants, err := w.store.Many(ctx, []handoff.ParcelHash{id.Hash})
		if err != nil {
			return err
		}
		if len(grants) == 0 || grants[0].ID.Generation < id.Generation {
			e := lost[grant]
			f(&e)
		}
	}
	return nil
}

const eventsAtOnce = 500

// doubted calls f with each grant that is in doubt, once, of a shop or (empty) of all.
func (w *restoring) doubted(ctx context.Context, shop string, f func(*handoff.Grant)) error {
	seen := map[handoff.GrantID]bool{}
	return w.store.EachGrant(ctx, func(grants []handoff.Grant) error {
		for i := range grants {
			if g := &grants[i]; g.Doubt != nil && !seen[g.ID] && (shop == "" || g.Dispatch.Shop == shop) {
				seen[g.ID] = true
				f(g)
			}
		}
		return nil
	})
}

type restoreConfirmCmd struct {
	Shop       string `required:"" help:"The shop whose dispatches these are."`
	Dispatches string `required:"" placeholder:"FILE" type:"existingfile" help:"What the shop has dispatched and still stands, NDJSON as it was sent: parcel, address, day."`
	HandedOver string `required:"" placeholder:"FILE" type:"existingfile" help:"What the carriers handed over or took along since the copy was made: a line CARRIER PARCEL each. An empty file says that it was nothing."`
}

// Run confirms line by line, and tells what became of each that needs a person. It can be run
// again.
func (c *restoreConfirmCmd) Run(ctx context.Context, io streams, r *restoreCmd) error {
	work, err := r.open()
	if err != nil {
		return err
	}
	defer work.done()
	policy := work.grants.Policy()
	if _, ok := policy.Shops[c.Shop]; !ok {
		return fmt.Errorf("--shop: there is no such shop in %s", r.Policy)
	}
	handed, err := readHanded(c.HandedOver, work.grants)
	if err != nil {
		return err
	}
	f, err := os.Open(c.Dispatches)
	if err != nil {
		return err
	}
	defer f.Close()
	confirmed, over, asked := 0, 0, 0
	tell := func(line int, format string, v ...any) {
		asked++
		fmt.Fprintf(io.out, "line %d: %s\n", line, fmt.Sprintf(format, v...))
	}
	for lines := ndjson.NewReader(f); ; {
		line, err := lines.Next()
		if errors.Is(err, eof) {
			break
		}
		if err != nil {
			return err
		}
		d, err := api.ReadDispatch(line.Data, c.Shop)
		if line.TooLong || err != nil {
			tell(line.Number, "cannot be read: %v", err)
			continue
		}
		if reason := policy.Canonical(&d); reason != "" {
			tell(line.Number, "%s", reason)
			continue
		}
		hash := work.grants.ParcelHash(d.Carrier, d.Parcel)
		id := handoff.GrantID{Hash: hash}
		var gone []string
		for _, parcel := range d.Parcels() {
			if handed[work.grants.ParcelHash(d.Carrier, parcel)] {
				gone = append(gone, parcel)
			}
		}
		count, all := &over, len(gone) == len(d.Parcels())
		err = nil
		if len(gone) > 0 {
			_, err = work.grants.AccountFor(ctx, work.by, id, d, gone...)
		}
		if err == nil && !all {
			count = &confirmed
			_, err = work.grants.Confirm(ctx, work.by, id, d)
		}
		var refused *handoff.Refusal
		switch {
		case err == nil:
			*count++
		case !errors.As(err, &refused):
			return fmt.Errorf("line %d: %w", line.Number, err)
		case refused.Reason == handoff.GrantUnknown && all:
			tell(line.Number, "%s is lost and was handed over: do not dispatch it again", d.Parcel)
		case refused.Reason == handoff.GrantUnknown:
			tell(line.Number, "%s is lost: the shop has to dispatch it again", d.Parcel)
		case refused.Reason == handoff.DispatchConflict:
			tell(line.Number, "%s stays held: the dispatch is not the one that was kept", d.Parcel)
		case refused.Reason == handoff.WrongStatus: // confirmed before, made since, or over before the copy was made
			if len(gone) > 0 {
				tell(line.Number, "%s is said to be handed over, and is not in doubt", d.Parcel)
			}
		default:
			tell(line.Number, "%s: %s", d.Parcel, refused.Reason)
		}
	}
	fmt.Fprintf(io.out, "%d confirmed, with a new code where one is needed; %d closed as handed over; %d lines for a person\n", confirmed, over, asked)
	return work.doubted(ctx, c.Shop, func(g *handoff.Grant) {
		fmt.Fprintf(io.out, "%s of %s stays held: its shop has not confirmed it\n", g.Dispatch.Parcel, g.Dispatch.Carrier)
	})
}

var eof = io.EOF // the commands call their streams io

// readHanded reads the carriers' list.
func readHanded(path string, grants *service.Service) (map[handoff.ParcelHash]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	handed := map[handoff.ParcelHash]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" {
			continue
		}
		carrier, parcel, _ := strings.Cut(line, " ")
		if !slices.Contains(grants.Policy().Carriers, carrier) {
			return nil, fmt.Errorf("--handed-over: line %d: must be a carrier of the policy and a parcel", n)
		}
		label, reason := grants.Policy().Label(carrier, strings.TrimSpace(parcel))
		if reason != "" {
			return nil, fmt.Errorf("--handed-over: line %d: %s", n, reason)
		}
		handed[grants.ParcelHash(carrier, label)] = true
	}
	return handed, lines.Err()
}
