package simulation

import (
	"bytes"
	"math"
	"time"

	"latchkey/handoff"
	"latchkey/otp"
)

// How customers err, whose rate of mistyping is varied. Of the errors that leave a number
// its length, studies of how people copy numbers (J. Verhoeff, Error Detecting Decimal
// Codes, 1969) found 60 to 95 percent to be one wrong digit and 10 to 20 percent two
// neighbours swapped. A person who just erred errs more readily.
const (
	slipShare   = 0.85 // of mistyped codes: one digit, or two neighbours; the rest are anything
	swapShare   = 0.15 // of slips: two neighbours
	againWrong  = 0.10 // of entries after a wrong one
	otherParcel = 0.001
	oldCode     = 0.001
	workingDays = 6 // of seven
)

// Crowd is a number of honest couriers of one carrier.
type Crowd struct {
	Rule     Rule
	Limits   handoff.Limits
	Couriers int
	Mistyped float64 // of first entries
	Days     int     // that are measured, after thirty in which accounts fill
	SlipOnly float64 // the share of slips; 0: the share above
}

// Toll is what honest couriers suffer.
type Toll struct {
	CourierDays int
	Turned      int     // handoffs that wait for another courier: too many wrong codes of one customer
	Stopped     int     // courier-days on which a courier was refused for a spent budget
	Charged     float64 // wrong codes per thousand handoffs that are not excused
	WorstDay    float64 // the most such of the carrier in a day, as a share of its handoffs
}

// PerThousand is the number of couriers stopped a day, in a thousand.
func (t Toll) PerThousand() float64 { return 1000 * float64(t.Stopped) / float64(t.CourierDays) }

// TurnedInAMillion is how many of a million handoffs wait for another courier, because their
// customer's wrong codes reached the limit of one customer.
func (t Toll) TurnedInAMillion() float64 {
	return 1e6 * float64(t.Turned) / float64(t.CourierDays*Parcels)
}

// Bound is what PerThousand would be at most, at a confidence of 99 percent: the exact
// upper limit for a Poisson count.
func (t Toll) Bound() float64 {
	low, high := 1e-9, float64(2*t.Stopped+20)
	for range 60 {
		mean := (low + high) / 2
		sum := 0.0
		for k := range t.Stopped + 1 {
			lgamma, _ := math.Lgamma(float64(k + 1))
			sum += math.Exp(float64(k)*math.Log(mean) - mean - lgamma)
		}
		if sum > 0.01 {
			low = mean
		} else {
			high = mean
		}
	}
	return 1000 * high / float64(t.CourierDays)
}

const fill = 30

// Play lets the crowd work. A courier who is stopped goes home, and a person clears him
// before the next morning.
func (h Crowd) Play() Toll {
	var t Toll
	charged := make([]int, fill+h.Days)
	handoffs := make([]int, fill+h.Days)
	for n := range h.Couriers {
		c := newCourier(h.Rule, h.Limits, uint64(n)+2)
		for day := range fill + h.Days {
			if (day+n)%7 >= workingDays {
				continue
			}
			wrong, turned, stopped := h.day(c, day)
			charged[day] += wrong
			handoffs[day] += Parcels
			if stopped {
				c.account = handoff.Account{By: map[string][]handoff.Instant{}}
			}
			if day >= fill {
				t.CourierDays++
				t.Turned += turned
				if stopped {
					t.Stopped++
				}
			}
		}
	}
	total := 0
	for day := fill; day < fill+h.Days; day++ {
		total += charged[day]
		t.WorstDay = max(t.WorstDay, float64(charged[day])/float64(handoffs[day]))
	}
	t.Charged = 1000 * float64(total) / float64(t.CourierDays*Parcels)
	return t
}

// day plays the parcels of a day of which the first entry is wrong; between them lie so
// many whose code is right at once, which change nothing.
func (h Crowd) day(c *courier, day int) (charged, turned int, stopped bool) {
	start := c.morning(day)
	errs := h.Mistyped + otherParcel + oldCode
	for n := c.skip(errs); n < Parcels; n += 1 + c.skip(errs) {
		now := start.Add(time.Duration(n) * 4 * time.Minute)
		g := c.next()
		said := otp.Code{}
		switch kind := c.random.Float64() * errs; {
		case kind < oldCode:
			c.newCode(&g, now)
			old, err := g.Code.Secret.At(g.Code.Issued[0])
			if err != nil {
				panic("simulation: " + err.Error())
			}
			said = old
		case kind < oldCode+otherParcel:
			other := c.next()
			said = other.CurrentCode()
		default:
			said = h.mistype(c, &g)
		}
		for {
			reason := c.enter(&g, said, now)
			switch reason {
			case handoff.CodeMismatch, handoff.CodeSuperseded:
				if !c.excused {
					charged++
				}
				said = g.CurrentCode()
				if c.random.Float64() < againWrong {
					said = h.mistype(c, &g)
				}
				continue
			case handoff.BudgetExhausted:
				return charged, turned, true
			case handoff.CustomerLimit: // the parcel waits for another courier
				turned++
			case handoff.CodeLocked: // the customer takes a new one
				if c.newCode(&g, now) {
					said = g.CurrentCode()
					continue
				}
			}
			break
		}
	}
	return charged, turned, false
}

// skip is how many parcels lie before the next whose first entry is wrong.
func (c *courier) skip(rate float64) int {
	return int(math.Log(1-c.random.Float64()) / math.Log(1-rate))
}

func (h Crowd) mistype(c *courier, g *handoff.Grant) otp.Code {
	share := h.SlipOnly
	if share == 0 {
		share = slipShare
	}
	digits := []byte(g.CurrentCode().Reveal())
	slip, swap := c.random.Float64() < share, c.random.Float64() < swapShare
	for {
		said := append([]byte{}, digits...)
		switch i := c.random.IntN(len(said)); {
		case !slip:
			for i := range said {
				said[i] = '0' + byte(c.random.IntN(10))
			}
		case swap && i > 0:
			said[i-1], said[i] = said[i], said[i-1]
		case !swap:
			said[i] = '0' + byte(c.random.IntN(10))
		}
		if code, err := otp.Parse(string(said)); err == nil && string(said) != string(digits) {
			return code
		}
		swap = swap && len(bytes.Trim(digits, string(digits[:1]))) > 0 // six equal digits
	}
}
