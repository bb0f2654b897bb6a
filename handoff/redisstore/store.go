// Package redisstore keeps Latchkey's grants in Redis: single, Sentinel or Cluster.
//
// A request waits for Redis twice: once to read the grant and all facts in one
// pipeline, once for the script that commits (see the contract in handoff.Store).
// Concurrent callers share pipelines ([lanes]), since on one machine the cost is
// system calls and not rules. The rules live in Go; Redis compares a version.
package redisstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// Store is a handoff.Store on Redis.
type Store struct {
	client    redis.UniversalClient
	lanes     *lanes
	sealer    Sealer
	retention time.Duration

	buildings sync.Map       // door id -> building id, which never changes
	settling  sync.WaitGroup // wrong codes being counted behind their answers
}

var _ handoff.Store = (*Store)(nil)

// Config is what a Store is made of.
type Config struct {
	Client redis.UniversalClient
	Sealer Sealer

	// Retention is how long a grant and its events are kept after its window is over.
	Retention time.Duration

	// Lanes is how many pipelines concurrent callers share; 0 gives each its own.
	Lanes int
}

// New makes a Store. The caller keeps the client and closes it after the Store.
func New(c Config) (*Store, error) {
	if c.Client == nil || c.Sealer == nil || c.Retention <= 0 || c.Lanes < 0 {
		return nil, errors.New("redisstore: needs a client, a sealer, a retention and lanes of 0 or more")
	}
	return &Store{client: c.Client, lanes: newLanes(c.Client, c.Lanes), sealer: c.Sealer, retention: c.Retention}, nil
}

// Close finishes what is under way and refuses the rest.
func (s *Store) Close() {
	s.settling.Wait()
	s.lanes.close()
}

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error { return unavailable(s.client.Ping(ctx).Err()) }

// readTries is how often a read is sent: reading again is harmless, and go-redis does
// not do it for a pipeline that also carries somebody's commit.
const readTries = 3

// read runs commands that may be repeated; build makes them anew for each try. An
// error of the connection is tried again, an error reply is not.
func (s *Store) read(ctx context.Context, build func() []redis.Cmder) error {
	var err error
	for range readTries {
		cmds := build()
		if err = s.lanes.do(ctx, cmds...); err != nil {
			return unavailable(err) // gone or closing: nobody waits for a second try
		}
		err = nil
		for _, cmd := range cmds {
			if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) {
				err = e
			}
		}
		if err == nil || isReply(err) || ctx.Err() != nil {
			break
		}
	}
	return unavailable(err)
}

// script runs a script that may be repeated.
func (s *Store) script(ctx context.Context, build func() *scriptCall) (any, error) {
	var call *scriptCall
	err := s.read(ctx, func() []redis.Cmder {
		call = build()
		return []redis.Cmder{call}
	})
	if err != nil {
		return nil, err
	}
	return call.Val(), nil
}

func unavailable(err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	return fmt.Errorf("%w: %w", handoff.ErrUnavailable, err)
}

