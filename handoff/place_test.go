package handoff

import (
	"math"
	"testing"
)

// The expected distances are by another formula, the spherical law of cosines, in 50
// digits. On an ellipsoid they differ by up to half a percent.
func TestDistance(t *testing.T) {
	berlin, paris := PointOf(52.52, 13.405), PointOf(48.8566, 2.3522)
	for _, c := range []struct {
		name string
		a, b Point
		want float64
	}{
		{"nowhere", berlin, berlin, 0},
		{"Berlin to Paris", berlin, paris, 877_464.5379},
		{"a degree of a meridian", PointOf(0, 0), PointOf(1, 0), 111_195.0802},
		{"a degree of the equator", PointOf(0, 0), PointOf(0, 1), 111_195.0802},
		{"a degree of a parallel at 60 degrees north", PointOf(60, 0), PointOf(60, 1), 55_597.0109},
		{"across the date line", PointOf(0, 179.5), PointOf(0, -179.5), 111_195.0802},
		{"pole to pole", PointOf(90, 0), PointOf(-90, 0), 20_015_114.4420},
		{"to the antipodes", PointOf(12.345678, 98.7654), PointOf(-12.345678, -81.2346), 20_015_114.4420},
		{"Sydney to New York", PointOf(-33.8688, 151.2093), PointOf(40.7128, -74.006), 15_988_777.5916},
		{"a millionth of a degree", PointOf(0, 0), PointOf(0.000001, 0), 0.1112},
	} {
		there, back := c.a.Distance(c.b), c.b.Distance(c.a)
		if math.Abs(there-c.want) > 0.001 {
			t.Errorf("%s: %f m, want %f", c.name, there, c.want)
		}
		if there != back {
			t.Errorf("%s: %f m there, %f back", c.name, there, back)
		}
	}
}

func TestWithin(t *testing.T) {
	center := PointOf(52.5256, 13.3421)
	at := func(meters float64) Point {
		return Point{Lat: center.Lat + int32(math.Round(meters/0.11119508)), Lon: center.Lon}
	}
	for _, c := range []struct {
		name string
		p    Position
		want bool
	}{
		{"at the center", Position{center, 0, 0}, true},
		{"as old as may be", Position{center, 0, 60}, true},
		{"too old", Position{center, 0, 60.001}, false},
		{"from the future", Position{center, 0, -0.001}, false},
		{"as coarse as may be", Position{center, 100, 0}, true},
		{"too coarse", Position{center, 100.001, 0}, false},
		{"of negative accuracy", Position{center, -0.001, 0}, false},
		{"at the fence", Position{at(149.9), 0, 0}, true},
		{"past the fence", Position{at(150.2), 0, 0}, false},
		{"past the fence by less than its accuracy", Position{at(169.9), 20, 0}, true},
		{"past the fence by more than its accuracy", Position{at(170.2), 20, 0}, false},
		{"accuracy widens by fifty meters", Position{at(199.9), 100, 0}, true},
		{"and by no more", Position{at(200.2), 100, 0}, false},
		{"NaN age", Position{center, 0, math.NaN()}, false},
		{"NaN accuracy", Position{center, math.NaN(), 0}, false},
		{"infinite age", Position{center, 0, math.Inf(1)}, false},
		{"infinite accuracy", Position{center, math.Inf(1), 0}, false},
		{"negative infinity", Position{center, math.Inf(-1), math.Inf(-1)}, false},
	} {
		if got := c.p.within(center, 150); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if (&Position{Point: center}).within(center, math.NaN()) {
		t.Error("a fence of NaN meters lets pass")
	}
	for meters, want := range map[float64]int{0: 0, 4.9: 0, 5.2: 10, 14.7: 10, 149: 150} {
		if got := (&Position{Point: at(meters)}).roundedDistance(center); got != want {
			t.Errorf("%v m is kept as %d", meters, got)
		}
	}
}
