package mail

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
	"latchkey/otp"
)

// story is a world in which one parcel lives.
type story struct {
	*handofftest.World
	t *testing.T
}

func (s *story) grant() handoff.Grant { return s.Parcel(s.t, "P1") }

func (s *story) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) dispatch(change ...func(*handoff.Dispatch)) {
	s.t.Helper()
	d := handofftest.Sample("P1")
	for _, f := range change {
		f(&d)
	}
	s.Dispatch(s.t, d)
}

// several is P1, P2 and P3, dispatched together.
func (s *story) several(change ...func(*handoff.Dispatch)) {
	s.t.Helper()
	s.dispatch(append(change, func(d *handoff.Dispatch) {
		d.Together = &handoff.Together{More: []handoff.Piece{{Parcel: "P2"}, {Parcel: "P3"}}}
	})...)
}

// part hands some of several over.
func (s *story) part(parcels ...string) {
	s.t.Helper()
	g := s.grant()
	p := handofftest.AtDoor("cou_7", parcels[0], g.CurrentCode())
	p.Parcels = parcels
	_, err := s.Service.Verify(s.t.Context(), p)
	s.ok(err)
}

func (s *story) recallSome(parcels ...string) {
	s.t.Helper()
	_, err := s.Service.RecallSome(s.t.Context(), shop, s.grant().ID, parcels, "")
	s.ok(err)
}

func ordinary(d *handoff.Dispatch) {
	d.Value, d.Categories = handoff.Money{Amount: "20", Currency: "EUR"}, []string{"books"}
}

func returned(d *handoff.Dispatch) {
	ordinary(d)
	d.Purpose = handoff.PurposeReturn
}

func (s *story) verify() {
	s.t.Helper()
	g := s.grant()
	_, err := s.Service.Verify(s.t.Context(), handofftest.AtDoor("cou_7", "P1", g.CurrentCode()))
	s.ok(err)
}

func (s *story) guess(n int) {
	s.t.Helper()
	for i := range n {
		g := s.grant()
		_, err := s.Service.Verify(s.t.Context(), handofftest.AtDoor("cou_7", "P1", handofftest.WrongCode(&g, i)))
		var refused *handoff.Refusal
		if !errors.As(err, &refused) || refused.Reason != handoff.CodeMismatch {
			s.t.Fatalf("guess %d: %v", i, err)
		}
	}
}

func (s *story) byHand() {
	s.t.Helper()
	ada, bob := shop, shop
	ada.Subject, ada.Person, bob.Subject, bob.Person = "ada", true, "bob", true
	_, err := s.Service.AskOverride(s.t.Context(), ada, s.grant().ID, "")
	s.ok(err)
	_, err = s.Service.Override(s.t.Context(), bob, s.grant().ID, "")
	s.ok(err)
}

func (s *story) abort() {
	s.t.Helper()
	_, err := s.Service.Abort(s.t.Context(), handofftest.AtDoor("cou_7", "P1", otp.Code{}))
	s.ok(err)
}

func (s *story) attempted() {
	s.t.Helper()
	_, err := s.Service.Attempted(s.t.Context(), handofftest.AtDoor("cou_7", "P1", otp.Code{}))
	s.ok(err)
}

var (
	customer = handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81"}
	shop     = handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
)

func (s *story) reissue() {
	s.t.Helper()
	_, err := s.Service.Reissue(s.t.Context(), customer, s.grant().ID)
	s.ok(err)
}

func (s *story) resend() {
	s.t.Helper()
	_, err := s.Service.Resend(s.t.Context(), customer, s.grant().ID)
	s.ok(err)
}

func (s *story) recall() {
	s.t.Helper()
	_, err := s.Service.Recall(s.t.Context(), shop, s.grant().ID, "")
	s.ok(err)
}

func (s *story) hold() {
	s.t.Helper()
	_, err := s.Service.Hold(s.t.Context(), shop, s.grant().ID, "")
	s.ok(err)
}