// isReply reports whether err is Redis's own answer, which says that a command was
// refused, and not a fault on the way, after which it may have run.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// Load implements handoff.Grants.
func (s *Store) Load(ctx context.Context, q handoff.Query) (handoff.Snapshot, error) {
	var (
		grant   *redis.StringCmd
		archive *redis.StringCmd
		courier *redis.MapStringStringCmd
		account *redis.StringSliceCmd
		door    doorRead
		claim   *redis.StringCmd
	)
	err := s.read(ctx, func() []redis.Cmder {
		cmds := make([]redis.Cmder, 0, 8)
		grant = redis.NewStringCmd(ctx, "get", grantKey(q.Parcel))
		cmds = append(cmds, grant)
		if q.Generation != 0 { // asked for in any case, so that the work tells nothing of the grant
			archive = redis.NewStringCmd(ctx, "get", archiveKey(q.Parcel, q.Generation))
			cmds = append(cmds, archive)
		}
		if r := q.Reservation; r != nil && !r.Held {
			// Reserve before counting: then no two can overlook each other.
			key := budgetKey(r.Courier)
			cmds = append(cmds, redis.NewIntCmd(ctx, "rpush", key, guess(reserved, *r)), redis.NewBoolCmd(ctx, "expire", key, int64(budgetKept/time.Second)))
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
			claim = redis.NewStringCmd(ctx, "set", permitKey(p.Permit), permitEntry(p), "nx", "get", "ex", int64(permitAhead/time.Second))
			cmds = append(cmds, claim)
		}
		return append(cmds, s.indexCmds(ctx, q)...)
	})
	if err != nil {
		return handoff.Snapshot{}, err
	}

	var snap handoff.Snapshot
	if stored, _ := grant.Bytes(); len(stored) > 0 {
		if snap.Record, snap.Version, err = s.openRecord(q.Parcel, stored); err != nil {
			return handoff.Snapshot{}, err
		}
	}
	if q.Courier != nil {
		snap.Courier = parseCourier(*q.Courier, courier.Val())
		snap.Account = parseAccount(account.Val(), q.Reservation)
	}
	if q.Door != "" {
		if snap.Door, err = s.openDoor(ctx, q.Door, door); err != nil {
			return handoff.Snapshot{}, err
		}
	}
	if q.Permit != nil { // SET NX GET answers with what stood there before
		snap.Claimed = errors.Is(claim.Err(), redis.Nil) || claim.Val() == permitEntry(q.Permit)
	}
	if newest := snap.Version.Generation(); q.Generation != 0 && q.Generation != newest {
		snap.Record, snap.Version, snap.Archived = nil, 0, true
		if stored, _ := archive.Bytes(); len(stored) > 0 {
			snap.Record, snap.Version, err = s.openRecord(q.Parcel, stored)
		}
	}
	return snap, err
}

// keepFor is how many seconds from now something is kept that matters until a given
// instant. A late abort or a hold may come after it; retention then counts from now.
func (s *Store) keepFor(until, now handoff.Instant) int64 {
	const most = 500 * 24 * 3600 // the domain looks no further ahead
	return min(max(int64(until)-int64(now), 0), most) + int64(s.retention/time.Second)
}

// indexCmds write where a grant will be found, ahead of its commit: an entry without a
// grant is skipped by readers, a grant without an entry would be lost to its customer.
func (s *Store) indexCmds(ctx context.Context, q handoff.Query) []redis.Cmder {
	x := q.Index
	if x == nil {
		return nil
	}
	keep := s.keepFor(x.Until, x.Now)
	oldest := int64(x.Now) - int64(s.retention/time.Second)
	customer, route := customerKey(x.Customer), routeGrantsKey(x.Route)
	cmds := []redis.Cmder{
		redis.NewIntCmd(ctx, "zadd", customer, "gt", int64(x.Until), string(q.Parcel)),
		redis.NewIntCmd(ctx, "zremrangebyscore", customer, "-inf", "("+strconv.FormatInt(oldest, 10)),
		// A key without a TTL counts as endless for GT, hence both.
		redis.NewBoolCmd(ctx, "expire", customer, keep, "nx"),
		redis.NewBoolCmd(ctx, "expire", customer, keep, "gt"),
		redis.NewIntCmd(ctx, "zadd", route, "gt", int64(x.Until), string(q.Parcel)),
		redis.NewBoolCmd(ctx, "expire", route, keep),
	}
	if x.Order != (handoff.OrderRef{}) {
		orders, hash := ordersKey(x.Order), q.Parcel.Bytes()
		cmds = append(cmds, redis.NewIntCmd(ctx, "hset", orders, string(x.Order.Name[:])+string(hash), ""), redis.NewBoolCmd(ctx, "expire", orders, keep))
	}
	return cmds
}

// OfOrder implements handoff.Grants.
func (s *Store) OfOrder(ctx context.Context, o handoff.OrderRef) ([]handoff.ParcelHash, error) {
	var fields *redis.StringSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		fields = redis.NewStringSliceCmd(ctx, "hkeys", ordersKey(o))
		return []redis.Cmder{fields}
	})
	if err != nil {
		return nil, err
	}
	var list []handoff.ParcelHash
	for _, field := range fields.Val() {
		if hash, ok := strings.CutPrefix(field, string(o.Name[:])); ok {
			list = append(list, handoff.ParcelHash(hex.EncodeToString([]byte(hash))))
		}
	}
	return list, nil
}

