package api_test

import (
	"crypto/rand"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
)

// newKeyHouse is a house that believes API keys as well.
func newKeyHouse(t *testing.T) *house {
	t.Helper()
	store := embedded.New(t)
	return newHouse(t, store, func(c *api.Config) {
		c.Verifier = auth.Either(c.Verifier, auth.NewKeys(store, handofftest.Namer{}, c.Clock.Now))
	})
}

// key makes an API key.
func (h *house) key(t *testing.T, k identity.APIKey) (token, id string) {
	t.Helper()
	k.Created, k.Networks = handoff.InstantOf(h.Clock.Now()), []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8")}
	token, made, err := auth.NewKey(rand.Reader, handofftest.Namer{}, k)
	if err == nil {
		err = h.Store.AddAPIKey(background, made)
	}
	if err != nil {
		t.Fatal(err)
	}
	return token, made.ID
}

// by is do with a token of the test's own.
func (h *house) by(t *testing.T, token, method, path, body string) *answer {
	t.Helper()
	req := h.request(t, ops, method, path, body)
	req.Header.Set("Authorization", "Bearer "+token)
	return h.send(t, req)
}

// told are the events of a type on the log.
func (h *house) told(t *testing.T, what handoff.EventType) []handoff.Event {
	t.Helper()
	return slices.DeleteFunc(h.Events(t), func(e handoff.Event) bool { return e.Type != what })
}

// whoOf is how the log names who calls.
func (h *house) whoOf(p auth.Principal) string {
	return handoff.Pseudonym(handofftest.Namer{}, "who", h.issuer.Name+" "+p.Subject)
}

// A budget is cleared by a person, for a reason, and is on the log. The reason is kept for those
// who run the service, and stands nowhere else.
func TestClearingABudgetTakesAPersonAndAReason(t *testing.T) {
	h := newKeyHouse(t)
	const at, why = "/v1/couriers/swift/cou_7", "Mrs. Sample vouched for the courier"
	clearing := `{"clear_budget":true,"reason":"` + why + `"}`
	h.expect(t, ops, "PUT", at, clearing, 404, "courier-unknown")
	h.staff(t)
	h.dispatch(t, "P1", nil)
	guess := func() {
		h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(h.wrong(t, "P1", 1)), 403, "code-mismatch")
	}
	guess()
	counted := func() int { return len(h.Account(t, "cou_7").Counted) + len(h.Account(t, "cou_7").Excused) }
	machine, _ := h.key(t, identity.APIKey{Scopes: []string{"ops"}})
	both := auth.Principal{Subject: "dispatcher", Carrier: "swift", Scopes: []auth.Scope{auth.Carrier, auth.Ops}}

	h.expect(t, carrier, "PUT", at, clearing, 403, "insufficient-scope")
	for name, body := range map[string]string{
		"none": `{"clear_budget":true}`, "empty": `{"clear_budget":true,"reason":""}`, "blank": `{"clear_budget":true,"reason":" "}`,
		"long": `{"clear_budget":true,"reason":"` + strings.Repeat("x", 201) + `"}`, "without": `{"suspended":true,"reason":"` + why + `"}`,
	} {
		if a := h.expect(t, ops, "PUT", at, body, 422, "invalid-request"); !strings.Contains(a.text, `"location":"body.reason"`) || strings.Contains(a.text, why) {
			t.Errorf("a reason that is %s: %s", name, a.text)
		}
	}
	if a := h.by(t, machine, "PUT", at, `{"suspended":true,"clear_budget":true,"reason":"`+why+`"}`); a.short() != "403 person-required" {
		t.Errorf("by a key: %s", a.text)
	}
	c, err := h.Store.Courier(background, handofftest.Courier("cou_7"))
	if err != nil || c.Suspended || counted() != 1 || len(h.told(t, handoff.EventBudgetCleared)) != 0 {
		t.Fatalf("what was refused was done: %+v, %d wrong codes, %v", c, counted(), err)
	}

	h.expect(t, ops, "PUT", at, clearing, 200, "")
	if counted() != 0 {
		t.Errorf("%d wrong codes after the clearing", counted())
	}
	h.expect(t, both, "PUT", at, clearing, 200, "") // who is of the carrier as well clears as the operator
	events := h.told(t, handoff.EventBudgetCleared)
	if len(events) != 2 {
		t.Fatalf("the log has %+v", events)
	}
	for i, who := range []auth.Principal{ops, both} {
		if e := events[i]; e.By != "ops" || e.Who != h.whoOf(who) || e.APIKey != "" || e.Carrier != "swift" || e.Courier != "cou_7" {
			t.Errorf("the log has %+v", e)
		}
	}
	a := h.expect(t, ops, "GET", at, "", 200, "")
	if list := a.body["budget_cleared"].([]any); len(list) != 2 || list[0].(map[string]any)["reason"] != why || list[1].(map[string]any)["who"] != h.whoOf(ops) {
		t.Errorf("the operator reads %s", a.text)
	}
	for what, text := range map[string]string{
		"the carrier":  h.expect(t, carrier, "GET", at, "", 200, "").text,
		"the log":      h.expect(t, ops, "GET", "/v1/events", "", 200, "").text,
		"the line log": h.log.String(),
	} {
		if strings.Contains(text, "vouched") || what == "the carrier" && strings.Contains(text, "budget_cleared") {
			t.Errorf("%s reads %s", what, text)
		}
	}
}

