package handoff_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/otp"
)

// scene is one question to Decide. A fresh one is answered with yes.
type scene struct {
	grant *Grant
	cmd   Command
	facts Facts
	now   time.Time
}

func (s *scene) decide() Decision { return Decide(s.grant, s.cmd, s.facts, s.now) }

// row is one line of the table of rights: an act on a target and the proofs it asks for.
type row struct {
	name   string
	act    Act
	target TargetKind
	asks   ProofSet
	mode   DoorMode // of the door; a carried one asks for presence as well
}

// asked is all that must hold.
func (r row) asked() ProofSet {
	switch {
	case r.act == Open && r.mode == Carried:
		return r.asks | Proofs(ProofPresence)
	case r.act == Open && r.mode == Keypad: // typing is the presence
		return r.asks &^ Proofs(ProofPresence)
	}
	return r.asks
}

var (
	atTheDoor = []Proof{ProofCourier, ProofRoute, ProofParcel, ProofTime, ProofPlace}
	all       = append(slices.Clone(atTheDoor), ProofBuilding, ProofPresence, ProofConsent, ProofCode, ProofApproval)
)

// rows are the rights of the design, each act with every proof there is (a policy may
// ask for any), and the acts that ask the same of every grant.
func rows() []row {
	ordinary := Proofs(atTheDoor...)
	passing := ordinary | Proofs(ProofBuilding)
	entering := passing | Proofs(ProofPresence, ProofConsent)
	table := []row{
		{name: "release, high value", act: Release, target: Parcel, asks: ordinary | Proofs(ProofCode)},
		{name: "release, ordinary", act: Release, target: Parcel, asks: ordinary},
		{name: "release, approved", act: Release, target: Parcel, asks: ordinary | Proofs(ProofApproval)},
		{name: "collect", act: Collect, target: Parcel, asks: ordinary},
		{name: "open lobby", act: Open, target: Lobby, asks: passing},
		{name: "open gate", act: Open, target: Gate, asks: passing},
		{name: "open garage", act: Open, target: Garage, asks: entering},
		{name: "open home", act: Open, target: Home, asks: entering},
		{name: "release, every proof", act: Release, target: Parcel, asks: Proofs(all...)},
		{name: "collect, every proof", act: Collect, target: Parcel, asks: Proofs(all...)},
		{name: "open lobby, every proof", act: Open, target: Lobby, asks: Proofs(all...)},
		{name: "open gate, every proof", act: Open, target: Gate, asks: Proofs(all...)},
		{name: "open garage, every proof", act: Open, target: Garage, asks: Proofs(all...)},
		{name: "open home, every proof", act: Open, target: Home, asks: Proofs(all...)},
		{name: "attempted", act: Attempt, target: 0, asks: Proofs(ProofCourier, ProofRoute, ProofTime)},
		{name: "abort", act: Abort, target: 0, asks: Proofs(ProofCourier, ProofTime, ProofPlace)},
		{name: "ask for a release by hand", act: AskOverride, target: 0, asks: Proofs(ProofTime)},
		{name: "release by hand", act: Override, target: 0, asks: Proofs(ProofTime, ProofApproval)},
	}
	for i, r := range table {
		if r.act == Open {
			table[i].mode = Connected
			for _, mode := range []DoorMode{Carried, Bridged, Keypad} {
				table = append(table, row{name: r.name + ", " + mode.String(), act: r.act, target: r.target, asks: r.asks, mode: mode})
			}
		}
	}
	return table
}

var nineteen, twenty = codes(19), codes(20)

// codes are n wrong codes of a courier an hour before noon.
func codes(n int) []Instant {
	return slices.Repeat([]Instant{InstantOf(handofftest.Noon.Add(-time.Hour))}, n)
}

func secret(t testing.TB) otp.Secret {
	t.Helper()
	var s otp.Secret
	if err := s.UnmarshalBinary([]byte("12345678901234567890")); err != nil {
		t.Fatal(err)
	}
	return s
}

// scene sets the row's scene so that all its proofs hold: a courier at the door at noon.
func (r row) scene(t testing.TB) *scene {
	t.Helper()
	noon, home := handofftest.Noon, handofftest.Home
	d := handofftest.Sample("p1")
	g := Seed(GrantID{Hash: "000102030405060708090a0b", Generation: 1}, d, CodeState{Secret: secret(t)})
	window := Window{From: InstantOf(noon.Add(-12 * time.Hour)), Until: InstantOf(noon.Add(12 * time.Hour))}
	right := Right{Act: r.act, Target: r.target, Proofs: r.asks, Uses: 1}
	g = Apply(g, Event{Type: EventDispatched, Window: &window, Rights: []Right{right}, Issue: 1})
	g.Code.Issued = []uint64{1, 2, 3}
	g.Consents = []TargetKind{Lobby, Gate, Garage, Home, Parcel}
	g.Override = &OverrideRequest{Who: "clerk 1", At: InstantOf(noon.Add(-time.Hour + time.Second))}
	if r.act == Abort {
		g.Status = Released
		g.Handoff = &Handoff{Courier: "c1", At: InstantOf(noon.Add(-time.Minute))}
	}
	s := &scene{
		grant: &g,
		cmd: Command{Act: r.act, Target: r.target, Permit: PermitID{1}, By: Actor{Role: RoleShop, Shop: d.Shop, Person: true}, Who: "clerk 2", Evidence: Evidence{
			Courier: handofftest.Courier("c1"), Issued: InstantOf(noon.Add(-time.Minute)), Parcel: d.Parcel, Position: &Position{Point: home, Accuracy: 10, Age: 1},
			Code: g.CurrentCode(), Challenge: []byte("12345678"),
		}},
		facts: Facts{
			Policy: handofftest.Policy(),
			Courier: &Courier{
				CourierRef: handofftest.Courier("c1"), ClearedUntil: InstantOf(noon.AddDate(1, 0, 0)),
				SignedOut: InstantOf(noon.Add(-time.Minute - time.Second)), // and signed in again
				Drives:    []Drive{{Day: d.Day, Route: d.Route}},
			},
			Budget: Budget{Spent: nineteen, Admitted: true},
			Door: &Door{
				ID: "door_1", Kind: r.target, Mode: r.mode, Location: &home, Owner: &CustomerRef{Shop: d.Shop, ID: d.Customer.ID},
				Building: Building{ID: d.To.Building, Zone: d.To.Zone, Carriers: []string{d.Carrier}, Returns: true, Hours: &Hours{From: 7 * 60, To: 21 * 60}, Quiet: &Hours{From: 22 * 60, To: 6 * 60}},
			},
		},
		now: noon,
	}
	if r.mode == Keypad {
		s.facts.Door.Keypad = KeypadKey("key")
		s.facts.PIN = &ReservedPIN{PermitID{7}, uint64(noon.Unix() / 60), true}
	}
	return s
}

// flaw makes one proof not hold, and no other.
type flaw struct {
	name   string
	proof  Proof
	result Result
	reason Reason
	spoil  func(*scene)
}

// north is the sample address, so many meters to the north.
func north(meters float64) Point {
	p := handofftest.Home
	p.Lat += int32(math.Round(meters / 0.111195))
	return p
}

