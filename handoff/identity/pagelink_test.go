package identity_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
)

func TestPageLink(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	customer := handoff.CustomerRef{Shop: "demo", ID: "cus_81"}
	clerk := identity.Maker{Issuer: "https://id.shop.example:8443/a", Who: "0123456789abcdef"}
	link := func() string {
		t.Helper()
		token, until, err := w.PageLinks.Make(customer, clerk)
		if err != nil || !until.Equal(w.Clock.Now().Add(5*time.Minute)) {
			t.Fatalf("%v until %v", err, until)
		}
		return token
	}
	first, second := link(), link()
	if first == second {
		t.Error("two links are one")
	}
	for range 2 {
		if err := w.PageLinks.Check(first); err != nil {
			t.Errorf("looking at it: %v", err)
		}
	}
	if c, by, err := w.PageLinks.Use(t.Context(), first); err != nil || c != customer || by != clerk {
		t.Errorf("%v, %v, %v", c, by, err)
	}
	if _, _, err := w.PageLinks.Use(t.Context(), first); !errors.Is(err, identity.ErrLink) {
		t.Errorf("a second time: %v", err)
	}

	raw, err := base64.RawURLEncoding.DecodeString(second)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw { // every byte counts
		forged := append([]byte(nil), raw...)
		forged[i] ^= 1
		if _, _, err := w.PageLinks.Use(t.Context(), base64.RawURLEncoding.EncodeToString(forged)); !errors.Is(err, identity.ErrLink) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for name, token := range map[string]string{
		"nothing": "", "no token": "abc", "padded": second + "=", "cut": second[:len(second)-4], "a newline": second[:8] + "\n" + second[8:],
		"long": strings.Repeat("A", 10000),
	} {
		if err := w.PageLinks.Check(token); !errors.Is(err, identity.ErrLink) {
			t.Errorf("%s: %v", name, err)
		}
	}

	w.Clock.Advance(5*time.Minute - time.Second)
	if err := w.PageLinks.Check(second); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	w.Clock.Advance(time.Second)
	if _, _, err := w.PageLinks.Use(t.Context(), second); !errors.Is(err, identity.ErrLink) {
		t.Errorf("at its end: %v", err)
	}
}

func TestPageLinkLetsOneIn(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	token, _, err := w.PageLinks.Make(handoff.CustomerRef{Shop: "demo", ID: "cus_81"}, identity.Maker{Key: "k1", Who: "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, _, err := w.PageLinks.Use(t.Context(), token); err == nil {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d were let in", in.Load())
	}
}

// A link names who made it: a key or a person of an issuer, and by which pseudonym. A token of
// a version that named no maker lets no one in.
func TestPageLinkNamesItsMaker(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	customer := handoff.CustomerRef{Shop: "demo", ID: "cus_81"}
	for name, by := range map[string]identity.Maker{
		"no one":        {Who: "0123456789abcdef"},
		"both":          {Key: "k1", Issuer: "https://id.shop.example", Who: "0123456789abcdef"},
		"no pseudonym":  {Key: "k1"},
		"none of these": {},
	} {
		if _, _, err := w.PageLinks.Make(customer, by); err == nil {
			t.Errorf("%s made a link", name)
		}
	}
	key := identity.Maker{Key: "k1", Who: "0123456789abcdef"}
	token, _, err := w.PageLinks.Make(customer, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, by, err := w.PageLinks.Use(t.Context(), token); err != nil || c != customer || by != key {
		t.Errorf("%v, %v, %v", c, by, err)
	}
	until := binary.BigEndian.AppendUint64(nil, uint64(w.Clock.Now().Add(time.Minute).Unix()))
	old := identity.Sign(handofftest.Namer{}, "page-link", append(append(until, make([]byte, 16)...), "demo:cus_81"...))
	if _, _, err := w.PageLinks.Use(t.Context(), old); !errors.Is(err, identity.ErrLink) {
		t.Errorf("a token without a maker: %v", err)
	}
}
