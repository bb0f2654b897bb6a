package service_test

import (
	"slices"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
)

// people is what a grant knows of its customer.
func people(g *handoff.Grant) []string {
	d := &g.Dispatch
	known := slices.Concat([]string{d.Customer.Name, d.Customer.Email, d.Customer.Locale, d.To.Postal, d.To.City, d.To.Unit}, d.To.Lines)
	if d.To.Location != nil {
		known = append(known, "a location")
	}
	if !g.CurrentCode().IsZero() {
		known = append(known, "a code")
	}
	return slices.DeleteFunc(known, func(s string) bool { return s == "" })
}

func TestAWeekAfterItClosedAGrantForgets(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	d := handofftest.Sample("p1")
	g := w.Dispatch(t, d)
	p := handofftest.AtDoor("c1", "p1", g.CurrentCode())
	p.Attempt, p.Note = "a1", ""
	if _, err := w.Service.Verify(ctx, p); err != nil {
		t.Fatal(err)
	}
	open := w.Dispatch(t, handofftest.Sample("p2"))
	if _, err := w.Service.Hold(ctx, shop, open.ID, "a word about a person"); err != nil {
		t.Fatal(err)
	}

	sweep := func() {
		t.Helper()
		if _, err := w.Service.Sweep(ctx, 100); err != nil {
			t.Fatal(err)
		}
	}
	w.Clock.Advance(7*24*time.Hour - time.Second)
	sweep()
	if g := w.Parcel(t, "p1"); len(people(&g)) < 8 || g.Scrubbed != nil {
		t.Fatalf("before its time: %v", people(&g))
	}
	w.Clock.Advance(time.Second)
	sweep()
	g = w.Parcel(t, "p1")
	if known := people(&g); len(known) != 0 || g.Status != handoff.Released || g.Dispatch.Customer.ID == "" || g.Due() != 0 {
		t.Fatalf("after a week: %v, %v, due %v", known, g.Status, g.Due())
	}
	if held := w.Parcel(t, "p2"); len(people(&held)) == 0 {
		t.Error("what is held was scrubbed: it waits for a person")
	}
	r, err := w.Service.Record(ctx, shop, g.ID)
	if err != nil || len(r.Notes) != 0 {
		t.Errorf("the record still holds %d notes, %v", len(r.Notes), err)
	}
	if _, err := w.Service.Verify(ctx, p); err != nil {
		t.Errorf("the same attempt again, after a week: %v", err)
	}

	again, created, err := w.Service.Dispatch(ctx, d)
	if err != nil || created || again.ID != g.ID {
		t.Errorf("the same dispatch after a week: created %v, %v", created, err)
	}
	d.Customer.Name += "x"
	if _, _, err := w.Service.Dispatch(ctx, d); refusal(err) != handoff.DispatchConflict {
		t.Errorf("another dispatch after a week: %v", err)
	}
	n := len(w.Events(t))
	sweep()
	if now := len(w.Events(t)); now != n {
		t.Errorf("sweeping again made %d events", now-n)
	}
}

func TestAnOlderGenerationForgetsInItsOwnTime(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	first := handofftest.Sample("p1")
	old := w.Dispatch(t, first)
	if _, err := w.Service.Recall(ctx, shop, old.ID, ""); err != nil {
		t.Fatal(err)
	}
	later := first
	later.Day = first.Day.Next()
	w.Dispatch(t, later)

	w.Clock.Advance(7 * 24 * time.Hour)
	for range 2 { // the newest expires first, and is scrubbed a week later
		if _, err := w.Service.Sweep(ctx, 100); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.Service.Grant(ctx, shop, old.ID)
	if err != nil || len(people(&got)) != 0 || got.Status != handoff.Recalled {
		t.Errorf("the first generation: %v, %v", people(&got), err)
	}
	if newest := w.Parcel(t, "p1"); len(people(&newest)) == 0 || newest.ID.Generation != 2 || newest.Status != handoff.Expired {
		t.Errorf("the newest: %v %v", newest.ID, newest.Status)
	}
	if again, created, err := w.Service.Dispatch(ctx, first); err != nil || created || again.ID != old.ID {
		t.Errorf("the first dispatch again: %v, created %v, %v", again.ID, created, err)
	}
	if _, err := w.Service.Reschedule(ctx, shop, old.ID, later.Day.Next(), ""); refusal(err) != handoff.WrongStatus {
		t.Errorf("reschedule of what was scrubbed: %v", err)
	}
}

func TestErase(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	w.Cleared(t, "c1", "c2")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	ctx := t.Context()
	customer := handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"}
	first := handofftest.Sample("p1")
	old := w.Dispatch(t, first)
	if _, err := w.Service.Recall(ctx, shop, old.ID, ""); err != nil {
		t.Fatal(err)
	}
	first.Day = first.Day.Next()
	w.Dispatch(t, first)
	if _, err := w.Service.Recall(ctx, shop, w.Parcel(t, "p1").ID, ""); err != nil {
		t.Fatal(err)
	}
	w.Dispatch(t, handofftest.Sample("p2"))
	neighbour := handofftest.Sample("p3")
	neighbour.Customer.ID = "cus_82"
	w.Dispatch(t, neighbour)
	browser := identity.Session{ID: identity.SessionID{1}, Shop: customer.Shop, Subject: customer.ID, Scopes: []string{"customer"}}
	if err := w.Store.AddSession(ctx, browser, time.Hour); err != nil {
		t.Fatal(err)
	}

	erased, open, err := w.Service.Erase(ctx, handoff.Actor{Role: handoff.RoleOps}, customer)
	if err != nil || erased != 2 || open != 1 {
		t.Fatalf("erased %d, open %d, %v", erased, open, err)
	}
	for _, g := range []handoff.Grant{w.Parcel(t, "p1"), must(w.Service.Grant(ctx, handoff.Actor{Role: handoff.RoleOps}, old.ID))} {
		if d := g.Dispatch; len(people(&g)) != 0 || d.Customer.ID != "" || d.Order != "" {
			t.Errorf("%v still knows %v, %q, %q", g.ID, people(&g), d.Customer.ID, d.Order)
		}
	}
	if s, err := w.Store.Session(ctx, browser.ID); s != nil || err != nil {
		t.Errorf("the customer's browser is still signed in: %v", err)
	}
	if g := w.Parcel(t, "p2"); len(people(&g)) == 0 {
		t.Error("a delivery under way was erased")
	}
	if g := w.Parcel(t, "p3"); g.EraseAsked {
		t.Error("a neighbour was erased")
	}

	if erased, open, err := w.Service.Erase(ctx, handoff.Actor{Role: handoff.RoleOps}, customer); err != nil || erased != 0 || open != 1 {
		t.Errorf("again: erased %d, open %d, %v", erased, open, err)
	}
	g := w.Parcel(t, "p2")
	if _, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", "p2", g.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Sweep(ctx, 100); err != nil {
		t.Fatal(err)
	}
	if g := w.Parcel(t, "p2"); len(people(&g)) != 0 || g.Dispatch.Customer.ID != "" || g.Status != handoff.Released {
		t.Errorf("closed, and still known: %v", people(&g))
	}
	if grants, _, err := w.Service.OfCustomer(ctx, customer, service.Listed{}, 10); err != nil || len(grants) != 0 {
		t.Errorf("the customer's list: %d, %v", len(grants), err)
	}
	if ids, err := w.Core.OfCustomer(ctx, customer, service.Listed{}, 10); err != nil || len(ids) != 0 {
		t.Errorf("the customer's index: %v, %v", ids, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
