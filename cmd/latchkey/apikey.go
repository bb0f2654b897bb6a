package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/storage"
)

// apiKeyCmd keeps the keys of machines, in the service's store and under its keyset.
type apiKeyCmd struct {
	redisAt
	operator

	Keyset string `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keyset (${env})."`

	Policy     string `env:"LATCHKEY_POLICY" placeholder:"FILE" type:"path" help:"The service's rules, which name the shops and carriers that there are; needed to make a key for one (${env})."`
	MaxKeyLife span   `env:"LATCHKEY_MAX_KEY_LIFE" default:"365d" placeholder:"90d" help:"How long a key works at most, as the service is told; a year at most (${env})."`

	Create apiKeyCreateCmd `cmd:"" help:"Make a key, and show it this once."`
	List   apiKeyListCmd   `cmd:"" help:"List the keys, without what is secret of them."`
	Revoke apiKeyRevokeCmd `cmd:"" help:"Revoke a key: within five seconds no instance accepts it."`
}

func (c *apiKeyCmd) open() (*redisstore.Store, *keyring.Ring, func(), error) {
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return nil, nil, nil, err
	}
	store, done, err := openStore(&c.redisAt, ring, time.Hour)
	return store, ring, done, err
}

// longest is how long a key works at most.
func (c *apiKeyCmd) longest() (time.Duration, error) {
	if time.Duration(c.MaxKeyLife) > auth.LongestKeyLife {
		return 0, errKeyLife
	}
	return time.Duration(c.MaxKeyLife), nil
}

var errKeyLife = errors.New("--max-key-life is too long: a key works for a year (365d) at most")

func days(d time.Duration) string { return fmt.Sprintf("%gd", d.Hours()/24) }

// known refuses a shop or carrier that the policy does not have: the key would be good for
// nothing, or for the shop that gets that name later.
func (c *apiKeyCmd) known(k identity.APIKey) error {
	if k.Shop == "" && k.Carrier == "" {
		return nil
	}
	if c.Policy == "" {
		return errors.New("a key for a shop or a carrier needs --policy (LATCHKEY_POLICY), which says which there are")
	}
	policy, err := loadPolicy(c.Policy)
	if err != nil {
		return err
	}
	if _, ok := policy.Shops[k.Shop]; k.Shop != "" && !ok {
		return fmt.Errorf("--shop: there is no such shop in %s", c.Policy)
	}
	if k.Carrier != "" && !slices.Contains(policy.Carriers, k.Carrier) {
		return fmt.Errorf("--carrier: there is no such carrier in %s", c.Policy)
	}
	return nil
}

// keyEndsSoon is how long before its end a key is spoken of.
const keyEndsSoon = 14 * 24 * time.Hour

type apiKeyCreateCmd struct {
	Scopes   []string       `name:"scope" required:"" help:"What it may do: dispatch, shop, carrier, building, door or ops; several with commas."`
	Shop     string         `placeholder:"ID" help:"The shop it speaks for (scopes dispatch and shop)."`
	Carrier  string         `placeholder:"ID" help:"The carrier it speaks for (scope carrier)."`
	Building string         `placeholder:"ID" help:"The building it speaks for (scope building)."`
	Door     string         `placeholder:"ID" help:"The door it speaks for (scope door)."`
	Expires  span           `placeholder:"90d" help:"When it ends by itself, in days (d) or hours (h); left out: when it has lived as long as a key may."`
	Networks []netip.Prefix `name:"network" placeholder:"CIDR" help:"From where it may be used; several with commas. Left out: from anywhere, but for ops, which needs one."`
	Label    string         `placeholder:"TEXT" help:"What it is for, as list shows it."`
}

