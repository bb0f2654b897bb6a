package residents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/notify"
	"latchkey/notify/mail"
	"latchkey/notify/mail/mailtest"
	"latchkey/notify/mail/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const house = "bld_turm5" // of the sample dispatch

// street is a world with a building of three doors, and a notifier before a mail server.
type street struct {
	*handofftest.World
	t        *testing.T
	notifier *Notifier
	gate     *gateway

	mu   sync.Mutex
	lost []string
}

// gateway passes letters on until it is told to break.
type gateway struct {
	mail.Transport
	mu     sync.Mutex
	before func(mail.Letter) error // nil: nothing
}

func (g *gateway) Send(ctx context.Context, l mail.Letter) error {
	g.mu.Lock()
	before := g.before
	g.mu.Unlock()
	if before != nil {
		if err := before(l); err != nil {
			return err
		}
	}
	return g.Transport.Send(ctx, l)
}

func (s *street) Sent(message.Kind) {}

func (s *street) Undeliverable(k message.Kind, r notify.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, string(k)+" "+r.Class)
}

func newStreet(t *testing.T, addr string) *street {
	t.Helper()
	s := &street{World: handofftest.New(t, embedded.New(t)), t: t}
	server, err := mail.ParseURL("smtp://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := mail.NewSender(mail.Config{Server: server, From: "Latchkey <latchkey@shop.example>", Clock: s.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	s.gate = &gateway{Transport: sender}
	s.notifier, err = New(Config{
		Grants: s.Service, Residents: s.Residents, Registry: s.Registry, Store: s.Store, Transport: s.gate, Clock: s.Clock, Observer: s,
		PublicURL: "https://latchkey.example/", CarrierNames: map[string]string{handofftest.Carrier: "Swift Parcels"}, Kept: 30 * 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Cleared(t, "cou_7")
	s.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	s.must(s.Registry.Enroll(t.Context(), s.building()))
	at := handofftest.Home
	for id, kind := range map[string]handoff.TargetKind{"front": handoff.Lobby, "yard": handoff.Gate, "garage-4-links": handoff.Garage} {
		d := handoff.Door{ID: id, Kind: kind, Mode: handoff.Connected, Location: &at, BuildingID: house}
		if kind == handoff.Garage {
			d.Owner = &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"}
		}
		s.must(s.Registry.EnrollDoor(t.Context(), d))
	}
	s.must(s.Store.Join(t.Context(), Group))
	return s
}

func (s *street) building() handoff.Building {
	return handoff.Building{
		ID: house, Name: "Haus Eins", Address: "Turmstr. 5, 10559 Berlin", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier},
		Manager: "manager@building.example", Locale: "de",
	}
}

func (s *street) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// pass hands on what is due, once, and gives the errors that are not about time.
func (s *street) pass() (failures []error) {
	s.t.Helper()
	for {
		taken, err := s.Store.Take(s.t.Context(), Group, "r1", 100)
		s.must(err)
		if len(taken) == 0 {
			return failures
		}
		for _, d := range taken {
			switch err := s.notifier.Handle(s.t.Context(), d); {
			case err == nil:
				s.must(s.Store.Done(s.t.Context(), Group, d.ID))
			default:
				if notify.ReasonOf(err).Class != "later" {
					failures = append(failures, err)
				}
				s.must(s.Store.Retry(s.t.Context(), Group, eventlog.Failure{Delivery: d, At: s.Clock.Now()}, time.Minute))
			}
		}
	}
}

// lives makes an active resident, without the mails that lead there.
func (s *street) lives(address, unit, locale string) handoff.ResidentID {
	s.t.Helper()
	s.must(s.Residents.Subscribe(s.t.Context(), house, residents.Subscription{Address: address, Unit: unit, Locale: locale}))
	all, err := s.Store.Residents(s.t.Context(), house)
	s.must(err)
	at := slices.IndexFunc(all, func(r residents.Resident) bool { return r.Address == address && r.Unit == unit })
	r := all[at]
	now := handoff.InstantOf(s.Clock.Now())
	r.ConfirmedAt, r.ApprovedAt, r.WelcomeMailed, r.Informed, r.InformedAt = now, now, now, nil, 0
	s.must(s.Store.PutResident(s.t.Context(), r))
	return r.ID
}

// unlocks lets a courier through a door, which says how far it came.
func (s *street) unlocks(parcel, door string, states ...handoff.DoorState) {
	s.t.Helper()
	s.Dispatch(s.t, handofftest.Sample(parcel))
	at := handofftest.Home
	p, err := s.Service.Unlock(s.t.Context(), service.UnlockRequest{Courier: handofftest.Courier("cou_7"), Door: door, Parcel: parcel, Position: &handoff.Position{Point: at}})
	s.must(err)
	for _, state := range states {
		s.must(s.Service.Reported(s.t.Context(), door, p.Permit, state))
	}
}

// recipients are who got mail, sorted, one entry a mail.
func recipients(messages []mailtest.Message) []string {
	var to []string
	for _, m := range messages {
		to = append(to, strings.TrimSuffix(strings.TrimSuffix(m.To[0], "@home.example"), "@building.example"))
	}
	slices.Sort(to)
	return to
}

func (s *street) expect(got []mailtest.Message, want ...string) {
	s.t.Helper()
	if r := recipients(got); !slices.Equal(r, want) {
		s.t.Errorf("mail went to %v, want %v", r, want)
	}
}

func body(t *testing.T, m mailtest.Message) string {
	t.Helper()
	text, err := m.Part("text/plain")
	if err != nil {
		t.Fatal(err)
	}
	subject, err := m.Subject()
	if err != nil {
		t.Fatal(err)
	}
	return subject + "\n" + text
}

// settled is how many mails there were after everybody was told what is installed.
func (s *street) settled(sink *mailtest.SinkServer) (before int) {
	s.t.Helper()
	s.Clock.Advance(2 * time.Hour)
	if failed := s.pass(); len(failed) > 0 {
		s.t.Fatal(failed)
	}
	return len(sink.Messages())
}

func TestWhoHearsOfAnUnlocking(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "de")
	s.lives("neighbour@home.example", "5 rechts", "en")
	s.lives("whole@home.example", "", "en")
	s.lives("both@home.example", "", "en")
	s.lives("both@home.example", "4 LINKS", "en")
	s.must(s.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: "stranger@home.example"}))
	n := s.settled(sink)

	s.unlocks("P1", "front", handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked)
	s.pass()
	got := sink.Messages()[n:]
	s.expect(got, "both", "unit", "whole")
	for _, m := range got {
		text := body(t, m)
		if strings.Contains(text, "P1") || strings.Contains(text, "Sample Customer") || !strings.Contains(text, "Swift Parcels") || !strings.Contains(text, "(front)") {
			t.Errorf("it says\n%s", text)
		}
		if named := strings.Contains(strings.ToLower(text), "4 links"); named == (m.To[0] == "whole@home.example") {
			t.Errorf("to %s it says\n%s", m.To[0], text)
		}
	}
	n += len(got)

	// A lock that cannot say that it let go, and a door that has no contact.
	s.unlocks("P2", "front", handoff.DoorOpened)
	s.unlocks("P3", "yard", handoff.DoorConfirmed)
	s.unlocks("P4", "yard", handoff.DoorRefused)
	s.pass()
	got = sink.Messages()[n:]
	s.expect(got, "both", "both", "unit", "unit", "whole", "whole")
}

