package handofftest

import (
	"testing"
	"time"

	"latchkey/handoff"
)

var sessionTests = map[string]func(*testing.T, *World){
	"SessionsAreKeptTouchedAndEnded": func(t *testing.T, w *World) {
		ctx := t.Context()
		one := handoff.Session{
			ID: handoff.SessionID{1, 31: 2}, Issuer: "https://id.example", Client: "pages", Subject: "cus_81", Scopes: []string{"customer", "shop"},
			Shop: Shop, Carrier: "swift", Building: "b1", Device: "d1", Name: "Sample Customer 81", Began: 7, Seen: 7,
		}
		two := handoff.Session{ID: handoff.SessionID{2}, Subject: "operator", Scopes: []string{"ops"}, Began: 8, Seen: 8}
		read := func(id handoff.SessionID) *handoff.Session {
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
}
