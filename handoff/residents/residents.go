// Package residents is who is told what happens in a building: subscriptions, and the
// links by which a resident reads, confirms and ends them.
package residents

import (
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/registry"
	"latchkey/handoff/storage"
)

// Directory keeps the residents of buildings.
type Directory struct {
	store    Store
	registry *registry.Registry
	log      Log
	clock    clock.Clock
	names    handoff.Namer
}

// Log is what a Directory needs of an event log.
type Log interface {
	Append(ctx context.Context, now handoff.Instant, events ...handoff.Event) error
}

// NewDirectory makes a Directory. All five are needed.
func NewDirectory(store Store, r *registry.Registry, log Log, c clock.Clock, names handoff.Namer) *Directory {
	return &Directory{store: store, registry: r, log: log, clock: c, names: names}
}

// Subscription is what a resident asks for, or what a manager puts on file.
type Subscription struct {
	Address string
	Locale  string
	Unit    string // empty: the whole building
}

// ErrResidentUnknown says that a building has no such resident.
var ErrResidentUnknown = errors.New("handoff: no such resident")

func (d *Directory) id(building string, sub Subscription) handoff.ResidentID {
	unit := strings.ToLower(strings.Join(strings.Fields(sub.Unit), " "))
	name := d.names.Name("resident", building, strings.ToLower(sub.Address), unit)
	return handoff.ResidentID(hex.EncodeToString(name[:handoff.ResidentIDLen/2]))
}

// Subscribe asks an address whether it wants to be told. It tells the caller nothing:
// neither whether the building is there, nor whether the address is known.
func (d *Directory) Subscribe(ctx context.Context, building string, sub Subscription) error {
	b, err := d.registry.Building(ctx, building)
	if err != nil {
		return err
	}
	id, now := d.id(building, sub), d.clock.Now()
	known, err := d.store.Resident(ctx, building, id)
	if err != nil {
		return err
	}
	today := handoff.DateOf(now.UTC())
	if b == nil || known != nil && !known.mayAsk(now) && known.Due() != ConfirmMail {
		return d.likewise(ctx, today, id, askSteps)
	}
	number, _, err := d.store.Mark(ctx, Mark{Building: building, Of: "asks", Day: today, Topic: string(id)})
	if err != nil {
		return err
	}
	if number > AsksPerDay {
		return d.likewise(ctx, today, id, askSteps-1)
	}
	// Each unit of each building is a question of its own: without a limit a stranger who makes
	// units up, or goes from building to building, fills one mailbox. The page is no building's.
	// Only what a building's page let through comes to make one.
	address := "asked-" + string(d.id("", Subscription{Address: sub.Address}))
	number, _, err = d.store.Mark(ctx, Mark{Of: address, Day: today, Topic: string(id)})
	if err != nil {
		return err
	}
	if number > AsksOfAddress {
		return d.likewise(ctx, today, id, askSteps-2)
	}
	changed := false
	err = d.changeResident(ctx, building, id, func(r *Resident) error {
		if r.Revision == 0 {
			r.Address, r.Locale, r.Unit = sub.Address, sub.Locale, sub.Unit
		}
		if changed = r.mayAsk(now); changed {
			r.AskedAt = handoff.InstantOf(now)
		}
		return nil
	})
	if err != nil || changed {
		return err
	}
	return d.likewise(ctx, today, id, 1)
}

// askSteps are the trips to the store that asking takes once building and resident are read:
// two pages of marks, the resident again, the resident's change, and its event.
const askSteps = 5

// likewise takes as many trips as asking would have: how long an answer takes must not tell
// whether building and address are known. Its marks are of one page a day, which has an end.
func (d *Directory) likewise(ctx context.Context, today handoff.Date, id handoff.ResidentID, trips int) error {
	for range trips {
		if _, _, err := d.store.Mark(ctx, Mark{Of: "unasked", Day: today, Topic: string(id)}); err != nil {
			return err
		}
	}
	return nil
}

// mayAsk reports whether the address may be asked to confirm (again).
func (r *Resident) mayAsk(now time.Time) bool {
	return r.ConfirmedAt == 0 && r.Due() != ConfirmMail && now.Sub(r.AskMailed.Time()) >= askAgain
}

// Confirm is said by one who reads the address's mail. It tells how far that brings it.
func (d *Directory) Confirm(ctx context.Context, building string, id handoff.ResidentID) (State, error) {
	var state State
	err := d.ofResident(ctx, building, id, func(r *Resident, now handoff.Instant) {
		if r.ConfirmedAt == 0 {
			r.ConfirmedAt, r.WelcomeMailed = now, 0
		}
		state = r.State()
	})
	return state, err
}

