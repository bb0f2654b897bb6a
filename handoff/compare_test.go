package handoff_test

import (
	"slices"
	"testing"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/otp"
)

// issuedCodes is how many codes the grant of a long quarrel has; each takes an HMAC, and
// with it memory, to compare.
const issuedCodes = 13

// work counts what a decision allocates for a grant with one issued code and with many. A
// code cannot be compared before it is computed, so the difference is what comparing costs.
func work(t *testing.T, spoil func(*scene)) (one, many float64) {
	t.Helper()
	count := func(issued int) float64 {
		s := rows()[0].scene(t)
		s.grant.Code.Issued = nil
		for i := range issued {
			s.grant.Code.Issued = append(s.grant.Code.Issued, uint64(i+1))
		}
		s.cmd.Evidence.Code = s.grant.CurrentCode()
		spoil(s)
		return testing.AllocsPerRun(50, func() { s.decide() })
	}
	return count(1), count(issuedCodes)
}

// No code is computed, hence none compared, unless everything else holds: neither for a
// parcel that does not exist or is another carrier's, nor where any other proof fails,
// whichever code was said.
func TestNoCodeIsComparedInVain(t *testing.T) {
	said := map[string]func(*scene){
		"the right code": func(*scene) {},
		"a wrong code":   func(s *scene) { s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1) },
		"no code":        func(s *scene) { s.cmd.Evidence.Code = otp.Code{} },
	}
	failing := map[string]func(*scene){
		"unknown":           func(s *scene) { s.grant = nil },
		"another carrier's": func(s *scene) { s.cmd.Evidence.Courier.Carrier = "rival" },
		"locked":            func(s *scene) { s.grant.Code.Wrong = 5 },
		"no place yet":      func(s *scene) { s.facts.Budget.Admitted = false },
		"released":          func(s *scene) { s.grant.Status = Released },
		"held":              func(s *scene) { s.grant.Status = Held },
	}
	for _, f := range flaws {
		if f.proof != ProofCode && f.applies(rows()[0]) {
			failing[f.name] = f.spoil
		}
	}
	for what, say := range said {
		for why, fail := range failing {
			one, many := work(t, func(s *scene) { say(s); fail(s) })
			if one != many {
				t.Errorf("%s, %s: %v allocations with one code and %v with %d", why, what, one, many, issuedCodes)
			}
		}
	}

	// An unknown parcel and a foreign one are the same to the last byte, whatever is said.
	var first Decision
	for i, why := range []string{"unknown", "another carrier's"} {
		for what, say := range said {
			s := rows()[0].scene(t)
			say(s)
			failing[why](s)
			d := s.decide()
			if i == 0 && first.Refusal == nil {
				first = d
			}
			if *d.Refusal != *first.Refusal || d.Verdict != first.Verdict || len(d.Events) > 0 || d.Wait || d.Verdict != (Verdict{}) {
				t.Errorf("%s, %s: %+v", why, what, d)
			}
		}
	}
}

// Where a code is compared, it is with all that were ever issued: the right one is found as
// late as a wrong one is refused.
func TestEveryCodeIsCompared(t *testing.T) {
	for what, say := range map[string]func(*scene){
		"the right code": func(*scene) {},
		"a wrong code":   func(s *scene) { s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1) },
		"a slip":         func(s *scene) { s.cmd.Evidence.Code = handofftest.SlipOf(s.grant, 1) },
		"the first code": func(s *scene) { s.cmd.Evidence.Code = handofftest.CodeAt(s.grant, s.grant.Code.Issued[0]) },
	} {
		if one, many := work(t, say); many-one < issuedCodes-1 {
			t.Errorf("%s: %v allocations with one code and %v with %d", what, one, many, issuedCodes)
		}
	}
	if !slices.ContainsFunc(rows(), func(r row) bool { return r.act == Release && r.asks.Has(ProofCode) }) {
		t.Error("no row asks for a code")
	}
}
