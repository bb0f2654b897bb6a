package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// Load implements service.Grants.
func (s *Store) Load(ctx context.Context, q service.Query) (service.Snapshot, error) {
	snap, err := s.find(ctx, service.Preparation{Query: q})
	if err != nil {
		return service.Snapshot{}, fmt.Errorf("loading a grant: %w", err)
	}
	return snap, nil
}

// Prepare implements service.Grants.
func (s *Store) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	snap, err := s.find(ctx, p)
	if err != nil {
		return service.Snapshot{}, fmt.Errorf("reading a grant and reserving beside it: %w", err)
	}
	return snap, nil
}

// find reads a grant and its facts, after it reserved what is to be reserved.
func (s *Store) find(ctx context.Context, q service.Preparation) (service.Snapshot, error) {
	if err := s.refuses(q.Parcel); err != nil {
		return service.Snapshot{}, err
	}
	var (
		grant   *redis.StringCmd
		archive *redis.StringCmd
		courier *redis.MapStringStringCmd
		account *redis.StringSliceCmd
		others  []*redis.StringCmd
		door    doorRead
		holder  *redis.StringCmd
	)
	err := s.repeatable(ctx, s.lanes.do, func() []redis.Cmder {
		cmds := make([]redis.Cmder, 0, 8)
		grant = redis.NewStringCmd(ctx, "get", grantKey(q.Parcel))
		cmds = append(cmds, grant)
		if q.Generation != 0 { // asked for in any case, so that the work tells nothing of the grant
			archive = redis.NewStringCmd(ctx, "get", archiveKey(q.Parcel, q.Generation))
			cmds = append(cmds, archive)
		}
		others = others[:0]
		for _, parcel := range q.Others {
			others = append(others, redis.NewStringCmd(ctx, "get", grantKey(parcel)))
			cmds = append(cmds, others[len(others)-1])
		}
		if g := q.Guess; g != nil && !g.Held {
			// Reserve before counting: then no two can overlook each other.
			key := budgetKey(g.Courier)
			cmds = append(cmds, redis.NewIntCmd(ctx, "rpush", key, guess(reserved, *g)), redis.NewBoolCmd(ctx, "expire", key, int64(budgetKept/time.Second)))
		}
		if q.Courier != nil {
			courier = redis.NewMapStringStringCmd(ctx, "hgetall", courierKey(*q.Courier))
			account = redis.NewStringSliceCmd(ctx, "lrange", budgetKey(*q.Courier), 0, -1)
			cmds = append(cmds, courier, account)
		}
		if q.Door != "" {
			door = s.doorCmds(ctx, q.Door)
			cmds = append(cmds, door.cmds()...)
		}
		if p := q.Permit; p != nil {
			holder = redis.NewStringCmd(ctx, "set", permitKey(p.Permit), permitEntry(p), "nx", "get", "ex", int64(permitAhead/time.Second))
			cmds = append(cmds, holder)
		}
		if q.Index != nil {
			cmds = append(cmds, s.indexCmds(ctx, q.Parcel, q.Index)...)
		}
		return cmds
	})
	if err != nil {
		return service.Snapshot{}, err
	}

	var snap service.Snapshot
	if stored, _ := grant.Bytes(); len(stored) > 0 {
		st, err := s.openStanding(q.Parcel, stored)
		if err != nil {
			return service.Snapshot{}, err
		}
		snap.Record, snap.Alias, snap.Version = st.Record, st.Alias, st.Version
	}
	for i, parcel := range q.Others {
		stored, _ := others[i].Bytes()
		st, err := s.openStanding(parcel, stored)
		if err != nil {
			return service.Snapshot{}, err
		}
		snap.Others = append(snap.Others, st)
	}
	if q.Courier != nil {
		if snap.Courier, err = parseCourier(*q.Courier, courier.Val()); err != nil {
			return service.Snapshot{}, err
		}
		if snap.Account, err = parseAccount(account.Val(), q.Guess); err != nil {
			return service.Snapshot{}, err
		}
	}
	if q.Door != "" {
		if snap.Door, err = s.openDoor(ctx, q.Door, door); err != nil {
			return service.Snapshot{}, err
		}
	}
	if q.Permit != nil { // SET NX GET answers with what stood there before
		snap.PermitHeld = errors.Is(holder.Err(), redis.Nil) || holder.Val() == permitEntry(q.Permit)
	}
	if newest := snap.Version.Generation(); q.Generation != 0 && q.Generation != newest {
		stored, _ := archive.Bytes()
		st, err := s.openStanding(q.Parcel, stored)
		if err != nil {
			return service.Snapshot{}, err
		}
		snap.Record, snap.Alias, snap.Version, snap.Archived = st.Record, st.Alias, st.Version, true
	}
	return snap, nil
}

// refuses is the error of a parcel whose partition is refused.
func (s *Store) refuses(parcel handoff.ParcelHash) error {
	if s.refused(parcel.Partition()) {
		return unavailable(storage.ErrPartitionRefused)
	}
	return nil
}

