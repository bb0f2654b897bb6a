// Package handofftest helps to test what stands on package handoff: a store in memory,
// a clock to set, stores that fail on demand, the suite that every store passes, and
// a model that checks the rules over random histories.
package handofftest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
	"latchkey/otp"
)

// TB is what the helpers need of a test. *testing.T, *testing.B and *rapid.T have it.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Clock is a clock that stands until it is moved. It may be used concurrently.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	elapsed time.Duration
}

// NewClock makes a clock that stands at now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now implements [clock.Clock].
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Elapsed is the time that passed, which Step does not change: see [latchkey/handoff/clock.Elapsed].
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// Set lets time pass until now.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.elapsed += max(now.Sub(c.now), 0)
	c.now = now
}

// Step sets the clock forward or back by d, while no time passes.
func (c *Clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Advance lets d pass.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }

// Namer is a keyed hash with a key that everybody knows, so that names are the same
// in every run.
type Namer struct{}

// Name implements [handoff.Namer] by HMAC-SHA-256 over length-prefixed parts.
func (Namer) Name(domain string, parts ...string) []byte {
	mac := hmac.New(sha256.New, []byte("handofftest"))
	for _, part := range append([]string{domain}, parts...) {
		mac.Write(binary.AppendUvarint(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}

// The sample that a World is made of.
const (
	Shop    = "demo"
	Carrier = "swift"
	Route   = "BER-042"
	Zone    = "Europe/Berlin"
)

var (
	// Home is where the sample parcels go.
	Home = handoff.PointOf(52.5256, 13.3421)

	// Today is the sample parcels' delivery day, in a winter time of UTC+1.
	Today = handoff.Date{Year: 2026, Month: time.November, Day: 24}

	// Noon is noon of that day in Berlin.
	Noon = time.Date(2026, time.November, 24, 11, 0, 0, 0, time.UTC)
)

// Other is a shop beside Shop, with the same carriers. The ids of its parcels begin with OTH.
const Other = "other"

// Policy is the default policy with the carriers swift and rival, both open to the
// shops Shop and Other.
func Policy() *handoff.Policy {
	p := handoff.DefaultPolicy()
	p.Carriers = []string{Carrier, "rival"}
	p.Shops = map[string]handoff.ShopPolicy{
		Shop: {Carriers: p.Carriers}, Other: {Carriers: p.Carriers, Prefixes: []string{"OTH"}},
	}
	return p
}

// PassOn gives all parcel ids but those of Other to Other, and these to Shop: what is
// dispatched is then held by a shop that may not dispatch it any more.
func PassOn(p *handoff.Policy) {
	p.Shops[Shop], p.Shops[Other] = p.Shops[Other], p.Shops[Shop]
}

// Sample is a dispatch of the shop demo that needs a code.
func Sample(parcel string) handoff.Dispatch {
	home := Home
	return handoff.Dispatch{
		Shop: Shop, Parcel: parcel, Order: "302-1234567", Carrier: Carrier, Route: Route, Day: Today,
		Purpose: handoff.PurposeDelivery, Value: handoff.Money{Amount: "1299", Currency: "EUR"}, Categories: []string{"electronics"},
		Customer: handoff.Customer{ID: "cus_81", Name: "Sample Customer 81", Email: "customer@shop.example", Locale: "de"},
		To: handoff.Destination{
			Kind: handoff.Residence, Lines: []string{"Turmstr. 5"}, Postal: "10559", City: "Berlin", Country: "DE",
			Zone: Zone, Location: &home, Building: "bld_turm5", Unit: "4 links",
		},
	}
}

// World is a service with its store, its clock at noon, and short words for what
// tests do over and over.
type World struct {
	Core     Core
	Clock    *Clock
	Policy   *handoff.Policy
	Service  *service.Service
	Registry *registry.Registry

	// Store is the Core, where it implements every contract; nil for Memory, and with it what
	// follows.
	Store     Store
	Residents *residents.Directory
	PageLinks *identity.PageLinks
	Access    *trail.Reader
}

// New makes a world on a store, whose own clock becomes the world's where it can be set.
func New(t TB, store Core) *World {
	t.Helper()
	w := &World{Core: store, Clock: NewClock(Noon), Policy: Policy()}
	if own, ok := store.(interface{ LiveBy(func() time.Time) }); ok {
		own.LiveBy(w.Clock.Now)
	}
	w.Service = newService(t, w)
	w.Registry = registry.New(store, store, w.Clock)
	if all, ok := store.(Store); ok {
		w.Store = all
		w.Residents = residents.NewDirectory(all, w.Registry, all, w.Clock, Namer{})
		w.PageLinks = identity.NewPageLinks(all, w.Clock, Namer{}, rand.Reader)
		w.Access = trail.NewReader(all, w.Clock, Namer{})
	}
	return w
}

// Instances makes further services on the world's store and clock, as several processes would.
func (w *World) Instances(t TB, n int) []*service.Service {
	t.Helper()
	all := make([]*service.Service, n)
	for i := range all {
		all[i] = newService(t, w)
	}
	return all
}

func newService(t TB, w *World) *service.Service {
	t.Helper()
	s, err := service.New(service.Config{Store: w.Core, Policy: w.Policy, Clock: w.Clock, Namer: Namer{}, Random: rand.Reader, Keypads: door.PINs{}})
	if err != nil {
		t.Fatalf("service.New: %v", err)
	}
	return s
}

// Cleared registers couriers of the carrier swift whose clearance lasts for years.
func (w *World) Cleared(t TB, ids ...string) {
	t.Helper()
	until := handoff.InstantOf(Noon.AddDate(5, 0, 0))
	for _, id := range ids {
		if err := w.Core.PutCourier(context.Background(), Courier(id), service.CourierUpdate{Name: &id, ClearedUntil: &until}); err != nil {
			t.Fatalf("PutCourier: %v", err)
		}
	}
}

// Drives assigns a route of the carrier swift.
func (w *World) Drives(t TB, id, route string, day handoff.Date) {
	t.Helper()
	r := service.RouteRef{Carrier: Carrier, Route: route, Day: day}
	if err := w.Core.AssignRoute(context.Background(), r, id, handoff.InstantOf(w.Clock.Now())); err != nil {
		t.Fatalf("AssignRoute: %v", err)
	}
}

// Dispatch makes a grant.
func (w *World) Dispatch(t TB, d handoff.Dispatch) handoff.Grant {
	t.Helper()
	g, created, err := w.Service.Dispatch(context.Background(), d)
	if err != nil || !created {
		t.Fatalf("Dispatch(%s) = created %v, %v", d.Parcel, created, err)
	}
	return g
}

// Parcel is the newest grant of a parcel of the carrier swift as it is stored; zero if
// there is none.
func (w *World) Parcel(t TB, parcel string) handoff.Grant {
	t.Helper()
	snap, err := w.Core.Load(context.Background(), service.Query{Parcel: w.Service.ParcelHash(Carrier, parcel)})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if a := snap.Alias; a != nil { // it is one of several
		if snap, err = w.Core.Load(context.Background(), service.Query{Parcel: a.Hash, Generation: a.Generation}); err != nil {
			t.Fatalf("Load: %v", err)
		}
	}
	if snap.Record == nil || !snap.Record.Grant.Names(parcel) {
		return handoff.Grant{}
	}
	return snap.Record.Grant
}

// Account is the budget of a courier of the carrier swift as it is stored, once the wrong
// codes that stores count behind their answers are counted.
func (w *World) Account(t TB, id string) handoff.Account {
	t.Helper()
	ref := Courier(id)
	for patience := 10_000; ; patience-- {
		snap, err := w.Core.Load(context.Background(), service.Query{Parcel: w.Service.ParcelHash(Carrier, "none"), Courier: &ref})
		if err != nil {
			t.Fatalf("Load: %v", err)
		}
		if len(snap.Account.Doubtful) == 0 || patience == 0 {
			return snap.Account
		}
		time.Sleep(time.Millisecond)
	}
}

// Events is the whole log, a grant's events in their order.
func (w *World) Events(t TB) []handoff.Event {
	t.Helper()
	var events []handoff.Event
	for n := range handoff.Partitions {
		for after := ""; ; {
			page, err := w.Core.Read(context.Background(), n, after, 100)
			if err != nil {
				t.Fatalf("Read: %v", err)
			}
			if len(page) == 0 {
				break
			}
			for _, l := range page {
				events = append(events, l.Event)
				if stray := StrayFields(l.Event); stray != nil {
					t.Errorf("an event %s sets %v, which it does not have", l.Event.Type, stray)
				}
			}
			after = page[len(page)-1].ID.ID
		}
	}
	return events
}

// Count counts the events of a type.
func Count(events []handoff.Event, t handoff.EventType) int {
	n := 0
	for _, e := range events {
		if e.Type == t {
			n++
		}
	}
	return n
}

// Courier names a courier of the carrier swift.
func Courier(id string) handoff.CourierRef { return handoff.CourierRef{Carrier: Carrier, ID: id} }

// AtDoor is a courier of the carrier swift at the sample address.
func AtDoor(courier, parcel string, code otp.Code) service.Presentation {
	return service.Presentation{
		Courier: Courier(courier), Parcel: parcel, Code: code,
		Position: &handoff.Position{Point: Home, Accuracy: 10, Age: 1},
	}
}

// WrongCode is a guess: a code that the grant never gave out, nor a slip of one.
// Different n give different codes.
func WrongCode(g *handoff.Grant, n int) otp.Code {
	for i := n; ; i += 1000 {
		code, err := otp.Parse(fmt.Sprintf("%06d", i%1_000_000))
		if err == nil && !slices.ContainsFunc(g.Code.Issued, func(c uint64) bool { return CodeAt(g, c).Equal(code) || CodeAt(g, c).Slip(code) }) {
			return code
		}
	}
}

// SlipOf is the grant's current code with its last digit changed, by n from 1 to 9.
func SlipOf(g *handoff.Grant, n int) otp.Code {
	digits := []byte(g.CurrentCode().Reveal())
	digits[otp.Digits-1] = '0' + (digits[otp.Digits-1]-'0'+byte(n))%10
	slip, err := otp.Parse(string(digits))
	if err != nil {
		return otp.Code{}
	}
	return slip
}

// CodeAt is the grant's code of one counter; the zero Code where the grant has none.
func CodeAt(g *handoff.Grant, counter uint64) otp.Code {
	code, err := g.Code.Secret.At(counter)
	if err != nil {
		return otp.Code{}
	}
	return code
}
