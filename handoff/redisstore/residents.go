package redisstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// A resident is stored as its revision (8 bytes) and then sealed; the associated data is
// the key, the field and the revision, so that none can be put in another's place, nor
// an old one back.

func (s *Store) openResident(building, field, stored string) (residents.Resident, error) {
	kind := keyKind(residentsKey(building))
	if len(stored) < versionLen {
		return residents.Resident{}, tooShort(kind, len(stored))
	}
	r := residents.Resident{
		ID: handoff.ResidentID(field), Building: building,
		Revision: binary.BigEndian.Uint64([]byte(stored[:versionLen])),
	}
	if err := s.unsealValue(kind, []byte(stored[versionLen:]), residentContext(&r), &r); err != nil {
		return residents.Resident{}, err
	}
	return r, nil
}

func residentContext(r *residents.Resident) []byte {
	return binary.BigEndian.AppendUint64([]byte(residentsKey(r.Building)+":"+string(r.ID)), r.Revision)
}

// Residents implements residents.Residents.
func (s *Store) Residents(ctx context.Context, building string) ([]residents.Resident, error) {
	fields, err := read(ctx, s, redis.NewMapStringStringCmd, "hgetall", residentsKey(building))
	if err != nil {
		return nil, err
	}
	all := make([]residents.Resident, 0, len(fields))
	for field, stored := range fields {
		r, err := s.openResident(building, field, stored)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b residents.Resident) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, nil
}

// Resident implements residents.Residents.
func (s *Store) Resident(ctx context.Context, building string, id handoff.ResidentID) (*residents.Resident, error) {
	stored, err := read(ctx, s, redis.NewStringCmd, "hget", residentsKey(building), string(id))
	if err != nil || stored == "" {
		return nil, err
	}
	r, err := s.openResident(building, string(id), stored)
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// residentScript replaces a resident that still has its revision.
//
//	KEYS[1] residents
//	ARGV[1] id   ARGV[2] the revision that must stand, as stored; empty: none
//	ARGV[3] what to write; empty: the resident is dropped
//
// It returns 1, or 0 if another revision stands.
var residentScript = newScript(`
local now = redis.call('HGET', KEYS[1], ARGV[1])
if (now and string.sub(now, 1, 8) or '') ~= ARGV[2] then
	return 0
end
if ARGV[3] == '' then
	redis.call('HDEL', KEYS[1], ARGV[1])
else
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
`)

// PutResident implements residents.Residents.
func (s *Store) PutResident(ctx context.Context, r residents.Resident) error {
	was := r.Revision
	r.Revision++
	sealed, err := s.sealValue(keyKind(residentsKey(r.Building)), r, residentContext(&r))
	if err != nil {
		return err
	}
	return s.replaceResident(ctx, r, was, append(versionBytes(service.Version(r.Revision)), sealed...))
}

// DropResident implements residents.Residents.
func (s *Store) DropResident(ctx context.Context, r residents.Resident) error {
	return s.replaceResident(ctx, r, r.Revision, nil)
}

func (s *Store) replaceResident(ctx context.Context, r residents.Resident, was uint64, with []byte) error {
	written, err := s.writeIf(ctx, residentScript, []string{residentsKey(r.Building)}, string(r.ID), versionBytes(service.Version(was)), with)
	if err == nil && !written {
		err = storage.ErrConflict
	}
	return err
}

// marksKept is how long a page outlives its last entry: longer than any event is tried.
const marksKept = 8 * 24 * time.Hour

// markScript enters a topic, unless it stands there.
//
//	KEYS[1] page
//	ARGV[1] topic   ARGV[2] seconds to keep the page   ARGV[3] topics that it has room for
//
// It returns the topic's number, with a dot behind it if it is done with.
var markScript = newScript(`
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known then
	local n = redis.call('HLEN', KEYS[1]) + 1
	known = tostring(n)
	if n > tonumber(ARGV[3]) then
		return known
	end
	redis.call('HSET', KEYS[1], ARGV[1], known)
	redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return known
`)

// endMarkScript notes that a topic is done with. Saying so again changes nothing.
//
//	KEYS[1] page
//	ARGV[1] topic   ARGV[2] seconds to keep the page
//
// It returns 1.
var endMarkScript = newScript(`
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and string.sub(known, -1) ~= '.' then
	redis.call('HSET', KEYS[1], ARGV[1], known .. '.')
	redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return 1
`)

// Mark implements residents.Residents.
func (s *Store) Mark(ctx context.Context, m residents.Mark) (number int, ended bool, err error) {
	reply, err := s.writeScript(ctx, markScript, []string{marksKey(m)}, m.Topic, int64(marksKept/time.Second), residents.PageOfMarks)
	if err != nil {
		return 0, false, err
	}
	text, _ := reply.(string)
	text, ended = strings.CutSuffix(text, ".")
	if number, err = strconv.Atoi(text); err != nil {
		return 0, false, fmt.Errorf("%w: a mark that is no number", storage.ErrUnavailable)
	}
	return number, ended, nil
}

// EndMark implements residents.Residents.
func (s *Store) EndMark(ctx context.Context, m residents.Mark) error {
	_, err := s.writeScript(ctx, endMarkScript, []string{marksKey(m)}, m.Topic, int64(marksKept/time.Second))
	return err
}
