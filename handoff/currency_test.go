package handoff_test

import (
	"strings"
	"testing"

	"golang.org/x/text/currency"

	. "latchkey/handoff"
)

// The decimals of every currency are those of ISO 4217 (list one): all have two but these.
func TestDecimalsAreThoseOfTheStandard(t *testing.T) {
	others := map[string]int{}
	for n, codes := range map[int]string{
		0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
		3: "BHD IQD JOD KWD LYD OMR TND",
		4: "CLF UYW",
	} {
		for _, code := range strings.Fields(codes) {
			others[code] = n
		}
	}
	known, smaller := 0, 0
	for code := range everyCode {
		n, ok := Decimals(code)
		if !ok {
			if _, listed := others[code]; listed {
				t.Errorf("%s is not known", code)
			}
			continue
		}
		known++
		want, special := others[code]
		if !special {
			want = 2
		}
		if n != want {
			t.Errorf("%s has %d decimals, want %d", code, n, want)
		}
		if unit, err := currency.ParseISO(code); err == nil {
			if written, _ := currency.Standard.Rounding(unit); written < n {
				smaller++
			}
		}
	}
	if known < 150 || known > 200 {
		t.Errorf("%d currencies are known", known)
	}
	if smaller == 0 {
		t.Error("CLDR's figures are the standard's now: golang.org/x/text would do")
	}
	for _, code := range strings.Fields("EUR HUF IDR USD GBP CHF CLF UYW") {
		if _, ok := Decimals(code); !ok {
			t.Errorf("%s is not known", code)
		}
	}
	for _, code := range []string{"", "eur", "EUR ", "EURO", "DEM", "HRK", "TRL", "XAU", "XTS", "XXX", "XDR", "ZZZ", "978"} {
		if n, ok := Decimals(code); ok {
			t.Errorf("%q has %d decimals", code, n)
		}
	}
}

// everyCode yields every text of three capital letters.
func everyCode(yield func(string) bool) {
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				if !yield(string([]rune{a, b, c})) {
					return
				}
			}
		}
	}
}

// Where a currency has three decimals, 1.299 may be written with a thousands point. It is
// then compared as the larger, and still equals itself in other spellings.
func TestNoAmountIsReadAsSmallerThanItMayBe(t *testing.T) {
	for amount, want := range map[string]bool{
		"1.299": true, "1.000": true, "12.500": true, "999.999": true,
		"12.5": false, "12.50": false, "0.299": false, "0.999": false, "44": false, "44.9": false, "0044.900": false,
		"1299.000": true, "45": true, "45.0": true,
	} {
		m, ok := ParseMoney(amount, "KWD")
		if !ok {
			t.Errorf("%s is no amount of dinars", amount)
			continue
		}
		if got := m.AtLeast(Money{Amount: "45", Currency: "KWD"}); got != want {
			t.Errorf("%s KWD is at least 45: %v, want %v", amount, got, want)
		}
	}
	for _, c := range []struct {
		amount, currency string
		want             bool
	}{
		{"1299", "JPY", true},
		{"1299.0", "JPY", false},
		{"1.299", "JPY", false},
		{"1299.00", "JPY", false},
		{"1299.50", "EUR", true},
		{"1.299", "EUR", false},
		{"1299.50", "HUF", true},
		{"1.299", "HUF", false},
		{"1.299", "IQD", true},
		{"1.2990", "IQD", false},
		{"1.2345", "CLF", true},
		{"1.2345", "UYW", true},
		{"1.23456", "CLF", false},
		{"1.5", "CLP", false},
		{"1.2345", "ZZZ", true},
	} {
		if _, ok := ParseMoney(c.amount, c.currency); ok != c.want {
			t.Errorf("%s %s is an amount: %v, want %v", c.amount, c.currency, ok, c.want)
		}
	}
	a, _ := ParseMoney("12.500", "KWD")
	b, _ := ParseMoney("12.5", "KWD")
	one, two := Dispatch{Value: a}, Dispatch{Value: b}
	if !one.Equal(&two) {
		t.Error("12.500 and 12.5 dinars are two dispatches")
	}
}

func TestCanonicalForms(t *testing.T) {
	for in, want := range map[string]string{
		"books": "books", "Books": "books", "Identity Documents": "identity_documents", "identity-documents": "identity_documents",
		"identity__documents ": "identity_documents", "\tIDENTITY\u2010documents": "identity_documents", "ｊewellery": "jewellery", " - ": "", "": "",
		"jewelry": "jewelry", "Arznei\u00admittel": "arznei\u00admittel",
	} {
		if got := CanonicalCategory(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]DestinationKind{"PO Box": POBox, "po-box": POBox, "Residence": Residence, " pickup_point": PickupPoint, "pobox": 0, "": 0, "house": 0} {
		if got, ok := ParseDestinationKind(in); got != want || ok != (want != 0) {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
	one, two := Dispatch{Categories: []string{"Books", "toys"}}, Dispatch{Categories: []string{"TOYS ", "books", "toys"}}
	if !one.Equal(&two) {
		t.Error("the spelling of categories makes two dispatches")
	}
	if CanonicalCurrency(" eur ") != "EUR" {
		t.Error("eur is not EUR")
	}
}