var flaws = []flaw{
	{"no clearance", ProofCourier, Failed, CourierNotCleared, func(s *scene) { s.facts.Courier.ClearedUntil = 0 }},
	{"clearance runs out now", ProofCourier, Failed, CourierNotCleared, func(s *scene) { s.facts.Courier.ClearedUntil = InstantOf(s.now) }},
	{"suspended", ProofCourier, Failed, CourierNotCleared, func(s *scene) { s.facts.Courier.Suspended = true }},
	{"signed out this second", ProofCourier, Failed, SignedOut, func(s *scene) { s.facts.Courier.SignedOut = s.cmd.Evidence.Issued }},
	{"signed out since, and suspended", ProofCourier, Failed, SignedOut, func(s *scene) {
		s.facts.Courier.SignedOut, s.facts.Courier.Suspended = InstantOf(s.now), true
	}},
	{"signed out once, and no word when it was issued", ProofCourier, Failed, SignedOut, func(s *scene) { s.cmd.Evidence.Issued, s.facts.Courier.SignedOut = 0, 1 }},
	{"twenty wrong codes today", ProofCourier, Failed, BudgetExhausted, func(s *scene) { s.facts.Budget.Spent = twenty }},
	{"sixty in a month", ProofCourier, Failed, BudgetExhausted, func(s *scene) {
		s.facts.Budget.Spent = slices.Repeat([]Instant{InstantOf(s.now.AddDate(0, 0, -29))}, 60)
	}},
	{"no route", ProofRoute, Failed, NotYourRoute, func(s *scene) { s.facts.Courier.Drives = nil }},
	{"another route", ProofRoute, Failed, NotYourRoute, func(s *scene) { s.facts.Courier.Drives[0].Route = "BER-043" }},
	{"that route tomorrow", ProofRoute, Failed, NotYourRoute, func(s *scene) { s.facts.Courier.Drives[0].Day = s.grant.Day().Next() }},
	{"the route it was moved from", ProofRoute, Failed, NotYourRoute, func(s *scene) { s.grant.Moved = &Move{Day: s.grant.Day(), Route: "BER-043"} }},
	{"no parcel", ProofParcel, Missing, AccessRefused, func(s *scene) { s.cmd.Evidence.Parcel = "" }},
	{"another parcel", ProofParcel, Failed, AccessRefused, func(s *scene) { s.cmd.Evidence.Parcel = "p2" }},
	{"another spelling of the parcel", ProofParcel, Failed, AccessRefused, func(s *scene) { s.cmd.Evidence.Parcel = "P1" }},
	{"a second early", ProofTime, Failed, NotYetValid, func(s *scene) { s.grant.Window.From = InstantOf(s.now) + 1 }},
	{"the window ends now", ProofTime, Failed, WindowOver, func(s *scene) { s.grant.Window.Until = InstantOf(s.now) }},
	{"no position", ProofPlace, Failed, OutsideGeofence, func(s *scene) { s.cmd.Evidence.Position = nil }},
	{"a street away", ProofPlace, Failed, OutsideGeofence, func(s *scene) { s.cmd.Evidence.Position.Point = north(400) }},
	{"an old fix", ProofPlace, Failed, OutsideGeofence, func(s *scene) { s.cmd.Evidence.Position.Age = 60.5 }},
	{"a coarse fix", ProofPlace, Failed, OutsideGeofence, func(s *scene) { s.cmd.Evidence.Position.Accuracy = 100.5 }},
	{"another building's door", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.ID = "bld_other" }},
	{"a door of no building", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.ID, s.grant.Dispatch.To.Building = "", "" }},
	{"carrier not admitted", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.Carriers = []string{"rival"} }},
	{"closed to this carrier", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Carriers = []string{"rival"} }},
	{"closed to every carrier", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Carriers = []string{} }},
	{"open to a carrier whom the building does not admit", ProofBuilding, Failed, AccessRefused, func(s *scene) {
		s.facts.Door.Carriers, s.facts.Door.Building.Carriers = s.facts.Door.Building.Carriers, []string{"rival"}
	}},
	{"before delivery hours", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.Hours = &Hours{From: 12*60 + 1, To: 21 * 60} }},
	{"delivery hours end now", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.Hours = &Hours{From: 7 * 60, To: 12 * 60} }},
	{"quiet hours over noon", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.Quiet = &Hours{From: 12 * 60, To: 14 * 60} }},
	{"quiet hours since last night", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.Quiet = &Hours{From: 22 * 60, To: 12*60 + 1} }},
	{"a building nowhere", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Building.Zone = "Nowhere/Here" }},
	{"own door: nobody's", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Owner = nil }},
	{"own door: a neighbour's", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Owner.ID = "cus_82" }},
	{"own door: another shop's customer's", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.facts.Door.Owner.Shop = "other" }},
	{"no returns here", ProofBuilding, Failed, AccessRefused, func(s *scene) { s.grant.Dispatch.Purpose, s.facts.Door.Building.Returns = PurposeReturn, false }},
	{"no challenge", ProofPresence, Missing, AccessRefused, func(s *scene) { s.cmd.Evidence.Challenge = nil }},
	{"a short challenge", ProofPresence, Failed, AccessRefused, func(s *scene) { s.cmd.Evidence.Challenge = make([]byte, 7) }},
	{"a long challenge", ProofPresence, Failed, AccessRefused, func(s *scene) { s.cmd.Evidence.Challenge = make([]byte, 33) }},
	{"no consent", ProofConsent, Missing, AccessRefused, func(s *scene) { s.grant.Consents = nil }},
	{"consent to another door", ProofConsent, Missing, AccessRefused, func(s *scene) {
		s.grant.Consents = slices.DeleteFunc(s.grant.Consents, func(k TargetKind) bool { return k == s.cmd.Target })
	}},
	{"nobody asked", ProofApproval, Missing, ApprovalMissing, func(s *scene) { s.grant.Override = nil }},
	{"asked an hour ago", ProofApproval, Missing, ApprovalMissing, func(s *scene) { s.grant.Override.At = InstantOf(s.now.Add(-time.Hour)) }},
	{"the same person twice", ProofApproval, Failed, SelfApproval, func(s *scene) { s.cmd.Who = s.grant.Override.Who }},
	{"asked by nobody", ProofApproval, Failed, SelfApproval, func(s *scene) { s.grant.Override.Who = "" }},
	{"approved by nobody", ProofApproval, Failed, SelfApproval, func(s *scene) { s.cmd.Who = "" }},
	{"nobody twice", ProofApproval, Failed, SelfApproval, func(s *scene) { s.grant.Override.Who, s.cmd.Who = "", "" }},
	{"approved by a key", ProofApproval, Failed, PersonRequired, func(s *scene) { s.cmd.By.Person = false }},
	{"no code", ProofCode, Missing, CodeRequired, func(s *scene) { s.cmd.Evidence.Code = otp.Code{} }},
	{"a wrong code", ProofCode, Failed, CodeMismatch, func(s *scene) { s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1) }},
	{"the first code", ProofCode, Failed, CodeSuperseded, func(s *scene) { s.cmd.Evidence.Code = handofftest.CodeAt(s.grant, 1) }},
	{"the code before", ProofCode, Failed, CodeSuperseded, func(s *scene) { s.cmd.Evidence.Code = handofftest.CodeAt(s.grant, 2) }},
	{"the next code", ProofCode, Failed, CodeMismatch, func(s *scene) { s.cmd.Evidence.Code = handofftest.CodeAt(s.grant, 4) }},
	{"a locked code", ProofCode, NotChecked, CodeLocked, func(s *scene) { s.grant.Code.Wrong = 5 }},
	{"a grant locked for life", ProofCode, NotChecked, CodeLocked, func(s *scene) { s.grant.Code.TotalWrong = 10 }},
}

// applies leaves out the flaws that are none for a row.
func (f flaw) applies(r row) bool {
	return r.asked().Has(f.proof) &&
		(r.act != Abort || f.name != "no position") && // an abort without a position is judged without
		(r.target == Garage || r.target == Home || !strings.HasPrefix(f.name, "own door")) && // others have no owner
		(r.asked().Has(ProofCode) || f.reason != BudgetExhausted) // which binds codes alone
}

// told is the reason that the row gives. Which of two people is missing is told to the
// people alone: to a courier a door or a parcel is only refused.
func (f flaw) told(r row) Reason {
	if f.proof == ProofApproval && r.act != Override {
		return AccessRefused
	}
	return f.reason
}

// verdict is what the row answers where all holds, and where the one proof does not.
func (r row) verdict(f *flaw) Verdict {
	var v Verdict
	for _, p := range all {
		if r.asked().Has(p) {
			v[p] = OK
		}
	}
	if f != nil {
		if r.asks.Has(ProofCode) {
			v[ProofCode] = NotChecked
		}
		v[f.proof] = f.result
	}
	return v
}

func TestEveryProofHoldsForEveryAct(t *testing.T) {
	events := map[Act]EventType{
		Release: EventReleased, Collect: EventCollected, Open: EventPermitted, Attempt: EventAttempted, Abort: EventAborted,
		AskOverride: EventOverrideAsked, Override: EventOverridden,
	}
	for _, r := range rows() {
		d := r.scene(t).decide()
		if d.Refusal != nil || d.Wait || len(d.Events) != 1 || d.Events[0].Type != events[r.act] {
			t.Errorf("%s: %+v, %v", r.name, d, d.Verdict.Named())
		}
		if d.Verdict != r.verdict(nil) || !d.Verdict.Holds() {
			t.Errorf("%s: verdict %v", r.name, d.Verdict.Named())
		}
	}
}