// A garage or a flat is its own unit's business: others do not learn of it, nor which it is.
func TestGaragesAreTheirOwners(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "en")
	s.lives("whole@home.example", "", "en")
	n := s.settled(sink)
	for _, m := range sink.Messages() {
		if strings.Contains(body(t, m), "garage-4-links") {
			t.Errorf("what is installed names a flat's garage to %s", m.To[0])
		}
	}
	now := handoff.InstantOf(s.Clock.Now())
	g := s.Dispatch(t, handofftest.Sample("P1"))
	s.must(s.Store.Append(t.Context(), now, handoff.Event{
		Type: handoff.EventDoorOpened, Grant: g.ID, At: now, Carrier: handofftest.Carrier, Door: "garage-4-links", Target: handoff.Garage,
		Building: house, Permit: handoff.PermitID{7},
	}))
	s.pass()
	s.expect(sink.Messages()[n:], "unit")
	n++
	s.must(s.Store.Append(t.Context(), now, handoff.Event{Type: handoff.EventDoorForced, At: now, Door: "garage-4-links", Building: house}))
	s.pass()
	got := sink.Messages()[n:]
	s.expect(got, "customer@shop.example", "manager", "unit", "whole")
	for _, m := range got {
		if strings.Contains(body(t, m), "garage-4-links") == (m.To[0] == "whole@home.example") {
			t.Errorf("to %s it says\n%s", m.To[0], body(t, m))
		}
	}
}

// What is wrong at a garage or home its customer and its unit hear at once.
func TestAlarmsOfAGarageGoToItsCustomerAndUnit(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "en")
	s.lives("neighbour@home.example", "5 rechts", "en")
	s.must(s.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: "unconfirmed@home.example", Unit: "4 links"}))
	n := s.settled(sink)
	g := s.Dispatch(t, handofftest.Sample("P1"))
	now := handoff.InstantOf(s.Clock.Now())
	for kind, want := range map[handoff.EventType][2]string{
		handoff.EventDoorForced:   {"opened without a permit", "ohne Erlaubnis geöffnet"},
		handoff.EventDoorHeldOpen: {"stands open", "steht offen"},
		handoff.EventDoorTampered: {"tampered with", "Eingriff gemeldet"},
	} {
		e := handoff.Event{Type: kind, At: now, Door: "garage-4-links", Target: handoff.Garage, Building: house}
		s.must(s.Store.Append(t.Context(), now, e))
		s.pass()
		got := sink.Messages()[n:]
		s.expect(got, g.Dispatch.Customer.Email, "manager", "unit")
		for _, m := range got {
			text := body(t, m)
			says := strings.Contains(text, "Your door, Garage door (garage-4-links): "+want[0]) || strings.Contains(text, "Ihre Tür, Garagentor (garage-4-links): "+want[1])
			if m.To[0] != "manager@building.example" && !says || strings.Contains(text, "P1") {
				t.Errorf("%s to %s\n%s", kind, m.To[0], text)
			}
			if link := "https://latchkey.example/account"; strings.Contains(text, link) != (m.To[0] == g.Dispatch.Customer.Email) {
				t.Errorf("%s to %s\n%s", kind, m.To[0], text)
			}
		}
		n += len(got)
	}
}

