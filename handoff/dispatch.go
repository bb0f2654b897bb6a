package handoff

import (
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Dispatch is what a warehouse says when a parcel leaves it: whose parcel, on which
// route, to which address, for whom. It holds personal data, is sealed with its
// grant, and appears in no event.
type Dispatch struct {
	Shop       string      `cbor:"1,keyasint"`
	Parcel     string      `cbor:"2,keyasint"` // the carrier's parcel id, as its label says
	Order      string      `cbor:"3,keyasint,omitempty"`
	Carrier    string      `cbor:"4,keyasint"`
	Route      string      `cbor:"5,keyasint"`
	Day        Date        `cbor:"6,keyasint"`
	Purpose    Purpose     `cbor:"7,keyasint"`
	Value      Money       `cbor:"8,keyasint"`
	Categories []string    `cbor:"9,keyasint,omitempty"` // as sent; compared as CanonicalCategory writes them
	Customer   Customer    `cbor:"10,keyasint"`
	To         Destination `cbor:"11,keyasint"`

	// Together is what is said of several parcels that arrive together, and of seals; nil for
	// one parcel without a seal. Parcel is the first of them then, and Value the sum.
	Together *Together `cbor:"12,keyasint,omitempty"`
}

// MostParcels is how many parcels one dispatch may name.
const MostParcels = 50

// Together is what a dispatch says of the parcels beside its first, and of the seals.
type Together struct {
	// More are the parcels beside Dispatch.Parcel. [Policy.Canonical] sorts them all by their ids,
	// so that the same parcels in another order are the same dispatch.
	More []Piece `cbor:"1,keyasint,omitempty"`

	Seal string `cbor:"2,keyasint,omitempty"` // of Dispatch.Parcel

	// AllOrNothing says that all that are still there are handed over at once, or none.
	AllOrNothing bool `cbor:"3,keyasint,omitempty"`
}

// Piece is one of several parcels.
type Piece struct {
	Parcel string `cbor:"1,keyasint"` // as Dispatch.Parcel
	Seal   string `cbor:"2,keyasint,omitempty"`
}

// Pieces are all parcels of the dispatch, the first first.
func (d *Dispatch) Pieces() []Piece {
	if d.Together == nil {
		return []Piece{{Parcel: d.Parcel}}
	}
	return append([]Piece{{Parcel: d.Parcel, Seal: d.Together.Seal}}, d.Together.More...)
}

// Parcels are the ids of all parcels of the dispatch, the first first.
func (d *Dispatch) Parcels() []string {
	pieces := d.Pieces()
	ids := make([]string, len(pieces))
	for i, p := range pieces {
		ids[i] = p.Parcel
	}
	return ids
}

// Several reports whether the dispatch is of more than one parcel.
func (d *Dispatch) Several() bool { return d.Together != nil && len(d.Together.More) > 0 }

// Canonical gives every parcel of a dispatch its canonical id (see [Policy.Label]), and sorts
// them by it: the smallest is the first. The reason is [ParcelTwice] where two are the same,
// or that of Label; then the dispatch is as it was.
func (p *Policy) Canonical(d *Dispatch) Reason {
	pieces := d.Pieces()
	for i := range pieces {
		var reason Reason
		if pieces[i].Parcel, reason = p.Label(d.Carrier, pieces[i].Parcel); reason != "" {
			return reason
		}
	}
	slices.SortFunc(pieces, func(a, b Piece) int { return strings.Compare(a.Parcel, b.Parcel) })
	for i := range pieces[1:] {
		if pieces[i].Parcel == pieces[i+1].Parcel {
			return ParcelTwice
		}
	}
	all := d.Together != nil && d.Together.AllOrNothing
	d.Parcel = pieces[0].Parcel
	d.Together = together(pieces, all)
	return ""
}

// together is nil where there is nothing to say.
func together(pieces []Piece, all bool) *Together {
	t := &Together{Seal: pieces[0].Seal}
	if len(pieces) > 1 {
		t.More, t.AllOrNothing = pieces[1:], all
	} else if t.Seal == "" {
		return nil
	}
	return t
}

// Purpose is why the courier comes.
type Purpose uint8

// The purposes.
const (
	_ Purpose = iota
	PurposeDelivery
	PurposeReturn
)

var purposeNames = enum[Purpose]{PurposeDelivery: "delivery", PurposeReturn: "return_pickup"}

func (p Purpose) String() string { return purposeNames.name(p) }

// ParsePurpose reads a purpose's name.
func ParsePurpose(name string) (Purpose, bool) { return purposeNames.parse(name) }

// Act is what the courier does with the parcel at the door.
func (p Purpose) Act() Act {
	switch p {
	case PurposeDelivery:
		return Release
	case PurposeReturn:
		return Collect
	}
	return 0
}

// Customer is the recipient. Ids of different shops may collide: a customer is the
// pair of shop and id.
type Customer struct {
	ID     string `cbor:"1,keyasint"`
	Name   string `cbor:"2,keyasint,omitempty"`
	Email  string `cbor:"3,keyasint"`
	Locale string `cbor:"4,keyasint,omitempty"` // BCP 47
}

// Destination is the address, and what kind of place it is.
type Destination struct {
	Kind     DestinationKind `cbor:"1,keyasint"`
	Lines    []string        `cbor:"2,keyasint,omitempty"`
	Postal   string          `cbor:"3,keyasint,omitempty"`
	City     string          `cbor:"4,keyasint,omitempty"`
	Country  string          `cbor:"5,keyasint"` // ISO 3166-1 alpha-2
	Zone     string          `cbor:"6,keyasint"` // IANA
	Location *Point          `cbor:"7,keyasint,omitempty"`
	Building string          `cbor:"8,keyasint,omitempty"`
	Unit     string          `cbor:"9,keyasint,omitempty"`
}

// located reports whether it is known where the address lies. 0,0 is what programs write
// that do not know.
func (t *Destination) located() bool { return t.Location != nil && *t.Location != (Point{}) }

// DestinationKind is what kind of place a parcel goes to. At a pickup point a clerk
// verifies, registered by the carrier as the courier of the point's own route.
type DestinationKind uint8

// The kinds. At a locker or a PO box no one can say a code.
const (
	_ DestinationKind = iota
	Residence
	Business
	PickupPoint
	Locker
	POBox
)

var destinationNames = enum[DestinationKind]{
	Residence: "residence", Business: "business", PickupPoint: "pickup_point", Locker: "locker", POBox: "po_box",
}

func (k DestinationKind) String() string { return destinationNames.name(k) }

// ParseDestinationKind reads a kind's name, in the form that CanonicalCategory gives words:
// "PO Box" and "po-box" are po_box.
func ParseDestinationKind(name string) (DestinationKind, bool) {
	return destinationNames.parse(CanonicalCategory(name))
}

// CanonicalCategory is the one form in which categories, and kinds of destinations, are
// compared: compatibility forms are resolved (NFKC), letters are small, and spaces, hyphens
// and underscores are one underscore, and none at the ends.
func CanonicalCategory(name string) string {
	words := strings.FieldsFunc(strings.ToLower(norm.NFKC.String(name)), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || r == '_'
	})
	return strings.Join(words, "_")
}

