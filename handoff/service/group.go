package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"latchkey/handoff"
)

// Several parcels that arrive together are one grant. It is kept under the key of its first
// parcel. The key of each other one holds an alias: the id of that grant, with a version and older
// generations of its own, as a grant has them. So one key says of every parcel where it stands.
//
//   - An alias counts if the grant that it names exists and names the parcel. A grant hands over a
//     parcel beside its first only if that parcel's alias names it.
//   - Aliases are claimed ahead of the commit that makes the grant, each if its key is still as it
//     was read. Every pass claims anew.
//   - A mint that died leaves aliases of a grant that does not exist. Who needs such a key first
//     moves on the version of the key under which that grant would be kept. From then on the mint
//     cannot commit, however late it comes: it finds a conflict, and begins again with what it
//     reads then. Else a grant could come to be of which a parcel was claimed by another meanwhile.

// Alias is what stands at the key of a parcel that is one of several.
type Alias struct {
	// Hash and Generation are the grant's. Empty and 0: none, and the key only has a version.
	Hash       handoff.ParcelHash `cbor:"1,keyasint,omitempty"`
	Generation int                `cbor:"2,keyasint,omitempty"`

	Until handoff.Instant `cbor:"3,keyasint,omitempty"` // end of the grant's window, when the alias was written
}

// Grant is the id of the grant that the alias names.
func (a *Alias) Grant() handoff.GrantID {
	return handoff.GrantID{Hash: a.Hash, Generation: a.Generation}
}

// Standing is what stands at the key of a parcel: a record, an alias, or nothing.
type Standing struct {
	Record  *Record // nil: the parcel has no grant of its own
	Alias   *Alias  // nil: there is none
	Version Version // of the key
}

// StandingOf is a stored record as a Standing.
func StandingOf(r *Record, v Version) Standing {
	if r == nil || r.Alias == nil {
		return Standing{Record: r, Version: v}
	}
	if r.Alias.Hash == "" {
		return Standing{Version: v}
	}
	return Standing{Alias: r.Alias, Version: v}
}

// record is the standing as it is stored.
func (s *Standing) record(hash handoff.ParcelHash) Record {
	switch {
	case s.Record != nil:
		return *s.Record
	case s.Alias != nil:
		return aliasRecord(hash, s.Version.Generation(), *s.Alias)
	}
	return aliasRecord(hash, s.Version.Generation(), Alias{})
}

func aliasRecord(hash handoff.ParcelHash, generation int, a Alias) Record {
	r := Record{Alias: &a}
	r.Grant.ID = handoff.GrantID{Hash: hash, Generation: generation}
	return r
}

// follow reads the grant that the parcel's key names where it is one of several, and what the
// keys of the others say. It takes a trip more than prepare, and none for a parcel on its own.
func (r *run) follow(ctx context.Context, p *pass) error {
	p.own = p.Version
	if r.dispatch != nil {
		return r.followMint(ctx, p)
	}
	if p.Record == nil && p.Alias != nil && r.Generation == 0 {
		found, err := r.service.named(ctx, r.Parcel, p.Alias, p.Others)
		if err != nil {
			return err
		}
		p.Record, p.Version, p.Archived = found.Record, found.Version, found.Archived
	}
	g := p.grant()
	if g == nil || g.Group == nil {
		return nil
	}
	pointing := map[handoff.ParcelHash]bool{r.Parcel: true}
	for i, hash := range r.Others {
		if i < len(p.Others) && p.Others[i].Alias != nil && p.Others[i].Alias.Grant() == g.ID {
			pointing[hash] = true
		}
	}
	for _, parcel := range g.Dispatch.Parcels() {
		if pointing[r.service.ParcelHash(g.Dispatch.Carrier, parcel)] {
			p.pointed = append(p.pointed, parcel)
		}
	}
	return nil
}

