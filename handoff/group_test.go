package handoff_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// threeParcels is a dispatch of p1, p2 and p3.
func threeParcels() Dispatch {
	d := handofftest.Sample("p1")
	d.Together = &Together{More: []Piece{{Parcel: "p2"}, {Parcel: "p3"}}}
	return d
}

// several is a scene in which a courier holds p1, p2 and p3, of one grant, before the door, and
// scans the first. A purpose of 0 leaves the sample's.
func several(t testing.TB, act Act, purpose Purpose) *scene {
	t.Helper()
	s := row{act: act, target: Parcel, asks: Proofs(atTheDoor...) | Proofs(ProofCode)}.scene(t)
	if act == Collect {
		s = row{act: act, target: Parcel, asks: Proofs(atTheDoor...)}.scene(t)
	}
	d := threeParcels()
	if purpose != 0 {
		d.Purpose = purpose
	}
	g := Seed(s.grant.ID, d, CodeState{Secret: secret(t)})
	e := Event{Type: EventDispatched, Window: &s.grant.Window, Rights: s.grant.Rights, Parcels: d.Parcels()}
	if act == Release {
		e.Issue = 1
	}
	g = Apply(g, e)
	s.grant, s.cmd.Evidence.Code = &g, g.CurrentCode()
	s.facts.Pointed = []string{"p2", "p3"}
	return s
}

func (s *scene) scan(parcels ...string) {
	s.cmd.Evidence.Parcel, s.cmd.Evidence.Parcels = parcels[0], parcels
}

// happen does what is asked, and must be allowed; it returns the event that comes first.
func (s *scene) happen(t *testing.T) Event {
	t.Helper()
	d := s.decide()
	if d.Refusal != nil || len(d.Events) == 0 {
		t.Fatalf("%v of %v: %v", s.cmd.Act, s.cmd.Evidence.Parcels, d.Refusal)
	}
	for _, e := range d.Events {
		if stray := handofftest.StrayFields(e); stray != nil {
			t.Fatalf("%s sets %v", e.Type, stray)
		}
	}
	g := Replay(*s.grant, d.Events)
	s.grant = &g
	return d.Events[0]
}

// Exactly what was scanned is handed over. The others stay active, with a code that the
// courier did not hear, which costs no re-issue.
func TestAPartIsHandedOver(t *testing.T) {
	s := several(t, Release, 0)
	old := s.grant.CurrentCode()
	s.scan("p2", "p1")
	e := s.happen(t)
	if !slices.Equal(e.Parcels, []string{"p1", "p2"}) || e.Left != 1 || e.Issue == 0 {
		t.Errorf("the event: %+v", e)
	}
	g := s.grant
	if g.Status != Active || !slices.Equal(g.There(), []string{"p3"}) || !slices.Equal(g.HandedOver(), []string{"p1", "p2"}) || g.Code.Reissues != 0 {
		t.Fatalf("after a part: %v, %v there, %d reissues", g.Status, g.There(), g.Code.Reissues)
	}
	if g.CurrentCode().Equal(old) || g.Right(Release, Parcel).Uses != 1 {
		t.Error("the others have the old code, or no right")
	}
	if g.IssueOf(g.Handoff) != 1 {
		t.Errorf("the handoff was by the code %d, want 1", g.IssueOf(g.Handoff))
	}

	s.scan("p3")
	if d := s.decide(); why(d) != CodeSuperseded || d.Refusal.ReplacedAt == 0 {
		t.Errorf("the code that was heard: %v, replaced at %v", why(d), d.Refusal.ReplacedAt)
	}
	s.cmd.Evidence.Code = g.CurrentCode()
	for _, parcels := range [][]string{{"p1"}, {"p3", "p1"}} {
		s.scan(parcels...)
		if d := s.decide(); why(d) != AlreadyReleased || len(d.Events) != 0 {
			t.Errorf("%v once more: %v", parcels, why(d))
		}
	}
	s.scan("p3")
	if e := s.happen(t); e.Left != 0 || e.Issue != 0 || s.grant.Status != Released || len(s.grant.There()) != 0 || s.grant.ClosedAt == 0 || s.grant.Right(Release, Parcel).Uses != 0 {
		t.Errorf("the rest: %+v, then %v", e, s.grant.Status)
	}
	if len(s.grant.Handoffs()) != 2 || !slices.Equal(s.grant.Handoffs()[0].Parcels, []string{"p1", "p2"}) {
		t.Errorf("on record: %+v", s.grant.Handoffs())
	}
}

