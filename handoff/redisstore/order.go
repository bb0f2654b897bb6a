package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
)

// A group whose readers take by urgency has one set more in each partition: order, of what is due,
// by a number of three parts (a float holds 53 bits):
//
//	17 bits  handoff.Urgency.Rank: the class, and of codes the delivery day
//	36 bits  when it was logged, in sixteenths of a second since 1970, by the event's id
//
// Taking is two steps. File puts into order what is new in the log and what is due in work, where
// Release, Retry, Free and Replay leave it as they do for every group; it says which events of the
// partition come first. Of those of all partitions the most urgent are handed out, by their ids.
// Each step is one script: an event is always beyond the cursor, or in exactly one of work, order,
// held and dead. Readers of an older version take from the log and from work alone, and know
// nothing of order, where newer ones find what they filed.

// A place in order has room for so many times within a rank, and for so many places within a class.
const (
	rankPlaces  = 1 << 36
	classPlaces = rankPlaces * handoff.Ranks / handoff.Classes
)

// places is the Lua of a script that reckons with places.
var places = fmt.Sprintf("local rank_places, class_places = %d, %d\n", int64(rankPlaces), int64(classPlaces))

// urgencyOf is the field u of an event in the log.
func urgencyOf(e *handoff.Event, day handoff.Date) string {
	return plainFormat + strconv.Itoa(e.Urgency(day).Rank())
}

// fileScript puts events of one partition in order.
//
//	KEYS[1] log   KEYS[2] work   KEYS[3] tries   KEYS[4] order
//	ARGV[1] now, or ''   ARGV[2] group   ARGV[3] how many it files at most
//	ARGV[4] how many of the first it tells   ARGV[5] how many of the first that are no codes
//
// It returns how many it found to file, then the two lists, each of ids before their places. An
// event of a rank that this version does not know has the rank of one without. It may be repeated.
var fileScript = newScript(timeOf + places + `
local function file(id, fields)
	local rank = ` + strconv.Itoa(handoff.UnknownRank) + `
	for i = 1, #fields, 2 do
		if fields[i] == 'u' then
			local said = tonumber(string.match(fields[i + 1], '^1 (%d+)$'))
			if said and said < ` + strconv.Itoa(handoff.Ranks) + ` then
				rank = said
			end
		end
	end
	local age = math.min(math.floor(tonumber(string.match(id, '^%d+')) * 16 / 1000), rank_places - 1)
	redis.call('ZADD', KEYS[4], string.format('%.0f', rank * rank_places + age), id)
end
local found = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3])) do
	found = found + 1
	redis.call('ZREM', KEYS[2], id)
	local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
	if entry or redis.call('HEXISTS', KEYS[3], id) == 1 then
		file(id, entry and entry[2] or {})
	end
end
local room = ARGV[3] - found
if room > 0 then
	local new = redis.call('XREADGROUP', 'GROUP', ARGV[2], 'latchkey', 'COUNT', room, 'NOACK', 'STREAMS', KEYS[1], '>')
	if new then
		for _, entry in ipairs(new[1][2]) do
			found = found + 1
			file(entry[1], entry[2])
		end
	end
end
local first, others = {}, {}
if tonumber(ARGV[4]) > 0 then
	first = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
	others = redis.call('ZRANGEBYSCORE', KEYS[4], string.format('%.0f', class_places), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[5])
end
return {found, first, others}
`)

// oldestOfRanks is the Lua of a function that finds the first of each rank in order, by as many
// small commands as there are ranks: a backlog has few, whatever its length.
var oldestOfRanks = places + `
local function oldest_of_ranks(order)
	local firsts, from = {}, '-inf'
	while true do
		local first = redis.call('ZRANGEBYSCORE', order, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
		if #first == 0 then
			return firsts
		end
		local rank = math.floor(tonumber(first[2]) / rank_places)
		firsts[#firsts + 1] = {id = first[1], age = tonumber(first[2]) - rank * rank_places}
		from = string.format('%.0f', (rank + 1) * rank_places)
	end
end
`

// handOutScript puts events of one partition into a reader's hand, if they are still in order.
//
//	KEYS[1] log   KEYS[2] order   KEYS[3] tries   KEYS[4] held
//	ARGV[1] who takes, and by which request   ARGV[2] '1' if this request was sent before
//	ARGV[3...] ids
//
// It returns {id, event, record of failures or ""} for each. A request that is sent again, since
// its answer was lost, gets what it got before.
var handOutScript = newScript(`
local who, again = ARGV[1], ARGV[2]
` + inHand + `
for i = 3, #ARGV do
	if redis.call('ZREM', KEYS[2], ARGV[i]) == 1 then
		take(ARGV[i])
	end
end
return taken
`)

const (
	// fileAtMost is how many events of a partition one script files: some 0.1 ms of Redis.
	fileAtMost = 64

	// filingFor bounds how long one TakeUrgent files, while there is more: after an outage, events
	// are handed out before all of a long backlog is in order, which takes a second for each 100,000
	// where Redis has nothing else to do.
	filingFor = time.Second

	// told is how many of each partition's first a take sees, and some more where it takes many:
	// then a partition has its share of these, or its rest is seen by the next take, soon.
	told = 32
)

