package handoff_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// TestTheDrawing holds docs/state.md against the code. Every act is asked of a grant in
// every status, as it would have to be asked to succeed: what moves is an arrow of the
// drawing, and there is no other arrow.
func TestTheDrawing(t *testing.T) {
	page, err := os.ReadFile("../docs/state.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ *(\S+) --> (\S+): (\S+)$`).FindAllStringSubmatch(string(page), -1) {
		drawn[m[1]+" --> "+m[2]+": "+m[3]] = true
	}

	seen := map[string]bool{}
	d := mint(nil, handofftest.Sample("p1"), handofftest.Noon)
	born := Replay(Seed(d.Events[0].Grant, handofftest.Sample("p1"), CodeState{Secret: secret(t)}), d.Events)
	seen["[*] --> "+born.Status.String()+": "+Mint.String()] = true

	for act := Act(0); act < 64; act++ {
		if act == Mint { // makes a grant, and moves none
			continue
		}
		for _, from := range standings(t, act) {
			for _, by := range []Role{"", RoleShop, RoleCustomer, RoleOps, RoleService, RoleResident} {
				s := from.scene(t, act)
				s.cmd.By = Actor{Role: by, Shop: handofftest.Shop, Customer: "cus_81", Person: true}
				decision := s.decide()
				if decision.Refusal != nil || decision.Wait || len(decision.Events) == 0 {
					continue
				}
				after := Replay(*s.grant, decision.Events)
				seen[from.status.String()+" --> "+after.Status.String()+": "+act.String()] = true
			}
		}
	}
	for _, purpose := range []Purpose{PurposeDelivery, PurposeReturn} {
		for move := range movesOfSeveral(t, purpose) {
			seen[move] = true
		}
	}
	for _, arrow := range slices.Sorted(maps.Keys(seen)) {
		if !drawn[arrow] {
			t.Errorf("the code moves, and docs/state.md does not show: %s", arrow)
		}
	}
	for _, arrow := range slices.Sorted(maps.Keys(drawn)) {
		if !seen[arrow] {
			t.Errorf("docs/state.md shows, and the code never moves: %s", arrow)
		}
	}
}

// movesOfSeveral are the arrows of a grant of three parcels, of which one was handed over, and one
// or two are still there.
func movesOfSeveral(t *testing.T, purpose Purpose) map[string]bool {
	t.Helper()
	moves := map[string]bool{}
	act := purpose.Act()
	for _, window := range []time.Duration{0, 24 * time.Hour} {
		for _, left := range []int{1, 2} {
			for _, do := range []Act{act, Abort, Recall, DisputeHandoff} {
				s := several(t, act, 0)
				s.grant.Dispatch.Purpose = purpose
				s.cmd.Evidence.Parcels = []string{"p1"}
				if left == 1 {
					s.cmd.Evidence.Parcels = []string{"p1", "p2"}
				}
				g := Replay(*s.grant, s.decide().Events)
				s = several(t, act, 0)
				s.grant, s.now = &g, s.now.Add(window)
				s.cmd.Act, s.cmd.Evidence.Code = do, g.CurrentCode()
				s.cmd.Evidence.Parcel, s.cmd.Evidence.Parcels = "p3", nil
				switch do {
				case Abort:
					s.cmd.Evidence.Parcel = "p1"
				case Recall:
					s.cmd.By, s.cmd.Parcels = Actor{Role: RoleShop, Shop: g.Dispatch.Shop}, []string{"p3"}
				case DisputeHandoff:
					s.cmd.By = Actor{Role: RoleCustomer, Shop: g.Dispatch.Shop, Customer: g.Dispatch.Customer.ID}
				}
				if d := s.decide(); d.Refusal == nil {
					moves[g.StatusAt(s.now).String()+" --> "+Replay(g, d.Events).Status.String()+": "+do.String()] = true
				}
			}
		}
	}
	return moves
}

// standing is a status, and for a held grant the one that it was held from.
type standing struct{ status, heldFrom, doubted Status }

func standings(t *testing.T, act Act) []standing {
	t.Helper()
	all := []standing{{status: 0}, {status: Active}, {status: Released}, {status: Collected}, {status: Recalled}, {status: Expired}, {status: 99}}
	for _, s := range []Status{Active, Released, Collected, Recalled, Expired} {
		// Only what can be held can be held from there.
		hold := standing{status: s}.scene(t, Hold)
		hold.cmd.By = Actor{Role: RoleOps}
		if hold.decide().Refusal == nil {
			all = append(all, standing{status: Held, heldFrom: s})
		}
	}
	if act == Confirm || act == AccountFor { // of which only a grant in doubt is asked
		all = slices.DeleteFunc(all, func(s standing) bool { return s.status == Held })
		for _, s := range []Status{Active, Released, Expired, Held} {
			all = append(all, standing{status: Held, doubted: s})
		}
	}
	return all
}

// scene puts a grant that has all rights, and a courier who brings all proofs, where
// the act would succeed if the status let it.
func (f standing) scene(t *testing.T, act Act) *scene {
	t.Helper()
	target := Parcel
	if act == Open {
		target = Lobby
	}
	s := row{act: act, target: target, asks: Proofs(atTheDoor...) | Proofs(ProofCode)}.scene(t)
	s.grant.Status, s.grant.HeldFrom = f.status, f.heldFrom
	if f.status == Released || f.heldFrom == Released {
		s.grant.Handoff = &Handoff{Courier: "c1", At: InstantOf(s.now.Add(-time.Minute))}
	}
	if f.doubted != 0 {
		s.grant.Doubt = &Doubt{Since: InstantOf(s.now), From: f.doubted}
		if f.doubted == Held {
			s.grant.HeldFrom = Active
		}
	}
	s.cmd.Dispatch = &s.grant.Dispatch
	s.cmd.Day = s.grant.Day().Next()
	ready(s, act)
	if act == Expire {
		s.grant.Window.Until = InstantOf(s.now)
	}
	return s
}
