package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/storage"
)

// counted is a store of keys that counts how often it is asked, and can be out of reach.
type counted struct {
	identity.Keys
	reads int
	down  bool
}

func (s *counted) APIKey(ctx context.Context, id string) (*identity.APIKey, error) {
	s.reads++
	if s.down {
		return nil, storage.ErrUnavailable
	}
	return s.Keys.APIKey(ctx, id)
}

func newKey(t *testing.T, store identity.Keys, k identity.APIKey) (token string, id string) {
	t.Helper()
	if k.Created == 0 {
		k.Created = handoff.InstantOf(start)
	}
	token, k, err := auth.NewKey(rand.Reader, handofftest.Namer{}, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.AddAPIKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return token, k.ID
}

func TestKeySaysWho(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	v := auth.Either(newIssuers(t, c), auth.NewKeys(store, handofftest.Namer{}, c.Now))
	near := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, k := range map[string]struct {
		key  identity.APIKey
		want auth.Principal
	}{
		"warehouse": {identity.APIKey{Scopes: []string{"dispatch", "shop"}, Shop: "demo"}, auth.Principal{Shop: "demo", Scopes: []auth.Scope{auth.Dispatch, auth.Shop}}},
		"carrier":   {identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"}, auth.Principal{Carrier: "swift", Scopes: []auth.Scope{auth.Carrier}}},
		"building":  {identity.APIKey{Scopes: []string{"building"}, Building: "b1"}, auth.Principal{Building: "b1", Scopes: []auth.Scope{auth.Building}}},
		"door":      {identity.APIKey{Scopes: []string{"door"}, Door: "d1"}, auth.Principal{Subject: "d1", Scopes: []auth.Scope{auth.Door}}},
		"operator":  {identity.APIKey{Scopes: []string{"ops"}, Networks: near}, auth.Principal{Scopes: []auth.Scope{auth.Ops}}},
	} {
		token, id := newKey(t, store, k.key)
		k.want.Key = id
		if k.want.Subject == "" {
			k.want.Subject = "lk_" + id
		}
		p, err := v.Verify(auth.WithCaller(t.Context(), netip.MustParseAddr("10.1.2.3")), token)
		if err != nil || !reflect.DeepEqual(*p, k.want) {
			t.Errorf("%s: %+v %v", name, p, err)
		}
		if handoff.CheckID(p.Subject) != nil || p.Identity() != "key "+id {
			t.Errorf("%s: subject %q, identity %q", name, p.Subject, p.Identity())
		}
	}
}

// What is stored of a key is of no use to whoever reads it, and a key has one spelling.
func TestKeyIsStoredAsAHash(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	token, id := newKey(t, store, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	parts := strings.Split(token, "_")
	if len(parts) != 3 || parts[0] != "lk" || parts[1] != id || len(parts[2]) < 52 {
		t.Fatalf("a key reads %d parts", len(parts))
	}
	other, _ := newKey(t, store, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	v := auth.NewKeys(store, handofftest.Namer{}, c.Now)
	foreign, k, err := auth.NewKey(rand.Reader, otherNamer{}, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.AddAPIKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]string{
		"nothing":           "lk_",
		"no secret":         "lk_" + id,
		"the hash":          "lk_" + id + "_" + auth.Base32Lower.EncodeToString(k.Hash[:]),
		"another's secret":  "lk_" + id + "_" + strings.Split(other, "_")[2],
		"another service's": foreign,
		"in capitals":       "lk_" + strings.ToUpper(id) + "_" + parts[2],
		"with a tail":       token + "_a",
		"padded":            token + "=",
		"a longer id":       "lk_" + id + "a_" + parts[2],
		"a broken line":     "lk_" + id[:8] + "\n" + id[8:] + "_" + parts[2],
		"a slip":            slip(token),
		"long":              token + strings.Repeat("a", auth.MaxToken),
	} {
		if good(t, v, forged) {
			t.Errorf("%s is accepted", name)
		}
	}
	for _, end := range "abcdefghijklmnopqrstuvwxyz234567" { // the last letter holds two bits
		if again := token[:len(token)-1] + string(end); again != token && good(t, v, again) {
			t.Errorf("a second spelling, with %c at the end", end)
		}
	}
	if !good(t, v, token) {
		t.Error("the good one is refused")
	}
}

func slip(token string) string {
	b := []byte(token)
	if i := len(b) - 20; b[i] == 'a' {
		b[i] = 'b'
	} else {
		b[i] = 'a'
	}
	return string(b)
}

type otherNamer struct{}

func (otherNamer) Name(domain string, parts ...string) []byte {
	return handofftest.Namer{}.Name("other", append([]string{domain}, parts...)...)
}

// Made-up keys ask the store nothing, and a key that is gone next to nothing.
func TestWrongKeysAreCheap(t *testing.T) {
	c, store := &clock{now: start}, &counted{Keys: embedded.New(t)}
	v := auth.NewKeys(store, handofftest.Namer{}, c.Now)
	for range 500 {
		forged, _, err := auth.NewKey(rand.Reader, otherNamer{}, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
		if err != nil {
			t.Fatal(err)
		}
		if good(t, v, forged) {
			t.Fatal("a made-up key is accepted")
		}
	}
	if store.reads != 0 {
		t.Errorf("%d reads for 500 made-up keys", store.reads)
	}
	token, id := newKey(t, store, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	if _, err := store.RemoveAPIKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if good(t, v, token) {
			t.Fatal("a revoked key is accepted")
		}
	}
	if store.reads != 1 {
		t.Errorf("%d reads for a key that is gone", store.reads)
	}
}

// Two instances over one store: a key that was in use all the time stops within five
// seconds on both.
func TestRevokedKeyStops(t *testing.T) {
	c, store := &clock{now: start}, &counted{Keys: embedded.New(t)}
	here, there := auth.NewKeys(store, handofftest.Namer{}, c.Now), auth.NewKeys(store, handofftest.Namer{}, c.Now)
	token, id := newKey(t, store, identity.APIKey{Scopes: []string{"dispatch"}, Shop: "demo"})
	for range 100 {
		if !good(t, here, token) || !good(t, there, token) {
			t.Fatal("refused before it was revoked")
		}
	}
	if store.reads != 2 {
		t.Errorf("%d reads for two hundred calls on two instances", store.reads)
	}
	if _, err := store.RemoveAPIKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for after := 100 * time.Millisecond; after <= 5*time.Second; after += 100 * time.Millisecond {
		c.at(after)
		good(t, here, token)
		good(t, there, token)
	}
	if good(t, here, token) || good(t, there, token) {
		t.Error("accepted five seconds after it was revoked")
	}
}

func TestKeyExpires(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	v := auth.NewKeys(store, handofftest.Namer{}, c.Now)
	token, _ := newKey(t, store, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift", Expires: handoff.InstantOf(start.Add(time.Second))})
	if !good(t, v, token) {
		t.Error("refused before its end")
	}
	c.at(time.Second)
	if good(t, v, token) {
		t.Error("accepted at its end, from memory")
	}
}

// A key that was made without an end, or with one too far away, ends a year after it was made,
// or earlier where that is configured; an earlier end of its own stands.
func TestKeysEnd(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		expires, life, want time.Duration
	}{
		"without an end":          {0, auth.LongestKeyLife, 365 * day},
		"for ten years":           {3650 * day, auth.LongestKeyLife, 365 * day},
		"for a week":              {7 * day, auth.LongestKeyLife, 7 * day},
		"without, of thirty days": {0, 30 * day, 30 * day},
		"with, of thirty days":    {90 * day, 30 * day, 30 * day},
		"a life of ten years":     {0, 3650 * day, 365 * day},
	} {
		now, store := &clock{now: start}, embedded.New(t)
		v := auth.NewKeys(store, handofftest.Namer{}, now.Now).Within(c.life)
		k := identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift", Created: handoff.InstantOf(start)}
		if c.expires != 0 {
			k.Expires = handoff.InstantOf(start.Add(c.expires))
		}
		token, id := newKey(t, store, k)
		if end := auth.KeyEnd(k, c.life); !end.Equal(start.Add(c.want)) {
			t.Errorf("%s: ends at %v", name, end)
		}
		now.at(c.want - time.Second)
		if !good(t, v, token) {
			t.Errorf("%s: refused before its end", name)
		}
		now.at(c.want)
		var why *auth.Refusal
		if _, err := v.Verify(t.Context(), token); !errors.As(err, &why) || why.Why != auth.WhyKeyExpired || why.Key != id {
			t.Errorf("%s: at its end: %v", name, err)
		}
	}
}

// An ops key of before, which is bound to no network, works no more; the log says why.
func TestOpsKeysNeedNetworks(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	v := auth.NewKeys(store, handofftest.Namer{}, c.Now)
	k := identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift", Created: handoff.InstantOf(start)}
	token, k, err := auth.NewKey(rand.Reader, handofftest.Namer{}, k)
	if err != nil {
		t.Fatal(err)
	}
	k.Scopes, k.Carrier = []string{"ops"}, "" // as they could be made
	if err := store.AddAPIKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	var why *auth.Refusal
	if _, err := v.Verify(auth.WithCaller(t.Context(), netip.MustParseAddr("10.1.2.3")), token); !errors.As(err, &why) || why.Why != auth.WhyKeyOpen {
		t.Errorf("%v", err)
	}
}

func TestKeyIsBoundToNetworks(t *testing.T) {
	c, store := &clock{now: start}, embedded.New(t)
	v := auth.NewKeys(store, handofftest.Namer{}, c.Now)
	token, _ := newKey(t, store, identity.APIKey{
		Scopes: []string{"ops"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	})
	for from, want := range map[string]bool{
		"192.0.2.7": true, "192.0.3.1": false, "::ffff:192.0.2.7": true, "2001:db8::1": true, "2001:db9::1": false, "": false,
	} {
		ctx := t.Context()
		if from != "" {
			ctx = auth.WithCaller(ctx, netip.MustParseAddr(from))
		}
		if _, err := v.Verify(ctx, token); (err == nil) != want {
			t.Errorf("from %q: %v", from, err)
		}
	}
}

// Out of reach is not the same as wrong: who is told so keeps the key.
func TestKeysOutOfReach(t *testing.T) {
	c, store := &clock{now: start}, &counted{Keys: embedded.New(t)}
	v := auth.NewKeys(store, handofftest.Namer{}, c.Now)
	token, _ := newKey(t, store, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	store.down = true
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, auth.ErrToken) {
		t.Errorf("%v", err)
	}
	store.down = false
	if !good(t, v, token) {
		t.Error("a failure is remembered")
	}
}

func TestCheckKey(t *testing.T) {
	for name, c := range map[string]struct {
		key  identity.APIKey
		want string // empty: accepted
	}{
		"good":            {identity.APIKey{Scopes: []string{"dispatch", "shop"}, Shop: "demo"}, ""},
		"no scope":        {identity.APIKey{Shop: "demo"}, "scope"},
		"twice":           {identity.APIKey{Scopes: []string{"ops", "ops"}}, "twice"},
		"a courier":       {identity.APIKey{Scopes: []string{"courier"}, Carrier: "swift"}, "courier"},
		"a customer":      {identity.APIKey{Scopes: []string{"customer"}, Shop: "demo"}, "customer"},
		"no shop":         {identity.APIKey{Scopes: []string{"dispatch"}}, "needs a shop"},
		"no door":         {identity.APIKey{Scopes: []string{"door"}}, "needs a door"},
		"a shop too many": {identity.APIKey{Scopes: []string{"ops"}, Shop: "demo"}, "for a shop"},
		"a door besides":  {identity.APIKey{Scopes: []string{"shop"}, Shop: "demo", Door: "d1"}, "for a door"},
		"no id":           {identity.APIKey{Scopes: []string{"shop"}, Shop: "a b"}, "shop"},

		"ops in a network":       {identity.APIKey{Scopes: []string{"ops"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, ""},
		"ops from anywhere":      {identity.APIKey{Scopes: []string{"ops"}}, "name the networks"},
		"ops from nearly":        {identity.APIKey{Scopes: []string{"ops"}, Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1")}}, "name the networks"},
		"ops from a net and all": {identity.APIKey{Scopes: []string{"ops"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0")}}, "name the networks"},
	} {
		err := auth.CheckKey(c.key)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyID(t *testing.T) {
	token, k, err := auth.NewKey(rand.Reader, handofftest.Namer{}, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{token, k.ID, "lk_" + k.ID} {
		if id, ok := auth.KeyID(text); !ok || id != k.ID {
			t.Errorf("an id is read as %q, %v", id, ok)
		}
	}
	for _, text := range []string{"", "lk_", "a", k.ID + "a", "eyJhbGciOiJFZERTQSJ9.e30.c2ln"} {
		if id, ok := auth.KeyID(text); ok {
			t.Errorf("%q is an id: %q", text, id)
		}
	}
}