// Whom the manager removes is told, and still hears of the unit's doors for three days.
func TestAResidentIsNotMadeDeaf(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.Dispatch(t, handofftest.Sample("P1")) // by it the garage's unit is known
	id := s.lives("unit@home.example", "4 links", "en")
	s.must(s.Residents.PutOnFile(t.Context(), house, []residents.Subscription{{Address: "unit@home.example", Unit: "4 links", Locale: "en"}}))
	n := s.settled(sink)
	removed := func(how func() error) {
		t.Helper()
		s.must(how())
		s.pass()
		got := sink.Messages()[n:]
		s.expect(got, "unit")
		if len(got) == 1 && !strings.Contains(body(t, got[0]), "You were removed as a resident of 4 links") {
			t.Errorf("it says\n%s", body(t, got[0]))
		}
		n += len(got)
	}
	toFile := func(list ...residents.Subscription) func() error {
		return func() error { return s.Residents.PutOnFile(t.Context(), house, list) }
	}
	removed(toFile())
	s.must(toFile()()) // once more: nothing new
	s.Clock.Advance(70 * time.Hour)
	s.must(s.Store.Append(t.Context(), handoff.InstantOf(s.Clock.Now()), handoff.Event{
		Type: handoff.EventDoorForced, At: handoff.InstantOf(s.Clock.Now()), Door: "garage-4-links", Target: handoff.Garage, Building: house,
	}))
	s.pass()
	s.expect(sink.Messages()[n:], "customer@shop.example", "manager", "unit")
	n = len(sink.Messages())

	// Put back, it is undone; removed by a rejection, it takes as long.
	s.must(toFile(residents.Subscription{Address: "unit@home.example", Unit: "4 links", Locale: "en"})())
	s.Clock.Advance(24 * time.Hour)
	s.pass()
	n = len(sink.Messages())
	removed(func() error { return s.Residents.Reject(t.Context(), house, id) })
	s.Clock.Advance(72*time.Hour - time.Second)
	if all, err := s.Residents.List(t.Context(), house); err != nil || len(all) != 1 {
		t.Errorf("shortly before its time: %d residents, %v", len(all), err)
	}
	s.Clock.Advance(time.Second)
	if all, err := s.Residents.List(t.Context(), house); err != nil || len(all) != 0 {
		t.Errorf("at its time: %d residents, %v", len(all), err)
	}
}