func TestEachProofFailsAloneForEveryAct(t *testing.T) {
	cases := 0
	var flawed ProofSet
	for _, r := range rows() {
		for _, f := range flaws {
			if !f.applies(r) {
				continue
			}
			cases++
			flawed |= Proofs(f.proof)
			s := r.scene(t)
			f.spoil(s)
			d := s.decide()
			if d.Refusal == nil || d.Refusal.Reason != f.told(r) || d.Wait {
				t.Errorf("%s, %s: %+v, want %s", r.name, f.name, d.Refusal, f.told(r))
				continue
			}
			if want := r.verdict(&f); d.Verdict != want || d.Refusal.Verdict != want || want.Holds() {
				t.Errorf("%s, %s: verdict %v, want %v", r.name, f.name, d.Verdict.Named(), want.Named())
			}
			compared := f.proof == ProofCode && f.result == Failed
			if compared != d.Counted() || len(costs(d)) > 0 != compared {
				t.Errorf("%s, %s: events %v", r.name, f.name, d.Events)
			}
			if told := len(d.Events) > len(costs(d)); told != (r.act == Open && s.facts.Door != nil && d.Refusal.Reason != ParcelUnknown && f.proof != ProofCode) {
				t.Errorf("%s, %s: the building was told: %v", r.name, f.name, told)
			}
		}
	}
	for p := range Proof(len(Verdict{})) {
		if !flawed.Has(p) {
			t.Errorf("no row has a flaw of the proof %v", p)
		}
	}
	if cases < 700 {
		t.Errorf("only %d cases: is the table still a table?", cases)
	}
}

// The rows of the doors are what policy grants, at doors of every mode: the walk above
// leaves none of them out.
func TestTheTableHasEveryRightToADoor(t *testing.T) {
	d := mint(nil, handofftest.Sample("p1"), handofftest.Noon)
	if d.Refusal != nil {
		t.Fatal(d.Refusal)
	}
	kinds := 0
	for _, right := range d.Events[0].Rights {
		if right.Act != Open {
			continue
		}
		kinds++
		for mode := Carried; mode <= Bridged; mode++ {
			i := slices.IndexFunc(rows(), func(r row) bool {
				return r.act == Open && r.target == right.Target && r.mode == mode && r.asks == right.Proofs
			})
			if i < 0 {
				t.Errorf("no row for a %v %v", mode, right.Target)
				continue
			}
			own := right.Target == Garage || right.Target == Home
			if asked := rows()[i].asked(); asked.Has(ProofConsent) != own || asked.Has(ProofPresence) != (own || mode == Carried) || asked.Has(ProofCode) {
				t.Errorf("a %v %v asks for %v", mode, right.Target, rows()[i].verdict(nil).Named())
			}
		}
	}
	if kinds != 4 {
		t.Errorf("rights to %d kinds of door", kinds)
	}
}

func TestWhatIsNotAskedDoesNotMatter(t *testing.T) {
	for _, r := range rows() {
		for _, f := range flaws {
			s := r.scene(t)
			unasked := !r.asked().Has(f.proof) || f.reason == BudgetExhausted && !r.asked().Has(ProofCode)
			if !unasked || f.proof == ProofTime && r.act == Abort {
				continue
			}
			if f.name == "no returns here" && (r.act == AskOverride || r.act == Override) || f.name == "approved by a key" && r.act == AskOverride {
				continue // these it does mind, and not as a proof
			}
			f.spoil(s)
			if d := s.decide(); d.Refusal != nil || d.Verdict != r.verdict(nil) {
				t.Errorf("%s, %s: %v, %v", r.name, f.name, d.Refusal, d.Verdict.Named())
			}
		}
	}
}

// The order in which reasons are found is a promise to callers (design, section 6).
// All combinations of failures are walked; within a group only one can be.
func TestTheFirstFailureWins(t *testing.T) {
	status := func(to Status) func(*scene) { return func(s *scene) { s.grant.Status = to } }
	type failure struct {
		reason Reason
		make   func(*scene)
	}
	named := func(names ...string) []failure {
		var fs []failure
		for _, name := range names {
			i := slices.IndexFunc(flaws, func(f flaw) bool { return f.name == name })
			fs = append(fs, failure{flaws[i].reason, flaws[i].spoil})
		}
		return fs
	}
	groups := [][]failure{
		{{ParcelUnknown, func(s *scene) { s.cmd.Evidence.Courier.Carrier = "rival" }}},
		named("suspended"),
		named("twenty wrong codes today"),
		named("another route"),
		{{AlreadyReleased, status(Released)}, {AlreadyCollected, status(Collected)}, {IsRecalled, status(Recalled)}, {WindowOver, status(Expired)}, {OnHold, status(Held)}},
		named("a second early", "the window ends now"),
		named("a street away"),
		named("another parcel"),
		named("a locked code"),
		named("no code", "the code before", "a wrong code"),
	}
	r := rows()[0]
	choice := make([]int, len(groups)) // 0: this group does not fail
	combinations := 0
	for {
		s, want := r.scene(t), Reason("")
		for i, c := range choice {
			if c > 0 {
				f := groups[i][c-1]
				f.make(s)
				if want == "" {
					want = f.reason
				}
			}
		}
		d := s.decide()
		if got := reasonOf(d); got != want {
			t.Fatalf("failures %v: %q, want %q", choice, got, want)
		}
		if compared := want == CodeMismatch || want == CodeSuperseded; d.Counted() != compared {
			t.Fatalf("failures %v: counted %v", choice, d.Counted())
		}
		combinations++
		i := 0
		for ; i < len(choice); i++ {
			if choice[i]++; choice[i] <= len(groups[i]) {
				break
			}
			choice[i] = 0
		}
		if i == len(choice) {
			break
		}
	}
	if combinations != 2*2*2*2*6*3*2*2*2*4 {
		t.Errorf("walked %d combinations", combinations)
	}
}

func reasonOf(d Decision) Reason {
	if d.Refusal == nil {
		return ""
	}
	return d.Refusal.Reason
}

// notPanicking is Decide for questions that nobody should ask.
func notPanicking(t *testing.T, what string, s *scene) Decision {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: panic: %v", what, p)
		}
	}()
	return s.decide()
}

func TestWhatIsUnknownIsRefused(t *testing.T) {
	anyOpen := row{act: Open, target: Lobby, asks: Proofs(ProofCourier)}
	for name, c := range map[string]struct {
		row   row
		spoil func(*scene)
		want  Reason
	}{
		"no act":             {rows()[0], func(s *scene) { s.cmd.Act = 0 }, UnknownAct},
		"an act of tomorrow": {rows()[0], func(s *scene) { s.cmd.Act = 200 }, UnknownAct},
		"no policy":          {rows()[0], func(s *scene) { s.facts.Policy = nil }, UnknownAct},
		"no grant":           {rows()[0], func(s *scene) { s.grant = nil }, ParcelUnknown},
		"no grant, and signed out": {rows()[0], func(s *scene) {
			s.grant, s.facts.Courier.SignedOut = nil, InstantOf(s.now)
		}, SignedOut},
		"nobody":                           {rows()[0], func(s *scene) { s.cmd.Evidence.Courier = CourierRef{} }, ParcelUnknown},
		"a courier never registered":       {rows()[0], func(s *scene) { s.facts.Courier = nil }, CourierNotCleared},
		"no right to the act":              {rows()[0], func(s *scene) { s.cmd.Act = Collect }, AccessRefused},
		"no right to the target":           {rows()[4], func(s *scene) { s.cmd.Target = Garage; s.facts.Door.Kind = Garage }, AccessRefused},
		"a target of tomorrow":             {rows()[4], func(s *scene) { s.cmd.Target = 99 }, AccessRefused},
		"a proof of tomorrow":              {rows()[0], func(s *scene) { s.grant.Rights[0].Proofs |= 1 << 15 }, AccessRefused},
		"a proof of tomorrow and approval": {rows()[2], func(s *scene) { s.grant.Rights[0].Proofs |= 1 << 15 }, AccessRefused},
		"no status":                        {rows()[0], func(s *scene) { s.grant.Status = 0 }, WrongStatus},
		"a status of tomorrow":             {rows()[0], func(s *scene) { s.grant.Status = 99 }, WrongStatus},
		"no such door":                     {rows()[4], func(s *scene) { s.facts.Door = nil }, AccessRefused},
		"no such door, and nobody asks":    {anyOpen, func(s *scene) { s.facts.Door = nil }, AccessRefused},
		"a door of another kind":           {rows()[4], func(s *scene) { s.facts.Door.Kind = Gate }, AccessRefused},
		"a door of no kind":                {rows()[4], func(s *scene) { s.facts.Door.Kind = 0 }, AccessRefused},
		"a garage of nobody":               {rows()[6], func(s *scene) { s.facts.Door.Owner = nil }, AccessRefused},
		"a neighbour's garage":             {rows()[6], func(s *scene) { s.facts.Door.Owner.ID = "cus_82" }, AccessRefused},
		"another shop's customer's home":   {rows()[7], func(s *scene) { s.facts.Door.Owner.Shop = "other" }, AccessRefused},
		"a position that is not a number":  {rows()[0], func(s *scene) { s.cmd.Evidence.Position.Accuracy = math.NaN() }, OutsideGeofence},
		"a code where none was ever given": {rows()[0], func(s *scene) { s.grant.Code.Issued = nil }, CodeMismatch},
		"a code without a secret":          {rows()[0], func(s *scene) { s.grant.Code.Secret = otp.Secret{} }, CodeMismatch},
		"a mint of nothing":                {rows()[0], func(s *scene) { s.cmd = Command{Act: Mint} }, UnknownAct},
		"somebody else's clearance":        {rows()[0], func(s *scene) { s.facts.Courier.ID = "c2" }, CourierNotCleared},
	} {
		s := c.row.scene(t)
		c.spoil(s)
		d := notPanicking(t, name, s)
		if got := reasonOf(d); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if len(costs(d)) > 0 && !d.Counted() {
			t.Errorf("%s: caused %v", name, d.Events)
		}
	}
}