// Approve is said by the manager: this address lives in that unit.
func (d *Directory) Approve(ctx context.Context, building string, id handoff.ResidentID) error {
	return d.ApproveBy(ctx, d.managersLink(building), building, id)
}

// ApproveBy is Approve, by one who is known.
func (d *Directory) ApproveBy(ctx context.Context, by registry.By, building string, id handoff.ResidentID) error {
	if err := d.stays(ctx, by, building, id); err != nil {
		return err
	}
	return d.ofResident(ctx, building, id, func(r *Resident, now handoff.Instant) {
		if r.ApprovedAt == 0 {
			r.ApprovedAt = now
		}
		r.stay()
	})
}

// Reject is said by the manager: the address is forgotten, and no mail is sent. A confirmed
// resident of a unit is mailed that, may object, and is forgotten three days later.
func (d *Directory) Reject(ctx context.Context, building string, id handoff.ResidentID) error {
	return d.RejectBy(ctx, d.managersLink(building), building, id)
}

// RejectBy is Reject, by one who is known.
func (d *Directory) RejectBy(ctx context.Context, by registry.By, building string, id handoff.ResidentID) error {
	return d.remove(ctx, by, building, id, func(*Resident) bool { return true })
}

// managersLink is who follows a link that was mailed to a building's manager.
func (d *Directory) managersLink(building string) registry.By {
	return registry.By{Role: handoff.RoleManager, Who: handoff.Pseudonym(d.names, "who", "manager's link "+building)}
}

// remove is dropResident for a manager. The log hears of it first, and by whom.
func (d *Directory) remove(ctx context.Context, by registry.By, building string, id handoff.ResidentID, when func(*Resident) bool) error {
	now := handoff.InstantOf(d.clock.Now())
	r, err := d.store.Resident(ctx, building, id)
	switch {
	case err != nil:
		return err
	case r == nil || r.lapsed(now.Time()):
		return ErrResidentUnknown
	case !when(r):
		return nil
	}
	goes, due := r.LeavesAt, handoff.Instant(0)
	if r.leave(now, d.registry.ChangeAfter) {
		due = r.LeavesAt
	}
	if goes == 0 {
		if err := d.tell(ctx, by, handoff.Event{Type: handoff.EventResidentRemoved, Building: building, Resident: id, Due: due}); err != nil {
			return err
		}
	}
	leaves := false
	err = d.ofResident(ctx, building, id, func(r *Resident, now handoff.Instant) {
		leaves = when(r) && r.leave(now, d.registry.ChangeAfter)
	})
	if err != nil || leaves {
		return err
	}
	return d.dropResident(ctx, building, id, when)
}

// stays tells the log that a resident who was removed stays.
func (d *Directory) stays(ctx context.Context, by registry.By, building string, id handoff.ResidentID) error {
	r, err := d.store.Resident(ctx, building, id)
	if err != nil || r == nil || r.LeavesAt == 0 || r.lapsed(d.clock.Now()) {
		return err
	}
	return d.tell(ctx, by, handoff.Event{Type: handoff.EventResidentStays, Building: building, Resident: id})
}

// tell puts an event on the log.
func (d *Directory) tell(ctx context.Context, by registry.By, e handoff.Event) error {
	e.At = handoff.InstantOf(d.clock.Now())
	e.By, e.Who = string(by.Role), by.Who
	return d.log.Append(ctx, e.At, e)
}

