package main

import (
	"testing"
	"time"

	"latchkey/api/auth"
)

// A courier who is signed out on one instance is refused on the other at the next request, by a
// real Redis, and served with a token of afterwards.
func TestSignOutBitesOnEveryInstance(t *testing.T) {
	s := newService(t)
	here, there := client{t, start(t, s.args...).url(t)}, client{t, start(t, s.args...).url(t)}
	phone := auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}
	dispatcher := s.token(t, auth.Principal{Subject: "dispatcher", Carrier: "swift", Scopes: []auth.Scope{auth.Carrier}})
	here.must("PUT", "/v1/couriers/swift/cou_7", dispatcher, `{"name":"Courier 7","cleared_until":"2099-12-31"}`)
	lost := s.token(t, phone)
	stops := func(c client, token string) (int, any) {
		status, answer := c.do("GET", "/v1/courier/stops", token, "")
		return status, answer["code"]
	}
	for _, c := range []client{here, there} {
		if status, code := stops(c, lost); status != 200 {
			t.Fatalf("before: %d %v", status, code)
		}
	}
	here.must("POST", "/v1/couriers/swift/cou_7/sign-out", dispatcher, "")
	for _, c := range []client{there, here} {
		if status, code := stops(c, lost); status != 401 || code != "signed-out" {
			t.Errorf("the lost phone: %d %v", status, code)
		}
	}
	await(t, "a token of a later second", func() bool {
		status, _ := stops(there, s.token(t, phone))
		return status == 200
	})
	if status, code := stops(here, lost); status != 401 || code != "signed-out" {
		t.Errorf("the lost phone, after the new sign-in: %d %v", status, code)
	}
	if again := here.must("GET", "/v1/couriers/swift/cou_7", dispatcher, "")["signed_out_at"]; again == nil {
		t.Error("the record says nothing of it")
	} else if at, err := time.Parse(time.RFC3339, again.(string)); err != nil || time.Since(at) > time.Minute {
		t.Errorf("signed out at %v", again)
	}
}