// costs are a refusal's events but for what the building is told of its doors.
func costs(d Decision) []Event {
	return slices.DeleteFunc(slices.Clone(d.Events), func(e Event) bool { return e.Type == EventAccessRefused || e.Type == EventImpossible })
}

func TestACarriedDoorAsksForPresence(t *testing.T) {
	for _, r := range rows()[4:6] {
		s := r.scene(t)
		s.facts.Door.Mode = Carried
		if d := s.decide(); d.Refusal != nil || d.Verdict[ProofPresence] != OK {
			t.Errorf("%s: %v, %v", r.name, d.Refusal, d.Verdict.Named())
		}
		s.cmd.Evidence.Challenge = nil
		if d := s.decide(); reasonOf(d) != AccessRefused || d.Verdict[ProofPresence] != Missing {
			t.Errorf("%s without a challenge: %v, %v", r.name, d.Refusal, d.Verdict.Named())
		}
	}
	s := rows()[1].scene(t) // no door is asked for at a release
	s.facts.Door.Mode, s.cmd.Evidence.Challenge = Carried, nil
	if d := s.decide(); d.Refusal != nil {
		t.Error(d.Refusal)
	}
}

// A right that asks for a place is of no use where nobody knows the place, and a phone that
// gives no position is at no place.
func TestWithoutAPlaceThereIsNoProofOfIt(t *testing.T) {
	for name, change := range map[string]func(release, lobby *scene){
		"no place": func(release, lobby *scene) {
			release.grant.Dispatch.To.Location, lobby.facts.Door.Location = nil, nil
		},
		"no position": func(release, lobby *scene) {
			release.cmd.Evidence.Position, lobby.cmd.Evidence.Position = nil, nil
		},
		"neither": func(release, lobby *scene) {
			release.grant.Dispatch.To.Location, lobby.facts.Door.Location = nil, nil
			release.cmd.Evidence.Position, lobby.cmd.Evidence.Position = nil, nil
		},
	} {
		release, lobby := rows()[0].scene(t), rows()[4].scene(t)
		change(release, lobby)
		for _, s := range []*scene{release, lobby} {
			if d := s.decide(); reasonOf(d) != OutsideGeofence || d.Verdict[ProofPlace] != Failed || d.Verdict[ProofCode] == OK {
				t.Errorf("%s, %v: %v, %v", name, s.cmd.Act, d.Refusal, d.Verdict.Named())
			}
		}
	}
}

func TestFences(t *testing.T) {
	within := func(s *scene, meters float64) bool {
		s.cmd.Evidence.Position.Point = north(meters)
		d := s.decide()
		return d.Verdict[ProofPlace] == OK
	}
	for _, c := range []struct {
		name   string
		row    row
		change func(*scene)
		radius float64
	}{
		{"a release", rows()[0], func(*scene) {}, 150 + 10},
		{"a release with a coarse fix", rows()[0], func(s *scene) { s.cmd.Evidence.Position.Accuracy = 90 }, 150 + 50},
		{"a door", rows()[4], func(*scene) {}, 30 + 10},
		{"a door with a fence of its own", rows()[4], func(s *scene) { s.facts.Door.Fence = 75 }, 75 + 10},
	} {
		s := c.row.scene(t)
		c.change(s)
		if !within(s, c.radius-1) || within(s, c.radius+1) {
			t.Errorf("%s: the fence is not at %v m", c.name, c.radius)
		}
	}
}

func TestTheAttemptsLeft(t *testing.T) {
	for _, c := range []struct{ wrong, total, left int }{
		{0, 0, 4}, {3, 3, 1}, {4, 4, 0}, {0, 5, 4}, {0, 6, 3}, {0, 9, 0}, {4, 9, 0}, {2, 8, 1},
	} {
		s := rows()[0].scene(t)
		s.grant.Code.Wrong, s.grant.Code.TotalWrong = c.wrong, c.total
		s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1)
		d := s.decide()
		if reasonOf(d) != CodeMismatch || d.Refusal.AttemptsLeft != c.left {
			t.Errorf("%+v: %+v", c, d.Refusal)
			continue
		}
		want := []EventType{EventCodeRefused}
		if c.left == 0 {
			want = append(want, EventCodeLocked)
		}
		if got := types(d.Events); !slices.Equal(got, want) {
			t.Errorf("%+v: events %v, want %v", c, got, want)
		}
		if e := d.Events[0]; e.Reason != CodeMismatch || e.Courier != "c1" {
			t.Errorf("%+v: event %+v", c, e)
		}
	}
}

func types(events []Event) []EventType {
	var ts []EventType
	for _, e := range events {
		ts = append(ts, e.Type)
	}
	return ts
}

func TestACodeWaitsForItsPlaceInTheBudget(t *testing.T) {
	s := rows()[0].scene(t)
	s.facts.Budget.Admitted = false
	for name, spoil := range map[string]func(*scene){"right": func(*scene) {}, "wrong": func(s *scene) { s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1) }} {
		spoil(s)
		if d := s.decide(); !d.Wait || d.Refusal != nil || len(d.Events) != 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	// Whoever waits for nothing is not made to wait.
	s.grant.Code.Wrong = 5
	if d := s.decide(); reasonOf(d) != CodeLocked || d.Wait {
		t.Errorf("locked: %+v", d)
	}
	plain := rows()[1].scene(t)
	plain.facts.Budget.Admitted = false
	if d := plain.decide(); d.Refusal != nil || d.Wait {
		t.Errorf("no code asked: %+v", d)
	}
}

