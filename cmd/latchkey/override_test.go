package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/notify/mail/mailtest"
)

// Two clerks release a parcel by hand, on the real thing: the customer has a mail about it
// at once, and why they did so is in no log.
func TestOverrideIsMailedAtOnce(t *testing.T) {
	s := newService(t)
	program := start(t, s.args...)
	c := client{t, program.url(t)}
	token := func(p auth.Principal) string { return s.token(t, p) }
	grant := errand(c, token, time.Now(), nil)
	clerk := func(name string) string {
		return token(auth.Principal{Subject: name, Shop: "demo", Scopes: []auth.Scope{auth.Shop}})
	}
	one, other := clerk("one"), clerk("other")
	path := "/v1/dispatches/" + grant
	const why = "the printer swallowed the label"
	c.must("POST", path+"/override", one, `{"reason":"`+why+`"}`)
	if status, refused := c.do("POST", path+"/override/approve", one, ""); status != http.StatusForbidden || refused["code"] != "self-approval" {
		t.Errorf("%d %v", status, refused)
	}
	if waiting := c.must("GET", path, other, ""); waiting["override"].(map[string]any)["reason"] != why {
		t.Errorf("the second person sees %v", waiting)
	}
	if done := c.must("POST", path+"/override/approve", other, ""); done["status"] != "released" {
		t.Errorf("%v", done)
	}
	told := func(m mailtest.Message) bool {
		subject, err := m.Subject()
		return err == nil && strings.Contains(subject, "released by the shop")
	}
	await(t, "the mail about it", func() bool {
		for _, m := range s.sink.Messages() {
			if told(m) {
				return true
			}
		}
		return false
	})
	if code := program.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if logs := program.err.String(); strings.Contains(logs, why) || strings.Contains(logs, "customer@shop.example") {
		t.Errorf("the logs tell it:\n%s", logs)
	}
}