// What is said of couriers and routes is on the log, with who said it, once for each change.
func TestChangesOfCouriersAreEvents(t *testing.T) {
	h := newKeyHouse(t)
	const at, route = "/v1/couriers/swift/cou_7", "/v1/routes/swift/BER-042/2026-11-24"
	machine, id := h.key(t, identity.APIKey{Scopes: []string{"carrier"}, Carrier: "swift"})
	both := auth.Principal{Subject: "both", Carrier: "rival", Scopes: []auth.Scope{auth.Carrier, auth.Ops}}
	h.expect(t, carrier, "PUT", at, `{}`, 200, "")
	h.expect(t, carrier, "PUT", at, `{"name":"Courier 7","cleared_until":"2030-01-01"}`, 200, "")
	h.expect(t, carrier, "PUT", at, `{"name":"Courier 7","cleared_until":"2030-01-01","suspended":false}`, 200, "") // nothing new
	h.expect(t, ops, "PUT", at, `{"suspended":true}`, 200, "")
	if a := h.by(t, machine, "PUT", at, `{"suspended":false,"cleared_until":"2031-01-01"}`); a.status != 200 {
		t.Fatal(a.text)
	}
	h.expect(t, both, "PUT", "/v1/couriers/swift/cou_8", `{"suspended":true}`, 200, "") // another carrier's dispatcher, as operator
	type line struct{ courier, by, who, key, changes string }
	var got []line
	for _, e := range h.told(t, handoff.EventCourierChanged) {
		got = append(got, line{e.Courier, e.By, e.Who, e.APIKey, strings.Join(e.Changes, " ")})
	}
	machinery := handoff.Pseudonym(handofftest.Namer{}, "who", "key "+id)
	if want := []line{
		{"cou_7", "carrier", h.whoOf(carrier), "", "enrolled name cleared_until"},
		{"cou_7", "ops", h.whoOf(ops), "", "suspended"},
		{"cou_7", "carrier", machinery, id, "cleared_until reinstated"},
		{"cou_8", "ops", h.whoOf(both), "", "enrolled suspended"},
	}; !slices.Equal(got, want) {
		t.Errorf("the log has\n%+v, want\n%+v", got, want)
	}

	h.expect(t, carrier, "PUT", route, `{"courier_id":"cou_7"}`, 200, "")
	h.expect(t, carrier, "PUT", route, `{"courier_id":"cou_7"}`, 200, "")
	if a := h.by(t, machine, "PUT", route, `{"courier_id":"cou_8"}`); a.status != 200 {
		t.Fatal(a.text)
	}
	type drive struct{ route, day, courier, relieved, who, key string }
	var routes []drive
	for _, e := range h.told(t, handoff.EventRouteAssigned) {
		routes = append(routes, drive{e.Route, e.Day.String(), e.Courier, e.Relieved, e.Who, e.APIKey})
	}
	if want := []drive{
		{"BER-042", "2026-11-24", "cou_7", "", h.whoOf(carrier), ""},
		{"BER-042", "2026-11-24", "cou_8", "cou_7", machinery, id},
	}; !slices.Equal(routes, want) {
		t.Errorf("the log has\n%+v, want\n%+v", routes, want)
	}
	a := h.expect(t, ops, "GET", "/v1/events?type=route_assigned,courier_changed&carrier=swift", "", 200, "")
	for _, say := range []string{`"relieved_courier_id":"cou_7"`, `"api_key":"` + id + `"`, `"delivery_date":"2026-11-24"`, `"changes":["enrolled","suspended"]`} {
		if !strings.Contains(a.text, say) {
			t.Errorf("GET /v1/events does not say %s: %s", say, a.text)
		}
	}
	if strings.Contains(a.text, "Courier 7") {
		t.Errorf("a name on the log: %s", a.text)
	}
}

