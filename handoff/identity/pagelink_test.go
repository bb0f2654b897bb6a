package identity_test

import (
	"encoding/base64"
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
	link := func() string {
		t.Helper()
		token, until, err := w.PageLinks.Make(customer)
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
	if c, err := w.PageLinks.Use(t.Context(), first); err != nil || c != customer {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := w.PageLinks.Use(t.Context(), first); !errors.Is(err, identity.ErrLink) {
		t.Errorf("a second time: %v", err)
	}

	raw, err := base64.RawURLEncoding.DecodeString(second)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw { // every byte counts
		forged := append([]byte(nil), raw...)
		forged[i] ^= 1
		if _, err := w.PageLinks.Use(t.Context(), base64.RawURLEncoding.EncodeToString(forged)); !errors.Is(err, identity.ErrLink) {
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
	if _, err := w.PageLinks.Use(t.Context(), second); !errors.Is(err, identity.ErrLink) {
		t.Errorf("at its end: %v", err)
	}
}

func TestPageLinkLetsOneIn(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	token, _, err := w.PageLinks.Make(handoff.CustomerRef{Shop: "demo", ID: "cus_81"})
	if err != nil {
		t.Fatal(err)
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := w.PageLinks.Use(t.Context(), token); err == nil {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d were let in", in.Load())
	}
}
