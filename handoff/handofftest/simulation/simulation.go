// Package simulation plays couriers against the rules: dishonest ones who guess as well
// as the rules allow, and honest ones whose customers mistype.
//
// Every entry of a code is judged by [handoff.Decide] under a real policy, every event
// applied by [handoff.Apply], and every courier's account read by [handoff.Account.Budget].
// What is played is who tries what, and when; the rules are not written down again.
//
// No test can wait for a hit that comes once in a million guesses, so hits are reckoned
// and not awaited. The play counts the guesses that are admitted, each at a code that the
// guesser has not tried, and each is worth [Hit], which no guess can exceed. Dishonest
// couriers do not meet, and the rules draw no lots: one is played, and stands for all.
package simulation

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"latchkey/handoff"
	"latchkey/otp"
)

// Hit is the most that one guess is worth. Dynamic truncation leaves 31 bits of which the
// code is the remainder by a million (RFC 4226, section 5.3): 483,648 codes have 2,148
// chances in 2^31, the others 2,147, and a guesser tries the former. Wrong and superseded
// codes that he knows of make what is left likelier: ten and three of a grant at most.
// And one guess in 17,000 is excused by luck, and may be made again.
const Hit = likeliest / (1 - (10+3)*likeliest) / (1 - slips*likeliest)

const (
	likeliest = 2148.0 / (1 << 31)
	slips     = 59
)

// What a courier does.
const (
	Parcels = 150 // of high value, a day
	Days    = 300 // a year's work
)

// Rule is what becomes of a wrong code in its courier's account.
type Rule struct {
	Name string

	charge func(*handoff.Account, handoff.Event)

	// What a release forgives of the wrong codes of its own parcel, and in a day.
	perGrant, perDay int

	// tries are the guesses at one code that an admitted guess is worth to a thief who
	// guesses when he is at his limit, and watches whether he is refused after it.
	tries int
}

// The rules that were weighed. AsBuilt is the one in force.
var (
	AsBuilt = Rule{Name: "excused after a day (as built)", tries: 1, charge: func(a *handoff.Account, e handoff.Event) {
		if e.Excused {
			a.Excused = append(a.Excused, e.At)
		} else {
			a.Counted = append(a.Counted, e.At)
		}
	}}
	AllCharged = Rule{Name: "every wrong code charged", tries: 1, charge: chargeAll}

	// A slip that is not charged shows itself at the limit. The right code is then one of
	// 59, and those that change the same digit go on being free: all five tries of the
	// code for the price of one.
	ExcusedAtOnce = Rule{Name: "excused at once", tries: 5, charge: func(a *handoff.Account, e handoff.Event) {
		if !e.Excused {
			a.Counted = append(a.Counted, e.At)
		}
	}}
	Forgiven      = Rule{Name: "forgiven by the release", tries: 1, charge: chargeAll, perGrant: handoff.DefaultPolicy().Limits.CodeTries - 1, perDay: endless}
	ForgivenTwice = Rule{Name: "one a parcel, two a day forgiven by the release", tries: 1, charge: chargeAll, perGrant: 1, perDay: 2}
)

func chargeAll(a *handoff.Account, e handoff.Event) { a.Counted = append(a.Counted, e.At) }

const endless = 1 << 30

// courier is one courier, played under a rule.
type courier struct {
	rule    Rule
	policy  *handoff.Policy
	account handoff.Account
	record  handoff.Courier

	forgiven []handoff.Instant   // when wrong codes were, today
	excused  bool                // the last wrong code
	carrier  *handoff.CarrierDay // nil: the others of his carrier leave him all room
	random   *rand.Rand
	parcels  int
	minted   handoff.Grant // this morning's, whose secret every parcel replaces
}

func newCourier(rule Rule, limits handoff.Limits, seed uint64) *courier {
	p := handoff.DefaultPolicy()
	p.Limits, p.Carriers = limits, []string{carrier}
	p.Shops = map[string]handoff.ShopPolicy{shop: {Carriers: p.Carriers}}
	return &courier{
		rule: rule, policy: p, random: rand.New(rand.NewPCG(seed, 4226)),
		record: handoff.Courier{CourierRef: handoff.CourierRef{Carrier: carrier, ID: "c"}, ClearedUntil: handoff.InstantOf(firstDay.AddDate(10, 0, 0))},
	}
}

