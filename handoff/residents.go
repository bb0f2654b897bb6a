package handoff

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Enrolment reads what residents are to be told of a building now; nil if it is not
// registered.
func (s *Service) Enrolment(ctx context.Context, building string) (*Enrolment, error) {
	b, err := s.store.Building(ctx, building)
	if err != nil || b == nil {
		return nil, err
	}
	ids, err := s.store.Doors(ctx, building)
	if err != nil {
		return nil, err
	}
	e := &Enrolment{Building: *b}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		d, err := s.store.Door(ctx, id)
		if err != nil {
			return nil, err
		}
		if d != nil {
			e.Doors = append(e.Doors, *d)
		}
	}
	return e, nil
}

// Enroll writes a building. Where that changes what its residents are told, the log
// hears of it first: who repeats a call that failed may have it said twice, which is
// harmless, and never leaves it unsaid.
func (s *Service) Enroll(ctx context.Context, b Building) error {
	before, err := s.store.Building(ctx, b.ID)
	if err != nil {
		return err
	}
	if before == nil || !slices.Equal((&Enrolment{Building: *before}).Digest(), (&Enrolment{Building: b}).Digest()) {
		if err := s.enrolled(ctx, b.ID, ""); err != nil {
			return err
		}
	}
	return s.store.PutBuilding(ctx, b)
}

// EnrollDoor writes a door, with the same promise. The error may be ErrDoorMoved.
func (s *Service) EnrollDoor(ctx context.Context, d Door) error {
	before, err := s.store.Door(ctx, d.ID)
	if err != nil {
		return err
	}
	if before != nil && before.BuildingID != d.BuildingID {
		return ErrDoorMoved
	}
	// Residents are told the building's carriers alone; its log has what changes at a door.
	if before == nil || before.Kind != d.Kind || before.Mode != d.Mode || !sameCarriers(before.Carriers, d.Carriers) {
		if err := s.enrolled(ctx, d.BuildingID, ""); err != nil {
			return err
		}
	}
	return s.store.PutDoor(ctx, d)
}

