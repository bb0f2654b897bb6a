package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/identity"
)

// mismatch is a name that one file has and another lacks, mostly a slip of the pen: nothing is
// less safe for it, and a caller will be refused.
type mismatch struct{ says, kind, id string }

// mismatches compares those whom tokens and keys may speak for, and whom mails have names for,
// with the shops and carriers of the policy, in both directions.
func mismatches(policy *handoff.Policy, trust []auth.Trust, keys []identity.APIKey, shopNames, carrierNames map[string]string) []mismatch {
	var found []mismatch
	compare := func(kind string, has []string, of func(*auth.Trust) []string, key func(identity.APIKey) string, names map[string]string) {
		speaks, everybody := map[string]bool{}, false
		add := func(id, says string) {
			if !slices.Contains(has, id) && !slices.Contains(found, mismatch{says, kind, id}) {
				found = append(found, mismatch{says, kind, id})
			}
		}
		for i := range trust {
			for _, id := range of(&trust[i]) {
				if id == auth.Anyone {
					everybody = true
					continue
				}
				speaks[id] = true
				add(id, "the file of issuers names a tenant that the policy does not know: all their requests will be refused")
			}
		}
		for _, k := range keys {
			if id := key(k); id != "" {
				speaks[id] = true
				add(id, "an API key is for a tenant that the policy does not know: all their requests will be refused")
			}
		}
		for _, id := range slices.Sorted(maps.Keys(names)) {
			add(id, "a name for mails is for a shop that the policy does not know")
		}
		for _, id := range has {
			if !everybody && !speaks[id] {
				found = append(found, mismatch{"the policy names a tenant with no issuer and no API key: no request can be made for it", kind, id})
			}
		}
	}
	compare("shop", slices.Sorted(maps.Keys(policy.Shops)),
		func(t *auth.Trust) []string { return t.Shops }, func(k identity.APIKey) string { return k.Shop }, shopNames)
	compare("carrier", slices.Sorted(slices.Values(policy.Carriers)),
		func(t *auth.Trust) []string { return t.Carriers }, func(k identity.APIKey) string { return k.Carrier }, carrierNames)
	return found
}

func warnOf(found []mismatch, log *slog.Logger) {
	for _, m := range found {
		log.Warn(m.says, "of", m.kind, "id", m.id)
	}
}

// keyWatch shows when API keys end, before they do.
type keyWatch struct {
	store   identity.Keys
	life    time.Duration // the longest a key may live
	now     func() time.Time
	metrics *instruments
	log     *slog.Logger
	told    map[string]time.Time // when the end of a key was last spoken of
}

// look reads all keys, once an hour.
func (w *keyWatch) look(ctx context.Context) error {
	keys, err := w.store.APIKeys(ctx)
	if err != nil {
		return err
	}
	now := w.now()
	var soonest time.Time
	ending := 0
	told := map[string]time.Time{}
	for _, k := range keys {
		end := auth.KeyEnd(k, w.life)
		if !now.Before(end) {
			continue
		}
		if soonest.IsZero() || end.Before(soonest) {
			soonest = end
		}
		if end.Sub(now) >= keyEndsSoon {
			continue
		}
		ending++
		if told[k.ID] = w.told[k.ID]; now.Sub(told[k.ID]) >= 24*time.Hour {
			told[k.ID] = now
			w.log.Warn("an API key ends soon: make another (latchkey apikey create) and put it in its place", "key", k.ID, "label", k.Label, "ends", end.UTC().Format(time.RFC3339))
		}
	}
	w.told = told
	w.metrics.keysEnd(soonest, ending)
	return nil
}

// String is for tests.
func (m mismatch) String() string { return fmt.Sprintf("%s %s: %s", m.kind, m.id, m.says) }
