package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// permitKept is how long a door may report on a permit: it may have been without a
// network for a while.
const permitKept = 48 * time.Hour

// permitAhead is how long a permit's id is reserved ahead of its commit, which makes it
// permitKept: a refused request must not fill the store. No PIN is given out for so long,
// and no request lives as long.
const permitAhead = 5 * time.Minute

// permitEntry is what stands under a permit's id.
func permitEntry(p *service.PermitRef) string {
	return plainFormat + string(p.Parcel) + " " + p.Door + " " + p.Holder
}

// giveBackScript ends the reservation of a permit's id, if it is the holder's.
//
//	KEYS[1] permit
//	ARGV[1] the entry
//
// It returns 1, also where there was nothing to end. It may be repeated.
var giveBackScript = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('DEL', KEYS[1])
end
return 1
`)

// GiveBackPermit implements service.Permits.
func (s *Store) GiveBackPermit(ctx context.Context, ref service.PermitRef) error {
	_, err := s.writeScript(ctx, giveBackScript, []string{permitKey(ref.Permit)}, permitEntry(&ref))
	return err
}

// Permit implements service.Permits.
func (s *Store) Permit(ctx context.Context, id handoff.PermitID) (*service.PermitRef, error) {
	entry, err := read(ctx, s, redis.NewStringCmd, "get", permitKey(id))
	if err != nil || entry == "" {
		return nil, err
	}
	said, err := plain("permit", entry)
	if err != nil {
		return nil, err
	}
	parcel, rest, _ := strings.Cut(said, " ")
	door, holder, _ := strings.Cut(rest, " ")
	return &service.PermitRef{Permit: id, Parcel: handoff.ParcelHash(parcel), Door: door, Holder: holder}, nil
}
