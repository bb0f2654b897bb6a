package residents

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/notify/mail/mailtest"
)

// ownHouse is a street in which the home of the sample's customer has long been unit 4 links's.
func ownHouse(t *testing.T, addr string) *street {
	t.Helper()
	s := newStreet(t, addr)
	at := handofftest.Home
	s.must(s.Registry.EnrollDoor(t.Context(), handoff.Door{
		ID: "home-4", Kind: handoff.Home, Mode: handoff.Connected, Location: &at, BuildingID: house, Unit: "4 links",
		Owner: &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"},
	}))
	return s
}

var byLink = handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81", Link: "0123456789abcdef"}

// ask asks by a shop's link that the home be opened.
func (s *street) ask(g *handoff.Grant) {
	s.t.Helper()
	_, err := s.Service.ConsentByLink(s.t.Context(), byLink, g.ID, []handoff.TargetKind{handoff.Home}, true)
	var refused *handoff.Refusal
	if !errors.As(err, &refused) || refused.Reason != handoff.ConfirmationSent {
		s.t.Fatal(err)
	}
}

// The question of who came by a shop's link goes to the confirmed residents of the door's unit,
// each with a link of their own that holds, and to nobody else: not to the address of the
// dispatch, nor to the manager. It is mailed once, and not once it is over.
func TestAConsentIsAskedOfTheUnit(t *testing.T) {
	sink := mailtest.Sink(t)
	s := ownHouse(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "de")
	s.lives("second@home.example", "4 LINKS", "en")
	s.lives("neighbour@home.example", "5 rechts", "en")
	s.lives("whole@home.example", "", "en")
	n := s.settled(sink)
	g := s.Dispatch(t, handofftest.Sample("P1"))
	s.ask(&g)
	s.pass()
	got := sink.Messages()[n:]
	s.expect(got, "second", "unit")
	tokens := map[string]bool{}
	for _, m := range got {
		text := body(t, m)
		for _, other := range []string{"P1\n", "Sample Customer", "customer@shop.example", "Sample Shop"} {
			if strings.Contains(text, other) {
				t.Errorf("to %s it names %q", m.To[0], other)
			}
		}
		link := regexp.MustCompile(`https://latchkey\.example/residents/consent/(\S+)`).FindStringSubmatch(text)
		if link == nil || !strings.Contains(text, "Swift Parcels") || !strings.Contains(strings.ToLower(text), "4 links") {
			t.Fatalf("to %s it says\n%s", m.To[0], text)
		}
		tokens[link[1]] = true
		now := s.Parcel(t, "P1")
		if l, err := s.Residents.ReadConsentLink(link[1]); err != nil || l.Grant != g.ID || l.Ask != now.ConsentAsk.ID() || !l.Until.Equal(now.ConsentAsk.Until()) {
			t.Errorf("the link says %+v, %v", l, err)
		}
	}
	if len(tokens) != 2 {
		t.Errorf("%d links to two residents", len(tokens))
	}
	n += len(got)

	s.Clock.Advance(2 * time.Minute)
	s.ask(&g)
	s.Clock.Advance(time.Hour) // the mail server was away
	s.pass()
	s.expect(sink.Messages()[n:])
}

// flat is a mail's text on one line.
func flat(t *testing.T, m mailtest.Message) string {
	t.Helper()
	return strings.Join(strings.Fields(body(t, m)), " ")
}

// Whatever is agreed to of a garage or home, and no longer, is mailed to its unit; the customer's
// own address has its mail from package mail.
func TestConsentsAreToldToTheUnit(t *testing.T) {
	sink := mailtest.Sink(t)
	s := ownHouse(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "en")
	s.lives("neighbour@home.example", "5 rechts", "en")
	s.lives("whole@home.example", "", "en")
	s.lives("customer@shop.example", "4 links", "en")
	n := s.settled(sink)
	g := s.Dispatch(t, handofftest.Sample("P1"))
	agree := func(want string, kinds ...handoff.TargetKind) {
		t.Helper()
		by := handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81"}
		_, err := s.Service.Consent(t.Context(), by, g.ID, kinds)
		s.must(err)
		s.Clock.Advance(time.Minute)
		s.pass()
		got := sink.Messages()[n:]
		s.expect(got, "unit")
		if len(got) == 1 && !strings.Contains(flat(t, got[0]), want) {
			t.Errorf("it says\n%s", body(t, got[0]))
		}
		n += len(got)
	}
	agree("Door Garage door Door Flat door Carrier", handoff.Garage, handoff.Home)
	agree("14:01 Door Flat door Carrier", handoff.Home)
	agree("no door of your garage or home is opened")
}

// Every opening of a garage or home is told to its unit, once for each permit: what the lock or
// the contact said, or, where the door says nothing, that a permit was given out.
func TestEveryOpeningOfAHomeIsTold(t *testing.T) {
	sink := mailtest.Sink(t)
	s := ownHouse(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "en")
	s.lives("customer@shop.example", "4 links", "en") // has the mails to the customer
	n := s.settled(sink)
	g := s.Dispatch(t, handofftest.Sample("P1"))
	for i, c := range []struct {
		events  []handoff.EventType
		awaited bool
		want    string // of the one mail; empty: none
	}{
		{[]handoff.EventType{handoff.EventDoorConfirmed, handoff.EventDoorOpened, handoff.EventDoorRelocked}, true, "A courier was let in"},
		{[]handoff.EventType{handoff.EventDoorRelocked}, true, "A courier was let in"},
		{nil, false, "The door has not told us whether it was opened"},
		{[]handoff.EventType{handoff.EventDoorOpened}, false, "The door has not told us whether it was opened"},
		{[]handoff.EventType{handoff.EventDoorSilent, handoff.EventDoorOpened}, true, "The door has not told us whether it was opened"},
		{[]handoff.EventType{handoff.EventDoorRefused}, true, ""},
	} {
		now := handoff.InstantOf(s.Clock.Now())
		for _, kind := range append([]handoff.EventType{handoff.EventPermitted}, c.events...) {
			e := handoff.Event{
				Type: kind, Grant: g.ID, At: now, Carrier: handofftest.Carrier, Door: "home-4", Target: handoff.Home, Building: house, Permit: handoff.PermitID{byte(i + 1)},
				Awaited: c.awaited && kind == handoff.EventPermitted,
			}
			s.must(s.Store.Append(t.Context(), now, e))
			s.pass()
		}
		got := sink.Messages()[n:]
		var want []string
		if c.want != "" {
			want = []string{"unit"}
		}
		if fmt.Sprint(recipients(got)) != fmt.Sprint(want) || len(got) == 1 && !strings.Contains(flat(t, got[0]), c.want) {
			t.Errorf("%v, awaited %v: to %v", c.events, c.awaited, recipients(got))
			for _, m := range got {
				t.Log(body(t, m))
			}
		}
		n += len(got)
	}
}
