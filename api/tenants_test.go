package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
)

// operation is one line of the table of tenants: a route, who may call it, and what it
// answers to whom. What is not said is refused with insufficient-scope: every scope that
// is not listed, and every token that does not say for whom it speaks.
type operation struct {
	call string // with the names of estate.ids in braces, as the documentation has them
	body string // likewise

	// may says, for each scope, what the owner is answered and what another tenant is: a
	// status, and the code of a problem.
	may map[auth.Scope]cell

	arrange func(t *testing.T, e *estate) // what must have happened before
	ndjson  bool
	stream  bool // the owner's answer does not end

	// uneven says why the work for a foreign id may differ from the work for an unknown one.
	uneven string
}

type cell struct {
	own     string
	foreign string
}

// fine is a cell whose owner is answered 200, and from whom others are told nothing.
func fine(foreign string) cell { return cell{"200", foreign} }

const (
	noGrant    = "404 grant-unknown"
	noParcel   = "404 parcel-unknown"
	noScope    = "403 insufficient-scope"
	noDoor     = "404 door-unknown"
	noBuilding = "404 building-unknown"
	anywhere   = "-" // the operator's: there is no other
)

func operations() []operation {
	done := func(own, foreign string, list ...auth.Scope) map[auth.Scope]cell {
		m := map[auth.Scope]cell{}
		for _, s := range list {
			m[s] = cell{own, foreign}
			if s == auth.Ops {
				m[s] = cell{own, anywhere}
			}
		}
		return m
	}
	scopes := func(foreign string, list ...auth.Scope) map[auth.Scope]cell { return done("200", foreign, list...) }
	public := map[auth.Scope]cell{} // no token is asked for
	const because = `{"reason":"x"}`
	first := func(method, path, body string, who auth.Principal) func(*testing.T, *estate) {
		return func(t *testing.T, e *estate) { e.expect(t, who, method, e.fill(path), e.fill(body), 200, "") }
	}
	unlocked := func(t *testing.T, e *estate) {
		a := e.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "")
		e.ids["permit_id"] = a.body["permit_id"].(string)
	}
	handed := first("POST", "/v1/parcels/{parcel_id}/verify", atDoor("{code}"), courier)
	disputed := func(t *testing.T, e *estate) {
		handed(t, e)
		first("POST", "/v1/handoffs/{grant_id}/dispute", because, owners[auth.Customer])(t, e)
	}
	changing := func(t *testing.T, e *estate) {
		home := strings.Replace(doorJSON("home", "carried"), "cus_81", "cus_90", 1)
		e.expect(t, manager, "PUT", "/v1/doors/home", home, 200, "")
		a := e.expect(t, manager, "PUT", "/v1/doors/home", strings.Replace(home, "cus_90", "cus_92", 1), 200, "")
		e.ids["door_id"], e.ids["change_id"] = "home", a.body["pending"].(map[string]any)["change_id"].(string)
	}
	return []operation{
		{
			call: "POST /v1/dispatches", body: sample("{new}", nil),
			may: map[auth.Scope]cell{auth.Dispatch: {"201", "422 parcel-not-allowed"}, auth.Shop: {"201", "422 parcel-not-allowed"}},
		},
		{call: "POST /v1/dispatches/bulk", body: compact(sample("{new}", nil)), ndjson: true, may: scopes("200", auth.Dispatch, auth.Shop)},
		{call: "GET /v1/dispatches?carrier_id={carrier_id}&route={route_id}&date={date}", may: scopes("200", auth.Dispatch, auth.Shop), uneven: "a route is its carrier's: what another shop has on it is read, and left out"},
		{call: "GET /v1/dispatches/{grant_id}", may: scopes(noGrant, auth.Dispatch, auth.Shop)},
		{call: "POST /v1/dispatches/{grant_id}/reschedule", body: `{"delivery_date":"2026-11-25"}`, may: scopes(noGrant, auth.Dispatch, auth.Shop)},
		{call: "POST /v1/dispatches/{grant_id}/recall", body: because, may: scopes(noGrant, auth.Dispatch, auth.Shop)},
		{call: "POST /v1/dispatches/{grant_id}/hold", body: because, may: scopes(noGrant, auth.Shop, auth.Ops)},
		{
			call: "POST /v1/dispatches/{grant_id}/lift", body: because, may: scopes(noGrant, auth.Shop, auth.Ops),
			arrange: first("POST", "/v1/dispatches/{grant_id}/hold", because, shop),
		},
		{call: "POST /v1/dispatches/{grant_id}/override", body: because, may: scopes(noGrant, auth.Shop)},
		{
			call: "POST /v1/dispatches/{grant_id}/override/approve", may: scopes(noGrant, auth.Shop),
			arrange: first("POST", "/v1/dispatches/{grant_id}/override", because, auth.Principal{Subject: "second", Shop: "demo", Scopes: shop.Scopes}),
		},
		{call: "PUT /v1/routes/{carrier_id}/{route_id}/{date}", body: `{"courier_id":"cou_9"}`, may: scopes(noScope, auth.Carrier, auth.Ops)},
		{call: "GET /v1/routes/{carrier_id}/{route_id}/{date}", may: scopes("404 route-unknown", auth.Carrier, auth.Ops)},
		{call: "PUT /v1/couriers/{carrier_id}/{courier_id}", body: `{"suspended":true}`, may: scopes(noScope, auth.Carrier, auth.Ops)},
		{call: "GET /v1/couriers/{carrier_id}/{courier_id}", may: scopes("404 courier-unknown", auth.Carrier, auth.Ops)},
		{call: "POST /v1/couriers/{carrier_id}/{courier_id}/sign-out", may: scopes("404 courier-unknown", auth.Carrier, auth.Ops)},
		{call: "GET /v1/courier/stops", may: scopes("200", auth.Courier)},
		{call: "POST /v1/parcels/{parcel_id}/verify", body: atDoor("{code}"), may: scopes(noParcel, auth.Courier)},
		{
			call: "POST /v1/parcels/{parcel_id}/abort", body: because, may: scopes(noParcel, auth.Courier),
			arrange: first("POST", "/v1/parcels/{parcel_id}/verify", atDoor("{code}"), courier),
		},
		{call: "POST /v1/parcels/{parcel_id}/attempted", body: because, may: scopes(noParcel, auth.Courier)},
		{
			call: "GET /v1/customers/{customer_id}/handoffs",
			// A shop's customer is the pair of shop and id: another shop has none of that id, yet.
			may: map[auth.Scope]cell{auth.Customer: fine("404 customer-unknown"), auth.Shop: fine("200")},
		},
		{
			call: "POST /v1/customers/{customer_id}/page-link", // of the shop's own customer of that id
			may:  map[auth.Scope]cell{auth.Shop: {"201", "201"}},
		},
		{call: "GET /v1/handoffs/{grant_id}", may: scopes(noGrant, auth.Customer, auth.Shop)},
		{call: "POST /v1/handoffs/{grant_id}/resend", may: scopes(noGrant, auth.Customer, auth.Shop)},
		{call: "POST /v1/handoffs/{grant_id}/reissue", may: scopes(noGrant, auth.Customer, auth.Shop)},
		{call: "POST /v1/handoffs/{grant_id}/consent", body: `{"doors":["garage"]}`, may: scopes(noGrant, auth.Customer)},
		{call: "POST /v1/handoffs/{grant_id}/dispute", body: because, may: scopes(noGrant, auth.Customer), arrange: handed},
		{call: "POST /v1/handoffs/{grant_id}/dispute/withdraw", may: scopes(noGrant, auth.Customer), arrange: disputed},
		{call: "GET /v1/dispatches/{grant_id}/dispute", may: scopes(noGrant, auth.Shop, auth.Ops), arrange: disputed},
		{
			call: "POST /v1/dispatches/{grant_id}/dispute/settle", body: `{"ruling":"not-received","reason":"x"}`,
			may: scopes(noGrant, auth.Ops), arrange: disputed,
		},
		{call: "PUT /v1/buildings/{building_id}", body: buildingJSON, may: scopes(noScope, auth.Building, auth.Ops)},
		{call: "GET /v1/buildings/{building_id}", may: scopes(noBuilding, auth.Building, auth.Ops)},
		{call: "PUT /v1/doors/{door_id}", body: doorJSON("gate", "connected"), may: scopes(noScope, auth.Building, auth.Ops)},
		{call: "GET /v1/doors/{door_id}", may: scopes(noDoor, auth.Building, auth.Ops)},
		{
			call: "POST /v1/doors/{door_id}/changes/{change_id}/object", may: done("204", "404 no-such-change", auth.Customer), arrange: changing,
			uneven: "a change's id is a hash of 64 bits: who has one need not be told that it exists",
		},
		{
			call: "POST /v1/doors/{door_id}/changes/{change_id}/approve", may: done("204", "404 no-such-change", auth.Customer), arrange: changing,
			uneven: "a change's id is a hash of 64 bits: who has one need not be told that it exists",
		},
		{call: "DELETE /v1/doors/{door_id}", may: done("204", noDoor, auth.Building, auth.Ops)},
		{call: "GET /v1/buildings/{building_id}/access-log", may: scopes(noBuilding, auth.Building, auth.Ops)},
		{call: "GET /v1/buildings/{building_id}/access-log/export", may: scopes(noBuilding, auth.Building, auth.Ops)},
		{call: "GET /v1/buildings/{building_id}/residents", may: scopes(noBuilding, auth.Building, auth.Ops)},
		{call: "PUT /v1/buildings/{building_id}/residents", body: `{"residents":[]}`, may: scopes(noBuilding, auth.Building, auth.Ops)},
		{call: "POST /v1/buildings/{building_id}/residents/{resident_id}/approve", may: done("204", noBuilding, auth.Building, auth.Ops)},
		{call: "POST /v1/buildings/{building_id}/residents/{resident_id}/reject", may: done("204", noBuilding, auth.Building, auth.Ops)},
		{call: "POST /v1/buildings/{building_id}/units/{unit}/move-out", may: scopes(noBuilding, auth.Building, auth.Ops)},
		{call: "POST /v1/buildings/{building_id}/announce", may: done("202", noBuilding, auth.Building, auth.Ops)},
		{call: "GET /v1/events", may: scopes(anywhere, auth.Ops)},
		{call: "GET /v1/ops/numbers", may: scopes(anywhere, auth.Ops)},
		{call: "GET /v1/shops/{shop_id}/orders/{order_id}", may: scopes("200", auth.Shop, auth.Ops)}, // another shop's: none
		{call: "GET /v1/doors/keys", may: public},
		{call: "GET /v1/audit/keys", may: public},
		{call: "GET /v1/receipts/keys", may: public},
		{
			call: "GET /v1/receipts/{receipt_id}", arrange: handed,
			may: scopes("404 receipt-unknown", auth.Customer, auth.Shop, auth.Carrier, auth.Courier, auth.Ops),
		},
		{call: "POST /v1/buildings/{building_id}/subscriptions", may: public},
		{call: "GET /v1/access-logs/{token}", may: public},
		{call: "POST /v1/doors/{door_id}/unlock", body: unlockBody("{parcel_id}", here), may: scopes("403 access-refused", auth.Courier)},
		{
			call: "GET /v1/doors/{door_id}/unlocks/{permit_id}", may: scopes("404 permit-unknown", auth.Courier, auth.Building), arrange: unlocked,
			uneven: "a permit's id is 128 random bits: who has one need not be told that it exists",
		},
		{call: "GET /v1/doors/{door_id}/permits", may: scopes(noDoor, auth.Door), stream: true},
		{
			// Couriers carry the reports of any door: what it signed is worth the same whoever brings it.
			call: "POST /v1/doors/{door_id}/reports", body: `{"reports":["AA"]}`,
			may: map[auth.Scope]cell{auth.Door: fine(noDoor), auth.Courier: fine("200")},
		},
	}
}

