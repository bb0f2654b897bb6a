package api_test

import (
	"context"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
)

// happened are the events of a page: type/parcel.
func happened(a *answer) []string {
	list := []string{}
	for _, v := range a.body["events"].([]any) {
		e := v.(map[string]any)
		parcel, _ := e["data"].(map[string]any)["parcel_id"].(string)
		list = append(list, fmt.Sprint(e["type"], "/", parcel))
	}
	return list
}

func (h *house) events(t testing.TB, query string) *answer {
	t.Helper()
	return h.expect(t, ops, "GET", "/v1/events?"+query, "", 200, "")
}

// A day as the log tells it: who, what and when, and why it was refused; with every
// filter; and neither a code nor a person.
func TestEvents(t *testing.T) {
	h := newHouse(t, nil)
	if empty := h.events(t, ""); len(happened(empty)) != 0 || empty.body["next"] != nil || empty.body["more"] != false {
		t.Errorf("before anything happened: %s", empty.text)
	}
	h.Cleared(t, "cou_7") // with no event of its own
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	begin := h.Clock.Now()
	first := h.dispatch(t, "P1", nil)
	h.Clock.Advance(time.Second)
	h.dispatch(t, "P2", map[string]any{"customer.id": "cus_82"})
	h.Clock.Advance(time.Second)
	wrong, code := h.wrong(t, "P1", 1), h.codeByShop(t, first)
	claimed := begin.Add(-time.Minute).Format(time.RFC3339)
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", `{"code":"`+wrong+`",`+here+`,"claimed_at":"`+claimed+`"}`, 403, "code-mismatch")
	refused := h.Clock.Now()
	h.Clock.Advance(time.Second)
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(code), 200, "")
	h.Clock.Advance(time.Second)
	h.expect(t, warehouse, "POST", "/v1/dispatches/"+h.Parcel(t, "P2").ID.String()+"/recall", `{"reason":"Sample Reason"}`, 200, "")

	all := h.events(t, "")
	want := []string{"dispatched/P1", "dispatched/P2", "code_refused/P1", "released/P1", "recalled/P2"}
	if got := happened(all); !slices.Equal(got, want) || all.body["more"] != false {
		t.Errorf("the log tells %v, want %v", got, want)
	}
	for _, secret := range []string{code, wrong, "Sample", "cus_8", "customer@", "Turmstr", "4 links", "52.52", "302-1234567", "operator", "wms"} {
		if strings.Contains(all.text, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	e := all.body["events"].([]any)[2].(map[string]any)
	data := e["data"].(map[string]any)
	if e["specversion"] != "1.0" || e["subject"] != first || e["time"] != refused.Format(time.RFC3339) || e["source"] != "urn:latchkey:log:0"+first[:1] ||
		data["courier_id"] != "cou_7" || data["claimed_at"] != claimed || data["reason"] != "code-mismatch" || data["shop_id"] != "demo" || data["carrier_id"] != "swift" || data["route_id"] != "BER-042" {
		t.Errorf("a refused code: %v", e)
	}
	if recalled := all.body["events"].([]any)[4].(map[string]any)["data"].(map[string]any); recalled["by"] != "shop" || recalled["who"] == nil {
		t.Errorf("a recall: %v", recalled)
	}

	at := func(d time.Duration) string { return url.QueryEscape(begin.Add(d).Format(time.RFC3339)) }
	for query, want := range map[string][]string{
		"type=dispatched":            {"dispatched/P1", "dispatched/P2"},
		"type=code_refused,released": {"code_refused/P1", "released/P1"},
		"type=unreadable":            {},
		"grant=" + first:             {"dispatched/P1", "code_refused/P1", "released/P1"},
		"grant=" + first[:24] + "-2": {},
		"parcel=P2":                  {"dispatched/P2", "recalled/P2"},
		"parcel=P2&carrier=swift":    {"dispatched/P2", "recalled/P2"},
		"parcel=P2&carrier=rival":    {},
		"carrier=rival":              {},
		"carrier=swift&shop=demo":    want,
		"shop=other":                 {},
		"courier=cou_7":              {"code_refused/P1", "released/P1"},
		"building=bld_1":             {},
		"from=" + at(2*time.Second):  {"code_refused/P1", "released/P1", "recalled/P2"},
		"to=" + at(2*time.Second):    {"dispatched/P1", "dispatched/P2"},
		"from=" + at(time.Second) + "&to=" + at(1500*time.Millisecond): {},
		"from=" + at(0) + "&to=" + at(time.Second):                     {"dispatched/P1"},
		"type=released&parcel=P2":                                      {},
		"type=dispatched&from=" + at(time.Second) + "&limit=1":         {"dispatched/P2"},
	} {
		if got := happened(h.events(t, query)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{
		"type=opened", "type=", "grant=x", "grant=" + first + "x", "shop=a%20b", "from=yesterday", "to=2026-11-24", "cursor=x", "cursor=AQ", "limit=0", "limit=501", "limit=-1",
	} {
		a := h.do(t, ops, "GET", "/v1/events?"+query, "")
		name, value, _ := strings.Cut(query, "=")
		if value == "" { // left out
			if a.status != 200 {
				t.Errorf("%s: %d", query, a.status)
			}
			continue
		}
		if a.status != 422 || !strings.Contains(a.text, `"query.`+name+`"`) || strings.Contains(a.text, "yesterday") {
			t.Errorf("%s: %d %s", query, a.status, a.text)
		}
	}
}

// Whoever follows the log page by page has each event once, and in the order of each
// grant, whatever is logged between the pages.
func TestEventsInPages(t *testing.T) {
	h := newHouse(t, nil)
	h.Cleared(t, "cou_7") // with no event of its own
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	for i := range 20 {
		h.dispatch(t, fmt.Sprintf("P%d", i), nil)
		h.Clock.Advance(time.Second)
	}
	whole := happened(h.events(t, ""))
	if len(whole) != 20 || !slices.Equal(whole, slices.Compact(slices.Clone(whole))) {
		t.Fatal(whole)
	}
	for _, limit := range []int{1, 3, 7, 19, 20, 21} {
		var got []string
		next, more := "", true
		for more {
			page := h.events(t, fmt.Sprintf("limit=%d&cursor=%s", limit, next))
			if again := h.events(t, fmt.Sprintf("limit=%d&cursor=%s", limit, next)); again.text != page.text {
				t.Errorf("asked again: %s", again.text)
			}
			if n := len(happened(page)); n == 0 || n > limit {
				t.Fatalf("a page of %d, limit %d", n, limit)
			}
			got = append(got, happened(page)...)
			next, more = page.body["next"].(string), page.body["more"].(bool)
		}
		if !slices.Equal(got, whole) {
			t.Errorf("in pages of %d:\n%v\nwant\n%v", limit, got, whole)
		}
		if none := h.events(t, "cursor="+next); len(happened(none)) != 0 || none.body["next"] != next {
			t.Errorf("at the end: %s", none.text)
		}
	}

	// What is logged between two pages is on the next.
	page := h.events(t, "")
	h.dispatch(t, "LATE", nil)
	tail := h.events(t, "cursor="+page.body["next"].(string))
	if got := happened(tail); !slices.Equal(got, []string{"dispatched/LATE"}) {
		t.Errorf("logged since: %v", got)
	}
}

// A page reads so many events and no more, however rare what it looks for is.
func TestEventsAreBounded(t *testing.T) {
	memory := embedded.New(t)
	store := &readCounter{Store: memory}
	h := newHouse(t, store)
	at := handoff.InstantOf(h.Clock.Now())
	const noise = 30_000
	for range noise {
		e := handoff.Event{Type: handoff.EventDoorForced, At: at, Building: "bld_noise", Door: "d"}
		if err := memory.Append(t.Context(), at, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := memory.Append(t.Context(), at+1, handoff.Event{Type: handoff.EventDoorTampered, At: at + 1, Building: "bld_noise", Door: "d"}); err != nil {
		t.Fatal(err)
	}
	pages, found, next := 0, 0, ""
	for more := true; more; pages++ {
		store.read = 0
		page := h.events(t, "type=door_tampered&cursor="+next)
		if store.read > 9000 {
			t.Fatalf("a page read %d events", store.read)
		}
		found += len(happened(page))
		next, more = page.body["next"].(string), page.body["more"].(bool)
	}
	if found != 1 || pages < noise/9000 || pages > noise/4000 {
		t.Errorf("found %d in %d pages", found, pages)
	}
}

// What is older than what is asked for is not read; unless the clocks of the store and of
// the service disagree, when nothing may be left out.
func TestEventsBeginWhereAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		apart time.Duration // the service's clock is ahead of the store's
		most  int           // events to be read
	}{"one clock": {0, 100}, "a minute apart": {time.Minute, 100}, "the clock was set": {48 * time.Hour, 1 << 20}} {
		memory, setClock := embedded.WithClock(t)
		store := &readCounter{Store: memory}
		h := newHouse(t, store)
		log := func(what handoff.EventType, at time.Time) {
			e := handoff.Event{Type: what, At: handoff.InstantOf(at), Building: "bld_1", Door: "d"}
			setClock(at.Add(-c.apart))
			if err := memory.Append(t.Context(), handoff.InstantOf(at.Add(-c.apart)), e); err != nil {
				t.Fatal(err)
			}
		}
		begin := h.Clock.Now()
		for i := range 2000 {
			log(handoff.EventDoorForced, begin.Add(time.Duration(i)*time.Minute))
		}
		for i := range 5 {
			log(handoff.EventDoorTampered, begin.Add(time.Duration(2000+i)*time.Minute))
		}
		from := url.QueryEscape(begin.Add(2001 * time.Minute).Format(time.RFC3339))
		page := h.events(t, "from="+from)
		if n := len(happened(page)); n != 4 || store.read > c.most {
			t.Errorf("%s: found %d, and read %d events", name, n, store.read)
		}
	}
}

// Each member of an event reaches ops, or is left out on purpose.
func TestEventsTellEverything(t *testing.T) {
	leftOut := map[string]string{
		"Challenge": "the door's own, worth nothing without its permit",
		"Digest":    "keyed, of what was forgotten",
		"Grant":     "what belongs to a grant is in TestEvents",
	}
	h := newHouse(t, nil)
	base := handoff.Event{Type: handoff.EventDoorForced, At: handoff.InstantOf(h.Clock.Now()), Building: "bld_1"}
	show := func(e handoff.Event) string {
		t.Helper()
		cursor, _ := h.events(t, "limit=500").body["next"].(string)
		if err := h.Store.Append(t.Context(), e.At, e); err != nil {
			t.Fatal(err)
		}
		a := h.events(t, "cursor="+cursor)
		if len(happened(a)) != 1 {
			t.Fatal(a.text)
		}
		shown := a.body["events"].([]any)[0].(map[string]any)
		delete(shown, "id")
		delete(shown, "source")
		return fmt.Sprint(shown)
	}
	plain := show(base)
	for i := range reflect.TypeFor[handoff.Event]().NumField() {
		name := reflect.TypeFor[handoff.Event]().Field(i).Name
		e := base
		fillIn(t, reflect.ValueOf(&e).Elem().Field(i))
		if name == "Grant" {
			continue
		}
		if _, hidden := leftOut[name]; hidden != (show(e) == plain) {
			t.Errorf("%s: shown %t", name, !hidden)
		}
	}
}

// fillIn sets a value to something that it is not.
func fillIn(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Uint32:
		v.SetUint(v.Uint() + 7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillIn(t, v.Index(0))
	case reflect.Array:
		fillIn(t, v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(t, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillIn(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("a %s", v.Type())
	}
}

// readCounter counts the events that are read.
type readCounter struct {
	handofftest.Store
	read int
}

func (c *readCounter) Read(ctx context.Context, partition int, after string, limit int) ([]eventlog.Logged, error) {
	events, err := c.Store.Read(ctx, partition, after, limit)
	c.read += len(events)
	return events, err
}
