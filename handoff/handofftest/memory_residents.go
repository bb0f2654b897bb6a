package handofftest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"latchkey/handoff"
	"latchkey/handoff/residents"
	"latchkey/handoff/storage"
)

// resident names one in the store.
type resident struct {
	building string
	id       handoff.ResidentID
}

// page is what was marked, in order.
type page struct {
	topics []string
	ended  map[string]bool
}

func copyOf(r residents.Resident) (residents.Resident, error) {
	out := residents.Resident{ID: r.ID, Building: r.Building, Revision: r.Revision}
	b, err := cbor.Marshal(r)
	if err == nil {
		err = cbor.Unmarshal(b, &out)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return out, err
}

// Residents implements [residents.Residents].
func (m *Memory) Residents(ctx context.Context, building string) ([]residents.Resident, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	all := []residents.Resident{}
	for key, r := range m.residents {
		if key.building == building {
			out, err := copyOf(r)
			if err != nil {
				return nil, err
			}
			all = append(all, out)
		}
	}
	slices.SortFunc(all, func(a, b residents.Resident) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Resident implements [residents.Residents].
func (m *Memory) Resident(ctx context.Context, building string, id handoff.ResidentID) (*residents.Resident, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	r, known := m.residents[resident{building, id}]
	if !known {
		return nil, nil
	}
	out, err := copyOf(r)
	return &out, err
}

// PutResident implements [residents.Residents].
func (m *Memory) PutResident(ctx context.Context, r residents.Resident) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	key := resident{r.Building, r.ID}
	if m.residents[key].Revision != r.Revision {
		return storage.ErrConflict
	}
	r, err = copyOf(r)
	if err != nil {
		return err
	}
	r.Revision++
	m.residents[key] = r
	return nil
}

// DropResident implements [residents.Residents].
func (m *Memory) DropResident(ctx context.Context, r residents.Resident) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	key := resident{r.Building, r.ID}
	if m.residents[key].Revision != r.Revision {
		return storage.ErrConflict
	}
	delete(m.residents, key)
	return nil
}

// Mark implements [residents.Residents].
func (m *Memory) Mark(ctx context.Context, k residents.Mark) (number int, ended bool, err error) {
	end, err := m.begin(ctx)
	if err != nil {
		return 0, false, err
	}
	defer end()
	topic := k.Topic
	k.Topic = ""
	p := m.pages[k]
	if p == nil {
		p = &page{ended: map[string]bool{}}
		m.pages[k] = p
	}
	at := slices.Index(p.topics, topic)
	if at < 0 {
		at = len(p.topics)
		if at == residents.PageOfMarks {
			return at + 1, false, nil
		}
		p.topics = append(p.topics, topic)
	}
	return at + 1, p.ended[topic], nil
}

// EndMark implements [residents.Residents].
func (m *Memory) EndMark(ctx context.Context, k residents.Mark) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	topic := k.Topic
	k.Topic = ""
	if p := m.pages[k]; p != nil && slices.Contains(p.topics, topic) {
		p.ended[topic] = true
	}
	return nil
}
