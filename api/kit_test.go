package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/api/metrics"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/receipt"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
)

// house is the API over a world, with an issuer that it trusts and ears for its log.
type house struct {
	*handofftest.World
	app    *fiber.App
	issuer *authtest.Issuer
	log    *logBuffer
	signer *door.Signer

	once        sync.Once
	description *description // see describes
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newHouse builds on a store; nil is one in memory. Change may alter the configuration.
func newHouse(t testing.TB, store handofftest.Store, change ...func(*api.Config)) *house {
	t.Helper()
	if store == nil {
		store = embedded.New(t)
	}
	h := &house{World: handofftest.New(t, store), log: &logBuffer{}}
	registry := prometheus.NewRegistry()
	m, err := metrics.New(registry)
	if err != nil {
		t.Fatal(err)
	}
	h.Service, err = service.New(service.Config{
		Store: store, Policy: h.Policy, Clock: h.Clock, Namer: handofftest.Namer{}, Random: rand.Reader, Keypads: door.PINs{}, Observer: m,
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.issuer, err = authtest.NewIssuer(rand.Reader, "https://issuer.example", "latchkey", h.Clock.Now); err != nil {
		t.Fatal(err)
	}
	trust := h.issuer.Trust()
	trust.Login = &auth.Login{Name: "Test", ClientID: signInClient}
	verifier, err := auth.NewIssuers(t.Context(), auth.Config{Now: h.Clock.Now}, trust)
	if err != nil {
		t.Fatal(err)
	}
	if h.signer, err = door.NewSigner(rand.Reader); err != nil {
		t.Fatal(err)
	}
	c := api.Config{
		Rooms:   rooms(h.World, store),
		Callers: api.Callers{Verifier: verifier},
		Clock:   h.Clock, Metrics: m, Gatherer: registry,
		Log: slog.New(slog.NewJSONHandler(h.log, nil)), Version: "1.2.3",
	}
	c.Doors = &api.Doors{Signer: h.signer, Feed: store, Poll: time.Millisecond}
	if c.Receipts, err = receipt.NewKeys(rand.Reader); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&c)
	}
	if h.app, err = api.New(c); err != nil {
		t.Fatal(err)
	}
	return h
}

// signInClient is the client by which people sign in.
const signInClient = "pages"

// rooms are those of a world, without doors and without telling residents.
func rooms(w *handofftest.World, store handofftest.Store) api.Rooms {
	return api.Rooms{
		Service: w.Service, Couriers: store, Registry: w.Registry, Directory: w.Residents, PageLinks: w.PageLinks,
		Access: w.Access, Events: store, Figures: store,
	}
}

func (h *house) token(t testing.TB, p auth.Principal) string {
	t.Helper()
	token, err := h.issuer.Sign(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Callers of the sample.
var (
	warehouse = auth.Principal{Subject: "wms", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}}
	shop      = auth.Principal{Subject: "clerk", Shop: "demo", Scopes: []auth.Scope{auth.Shop}}
	customer  = auth.Principal{Subject: "cus_81", Shop: "demo", Scopes: []auth.Scope{auth.Customer}}
	carrier   = auth.Principal{Subject: "dispatcher", Carrier: "swift", Scopes: []auth.Scope{auth.Carrier}}
	courier   = auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}
	ops       = auth.Principal{Subject: "operator", Scopes: []auth.Scope{auth.Ops}}
)

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// code is the problem's; a handoff has a code too, but of another kind.
func (a *answer) code() string {
	if a.status < 400 {
		return ""
	}
	code, _ := a.body["code"].(string)
	return code
}

// at walks into the body: at("customer", "name").
func (a *answer) at(path ...string) any {
	var v any = a.body
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func (h *house) send(t testing.TB, req *http.Request) *answer {
	t.Helper()
	resp, err := h.app.Test(req, -1)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	a := read(t, resp)
	h.hold(t, req, a)
	return a
}

func read(t testing.TB, resp *http.Response) *answer {
	t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if head := resp.Request != nil && resp.Request.Method == http.MethodHead; !head && strings.Contains(resp.Header.Get("Content-Type"), "json") && !strings.Contains(resp.Header.Get("Content-Type"), "ndjson") {
		if err := json.Unmarshal(text, &a.body); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return a
}

func (h *house) do(t testing.TB, who auth.Principal, method, path, body string) *answer {
	t.Helper()
	return h.send(t, h.request(t, who, method, path, body))
}

func (h *house) request(t testing.TB, who auth.Principal, method, path, body string) *http.Request {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, path, content)
	req.Header.Set("Authorization", "Bearer "+h.token(t, who))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// expect is do, and holds the answer to a status and a code.
func (h *house) expect(t testing.TB, who auth.Principal, method, path, body string, status int, code string) *answer {
	t.Helper()
	a := h.do(t, who, method, path, body)
	if a.status != status || a.code() != code {
		t.Fatalf("%s %s = %d %q, want %d %q: %s", method, path, a.status, a.code(), status, code, a.text)
	}
	return a
}

// sample is the dispatch of the contract, with changes at paths such as "customer.id".
// A nil takes the field out.
func sample(parcel string, changes map[string]any) string {
	var d map[string]any
	if err := json.Unmarshal([]byte(sampleDispatch), &d); err != nil {
		panic(err)
	}
	d["parcel_id"] = parcel
	for path, value := range changes {
		m, names := d, strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			m = m[name].(map[string]any)
		}
		if last := names[len(names)-1]; value == nil {
			delete(m, last)
		} else {
			m[last] = value
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(text)
}

const sampleDispatch = `{"parcel_id":"JJD000390007827","order_id":"302-1234567","carrier_id":"swift","route_id":"BER-042",
 "delivery_date":"2026-11-24","purpose":"delivery","value":{"amount":"1299.00","currency":"EUR"},"categories":["electronics"],
 "customer":{"id":"cus_81","name":"Sample Customer 81","email":"customer@shop.example","locale":"de"},
 "destination":{"kind":"residence","lines":["Turmstr. 5"],"postal_code":"10559","city":"Berlin","country":"DE",
   "time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"building_id":"bld_turm5","unit":"4 links"}}`

// dispatch makes the grant of a parcel and returns its id.
func (h *house) dispatch(t testing.TB, parcel string, changes map[string]any) string {
	t.Helper()
	return h.expect(t, warehouse, "POST", "/v1/dispatches", sample(parcel, changes), 201, "").body["grant_id"].(string)
}

// staff registers cou_7 and puts the courier on the sample route.
func (h *house) staff(t testing.TB) {
	t.Helper()
	h.expect(t, carrier, "PUT", "/v1/couriers/swift/cou_7", `{"name":"Courier 7","cleared_until":"2030-01-01"}`, 200, "")
	h.expect(t, carrier, "PUT", "/v1/routes/swift/BER-042/2026-11-24", `{"courier_id":"cou_7"}`, 200, "")
}

// codeOf is what the customer reads.
func (h *house) codeOf(t testing.TB, grant string) string {
	t.Helper()
	return h.codeBy(t, customer, grant)
}

// codeByShop is codeOf as the shop sees it.
func (h *house) codeByShop(t testing.TB, grant string) string {
	t.Helper()
	return h.codeBy(t, shop, grant)
}

func (h *house) codeBy(t testing.TB, who auth.Principal, grant string) string {
	t.Helper()
	code, ok := h.expect(t, who, "GET", "/v1/handoffs/"+grant, "", 200, "").body["code"].(string)
	if !ok {
		t.Fatal("the customer sees no code")
	}
	return code
}

// wrong is a code that was never given out for a parcel.
func (h *house) wrong(t testing.TB, parcel string, n int) string {
	t.Helper()
	g := h.Parcel(t, parcel)
	return handofftest.WrongCode(&g, n).Reveal()
}

const here = `"location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}`

// atDoor is the body of a verify at the sample address.
func atDoor(code string) string {
	if code == "" {
		return `{` + here + `}`
	}
	return `{"code":"` + code + `",` + here + `}`
}

var background = context.Background()