// A garage or home belongs to a unit: its confirmed residents hear of every change to their door, and
// of every opening, whosever parcel it was. Who takes a door away from them does not keep it from
// them, not by putting it back and not by many changes at once.
func TestAUnitHearsOfItsDoor(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "en")
	s.lives("accomplice@home.example", "9", "en")
	s.lives("whole@home.example", "", "en")
	s.must(s.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: "unconfirmed@home.example", Unit: "4 links"}))
	at := handofftest.Home
	d := handoff.Door{
		ID: "home-4", Kind: handoff.Home, Mode: handoff.Connected, Location: &at, BuildingID: house, Unit: "4 links",
		Owner: &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_4"},
	}
	by := registry.By{Role: handoff.RoleManager, Who: "0123456789abcdef"}
	n := s.settled(sink)
	put := func(d handoff.Door) {
		_, _, err := s.Registry.ReplaceDoor(t.Context(), by, d, registry.Match{})
		s.must(err)
	}
	hears := func(want ...string) []mailtest.Message {
		t.Helper()
		s.Clock.Advance(time.Minute)
		s.pass()
		got := sink.Messages()[n:]
		s.expect(got, want...)
		n += len(got)
		return got
	}
	put(d)
	hears("unit")
	put(d) // the same again is no change
	hears()

	// Another owner and unit wait: those whose it is hear of it, and the accomplice when it counts.
	taken := d
	taken.Owner, taken.Unit = &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_9"}, "9"
	put(taken)
	if got := hears("unit"); len(got) == 1 && !strings.Contains(body(t, got[0]), "What would change: whose parcels it opens for.") {
		t.Errorf("it says\n%s", body(t, got[0]))
	}
	put(d)
	if got := hears("unit"); len(got) == 1 && !strings.Contains(body(t, got[0]), "It will not be made") {
		t.Errorf("it says\n%s", body(t, got[0]))
	}
	put(taken)
	hears("unit")
	s.Clock.Advance(72 * time.Hour)
	s.pass() // what is installed
	n = len(sink.Messages())
	s.must(s.Registry.SettleAll(t.Context()))
	if got := hears("accomplice", "unit"); len(got) == 2 && !strings.Contains(body(t, got[0]), "Whose parcels it opens for was changed") {
		t.Errorf("it says\n%s", body(t, got[0]))
	}
	put(d)
	hears("accomplice")
	s.Clock.Advance(72 * time.Hour)
	s.must(s.Registry.SettleAll(t.Context()))
	hears("accomplice", "unit")

	for i := range 20 { // many at once, and back
		changed := d
		changed.Fence = float64(30 + i)
		put(changed)
	}
	s.Clock.Advance(time.Minute)
	s.pass()
	told := recipients(sink.Messages()[n:])
	if heard := len(slices.DeleteFunc(told, func(to string) bool { return to != "unit" })); heard < 20 {
		t.Errorf("of 20 changes at once the unit hears %d", heard)
	}
	n = len(sink.Messages())
	put(d)
	hears("unit")

	// An opening for a parcel of somebody else's.
	parcel := handofftest.Sample("P1") // of cus_81
	parcel.To.Unit, parcel.Day = "9", handoff.DateOf(s.Clock.Now())
	g := s.Dispatch(t, parcel)
	now := handoff.InstantOf(s.Clock.Now())
	s.must(s.Store.Append(t.Context(), now, handoff.Event{
		Type: handoff.EventDoorOpened, Grant: g.ID, At: now, Carrier: handofftest.Carrier, Door: "home-4", Target: handoff.Home, Building: house, Permit: handoff.PermitID{9},
	}))
	s.Clock.Advance(time.Second)
	s.pass()
	got := sink.Messages()[n:]
	s.expect(got, "accomplice", "unit")
	n += len(got)

	bare := d
	bare.Unit = "" // left out: it stays
	bare.Key = []byte("its first key")
	put(bare)
	hears("unit")
	s.must(s.Registry.RemoveDoor(t.Context(), by, d))
	got = hears("unit")
	if len(got) == 1 && !strings.Contains(body(t, got[0]), "The door was removed") {
		t.Errorf("it says\n%s", body(t, got[0]))
	}

	var changes []string
	for _, e := range s.Events(t) {
		if e.Type == handoff.EventDoorChanged && e.Door == "home-4" {
			if e.By != "manager" || e.Who != by.Who || e.Building != house {
				t.Errorf("by %q, %q", e.By, e.Who)
			}
			changes = append(changes, strings.Join(e.Changes, " "))
		}
	}
	if len(changes) != 26 || changes[0] != "enrolled" || changes[1] != "owner unit" || changes[2] != "owner unit" || changes[24] != "public_key" || changes[25] != "removed" {
		t.Errorf("%d changes: %q", len(changes), changes)
	}
}

// linkIn is the token of the first link in a mail to a page.
func linkIn(t *testing.T, m mailtest.Message, page string) string {
	t.Helper()
	_, after, found := strings.Cut(body(t, m), "https://latchkey.example/residents/"+page+"/")
	if !found {
		t.Fatalf("no link to %s in\n%s", page, body(t, m))
	}
	return strings.Fields(after)[0]
}

