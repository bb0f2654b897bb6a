package handoff

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
)

// Policy is the operator's rules as data: which parcels need a code, where a code
// makes no sense, who may carry and dispatch. It chooses the rights of a grant when
// the grant is made; a later change of policy does not reach grants that exist.
type Policy struct {
	// CodeFrom is, per currency (ISO 4217), the value from which a parcel is released
	// only against a code. A currency that is not listed always needs one.
	CodeFrom map[string]string `json:"code_from"`

	// CodeAlways are the categories that need a code at any value. Categories are compared
	// as CanonicalCategory writes them.
	CodeAlways []string `json:"code_always"`

	// CodeByValue are the categories that need no code by themselves: the value
	// decides. A category that is in neither list needs a code at any value, too: what
	// policy does not know may be jewelry under another name.
	CodeByValue []string `json:"code_by_value"`

	// Destinations says per kind of place whether a code can be asked there. A kind
	// that is not listed takes no parcel at all.
	Destinations map[string]DestinationPolicy `json:"destinations"`

	// AllowWithoutPosition are the kinds of place to which a parcel that needs a code may be
	// dispatched without the position of the address, each with the operator's reason. At
	// such a parcel nothing asks where the courier is: a customer who tells the code by
	// telephone releases it anywhere. Where a position is given, it is asked all the same.
	AllowWithoutPosition map[string]string `json:"allow_without_position"`

	// Carriers are the carriers whose couriers can verify.
	Carriers []string `json:"carriers"`

	// Shops says what each shop may dispatch. An unlisted shop may dispatch nothing.
	Shops map[string]ShopPolicy `json:"shops"`

	// ParcelIDs says, by carrier, what its parcel ids look like. Of a carrier that is not
	// listed it is guessed (label.go).
	ParcelIDs map[string]LabelRule `json:"parcel_ids,omitempty"`

	Fences  Fences  `json:"fences"`
	Limits  Limits  `json:"limits"`
	Signals Signals `json:"signals"`
}

// Signals are thresholds of patterns worth a look. They refuse no request.
type Signals struct {
	Courier int `json:"wrong_parcels_per_courier_hour"` // parcels with wrong codes, by one courier
	Route   int `json:"wrong_parcels_per_route_hour"`
	Depot   int `json:"wrong_parcels_per_depot_hour"` // of all routes whose ids begin alike, up to the last hyphen
	Far     int `json:"far_m"`                        // meters from the address at a handoff that was tried
	Soon    int `json:"released_after_dispatch_min"`  // minutes between dispatch and handoff
}

// DestinationPolicy is what a kind of place allows.
type DestinationPolicy struct {
	// Code says that a customer is there to say a code.
	Code bool `json:"code"`
}

// ShopPolicy is what a shop may do.
type ShopPolicy struct {
	Carriers []string `json:"carriers"`

	// Prefixes are how the ids of its parcels begin, so that no shop claims another's
	// parcel first. A shop without any may dispatch what begins with no other shop's.
	Prefixes []string `json:"parcel_prefixes"`

	// Contact is how its customers reach its people, as mails and pages say it: one line of at
	// most 120 characters, such as a phone number and hours. Empty: they say "the shop" alone.
	Contact string `json:"contact,omitempty"`

	// AllOrNothing says that of several parcels of one dispatch all that are still there are
	// handed over at once, or none, even where the dispatch does not ask for that.
	AllOrNothing bool `json:"all_or_nothing,omitempty"`
}

// Contacts are the contacts of the shops that have one, by the shop's id.
func (p *Policy) Contacts() map[string]string {
	all := map[string]string{}
	for id, shop := range p.Shops {
		if shop.Contact != "" {
			all[id] = shop.Contact
		}
	}
	return all
}

// Fences are the radii, in meters, within which a position counts as at the place.
type Fences struct {
	Release float64 `json:"release_m"`
	Door    float64 `json:"door_m"`
}

