package api_test

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/redisstore/embedded"
)

// What a session may do that a shop's link began: every operation that a customer may call is
// listed, and all others are refused. Whatever it does is marked in its events with who made
// the link; what its customer does who signed in is not.
func TestWhatAShopsLinkMayDo(t *testing.T) {
	rows := map[string]struct {
		answer string
		event  handoff.EventType // what it leaves; 0: nothing
	}{
		"GET /v1/customers/{customer_id}/handoffs":      {"200", 0},
		"GET /v1/handoffs/{grant_id}":                   {"200", 0},
		"GET /v1/receipts/{receipt_id}":                 {"200", 0},
		"POST /v1/handoffs/{grant_id}/resend":           {"200", handoff.EventCodeResent},
		"POST /v1/handoffs/{grant_id}/reissue":          {"200", handoff.EventCodeReissued},
		"POST /v1/handoffs/{grant_id}/consent":          {"403 confirmation-sent", handoff.EventConsentAsked},
		"POST /v1/handoffs/{grant_id}/dispute":          {"200", handoff.EventDisputed},
		"POST /v1/handoffs/{grant_id}/dispute/withdraw": {"403 person-required", 0},

		"POST /v1/doors/{door_id}/changes/{change_id}/object":  {"403 person-required", 0},
		"POST /v1/doors/{door_id}/changes/{change_id}/approve": {"403 person-required", 0},
	}
	for _, o := range operations() {
		_, customers := o.may[auth.Customer]
		r, listed := rows[o.call]
		if customers != listed {
			t.Errorf("%s: in this table %v, for customers %v", o.call, listed, customers)
		}
		if len(o.may) == 0 || o.stream {
			continue
		}
		for _, linked := range []bool{true, false} {
			b := newBrowsers(t, embedded.New(t))
			e := newEstateIn(t, b.house)
			if o.arrange != nil {
				o.arrange(t, e)
			}
			e.householdOf(t, "cus_90")
			enter := b.enter
			if linked {
				enter = b.byLink
			}
			cookie, csrf := enter(t, owners[auth.Customer])
			before := e.Events(t)
			method, path, _ := strings.Cut(e.fill(o.call), " ")
			a := b.as(t, cookie, method, path, e.fill(o.body), "X-Latchkey-CSRF", csrf, "Sec-Fetch-Site", "same-origin")
			events := slices.DeleteFunc(e.Events(t), func(ev handoff.Event) bool { // they come by partition
				return slices.ContainsFunc(before, func(was handoff.Event) bool { return reflect.DeepEqual(was, ev) })
			})
			switch {
			case !listed:
				if a.short() != "403 insufficient-scope" || len(events) > 0 {
					t.Errorf("%s, linked %v: %s, %d events", o.call, linked, a.short(), len(events))
				}
				continue
			case linked && a.short() != r.answer:
				t.Errorf("%s by a link: %s, want %s: %s", o.call, a.short(), r.answer, a.text)
			case !linked && a.status != http.StatusOK && a.status != http.StatusNoContent:
				t.Errorf("%s signed in: %s", o.call, a.text)
			}
			if linked && (r.event == 0 && len(events) > 0 || r.event != 0 && (len(events) != 1 || events[0].Type != r.event)) {
				t.Errorf("%s by a link leaves %v", o.call, events)
			}
			for _, ev := range events {
				want := ""
				if linked {
					want = clerkName
				}
				by := "customer"
				switch ev.Type {
				case handoff.EventDoorChangeObjected, handoff.EventDoorChangeApproved:
					by = "owner"
				case handoff.EventDoorChanged: // the change that the manager asked for
					by = "manager"
				}
				if ev.By != by || ev.Who == "" || ev.Link != want {
					t.Errorf("%s, linked %v: %s by %q, link %q", o.call, linked, ev.Type, ev.By, ev.Link)
				}
			}
		}
	}
}