const carrier, shop, route, parcel = "carrier", "shop", "route", "parcel"

// The address, at which every courier stands, is in a zone of UTC without summer time.
const zone = "Africa/Abidjan"

var address = handoff.PointOf(5.3364, -4.0267)

var firstDay = time.Date(2027, time.January, 1, 0, 0, 0, 0, time.UTC)

// morning begins the n-th day, and forgets what no longer counts.
func (c *courier) morning(n int) time.Time {
	day := firstDay.AddDate(0, 0, n)
	c.record.Drives = []handoff.Drive{{Day: handoff.DateOf(day), Route: route}}
	dispatch := handoff.Dispatch{
		Shop: shop, Parcel: parcel, Order: "order", Carrier: carrier, Route: route, Day: handoff.DateOf(day),
		Purpose: handoff.PurposeDelivery, Value: handoff.Money{Amount: "1299", Currency: "EUR"},
		Customer: handoff.Customer{ID: "customer"}, To: handoff.Destination{Kind: handoff.Residence, Country: "CI", Zone: zone, Location: &address},
	}
	d := handoff.Decide(nil, handoff.Command{Act: handoff.Mint, Dispatch: &dispatch}, handoff.Facts{Policy: c.policy}, day)
	if d.Refusal != nil {
		panic(fmt.Sprintf("simulation: a parcel is refused: %v", d.Refusal))
	}
	c.minted = handoff.Replay(handoff.Seed(handoff.GrantID{Hash: parcel, Generation: 1}, dispatch, handoff.CodeState{}), d.Events)
	old := func(at handoff.Instant) bool { return day.Sub(at.Time()) > 31*24*time.Hour }
	c.account.Counted = slices.DeleteFunc(c.account.Counted, old)
	c.account.Excused = slices.DeleteFunc(c.account.Excused, old)
	c.account.By = map[string][]handoff.Instant{} // every parcel of today is another customer's
	c.forgiven = slices.DeleteFunc(c.forgiven, func(at handoff.Instant) bool { return handoff.InstantOf(day) > at })
	return day.Add(9 * time.Hour)
}

// next is the next parcel, whose code the thief does not know.
func (c *courier) next() handoff.Grant {
	g := c.minted
	c.parcels++
	g.ID.Hash = handoff.ParcelHash(strconv.Itoa(c.parcels)) // and with it another customer
	var key [20]byte
	for i := 0; i < len(key); i += 4 {
		binary.LittleEndian.PutUint32(key[i:], c.random.Uint32())
	}
	if err := g.Code.Secret.UnmarshalBinary(key[:]); err != nil {
		panic("simulation: " + err.Error())
	}
	return g
}

// order runs a command of the customer's or the courier's own, and reports whether it
// was done.
func (c *courier) order(g *handoff.Grant, cmd handoff.Command, now time.Time) bool {
	d := handoff.Decide(g, cmd, handoff.Facts{Policy: c.policy, Courier: &c.record, Budget: c.account.Budget(c.policy.Limits, string(g.ID.Hash), now)}, now)
	*g = handoff.Replay(*g, d.Events)
	return d.Refusal == nil
}

// newCode is the customer asking for one, as often as a guesser's friend may.
func (c *courier) newCode(g *handoff.Grant, now time.Time) bool {
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: shop, Customer: "customer"}
	return c.order(g, handoff.Command{Act: handoff.Reissue, By: by}, now)
}