// sameCarriers tells nil, which is all of them, from none.
func sameCarriers(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// RemoveDoor makes a door none, with the same promise: from the next unlock on it opens
// nothing. Its building can bring it back by EnrollDoor.
func (s *Service) RemoveDoor(ctx context.Context, d Door) error {
	if err := s.enrolled(ctx, d.BuildingID, ""); err != nil {
		return err
	}
	return s.store.PutDoor(ctx, Door{ID: d.ID, BuildingID: d.BuildingID, Removed: true})
}

// Announce has residents told at once what is installed, instead of an hour after the
// last change. Who was told the same before is not told again.
func (s *Service) Announce(ctx context.Context, building string, by Actor) error {
	return s.enrolled(ctx, building, string(by.Role))
}

func (s *Service) enrolled(ctx context.Context, building, by string) error {
	now := InstantOf(s.clock.Now())
	return s.store.Append(ctx, now, Event{Type: EventBuildingEnrolled, At: now, Building: building, By: by})
}

// Subscription is what somebody asks for, or what a manager puts on file.
type Subscription struct {
	Address string
	Locale  string
	Unit    string // empty: the whole building
}

var (
	// ErrResidentUnknown says that a building has no such resident.
	ErrResidentUnknown = errors.New("handoff: no such resident")

	// ErrLink says that a link is not ours, was changed, is over, was used where it may be
	// used once, or leads to somebody who is not there any more.
	ErrLink = errors.New("handoff: not a link that holds")
)

func (s *Service) residentID(building string, sub Subscription) ResidentID {
	unit := strings.ToLower(strings.Join(strings.Fields(sub.Unit), " "))
	name := s.names.Name("resident", building, strings.ToLower(sub.Address), unit)
	return ResidentID(hex.EncodeToString(name[:residentIDLen/2]))
}

// Subscribe asks an address whether it wants to be told. It tells the caller nothing:
// neither whether the building is there, nor whether the address is known.
func (s *Service) Subscribe(ctx context.Context, building string, sub Subscription) error {
	b, err := s.store.Building(ctx, building)
	if err != nil || b == nil {
		return err
	}
	id, now := s.residentID(building, sub), s.clock.Now()
	known, err := s.store.Resident(ctx, building, id)
	if err != nil {
		return err
	}
	if known != nil && !known.mayAsk(now) && known.Due() != ConfirmMail {
		return nil
	}
	today := DateOf(now.UTC())
	number, _, err := s.store.Mark(ctx, Mark{Building: building, Of: "asks", Day: today, Topic: string(id)})
	if err != nil || number > AsksPerDay {
		return err
	}
	// Each unit is a question of its own: without a limit a stranger who makes units up fills
	// one mailbox. Only what the building's page let through comes to make a page here.
	address := "asked-" + string(s.residentID(building, Subscription{Address: sub.Address}))
	number, _, err = s.store.Mark(ctx, Mark{Building: building, Of: address, Day: today, Topic: string(id)})
	if err != nil || number > AsksOfAddress {
		return err
	}
	return s.changeResident(ctx, building, id, func(r *Resident) error {
		if r.Revision == 0 {
			r.Address, r.Locale, r.Unit = sub.Address, sub.Locale, sub.Unit
		}
		if r.mayAsk(now) {
			r.AskedAt = InstantOf(now)
		}
		return nil
	})
}

// mayAsk reports whether the address may be asked to confirm (again).
func (r *Resident) mayAsk(now time.Time) bool {
	return r.ConfirmedAt == 0 && r.Due() != ConfirmMail && now.Sub(r.AskMailed.Time()) >= askAgain
}

// Confirm is said by whoever reads the address's mail. It tells how far that brings it.
func (s *Service) Confirm(ctx context.Context, building string, id ResidentID) (ResidentState, error) {
	var state ResidentState
	err := s.ofResident(ctx, building, id, func(r *Resident, now Instant) {
		if r.ConfirmedAt == 0 {
			r.ConfirmedAt, r.WelcomeMailed = now, 0
		}
		state = r.State()
	})
	return state, err
}

// Approve is said by the manager: this address lives in that unit.
func (s *Service) Approve(ctx context.Context, building string, id ResidentID) error {
	return s.ofResident(ctx, building, id, func(r *Resident, now Instant) {
		if r.ApprovedAt == 0 {
			r.ApprovedAt = now
		}
	})
}

// Reject is said by the manager: the address is forgotten, and nobody is told.
func (s *Service) Reject(ctx context.Context, building string, id ResidentID) error {
	return s.dropResident(ctx, building, id, func(*Resident) bool { return true })
}

// Unsubscribe ends the notices to an address. Who is on file stays there, and is told
// what is installed; anybody else is forgotten. Doing it twice is harmless.
func (s *Service) Unsubscribe(ctx context.Context, building string, id ResidentID) error {
	err := s.dropResident(ctx, building, id, func(r *Resident) bool { return !r.OnFile })
	if err == nil {
		err = s.ofResident(ctx, building, id, func(r *Resident, now Instant) {
			if r.OnFile {
				r.ConfirmedAt, r.AskedAt = 0, 0
			}
		})
	}
	if errors.Is(err, ErrResidentUnknown) {
		return nil
	}
	return err
}

// ofResident changes a resident that is there.
func (s *Service) ofResident(ctx context.Context, building string, id ResidentID, change func(*Resident, Instant)) error {
	now := InstantOf(s.clock.Now())
	return s.changeResident(ctx, building, id, func(r *Resident) error {
		if r.Revision == 0 || r.lapsed(now.Time()) {
			return ErrResidentUnknown
		}
		change(r, now)
		return nil
	})
}

// residentTries bounds how often a change is begun anew because another came between.
const residentTries = 8

// changeResident reads, changes and writes one resident. If a mail about it is due then,
// the log hears of it. The write comes first, and what is due stays due until it was
// mailed: who repeats a call whose event was not written has it written.
func (s *Service) changeResident(ctx context.Context, building string, id ResidentID, change func(*Resident) error) error {
	for range residentTries {
		known, err := s.store.Resident(ctx, building, id)
		if err != nil {
			return err
		}
		r := Resident{ID: id, Building: building}
		if known != nil {
			r = *known
		}
		before := r
		if err := change(&r); err != nil {
			return err
		}
		if !reflect.DeepEqual(before, r) {
			if err := s.store.PutResident(ctx, r); errors.Is(err, ErrConflict) {
				continue
			} else if err != nil {
				return err
			}
		}
		if r.Due() == NoMail {
			return nil
		}
		now := InstantOf(s.clock.Now())
		return s.store.Append(ctx, now, Event{Type: EventResidentChanged, At: now, Building: building, Resident: id})
	}
	return ErrUnavailable
}

func (s *Service) dropResident(ctx context.Context, building string, id ResidentID, when func(*Resident) bool) error {
	for range residentTries {
		r, err := s.store.Resident(ctx, building, id)
		switch {
		case err != nil:
			return err
		case r == nil:
			return ErrResidentUnknown
		case !when(r):
			return nil
		}
		if err := s.store.DropResident(ctx, *r); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrUnavailable
}

// Residents lists who is told, without those who never confirmed in time: they are
// forgotten on the way.
func (s *Service) Residents(ctx context.Context, building string) ([]Resident, error) {
	all, err := s.store.Residents(ctx, building)
	if err != nil {
		return nil, err
	}
	now := s.clock.Now()
	kept := all[:0]
	for _, r := range all {
		switch {
		case r.ID == ManagerID:
		case r.lapsed(now):
			if err := s.store.DropResident(ctx, r); err != nil && !errors.Is(err, ErrConflict) {
				return nil, err
			}
		default:
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// Tidy forgets, in every building whose log has begun, who never confirmed in time: nobody
// may ever ask for the residents of a building again.
func (s *Service) Tidy(ctx context.Context) error {
	names, err := s.store.Chains(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		if building, ok := strings.CutPrefix(name, BuildingChain("")); ok {
			_, err := s.Residents(ctx, building)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// DoorsOf lists the doors that name a customer as their owner, in every building whose
// log has begun. It reads all doors.
func (s *Service) DoorsOf(ctx context.Context, c CustomerRef) ([]Door, error) {
	names, err := s.store.Chains(ctx)
	if err != nil {
		return nil, err
	}
	var theirs []Door
	for _, name := range names {
		building, ok := strings.CutPrefix(name, BuildingChain(""))
		if !ok {
			continue
		}
		ids, err := s.store.Doors(ctx, building)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			d, err := s.store.Door(ctx, id)
			if err != nil {
				return nil, err
			}
			if d != nil && d.BuildingID == building && d.Owner != nil && *d.Owner == c {
				theirs = append(theirs, *d)
			}
		}
	}
	return theirs, nil
}

// PutOnFile makes a list the residents that the manager has on file. Who stood on the
// list before and does not any more moved out, and is forgotten; who came by asking
// stays. Broken off halfway, it is mended by repeating it.
func (s *Service) PutOnFile(ctx context.Context, building string, list []Subscription) error {
	now, listed := InstantOf(s.clock.Now()), map[ResidentID]bool{}
	before, err := s.store.Residents(ctx, building)
	if err != nil {
		return err
	}
	fresh := false
	for _, sub := range list {
		id := s.residentID(building, sub)
		listed[id] = true
		at := slices.IndexFunc(before, func(r Resident) bool { return r.ID == id && r.OnFile })
		fresh = fresh || at < 0 || before[at].Informed == nil
	}
	if fresh { // ahead of the writes, as in Enroll
		if err := s.enrolled(ctx, building, ""); err != nil {
			return err
		}
	}
	for _, sub := range list {
		err := s.changeResident(ctx, building, s.residentID(building, sub), func(r *Resident) error {
			r.Address, r.Locale, r.Unit, r.OnFile = sub.Address, sub.Locale, sub.Unit, true
			if r.ApprovedAt == 0 {
				r.ApprovedAt = now
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, r := range before {
		if r.OnFile && !listed[r.ID] {
			if err := s.dropResident(ctx, building, r.ID, func(r *Resident) bool { return r.OnFile }); err != nil && !errors.Is(err, ErrResidentUnknown) {
				return err
			}
		}
	}
	return nil
}

// ResidentMailed notes what was mailed to a resident, or about one. It causes no mail.
func (s *Service) ResidentMailed(ctx context.Context, building string, id ResidentID, note func(*Resident)) error {
	for range residentTries {
		r, err := s.store.Resident(ctx, building, id)
		if err != nil {
			return err
		}
		if r == nil && id != ManagerID {
			return nil // gone meanwhile
		}
		if r == nil {
			r = &Resident{ID: id, Building: building}
		}
		note(r)
		if err := s.store.PutResident(ctx, *r); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrUnavailable
}

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
	Resident ResidentID
	Until    time.Time
}

const linkDomain = "resident-link"

// Link makes the token of a link: token(purpose, end, resident, building).
func (s *Service) Link(purpose LinkFor, building string, id ResidentID) string {
	until := s.clock.Now().Add(linkLives[purpose]).Unix()
	body := binary.BigEndian.AppendUint64([]byte{byte(purpose)}, uint64(until))
	resident, err := hex.DecodeString(string(id))
	if err != nil || len(resident) != residentIDLen/2 {
		panic("handoff: a link of no resident")
	}
	body = append(append(body, resident...), building...)
	return s.token(linkDomain, body)
}

// Follow reads a link of a purpose. Its resident must still be there, or be the manager.
// The error is ErrLink, which does not say why, or the store's.
func (s *Service) Follow(ctx context.Context, purpose LinkFor, token string) (Link, Resident, error) {
	const resident, building = 1 + 8, 1 + 8 + residentIDLen/2
	body, ok := s.said(linkDomain, token)
	if !ok || len(body) <= building || LinkFor(body[0]) != purpose {
		return Link{}, Resident{}, ErrLink
	}
	l := Link{
		For: purpose, Until: time.Unix(int64(binary.BigEndian.Uint64(body[1:])), 0).UTC(),
		Resident: ResidentID(hex.EncodeToString(body[resident:building])), Building: string(body[building:]),
	}
	now := s.clock.Now()
	if !now.Before(l.Until) {
		return Link{}, Resident{}, ErrLink
	}
	r, err := s.store.Resident(ctx, l.Building, l.Resident)
	switch {
	case err != nil:
		return Link{}, Resident{}, err
	case l.Resident == ManagerID && r == nil:
		return l, Resident{ID: ManagerID, Building: l.Building}, nil
	case r == nil && purpose == LinkUnsubscribe: // done before
		return l, Resident{ID: l.Resident, Building: l.Building}, nil
	case r == nil || r.lapsed(now) || purpose == LinkLog && l.Resident != ManagerID && !r.IsInformed():
		return Link{}, Resident{}, ErrLink
	}
	return l, *r, nil
}