// Those whose a door is can stop a change of it, by the link in the mail: the residents who were
// confirmed before, and the owner. One who was confirmed for three days can also agree; the owner
// by a mail cannot, whose address a shop gave.
func TestTheUnitObjects(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("old@home.example", "4 links", "en")
	s.Clock.Advance(71 * time.Hour)
	s.Dispatch(t, func() handoff.Dispatch {
		d := handofftest.Sample("P1")
		d.Day = handoff.DateOf(s.Clock.Now())
		return d
	}())
	recent := s.lives("recent@home.example", "4 links", "en")
	s.lives("neighbour@home.example", "5", "en")
	at := handofftest.Home
	d := handoff.Door{
		ID: "home-4", Kind: handoff.Home, Mode: handoff.Connected, Location: &at, BuildingID: house, Unit: "4 links",
		Owner: &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"},
	}
	by := registry.By{Role: handoff.RoleManager, Who: "0123456789abcdef"}
	s.must(s.Registry.EnrollDoor(t.Context(), d))
	n := s.settled(sink)
	ask := func() (id string, to map[string]string) {
		t.Helper()
		taken := d
		taken.Owner = &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_9"}
		_, stands, err := s.Registry.ReplaceDoor(t.Context(), by, taken, registry.Match{})
		s.must(err)
		s.lives("late@home.example", "4 links", "en")
		s.Clock.Advance(time.Minute)
		s.pass()
		to = map[string]string{}
		var about []mailtest.Message
		for _, m := range sink.Messages()[n:] {
			if strings.Contains(body(t, m), "/residents/change/") {
				about = append(about, m)
				to[m.To[0]] = linkIn(t, m, "change")
			}
		}
		n = len(sink.Messages())
		s.expect(about, "customer@shop.example", "old", "recent")
		return stands.Pending.ID, to
	}
	follow := func(token string) (residents.Change, error) { return s.Residents.FollowChange(t.Context(), token) }
	agrees := func(to map[string]string) (who []string) {
		t.Helper()
		for address, token := range to {
			c, err := follow(token)
			s.must(err)
			if c.Approve {
				who = append(who, address)
			} else if err := s.Residents.Agree(t.Context(), c); !errors.Is(err, identity.ErrLink) {
				t.Errorf("%s agrees: %v", address, err)
			}
		}
		return who
	}
	for _, who := range []string{"customer@shop.example", "old@home.example", "recent@home.example"} {
		_, to := ask()
		if got := agrees(to); !slices.Equal(got, []string{"old@home.example"}) {
			t.Errorf("%v may agree", got)
		}
		c, err := follow(to[who])
		s.must(err)
		s.must(s.Residents.Object(t.Context(), c))
		s.Clock.Advance(time.Minute)
		s.pass()
		got := sink.Messages()[n:]
		if len(got) < 3 || !strings.Contains(body(t, got[0]), "It will not be made") && !strings.Contains(body(t, got[0]), "Sie wird nicht gemacht") {
			t.Errorf("after the objection of %s, %v hear", who, recipients(got))
		}
		n = len(sink.Messages())
		for _, token := range to {
			if _, err := follow(token); !errors.Is(err, identity.ErrLink) {
				t.Errorf("a link works twice: %v", err)
			}
		}
	}
	change, to := ask()
	pending, err := s.Registry.Waits(t.Context(), house, change)
	s.must(err)
	all, err := s.Store.Residents(t.Context(), house)
	s.must(err)
	for _, r := range all { // a link that was never mailed, made for each of the others
		_, err := follow(s.Residents.ChangeLink(house, pending.Pending, r.ID))
		if may := r.Address == "old@home.example" || r.ID == recent; may != (err == nil) || !may && !errors.Is(err, identity.ErrLink) {
			t.Errorf("%s of %s: %v", r.Address, r.Unit, err)
		}
	}
	c, err := follow(to["old@home.example"])
	s.must(err)
	s.must(s.Residents.Agree(t.Context(), c))
	if door, err := s.Registry.Door(t.Context(), "home-4"); err != nil || door.Owner.ID != "cus_9" || door.Pending != nil {
		t.Errorf("agreed to, it is %+v, %v", door, err)
	}
	if n := handofftest.Count(s.Events(t), handoff.EventDoorChangeObjected); n != 3 {
		t.Errorf("%d objections in the log", n)
	}
}

// A removed resident can object, twice; the log has who removed whom.
func TestARemovedResidentObjects(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	id := s.lives("unit@home.example", "4 links", "en")
	n := s.settled(sink)
	by := registry.By{Role: handoff.RoleManager, Who: "0123456789abcdef"}
	remove := func() mailtest.Message {
		t.Helper()
		s.Clock.Advance(time.Minute)
		s.must(s.Residents.RejectBy(t.Context(), by, house, id))
		s.pass()
		got := sink.Messages()[n:]
		s.expect(got, "unit")
		n += len(got)
		return got[0]
	}
	var last string
	for range 2 {
		token := linkIn(t, remove(), "stay")
		l, _, err := s.Residents.Follow(t.Context(), residents.LinkStay, token)
		s.must(err)
		s.must(s.Residents.Stay(t.Context(), l))
		for _, over := range []string{token, last} {
			if _, _, err := s.Residents.Follow(t.Context(), residents.LinkStay, over); !errors.Is(err, identity.ErrLink) {
				t.Errorf("a link works twice: %v", err)
			}
		}
		last = token
	}
	s.Clock.Advance(80 * time.Hour)
	if all, err := s.Residents.List(t.Context(), house); err != nil || len(all) != 1 || all[0].LeavesAt != 0 {
		t.Errorf("after two objections: %+v, %v", all, err)
	}
	if m := remove(); strings.Contains(body(t, m), "/residents/stay/") {
		t.Errorf("a third objection is offered:\n%s", body(t, m))
	}
	var told []string
	for _, e := range s.Events(t) {
		if e.Type == handoff.EventResidentRemoved || e.Type == handoff.EventResidentStays {
			if e.Resident != id || e.Type == handoff.EventResidentRemoved && (e.Who != by.Who || e.Due.Time().Sub(e.At.Time()) != 72*time.Hour) {
				t.Errorf("%+v", e)
			}
			told = append(told, e.Type.String()+" "+e.By)
		}
	}
	if got := strings.Join(told, ", "); got != "resident_removed manager, resident_stays resident, resident_removed manager, resident_stays resident, resident_removed manager" {
		t.Errorf("told %s", got)
	}
	s.Clock.Advance(72 * time.Hour)
	if all, err := s.Residents.List(t.Context(), house); err != nil || len(all) != 0 {
		t.Errorf("in the end: %+v, %v", all, err)
	}
}