// estate is a house with two tenants of each kind. What is asked for belongs to the shop
// demo, its customer cus_90, the carrier swift, its courier cou_7 and the building
// bld_turm5; beside them are the shop other, the carrier rival with a courier of the same
// id, and the building bld_other.
type estate struct {
	*house
	ids map[string]string
}

func newEstate(t *testing.T, store handofftest.Store) *estate {
	t.Helper()
	return newEstateIn(t, newHouse(t, store))
}

// newEstateIn is newEstate in a house that stands.
func newEstateIn(t *testing.T, h *house) *estate {
	t.Helper()
	h.staff(t)
	for building, doors := range map[string][]string{"bld_turm5": {"gate", "lobby"}, "bld_other": {"far"}} {
		name := strings.NewReplacer("bld_turm5", building)
		h.expect(t, ops, "PUT", "/v1/buildings/"+building, buildingJSON, 200, "")
		for _, d := range doors {
			h.expect(t, ops, "PUT", "/v1/doors/"+d, name.Replace(doorJSON("gate", "connected")), 200, "")
		}
	}
	h.expect(t, ops, "PUT", "/v1/couriers/rival/cou_7", `{"name":"Rider 7","cleared_until":"2030-01-01"}`, 200, "")
	h.expect(t, ops, "PUT", "/v1/routes/rival/BER-042/2026-11-24", `{"courier_id":"cou_7"}`, 200, "")
	mine := map[string]any{"customer.id": "cus_90", "destination.building_id": "bld_turm5"}
	grant := h.dispatch(t, "P1", mine)
	h.expect(t, others[auth.Dispatch], "POST", "/v1/dispatches", sample("OTH1", map[string]any{
		"carrier_id": "rival", "customer.name": "Sample Customer 5", "customer.id": "cus_91", "destination.lines": []string{"Neustr. 9"},
	}), 201, "")
	g := h.Parcel(t, "P1")
	h.expect(t, manager, "PUT", "/v1/buildings/bld_turm5/residents", `{"residents":[{"email":"resident@home.example","unit":"4 links"}]}`, 200, "")
	residents, err := h.Store.Residents(background, "bld_turm5")
	if err != nil || len(residents) != 1 {
		t.Fatalf("%d residents, %v", len(residents), err)
	}
	return &estate{house: h, ids: map[string]string{
		"grant_id": grant, "carrier_id": "swift", "route_id": "BER-042", "date": "2026-11-24", "courier_id": "cou_7", "parcel_id": "P1",
		"shop_id": "demo", "order_id": "302-1234567",
		"customer_id": "cus_90", "building_id": "bld_turm5", "door_id": "gate", "permit_id": strings.Repeat("ab", 16), "resident_id": string(residents[0].ID),
		"receipt_id": grant + "-h1", "code": g.CurrentCode().Reveal(), "new": "P2", "change_id": strings.Repeat("1", 16), "unit": "4%20links",
	}}
}

