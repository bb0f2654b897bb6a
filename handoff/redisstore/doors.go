package redisstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
)

// permitKept is how long a door may report on a permit: it may have been without a
// network for a while.
const permitKept = 48 * time.Hour

// permitAhead is how long a permit is claimed ahead of its commit, which makes it
// permitKept: who is refused should not fill the store. No PIN is given out for so long,
// and no request lives as long.
const permitAhead = 5 * time.Minute

func formatSighting(s handoff.Sighting) string {
	return fmt.Sprintf("%d %d %d", s.At, s.Place.Lat, s.Place.Lon)
}

func parseSighting(text string) *handoff.Sighting {
	s := new(handoff.Sighting)
	if n, _ := fmt.Sscanf(text, "%d %d %d", &s.At, &s.Place.Lat, &s.Place.Lon); n != 3 {
		return nil
	}
	return s
}

// seeScript notes where a courier is.
//
//	KEYS[1] courier
//	ARGV[1] where the courier was last seen, or '' for nowhere   ARGV[2] where now
//
// It returns 1, or 0 if the courier was seen elsewhere or is not known. It may be repeated.
var seeScript = newScript(`
local seen = redis.call('HGET', KEYS[1], 'seen') or ''
if seen == ARGV[2] then
	return 1
end
if seen ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then
	return 0
end
redis.call('HSET', KEYS[1], 'seen', ARGV[2])
return 1
`)

// See implements handoff.Grants.
func (s *Store) See(ctx context.Context, courier handoff.CourierRef, from *handoff.Sighting, to handoff.Sighting) (bool, error) {
	before := ""
	if from != nil {
		before = formatSighting(*from)
	}
	noted, err := s.script(ctx, func() *scriptCall {
		return seeScript.call(ctx, []string{courierKey(courier)}, before, formatSighting(to))
	})
	return noted == int64(1), err
}

// doorRead is the reading of a door and, where an earlier one told which, its building.
type doorRead struct {
	door, building *redis.StringCmd
	buildingID     string
}

func (s *Store) doorCmds(ctx context.Context, id string) doorRead {
	r := doorRead{door: redis.NewStringCmd(ctx, "get", doorKey(id))}
	if building, known := s.buildings.Load(id); known {
		r.buildingID = building.(string)
		r.building = redis.NewStringCmd(ctx, "get", buildingKey(r.buildingID))
	}
	return r
}

func (r doorRead) cmds() []redis.Cmder {
	if r.building == nil {
		return []redis.Cmder{r.door}
	}
	return []redis.Cmder{r.door, r.building}
}

// openDoor puts a door together. Which building it belongs to is remembered, so that
// only the first reading of a door takes a trip more.
func (s *Store) openDoor(ctx context.Context, id string, r doorRead) (*handoff.Door, error) {
	d := &handoff.Door{ID: id}
	if found, err := s.open(doorKey(id), r.door, d); !found || d.Removed || err != nil {
		return nil, err
	}
	if r.building == nil || r.buildingID != d.BuildingID {
		s.buildings.Store(id, d.BuildingID)
		b, err := s.Building(ctx, d.BuildingID)
		if err != nil {
			return nil, err
		}
		if b != nil {
			d.Building = *b
		}
		return d, nil
	}
	d.Building.ID = d.BuildingID
	if found, err := s.open(buildingKey(d.BuildingID), r.building, &d.Building); !found || err != nil {
		d.Building = handoff.Building{}
		return d, err
	}
	return d, nil
}

// open reads a sealed value into v. It reports false if there is none.
func (s *Store) open(key string, cmd *redis.StringCmd, v any) (bool, error) {
	sealed, _ := cmd.Bytes()
	if len(sealed) == 0 {
		return false, nil
	}
	plain, err := s.sealer.Open(sealed, []byte(key))
	if err != nil {
		return false, handoff.ErrSealed
	}
	if err := decoder.Unmarshal(plain, v); err != nil {
		return false, handoff.ErrSealed
	}
	return true, nil
}

