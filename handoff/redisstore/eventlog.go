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
		cmds = append(cmds, redis.NewStringCmd(ctx, "xadd", logKey(events[i].Partition()), "*", "e", e, "u", urgencyOf(&events[i], handoff.Date{})))
	}
	if err := s.lanes.commit(ctx, cmds...); err != nil {
		return unavailable(saidTo(cmds[0], err))
	}
	for i, c := range cmds {
		if err := failed(c); err != nil {
			return err
		}
		s.noteAppended(&events[i], c)
	}
	return nil
}

// appendNotedScript writes events and a note, if the note was not changed since it was read.
//
//	KEYS[1] log   KEYS[2] notes
//	ARGV[1] name   ARGV[2] the note that must stand, or '' for none   ARGV[3] the new one
//	ARGV[4...] events, each before its urgency
//
// It returns 1, or 0 if another note stands there: after a lost answer, its own.
var appendNotedScript = newScript(`
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then
	return 0
end
for i = 4, #ARGV, 2 do
	redis.call('XADD', KEYS[1], '*', 'e', ARGV[i], 'u', ARGV[i + 1])
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
		args = append(args, e, urgencyOf(&events[i], handoff.Date{}))
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
		if err := failed(s.client.Del(ctx, workKey(partition, group), orderKey(partition, group), triesKey(partition, group), heldKey(partition, group))); err != nil {
			return err
		}
	}
	return nil
}

// timeOf is the Lua of a script that judges times that other instances wrote: it sets now to
// milliseconds of Redis's clock, or to what ARGV[1] says, which only tests give. A script
// replicates what it wrote and not its source, so that a replica and the log on disk hold the
// same (Redis 5 and later).
const timeOf = `
local now = tonumber(ARGV[1])
if not now then
	local t = redis.call('TIME')
	now = t[1] * 1000 + math.floor(t[2] / 1000)
end
`

// at is ARGV[1] of a script that begins with timeOf.
func (s *Store) at() any {
	if s.now == nil {
		return ""
	}
	return s.now().UnixMilli()
}

// Time is what Redis's clock says: that of one master.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	if s.now != nil {
		return s.now(), nil
	}
	return read(ctx, s, redis.NewTimeCmd, "time")
}

// inHand is the Lua of a script that puts events of one partition into the hand of who, of which
// again is '1' if the same request was sent before. Then it returns what that request got, if it got
// anything. Take puts one event more into taken; one of which nothing is left is in no hand.
//
//	KEYS[1] log   KEYS[3] tries   KEYS[4] held
const inHand = `
local taken = {}
local function take(id)
	local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
	local record = redis.call('HGET', KEYS[3], id)
	if entry or record then
		redis.call('HSET', KEYS[4], id, who)
		taken[#taken + 1] = {id, entry and entry[2][2] or '', record or ''}
	else
		redis.call('HDEL', KEYS[4], id)
	end
end
if again == '1' then
	local held = redis.call('HGETALL', KEYS[4])
	for i = 1, #held, 2 do
		if held[i + 1] == who then
			take(held[i])
		end
	end
	if #taken > 0 then
		return taken
	end
end
`

// takeScript hands out events of one partition.
//
//	KEYS[1] log   KEYS[2] work   KEYS[3] tries   KEYS[4] held
//	ARGV[1] now, or ''   ARGV[2] group   ARGV[3] who takes, and by which request   ARGV[4] how many
//	ARGV[5] '1' if this request was sent before
//
// The group's cursor is Redis's own. What was read beyond it and is not finished stands in held
// while a reader has it in hand, and else in work, by the time from which it may be taken again.
// A request that is sent again, since its answer was lost, gets what it got before.
//
// It returns {id, event, record of failures or ""} for each.
var takeScript = newScript(timeOf + `
local who, again = ARGV[3], ARGV[5]
` + inHand + `
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[4])) do
	redis.call('ZREM', KEYS[2], id)
	take(id)
