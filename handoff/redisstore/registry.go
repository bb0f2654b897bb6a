package redisstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/storage"
)

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
	if found, err := s.open(doorKey(id), r.door.Val(), d); !found || d.Removed || err != nil {
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
	if found, err := s.open(buildingKey(d.BuildingID), r.building.Val(), &d.Building); !found || err != nil {
		d.Building = handoff.Building{}
		return d, err
	}
	return d, nil
}

// Building implements registry.Store.
func (s *Store) Building(ctx context.Context, id string) (*handoff.Building, error) {
	sealed, err := read(ctx, s, redis.NewStringCmd, "get", buildingKey(id))
	if err != nil {
		return nil, err
	}
	b := &handoff.Building{ID: id}
	if found, err := s.open(buildingKey(id), sealed, b); !found || err != nil {
		return nil, err
	}
	return b, nil
}

// PutBuilding implements registry.Store.
func (s *Store) PutBuilding(ctx context.Context, b handoff.Building) error {
	return s.ChangeBuilding(ctx, b.ID, func(*handoff.Building) (handoff.Building, error) { return b, nil })
}

// ChangeBuilding implements registry.Store.
func (s *Store) ChangeBuilding(ctx context.Context, id string, change func(*handoff.Building) (handoff.Building, error)) error {
	for range putTries {
		found, err := read(ctx, s, redis.NewStringCmd, "get", buildingKey(id))
		if err != nil {
			return err
		}
		before := &handoff.Building{ID: id}
		if known, err := s.open(buildingKey(id), found, before); err != nil {
			return err
		} else if !known {
			before = nil
		}
		b, err := change(before)
		if err != nil {
			return err
		}
		sealed, err := s.seal(buildingKey(id), b)
		if err != nil {
			return err
		}
		if err := s.write(ctx, line{"sadd", buildingsKey, id}); err != nil { // another slot's: ahead, as in ChangeDoor
			return err
		}
		if done, err := s.writeIf(ctx, replaceScript, []string{buildingKey(id)}, found, sealed); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: others keep writing the building", storage.ErrUnavailable)
}

// Buildings implements registry.Store.
func (s *Store) Buildings(ctx context.Context) ([]string, error) {
	ids, err := read(ctx, s, redis.NewStringSliceCmd, "smembers", buildingsKey)
	slices.Sort(ids)
	return ids, err
}

// Door implements registry.Store.
func (s *Store) Door(ctx context.Context, id string) (*handoff.Door, error) {
	var r doorRead
	err := s.repeatable(ctx, s.lanes.do, func() []redis.Cmder {
		r = s.doorCmds(ctx, id)
		return r.cmds()
	})
	if err != nil {
		return nil, err
	}
	return s.openDoor(ctx, id, r)
}

// PutDoor implements registry.Store.
func (s *Store) PutDoor(ctx context.Context, d handoff.Door) error {
	return s.ChangeDoor(ctx, d.ID, func(*handoff.Door) (handoff.Door, error) { return d, nil })
}

// ChangeDoor implements registry.Store.
func (s *Store) ChangeDoor(ctx context.Context, id string, change func(*handoff.Door) (handoff.Door, error)) error {
	for range putTries {
		found, err := read(ctx, s, redis.NewStringCmd, "get", doorKey(id))
		if err != nil {
			return err
		}
		before := &handoff.Door{ID: id}
		if known, err := s.open(doorKey(id), found, before); err != nil {
			return err
		} else if !known {
			before = nil
		}
		d, err := change(before)
		if err != nil {
			return err
		}
		stored, err := d.Replacing(before)
		if err != nil {
			return err
		}
		sealed, err := s.seal(doorKey(id), stored)
		if err != nil {
			return err
		}
		// The list is another slot's, and is written ahead: see Doors.
		if err := s.write(ctx, line{"sadd", buildingDoorsKey(d.BuildingID), id}); err != nil {
			return err
		}
		if done, err := s.writeIf(ctx, replaceScript, []string{doorKey(id)}, found, sealed); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: others keep writing the door", storage.ErrUnavailable)
}

// putTries is how often a door or building is written while others write it.
const putTries = 32

// replaceScript writes a value if no other was written since it was read.
//
//	KEYS[1] door or building
//	ARGV[1] the value that was read, or '' for none   ARGV[2] the new one
//
// It returns 1, or 0 if another value stands there. After a lost answer it returns 0
// because of its own value: reading and writing again is harmless.
var replaceScript = newScript(`
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
`)

// Doors implements registry.Store. An entry counts only if its door names the building:
// one whose door was never written, or by another building first, stays in the list. So
// does one whose door was removed: a call that brings it back may have listed it already.
func (s *Store) Doors(ctx context.Context, building string) ([]string, error) {
	listed, err := read(ctx, s, redis.NewStringSliceCmd, "smembers", buildingDoorsKey(building))
	if err != nil {
		return nil, err
	}
	var gets []line
	for _, id := range listed {
		gets = append(gets, line{"get", doorKey(id)})
	}
	doors, err := readEach(ctx, s, redis.NewStringCmd, gets...)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i, id := range listed {
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
