package handofftest

import (
	"context"
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/otp"
)

// modelPieces are the parcels that the model dispatches together, in ever other company.
var modelPieces = []string{"s0", "s1", "s2", "s3", "s4", "s5"}

// party is the book of one grant of several parcels.
type party struct {
	id       handoff.GrantID
	dispatch handoff.Dispatch
	there    []string
	handed   []handed // the standing handoffs, oldest first
	recalled []string
	aborted  bool
	disputed disputed
	codes    []otp.Code // given out; the last counts
}

// handed is one handoff of some of several parcels.
type handed struct {
	courier  string
	at       handoff.Instant
	parcels  []string
	disputed bool
}

// dispatchSeveral sends two or three parcels, of which some may be part of another grant.
func (m *model) dispatchSeveral(t *rapid.T) {
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(modelPieces), 2, 3, rapid.ID[string]).Draw(t, "parcels")
	d := Sample(ids[0])
	d.Day, d.Together = m.today().plus(rapid.IntRange(0, 1).Draw(t, "days")), &handoff.Together{AllOrNothing: rapid.IntRange(0, 5).Draw(t, "all") == 0}
	for _, id := range ids[1:] {
		d.Together.More = append(d.Together.More, handoff.Piece{Parcel: id})
	}
	free, taken := true, ""
	for _, id := range ids {
		p := m.parties[id]
		free = free && p == nil
		// The day is over at midnight, and with it the grant: no sweeper need have been there.
		if p != nil && slices.Contains(p.there, id) && (p.disputed == disputeOpen || !m.today().After(p.dispatch.Day)) {
			taken = id
		}
	}
	g, created, err := m.Service.Dispatch(context.Background(), d)
	fresh := slices.DeleteFunc(m.fresh(t), func(e handoff.Event) bool { return e.Type == handoff.EventExpired })
	switch {
	case err == nil && created:
		m.expect(t, fresh, handoff.EventDispatched, "dispatch of several")
		if taken != "" {
			t.Fatalf("%s of %s is still to come, and was dispatched as %s", taken, m.parties[taken].id, g.ID)
		}
		p := &party{id: g.ID, dispatch: g.Dispatch, there: g.Dispatch.Parcels(), codes: []otp.Code{g.CurrentCode()}}
		for _, id := range p.there {
			m.parties[id] = p
		}
	case err == nil:
		m.expect(t, fresh, 0, "dispatch of several again")
		slices.Sort(ids)
		if !slices.Equal(g.Dispatch.Parcels(), ids) {
			t.Fatalf("%v were answered by the grant of %v", ids, g.Dispatch.Parcels())
		}
	default:
		m.refused(t, fresh, err, "dispatch of several")
		if free && !errors.Is(err, storage.ErrUnavailable) {
			t.Fatalf("%v, which no grant names: %v", ids, err)
		}
	}
}

// party is one that the model knows, by one of its parcels; nil while there is none.
func (m *model) party(t *rapid.T) (*party, string) {
	id := pick(t, "parcel", modelPieces)
	return m.parties[id], id
}