end
local room = ARGV[4] - #taken
if room > 0 then
	local new = redis.call('XREADGROUP', 'GROUP', ARGV[2], 'latchkey', 'COUNT', room, 'NOACK', 'STREAMS', KEYS[1], '>')
	if new then
		for _, entry in ipairs(new[1][2]) do
			redis.call('HSET', KEYS[4], entry[1], who)
			taken[#taken + 1] = {entry[1], entry[2][2], ''}
		end
	end
end
return taken
`)

// request names what a reader asks of a partition of a group.
type request struct {
	group, reader string
	partition     int
}

// Take implements eventlog.Log. Every partition is asked for its share in one trip, and
// those that had more are asked again while there is room. Where an answer is lost, the next
// Take asks for the same again, by the number of the request.
func (s *Store) Take(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	var taken []eventlog.Delivery
	share := limit / handoff.Partitions
	more := slices.DeleteFunc(rand.Perm(handoff.Partitions), s.refused) // in an order in which no partition is always the last
	if share > 0 {
		got, full, err := s.takeFrom(ctx, group, reader, share, more...)
		if err != nil {
			return got, err
		}
		taken, more = got, full
	}
	for _, partition := range more {
		if len(taken) >= limit {
			break
		}
		got, _, err := s.takeFrom(ctx, group, reader, limit-len(taken), partition)
		taken = append(taken, got...)
		if err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// takeFrom takes up to share events from each of some partitions, and tells which of
// them may have more. What it returns is the reader's, whatever the error.
func (s *Store) takeFrom(ctx context.Context, group, reader string, share int, partitions ...int) (taken []eventlog.Delivery, full []int, err error) {
	calls := make([]redis.Cmder, 0, len(partitions))
	for _, p := range partitions {
		who, again := s.asking(request{group, reader, p})
		calls = append(calls, takeScript.call(ctx, []string{logKey(p), workKey(p, group), triesKey(p, group), heldKey(p, group)},
			s.at(), group, who, share, again))
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
		s.unheard.Delete(request{group, reader, partitions[i]})
		if len(rows) >= share {
			full = append(full, partitions[i])
		}
		got, rowErr := s.delivered(ctx, group, reader, partitions[i], rows)
		if taken = append(taken, got...); rowErr != nil {
			err = rowErr
		}
	}
	return taken, full, err
}

// asking is who takes by a request, and "1" if the request was sent before: its answer was lost.
func (s *Store) asking(r request) (who, again string) {
	number, sent := s.unheard.Load(r)
	if sent {
		return holder(r.reader, number), "1"
	}
	number = s.requests.Add(1)
	s.unheard.Store(r, number)
	return holder(r.reader, number), ""
}

// delivered reads what a script put into a reader's hand. What cannot be read becomes a dead letter.
func (s *Store) delivered(ctx context.Context, group, reader string, partition int, rows []any) (taken []eventlog.Delivery, err error) {
	for _, row := range rows {
		d, event, rowErr := parseDelivery(partition, row)
		d.Reader = reader
		if rowErr != nil {
			err = errors.Join(rowErr, s.buryUnreadable(ctx, group, d, event))
			continue
		}
		taken = append(taken, d)
	}
	return taken, err
}

// holder is who has an event in hand: a reader, by one of its requests.
func holder(reader string, request any) string { return fmt.Sprint(plainFormat, reader, " ", request) }

// readerOf is the reader in a holder.
func readerOf(holder string) (string, error) {
	said, err := plain("held", holder)
	reader, _, _ := strings.Cut(said, " ")
	return reader, err
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

func (s *Store) buryUnreadable(ctx context.Context, group string, d eventlog.Delivery, event []byte) error {
	now, err := s.Time(ctx)
	if err != nil {
		return err
	}
	at := handoff.InstantOf(now)
	return s.moveToDead(ctx, group, d, failures{Event: event, First: at, Error: undecodable, DiedAt: at})
}

func (s *Store) moveToDead(ctx context.Context, group string, d eventlog.Delivery, dead failures) error {
	record, err := encode("dead", dead)
	if err != nil {
		return err
	}
	return s.letGo(ctx, group, d, "dead", record, 0)
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
		line{"hdel", heldKey(id.Partition, group), id.ID},
		line{"zrem", workKey(id.Partition, group), id.ID},
		line{"zrem", orderKey(id.Partition, group), id.ID},
		line{"hdel", triesKey(id.Partition, group), id.ID})
}

// letGoScript takes an event out of a reader's hand, if it is still in it.
//
//	KEYS[1] held   KEYS[2] work   KEYS[3] tries   KEYS[4] dead
//	ARGV[1] now, or ''   ARGV[2] id   ARGV[3] how the holder begins: its reader
//	ARGV[4] 'due': it is due again; 'tries': the same, with a record; 'dead': with a record it is a dead letter
//	ARGV[5] record   ARGV[6] in how many ms it is due
//
// It returns 1, or 0 if the event is in another's hand or in none: after a lost answer, this one
// took it out before. It may be repeated.
var letGoScript = newScript(timeOf + `
local holder = redis.call('HGET', KEYS[1], ARGV[2])
if not holder or string.sub(holder, 1, #ARGV[3]) ~= ARGV[3] then
	return 0
end
if ARGV[4] == 'dead' then
	redis.call('HSET', KEYS[4], ARGV[2], ARGV[5])
	redis.call('HDEL', KEYS[3], ARGV[2])
else
	if ARGV[4] == 'tries' then
		redis.call('HSET', KEYS[3], ARGV[2], ARGV[5])
	end
	redis.call('ZADD', KEYS[2], now + ARGV[6], ARGV[2])
end
redis.call('HDEL', KEYS[1], ARGV[2])
return 1
`)

func (s *Store) letGo(ctx context.Context, group string, d eventlog.Delivery, how string, record []byte, after time.Duration) error {
	p := d.ID.Partition
	_, err := s.writeScript(ctx, letGoScript, []string{heldKey(p, group), workKey(p, group), triesKey(p, group), deadKey(p, group)},
		s.at(), d.ID.ID, holder(d.Reader, ""), how, record, max(after, 0).Milliseconds())
	return err
}

// Release implements eventlog.Log.
func (s *Store) Release(ctx context.Context, group string, d eventlog.Delivery) error {
	return s.letGo(ctx, group, d, "due", nil, 0)
}

// Retry implements eventlog.Log.
func (s *Store) Retry(ctx context.Context, group string, f eventlog.Failure, after time.Duration) error {
	failed, err := failuresOf(f)
	if err != nil {
		return err
	}
	record, err := encode("tries", failed)
	if err != nil {
		return err
	}
	return s.letGo(ctx, group, f.Delivery, "tries", record, after)
}

// beatScript counts a sign of life of a reader, unless the reader was taken out.
//
//	KEYS[1] readers
//	ARGV[1] reader   ARGV[2] '1' if it is its first
//
// It returns all readers, each before its count.
var beatScript = newScript(`
if ARGV[2] == '1' or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
	redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
end
return redis.call('HGETALL', KEYS[1])
`)

// Beat implements eventlog.Log.
func (s *Store) Beat(ctx context.Context, reader string, first bool) (map[string]int64, error) {
	begins := ""
	if first {
		begins = "1"
	}
	reply, err := s.writeScript(ctx, beatScript, []string{readersKey}, reader, begins)
	if err != nil {
		return nil, err
	}
	beats := map[string]int64{}
	for name, count := range pairs(reply) {
		if beats[name], err = strconv.ParseInt(count, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: readers: a count that is no number", storage.ErrFormat)
		}
	}
	return beats, nil
}

// forgetScript takes a reader out, if it gave no sign of life since.
//
//	KEYS[1] readers
//	ARGV[1] reader   ARGV[2] its count
//
// It returns 1, or 0 if the count is another.
var forgetScript = newScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
	return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
`)

// Forget implements eventlog.Log.
func (s *Store) Forget(ctx context.Context, reader string, beat int64) (bool, error) {
	return s.writeIf(ctx, forgetScript, []string{readersKey}, reader, beat)
}

// Holders implements eventlog.Log.
func (s *Store) Holders(ctx context.Context, group string) (map[string]int, error) {
	lines := make([]line, handoff.Partitions)
	for p := range lines {
		lines[p] = line{"hvals", heldKey(p, group)}
	}
	partitions, err := readEach(ctx, s, redis.NewStringSliceCmd, lines...)
	if err != nil {
		return nil, err
	}
	held := map[string]int{}
	for _, holders := range partitions {
		for _, h := range holders {
			reader, err := readerOf(h)
			if err != nil {
				return nil, err
			}
			held[reader]++
		}
	}
	return held, nil
}

// freeScript makes due what a reader has in hand.
//
//	KEYS[1] held   KEYS[2] work
//	ARGV[1] now, or ''   ARGV[2] how the holder begins: its reader
//
// It returns how many events that were. It may be repeated.
var freeScript = newScript(timeOf + `
local held, n = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #held, 2 do
	if string.sub(held[i + 1], 1, #ARGV[2]) == ARGV[2] then
		redis.call('ZADD', KEYS[2], now, held[i])
		redis.call('HDEL', KEYS[1], held[i])
		n = n + 1
	end
end
return n
`)

// Free implements eventlog.Log.
func (s *Store) Free(ctx context.Context, group, reader string) (int, error) {
	calls, err := s.eachPartition(ctx, s.lanes.commit, func(p int) redis.Cmder {
		return freeScript.call(ctx, []string{heldKey(p, group), workKey(p, group)}, s.at(), holder(reader, ""))
	})
	freed := 0
	for _, c := range calls {
		n, _ := c.(*scriptCall).Int()
		freed += n
	}
	return freed, err
}

// eachPartition sends one command to each partition in one trip. It may be sent again.
func (s *Store) eachPartition(ctx context.Context, send sending, command func(partition int) redis.Cmder) ([]redis.Cmder, error) {
	var cmds []redis.Cmder
	err := s.repeatable(ctx, send, func() []redis.Cmder {
		cmds = make([]redis.Cmder, handoff.Partitions)
		for p := range cmds {
			cmds[p] = command(p)
		}
		return cmds
	})
	if err != nil {
		return nil, err
	}
	return cmds, nil
}

// replayScript makes a dead letter due.
//
//	KEYS[1] work   KEYS[2] dead   KEYS[3] tries
//	ARGV[1] now, or ''   ARGV[2] id   ARGV[3] record
//
// It returns 1, or 0 if there is no such letter, since it was replayed before.
var replayScript = newScript(timeOf + `
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then
	return 0
end
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[2])
return 1
`)

// Bury implements eventlog.Log.
func (s *Store) Bury(ctx context.Context, group string, f eventlog.Failure) error {
	dead, err := failuresOf(f)
	if err != nil {
		return err
	}
	dead.DiedAt = handoff.InstantOf(f.At)
	return s.moveToDead(ctx, group, f.Delivery, dead)
}

// Replay implements eventlog.Log. The letter starts anew: its day of grace begins again.
func (s *Store) Replay(ctx context.Context, group string, id eventlog.ID) (bool, error) {
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
	return s.writeIf(ctx, replayScript, []string{
		workKey(id.Partition, group), deadKey(id.Partition, group), triesKey(id.Partition, group),
	}, s.at(), id.ID, record)
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

// openScript tells what a group has taken of a partition and not finished.
//
//	KEYS[1] work   KEYS[2] held   KEYS[3] order
//
// Of what waits in order it returns, in place of each id, one that is no later than all of its rank:
// a backlog may be long, and ranks are few.
var openScript = newScript(`
local open = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
	open[#open + 1] = id
end
` + oldestOfRanks + `
for _, first in ipairs(oldest_of_ranks(KEYS[3])) do
	open[#open + 1] = string.format('%.0f-0', math.floor(first.age * 1000 / 16))
end
return open
`)

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
		var call *scriptCall
		err := s.repeatable(ctx, s.lanes.do, func() []redis.Cmder {
			call = openScript.call(ctx, []string{workKey(partition, g.Name), heldKey(partition, g.Name), orderKey(partition, g.Name)})
			return []redis.Cmder{call}
		})
		if err != nil {
			return nil, err
		}
		open, err := call.StringSlice()
		if err != nil {
			return nil, failed(call)
		}
		at[g.Name] = position{cursor: g.LastDeliveredID, open: open}
	}
	return at, nil
}

