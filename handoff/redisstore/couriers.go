package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

func formatLastDoor(l handoff.LastDoor) string {
	return plainFormat + fmt.Sprintf("%d %d %d", l.At, l.Place.Lat, l.Place.Lon)
}

// parseLastDoor reads it; nil where there is none. One that cannot be read is an error and not
// none: the way from it could not be judged.
func parseLastDoor(text string) (*handoff.LastDoor, error) {
	if text == "" {
		return nil, nil
	}
	const kind = "courier's last door"
	said, err := plain(kind, text)
	if err != nil {
		return nil, err
	}
	l := new(handoff.LastDoor)
	if n, _ := fmt.Sscanf(said, "%d %d %d", &l.At, &l.Place.Lat, &l.Place.Lon); n != 3 {
		return nil, fmt.Errorf("%w: %s: not a second and a place", storage.ErrFormat, kind)
	}
	return l, nil
}

// lastDoorScript notes a courier's last door.
//
//	KEYS[1] courier
//	ARGV[1] the last door that was read, or '' for none   ARGV[2] the new one
//
// It returns 1, or 0 if the last door is another or the courier is not known. It may be repeated.
var lastDoorScript = newScript(`
local last = redis.call('HGET', KEYS[1], 'door') or ''
if last == ARGV[2] then
	return 1
end
if last ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then
	return 0
end
redis.call('HSET', KEYS[1], 'door', ARGV[2])
return 1
`)

// MoveLastDoor implements service.LastDoors.
func (s *Store) MoveLastDoor(ctx context.Context, courier handoff.CourierRef, from *handoff.LastDoor, to handoff.LastDoor) (bool, error) {
	before := ""
	if from != nil {
		before = formatLastDoor(*from)
	}
	return s.writeIf(ctx, lastDoorScript, []string{courierKey(courier)}, before, formatLastDoor(to))
}

// The fields of a courier's hash. Routes are fields of their own, d:DATE/ROUTE, so that
// two dispatchers who assign two routes at once do not undo each other.
const (
	fieldName      = "name" // sealed
	fieldCleared   = "cleared"
	fieldSuspended = "suspended"
	fieldSignedOut = "out"  // format, second
	fieldLastDoor  = "door" // format, second, latitude and longitude in millionths of a degree
	fieldDrive     = "d:"
)

// parseCourier reads all of a courier but the name, which no decision needs.
func parseCourier(ref handoff.CourierRef, fields map[string]string) (*handoff.Courier, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	c := &handoff.Courier{CourierRef: ref, Suspended: fields[fieldSuspended] != ""}
	if t, err := strconv.ParseInt(fields[fieldCleared], 10, 64); err == nil {
		c.ClearedUntil = handoff.Instant(t)
	}
	var err error
	if c.SignedOut, err = parseSignedOut(fields[fieldSignedOut]); err != nil {
		return nil, err
	}
	if c.LastDoor, err = parseLastDoor(fields[fieldLastDoor]); err != nil {
		return nil, err
	}
	for field := range fields {
		day, route, ok := strings.Cut(strings.TrimPrefix(field, fieldDrive), "/")
		if !ok || !strings.HasPrefix(field, fieldDrive) {
			continue
		}
		if d, err := handoff.ParseDate(day); err == nil {
			c.Drives = append(c.Drives, handoff.Drive{Day: d, Route: route})
		}
	}
	return c, nil
}

func driveField(r service.RouteRef) string { return fieldDrive + r.Day.String() + "/" + r.Route }

// Courier implements service.Couriers.
func (s *Store) Courier(ctx context.Context, ref handoff.CourierRef) (*handoff.Courier, error) {
	fields, err := read(ctx, s, redis.NewMapStringStringCmd, "hgetall", courierKey(ref))
	if err != nil {
		return nil, err
	}
	c, err := parseCourier(ref, fields)
	if err != nil {
		return nil, err
	}
	if sealed := fields[fieldName]; sealed != "" {
		name, err := s.unsealBytes("courier's name", []byte(sealed), []byte(courierKey(ref)))
		if err != nil {
			return nil, err
		}
		c.Name = string(name)
	}
	return c, nil
}

