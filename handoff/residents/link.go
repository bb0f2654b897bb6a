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
	until := d.clock.Now().Add(linkLives[purpose]).Unix()
	body := binary.BigEndian.AppendUint64([]byte{byte(purpose)}, uint64(until))
	resident, err := hex.DecodeString(string(id))
	if err != nil || len(resident) != handoff.ResidentIDLen/2 {
		panic("handoff: a link of no resident")
	}
	body = append(append(body, resident...), building...)
	return identity.Sign(d.names, linkDomain, body)
}

// Follow reads a link of a purpose. Its resident must still be there, or be the manager.
// The error is ErrLink, which does not say why, or the store's.
func (d *Directory) Follow(ctx context.Context, purpose LinkFor, token string) (Link, Resident, error) {
	const resident, building = 1 + 8, 1 + 8 + handoff.ResidentIDLen/2
	body, ok := identity.ReadSigned(d.names, linkDomain, token)
	if !ok || len(body) <= building || LinkFor(body[0]) != purpose {
		return Link{}, Resident{}, identity.ErrLink
	}
	l := Link{
		For: purpose, Until: time.Unix(int64(binary.BigEndian.Uint64(body[1:])), 0).UTC(),
		Resident: handoff.ResidentID(hex.EncodeToString(body[resident:building])), Building: string(body[building:]),
	}
	now := d.clock.Now()
	if !now.Before(l.Until) {
		return Link{}, Resident{}, identity.ErrLink
	}
	r, err := d.store.Resident(ctx, l.Building, l.Resident)
	switch {
	case err != nil:
		return Link{}, Resident{}, err
	case l.Resident == handoff.ManagerID && r == nil:
		return l, Resident{ID: handoff.ManagerID, Building: l.Building}, nil
	case r == nil && purpose == LinkUnsubscribe: // done before
		return l, Resident{ID: l.Resident, Building: l.Building}, nil
	case r == nil || r.lapsed(now) || purpose == LinkLog && l.Resident != handoff.ManagerID && !r.IsInformed():
		return Link{}, Resident{}, identity.ErrLink
	}
	return l, *r, nil
}
