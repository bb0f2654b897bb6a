package simulation

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"latchkey/handoff"
)

// Without sets the named limits so high that they never bind.
func Without(off ...func(*handoff.Limits) *int) handoff.Limits {
	l := handoff.DefaultPolicy().Limits
	for _, limit := range off {
		*limit(&l) = endless
	}
	return l
}

// The limits, to be taken away.
var (
	PerCode  = func(l *handoff.Limits) *int { return &l.CodeTries }
	PerGrant = func(l *handoff.Limits) *int { return &l.GrantTries }
	PerDay   = func(l *handoff.Limits) *int { return &l.CourierDay }
	PerMonth = func(l *handoff.Limits) *int { return &l.CourierMonth }

	PerCustomer = func(l *handoff.Limits) *int { return &l.CourierCustomer }
)

// Crew is how many dishonest couriers there are. Honest ones are counted by the thousand.
// A fifth of that, none of them stopped, is enough to see that fewer than one in a
// thousand are; where some are stopped it takes more. What fails by far, or was not built,
// need not be measured finely.
const (
	Crew     = 1000
	Crowded  = 200
	Stressed = 300
	Few      = 25
)

// Stress is the share of customers who mistype from which honest couriers are stopped now
// and then.
const Stress = 0.03

// crowd is honest couriers under a rule.
func crowd(rule Rule, limits handoff.Limits, mistyped float64) Crowd {
	h := Crowd{Rule: rule, Limits: limits, Couriers: Crowded, Mistyped: mistyped, Days: HonestDays}
	switch {
	case rule.Name != AsBuilt.Name || limits != Without():
		h.Couriers = Few
	case mistyped == Stress:
		h.Couriers = Stressed
	}
	return h
}

// Layers are the attacks by which the table shows what each layer is worth.
var Layers = []struct {
	Name   string
	Attack Attack
}{
	{"all layers, as built", Attack{Rule: AsBuilt, Limits: Without()}},
	{"all layers; he works on 365 days", Attack{Rule: AsBuilt, Limits: Without(), Days: 365}},
	{"all layers, 40 in thirty days", Attack{Rule: AsBuilt, Limits: month(40)}},
	{"all layers; a person clears his budget once in thirty days", Attack{Rule: AsBuilt, Limits: Without(), Clearings: 1}},
	{"all layers; a person clears his budget every day", Attack{Rule: AsBuilt, Limits: Without(), Clearings: 30}},
	{"without the limit per code", Attack{Rule: AsBuilt, Limits: Without(PerCode)}},
	{"without the limit per grant", Attack{Rule: AsBuilt, Limits: Without(PerGrant)}},
	{"without the limit per courier in 24 hours", Attack{Rule: AsBuilt, Limits: Without(PerDay)}},
	{"without the limit per courier in thirty days", Attack{Rule: AsBuilt, Limits: Without(PerMonth)}},
	{"without both limits per courier", Attack{Rule: AsBuilt, Limits: Without(PerDay, PerMonth, PerCustomer)}},
	{"the same, and customers never ask for a new code", Attack{Rule: AsBuilt, Limits: Without(PerDay, PerMonth, PerCustomer), NoNewCodes: true}},
	{"with the limit per code alone", Attack{Rule: AsBuilt, Limits: Without(PerDay, PerMonth, PerCustomer, PerGrant)}},
}

// Variants are the rules that were weighed, and their limits.
var Variants = []struct {
	Name   string
	Rule   Rule
	Limits handoff.Limits
}{
	{"every wrong code charged (as it was)", AllCharged, Without()},
	{"the same, 90 in thirty days", AllCharged, month(90)},
	{"forgiven by the parcel's release", Forgiven, Without()},
	{"one a parcel, two a day forgiven by the release", ForgivenTwice, Without()},
	{"slips excused at once", ExcusedAtOnce, Without()},
	{"slips excused after a day (as built)", AsBuilt, Without()},
	{"the same, 40 in thirty days", AsBuilt, month(40)},
}

func month(n int) handoff.Limits {
	l := Without()
	l.CourierMonth = n
	return l
}

// Rates are the shares of customers whose first entry is mistyped.
var Rates = []float64{0.01, 0.02, 0.03}

// HonestDays are measured for the table.
const HonestDays = 30