// PutCourier implements service.Couriers.
func (s *Store) PutCourier(ctx context.Context, ref handoff.CourierRef, u service.CourierUpdate) error {
	set := line{"hset", courierKey(ref)}
	if u.Name != nil {
		sealed, err := s.sealBytes("courier's name", []byte(*u.Name), []byte(courierKey(ref)))
		if err != nil {
			return err
		}
		set = append(set, fieldName, sealed)
	}
	if u.ClearedUntil != nil {
		set = append(set, fieldCleared, int64(*u.ClearedUntil))
	}
	if u.Suspended != nil {
		suspended := ""
		if *u.Suspended {
			suspended = "1"
		}
		set = append(set, fieldSuspended, suspended)
	}
	if len(set) == 2 {
		return nil
	}
	return s.write(ctx, set)
}

// parseSignedOut reads a sign-out; 0 where there is none. One that cannot be read is an error
// and not none: what was ended would be believed again.
func parseSignedOut(text string) (handoff.Instant, error) {
	if text == "" {
		return 0, nil
	}
	const kind = "courier's sign-out"
	said, err := plain(kind, text)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(said, 10, 64)
	if err != nil || at <= 0 {
		return 0, fmt.Errorf("%w: %s: not a second", storage.ErrFormat, kind)
	}
	return handoff.Instant(at), nil
}

// signOutScript notes a sign-out, unless a later one is there.
//
//	KEYS[1] courier
//	ARGV[1] the sign-out   ARGV[2] its format   ARGV[3] its second
//
// It returns 1, or 0 if what stands there cannot be read. It may be repeated.
var signOutScript = newScript(`
local was = redis.call('HGET', KEYS[1], 'out')
if was then
	local at = string.sub(was, 1, #ARGV[2]) == ARGV[2] and tonumber(string.sub(was, #ARGV[2] + 1))
	if not at then
		return 0
	end
	if at >= tonumber(ARGV[3]) then
		return 1
	end
end
redis.call('HSET', KEYS[1], 'out', ARGV[1])
return 1
`)

// SignOutCourier implements service.Couriers.
func (s *Store) SignOutCourier(ctx context.Context, ref handoff.CourierRef, at handoff.Instant) error {
	second := strconv.FormatInt(int64(at), 10)
	written, err := s.writeIf(ctx, signOutScript, []string{courierKey(ref)}, plainFormat+second, plainFormat, second)
	if err == nil && !written {
		err = fmt.Errorf("%w: courier's sign-out", storage.ErrFormat)
	}
	return err
}

// clearingsKept is how many reasons are kept of a courier's cleared budgets.
const clearingsKept = 16

// ClearBudget implements service.Couriers. The reason is written first: a budget that was cleared
// for no reason would be worse than a reason that is kept twice.
func (s *Store) ClearBudget(ctx context.Context, ref handoff.CourierRef, c service.Clearing) error {
	key := clearingsKey(ref)
	sealed, err := s.seal(key, c)
	if err != nil {
		return err
	}
	err = s.write(ctx,
		line{"lrem", key, 0, sealed}, // from a try whose answer was lost
		line{"lpush", key, sealed},
		line{"ltrim", key, 0, clearingsKept - 1},
		line{"expire", key, int64(s.retention / time.Second)})
	if err != nil {
		return err
	}
	return s.write(ctx, line{"del", budgetKey(ref)})
}

// Clearings implements service.Couriers.
func (s *Store) Clearings(ctx context.Context, ref handoff.CourierRef) ([]service.Clearing, error) {
	key := clearingsKey(ref)
	list, err := read(ctx, s, redis.NewStringSliceCmd, "lrange", key, 0, -1)
	if err != nil {
		return nil, err
	}
	clearings := make([]service.Clearing, len(list))
	for i, sealed := range list {
		if _, err := s.open(key, sealed, &clearings[i]); err != nil {
			return nil, err
		}
	}
	return clearings, nil
}