func (s *story) dispute() {
	s.t.Helper()
	_, err := s.Service.Dispute(s.t.Context(), customer, s.grant().ID, "not me")
	s.ok(err)
}

func (s *story) withdraw() {
	s.t.Helper()
	by := customer
	by.Person = true
	_, err := s.Service.WithdrawDispute(s.t.Context(), by, s.grant().ID)
	s.ok(err)
}

func (s *story) settle(r handoff.Ruling) {
	s.t.Helper()
	_, err := s.Service.SettleDispute(s.t.Context(), handoff.Actor{Role: handoff.RoleOps, Subject: "duty", Person: true}, s.grant().ID, r, "why")
	s.ok(err)
}

func (s *story) tomorrow() {
	s.t.Helper()
	_, err := s.Service.Reschedule(s.t.Context(), shop, s.grant().ID, s.day().Next(), "")
	s.ok(err)
}

func (s *story) day() handoff.Date {
	g := s.grant()
	return g.Day()
}

// dayOver moves the clock past the window.
func (s *story) dayOver() { s.Clock.Set(s.Parcel(s.t, "P1").Window.Until.Time()) }

func (s *story) expire() {
	s.t.Helper()
	s.dayOver()
	s.ok(s.Service.Expire(s.t.Context(), s.grant().ID))
}

func (s *story) later(d time.Duration) { s.Clock.Advance(d) }

// own registers a garage of the customer's own, and agrees to it.
func (s *story) own(mode handoff.DoorMode) {
	s.t.Helper()
	ctx, at := s.t.Context(), handofftest.Home
	s.ok(s.Registry.Enroll(ctx, handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}))
	for id, kind := range map[string]handoff.TargetKind{"garage": handoff.Garage, "lobby": handoff.Lobby} {
		d := handoff.Door{ID: id, Kind: kind, Mode: mode, BuildingID: "bld_turm5", Location: &at}
		if kind == handoff.Garage {
			d.Owner = &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"}
		}
		s.ok(s.Registry.EnrollDoor(ctx, d))
	}
	s.agree(handoff.Garage)
}

func (s *story) agree(kinds ...handoff.TargetKind) {
	s.t.Helper()
	_, err := s.Service.Consent(s.t.Context(), customer, s.grant().ID, kinds)
	s.ok(err)
}

func (s *story) unlock(door string, states ...handoff.DoorState) {
	s.t.Helper()
	p, err := s.Service.Unlock(s.t.Context(), service.UnlockRequest{
		Courier: handofftest.Courier("cou_7"), Door: door, Parcel: "P1", Position: &handoff.Position{Point: handofftest.Home}, Challenge: []byte("challenge-of-a-door"),
	})
	s.ok(err)
	for _, state := range states {
		s.ok(s.Service.Reported(s.t.Context(), door, p.Permit, state))
	}
}