// householdOf gives a customer's garage to the unit of the sample address, whose resident
// confirmed an address.
func (h *house) householdOf(t *testing.T, customer string) {
	t.Helper()
	garage := strings.Replace(doorJSON("garage", "carried", `"unit":"4 links"`), "cus_81", customer, 1)
	a := h.expect(t, manager, "PUT", "/v1/doors/garage", garage, 200, "")
	if pending, waits := a.body["pending"].(map[string]any); waits { // the owner agrees to the unit
		owner := auth.Principal{Subject: customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}}
		h.expect(t, owner, "POST", "/v1/doors/garage/changes/"+pending["change_id"].(string)+"/approve", "", 204, "")
	}
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents", `{"residents":[{"email":"resident@home.example","unit":"4 links"}]}`, 200, "")
	all, err := h.Residents.List(t.Context(), "bld_turm5")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Residents.Confirm(t.Context(), "bld_turm5", all[0].ID); err != nil {
		t.Fatal(err)
	}
}

// The attack: a shop's key makes a link, opens it, and agrees in the customer's name. The door
// stays closed until a resident of its unit agrees, at an address that no dispatch named.
func TestAShopsLinkOpensNoHome(t *testing.T) {
	b := newBrowsers(t, embedded.New(t))
	b.staff(t)
	b.expect(t, manager, "PUT", "/v1/buildings/bld_turm5", buildingJSON, 200, "")
	b.expect(t, manager, "PUT", "/v1/doors/garage", doorJSON("garage", "carried"), 200, "")
	grant := b.dispatch(t, "P1", map[string]any{"destination.building_id": "bld_turm5"})
	cookie, csrf := b.byLink(t, customer)
	consent := func(body, want string) *answer {
		t.Helper()
		a := b.as(t, cookie, "POST", "/v1/handoffs/"+grant+"/consent", body, "X-Latchkey-CSRF", csrf, "Sec-Fetch-Site", "same-origin")
		if a.short() != want {
			t.Errorf("%s: %s, want %s: %s", body, a.short(), want, a.text)
		}
		return a
	}
	closed := func() {
		t.Helper()
		a := b.expect(t, courier, "POST", "/v1/doors/garage/unlock", unlockBody("P1", here, challenge), 403, "access-refused")
		if a.at("proofs", "consent") != "failed" && a.at("proofs", "consent") != "missing" {
			t.Errorf("the proof of consent: %s", a.text)
		}
	}
	consent(`{"doors":["garage"]}`, "403 no-confirmed-address") // no unit, no resident: the dispatch's address is none
	consent(`{"doors":["home"]}`, "403 no-confirmed-address")   // there is no such door
	closed()
	b.Clock.Advance(-72 * time.Hour)
	b.householdOf(t, "cus_81")
	b.Clock.Advance(72 * time.Hour)
	consent(`{"doors":["garage"]}`, "403 confirmation-sent")
	closed()
	seen := b.expect(t, customer, "GET", "/v1/handoffs/"+grant, "", 200, "")
	until := b.Clock.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if own := seen.body["own_doors"].([]any)[0].(map[string]any); own["agreed"] != false || own["asked_until"] != until || len(seen.body["consents"].([]any)) != 0 {
		t.Errorf("the customer sees %s", seen.text)
	}
	// The customer, signed in, is asked nothing.
	b.expect(t, customer, "POST", "/v1/handoffs/"+grant+"/consent", `{"doors":["garage"]}`, 200, "")
	b.expect(t, courier, "POST", "/v1/doors/garage/unlock", unlockBody("P1", here, challenge), 200, "")
	var told []string
	for _, e := range b.Events(t) {
		if e.Type == handoff.EventConsentAsked || e.Type == handoff.EventConsented {
			told = append(told, e.Type.String()+" "+e.By+" "+e.Link)
		}
	}
	if want := []string{"consent_asked customer " + clerkName, "consented customer "}; !slices.Equal(told, want) {
		t.Errorf("%q, want %q", told, want)
	}
}
