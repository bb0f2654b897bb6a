package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// A key reads lk_ID_SECRET, in lower case base32 (RFC 4648 section 6, no padding). The id
// ends with a mark that only the service's naming key makes, so that a made-up id is
// refused without asking the store. The secret ends with a checksum (CRC-32) over all
// before it, so that a slip of the pen, and what a scanner for leaked secrets met by
// chance, is told from a key without asking anybody.
const (
	keyPrefix = "lk_"

	idLen     = 10 // random bytes
	markLen   = 5  // bytes
	secretLen = 32 // random bytes
	sumLen    = 4  // bytes
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// keyKept is how long what the store says of a key is believed: a key that is revoked
// stops within five seconds everywhere, and one that is gone costs one read in as long.
const keyKept = 4 * time.Second

// Machines are the scopes that a key can have. A courier and a customer are people.
var Machines = []Scope{Dispatch, Shop, Carrier, Building, Door, Ops}

// CheckKey holds a new key to the rules: known scopes, and exactly the tenant that they
// ask for. The errors name what is wrong in the words of a command line's flags.
func CheckKey(k identity.APIKey) error {
	asked := map[string]bool{}
	if len(k.Scopes) == 0 {
		return errors.New("a key needs a scope")
	}
	for i, s := range k.Scopes {
		if !slices.Contains(Machines, Scope(s)) {
			return fmt.Errorf("a key cannot have the scope %q: must be one of %v", s, Machines)
		}
		if slices.Contains(k.Scopes[:i], s) {
			return fmt.Errorf("the scope %s is given twice", s)
		}
		switch s := Scope(s); s {
		case Dispatch, Shop:
			asked["shop"] = true
		case Carrier, Building, Door:
			asked[string(s)] = true
		}
	}
	for _, tenant := range []struct{ name, id string }{
		{"shop", k.Shop}, {"carrier", k.Carrier}, {"building", k.Building}, {"door", k.Door},
	} {
		switch {
		case asked[tenant.name] && tenant.id == "":
			return fmt.Errorf("its scope needs a %s", tenant.name)
		case !asked[tenant.name] && tenant.id != "":
			return fmt.Errorf("none of its scopes is for a %s", tenant.name)
		case tenant.id != "" && handoff.CheckID(tenant.id) != nil:
			return fmt.Errorf("the %s %w", tenant.name, handoff.ErrID)
		}
	}
	if unbound(k) {
		return errors.New("a key for ops may do everything: name the networks that it is used from, none wider than an IPv4 /8 or an IPv6 /7")
	}
	return nil
}

// NewKey draws a key from random, which must be a cryptographic source. It returns the
// token, which is shown once, and k with its id and its hash, which is all that is kept.
func NewKey(random io.Reader, names handoff.Namer, k identity.APIKey) (token string, _ identity.APIKey, err error) {
	if err := CheckKey(k); err != nil {
		return "", k, err
	}
	drawn := make([]byte, idLen+secretLen)
	if _, err := io.ReadFull(random, drawn); err != nil {
		return "", k, fmt.Errorf("auth: reading a new key: %w", err)
	}
	id, secret := drawn[:idLen:idLen], drawn[idLen:]
	k.ID = base32Lower.EncodeToString(append(id, mark(names, id)...))
	k.Hash = sha256.Sum256(secret)
	sum := binary.BigEndian.AppendUint32(nil, checksum(k.ID, secret))
	return keyPrefix + k.ID + "_" + base32Lower.EncodeToString(append(secret, sum...)), k, nil
}

func mark(names handoff.Namer, id []byte) []byte {
	return names.Name("apikey", base32Lower.EncodeToString(id))[:markLen]
}

func checksum(id string, secret []byte) uint32 {
	return crc32.ChecksumIEEE(append([]byte(keyPrefix+id+"_"), secret...))
}

// KeyID is the id in a key's token, or in text that is the id alone, with lk_ before it
// or without.
func KeyID(text string) (id string, ok bool) {
	id, _, _ = strings.Cut(strings.TrimPrefix(text, keyPrefix), "_")
	_, ok = decode(id, idLen+markLen)
	return id, ok
}

// decode reads n bytes in the one spelling that they have. The library takes others, each
// of which would be an id of its own to the store.
func decode(text string, n int) ([]byte, bool) {
	raw, err := base32Lower.DecodeString(text)
	return raw, err == nil && len(raw) == n && base32Lower.EncodeToString(raw) == text
}

// parseKey takes a token apart.
func parseKey(token string) (id string, raw, secret []byte, ok bool) {
	id, text, _ := strings.Cut(strings.TrimPrefix(token, keyPrefix), "_")
	raw, okID := decode(id, idLen+markLen)
	secret, okSecret := decode(text, secretLen+sumLen)
	if !okID || !okSecret {
		return "", nil, nil, false
	}
	secret, sum := secret[:secretLen], secret[secretLen:]
	return id, raw, secret, binary.BigEndian.Uint32(sum) == checksum(id, secret)
}

// Keys is the Verifier of the keys of machines. Wrong keys are cheap: without the naming
// key no one makes an id that the store is asked for, and what the store says of an id,
// be it that there is no such key, is remembered for seconds.
type Keys struct {
	store identity.Keys
	names handoff.Namer
	life  time.Duration // the longest a key may live
	now   func() time.Time
	cache cache[string, *identity.APIKey] // nil: there is none
}

// NewKeys makes a Verifier of the keys in a store, of which each may live for LongestKeyLife.
// Now nil is time.Now.
func NewKeys(store identity.Keys, names handoff.Namer, now func() time.Time) *Keys {
	if now == nil {
		now = time.Now
	}
	return &Keys{store: store, names: names, life: LongestKeyLife, now: now}
}

// Within lets no key live for longer than life. It is called before the first Verify.
func (v *Keys) Within(life time.Duration) *Keys {
	v.life = life
	return v
}

// LongestKeyLife is a year: no key works for longer, whatever is configured.
const LongestKeyLife = 365 * 24 * time.Hour

// KeyEnd is when a key ends by itself. One that was made without an end, or with a later one,
// ends when it has lived as long as a key may.
func KeyEnd(k identity.APIKey, life time.Duration) time.Time {
	end := k.Created.Time().Add(min(life, LongestKeyLife))
	if k.Expires != 0 {
		end = earlier(end, k.Expires.Time())
	}
	return end
}

// unbound reports whether a key for ops works from anywhere, or nearly.
func unbound(k identity.APIKey) bool {
	if !slices.Contains(k.Scopes, string(Ops)) {
		return false
	}
	return len(k.Networks) == 0 || slices.ContainsFunc(k.Networks, Wide)
}

// Wide reports whether a network is too wide to be one organisation's. The widest that are one's own are
// 10.0.0.0/8 and fc00::/7; two /1 networks together are all addresses.
func Wide(p netip.Prefix) bool {
	return p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 7
}

// Speaks reports whether a key can be used now, and speaks for a shop's staff. It asks the store:
// a key that was revoked speaks for no one from then on.
func (v *Keys) Speaks(ctx context.Context, id, shop string) (bool, error) {
	k, err := v.store.APIKey(ctx, id)
	if err != nil || k == nil {
		return false, err
	}
	return k.Shop == shop && slices.Contains(k.Scopes, string(Shop)) && v.now().Before(KeyEnd(*k, v.life)), nil
}

// Verify implements Verifier.
func (v *Keys) Verify(ctx context.Context, token string) (*Principal, error) {
	if len(token) > maxToken {
		return nil, refuse(WhyMalformed)
	}
	id, raw, secret, ok := parseKey(token)
	switch {
	case !ok:
		return nil, refuse(WhyMalformed)
	case subtle.ConstantTimeCompare(raw[idLen:], mark(v.names, raw[:idLen])) != 1:
		return nil, refuse(WhyKey)
	}
	refuse := func(why Why) error { return &Refusal{Why: why, Key: id} } // an id of ours, and no secret
	now := v.now()
	k, known := v.cache.get(id, now)
	if !known {
		var err error
		if k, err = v.store.APIKey(ctx, id); err != nil {
			return nil, err
		}
		v.cache.put(id, k, now.Add(keyKept)) // from before the question, since the answer may be as old
	}
	if k == nil {
		return nil, refuse(WhyKey)
	}
	hash := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(hash[:], k.Hash[:]) != 1 {
		return nil, refuse(WhyKeySecret)
	}
	if !now.Before(KeyEnd(*k, v.life)) {
		return nil, refuse(WhyKeyExpired)
	}
	caller := Caller(ctx)
	inside := func(n netip.Prefix) bool { return n.Contains(caller) }
	if len(k.Networks) > 0 && !slices.ContainsFunc(k.Networks, inside) {
		return nil, refuse(WhyKeyNetwork)
	}
	if unbound(*k) {
		return nil, refuse(WhyKeyOpen)
	}
	p := &Principal{Key: k.ID, Subject: keyPrefix + k.ID, Shop: k.Shop, Carrier: k.Carrier, Building: k.Building}
	if k.Door != "" { // a controller's subject is its door
		p.Subject = k.Door
	}
	for _, s := range k.Scopes {
		p.Scopes = append(p.Scopes, Scope(s))
	}
	return p, nil
}