// named reads the grant that an alias names, if it counts; else a Snapshot without a record. It
// may be among what was read.
func (s *Service) named(ctx context.Context, parcel handoff.ParcelHash, a *Alias, read []Standing) (found Snapshot, err error) {
	for _, st := range read {
		if st.Record != nil && st.Record.Grant.ID == a.Grant() {
			found.Record, found.Version = st.Record, st.Version
		}
	}
	if found.Record == nil {
		if found, err = s.store.Load(ctx, Query{Parcel: a.Hash, Generation: a.Generation}); err != nil {
			return Snapshot{}, fmt.Errorf("the grant of several parcels: %w", err)
		}
	}
	if g := found.grant(); g != nil && !s.holds(g, parcel) {
		return Snapshot{}, nil
	}
	return found, nil
}

// load is the store's Load of the newest grant of a parcel, which may be one of several.
func (s *Service) load(ctx context.Context, parcel handoff.ParcelHash) (Snapshot, error) {
	found, err := s.store.Load(ctx, Query{Parcel: parcel})
	if err != nil || found.Alias == nil {
		return found, err
	}
	return s.named(ctx, parcel, found.Alias, nil)
}

// Home is the hash under which the newest grant of a parcel is kept: its own, or that of the first
// of several. The error is storage.ErrUnavailable or storage.ErrSealed.
func (s *Service) Home(ctx context.Context, parcel handoff.ParcelHash) (handoff.ParcelHash, error) {
	found, err := s.load(ctx, parcel)
	if g := found.grant(); err == nil && g != nil {
		return g.ID.Hash, nil
	}
	return parcel, err
}

// holds reports whether a grant names the parcel of a key.
func (s *Service) holds(g *handoff.Grant, parcel handoff.ParcelHash) bool {
	return slices.ContainsFunc(g.Dispatch.Parcels(), func(id string) bool { return s.ParcelHash(g.Dispatch.Carrier, id) == parcel })
}

// followMint finds the grants that the keys of a dispatch's parcels name, and what is to be
// claimed for the grant to come.
func (r *run) followMint(ctx context.Context, p *pass) error {
	s, d := r.service, r.dispatch
	p.newest = p.Version.Generation()
	if g := p.grant(); g != nil && g.MadeBy(d, s.digestOf(d)) {
		return s.mend(ctx, g, r.Others, p.Others)
	}
	to := handoff.GrantID{Hash: r.Parcel, Generation: p.newest + 1}
	if p.Record == nil && p.Alias != nil {
		found, err := p.claiming.look(ctx, s, r.Parcel, p.Alias, to)
		if err != nil {
			return err
		}
		p.Record, p.Version, p.Archived = found.Record, found.Version, found.Archived
	}
	p.beside = map[string]*handoff.Grant{}
	for i, st := range p.Others {
		record := st.Record
		if st.Alias != nil {
			found, err := p.claiming.look(ctx, s, r.Others[i], st.Alias, to)
			if err != nil {
				return err
			}
			record = found.Record
		}
		c := claim{parcel: r.Others[i], from: st.Version, generation: max(st.Version.Generation(), 1)}
		if record != nil { // what stood there goes to the older generations
			p.beside[d.Together.More[i].Parcel] = &record.Grant
			c.generation = st.Version.Generation() + 1
		}
		p.claiming.claims = append(p.claiming.claims, c)
	}
	return nil
}

// claiming is what a mint must do ahead of its commit.
type claiming struct {
	claims  []claim
	pending map[handoff.ParcelHash]Standing // keys under which other mints may still commit
}

// claim is a key that is to name the grant to come.
type claim struct {
	parcel     handoff.ParcelHash
	from       Version
	generation int
}

// look reads the grant that an alias names, if it counts. Where the grant does not exist yet, its
// mint may be under way: its key is noted, unless it is that of the grant to come.
func (c *claiming) look(ctx context.Context, s *Service, parcel handoff.ParcelHash, a *Alias, to handoff.GrantID) (Snapshot, error) {
	if a.Grant() == to {
		return Snapshot{}, nil
	}
	newest, err := s.store.Load(ctx, Query{Parcel: a.Hash})
	switch {
	case err != nil:
		return Snapshot{}, fmt.Errorf("the grant of several parcels: %w", err)
	case newest.Version.Generation() >= a.Generation:
		return s.named(ctx, parcel, a, []Standing{newest.Standing()})
	case c.pending == nil:
		c.pending = map[handoff.ParcelHash]Standing{}
	}
	c.pending[a.Hash] = newest.Standing()
	return Snapshot{}, nil
}