func TestBudget(t *testing.T) {
	at := func(ago time.Duration, n int) []Instant {
		return slices.Repeat([]Instant{InstantOf(handofftest.Noon.Add(-ago))}, n)
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		spent []Instant
		want  bool
	}{
		{"none", nil, false},
		{"nineteen now", at(0, 19), false},
		{"twenty now", at(0, 20), true},
		{"twenty a second short of a day ago", at(day-time.Second, 20), true},
		{"twenty a day ago", at(day, 20), false},
		{"nineteen today and twenty yesterday", slices.Concat(at(0, 19), at(day, 20)), false},
		{"forty and nineteen", slices.Concat(at(25*day, 40), at(0, 19)), false},
		{"forty-one and nineteen", slices.Concat(at(25*day, 41), at(0, 19)), true},
	} {
		b := Budget{Spent: c.spent}
		if got := b.Exhausted(handofftest.Policy().Limits, handofftest.Noon); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// withoutAgain is the policy without visits that are begun again.
func withoutAgain(s *scene) {
	p := *s.facts.Policy
	p.Limits.AgainDay, p.Limits.Again = 0, 0
	s.facts.Policy = &p
}

func TestVisits(t *testing.T) {
	r := rows()[4]
	s := r.scene(t)
	withoutAgain(s)
	step := func(what string, door string, after time.Duration, want Reason) {
		t.Helper()
		s.now = s.now.Add(after)
		s.facts.Door.ID = door
		d := s.decide()
		if got := reasonOf(d); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		*s.grant = Replay(*s.grant, d.Events)
	}
	step("a visit", "door_1", 0, "")
	step("a second try", "door_1", time.Minute, "")
	step("another door of the kind", "door_2", 0, "")
	step("a third try", "door_1", 4*time.Minute-time.Second, "")
	step("a fourth try", "door_1", 0, VisitOver)
	step("after the visit", "door_1", time.Hour, VisitOver)
	step("the other door after its visit", "door_2", 0, VisitOver)
	step("a third door", "door_3", 0, "")

	attempt := row{act: Attempt}.scene(t)
	attempt.grant, attempt.now = s.grant, s.now
	d := attempt.decide()
	if d.Refusal != nil {
		t.Fatalf("attempted: %v", d.Refusal)
	}
	*s.grant = Replay(*s.grant, d.Events)
	step("a new visit after attempted", "door_1", 0, "")
	step("its second try", "door_1", 5*time.Minute-time.Second, "")
	step("five minutes end it", "door_1", time.Second, VisitOver)
	step("the other door has its own", "door_2", 0, "")

	s.grant.Visits[len(s.grant.Visits)-1].Over = true
	step("the door reported that it opened", "door_2", time.Second, VisitOver)
}

// While the parcel is not handed over, a courier may come back to a shared door for a second
// armful: as an event of its own, within limits of the day and of the grant's life.
func TestASecondArmful(t *testing.T) {
	shared := rows()[4]
	s := shared.scene(t)
	limits := s.facts.Policy.Limits
	const visitLength = 5 * time.Minute
	visit := func(want Reason, events ...EventType) {
		t.Helper()
		d := s.decide()
		if got := reasonOf(d); got != want || want == "" && !slices.Equal(types(d.Events), events) {
			t.Errorf("%q %v, want %q %v", got, types(d.Events), want, events)
		}
		*s.grant = Replay(*s.grant, d.Events)
	}
	visit("", EventPermitted)
	for day := 1; s.grant.Again < limits.Again; day++ {
		for range min(limits.AgainDay, limits.Again-s.grant.Again) {
			s.now = s.now.Add(visitLength)
			visit("", EventPermitted, EventVisitAgain)
			visit("", EventPermitted) // the visit that runs
		}
		s.now = s.now.Add(visitLength)
		visit(VisitOver)
		o := order(t, Reschedule, RoleShop)
		o.grant, o.cmd.Day, o.now = s.grant, s.grant.Day().Next(), s.now
		*s.grant = Replay(*s.grant, o.decide().Events)
		s.now = s.now.AddDate(0, 0, 1).Truncate(24 * time.Hour).Add(9 * time.Hour)
		s.facts.Courier.Drives = []Drive{{Day: s.grant.Day(), Route: s.grant.Route()}}
		visit("", EventPermitted)
	}
	s.now = s.now.Add(visitLength)
	visit(VisitOver) // for good

	// That nobody answered gives a visit still, whatever was begun again.
	attempt := row{act: Attempt}.scene(t)
	attempt.grant, attempt.now, attempt.facts.Courier = s.grant, s.now, s.facts.Courier
	*s.grant = Replay(*s.grant, attempt.decide().Events)
	visit("", EventPermitted)

	// What was handed over needs no second armful.
	s = shared.scene(t)
	visit("", EventPermitted)
	s.grant.Status, s.now = Released, s.now.Add(visitLength)
	visit(AlreadyReleased)

	// A garage or home is entered once.
	for _, r := range rows() {
		if r.name != "open garage" && r.name != "open home" {
			continue
		}
		s = r.scene(t)
		visit("", EventPermitted)
		s.now = s.now.Add(visitLength)
		visit(VisitOver)
	}
}

func TestAbort(t *testing.T) {
	r := rows()[slices.IndexFunc(rows(), func(r row) bool { return r.act == Abort })]
	for name, c := range map[string]struct {
		spoil func(*scene)
		want  Reason
	}{
		"at once":                  {func(s *scene) { s.grant.Handoff.At = InstantOf(s.now) }, ""},
		"after ten minutes":        {func(s *scene) { s.grant.Handoff.At = InstantOf(s.now.Add(-10 * time.Minute)) }, ""},
		"a second later":           {func(s *scene) { s.grant.Handoff.At = InstantOf(s.now.Add(-10*time.Minute - time.Second)) }, AbortTooLate},
		"after the day":            {func(s *scene) { s.grant.Window.Until = InstantOf(s.now) }, WindowOver},
		"somebody else's":          {func(s *scene) { s.grant.Handoff.Courier = "c2" }, NotYourHandoff},
		"for the second time":      {func(s *scene) { s.grant.Aborted = true }, AlreadyAborted},
		"with reissues spent":      {func(s *scene) { s.grant.Code.Reissues = 3 }, ReissueLimit},
		"without a position":       {func(s *scene) { s.cmd.Evidence.Position = nil }, ""},
		"off the route by now":     {func(s *scene) { s.facts.Courier.Drives = nil }, ""},
		"of an active grant":       {func(s *scene) { s.grant.Status = Active }, WrongStatus},
		"of a collected return":    {func(s *scene) { s.grant.Status = Collected }, WrongStatus},
		"of a held grant":          {func(s *scene) { s.grant.Status = Held }, WrongStatus},
		"by another carrier":       {func(s *scene) { s.cmd.Evidence.Courier.Carrier = "rival" }, ParcelUnknown},
		"without a code, reissued": {func(s *scene) { s.grant.Rights[0].Proofs, s.grant.Code.Reissues = Proofs(atTheDoor...), 3 }, ""},
	} {
		s := r.scene(t)
		s.grant.Rights[0] = Right{Act: Release, Target: Parcel, Proofs: Proofs(atTheDoor...) | Proofs(ProofCode)}
		c.spoil(s)
		d := s.decide()
		if got := reasonOf(d); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		if c.want != "" {
			continue
		}
		g := Replay(*s.grant, d.Events)
		if g.Status != Active || g.Handoff != nil || !g.Aborted || g.Right(Release, Parcel).Uses != 1 {
			t.Errorf("%s: %+v", name, g)
		}
		if s.grant.CodeRequired() && (g.CurrentCode().Equal(s.grant.CurrentCode()) || g.Code.Reissues != s.grant.Code.Reissues+1) {
			t.Errorf("%s: the code is the old one, or the new one was not counted: %+v", name, g.Code)
		}
	}
}

// order is a command of a shop or a customer on the sample grant.
func order(t *testing.T, act Act, role Role) *scene {
	s := rows()[0].scene(t)
	s.cmd = Command{Act: act, By: Actor{Role: role, Shop: handofftest.Shop, Customer: "cus_81", Person: true}, Who: "clerk 2", Day: handofftest.Today.Next()}
	if role == RoleCustomer || role == RoleShop {
		return s
	}
	s.cmd.By.Shop, s.cmd.By.Customer = "", ""
	return s
}

func TestWhoMayOrderWhatAndWhen(t *testing.T) {
	const unknown = GrantUnknown
	roles := map[Act][]Role{
		Recall: {RoleShop}, Reschedule: {RoleShop}, Resend: {RoleCustomer, RoleShop}, Reissue: {RoleCustomer, RoleShop},
		Expire: {RoleService}, Hold: {RoleShop, RoleOps}, Lift: {RoleShop, RoleOps}, Erase: {RoleOps},
		AskOverride: {RoleShop}, Override: {RoleShop},
		DisputeHandoff: {RoleCustomer}, WithdrawDispute: {RoleCustomer}, SettleDispute: {RoleOps},
		ConfirmConsent: {RoleResident},
	}
	//                  active, released, collected, recalled, expired, held
	statuses := map[Act][6]Reason{
		Recall:     {"", WrongStatus, WrongStatus, WrongStatus, WrongStatus, WrongStatus},
		Reschedule: {"", WrongStatus, WrongStatus, WrongStatus, "", WrongStatus},
		Resend:     {"", AlreadyReleased, AlreadyCollected, IsRecalled, WindowOver, OnHold},
		Reissue:    {"", AlreadyReleased, AlreadyCollected, IsRecalled, WindowOver, OnHold},
		Expire:     {"", WrongStatus, WrongStatus, WrongStatus, WrongStatus, WrongStatus},
		Hold:       {"", "", "", WrongStatus, "", WrongStatus},
		Lift:       {WrongStatus, WrongStatus, WrongStatus, WrongStatus, WrongStatus, ""},
		Erase:      {"", "", "", "", "", ""},

		AskOverride: {"", AlreadyReleased, AlreadyCollected, IsRecalled, WindowOver, OnHold},
		Override:    {"", AlreadyReleased, AlreadyCollected, IsRecalled, WindowOver, OnHold},

		DisputeHandoff:  {WrongStatus, "", "", WrongStatus, WrongStatus, ""},
		WithdrawDispute: {WrongStatus, WrongStatus, WrongStatus, WrongStatus, WrongStatus, ""},
		SettleDispute:   {WrongStatus, WrongStatus, WrongStatus, WrongStatus, WrongStatus, ""},

		ConfirmConsent: {"", AlreadyReleased, AlreadyCollected, IsRecalled, WindowOver, OnHold},
	}
	for act, allowed := range roles {
		for _, role := range []Role{RoleShop, RoleCustomer, RoleOps, RoleService, RoleResident, "", "courier"} {
			for i, want := range statuses[act] {
				s := order(t, act, role)
				s.grant.Status, s.grant.HeldFrom, s.grant.ClosedAt = Active+Status(i), Active, InstantOf(s.now)
				if act == Expire {
					s.grant.Window.Until = InstantOf(s.now)
				}
				ready(s, act)
				if !slices.Contains(allowed, role) {
					want = unknown
				}
				if d := s.decide(); reasonOf(d) != want || (want == "") != (len(d.Events) == 1) {
					t.Errorf("%v by %q in %v: %q with %v, want %q", act, role, s.grant.Status, reasonOf(d), d.Events, want)
				}
			}
			for name, foreign := range map[string]func(*scene){
				"another shop":     func(s *scene) { s.cmd.By.Shop = "other" },
				"another customer": func(s *scene) { s.cmd.By.Customer = "cus_82" },
				"no grant":         func(s *scene) { s.grant = nil },
			} {
				s := order(t, act, role)
				foreign(s)
				outside := s.grant == nil || role == RoleCustomer || role == RoleShop && name == "another shop"
				if d := s.decide(); outside && (reasonOf(d) != GrantUnknown || len(d.Events) > 0) {
					t.Errorf("%v by %q of %s: %+v", act, role, name, d)
				}
			}
		}
	}
}

// The service may take consents back, of one who moved out, and give none.
func TestTheServiceTakesConsentsBackOnly(t *testing.T) {
	for _, c := range []struct {
		agreed []TargetKind
		want   Reason
	}{{nil, ""}, {[]TargetKind{Home}, GrantUnknown}} {
		s := order(t, Consent, RoleService)
		s.grant.Rights = append(s.grant.Rights, Right{Act: Open, Target: Home, Proofs: Proofs(ProofConsent), Uses: 1})
		s.cmd.Consents = c.agreed
		if d := s.decide(); reasonOf(d) != c.want || len(d.Events) != map[Reason]int{"": 1}[c.want] {
			t.Errorf("%v: %q with %v", c.agreed, reasonOf(d), d.Events)
		}
	}
}

// disputable gives the grant what a command about a dispute needs.
func ready(s *scene, act Act) {
	switch act {
	case WithdrawDispute, SettleDispute:
		s.grant.Dispute = &Dispute{At: InstantOf(s.now)}
		fallthrough
	case DisputeHandoff:
		s.grant.Handoff = &Handoff{Courier: "c1", At: InstantOf(s.now.Add(-time.Minute)), Distance: 20}
		s.cmd.Ruling = HandedOver
	case ConfirmConsent:
		s.grant.ConsentAsk = &ConsentAsk{At: InstantOf(s.now), Link: linkMaker, Count: 1}
		s.cmd.Wish = s.grant.ConsentAsk.ID()
	case TellMail:
		s.cmd.Mail = MailWord{Issue: s.grant.Code.Issued[len(s.grant.Code.Issued)-1], State: MailFailed, Why: MailBounced, Status: "5.1.1"}
	}
}

const linkMaker = "0123456789abcdef" // a pseudonym

func TestDispute(t *testing.T) {
	noon := handofftest.Noon
	for name, c := range map[string]struct {
		act   Act
		spoil func(*scene)
		want  Reason
	}{
		"of a release":              {DisputeHandoff, func(*scene) {}, ""},
		"of a return":               {DisputeHandoff, func(s *scene) { s.grant.Status = Collected }, ""},
		"while it is on hold":       {DisputeHandoff, func(s *scene) { s.grant.Status, s.grant.HeldFrom = Held, Released }, ""},
		"before anything":           {DisputeHandoff, func(s *scene) { s.grant.Status, s.grant.HeldFrom, s.grant.Handoff = Held, Active, nil }, WrongStatus},
		"a second time":             {DisputeHandoff, func(s *scene) { s.grant.Dispute = &Dispute{Ruling: Withdrawn} }, AlreadyDisputed},
		"once it is open":           {DisputeHandoff, func(s *scene) { s.grant.Status, s.grant.Dispute = Held, &Dispute{} }, AlreadyDisputed},
		"withdrawn":                 {WithdrawDispute, func(*scene) {}, ""},
		"withdrawn by a link":       {WithdrawDispute, func(s *scene) { s.cmd.By.Person = false }, PersonRequired},
		"withdrawn, and never made": {WithdrawDispute, func(s *scene) { s.grant.Dispute = nil }, NoDispute},
		"withdrawn twice":           {WithdrawDispute, func(s *scene) { s.grant.Dispute.Ruling = Withdrawn }, NoDispute},
		"settled":                   {SettleDispute, func(*scene) {}, ""},
		"settled otherwise":         {SettleDispute, func(s *scene) { s.cmd.Ruling = NotReceived }, ""},
		"settled by a key":          {SettleDispute, func(s *scene) { s.cmd.By.Person = false }, PersonRequired},
		"settled without a ruling":  {SettleDispute, func(s *scene) { s.cmd.Ruling = 0 }, UnknownAct},
		"settled as withdrawn":      {SettleDispute, func(s *scene) { s.cmd.Ruling = Withdrawn }, UnknownAct},
		"settled as never heard of": {SettleDispute, func(s *scene) { s.cmd.Ruling = 99 }, UnknownAct},
		"settled after it was":      {SettleDispute, func(s *scene) { s.grant.Dispute.Ruling = HandedOver }, NoDispute},
	} {
		role := RoleCustomer
		if c.act == SettleDispute {
			role = RoleOps
		}
		s := order(t, c.act, role)
		s.grant.Status, s.grant.ClosedAt = Released, InstantOf(noon)
		ready(s, c.act)
		if c.act != DisputeHandoff {
			s.grant.Status, s.grant.HeldFrom = Held, Released
		}
		c.spoil(s)
		before := s.grant.Status
		d := s.decide()
		if reasonOf(d) != c.want || (c.want == "") != (len(d.Events) == 1) {
			t.Errorf("%s: %q with %v, want %q", name, reasonOf(d), d.Events, c.want)
			continue
		}
		if c.want != "" {
			continue
		}
		e, g := d.Events[0], Replay(*s.grant, d.Events)
		switch {
		case c.act == DisputeHandoff:
			if e.Courier != "c1" || e.HandedAt != s.grant.Handoff.At || e.Distance != 20 || e.Issue != 3 {
				t.Errorf("%s: the evidence is %+v", name, e)
			}
			if g.Status != Held || !g.Dispute.Open() || g.Dispute.Issue != 3 || g.Dispute.HeldBefore != (before == Held) || len(g.Code.Issued) != 3 {
				t.Errorf("%s: %v, %+v, codes %v", name, g.Status, g.Dispute, g.Code.Issued)
			}
		case g.Status != Released || g.HeldFrom != 0 || g.Dispute.Open() || g.Dispute.EndedAt != InstantOf(s.now) || g.ClosedAt != InstantOf(s.now):
			t.Errorf("%s: %v, %+v, closed at %v", name, g.Status, g.Dispute, g.ClosedAt)
		case c.act == SettleDispute && (g.Dispute.Ruling != s.cmd.Ruling || string(e.Reason) != s.cmd.Ruling.String()):
			t.Errorf("%s: %v, %q", name, g.Dispute.Ruling, e.Reason)
		}
	}
}

// A dispute is no hold of the shop's: neither the shop nor a lift of the duty officer ends
// it, and its end does not lift a hold that stood before.
func TestADisputeAndAHold(t *testing.T) {
	lift := func(g *Grant, role Role) Reason {
		s := order(t, Lift, role)
		s.grant = g
		return reasonOf(s.decide())
	}
	after := func(g Grant, act Act, role Role) Grant {
		t.Helper()
		s := order(t, act, role)
		s.grant, s.cmd.Ruling = &g, NotReceived
		d := s.decide()
		if d.Refusal != nil {
			t.Fatalf("%v by %s: %v", act, role, d.Refusal)
		}
		return Replay(g, d.Events)
	}
	released := *order(t, Hold, RoleShop).grant
	released.Status, released.Handoff = Released, &Handoff{Courier: "c1", At: InstantOf(handofftest.Noon)}

	disputed := after(released, DisputeHandoff, RoleCustomer)
	for _, role := range []Role{RoleShop, RoleOps} {
		if got := lift(&disputed, role); got != DisputeOpen {
			t.Errorf("a disputed grant, lifted by %s: %q", role, got)
		}
	}
	held := after(after(released, Hold, RoleShop), DisputeHandoff, RoleCustomer)
	for what, g := range map[string]Grant{
		"withdrawn": after(held, WithdrawDispute, RoleCustomer), "settled": after(held, SettleDispute, RoleOps),
	} {
		if g.Status != Held || g.HeldFrom != Released {
			t.Errorf("%s, and the shop's own hold is over: %v from %v", what, g.Status, g.HeldFrom)
		}
		if got := lift(&g, RoleShop); got != "" {
			t.Errorf("%s, and the shop's own hold cannot be lifted: %q", what, got)
		}
	}
	byHand := released
	byHand.Handoff = &Handoff{At: InstantOf(handofftest.Noon)}
	if g := after(byHand, DisputeHandoff, RoleCustomer); g.Dispute.Issue != 0 {
		t.Errorf("a release by hand, and its dispute names the code %d", g.Dispute.Issue)
	}
	taken := Replay(after(disputed, SettleDispute, RoleOps), []Event{{Type: EventAborted, Issue: 4, At: InstantOf(handofftest.Noon)}})
	if taken.Dispute != nil {
		t.Errorf("the handoff was taken back, and its dispute %+v stays", taken.Dispute)
	}
}

func TestResend(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*scene)
		want  Reason
		retry time.Duration
	}{
		"the first":                {func(*scene) {}, "", 0},
		"before the day":           {func(s *scene) { s.now = s.grant.Window.From.Time().Add(-time.Hour) }, "", 0},
		"a minute after another":   {func(s *scene) { s.grant.Code.ResentAt = InstantOf(s.now.Add(-time.Minute)) }, "", 0},
		"a second too soon":        {func(s *scene) { s.grant.Code.ResentAt = InstantOf(s.now.Add(-59 * time.Second)) }, ResendTooSoon, time.Second},
		"the sixth":                {func(s *scene) { s.grant.Code.Resends = 5 }, ResendLimit, 12 * time.Hour},
		"of a locked code":         {func(s *scene) { s.grant.Code.Wrong = 5 }, CodeLocked, 0},
		"of a code locked forever": {func(s *scene) { s.grant.Code.TotalWrong = 10 }, CodeLocked, 0},
		"after the day":            {func(s *scene) { s.grant.Window.Until = InstantOf(s.now) }, WindowOver, 0},
		"of no code":               {func(s *scene) { s.grant.Rights[0].Proofs = Proofs(atTheDoor...) }, NoCode, 0},
	} {
		s := order(t, Resend, RoleCustomer)
		c.spoil(s)
		d := s.decide()
		if reasonOf(d) != c.want || (d.Refusal != nil && d.Refusal.RetryAfter != c.retry) {
			t.Errorf("%s: %+v, want %q", name, d.Refusal, c.want)
			continue
		}
		if c.want == "" {
			before := s.grant.Code
			g := Replay(*s.grant, d.Events)
			if !g.CurrentCode().Equal(s.grant.CurrentCode()) || g.Code.Resends != before.Resends+1 || g.Code.ResentAt != InstantOf(s.now) || g.Code.Wrong != before.Wrong {
				t.Errorf("%s: %+v", name, g.Code)
			}
		}
	}
}

