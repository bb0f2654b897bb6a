package handoff

import "math"

// Point is a position on the WGS 84 ellipsoid in millionths of a degree, about a
// tenth of a meter: integers, so that equal dispatches compare equal.
type Point struct {
	_   struct{} `cbor:",toarray"`
	Lat int32
	Lon int32
}

// PointOf rounds degrees to a Point. Latitude is in [-90, 90], longitude in [-180, 180].
func PointOf(lat, lon float64) Point {
	return Point{Lat: int32(math.Round(lat * 1e6)), Lon: int32(math.Round(lon * 1e6))}
}

// Degrees returns the point as decimal degrees.
func (p Point) Degrees() (lat, lon float64) { return float64(p.Lat) / 1e6, float64(p.Lon) / 1e6 }

// Distance is the great-circle distance in meters by the haversine formula, on a
// sphere of the Earth's mean radius (R. W. Sinnott, "Virtues of the Haversine", 1984).
func (p Point) Distance(q Point) float64 {
	const meanRadius = 6_371_008.8
	lat1, lon1 := p.Degrees()
	lat2, lon2 := q.Degrees()
	rad := func(deg float64) float64 { return deg * math.Pi / 180 }
	sinLat, sinLon := math.Sin(rad(lat2-lat1)/2), math.Sin(rad(lon2-lon1)/2)
	h := sinLat*sinLat + math.Cos(rad(lat1))*math.Cos(rad(lat2))*sinLon*sinLon
	return 2 * meanRadius * math.Asin(math.Sqrt(min(1, h)))
}

// Position is where a phone says it is. It is a claim, no more.
type Position struct {
	Point    Point
	Accuracy float64 // meters, the radius of 68 % confidence as phones report it
	Age      float64 // seconds since the fix
}

const (
	maxAge      = 60.0  // seconds
	maxAccuracy = 100.0 // meters
	maxSlack    = 50.0  // meters of inaccuracy that may widen the fence
)

// within reports whether the claimed position is fresh and precise enough and lies
// inside a fence of radius meters around center. A phone's own inaccuracy widens the
// fence by at most 50 m. NaN compares false, hence fails.
func (p *Position) within(center Point, radius float64) bool {
	return p.Age >= 0 && p.Age <= maxAge &&
		p.Accuracy >= 0 && p.Accuracy <= maxAccuracy &&
		p.Point.Distance(center) <= radius+min(p.Accuracy, maxSlack)
}

// roundedDistance is all that is kept of a position: meters to the target, to the next ten.
func (p *Position) roundedDistance(center Point) int {
	return int(math.Round(p.Point.Distance(center)/10)) * 10
}