// Run makes a key. Nothing but the key goes to standard output, so that a script can
// put it where it belongs.
func (c *apiKeyCreateCmd) Run(ctx context.Context, io streams, keys *apiKeyCmd) error {
	if len(c.Label) > 120 || strings.ContainsFunc(c.Label, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("a label is at most 120 bytes, on one line")
	}
	now := time.Now()
	k := identity.APIKey{
		Scopes: c.Scopes, Shop: c.Shop, Carrier: c.Carrier, Building: c.Building, Door: c.Door, Label: c.Label, Created: handoff.InstantOf(now),
	}
	longest, err := keys.longest()
	if err != nil {
		return err
	}
	life := cmp.Or(time.Duration(c.Expires), longest)
	if life > longest {
		return fmt.Errorf("--expires is too long: a key works for %s at most", days(longest))
	}
	k.Expires = handoff.InstantOf(now.Add(life))
	for _, n := range c.Networks { // a caller's address is compared without its IPv6 disguise
		if n.Addr().Is4In6() {
			return fmt.Errorf("%s: write it as IPv4", n)
		}
		k.Networks = append(k.Networks, n.Masked())
	}
	if err := auth.CheckKey(k); err != nil {
		return err
	}
	if err := keys.known(k); err != nil {
		return err
	}
	by, err := keys.actor()
	if err != nil {
		return err
	}
	store, ring, done, err := keys.open()
	if err != nil {
		return err
	}
	defer done()
	token, k, err := auth.NewKey(rand.Reader, ring, k)
	if err != nil {
		return err
	}
	if err := tellOfKey(ctx, store, ring, by, handoff.Made, k); err != nil {
		return err
	}
	if err := store.AddAPIKey(ctx, k); err != nil {
		return err
	}
	fmt.Fprintf(io.err, "The key %s is shown this once; only a hash of it is kept. It ends at %s. Revoke it with: latchkey apikey revoke %s\n",
		k.ID, k.Expires.Time().Format(time.RFC3339), k.ID)
	fmt.Fprintln(io.out, token)
	return nil
}

// span is a duration that may be written in days.
type span time.Duration

// UnmarshalText reads 90d or 12h.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > 36500 {
			err = errors.New("more than a hundred years")
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Minute {
		return errors.New("must be a time such as 90d or 12h")
	}
	*s = span(d)
	return nil
}

type apiKeyListCmd struct{}

// Run lists keys, the oldest first.
func (*apiKeyListCmd) Run(ctx context.Context, io streams, keys *apiKeyCmd) error {
	store, _, done, err := keys.open()
	if err != nil {
		return err
	}
	defer done()
	list, err := store.APIKeys(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b identity.APIKey) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	longest, err := keys.longest()
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "ID\tSCOPES\tFOR\tCREATED\tEXPIRES\tNETWORKS\tLABEL")
	for _, k := range list {
		networks, end, now := "any", auth.KeyEnd(k, longest), time.Now()
		expires := end.Format(time.RFC3339)
		switch {
		case !now.Before(end):
			expires += " (over)"
		case end.Sub(now) < keyEndsSoon:
			expires += " (soon)"
		}
		if len(k.Networks) > 0 {
			networks = strings.Trim(fmt.Sprint(k.Networks), "[]")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, strings.Join(k.Scopes, " "),
			cmp.Or(strings.TrimSpace(k.Shop+" "+k.Carrier+" "+k.Building+" "+k.Door), "-"),
			k.Created.Time().Format(time.RFC3339), expires, networks, cmp.Or(k.Label, "-"))
	}
	return w.Flush()
}

type apiKeyRevokeCmd struct {
	ID string `arg:"" help:"Its id as list shows it, or the key itself."`
}

// Run revokes a key.
func (c *apiKeyRevokeCmd) Run(ctx context.Context, io streams, keys *apiKeyCmd) error {
	id, ok := auth.KeyID(c.ID)
	if !ok {
		return errors.New("that is no id of a key, as list shows them") // and may be a key with a slip in it
	}
	by, err := keys.actor()
	if err != nil {
		return err
	}
	store, ring, done, err := keys.open()
	if err != nil {
		return err
	}
	defer done()
	k, err := store.APIKey(ctx, id)
	switch {
	case errors.Is(err, storage.ErrSealed), errors.Is(err, storage.ErrFormat): // it is revoked all the same
		k = &identity.APIKey{ID: id}
	case err != nil:
		return err
	case k == nil:
		return fmt.Errorf("there is no key %s", id)
	}
	if err := tellOfKey(ctx, store, ring, by, handoff.Revoked, *k); err != nil {
		return err
	}
	if _, err := store.RemoveAPIKey(ctx, id); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s is revoked; within five seconds no instance accepts it\n", id)
	return nil
}