// Limits are the numbers that stand between a guesser and a parcel. Each is at least 1 but for
// CarrierShare, and most have a maximum: a typing error is refused.
type Limits struct {
	// CodeTries is how many wrong codes lock a code, until a new one is issued. At most 10.
	CodeTries int `json:"wrong_codes_per_code"`

	// GrantTries is how many wrong codes lock a grant for good, whatever codes it had. At most 30.
	GrantTries int `json:"wrong_codes_per_grant"`

	// CourierDay is how many wrong codes over all parcels stop a courier who entered them in 24
	// hours, excused ones included (these for 26 hours). At most 100, and at most CourierMonth.
	CourierDay int `json:"wrong_codes_per_courier_day"`

	// CourierMonth is the same for thirty days, excused ones of the last 26 hours included. At
	// most 500. A courier who is stopped by either stays so until a person clears the budget or
	// the wrong codes are old enough.
	CourierMonth int `json:"wrong_codes_per_courier_month"`

	// CourierCustomer is how many wrong codes a courier may say to one customer in 26 hours, over
	// all of the customer's parcels: what one customer can cost a courier. At most 100.
	CourierCustomer int `json:"wrong_codes_per_courier_and_customer"`

	// CarrierDay is how many wrong codes of all its couriers together are the limit of a carrier,
	// in 24 hours and what has passed of the hour before: see Limits.Carrier. It has no upper
	// end: carriers differ too much in size.
	CarrierDay int `json:"wrong_codes_per_carrier_day"`

	// CarrierShare is how many more a carrier may have for each hundred parcels that its
	// couriers released for a right code in the same time. From 0 to 100.
	CarrierShare float64 `json:"wrong_codes_per_100_releases"`

	// Reissues is how many new codes a grant may have, one for an abort included. At most 10.
	Reissues int `json:"reissues_per_grant"`

	// Resends is how often the same code may be mailed again. At most 20.
	Resends int `json:"resends_per_grant"`

	// Attempted is how often it may be recorded that a courier met no one. At most 50.
	Attempted int `json:"attempted_per_grant"`

	// AgainDay is how many visits to lobbies and gates may be begun again for a grant in its
	// delivery day, at all doors together, while the parcel is not handed over. At most 20.
	AgainDay int `json:"visits_again_per_day"`

	// Again is the same for the grant's life, in which it may be moved to other days. At most 100.
	Again int `json:"visits_again_per_grant"`

	// ResendEvery is the shortest time between two such mails. Not in the policy file.
	ResendEvery time.Duration `json:"-"`

	// AbortWithin is how long after a release its courier may take it back. Not in the policy file.
	AbortWithin time.Duration `json:"-"`

	// OverrideMinutes is for how many minutes the wish for a release by hand waits for its
	// approval. At most 1440: no parcel is released by hand outside of its window.
	OverrideMinutes int `json:"override_minutes"`

	// DisputeHours is within how many hours the duty officer is to decide a customer's dispute.
	// It is told to the customer, and ends nothing by itself. At most 720: thirty days.
	DisputeHours int `json:"dispute_hours"`

	// DoorChangeHours is for how many hours a change of whose a garage or home is, or of its key,
	// waits, so that its people can object; and how long a removed resident of a unit stays. From
	// 24 to 720.
	DoorChangeHours int `json:"door_change_hours"`

	// MailMinutes is within how many minutes a mail server is to take the mail with a new code.
	// After that the shop is told that the mail failed; it is tried on. At most 1440.
	MailMinutes int `json:"mail_minutes"`
}