// What is not of the grant fails before the code is compared, and costs no try; so does a parcel
// whose key says another grant.
func TestAWrongParcelCostsNoTry(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"another parcel":           func(s *scene) { s.scan("p1", "p9") },
		"another parcel alone":     func(s *scene) { s.scan("p9") },
		"a key that says no grant": func(s *scene) { s.scan("p1", "p3"); s.facts.Pointed = []string{"p2"} },
	} {
		s := several(t, Release, 0)
		s.cmd.Evidence.Code = handofftest.WrongCode(s.grant, 1)
		change(s)
		d := s.decide()
		if why(d) != AccessRefused || d.Refusal.Verdict[ProofParcel] != Failed || d.Refusal.Verdict[ProofCode] != NotChecked || len(d.Events) != 0 {
			t.Errorf("%s: %v, %v", name, why(d), d.Refusal.Verdict.Named())
		}
	}
}

func TestAllOrNothing(t *testing.T) {
	s := several(t, Release, 0)
	s.grant.Group.AllOrNothing = true
	s.scan("p1", "p2")
	if d := s.decide(); why(d) != AllOrNothing || d.Refusal.Verdict[ProofCode] != NotChecked || len(d.Events) != 0 {
		t.Fatalf("two of three: %v", why(d))
	}
	recall := *s
	recall.cmd = Command{Act: Recall, By: Actor{Role: RoleShop, Shop: handofftest.Shop}, Parcels: []string{"p3"}}
	recall.happen(t)
	s.grant = recall.grant
	s.happen(t)
	if s.grant.Status != Released { // all that were still there
		t.Errorf("%v", s.grant.Status)
	}

	d := threeParcels()
	p := handofftest.Policy()
	for want, all := range map[bool][2]bool{true: {true, false}, false: {false, false}} {
		d.Together.AllOrNothing = all[0]
		if e := mintBy(p, nil, d, handofftest.Noon).Events[0]; e.AllOrNothing != want || !slices.Equal(e.Parcels, d.Parcels()) {
			t.Errorf("dispatched: %+v", e)
		}
	}
	shop := p.Shops[d.Shop]
	shop.AllOrNothing = true
	p.Shops[d.Shop] = shop
	if !mintBy(p, nil, d, handofftest.Noon).Events[0].AllOrNothing {
		t.Error("the shop's policy does not count")
	}
}

// An abort takes back the newest handoff, and no other, while a rest is there and when none is.
func TestAPartIsTakenBack(t *testing.T) {
	for _, rest := range []bool{true, false} {
		s := several(t, Release, 0)
		s.scan("p1")
		s.happen(t)
		s.cmd.Evidence.Code = s.grant.CurrentCode()
		if s.scan("p2"); !rest {
			s.scan("p2", "p3")
		}
		s.happen(t)
		before := *s.grant
		s.cmd.Act = Abort
		for _, other := range []string{"p1", "p9"} { // not of the newest
			s.scan(other)
			if d := s.decide(); why(d) != WrongStatus {
				t.Errorf("abort of %s: %v", other, why(d))
			}
		}
		s.scan("p2")
		e := s.happen(t)
		if e.Left != 2 || s.grant.Status != Active || !slices.Equal(s.grant.HandedOver(), []string{"p1"}) || s.grant.Right(Release, Parcel).Uses != 1 || s.grant.Code.Reissues != 1 {
			t.Errorf("rest %v: %+v, then %v, handed over %v", rest, e, s.grant.Status, s.grant.HandedOver())
		}
		if s.grant.CurrentCode().Equal(before.CurrentCode()) {
			t.Error("the code stayed")
		}
		s.scan("p1")
		if d := s.decide(); why(d) != AlreadyAborted {
			t.Errorf("a second abort: %v", why(d))
		}
	}
}