func TestReissue(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*scene)
		want  Reason
	}{
		"the first":                {func(*scene) {}, ""},
		"of a locked code":         {func(s *scene) { s.grant.Code.Wrong, s.grant.Code.TotalWrong = 5, 5 }, ""},
		"of a code locked forever": {func(s *scene) { s.grant.Code.TotalWrong = 10 }, CodeLocked},
		"the third":                {func(s *scene) { s.grant.Code.Reissues = 2 }, ""},
		"the fourth":               {func(s *scene) { s.grant.Code.Reissues = 3 }, ReissueLimit},
		"after the day":            {func(s *scene) { s.grant.Window.Until = InstantOf(s.now) }, WindowOver},
		"of no code":               {func(s *scene) { s.grant.Rights[0].Proofs = Proofs(atTheDoor...) }, NoCode},
	} {
		s := order(t, Reissue, RoleCustomer)
		s.grant.Code.Resends = 2
		c.spoil(s)
		d := s.decide()
		if reasonOf(d) != c.want {
			t.Errorf("%s: %+v, want %q", name, d.Refusal, c.want)
			continue
		}
		if c.want == "" {
			before := s.grant.Code
			g := Replay(*s.grant, d.Events)
			if g.Code.Wrong != 0 || g.Code.TotalWrong != before.TotalWrong || g.Code.Reissues != before.Reissues+1 || g.Code.Resends != 2 {
				t.Errorf("%s: %+v, before %+v", name, g.Code, before)
			}
			for _, counter := range before.Issued {
				if g.CurrentCode().Equal(handofftest.CodeAt(&g, counter)) {
					t.Errorf("%s: the new code is an old one", name)
				}
			}
		}
	}
}

