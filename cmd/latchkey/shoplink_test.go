package main

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff/door"
)

// The attack of a shop's key against a home, on the running program with a real Redis and mail:
// the key makes a page link, opens it and agrees. Nothing is agreed to until the resident of the
// flat, whose address stands in no dispatch, presses the button; then both are mailed.
func TestAShopsKeyOpensNoHome(t *testing.T) {
	s := newService(t)
	keys := t.TempDir() + "/doors.json"
	if code, _, errs := once("keys", "doors", "new", keys); code != 0 {
		t.Fatal(errs)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	base := "http://" + addr
	args := append(s.args, "--door-keys", keys, "--public-url", base)
	args[index(args, "--addr")+1] = addr
	start(t, args...).url(t)
	c := client{t, base}
	token := func(p auth.Principal) string { return s.token(t, p) }
	manager := token(auth.Principal{Subject: "m", Building: "bld_turm5", Scopes: []auth.Scope{auth.Building}})
	warehouse := token(auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}})
	officer := token(auth.Principal{Subject: "o", Scopes: []auth.Scope{auth.Ops}})
	mailed := func(what, to, about string) string {
		t.Helper()
		var found string
		await(t, what, func() bool {
			for _, m := range s.sink.Messages() {
				if m.To[0] == to && strings.Contains(subject(t, m), about) {
					found = text(t, m)
				}
			}
			return found != ""
		})
		return found
	}

	own, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.must("PUT", "/v1/buildings/bld_turm5", manager, `{"name":"Haus Eins","address":"Turmstr. 5, Berlin","time_zone":"Europe/Berlin","location":`+gatePlace+`,"carriers":["swift"]}`)
	c.must("PUT", "/v1/doors/home-4", manager, `{"building_id":"bld_turm5","kind":"home","mode":"connected","unit":"4 links","owner":{"shop_id":"demo","customer_id":"cus_1"},"location":`+gatePlace+`,"public_key":"`+own.Public().String()+`"}`)
	c.must("PUT", "/v1/buildings/bld_turm5/residents", manager, `{"residents":[{"email":"resident@home.example","unit":"4 links"}]}`)
	if status, _ := c.do("POST", "/v1/buildings/bld_turm5/announce", manager, ""); status != http.StatusAccepted {
		t.Fatalf("announce: %d", status)
	}
	confirm := publicLinkOf(t, base, "/residents/confirm/", mailed("what is installed", "resident@home.example", "unlock doors"))
	if status, _ := post(t, confirm, nil); status != 200 {
		t.Fatalf("confirm: %d", status)
	}
	grant := c.must("POST", "/v1/dispatches", warehouse, `{"parcel_id":"P1","carrier_id":"swift","route_id":"R1","delivery_date":"`+time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)+`",
		"value":{"amount":"20","currency":"EUR"},"categories":["books"],"customer":{"id":"cus_1","name":"Sample Customer 1","email":"customer@shop.example","locale":"en"},
		"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","location":`+gatePlace+`,"building_id":"bld_turm5","unit":"4 links"}}`)["grant_id"].(string)

	code, out, errs := once("apikey", "create", "--scope", "shop", "--shop", "demo", "--policy", "../../docs/policy.json", "--redis-url", "redis://"+s.redis.Addr(), "--keyset", args[index(args, "--keyset")+1])
	if code != 0 {
		t.Fatal(errs)
	}
	link := c.must("POST", "/v1/customers/cus_1/page-link", strings.TrimSpace(out), "")
	b := newSurfer(t)
	if v := b.do("POST", base+link["path"].(string), url.Values{}); v.url.Path != "/account" {
		t.Fatalf("the link leads to %s", v.url)
	}
	page := b.get(base + "/account/" + grant)
	v := b.do("POST", base+"/account/"+grant, url.Values{"csrf": {page.find(t, `name="csrf" value="([^"]+)"`)}, "act": {"consent"}, "kind": {"home"}, "agree": {"yes"}})
	if v.status != 200 || !strings.Contains(v.text, "Nothing opens yet.") {
		t.Fatalf("%d %s", v.status, v.text)
	}
	consents := func() int {
		t.Helper()
		customer := token(auth.Principal{Subject: "cus_1", Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
		return len(c.must("GET", "/v1/handoffs/"+grant, customer, "")["consents"].([]any))
	}
	question := publicLinkOf(t, base, "/residents/consent/", mailed("the question", "resident@home.example", "May a courier open your door?"))
	if n := consents(); n != 0 {
		t.Fatalf("%d consents by a shop's link", n)
	}
	for _, m := range s.sink.Messages() {
		if m.To[0] != "resident@home.example" && strings.Contains(text(t, m), "/residents/consent/") {
			t.Errorf("the question went to %s, too", m.To[0])
		}
	}
	if status, shown := get(t, question); status != 200 || !strings.Contains(shown, `value="agree"`) || consents() != 0 {
		t.Fatalf("the page: %d %s", status, shown)
	}
	resident := newSurfer(t)
	if v := resident.do("POST", question, url.Values{"do": {"agree"}}); v.status != 200 || consents() != 1 {
		t.Fatalf("the button: %d %s", v.status, v.text)
	}
	mailed("the customer's mail", "customer@shop.example", "a courier may open your door")
	mailed("the unit's mail", "resident@home.example", "A courier may open your door")
	told := c.must("GET", "/v1/events?grant="+grant+"&type=consented", officer, "")["events"].([]any)[0].(map[string]any)["data"].(map[string]any)
	if told["by"] != "resident" || told["who"] == nil || told["link_maker"] == nil {
		t.Errorf("the event says %v", told)
	}
}

// publicLinkOf is the link with a path in a mail.
func publicLinkOf(t *testing.T, base, path, text string) string {
	t.Helper()
	_, after, found := strings.Cut(text, base+path)
	if !found {
		t.Fatalf("no %s in %s", path, text)
	}
	return base + path + strings.Fields(after)[0]
}