// backlogScript tells how far a group is behind in one partition. It reads no more than
// backlogCounted events of what was not taken, where Redis itself does not know how many these
// are, backlogLooked of those that wait, and two more.
//
//	KEYS[1] log   KEYS[2] work   KEYS[3] held   KEYS[4] dead   KEYS[5] order
//	ARGV[1] group   ARGV[2] backlogCounted   ARGV[3] backlogLooked
//
// It returns how many events wait, how many dead letters there are, and the events that may be
// the oldest: none, one or two. Before these stand the events in order, by class.
var backlogScript = newScript(oldestOfRanks + `
local cursor, lag = '0-0', false
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups.err then
	for _, group in ipairs(groups) do
		local is = {}
		for i = 1, #group, 2 do
			is[group[i]] = group[i + 1]
		end
		if is['name'] == ARGV[1] then
			cursor, lag = is['last-delivered-id'], is['entries-read'] and is['lag']
		end
	end
end
local oldest = {}
local new = redis.call('XRANGE', KEYS[1], '(' .. cursor, '+', 'COUNT', 1)
if #new > 0 then
	oldest[1] = new[1][2][2]
	if not lag then
		lag = #redis.call('XRANGE', KEYS[1], '(' .. cursor, '+', 'COUNT', ARGV[2])
	end
else
	lag = 0
end
local least, leastMS, leastSeq
local function see(ids)
	for _, id in ipairs(ids) do
		local ms, seq = string.match(id, '^(%d+)-(%d+)$')
		ms, seq = tonumber(ms), tonumber(seq)
		if not least or ms < leastMS or ms == leastMS and seq < leastSeq then
			least, leastMS, leastSeq = id, ms, seq
		end
	end
end
see(redis.call('ZRANGE', KEYS[2], 0, ARGV[3] - 1))
see(redis.call('HKEYS', KEYS[3]))
local ordered, classes = redis.call('ZCARD', KEYS[5]), {0, 0, 0, 0}
if ordered > 0 then
	for _, first in ipairs(oldest_of_ranks(KEYS[5])) do
		see({first.id})
	end
	for class = 1, 4 do
		classes[class] = redis.call('ZCOUNT', KEYS[5], string.format('%.0f', (class - 1) * class_places), string.format('(%.0f', class * class_places))
	end
end
if least then
	local entry = redis.call('XRANGE', KEYS[1], least, '+', 'COUNT', 1)
	if #entry > 0 then
		oldest[#oldest + 1] = entry[1][2][2]
	end
end
return {lag + redis.call('ZCARD', KEYS[2]) + redis.call('HLEN', KEYS[3]) + ordered, redis.call('HLEN', KEYS[4]), classes, unpack(oldest)}
`)

