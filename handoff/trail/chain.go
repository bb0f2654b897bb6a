// Package chain keeps a record that cannot be changed behind the back of those who
// hold an end of it: a hash chain with a signed head. It does no I/O of its own.
//
// An entry is a JSON object with a number seq, 1 for the first. Its hash covers the
// hash before it, so that the last one stands for all of them:
//
//	hash(0) = SHA-256(domain, 0, chain)
//	hash(n) = SHA-256(domain, 0, chain, 0, hash(n-1), entry)
//
// where domain is the text latchkey/chain/v1, 0 is a zero byte, chain is the chain's
// name and entry is the object in the one form of RFC 8785 (JCS). Entries hold texts
// and integers below 2^53 only, so that a few lines in a browser verify them.
//
// A [Head] says: at this time, this chain ended with this hash. It is signed, fits on
// one line and is worth keeping: who has one can tell later whether anything up to it
// was changed. docs/audit.md says what that proves and what it does not.
package trail

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const domain = "latchkey/chain/v1"

// nameRule is what chains are called: what it is of, and its id there.
var nameRule = regexp.MustCompile(`^[a-z]{1,16}:[A-Za-z0-9._-]{1,64}$`)

// CheckName reports whether a chain can be called so, such as building:bld_turm5.
func CheckName(name string) error {
	if !nameRule.MatchString(name) {
		return errors.New("chain: a name must match " + nameRule.String())
	}
	return nil
}

// base64url is how bytes are written (RFC 4648 section 5), without padding.
var base64url = base64.RawURLEncoding.Strict()

// decode64 reads base64url in its one spelling: the decoder of the library skips line
// breaks.
func decode64(text string) ([]byte, bool) {
	b, err := base64url.DecodeString(text)
	return b, err == nil && base64url.EncodedLen(len(b)) == len(text)
}

// Hash is an entry's. As text it is 43 characters of base64url.
type Hash [sha256.Size]byte

// String is h in base64url.
func (h Hash) String() string { return base64url.EncodeToString(h[:]) }

// MarshalText is h in base64url.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the form of MarshalText and no other.
func (h *Hash) UnmarshalText(text []byte) error {
	b, ok := decode64(string(text))
	if !ok || len(b) != len(h) {
		return errors.New("chain: not a hash")
	}
	copy(h[:], b)
	return nil
}

// Genesis is what the first entry of a chain follows.
func Genesis(name string) Hash { return sha256.Sum256([]byte(domain + "\x00" + name)) }

// Next is the hash of an entry, in its canonical form, after the one before it.
func Next(name string, before Hash, entry []byte) Hash {
	b := make([]byte, 0, len(domain)+len(name)+2+len(before)+len(entry))
	b = append(append(b, domain...), 0)
	b = append(append(b, name...), 0)
	return sha256.Sum256(append(append(b, before[:]...), entry...))
}

// Canonical is a value in the one form of RFC 8785.
func Canonical(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	return canonical(b)
}

func canonical(raw []byte) ([]byte, error) {
	v := jsontext.Value(append([]byte(nil), raw...))
	if err := v.Canonicalize(); err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	return v, nil
}

// Link is one entry of a chain and where it stands.
type Link struct {
	Seq   uint64
	Hash  Hash
	Entry []byte // canonical
}

// maxSeq is the greatest number that JSON keeps exact (RFC 8785 section 3.2.2.3).
const maxSeq = 1<<53 - 1

// seqOf reads the number of an entry.
func seqOf(entry []byte) (uint64, bool) {
	var e struct {
		Seq uint64 `json:"seq"`
	}
	if json.Unmarshal(entry, &e) != nil || e.Seq == 0 || e.Seq > maxSeq {
		return 0, false
	}
	return e.Seq, true
}

// At is when an entry says that it happened.
func At(entry []byte) time.Time {
	var e struct {
		At int64 `json:"at"`
	}
	if json.Unmarshal(entry, &e) != nil {
		return time.Time{}
	}
	return time.Unix(e.At, 0).UTC()
}

// Builder adds entries to the end of a chain.
type Builder struct {
	name  string
	seq   uint64
	hash  Hash
	links []Link
}

// Build begins at an end: seq 0 with [Genesis], or where a head says.
func Build(name string, seq uint64, hash Hash) *Builder {
	return &Builder{name: name, seq: seq, hash: hash}
}

// Next is the number that the next entry has to have.
func (b *Builder) Next() uint64 { return b.seq + 1 }

// Add puts an entry, a value that marshals as an object with seq, at the end.
func (b *Builder) Add(entry any) error {
	raw, err := Canonical(entry)
	if err != nil {
		return err
	}
	if seq, ok := seqOf(raw); !ok || seq != b.Next() {
		return fmt.Errorf("chain: an entry without the number %d", b.Next())
	}
	b.seq, b.hash = b.seq+1, Next(b.name, b.hash, raw)
	b.links = append(b.links, Link{Seq: b.seq, Hash: b.hash, Entry: raw})
	return nil
}

// Follow moves on over a link that stands in the chain already, if it does follow.
func (b *Builder) Follow(l Link) error {
	raw, err := canonical(l.Entry)
	seq, ok := seqOf(l.Entry)
	if err != nil || !bytes.Equal(raw, l.Entry) || !ok || seq != b.Next() || l.Seq != seq || Next(b.name, b.hash, raw) != l.Hash {
		return errors.New("chain: not the entry that was chained")
	}
	b.seq, b.hash = seq, l.Hash
	return nil
}

// Links are what was added.
func (b *Builder) Links() []Link { return b.links }

// Head is the end, unsigned.
func (b *Builder) Head(at int64) Head { return Head{At: at, Chain: b.name, Hash: b.hash, Seq: b.seq} }
