package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
)

// Append implements eventlog.Log.
func (s *Store) Append(ctx context.Context, _ handoff.Instant, events ...handoff.Event) error {
	cmds := make([]redis.Cmder, 0, len(events))
	for i := range events {
		e, err := encodeEvent(&events[i])
		if err != nil {
			return err
		}
		cmds = append(cmds, redis.NewStringCmd(ctx, "xadd", logKey(events[i].Partition()), "*", "e", e))
	}
	if err := s.lanes.commit(ctx, cmds...); err != nil {
		return unavailable(saidTo(cmds[0], err))
	}
	for _, c := range cmds {
		if err := failed(c); err != nil {
			return err
		}
	}
	return nil
}

// appendNotedScript writes events and a note, if the note was not changed since it was read.
//
//	KEYS[1] log   KEYS[2] notes
//	ARGV[1] name   ARGV[2] the note that must stand, or '' for none   ARGV[3] the new one
//	ARGV[4...] events
//
// It returns 1, or 0 if another note stands there: after a lost answer, its own.
var appendNotedScript = newScript(`
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then
	return 0
end
for i = 4, #ARGV do
	redis.call('XADD', KEYS[1], '*', 'e', ARGV[i])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
`)

// Noted implements eventlog.Log.
func (s *Store) Noted(ctx context.Context, partition int, name string) (string, error) {
	return read(ctx, s, redis.NewStringCmd, "hget", onceKey(partition), name)
}

// AppendNoted implements eventlog.Log.
func (s *Store) AppendNoted(ctx context.Context, _ handoff.Instant, n eventlog.Note, events ...handoff.Event) (bool, error) {
	args := []any{n.Name, n.Was, n.Is}
	for i := range events {
		e, err := encodeEvent(&events[i])
		if err != nil {
			return false, err
		}
		args = append(args, e)
	}
	return s.writeIf(ctx, appendNotedScript, []string{logKey(n.Partition), onceKey(n.Partition)}, args...)
}

// Join implements eventlog.Log: a Redis consumer group on each partition's stream.
func (s *Store) Join(ctx context.Context, group string) error {
	for partition := range handoff.Partitions {
		made := s.client.XGroupCreateMkStream(ctx, logKey(partition), group, "0")
		if err := failed(made); err != nil && !redis.HasErrorPrefix(made.Err(), "BUSYGROUP") {
			return err
		}
	}
	return nil
}

// Leave implements eventlog.Log.
func (s *Store) Leave(ctx context.Context, group string) error {
	for partition := range handoff.Partitions {
		if err := failed(s.client.XGroupDestroy(ctx, logKey(partition), group)); err != nil && !isReply(err) { // a reply: there is no such log
			return err
		}
		if err := failed(s.client.Del(ctx, workKey(partition, group), triesKey(partition, group))); err != nil {
			return err
		}
	}
	return nil
}

// takeScript leases events of one partition.
//
//	KEYS[1] log   KEYS[2] work   KEYS[3] tries
//	ARGV[1] group   ARGV[2] now, ms   ARGV[3] end of the lease, ms   ARGV[4] how many
//
// The group's cursor is Redis's own; what was read beyond it and is not finished stands
// in work, by the time at which it may be taken (again). So a lease, a retry and a
// crashed reader are one thing, and all of them follow the service's clock.
//
// It returns {id, event, record of failures or ""} for each.
var takeScript = newScript(`
local taken = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'LIMIT', 0, ARGV[4])
for _, id in ipairs(due) do
	local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
	local record = redis.call('HGET', KEYS[3], id)
	if entry or record then
		redis.call('ZADD', KEYS[2], ARGV[3], id)
		taken[#taken + 1] = {id, entry and entry[2][2] or '', record or ''}
	else
		redis.call('ZREM', KEYS[2], id)
	end
end
local room = ARGV[4] - #taken
if room > 0 then
	local new = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'latchkey', 'COUNT', room, 'NOACK', 'STREAMS', KEYS[1], '>')
	if new then
		for _, entry in ipairs(new[1][2]) do
			redis.call('ZADD', KEYS[2], ARGV[3], entry[1])
			taken[#taken + 1] = {entry[1], entry[2][2], ''}
		end
	end
end
return taken
`)