// keepFor is how many seconds from now something is kept that matters until a given
// instant. A late abort or a hold may come after it; retention then counts from now.
func (s *Store) keepFor(until, now handoff.Instant) int64 {
	const most = 500 * 24 * 3600 // the domain looks no further ahead
	return min(max(int64(until)-int64(now), 0), most) + int64(s.retention/time.Second)
}

// commitScript stores a grant if its version is still the expected one.
//
//	KEYS[1] grant   KEYS[2] log   KEYS[3] due   KEYS[4] mails
//	KEYS[5] archive for a next generation, or the carrier's count where ARGV[6] is given; a
//	        new generation counts nothing
//	ARGV[1] expected version, 8 bytes, or '' for none
//	ARGV[2] new value
//	ARGV[3] milliseconds until the grant may be forgotten
//	ARGV[4] when the grant is due, in seconds, or '' to take it off the schedule
//	ARGV[5] the grant's name on the schedule: each generation has its own
//	ARGV[6] the hour of a count, or '' for none   ARGV[7] the first hour that counts (hours up to
//	        a day before it are kept, for instances whose clocks are behind)
//	ARGV[8] wrong codes to add   ARGV[9] releases to add
//	ARGV[10] wrong codes that the partition must have, if any are added
//	ARGV[11] milliseconds until the count may be forgotten
//	ARGV[12] when the mail with a new code is late, in seconds, or '' for none   ARGV[13] its name
//	ARGV[14...] events, each before its urgency
//
// It returns the id of the last event, or 1 if there is none. If nothing was written it returns 0
// (another version), or -1 less the wrong codes that the partition has (another count). The checks
// come before the first write, because Lua never rolls back.
var commitScript = newScript(`
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
	return 0
end
local counts = ARGV[6] ~= ''
if counts and ARGV[8] ~= '0' then
	local wrong, all = 0, redis.call('HGETALL', KEYS[5])
	for i = 1, #all, 2 do
		local hour, kind = string.match(all[i], '^(%d+)(%a)$')
		if kind == 'w' and tonumber(hour) >= tonumber(ARGV[7]) then
			wrong = wrong + tonumber(all[i + 1])
		end
	end
	if wrong ~= tonumber(ARGV[10]) then
		return -1 - wrong
	end
end
if KEYS[5] and not counts then
	redis.call('RENAME', KEYS[1], KEYS[5])
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] == '' then
	redis.call('ZREM', KEYS[3], ARGV[5])
else
	redis.call('ZADD', KEYS[3], ARGV[4], ARGV[5])
end
if ARGV[12] ~= '' then
	redis.call('ZADD', KEYS[4], ARGV[12], ARGV[13])
end
if counts then
	local first = redis.call('HLEN', KEYS[5])
	if ARGV[8] ~= '0' then
		redis.call('HINCRBY', KEYS[5], ARGV[6] .. 'w', ARGV[8])
	end
	if ARGV[9] ~= '0' then
		redis.call('HINCRBY', KEYS[5], ARGV[6] .. 'r', ARGV[9])
	end
	if redis.call('HLEN', KEYS[5]) > first then
		for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
			if tonumber(string.sub(field, 1, -2)) < tonumber(ARGV[7]) - 24 then
				redis.call('HDEL', KEYS[5], field)
			end
		end
	end
	redis.call('PEXPIRE', KEYS[5], ARGV[11])
end
local last = 1
for i = 14, #ARGV, 2 do
	last = redis.call('XADD', KEYS[2], '*', 'e', ARGV[i], 'u', ARGV[i + 1])
end
return last
`)