// Money is an amount in a currency. The amount is a decimal text without sign and without
// leading zeros, as [ParseMoney] makes it. It has no trailing zeros either, but where they
// may have been meant as part of a thousand (see [Money.Ambiguous]).
type Money struct {
	_        struct{} `cbor:",toarray"`
	Amount   string
	Currency string // ISO 4217
}

// ParseMoney normalises a decimal amount, so that 1299 and 1299.00 are equal. The amount
// must have the form 0.00, in ASCII digits, and no more decimals than ISO 4217 gives the
// currency (see [Decimals]); ok is false where it has not. A currency that is not in the
// standard's list has as many as it likes: what is worth an unknown sum needs a code.
func ParseMoney(amount, currency string) (m Money, ok bool) {
	whole, fraction, point := strings.Cut(amount, ".")
	if strings.Trim(whole+fraction, "0123456789") != "" || whole == "" || point && fraction == "" {
		return Money{}, false
	}
	if most, known := Decimals(currency); known && len(fraction) > most {
		return Money{}, false
	}
	m = Money{Amount: amount, Currency: currency}
	if m.Ambiguous() {
		return m, true
	}
	return m.trimmed(), true
}

// trimmed is m without leading and trailing zeros.
func (m Money) trimmed() Money {
	whole, fraction, _ := strings.Cut(m.Amount, ".")
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	m.Amount = whole
	return m
}