// Write writes the tables of docs/threats.md.
func Write(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%d dishonest couriers, %d parcels each a day, %d days.\n\n", Crew, Parcels, Days)
	b.WriteString("| layers | guesses a courier | parcels opened, at most |\n|---|---:|---:|\n")
	for _, l := range Layers {
		guesses := l.Attack.Guesses()
		fmt.Fprintf(b, "| %s | %d | %s |\n", l.Name, guesses, figure(l.Attack.worth(Crew, guesses)))
	}
	bare := Attack{Rule: AsBuilt, Limits: Without(PerDay, PerMonth, PerCustomer)} // new couriers at each parcel
	perCourier, perDay := bare.Guesses(), CarrierGuesses(Crew*Parcels)
	fmt.Fprintf(b, "| a carrier that makes couriers at will, no limit per carrier | %d | %s |\n", perCourier, figure(bare.worth(Crew, perCourier)))
	fmt.Fprintf(b, "| the same carrier, with its limit and a third more: %d a day | %d | %s |\n\n", perDay, perDay*Days/Crew, figure(float64(perDay*Days)*Hit))

	fmt.Fprintf(b, "%d honest couriers (%d where %.0f %% are mistyped, %d under rules and limits that are not built), %d parcels each a day on six days of seven, %d days after thirty in which the accounts fill.\n\n",
		Crowded, Stressed, 100*Stress, Few, Parcels, HonestDays)
	b.WriteString("| rule | parcels opened, at most |")
	for _, r := range Rates {
		fmt.Fprintf(b, " stopped a day in 1,000, %.0f %% mistyped |", 100*r)
	}
	b.WriteString("\n|---|---:|" + strings.Repeat("---:|", len(Rates)) + "\n")

	var crowds []Crowd
	for _, v := range Variants {
		for _, r := range Rates {
			crowds = append(crowds, crowd(v.Rule, v.Limits, r))
		}
	}
	harder := []struct {
		name  string
		crowd Crowd
	}{
		{"5 % mistyped, 60 in thirty days", crowd(AsBuilt, Without(), 0.05)},
		{"2 % mistyped, of which 70 % slips, 60 in thirty days", crowd(AsBuilt, Without(), 0.02)},
		{"2 % mistyped, of which 70 % slips, 40 in thirty days", crowd(AsBuilt, month(40), 0.02)},
	}
	harder[0].crowd.Couriers = Few
	harder[1].crowd.SlipOnly, harder[2].crowd.SlipOnly = 0.70, 0.70
	for _, h := range harder {
		crowds = append(crowds, h.crowd)
	}
	tolls := PlayAll(crowds)

	for i, v := range Variants {
		fmt.Fprintf(b, "| %s | %s |", v.Name, figure(Attack{Rule: v.Rule, Limits: v.Limits}.Parcels(Crew)))
		for j := range Rates {
			fmt.Fprintf(b, " %s |", figure(tolls[i*len(Rates)+j].PerThousand()))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nThe rule as built, played harder:\n\n| customers | stopped a day in 1,000 | at most, at 99 % confidence | not excused, in 1,000 handoffs | the carrier's worst day | one customer's limit met, in a million handoffs |\n|---|---:|---:|---:|---:|---:|\n")
	row := func(name string, t Toll) {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %.2f %% | %s |\n", name, figure(t.PerThousand()), figure(t.Bound()), figure(t.Charged), 100*t.WorstDay, figure(t.TurnedInAMillion()))
	}
	for i, v := range Variants {
		if v.Rule.Name != AsBuilt.Name {
			continue
		}
		for j, r := range Rates {
			row(fmt.Sprintf("%.0f %% mistyped, %d in thirty days", 100*r, v.Limits.CourierMonth), tolls[i*len(Rates)+j])
		}
	}
	for i, h := range harder {
		row(h.name, tolls[len(Variants)*len(Rates)+i])
	}
	b.WriteString("\nWhat one customer can cost an honest courier, who is stopped at 20 a day:\n\n| the customer | wrong codes charged | the courier is stopped at others |\n|---|---:|---|\n")
	for _, parcels := range []int{1, 2, 10} {
		for _, l := range []struct {
			name   string
			limits handoff.Limits
		}{{"as built", Without()}, {"without the limit per customer", Without(PerCustomer)}} {
			charged, stopped := CustomerCost(parcels, l.limits)
			fmt.Fprintf(b, "| %d of their parcels, %s | %d | %s |\n", parcels, l.name, charged, map[bool]string{true: "yes", false: "no"}[stopped])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// PlayAll plays crowds side by side. What was played before is not played again: a play
// draws from a seeded source.
func PlayAll(crowds []Crowd) []Toll {
	tolls := make([]Toll, len(crowds))
	var all sync.WaitGroup
	for i, c := range crowds {
		all.Go(func() {
			key := fmt.Sprint(c.Rule.Name, c.Limits, c.Couriers, c.Mistyped, c.Days, c.SlipOnly)
			once, _ := played.LoadOrStore(key, sync.OnceValue(c.Play))
			tolls[i] = once.(func() Toll)()
		})
	}
	all.Wait()
	return tolls
}

var played sync.Map

// figure is a number with two or three digits that matter.
func figure(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
