package handofftest

import (
	"context"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/counts"
)

// CountedTo implements [counts.Numbers].
func (m *Memory) CountedTo(ctx context.Context, partition int) (string, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	return m.counted[partition], nil
}

// CountEvents implements [counts.Numbers].
func (m *Memory) CountEvents(ctx context.Context, partition int, from, to string, figures []counts.Figure) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	if m.counted[partition] != from {
		return false, nil
	}
	m.counted[partition] = to
	m.add(figures)
	return true, nil
}

// AddFigures implements [counts.Numbers].
func (m *Memory) AddFigures(ctx context.Context, figures []counts.Figure) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	m.add(figures)
	return nil
}

func (m *Memory) add(figures []counts.Figure) {
	for _, f := range figures {
		n := f.N
		f.N = 0
		if f.Peak {
			m.figures[f] = max(m.figures[f], n)
		} else {
			m.figures[f] += n
		}
	}
}

// Figures implements [counts.Numbers].
func (m *Memory) Figures(ctx context.Context, from, until time.Time) ([]counts.Figure, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var figures []counts.Figure
	for f, n := range m.figures {
		if f.Hour >= counts.FigureHour(from) && f.Hour < handoff.InstantOf(until) {
			f.N = n
			figures = append(figures, f)
		}
	}
	return figures, nil
}
