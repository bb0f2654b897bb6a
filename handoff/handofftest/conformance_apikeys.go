package handofftest

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"latchkey/handoff/identity"
	"latchkey/handoff/storage"
)

var credentialTests = map[string]func(*testing.T, *World){
	"KeysAreKeptListedAndRemoved": func(t *testing.T, w *World) {
		ctx := t.Context()
		one := identity.APIKey{
			ID: "k1", Hash: [32]byte{1, 31: 2}, Scopes: []string{"dispatch", "shop"}, Shop: Shop, Label: "the warehouse",
			Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, Created: 7, Expires: 9,
		}
		two := identity.APIKey{ID: "k2", Hash: [32]byte{3}, Scopes: []string{"door"}, Door: "d1", Created: 8}
		none, err := w.Store.APIKey(ctx, "k1")
		noError(t, "APIKey", err)
		equal(t, "a key before it is there", none == nil, true)
		list, err := w.Store.APIKeys(ctx)
		noError(t, "APIKeys", err)
		equal(t, "no keys", len(list), 0)

		noError(t, "AddAPIKey", w.Store.AddAPIKey(ctx, one))
		noError(t, "AddAPIKey", w.Store.AddAPIKey(ctx, two))
		for _, k := range []identity.APIKey{one, two} {
			got, err := w.Store.APIKey(ctx, k.ID)
			noError(t, "APIKey", err)
			equal(t, "key", got, &k)
		}
		other := one
		other.Hash = [32]byte{9}
		if err := w.Store.AddAPIKey(ctx, other); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("a key over another: %v", err)
		}
		got, err := w.Store.APIKey(ctx, "k1")
		noError(t, "APIKey", err)
		equal(t, "the key that was there", got, &one)
		list, err = w.Store.APIKeys(ctx)
		noError(t, "APIKeys", err)
		slices.SortFunc(list, func(a, b identity.APIKey) int { return cmp.Compare(a.ID, b.ID) })
		equal(t, "all keys", list, []identity.APIKey{one, two})

		for _, want := range []bool{true, false} {
			found, err := w.Store.RemoveAPIKey(ctx, "k1")
			noError(t, "RemoveAPIKey", err)
			equal(t, "removed", found, want)
		}
		gone, err := w.Store.APIKey(ctx, "k1")
		noError(t, "APIKey", err)
		equal(t, "a removed key", gone == nil, true)
		list, err = w.Store.APIKeys(ctx)
		noError(t, "APIKeys", err)
		equal(t, "what is left", list, []identity.APIKey{two})
	},
}
