package redisstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// A copy of Redis yields no code, no secret, no name, no address: no value shows what
// was sent, and none opens under another key or version.
func TestADumpTellsNothing(t *testing.T) {
	m := miniredis.RunT(t)
	client := dial(t, "redis://"+m.Addr())
	s, _ := newStore(t, client, 2)
	w := handofftest.New(t, s)
	name := "Courier Display Name"
	until := handoff.InstantOf(handofftest.Noon.AddDate(1, 0, 0))
	ctx := t.Context()
	if err := s.PutCourier(ctx, handofftest.Courier("cou_7"), service.CourierUpdate{Name: &name, ClearedUntil: &until}); err != nil {
		t.Fatal(err)
	}
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	d := handofftest.Sample("JJD1")
	g := w.Dispatch(t, d)
	wrong := handofftest.WrongCode(&g, 1)
	p := handofftest.AtDoor("cou_7", "JJD1", wrong)
	p.Attempt, p.Device = "attempt-1", "phone-of-somebody"
	_, _ = w.Service.Verify(ctx, p)
	by := handoff.Actor{Role: handoff.RoleShop, Shop: d.Shop, Subject: "https://id.shop.example clerk@shop.example"}
	if _, err := w.Service.Reissue(ctx, by, g.ID); err != nil {
		t.Fatal(err)
	}
	key := identity.APIKey{ID: "k1", Hash: sha256.Sum256([]byte("a secret of 256 bits")), Scopes: []string{"ops"}, Label: "what it is for"}
	if err := s.AddAPIKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	session := identity.Session{ID: sha256.Sum256([]byte("a cookie of 256 bits")), Issuer: "https://id.shop.example", Subject: "cus_of_a_session", Name: "Greeted Name"}
	if err := s.AddSession(ctx, session, time.Hour); err != nil {
		t.Fatal(err)
	}
	newest := w.Parcel(t, "JJD1")
	secret, err := g.Code.Secret.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	putKeypad(t, s)
	granted, err := w.Service.Unlock(ctx, atPad("JJD1"))
	if err != nil {
		t.Fatal(err)
	}
	pad, err := door.ParsePINKey(keypadKey)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := pad.PIN(granted.Minute)
	if err != nil {
		t.Fatal(err)
	}
	by.Person = true
	if _, err := w.Service.AskOverride(ctx, by, g.ID, "why they want it"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Recall(ctx, handoff.Actor{Role: handoff.RoleShop, Shop: d.Shop}, g.ID, "a note that names somebody"); err != nil {
		t.Fatal(err)
	}

	dump := contents(t, client)
	if !strings.Contains(dump, doorKey("pad")) || !strings.Contains(dump, granted.Permit.String()) {
		t.Error("the dump does not show the keypad, or where its PIN's permit is to be found")
	}
	for what, secret := range map[string]string{
		"code": g.CurrentCode().Reveal(), "new code": newest.CurrentCode().Reveal(), "wrong code": wrong.Reveal(),
		"secret": string(secret), "name": d.Customer.Name, "mail": d.Customer.Email, "street": d.To.Lines[0],
		"postal code": d.To.Postal, "unit": d.To.Unit, "order": d.Order, "courier's name": name, "note": "names somebody", "override's reason": "why they want",
		"device": p.Device, "clerk": "clerk@", "key's hash": string(key.Hash[:]), "key's label": key.Label,
		"keypad's key": string(keypadKey), "PIN": pin, "session's subject": session.Subject, "session's issuer": session.Issuer, "session's name": session.Name,
	} {
		if strings.Contains(dump, secret) {
			t.Errorf("the dump shows the %s", what)
		}
	}
	if !strings.Contains(dump, "cou_7") {
		t.Error("the dump shows nothing at all: does this test look at the right place?")
	}
}

func TestSealedValuesDoNotMove(t *testing.T) {
	m := miniredis.RunT(t)
	client := dial(t, "redis://"+m.Addr())
	s, _ := newStore(t, client, 2)
	w := handofftest.New(t, s)
	a, b := w.Dispatch(t, handofftest.Sample("JJD1")), w.Dispatch(t, handofftest.Sample("JJD2"))
	ctx := t.Context()
	load := func(g handoff.Grant) error {
		_, err := s.Load(ctx, service.Query{Parcel: g.ID.Hash})
		return err
	}
	stored, err := client.Get(ctx, grantKey(a.ID.Hash)).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]struct {
		key   handoff.Grant
		value []byte
	}{
		"another parcel":  {b, stored},
		"another version": {a, append(versionBytes(service.Version(7)), stored[versionLen:]...)},
		"a flipped bit":   {a, append(bytes.Clone(stored[:len(stored)-1]), stored[len(stored)-1]^1)},
		"cut short":       {a, stored[:5]},
	} {
		if err := client.Set(ctx, grantKey(forged.key.ID.Hash), forged.value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := load(forged.key); !errors.Is(err, storage.ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
	}
	if err := client.Set(ctx, grantKey(a.ID.Hash), stored, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := load(a); err != nil {
		t.Errorf("the value put back: %v", err)
	}
}

func TestOldKeysOpenOldGrants(t *testing.T) {
	m := miniredis.RunT(t)
	before, ring := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	g := handofftest.New(t, before).Dispatch(t, handofftest.Sample("JJD1"))

	rotated, err := ring.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	after := newStoreWith(t, dial(t, "redis://"+m.Addr()), 2, rotated)
	w := handofftest.New(t, after)
	if got := w.Parcel(t, "JJD1"); !got.CurrentCode().Equal(g.CurrentCode()) {
		t.Error("after a rotation the old grant has another code")
	}
	w.Dispatch(t, handofftest.Sample("JJD2"))
	if _, err := before.Load(t.Context(), service.Query{Parcel: w.Parcel(t, "JJD2").ID.Hash}); !errors.Is(err, storage.ErrSealed) {
		t.Errorf("a ring without the new key opened a new grant: %v", err)
	}
}
