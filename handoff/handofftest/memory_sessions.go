package handofftest

import (
	"context"
	"maps"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// Session implements [identity.Sessions].
func (m *Memory) Session(ctx context.Context, id identity.SessionID) (*identity.Session, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	s, ok := m.sessions[id]
	if !ok {
		return nil, nil
	}
	s.Scopes = slices.Clone(s.Scopes)
	return &s, nil
}

// AddSession implements [identity.Sessions]. Memory has no clock, and forgets nothing.
func (m *Memory) AddSession(ctx context.Context, s identity.Session, _ time.Duration) error {
	return m.putSession(ctx, s, false)
}

// TouchSession implements [identity.Sessions].
func (m *Memory) TouchSession(ctx context.Context, s identity.Session, _ time.Duration) error {
	return m.putSession(ctx, s, true)
}

func (m *Memory) putSession(ctx context.Context, s identity.Session, only bool) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, there := m.sessions[s.ID]; there || !only {
		s.Scopes = slices.Clone(s.Scopes)
		m.sessions[s.ID] = s
	}
	return nil
}

// RemoveSessionsOf implements [identity.Sessions].
func (m *Memory) RemoveSessionsOf(ctx context.Context, c handoff.CustomerRef) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	maps.DeleteFunc(m.sessions, func(_ identity.SessionID, s identity.Session) bool {
		of, ok := s.Customer()
		return ok && of == c
	})
	return nil
}

// RemoveSession implements [identity.Sessions].
func (m *Memory) RemoveSession(ctx context.Context, id identity.SessionID) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	delete(m.sessions, id)
	return nil
}