// What is mailed of a story when the mail server only comes back at its end: for each
// event that calls for mail, the kind, with a + where it holds the code that counts, or
// - for none.
func TestOnlyWhatIsStillTrueIsMailed(t *testing.T) {
	const none = "-"
	for _, tc := range []struct {
		name string
		life func(s *story)
		want []string
	}{
		{"code issued", func(s *story) { s.dispatch() }, []string{"code-issued+"}},
		{"no code needed", func(s *story) { s.dispatch(ordinary) }, []string{"dispatched"}},
		{"a return", func(s *story) { s.dispatch(returned) }, []string{"dispatched"}},
		{"the day before", func(s *story) { s.later(-24 * time.Hour); s.dispatch() }, []string{"code-issued+"}},

		{"reissued", func(s *story) { s.dispatch(); s.reissue() }, []string{none, "code-reissued+"}},
		{"reissued twice", func(s *story) { s.dispatch(); s.reissue(); s.reissue() }, []string{none, none, "code-reissued+"}},
		{"resent", func(s *story) { s.dispatch(); s.resend() }, []string{"code-issued+", "code-resent+"}},
		{"resent, then reissued", func(s *story) { s.dispatch(); s.resend(); s.reissue() }, []string{none, none, "code-reissued+"}},

		{"locked", func(s *story) { s.dispatch(); s.guess(5) }, []string{none, "code-locked"}},
		{"nearly locked", func(s *story) { s.dispatch(); s.guess(4) }, []string{"code-issued+"}},
		{"locked, then reissued", func(s *story) { s.dispatch(); s.guess(5); s.reissue() }, []string{none, none, "code-reissued+"}},
		{"locked for good", func(s *story) { s.dispatch(); s.guess(5); s.reissue(); s.guess(5) }, []string{none, "code-locked", none, "code-locked"}},
		{"locked, then the day over", func(s *story) { s.dispatch(); s.guess(5); s.dayOver() }, []string{none, none}},

		{"released", func(s *story) { s.dispatch(); s.verify() }, []string{none, "released"}},
		{"released without a code", func(s *story) { s.dispatch(ordinary); s.verify() }, []string{none, "released"}},
		{"released, then held", func(s *story) { s.dispatch(); s.verify(); s.hold() }, []string{none, "released"}},
		{"in part", func(s *story) { s.several(); s.part("P2") }, []string{none, "handed-in-part+"}},
		{"in part, then the rest", func(s *story) { s.several(); s.part("P2"); s.part("P1", "P3") }, []string{none, "released", "released"}},
		{"in part, then reissued", func(s *story) { s.several(); s.part("P2"); s.reissue() }, []string{none, "handed-in-part", "code-reissued+"}},
		{"in part, and no code needed", func(s *story) { s.several(ordinary); s.part("P2") }, []string{"dispatched", "handed-in-part"}},
		{"in part, taken back", func(s *story) { s.several(); s.part("P1"); s.abort() }, []string{none, none, "taken-back+"}},
		{"a return, in part", func(s *story) { s.several(returned); s.part("P2") }, []string{"dispatched", "handed-in-part"}},
		{"recalled in part", func(s *story) { s.several(); s.recallSome("P2") }, []string{"code-issued+", "recalled-in-part"}},
		{"in part, the rest recalled", func(s *story) { s.several(); s.part("P2"); s.recallSome("P1", "P3") }, []string{none, "released", "recalled"}},

		{"released by hand", func(s *story) { s.dispatch(); s.byHand() }, []string{none, "released-by-hand"}},
		{"locked, released by hand", func(s *story) { s.dispatch(); s.guess(5); s.byHand() }, []string{none, none, "released-by-hand"}},
		{"released by hand, then held", func(s *story) { s.dispatch(ordinary); s.byHand(); s.hold() }, []string{none, "released-by-hand"}},
		{"collected", func(s *story) { s.dispatch(returned); s.verify() }, []string{none, "collected"}},
		{"taken back", func(s *story) { s.dispatch(); s.verify(); s.abort() }, []string{none, none, "taken-back+"}},
		{"taken back, no code needed", func(s *story) { s.dispatch(ordinary); s.verify(); s.abort() }, []string{"dispatched", none, "taken-back"}},
		{"taken back, then reissued", func(s *story) { s.dispatch(); s.verify(); s.abort(); s.reissue() }, []string{none, none, "taken-back", "code-reissued+"}},
		{"taken back, then locked", func(s *story) { s.dispatch(); s.verify(); s.abort(); s.guess(5) }, []string{none, none, "taken-back", "code-locked"}},
		{
			"taken back, then released",
			func(s *story) { s.dispatch(); s.verify(); s.abort(); s.later(time.Minute); s.verify() },
			[]string{none, none, "taken-back", "released"},
		},
		{"taken back, then the day over", func(s *story) { s.dispatch(); s.verify(); s.abort(); s.expire() }, []string{none, none, "taken-back", "expired"}},

		{"attempted", func(s *story) { s.dispatch(); s.attempted() }, []string{"code-issued+", "attempted"}},
		{"attempted, then released", func(s *story) { s.dispatch(); s.attempted(); s.verify() }, []string{none, none, "released"}},
		{"attempted, then another day", func(s *story) { s.dispatch(); s.attempted(); s.tomorrow() }, []string{none, none, "rescheduled+"}},

		{"another day", func(s *story) { s.dispatch(); s.tomorrow() }, []string{none, "rescheduled+"}},
		{"another day, no code needed", func(s *story) { s.dispatch(ordinary); s.tomorrow() }, []string{none, "rescheduled"}},
		{"yet another day", func(s *story) { s.dispatch(); s.tomorrow(); s.tomorrow() }, []string{none, none, "rescheduled+"}},
		{"yet another day, no code needed", func(s *story) { s.dispatch(ordinary); s.tomorrow(); s.tomorrow() }, []string{none, none, "rescheduled"}},
		{"another day, then reissued", func(s *story) { s.dispatch(); s.tomorrow(); s.reissue() }, []string{none, none, "code-reissued+"}},
		{"another day, then recalled", func(s *story) { s.dispatch(ordinary); s.tomorrow(); s.recall() }, []string{none, none, "recalled"}},

		{"disputed", func(s *story) { s.dispatch(); s.verify(); s.dispute() }, []string{none, "released", "disputed"}},
		{"a return, disputed", func(s *story) { s.dispatch(returned); s.verify(); s.dispute() }, []string{none, "collected", "disputed"}},
		{"by hand, disputed", func(s *story) { s.dispatch(); s.byHand(); s.dispute() }, []string{none, "released-by-hand", "disputed"}},
		{"disputed, then withdrawn", func(s *story) { s.dispatch(); s.verify(); s.dispute(); s.withdraw() }, []string{none, "released", none, "dispute-withdrawn"}},
		{
			"disputed, and upheld",
			func(s *story) { s.dispatch(); s.verify(); s.dispute(); s.settle(handoff.NotReceived) },
			[]string{none, "released", none, "dispute-upheld"},
		},
		{
			"disputed, and rejected",
			func(s *story) { s.dispatch(); s.verify(); s.dispute(); s.settle(handoff.HandedOver) },
			[]string{none, "released", none, "dispute-rejected"},
		},

		{"consent", func(s *story) { s.dispatch(ordinary); s.own(handoff.Connected) }, []string{"dispatched", "consent-given"}},
		{"consent, taken back", func(s *story) { s.dispatch(ordinary); s.own(handoff.Connected); s.agree() }, []string{"dispatched", "consent-given", "consent-withdrawn"}},
		{"opened, says lock and contact", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Connected)
			s.unlock("garage", handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked)
		}, []string{"dispatched", "consent-given", none, "own-door-opened", none, none}},
		{"opened, says the contact", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Connected)
			s.unlock("garage", handoff.DoorOpened, handoff.DoorRelocked)
		}, []string{"dispatched", "consent-given", none, "own-door-opened", none}},
		{"opened, and but one report came", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Bridged)
			s.unlock("garage", handoff.DoorRelocked)
		}, []string{"dispatched", "consent-given", none, "own-door-opened"}},
		{"no answer, then opened", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Bridged)
			s.unlock("garage", handoff.DoorSilent, handoff.DoorOpened)
		}, []string{"dispatched", "consent-given", none, "own-door-permit", none}},
		{"a door without a network", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Carried)
			s.unlock("garage", handoff.DoorConfirmed)
		}, []string{"dispatched", "consent-given", "own-door-permit", none}},
		{"refused by the door", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Connected)
			s.unlock("garage", handoff.DoorRefused)
		}, []string{"dispatched", "consent-given", none}},
		{"a door of the house", func(s *story) {
			s.dispatch(ordinary)
			s.own(handoff.Connected)
			s.unlock("lobby", handoff.DoorConfirmed, handoff.DoorOpened)
		}, []string{"dispatched", "consent-given"}},

		{"recalled", func(s *story) { s.dispatch(); s.recall() }, []string{none, "recalled"}},
		{"held", func(s *story) { s.dispatch(); s.hold() }, []string{none}},
		{"the day over", func(s *story) { s.dispatch(); s.dayOver() }, []string{none}},
		{"an instant before", func(s *story) { s.dispatch(); s.dayOver(); s.later(-time.Second) }, []string{"code-issued+"}},
		{"expired", func(s *story) { s.dispatch(); s.expire() }, []string{none, "expired"}},
		{"expired, then another day", func(s *story) { s.dispatch(); s.expire(); s.tomorrow() }, []string{none, none, "rescheduled+"}},
		{"expired twice", func(s *story) { s.dispatch(); s.expire(); s.tomorrow(); s.expire() }, []string{none, none, none, "expired"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &story{World: handofftest.New(t, embedded.New(t)), t: t}
			s.Cleared(t, "cou_7")
			s.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
			tc.life(s)

			g := s.grant()
			var got []string
			for _, e := range s.Events(t) {
				if !e.CustomerHears() {
					continue
				}
				kind, code := choose(&e, &g, s.Policy.Limits, s.Clock.Now())
				switch {
				case kind == "":
					kind = none
				case code.Equal(g.CurrentCode()):
					kind += "+"
				case !code.IsZero():
					t.Errorf("%s holds a code that does not count", kind)
				}
				got = append(got, string(kind))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// Every event that is told of has a mail at some time, and no other event has.
func TestEveryEventIsTold(t *testing.T) {
	never := []handoff.EventType{
		handoff.EventCodeRefused, handoff.EventHeld, handoff.EventLifted, handoff.EventContested,
		handoff.EventAccessRefused, handoff.EventImpossible,
		handoff.EventDoorDelivered, handoff.EventDoorFailed, handoff.EventDoorRefused,
		handoff.EventScrubbed, handoff.EventErasureAsked, handoff.EventErased, handoff.EventOverrideAsked,
		handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered, handoff.EventBuildingEnrolled, handoff.EventResidentChanged,
		handoff.EventElsewhere, handoff.EventSignal,
		handoff.EventDoorJammed, handoff.EventDoorBatteryLow, handoff.EventDoorUnavailable,
		handoff.EventCourierSignedOut, handoff.EventCourierChanged, handoff.EventBudgetCleared, handoff.EventRouteAssigned,
		handoff.EventKeyChanged, handoff.EventLinkMade, handoff.EventSessionsEnded, handoff.EventSignerChanged,
		handoff.EventStoreRestored, handoff.EventDistrusted, handoff.EventAccounted,
		handoff.EventEventsLost, handoff.EventDispatchLost, handoff.EventPartitionRefused,
		handoff.EventVisitAgain, handoff.EventDoorChanged, handoff.EventBuildingChanged,
		handoff.EventMailFailed, handoff.EventMailArrived, // by mail, of all things
		handoff.EventConsentAsked, // the residents of the unit are mailed
		handoff.EventDoorChangeAsked, handoff.EventDoorChangeObjected, handoff.EventDoorChangeApproved, handoff.EventDoorChangeWithdrawn,
		handoff.EventResidentRemoved, handoff.EventResidentStays, handoff.EventUnitMovedOut,
	}
	for e := range handoff.EventType(math.MaxUint8) {
		if e.String() == fmt.Sprintf("unknown(%d)", e) {
			continue
		}
		told := (&handoff.Event{Type: e, Target: handoff.Home}).CustomerHears()
		if told == slices.Contains(never, e) {
			t.Errorf("%s: to be told, or never?", e)
		}
	}
}
