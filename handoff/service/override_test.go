package service_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/otp"
)

// clerk is somebody of the sample shop with a token of their own.
func clerk(name string) handoff.Actor {
	c := shop
	c.Subject, c.Person = "https://id.shop.example "+name, true
	return c
}

func who(a handoff.Actor) string { return handoff.Pseudonym(handofftest.Namer{}, "who", a.Subject) }

// Two people release a parcel by hand whose code is locked for good. The log says who they
// were by their pseudonyms, and not why; the record says why.
func TestOverride(t *testing.T) {
	w := world(t)
	ctx, ada, bob := t.Context(), clerk("ada"), clerk("bob")
	d := handofftest.Sample("p1")
	g := w.Dispatch(t, d)
	for n := range 5 {
		if _, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", "p1", handofftest.WrongCode(&g, n))); refusal(err) != handoff.CodeMismatch {
			t.Fatal(err)
		}
	}
	const why = "Frau Nachbarin hat angerufen"
	asked, err := w.Service.AskOverride(ctx, ada, g.ID, why)
	if err != nil || asked.Status != handoff.Active || asked.OverrideAsked(w.Policy.Limits, w.Clock.Now()) == nil || asked.OverrideAsked(w.Policy.Limits, w.Clock.Now()).Who != who(ada) {
		t.Fatalf("%+v, %v", asked.Override, err)
	}
	if _, err := w.Service.Override(ctx, ada, g.ID, ""); refusal(err) != handoff.SelfApproval {
		t.Fatalf("approved by who asked: %v", err)
	}
	w.Clock.Advance(59 * time.Minute)
	released, err := w.Service.Override(ctx, bob, g.ID, "")
	if err != nil || released.Status != handoff.Released || released.Override != nil || released.Right(handoff.Release, handoff.Parcel).Uses != 0 ||
		!reflect.DeepEqual(*released.Handoff, handoff.Handoff{At: handoff.InstantOf(w.Clock.Now())}) {
		t.Fatalf("%+v, %v", released, err)
	}

	trail := map[handoff.EventType]string{handoff.EventOverrideAsked: who(ada), handoff.EventOverridden: who(bob)}
	for _, e := range w.Events(t) {
		if name, told := trail[e.Type]; told {
			if e.Who != name || e.By != string(handoff.RoleShop) || e.Courier != "" || e.Shop != d.Shop {
				t.Errorf("%+v", e)
			}
			delete(trail, e.Type)
		}
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "Nachbarin") || strings.Contains(text, "ada") {
			t.Errorf("%s", text)
		}
	}
	if len(trail) > 0 {
		t.Errorf("not told: %v", trail)
	}
	r, err := w.Service.Record(ctx, shop, g.ID)
	if err != nil || len(r.Notes) != 1 || r.Notes[0].Text != why || r.Notes[0].Act != handoff.AskOverride {
		t.Errorf("%+v, %v", r.Notes, err)
	}

	if _, err := w.Service.Abort(ctx, handofftest.AtDoor("c1", "p1", otp.Code{})); refusal(err) != handoff.NotYourHandoff {
		t.Errorf("an abort: %v", err)
	}
	if _, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", "p1", g.CurrentCode())); refusal(err) != handoff.AlreadyReleased {
		t.Errorf("a verify: %v", err)
	}
	if _, err := w.Service.Override(ctx, bob, g.ID, ""); refusal(err) != handoff.AlreadyReleased {
		t.Errorf("again: %v", err)
	}
}

