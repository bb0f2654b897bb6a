package handoff

import (
	"math/big"
	"strings"

	"github.com/bojanz/currency"
)

// Decimals is how many decimals ISO 4217 gives a currency: 0 for the yen, 2 for the euro,
// 3 for the Kuwaiti dinar, 4 for the Chilean unit of account. Known is false for what is no
// currency of the standard's present list: historic codes, metals, test codes.
//
// The figures are the standard's own. Those of CLDR, which golang.org/x/text has, are about
// how people write prices, and are smaller for some twenty currencies (IQD, RSD, IDR).
func Decimals(code string) (n int, known bool) {
	digits, known := currency.GetDigits(code)
	return int(digits), known
}

// CanonicalCurrency is a currency's code without spaces around it and in capital letters.
// It need not be one that Decimals knows.
func CanonicalCurrency(code string) string { return strings.ToUpper(strings.Trim(code, " ")) }

// most is the largest value that a reader could take the amount for. Three digits after
// the point, and at most three before it, could be a thousand that is written with a point:
// 1.299 is then 1299. False: it is no amount.
func (m Money) most() (*big.Rat, bool) {
	amount := m.Amount
	if m.Ambiguous() {
		amount = strings.Replace(amount, ".", "", 1)
	}
	return new(big.Rat).SetString(amount)
}

// Ambiguous reports whether the point of the amount could part thousands, as in 1.299.
func (m Money) Ambiguous() bool {
	whole, fraction, _ := strings.Cut(m.Amount, ".")
	return len(fraction) == 3 && len(whole) <= 3 && whole != "" && whole[0] != '0'
}