// DefaultPolicy is a complete policy but for its carriers and shops: codes from
// 150 EUR or about as much in other currencies, everywhere but at lockers and PO boxes.
func DefaultPolicy() *Policy {
	return &Policy{
		CodeFrom: map[string]string{
			"EUR": "150", "USD": "165", "GBP": "130", "CHF": "145", "JPY": "25000", "AUD": "250", "CAD": "230",
			"BRL": "900", "CLP": "150000", "SEK": "1700", "NOK": "1750", "DKK": "1100", "PLN": "650",
		},
		CodeAlways:  []string{"identity_documents", "jewellery", "medicine"},
		CodeByValue: []string{"books", "clothing", "electronics", "groceries", "tools", "toys"},
		Destinations: map[string]DestinationPolicy{
			Residence.String(): {Code: true}, Business.String(): {Code: true}, PickupPoint.String(): {Code: true},
			Locker.String(): {}, POBox.String(): {},
		},
		Fences: Fences{Release: 150, Door: 30},
		Limits: Limits{
			CodeTries: 5, GrantTries: 10, CourierDay: 20, CourierMonth: 60, CourierCustomer: 10, CarrierDay: 50, CarrierShare: 1.5,
			Reissues: 3, Resends: 5, Attempted: 10, AgainDay: 6, Again: 18, ResendEvery: time.Minute, AbortWithin: 10 * time.Minute, OverrideMinutes: 60,
			DisputeHours: 48, DoorChangeHours: 72, MailMinutes: 30,
		},
		Signals: Signals{Courier: 3, Route: 5, Depot: 15, Far: 1000, Soon: 10},
	}
}

