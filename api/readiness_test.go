package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// A shop's warehouse pulls a route's parcels by how far the mails with their codes came. It sees its
// own parcels, and of nobody's customer more than that.
func TestReadiness(t *testing.T) {
	h := newHouse(t, nil)
	ids := map[string]handoff.GrantID{}
	for _, parcel := range []string{"P1", "P2", "P3", "P4", "P5"} {
		h.dispatch(t, parcel, nil)
		ids[parcel] = h.Parcel(t, parcel).ID
	}
	h.dispatch(t, "P6", map[string]any{"value.amount": "10.00", "categories": []any{}})
	g := h.Parcel(t, "P1")
	if err := h.Service.MailTaken(t.Context(), &g, handoff.MailAccepted); err != nil {
		t.Fatal(err)
	}
	g = h.Parcel(t, "P2")
	if err := h.Service.MailTaken(t.Context(), &g, handoff.MailDelivered); err != nil {
		t.Fatal(err)
	}
	if err := h.Service.MailFailed(t.Context(), ids["P3"], 1, handoff.MailBounced, "5.2.2"); err != nil {
		t.Fatal(err)
	}
	h.expect(t, customer, "GET", "/v1/handoffs/"+ids["P4"].String(), "", 200, "")
	h.expect(t, shop, "GET", "/v1/handoffs/"+ids["P5"].String(), "", 200, "") // the shop is not the customer

	const route = "/v1/dispatches?carrier_id=swift&route=BER-042&date=2026-11-24"
	list := func(who auth.Principal, query string) (found []string) {
		t.Helper()
		a := h.expect(t, who, "GET", query, "", 200, "")
		for _, secret := range []string{"customer@", "Turmstr", g.CurrentCode().Reveal(), `"code"`, "cus_81"} {
			if strings.Contains(a.text, secret) {
				t.Errorf("%s stands in %s", secret, a.text)
			}
		}
		for _, v := range a.body["dispatches"].([]any) {
			d := v.(map[string]any)
			says := fmt.Sprint(d["parcel_id"], " ", d["mail"])
			for _, more := range []string{"mail_failed_why", "smtp_status"} {
				if d[more] != nil {
					says += fmt.Sprint(" ", d[more])
				}
			}
			if (d["mail_since"] != nil) != (d["mail"] != "none") || d["code_required"] != (d["parcel_id"] != "P6") {
				t.Errorf("%v", d)
			}
			found = append(found, says)
		}
		slices.Sort(found)
		return found
	}
	all := []string{"P1 accepted", "P2 delivered", "P3 failed mail-bounced 5.2.2", "P4 seen", "P5 none", "P6 none"}
	rival := auth.Principal{Subject: "wms", Shop: "other", Scopes: []auth.Scope{auth.Dispatch}}
	for _, c := range []struct {
		who   auth.Principal
		query string
		want  []string
	}{
		{warehouse, route, all},
		{shop, route, all},
		{warehouse, route + "&mail=failed", all[2:3]},
		{warehouse, route + "&mail=accepted", all[:1]},
		{warehouse, route + "&mail=delivered", all[1:2]},
		{warehouse, route + "&mail=seen", all[3:4]},
		{warehouse, route + "&mail=none", all[4:]},
		{warehouse, "/v1/dispatches?carrier_id=swift&route=BER-042&date=2026-11-25", nil},
		{warehouse, "/v1/dispatches?carrier_id=swift&route=BER-043&date=2026-11-24", nil},
		{rival, route, nil},
	} {
		if got := list(c.who, c.query); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.who.Shop, c.query, got, c.want)
		}
	}

	var paged []string
	next := ""
	for range 10 {
		query := route + "&limit=4" + next
		paged = append(paged, list(warehouse, query)...)
		cursor, more := h.expect(t, warehouse, "GET", query, "", 200, "").body["next"].(string)
		if !more {
			break
		}
		next = "&cursor=" + cursor
	}
	if slices.Sort(paged); !slices.Equal(paged, all) {
		t.Errorf("page by page: %q", paged)
	}

	for _, query := range []string{
		"", "?route=BER-042", "?route=BER-042&date=soon", "?date=2026-11-24", "?carrier_id=a/b&route=BER-042&date=2026-11-24",
		"?carrier_id=swift&route=..&date=2026-11-24", "?carrier_id=swift&route=BER-042&date=2026-11-24&mail=lost",
		"?carrier_id=swift&route=BER-042&date=2026-11-24&limit=0", "?carrier_id=swift&route=BER-042&date=2026-11-24&cursor=x",
	} {
		h.expect(t, warehouse, "GET", "/v1/dispatches"+query, "", 422, "invalid-request")
	}
	for _, who := range []auth.Principal{customer, courier, carrier, ops, manager} {
		h.expect(t, who, "GET", route, "", 403, "insufficient-scope")
	}
}