func TestSomeAreRecalled(t *testing.T) {
	s := several(t, Release, 0)
	code := s.grant.CurrentCode()
	order := func(parcels ...string) {
		s.cmd = Command{Act: Recall, By: Actor{Role: RoleShop, Shop: handofftest.Shop}, Parcels: parcels}
	}
	order("p9")
	if d := s.decide(); why(d) != ParcelUnknown {
		t.Errorf("a foreign parcel: %v", why(d))
	}
	order("p1")
	if e := s.happen(t); e.Type != EventPartRecalled || e.Left != 2 || s.grant.Status != Active || !s.grant.CurrentCode().Equal(code) {
		t.Errorf("%+v, then %v", e, s.grant.Status)
	}
	if d := s.decide(); why(d) != IsRecalled {
		t.Errorf("once more: %v", why(d))
	}
	courier := several(t, Release, 0)
	courier.grant = s.grant
	courier.scan("p1")
	if d := courier.decide(); why(d) != IsRecalled || len(d.Events) != 0 {
		t.Errorf("a recalled parcel at the door: %v", why(d))
	}
	all := *s
	all.cmd.Parcels = nil
	if e := all.happen(t); e.Type != EventRecalled || all.grant.Status != Recalled || len(all.grant.There()) != 0 {
		t.Errorf("the rest: %+v, then %v", e, all.grant.Status)
	}

	// Where some were handed over, the grant ends as handed over.
	courier.scan("p2")
	courier.happen(t)
	s.grant = courier.grant
	order()
	if e := s.happen(t); e.Type != EventPartRecalled || e.Left != 0 || s.grant.Status != Released || s.grant.ClosedAt == 0 {
		t.Errorf("the rest behind a handoff: %+v, then %v", e, s.grant.Status)
	}
}

