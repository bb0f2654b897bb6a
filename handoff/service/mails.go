package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey/handoff"
)

// Mails is what is kept beside grants of the mails with their codes. A mail that goes well is noted
// here and makes no commit: on the morning on which all mails go out, commits are what is scarce.
// All errors are storage.ErrUnavailable.
type Mails interface {
	// NoteMail notes a mail that went well, and ends the wait for it. A note of a newer code stands,
	// and so does that a mail was delivered. Awaited says that the mail was waited for until now; a
	// repeated call answers false.
	NoteMail(ctx context.Context, n MailNote) (awaited bool, err error)

	// MailNotes reads the notes of grants, in their order; zero where there is none.
	MailNotes(ctx context.Context, of []MailRef) ([]handoff.MailWord, error)

	// LateMails lists up to limit mails of a partition for which it was waited until now, the
	// earliest first.
	LateMails(ctx context.Context, partition int, now handoff.Instant, limit int) ([]AwaitedMail, error)

	// DropMail ends the wait for a mail. By does not matter.
	DropMail(ctx context.Context, m AwaitedMail) error
}

// MailRef is where the note of a grant's mail is kept: by the delivery day for which its code was
// given out.
type MailRef struct {
	Grant handoff.GrantID
	Day   handoff.Date
}

// MailNote is that a mail with a code went well.
type MailNote struct {
	MailRef
	Word  handoff.MailWord // accepted or delivered
	Until handoff.Instant  // end of the grant's window
}

// AwaitedMail is a mail with a new code that a mail server is to take. A commit that gives a new code
// out begins the wait.
type AwaitedMail struct {
	Grant handoff.GrantID
	Issue uint64
	By    handoff.Instant // after which it is late
}

// awaited is the mail that a commit causes to be waited for; nil if it gives out no new code.
func (r *run) awaited(before *handoff.Grant, after *handoff.Grant, now handoff.Instant) *AwaitedMail {
	issue := after.NewestIssue()
	if !after.MailAwaits(issue) || before != nil && before.ID == after.ID && before.NewestIssue() == issue {
		return nil
	}
	return &AwaitedMail{Grant: after.ID, Issue: issue, By: now + handoff.Instant(r.service.policy.Limits.MailMinutes)*60}
}

// MailTaken notes that the mail with a grant's newest code was accepted or delivered. Where it had
// failed before, the log says that it did not.
func (s *Service) MailTaken(ctx context.Context, g *handoff.Grant, state handoff.MailState) error {
	word := handoff.MailWord{Issue: g.NewestIssue(), State: state, At: handoff.InstantOf(s.clock.Now())}
	if !g.MailAwaits(word.Issue) {
		return nil
	}
	awaited, err := s.store.NoteMail(ctx, MailNote{MailRef: mailRef(g), Word: word, Until: g.Window.Until})
	if failed := g.MailKnown(handoff.MailWord{}).Why != ""; err != nil || awaited && !failed {
		return err
	}
	return s.tellMail(ctx, itself, g.ID, word)
}

// MailFailed tells that the mail with a code failed: it was refused, or it came back. Of a code that
// was superseded nothing is told.
func (s *Service) MailFailed(ctx context.Context, id handoff.GrantID, issue uint64, why handoff.Reason, status string) error {
	return s.tellMail(ctx, itself, id, handoff.MailWord{Issue: issue, State: handoff.MailFailed, Why: why, Status: status})
}

// MailSeen tells that the customer opened the page of a grant, which shows its newest code. By a
// shop's link it may be the shop, and nothing is told.
func (s *Service) MailSeen(ctx context.Context, by handoff.Actor, g *handoff.Grant) error {
	shown := g.StatusAt(s.clock.Now()) == handoff.Active && g.CodeRequired() && !g.Code.Locked(s.policy.Limits)
	if known := g.MailKnown(handoff.MailWord{}); known.State == handoff.MailSeen || !shown || by.Role != handoff.RoleCustomer || !by.Person {
		return nil
	}
	return s.tellMail(ctx, by, g.ID, handoff.MailWord{Issue: g.NewestIssue(), State: handoff.MailSeen})
}

// MailReported takes what a mail server far away reports of the mail that a token names: delivered, or
// failed. It answers false to a token that is none of this service's, and to one of a grant that is gone.
func (s *Service) MailReported(ctx context.Context, token string, state handoff.MailState, status string) (known bool, err error) {
	id, issue, ok := handoff.ParseMailToken(s.names, token)
	if !ok {
		return false, nil
	}
	g, err := s.Grant(ctx, itself, id)
	var refused *handoff.Refusal
	switch {
	case errors.As(err, &refused):
		return false, nil
	case err != nil:
		return false, err
	case state == handoff.MailFailed:
		return true, s.MailFailed(ctx, id, issue, handoff.MailBounced, status)
	case g.NewestIssue() != issue:
		return true, nil
	}
	return true, s.MailTaken(ctx, &g, state)
}

