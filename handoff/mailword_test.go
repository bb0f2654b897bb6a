package handoff_test

import (
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// What is told of the mail with a code: that it failed, once; that it did not after all; and that
// the customer saw the code, once. Of an older code, or of a grant that is closed, nothing.
func TestWhatIsToldOfAMail(t *testing.T) {
	const issue = 2
	word := func(s MailState) *MailWord {
		w := &MailWord{Issue: issue, State: s, Told: 1}
		if s == MailFailed {
			w.Why, w.Status = MailLate, "4.4.1"
		}
		return w
	}
	failed := MailWord{Issue: issue, State: MailFailed, Why: MailRefused, Status: "5.1.1"}
	said := func(s MailState) MailWord { return MailWord{Issue: issue, State: s} }
	for name, c := range map[string]struct {
		known *MailWord
		said  MailWord
		want  EventType // 0: nothing is told
		after MailState
	}{
		"accepted":                   {nil, said(MailAccepted), 0, 0},
		"delivered":                  {nil, said(MailDelivered), 0, 0},
		"failed":                     {nil, failed, EventMailFailed, MailFailed},
		"failed again":               {word(MailFailed), failed, 0, MailFailed},
		"accepted after all":         {word(MailFailed), said(MailAccepted), EventMailArrived, MailAccepted},
		"delivered after all":        {word(MailFailed), said(MailDelivered), EventMailArrived, MailDelivered},
		"failed after it was taken":  {word(MailAccepted), failed, EventMailFailed, MailFailed},
		"seen":                       {nil, said(MailSeen), EventMailArrived, MailSeen},
		"seen though it failed":      {word(MailFailed), said(MailSeen), EventMailArrived, MailSeen},
		"seen twice":                 {word(MailSeen), said(MailSeen), 0, MailSeen},
		"failed after it was seen":   {word(MailSeen), failed, 0, MailSeen},
		"accepted after it was seen": {word(MailSeen), said(MailAccepted), 0, MailSeen},
		"of an older code":           {nil, MailWord{Issue: 1, State: MailFailed, Why: MailBounced}, 0, 0},
		"of no code":                 {nil, MailWord{State: MailFailed, Why: MailBounced}, 0, 0},
		"of a code to come":          {nil, MailWord{Issue: 3, State: MailSeen}, 0, 0},
		"said of the code before":    {&MailWord{Issue: 1, State: MailFailed}, failed, EventMailFailed, MailFailed},
		"taken after it failed and was seen": {
			&MailWord{Issue: issue, State: MailSeen, Why: MailLate, Told: 2}, said(MailAccepted), EventMailArrived, MailSeen,
		},
		"as often as it may be told": {&MailWord{Issue: issue, State: MailFailed, Why: MailBounced, Told: 6}, said(MailAccepted), 0, MailFailed},
		"and once more that it failed": {
			&MailWord{Issue: issue, State: MailAccepted, Told: 6}, failed, EventMailFailed, MailFailed,
		},
	} {
		role := RoleService
		if c.said.State == MailSeen {
			role = RoleCustomer
		}
		s := order(t, TellMail, role)
		s.grant.Code.Issued = []uint64{1, issue}
		s.grant.Mail, s.cmd.Mail = c.known, c.said
		d := s.decide()
		if d.Refusal != nil || (c.want == 0) != (len(d.Events) == 0) || c.want != 0 && d.Events[0].Type != c.want {
			t.Errorf("%s: %v, %v, want %v", name, d.Refusal, d.Events, c.want)
			continue
		}
		after := Replay(*s.grant, d.Events)
		if after.Mail == nil && c.after != 0 || after.Mail != nil && after.Mail.State != c.after && c.want != 0 {
			t.Errorf("%s: %+v, want %s", name, after.Mail, c.after)
		}
		if c.want == EventMailArrived && (after.Mail.Why != "") != (c.said.State == MailSeen && c.known != nil) {
			t.Errorf("%s: why it failed is %q", name, after.Mail.Why)
		}
		if len(after.Code.Issued) != 2 || len(after.History) != len(s.grant.History) {
			t.Errorf("%s: it issued a code, or stands in the history", name)
		}
		if c.want == EventMailFailed && (d.Events[0].Reason != c.said.Why || d.Events[0].MailStatus != c.said.Status || d.Events[0].Issue != issue) {
			t.Errorf("%s: %+v", name, d.Events[0])
		}
	}
}

// Who may tell, when, and what makes no sense.
func TestAMailIsToldOfByTheServiceAlone(t *testing.T) {
	for name, c := range map[string]struct {
		role  Role
		spoil func(*scene)
		want  Reason
	}{
		"by a customer":       {RoleCustomer, func(*scene) {}, GrantUnknown},
		"by a shop":           {RoleShop, func(*scene) {}, GrantUnknown},
		"by ops":              {RoleOps, func(*scene) {}, GrantUnknown},
		"seen by the service": {RoleService, func(s *scene) { s.cmd.Mail.State = MailSeen }, GrantUnknown},
		"seen by the shop":    {RoleShop, func(s *scene) { s.cmd.Mail.State = MailSeen }, GrantUnknown},
		"seen by a link": {RoleCustomer, func(s *scene) {
			s.cmd.Mail.State, s.cmd.By.Person, s.cmd.By.Link = MailSeen, false, linkMaker
		}, PersonRequired},
		"of a state unheard":  {RoleService, func(s *scene) { s.cmd.Mail.State = 99 }, UnknownAct},
		"of no state":         {RoleService, func(s *scene) { s.cmd.Mail.State = MailNone }, UnknownAct},
		"of a reason unheard": {RoleService, func(s *scene) { s.cmd.Mail.Why = CodeMismatch }, UnknownAct},
		"of a parcel that is over": {RoleService, func(s *scene) {
			s.grant.Status, s.grant.Handoff = Released, &Handoff{Courier: "c1", At: InstantOf(s.now)}
		}, WrongStatus},
		"after its window": {RoleService, func(s *scene) { s.now = s.grant.Window.Until.Time() }, WrongStatus},
	} {
		s := order(t, TellMail, c.role)
		ready(s, TellMail)
		c.spoil(s)
		if d := s.decide(); reasonOf(d) != c.want || len(d.Events) != 0 {
			t.Errorf("%s: %q with %v, want %q", name, reasonOf(d), d.Events, c.want)
		}
	}
	s := order(t, TellMail, RoleService)
	ready(s, TellMail)
	s.cmd.Mail.Status = "5.1.1 <ada@shop.example>: no such user"
	if d := s.decide(); len(d.Events) != 1 || d.Events[0].MailStatus != "" {
		t.Errorf("a server's own words went into %+v", d.Events)
	}
	s.grant.Rights = nil // no code
	if d := s.decide(); d.Refusal != nil || len(d.Events) != 0 {
		t.Errorf("of a parcel without a code: %v, %v", d.Refusal, d.Events)
	}
}

// What is known is the grant's word, and what is noted beside it of the same code.
func TestWhatIsKnownOfAMail(t *testing.T) {
	word := func(issue uint64, s MailState) MailWord {
		return MailWord{Issue: issue, State: s, At: InstantOf(handofftest.Noon.Add(time.Minute))}
	}
	for name, c := range map[string]struct {
		grant, noted MailWord
		want         MailState
	}{
		"nothing":                        {MailWord{}, MailWord{}, MailNone},
		"a note":                         {MailWord{}, word(2, MailAccepted), MailAccepted},
		"a note of an older code":        {MailWord{}, word(1, MailDelivered), MailNone},
		"a failure":                      {word(2, MailFailed), word(2, MailAccepted), MailFailed},
		"a failure of an older code":     {word(1, MailFailed), word(2, MailAccepted), MailAccepted},
		"and nothing since":              {word(1, MailFailed), word(1, MailAccepted), MailNone},
		"taken after all, and delivered": {word(2, MailAccepted), word(2, MailDelivered), MailDelivered},
		"seen":                           {word(2, MailSeen), word(2, MailDelivered), MailSeen},
	} {
		g := order(t, TellMail, RoleService).grant
		g.Code.Issued = []uint64{1, 2}
		if c.grant.Issue != 0 {
			g.Mail = &c.grant
		}
		if got := g.MailKnown(c.noted); got.State != c.want {
			t.Errorf("%s: %s, want %s", name, got.State, c.want)
		}
		g.Rights = nil
		if got := g.MailKnown(c.noted); got.State != MailNone {
			t.Errorf("%s, of a parcel without a code: %s", name, got.State)
		}
	}
}
