package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/trail"
)

// A chain's head begins with what the script compares, its place: the format, seq, hash
// and cut. CBOR follows.
const placeLen = 1 + 8 + len(trail.Hash{}) + 8

func placeBytes(e trail.End) []byte {
	if e.Seq == 0 {
		return nil
	}
	b := binary.BigEndian.AppendUint64(append(make([]byte, 0, 512), format), e.Seq)
	return binary.BigEndian.AppendUint64(append(b, e.Hash[:]...), e.Cut)
}

// ChainEnd implements trail.Journal.
func (s *Store) ChainEnd(ctx context.Context, name string) (end trail.End, err error) {
	head, err := read(ctx, s, redis.NewStringCmd, "get", chainHeadKey(name))
	if err != nil || head == "" {
		return end, err
	}
	kind := keyKind(chainHeadKey(name))
	b := []byte(head)
	if _, err := ofFormat(kind, b); err != nil {
		return end, err
	}
	if len(b) < placeLen {
		return end, fmt.Errorf("%w: the head of %s has %d bytes", trail.ErrForged, name, len(b))
	}
	if err := unmarshal(kind, b[placeLen:], &end); err != nil {
		return trail.End{}, fmt.Errorf("%w: the head of %s: %w", trail.ErrForged, name, err)
	}
	end.Seq = binary.BigEndian.Uint64(b[1:])
	copy(end.Hash[:], b[9:])
	end.Cut = binary.BigEndian.Uint64(b[placeLen-8:])
	return end, nil
}

// extendScript extends a chain if it still stands where it was read.
//
//	KEYS[1] head   KEYS[2] entries
//	ARGV[1] the place that is expected, or '' for none   ARGV[2] the new head
//	ARGV[3] the least entry to keep, or '' to keep all
//	ARGV[4...] id, entry and hash of each
//
// It returns 1, 0 if the chain stands elsewhere, or -1 if the first entry cannot follow an
// entry that another program wrote behind the chain's end. Any other error of Redis, such as
// full memory, is returned as it is. After 0, -1 and an error nothing was written: of the
// entries only the first can be refused.
var extendScript = newScript(`
if redis.call('GETRANGE', KEYS[1], 0, 48) ~= ARGV[1] then
	return 0
end
for i = 4, #ARGV, 3 do
	local added = redis.pcall('XADD', KEYS[2], ARGV[i], 'e', ARGV[i + 1], 'h', ARGV[i + 2])
	if type(added) == 'table' and added.err then
		if string.find(added.err, 'equal or smaller', 1, true) then
			return -1
		end
		return added
	end
end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '' then
	redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
end
return 1
`)

func entryID(seq uint64) string { return strconv.FormatUint(seq, 10) + "-0" }

// Extend implements trail.Journal. A new chain is listed before it begins: one that is
// not listed would never be cut.
func (s *Store) Extend(ctx context.Context, name string, from, to trail.End, links []trail.Link) error {
	if err := trail.CheckName(name); err != nil {
		return err
	}
	body, err := encoder.Marshal(to)
	if err != nil {
		return fmt.Errorf("redisstore: encoding the head of a chain: %w", err)
	}
	if from.Seq == 0 {
		if err := s.write(ctx, line{"sadd", chainsKey, name}); err != nil {
			return err
		}
	}
	least := ""
	if to.Cut > from.Cut {
		least = entryID(to.Cut + 1)
	}
	args := []any{placeBytes(from), append(placeBytes(to), body...), least}
	for i := range links {
		args = append(args, entryID(links[i].Seq), links[i].Entry, links[i].Hash[:])
	}
	call := extendScript.call(ctx, []string{chainHeadKey(name), chainEntriesKey(name)}, args...)
	if err := s.lanes.commit(ctx, call); err != nil {
		if errors.Is(err, errClosed) {
			return unavailable(err)
		}
		return unknownOutcome(call, err)
	}
	switch done, err := call.Int64(); {
	case err == nil && done == 1:
		return nil
	case err == nil && done == -1:
		return fmt.Errorf("%w: %s holds entries after its end", trail.ErrForged, name)
	case err == nil || redis.HasErrorPrefix(err, "TRYAGAIN"):
		return conflict(call)
	case refused(err) || notSent(err):
		return failed(call)
	default:
		return unknownOutcome(call, err)
	}
}

// Links implements trail.Journal. What is no entry is left out: the numbers tell.
func (s *Store) Links(ctx context.Context, name string, after uint64, limit int) ([]trail.Link, error) {
	messages, err := read(ctx, s, redis.NewXMessageSliceCmd, "xrange", chainEntriesKey(name), entryID(after+1), "+", "count", limit)
	if err != nil {
		return nil, err
	}
	links := make([]trail.Link, 0, len(messages))
	for _, m := range messages {
		number, _, _ := strings.Cut(m.ID, "-")
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		entry, _ := m.Values["e"].(string)
		hash, _ := m.Values["h"].(string)
		l := trail.Link{Seq: seq, Entry: []byte(entry)}
		copy(l.Hash[:], hash)
		links = append(links, l)
	}
	return links, nil
}

// Chains implements trail.Journal.
func (s *Store) Chains(ctx context.Context) ([]string, error) {
	return read(ctx, s, redis.NewStringSliceCmd, "smembers", chainsKey)
}

// leaseScript takes or renews a lease, by Redis's clock.
//
//	KEYS[1] lease
//	ARGV[1] now, or ''   ARGV[2] holder   ARGV[3] for how many ms
//
// It returns 1, or 0 if another holder has it. One that ends later than a lease that begins now
// was written by a clock that was ahead, as of a master before this one, and counts for nothing.
var leaseScript = newScript(timeOf + `
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until')
if lease[1] and lease[1] ~= ARGV[2] and tonumber(lease[2]) > now and (ARGV[3] == '0' or tonumber(lease[2]) <= now + ARGV[3]) then
	return 0
end
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'until', now + ARGV[3])
return 1
`)

// Lease implements trail.Journal.
func (s *Store) Lease(ctx context.Context, name, holder string, lease time.Duration) (bool, error) {
	return s.writeIf(ctx, leaseScript, []string{leaseKey(name)}, s.at(), holder, lease.Milliseconds())
}
