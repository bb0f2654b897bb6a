package handoff_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// Each handoff of several parcels has a receipt of its own, whose number never becomes another's,
// also where one was taken back.
func TestReceiptsOfSeveralParcels(t *testing.T) {
	d := threeParcels()
	g := Apply(Seed(GrantID{Hash: "9f1c02a7d54be3809f1c02a7", Generation: 1}, d, CodeState{Secret: secret(t)}),
		Event{Type: EventDispatched, Window: &Window{}, Parcels: d.Parcels(), Issue: 1})
	at := func(minute int) Instant { return InstantOf(handofftest.Noon.Add(time.Duration(minute) * time.Minute)) }
	release := func(minute int, parcels ...string) {
		g = Apply(g, Event{Type: EventReleased, At: at(minute), Courier: "cou_7", Parcels: parcels})
	}
	release(1, "p1")
	release(2, "p2")
	first, second := g.ReceiptOf(at(1), []string{"p1"}), g.ReceiptOf(at(2), []string{"p2"})
	if first.Number != 1 || second.Number != 2 {
		t.Fatalf("%v %v", first, second)
	}
	g = Apply(g, Event{Type: EventAborted, At: at(3), Parcels: []string{"p2"}, Issue: 2})
	if _, err := g.Receipt(2); !errors.Is(err, ErrTakenBack) {
		t.Errorf("the second, taken back: %v", err)
	}
	if got := g.ReceiptOf(at(2), []string{"p2"}); got != second {
		t.Errorf("a repeated answer names %v, want %v", got, second)
	}
	release(4, "p3", "p2")
	g = Apply(g, Event{Type: EventScrubbed, At: at(5), Digest: []byte("digest")})
	for number, want := range map[int][]string{1: {"p1"}, 3: {"p3", "p2"}} {
		if r, err := g.Receipt(number); err != nil || !slices.Equal(r.Parcels, want) || r.ID.Number != number {
			t.Errorf("receipt %d is %+v: %v", number, r, err)
		}
	}
	for number, want := range map[int]error{0: ErrNoReceipt, 2: ErrTakenBack, 4: ErrNoReceipt} {
		if _, err := g.Receipt(number); !errors.Is(err, want) {
			t.Errorf("receipt %d: %v, want %v", number, err, want)
		}
	}
}

// A release by hand has a receipt; what a carrier accounted for after a restore has none. A door
// that reported on the way stands in it, one that said nothing and one of later do not.
func TestWhatAReceiptRestsOn(t *testing.T) {
	noon := InstantOf(handofftest.Noon)
	made := func(e Event) Grant {
		g := Seed(GrantID{Hash: "9f1c02a7d54be3809f1c02a7", Generation: 1}, handofftest.Sample("P1"), CodeState{})
		g = Apply(g, Event{Type: EventDispatched, Window: &Window{}})
		for i, door := range []string{"gate", "lobby", "later"} {
			p := PermitID{byte(i + 1)}
			when := noon - 60
			if door == "later" {
				when = noon + 60
			}
			g = Apply(g, Event{Type: EventPermitted, At: when, Door: door, Target: Lobby, Permit: p})
			if door != "gate" {
				g = Apply(g, Event{Type: EventDoorOpened, At: when, Door: door, Target: Lobby, Permit: p})
			}
		}
		return Apply(g, e)
	}
	byHand := made(Event{Type: EventOverridden, At: noon})
	r, err := byHand.Receipt(1)
	if err != nil || r.Courier != "" || r.Placed || r.CodeIssue != 0 {
		t.Errorf("by hand: %+v %v", r, err)
	}
	if len(r.Doors) != 1 || r.Doors[0].Door != "lobby" {
		t.Errorf("the doors are %+v", r.Doors)
	}
	doubted := made(Event{Type: EventDistrusted, At: noon - 1})
	accounted := Apply(doubted, Event{Type: EventAccounted, At: noon})
	if _, err := accounted.Receipt(1); !errors.Is(err, ErrNoReceipt) {
		t.Errorf("accounted for: %v", err)
	}
}

// An id is read in one form only.
func TestReceiptIDs(t *testing.T) {
	id := ReceiptID{Grant: GrantID{Hash: "9f1c02a7d54be3809f1c02a7", Generation: 1}, Number: 2}
	if got, err := ParseReceiptID(id.String()); err != nil || got != id || CheckID(id.String()) != nil {
		t.Errorf("%s: %v %v", id, got, err)
	}
	for _, bad := range []string{"", "-h1", "9f1c02a7d54be3809f1c02a7-1", id.String() + "x", "9f1c02a7d54be3809f1c02a7-1-h0", "9f1c02a7d54be3809f1c02a7-1-h01", "9f1c02a7d54be3809f1c02a7-1-h+1", "9f1c02a7d54be3809f1c02a7-1-h999"} {
		if _, err := ParseReceiptID(bad); !errors.Is(err, ErrReceiptID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
