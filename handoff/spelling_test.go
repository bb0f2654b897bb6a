package handoff_test

import (
	"math/big"
	"strings"
	"testing"

	. "latchkey/handoff"
)

// Whatever comes in, an id or a date that is read has one spelling, and an amount that is read is
// never less than a reader could mean by it.
func FuzzSpelling(f *testing.F) {
	for _, text := range []string{
		"2026-11-24", "0f3b2c1d4e5f60718293a4b5-1", "0f3b2c1d4e5f60718293a4b5", "0F3B2C1D4E5F60718293A4B5C6D7E8F9", "1.299", "1299.00", "00.10", "07:00", "24:00",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for kind, again := range map[string]func() (string, bool){
			"date":      func() (string, bool) { d, err := ParseDate(text); return d.String(), err == nil },
			"grant id":  func() (string, bool) { id, err := ParseGrantID(text); return id.String(), err == nil },
			"permit id": func() (string, bool) { id, ok := ParsePermitID(text); return id.String(), ok },
			"resident":  func() (string, bool) { id, ok := ParseResidentID(text); return string(id), ok },
			"hours": func() (string, bool) {
				from, to, _ := strings.Cut(text, "-")
				h, ok := ParseHours(from, to)
				return h.String(), ok
			},
		} {
			if said, ok := again(); ok && said != text {
				t.Errorf("the %s %q is read as %q", kind, text, said)
			}
		}
		for currency, decimals := range map[string]int{"JPY": 0, "EUR": 2, "KWD": 3} {
			m, ok := ParseMoney(text, currency)
			if !ok {
				continue
			}
			_, fraction, _ := strings.Cut(text, ".")
			worth, read := new(big.Rat).SetString(text)
			same, kept := new(big.Rat).SetString(m.Amount)
			if len(fraction) > decimals || !read || !kept || worth.Cmp(same) != 0 {
				t.Errorf("%q %s is read as %q", text, currency, m.Amount)
			}
			if !m.AtLeast(Money{Amount: text, Currency: currency}) {
				t.Errorf("%q %s counts as less than it is", text, currency)
			}
		}
	})
}

// A policy that is read says the same when it is written and read again.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"carriers":["swift"],"shops":{"demo":{"carriers":["swift"],"prefixes":["JJD"]}}}`))
	f.Add([]byte(`{"carriers":["swift"],"parcel_ids":{"swift":{"pattern":"[A-Z]{2}[0-9]{9}"}}}`))
	f.Add([]byte(`{"limits":{"wrong_codes_per_code":1e3}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := ParsePolicy(content)
		if err != nil {
			return
		}
		if p.Limits.CodeTries < 1 || p.Limits.CodeTries > 10 || p.Limits.GrantTries < 1 || p.Limits.GrantTries > 30 || p.Fences.Release <= 0 || p.Fences.Door <= 0 {
			t.Errorf("%q passes with %+v, %+v", content, p.Limits, p.Fences)
		}
		for _, id := range []string{"JJD000390007827", "", "\x00", strings.Repeat("9", 600)} {
			for _, carrier := range append(p.Carriers, "nobody") {
				if label, reason := p.Label(carrier, id); reason == "" {
					if again, reason := p.Label(carrier, label); reason != "" || again != label {
						t.Errorf("%q: the label %q of %q is read as %q, %s", content, label, carrier, again, reason)
					}
				}
			}
		}
	})
}
