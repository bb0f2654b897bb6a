package handoff_test

import (
	"slices"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// asOps asks something of a grant as the operator.
func asOps(g *Grant, act Act, dispatch *Dispatch) Decision {
	return Decide(g, Command{Act: act, By: Actor{Role: RoleOps}, Dispatch: dispatch}, Facts{Policy: handofftest.Policy()}, handofftest.Noon.Add(time.Hour))
}

// doubted is a grant whose store was put back.
func doubted(t *testing.T) Grant {
	t.Helper()
	d := mint(nil, handofftest.Sample("p1"), handofftest.Noon)
	g := Replay(Seed(d.Events[0].Grant, handofftest.Sample("p1"), CodeState{Secret: secret(t)}), d.Events)
	g.Consents = []TargetKind{Home}
	g.Code.Wrong, g.Code.TotalWrong = 5, 7
	return Replay(g, asOps(&g, Distrust, nil).Events)
}

func why(d Decision) Reason {
	if d.Refusal == nil {
		return ""
	}
	return d.Refusal.Reason
}

// A grant in doubt is held, asks its customer anew for consent, and goes on by the same
// dispatch alone: not by a lift, nor by one that names another address.
func TestDoubtEndsByTheDispatchAlone(t *testing.T) {
	g := doubted(t)
	if g.Status != Held || g.Doubt == nil || g.Doubt.From != Active || g.Consents != nil {
		t.Fatalf("in doubt it is %v, %+v, with consents %v", g.Status, g.Doubt, g.Consents)
	}
	same, moved := handofftest.Sample("p1"), handofftest.Sample("p1")
	moved.To.Lines = []string{"Somewhere else 1"}
	for name, c := range map[string]struct {
		act      Act
		dispatch *Dispatch
		want     Reason
	}{
		"a lift":               {Lift, nil, NotConfirmed},
		"no dispatch":          {Confirm, nil, DispatchConflict},
		"another address":      {Confirm, &moved, DispatchConflict},
		"handed over, another": {AccountFor, &moved, DispatchConflict},
		"a new code":           {Reissue, nil, GrantUnknown},
	} {
		if d := asOps(&g, c.act, c.dispatch); why(d) != c.want || len(d.Events) > 0 {
			t.Errorf("%s: %q with %v, want %q", name, why(d), d.Events, c.want)
		}
	}
	for _, role := range []Role{RoleShop, RoleCustomer, RoleService} {
		d := Decide(&g, Command{Act: Confirm, By: Actor{Role: role, Shop: handofftest.Shop, Customer: "cus_81", Person: true}, Dispatch: &same}, Facts{Policy: handofftest.Policy()}, handofftest.Noon)
		if why(d) != GrantUnknown {
			t.Errorf("%s confirms: %q", role, why(d))
		}
	}
	if d := asOps(&g, Distrust, nil); d.Refusal != nil || len(d.Events) > 0 {
		t.Errorf("doubted twice: %v, %v", d.Refusal, d.Events)
	}

	d := asOps(&g, Confirm, &same)
	after := Replay(g, d.Events)
	if d.Refusal != nil || after.Status != Active || after.Doubt != nil || !slices.Equal(after.Code.Issued, []uint64{2}) {
		t.Errorf("confirmed: %v, %v, codes %v", d.Refusal, after.Status, after.Code.Issued)
	}
	if after.Code.Wrong != 0 || after.Code.TotalWrong != 7 {
		t.Errorf("wrong codes of the new one %d, in the grant's life %d", after.Code.Wrong, after.Code.TotalWrong)
	}
}

// What the carrier says was handed over is over, whoever held it before.
func TestDoubtEndsByTheCarriersList(t *testing.T) {
	g := doubted(t)
	same := handofftest.Sample("p1")
	after := Replay(g, asOps(&g, AccountFor, &same).Events)
	if after.Status != Released || after.Doubt != nil || after.Handoff == nil || after.Handoff.Courier != "" || after.ClosedAt == 0 || after.Right(Release, Parcel).Uses != 0 {
		t.Errorf("%v, %+v, uses %d", after.Status, after.Handoff, after.Right(Release, Parcel).Uses)
	}
	g.Doubt = nil
	if d := asOps(&g, AccountFor, &same); why(d) != WrongStatus {
		t.Errorf("without a doubt: %q", why(d))
	}
}

// A dispute that was open stays open: the doubt ends, and the hold does not.
func TestDoubtKeepsAHold(t *testing.T) {
	g := doubted(t)
	g.Doubt = nil
	g.Status, g.HeldFrom = Held, Released
	g = Replay(g, asOps(&g, Distrust, nil).Events)
	same := handofftest.Sample("p1")
	if d := asOps(&g, SettleDispute, nil); why(d) != NotConfirmed {
		t.Errorf("a ruling in doubt: %q", why(d))
	}
	over := Replay(g, asOps(&g, AccountFor, &same).Events)
	if over.Status != Held || over.HeldFrom != Released || over.Doubt != nil {
		t.Errorf("handed over: %v from %v, %+v", over.Status, over.HeldFrom, over.Doubt)
	}
	g = Replay(g, asOps(&g, Confirm, &same).Events)
	if g.Status != Held || g.HeldFrom != Released || g.Doubt != nil {
		t.Errorf("%v from %v, %+v", g.Status, g.HeldFrom, g.Doubt)
	}
}

// Only what may still hand over a parcel is doubted.
func TestDoubtOfWhatIsOver(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*Grant)
		want bool
	}{
		"a release that can be taken back": {func(g *Grant) {
			g.Status, g.Handoff = Released, &Handoff{Courier: "c1", At: InstantOf(handofftest.Noon.Add(55 * time.Minute))}
		}, true},
		"a release that cannot": {func(g *Grant) {
			g.Status, g.Handoff = Released, &Handoff{Courier: "c1", At: InstantOf(handofftest.Noon)}
		}, false},
		"what expired":        {func(g *Grant) { g.Status = Expired }, true},
		"what was scrubbed":   {func(g *Grant) { g.Status, g.Scrubbed = Expired, []byte{1} }, false},
		"what is being moved": {func(g *Grant) { g.Status = Active }, true},
	} {
		d := mint(nil, handofftest.Sample("p1"), handofftest.Noon)
		g := Replay(Seed(d.Events[0].Grant, handofftest.Sample("p1"), CodeState{Secret: secret(t)}), d.Events)
		c.set(&g)
		asked := asOps(&g, Distrust, nil)
		if asked.Refusal != nil || (len(asked.Events) == 1) != c.want {
			t.Errorf("%s: %v, %v", name, asked.Refusal, asked.Events)
		}
	}
}