// Take implements eventlog.Log. Every partition is asked for its share in one trip, and
// those that had more are asked again while there is room. It is not repeated when its
// answer is lost: the leases then simply run out.
func (s *Store) Take(ctx context.Context, group string, now time.Time, lease time.Duration, limit int) ([]eventlog.Delivery, error) {
	var taken []eventlog.Delivery
	share := limit / handoff.Partitions
	more := rand.Perm(handoff.Partitions) // so that no partition is always the last
	if share > 0 {
		got, full, err := s.takeFrom(ctx, group, now, lease, share, more...)
		if err != nil {
			return got, err
		}
		taken, more = got, full
	}
	for _, partition := range more {
		if len(taken) >= limit {
			break
		}
		got, _, err := s.takeFrom(ctx, group, now, lease, limit-len(taken), partition)
		taken = append(taken, got...)
		if err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// takeFrom takes up to share events from each of some partitions, and tells which of
// them may have more. What it returns is leased, whatever the error.
func (s *Store) takeFrom(ctx context.Context, group string, now time.Time, lease time.Duration, share int, partitions ...int) (taken []eventlog.Delivery, full []int, err error) {
	calls := make([]redis.Cmder, 0, len(partitions))
	for _, p := range partitions {
		calls = append(calls, takeScript.call(ctx, []string{logKey(p), workKey(p, group), triesKey(p, group)},
			group, now.UnixMilli(), now.Add(lease).UnixMilli(), share))
	}
	if err := s.lanes.do(ctx, calls...); err != nil {
		return nil, nil, unavailable(saidTo(calls[0], err))
	}
	for i, c := range calls {
		rows, callErr := c.(*scriptCall).Slice()
		if callErr != nil {
			err = failed(c)
			if isReply(callErr) && strings.Contains(callErr.Error(), "NOGROUP") { // a script's error may be wrapped
				err = eventlog.ErrNotJoined
			}
			continue
		}
		if len(rows) == share {
			full = append(full, partitions[i])
		}
		for _, row := range rows {
			d, event, rowErr := parseDelivery(partitions[i], row)
			if rowErr != nil {
				err = errors.Join(rowErr, s.buryUnreadable(ctx, group, d.ID, event, now))
				continue
			}
			taken = append(taken, d)
		}
	}
	return taken, full, err
}

// failures is what is kept of an event that could not be finished: as a record of
// tries, then as a dead letter. The event is kept with it, so that the log can be trimmed.
type failures struct {
	Event  []byte          `cbor:"1,keyasint"`
	Tries  int             `cbor:"2,keyasint"`
	First  handoff.Instant `cbor:"3,keyasint"`
	Error  string          `cbor:"4,keyasint"`
	DiedAt handoff.Instant `cbor:"5,keyasint,omitempty"`
}

// parseDelivery reads what takeScript returned of one event. The event's bytes come with
// an error too.
func parseDelivery(partition int, row any) (d eventlog.Delivery, event []byte, err error) {
	cells, _ := row.([]any)
	if len(cells) != 3 {
		return d, nil, fmt.Errorf("redisstore: a delivery of %d cells", len(cells))
	}
	id, _ := cells[0].(string)
	raw, _ := cells[1].(string)
	record, _ := cells[2].(string)
	d.ID, event = eventlog.ID{Partition: partition, ID: id}, []byte(raw)
	if record != "" {
		var f failures
		if err := decode("tries", []byte(record), &f); err != nil {
			return d, event, err
		}
		d.Tries, d.FirstFailed, event = f.Tries, f.First, f.Event
	}
	d.Event, err = decodeEvent(event)
	return d, event, err
}

// undecodable is the error of a dead letter whose event this version cannot read. Left in
// work, the event would be taken again and again.
const undecodable = "undecodable"

func (s *Store) buryUnreadable(ctx context.Context, group string, id eventlog.ID, event []byte, now time.Time) error {
	at := handoff.InstantOf(now)
	return s.moveToDead(ctx, group, id, failures{Event: event, First: at, Error: undecodable, DiedAt: at})
}

func (s *Store) moveToDead(ctx context.Context, group string, id eventlog.ID, dead failures) error {
	record, err := encode("dead", dead)
	if err != nil {
		return err
	}
	_, err = s.writeIf(ctx, moveScript, []string{
		workKey(id.Partition, group), triesKey(id.Partition, group), deadKey(id.Partition, group),
	}, id.ID, record, "")
	return err
}

func failuresOf(f eventlog.Failure) (failures, error) {
	event, err := encodeEvent(&f.Delivery.Event)
	if err != nil {
		return failures{}, err
	}
	first := cmp.Or(f.Delivery.FirstFailed, handoff.InstantOf(f.At))
	return failures{Event: event, Tries: f.Delivery.Tries + 1, First: first, Error: f.Error}, nil
}

// Done implements eventlog.Log.
func (s *Store) Done(ctx context.Context, group string, id eventlog.ID) error {
	return s.write(ctx,
		line{"zrem", workKey(id.Partition, group), id.ID},
		line{"hdel", triesKey(id.Partition, group), id.ID})
}

// Release implements eventlog.Log.
func (s *Store) Release(ctx context.Context, group string, id eventlog.ID, now time.Time) error {
	return s.write(ctx, line{"zadd", workKey(id.Partition, group), "xx", now.UnixMilli(), id.ID})
}

// Retry implements eventlog.Log. The record is written before the schedule: should only
// the first arrive, the lease runs out and the event comes again.
func (s *Store) Retry(ctx context.Context, group string, f eventlog.Failure, at time.Time) error {
	failed, err := failuresOf(f)
	if err != nil {
		return err
	}
	record, err := encode("tries", failed)
	if err != nil {
		return err
	}
	id := f.Delivery.ID
	return s.write(ctx,
		line{"hset", triesKey(id.Partition, group), id.ID, record},
		line{"zadd", workKey(id.Partition, group), "xx", at.UnixMilli(), id.ID})
}

// moveScript takes an event from one list to another.
//
//	KEYS[1] work   KEYS[2] hash to leave   KEYS[3] hash to enter
//	ARGV[1] id   ARGV[2] record   ARGV[3] when due, ms, or "" for never: it becomes a dead letter
//
// It returns 1, or 0 if a letter that is to be due again is not in the hash to leave, since
// it was replayed before.
var moveScript = newScript(`
if ARGV[3] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
	return 0
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[1])
if ARGV[3] == '' then
	redis.call('ZREM', KEYS[1], ARGV[1])
else
	redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
`)

// Bury implements eventlog.Log.
func (s *Store) Bury(ctx context.Context, group string, f eventlog.Failure) error {
	dead, err := failuresOf(f)
	if err != nil {
		return err
	}
	dead.DiedAt = handoff.InstantOf(f.At)
	return s.moveToDead(ctx, group, f.Delivery.ID, dead)
}

// Replay implements eventlog.Log. The letter starts anew: its day of grace begins again.
func (s *Store) Replay(ctx context.Context, group string, id eventlog.ID, now time.Time) (bool, error) {
	letters, err := s.dead(ctx, group, id.Partition)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(letters, func(l eventlog.Letter) bool { return l.ID == id })
	if i < 0 {
		return false, nil
	}
	if letters[i].Error == undecodable {
		return false, errors.New("redisstore: this letter's event cannot be read by this version")
	}
	event, err := encodeEvent(&letters[i].Event)
	if err != nil {
		return false, err
	}
	record, err := encode("tries", failures{Event: event})
	if err != nil {
		return false, err
	}
	return s.writeIf(ctx, moveScript, []string{
		workKey(id.Partition, group), deadKey(id.Partition, group), triesKey(id.Partition, group),
	}, id.ID, record, now.UnixMilli())
}

// Dead implements eventlog.Log.
func (s *Store) Dead(ctx context.Context, group string) ([]eventlog.Letter, error) {
	var all []eventlog.Letter
	for partition := range handoff.Partitions {
		letters, err := s.dead(ctx, group, partition)
		if err != nil {
			return nil, err
		}
		all = append(all, letters...)
	}
	slices.SortFunc(all, func(a, b eventlog.Letter) int { return int(a.Event.At - b.Event.At) })
	return all, nil
}

func (s *Store) dead(ctx context.Context, group string, partition int) ([]eventlog.Letter, error) {
	records, err := read(ctx, s, redis.NewMapStringStringCmd, "hgetall", deadKey(partition, group))
	if err != nil {
		return nil, err
	}
	letters := make([]eventlog.Letter, 0, len(records))
	for id, record := range records {
		var f failures
		if err := decode("dead", []byte(record), &f); err != nil {
			return nil, err
		}
		e, err := decodeEvent(f.Event)
		if err != nil {
			f.Error = undecodable
		}
		letters = append(letters, eventlog.Letter{
			Delivery: eventlog.Delivery{
				Logged: eventlog.Logged{ID: eventlog.ID{Partition: partition, ID: id}, Event: e},
				Tries:  f.Tries, FirstFailed: f.First,
			},
			Error: f.Error, DiedAt: f.DiedAt,
		})
	}
	return letters, nil
}

// position is how far a group is in one partition.
type position struct {
	cursor string   // the last id that was taken
	open   []string // ids taken and not finished
}

// positions reads each group's cursor BEFORE its open work: an event that is taken in
// between is then seen at least once, by the older cursor.
func (s *Store) positions(ctx context.Context, partition int) (map[string]position, error) {
	groups := s.client.XInfoGroups(ctx, logKey(partition))
	if err := groups.Err(); isReply(err) && strings.Contains(err.Error(), "no such key") {
		return nil, nil // no log yet
	}
	if err := failed(groups); err != nil {
		return nil, err // who the readers are is not known: nothing may be trimmed
	}
	at := make(map[string]position, len(groups.Val()))
	for _, g := range groups.Val() {
		open := s.client.ZRange(ctx, workKey(partition, g.Name), 0, -1)
		if err := failed(open); err != nil {
			return nil, err
		}
		at[g.Name] = position{cursor: g.LastDeliveredID, open: open.Val()}
	}
	return at, nil
}

// Backlog implements eventlog.Log.
func (s *Store) Backlog(ctx context.Context, group string) (eventlog.Backlog, error) {
	var b eventlog.Backlog
	for partition := range handoff.Partitions {
		dead := s.client.HLen(ctx, deadKey(partition, group))
		if err := failed(dead); err != nil {
			return b, err
		}
		b.Dead += dead.Val()
		at, err := s.positions(ctx, partition)
		if err != nil {
			return b, err
		}
		p := at[group] // of a group that has not joined, everything waits
		untaken, err := s.Read(ctx, partition, cmp.Or(p.cursor, "0-0"), backlogCounted)
		if err != nil {
			return b, err
		}
		b.Waiting += int64(len(untaken) + len(p.open))
		if len(untaken) > 0 {
			see(&b, untaken[0].Event.At)
		}
		if len(p.open) > 0 {
			oldest := s.client.XRangeN(ctx, logKey(partition), slices.MinFunc(p.open, eventlog.CompareIDs), "+", 1)
			if err := failed(oldest); err != nil {
				return b, err
			}
			if len(oldest.Val()) > 0 {
				if e, err := decodeMessage(oldest.Val()[0]); err == nil {
					see(&b, e.At)
				}
			}
		}
	}
	return b, nil
}

func see(b *eventlog.Backlog, at handoff.Instant) {
	if at != 0 && (b.Oldest == 0 || at < b.Oldest) {
		b.Oldest = at
	}
}

// advanceScript moves a group's cursor. XGROUP SETID would do, if the embedded Redis had
// it; the group has no other state, since it takes nothing.
//
//	KEYS[1] log
//	ARGV[1] group   ARGV[2] id
//
// It returns 1, or 0 if the group has not joined.
var advanceScript = newScript(`
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1]) == 0 then
	return 0
end
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2])
return 1
`)

// Advance implements eventlog.Log.
func (s *Store) Advance(ctx context.Context, group string, id eventlog.ID) error {
	joined, err := s.writeIf(ctx, advanceScript, []string{logKey(id.Partition)}, group, id.ID)
	if err == nil && !joined {
		return eventlog.ErrNotJoined
	}
	return err
}

// backlogCounted bounds the counting per partition: beyond it, "many" is answer enough.
const backlogCounted = 10_000

// Read implements eventlog.Log. Like all that may be answered with many events, it has a
// connection of its own: in a lane the commits of others would wait behind it.
func (s *Store) Read(ctx context.Context, partition int, after string, limit int) ([]eventlog.Logged, error) {
	start := "-"
	if after != "" {
		start = "(" + after
	}
	messages := s.client.XRangeN(ctx, logKey(partition), start, "+", int64(limit))
	if err := failed(messages); err != nil {
		return nil, err
	}
	logged := make([]eventlog.Logged, 0, len(messages.Val()))
	for _, m := range messages.Val() {
		logged = append(logged, loggedOf(partition, m))
	}
	return logged, nil
}

// Before implements eventlog.Log.
func (s *Store) Before(ctx context.Context, partition int, id string) (*eventlog.Logged, error) {
	messages := s.client.XRevRangeN(ctx, logKey(partition), "("+id, "-", 1)
	if err := failed(messages); err != nil || len(messages.Val()) == 0 {
		return nil, err
	}
	l := loggedOf(partition, messages.Val()[0])
	return &l, nil
}

// loggedOf is an event as it stands in the log; its Type is zero where it cannot be read.
func loggedOf(partition int, m redis.XMessage) eventlog.Logged {
	e, err := decodeMessage(m)
	if err != nil {
		e = handoff.Event{}
	}
	return eventlog.Logged{ID: eventlog.ID{Partition: partition, ID: m.ID}, Event: e}
}

func decodeMessage(m redis.XMessage) (handoff.Event, error) {
	body, ok := m.Values["e"].(string)
	if !ok {
		return handoff.Event{}, fmt.Errorf("%w: log: an event without its field", storage.ErrFormat)
	}
	return decodeEvent([]byte(body))
}

// Trim implements eventlog.Log. Ids only rise, so what is found unfinished now bounds
// what can be unfinished when the trim runs.
func (s *Store) Trim(ctx context.Context, partition int, keep time.Time) (int64, error) {
	at, err := s.positions(ctx, partition)
	if err != nil {
		return 0, err
	}
	least := strconv.FormatInt(keep.UnixMilli(), 10) + "-0"
	for _, p := range at {
		// All up to the cursor was taken; what of that is not open is finished.
		least = slices.MinFunc(append(p.open, eventlog.After(p.cursor), least), eventlog.CompareIDs)
	}
	trimmed := s.client.XTrimMinID(ctx, logKey(partition), least)
	return trimmed.Val(), failed(trimmed)
}
