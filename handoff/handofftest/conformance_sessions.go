package handofftest

import (
	"slices"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

var sessionTests = map[string]func(*testing.T, *World){
	"SessionsAreKeptTouchedAndEnded": func(t *testing.T, w *World) {
		ctx := t.Context()
		one := identity.Session{
			ID: identity.SessionID{1, 31: 2}, Issuer: "https://id.example", Client: "pages", Subject: "cus_81", Scopes: []string{"customer", "shop"},
			Shop: Shop, Carrier: "swift", Building: "b1", Device: "d1", Name: "Sample Customer 81", Began: 7, Seen: 7,
		}
		two := identity.Session{ID: identity.SessionID{2}, Subject: "operator", Scopes: []string{"ops"}, Began: 8, Seen: 8}
		read := func(id identity.SessionID) *identity.Session {
			t.Helper()
			s, err := w.Store.Session(ctx, id)
			noError(t, "Session", err)
			return s
		}
		equal(t, "a session before it is there", read(one.ID) == nil, true)
		for range 2 {
			noError(t, "AddSession", w.Store.AddSession(ctx, one, time.Hour))
		}
		noError(t, "AddSession", w.Store.AddSession(ctx, two, time.Hour))
		equal(t, "one", read(one.ID), &one)
		equal(t, "two", read(two.ID), &two)

		one.Seen = 99
		noError(t, "TouchSession", w.Store.TouchSession(ctx, one, time.Hour))
		equal(t, "one, touched", read(one.ID), &one)
		for range 2 {
			noError(t, "RemoveSession", w.Store.RemoveSession(ctx, one.ID))
		}
		noError(t, "TouchSession", w.Store.TouchSession(ctx, one, time.Hour))
		equal(t, "one, ended and then touched", read(one.ID) == nil, true)
		equal(t, "two, beside it", read(two.ID), &two)
	},
	"ACustomersSessionsEndTogether": func(t *testing.T, w *World) {
		ctx := t.Context()
		customer := handoff.CustomerRef{Shop: Shop, ID: "cus_81"}
		session := func(n byte, shop, subject string, scopes ...string) identity.Session {
			return identity.Session{ID: identity.SessionID{n}, Shop: shop, Subject: subject, Scopes: scopes, Began: 7, Seen: 7}
		}
		theirs := []identity.Session{
			session(1, Shop, "cus_81", "customer"), session(2, Shop, "cus_81", "shop", "customer"), session(3, Shop, "cus_81", "customer"),
		}
		others := []identity.Session{
			session(4, Shop, "cus_82", "customer"), session(5, "other", "cus_81", "customer"), session(6, Shop, "cus_81", "shop"), session(7, "", "cus_81", "customer"),
		}
		add := func(list ...identity.Session) {
			t.Helper()
			for _, s := range list {
				noError(t, "AddSession", w.Store.AddSession(ctx, s, time.Hour))
			}
		}
		left := func() (left []byte) {
			t.Helper()
			for _, s := range append(slices.Clone(theirs), others...) {
				found, err := w.Store.Session(ctx, s.ID)
				noError(t, "Session", err)
				if found != nil {
					left = append(left, s.ID[0])
				}
			}
			return left
		}
		end := func(what string, want int) {
			t.Helper()
			ended, err := w.Store.RemoveSessionsOf(ctx, customer)
			noError(t, "RemoveSessionsOf"+what, err)
			equal(t, "sessions ended"+what, ended, want)
		}
		end(" of nobody", 0)
		add(theirs...)
		add(others...)
		theirs[0].Seen = 99
		noError(t, "TouchSession", w.Store.TouchSession(ctx, theirs[0], time.Hour))
		noError(t, "RemoveSession", w.Store.RemoveSession(ctx, theirs[2].ID))
		equal(t, "sessions before", left(), []byte{1, 2, 4, 5, 6, 7})
		for _, want := range []int{2, 0} {
			end("", want)
			equal(t, "sessions left", left(), []byte{4, 5, 6, 7})
		}
		noError(t, "TouchSession", w.Store.TouchSession(ctx, theirs[0], time.Hour))
		equal(t, "sessions left, one used at that moment", left(), []byte{4, 5, 6, 7})
		add(theirs[1])
		equal(t, "sessions, one begun anew", left(), []byte{2, 4, 5, 6, 7})
		end(" in the end", 1)
		equal(t, "sessions left in the end", left(), []byte{4, 5, 6, 7})
	},
	"AShopsSessionsEndTogether": func(t *testing.T, w *World) {
		ctx := t.Context()
		maker := &identity.Maker{Key: "k1", Who: "0123456789abcdef"}
		all := []identity.Session{
			{ID: identity.SessionID{1}, Shop: Shop, Subject: "cus_81", Scopes: []string{"customer"}, Issuer: "https://id.example", Began: 7, Seen: 7},
			{ID: identity.SessionID{2}, Shop: Shop, Subject: "cus_82", Scopes: []string{"customer"}, Link: maker, Began: 7, Seen: 7},
			{ID: identity.SessionID{3}, Shop: Shop, Subject: "clerk", Scopes: []string{"shop"}, Began: 7, Seen: 7},
			{ID: identity.SessionID{4}, Shop: "other", Subject: "cus_81", Scopes: []string{"customer"}, Link: maker, Began: 7, Seen: 7},
			{ID: identity.SessionID{5}, Carrier: Carrier, Subject: "c1", Scopes: []string{"courier"}, Began: 7, Seen: 7},
		}
		for _, s := range all {
			noError(t, "AddSession", w.Store.AddSession(ctx, s, time.Hour))
			found, err := w.Store.Session(ctx, s.ID)
			noError(t, "Session", err)
			equal(t, "a session", found, &s)
		}
		noError(t, "TouchSession", w.Store.TouchSession(ctx, all[1], time.Hour))
		for _, want := range []int{3, 0} {
			ended, err := w.Store.RemoveSessionsOfShop(ctx, Shop)
			noError(t, "RemoveSessionsOfShop", err)
			equal(t, "sessions ended", ended, want)
			for i, s := range all {
				found, err := w.Store.Session(ctx, s.ID)
				noError(t, "Session", err)
				equal(t, "whether a session is there", found != nil, i >= 3)
			}
		}
		noError(t, "TouchSession", w.Store.TouchSession(ctx, all[1], time.Hour))
		found, err := w.Store.Session(ctx, all[1].ID)
		noError(t, "Session", err)
		equal(t, "whether one that was used at that moment is there", found != nil, false)
	},
	"ACouriersSessionsEndTogether": func(t *testing.T, w *World) {
		ctx := t.Context()
		sessions := []identity.Session{
			{ID: identity.SessionID{1}, Carrier: "swift", Subject: "cou_7", Scopes: []string{"courier"}},
			{ID: identity.SessionID{2}, Carrier: "swift", Subject: "cou_7", Scopes: []string{"carrier", "courier"}},
			{ID: identity.SessionID{3}, Carrier: "swift", Subject: "cou_8", Scopes: []string{"courier"}},
			{ID: identity.SessionID{4}, Carrier: "rival", Subject: "cou_7", Scopes: []string{"courier"}},
			{ID: identity.SessionID{5}, Carrier: "swift", Subject: "cou_7", Scopes: []string{"carrier"}},
			{ID: identity.SessionID{6}, Shop: "swift", Subject: "cou_7", Scopes: []string{"customer"}},
			{ID: identity.SessionID{7}, Shop: "courier", Subject: "swift/cou_7", Scopes: []string{"customer"}},
		}
		for _, s := range sessions {
			s.Began, s.Seen = 7, 7
			noError(t, "AddSession", w.Store.AddSession(ctx, s, time.Hour))
		}
		for range 2 {
			noError(t, "RemoveSessionsOfCourier", w.Store.RemoveSessionsOfCourier(ctx, handoff.CourierRef{Carrier: "swift", ID: "cou_7"}))
			var left []byte
			for _, s := range sessions {
				found, err := w.Store.Session(ctx, s.ID)
				noError(t, "Session", err)
				if found != nil {
					left = append(left, s.ID[0])
				}
			}
			equal(t, "sessions left", left, []byte{3, 4, 5, 6, 7})
		}
	},
}