// Whatever happens between the asking and the approving, an approval is for what was asked
// for within the hour, of this day, by somebody else.
func TestWhatAnApprovalIsFor(t *testing.T) {
	ada, bob, key := clerk("ada"), clerk("bob"), shop
	key.Subject = "key k1"
	elsewhere := bob
	elsewhere.Subject = "https://other.example bob"
	type step func(w *handofftest.World, id handoff.GrantID) error
	ask := func(by handoff.Actor) step {
		return func(w *handofftest.World, id handoff.GrantID) error {
			_, err := w.Service.AskOverride(t.Context(), by, id, "x")
			return err
		}
	}
	wait := func(d time.Duration) step {
		return func(w *handofftest.World, _ handoff.GrantID) error { w.Clock.Advance(d); return nil }
	}
	hold := func(w *handofftest.World, id handoff.GrantID) error {
		_, err := w.Service.Hold(t.Context(), shop, id, "")
		return err
	}
	lift := func(w *handofftest.World, id handoff.GrantID) error {
		_, err := w.Service.Lift(t.Context(), shop, id, "")
		return err
	}
	tomorrow := func(w *handofftest.World, id handoff.GrantID) error {
		_, err := w.Service.Reschedule(t.Context(), shop, id, handofftest.Today.Next(), "")
		return err
	}
	night := func(w *handofftest.World, _ handoff.GrantID) error {
		w.Clock.Advance(11*time.Hour + 30*time.Minute)
		return nil
	} // 23:30
	for name, c := range map[string]struct {
		steps []step
		by    handoff.Actor
		want  handoff.Reason
	}{
		"at once":                            {[]step{ask(ada)}, bob, ""},
		"nobody asked":                       {nil, bob, handoff.ApprovalMissing},
		"who asked":                          {[]step{ask(ada)}, ada, handoff.SelfApproval},
		"the same name of another issuer":    {[]step{ask(bob)}, elsewhere, ""},
		"a key":                              {[]step{ask(ada)}, key, handoff.PersonRequired},
		"nobody in particular":               {[]step{ask(ada)}, handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop, Person: true}, handoff.SelfApproval},
		"the operator":                       {[]step{ask(ada)}, handoff.Actor{Role: handoff.RoleOps, Subject: "ops", Person: true}, handoff.GrantUnknown},
		"the customer":                       {[]step{ask(ada)}, handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81", Subject: "c", Person: true}, handoff.GrantUnknown},
		"another shop's":                     {[]step{ask(ada)}, handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Other, Subject: "s", Person: true}, handoff.GrantUnknown},
		"a second before the hour":           {[]step{ask(ada), wait(time.Hour - time.Second)}, bob, ""},
		"after an hour":                      {[]step{ask(ada), wait(time.Hour)}, bob, handoff.ApprovalMissing},
		"asked again":                        {[]step{ask(ada), wait(time.Hour), ask(ada)}, bob, ""},
		"the other asked as well":            {[]step{ask(ada), ask(bob)}, bob, handoff.SelfApproval},
		"the other asked as well, and first": {[]step{ask(ada), ask(bob)}, ada, handoff.OverrideReplaced}, // by its id: TestAnApprovalIsOfOneWish
		"held":                               {[]step{ask(ada), hold}, bob, handoff.OnHold},
		"held and lifted":                    {[]step{ask(ada), hold, lift}, bob, handoff.ApprovalMissing},
		"lifted, asked again":                {[]step{ask(ada), hold, lift, ask(ada)}, bob, ""},
		"another day":                        {[]step{ask(ada), tomorrow}, bob, handoff.NotYetValid},
		"another day, which came":            {[]step{night, ask(ada), tomorrow, wait(40 * time.Minute)}, bob, handoff.ApprovalMissing},
		"the day over":                       {[]step{night, ask(ada), wait(40 * time.Minute)}, bob, handoff.WindowOver},
	} {
		w := world(t)
		g := w.Dispatch(t, handofftest.Sample("p1"))
		for i, do := range c.steps {
			if err := do(w, g.ID); err != nil {
				t.Fatalf("%s, step %d: %v", name, i, err)
			}
		}
		got, err := w.Service.Override(t.Context(), c.by, g.ID, "")
		if refusal(err) != c.want || (err == nil) != (got.Status == handoff.Released) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if n := handofftest.Count(w.Events(t), handoff.EventOverridden); (n == 1) != (c.want == "") {
			t.Errorf("%s: %d releases in the log", name, n)
		}
	}
}

// A key asks for nobody, and a return is not released.
func TestWhoAsksForAnOverride(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	key := shop
	key.Subject = "key k1"
	if _, err := w.Service.AskOverride(t.Context(), key, g.ID, ""); refusal(err) != handoff.PersonRequired {
		t.Errorf("a key: %v", err)
	}
	d := handofftest.Sample("p2")
	d.Purpose = handoff.PurposeReturn
	back := w.Dispatch(t, d)
	if _, err := w.Service.AskOverride(t.Context(), clerk("ada"), back.ID, ""); refusal(err) != handoff.AccessRefused {
		t.Errorf("a return: %v", err)
	}
	if _, err := w.Service.AskOverride(t.Context(), clerk("ada"), g.ID, ""); err != nil {
		t.Errorf("a clerk: %v", err)
	}
	if h := w.Parcel(t, "p1").History; len(h) != 1 {
		t.Errorf("the customer's history has %v", h)
	}
}
