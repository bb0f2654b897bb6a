package redisstore

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
)

// open seals nothing, so that a dump shows what a keyset would bring out.
type open struct{}

func (open) Seal(plain, _ []byte) ([]byte, error) { return slices.Clone(plain), nil }

func (open) Open(stored, _ []byte) ([]byte, error) { return slices.Clone(stored), nil }

// An erased customer is in no key and in no value, sealed or not: in no generation of a
// grant, no index, no log.
func TestAnErasedCustomerIsNowhere(t *testing.T) {
	m := miniredis.RunT(t)
	client := dial(t, "redis://"+m.Addr())
	s, err := New(Config{Client: client, Sealer: open{}, Retention: retention, Lanes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = client.Close() })
	w := handofftest.New(t, s)
	ctx := t.Context()
	shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	w.Cleared(t, "c1")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)

	d := handofftest.Sample("p1")
	d.Customer.ID = "cus_erased"
	first := w.Dispatch(t, d)
	secret, err := first.Code.Secret.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Recall(ctx, shop, first.ID, "a note that names somebody"); err != nil {
		t.Fatal(err)
	}
	again := d
	again.Day = d.Day.Next()
	second := w.Dispatch(t, again)
	if _, err := w.Service.Recall(ctx, shop, second.ID, ""); err != nil {
		t.Fatal(err)
	}
	under := d
	under.Parcel = "p2"
	g := w.Dispatch(t, under)
	wrong := handofftest.AtDoor("c1", "p2", handofftest.WrongCode(&g, 1))
	wrong.Attempt = "a1"
	_, _ = w.Service.Verify(ctx, wrong)

	const greeted = "Somebody Erased"
	for _, session := range []identity.Session{
		{ID: identity.SessionID{1}, Shop: handofftest.Shop, Subject: d.Customer.ID, Scopes: []string{"customer"}, Name: greeted, Began: 7, Seen: 7},
		{ID: identity.SessionID{2}, Shop: handofftest.Shop, Subject: "clerk", Scopes: []string{"shop"}, Name: "Some Clerk", Began: 7, Seen: 7},
	} {
		if err := s.AddSession(ctx, session, time.Hour); err != nil {
			t.Fatal(err)
		}
	}

	personal := map[string]string{
		"id": d.Customer.ID, "name": d.Customer.Name, "mail": d.Customer.Email, "street": d.To.Lines[0],
		"postal code": d.To.Postal, "unit": d.To.Unit, "order": d.Order, "note": "names somebody", "secret": string(secret), "session": greeted,
	}
	before := contents(t, client)
	for what, text := range personal {
		if !strings.Contains(before, text) {
			t.Errorf("the dump does not show the %s at the start: this test looks at the wrong place", what)
		}
	}

	ref := handoff.CustomerRef{Shop: handofftest.Shop, ID: d.Customer.ID}
	if erased, open, err := w.Service.Erase(ctx, handoff.Actor{Role: handoff.RoleOps}, ref); err != nil || erased != 2 || open != 1 {
		t.Fatalf("erased %d, open %d, %v", erased, open, err)
	}
	if _, err := w.Service.Verify(ctx, handofftest.AtDoor("c1", "p2", g.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Sweep(ctx, 100); err != nil {
		t.Fatal(err)
	}
	after := contents(t, client)
	for what, text := range personal {
		if strings.Contains(after, text) {
			t.Errorf("the dump still shows the %s", what)
		}
	}
	if !strings.Contains(after, "Some Clerk") {
		t.Error("another person was signed out")
	}
	if !strings.Contains(after, "p2") {
		t.Error("the dump shows nothing at all")
	}
}

// The index of a customer's sessions lets go of those that are over while others begin, and
// ends a minute after the last.
func TestSessionsLeaveTheirIndex(t *testing.T) {
	m := miniredis.RunT(t)
	client := dial(t, "redis://"+m.Addr())
	s, err := New(Config{Client: client, Sealer: open{}, Retention: retention, Lanes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = client.Close() })
	ctx := t.Context()
	c := handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"}
	const keep, began = time.Hour, handoff.Instant(1_000_000)
	put := func(n byte, seen handoff.Instant, put func(context.Context, identity.Session, time.Duration) error) {
		t.Helper()
		err := put(ctx, identity.Session{ID: identity.SessionID{n}, Shop: c.Shop, Subject: c.ID, Scopes: []string{"customer"}, Began: began, Seen: seen}, keep)
		if err != nil {
			t.Fatal(err)
		}
	}
	put(1, began, s.AddSession)
	put(2, began, s.AddSession)
	put(2, began+3000, s.TouchSession)
	put(3, began+3661, s.AddSession)
	want := []string{identity.SessionID{2}.String(), identity.SessionID{3}.String()}
	if got := client.ZRange(ctx, sessionsKey(c), 0, -1).Val(); !slices.Equal(got, want) {
		t.Errorf("the index has %v", got)
	}
	if left := m.TTL(sessionsKey(c)); left != keep+time.Minute {
		t.Errorf("the index ends in %v", left)
	}
}
