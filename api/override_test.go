package api_test

import (
	"strings"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
)

// One clerk asks, another sees who and why, and approves. The customer sees that it was
// done by hand, and nobody sees a code.
func TestOverride(t *testing.T) {
	store := embedded.New(t)
	h := newHouse(t, store, func(c *api.Config) {
		c.Verifier = auth.Either(c.Verifier, auth.NewKeys(store, handofftest.Namer{}, c.Clock.Now))
	})
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	path := "/v1/dispatches/" + grant
	second, machine := shop, warehouse
	second.Subject = "second"

	h.expect(t, second, "POST", path+"/override/approve", "", 409, "approval-missing")
	h.expect(t, shop, "POST", path+"/override", `{}`, 422, "invalid-request")
	const why = "Both scanners broken, the customer showed her passport"
	asked := h.expect(t, shop, "POST", path+"/override", `{"reason":"`+why+`"}`, 200, "")
	if asked.body["status"] != "active" || asked.at("override", "own") != true || asked.at("override", "reason") != why {
		t.Errorf("asked: %s", asked.text)
	}
	seen := h.expect(t, second, "GET", path, "", 200, "")
	if seen.at("override", "own") != false || seen.at("override", "reason") != why ||
		seen.at("override", "asked_at") != "2026-11-24T11:00:00Z" || seen.at("override", "until") != "2026-11-24T12:00:00Z" {
		t.Errorf("the second person sees %s", seen.text)
	}
	if a := h.expect(t, machine, "GET", path, "", 200, ""); a.at("override") != nil {
		t.Errorf("the warehouse sees %s", a.text)
	}

	again := shop
	again.Device = "another-telephone" // the same person all the same
	h.expect(t, shop, "POST", path+"/override/approve", "", 403, "self-approval")
	h.expect(t, again, "POST", path+"/override/approve", "", 403, "self-approval")
	h.expect(t, machine, "POST", path+"/override/approve", "", 403, "insufficient-scope")
	h.expect(t, ops, "POST", path+"/override/approve", "", 403, "insufficient-scope")
	foreign := second
	foreign.Shop = handofftest.Other
	h.expect(t, foreign, "POST", path+"/override/approve", "", 404, "grant-unknown")

	token, key, err := auth.NewKey(strings.NewReader(strings.Repeat("x", 100)), handofftest.Namer{}, identity.APIKey{Scopes: []string{"shop"}, Shop: "demo", Created: handoff.InstantOf(handofftest.Noon)})
	if err == nil {
		err = store.AddAPIKey(background, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range []string{"/override", "/override/approve"} {
		req := h.request(t, shop, "POST", path+route, `{"reason":"x"}`)
		req.Header.Set("Authorization", "Bearer "+token)
		if a := h.send(t, req); a.code() != "person-required" || a.status != 403 {
			t.Errorf("a key at %s: %d %s", route, a.status, a.text)
		}
	}

	h.Clock.Advance(time.Hour)
	h.expect(t, second, "POST", path+"/override/approve", "", 409, "approval-missing")
	if a := h.expect(t, second, "GET", path, "", 200, ""); a.at("override") != nil {
		t.Errorf("after an hour: %s", a.text)
	}
	h.expect(t, second, "POST", path+"/override", `{"reason":"as before"}`, 200, "")
	done := h.expect(t, shop, "POST", path+"/override/approve", "", 200, "")
	if done.body["status"] != "released" || done.at("override") != nil {
		t.Errorf("approved: %s", done.text)
	}
	h.expect(t, shop, "POST", path+"/override", `{"reason":"x"}`, 409, "already-released")
	h.expect(t, courier, "POST", "/v1/parcels/P1/abort", `{"reason":"x"}`, 403, "not-your-handoff")
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor("000000"), 409, "already-released")

	mine := h.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
	history := mine.body["history"].([]any)
	if mine.at("handoff", "by_hand") != true || mine.at("handoff", "courier") != nil || mine.body["code"] != nil || mine.body["code_state"] != "used" ||
		history[len(history)-1].(map[string]any)["type"] != "overridden" {
		t.Errorf("the customer sees %s", mine.text)
	}
	if list := h.expect(t, customer, "GET", "/v1/customers/cus_81/handoffs", "", 200, ""); !strings.Contains(list.text, `"by_hand":true`) {
		t.Errorf("the customer's list: %s", list.text)
	}
	for _, text := range []string{h.log.String(), mine.text} {
		if strings.Contains(text, "passport") || strings.Contains(text, "as before") {
			t.Errorf("the reason is told: %s", text)
		}
	}
}

// What is approved is one wish and its reason: once it was asked for again, an approval must name
// the wish, and the one that was read before is refused.
func TestAnApprovalIsOfOneWish(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	path := "/v1/dispatches/" + grant
	second := shop
	second.Subject = "second"
	first := h.expect(t, shop, "POST", path+"/override", `{"reason":"The customer showed her passport"}`, 200, "").at("override", "override_id").(string)
	again := h.expect(t, shop, "POST", path+"/override", `{"reason":"I know him well"}`, 200, "").at("override", "override_id").(string)
	if first == again {
		t.Fatalf("two wishes have one id, %s", first)
	}
	h.expect(t, second, "POST", path+"/override/approve", "", 409, "override-replaced")
	h.expect(t, second, "POST", path+"/override/approve?override_id="+first, "", 409, "override-replaced")
	h.expect(t, second, "POST", path+"/override/approve?override_id=x", "", 409, "override-replaced")
	if a := h.expect(t, second, "GET", path, "", 200, ""); a.body["status"] != "active" || a.at("override", "override_id") != again {
		t.Errorf("after approvals that were refused: %s", a.text)
	}
	if a := h.expect(t, second, "POST", path+"/override/approve?override_id="+again, "", 200, ""); a.body["status"] != "released" {
		t.Errorf("approved: %s", a.text)
	}
}