// A code that HOTP repeats is passed over, or an old code would come back to life. The
// secret is searched for two counters of one grant's reach with equal codes.
func TestANewCodeEqualsNoneBefore(t *testing.T) {
	s := order(t, Reissue, RoleShop)
	var twin uint64
	for n := uint64(0); twin == 0; n++ {
		var raw [20]byte
		copy(raw[:], fmt.Sprintf("%020d", n))
		if err := s.grant.Code.Secret.UnmarshalBinary(raw[:]); err != nil {
			t.Fatal(err)
		}
		next := handofftest.CodeAt(s.grant, 60)
		for c := uint64(1); c < 60; c++ {
			if handofftest.CodeAt(s.grant, c).Equal(next) {
				twin = c
			}
		}
	}
	s.grant.Code.Issued = nil
	for c := twin; c < 60; c++ {
		s.grant.Code.Issued = append(s.grant.Code.Issued, c)
	}
	d := s.decide()
	if d.Refusal != nil || d.Events[0].Issue <= 60 {
		t.Errorf("%v, %+v", d.Refusal, d.Events)
	}
}

func TestReschedule(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*scene)
		want  Reason
		route string
	}{
		"to the next day":            {func(*scene) {}, "", handofftest.Route},
		"to another route":           {func(s *scene) { s.cmd.Route = "BER-043" }, "", "BER-043"},
		"of an expired grant":        {func(s *scene) { s.grant.Status = Expired }, "", handofftest.Route},
		"of a locked code":           {func(s *scene) { s.grant.Code.Wrong, s.grant.Code.TotalWrong = 5, 7 }, "", handofftest.Route},
		"to the same day":            {func(s *scene) { s.cmd.Day = handofftest.Today }, DayNotLater, ""},
		"to the day before":          {func(s *scene) { s.cmd.Day.Day = 23 }, DayNotLater, ""},
		"to a day that is over":      {func(s *scene) { s.now = s.now.AddDate(0, 0, 3) }, WindowOver, ""},
		"to a day that never was":    {func(s *scene) { s.grant.Dispatch.To.Zone = "Pacific/Apia"; toApia(s) }, DayUnknown, ""},
		"at an address now nowhere":  {func(s *scene) { s.grant.Dispatch.To.Zone = "Nowhere/Here" }, ZoneUnknown, ""},
		"not later than it moved to": {func(s *scene) { s.grant.Moved = &Move{Day: s.cmd.Day, Route: "x"} }, DayNotLater, ""},
	} {
		s := order(t, Reschedule, RoleShop)
		c.spoil(s)
		d := s.decide()
		if reasonOf(d) != c.want {
			t.Errorf("%s: %+v, want %q", name, d.Refusal, c.want)
			continue
		}
		if c.want != "" {
			continue
		}
		before := s.grant.Code
		g := Replay(*s.grant, d.Events)
		if g.Status != Active || g.Day() != s.cmd.Day || g.Route() != c.route || g.Dispatch.Day != handofftest.Today || g.Window.From != s.grant.Window.Until {
			t.Errorf("%s: %v on %v by %s, %+v", name, g.Status, g.Day(), g.Route(), g.Window)
		}
		if g.CurrentCode().Equal(s.grant.CurrentCode()) || g.Code.Wrong != 0 || g.Code.TotalWrong != before.TotalWrong || g.Code.Reissues != before.Reissues {
			t.Errorf("%s: %+v, before %+v", name, g.Code, before)
		}
	}
}

func toApia(s *scene) {
	s.grant.Dispatch.Day = Date{Year: 2011, Month: time.December, Day: 29}
	s.cmd.Day = s.grant.Dispatch.Day.Next()
	s.now = time.Date(2011, time.December, 29, 12, 0, 0, 0, time.UTC)
}

// After a reschedule the courier comes again, on another day: each door has a new visit.
func TestARescheduleBeginsNewVisits(t *testing.T) {
	s := rows()[4].scene(t)
	d := s.decide()
	g := Replay(*s.grant, d.Events)
	o := order(t, Reschedule, RoleShop)
	o.grant = &g
	*s.grant = Replay(g, o.decide().Events)
	s.now = s.now.AddDate(0, 0, 1)
	s.facts.Courier.Drives = []Drive{{Day: s.grant.Day(), Route: s.grant.Route()}}
	if d := s.decide(); d.Refusal != nil {
		t.Errorf("the next day's visit: %v, %v", d.Refusal, d.Verdict.Named())
	}
}

