package words_test

import (
	"testing"

	"latchkey/handoff/words"
)

func TestCity(t *testing.T) {
	for zone, want := range map[string][2]string{
		"Europe/Berlin": {"Berlin", "Berlin"}, "Europe/Vienna": {"Vienna", "Wien"}, "America/New_York": {"New York", "New York"},
		"America/Argentina/Buenos_Aires": {"Buenos Aires", "Buenos Aires"}, "UTC": {}, "Etc/GMT+1": {}, "": {},
	} {
		for i, l := range []words.Language{"en", "de"} {
			if got := words.City(l, zone); got != want[i] {
				t.Errorf("%s in %s: %q, want %q", zone, l, got, want[i])
			}
		}
	}
	if got := words.City("xx", "Europe/Vienna"); got != "Vienna" {
		t.Errorf("in a language that there is not: %q", got)
	}
}
