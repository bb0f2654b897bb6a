package api

import (
	"fmt"
	"testing"
)

// The places for bulk requests end for all shops together too, and what was left is free.
func TestBulkPlaces(t *testing.T) {
	b := bulks{of: map[string]int{}}
	for n := range bulksAtOnce {
		if shop := fmt.Sprint("shop", n/bulksOfShop); !b.enter(shop) {
			t.Fatalf("no place for request %d", n)
		}
	}
	if b.enter("shop9") {
		t.Error("more than there are places")
	}
	b.leave("shop0")
	if !b.enter("shop9") {
		t.Error("a place that was left is not free")
	}
	for n := range bulksAtOnce - 1 {
		b.leave(fmt.Sprint("shop", (n+1)/bulksOfShop))
	}
	if b.leave("shop9"); b.total != 0 || len(b.of) != 0 {
		t.Errorf("all left, and %d stay: %v", b.total, b.of)
	}
}