// ParsePolicy reads a policy file, JSON as docs/policy.md describes it. Fences, limits and
// signals that it leaves out keep their defaults; everything else it must say. Names it
// does not know are refused: a misspelt rule must not be an absent one.
func ParsePolicy(content []byte) (*Policy, error) {
	p := &Policy{Fences: DefaultPolicy().Fences, Limits: DefaultPolicy().Limits, Signals: DefaultPolicy().Signals}
	if err := json.Unmarshal(content, p, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for name, empty := range map[string]bool{
		"code_from": len(p.CodeFrom) == 0, "destinations": len(p.Destinations) == 0, "carriers": len(p.Carriers) == 0, "shops": len(p.Shops) == 0,
	} {
		if empty {
			return nil, fmt.Errorf("policy: %s is missing", name)
		}
	}
	if err := p.canonical(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

// canonical gives the names that dispatches are compared with their one form.
func (p *Policy) canonical() (err error) {
	if p.CodeFrom, err = renamed("code_from", p.CodeFrom, CanonicalCurrency); err != nil {
		return err
	}
	if p.Destinations, err = renamed("destinations", p.Destinations, CanonicalCategory); err != nil {
		return err
	}
	p.AllowWithoutPosition, err = renamed("allow_without_position", p.AllowWithoutPosition, CanonicalCategory)
	return err
}

// renamed is m with other keys. Two that become one are refused: one of them would be lost.
func renamed[V any](entry string, m map[string]V, rename func(string) string) (map[string]V, error) {
	out := make(map[string]V, len(m))
	for key, v := range m {
		name := rename(key)
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s: %q is there twice, in two spellings", entry, name)
		}
		out[name] = v
	}
	return out, nil
}

// Validate holds a policy to its own rules and names the first entry that breaks one.
func (p *Policy) Validate() error {
	for _, currency := range slices.Sorted(maps.Keys(p.CodeFrom)) {
		decimals, known := Decimals(currency)
		if !known {
			return fmt.Errorf("code_from: %q is no currency that ISO 4217 lists today, in three capital letters", currency)
		}
		if _, ok := ParseMoney(p.CodeFrom[currency], currency); !ok {
			return fmt.Errorf("code_from: %q must have a decimal amount such as 150, with at most %d decimals", currency, decimals)
		}
	}
	if err := p.validateCategories(); err != nil {
		return err
	}
	for _, kind := range slices.Sorted(maps.Keys(p.Destinations)) {
		if _, ok := ParseDestinationKind(kind); !ok {
			return fmt.Errorf("destinations: there is no kind %q", kind)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(p.AllowWithoutPosition)) {
		if _, ok := ParseDestinationKind(kind); !ok {
			return fmt.Errorf("allow_without_position: there is no kind %q", kind)
		}
		if strings.TrimSpace(p.AllowWithoutPosition[kind]) == "" {
			return fmt.Errorf("allow_without_position: %q must say why the courier's position may be given up there", kind)
		}
	}
	for _, carrier := range p.Carriers {
		if err := CheckID(carrier); err != nil {
			return fmt.Errorf("carriers: %q %w", carrier, err)
		}
	}
	for _, carrier := range slices.Sorted(maps.Keys(p.ParcelIDs)) {
		switch rule := p.ParcelIDs[carrier]; {
		case !slices.Contains(p.Carriers, carrier):
			return fmt.Errorf("parcel_ids: %q is not listed in carriers", carrier)
		case !slices.Contains([]string{"", "sscc", "s10"}, rule.CheckDigit):
			return fmt.Errorf("parcel_ids: %s: check_digit must be sscc or s10, or left out", carrier)
		}
	}
	for _, shop := range slices.Sorted(maps.Keys(p.Shops)) {
		if err := CheckID(shop); err != nil {
			return fmt.Errorf("shops: %q %w", shop, err)
		}
		if err := checkContact(p.Shops[shop].Contact); err != nil {
			return fmt.Errorf("shops: %s: contact %w", shop, err)
		}
		for _, carrier := range p.Shops[shop].Carriers {
			if !slices.Contains(p.Carriers, carrier) {
				return fmt.Errorf("shops: %s names the carrier %q, which is not listed in carriers", shop, carrier)
			}
		}
	}
	if err := p.validatePrefixes(); err != nil {
		return err
	}
	if f := p.Fences; !(f.Release > 0 && f.Release <= maxFence && f.Door > 0 && f.Door <= maxFence) {
		return fmt.Errorf("fences: radii must be above 0 and at most %d meters", maxFence)
	}
	if s := p.Signals; min(s.Courier, s.Route, s.Depot, s.Far, s.Soon) < 1 {
		return fmt.Errorf("signals: every threshold must be at least 1")
	}
	return p.Limits.validate()
}

const longestContact = 120

// checkContact holds a shop's contact to what mails and pages can show on one line.
func checkContact(contact string) error {
	if utf8.RuneCountInString(contact) > longestContact || contact != strings.TrimSpace(contact) || strings.ContainsFunc(contact, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("must be one line of at most %d printable characters, without spaces around it", longestContact)
	}
	return nil
}

// validateCategories refuses categories that no dispatch can have, and such as are in both lists.
func (p *Policy) validateCategories() error {
	for _, list := range []struct {
		entry string
		names []string
	}{{"code_always", p.CodeAlways}, {"code_by_value", p.CodeByValue}} {
		for _, name := range list.names {
			if CanonicalCategory(name) == "" {
				return fmt.Errorf("%s: %q is no category", list.entry, name)
			}
		}
	}
	for _, name := range p.CodeByValue {
		if listed(p.CodeAlways, name) {
			return fmt.Errorf("code_by_value: %q is in code_always, too", name)
		}
	}
	return nil
}

// listed reports whether a category is in a list, however either is spelled.
func listed(list []string, category string) bool {
	name := CanonicalCategory(category)
	return slices.ContainsFunc(list, func(c string) bool { return CanonicalCategory(c) == name })
}

// validate refuses limits that limit nothing: none, and typing errors.
func (l *Limits) validate() error {
	for _, c := range []struct {
		name   string
		n, top int
	}{
		{"wrong_codes_per_code", l.CodeTries, 10},
		{"wrong_codes_per_grant", l.GrantTries, 30},
		{"wrong_codes_per_courier_day", l.CourierDay, 100},
		{"wrong_codes_per_courier_month", l.CourierMonth, 500},
		{"wrong_codes_per_courier_and_customer", l.CourierCustomer, 100},
		{"wrong_codes_per_carrier_day", l.CarrierDay, math.MaxInt}, // carriers differ too much in size
		{"reissues_per_grant", l.Reissues, 10},
		{"resends_per_grant", l.Resends, 20},
		{"attempted_per_grant", l.Attempted, 50},
		{"visits_again_per_day", l.AgainDay, 20},
		{"visits_again_per_grant", l.Again, 100},
		{"override_minutes", l.OverrideMinutes, 24 * 60}, // no parcel is released by hand outside of its window
		{"dispute_hours", l.DisputeHours, 30 * 24},
		{"door_change_hours", l.DoorChangeHours, 30 * 24},
		{"mail_minutes", l.MailMinutes, 24 * 60},
	} {
		switch {
		case c.n < 1:
			return fmt.Errorf("limits: %s must be at least 1", c.name)
		case c.n > c.top:
			return fmt.Errorf("limits: %s must be at most %d", c.name, c.top)
		}
	}
	switch {
	case !(l.CarrierShare >= 0 && l.CarrierShare <= 100):
		return fmt.Errorf("limits: wrong_codes_per_100_releases must be from 0 to 100")
	case l.DoorChangeHours < 24:
		return fmt.Errorf("limits: door_change_hours must be at least 24")
	case l.CourierDay > l.CourierMonth:
		return fmt.Errorf("limits: wrong_codes_per_courier_day is above wrong_codes_per_courier_month")
	case l.ResendEvery <= 0 || l.AbortWithin <= 0:
		return fmt.Errorf("limits: the pause between resends and the time for aborts must be above 0")
	}
	return nil
}

// validatePrefixes refuses a policy by which two shops could dispatch the same parcel of
// the same carrier.
func (p *Policy) validatePrefixes() error {
	shops := slices.Sorted(maps.Keys(p.Shops))
	for i, shop := range shops {
		mine := p.Shops[shop]
		for _, prefix := range mine.Prefixes {
			if err := CheckID(prefix); err != nil {
				return fmt.Errorf("shops: %s: parcel_prefixes: %q %w", shop, prefix, err)
			}
		}
		for _, other := range shops[:i] {
			theirs := p.Shops[other]
			shared := slices.ContainsFunc(mine.Carriers, func(c string) bool { return slices.Contains(theirs.Carriers, c) })
			if shared && mine.overlaps(theirs) {
				return fmt.Errorf("shops: %s and %s share a carrier, and their parcel_prefixes overlap", other, shop)
			}
		}
	}
	return nil
}

func (s ShopPolicy) overlaps(t ShopPolicy) bool {
	for _, a := range s.Prefixes {
		for _, b := range t.Prefixes {
			if beginsWith(a, b) || beginsWith(b, a) {
				return true
			}
		}
	}
	return len(s.Prefixes) == 0 && len(t.Prefixes) == 0
}

// claims reports whether the canonical id of a parcel begins with one of the shop's prefixes.
func (s ShopPolicy) claims(parcel string) bool {
	return slices.ContainsFunc(s.Prefixes, func(prefix string) bool { return beginsWith(parcel, prefix) })
}

// beginsWith does not tell small letters from capitals: no carrier does so on a label.
func beginsWith(id, prefix string) bool {
	return len(id) >= len(prefix) && strings.EqualFold(id[:len(prefix)], prefix)
}

// maxFence keeps a slip of the pen from admitting a whole city.
const maxFence = 10_000

// rights chooses what the grant of a dispatch allows, or says why it gets none.
//
//	release, high value    courier route parcel time place code        once
//	release, ordinary      courier route parcel time place             once
//	collect a return       courier route parcel time place             once
//	open lobby or gate     courier route parcel time place building    a visit per door
//	open garage or home    the same, presence and consent              a visit per door
//
// The place of a release or a collect is asked where the dispatch says where the address
// lies. A release with a code must have it, unless policy gives it up by name. A door always
// asks for its own.
//
// Whether a building's door opens is decided when it is asked for: the building, its
// doors and the customer's consent are facts of that moment.
func (p *Policy) rights(d *Dispatch) ([]Right, Reason) {
	if reason := p.mayDispatch(d); reason != "" {
		return nil, reason
	}
	place, known := p.Destinations[d.To.Kind.String()]
	if !known {
		return nil, DestinationNotAllowed
	}
	proofs := Proofs(ProofCourier, ProofRoute, ProofParcel, ProofTime)
	if d.To.located() {
		proofs |= Proofs(ProofPlace)
	}
	switch d.Purpose {
	case PurposeDelivery:
		if p.needsCode(d) {
			switch {
			case !place.Code:
				return nil, DestinationNotAllowed
			case !d.To.located() && p.AllowWithoutPosition[d.To.Kind.String()] == "":
				return nil, PositionRequired
			}
			proofs |= Proofs(ProofCode)
		}
	case PurposeReturn: // the customer gives something away: there is nothing to guard with a code
	default:
		return nil, UnknownAct
	}
	rights := []Right{{Act: d.Purpose.Act(), Target: Parcel, Proofs: proofs, Uses: 1}}
	if d.To.Building != "" {
		way := Proofs(ProofCourier, ProofRoute, ProofParcel, ProofTime, ProofPlace, ProofBuilding)
		own := way | Proofs(ProofPresence, ProofConsent)
		rights = append(rights,
			Right{Act: Open, Target: Lobby, Proofs: way, Uses: 1}, Right{Act: Open, Target: Gate, Proofs: way, Uses: 1},
			Right{Act: Open, Target: Garage, Proofs: own, Uses: 1}, Right{Act: Open, Target: Home, Proofs: own, Uses: 1})
	}
	return rights, ""
}

// mayDispatch says why a shop may not dispatch these parcels with this carrier; empty if it may.
func (p *Policy) mayDispatch(d *Dispatch) Reason {
	shop := p.Shops[d.Shop]
	if !slices.Contains(p.Carriers, d.Carrier) || !slices.Contains(shop.Carriers, d.Carrier) {
		return CarrierNotEnabled
	}
	for _, parcel := range d.Parcels() {
		if len(shop.Prefixes) > 0 && !shop.claims(parcel) {
			return ParcelNotAllowed
		}
		for id, other := range p.Shops {
			if id != d.Shop && slices.Contains(other.Carriers, d.Carrier) && other.claims(parcel) {
				return ParcelNotAllowed
			}
		}
	}
	return ""
}

func (p *Policy) needsCode(d *Dispatch) bool {
	from, threshold := p.CodeFrom[d.Value.Currency]
	_, known := Decimals(d.Value.Currency)
	return !threshold || !known ||
		slices.ContainsFunc(d.Categories, func(c string) bool { return listed(p.CodeAlways, c) || !p.knows(c) }) ||
		d.Value.AtLeast(Money{Amount: from, Currency: d.Value.Currency})
}

func (p *Policy) knows(category string) bool {
	return listed(p.CodeAlways, category) || listed(p.CodeByValue, category)
}

// Warning is something in a dispatch that was read in the safe direction, and that its
// sender should mend. It holds nothing of what was sent.
type Warning struct {
	Code    WarningCode
	Field   string // as in a request: categories[0]
	Message string
}

// WarningCode is the slug of a warning. It is part of the HTTP contract: never rename one.
type WarningCode string

// The warnings.
const (
	CategoryUnknown  WarningCode = "category-unknown"
	CurrencyUnknown  WarningCode = "currency-unknown"
	AmountAmbiguous  WarningCode = "amount-ambiguous"
	PositionNotAsked WarningCode = "position-not-asked"
)

// Warnings says what of a dispatch policy reads in the safe direction. A return has none:
// it needs no code, whatever is in it.
func (p *Policy) Warnings(d *Dispatch) []Warning {
	if d.Purpose == PurposeReturn {
		return nil
	}
	var all []Warning
	if _, known := Decimals(d.Value.Currency); !known {
		all = append(all, Warning{CurrencyUnknown, "value.currency", "is no currency that ISO 4217 lists today: the parcel needs a code"})
	}
	if d.Value.Ambiguous() {
		all = append(all, Warning{AmountAmbiguous, "value.amount", "could be meant in thousands, and is compared as such: write it with fewer decimals or without thousands points"})
	}
	for i, category := range d.Categories {
		if !p.knows(category) {
			all = append(all, Warning{CategoryUnknown, fmt.Sprintf("categories[%d]", i), "is in no list of the policy: the parcel needs a code"})
		}
	}
	if !d.To.located() && p.AllowWithoutPosition[d.To.Kind.String()] != "" && p.needsCode(d) {
		all = append(all, Warning{PositionNotAsked, "destination.location", "is missing, and policy allows it (allow_without_position): the code is accepted wherever the courier is"})
	}
	return all
}