// Unsubscribe ends the notices to an address. Who is on file stays there, and is told
// what is installed; anybody else is forgotten. Doing it twice is harmless.
func (d *Directory) Unsubscribe(ctx context.Context, building string, id handoff.ResidentID) error {
	err := d.dropResident(ctx, building, id, func(r *Resident) bool { return !r.OnFile })
	if err == nil {
		err = d.ofResident(ctx, building, id, func(r *Resident, now handoff.Instant) {
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
func (d *Directory) ofResident(ctx context.Context, building string, id handoff.ResidentID, change func(*Resident, handoff.Instant)) error {
	now := handoff.InstantOf(d.clock.Now())
	return d.changeResident(ctx, building, id, func(r *Resident) error {
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
// mailed: a repeated call writes an event that was not written.
func (d *Directory) changeResident(ctx context.Context, building string, id handoff.ResidentID, change func(*Resident) error) error {
	for range residentTries {
		known, err := d.store.Resident(ctx, building, id)
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
			if err := d.store.PutResident(ctx, r); errors.Is(err, storage.ErrConflict) {
				continue
			} else if err != nil {
				return err
			}
		}
		if r.Due() == NoMail {
			return nil
		}
		now := handoff.InstantOf(d.clock.Now())
		return d.log.Append(ctx, now, handoff.Event{Type: handoff.EventResidentChanged, At: now, Building: building, Resident: id})
	}
	return storage.ErrUnavailable
}

func (d *Directory) dropResident(ctx context.Context, building string, id handoff.ResidentID, when func(*Resident) bool) error {
	for range residentTries {
		r, err := d.store.Resident(ctx, building, id)
		switch {
		case err != nil:
			return err
		case r == nil:
			return ErrResidentUnknown
		case !when(r):
			return nil
		}
		if err := d.store.DropResident(ctx, *r); !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return storage.ErrUnavailable
}

// List lists who is told, without those who never confirmed in time: they are
// forgotten on the way.
func (d *Directory) List(ctx context.Context, building string) ([]Resident, error) {
	all, err := d.store.Residents(ctx, building)
	if err != nil {
		return nil, err
	}
	now := d.clock.Now()
	kept := all[:0]
	for _, r := range all {
		switch {
		case r.ID == handoff.ManagerID:
		case r.lapsed(now):
			if err := d.store.DropResident(ctx, r); err != nil && !errors.Is(err, storage.ErrConflict) {
				return nil, err
			}
		default:
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// Tidy forgets, in every building, the addresses that never confirmed in time: a building
// whose residents are not listed again would keep them.
func (d *Directory) Tidy(ctx context.Context) error {
	buildings, err := d.registry.Buildings(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, building := range buildings {
		_, err := d.List(ctx, building)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// PutOnFile is ReplaceOnFile of whatever stands.
func (d *Directory) PutOnFile(ctx context.Context, building string, list []Subscription) error {
	_, err := d.ReplaceOnFile(ctx, registry.By{}, building, list, registry.Match{})
	return err
}

// FileVersion is the version of what the manager has on file, of all residents of a building.
func FileVersion(all []Resident) string {
	type entry struct {
		_                     struct{} `cbor:",toarray"`
		ID                    handoff.ResidentID
		Address, Locale, Unit string
	}
	file := []entry{}
	for _, r := range all {
		if r.OnFile {
			file = append(file, entry{ID: r.ID, Address: r.Address, Locale: r.Locale, Unit: r.Unit})
		}
	}
	return registry.VersionOf(file)
}

// ReplaceOnFile makes a list the residents that the manager has on file, in the place of the one that
// is meant, and returns who is on file no more. Who stood on the list before and does not any
// more moved out, and is forgotten, a confirmed resident of a unit three days later; who came by asking stays. Broken off halfway, it is mended
// by repeating it. The error may be registry.ErrStale: the list is compared before the
// first of its writes, so that of two writers at the same moment both may go on.
func (d *Directory) ReplaceOnFile(ctx context.Context, by registry.By, building string, list []Subscription, m registry.Match) (gone []handoff.ResidentID, err error) {
	now, listed := handoff.InstantOf(d.clock.Now()), map[handoff.ResidentID]bool{}
	before, err := d.store.Residents(ctx, building)
	if err != nil {
		return nil, err
	}
	if !m.Holds(FileVersion(before)) {
		return nil, registry.ErrStale
	}
	fresh := false
	for _, sub := range list {
		id := d.id(building, sub)
		listed[id] = true
		at := slices.IndexFunc(before, func(r Resident) bool { return r.ID == id && r.OnFile })
		fresh = fresh || at < 0 || before[at].Informed == nil
	}
	if fresh { // ahead of the writes, as in Enroll
		if err := d.registry.Announce(ctx, building, handoff.Actor{}); err != nil {
			return nil, err
		}
	}
	for _, sub := range list {
		if err := d.stays(ctx, by, building, d.id(building, sub)); err != nil {
			return nil, err
		}
		err := d.changeResident(ctx, building, d.id(building, sub), func(r *Resident) error {
			r.Address, r.Locale, r.Unit, r.OnFile = sub.Address, sub.Locale, sub.Unit, true
			r.stay()
			if r.ApprovedAt == 0 {
				r.ApprovedAt = now
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, r := range before {
		if r.OnFile && !listed[r.ID] {
			if err := d.remove(ctx, by, building, r.ID, func(r *Resident) bool { return r.OnFile }); err != nil && !errors.Is(err, ErrResidentUnknown) {
				return gone, err
			}
			gone = append(gone, r.ID)
		}
	}
	return gone, nil
}

// Mailed notes what was mailed to a resident, or about one. It causes no mail.
func (d *Directory) Mailed(ctx context.Context, building string, id handoff.ResidentID, note func(*Resident)) error {
	for range residentTries {
		r, err := d.store.Resident(ctx, building, id)
		if err != nil {
			return err
		}
		if r == nil && id != handoff.ManagerID {
			return nil // gone meanwhile
		}
		if r == nil {
			r = &Resident{ID: id, Building: building}
		}
		note(r)
		if err := d.store.PutResident(ctx, *r); !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return storage.ErrUnavailable
}
