package door

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"
)

// Replay is a door's replay memory: it remembers which permits were used, so that none is
// used twice, even if the power fails or the clock is set. It may be used concurrently, by
// one process.
//
// A permit is forgotten only when it can be refused without being remembered: when the
// service's own signatures prove that its end has passed. That proof is the horizon, the
// newest NotBefore among the permits used here. The horizon is on the disk and only rises;
// the time cannot be earlier than it. A door's clock never moves the horizon. So setting the
// clock back revives no permit, and a clock that was set forward for a while refuses permits
// only for that while.
//
// What a door without a battery clock cannot promise: after a power cut, its clock may
// start anywhere. Before the horizon (less the skew) every permit is ClockBehind; far
// after it every permit is Expired: the door stays closed until its clock is set. But
// a clock that comes back to an instant after the horizon at which a permit was valid
// and never used will let that permit in, late and once. A controller without a
// battery clock should therefore wait for the time (NTP, GPS or a technician) before it
// admits a permit.
type Replay struct {
	mu      sync.Mutex
	file    *recordFile
	seen    map[PermitID]seen
	horizon uint32 // Unix seconds
}

type seen struct {
	kind    byte
	expires uint32
}

const (
	replayMagic = "latchkey replay1"
	replaySlot  = 32

	// A record's kind, then its id (16), not before (4) and expires (4).
	seenSpent    = 1 // not before also raises the horizon
	seenRecalled = 2 // no not before
	seenHorizon  = 3 // after a compaction: not before alone

	replayRecord = 1 + 16 + 4 + 4

	// maxSeen bounds the memory. An honest door uses a handful of permits within the ninety
	// seconds before its horizon; so many are an attack with a stolen signing key.
	maxSeen = 4096

	replaySlack = 256 // records that may be rewritten away before it is done
)

// CreateReplay makes the memory of a new door, and fails with os.ErrExist where there is one.
// It is part of enrolling a door, never of starting one: a controller that made a missing
// file would open a second time for every permit that the lost one remembered.
func CreateReplay(path string) error { return createRecordFile(path, replayMagic, replaySlot) }

// OpenReplay reads a door's memory. A missing file (os.ErrNotExist), a foreign or a damaged
// one, and one that another process has open (ErrInUse) is an error, and the door stays
// closed. A record torn by a power cut is dropped: the opener had not been told to act on it.
func OpenReplay(path string) (*Replay, error) {
	file, records, err := openRecordFile(path, replayMagic, replaySlot)
	if err != nil {
		return nil, err
	}
	r := &Replay{file: file, seen: make(map[PermitID]seen)}
	for _, b := range records {
		if len(b) != replayRecord || b[0] < seenSpent || b[0] > seenHorizon {
			_ = file.Close()
			return nil, fmt.Errorf("door: %s holds a record of a newer version", path)
		}
		id, notBefore, expires := PermitID(b[1:17]), binary.BigEndian.Uint32(b[17:]), binary.BigEndian.Uint32(b[21:])
		if b[0] != seenHorizon {
			r.seen[id] = seen{b[0], expires}
		}
		r.horizon = max(r.horizon, notBefore)
	}
	r.forget()
	return r, nil
}

func record(kind byte, id PermitID, notBefore, expires uint32) []byte {
	b := make([]byte, replayRecord)
	b[0] = kind
	copy(b[1:], id[:])
	binary.BigEndian.PutUint32(b[17:], notBefore)
	binary.BigEndian.PutUint32(b[21:], expires)
	return b
}

// spend uses up a permit whose signature and times were found good. Only when it
// returns nil may the opener act, and then the use is on the disk.
func (r *Replay) spend(p *Permit, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	notBefore, expires := uint32(p.NotBefore.Unix()), uint32(p.Expires.Unix())
	switch before, known := r.seen[p.ID]; {
	case known && before.kind == seenRecalled:
		return Recalled
	case known:
		return Replayed
	case now.Add(Skew).Before(fromWire(r.horizon)):
		return ClockBehind
	case r.over(expires):
		return Expired
	}
	return r.remember(p.ID, seenSpent, notBefore, expires)
}

// recall takes a permit back. Of one that was used already it is Replayed.
func (r *Replay) recall(id PermitID, expires uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch before, known := r.seen[id]; {
	case known && before.kind == seenRecalled, !known && r.over(expires):
		return nil
	case known:
		return Replayed
	}
	return r.remember(id, seenRecalled, 0, expires)
}

// over reports whether the horizon proves that a permit has expired.
func (r *Replay) over(expires uint32) bool {
	return int64(expires)+int64(Skew/time.Second) <= int64(r.horizon)
}

func (r *Replay) remember(id PermitID, kind byte, notBefore, expires uint32) error {
	// First the horizon: a memory that was flooded with a stolen key's recalls must
	// make room for the first good permit after them.
	r.horizon = max(r.horizon, notBefore)
	r.forget()
	if len(r.seen) >= maxSeen {
		return fmt.Errorf("%w: %d permits at once", NoMemory, len(r.seen))
	}
	if err := r.file.append(record(kind, id, notBefore, expires)); err != nil {
		return fmt.Errorf("%w: %w", NoMemory, err)
	}
	r.seen[id] = seen{kind, expires}
	if r.file.slots > 2*len(r.seen)+replaySlack {
		// A failure is no failure of this use, which is on the disk either way; a
		// file that broke on it refuses the next.
		_ = r.file.rewrite(r.records())
	}
	return nil
}

func (r *Replay) forget() {
	for id, s := range r.seen {
		if r.over(s.expires) {
			delete(r.seen, id)
		}
	}
}

func (r *Replay) records() [][]byte {
	all := [][]byte{record(seenHorizon, PermitID{}, r.horizon, math.MaxUint32)}
	for id, s := range r.seen {
		all = append(all, record(s.kind, id, 0, s.expires))
	}
	return all
}

// Close releases the file.
func (r *Replay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}