func mint(g *Grant, d Dispatch, now time.Time) Decision {
	return mintBy(handofftest.Policy(), g, d, now)
}

func mintBy(p *Policy, g *Grant, d Dispatch, now time.Time) Decision {
	id := ParcelHash("000102030405060708090a0b")
	return Decide(g, Command{Act: Mint, Parcel: id, Dispatch: &d}, Facts{Policy: p}, now)
}

func TestMint(t *testing.T) {
	sample := handofftest.Sample("p1")
	d := mint(nil, sample, handofftest.Noon)
	if d.Refusal != nil || !slices.Equal(types(d.Events), []EventType{EventDispatched}) {
		t.Fatalf("%+v", d)
	}
	minted := Replay(Seed(d.Events[0].Grant, sample, CodeState{Secret: secret(t)}), d.Events)
	if minted.ID.Generation != 1 || minted.Status != Active || !minted.CodeRequired() || minted.CurrentCode().IsZero() {
		t.Errorf("%+v", minted)
	}
	later := sample
	later.Day = sample.Day.Next()
	other, changed := sample, sample
	other.Shop = handofftest.Other
	passed := handofftest.Policy()
	handofftest.PassOn(passed)
	changed.Order = "302-7654321"
	for status := Active; status <= Held; status++ {
		g := minted
		g.Status = status
		for _, now := range []time.Time{handofftest.Noon, handofftest.Noon.AddDate(1, 0, 0)} {
			if d := mint(&g, sample, now); d.Refusal != nil || len(d.Events) != 0 {
				t.Errorf("the same again in %v: %+v", status, d)
			}
		}
		if d := mint(&g, other, handofftest.Noon); reasonOf(d) != ParcelNotAllowed || len(d.Events) != 0 {
			t.Errorf("by a shop without a claim in %v: %+v", status, d)
		}
		if d := mintBy(passed, &g, other, handofftest.Noon); reasonOf(d) != DispatchConflict || !slices.Equal(types(d.Events), []EventType{EventContested}) {
			t.Errorf("by another shop in %v: %+v", status, d)
		} else {
			after, want := Replay(g, d.Events), g
			want.Contested = true
			if !reflect.DeepEqual(after, want) {
				t.Errorf("contested in %v: %+v", status, after)
			}
			if d := mintBy(passed, &after, other, handofftest.Noon); reasonOf(d) != DispatchConflict || len(d.Events) != 0 {
				t.Errorf("contested again in %v: %+v", status, d)
			}
		}
		if d := mint(&g, changed, handofftest.Noon); reasonOf(d) != DispatchConflict || len(d.Events) != 0 {
			t.Errorf("changed in %v: %+v", status, d)
		}
		// Once it is known that the dispatch made none of the parcel's grants, one that was recalled
		// makes room for it on its own day.
		anew := Decide(&g, Command{Act: Mint, Parcel: minted.ID.Hash, Dispatch: &changed, Unmade: 1}, Facts{Policy: handofftest.Policy()}, handofftest.Noon)
		if made := anew.Refusal == nil && len(anew.Events) == 1 && anew.Events[0].Grant.Generation == 2; made != (status == Recalled) {
			t.Errorf("changed and known to be new in %v: %+v", status, anew)
		}
		last := g
		last.ID.Generation = 100
		if d := mint(&last, later, handofftest.Noon); reasonOf(d) != DispatchConflict {
			t.Errorf("after 100 generations in %v: %+v", status, d)
		}
		d := mint(&g, later, handofftest.Noon)
		switch status {
		case Active, Held:
			if reasonOf(d) != DispatchConflict || len(d.Events) != 0 {
				t.Errorf("a later day in %v: %+v", status, d)
			}
		default:
			if d.Refusal != nil || len(d.Events) != 1 || d.Events[0].Grant.Generation != 2 {
				t.Errorf("a later day in %v: %+v", status, d)
			}
		}
	}
	moved := minted
	moved.Status, moved.Moved = Recalled, &Move{Day: later.Day}
	if d := mint(&moved, later, handofftest.Noon); reasonOf(d) != DispatchConflict {
		t.Errorf("not later than the day it was moved to: %+v", d)
	}
}

func TestMintRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Dispatch)
		want  Reason
	}{
		"tomorrow":             {func(d *Dispatch) { d.Day = d.Day.Next() }, ""},
		"yesterday":            {func(d *Dispatch) { d.Day.Day-- }, WindowOver},
		"an unknown zone":      {func(d *Dispatch) { d.To.Zone = "Mars/Olympus" }, ZoneUnknown},
		"no zone":              {func(d *Dispatch) { d.To.Zone = "" }, ZoneUnknown},
		"a day that never was": {func(d *Dispatch) { d.To.Zone, d.Day = "Pacific/Apia", Date{Year: 2011, Month: 12, Day: 30} }, DayUnknown},
		"an unknown carrier":   {func(d *Dispatch) { d.Carrier = "nobody" }, CarrierNotEnabled},
		"an unknown shop":      {func(d *Dispatch) { d.Shop = "nobody" }, CarrierNotEnabled},
		"a locker":             {func(d *Dispatch) { d.To.Kind = Locker }, DestinationNotAllowed},
		"a PO box":             {func(d *Dispatch) { d.To.Kind = POBox }, DestinationNotAllowed},
		"a locker, cheap":      {func(d *Dispatch) { d.To.Kind, d.Value.Amount = Locker, "149.99" }, ""},
		"no kind":              {func(d *Dispatch) { d.To.Kind = 0 }, DestinationNotAllowed},
		"a kind of tomorrow":   {func(d *Dispatch) { d.To.Kind = 99 }, DestinationNotAllowed},
		"no purpose":           {func(d *Dispatch) { d.Purpose = 0 }, UnknownAct},
	} {
		sample := handofftest.Sample("p1")
		c.spoil(&sample)
		if d := mint(nil, sample, handofftest.Noon); reasonOf(d) != c.want || (c.want == "") != (len(d.Events) == 1) {
			t.Errorf("%s: %+v, want %q", name, d, c.want)
		}
	}
}

func TestAReturnIsCollectedWithoutACode(t *testing.T) {
	sample := handofftest.Sample("p1")
	sample.Purpose = PurposeReturn
	d := mint(nil, sample, handofftest.Noon)
	if d.Refusal != nil || len(d.Events) != 1 {
		t.Fatalf("%+v", d)
	}
	want := Right{Act: Collect, Target: Parcel, Proofs: Proofs(atTheDoor...), Uses: 1}
	if e := d.Events[0]; e.Rights[0] != want || e.Issue != 0 {
		t.Errorf("%+v", e)
	}
}

// What is excused is no guess: a slip of the code that counts, or a superseded code. A
// slip of a superseded code is a guess, since who knows that code could make five of
// them a parcel. The caller is told the same whichever it is.
func TestWhatIsExcused(t *testing.T) {
	r := rows()[0]
	slips, guesses := 0, 0
	issued := r.scene(t).grant
	current, before := issued.CurrentCode(), handofftest.CodeAt(issued, 1)
	for n := range 1_000_000 {
		said, err := otp.Parse(fmt.Sprintf("%06d", n))
		if err != nil {
			t.Fatal(err)
		}
		if n%1000 != 0 && !current.Slip(said) && !before.Slip(said) { // a thousand others are enough
			continue
		}
		s := r.scene(t)
		s.cmd.Evidence.Code = said
		d := s.decide()
		if d.Refusal == nil || d.Refusal.Reason != CodeMismatch || d.Refusal.AttemptsLeft != 4 || len(d.Events) != 1 || d.Verdict != r.verdict(&flaw{proof: ProofCode, result: Failed}) {
			t.Fatalf("%06d: %+v", n, d)
		}
		if d.Events[0].Excused != current.Slip(said) {
			t.Fatalf("%06d: excused %v", n, d.Events[0].Excused)
		}
		if d.Events[0].Excused {
			slips++
		} else {
			guesses++
		}
		if after := Apply(*s.grant, d.Events[0]); after.Code.Wrong != 1 || after.Code.TotalWrong != 1 {
			t.Fatalf("%06d: the code's own limits know no excuse: %+v", n, after.Code)
		}
	}
	if slips < 54 || slips > 59 || guesses < 1000 {
		t.Errorf("%d slips, %d guesses", slips, guesses)
	}
	for _, counter := range []uint64{1, 2} {
		s := r.scene(t)
		s.cmd.Evidence.Code = handofftest.CodeAt(s.grant, counter)
		if d := s.decide(); reasonOf(d) != CodeSuperseded || !d.Events[0].Excused {
			t.Errorf("superseded code %d: %+v", counter, d)
		}
	}
}
