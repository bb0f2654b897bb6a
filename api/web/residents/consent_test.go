package residents_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"latchkey/api/web/account"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
	"latchkey/api/web/residents"
	"latchkey/api/web/webtest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/registry"
	residence "latchkey/handoff/residents"
)

// askedHouse is a house in which who came by a shop's link asked that the home be opened. It
// returns the path of the link that is mailed to the unit's resident.
func askedHouse(t *testing.T) (h *frametest.House, id handoff.GrantID, link func() string) {
	t.Helper()
	h = frametest.New(t, nil, func(w *handofftest.World) []frame.Set {
		return []frame.Set{account.Set(w.PageLinks), residents.Set(residents.Config{
			Links: w.Residents, Buildings: w.Registry, Grants: w.Service, CarrierNames: map[string]string{handofftest.Carrier: "Swift Parcels"},
		})}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, at := t.Context(), handofftest.Home
	must(h.Registry.Enroll(ctx, handoff.Building{ID: "bld_turm5", Name: "Sample House", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}))
	g := h.Dispatch(t, handofftest.Sample("P1"))
	must(h.Registry.EnrollDoor(ctx, handoff.Door{
		ID: "home", Kind: handoff.Home, Mode: handoff.Connected, BuildingID: "bld_turm5", Location: &at, Unit: "4 links",
		Owner: &handoff.CustomerRef{Shop: g.Dispatch.Shop, ID: g.Dispatch.Customer.ID},
	}))
	must(h.Residents.PutOnFile(ctx, "bld_turm5", []residence.Subscription{{Address: "resident@home.example", Unit: "4 links", Locale: "de"}}))
	all, err := h.Residents.List(ctx, "bld_turm5")
	must(err)
	_, err = h.Residents.Confirm(ctx, "bld_turm5", all[0].ID)
	must(err)
	askOpen(t, h, g.ID)
	return h, g.ID, func() string {
		t.Helper()
		g := h.Parcel(t, "P1")
		return "/residents/consent/" + h.Residents.ConsentLink(residence.ConsentLink{
			Grant: g.ID, Ask: g.ConsentAsk.ID(), Building: "bld_turm5", Resident: all[0].ID, Until: g.ConsentAsk.Until(),
		})
	}
}

// askOpen asks by a shop's link that the home be opened.
func askOpen(t *testing.T, h *frametest.House, id handoff.GrantID) {
	t.Helper()
	c := h.ByLink(frametest.Customer)
	r := httptest.NewRequest("POST", "/v1/handoffs/"+id.String()+"/consent", strings.NewReader(`{"doors":["home"]}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("X-Latchkey-CSRF", c.CSRF)
	if p := c.Send(t, r); p.Status != 403 || !strings.Contains(p.Text, `"confirmation-sent"`) {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
}

// A resident agrees by the link in a mail: looking at it changes nothing, a page of another
// site cannot press the button, and it can be pressed once.
func TestAResidentAgrees(t *testing.T) {
	h, _, link := askedHouse(t)
	path, before := link(), h.Versions(t, "P1")
	for range 3 { // a scanner looks at it
		p := h.Anonymous().Get(t, path)
		for _, want := range []string{"Darf ein Kurier Ihre Tür öffnen?", "Wohnungstür", "4 links", "Sample House", "Swift Parcels", `value="agree"`} {
			if p.Status != 200 || !strings.Contains(p.Text, want) {
				t.Errorf("%d, no %q in %s", p.Status, want, p.Text)
			}
		}
		for _, other := range []string{strings.TrimPrefix(path, "/residents/consent/"), "Sample Customer", "P1<", "customer@shop.example"} {
			if strings.Contains(p.Text, other) {
				t.Errorf("the page shows %q", other)
			}
		}
	}
	r := httptest.NewRequest("POST", path, strings.NewReader("do=agree"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := h.Anonymous().Send(t, r); p.Status != 403 {
		t.Errorf("from another site: %d", p.Status)
	}
	if p := h.Anonymous().Post(t, path, url.Values{"List-Unsubscribe": {"One-Click"}}); p.Status != 404 {
		t.Errorf("what a mail program sends: %d", p.Status)
	}
	if after := h.Versions(t, "P1"); after != before {
		t.Errorf("it was changed:\n%s\nis now\n%s", before, after)
	}
	if p := h.Anonymous().Post(t, path, url.Values{"do": {"agree"}}); p.Status != 200 || !strings.Contains(p.Text, "Zugestimmt") {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	if g := h.Parcel(t, "P1"); len(g.Consents) != 1 || g.Consents[0] != handoff.Home {
		t.Errorf("consents %v", g.Consents)
	}
	events := h.Events(t)
	if e := events[len(events)-1]; e.Type != handoff.EventConsented || e.By != "resident" || len(e.Who) != 16 || e.Link != "0123456789abcdef" {
		t.Errorf("%+v", e)
	}
	for _, method := range []string{"GET", "POST"} {
		r := httptest.NewRequest(method, path, strings.NewReader("do=agree"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		if p := h.Anonymous().Send(t, r); p.Status != 410 || !strings.Contains(p.Text, "Nothing to agree to any more") {
			t.Errorf("%s again: %d %s", method, p.Status, p.Text)
		}
	}
}

// A link agrees to nothing once something else was decided, its resident is none any more, or
// its time is over.
func TestALinkThatAgreesToNothing(t *testing.T) {
	for name, c := range map[string]struct {
		then   func(*testing.T, *frametest.House, handoff.GrantID)
		status int
	}{
		"taken back": {func(t *testing.T, h *frametest.House, id handoff.GrantID) {
			h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id.String()+"/consent", `{"doors":[]}`, 200)
		}, 410},
		"asked anew": {func(t *testing.T, h *frametest.House, id handoff.GrantID) {
			h.Clock.Advance(time.Minute)
			askOpen(t, h, id)
		}, 410},
		"recalled": {func(t *testing.T, h *frametest.House, id handoff.GrantID) {
			h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+id.String()+"/recall", `{"reason":"x"}`, 200)
		}, 410},
		"an hour later": {func(_ *testing.T, h *frametest.House, _ handoff.GrantID) { h.Clock.Advance(time.Hour) }, 404},
		"moved out": {func(t *testing.T, h *frametest.House, _ handoff.GrantID) {
			h.Do(t, frametest.Manager, "PUT", "/v1/buildings/bld_turm5/residents", `{"residents":[]}`, 200)
		}, 404},
		"another unit's door": {func(t *testing.T, h *frametest.House, _ handoff.GrantID) {
			d, err := h.Store.Door(t.Context(), "home")
			if err != nil {
				t.Fatal(err)
			}
			d.Unit = "5"
			_, stands, err := h.Registry.ReplaceDoor(t.Context(), registry.By{}, *d, registry.Match{})
			if err == nil { // its people agree, so that it counts now
				err = h.Registry.Approve(t.Context(), registry.By{}, &stands, stands.Pending.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			h, id, link := askedHouse(t)
			path := link()
			c.then(t, h, id)
			before := h.Versions(t, "P1")
			for _, p := range []*frametest.Page{h.Anonymous().Get(t, path), h.Anonymous().Post(t, path, url.Values{"do": {"agree"}})} {
				if p.Status != c.status {
					t.Errorf("%d, want %d: %s", p.Status, c.status, p.Text)
				}
			}
			if g := h.Parcel(t, "P1"); len(g.Consents) > 0 || h.Versions(t, "P1") != before {
				t.Errorf("it agreed to %v", g.Consents)
			}
		})
	}
}

// In a browser: who came by a shop's link presses the button and reads that the flat is asked; a
// resident opens the link of the mail and agrees.
func TestConsentInABrowser(t *testing.T) {
	h, id, link := askedHouse(t)
	h.Clock.Advance(time.Minute)
	b := webtest.Start(t)
	b.Quiet()
	base := h.Listen(t)
	b.Cookie(base, frametest.Cookie, h.ByLink(frametest.Customer).Cookie)
	b.Zone("Europe/Berlin")
	b.Open(base + "/account/" + id.String())
	b.Click(`#doors button[value="yes"]`)
	b.Reads(".note.good", "Nothing opens yet. We sent a mail to the residents of your flat, at the address that they confirmed for the door. Agree by the link in it, within the hour.")
	b.Looks("account-consent-asked", 360, 1280)

	other := b.Another()
	other.Zone("Europe/Berlin")
	other.Open(base + link())
	other.Reads("h1", "Darf ein Kurier Ihre Tür öffnen?")
	other.Looks("residents-consent", 360, 1280)
	other.Click(`button[value="agree"]`)
	other.Reads("h1", "Zugestimmt")
	if g := h.Parcel(t, "P1"); len(g.Consents) != 1 {
		t.Errorf("consents %v", g.Consents)
	}
}