// assignScript makes a courier the route's, under a number that rises.
//
//	KEYS[1] route
//	ARGV[1] courier   ARGV[2] seconds until the route may be forgotten
//
// It returns the number and all couriers that the route ever had.
var assignScript = newScript(`
local n = redis.call('HINCRBY', KEYS[1], 'n', 1)
redis.call('HSET', KEYS[1], 'courier', ARGV[1], 'was:' .. ARGV[1], n)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {n, redis.call('HKEYS', KEYS[1])}
`)

// driveScript starts or stops a courier driving, unless a later assignment was there.
//
//	KEYS[1] courier
//	ARGV[1] field   ARGV[2] the assignment's number   ARGV[3] 'start' or 'stop'
//
// It returns 1, or 0 if a later assignment was there. It may be repeated.
var driveScript = newScript(`
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) > tonumber(ARGV[2]) then
	return 0
end
if ARGV[3] == 'start' then
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
else
	redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
`)

// AssignRoute implements service.Couriers. The route and its couriers are keys in slots
// of their own. The route's key orders all assignments; the couriers who had the route stop
// driving first, then the new courier starts, and stops again if the route was assigned
// anew meanwhile. Every step may be repeated, so that a call that broke off is mended by
// the next one.
func (s *Store) AssignRoute(ctx context.Context, r service.RouteRef, courier string, now handoff.Instant) error {
	day, err := handoff.DayWindow(r.Day, time.UTC)
	if err != nil {
		return err
	}
	const zonesApart = 48 * time.Hour // a day is over everywhere two days after it began somewhere
	ttl := s.keepFor(day.Until, now) + int64(zonesApart/time.Second)

	reply, err := s.writeScript(ctx, assignScript, []string{routeKey(r)}, courier, ttl)
	if err != nil {
		return err
	}
	answer, _ := reply.([]any)
	if len(answer) != 2 {
		return fmt.Errorf("%w: an assignment was answered with %T", storage.ErrUnavailable, reply)
	}
	n := answer[0]
	fields, _ := answer[1].([]any)
	drive := func(courier, what string) error {
		key := courierKey(handoff.CourierRef{Carrier: r.Carrier, ID: courier})
		_, err := s.writeIf(ctx, driveScript, []string{key}, driveField(r), n, what)
		return err
	}
	for _, field := range fields {
		name, _ := field.(string)
		if was, ok := strings.CutPrefix(name, "was:"); ok && was != courier {
			if err := drive(was, "stop"); err != nil {
				return err
			}
		}
	}
	if err := s.dropOldDrives(ctx, courierKey(handoff.CourierRef{Carrier: r.Carrier, ID: courier}), now); err != nil {
		return err
	}
	if err := drive(courier, "start"); err != nil {
		return err
	}
	if current, err := s.Driver(ctx, r); err != nil || current == courier {
		return err
	}
	return drive(courier, "stop")
}

// Driver implements service.Couriers.
func (s *Store) Driver(ctx context.Context, r service.RouteRef) (string, error) {
	return read(ctx, s, redis.NewStringCmd, "hget", routeKey(r), "courier")
}

// dropOldDrives forgets the routes that a courier drove days ago: a record is read with
// every verify, and should hold no more than this week.
func (s *Store) dropOldDrives(ctx context.Context, key string, now handoff.Instant) error {
	fields, err := read(ctx, s, redis.NewStringSliceCmd, "hkeys", key)
	if err != nil {
		return err
	}
	const drivesKept = 3 * 24 * time.Hour
	oldest := handoff.DateOf(now.Time().Add(-drivesKept))
	old := line{"hdel", key}
	for _, field := range fields {
		day, _, ok := strings.Cut(strings.TrimPrefix(field, fieldDrive), "/")
		if d, err := handoff.ParseDate(day); ok && err == nil && oldest.After(d) {
			old = append(old, field)
		}
	}
	if len(old) == 2 {
		return nil
	}
	return s.write(ctx, old)
}
