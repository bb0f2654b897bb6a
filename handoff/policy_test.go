package handoff_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

func TestParseMoney(t *testing.T) {
	for in, want := range map[string]string{
		"1299": "1299", "1299.00": "1299", "1299.50": "1299.5", "0": "0", "0.00": "0", "000.10": "0.1", "007": "7",
		"0150": "150", "123456789012345678901234567890.01": "123456789012345678901234567890.01",
	} {
		if m, ok := ParseMoney(in, "EUR"); !ok || m.Amount != want || m.Currency != "EUR" {
			t.Errorf("%q: %+v, %v", in, m, ok)
		}
	}
	for _, bad := range []string{"", ".", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "1 ", "0x10", "NaN", "Inf", "１", "1.", "1.299", "1.000", "1299.000", "0.001", "1٫5", "1_000", "1 299", "1’299", "1,299.00", "1.299,00"} {
		if m, ok := ParseMoney(bad, "EUR"); ok {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

func TestAtLeast(t *testing.T) {
	eur := func(amount string) Money { return Money{Amount: amount, Currency: "EUR"} }
	for _, c := range []struct {
		a, b Money
		want bool
	}{
		{eur("150"), eur("150"), true},
		{eur("149.99"), eur("150"), false},
		{eur("150.000001"), eur("150"), true},
		{eur("0.1"), eur("0.10"), true},
		{eur("9"), eur("10"), false},
		{eur("99999999999999999999999999.02"), eur("99999999999999999999999999.01"), true},
		{eur("99999999999999999999999999.01"), eur("99999999999999999999999999.02"), false},
		{eur("1"), Money{Amount: "150", Currency: "USD"}, true}, // incomparable: the careful side
		{eur("x"), eur("150"), true},
		{eur("1"), eur(""), true},
	} {
		if got := c.a.AtLeast(c.b); got != c.want {
			t.Errorf("%v at least %v: %v", c.a, c.b, got)
		}
	}
}

// Who needs a code: the table of the policy, line by line, through Decide.
func TestWhoNeedsACode(t *testing.T) {
	type change func(*Dispatch)
	worth := func(amount, currency string) change {
		return func(d *Dispatch) { d.Value = Money{Amount: amount, Currency: currency} }
	}
	kind := func(k DestinationKind, amount string) change {
		return func(d *Dispatch) { d.To.Kind, d.Value.Amount = k, amount }
	}
	category := func(names ...string) change {
		return func(d *Dispatch) { d.Value.Amount, d.Categories = "1", names }
	}
	for name, c := range map[string]struct {
		change change
		code   bool
		refuse Reason
	}{
		"at the threshold":             {worth("150", "EUR"), true, ""},
		"a cent below":                 {worth("149.99", "EUR"), false, ""},
		"above":                        {worth("1299", "EUR"), true, ""},
		"nothing":                      {worth("0", "EUR"), false, ""},
		"yen below":                    {worth("24999", "JPY"), false, ""},
		"yen at":                       {worth("25000", "JPY"), true, ""},
		"pesos below":                  {worth("149999.99", "CLP"), false, ""},
		"a currency unknown":           {worth("0.01", "XTS"), true, ""},
		"no currency":                  {worth("1", ""), true, ""},
		"a currency in small letters":  {worth("1", "eur"), true, ""},
		"always by category":           {category("jewellery"), true, ""},
		"always, whatever its case":    {category("books", "Identity_Documents"), true, ""},
		"always, in other spellings":   {category("  IDENTITY documents "), true, ""},
		"an ordinary category":         {category("books", "electronics"), false, ""},
		"ordinary, whatever its case":  {category("Books", " ELECTRONICS"), false, ""},
		"a category unknown":           {category("jewelry"), true, ""},
		"one of several unknown":       {category("books", "medicines"), true, ""},
		"unknown, for it has no name":  {category("--"), true, ""},
		"unknown, and to a locker":     {func(d *Dispatch) { d.To.Kind, d.Value.Amount, d.Categories = Locker, "1", []string{"jewelry"} }, false, DestinationNotAllowed},
		"unknown, of a return":         {func(d *Dispatch) { d.Purpose, d.Categories = PurposeReturn, []string{"jewelry"} }, false, ""},
		"a thousands point":            {worth("1.299", "EUR"), true, ""},
		"a thousands point, of a cent": {worth("1.000", "EUR"), true, ""},
		"a currency of the past":       {worth("1", "DEM"), true, ""},
		"no category":                  {category(), false, ""},
		"a business":                   {kind(Business, "150"), true, ""},
		"a pickup point":               {kind(PickupPoint, "150"), true, ""},
		"a pickup point, cheap":        {kind(PickupPoint, "1"), false, ""},
		"a locker":                     {kind(Locker, "150"), false, DestinationNotAllowed},
		"a locker, cheap":              {kind(Locker, "149.99"), false, ""},
		"a PO box":                     {kind(POBox, "150"), false, DestinationNotAllowed},
		"a PO box, cheap":              {kind(POBox, "149.99"), false, ""},
		"medicine in a locker":         {func(d *Dispatch) { d.To.Kind, d.Value.Amount, d.Categories = Locker, "1", []string{"medicine"} }, false, DestinationNotAllowed},
		"a return, whatever its worth": {func(d *Dispatch) { d.Purpose = PurposeReturn }, false, ""},
		"a return from a locker":       {func(d *Dispatch) { d.Purpose, d.To.Kind = PurposeReturn, Locker }, false, ""},
		"a carrier that cannot verify": {func(d *Dispatch) { d.Carrier = "pigeon" }, false, CarrierNotEnabled},
		"a shop that may nothing":      {func(d *Dispatch) { d.Shop = "stranger" }, false, CarrierNotEnabled},
		"a kind that is not":           {kind(0, "1"), false, DestinationNotAllowed},
	} {
		d := handofftest.Sample("p1")
		c.change(&d)
		decision := mint(nil, d, handofftest.Noon)
		if got := reasonOf(decision); got != c.refuse {
			t.Errorf("%s: %q, want %q", name, got, c.refuse)
		}
		if c.refuse == "" {
			e := decision.Events[0]
			asked := slices.ContainsFunc(e.Rights, func(r Right) bool { return r.Proofs.Has(ProofCode) })
			if asked != c.code || (e.Issue != 0) != c.code {
				t.Errorf("%s: code asked %v, issue %d, want %v", name, asked, e.Issue, c.code)
			}
		}
	}
}

func TestAShopMayUseItsOwnCarriersOnly(t *testing.T) {
	p := handofftest.Policy()
	p.Shops[handofftest.Shop] = ShopPolicy{Carriers: []string{"rival"}}
	d := handofftest.Sample("p1")
	decision := Decide(nil, Command{Act: Mint, Parcel: "000102030405060708090a0b", Dispatch: &d}, Facts{Policy: p}, handofftest.Noon)
	if got := reasonOf(decision); got != CarrierNotEnabled {
		t.Error(got)
	}
}

func TestAShopMayDispatchItsOwnParcelsOnly(t *testing.T) {
	p := handofftest.Policy()
	p.Shops = map[string]ShopPolicy{
		"one": {Carriers: []string{"swift"}, Prefixes: []string{"JJD", "X1"}},
		"two": {Carriers: []string{"swift", "rival"}, Prefixes: []string{"X2"}},
		"all": {Carriers: []string{"swift", "rival"}},
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		shop, carrier, parcel string
		want                  Reason
	}{
		{"one", "swift", "JJD1", ""},
		{"one", "swift", "JJD", ""},
		{"one", "swift", "JJ", ParcelNotAllowed},
		{"one", "swift", "X2", ParcelNotAllowed},
		{"two", "swift", "X2Y", ""},
		{"two", "swift", "JJD1", ParcelNotAllowed},
		{"two", "swift", "Y", ParcelNotAllowed},
		{"all", "swift", "Y", ""},
		{"all", "swift", "X10", ParcelNotAllowed},
		{"all", "rival", "X10", ""}, // one does not use that carrier
		{"all", "rival", "X2", ParcelNotAllowed},
	} {
		d := handofftest.Sample(c.parcel)
		d.Shop, d.Carrier = c.shop, c.carrier
		if got := reasonOf(mintBy(p, nil, d, handofftest.Noon)); got != c.want {
			t.Errorf("%v: %q", c, got)
		}
	}
}

func TestValidateNamesTheEntry(t *testing.T) {
	if err := handofftest.Policy().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Policy){
		`"EURO"`: func(p *Policy) { p.CodeFrom["EURO"] = "1" },
		`"DEM"`:  func(p *Policy) { p.CodeFrom["DEM"] = "1" },
		`"XAU"`:  func(p *Policy) { p.CodeFrom["XAU"] = "1" },
		`"eur"`:  func(p *Policy) { p.CodeFrom["eur"] = "1" },
		`"EUR" must have a decimal amount such as 150, with at most 2 decimals`: func(p *Policy) { p.CodeFrom["EUR"] = "1.500" },
		`"JPY" must have a decimal amount such as 150, with at most 0 decimals`: func(p *Policy) { p.CodeFrom["JPY"] = "25.000" },
		`"GBP"`:                                           func(p *Policy) { p.CodeFrom["GBP"] = "130." },
		`"CHF"`:                                           func(p *Policy) { p.CodeFrom["CHF"] = "1'450" },
		`code_always: " - " is no category`:               func(p *Policy) { p.CodeAlways = append(p.CodeAlways, " - ") },
		`code_by_value: "" is no category`:                func(p *Policy) { p.CodeByValue = append(p.CodeByValue, "") },
		`"Identity Documents" is in code_always`:          func(p *Policy) { p.CodeByValue = append(p.CodeByValue, "Identity Documents") },
		`allow_without_position: there is no kind`:        func(p *Policy) { p.AllowWithoutPosition = map[string]string{"hut": "no reason"} },
		`allow_without_position: "business" must say why`: func(p *Policy) { p.AllowWithoutPosition = map[string]string{"business": " "} },
		`"USD"`:    func(p *Policy) { p.CodeFrom["USD"] = "-1" },
		`"igloo"`:  func(p *Policy) { p.Destinations["igloo"] = DestinationPolicy{} },
		`"a b"`:    func(p *Policy) { p.Carriers = append(p.Carriers, "a b") },
		`"a/b"`:    func(p *Policy) { p.Shops["a/b"] = ShopPolicy{} },
		`"pigeon"`: func(p *Policy) { p.Shops["demo"] = ShopPolicy{Carriers: []string{"pigeon"}} },
		`"O T"`:    func(p *Policy) { p.Shops["demo"] = ShopPolicy{Prefixes: []string{"O T"}} },
		"demo and other": func(p *Policy) {
			p.Shops["demo"] = ShopPolicy{Carriers: p.Carriers, Prefixes: []string{"JJD", "OTHER"}}
		},
		"demo and other share": func(p *Policy) { p.Shops["other"] = ShopPolicy{Carriers: []string{"rival"}} },
		"fences":               func(p *Policy) { p.Fences.Door = 0 },
		"fences: ":             func(p *Policy) { p.Fences.Release = math.NaN() },
		"radii":                func(p *Policy) { p.Fences.Release = -1 },
		"limits":               func(p *Policy) { p.Limits.CodeTries = 0 },
		"limits: ":             func(p *Policy) { p.Limits.Resends = -1 },
		"override_minutes":     func(p *Policy) { p.Limits.OverrideMinutes = 0 },
		"courier_day":          func(p *Policy) { p.Limits.CourierDay = p.Limits.CourierMonth + 1 },
	} {
		p := handofftest.Policy()
		spoil(p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A slip of the pen is refused by its name, and the highest that is none is taken.
func TestValidateBoundsEachLimit(t *testing.T) {
	for name, c := range map[string]struct {
		top   int
		limit func(*Limits) *int
	}{
		"wrong_codes_per_code":          {10, func(l *Limits) *int { return &l.CodeTries }},
		"wrong_codes_per_grant":         {30, func(l *Limits) *int { return &l.GrantTries }},
		"wrong_codes_per_courier_day":   {100, func(l *Limits) *int { return &l.CourierDay }},
		"wrong_codes_per_courier_month": {500, func(l *Limits) *int { return &l.CourierMonth }},

		"wrong_codes_per_courier_and_customer": {100, func(l *Limits) *int { return &l.CourierCustomer }},
		"reissues_per_grant":                   {10, func(l *Limits) *int { return &l.Reissues }},
		"resends_per_grant":                    {20, func(l *Limits) *int { return &l.Resends }},
		"attempted_per_grant":                  {50, func(l *Limits) *int { return &l.Attempted }},
		"visits_again_per_day":                 {20, func(l *Limits) *int { return &l.AgainDay }},
		"visits_again_per_grant":               {100, func(l *Limits) *int { return &l.Again }},
		"override_minutes":                     {1440, func(l *Limits) *int { return &l.OverrideMinutes }},
		"mail_minutes":                         {1440, func(l *Limits) *int { return &l.MailMinutes }},
	} {
		for n, want := range map[int]string{
			0: "limits: " + name + " must be at least 1", c.top: "", c.top + 1: fmt.Sprintf("limits: %s must be at most %d", name, c.top),
		} {
			p := handofftest.Policy()
			p.Limits.CourierMonth = 500 // no day is above it
			*c.limit(&p.Limits) = n
			if err := p.Validate(); (err == nil) != (want == "") || err != nil && err.Error() != want {
				t.Errorf("%s of %d: %v", name, n, err)
			}
		}
	}
}

// A limit that is not a limit is refused, whichever one it is.
func TestValidateLeavesNoLimitOpen(t *testing.T) {
	for name, spoil := range map[string]func(*Policy){
		"an infinite fence":      func(p *Policy) { p.Fences.Release = math.Inf(1) },
		"an infinite door fence": func(p *Policy) { p.Fences.Door = math.Inf(1) },
		"no pause for resends":   func(p *Policy) { p.Limits.ResendEvery = 0 },
		"a negative pause":       func(p *Policy) { p.Limits.ResendEvery = -time.Second },
		"no time for aborts":     func(p *Policy) { p.Limits.AbortWithin = 0 },
		"no time for approvals":  func(p *Policy) { p.Limits.OverrideMinutes = 0 },
		"a week for approvals":   func(p *Policy) { p.Limits.OverrideMinutes = 7 * 24 * 60 },
	} {
		p := handofftest.Policy()
		spoil(p)
		if err := p.Validate(); err == nil {
			t.Errorf("%s is a policy", name)
		}
	}
}

// The place of a parcel that needs a code must be known, or policy gives it up by name.
func TestACodeNeedsAPosition(t *testing.T) {
	nowhere := func(d *Dispatch) { d.To.Location = nil }
	at00 := func(d *Dispatch) { d.To.Location = &Point{} }
	for name, c := range map[string]struct {
		change func(*Dispatch)
		allow  string
		want   Reason
		proofs ProofSet
	}{
		"given":                     {func(*Dispatch) {}, "", "", Proofs(ProofPlace, ProofCode)},
		"missing":                   {nowhere, "", PositionRequired, 0},
		"0,0":                       {at00, "", PositionRequired, 0},
		"missing, and given up":     {nowhere, "residence", "", Proofs(ProofCode)},
		"given up, but given":       {func(*Dispatch) {}, "residence", "", Proofs(ProofPlace, ProofCode)},
		"given up for another kind": {nowhere, "business", PositionRequired, 0},
		"ordinary":                  {func(d *Dispatch) { nowhere(d); d.Value.Amount = "1" }, "", "", 0},
		"a return":                  {func(d *Dispatch) { nowhere(d); d.Purpose = PurposeReturn }, "", "", 0},
	} {
		p := handofftest.Policy()
		if c.allow != "" {
			p.AllowWithoutPosition = map[string]string{c.allow: "the clerk's desk has no view of the sky"}
		}
		d := handofftest.Sample("p1")
		c.change(&d)
		decision := mintBy(p, nil, d, handofftest.Noon)
		if got := reasonOf(decision); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.want != "" {
			continue
		}
		if got := decision.Events[0].Rights[0].Proofs & Proofs(ProofPlace, ProofCode); got != c.proofs {
			t.Errorf("%s: the right asks for %v, want %v", name, got.Names(), c.proofs.Names())
		}
		for _, r := range decision.Events[0].Rights[1:] {
			if !r.Proofs.Has(ProofPlace) {
				t.Errorf("%s: a door asks for %v", name, r.Proofs.Names())
			}
		}
	}
}

// What was read in the safe direction is said, by its place in the request.
func TestWarnings(t *testing.T) {
	p := handofftest.Policy()
	p.CodeFrom["KWD"] = "45"
	p.AllowWithoutPosition = map[string]string{"business": "no view of the sky"}
	for name, c := range map[string]struct {
		change func(*Dispatch)
		want   []string
	}{
		"nothing":           {func(*Dispatch) {}, nil},
		"no categories":     {func(d *Dispatch) { d.Categories = nil }, nil},
		"known":             {func(d *Dispatch) { d.Categories = []string{"Books", "identity documents"} }, nil},
		"unknown":           {func(d *Dispatch) { d.Categories = []string{"books", "jewelry", "toys", "medicines"} }, []string{"category-unknown categories[1]", "category-unknown categories[3]"}},
		"a return":          {func(d *Dispatch) { d.Purpose, d.Categories = PurposeReturn, []string{"jewelry"} }, nil},
		"a past currency":   {func(d *Dispatch) { d.Value.Currency = "BGN" }, []string{"currency-unknown value.currency"}},
		"perhaps thousands": {func(d *Dispatch) { d.Value = Money{Amount: "1.299", Currency: "KWD"} }, []string{"amount-ambiguous value.amount"}},
		"no position":       {func(d *Dispatch) { d.To.Kind, d.To.Location = Business, nil }, []string{"position-not-asked destination.location"}},
		"none needed":       {func(d *Dispatch) { d.To.Kind, d.To.Location, d.Value.Amount = Business, nil, "1" }, nil},
	} {
		d := handofftest.Sample("p1")
		c.change(&d)
		var got []string
		for _, w := range p.Warnings(&d) {
			got = append(got, string(w.Code)+" "+w.Field)
			if w.Message == "" {
				t.Errorf("%s: a warning without words", name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A file from before there was code_by_value loads, and no category is then harmless. Names
// are taken in any spelling, but not twice.
func TestOldAndOtherlySpelledPolicies(t *testing.T) {
	const rest = `, "carriers": ["swift"], "shops": {"demo": {"carriers": ["swift"]}}}`
	p, err := ParsePolicy([]byte(`{"code_from": {" eur": "150"}, "code_always": ["Jewellery"], "destinations": {"Residence": {"code": true}, "PO-Box": {"code": false}}` + rest))
	if err != nil {
		t.Fatal(err)
	}
	for category, want := range map[string]bool{"": false, "books": true, "jewellery": true} {
		d := handofftest.Sample("p1")
		d.Value.Amount, d.Categories = "1", nil
		if category != "" {
			d.Categories = []string{category}
		}
		decision := mintBy(p, nil, d, handofftest.Noon)
		if decision.Refusal != nil || decision.Events[0].Rights[0].Proofs.Has(ProofCode) != want {
			t.Errorf("%q: %+v", category, decision)
		}
	}
	d := handofftest.Sample("p1")
	d.To.Kind, d.Value.Amount, d.Categories = POBox, "1", nil
	if decision := mintBy(p, nil, d, handofftest.Noon); decision.Refusal != nil {
		t.Errorf("a PO box: %v", decision.Refusal)
	}
	for want, begin := range map[string]string{
		`code_from: "EUR" is there twice`:        `{"code_from": {"EUR": "150", "eur": "1500"}, "destinations": {"residence": {"code": true}}`,
		`destinations: "po_box" is there twice`:  `{"code_from": {"EUR": "150"}, "destinations": {"po_box": {}, "PO box": {"code": true}}`,
		`allow_without_position: "residence" is`: `{"code_from": {"EUR": "150"}, "destinations": {"residence": {"code": true}}, "allow_without_position": {"residence": "a", "Residence": "b"}`,
	} {
		if _, err := ParsePolicy([]byte(begin + rest)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A parcel goes to a place, whose zone says when its day is. A grant that is older than this
// rule keeps its zone, and can be moved to another day.
func TestADispatchNamesTheZoneOfAPlace(t *testing.T) {
	for zone, want := range map[string]Reason{
		"Europe/Berlin": "", "US/Eastern": "", "Asia/Calcutta": "", "Japan": "",
		"": ZoneUnknown, "UTC": ZoneUnknown, "EST": ZoneUnknown, "Factory": ZoneUnknown, "Etc/GMT+1": ZoneUnknown, "Europe//Berlin": ZoneUnknown, "Local": ZoneUnknown,
	} {
		d := handofftest.Sample("p1")
		d.To.Zone = zone
		if got := reasonOf(mint(nil, d, handofftest.Noon)); got != want {
			t.Errorf("%q: %q, want %q", zone, got, want)
		}
	}
	s := rows()[0].scene(t)
	s.grant.Dispatch.To.Zone = "UTC"
	s.cmd = Command{Act: Reschedule, By: Actor{Role: RoleShop, Shop: handofftest.Shop}, Day: s.grant.Day().Next()}
	if d := s.decide(); d.Refusal != nil {
		t.Errorf("a grant of before: %v", d.Refusal)
	}
}

// Whatever a shop sends, a parcel that is released without a code is one of known categories
// and a known currency, whose amount is below the threshold however its point is read; and
// one with a code proves its place, unless the policy gave that up for the kind.
func TestEveryReleaseIsAsGuardedAsItsDispatchAsks(t *testing.T) {
	p := handofftest.Policy()
	p.CodeFrom["KWD"] = "45"
	p.AllowWithoutPosition = map[string]string{"pickup_point": "no view of the sky"}
	rapid.Check(t, func(t *rapid.T) {
		d := handofftest.Sample("p1")
		written := rapid.StringMatching(`[0-9]{1,4}([.][0-9]{1,4})?`).Draw(t, "amount")
		currency := rapid.SampledFrom([]string{"EUR", "KWD", "JPY", "ZAR", "XTS", "DEM"}).Draw(t, "currency")
		var ok bool
		if d.Value, ok = ParseMoney(written, currency); !ok {
			return
		}
		d.Categories = rapid.SliceOfN(rapid.SampledFrom([]string{"books", "Toys ", "jewelry", "JEWELLERY", "identity documents", "?"}), 0, 3).Draw(t, "categories")
		d.To.Kind = rapid.SampledFrom([]DestinationKind{Residence, Business, PickupPoint, Locker, POBox}).Draw(t, "kind")
		if rapid.Bool().Draw(t, "nowhere") {
			d.To.Location = rapid.SampledFrom([]*Point{nil, {}}).Draw(t, "location")
		}
		decision := mintBy(p, nil, d, handofftest.Noon)
		if decision.Refusal != nil {
			if r := decision.Refusal.Reason; r != PositionRequired && r != DestinationNotAllowed {
				t.Fatal(r)
			}
			return
		}
		proofs := decision.Events[0].Rights[0].Proofs
		place := d.To.Location != nil && *d.To.Location != Point{}
		switch {
		case proofs.Has(ProofCode):
			if !proofs.Has(ProofPlace) && (place || d.To.Kind != PickupPoint) {
				t.Fatalf("a code without a place: %v", proofs.Names())
			}
			return
		case currency != "EUR" && currency != "KWD" && currency != "JPY":
			t.Fatalf("no code for %s", currency)
		case slices.ContainsFunc(d.Categories, func(c string) bool { return c != "books" && c != "Toys " }):
			t.Fatalf("no code for %q", d.Categories)
		}
		// A reader who takes the point for one of thousands reads digits alone.
		whole, fraction, _ := strings.Cut(written, ".")
		most, _ := strconv.ParseFloat(written, 64)
		if len(fraction) == 3 && len(whole) <= 3 && whole[0] != '0' {
			most, _ = strconv.ParseFloat(whole+fraction, 64)
		}
		if threshold := map[string]float64{"EUR": 150, "KWD": 45, "JPY": 25000}[currency]; most >= threshold {
			t.Fatalf("no code for %s %s", written, currency)
		}
	})
}