// commitScript stores a grant if its version is still the expected one.
//
//	KEYS[1] grant   KEYS[2] log   KEYS[3] due
//	KEYS[4] archive for a next generation, or the carrier's count where ARGV[6] is given; a
//	        new generation counts nothing
//	ARGV[1] expected version, 8 bytes, or '' for none
//	ARGV[2] new value
//	ARGV[3] milliseconds until the grant may be forgotten
//	ARGV[4] when the grant is due, in seconds, or '' to take it off the schedule
//	ARGV[5] the grant's name on the schedule: each generation has its own
//	ARGV[6] the hour of a count, or '' for none   ARGV[7] the first hour that counts
//	ARGV[8] wrong codes to add   ARGV[9] releases to add
//	ARGV[10] wrong codes that the partition must have, if any are added
//	ARGV[11] milliseconds until the count may be forgotten
//	ARGV[12...] events
//
// It returns 1, or 0 if the version or the count is another; then nothing was written. The check
// comes before the first write, because Lua never rolls back.
var commitScript = newScript(`
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
	return 0
end
local counts = ARGV[6] ~= ''
if counts and ARGV[8] ~= '0' then
	local wrong, all = 0, redis.call('HGETALL', KEYS[4])
	for i = 1, #all, 2 do
		local hour, kind = string.match(all[i], '^(%d+)(%a)$')
		if kind == 'w' and tonumber(hour) >= tonumber(ARGV[7]) then
			wrong = wrong + tonumber(all[i + 1])
		end
	end
	if wrong ~= tonumber(ARGV[10]) then
		return 0
	end
end
if KEYS[4] and not counts then
	redis.call('RENAME', KEYS[1], KEYS[4])
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] == '' then
	redis.call('ZREM', KEYS[3], ARGV[5])
else
	redis.call('ZADD', KEYS[3], ARGV[4], ARGV[5])
end
if counts then
	local first = redis.call('HLEN', KEYS[4])
	if ARGV[8] ~= '0' then
		redis.call('HINCRBY', KEYS[4], ARGV[6] .. 'w', ARGV[8])
	end
	if ARGV[9] ~= '0' then
		redis.call('HINCRBY', KEYS[4], ARGV[6] .. 'r', ARGV[9])
	end
	if redis.call('HLEN', KEYS[4]) > first then
		for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
			if tonumber(string.sub(field, 1, -2)) < tonumber(ARGV[7]) then
				redis.call('HDEL', KEYS[4], field)
			end
		end
	end
	redis.call('PEXPIRE', KEYS[4], ARGV[11])
end
for i = 12, #ARGV do
	redis.call('XADD', KEYS[2], '*', 'e', ARGV[i])
end
return 1
`)