// enter is one entry of a code at a door. An empty reason says that the parcel was handed
// over.
func (c *courier) enter(g *handoff.Grant, code otp.Code, now time.Time) handoff.Reason {
	account := c.account
	account.Reserved, account.Placed = []handoff.Instant{handoff.InstantOf(now)}, true
	cmd := handoff.Command{Act: handoff.Release, Target: handoff.Parcel, Evidence: handoff.Evidence{
		Courier: c.record.CourierRef, Parcel: parcel, Code: code, Position: &handoff.Position{Point: address},
	}}
	facts := handoff.Facts{Policy: c.policy, Courier: &c.record, Budget: account.Budget(c.policy.Limits, string(g.ID.Hash), now)}
	if c.carrier != nil {
		facts.Carrier = *c.carrier
	}
	d := handoff.Decide(g, cmd, facts, now)
	if c.carrier != nil {
		c.carrier.Wrong[0] += d.Wrong
	}
	if d.Wait {
		panic("simulation: the first in the queue never waits")
	}
	*g = handoff.Replay(*g, d.Events)
	if d.Counted() {
		c.excused = d.Events[0].Excused
		c.rule.charge(&c.account, d.Events[0])
		c.account.By[string(g.ID.Hash)] = append(c.account.By[string(g.ID.Hash)], d.Events[0].At)
	}
	if d.Refusal != nil {
		return d.Refusal.Reason
	}
	c.forgive(g, now)
	return ""
}

// forgive takes back what the rule forgives once a parcel is handed over: the newest
// wrong codes are the parcel's own.
func (c *courier) forgive(g *handoff.Grant, now time.Time) {
	n := min(c.rule.perGrant, g.Code.TotalWrong, c.rule.perDay-len(c.forgiven), len(c.account.Counted))
	c.account.Counted = c.account.Counted[:len(c.account.Counted)-n]
	if c.rule.perDay < endless {
		c.forgiven = append(c.forgiven, slices.Repeat([]handoff.Instant{handoff.InstantOf(now)}, n)...)
	}
}

// Attack is what a dishonest courier may do.
type Attack struct {
	Rule   Rule
	Limits handoff.Limits

	// Clearings is how often in thirty days a person believes him and clears his budget.
	Clearings int

	// Honest customers do not ask for new codes when theirs is locked.
	NoNewCodes bool

	Days int // calendar days on which he works; 0: Days
}

// Guesses plays one courier and counts the guesses that he is admitted, each at a code of
// a parcel that he could open, none twice.
//
// He guesses as early as he can. Under limits that look back, a thief who waits is never
// ahead: the n-th guess may come a day after the (n-20)th and thirty days after the
// (n-40)th, so that the earlier those were, the earlier it is. Where a release washes
// off guesses, he washes first. New codes are asked for whenever one is locked.
func (a Attack) Guesses() int {
	c := newCourier(a.Rule, a.Limits, 1)
	days := a.Days
	if days == 0 {
		days = Days
	}
	guesses, cleared := 0, []int{}
	bound := a.Limits.CourierDay < endless || a.Limits.CourierMonth < endless
	alike := 1
	switch {
	case !bound: // no parcel and no day knows of another
		days, alike = 1, days
	case a.Rule.perGrant > 0: // no thirty days admit more than the first, whose account is empty
		days, alike = 30, (days+29)/30
	}
	for day := range days {
		now := c.morning(day)
		stopped := false
		for n := range Parcels {
			if stopped {
				break
			}
			g := c.next()
			if !bound {
				c.account = handoff.Account{By: map[string][]handoff.Instant{}}
			}
			// Ten parcels suffice for what a day admits without washing.
			if a.Rule.perGrant > 0 && n < Parcels-10 {
				if a.Rule.perDay-len(c.forgiven) > 0 {
					guesses += a.wash(c, &g, now)
				}
				continue
			}
			for try := 0; !stopped && !a.saves(c, now); try++ {
				switch reason := c.enter(&g, wrong(&g, try), now); reason {
				case handoff.CodeMismatch:
					guesses++
					continue
				case handoff.BudgetExhausted:
					cleared = slices.DeleteFunc(cleared, func(d int) bool { return day-d >= 30 })
					if len(cleared) < a.Clearings && !slices.Contains(cleared, day) {
						cleared = append(cleared, day)
						c.account = handoff.Account{By: map[string][]handoff.Instant{}}
						continue
					}
					stopped = true
				case handoff.CodeLocked:
					if !a.NoNewCodes && c.newCode(&g, now) {
						continue
					}
				case handoff.CustomerLimit: // the next customer
				default:
					panic("simulation: " + string(reason))
				}
				break
			}
		}
	}
	return guesses * alike
}