// MailToken is the token by which a mail that comes back names the grant and its newest code.
func (s *Service) MailToken(g *handoff.Grant) string {
	return handoff.MailToken(s.names, g.ID, g.NewestIssue())
}

// itself is the service, which tells what mail servers say.
var itself = handoff.Actor{Role: handoff.RoleService}

// tellMail runs the act. That there is nothing to tell is no error.
func (s *Service) tellMail(ctx context.Context, by handoff.Actor, id handoff.GrantID, word handoff.MailWord) error {
	_, err := s.order(ctx, id, handoff.Command{Act: handoff.TellMail, By: by, Mail: word}, "")
	var refused *handoff.Refusal
	if errors.As(err, &refused) && refused.Reason != handoff.UnknownAct {
		return nil
	}
	return err
}

func mailRef(g *handoff.Grant) MailRef { return MailRef{Grant: g.ID, Day: g.Day()} }

// SweepMails tells of up to limit mails of each partition that no mail server took in time, and
// reports how many it looked at. One that fails does not keep back the others.
func (s *Service) SweepMails(ctx context.Context, limit int) (int, error) {
	return sweep(ctx, func(partition int) ([]AwaitedMail, error) {
		return s.store.LateMails(ctx, partition, handoff.InstantOf(s.clock.Now()), limit)
	}, func(m AwaitedMail) error {
		if err := s.lateMail(ctx, m); err != nil {
			return fmt.Errorf("the mail of grant %s: %w", m.Grant, err)
		}
		return nil
	})
}

// lateMail tells that a mail is late. A mail server may take it at the same moment: who notes that
// finds the wait over, and tells so after this; or is found here by its note.
func (s *Service) lateMail(ctx context.Context, m AwaitedMail) error {
	g, err := s.Grant(ctx, itself, m.Grant)
	var refused *handoff.Refusal
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if err != nil || !g.MailAwaits(m.Issue) {
		return s.store.DropMail(ctx, m)
	}
	if taken, err := s.mailTaken(ctx, &g); err != nil || taken {
		return errors.Join(err, s.store.DropMail(ctx, m))
	}
	if err := s.MailFailed(ctx, m.Grant, m.Issue, handoff.MailLate, ""); err != nil {
		return err
	}
	if err := s.store.DropMail(ctx, m); err != nil {
		return err
	}
	taken, err := s.mailTaken(ctx, &g)
	if err != nil || !taken {
		return err
	}
	return s.tellMail(ctx, itself, m.Grant, handoff.MailWord{Issue: m.Issue, State: handoff.MailAccepted})
}

// mailTaken reports whether it is noted that a mail server took the mail with the newest code.
func (s *Service) mailTaken(ctx context.Context, g *handoff.Grant) (bool, error) {
	notes, err := s.store.MailNotes(ctx, []MailRef{mailRef(g)})
	return err == nil && notes[0].Issue == g.NewestIssue(), err
}

// MailOf is how far the mail with a grant's newest code came.
func (s *Service) MailOf(ctx context.Context, g *handoff.Grant) (handoff.MailWord, error) {
	notes, err := s.store.MailNotes(ctx, []MailRef{mailRef(g)})
	if err != nil {
		return handoff.MailWord{}, err
	}
	return g.MailKnown(notes[0]), nil
}

// Ready is a parcel of a route, and how far the mail with its code came.
type Ready struct {
	Grant handoff.Grant
	Mail  handoff.MailWord
}

// Readiness lists up to limit of a shop's parcels on a route, by their hash, beginning after one
// (empty: with the first). State picks those whose mail came so far and no further; nil: all. Next is
// where to go on; empty at the end.
func (s *Service) Readiness(ctx context.Context, shop string, r RouteRef, state *handoff.MailState, after handoff.ParcelHash, limit int) (list []Ready, next handoff.ParcelHash, err error) {
	grants, err := s.OnRoute(ctx, r)
	if err != nil {
		return nil, "", err
	}
	grants = slices.DeleteFunc(grants, func(g handoff.Grant) bool { return g.Dispatch.Shop != shop || g.ID.Hash <= after })
	slices.SortFunc(grants, func(a, b handoff.Grant) int { return strings.Compare(string(a.ID.Hash), string(b.ID.Hash)) })
	refs := make([]MailRef, len(grants))
	for i := range grants {
		refs[i] = mailRef(&grants[i])
	}
	notes, err := s.store.MailNotes(ctx, refs)
	if err != nil {
		return nil, "", err
	}
	for i := range grants {
		known := grants[i].MailKnown(notes[i])
		switch {
		case state != nil && *state != known.State:
		case len(list) == limit:
			return list, list[limit-1].Grant.ID.Hash, nil
		default:
			list = append(list, Ready{grants[i], known})
		}
	}
	return list, "", nil
}