const (
	// backlogCounted bounds the counting in a partition, where Redis does not know the number: of
	// a group that moves its cursor itself, as the audit trail's does, and before Redis 7.
	backlogCounted = 1000

	// backlogLooked is among how many of the events that wait for another try, the next of a
	// partition, the oldest is looked for.
	backlogLooked = 200
)

// Backlog implements eventlog.Log.
func (s *Store) Backlog(ctx context.Context, group string) (eventlog.Backlog, error) {
	var b eventlog.Backlog
	calls, err := s.eachPartition(ctx, s.lanes.do, func(p int) redis.Cmder {
		return backlogScript.call(ctx, []string{logKey(p), workKey(p, group), heldKey(p, group), deadKey(p, group), orderKey(p, group)}, group, backlogCounted, backlogLooked)
	})
	if err != nil {
		return b, err
	}
	for p, c := range calls {
		row, err := c.(*scriptCall).Slice()
		if err != nil || len(row) < 3 {
			return b, fmt.Errorf("%w: the backlog of partition %d was answered with %d cells", storage.ErrUnavailable, p, len(row))
		}
		waiting, _ := row[0].(int64)
		dead, _ := row[1].(int64)
		b.Waiting += waiting
		b.Dead += dead
		classes, _ := row[2].([]any)
		for class, cell := range classes[:min(len(classes), len(b.Classes))] {
			n, _ := cell.(int64)
			b.Classes[class] += n
		}
		for _, cell := range row[3:] {
			body, _ := cell.(string)
			if e, err := decodeEvent([]byte(body)); err == nil {
				see(&b, e.At)
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