// verifySeveral is a courier with one or more parcels before the door, now and then with one of
// another grant among them, or with a code that was superseded.
func (m *model) verifySeveral(t *rapid.T) {
	p, id := m.party(t)
	if p == nil {
		return
	}
	scanned := []string{id}
	for _, other := range modelPieces {
		of := m.parties[other] == p
		if other != id && (of && rapid.Bool().Draw(t, "scan") || !of && rapid.IntRange(0, 14).Draw(t, "a foreign one") == 0) {
			scanned = append(scanned, other)
		}
	}
	driver := m.drivers[service.RouteRef{Carrier: Carrier, Route: p.dispatch.Route, Day: p.dispatch.Day}]
	ask := AtDoor(driver, id, p.codes[len(p.codes)-1])
	if ask.Parcels = scanned; rapid.IntRange(0, 5).Draw(t, "an older code") == 0 {
		ask.Code = pick(t, "code", p.codes)
	}
	foreign := slices.ContainsFunc(scanned, func(s string) bool { return m.parties[s] != p })
	gone := slices.ContainsFunc(scanned, func(s string) bool { return !slices.Contains(p.there, s) })
	left := slices.DeleteFunc(slices.Clone(p.there), func(s string) bool { return slices.Contains(scanned, s) })
	r, err := m.Service.Verify(context.Background(), ask)
	fresh := m.fresh(t)
	if err != nil {
		if counted := Count(fresh, handoff.EventCodeRefused); counted > 0 && (foreign || gone || ask.Code.Equal(p.codes[len(p.codes)-1])) {
			t.Fatalf("%v of %s: a try was counted: %v", scanned, p.id, err)
		} else if counted == 0 {
			m.refused(t, fresh, err, "verify of several")
		}
		if errors.Is(err, storage.ErrUnavailable) {
			m.unsure[driver] = append(m.unsure[driver], handoff.InstantOf(m.Clock.Now()))
		}
		return
	}
	m.expect(t, fresh, handoff.EventReleased, "verify of several")
	slices.Sort(scanned)
	all := p.dispatch.Together.AllOrNothing
	switch e := fresh[0]; {
	case foreign, gone, all && len(left) > 0, p.disputed == disputeOpen, !ask.Code.Equal(p.codes[len(p.codes)-1]):
		t.Fatalf("%v of %s were handed over: foreign %v, gone %v, left %v of all or nothing %v, dispute %v, the newest code %v",
			scanned, p.id, foreign, gone, left, all, p.disputed, ask.Code.Equal(p.codes[len(p.codes)-1]))
	case e.Grant != p.id || r.Grant != p.id || !slices.Equal(e.Parcels, scanned) || !slices.Equal(r.Parcels, scanned) || e.Left != len(left) || !slices.Equal(r.Left, left):
		t.Fatalf("%v of %s: %+v and %+v, with %v left", scanned, p.id, e, r, left)
	case (e.Issue != 0) != (len(left) > 0):
		t.Fatalf("%v of %s, with %v left, gave out the code %d", scanned, p.id, left, e.Issue)
	}
	p.there, p.handed = left, append(p.handed, handed{courier: driver, at: fresh[0].At, parcels: scanned})
	p.disputed = 0
	m.newCode(t, p, len(left) > 0)
}

// newCode notes the code that an event gave out.
func (m *model) newCode(t *rapid.T, p *party, given bool) {
	g := m.grantOf(t, p.id)
	if code := g.CurrentCode(); !code.Equal(p.codes[len(p.codes)-1]) != given {
		t.Fatalf("%s: another code was given out: %v, want %v", p.id, !given, given)
	} else if given {
		p.codes = append(p.codes, code)
	}
}

func (m *model) grantOf(t *rapid.T, id handoff.GrantID) handoff.Grant {
	snap, err := m.Core.Load(context.Background(), service.Query{Parcel: id.Hash, Generation: id.Generation})
	if err != nil || snap.Record == nil {
		t.Fatalf("%s: %v", id, err)
	}
	return snap.Record.Grant
}

// abortSeveral takes the newest handoff back, by any parcel.
func (m *model) abortSeveral(t *rapid.T) {
	p, id := m.party(t)
	if p == nil {
		return
	}
	who := pick(t, "courier", modelCouriers)
	if n := len(p.handed); n > 0 && rapid.Bool().Draw(t, "who handed it over") {
		who, id = p.handed[n-1].courier, pick(t, "of the handoff", p.handed[n-1].parcels)
		if m.parties[id] != p { // dispatched anew
			return
		}
	}
	r, err := m.Service.Abort(context.Background(), AtDoor(who, id, otp.Code{}))
	fresh := m.fresh(t)
	if err != nil {
		m.refused(t, fresh, err, "abort of several")
		return
	}
	m.expect(t, fresh, handoff.EventAborted, "abort of several")
	n := len(p.handed)
	if n == 0 || p.aborted || p.disputed == disputeOpen || p.handed[n-1].courier != who || !slices.Contains(p.handed[n-1].parcels, id) ||
		fresh[0].At-p.handed[n-1].at > 600 || !slices.Equal(fresh[0].Parcels, p.handed[n-1].parcels) || r.Status != handoff.Active {
		t.Fatalf("%s by %s took back %+v of %+v", id, who, fresh[0], p)
	}
	p.there = append(p.there, p.handed[n-1].parcels...)
	slices.Sort(p.there)
	p.handed, p.aborted, p.disputed = p.handed[:n-1], true, 0
	m.newCode(t, p, true)
}

