package residents

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// LinkFor is what a link lets its holder do. A link for one purpose is none for another.
type LinkFor byte

// The purposes.
const (
	_               LinkFor = iota
	LinkLog                 // read the building's access log
	LinkConfirm             // confirm the address
	LinkUnsubscribe         // end the notices
	LinkDecide              // approve or reject a unit: the manager's
	LinkStay                // object to one's own removal, or agree to it
	LinkChange              // object to a change of one's garage or home, or agree to it
)

// How long links hold. A link to the log is in every notice, and so is the newest at hand.
var linkLives = [...]time.Duration{
	LinkLog: 30 * 24 * time.Hour, LinkConfirm: 30 * 24 * time.Hour, LinkUnsubscribe: 365 * 24 * time.Hour, LinkDecide: 30 * 24 * time.Hour,
}

// Link is what a link's token says. It holds no address, and no unit that anybody
// could read.
type Link struct {
	For      LinkFor
	Building string
	Resident handoff.ResidentID
	Until    time.Time
}

const linkDomain = "resident-link"

// Link makes the token of a link: token(purpose, end, resident, building).
func (d *Directory) Link(purpose LinkFor, building string, id handoff.ResidentID) string {
	return d.sign(purpose, d.clock.Now().Add(linkLives[purpose]), id, building)
}

// StayLink is the token of the link by which a resident who was removed can object, until
// that counts.
func (d *Directory) StayLink(r *Resident) string {
	return d.sign(LinkStay, r.LeavesAt.Time(), r.ID, r.Building)
}

func (d *Directory) sign(purpose LinkFor, until time.Time, id handoff.ResidentID, rest string) string {
	body := binary.BigEndian.AppendUint64([]byte{byte(purpose)}, uint64(until.Unix()))
	resident, err := hex.DecodeString(string(id))
	if err != nil || len(resident) != handoff.ResidentIDLen/2 {
		panic("handoff: a link of no resident")
	}
	return identity.Sign(d.names, linkDomain, append(append(body, resident...), rest...))
}

// read reads a token of a purpose, that is not over.
func (d *Directory) read(purpose LinkFor, token string) (l Link, rest string, err error) {
	const resident, after = 1 + 8, 1 + 8 + handoff.ResidentIDLen/2
	body, ok := identity.ReadSigned(d.names, linkDomain, token)
	if !ok || len(body) <= after || LinkFor(body[0]) != purpose {
		return Link{}, "", identity.ErrLink
	}
	l = Link{
		For: purpose, Until: time.Unix(int64(binary.BigEndian.Uint64(body[1:])), 0).UTC(), Resident: handoff.ResidentID(hex.EncodeToString(body[resident:after])),
	}
	if !d.clock.Now().Before(l.Until) {
		return Link{}, "", identity.ErrLink
	}
	return l, string(body[after:]), nil
}

// Follow reads a link of a purpose. Its resident must still be there, or be the manager.
// The error is ErrLink, which does not say why, or the store's.
func (d *Directory) Follow(ctx context.Context, purpose LinkFor, token string) (Link, Resident, error) {
	l, building, err := d.read(purpose, token)
	if err != nil {
		return Link{}, Resident{}, err
	}
	l.Building = building
	now := d.clock.Now()
	r, err := d.store.Resident(ctx, l.Building, l.Resident)
	switch {
	case err != nil:
		return Link{}, Resident{}, err
	case l.Resident == handoff.ManagerID && r == nil:
		return l, Resident{ID: handoff.ManagerID, Building: l.Building}, nil
	case r == nil && purpose == LinkUnsubscribe: // done before
		return l, Resident{ID: l.Resident, Building: l.Building}, nil
	case purpose == LinkStay && (r == nil || r.LeavesAt.Time().Unix() != l.Until.Unix() || !r.MayObject()): // decided before
		return Link{}, Resident{}, identity.ErrLink
	case r == nil || r.lapsed(now) || purpose == LinkLog && l.Resident != handoff.ManagerID && !r.IsInformed():
		return Link{}, Resident{}, identity.ErrLink
	}
	return l, *r, nil
}
