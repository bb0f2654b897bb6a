package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

const chargeWithin = 10 * time.Second

// A courier's budget is a list of guesses in the order in which they arrived, each a
// kind, the second of its time and its id, and of a wrong one to whom it was said, as
// handoff.ChargeName tells it: r1795518000.abc, c1795518000.abc.0f1e2d3c
const (
	counted  = 'c'
	excused  = 'x' // a counted one that was no guess
	reserved = 'r' // the request is under way
	doubtful = 'd' // a commit of a wrong code was sent; the reservation still stands beside it

	guessKinds = string(counted) + string(excused) + string(reserved) + string(doubtful)
)

func guess(kind byte, r service.Guess) string {
	b := append(make([]byte, 0, 48), kind)
	b = strconv.AppendInt(b, int64(r.At), 10)
	return string(append(append(b, '.'), r.ID...))
}

// said is a guess that was a wrong code, or may have been one.
func said(kind byte, s service.Settlement) string {
	if s.To == "" {
		return guess(kind, s.Guess)
	}
	return guess(kind, s.Guess) + "." + s.To
}

// parseAccount reads a budget, the guesses in flight only as far as the asker's own. A
// guess that stands there twice, since its first answer was lost, counts once. The kind is the
// format too: a guess of an unknown kind is refused.
func parseAccount(guesses []string, own *service.Guess) (handoff.Account, error) {
	var a handoff.Account
	var known []string
	passed := false
	for _, g := range guesses {
		at, rest, ok := strings.Cut(g[min(1, len(g)):], ".")
		when, err := strconv.ParseInt(at, 10, 64)
		switch {
		case !ok || err != nil || !strings.ContainsRune(guessKinds, rune(g[0])):
			return handoff.Account{}, fmt.Errorf("%w: courier's budget: a guess of an unknown kind or without a time", storage.ErrFormat)
		case g[0] == counted:
			a.Counted = append(a.Counted, handoff.Instant(when))
		case g[0] == excused:
			a.Excused = append(a.Excused, handoff.Instant(when))
		case g[0] == doubtful:
			a.Doubtful = append(a.Doubtful, handoff.Instant(when))
		case !passed && !slices.Contains(known, g):
			known = append(known, g)
			a.Reserved = append(a.Reserved, handoff.Instant(when))
			passed = own != nil && g == guess(reserved, *own)
			a.Placed = passed
		}
		if _, to, tells := strings.Cut(rest, "."); tells && err == nil && (g[0] == counted || g[0] == excused) {
			if a.By == nil {
				a.By = map[string][]handoff.Instant{}
			}
			a.By[to] = append(a.By[to], handoff.Instant(when))
		}
	}
	return a, nil
}

// countScript turns a reservation into a counted wrong code, once, and forgets what is
// too old to count. Counting comes before giving back: a reader in between sees one too
// many, never one too few.
//
//	KEYS[1] budget
//	ARGV[1] the reservation   ARGV[2] the guess as counted   ARGV[3] as in doubt
//	ARGV[4] the oldest second that is kept   ARGV[5] the same of an excused guess
//	ARGV[6] seconds until the budget may be forgotten
//
// It returns 1. It may be repeated.
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
func settleCmd(ctx context.Context, s service.Settlement) redis.Cmder {
	key, held := budgetKey(s.Courier), guess(reserved, s.Guess)
	if !s.Counted {
		return redis.NewIntCmd(ctx, "lrem", key, 0, held)
	}
	kind := byte(counted)
	if s.Excused {
		kind = excused
	}
	keep := int64(budgetKept / time.Second)
	return countScript.call(ctx, []string{key}, held, said(kind, s), said(doubtful, s),
		int64(s.At)-keep, int64(s.At)-int64(excusedKept/time.Second), keep)
}

// budgetKept and excusedKept are longer than a wrong code counts, which is the domain's to
// judge.
const (
	budgetKept  = 31 * 24 * time.Hour
	excusedKept = 48 * time.Hour
)

// Settle implements service.Guesses.
func (s *Store) Settle(ctx context.Context, st service.Settlement) error {
	err := s.repeatable(ctx, s.lanes.commit, func() []redis.Cmder { return []redis.Cmder{settleCmd(ctx, st)} })
	if err != nil {
		return fmt.Errorf("settling a guess in a courier's budget: %w", err)
	}
	return nil
}

// carrierKept is longer than an hour counts to a carrier's day, by a day for instances whose
// clocks are behind.
const carrierKept = 50 * time.Hour

// CarrierDay implements service.Guesses: one trip to all partitions.
func (s *Store) CarrierDay(ctx context.Context, carrier string, now handoff.Instant) (handoff.CarrierDay, error) {
	day := handoff.CarrierDay{Hour: handoff.HourOf(now)}
	var lines []line
	for p := range handoff.Partitions {
		lines = append(lines, line{"hgetall", carrierKey(p, carrier)})
	}
	parts, err := readEach(ctx, s, redis.NewMapStringStringCmd, lines...)
	if err != nil {
		return handoff.CarrierDay{}, fmt.Errorf("reading a carrier's counts: %w", err)
	}
	for p, part := range parts {
		for field, text := range part {
			n, err := strconv.Atoi(text)
			hour, kind, ok := hourOf(field)
			switch {
			case err != nil || !ok:
				return handoff.CarrierDay{}, fmt.Errorf("%w: the wrong codes of a carrier in partition %d: no hour or no number", storage.ErrFormat, p)
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