// Commit implements handoff.Grants.
func (s *Store) Commit(ctx context.Context, c handoff.Change) error {
	g := &c.Record.Grant
	hash := g.ID.Hash
	value, err := s.sealRecord(hash, c.From.Next(g.ID.Generation), &c.Record)
	if err != nil {
		return err
	}
	keys := []string{grantKey(hash), logKey(hash.Partition()), dueKey(hash.Partition())}
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
	args := make([]any, 0, 11+len(c.Events))
	args = append(args, versionBytes(c.From), value, s.keepFor(g.Window.Until, c.Now)*1000, due, g.ID.String())
	if n := c.Count; n != nil {
		keys = append(keys, carrierKey(hash.Partition(), n.Carrier))
		args = append(args, n.Hour, handoff.FirstHour(n.Hour), n.Wrong, n.Released, n.Seen, carrierKept.Milliseconds())
	} else {
		args = append(args, "", "", "", "", "", "")
	}
	for i := range c.Events {
		e, err := encodeEvent(&c.Events[i])
		if err != nil {
			return err
		}
		args = append(args, e)
	}

	commit := commitScript.call(ctx, keys, args...)
	cmds := []redis.Cmder{commit}
	if c.Settle != nil && c.Settle.Counted {
		// Should nobody come to count it, it is in doubt from here on.
		cmds = append(cmds, redis.NewIntCmd(ctx, "rpush", budgetKey(c.Settle.Courier), guess(doubtful, c.Settle.Reservation)))
	} else if c.Settle != nil {
		cmds = append(cmds, settleCmd(ctx, *c.Settle))
	}
	if p := c.Permit; p != nil { // it stands there already, but for a failover that lost it
		keep := int64(permitKept / time.Second)
		cmds = append(cmds,
			redis.NewStatusCmd(ctx, "set", permitKey(p.Permit), permitEntry(p), "nx", "ex", keep),
			redis.NewBoolCmd(ctx, "expire", permitKey(p.Permit), keep))
	}
	if err := s.lanes.do(ctx, cmds...); err != nil {
		if errors.Is(err, errClosed) {
			return unavailable(err)
		}
		return handoff.ErrUnknownOutcome
	}
	stored, err := commit.Int64()
	switch {
	case err == nil && stored == 1:
		if c.Settle != nil && c.Settle.Counted {
			// The account lives in another slot, and may be charged only for a commit that
			// happened: a trip of its own, for which nobody waits. Until it is made the guess
			// keeps its place, and should it fail, the guess stays in doubt and counts.
			s.settling.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
				defer cancel()
				_ = s.Settle(ctx, *c.Settle)
			})
		}
		return nil
	case err == nil || redis.HasErrorPrefix(err, "TRYAGAIN"): // its slot is being moved: nothing was written
		s.undoubt(ctx, c.Settle, cmds[1:])
		return handoff.ErrConflict
	case refused(err) || notSent(err):
		s.undoubt(ctx, c.Settle, cmds[1:])
		return unavailable(err)
	}
	return handoff.ErrUnknownOutcome
}

// undoubt takes back the doubt that came with a commit of which it is now known that it
// wrote nothing, if it arrived: the account is in another slot, which may work where the
// grant's does not.
func (s *Store) undoubt(ctx context.Context, st *handoff.Settlement, beside []redis.Cmder) {
	if st == nil || !st.Counted || beside[0].Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoubtWithin)
	defer cancel()
	_ = s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{redis.NewIntCmd(ctx, "lrem", budgetKey(st.Courier), 0, guess(doubtful, st.Reservation))}
	})
}

const undoubtWithin = time.Second

