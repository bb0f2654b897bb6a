package residents_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
)

const (
	house = "bld_turm5"
	unit  = "4 links"
	here  = "resident@home.example"
)

// unitWorld is a house with the home of the sample's customer, and a confirmed resident of its
// unit, some days ago.
func unitWorld(t *testing.T) (*handofftest.World, handoff.Grant, handoff.Door) {
	t.Helper()
	w := handofftest.New(t, embedded.New(t))
	ctx, at := t.Context(), handofftest.Home
	must(t, w.Registry.Enroll(ctx, handoff.Building{ID: house, Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}, Manager: "manager@house.example"}))
	g := w.Dispatch(t, handofftest.Sample("P1"))
	d := handoff.Door{
		ID: "home", Kind: handoff.Home, Mode: handoff.Connected, BuildingID: house, Location: &at, Unit: unit,
		Owner: &handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID},
	}
	must(t, w.Registry.EnrollDoor(ctx, d))
	must(t, w.Residents.PutOnFile(ctx, house, []residents.Subscription{{Address: here, Unit: unit}}))
	confirm(t, w, here)
	return w, g, d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func confirm(t *testing.T, w *handofftest.World, address string) {
	t.Helper()
	_, err := w.Residents.Confirm(t.Context(), house, resident(t, w, address))
	must(t, err)
}

func resident(t *testing.T, w *handofftest.World, address string) handoff.ResidentID {
	t.Helper()
	all, err := w.Residents.List(t.Context(), house)
	must(t, err)
	i := slices.IndexFunc(all, func(r residents.Resident) bool { return r.Address == address })
	if i < 0 {
		t.Fatalf("no resident of that address among %d", len(all))
	}
	return all[i].ID
}

// Who is asked whether a customer's own door may be opened: confirmed residents of its unit,
// and nobody where that is not certain.
func TestConfirmers(t *testing.T) {
	home, both := []handoff.TargetKind{handoff.Home}, []handoff.TargetKind{handoff.Garage, handoff.Home}
	door := func(w *handofftest.World, t *testing.T, d handoff.Door, change func(*handoff.Door)) {
		t.Helper()
		change(&d)
		_, stands, err := w.Registry.ReplaceDoor(t.Context(), registry.By{}, d, registry.Match{})
		must(t, err)
		if c := stands.Pending; c != nil { // its people agree, so that it counts now
			must(t, w.Registry.Approve(t.Context(), registry.By{}, &stands, c.ID))
		}
	}
	file := func(w *handofftest.World, t *testing.T, confirmed bool, list ...residents.Subscription) {
		t.Helper()
		must(t, w.Residents.PutOnFile(t.Context(), house, list))
		for _, s := range list {
			if confirmed {
				confirm(t, w, s.Address)
			}
		}
	}
	first := residents.Subscription{Address: here, Unit: unit}
	for name, c := range map[string]struct {
		kinds  []handoff.TargetKind
		change func(*testing.T, *handofftest.World, handoff.Door)
		want   []string
	}{
		"a confirmed resident": {home, func(*testing.T, *handofftest.World, handoff.Door) {}, []string{here}},
		"two of them": {home, func(t *testing.T, w *handofftest.World, _ handoff.Door) {
			file(w, t, true, first, residents.Subscription{Address: "second@home.example", Unit: "4  LINKS"})
		}, []string{here, "second@home.example"}},
		"one who did not confirm": {home, func(t *testing.T, w *handofftest.World, _ handoff.Door) {
			file(w, t, false, first, residents.Subscription{Address: "second@home.example", Unit: unit})
		}, []string{here}},
		"one who was not approved": {home, func(t *testing.T, w *handofftest.World, _ handoff.Door) {
			must(t, w.Residents.Subscribe(t.Context(), house, residents.Subscription{Address: "stranger@home.example", Unit: unit}))
			confirm(t, w, "stranger@home.example")
		}, []string{here}},
		"of another unit, or of the house": {home, func(t *testing.T, w *handofftest.World, _ handoff.Door) {
			file(w, t, true, first, residents.Subscription{Address: "other@home.example", Unit: "5"}, residents.Subscription{Address: "whole@home.example"})
		}, []string{here}},
		"one who is removed": {home, func(t *testing.T, w *handofftest.World, _ handoff.Door) { file(w, t, false) }, nil},
		"the address of the dispatch alone": {home, func(t *testing.T, w *handofftest.World, _ handoff.Door) {
			must(t, w.Residents.Unsubscribe(t.Context(), house, resident(t, w, here)))
		}, nil},
		"a door of no unit": {home, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			door(w, t, d, func(d *handoff.Door) { d.ID, d.Unit = "home-2", "" })
		}, nil},
		"a door of another owner": {home, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			door(w, t, d, func(d *handoff.Door) { d.Owner = &handoff.CustomerRef{Shop: "other", ID: "cus_81"} })
		}, nil},
		"doors of two units": {home, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			door(w, t, d, func(d *handoff.Door) { d.ID, d.Unit = "home-2", "5" })
		}, nil},
		"two doors of one unit": {both, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			door(w, t, d, func(d *handoff.Door) { d.ID, d.Kind = "garage", handoff.Garage })
		}, []string{here}},
		"no garage": {both, func(*testing.T, *handofftest.World, handoff.Door) {}, nil},
		"no kind":   {nil, func(*testing.T, *handofftest.World, handoff.Door) {}, nil},
		"a removed door": {home, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			must(t, w.Store.PutDoor(t.Context(), handoff.Door{ID: d.ID, BuildingID: house, Removed: true}))
		}, nil},
		"another unit since an hour": {home, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			file(w, t, true, first, residents.Subscription{Address: "other@home.example", Unit: "5"})
			door(w, t, d, func(d *handoff.Door) { d.Unit = "5" })
			w.Clock.Advance(time.Hour)
		}, nil},
		"another unit since three days": {home, func(t *testing.T, w *handofftest.World, d handoff.Door) {
			file(w, t, true, first, residents.Subscription{Address: "other@home.example", Unit: "5"})
			door(w, t, d, func(d *handoff.Door) { d.Unit = "5" })
			w.Clock.Advance(72 * time.Hour)
		}, []string{"other@home.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, g, d := unitWorld(t)
			c.change(t, w, d)
			who, err := w.Residents.Confirmers(t.Context(), &g, c.kinds)
			must(t, err)
			var got []string
			for _, r := range who {
				got = append(got, r.Address)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestConsentLink(t *testing.T) {
	w, g, _ := unitWorld(t)
	want := residents.ConsentLink{
		Grant: g.ID, Ask: "5c0-1", Building: house, Resident: resident(t, w, here), Until: w.Clock.Now().Add(time.Hour).UTC().Truncate(time.Second),
	}
	token := w.Residents.ConsentLink(want)
	if got, err := w.Residents.ReadConsentLink(token); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	must(t, err)
	for i := range raw { // every byte counts
		forged := slices.Clone(raw)
		forged[i] ^= 1
		if _, err := w.Residents.ReadConsentLink(base64.RawURLEncoding.EncodeToString(forged)); !errors.Is(err, identity.ErrLink) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for name, token := range map[string]string{
		"nothing": "", "cut": token[:len(token)-4], "long": strings.Repeat("A", 9000),
		"another link of the resident": w.Residents.Link(residents.LinkLog, house, want.Resident),
	} {
		if _, err := w.Residents.ReadConsentLink(token); !errors.Is(err, identity.ErrLink) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.Clock.Advance(time.Hour)
	if _, err := w.Residents.ReadConsentLink(token); !errors.Is(err, identity.ErrLink) {
		t.Errorf("at its end: %v", err)
	}
}
