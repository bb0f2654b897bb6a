package handoff

import (
	"encoding/hex"
	"slices"
	"time"
)

// CarrierDay is what the couriers of one carrier did with codes in 24 hours and what has
// passed of the hour before them: a store counts by the hour.
type CarrierDay struct {
	Hour int64 // in which it was read: hours since 1970

	// Wrong are the wrong codes that count against the carrier, by the partition of the
	// grants that they were said to.
	Wrong [Partitions]int

	Released int // parcels handed over for a right code, and not taken back
}

// AllWrong is how many wrong codes count against the carrier, in all partitions.
func (d *CarrierDay) AllWrong() int {
	n := 0
	for _, w := range d.Wrong {
		n += w
	}
	return n
}

// HourOf is the hour of an instant, and FirstHour the first that counts to the day that
// ends in an hour.
func HourOf(at Instant) int64 { return int64(at) / 3600 }

func FirstHour(hour int64) int64 { return hour - 24 }

func nextHour(now time.Time) time.Duration {
	return now.Truncate(time.Hour).Add(time.Hour).Sub(now)
}

// WrongCodesByCarrier is the signal of a carrier that is beyond two thirds of its limit.
// The signal of the limit itself is [CarrierLimit].
const WrongCodesByCarrier Signal = "wrong-codes-by-carrier"

// Carrier is how many wrong codes the couriers of a carrier may say together in a day on
// which they released so many parcels for a right one. Excused ones do not count, but from
// the last tenth before the limit on: there the next answer would show a guesser whether the
// last code was excused, and so was near.
//
// At the limit a courier who said fewer than two wrong codes in 24 hours goes on: most are
// innocent of what their carrier's others did. At a third above it all of them stop.
func (l Limits) Carrier(released int) int {
	return l.CarrierDay + int(l.CarrierShare/100*float64(max(released, 0)))
}

// strictDay is how many wrong codes stop a courier whose carrier is at its limit.
const strictDay = 2

// beyond is how many wrong codes stop all couriers of a carrier whose limit is n.
func beyond(n int) int { return n + n/3 }

// Budget is a courier's account of wrong codes over ALL parcels. The courier with a
// van full of parcels is the first adversary: without it, five guesses a parcel on
// 150 parcels a day would open one parcel in a few years.
type Budget struct {
	// Spent are the times of the wrong codes of the last thirty days, the excused ones
	// of the last day among them.
	Spent []Instant

	// Here is how many wrong codes of the last 26 hours were said to the customer at hand.
	Here int

	// Admitted says that a place under the limit is reserved for this attempt's code.
	// It is false when no code was sent, and when other attempts still in flight hold
	// the last places.
	Admitted bool

	// Ahead are the courier's other attempts with a code in flight, of which it is not known
	// whether they are wrong, nor at which parcel they are.
	Ahead int
}

// Exhausted reports whether the courier has guessed too often, in a day or in thirty.
func (b Budget) Exhausted(l Limits, now time.Time) bool {
	return b.today(now) >= l.CourierDay || len(b.Spent) >= l.CourierMonth
}

// clears is how long it takes, at now, until fewer than n of the wrong codes are younger than
// 24 hours.
func (b Budget) clears(n int, now time.Time) time.Duration {
	day := ago(now, 24*time.Hour)
	young := slices.DeleteFunc(slices.Sorted(slices.Values(b.Spent)), func(at Instant) bool { return at <= day })
	if len(young) < n {
		return 0
	}
	return young[len(young)-n].Time().Add(24 * time.Hour).Sub(now)
}

// today is how many were spent in 24 hours.
func (b Budget) today(now time.Time) int {
	n, before := 0, ago(now, 24*time.Hour)
	for _, at := range b.Spent {
		if at > before {
			n++
		}
	}
	return n
}

// Account is a courier's budget as stored.
type Account struct {
	Counted  []Instant // wrong codes
	Excused  []Instant // wrong codes that were no guesses, of the last day at least
	Reserved []Instant // guesses in flight that reached the store before the asker's own, and that one

	// Doubtful are wrong codes whose commit has no known outcome: the
	// instance has not settled them yet, or died before it could.
	Doubtful []Instant

	// By has the times of the counted and excused wrong codes by the customer to whom they were
	// said: see ChargeName. A doubtful one counts against its courier alone.
	By map[string][]Instant

	// Placed says that the asker's own guess is among the reserved ones. A place that was
	// held may be gone: given back with a commit that was overtaken, cleared, or lost.
	Placed bool
}

// abandoned is when no request will settle a reservation any more: none lives as long.
// If a commit of a wrong code was sent, it then counts as one. If none was, no
// answer told anything of the code, and it counts for nothing.
//
// A reservation has the time of the instance that made it. A request and its settling live for ten
// seconds, so another instance takes a live one for abandoned only where the first one's clock is
// fifty seconds behind; an alarm begins at two. Even then an instance has one guess of a courier
// under way at a time, and what is wrong is counted when it is committed: beside n instances the
// limit is passed by n-1 guesses at most. A clock that is ahead keeps the place for longer.
const abandoned = time.Minute

// Budget reads an account: what is spent, and whether the reservation that the asker
// just made found a place. Reservations queue in the order in which they reached the
// store, and each sees all that stand before it: no more than the limit can ever be
// admitted and counted, however many ask at once, and the first in the queue never waits.
//
// Customer is whose parcel is at hand (see ChargeName), which Budget.Here counts for.
func (a Account) Budget(l Limits, customer string, now time.Time) Budget {
	var b Budget
	inFlight := 0
	period, lost := ago(now, budgetPeriod), ago(now, abandoned)
	for _, at := range a.Counted {
		if at > period {
			b.Spent = append(b.Spent, at)
		}
	}
	excused := ago(now, excusedPeriod)
	for _, at := range a.Excused {
		if at > excused {
			b.Spent = append(b.Spent, at)
		}
	}
	for _, at := range a.Reserved {
		if at > lost {
			inFlight++
		}
	}
	for _, at := range a.Doubtful { // until then its reservation stands for it
		if at <= lost && at > period {
			b.Spent = append(b.Spent, at)
		}
	}
	for _, at := range a.By[customer] {
		if at > excused {
			b.Here++
		}
	}
	b.Ahead = inFlight
	if a.Placed {
		b.Ahead--
	}
	day := inFlight + b.today(now)
	b.Admitted = a.Placed && day <= l.CourierDay && len(b.Spent)+inFlight <= l.CourierMonth
	return b
}

// ago is the last instant that is no younger than an age.
func ago(now time.Time, age time.Duration) Instant { return InstantOf(now.Add(-age)) }

// budgetPeriod is the longest that a wrong code counts against its courier.
const budgetPeriod = 30 * 24 * time.Hour

// excusedPeriod is how long an excused wrong code counts like any other. Forgiven at once,
// it would show a guesser at his limit that he is near; a civil day has at most 25 hours,
// and by the end of it the code that he was near is worth nothing.
const excusedPeriod = 26 * time.Hour

// ChargeName is the name under which a courier's account keeps to whom a wrong code was said: a
// keyed hash of the customer; of the parcel, where the dispatch names no customer. 4 bytes in
// hexadecimal: two customers of one courier seldom share it, and then share its limit for a day.
func ChargeName(names Namer, g *Grant) string {
	whom := []string{g.Dispatch.Shop, g.Dispatch.Customer.ID}
	if g.Dispatch.Customer.ID == "" {
		whom = []string{string(g.ID.Hash)}
	}
	return hex.EncodeToString(names.Name("charge", whom...)[:4])
}
