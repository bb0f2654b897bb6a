// Package clock is the time as it is injected everywhere.
package clock

import "time"

// Clock tells the time. It is injected, so that a day takes a test no time.
type Clock interface{ Now() time.Time }
