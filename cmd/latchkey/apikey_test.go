package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A key's whole life through the command line, on a real Redis and two instances.
func TestAPIKeyCommands(t *testing.T) {
	s := newService(t)
	here, there := client{t, start(t, s.args...).url(t)}, client{t, start(t, s.args...).url(t)}
	keyset, redis := s.args[index(s.args, "--keyset")+1], "redis://"+s.redis.Addr()
	key := func(args ...string) (int, string, string) {
		return once(append([]string{"apikey", "--redis-url", redis, "--keyset", keyset, "--policy", "../../docs/policy.json"}, args...)...)
	}
	create := func(args ...string) string {
		t.Helper()
		code, out, errs := key(append([]string{"create"}, args...)...)
		token := strings.TrimSpace(out)
		if code != 0 || !strings.HasPrefix(token, "lk_") || strings.ContainsAny(token, " \n") || strings.Contains(errs, token) {
			t.Fatalf("create %v: %d %s%s", args, code, out, errs)
		}
		return token
	}
	token := create("--scope", "dispatch,shop", "--shop", "demo", "--expires", "90d", "--label", "warehouse 1")
	far := create("--scope", "ops", "--network", "192.0.2.0/24,2001:db8::/32")
	near := create("--scope", "dispatch", "--shop", "demo", "--network", "127.0.0.0/8")
	door := create("--scope", "door", "--door", "gate")

	for name, want := range map[string]struct {
		token  string
		status int
	}{
		"a warehouse's":         {token, http.StatusNotFound},
		"in its network":        {near, http.StatusNotFound},
		"outside its network":   {far, http.StatusUnauthorized},
		"a door's, for a shop":  {door, http.StatusForbidden},
		"with a slip":           {token[:len(token)-1], http.StatusUnauthorized},
		"another's secret half": {token[:strings.LastIndex(token, "_")] + far[strings.LastIndex(far, "_"):], http.StatusUnauthorized},
	} {
		for _, c := range []client{here, there} {
			if got := c.asked(want.token); got != want.status {
				t.Errorf("%s: %d, want %d", name, got, want.status)
			}
		}
	}
	if status, answer := here.do("GET", "/v1/doors/gate/permits", door, ""); status != http.StatusServiceUnavailable || answer["code"] != "doors-not-configured" {
		t.Errorf("the door with its key: %d %v", status, answer)
	}

	code, out, _ := key("list")
	id := strings.Split(token, "_")[1]
	for _, want := range []string{id, "dispatch shop", "demo", "warehouse 1", "192.0.2.0/24 2001:db8::/32", "gate", time.Now().UTC().AddDate(0, 0, 365).Format(time.DateOnly), time.Now().UTC().AddDate(0, 0, 90).Format(time.DateOnly)} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("list lacks %q:\n%s", want, out)
		}
	}
	for _, secret := range []string{token, far, near, door} {
		secret = secret[strings.LastIndex(secret, "_")+1:]
		if strings.Contains(out, secret) {
			t.Error("list shows a secret")
		}
	}

	if code, _, errs := key("revoke", token); code != 0 {
		t.Fatal(errs)
	}
	revoked := time.Now()
	for _, c := range []client{here, there} {
		await(t, "the key to stop", func() bool { return c.asked(token) == http.StatusUnauthorized })
	}
	if took := time.Since(revoked); took > 5*time.Second+time.Second { // one for the machine
		t.Errorf("the key stopped after %s", took)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"revoke", id}, "there is no key " + id},
		{[]string{"revoke", "x"}, "no id of a key"},
		{[]string{"create", "--scope", "courier", "--carrier", "swift"}, "courier"},
		{[]string{"create", "--scope", "shop"}, "needs a shop"},
		{[]string{"create", "--scope", "ops", "--shop", "demo"}, "for a shop"},
		{[]string{"create", "--scope", "dispatch", "--shop", "nosuchshop"}, "--shop: there is no such shop in "},
		{[]string{"create", "--scope", "carrier", "--carrier", "nosuchcarrier"}, "--carrier: there is no such carrier in "},
		{[]string{"create", "--scope", "ops"}, "name the networks"},
		{[]string{"create", "--scope", "ops", "--network", "0.0.0.0/0"}, "name the networks"},
		{[]string{"create", "--scope", "door", "--door", "gate", "--expires", "366d"}, "a key works for 365d at most"},
		{[]string{"--max-key-life", "30d", "create", "--scope", "door", "--door", "gate", "--expires", "31d"}, "a key works for 30d at most"},
		{[]string{"--max-key-life", "366d", "list"}, "a year (365d) at most"},
		{[]string{"create", "--scope", "ops", "--expires", "soon"}, "90d"},
		{[]string{"create", "--scope", "ops", "--expires=-1d"}, "90d"},
		{[]string{"create", "--scope", "ops", "--network", "192.0.2.1"}, "network"},
		{[]string{"create", "--scope", "ops", "--network", "::ffff:192.0.2.0/120"}, "IPv4"},
		{[]string{"create", "--scope", "ops", "--label", "two\nlines"}, "one line"},
	} {
		if code, out, errs := key(c.args...); code == 0 || !strings.Contains(errs, c.want) || strings.Contains(out, "lk_") {
			t.Errorf("%q: %d %s%s", c.args, code, out, errs)
		}
	}
	if code, _, errs := once("apikey", "--redis-url", redis, "--keyset", keyset, "create", "--scope", "dispatch", "--shop", "demo"); code == 0 || !strings.Contains(errs, "--policy") {
		t.Errorf("a shop's key without a policy: %d %s", code, errs)
	}
	if code, _, errs := key("--max-key-life", "30d", "create", "--scope", "door", "--door", "gate"); code != 0 || !strings.Contains(errs, "It ends at "+time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)) {
		t.Errorf("a key of thirty days: %d %s", code, errs)
	}
	if code, _, errs := once("apikey", "--redis-url", redis, "--keyset", filepath.Join(t.TempDir(), "none"), "list"); code == 0 || !strings.Contains(errs, "none") {
		t.Errorf("without a keyset: %d %s", code, errs)
	}
}
