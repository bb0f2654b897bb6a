package handoff

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
)

// pageLinkLife is how long a shop has to send its customer on.
const pageLinkLife = 5 * time.Minute

const (
	pageLinkDomain = "page-link"
	pageLinkID     = 16 // random bytes
)

// PageLink makes the token of a link by which a shop lets one customer of its own in. It
// holds for five minutes, and once: token(end, random id, shop, ":", customer).
func (s *Service) PageLink(c CustomerRef) (token string, until time.Time, err error) {
	until = InstantOf(s.clock.Now().Add(pageLinkLife)).Time()
	body := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	id := make([]byte, pageLinkID)
	if _, err := io.ReadFull(s.random, id); err != nil {
		return "", time.Time{}, fmt.Errorf("handoff: a new link: %w", err)
	}
	body = append(append(body, id...), c.Shop+":"+c.ID...) // no id has a colon
	return s.token(pageLinkDomain, body), until, nil
}

// pageLink reads a token that holds, used or not.
func (s *Service) pageLink(token string) (c CustomerRef, id string, until Instant, err error) {
	body, ok := s.said(pageLinkDomain, token)
	if !ok || len(body) <= 8+pageLinkID {
		return CustomerRef{}, "", 0, ErrLink
	}
	until = Instant(binary.BigEndian.Uint64(body))
	shop, customer, ok := strings.Cut(string(body[8+pageLinkID:]), ":")
	if !ok || !s.clock.Now().Before(until.Time()) {
		return CustomerRef{}, "", 0, ErrLink
	}
	return CustomerRef{Shop: shop, ID: customer}, hex.EncodeToString(body[8 : 8+pageLinkID]), until, nil
}

// CheckPageLink reports whether a link can still be used, as far as it says itself. It uses
// nothing up. The error is ErrLink.
func (s *Service) CheckPageLink(token string) error {
	_, _, _, err := s.pageLink(token)
	return err
}

// UsePageLink lets a customer in by a link, the first time. The error is ErrLink, or
// the store's.
func (s *Service) UsePageLink(ctx context.Context, token string) (CustomerRef, error) {
	c, id, until, err := s.pageLink(token)
	if err != nil {
		return CustomerRef{}, err
	}
	first, err := s.store.Spend(ctx, id, until, InstantOf(s.clock.Now()))
	switch {
	case err != nil:
		return CustomerRef{}, err
	case !first:
		return CustomerRef{}, ErrLink
	}
	return c, nil
}