func (s *Store) seal(key string, v any) ([]byte, error) {
	plain, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("redisstore: encoding: %w", err)
	}
	sealed, err := s.sealer.Seal(plain, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("redisstore: sealing: %w", err)
	}
	return sealed, nil
}

// Building implements handoff.Registry.
func (s *Store) Building(ctx context.Context, id string) (*handoff.Building, error) {
	var cmd *redis.StringCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewStringCmd(ctx, "get", buildingKey(id))
		return []redis.Cmder{cmd}
	})
	if err != nil {
		return nil, err
	}
	b := &handoff.Building{ID: id}
	if found, err := s.open(buildingKey(id), cmd, b); !found || err != nil {
		return nil, err
	}
	return b, nil
}

// PutBuilding implements handoff.Registry.
func (s *Store) PutBuilding(ctx context.Context, b handoff.Building) error {
	sealed, err := s.seal(buildingKey(b.ID), b)
	if err != nil {
		return err
	}
	return s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{redis.NewStatusCmd(ctx, "set", buildingKey(b.ID), sealed)}
	})
}

// Door implements handoff.Registry.
func (s *Store) Door(ctx context.Context, id string) (*handoff.Door, error) {
	var r doorRead
	err := s.read(ctx, func() []redis.Cmder {
		r = s.doorCmds(ctx, id)
		return r.cmds()
	})
	if err != nil {
		return nil, err
	}
	return s.openDoor(ctx, id, r)
}

// PutDoor implements handoff.Registry.
func (s *Store) PutDoor(ctx context.Context, d handoff.Door) error {
	for range putTries {
		var found *redis.StringCmd
		err := s.read(ctx, func() []redis.Cmder {
			found = redis.NewStringCmd(ctx, "get", doorKey(d.ID))
			return []redis.Cmder{found}
		})
		if err != nil {
			return err
		}
		before := &handoff.Door{ID: d.ID}
		if known, err := s.open(doorKey(d.ID), found, before); err != nil {
			return err
		} else if !known {
			before = nil
		}
		stored, err := d.Replacing(before)
		if err != nil {
			return err
		}
		sealed, err := s.seal(doorKey(d.ID), stored)
		if err != nil {
			return err
		}
		// The list is another slot's, and is written ahead: see Doors.
		err = s.read(ctx, func() []redis.Cmder {
			return []redis.Cmder{redis.NewIntCmd(ctx, "sadd", buildingDoorsKey(d.BuildingID), d.ID)}
		})
		if err != nil {
			return err
		}
		done, err := s.script(ctx, func() *scriptCall {
			return replaceScript.call(ctx, []string{doorKey(d.ID)}, found.Val(), sealed)
		})
		if err != nil {
			return err
		}
		if done == int64(1) {
			return nil
		}
	}
	return fmt.Errorf("%w: others keep writing the door", handoff.ErrUnavailable)
}

// putTries is how often a door is written while others write it.
const putTries = 32

// replaceScript writes a value if nobody wrote another since it was read. After a lost
// answer it says 0 of its own value: reading and writing again is harmless.
//
//	KEYS[1] door
//	ARGV[1] the value that was read, or '' for none   ARGV[2] the new one
var replaceScript = newScript(`
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
`)