// refused reports whether Redis answered that it did not run the script. MOVED and ASK
// do not say so, though they read like it: go-redis leaves a redirect in place when the
// command was then sent to the other node and the connection broke.
func refused(err error) bool {
	return slices.ContainsFunc([]string{
		"NOSCRIPT", "READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "OOM", "MISCONF", "BUSY", "NOAUTH", "NOPERM",
	}, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

const settleWithin = 10 * time.Second

// notSent reports whether no connection was to be had, so that nothing went out.
func notSent(err error) bool {
	var op *net.OpError
	return errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, redis.ErrClosed) ||
		errors.As(err, &op) && op.Op == "dial"
}

// A courier's budget is a list of guesses in the order in which they arrived, each a
// kind, the second of its time and a token: r1795518000.abc
const (
	counted  = 'c'
	excused  = 'x' // a counted one that was no guess
	reserved = 'r'
	doubtful = 'd' // a commit of a wrong code was sent; the reservation still stands beside it
)

func guess(kind byte, r handoff.Reservation) string {
	b := append(make([]byte, 0, 32), kind)
	b = strconv.AppendInt(b, int64(r.At), 10)
	return string(append(append(b, '.'), r.Token...))
}

// parseAccount reads a budget, the guesses in flight only as far as the asker's own. A
// guess that stands there twice, since its first answer was lost, counts once.
func parseAccount(guesses []string, own *handoff.Reservation) handoff.Account {
	var a handoff.Account
	var seen []string
	passed := false
	for _, g := range guesses {
		at, _, ok := strings.Cut(g[min(1, len(g)):], ".")
		when, err := strconv.ParseInt(at, 10, 64)
		switch {
		case !ok || err != nil:
		case g[0] == counted:
			a.Counted = append(a.Counted, handoff.Instant(when))
		case g[0] == excused:
			a.Excused = append(a.Excused, handoff.Instant(when))
		case g[0] == doubtful:
			a.Doubtful = append(a.Doubtful, handoff.Instant(when))
		case !passed && !slices.Contains(seen, g):
			seen = append(seen, g)
			a.Reserved = append(a.Reserved, handoff.Instant(when))
			passed = own != nil && g == guess(reserved, *own)
			a.Placed = passed
		}
	}
	return a
}

// countScript turns a reservation into a counted wrong code, once, and forgets what is
// too old to count. Counting comes before giving back: whoever reads in between sees one
// too many, never one too few.
//
//	KEYS[1] budget
//	ARGV[1] the reservation   ARGV[2] the guess as counted   ARGV[3] as in doubt
//	ARGV[4] the oldest second that is kept   ARGV[5] the same of an excused guess
//	ARGV[6] seconds until the budget may be forgotten
var countScript = newScript(`
local known = false
for _, g in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
	if g == ARGV[2] then
		known = true
	elseif tonumber(string.match(g, '^.(%d+)%.') or 0) < tonumber(string.sub(g, 1, 1) == 'x' and ARGV[5] or ARGV[4]) then
		redis.call('LREM', KEYS[1], 0, g)
	end
end
if not known then
	redis.call('RPUSH', KEYS[1], ARGV[2])
end
redis.call('LREM', KEYS[1], 0, ARGV[1])
redis.call('LREM', KEYS[1], 0, ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[6])
return 1
`)

// settleCmd counts a reservation as a wrong code, or gives it back.
func settleCmd(ctx context.Context, s handoff.Settlement) redis.Cmder {
	key, held := budgetKey(s.Courier), guess(reserved, s.Reservation)
	if !s.Counted {
		return redis.NewIntCmd(ctx, "lrem", key, 0, held)
	}
	kind := byte(counted)
	if s.Excused {
		kind = excused
	}
	keep := int64(budgetKept / time.Second)
	return countScript.call(ctx, []string{key}, held, guess(kind, s.Reservation), guess(doubtful, s.Reservation),
		int64(s.At)-keep, int64(s.At)-int64(excusedKept/time.Second), keep)
}

// budgetKept and excusedKept are longer than a wrong code counts, which is the domain's to
// judge.
const (
	budgetKept  = 31 * 24 * time.Hour
	excusedKept = 48 * time.Hour
)

// Settle implements handoff.Grants.
func (s *Store) Settle(ctx context.Context, st handoff.Settlement) error {
	return s.read(ctx, func() []redis.Cmder { return []redis.Cmder{settleCmd(ctx, st)} })
}

// carrierKept is longer than an hour counts to a carrier's day.
const carrierKept = 26 * time.Hour

// CarrierDay implements handoff.Grants: one trip to all partitions.
func (s *Store) CarrierDay(ctx context.Context, carrier string, now handoff.Instant) (handoff.CarrierDay, error) {
	day := handoff.CarrierDay{Hour: handoff.HourOf(now)}
	var parts [handoff.Partitions]*redis.MapStringStringCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmds := make([]redis.Cmder, len(parts))
		for p := range parts {
			parts[p] = redis.NewMapStringStringCmd(ctx, "hgetall", carrierKey(p, carrier))
			cmds[p] = parts[p]
		}
		return cmds
	})
	if err != nil {
		return handoff.CarrierDay{}, err
	}
	for p, part := range parts {
		for field, text := range part.Val() {
			n, err := strconv.Atoi(text)
			hour, kind, ok := hourOf(field)
			switch {
			case err != nil || !ok:
				return handoff.CarrierDay{}, fmt.Errorf("redisstore: the count of a carrier in partition %d is none", p)
			case hour < handoff.FirstHour(day.Hour):
			case kind == 'w':
				day.Wrong[p] += n
			default:
				day.Released += n
			}
		}
	}
	return day, nil
}

func hourOf(field string) (hour int64, kind byte, ok bool) {
	if field == "" {
		return 0, 0, false
	}
	last := len(field) - 1
	hour, err := strconv.ParseInt(field[:last], 10, 64)
	return hour, field[last], err == nil
}

// manyAtOnce bounds one pipeline of Many: a customer has few parcels, a route has some
// hundred.
const manyAtOnce = 256

