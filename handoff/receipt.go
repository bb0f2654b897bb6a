package handoff

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// ReceiptID names the receipt of one handoff: the grant, and which of its handoffs, counted from
// 1, those included that were taken back. Nothing is stored by it.
type ReceiptID struct {
	Grant  GrantID
	Number int
}

// ErrReceiptID says that a text is not a receipt id of ours.
var ErrReceiptID = errors.New("is not a receipt id")

// receiptMark stands between the grant and the number.
const receiptMark = "-h"

// ParseReceiptID reads what String writes, and nothing else. The error is ErrReceiptID.
func ParseReceiptID(text string) (ReceiptID, error) {
	grant, number, ok := strings.Cut(text, receiptMark)
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || err != nil {
		return ReceiptID{}, ErrReceiptID
	}
	g, err := ParseGrantID(grant)
	id := ReceiptID{Grant: g, Number: int(n)}
	if err != nil || n == 0 || id.String() != text {
		return ReceiptID{}, ErrReceiptID
	}
	return id, nil
}

// String is the id as callers see it, such as 9f1c02a7d54be3809f1c02a7-1-h1; empty for none.
func (id ReceiptID) String() string {
	if id == (ReceiptID{}) {
		return ""
	}
	return id.Grant.String() + receiptMark + strconv.Itoa(id.Number)
}

// takenBack is the number of the handoff that was taken back; 0 if none was.
func (g *Grant) takenBack() int {
	if !g.Aborted {
		return 0
	}
	return max(1, g.AbortedLater)
}

// numberOf is the number of the i-th of the standing handoffs, i from 0.
func (g *Grant) numberOf(i int) int {
	if back := g.takenBack(); back != 0 && i+1 >= back {
		return i + 2
	}
	return i + 1
}

// ReceiptOf names the receipt of a handoff that was made at a moment, of these parcels (nil
// for the grant's one). It names the one that was taken back where none that stands is meant.
func (g *Grant) ReceiptOf(at Instant, parcels []string) ReceiptID {
	same := func(have []string) bool {
		return g.Group == nil || len(have) == len(parcels) && !slices.ContainsFunc(have, func(p string) bool { return !slices.Contains(parcels, p) })
	}
	for i, h := range g.Handoffs() {
		if h.At == at && same(h.Parcels) {
			return ReceiptID{Grant: g.ID, Number: g.numberOf(i)}
		}
	}
	if back := g.takenBack(); back != 0 {
		return ReceiptID{Grant: g.ID, Number: back}
	}
	return ReceiptID{}
}

// Receipt is what is on record of one standing handoff. It names no customer, and no address.
type Receipt struct {
	ID        ReceiptID
	Shop      string
	Carrier   string
	Purpose   Purpose
	Parcels   []string
	At        Instant
	Placed    bool   // whether a place was asked for
	Distance  int    // meters from the address, rounded to ten; 0 where no place was asked for
	Courier   string // the courier's id; empty: two people of the shop released it by hand
	CodeIssue uint64 // the HOTP counter of the code that counted; 0 where none was asked for
	Doors     []Unlock
}

// Why a handoff has no receipt.
var (
	ErrNoReceipt = errors.New("there is no receipt of such a handoff")
	ErrTakenBack = errors.New("the handoff was taken back")
)

// Receipt is the receipt of the handoff of a number. The error is ErrTakenBack for one that was
// taken back, and ErrNoReceipt for one that never was, or that a carrier accounted for after a
// restore: of that the service saw nothing.
func (g *Grant) Receipt(number int) (Receipt, error) {
	if number == g.takenBack() && number != 0 {
		return Receipt{}, ErrTakenBack
	}
	handoffs := g.Handoffs()
	for i := range handoffs {
		if g.numberOf(i) != number {
			continue
		}
		h, after := &handoffs[i], g.Window.From
		if h.Courier == "" && !g.overridden(h) {
			break
		}
		if i > 0 {
			after = handoffs[i-1].At
		}
		r := Receipt{
			ID: ReceiptID{Grant: g.ID, Number: number}, Shop: g.Dispatch.Shop, Carrier: g.Dispatch.Carrier, Purpose: g.Dispatch.Purpose,
			Parcels: slices.Clone(h.Parcels), At: h.At, Courier: h.Courier, CodeIssue: g.IssueOf(h),
		}
		if g.Group == nil {
			r.Parcels = []string{g.Dispatch.Parcel}
		}
		right := g.Right(g.Dispatch.Purpose.Act(), Parcel)
		if r.Placed = h.Courier != "" && right != nil && right.Proofs.Has(ProofPlace); r.Placed {
			r.Distance = h.Distance
		}
		for _, u := range g.Unlocks {
			if u.Said != 0 && u.State != DoorSilent && u.At >= after && u.At <= h.At {
				r.Doors = append(r.Doors, u)
			}
		}
		return r, nil
	}
	return Receipt{}, ErrNoReceipt
}

// overridden reports whether two people of the shop made the handoff, as the history has it.
func (g *Grant) overridden(h *Handoff) bool {
	return slices.ContainsFunc(g.History, func(e HistoryEntry) bool { return e.Type == EventOverridden && e.At == h.At })
}

// MayHaveReceipt reports whether a receipt is this actor's to have: who took part in the handoff,
// the carrier and the operator. To others it does not exist.
func (a Actor) MayHaveReceipt(g *Grant, r *Receipt) bool {
	if a.Role == RoleCarrier || a.Role == RoleCourier {
		return a.Carrier == g.Dispatch.Carrier && (a.Role == RoleCarrier || r.Courier != "" && a.Courier == r.Courier)
	}
	return a.May(g)
}