// Doors implements handoff.Registry. An entry counts only if its door names the building:
// one whose door was never written, or by another building first, stays in the list. So
// does one whose door was removed: whoever brings it back may have listed it already.
func (s *Store) Doors(ctx context.Context, building string) ([]string, error) {
	var listed *redis.StringSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		listed = redis.NewStringSliceCmd(ctx, "smembers", buildingDoorsKey(building))
		return []redis.Cmder{listed}
	})
	if err != nil || len(listed.Val()) == 0 {
		return nil, err
	}
	var doors []*redis.StringCmd
	err = s.read(ctx, func() []redis.Cmder {
		doors = doors[:0]
		cmds := make([]redis.Cmder, 0, len(listed.Val()))
		for _, id := range listed.Val() {
			doors = append(doors, redis.NewStringCmd(ctx, "get", doorKey(id)))
			cmds = append(cmds, doors[len(doors)-1])
		}
		return cmds
	})
	if err != nil {
		return nil, err
	}
	var ids []string
	for i, id := range listed.Val() {
		var d handoff.Door
		if _, err := s.open(doorKey(id), doors[i], &d); err != nil {
			return nil, err
		}
		if d.BuildingID == building && !d.Removed {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// permitEntry is a claim as it stands under its permit.
func permitEntry(p *handoff.PermitRef) string { return string(p.Parcel) + " " + p.Door + " " + p.Claim }

// unclaimScript forgets a claim, if it is the claimer's.
//
//	KEYS[1] permit
//	ARGV[1] the entry
var unclaimScript = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('DEL', KEYS[1])
end
return 1
`)

// Unclaim implements handoff.Grants.
func (s *Store) Unclaim(ctx context.Context, ref handoff.PermitRef) error {
	_, err := s.script(ctx, func() *scriptCall {
		return unclaimScript.call(ctx, []string{permitKey(ref.Permit)}, permitEntry(&ref))
	})
	return err
}

// Permit implements handoff.Grants.
func (s *Store) Permit(ctx context.Context, id handoff.PermitID) (*handoff.PermitRef, error) {
	var cmd *redis.StringCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewStringCmd(ctx, "get", permitKey(id))
		return []redis.Cmder{cmd}
	})
	if err != nil || cmd.Val() == "" {
		return nil, err
	}
	parcel, rest, _ := strings.Cut(cmd.Val(), " ")
	door, claim, _ := strings.Cut(rest, " ")
	return &handoff.PermitRef{Permit: id, Parcel: handoff.ParcelHash(parcel), Door: door, Claim: claim}, nil
}

// A feed is short: a permit is over after a minute and a half, recalled or not.
const (
	feedLength = 64
	feedKept   = 10 * time.Minute
)

// Send implements handoff.Feed.
func (s *Store) Send(ctx context.Context, door string, m handoff.DoorMessage) error {
	key := feedKey(door)
	sealed, err := s.sealer.Seal(m.Body, []byte(key+":"+m.Kind))
	if err != nil {
		return fmt.Errorf("redisstore: sealing: %w", err)
	}
	return s.read(ctx, func() []redis.Cmder {
		return []redis.Cmder{
			redis.NewStringCmd(ctx, "xadd", key, "maxlen", "~", feedLength, "*", m.Kind, sealed),
			redis.NewBoolCmd(ctx, "expire", key, int64(feedKept/time.Second)),
		}
	})
}

// Receive implements handoff.Feed.
func (s *Store) Receive(ctx context.Context, door, after string, limit int) ([]handoff.DoorMessage, error) {
	key, start := feedKey(door), "-"
	if after != "" {
		start = "(" + after
	}
	var cmd *redis.XMessageSliceCmd
	err := s.read(ctx, func() []redis.Cmder {
		cmd = redis.NewXMessageSliceCmd(ctx, "xrange", key, start, "+", "count", limit)
		return []redis.Cmder{cmd}
	})
	if err != nil {
		return nil, err
	}
	messages := make([]handoff.DoorMessage, 0, len(cmd.Val()))
	for _, entry := range cmd.Val() {
		for kind, value := range entry.Values {
			sealed, _ := value.(string)
			body, err := s.sealer.Open([]byte(sealed), []byte(key+":"+kind))
			if err != nil {
				return nil, handoff.ErrSealed
			}
			messages = append(messages, handoff.DoorMessage{Cursor: entry.ID, Kind: kind, Body: body})
		}
	}
	return messages, nil
}
