package receipt_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/receipt"
)

func sample() handoff.Receipt {
	grant := handoff.GrantID{Hash: "9f1c02a7d54be3809f1c02a7", Generation: 1}
	at := handoff.InstantOf(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	return handoff.Receipt{
		ID: handoff.ReceiptID{Grant: grant, Number: 1}, Shop: "demo", Carrier: "swift", Purpose: handoff.PurposeDelivery,
		Parcels: []string{"P1", "P2"}, At: at, Placed: true, Courier: "0123456789abcdef", CodeIssue: 2,
		Doors: []handoff.Unlock{{Door: "lobby", Target: handoff.Lobby, Permit: handoff.PermitID{1}, State: handoff.DoorRelocked, Since: at}},
	}
}

func keys(t testing.TB) *receipt.Keys {
	t.Helper()
	k, err := receipt.NewKeys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A receipt says after verification what was signed, and the same one is signed the same.
func TestAReceiptIsReadAsItWasSigned(t *testing.T) {
	k := keys(t)
	byHand := sample()
	byHand.Courier, byHand.CodeIssue, byHand.Placed, byHand.Doors = "", 0, false, nil
	collected := sample()
	collected.Purpose, collected.Distance = handoff.PurposeReturn, 40
	for name, r := range map[string]handoff.Receipt{"release": sample(), "by hand": byHand, "collect": collected} {
		raw, err := k.Sign(&r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again, _ := k.Sign(&r); !bytes.Equal(raw, again) {
			t.Errorf("%s: signed twice, the bytes differ", name)
		}
		got, kid, err := receipt.Verify(raw, k.Publish())
		if err != nil || kid != k.Publish()[0].ID() || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, r)
		}
		for i := range raw {
			forged := bytes.Clone(raw)
			forged[i] ^= 1
			var refused door.Refusal
			if _, _, err := receipt.Verify(forged, k.Publish()); !errors.As(err, &refused) {
				t.Fatalf("%s: byte %d changed: %v", name, i, err)
			}
		}
	}
}

// A receipt out of its bounds is not signed.
func TestWhatIsNoReceiptIsNotSigned(t *testing.T) {
	k := keys(t)
	for name, change := range map[string]func(*handoff.Receipt){
		"no parcel":          func(r *handoff.Receipt) { r.Parcels = nil },
		"too many parcels":   func(r *handoff.Receipt) { r.Parcels = make([]string, handoff.MostParcels+1) },
		"a parcel's id":      func(r *handoff.Receipt) { r.Parcels[0] = "P\n1" },
		"no id":              func(r *handoff.Receipt) { r.ID = handoff.ReceiptID{} },
		"no time":            func(r *handoff.Receipt) { r.At = 0 },
		"by hand and a code": func(r *handoff.Receipt) { r.Courier = "" },
		"a distance":         func(r *handoff.Receipt) { r.Distance = -1 },
		"a door's state":     func(r *handoff.Receipt) { r.Doors[0].State = handoff.DoorSilent },
		"a door's kind":      func(r *handoff.Receipt) { r.Doors[0].Target = handoff.Parcel },
	} {
		r := sample()
		change(&r)
		if _, err := k.Sign(&r); !errors.Is(err, door.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A retired key's receipts verify until the key is forgotten, and a door's message is no receipt.
func TestKeysAreRotatedAndForgotten(t *testing.T) {
	old, r := keys(t), sample()
	raw, err := old.Sign(&r)
	if err != nil {
		t.Fatal(err)
	}
	k, err := old.Rotate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content, err := k.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if k, err = receipt.ParseKeys(content); err != nil {
		t.Fatal(err)
	}
	if _, kid, err := receipt.Verify(raw, k.Publish()); err != nil || kid != old.Publish()[0].ID() {
		t.Errorf("after a rotation: %s %v", kid, err)
	}
	if _, err := k.Forget(k.Publish()[0].ID().String()); !errors.Is(err, receipt.ErrNoSuchKey) {
		t.Errorf("the key that signs was forgotten: %v", err)
	}
	if k, err = k.Forget(old.Publish()[0].ID().String()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := receipt.Verify(raw, k.Publish()); !errors.Is(err, door.UnknownKey) {
		t.Errorf("a forgotten key: %v", err)
	}
	private, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := door.SignMessage(private, "latchkey/other/v1", map[int]int{1: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := receipt.Verify(other, door.KeySet{private.Public()}); !errors.Is(err, door.BadSignature) {
		t.Errorf("a message for another purpose: %v", err)
	}
	if _, err := door.SignMessage(private, "latchkey/permit/v1", map[int]int{}); err == nil {
		t.Error("a permit was signed as a message of another room")
	}
}

func FuzzVerify(f *testing.F) {
	k, r := keys(f), sample()
	raw, err := k.Sign(&r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{0xd2, 0x84})
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, _, err := receipt.Verify(raw, k.Publish())
		if err != nil {
			return
		}
		if again, err := k.Sign(&got); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("accepted, and signed otherwise: %v", err)
		}
	})
}
