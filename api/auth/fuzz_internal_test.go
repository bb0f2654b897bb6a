package auth

import (
	"context"
	"testing"

	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
)

// noKeys is a store that has no key and must not be asked for what no one could have made.
type noKeys struct {
	identity.Keys
	asked int
}

func (n *noKeys) APIKey(context.Context, string) (*identity.APIKey, error) {
	n.asked++
	return nil, nil
}

// A token that is no key of ours is refused, without a question to the store.
func FuzzKey(f *testing.F) {
	f.Add("lk_aaaaaaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("lk_")
	f.Fuzz(func(t *testing.T, token string) {
		store := &noKeys{}
		if p, err := NewKeys(store, handofftest.Namer{}, nil).Verify(context.Background(), token); err == nil {
			t.Errorf("%q is %+v", token, p)
		}
		if store.asked > 0 {
			t.Errorf("the store was asked for %q", token)
		}
	})
}

// A list of issuers that is read names each of them, and how its tokens are known.
func FuzzTrust(f *testing.F) {
	f.Add([]byte(`[{"issuer":"https://issuer.example","audience":"latchkey","jwks_url":"https://issuer.example/keys","algorithms":["ES256"]}]`))
	f.Fuzz(func(t *testing.T, content []byte) {
		trusted, err := ParseTrust(content)
		if err != nil {
			return
		}
		for _, issuer := range trusted {
			if issuer.Issuer == "" || issuer.Audience == "" {
				t.Errorf("%q passes as %+v", content, issuer)
			}
		}
	})
}