// Commit implements service.Grants.
func (s *Store) Commit(ctx context.Context, c service.Change) error {
	g := &c.Record.Grant
	hash := g.ID.Hash
	if err := s.refuses(hash); err != nil {
		return err
	}
	value, err := s.sealRecord(hash, c.From.Next(g.ID.Generation), &c.Record)
	if err != nil {
		return err
	}
	keys := []string{grantKey(hash), logKey(hash.Partition()), dueKey(hash.Partition()), mailsKey(hash.Partition())}
	switch from := c.From.Generation(); {
	case c.Archived:
		keys[0] = archiveKey(hash, g.ID.Generation)
	case from != 0 && from != g.ID.Generation:
		keys = append(keys, archiveKey(hash, from))
	}
	due := ""
	if at := g.Due(); at != 0 {
		due = strconv.FormatInt(int64(at), 10)
	}
	args := make([]any, 0, 13+2*len(c.Events))
	until := g.Window.Until
	if c.Record.Alias != nil {
		until = c.Record.Alias.Until
	}
	args = append(args, versionBytes(c.From), value, s.keepFor(until, c.Now)*1000, due, g.ID.String())
	if n := c.Count; n != nil {
		keys = append(keys, carrierKey(hash.Partition(), n.Carrier))
		args = append(args, n.Hour, handoff.FirstHour(n.Hour), n.Wrong, n.Released, n.Before, carrierKept.Milliseconds())
	} else {
		args = append(args, "", "", "", "", "", "")
	}
	if a := c.Awaits; a != nil {
		args = append(args, int64(a.By), awaitedName(*a))
	} else {
		args = append(args, "", "")
	}
	var last []byte
	for i := range c.Events {
		if last, err = encodeEvent(&c.Events[i]); err != nil {
			return err
		}
		args = append(args, last, urgencyOf(&c.Events[i], g.Day()))
	}

	commit := commitScript.call(ctx, keys, args...)
	cmds := []redis.Cmder{commit}
	if c.Settle != nil && c.Settle.Counted {
		// From here on it is in doubt, if this process dies before counting it.
		cmds = append(cmds, redis.NewIntCmd(ctx, "rpush", budgetKey(c.Settle.Courier), said(doubtful, *c.Settle)))
	} else if c.Settle != nil {
		cmds = append(cmds, settleCmd(ctx, *c.Settle))
	}
	if p := c.Permit; p != nil { // it stands there already, but for a failover that lost it
		keep := int64(permitKept / time.Second)
		cmds = append(cmds,
			redis.NewStatusCmd(ctx, "set", permitKey(p.Permit), permitEntry(p), "nx", "ex", keep),
			redis.NewBoolCmd(ctx, "expire", permitKey(p.Permit), keep))
	}
	if err := s.lanes.commit(ctx, cmds...); err != nil {
		if errors.Is(err, errClosed) {
			return unavailable(err)
		}
		return unknownOutcome(commit, err)
	}
	id, stored, err := answerOf(commit)
	switch {
	case err == nil && stored == 1:
		if id != "" {
			n := len(c.Events)
			s.memory.note(hash.Partition(), Seen{ID: id, Sum: sumOf(last), Count: n, Of: about(&c.Events[n-1])})
		}
		if c.Settle != nil && c.Settle.Counted {
			// The courier is charged here when the commit is acknowledged, and by the service
			// (guesses.go, settle) when it is not. The budget lives in another slot, and may be
			// charged only for a commit that happened: a trip of its own, which the answer does
			// not wait for. Until then the guess keeps its place. If the trip fails, the guess
			// stays in doubt and counts.
			s.settling.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chargeWithin)
				defer cancel()
				_ = s.Settle(ctx, *c.Settle)
			})
		}
		return nil
	case err == nil && stored < 0:
		s.takeBackDoubt(ctx, c.Settle, cmds[1:])
		return &service.CountConflict{Wrong: int(-1 - stored)}
	case err == nil:
		s.takeBackDoubt(ctx, c.Settle, cmds[1:])
		return conflict(commit)
	case redis.HasErrorPrefix(err, "TRYAGAIN"): // its slot is being moved: nothing was written
		s.takeBackDoubt(ctx, c.Settle, cmds[1:])
		return conflict(commit)
	case refused(err) || notSent(err):
		s.takeBackDoubt(ctx, c.Settle, cmds[1:])
		return failed(commit)
	}
	return unknownOutcome(commit, err)
}

// answerOf is what commitScript returned: the last event's id, or a number.
func answerOf(commit *scriptCall) (id string, stored int64, err error) {
	if id, ok := commit.Val().(string); ok && commit.Err() == nil {
		return id, 1, nil
	}
	stored, err = commit.Int64()
	return "", stored, err
}

// takeBackDoubt removes the doubt that came with a commit that is now known to have
// written nothing, if it arrived: the account is in another slot, which may work where the
// grant's does not.
func (s *Store) takeBackDoubt(ctx context.Context, st *service.Settlement, beside []redis.Cmder) {
	if st == nil || !st.Counted || beside[0].Err() != nil {
		return
	}
	takeBack := line{"lrem", budgetKey(st.Courier), 0, said(doubtful, *st)}
	if ctx.Err() == nil && s.write(ctx, takeBack) == nil {
		return
	}
	s.settling.Go(func() { // the request's time is over
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
		defer cancel()
		_ = s.write(ctx, takeBack)
	})
}

const takeBackWithin = time.Second

// manyAtOnce bounds one pipeline of Many: a customer has few parcels, a route has some
// hundred.
const manyAtOnce = 256

// Many implements service.Grants.
func (s *Store) Many(ctx context.Context, ids []handoff.ParcelHash) ([]handoff.Grant, error) {
	grants := make([]handoff.Grant, 0, len(ids))
	for chunk := range slices.Chunk(ids, manyAtOnce) {
		var gets []line
		for _, id := range chunk {
			gets = append(gets, line{"get", grantKey(id)})
		}
		values, err := readEach(ctx, s, redis.NewStringCmd, gets...)
		if err != nil {
			return nil, err
		}
		for i, stored := range values {
			if stored == "" {
				continue
			}
			r, _, err := s.openRecord(chunk[i], []byte(stored))
			if err != nil {
				return nil, err
			}
			if r.Alias != nil { // the grant is found by its first parcel
				continue
			}
			if g := &r.Grant; g.Doubt == nil && s.refused(chunk[i].Partition()) { // in a list, it does not hold up the others
				g.Doubt, g.Status = &handoff.Doubt{From: g.Status}, handoff.Held
			}
			grants = append(grants, r.Grant)
		}
	}
	return grants, nil
}