func TestAlarmsGoToTheHouseAndTheManager(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("unit@home.example", "4 links", "en")
	s.lives("whole@home.example", "", "en")
	n := s.settled(sink)
	now := handoff.InstantOf(s.Clock.Now())
	for kind, want := range map[handoff.EventType][2]string{
		handoff.EventDoorForced:   {"opened without a permit", "ohne Erlaubnis geöffnet"},
		handoff.EventDoorHeldOpen: {"stands open", "steht offen"},
		handoff.EventDoorTampered: {"tampered with", "Eingriff gemeldet"},
	} {
		s.must(s.Store.Append(t.Context(), now, handoff.Event{Type: kind, At: now, Door: "front", Building: house}))
		s.pass()
		got := sink.Messages()[n:]
		s.expect(got, "manager", "whole")
		for _, m := range got {
			if i := strings.Index("wm", m.To[0][:1]); i < 0 || !strings.Contains(body(t, m), want[i]) {
				t.Errorf("%s to %s\n%s", kind, m.To[0], body(t, m))
			}
		}
		n += len(got)
	}
	s.unlocks("P1", "front", handoff.DoorFailed)
	s.pass()
	s.expect(sink.Messages()[n:], "manager", "whole")
}

// The reader dies after each mail of a large house in turn. Nobody is left out, and
// nobody gets a second mail that is not recognisably the first.
func TestACrashInTheMiddleOfAFanOut(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	const many = 20
	for i := range many {
		s.lives(fmt.Sprintf("r%02d@home.example", i), "", "en")
	}
	n := s.settled(sink)
	s.unlocks("P1", "front", handoff.DoorConfirmed)

	taken, err := s.Store.Take(t.Context(), Group, "r1", 100)
	s.must(err)
	at := slices.IndexFunc(taken, func(d eventlog.Delivery) bool { return d.Event.Type == handoff.EventDoorConfirmed })
	crashed := errors.New("crashed")
	for after := range many {
		sent := 0
		ctx, die := context.WithCancelCause(t.Context())
		s.gate.before = func(mail.Letter) error {
			if sent++; sent > 1 {
				die(crashed)
				return crashed
			}
			return nil
		}
		if err := s.notifier.Handle(ctx, taken[at]); err == nil && after < many-1 {
			t.Fatalf("it did not crash after mail %d", after)
		}
		die(nil)
	}
	s.gate.before = nil
	s.must(s.notifier.Handle(t.Context(), taken[at]))
	got := sink.Messages()[n:]
	if len(got) != many {
		t.Errorf("%d mails, want one to each of %d", len(got), many)
	}
	ids := map[string]bool{}
	for _, m := range got {
		ids[m.To[0]+m.ID()] = true
	}
	if len(ids) != many {
		t.Errorf("%d different mails", len(ids))
	}
}

// The one mail that a crash may repeat, between the server's yes and our note, is
// the same mail to whoever reads its Message-ID.
func TestARepeatedMailHasItsID(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("whole@home.example", "", "en")
	n := s.settled(sink)
	s.unlocks("P1", "front", handoff.DoorConfirmed)
	sink.Inject(1, mailtest.Drop(mailtest.AtDot))
	if failed := s.pass(); len(failed) != 1 {
		t.Fatalf("%v", failed)
	}
	s.Clock.Advance(2 * time.Minute)
	s.pass()
	got := sink.Messages()[n:]
	if len(got) != 2 || got[0].ID() != got[1].ID() {
		t.Errorf("%d mails", len(got))
	}
}

// A mailbox that is gone keeps nobody waiting; a server that is away is tried again, and
// who had the mail does not get it again.
func TestOneBadMailbox(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	for _, name := range []string{"a", "b", "c"} {
		s.lives(name+"@home.example", "", "en")
	}
	n := s.settled(sink)
	s.unlocks("P1", "front", handoff.DoorConfirmed)
	refuse := func(code int) func(mail.Letter) error {
		return func(l mail.Letter) error {
			if l.To == "b@home.example" {
				sink.Inject(1, mailtest.Refuse(mailtest.AtRcpt, code))
			}
			return nil
		}
	}
	s.gate.before = refuse(450)
	if failed := s.pass(); len(failed) != 1 {
		t.Errorf("%v", failed)
	}
	s.expect(sink.Messages()[n:], "a", "c")
	s.gate.before = refuse(550)
	s.Clock.Advance(2 * time.Minute)
	if failed := s.pass(); len(failed) != 0 || !slices.Equal(s.lost, []string{"door-unlocked rejected"}) {
		t.Errorf("%v %v", failed, s.lost)
	}
	s.expect(sink.Messages()[n:], "a", "c")
}

