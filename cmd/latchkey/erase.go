package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/keyring"
	"latchkey/handoff/registry"
)

// eraseCmd forgets a customer on request (GDPR article 17).
type eraseCmd struct {
	redisAt
	operator

	Keyset    string        `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`
	Policy    string        `required:"" env:"LATCHKEY_POLICY" placeholder:"FILE" type:"path" help:"The service's rules (${env})."`
	Retention time.Duration `env:"LATCHKEY_RETENTION" default:"720h" help:"The service's retention (${env})."`
	Customer  string        `required:"" placeholder:"SHOP/ID" help:"Whom to forget: a shop, and the customer's id there."`
}

// Run erases, and says what could not be erased yet.
func (c *eraseCmd) Run(ctx context.Context, io streams) error {
	shop, id, _ := strings.Cut(c.Customer, "/")
	if err := errors.Join(handoff.CheckID(shop), handoff.CheckID(id)); err != nil {
		return errors.New("--customer: must be SHOP/ID, each of which " + handoff.ErrID.Error())
	}
	by, err := c.actor()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return err
	}
	store, grants, done, err := openService(&c.redisAt, ring, c.Policy, c.Retention)
	if err != nil {
		return err
	}
	defer done()
	customer := handoff.CustomerRef{Shop: shop, ID: id}
	erased, open, err := grants.Erase(ctx, by, customer)
	fmt.Fprintf(io.out, "%d deliveries erased, %d are under way and will be when they close\n", erased, open)
	if err != nil {
		return err
	}
	doors, err := registry.New(store, store, wallClock{}).DoorsOf(ctx, customer)
	for _, d := range doors {
		fmt.Fprintf(io.out, "door %s of building %s names the customer as its owner: its manager has to name another\n", d.ID, d.BuildingID)
	}
	fmt.Fprintln(io.out, "not reached: residents (they are kept by mail address), mails that were sent, backups; see docs/retention.md")
	return err
}
