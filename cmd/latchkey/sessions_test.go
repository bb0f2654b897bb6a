package main

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"latchkey/api/auth"
)

// Sessions that a shop's link began end with the key that made the link, and by a command, for
// one customer or for a shop.
func TestSessionsEndByCommand(t *testing.T) {
	s := newService(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	base := "http://" + addr
	args := append(s.args, "--public-url", base)
	args[index(args, "--addr")+1] = addr
	start(t, args...).url(t)
	c := client{t, base}
	at := []string{"--redis-url", "redis://" + s.redis.Addr(), "--keyset", args[index(args, "--keyset")+1]}
	key := func(shop string) string {
		t.Helper()
		code, out, errs := once(append([]string{"apikey", "create", "--scope", "shop", "--shop", shop, "--policy", "../../docs/policy.json"}, at...)...)
		if code != 0 {
			t.Fatal(errs)
		}
		return strings.TrimSpace(out)
	}
	enter := func(token, customer string) *surfer {
		t.Helper()
		b := newSurfer(t)
		link := c.must("POST", "/v1/customers/"+customer+"/page-link", token, "")
		if v := b.do("POST", base+link["path"].(string), url.Values{}); v.url.Path != "/account" || v.status != 200 {
			t.Fatalf("the link leads to %s: %d", v.url, v.status)
		}
		return b
	}
	in := func(b *surfer) bool { return b.get(base+"/account").url.Path == "/account" }
	revoke := func(want string, flags ...string) {
		t.Helper()
		code, out, errs := once(append(append([]string{"sessions", "revoke"}, at...), flags...)...)
		if code != 0 || !strings.HasPrefix(out, want+" sessions of browsers are ended\n") {
			t.Fatalf("%v: %d %s%s", flags, code, out, errs)
		}
	}

	first, clerk := key("demo"), s.token(t, auth.Principal{Subject: "clerk", Shop: "demo", Scopes: []auth.Scope{auth.Shop}})
	one, two, byClerk := enter(first, "cus_1"), enter(first, "cus_2"), enter(clerk, "cus_1")
	if !in(one) || !in(two) || !in(byClerk) {
		t.Fatal("a link let no one in")
	}
	if code, _, errs := once(append([]string{"apikey", "revoke", first}, at...)...); code != 0 {
		t.Fatal(errs)
	}
	if in(one) || in(two) || !in(byClerk) {
		t.Errorf("after the key was revoked: %v and %v by the key, %v by the clerk", in(one), in(two), in(byClerk))
	}

	second := key("demo")
	one, two = enter(second, "cus_1"), enter(second, "cus_2")
	revoke("3", "--customer", "demo/cus_1") // that of the revoked key is among them
	if in(one) || in(byClerk) || !in(two) {
		t.Errorf("after the customer's: %v, %v, another %v", in(one), in(byClerk), in(two))
	}
	one = enter(second, "cus_1")
	revoke("0", "--shop", "other")
	if !in(one) || !in(two) {
		t.Error("another shop's took these along")
	}
	revoke("3", "--shop", "demo")
	if in(one) || in(two) {
		t.Errorf("after the shop's: %v, %v", in(one), in(two))
	}

	for _, flags := range [][]string{
		{}, {"--shop", "demo", "--customer", "demo/cus_1"}, {"--customer", "cus_1"}, {"--customer", "demo/"}, {"--shop", "a b"},
	} {
		if code, _, errs := once(append(append([]string{"sessions", "revoke"}, at...), flags...)...); code == 0 || !strings.Contains(errs, "--") {
			t.Errorf("%v: %d %s", flags, code, errs)
		}
	}
}
