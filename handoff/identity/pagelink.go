package identity

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
)

// pageLinkLife is how long a shop has to send its customer on.
const pageLinkLife = 5 * time.Minute

const (
	pageLinkDomain = "page-link"
	pageLinkID     = 16 // random bytes
)

// Maker is who of a shop made a link: the holder of a key, or a person by a token of an issuer.
type Maker struct {
	Key    string `cbor:"1,keyasint,omitempty"` // the key's id; empty for a person
	Issuer string `cbor:"2,keyasint,omitempty"` // of the person's token; empty for a key

	// Who is the pseudonym under which events name the maker.
	Who string `cbor:"3,keyasint"`
}

// PageLinks are links by which a shop lets one customer of its own in.
type PageLinks struct {
	used   OneUse
	clock  clock.Clock
	names  handoff.Namer
	random io.Reader
}

// NewPageLinks makes PageLinks. All four are needed; random is a cryptographic source.
func NewPageLinks(used OneUse, c clock.Clock, names handoff.Namer, random io.Reader) *PageLinks {
	return &PageLinks{used: used, clock: c, names: names, random: random}
}

// Make makes the token of a link by which a shop lets one customer of its own in. It
// holds for five minutes, and once: token(end, random id, shop, customer, who, key, issuer),
// with a colon between the last five. What the customer can read in it names no person.
func (l *PageLinks) Make(c handoff.CustomerRef, by Maker) (token string, until time.Time, err error) {
	if (by.Key == "") == (by.Issuer == "") || by.Who == "" {
		return "", time.Time{}, errors.New("identity: a link is made by a key or by a person of an issuer")
	}
	until = handoff.InstantOf(l.clock.Now().Add(pageLinkLife)).Time()
	body := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	id := make([]byte, pageLinkID)
	if _, err := io.ReadFull(l.random, id); err != nil {
		return "", time.Time{}, fmt.Errorf("identity: a new link: %w", err)
	}
	text := strings.Join([]string{c.Shop, c.ID, by.Who, by.Key, by.Issuer}, ":") // an issuer alone may have a colon
	body = append(append(body, id...), text...)
	return Sign(l.names, pageLinkDomain, body), until, nil
}

// read reads a token that holds, used or not.
func (l *PageLinks) read(token string) (pageLink, error) {
	body, ok := ReadSigned(l.names, pageLinkDomain, token)
	if !ok || len(body) <= 8+pageLinkID {
		return pageLink{}, ErrLink
	}
	until := handoff.Instant(binary.BigEndian.Uint64(body))
	parts := strings.SplitN(string(body[8+pageLinkID:]), ":", 5)
	if len(parts) != 5 || !l.clock.Now().Before(until.Time()) { // an older version named no maker
		return pageLink{}, ErrLink
	}
	return pageLink{
		id: hex.EncodeToString(body[8 : 8+pageLinkID]), until: until,
		customer: handoff.CustomerRef{Shop: parts[0], ID: parts[1]},
		maker:    Maker{Who: parts[2], Key: parts[3], Issuer: parts[4]},
	}, nil
}

// pageLink is what a token says.
type pageLink struct {
	id       string
	until    handoff.Instant
	customer handoff.CustomerRef
	maker    Maker
}

// Check reports whether a link can still be used, as far as it says itself. It uses
// nothing up. The error is ErrLink.
func (l *PageLinks) Check(token string) error {
	_, err := l.read(token)
	return err
}

// Use lets a customer in by a link, the first time, and says who made it. The error is
// ErrLink, or the store's.
func (l *PageLinks) Use(ctx context.Context, token string) (handoff.CustomerRef, Maker, error) {
	link, err := l.read(token)
	if err != nil {
		return handoff.CustomerRef{}, Maker{}, err
	}
	first, err := l.used.Spend(ctx, link.id, link.until, handoff.InstantOf(l.clock.Now()))
	switch {
	case err != nil:
		return handoff.CustomerRef{}, Maker{}, err
	case !first:
		return handoff.CustomerRef{}, Maker{}, ErrLink
	}
	return link.customer, link.maker, nil
}

// ErrLink says that a link is not ours, was changed, is over, was used where it may be
// used once, or leads to a person who was erased.
var ErrLink = errors.New("handoff: not a link that holds")

// OneUse keeps what may be used once.
type OneUse interface {
	// Spend reports whether this is the first time that an id is spent, of all callers
	// everywhere: exactly one is told so. The id is hexadecimal, and is forgotten some time
	// after until, after which no one may ask any more. After an error it may have been spent.
	Spend(ctx context.Context, id string, until, now handoff.Instant) (first bool, err error)
}