// AtLeast reports whether m could be worth at least as much as other, of the same currency.
// An amount that can be read in two ways counts as the larger. What cannot be compared
// counts as worth more: the code is then asked for.
func (m Money) AtLeast(other Money) bool {
	a, okA := m.most()
	b, okB := new(big.Rat).SetString(other.Amount)
	return !okA || !okB || m.Currency != other.Currency || a.Cmp(b) >= 0
}

// Equal reports whether two dispatches say the same. Spelling (the order and the case of
// categories, zeros of an amount) does not count.
func (d *Dispatch) Equal(other *Dispatch) bool {
	return reflect.DeepEqual(d.canonical(), other.canonical())
}

// canonical writes in one way what can be written in several, and makes lists that are
// empty absent, as they are once stored.
func (d *Dispatch) canonical() Dispatch {
	c := *d
	c.To.Lines = slices.Clone(c.To.Lines)
	for i, line := range c.To.Lines {
		c.To.Lines[i] = Text(line)
	}
	for _, text := range []*string{&c.Customer.Name, &c.To.Postal, &c.To.City, &c.To.Unit} {
		*text = Text(*text)
	}
	c.Value, c.Categories = c.Value.trimmed(), nil
	for _, name := range d.Categories {
		c.Categories = append(c.Categories, CanonicalCategory(name))
	}
	slices.Sort(c.Categories)
	c.Categories = slices.Compact(c.Categories)
	if len(c.To.Lines) == 0 {
		c.To.Lines = nil
	}
	if d.Together != nil {
		c.Together = together(d.Pieces(), d.Together.AllOrNothing)
	}
	return c
}

// Parts are what the dispatch says, in a fixed order, for a digest.
func (d *Dispatch) Parts() []string {
	c := d.canonical()
	at := "nowhere"
	if p := d.To.Location; p != nil {
		at = fmt.Sprint(p.Lat, " ", p.Lon)
	}
	parts := []string{
		d.Shop, d.Parcel, d.Order, d.Carrier, d.Route, d.Day.String(), d.Purpose.String(), c.Value.Amount, c.Value.Currency,
		d.Customer.ID, d.Customer.Name, d.Customer.Email, d.Customer.Locale,
		d.To.Kind.String(), d.To.Postal, d.To.City, d.To.Country, d.To.Zone, at, d.To.Building, d.To.Unit,
		strconv.Itoa(len(d.To.Lines)),
	}
	parts = slices.Concat(parts, d.To.Lines, c.Categories)
	if t := c.Together; t != nil { // behind all else, so that the digest of one parcel stays; no category has capitals
		parts = append(parts, "TOGETHER", strconv.FormatBool(t.AllOrNothing), t.Seal)
		for _, p := range t.More {
			parts = append(parts, p.Parcel, p.Seal)
		}
	}
	return parts
}

// scrub takes out of the dispatch who the customer is and where they live. The ids stay,
// by which shop and customer find the grant, and what its window and its doors hang on.
func (d *Dispatch) scrub() {
	d.Customer.Name, d.Customer.Email, d.Customer.Locale = "", "", ""
	d.To = Destination{Kind: d.To.Kind, Country: d.To.Country, Zone: d.To.Zone, Building: d.To.Building}
}

const redacted = "******"

var redactedJSON = []byte(`"` + redacted + `"`)

// Format prints ****** for every verb: who a parcel is for and where it goes is in no log.
func (d Dispatch) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue yields ******.
func (d Dispatch) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON yields "******".
func (d Dispatch) MarshalJSON() ([]byte, error) { return redactedJSON, nil }

// Format prints ****** for every verb.
func (c Customer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON yields "******".
func (c Customer) MarshalJSON() ([]byte, error) { return redactedJSON, nil }

// Format prints ****** for every verb.
func (t Destination) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON yields "******".
func (t Destination) MarshalJSON() ([]byte, error) { return redactedJSON, nil }