// A link that lets a customer in is on the log, with the key that asked for it, and not the
// customer's id.
func TestLinksAreEvents(t *testing.T) {
	h := newKeyHouse(t)
	const at = "/v1/customers/cus_81/page-link"
	machine, id := h.key(t, identity.APIKey{Scopes: []string{"shop"}, Shop: "demo"})
	h.expect(t, shop, "POST", at, "", 201, "")
	if a := h.by(t, machine, "POST", at, ""); a.status != 201 {
		t.Fatal(a.text)
	}
	whom := handoff.Pseudonym(handofftest.Namer{}, "customer", "demo cus_81")
	machinery := handoff.Pseudonym(handofftest.Namer{}, "who", "key "+id)
	type line struct{ shop, by, who, key, object string }
	var got []line
	for _, e := range h.told(t, handoff.EventLinkMade) {
		got = append(got, line{e.Shop, e.By, e.Who, e.APIKey, e.Object})
	}
	if want := []line{{"demo", "shop", h.whoOf(shop), "", whom}, {"demo", "shop", machinery, id, whom}}; !slices.Equal(got, want) {
		t.Errorf("the log has\n%+v, want\n%+v", got, want)
	}
	if a := h.expect(t, ops, "GET", "/v1/events?type=link_made&shop=demo", "", 200, ""); strings.Contains(a.text, "cus_81") || !strings.Contains(a.text, `"object":"`+whom+`"`) {
		t.Errorf("GET /v1/events: %s", a.text)
	}
}

// unlogged are the operations that change something and put no event on the log, each with the
// reason. All others are in logged.
var unlogged = map[string]string{
	"POST /v1/dispatches/bulk":                                         "a file of dispatches: each line is what POST /v1/dispatches is, and is logged so (TestBulk)",
	"POST /v1/buildings/{building_id}/subscriptions":                   "a resident asks to be told, who is not known before a mail is answered; then it is resident_changed",
	"POST /v1/doors/{door_id}/reports":                                 "each report that verifies is an event of the door (TestReports); the sample of the table does not",
	"PUT /v1/buildings/{building_id}/residents":                        "says who is told, and opens nothing; where a mail is due it is resident_changed",
	"POST /v1/buildings/{building_id}/residents/{resident_id}/approve": "the same",
	"POST /v1/buildings/{building_id}/residents/{resident_id}/reject":  "the same",
}

// nameless are the operations whose events name no one, or not by what the token says, with the reason.
var nameless = map[string]string{
	"POST /v1/dispatches": "the shop is named, and its warehouse is one",
	"POST /v1/doors/{door_id}/changes/{change_id}/object":  "the owner or resident is named as the door and the building know them",
	"POST /v1/doors/{door_id}/changes/{change_id}/approve": "the same",
	"POST /v1/buildings/{building_id}/announce":            "nothing changes: residents are told again what is installed",
}

