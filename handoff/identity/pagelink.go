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
// holds for five minutes, and once: token(end, random id, shop, ":", customer).
func (l *PageLinks) Make(c handoff.CustomerRef) (token string, until time.Time, err error) {
	until = handoff.InstantOf(l.clock.Now().Add(pageLinkLife)).Time()
	body := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	id := make([]byte, pageLinkID)
	if _, err := io.ReadFull(l.random, id); err != nil {
		return "", time.Time{}, fmt.Errorf("identity: a new link: %w", err)
	}
	body = append(append(body, id...), c.Shop+":"+c.ID...) // no id has a colon
	return Sign(l.names, pageLinkDomain, body), until, nil
}

// read reads a token that holds, used or not.
func (l *PageLinks) read(token string) (c handoff.CustomerRef, id string, until handoff.Instant, err error) {
	body, ok := ReadSigned(l.names, pageLinkDomain, token)
	if !ok || len(body) <= 8+pageLinkID {
		return handoff.CustomerRef{}, "", 0, ErrLink
	}
	until = handoff.Instant(binary.BigEndian.Uint64(body))
	shop, customer, ok := strings.Cut(string(body[8+pageLinkID:]), ":")
	if !ok || !l.clock.Now().Before(until.Time()) {
		return handoff.CustomerRef{}, "", 0, ErrLink
	}
	return handoff.CustomerRef{Shop: shop, ID: customer}, hex.EncodeToString(body[8 : 8+pageLinkID]), until, nil
}

// Check reports whether a link can still be used, as far as it says itself. It uses
// nothing up. The error is ErrLink.
func (l *PageLinks) Check(token string) error {
	_, _, _, err := l.read(token)
	return err
}

// Use lets a customer in by a link, the first time. The error is ErrLink, or
// the store's.
func (l *PageLinks) Use(ctx context.Context, token string) (handoff.CustomerRef, error) {
	c, id, until, err := l.read(token)
	if err != nil {
		return handoff.CustomerRef{}, err
	}
	first, err := l.used.Spend(ctx, id, until, handoff.InstantOf(l.clock.Now()))
	switch {
	case err != nil:
		return handoff.CustomerRef{}, err
	case !first:
		return handoff.CustomerRef{}, ErrLink
	}
	return c, nil
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
