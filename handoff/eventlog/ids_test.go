package eventlog

import (
	"slices"
	"testing"
)

// Ids are ordered as numbers and not as text, and what follows an id follows it at once.
func TestOrderOfIDs(t *testing.T) {
	rising := []string{"", "0-1", "0-2", "0-10", "9-0", "9-5", "10-0", "10-1", "1795518000000-0", "1795518000000-18446744073709551615"}
	for i, a := range rising {
		for j, b := range rising {
			if got, want := CompareIDs(a, b) < 0, i < j; got != want {
				t.Errorf("%q before %q: %v", a, b, got)
			}
		}
		if CompareIDs(a, a) != 0 {
			t.Errorf("%q is not itself", a)
		}
	}
	if !slices.IsSortedFunc(rising, CompareIDs) {
		t.Error("the list is not in order")
	}
	for id, want := range map[string]string{
		"": "0-1", "5-0": "5-1", "5-9": "5-10",
		"5-18446744073709551615": "6-0",
	} {
		if got := After(id); got != want || CompareIDs(id, got) >= 0 {
			t.Errorf("after %q: %q, want %q", id, got, want)
		}
	}
}