// logged are the events that an operation puts on the log when it is done for its owner, who has a
// right to it: one of them at least.
var logged = map[string][]handoff.EventType{
	"POST /v1/dispatches":                                    {handoff.EventDispatched},
	"POST /v1/dispatches/{grant_id}/reschedule":              {handoff.EventRescheduled},
	"POST /v1/dispatches/{grant_id}/recall":                  {handoff.EventRecalled},
	"POST /v1/dispatches/{grant_id}/hold":                    {handoff.EventHeld},
	"POST /v1/dispatches/{grant_id}/lift":                    {handoff.EventLifted},
	"POST /v1/dispatches/{grant_id}/override":                {handoff.EventOverrideAsked},
	"POST /v1/dispatches/{grant_id}/override/approve":        {handoff.EventOverridden},
	"POST /v1/dispatches/{grant_id}/dispute/settle":          {handoff.EventDisputeSettled},
	"PUT /v1/routes/{carrier_id}/{route_id}/{date}":          {handoff.EventRouteAssigned},
	"PUT /v1/couriers/{carrier_id}/{courier_id}":             {handoff.EventCourierChanged},
	"POST /v1/couriers/{carrier_id}/{courier_id}/sign-out":   {handoff.EventCourierSignedOut},
	"POST /v1/parcels/{parcel_id}/verify":                    {handoff.EventReleased},
	"POST /v1/parcels/{parcel_id}/abort":                     {handoff.EventAborted},
	"POST /v1/parcels/{parcel_id}/attempted":                 {handoff.EventAttempted},
	"POST /v1/customers/{customer_id}/page-link":             {handoff.EventLinkMade},
	"POST /v1/handoffs/{grant_id}/resend":                    {handoff.EventCodeResent},
	"POST /v1/handoffs/{grant_id}/reissue":                   {handoff.EventCodeReissued},
	"POST /v1/handoffs/{grant_id}/consent":                   {handoff.EventConsented},
	"POST /v1/handoffs/{grant_id}/dispute":                   {handoff.EventDisputed},
	"POST /v1/handoffs/{grant_id}/dispute/withdraw":          {handoff.EventDisputeWithdrawn},
	"PUT /v1/buildings/{building_id}":                        {handoff.EventBuildingChanged},
	"PUT /v1/doors/{door_id}":                                {handoff.EventDoorChanged},
	"DELETE /v1/doors/{door_id}":                             {handoff.EventDoorChanged},
	"POST /v1/doors/{door_id}/changes/{change_id}/object":    {handoff.EventDoorChangeObjected},
	"POST /v1/doors/{door_id}/changes/{change_id}/approve":   {handoff.EventDoorChangeApproved},
	"POST /v1/buildings/{building_id}/units/{unit}/move-out": {handoff.EventUnitMovedOut},
	"POST /v1/buildings/{building_id}/announce":              {handoff.EventBuildingEnrolled},
	"POST /v1/doors/{door_id}/unlock":                        {handoff.EventPermitted},
}

// changed are bodies that change what stands, for operations whose sample in the table repeats it.
var changed = map[string]string{
	"PUT /v1/buildings/{building_id}": strings.Replace(buildingJSON, `"07:00"`, `"08:00"`, 1),
	"PUT /v1/doors/{door_id}":         doorJSON("gate", "connected", `"relock_s":9`),
}

// Every operation that is not a GET puts an event on the log, which names who asked, or has a
// written reason why not. A new operation must be given one or the other.
func TestEveryChangeIsOnTheLog(t *testing.T) {
	known := map[string]bool{}
	for _, o := range operations() {
		known[o.call] = true
		if strings.HasPrefix(o.call, "GET ") {
			continue
		}
		types, is := logged[o.call]
		if reason, not := unlogged[o.call]; is == not || not && reason == "" {
			t.Errorf("%s: which event does it put on the log, or why none?", o.call)
		}
		for _, scope := range slices.Sorted(maps.Keys(o.may)) {
			if !is {
				break
			}
			t.Run(o.call+" by "+string(scope), func(t *testing.T) {
				t.Parallel()
				o := o
				if body := changed[o.call]; body != "" {
					o.body = body
				}
				e := o.estate(t, nil)
				whole := scope == auth.Courier || scope == auth.Door || nameless[o.call] != "" // a courier is named by courier_id
				count := func() (n int) {
					for _, ev := range e.Events(t) {
						if slices.Contains(types, ev.Type) && (whole || ev.By != "" && ev.Who == e.whoOf(owners[scope])) {
							n++
						}
					}
					return n
				}
				before := count()
				if a := e.ask(t, o, owners[scope]); a.status >= 300 {
					t.Fatalf("%d %s", a.status, a.text)
				}
				if count() == before {
					t.Errorf("the log has no new %v that names %s", types, owners[scope].Subject)
				}
			})
		}
	}
	for _, table := range []map[string]bool{keysOf(logged), keysOf(unlogged), keysOf(nameless), keysOf(changed)} {
		for call := range table {
			if !known[call] {
				t.Errorf("%s is no operation", call)
			}
		}
	}
}

func keysOf[V any](m map[string]V) map[string]bool {
	keys := map[string]bool{}
	for k := range m {
		keys[k] = true
	}
	return keys
}
