package handofftest

import (
	"context"
	"maps"
	"slices"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

func (m *Memory) door(id string) *handoff.Door {
	d, ok := m.doors[id]
	if !ok || d.Removed {
		return nil
	}
	d.Building = m.buildings[d.BuildingID]
	return &d
}

// Building implements [registry.Store].
func (m *Memory) Building(ctx context.Context, id string) (*handoff.Building, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	b, ok := m.buildings[id]
	if !ok {
		return nil, nil
	}
	return &b, nil
}

// PutBuilding implements [registry.Store].
func (m *Memory) PutBuilding(ctx context.Context, b handoff.Building) error {
	return m.ChangeBuilding(ctx, b.ID, func(*handoff.Building) (handoff.Building, error) { return b, nil })
}

// ChangeBuilding implements [registry.Store].
func (m *Memory) ChangeBuilding(ctx context.Context, id string, change func(*handoff.Building) (handoff.Building, error)) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var before *handoff.Building
	if known, ok := m.buildings[id]; ok {
		before = &known
	}
	b, err := change(before)
	if err != nil {
		return err
	}
	m.buildings[id] = b
	return nil
}

// Buildings implements [registry.Store].
func (m *Memory) Buildings(ctx context.Context) ([]string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return slices.Sorted(maps.Keys(m.buildings)), nil
}

// Door implements [registry.Store].
func (m *Memory) Door(ctx context.Context, id string) (*handoff.Door, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return m.door(id), nil
}

// PutDoor implements [registry.Store].
func (m *Memory) PutDoor(ctx context.Context, d handoff.Door) error {
	return m.ChangeDoor(ctx, d.ID, func(*handoff.Door) (handoff.Door, error) { return d, nil })
}

// ChangeDoor implements [registry.Store].
func (m *Memory) ChangeDoor(ctx context.Context, id string, change func(*handoff.Door) (handoff.Door, error)) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var before *handoff.Door
	if known, ok := m.doors[id]; ok {
		before = &known
	}
	d, err := change(before)
	if err != nil {
		return err
	}
	stored, err := d.Replacing(before)
	if err != nil {
		return err
	}
	m.doors[id] = stored
	return nil
}

// Doors implements [registry.Store].
func (m *Memory) Doors(ctx context.Context, building string) ([]string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var ids []string
	for id, d := range m.doors {
		if d.BuildingID == building && !d.Removed {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Permit implements [service.Permits].
func (m *Memory) Permit(ctx context.Context, id handoff.PermitID) (*service.PermitRef, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	ref, ok := m.permits[id]
	if !ok {
		return nil, nil
	}
	return &ref, nil
}

// MoveLastDoor implements [service.LastDoors].
func (m *Memory) MoveLastDoor(ctx context.Context, ref handoff.CourierRef, from *handoff.LastDoor, to handoff.LastDoor) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	courier := m.couriers[ref]
	switch {
	case courier == nil:
		return false, nil
	case courier.LastDoor != nil && *courier.LastDoor == to:
		return true, nil
	case (courier.LastDoor == nil) != (from == nil) || from != nil && *courier.LastDoor != *from:
		return false, nil
	}
	courier.LastDoor = &to
	return true, nil
}