func TestNoMoreThanThirtyADay(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("whole@home.example", "", "en")
	n := s.settled(sink)
	deliver := func(from, to int) {
		for i := from; i < to; i++ {
			s.unlocks(fmt.Sprintf("P%d", i), "front", handoff.DoorConfirmed)
		}
		s.pass()
	}
	deliver(0, NoticesPerDay+5)
	got := sink.Messages()[n:]
	if len(got) != NoticesPerDay {
		t.Errorf("%d notices", len(got))
	}
	for i, m := range got {
		if last := strings.Contains(body(t, m), "last of 30 notices"); last != (i == NoticesPerDay-1) {
			t.Errorf("notice %d of %d says that it is the last: %v", i, len(got), last)
		}
	}
	// Nobody can drown an alarm in openings.
	now := handoff.InstantOf(s.Clock.Now())
	s.must(s.Store.Append(t.Context(), now, handoff.Event{Type: handoff.EventDoorForced, At: now, Door: "front", Building: house}))
	s.pass()
	s.expect(sink.Messages()[n+NoticesPerDay:], "manager", "whole")
	// Tomorrow is another day.
	s.Clock.Set(time.Date(2026, time.November, 25, 11, 0, 0, 0, time.UTC))
	s.must(s.Store.Append(t.Context(), handoff.InstantOf(s.Clock.Now()), handoff.Event{
		Type: handoff.EventDoorOpened, Grant: s.Parcel(t, "P1").ID, At: handoff.InstantOf(s.Clock.Now()), Carrier: handofftest.Carrier,
		Door: "front", Target: handoff.Lobby, Building: house, Permit: handoff.PermitID{9},
	}))
	s.pass()
	s.expect(sink.Messages()[n+NoticesPerDay+2:], "whole")
}

// A flood of alarms at one door is one mail at once and one an hour, and keeps no other
// door's alarm back.
func TestOneDoorSpendsNoOthersNotices(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	s.lives("whole@home.example", "", "en")
	n := s.settled(sink)
	seq := uint64(0)
	forced := func(door string) {
		seq++
		_, err := s.Registry.Alarmed(t.Context(), registry.Alarm{
			Door: handoff.Door{ID: door, Kind: handoff.Gate, BuildingID: house, Key: []byte(door)}, Type: handoff.EventDoorForced,
			Seq: seq, At: handoff.InstantOf(s.Clock.Now()),
		})
		s.must(err)
	}
	for range 2000 {
		forced("yard")
	}
	s.pass()
	s.expect(sink.Messages()[n:], "manager", "whole")
	n += 2
	forced("front")
	s.pass()
	got := sink.Messages()[n:]
	s.expect(got, "manager", "whole")
	if len(got) > 0 && !strings.Contains(body(t, got[0]), "(front)") {
		t.Errorf("it says\n%s", body(t, got[0]))
	}
	n += 2
	s.Clock.Advance(time.Hour)
	s.pass()
	s.pass()
	got = sink.Messages()[n:]
	s.expect(got, "manager", "whole")
	for _, m := range got {
		if i := strings.Index("wm", m.To[0][:1]); !strings.Contains(strings.Join(strings.Fields(body(t, m)), " "), []string{"New entries in the log: 12", "Neue Einträge im Protokoll: 12"}[i]) {
			t.Errorf("to %s it says\n%s", m.To[0], body(t, m))
		}
	}
}