// A dispute is of all that was handed over, also while a rest is there. The next handoff can be
// disputed for itself, and a handoff that comes back to be the newest not again.
func TestAPartIsDisputed(t *testing.T) {
	s := several(t, Release, 0)
	s.scan("p1")
	s.happen(t)
	customer := Actor{Role: RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81", Person: true}
	courier := s.cmd
	s.cmd = Command{Act: DisputeHandoff, By: customer}
	if e := s.happen(t); !slices.Equal(e.Parcels, []string{"p1"}) || e.Issue != 1 || s.grant.Status != Held {
		t.Fatalf("%+v, then %v", e, s.grant.Status)
	}
	s.cmd.Act = WithdrawDispute
	s.happen(t)
	s.cmd.Act = DisputeHandoff
	if d := s.decide(); s.grant.Status != Active || why(d) != AlreadyDisputed {
		t.Fatalf("the same handoff again, in %v: %v", s.grant.Status, why(d))
	}
	s.cmd = courier
	s.cmd.Evidence.Code = s.grant.CurrentCode()
	s.scan("p2")
	s.happen(t)
	again := *s
	again.cmd = Command{Act: DisputeHandoff, By: customer}
	if e := again.happen(t); !slices.Equal(e.Parcels, []string{"p1", "p2"}) || e.Issue != 2 {
		t.Errorf("the next handoff: %+v", e)
	}
	s.cmd.Act = Abort
	s.happen(t)
	s.cmd = Command{Act: DisputeHandoff, By: customer}
	if d := s.decide(); why(d) != AlreadyDisputed {
		t.Errorf("the first, when it is the newest again: %v", why(d))
	}
}

// The order of the parcels does not make another dispatch; what is in it does.
func TestSeveralParcelsAreOneDispatch(t *testing.T) {
	p := handofftest.Policy()
	read := func(ids ...string) Dispatch {
		d := handofftest.Sample(ids[0])
		d.Together = &Together{}
		for _, id := range ids[1:] {
			d.Together.More = append(d.Together.More, Piece{Parcel: id})
		}
		return d
	}
	a, b := read("p3", " p1", "p2"), read("p2", "p3", "p1")
	if p.Canonical(&a) != "" || p.Canonical(&b) != "" || a.Parcel != "p1" || !a.Equal(&b) || strings.Join(a.Parts(), " ") != strings.Join(b.Parts(), " ") {
		t.Errorf("%v and %v", a.Parcels(), b.Parcels())
	}
	for reason, d := range map[Reason]Dispatch{ParcelTwice: read("p1", "p2", "p 1"), ParcelMalformed: read("p1", "?")} {
		if got := p.Canonical(&d); got != reason {
			t.Errorf("%v, want %s", got, reason)
		}
	}
	one, alone := read("p1"), handofftest.Sample("p1")
	if p.Canonical(&one) != "" || !one.Equal(&alone) || one.Together != nil {
		t.Error("a list of one is not that one")
	}
	c := read("p1", "p2")
	if p.Canonical(&c); c.Equal(&a) {
		t.Error("two are three")
	}
	sealed := threeParcels()
	sealed.Together.Seal = "s1"
	if sealed.Equal(&a) {
		t.Error("a seal does not count")
	}
	if !reflect.DeepEqual(sealed.Pieces()[0], Piece{Parcel: "p1", Seal: "s1"}) {
		t.Errorf("%+v", sealed.Pieces())
	}
}

// Each parcel passes the check of prefixes, and of what stands at its own key, for itself.
func TestEachParcelIsCheckedForItself(t *testing.T) {
	d, noon := threeParcels(), handofftest.Noon
	d.Together.More[1].Parcel = "OTH7"
	if got := mint(nil, d, noon); why(got) != ParcelNotAllowed {
		t.Errorf("a parcel of another shop's prefix: %v", why(got))
	}

	d = threeParcels()
	later := d
	later.Day = d.Day.Next()
	stands := func(status Status, change func(*Grant)) *Grant {
		g := several(t, Release, 0).grant
		g.Dispatch.Parcel, g.Dispatch.Together.More[0].Parcel = "a1", "p2"
		g.Status = status
		if change != nil {
			change(g)
		}
		return g
	}
	for name, c := range map[string]struct {
		at    *Grant
		d     Dispatch
		want  Reason
		after time.Duration
	}{
		"nothing":                         {nil, d, "", 0},
		"still there":                     {stands(Active, nil), later, DispatchConflict, 0},
		"over by time, the same day":      {stands(Active, nil), d, DispatchConflict, 0},
		"over by time, a later day":       {stands(Active, nil), later, "", 24 * time.Hour},
		"handed over, the same day":       {stands(Active, func(g *Grant) { g.Handoff = &Handoff{Courier: "c1", Parcels: []string{"p2"}} }), d, DispatchConflict, 0},
		"handed over, a later day":        {stands(Active, func(g *Grant) { g.Handoff = &Handoff{Courier: "c1", Parcels: []string{"p2"}} }), later, "", 0},
		"another handed over":             {stands(Active, func(g *Grant) { g.Handoff = &Handoff{Courier: "c1", Parcels: []string{"p3"}} }), later, DispatchConflict, 0},
		"recalled, the same day":          {stands(Active, func(g *Grant) { g.Group.Recalled = []string{"p2"} }), d, "", 0},
		"handed over, and the grant held": {stands(Held, func(g *Grant) { g.Handoff = &Handoff{Courier: "c1", Parcels: []string{"p2"}} }), later, DispatchConflict, 0},
		"of another shop":                 {stands(Recalled, func(g *Grant) { g.Dispatch.Shop = "other" }), d, DispatchConflict, 0},
	} {
		facts := Facts{Policy: handofftest.Policy(), Beside: map[string]*Grant{}}
		if c.at != nil {
			facts.Beside["p2"] = c.at
		}
		cmd := Command{Act: Mint, Parcel: "000102030405060708090a0b", Dispatch: &c.d}
		if got := Decide(nil, cmd, facts, noon.Add(c.after)); why(got) != c.want {
			t.Errorf("%s: %q, want %q", name, why(got), c.want)
		}
	}
}
