package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/keyring"
)

// sessionsCmd keeps the sessions of browsers, in the service's store.
type sessionsCmd struct {
	redisAt
	operator

	Keyset string `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keyset (${env})."`

	Revoke sessionsRevokeCmd `cmd:"" help:"End sessions: at its next request each of these browsers is signed out, on every instance."`
}

type sessionsRevokeCmd struct {
	Shop     string `xor:"whose" required:"" placeholder:"ID" help:"All sessions for this shop: of its customers, of its links and of its staff."`
	Customer string `xor:"whose" required:"" placeholder:"SHOP/ID" help:"All sessions of one customer: a shop, and the customer's id there."`
}

// Run ends sessions, and says how many there were.
func (c *sessionsRevokeCmd) Run(ctx context.Context, io streams, sessions *sessionsCmd) error {
	shop, id, _ := strings.Cut(c.Customer, "/")
	switch {
	case c.Customer != "" && errors.Join(handoff.CheckID(shop), handoff.CheckID(id)) != nil:
		return errors.New("--customer: must be SHOP/ID, each of which " + handoff.ErrID.Error())
	case c.Customer == "" && handoff.CheckID(c.Shop) != nil:
		return errors.New("--shop: " + handoff.ErrID.Error())
	}
	by, err := sessions.actor()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(sessions.Keyset)
	if err != nil {
		return err
	}
	store, done, err := openStore(&sessions.redisAt, ring, time.Hour)
	if err != nil {
		return err
	}
	defer done()
	now := handoff.InstantOf(time.Now())
	e := handoff.Event{Type: handoff.EventSessionsEnded, At: now, By: string(by.Role), Who: handoff.Pseudonym(ring, "who", by.Subject), Shop: c.Shop}
	if c.Customer != "" {
		e.Shop, e.Object = shop, handoff.Pseudonym(ring, "customer", shop+" "+id)
	}
	if err := store.Append(ctx, now, e); err != nil {
		return err
	}
	var ended int
	if c.Customer != "" {
		ended, err = store.RemoveSessionsOf(ctx, handoff.CustomerRef{Shop: shop, ID: id})
	} else {
		ended, err = store.RemoveSessionsOfShop(ctx, c.Shop)
	}
	fmt.Fprintf(io.out, "%d sessions of browsers are ended\n", ended)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.out, "a link that the shop made in the last five minutes can still begin one: revoke the shop's key first (latchkey apikey revoke)")
	return nil
}