// CarrierGuesses plays a day of a carrier that makes a new courier whenever one is stopped, and
// whose couriers release so many parcels for a right code: the guesses until a courier who never
// guessed is stopped, and so all of them are.
func CarrierGuesses(releases int) int {
	c := newCourier(AsBuilt, Without(), 1)
	c.carrier = &handoff.CarrierDay{Released: releases}
	now := c.morning(0)
	for guesses, fresh := 0, true; ; {
		g := c.next()
		for try, locked := 0, false; !locked; try++ {
			switch reason := c.enter(&g, wrong(&g, try), now); reason {
			case handoff.CodeMismatch:
				guesses++
				fresh = false
			case handoff.BudgetExhausted, handoff.CarrierLimit:
				if fresh {
					return guesses
				}
				c.account, fresh = handoff.Account{By: map[string][]handoff.Instant{}}, true
			case handoff.CodeLocked, handoff.CustomerLimit:
				locked = true
			default:
				panic("simulation: " + string(reason))
			}
		}
	}
}

// CustomerCost plays a customer who has so many parcels with one honest courier on a day, says
// wrong codes as long as any is compared, and asks for new ones: how many of the courier's wrong
// codes that costs, and whether the courier is stopped at other customers.
func CustomerCost(parcels int, limits handoff.Limits) (charged int, stopped bool) {
	c := newCourier(AsBuilt, limits, 1)
	now := c.morning(0)
	customer := c.next().ID.Hash
	for range parcels {
		g := c.next()
		g.ID.Hash = customer // whose account this is, and not the parcel
		for try := 0; ; try++ {
			reason := c.enter(&g, wrong(&g, try), now)
			if reason == handoff.CodeMismatch || reason == handoff.CodeLocked && c.newCode(&g, now) {
				continue
			}
			break
		}
	}
	other := c.next()
	return len(c.account.Counted) + len(c.account.Excused), c.enter(&other, other.CurrentCode(), now) != ""
}

// saves reports whether he had better stop, so as not to be stopped: a courier who hands
// nothing over washes nothing off.
func (a Attack) saves(c *courier, now time.Time) bool {
	if a.Rule.perGrant == 0 {
		return false
	}
	l := a.Limits
	l.CourierDay, l.CourierMonth = l.CourierDay-a.Rule.perGrant-1, l.CourierMonth-a.Rule.perGrant-1
	return c.account.Budget(l, "", now).Exhausted(l, now)
}

// wash guesses at a parcel as often as the release will forgive, and then hands it over
// with the code that its customer says.
func (a Attack) wash(c *courier, g *handoff.Grant, now time.Time) (guesses int) {
	for guesses < min(a.Rule.perGrant, a.Rule.perDay-len(c.forgiven)) {
		if c.enter(g, wrong(g, guesses), now) != handoff.CodeMismatch {
			break
		}
		guesses++
	}
	c.enter(g, g.CurrentCode(), now)
	return guesses
}

// Parcels is the number of parcels that so many such couriers are expected to open, at
// most.
func (a Attack) Parcels(couriers int) float64 { return a.worth(couriers, a.Guesses()) }

func (a Attack) worth(couriers, guesses int) float64 {
	return float64(couriers) * float64(guesses) * float64(a.Rule.tries) * Hit
}

// wrong is a guess that misses, and is no slip, since hits are reckoned: the n-th of
// those that are likeliest.
func wrong(g *handoff.Grant, n int) otp.Code {
	for i := n; ; i += 1000 {
		code, err := otp.Parse(fmt.Sprintf("%06d", i))
		if current := g.CurrentCode(); err == nil && !current.Equal(code) && !current.Slip(code) {
			return code
		}
	}
}