// claims is the reservation of a mint: the keys of the parcels beside the first.
type claims struct {
	unreserved
	service *Service
}

func (c claims) name(ctx context.Context, p *pass) error {
	d := &p.decision
	if p.command.Act != handoff.Mint || d.Refusal != nil {
		return nil
	}
	now := handoff.InstantOf(p.now)
	var ahead []Change
	for hash, st := range p.claiming.pending {
		ahead = append(ahead, Change{From: st.Version, Record: st.record(hash), Now: now})
	}
	if err := c.service.commitEach(ctx, ahead); err != nil {
		return fmt.Errorf("ending another mint: %w", err)
	}
	minted := &p.change.Record.Grant
	if err := c.service.commitEach(ctx, claimsOf(minted, p.claiming.claims, now)); err != nil {
		return fmt.Errorf("claiming a parcel: %w", err)
	}
	return nil
}

// claimsOf are the commits of claims for a grant.
func claimsOf(g *handoff.Grant, list []claim, now handoff.Instant) []Change {
	var changes []Change
	for _, c := range list {
		a := Alias{Hash: g.ID.Hash, Generation: g.ID.Generation, Until: g.Window.Until}
		changes = append(changes, Change{From: c.from, Record: aliasRecord(c.parcel, c.generation, a), Now: now})
	}
	return changes
}

// commitEach commits changes of different keys at once. The error is of all that failed.
func (s *Service) commitEach(ctx context.Context, changes []Change) error {
	failed := make([]error, len(changes))
	var work sync.WaitGroup
	for i := range changes {
		work.Go(func() { failed[i] = s.store.Commit(ctx, changes[i]) })
	}
	work.Wait()
	return errors.Join(failed...)
}

// mend claims anew what is still there of a grant and has no key: another slot may have lost what
// its server acknowledged.
func (s *Service) mend(ctx context.Context, g *handoff.Grant, hashes []handoff.ParcelHash, read []Standing) error {
	now := s.clock.Now()
	if g.StatusAt(now) != handoff.Active {
		return nil
	}
	var lost []claim
	for i, st := range read {
		if st.Record == nil && st.Alias == nil {
			lost = append(lost, claim{parcel: hashes[i], from: st.Version, generation: max(st.Version.Generation(), 1)})
		}
	}
	if err := s.commitEach(ctx, claimsOf(g, lost, handoff.InstantOf(now))); err != nil {
		return fmt.Errorf("claiming a parcel anew: %w", err)
	}
	return nil
}

// extend keeps the aliases of a grant as long as the grant, when it is moved to a later day.
func (s *Service) extend(ctx context.Context, g *handoff.Grant, now handoff.Instant) error {
	hashes := s.beside(&g.Dispatch)
	if len(hashes) == 0 {
		return nil
	}
	found, err := s.store.Load(ctx, Query{Parcel: g.ID.Hash, Others: hashes})
	if err != nil {
		return err
	}
	var stay []claim
	for i, st := range found.Others {
		if st.Alias != nil && st.Alias.Grant() == g.ID && st.Alias.Until < g.Window.Until {
			stay = append(stay, claim{parcel: hashes[i], from: st.Version, generation: st.Version.Generation()})
		}
	}
	return s.commitEach(ctx, claimsOf(g, stay, now))
}

// beside are the keys of the parcels of a dispatch beside its first.
func (s *Service) beside(d *handoff.Dispatch) []handoff.ParcelHash {
	var hashes []handoff.ParcelHash
	for _, parcel := range d.Parcels()[1:] {
		hashes = append(hashes, s.ParcelHash(d.Carrier, parcel))
	}
	return hashes
}
