package service

import (
	"encoding/binary"
	"io"
	"slices"

	"latchkey/handoff"
)

// changeOf is the commit of a pass: the grant after the decision's events, and what repeated
// requests must find beside it.
func (r *run) changeOf(p *pass, told Answer, id CommitID) Change {
	var next Record
	if p.Record != nil {
		next = *p.Record
	}
	d, now := &p.decision, handoff.InstantOf(p.now)
	from, archived := p.Version, p.Archived
	if p.mints() {
		from, archived = p.own, false
		next = Record{Grant: handoff.Seed(d.Events[0].Grant, *p.command.Dispatch, handoff.CodeState{})}
		if d.Events[0].Issue != 0 {
			next.Grant.Code.Secret = r.secret
		}
	}
	next.Grant = handoff.Replay(next.Grant, d.Events)
	if p.command.Act == handoff.Confirm && next.Grant.CodeRequired() {
		next.Grant.Code.Secret = r.secret
	}
	next.Commits = keep(next.Commits, commitsKept, id)
	if r.attempt.id != "" {
		next.Answers = keep(next.Answers, answersKept, told)
	}
	if r.note != "" {
		next.Notes = keep(next.Notes, notesKept, Note{At: now, Act: p.command.Act, Text: r.note})
	}
	if next.Grant.Scrubbed != nil {
		next.Notes = nil // they may name people
	}
	return Change{
		From: from, Record: next, Events: d.Events, Archived: archived, Now: now,
		Awaits: r.awaited(p.grant(), &next.Grant, now),
	}
}

// keep is a list with one entry more, of which only the newest are kept.
func keep[T any](list []T, most int, v T) []T {
	list = append(slices.Clone(list), v)
	return list[max(0, len(list)-most):]
}

func (s *Service) commitID() CommitID {
	var b [8]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		panic("service: the source of randomness failed: " + err.Error())
	}
	return CommitID(binary.LittleEndian.Uint64(b[:]))
}
