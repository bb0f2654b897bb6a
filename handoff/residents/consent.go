package residents

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// boundFor is how long a door must have been its unit's before the unit's residents can be asked
// about it: who gives a door to another unit does not choose who is asked at once.
const boundFor = 48 * time.Hour

// Confirmers are who can confirm that a customer agrees to kinds of doors for a grant: the
// residents of the unit that all the customer's own doors of these kinds are bound to, whose
// address was confirmed and approved. Their addresses are never those of a dispatch. It is empty
// where a kind has no such door, a door has no unit or had another one in the last two days, or
// the doors are of several units.
func (d *Directory) Confirmers(ctx context.Context, g *handoff.Grant, kinds []handoff.TargetKind) ([]Resident, error) {
	building := g.Dispatch.To.Building
	unit, err := d.unitOf(ctx, g, kinds)
	if err != nil || unit == "" {
		return nil, err
	}
	all, err := d.store.Residents(ctx, building)
	if err != nil {
		return nil, err
	}
	now := d.clock.Now()
	return slices.DeleteFunc(all, func(r Resident) bool { return !r.mayConfirm(unit, now) }), nil
}

// mayConfirm reports whether the resident answers for a unit. Who is about to be removed does not.
func (r *Resident) mayConfirm(unit string, now time.Time) bool {
	return r.ID != handoff.ManagerID && r.Unit != "" && r.Hears(unit) && r.LeavesAt == 0 && !r.lapsed(now)
}

// unitOf is the one unit of a customer's own doors of some kinds, on the grant's way; empty if
// there is none.
func (d *Directory) unitOf(ctx context.Context, g *handoff.Grant, kinds []handoff.TargetKind) (string, error) {
	if g.Dispatch.To.Building == "" || len(kinds) == 0 {
		return "", nil
	}
	ids, err := d.registry.Doors(ctx, g.Dispatch.To.Building)
	if err != nil {
		return "", err
	}
	owner := handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID}
	since := handoff.InstantOf(d.clock.Now().Add(-boundFor))
	unit, found := "", map[handoff.TargetKind]bool{}
	for _, id := range ids {
		door, err := d.registry.Door(ctx, id)
		if err != nil {
			return "", err
		}
		if door == nil || door.BuildingID != g.Dispatch.To.Building || door.Owner == nil || *door.Owner != owner || !slices.Contains(kinds, door.Kind) {
			continue
		}
		bindings, err := d.registry.Bindings(ctx, id, since)
		if err != nil {
			return "", err
		}
		if unit == "" {
			unit = door.Unit
		}
		if door.Unit == "" || slices.ContainsFunc(bindings, func(b handoff.Binding) bool { return !handoff.SameUnit(b.Unit, unit) }) {
			return "", nil
		}
		found[door.Kind] = true
	}
	if slices.ContainsFunc(kinds, func(k handoff.TargetKind) bool { return !found[k] }) {
		return "", nil
	}
	return unit, nil
}

// ConsentLink is what the link in a mail to a confirmer says.
type ConsentLink struct {
	Grant    handoff.GrantID
	Ask      string // the id of what waits (handoff.ConsentAsk.ID)
	Building string
	Resident handoff.ResidentID
	Until    time.Time
}

const consentDomain = "consent-link"

// ConsentLink makes the token of a link: token(end, resident, grant, ask, building), with a
// colon between the last three. It can be used as long as what it confirms waits, and so once.
func (d *Directory) ConsentLink(l ConsentLink) string {
	resident, err := hex.DecodeString(string(l.Resident))
	if err != nil || len(resident) != handoff.ResidentIDLen/2 {
		panic("residents: a link of no resident")
	}
	body := append(binary.BigEndian.AppendUint64(nil, uint64(l.Until.Unix())), resident...)
	return identity.Sign(d.names, consentDomain, append(body, strings.Join([]string{l.Grant.String(), l.Ask, l.Building}, ":")...))
}

// ReadConsentLink reads a link's token. Whether what it confirms still waits, and whether its
// resident can still confirm it (see Confirmers), it does not say. The error is
// identity.ErrLink.
func (d *Directory) ReadConsentLink(token string) (ConsentLink, error) {
	const head = 8 + handoff.ResidentIDLen/2
	body, ok := identity.ReadSigned(d.names, consentDomain, token)
	if !ok || len(body) <= head {
		return ConsentLink{}, identity.ErrLink
	}
	parts := strings.Split(string(body[head:]), ":")
	if len(parts) != 3 {
		return ConsentLink{}, identity.ErrLink
	}
	grant, err := handoff.ParseGrantID(parts[0])
	l := ConsentLink{
		Grant: grant, Ask: parts[1], Building: parts[2], Resident: handoff.ResidentID(hex.EncodeToString(body[8:head])),
		Until: time.Unix(int64(binary.BigEndian.Uint64(body)), 0).UTC(),
	}
	if err != nil || !d.clock.Now().Before(l.Until) {
		return ConsentLink{}, identity.ErrLink
	}
	return l, nil
}
