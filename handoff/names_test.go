package handoff_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	. "latchkey/handoff"
)

func TestCheckID(t *testing.T) {
	for _, good := range []string{"a", "JJD000390007827", "302-1234567", "a.b_c-D", strings.Repeat("x", 64)} {
		if err := CheckID(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "a b", "a:b", "a/b", "a{b}", "a\n", "\na", "ä", "a\x00", "a*", "١"} {
		if err := CheckID(bad); !errors.Is(err, ErrID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestGrantID(t *testing.T) {
	const hash = "000102030405060708090a0b"
	for text, want := range map[string]GrantID{
		hash + "-1":     {Hash: hash, Generation: 1},
		hash + "-65535": {Hash: hash, Generation: 65535},
	} {
		id, err := ParseGrantID(text)
		if err != nil || id != want || id.String() != text {
			t.Errorf("%s: %+v, %v", text, id, err)
		}
	}
	for _, bad := range []string{
		"", "-", "-1", hash, hash + "-", hash + "-0", hash + "-01", hash + "-+1", hash + "--1", hash + "-65536", hash + "-1-1", hash + "-1 ",
		hash[1:] + "-1", hash + "0-1", strings.ToUpper(hash) + "-1", "g" + hash[1:] + "-1", hash[:20] + ":1*?-1",
	} {
		if id, err := ParseGrantID(bad); !errors.Is(err, ErrGrantID) {
			t.Errorf("%q: %+v, %v", bad, id, err)
		}
	}
	if s := (GrantID{}).String(); s != "" {
		t.Errorf("the zero id prints %q", s)
	}
}

func TestPartition(t *testing.T) {
	for i, digit := range "0123456789abcdef" {
		if got := ParcelHash(string(digit) + "00102030405060708090a0b").Partition(); got != i {
			t.Errorf("%c: %d", digit, got)
		}
	}
}

func TestNames(t *testing.T) {
	for target := Parcel; target <= Home; target++ {
		if got, ok := ParseTarget(target.String()); !ok || got != target {
			t.Errorf("%v: %v, %v", target, got, ok)
		}
	}
	for kind := Residence; kind <= POBox; kind++ {
		if got, ok := ParseDestinationKind(kind.String()); !ok || got != kind {
			t.Errorf("%v: %v, %v", kind, got, ok)
		}
	}
	for _, p := range []Purpose{PurposeDelivery, PurposeReturn} {
		if got, ok := ParsePurpose(p.String()); !ok || got != p {
			t.Errorf("%v: %v, %v", p, got, ok)
		}
	}
	for _, unknown := range []string{"", "unknown(0)", "LOBBY", " lobby"} {
		if p, ok := ParseTarget(unknown); ok {
			t.Errorf("%q is the target %v", unknown, p)
		}
	}
	if got := Proofs(ProofCode, ProofCourier, ProofPlace).Names(); !slices.Equal(got, []string{"courier", "place", "code"}) {
		t.Error(got)
	}
	if s := Act(99).String(); s != "unknown(99)" {
		t.Error(s)
	}
}