// recallSome calls one or two parcels back.
func (m *model) recallSome(t *rapid.T) {
	p, id := m.party(t)
	if p == nil {
		return
	}
	ids := []string{id}
	if rapid.Bool().Draw(t, "two") {
		ids = append(ids, pick(t, "other", p.dispatch.Parcels()))
	}
	possible := !slices.ContainsFunc(ids, func(s string) bool { return !slices.Contains(p.there, s) }) && p.disputed != disputeOpen && !m.today().After(p.dispatch.Day)
	_, err := m.Service.RecallSome(context.Background(), handoff.Actor{Role: handoff.RoleShop, Shop: p.dispatch.Shop}, p.id, ids, "wrong")
	fresh := m.fresh(t)
	if (err == nil) != possible && !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("recall of %v of %+v: %v", ids, p, err)
	}
	if err != nil {
		m.refused(t, fresh, err, "recall of some")
		return
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	p.there = slices.DeleteFunc(p.there, func(s string) bool { return slices.Contains(ids, s) })
	p.recalled = append(p.recalled, ids...)
	want := handoff.EventPartRecalled
	if len(p.there) == 0 && len(p.handed) == 0 {
		want = handoff.EventRecalled
	}
	m.expect(t, fresh, want, "recall of some")
	m.newCode(t, p, false)
}

// disputeSeveral is the customer's word against what was handed over of several parcels.
func (m *model) disputeSeveral(t *rapid.T) {
	p, _ := m.party(t)
	if p == nil {
		return
	}
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: p.dispatch.Shop, Customer: p.dispatch.Customer.ID, Subject: "ada", Person: true}
	n, ctx := len(p.handed), context.Background()
	if p.disputed == disputeOpen {
		if _, err := m.Service.WithdrawDispute(ctx, by, p.id); err == nil {
			p.disputed = disputeOver
		}
		m.fresh(t)
		return
	}
	possible := n > 0 && !p.handed[n-1].disputed
	_, err := m.Service.Dispute(ctx, by, p.id, "I was not at home")
	fresh := m.fresh(t)
	switch {
	case err == nil && !possible, err != nil && possible && !errors.Is(err, storage.ErrUnavailable) && !m.archived(t, p):
		t.Fatalf("dispute of %+v: %v", p, err)
	case err != nil:
		m.refused(t, fresh, err, "dispute of several")
		return
	}
	m.expect(t, fresh, handoff.EventDisputed, "dispute of several")
	p.disputed = disputeOpen
	for i := range p.handed {
		p.handed[i].disputed = true
	}
}

// archived reports whether a later generation followed the grant.
func (m *model) archived(t *rapid.T, p *party) bool {
	snap, err := m.Core.Load(context.Background(), service.Query{Parcel: p.id.Hash, Generation: p.id.Generation})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return snap.Archived
}

// books of several holds each grant to its book: what was dispatched is there, handed over or
// recalled, and each parcel's key says the grant that may hand it over.
func (m *model) checkSeveral(t *rapid.T) {
	for id, p := range m.parties {
		g := m.grantOf(t, p.id)
		over := []string{}
		for _, h := range p.handed {
			over = append(over, h.parcels...)
		}
		if !slices.Equal(g.There(), p.there) || !slices.Equal(append([]string{}, g.HandedOver()...), over) || len(over)+len(p.there)+len(p.recalled) != len(p.dispatch.Parcels()) {
			t.Fatalf("%s: there %v, handed over %v; in the books %+v", p.id, g.There(), g.HandedOver(), p)
		}
		if len(p.there) == 0 && !m.archived(t, p) && g.Status == handoff.Active {
			t.Fatalf("%s is active, and nothing is there", p.id)
		}
		if at := m.Parcel(t, id); at.ID != p.id && !m.archived(t, p) {
			t.Fatalf("the key of %s says %s, and the books %s", id, at.ID, p.id)
		}
	}
}

// severalActs are the acts of the model on parcels that arrive together.
func (m *model) severalActs() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"dispatch several": m.dispatchSeveral,
		"verify several":   m.verifySeveral,
		"abort several":    m.abortSeveral,
		"recall some":      m.recallSome,
		"dispute several":  m.disputeSeveral,
		"afternoon": func(t *rapid.T) { // one delivery of several, in parts, within a few minutes
			m.dispatchSeveral(t)
			for range rapid.IntRange(1, 4).Draw(t, "parts") {
				m.verifySeveral(t)
				m.Clock.Advance(time.Minute)
			}
			m.abortSeveral(t)
		},
	}
}
