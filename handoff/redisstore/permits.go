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

// permitAhead is how long a permit is claimed ahead of its commit, which makes it
// permitKept: who is refused should not fill the store. No PIN is given out for so long,
// and no request lives as long.
const permitAhead = 5 * time.Minute

// permitEntry is a claim as it stands under its permit.
func permitEntry(p *service.PermitRef) string { return string(p.Parcel) + " " + p.Door + " " + p.Claim }

// unclaimScript forgets a claim, if it is the claimer's.
//
//	KEYS[1] permit
//	ARGV[1] the entry
var unclaimScript = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('DEL', KEYS[1])
end
return 1
`)

// Unclaim implements service.Grants.
func (s *Store) Unclaim(ctx context.Context, ref service.PermitRef) error {
	_, err := s.writeScript(ctx, unclaimScript, []string{permitKey(ref.Permit)}, permitEntry(&ref))
	return err
}

// Permit implements service.Grants.
func (s *Store) Permit(ctx context.Context, id handoff.PermitID) (*service.PermitRef, error) {
	entry, err := read(ctx, s, redis.NewStringCmd, "get", permitKey(id))
	if err != nil || entry == "" {
		return nil, err
	}
	parcel, rest, _ := strings.Cut(entry, " ")
	door, claim, _ := strings.Cut(rest, " ")
	return &service.PermitRef{Permit: id, Parcel: handoff.ParcelHash(parcel), Door: door, Claim: claim}, nil
}
