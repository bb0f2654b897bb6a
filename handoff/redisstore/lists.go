package redisstore

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// indexCmds write where a grant will be found, ahead of its commit: an entry without a
// grant is skipped by readers, a grant without an entry would be lost to its customer.
func (s *Store) indexCmds(ctx context.Context, parcel handoff.ParcelHash, x *service.Index) []redis.Cmder {
	keep := s.keepFor(x.Until, x.Now)
	oldest := int64(x.Now) - int64(s.retention/time.Second)
	customer, route := customerKey(x.Customer), routeGrantsKey(x.Route)
	cmds := []redis.Cmder{
		redis.NewIntCmd(ctx, "zadd", customer, "gt", int64(x.Until), string(parcel)),
		redis.NewIntCmd(ctx, "zremrangebyscore", customer, "-inf", "("+strconv.FormatInt(oldest, 10)),
		// A key without a TTL counts as endless for GT, hence both.
		redis.NewBoolCmd(ctx, "expire", customer, keep, "nx"),
		redis.NewBoolCmd(ctx, "expire", customer, keep, "gt"),
		redis.NewIntCmd(ctx, "zadd", route, "gt", int64(x.Until), string(parcel)),
		redis.NewBoolCmd(ctx, "expire", route, keep),
	}
	if x.Order != (service.OrderRef{}) {
		orders, hash := ordersKey(x.Order), parcel.Bytes()
		cmds = append(cmds, redis.NewIntCmd(ctx, "hset", orders, string(x.Order.Name[:])+string(hash), ""), redis.NewBoolCmd(ctx, "expire", orders, keep))
	}
	return cmds
}

// List implements service.Lists.
func (s *Store) List(ctx context.Context, parcel handoff.ParcelHash, x service.Index) error {
	return s.repeatable(ctx, s.lanes.commit, func() []redis.Cmder { return s.indexCmds(ctx, parcel, &x) })
}

// OfOrder implements service.Lists.
func (s *Store) OfOrder(ctx context.Context, o service.OrderRef) ([]handoff.ParcelHash, error) {
	fields, err := read(ctx, s, redis.NewStringSliceCmd, "hkeys", ordersKey(o))
	if err != nil {
		return nil, err
	}
	var list []handoff.ParcelHash
	for _, field := range fields {
		if hash, ok := strings.CutPrefix(field, string(o.Name[:])); ok {
			list = append(list, handoff.ParcelHash(hex.EncodeToString([]byte(hash))))
		}
	}
	return list, nil
}

// OfCustomer implements service.Lists. A set sorts members of one score by their bytes.
func (s *Store) OfCustomer(ctx context.Context, c handoff.CustomerRef, after service.Listed, limit int) ([]service.Listed, error) {
	from := "+inf"
	if after != (service.Listed{}) {
		from = strconv.FormatInt(int64(after.Until), 10)
	}
	var list []service.Listed
	for passed := 0; ; { // those of the same end that were listed before are read over
		page, err := read(ctx, s, redis.NewZSliceCmd, "zrange", customerKey(c), from, "-inf", "byscore", "rev", "limit", passed, limit, "withscores")
		if err != nil {
			return nil, err
		}
		for _, z := range page {
			member, _ := z.Member.(string)
			l := service.Listed{Parcel: handoff.ParcelHash(member), Until: handoff.Instant(z.Score)}
			if from == "+inf" || l.Until < after.Until || l.Parcel < after.Parcel {
				list = append(list, l)
			}
		}
		passed += len(page)
		if len(list) >= limit || len(page) < limit {
			return list[:min(limit, len(list))], nil
		}
	}
}

// OnRoute implements service.Lists.
func (s *Store) OnRoute(ctx context.Context, r service.RouteRef) ([]handoff.ParcelHash, error) {
	members, err := read(ctx, s, redis.NewStringSliceCmd, "zrange", routeGrantsKey(r), 0, listed-1)
	if err != nil {
		return nil, err
	}
	hashes := make([]handoff.ParcelHash, 0, len(members))
	for _, member := range members {
		hashes = append(hashes, handoff.ParcelHash(member))
	}
	return hashes, nil
}

// listed bounds a list: no van has so many parcels.
const listed = 2000

// Due implements service.Schedule.
func (s *Store) Due(ctx context.Context, partition int, now handoff.Instant, limit int) ([]handoff.GrantID, error) {
	if s.refused(partition) {
		return nil, nil
	}
	members, err := read(ctx, s, redis.NewStringSliceCmd, "zrangebyscore", dueKey(partition), "-inf", int64(now), "limit", 0, limit)
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

// Unschedule implements service.Schedule.
func (s *Store) Unschedule(ctx context.Context, id handoff.GrantID) error {
	return s.write(ctx, line{"zrem", dueKey(id.Hash.Partition()), id.String()})
}

// Unlist implements service.Lists.
func (s *Store) Unlist(ctx context.Context, c handoff.CustomerRef, id handoff.ParcelHash) error {
	return s.write(ctx, line{"zrem", customerKey(c), string(id)})
}
