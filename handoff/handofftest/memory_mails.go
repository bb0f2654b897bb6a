package handofftest

import (
	"cmp"
	"context"
	"slices"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// awaited names a mail that is waited for.
type awaited struct {
	grant handoff.GrantID
	issue uint64
}

// NoteMail implements [service.Mails].
func (m *Memory) NoteMail(ctx context.Context, n service.MailNote) (bool, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	key := awaited{n.Grant, n.Word.Issue}
	_, waited := m.awaited[key]
	delete(m.awaited, key)
	was := m.mails[n.MailRef]
	if was.Issue < n.Word.Issue || was.Issue == n.Word.Issue && was.State <= n.Word.State {
		m.mails[n.MailRef] = n.Word
	}
	return waited, nil
}

// MailNotes implements [service.Mails].
func (m *Memory) MailNotes(ctx context.Context, of []service.MailRef) ([]handoff.MailWord, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	notes := make([]handoff.MailWord, len(of))
	for i, ref := range of {
		notes[i] = m.mails[ref]
	}
	return notes, nil
}

// LateMails implements [service.Mails].
func (m *Memory) LateMails(ctx context.Context, partition int, now handoff.Instant, limit int) ([]service.AwaitedMail, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var late []service.AwaitedMail
	for a, by := range m.awaited {
		if a.grant.Hash.Partition() == partition && by <= now {
			late = append(late, service.AwaitedMail{Grant: a.grant, Issue: a.issue, By: by})
		}
	}
	slices.SortFunc(late, func(a, b service.AwaitedMail) int { return cmp.Compare(a.By, b.By) })
	return late[:min(limit, len(late))], nil
}

// DropMail implements [service.Mails].
func (m *Memory) DropMail(ctx context.Context, a service.AwaitedMail) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	delete(m.awaited, awaited{a.Grant, a.Issue})
	return nil
}
