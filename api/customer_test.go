package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A customer with many parcels reads them in pages, each once and the last day first,
// and needs to know nothing of pages to see all.
func TestACustomersHandoffsInPages(t *testing.T) {
	h := newHouse(t, nil)
	for n := range 7 {
		h.dispatch(t, fmt.Sprint("P", n), map[string]any{"delivery_date": fmt.Sprintf("2026-11-%d", 24+n/3)})
	}
	h.dispatch(t, "Q1", map[string]any{"customer.id": "cus_82"})
	const path = "/v1/customers/cus_81/handoffs"
	read := func(query string) (parcels []string, next string) {
		t.Helper()
		a := h.expect(t, customer, "GET", path+query, "", 200, "")
		for _, one := range a.body["handoffs"].([]any) {
			parcels = append(parcels, one.(map[string]any)["parcel_id"].(string))
		}
		next, _ = a.body["next"].(string)
		return parcels, next
	}
	all, next := read("")
	if len(all) != 7 || next != "" || all[0] != "P6" {
		t.Fatalf("without pages: %v, next %q", all, next)
	}
	for limit := 1; limit <= 8; limit++ {
		var paged []string
		pages := 0
		for cursor := ""; ; {
			query := fmt.Sprintf("?limit=%d", limit)
			if cursor != "" {
				query += "&cursor=" + cursor
			}
			page, next := read(query)
			if len(page) > limit {
				t.Fatalf("%d of %d", len(page), limit)
			}
			pages++
			paged = append(paged, page...)
			if cursor = next; cursor == "" || pages > 9 {
				break
			}
		}
		if !slices.Equal(paged, all) || pages != 7/limit+1 {
			t.Errorf("pages of %d: %v in %d pages, want %v", limit, paged, pages, all)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=2001", "?limit=x", "?cursor=secretive", "?cursor=1-2"} {
		a := h.expect(t, customer, "GET", path+query, "", 422, "invalid-request")
		if strings.Contains(a.text, "secretive") {
			t.Errorf("%s is repeated: %s", query, a.text)
		}
	}
}