// unknown are ids of nothing.
var unknown = map[string]string{
	"grant_id": "000000000000000000000000-1", "receipt_id": "000000000000000000000000-1-h1", "route_id": "BER-000", "courier_id": "cou_0", "parcel_id": "P0", "order_id": "0", "customer_id": "cus_0",
	"building_id": "bld_0", "door_id": "door_0", "permit_id": strings.Repeat("cd", 16), "resident_id": strings.Repeat("2", 24), "new": "P0", "change_id": strings.Repeat("0", 16), "unit": "0",
}

func (e *estate) fill(text string) string {
	for name, id := range e.ids {
		text = strings.ReplaceAll(text, "{"+name+"}", id)
	}
	return text
}

func (e *estate) ask(t *testing.T, o operation, who auth.Principal) *answer {
	t.Helper()
	method, path, _ := strings.Cut(e.fill(o.call), " ")
	req := e.request(t, who, method, path, e.fill(o.body))
	if o.ndjson {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	return e.send(t, req)
}

// standing is all that the owners have, to be compared.
func (e *estate) standing(t *testing.T) []any {
	t.Helper()
	c, err1 := e.Store.Courier(background, handofftest.Courier("cou_7"))
	b, err2 := e.Store.Building(background, "bld_turm5")
	d, err3 := e.Store.Door(background, "gate")
	driver, err4 := e.Store.Driver(background, service.RouteRef{Carrier: "swift", Route: "BER-042", Day: handofftest.Today})
	id, err7 := handoff.ParseGrantID(e.ids["grant_id"])
	record, err5 := e.Service.Record(background, handoff.Actor{Role: handoff.RoleService}, id)
	residents, err6 := e.Store.Residents(background, "bld_turm5")
	if err := errorsOf(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	// A building hears of strangers at its doors; the grant's own events are what counts.
	events := slices.DeleteFunc(e.Events(t), func(ev handoff.Event) bool { return ev.Grant != id })
	return []any{*c, *b, *d, driver, record, residents, len(events)}
}

// owners and others are callers of each scope who have what an estate has, and who do not.
var (
	owners = map[auth.Scope]auth.Principal{
		auth.Dispatch: warehouse, auth.Shop: shop, auth.Carrier: carrier, auth.Courier: courier, auth.Ops: ops, auth.Building: manager,
		auth.Customer: {Subject: "cus_90", Shop: "demo", Scopes: customer.Scopes}, auth.Door: asDoor("gate"),
	}
	others = map[auth.Scope]auth.Principal{
		auth.Dispatch: {Subject: "wms", Shop: handofftest.Other, Scopes: warehouse.Scopes},
		auth.Shop:     {Subject: "clerk", Shop: handofftest.Other, Scopes: shop.Scopes},
		auth.Customer: {Subject: "cus_91", Shop: handofftest.Other, Scopes: customer.Scopes},
		auth.Carrier:  {Subject: "dispatcher", Carrier: "rival", Scopes: carrier.Scopes},
		auth.Courier:  {Subject: "cou_7", Carrier: "rival", Scopes: courier.Scopes},
		auth.Building: {Subject: "manager", Building: "bld_other", Scopes: manager.Scopes},
		auth.Door:     asDoor("far"),
	}
	// near are others who have one thing in common with the owner, and not all that it takes.
	near = map[auth.Scope][]auth.Principal{
		auth.Customer: {
			{Subject: "cus_91", Shop: "demo", Scopes: customer.Scopes},
			{Subject: "cus_90", Shop: handofftest.Other, Scopes: customer.Scopes},
		},
		auth.Door: {
			{Subject: "lobby", Scopes: asDoor("").Scopes}, // the same building's
			{Subject: "gate", Building: "bld_other", Scopes: asDoor("").Scopes},
		},
	}
)

// nobodys is the principal without saying for whom it speaks.
func nobodys(p auth.Principal) auth.Principal {
	p.Shop, p.Carrier, p.Building = "", "", ""
	if p.Has(auth.Door) {
		p.Subject = ""
	}
	return p
}

func (a *answer) short() string { return strings.TrimSpace(fmt.Sprintf("%d %s", a.status, a.code())) }

// secrets of the owners that no other tenant may read, whatever it is answered.
var secrets = []string{"P1", "cus_90", "Sample Customer 81", "customer@shop.example", "Turmstr", "302-1234567", "Courier 7", "gate", "resident@home.example"}

// Every operation, by every scope, for what is the caller's own, for what is another
// tenant's, and by a token that names no tenant.
func TestTenants(t *testing.T) {
	for _, o := range operations() {
		t.Run(o.call, func(t *testing.T) {
			t.Parallel()
			if len(o.may) == 0 {
				return // public: TestScopes
			}
			for scope, who := range owners {
				want, listed := o.may[scope]
				if !listed {
					continue
				}
				e := o.estate(t, nil)
				if o.stream {
					resp, _ := e.dial(t, e.listen(t), who.Subject, "")
					if resp.StatusCode != http.StatusOK {
						t.Errorf("%s of its own: %d", scope, resp.StatusCode)
					}
				} else if a := e.ask(t, o, who); a.short() != want.own {
					t.Errorf("%s of its own: %s, want %s: %s", scope, a.short(), want.own, a.text)
				}
			}

			e := o.estate(t, nil)
			e.ids["new"] = "P1" // which it is not, to others
			before := e.standing(t)
			refused := func(what string, scope auth.Scope, who auth.Principal, want string) {
				t.Helper()
				a := e.ask(t, o, who)
				if a.short() != want {
					t.Errorf("%s %s: %s, want %s: %s", scope, what, a.short(), want, a.text)
				}
				for _, secret := range secrets {
					// As a word: a random token may hold two of its letters.
					if regexp.MustCompile(`(^|\W)` + regexp.QuoteMeta(secret) + `(\W|$)`).MatchString(a.text) {
						t.Errorf("%s %s is told %q: %s", scope, what, secret, a.text)
					}
				}
			}
			for scope, who := range owners {
				want, listed := o.may[scope]
				if !listed {
					refused("of its own", scope, who, noScope)
					want.foreign = noScope
				}
				if scope == auth.Ops {
					continue
				}
				refused("of another", scope, others[scope], want.foreign)
				refused("of nobody", scope, nobodys(who), noScope)
				for _, who := range near[scope] {
					want := want.foreign
					if listed && who.Subject == "cus_90" && strings.HasPrefix(o.call, "GET /v1/customers/") {
						want = "200" // its own list: it has the same id at another shop
					}
					refused("nearby", scope, who, want)
				}
			}
			if after := e.standing(t); !reflect.DeepEqual(after, before) {
				t.Errorf("it is changed by others:\n%+v, was\n%+v", after, before)
			}
		})
	}
}

func (o operation) estate(t *testing.T, store handofftest.Store) *estate {
	t.Helper()
	e := newEstate(t, store)
	if o.arrange != nil {
		o.arrange(t, e)
	}
	return e
}

// Whether an id is another tenant's or nobody's cannot be told: not by the answer, nor by
// what Redis had to do for it. The ids that couriers, shops, carriers and buildings give out
// themselves are asked for as another's and as nobody's; under a foreign carrier, both are.
func TestForeignIsUnknown(t *testing.T) {
	redis := redistest.Single(t)
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	client, err := redisstore.Dial("redis://" + redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(); _ = client.Close() })
	e := newEstate(t, store)
	e.ids["permit_id"] = e.expect(t, courier, "POST", "/v1/doors/gate/unlock", unlockBody("P1", here), 200, "").body["permit_id"].(string)
	e.ids["new"] = "P1"

	// work is what Redis ran for a request, and its answer.
	work := func(o operation, who auth.Principal, ids map[string]string) (*answer, map[string]int) {
		t.Helper()
		f := &estate{house: e.house, ids: ids}
		before := redis.Calls()
		a := f.ask(t, o, who)
		e.Service.Close() // what is settled behind the answer
		done := map[string]int{}
		for name, n := range redis.Calls() {
			if n -= before[name]; n > 0 && !slices.Contains(housekeeping, name) {
				done[name] = n
			}
		}
		return a, done
	}
	nothing := maps.Clone(e.ids)
	maps.Copy(nothing, unknown)
	compared := 0
	for _, o := range operations() {
		if !strings.Contains(o.call+o.body, "_id}") && !strings.Contains(o.body, "{new}") {
			continue
		}
		for scope := range o.may {
			for _, who := range append([]auth.Principal{others[scope]}, near[scope]...) {
				if who.Scopes == nil || who.Subject == "cus_90" && strings.HasPrefix(o.call, "GET /v1/customers/") || who.Subject == "gate" {
					continue // the operator; a list of the caller's own; a door by its own name
				}
				if strings.HasSuffix(o.call, "/page-link") {
					continue // the shop's own customer, whoever else has one of that id; a new link each time
				}
				nothing := maps.Clone(nothing)
				if scope == auth.Courier { // who stands before a door knows that there is one
					nothing["door_id"] = e.ids["door_id"]
				}
				work(o, who, e.ids) // so that neither is the first: connections, buildings of doors
				foreign, done := work(o, who, e.ids)
				none, idle := work(o, who, nothing)
				if foreign.status != none.status || foreign.text != none.text || !reflect.DeepEqual(told(foreign), told(none)) {
					t.Errorf("%s by %s: foreign\n%d %s, unknown\n%d %s", o.call, scope, foreign.status, foreign.text, none.status, none.text)
				}
				if o.uneven == "" && !maps.Equal(done, idle) {
					t.Errorf("%s by %s: a foreign id costs %v, an unknown one %v", o.call, scope, done, idle)
				}
				compared++
			}
		}
	}

	// What is no path of its own: a generation that another followed, and a parcel of another
	// carrier, told from one of none by the couriers and dispatchers of the first.
	e.expect(t, shop, "POST", e.fill("/v1/dispatches/{grant_id}/recall"), `{"reason":"x"}`, 200, "")
	e.dispatch(t, "P1", map[string]any{"delivery_date": "2026-11-25"})
	across := estate{ids: map[string]string{"parcel_id": "OTH1", "new": "OTH1", "code": e.ids["code"], "door_id": "gate"}}
	nowhere := maps.Clone(across.ids)
	nowhere["parcel_id"], nowhere["new"] = "P0", "OTH0"
	for _, o := range operations() {
		for scope := range o.may {
			who, ids, unknown := others[scope], e.ids, nothing
			switch {
			case strings.Contains(o.call, "{grant_id}") && scope != auth.Ops:
			case strings.Contains(o.call+o.body, "{parcel_id}"), strings.Contains(o.body, "{new}"):
				who, ids, unknown = owners[scope], across.ids, nowhere
			default:
				continue
			}
			work(o, who, ids)
			foreign, done := work(o, who, ids)
			none, idle := work(o, who, unknown)
			if foreign.status != none.status || foreign.text != none.text || !maps.Equal(done, idle) {
				t.Errorf("%s by %s: foreign\n%d %s for %v, unknown\n%d %s for %v", o.call, scope, foreign.status, foreign.text, done, none.status, none.text, idle)
			}
			compared++
		}
	}
	if compared < 40 {
		t.Errorf("only %d were compared", compared)
	}
}

// housekeeping are commands of connections and of the counting itself.
var housekeeping = []string{"info", "hello", "ping", "client|setinfo", "client|maint_notifications", "select", "auth"}

// told are an answer's headers but for the request's own id and the time.
func told(a *answer) http.Header {
	h := a.header.Clone()
	for _, name := range []string{"X-Request-Id", "Date"} {
		h.Del(name)
	}
	return h
}