// waiting is an event in order.
type waiting struct {
	id    eventlog.ID
	place int64
}

// TakeUrgent implements eventlog.Log.
func (s *Store) TakeUrgent(ctx context.Context, group, reader string, limit int) ([]eventlog.Delivery, error) {
	var first, others []waiting
	for began, more := time.Now(), true; more && time.Since(began) < filingFor; {
		var err error
		if first, others, more, err = s.file(ctx, group, limit); err != nil {
			return nil, err
		}
	}
	turns, _ := s.turns.LoadOrStore(group, new(eventlog.Turns))
	ids := make([][]any, handoff.Partitions)
	for _, w := range eventlog.Choose(turns.(*eventlog.Turns), limit, first, others) {
		ids[w.id.Partition] = append(ids[w.id.Partition], w.id.ID)
	}
	taken, err := s.handOut(ctx, group, reader, ids)
	place := map[eventlog.ID]int64{}
	for _, w := range slices.Concat(first, others) {
		place[w.id] = w.place
	}
	slices.SortFunc(taken, func(a, b eventlog.Delivery) int {
		return inTurn(waiting{a.ID, place[a.ID]}, waiting{b.ID, place[b.ID]})
	})
	return taken, err
}

// inTurn orders what waits: by place and, within a sixteenth of a second, by id.
func inTurn(a, b waiting) int {
	return cmp.Or(cmp.Compare(a.place, b.place), eventlog.CompareIDs(a.id.ID, b.id.ID), cmp.Compare(a.id.Partition, b.id.Partition))
}

// file puts in order what is new or due again, and tells the most urgent, and those of them that
// are no codes. More says that there is more to file.
func (s *Store) file(ctx context.Context, group string, limit int) (first, others []waiting, more bool, err error) {
	calls, err := s.eachPartition(ctx, s.lanes.do, func(p int) redis.Cmder {
		return fileScript.call(ctx, []string{logKey(p), workKey(p, group), triesKey(p, group), orderKey(p, group)},
			s.at(), group, fileAtMost, min(limit, told+limit/8), eventlog.Others(limit))
	})
	if err != nil {
		if isReply(err) && strings.Contains(err.Error(), "NOGROUP") { // a script's error may be wrapped
			err = eventlog.ErrNotJoined
		}
		return nil, nil, false, err
	}
	for p, c := range calls {
		cells, err := c.(*scriptCall).Slice()
		if err != nil || len(cells) != 3 {
			return nil, nil, false, fmt.Errorf("%w: the order of partition %d was answered with %d cells", storage.ErrUnavailable, p, len(cells))
		}
		found, _ := cells[0].(int64)
		more = more || found >= fileAtMost
		for i, list := range []*[]waiting{&first, &others} {
			if *list, err = appendWaiting(*list, p, cells[i+1]); err != nil {
				return nil, nil, false, err
			}
		}
	}
	for _, list := range [][]waiting{first, others} {
		slices.SortFunc(list, inTurn)
	}
	return first, others, more, nil
}

// appendWaiting reads a list of ids before their places.
func appendWaiting(list []waiting, partition int, cell any) ([]waiting, error) {
	cells, _ := cell.([]any)
	for i := 0; i+1 < len(cells); i += 2 {
		id, _ := cells[i].(string)
		text, _ := cells[i+1].(string)
		place, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: order: a place that is no number", storage.ErrFormat)
		}
		list = append(list, waiting{eventlog.ID{Partition: partition, ID: id}, int64(place)})
	}
	return list, nil
}

// handOut puts events into a reader's hand, by partition, along with what an answer that was lost
// put there before. What it returns is the reader's, whatever the error.
func (s *Store) handOut(ctx context.Context, group, reader string, ids [][]any) ([]eventlog.Delivery, error) {
	var (
		calls      []redis.Cmder
		partitions []int
	)
	for p, of := range ids {
		asked := request{group, reader, p}
		if _, unheard := s.unheard.Load(asked); !unheard && len(of) == 0 {
			continue
		}
		who, again := s.asking(asked)
		args := append([]any{who, again}, of...)
		calls = append(calls, handOutScript.call(ctx, []string{logKey(p), orderKey(p, group), triesKey(p, group), heldKey(p, group)}, args...))
		partitions = append(partitions, p)
	}
	if len(calls) == 0 {
		return nil, nil
	}
	if err := s.lanes.do(ctx, calls...); err != nil {
		return nil, unavailable(saidTo(calls[0], err))
	}
	var (
		taken []eventlog.Delivery
		err   error
	)
	for i, c := range calls {
		rows, callErr := c.(*scriptCall).Slice()
		if callErr != nil {
			err = errors.Join(err, failed(c))
			continue
		}
		s.unheard.Delete(request{group, reader, partitions[i]})
		got, rowErr := s.delivered(ctx, group, reader, partitions[i], rows)
		taken, err = append(taken, got...), errors.Join(err, rowErr)
	}
	return taken, err
}
