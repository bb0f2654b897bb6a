package redisstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
)

func TestKeysStayInTheirSlot(t *testing.T) {
	for p := range handoff.Partitions {
		tag := fmt.Sprintf("{%02x}", p)
		h := handoff.ParcelHash(fmt.Sprintf("%x%023x", p, 1))
		for _, key := range []string{grantKey(h), archiveKey(h, 3), logKey(p), dueKey(p), workKey(p, "mail"), triesKey(p, "mail"), deadKey(p, "mail"), mailsKey(p), mailedKey(service.MailRef{Grant: handoff.GrantID{Hash: h}})} {
			if !strings.Contains(key, tag) || strings.Count(key, "{") != 1 {
				t.Errorf("key %s is not of slot %s", key, tag)
			}
		}
	}
}

// Sending an old file again never makes a parcel's place in an index end sooner.
func TestAnOldDispatchDoesNotHideAParcel(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	d := handofftest.Sample("JJD1")
	g := w.Dispatch(t, d)
	later := d.Day
	for range 40 {
		later = later.Next()
	}
	if _, err := w.Service.Reschedule(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: d.Shop}, g.ID, later, ""); err != nil {
		t.Fatal(err)
	}
	if _, created, err := w.Service.Dispatch(t.Context(), d); created || err != nil { // the morning's file again
		t.Fatal(created, err)
	}
	w.Clock.Advance(retention + 2*24*time.Hour)
	other := handofftest.Sample("JJD2")
	other.Day = handoff.DateOf(w.Clock.Now())
	w.Dispatch(t, other)
	grants, _, err := w.Service.OfCustomer(t.Context(), handoff.CustomerRef{Shop: d.Shop, ID: d.Customer.ID}, service.Listed{}, 10)
	if err != nil || len(grants) != 2 {
		t.Errorf("the customer has %d parcels, %v", len(grants), err)
	}
}

// Dates beyond reason are refused, and no arithmetic on the way overflows.
func TestAYearOfFourDigitsTooMany(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	for _, year := range []int{2028, 2400, 2926, 9999} {
		d := handofftest.Sample("JJD1")
		d.Day.Year = year
		if _, _, err := w.Service.Dispatch(t.Context(), d); refusedFor(err, handoff.DayTooFar) != nil {
			t.Errorf("%d: %v", year, err)
		}
		r := service.RouteRef{Carrier: "swift", Route: "BER-042", Day: d.Day}
		if err := s.AssignRoute(t.Context(), r, "cou_7", handoff.InstantOf(w.Clock.Now())); err != nil {
			t.Errorf("route of %d: %v", year, err)
		}
		if !m.Exists(routeKey(r)) {
			t.Errorf("the route of %d is gone at once", year)
		}
	}
}

// The kind of a key is made of fixed words, whatever ids stand in it.
func TestKeyKind(t *testing.T) {
	c, r := handoff.CustomerRef{Shop: "s", ID: "i"}, service.RouteRef{Carrier: "c", Route: "r"}
	h := handoff.ParcelHash(strings.Repeat("0a", 12))
	for key, want := range map[string]string{
		grantKey(h): "grant", archiveKey(h, 2): "grant", logKey(3): "log", workKey(3, "mail"): "work", deadKey(3, "mail"): "dead",
		customerKey(c): "customer", sessionsKey(c): "sessions", routeKey(r): "route", routeGrantsKey(r): "route grants", mailsKey(3): "mails", mailedKey(service.MailRef{Grant: handoff.GrantID{Hash: h}}): "mailed",
		courierKey(handofftest.Courier("x")): "courier", budgetKey(handofftest.Courier("x")): "budget",
		buildingKey("x"): "building", buildingKey("doors"): "building", buildingDoorsKey("x"): "building doors", residentsKey("x"): "building residents",
		doorKey("head"): "door", chainHeadKey("b"): "chain head", chainEntriesKey("b:c"): "chain entries",
		apiKeysKey: "apikeys", buildingsKey: "buildings", leaseKey("l"): "lease",
	} {
		if got := keyKind(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}