// Many implements handoff.Grants.
func (s *Store) Many(ctx context.Context, ids []handoff.ParcelHash) ([]handoff.Grant, error) {
	grants := make([]handoff.Grant, 0, len(ids))
	for chunk := range slices.Chunk(ids, manyAtOnce) {
		var gets []redis.Cmder
		err := s.read(ctx, func() []redis.Cmder {
			gets = gets[:0]
			for _, id := range chunk {
				gets = append(gets, redis.NewStringCmd(ctx, "get", grantKey(id)))
			}
			return slices.Clone(gets)
		})
		if err != nil {
			return nil, err
		}
		for i, cmd := range gets {
			stored, _ := cmd.(*redis.StringCmd).Bytes()
			if len(stored) == 0 {
				continue
			}
			r, _, err := s.openRecord(chunk[i], stored)
			if err != nil {
				return nil, err
			}
			grants = append(grants, r.Grant)
		}
	}
	return grants, nil
}

// OfCustomer implements handoff.Grants. A set sorts members of one score by their bytes.
func (s *Store) OfCustomer(ctx context.Context, c handoff.CustomerRef, after handoff.Listed, limit int) ([]handoff.Listed, error) {
	from := "+inf"
	if after != (handoff.Listed{}) {
		from = strconv.FormatInt(int64(after.Until), 10)
	}
	var list []handoff.Listed
	for read := 0; ; { // those of the same end that were listed before are read over
		var cmd *redis.ZSliceCmd
		err := s.read(ctx, func() []redis.Cmder {
			cmd = redis.NewZSliceCmd(ctx, "zrange", customerKey(c), from, "-inf", "byscore", "rev", "limit", read, limit, "withscores")
			return []redis.Cmder{cmd}
		})
		if err != nil {
			return nil, err
		}
		for _, z := range cmd.Val() {
			member, _ := z.Member.(string)
			l := handoff.Listed{Parcel: handoff.ParcelHash(member), Until: handoff.Instant(z.Score)}
			if from == "+inf" || l.Until < after.Until || l.Parcel < after.Parcel {
				list = append(list, l)
			}
		}
		read += len(cmd.Val())
		if len(list) >= limit || len(cmd.Val()) < limit {
			return list[:min(limit, len(list))], nil
		}
	}
}

// OnRoute implements handoff.Grants.
func (s *Store) OnRoute(ctx context.Context, r handoff.RouteRef) ([]handoff.ParcelHash, error) {
	return s.hashes(ctx, "zrange", routeGrantsKey(r), 0, listed-1)
}

// listed bounds a list: no van has so many parcels.
const listed = 2000

// Due implements handoff.Grants.
func (s *Store) Due(ctx context.Context, partition int, now handoff.Instant, limit int) ([]handoff.GrantID, error) {
	members, err := s.members(ctx, "zrangebyscore", dueKey(partition), "-inf", int64(now), "limit", 0, limit)
	if err != nil {
		return nil, err
	}
	due := make([]handoff.GrantID, 0, len(members))
	for _, member := range members {
		id, err := handoff.ParseGrantID(member)
		if err != nil {
			return nil, fmt.Errorf("redisstore: the schedule of partition %d: %w", partition, err)
		}
		due = append(due, id)
	}
	return due, nil
}

func (s *Store) members(ctx context.Context, args ...any) ([]string, error) {
	var cmd *redis.StringSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewStringSliceCmd(ctx, args...)
		return []redis.Cmder{cmd}
	})
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

func (s *Store) hashes(ctx context.Context, args ...any) ([]handoff.ParcelHash, error) {
	members, err := s.members(ctx, args...)
	if err != nil {
		return nil, err
	}
	hashes := make([]handoff.ParcelHash, 0, len(members))
	for _, member := range members {
		hashes = append(hashes, handoff.ParcelHash(member))
	}
	return hashes, nil
}

// Unschedule implements handoff.Grants.
func (s *Store) Unschedule(ctx context.Context, id handoff.GrantID) error {
	return s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{redis.NewIntCmd(ctx, "zrem", dueKey(id.Hash.Partition()), id.String())}
	})
}

// Unlist implements handoff.Grants.
func (s *Store) Unlist(ctx context.Context, c handoff.CustomerRef, id handoff.ParcelHash) error {
	return s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{redis.NewIntCmd(ctx, "zrem", customerKey(c), string(id))}
	})
}