// Whoever lives there is told what is installed, once, an hour after the last change,
// although the manager forgot to announce it.
func TestWhatIsInstalled(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	list := []residents.Subscription{{Address: "deutsch@home.example", Locale: "de-AT", Unit: "4 links"}, {Address: "english@home.example", Locale: "en"}}
	s.must(s.Residents.PutOnFile(t.Context(), house, list))
	s.must(s.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: "stranger@home.example", Unit: "4 links"}))
	s.pass()
	s.expect(sink.Messages(), "stranger") // the question, and nothing yet of doors
	s.Clock.Advance(59 * time.Minute)
	s.pass()
	s.expect(sink.Messages(), "stranger")
	s.Clock.Advance(3 * time.Minute)
	s.pass()
	got := sink.Messages()[1:]
	s.expect(got, "deutsch", "english", "manager")
	for _, m := range got {
		want := map[string][]string{
			"e": {"What is installed", "Front door (front)", "Gate (yard)", "Can it be hacked?", "Swift Parcels", "30 days", "manager@building.example", "/residents/confirm/"},
			"d": {"Was eingebaut ist", "Haustür (front)", "Kann man es hacken?", "30 Tage", "/residents/confirm/"},
			"m": {"Bitte hängen Sie dies dort aus", "Was eingebaut ist", "Haustür (front)"},
		}[m.To[0][:1]]
		for _, w := range want {
			if !strings.Contains(strings.Join(strings.Fields(body(t, m)), " "), w) {
				t.Errorf("%q is missing in\n%s", w, body(t, m))
			}
		}
	}

	// The same again, and what residents are not told of, brings no mail.
	s.must(s.Registry.Enroll(t.Context(), s.building()))
	s.must(s.Residents.PutOnFile(t.Context(), house, list))
	s.must(s.Registry.Announce(t.Context(), house, handoff.Actor{Role: handoff.RoleManager}))
	s.Clock.Advance(26 * time.Hour)
	s.pass()
	if extra := sink.Messages()[4:]; len(extra) != 0 {
		t.Errorf("told again: %v", recipients(extra))
	}

	// A change does; two of them soon after each other bring the second one later.
	change := func(carriers ...string) {
		b := s.building()
		b.Carriers = carriers
		s.must(s.Registry.Enroll(t.Context(), b))
	}
	change("swift", "rival")
	s.Clock.Advance(61 * time.Minute)
	s.pass()
	s.expect(sink.Messages()[4:], "deutsch", "english", "manager")
	change("rival")
	s.Clock.Advance(2 * time.Hour)
	s.pass()
	s.expect(sink.Messages()[7:])
	s.Clock.Advance(11 * time.Hour)
	s.pass()
	s.expect(sink.Messages()[7:], "deutsch", "english", "manager")

	// Who moves in is told; who moved out is not. The manager can have it told at once.
	s.must(s.Residents.PutOnFile(t.Context(), house, []residents.Subscription{list[0], {Address: "new@home.example"}}))
	s.must(s.Registry.Announce(t.Context(), house, handoff.Actor{Role: handoff.RoleManager}))
	s.pass()
	s.expect(sink.Messages()[10:], "new")
	change("swift")
	s.must(s.Registry.Announce(t.Context(), house, handoff.Actor{Role: handoff.RoleManager}))
	s.pass()
	s.expect(sink.Messages()[11:], "deutsch", "manager", "new")
}

// Somebody who subscribes others reaches each of them once a day, three times if for several
// units, and no more than fifty a building and day.
func TestSubscribingOthers(t *testing.T) {
	sink := mailtest.Sink(t)
	s := newStreet(t, sink.Addr())
	ask := func(address string) {
		t.Helper()
		s.must(s.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: address}))
	}
	for range 5 {
		ask("victim@home.example")
		s.pass()
	}
	ask("VICTIM@home.example")
	s.pass()
	s.expect(sink.Messages(), "victim")
	for i := range residents.AsksPerDay / 2 {
		s.must(s.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: "victim@home.example", Unit: fmt.Sprint(i)}))
	}
	s.pass()
	if got := len(sink.Messages()); got != residents.AsksOfAddress {
		t.Errorf("%d questions to one address in a day", got)
	}
	s.Clock.Advance(25 * time.Hour)
	n := s.settled(sink) // what is installed, to the manager
	ask("victim@home.example")
	s.pass()
	s.expect(sink.Messages()[n:], "victim")
	for i := range 2 * residents.AsksPerDay {
		ask(fmt.Sprintf("r%d@home.example", i))
	}
	s.pass()
	if got := len(sink.Messages()) - n; got != residents.AsksPerDay {
		t.Errorf("%d questions in a day", got)
	}
	s.Clock.Advance(8 * 24 * time.Hour)
	if left, err := s.Residents.List(t.Context(), house); err != nil || len(left) != 0 {
		t.Errorf("%d who never confirmed are still there: %v", len(left), err)
	}
}

// The same to a real mail server, which keeps what it was given.
func TestPostfixTakesTheHeaders(t *testing.T) {
	post := mailtest.Postfix(t)
	s := newStreet(t, post.Addr())
	s.lives("whole@home.example", "", "de")
	s.Clock.Advance(2 * time.Hour)
	s.pass()
	s.unlocks("P1", "front", handoff.DoorConfirmed)
	if failed := s.pass(); len(failed) > 0 {
		t.Fatal(failed)
	}
	found := false
	for _, m := range post.Wait(3) { // what is installed to two, and the notice
		if text := body(t, m); strings.Contains(text, "entriegelt um") {
			found = true
			if !strings.HasPrefix(m.Header.Get("List-Unsubscribe"), "<https://latchkey.example/residents/unsubscribe/") || m.Header.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
				t.Errorf("%q %q", m.Header.Get("List-Unsubscribe"), m.Header.Get("List-Unsubscribe-Post"))
			}
		}
	}
	if !found {
		t.Error("no notice")
	}
}

func TestNewRefuses(t *testing.T) {
	good := newStreet(t, "127.0.0.1:1").notifier.Config
	for name, spoil := range map[string]func(*Config){
		"no store": func(c *Config) { c.Store = nil }, "no days": func(c *Config) { c.Kept = time.Hour },
		"no URL": func(c *Config) { c.PublicURL = "" }, "a path": func(c *Config) { c.PublicURL = "https://latchkey.example/x" },
		"a script": func(c *Config) { c.PublicURL = "javascript:x" }, "a user": func(c *Config) { c.PublicURL = "https://a:b@latchkey.example" },
	} {
		c := good
		if spoil(&c); func() error { _, err := New(c); return err }() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
