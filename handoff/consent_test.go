package handoff_test

import (
	"slices"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// asker is a consent to be given for a grant to a building with a garage and a home.
func asker(t *testing.T, link string, kinds ...TargetKind) *scene {
	s := order(t, Consent, RoleCustomer)
	for _, kind := range []TargetKind{Garage, Home} {
		s.grant.Rights = append(s.grant.Rights, Right{Act: Open, Target: kind, Proofs: Proofs(ProofConsent), Uses: 1})
	}
	s.grant.Consents = nil
	s.cmd.Consents, s.cmd.By.Link, s.cmd.By.Person, s.cmd.Reachable = kinds, link, link == "", true
	return s
}

// Who came by a shop's link adds no consent: it waits for a resident of the door's unit. What
// they take back counts at once, and a customer in person is asked nothing.
func TestConsentByALink(t *testing.T) {
	both := []TargetKind{Garage, Home}
	const sent, none = ConfirmationSent, EventType(0)
	for name, c := range map[string]struct {
		link  string
		kinds []TargetKind
		spoil func(*scene)
		want  Reason
		event EventType
	}{
		"in person":                  {"", both, func(*scene) {}, "", EventConsented},
		"in person, and unreachable": {"", both, func(s *scene) { s.cmd.Reachable = false }, "", EventConsented},
		"by a link":                  {linkMaker, both, func(*scene) {}, sent, EventConsentAsked},
		"by a link, and unreachable": {linkMaker, both, func(s *scene) { s.cmd.Reachable = false }, NoConfirmedAddress, none},
		"one more by a link":         {linkMaker, both, func(s *scene) { s.grant.Consents = []TargetKind{Garage} }, sent, EventConsentAsked},
		"the other by a link":        {linkMaker, []TargetKind{Home}, func(s *scene) { s.grant.Consents = []TargetKind{Garage} }, sent, EventConsentAsked},
		"taken back by a link":       {linkMaker, nil, func(s *scene) { s.grant.Consents = both }, "", EventConsented},
		"one taken back by a link":   {linkMaker, []TargetKind{Home}, func(s *scene) { s.grant.Consents = both }, "", EventConsented},
		"as it stands":               {linkMaker, both, func(s *scene) { s.grant.Consents = both }, "", none},
		"of no such door":            {linkMaker, []TargetKind{Lobby}, func(*scene) {}, NoConsentNeeded, none},
		"on hold":                    {linkMaker, both, func(s *scene) { s.grant.Status = Held }, OnHold, none},
		"a moment after it was asked": {linkMaker, both, func(s *scene) {
			s.grant.ConsentAsk = &ConsentAsk{At: InstantOf(s.now.Add(-59 * time.Second)), Consents: both, Count: 1}
		}, sent, none},
		"a minute after it was asked": {linkMaker, both, func(s *scene) {
			s.grant.ConsentAsk = &ConsentAsk{At: InstantOf(s.now.Add(-time.Minute)), Consents: both, Count: 1}
		}, sent, EventConsentAsked},
		"another, a moment after": {linkMaker, both, func(s *scene) {
			s.grant.ConsentAsk = &ConsentAsk{At: InstantOf(s.now), Consents: []TargetKind{Home}, Count: 1}
		}, sent, EventConsentAsked},
		"for the fifth time":           {linkMaker, both, func(s *scene) { s.grant.ConsentAsk = &ConsentAsk{Count: 4, Over: true} }, sent, EventConsentAsked},
		"for the sixth time":           {linkMaker, both, func(s *scene) { s.grant.ConsentAsk = &ConsentAsk{Count: 5, Over: true} }, ConfirmationLimit, none},
		"what was asked is taken back": {"", nil, func(s *scene) { s.grant.ConsentAsk = &ConsentAsk{At: InstantOf(s.now), Consents: both, Count: 1} }, "", EventConsented},
		"what was asked, by a link":    {linkMaker, nil, func(s *scene) { s.grant.ConsentAsk = &ConsentAsk{At: InstantOf(s.now), Consents: both, Count: 1} }, "", EventConsented},
	} {
		s := asker(t, c.link, c.kinds...)
		c.spoil(s)
		d := s.decide()
		got := EventType(0)
		if len(d.Events) == 1 {
			got = d.Events[0].Type
		}
		if reasonOf(d) != c.want || got != c.event || len(d.Events) > 1 {
			t.Errorf("%s: %q with %v, want %q with %v", name, reasonOf(d), d.Events, c.want, c.event)
			continue
		}
		if got == none {
			continue
		}
		if e := d.Events[0]; e.Link != c.link || e.By != "customer" || !slices.Equal(e.Consents, c.kinds) {
			t.Errorf("%s: %+v", name, e)
		}
		after := Replay(*s.grant, d.Events)
		agreed, waits := s.grant.Consents, after.ConsentAsked(s.now)
		if got == EventConsented {
			agreed = c.kinds
		}
		if !slices.Equal(after.Consents, agreed) || (waits != nil) != (got == EventConsentAsked) || waits != nil && !slices.Equal(waits.Consents, c.kinds) {
			t.Errorf("%s: then %v is agreed to, and %+v waits", name, after.Consents, waits)
		}
	}
}

// A resident confirms what was asked for: that and no other, within the hour, once, and only
// while the parcel is under way. The event still says that a shop's link was behind it.
func TestConfirmConsent(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*scene)
		want  Reason
	}{
		"as asked":          {func(*scene) {}, ""},
		"a second in time":  {func(s *scene) { s.now = s.now.Add(time.Hour - time.Second) }, ""},
		"an hour later":     {func(s *scene) { s.now = s.now.Add(time.Hour) }, ConfirmationOver},
		"another ask":       {func(s *scene) { s.cmd.Wish = "0-1" }, ConfirmationOver},
		"no ask is named":   {func(s *scene) { s.cmd.Wish = "" }, ConfirmationOver},
		"asked for anew":    {func(s *scene) { s.grant.ConsentAsk.Count++ }, ConfirmationOver},
		"never asked for":   {func(s *scene) { s.grant.ConsentAsk = nil }, ConfirmationOver},
		"decided since":     {func(s *scene) { s.grant.ConsentAsk.Over = true }, ConfirmationOver},
		"the right is gone": {func(s *scene) { s.grant.Rights = s.grant.Rights[:1] }, NoConsentNeeded},
		"by the customer": {func(s *scene) {
			s.cmd.By = Actor{Role: RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81", Link: linkMaker}
		}, GrantUnknown},
		"by the shop":        {func(s *scene) { s.cmd.By = Actor{Role: RoleShop, Shop: handofftest.Shop} }, GrantUnknown},
		"the parcel is held": {func(s *scene) { s.grant.Status = Held }, OnHold},
	} {
		s := asker(t, linkMaker, Home)
		asked := Replay(*s.grant, s.decide().Events)
		s.grant, s.now = &asked, s.now.Add(time.Second)
		s.cmd = Command{Act: ConfirmConsent, By: Actor{Role: RoleResident}, Who: "resident 1", Wish: asked.ConsentAsk.ID()}
		s.now = s.grant.ConsentAsk.At.Time()
		c.spoil(s)
		d := s.decide()
		if reasonOf(d) != c.want || (c.want == "") != (len(d.Events) == 1) {
			t.Errorf("%s: %q with %v, want %q", name, reasonOf(d), d.Events, c.want)
			continue
		}
		if c.want != "" {
			continue
		}
		if e := d.Events[0]; e.Type != EventConsented || e.By != "resident" || e.Who != "resident 1" || e.Link != linkMaker || !slices.Equal(e.Consents, []TargetKind{Home}) {
			t.Errorf("%s: %+v", name, e)
		}
		after := Replay(asked, d.Events)
		s.grant = &after
		if again := s.decide(); reasonOf(again) != ConfirmationOver || !slices.Equal(after.Consents, []TargetKind{Home}) {
			t.Errorf("%s, and again: %q, agreed %v", name, reasonOf(again), after.Consents)
		}
	}
}

// A store that was put back confirms nothing that was asked for before.
func TestADoubtEndsAnAsk(t *testing.T) {
	s := asker(t, linkMaker, Home)
	asked := Replay(*s.grant, s.decide().Events)
	after := Replay(asked, []Event{{Type: EventDistrusted, At: InstantOf(s.now)}, {Type: EventConfirmed, At: InstantOf(s.now)}})
	if after.Status != Active || after.ConsentAsked(s.now) != nil || asked.ConsentAsked(s.now) == nil {
		t.Errorf("%v, %+v", after.Status, after.ConsentAsk)
	}
}
