package service

import (
	"fmt"
	"strings"
	"testing"
)

func TestUnknownParcelsAreToldInNumbers(t *testing.T) {
	told, sum := 0, 0
	var counts []string
	for n := 1; n <= 1000; n++ {
		if count, ok := unknownTold(n); ok {
			told++
			sum += max(count, 1)
			if count > 0 {
				counts = append(counts, fmt.Sprint(n, ":", count))
			}
			if sum != n {
				t.Errorf("after %d, the log knows of %d", n, sum)
			}
		}
	}
	if got := strings.Join(counts, " "); told != 25 || got != "40:20 80:40 160:80 320:160 640:320" {
		t.Errorf("%d events, %s", told, got)
	}
}
