package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore"
)

// operator is who gives a command that changes what a service keeps. The log names the person by a
// pseudonym, as it does everybody.
type operator struct {
	By string `env:"LATCHKEY_BY" placeholder:"NAME" help:"Who gives this command, for the audit trail; left out: the user of this machine (${env})."`
}

// actor is the operator. Who shares an account with others has to be named.
func (o *operator) actor() (handoff.Actor, error) {
	name := o.By
	if name == "" {
		u, err := user.Current()
		if err != nil || u.Username == "" {
			return handoff.Actor{}, errors.New("--by is needed: this machine does not say who gives the command")
		}
		name = u.Username
	}
	if len(name) > 120 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return handoff.Actor{}, errors.New("--by: a name is at most 120 bytes, on one line")
	}
	return handoff.Actor{Role: handoff.RoleOps, Subject: operatorIdentity(name), Person: true}, nil
}

// operatorIdentity is an operator among all who may do something. No issuer is called so.
func operatorIdentity(name string) string { return "operator " + name }

// tellOfKey puts on the service's log what an operator is about to do to an API key.
func tellOfKey(ctx context.Context, store *redisstore.Store, names handoff.Namer, by handoff.Actor, what string, k identity.APIKey) error {
	now := handoff.InstantOf(time.Now())
	err := store.Append(ctx, now, handoff.Event{
		Type: handoff.EventKeyChanged, At: now, By: string(by.Role), Who: handoff.Pseudonym(names, "who", by.Subject), Changes: []string{what},
		Object: k.ID, Scopes: k.Scopes, Shop: k.Shop, Carrier: k.Carrier, Building: k.Building, Door: k.Door,
	})
	if err != nil {
		return fmt.Errorf("the audit trail cannot be written, and so nothing was done: %w", err)
	}
	return nil
}
